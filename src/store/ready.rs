//! Room kept ready on the disk: files of zeros, from which segments are made. Writing into them
//! takes nothing more from the disk, so it succeeds on a full one. It knows nothing of records.
//!
//! **A file's way.** A fresh one is `ready-<n>` from its first byte on, because it never holds
//! anything but zeros, however a crash cuts it. A segment that nobody needs becomes
//! `recycled-<n>`; only when every byte of it was overwritten and synced, and its new name is
//! durable, it is `ready-<n>`: what stood in it must never be taken for records of the segment it
//! becomes. At a start a ready file that holds something (a crash came while a repair was written
//! into it, or before a new segment's name was durable) is recycled.
//!
//! **In small pieces.** All of it is done by the one thread that serves everybody. So zeros are
//! written a piece at a time, and synced some pieces at a time, because a disk takes as long for a
//! small piece as for these. And recycled files that are too many are cut piece by piece before
//! they are removed: to give sixteen MiB back at once takes a file system several milliseconds.

use super::disk::Disk;
use super::files::{self, NUMBER_MOST, ZEROS, is_full, look_for_zeros, ready_file, recycled_file};
use crate::limits::{CUT_PIECES, FILL_PIECES_A_SYNC, FILL_RETRY_MS};
use crate::time::Millis;
use std::collections::VecDeque;
use std::io;

/// A file that waits for its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) number: u32,
    pub(super) bytes: u64,
}

/// What is there of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    /// Only zeros.
    pub(super) ready: Vec<Spare>,
    /// To be filled with zeros, or to be given back, oldest first.
    pub(super) recycled: VecDeque<Spare>,
    /// No file has this number or a higher one.
    next_number: u32,
}

/// What an operator must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tidings {
    /// The disk gives no more room; its words.
    Full(String),
    /// All that is wanted is ready again.
    Room,
}

/// Whether zeros are written ahead of need or are overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Synced every few pieces, so that no later sync has much to do.
    Ahead,
    /// The sync of what is written behind them takes them along.
    Behind,
    /// The same, and somebody waits for the file: nothing is given back meanwhile.
    Overdue,
}

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) files: usize,
    /// With so many, a further one is not kept.
    pub(super) most: usize,
    /// The length of each in bytes.
    pub(super) bytes: u64,
    /// The length from which on one is of use.
    pub(super) usable: u64,
    /// Bytes written at a time.
    pub(super) piece: usize,
}

/// The room that is ready, and the making of more.
pub(super) struct Ready<F> {
    stock: Stock,
    open: Option<Open<F>>,
    full: Option<Full>,
    tidings: Option<Tidings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fresh,
    Recycled,
    /// A recycled one that is not kept.
    Surplus,
}

/// The file that something is being done to.
struct Open<F> {
    kind: Kind,
    number: u32,
    /// How far it is filled; what is left of it, if it is cut.
    at: u64,
    /// How far it is filled durably.
    synced: u64,
    file: F,
}

/// The disk had no more room.
struct Full {
    /// Before then it is not asked again.
    retry_at: Millis,
    /// For what. Zeros over a recycled file take no room where a file system writes in place and
    /// the file has no holes; where they do, that waits, too.
    kind: Kind,
}

impl Stock {
    /// Takes in the files that are there, by number. Whatever of them holds something is recycled.
    pub(super) fn take<D: Disk>(disk: &mut D, ready: &[u32], recycled: &[u32]) -> io::Result<Self> {
        let known = ready.iter().chain(recycled).filter(|number| **number <= NUMBER_MOST);
        let next_number = known.max().map_or(1, |most| most + 1);
        let mut stock = Self { next_number, ..Self::default() };
        for &number in recycled {
            let file = disk.open(&recycled_file(number))?;
            let bytes = disk.len(&file)?;
            stock.recycled.push_back(Spare { number, bytes });
        }
        for &number in ready {
            let (bytes, zeros) = look_for_zeros(disk, &ready_file(number))?;
            if zeros {
                stock.ready.push(Spare { number, bytes });
                continue;
            }
            let spare = Spare { number: stock.new_number(), bytes };
            disk.rename(&ready_file(number), &recycled_file(spare.number))?;
            disk.sync_dir()?;
            stock.recycled.push_back(spare);
        }
        Ok(stock)
    }

