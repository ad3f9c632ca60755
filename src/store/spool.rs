//! The journal: one append-only log shared by all mailboxes, in segments, written and synced once
//! a turn. It knows places and bytes; whose letter waits where is the hub's business.
//!
//! **A turn.** Records gather in memory with [`Journal::append`] and become durable together in
//! [`Spool::commit`]. Nothing may be said before that returned. After an error of commit the
//! spool is of no more use: the process ends, and the next start replays.
//!
//! **Segments.** A batch lies in one segment; the next segment begins with a batch, once the last
//! one is full. Segments go strictly oldest first, so a Settled record, which is always younger
//! than the letters it settles, outlives them and never needs to be repeated: a letter that
//! compaction copied names only those who still wait for it. All other records must be repeated
//! in each segment: the epoch is, by the spool; what the hub knows (who is here and was, what was
//! offered, *and what is held*, for a held letter may be copied past the record that holds it) it
//! appends itself when [`Spool::roll_due`] says so, before the turn's first record. Also at the
//! start, before anything is dropped: a crash may have torn the batch that the last segment begins
//! with, and what is saved of it may lack the marks.
//!
//! ```text
//! open: hub.restore(…)…; hub.checkpoint(&mut spool); spool.repeated(); spool.commit()?
//!
//! spool.make_way();                          // this and the next two lines any number of times
//! if spool.roll_due() { hub.checkpoint(&mut spool); spool.repeated() }
//! hub.handle(…, &mut spool);
//! spool.commit()?;
//! if spool.compact_due() { spool.compact_step(…)? }  // when all is said; before that, make_way
//! spool.prepare(…)?;
//! ```
//!
//! **A replay may show a letter twice**, if a crash came between copying and dropping: the second
//! time with only those recipients who still waited. A known letter has moved: take the new
//! place, release the old. Offered, Settled and Held hold for every letter up to theirs, whether
//! it is shown before or after.

use super::disk::{Disk, Progress};
use super::files::{self, Gap, segment_file};
use super::ledger::Ledger;
use super::losses::{self, Loss};
use super::pen::Pen;
use super::ready::Ready;
use super::record::{self, Entry, Header, Written};
use super::recovery::{self, Recovery, SpoolError, Visit};
use crate::core::record::{Journal, Letter, Location, Record, count_recipients};
use crate::fault::{Fault, is_planted};
use std::os::fd::BorrowedFd;
use std::{io, mem};

mod commit;
mod compact;
mod read;
mod room;
mod stretch;

pub use compact::Ask;
use compact::{Compaction, Marks};
pub use read::Page;
use read::READERS;
pub use room::{Config, Load, Measure};
use stretch::Stretch;

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// What must be durable is synced: it survives a power cut.
    Always,
    /// Never: it survives the end of the process, not a power cut.
    Never,
}

/// More than a segment's header and the record of an epoch take.
const EPOCH_BYTES: usize = 256;
/// More than the record takes that a gap was told.
const GAP_BYTES: usize = 80;
/// Gaps noted as told by one start; what is more, the next ones tell again.
const GAPS_NOTED: usize = 1000;
/// Length of the secret file.
const SECRET_BYTES: usize = 32;

/// The segment that commits go to.
struct Current<F> {
    number: u32,
    file: F,
    bytes: u32,
    /// The file's length: up to there the disk has room for it.
    room: u64,
    /// Whether something in it was written and not synced.
    unsynced: bool,
}

/// The records that one commit writes. They stay readable until the next append, or the one after
/// that, if the disk is still at them then.
struct Batch {
    records: Stretch,
    /// Writes its records, with the batch's number.
    pen: Pen,
    durable: Durable,
    pending: bool,
}

/// Whether a batch must be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    NeedNotBe,
    MustBe,
    /// Also if the spool never syncs.
    AtAnyRate,
}

/// The journal on a disk.
pub struct Spool<D: Disk> {
    disk: D,
    config: Config,
    name: u64,
    secret: [u8; SECRET_BYTES],
    epoch: u32,
    started_unix_ms: u64,
    /// None until the first commit of a new spool.
    current: Option<Current<D::File>>,
    batch: Batch,
    /// The batch before, if the disk was still at it when this one was begun.
    former: Stretch,
    /// Whether the disk is still at the sync that the last commit began.
    syncing: Progress,
    /// Bytes of the last segment that repeat what older ones say.
    repeated_bytes: u32,
    /// Commits under way or done.
    commits: u64,
    ledger: Ledger,
    compaction: Compaction,
    ready: Ready<D::File>,
    /// Bytes written that the room made ahead has not followed yet.
    owed_bytes: u64,
    /// The next record begins a new segment.
    must_roll: bool,
    readers: Vec<(u32, D::File)>,
    ahead: Stretch,
    scratch: Vec<u8>,
    lines: String,
    /// The error after which nothing more is written.
    failed: Option<String>,
}

