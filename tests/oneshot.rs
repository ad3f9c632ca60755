//! The commands for scripts against the real server, against servers that are none, and through a
//! proxy that cuts connections: what is printed, what is stored, and the exit codes.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use mms::limits;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use support::server::{Folder, PASSWORD, Server, eventually, mms, users_file};

/// What a command prints and how it ends.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap();
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    fn is(&self, code: i32, out: &str) {
        assert_eq!((self.code, &*self.out), (code, out), "{}", self.err);
    }

    #[track_caller]
    fn fails(&self, code: i32, err: &str) {
        assert!(self.code == code && self.out.is_empty(), "{self:?}");
        assert!(self.err.contains(err), "{err:?} is not in {:?}", self.err);
    }
}

/// People at their shells, with a server.
struct Shell<'a> {
    folder: &'a Folder,
    address: SocketAddr,
}

impl<'a> Shell<'a> {
    fn of(server: &'a Server) -> Self {
        server.folder.write("password", PASSWORD);
        Self { folder: &server.folder, address: server.address }
    }

    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = mms(self.folder);
        command.args(arguments).env("MMS_SERVER", self.address.to_string());
        command.env("PATH", "/usr/bin:/bin");
        command.env("MMS_USER", user).env("MMS_PASSWORD_FILE", "password");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, user: &str, arguments: &[&str]) -> Child {
        self.command(user, arguments).spawn().unwrap()
    }

    fn run(&self, user: &str, arguments: &[&str]) -> Ended {
        self.pipe(user, arguments, "")
    }

    fn pipe(&self, user: &str, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.start(user, arguments);
        // Who needs no input may have ended.
        _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ended::of(&child.wait_with_output().unwrap())
    }
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let shell = Shell::of(&server);
    shell.run("fred", &["send", "tim", "hi  there: you"]).is(0, "Tim: saved\n");
    shell.run("fred", &["send", "TIM", "two", "words"]).is(0, "Tim: saved\n");
    shell.pipe("fred", &["send", "tim"], "a\n\n\tb {5}\r\n c \n").is(0, "Tim: saved\n");
    shell.pipe("fred", &["send", "tim", "-"], "{7}").is(0, "Tim: saved\n");
    let long = "ż".repeat(30_000);
    shell.pipe("fred", &["send", "tim"], &long).is(0, "Tim: saved\n");
    let out = shell.run("tim", &["recv", "--json"]).out;
    let texts: Vec<_> = out.lines().map(|line| line.split_once("\"text\":").unwrap().1).collect();
    let rest = ",\"again\":false,\"broadcast\":false}";
    let wanted =
        ["\"hi  there: you\"", "\"two words\"", "\"a\\n\\n\\tb {5}\\n c \"", "\"{7}\"", &*long];
    assert_eq!(texts.len(), wanted.len(), "{out}");
    for (text, wanted) in texts.iter().zip(wanted) {
        assert_eq!(text.replace(&format!("\"{long}\""), &long), format!("{wanted}{rest}"));
    }
    assert!(out.starts_with("{\"id\":\"") && out.contains("\"from\":\"fred\""), "{out}");
    shell.run("tim", &["recv"]).is(0, "");
}

#[test]
fn a_reader_who_is_there_gets_it_at_once() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let reader = shell.start("tim", &["recv", "-n", "2"]);
    eventually("tim", || shell.run("fred", &["who"]).out.contains("tim online").then_some(()));
    shell
        .run("fred", &["who", "--json"])
        .is(0, "{\"user\":\"tim\",\"online\":true}\n{\"user\":\"fred\",\"online\":false}\n");
    shell.run("tim", &["recv"]).fails(75, "signed in elsewhere");
    shell.run("fred", &["send", "tim", "one"]).is(0, "tim: sent\n");
    shell.run("fred", &["broadcast", "two\nlines"]).is(0, "1 user: sent\n");
    Ended::of(&reader.wait_with_output().unwrap()).is(0, "fred: one\nfred: two\n  | lines\n");
    shell.run("fred", &["broadcast", "three"]).fails(67, "nobody else is online");
}

