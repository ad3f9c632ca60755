//! The client's end of the coded dialect: what a client asks as bytes, and the server's lines as
//! values. The bytes may be cut anywhere; what they make a client keep is bounded.
//!
//! Nothing a server says is trusted: any bytes give values or a [`LineFault`], never a panic.

pub use super::coded::Kind;

use super::command::Switch;
use super::id::LetterId;
use super::reply::Flushed;
use super::text::is_refused;
use crate::limits::{COUNTED_BYTES, LINE_BYTES};
use memchr::memchr;
use std::fmt;
use std::io::Write as _;

/// Longest line that a client takes, in bytes: what a server may say, and some room.
const LINE_BYTES_MOST: usize = LINE_BYTES + 64;
/// Bytes of a command line up to which its text stands in the line itself.
const TEXT_IN_LINE: usize = 1000;

/// One thing that a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of the plain dialect, without `>> `: before the switch, or when turned away.
    Plain(String),
    /// A line of the coded dialect.
    Coded(ServerLine),
}

/// A line of the coded dialect, its counted text included: `CODE SP [ "@" TAG SP ] fields`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerLine {
    /// Three digits; the first is the class.
    pub code: u16,
    whole: String,
    /// Where in `whole` the tag stands.
    tag: std::ops::Range<usize>,
    /// Where in `whole` the fields begin.
    fields: usize,
}

impl ServerLine {
    /// The tag of the command that is answered; an event has none.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        (!self.tag.is_empty()).then(|| &self.whole[self.tag.clone()])
    }

    /// What stands behind code and tag.
    #[must_use]
    pub fn fields(&self) -> &str {
        &self.whole[self.fields..]
    }

    /// Whether something happened, unasked.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.code < 200
    }

    /// `text`: the line without its end, a counted text put in its place.
    fn parse(whole: String) -> Result<Self, LineFault> {
        let code = whole.as_bytes().first_chunk().filter(|code: &&[u8; 3]| {
            code.iter().all(u8::is_ascii_digit) && (b'1'..=b'5').contains(&code[0])
        });
        let code = code.ok_or(LineFault::NoCode)?;
        let code = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        let rest = &whole[3..];
        if !rest.is_empty() && !rest.starts_with(' ') {
            return Err(LineFault::NoCode);
        }
        let (mut tag, mut fields) = (0..0, 4.min(whole.len()));
        // An event has no tag: its text may begin as it likes.
        if code >= 200 && rest.starts_with(" @") {
            let end = memchr(b' ', &whole.as_bytes()[5..]).map_or(whole.len(), |end| 5 + end);
            tag = 5..end;
            fields = (end + 1).min(whole.len());
        }
        Ok(Self { code, whole, tag, fields })
    }
}

impl fmt::Debug for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.whole)
    }
}

/// Why bytes are no line of MMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// A line or a counted text is too long.
    TooLong,
    /// The line does not begin with a code.
    NoCode,
    /// Something other than a line end follows the counted text.
    BadCount,
    /// It is not UTF-8.
    NotUtf8,
    /// The code is known, but not what stands behind it.
    Fields,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a line of the server is too long",
            Self::NoCode => "a line of the server has no code",
            Self::BadCount => "a text of the server is not as long as it says",
            Self::NotUtf8 => "a line of the server is not UTF-8",
            Self::Fields => "a line of the server does not have its fields",
        })
    }
}

/// Takes bytes in and gives lines out.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that were given out.
    used: usize,
    /// Bytes behind them that hold no line end.
    scanned: usize,
}

impl Reader {
    /// Keeps bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// What has arrived and was not given out yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// The next thing said, once it is whole.
    pub fn next_said(&mut self) -> Result<Option<Said>, LineFault> {
        let rest = &self.buffer[self.used..];
        let Some(end) = memchr(b'\n', &rest[self.scanned..]).map(|at| self.scanned + at) else {
            self.scanned = rest.len();
            let whole = rest.len() <= LINE_BYTES_MOST;
            return if whole { Ok(None) } else { Err(LineFault::TooLong) };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        if line.len() > LINE_BYTES_MOST {
            return Err(LineFault::TooLong);
        }
        let (mut text, mut used) = (line.to_vec(), end + 1);
        if let Some(plain) = line.strip_prefix(b">> ") {
            let said = Said::Plain(String::from_utf8_lossy(plain).into_owned());
            self.take(used);
            return Ok(Some(said));
        }
        if let Some((head, count)) = counted(line) {
            let count = count.filter(|&count| count <= COUNTED_BYTES);
            let count = count.ok_or(LineFault::TooLong)?;
            // The head is short: it is looked at again with each piece of the text.
            let Some((body, behind)) = rest[used..].split_at_checked(count) else {
                return Ok(None);
            };
            let line_end = match behind {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] | [b'\r'] => return Ok(None),
                _ => return Err(LineFault::BadCount),
            };
            text.truncate(head);
            text.extend_from_slice(body);
            used += count + line_end;
        }
        self.take(used);
        let text = String::from_utf8(text).map_err(|_| LineFault::NotUtf8)?;
        ServerLine::parse(text).map(|line| Some(Said::Coded(line)))
    }

