//! TLS, against the real server: with openssl's client, with one that is taken apart here, and with
//! the commands. What D6 of the delivery says of acknowledgements and ends must hold over it, too.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mms::limits;
use mms::scram::{Binding, Channel, ClientExchange, Secret};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{SockRef, Socket};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::letters::{Reader, backlog, is_gone, people, waiting};
use support::server::{Folder, PASSWORD, PATIENCE, Server, eventually, mms, run, users_file};

const GREETING: [&str; 2] =
    [">> Welcome to MMS.", ">> Type 'signin <user>' to sign in, 'help' for the commands."];

fn start(users: &[&str]) -> Server {
    Server::start(users, &["--tls", "0"])
}

fn tls_port(server: &Server) -> SocketAddr {
    server.tls.as_ref().expect("it listens for TLS").0
}

/// A socket to the port for TLS.
fn raw(server: &Server) -> TcpStream {
    raw_with(server, |_| {})
}

fn raw_with(server: &Server, prepare: impl Fn(&Socket)) -> TcpStream {
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    prepare(&socket);
    socket.connect(&tls_port(server).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// All that comes until the end, be it in order or not.
fn rest_of(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    match stream.read_to_end(&mut bytes) {
        Err(e) if e.kind() != ErrorKind::ConnectionReset => panic!("{e}"),
        _ => bytes,
    }
}

/// A client of TLS that trusts the certificate in the server's own spool.
fn client(
    server: &Server,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConnection {
    let pem = fs::read(server.folder.path("spool/tls.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Somebody who is connected over TLS.
struct Peer {
    socket: TcpStream,
    tls: ClientConnection,
    text: Vec<u8>,
    /// The server has said that no more will come.
    goodbye: bool,
}

impl Peer {
    fn connect(server: &Server) -> Self {
        Self::over(raw(server), client(server, rustls::ALL_VERSIONS))
    }

    fn over(socket: TcpStream, tls: ClientConnection) -> Self {
        let mut peer = Self { socket, tls, text: vec![], goodbye: false };
        while peer.tls.is_handshaking() {
            peer.flush();
            if peer.tls.is_handshaking() {
                assert!(peer.more(), "the handshake came to nothing");
            }
        }
        peer.flush();
        peer
    }

    fn signed_in(server: &Server, name: &str) -> Self {
        let mut peer = Self::connect(server);
        assert_eq!([peer.line(), peer.line()], GREETING);
        peer.sign_in(name);
        peer
    }

    fn sign_in(&mut self, name: &str) -> String {
        let answer = self.ask(&format!("signin {name} {PASSWORD}"));
        assert!(answer.starts_with(&format!(">> Welcome {name}, ")), "{answer}");
        answer
    }

    fn flush(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Encrypts without sending it.
    fn seal(&mut self, text: &str) -> Vec<u8> {
        self.tls.writer().write_all(text.as_bytes()).unwrap();
        let mut sealed = vec![];
        while self.tls.wants_write() {
            self.tls.write_tls(&mut sealed).unwrap();
        }
        sealed
    }

    fn send(&mut self, text: &str) {
        for piece in text.as_bytes().chunks(16 << 10) {
            self.tls.writer().write_all(piece).unwrap();
            self.flush();
        }
    }

    fn say(&mut self, line: &str) {
        self.send(&format!("{line}\r\n"));
    }

    /// Reads once; false at the end.
    fn more(&mut self) -> bool {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return false,
            Err(e) => panic!("{e}"),
        }
        let state = self.tls.process_new_packets().unwrap();
        let begin = self.text.len();
        self.text.resize(begin + state.plaintext_bytes_to_read(), 0);
        self.tls.reader().read_exact(&mut self.text[begin..]).unwrap();
        self.goodbye |= state.peer_has_closed();
        !state.peer_has_closed() || begin < self.text.len()
    }

    fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.windows(2).position(|it| it == b"\r\n") {
                let line = self.text.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        self.next_line().expect("a line, not the end of the connection")
    }

    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }

    /// Signs out, reads all that comes, and closes when the server has.
    #[track_caller]
    fn sign_out(mut self) {
        self.say("signout");
        assert_eq!(self.rest().last().unwrap(), ">> Thank you for using MMS!");
        assert!(self.goodbye, "the end was not the server's own");
    }

    /// Says in TLS that no more will come, and closes.
    fn close(mut self) {
        self.tls.send_close_notify();
        self.flush();
        self.socket.shutdown(Shutdown::Write).unwrap();
        while self.more() {}
    }

    /// What binds a sign-in to this connection.
    fn binding(&self) -> Binding {
        self.tls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap()
    }
}

// ---- a conversation --------------------------------------------------------------------------

#[test]
fn openssls_client_signs_in_and_talks() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let server = start(&["fred", "tim"]);
    let mut tim = server.signed_in("tim");
    for version in ["-tls1_3", "-tls1_2"] {
        let mut openssl = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                version,
                "-verify_return_error",
                "-CAfile",
                "spool/tls.pem",
            ])
            .args(["-verify_hostname", "localhost", "-connect", &tls_port(&server).to_string()])
            .current_dir(server.folder.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut typed = openssl.stdin.take().unwrap();
        writeln!(typed, "signin fred {PASSWORD}\nsend tim hi from {version}").unwrap();
        tim.expect(&format!(">> fred: hi from {version}"));
        tim.say("send fred hello");
        tim.expect("sent to fred");
        writeln!(typed, "signout").unwrap();
        let output = openssl.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with(&GREETING.join("\r\n")), "{text} {told}");
        assert!(text.contains(">> message sent to tim\r\n"), "{text}");
        assert!(text.ends_with(">> Thank you for using MMS!\r\n"), "{text}");
    }
}

#[test]
fn both_versions_of_tls_and_no_older_one() {
    let server = start(&["fred"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut fred = Peer::over(raw(&server), client(&server, &[version]));
        assert_eq!([fred.line(), fred.line()], GREETING);
        fred.sign_in("fred");
        fred.sign_out();
    }
    // A greeting of TLS 1.0 alone.
    let mut old = raw(&server);
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 47, 1, 0]);
    old.write_all(&hello).unwrap();
    let answer = rest_of(old);
    assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "a fatal alert: {answer:?}");
}

