//! Those who come to harm the server or its users, and what it costs everybody else: the real
//! program, with strangers from many addresses of the loopback.

mod support;

use mms::limits::{
    ACCEPTS_A_TURN, NEW_AT_ONCE, UNSIGNED_BEGIN, UNSIGNED_FULL, UNSIGNED_OF_ONE, WORK_A_TURN,
};
use socket2::SockRef;
use std::io::Write as _;
use std::net::Ipv4Addr;
use support::server::{Client, PASSWORD, Server, eventually};

/// Only this machine's usual address is trusted: all others of the loopback are strangers.
const STRANGERS: [&str; 2] = ["--trusted", "127.0.0.1"];

/// The n-th address that is a stranger's.
fn stranger(n: usize) -> Ipv4Addr {
    let [_, a, b, c] = u32::try_from(n + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1 + a, b, c)
}

/// What a stranger is greeted with: somebody who is connected, or why he is not.
fn enter(server: &Server, from: Ipv4Addr) -> Result<Client, String> {
    let mut client = server.connect_from(from);
    match client.line().strip_prefix(">> ") {
        Some("Welcome to MMS.") => {
            client.expect("signin");
            Ok(client)
        }
        Some(refused) => {
            assert_eq!(client.rest(), [""; 0], "it is closed at once");
            Err(refused.into())
        }
        None => panic!("an odd greeting"),
    }
}

/// The log has one line with `text`, which may be written a moment after those concerned know.
fn logs_once(server: &Server, text: &str) {
    server.logs(text);
    assert_eq!(logged(server, text), 1, "{text}");
}

/// How many lines of the log have `text`; those are left out that count further events.
fn logged(server: &Server, text: &str) -> usize {
    server.log().lines().filter(|line| line.contains(text) && !line.ends_with(" more")).count()
}

#[test]
fn one_address_that_signs_nobody_in_has_so_many_places() {
    let server = Server::start(&["fred"], &STRANGERS);
    let most = usize::try_from(UNSIGNED_OF_ONE).unwrap();
    let mut inside: Vec<Client> = (0..most).map(|_| enter(&server, stranger(1)).unwrap()).collect();
    for _ in 0..50 {
        let told = enter(&server, stranger(1)).err().expect("there is no place");
        let words = "32 connections from your address have not signed in; signin on one of them \
                     or close it, then try again";
        assert_eq!(told, words);
    }
    assert!(enter(&server, stranger(2)).is_ok(), "the next address has places of its own");
    for _ in 0..2 * most {
        server.connect();
    }
    server.signed_in("fred").sign_out();
    // Who signs in makes room, and needs no place while the session lasts.
    inside[0].sign_in("fred", PASSWORD);
    inside.push(enter(&server, stranger(1)).unwrap());
    assert!(enter(&server, stranger(1)).is_err());
    // Who goes makes room, too.
    inside.pop().unwrap().reset();
    eventually("a place", || enter(&server, stranger(1)).ok());
    // A flood of connections is no flood of lines.
    logs_once(&server, ": many of its network have not signed in");
    logs_once(&server, &format!("[security] connection-refused from {}: ", stranger(1)));
}

#[test]
fn one_address_may_come_so_often() {
    let server = Server::start(&["fred"], &STRANGERS);
    let mut came = 0;
    let told = loop {
        // As scripts do that have a password: nothing of it is a fault.
        let mut client = match enter(&server, stranger(1)) {
            Ok(client) => client,
            Err(told) => break told,
        };
        client.send(format!("signin fred {PASSWORD}\nsignout\n").as_bytes());
        client.expect("Thank you");
        came += 1;
        assert!(came < 100 * NEW_AT_ONCE, "there is no end to it");
    };
    assert_eq!(told, "too many new connections from your address, try again in a minute");
    assert!(came >= NEW_AT_ONCE, "{came}");
    server.signed_in("fred");
    assert!(enter(&server, stranger(2)).is_ok());
}