impl<D: Disk> Spool<D> {
    /// Replays the journal into `visit`, repairs it, and begins a new epoch, durably. See the
    /// head of this file for what `visit` must know. `entropy` fills the new spool's name and
    /// secret.
    pub fn open(
        mut disk: D,
        config: Config,
        now_unix_ms: u64,
        entropy: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
        visit: &mut Visit<'_>,
    ) -> Result<(Self, Recovery), SpoolError> {
        let mut fresh_name = [0; 8];
        entropy(&mut fresh_name)?;
        let fresh_name = u64::from_le_bytes(fresh_name);
        let found = recovery::replay(&mut disk, fresh_name, visit)?;
        let mut recovery = found.recovery;
        let secret = read_secret(&mut disk, entropy, &mut recovery)?;
        let damaged = recovery.torn_bytes + recovery.lost_bytes > 0;
        let epoch = next_epoch(found.last_epoch, now_unix_ms, damaged)?;
        let current = match found.tail {
            None => None,
            Some(tail) => {
                let file = disk.open(&segment_file(tail.number))?;
                let recovery::Tail { number, bytes, room } = tail;
                Some(Current { number, file, bytes, room, unsynced: false })
            }
        };
        let mut ready = Ready::new(found.stock);
        if config.spares == 0 {
            ready.clear(&mut disk)?;
        }
        let batch = Batch {
            records: Stretch::default(),
            pen: Pen::new(found.last_batch + 1),
            durable: Durable::NeedNotBe,
            pending: false,
        };
        let mut spool = Self {
            disk,
            config,
            name: found.name,
            secret,
            epoch,
            started_unix_ms: now_unix_ms,
            current,
            batch,
            former: Stretch::default(),
            syncing: Progress::Over,
            repeated_bytes: 0,
            commits: 0,
            ledger: found.ledger,
            compaction: Compaction::default(),
            ready,
            owed_bytes: 0,
            must_roll: false,
            readers: Vec::with_capacity(READERS),
            ahead: Stretch::default(),
            scratch: Vec::new(),
            lines: String::new(),
            failed: None,
        };
        spool.make_overdue_room()?;
        spool.begin_epoch()?;
        spool.make_overdue_room()?;
        Ok((spool, recovery))
    }

    /// Makes the epoch durable.
    fn begin_epoch(&mut self) -> io::Result<()> {
        // What the hub adds to a new segment follows before anything older goes.
        self.roll_unless_fits(EPOCH_BYTES);
        if let Some(current) = &self.current
            && mem::take(&mut self.must_roll)
        {
            self.begin_segment(current.number + 1);
        } else if self.current.is_none() {
            self.begin_segment(1);
        } else {
            self.begin_batch_without_roll();
            self.push_started();
        }
        self.commit_now()
    }

    /// For the spool's own records, which go into the last segment although that may be full: a
    /// new one would have to begin with what only the hub can add.
    fn begin_batch_without_roll(&mut self) {
        let current = self.current.as_ref().expect("open commits the epoch");
        let (number, bytes) = (current.number, current.bytes);
        self.begin_batch(number, bytes);
    }

