//! Reading the journal back after whatever happened to it, and repairing it.
//!
//! Three rules make a crash at any point of the repair harmless. A segment whose records must move
//! is only ever replaced whole: its new content goes to another file, is synced, and takes the
//! old name in one step, so that the old or the new content stands there, and the same repair
//! follows from either. Damaged bytes are copied to a durable quarantine file before they are
//! replaced, under a name drawn from the bytes, so that doing it again makes the same file. And
//! nothing new is appended before the repair is done.
//!
//! The newest segment is the one that a crash tears, and that happens on full disks, too. As long
//! as its records stay where they are it is written anew in its own place, which needs no room:
//! each byte is overwritten by itself, a torn end by zeros, and damage before other records by a
//! record that says nothing. Else a file that was kept ready takes its place.
//!
//! **What a cut tail means.** The batch number in a frame goes up after each sync that succeeded.
//! So damage with a later batch behind it hit acknowledged data: a loss. Damage in the last batch
//! may be a write that never ended, and nobody can tell: it "may have been confirmed". Behind the
//! record of an orderly stop nothing was confirmed. In each case every whole record is kept; the
//! difference is what is said.
//!
//! What is repaired is not found again. A segment that is missing as a whole stays missing, so the
//! journal notes that it was told, once that is done. The note stands behind the gap, so it goes
//! later than the segments before the gap, and with them the gap is gone.
//!
//! Zeros at the end of a segment are room that was never used. Where the next segment goes on
//! with a later batch than that, though, something acknowledged stood in them.

use super::disk::Disk;
use super::files::{
    Gap, NUMBER_MOST, Name, gaps, name_of, overwrite, quarantine_file, read_whole, segment_file,
    used,
};
use super::ledger::Ledger;
use super::losses::{self, Loss};
use super::ready::Stock;
use super::record::{self, BATCH_LAST, Entry, Header, Piece, Pieces};
use crate::core::record::{Letter, LetterId, Location, Record, recipients};
use std::io;

mod damage;

use damage::{Pass, note_ids, report};

/// What was found when the spool was opened; nothing of it is logged here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether there was no journal yet.
    pub new: bool,
    /// Whether the last run ended in order and nothing behind its end was found.
    pub stopped_in_order: bool,
    /// Segments read.
    pub segments: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Whole records read, segment headers not counted.
    pub records: u64,
    /// Letters among them.
    pub letters: u64,
    /// Bytes at the end that are no record: they may have been confirmed, unless the journal was
    /// stopped in order.
    pub torn_bytes: u64,
    /// Damaged bytes that had been made durable.
    pub lost_bytes: u64,
    /// Whole records saved out of damaged segments.
    pub salvaged: u64,
    /// Places where something is lost that had been confirmed: damaged stretches, a segment's
    /// beginning, a segment, or the whole journal.
    pub lost_places: u64,
    /// Letters that seem to have stood in the bytes that are lost.
    pub lost_letters: u64,
    /// What this and earlier repairs found lost and nobody has been told yet.
    pub losses: Vec<Loss>,
    /// Letters that seem to have stood in damaged bytes, as far as readable; at most 1,000.
    pub damaged_ids: Vec<LetterId>,
    /// Segments that are missing between others, and of which no start has told.
    pub missing: Vec<Gap>,
    /// Files that keep what was damaged.
    pub quarantined: Vec<String>,
    /// Names in the directory that are not the spool's.
    pub foreign: Vec<String>,
    /// What of this an operator must know, a line each.
    pub lines: Vec<String>,
    /// What was done about it, a line each.
    pub repairs: Vec<String>,
}

/// Most of [`Recovery::damaged_ids`].
const IDS_MOST: usize = 1000;
/// More than a segment's header takes.
pub(super) const HEADER_BYTES_MOST: usize = 2 * record::HEAD_BYTES + 32;

/// Sees each record of the journal in order, with its place and the ledger to release places in.
pub type Visit<'a> = dyn FnMut(&Record<'_>, Location, &mut Ledger) + 'a;

