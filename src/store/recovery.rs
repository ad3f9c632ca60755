//! Reading the journal back after whatever happened to it, and repairing it.
//!
//! Three rules make a crash at any point of the repair harmless. A segment is only ever replaced
//! whole: its new content goes to a temporary file, is synced, and takes the old name in one
//! step, so that the old or the new content stands there, and the same repair follows from
//! either. Damaged bytes are copied to a durable quarantine file before they are replaced, under
//! a name drawn from the bytes, so that doing it again makes the same file. And nothing new is
//! appended before the repair is done.
//!
//! **What a cut tail means.** The batch number in a frame goes up after each sync that succeeded.
//! So damage with a later batch behind it hit acknowledged data: a loss. Damage in the last batch
//! may be a write that never ended, and nobody can tell: it "may have been confirmed". Behind the
//! record of an orderly stop nothing was confirmed. In each case every whole record is kept; the
//! difference is what is said.

use super::disk::Disk;
use super::ledger::Ledger;
use super::losses::{self, Loss};
use super::record::{self, Entry, Header, Piece, Pieces};
use crate::core::record::{Letter, LetterId, Location, Record, recipients};
use std::fmt::Write as _;
use std::io;

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
    /// Segments that are missing between others.
    pub missing: Vec<u32>,
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

/// Sees each record of the journal in order, with its place and the ledger to release places in.
pub type Visit<'a> = dyn FnMut(&Record<'_>, Location, &mut Ledger) + 'a;

/// The journal as it stands after the repair.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) ledger: Ledger,
    pub(super) name: u64,
    pub(super) last_epoch: u32,
    pub(super) last_batch: u64,
    /// The newest segment and its length.
    pub(super) tail: Option<(u32, u32)>,
    pub(super) recovery: Recovery,
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

/// What a name in the spool's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Segment(u32),
    /// Half-made: of no use to anyone.
    Temporary,
    Quarantine,
    /// See [`super::losses`].
    Untold,
    /// The lock, the secret, the note for people.
    Ours,
    Foreign,
}

pub(super) fn name_of(file: &str) -> Name {
    if matches!(file, "lock" | "secret" | "README") {
        return Name::Ours;
    }
    if file.starts_with("quarantine-") && file.ends_with(".log") {
        return Name::Quarantine;
    }
    if file.starts_with("untold-") && file.ends_with(".log") {
        return Name::Untold;
    }
    if file == "secret.tmp" {
        return Name::Temporary;
    }
    let number = |end| {
        let digits: &str = file.strip_prefix("journal-")?.strip_suffix(end)?;
        let plain = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number > 0)
    };
    match (number(".log"), number(".tmp")) {
        (Some(number), _) => Name::Segment(number),
        (None, Some(_)) => Name::Temporary,
        (None, None) => Name::Foreign,
    }
}

/// The file of a segment.
#[must_use]
pub fn segment_file(number: u32) -> String {
    format!("journal-{number:010}.log")
}

