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
    /// Its number and when it was accepted, as [`LetterId::push_with_time`] writes them: the
    /// journal has them so already.
    pub stamp: &'a [u8],
    /// It was shown before.
    pub again: bool,
    /// It was sent to everyone.
    pub broadcast: bool,
    /// Its sender.
    pub from: &'a str,
    /// Its text: UTF-8.
    pub body: &'a [u8],
    /// How many line ends stand in it.
    pub line_ends: u32,
}

/// Appends a letter.
pub fn letter(letter: &LetterLine<'_>, out: &mut Vec<u8>) {
    out.reserve(LETTER_HEAD + letter.body.len());
    out.extend_from_slice(b"100 ");
    out.extend_from_slice(letter.stamp);
    match (letter.again, letter.broadcast) {
        (false, false) => out.extend_from_slice(b" - "),
        (true, false) => out.extend_from_slice(b" a "),
        (false, true) => out.extend_from_slice(b" b "),
        (true, true) => out.extend_from_slice(b" ab "),
    }
    out.extend_from_slice(letter.from.as_bytes());
    out.push(b' ');
    let lines = if letter.line_ends == 0 { Lines::One } else { Lines::Several };
    debug_assert_eq!(lines, Lines::of(letter.body));
    push_lines(letter.body, lines, out);
}

/// The broadcast that was worded last. What thousands are shown in one turn is worded once.
#[derive(Debug, Default)]
pub struct Sheet {
    of: Option<(LetterId, bool)>,
    line: Vec<u8>,
}

impl Sheet {
    /// Appends a letter, as [`letter`] words it.
    pub fn push(&mut self, letter: &LetterLine<'_>, out: &mut Vec<u8>) {
        if !letter.broadcast {
            // Few are shown it, and to word it takes hardly longer than to copy it from here.
            return self::letter(letter, out);
        }
        // The id stands for all of it but the mark of a repeat.
        let of = Some((letter.id, letter.again));
        if self.of != of {
            self.of = of;
            self.line.clear();
            self::letter(letter, &mut self.line);
        }
        out.extend_from_slice(&self.line);
    }
}

/// More than a letter takes besides its text.
const LETTER_HEAD: usize = 64 + NAME_BYTES;

/// Whether a text goes over more than one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    One,
    Several,
}

impl Lines {
    fn of(text: &[u8]) -> Self {
        if memchr::memchr(b'\n', text).is_some() { Self::Several } else { Self::One }
    }
}

/// The last field of a line: as it is if a reader finds its end, else by count.
pub(super) fn push_text(text: &[u8], out: &mut Vec<u8>) {
    push_lines(text, Lines::of(text), out);
}

fn push_lines(body: &[u8], lines: Lines, out: &mut Vec<u8>) {
    if body.len() > TEXT_IN_LINE || lines == Lines::Several || body.ends_with(b"}") {
        out.push(b'{');
        push_decimal(out, body.len() as u64);
        out.extend_from_slice(b"}\r\n");
    }
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Bytes of a text up to which it stands in the line itself.
const TEXT_IN_LINE: usize = 2000;
