//! What each server is told, and how what it says is understood: three things only. Somebody is
//! who he says; a text for somebody, or for all; a text has come, or was taken.
//!
//! A text begins with `~T` and 16 hexadecimal digits, the time when it was sent, so that whoever
//! reads it knows how long it took. Nothing else that servers say has that.

use super::contender::Contender;
use super::work::Setup;
use crate::scram::{self, Channel, ClientExchange, Keys, Secret};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem;
use memchr::{memchr, memrchr};
use std::io::Write as _;

/// A text begins with it.
const MARK: &[u8] = b"~T";
const DIGITS: usize = 16;
/// The shortest text.
pub(super) const TEXT_BYTES_LEAST: usize = MARK.len() + DIGITS;
/// Letters that a program takes before it acknowledges them: far below the 256 after which no more
/// come, so that nobody waits for it, and more than one, as any program would.
const LETTERS_AN_ACK: u32 = 16;
/// The password of all users.
pub(super) const PASSWORD: &str = "secret";

/// Which of the two MMS is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As programs do.
    Coded,
    /// As people do.
    Plain,
}

/// How users show that they know their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// The server need not stretch it.
    Scram,
    /// It must.
    Password,
}

/// How far somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not signed in.
    Knocking,
    /// IRC: greeted, not in the channel.
    Greeted,
    /// Signed in.
    In,
}

/// What is known of one connection besides its socket.
#[derive(Debug)]
pub(super) struct Voice {
    pub(super) user: usize,
    pub(super) stage: Stage,
    /// What is to be written.
    pub(super) output: Vec<u8>,
    exchange: Option<Box<ClientExchange>>,
    unacknowledged: u32,
}

impl Voice {
    pub(super) fn new(user: usize) -> Self {
        let output = Vec::new();
        Self { user, stage: Stage::Knocking, output, exchange: None, unacknowledged: 0 }
    }
}

/// What was heard, until somebody takes it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Who has read a text, and when it was sent.
    pub(super) texts: Vec<(usize, u64)>,
    /// Whose text was taken, once for each.
    pub(super) taken: Vec<usize>,
}

/// One protocol.
#[derive(Debug)]
pub(super) enum Tongue {
    Coded {
        keys: Keys,
        sign_in: SignIn,
    },
    Plain,
    Relay {
        /// Each text is answered.
        answers: bool,
    },
    /// Publish and subscribe.
    Redis,
    /// A stream a user.
    Stream,
    Nats,
    Irc,
    Mqtt,
}

impl Tongue {
    pub(super) fn of(who: Contender, setup: &Setup) -> Self {
        match who {
            Contender::Mms if setup.dialect == Dialect::Plain => Self::Plain,
            Contender::Mms => Self::Coded { keys: setup.keys(), sign_in: setup.sign_in },
            Contender::Relay => Self::Relay { answers: false },
            Contender::Answering => Self::Relay { answers: true },
            Contender::Redis if setup.durable => Self::Stream,
            Contender::Redis => Self::Redis,
            Contender::Nats => Self::Nats,
            Contender::Inspircd | Contender::Ngircd => Self::Irc,
            Contender::Mosquitto => Self::Mqtt,
        }
    }

    /// The first words of somebody.
    pub(super) fn greet(&self, voice: &mut Voice) {
        let (user, out) = (voice.user, &mut voice.output);
        let done = match self {
            Self::Coded { sign_in: SignIn::Password, .. } => {
                write!(out, "coded 1\r\nsignin u{user} online plain {PASSWORD}\r\n")
            }
            Self::Coded { sign_in: SignIn::Scram, .. } => {
                let mut entropy = [0; scram::NONCE_ENTROPY_BYTES];
                entropy[..8].copy_from_slice(&user.to_le_bytes()[..8]);
                let (exchange, first) = ClientExchange::begin(
                    &format!("u{user}"),
                    &scram::nonce(&entropy),
                    Channel::Plain,
                );
                voice.exchange = Some(Box::new(exchange));
                let first = STANDARD.encode(first);
                write!(out, "coded 1\r\nsignin u{user} online scram {first}\r\n")
            }
            Self::Plain => write!(out, "signin u{user} {PASSWORD}\r\n"),
            Self::Relay { answers } => writeln!(out, "{}{user}", if *answers { 'R' } else { 'N' }),
            Self::Redis => {
                write!(out, "HELLO 3\r\nSUBSCRIBE u{user}\r\nSUBSCRIBE all\r\nPING ready\r\n")
            }
            Self::Stream => write!(out, "HELLO 3\r\nPING ready\r\n"),
            Self::Nats => write!(
                out,
                "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB to.u{user} 1\r\n\
                 SUB all 2\r\nPING\r\n"
            ),
            Self::Irc => write!(out, "NICK u{user}\r\nUSER u{user} 0 * :bench\r\n"),
            Self::Mqtt => {
                greet_mqtt(user, out);
                Ok(())
            }
        };
        done.expect("a Vec takes all");
    }

