//! The journal under crashes, failing disks and damaged files.
#![allow(clippy::disallowed_methods)] // figures are told with the times they took

mod support;

use mms::cli::{Code, Failure, spool};
use mms::core::record::{
    Journal, Letter, LetterId, LetterKind, Location, Recipient, Record, push_recipient, recipients,
};
use mms::limits::CUT_PIECES;
use mms::store::disk::{Disk, FileDisk, OpenError};
use mms::store::files::{Gap, segment_file};
use mms::store::ledger::{Ledger, Segment};
use mms::store::record;
use mms::store::recovery::{Recovery, SpoolError};
use mms::store::spool::{Ask, Config, Load, Spool, Sync};
use mms::store::survey::Survey;
use mms::time::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use support::rng::{Rng, seed_from_env};
use support::sim_disk::{Aftermath, Fault, SimDisk};

const UNIX_MS: u64 = 1_753_000_000_000;
const USERS: [&str; 3] = ["ann", "fred", "tim"];

/// A spool that keeps no room.
fn config(segment_bytes: u32) -> Config {
    Config { segment_bytes, spares: 0, ..Config::default() }
}

/// One that does, in small pieces.
fn roomy(segment_bytes: u32) -> Config {
    let (slack_bytes, batch_bytes) = (6000, 2000);
    Config { segment_bytes, slack_bytes, batch_bytes, fill_bytes: 4000, ..Config::default() }
}

fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    bytes.fill(7);
    Ok(())
}

/// As much of the rules as the journal's promises need.
#[derive(Clone, Debug, Default)]
struct Hub {
    waiting: BTreeMap<(String, LetterId), (Location, String)>,
    settled: BTreeMap<String, LetterId>,
    starts: Vec<u32>,
    seen: Vec<String>,
}

impl Hub {
    fn restore(&mut self, record: &Record<'_>, at: Location, ledger: &mut Ledger) {
        match record {
            Record::Letter(letter) => {
                for one in recipients(letter.to) {
                    let key = (one.name.to_owned(), letter.id);
                    if self.settled.get(one.name).is_some_and(|through| *through >= letter.id) {
                        ledger.release(at);
                    } else if let Some((old, body)) =
                        self.waiting.insert(key, (at, letter.body.to_owned()))
                    {
                        assert_eq!(body, letter.body, "a moved letter is the same letter");
                        ledger.release(old);
                    }
                }
            }
            Record::Settled { user, through } => {
                for at in self.settle(user, *through) {
                    ledger.release(at);
                }
            }
            Record::Started { epoch, .. } => self.starts.push(*epoch),
            other => self.seen.push(format!("{other:?}")),
        }
    }

    /// The places that are no longer needed.
    fn settle(&mut self, user: &str, through: LetterId) -> Vec<Location> {
        let mark = self.settled.entry(user.to_owned()).or_default();
        *mark = through.max(*mark);
        let range = (user.to_owned(), LetterId::default())..=(user.to_owned(), through);
        let keys: Vec<_> = self.waiting.range(range).map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| Some(self.waiting.remove(key)?.0)).collect()
    }

    fn answer(&mut self, ask: Ask<'_>) -> bool {
        match ask {
            Ask::Needs { user, id, at } => {
                self.waiting.get(&(user.to_owned(), id)).is_some_and(|(place, _)| *place == at)
            }
            Ask::Moved { user, id, to } => {
                self.waiting.get_mut(&(user.to_owned(), id)).expect("it is needed").0 = to;
                true
            }
        }
    }
}

/// What may and what must be there after a crash.
#[derive(Clone, Debug, Default)]
struct Promises {
    appended: BTreeMap<(String, LetterId), String>,
    confirmed: BTreeSet<(String, LetterId)>,
    /// By any Settled record, durable or not.
    settled: BTreeMap<String, LetterId>,
    settled_for_good: BTreeMap<String, LetterId>,
    epochs: BTreeSet<u32>,
}

impl Promises {
    fn check(&self, hub: &Hub) {
        for key in &self.confirmed {
            let settled = self.settled.get(&key.0).is_some_and(|through| *through >= key.1);
            assert!(settled || hub.waiting.contains_key(key), "{key:?} was confirmed and is lost");
        }
        for (key, (_, body)) in &hub.waiting {
            assert_eq!(Some(body), self.appended.get(key), "{key:?} was never appended so");
            let settled = self.settled_for_good.get(&key.0);
            assert!(settled.is_none_or(|through| *through < key.1), "{key:?} was settled for good");
        }
    }
}

/// A spool with its hub, as the engine runs them.
struct Server<D: Disk> {
    spool: Spool<D>,
    hub: Hub,
    recovery: Recovery,
    seq: u32,
    /// Settled in this life.
    settled: BTreeMap<String, LetterId>,
    now: Millis,
    /// Letters that found no room.
    refused: u32,
}

impl<D: Disk> Server<D> {
    fn open(disk: D, config: Config) -> Result<Self, SpoolError> {
        let mut hub = Hub::default();
        let (spool, recovery) =
            Spool::open(disk, config, UNIX_MS, &mut entropy, &mut |record, at, ledger| {
                hub.restore(record, at, ledger);
            })?;
        let settled = BTreeMap::new();
        let now = Millis(0);
        let server = Self { spool, hub, recovery, seq: 0, settled, now, refused: 0 };
        server.check_ledger();
        Ok(server)
    }

    /// The ledger counts what the hub needs, no more and no less.
    fn check_ledger(&self) {
        let mut needed: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
        for (at, _) in self.hub.waiting.values() {
            needed.entry(at.segment).or_default().insert(at.offset, at.record_bytes);
        }
        for segment in self.spool.ledger().segments() {
            let needed = needed.remove(&segment.number).unwrap_or_default();
            let live_letters = needed.len() as u32;
            let live_bytes = needed.values().map(|bytes| u64::from(*bytes)).sum();
            assert_eq!(*segment, Segment { live_letters, live_bytes, ..*segment });
        }
        assert!(needed.is_empty(), "letters in segments that are gone: {needed:?}");
    }

    fn send(&mut self, to: &[&str], body: &str) -> LetterId {
        self.spool.make_way();
        self.seq += 1;
        let id = LetterId { epoch: self.spool.epoch(), seq: self.seq };
        let mut list = String::new();
        for name in to {
            push_recipient(&mut list, Recipient { name, offered: self.seq.is_multiple_of(2) });
        }
        let kind = LetterKind::Direct;
        let letter = Letter { id, unix_ms: UNIX_MS, kind, key: None, from: "bob", to: &list, body };
        let at = self.spool.append(&Record::Letter(letter));
        for name in to {
            self.hub.waiting.insert(((*name).to_owned(), id), (at, body.to_owned()));
        }
        id
    }

