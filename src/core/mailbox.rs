//! A mailbox: the letters that were accepted for a user and are not settled. Only an index; the
//! bodies are in the journal. The letters at the front have been shown to the session under way,
//! and of these the first have been acknowledged by the reader's kernel:
//!
//! ```text
//!   oldest | acknowledged | shown | waiting | newest
//! ```

use super::record::{Journal, LetterId, Location, Record};
use crate::limits::{WINDOW_BYTES, WINDOW_LETTERS};
use crate::proto::name::UserName;
use std::collections::{VecDeque, vec_deque};

/// A letter in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub id: LetterId,
    /// Where it stands.
    pub at: Location,
    /// Its sender.
    pub from: UserName,
    /// Which of the things said to the session it was, once shown.
    pub said: u32,
}

impl Waiting {
    /// Whether the letter, which was shown, is among the first `through` things said.
    fn is_within(&self, through: u32) -> bool {
        // The count of things said may wrap around.
        through.wrapping_sub(self.said) <= u32::MAX / 2
    }
}

/// The letters of one user, oldest first.
#[derive(Debug, Default)]
pub struct Mailbox {
    letters: VecDeque<Waiting>,
    /// No letter that is or was here is later. Kept, so that a new one needs no look at the one
    /// before it, which would have to be fetched for that alone.
    last: LetterId,
    shown: u32,
    acknowledged: u32,
    /// How many of these were acknowledged before any line that is still to come.
    provable: u32,
    bytes: u64,
    acknowledged_bytes: u64,
    /// Every letter up to this one was offered to a reader at least once.
    offered: LetterId,
    /// Every letter up to this one is settled.
    settled: LetterId,
}

impl Mailbox {
    /// Letters not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Letters that count against the quota, and their bytes: what the reader's kernel has
    /// acknowledged has left it.
    #[must_use]
    pub fn load(&self) -> (usize, u64) {
        (self.letters.len() - self.acknowledged as usize, self.bytes - self.acknowledged_bytes)
    }

    /// How much of that load is from this sender.
    #[must_use]
    pub fn load_from(&self, sender: &UserName) -> (usize, u64) {
        let letters = self.letters.range(self.acknowledged as usize..);
        letters
            .filter(|letter| letter.from.as_str().eq_ignore_ascii_case(sender.as_str()))
            .fold((0, 0), |(count, bytes), letter| {
                (count + 1, bytes + u64::from(letter.at.body_bytes))
            })
    }

    /// The number of the last letter that waits or is known to be settled.
    #[must_use]
    pub fn last_known(&self) -> Option<LetterId> {
        let settled = (self.settled > LetterId::default()).then_some(self.settled);
        self.letters.back().map(|letter| letter.id).or(settled)
    }

    /// The last letter that was ever offered to a reader, if one that was still waits.
    #[must_use]
    pub fn offered(&self) -> Option<LetterId> {
        self.letters.front().is_some_and(|oldest| oldest.id <= self.offered).then_some(self.offered)
    }

    /// The same, whether or not anything waits.
    #[must_use]
    pub fn ever_offered(&self) -> LetterId {
        self.offered
    }

    /// The number of the last letter shown to the session under way and not settled.
    #[must_use]
    pub fn last_shown(&self) -> Option<LetterId> {
        self.shown.checked_sub(1).map(|last| self.letters[last as usize].id)
    }

    /// The last letter that was settled.
    #[must_use]
    pub fn settled(&self) -> LetterId {
        self.settled
    }

    /// Whether every letter has been shown.
    #[must_use]
    pub fn all_shown(&self) -> bool {
        self.shown as usize == self.letters.len()
    }

    fn position(&self, id: LetterId) -> Result<usize, usize> {
        // Letters come in order, so the usual answer is the end.
        if id > self.last {
            return Err(self.letters.len());
        }
        self.letters.binary_search_by_key(&id, |letter| letter.id)
    }

