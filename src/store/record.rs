//! A record as bytes: one line that a person can read, grep and check, and that tells damage from
//! data. It knows nothing of files, segments or what the records mean.
//!
//! ```text
//! =L 000000000000002a 000036 084dd717 1753000000.7 1753000123456 d tim +fred,ann Hello there
//! ||                | |      |        the payload; its shape depends on the kind
//! ||                | |      the CRC-32 of kind, batch, length and payload
//! ||                | the payload's length
//! ||                the batch: goes up by one after every sync
//! |the kind
//! the mark: LF and = stand together at a record's beginning and nowhere else
//! ```
//!
//! A body keeps its LF as VT (0x0B), which the protocol accepts from nobody. So no text can
//! contain a record's beginning, and nobody can forge a record by sending one.
//!
//! Numbers in the frame are lower-case hexadecimal and nothing else is accepted: an upper-case
//! digit is one bit away from a lower-case one, and every single flipped bit must be noticed.

use super::files::Gap;
use super::pen::{COVERED, PAYLOAD_MOST, Pen};
use crate::core::record::{Key, Letter, LetterId, LetterKind, Record, Switch};
use crate::digits::{HEX, hex, push_decimal};
use crate::fault::{Fault as Planted, is_planted};
use crc32fast::Hasher;

/// The format this code writes. A segment of a later one is refused.
pub const FORMAT: u32 = 1;
/// The frame in front of the payload, in bytes.
pub const HEAD_BYTES: usize = 36;
/// The last batch that a frame may tell.
pub const BATCH_MOST: u64 = u64::MAX >> 1;
/// The last one that a server goes on from, so that none of its own is past that: a million syncs a
/// second do not come to it in 140,000 years.
pub const BATCH_LAST: u64 = BATCH_MOST >> 1;
/// How the record begins that a gap was told.
const TOLD: &str = "told ";
/// What LF in a body is stored as.
const VT: u8 = 0x0B;

/// The first record of every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The spool's name.
    pub spool: u64,
    /// The segment's number.
    pub segment: u32,
    /// The format it is written in.
    pub format: u32,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The beginning of a segment.
    Header(Header),
    /// A record. A letter's body is as stored: [`restore`] gives its lines back.
    Record(Record<'a>),
    /// Stands where something was damaged, so that nothing behind it had to move.
    Filler,
    /// These segments are missing, and the operator was told.
    Told(Gap),
}

/// A whole, verified record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The sync it was written before. A later number proves that this one was made durable.
    pub batch: u64,
    /// What it says.
    pub entry: Entry<'a>,
    /// Frame, payload and line end in bytes.
    pub bytes: usize,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end before the record does.
    Short,
    /// They do not begin with a frame.
    Head,
    /// The checksum is another.
    Checksum,
    /// The checksum is right, so the length is; but no LF follows.
    End {
        /// Length of the whole record.
        bytes: usize,
    },
    /// The checksum is right, but what it covers makes no sense here.
    Payload {
        /// Length of the whole record.
        bytes: usize,
    },
}

/// Adds a record to `out` and returns its length in bytes. Names must be well-formed user names.
pub fn encode(out: &mut Vec<u8>, batch: u64, record: &Record<'_>) -> usize {
    Pen::new(batch).record(out, record).bytes
}

/// A record that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length in bytes.
    pub bytes: usize,
    /// The line ends in a letter's body.
    pub line_ends: usize,
}

