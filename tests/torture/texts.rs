//! Texts that drive terminals, through everything that somebody can write: messages, names, away
//! texts, mistakes. Nothing of them reaches a telnet, a companion, a script or the log.

use crate::campaign::{Skip, Tally};
use crate::support::hostile::hostile;
use crate::support::server::{Client, PASSWORD, Server, eventually, mms};
use mms::proto::text::is_refused;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};

/// What each text is put behind.
const PLAIN: [&str; 10] = [
    "send tim ",
    "send (tim ann) ",
    "broadcast ",
    "away ",
    "send ",
    "block ",
    "help ",
    "passwd ",
    "",
    "/",
];
const CODED: [&str; 6] = ["send tim ", "send =k1 tim ", "broadcast ", "away ", "@", ""];

/// What of a text drives a terminal, or was not said by the server.
fn odd(text: &str) -> Option<String> {
    let odd = text.lines().find(|line| {
        line.chars().any(is_refused) || line.trim_start_matches(">> ").starts_with("tim: forged")
    });
    odd.map(ToString::to_string)
}

/// A program of MMS that shows what comes to ann; it ends when the server does.
fn listener(server: &Server, arguments: &[&str], out: &str) -> Child {
    server.folder.write("password", PASSWORD);
    let mut command = mms(&server.folder);
    let file = || Stdio::from(File::create(server.folder.path(out)).unwrap());
    command.args(arguments).args(["--password-file", "password"]);
    command.env("HOME", server.folder.path("home")).stdin(Stdio::piped());
    command.stdout(file()).stderr(Stdio::null()).spawn().unwrap()
}

/// Writes each text behind each of the beginnings, in both dialects; what is said to it.
fn attack(texts: &[Vec<u8>], plain: &mut Client, coded: &mut Client) -> [Vec<String>; 2] {
    let mut writing = [&*plain, &*coded].map(|client| client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for text in texts {
                for before in PLAIN {
                    put(&mut writing[0], before.as_bytes(), text);
                }
                for before in CODED {
                    put(&mut writing[1], before.as_bytes(), text);
                }
                let count = format!("send tim {{{}}}\r\n", text.len());
                put(&mut writing[1], count.as_bytes(), text);
            }
            put(&mut writing[0], b"", b"\nsignout");
            put(&mut writing[1], b"", b"\nsignout");
        });
        let (plain, coded) = (scope.spawn(|| plain.rest()), scope.spawn(|| coded.rest()));
        [plain, coded].map(|thread| thread.join().unwrap())
    })
}

fn put(stream: &mut TcpStream, before: &[u8], text: &[u8]) {
    _ = stream.write_all(&[before, text, b"\r\n"].concat());
}

/// So many of the texts; those that are there come again if it is more.
pub fn text(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let texts: Vec<Vec<u8>> = hostile().into_iter().cycle().take(count).collect();
    let mut server = Server::start(&["fred", "tim", "ann", "bob"], &["--max-failures", "0"]);
    let address = server.address.to_string();
    let port = server.address.port().to_string();
    let mut shows = [
        listener(&server, &["client", "--user", "ann", "127.0.0.1", &port], "companion"),
        listener(&server, &["recv", "--follow", "--user", "bob", "--server", &address], "script"),
    ];
    server.logs("ann signed in");
    server.logs("bob signed in");
    let mut tim = server.signed_in("tim");
    let mut fred = server.signed_in("fred");
    let mut program = server.greeted();
    program.say("coded 1");
    program.say(&format!("signin fred tool plain {PASSWORD}"));
    let [fred, program] = attack(&texts, &mut fred, &mut program);
    tally.cycles = texts.len() * (PLAIN.len() + CODED.len() + 1);
    let mut nobodies = vec![];
    for name in texts.iter().filter(|text| !text.contains(&b'\n')) {
        let mut nobody = server.connect();
        put(&mut nobody.stream, b"signin ", name);
        _ = nobody.stream.shutdown(Shutdown::Write);
        nobodies.extend(nobody.rest());
        tally.cycles += 1;
    }
    // All hear this last.
    let mut last = server.signed_in("fred");
    eventually("all of them", || {
        let answer = last.ask("broadcast the last one");
        answer.contains("to 3 users").then_some(())
    });
    let heard = std::iter::from_fn(|| tim.next_line());
    let heard = heard.take_while(|line| !line.contains("the last one")).collect();
    for out in ["companion", "script"] {
        let path = server.folder.path(out);
        eventually("the last one", || {
            fs::read_to_string(&path).unwrap().contains("the last one").then_some(())
        });
    }
    server.terminate();
    for child in &mut shows {
        _ = child.kill();
        _ = child.wait();
    }
    let files = ["companion", "script", "server.log"];
    let read = files.map(|out| (out, server.folder.read(out)));
    let told = [("fred", fred), ("a program", program), ("nobody", nobodies), ("tim", heard)];
    let told = told.map(|(who, lines)| (who, lines.join("\n")));
    for (who, told) in read.into_iter().chain(told) {
        tally.holds(odd(&told).is_none(), || format!("{who}: {:?}", odd(&told)));
        tally.notes.push(format!("{} lines for {who}", told.lines().count()));
    }
    let log = server.log();
    let forged = log.lines().find(|line| line.contains("forged") || !line.contains("Z ["));
    tally.holds(forged.is_none(), || format!("the log: {forged:?}"));
    Ok(())
}