    /// Whether the letter is here.
    #[must_use]
    pub fn holds(&self, id: LetterId) -> bool {
        self.position(id).is_ok()
    }

    /// Takes in a letter. One that is here already has moved in the journal, and one that was
    /// settled is not wanted: the place that is not needed is returned.
    #[inline]
    pub fn accept(&mut self, letter: Waiting) -> Option<Location> {
        if letter.id <= self.last {
            return self.accept_again(letter);
        }
        self.last = letter.id;
        self.bytes += u64::from(letter.at.body_bytes);
        self.letters.push_back(letter);
        None
    }

    /// One that is not the latest of all.
    fn accept_again(&mut self, letter: Waiting) -> Option<Location> {
        if letter.id <= self.settled {
            return Some(letter.at);
        }
        match self.position(letter.id) {
            Ok(known) => Some(std::mem::replace(&mut self.letters[known].at, letter.at)),
            Err(place) => {
                debug_assert!(
                    place >= self.shown as usize,
                    "an accepted letter is newer than a shown one"
                );
                self.bytes += u64::from(letter.at.body_bytes);
                self.letters.insert(place, letter);
                None
            }
        }
    }

    /// Where the letter stands, if it is here.
    #[must_use]
    pub fn place(&self, id: LetterId) -> Option<Location> {
        self.position(id).ok().map(|here| self.letters[here].at)
    }

    /// The letter stands elsewhere now. False if it is not here.
    pub fn relocate(&mut self, id: LetterId, at: Location) -> bool {
        let here = self.position(id).ok();
        if let Some(here) = here {
            self.letters[here].at = at;
        }
        here.is_some()
    }

    /// The next letter to show; it counts as shown from now on, as the `said`-th thing.
    #[inline]
    pub fn show(&mut self, said: u32) -> Option<(&Waiting, bool)> {
        let letter = self.letters.get_mut(self.shown as usize)?;
        self.shown += 1;
        letter.said = said;
        let again = letter.id <= self.offered;
        self.offered = self.offered.max(letter.id);
        Some((letter, again))
    }

    /// Notes that letters up to this one were offered before a restart.
    pub fn offered_through(&mut self, through: LetterId) {
        self.offered = self.offered.max(through);
    }

    /// The reader's kernel has everything up to the `through`-th thing said. True if that covers
    /// a letter more than before.
    pub fn acknowledge(&mut self, through: u32) -> bool {
        let before = self.acknowledged;
        while self.acknowledged < self.shown {
            let letter = &self.letters[self.acknowledged as usize];
            if !letter.is_within(through) {
                break;
            }
            self.acknowledged_bytes += u64::from(letter.at.body_bytes);
            self.acknowledged += 1;
        }
        self.acknowledged > before
    }

    /// Settles what is acknowledged beyond the window: a reader who only listens is taken to have
    /// read what came so long ago. Tells the last letter that was settled, as the others do.
    #[must_use]
    pub fn settle_window(
        &mut self,
        user: &UserName,
        journal: &mut dyn Journal,
    ) -> Option<LetterId> {
        let (mut letters, mut bytes) = (self.acknowledged as usize, self.acknowledged_bytes);
        let is_beyond = |letter: &Waiting| {
            let beyond = letters > WINDOW_LETTERS || bytes > WINDOW_BYTES;
            letters = letters.saturating_sub(1);
            bytes = bytes.saturating_sub(u64::from(letter.at.body_bytes));
            beyond
        };
        self.settle(is_beyond, user, journal)
    }

    /// All that the reader sent before what is acknowledged was acknowledged has been handled.
    pub fn input_taken(&mut self) {
        self.provable = self.acknowledged;
    }

    /// Settles what was acknowledged before the reader showed a sign of life.
    #[must_use]
    pub fn settle_proved(
        &mut self,
        user: &UserName,
        journal: &mut dyn Journal,
    ) -> Option<LetterId> {
        let mut is_proved = among_first(self.provable);
        self.settle(|_| is_proved(), user, journal)
    }