impl Pen {
    /// Adds a record to `out`. Names must be well-formed user names.
    pub fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) -> Written {
        let bytes = match record {
            Record::Started { epoch, unix_ms } => {
                let start = self.begin(out);
                push_decimal(out, u64::from(*epoch));
                out.push(b' ');
                push_decimal(out, *unix_ms);
                self.finish(out, start, b'E')
            }
            Record::Letter(letter) => return self.letter(out, letter),
            Record::Offered { user, through } => self.mark(out, b'O', user, *through),
            Record::Settled { user, through } => self.mark(out, b'T', user, *through),
            Record::Held { user, through } => self.mark(out, b'H', user, *through),
            Record::Withheld { user, through } => self.mark(out, b'W', user, *through),
            Record::Purged { user, through } => self.mark(out, b'P', user, *through),
            Record::Keyed { user, key, id, unix_ms } => {
                let start = self.begin(out);
                out.extend_from_slice(user.as_bytes());
                out.push(b' ');
                push_key(out, *key);
                out.push(b' ');
                self.push_stamp(*id, *unix_ms, out);
                self.finish(out, start, b'K')
            }
            Record::Blocks { user, other, switch } => {
                let start = self.begin(out);
                out.extend_from_slice(user.as_bytes());
                out.push(b' ');
                out.extend_from_slice(other.as_bytes());
                out.extend_from_slice(match switch {
                    Switch::On => b" on",
                    Switch::Off => b" off",
                });
                self.finish(out, start, b'B')
            }
            Record::SignedIn { user, unix_ms } => self.presence(out, b'I', user, *unix_ms),
            Record::SignedOff { user, unix_ms } => self.presence(out, b'U', user, *unix_ms),
            Record::Alive { unix_ms } => self.instant(out, b'A', *unix_ms),
            Record::Stopped { unix_ms } => self.instant(out, b'X', *unix_ms),
        };
        Written { bytes, line_ends: 0 }
    }

    fn letter(&mut self, out: &mut Vec<u8>, letter: &Letter<'_>) -> Written {
        debug_assert!(!letter.from.contains([' ', '\n']) && !letter.to.contains([' ', '\n']));
        out.reserve(HEAD_BYTES + 48 + letter.from.len() + letter.to.len() + letter.body.len());
        let start = self.begin(out);
        self.push_stamp(letter.id, letter.unix_ms, out);
        out.extend_from_slice(match letter.kind {
            LetterKind::Direct => b" d",
            LetterKind::Broadcast => b" b",
        });
        if let Some(key) = letter.key {
            out.push(b'=');
            push_key(out, key);
        }
        out.push(b' ');
        out.extend_from_slice(letter.from.as_bytes());
        out.push(b' ');
        out.extend_from_slice(letter.to.as_bytes());
        out.push(b' ');
        let body = out.len();
        out.extend_from_slice(letter.body.as_bytes());
        // One look tells both what is to be replaced and that there is nothing to count.
        let first = memchr::memchr2(b'\n', VT, &out[body..]);
        let line_ends = first.map_or(0, |at| replace_lines(&mut out[body + at..]));
        Written { bytes: self.finish(out, start, b'L'), line_ends }
    }

    fn mark(&self, out: &mut Vec<u8>, kind: u8, user: &str, id: LetterId) -> usize {
        debug_assert!(!user.contains([' ', '\n']));
        let start = self.begin(out);
        out.extend_from_slice(user.as_bytes());
        out.push(b' ');
        id.push_to(out);
        self.finish(out, start, kind)
    }

    fn presence(&self, out: &mut Vec<u8>, kind: u8, user: &str, unix_ms: u64) -> usize {
        debug_assert!(!user.contains([' ', '\n']));
        let start = self.begin(out);
        out.extend_from_slice(user.as_bytes());
        out.push(b' ');
        push_decimal(out, unix_ms);
        self.finish(out, start, kind)
    }

    fn instant(&self, out: &mut Vec<u8>, kind: u8, unix_ms: u64) -> usize {
        let start = self.begin(out);
        push_decimal(out, unix_ms);
        self.finish(out, start, kind)
    }
}

/// Adds a segment's beginning to `out` and returns its length in bytes.
pub fn encode_header(out: &mut Vec<u8>, batch: u64, header: &Header) -> usize {
    let pen = Pen::new(batch);
    let start = pen.begin(out);
    for byte in header.spool.to_be_bytes() {
        out.extend_from_slice(&HEX[usize::from(byte)]);
    }
    out.push(b' ');
    push_decimal(out, u64::from(header.segment));
    out.push(b' ');
    push_decimal(out, u64::from(header.format));
    pen.finish(out, start, b'S')
}

/// Adds a record of exactly so many bytes that says nothing, if there is one so short.
pub fn encode_filler(out: &mut Vec<u8>, batch: u64, bytes: usize) -> bool {
    let fits = (HEAD_BYTES + 1..HEAD_BYTES + 1 + PAYLOAD_MOST).contains(&bytes);
    if fits {
        let pen = Pen::new(batch);
        let start = pen.begin(out);
        out.resize(start + bytes - 1, b'.');
        pen.finish(out, start, b'F');
    }
    fits
}

