//! Peers who mean harm: slow ones, endless ones, too many of them, a reader who takes nothing, and
//! those who guess. What is looked at is what everybody else has of it.

use crate::campaign::{Skip, Tally};
use crate::support::server::{Client, Folder, PASSWORD, Server, Start, eventually, users_file};
use mms::limits::{MAX_FAILURES, SIGNIN_MS};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// All addresses of the loopback but the usual one are strangers'.
const STRANGERS: [&str; 2] = ["--trusted", "127.0.0.1"];
/// What a debug build and an allocator may take for themselves, in KiB.
const SLACK_KIB: u64 = 6 << 10;

fn stranger(n: usize) -> Ipv4Addr {
    let [_, a, b, c] = u32::try_from(n + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1 + a, b, c)
}

/// Whether the server has ended the connection.
fn is_over(client: &mut Client) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match client.stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// So many who send a byte now and then and never a line, and one who wants to sign in.
pub fn slow(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let server = Server::start(&["fred"], &STRANGERS);
    // Twenty of each address, so that early drop is what meets them.
    let mut slow: Vec<Client> = (0..count).map(|n| server.connect_from(stranger(n / 20))).collect();
    for client in &slow {
        client.stream.set_nonblocking(true).unwrap();
    }
    let (start, mut took) = (Instant::now(), vec![]);
    let (mut most, mut next) = (0, Instant::now());
    let patience = Duration::from_millis(SIGNIN_MS) + Duration::from_secs(30);
    while !slow.is_empty() && start.elapsed() < patience {
        if next <= Instant::now() {
            slow.retain_mut(|client| !is_over(client) && client.stream.write(b"s").is_ok());
            most = most.max(slow.len());
            next += Duration::from_secs(2);
        }
        let begin = Instant::now();
        let mut fred = server.connect();
        fred.say(&format!("signin fred {PASSWORD}"));
        fred.expect("Welcome fred");
        took.push(begin.elapsed());
        fred.sign_out();
        std::thread::sleep(Duration::from_millis(20));
    }
    tally.holds(slow.is_empty(), || format!("{} are inside after {patience:?}", slow.len()));
    tally.holds(most >= count.min(256), || format!("only {most} came in"));
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    tally.holds(p99 <= Duration::from_millis(100), || format!("a sign-in took {p99:?} (p99)"));
    tally.cycles = count;
    tally.notes.push(format!(
        "{most} inside, all gone after {} s; {} sign-ins meanwhile, p99 {} ms",
        start.elapsed().as_secs(),
        took.len(),
        p99.as_millis()
    ));
    Ok(())
}

/// So many MiB without a line end, before the sign-in and behind it.
pub fn endless(mebibytes: usize, tally: &mut Tally) -> Result<(), Skip> {
    let server = Server::start(&["fred"], &[]);
    let mut fred = server.signed_in("fred");
    let before = server.memory_kib();
    let mut nobody = server.greeted();
    let block = vec![b'x'; 1 << 20];
    for (client, most) in [(&mut nobody, 512), (&mut fred, 4096)] {
        for _ in 0..mebibytes {
            client.send(&block);
            tally.cycles += 1;
        }
        client.send(b"\n");
        let told = client.line();
        let want = format!(">> the line is too long, {most} bytes at most; nothing was done");
        tally.holds(told == want, || told.clone());
    }
    let grown = server.peak_memory_kib().saturating_sub(before);
    tally.holds(grown < SLACK_KIB, || format!("it took {grown} KiB of memory"));
    tally.notes.push(format!("{grown} KiB of memory"));
    Ok(())
}

/// 500 connections where there are descriptors for 64, so many times.
pub fn crowded(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    let server = Server::start_as(folder, Start { descriptors: Some(128), ..Start::default() });
    for _ in 0..count {
        let all: Vec<Client> = (0..500).map(|_| server.connect()).collect();
        let (mut inside, mut told) = (vec![], 0);
        for mut client in all {
            match client.next_line().as_deref() {
                Some(">> Welcome to MMS.") => inside.push(client),
                Some(">> MMS is full, try again later") => told += 1,
                other => tally.unexpected(format!("{other:?}")),
            }
        }
        tally.holds(inside.len() == 64 && told == 436, || format!("{} in", inside.len()));
        let ticks = server.cpu_ticks();
        std::thread::sleep(Duration::from_secs(1));
        let ticks = server.cpu_ticks() - ticks;
        tally.holds(ticks <= 5, || format!("{ticks} ticks of CPU for nothing"));
        // One goes, and the next one gets in within a second.
        if let Some(gone) = inside.pop() {
            gone.reset();
        }
        let start = Instant::now();
        eventually("a place", || {
            server.connect().next_line().unwrap_or_default().contains("Welcome").then_some(())
        });
        let took = start.elapsed();
        tally.holds(took < Duration::from_secs(1), || format!("a place was free after {took:?}"));
        drop(inside);
        eventually("their ends", || (server.descriptors() < 40).then_some(()));
        tally.cycles += 1;
    }
    Ok(())
}