    /// How many copies of a text to all will be heard: some servers send the sender one, too.
    pub(super) fn copies(&self, users: usize) -> usize {
        match self {
            Self::Redis | Self::Nats | Self::Mqtt => users,
            _ => users - 1,
        }
    }

    /// Sign-ins under way at a time: servers of IRC do some of it once a second.
    pub(super) fn sign_ins_at_once(&self) -> usize {
        if matches!(self, Self::Irc) { 1000 } else { 64 }
    }

    /// A text for a user.
    pub(super) fn send(&self, from: usize, to: usize, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Coded { .. } | Self::Plain => put(out, &[b"send u", digits(to).text(), b" "]),
            Self::Relay { .. } => put(out, &[b"D", digits(to).text(), b" "]),
            Self::Irc => put(out, &[b"PRIVMSG u", digits(to).text(), b" :"]),
            Self::Nats => {
                let length = digits(text.len());
                put(out, &[b"PUB to.u", digits(to).text(), b" ", length.text(), b"\r\n"]);
            }
            Self::Redis => publish_redis(&[b"u", digits(to).text()].concat(), text, out),
            Self::Stream => return append_redis(from, to, text, out),
            Self::Mqtt => {
                return publish_mqtt(&[b"to/u", digits(to).text()].concat(), text, out);
            }
        }
        self.end(text, out);
    }

    /// A text for all.
    pub(super) fn broadcast(&self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Coded { .. } | Self::Plain => put(out, &[b"broadcast "]),
            Self::Relay { .. } => put(out, &[b"B "]),
            Self::Irc => put(out, &[b"PRIVMSG #all :"]),
            Self::Nats => put(out, &[b"PUB all ", digits(text.len()).text(), b"\r\n"]),
            Self::Redis | Self::Stream => publish_redis(b"all", text, out),
            Self::Mqtt => return publish_mqtt(b"all", text, out),
        }
        self.end(text, out);
    }

    /// The text and what stands behind it.
    fn end(&self, text: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(text);
        out.extend_from_slice(if matches!(self, Self::Relay { .. }) { b"\n" } else { b"\r\n" });
    }

    /// Takes in what is whole of `bytes`; returns how much that was. What a server says that ends
    /// the matter is an error.
    pub(super) fn hear(
        &self,
        bytes: &[u8],
        voice: &mut Voice,
        heard: &mut Heard,
    ) -> Result<usize, String> {
        if matches!(self, Self::Mqtt) {
            return hear_mqtt(bytes, voice, heard);
        }
        let mut used = 0;
        while let Some(length) = memchr(b'\n', &bytes[used..]) {
            let line = &bytes[used..used + length];
            used += length + 1;
            match sent_at(line) {
                Some(sent) => {
                    heard.texts.push((voice.user, sent));
                    self.take(line, voice);
                }
                None => self.understand(line, voice, heard)?,
            }
        }
        Ok(used)
    }

    /// A program acknowledges what it has taken.
    fn take(&self, line: &[u8], voice: &mut Voice) {
        if !matches!(self, Self::Coded { .. } | Self::Relay { answers: true }) {
            return;
        }
        voice.unacknowledged += 1;
        if voice.unacknowledged >= LETTERS_AN_ACK {
            voice.unacknowledged = 0;
            if let Self::Relay { .. } = self {
                return put(&mut voice.output, &[b"A\n"]);
            }
            let id = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
            put(&mut voice.output, &[b"ack ", id, b"\r\n"]);
        }
    }

    /// A line that is no text.
    fn understand(&self, line: &[u8], voice: &mut Voice, heard: &mut Heard) -> Result<(), String> {
        let is_in = voice.stage == Stage::In;
        let begins = |word: &[u8]| line.starts_with(word);
        let (mut enters, mut takes, mut refused) = (false, false, false);
        match self {
            Self::Coded { keys, .. } => match line.first_chunk::<3>() {
                Some(b"250" | b"252") => takes = true,
                Some(b"230") => {
                    verify(line, voice)?;
                    enters = true;
                }
                Some(b"334") => prove(line, keys, voice)?,
                Some(b"121") => put(&mut voice.output, &[b"pong\r\n"]),
                Some([b'4' | b'5', ..] | b"190") => refused = true,
                _ => {}
            },
            Self::Plain if is_in => {
                takes = begins(b">> message sent to ") || ends_with(line, b"for future delivery");
                refused = !takes && !begins(b">> Users ") && !begins(b">> User ");
            }
            Self::Plain => {
                enters = memmem::find(line, b", you have ").is_some();
                refused = !enters && memmem::find(line, b"Welcome to MMS").is_none();
                refused &= memmem::find(line, b">> Type ").is_none();
            }
            Self::Relay { .. } => {
                takes = is_in;
                enters = begins(b"ok");
            }
            Self::Redis | Self::Stream => {
                enters = begins(b"ready");
                let answer = if matches!(self, Self::Redis) { b":" } else { b"$" };
                // A stream's answer is its new entry's name, behind its length.
                takes = is_in && begins(answer);
                refused = begins(b"-");
            }
            Self::Nats => {
                enters = begins(b"PONG");
                refused = begins(b"-ERR");
                if begins(b"PING") {
                    put(&mut voice.output, &[b"PONG\r\n"]);
                }
            }
            Self::Irc => return understand_irc(line, voice),
            Self::Mqtt => {}
        }
        if refused {
            return Err(format!("u{} was told: {}", voice.user, String::from_utf8_lossy(line)));
        }
        if enters {
            voice.stage = Stage::In;
        }
        if takes {
            heard.taken.push(voice.user);
        }
        Ok(())
    }
}