/// Adds the record that a gap was told, and returns its length in bytes. Whoever does not know it
/// takes it for a filler.
pub fn encode_told(out: &mut Vec<u8>, batch: u64, gap: Gap) -> usize {
    let pen = Pen::new(batch);
    let start = pen.begin(out);
    out.extend_from_slice(TOLD.as_bytes());
    push_decimal(out, u64::from(gap.first));
    out.push(b' ');
    push_decimal(out, u64::from(gap.last));
    pen.finish(out, start, b'F')
}

fn push_key(out: &mut Vec<u8>, key: Key<'_>) {
    debug_assert!(!key.text.contains([' ', '/', '\n']));
    out.extend_from_slice(key.text.as_bytes());
    out.push(b'/');
    for byte in key.hash.to_be_bytes() {
        out.extend_from_slice(&HEX[usize::from(byte)]);
    }
}

/// Makes line ends what they are stored as; tells how many there are, with those that are so
/// already.
#[cold]
fn replace_lines(body: &mut [u8]) -> usize {
    let lines = body.iter_mut().filter(|byte| matches!(**byte, b'\n' | VT));
    lines.map(|byte| *byte = VT).count()
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&head[COVERED]);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads the record at the beginning of `bytes`; what stands behind it does not matter.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, Fault> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(Fault::Short);
    };
    let (kind, batch, length) = read_head(head).ok_or(Fault::Head)?;
    let Some((payload, behind)) = rest.split_at_checked(length) else {
        return Err(Fault::Short);
    };
    let crc = hex(&head[27..35]).ok_or(Fault::Head)?;
    let matches = crc == u64::from(checksum(head, payload));
    if !matches && !is_planted(Planted::BadChecksumAccepted) {
        return Err(Fault::Checksum);
    }
    let bytes = HEAD_BYTES + length + 1;
    match behind.first() {
        None => return Err(Fault::Short),
        Some(b'\n') => {}
        Some(_) => return Err(Fault::End { bytes }),
    }
    let entry = str::from_utf8(payload).ok().and_then(|text| read_payload(kind, text));
    entry.map_or(Err(Fault::Payload { bytes }), |entry| Ok(Frame { batch, entry, bytes }))
}

/// What is told of a letter besides what the rules know: its number and when it was accepted, as
/// [`LetterId::push_with_time`] writes them, and what it was sent with. Only for a record that is
/// known to be a letter's: nothing of it is verified.
#[must_use]
pub fn glance(bytes: &[u8]) -> Option<(&[u8], LetterKind)> {
    let payload = bytes.get(HEAD_BYTES..)?;
    // In front of the kind stand figures, and one blank.
    let at = memchr::memchr2(b'd', b'b', payload)?;
    let stamp = payload.get(..at.checked_sub(1)?)?;
    let kind = if payload[at] == b'd' { LetterKind::Direct } else { LetterKind::Broadcast };
    Some((stamp, kind))
}

/// Kind, batch and payload length of a frame, whatever its checksum.
fn read_head(head: &[u8; HEAD_BYTES]) -> Option<(u8, u64, usize)> {
    let blanks = [head[2], head[19], head[26], head[35]];
    if head[0] != b'=' || blanks != [b' '; 4] {
        return None;
    }
    let batch = hex(&head[3..19]).filter(|&batch| batch <= BATCH_MOST)?;
    Some((head[1], batch, hex(&head[20..26])? as usize))
}

fn read_told(text: &str) -> Option<Gap> {
    let (first, last) = text.strip_prefix(TOLD)?.split_once(' ')?;
    let (first, last) = (decimal32(first)?, decimal32(last)?);
    (0 < first && first <= last).then_some(Gap { first, last })
}

