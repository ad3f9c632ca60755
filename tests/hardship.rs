//! Peers that are slow, hostile or many, and what the server has left for the others meanwhile.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use mms::limits::{CHECKS_WAITING, ROUNDS_MOST, STALLED_MS};
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use support::rng::Rng;
use support::server::{Client, Folder, PASSWORD, Server, Start, eventually, user_line, users_file};

/// What a debug build and an allocator may take for themselves, in KiB.
const SLACK_KIB: u64 = 6 << 10;

/// A client whose kernel takes little that it does not read.
fn narrow(server: &Server) -> Client {
    let mut client = server.connect_with(|socket| {
        socket.set_recv_buffer_size(16 << 10).unwrap();
    });
    client.expect("signin");
    client
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.signed_in("fred");
    let before = server.memory_kib();
    let mut endless = server.greeted();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..32 {
        endless.send(&block);
    }
    endless.send(b"\n");
    assert_eq!(endless.line(), ">> the line is too long, 512 bytes at most; nothing was done");
    for _ in 0..32 {
        fred.send(&block);
    }
    fred.send(b"\n");
    assert_eq!(fred.line(), ">> the line is too long, 4096 bytes at most; nothing was done");
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < SLACK_KIB, "{grown} KiB");
    assert!(endless.ask("help").starts_with(">> help"));
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online");
}

#[test]
fn who_talks_and_does_not_sign_in_is_sent_away() {
    let server = Server::start(&["fred"], &[]);
    let mut client = server.greeted();
    for _ in 0..300 {
        client.send(b"whoison\n");
    }
    let lines = client.rest();
    let goodbye = ">> too much without signing in, goodbye; connect again and signin first";
    assert_eq!(lines.last().map(String::as_str), Some(goodbye));
    server.signed_in("fred");
}

#[test]
fn other_protocols_and_noise_do_no_harm() {
    let mut rng = Rng::from_env(1);
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.signed_in("fred");
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[9; 512]].concat();
    for (first, what) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n\r\n"[..], "no web server"),
        (b"EHLO mail.example.org\r\n", "no mail server"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no SSH server"),
        (&hello, "speaks no TLS"),
        (&[0; 64], "takes lines of text"),
    ] {
        for cut in [first.len(), 1] {
            let mut other = server.greeted();
            other.send(&first[..cut]);
            // What follows may come when the server has had enough.
            _ = other.stream.write_all(&first[cut..]);
            let answer = other.line();
            assert!(answer.starts_with(">> this is MMS, ") && answer.contains(what), "{answer}");
            assert_eq!(other.rest(), [""; 0]);
        }
    }
    // Behind a first line nothing is taken for another protocol.
    let mut typist = server.greeted();
    assert!(typist.ask("help help").contains("usage"));
    typist.send(b"\0\n\x16\x03\x01\nEHLO x\n");
    for told in ["character U+0000", "character U+0016", "'EHLO' is no command"] {
        typist.expect(told);
    }
    for _ in 0..40 {
        let mut noise = vec![0; 1 + rng.below(20_000)];
        rng.fill(&mut noise);
        let mut client = server.connect();
        // The server may have had enough before we are through.
        _ = client.stream.write_all(&noise);
        _ = client.stream.shutdown(std::net::Shutdown::Write);
        _ = client.stream.read_to_end(&mut vec![]);
        let mut session = server.connect();
        session.expect("signin");
    }
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online");
}

#[test]
fn noise_from_a_signed_in_user_does_no_harm() {
    let mut rng = Rng::from_env(2);
    let server = Server::start(&["fred", "tim"], &[]);
    let mut tim = server.signed_in("tim");
    for _ in 0..10 {
        let mut fred = server.signed_in("fred");
        let mut noise = vec![0; 60_000];
        rng.fill(&mut noise);
        _ = fred.stream.write_all(&noise);
        _ = fred.stream.shutdown(std::net::Shutdown::Write);
        _ = fred.stream.read_to_end(&mut vec![]);
        // His session is over before the next one begins.
        drop(fred);
        eventually("fred's end", || (tim.ask("whoelse").contains("Nobody")).then_some(()));
    }
}

#[test]
fn two_hundred_who_connect_and_reset() {
    let server = Server::start(&["fred"], &[]);
    let before = server.descriptors();
    for n in 0..200 {
        let mut client = server.connect();
        if n % 3 == 0 {
            client.send(b"signin fred");
        } else if n % 3 == 1 {
            client.expect("Welcome");
        }
        client.reset();
    }
    // One more may have been open at first, for the room that is made ready after the start.
    eventually("their ends", || (server.descriptors() <= before).then_some(()));
    server.signed_in("fred");
}

