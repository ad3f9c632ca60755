//! The server's end of TLS, against any bytes and against a client of rustls between whom and the
//! server somebody sits: what is read is what the client wrote, up to the first byte that is not
//! the client's, and never an end that only he can say. However it is cut.
//!
//! Keys are drawn anew each time, so what must hold is said without them.

mod conversation;

use super::{Input, pieces};
use mms::limits::{TLS_HANDSHAKE_BYTES, TLS_READ_BYTES, TLS_WRITE_BYTES};
use mms::net::{Brought, Certificate, Session, Shaken, Standing, Validity};
use mms::time::Moment;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, SupportedProtocolVersion};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, OnceLock};

/// What a record takes besides its text, and more.
const RECORD_MORE: usize = 64;
/// The most text of a record.
const RECORD_TEXT: usize = 16 << 10;
/// The most bytes that a record may have.
const RECORD_BYTES: usize = RECORD_TEXT + (2 << 10) + 5;
/// What a server answers in a handshake, with a short certificate, and more.
const ANSWER_BYTES: usize = 8 << 10;
/// What is read from a socket at once, and need not be counted.
const READ_BYTES: usize = TLS_READ_BYTES as usize;
/// What a client of these tests does at most.
const DEEDS: usize = 40;
/// Pieces that reach the server at most, and more turns than that could ever take.
const PIECES: usize = 2_000;
const TURNS: usize = 1 << 20;
/// New keys that it asks for; somewhat more, without text between them, are refused.
const NEW_KEYS: usize = 8;

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 5 {
        0 => any_bytes(input),
        1 => bytes_behind_a_greeting(input),
        2 => forged_handshake(input),
        3 => conversation::conversation(input),
        _ => dates_of_a_certificate(input),
    }
}

// ---- a socket, and what reads from it --------------------------------------------------------

/// What comes behind the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Nothing,
    Fin,
    Reset,
}

const ENDINGS: [Ending; 3] = [Ending::Nothing, Ending::Fin, Ending::Reset];

/// What a socket has: it is empty behind each piece.
struct Wire<'a> {
    pieces: VecDeque<&'a [u8]>,
    ending: Ending,
    disturbed: bool,
}

impl<'a> Wire<'a> {
    fn new(pieces: Vec<&'a [u8]>, ending: Ending) -> Self {
        Self { pieces: pieces.into(), ending, disturbed: false }
    }

    /// Nothing is left to be met.
    fn is_over(&self) -> bool {
        self.pieces.is_empty() && self.ending == Ending::Nothing
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // As by a signal, before every other call.
        self.disturbed = !self.disturbed;
        if self.disturbed {
            return Err(ErrorKind::Interrupted.into());
        }
        match (self.pieces.front_mut(), self.ending) {
            (Some([]), _) => {
                self.pieces.pop_front();
                Err(ErrorKind::WouldBlock.into())
            }
            (Some(piece), _) => piece.read(buffer),
            (None, Ending::Nothing) => Err(ErrorKind::WouldBlock.into()),
            (None, Ending::Fin) => Ok(0),
            (None, Ending::Reset) => Err(ErrorKind::ConnectionReset.into()),
        }
    }
}

/// How it ends with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More of the handshake is awaited.
    Shaking,
    Gone,
    Failed,
    /// It lives.
    Open,
    Goodbye,
    Broken,
}

/// The server's end, used as a port uses it.
struct Server {
    session: Box<Session>,
    shaken: bool,
    /// What it has read.
    text: Vec<u8>,
    /// How much it reads at once.
    buffer: usize,
    /// What the kernel was given.
    written: Vec<u8>,
    /// The most that ever lay there for it.
    most_sealed: usize,
}

impl Server {
    fn new(buffer: usize) -> Self {
        let session = party().0.session();
        Self {
            session,
            shaken: false,
            text: vec![],
            buffer,
            written: vec![],
            most_sealed: ANSWER_BYTES,
        }
    }

    /// Reads until there is nothing to be read, or no more to come.
    fn hear(&mut self, wire: &mut Wire<'_>) -> End {
        let mut buffer = vec![0; self.buffer];
        for _ in 0..TURNS {
            let end = match self.shaken {
                false => self.shake(wire),
                true => self.read(wire, &mut buffer),
            };
            self.is_weighed();
            match end {
                Some(End::Shaking | End::Open) if !wire.is_over() => {}
                Some(end) => return end,
                None => {}
            }
        }
        panic!("it spins");
    }