/// A reader who takes nothing, and a hundred who write to him: so many letters.
pub fn deaf(letters: usize, tally: &mut Tally) -> Result<(), Skip> {
    const SENDERS: usize = 100;
    let names: Vec<String> = (0..SENDERS).map(|n| format!("s{n}")).collect();
    let users = [&names[..], &["deaf".into(), "ann".into()]].concat();
    let room = ["--mailbox-letters", "10000000", "--mailbox-bytes", "10000000000"];
    let server = Server::start(&users, &room);
    let mut deaf = server.connect_with(|socket| {
        socket.set_recv_buffer_size(16 << 10).unwrap();
    });
    deaf.expect("signin");
    deaf.sign_in("deaf", PASSWORD);
    let mut ann = server.signed_in("ann");
    let senders: Vec<Client> = names.iter().map(|name| server.signed_in(name)).collect();
    let before = server.memory_kib();
    let each = letters / SENDERS;
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let writing: Vec<_> = senders
            .into_iter()
            .map(|mut sender| {
                scope.spawn(move || {
                    for n in 0..each {
                        sender.say(&format!("send deaf {n} {}", "x".repeat(1000)));
                        assert_eq!(sender.line(), ">> message sent to deaf");
                    }
                })
            })
            .collect();
        while writing.iter().any(|thread| !thread.is_finished()) {
            let start = Instant::now();
            ann.say("send ann still served");
            ann.expect("message sent");
            ann.expect("ann: still served");
            slowest = slowest.max(start.elapsed());
        }
        writing.into_iter().for_each(|thread| thread.join().unwrap());
    });
    tally.confirmed = each * SENDERS;
    let grown = server.peak_memory_kib().saturating_sub(before);
    // What is known of a letter that waits, and one connection's output.
    let most = SLACK_KIB + 1024 + letters as u64 / 5;
    tally.holds(grown < most, || format!("it took {grown} KiB of memory"));
    deaf.reset();
    server.logs("deaf signed off");
    let mut deaf = server.greeted();
    deaf.say(&format!("signin deaf {PASSWORD}"));
    deaf.expect("Welcome deaf");
    let mut next = vec![0; SENDERS];
    for _ in 0..tally.confirmed {
        let line = deaf.line();
        let line = line.trim_start_matches([' ', '>']);
        tally.repeats += usize::from(line.starts_with("(again) "));
        let line = line.trim_start_matches("(again) ");
        let mut words = line.strip_prefix('s').unwrap_or_default().split([':', ' ']);
        let mut number = || words.find(|word| !word.is_empty())?.parse::<usize>().ok();
        match (number(), number()) {
            (Some(from), Some(n)) if next.get(from) == Some(&n) => next[from] += 1,
            _ => tally.unexpected(format!("{line:.60}")),
        }
        tally.delivered += 1;
    }
    let lost = next.iter().map(|&n| each - n).sum::<usize>();
    tally.holds(lost == 0, || format!("{lost} were lost"));
    tally.cycles = 1;
    tally.notes.push(format!("another waited {} ms at most", slowest.as_millis()));
    Ok(())
}

/// One who guesses, and so many addresses that want to shut fred out.
pub fn guess(addresses: usize, tally: &mut Tally) -> Result<(), Skip> {
    let server = Server::start(&["fred"], &STRANGERS);
    let attempt = |from: Ipv4Addr, password: &str| {
        let mut client = server.connect_from(from);
        client.expect("signin");
        client.say(&format!("signin fred {password}"));
        client.line()
    };
    // From a trusted address, so that no penalty stands in for the lockout.
    let evaluated = (0..50)
        .filter(|n| !attempt(Ipv4Addr::LOCALHOST, &format!("guess{n}")).contains("is blocked"))
        .count();
    tally.holds(evaluated == MAX_FAILURES as usize, || format!("{evaluated} were evaluated"));
    let right = attempt(Ipv4Addr::LOCALHOST, PASSWORD);
    tally.holds(right.contains("fred is blocked"), || right.clone());
    for n in 0..addresses {
        let mut enemy = server.connect_from(stranger(n));
        enemy.expect("signin");
        enemy.send(&b"signin fred guess\n".repeat(MAX_FAILURES as usize));
        enemy.expect("Too many failed attempts");
        tally.cycles += 1;
    }
    let own = attempt(stranger(addresses), PASSWORD);
    tally.holds(own.contains("Welcome fred"), || own.clone());
    Ok(())
}
