//! What D6 of the delivery says of acknowledgements and ends must hold over TLS, too.

use super::{GREETING, Peer, client, raw_with, rest_of, start};
use crate::support::letters::{Reader, backlog, is_gone, people, waiting};
use crate::support::server::{PASSWORD, Server, eventually};
use socket2::SockRef;
use std::io::Write as _;
use std::net::Shutdown;

#[test]
fn what_comes_together_with_the_goodbye_is_done() {
    let server = start(&["fred", "tim", "observer"]);
    let mut fred = Peer::connect(&server);
    assert_eq!([fred.line(), fred.line()], GREETING);
    let mut sealed = fred.seal(&format!("signin fred {PASSWORD}\nsend tim and gone\n"));
    fred.tls.send_close_notify();
    sealed.extend(fred.seal(""));
    fred.socket.write_all(&sealed).unwrap();
    fred.socket.shutdown(Shutdown::Write).unwrap();
    fred.expect("Welcome fred");
    fred.expect("tim is offline, message will be saved");
    fred.rest();
    assert!(fred.goodbye);
    let mut tim = server.signed_in("tim");
    tim.expect("fred: and gone");
}

/// Tim writes to fred, who is over TLS, has been shown it, and whose kernel has it.
fn shown(server: &Server, text: &str) -> Peer {
    let mut fred = Peer::signed_in(server, "fred");
    let mut tim = server.signed_in("tim");
    tim.say(&format!("send fred {text}"));
    fred.expect(text);
    tim.sign_out();
    fred
}

/// What fred is shown when he comes again.
fn waits_for_fred(server: &Server) -> Option<String> {
    is_gone(server);
    let mut fred = server.greeted();
    let count = waiting(&fred.sign_in("fred", PASSWORD));
    (count > 0).then(|| fred.line())
}

#[test]
fn a_goodbye_in_tls_settles_and_a_mere_end_does_not() {
    let users = ["fred", "tim", "observer"];
    let server = start(&users);
    shown(&server, "goodbye").close();
    assert_eq!(waits_for_fred(&server), None, "he has read it, and closed in order");
    let server = start(&users);
    let fred = shown(&server, "cut off");
    // Anybody on the way can send that.
    fred.socket.shutdown(Shutdown::Write).unwrap();
    let rest = rest_of(fred.socket);
    assert_eq!(rest, b"", "it has no goodbye to him, either");
    assert_eq!(waits_for_fred(&server).unwrap(), ">>      (again) tim: cut off");
    let server = start(&users);
    let fred = shown(&server, "reset");
    SockRef::from(&fred.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(fred);
    assert_eq!(waits_for_fred(&server).unwrap(), ">>      (again) tim: reset");
}

#[test]
fn a_line_behind_an_acknowledged_letter_settles_it() {
    let server = start(&["fred", "tim", "observer"]);
    let mut fred = shown(&server, "typed on");
    // His kernel has it, and the server has looked.
    eventually("the letter settled by a line behind it", || {
        fred.say("");
        (server.waiting("fred") == 0).then_some(())
    });
    SockRef::from(&fred.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(fred);
    assert_eq!(waits_for_fred(&server), None);
}

#[test]
fn what_the_readers_machine_has_not_acknowledged_no_line_of_his_settles() {
    // As many as the server's own kernel takes, and more.
    for letters in [50, 200] {
        lines_settle_few_of(letters);
    }
}

fn lines_settle_few_of(letters: usize) {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0"]);
    backlog(&server, "reader", 0..letters);
    // His machine has room for little, and he reads nothing of it.
    let socket = raw_with(&server, |socket| {
        socket.set_tcp_mss(1400).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
    });
    let mut reader = Peer::over(socket, client(&server, rustls::ALL_VERSIONS));
    assert_eq!([reader.line(), reader.line()], GREETING);
    reader.say(&format!("signin reader {PASSWORD}"));
    server.logs("reader signed in");
    // Enough of them that the server looks after the letters meanwhile, a few times.
    for number in 1..=80 {
        reader.say("whoelse");
        let heard = || server.log().matches("reader: whoelse").count();
        eventually("his line", || (heard() >= number).then_some(()));
    }
    SockRef::from(&reader.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(reader);
    is_gone(&server);
    let left = waiting(&server.greeted().sign_in("reader", PASSWORD));
    assert!(left > letters / 2, "{left} of {letters} wait still");
}

#[test]
fn what_was_shown_when_the_server_was_killed_comes_again() {
    let mut server = start(&["fred", "tim", "observer"]);
    let mut fred = shown(&server, "before the crash");
    server.kill9();
    assert_eq!(fred.next_line(), None);
    assert!(!fred.goodbye, "a killed server says nothing");
    server.restart();
    let mut fred = Peer::connect(&server);
    assert_eq!([fred.line(), fred.line()], GREETING);
    assert_eq!(fred.sign_in("fred"), ">> Welcome fred, you have 1 message waiting:");
    let line = fred.line();
    assert!(line.ends_with("tim: before the crash"), "{line}");
    fred.sign_out();
    assert_eq!(waits_for_fred(&server), None);
}

#[test]
fn a_slow_reader_gets_ten_thousand_letters_once_and_in_order() {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0"]);
    let all = backlog(&server, "reader", 0..10_000);
    let socket = raw_with(&server, |socket| {
        socket.set_tcp_mss(1400).unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
    });
    let mut peer = Peer::over(socket, client(&server, rustls::ALL_VERSIONS));
    assert_eq!([peer.line(), peer.line()], GREETING);
    assert_eq!(waiting(&peer.sign_in("reader")), 10_000);
    let lines: Vec<String> = (0..10_000).map(|_| peer.line()).collect();
    peer.sign_out();
    let mut reader = Reader::new("reader");
    reader.saw(&lines);
    reader.misses(&all);
    reader.has_all(&server);
    assert_eq!((reader.shown.len(), reader.repeats), (10_000, 0));
    reader.is_content();
}

#[test]
fn a_reader_cut_off_within_his_backlog_loses_nothing() {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0", "--duplicate", "replace"]);
    let all = backlog(&server, "reader", 0..900);
    let mut reader = Reader::new("reader");
    for turn in 0..12_usize {
        let mut peer = Peer::connect(&server);
        assert_eq!([peer.line(), peer.line()], GREETING);
        let count = waiting(&peer.sign_in("reader"));
        let lines: Vec<String> = (0..count.min(turn * 67 % 400)).map(|_| peer.line()).collect();
        reader.saw(&lines);
        match turn % 2 {
            0 => SockRef::from(&peer.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap(),
            _ => peer.socket.shutdown(Shutdown::Write).unwrap(),
        }
    }
    assert!(reader.repeats > 0, "nothing came twice");
    reader.reads_all(&server, crate::support::letters::Leave::SigningOut);
    reader.misses(&all);
    reader.has_all(&server);
    reader.is_content();
}

#[test]
fn what_came_before_a_forged_record_is_done() {
    let server = start(&["fred"]);
    let mut fred = Peer::signed_in(&server, "fred");
    let mut sealed = fred.seal("send fred in order\r\n");
    sealed.append(&mut fred.seal("send fred forged\r\n"));
    *sealed.last_mut().unwrap() ^= 1;
    fred.socket.write_all(&sealed).unwrap();
    rest_of(fred.socket);
    server.logs("fred signed off");
    assert_eq!(server.waiting("fred"), 1);
}