    /// The spool's random name, drawn when it was made.
    #[must_use]
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Random bytes that never leave the spool, for salts of users who do not exist.
    #[must_use]
    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// The epoch of this run's letters.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The segments and what of them is needed.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether promises wait for the disk.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.config.sync == Sync::Always
    }

    /// Whether the disk is at a sync, as far as is known.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.syncing == Progress::UnderWay
    }

    /// See [`Disk::sync_in_background`].
    pub fn sync_in_background(&mut self) -> Option<BorrowedFd<'_>> {
        match self.config.sync {
            Sync::Always => self.disk.sync_in_background(),
            Sync::Never => None,
        }
    }

    /// Whether nothing waits for a commit.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.batch.pending
    }

    /// Whether the next record begins a new segment, which must begin with what the hub knows.
    #[must_use]
    pub fn roll_due(&self) -> bool {
        self.is_idle() && self.must_roll
    }

    /// What was appended since the last commit only repeats what older segments say. It does not
    /// fill the segment: where it is longer than one, each turn would begin another.
    pub fn repeated(&mut self) {
        let bytes = if self.is_idle() { 0 } else { self.batch.records.bytes.len() };
        self.repeated_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.compaction.marks = Marks::Repeated;
    }

    /// The losses that were found at the start are told, durably, to those they concern.
    pub fn losses_told(&mut self, losses: &[Loss]) -> io::Result<()> {
        let outcome = losses::forget(&mut self.disk, losses);
        self.remember_failure(outcome)
    }

    /// The operator was told that these segments are missing: no later start has to do it again.
    pub fn gaps_told(&mut self, gaps: &[Gap]) -> io::Result<()> {
        self.check_usable()?;
        let gaps = gaps.get(..gaps.len().min(GAPS_NOTED)).unwrap_or_default();
        // Where there is no room for it, it is told once more.
        if gaps.is_empty() || !self.fits((gaps.len() * GAP_BYTES) as u64) {
            return Ok(());
        }
        if self.is_idle() {
            self.begin_batch_without_roll();
        }
        for gap in gaps {
            record::encode_told(&mut self.batch.records.bytes, self.batch.pen.batch(), *gap);
        }
        if self.batch.durable == Durable::NeedNotBe {
            self.batch.durable = Durable::MustBe;
        }
        self.commit_now()
    }

    fn begin_batch(&mut self, segment: u32, base: u32) {
        if self.is_syncing() {
            // What it holds is still to be shown.
            mem::swap(&mut self.former, &mut self.batch.records);
        }
        self.batch.records.begin(segment, base);
        self.batch.durable = Durable::NeedNotBe;
        self.batch.pending = true;
        self.commits += 1;
    }

    fn begin_segment(&mut self, number: u32) {
        self.must_roll = false;
        self.begin_batch(number, 0);
        self.ledger.add(number);
        let header = Header { spool: self.name, segment: number, format: record::FORMAT };
        record::encode_header(&mut self.batch.records.bytes, self.batch.pen.batch(), &header);
        self.push_started();
    }

    fn push_started(&mut self) {
        let started = Record::Started { epoch: self.epoch, unix_ms: self.started_unix_ms };
        self.push(&started);
    }

    fn push(&mut self, record: &Record<'_>) -> Location {
        let offset = self.batch.records.end();
        let Written { bytes, line_ends } =
            self.batch.pen.record(&mut self.batch.records.bytes, record);
        if record.must_be_durable() && self.batch.durable == Durable::NeedNotBe {
            self.batch.durable = Durable::MustBe;
        }
        let small = |n| u32::try_from(n).expect("the pen keeps a record below 16 MiB");
        let record_bytes = small(bytes);
        let segment = self.batch.records.segment;
        let Record::Letter(letter) = record else {
            return Location { segment, offset, record_bytes, ..Location::default() };
        };
        let (body_bytes, line_ends) = (small(letter.body.len()), small(line_ends));
        let at = Location { segment, offset, record_bytes, body_bytes, line_ends };
        debug_assert_eq!(at, at.with_body(letter.body));
        self.ledger.keep(at, count_recipients(letter.to));
        at
    }
}

impl<D: Disk> Journal for Spool<D> {
    fn append(&mut self, record: &Record<'_>) -> Location {
        if self.is_idle() {
            if self.roll_due() {
                self.begin_segment(self.batch.records.segment + 1);
            } else {
                self.begin_batch_without_roll();
            }
        }
        self.push(record)
    }

    fn release(&mut self, at: Location) {
        self.ledger.release(at);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.takes(bytes)
    }
}

pub(super) fn location(segment: u32, offset: u64, bytes: usize, letter: &Letter<'_>) -> Location {
    let at = Location {
        segment,
        offset: u32::try_from(offset).expect("a segment was written with 32-bit places"),
        record_bytes: u32::try_from(bytes).expect("a frame tells at most 16 MiB"),
        ..Location::default()
    };
    at.with_body(letter.body)
}

pub(super) fn letter_of(bytes: &[u8], at: Location) -> io::Result<Letter<'_>> {
    match record::decode(bytes) {
        Ok(frame) => match frame.entry {
            Entry::Record(Record::Letter(letter)) => Ok(letter),
            _ => Err(broken(at, "it is no letter")),
        },
        Err(_) => Err(broken(at, "its checksum does not match")),
    }
}

fn broken(at: Location, why: &str) -> io::Error {
    let Location { segment, offset, .. } = at;
    let file = segment_file(segment);
    damaged(format!("{file}: the record at {offset} cannot be read: {why}"))
}

fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Never the same epoch twice. After damage one more is skipped: the record that began the last
/// epoch may be what was damaged.
pub(super) fn next_epoch(last: u32, now_unix_ms: u64, damaged: bool) -> io::Result<u32> {
    if is_planted(Fault::NoEpoch) && last > 0 {
        return Ok(last);
    }
    let seconds = u32::try_from(now_unix_ms / 1000).unwrap_or(u32::MAX);
    last.checked_add(1)
        .and_then(|next| next.max(seconds).checked_add(u32::from(damaged)))
        .ok_or_else(|| io::Error::other("the spool's epochs are used up: start a new spool"))
}

/// The spool's secret; made if it is missing, anew if it is damaged, which only changes what
/// salt a user who does not exist seems to have.
fn read_secret<D: Disk>(
    disk: &mut D,
    entropy: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    recovery: &mut Recovery,
) -> io::Result<[u8; SECRET_BYTES]> {
    match files::read_whole(disk, "secret") {
        Ok(bytes) => {
            if let Ok(secret) = bytes.try_into() {
                return Ok(secret);
            }
            recovery.lines.push("secret is damaged and was drawn anew".to_owned());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut secret = [0; SECRET_BYTES];
    entropy(&mut secret)?;
    files::replace(disk, "secret.tmp", "secret", &secret)?;
    Ok(secret)
}