    /// A number that no file has.
    pub(super) fn new_number(&mut self) -> u32 {
        let number = self.next_number.max(1);
        self.next_number = number + 1;
        number
    }

    /// Makes a file that holds only zeros ready, durably, under the name that it gets.
    pub(super) fn adopt<D: Disk>(&mut self, disk: &mut D, file: &str) -> io::Result<()> {
        let bytes = {
            let file = disk.open(file)?;
            disk.len(&file)?
        };
        let number = self.new_number();
        disk.rename(file, &ready_file(number))?;
        disk.sync_dir()?;
        self.ready.push(Spare { number, bytes });
        Ok(())
    }

    /// Makes a file hold `bytes` durably, in one step as far as a crash can see, by way of
    /// `temporary` or, if the disk is full, of a ready file; returns how long it is then.
    pub(super) fn write_whole<D: Disk>(
        &mut self,
        disk: &mut D,
        temporary: &str,
        name: &str,
        bytes: &[u8],
    ) -> io::Result<u64> {
        match files::replace(disk, temporary, name, bytes) {
            Err(e) if is_full(&e) => self.replace(disk, name, bytes).ok_or(e)?,
            other => other.map(|()| bytes.len() as u64),
        }
    }

    /// Makes a segment hold `bytes` durably by putting a ready file in its place, if one is long
    /// enough; returns its length. A crash before that leaves a ready file that holds something.
    pub(super) fn replace<D: Disk>(
        &mut self,
        disk: &mut D,
        segment: &str,
        bytes: &[u8],
    ) -> Option<io::Result<u64>> {
        self.longest().filter(|spare| spare.bytes >= bytes.len() as u64)?;
        let spare = self.take_longest()?;
        let name = ready_file(spare.number);
        let outcome = disk.open(&name).and_then(|file| {
            disk.write_all_at(&file, 0, bytes)?;
            disk.sync_data(&file)?;
            disk.rename(&name, segment)?;
            disk.sync_dir()
        });
        Some(outcome.map(|()| spare.bytes))
    }

    /// The longest file that is ready.
    pub(super) fn longest(&self) -> Option<Spare> {
        self.ready.iter().copied().max_by_key(|spare| (spare.bytes, spare.number))
    }

    /// The same, which is used now.
    pub(super) fn take_longest(&mut self) -> Option<Spare> {
        let longest = self.longest()?;
        self.ready.retain(|spare| spare.number != longest.number);
        Some(longest)
    }
}

impl<F> Open<F> {
    /// Writes zeros, at most up to `length`.
    fn write_piece<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        length: u64,
        piece: usize,
    ) -> io::Result<()> {
        let most = usize::try_from(length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let piece = piece.min(ZEROS.len()).min(most);
        if piece > 0 {
            disk.write_all_at(&self.file, self.at, &ZEROS[..piece])?;
        }
        self.at += piece as u64;
        Ok(())
    }

    /// Whether what was written is enough for a sync, or the last of it.
    fn is_sync_due(&self, wanted: Wanted, last: bool) -> bool {
        let owed = self.at - self.synced;
        owed >= (wanted.piece * FILL_PIECES_A_SYNC) as u64 || (last && owed > 0)
    }
}

impl<F> Ready<F> {
    pub(super) fn new(stock: Stock) -> Self {
        Self { stock, open: None, full: None, tidings: None }
    }