    fn take(&mut self, bytes: usize) {
        self.used += bytes;
        self.scanned = 0;
    }
}

/// `"{" 1*DIGIT "}"` at the end of a line: where it begins, and the number if it is a small one.
fn counted(line: &[u8]) -> Option<(usize, Option<usize>)> {
    let open = memchr::memrchr(b'{', line)?;
    let digits = line[open + 1..].strip_suffix(b"}")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    Some((open, number))
}

/// What a client asks. Names and keys are the caller's to check: they hold no blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// The switch to this dialect; the very first line.
    Coded,
    /// Begins a sign-in by SCRAM.
    SignIn {
        /// Who.
        user: &'a str,
        /// What for.
        kind: Kind,
        /// The first message in base64.
        first: &'a str,
    },
    /// Begins a change of the password by SCRAM.
    Passwd {
        /// The first message in base64.
        first: &'a str,
        /// What the server is to keep of the new password.
        verifier: &'a str,
    },
    /// The client's last message of SCRAM, in base64.
    Auth(&'a str),
    /// A message to some users.
    Send {
        /// The sender's own name for it.
        key: &'a str,
        /// Whom; at least one.
        to: &'a [String],
        /// What.
        text: &'a str,
    },
    /// A message to everyone who is there.
    Broadcast {
        /// The sender's own name for it.
        key: &'a str,
        /// What.
        text: &'a str,
    },
    /// Who is there, and who is not.
    Who,
    /// A command that both dialects have, as a person typed it.
    Typed(&'a str),
    /// Whether the server answers.
    Ping,
    /// Every letter up to this one has been taken.
    Ack(LetterId),
    /// To be told when what is sent on this connection is delivered.
    Receipts,
    /// The answer to the server's ping.
    Pong,
    /// The end.
    SignOut,
}

impl Ask<'_> {
    /// Whether a reply will come.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Ack(_) | Self::Pong)
    }
}

