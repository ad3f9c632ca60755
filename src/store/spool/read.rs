//! Reading letters back, to show them: from the memory of the turn that stored them, or from the
//! disk, some way ahead where a backlog is shown.

use super::super::disk::Disk;
use super::super::files::segment_file;
use super::super::record;
use super::stretch::Stretch;
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
    /// Its number and when it was accepted, as the record has them.
    pub stamp: &'a [u8],
    /// What it was sent with.
    pub kind: LetterKind,
    /// Its text: UTF-8, as it was checked when it came, and by the checksum if it was read.
    pub body: &'a [u8],
}

impl<D: Disk> Spool<D> {
    /// The text of the letter at `at`, UTF-8: from memory if it was appended in this turn or
    /// committed last or before that, else from the disk, verified. The error says which record
    /// cannot be read.
    pub fn body(&mut self, at: Location) -> io::Result<&[u8]> {
        Ok(self.record_and_body(at)?.1)
    }

    /// The same, with what else is told of a letter to a program.
    pub fn page(&mut self, at: Location) -> io::Result<Page<'_>> {
        let (record, body) = self.record_and_body(at)?;
        let (stamp, kind) = record::glance(record).ok_or_else(|| no_letter(at))?;
        Ok(Page { stamp, kind, body })
    }

    fn record_and_body(&mut self, at: Location) -> io::Result<(&[u8], &[u8])> {
        let bytes = if let Some(range) = self.batch.records.range(at) {
            &self.batch.records.bytes[range]
        } else if let Some(range) = self.former.range(at) {
            &self.former.bytes[range]
        } else {
            return self.read_back(at);
        };
        Ok((bytes, body_of(bytes, at, &mut self.lines)?))
    }

    /// The same from the disk, verified. Apart, so that what is in memory does not pay for it.
    #[cold]
    fn read_back(&mut self, at: Location) -> io::Result<(&[u8], &[u8])> {
        let range = self.read_record(at)?;
        let bytes = &self.ahead.bytes[range];
        let stored = letter_of(bytes, at)?.body;
        Ok((bytes, record::restore(stored, &mut self.lines).as_bytes()))
    }

    /// The whole letter at `at`, verified.
    pub fn letter(&mut self, at: Location) -> io::Result<Letter<'_>> {
        let bytes = if let Some(range) = self.batch.records.range(at) {
            &self.batch.records.bytes[range]
        } else {
            let range = self.read_record(at)?;
            &self.ahead.bytes[range]
        };
        let mut letter = letter_of(bytes, at)?;
        letter.body = record::restore(letter.body, &mut self.lines);
        Ok(letter)
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
        let Stretch { mut bytes, .. } = mem::take(&mut self.ahead);
        bytes.resize(wanted, 0);
        let read = self.read_at(at.segment, u64::from(at.offset), &mut bytes)?;
        // What is behind the last commit will be another.
        let last = self.current.as_ref().filter(|current| current.number == at.segment);
        let firm = last.map_or(read, |last| last.bytes.saturating_sub(at.offset) as usize);
        bytes.truncate(read.min(firm));
        self.ahead = Stretch { segment: at.segment, offset: at.offset, bytes };
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

/// The text at the end of a letter's record that we have made.
fn body_of<'a>(record: &'a [u8], at: Location, lines: &'a mut String) -> io::Result<&'a [u8]> {
    let stored = record
        .split_last()
        .and_then(|(_, rest)| rest.split_at_checked(rest.len() - at.body_bytes as usize))
        .map(|(_, body)| body)
        .ok_or_else(|| no_letter(at))?;
    if at.line_ends == 0 {
        return Ok(stored);
    }
    let stored = str::from_utf8(stored).map_err(|_| no_letter(at))?;
    Ok(record::restore(stored, lines).as_bytes())
}

fn no_letter(at: Location) -> io::Error {
    broken(at, "no letter begins there")
}