    fn settle(&mut self, user: &str, through: LetterId) {
        self.spool.make_way();
        self.spool.append(&Record::Settled { user, through });
        for at in self.hub.settle(user, through) {
            self.spool.release(at);
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        if self.spool.compact_due() {
            self.spool.compact_step(&mut |ask| self.hub.answer(ask))?;
        }
        Ok(())
    }

    fn body(&mut self, user: &str, id: LetterId) -> io::Result<String> {
        let at = self.hub.waiting[&(user.to_owned(), id)].0;
        Ok(self.spool.body(at)?.to_owned())
    }

    /// What comes before an event.
    fn begin(&mut self) {
        self.spool.make_way();
        if self.spool.roll_due() {
            self.spool.append(&Record::Alive { unix_ms: UNIX_MS });
            self.spool.repeated();
        }
    }

    /// What comes at the end of a turn.
    fn prepare(&mut self) -> io::Result<()> {
        self.now = self.now.plus(1000);
        let load = if self.seq.is_multiple_of(3) { Load::Busy } else { Load::Idle };
        self.spool.prepare(self.now, load)?;
        Ok(())
    }

    /// A turn in which a mark is written, long enough after the last one to ask a full disk again.
    fn turn_of_a_mark(&mut self) {
        self.begin();
        self.spool.append(&Record::SignedIn { user: "ann", unix_ms: UNIX_MS });
        self.compact().unwrap();
        self.spool.commit().unwrap();
        self.now = self.now.plus(10_000);
        self.spool.prepare(self.now, Load::Idle).unwrap();
    }

    /// One turn of a script; what it promises goes into `promises`.
    fn turn(&mut self, rng: &mut Rng, promises: &mut Promises) -> io::Result<()> {
        let mut sent = Vec::new();
        for _ in 0..rng.below(4) {
            self.begin();
            // What nobody takes must be copied; everything else goes with its segment.
            let to = if rng.one_in(12) { &["zoe"][..] } else { &USERS[rng.below(3)..] };
            let body = random_body(rng);
            if !self.spool.has_room(200 + body.len()) {
                self.refused += 1;
                continue;
            }
            let id = self.send(to, &body);
            for name in to {
                promises.appended.insert(((*name).to_owned(), id), body.clone());
                sent.push(((*name).to_owned(), id));
            }
        }
        self.begin();
        if rng.one_in(3) {
            let user = *rng.pick(&USERS);
            let mine: Vec<_> = self.hub.waiting.keys().filter(|key| key.0 == user).collect();
            if !mine.is_empty() {
                let through = mine[rng.below(mine.len())].1;
                // A lost Settled record may still have let a segment go.
                let mark = promises.settled.entry(user.to_owned()).or_default();
                *mark = through.max(*mark);
                self.settled.insert(user.to_owned(), through);
                self.settle(user, through);
            }
        }
        if rng.one_in(4) {
            self.spool.append(&Record::SignedIn { user: "ann", unix_ms: UNIX_MS });
        }
        for _ in 0..=rng.below(3) {
            self.compact()?;
        }
        self.spool.commit()?;
        if !sent.is_empty() {
            promises.settled_for_good.extend(self.settled.clone());
            promises.epochs.insert(self.spool.epoch());
        }
        promises.confirmed.extend(sent);
        self.check_ledger();
        if let Some(key) = self.hub.waiting.keys().nth(rng.below(9)).cloned() {
            assert_eq!(self.body(&key.0, key.1)?, self.hub.waiting[&key].1);
        }
        self.prepare()
    }

    /// A whole life; true if it ended in order.
    fn live(
        disk: D,
        config: Config,
        turns: usize,
        rng: &mut Rng,
        promises: &mut Promises,
    ) -> Result<Recovery, SpoolError> {
        let mut server = Self::open(disk, config)?;
        promises.check(&server.hub);
        let last = promises.epochs.last().copied().unwrap_or_default();
        assert!(server.spool.epoch() > last, "an epoch is never used twice");
        for _ in 0..turns {
            server.turn(rng, promises)?;
        }
        server.spool.stop(UNIX_MS)?;
        Ok(server.recovery)
    }
}

fn random_body(rng: &mut Rng) -> String {
    let length = if rng.one_in(8) { 700 } else { rng.below(90) };
    (0..length).map(|_| *rng.pick(&['a', '=', ' ', '\n', '\t', 'ä', 'L', '0'])).collect()
}

/// A server that has stopped in order after the given letters to fred, each a commit.
fn stopped_spool(letters: u32) -> SimDisk {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    for n in 1..=letters {
        server.send(&["fred"], &format!("letter {n}"));
        server.spool.commit().unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    disk
}

fn seqs(hub: &Hub) -> Vec<u32> {
    hub.waiting.keys().map(|key| key.1.seq).collect()
}

#[test]
fn letters_are_there_after_a_restart() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    assert!(server.recovery.new);
    let (name, secret, epoch) = (server.spool.name(), *server.spool.secret(), server.spool.epoch());
    let first = server.send(&["fred", "tim"], "two\nlines\tand a tab");
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab", "before the commit");
    server.spool.commit().unwrap();
    let steps = disk.steps();
    server.spool.commit().unwrap();
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab");
    assert_eq!(disk.steps(), steps, "neither asked the disk for anything");
    let second = server.send(&["tim"], "");
    server.settle("fred", first);
    server.spool.commit().unwrap();
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab", "from the disk");
    server.spool.stop(UNIX_MS).unwrap();

    let mut again = Server::open(disk.clone(), config(1 << 20)).unwrap();
    assert_eq!(again.recovery.lines, [""; 0]);
    assert!(again.recovery.stopped_in_order && !again.recovery.new);
    assert_eq!((again.spool.name(), again.spool.secret()), (name, &secret));
    assert!(again.spool.epoch() > epoch);
    assert_eq!(again.hub.starts, [epoch]);
    let keys: Vec<_> = again.hub.waiting.keys().cloned().collect();
    assert_eq!(keys, [("tim".to_owned(), first), ("tim".to_owned(), second)]);
    let letter = again.spool.letter(again.hub.waiting[&keys[0]].0).unwrap();
    assert_eq!((letter.from, letter.unix_ms, letter.id), ("bob", UNIX_MS, first));
    assert_eq!(letter.body, "two\nlines\tand a tab");
}

#[test]
fn a_turn_is_one_write_and_at_most_one_sync() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    let before = (disk.writes(), disk.syncs());
    for _ in 0..100 {
        server.send(&["fred"], "hello");
    }
    server.spool.commit().unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (before.0 + 1, before.1 + 1));
    server.spool.append(&Record::SignedIn { user: "tim", unix_ms: UNIX_MS });
    server.spool.commit().unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (before.0 + 2, before.1 + 1), "nothing promised");

    let never = Config { sync: Sync::Never, ..config(200) };
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), never).unwrap();
    let before = disk.syncs();
    for _ in 0..10 {
        server.send(&["fred"], "hello");
        server.spool.commit().unwrap();
    }
    assert_eq!(disk.syncs(), before);
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_itself() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    server.send(&["fred"], "kept");
    server.spool.commit().unwrap();
    let kept = disk.contents()[&segment_file(1)].len();
    server.send(&["fred"], "first of the last batch");
    let middle = {
        let at = server.hub.waiting.values().map(|(at, _)| *at).max_by_key(|at| at.offset);
        at.map_or(0, |at| (at.offset + at.record_bytes) as usize)
    };
    server.send(&["fred"], "second of the last batch");
    server.spool.commit().unwrap();
    let whole = disk.contents()[&segment_file(1)].len();
    for cut in kept..whole {
        for fill in [0, 40] {
            let disk = disk.fork();
            disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
            disk.damage(&segment_file(1), |bytes| {
                bytes.truncate(cut);
                bytes.resize(cut + fill, 0);
            });
            let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
            let left: &[u32] = if cut < middle { &[1] } else { &[1, 2] };
            assert_eq!(seqs(&server.hub), left, "cut at {cut}");
            let whole_end = if cut < middle { kept } else { middle };
            // Zeros at the end are room that was never used.
            let torn = (cut - whole_end) as u64;
            assert_eq!((server.recovery.torn_bytes, server.recovery.lost_bytes), (torn, 0));
            assert_eq!(server.recovery.lines.len(), usize::from(torn > 0));
            assert!(server.recovery.quarantined.is_empty());
            assert!(torn == 0 || server.recovery.lines[0].contains("may have been confirmed"));
            drop(server);
            disk.restart(Aftermath::LoseAll, &mut Rng::new(0));
            let server = Server::open(disk, config(1 << 20)).unwrap();
            assert_eq!(server.recovery.lines, [""; 0], "the repair lasts");
            assert_eq!(seqs(&server.hub), left);
        }
    }
}

