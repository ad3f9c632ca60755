//! What outlives the process: the records of the journal as values, and the one thing the rules
//! ask of it. How a record becomes bytes is `store/record.rs`'s business.

pub use crate::proto::command::Switch;
pub use crate::proto::id::LetterId;
use crate::proto::name::UserName;

/// Where a record stands in the journal. The body is the end of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The segment's number.
    pub segment: u32,
    /// The record's first byte in the segment.
    pub offset: u32,
    /// The whole record in bytes.
    pub record_bytes: u32,
    /// The body in bytes; zero for what is no letter.
    pub body_bytes: u32,
    /// The line ends among them.
    pub line_ends: u32,
}

impl Location {
    /// The same place, of a letter with this body: as sent, or as stored, where VT stands for LF.
    #[must_use]
    pub fn with_body(self, body: &str) -> Self {
        let line_ends = memchr::memchr2_iter(b'\n', 0x0B, body.as_bytes()).count();
        let small = |n| u32::try_from(n).expect("part of a record, which is below 16 MiB");
        Self { body_bytes: small(body.len()), line_ends: small(line_ends), ..self }
    }
}

/// What a letter was sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterKind {
    /// `send`, to one or to a list.
    Direct,
    /// `broadcast` to everyone who was signed in.
    Broadcast,
}

/// A sender's own key for a letter, and the hash of what was sent under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Letters, digits, `.`, `_`, `:` and `-`.
    pub text: &'a str,
    /// Of recipients and body.
    pub hash: u64,
}

/// A letter as the journal keeps it: one record, however many recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// Its number.
    pub id: LetterId,
    /// When it was accepted, milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// What it was sent with.
    pub kind: LetterKind,
    /// Its sender's key for it, if there was one.
    pub key: Option<Key<'a>>,
    /// Its sender's name.
    pub from: &'a str,
    /// Its recipients, as [`recipients`] reads them.
    pub to: &'a str,
    /// The text. May hold LF and TAB, no other control character.
    pub body: &'a str,
}

/// A letter that was confirmed and that the disk has lost, as far as what is left of it tells.
/// Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLetter {
    /// What seems to be its number.
    pub id: LetterId,
    /// Who seems to have sent it.
    pub from: UserName,
    /// Who seems to be its recipients.
    pub to: Vec<UserName>,
}

/// One recipient of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient<'a> {
    /// The name.
    pub name: &'a str,
    /// Was shown the letter as soon as it was durable. A restart cannot know whether the bytes
    /// arrived, so it marks the letter as a repeat.
    pub offered: bool,
}

/// Adds a recipient to the text that [`recipients`] reads.
pub fn push_recipient(list: &mut String, recipient: Recipient<'_>) {
    if !list.is_empty() {
        list.push(',');
    }
    if recipient.offered {
        list.push('+');
    }
    list.push_str(recipient.name);
}

/// The recipients in a letter's list: names separated by commas, `+` before one who was shown the
/// letter at once.
pub fn recipients(list: &str) -> impl Iterator<Item = Recipient<'_>> {
    list.split(',').filter(|word| !word.is_empty()).map(|word| {
        let bare = word.strip_prefix('+');
        Recipient { name: bare.unwrap_or(word), offered: bare.is_some() }
    })
}

/// How many recipients such a list has.
#[must_use]
pub fn count_recipients(list: &str) -> usize {
    match list {
        "" => 0,
        // By hand where it is so short, which nearly all lists are, for they are one name.
        list if list.len() <= 16 => 1 + list.bytes().filter(|&byte| byte == b',').count(),
        list => 1 + memchr::memchr_iter(b',', list.as_bytes()).count(),
    }
}

