//! TLS at the client's end: the handshake, and who is believed in it. However a server is known,
//! it must show that the certificate's key is its own.

use super::known::{Fingerprint, Known, KnownHosts, Unnoted};
use super::link::Why;
use super::oneshot::Trouble;
use super::trust::{Distrust, Route, Trust};
use crate::crypto::sha256;
use crate::proto::foreign::TLS_HANDSHAKE;
use crate::scram::{BINDING_BYTES, BINDING_LABEL, Binding};
use crate::time::Moment;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The first byte of an alert of TLS.
const ALERT: u8 = 0x15;
/// Bytes of what a server says in plain words where TLS was expected.
const WORDS_MOST: usize = 512;
/// Text encrypted at once.
const SEAL_BYTES: usize = 64 << 10;

/// One connection's TLS.
pub(super) struct Session {
    connection: ClientConnection,
    /// What was decrypted and not taken yet.
    text: Vec<u8>,
    ended: bool,
}

impl Session {
    /// Shakes hands over the socket, until the server is known to be the right one.
    pub(super) fn begin(
        route: &Route,
        trust: &Trust,
        socket: &TcpStream,
        left: &dyn Fn() -> Duration,
    ) -> Result<(Self, Binding), Trouble> {
        let known = match trust {
            Trust::FirstUse(hosts) => {
                let known = hosts.find(&route.address);
                known.map_err(|fault| Trouble::Tls(Distrust::Files(fault)))?
            }
            Trust::Pinned(fingerprint) => Some(*fingerprint),
            Trust::Authority(..) => None,
        };
        let provider = Arc::new(default_provider());
        let by_sight = Arc::new(BySight {
            algorithms: provider.signature_verification_algorithms,
            known,
            shown: OnceLock::new(),
        });
        let config = config(provider, trust, &by_sight).map_err(Trouble::Tls)?;
        let name = name(route, trust).map_err(Trouble::Tls)?;
        let connection = ClientConnection::new(Arc::new(config), name);
        let connection = connection.map_err(|error| fault(&error))?;
        let mut session = Self { connection, text: Vec::new(), ended: false };
        if let Err(trouble) = session.shake(socket, left) {
            let shown = by_sight.shown.get().copied();
            return Err(distrust(route, trust, known, shown).unwrap_or(trouble));
        }
        if let (Trust::FirstUse(hosts), None) = (trust, known) {
            let shown = by_sight.shown.get().copied();
            meet(route, hosts, shown, left).map_err(Trouble::Tls)?;
        }
        let binding = [0; BINDING_BYTES];
        let binding = session.connection.export_keying_material(binding, BINDING_LABEL, None);
        let binding = binding.map_err(|error| fault(&error))?;
        Ok((session, binding))
    }

    fn shake(
        &mut self,
        mut socket: &TcpStream,
        left: &dyn Fn() -> Duration,
    ) -> Result<(), Trouble> {
        let lost = |_: io::Error| Trouble::Closed(Why::Lost);
        let mut bytes = [0; 4 << 10];
        let mut is_first = true;
        loop {
            let output = self.output();
            socket.set_write_timeout(Some(left())).map_err(lost)?;
            socket.write_all(&output).map_err(lost)?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            socket.set_read_timeout(Some(left())).map_err(lost)?;
            let count = match socket.read(&mut bytes) {
                Ok(0) => return Err(Trouble::Closed(Why::Lost)),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(Trouble::TimedOut(super::link::State::Greeting));
                }
                Err(error) => return Err(lost(error)),
            };
            if is_first && !matches!(bytes[0], TLS_HANDSHAKE | ALERT) {
                return Err(no_tls(&bytes[..count], socket, left));
            }
            is_first = false;
            if let Err(error) = self.feed(&bytes[..count]) {
                // The server learns why it is left, if it listens.
                _ = socket.write_all(&self.output());
                return Err(unshaken(&error));
            }
        }
    }

    /// Takes in what came from the server; nothing is its end. What it decrypts to is put aside,
    /// for there is a bound to what rustls keeps.
    pub(super) fn feed(&mut self, mut sealed: &[u8]) -> io::Result<()> {
        self.ended |= sealed.is_empty();
        while !sealed.is_empty() {
            if self.connection.read_tls(&mut sealed)? == 0 {
                // The server has said that no more will come.
                self.ended = true;
                return Ok(());
            }
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            let count = state.plaintext_bytes_to_read();
            let end = self.text.len();
            self.text.resize(end + count, 0);
            self.connection.reader().read_exact(&mut self.text[end..])?;
        }
        Ok(())
    }

    /// Text that came, or that there will be none: zero bytes. `None`: more must come first.
    pub(super) fn open(&mut self, text: &mut [u8]) -> Option<usize> {
        let count = self.text.len().min(text.len());
        text[..count].copy_from_slice(&self.text[..count]);
        self.text.drain(..count);
        // A server says goodbye in its own words before it ends a connection.
        (count > 0 || self.ended).then_some(count)
    }

    /// Encrypts text.
    pub(super) fn seal(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        for piece in text.chunks(SEAL_BYTES) {
            self.connection.writer().write_all(piece)?;
            sealed.append(&mut self.output());
        }
        Ok(sealed)
    }

    /// What says that no more will come from here.
    pub(super) fn goodbye(&mut self) -> Vec<u8> {
        self.connection.send_close_notify();
        self.output()
    }

    fn output(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        while self.connection.wants_write() {
            // Writing to memory does not fail.
            if self.connection.write_tls(&mut sealed).is_err() {
                break;
            }
        }
        sealed
    }
}

