//! Failed sign-ins, counted by name and address: so many in a row and the pair is blocked for a
//! while. There is no timer: what has run out is noticed when somebody asks. Connections are
//! unknown here, so connecting anew resets nothing.

use crate::limits::{FAILURE_MEMORY_MS, LOCKOUT_ENTRIES};
use crate::proto::name::NameKey;
use crate::time::Millis;
use ::core::net::{IpAddr, Ipv6Addr};
use std::collections::{BTreeMap, HashMap};

/// Whom a failure counts against.
type Pair = (NameKey, IpAddr);

/// What is remembered of a pair.
#[derive(Debug)]
enum Count {
    /// So many failures in a row, fewer than block.
    Failing(u32),
    /// Blocked until then.
    Blocked(Millis),
}

#[derive(Debug)]
struct Entry {
    count: Count,
    /// When the pair failed last.
    failed: Millis,
    /// Its place in the order of forgetting, where it stands in `Lockout::order`.
    place: Place,
}

/// By how much would be lost with a pair: its failures, all of them if it is blocked; among equals
/// by when it failed last, counted.
type Place = (u32, u64);

impl Entry {
    /// Whether it means nothing any more.
    fn is_over(&self, now: Millis) -> bool {
        match self.count {
            Count::Failing(_) => now.since(self.failed) >= FAILURE_MEMORY_MS,
            Count::Blocked(until) => now >= until,
        }
    }
}

/// The pairs that failed lately, at most [`LOCKOUT_ENTRIES`]. One with the fewest failures is
/// forgotten first, of these the one that failed longest ago: who makes up names to have a block
/// forgotten has to get as many of them blocked.
///
/// Names that nobody has count like any other, or the block would tell who exists. IPv6 addresses
/// count by their first 64 bits, all of which one customer has; IPv4 addresses written as IPv6
/// count as IPv4.
#[derive(Debug)]
pub struct Lockout {
    max_failures: u32,
    block_ms: u64,
    entries: HashMap<Pair, Entry>,
    order: BTreeMap<Place, Pair>,
    next: u64,
}

impl Lockout {
    /// Blocks for `block_ms` milliseconds after `max_failures` failures in a row; zero of them
    /// never block.
    #[must_use]
    pub fn new(max_failures: u32, block_ms: u64) -> Self {
        Self { max_failures, block_ms, entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// The seconds for which the pair is blocked still, rounded up; `None` if it is not.
    pub fn blocked(&mut self, key: NameKey, address: IpAddr, now: Millis) -> Option<u64> {
        let pair = (key, network(address));
        let entry = self.entries.get(&pair)?;
        if entry.is_over(now) {
            self.forget(&pair);
            return None;
        }
        match entry.count {
            Count::Failing(_) => None,
            Count::Blocked(until) => Some(until.since(now).div_ceil(1000)),
        }
    }

    /// Counts a failure. Returns the seconds of the block, rounded up, if this one starts it. A
    /// failure during a block was not evaluated and changes nothing.
    pub fn failed(&mut self, key: NameKey, address: IpAddr, now: Millis) -> Option<u64> {
        if self.max_failures == 0 {
            return None;
        }
        let pair = (key, network(address));
        let failures = match self.entries.get(&pair) {
            Some(entry) if !entry.is_over(now) => match entry.count {
                Count::Failing(failures) => failures + 1,
                Count::Blocked(_) => return None,
            },
            _ => 1,
        };
        let blocks = failures >= self.max_failures;
        let count =
            if blocks { Count::Blocked(now.plus(self.block_ms)) } else { Count::Failing(failures) };
        self.remember(pair, count, now);
        blocks.then_some(self.block_ms.div_ceil(1000))
    }

    /// Ends a row of failures.
    pub fn succeeded(&mut self, key: NameKey, address: IpAddr) {
        self.forget(&(key, network(address)));
    }

    fn remember(&mut self, pair: Pair, count: Count, failed: Millis) {
        self.forget(&pair);
        if self.entries.len() >= LOCKOUT_ENTRIES {
            self.make_room(failed);
        }
        let failures = match count {
            Count::Failing(failures) => failures,
            Count::Blocked(_) => self.max_failures,
        };
        let place = (failures, self.next);
        self.next += 1;
        self.entries.insert(pair, Entry { count, failed, place });
        self.order.insert(place, pair);
    }

    /// Forgets one pair: a block that is over, if the oldest of them is, or else the least.
    fn make_room(&mut self, now: Millis) {
        let blocks = (self.max_failures, 0)..;
        let oldest_block = self.order.range(blocks).next().map(|(_, pair)| *pair);
        let is_over = |pair: &Pair| self.entries.get(pair).is_some_and(|entry| entry.is_over(now));
        let least = || self.order.first_key_value().map(|(_, pair)| *pair);
        if let Some(pair) = oldest_block.filter(is_over).or_else(least) {
            self.forget(&pair);
        }
    }

    fn forget(&mut self, pair: &Pair) {
        if let Some(old) = self.entries.remove(pair) {
            self.order.remove(&old.place);
        }
    }
}

/// The address that failures, and all else, count by: of IPv6 the first 64 bits.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn key(name: &str) -> NameKey {
        NameKey::of(name).unwrap()
    }

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn home() -> IpAddr {
        at("192.0.2.7")
    }