/// Appends what is asked as bytes.
pub fn encode(ask: &Ask<'_>, tag: Option<&str>, out: &mut Vec<u8>) {
    if let Some(tag) = tag {
        out.push(b'@');
        out.extend_from_slice(tag.as_bytes());
        out.push(b' ');
    }
    let (words, text) = match *ask {
        Ask::Coded => ("coded 1".into(), None),
        Ask::SignIn { user, kind, first } => {
            let kind = match kind {
                Kind::Online => "online",
                Kind::Listener => "listener",
                Kind::Tool => "tool",
            };
            (format!("signin {user} {kind} scram {first}"), None)
        }
        Ask::Passwd { first, verifier } => (format!("passwd scram {first} {verifier}"), None),
        Ask::Auth(last) => (format!("auth {last}"), None),
        Ask::Send { key, to: [one], text } => (format!("send ={key} {one}"), Some(text)),
        Ask::Send { key, to, text } => (format!("send ={key} ({})", to.join(" ")), Some(text)),
        Ask::Broadcast { key, text } => (format!("broadcast ={key}"), Some(text)),
        Ask::Who => ("who".into(), None),
        Ask::Typed(line) => (line.into(), None),
        Ask::Ping => ("ping".into(), None),
        Ask::Ack(id) => (format!("ack {id}"), None),
        Ask::Pong => ("pong".into(), None),
        Ask::Receipts => ("receipts on".into(), None),
        Ask::SignOut => ("signout".into(), None),
    };
    out.extend_from_slice(words.as_bytes());
    match text {
        None => {}
        Some(text) if words.len() + text.len() <= TEXT_IN_LINE && stands_in_line(text) => {
            out.push(b' ');
            out.extend_from_slice(text.as_bytes());
        }
        Some(text) => {
            write!(out, " {{{}}}\r\n", text.len()).expect("a Vec takes all");
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a reader of the line finds the text as it is, neither cut short nor trimmed. A line with
/// a refused character would be refused as a whole, its tag included.
fn stands_in_line(text: &str) -> bool {
    let blank = [' ', '\t'];
    !text.contains(|c| c == '\n' || is_refused(c))
        && !text.starts_with(blank)
        && !text.ends_with(blank)
        && !text.ends_with('}')
}

/// What is left of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All.
    Whole,
    /// Its id and its sender; the server's disk has lost the rest.
    Damaged,
}

/// A letter, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// When it was accepted, in milliseconds since 1970; 0 if that is lost.
    pub unix_ms: u64,
    /// It was shown before, and nobody knows whether it was read.
    pub again: bool,
    /// It was sent to everyone.
    pub broadcast: bool,
    /// Its sender.
    pub from: String,
    /// Its text; empty if it is lost.
    pub text: String,
    /// What is left of it.
    pub condition: Condition,
}

impl Letter {
    /// `id unix-ms flags from text`: the fields of an event 100.
    pub fn parse(fields: &str) -> Result<Self, LineFault> {
        let mut parts = fields.splitn(5, ' ');
        let mut part = || parts.next().ok_or(LineFault::Fields);
        let (id, unix_ms, flags, from, text) = (part()?, part()?, part()?, part()?, part()?);
        let unix_ms = unix_ms.parse().map_err(|_| LineFault::Fields)?;
        if from.is_empty() {
            return Err(LineFault::Fields);
        }
        Ok(Self {
            id: parse_id(id)?,
            unix_ms,
            again: flags.contains('a'),
            broadcast: flags.contains('b'),
            from: from.into(),
            text: text.into(),
            condition: Condition::Whole,
        })
    }

    /// `"damaged" id from`: the fields of an event 113.
    pub fn parse_damaged(fields: &str) -> Result<Self, LineFault> {
        let mut words = fields.splitn(3, ' ');
        let (Some("damaged"), Some(id), Some(from)) = (words.next(), words.next(), words.next())
        else {
            return Err(LineFault::Fields);
        };
        if from.is_empty() || from.contains(' ') {
            return Err(LineFault::Fields);
        }
        let (id, from) = (parse_id(id)?, from.into());
        let (text, condition) = (String::new(), Condition::Damaged);
        Ok(Self { id, unix_ms: 0, again: false, broadcast: false, from, text, condition })
    }
}

/// What became of a message for one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Stored; the reader is there.
    Sent,
    /// Stored; the reader is not there.
    Saved,
    /// Stored already, by an earlier try.
    Known,
    /// Not stored: the mailbox is full.
    Full,
    /// Not stored: to oneself, where that is not allowed.
    ToSelf,
    /// Not stored: the user does not want it.
    Blocked,
    /// Not stored: nobody has that name.
    Unknown,
}

impl Fate {
    /// Its word in the dialect.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Saved => "saved",
            Self::Known => "known",
            Self::Full => "full",
            Self::ToSelf => "self",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }

    fn find(word: &str) -> Option<Self> {
        let all = [
            Self::Sent,
            Self::Saved,
            Self::Known,
            Self::Full,
            Self::ToSelf,
            Self::Blocked,
            Self::Unknown,
        ];
        all.into_iter().find(|fate| fate.word() == word)
    }
}

/// The final reply to something asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A message to one user was stored. `to` is empty if an earlier try had stored it.
    Stored {
        /// Its id.
        id: LetterId,
        /// Sent, saved or known.
        fate: Fate,
        /// The reader's name.
        to: String,
    },
    /// A message to a list.
    Fates {
        /// Its id, if it was stored for anyone.
        id: Option<LetterId>,
        /// What became of it, name by name.
        fates: Vec<(String, Fate)>,
    },
    /// A message to everyone who was there.
    Broadcast {
        /// Its id, if it was stored for anyone.
        id: Option<LetterId>,
        /// How many get it.
        count: u64,
        /// Who does not, because of a full mailbox.
        full: Vec<String>,
        /// How many more of those there are.
        more: u64,
    },
    /// Who is there.
    Who {
        /// Who is.
        online: Vec<String>,
        /// Who is not.
        offline: Vec<String>,
        /// How many more there are of both.
        more: (u64, u64),
    },
    /// Who else is there, or was.
    Names(Vec<String>),
    /// Away is set, with this text.
    Away(String),
    /// Who comes and goes is told, or no longer.
    Notify(Switch),
    /// A user is blocked, or no longer.
    Block {
        /// Whom.
        user: String,
        /// On is blocked.
        switch: Switch,
    },
    /// The password is changed.
    PasswordChanged {
        /// What proves the server, in base64.
        proof: String,
        /// Whether a power cut might undo it.
        flushed: Flushed,
    },
    /// The server answers.
    Pong,
    /// Any other word of consent.
    Done,
    /// 4xx not now, 5xx never.
    Refused(Refused),
}