#[test]
fn a_hundred_at_once_are_all_stored_once() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let children: Vec<_> =
        (0..100).map(|n| shell.start("fred", &["send", "tim", &format!("m{n}")])).collect();
    for child in children {
        Ended::of(&child.wait_with_output().unwrap()).is(0, "tim: saved\n");
    }
    let out = shell.run("tim", &["recv"]).out;
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    let mut wanted: Vec<_> = (0..100).map(|n| format!("fred: m{n}")).collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}

#[test]
fn many_lines_travel_over_one_connection_in_order() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let input: String = (0..2000).map(|n| format!("line {n}\n\n")).collect();
    let ended = shell.pipe("fred", &["send", "tim", "--lines"], &input);
    ended.is(0, &"tim: saved\n".repeat(2000));
    // Under a key of one's own the whole can be repeated.
    let (lines, known) = (["send", "tim", "--lines", "--id", "k"], "tim: known\n".repeat(2));
    shell.pipe("fred", &lines, "a\nb").is(0, &"tim: saved\n".repeat(2));
    shell.pipe("fred", &lines, "a\nb").is(0, &known);
    let wanted: String = (0..2000).map(|n| format!("fred: line {n}\n")).collect();
    let wanted = wanted + "fred: a\nfred: b\n";
    shell.run("tim", &["recv"]).is(0, &wanted);
    assert_eq!(server.log().matches("fred signed in").count(), 3, "{}", server.log());
}

#[test]
fn lines_before_one_that_cannot_be_sent_are_sent() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let mut child = shell.start("fred", &["send", "tim", "--lines"]);
    child.stdin.take().unwrap().write_all(b"one\ntwo\n\xff\nthree\n").unwrap();
    let ended = Ended::of(&child.wait_with_output().unwrap());
    ended.is(65, "tim: saved\ntim: saved\n");
    assert!(ended.err.contains("not UTF-8"), "{ended:?}");
}

#[test]
fn a_list_exits_with_its_worst_fate() {
    let server = Server::start(&["fred", "tim", "ann"], &["--mailbox-letters", "1"]);
    let shell = Shell::of(&server);
    let ended = shell.run("fred", &["send", "tim,ann", "a"]);
    ended.is(0, "tim: saved\nann: saved\n");
    shell.run("tim", &["recv"]).is(0, "fred: a\n");
    let ended = shell.run("fred", &["send", "tim,ann", "b"]);
    assert_eq!(ended.code, 73, "{ended:?}");
    assert!(ended.out.contains("tim: saved\n") && ended.out.contains("ann: full\n"), "{ended:?}");
    let ended = shell.run("fred", &["send", "ann,bob", "c"]);
    assert_eq!(ended.code, 67, "{ended:?}");
    assert!(ended.err.contains("there is no user bob"), "{ended:?}");
}

#[test]
fn each_refusal_has_its_exit_code() {
    let server = Server::start(&["fred", "tim"], &["--mailbox-letters", "1", "--no-self-send"]);
    let shell = Shell::of(&server);
    shell.run("fred", &["send", "ti", "x"]).fails(67, "did you mean tim?");
    shell.run("fred", &["send", "t i", "x"]).fails(65, "a name has only letters");
    shell.run("fred", &["send", "fred", "x"]).fails(65, "to oneself");
    shell.run("fred", &["send", ",", "x"]).fails(64, "to whom");
    shell.run("fred", &["send", "tim", "\u{1b}[2J"]).fails(65, "U+001B");
    for text in ["", " ", "\n"] {
        shell.run("fred", &["send", "tim", text]).fails(65, "the message is empty");
        shell.pipe("fred", &["send", "tim"], text).fails(65, "the message is empty");
    }
    shell.pipe("fred", &["send", "tim"], &"x".repeat(65_537)).fails(65, "65536");
    shell.run("fred", &["send", "tim", "x", "--id", "a b"]).fails(64, "--id");
    shell.run("fred", &["send", "tim", "x", "--lines"]).fails(64, "--lines");
    shell.run("fred", &["send", "tim", "-", "--password-stdin"]).fails(64, "both the password");
    shell.run("fred", &["send", "tim", "x", "--id", "k1"]).is(0, "tim: saved\n");
    shell.run("fred", &["send", "tim", "x", "--id", "k1"]).is(0, "tim: known\n");
    shell.run("fred", &["send", "tim", "y", "--id", "k1"]).fails(65, "used for another message");
    shell.run("fred", &["send", "tim", "x"]).fails(73, "the mailbox of tim is full");
    let json = shell.run("fred", &["send", "tim", "x", "--id", "k2", "--json"]);
    json.is(73, "{\"key\":\"k2\",\"id\":null,\"user\":\"tim\",\"fate\":\"full\"}\n");
    shell.run("tim", &["recv", "-n", "2", "--timeout", "1"]).is(75, "fred: x\n");
    shell.run("", &["who"]).fails(65, "");
    server.folder.write("wrong", "wrong\n");
    let who = ["who", "--password-file", "wrong"];
    shell.run("fred", &["who", "--password-file", "none"]).fails(66, "none: No such file");
    shell.run("nobody", &who).fails(77, "user or password is wrong");
    for _ in 0..3 {
        shell.run("fred", &who).fails(77, "");
    }
    shell.run("fred", &["who"]).fails(75, "blocked for");
}