#[test]
fn a_flipped_byte_in_an_early_record_costs_that_record() {
    let disk = stopped_spool(4);
    let places: Vec<Location> = {
        let server = Server::open(disk.fork(), config(1 << 20)).unwrap();
        server.hub.waiting.values().map(|(at, _)| *at).collect()
    };
    let second = places[1];
    for byte in second.offset..second.offset + second.record_bytes {
        for mask in [1, 0x20, 0x80] {
            let disk = disk.fork();
            let before = disk.contents()[&segment_file(1)].clone();
            disk.damage(&segment_file(1), |bytes| bytes[byte as usize] ^= mask);
            let damaged = disk.contents()[&segment_file(1)].clone();
            let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
            assert_eq!(seqs(&server.hub), [1, 3, 4], "byte {byte}");
            let found = server.recovery.clone();
            assert_eq!(found.lost_bytes, u64::from(second.record_bytes));
            assert_eq!(found.salvaged, 5, "an epoch, three letters, an end");
            assert_eq!(disk.contents()[&found.quarantined[0]], damaged);
            assert!(found.lines[0].contains("had been confirmed"), "{:?}", found.lines);
            for (key, (_, body)) in server.hub.waiting.clone() {
                assert_eq!(server.body("fred", key.1).unwrap(), body);
            }
            assert!(before.len() > damaged.len() - second.record_bytes as usize);
            server.spool.stop(UNIX_MS).unwrap();
            let again = Server::open(disk, config(1 << 20)).unwrap();
            assert_eq!((seqs(&again.hub), again.recovery.lines.len()), (vec![1, 3, 4], 0));
        }
    }
}

#[test]
fn a_crash_in_a_repair_keeps_the_evidence() {
    let disk = stopped_spool(4);
    disk.damage(&segment_file(1), |bytes| bytes[200] ^= 1);
    let damaged = disk.contents()[&segment_file(1)].clone();
    let mut rng = Rng::from_env(3);
    for step in 1..=20 {
        for _ in 0..20 {
            let disk = disk.fork();
            disk.crash_at(disk.steps() + step);
            let first = Server::open(disk.clone(), config(1 << 20));
            assert!(first.is_err() || step > 15, "step {step} is in the repair");
            disk.restart(Aftermath::Torn, &mut rng);
            let again = Server::open(disk.clone(), config(1 << 20)).unwrap();
            assert_eq!(again.hub.waiting.len(), 3);
            let kept = disk
                .contents()
                .iter()
                .any(|(name, bytes)| name.starts_with("quarantine-") && *bytes == damaged);
            assert!(kept, "step {step}");
        }
    }
}

#[test]
fn damage_names_the_letters_that_can_be_read() {
    let disk = stopped_spool(3);
    let text = b"letter 2";
    disk.damage(&segment_file(1), |bytes| {
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    });
    let server = Server::open(disk, config(1 << 20)).unwrap();
    let epoch = server.hub.starts[0];
    assert_eq!(server.recovery.damaged_ids, [LetterId { epoch, seq: 2 }]);
    assert!(server.recovery.lines[0].contains(&format!("{epoch}.2")));
}

#[test]
fn what_stands_behind_an_orderly_stop_was_never_confirmed() {
    let disk = stopped_spool(2);
    disk.damage(&segment_file(1), |bytes| bytes.extend_from_slice(b"=L rubbish"));
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert_eq!(server.recovery.torn_bytes, 10);
    assert!(server.recovery.lines[0].contains("nothing of it was ever confirmed"));
    assert!(!server.recovery.stopped_in_order);
}

#[test]
fn damage_before_an_orderly_stop_is_a_loss() {
    let disk = stopped_spool(2);
    let at =
        Server::open(disk.fork(), config(1 << 20)).unwrap().hub.waiting.values().last().unwrap().0;
    disk.damage(&segment_file(1), |bytes| bytes[at.offset as usize..][..40].fill(0));
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert_eq!(server.recovery.lost_bytes, u64::from(at.record_bytes));
    assert_eq!(seqs(&server.hub), [1]);
}

#[test]
fn a_damaged_header_keeps_the_name_and_every_letter() {
    let disk = stopped_spool(2);
    let name = Server::open(disk.fork(), config(1 << 20)).unwrap().spool.name();
    for byte in 0..60 {
        let disk = disk.fork();
        disk.damage(&segment_file(1), |bytes| bytes[byte] ^= 1);
        let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
        assert_eq!(seqs(&server.hub), [1, 2], "byte {byte}");
        assert!(!server.recovery.lines.is_empty());
        let in_the_name = (36..52).contains(&byte);
        assert!(in_the_name || server.spool.name() == name, "byte {byte}");
    }
}

#[test]
fn a_spool_whose_name_is_lost_gets_one_and_keeps_it() {
    let disk = stopped_spool(2);
    disk.damage(&segment_file(1), |bytes| bytes[..60].fill(0));
    let open = || Server::open(disk.clone(), config(1 << 20)).unwrap();
    let names = [open().spool.name(), open().spool.name()];
    assert_eq!(names, [0x0707_0707_0707_0707; 2], "drawn, and written into the new header");
}

#[test]
fn a_journal_that_is_gone_is_told() {
    let disk = stopped_spool(2);
    let first = Server::open(SimDisk::new(), config(1 << 20)).unwrap();
    assert_eq!(first.recovery.lines, [""; 0]);
    let empty = disk.fork();
    empty.damage(&segment_file(1), Vec::clear);
    disk.take(&segment_file(1));
    for (disk, new) in [(disk, true), (empty, false)] {
        let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
        assert_eq!(server.recovery.new, new);
        assert!(server.recovery.lines[0].contains("there is no journal"), "{:?}", server.recovery);
        let again = Server::open(disk, config(1 << 20)).unwrap();
        assert_eq!(again.recovery.lines, [""; 0]);
    }
}

#[test]
fn a_crash_at_every_step_loses_nothing_confirmed() {
    crash_everywhere(config(1200), 60, &SimDisk::new(), 1);
}

#[test]
fn a_crash_at_every_step_of_making_room_loses_nothing_confirmed() {
    crash_everywhere(roomy(1200), 50, &SimDisk::new(), 7);
}

#[test]
fn a_crash_at_every_step_of_giving_room_back_loses_nothing_confirmed() {
    // The turns behind the backlog take it all, and segment after segment goes.
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), roomy(1200)).unwrap();
    for _ in 0..60 {
        server.begin();
        server.send(&["ann", "fred", "tim"], &"x".repeat(100));
        server.spool.commit().unwrap();
        server.prepare().unwrap();
    }
    for user in USERS {
        server.begin();
        let last = LetterId { epoch: server.spool.epoch(), seq: server.seq };
        server.settle(user, last);
    }
    server.spool.stop(UNIX_MS).unwrap();
    crash_everywhere(roomy(1200), 25, &disk, 11);
}

#[test]
fn a_crash_at_every_step_on_a_full_disk_loses_nothing_confirmed() {
    crash_everywhere(roomy(1200), 60, &full_disk(), 5);
}