/// Why the server will not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// 4xx or 5xx.
    pub code: u16,
    /// What stands behind it.
    pub fields: String,
}

impl Refused {
    /// The first number that stands behind the code, such as the seconds of a block.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.fields.split(' ').find_map(|word| word.parse().ok())
    }

    /// The word behind the code's own word, such as a user.
    #[must_use]
    pub fn argument(&self, n: usize) -> &str {
        self.fields.split(' ').nth(n).unwrap_or_default()
    }
}

impl Answer {
    /// Reads a final reply.
    pub fn parse(line: &ServerLine) -> Result<Self, LineFault> {
        let fields = line.fields();
        let mut words = fields.split(' ').filter(|word| !word.is_empty());
        let mut word = || words.next().ok_or(LineFault::Fields);
        Ok(match line.code {
            250 => {
                let (id, fate) = (word()?, word()?);
                let fate = Fate::find(fate).filter(|&fate| fate <= Fate::Known);
                let (id, fate) = (parse_id(id)?, fate.ok_or(LineFault::Fields)?);
                Self::Stored { id, fate, to: word().unwrap_or_default().into() }
            }
            251 => {
                let id = stored(word()?)?;
                let fates = words.map(|pair| {
                    let (name, fate) = pair.rsplit_once('=')?;
                    Some((name.to_owned(), Fate::find(fate)?))
                });
                let fates: Option<_> = fates.collect();
                Self::Fates { id, fates: fates.ok_or(LineFault::Fields)? }
            }
            252 => {
                let (id, count) = (stored(word()?)?, word()?);
                let count = count.parse().map_err(|_| LineFault::Fields)?;
                let rest = words.clone();
                let full = words.find_map(|word| word.strip_prefix("full=")).unwrap_or("-");
                let more = rest.filter_map(|word| word.strip_prefix("more=")).next();
                let more = more.map_or(Ok(0), str::parse).map_err(|_| LineFault::Fields)?;
                Self::Broadcast { id, count, full: names(full), more }
            }
            260 => {
                let value = |name: &str| {
                    fields.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                };
                let (Some(online), Some(offline)) = (value("online"), value("offline")) else {
                    return Err(LineFault::Fields);
                };
                let more = value("more").and_then(|more| more.split_once(','));
                let number = |digits: &str| digits.parse().map_err(|_| LineFault::Fields);
                let more = more.map(|(a, b)| Ok((number(a)?, number(b)?)));
                let more = more.transpose()?.unwrap_or_default();
                Self::Who { online: names(online), offline: names(offline), more }
            }
            261 => Self::Names(names(word()?)),
            262 => Self::Away(fields.strip_prefix("away ").ok_or(LineFault::Fields)?.into()),
            264 => Self::Pong,
            265 if fields == "notify on" => Self::Notify(Switch::On),
            265 => Self::Notify(Switch::Off),
            266 => {
                let switch = if word()? == "blocked" { Switch::On } else { Switch::Off };
                Self::Block { user: words.next().ok_or(LineFault::Fields)?.into(), switch }
            }
            267 => {
                let proof = word()?.into();
                let surely = word()? == "changed";
                let flushed = if surely { Flushed::Surely } else { Flushed::Perhaps };
                Self::PasswordChanged { proof, flushed }
            }
            200..=299 => Self::Done,
            code @ 400..=599 => Self::Refused(Refused { code, fields: fields.into() }),
            _ => return Err(LineFault::Fields),
        })
    }
}

fn parse_id(word: &str) -> Result<LetterId, LineFault> {
    word.parse().map_err(|_| LineFault::Fields)
}

/// An id, or `-` if nothing was stored.
fn stored(word: &str) -> Result<Option<LetterId>, LineFault> {
    if word == "-" { Ok(None) } else { parse_id(word).map(Some) }
}