/// The journal as it stands after the repair.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) ledger: Ledger,
    pub(super) name: u64,
    pub(super) last_epoch: u32,
    pub(super) last_batch: u64,
    /// Gaps between the segments that a start has told.
    told: Vec<Gap>,
    /// The newest segment.
    pub(super) tail: Option<Tail>,
    /// The files kept ready.
    pub(super) stock: Stock,
    pub(super) recovery: Recovery,
}

/// The newest segment.
pub(super) struct Tail {
    pub(super) number: u32,
    /// Where it goes on.
    pub(super) bytes: u32,
    /// The length of its file.
    pub(super) room: u64,
}

/// Why a journal cannot be opened.
#[derive(Debug)]
pub enum SpoolError {
    /// The disk failed.
    Io(io::Error),
    /// A later mms wrote it.
    NewerFormat {
        /// The segment's file.
        file: String,
        /// Its format.
        format: u32,
    },
}

impl From<io::Error> for SpoolError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::NewerFormat { file, format } => {
                let ours = record::FORMAT;
                write!(
                    f,
                    "{file} is in spool format {format}, this mms knows {ours}; \
                     start the newer mms, or give this one another --spool"
                )
            }
        }
    }
}

impl std::error::Error for SpoolError {}

/// Reads the whole journal, shows it to `visit`, and repairs it. The spool is called `fresh_name`
/// if nothing tells its name.
pub(super) fn replay<D: Disk>(
    disk: &mut D,
    fresh_name: u64,
    visit: &mut Visit<'_>,
) -> Result<Replayed, SpoolError> {
    let mut found = Replayed::default();
    // A name that the last process gave must last before its file gets the next one, or a power cut
    // may leave the file with both, and what is emptied under one is empty under the other.
    disk.sync_dir()?;
    let (mut numbers, used) = take_stock(disk, &mut found)?;
    found.recovery.new = numbers.is_empty();
    drop_stillborn(disk, &mut numbers, &mut found)?;
    // One that was put aside has been told already.
    if used && numbers.is_empty() && found.recovery.quarantined.is_empty() {
        found.recovery.lost_places += 1;
        found.recovery.lines.push(
            "there is no journal, or an empty one, but a server was here before: what stood in it \
             is lost, unless that server never got ready"
                .to_owned(),
        );
    }
    found.name = find_name(disk, &numbers)?.unwrap_or(fresh_name);
    for (at, number) in numbers.iter().enumerate() {
        match numbers.get(at + 1) {
            None => replay_segment(disk, *number, Place::Newest, &mut found, visit)?,
            Some(next) => {
                let goes_on_with = match *next == *number + 1 {
                    true => first_batch_of(disk, *next)?,
                    false => None,
                };
                let place = Place::Before { goes_on_with };
                replay_segment(disk, *number, place, &mut found, visit)?;
            }
        }
    }
    for gap in gaps(&numbers).filter(|gap| !gap.is_told(&found.told)) {
        found.recovery.missing.push(gap);
        found.recovery.lost_places += gap.segments();
        found.recovery.lines.push(format!("{gap}: what stood there is lost"));
    }
    found.recovery.losses = losses::recall(disk)?;
    Ok(found)
}

/// The batch of the record that a segment begins with, if that is whole.
pub(super) fn first_batch_of<D: Disk>(disk: &mut D, number: u32) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEADER_BYTES_MOST];
    let file = disk.open(&segment_file(number))?;
    let read = disk.read_at(&file, 0, &mut bytes)?;
    Ok(record::decode(&bytes[..read]).ok().map(|frame| frame.batch))
}

/// A segment among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Newest,
    Before {
        /// The first batch of the segment behind it, if that is there and tells.
        goes_on_with: Option<u64>,
    },
}