#[test]
fn who_breaks_the_connection_leaves_the_queue_of_checks() {
    let folder = Folder::new();
    let quick = user_line("tim", PASSWORD);
    // Its check takes minutes: all others from its address wait for it.
    let slow = user_line("slow", PASSWORD).replace("$4096:", &format!("${ROUNDS_MOST}:"));
    folder.write("users", &format!("{quick}{slow}"));
    let server = Server::start_in(folder, &["--trusted", "none"]);
    // One address has not places enough. The checks of three leave one of the four that may be
    // under way to Tim.
    let mut addresses = [1, 2, 3].into_iter().cycle();
    let mut try_slow = || {
        let mut client = server.connect_from(Ipv4Addr::new(127, 0, 1, addresses.next().unwrap()));
        client.expect("signin");
        client.say("signin slow guess");
        client
    };
    let mut trying: Vec<Client> = (0..CHECKS_WAITING + 3).map(|_| try_slow()).collect();
    let mut tims = (1..=255).cycle();
    let mut busy = || {
        let mut tim = server.connect_from(Ipv4Addr::new(127, 0, 2, tims.next().unwrap()));
        tim.expect("signin");
        let answer = tim.ask(&format!("signin tim {PASSWORD}"));
        assert!(answer.contains("too many sign-ins") || answer.contains("Welcome tim"), "{answer}");
        answer.contains("too many sign-ins")
    };
    eventually("the queue is full", || busy().then_some(()));
    // Who has only closed his side still wants the answer.
    trying[1].close_write();
    assert!(busy());
    if let Some(gone) = trying.pop() {
        gone.reset();
    }
    eventually("a place in the queue", || (!busy()).then_some(()));
}

#[test]
fn a_thousand_users_at_once() {
    let names: Vec<String> = (0..1000).map(|n| format!("user{n}")).collect();
    let server = Server::start(&names, &[]);
    let mut clients: Vec<Client> = names.iter().map(|_| server.connect()).collect();
    for (client, name) in clients.iter_mut().zip(&names) {
        client.say(&format!("signin {name} {PASSWORD}"));
    }
    for client in &mut clients {
        client.expect("no messages waiting");
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.say(&format!("send user{} from {n}", (n + 1) % 1000));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let mut lines = [client.line(), client.line()];
        lines.sort();
        let (to, from) = ((n + 1) % 1000, (n + 999) % 1000);
        let want = [format!(">> message sent to user{to}"), format!(">> user{from}: from {from}")];
        assert_eq!(lines, want);
    }
    assert_eq!(clients[0].ask("broadcast all"), ">> message sent to 999 users");
    for client in &mut clients[1..] {
        assert_eq!(client.line(), ">> user0: all");
    }
    clients[0].ask("whoison");
    let before = server.cpu_ticks();
    let start = Instant::now();
    // Nothing happens, and that costs nothing: the one wait of these tests that is no bound.
    std::thread::sleep(Duration::from_secs(1));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= 10, "{ticks} ticks in {:?} for idle connections", start.elapsed());
}

/// Reads letters up to the answer to `whoelse`, which is asked behind them.
fn read_numbers(reader: &mut Client, count: usize) -> Vec<(bool, usize)> {
    let mut numbers = vec![];
    while numbers.len() < count {
        let line = reader.line();
        let words: Vec<&str> = line.split_whitespace().collect();
        let again = words[1] == "(again)";
        assert_eq!(words[1 + usize::from(again)], "fred:", "{line:.80}");
        numbers.push((again, words[2 + usize::from(again)].parse().unwrap()));
    }
    numbers
}

#[test]
fn a_reader_who_never_reads_loses_nothing_and_harms_nobody() {
    const LETTERS: usize = 12_000;
    let room = ["--mailbox-letters", "100000", "--mailbox-bytes", "100000000"];
    let server = Server::start(&["fred", "tim", "seas"], &room);
    let mut tim = narrow(&server);
    tim.sign_in("tim", PASSWORD);
    let mut seas = server.signed_in("seas");
    let fred = server.signed_in("fred");
    let before = server.memory_kib();
    let mut typing = fred.stream.try_clone().unwrap();
    let mut fred = fred;
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let filler = "x".repeat(1900);
            for n in 0..LETTERS {
                typing.write_all(format!("send tim {n} {filler}\n").as_bytes()).unwrap();
            }
        });
        let mut sent = 0;
        while sent < LETTERS {
            assert_eq!(fred.line(), ">> message sent to tim");
            sent += 1;
            if sent % 400 == 0 {
                let start = Instant::now();
                assert!(seas.ask("send seas still served").contains("message sent"));
                assert_eq!(seas.line(), ">> seas: still served");
                slowest = slowest.max(start.elapsed());
            }
        }
    });
    println!("the slowest answer to another took {slowest:?}");
    let grown = server.peak_memory_kib().saturating_sub(before);
    println!("{LETTERS} letters of 1,9 KiB took {grown} KiB of memory");
    assert!(grown < SLACK_KIB + LETTERS as u64 / 5, "{grown} KiB");
    tim.reset();
    server.logs("tim signed off from 127.0.0.1: connection lost");
    let mut tim = server.greeted();
    let welcome = tim.sign_in("tim", PASSWORD);
    assert_eq!(welcome, format!(">> Welcome tim, you have {LETTERS} messages waiting:"));
    let numbers = read_numbers(&mut tim, LETTERS);
    assert!(numbers.iter().map(|&(_, n)| n).eq(0..LETTERS), "all, in order");
    let shown = numbers.iter().take_while(|&&(again, _)| again).count();
    println!("{shown} had been shown before");
    assert!(shown > 0 && shown < LETTERS);
    assert!(numbers[shown..].iter().all(|&(again, _)| !again));
    // An empty line is enough to say that they were read.
    tim.sign_out();
    let welcome = server.greeted().sign_in("tim", PASSWORD);
    assert_eq!(welcome, ">> Welcome tim, you have no messages waiting");
}

