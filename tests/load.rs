//! Measurements of the real server under many connections. Ignored by default, because they say
//! how fast it is and not whether it is right:
//!
//! ```text
//! cargo test --release --test load -- --ignored --nocapture --test-threads 1
//! ```
#![allow(clippy::disallowed_methods)] // what idles for a while must be waited for

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mms::core::event::{Conn, Event, Trust};
use mms::core::hub::Rules;
use mms::engine::Engine;
use mms::scram::{Channel, ClientExchange, Keys, Secret};
use mms::store::disk::FileDisk;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use support::server::{Client, Folder, PASSWORD, SALT, Server, users_file};

/// CPU time is counted in ticks of 10 ms.
const TICK_MS: u64 = 10;

/// A server with users `u0`, `u1`, …; one password for all, so that making them takes no time.
fn server(users: usize) -> Server {
    let names: Vec<String> = (0..users).map(|n| format!("u{n}")).collect();
    Server::start(&names, &["--sync", "never", "--mailbox-letters", "1000000"])
}

fn crowd(server: &Server, users: std::ops::Range<usize>) -> Vec<Client> {
    users.map(|n| server.signed_in(&format!("u{n}"))).collect()
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_idle_connections() {
    const USERS: usize = 10_000;
    let server = server(USERS);
    let before = server.memory_kib();
    let crowd = crowd(&server, 0..USERS);
    let kib = server.memory_kib() - before;
    let ticks = server.cpu_ticks();
    // What is measured is that nothing happens.
    std::thread::sleep(Duration::from_secs(5));
    let spent = (server.cpu_ticks() - ticks) * TICK_MS;
    let each = kib * 1024 / USERS as u64;
    println!("{} signed in and idle: {each} bytes each, {spent} ms of CPU in 5 s", crowd.len());
}

#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_message_does_not_grow_with_the_users() {
    const MESSAGES: usize = 100_000;
    for idle in [0, 1000, 9000] {
        let server = server(idle + 2);
        let crowd = crowd(&server, 2..idle + 2);
        let mut reader = server.signed_in("u0");
        let mut writer = server.signed_in("u1");
        let mut typing = writer.stream.try_clone().unwrap();
        let ticks = server.cpu_ticks();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let line = format!("send u0 {}\n", "x".repeat(64));
                for _ in 0..MESSAGES / 100 {
                    typing.write_all(line.repeat(100).as_bytes()).unwrap();
                }
            });
            scope.spawn(|| (0..MESSAGES).for_each(|_| drop(writer.line())));
            (0..MESSAGES).for_each(|_| drop(reader.line()));
        });
        let spent = (server.cpu_ticks() - ticks) * TICK_MS;
        let each = spent as f64 * 1e3 / MESSAGES as f64;
        println!("{} idle users: {each:.2} us of CPU a message", crowd.len());
    }
}

#[test]
#[ignore = "a measurement"]
fn sign_ins_by_scram() {
    const ROUNDS: usize = 2500;
    const AT_ONCE: usize = 4;
    let server = server(AT_ONCE);
    let keys = Keys::derive(PASSWORD.as_bytes(), SALT, 4096);
    for kind in ["tool", "online"] {
        let (ticks, start) = (server.cpu_ticks(), Instant::now());
        std::thread::scope(|scope| {
            for n in 0..AT_ONCE {
                let (server, keys) = (&server, &keys);
                let user = format!("u{n}");
                scope.spawn(move || (0..ROUNDS).for_each(|_| scram(server, &user, kind, keys)));
            }
        });
        let count = (ROUNDS * AT_ONCE) as f64;
        let spent = (server.cpu_ticks() - ticks) * TICK_MS;
        let rate = count / start.elapsed().as_secs_f64();
        let each = spent as f64 * 1e3 / count;
        println!(
            "sign-in as {kind} by SCRAM, from connect to close: {each:.1} us of CPU, {rate:.0}/s"
        );
    }
}

/// Connects, signs in and out again.
fn scram(server: &Server, user: &str, kind: &str, keys: &Keys) {
    let (mut exchange, first) =
        ClientExchange::begin(user, "fyko+d2lbbFgONRv9qkxdawL", Channel::Plain);
    let mut client = server.connect();
    let first = STANDARD.encode(first);
    client.send(format!("coded 1\nsignin {user} {kind} scram {first}\n").as_bytes());
    let challenge = client.expect("334 ");
    let challenge = STANDARD.decode(challenge.rsplit(' ').next().unwrap()).unwrap();
    let challenge = String::from_utf8(challenge).unwrap();
    exchange.answer(&challenge, Secret::Keys(keys)).unwrap();
    let answer = exchange.work(0).expect("keys need no rounds");
    client.send(format!("auth {}\nsignout\n", STANDARD.encode(answer)).as_bytes());
    client.expect("230 ");
    client.expect("290 ");
    assert_eq!(client.rest().len(), 1);
}

#[test]
#[ignore = "a measurement"]
fn the_start_with_ten_million_letters() {
    const USERS: u64 = 1000;
    const LETTERS: u64 = 10_000_000;
    let folder = Folder::new();
    let names: Vec<String> = (0..USERS).map(|n| format!("u{n}")).collect();
    folder.write("users", &users_file(&names));
    fill(&folder, LETTERS, USERS);
    let start = Instant::now();
    let server = Server::start_in(folder, &["--mailbox-letters", "1000000"]);
    let seconds = start.elapsed().as_secs_f64();
    let each = server.memory_kib() * 1024 / LETTERS;
    println!("ready with {LETTERS} waiting letters after {seconds:.1} s, {each} bytes each");
}

/// Lets the engine fill a spool, without a network.
fn fill(folder: &Folder, letters: u64, users: u64) {
    let entries = mms::store::users::load(&folder.path("users")).unwrap().entries;
    let rules = Rules {
        idle_timeout_s: 0,
        block_time_s: 0,
        max_failures: 0,
        mailbox_letters: usize::MAX,
        mailbox_bytes: u64::MAX,
        password_rounds: 4096,
        ..Rules::default()
    };
    let disk = FileDisk::open(&folder.path("spool")).unwrap();
    let config = Config { sync: Sync::Never, ..Config::default() };
    let now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };
    let mut entropy = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let (mut engine, _) = Engine::open(disk, config, rules, entries, now, &mut entropy).unwrap();
    let conn = Conn(0);
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    engine.handle(Event::Opened { conn, address, trust: Trust::Trusted }, now);
    let mut say = |line: &str, commit: bool| {
        engine.handle(Event::Line { conn, line: line.as_bytes(), body: None }, now);
        // A sign-in takes three slices.
        for _ in 0..if commit { 4 } else { 0 } {
            engine.tick(now);
            engine.commit().unwrap();
            engine.release(|_| {}).unwrap();
        }
    };
    say(&format!("signin u0 {PASSWORD}"), true);
    for n in 0..letters {
        let line = format!("send u{} {n:040}", n % (users - 1) + 1);
        say(&line, n % 1000 == 999);
    }
    say("signout", true);
}
