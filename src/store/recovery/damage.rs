//! What damage in a segment means, what is said of it, and where the damaged bytes are kept. The
//! repair itself is its parent's business.

use super::super::disk::Disk;
use super::super::files::{is_full, quarantine_file, segment_file};
use super::super::losses;
use super::super::ready::Stock;
use super::super::record;
use super::{IDS_MOST, Place, Recovery, Replayed};
use std::fmt::Write as _;
use std::io;

pub(super) fn note_ids(recovery: &mut Recovery, damaged: &[u8]) {
    let room = IDS_MOST - recovery.damaged_ids.len();
    recovery.damaged_ids.extend(record::likely_ids(damaged).take(room));
}

/// A damaged stretch and what stood around it.
pub(super) struct Damage {
    pub(super) offset: usize,
    pub(super) bytes: usize,
    pub(super) before: u64,
    pub(super) after: Option<u64>,
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
pub(super) struct Pass {
    /// Every whole record, from the first damage on, in place of the segment's bytes.
    pub(super) salvage: Option<Vec<u8>>,
    pub(super) damage: Vec<Damage>,
    /// Whether a record in it stands elsewhere than it was.
    pub(super) moved: bool,
    pub(super) whole: u64,
    pub(super) last_batch: u64,
    /// Whether the last whole record is that of an orderly stop.
    pub(super) stopped: bool,
}

impl Pass {
    pub(super) fn damaged(&mut self, offset: usize, bytes: usize) {
        match self.damage.last_mut() {
            Some(last) if last.offset + last.bytes == offset => last.bytes += bytes,
            _ => self.damage.push(Damage { offset, bytes, before: self.last_batch, after: None }),
        }
    }
}

/// Says what the damage in a segment was, and puts it in quarantine unless it is a mere tail.
pub(super) fn report<D: Disk>(
    disk: &mut D,
    number: u32,
    place: Place,
    bytes: &[u8],
    pass: &Pass,
    found: &mut Replayed,
) -> io::Result<()> {
    let Replayed { recovery, stock, .. } = found;
    let file = segment_file(number);
    let mut keep = pass.damage.is_empty();
    let places = recovery.lost_places;
    let mut letters = Vec::new();
    if pass.damage.is_empty() {
        recovery.lost_places += 1;
        recovery.lines.push(format!("{file} lacks its header: what stood in front is lost"));
    }
    for damage in &pass.damage {
        let stretch = &bytes[damage.offset..damage.offset + damage.bytes];
        let meaning = match place {
            Place::Newest => meaning(damage, pass, stretch),
            Place::Before { .. } => Meaning::Lost,
        };
        keep |= matches!(meaning, Meaning::Unsure | Meaning::Lost);
        match meaning {
            Meaning::Lost => {
                recovery.lost_places += 1;
                recovery.lost_bytes += damage.bytes as u64;
                letters.extend(losses::lost_letters(stretch));
            }
            _ => recovery.torn_bytes += damage.bytes as u64,
        }
        note_ids(recovery, stretch);
        recovery.lines.push(describe(&file, damage, meaning, stretch));
    }
    recovery.lost_letters += letters.len() as u64;
    losses::remember(disk, number, bytes, &letters)?;
    if keep {
        let lost = recovery.lost_places > places;
        recovery.salvaged += pass.whole;
        let quarantine = quarantine_file(number, bytes);
        let whole = pass.whole;
        match copy(disk, &quarantine, bytes, stock) {
            // Where it is not sure that anything was lost, a full disk is no reason not to start.
            Err(e) if is_full(&e) && !lost => recovery.repairs.push(format!(
                "there is no room to keep {file} as it is; {whole} records were saved"
            )),
            Err(e) => return Err(e),
            Ok(()) => {
                recovery
                    .repairs
                    .push(format!("{file} is kept as {quarantine}; {whole} records were saved"));
                recovery.quarantined.push(quarantine);
            }
        }
    }
    Ok(())
}

/// Keeps damaged bytes durably; on a full disk in a file that was kept ready.
fn copy<D: Disk>(disk: &mut D, name: &str, bytes: &[u8], stock: &mut Stock) -> io::Result<()> {
    // A crash in an earlier repair may have left it, whole or not.
    if disk.list()?.iter().any(|there| there == name) {
        disk.remove(name)?;
    }
    let written = disk.create(name).and_then(|copy| {
        disk.write_all_at(&copy, 0, bytes)?;
        disk.sync_data(&copy)
    });
    match written {
        Err(e) if is_full(&e) => {
            if disk.list()?.iter().any(|there| there == name) {
                disk.remove(name)?;
            }
            stock.replace(disk, name, bytes).ok_or(e)?.map(|_| ())
        }
        other => other.and_then(|()| disk.sync_dir()),
    }
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
    if *bytes == 0 {
        return format!("{file} ends too early: what stood behind {offset} is lost");
    }
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