    /// Three failures of fred from home at `now`, the third of which blocks.
    fn blocked_at(now: Millis) -> Lockout {
        let mut lockout = Lockout::new(3, MINUTE);
        assert_eq!(lockout.failed(key("fred"), home(), now), None);
        assert_eq!(lockout.failed(key("fred"), home(), now), None);
        assert_eq!(lockout.blocked(key("fred"), home(), now), None);
        assert_eq!(lockout.failed(key("fred"), home(), now), Some(60));
        lockout
    }

    #[test]
    fn lockout_without_a_timer() {
        let mut lockout = blocked_at(Millis(500));
        for (now, left) in [
            (500, Some(60)),
            (501, Some(60)),
            (1500, Some(59)),
            (59_500, Some(1)),
            (60_499, Some(1)),
            (60_500, None),
            (60_501, None),
        ] {
            assert_eq!(lockout.blocked(key("fred"), home(), Millis(now)), left, "at {now}");
        }
        assert!(lockout.entries.is_empty() && lockout.order.is_empty());
    }

    #[test]
    fn reconnecting_resets_nothing() {
        let mut lockout = Lockout::new(3, MINUTE);
        // Each from another port and connection, which the lockout never hears of.
        assert_eq!(lockout.failed(key("fred"), home(), Millis(0)), None);
        assert_eq!(lockout.failed(key("FRED"), home(), Millis(MINUTE)), None);
        assert_eq!(lockout.failed(key("Fred"), home(), Millis(2 * MINUTE)), Some(60));
        assert_eq!(lockout.blocked(key("fred"), home(), Millis(2 * MINUTE)), Some(60));
    }

    #[test]
    fn other_addresses_may_sign_in() {
        let mut lockout = blocked_at(Millis(0));
        assert_eq!(lockout.blocked(key("fred"), at("192.0.2.8"), Millis(1)), None);
        assert_eq!(lockout.blocked(key("tim"), home(), Millis(1)), None);
        lockout.succeeded(key("fred"), at("192.0.2.8"));
        assert_eq!(lockout.blocked(key("fred"), home(), Millis(1)), Some(60), "and free nobody");
    }

    #[test]
    fn after_a_block_the_count_starts_anew() {
        for asked in [false, true] {
            let mut lockout = blocked_at(Millis(0));
            if asked {
                assert_eq!(lockout.blocked(key("fred"), home(), Millis(MINUTE)), None);
            }
            assert_eq!(lockout.failed(key("fred"), home(), Millis(MINUTE)), None);
            assert_eq!(lockout.failed(key("fred"), home(), Millis(MINUTE)), None);
            assert_eq!(lockout.failed(key("fred"), home(), Millis(MINUTE)), Some(60));
        }
    }

    #[test]
    fn a_failure_during_a_block_does_not_lengthen_it() {
        let mut lockout = blocked_at(Millis(0));
        assert_eq!(lockout.failed(key("fred"), home(), Millis(30_000)), None);
        assert_eq!(lockout.blocked(key("fred"), home(), Millis(30_000)), Some(30));
    }

    #[test]
    fn success_ends_the_row() {
        let mut lockout = Lockout::new(2, MINUTE);
        assert_eq!(lockout.failed(key("fred"), home(), Millis(0)), None);
        lockout.succeeded(key("fred"), home());
        assert_eq!(lockout.failed(key("fred"), home(), Millis(0)), None);
        assert_eq!(lockout.failed(key("fred"), home(), Millis(0)), Some(60));
    }

    #[test]
    fn failures_are_forgotten_after_an_hour() {
        for (pause, third) in [(FAILURE_MEMORY_MS - 1, Some(60)), (FAILURE_MEMORY_MS, None)] {
            let mut lockout = Lockout::new(3, MINUTE);
            lockout.failed(key("fred"), home(), Millis(0));
            lockout.failed(key("fred"), home(), Millis(1000));
            assert_eq!(lockout.failed(key("fred"), home(), Millis(1000 + pause)), third);
        }
    }

