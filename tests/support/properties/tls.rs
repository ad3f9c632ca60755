//! The server's end of TLS, against any bytes and against a client of rustls between whom and the
//! server somebody sits: what is read is what the client wrote, up to the first byte that is not
//! the client's, and never an end that only he can say. However it is cut.
//!
//! Keys are drawn anew each time, so what must hold is said without them.

use super::{Input, pieces};
use mms::limits::{TLS_HANDSHAKE_BYTES, TLS_READ_BYTES, TLS_WRITE_BYTES};
use mms::net::{Brought, Certificate, Moment, Session, Shaken, Standing, Validity};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, SupportedProtocolVersion};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write as _};
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
/// New keys that it asks for; somewhat more, without text between them, are refused.
const NEW_KEYS: usize = 8;

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 5 {
        0 => any_bytes(input),
        1 => bytes_behind_a_greeting(input),
        2 => forged_handshake(input),
        3 => conversation(input),
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
        loop {
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
    let now = Moment::of_unix(1_800_000_000_000);
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
            assert!(matches!(end, End::Failed | End::Shaking));
            return;
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

// ---- a conversation, and somebody in the middle ----------------------------------------------

/// What the client has said: its records one behind the other, and the text of each.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// Where a record ends, how much text there is up to there, and whether a goodbye.
    ends: Vec<(usize, usize, bool)>,
    text: Vec<u8>,
}

impl Said {
    fn add(&mut self, sealed: &[u8], text: &[u8], goodbye: bool) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(sealed);
        let mut left = text.len();
        for (_, end) in records_of(sealed) {
            let here = left.min(RECORD_TEXT);
            left -= here;
            let told = self.ends.last().map_or(0, |&(_, told, _)| told) + here;
            self.ends.push((begin + end, told, goodbye));
        }
        assert_eq!(left, 0, "a record holds as much as it may");
        self.text.extend_from_slice(text);
    }
}

/// What is on its way, as whoever sits there has changed it.
struct Middle {
    /// One or more records each.
    carried: Vec<Vec<u8>>,
}

impl Middle {
    fn last(&mut self) -> Option<&mut Vec<u8>> {
        self.carried.last_mut().filter(|last| !last.is_empty())
    }

    /// Does something to what has been said last.
    fn meddle(&mut self, deed: u8, input: &mut Input<'_>) {
        let count = self.carried.len();
        match deed {
            3 => {
                let (at, mask) = (input.number(), input.byte().max(1));
                let Some(last) = self.last() else { return };
                let at = at % last.len();
                // Kind and version of a record say nothing in TLS 1.3, and are not looked at.
                if at > 2 {
                    last[at] ^= mask;
                }
            }
            4 => {
                let less = input.number();
                let Some(last) = self.last() else { return };
                let left = last.len() - less % last.len();
                last.truncate(left);
            }
            5 if count > 0 => {
                let again = self.carried[input.number() % count].clone();
                self.carried.push(again);
            }
            6 if count > 1 => self.carried.swap(count - 2, count - 1),
            7 => _ = self.carried.pop(),
            8 => {
                let kind = input.pick(&[20, 21, 22, 23, 24, 0, 255]);
                let length = usize::from(input.byte() % 32);
                let mut record = vec![kind, 3, 3, 0, length as u8];
                record.extend((0..length).map(|_| input.byte()));
                self.carried.push(record);
            }
            _ => {
                let length = usize::from(input.byte() % 16);
                self.carried.push((0..length).map(|_| input.byte()).collect());
            }
        }
    }
}

/// What is agreed upon before the conversation, in the order of the input.
struct Plan {
    cuts: Vec<usize>,
    buffer: usize,
    ending: Ending,
}

fn conversation(mut input: Input<'_>) {
    let mut client = client(input.byte());
    let plan = Plan {
        cuts: input.long_cuts(),
        buffer: input.pick(&[1, 7, 512, 4096, RECORD_TEXT, 64 << 10]),
        ending: input.pick(&ENDINGS),
    };
    let mut server = Server::new(plan.buffer);
    let mut said = Said::default();
    // With TLS 1.3 the end of the handshake comes together with what follows.
    let finish = shake_hands(&mut client, &mut server, &plan);
    let mut middle = Middle { carried: vec![] };
    let mut told = vec![];
    let (mut new_keys, mut goodbye) = (0, false);
    for _ in 0..DEEDS {
        if input.0.is_empty() {
            break;
        }
        let mut speak = |client: &mut ClientConnection, text: &[u8], goodbye| {
            let sealed = output(client);
            said.add(&sealed, text, goodbye);
            middle.carried.push(sealed);
        };
        match input.byte() % 13 {
            0..=2 if !goodbye => {
                let length = input.number() % (2 * RECORD_TEXT);
                let text: Vec<u8> = (0..length).map(|at| (at / 3) as u8).collect();
                client.writer().write_all(&text).expect("there is room for it");
                speak(&mut client, &text, false);
            }
            10 if !goodbye => {
                client.send_close_notify();
                goodbye = true;
                speak(&mut client, b"", true);
            }
            11 if !goodbye && new_keys < NEW_KEYS && client.refresh_traffic_keys().is_ok() => {
                new_keys += 1;
                speak(&mut client, b"", false);
            }
            12 => told.push(input.number()),
            deed @ 3..=9 => middle.meddle(deed, &mut input),
            _ => {}
        }
    }
    let carried = middle.carried.concat();
    let end = converse(&mut server, [&finish[..], &carried].concat(), &told, &plan);
    let rest = only_what_was_said(&server, &said, &carried, (end, plan.ending));
    if end == End::Open {
        let held = server.session.weight() - server.session.sealed().len();
        assert!(held + READ_BYTES >= rest, "{held} is counted of {rest} bytes");
    }
    all_is_heard(&mut server, &mut client, told, new_keys);
}

