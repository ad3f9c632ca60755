//! The one place of the bench where a clock is read, and where it waits without a socket.

use std::time::{Duration, Instant};

/// Nanoseconds since it was made.
#[derive(Debug)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)] // here and nowhere else in the bench
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    #[allow(clippy::disallowed_methods)] // here and nowhere else in the bench
    pub(super) fn ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Waits: for a program that starts and tells nobody, or because idling is what is measured.
#[allow(clippy::disallowed_methods)] // the load has nothing to do meanwhile
pub(super) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
