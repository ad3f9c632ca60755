//! The only place where a clock is read.

use crate::time::{Millis, Now};
use std::time::{Instant, SystemTime};

/// The machine's clocks.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting. Zero lies a little in the past, so that no deadline is ever zero.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // here and nowhere else
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// What time it is.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // here and nowhere else
    pub fn now(&self) -> Now {
        let whole = |ms: u128| u64::try_from(ms).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Millis(whole(self.start.elapsed().as_millis()) + 1),
            unix_ms: whole(unix.as_millis()),
        }
    }
}