#[test]
fn an_older_client_whose_exports_would_not_be_its_own_is_refused() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let server = start(&["fred"]);
    let folder = &server.folder;
    folder.write("with.cnf", "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n");
    let without = folder.read("with.cnf") + "Options = -ExtendedMasterSecret\n";
    folder.write("without.cnf", &without);
    let greeted = |config: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-connect", &tls_port(&server).to_string()])
            .env("OPENSSL_CONF", folder.path(config))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("Cipher is ECDHE")
    };
    assert!(greeted("with.cnf"));
    assert!(!greeted("without.cnf"));
    server.logs("no TLS with 127.0.0.1: ");
}

#[test]
fn what_comes_in_pieces_is_the_same() {
    let server = start(&["fred"]);
    let mut tls = client(&server, rustls::ALL_VERSIONS);
    let mut socket = raw(&server);
    while tls.is_handshaking() {
        let mut sealed = vec![];
        while tls.wants_write() {
            tls.write_tls(&mut sealed).unwrap();
        }
        sealed.iter().for_each(|byte| socket.write_all(&[*byte]).unwrap());
        if tls.is_handshaking() {
            tls.read_tls(&mut socket).unwrap();
            tls.process_new_packets().unwrap();
        }
    }
    let mut fred = Peer::over(socket, tls);
    assert_eq!([fred.line(), fred.line()], GREETING);
    let sealed = fred.seal(&format!("signin fred {PASSWORD}\r\nwhoison\r\n"));
    for byte in sealed {
        fred.socket.write_all(&[byte]).unwrap();
    }
    fred.expect("Welcome fred");
    fred.expect("User fred is online");
}

