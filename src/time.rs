//! Time as a value. Only `net/clock.rs` reads a clock; everyone else is told what time it is,
//! so that the rules can be tested in no real time.

/// Milliseconds on the monotonic clock, counted from a point that only the clock knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The instant `ms` milliseconds later.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero if `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The two clocks as they were read once, at the start of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For every wait and deadline: it never jumps.
    pub mono: Millis,
    /// Milliseconds since 1970-01-01 UTC, for what outlives the process.
    pub unix_ms: u64,
}
