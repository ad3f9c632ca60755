//! The way to a smaller journal, in small steps: drop the oldest segment once nobody needs a letter
//! in it; while the journal is more than twice what is needed, besides what segments repeat, copy
//! the oldest segment's needed letters to the end, so that it can be dropped.
//!
//! A letter's old place goes only after its new one is durable. A crash in between leaves both,
//! and the replay shows both.

use super::super::disk::Disk;
use super::super::files::segment_file;
use super::super::ledger::Segment;
use super::super::record::{self, Entry};
use super::{Spool, damaged, location};
use crate::core::record::{
    Journal, Letter, LetterId, Location, Record, push_recipient, recipients,
};
use crate::fault::{Fault, is_planted};
use crate::limits;
use std::{io, mem};

/// What compaction asks of the hub, or tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Does the user still need the letter, and from this place? Held letters are needed too.
    Needs {
        /// A recipient.
        user: &'a str,
        /// The letter.
        id: LetterId,
        /// Where this copy of it stands.
        at: Location,
    },
    /// The letter stands somewhere else now; the old place is already released. The answer does
    /// not matter.
    Moved {
        /// A recipient.
        user: &'a str,
        /// The letter.
        id: LetterId,
        /// Its new place.
        to: Location,
    },
}

/// Bytes that a step of compaction looks at, unless a single record is longer.
const COMPACT_BYTES: usize = 64 << 10;
/// Whether what older segments say besides letters stands in the last one, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Marks {
    #[default]
    Repeated,
    /// There was no room for it: no segment can go.
    Owed,
}

/// How far compaction has come with the oldest segment.
#[derive(Default)]
pub(super) struct Compaction {
    pub(super) marks: Marks,
    segment: u32,
    offset: u64,
    /// Length of the letter there, if it did not fit into the last segment.
    pub(super) next_bytes: u64,
    /// The commit that makes the last copy durable.
    copied_with: u64,
}

impl<D: Disk> Spool<D> {
    /// Whether a call of [`Self::compact_step`] has something to do: nothing while the disk is at
    /// what may be the copies.
    #[must_use]
    pub fn compact_due(&self) -> bool {
        match self.oldest_closed() {
            None => false,
            Some(_) if self.is_syncing() => false,
            Some(_) if self.compaction.marks == Marks::Owed => false,
            Some(oldest) if oldest.live_letters == 0 => self.copies_are_durable(),
            Some(oldest) => {
                let done = &self.compaction;
                let at_end = done.segment == oldest.number && done.offset >= oldest.bytes;
                let (all, live) = self.ledger.bytes();
                let two = 2 * u64::from(self.config.segment_bytes);
                let worth = all > 2 * live + two + self.repeated_in_all()
                    || (self.is_short_of_room()
                        && (self.is_in_last_file() || self.is_worth_moving()));
                !at_end && worth && self.has_room_for(&oldest)
            }
        }
    }

