//! The promise under chance: the real engine over a simulated disk, network and clock, with model
//! clients and a checker that knows the words lost, doubled, unexpected and reordered.
//!
//! A third of the connections speak the coded dialect. What such a client reads it may forget,
//! until it has acknowledged it; what it sent under a key it sends again, if the connection or the
//! server went before the answer came.
//!
//! A seed replays a run: `MMS_SEED=17 cargo test --test sim`; `MMS_RUNS=100000` makes it long.

mod support;

use mms::core::event::{Conn, End, Event, Flow, Input, Trust};
use mms::core::hub::{Duplicate, Rules, SelfSend};
use mms::core::password::Verifier;
use mms::engine::{Engine, Output};
use mms::proto::id::LetterId;
use mms::proto::reply::{Refusal, Reply};
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use support::model::{Fate, Peer, Said, Speaks, name, number};
use support::rng::{Rng, seed_from_env};
use support::sim_disk::{Aftermath, Fault, SimDisk};

const USERS: usize = 4;
const STEPS: usize = 150;

struct World {
    disk: SimDisk,
    engine: Option<Engine<SimDisk>>,
    now: Now,
    rng: Rng,
    peers: BTreeMap<u32, Peer>,
    letters: Vec<Fate>,
    /// What each user's coded clients have acknowledged in this run of the server.
    acked: [LetterId; USERS],
    /// Letters under a key whose answer never arrived, by sender.
    unsure: [Vec<usize>; USERS],
    known: usize,
    sync: Sync,
    trace: Vec<String>,
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
            acked: [LetterId::default(); USERS],
            unsure: Default::default(),
            known: 0,
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

    /// The server is gone, and with it all connections. An acknowledgement may be lost with it.
    fn lose_all(&mut self) {
        self.engine = None;
        for (_, peer) in std::mem::take(&mut self.peers) {
            self.forget(&peer);
        }
        self.acked = [LetterId::default(); USERS];
    }

    /// What a client that is gone does not know: it will ask again under the same key.
    fn forget(&mut self, peer: &Peer) {
        let keyed = peer.awaited.iter().filter(|&&letter| self.letters[letter].keyed);
        self.unsure[peer.user].extend(keyed);
    }

    fn after_crash(&mut self) {
        self.lose_all();
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
                Output::Say(conn, tag, reply) => {
                    (conn, Some(Said::Reply(tag, reply.clone())), None)
                }
                Output::Show { conn, from, body, showing } => {
                    let (from, body) = (from.as_str().to_owned(), body.to_owned());
                    (conn, Some(Said::Letter { from, body, again: showing.again, id: None }), None)
                }
                Output::Letter(conn, letter) => {
                    let (from, body) = (letter.from.to_owned(), letter.body.to_owned());
                    let (again, id) = (letter.again, Some(letter.id));
                    (conn, Some(Said::Letter { from, body, again, id }), None)
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
        let Some(mut said) = said else { return };
        peer.said += 1;
        if let Said::Reply(tag, reply) = &said {
            match reply {
                Reply::Welcome { .. } => peer.online = true,
                Reply::Pong => {
                    let acked = &mut self.acked[peer.user];
                    *acked = peer.acking.max(*acked);
                }
                _ => {}
            }
            let tag = tag.map(|tag| format!("{tag:?}"));
            if let Some(letter) = self.answered(conn, tag, &reply.clone()) {
                said = Said::Answer(letter);
            }
        }
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.flight.push_back(said);
        }
    }

    /// What was released counts as promised, whether it arrives or not. Tells which letter it was
    /// about, if it answers one.
    fn answered(&mut self, conn: u32, tag: Option<String>, reply: &Reply) -> Option<usize> {
        let (to, id, known): (Vec<usize>, _, bool) = match reply {
            Reply::Sent { to, id } | Reply::Saved { to, id } => {
                (vec![number(to.as_str())], Some(*id), false)
            }
            Reply::Fates(fates) => {
                let all = fates.sent.iter().chain(&fates.saved);
                (all.map(|to| number(to.as_str())).collect(), fates.id, false)
            }
            Reply::Broadcast { id, .. } => (vec![], *id, false),
            Reply::Known(id) => (vec![], Some(*id), true),
            Reply::Refused(Refusal::MailboxFull(_) | Refusal::NobodyElse) => (vec![], None, false),
            Reply::Refused(refusal) => panic!("refused: {refusal:?}\n{}", self.trace.join("\n")),
            _ => return None,
        };
        let peer = self.peers.get_mut(&conn)?;
        let (user, speaks) = (peer.user, peer.speaks);
        let Some(letter) = peer.unanswered.pop_front() else {
            panic!("an answer to nothing for {conn}: {reply:?}\n{}", self.trace.join("\n"));
        };
        let want = (speaks != Speaks::Plain).then(|| format!("@{letter}"));
        assert_eq!(tag, want, "the tag of m{letter} of u{user}");
        let fate = &mut self.letters[letter];
        if let Some(id) = id {
            // Under one key there is one letter with one number, whoever asks how often.
            let same = *fate.id.get_or_insert(id) == id;
            if !same || (fate.answered && !known) {
                self.fail("doubled", letter, user);
            }
        }
        let fate = &mut self.letters[letter];
        fate.answered |= id.is_some();
        fate.promised.extend(to);
        if known {
            self.known += 1;
            // Of a list nobody knows who had room.
            let fate = &mut self.letters[letter];
            if let (1, Some(&one)) = (fate.to.len(), fate.to.first()) {
                fate.promised.insert(one);
            }
        }
        Some(letter)
    }

