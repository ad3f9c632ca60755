//! The coded dialect on the real server over TCP: what a script or a companion client lives
//! through, crashes and slips of the pen included.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mms::crypto::{Stretch, client_key, mac, server_key, stored_key};
use std::net::Ipv4Addr;
use support::server::{Client, PASSWORD, Server, users_file};

/// A program that speaks the coded dialect.
struct Program(Client);

impl Program {
    fn connect(server: &Server) -> Self {
        Self::switched(server.greeted())
    }

    fn switched(mut client: Client) -> Self {
        let offer = client.ask("coded 1");
        assert!(offer.starts_with("200 coded 1 mms/"), "{offer}");
        for word in ["scram-sha-256", "plain", "line=4096", "body=65536", "receipts"] {
            assert!(offer.split(' ').any(|one| one == word), "{offer}");
        }
        Self(client)
    }

    fn signed_in(server: &Server, name: &str, kind: &str) -> Self {
        let mut program = Self::connect(server);
        let reply = program.ask(&format!("signin {name} {kind} plain {PASSWORD}"));
        assert!(reply.starts_with(&format!("230 - {name} ")), "{reply}");
        program
    }

    /// The next line, the text by length in its place.
    #[track_caller]
    fn line(&mut self) -> String {
        let line = self.0.line();
        let Some((head, count)) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'))
        else {
            return line;
        };
        let text = String::from_utf8(self.0.bytes(count.parse().unwrap())).unwrap();
        assert_eq!(self.0.bytes(2), b"\r\n");
        format!("{head}{text}")
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.0.say(line);
        self.line()
    }

    /// Sends a text by length.
    #[track_caller]
    fn ask_counted(&mut self, head: &str, text: &str) -> String {
        self.0.send(format!("{head}{{{}}}\r\n{text}\r\n", text.len()).as_bytes());
        self.line()
    }

    /// The next line must be a letter: its id, its flags, and the rest.
    #[track_caller]
    fn letter(&mut self) -> (String, String, String) {
        let line = self.line();
        let fields: Vec<&str> = line.splitn(5, ' ').collect();
        let [code, id, time, flags, rest] = fields[..] else { panic!("no letter: {line}") };
        assert!(code == "100" && time.parse::<u64>().unwrap() > 1_600_000_000_000, "{line}");
        (id.into(), flags.into(), rest.into())
    }

    /// Nothing has come before the answer to this.
    #[track_caller]
    fn nothing_more(&mut self) {
        assert_eq!(self.ask("@nothing ping"), "264 @nothing pong");
    }
}

/// The id in an answer `250 <id> <fate> …`.
#[track_caller]
fn id(reply: &str, fate: &str) -> String {
    let words: Vec<&str> = reply.split(' ').filter(|word| !word.starts_with('@')).collect();
    assert!(words[0] == "250" && words[2] == fate, "{reply}");
    words[1].into()
}

// ---- lines -----------------------------------------------------------------------------------

#[test]
fn a_hundred_sends_in_one_write_are_answered_in_their_order() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let lines: String = (0..100).map(|n| format!("@t{n} send =b:{n} Tim m{n}\n")).collect();
    fred.0.send(lines.as_bytes());
    for n in 0..100 {
        let reply = fred.line();
        assert!(reply.starts_with(&format!("250 @t{n} ")) && reply.ends_with(" sent Tim"));
        let (told, _, rest) = tim.letter();
        assert_eq!((told, rest), (id(&reply, "sent"), format!("fred m{n}")));
    }
    // A tag is repeated on refusals, too, and each kind of line keeps its place.
    fred.0.send(b"@a send nobody x\n@b pinf\n@c send\n\n@d\n@e ping\n@@ ping\nping\n@f ack 1.1\n");
    let codes: Vec<String> = (0..7).map(|_| fred.line()).collect();
    let want = ["550 @a", "500 @b", "501 @c", "264 @e", "506 bad-tag", "264 pong", "555 @f"];
    assert!(codes.iter().zip(want).all(|(line, begin)| line.starts_with(begin)), "{codes:?}");
}

