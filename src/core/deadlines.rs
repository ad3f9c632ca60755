//! Deadlines in order of time, a connection at most once each. They are re-armed lazily: activity
//! moves nothing here; who asks for a deadline looks, when it comes, whether it still holds.

use super::event::Conn;
use crate::time::Millis;
use std::collections::BTreeSet;

/// The set of armed deadlines. Whoever is armed keeps the time in an [`Armed`] of its own.
#[derive(Debug, Default)]
pub struct Deadlines(BTreeSet<(Millis, Conn)>);

/// When a connection is armed for, if it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed(Option<Millis>);

impl Deadlines {
    /// The nearest deadline.
    #[must_use]
    pub fn nearest(&self) -> Option<Millis> {
        self.0.first().map(|&(when, _)| when)
    }

    /// Makes sure that `conn` is looked at no later than `when`.
    pub fn arm(&mut self, conn: Conn, armed: &mut Armed, when: Millis) {
        if armed.0.is_some_and(|earlier| earlier <= when) {
            return;
        }
        self.disarm(conn, armed);
        self.0.insert((when, conn));
        armed.0 = Some(when);
    }

    /// Forgets `conn`.
    pub fn disarm(&mut self, conn: Conn, armed: &mut Armed) {
        if let Some(when) = armed.0.take() {
            self.0.remove(&(when, conn));
        }
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
}