    /// The next `count` things arrive and are read.
    fn arrive(&mut self, conn: u32, count: usize) {
        for _ in 0..count {
            let Some(peer) = self.peers.get_mut(&conn) else { return };
            let Some(said) = peer.flight.pop_front() else { return };
            peer.arrived += 1;
            match said {
                Said::Reply(..) => {}
                Said::Answer(letter) => peer.awaited.retain(|&other| other != letter),
                Said::Letter { from, body, again, id } => self.read(conn, &from, &body, again, id),
            }
        }
    }

    fn read(&mut self, conn: u32, from: &str, body: &str, again: bool, id: Option<LetterId>) {
        let user = self.peers[&conn].user;
        let first = body.lines().next().unwrap();
        let letter: usize = first.strip_prefix('m').unwrap().parse().unwrap();
        self.note(format!(
            "u{user} reads m{letter} of {from} {}",
            if again { "again" } else { "" }
        ));
        let Some(fate) = self.letters.get_mut(letter) else {
            self.fail("unexpected", letter, user);
        };
        let whole = fate.body.as_deref().is_none_or(|whole| whole == body);
        if !fate.to.contains(&user) || fate.from != number(from) || !whole {
            self.fail("unexpected", letter, user);
        }
        if id.is_some_and(|id| *fate.id.get_or_insert(id) != id) {
            self.fail("doubled", letter, user);
        }
        let (sender, resent) = (fate.from, fate.resent);
        // A connection that was given up may be read late: marked repeats may come before.
        if !again && !fate.unmarked.insert(user) {
            self.fail("doubled", letter, user);
        }
        let peer = self.peers.get_mut(&conn).expect("it is reading");
        let last = peer.last_read.insert(sender, letter);
        let last = last.filter(|&last| !resent && !self.letters[last].resent);
        if last.is_some_and(|last| last >= letter) {
            self.fail("reordered", letter, user);
        }
        let Some(id) = id else {
            *self.letters[letter].seen.entry(user).or_default() += 1;
            return;
        };
        let (speaks, floor) = (peer.speaks, peer.floor);
        peer.taken.push(letter);
        if std::mem::replace(&mut peer.last_id, id) >= id {
            self.fail("reordered", letter, user);
        }
        if speaks != Speaks::Coded {
            self.fail("unexpected", letter, user);
        }
        if id <= floor {
            self.fail("doubled after it was acknowledged", letter, user);
        }
    }

