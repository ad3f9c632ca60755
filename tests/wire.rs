//! Conversations with the real program over real TCP: what people type and what they see.
#![allow(clippy::disallowed_methods)] // a clock outside bounds what the clock inside does

mod support;

use socket2::SockRef;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use support::server::{Client, Folder, PASSWORD, Server, eventually, sample_users, users_file};

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;

/// A server with the sample users, where two messages wait for fred, and francoc and Tim are
/// online.
fn when_fred_comes() -> (Server, Client, Client) {
    let folder = Folder::new();
    folder.write("users", &sample_users());
    let server = Server::start_in(folder, &[]);
    let mut libero = server.greeted();
    libero.sign_in("libero", "libero1");
    let saved = ">> fred is offline, message will be saved for future delivery";
    assert_eq!(libero.ask("send fred you here?"), saved);
    libero.sign_out();
    let mut tim = server.greeted();
    tim.sign_in("Tim", "tim1");
    assert_eq!(tim.ask("send fred can't make it :("), saved);
    let mut francoc = server.greeted();
    let welcome = francoc.sign_in("francoc", "francoc1");
    assert_eq!(welcome, ">> Welcome francoc, you have no messages waiting");
    (server, francoc, tim)
}

#[test]
fn the_first_conversation() {
    let (server, mut francoc, mut tim) = when_fred_comes();
    let mut fred = server.connect();
    assert_eq!(fred.line(), ">> Welcome to MMS.");
    assert_eq!(fred.line(), ">> Type 'signin <user>' to sign in, 'help' for the commands.");
    assert_eq!(fred.ask("send fred hi fred"), ">> You must signin first");
    fred.say("signin jimmy");
    fred.expect_prompt();
    assert_eq!(fred.ask("secret"), "", "the prompt's line ends");
    assert_eq!(fred.line(), ">> user jimmy is not authorized to use MMS");
    fred.say("signin fred");
    fred.expect_prompt();
    assert_eq!(fred.ask("fred1"), "");
    assert_eq!(fred.line(), ">> Welcome fred, you have 2 messages waiting:");
    assert_eq!(fred.line(), ">>      libero: you here?");
    assert_eq!(fred.line(), ">>      Tim: can't make it :(");
    assert_eq!(fred.ask("WhoIsOn"), ">> Users fred, francoc, and Tim are online");
    assert_eq!(fred.line(), ">> Users libero, columbia, and seas are NOT online");
    assert_eq!(fred.ask("send francoc hi franco"), ">> message sent to francoc");
    assert_eq!(francoc.line(), ">> fred: hi franco");
    assert_eq!(francoc.ask("send fred hi"), ">> message sent to fred");
    assert_eq!(fred.line(), ">> francoc: hi");
    let saved = ">> libero is offline, message will be saved for future delivery";
    assert_eq!(fred.ask("send libero yup"), saved);
    fred.say("signout");
    assert_eq!(fred.rest(), [">> user fred has signed off", ">> Thank you for using MMS!"]);

    assert_eq!(tim.ask("whoelse"), ">> User francoc is online");
    let mut libero = server.greeted();
    let welcome = libero.sign_in("libero", "libero1");
    assert_eq!(welcome, ">> Welcome libero, you have 1 message waiting:");
    assert_eq!(libero.line(), ">>      fred: yup");
}

/// What fred types in a conversation in which nobody interrupts him.
const TYPED: &str = "\
send fred hi fred
signin jimmy
secret
signin fred
fred1
WhoIsOn
send francoc hi franco
send libero yup
signout
";
/// What he sees.
const SEEN: &str = "\
>> Welcome to MMS.
>> Type 'signin <user>' to sign in, 'help' for the commands.
>> You must signin first
Password:\x20
>> user jimmy is not authorized to use MMS
Password:\x20
>> Welcome fred, you have 2 messages waiting:
>>      libero: you here?
>>      Tim: can't make it :(
>> Users fred, francoc, and Tim are online
>> Users libero, columbia, and seas are NOT online
>> message sent to francoc
>> libero is offline, message will be saved for future delivery
>> user fred has signed off
>> Thank you for using MMS!
";

