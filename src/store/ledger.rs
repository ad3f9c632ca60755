//! Which segments there are and how much of each is still needed. It knows nothing of files.

use crate::core::record::Location;
use std::collections::{BTreeMap, VecDeque};

/// One segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Its size.
    pub bytes: u64,
    /// Letters in it that at least one recipient still needs.
    pub live_letters: u32,
    /// The bytes of their records.
    pub live_bytes: u64,
}

/// The segments, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    segments: VecDeque<Segment>,
    /// Letters that more than one recipient needs, by their places. All other live letters are
    /// needed by exactly one, so that the common letter costs nothing here.
    shared: BTreeMap<u64, u32>,
}

/// Segment and offset as one number, which is found faster than two.
fn place(at: Location) -> u64 {
    u64::from(at.segment) << 32 | u64::from(at.offset)
}

impl Ledger {
    /// One recipient less needs the letter at `at`.
    pub fn release(&mut self, at: Location) {
        let place = place(at);
        if let Some(left) = self.shared.get_mut(&place) {
            *left -= 1;
            if *left == 1 {
                self.shared.remove(&place);
            }
            return;
        }
        let Some(segment) = self.segment_mut(at.segment) else {
            debug_assert!(false, "a letter was released in segment {} that is gone", at.segment);
            return;
        };
        debug_assert!(segment.live_letters > 0, "released twice: {at:?}");
        segment.live_letters = segment.live_letters.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(u64::from(at.record_bytes));
    }

    /// A letter stands at `at` that `recipients` need.
    pub(super) fn keep(&mut self, at: Location, recipients: usize) {
        if recipients == 0 {
            return;
        }
        if recipients > 1 {
            let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
            self.shared.insert(place(at), recipients);
        }
        if let Some(segment) = self.segment_mut(at.segment) {
            segment.live_letters += 1;
            segment.live_bytes += u64::from(at.record_bytes);
        }
    }

    /// A segment begins behind all others.
    pub(super) fn add(&mut self, number: u32) {
        debug_assert!(self.segments.back().is_none_or(|last| last.number < number));
        self.segments.push_back(Segment { number, ..Segment::default() });
    }

    /// A segment is now that long.
    pub(super) fn set_bytes(&mut self, number: u32, bytes: u64) {
        if let Some(segment) = self.segment_mut(number) {
            segment.bytes = bytes;
        }
    }

    /// Forgets the oldest segment, which nothing needs.
    pub(super) fn drop_oldest(&mut self) {
        debug_assert!(self.segments.front().is_some_and(|first| first.live_letters == 0));
        self.segments.pop_front();
    }

    /// The oldest segment.
    #[must_use]
    pub fn oldest(&self) -> Option<&Segment> {
        self.segments.front()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Size of all segments, and how much of it live letters take.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |all: (u64, u64), one: &Segment| (all.0 + one.bytes, all.1 + one.live_bytes);
        self.segments.iter().fold((0, 0), sum)
    }

    fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        // The usual one is where letters come and soon go.
        if self.segments.back().is_some_and(|last| last.number == number) {
            return self.segments.back_mut();
        }
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        self.segments.get_mut(at)
    }
}
