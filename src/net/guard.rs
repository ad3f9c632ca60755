//! The guard at the door: which strangers get in. Caps and penalties by network, and an early drop
//! as the place for those who have not signed in runs short. It knows no socket, no clock and no
//! rule of the hub: time, addresses and what was said come in, and it rolls its dice from a seed.

use crate::core::lockout::network;
use crate::limits::{
    BARS_LOGGED_MS, NEW_AT_ONCE, NEW_EACH_MS, PENALTY_FAILED_MS, PENALTY_FROM_MS, PENALTY_MOST_MS,
    PENALTY_NOTHING_TRIED_MS, PENALTY_TOO_SLOW_MS, SOURCES, UNSIGNED_BEGIN, UNSIGNED_FULL,
    UNSIGNED_OF_ONE, UNSIGNED_PERCENT,
};
use crate::proto::reply::{Barred, Farewell, Refusal, Reply};
use crate::time::Millis;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// What a stranger has done of late, as far as it matters when the connection ends without a
/// sign-in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Conduct {
    /// Nobody tried to sign in.
    #[default]
    NothingTried,
    /// A name or a password was wrong.
    Failed,
    /// The time to sign in ran out.
    TooSlow,
    /// It is nobody's fault, or ours.
    Excused,
}

/// A stranger who has not signed in, as his port keeps it. Whoever takes it out of there owes the
/// guard a [`Guard::signed_in`] or a [`Guard::left`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    network: IpAddr,
    conduct: Conduct,
}

impl Stranger {
    /// Takes note of what the stranger is told, which tells what he did.
    pub(super) fn told(&mut self, reply: &Reply) {
        self.conduct = match reply {
            Reply::Refused(Refusal::NotAuthorized(_))
            | Reply::Farewell(Farewell::TooManyFailures { .. }) => Conduct::Failed,
            Reply::Farewell(Farewell::SignInTooSlow { .. }) => Conduct::TooSlow,
            // The password was right, or nobody looked at it because of others.
            Reply::Probing(_)
            | Reply::Refused(Refusal::AlreadyOnline(_) | Refusal::SignInsBusy)
            | Reply::Farewell(Farewell::ShuttingDown | Farewell::Overload) => Conduct::Excused,
            _ => return,
        };
    }
}

/// Until when something holds against a network.
#[derive(Clone, Copy, Debug)]
struct Debt {
    until: Millis,
    /// The most that was ever due of it, in milliseconds.
    peak_ms: u64,
}

/// What is held against networks, each for a time that grows with what it does. At most [`SOURCES`]
/// of them; the cheapest, whose time runs out first, is forgotten first.
#[derive(Debug, Default)]
struct Debts {
    of: HashMap<IpAddr, Debt>,
    order: BTreeSet<(Millis, IpAddr)>,
}

impl Debts {
    /// What is due, in milliseconds, and the most that was.
    fn due(&self, network: IpAddr, now: Millis) -> (u64, u64) {
        match self.of.get(&network) {
            Some(debt) if debt.until > now => (debt.until.since(now), debt.peak_ms),
            _ => (0, 0),
        }
    }

    fn add(&mut self, network: IpAddr, ms: u64, most_ms: u64, now: Millis) {
        // What has run out goes, faster than it can come.
        for _ in 0..2 {
            match self.order.first() {
                Some(&(until, cheapest)) if until <= now => self.forget(cheapest),
                _ => break,
            }
        }
        let (due, peak_ms) = self.due(network, now);
        let due = (due + ms).min(most_ms);
        let debt = Debt { until: now.plus(due), peak_ms: peak_ms.max(due) };
        if let Some(old) = self.of.insert(network, debt) {
            self.order.remove(&(old.until, network));
        }
        self.order.insert((debt.until, network));
        if self.of.len() > SOURCES
            && let Some(&(_, cheapest)) = self.order.first()
        {
            self.forget(cheapest);
        }
    }

    fn forget(&mut self, network: IpAddr) {
        if let Some(old) = self.of.remove(&network) {
            self.order.remove(&(old.until, network));
        }
    }
}

/// Who of those that are no trusted peers gets in.
#[derive(Debug)]
pub(super) struct Guard {
    /// Strangers inside who have not signed in.
    unsigned: usize,
    /// The same by network; those that have none are not kept.
    unsigned_of: HashMap<IpAddr, u32>,
    /// How far each network is ahead of the pace at which it may connect.
    arrivals: Debts,
    penalties: Debts,
    dice: u64,
}