/// When the text in this line was sent.
fn sent_at(line: &[u8]) -> Option<u64> {
    let at = memmem::find(line, MARK)? + MARK.len();
    let digits = line.get(at..at + DIGITS)?;
    digits
        .iter()
        .try_fold(0, |sum, digit| Some(sum << 4 | u64::from((*digit as char).to_digit(16)?)))
}

/// A text of so many bytes that is sent at that time; `text` is one that was made before.
pub(super) fn stamp(text: &mut Vec<u8>, bytes: usize, ns: u64) {
    if text.len() != bytes {
        let filler = b"the quick brown fox jumps over the lazy dog ".iter().copied().cycle();
        text.clear();
        text.extend_from_slice(MARK);
        text.extend(filler.take(bytes.max(TEXT_BYTES_LEAST) - MARK.len()));
        // A text that ends with a blank is not one that all servers keep.
        text.pop();
        text.push(b'.');
    }
    for (digit, place) in text[MARK.len()..TEXT_BYTES_LEAST].iter_mut().zip((0..DIGITS).rev()) {
        *digit = b"0123456789abcdef"[(ns >> (4 * place) & 15) as usize];
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn ends_with(line: &[u8], end: &[u8]) -> bool {
    line.strip_suffix(b"\r").unwrap_or(line).ends_with(end)
}

/// The last word of a line, which is base64.
fn last_word(line: &[u8]) -> Result<String, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let at = memrchr(b' ', line).map_or(0, |at| at + 1);
    decode(&line[at..])
}

fn decode(word: &[u8]) -> Result<String, String> {
    let bytes = STANDARD.decode(word).map_err(|_| "what should be base64 is not")?;
    String::from_utf8(bytes).map_err(|_| "what should be text is not".into())
}

fn prove(line: &[u8], keys: &Keys, voice: &mut Voice) -> Result<(), String> {
    let exchange = voice.exchange.as_mut().ok_or("a challenge that nobody asked for")?;
    exchange.answer(&last_word(line)?, Secret::Keys(keys)).map_err(|fault| fault.to_string())?;
    let proof = exchange.work(0).ok_or("kept keys need no work")?;
    put(&mut voice.output, &[b"auth ", STANDARD.encode(proof).as_bytes(), b"\r\n"]);
    Ok(())
}

fn verify(line: &[u8], voice: &mut Voice) -> Result<(), String> {
    let Some(exchange) = voice.exchange.take() else { return Ok(()) };
    let proof = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    exchange.verify(&decode(proof)?).map_err(|fault| fault.to_string())
}

fn understand_irc(line: &[u8], voice: &mut Voice) -> Result<(), String> {
    if let Some(rest) = line.strip_prefix(b"PING") {
        put(&mut voice.output, &[b"PONG", rest, b"\n"]);
        return Ok(());
    }
    match (voice.stage, line.split(|&byte| byte == b' ').nth(1)) {
        // The end of the message of the day, or that there is none.
        (Stage::Knocking, Some(b"376" | b"422")) => {
            voice.stage = Stage::Greeted;
            put(&mut voice.output, &[b"JOIN #all\r\n"]);
        }
        // The end of the list of names.
        (Stage::Greeted, Some(b"366")) => voice.stage = Stage::In,
        (_, Some(b"433")) => return Err("the nick is taken".into()),
        _ if line.starts_with(b"ERROR") => return Err(String::from_utf8_lossy(line).into()),
        _ => {}
    }
    Ok(())
}

fn publish_redis(channel: &[u8], text: &[u8], out: &mut Vec<u8>) {
    let (name, body) = (digits(channel.len()), digits(text.len()));
    put(out, &[b"*3\r\n$7\r\nPUBLISH\r\n$", name.text(), b"\r\n", channel]);
    put(out, &[b"\r\n$", body.text(), b"\r\n"]);
}

fn append_redis(from: usize, to: usize, text: &[u8], out: &mut Vec<u8>) {
    let (stream, from) = (format!("box.u{to}"), format!("u{from}"));
    let done = write!(
        out,
        "*7\r\n$4\r\nXADD\r\n${}\r\n{stream}\r\n$1\r\n*\r\n$1\r\nf\r\n${}\r\n{from}\r\n$1\r\nm\r\n\
         ${}\r\n",
        stream.len(),
        from.len(),
        text.len()
    );
    done.expect("a Vec takes all");
    put(out, &[text, b"\r\n"]);
}

/// A packet: its kind, the length of what follows in groups of seven bits, and the parts of it.
fn put_mqtt(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    out.push(kind);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length > 127 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    put(out, parts);
}

/// A string behind its length.
fn counted_mqtt(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length, text].concat()
}