#[test]
fn a_text_by_length_may_be_cut_anywhere() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let bytes = "@1 send Tim {14}\r\nżółw\n\tx {3}\r\n@2 ping\r\n".as_bytes();
    for cut in 1..bytes.len() {
        fred.0.send(&bytes[..cut]);
        // The server has read the first part before the second is sent.
        std::thread::sleep(std::time::Duration::from_millis(1));
        fred.0.send(&bytes[cut..]);
        assert!(fred.line().starts_with("250 @1 "), "cut at {cut}");
        assert_eq!(fred.line(), "264 @2 pong");
        assert_eq!(tim.letter().2, "fred żółw\n\tx {3}");
    }
    let long = "ab\n}".repeat(16 << 10);
    id(&fred.ask_counted("send Tim ", &long), "sent");
    assert_eq!(tim.letter().2, format!("fred {long}"));
}

#[test]
fn what_is_wrong_with_a_text_by_length_is_told_and_the_next_line_is_read() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let too_long = "x".repeat((64 << 10) + 1);
    for (head, text, want) in [
        ("@1 send Tim ", too_long.as_str(), "504 @1 text-too-long 65537 65536"),
        ("@2 send Tim ", "a\rb", "504 @2 text U+000D"),
        ("@3 send Tim ", "a\u{202e}b", "504 @3 text U+202E"),
        ("@4 send Tim ", " \n\t", "501 @4 usage a message is missing"),
        ("@5 send Tim more ", "text", "501 @5 usage a text stands in the line or is counted"),
        ("@6 whoelse ", "text", "501 @6 usage only messages are counted"),
    ] {
        let reply = fred.ask_counted(head, text);
        assert!(reply.starts_with(want), "{reply}");
        fred.nothing_more();
    }
    fred.0.send(b"@7 send Tim {3}\r\nabcd\r\n@8 send Tim {2}\n\xc3(\n@9 send Tim {3}\nab\n\n");
    let miscounted = "501 usage a text by count is followed by a line end; both were dropped";
    assert_eq!(fred.line(), miscounted);
    assert_eq!(fred.line(), "504 @8 text not-utf-8");
    id(&fred.line(), "saved");
    assert_eq!(fred.ask(&"x".repeat(4097)), "502 line-too-long 4096");
    fred.nothing_more();
}

#[test]
fn a_plain_reader_sees_further_lines_behind_a_bar() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let mut tim = server.signed_in("Tim");
    fred.ask_counted("send Tim ", "one\n>> Tim: two\n\n");
    for want in [">> fred: one", ">>   | >> Tim: two", ">>   | ", ">>   | "] {
        assert_eq!(tim.line(), want);
    }
}

/// A line end becomes nine bytes for a plain reader: letters full of them must not be more than his
/// connection bears, or he would be cut off whenever he comes for them.
#[test]
fn letters_full_of_line_ends_do_not_shut_a_plain_reader_out() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let text = format!("x{}y", "\n".repeat(65_534));
    for _ in 0..8 {
        id(&fred.ask_counted("send Tim ", &text), "saved");
    }
    let mut tim = server.connect_with(|socket| {
        socket.set_recv_buffer_size(16 << 10).unwrap();
    });
    tim.expect("signin");
    let welcome = tim.ask(&format!("signin Tim {PASSWORD}"));
    assert_eq!(welcome, ">> Welcome Tim, you have 8 messages waiting:");
    std::thread::sleep(std::time::Duration::from_millis(300));
    for _ in 0..8 {
        assert_eq!(tim.line(), ">>      fred: x");
        for _ in 0..65_533 {
            assert_eq!(tim.line(), ">>   | ");
        }
        assert_eq!(tim.line(), ">>   | y");
    }
}