#[test]
fn a_block_is_waited_for_where_there_is_time_for_it() {
    let server = Server::start(&["fred", "tim"], &["--max-failures", "1", "--block-time", "2"]);
    let shell = Shell::of(&server);
    server.folder.write("wrong", "wrong\n");
    shell.run("fred", &["who", "--password-file", "wrong"]).fails(77, "too many failed attempts");
    shell.run("fred", &["send", "tim", "x", "--timeout", "120"]).is(0, "tim: saved\n");
}

#[test]
fn who_follows_is_told_of_a_second_sign_in() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let err = std::fs::File::create(server.folder.path("err")).unwrap();
    let mut reader = shell.command("tim", &["recv", "--follow"]).stderr(err).spawn().unwrap();
    eventually("tim", || shell.run("fred", &["who"]).out.contains("tim online").then_some(()));
    shell.run("tim", &["recv"]).fails(75, "signed in elsewhere");
    let told = "mms: somebody at 127.0.0.1 tries to sign in as tim with your password\n";
    eventually(told, || server.folder.read("err").contains(told).then_some(()));
    reader.kill().unwrap();
    reader.wait().unwrap();
}

/// Answers each connection with these words, and closes it after the client's next word.
fn stranger(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            _ = stream.write_all(words.as_bytes());
            _ = stream.shutdown(Shutdown::Write);
            _ = stream.read_to_end(&mut vec![]);
        }
    });
    address
}

#[test]
fn who_is_no_server_of_ours_is_told_apart() {
    let server = Server::start(&["fred"], &[]);
    let mut shell = Shell::of(&server);
    for (words, code, err) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", 76, "no MMS server; it says 'SSH-2.0-OpenSSH_9.6'"),
        ("220 \x1b[2Jmail\r\n", 76, "it says '220 \\u{1b}[2Jmail'"),
        (">> Welcome to MMS.\r\n505 version 2\r\n", 76, "another dialect"),
        (">> Welcome to MMS.\r\n>> 'coded 2' is the only version\r\n", 76, "another dialect"),
        (
            ">> Welcome to MMS.\r\n>> 'coded' is no command; 'help' lists the commands\r\n",
            76,
            "does not know the dialect",
        ),
        (">> Welcome to MMS.\r\n200 coded 1\r\nhello\r\n", 76, "has no code"),
    ] {
        shell.address = stranger(words);
        shell.run("fred", &["ping"]).fails(code, err);
        shell.run("fred", &["who"]).fails(code, err);
        shell.run("fred", &["send", "fred", "x"]).fails(code, err);
    }
    shell.address = stranger(">> MMS is full, try again later\r\n");
    shell.run("fred", &["ping"]).fails(75, "MMS is full");
    shell.run("fred", &["send", "fred", "x", "--timeout", "1"]).fails(75, "MMS is full");
    // Nobody listens there any more.
    shell.address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    shell.run("fred", &["ping"]).fails(69, "no server there");
    shell.run("fred", &["send", "fred", "x"]).fails(69, "no server there");
    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    shell.address = silent.local_addr().unwrap();
    shell.run("fred", &["ping", "--timeout", "1"]).fails(69, "does not say anything");
    shell.run("fred", &["ping", "--server", "here:there"]).fails(64, "HOST:PORT");
}