#[test]
fn the_same_conversation_however_it_is_cut() {
    let want: Vec<&str> = SEEN.lines().collect();
    for line_end in ["\n", "\r\n", "\r\0"] {
        let typed = TYPED.replace('\n', line_end).into_bytes();
        for size in [1, 7, typed.len()] {
            let (server, mut francoc, _tim) = when_fred_comes();
            let mut fred = server.connect();
            for piece in typed.chunks(size) {
                // The socket sends each write at once.
                fred.send(piece);
            }
            assert_eq!(fred.rest(), want, "{line_end:?}, {size} bytes a write");
            assert_eq!(francoc.line(), ">> fred: hi franco");
        }
    }
}

#[test]
fn who_closes_his_side_still_gets_every_answer() {
    let (server, mut francoc, _tim) = when_fred_comes();
    let mut fred = server.connect();
    let typed = TYPED.strip_suffix("signout\n").unwrap();
    fred.send(typed.as_bytes());
    fred.close_write();
    let want: Vec<&str> = SEEN.lines().collect();
    assert_eq!(fred.rest(), want[..want.len() - 2]);
    assert_eq!(francoc.line(), ">> fred: hi franco");
    server.logs("fred signed off from 127.0.0.1: closed by the peer");
    let mut fred = server.greeted();
    let welcome = fred.sign_in("fred", "fred1");
    assert_eq!(welcome, ">> Welcome fred, you have no messages waiting");
    // What stands behind the last line end was never finished.
    fred.send(b"send Tim half a message");
    fred.close_write();
    assert_eq!(fred.rest(), [""; 0]);
}

#[test]
fn telnet_is_answered_as_it_should_be() {
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.greeted();
    // Ctrl-C in telnet: IP, then DO TIMING-MARK; it shows nothing until that is answered.
    fred.send(&[IAC, DO, 3, IAC, WILL, 31, IAC, DO, 3, IAC, WILL, 31, IAC, 244, IAC, DO, 6]);
    fred.send(&[IAC, 250, 24, 0, b'x', IAC, 240, IAC, DO, 6]);
    fred.send(b"he");
    fred.send(&[IAC, 241]);
    fred.say("lp signin");
    assert_eq!(fred.line(), ">> usage: signin <user> [password]");
    let once = [[IAC, WONT, 3], [IAC, DONT, 31]];
    let each_time = [[IAC, WILL, 6], [IAC, WILL, 6]];
    assert_eq!(fred.commands, [once, each_time].concat());
    fred.expect("also");
    fred.commands.clear();
    fred.raw.clear();
    fred.say("signin fred");
    fred.expect_prompt();
    assert_eq!(fred.raw, [&[IAC, WILL, 1][..], b"Password: "].concat());
    // What telnet answers to that.
    fred.send(&[IAC, DO, 1]);
    fred.raw.clear();
    fred.say(PASSWORD);
    assert_eq!(fred.line(), "");
    assert_eq!(fred.raw[..5], [IAC, WONT, 1, b'\r', b'\n']);
    fred.send(&[IAC, DONT, 1]);
    fred.expect("Welcome fred");
    assert_eq!(fred.commands, [[IAC, WILL, 1], [IAC, WONT, 1]]);
    // A byte 255 that is meant as text comes twice, and is no UTF-8.
    fred.send(&[b's', b'e', b'n', b'd', b' ', IAC, IAC, b'\n']);
    assert_eq!(fred.line(), ">> the line is not UTF-8 text; nothing was done");
}