#[test]
fn the_switch_is_the_first_line_or_never() {
    let server = Server::start(&["fred"], &[]);
    let refused = ">> 'coded 1' is the only version, and it must be the first line";
    for (first, second) in [("coded 2", "coded 1"), ("", "coded 1"), ("coded", "coded 1")] {
        let mut client = server.greeted();
        client.say(first);
        if !first.is_empty() {
            assert_eq!(client.line(), refused);
        }
        assert_eq!(client.ask(second), refused);
        assert!(client.sign_in("fred", PASSWORD).ends_with("no messages waiting"));
        client.sign_out();
    }
    let mut client = server.connect();
    client.send(b" Coded 1 \r\nsignin fred tool plain secret1\nping\n");
    client.expect("200 coded 1 ");
    assert!(client.line().starts_with("230 - fred 0 "));
    assert_eq!(client.line(), "264 pong");
    assert_eq!(client.ask("@x coded 1"), "505 @x version 1");
}

// ---- keys ------------------------------------------------------------------------------------

#[test]
fn a_repeat_under_its_key_is_the_first_result_over_stops_and_crashes() {
    let mut server = Server::start(&["fred", "Tim"], &[]);
    let lines = [
        "send =phone:1 Tim counted",
        "send =one-shot Tim single",
        "send =phone:2 (Tim, fred) list",
        "send =phone:3 tim again",
    ];
    let mut first: Vec<String> = vec![];
    for round in 0..4 {
        let mut fred = Program::signed_in(&server, "fred", "tool");
        for (n, line) in lines.iter().enumerate() {
            let reply = fred.ask(line);
            match round {
                0 => first.push(reply.split(' ').nth(1).unwrap().into()),
                _ => assert_eq!(id(&reply, "known"), first[n]),
            }
        }
        for (line, code) in [
            ("send =phone:1 Tim other", "553 key-reused"),
            ("send =one-shot fred single", "553 key-reused"),
            ("broadcast =one-shot single", "553 key-reused"),
        ] {
            assert_eq!(fred.ask(line), code);
        }
        match round {
            0 => server.kill9(),
            1 => assert!(server.terminate().success()),
            2 => server.kill9(),
            _ => break,
        }
        server.restart();
    }
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let letters: Vec<_> = (0..4).map(|_| tim.letter().2).collect();
    assert_eq!(letters, ["fred counted", "fred single", "fred list", "fred again"]);
    tim.nothing_more();
}

#[test]
fn a_counter_below_the_window_is_refused() {
    let mut server = Server::start(&["fred", "Tim"], &[]);
    for round in 0..2 {
        let mut fred = Program::signed_in(&server, "fred", "tool");
        let reply = fred.ask("send =phone:5000 Tim x");
        id(&reply, if round == 0 { "saved" } else { "known" });
        assert_eq!(fred.ask("@1 send =phone:3976 Tim x"), "554 @1 key-too-old");
        id(&fred.ask("send =phone:3977 Tim x"), if round == 0 { "saved" } else { "known" });
        id(&fred.ask(&format!("send =pad:{round} Tim x")), "saved");
        server.kill9();
        server.restart();
    }
}