/// A crash at each step, and then another at each step of the recovery: at each `stride`-th, but
/// not always the same ones.
fn crash_everywhere(config: Config, turns: usize, fresh: &SimDisk, stride: usize) {
    let seed = seed_from_env(1);
    let mut rng = Rng::new(seed);
    let total = {
        let disk = fresh.fork();
        let mut promises = Promises::default();
        let script = &mut rng.clone();
        Server::live(disk.clone(), config, turns, script, &mut promises).unwrap();
        let names = disk.contents();
        assert!(!names.contains_key(&segment_file(1)), "the script compacts: {:?}", names.keys());
        disk.steps()
    };
    println!("MMS_SEED={seed}, {total} steps");
    let script = rng.clone();
    let mut tested = None;
    for at in fresh.steps() + 1..=total {
        let other = [Aftermath::ProcessOnly, Aftermath::KeepAll][at as usize % 2];
        let crashed = fresh.fork();
        let mut promises = Promises::default();
        crashed.crash_at(at);
        let script = &mut script.clone();
        let end = Server::live(crashed.clone(), config, turns, script, &mut promises);
        assert!(end.is_err() && crashed.crashed(), "step {at} of {total}");
        // A crash while something is read leaves the disk of the crash before it.
        if tested.replace(crashed.effects()) == Some(crashed.effects()) {
            continue;
        }
        for aftermath in [Aftermath::Torn, if at % 4 < 2 { Aftermath::LoseAll } else { other }] {
            let disk = crashed.fork();
            disk.restart(aftermath, &mut rng);
            let seconds = (1 + at % stride as u64..).step_by(stride);
            crash_again(&disk, config, &promises, &mut rng, seconds);
        }
    }
}

/// Recovers, with a second crash at these steps of the recovery and somewhat beyond, and lives on.
fn crash_again(
    disk: &SimDisk,
    config: Config,
    promises: &Promises,
    rng: &mut Rng,
    seconds: impl Iterator<Item = u64>,
) {
    let mut tested = None;
    for again in seconds {
        let (disk, mut promises) = (disk.fork(), promises.clone());
        disk.crash_at(disk.steps() + again);
        let end = Server::live(disk.clone(), config, 2, rng, &mut promises);
        let crashed = end.is_err();
        assert_eq!(crashed, disk.crashed(), "{end:?}");
        if tested.replace(disk.effects()) == Some(disk.effects()) && crashed {
            continue;
        }
        disk.restart(*rng.pick(&[Aftermath::LoseAll, Aftermath::Torn, Aftermath::KeepAll]), rng);
        assert_eq!(disk.twins(), [""; 0], "again {again}");
        let tell = |e: &SpoolError| {
            let files = disk.contents();
            let files = files.iter().map(|(n, b)| (n, b.len(), b.iter().rposition(|b| *b != 0)));
            panic!("{e:?} again {again}: {:?}, {:?}", disk.free(), files.collect::<Vec<_>>())
        };
        let found = Server::live(disk.clone(), config, 0, rng, &mut promises);
        let found = found.inspect_err(tell).unwrap();
        assert_eq!((found.lost_bytes, &found.missing), (0, &vec![]), "{:?}", found.lines);
        let clean = Server::live(disk.clone(), config, 0, rng, &mut promises).unwrap();
        assert_eq!(clean.lines, [""; 0], "a recovery is whole");
        for (name, bytes) in disk.contents() {
            let zeros = bytes.iter().all(|byte| *byte == 0);
            assert!(zeros || !name.starts_with("ready-"), "{name} holds something");
        }
        if !crashed {
            return;
        }
    }
}

#[test]
fn a_power_cut_behind_the_end_of_a_process_leaves_no_file_with_two_names() {
    // What the process did to names is seen by the next one, and not durable yet.
    let (config, turns, mut rng) = (roomy(1200), 30, Rng::from_env(3));
    let script = rng.clone();
    let live = |disk: &SimDisk, turns, promises: &mut Promises| {
        Server::live(disk.clone(), config, turns, &mut script.clone(), promises)
    };
    let total = {
        let disk = SimDisk::new();
        live(&disk, turns, &mut Promises::default()).unwrap();
        disk.steps()
    };
    for at in 1..=total {
        let (disk, mut promises) = (SimDisk::new(), Promises::default());
        disk.crash_at(at);
        live(&disk, turns, &mut promises).unwrap_err();
        disk.restart(Aftermath::ProcessOnly, &mut rng);
        for again in 1.. {
            let disk = disk.fork();
            disk.crash_at(disk.steps() + again);
            let end = live(&disk, 0, &mut promises.clone());
            for _ in 0..4 {
                let disk = disk.fork();
                disk.restart(Aftermath::Torn, &mut rng);
                assert_eq!(disk.twins(), [""; 0], "step {at}, then {again}");
            }
            if end.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_failure_at_every_step_gives_no_false_ok() {
    assert_eq!(fail_everywhere(config(1200), 40, &SimDisk::new()), 0, "none is survived");
}

#[test]
fn a_failure_at_every_step_of_making_room_gives_no_false_ok() {
    let survived = fail_everywhere(roomy(1200), 40, &SimDisk::new());
    assert!(survived > 0, "a disk that is full when room is made is lived with");
}

#[test]
fn a_failure_at_every_step_on_a_full_disk_gives_no_false_ok() {
    fail_everywhere(roomy(1200), 40, &full_disk());
}

/// Returns how often a disk that had no more room was lived with.
fn fail_everywhere(config: Config, turns: usize, fresh: &SimDisk) -> u32 {
    let script = Rng::from_env(2);
    let mut rng = script.clone();
    let live = |disk: SimDisk, turns, rng: &mut Rng, promises: &mut Promises| {
        Server::live(disk, config, turns, rng, promises)
    };
    let total = {
        let disk = fresh.fork();
        live(disk.clone(), turns, &mut script.clone(), &mut Promises::default()).unwrap();
        disk.steps()
    };
    let mut survived = 0;
    for at in fresh.steps() + 1..=total {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            for fault in [Fault::Once(kind), Fault::ForGood(kind)] {
                let disk = fresh.fork();
                let mut promises = Promises::default();
                disk.fail_at(at, fault);
                let end = live(disk.clone(), turns, &mut script.clone(), &mut promises);
                assert!(
                    end.is_err() || kind == io::ErrorKind::StorageFull,
                    "the failure of step {at} was not told"
                );
                survived += u32::from(end.is_ok());
                // The process ends and starts again; then the power goes.
                disk.restart(Aftermath::ProcessOnly, &mut rng);
                live(disk.clone(), 2, &mut rng, &mut promises).unwrap();
                disk.restart(Aftermath::LoseAll, &mut rng);
                let found = live(disk, 0, &mut rng, &mut promises).unwrap();
                assert_eq!((found.lost_bytes, found.torn_bytes), (0, 0), "{:?}", found.lines);
            }
        }
    }
    survived
}

/// A disk on which a spool has all its room ready, and nothing more is to be had.
fn full_disk() -> SimDisk {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), roomy(1200)).unwrap();
    while server.spool.prepare_at().is_some() {
        server.spool.prepare(Millis(0), Load::Idle).unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    disk.set_free(Some(0));
    disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
    disk
}

#[test]
fn after_a_failure_nothing_is_written_any_more() {
    for step in 1..=2 {
        let disk = SimDisk::new();
        let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
        server.send(&["fred"], "hello");
        disk.fail_at(disk.steps() + step, Fault::Once(io::ErrorKind::Other));
        server.spool.commit().unwrap_err();
        let steps = disk.steps();
        let told = server.spool.commit().unwrap_err().to_string();
        assert!(told.starts_with("the journal failed before"), "{told}");
        server.spool.stop(UNIX_MS).unwrap_err();
        assert_eq!(disk.steps(), steps, "a failed sync is never tried again");
    }
}

#[test]
fn an_epoch_is_not_used_again_when_the_tail_is_lost() {
    let disk = stopped_spool(1);
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    let lost = server.spool.epoch();
    server.send(&["fred"], "x");
    server.spool.commit().unwrap();
    // The record that began the epoch is damaged, and the letter behind it too; all in a second.
    disk.damage(&segment_file(1), |all| {
        let keep = all.len() - 150;
        all[keep..].fill(0);
    });
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert!(!server.hub.starts.contains(&lost), "the loss is as meant");
    assert!(server.spool.epoch() > lost);
}

#[test]
fn compaction_keeps_what_waits_and_frees_the_rest() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(4000)).unwrap();
    let kept = server.send(&["fred", "tim"], "keep me\nfor tim");
    for n in 0..400 {
        let id = server.send(&["ann", "fred"], "a text of some length to fill the segment with");
        server.spool.commit().unwrap();
        server.settle("ann", id);
        server.settle("fred", id);
        if n % 3 == 0 {
            server.compact().unwrap();
        }
        server.check_ledger();
    }
    for _ in 0..100 {
        server.compact().unwrap();
        server.spool.commit().unwrap();
    }
    let (all, live) = server.spool.ledger().bytes();
    assert!(all <= 2 * live + 2 * 4000 + 500, "{all} bytes for {live}");
    let names: Vec<String> = disk.contents().into_keys().collect();
    assert!(names.len() <= 5, "{names:?}");
    assert_eq!(server.body("tim", kept).unwrap(), "keep me\nfor tim");
    let at = server.hub.waiting[&("tim".to_owned(), kept)].0;
    let letter = server.spool.letter(at).unwrap();
    assert_eq!((letter.id, letter.unix_ms, letter.to), (kept, UNIX_MS, "tim"));
    server.spool.stop(UNIX_MS).unwrap();
    let again = Server::open(disk, config(4000)).unwrap();
    assert_eq!(again.hub.waiting.keys().collect::<Vec<_>>(), [&("tim".to_owned(), kept)]);
    assert_eq!(again.hub.starts, [kept.epoch], "each segment repeats the epoch; shown once");
}

