//! TLS at the server's end of a connection: ciphertext in, text out, and the other way round. What
//! the text means, and whose socket it is, is decided elsewhere; files are read elsewhere, too.
//!
//! What is said is encrypted as soon as it is to be written and lies here until the kernel takes
//! it, so that a port can count the very bytes that the peer's kernel acknowledges. No session is
//! ever resumed: connections are few and long, and what would be kept for it is worth stealing.

use super::validity::Validity;
use crate::limits::{TLS_HANDSHAKE_BYTES, TLS_READ_BYTES, TLS_WRITE_BYTES};
use crate::scram::{BINDING_BYTES, BINDING_LABEL, Binding};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{Error, HandshakeKind, ServerConnection};
use std::fmt;
use std::io::{ErrorKind, Read, Write as _};
use std::sync::Arc;

/// A certificate and its key, ready to be shown to peers.
#[derive(Clone, Debug)]
pub struct Certificate {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
    validity: Option<Validity>,
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
        let (fingerprint, validity) = (crate::crypto::sha256(first), Validity::of(first));
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
        Ok(Self { config, fingerprint, validity })
    }

    /// SHA-256 of the server's own certificate, by which a client knows it again.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// From when to when it is valid, if it tells that.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// A connection that begins.
    pub fn session(&self) -> Box<Session> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config))
            .expect("the first one could be made, and no two differ");
        connection.set_buffer_limit(Some(TLS_WRITE_BYTES));
        Box::new(Session { connection, sealed: Vec::new(), sent: 0, held: 0, unread: 0 })
    }
}

/// One connection's TLS.
pub struct Session {
    connection: ServerConnection,
    /// Ciphertext for the kernel, from `sent` on.
    sealed: Vec<u8>,
    sent: usize,
    /// Ciphertext that has come since something was last made of it; what came together with the
    /// end of that is no more than an idle connection takes. Records without text count,
    /// too, though they are not kept: who sends nothing else is the first to go.
    held: usize,
    /// Text that was made of it and not taken yet.
    unread: usize,
}

/// How far a handshake has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Shaken {
    /// The peer's next message is awaited.
    Waiting,
    /// It is done, and this is what only the two ends know.
    Done(Binding),
    /// The peer is gone.
    Gone,
    /// The peer does not trust the certificate, or speaks no TLS that is spoken here.
    Disagreed(String),
    /// The peer did what no peer may.
    Failed(String),
}