#[test]
fn what_is_refused_leaves_its_key_new() {
    let server = Server::start(&["fred", "Tim"], &["--mailbox-letters", "1"]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    id(&fred.ask("send Tim fills it"), "saved");
    assert_eq!(fred.ask("send =phone:1 Tim x"), "452 full Tim");
    assert_eq!(fred.ask("send =phone:1 nobody x"), "550 no-such-user nobody");
    assert_eq!(fred.ask("broadcast =phone:1 x"), "556 nobody-else");
    assert_eq!(fred.ask("send =phone:1 (Tim nobody) x"), "251 - Tim=full nobody=unknown");
    let first = id(&fred.ask("send =phone:1 fred x"), "saved");
    assert_eq!(id(&fred.ask("send =phone:1 fred x"), "known"), first);
}

// ---- taking letters --------------------------------------------------------------------------

/// Tim's letters `from..to` are there, in order.
#[track_caller]
fn expect_letters(tim: &mut Program, range: std::ops::Range<usize>, flags: &str) -> String {
    let mut last = String::new();
    for n in range {
        let (id, got, rest) = tim.letter();
        assert_eq!((got.as_str(), rest), (flags, format!("fred m{n}")));
        last = id;
    }
    last
}

fn send_many(fred: &mut Program, range: std::ops::Range<usize>) {
    let count = range.len();
    let lines: String = range.map(|n| format!("send Tim m{n}\n")).collect();
    fred.0.send(lines.as_bytes());
    for _ in 0..count {
        assert!(fred.line().starts_with("250 "));
    }
}

#[test]
fn what_is_acknowledged_stays_away_and_what_is_not_comes_again() {
    let mut server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    send_many(&mut fred, 0..6);
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let second = expect_letters(&mut tim, 0..2, "-");
    expect_letters(&mut tim, 2..6, "-");
    tim.0.say(&format!("ack {second}"));
    tim.nothing_more();
    // An orderly sign-off settles nothing.
    assert_eq!(tim.ask("signout"), "290 bye");
    assert_eq!(tim.line(), "190 signed-out");
    assert!(tim.0.rest().is_empty());
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let last = expect_letters(&mut tim, 2..6, "a");
    for beyond in ["4294967295.1", &format!("{last}0")] {
        assert_eq!(tim.ask(&format!("@1 ack {beyond}")), "555 @1 bad-ack");
    }
    assert!(tim.ask("@1 ack x").starts_with("501 @1 "));
    tim.0.say(&format!("ack {last}"));
    tim.0.say(&format!("ack {second}"));
    tim.nothing_more();
    drop(tim);
    let mut tim = Program::signed_in(&server, "Tim", "listener");
    tim.nothing_more();
    // After a crash a letter may come once more, but not without its mark.
    send_many(&mut fred, 6..7);
    let last = expect_letters(&mut tim, 6..7, "-");
    tim.0.say(&format!("ack {last}"));
    tim.nothing_more();
    server.kill9();
    server.restart();
    let mut tim = Program::connect(&server);
    let welcome = tim.ask(&format!("signin Tim online plain {PASSWORD}"));
    let waiting: usize = welcome.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(waiting <= 7, "{welcome}");
    expect_letters(&mut tim, 7 - waiting..7, "a");
    tim.nothing_more();
}

#[test]
fn no_more_than_a_window_is_out_unacknowledged() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    send_many(&mut fred, 0..300);
    let mut tim = Program::signed_in(&server, "Tim", "online");
    let tenth = expect_letters(&mut tim, 0..10, "-");
    expect_letters(&mut tim, 10..256, "-");
    tim.nothing_more();
    send_many(&mut fred, 300..301);
    tim.nothing_more();
    tim.0.say(&format!("ack {tenth}"));
    let last = expect_letters(&mut tim, 256..266, "-");
    tim.nothing_more();
    tim.0.say(&format!("ack {last}"));
    let last = expect_letters(&mut tim, 266..301, "-");
    tim.0.say(&format!("ack {last}"));
    // The whole window is there again.
    send_many(&mut fred, 301..600);
    expect_letters(&mut tim, 301..557, "-");
    tim.nothing_more();
}

