//! The senders' own keys: a message that is sent again under its key is answered with the first
//! result. Companions count (`installation:counter`) and are kept by window; any other key is a
//! one-shot's and kept for a day. Durable with the letters that carry them.

use super::accounts::UserId;
use super::record::{Journal, Key, LetterId, Record};
use crate::limits::{
    KEY_INSTALLATION_BYTES, KEY_INSTALLATIONS, KEY_SINGLE_MS, KEY_WINDOW, KEY_WINDOW_MS, KEYS_ALL,
    KEYS_SINGLE,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it may be used.
    New,
    /// It was used for this very message, which is this letter.
    Known(LetterId, Stored),
    /// It was used for another message.
    Reused,
    /// It is so far below the highest that nobody knows.
    TooOld,
    /// No room is left to remember it.
    Full,
}

/// For whom a letter was stored that has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// For all whom it names.
    ForAll,
    /// For some of them; who they are is not remembered.
    ForSome,
}

/// A letter, and the hash of what was sent: complemented if it was stored for some only, which
/// takes no room in memory nor in the journal.
type Sent = (LetterId, u64);

#[derive(Debug, Default)]
struct Window {
    sent: BTreeMap<u64, Sent>,
    used_ms: u64,
}

#[derive(Debug, Default)]
struct Ring {
    windows: BTreeMap<Box<str>, Window>,
    /// What was sent, and until when it is known.
    singles: HashMap<Box<str>, (Sent, u64)>,
    /// When each of the singles may be forgotten, oldest first. Where letters have moved in the
    /// journal, it tells of the older keys later.
    expiry: BTreeSet<(u64, Box<str>)>,
}

/// All keys, by sender. What is written down is in an order, so that a simulated run can be
/// repeated.
#[derive(Debug, Default)]
pub(super) struct Keys {
    rings: BTreeMap<UserId, Ring>,
    /// How many there are at most: counted when they are written down, and each since then.
    count: usize,
}