#[test]
fn urgent_data_hides_nothing_behind_it() {
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.signed_in("fred");
    // Telnet sends its data mark so. A read stops at such a byte, here the last one, although it
    // came together with what stands before it.
    SockRef::from(&fred.stream).send_out_of_band(b"whoelse\nwhoison\n").unwrap();
    assert_eq!(fred.line(), ">> Nobody else is online");
    assert_eq!(fred.line(), ">> User fred is online");
}

#[test]
fn what_cannot_be_sent_is_refused_and_not_stored() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.signed_in("fred");
    for (line, answer) in [
        (&b"send tim \xfe\xc0\n"[..], ">> the line is not UTF-8 text; nothing was done"),
        (b"send tim \xc3\n", ">> the line is not UTF-8 text; nothing was done"),
        (b"send tim \x1b[2J\n", ">> the line holds the control character U+001B; nothing was done"),
        (b"send tim a\0b\n", ">> the line holds the control character U+0000; nothing was done"),
        (b"send tim a\rb\n", ">> the line holds the control character U+000D; nothing was done"),
        (
            "send tim \u{202e}x\n".as_bytes(),
            ">> the line holds the control character U+202E; nothing was done",
        ),
        (b"send nobody hi\n", ">> no such user: nobody; 'whoison' lists the users"),
        (b"send tin hi\n", ">> no such user: tin; did you mean tim?"),
        (b"sned tim hi\n", ">> 'sned' is no command; did you mean 'send'?"),
        (b"wholast 0\n", ">> wholast: a number of minutes is wanted, 1 to 1440"),
        (b"signout now\n", ">> signout: too many words"),
        (b"coded 1\n", ">> 'coded 1' is the only version, and it must be the first line"),
    ] {
        fred.send(line);
        let said = fred.line();
        assert!(said.starts_with(answer), "{:?}: {said}", String::from_utf8_lossy(line));
        fred.send(b"\nwhoelse\n");
        fred.expect("Nobody else is online");
    }
    for empty in ["send tim", "send tim ", "send tim   \t "] {
        assert_eq!(fred.ask(empty), ">> send: a message is missing");
        fred.expect("usage: send (");
    }
    assert_eq!(fred.ask("send"), ">> send: a user is missing");
    fred.expect("usage: send (");
    let long = format!("send tim {}", "x".repeat(2001));
    assert_eq!(fred.ask(&long), ">> the text has 2001 bytes, 2000 at most; nothing was done");
    let longer = format!("send tim {}", "x".repeat(5000));
    let answer = ">> the line is too long, 4096 bytes at most; nothing was done";
    assert_eq!(fred.ask(&longer), answer);
    let endless = format!("send tim {}", "x".repeat(500_000));
    assert_eq!(fred.ask(&endless), answer, "once");
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online", "and the session goes on");
    let longest = "x".repeat(2000);
    fred.say(&format!("send tim {longest}"));
    fred.expect("saved");
    let mut tim = server.greeted();
    let welcome = tim.sign_in("tim", PASSWORD);
    assert_eq!(welcome, ">> Welcome tim, you have 1 message waiting:");
    assert_eq!(tim.line(), format!(">>      fred: {longest}"));
}

#[test]
fn text_arrives_as_typed() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    for text in ["a:  b : c  ", "\tzażółć gęślą 👩\u{200d}🚀", "سلام\u{200f}", "(x) message >> y"]
    {
        assert_eq!(fred.ask(&format!("send tim {text}")), ">> message sent to tim");
        // The blanks between the name and the message belong to neither.
        assert_eq!(tim.line(), format!(">> fred: {}", text.trim_start()));
    }
}