    /// Settles the letters among the first `through` things said: the reader has taken them.
    #[must_use]
    pub fn settle_said(
        &mut self,
        through: u32,
        user: &UserName,
        journal: &mut dyn Journal,
    ) -> Option<LetterId> {
        let mut was_shown = among_first(self.shown);
        self.settle(|letter| was_shown() && letter.is_within(through), user, journal)
    }

    /// Settles all letters up to this one.
    #[must_use]
    pub fn settle_through(
        &mut self,
        id: LetterId,
        user: &UserName,
        journal: &mut dyn Journal,
    ) -> Option<LetterId> {
        self.settle(|letter| letter.id <= id, user, journal)
    }

    fn count_through(&self, id: LetterId) -> usize {
        self.position(id).map_or_else(|place| place, |here| here + 1)
    }

    /// Settles the oldest letters that this holds of, up to the first of which it does not.
    fn settle(
        &mut self,
        mut is_taken: impl FnMut(&Waiting) -> bool,
        user: &UserName,
        journal: &mut dyn Journal,
    ) -> Option<LetterId> {
        let mut through = None;
        while self.letters.front().is_some_and(&mut is_taken)
            && let Some(letter) = self.letters.pop_front()
        {
            self.leave(letter.at);
            journal.release(letter.at);
            through = Some(letter.id);
        }
        if self.letters.is_empty() {
            // It is filled from its front again, in memory that was just touched.
            self.letters.clear();
        }
        if let Some(through) = through {
            self.settled = through;
            journal.append(&Record::Settled { user: user.as_str(), through });
        }
        through
    }

    /// Notes that letters up to this one were settled before a restart; returns those that were
    /// here.
    pub fn settled_through(&mut self, id: LetterId) -> vec_deque::Drain<'_, Waiting> {
        self.settled = self.settled.max(id);
        self.last = self.last.max(id);
        self.take(self.count_through(id))
    }

    /// Takes the letters up to this one out, to hold them elsewhere.
    pub fn take_through(&mut self, id: LetterId) -> vec_deque::Drain<'_, Waiting> {
        self.take(self.count_through(id))
    }

    fn take(&mut self, count: usize) -> vec_deque::Drain<'_, Waiting> {
        for at in 0..count {
            self.leave(self.letters[at].at);
        }
        self.letters.drain(..count)
    }

    /// The oldest letter goes.
    fn leave(&mut self, at: Location) {
        let bytes = u64::from(at.body_bytes);
        self.bytes -= bytes;
        if self.acknowledged > 0 {
            self.acknowledged_bytes -= bytes;
        }
        self.shown = self.shown.saturating_sub(1);
        self.acknowledged = self.acknowledged.saturating_sub(1);
        self.provable = self.provable.saturating_sub(1);
    }

    /// The session has ended: what it was shown will be shown again, marked.
    pub fn end_session(&mut self) {
        self.shown = 0;
        self.acknowledged = 0;
        self.provable = 0;
        self.acknowledged_bytes = 0;
        if self.letters.is_empty() {
            // An emptied mailbox gives its memory back.
            self.letters = VecDeque::new();
        }
    }
}