fn read_payload(kind: u8, text: &str) -> Option<Entry<'_>> {
    let record = match kind {
        b'S' => {
            let (spool, rest) = split(text, b' ')?;
            let (segment, format) = split(rest, b' ')?;
            let spool = if spool.len() == 16 { hex(spool.as_bytes())? } else { return None };
            let (segment, format) = (decimal32(segment)?, decimal32(format)?);
            return Some(Entry::Header(Header { spool, segment, format }));
        }
        b'F' => return Some(read_told(text).map_or(Entry::Filler, Entry::Told)),
        b'E' => {
            let (epoch, unix_ms) = split(text, b' ')?;
            Record::Started { epoch: decimal32(epoch)?, unix_ms: decimal(unix_ms)? }
        }
        b'L' => Record::Letter(read_letter(text)?),
        b'A' => Record::Alive { unix_ms: decimal(text)? },
        b'X' => Record::Stopped { unix_ms: decimal(text)? },
        _ => {
            let (user, rest) = split(text, b' ')?;
            match kind {
                b'O' => Record::Offered { user, through: read_id(rest)? },
                b'T' => Record::Settled { user, through: read_id(rest)? },
                b'H' => Record::Held { user, through: read_id(rest)? },
                b'W' => Record::Withheld { user, through: read_id(rest)? },
                b'P' => Record::Purged { user, through: read_id(rest)? },
                b'K' => {
                    let (key, rest) = split(rest, b' ')?;
                    let (id, unix_ms) = split(rest, b' ')?;
                    let (key, id) = (read_key(key)?, read_id(id)?);
                    Record::Keyed { user, key, id, unix_ms: decimal(unix_ms)? }
                }
                b'B' => {
                    let (other, switch) = split(rest, b' ')?;
                    let switch = match switch {
                        "on" => Switch::On,
                        "off" => Switch::Off,
                        _ => return None,
                    };
                    Record::Blocks { user, other, switch }
                }
                b'I' => Record::SignedIn { user, unix_ms: decimal(rest)? },
                b'U' => Record::SignedOff { user, unix_ms: decimal(rest)? },
                _ => return None,
            }
        }
    };
    Some(Entry::Record(record))
}

fn read_letter(text: &str) -> Option<Letter<'_>> {
    let (id, rest) = leading_id(text)?;
    let (unix_ms, rest) = leading(rest.strip_prefix(' ')?)?;
    let (kind, rest) = split(rest.strip_prefix(' ')?, b' ')?;
    let (from, rest) = split(rest, b' ')?;
    // They may be thousands.
    let (to, body) = rest.split_at(memchr::memchr(b' ', rest.as_bytes())?);
    let body = &body[1..];
    let (kind, key) = match split(kind, b'=') {
        Some((kind, key)) => (kind, Some(read_key(key)?)),
        None => (kind, None),
    };
    let kind = match kind {
        "d" => LetterKind::Direct,
        "b" => LetterKind::Broadcast,
        _ => return None,
    };
    Some(Letter { id, unix_ms, kind, key, from, to, body })
}

fn read_key(text: &str) -> Option<Key<'_>> {
    let (text, digits) = split(text, b'/')?;
    let hash = if digits.len() == 16 { hex(digits.as_bytes())? } else { return None };
    Some(Key { text, hash })
}

fn read_id(text: &str) -> Option<LetterId> {
    leading_id(text).filter(|(_, rest)| rest.is_empty()).map(|(id, _)| id)
}

fn leading_id(text: &str) -> Option<(LetterId, &str)> {
    let (epoch, rest) = leading(text)?;
    let (seq, rest) = leading(rest.strip_prefix('.')?)?;
    Some((LetterId { epoch: u32::try_from(epoch).ok()?, seq: u32::try_from(seq).ok()? }, rest))
}

fn decimal(text: &str) -> Option<u64> {
    leading(text).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

fn decimal32(text: &str) -> Option<u32> {
    u32::try_from(decimal(text)?).ok()
}

/// The number that a text begins with, and what stands behind. As it is written: what a record has
/// is shown as it stands there.
fn leading(text: &str) -> Option<(u64, &str)> {
    let (mut sum, mut digits) = (0u64, 0);
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    let plain = digits == 1 || (digits > 1 && !text.starts_with('0'));
    plain.then(|| (sum, &text[digits..]))
}

/// What stands before and behind the first of these signs, which are ASCII. By hand: fields are
/// short, and a start reads some for each letter that waits.
fn split(text: &str, sign: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == sign)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// A stored body with its line ends back in place. `scratch` is used only if there are any.
pub fn restore<'a>(stored: &'a str, scratch: &'a mut String) -> &'a str {
    if memchr::memchr(VT, stored.as_bytes()).is_none() {
        return stored;
    }
    scratch.clear();
    for (n, line) in stored.split('\u{b}').enumerate() {
        if n > 0 {
            scratch.push('\n');
        }
        scratch.push_str(line);
    }
    scratch
}

/// What a stretch of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A verified record.
    Whole {
        /// Its first byte.
        offset: usize,
        /// What it says.
        frame: Frame<'a>,
    },
    /// No record.
    Damaged {
        /// The first damaged byte.
        offset: usize,
        /// How many bytes until the next whole record, or damage known to be another's.
        bytes: usize,
    },
}

