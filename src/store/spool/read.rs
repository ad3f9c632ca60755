//! Reading letters back, to show them: from the memory of the turn that stored them, or from the
//! disk, some way ahead where a backlog is shown.

use super::super::disk::Disk;
use super::super::files::segment_file;
use super::super::record;
use super::{Spool, broken, letter_of};
use crate::core::record::{Letter, LetterKind, Location};
use crate::limits::READ_AHEAD_BYTES;
use std::ops::Range;
use std::{io, mem};

/// Read handles kept open, most recently used first.
pub(super) const READERS: usize = 4;

/// What of a letter is read to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// When it was accepted, milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// What it was sent with.
    pub kind: LetterKind,
    /// Its text.
    pub body: &'a str,
}

/// A stretch of a segment that was read.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    segment: u32,
    offset: u32,
    bytes: Vec<u8>,
}

impl Ahead {
    /// Where in it the record stands, if it does.
    fn range(&self, at: Location) -> Option<Range<usize>> {
        let begin = at.offset.checked_sub(self.offset)? as usize;
        let end = begin + at.record_bytes as usize;
        (self.segment == at.segment && end <= self.bytes.len()).then_some(begin..end)
    }

    /// Whether the record stands close behind it.
    fn leads_to(&self, at: Location) -> bool {
        let end = u64::from(self.offset) + self.bytes.len() as u64;
        let near = end..end + READ_AHEAD_BYTES as u64;
        let begins_in = (self.offset..).contains(&at.offset) && u64::from(at.offset) < end;
        self.segment == at.segment && (begins_in || near.contains(&u64::from(at.offset)))
    }
}

impl<D: Disk> Spool<D> {
    /// The text of the letter at `at`: from memory if it was appended in this turn or committed
    /// last, else from the disk. The error says which record cannot be read.
    pub fn body(&mut self, at: Location) -> io::Result<&str> {
        match self.in_batch(at) {
            Some(range) => body_of(&self.batch.bytes[range], at, &mut self.lines),
            None => Ok(self.letter(at)?.body),
        }
    }

    /// The same, with what else is told of a letter that the rules do not know.
    pub fn page(&mut self, at: Location) -> io::Result<Page<'_>> {
        let Some(range) = self.in_batch(at) else {
            let letter = self.letter(at)?;
            return Ok(Page { unix_ms: letter.unix_ms, kind: letter.kind, body: letter.body });
        };
        let bytes = &self.batch.bytes[range];
        let (unix_ms, kind) =
            record::glance(bytes).ok_or_else(|| broken(at, "no letter begins there"))?;
        Ok(Page { unix_ms, kind, body: body_of(bytes, at, &mut self.lines)? })
    }

    /// The whole letter at `at`, verified.
    pub fn letter(&mut self, at: Location) -> io::Result<Letter<'_>> {
        let bytes = match self.in_batch(at) {
            Some(range) => &self.batch.bytes[range],
            None => {
                let range = self.read_record(at)?;
                &self.ahead.bytes[range]
            }
        };
        let mut letter = letter_of(bytes, at)?;
        letter.body = record::restore(letter.body, &mut self.lines);
        Ok(letter)
    }

    /// Where in the batch's memory a record stands, if it does.
    fn in_batch(&self, at: Location) -> Option<Range<usize>> {
        if at.segment != self.batch.segment || at.body_bytes >= at.record_bytes {
            return None;
        }
        let begin = at.offset.checked_sub(self.batch.base)? as usize;
        let end = begin + at.record_bytes as usize;
        (end <= self.batch.bytes.len()).then_some(begin..end)
    }

    /// Reads a record from the disk, unless it was read ahead, and tells where in that memory it
    /// stands. Who follows the one that was read last will be followed himself: a mailbox is shown
    /// in the order of the journal.
    fn read_record(&mut self, at: Location) -> io::Result<Range<usize>> {
        if let Some(range) = self.ahead.range(at) {
            return Ok(range);
        }
        let record = at.record_bytes as usize;
        let wanted = if self.ahead.leads_to(at) { record.max(READ_AHEAD_BYTES) } else { record };
        let Ahead { mut bytes, .. } = mem::take(&mut self.ahead);
        bytes.resize(wanted, 0);
        let read = self.read_at(at.segment, u64::from(at.offset), &mut bytes)?;
        // What is behind the last commit will be another.
        let last = self.current.as_ref().filter(|current| current.number == at.segment);
        let firm = last.map_or(read, |last| last.bytes.saturating_sub(at.offset) as usize);
        bytes.truncate(read.min(firm));
        self.ahead = Ahead { segment: at.segment, offset: at.offset, bytes };
        self.ahead.range(at).ok_or_else(|| broken(at, "the segment ends before the record"))
    }

    pub(super) fn read_at(
        &mut self,
        segment: u32,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        if let Some(current) = &self.current
            && current.number == segment
        {
            return self.disk.read_at(&current.file, offset, into);
        }
        match self.readers.iter().position(|(number, _)| *number == segment) {
            Some(at) => self.readers[..=at].rotate_right(1),
            None => {
                let file = self.disk.open(&segment_file(segment))?;
                self.readers.truncate(READERS - 1);
                self.readers.insert(0, (segment, file));
            }
        }
        self.disk.read_at(&self.readers[0].1, offset, into)
    }
}

/// The text at the end of a letter's record.
fn body_of<'a>(record: &'a [u8], at: Location, lines: &'a mut String) -> io::Result<&'a str> {
    let stored = record
        .split_last()
        .and_then(|(_, rest)| rest.split_at_checked(rest.len() - at.body_bytes as usize))
        .and_then(|(_, body)| str::from_utf8(body).ok())
        .ok_or_else(|| broken(at, "no letter begins there"))?;
    Ok(if at.line_ends == 0 { stored } else { record::restore(stored, lines) })
}