/// One entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A server run began: no letter of it exists before this record is durable.
    Started {
        /// The run's epoch.
        epoch: u32,
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
    /// A letter was accepted.
    Letter(Letter<'a>),
    /// The user is about to be shown every letter up to this one.
    Offered {
        /// Whose mailbox.
        user: &'a str,
        /// The last letter offered.
        through: LetterId,
    },
    /// Every letter of the user up to this one has been taken.
    Settled {
        /// Whose mailbox.
        user: &'a str,
        /// The last letter taken.
        through: LetterId,
    },
    /// The user's name left the password file: what waits up to this letter is held for the
    /// operator and never given to a later holder of the name, nor are the keys of letters up to
    /// this one his.
    Held {
        /// Whose mailbox.
        user: &'a str,
        /// The last letter held.
        through: LetterId,
    },
    /// The operator keeps from the user what waits up to this letter. It is held as if the name
    /// had been removed, but the name is still his, and so are his keys.
    Withheld {
        /// Whose mailbox.
        user: &'a str,
        /// The last letter withheld.
        through: LetterId,
    },
    /// What was held of the name up to this letter is gone for good, or has been given to the
    /// name's present holder as another letter.
    Purged {
        /// Whose mailbox.
        user: &'a str,
        /// The last letter purged.
        through: LetterId,
    },
    /// The user has used a key for a letter that may be settled by now.
    Keyed {
        /// The sender.
        user: &'a str,
        /// The key.
        key: Key<'a>,
        /// The letter.
        id: LetterId,
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
    /// The user takes no messages from the other, or does so again.
    Blocks {
        /// Who blocks.
        user: &'a str,
        /// Whom.
        other: &'a str,
        /// On is blocked.
        switch: Switch,
    },
    /// The user signed in.
    SignedIn {
        /// Who.
        user: &'a str,
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
    /// The user signed off.
    SignedOff {
        /// Who.
        user: &'a str,
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
    /// Whoever is signed in was still there.
    Alive {
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
    /// The server run ended in order: nothing behind this record was ever confirmed.
    Stopped {
        /// When, milliseconds since 1970 UTC.
        unix_ms: u64,
    },
}

impl Record<'_> {
    /// The time it tells, if it tells one: milliseconds since 1970 UTC.
    #[must_use]
    pub fn unix_ms(&self) -> Option<u64> {
        match *self {
            Self::Letter(Letter { unix_ms, .. })
            | Self::Started { unix_ms, .. }
            | Self::SignedIn { unix_ms, .. }
            | Self::SignedOff { unix_ms, .. }
            | Self::Alive { unix_ms }
            | Self::Stopped { unix_ms } => Some(unix_ms),
            Self::Keyed { .. }
            | Self::Blocks { .. }
            | Self::Offered { .. }
            | Self::Settled { .. }
            | Self::Held { .. }
            | Self::Withheld { .. }
            | Self::Purged { .. } => None,
        }
    }

    /// Whether a promise stands on this record, so that the turn that appends it must sync: what
    /// was confirmed is kept, and what is shown twice is marked. The others only spare somebody a
    /// marked repeat or an inaccuracy.
    #[must_use]
    pub fn must_be_durable(&self) -> bool {
        matches!(
            self,
            Self::Started { .. }
                | Self::Letter(_)
                | Self::Keyed { .. }
                | Self::Blocks { .. }
                | Self::Offered { .. }
                | Self::Held { .. }
                | Self::Withheld { .. }
                | Self::Purged { .. }
        )
    }
}

/// What the rules ask of the journal. Nothing here can fail or block: records gather in memory
/// and become durable together at the end of the turn, before anything is said.
pub trait Journal {
    /// Adds a record and tells where it will stand.
    fn append(&mut self, record: &Record<'_>) -> Location;
    /// One recipient less needs the letter at `at`.
    fn release(&mut self, at: Location);
    /// Whether a record of so many bytes may be appended for somebody who can be told to try
    /// later. If the disk is full, what room is left is for those who cannot be refused.
    fn has_room(&self, bytes: usize) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_recipients_reads_back() {
        let all =
            [Recipient { name: "fred", offered: true }, Recipient { name: "x-1", offered: false }];
        let mut list = String::new();
        for one in all {
            push_recipient(&mut list, one);
        }
        assert_eq!(list, "+fred,x-1");
        assert!(recipients(&list).eq(all));
        assert_eq!(recipients("").count(), 0);
    }
}
