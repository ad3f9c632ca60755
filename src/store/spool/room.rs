//! Room: what the journal may still write when the disk gives nothing more, and who may use it.
//!
//! A segment's file is longer than what is written to it, and [`limits::SPARES`] more files are
//! ready to become segments. Messages are taken as long as one of these is left, and only into
//! the segment before it. With that last one everything else goes on: marks of what was offered
//! and settled, sign-ins, and compaction, which makes a file that nobody needs ready again.
//!
//! A journal that is drained as fast as it is written needs no further files: some of those it has
//! left, [`limits::SPARES_MORE`], are made ready beside these. To write over a file is cheaper for
//! a disk than to make one, and to remove one takes longer than anything else a turn does.
//!
//! On a full disk compaction begins before the last file is much used: then the oldest segment's
//! letters certainly find room in it, and one segment after another can be moved until what the
//! marks have used up is free. That holds as long as what each segment repeats does not grow
//! meanwhile by more than half of the slack, an eighth of a file.

use super::super::disk::Disk;
use super::super::ledger::Segment;
use super::super::ready::{Pace, Tidings, Wanted};
use super::super::record;
use super::{EPOCH_BYTES, Marks, Spool, Sync};
use crate::core::record::{Journal, Location, Record};
use crate::limits;
use crate::time::Millis;
use std::io;

/// How the spool works.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Whether a commit waits for the disk.
    pub sync: Sync,
    /// Size at which a new segment begins.
    pub segment_bytes: u32,
    /// How much longer than that its file is: for the rest of the turn, for what the segment
    /// repeats, and for marks when the disk is full.
    pub slack_bytes: u32,
    /// Size from which on a turn's records are much.
    pub batch_bytes: u32,
    /// Zeros written ahead at once.
    pub fill_bytes: usize,
    /// Files kept ready; none is a journal that a full disk ends.
    pub spares: usize,
}

/// Whether the loop has anything else to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nobody waits.
    Idle,
    /// Somebody does.
    Busy,
}

impl Config {
    /// A spool that keeps so many MiB ready; none is a spool that stops when the disk is full.
    #[must_use]
    pub fn with_reserve(sync: Sync, mib: u32) -> Self {
        let file = match mib {
            0 => limits::SEGMENT_FILE_BYTES,
            mib => (mib.min(limits::RESERVE_MIB_MOST) << 20) / limits::SPARES,
        };
        let slack_bytes = file / limits::SLACK_PART;
        Self {
            sync,
            segment_bytes: file - slack_bytes,
            slack_bytes,
            batch_bytes: file / limits::BATCH_PART,
            fill_bytes: limits::FILL_BYTES,
            spares: if mib == 0 { 0 } else { limits::SPARES as usize },
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::with_reserve(Sync::Always, limits::RESERVE_MIB)
    }
}

impl<D: Disk> Spool<D> {
    /// What is wanted ready. A segment begins with what it repeats; the slack has room for a
    /// little of that.
    pub(super) fn wanted(&self) -> Wanted {
        let Config { sync, segment_bytes, slack_bytes, spares, fill_bytes, .. } = self.config;
        let (slack, repeated) = (u64::from(slack_bytes), u64::from(self.repeated_bytes));
        let more = (2 * repeated).saturating_sub(slack / 4).next_multiple_of(slack.max(1));
        let bytes = u64::from(segment_bytes) + slack + more;
        Wanted {
            files: spares,
            // To use a file again takes syncs, to make one does not.
            most: match sync {
                Sync::Always => spares + limits::SPARES_MORE,
                Sync::Never => spares,
            },
            bytes,
            usable: bytes.min(repeated + slack + slack / 2),
            piece: fill_bytes,
        }
    }

    pub(super) fn keeps_room(&self) -> bool {
        self.config.spares > 0
    }

    /// Bytes that fit behind what stands in the last segment, this turn's included.
    fn left(&self) -> u64 {
        let longest = || self.ready.stock().longest().map_or(0, |spare| spare.bytes);
        let room = match &self.current {
            Some(current) if self.spares_due() == 0 => current.room,
            _ => longest(),
        };
        room.saturating_sub(u64::from(self.end()))
    }