/// Reads a segment's bytes: every byte is part of exactly one [`Piece`].
pub struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let offset = self.at;
        let rest = &self.bytes[offset..];
        if rest.is_empty() {
            return None;
        }
        if is_planted(Planted::ScanStopsAtHole) && decode(rest).is_err() {
            self.at = self.bytes.len();
            return Some(Piece::Damaged { offset, bytes: rest.len() });
        }
        let bytes = match decode(rest) {
            Ok(frame) => {
                self.at += frame.bytes;
                return Some(Piece::Whole { offset, frame });
            }
            // The checksum vouches for the length, so the next record's place is known although
            // this one's line end may be damaged.
            Err(Fault::End { bytes } | Fault::Payload { bytes }) => bytes,
            Err(Fault::Short | Fault::Head | Fault::Checksum) => next_boundary(rest),
        };
        self.at += bytes;
        Some(Piece::Damaged { offset, bytes })
    }
}

/// Where behind a damaged record the next one begins whose checksum is right.
///
/// An `=` may stand in a body, and a damaged letter must not turn its text into records. So only
/// one counts that follows an LF, or another byte that no body holds: a sector that was never
/// written reads as zeros, and must not take the record behind it along.
fn next_boundary(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'=', bytes)
        .filter(|begin| begin.checked_sub(1).is_some_and(|before| never_in_a_body(bytes[before])))
        .find(|begin| {
            let found = decode(&bytes[*begin..]);
            matches!(found, Ok(_) | Err(Fault::End { .. } | Fault::Payload { .. }))
        })
        .unwrap_or(bytes.len())
}

/// Control characters other than TAB and VT, and bytes that UTF-8 never uses. Behind such a byte a
/// record is found, whatever stands before it.
pub(super) fn never_in_a_body(byte: u8) -> bool {
    matches!(byte, 0..=8 | b'\n' | 12..=31 | 0xFE | 0xFF)
}

/// The batch that a damaged stretch seems to begin in. A hint, not verified.
#[must_use]
pub fn likely_batch(damaged: &[u8]) -> Option<u64> {
    damaged.first_chunk().and_then(read_head).map(|(_, batch, _)| batch)
}

/// The letters that a damaged stretch seems to have held. A hint for the log, not verified.
pub fn likely_ids(damaged: &[u8]) -> impl Iterator<Item = LetterId> {
    let later = memchr::memchr_iter(b'\n', damaged).map(|end| end + 1);
    std::iter::once(0).chain(later).filter_map(|start| {
        let line = damaged[start..].get(HEAD_BYTES..)?;
        let text = &line[..memchr::memchr(b' ', line)?];
        let after = line[text.len() + 1..].first()?;
        if damaged[start + 1] != b'L' || !after.is_ascii_digit() {
            return None;
        }
        read_id(str::from_utf8(text).ok()?)
    })
}

/// A letter that a damaged stretch seems to have held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikelyLetter<'a> {
    /// Its number.
    pub id: LetterId,
    /// Its sender.
    pub from: &'a str,
    /// Its recipients, as in [`Letter::to`].
    pub to: &'a str,
}