#[test]
fn who_fails_again_and_again_is_turned_away_before_anything_else() {
    let server = Server::start(&["fred", "tim"], &STRANGERS);
    let mut fred = enter(&server, stranger(1)).unwrap();
    fred.sign_in("fred", PASSWORD);
    let mut failed = 0;
    let told = loop {
        let mut guesser = match enter(&server, stranger(1)) {
            Ok(client) => client,
            Err(told) => break told,
        };
        // Each time another name: the lockout does not bite.
        let answer = guesser.ask(&format!("signin nobody{failed} guess"));
        assert!(answer.ends_with("is not authorized to use MMS"), "{answer}");
        guesser.sign_out();
        failed += 1;
        // At a second each, as if nothing had been tried, it would be fifteen.
        assert!(failed < 10, "it costs too little");
    };
    let words = "too many connections from your address did not sign in, try again in ";
    let left = told.strip_prefix(words).and_then(|rest| rest.strip_suffix(" s"));
    let left: u64 = left.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    assert!(failed >= 3 && (1..=5 * failed).contains(&left), "{failed} cost {left} s");
    // Nobody else pays for it, and who is inside stays.
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online");
    enter(&server, stranger(2)).unwrap().sign_in("tim", PASSWORD);
    logs_once(&server, ": its network has a penalty");
}

#[test]
fn trusted_peers_may_fail_as_often_as_they_like_but_for_the_lockout() {
    let server = Server::start(&["fred"], &[]);
    for n in 0..40 {
        let mut script = server.greeted();
        assert!(script.ask(&format!("signin nobody{n} x")).contains("not authorized"));
        // And go without a word.
        drop(script);
    }
    let mut guesser = server.greeted();
    for _ in 0..2 {
        assert!(guesser.ask("signin fred x").contains("not authorized"));
    }
    assert!(guesser.ask("signin fred x").contains("Too many failed attempts"));
    let blocked = server.greeted().ask(&format!("signin fred {PASSWORD}"));
    assert!(blocked.contains("fred is blocked"), "{blocked}");
    assert_eq!(logged(&server, "refused"), 0);
}

#[test]
fn a_crowd_that_never_signs_in_leaves_places_for_those_who_do() {
    let server = Server::start(&["fred", "tim"], &STRANGERS);
    let (mut inside, mut dropped) = (vec![], 0);
    for n in 0..700 {
        match enter(&server, stranger(n)) {
            Ok(client) => inside.push(client),
            Err(told) => {
                assert_eq!(told, "MMS is busy with newcomers, try again later");
                dropped += 1;
            }
        }
        if inside.len() < UNSIGNED_BEGIN {
            assert_eq!(dropped, 0, "there was room");
        }
    }
    assert!(dropped > 50 && inside.len() > UNSIGNED_BEGIN && inside.len() < UNSIGNED_FULL);
    server.signed_in("fred");
    let tim = eventually("a stranger who tries again", || enter(&server, stranger(1000)).ok());
    let mut tim = tim;
    tim.sign_in("tim", PASSWORD);
    logs_once(&server, ": many have not signed in");
    // When the crowd is gone everybody gets in.
    drop(inside);
    for n in 0..20 {
        eventually("a place for all", || enter(&server, stranger(2000 + n)).ok());
    }
}

#[test]
fn the_lockout_is_no_weapon() {
    let server = Server::start(&["fred"], &STRANGERS);
    for n in 0..1000 {
        let mut enemy = enter(&server, stranger(n)).unwrap();
        enemy.send(&b"signin fred guess\n".repeat(3));
        enemy.expect("Too many failed attempts");
    }
    let blocked = enter(&server, stranger(7)).unwrap().ask(&format!("signin fred {PASSWORD}"));
    assert!(blocked.contains("user fred is blocked"), "{blocked}");
    enter(&server, stranger(5000)).unwrap().sign_in("fred", PASSWORD);
}

/// Signs in as a program does, to a session that is present.
fn coded(server: &Server, name: &str) -> Client {
    let mut client = server.greeted();
    client.say("coded 1");
    client.expect("200 coded 1");
    client.say(&format!("signin {name} online plain {PASSWORD}"));
    client.expect("230 ");
    client
}