#[test]
fn many_lines_of_one_record_are_all_answered() {
    let server = start(&["fred", "tim"]);
    let mut fred = Peer::signed_in(&server, "fred");
    // Far more than a turn's share, and nothing comes behind it that would wake anybody up.
    let count = 40 * limits::COMMANDS_A_TURN;
    fred.send(&"whoelse\n".repeat(count));
    for _ in 0..count {
        assert_eq!(fred.line(), ">> Nobody else is online");
    }
    // Before the sign-in less is read at once than a record may have.
    let mut tim = Peer::connect(&server);
    tim.send(&format!("{}signin tim {PASSWORD}\nwhoelse\n", "\n".repeat(900)));
    tim.expect("Welcome tim");
    tim.expect("User fred is online");
    tim.sign_out();
    // What stands behind the sign-in waits until the password is checked.
    let mut tim = Peer::connect(&server);
    tim.send(&format!("signin tim {PASSWORD}\n{}", "whoelse\n".repeat(1000)));
    tim.expect("Welcome tim");
    for _ in 0..1000 {
        assert_eq!(tim.line(), ">> User fred is online");
    }
}

#[test]
fn the_companion_and_the_commands_talk_over_tls() {
    let server = start(&["fred", "tim"]);
    server.folder.write("password", PASSWORD);
    let at = tls_port(&server);
    let command = |user: &str, arguments: &[&str]| {
        let mut command = mms(&server.folder);
        command.args(arguments).env("HOME", server.folder.path("home")).env("MMS_USER", user);
        command.env("MMS_PASSWORD_FILE", "password").env("MMS_TLS", "1");
        command.env("MMS_SERVER", at.to_string());
        command
    };
    let sent = run(&mut command("fred", &["send", "tim", "over the wall"]));
    assert_eq!((sent.status.code(), &sent.stdout[..]), (Some(0), &b"tim: saved\n"[..]));
    let told = String::from_utf8_lossy(&sent.stderr).into_owned();
    let fingerprint = &server.tls.as_ref().unwrap().1;
    assert!(told.contains("is met for the first time") && told.contains(fingerprint), "{told}");
    let known = server.folder.read("home/.local/share/mms/known_hosts");
    assert_eq!(known, format!("{at} {fingerprint}\n"));
    assert_eq!(server.folder.mode("home/.local/share/mms/known_hosts"), 0o600);
    let received = run(&mut command("tim", &["recv"]));
    assert_eq!(received.stdout, b"fred: over the wall\n");
    assert_eq!(received.stderr, b"", "it is known already");
    let who = run(&mut command("fred", &["who"]));
    assert_eq!(who.stdout, b"fred offline\ntim offline\n");
    assert_eq!(run(&mut command("fred", &["login"])).status.code(), Some(0));
    assert_eq!(run(&mut command("", &["ping"])).status.code(), Some(0));
    let mut companion = command("tim", &["client", "127.0.0.1", &at.port().to_string()]);
    companion.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut companion = companion.spawn().unwrap();
    companion.stdin.take().unwrap().write_all(b"send fred from the companion\n").unwrap();
    let output = companion.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("fred is offline"), "{output:?}");
    let mut fred = server.greeted();
    fred.sign_in("fred", PASSWORD);
    fred.expect("tim: from the companion");
}

// ---- what is delivered -----------------------------------------------------------------------

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
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0"]);
    let letters = 200;
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
    reader.reads_all(&server, support::letters::Leave::SigningOut);
    reader.misses(&all);
    reader.has_all(&server);
    reader.is_content();
}

// ---- handshakes that come to nothing ---------------------------------------------------------

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
    server.logs("no TLS with 127.0.0.1: that is no TLS");
    server.signed_in("fred");
}