    /// Does a small part of the way to a smaller journal: unlinks the oldest segment, if nobody
    /// needs it, or copies some of its letters to the end, which the next commit makes durable.
    /// Called when nothing is left to be shown.
    pub fn compact_step(&mut self, hub: &mut dyn FnMut(Ask<'_>) -> bool) -> io::Result<()> {
        self.check_usable()?;
        if !self.compact_due() {
            return Ok(());
        }
        let Some(oldest) = self.oldest_closed() else { return Ok(()) };
        let outcome = if oldest.live_letters == 0 {
            self.drop_oldest(oldest.number)
        } else {
            if self.compaction.segment != oldest.number {
                let segment = oldest.number;
                self.compaction = Compaction { segment, ..Compaction::default() };
            }
            let mut bytes = mem::take(&mut self.scratch);
            let outcome = self.copy_some(oldest, &mut bytes, hub);
            self.scratch = bytes;
            outcome
        };
        self.remember_failure(outcome)
    }

    /// The oldest segment, unless it is the one that commits go to. What it says besides letters
    /// is repeated in the next one, which is durable before commits go there.
    fn oldest_closed(&self) -> Option<Segment> {
        let current = self.current.as_ref()?.number;
        self.ledger.oldest().copied().filter(|oldest| oldest.number < current)
    }

    fn copies_are_durable(&self) -> bool {
        let waits = !self.is_idle() && self.compaction.copied_with >= self.commits;
        !waits || is_planted(Fault::DropBeforeSync)
    }

    /// That a name is gone is durable before the next goes, so that no gap appears between
    /// segments. Where room is kept ready the file becomes that, or is given back piece by piece.
    fn drop_oldest(&mut self, number: u32) -> io::Result<()> {
        self.readers.retain(|(reader, _)| *reader != number);
        let file = segment_file(number);
        if self.keeps_room() {
            self.ready.recycle(&mut self.disk, &file)?;
        } else {
            self.disk.remove(&file)?;
            self.disk.sync_dir()?;
            self.ready.look_again();
        }
        self.ledger.drop_oldest();
        Ok(())
    }

    /// Copies the needed letters among the next records of the oldest segment.
    fn copy_some(
        &mut self,
        oldest: Segment,
        bytes: &mut Vec<u8>,
        hub: &mut dyn FnMut(Ask<'_>) -> bool,
    ) -> io::Result<()> {
        let begin = self.compaction.offset;
        bytes.resize(COMPACT_BYTES, 0);
        let mut filled = self.read_at(oldest.number, begin, bytes)?;
        let (mut to, mut lines) = (String::new(), String::new());
        let mut done = 0;
        for _ in 0..limits::COMPACT_RECORDS {
            let frame = match record::decode(&bytes[done..filled]) {
                Ok(frame) => frame,
                Err(_) if done as u64 + begin >= oldest.bytes => break,
                Err(record::Fault::Short) if done > 0 => break,
                Err(record::Fault::Short) if filled == bytes.len() => {
                    // A single record is longer than what was read.
                    bytes.resize(2 * filled, 0);
                    filled = self.read_at(oldest.number, begin, bytes)?;
                    continue;
                }
                Err(_) => {
                    let at = begin + done as u64;
                    let file = segment_file(oldest.number);
                    return Err(damaged(format!("{file}: the record at {at} is damaged")));
                }
            };
            if let Entry::Record(Record::Letter(letter)) = frame.entry {
                let at = location(oldest.number, begin + done as u64, frame.bytes, &letter);
                let body = record::restore(letter.body, &mut lines);
                if !self.copy_letter(Letter { body, ..letter }, at, &mut to, hub) {
                    break;
                }
            }
            done += frame.bytes;
        }
        self.compaction.offset = begin + done as u64;
        Ok(())
    }

    /// Appends a letter again for those who still need it from where it stands. False if it does
    /// not fit behind what this turn has gathered: on a full disk the file must not grow, so it
    /// waits for the next turn, which begins another one if it has to.
    fn copy_letter(
        &mut self,
        letter: Letter<'_>,
        at: Location,
        to: &mut String,
        hub: &mut dyn FnMut(Ask<'_>) -> bool,
    ) -> bool {
        let id = letter.id;
        to.clear();
        for one in recipients(letter.to) {
            if hub(Ask::Needs { user: one.name, id, at }) {
                push_recipient(to, one);
            }
        }
        if to.is_empty() {
            return true;
        }
        // With fewer recipients it is no longer than it was.
        self.compaction.next_bytes = u64::from(at.record_bytes);
        if !self.fits(self.compaction.next_bytes) {
            return false;
        }
        self.compaction.next_bytes = 0;
        let new = self.append(&Record::Letter(Letter { to, ..letter }));
        self.compaction.copied_with = self.commits;
        for one in recipients(to) {
            self.ledger.release(at);
            hub(Ask::Moved { user: one.name, id, to: new });
        }
        true
    }
}