/// What it means that the first bytes of a server are no TLS: an MMS server that takes nobody now
/// says so in words, and so does one that is spoken to by the wrong port.
fn no_tls(first: &[u8], mut socket: &TcpStream, left: &dyn Fn() -> Duration) -> Trouble {
    let mut words = first.to_vec();
    let mut more = [0; WORDS_MOST];
    while words.len() < WORDS_MOST && !words.contains(&b'\n') {
        // A word at a time could go on for ever.
        if socket.set_read_timeout(Some(left())).is_err() {
            break;
        }
        match socket.read(&mut more) {
            Ok(count) if count > 0 => words.extend_from_slice(&more[..count]),
            _ => break,
        }
    }
    let line = words.split(|&b| b == b'\n').next().unwrap_or_default();
    let line: String = String::from_utf8_lossy(line).trim_end().chars().take(200).collect();
    match line.strip_prefix(">> ") {
        Some(said) if !said.starts_with("Welcome") => Trouble::Closed(Why::TurnedAway(said.into())),
        _ => Trouble::Tls(Distrust::NotTls(line)),
    }
}

fn unshaken(error: &io::Error) -> Trouble {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::InvalidCertificate(why)) => Trouble::Tls(Distrust::Unverified(unverified(why))),
        _ => fault(error),
    }
}

/// What is wrong with a certificate, and what can be done about it.
fn unverified(why: &CertificateError) -> String {
    let moment = |time: &UnixTime| Moment::of_unix(time.as_secs());
    let who_runs_it = "whoever runs the server must put a new one there";
    let by_sight = "know the server by --tls-fingerprint in the place of --ca";
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it has expired, on {}; {who_runs_it}", moment(not_after))
        }
        CertificateError::Expired => format!("it has expired; {who_runs_it}"),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "it is not valid before {}; see whether the clock of this machine is right",
            moment(not_before)
        ),
        CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName => {
            format!("{why}; call the server by a name that it has there, or {by_sight}")
        }
        CertificateError::UnknownIssuer => format!(
            "no certificate in the file of --ca vouches for it; give that of the authority that \
             does, or {by_sight}"
        ),
        // Where it comes from is not named here, but by its name.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            format!("it is made for an authority, and a server must not use it; {by_sight}")
        }
        _ => why.to_string(),
    }
}

fn fault(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Tls(Distrust::Fault(error.to_string()))
}

fn config(
    provider: Arc<CryptoProvider>,
    trust: &Trust,
    by_sight: &Arc<BySight>,
) -> Result<ClientConfig, Distrust> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Distrust::Fault(error.to_string()))?;
    let mut config = match trust {
        Trust::Authority(pem, file) => {
            let told = |why: String| Distrust::Files(format!("{}: {why}", file.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| told(error.to_string()))?;
                roots.add(certificate).map_err(|error| told(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(told("it holds no certificate; wanted is PEM".into()));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::FirstUse(_) | Trust::Pinned(_) => {
            let verifier = Arc::clone(by_sight);
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.resumption = Resumption::disabled();
    // Without it what a connection exports is not its alone (RFC 7627).
    config.require_ems = true;
    Ok(config)
}

/// The name that the server is asked for. Where no name is looked at any will do.
fn name(route: &Route, trust: &Trust) -> Result<ServerName<'static>, Distrust> {
    let host = route.address.rsplit_once(':').map_or(&*route.address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    match (name, trust) {
        (Ok(name), _) => Ok(name),
        (Err(_), Trust::Authority(..)) => {
            Err(Distrust::Unverified(format!("{host:?} is no name that a certificate can have")))
        }
        (Err(_), _) => Ok(ServerName::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST))),
    }
}

/// Why a handshake came to nothing, if it is for the server's certificate.
fn distrust(
    route: &Route,
    trust: &Trust,
    known: Option<Fingerprint>,
    shown: Option<Fingerprint>,
) -> Option<Trouble> {
    let (known, shown) = (known?, shown?);
    if known == shown {
        return None;
    }
    Some(Trouble::Tls(match trust {
        Trust::FirstUse(hosts) => changed(route, hosts, known, shown),
        _ => Distrust::NotPinned(shown),
    }))
}

fn changed(route: &Route, hosts: &KnownHosts, known: Fingerprint, shown: Fingerprint) -> Distrust {
    Distrust::Changed { server: route.address.clone(), known, shown, file: hosts.path() }
}

/// A server that was not known when the handshake began.
fn meet(
    route: &Route,
    hosts: &KnownHosts,
    shown: Option<Fingerprint>,
    left: &dyn Fn() -> Duration,
) -> Result<(), Distrust> {
    let shown = shown.ok_or_else(|| Distrust::Fault("no certificate was shown".into()))?;
    let noted = hosts.remember(&route.address, shown, left).map_err(|unnoted| match unnoted {
        Unnoted::Locked(what) => Distrust::Locked(what),
        Unnoted::Unfit(what) => Distrust::Files(what),
    });
    match noted? {
        Known::Already => {}
        Known::Otherwise(known) => return Err(changed(route, hosts, known, shown)),
        Known::New => (route.tell)(&format!(
            "{} is met for the first time, and known from now on by its certificate {shown}; \
             compare that with what the server tells at its start",
            route.address
        )),
    }
    Ok(())
}

/// Knows a certificate by its looks. That the server has its key is verified as ever.
#[derive(Debug)]
struct BySight {
    algorithms: WebPkiSupportedAlgorithms,
    /// The one that must be shown; any, if there is none.
    known: Option<Fingerprint>,
    shown: OnceLock<Fingerprint>,
}

impl ServerCertVerifier for BySight {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = *self.shown.get_or_init(|| Fingerprint(sha256(end_entity)));
        match self.known {
            Some(known) if known != shown => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
