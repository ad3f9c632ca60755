//! The promise, against the real program and `kill -9`: what was confirmed is delivered, what is
//! shown a second time says so, and each sender's letters come in the order in which he sent them.
//! `MMS_SEED` repeats a run as far as the kernel lets it be repeated.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::process::Command;
use support::letters::{Leave, Reader, backlog, people, storm, waiting};
use support::rng::Rng;
use support::server::{Client, Folder, PASSWORD, Server, Start, eventually, users_file};

const SENDERS: usize = 6;
const ROUNDS: usize = 20;

#[test]
fn nothing_confirmed_is_lost_by_twenty_kills_in_a_row() {
    let mut rng = Rng::from_env(20_260);
    let names = people(SENDERS, &["absent", "present"]);
    let room = ["--mailbox-letters", "1000000", "--mailbox-bytes", "1000000000"];
    let mut server = Server::start(&names, &room);
    let (mut away, mut present) = (Reader::new("absent"), Reader::new("present"));
    let mut confirmed = vec![];
    for round in 0..ROUNDS {
        // Letters that were not answered may be there or not, so no number is used twice.
        let load = (SENDERS, round * 1_000_000);
        let mut kill = |server: &mut Server, _: &_| server.kill9();
        confirmed.extend(storm(&mut server, &mut present, load, &mut rng, &mut kill));
        server.restart();
        // Now and then they read what waits; else it gathers.
        if rng.one_in(3) {
            let leave = *rng.pick(&[Leave::SigningOut, Leave::Reset]);
            present.reads_all(&server, leave);
            present.misses(&confirmed);
        }
        if rng.one_in(5) {
            away.reads_all(&server, Leave::Reset);
            away.misses(&confirmed);
        }
    }
    assert!(confirmed.len() > ROUNDS, "there was next to no load");
    for reader in [&mut away, &mut present] {
        reader.reads_all(&server, Leave::SigningOut);
        reader.misses(&confirmed);
        println!("{}: {} letters, {} repeats", reader.name, reader.shown.len(), reader.repeats);
    }
    // Now nothing waits any more, nor after a last crash.
    for _ in 0..2 {
        server.kill9();
        server.restart();
        for reader in [&mut away, &mut present] {
            reader.has_all(&server);
            reader.is_content();
        }
    }
}

/// Where the kernel takes no sync that goes on by itself, the server waits for one as ever.
#[test]
fn where_no_sync_can_go_on_by_itself_nothing_confirmed_is_lost_either() {
    let strace = |inject: &str| -> Vec<String> {
        let words = "strace -D -qq -f -o calls -e trace=io_setup,io_submit,fdatasync -e";
        words.split(' ').chain([inject]).map(Into::into).collect()
    };
    for (call, error) in [("io_setup", "ENOSYS"), ("io_submit", "EAGAIN")] {
        let folder = Folder::new();
        folder.write("users", &users_file(&["fred", "Tim"]));
        let by = strace(&format!("inject={call}:error={error}"));
        let mut probe = Command::new(&by[0]);
        probe.current_dir(folder.path("")).args(&by[1..]).arg("true");
        if !probe.status().is_ok_and(|status| status.success()) {
            return println!("SKIP where_no_sync_can_go_on_by_itself…: no strace, or it may not");
        }
        let start = Start { by, ..Start::default() };
        let mut server = Server::start_as(folder, start);
        let mut fred = server.signed_in("fred");
        let flushes = |calls: &str| calls.matches("fdatasync(").count();
        let before = flushes(&server.folder.read("calls"));
        for n in 0..5 {
            let answer = fred.ask(&format!("send Tim number {n}"));
            assert!(answer.contains("will be saved"), "{answer}");
        }
        server.kill9();
        // What writes that file ends a little later.
        eventually(&format!("{call} that is refused, and a flush for each"), || {
            let calls = server.folder.read("calls");
            let refused = calls.lines().any(|it| it.contains(call) && it.contains("INJECTED"));
            (refused && flushes(&calls) >= before + 5).then_some(())
        });
        server.restart();
        let mut tim = server.signed_in("Tim");
        for n in 0..5 {
            tim.expect(&format!("number {n}"));
        }
    }
}

/// The reader dies again and again at a random byte of his backlog. What his kernel had taken and
/// he had not read comes again.
fn dies_in_the_backlog(letters: usize, connect: impl Fn(&Server) -> Client, rng: &mut Rng) {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--duplicate", "replace"]);
    let all = backlog(&server, "reader", 0..letters);
    let mut reader = Reader::new("reader");
    for _ in 0..25 {
        let mut client = connect(&server);
        client.expect("signin");
        let waiting = waiting(&client.sign_in("reader", PASSWORD));
        // Those far behind what his kernel has taken are settled, so it becomes less.
        let bytes = rng.below(waiting.max(1) * 900);
        client.raw.clear();
        while waiting > 0 && client.raw.len() < bytes && client.read_once() {}
        // A process that dies with bytes unread resets its connection; here there may be none.
        reader.saw(&client.take_lines());
        client.reset();
    }
    assert!(reader.repeats > 0, "nothing came twice");
    reader.reads_all(&server, Leave::SigningOut);
    reader.misses(&all);
    reader.has_all(&server);
    reader.is_content();
}

#[test]
fn a_reader_killed_within_his_backlog_loses_nothing() {
    let mut rng = Rng::from_env(4);
    dies_in_the_backlog(900, Server::connect, &mut rng);
}

#[test]
fn a_reader_killed_within_a_backlog_that_exceeds_every_window_loses_nothing() {
    let mut rng = Rng::from_env(5);
    // He takes little that he does not read, so what he was offered and did not read stays below
    // what the server keeps for who only listens. Segments as on an Ethernet, for the kernel
    // opens no window that is smaller than one of them.
    let narrow = |server: &Server| {
        server.connect_with(|socket| {
            socket.set_tcp_mss(1400).unwrap();
            socket.set_recv_buffer_size(32 << 10).unwrap();
        })
    };
    dies_in_the_backlog(4000, narrow, &mut rng);
}