/// What stands behind a key: whom and what (FNV-1a, the same over all versions).
pub(super) fn hash(to: &str, text: &str) -> u64 {
    let bytes = to.bytes().chain([0]).chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `installation ":" counter`, the installation short and without a colon, the counter without
/// leading zeros.
fn counted(key: &str) -> Option<(&str, u64)> {
    let (installation, counter) = key.rsplit_once(':')?;
    let plain = !counter.starts_with('0') || counter == "0";
    let digits = plain && counter.bytes().all(|byte| byte.is_ascii_digit());
    let named = (1..=KEY_INSTALLATION_BYTES).contains(&installation.len());
    let counts = digits && named && !installation.contains(':');
    if counts { Some((installation, counter.parse().ok()?)) } else { None }
}

/// The key of a letter that is stored for some of those whom it names.
pub(super) fn for_some(key: Key<'_>) -> Key<'_> {
    Key { hash: !key.hash, ..key }
}

fn compare(sent: Sent, hash: u64) -> Found {
    match sent.1 {
        known if known == hash => Found::Known(sent.0, Stored::ForAll),
        known if known == !hash => Found::Known(sent.0, Stored::ForSome),
        _ => Found::Reused,
    }
}

impl Keys {
    /// What is known of this key of this user.
    pub(super) fn look(&mut self, user: UserId, key: &str, hash: u64, now_ms: u64) -> Found {
        match self.look_in_ring(user, key, hash, now_ms) {
            Found::New if self.count >= KEYS_ALL => Found::Full,
            found => found,
        }
    }

    fn look_in_ring(&mut self, user: UserId, key: &str, hash: u64, now_ms: u64) -> Found {
        let Some(ring) = self.rings.get_mut(&user) else { return Found::New };
        ring.forget(now_ms);
        let Some((installation, counter)) = counted(key) else {
            return match ring.singles.get(key) {
                Some(&(sent, _)) => compare(sent, hash),
                None if ring.singles.len() >= KEYS_SINGLE => Found::Full,
                None => Found::New,
            };
        };
        let Some(window) = ring.windows.get(installation) else {
            let full = ring.windows.len() >= KEY_INSTALLATIONS;
            return if full { Found::Full } else { Found::New };
        };
        if let Some(&sent) = window.sent.get(&counter) {
            return compare(sent, hash);
        }
        let highest = window.sent.last_key_value().map_or(0, |(&highest, _)| highest);
        if highest.saturating_sub(counter) >= KEY_WINDOW as u64 {
            Found::TooOld
        } else {
            Found::New
        }
    }

    /// The key was used for this letter.
    pub(super) fn remember(&mut self, user: UserId, key: Key<'_>, id: LetterId, unix_ms: u64) {
        self.count += 1;
        let ring = self.rings.entry(user).or_default();
        let Some((installation, counter)) = counted(key.text) else {
            // Where a forgotten key was used once more, the older letter may come later: it has
            // moved in the journal.
            if ring.singles.get(key.text).is_none_or(|&((known, _), _)| known < id) {
                let expires = unix_ms.saturating_add(KEY_SINGLE_MS);
                ring.singles.insert(key.text.into(), ((id, key.hash), expires));
                ring.expiry.insert((expires, key.text.into()));
            }
            return;
        };
        let window = match ring.windows.get_mut(installation) {
            Some(window) => window,
            None => ring.windows.entry(installation.into()).or_default(),
        };
        window.used_ms = window.used_ms.max(unix_ms);
        window.sent.insert(counter, (id, key.hash));
        while window.sent.len() > KEY_WINDOW {
            window.sent.pop_first();
        }
    }

    /// The user is no more; whoever has the name later has keys of his own. True if he had any.
    pub(super) fn drop_user(&mut self, user: UserId) -> bool {
        self.rings.remove(&user).is_some()
    }

    /// The keys of letters up to this one were another's, who had the name before. True if there
    /// were any.
    pub(super) fn drop_through(&mut self, user: UserId, through: LetterId) -> bool {
        let Some(ring) = self.rings.get_mut(&user) else { return false };
        let all = ring.len();
        for window in ring.windows.values_mut() {
            window.sent.retain(|_, (id, _)| *id > through);
        }
        ring.windows.retain(|_, window| !window.sent.is_empty());
        ring.singles.retain(|_, ((id, _), _)| *id > through);
        ring.len() < all
    }

    /// Writes down all keys that must be known when older parts of the journal are gone. Those
    /// whose time is over are forgotten: their user may never come again.
    pub(super) fn checkpoint(
        &mut self,
        now_ms: u64,
        name: impl Fn(UserId) -> Option<String>,
        journal: &mut dyn Journal,
    ) {
        self.count = 0;
        for (&user, ring) in &mut self.rings {
            let Some(name) = name(user) else { continue };
            ring.forget(now_ms);
            ring.forget_windows(now_ms);
            self.count += ring.len();
            for (installation, window) in &ring.windows {
                for (counter, &(id, hash)) in &window.sent {
                    let text = &format!("{installation}:{counter}");
                    let (user, key, unix_ms) = (name.as_str(), Key { text, hash }, window.used_ms);
                    journal.append(&Record::Keyed { user, key, id, unix_ms });
                }
            }
            for (expires, text) in &ring.expiry {
                let Some(&((id, hash), known)) = ring.singles.get(text) else { continue };
                if known != *expires {
                    continue;
                }
                let (user, key) = (name.as_str(), Key { text, hash });
                let unix_ms = expires.saturating_sub(KEY_SINGLE_MS);
                journal.append(&Record::Keyed { user, key, id, unix_ms });
            }
        }
    }
}

impl Ring {
    fn len(&self) -> usize {
        self.singles.len() + self.windows.values().map(|window| window.sent.len()).sum::<usize>()
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((expires, _)) = self.expiry.first()
            && *expires <= now_ms
        {
            if let Some((_, key)) = self.expiry.pop_first()
                && self.singles.get(&key).is_some_and(|&(_, expires)| expires <= now_ms)
            {
                self.singles.remove(&key);
            }
        }
        if self.windows.len() >= KEY_INSTALLATIONS {
            self.forget_windows(now_ms);
        }
    }

    fn forget_windows(&mut self, now_ms: u64) {
        self.windows.retain(|_, window| window.used_ms.saturating_add(KEY_WINDOW_MS) > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRED: UserId = UserId(1);

    fn id(seq: u32) -> LetterId {
        LetterId { epoch: 1, seq }
    }

    fn known(seq: u32) -> Found {
        Found::Known(id(seq), Stored::ForAll)
    }

    fn key(text: &str, hash: u64) -> Key<'_> {
        Key { text, hash }
    }

    #[test]
    fn a_repeat_gets_the_first_result_and_another_message_is_refused() {
        let mut keys = Keys::default();
        for text in ["phone:7", "a-one-shot"] {
            assert_eq!(keys.look(FRED, text, 1, 0), Found::New);
            keys.remember(FRED, key(text, 1), id(3), 0);
            assert_eq!(keys.look(FRED, text, 1, 0), known(3));
            assert_eq!(keys.look(FRED, text, 2, 0), Found::Reused);
            assert_eq!(keys.look(UserId(2), text, 1, 0), Found::New, "keys are the user's own");
        }
    }

    #[test]
    fn a_key_knows_whether_all_who_were_named_got_the_message() {
        let mut keys = Keys::default();
        keys.remember(FRED, for_some(key("phone:7", 1)), id(3), 0);
        assert_eq!(keys.look(FRED, "phone:7", 1, 0), Found::Known(id(3), Stored::ForSome));
        assert_eq!(keys.look(FRED, "phone:7", 2, 0), Found::Reused);
    }

    #[test]
    fn a_counter_below_the_window_is_refused_and_never_guessed() {
        let mut keys = Keys::default();
        keys.remember(FRED, key("phone:5000", 1), id(1), 0);
        let at = |n: u64| 5000 - KEY_WINDOW as u64 + n;
        assert_eq!(keys.look(FRED, &format!("phone:{}", at(0)), 1, 0), Found::TooOld);
        assert_eq!(keys.look(FRED, &format!("phone:{}", at(1)), 1, 0), Found::New);
        assert_eq!(keys.look(FRED, "pad:1", 1, 0), Found::New);
    }

    #[test]
    fn a_one_shots_key_is_kept_for_a_day_and_one_too_many_is_refused() {
        let mut keys = Keys::default();
        for n in 0..KEYS_SINGLE {
            keys.remember(FRED, key(&format!("k{n}"), 1), id(1), 1000);
        }
        assert_eq!(keys.look(FRED, "one-more", 1, 1000), Found::Full);
        assert_eq!(keys.look(FRED, "k0", 1, KEY_SINGLE_MS + 999), known(1));
        assert_eq!(keys.look(FRED, "k0", 1, KEY_SINGLE_MS + 1000), Found::New);
    }

    #[test]
    fn a_one_shots_key_that_is_used_again_after_its_day_is_kept_for_another() {
        let mut keys = Keys::default();
        keys.remember(FRED, key("k", 1), id(1), 1000);
        keys.remember(FRED, key("k", 2), id(2), 1000 + KEY_SINGLE_MS);
        keys.remember(FRED, key("k", 1), id(1), 1000);
        assert_eq!(keys.look(FRED, "k", 2, 1000 + KEY_SINGLE_MS), known(2));
        assert_eq!(keys.look(FRED, "k", 2, 1000 + 2 * KEY_SINGLE_MS), Found::New);
    }

    #[test]
    fn the_window_reaches_to_the_highest_number() {
        let mut keys = Keys::default();
        keys.remember(FRED, key(&format!("phone:{}", u64::MAX), 1), id(1), 0);
        let below = |n: u64| format!("phone:{}", u64::MAX - n);
        assert_eq!(keys.look(FRED, &below(1), 1, 0), Found::New);
        assert_eq!(keys.look(FRED, &below(KEY_WINDOW as u64 - 1), 1, 0), Found::New);
        assert_eq!(keys.look(FRED, &below(KEY_WINDOW as u64), 1, 0), Found::TooOld);
    }

    /// As after a restart, where letters that waited for long have moved to the journal's end.
    #[test]
    fn older_keys_that_are_told_later_take_nobodys_room() {
        let mut keys = Keys::default();
        keys.remember(FRED, key("new", 1), id(90_000), 2 * KEY_SINGLE_MS);
        for n in 0..KEYS_SINGLE {
            keys.remember(FRED, key(&format!("k{n}"), 1), id(1), 1000);
        }
        assert_eq!(keys.look(FRED, "k0", 2, 2 * KEY_SINGLE_MS), Found::New);
        assert_eq!(keys.look(FRED, "one-more", 1, 2 * KEY_SINGLE_MS), Found::New);
        assert_eq!(keys.look(FRED, "new", 1, 2 * KEY_SINGLE_MS), known(90_000));
    }

    #[derive(Default)]
    struct Count(usize);
    impl Journal for Count {
        fn append(&mut self, _: &Record<'_>) -> crate::core::record::Location {
            self.0 += 1;
            crate::core::record::Location::default()
        }
        fn has_room(&self, _: usize) -> bool {
            true
        }

        fn release(&mut self, _: crate::core::record::Location) {}
    }

    #[test]
    fn keys_whose_time_is_over_are_not_written_down_again() {
        let mut keys = Keys::default();
        keys.remember(FRED, key("single", 1), id(1), 1000);
        keys.remember(FRED, key("desk:1", 1), id(2), 1000);
        for (now_ms, written) in [(1000, 2), (KEY_SINGLE_MS + 1000, 1), (KEY_WINDOW_MS + 1000, 0)] {
            let mut count = Count::default();
            keys.checkpoint(now_ms, |_| Some("fred".into()), &mut count);
            assert_eq!(count.0, written, "at {now_ms}");
        }
    }

    #[test]
    fn the_keys_of_who_had_the_name_before_are_dropped() {
        let mut keys = Keys::default();
        for (n, text) in (1..).zip(["phone:1", "a-one-shot", "phone:2", "another"]) {
            keys.remember(FRED, key(text, 1), id(n), 0);
        }
        assert!(keys.drop_through(FRED, id(2)));
        assert!(!keys.drop_through(FRED, id(2)));
        for text in ["phone:1", "a-one-shot"] {
            assert_eq!(keys.look(FRED, text, 1, 0), Found::New);
        }
        assert_eq!(keys.look(FRED, "phone:2", 1, 0), known(3));
        assert_eq!(keys.look(FRED, "another", 1, 0), known(4));
    }

    #[test]
    fn all_users_together_have_a_bound() {
        let mut keys = Keys { count: KEYS_ALL, ..Keys::default() };
        keys.remember(FRED, key("known", 1), id(1), 1000);
        assert_eq!(keys.look(FRED, "known", 1, 1000), known(1));
        assert_eq!(keys.look(UserId(2), "new", 1, 1000), Found::Full);
        keys.checkpoint(1000, |_| None, &mut Count::default());
        assert_eq!(keys.look(UserId(2), "new", 1, 1000), Found::New);
    }

    #[test]
    fn what_counts_is_recognised() {
        assert_eq!(counted("a.b:7"), Some(("a.b", 7)));
        for word in ["7", ":7", "a:", "a:x", "a:07", "a:99999999999999999999999", "10:03:24"] {
            assert_eq!(counted(word), None, "{word}");
        }
        assert_eq!(counted("a:0"), Some(("a", 0)));
    }
}