#[test]
fn who_does_not_read_his_answers_is_not_read_either() {
    let server = Server::start(&["fred", "tim"], &[]);
    let mut tim = server.signed_in("tim");
    let before = server.memory_kib();
    let mut fred = narrow(&server);
    fred.sign_in("fred", PASSWORD);
    fred.stream.set_nonblocking(true).unwrap();
    // Each asks for much more than it is. First they are few, so that the kernel goes on taking
    // answers long after his window has closed, and is the first to give him up.
    let few = b"help\n".repeat(40);
    let questions = b"help\n".repeat(10_000);
    let start = Instant::now();
    let (mut taken, mut next) = (0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(5) {
        let begins = start.elapsed() < Duration::from_secs(3);
        if !begins || start.elapsed() >= next {
            next += Duration::from_millis(100);
            taken += fred.stream.write(if begins { &few } else { &questions }).unwrap_or(0);
        }
        assert_eq!(tim.ask("whoelse"), ">> User fred is online");
    }
    let grown = server.peak_memory_kib().saturating_sub(before);
    println!("{taken} bytes of questions taken, {grown} KiB more memory");
    assert!(grown < SLACK_KIB, "{grown} KiB");
    // Whoever's clock it was.
    let words = "fred signed off from 127.0.0.1: took no output";
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(STALLED_MS) && !server.log().contains(words) {
        std::thread::sleep(Duration::from_millis(50));
    }
    server.logs(words);
}

/// A number of connections that the server does not serve, and its state.
fn refused(server: &Server, count: usize) -> (Vec<Client>, usize) {
    let mut greeted = vec![];
    let mut refused = 0;
    for _ in 0..count {
        let mut client = server.connect();
        match client.next_line().as_deref() {
            Some(">> Welcome to MMS.") => greeted.push(client),
            Some(">> MMS is full, try again later") => {
                assert_eq!(client.rest(), [""; 0]);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (greeted, refused)
}

#[test]
fn too_many_connections_are_told_so() {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    // 64 of them are not for connections.
    let server = Server::start_as(folder, Start { descriptors: Some(80), ..Start::default() });
    let (mut greeted, full) = refused(&server, 120);
    assert_eq!((greeted.len(), full), (16, 104));
    greeted.pop().unwrap().reset();
    let start = Instant::now();
    eventually("a place", || {
        let mut client = server.connect();
        client.next_line().unwrap().contains("Welcome").then_some(())
    });
    println!("it took {:?}", start.elapsed());
}

#[test]
fn descriptors_used_up_are_waited_for_without_spinning() {
    let server = Server::start(&["fred"], &[]);
    // Fewer than it believes to have.
    if !server.limit_descriptors(Some(10)) {
        return;
    }
    let mut inside: Vec<Client> = (0..10).map(|_| server.greeted()).collect();
    // The kernel takes these, the server cannot.
    let mut outside: Vec<Client> = (0..110).map(|_| server.connect()).collect();
    server.logs("cannot accept a connection now");
    let before = server.cpu_ticks();
    // Long enough for a spinning server to show.
    std::thread::sleep(Duration::from_millis(2500));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks <= 10, "{ticks} ticks of CPU while it can only wait");
    assert!(inside[1].ask("help").contains("help"), "the others are served");
    inside.truncate(5);
    let start = Instant::now();
    for client in &mut outside[..5] {
        client.expect("signin");
    }
    println!("it took {:?}", start.elapsed());
    drop(inside);
    let mut served = 5;
    while served < outside.len() {
        outside[served].expect("signin");
        served += 1;
        // Who has been served makes room for the next.
        outside[served - 5..served].iter().for_each(|client| {
            _ = client.stream.shutdown(std::net::Shutdown::Both);
        });
    }
}

#[test]
fn a_flood_of_commands_delays_others_little() {
    let server = Server::start(&["fred", "tim"], &["--mailbox-letters", "1000000"]);
    let mut fred = server.signed_in("fred");
    let mut tim = server.signed_in("tim");
    let mut typing = fred.stream.try_clone().unwrap();
    let reading = &mut fred;
    std::thread::scope(|scope| {
        scope.spawn(move || typing.write_all(&b"send fred x\n".repeat(10_000)).unwrap());
        scope.spawn(move || {
            for _ in 0..20_000 {
                assert!(reading.line().starts_with(">> "));
            }
        });
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let start = Instant::now();
            assert!(tim.ask("whoelse").contains("fred"));
            slowest = slowest.max(start.elapsed());
        }
        println!("the slowest answer took {slowest:?}");
    });
}
