//! Handshakes that come to nothing, and what those cost the server who never finish one.

use super::certificates::ping;
use super::{Peer, client, raw, rest_of, start, tls_port};
use crate::support::server::{Server, eventually, mms, run};
use mms::limits;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

#[test]
fn whoever_speaks_no_tls_is_told_so_in_words() {
    let server = start(&["fred"]);
    let words = ">> this port of MMS speaks TLS only; use 'mms client --tls' or 'openssl s_client \
                 -connect', or the port without TLS, goodbye\r\n";
    for said in
        ["\r\n", "signin fred\r\n", "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "\0\0\0", "\x15"]
    {
        let mut peer = raw(&server);
        peer.write_all(said.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(rest_of(peer)).unwrap(), words, "{said:?}");
    }
    let output =
        run(mms(&server.folder).args(["ping", "--server", &tls_port(&server).to_string()]));
    assert_eq!(output.status.code(), Some(76));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --tls"), "{output:?}");
    let plain = server.address.to_string();
    let output = run(ping(&server, &plain).arg("--tls"));
    assert_eq!(output.status.code(), Some(76));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no TLS there"), "{output:?}");
    server.logs("[security] other-protocol from 127.0.0.1: no TLS");
    server.signed_in("fred");
}

#[test]
fn garbage_that_begins_like_tls_is_answered_and_closed() {
    let server = start(&["fred"]);
    let mut rng = crate::support::rng::Rng::from_env(7);
    for turn in 0..200_usize {
        let mut peer = raw(&server);
        let mut bytes = vec![0; 1 + rng.below(3000)];
        rng.fill(&mut bytes);
        bytes[0] = 0x16;
        if turn % 3 > 0 {
            // A record of a version that there is, and of a length that it has.
            bytes.resize(bytes.len().max(10), 0);
            let length = bytes.len() - 5;
            bytes[1..5].copy_from_slice(&[3, 1, (length >> 8) as u8, length as u8]);
        }
        if turn % 3 == 2 {
            // That of a greeting.
            let length = bytes.len() - 9;
            bytes[5..9].copy_from_slice(&[1, 0, (length >> 8) as u8, length as u8]);
        }
        // It may have been refused in the midst of it.
        _ = peer.write_all(&bytes);
        _ = peer.shutdown(Shutdown::Write);
        let answer = rest_of(peer);
        assert!(answer.is_empty() || answer[0] == 0x15, "an alert: {answer:?}");
    }
    server.signed_in("fred");
    eventually("all of them closed", || (server.descriptors() < 40).then_some(()));
}

#[test]
fn a_handshake_may_end_at_every_byte() {
    let server = start(&["fred"]);
    let mut hello = vec![];
    client(&server, rustls::ALL_VERSIONS).write_tls(&mut hello).unwrap();
    for length in 0..=hello.len() {
        let mut peer = raw(&server);
        peer.write_all(&hello[..length]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        // The whole of it may be answered before its end is seen.
        let answer = rest_of(peer);
        assert!(answer.is_empty() || length == hello.len(), "{length} of {}", hello.len());
    }
    // And at every byte of its second half.
    for length in 0.. {
        let mut tls = client(&server, rustls::ALL_VERSIONS);
        let mut socket = raw(&server);
        tls.write_tls(&mut socket).unwrap();
        while tls.is_handshaking() {
            tls.read_tls(&mut socket).unwrap();
            tls.process_new_packets().unwrap();
        }
        let mut finish = vec![];
        while tls.wants_write() {
            tls.write_tls(&mut finish).unwrap();
        }
        if length >= finish.len() {
            break;
        }
        socket.write_all(&finish[..length]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest_of(socket), b"", "{length} of {}", finish.len());
    }
    server.signed_in("fred");
    eventually("all of them closed", || (server.descriptors() < 40).then_some(()));
}

#[test]
fn a_greeting_without_end_is_cut_short() {
    let server = start(&["fred"]);
    let mut peer = raw(&server);
    // A greeting of 60,000 bytes, record by record.
    let mut bytes = vec![1, 0, 0xea, 0x60];
    bytes.resize(60_000, 7);
    for piece in bytes.chunks(4000) {
        let mut record = vec![0x16, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8];
        record.extend(piece);
        if peer.write_all(&record).is_err() {
            break;
        }
    }
    rest_of(peer);
    server.logs("[security] handshake-failed from 127.0.0.1: the handshake is too long");
}

#[test]
fn strangers_in_a_handshake_have_not_signed_in_and_have_little_time() {
    let server = Server::start(&["fred"], &["--tls", "0", "--trusted", "none"]);
    let mut hello = vec![];
    client(&server, rustls::ALL_VERSIONS).write_tls(&mut hello).unwrap();
    let mut silent: Vec<TcpStream> = (0..limits::UNSIGNED_OF_ONE).map(|_| raw(&server)).collect();
    for peer in silent.iter_mut().skip(1) {
        peer.write_all(&hello[..100]).unwrap();
    }
    // Neither door lets in one more of them.
    let words = String::from_utf8(rest_of(raw(&server))).unwrap();
    assert!(words.contains("connections from your address have not signed in"), "{words}");
    let words = server.connect().rest();
    assert!(words[0].contains("connections from your address have not signed in"), "{words:?}");
    let turned = run(ping(&server, &tls_port(&server).to_string()).arg("--tls"));
    assert_eq!(turned.status.code(), Some(75), "{turned:?}");
    // Who waits for the other end to begin, as telnet does, is told what is wanted.
    let words = String::from_utf8(rest_of(silent.remove(0))).unwrap();
    assert!(words.starts_with(">> this port of MMS speaks TLS only"), "{words}");
    assert!(silent.into_iter().all(|peer| rest_of(peer).is_empty()));
    server.logs("[security] dismissed from 127.0.0.1: too slow in the handshake");
    // Ten seconds are held against it for each of them.
    let words = String::from_utf8(rest_of(raw(&server))).unwrap();
    assert!(words.contains("try again in"), "{words}");
}

#[test]
fn a_stop_does_not_wait_for_handshakes() {
    let mut server = start(&["fred"]);
    let mut fred = Peer::signed_in(&server, "fred");
    let mut half = raw(&server);
    half.write_all(&[0x16, 3, 1]).unwrap();
    // What came after it has been let in, so it was, too.
    Peer::connect(&server).close();
    server.signal("TERM");
    assert_eq!(fred.rest(), [">> MMS is shutting down"]);
    assert!(fred.goodbye);
    assert_eq!(rest_of(half), b"");
    assert_eq!(server.wait().code(), Some(0));
}
