//! A sign-in is bound to its connection: nobody passes it on to another.

use super::certificates::{ping, told};
use super::{GREETING, Peer, client, raw, start};
use crate::support::server::{PASSWORD, PATIENCE, Server, mms, run};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mms::scram::{Channel, ClientExchange, Secret};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

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

pub(super) fn coded(server: &Server, version: &'static rustls::SupportedProtocolVersion) -> Peer {
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