#[test]
fn no_more_than_256_kib_and_a_letter_are_out_unacknowledged() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "tool");
    let mut tim = Program::signed_in(&server, "Tim", "online");
    // The fifth begins within the window and ends beyond it.
    let text = "x".repeat((64 << 10) - 1);
    for n in 0..17 {
        let text = if n < 5 { &text } else { &text[..1000] };
        id(&fred.ask_counted("send Tim ", text), "sent");
    }
    let out: Vec<String> = (0..5).map(|_| tim.letter().0).collect();
    tim.nothing_more();
    // What went beyond counts: the first that is acknowledged makes room for the beginning of one.
    tim.0.say(&format!("ack {}", out[0]));
    assert_eq!(tim.letter().2.len(), "fred ".len() + 1000);
    tim.nothing_more();
    tim.0.say(&format!("ack {}", out[1]));
    for _ in 0..11 {
        assert_eq!(tim.letter().2.len(), "fred ".len() + 1000);
    }
    tim.nothing_more();
}

// ---- kinds of session ------------------------------------------------------------------------

#[test]
fn five_tools_work_beside_their_users_own_session() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "online");
    let mut tools: Vec<_> = (0..5).map(|_| Program::signed_in(&server, "fred", "tool")).collect();
    let mut tim = Program::signed_in(&server, "Tim", "tool");
    for (n, tool) in tools.iter_mut().enumerate() {
        id(&tool.ask(&format!("send fred from {n}")), "sent");
        assert!(fred.letter().2.ends_with(&format!("from {n}")));
        assert_eq!(tool.ask("away"), "530 not-present");
        assert_eq!(tool.ask("ack 0.0"), "555 bad-ack");
        tool.nothing_more();
    }
    // A tool is there for nobody, and leaves without a trace.
    assert_eq!(tim.ask("whoison"), "260 online=fred offline=Tim");
    assert_eq!(tools[0].ask("whoelse"), "261 -");
    assert_eq!(tools[0].ask("broadcast hello"), "556 nobody-else");
    id(&tools[1].ask("send Tim are you there?"), "saved");
    tim.nothing_more();
    drop(tim);
    tools.remove(0).ask("signout");
    assert_eq!(tools[0].ask("wholast 5"), "261 -");
    // The one present session is one, whatever it speaks.
    let mut other = Program::connect(&server);
    let line = format!("@1 signin fred listener plain {PASSWORD}\r\n@2 ping");
    assert_eq!(other.ask(&line), "533 @1 already-online fred");
    assert_eq!(other.line(), "264 @2 pong");
    assert_eq!(fred.line(), "112 second-signin 127.0.0.1");
}

#[test]
fn a_listener_is_never_idle() {
    let server = Server::start(&["fred", "Tim"], &["--idle-timeout", "1"]);
    let mut tim = Program::signed_in(&server, "Tim", "listener");
    for kind in ["online", "tool"] {
        let mut fred = Program::signed_in(&server, "fred", kind);
        assert_eq!(fred.ask("pong\r\nping"), "264 pong");
        assert_eq!(fred.line(), "190 idle 1");
        assert_eq!(fred.0.next_line(), None);
    }
    tim.nothing_more();
}

#[test]
fn a_removed_users_tools_are_signed_off() {
    let server = Server::start(&["fred", "Tim"], &[]);
    let mut fred = Program::signed_in(&server, "fred", "online");
    let mut tool = Program::signed_in(&server, "fred", "tool");
    let mut tim = Program::signed_in(&server, "Tim", "tool");
    server.folder.write("users", &users_file(&["Tim"]));
    server.signal("HUP");
    for gone in [&mut fred, &mut tool] {
        assert_eq!(gone.line(), "190 removed");
        assert_eq!(gone.0.next_line(), None);
    }
    assert_eq!(tim.ask("send fred x"), "550 no-such-user fred");
}