#[test]
fn a_journal_that_is_drained_as_it_is_written_makes_and_removes_no_files() {
    let (disk, config) = (SimDisk::new(), in_proportion());
    let mut server = Server::open(disk.clone(), config).unwrap();
    let (mut made, mut names) = (0, 0);
    for n in 0..600 {
        server.begin();
        let id = server.send(&["fred"], &"x".repeat(400));
        server.settle("fred", id);
        server.compact().unwrap();
        server.spool.commit().unwrap();
        server.prepare().unwrap();
        if n == 100 {
            (made, names) = (disk.made(), disk.contents().len());
        }
    }
    let oldest = server.spool.ledger().oldest().unwrap().number;
    assert!(oldest > 20, "segments come and go: {oldest}");
    assert_eq!((disk.made(), disk.contents().len()), (made, names));
}

#[test]
fn the_room_of_a_backlog_is_given_back_piece_by_piece() {
    // Where nothing is synced, a file is cheaper to make than to use again.
    for (sync, ready) in [(Sync::Always, 4), (Sync::Never, 2)] {
        give_back(Config { sync, ..in_proportion() }, ready);
    }
}

fn give_back(config: Config, ready: usize) {
    let disk = SimDisk::new();
    let piece = config.fill_bytes * CUT_PIECES;
    let mut server = Server::open(disk.clone(), config).unwrap();
    let mut last = LetterId::default();
    for _ in 0..600 {
        server.begin();
        last = server.send(&["fred"], &"x".repeat(400));
        server.spool.commit().unwrap();
        server.prepare().unwrap();
    }
    assert!(server.spool.ledger().segments().count() > 10);
    server.begin();
    server.settle("fred", last);
    server.spool.commit().unwrap();
    let bytes = || disk.contents().values().map(Vec::len).sum::<usize>();
    let before = bytes();
    while server.spool.compact_due() || server.spool.prepare_at().is_some() {
        let turn = bytes();
        server.compact().unwrap();
        server.spool.commit().unwrap();
        assert!(bytes() >= turn, "nothing is given back while somebody waits");
        server.now = server.now.plus(1000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
        assert!(bytes() + piece >= turn, "{} bytes at once", turn - bytes());
    }
    assert!(bytes() < before / 2, "{} of {before} bytes are left", bytes());
    let of_kind = |kind| disk.contents().keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!((of_kind("ready-"), of_kind("recycled-"), of_kind("journal-")), (ready, 0, 1));
}

#[test]
fn a_copied_letter_keeps_the_mark_of_who_was_shown_it() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk, config(300)).unwrap();
    server.seq = 1;
    let id = server.send(&["fred", "tim"], "shown to both");
    server.settle("fred", id);
    server.spool.commit().unwrap();
    for _ in 0..10 {
        let more = server.send(&["ann"], &"x".repeat(200));
        server.settle("ann", more);
        server.compact().unwrap();
        server.spool.commit().unwrap();
    }
    let at = server.hub.waiting[&("tim".to_owned(), id)].0;
    assert!(at.segment > 1);
    assert_eq!(server.spool.letter(at).unwrap().to, "+tim");
}

#[test]
fn what_is_read_ahead_ends_where_the_journal_does() {
    let mut server = Server::open(SimDisk::new(), roomy(1 << 20)).unwrap();
    let turn = |server: &mut Server<SimDisk>, bodies: &[&str]| -> Vec<LetterId> {
        let ids = bodies.iter().map(|body| server.send(&["fred"], body)).collect();
        server.spool.commit().unwrap();
        ids
    };
    // Not in memory any more is what is older than the last turn.
    let mut ids = turn(&mut server, &["one", "two"]);
    ids.extend(turn(&mut server, &["three"]));
    assert_eq!(server.body("fred", ids[0]).unwrap(), "one");
    assert_eq!(server.body("fred", ids[1]).unwrap(), "two", "and what is behind it is read ahead");
    ids.extend(turn(&mut server, &["four", "five"]));
    ids.extend(turn(&mut server, &["six"]));
    let told = ["one", "two", "three", "four", "five", "six"];
    for n in [3, 4, 5, 0, 1, 2, 3, 5, 4, 3, 2, 1, 0] {
        assert_eq!(server.body("fred", ids[n]).unwrap(), told[n]);
    }
}

#[test]
fn a_missing_segment_is_a_loss_that_is_told() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(200)).unwrap();
    for _ in 0..4 {
        server.send(&["fred"], &"x".repeat(200));
        server.spool.commit().unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    disk.take(&segment_file(2));
    let server = Server::open(disk, config(200)).unwrap();
    assert_eq!(server.recovery.missing, [Gap { first: 2, last: 2 }]);
    assert!(server.recovery.lines[0].contains("journal-0000000002.log is missing"));
    assert_eq!(seqs(&server.hub), [1, 3, 4]);
}

/// A journal from which two segments were taken, and what is missing then.
fn journal_with_a_gap(config: Config) -> (SimDisk, Gap) {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config).unwrap();
    for _ in 0..7 {
        server.begin();
        server.send(&["fred"], &"x".repeat(300));
        server.send(&["fred"], &"x".repeat(700));
        server.spool.commit().unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    for number in [3, 4] {
        disk.take(&segment_file(number));
    }
    (disk, Gap { first: 3, last: 4 })
}