/// Clears half-made files away and returns the segments' numbers in order, and whether a server
/// was here before: the secret is made just before the first segment.
fn take_stock<D: Disk>(disk: &mut D, found: &mut Replayed) -> io::Result<(Vec<u32>, bool)> {
    let recovery = &mut found.recovery;
    let (mut numbers, mut used) = (Vec::new(), false);
    let (mut ready, mut recycled) = (Vec::new(), Vec::new());
    for file in disk.list()? {
        match name_of(&file) {
            Name::Segment(number) => numbers.push(number),
            Name::Ready(number) => ready.push(number),
            Name::Recycled(number) => recycled.push(number),
            Name::Temporary => disk.remove(&file)?,
            Name::Quarantine | Name::Untold | Name::Ours => used |= file == "secret",
            Name::Foreign => recovery.foreign.push(file),
        }
    }
    numbers.sort_unstable();
    if let Some(last) = numbers.last().filter(|last| **last > NUMBER_MOST) {
        return Err(out_of_reach(*last, "that number"));
    }
    recovery.foreign.sort_unstable();
    if !recovery.foreign.is_empty() {
        let names = recovery.foreign.join(", ");
        recovery.lines.push(format!("the spool directory holds files of others: {names}"));
    }
    ready.sort_unstable();
    recycled.sort_unstable();
    found.stock = Stock::take(disk, &ready, &recycled)?;
    Ok((numbers, used))
}

/// Takes away the newest segment if no record in it is whole: a crash came between making the
/// file and making its first batch durable. The next segment takes its number, so the name must
/// be free for good before anything else is written. A file of zeros goes back to those that are
/// kept ready.
fn drop_stillborn<D: Disk>(
    disk: &mut D,
    numbers: &mut Vec<u32>,
    found: &mut Replayed,
) -> io::Result<()> {
    let Some(newest) = numbers.last().copied() else { return Ok(()) };
    let file = segment_file(newest);
    let all = read_whole(disk, &file)?;
    let bytes = &all[..used(&all)];
    if Pieces::new(bytes).any(|piece| matches!(piece, Piece::Whole { .. })) {
        return Ok(());
    }
    numbers.pop();
    if all.is_empty() {
        disk.remove(&file)?;
    } else if bytes.is_empty() {
        // The room was made before the name was given, so this is either or.
        found.recovery.lines.push(format!(
            "{file} holds nothing but zeros: nothing was written there yet, or what may have been \
             confirmed there is gone"
        ));
        return found.stock.adopt(disk, &file);
    } else {
        // Its bytes are kept, because nobody can tell a first batch that was never finished from
        // a segment that lost everything.
        let quarantine = quarantine_file(newest, bytes);
        disk.rename(&file, &quarantine)?;
        let recovery = &mut found.recovery;
        recovery.torn_bytes += bytes.len() as u64;
        note_ids(recovery, bytes);
        let size = bytes.len();
        recovery.lines.push(format!(
            "{file} holds no whole record: {size} bytes, that may have been confirmed"
        ));
        recovery.repairs.push(format!("{file} is kept as {quarantine}"));
        recovery.quarantined.push(quarantine);
    }
    disk.sync_dir()
}