// ---- SCRAM -----------------------------------------------------------------------------------

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// The client's final message, and the server's that must follow.
fn prove(name: &str, password: &str, challenge: &str) -> (String, String) {
    let server_first = String::from_utf8(BASE64_STANDARD.decode(challenge).unwrap()).unwrap();
    let parts: Vec<&str> = server_first.split(',').collect();
    let nonce = parts[0].strip_prefix("r=").unwrap();
    let salt = BASE64_STANDARD.decode(parts[1].strip_prefix("s=").unwrap()).unwrap();
    let rounds: u32 = parts[2].strip_prefix("i=").unwrap().parse().unwrap();
    assert!(nonce.starts_with(NONCE) && nonce.len() > NONCE.len() + 16 && rounds >= 4096);
    let mut stretch = Stretch::new(password.as_bytes(), &salt, rounds);
    assert!(stretch.step(rounds));
    let salted = stretch.result();
    let unproved = format!("c=biws,r={nonce}");
    let said = format!("n={name},r={NONCE},{server_first},{unproved}");
    let mut proof = client_key(&salted);
    for (to, with) in
        proof.iter_mut().zip(mac(&stored_key(&client_key(&salted)), &[said.as_bytes()]))
    {
        *to ^= with;
    }
    let signature = BASE64_STANDARD.encode(mac(&server_key(&salted), &[said.as_bytes()]));
    let last = format!("{unproved},p={}", BASE64_STANDARD.encode(proof));
    (last, BASE64_STANDARD.encode(format!("v={signature}")))
}

/// `signin`; returns the challenge.
fn challenge(program: &mut Program, name: &str) -> String {
    let first = BASE64_STANDARD.encode(format!("n,,n={name},r={NONCE}"));
    let reply = program.ask(&format!("@c signin {name} tool scram {first}"));
    reply.strip_prefix("334 @c ").unwrap_or_else(|| panic!("{reply}")).into()
}

fn auth(program: &mut Program, last: &str) -> String {
    program.ask(&format!("@a auth {}", BASE64_STANDARD.encode(last)))
}

#[test]
fn scram_proves_both_ends() {
    let server = Server::start(&["fred"], &[]);
    for name in ["fred", "FRED"] {
        let mut program = Program::connect(&server);
        let (last, server_last) = prove(name, PASSWORD, &challenge(&mut program, name));
        let reply = auth(&mut program, &last);
        assert!(reply.starts_with(&format!("230 @a {server_last} fred 0 ")), "{reply}");
        let spool = reply.rsplit_once(' ').unwrap().1;
        assert!(spool.len() == 16 && spool.bytes().all(|b| b.is_ascii_hexdigit()), "{reply}");
        assert_eq!(auth(&mut program, &last), "503 @a signed-in-already fred");
    }
}

#[test]
fn a_wrong_proof_is_a_failure_and_an_unknown_user_looks_the_same() {
    let server = Server::start(&["fred", "Tim"], &["--max-failures", "0"]);
    // An unknown user gets a challenge of the same shape, and the same one each time.
    let mut shapes = vec![];
    for name in ["fred", "nobody", "nobody"] {
        let mut program = Program::connect(&server);
        let challenge = challenge(&mut program, name);
        let text = String::from_utf8(BASE64_STANDARD.decode(&challenge).unwrap()).unwrap();
        let (nonce, rest) = text.split_once(",s=").unwrap();
        let (salt, rounds) = rest.split_once(",i=").unwrap();
        shapes.push((nonce.len(), rounds.to_owned(), salt.to_owned()));
        let (last, _) = prove(name, "wrong", &challenge);
        assert_eq!(auth(&mut program, &last), "535 @a not-authorized");
    }
    assert_eq!(shapes[1], shapes[2]);
    assert_eq!((&shapes[0].0, &shapes[0].1), (&shapes[1].0, &shapes[1].1));
    assert_ne!(shapes[0].2, shapes[1].2);
    // Tampered, replayed and misplaced proofs.
    let mut program = Program::connect(&server);
    let first = challenge(&mut program, "fred");
    let (last, _) = prove("fred", PASSWORD, &first);
    let turned = if last.contains(",p=A") { ",p=B" } else { ",p=A" };
    let tampered = format!("{}{turned}{}", &last[..last.len() - 47], &last[last.len() - 43..]);
    assert_eq!(tampered.len(), last.len());
    assert_eq!(auth(&mut program, &tampered), "535 @a not-authorized");
    assert!(auth(&mut program, &last).starts_with("501 @a "), "the challenge is used up");
    let second = challenge(&mut program, "fred");
    assert_ne!(first, second, "each challenge has its own nonce");
    assert_eq!(auth(&mut program, &last), "535 @a not-authorized", "a replayed message");
    let mut program = Program::connect(&server);
    assert!(auth(&mut program, &last).starts_with("501 @a "));
    let foreign = BASE64_STANDARD.encode(format!("n,,n=Tim,r={NONCE}"));
    assert!(program.ask(&format!("@c signin fred tool scram {foreign}")).starts_with("501 @c "));
    assert!(program.ask("@c signin fred tool scram n,,n=fred,r=x").starts_with("501 @c "));
    assert!(program.ask("@c signin fred boss plain secret1").starts_with("501 @c "));
    assert_eq!(program.ask("@c signin fr/ed tool plain secret1"), "551 @c bad-name fr/ed");
    assert_eq!(program.ask("@c send fred x"), "530 @c signin-first");
}