#[test]
fn a_gap_is_told_until_that_is_noted() {
    for config in [config(900), roomy(900)] {
        let (fresh, gap) = journal_with_a_gap(config);
        let survey = Survey::take(&mut fresh.clone()).unwrap();
        assert_eq!((survey.missing, survey.told), (vec![gap], vec![]));
        let mut noted = 0;
        for (step, aftermath) in (1..200).flat_map(|step| {
            [Aftermath::LoseAll, Aftermath::Torn, Aftermath::KeepAll].map(|after| (step, after))
        }) {
            let disk = fresh.fork();
            disk.crash_at(disk.steps() + step);
            let mut told = false;
            if let Ok(mut server) = Server::open(disk.clone(), config) {
                told = server.recovery.missing == [gap];
                assert!(told, "step {step}: it is told in the log by then");
                noted += usize::from(server.spool.gaps_told(&[gap]).is_ok());
            }
            disk.restart(aftermath, &mut Rng::new(step));
            let found = Server::open(disk.clone(), config).unwrap().recovery;
            let lines = &found.lines;
            assert_eq!(lines.is_empty(), found.missing.is_empty(), "step {step}: {lines:?}");
            assert!(told || found.missing == [gap], "step {step}: nobody was told");
        }
        assert!(noted > 0, "some starts are not cut");
        // More is missing than was told.
        let mut server = Server::open(fresh.clone(), config).unwrap();
        server.spool.gaps_told(&server.recovery.missing).unwrap();
        server.spool.stop(UNIX_MS).unwrap();
        let survey = Survey::take(&mut fresh.clone()).unwrap();
        assert_eq!((survey.missing, survey.told), (vec![], vec![gap]));
        assert_eq!(Server::open(fresh.clone(), config).unwrap().recovery.lines, [""; 0]);
        fresh.take(&segment_file(5));
        let found = Server::open(fresh.clone(), config).unwrap().recovery;
        assert_eq!(found.missing, [Gap { first: 3, last: 5 }]);
    }
}

#[test]
fn a_gap_that_was_told_goes_with_what_stands_before_it() {
    let config = roomy(900);
    let (disk, gap) = journal_with_a_gap(config);
    let mut server = Server::open(disk.clone(), config).unwrap();
    server.spool.gaps_told(&[gap]).unwrap();
    let last = *server.hub.waiting.keys().map(|(_, id)| id).max().unwrap();
    server.begin();
    server.settle("fred", last);
    for _ in 0..60 {
        server.begin();
        let id = server.send(&["ann"], &"x".repeat(300));
        server.spool.commit().unwrap();
        server.settle("ann", id);
        server.compact().unwrap();
        server.spool.commit().unwrap();
        server.prepare().unwrap();
        let survey = Survey::take(&mut disk.clone()).unwrap();
        assert_eq!(survey.missing, []);
        let before = server.spool.ledger().oldest().unwrap().number < gap.first;
        assert_eq!(survey.told.is_empty(), !before);
    }
    assert!(server.spool.ledger().oldest().unwrap().number > gap.last);
    let again = Server::open(disk, config).unwrap();
    assert_eq!(again.recovery.lines, [""; 0]);
}

#[test]
fn zeroed_emptied_and_foreign_files() {
    let make = || {
        let disk = SimDisk::new();
        let mut server = Server::open(disk.clone(), config(200)).unwrap();
        for _ in 0..4 {
            server.send(&["fred"], &"x".repeat(200));
            server.spool.commit().unwrap();
        }
        server.spool.stop(UNIX_MS).unwrap();
        disk
    };
    for (number, left) in [(1, [2, 3, 4]), (2, [1, 3, 4]), (4, [1, 2, 3])] {
        for zeroed in [true, false] {
            let disk = make();
            disk.damage(
                &segment_file(number),
                |bytes| {
                    if zeroed { bytes.fill(0) } else { bytes.clear() }
                },
            );
            let server = Server::open(disk.clone(), config(200)).unwrap();
            assert_eq!(seqs(&server.hub), left);
            // A newest file that is empty is what a crash leaves behind. All else is told, also one
            // full of zeros, although a crash may leave that, too.
            assert_eq!(server.recovery.lines.is_empty(), number == 4 && !zeroed);
            assert_eq!(server.recovery.quarantined.is_empty(), number == 4);
            let again = Server::open(disk, config(200));
            assert_eq!(again.unwrap().recovery.lines, [""; 0]);
        }
    }
    let disk = make();
    disk.put("notes.txt", b"mine");
    disk.put("journal-5.log", b"not ours either");
    disk.put("journal-0000000002.tmp", b"half a repair");
    let server = Server::open(disk.clone(), config(200)).unwrap();
    assert_eq!(server.recovery.foreign, ["journal-5.log", "notes.txt"]);
    assert_eq!(server.recovery.lines.len(), 1);
    assert_eq!(disk.contents()["notes.txt"], b"mine");
    assert!(!disk.contents().contains_key("journal-0000000002.tmp"));
}

#[test]
fn a_segment_that_lost_its_end_is_a_loss_that_is_told_once() {
    for zeroed in [true, false] {
        let disk = SimDisk::new();
        let mut server = Server::open(disk.clone(), roomy(1200)).unwrap();
        for _ in 0..30 {
            server.send(&["fred"], &"x".repeat(100));
            server.spool.commit().unwrap();
        }
        server.spool.stop(UNIX_MS).unwrap();
        let last = server.hub.waiting.values().filter(|(at, _)| at.segment == 1);
        let last = last.map(|(at, _)| *at).max_by_key(|at| at.offset).unwrap();
        let seq = server.hub.waiting.values().filter(|(at, _)| at.segment == 1).count() as u32;
        disk.damage(&segment_file(1), |bytes| match zeroed {
            true => bytes[last.offset as usize..].fill(0),
            false => bytes.truncate(last.offset as usize),
        });
        let survey = Survey::take(&mut disk.clone()).unwrap();
        assert_eq!(survey.cut, [1]);
        let server = Server::open(disk.clone(), roomy(1200)).unwrap();
        assert_eq!(seqs(&server.hub), (1..=30).filter(|n| *n != seq).collect::<Vec<_>>());
        let lines = &server.recovery.lines;
        assert!(lines[0].contains("lost"), "{lines:?}");
        assert_eq!(server.recovery.quarantined.len(), 1);
        drop(server);
        let again = Server::open(disk.clone(), roomy(1200)).unwrap();
        assert_eq!((again.hub.waiting.len(), again.recovery.lines.len()), (29, 0));
        assert_eq!(Survey::take(&mut disk.clone()).unwrap().cut, [0; 0]);
    }
}

#[test]
fn a_hole_of_zeros_before_later_batches_is_a_loss() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), roomy(1 << 20)).unwrap();
    for n in 0..4 {
        server.send(&["fred"], &format!("letter {n}"));
        server.spool.commit().unwrap();
    }
    let second = server.hub.waiting.values().nth(1).unwrap().0;
    disk.damage(&segment_file(1), |bytes| {
        bytes[second.offset as usize..][..second.record_bytes as usize].fill(0);
    });
    let server = Server::open(disk, roomy(1 << 20)).unwrap();
    assert_eq!(server.recovery.lost_bytes, u64::from(second.record_bytes));
    assert_eq!(seqs(&server.hub), [1, 3, 4]);
}

/// A spool with sizes that stand to each other as they do by default.
fn in_proportion() -> Config {
    let (slack_bytes, batch_bytes) = (4000, 1000);
    Config { segment_bytes: 12_000, slack_bytes, batch_bytes, fill_bytes: 1000, ..roomy(0) }
}

