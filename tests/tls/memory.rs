//! The memory that connections over TLS take, all told: what has come, and what nobody takes.

use super::{GREETING, Peer, client, raw, raw_with, rest_of, start};
use crate::support::letters::{Reader, backlog, people};
use crate::support::server::{Server, eventually};
use mms::limits::OUTPUT_PAUSE_BYTES;
use mms::proto::plain;
use mms::proto::reply::Reply;
use std::io::Write as _;
use std::net::Shutdown;

#[test]
fn halves_of_records_count_as_memory() {
    let server = Server::start(&["fred"], &["--tls", "0", "--buffers", "1"]);
    let half = |peer: &mut Peer| {
        // Nothing can be made of it before its last byte.
        let sealed = peer.seal(&"x".repeat(16_000));
        peer.socket.write_all(&sealed[..15_900]).unwrap();
    };
    let mut peers: Vec<Peer> = (0..80).map(|_| Peer::connect(&server)).collect();
    peers.iter_mut().for_each(|peer| assert_eq!([peer.line(), peer.line()], GREETING));
    peers.iter_mut().for_each(half);
    // 80 of them hold more than a MiB, so some must go.
    server.logs("memory ran short");
    drop(peers);
    server.signed_in("fred");
}

#[test]
fn who_breaks_off_gives_back_the_memory_that_he_had() {
    let server = Server::start(&["fred"], &["--tls", "0", "--buffers", "1"]);
    let mut fred = server.signed_in("fred");
    // He holds a few bytes, too, and would be among those who go if memory ran short.
    fred.send(b"whoi");
    for _ in 0..2 * (1 << 20) / 12_000 {
        let mut half = raw(&server);
        // A greeting that is never whole.
        half.write_all(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc").unwrap();
        half.write_all(&[b'x'; 12_000]).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest_of(half), b"");
        // Half a line, and half a record behind it.
        let mut peer = Peer::connect(&server);
        let sealed = peer.seal(&format!("{}\r\n", "x".repeat(12_000)));
        peer.socket.write_all(&sealed[..8_000]).unwrap();
        peer.socket.shutdown(Shutdown::Write).unwrap();
        rest_of(peer.socket);
    }
    fred.send(b"son\r\n");
    fred.expect("User fred is online");
}

#[test]
fn who_takes_nothing_holds_little_and_loses_nothing() {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0"]);
    let mut reader = Peer::over(
        raw_with(&server, |socket| {
            socket.set_tcp_mss(1400).unwrap();
            socket.set_recv_buffer_size(4 << 10).unwrap()
        }),
        client(&server, rustls::ALL_VERSIONS),
    );
    assert_eq!([reader.line(), reader.line()], GREETING);
    reader.sign_in("reader");
    let before = server.memory_kib();
    let all = backlog(&server, "reader", 0..9_000);
    let grown = server.memory_kib().saturating_sub(before);
    // What he was offered and has not taken is a window of it, whatever waits; the rest is the
    // index over the letters.
    assert!(grown < 8 << 10, "{grown} KiB");
    let lines: Vec<String> = (0..9_000).map(|_| reader.line()).collect();
    reader.sign_out();
    let mut seen = Reader::new("reader");
    seen.saw(&lines);
    seen.misses(&all);
    seen.is_content();
}

#[test]
fn who_takes_nothing_for_a_while_gets_every_byte_of_it_then() {
    let server = start(&["fred"]);
    // His machine has room for little.
    let socket = raw_with(&server, |socket| {
        socket.set_tcp_mss(1400).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
    });
    let mut fred = Peer::over(socket, client(&server, rustls::ALL_VERSIONS));
    assert_eq!([fred.line(), fred.line()], GREETING);
    fred.sign_in("fred");
    let mut help = vec![];
    plain::render(&Reply::Help(None), &mut help);
    let (pause, all) = (OUTPUT_PAUSE_BYTES / help.len(), 16 * OUTPUT_PAUSE_BYTES / help.len());
    fred.send(&"help\n".repeat(all));
    fred.say("signout");
    // A turn is told in one line, such as `fred: help x128`.
    let answered = || -> usize {
        let log = server.log();
        let turns = log.lines().filter_map(|line| line.split_once("fred: help"));
        turns.map(|(_, count)| count.trim_start_matches(" x").parse().unwrap_or(1)).sum()
    };
    eventually("more than may lie there", || (answered() > pause).then_some(()));
    assert!(answered() < all, "the rest of it waits until he takes some");
    while fred.more() {}
    let farewell = b">> user fred has signed off\r\n>> Thank you for using MMS!\r\n";
    assert!(fred.text == [&help.repeat(all)[..], farewell].concat());
    assert!(fred.goodbye);
}