#[test]
fn several_at_once_and_everyone() {
    let server = Server::start(&["fred", "tim", "seas", "libero"], &[]);
    let mut fred = server.signed_in("fred");
    assert_eq!(fred.ask("broadcast hi"), ">> Nobody else is online, message not sent");
    let (mut tim, mut seas) = (server.signed_in("tim"), server.signed_in("seas"));
    assert_eq!(
        fred.ask("send (TIM, libero tim nobody) all of you"),
        ">> message sent to tim; libero is offline, message will be saved for future delivery; \
         no such user: nobody"
    );
    assert_eq!(tim.line(), ">> fred: all of you");
    assert_eq!(fred.ask("broadcast message one"), ">> message sent to 2 users");
    assert_eq!(fred.ask("broadcast user tim libero message two").matches("saved").count(), 1);
    assert_eq!((tim.line(), seas.line()), (">> fred: one".into(), ">> fred: one".into()));
    assert_eq!(tim.line(), ">> fred: two");
    assert_eq!(seas.ask("away back at six"), ">> You are now away: back at six");
    assert_eq!(fred.ask("send seas there?"), ">> message sent to seas");
    assert_eq!(fred.line(), ">> seas: back at six (automatic reply)");
    assert_eq!(seas.line(), ">> fred: there?");
    assert_eq!(seas.ask("whoelse"), ">> You are no longer away");
    assert_eq!(seas.line(), ">> Users fred and tim are online");
    tim.sign_out();
    assert_eq!(seas.ask("wholast 5"), ">> Users fred and tim were online in the last 5 minutes");
}

#[test]
fn three_failures_block_a_name_for_an_address() {
    let server = Server::start(&["fred", "tim"], &["--block-time", "2"]);
    let mut guesser = server.greeted();
    for _ in 0..2 {
        assert_eq!(guesser.ask("signin fred x"), ">> user fred is not authorized to use MMS");
    }
    guesser.say("signin FRED y");
    assert_eq!(guesser.rest(), [">> Too many failed attempts, blocked for 2 s"]);
    let mut fred = server.greeted();
    let blocked = fred.ask(&format!("signin fred {PASSWORD}"));
    assert!(blocked.starts_with(">> user fred is blocked, "), "{blocked}");
    assert!(fred.ask("signin fred").starts_with(">> user fred is blocked, "), "no prompt");
    // Another name from there and that name from elsewhere are not concerned.
    server.signed_in("tim");
    let mut elsewhere = server.connect_from(Ipv4Addr::new(127, 0, 0, 2));
    elsewhere.expect("signin");
    elsewhere.sign_in("fred", PASSWORD);
    elsewhere.sign_out();
    let answer = eventually("the end of the block", || {
        // Each time anew, for there is a bound to what one types without signing in.
        let answer = server.greeted().ask(&format!("signin fred {PASSWORD}"));
        (!answer.contains("is blocked")).then_some(answer)
    });
    assert!(answer.starts_with(">> Welcome fred"), "{answer}");
}

#[test]
fn nobody_learns_who_exists() {
    let server = Server::start(&["fred"], &["--block-time", "100"]);
    let talk = |name: &str| {
        let mut client = server.greeted();
        client.send(format!("signin {name}\nx\nsignin {name} y\nsignin {name} z\n").as_bytes());
        client.rest().join("\n").replace(name, "NAME")
    };
    assert_eq!(talk("fred"), talk("greg"));
}