#[test]
fn on_a_full_disk_marks_go_on_for_ever_and_letters_when_others_were_taken() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let turn = |server: &mut Server<SimDisk>| {
        server.turn_of_a_mark();
        server.check_ledger();
    };
    let fill = |server: &mut Server<SimDisk>, most: usize| {
        for _ in 0..most {
            turn(server);
            if !server.spool.has_room(1000) {
                return;
            }
            server.send(&["fred"], &"x".repeat(500));
        }
    };
    fill(&mut server, 100);
    assert_eq!(server.hub.waiting.len(), 100, "there is room");
    while server.spool.prepare_at() == Some(Millis(0)) {
        turn(&mut server);
    }
    disk.set_free(Some(0));
    fill(&mut server, 1000);
    let waiting = server.hub.waiting.len();
    assert!((110..200).contains(&waiting), "{waiting} letters found room");
    // Ten times as many marks as everything that is ready could hold.
    for n in 0..6000 {
        turn(&mut server);
        if n % 500 == 0 {
            server.spool.stop(UNIX_MS).unwrap();
            disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
            server = Server::open(disk.clone(), in_proportion()).unwrap();
        }
    }
    assert_eq!(server.hub.waiting.len(), waiting, "all of them are kept");
    assert_eq!(disk.free(), Some(0), "and nothing was given back, for others to take");
    let last = server.hub.waiting.keys().nth(60).unwrap().1;
    server.settle("fred", last);
    (0..300).for_each(|_| turn(&mut server));
    let before = server.hub.waiting.len();
    fill(&mut server, 1000);
    let more = server.hub.waiting.len() - before;
    assert!(more > 20, "{more} letters found room where others were");
}

#[test]
fn on_a_full_disk_marks_go_on_in_files_made_when_less_was_repeated() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    while server.spool.prepare_at().is_some() {
        server.spool.prepare(Millis(0), Load::Idle).unwrap();
    }
    disk.set_free(Some(0));
    let marks = |server: &mut Server<SimDisk>, count: usize| {
        for _ in 0..count {
            server.spool.append(&Record::SignedIn { user: "ann", unix_ms: UNIX_MS });
        }
    };
    // The next segment begins with more than the files that are ready were made for.
    marks(&mut server, 220);
    server.spool.repeated();
    server.spool.commit().unwrap();
    let newest = || disk.contents().into_keys().rfind(|name| name.starts_with("journal"));
    let before = newest();
    for _ in 0..300 {
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
        server.begin();
        marks(&mut server, 1);
        server.spool.commit().expect("the ready files have room");
    }
    assert!(before < newest(), "it went on in another file");
}

/// Letters of so many bytes that nobody takes, one a turn, until there is no room for another.
fn fill_with_letters(server: &mut Server<SimDisk>, bytes: usize) {
    for _ in 0..1000 {
        server.begin();
        if !server.spool.has_room(bytes + 500) {
            return;
        }
        server.send(&["fred"], &"x".repeat(bytes));
        server.spool.commit().unwrap();
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
    }
    panic!("the disk is full");
}

/// A full disk with all that is wanted ready, and as many letters as that has room for.
fn full_of_letters(bytes: usize) -> Server<SimDisk> {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    while server.spool.prepare_at().is_some() {
        server.spool.prepare(Millis(0), Load::Idle).unwrap();
    }
    disk.set_free(Some(0));
    fill_with_letters(&mut server, bytes);
    server
}

#[test]
fn on_a_full_disk_marks_go_on_when_much_more_is_repeated_than_before() {
    // The older segments repeat next to nothing, and new ones up to a tenth of their file.
    for repeated in 0..30 {
        let mut server = full_of_letters(500);
        let waiting = server.hub.waiting.len();
        for turn in 0..3000 {
            server.spool.make_way();
            let count = if server.spool.roll_due() { repeated } else { 0 };
            let mark = Record::SignedIn { user: "ann", unix_ms: UNIX_MS };
            for _ in 0..count {
                server.spool.append(&mark);
            }
            if count > 0 {
                server.spool.repeated();
            }
            server.spool.append(&mark);
            server.compact().unwrap();
            let committed = server.spool.commit();
            committed.unwrap_or_else(|e| panic!("{repeated} repeated, turn {turn}: {e}"));
            server.now = server.now.plus(10_000);
            server.spool.prepare(server.now, Load::Idle).unwrap();
        }
        assert_eq!(server.hub.waiting.len(), waiting, "all of them are kept");
    }
}

#[test]
fn on_a_full_disk_compaction_copies_no_more_than_has_room() {
    // Somebody reads when the last segment has only so much left, also for letters that are longer
    // than what it keeps for marks.
    for (marks, bytes) in (0..240).map(|n| (n / 2, 500 + n % 2 * 2000)) {
        let mut server = full_of_letters(bytes);
        for _ in 0..marks {
            server.turn_of_a_mark();
        }
        let waiting = server.hub.waiting.len();
        let read = waiting / 4;
        let some = server.hub.waiting.keys().nth(read - 1).unwrap().1;
        server.begin();
        server.settle("fred", some);
        for turn in 0..200 {
            server.compact().unwrap();
            let committed = server.spool.commit();
            committed.unwrap_or_else(|e| panic!("{marks} marks, {bytes}, turn {turn}: {e}"));
            server.now = server.now.plus(10_000);
            server.spool.prepare(server.now, Load::Idle).unwrap();
            server.check_ledger();
            server.begin();
        }
        assert!(!server.spool.compact_due(), "{marks} marks, {bytes}: it is not through");
        assert_eq!(server.hub.waiting.len() + read, waiting);
    }
}

#[test]
fn a_recycled_file_that_finds_no_room_is_left_alone_for_a_while() {
    let disk = SimDisk::new();
    drop(Server::open(disk.clone(), in_proportion()).unwrap());
    // A file with holes, as a backup may bring it back: zeros over them take room.
    disk.put("recycled-0000000009.log", b"");
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    assert_eq!(server.spool.prepare_at(), Some(Millis(0)));
    disk.fail_at(disk.steps() + 1, Fault::ForGood(io::ErrorKind::StorageFull));
    server.spool.prepare(Millis(1000), Load::Idle).unwrap();
    let at = server.spool.prepare_at();
    assert!(at.is_some_and(|at| at > Millis(1000)), "it spins: {at:?}");
    disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
}

#[test]
fn what_could_not_be_repeated_is_as_soon_as_there_is_room() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let marks = 15_900;
    disk.set_free(Some(0));
    assert!(!server.spool.begin_repeating(marks).unwrap(), "there is less");
    server.send(&["fred"], "hi");
    server.spool.commit().unwrap();
    assert!(!server.spool.roll_due());
    disk.set_free(None);
    while server.spool.prepare_at().is_some() {
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
    }
    server.spool.make_way();
    assert!(server.spool.roll_due());
}

#[test]
fn the_records_of_a_turn_are_written_before_they_are_too_many() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let writes = disk.writes();
    server.send(&["fred"], &"x".repeat(500));
    assert!(!server.spool.is_batch_full());
    server.send(&["fred"], &"x".repeat(500));
    assert!(server.spool.is_batch_full());
    assert_eq!(disk.writes(), writes);
    server.spool.make_way();
    assert!(server.spool.is_idle() && disk.writes() > writes);
}