    pub(super) fn stock(&self) -> &Stock {
        &self.stock
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// Files that a segment can be made of.
    pub(super) fn usable(&self, wanted: Wanted) -> usize {
        self.stock.ready.iter().filter(|spare| spare.bytes >= wanted.usable).count()
    }

    /// Files that are as long as wanted.
    pub(super) fn whole(&self, wanted: Wanted) -> usize {
        self.stock.ready.iter().filter(|spare| spare.bytes >= wanted.bytes).count()
    }

    /// Files that a segment can be made of, now or soon.
    pub(super) fn count(&self, wanted: Wanted) -> usize {
        self.usable(wanted) + self.stock.recycled.len()
    }

    /// Takes the longest file for a segment.
    pub(super) fn take(&mut self) -> Option<Spare> {
        let spare = self.stock.take_longest()?;
        self.open.take_if(|open| open.kind == Kind::Fresh && open.number == spare.number);
        Some(spare)
    }

    /// When [`Self::fill`] has something to do; time zero is now.
    pub(super) fn due(&self, wanted: Wanted) -> Option<Millis> {
        let retry_at = |full: &Full| full.retry_at;
        if !self.stock.recycled.is_empty() {
            let full = self.full.as_ref().filter(|full| full.kind != Kind::Fresh);
            return Some(full.map_or(Millis(0), retry_at));
        }
        let due = self.full.as_ref().map_or(Millis(0), retry_at);
        (self.whole(wanted) < wanted.files).then_some(due)
    }

    /// The file of a segment that nobody needs any more is renamed, durably, and filled with zeros
    /// or given back later.
    pub(super) fn recycle<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        file: &str,
    ) -> io::Result<()> {
        let bytes = {
            let file = disk.open(file)?;
            disk.len(&file)?
        };
        let number = self.stock.new_number();
        disk.rename(file, &recycled_file(number))?;
        disk.sync_dir()?;
        self.stock.recycled.push_back(Spare { number, bytes });
        Ok(())
    }

    /// Something was given back to the disk: it may have room again.
    pub(super) fn look_again(&mut self) {
        if let Some(full) = &mut self.full {
            full.retry_at = Millis(0);
        }
    }

    /// What happened since the last call.
    pub(super) fn tidings(&mut self) -> Option<Tidings> {
        self.tidings.take()
    }

