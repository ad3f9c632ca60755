//! A letter as a line of the coded dialect. It is most of what the server writes, so it is put
//! together without the formatting machinery, and once for all who are shown it in one turn.

use super::id::LetterId;
use crate::digits::push_decimal;
use crate::limits::NAME_BYTES;

/// A letter as a program gets it: `100 <id> <unix ms> <flags> <from> <text>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterLine<'a> {
    /// Its number.
    pub id: LetterId,
    /// When it was accepted.
    pub unix_ms: u64,
    /// It was shown before.
    pub again: bool,
    /// It was sent to everyone.
    pub broadcast: bool,
    /// Its sender.
    pub from: &'a str,
    /// Its text.
    pub body: &'a str,
}

/// Appends a letter.
pub fn letter(letter: &LetterLine<'_>, out: &mut Vec<u8>) {
    let flags = match (letter.again, letter.broadcast) {
        (false, false) => "-",
        (true, false) => "a",
        (false, true) => "b",
        (true, true) => "ab",
    };
    out.reserve(LETTER_HEAD + letter.body.len());
    out.extend_from_slice(b"100 ");
    letter.id.push_with_time(letter.unix_ms, out);
    for word in [flags, letter.from] {
        out.push(b' ');
        out.extend_from_slice(word.as_bytes());
    }
    out.push(b' ');
    push_text(letter.body, out);
}

/// The letter that was worded last. What thousands are shown in one turn is worded once.
#[derive(Debug, Default)]
pub struct Sheet {
    of: Option<(LetterId, bool)>,
    line: Vec<u8>,
}

impl Sheet {
    /// The letter's line, as [`letter`] words it.
    pub fn line(&mut self, letter: &LetterLine<'_>) -> &[u8] {
        // The id stands for all of it but the mark of a repeat.
        let of = Some((letter.id, letter.again));
        if self.of != of {
            self.of = of;
            self.line.clear();
            self::letter(letter, &mut self.line);
        }
        &self.line
    }
}

/// More than a letter takes besides its text.
const LETTER_HEAD: usize = 64 + NAME_BYTES;

/// The last field of a line: as it is if a reader finds its end, else by count.
pub(super) fn push_text(body: &str, out: &mut Vec<u8>) {
    let lines = memchr::memchr(b'\n', body.as_bytes()).is_some();
    if body.len() > TEXT_IN_LINE || lines || body.ends_with('}') {
        out.push(b'{');
        push_decimal(out, body.len() as u64);
        out.extend_from_slice(b"}\r\n");
    }
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a text up to which it stands in the line itself.
const TEXT_IN_LINE: usize = 2000;