/// A proxy that cuts some connections when a word passes, before the other end hears of it.
struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    cuts: Arc<Mutex<u32>>,
}

impl Proxy {
    fn start(target: SocketAddr, word: &'static [u8; 4], cuts: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (target, cuts) = (Arc::new(Mutex::new(target)), Arc::new(Mutex::new(cuts)));
        let proxy = Self { address, target: target.clone(), cuts: cuts.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to) in [(from, to), (server, client)] {
                    let cuts = cuts.clone();
                    thread::spawn(move || {
                        forward(from, to, |bytes| {
                            let mut cuts = cuts.lock().unwrap();
                            let cut = bytes.windows(4).any(|it| it == word) && *cuts > 0;
                            *cuts -= u32::from(cut);
                            !cut
                        });
                    });
                }
            }
        });
        proxy
    }
}

/// Passes on what comes, until the end or until `may_pass` says no; then both ends are closed.
fn forward(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !may_pass(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn an_answer_that_is_lost_makes_no_second_letter() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut shell = Shell::of(&server);
    let proxy = Proxy::start(server.address, b"250 ", 3);
    shell.address = proxy.address;
    shell.run("fred", &["send", "tim", "once"]).is(0, "tim: known\n");
    assert_eq!(*proxy.cuts.lock().unwrap(), 0, "three answers were lost");
    *proxy.cuts.lock().unwrap() = 2;
    let input: String = (0..300).map(|n| format!("{n}\n")).collect();
    let ended = shell.pipe("fred", &["send", "tim", "--lines"], &input);
    assert_eq!((ended.code, ended.out.lines().count()), (0, 300), "{ended:?}");
    // Whoever gives up says how it can be repeated safely.
    *proxy.cuts.lock().unwrap() = 1000;
    let ended = shell.run("fred", &["send", "tim", "perhaps", "--timeout", "1"]);
    ended.fails(1, "safe to repeat with: --id ");
    *proxy.cuts.lock().unwrap() = 0;
    let key = ended.err.split_once("--id ").unwrap().1.lines().next().unwrap();
    shell.run("fred", &["send", "tim", "perhaps", "--id", key]).is(0, "tim: known\n");
    let lines: String = (0..300).map(|n| format!("fred: {n}\n")).collect();
    let wanted = format!("fred: once\n{lines}fred: perhaps\n");
    shell.run("tim", &["recv"]).is(0, &wanted);
}

#[test]
fn a_letter_stays_until_it_is_written_or_the_command_has_ended_well() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    for text in ["one", "two", "three"] {
        shell.run("fred", &["send", "tim", text]).is(0, "tim: saved\n");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = shell.command("tim", &["recv"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(74));
    shell.run("tim", &["recv", "--exec", "exit 3"]).fails(75, "exit status: 3");
    // As of a variable that is not set.
    shell.run("tim", &["recv", "--exec", " "]).fails(64, "take the messages and keep none");
    let command = "read text; echo \"$MMS_FROM: $text\" >> inbox; test \"$text\" != two";
    shell.run("tim", &["recv", "--exec", command]).fails(75, "the message from fred stays");
    assert_eq!(server.folder.read("inbox"), "fred: one\nfred: two\n");
    shell.run("tim", &["recv", "-n", "1"]).is(0, "(again) fred: two\n");
    let out = shell.run("tim", &["recv"]).out;
    assert!(out.ends_with("fred: three\n") && out.lines().count() == 1, "{out}");
    shell.run("tim", &["recv"]).is(0, "");
}

#[test]
fn an_acknowledgement_that_is_lost_makes_no_second_letter() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut shell = Shell::of(&server);
    shell.pipe("fred", &["send", "tim", "--lines"], "one\ntwo\n").is(0, &"tim: saved\n".repeat(2));
    let proxy = Proxy::start(server.address, b"ack ", 2);
    shell.address = proxy.address;
    shell.run("tim", &["recv"]).is(0, "fred: one\nfred: two\n");
    assert_eq!(*proxy.cuts.lock().unwrap(), 0, "two acknowledgements were lost");
    shell.run("tim", &["recv"]).is(0, "");
}

#[test]
fn following_goes_on_after_the_server_was_killed() {
    let mut server = Server::start(&["fred", "tim"], &[]);
    let proxy = Proxy::start(server.address, b"none", 0);
    server.folder.write("password", PASSWORD);
    let folder = Folder::new();
    folder.write("password", PASSWORD);
    let shell = Shell { folder: &folder, address: proxy.address };
    let out = std::fs::File::create(folder.path("out")).unwrap();
    let mut reader = shell.command("tim", &["recv", "--follow"]).stdout(out).spawn().unwrap();
    for round in 0..3 {
        for n in 0..10 {
            let ended = shell.run("fred", &["send", "tim", &format!("{round}.{n}")]);
            assert_eq!(ended.code, 0, "{ended:?}");
        }
        server.kill9();
        let waiting = shell.start("fred", &["send", "tim", &format!("{round}.10")]);
        server.restart();
        *proxy.target.lock().unwrap() = server.address;
        let ended = Ended::of(&waiting.wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let wanted: Vec<_> =
        (0..3).flat_map(|round| (0..=10).map(move |n| format!("fred: {round}.{n}"))).collect();
    eventually("all letters", || {
        let out = folder.read("out");
        (out.lines().count() >= wanted.len()).then_some(())
    });
    reader.kill().unwrap();
    reader.wait().unwrap();
    // One that was on its way when the server was killed may be marked; none comes twice.
    assert_eq!(folder.read("out").replace("(again) ", "").lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn keys_serve_instead_of_the_password_until_it_is_changed() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let run = |arguments: &[&str]| {
        let mut command = shell.command("", arguments);
        command.env_remove("MMS_USER").env_remove("MMS_PASSWORD_FILE");
        command.env("HOME", server.folder.path("home")).stdin(Stdio::null());
        Ended::of(&command.output().unwrap())
    };
    run(&["who"]).fails(64, "as whom?");
    run(&["who", "--user", "fred"]).fails(64, "mms login");
    run(&["logout", "--user", "fred"]).fails(66, "no keys of fred");
    let ended = run(&["login", "--user", "FRED", "--password-file", "password"]);
    assert!(ended.code == 0 && ended.out.starts_with("keys of fred for 127.0.0.1:"), "{ended:?}");
    let port = server.address.port();
    let file = format!("home/.config/mms/fred@127.0.0.1%3a{port}.keys");
    assert_eq!(server.folder.mode(&file), 0o600);
    assert_eq!(server.folder.mode("home/.config/mms"), 0o700);
    let kept = std::fs::read_dir(server.folder.path("home/.config/mms")).unwrap().count();
    assert_eq!(kept, 1, "nothing else is left");
    assert!(!server.folder.read(&file).contains(PASSWORD));
    run(&["send", "tim", "hi"]).is(0, "tim: saved\n");
    server.folder.chmod(&file, 0o640);
    run(&["who"]).fails(78, "chmod 600");
    server.folder.chmod(&file, 0o600);
    // A new password has a new salt.
    let other = users_file(&["tim"]);
    let fred = support::server::user_line("fred", "secret2").replace("c2Fsd", "c2Fsc");
    server.folder.write("users", &format!("{other}{fred}"));
    server.signal("HUP");
    eventually("the new password", || (run(&["who"]).code != 0).then_some(()));
    run(&["who"]).fails(77, "mms login");
    run(&["logout", "--password-stdin"]).fails(64, "unexpected argument '--password-stdin'");
    let ended = run(&["logout"]);
    assert!(ended.code == 0 && ended.out.ends_with("forgotten\n"), "{ended:?}");
    run(&["who", "--user", "fred"]).fails(64, "no password for fred");
    server.folder.write(&file, "no keys");
    run(&["who"]).fails(78, "holds no keys");
}

/// Changes a byte of this text in the journal, beneath the server that runs.
fn spoil(server: &Server, text: &str) {
    let files = std::fs::read_dir(server.folder.path("spool")).unwrap();
    let spoilt = files.filter_map(|entry| {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).ok()?;
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"#", at as u64).unwrap();
        Some(())
    });
    assert_eq!(spoilt.count(), 1, "{text}");
}

#[test]
fn a_message_that_the_disk_has_lost_is_told_once() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let send = |text: &str| shell.run("fred", &["send", "tim", text]).is(0, "tim: saved\n");
    let lost = "a message from fred was damaged on the server's disk and is lost (";
    send("spoilt-1");
    spoil(&server, "spoilt-1");
    let ended = shell.run("tim", &["recv", "--json"]);
    ended.is(0, "");
    assert_eq!(ended.err.matches(lost).count(), 1, "{}", ended.err);
    let ended = shell.run("tim", &["recv"]);
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, "", ""));

    // It is none of those that were asked for.
    send("spoilt-2");
    send("whole");
    spoil(&server, "spoilt-2");
    let ended = shell.run("tim", &["recv", "-n", "1", "--exec", "cat"]);
    ended.is(0, "whole\n");
    assert_eq!(ended.err.matches(lost).count(), 1, "{}", ended.err);

    // The companion keeps it, shows it and takes it off the server.
    send("spoilt-3");
    spoil(&server, "spoilt-3");
    let (host, port) = (server.address.ip().to_string(), server.address.port().to_string());
    let shown = |times| {
        let ended = shell.run("tim", &["client", &host, &port]);
        let said = ended.out.matches(lost).count();
        assert_eq!((ended.code, said), (0, times), "{}{}", ended.out, ended.err);
    };
    shown(1);
    shown(0);

    // A plain reader has it when his machine has, and says something afterwards.
    send("spoilt-4");
    spoil(&server, "spoilt-4");
    eventually("it is settled", || {
        let mut tim = server.greeted();
        if tim.ask(&format!("signin tim {PASSWORD}")).contains("you have no messages") {
            return Some(());
        }
        tim.expect(">> a message from fred was damaged on the disk and cannot be shown");
        // Meanwhile the server looks what has arrived.
        for _ in 0..10 {
            shell.run("fred", &["who"]);
            tim.ask("whoelse");
        }
        tim.reset();
        None
    });
}