#[test]
fn who_is_idle_is_signed_off() {
    let server = Server::start(&["fred", "tim", "seas"], &["--idle-timeout", "1"]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    let mut seas = server.signed_in("seas");
    assert_eq!(seas.ask("away"), ">> You are now away: I am away");
    let start = Instant::now();
    assert_eq!(fred.rest(), [">> signed off after 1 s of inactivity"]);
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(tim.rest(), [">> signed off after 1 s of inactivity"]);
    server.logs("fred signed off from 127.0.0.1: idle");
    // Who said that he is away is not waited for.
    assert_eq!(seas.ask("whoelse"), ">> You are no longer away");
    assert_eq!(seas.line(), ">> Nobody else is online");
    assert_eq!(seas.rest(), [">> signed off after 1 s of inactivity"]);
}

#[test]
fn a_user_has_one_session() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (mut first, mut second) = (server.signed_in("fred"), server.greeted());
    let start = Instant::now();
    let answer = second.ask(&format!("signin fred {PASSWORD}"));
    assert_eq!(answer, ">> fred is already signed in");
    assert!(start.elapsed() < Duration::from_secs(5), "the first one lives, which shows at once");
    let notice = ">> somebody at 127.0.0.1 tries to sign in as fred with your password";
    assert_eq!(first.line(), notice);
    assert_eq!(first.ask("whoelse"), ">> Nobody else is online");
    // A wrong password learns nothing of that.
    assert_eq!(second.ask("signin fred x"), ">> user fred is not authorized to use MMS");
    second.sign_in("tim", PASSWORD);
    assert_eq!(first.ask("whoelse"), ">> User tim is online");
    // Whoever's connection broke is let in again.
    first.reset();
    server.logs("fred signed off from 127.0.0.1: connection lost");
    server.signed_in("fred");
}

#[test]
fn the_newer_session_wins_where_that_is_wanted() {
    let server = Server::start(&["fred", "tim"], &["--duplicate", "replace"]);
    let (mut first, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    let mut second = server.signed_in("fred");
    assert_eq!(first.rest(), [">> signed off: you signed in again from 127.0.0.1"]);
    assert_eq!(tim.ask("send fred which?"), ">> message sent to fred");
    assert_eq!(second.line(), ">> tim: which?");
}

#[test]
fn what_telnet_asks_after_the_goodbye_unsettles_nothing() {
    let server = Server::start(&["fred", "tim"], &["--idle-timeout", "1"]);
    let mut fred = server.signed_in("fred");
    fred.ask("away");
    let before = server.descriptors();
    let mut tim = server.signed_in("tim");
    fred.say("send tim read");
    fred.say("away");
    assert_eq!(tim.rest(), [">> fred: read", ">> signed off after 1 s of inactivity"]);
    // Are you there? An answer would come behind our end.
    tim.send(&[IAC, 246]);
    tim.close_write();
    eventually("tim's end", || (server.descriptors() <= before).then_some(()));
    let welcome = server.greeted().sign_in("tim", PASSWORD);
    assert_eq!(welcome, ">> Welcome tim, you have no messages waiting");
}

#[test]
fn messages_to_oneself() {
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.signed_in("fred");
    assert_eq!(fred.ask("send fred note"), ">> message sent to fred");
    assert_eq!(fred.line(), ">> fred: note");
    let server = Server::start(&["fred"], &["--no-self-send"]);
    let answer = server.signed_in("fred").ask("send fred note");
    assert_eq!(answer, ">> messages to yourself are not allowed here");
}

#[test]
fn what_was_not_surely_read_comes_again_and_says_so() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.signed_in("fred");
    fred.say("send tim one");
    fred.expect("saved");
    let mut tim = server.signed_in("tim");
    assert_eq!(tim.line(), ">>      fred: one");
    assert_eq!(fred.ask("send tim two"), ">> message sent to tim");
    assert_eq!(tim.line(), ">> fred: two");
    tim.reset();
    server.logs("tim signed off from 127.0.0.1: connection lost");
    fred.say("send tim three");
    fred.expect("saved");
    let mut tim = server.signed_in("tim");
    assert_eq!(tim.line(), ">>      (again) fred: one");
    assert_eq!(tim.line(), ">>      (again) fred: two");
    assert_eq!(tim.line(), ">>      fred: three");
    tim.sign_out();
    let mut tim = server.greeted();
    let welcome = tim.sign_in("tim", PASSWORD);
    assert_eq!(welcome, ">> Welcome tim, you have no messages waiting");
}