    /// What was read is safe in the client's inbox, and it says so. Up to here it could forget it.
    fn ack(&mut self, conn: u32) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| peer.may_speak()) else { return };
        if peer.taken.is_empty() {
            return;
        }
        let (user, id) = (peer.user, peer.last_id);
        peer.acking = id;
        for letter in std::mem::take(&mut peer.taken) {
            *self.letters[letter].seen.entry(user).or_default() += 1;
        }
        self.note(format!("u{user} acknowledges {id}"));
        self.line(conn, &format!("ack {id}"));
        self.line(conn, "@p ping");
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
        let flow = self.handle(Event::Line { conn: Conn(conn), line: line.as_bytes(), body: None });
        if let (Flow::Hold, Some(peer)) = (flow, self.peers.get_mut(&conn)) {
            peer.held = true;
        }
    }

    fn connect(&mut self, user: usize, speaks: Speaks) -> u32 {
        let conn = (0..).find(|conn| !self.peers.contains_key(conn)).unwrap();
        self.peers.insert(conn, Peer::new(user, speaks, self.acked[user]));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(Event::Opened { conn: Conn(conn), address, trust: Trust::Trusted });
        self.note(format!("u{user} connects as {conn}, {speaks:?}"));
        if speaks == Speaks::Plain {
            self.line(conn, &format!("signin u{user} p"));
            return conn;
        }
        let kind = if speaks == Speaks::Tool { "tool" } else { "online" };
        self.line(conn, "coded 1");
        self.line(conn, &format!("signin u{user} {kind} plain p"));
        conn
    }

    /// A third of all is coded.
    fn connect_any(&mut self, user: usize) -> u32 {
        let speaks = match self.rng.below(12) {
            0..8 => Speaks::Plain,
            8..11 => Speaks::Coded,
            _ => Speaks::Tool,
        };
        self.connect(user, speaks)
    }

    fn send(&mut self, conn: u32) {
        let letter = self.letters.len();
        let (user, coded) = (self.peers[&conn].user, self.peers[&conn].speaks != Speaks::Plain);
        let key = match self.rng.below(6) {
            _ if !coded => String::new(),
            0 => String::new(),
            1 => format!("=one-shot-{letter} "),
            _ => format!("=phone{user}:{letter} "),
        };
        let tag = if coded { format!("@{letter} ") } else { String::new() };
        let (a, b) = (self.rng.below(USERS), self.rng.below(USERS));
        let (to, line) = match self.rng.below(6) {
            0 => (BTreeSet::from([a, b]), format!("{tag}send {key}(u{a} u{b}) ")),
            1 => (BTreeSet::from_iter(0..USERS), format!("{tag}broadcast {key}")),
            _ => (BTreeSet::from([a]), format!("{tag}send {key}u{a} ")),
        };
        let counted = coded && self.rng.one_in(4);
        let body = counted.then(|| format!("m{letter}\nand more }}"));
        let line = if counted { line } else { format!("{line}m{letter}") };
        let keyed = !key.is_empty();
        self.letters.push(Fate { from: user, to, line, body, keyed, ..Fate::default() });
        self.say(conn, letter);
    }

    /// Sends a letter that was not answered, or one that was, under its key.
    fn send_again(&mut self, conn: u32) -> bool {
        let (user, speaks) = (self.peers[&conn].user, self.peers[&conn].speaks);
        let mine = |fate: &Fate| fate.from == user && fate.keyed;
        let sure = || self.letters.iter().rposition(mine);
        let again = match self.unsure[user].first() {
            _ if speaks == Speaks::Plain => None,
            Some(_) => Some(self.unsure[user].remove(0)),
            None if self.rng.clone().one_in(4) => sure(),
            None => None,
        };
        let Some(letter) = again else { return false };
        self.letters[letter].resent = true;
        self.say(conn, letter);
        true
    }

    fn say(&mut self, conn: u32, letter: usize) {
        let peer = self.peers.get_mut(&conn).unwrap();
        peer.unanswered.push_back(letter);
        peer.awaited.push(letter);
        let (user, fate) = (peer.user, &self.letters[letter]);
        let (line, body) = (fate.line.clone(), fate.body.clone());
        self.note(format!("u{user}: {line}"));
        let (line, body) = (line.as_bytes(), body.as_deref().map(str::as_bytes));
        self.handle(Event::Line { conn: Conn(conn), line, body });
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
        if let Some(peer) = self.peers.remove(&conn) {
            self.forget(&peer);
        }
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
                self.connect_any(user);
            }
            (2..9, Some(conn)) => {
                if self.peers[&conn].may_speak() {
                    for _ in 0..=self.rng.below(4) {
                        if !self.send_again(conn) {
                            self.send(conn);
                        }
                    }
                }
            }
            (9..13, Some(conn)) => {
                let count = self.rng.below(8);
                self.arrive(conn, count);
                self.report(conn);
                if self.rng.one_in(2) {
                    self.ack(conn);
                }
            }
            (13..15, Some(conn)) => {
                if self.peers[&conn].may_speak() {
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
                    self.lose_all();
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
            let quiet = peer.flight.is_empty()
                && !peer.watched
                && !peer.held
                && peer.taken.is_empty()
                && peer.awaited.is_empty();
            if quiet && peer.online {
                return;
            }
            self.arrive(conn, usize::MAX);
            self.report(conn);
            self.ack(conn);
        }
        panic!("it never ends");
    }

    /// Everyone comes, reads all and leaves in order: nothing promised may be missing, and nothing
    /// is left.
    fn drain(&mut self) {
        self.note("drain");
        self.lose_all();
        self.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
        self.start();
        self.ask_again();
        let mut left = 0;
        for round in 0..2 {
            for user in 0..USERS {
                let speaks = *self.rng.pick(&[Speaks::Plain, Speaks::Coded]);
                let conn = self.connect(user, speaks);
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

    /// Whoever does not know what became of a letter asks once more, and learns it.
    fn ask_again(&mut self) {
        for user in 0..USERS {
            let conn = self.connect(user, Speaks::Tool);
            self.settle_down(conn);
            while !self.unsure[user].is_empty() {
                self.send_again(conn);
                self.settle_down(conn);
            }
            self.close(conn, End::Broken);
            self.turn();
        }
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
    let (mut letters, mut promised, mut repeats, mut known) = (0, 0, 0, 0);
    for seed in first..first + runs {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.drain();
            let distinct: usize = world.letters.iter().map(|fate| fate.seen.len()).sum();
            let promised: usize = world.letters.iter().map(|fate| fate.promised.len()).sum();
            let repeats = world.readings() as usize - distinct;
            (world.letters.len(), promised, repeats, world.known)
        });
        match run {
            Ok((more, more_promised, more_repeats, more_known)) => {
                known += more_known;
                letters += more;
                promised += more_promised;
                repeats += more_repeats;
            }
            Err(_) => panic!("run again with MMS_SEED={seed}"),
        }
    }
    println!(
        "{runs} runs, {letters} letters, {promised} promises kept, {repeats} marked repeats, \
         {known} known by their key"
    );
    // A simulation that does nothing proves nothing.
    assert!(runs == 1 || (promised as u64 > 20 * runs && repeats > 0 && known > 0));
}
