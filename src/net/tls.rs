//! TLS at the server's end of a connection: ciphertext in, text out, and the other way round. What
//! the text means, and whose socket it is, is decided elsewhere; files are read elsewhere, too.
//!
//! What is said is encrypted as soon as it is to be written and lies here until the kernel takes
//! it, so that a port can count the very bytes that the peer's kernel acknowledges. No session is
//! ever resumed: connections are few and long, and what would be kept for it is worth stealing.

use crate::limits::{TLS_HANDSHAKE_BYTES, TLS_WRITE_BYTES};
use crate::scram::{BINDING_BYTES, BINDING_LABEL, Binding};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{HandshakeKind, ServerConnection};
use std::fmt;
use std::io::{ErrorKind, Read, Write as _};
use std::sync::Arc;

/// A certificate and its key, ready to be shown to peers.
#[derive(Clone, Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

/// Why there is no certificate.
#[derive(Debug)]
pub enum CertificateFault {
    /// The text holds no certificate.
    NoCertificate,
    /// The text holds no private key that is understood.
    NoKey,
    /// They are of no use, or do not belong together.
    Unusable(String),
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str(
                "it holds no certificate; wanted is PEM with -----BEGIN CERTIFICATE-----, the \
                 server's own first, then those that vouch for it",
            ),
            Self::NoKey => f.write_str(
                "it holds no private key; wanted is PEM with -----BEGIN PRIVATE KEY-----, RSA \
                 PRIVATE KEY or EC PRIVATE KEY, without a passphrase",
            ),
            Self::Unusable(why) => write!(f, "certificate and key will not do: {why}"),
        }
    }
}

impl Certificate {
    /// From the text of both: PEM, a chain and a key.
    ///
    /// # Errors
    /// If that is not what the texts are, or the key is another certificate's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateFault> {
        let unusable = |why: &dyn fmt::Display| CertificateFault::Unusable(why.to_string());
        let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| CertificateFault::NoCertificate)?;
        let first = chain.first().ok_or(CertificateFault::NoCertificate)?;
        let fingerprint = crate::crypto::sha256(first);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateFault::NoKey)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| unusable(&e))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Without it what a connection exports is not its alone (RFC 7627).
        config.require_ems = true;
        let config = Arc::new(config);
        ServerConnection::new(Arc::clone(&config)).map_err(|e| unusable(&e))?;
        Ok(Self { config, fingerprint })
    }

    /// SHA-256 of the server's own certificate, by which a client knows it again.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// A connection that begins.
    pub(super) fn session(&self) -> Box<Session> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config))
            .expect("the first one could be made, and no two differ");
        connection.set_buffer_limit(Some(TLS_WRITE_BYTES));
        Box::new(Session { connection, sealed: Vec::new(), sent: 0, held: 0 })
    }
}

/// One connection's TLS.
pub(super) struct Session {
    connection: ServerConnection,
    /// Ciphertext for the kernel, from `sent` on.
    sealed: Vec<u8>,
    sent: usize,
    /// Ciphertext that has come since something was last made of it.
    held: usize,
}

/// How far a handshake has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shaken {
    /// The peer's next message is awaited.
    Waiting,
    /// It is done, and this is what only the two ends know.
    Done(Binding),
    /// The peer is gone.
    Gone,
    /// The peer did what no peer may.
    Failed(String),
}

/// What a read has brought, besides text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// There may be more.
    Some,
    /// The socket is empty, and so is what was decrypted.
    All,
    /// The peer says that no more will come.
    Goodbye,
    /// The connection broke off, which anybody on the way can bring about; or the peer did what
    /// no peer may.
    Broken,
}

/// What came from a socket at once.
enum Came {
    Bytes,
    Nothing,
    End,
    Fault,
}

impl Session {
    /// Takes in what has come and answers it, up to the end of the handshake.
    pub(super) fn shake(&mut self, socket: &mut impl Read) -> Shaken {
        loop {
            match self.receive(socket) {
                Came::Bytes => {}
                Came::Nothing => return Shaken::Waiting,
                Came::End | Came::Fault => return Shaken::Gone,
            }
            let done = self.connection.process_new_packets();
            self.collect();
            if let Err(error) = done {
                return Shaken::Failed(error.to_string());
            }
            if !self.connection.is_handshaking() {
                return self.binding().map_or_else(Shaken::Failed, Shaken::Done);
            }
            if self.held > TLS_HANDSHAKE_BYTES {
                return Shaken::Failed("the handshake is too long".into());
            }
        }
    }