#[test]
fn texts_that_never_end_do_not_fill_the_memory() {
    let names: Vec<String> = (0..60).map(|n| format!("u{n}")).collect();
    let server = Server::start(&names, &[&STRANGERS[..], &["--buffers", "1"]].concat());
    let mut idle = server.signed_in("u0");
    let mut small = coded(&server, "u1");
    small.send(b"send u0 {5}\r\nhe");
    let before = server.memory_kib();
    let mut hogs = vec![];
    for name in &names[2..] {
        let mut hog = coded(&server, name);
        hog.say("send u0 {65536}");
        // It may be closed meanwhile.
        _ = hog.stream.write_all(&[b'x'; 60_000]);
        hogs.push(hog);
        assert_eq!(idle.ask("help send").split(':').next(), Some(">> usage"));
        idle.expect("also:");
    }
    server.logs("memory ran short");
    assert!(logged(&server, "memory ran short") < hogs.len(), "no more go than must");
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 6 << 10, "{grown} KiB");
    // Some may not hear it over the reset that answers what they still sent.
    let log = server.log();
    let gone = |name: &String| log.contains(&format!("{name} signed off from 127.0.0.1: memory"));
    let mut gone = hogs.iter_mut().zip(&names[2..]).filter(|(_, name)| gone(name));
    assert!(gone.any(|(hog, _)| hog.next_line().as_deref() == Some("190 overload")));
    // Those who held little are served on.
    small.send(b"llo\r\n");
    assert!(small.line().contains("sent u0"));
    assert_eq!(idle.line(), ">> u1: hello");
}

#[test]
fn strangers_wait_outside_while_memory_is_short_and_others_need_not() {
    let names: Vec<String> = (0..30).map(|n| format!("u{n}")).collect();
    let server = Server::start(&names, &[&STRANGERS[..], &["--buffers", "1"]].concat());
    // Each holds less than a thirtieth; together they are between 80 and 100 of a hundred.
    let mut hogs = vec![];
    let told = loop {
        let mut hog = coded(&server, &names[hogs.len()]);
        hog.say("send u0 {60000}");
        hog.send(&[b'x'; 30_000]);
        hogs.push(hog);
        // What was sent has been read when somebody else is answered twice.
        server.greeted().ask("help help");
        if let Err(told) = enter(&server, stranger(hogs.len())) {
            break told;
        }
        assert!(hogs.len() < names.len(), "memory never ran short");
    };
    assert_eq!(told, "MMS runs short of memory, try again later");
    server.greeted();
    assert_eq!(logged(&server, "memory ran short"), 0, "nobody had to go for it");
    drop(hogs);
    eventually("room", || enter(&server, stranger(99)).ok());
}

#[test]
fn who_is_closed_for_want_of_memory_keeps_his_messages() {
    let names: Vec<String> = (0..12).map(|n| format!("u{n}")).collect();
    let server = Server::start(&[&names[..], &["fred".into()]].concat(), &["--buffers", "1"]);
    let mut fred = server.signed_in("fred");
    let mut readers = vec![];
    let questions = b"help\n".repeat(1000);
    for name in &names {
        let mut reader = server.connect_with(|socket| {
            socket.set_recv_buffer_size(4 << 10).unwrap();
        });
        reader.expect("signin");
        reader.sign_in(name, PASSWORD);
        reader.stream.set_nonblocking(true).unwrap();
        // He asks and takes no answers, until nobody listens to him any more.
        let mut deaf = 0;
        while deaf < 10 {
            deaf = if reader.stream.write(&questions).is_ok() { 0 } else { deaf + 1 };
            fred.ask("whoelse");
        }
        readers.push(reader);
        let sent = fred.ask(&format!("send {name} hi"));
        assert!(sent.ends_with(&format!("to {name}")) || sent.contains("saved"), "{sent}");
        if server.log().contains("memory ran short") {
            break;
        }
    }
    server.logs("memory ran short");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("memory ran short")).unwrap();
    let name = line.split_whitespace().find(|word| names.iter().any(|name| name == word));
    let name = name.expect("who it was");
    eventually("his sign-in", || {
        let mut again = server.greeted();
        let welcome = again.ask(&format!("signin {name} {PASSWORD}"));
        welcome.ends_with("you have 1 message waiting:").then(|| again.expect("fred: hi"))
    });
}

#[test]
fn a_turn_has_an_end_whatever_one_asks_for() {
    const READERS: usize = 300;
    let names: Vec<String> = (0..READERS).map(|n| format!("u{n}")).collect();
    let server = Server::start(&[&names[..], &["fred".into()]].concat(), &[]);
    let mut readers: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    let mut fred = server.signed_in("fred");
    // One write, so that one turn may read them all.
    fred.send(&b"broadcast hi\n".repeat(128));
    for _ in 0..128 {
        assert_eq!(fred.line(), format!(">> message sent to {READERS} users"));
    }
    for reader in &mut readers {
        for _ in 0..128 {
            reader.expect("fred: hi");
        }
    }
    // A turn's commands of one kind are one line of the log.
    let most = WORK_A_TURN.div_ceil(READERS);
    let log = server.log();
    let turns: Vec<usize> = log
        .lines()
        .filter_map(|line| line.split_once("fred: broadcast")?.1.trim().strip_prefix('x'))
        .map(|count| count.parse().unwrap())
        .collect();
    println!("{turns:?} in a turn");
    assert!(turns.iter().all(|&count| count <= most), "{turns:?} where {most} are a turn's");
}