fn publish_mqtt(topic: &[u8], text: &[u8], out: &mut Vec<u8>) {
    put_mqtt(out, 0x30, &[&counted_mqtt(topic), text]);
}

/// CONNECT, version 4, a clean session with a name and a password; then SUBSCRIBE.
fn greet_mqtt(user: usize, out: &mut Vec<u8>) {
    let name = counted_mqtt(format!("u{user}").as_bytes());
    let password = counted_mqtt(PASSWORD.as_bytes());
    put_mqtt(out, 0x10, &[b"\0\x04MQTT\x04\xc2\0\0", &name, &name, &password]);
    let own = counted_mqtt(format!("to/u{user}").as_bytes());
    put_mqtt(out, 0x82, &[&[0, 1], &own, &[0], &counted_mqtt(b"all"), &[0]]);
}

fn hear_mqtt(bytes: &[u8], voice: &mut Voice, heard: &mut Heard) -> Result<usize, String> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        let Some(ends) = rest.iter().skip(1).take(4).position(|byte| byte & 128 == 0) else {
            return Ok(used);
        };
        let digits = rest[1..=ends + 1].iter().rev();
        let length = digits.fold(0, |sum, byte| sum << 7 | usize::from(byte & 127));
        let Some(body) = rest.get(ends + 2..ends + 2 + length) else { return Ok(used) };
        match rest[0] >> 4 {
            // CONNACK
            2 if body.get(1) != Some(&0) => return Err(format!("refused: {body:?}")),
            // SUBACK
            9 => voice.stage = Stage::In,
            // PUBLISH
            3 => heard.texts.extend(sent_at(body).map(|sent| (voice.user, sent))),
            _ => {}
        }
        used += ends + 2 + length;
    }
}

/// A number in decimal digits.
struct Digits {
    bytes: [u8; 20],
    begin: usize,
}

fn digits(mut number: usize) -> Digits {
    let mut digits = Digits { bytes: [b'0'; 20], begin: 20 };
    loop {
        digits.begin -= 1;
        digits.bytes[digits.begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}

impl Digits {
    fn text(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}