    #[test]
    fn a_block_outlasts_the_memory_of_failures() {
        let mut lockout = Lockout::new(1, 2 * FAILURE_MEMORY_MS);
        assert_eq!(lockout.failed(key("fred"), home(), Millis(0)), Some(7200));
        let later = Millis(FAILURE_MEMORY_MS + 1);
        assert_eq!(lockout.blocked(key("fred"), home(), later), Some(3600));
    }

    #[test]
    fn the_first_failure_may_block_and_none_may() {
        let mut strict = Lockout::new(1, 1);
        assert_eq!(strict.failed(key("fred"), home(), Millis(0)), Some(1), "rounded up");
        let mut lenient = Lockout::new(0, MINUTE);
        for _ in 0..100 {
            assert_eq!(lenient.failed(key("fred"), home(), Millis(0)), None);
        }
        assert_eq!(lenient.blocked(key("fred"), home(), Millis(0)), None);
        assert!(lenient.entries.is_empty());
    }

    #[test]
    fn addresses_count_by_who_has_them() {
        for (one, other, same) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8", false),
            ("192.0.2.7", "192.0.2.8", false),
        ] {
            let mut lockout = Lockout::new(1, MINUTE);
            lockout.failed(key("fred"), at(one), Millis(0));
            let blocked = lockout.blocked(key("fred"), at(other), Millis(0)).is_some();
            assert_eq!(blocked, same, "{one} {other}");
        }
    }

    #[test]
    fn the_bound_holds_and_who_failed_least_and_longest_ago_goes_first() {
        let mut lockout = Lockout::new(2, MINUTE);
        let nth = |n: usize| key(&format!("u{n}"));
        for n in 0..LOCKOUT_ENTRIES {
            lockout.failed(nth(n), home(), Millis(0));
        }
        // u0 fails again and is blocked, so u1 and u2 are the oldest of the others.
        assert_eq!(lockout.failed(nth(0), home(), Millis(1)), Some(60));
        lockout.failed(key("x"), home(), Millis(2));
        lockout.failed(key("y"), home(), Millis(2));
        assert_eq!(lockout.entries.len(), LOCKOUT_ENTRIES);
        assert_eq!(lockout.order.len(), LOCKOUT_ENTRIES);
        assert_eq!(lockout.blocked(nth(0), home(), Millis(2)), Some(60));
        assert!(!lockout.entries.contains_key(&(nth(1), home())));
        assert!(!lockout.entries.contains_key(&(nth(2), home())));
        assert_eq!(lockout.failed(nth(3), home(), Millis(2)), Some(60), "still remembered");
    }

    #[test]
    fn a_flood_of_made_up_names_frees_nobody() {
        let mut lockout = blocked_at(Millis(0));
        lockout.failed(key("tim"), home(), Millis(0));
        lockout.failed(key("tim"), home(), Millis(0));
        for n in 0..3 * LOCKOUT_ENTRIES {
            lockout.failed(key(&format!("u{n}")), home(), Millis(1));
        }
        assert_eq!(lockout.entries.len(), LOCKOUT_ENTRIES);
        assert_eq!(lockout.blocked(key("fred"), home(), Millis(1)), Some(60));
        assert_eq!(lockout.failed(key("tim"), home(), Millis(1)), Some(60), "his count, too");
    }

    #[test]
    fn blocks_that_are_over_make_room_for_new_failures() {
        let mut lockout = Lockout::new(2, MINUTE);
        for n in 0..LOCKOUT_ENTRIES {
            let name = key(&format!("u{n}"));
            lockout.failed(name, home(), Millis(0));
            assert_eq!(lockout.failed(name, home(), Millis(0)), Some(60));
        }
        // All have run out, and nobody has asked: they are worth nothing any more.
        for name in ["x", "y", "x", "y"] {
            lockout.failed(key(name), home(), Millis(MINUTE));
        }
        assert_eq!(lockout.blocked(key("x"), home(), Millis(MINUTE)), Some(60));
        assert_eq!(lockout.blocked(key("y"), home(), Millis(MINUTE)), Some(60));
        assert!(lockout.entries.len() == LOCKOUT_ENTRIES && lockout.order.len() == LOCKOUT_ENTRIES);
    }

    #[test]
    fn a_table_full_of_blocks_still_counts_who_fails_now() {
        let mut lockout = Lockout::new(2, MINUTE);
        for n in 0..LOCKOUT_ENTRIES {
            let name = key(&format!("u{n}"));
            lockout.failed(name, home(), Millis(0));
            lockout.failed(name, home(), Millis(0));
        }
        assert_eq!(lockout.failed(key("x"), home(), Millis(1)), None);
        assert_eq!(lockout.failed(key("x"), home(), Millis(1)), Some(60));
    }
}
