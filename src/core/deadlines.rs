//! Deadlines in order of time, a connection at most once each. They are re-armed lazily: activity
//! moves nothing here; who asks for a deadline looks, when it comes, whether it still holds.

use super::event::Conn;
use crate::time::Millis;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// The set of armed deadlines. Whoever is armed keeps the time in an [`Armed`] of its own.
#[derive(Debug, Default)]
pub struct Deadlines(BTreeSet<(Millis, Conn)>);

/// When a connection is armed for, if it is: a millisecond more than that, so that each connection
/// keeps eight bytes for it and not sixteen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed(Option<NonZeroU64>);

impl Deadlines {
    /// The nearest deadline.
    #[must_use]
    pub fn nearest(&self) -> Option<Millis> {
        self.0.first().map(|&(when, _)| when)
    }

    /// Makes sure that `conn` is looked at no later than `when`.
    pub fn arm(&mut self, conn: Conn, armed: &mut Armed, when: Millis) {
        if armed.when().is_some_and(|earlier| earlier <= when) {
            return;
        }
        self.disarm(conn, armed);
        armed.0 = NonZeroU64::new(when.0.saturating_add(1));
        self.0.extend(armed.when().map(|when| (when, conn)));
    }

    /// Forgets `conn`.
    pub fn disarm(&mut self, conn: Conn, armed: &mut Armed) {
        if let Some(when) = armed.when() {
            self.0.remove(&(when, conn));
        }
        armed.fired();
    }

    /// Takes out a connection whose time has come. Its [`Armed`] is to be cleared with
    /// [`Armed::fired`].
    pub fn due(&mut self, now: Millis) -> Option<Conn> {
        let &(when, conn) = self.0.first()?;
        (when <= now).then(|| {
            self.0.pop_first();
            conn
        })
    }
}

impl Armed {
    fn when(self) -> Option<Millis> {
        self.0.map(|more| Millis(more.get() - 1))
    }

    /// Notes that the deadline came.
    pub fn fired(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_deadline_costs_nothing_and_an_earlier_one_moves_it() {
        let (mut deadlines, mut armed) = (Deadlines::default(), Armed::default());
        deadlines.arm(Conn(1), &mut armed, Millis(10));
        deadlines.arm(Conn(1), &mut armed, Millis(20));
        assert_eq!(deadlines.nearest(), Some(Millis(10)));
        deadlines.arm(Conn(1), &mut armed, Millis(5));
        assert_eq!(deadlines.nearest(), Some(Millis(5)));
        assert_eq!(deadlines.due(Millis(4)), None);
        assert_eq!(deadlines.due(Millis(5)), Some(Conn(1)));
        assert_eq!(deadlines.due(Millis(99)), None);
    }

    #[test]
    fn the_first_and_the_last_moment_can_be_armed_and_forgotten() {
        for when in [0, u64::MAX - 1, u64::MAX] {
            let (mut deadlines, mut armed) = (Deadlines::default(), Armed::default());
            deadlines.arm(Conn(1), &mut armed, Millis(when));
            assert!(deadlines.nearest().is_some_and(|nearest| nearest.0 >= when.min(u64::MAX - 1)));
            deadlines.disarm(Conn(1), &mut armed);
            assert_eq!((deadlines.nearest(), armed), (None, Armed::default()));
        }
    }
}
