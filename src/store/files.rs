//! The files of a spool's directory: what their names mean, and what is done with a whole one. It
//! knows nothing of what a record says.
//!
//! A file is made longer before it is needed, by zeros, so that a full disk cannot stop a write
//! into it. So a segment ends where only zeros follow; no record ends with one.

use super::disk::Disk;
use std::{fmt, io};

/// The last number of a file that a start goes on from, so that those to come can be counted on
/// from there: so many segments are 32 PiB.
pub(super) const NUMBER_MOST: u32 = u32::MAX >> 1;

/// What a name in the spool's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Segment(u32),
    /// Zeros, for a segment to come.
    Ready(u32),
    /// A segment that nobody needs, to be filled with zeros.
    Recycled(u32),
    /// Half-made: of no use to anyone.
    Temporary,
    Quarantine,
    /// See [`super::losses`].
    Untold,
    /// The lock, the secret, the note for people, the certificate.
    Ours,
    Foreign,
}

pub(super) fn name_of(file: &str) -> Name {
    if matches!(file, "lock" | "secret" | "README" | "tls.pem") {
        return Name::Ours;
    }
    if file.starts_with("quarantine-") && file.ends_with(".log") {
        return Name::Quarantine;
    }
    if file.starts_with("untold-") && file.ends_with(".log") {
        return Name::Untold;
    }
    if matches!(file, "secret.tmp" | "tls.pem.tmp") {
        return Name::Temporary;
    }
    let number = |begin, end| {
        let digits: &str = file.strip_prefix(begin)?.strip_suffix(end)?;
        let plain = digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|number| plain && *number > 0)
    };
    if number("journal-", ".tmp").is_some() {
        return Name::Temporary;
    }
    let segment = number("journal-", ".log").map(Name::Segment);
    let ready = || number("ready-", ".log").map(Name::Ready);
    let recycled = || number("recycled-", ".log").map(Name::Recycled);
    segment.or_else(ready).or_else(recycled).unwrap_or(Name::Foreign)
}

/// Whether that is the name of a segment's file.
pub(super) fn is_segment(file: &str) -> bool {
    matches!(name_of(file), Name::Segment(_))
}

/// The file of a segment.
#[must_use]
pub fn segment_file(number: u32) -> String {
    format!("journal-{number:010}.log")
}

/// A file that holds zeros and nothing else.
#[must_use]
pub fn ready_file(number: u32) -> String {
    format!("ready-{number:010}.log")
}

/// A file whose content nobody needs.
pub(super) fn recycled_file(number: u32) -> String {
    format!("recycled-{number:010}.log")
}

pub(super) fn quarantine_file(number: u32, bytes: &[u8]) -> String {
    format!("quarantine-{number:010}-{:08x}.log", crc32fast::hash(bytes))
}

/// Numbers of segments that are missing between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// What is missing between the segments of these numbers, in order.
pub(super) fn gaps(numbers: &[u32]) -> impl Iterator<Item = Gap> {
    let between = |pair: &[u32]| Gap { first: pair[0] + 1, last: pair[1] - 1 };
    numbers.windows(2).filter(|pair| pair[1] - pair[0] > 1).map(between)
}

impl Gap {
    /// How many segments it is.
    #[must_use]
    pub fn segments(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Whether one of these was told, which left nothing of it out.
    pub(super) fn is_told(self, told: &[Self]) -> bool {
        told.iter().any(|gap| gap.first <= self.first && self.last <= gap.last)
    }
}

/// Its files, and that they are missing.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segments() {
            1 => write!(f, "{} is missing", segment_file(self.first)),
            _ => {
                write!(f, "{} to {} are missing", segment_file(self.first), segment_file(self.last))
            }
        }
    }
}

/// Whether the error says that the disk, or the account's share of it, is full.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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

