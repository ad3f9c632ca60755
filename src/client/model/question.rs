//! What waits for the server's answer. Each can be asked again on the next connection, but for a
//! change of the password, of which nobody knows then whether it was made.

use crate::client::link::Password;
use crate::client::screen::Line;
use crate::proto::coded_client::Ask;
use crate::scram::{Keys, NONCE_ENTROPY_BYTES};

/// What is asked, to be asked again if need be.
#[derive(Debug)]
pub(super) enum Question {
    /// A message to some users.
    Send { key: String, to: Vec<String>, text: String },
    /// A message to everyone who is there.
    Broadcast { key: String, text: String },
    /// A command as it was typed.
    Typed { line: String, window_ms: Option<u64> },
    /// Asked by the companion itself: who is there. Shown or not.
    Names(bool),
    /// Asked by the companion itself: to be told what is delivered.
    Receipts,
    /// Another password: the present one, keys of the new one, and entropy for a nonce.
    Passwd { current: Password, keys: Keys, entropy: [u8; NONCE_ENTROPY_BYTES] },
    /// Answered here, once its turn has come.
    Settled(Line),
}

impl Question {
    /// Its text, whose length is bounded.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Send { text, .. } | Self::Broadcast { text, .. } => text,
            Self::Typed { line, .. } => line,
            Self::Names(_) | Self::Receipts | Self::Passwd { .. } | Self::Settled(_) => "",
        }
    }

    /// How it is asked; a change of the password is more than one line.
    pub(super) fn ask(&self) -> Option<Ask<'_>> {
        Some(match self {
            Self::Send { key, to, text } => Ask::Send { key, to, text },
            Self::Broadcast { key, text } => Ask::Broadcast { key, text },
            Self::Typed { line, .. } => Ask::Typed(line),
            Self::Names(_) => Ask::Who,
            Self::Receipts => Ask::Receipts,
            Self::Passwd { .. } | Self::Settled(_) => return None,
        })
    }

    /// Whether nobody typed it: it belongs to a connection and is not asked again.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Names(_) | Self::Receipts)
    }
}

/// Whether a word means nothing in the coded dialect.
pub(super) fn is_harmless(word: &str) -> bool {
    let coded = ["ack", "ping", "pong", "auth", "coded", "receipts"];
    word.len() <= 64
        && word.starts_with(|c: char| c.is_alphanumeric() || c == '/')
        && !word.ends_with('}')
        && !coded.iter().any(|own| own.eq_ignore_ascii_case(word.trim_start_matches('/')))
}
