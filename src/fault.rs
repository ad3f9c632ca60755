//! Faults planted on purpose: each breaks one line of the promise, and the tests must notice. They
//! exist only in a build with the feature `planted-faults`, which a build without debug assertions
//! refuses; everywhere else [`is_planted`] is a constant that leaves no trace. `scripts/planted`
//! plants one after the other.
//!
//! A leaf: anyone may ask. It knows nothing of what a fault does.

#[cfg(all(feature = "planted-faults", not(debug_assertions)))]
compile_error!("the feature planted-faults breaks promises on purpose: never in a release");

/// A way to break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is confirmed before the disk has it.
    OkBeforeSync,
    /// A message is shown before it is durable.
    DeliverBeforeSync,
    /// The name of a new segment is not made durable.
    NoDirectorySync,
    /// A new run goes on with the epoch of the last one.
    NoEpoch,
    /// The companion acknowledges before its inbox is durable.
    AckBeforeInbox,
    /// A record whose checksum does not match is taken.
    BadChecksumAccepted,
    /// Recovery stops at the first damage.
    ScanStopsAtHole,
    /// A failed sync is tried once more, and believed.
    RetrySync,
    /// A full mailbox drops its oldest letter.
    QuotaEvicts,
    /// A new segment does not repeat the keys.
    KeysNotCheckpointed,
    /// A write that fails half-way counts as done.
    ShortWriteIgnored,
    /// Compaction drops a segment before the copies of its letters are durable.
    DropBeforeSync,
    /// What the disk is at counts as durable.
    SpeakWhileSyncing,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::OkBeforeSync,
        Self::DeliverBeforeSync,
        Self::NoDirectorySync,
        Self::NoEpoch,
        Self::AckBeforeInbox,
        Self::BadChecksumAccepted,
        Self::ScanStopsAtHole,
        Self::RetrySync,
        Self::QuotaEvicts,
        Self::KeysNotCheckpointed,
        Self::ShortWriteIgnored,
        Self::DropBeforeSync,
        Self::SpeakWhileSyncing,
    ];

    /// What it is called in `MMS_PLANTED_FAULT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OkBeforeSync => "ok-before-sync",
            Self::DeliverBeforeSync => "deliver-before-sync",
            Self::NoDirectorySync => "no-directory-sync",
            Self::NoEpoch => "no-epoch",
            Self::AckBeforeInbox => "ack-before-inbox",
            Self::BadChecksumAccepted => "bad-checksum-accepted",
            Self::ScanStopsAtHole => "scan-stops-at-hole",
            Self::RetrySync => "retry-sync",
            Self::QuotaEvicts => "quota-evicts",
            Self::KeysNotCheckpointed => "keys-not-checkpointed",
            Self::ShortWriteIgnored => "short-write-ignored",
            Self::DropBeforeSync => "drop-before-sync",
            Self::SpeakWhileSyncing => "speak-while-syncing",
        }
    }
}

/// Whether the fault is planted: never, in this build.
#[cfg(not(feature = "planted-faults"))]
#[must_use]
#[inline(always)]
pub const fn is_planted(_: Fault) -> bool {
    false
}

/// Whether the fault is the one that the environment names.
#[cfg(feature = "planted-faults")]
#[must_use]
pub fn is_planted(fault: Fault) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    let read = || {
        let name = std::env::var("MMS_PLANTED_FAULT").ok().filter(|name| !name.is_empty())?;
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        Some(known.expect("MMS_PLANTED_FAULT names one of the faults"))
    };
    *PLANTED.get_or_init(read) == Some(fault)
}
