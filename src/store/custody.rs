//! What an operator decides over letters while no server runs: what is held is purged or given to
//! the present holder of the name, what waits is purged or withheld.
//!
//! A decision is a segment of its own, the newest, which gets its name when all of it is durable:
//! so it is made as a whole or, after a crash, not at all. It lacks the marks that a server repeats
//! in each segment; the next start adds them before any older segment can go.
//!
//! What is given to the present holder are new letters, with numbers of their own: his clients have
//! settled greater ones than those that are held, and would take these for known.

use super::disk::Disk;
use super::files::segment_file;
use super::record::{self, Header};
use super::recovery::{self, Recovery, Replayed, SpoolError};
use super::spool::next_epoch;
use super::survey::{MailboxSurvey, Mailboxes, read_letter};
use crate::core::record::{Letter, LetterId, Recipient, Record, push_recipient};
use std::io;

/// What is to become of a user's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// What is held goes for good.
    PurgeHeld,
    /// What waits goes for good.
    PurgeWaiting,
    /// Both.
    PurgeAll,
    /// What waits is held.
    Hold,
    /// What is held is given to whoever has the name now.
    Release,
}

impl Decision {
    /// How many letters of the mailbox it is about.
    #[must_use]
    pub fn concerns(self, mailbox: &MailboxSurvey) -> usize {
        let (held, waiting) = (mailbox.held.len(), mailbox.waiting.len());
        match self {
            Self::PurgeHeld | Self::Release => held,
            Self::PurgeWaiting | Self::Hold => waiting,
            Self::PurgeAll => held + waiting,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// How many letters it was about.
    pub letters: usize,
    /// What was found when the spool was opened.
    pub recovery: Recovery,
}

/// Does to the user's letters what was decided, durably: all of it or, after an error or a crash,
/// perhaps nothing. Repairs what the last run left, as a start does; see
/// [`foresee`](super::foresight::foresee) for what that would be. `fresh_name` is for a spool that
/// has lost its own.
///
/// # Errors
/// If the disk fails, or a later mms wrote the spool.
pub fn decide<D: Disk>(
    disk: &mut D,
    user: &str,
    decision: Decision,
    now_unix_ms: u64,
    fresh_name: u64,
) -> Result<Done, SpoolError> {
    let mut mailboxes = Mailboxes::default();
    let mut found = recovery::replay(disk, fresh_name, &mut |record, at, _| {
        mailboxes.take(record, at);
    })?;
    let mailbox = mailboxes.remove(user).unwrap_or_default();
    let letters = decision.concerns(&mailbox);
    if let Some(tail) = found.tail.as_ref().filter(|_| letters > 0) {
        let segment = tail.number + 1;
        let bytes = segment_of(disk, &found, segment, &mailbox, decision, now_unix_ms)?;
        let temporary = format!("journal-{segment:010}.tmp");
        // Who purges may do so because the disk is full.
        found.stock.write_whole(disk, &temporary, &segment_file(segment), &bytes)?;
    }
    Ok(Done { letters, recovery: found.recovery })
}

/// The segment that says what was decided.
fn segment_of<D: Disk>(
    disk: &mut D,
    found: &Replayed,
    segment: u32,
    mailbox: &MailboxSurvey,
    decision: Decision,
    unix_ms: u64,
) -> io::Result<Vec<u8>> {
    let user = mailbox.name.as_str();
    let damaged = found.recovery.torn_bytes + found.recovery.lost_bytes > 0;
    let epoch = next_epoch(found.last_epoch, unix_ms, damaged)?;
    let batch = found.last_batch + 1;
    let mut bytes = Vec::new();
    let header = Header { spool: found.name, segment, format: record::FORMAT };
    record::encode_header(&mut bytes, batch, &header);
    record::encode(&mut bytes, batch, &Record::Started { epoch, unix_ms });
    if decision == Decision::Release {
        for (seq, (old, at)) in (1..).zip(&mailbox.held) {
            let (mut to, offered) = (String::new(), mailbox.was_offered(*old));
            push_recipient(&mut to, Recipient { name: user, offered });
            read_letter(disk, *at, |letter| {
                // The key it was sent with stays that of the old number.
                let (id, key) = (LetterId { epoch, seq }, None);
                let given = Letter { id, key, to: &to, ..*letter };
                record::encode(&mut bytes, batch, &Record::Letter(given));
            })?;
        }
    }
    let last_held = mailbox.held.keys().next_back().copied();
    let last_waiting = mailbox.waiting.keys().next_back().copied();
    let purged = last_held.map(|through| Record::Purged { user, through });
    let settled = last_waiting.map(|through| Record::Settled { user, through });
    let withheld = last_waiting.map(|through| Record::Withheld { user, through });
    // What holds the letters takes over which of them were offered, of those that were held before,
    // too; older segments, which say it, may be gone when this one is read.
    let offered = mailbox.offered().map(|through| Record::Offered { user, through });
    let marks = match decision {
        Decision::PurgeHeld | Decision::Release => [purged, None],
        Decision::PurgeWaiting => [settled, None],
        Decision::PurgeAll => [purged, settled],
        Decision::Hold => [offered, withheld],
    };
    for mark in marks.iter().flatten() {
        record::encode(&mut bytes, batch, mark);
    }
    record::encode(&mut bytes, batch + 1, &Record::Stopped { unix_ms });
    u32::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok(bytes)
}
