//! Passwords stay where they belong: whatever is typed where, they stand in no log, in nothing that
//! the server prints, in no file but the password file, in no answer and on nobody's screen.

mod support;

use mms::core::event::{Conn, Event};
use mms::core::password::{Password, Verifier};
use mms::proto::command::parse;
use mms::proto::name::UserName;
use mms::scram::{Channel, ClientExchange, Keys};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use support::server::{Client, Folder, SALT, Server, Start, eventually, mms, run, user_line};

/// Stands in each password of this file, and nowhere else. A name may hold it, too.
const MARK: &str = "pl4nted";

/// All files below the folder, but for the password file.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "users" {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

fn holds_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|part| part.eq_ignore_ascii_case(MARK.as_bytes()))
}

/// Says it, ends the connection, and returns all that was answered.
fn told(mut client: Client, lines: &[&str]) -> String {
    for line in lines {
        client.say(line);
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = client.rest();
    answers.retain(|line| !line.is_empty());
    answers.join("\n")
}

#[test]
fn passwords_stand_nowhere_but_in_their_file() {
    let folder = Folder::new();
    let users = ["fred", "tim", "ann"].map(|name| user_line(name, &format!("{MARK}-{name}")));
    folder.write("users", &users.concat());
    let options = ["--max-failures", "0"].map(String::from).into();
    let mut server = Server::start_as(folder, Start { options, ..Start::default() });
    let mut witness = server.greeted();
    witness.sign_in("tim", &format!("{MARK}-tim"));
    witness.ask("notify on");
    let right = format!("{MARK}-fred");
    let wrong = format!("{MARK}-wrong");
    // Where a password is wanted, its answer does not repeat it, right or wrong.
    let mut answers = vec![];
    for lines in [
        &[&*format!("signin fred {wrong}")][..],
        &[&format!("signin fred {right}"), "signout"],
        &[&format!("/LOGIN fred {right}"), &format!("signin fred {right}"), "signout"],
        &["signin fred", &wrong, "signin fred", &right, "signout"],
        &[&format!("signin fred {right}{}", "x".repeat(300))],
        &[&format!("signin fred {right}{}", "x".repeat(600))],
        &[&format!("signin fred {right}\u{1b}")],
        &[&format!("signin fred {right}"), &format!("passwd {wrong} {wrong}"), "signout"],
        &[&format!("signin fred {right}"), &format!("passwd {right}"), "signout"],
        &[&format!("signin fred {right}"), &format!("passwd {right} {wrong} {wrong}"), "signout"],
        &[&format!("signin fred {right}"), "passwd", &wrong, &wrong, &wrong, "signout"],
        &[&format!("signin fred {right}"), "passwd", &right, &right, &wrong, "signout"],
        &["coded 1", &format!("@a signin fred tool plain {wrong}"), "@b signout"],
        &["coded 1", &format!("@a signin fred {wrong}"), &format!("signin {wrong}"), "signout"],
        &["coded 1", &format!("@a signin fred tool scram {wrong}"), "@b signout"],
        &[
            "coded 1",
            &format!("@a signin fred tool plain {right}"),
            &format!("@b passwd plain {wrong} {wrong}"),
            &format!("@c passwd plain {right}"),
            &format!("@d passwd scram {wrong} {wrong}"),
            &format!("@e auth {wrong}"),
            "@f signout",
        ],
    ] {
        answers.push((lines.join("\n"), told(server.greeted(), lines)));
    }
    for (lines, answer) in &answers {
        assert!(!holds_mark(answer.as_bytes()), "{lines}\nwas answered with\n{answer}");
    }
    // Where it is none's place: at the command prompt, as a name, as a topic, and a line too early.
    for lines in [
        &[&*wrong][..],
        &[&format!("signin {wrong}"), &wrong],
        &[&format!("signin {wrong} {wrong}")],
        &[&format!("help {wrong}"), &format!("pass {wrong}")],
        &[
            &format!("signin fred {right}"),
            &wrong,
            &format!("send {wrong} x"),
            &format!("block {wrong}"),
            "signout",
        ],
        &["coded 1", &wrong, &format!("@{wrong} x"), &format!("signin {wrong} tool plain {wrong}")],
        &[&format!("GET /{wrong} HTTP/1.1")],
        &[&format!("EHLO {wrong}")],
    ] {
        told(server.greeted(), lines);
    }
    // A change that succeeds, by hand and by the program that asks for it.
    let changed = format!("{MARK}-changed");
    let lines = [&*format!("signin fred {right}"), &format!("passwd {right} {changed}")];
    assert!(!holds_mark(told(server.greeted(), &lines).as_bytes()));
    server.folder.write("password", &format!("{changed}\n"));
    let mut login = mms(&server.folder);
    login.args(["login", "--user", "fred", "--password-file", "password"]);
    login.args(["--server", &server.address.to_string()]);
    login.env("HOME", server.folder.path("home"));
    let output = run(&mut login);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!holds_mark(&output.stdout) && !holds_mark(&output.stderr));
    fs::remove_file(server.folder.path("password")).unwrap();
    // SIGHUP with passwords where verifiers should be: of a line that is wrong nothing is repeated.
    server.folder.write("users", &format!("fred {right}\n{wrong}\n"));
    server.signal("HUP");
    server.logs("users not reloaded");
    assert!(witness.ask("whoelse").contains("Nobody") || !witness.line().is_empty());
    let seen = told(witness, &["signout"]);
    assert!(!holds_mark(seen.as_bytes()), "{seen}");
    assert_eq!(server.terminate().code(), Some(0));
    for (path, bytes) in files(&server.folder.path("")) {
        assert!(!holds_mark(&bytes), "{path}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_command_takes_a_password_as_an_argument() {
    let folder = Folder::new();
    for command in [
        &["server"][..],
        &["client"],
        &["send"],
        &["recv"],
        &["login"],
        &["user", "add"],
        &["user", "passwd"],
        &["user", "import"],
    ] {
        let output = run(mms(&folder).args(command).arg("--help"));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Usage:"), "{command:?}");
        for word in ["<PASSWORD>", "[PASSWORD]", "--password <", "--password="] {
            assert!(!help.to_uppercase().contains(&word.to_uppercase()), "{command:?}: {word}");
        }
    }
}

#[test]
fn what_is_printed_for_a_programmer_tells_no_secret() {
    let line = format!("signin fred {MARK}");
    let verifier = Verifier::derive(MARK.as_bytes(), SALT, 4096);
    let keys = Keys::derive(MARK.as_bytes(), SALT, 4096);
    let user = UserName::new("fred").unwrap();
    let told = [
        format!("{:?}", parse(line.as_bytes())),
        format!("{:?}", Event::Line { conn: Conn(1), line: line.as_bytes(), body: None }),
        format!("{:?}", Password::new(MARK.as_bytes())),
        format!("{:?}", Event::Reloaded { entries: vec![(user, verifier.clone())] }),
        format!(
            "{verifier:?} {keys:?} {:?}",
            ClientExchange::begin("fred", MARK, Channel::Plain).0
        ),
    ];
    let verifier = verifier.to_string();
    let (_, hashes) = verifier.rsplit_once('$').unwrap();
    let bytes = format!("{:?}", MARK.as_bytes());
    for text in told {
        for secret in [MARK, hashes, bytes.trim_matches(['[', ']'])] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn a_crash_leaves_no_core() {
    // Whether this system would write one at all is tried first, with somebody else.
    let dumps = |command: &mut Command| command.status().unwrap().core_dumped();
    let folder = Folder::new();
    let control = "ulimit -c unlimited; kill -ABRT $$";
    if !dumps(Command::new("sh").current_dir(folder.path("")).args(["-c", control])) {
        println!("SKIP a_crash_leaves_no_core: this system writes none, or not here");
        return;
    }
    folder.write("users", &user_line("fred", MARK));
    let mut child = Command::new("sh")
        .current_dir(folder.path(""))
        .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_mms")])
        .args(["server", "0", "users", "--spool-reserve", "0"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = folder.path("server.log");
    eventually("the start", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("listening")).then_some(())
    });
    let killed = Command::new("kill").args(["-s", "ABRT", &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