impl Guard {
    /// A guard whose dice nobody foresees who does not know `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            unsigned: 0,
            unsigned_of: HashMap::new(),
            arrivals: Debts::default(),
            penalties: Debts::default(),
            dice: seed,
        }
    }

    /// Whether a stranger may come in. The cheapest question is asked first, and who is turned
    /// away owes no more than before.
    pub(super) fn admit(&mut self, address: IpAddr, now: Millis) -> Result<Stranger, Barred> {
        let network = network(address);
        if let Some(left_s) = self.penalty(network, now) {
            return Err(Barred::Penalty { left_s });
        }
        let (ahead_ms, _) = self.arrivals.due(network, now);
        if ahead_ms > (NEW_AT_ONCE - 1) * NEW_EACH_MS {
            return Err(Barred::TooFast);
        }
        let here = self.unsigned_of.get(&network).copied().unwrap_or(0);
        if here >= UNSIGNED_OF_ONE {
            return Err(Barred::TooManyOfOne { most: UNSIGNED_OF_ONE });
        }
        if self.roll() < drop_percent(self.unsigned) {
            return Err(Barred::EarlyDrop);
        }
        self.arrivals.add(network, NEW_EACH_MS, u64::MAX, now);
        self.unsigned += 1;
        *self.unsigned_of.entry(network).or_default() += 1;
        Ok(Stranger { network, conduct: Conduct::default() })
    }

    /// Takes note of what a connection is told. If it is that somebody signed in, it is no
    /// stranger's any more.
    pub(super) fn hears(&mut self, stranger: &mut Option<Stranger>, reply: &Reply) {
        let Some(known) = stranger else { return };
        if matches!(reply, Reply::Welcome { .. }) {
            self.signed_in(known);
            *stranger = None;
        } else {
            known.told(reply);
        }
    }

    /// The stranger is one no more.
    pub(super) fn signed_in(&mut self, stranger: &Stranger) {
        self.unsigned -= 1;
        if let Some(count) = self.unsigned_of.get_mut(&stranger.network) {
            *count -= 1;
            if *count == 0 {
                self.unsigned_of.remove(&stranger.network);
            }
        }
    }

    /// The stranger's connection is over, and nobody has signed in. If a penalty begins with that,
    /// these are its network and its seconds.
    pub(super) fn left(&mut self, stranger: &Stranger, now: Millis) -> Option<(IpAddr, u64)> {
        self.signed_in(stranger);
        let penalty_ms = match stranger.conduct {
            Conduct::NothingTried => PENALTY_NOTHING_TRIED_MS,
            Conduct::Failed => PENALTY_FAILED_MS,
            Conduct::TooSlow => PENALTY_TOO_SLOW_MS,
            Conduct::Excused => return None,
        };
        let before = self.penalty(stranger.network, now);
        self.penalties.add(stranger.network, penalty_ms, PENALTY_MOST_MS, now);
        let begun = self.penalty(stranger.network, now).filter(|_| before.is_none());
        begun.map(|left_s| (stranger.network, left_s))
    }

    /// For how many seconds the network is turned away for what it did.
    fn penalty(&self, network: IpAddr, now: Millis) -> Option<u64> {
        let (due_ms, peak_ms) = self.penalties.due(network, now);
        (due_ms > 0 && peak_ms >= PENALTY_FROM_MS).then(|| due_ms.div_ceil(1000))
    }

    /// A number from 0 to 99 (splitmix64).
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 100
    }
}

/// Of a hundred newcomers, how many are turned away while so many have not signed in: none at
/// first, then a part that rises in a straight line, then all.
fn drop_percent(unsigned: usize) -> u64 {
    match unsigned {
        0..UNSIGNED_BEGIN => 0,
        UNSIGNED_BEGIN..UNSIGNED_FULL => {
            let (above, span) = (unsigned - UNSIGNED_BEGIN, UNSIGNED_FULL - UNSIGNED_BEGIN);
            UNSIGNED_PERCENT + (100 - UNSIGNED_PERCENT) * above as u64 / span as u64
        }
        _ => 100,
    }
}

/// What the log hears of those who were turned away: the first at once, the next ones as a number,
/// so that a flood of connections is no flood of lines.
#[derive(Debug, Default)]
pub(super) struct Turned(Vec<Row>);

/// Those turned away for one reason.
#[derive(Debug)]
struct Row {
    why: Barred,
    /// Not told yet, the last of them, and when it is time to tell.
    untold: u64,
    last: IpAddr,
    tell_at: Millis,
}

impl Turned {
    /// Takes note of one; whether it is to be told at once.
    pub(super) fn is_news(&mut self, barred: &Barred, address: IpAddr, now: Millis) -> bool {
        let tell_at = now.plus(BARS_LOGGED_MS);
        let alike = |row: &&mut Row| row.why.reason() == barred.reason();
        let Some(row) = self.0.iter_mut().find(alike) else {
            self.0.push(Row { why: *barred, untold: 0, last: address, tell_at });
            return true;
        };
        row.untold += 1;
        row.last = address;
        false
    }

    /// When [`Turned::told`] has something to tell.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.0.iter().map(|row| row.tell_at).min()
    }

    /// Hands over what has come together: a reason, how many, and the last of them. Where nothing
    /// has, the next one is news again.
    pub(super) fn told(&mut self, now: Millis, mut tell: impl FnMut(&Barred, u64, IpAddr)) {
        self.0.retain_mut(|row| {
            if row.tell_at > now {
                return true;
            }
            let untold = std::mem::take(&mut row.untold);
            row.tell_at = now.plus(BARS_LOGGED_MS);
            if untold > 0 {
                tell(&row.why, untold, row.last);
            }
            untold > 0
        });
    }
}

#[cfg(test)]
mod tests;