#[test]
fn who_asks_for_much_waits_for_those_who_ask_for_little() {
    const READERS: usize = 300;
    const LOUD: usize = 12;
    let names: Vec<String> = (0..READERS).map(|n| format!("u{n}")).collect();
    let loud: Vec<String> = (0..LOUD).map(|n| format!("loud{n}")).collect();
    let server = Server::start(&[&names[..], &loud[..], &["fred".into()]].concat(), &[]);
    let _readers: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    let mut shouting: Vec<Client> = loud.iter().map(|name| server.signed_in(name)).collect();
    let mut fred = server.signed_in("fred");
    // All of it is there when the server looks, and fred's line is the last to come.
    server.signal("STOP");
    for client in &mut shouting {
        client.send(&b"broadcast hi\n".repeat(40));
    }
    fred.say("wholast 1");
    server.signal("CONT");
    fred.expect("in the last minute");
    server.logs("fred: wholast");
    let log = server.log();
    let before = log.split("fred: wholast").next().unwrap();
    let shouted: Vec<usize> = before
        .lines()
        .filter_map(|line| line.split_once(": broadcast").filter(|(who, _)| who.contains("loud")))
        .map(|(_, count)| count.trim().strip_prefix('x').map_or(1, |n| n.parse().unwrap()))
        .collect();
    println!("{shouted:?}");
    assert!(shouted.iter().all(|&count| count <= 8), "{shouted:?} where 4 are a share");
    assert!(shouted.len() <= 2 * LOUD, "fred waits a turn or two: {shouted:?}");
    for client in &mut shouting {
        for _ in 0..40 {
            client.expect("message sent to");
        }
    }
}

#[test]
fn a_long_text_for_many_does_not_lie_in_memory_for_each() {
    const READERS: usize = 400;
    let names: Vec<String> = (0..READERS).map(|n| format!("u{n}")).collect();
    let server = Server::start(&[&names[..], &["fred".into()]].concat(), &[]);
    let mut readers: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    let mut fred = coded(&server, "fred");
    let before = server.peak_memory_kib();
    let text = "x".repeat(60_000);
    fred.send(format!("broadcast {{{}}}\r\n{text}\r\n", text.len()).as_bytes());
    assert!(fred.line().starts_with("252 "));
    for reader in &mut readers {
        reader.expect("fred: x");
    }
    let grown = server.peak_memory_kib().saturating_sub(before);
    println!("{grown} KiB more, for {} KiB of text in all", READERS * text.len() / 1024);
    assert!(grown < 8 << 10, "{grown} KiB");
}

#[test]
fn a_broadcast_names_a_hundred_full_mailboxes_and_counts_the_others() {
    const READERS: usize = 130;
    let names: Vec<String> = (0..READERS).map(|n| format!("u{n:03}")).collect();
    let users = [&names[..], &["fred".into(), "tim".into()]].concat();
    let server = Server::start(&users, &["--mailbox-letters", "1"]);
    let mut fred = server.signed_in("fred");
    for name in &names {
        fred.say(&format!("send {name} x"));
        fred.expect("saved");
    }
    // They are here, but have not said that they read it: it is in their mailbox still.
    let readers: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut reader = server.greeted();
            reader.say("coded 1");
            reader.expect("200 ");
            reader.say(&format!("signin {name} online plain {PASSWORD}"));
            reader.expect("230 ");
            reader
        })
        .collect();
    let mut answer = fred.ask("broadcast hi");
    assert!(answer.starts_with(">> message sent to 0 users; mailbox full: u000, "), "{answer}");
    assert!(answer.ends_with(", u099, and 30 more"), "{answer}");
    let mut tim = coded(&server, "tim");
    tim.say("broadcast hi");
    answer = tim.line();
    assert!(answer.contains(" full=u000,") && answer.ends_with(",u099 more=30"), "{answer}");
    server.logs("tim: limit reached: mailbox full");
    // What bites again and again within a turn is one line and a number.
    fred.send(&b"send u000 x\n".repeat(100));
    for _ in 0..100 {
        fred.expect("mailbox full: u000");
    }
    let bites = || {
        let log = server.log();
        let bites =
            log.lines().filter_map(|line| line.split_once("fred: limit reached: mailbox full"));
        let counts =
            bites.map(|(_, count)| count.strip_prefix(" x").map_or(1, |n| n.parse().unwrap()));
        counts.collect::<Vec<usize>>()
    };
    eventually("all bites", || (bites().iter().sum::<usize>() == 101).then_some(()));
    assert!(bites().len() < 20, "{:?}", bites());
    drop(readers);
}