/// Shakes hands up to the client's last words, which are returned.
fn shake_hands(client: &mut ClientConnection, server: &mut Server, plan: &Plan) -> Vec<u8> {
    for _ in 0..3 {
        let words = output(client);
        if !client.is_handshaking() {
            return words;
        }
        server.hear(&mut Wire::new(pieces(&words, &plan.cuts), Ending::Nothing));
        let answer = server.answer();
        assert!((1..=ANSWER_BYTES).contains(&answer.len()), "{}", answer.len());
        let (text, content) = read(client, &answer);
        assert!(text.is_empty() && content.is_ok(), "{content:?}");
    }
    panic!("they do not come to an end");
}

/// The server hears it all, and has something to tell itself between the pieces.
fn converse(server: &mut Server, bytes: Vec<u8>, told: &[usize], plan: &Plan) -> End {
    let pieces = pieces(&bytes, &plan.cuts);
    let mut told = told.iter();
    let mut last = Wire::new(vec![], plan.ending);
    let mut end = End::Open;
    for piece in pieces {
        end = server.hear(&mut Wire::new(vec![piece], Ending::Nothing));
        if !matches!(end, End::Open | End::Shaking) {
            break;
        }
        if server.shaken
            && let Some(length) = told.next()
        {
            tell(server, *length);
            server.write(length / 2);
        }
    }
    if matches!(end, End::Open | End::Shaking) {
        end = server.hear(&mut last);
    }
    // A port says no more where it is broken; elsewhere what is left is told before the end.
    told.for_each(|length| {
        if matches!(end, End::Open | End::Goodbye) {
            tell(server, *length);
        }
    });
    end
}

fn tell(server: &mut Server, length: usize) {
    let before = server.session.sealed().len();
    let mut text = vec![b'>'; length];
    assert!(server.session.seal(&mut text) && text.is_empty());
    let grown = server.session.sealed().len() - before;
    // New keys are told with it, if they were asked for.
    let more = (length / RECORD_TEXT + 2) * RECORD_MORE;
    assert!(length <= grown && grown <= length + more, "{grown} for {length}");
    server.is_weighed();
}

/// What the server has read and taken for the end. Returns how many bytes are the half of a record.
fn only_what_was_said(
    server: &Server,
    said: &Said,
    carried: &[u8],
    (end, ending): (End, Ending),
) -> usize {
    let same = said.bytes.iter().zip(carried).take_while(|(a, b)| a == b).count();
    let whole = said.ends.iter().take_while(|(at, ..)| *at <= same);
    let &(at, length, _) = whole.clone().last().unwrap_or(&(0, 0, false));
    let length = if server.shaken { length } else { 0 };
    assert_eq!(server.text.len(), length, "all that is whole and in order, and nothing else");
    assert!(server.text == said.text[..length]);
    let rest = &carried[at..];
    if !server.shaken {
        // What is forged was read together with the end of the handshake.
        assert!(end == End::Failed && !rest.is_empty(), "{end:?}");
        return 0;
    }
    if whole.clone().any(|(.., goodbye)| *goodbye) {
        assert_eq!(end, End::Goodbye);
        return 0;
    }
    let is_forged = length_of(rest).is_some_and(|length| length <= rest.len());
    match (is_forged, ending) {
        // Half a record, or what may still become one.
        (false, Ending::Nothing) if end == End::Open => rest.len(),
        (false, Ending::Nothing) => {
            assert!(end == End::Broken && !rest.is_empty(), "{end:?}");
            0
        }
        _ => {
            assert_eq!(end, End::Broken);
            0
        }
    }
}

/// The client reads what the server has told, in whole, and then at most why it was left.
fn all_is_heard(
    server: &mut Server,
    client: &mut ClientConnection,
    told: Vec<usize>,
    new_keys: usize,
) {
    let sealed = server.answer();
    let (text, content) = read(client, &sealed);
    let most: usize = told.iter().sum();
    assert!(text.len() <= most && text.iter().all(|&b| b == b'>'));
    let more = (most / RECORD_TEXT + 2 * told.len() + new_keys + 2) * RECORD_MORE;
    assert!(sealed.len() <= text.len() + more + ANSWER_BYTES, "{} bytes", sealed.len());
    assert!(matches!(content, Ok(()) | Err(Error::AlertReceived(_))), "{content:?}");
}