fn replay_segment<D: Disk>(
    disk: &mut D,
    number: u32,
    place: Place,
    found: &mut Replayed,
    visit: &mut Visit<'_>,
) -> Result<(), SpoolError> {
    let file = segment_file(number);
    let all = read_whole(disk, &file)?;
    let mut bytes = &all[..used(&all)];
    found.ledger.add(number);
    found.recovery.segments += 1;
    found.recovery.bytes += bytes.len() as u64;
    let mut pass = read_segment(number, bytes, found, visit)?;
    if let Place::Before { goes_on_with: Some(next) } = place
        && next > pass.last_batch + 1
    {
        note_missing_end(&mut pass, &all, bytes.len(), next);
        bytes = &all;
    }
    found.last_batch = pass.last_batch;

    let damaged = !pass.damage.is_empty() || pass.salvage.is_some();
    found.recovery.stopped_in_order = place == Place::Newest && pass.stopped && !damaged;
    let repaired = pass.salvage.as_deref().unwrap_or(bytes);
    if damaged {
        report(disk, number, place, bytes, &pass, found)?;
    }
    let mut room = all.len() as u64;
    // The newest segment is written anew also if it looks whole. A write whose sync failed may
    // stand in the kernel's memory, look whole now, and be gone after a power cut; only a sync of
    // newly written bytes proves anything. Older ones were synced before newer ones were made.
    if place == Place::Newest && !pass.moved {
        overwrite(disk, &file, repaired, bytes.len())?;
    } else if damaged {
        let temporary = format!("journal-{number:010}.tmp");
        room = found.stock.write_whole(disk, &temporary, &file, repaired)?;
    }
    let length = u32::try_from(repaired.len()).map_err(io::Error::other)?;
    found.ledger.set_bytes(number, u64::from(length));
    found.tail = Some(Tail { number, bytes: length, room });
    Ok(())
}

/// Between what a segment that is not the newest holds and what the next one begins with there
/// was more. That is said once: a record that says nothing closes the gap.
fn note_missing_end(pass: &mut Pass, all: &[u8], used: usize, next: u64) {
    pass.damaged(used, all.len() - used);
    for damage in pass.damage.iter_mut().rev().take_while(|damage| damage.after.is_none()) {
        damage.after = Some(next);
    }
    let salvage = pass.salvage.get_or_insert_with(|| all[..used].to_vec());
    record::encode_filler(salvage, next - 1, record::HEAD_BYTES + 1);
    pass.last_batch = next - 1;
}

/// Shows the whole records of a segment to `visit`, at the places where they will stand.
fn read_segment(
    number: u32,
    bytes: &[u8],
    found: &mut Replayed,
    visit: &mut Visit<'_>,
) -> Result<Pass, SpoolError> {
    let mut pass = Pass { last_batch: found.last_batch, ..Pass::default() };
    let mut lines = String::new();
    if !starts_with_header(bytes) {
        // Where it was, no batch seems to be missing before it.
        let is_oldest = found.recovery.segments == 1;
        let before = if is_oldest { u64::MAX } else { found.last_batch + 1 };
        let batch = first_batch(bytes).map_or(found.last_batch, |first| first.min(before));
        let header = Header { spool: found.name, segment: number, format: record::FORMAT };
        let mut fresh = Vec::with_capacity(bytes.len() + 64);
        record::encode_header(&mut fresh, batch, &header);
        pass.salvage = Some(fresh);
    }
    for piece in Pieces::new(bytes) {
        let (offset, frame) = match piece {
            Piece::Whole { offset, frame } => (offset, frame),
            Piece::Damaged { offset, bytes: length } => {
                pass.salvage.get_or_insert_with(|| bytes[..offset].to_vec());
                pass.damaged(offset, length);
                continue;
            }
        };
        let raw = &bytes[offset..offset + frame.bytes];
        let place = pass.salvage.as_mut().map_or(offset, |salvage| {
            // Where it was, if that can be: then the repair needs no other file.
            pass.moved |= !fill(salvage, &bytes[..offset], frame.batch);
            salvage.len()
        });
        for damage in pass.damage.iter_mut().rev().take_while(|damage| damage.after.is_none()) {
            damage.after = Some(frame.batch);
        }
        pass.last_batch = pass.last_batch.max(frame.batch);
        if pass.last_batch > BATCH_LAST {
            // What a server wrote behind it could not be read any more.
            return Err(out_of_reach(number, &format!("batch {}", pass.last_batch)).into());
        }
        match frame.entry {
            Entry::Header(header) => check_header(number, &header, found)?,
            Entry::Filler => {}
            Entry::Told(gap) => found.told.push(gap),
            Entry::Record(record) => {
                pass.whole += 1;
                pass.stopped = matches!(record, Record::Stopped { .. });
                let place = u32::try_from(place).map_err(io::Error::other)?;
                show(number, place, frame.bytes, record, &mut lines, found, visit);
            }
        }
        if let Some(salvage) = &mut pass.salvage {
            salvage.extend_from_slice(raw);
        }
    }
    Ok(pass)
}