fn names(list: &str) -> Vec<String> {
    match list {
        "-" | "" => Vec::new(),
        list => list.split(',').map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: LetterId = LetterId { epoch: 5, seq: 7 };

    /// What comes out of these pieces, up to the first fault.
    fn said<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Said>, Option<LineFault>) {
        let (mut reader, mut out) = (Reader::default(), vec![]);
        for piece in pieces {
            reader.feed(piece);
            loop {
                match reader.next_said() {
                    Ok(Some(said)) => out.push(said),
                    Ok(None) => break,
                    Err(fault) => return (out, Some(fault)),
                }
            }
            let most = LINE_BYTES_MOST + COUNTED_BYTES + 4 + piece.len();
            assert!(reader.rest().len() <= most);
        }
        (out, None)
    }

    fn one(text: &str) -> ServerLine {
        match said([text.as_bytes()].into_iter()) {
            (lines, None) => match &lines[..] {
                [Said::Coded(line)] => line.clone(),
                other => panic!("{other:?}"),
            },
            (_, fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn lines_are_understood_however_they_are_cut() {
        let text = ">> Welcome to MMS.\r\n200 coded 1 mms/0.1.0 line=4096\r\n\
            250 @7 1.2 sent fred\r\n100 1.3 17 - fred {7}\r\na\nb\tc}\n\r\n121 ping\n262\r\n\
            100 1.4 18 ab tim @x {y}\r\n260 @8 {22}\r\nonline=fred offline=- \r\n";
        let (whole, fault) = said([text.as_bytes()].into_iter());
        assert_eq!(fault, None);
        assert_eq!(whole.len(), 8);
        for cut in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(said([a, b].into_iter()), (whole.clone(), None), "{cut}");
        }
        assert_eq!(said(text.as_bytes().chunks(1)), (whole.clone(), None));
        assert_eq!(whole[0], Said::Plain("Welcome to MMS.".into()));
        let Said::Coded(sent) = &whole[2] else { panic!() };
        assert_eq!((sent.code, sent.tag(), sent.fields()), (250, Some("7"), "1.2 sent fred"));
        let Said::Coded(letter) = &whole[3] else { panic!() };
        assert_eq!((letter.code, letter.tag()), (100, None));
        assert_eq!(Letter::parse(letter.fields()).unwrap().text, "a\nb\tc}\n");
        let Said::Coded(letter) = &whole[6] else { panic!() };
        let letter = Letter::parse(letter.fields()).unwrap();
        assert_eq!(
            (letter.again, letter.broadcast, &*letter.from, &*letter.text),
            (true, true, "tim", "@x {y}")
        );
    }

    #[test]
    fn what_is_no_line_is_a_fault() {
        let long = "x".repeat(LINE_BYTES_MOST + 1);
        for (text, fault) in [
            ("SSH-2.0-OpenSSH\r\n", LineFault::NoCode),
            ("2000 x\r\n", LineFault::NoCode),
            ("600 x\r\n", LineFault::NoCode),
            ("\r\n", LineFault::NoCode),
            ("20\r\n", LineFault::NoCode),
            (&long, LineFault::TooLong),
            (&format!("{long}\r\n"), LineFault::TooLong),
            ("100 {65537}\r\n", LineFault::TooLong),
            ("100 {99999999999999999999999}\r\n", LineFault::TooLong),
            ("100 {2}\r\nabc\r\n", LineFault::BadCount),
            ("100 {2}\r\nab\rc", LineFault::BadCount),
        ] {
            assert_eq!(said([text.as_bytes()].into_iter()), (vec![], Some(fault)), "{text:.40}");
        }
        assert_eq!(said([&b"200 \xff\n"[..]].into_iter()).1, Some(LineFault::NotUtf8));
        assert_eq!(said([&b"100 {1}\n\xc3\n"[..]].into_iter()).1, Some(LineFault::NotUtf8));
    }

    #[test]
    fn answers_are_understood() {
        let answer = |text: &str| Answer::parse(&one(&format!("{text}\r\n")));
        let stored = |fate, to: &str| Answer::Stored { id: ID, fate, to: to.into() };
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        for (text, wanted) in [
            ("250 @1 5.7 sent fred", stored(Fate::Sent, "fred")),
            ("250 @1 5.7 saved Tim", stored(Fate::Saved, "Tim")),
            ("250 @1 5.7 known", stored(Fate::Known, "")),
            (
                "251 5.7 a=sent b=saved c=unknown d=full e=self f=blocked",
                Answer::Fates {
                    id: Some(ID),
                    fates: [
                        ("a", Fate::Sent),
                        ("b", Fate::Saved),
                        ("c", Fate::Unknown),
                        ("d", Fate::Full),
                        ("e", Fate::ToSelf),
                        ("f", Fate::Blocked),
                    ]
                    .map(|(name, fate)| (name.to_owned(), fate))
                    .into(),
                },
            ),
            (
                "251 - a=unknown",
                Answer::Fates { id: None, fates: vec![("a".into(), Fate::Unknown)] },
            ),
            (
                "252 5.7 11 full=a,b",
                Answer::Broadcast { id: Some(ID), count: 11, full: list(&["a", "b"]), more: 0 },
            ),
            ("252 - 0", Answer::Broadcast { id: None, count: 0, full: vec![], more: 0 }),
            (
                "252 - 0 full=a more=7",
                Answer::Broadcast { id: None, count: 0, full: list(&["a"]), more: 7 },
            ),
            (
                "260 online=a,b offline=- more=3,0",
                Answer::Who { online: list(&["a", "b"]), offline: vec![], more: (3, 0) },
            ),
            ("264 pong", Answer::Pong),
            ("265 notify on", Answer::Notify(Switch::On)),
            ("265 notify off", Answer::Notify(Switch::Off)),
            ("266 blocked tim", Answer::Block { user: "tim".into(), switch: Switch::On }),
            ("266 unblocked tim", Answer::Block { user: "tim".into(), switch: Switch::Off }),
            ("290 bye", Answer::Done),
            (
                "452 @1 full fred",
                Answer::Refused(Refused { code: 452, fields: "full fred".into() }),
            ),
        ] {
            assert_eq!(answer(text), Ok(wanted), "{text}");
        }
        for text in
            ["250 5 sent a", "250 5.7 full a", "251 x a=sent", "251 5.7 a=lost", "252 5.7 x", "260"]
        {
            assert_eq!(answer(text), Err(LineFault::Fields), "{text}");
        }
        for fields in ["", "1.2 17 - fred", "1.2 x - fred hi", "1 17 - fred hi", "1. 1 - a b"] {
            assert_eq!(Letter::parse(fields), Err(LineFault::Fields), "{fields}");
        }
    }

    #[test]
    fn commands_are_put_into_bytes() {
        let bytes = |ask: &Ask<'_>, tag| {
            let mut out = vec![];
            encode(ask, tag, &mut out);
            String::from_utf8(out).unwrap()
        };
        let to = ["fred".to_owned(), "tim".to_owned()];
        let send = |text| bytes(&Ask::Send { key: "k", to: &to[..1], text }, Some("1"));
        assert_eq!(bytes(&Ask::Coded, None), "coded 1\r\n");
        assert_eq!(
            bytes(&Ask::SignIn { user: "fred", kind: Kind::Tool, first: "bg==" }, Some("0")),
            "@0 signin fred tool scram bg==\r\n"
        );
        assert_eq!(send("a  b: c"), "@1 send =k fred a  b: c\r\n");
        assert_eq!(send("a\nb"), "@1 send =k fred {3}\r\na\nb\r\n");
        for text in [" a", "a ", "a\t", "{3}", "a\r", "\u{1b}"] {
            assert_eq!(send(text), format!("@1 send =k fred {{{}}}\r\n{text}\r\n", text.len()));
        }
        assert!(send(&"x".repeat(990)).starts_with("@1 send =k fred {990}\r\n"));
        assert_eq!(
            bytes(&Ask::Send { key: "k", to: &to, text: "hi" }, None),
            "send =k (fred tim) hi\r\n"
        );
        assert_eq!(bytes(&Ask::Broadcast { key: "k", text: "hi" }, None), "broadcast =k hi\r\n");
        assert_eq!(bytes(&Ask::Ack("1.2".parse().unwrap()), None), "ack 1.2\r\n");
        assert_eq!(bytes(&Ask::Receipts, Some("3")), "@3 receipts on\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_however_cut_give_the_same(
            text in "([1-5][0-9]{2}|>>)( @[a-z]{0,3})?( [-0-9.a=,@]{0,6}){0,4}( \\{[0-9]{0,2}\\})?\
                \r?\n(.{0,8}\r?\n)?",
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            size in 1_usize..9,
        ) {
            let bytes = [text.as_bytes(), &noise, text.as_bytes()].concat();
            let whole = said([&bytes[..]].into_iter());
            prop_assert_eq!(&said(bytes.chunks(size)), &whole);
            for said in whole.0 {
                if let Said::Coded(line) = said {
                    _ = (Answer::parse(&line), Letter::parse(line.fields()), line.tag());
                }
            }
        }
    }
}