/// Waits until the server has stored so many messages of fred.
fn stored(server: &Server, texts: &[&str]) {
    eventually("the messages", || {
        let journal = server.folder.read("spool/journal-0000000001.log");
        texts.iter().all(|text| journal.contains(text)).then_some(())
    });
}

#[test]
fn who_waits_for_delivery_is_told_what_became_of_each() {
    let server = Server::start(&["fred", "tim", "ann"], &[]);
    let shell = Shell::of(&server);
    let waits = |to: &str, text: &str, more: &[&str]| {
        let words = [&["send", to, text, "--wait", "delivered"], more].concat();
        shell.run("fred", &words)
    };
    // He does not come in time.
    let ended = waits("tim", "one", &["--timeout", "1"]);
    ended.is(2, "tim: saved\n");
    assert_eq!(ended.err, "mms: stored, but not delivered within 1 s: tim\n");
    // He comes meanwhile.
    let waiting = shell.start("fred", &["send", "tim", "two", "--wait", "delivered"]);
    stored(&server, &["two"]);
    shell.run("tim", &["recv"]).is(0, "fred: one\nfred: two\n");
    Ended::of(&waiting.wait_with_output().unwrap()).is(0, "tim: delivered\n");
    // He is there, and ann is not.
    let mut reader = shell.start("tim", &["recv", "--follow"]);
    eventually("tim", || shell.run("fred", &["who"]).out.contains("tim online").then_some(()));
    waits("TIM", "three", &[]).is(0, "tim: delivered\n");
    let ended = waits("tim,ann", "four", &["--timeout", "1", "--id", "k"]);
    ended.is(2, "tim: delivered\nann: saved\n");
    assert!(ended.err.ends_with("within 1 s: ann\n"), "{ended:?}");
    // Asked again under its key it is not stored again.
    let ended = waits("tim,ann", "four", &["--timeout", "1", "--id", "k", "--json"]);
    assert_eq!((ended.code, ended.out.lines().count()), (2, 2), "{ended:?}");
    assert!(ended.out.contains("\"user\":\"tim\",\"fate\":\"delivered\"}\n"), "{ended:?}");
    assert!(ended.out.contains("\"user\":\"ann\",\"fate\":\"known\"}\n"), "{ended:?}");
    // What is not stored is worse than what is not delivered; both are told.
    let ended = waits("ann,bob", "five", &["--timeout", "1"]);
    ended.is(67, "ann: saved\nbob: unknown\n");
    let told = ["not delivered within 1 s: ann\n", "there is no user bob\n"];
    assert!(told.iter().all(|words| ended.err.contains(words)), "{ended:?}");
    waits("bob", "six", &[]).fails(67, "there is no user bob");
    let broadcast = ["broadcast", "seven", "--wait", "delivered"];
    shell.run("fred", &broadcast).is(0, "1 user: delivered\n");
    reader.kill().unwrap();
    reader.wait().unwrap();
    shell.run("ann", &["recv"]).is(0, "fred: four\nfred: five\n");
}