/// Holds so many times, and then no more.
fn among_first(mut left: u32) -> impl FnMut() -> bool {
    move || {
        let holds = left > 0;
        left = left.saturating_sub(1);
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Paper {
        settled: Vec<LetterId>,
        released: usize,
    }

    impl Journal for Paper {
        fn append(&mut self, record: &Record<'_>) -> Location {
            if let Record::Settled { through, .. } = *record {
                self.settled.push(through);
            }
            Location::default()
        }

        fn has_room(&self, _: usize) -> bool {
            true
        }

        fn release(&mut self, _: Location) {
            self.released += 1;
        }
    }

    fn id(seq: u32) -> LetterId {
        LetterId { epoch: 1, seq }
    }

    fn letter(seq: u32) -> Waiting {
        let at = Location { body_bytes: 10, ..Location::default() };
        Waiting { id: id(seq), at, from: UserName::new("a").unwrap(), said: 0 }
    }

    fn filled(count: u32) -> Mailbox {
        let mut mailbox = Mailbox::default();
        for seq in 1..=count {
            assert_eq!(mailbox.accept(letter(seq)), None);
        }
        mailbox
    }

    #[test]
    fn what_was_acknowledged_leaves_the_quota_and_what_was_not_is_marked_again() {
        let (mut mailbox, mut paper, user) =
            (filled(3), Paper::default(), UserName::new("b").unwrap());
        assert!(mailbox.show(u32::MAX).is_some_and(|(_, again)| !again));
        assert!(mailbox.show(0).is_some());
        assert!(mailbox.acknowledge(u32::MAX));
        assert_eq!(mailbox.load(), (2, 20));
        let settled = mailbox.settle_proved(&user, &mut paper);
        assert_eq!(settled, None, "a line that was sent before it proves nothing");
        assert!(paper.settled.is_empty());
        mailbox.input_taken();
        assert_eq!(mailbox.settle_proved(&user, &mut paper), Some(id(1)));
        assert_eq!(
            (&paper.settled[..], paper.released, mailbox.load()),
            (&[id(1)][..], 1, (2, 20))
        );
        mailbox.end_session();
        assert!(mailbox.show(1).is_some_and(|(letter, again)| letter.id == id(2) && again));
        assert!(mailbox.show(2).is_some_and(|(letter, again)| letter.id == id(3) && !again));
        assert!(mailbox.show(3).is_none());
        assert_eq!(mailbox.settle_through(id(9), &user, &mut paper), Some(id(3)));
        assert_eq!((mailbox.load(), mailbox.is_empty()), ((0, 0), true));
    }

    #[test]
    fn a_senders_share_counts_what_waits_of_him_and_was_not_acknowledged() {
        let mut mailbox = filled(3);
        let other = UserName::new("b").unwrap();
        mailbox.accept(Waiting { from: other.clone(), ..letter(4) });
        let a = letter(1).from;
        assert_eq!((mailbox.load_from(&a), mailbox.load_from(&other)), ((3, 30), (1, 10)));
        assert_eq!(mailbox.load_from(&UserName::new("A").unwrap()), (3, 30), "he is the same");
        assert!(mailbox.show(1).is_some());
        assert!(mailbox.acknowledge(1));
        assert_eq!((mailbox.load_from(&a), mailbox.load_from(&other)), ((2, 20), (1, 10)));
    }

    #[test]
    fn a_listener_keeps_a_window_of_what_he_got() {
        let (mut mailbox, mut paper, user) =
            (filled(1500), Paper::default(), UserName::new("b").unwrap());
        while mailbox.show(5).is_some() {}
        mailbox.acknowledge(5);
        assert_eq!(mailbox.settle_window(&user, &mut paper), Some(id(500)));
        assert_eq!((mailbox.len(), mailbox.load()), (WINDOW_LETTERS, (0, 0)));
        assert_eq!(paper.settled, [id(500)]);
    }

    #[test]
    fn a_letter_met_twice_has_moved() {
        let mut mailbox = filled(3);
        let at = Location { segment: 7, body_bytes: 10, ..Location::default() };
        let before = mailbox.accept(Waiting { at, ..letter(2) });
        assert_eq!((before, mailbox.len()), (Some(letter(2).at), 3));
        assert_eq!(mailbox.settled_through(id(2)).next_back().unwrap().at, at);
        assert!(!mailbox.holds(id(2)) && mailbox.holds(id(3)));
        assert_eq!(mailbox.accept(letter(1)), Some(letter(1).at), "it was settled");
        let mut later = Mailbox::default();
        assert_eq!(later.settled_through(id(2)).count(), 0);
        assert_eq!(later.accept(letter(2)), Some(letter(2).at), "before it came");
        assert_eq!(later.accept(letter(3)), None);
    }
}