    fn shake(&mut self, wire: &mut Wire<'_>) -> Option<End> {
        match self.session.shake(wire) {
            Shaken::Waiting => Some(End::Shaking),
            Shaken::Done(_) => {
                self.shaken = true;
                None
            }
            Shaken::Gone => Some(End::Gone),
            Shaken::Disagreed(why) | Shaken::Failed(why) => {
                assert!(!why.is_empty());
                Some(End::Failed)
            }
        }
    }

    fn read(&mut self, wire: &mut Wire<'_>, buffer: &mut [u8]) -> Option<End> {
        let (count, brought) = self.session.read(wire, buffer);
        self.text.extend_from_slice(&buffer[..count]);
        // Whoever hears that it broke looks at nothing else.
        assert!(count == 0 || brought != Brought::Broken, "text that nobody looks at");
        match brought {
            Brought::Some => None,
            Brought::All => Some(End::Open),
            Brought::Goodbye => Some(End::Goodbye),
            Brought::Broken => Some(End::Broken),
        }
    }

    /// There are bounds to what it holds.
    fn is_weighed(&mut self) {
        let (weight, sealed) = (self.session.weight(), self.session.sealed().len());
        let held = match self.shaken {
            true => 2 * RECORD_BYTES + READ_BYTES + NEW_KEYS * RECORD_MORE,
            false => TLS_HANDSHAKE_BYTES + READ_BYTES,
        };
        self.most_sealed = self.most_sealed.max(sealed);
        let room = match sealed {
            0 => 0,
            // A vector doubles what it has, and what was taken lies there for a while.
            _ => 2 * (self.most_sealed + TLS_WRITE_BYTES),
        };
        assert!(sealed <= weight && weight <= room + held, "{weight} for {sealed}");
    }

    /// Gives so many bytes to the kernel, if there are as many.
    fn write(&mut self, most: usize) {
        let sealed = self.session.sealed();
        let count = sealed.len().min(most);
        let (now, later) = sealed.split_at(count);
        self.written.extend_from_slice(now);
        let later = later.to_vec();
        if count > 0 {
            self.session.sent(count);
        }
        assert_eq!(self.session.sealed(), later, "what was not taken stays");
    }

    fn answer(&mut self) -> Vec<u8> {
        self.write(usize::MAX);
        std::mem::take(&mut self.written)
    }
}

/// The server's certificate, and that as a client knows it.
fn party() -> &'static (Certificate, CertificateDer<'static>) {
    static PARTY: OnceLock<(Certificate, CertificateDer<'static>)> = OnceLock::new();
    PARTY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("it is made");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes());
        (certificate.expect("they belong together"), made.cert.der().clone())
    })
}

// ---- bytes -----------------------------------------------------------------------------------

/// Nobody gets through a handshake without taking part in it.
fn any_bytes(mut input: Input<'_>) {
    let (cuts, ending) = (input.cuts(), input.pick(&ENDINGS));
    // Now and then more than a handshake may have.
    let bytes = input.0.repeat(if input.0.len() > 2_000 { 12 } else { 1 });
    let heard = |pieces| {
        let mut server = Server::new(1);
        let end = server.hear(&mut Wire::new(pieces, ending));
        let answer = server.session.forget();
        assert!(answer.len() <= ANSWER_BYTES, "{}", answer.len());
        assert!(server.session.sealed().is_empty());
        end
    };
    let end = heard(vec![&bytes]);
    if bytes.len() >= 5 && !(20..=24).contains(&bytes[0]) {
        assert_eq!(end, End::Failed, "no record begins like that");
    }
    assert!(!matches!(end, End::Open | End::Goodbye | End::Broken), "{end:?}");
    assert_eq!(heard(pieces(&bytes, &cuts)), end, "{cuts:?}");
    assert_eq!(heard(bytes.chunks(1).collect()), end, "a byte at a time");
    let never = [End::Shaking, End::Gone][usize::from(ending == Ending::Nothing)];
    assert_ne!(end, never);
}

