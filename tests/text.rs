//! Text that is safe to read. Whatever bytes somebody sends, nothing that drives a terminal, hides
//! or reverses text, breaks a line in two or forges one comes out: of the server in either
//! dialect, of its log, of the commands for scripts. And what people write in any language comes
//! out as it went in.

#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use mms::proto::text::is_refused;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::Command;
use support::hostile::hostile;
use support::rng::Rng;
use support::server::{Client, Folder, PASSWORD, Server, mms, run};

/// Asserts that a line drives nothing and is what it looks like.
#[track_caller]
fn harmless(line: &str, about: &[u8]) {
    let odd = line.chars().find(|&c| is_refused(c) || c == '\n');
    assert_eq!(odd, None, "{line:?} about {:?}", String::from_utf8_lossy(about));
}

/// All lines up to the end of the connection; each is harmless and begins as a line of the server.
fn all_harmless(client: &mut Client, about: &[u8]) -> usize {
    let mut count = 0;
    while let Some(line) = client.next_line() {
        // A prompt, and the line end that is said for the one typed behind it.
        let prompts =
            ["Password: ", "Current password: ", "New password: ", "New password again: "];
        let line = prompts.iter().find_map(|prompt| line.strip_prefix(prompt)).unwrap_or(&line);
        let coded = line.len() > 4 && line.as_bytes()[..3].iter().all(u8::is_ascii_digit);
        assert!(line.is_empty() || line.starts_with(">> ") || coded, "{line:?}");
        assert!(!line.starts_with(">> tim: forged"), "{line:?} about {about:?}");
        harmless(line, about);
        count += 1;
    }
    count
}

#[test]
fn before_sign_in_nothing_comes_back_that_drives_a_terminal() {
    let server = Server::start(&["fred", "tim"], &["--max-failures", "0"]);
    for text in hostile() {
        for before in ["", "signin ", "signin fred ", "help ", "signin fred\r\n", "@", "auth "] {
            let mut client = server.connect();
            // It may be sent away in the midst of it.
            _ = client.stream.write_all(&[before.as_bytes(), &text, b"\r\n"].concat());
            _ = client.stream.shutdown(Shutdown::Write);
            assert!(all_harmless(&mut client, &text) >= 2);
        }
        let mut client = server.connect();
        for line in ["signin ", "signin fred tool scram ", "auth ", "@", ""] {
            _ = client.stream.write_all(&[b"coded 1\r\n", line.as_bytes(), &text, b"\n"].concat());
        }
        _ = client.stream.shutdown(Shutdown::Write);
        all_harmless(&mut client, &text);
    }
    log_is_harmless(&server);
}

/// Each line of the log has a time and a level, and nothing that drives a terminal.
fn log_is_harmless(server: &Server) {
    let log = server.log();
    for line in log.lines() {
        harmless(line, b"the log");
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let levels = ["[INFO]", "[WARN]", "[ERROR]", "[INFO ]", "[WARN ]"];
        assert!(
            time.ends_with('Z') && levels.iter().any(|level| rest.starts_with(level)),
            "{line}"
        );
        assert!(!line.contains("forged"), "{line}");
    }
}

#[test]
fn no_command_of_a_user_makes_anything_of_it() {
    const PLAIN: [&str; 17] = [
        "",
        "/",
        "send tim ",
        "send ",
        "send (",
        "send (tim ",
        "broadcast ",
        "broadcast tim ",
        "broadcast tim message ",
        "away ",
        "block ",
        "unblock ",
        "notify ",
        "wholast ",
        "help ",
        "passwd ",
        "signin ",
    ];
    const CODED: [&str; 10] = [
        "@",
        "@t ",
        "send =",
        "send =k tim ",
        "send ",
        "send tim ",
        "broadcast ",
        "away ",
        "ack ",
        "passwd ",
    ];
    let server = Server::start(&["fred", "tim"], &["--max-failures", "0"]);
    let mut tim = server.signed_in("tim");
    let mut fred = server.signed_in("fred");
    let mut program = server.greeted();
    program.say("coded 1");
    program.say(&format!("signin fred tool plain {PASSWORD}"));
    let mut writing = [&fred, &program].map(|client| client.stream.try_clone().unwrap());
    let texts = hostile();
    std::thread::scope(|scope| {
        let texts = &texts;
        scope.spawn(move || {
            for text in texts {
                for before in PLAIN {
                    writing[0].write_all(&[before.as_bytes(), text, b"\n"].concat()).unwrap();
                }
                for before in CODED {
                    writing[1].write_all(&[before.as_bytes(), text, b"\n"].concat()).unwrap();
                }
                let count = format!("send tim {{{}}}\r\n", text.len());
                writing[1].write_all(&[count.as_bytes(), text, b"\r\n"].concat()).unwrap();
            }
            writing[0].write_all(b"passwd\n\x1b[2J\n\n\nsignout\n").unwrap();
            writing[1].write_all(b"signout\n").unwrap();
        });
        let program = &mut program;
        scope.spawn(move || assert!(all_harmless(program, b"coded") > texts.len()));
        let fred = &mut fred;
        scope.spawn(move || assert!(all_harmless(fred, b"plain") > texts.len()));
    });
    tim.say("signout");
    all_harmless(&mut tim, b"what tim was shown");
    log_is_harmless(&server);
}

