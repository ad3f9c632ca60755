//! What is lost and not yet told to those it was for. A file beside the quarantine keeps it, a line
//! a letter, from before the repair until the notices are durable, so that no crash in between
//! makes a loss silent. It knows nothing of mailboxes.
//!
//! ```text
//! 1753000000.7 tim fred,ann
//! ```

use super::disk::Disk;
use super::files::{Name, name_of, read_whole};
use super::record::{self, LikelyLetter};
use crate::core::record::{LetterId, LostLetter, recipients};
use crate::proto::name::UserName;
use std::fmt::Write as _;
use std::io;

/// The letters that one repair has found lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The file that remembers them until they are told.
    pub file: String,
    /// As far as number and names can be read.
    pub letters: Vec<LostLetter>,
}

/// The letters that a damaged stretch has held, if their names are names.
pub(super) fn lost_letters(stretch: &[u8]) -> impl Iterator<Item = LostLetter> {
    record::likely_letters(stretch).filter_map(|LikelyLetter { id, from, to }| {
        let from = UserName::once(from).ok()?;
        let to: Vec<_> = recipients(to).filter_map(|one| UserName::once(one.name).ok()).collect();
        (!to.is_empty()).then_some(LostLetter { id, from, to })
    })
}

/// Makes the letters that damaged bytes of a segment held durable, until [`forget`]. Doing it
/// again makes the same file: a crash may have left a part of it.
pub(super) fn remember<D: Disk>(
    disk: &mut D,
    number: u32,
    segment: &[u8],
    letters: &[LostLetter],
) -> io::Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for LostLetter { id, from, to } in letters {
        let to: Vec<&str> = to.iter().map(UserName::as_str).collect();
        let _ = writeln!(text, "{id} {from} {}", to.join(","));
    }
    let file = format!("untold-{number:010}-{:08x}.log", crc32fast::hash(segment));
    if disk.list()?.contains(&file) {
        disk.remove(&file)?;
    }
    let untold = disk.create(&file)?;
    disk.write_all_at(&untold, 0, text.as_bytes())?;
    disk.sync_data(&untold)?;
    disk.sync_dir()
}

/// What was remembered, by this start or one before it, and not yet told. Lines that make no sense
/// are left out.
pub(super) fn recall<D: Disk>(disk: &mut D) -> io::Result<Vec<Loss>> {
    let mut files = disk.list()?;
    files.retain(|file| name_of(file) == Name::Untold);
    files.sort_unstable();
    let mut losses = Vec::new();
    for file in files {
        let bytes = read_whole(disk, &file)?;
        let lines = bytes.split(|byte| *byte == b'\n');
        let letters = lines.filter_map(|line| read_line(str::from_utf8(line).ok()?)).collect();
        losses.push(Loss { file, letters });
    }
    Ok(losses)
}

fn read_line(line: &str) -> Option<LostLetter> {
    let (id, rest) = line.split_once(' ')?;
    let (from, to) = rest.split_once(' ')?;
    let id: LetterId = id.parse().ok()?;
    let from = UserName::once(from).ok()?;
    let to = to.split(',').filter_map(|name| UserName::once(name).ok()).collect();
    Some(LostLetter { id, from, to })
}

/// The notices are durable: nothing of it need be remembered.
pub(super) fn forget<D: Disk>(disk: &mut D, losses: &[Loss]) -> io::Result<()> {
    for loss in losses {
        disk.remove(&loss.file)?;
    }
    if losses.is_empty() { Ok(()) } else { disk.sync_dir() }
}