/// The same in the midst of one.
fn bytes_behind_a_greeting(mut input: Input<'_>) {
    let (cuts, ending) = (input.cuts(), input.pick(&ENDINGS));
    let mut client = client(input.byte());
    let mut server = Server::new(1);
    let greeting = output(&mut client);
    assert_eq!(server.hear(&mut Wire::new(vec![&greeting], Ending::Nothing)), End::Shaking);
    assert!((1..=ANSWER_BYTES).contains(&server.answer().len()));
    let end = server.hear(&mut Wire::new(pieces(input.0, &cuts), ending));
    assert!(matches!(end, End::Shaking | End::Gone | End::Failed), "{end:?}");
    assert!(!server.shaken && server.answer().len() <= ANSWER_BYTES);
}

/// Whatever is done to a certificate, its dates are read or not.
fn dates_of_a_certificate(mut input: Input<'_>) {
    let mut bytes = party().1.to_vec();
    let whole = Validity::of(&bytes).expect("a whole one has them");
    let now = Moment::of_unix(1_800_000_000);
    assert_eq!(whole.standing(now), Standing::Valid);
    let (from, length) = (input.number() % bytes.len(), usize::from(input.byte() % 8));
    let to = (from + length).min(bytes.len());
    bytes.splice(from..to, input.0.iter().copied());
    for bytes in [&bytes, input.0] {
        let Some(found) = Validity::of(bytes) else { continue };
        assert!(found.from.to_string().ends_with(" UTC"));
        match found.standing(now) {
            Standing::Valid => assert!(found.from <= now && now <= found.to),
            Standing::NotYet(from) => assert!(now < from && from == found.from),
            Standing::Expired(to) => assert!(to < now && to == found.to),
        }
    }
}

// ---- a client --------------------------------------------------------------------------------

fn client(version: u8) -> ClientConnection {
    static CONFIGS: OnceLock<[Arc<ClientConfig>; 2]> = OnceLock::new();
    let config = |version: &'static SupportedProtocolVersion| {
        let mut roots = RootCertStore::empty();
        roots.add(party().1.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .expect("it has both versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    };
    let configs =
        CONFIGS.get_or_init(|| [config(&rustls::version::TLS13), config(&rustls::version::TLS12)]);
    let config = Arc::clone(&configs[usize::from(version % 2)]);
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(config, name).expect("a client")
}

fn output(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = vec![];
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("writing to memory does not fail");
    }
    bytes
}

/// What the client makes of it: the text, and whether it is content.
fn read(client: &mut ClientConnection, mut bytes: &[u8]) -> (Vec<u8>, Result<(), Error>) {
    let mut text = vec![];
    loop {
        let count = client.read_tls(&mut bytes).expect("what was read was taken");
        let content = client.process_new_packets().map(drop);
        // What came before a fault is text like any other.
        _ = client.reader().read_to_end(&mut text);
        if count == 0 || content.is_err() {
            return (text, content);
        }
    }
}

/// A byte of the handshake is not the client's own: neither end then takes it for done.
fn forged_handshake(mut input: Input<'_>) {
    let (cuts, mut client) = (input.cuts(), client(input.byte()));
    let (flight, at, mask) = (input.byte() % 2, input.number(), input.byte().max(1));
    let mut server = Server::new(1);
    for turn in 0.. {
        let mut bytes = output(&mut client);
        if turn == flight {
            let records = records_of(&bytes);
            // What is told before the keys change, and the first thing behind it.
            let (from, to) = records[[0, records.len() - 1][usize::from(turn)]];
            // Headers are not all authenticated.
            bytes[from + 5 + at % (to - from - 5)] ^= mask;
        }
        let end = server.hear(&mut Wire::new(pieces(&bytes, &cuts), Ending::Nothing));
        assert!(!server.shaken, "a forged handshake was taken");
        let answer = server.answer();
        assert!(answer.len() <= ANSWER_BYTES);
        let (text, _) = read(&mut client, &answer);
        assert!(text.is_empty());
        if turn == flight && (turn == 1 || end == End::Failed) {
            // What cannot be decrypted is no message that is still to come.
            return assert_eq!(end, End::Failed);
        }
        if turn == 1 {
            return assert!(client.is_handshaking(), "an answer to what was never said");
        }
        assert_eq!(end, End::Shaking);
    }
}

/// Where each record begins and ends.
fn records_of(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = vec![];
    let mut at = 0;
    while let Some(length) = length_of(&bytes[at..]) {
        found.push((at, at + length));
        at += length;
    }
    assert_eq!(at, bytes.len(), "the client's own records are whole");
    found
}

/// How long the record is that begins here, if its header is there.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(3..5)?;
    Some(5 + usize::from(length[0]) * 256 + usize::from(length[1]))
}