    /// Whether a message of so many bytes may be taken in.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        if !self.ready.is_full() {
            // There is room, for it is made before the turn's events are handled.
            return true;
        }
        let spares = self.ready.usable(self.wanted()).saturating_sub(self.spares_due());
        let slack = u64::from(self.config.slack_bytes);
        spares > 0 && !self.is_written_up() && bytes as u64 + slack / 4 <= self.left()
    }

    /// Whether the last segment has its size.
    pub(super) fn is_written_up(&self) -> bool {
        self.current.is_some()
            && self.end().saturating_sub(self.repeated_bytes) >= self.config.segment_bytes
    }

    /// Where the next record goes, unless it begins a segment.
    fn end(&self) -> u32 {
        match &self.current {
            Some(current) if self.is_idle() => current.bytes,
            _ => self.batch.records.end(),
        }
    }

    /// Whether the journal should go on in a new segment. The last ready file of a full disk is
    /// touched only when nothing else is left, or when compaction then gets another one for it.
    pub(super) fn is_segment_full(&self) -> bool {
        let Some(current) = &self.current else { return false };
        let short =
            current.room < u64::from(current.bytes) + u64::from(self.config.slack_bytes) / 2;
        if !self.keeps_room() {
            return self.is_written_up();
        }
        match self.ready.usable(self.wanted()) {
            // What is repeated has grown since the files were made, and the disk does not let them
            // grow with it. One that gains something is better than none.
            0 => short && self.gained_by_rolling() >= u64::from(self.config.slack_bytes) / 4,
            1 if self.ready.is_full() => short || (self.is_written_up() && self.is_worth_moving()),
            _ => short || self.is_written_up(),
        }
    }

    /// How much more would fit into a new segment, behind what it repeats, than into the last one.
    fn gained_by_rolling(&self) -> u64 {
        let longest = self.ready.stock().longest().map_or(0, |spare| spare.bytes);
        let begins_with = u64::from(self.repeated_bytes) + EPOCH_BYTES as u64;
        longest.saturating_sub(begins_with + self.left())
    }

    /// Whether the records of this turn are as many as one turn should write: what else there is
    /// to do had better wait for the next.
    #[must_use]
    pub fn is_batch_full(&self) -> bool {
        !self.is_idle() && self.batch.records.bytes.len() >= self.config.batch_bytes as usize
    }

    /// Whether [`Self::make_way`] has anything to do. Once the turn's first record has seen to it,
    /// there is nothing until something is used up.
    #[must_use]
    pub fn needs_way(&self) -> bool {
        self.is_idle() || self.is_batch_full() || self.spares_due() > 0
    }

    /// Called before an event is handled, so that what it appends has room: writes what the turn
    /// has gathered if that is much, makes overdue room, and sees whether a new segment is to be
    /// begun. An error is told by the next commit.
    pub fn make_way(&mut self) {
        if !self.needs_way() {
            return;
        }
        if self.is_batch_full() {
            // It is remembered.
            let _ = self.commit();
        }
        if self.keeps_room() && !self.ready.is_full() && self.failed.is_none() {
            // It is remembered.
            let _ = self.make_overdue_room();
        }
        // Decided here and not at the next record, for it depends on what happens to letters and
        // files meanwhile; and only the caller can tell what a new segment must begin with.
        let owed = self.compaction.marks == Marks::Owed && !self.ready.is_full();
        self.must_roll |= self.is_idle() && (owed || self.is_segment_full());
    }

    /// Fills one file at once, if there is none and the disk has room.
    pub(super) fn make_overdue_room(&mut self) -> io::Result<()> {
        while self.keeps_room()
            && !self.ready.is_full()
            && self.ready.whole(self.wanted()) < 1 + self.spares_due()
            && self.prepare_at().is_some()
        {
            let wanted = self.wanted();
            let outcome = self.ready.fill(&mut self.disk, wanted, Pace::Overdue, Millis(0));
            self.remember_failure(outcome)?;
        }
        Ok(())
    }

    /// Files that this turn's commit takes: one if its records begin a new segment.
    fn spares_due(&self) -> usize {
        let begins = self.current.as_ref().is_none_or(|c| c.number != self.batch.records.segment);
        usize::from(begins && !self.is_idle())
    }

    /// When [`Self::prepare`] has something to do; time zero is now.
    #[must_use]
    pub fn prepare_at(&self) -> Option<Millis> {
        if !self.keeps_room() || self.failed.is_some() {
            return None;
        }
        self.ready.due(self.wanted())
    }

    /// Writes a piece of the room that is wanted, at the end of a turn, or gives one back: whenever
    /// the loop is idle; under load as often as it takes to be ahead of what is written, or to take
    /// messages again. A full disk is no error.
    pub fn prepare(&mut self, now: Millis, load: Load) -> io::Result<Option<Tidings>> {
        self.check_usable()?;
        let enough = self.config.fill_bytes as u64 / 2;
        let may_wait = self.owed_bytes < enough && !self.ready.is_full();
        if self.prepare_at().is_none() {
            self.owed_bytes = 0;
            return Ok(self.ready.tidings());
        }
        if load == Load::Busy && may_wait {
            return Ok(self.ready.tidings());
        }
        let pace = match self.config.sync {
            Sync::Always => Pace::Ahead,
            Sync::Never => Pace::Behind,
        };
        for _ in 0..limits::FILL_PIECES_A_TURN {
            let wanted = self.wanted();
            let outcome = self.ready.fill(&mut self.disk, wanted, pace, now);
            self.remember_failure(outcome)?;
            self.owed_bytes = self.owed_bytes.saturating_sub(enough);
            if self.owed_bytes < enough {
                break;
            }
        }
        Ok(self.ready.tidings())
    }

    /// Bytes that are ready besides the last segment's.
    #[must_use]
    pub fn ready_bytes(&self) -> u64 {
        self.ready.stock().ready.iter().map(|spare| spare.bytes).sum()
    }

    /// Whether compaction has to make room, because the disk gives none.
    pub(super) fn is_short_of_room(&self) -> bool {
        self.ready.is_full() && self.ready.count(self.wanted()) < self.config.spares
    }

    /// Whether moving what is needed out of all segments would free enough to be worth it. It is
    /// as little as the last ready file may have lost to marks.
    pub(super) fn is_worth_moving(&self) -> bool {
        let (all, live) = self.ledger.bytes();
        all > live + u64::from(self.config.segment_bytes) / 8 + self.repeated_in_all()
    }

    /// Whether the last file is in use. Then it is always worth to move the oldest segment, for
    /// that gives another file, and not to do it is the end once marks have filled this one. What
    /// is repeated may have grown so much that in all nothing seems to be freed.
    pub(super) fn is_in_last_file(&self) -> bool {
        self.ready.is_full() && self.ready.count(self.wanted()) == 0
    }

    /// What each segment repeats comes back with each that is begun.
    pub(super) fn repeated_in_all(&self) -> u64 {
        self.ledger.segments().count() as u64 * u64::from(self.repeated_bytes)
    }

    /// Whether what is needed of a segment surely finds room, if it has to, and the next letter of
    /// it at once or in the next turn: a segment in which it does not fit is full, and worth moving
    /// letters for, so the next begins if there is a file for it.
    pub(super) fn has_room_for(&self, oldest: &Segment) -> bool {
        let stock = self.ready.stock();
        let spares: u64 = stock.ready.iter().map(|spare| spare.bytes).sum();
        let slack = u64::from(self.config.slack_bytes);
        let all = !self.ready.is_full() || self.left() + spares >= oldest.live_bytes + slack / 2;
        all && (self.fits(self.compaction.next_bytes) || self.ready.usable(self.wanted()) > 0)
    }

    /// Whether a record of so many bytes fits into the last segment's file, where that matters.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        !self.keeps_room() || bytes <= self.left()
    }

    /// Says that so many bytes are to be repeated at the start, and whether that can be: if they do
    /// not fit into the last segment a new one begins with them. On a full disk they may find room
    /// nowhere. Then they are owed: the server works, but no segment goes, until the disk has room
    /// and a new segment begins.
    pub fn begin_repeating(&mut self, bytes: usize) -> io::Result<bool> {
        self.repeated_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.make_overdue_room()?;
        let longest = self.ready.stock().longest().map_or(0, |spare| spare.bytes);
        let wanted = bytes as u64 + u64::from(self.config.slack_bytes) / 2;
        self.must_roll |= self.keeps_room() && self.left() < wanted && wanted <= longest;
        let room = if self.must_roll { longest } else { self.left() };
        let fits = !self.ready.is_full() || room >= (bytes + EPOCH_BYTES) as u64;
        if !fits {
            self.must_roll = false;
            self.compaction.marks = Marks::Owed;
        }
        Ok(fits)
    }

    /// The next record begins a new segment if so many bytes do not fit into the last one.
    pub(super) fn roll_unless_fits(&mut self, bytes: usize) {
        let slack = u64::from(self.config.slack_bytes);
        self.must_roll |= self.keeps_room()
            && self.left() < bytes as u64 + slack / 2
            && self.ready.usable(self.wanted()) > 0;
    }
}

/// Counts the bytes of records that are not written.
#[derive(Default)]
pub struct Measure {
    /// How many it were.
    pub bytes: usize,
    scratch: Vec<u8>,
}

impl Journal for Measure {
    fn append(&mut self, record: &Record<'_>) -> Location {
        self.scratch.clear();
        self.bytes += record::encode(&mut self.scratch, 0, record);
        Location::default()
    }

    fn release(&mut self, _: Location) {}

    fn has_room(&self, _: usize) -> bool {
        true
    }
}
