//! The promise under chance: the real engine over a simulated disk, network and clock, with model
//! clients and a checker that knows the words lost, doubled, unexpected and reordered.
//!
//! A seed replays a run: `MMS_SEED=17 cargo test --test sim`; `MMS_RUNS=100000` makes it long.

mod support;

use mms::core::event::{Conn, End, Event, Flow, Input, Trust};
use mms::core::hub::{Duplicate, Rules, SelfSend};
use mms::core::password::Verifier;
use mms::engine::{Engine, Output};
use mms::proto::name::UserName;
use mms::proto::reply::Reply;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use support::rng::{Rng, seed_from_env};
use support::sim_disk::{Aftermath, Fault, SimDisk};

const USERS: usize = 4;
const STEPS: usize = 150;

/// What travels to a client.
enum Said {
    Reply(Reply),
    Letter { from: String, body: String, again: bool },
}

/// A connection and the person behind it.
struct Peer {
    user: usize,
    flight: VecDeque<Said>,
    said: u32,
    arrived: u32,
    held: bool,
    online: bool,
    watched: bool,
    closing: bool,
    /// Letters sent and not answered yet, oldest first.
    unanswered: VecDeque<usize>,
    /// The last letter read, by sender.
    last_read: BTreeMap<usize, usize>,
}

/// What is known of a letter, by the number that is its text.
#[derive(Default)]
struct Fate {
    from: usize,
    to: BTreeSet<usize>,
    /// Recipients for whom its sender was told OK.
    promised: BTreeSet<usize>,
    /// How often each has read it, and who has read it without a mark.
    seen: BTreeMap<usize, u32>,
    unmarked: BTreeSet<usize>,
}

struct World {
    disk: SimDisk,
    engine: Option<Engine<SimDisk>>,
    now: Now,
    rng: Rng,
    peers: BTreeMap<u32, Peer>,
    letters: Vec<Fate>,
    sync: Sync,
    trace: Vec<String>,
}

fn name(user: usize) -> UserName {
    UserName::new(&format!("u{user}")).unwrap()
}

