//! `mms server` as an operator starts it, above all when something is wrong: each message names
//! what is wrong and what to do, and each exit code is the documented one.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::{Command, Stdio};
use support::server::{Folder, PASSWORD, Server, Start, mms, run, user_line, users_file};

/// User and group ids of nobody.
const NOBODY: u32 = 65_534;

/// A folder with a password file of fred's.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    folder
}

/// A start that must fail with this code, nothing on stdout, and one line on stderr that has all
/// of these words.
#[track_caller]
fn fails(command: &mut Command, code: i32, words: &[&str]) {
    let output = run(command);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(code), &b""[..]), "{err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is missing in: {err}");
    }
    // Usage errors are clap's, with a line that names --help.
    let lines = err.trim_end().lines().count();
    assert!(if code == 64 { err.contains("--help") } else { lines == 1 }, "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[track_caller]
fn server_fails(folder: &Folder, arguments: &[&str], code: i32, words: &[&str]) {
    fails(mms(folder).arg("server").args(arguments), code, words);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A server that is not root: nobody, if root runs the tests. None, with the reason printed,
/// where that cannot be had.
fn as_ordinary_user(folder: &Folder, test: &str) -> Option<Command> {
    if !is_root() {
        return Some(mms(folder));
    }
    chown(folder.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    // The program may lie where only root can reach it. Not copied by this process, whose other
    // threads start programs: a file that is open for writing anywhere cannot be started.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_mms")).arg(folder.path("mms")).status();
    assert!(copied.unwrap().success());
    folder.chmod("mms", 0o755);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let works = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(folder.path("mms"))
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !works.is_ok_and(|status| status.success()) {
        println!("SKIP {test}: running as root, and setpriv cannot change to another user");
        return None;
    }
    command.arg(folder.path("mms")).current_dir(folder.path("")).env_clear();
    Some(command)
}

#[test]
fn a_password_file_that_will_not_do() {
    let folder = folder();
    let none = ["none: no such file", "mms user add none <name>"];
    server_fails(&folder, &["0", "none"], 66, &none);
    server_fails(&folder, &["0", "."], 66, &[".: it is a directory; name the password file"]);
    server_fails(&folder, &["0", "/dev/null"], 66, &["/dev/null", "not a regular file; name"]);
    let sha1 = "fred:356a192b7913b04c54574d18c28d46e6395428ab\n";
    let good = user_line("fred", PASSWORD);
    let damaged = format!("# ours\n\n{good}tim:SCRAM-SHA-256$4096:xx\n");
    let twice = format!("{good}{good}");
    for (text, words) in [
        ("", &["users: it has no users", "mms user add users <name>"][..]),
        ("# nobody\n", &["users: it has no users"]),
        ("fred secret\n", &["users: line 1: ", "mms user import users users.new"]),
        ("fred:secret\n", &["users: line 1: ", "mms user import users users.new"]),
        (sha1, &["users: line 1: ", "SHA-1", "mms user add users.new fred"]),
        (&damaged, &["users: line 4: ", "correct or remove the line"]),
        (&twice, &["users: line 2: ", "is in line 1 already; remove one"]),
        ("\u{1b}[2J:x\n", &["users: line 1: ", "correct or remove the line"]),
    ] {
        folder.write("users", text);
        server_fails(&folder, &["0", "users"], 78, words);
    }
    fs::write(folder.path("users"), b"fred:\xff\n").unwrap();
    server_fails(&folder, &["0", "users"], 78, &["users: line 1: it is not UTF-8; save the file"]);
    folder.write("users", &good);
    folder.chmod("users", 0o646);
    server_fails(&folder, &["0", "users"], 77, &["everyone may write", "chmod o-w users"]);
    assert!(!folder.path("spool").exists(), "nothing is made before all is well");
    assert!(!folder.path("server.log").exists());
}

#[test]
fn a_password_file_that_may_not_be_read() {
    let folder = folder();
    let Some(mut server) = as_ordinary_user(&folder, "a_password_file_that_may_not_be_read") else {
        return;
    };
    // Nobody's own file or another's: without the right to read it is the same.
    folder.chmod("users", 0o000);
    let words = ["users: cannot read: Permission denied", "let the user who runs mms read it"];
    fails(server.args(["server", "0", "users"]), 66, &words);
}

#[test]
fn a_spool_that_cannot_be_had() {
    let folder = folder();
    folder.write("file", "");
    for spool in ["file", "file/spool", "/proc/none/spool"] {
        let arguments = ["0", "users", "--spool", spool];
        server_fails(&folder, &arguments, 73, &["cannot make spool directory", spool, "--spool"]);
    }
    let server = Server::start_in(folder, &[]);
    let words = ["spool directory spool is in use by another mms server", "use another --spool"];
    server_fails(&server.folder, &["0", "users"], 75, &words);
    server.signed_in("fred");
}

#[test]
fn a_spool_that_may_not_be_written() {
    let folder = folder();
    let test = "a_spool_that_may_not_be_written";
    let Some(mut server) = as_ordinary_user(&folder, test) else { return };
    chown(folder.path("users"), Some(NOBODY), None).ok();
    fs::create_dir(folder.path("spool")).unwrap();
    folder.chmod("spool", 0o500);
    chown(folder.path("spool"), Some(NOBODY), Some(NOBODY)).ok();
    let words = ["spool/lock: Permission denied", "another --spool"];
    fails(server.args(["server", "0", "users"]), 77, &words);
    // One of somebody else's, and no right to make one.
    if is_root() {
        chown(folder.path("spool"), Some(0), Some(0)).unwrap();
        folder.chmod("spool", 0o700);
        let mut server = as_ordinary_user(&folder, test).unwrap();
        fails(server.args(["server", "0", "users"]), 77, &["spool", "another --spool"]);
        fs::create_dir(folder.path("roots")).unwrap();
        let mut server = as_ordinary_user(&folder, test).unwrap();
        let arguments = ["server", "0", "users", "--spool", "roots/spool"];
        fails(server.args(arguments), 73, &["cannot make spool directory roots/spool", "--spool"]);
    }
}

#[test]
fn a_journal_that_may_not_be_read() {
    let folder = folder();
    let test = "a_journal_that_may_not_be_read";
    let Some(mut server) = as_ordinary_user(&folder, test) else { return };
    fs::create_dir(folder.path("spool")).unwrap();
    folder.chmod("spool", 0o700);
    folder.write("spool/lock", "");
    folder.write("spool/journal-0000000001.log", "");
    folder.chmod("spool/journal-0000000001.log", 0o000);
    for name in ["users", "spool", "spool/lock"] {
        chown(folder.path(name), Some(NOBODY), None).ok();
    }
    let words = ["journal-0000000001.log: Permission denied", "give it to the user who runs"];
    fails(server.args(["server", "0", "users"]), 77, &words);
}

#[test]
fn a_log_that_cannot_be_written() {
    let folder = folder();
    // Nobody reads the pipe: to open it would be to wait for ever.
    let pipe = Command::new("mkfifo").arg(folder.path("pipe")).status();
    assert!(pipe.unwrap().success());
    for log in [".", "none/server.log", "pipe"] {
        let words = ["cannot write the log", log, "use --log"];
        server_fails(&folder, &["0", "users", "--log", log], 73, &words);
    }
}

#[test]
fn a_port_that_cannot_be_had() {
    let folder = folder();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let in_use = [&format!("port {port} on 127.0.0.1 is in use"), "choose another, 0 for a free"];
    server_fails(&folder, &[&port, "users"], 69, &in_use);
    for port in ["65536", "-1", "abc", "", "1.5"] {
        server_fails(&folder, &[port, "users"], 64, &["PORT", "a number from 0 to 65535"]);
    }
    let elsewhere = ["0", "users", "--bind", "192.0.2.1"];
    server_fails(&folder, &elsewhere, 69, &["no address 192.0.2.1; use another --bind"]);
    assert!(!folder.path("spool").exists());
}

#[test]
fn a_port_of_the_privileged() {
    let folder = folder();
    let test = "a_port_of_the_privileged";
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|first| first.trim().parse::<u16>().is_ok_and(|first| first <= 1)) {
        println!("SKIP {test}: here everyone may use every port");
        return;
    }
    let Some(mut server) = as_ordinary_user(&folder, test) else { return };
    chown(folder.path("users"), Some(NOBODY), None).ok();
    let words = ["port 1 ", "below 1024; choose a higher one"];
    fails(server.args(["server", "1", "users"]), 77, &words);
}

#[test]
fn options_that_mean_nothing() {
    let folder = folder();
    for (arguments, words) in [
        (&["--bind", "localhost"][..], &["--bind", "such as 127.0.0.1"][..]),
        (&["--bind", "127.0.0.1:1060"], &["--bind", "such as 127.0.0.1"]),
        (&["--trusted", "127.0.0.0/33"], &["--trusted", "such as 127.0.0.0/8"]),
        (&["--trusted", "home"], &["--trusted", "or the word none"]),
        (&["--idle-timeout", "soon"], &["--idle-timeout", "a number of seconds"]),
        (&["--idle-timeout", "-1"], &["--idle-timeout", "a number of seconds"]),
        (&["--block-time", "99999999999"], &["--block-time", "0 to 31536000"]),
        (&["--duplicate", "share"], &["--duplicate", "refuse, replace"]),
        (&["--sync", "sometimes"], &["--sync", "always, never"]),
        (&["--max-failures", "x"], &["--max-failures"]),
        (&["--max-failures", "-1"], &["--max-failures"]),
        (&["--mailbox-letters", "x"], &["--mailbox-letters"]),
        (&["--sender-share", "0"], &["--sender-share", "1 to 100"]),
        (&["--sender-share", "101"], &["--sender-share", "1 to 100"]),
        (&["--frobnicate"], &["--frobnicate"]),
        (&["more"], &["more"]),
    ] {
        let start = [&["0", "users"], arguments].concat();
        server_fails(&folder, &start, 64, words);
    }
    server_fails(&folder, &[], 64, &["<PORT> <USERS>"]);
    server_fails(&folder, &["1060"], 64, &["<USERS>"]);
    for (name, option) in [("TIME_OUT", "--idle-timeout"), ("BLOCK_TIME", "--block-time")] {
        for value in ["abc", "", "-5"] {
            let mut server = mms(&folder);
            server.args(["server", "0", "users"]).env(name, value);
            fails(&mut server, 64, &[option, "a number of seconds", "the environment"]);
        }
    }
}

/// What the third failure in a row is answered, and what an idle user is told.
fn told(options: &[&str], environment: &[(&str, &str)]) -> (String, Option<String>) {
    let start = Start {
        options: options.iter().map(|&option| option.into()).collect(),
        environment: environment.iter().map(|&(k, v)| (k.into(), v.into())).collect(),
        ..Start::default()
    };
    let server = Server::start_as(folder(), start);
    let mut guesser = server.greeted();
    guesser.send(b"signin tim x\nsignin tim x\nsignin tim x\n");
    let blocked = guesser.rest().pop().unwrap();
    let given = |word: &&str| word.contains("idle") || word.contains("TIME_OUT");
    let mut names = options.iter().copied().chain(environment.iter().map(|&(name, _)| name));
    let idle = names.find(given).and_then(|_| server.signed_in("fred").next_line());
    (blocked, idle)
}

#[test]
fn an_argument_goes_before_the_environment_and_that_before_the_default() {
    let blocked = |s| format!(">> Too many failed attempts, blocked for {s} s");
    let idle = |s| Some(format!(">> signed off after {s} s of inactivity"));
    assert_eq!(told(&[], &[]), (blocked(60), None));
    let environment = [("TIME_OUT", "1"), ("BLOCK_TIME", "7")];
    assert_eq!(told(&[], &environment), (blocked(7), idle(1)));
    let arguments = ["--idle-timeout", "2", "--block-time", "8"];
    assert_eq!(told(&arguments, &environment), (blocked(8), idle(2)));
    // What is not used may be anything.
    let environment = [("TIME_OUT", "1000000000000"), ("BLOCK_TIME", "abc")];
    assert_eq!(told(&arguments, &environment), (blocked(8), idle(2)));
    let help = run(mms(&folder()).args(["server", "--help"]));
    assert!(String::from_utf8(help.stdout).unwrap().contains("[default: 1800]"));
}

#[test]
fn it_listens_where_it_is_told() {
    let server = Server::start_in(folder(), &["--bind", "127.0.0.3"]);
    assert_eq!(server.address.ip().to_string(), "127.0.0.3");
    if TcpListener::bind("[::1]:0").is_err() {
        println!("SKIP it_listens_where_it_is_told, in part: this machine has no IPv6");
        return;
    }
    let server = Server::start_in(folder(), &["--bind", "::1"]);
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    assert!(stream.peer_addr().unwrap().is_ipv6());
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("Commands:\n") else { return vec![] };
    let lines = list.lines().take_while(|line| !line.is_empty());
    // The further lines of a description stand further in.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let words = names.filter_map(|line| line.split_whitespace().next().map(Into::into));
    words.filter(|word: &String| word != "help").collect()
}

#[test]
fn every_help_is_there_and_teaches_by_example() {
    let folder = Folder::new();
    let mut asked = vec![];
    let mut to_ask = vec![vec![]];
    while let Some(path) = to_ask.pop() {
        let output = run(mms(&folder).args(&path).arg("--help"));
        let help = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{path:?}");
        let example = format!("\n  mms {}", path.join(" "));
        assert!(help.contains(example.trim_end()), "{help}");
        for name in subcommands(&help) {
            to_ask.push([path.clone(), vec![name]].concat());
        }
        asked.push(path.join(" "));
    }
    for path in ["", "server", "user", "user add", "user import"] {
        assert!(asked.iter().any(|asked| asked == path), "{path:?} not in {asked:?}");
    }
}

#[test]
fn a_command_that_is_none() {
    let folder = Folder::new();
    fails(mms(&folder).arg("sevrer"), 64, &["sevrer", "server"]);
    assert_eq!(run(&mut mms(&folder)).status.code(), Some(64));
    assert_eq!(run(mms(&folder).arg("--version")).status.code(), Some(0));
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_program_without_tls_says_so_and_does_nothing() {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    let output = run(mms(&folder).args(["server", "0", "users", "--tls", "0"]));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(64), &b""[..]), "{told}");
    assert!(told.contains("built without TLS"), "{told}");
    assert!(!folder.path("spool").exists() && !folder.path("server.log").exists());
}