#[test]
fn a_telnet_reader_has_it_once_he_goes_on() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let mut tim = server.signed_in("tim");
    let broadcast = ["broadcast", "one", "--wait", "delivered", "--timeout", "1"];
    let ended = shell.run("fred", &broadcast);
    ended.is(2, "1 user: sent\n");
    assert!(ended.err.ends_with("within 1 s: 1 user\n"), "{ended:?}");
    let waiting = shell.start("fred", &["send", "tim", "two", "--wait", "delivered"]);
    tim.expect("fred: two");
    // How soon the server hears that his machine has it is the kernel's affair.
    let mut waiting = waiting;
    eventually("the receipt", || {
        tim.ask("whoelse");
        waiting.try_wait().unwrap()
    });
    Ended::of(&waiting.wait_with_output().unwrap()).is(0, "tim: delivered\n");
}

#[test]
fn waiting_goes_on_after_the_server_was_killed_and_asks_again() {
    let mut server = Server::start(&["fred", "tim", "ann"], &[]);
    let proxy = Proxy::start(server.address, b"115 ", 0);
    server.folder.write("password", PASSWORD);
    let folder = Folder::new();
    folder.write("password", PASSWORD);
    let shell = Shell { folder: &folder, address: proxy.address };
    let waiting = shell.start("fred", &["send", "tim,ann", "hold on", "--wait", "delivered"]);
    stored(&server, &["hold on"]);
    // Ann takes it, and the news of it is lost.
    *proxy.cuts.lock().unwrap() = 1;
    shell.run("ann", &["recv"]).is(0, "fred: hold on\n");
    eventually("the loss", || (*proxy.cuts.lock().unwrap() == 0).then_some(()));
    server.kill9();
    server.restart();
    *proxy.target.lock().unwrap() = server.address;
    shell.run("tim", &["recv"]).is(0, "fred: hold on\n");
    let ended = Ended::of(&waiting.wait_with_output().unwrap());
    ended.is(0, "tim: delivered\nann: delivered\n");
    // The server remembers whom a list was for, but not whom a broadcast was for.
    let mut tim = server.signed_in("tim");
    let waiting = shell.start("fred", &["broadcast", "all of you", "--wait", "delivered"]);
    tim.expect("fred: all of you");
    *proxy.cuts.lock().unwrap() = 1;
    eventually("the loss", || {
        tim.ask("whoelse");
        (*proxy.cuts.lock().unwrap() == 0).then_some(())
    });
    let ended = Ended::of(&waiting.wait_with_output().unwrap());
    ended.is(2, "1 user: sent\n");
    assert!(ended.err.contains("nothing more was told of its delivery: 1 user"), "{ended:?}");
}