/// Reads a whole file.
pub(super) fn read_whole<D: Disk>(disk: &mut D, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let length = usize::try_from(disk.len(&file)?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = disk.read_at(&file, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes `name` hold `bytes` durably, in one step as far as a crash can see.
pub(super) fn replace<D: Disk>(
    disk: &mut D,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let file = disk.create(temporary)?;
    disk.write_all_at(&file, 0, bytes)?;
    disk.sync_data(&file)?;
    disk.rename(temporary, name)?;
    disk.sync_dir()
}

/// Reads the whole journal, shows it to `visit`, and repairs it. The spool is called `fresh_name`
/// if nothing tells its name.
pub(super) fn replay<D: Disk>(
    disk: &mut D,
    fresh_name: u64,
    visit: &mut Visit<'_>,
) -> Result<Replayed, SpoolError> {
    let mut found = Replayed::default();
    let (mut numbers, used) = take_stock(disk, &mut found.recovery)?;
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
    for pair in numbers.windows(2) {
        for missing in pair[0] + 1..pair[1] {
            found.recovery.missing.push(missing);
            found.recovery.lost_places += 1;
            let file = segment_file(missing);
            found.recovery.lines.push(format!("{file} is missing: what stood in it is lost"));
        }
    }
    found.name = find_name(disk, &numbers)?.unwrap_or(fresh_name);
    for number in &numbers {
        let is_tail = numbers.last() == Some(number);
        replay_segment(disk, *number, is_tail, &mut found, visit)?;
    }
    found.recovery.losses = losses::recall(disk)?;
    Ok(found)
}

/// Clears half-made files away and returns the segments' numbers in order, and whether a server
/// was here before: the secret is made just before the first segment.
fn take_stock<D: Disk>(disk: &mut D, recovery: &mut Recovery) -> io::Result<(Vec<u32>, bool)> {
    let (mut numbers, mut used) = (Vec::new(), false);
    for file in disk.list()? {
        match name_of(&file) {
            Name::Segment(number) => numbers.push(number),
            Name::Temporary => disk.remove(&file)?,
            Name::Quarantine | Name::Untold | Name::Ours => used |= file == "secret",
            Name::Foreign => recovery.foreign.push(file),
        }
    }
    numbers.sort_unstable();
    recovery.foreign.sort_unstable();
    if !recovery.foreign.is_empty() {
        let names = recovery.foreign.join(", ");
        recovery.lines.push(format!("the spool directory holds files of others: {names}"));
    }
    Ok((numbers, used))
}

/// Takes away the newest segment if no record in it is whole: a crash came between making the
/// file and making its first batch durable. The next segment takes its number, so the name must
/// be free for good before anything else is written.
fn drop_stillborn<D: Disk>(
    disk: &mut D,
    numbers: &mut Vec<u32>,
    found: &mut Replayed,
) -> io::Result<()> {
    let Some(newest) = numbers.last().copied() else { return Ok(()) };
    let file = segment_file(newest);
    let bytes = read_whole(disk, &file)?;
    if Pieces::new(&bytes).any(|piece| matches!(piece, Piece::Whole { .. })) {
        return Ok(());
    }
    numbers.pop();
    if bytes.is_empty() {
        disk.remove(&file)?;
    } else {
        // Its bytes are kept, because nobody can tell a first batch that was never finished from
        // a segment that lost everything.
        let quarantine = quarantine_file(newest, &bytes);
        disk.rename(&file, &quarantine)?;
        let recovery = &mut found.recovery;
        recovery.torn_bytes += bytes.len() as u64;
        note_ids(recovery, &bytes);
        let size = bytes.len();
        recovery.lines.push(format!(
            "{file} holds no whole record: {size} bytes, that may have been confirmed"
        ));
        recovery.repairs.push(format!("{file} is kept as {quarantine}"));
        recovery.quarantined.push(quarantine);
    }
    disk.sync_dir()
}

fn quarantine_file(number: u32, bytes: &[u8]) -> String {
    format!("quarantine-{number:010}-{:08x}.log", crc32fast::hash(bytes))
}

fn note_ids(recovery: &mut Recovery, damaged: &[u8]) {
    let room = IDS_MOST - recovery.damaged_ids.len();
    recovery.damaged_ids.extend(record::likely_ids(damaged).take(room));
}

/// A damaged stretch and what stood around it.
struct Damage {
    offset: usize,
    bytes: usize,
    before: u64,
    after: Option<u64>,
}

/// What damage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Behind the end of an orderly stop.
    Stray,
    /// Of the last batch.
    Torn,
    /// Between the last batch and the one before it, and not readable.
    Unsure,
    /// Acknowledged.
    Lost,
}

/// What a pass over one segment gathered.
#[derive(Default)]
struct Pass {
    /// Every whole record, from the first damage on, in place of the segment's bytes.
    salvage: Option<Vec<u8>>,
    damage: Vec<Damage>,
    whole: u64,
    last_batch: u64,
    /// Whether the last whole record is that of an orderly stop.
    stopped: bool,
}

impl Pass {
    fn damaged(&mut self, offset: usize, bytes: usize) {
        match self.damage.last_mut() {
            Some(last) if last.offset + last.bytes == offset => last.bytes += bytes,
            _ => self.damage.push(Damage { offset, bytes, before: self.last_batch, after: None }),
        }
    }
}

fn replay_segment<D: Disk>(
    disk: &mut D,
    number: u32,
    is_tail: bool,
    found: &mut Replayed,
    visit: &mut Visit<'_>,
) -> Result<(), SpoolError> {
    let file = segment_file(number);
    let bytes = read_whole(disk, &file)?;
    found.ledger.add(number);
    found.recovery.segments += 1;
    found.recovery.bytes += bytes.len() as u64;
    let pass = read_segment(number, &bytes, found, visit)?;
    found.last_batch = pass.last_batch;

    let damaged = !pass.damage.is_empty() || pass.salvage.is_some();
    found.recovery.stopped_in_order = is_tail && pass.stopped && !damaged;
    let repaired = pass.salvage.as_deref().unwrap_or(&bytes);
    if damaged {
        report(disk, number, is_tail, &bytes, &pass, &mut found.recovery)?;
    }
    // The newest segment is written anew also if it looks whole. A write whose sync failed may
    // stand in the kernel's memory, look whole now, and be gone after a power cut; only a sync of
    // newly written bytes proves anything. Older ones were synced before newer ones were made.
    if damaged || is_tail {
        replace(disk, &format!("journal-{number:010}.tmp"), &file, repaired)?;
    }
    let length = u32::try_from(repaired.len()).map_err(io::Error::other)?;
    found.ledger.set_bytes(number, u64::from(length));
    found.tail = Some((number, length));
    Ok(())
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
        let batch = first_batch(bytes).unwrap_or(found.last_batch);
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
        let place = pass.salvage.as_ref().map_or(offset, Vec::len);
        for damage in pass.damage.iter_mut().rev().take_while(|damage| damage.after.is_none()) {
            damage.after = Some(frame.batch);
        }
        pass.last_batch = pass.last_batch.max(frame.batch);
        match frame.entry {
            Entry::Header(header) => check_header(number, &header, found)?,
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
        let mut bytes = [0; 2 * record::HEAD_BYTES + 32];
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

/// Says what the damage in a segment was, and puts it in quarantine unless it is a mere tail.
fn report<D: Disk>(
    disk: &mut D,
    number: u32,
    is_tail: bool,
    bytes: &[u8],
    pass: &Pass,
    recovery: &mut Recovery,
) -> io::Result<()> {
    let file = segment_file(number);
    let mut keep = pass.damage.is_empty();
    let mut lost = Vec::new();
    if pass.damage.is_empty() {
        recovery.lost_places += 1;
        recovery.lines.push(format!("{file} lacks its header: what stood in front is lost"));
    }
    for damage in &pass.damage {
        let stretch = &bytes[damage.offset..damage.offset + damage.bytes];
        let meaning = if is_tail { meaning(damage, pass, stretch) } else { Meaning::Lost };
        keep |= matches!(meaning, Meaning::Unsure | Meaning::Lost);
        match meaning {
            Meaning::Lost => {
                recovery.lost_places += 1;
                recovery.lost_bytes += damage.bytes as u64;
                lost.extend(losses::lost_letters(stretch));
            }
            _ => recovery.torn_bytes += damage.bytes as u64,
        }
        note_ids(recovery, stretch);
        recovery.lines.push(describe(&file, damage, meaning, stretch));
    }
    recovery.lost_letters += lost.len() as u64;
    losses::remember(disk, number, bytes, &lost)?;
    if keep {
        recovery.salvaged += pass.whole;
        let quarantine = quarantine_file(number, bytes);
        // A crash in an earlier repair may have left it, whole or not.
        if disk.list()?.contains(&quarantine) {
            disk.remove(&quarantine)?;
        }
        let copy = disk.create(&quarantine)?;
        disk.write_all_at(&copy, 0, bytes)?;
        disk.sync_data(&copy)?;
        disk.sync_dir()?;
        let whole = pass.whole;
        recovery
            .repairs
            .push(format!("{file} is kept as {quarantine}; {whole} records were saved"));
        recovery.quarantined.push(quarantine);
    }
    Ok(())
}

fn meaning(damage: &Damage, pass: &Pass, stretch: &[u8]) -> Meaning {
    let last = pass.last_batch;
    match (damage.after, record::likely_batch(stretch)) {
        (None, _) if pass.stopped => Meaning::Stray,
        (None, _) => Meaning::Torn,
        // The record of an orderly stop is a batch of its own.
        (Some(_), _) if pass.stopped => Meaning::Lost,
        (Some(after), _) if after < last => Meaning::Lost,
        (Some(_), _) if damage.before == last => Meaning::Torn,
        (Some(_), Some(batch)) if batch == last => Meaning::Torn,
        (Some(_), Some(batch)) if batch == damage.before => Meaning::Lost,
        (Some(_), _) => Meaning::Unsure,
    }
}

fn describe(file: &str, damage: &Damage, meaning: Meaning, stretch: &[u8]) -> String {
    let Damage { offset, bytes, .. } = damage;
    let mut line = format!("{file}: {bytes} bytes at {offset} are damaged");
    line.push_str(match meaning {
        Meaning::Stray => " behind the end of an orderly stop: nothing of it was ever confirmed",
        Meaning::Torn | Meaning::Unsure => " and cut: they may have been confirmed",
        Meaning::Lost => " and lost: they had been confirmed",
    });
    let mut ids = record::likely_ids(stretch);
    let named: Vec<String> = ids.by_ref().take(20).map(|id| id.to_string()).collect();
    if !named.is_empty() {
        let more = ids.count();
        let _ = write!(line, "; letters {}", named.join(" "));
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
    }
    line
}