#[test]
fn scram_failures_count_and_a_block_stops_scram() {
    let server = Server::start(&["fred"], &[]);
    let there = Ipv4Addr::new(127, 0, 0, 7);
    let connect = || {
        let mut client = server.connect_from(there);
        client.expect("signin");
        Program::switched(client)
    };
    let mut program = connect();
    for _ in 0..2 {
        let (last, _) = prove("fred", "wrong", &challenge(&mut program, "fred"));
        assert_eq!(auth(&mut program, &last), "535 @a not-authorized");
    }
    // Two challenges that were given before the block are of no use after it.
    let (mut early, mut last_try) = (connect(), connect());
    let (proof, _) = prove("fred", PASSWORD, &challenge(&mut early, "fred"));
    assert_eq!(last_try.ask("@x signin fred tool plain wrong"), "190 too-many-failures 60");
    assert_eq!(last_try.0.next_line(), None);
    let blocked = auth(&mut early, &proof);
    assert!(blocked.starts_with("431 @a blocked "), "{blocked}");
    let first = BASE64_STANDARD.encode(format!("n,,n=fred,r={NONCE}"));
    let blocked = early.ask(&format!("@c signin fred tool scram {first}"));
    assert!(blocked.starts_with("431 @c blocked "), "{blocked}");
    // Not from elsewhere.
    let mut fred = Program::connect(&server);
    let (last, _) = prove("fred", PASSWORD, &challenge(&mut fred, "fred"));
    assert!(auth(&mut fred, &last).starts_with("230 @a "));
}

#[test]
fn lines_behind_a_sign_in_by_scram_wait_for_it() {
    let server = Server::start(&["fred"], &[]);
    let mut first = Program::signed_in(&server, "fred", "online");
    let mut second = Program::connect(&server);
    let client_first = BASE64_STANDARD.encode(format!("n,,n=fred,r={NONCE}"));
    let reply = second.ask(&format!("signin fred online scram {client_first}"));
    let (last, _) = prove("fred", PASSWORD, reply.strip_prefix("334 ").unwrap());
    let last = BASE64_STANDARD.encode(last);
    second.0.send(format!("@1 auth {last}\n@2 ping\n@3 whoison\n").as_bytes());
    assert_eq!(second.line(), "533 @1 already-online fred");
    assert_eq!(second.line(), "264 @2 pong");
    assert_eq!(second.line(), "530 @3 signin-first");
    assert_eq!(first.line(), "112 second-signin 127.0.0.1");
    // The server's proof belongs to the sign-in that was refused, not to the next.
    let reply = second.ask(&format!("signin fred tool plain {PASSWORD}"));
    assert!(reply.starts_with("230 - fred 0 "), "{reply}");
}