impl From<Error> for Shaken {
    fn from(error: Error) -> Self {
        match error {
            Error::AlertReceived(_) | Error::PeerIncompatible(_) => {
                Self::Disagreed(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What a read has brought, besides text.
#[derive(Debug, PartialEq, Eq)]
pub enum Brought {
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
    Bytes(usize),
    Nothing,
    End,
    Fault,
}

impl Session {
    /// Takes in what has come and answers it, up to the end of the handshake.
    pub fn shake(&mut self, socket: &mut impl Read) -> Shaken {
        loop {
            match self.receive(socket) {
                Came::Bytes(_) => {}
                Came::Nothing => return Shaken::Waiting,
                Came::End | Came::Fault => return Shaken::Gone,
            }
            if let Err(error) = self.open() {
                return error.into();
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
    pub fn read(&mut self, socket: &mut impl Read, buffer: &mut [u8]) -> (usize, Brought) {
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
                    self.unread = self.unread.saturating_sub(count);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_broken => return broken(filled),
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_empty => {
                    return (filled, Brought::All);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if budget == 0 {
                        return (filled, Brought::Some);
                    }
                    match self.receive(socket) {
                        Came::Bytes(count) => budget = budget.saturating_sub(count),
                        // The reader tells whether it was to be expected.
                        Came::End => {}
                        Came::Nothing => is_empty = true,
                        Came::Fault => return broken(filled),
                    }
                    is_broken = self.open().is_err();
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
            let socket = socket.by_ref();
            match self.connection.read_tls(&mut socket.take(TLS_READ_BYTES)) {
                Ok(0) => return Came::End,
                Ok(count) => {
                    self.held += count;
                    return Came::Bytes(count);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Came::Nothing,
                Err(_) => return Came::Fault,
            }
        }
    }

    /// Makes of what has come what can be made of it, and answers it.
    fn open(&mut self) -> Result<(), Error> {
        let opened = self.connection.process_new_packets();
        self.collect();
        self.unread = opened?.plaintext_bytes_to_read();
        Ok(())
    }

    /// Encrypts `text`, all of it, and empties it. False: there is no encrypting any more.
    pub fn seal(&mut self, text: &mut Vec<u8>) -> bool {
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
    pub fn say_goodbye(&mut self) {
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
    pub fn sealed(&self) -> &[u8] {
        &self.sealed[self.sent..]
    }

    /// The kernel has taken so many bytes of it. Gives the buffer away that was emptied.
    pub fn sent(&mut self, count: usize) -> Option<Vec<u8>> {
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
    pub fn weight(&self) -> usize {
        self.sealed.capacity() + self.held + self.unread
    }

    /// Lets go of what was to be written, and gives it away.
    pub fn forget(&mut self) -> Vec<u8> {
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.drain(..std::mem::take(&mut self.sent));
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::io;

    /// A server's end and a client's, which have shaken hands.
    fn joined() -> (Box<Session>, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let mut server = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap().session();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        for _ in 0..3 {
            let shaken = server.shake(&mut Socket(&sealed(&mut client, b"")));
            if let Shaken::Done(_) = shaken {
                return (server, client);
            }
            assert_eq!(shaken, Shaken::Waiting);
            let answer = server.forget();
            client.read_tls(&mut &answer[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        panic!("they do not come to an end");
    }

    /// What the client's kernel is given.
    fn sealed(client: &mut ClientConnection, text: &[u8]) -> Vec<u8> {
        client.writer().write_all(text).unwrap();
        let mut bytes = vec![];
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// What has come, and no more for now.
    struct Socket<'a>(&'a [u8]);

    impl Read for Socket<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.is_empty() {
                true => Err(ErrorKind::WouldBlock.into()),
                false => self.0.read(buffer),
            }
        }
    }

    /// What the client makes of what its kernel has.
    fn opened(client: &mut ClientConnection, mut sealed: &[u8]) -> Vec<u8> {
        let mut text = vec![];
        while !sealed.is_empty() {
            client.read_tls(&mut sealed).unwrap();
            let begin = text.len();
            let count = client.process_new_packets().unwrap().plaintext_bytes_to_read();
            text.resize(begin + count, 0);
            client.reader().read_exact(&mut text[begin..]).unwrap();
        }
        text
    }

    /// Text in which no piece is like the one before it.
    fn text(length: u32) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn what_the_kernel_takes_in_pieces_is_what_was_said() {
        let (mut server, mut client) = joined();
        let mut taken = vec![];
        let mut take = |server: &mut Session, most: usize| {
            let count = most.min(server.sealed().len());
            taken.extend_from_slice(&server.sealed()[..count]);
            server.sent(count)
        };
        let said = text(4_000_000);
        // About as much as is said, and nothing at first.
        let pieces = [1, 16_000, 0, 70_000, 7, 0, TLS_WRITE_BYTES, TLS_WRITE_BYTES + 1, 5_000];
        let mut pieces = [0; 5].iter().chain(pieces.iter().cycle());
        for piece in said.chunks(24_000) {
            assert!(server.seal(&mut piece.to_vec()));
            let most = *pieces.next().unwrap();
            if most > 0 {
                assert!(take(&mut server, most).is_none_or(|buffer| buffer.capacity() > 0));
            }
            assert!(server.weight() >= server.sealed().len());
            assert!(server.weight() < 8 * TLS_WRITE_BYTES, "what was taken is let go of");
        }
        while !server.sealed().is_empty() {
            take(&mut server, 10_000);
        }
        assert!(opened(&mut client, &taken) == said);
    }

    #[test]
    fn what_is_let_go_of_is_what_the_kernel_has_not_taken() {
        let (mut server, mut client) = joined();
        // More than is encrypted at once.
        let said = text(100_000);
        for taken in [0, 1, 20_000, 70_000] {
            assert!(server.seal(&mut said.clone()));
            let mut sealed = server.sealed()[..taken].to_vec();
            if taken > 0 {
                assert!(server.sent(taken).is_none());
            }
            sealed.append(&mut server.forget());
            assert!(opened(&mut client, &sealed) == said);
            assert!(server.sealed().is_empty());
        }
    }

    #[test]
    fn whatever_lies_here_is_weighed() {
        let (mut server, mut client) = joined();
        assert_eq!(server.weight(), 0, "who idles weighs nothing");
        let record = sealed(&mut client, &[b'x'; 16_000]);
        let (half, rest) = record.split_at(15_000);
        let mut buffer = [0; 1_000];
        let half = server.read(&mut Socket(half), &mut [0; 32_000]);
        assert_eq!((half, server.weight()), ((0, Brought::All), 15_000), "half a record");
        assert_eq!(server.read(&mut Socket(rest), &mut buffer), (1_000, Brought::Some));
        assert_eq!(server.weight(), 15_000, "what there was no room for");
        assert_eq!(server.read(&mut Socket(b""), &mut [0; 32_000]), (15_000, Brought::All));
        assert_eq!(server.weight(), 0, "all is taken");
        assert!(server.seal(&mut vec![b'y'; 100_000]));
        assert!(server.weight() > 100_000, "what the kernel has not taken");
        assert!(server.sent(60_000).is_none());
        assert!(server.weight() > 100_000, "the buffer is as large as before");
        assert_eq!(server.sent, 60_000, "the rest is not moved for so little");
        assert!(server.sent(server.sealed().len() - 1).is_none());
        assert!(server.weight() > 100_000, "even for a byte");
        assert!(server.sent(1).is_some_and(|buffer| buffer.capacity() > 100_000));
        assert_eq!(server.weight(), 0, "nothing is left");
        server.seal(&mut vec![b'y'; 1_000]);
        server.forget();
        assert_eq!(server.weight(), 0, "it was let go of");
    }
}