    /// Does the next piece of what is due. A full disk is no error: it is noted, and asked again
    /// later.
    pub(super) fn fill<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        pace: Pace,
        now: Millis,
    ) -> io::Result<()> {
        if self.due(wanted).is_none_or(|at| at > now) {
            return Ok(());
        }
        if pace == Pace::Overdue {
            // It is taken up again where it is left.
            self.open.take_if(|open| open.kind == Kind::Surplus);
        }
        let kind = match &self.open {
            Some(open) => open.kind,
            None => self.next_recycled(wanted, pace).map_or(Kind::Fresh, |(kind, _)| kind),
        };
        match self.next_piece(disk, wanted, pace) {
            Err(e) if is_full(&e) => {
                let full = Full { retry_at: now.plus(FILL_RETRY_MS), kind };
                if self.full.replace(full).is_none() {
                    self.tidings = Some(Tidings::Full(e.to_string()));
                }
                Ok(())
            }
            Err(e) => Err(e),
            Ok(()) => {
                self.look_again();
                if self.due(wanted).is_none() && self.full.take().is_some() {
                    self.tidings = Some(Tidings::Room);
                }
                Ok(())
            }
        }
    }

    fn next_piece<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        pace: Pace,
    ) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open_next(disk, wanted, pace)?,
        };
        match open.kind {
            Kind::Fresh => self.fill_fresh(disk, wanted, pace, open),
            Kind::Recycled => self.fill_recycled(disk, wanted, open),
            Kind::Surplus => self.cut(disk, wanted, open),
        }
    }

    /// A file counts for as much of it as is durable, unless what is written behind takes that
    /// along.
    fn fill_fresh<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        pace: Pace,
        mut open: Open<F>,
    ) -> io::Result<()> {
        let mut written = open.write_piece(disk, wanted.bytes, wanted.piece);
        // A full disk took some pieces before this one.
        let stopped = written.as_ref().is_err_and(is_full) || open.at >= wanted.bytes;
        if pace == Pace::Ahead && open.is_sync_due(wanted, stopped) {
            written = self.sync(disk, &mut open).and(written);
        }
        let has = if pace == Pace::Ahead { open.synced } else { open.at };
        if let Some(spare) = self.stock.ready.iter_mut().find(|spare| spare.number == open.number) {
            spare.bytes = spare.bytes.max(has);
        }
        written?;
        if has < wanted.bytes {
            self.open = Some(open);
        }
        Ok(())
    }

    fn fill_recycled<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        mut open: Open<F>,
    ) -> io::Result<()> {
        let length = self.stock.recycled.front().map_or(0, |spare| spare.bytes);
        open.write_piece(disk, length, wanted.piece)?;
        if open.is_sync_due(wanted, open.at >= length) {
            self.sync(disk, &mut open)?;
        }
        if open.synced < length {
            self.open = Some(open);
            return Ok(());
        }
        // The name must last before the file gets its next one: a file with the names of a segment
        // and of a recycled one would be emptied although it is in use.
        let number = open.number;
        disk.rename(&recycled_file(number), &ready_file(number))?;
        disk.sync_dir()?;
        self.stock.recycled.pop_front();
        self.stock.ready.push(Spare { number, bytes: length });
        Ok(())
    }

    /// Makes durable what was written to the file.
    fn sync<D: Disk<File = F>>(&mut self, disk: &mut D, open: &mut Open<F>) -> io::Result<()> {
        let synced = disk.sync_data(&open.file);
        match &synced {
            Ok(()) => open.synced = open.at,
            // What was promised at the write was not there. Nothing is known of the file now, and
            // it goes.
            Err(e) if is_full(e) => self.forget(disk, open)?,
            Err(_) => {}
        }
        synced
    }

    /// Gives the next piece of a file back. What a crash leaves of it is a recycled file still.
    fn cut<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        mut open: Open<F>,
    ) -> io::Result<()> {
        let left = open.at.saturating_sub((wanted.piece * CUT_PIECES) as u64);
        if left == 0 {
            return self.forget(disk, &open);
        }
        match disk.truncate(&open.file, left) {
            // A file system that writes nothing in its place may want room for this.
            Err(e) if is_full(&e) => self.forget(disk, &open),
            Err(e) => Err(e),
            Ok(()) => {
                if let Some(spare) = self.stock.recycled.front_mut() {
                    spare.bytes = left;
                }
                open.at = left;
                self.open = Some(open);
                Ok(())
            }
        }
    }

    /// The next file to do something to: what is there already first, because it needs no more
    /// room; then the one that needs least.
    fn open_next<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        wanted: Wanted,
        pace: Pace,
    ) -> io::Result<Open<F>> {
        if let Some((kind, Spare { number, bytes })) = self.next_recycled(wanted, pace) {
            let file = disk.open(&recycled_file(number))?;
            let at = if kind == Kind::Surplus { bytes } else { 0 };
            return Ok(Open { kind, number, at, synced: 0, file });
        }
        let short = self.stock.ready.iter().filter(|spare| spare.bytes < wanted.bytes);
        let (number, at, file) = match short.max_by_key(|spare| spare.bytes).copied() {
            Some(Spare { number, bytes }) => (number, bytes, disk.open(&ready_file(number))?),
            None => {
                let number = self.stock.new_number();
                let file = disk.create(&ready_file(number))?;
                self.stock.ready.push(Spare { number, bytes: 0 });
                (number, 0, file)
            }
        };
        Ok(Open { kind: Kind::Fresh, number, at, synced: at, file })
    }

    /// The recycled file that is next, and whether it is kept.
    fn next_recycled(&self, wanted: Wanted, pace: Pace) -> Option<(Kind, Spare)> {
        let spare = *self.stock.recycled.front()?;
        match self.keeps(spare.bytes, wanted) {
            true => Some((Kind::Recycled, spare)),
            false => (pace != Pace::Overdue).then_some((Kind::Surplus, spare)),
        }
    }

    /// Whether a file of so many bytes is kept. Short ones, which the disk may give no room to
    /// grow, do not stand in the way of one that can be used.
    fn keeps(&self, bytes: u64, wanted: Wanted) -> bool {
        let is_used = bytes >= wanted.usable && self.usable(wanted) < wanted.most;
        self.stock.ready.len() < wanted.most || is_used
    }

    fn forget<D: Disk<File = F>>(&mut self, disk: &mut D, open: &Open<F>) -> io::Result<()> {
        match open.kind {
            Kind::Fresh => {
                self.stock.ready.retain(|spare| spare.number != open.number);
                disk.remove(&ready_file(open.number))
            }
            Kind::Recycled | Kind::Surplus => {
                self.stock.recycled.pop_front();
                disk.remove(&recycled_file(open.number))
            }
        }
    }

    /// Gives back what is there, where nothing is wanted.
    pub(super) fn clear<D: Disk<File = F>>(&mut self, disk: &mut D) -> io::Result<()> {
        self.open = None;
        for spare in self.stock.ready.drain(..) {
            disk.remove(&ready_file(spare.number))?;
        }
        for spare in self.stock.recycled.drain(..) {
            disk.remove(&recycled_file(spare.number))?;
        }
        Ok(())
    }
}