#[test]
fn noise_comes_back_harmless_too() {
    let mut rng = Rng::from_env(3);
    let server = Server::start(&["fred", "tim"], &["--max-failures", "0"]);
    let mut tim = server.signed_in("tim");
    let words: [&[u8]; 12] = [
        b"send tim ",
        b"broadcast ",
        b"away ",
        b"help ",
        b"\x1b[2J",
        b"\r",
        b"\n",
        b"\xe2\x80\xae",
        "👩\u{200d}🚀".as_bytes(),
        b" ",
        b"(",
        b"\xff",
    ];
    for _ in 0..20 {
        let mut fred = server.signed_in("fred");
        let mut bytes = vec![];
        for _ in 0..2000 {
            match rng.below(3) {
                0 => {
                    let mut noise = vec![0; rng.below(8)];
                    rng.fill(&mut noise);
                    bytes.extend(noise);
                }
                _ => bytes.extend_from_slice(words[rng.below(words.len())]),
            }
        }
        bytes.extend_from_slice(b"\nsignout\n");
        // One of the lines may be a signout.
        _ = fred.stream.write_all(&bytes);
        // The signout may stand within what a telnet command has swallowed.
        _ = fred.stream.shutdown(Shutdown::Write);
        all_harmless(&mut fred, b"noise");
        // The end of the session comes before the next sign-in.
        drop(fred);
        server.logs("fred signed off");
        support::server::eventually("fred's end", || {
            tim.say("whoelse");
            loop {
                let line = tim.line();
                harmless(&line, b"noise");
                if line == ">> Nobody else is online" {
                    return Some(());
                }
                if line == ">> User fred is online" {
                    return None;
                }
            }
        });
    }
    log_is_harmless(&server);
}

#[test]
fn what_people_write_comes_out_as_it_went_in() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    for text in [
        "zażółć gęślą jaźń",
        "Füße, ça va, ¿qué tal?, smørrebrød",
        "Здравствуй, мир",
        "Γειά σου Κόσμε",
        "שלום עולם\u{200f}!",
        "السلام عليكم \u{200e}(MMS)\u{200f}",
        "می\u{200c}خواهم",
        "नमस्ते क्\u{200d}ष",
        "สวัสดีชาวโลก",
        "你好，世界。こんにちは。안녕하세요",
        "𠜎𠜱𠝹 𝒜𝓁𝒾𝒸ℯ",
        "👩\u{200d}👩\u{200d}👧\u{200d}👦 👩🏽\u{200d}🚀 🏳\u{fe0f}\u{200d}🌈 🇵🇱 ❤\u{fe0f}",
        "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f} 1\u{fe0f}\u{20e3} \u{61c}",
        "e\u{301} n\u{303} Z\u{351}\u{36b}\u{343}",
        "a\tb  c   :  d ",
        "non\u{a0}breaking, soft\u{ad}hyphen, zero\u{200b}width",
        "\\u{1b}[2J %s $(reboot) `id` '\"<b>&amp;",
        ">> tim: quoted",
    ] {
        fred.say(&format!("send tim {text}"));
        assert_eq!(fred.line(), ">> message sent to tim");
        assert_eq!(tim.line(), format!(">> fred: {text}"));
    }
}

/// A server of somebody else, that says `words` to whoever comes.
fn foreign(words: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            _ = stream.write_all(&words);
            _ = stream.shutdown(Shutdown::Write);
            _ = stream.read_to_end(&mut vec![]);
        }
    });
    address
}

#[test]
fn a_hostile_server_does_not_drive_the_terminal_of_a_script() {
    let folder = Folder::new();
    folder.write("password", "secret1\n");
    let signed = |command: &mut Command, address: SocketAddr| {
        command.args(["--server", &address.to_string(), "--user", "fred"]);
        command.args(["--password-file", "password"]);
        run(command)
    };
    // One of each kind: the kinds of a class are told alike.
    let texts = hostile().into_iter().step_by(9);
    for text in texts {
        for before in [
            "",
            ">> ",
            ">> Welcome to MMS.\r\n200 coded 1\r\n",
            "200 coded 1\r\n535 ",
            "200 coded 1\r\n190 ",
            "200 coded 1\r\n334 @signin ",
            "505 ",
        ] {
            let words = [before.as_bytes(), &text, b"\r\n"].concat();
            let output = signed(mms(&folder).args(["ping", "--timeout", "1"]), foreign(words));
            assert!(!output.status.success());
            for bytes in [&output.stdout, &output.stderr] {
                let told = std::str::from_utf8(bytes).expect("text");
                told.lines().for_each(|line| harmless(line, &text));
            }
        }
    }
}