#[test]
fn a_timing_mark_proves_that_a_letter_was_read() {
    let server = Server::start(&["fred", "tim", "ann"], &[]);
    let mut fred = server.signed_in("fred");
    // Both speak telnet, so they are asked; only Ann answers before the connection breaks.
    for (user, answer) in [("tim", &[][..]), ("ann", &[IAC, WILL, 6])] {
        let mut reader = server.signed_in(user);
        reader.send(&[IAC, 241]);
        fred.say(&format!("send {user} one"));
        fred.expect(&format!("message sent to {user}"));
        reader.expect("fred: one");
        while reader.commands.is_empty() {
            assert!(reader.read_once());
        }
        assert_eq!(reader.commands, [[IAC, DO, 6]]);
        reader.send(answer);
        let left = usize::from(answer.is_empty());
        eventually("what the journal says", || (server.waiting(user) == left).then_some(()));
        reader.reset();
        server.logs(&format!("{user} signed off from 127.0.0.1: connection lost"));
    }
    server.signed_in("tim").expect("(again) fred: one");
    let welcome = server.greeted().sign_in("ann", PASSWORD);
    assert_eq!(welcome, ">> Welcome ann, you have no messages waiting");
}

#[test]
fn lines_sent_before_a_letter_prove_nothing() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (mut fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    // More than the server handles before his kernel is known to have the letter.
    fred.send(&b"\n".repeat(400_000));
    fred.send(b"whoelse\n");
    assert_eq!(tim.ask("send fred perhaps unread"), ">> message sent to fred");
    assert_eq!(fred.line(), ">> tim: perhaps unread");
    assert_eq!(fred.line(), ">> User tim is online");
    fred.reset();
    server.logs("fred signed off from 127.0.0.1: connection lost");
    let mut fred = server.greeted();
    let welcome = fred.sign_in("fred", PASSWORD);
    assert_eq!(welcome, ">> Welcome fred, you have 1 message waiting:");
    assert_eq!(fred.line(), ">>      (again) tim: perhaps unread");
}

#[test]
fn a_full_mailbox_refuses_and_forgets_nothing() {
    let options = ["--mailbox-letters", "3", "--mailbox-bytes", "1000"];
    let server = Server::start(&["fred", "tim", "seas"], &options);
    let mut fred = server.signed_in("fred");
    let full = ">> mailbox full: tim; not sent, try again later";
    for n in 1..=3 {
        fred.say(&format!("send tim {n}"));
        fred.expect("saved");
    }
    assert_eq!(fred.ask("send tim 4"), full);
    let big = "x".repeat(600);
    assert!(fred.ask(&format!("send (seas tim) {big}")).ends_with("; mailbox full: tim"));
    let answer = fred.ask(&format!("send seas {big}"));
    assert_eq!(answer, full.replace("tim", "seas"), "600 bytes are there and 1000 may be");
    let mut tim = server.signed_in("tim");
    for n in 1..=3 {
        assert_eq!(tim.line(), format!(">>      fred: {n}"));
    }
    // There is room again when tim's machine is known to have them, which is looked at soon.
    let answer = eventually("room in the mailbox", || {
        let answer = fred.ask("send tim 5");
        (answer != full).then_some(answer)
    });
    assert_eq!(answer, ">> message sent to tim");
    assert_eq!(tim.line(), ">> fred: 5");
}

#[test]
fn a_name_in_any_case_and_every_word_for_leaving() {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred", "Tim"]));
    let server = Server::start_in(folder, &[]);
    for word in ["signout", "logout", "logoff", "exit", "quit", "bye", "/quit", "BYE"] {
        let mut tim = server.greeted();
        assert!(tim.ask(&format!("/login tIM {PASSWORD}")).starts_with(">> Welcome Tim, "));
        tim.say(word);
        assert_eq!(tim.rest(), [">> user Tim has signed off", ">> Thank you for using MMS!"]);
        let mut nobody = server.greeted();
        nobody.say(word);
        assert_eq!(nobody.rest(), [">> Thank you for using MMS!"]);
    }
}