#[test]
fn garbage_that_begins_like_tls_is_answered_and_closed() {
    let server = start(&["fred"]);
    let mut rng = support::rng::Rng::from_env(7);
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
    server.logs("the handshake is too long");
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
    server.logs("no TLS with 127.0.0.1: it took too long");
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

#[test]
fn who_takes_nothing_holds_little_and_loses_nothing() {
    let names = people(1, &["reader"]);
    let server = Server::start(&names, &["--tls", "0"]);
    let mut reader = Peer::over(
        raw_with(&server, |socket| socket.set_recv_buffer_size(4 << 10).unwrap()),
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

// ---- certificates ----------------------------------------------------------------------------

fn ping(server: &Server, at: &str) -> Command {
    let mut command = mms(&server.folder);
    command.args(["ping", "--server", at]).env("HOME", server.folder.path("home"));
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_certificate_is_made_once_and_kept() {
    let mut server = start(&["fred"]);
    let fingerprint = server.tls.clone().unwrap().1;
    assert_eq!(server.folder.mode("spool/tls.pem"), 0o600);
    let pem = server.folder.read("spool/tls.pem");
    assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("BEGIN PRIVATE KEY"), "{pem}");
    assert!(server.log().contains(&fingerprint));
    for _ in 0..2 {
        server.kill9();
        server.restart();
        assert_eq!(server.tls.as_ref().unwrap().1, fingerprint);
    }
    let check = |arguments: &[&str]| run(mms(&server.folder).arg("spool").args(arguments));
    for arguments in [&["check"][..], &["ls"], &["export"]] {
        let output = check(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &told(&output);
        assert!(output.status.success() && !text.contains("tls.pem"), "{arguments:?} {text}");
    }
}

#[test]
fn a_server_that_shows_another_certificate_is_refused_loudly() {
    let mut server = start(&["fred", "tim"]);
    let (at, first) = server.tls.clone().unwrap();
    let at = at.to_string();
    assert!(run(ping(&server, &at).arg("--tls")).status.success());
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    assert!(run(ping(&server, &at).args(["--ca", "spool/tls.pem"])).status.success());
    fs::copy(server.folder.path("spool/tls.pem"), server.folder.path("old.pem")).unwrap();
    fs::remove_file(server.folder.path("spool/tls.pem")).unwrap();
    assert_eq!(server.terminate().code(), Some(0));
    server.restart();
    let (now, second) = server.tls.clone().unwrap();
    let now = now.to_string();
    assert_ne!(first, second);
    let hosts = server.folder.read("home/.local/share/mms/known_hosts");
    server.folder.write("home/.local/share/mms/known_hosts", &hosts.replace(&at, &now));
    let lines = server.log().lines().count();
    for arguments in [&["ping"][..], &["who"], &["send", "tim", "a secret"], &["recv"], &["login"]]
    {
        server.folder.write("password", PASSWORD);
        let mut command = mms(&server.folder);
        command.args(arguments).env("HOME", server.folder.path("home")).env("MMS_SERVER", &now);
        command.env("MMS_TLS", "1").env("MMS_USER", "fred").env("MMS_PASSWORD_FILE", "password");
        let output = run(&mut command);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(76), "{arguments:?} {text}");
        for part in ["THE SERVER'S CERTIFICATE HAS CHANGED", &first, &second, "known_hosts"] {
            assert!(text.contains(part), "{arguments:?} {text}");
        }
    }
    let port = now.rsplit_once(':').unwrap().1;
    let mut companion = mms(&server.folder);
    companion.args(["client", "--tls", "-u", "fred", "--password-file", "password"]);
    let output = run(companion.args(["127.0.0.1", port]).env("HOME", server.folder.path("home")));
    assert_eq!(output.status.code(), Some(76));
    assert!(told(&output).contains("HAS CHANGED"), "{output:?}");
    for (option, value) in [("--tls-fingerprint", &*first), ("--ca", "old.pem")] {
        let output = run(ping(&server, &now).args([option, value]));
        assert_eq!(output.status.code(), Some(76), "{output:?}");
        assert!(told(&output).contains("nothing was sent"), "{output:?}");
    }
    // Not even a name was told to it.
    let log = server.log();
    assert!(!log.lines().skip(lines).any(|line| line.contains("sign")), "{log}");
    assert!(run(ping(&server, &now).args(["--tls-fingerprint", &second])).status.success());
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let server = start(&["fred"]);
    let port = tls_port(&server).port();
    // It is for localhost, 127.0.0.1 and ::1.
    let output = run(ping(&server, &format!("127.0.0.2:{port}")).args(["--ca", "spool/tls.pem"]));
    assert_eq!(output.status.code(), Some(76), "{output:?}");
    assert!(told(&output).contains("not valid for name"), "{output:?}");
    for (text, code) in [("", 78), ("x", 78)] {
        server.folder.write("ca.pem", text);
        let at = format!("127.0.0.1:{port}");
        let output = run(ping(&server, &at).args(["--ca", "ca.pem"]));
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn many_who_meet_a_server_at_once_agree_on_it() {
    let server = start(&["fred"]);
    let (at, fingerprint) = server.tls.clone().unwrap();
    let children: Vec<_> = (0..40)
        .map(|_| {
            let mut command = ping(&server, &at.to_string());
            command.args(["--tls", "--timeout", "19"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut first = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        first += usize::from(told(&output).contains("for the first time"));
    }
    assert_eq!(first, 1);
    let known = server.folder.read("home/.local/share/mms/known_hosts");
    assert_eq!(known, format!("{at} {fingerprint}\n"));
}

#[test]
fn nobody_is_trusted_where_nothing_can_be_kept() {
    let server = start(&["fred"]);
    let at = tls_port(&server).to_string();
    let output = run(mms(&server.folder).args(["ping", "--tls", "--server", &at]));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    server.folder.write("home", "a file");
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    fs::remove_file(server.folder.path("home")).unwrap();
    fs::create_dir_all(server.folder.path("home/.local/share/mms")).unwrap();
    server.folder.write("home/.local/share/mms/known_hosts", &format!("{at} SHA256:12\n"));
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(told(&output).contains("known_hosts"), "{output:?}");
    let known = server.folder.path("home/.local/share/mms/known_hosts");
    fs::remove_file(&known).unwrap();
    assert!(run(Command::new("mkfifo").arg(&known)).status.success());
    let output = run(ping(&server, &at).arg("--tls"));
    assert_eq!(output.status.code(), Some(78), "a pipe: {output:?}");
}

#[test]
fn sighup_reads_the_certificate_again_and_keeps_the_old_one_if_that_is_bad() {
    let other = start(&["fred"]);
    let server = start(&["fred", "tim"]);
    let (at, first) = server.tls.clone().unwrap();
    let at = at.to_string();
    let mut fred = Peer::signed_in(&server, "fred");
    for bad in ["", "nonsense"] {
        server.folder.write("spool/tls.pem", bad);
        server.signal("HUP");
        server.logs("certificate not read again, the old one is kept");
        assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    }
    // Whoever opened a pipe would wait for its other end, and everybody for him.
    let pem = server.folder.path("spool/tls.pem");
    fs::remove_file(&pem).unwrap();
    assert!(run(Command::new("mkfifo").arg(&pem)).status.success());
    server.signal("HUP");
    server.logs("it is no regular file");
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.success());
    fs::remove_file(&pem).unwrap();
    let (_, second) = other.tls.clone().unwrap();
    server.folder.write("spool/tls.pem", &other.folder.read("spool/tls.pem"));
    server.signal("HUP");
    server.logs(&format!("certificate read again: {second}"));
    assert!(run(ping(&server, &at).args(["--tls-fingerprint", &second])).status.success());
    assert_eq!(run(ping(&server, &at).args(["--tls-fingerprint", &first])).status.code(), Some(76));
    // Who is there already stays.
    assert_eq!(fred.ask("whoelse"), ">> Nobody else is online");
}

/// Tries to start a server with these options; its exit code and its line on stderr.
fn refused(folder: &Folder, options: &[&str]) -> (i32, String) {
    let output = run(mms(folder).args(["server", "0", "users"]).args(options));
    assert_eq!(output.stdout, b"");
    (output.status.code().unwrap(), told(&output))
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_before_anything_is_done() {
    let donor = start(&["fred"]);
    let pem = donor.folder.read("spool/tls.pem");
    let key_at = pem.find("-----BEGIN PRIVATE").unwrap();
    let stranger = start(&["fred"]).folder.read("spool/tls.pem");
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    folder.write("chain", &pem[..key_at]);
    folder.write("key", &pem[key_at..]);
    folder.write("another", &stranger[stranger.find("-----BEGIN PRIVATE").unwrap()..]);
    folder.write("empty", "");
    folder.write("loose", &pem[key_at..]);
    folder.chmod("loose", 0o644);
    for (options, code, words) in [
        (["--cert", "missing", "--key", "key"], 66, "missing"),
        (["--cert", "chain", "--key", "missing"], 66, "missing"),
        (["--cert", "empty", "--key", "key"], 78, "BEGIN CERTIFICATE"),
        (["--cert", "key", "--key", "key"], 78, "BEGIN CERTIFICATE"),
        (["--cert", "chain", "--key", "chain"], 78, "BEGIN PRIVATE KEY"),
        (["--cert", "chain", "--key", "another"], 78, "will not do"),
        (["--cert", "chain", "--key", "loose"], 78, "chmod 640 loose"),
    ] {
        let all = [&["--tls", "0"][..], &options].concat();
        let (ended, text) = refused(&folder, &all);
        assert_eq!(ended, code, "{options:?}: {text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{options:?}: {text}");
        assert!(!folder.path("spool").exists());
    }
    for options in [
        &["--cert", "chain", "--key", "key"][..],
        &["--tls", "0", "--cert", "chain"],
        &["--tls", "0", "--key", "key"],
        &["--tls", "70000"],
        &["--tls", "0", "--tls-bind", "localhost"],
    ] {
        assert_eq!(refused(&folder, options).0, 64, "{options:?}");
    }
    let server = Server::start_in(folder, &["--tls", "0", "--cert", "chain", "--key", "key"]);
    assert_eq!(server.tls.as_ref().unwrap().1, donor.tls.as_ref().unwrap().1);
    assert!(!server.folder.path("spool/tls.pem").exists(), "it needs none of its own");
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    if Command::new("openssl").arg("version").output().is_err() {
        return println!("SKIP: no openssl here");
    }
    let folder = Folder::new();
    folder.write("users", &users_file(&["fred"]));
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder.path("."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    openssl("genrsa -traditional -out pkcs1 2048");
    openssl("ecparam -genkey -name prime256v1 -noout -out sec1");
    openssl("genpkey -algorithm ed25519 -out pkcs8");
    for (key, form) in
        [("pkcs1", "RSA PRIVATE"), ("sec1", "EC PRIVATE"), ("pkcs8", "BEGIN PRIVATE")]
    {
        assert!(folder.read(key).contains(form));
        folder.chmod(key, 0o600);
        let name = format!("cert-{key}");
        openssl(&format!("req -new -x509 -days 2 -subj /CN=localhost -key {key} -out {name}"));
        let shown = openssl(&format!("x509 -noout -fingerprint -sha256 -in {name}"));
        let shown = shown.trim_end().split_once('=').unwrap().1.to_owned();
        let inner = Folder::new();
        inner.write("users", &users_file(&["fred"]));
        let (chain, path) = (folder.path(&name), folder.path(key));
        let files = ["--cert", chain.to_str().unwrap(), "--key", path.to_str().unwrap()];
        let server = Server::start_in(inner, &[&["--tls", "0"][..], &files].concat());
        let at = tls_port(&server).to_string();
        // As openssl shows it, with colons and in capitals.
        let output = run(ping(&server, &at).args(["--tls-fingerprint", &shown]));
        assert!(output.status.success(), "{key}: {output:?}");
    }
}

// ---- the sign-in is bound to the connection --------------------------------------------------

/// Signs fred in by SCRAM, with this first message's channel and this proof's.
fn scram(peer: &mut Peer, channel: Channel) -> String {
    let (mut exchange, first) = ClientExchange::begin("fred", "nonce", channel);
    let challenge = peer.ask(&format!("@1 signin fred tool scram {}", STANDARD.encode(first)));
    let Some(challenge) = challenge.strip_prefix("334 @1 ") else { return challenge };
    let challenge = String::from_utf8(STANDARD.decode(challenge).unwrap()).unwrap();
    exchange.answer(&challenge, Secret::Password(PASSWORD.as_bytes())).unwrap();
    let last = exchange.work(u32::MAX).unwrap();
    let answer = peer.ask(&format!("@2 auth {}", STANDARD.encode(last)));
    if let Some(welcome) = answer.strip_prefix("230 @2 ") {
        let proof = STANDARD.decode(welcome.split(' ').next().unwrap()).unwrap();
        exchange.verify(&String::from_utf8(proof).unwrap()).unwrap();
    }
    answer
}

fn coded(server: &Server, version: &'static rustls::SupportedProtocolVersion) -> Peer {
    let mut peer = Peer::over(raw(server), client(server, &[version]));
    assert_eq!([peer.line(), peer.line()], GREETING);
    let switched = peer.ask("coded 1");
    assert!(switched.contains(" scram-sha-256 scram-sha-256-plus plain "), "{switched}");
    peer
}

#[test]
fn a_sign_in_is_bound_to_its_connection() {
    let server = start(&["fred"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut fred = coded(&server, version);
        let channel = Channel::Exporter(fred.binding());
        let answer = scram(&mut fred, channel);
        assert!(answer.starts_with("230 @2 "), "{version:?}: {answer}");
        // Who binds nothing may still come in, as clients that cannot.
        let answer = scram(&mut coded(&server, version), Channel::Plain);
        assert!(answer.starts_with("230 @2 "), "{version:?}: {answer}");
        // Somebody in between has a connection with each of the two.
        let elsewhere = Channel::Exporter(coded(&server, version).binding());
        let answer = scram(&mut coded(&server, version), elsewhere);
        assert_eq!(answer, "535 @2 not-authorized", "{version:?}");
        // He changed what the server offered.
        let answer = scram(&mut coded(&server, version), Channel::Unoffered);
        assert!(answer.starts_with("501 @1 usage server-does-support-channel-binding"), "{answer}");
    }
    let mut plain = server.greeted();
    let switched = plain.ask("coded 1");
    assert!(!switched.contains("plus"), "{switched}");
    let (_, first) = ClientExchange::begin("fred", "nonce", Channel::Exporter([1; 32]));
    let answer = plain.ask(&format!("@1 signin fred tool scram {}", STANDARD.encode(first)));
    assert!(answer.starts_with("501 @1 usage channel-binding-not-supported"), "{answer}");
}

#[test]
fn who_shows_the_right_certificate_without_its_key_is_refused() {
    let (server, other) = (start(&["fred"]), start(&["fred"]));
    let pem = server.folder.read("spool/tls.pem");
    let chain = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = other.folder.read("spool/tls.pem");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = default_provider().key_provider.load_private_key(key).unwrap();
    let forged = rustls::sign::CertifiedKey::new(vec![chain], key);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged.clone()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let impostor = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut socket)?;
            }
            Ok::<(), std::io::Error>(())
        });
        let fingerprint = server.tls.clone().unwrap().1;
        let output = run(ping(&server, &at.to_string()).args(["--tls-fingerprint", &fingerprint]));
        assert_eq!(output.status.code(), Some(76), "{version:?}: {output:?}");
        assert!(told(&output).contains("not trusted"), "{output:?}");
        assert!(impostor.join().unwrap().is_err(), "the handshake was never finished");
    }
}

#[test]
fn a_client_does_not_sign_in_through_somebody_elses_tls() {
    // Somebody who has a certificate of his own, and talks to the server without TLS.
    let server = start(&["fred"]);
    server.folder.write("password", PASSWORD);
    let pem = server.folder.read("spool/tls.pem");
    let chain = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let behind = server.address;
    let heard = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        let mut inner = TcpStream::connect(behind).unwrap();
        inner.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let mut bytes = [0; 4096];
        let mut heard = vec![];
        while !heard.ends_with(b"\n") || heard.iter().filter(|&&b| b == b'\n').count() < 2 {
            let count = stream.read(&mut bytes).unwrap();
            heard.extend_from_slice(&bytes[..count]);
        }
        inner.write_all(&heard).unwrap();
        while !String::from_utf8_lossy(&bytes).contains("501") {
            let count = inner.read(&mut bytes).unwrap();
            stream.write_all(&bytes[..count]).unwrap();
        }
        // It leaves; how does not matter.
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
        String::from_utf8(heard).unwrap()
    });
    let mut command = mms(&server.folder);
    command.args(["who", "--tls", "--user", "fred", "--password-file", "password"]);
    command.args(["--server", &at.to_string()]).env("HOME", server.folder.path("home"));
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(76), "{output:?}");
    assert!(told(&output).contains("TLS ends before the MMS server"), "{output:?}");
    let heard = heard.join().unwrap();
    assert!(!heard.contains("auth"), "{heard}");
}

// ---- what it costs ---------------------------------------------------------------------------

/// Run it with `--release -- --ignored --nocapture --test-threads 1`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_handshake_and_of_an_idle_connection() {
    let server = start(&["fred"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (count, ticks, begun) = (4000, server.cpu_ticks(), std::time::Instant::now());
        for _ in 0..count {
            let peer = Peer::over(raw(&server), client(&server, &[version]));
            SockRef::from(&peer.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
        let spent = (server.cpu_ticks() - ticks) as f64 * 1e4 / f64::from(count);
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!(
            "{:?}: {spent:.0} us of the server's CPU from connect to close, {rate:.0}/s from one \
             client on the same cores",
            version.version
        );
    }
    let (ticks, count) = (server.cpu_ticks(), 4000);
    for _ in 0..count {
        let peer = server.greeted();
        SockRef::from(&peer.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    let spent = (server.cpu_ticks() - ticks) as f64 * 1e4 / f64::from(count);
    println!("without TLS: {spent:.0} us");
    let mut fred = server.signed_in("fred");
    for (strangers, what) in [(0, "alone"), (4, "beside four who shake hands all the time")] {
        let asked = AtomicBool::new(true);
        let times = std::thread::scope(|scope| {
            for _ in 0..strangers {
                scope.spawn(|| {
                    while asked.load(Ordering::Relaxed) {
                        let tls = client(&server, rustls::ALL_VERSIONS);
                        let peer = Peer::over(raw(&server), tls);
                        let at_once = Some(std::time::Duration::ZERO);
                        SockRef::from(&peer.socket).set_linger(at_once).unwrap();
                    }
                });
            }
            let mut times: Vec<_> = (0..2000)
                .map(|_| {
                    let begun = std::time::Instant::now();
                    fred.ask("whoelse");
                    begun.elapsed()
                })
                .collect();
            asked.store(false, Ordering::Relaxed);
            times.sort();
            times
        });
        println!(
            "an answer without TLS, {what}: median {:?}, 99 of 100 {:?}",
            times[1000], times[1980]
        );
    }
    let (count, before) = (2000, server.memory_kib());
    let peers: Vec<Peer> = (0..count).map(|_| Peer::connect(&server)).collect();
    let each = (server.memory_kib() - before) as f64 / f64::from(count);
    println!("{each:.1} KiB a connection over TLS that has been greeted and is idle");
    drop(peers);
}