/// What is refused because it is too much is told to whoever asked for it, and to the log.
#[test]
fn a_limit_that_bites_says_so_in_the_log_too() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut fred = server.signed_in("fred");
    let list = (0..101).map(|n| format!("u{n} ")).collect::<String>();
    for (line, told, logged) in [
        ("x".repeat(4097), "the line is too long", "line too long"),
        (format!("send tim {}", "x".repeat(2001)), "the text has 2001 bytes", "message too long"),
        (format!("away {}", "x".repeat(401)), "the text has 401 bytes", "message too long"),
        (format!("send ({list}) hi"), "100 users", "list too long"),
        (format!("passwd {} secret2", "x".repeat(257)), "the password", "password too long"),
    ] {
        fred.say(&line);
        fred.expect(told);
        server.logs(&format!("fred: limit reached: {logged}"));
    }
    let mut stranger = server.greeted();
    assert!(stranger.ask(&"x".repeat(513)).contains("the line is too long, 512 bytes"));
    server.logs("WARN ] limit reached: line too long");
}

#[test]
fn a_reload_signs_off_all_who_changed_and_nobody_else() {
    let names: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    let server = Server::start(&names, &[]);
    let mut all: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    all[199].say("notify on");
    all[199].expect("You are told");
    let users = server.folder.read("users");
    let other = support::server::user_line("x", "another");
    let other = other.strip_prefix("x:").unwrap();
    let edited: String = users
        .lines()
        .enumerate()
        .filter(|(n, _)| *n >= 50)
        .map(|(n, line)| match n {
            50..100 => format!("u{n}:{other}"),
            _ => format!("{line}\n"),
        })
        .collect();
    server.folder.write("users", &edited);
    server.signal("HUP");
    for (n, client) in all.iter_mut().enumerate().take(100) {
        let why = if n < 50 { "this user was removed" } else { "the password was changed" };
        client.expect(why);
        assert_eq!(client.rest(), [""; 0]);
    }
    for n in 0..100 {
        all[199].expect(&format!("u{n} has signed off"));
    }
    assert!(all[150].ask("whoelse").contains("Users u100, "));
}

#[test]
fn a_stop_tells_each_once() {
    let names: Vec<String> = (0..50).map(|n| format!("u{n}")).collect();
    let mut server = Server::start(&names, &[]);
    let mut all: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    for client in &mut all {
        client.ask("notify on");
    }
    assert!(server.terminate().success());
    for client in &mut all {
        // Those who left before are not told of: it would be 50 times 49 lines.
        assert_eq!(client.rest(), [">> MMS is shutting down"]);
    }
}

#[test]
fn a_reset_reader_and_a_narrow_one_leave_no_place_taken() {
    let server = Server::start(&["fred"], &STRANGERS);
    for n in 0..300 {
        let client = server.connect_from(stranger(n));
        match n % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                SockRef::from(&client.stream).shutdown(std::net::Shutdown::Write).unwrap();
            }
        }
    }
    // All places are free again: no newcomer is dropped.
    let inside: Vec<Client> = (0..UNSIGNED_BEGIN)
        .map(|n| eventually("a place", || enter(&server, stranger(1000 + n)).ok()))
        .collect();
    assert_eq!(logged(&server, ": many have not signed in"), 0);
    drop(inside);
}

#[test]
fn nobody_hears_what_was_meant_for_who_had_the_place_before() {
    let server = Server::start(&["fred", "tim"], &[]);
    let (fred, mut tim) = (server.signed_in("fred"), server.signed_in("tim"));
    tim.ask("notify on");
    server.signal("STOP");
    // That fred goes is still told to tim, who goes as well; more come than are let in at once, so
    // that some are when the two places are free.
    fred.reset();
    tim.reset();
    let mut crowd: Vec<Client> = (0..2 * ACCEPTS_A_TURN).map(|_| server.connect()).collect();
    server.signal("CONT");
    for one in &mut crowd {
        assert_eq!(one.line(), ">> Welcome to MMS.");
    }
}
