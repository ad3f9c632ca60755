//! What was appended becomes durable: written, and synced if a promise stands on it. The disk may
//! be at a sync while the next records gather; they are written when it is over, so that what a
//! crash can tear is one batch at the end.

use super::super::disk::{Disk, Patience, Progress};
use super::super::files::{ready_file, segment_file};
use super::{Current, Durable, Spool, Sync};
use crate::core::record::Record;
use crate::fault::{Fault, is_planted};
use std::io;

impl<D: Disk> Spool<D> {
    /// Writes what was appended since the last commit, and begins to sync it if a promise stands on
    /// it: durable is it once [`Self::settle`] says so. Waits for the sync before. Without anything
    /// to write it makes no system call. After an error every later call fails.
    pub fn commit(&mut self) -> io::Result<Progress> {
        self.check_usable()?;
        if !self.is_idle() {
            self.settle(Patience::Wait)?;
            let outcome = self.write_batch();
            self.remember_failure(outcome)?;
        }
        Ok(self.syncing)
    }

    /// Whether what was committed is durable.
    pub fn settle(&mut self, patience: Patience) -> io::Result<Progress> {
        self.check_usable()?;
        let Some(current) = self.current.as_mut().filter(|_| self.syncing == Progress::UnderWay)
        else {
            return Ok(Progress::Over);
        };
        let mut outcome = self.disk.end_sync(&current.file, patience);
        if outcome.is_err() && is_planted(Fault::RetrySync) {
            outcome = self.disk.sync_data(&current.file).map(|()| Progress::Over);
        }
        if let Ok(Progress::Over) = outcome {
            self.syncing = Progress::Over;
            current.unsynced = false;
        }
        self.remember_failure(outcome)
    }

    /// Commits, and waits until that is durable.
    pub fn commit_now(&mut self) -> io::Result<()> {
        self.commit()?;
        self.settle(Patience::Wait).map(|_| ())
    }

    pub(super) fn check_usable(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(why) => Err(io::Error::other(format!("the journal failed before: {why}"))),
        }
    }

    /// Nothing is written after an error: what a failed write or sync left on the disk is only
    /// found out by reading it back at the next start.
    pub(super) fn remember_failure<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &outcome {
            self.failed = Some(e.to_string());
        }
        outcome
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let durable = match (self.config.sync, self.batch.durable) {
            (Sync::Always, Durable::MustBe) if is_planted(Fault::OkBeforeSync) => false,
            (_, Durable::AtAnyRate) | (Sync::Always, Durable::MustBe) => true,
            (Sync::Always, Durable::NeedNotBe) | (Sync::Never, _) => false,
        };
        let rolls = self.current.as_ref().is_none_or(|c| c.number != self.batch.records.segment);
        if rolls {
            self.start_segment()?;
        }
        let Some(current) = &mut self.current else {
            unreachable!("a segment was started for the batch");
        };
        let base = u64::from(self.batch.records.offset);
        let written = self.disk.write_all_at(&current.file, base, &self.batch.records.bytes);
        if !is_planted(Fault::ShortWriteIgnored) {
            written?;
        }
        current.unsynced = true;
        if durable && !rolls {
            let mut begun = self.disk.begin_sync(&current.file);
            if begun.is_err() && is_planted(Fault::RetrySync) {
                begun = self.disk.begin_sync(&current.file);
            }
            self.syncing = begun?;
            current.unsynced = self.syncing == Progress::UnderWay;
        } else if durable {
            self.disk.sync_data(&current.file)?;
            current.unsynced = false;
            if !is_planted(Fault::NoDirectorySync) {
                // A synced file whose name is not durable is lost.
                self.disk.sync_dir()?;
            }
        }
        // Batches that a crash can tear together share a number, so that a later number proves
        // that a sync came between. Without syncs nothing is proved; then each write counts.
        if durable || self.config.sync == Sync::Never {
            self.batch.pen.begin_batch();
        }
        current.bytes = self.batch.records.end();
        current.room = current.room.max(u64::from(current.bytes));
        self.owed_bytes += self.batch.records.bytes.len() as u64;
        self.ledger.set_bytes(current.number, u64::from(current.bytes));
        self.batch.pending = false;
        self.batch.durable = Durable::NeedNotBe;
        Ok(())
    }

    /// Makes the file of the segment that the batch begins.
    fn start_segment(&mut self) -> io::Result<()> {
        // All that is not the last segment is durable: recovery takes damage there for a loss.
        if let Some(last) = &self.current
            && last.unsynced
            && self.config.sync == Sync::Always
        {
            self.disk.sync_data(&last.file)?;
        }
        let number = self.batch.records.segment;
        let name = segment_file(number);
        let spare = if self.keeps_room() { self.ready.take() } else { None };
        let (file, room) = match spare {
            None => (self.disk.create(&name)?, 0),
            Some(spare) => {
                self.disk.rename(&ready_file(spare.number), &name)?;
                (self.disk.open(&name)?, spare.bytes)
            }
        };
        self.current = Some(Current { number, file, bytes: 0, room, unsynced: true });
        Ok(())
    }

    /// Ends the run in order: whatever is found behind this was never confirmed. The record gets
    /// a batch of its own and is synced in any case.
    pub fn stop(&mut self, unix_ms: u64) -> io::Result<()> {
        self.batch.durable = Durable::AtAnyRate;
        if self.is_idle() {
            self.sync_idle()?;
        }
        self.commit_now()?;
        self.begin_batch_without_roll();
        self.push(&Record::Stopped { unix_ms });
        self.batch.durable = Durable::AtAnyRate;
        self.commit_now()
    }

    /// Syncs what earlier commits wrote and did not need to sync.
    fn sync_idle(&mut self) -> io::Result<()> {
        self.settle(Patience::Wait)?;
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.unsynced {
            let outcome = self.disk.sync_data(&current.file);
            current.unsynced = false;
            self.batch.pen.begin_batch();
            return self.remember_failure(outcome);
        }
        Ok(())
    }
}
