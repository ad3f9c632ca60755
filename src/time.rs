//! Time as a value. Only `net/clock.rs` reads a clock; everyone else is told what time it is,
//! so that the rules can be tested in no real time.

use std::fmt;

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

/// A second in UTC, as calendars have it. Earlier ones are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Year, month and day, from 1 on.
    pub date: (u64, u64, u64),
    /// Hour, minute and second.
    pub clock: (u64, u64, u64),
}

impl Moment {
    /// That of so many seconds after 1970.
    #[must_use]
    pub fn of_unix(seconds: u64) -> Self {
        let clock = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        Self { date: date(seconds / 86_400), clock }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.clock);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's civil_from_days).
#[must_use]
pub fn date(days: u64) -> (u64, u64, u64) {
    // Counted from the first of March of the year 0, so that the odd day stands at a year's end.
    // The most that milliseconds can say is far below where this would overflow.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_as_calendars_have_it() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_800_000_000, "2027-01-15 08:00:00 UTC"),
        ] {
            assert_eq!(Moment::of_unix(seconds).to_string(), text);
        }
    }
}
