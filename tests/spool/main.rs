//! The journal under crashes, failing disks and damaged files: here, a server as small as can be
//! and what it has promised; beside it, the tests by subject.

mod compaction;
mod crashes;
mod damage;
mod directory;
mod failures;
mod full_disk;
mod gaps;
mod journal;
mod speed;
#[path = "../support/mod.rs"]
mod support;

use mms::core::record::{
    Journal as _, Letter, LetterId, LetterKind, Location, Recipient, Record, push_recipient,
    recipients,
};
use mms::store::disk::Disk;
use mms::store::ledger::{Ledger, Segment};
use mms::store::recovery::{Recovery, SpoolError};
use mms::store::spool::{Ask, Config, Load, Spool};
use mms::time::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use support::rng::Rng;
use support::sim_disk::{Aftermath, SimDisk};

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

/// A spool with sizes that stand to each other as they do by default.
fn in_proportion() -> Config {
    let (slack_bytes, batch_bytes) = (4000, 1000);
    Config { segment_bytes: 12_000, slack_bytes, batch_bytes, fill_bytes: 1000, ..roomy(0) }
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
        Ok(String::from_utf8(self.spool.body(at)?.to_vec()).expect("all text is UTF-8"))
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

/// One that has stopped in order after four letters to fred, each in a segment of its own.
fn spool_of_four() -> SimDisk {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(200)).unwrap();
    for _ in 0..4 {
        server.send(&["fred"], &"x".repeat(200));
        server.spool.commit().unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    disk
}

fn seqs(hub: &Hub) -> Vec<u32> {
    hub.waiting.keys().map(|key| key.1.seq).collect()
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