#[test]
fn lines_are_waited_for_together() {
    let server = Server::start(&["fred", "tim"], &[]);
    let shell = Shell::of(&server);
    let lines = ["send", "tim", "--lines", "--wait", "delivered"];
    let input: String = (0..3000).map(|n| format!("line {n}\n")).collect();
    let wanted: String = (0..3000).map(|n| format!("fred: line {n}\n")).collect();
    let mut sender = shell.start("fred", &lines);
    sender.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    // It does not run so far ahead of its reader that it could not ask again.
    eventually("the first lines", || (server.waiting("tim") >= 300).then_some(()));
    assert!(server.waiting("tim") < limits::KEY_WINDOW);
    let reader = shell.start("tim", &["recv", "-n", "3000"]);
    Ended::of(&sender.wait_with_output().unwrap()).is(0, &"tim: delivered\n".repeat(3000));
    Ended::of(&reader.wait_with_output().unwrap()).is(0, &wanted);
    // Nobody takes them: all are stored nevertheless.
    let ended = shell.pipe("fred", &[&lines[..], &["--timeout", "1"]].concat(), &input);
    ended.is(2, &"tim: saved\n".repeat(3000));
    assert!(ended.err.contains("tim (3000 messages)") || ended.err.contains("; "), "{ended:?}");
    shell.run("tim", &["recv"]).is(0, &wanted);
}