#[test]
fn a_newer_format_is_refused() {
    let disk = stopped_spool(1);
    let mut newer = Vec::new();
    let header = record::Header { spool: 1, segment: 2, format: record::FORMAT + 1 };
    record::encode_header(&mut newer, 99, &header);
    disk.put(&segment_file(2), &newer);
    let refused = Server::open(disk.clone(), config(1 << 20)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, SpoolError::NewerFormat { .. }), "{refused}");
    assert!(refused.to_string().contains("journal-0000000002.log is in spool format 2"));
    assert_eq!(disk.contents()[&segment_file(2)], newer);
}

/// A directory that goes when the test ends.
struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mms-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_directory_has_one_server_and_nobody_else_looks_in() {
    let dir = TestDir::new("lock");
    let spool = dir.0.join("deep/spool");
    let mut server = Server::open(FileDisk::open(&spool).unwrap(), config(1 << 20)).unwrap();
    server.send(&["fred"], "hello");
    server.spool.commit().unwrap();
    let refused = FileDisk::open(&spool).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)));
    let path = spool.display();
    assert_eq!(
        refused.to_string(),
        format!(
            "spool directory {path} is in use by another mms server (it holds {path}/lock); stop \
             that one or use another --spool"
        )
    );
    assert_eq!(mode(&spool), 0o700);
    for name in ["lock", "secret", "journal-0000000001.log"] {
        assert_eq!(mode(&spool.join(name)), 0o600, "{name}");
    }
    let mut looker = FileDisk::open_read_only(&spool).unwrap();
    let file = looker.open("journal-0000000001.log").unwrap();
    assert!(looker.len(&file).unwrap() > 100);
    for refused in [
        looker.write_all_at(&file, 0, b"x").unwrap_err(),
        looker.create("x").unwrap_err(),
        looker.remove("secret").unwrap_err(),
        looker.rename("secret", "public").unwrap_err(),
    ] {
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    drop(server);
    std::fs::set_permissions(&spool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::open(FileDisk::open(&spool).unwrap(), config(1 << 20)).unwrap();
    assert_eq!((mode(&spool), seqs(&server.hub)), (0o700, vec![1]));
}

#[test]
fn what_cannot_be_a_spool_says_why() {
    let dir = TestDir::new("no-spool");
    std::fs::create_dir(&dir.0).unwrap();
    std::fs::write(dir.0.join("file"), "").unwrap();
    for path in ["file", "file/below"] {
        let refused = FileDisk::open(&dir.0.join(path)).unwrap_err();
        assert!(matches!(refused, OpenError::CannotCreate(_)), "{refused}");
    }
    // Nobody else could look into it any more.
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let shared = FileDisk::open(&dir.0).unwrap_err();
    assert!(matches!(shared, OpenError::CannotCreate(_)), "{shared}");
    assert!(shared.to_string().contains("holds other files"), "{shared}");
    assert_eq!((mode(&dir.0), dir.0.join("lock").exists()), (0o755, false));
    let missing = FileDisk::open_read_only(&dir.0.join("none")).unwrap_err();
    assert!(missing.to_string().contains("none: No such file"), "{missing}");
}

fn printed(command: impl FnOnce(&mut dyn io::Write) -> Result<(), Failure>) -> String {
    let mut out = Vec::new();
    command(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_operator_looks_into_a_running_servers_spool() {
    let dir = TestDir::new("look");
    let mut server = Server::open(FileDisk::open(&dir.0).unwrap(), config(300)).unwrap();
    let epoch = server.spool.epoch();
    let first = server.send(&["ann"], "to be held");
    server.spool.append(&Record::Held { user: "ann", through: first });
    server.spool.commit().unwrap();
    let second = server.send(&["ann", "fred"], "line\nbreak \u{1b}[2J and more text to fill it up");
    server.settle("fred", second);
    server.spool.commit().unwrap();
    server.send(&["ann"], "last");
    server.spool.commit().unwrap();

    let listing = printed(|out| spool::ls(&dir.0, out));
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(lines[0], "spool 0707070707070707");
    assert!(lines[1].starts_with("journal-0000000001.log  "), "{listing}");
    assert_eq!(lines.len(), 4, "{listing}");
    assert_eq!(lines[3], format!("{:<32}  2 waiting, 1 held, 57 bytes of text", "ann"));
    let shown = printed(|out| spool::show(&dir.0, Some("ANN"), out));
    assert_eq!(
        shown,
        format!(
            "{epoch}.1 2025-07-20T08:26:40Z held from bob to ann: to be held\n\
             {epoch}.2 2025-07-20T08:26:40Z waiting from bob to ann: \
             line\\nbreak \\u{{1b}}[2J and more text to fill it up\n\
             {epoch}.3 2025-07-20T08:26:40Z waiting from bob to ann: last\n"
        )
    );
    assert_eq!(printed(|out| spool::show(&dir.0, None, out)), shown);
    let nobody = spool::show(&dir.0, Some("fred"), &mut Vec::new()).unwrap_err();
    assert_eq!((nobody.code, nobody.message.as_str()), (Code::NoUser, "nothing waits for fred"));
    let checked = printed(|out| spool::check(&dir.0, out));
    assert!(checked.ends_with("0 bytes damaged, 0 segments missing, 0 files in quarantine\n"));
    assert!(checked.contains("2 letters waiting, 1 held"), "{checked}");

    let path = dir.0.join(segment_file(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let damage = spool::check(&dir.0, &mut Vec::new()).unwrap_err();
    assert_eq!(damage.code, Code::Data);
    assert!(damage.message.contains("journal-0000000001.log ("), "{damage}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was repaired");
    let missing = spool::ls(&dir.0.join("none"), &mut Vec::new()).unwrap_err();
    assert_eq!(missing.code, Code::NoInput);
}

/// `cargo test --release --test spool -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    use std::time::Instant;
    let dir = TestDir::new("speed");
    let never = Config { sync: Sync::Never, ..Config::default() };
    let mut server = Server::open(FileDisk::open(&dir.0).unwrap(), never).unwrap();
    let count = 2_000_000;
    let body = "x".repeat(64);
    let epoch = server.spool.epoch();
    let begin = Instant::now();
    for seq in 1..=count {
        let (id, kind) = (LetterId { epoch, seq }, LetterKind::Direct);
        let letter =
            Letter { id, unix_ms: UNIX_MS, kind, key: None, from: "bob", to: "+fred", body: &body };
        server.spool.append(&Record::Letter(letter));
        if seq % 1000 == 0 {
            server.spool.commit().unwrap();
        }
    }
    println!("append and write: {:?} a letter", begin.elapsed() / count);
    server.spool.stop(UNIX_MS).unwrap();
    drop(server);

    let mut out = Vec::with_capacity(1 << 20);
    let begin = Instant::now();
    for seq in 1..=count {
        if seq % 1000 == 0 {
            out.clear();
        }
        let (id, kind) = (LetterId { epoch, seq }, LetterKind::Direct);
        let letter =
            Letter { id, unix_ms: UNIX_MS, kind, key: None, from: "bob", to: "+fred", body: &body };
        record::encode(&mut out, 42, &Record::Letter(letter));
    }
    println!("encode: {:?} a letter", begin.elapsed() / count);

    let mut letters = 0;
    let begin = Instant::now();
    let opened = Spool::open(
        FileDisk::open(&dir.0).unwrap(),
        never,
        UNIX_MS,
        &mut entropy,
        &mut |record, _, _| letters += u32::from(matches!(record, Record::Letter(_))),
    );
    let took = begin.elapsed();
    drop(opened.unwrap());
    assert_eq!(letters, count);
    println!("replay: {took:?}, {:.0} letters/s", f64::from(count) / took.as_secs_f64());
}
