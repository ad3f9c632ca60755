//! The guard alone: no sockets, and time as it is given.

use super::*;

const START: Millis = Millis(1_000_000);

fn guard() -> Guard {
    Guard::new(7)
}

fn at(n: usize) -> IpAddr {
    let bytes = u32::try_from(n).unwrap().to_be_bytes();
    IpAddr::from([10 + bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn later(ms: u64) -> Millis {
    START.plus(ms)
}

/// A stranger who comes in, hears this and goes.
fn visit(guard: &mut Guard, address: IpAddr, hears: Option<Reply>, now: Millis) {
    let mut stranger = guard.admit(address, now).unwrap();
    if let Some(reply) = hears {
        stranger.told(&reply);
    }
    guard.left(&stranger, now);
}

fn wrong() -> Option<Reply> {
    Some(Reply::Refused(Refusal::NotAuthorized("fred".into())))
}

fn slow() -> Option<Reply> {
    Some(Reply::Farewell(Farewell::SignInTooSlow { limit_s: 120 }))
}

#[test]
fn one_address_has_so_many_places_until_somebody_signs_in() {
    let mut guard = guard();
    let mut inside: Vec<Stranger> =
        (0..UNSIGNED_OF_ONE).map(|_| guard.admit(at(1), START).unwrap()).collect();
    let full = Err(Barred::TooManyOfOne { most: UNSIGNED_OF_ONE });
    assert_eq!(guard.admit(at(1), START), full);
    let neighbour = guard.admit(at(2), START).unwrap();
    guard.signed_in(&inside.pop().unwrap());
    inside.push(guard.admit(at(1), START).unwrap());
    assert_eq!(guard.admit(at(1), START), full);
    guard.left(&inside.pop().unwrap(), START);
    inside.push(guard.admit(at(1), START).unwrap());
    assert_eq!(guard.admit(at(1), START), full);
    for stranger in inside.iter().chain([&neighbour]) {
        guard.signed_in(stranger);
    }
    assert!(guard.unsigned == 0 && guard.unsigned_of.is_empty(), "nothing is kept of them");
}

#[test]
fn one_network_is_one_address() {
    let mut guard = guard();
    let address = |host: u16| format!("2001:db8:0:1::{host:x}").parse::<IpAddr>().unwrap();
    for host in 0..u16::try_from(UNSIGNED_OF_ONE).unwrap() {
        guard.admit(address(host), START).unwrap();
    }
    assert!(guard.admit(address(999), START).is_err());
    assert!(guard.admit("2001:db8:0:2::1".parse().unwrap(), START).is_ok());
}

#[test]
fn so_many_a_minute_and_then_one_at_a_time() {
    let mut guard = guard();
    let mut come = |now: Millis| {
        let stranger = guard.admit(at(1), now);
        stranger.map(|stranger| guard.signed_in(&stranger))
    };
    for _ in 0..NEW_AT_ONCE {
        assert_eq!(come(START), Ok(()));
    }
    assert_eq!(come(START), Err(Barred::TooFast));
    assert_eq!(come(later(NEW_EACH_MS - 1)), Err(Barred::TooFast));
    assert_eq!(come(later(NEW_EACH_MS)), Ok(()));
    assert_eq!(come(later(NEW_EACH_MS)), Err(Barred::TooFast), "who is refused owes no more");
    let minute = later(60_000 + NEW_EACH_MS);
    for _ in 0..NEW_AT_ONCE {
        assert_eq!(come(minute), Ok(()));
    }
    assert_eq!(come(minute), Err(Barred::TooFast));
}

#[test]
fn penalties_add_up_and_are_enforced_from_a_sum_on() {
    for (hears, each_ms) in [
        (wrong(), PENALTY_FAILED_MS),
        (None, PENALTY_NOTHING_TRIED_MS),
        (slow(), PENALTY_TOO_SLOW_MS),
    ] {
        let mut guard = guard();
        let visits = PENALTY_FROM_MS.div_ceil(each_ms);
        for _ in 0..visits {
            visit(&mut guard, at(1), hears.clone(), START);
        }
        let sum = visits * each_ms;
        let barred = |guard: &mut Guard, now| guard.admit(at(1), now).err();
        let left = |ms: u64| Some(Barred::Penalty { left_s: ms.div_ceil(1000) });
        assert_eq!(barred(&mut guard, START), left(sum), "{hears:?}");
        // Below the sum at which it began, it holds to its end.
        assert_eq!(barred(&mut guard, later(sum - 1)), left(1), "{hears:?}");
        assert_eq!(barred(&mut guard, later(sum)), None, "{hears:?}");
        assert!(guard.admit(at(2), START).is_ok(), "its neighbour pays nothing");
    }
}

#[test]
fn a_small_fault_does_not_end_a_large_penalty() {
    let mut guard = guard();
    let inside = guard.admit(at(1), START).unwrap();
    for _ in 0..3 {
        visit(&mut guard, at(1), wrong(), START);
    }
    // All but two of the fifteen seconds are over when one more comes.
    guard.left(&inside, later(13_000));
    assert_eq!(guard.admit(at(1), later(13_000)), Err(Barred::Penalty { left_s: 3 }));
    assert!(guard.admit(at(1), later(16_000)).is_ok());
}

#[test]
fn below_the_sum_nothing_is_enforced_and_time_pays_it_off() {
    let mut guard = guard();
    // Somebody who mistypes now and then is never turned away.
    for n in 0..100 {
        visit(&mut guard, at(1), wrong(), later(n * PENALTY_FAILED_MS));
    }
    assert!(guard.penalties.of.len() == 1 && guard.penalties.order.len() == 1);
}

#[test]
fn a_penalty_has_an_end() {
    let mut guard = guard();
    // Connections that were open already when the first was judged.
    let inside: Vec<Stranger> =
        (0..UNSIGNED_OF_ONE).map(|_| guard.admit(at(1), START).unwrap()).collect();
    for n in 0..4 {
        for stranger in &inside {
            let conduct = Conduct::TooSlow;
            guard.left(&Stranger { network: stranger.network, conduct }, START);
        }
        if n < 3 {
            guard.unsigned += inside.len();
            guard.unsigned_of.insert(at(1), UNSIGNED_OF_ONE);
        }
    }
    let left_s = PENALTY_MOST_MS / 1000;
    assert_eq!(guard.admit(at(1), START), Err(Barred::Penalty { left_s }));
    assert!(guard.admit(at(1), later(PENALTY_MOST_MS)).is_ok());
}

#[test]
fn what_is_nobodys_fault_costs_nothing() {
    let name = || crate::proto::name::UserName::new("fred").unwrap();
    for hears in [
        Reply::Refused(Refusal::SignInsBusy),
        Reply::Refused(Refusal::AlreadyOnline(name())),
        Reply::Probing(name()),
        Reply::Farewell(Farewell::ShuttingDown),
        Reply::Farewell(Farewell::Overload),
    ] {
        let mut guard = guard();
        for _ in 0..100 {
            visit(&mut guard, at(1), Some(hears.clone()), START);
        }
        assert!(guard.penalties.of.is_empty(), "{hears:?}");
    }
}

#[test]
fn the_cheapest_of_too_many_debts_is_forgotten() {
    let mut debts = Debts::default();
    for n in 0..SOURCES {
        debts.add(at(n), 10_000, u64::MAX, START);
    }
    // The first is not the cheapest any more.
    debts.add(at(0), 10_000, u64::MAX, START);
    for n in SOURCES..SOURCES + 10 {
        debts.add(at(n), 20_000, u64::MAX, START);
    }
    assert!(debts.of.len() == SOURCES && debts.order.len() == SOURCES);
    assert_eq!(debts.due(at(0), START), (20_000, 20_000));
    assert_eq!(debts.due(at(1), START), (0, 0), "the cheapest went");
    assert_eq!(debts.due(at(SOURCES), START), (20_000, 20_000));
    // When all have run out, each new one takes two of them along.
    for n in 0..SOURCES {
        debts.add(at(2 * SOURCES + n), 1, u64::MAX, later(30_000));
    }
    assert_eq!(debts.of.len(), SOURCES);
    debts.add(at(1), 1, u64::MAX, later(60_000));
    assert_eq!(debts.of.len(), SOURCES - 1);
}

#[test]
fn the_part_that_is_dropped_rises_in_a_straight_line() {
    let (begin, full) = (UNSIGNED_BEGIN, UNSIGNED_FULL);
    let middle = begin + (full - begin) / 2;
    for (unsigned, percent) in
        [(0, 0), (begin - 1, 0), (begin, 30), (middle, 65), (full - 1, 99), (full, 100)]
    {
        assert_eq!(drop_percent(unsigned), percent, "{unsigned}");
    }
    assert!((0..full).all(|n| drop_percent(n) <= drop_percent(n + 1)));
}

#[test]
fn early_drop_leaves_those_who_come_a_chance() {
    let mut guard = guard();
    // A crowd of addresses that never signs in.
    let (mut inside, mut dropped) = (0, 0);
    for n in 0..10_000 {
        match guard.admit(at(n), START) {
            Ok(_) => inside += 1,
            Err(Barred::EarlyDrop) => dropped += 1,
            Err(other) => panic!("{other:?}"),
        }
        if inside < UNSIGNED_BEGIN {
            assert_eq!(dropped, 0, "below the begin nobody is dropped");
        }
    }
    assert_eq!(inside, UNSIGNED_FULL, "and above the end everybody is");
    // Of those who come while half of the room is taken, a part that the odds allow gets in.
    let half = UNSIGNED_BEGIN + (UNSIGNED_FULL - UNSIGNED_BEGIN) / 2;
    let mut rolled = 0;
    for n in 0..10_000 {
        guard.unsigned = half;
        rolled += u32::from(guard.admit(at(20_000 + n), START).is_ok());
    }
    assert!((3200..3800).contains(&rolled), "{rolled} of 10,000, where 35 % were expected");
    // Another seed rolls otherwise.
    let rolls = |seed| {
        let mut guard = Guard::new(seed);
        (0..20).map(|_| guard.roll()).collect::<Vec<_>>()
    };
    assert_ne!(rolls(1), rolls(2));
}

#[test]
fn a_flood_is_one_line_and_a_number() {
    let mut turned = Turned::default();
    let told = |turned: &mut Turned, now| {
        let mut lines = vec![];
        turned.told(now, |why, count, last| lines.push((why.reason(), count, last)));
        lines
    };
    let (fast, drop) = (Barred::TooFast, Barred::EarlyDrop);
    assert!(turned.is_news(&fast, at(1), START));
    assert!((0..1000).all(|n| !turned.is_news(&fast, at(n), later(1))));
    assert!(turned.is_news(&drop, at(1), later(2)));
    assert_eq!(turned.deadline(), Some(later(BARS_LOGGED_MS)));
    assert_eq!(told(&mut turned, later(BARS_LOGGED_MS - 1)), []);
    let one = (fast.reason(), 1000, at(999));
    assert_eq!(told(&mut turned, later(BARS_LOGGED_MS)), [one]);
    // It is quiet: nothing is told, nothing is waited for, and the next one is news.
    assert_eq!(told(&mut turned, later(2 * BARS_LOGGED_MS)), []);
    assert_eq!(turned.deadline(), None);
    assert!(turned.is_news(&fast, at(1), later(2 * BARS_LOGGED_MS)));
    // How long somebody is barred makes no new reason.
    assert!(turned.is_news(&Barred::Penalty { left_s: 1 }, at(1), START));
    assert!(!turned.is_news(&Barred::Penalty { left_s: 2 }, at(1), START));
}

#[test]
fn a_penalty_that_begins_is_told_once() {
    let mut guard = Guard::new(1);
    let left = |guard: &mut Guard, conduct, now| {
        let mut stranger = guard.admit(at(1), now).ok()?;
        stranger.conduct = conduct;
        guard.left(&stranger, now)
    };
    let began: Vec<_> = (0..40).filter_map(|_| left(&mut guard, Conduct::Failed, START)).collect();
    assert_eq!(began.len(), 1, "{began:?}");
    assert_eq!(began[0].0, at(1));
    assert!(
        matches!(guard.admit(at(1), START), Err(Barred::Penalty { left_s }) if left_s == began[0].1)
    );
    // Once it is over, the next one is news.
    let over = later(PENALTY_MOST_MS + 1);
    let began: Vec<_> = (0..40).filter_map(|_| left(&mut guard, Conduct::Failed, over)).collect();
    assert_eq!(began.len(), 1);
    assert_eq!(left(&mut guard, Conduct::Excused, later(3 * PENALTY_MOST_MS)), None);
}