fn number(name: &str) -> usize {
    name.strip_prefix('u').unwrap().parse().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let sync = if rng.one_in(4) { Sync::Never } else { Sync::Always };
        let now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };
        let mut world = Self {
            disk: SimDisk::new(),
            engine: None,
            now,
            rng,
            peers: BTreeMap::new(),
            letters: Vec::new(),
            sync,
            trace: Vec::new(),
        };
        world.start();
        world
    }

    fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    fn fail(&self, word: &str, letter: usize, user: usize) -> ! {
        let from = self.trace.len().saturating_sub(60);
        panic!(
            "{word}: m{letter} for u{user}; the run ended so:\n{}",
            self.trace[from..].join("\n")
        );
    }

    /// Starts the engine; it may crash while it recovers, and is started again.
    fn start(&mut self) {
        let rules = Rules {
            idle_timeout_s: 600,
            block_time_s: 60,
            max_failures: 3,
            self_send: SelfSend::Allowed,
            duplicate: Duplicate::Replace,
            mailbox_letters: 60,
            mailbox_bytes: 1 << 20,
        };
        for attempt in 0.. {
            let entries = (0..USERS).map(|u| (name(u), Verifier::derive(b"p", b"12345678", 1)));
            if attempt < 3 && self.rng.one_in(3) {
                let steps = self.disk.steps() + 1 + self.rng.below(12) as u64;
                self.disk.crash_at(steps);
            }
            let config = Config { sync: self.sync, segment_bytes: 1500 };
            let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
                bytes.fill(7);
                Ok(())
            };
            let opened = Engine::open(
                self.disk.clone(),
                config,
                rules.clone(),
                entries.collect(),
                self.now,
                &mut entropy,
            );
            match opened {
                Ok((engine, recovery)) => {
                    assert_eq!(recovery.lost_bytes, 0, "a crash damages nothing that was synced");
                    self.note(format!("started, epoch of {} letters", recovery.letters));
                    self.engine = Some(engine);
                    return;
                }
                Err(e) => {
                    assert!(self.disk.crashed(), "the spool opens: {e}");
                    self.after_crash();
                }
            }
        }
    }

    fn after_crash(&mut self) {
        self.engine = None;
        self.peers.clear();
        // Without syncs only the end of the process is survived.
        let aftermath = match (self.sync, self.rng.below(4)) {
            (Sync::Never, _) | (_, 0) => Aftermath::ProcessOnly,
            (_, 1) => Aftermath::LoseAll,
            (_, 2) => Aftermath::KeepAll,
            _ => Aftermath::Torn,
        };
        self.note(format!("crash, {aftermath:?}"));
        self.disk.restart(aftermath, &mut self.rng);
        self.now.unix_ms += 1000 * self.rng.below(3) as u64;
    }

    fn handle(&mut self, event: Event<'_>) -> Flow {
        self.engine.as_mut().expect("it runs").handle(event, self.now)
    }

    /// The rest of a turn. False if the engine did not survive it.
    fn turn(&mut self) -> bool {
        let engine = self.engine.as_mut().expect("it runs");
        if engine.deadline().is_some_and(|at| at <= self.now.mono) {
            engine.tick(self.now);
        }
        let early = engine.release(|output| panic!("said before it was durable: {output:?}"));
        early.expect("nothing was released, so nothing failed");
        if engine.commit().is_err() {
            self.note("commit failed");
            self.after_crash();
            self.start();
            return false;
        }
        let mut out = Vec::new();
        let done = engine.release(|output| {
            out.push(match output {
                Output::Say(conn, reply) => (conn, Some(Said::Reply(reply.clone())), None),
                Output::Show { conn, from, body, showing } => {
                    let (from, body) = (from.as_str().to_owned(), body.to_owned());
                    (conn, Some(Said::Letter { from, body, again: showing.again }), None)
                }
                Output::Watch(conn) => (conn, None, Some('w')),
                Output::Look(conn) => (conn, None, Some('l')),
                Output::Resume(conn) => (conn, None, Some('r')),
                Output::Close { conn, .. } => (conn, None, Some('c')),
            });
        });
        if done.is_err() {
            self.note("release failed");
            self.after_crash();
            self.start();
            return false;
        }
        for (conn, said, wish) in out {
            self.said(conn.0, said, wish);
        }
        true
    }

    fn said(&mut self, conn: u32, said: Option<Said>, wish: Option<char>) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        match wish {
            Some('w') => peer.watched = true,
            Some('r') => peer.held = false,
            Some('c') => peer.closing = true,
            _ => {}
        }
        let Some(said) = said else { return };
        peer.said += 1;
        if let Said::Reply(reply) = &said {
            // What was released counts as promised, whether it arrives or not.
            let answered: Option<Vec<usize>> = match reply {
                Reply::Sent(to) | Reply::Saved(to) => Some(vec![number(to.as_str())]),
                Reply::Fates(fates) => {
                    let all = fates.sent.iter().chain(&fates.saved);
                    Some(all.map(|to| number(to.as_str())).collect())
                }
                Reply::Broadcast { .. } => Some(vec![]),
                Reply::Refused(_) => Some(vec![]),
                Reply::Welcome { .. } => {
                    peer.online = true;
                    None
                }
                _ => None,
            };
            let letter = answered.as_ref().and_then(|_| peer.unanswered.pop_front());
            if let (Some(to), Some(letter)) = (answered, letter) {
                self.letters[letter].promised.extend(to);
            } else if matches!(reply, Reply::Sent(_) | Reply::Saved(_)) {
                let reply = format!("{reply:?}");
                panic!("an answer to nothing for {conn}: {reply}\n{}", self.trace.join("\n"));
            }
        }
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.flight.push_back(said);
        }
    }

    /// The next `count` things arrive and are read.
    fn arrive(&mut self, conn: u32, count: usize) {
        for _ in 0..count {
            let Some(peer) = self.peers.get_mut(&conn) else { return };
            let Some(said) = peer.flight.pop_front() else { return };
            peer.arrived += 1;
            if let Said::Letter { from, body, again } = said {
                self.read(conn, &from, &body, again);
            }
        }
    }

    fn read(&mut self, conn: u32, from: &str, body: &str, again: bool) {
        let user = self.peers[&conn].user;
        let letter: usize = body.strip_prefix('m').unwrap().parse().unwrap();
        self.note(format!("u{user} reads {body} of {from} {}", if again { "again" } else { "" }));
        let Some(fate) = self.letters.get(letter) else { self.fail("unexpected", letter, user) };
        if !fate.to.contains(&user) || fate.from != number(from) {
            self.fail("unexpected", letter, user);
        }
        let sender = fate.from;
        // A connection that was given up may be read late: marked repeats may come before.
        if !again && !self.letters[letter].unmarked.insert(user) {
            self.fail("doubled", letter, user);
        }
        let peer = self.peers.get_mut(&conn).expect("it is reading");
        let last = peer.last_read.insert(sender, letter);
        if last.is_some_and(|last| last >= letter) {
            self.fail("reordered", letter, user);
        }
        *self.letters[letter].seen.entry(user).or_default() += 1;
    }

    /// Tells the engine what arrived, as a kernel would.
    fn report(&mut self, conn: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let (through, drained) = (peer.arrived, peer.flight.is_empty() && peer.watched);
        peer.watched &= !drained;
        self.handle(Event::Acknowledged { conn: Conn(conn), through, input: Input::Taken });
        if drained {
            self.handle(Event::Drained { conn: Conn(conn) });
        }
    }

    fn line(&mut self, conn: u32, line: &str) {
        let flow = self.handle(Event::Line { conn: Conn(conn), line: line.as_bytes() });
        if let (Flow::Hold, Some(peer)) = (flow, self.peers.get_mut(&conn)) {
            peer.held = true;
        }
    }

    fn connect(&mut self, user: usize) -> u32 {
        let conn = (0..).find(|conn| !self.peers.contains_key(conn)).unwrap();
        let peer = Peer {
            user,
            flight: VecDeque::new(),
            said: 0,
            arrived: 0,
            held: false,
            online: false,
            watched: false,
            closing: false,
            unanswered: VecDeque::new(),
            last_read: BTreeMap::new(),
        };
        self.peers.insert(conn, peer);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(Event::Opened { conn: Conn(conn), address, trust: Trust::Trusted });
        self.note(format!("u{user} connects as {conn}"));
        self.line(conn, &format!("signin u{user} p"));
        conn
    }

    fn send(&mut self, conn: u32) {
        let letter = self.letters.len();
        let user = self.peers[&conn].user;
        let (a, b) = (self.rng.below(USERS), self.rng.below(USERS));
        let (to, line) = match self.rng.below(6) {
            0 => (BTreeSet::from([a, b]), format!("send (u{a} u{b}) m{letter}")),
            1 => (BTreeSet::from_iter(0..USERS), format!("broadcast m{letter}")),
            _ => (BTreeSet::from([a]), format!("send u{a} m{letter}")),
        };
        self.note(format!("u{user}: {line}"));
        self.letters.push(Fate { from: user, to, ..Fate::default() });
        self.peers.get_mut(&conn).unwrap().unanswered.push_back(letter);
        self.line(conn, &line);
    }

    /// The engine hears of an end first in a turn, before the number is used again.
    fn close(&mut self, conn: u32, end: End) {
        if !self.turn() {
            return;
        }
        if end == End::Orderly {
            self.arrive(conn, usize::MAX);
        }
        self.note(format!("{conn} closed {end:?}"));
        self.peers.remove(&conn);
        self.handle(Event::Closed { conn: Conn(conn), end });
    }

    fn step(&mut self) {
        self.now.mono = self.now.mono.plus(1);
        self.now.unix_ms += 1;
        let conns: Vec<u32> = self.peers.keys().copied().collect();
        let conn = if conns.is_empty() { None } else { Some(*self.rng.pick(&conns)) };
        match (self.rng.below(20), conn) {
            (0..2, _) | (_, None) => {
                let user = self.rng.below(USERS);
                self.connect(user);
            }
            (2..9, Some(conn)) => {
                let peer = &self.peers[&conn];
                if peer.online && !peer.held && !peer.closing {
                    for _ in 0..=self.rng.below(4) {
                        self.send(conn);
                    }
                }
            }
            (9..13, Some(conn)) => {
                let count = self.rng.below(8);
                self.arrive(conn, count);
                self.report(conn);
            }
            (13..15, Some(conn)) => {
                let peer = &self.peers[&conn];
                if peer.online && !peer.held && !peer.closing {
                    self.line(conn, if self.rng.clone().one_in(2) { "whoelse" } else { "" });
                }
            }
            (15, Some(conn)) => {
                let peer = &self.peers[&conn];
                if !peer.held && !peer.closing {
                    self.note(format!("{conn} leaves"));
                    match self.rng.below(2) {
                        0 => self.line(conn, "signout"),
                        _ => drop(self.handle(Event::Ended { conn: Conn(conn) })),
                    }
                }
            }
            (16, Some(conn)) => self.close(conn, End::Broken),
            (17, Some(conn)) => {
                if self.peers[&conn].closing {
                    self.close(conn, End::Orderly);
                }
            }
            (18, _) => match self.rng.below(4) {
                0 => {
                    self.note("killed");
                    self.peers.clear();
                    self.engine = None;
                    self.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
                    self.start();
                }
                1 => {
                    let at = self.disk.steps() + 1 + self.rng.below(9) as u64;
                    self.disk.crash_at(at);
                }
                2 => {
                    let at = self.disk.steps() + 1 + self.rng.below(9) as u64;
                    let kind = *self.rng.pick(&[ErrorKind::Other, ErrorKind::StorageFull]);
                    self.disk.fail_at(at, Fault::Once(kind));
                }
                _ => {
                    self.now.mono = self.now.mono.plus(30_000);
                    self.now.unix_ms += 30_000;
                }
            },
            (_, Some(_)) => {}
        }
        // Several events share a turn.
        if !self.rng.one_in(3) {
            self.turn();
        }
    }

    fn settle_down(&mut self, conn: u32) {
        for _ in 0..1000 {
            if !self.turn() {
                panic!("the disk is well again");
            }
            let Some(peer) = self.peers.get(&conn) else { return };
            let quiet = peer.flight.is_empty() && !peer.watched && !peer.held;
            if quiet && peer.online {
                return;
            }
            self.arrive(conn, usize::MAX);
            self.report(conn);
        }
        panic!("it never ends");
    }

    /// Everyone comes, reads all and leaves in order: nothing promised may be missing, and nothing
    /// is left.
    fn drain(&mut self) {
        self.note("drain");
        self.engine = None;
        self.peers.clear();
        self.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
        self.start();
        let mut left = 0;
        for round in 0..2 {
            for user in 0..USERS {
                let conn = self.connect(user);
                self.settle_down(conn);
                if round == 0 {
                    self.line(conn, "whoelse");
                }
                self.settle_down(conn);
                self.line(conn, "signout");
                self.turn();
                self.close(conn, End::Orderly);
                self.turn();
            }
            if round == 0 {
                for (letter, fate) in self.letters.iter().enumerate() {
                    for &user in &fate.promised {
                        if !fate.seen.contains_key(&user) {
                            self.fail("lost", letter, user);
                        }
                    }
                }
                left = self.readings();
            }
        }
        assert_eq!(self.readings(), left, "after everyone has read and left nothing is shown");
    }

    fn readings(&self) -> u32 {
        self.letters.iter().flat_map(|fate| fate.seen.values()).sum()
    }
}

#[test]
fn nothing_lost_doubled_unexpected_or_reordered() {
    let first = seed_from_env(1);
    let runs = match std::env::var("MMS_SEED") {
        Ok(_) => 1,
        Err(_) => std::env::var("MMS_RUNS").map_or(1500, |n| n.parse().expect("a number")),
    };
    let (mut letters, mut promised, mut repeats) = (0, 0, 0);
    for seed in first..first + runs {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.drain();
            let distinct: usize = world.letters.iter().map(|fate| fate.seen.len()).sum();
            let promised: usize = world.letters.iter().map(|fate| fate.promised.len()).sum();
            (world.letters.len(), promised, world.readings() as usize - distinct)
        });
        match run {
            Ok((more, more_promised, more_repeats)) => {
                letters += more;
                promised += more_promised;
                repeats += more_repeats;
            }
            Err(_) => panic!("run again with MMS_SEED={seed}"),
        }
    }
    println!("{runs} runs, {letters} letters, {promised} promises kept, {repeats} marked repeats");
    // A simulation that does nothing proves nothing.
    assert!(runs == 1 || (promised as u64 > 20 * runs && repeats > 0));
}