/// A segment tells something so large that it cannot be counted on from there.
fn out_of_reach(number: u32, what: &str) -> io::Error {
    let file = segment_file(number);
    io::Error::other(format!(
        "{file}: no journal comes to {what}; move the file away if it is not of this spool, else \
         start a new spool"
    ))
}

/// Makes `salvage` as long as what stands `before` the next record; false if it cannot be. A crash
/// may leave any part of it in the file: then the next record must still be found.
fn fill(salvage: &mut Vec<u8>, before: &[u8], batch: u64) -> bool {
    match before.len().checked_sub(salvage.len()) {
        Some(0) => true,
        None => false,
        Some(gap) => {
            before.last().is_some_and(|last| record::never_in_a_body(*last))
                && record::encode_filler(salvage, batch, gap)
        }
    }
}

fn starts_with_header(bytes: &[u8]) -> bool {
    record::decode(bytes).is_ok_and(|frame| matches!(frame.entry, Entry::Header(_)))
}

fn first_batch(bytes: &[u8]) -> Option<u64> {
    Pieces::new(bytes).find_map(|piece| match piece {
        Piece::Whole { frame, .. } => Some(frame.batch),
        Piece::Damaged { .. } => None,
    })
}

/// The spool's name from the first whole header; failing that, as a damaged one seems to tell it,
/// which is more likely right than a name drawn by chance.
fn find_name<D: Disk>(disk: &mut D, numbers: &[u32]) -> io::Result<Option<u64>> {
    let mut likely = None;
    for number in numbers {
        let file = disk.open(&segment_file(*number))?;
        let mut bytes = [0; HEADER_BYTES_MOST];
        let read = disk.read_at(&file, 0, &mut bytes)?;
        if let Ok(frame) = record::decode(&bytes[..read])
            && let Entry::Header(header) = frame.entry
        {
            return Ok(Some(header.spool));
        }
        let text = str::from_utf8(&bytes[record::HEAD_BYTES..][..16]).ok();
        likely = likely.or_else(|| u64::from_str_radix(text?, 16).ok());
    }
    Ok(likely)
}

fn check_header(number: u32, header: &Header, found: &mut Replayed) -> Result<(), SpoolError> {
    let file = segment_file(number);
    if header.format > record::FORMAT {
        return Err(SpoolError::NewerFormat { file, format: header.format });
    }
    let name = found.name;
    if name != header.spool || number != header.segment {
        let Header { spool, segment, .. } = header;
        found.recovery.lines.push(format!(
            "{file} says it is segment {segment} of spool {spool:016x}; this is spool {name:016x}"
        ));
    }
    Ok(())
}

/// Counts a record and shows it to `visit`.
fn show(
    segment: u32,
    offset: u32,
    bytes: usize,
    record: Record<'_>,
    lines: &mut String,
    found: &mut Replayed,
    visit: &mut Visit<'_>,
) {
    let record_bytes = u32::try_from(bytes).expect("a frame tells at most 16 MiB");
    let mut at = Location { segment, offset, record_bytes, ..Location::default() };
    found.recovery.records += 1;
    let shown = match record {
        Record::Letter(letter) => {
            found.recovery.letters += 1;
            found.last_epoch = found.last_epoch.max(letter.id.epoch);
            at = at.with_body(letter.body);
            found.ledger.keep(at, recipients(letter.to).count());
            Record::Letter(Letter { body: record::restore(letter.body, lines), ..letter })
        }
        // Every segment repeats the run's epoch. Only the first time a run began.
        Record::Started { epoch, .. } if epoch <= found.last_epoch => return,
        Record::Started { epoch, .. } => {
            found.last_epoch = epoch;
            record
        }
        other => other,
    };
    visit(&shown, at, &mut found.ledger);
}
