//! TLS, against the real server: with openssl's client, with one that is taken apart here, and with
//! the commands.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod binding;
mod certificates;
mod conversation;
mod cost;
mod delivery;
mod handshakes;
mod memory;
#[path = "../support/mod.rs"]
mod support;

use mms::scram::Binding;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::Socket;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use support::server::{PASSWORD, PATIENCE, Server};

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