#[test]
fn more_lines_than_a_day_has_single_keys() {
    let server =
        Server::start(&["fred", "tim"], &["--sync", "never", "--mailbox-letters", "20000"]);
    let shell = Shell::of(&server);
    let input: String = (0..12_000).map(|n| format!("{n}\n")).collect();
    shell.pipe("fred", &["send", "tim", "--lines"], &input).is(0, &"tim: saved\n".repeat(12_000));
    let wanted: String = (0..12_000).map(|n| format!("fred: {n}\n")).collect();
    shell.run("tim", &["recv"]).is(0, &wanted);
    // Where the server has no room for one more name, lines have keys of their own again.
    let mut fred = server.greeted();
    fred.ask("coded 1");
    fred.ask(&format!("signin fred tool plain {PASSWORD}"));
    for n in 0..255 {
        assert!(fred.ask(&format!("send =i{n}:1 tim x")).contains(" saved tim"), "{n}");
    }
    assert_eq!(fred.ask("send =more:1 tim x"), "454 key-table-full");
    let input: String = (0..300).map(|n| format!("{n}\n")).collect();
    shell.pipe("fred", &["send", "tim", "--lines"], &input).is(0, &"tim: saved\n".repeat(300));
    let wanted: String = (0..300).map(|n| format!("fred: {n}\n")).collect();
    shell.run("tim", &["recv"]).is(0, &format!("{}{wanted}", "fred: x\n".repeat(255)));
}

/// A server that wants the password stretched for minutes.
fn tyrant() -> SocketAddr {
    use mms::crypto::{decode_text, encode_text};
    use std::io::BufRead as _;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b">> Welcome to MMS.\r\n200 coded 1\r\n").unwrap();
            let lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            let signin = lines.map_while(Result::ok).find(|line| line.contains("scram")).unwrap();
            let first = decode_text(signin.rsplit(' ').next().unwrap()).unwrap();
            let nonce = first.split_once("r=").unwrap().1;
            let challenge = format!("r={nonce}x,s=c2FsdHNhbHQ=,i=100000000");
            _ = stream.write_all(format!("334 @signin {}\r\n", encode_text(&challenge)).as_bytes());
            // Until the client has had enough.
            _ = stream.read_to_end(&mut vec![]);
        }
    });
    address
}

#[test]
fn a_server_that_wants_endless_work_is_left_when_the_time_is_up() {
    let server = Server::start(&["fred"], &[]);
    let mut shell = Shell::of(&server);
    shell.address = tyrant();
    let ended = shell.run("fred", &["send", "fred", "x", "--timeout", "1"]);
    ended.fails(75, "more work to prove the password than there is time for");
    shell.run("fred", &["recv", "--timeout", "1"]).fails(75, "more work to prove the password");
}