/// How much of a segment's bytes stands before the zeros at its end.
pub(super) fn used(bytes: &[u8]) -> usize {
    const STEP: usize = 4096;
    let mut end = bytes.len();
    // A step at a time is a comparison of memory, a byte at a time is not.
    while end >= STEP && bytes[end - STEP..end] == ZEROS[..STEP] {
        end -= STEP;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The length of a file, and whether it holds zeros and nothing else.
pub(super) fn look_for_zeros<D: Disk>(disk: &mut D, name: &str) -> io::Result<(u64, bool)> {
    let file = disk.open(name)?;
    let length = disk.len(&file)?;
    let mut bytes = vec![0; ZEROS.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    let mut at = 0;
    while at < length {
        let read = disk.read_at(&file, at, &mut bytes)?;
        if read == 0 || bytes[..read] != ZEROS[..read] {
            return Ok((length, false));
        }
        at += read as u64;
    }
    Ok((length, true))
}

/// Zeros to write and to compare with.
pub(super) static ZEROS: [u8; crate::limits::FILL_BYTES] = [0; crate::limits::FILL_BYTES];

/// Makes `name` hold `bytes` durably, in one step as far as a crash can see.
pub(super) fn replace<D: Disk>(
    disk: &mut D,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let file = disk.create(temporary)?;
    let written = disk.write_all_at(&file, 0, bytes);
    if written.as_ref().is_err_and(is_full) {
        // What there is of it takes room that somebody may need.
        disk.remove(temporary)?;
    }
    written?;
    disk.sync_data(&file)?;
    disk.rename(temporary, name)?;
    disk.sync_dir()
}

/// Overwrites a segment's records with themselves, durably, and what stands behind them up to
/// `end` with zeros.
pub(super) fn overwrite<D: Disk>(
    disk: &mut D,
    name: &str,
    bytes: &[u8],
    end: usize,
) -> io::Result<()> {
    let file = disk.open(name)?;
    disk.write_all_at(&file, 0, bytes)?;
    let mut at = bytes.len();
    while at < end {
        let piece = (end - at).min(ZEROS.len());
        disk.write_all_at(&file, at as u64, &ZEROS[..piece])?;
        at += piece;
    }
    disk.sync_data(&file)?;
    // Nobody knows whether the name lasts.
    disk.sync_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_before_its_last_zeros() {
        for (length, last) in [(0, 0), (1, 1), (5000, 0), (5000, 4096), (9000, 700), (8192, 8192)] {
            let mut bytes = vec![0; length];
            if last > 0 {
                bytes[last - 1] = b'\n';
            }
            assert_eq!(used(&bytes), last, "{length}");
        }
    }

    #[test]
    fn what_is_missing_is_between_others() {
        let gap = |first, last| Gap { first, last };
        assert_eq!(gaps(&[3, 4, 6, 9]).collect::<Vec<_>>(), [gap(5, 5), gap(7, 8)]);
        assert_eq!(gaps(&[1, u32::MAX]).map(Gap::segments).sum::<u64>(), u64::from(u32::MAX) - 2);
        assert!(gap(7, 8).is_told(&[gap(5, 5), gap(7, 8)]) && gap(8, 8).is_told(&[gap(7, 8)]));
        assert!(!gap(7, 8).is_told(&[gap(5, 5), gap(7, 7)]), "more is missing than was told");
        assert!(gap(5, 5).to_string().ends_with("5.log is missing"));
        assert!(gap(7, 8).to_string().ends_with("7.log to journal-0000000008.log are missing"));
    }

    #[test]
    fn names_mean_one_thing() {
        for (name, means) in [
            ("journal-0000000001.log", Name::Segment(1)),
            ("journal-0000000001.tmp", Name::Temporary),
            ("journal-2147483647.log", Name::Segment(u32::MAX >> 1)),
            ("ready-4294967295.log", Name::Ready(u32::MAX)),
            ("journal-4294967296.log", Name::Foreign),
            ("ready-0000000007.log", Name::Ready(7)),
            ("recycled-0000000007.log", Name::Recycled(7)),
            ("ready-7.log", Name::Foreign),
            ("ready-0000000000.log", Name::Foreign),
            ("journal-+000000001.log", Name::Foreign),
            ("quarantine-x.log", Name::Quarantine),
        ] {
            assert_eq!(name_of(name), means, "{name}");
        }
        assert_eq!(name_of(&ready_file(9)), Name::Ready(9));
        assert_eq!(name_of(&recycled_file(9)), Name::Recycled(9));
    }
}