/// The letters that a damaged stretch seems to have held and whose number and names can be read.
/// A hint, not verified.
pub fn likely_letters(damaged: &[u8]) -> impl Iterator<Item = LikelyLetter<'_>> {
    let later = memchr::memchr_iter(b'\n', damaged).map(|end| end + 1);
    std::iter::once(0).chain(later).filter_map(|start| {
        let line = &damaged[start..];
        if !matches!(line, [b'=', ..] | [_, b'L', ..]) {
            return None;
        }
        let mut words = line.get(HEAD_BYTES..)?.splitn(6, |byte| *byte == b' ');
        let mut word = || str::from_utf8(words.next()?).ok();
        let (id, _time) = (read_id(word()?)?, decimal(word()?)?);
        let _kind = word().filter(|kind| kind.starts_with(['d', 'b']))?;
        let (from, to) = (word()?, word()?);
        // What does not end in front of a body was cut.
        words.next().map(|_| LikelyLetter { id, from, to })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = LetterId> {
        any::<(u32, u32)>().prop_map(|(epoch, seq)| LetterId { epoch, seq })
    }

    /// Everything a record can be made of, owned.
    #[derive(Debug, Clone)]
    struct Parts {
        kind: u8,
        id: LetterId,
        unix_ms: u64,
        user: String,
        to: String,
        body: String,
        batch: u64,
    }

    impl Parts {
        fn key(&self) -> Key<'_> {
            Key { text: &self.user, hash: self.batch }
        }

        fn record(&self) -> Record<'_> {
            let (user, unix_ms, through) = (self.user.as_str(), self.unix_ms, self.id);
            match self.kind {
                0 => Record::Started { epoch: through.epoch, unix_ms },
                1 => Record::Offered { user, through },
                2 => Record::Settled { user, through },
                3 => Record::Held { user, through },
                14 => Record::Withheld { user, through },
                15 => Record::Purged { user, through },
                4 => Record::SignedIn { user, unix_ms },
                5 => Record::SignedOff { user, unix_ms },
                6 => Record::Alive { unix_ms },
                7 => Record::Stopped { unix_ms },
                11 => Record::Blocks { user, other: user, switch: Switch::On },
                12 => Record::Blocks { user, other: user, switch: Switch::Off },
                10 => Record::Keyed { user, key: self.key(), id: self.id, unix_ms },
                _ => Record::Letter(Letter {
                    id: self.id,
                    unix_ms,
                    kind: if self.kind == 8 { LetterKind::Direct } else { LetterKind::Broadcast },
                    key: self.batch.is_multiple_of(2).then_some(self.key()),
                    from: user,
                    to: &self.to,
                    body: &self.body,
                }),
            }
        }

        fn encoded(&self) -> Vec<u8> {
            let mut out = Vec::new();
            assert_eq!(encode(&mut out, self.batch, &self.record()), out.len());
            out
        }
    }

    prop_compose! {
        fn any_parts()(
            kind in 0u8..16,
            id in any_id(),
            unix_ms in any::<u64>(),
            user in "[A-Za-z0-9_-]{1,32}",
            to in "([+]?[a-z0-9.]{1,9}(,[+]?[a-z]{1,9}){0,4})?",
            body in "([^\u{b}]|\n|\t|=| ){0,80}",
            batch in 0..=BATCH_MOST,
        ) -> Parts {
            Parts { kind, id, unix_ms, user, to, body, batch }
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back(parts in any_parts(), behind in any::<Vec<u8>>()) {
            let mut bytes = parts.encoded();
            let length = bytes.len();
            prop_assert_eq!(memchr::memchr(b'\n', &bytes), Some(length - 1), "one line");
            bytes.extend_from_slice(&behind);
            let frame = decode(&bytes).unwrap();
            prop_assert_eq!((frame.batch, frame.bytes), (parts.batch, length));
            let Entry::Record(mut record) = frame.entry else { panic!("no header was written") };
            let mut lines = String::new();
            if let Record::Letter(letter) = &mut record {
                letter.body = restore(letter.body, &mut lines);
            }
            prop_assert_eq!(record, parts.record());
        }

        #[test]
        fn any_bytes_give_a_value_or_a_fault(bytes in any::<Vec<u8>>()) {
            let _ = decode(&bytes);
            let mut at = 0;
            for piece in Pieces::new(&bytes) {
                let (offset, length) = match piece {
                    Piece::Whole { offset, frame } => (offset, frame.bytes),
                    Piece::Damaged { offset, bytes } => (offset, bytes),
                };
                prop_assert_eq!(offset, at);
                prop_assert!(length > 0);
                at += length;
            }
            prop_assert_eq!(at, bytes.len());
            let _ = (likely_batch(&bytes), likely_ids(&bytes).count());
            let _ = likely_letters(&bytes).count();
        }

        #[test]
        fn every_flipped_bit_is_noticed(parts in any_parts()) {
            let good = parts.encoded();
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&bad).is_err(), "bit {}", bit);
            }
        }

        #[test]
        fn a_cut_record_is_short(parts in any_parts(), cut in any::<prop::sample::Index>()) {
            let good = parts.encoded();
            prop_assert_eq!(decode(&good[..cut.index(good.len())]), Err(Fault::Short));
        }

        #[test]
        fn a_flipped_byte_costs_one_record(
            three in prop::array::uniform3(any_parts()), at in any::<prop::sample::Index>()
        ) {
            let [a, b, c] = three.map(|parts| parts.encoded());
            let mut all = [&a[..], &b[..], &c[..]].concat();
            let hit = a.len() + at.index(b.len());
            all[hit] ^= 0x11;
            let whole: Vec<usize> = Pieces::new(&all)
                .filter_map(|piece| match piece {
                    Piece::Whole { offset, .. } => Some(offset),
                    Piece::Damaged { .. } => None,
                })
                .collect();
            prop_assert_eq!(whole, [0, a.len() + b.len()]);
        }
    }

    #[test]
    fn a_person_can_read_it() {
        let letter = Letter {
            id: LetterId { epoch: 1_753_000_000, seq: 7 },
            unix_ms: 1_753_000_123_456,
            kind: LetterKind::Direct,
            key: None,
            from: "tim",
            to: "+fred,ann",
            body: "Hello there",
        };
        let mut out = Vec::new();
        encode(&mut out, 42, &Record::Letter(letter));
        let text = String::from_utf8(out).unwrap();
        let (head, payload) = text.split_at(HEAD_BYTES);
        // The checksum is the one of zlib and Python.
        assert_eq!(head, "=L 000000000000002a 000036 084dd717 ");
        assert_eq!(payload, "1753000000.7 1753000123456 d tim +fred,ann Hello there\n");
    }

    #[test]
    fn a_text_cannot_forge_a_record() {
        let mut forged = Vec::new();
        encode(&mut forged, 1, &Record::Alive { unix_ms: 1 });
        let forged = String::from_utf8(forged).unwrap();
        let body = format!("x\n{forged}{}", forged.trim_end());
        let id = LetterId { epoch: 1, seq: 1 };
        let kind = LetterKind::Direct;
        let letter = Letter { id, unix_ms: 1, kind, key: None, from: "a", to: "b", body: &body };
        let mut out = Vec::new();
        encode(&mut out, 1, &Record::Letter(letter));
        for at in 0..out.len() - forged.len() {
            out[at] ^= 0x40;
            assert!(Pieces::new(&out).all(|piece| matches!(piece, Piece::Damaged { .. })), "{at}");
            out[at] ^= 0x40;
        }
    }

    #[test]
    fn zeros_take_no_record_along() {
        let mut bytes = vec![0; 100];
        encode(&mut bytes, 1, &Record::Alive { unix_ms: 1 });
        let pieces: Vec<_> = Pieces::new(&bytes).collect();
        assert_eq!(pieces[0], Piece::Damaged { offset: 0, bytes: 100 });
        assert!(matches!(pieces[1], Piece::Whole { offset: 100, .. }));
    }

    #[test]
    fn a_header_reads_back() {
        let header = Header { spool: 0xfeed, segment: 7, format: FORMAT };
        let mut out = Vec::new();
        encode_header(&mut out, 3, &header);
        assert_eq!(decode(&out).unwrap().entry, Entry::Header(header));
    }

    #[test]
    fn a_batch_that_could_not_be_counted_on_from_is_no_record() {
        for (batch, good) in [(BATCH_MOST, true), (BATCH_MOST + 1, false), (u64::MAX, false)] {
            let mut out = Vec::new();
            encode(&mut out, batch, &Record::Alive { unix_ms: 1 });
            assert_eq!(decode(&out).is_ok(), good, "{batch:x}");
            assert_eq!(likely_batch(&out).is_some(), good);
        }
    }

    #[test]
    fn damage_still_tells_its_letter() {
        let id = LetterId { epoch: 5, seq: 9 };
        let kind = LetterKind::Broadcast;
        let letter = Letter { id, unix_ms: 1, kind, key: None, from: "a", to: "b", body: "text" };
        let mut out = Vec::new();
        encode(&mut out, 6, &Record::Letter(letter));
        out.truncate(out.len() - 2);
        assert!(likely_ids(&out).eq([id]));
        assert_eq!(likely_batch(&out), Some(6));
        let likely = LikelyLetter { id, from: "a", to: "b" };
        assert!(likely_letters(&out).eq([likely]));
        // Between other records, and with one letter of its frame gone.
        let mut more = Vec::new();
        encode(&mut more, 6, &Record::Settled { user: "b", through: id });
        let second = more.len();
        encode(&mut more, 6, &Record::Letter(letter));
        encode(&mut more, 6, &Record::Held { user: "b", through: id });
        for byte in 0..HEAD_BYTES {
            let mut more = more.clone();
            more[second + byte] ^= 4;
            assert!(likely_letters(&more).eq([likely]), "byte {byte}");
        }
        // Cut within the names, nobody can tell how they went on.
        let cut = out.len() - 5;
        assert_eq!(likely_letters(&out[..cut]).count(), 0);
    }
}