    fn binding(&mut self) -> Result<Binding, String> {
        self.held = 0;
        debug_assert_ne!(self.connection.handshake_kind(), Some(HandshakeKind::Resumed));
        let binding = [0; BINDING_BYTES];
        self.connection
            .export_keying_material(binding, BINDING_LABEL, None)
            .map_err(|error| error.to_string())
    }

    /// Reads text into `buffer`: how much, and what else there is to know. Of ciphertext it reads
    /// little more than `buffer` is long.
    pub(super) fn read(&mut self, socket: &mut impl Read, buffer: &mut [u8]) -> (usize, Brought) {
        let (mut filled, mut budget) = (0, buffer.len());
        let (mut is_empty, mut is_broken) = (false, false);
        // What came in order before a fault is text like any other; the fault is met again.
        let broken = |filled| (filled, if filled > 0 { Brought::Some } else { Brought::Broken });
        loop {
            match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) if filled < buffer.len() => return (filled, Brought::Goodbye),
                Ok(count) => {
                    filled += count;
                    self.held = 0;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_broken => return broken(filled),
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_empty => {
                    return (filled, Brought::All);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if budget == 0 {
                        return (filled, Brought::Some);
                    }
                    let before = self.held;
                    match self.receive(socket) {
                        // The reader tells whether an end was to be expected.
                        Came::Bytes | Came::End => {}
                        Came::Nothing => is_empty = true,
                        Came::Fault => return broken(filled),
                    }
                    budget = budget.saturating_sub(self.held - before);
                    is_broken = self.connection.process_new_packets().is_err();
                    self.collect();
                }
                Err(_) => return broken(filled),
            }
            if filled == buffer.len() {
                return (filled, Brought::Some);
            }
        }
    }

    fn receive(&mut self, socket: &mut impl Read) -> Came {
        loop {
            match self.connection.read_tls(socket) {
                Ok(0) => return Came::End,
                Ok(count) => {
                    self.held += count;
                    return Came::Bytes;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Came::Nothing,
                Err(_) => return Came::Fault,
            }
        }
    }

    /// Encrypts `text`, all of it, and empties it. False: there is no encrypting any more.
    pub(super) fn seal(&mut self, text: &mut Vec<u8>) -> bool {
        let mut rest = &text[..];
        while !rest.is_empty() {
            match self.connection.writer().write(rest) {
                Ok(count) if count > 0 => rest = &rest[count..],
                _ => return false,
            }
            self.collect();
        }
        text.clear();
        true
    }

    /// Says that no more will come from here.
    pub(super) fn say_goodbye(&mut self) {
        self.connection.send_close_notify();
        self.collect();
    }

    /// Takes over what is ready for the kernel.
    fn collect(&mut self) {
        while self.connection.wants_write() {
            // Writing to memory does not fail.
            if self.connection.write_tls(&mut self.sealed).is_err() {
                return;
            }
        }
    }

    /// What the kernel is to be given.
    pub(super) fn sealed(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// The kernel has taken so many bytes of it. Gives the buffer away that was emptied.
    pub(super) fn sent(&mut self, count: usize) -> Option<Vec<u8>> {
        self.sent += count;
        if self.sent == self.sealed.len() {
            self.sent = 0;
            return Some(std::mem::take(&mut self.sealed));
        }
        if self.sent > TLS_WRITE_BYTES {
            self.sealed.drain(..self.sent);
            self.sent = 0;
        }
        None
    }

    /// Bytes that lie here for one end or the other, besides what an idle connection takes.
    pub(super) fn weight(&self) -> usize {
        self.sealed.capacity() + self.held
    }

    /// Lets go of what was to be written, and gives it away.
    pub(super) fn forget(&mut self) -> Vec<u8> {
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.drain(..std::mem::take(&mut self.sent));
        sealed
    }
}
