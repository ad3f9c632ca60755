//! The promise under chance: the real engine over a simulated disk, network and clock, with model
//! clients and a checker that knows the words lost, doubled, unexpected and reordered.
//!
//! A third of the connections speak the coded dialect. What such a client reads it may forget,
//! until it has acknowledged it; what it sent under a key it sends again, if the connection or the
//! server went before the answer came.
//!
//! Most programs ask for receipts, and are told of a letter only once its reader has taken it.
//!
//! Users are removed and added, while the server runs and while it does not. Letters, keys and
//! acknowledgements belong to the holder of a name, not to the name; every holder counts his keys
//! from one.
//!
//! While no server runs, the operator holds letters of a user and releases them again.
//!
//! A seed replays a run: `MMS_SEED=17 cargo test --test sim`; `MMS_RUNS=100000` makes it long, and
//! both together go on where an earlier campaign ended.

mod support;

use mms::core::event::{Conn, End, Event, Trust};
use mms::store::custody::Decision;
use mms::store::spool::Sync;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use support::model::{Attempt, Fate, Peer, Person, Speaks};
use support::rng::{runs_from_env, seed_from_env};
use support::sim_disk::{Aftermath, Fault};
use support::sim_world::{STAYING, USERS, World};

const STEPS: usize = 150;
/// In a debug build they take some seconds.
const RUNS: u64 = 500;

/// What the clients do.
impl World {
    fn connect(&mut self, user: usize, speaks: Speaks) -> u32 {
        let taken = |conn: &u32| self.peers.contains_key(conn) || self.leaving.contains(conn);
        let conn = (0..).find(|conn| !taken(conn)).unwrap();
        let person = self.person(user);
        let floor = self.acked.get(&person).copied().unwrap_or_default();
        self.peers.insert(conn, Peer::new(person, speaks, floor));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.handle(Event::Opened { conn: Conn(conn), address, trust: Trust::Trusted });
        self.note(format!("u{user} connects as {conn}, {speaks:?}"));
        let password = self.password(person);
        if speaks == Speaks::Plain {
            self.line(conn, &format!("signin u{user} {password}"));
            return conn;
        }
        let kind = if speaks == Speaks::Tool { "tool" } else { "online" };
        self.line(conn, "coded 1");
        self.line(conn, &format!("signin u{user} {kind} plain {password}"));
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

    /// A key for the next letter, or none. The holders of a name use the same ones.
    fn key(&mut self, from: Person) -> String {
        let chance = self.rng.below(6);
        if chance == 0 {
            return String::new();
        }
        let count = self.keys.entry(from).or_default();
        *count += 1;
        match chance {
            1 => format!("=one-shot-{count} "),
            _ => format!("=phone{}:{count} ", from.0),
        }
    }

    /// Most programs want to be told when their letters are delivered.
    fn ask_for_receipts(&mut self, conn: u32) {
        let peer = self.peers.get_mut(&conn).expect("it is about to send");
        if peer.speaks != Speaks::Plain && !peer.asked && !conn.is_multiple_of(4) {
            peer.asked = true;
            self.line(conn, "receipts on");
        }
    }

    fn send(&mut self, conn: u32) {
        self.ask_for_receipts(conn);
        let letter = self.letters.len();
        let (from, coded) = (self.peers[&conn].person, self.peers[&conn].speaks != Speaks::Plain);
        let key = if coded { self.key(from) } else { String::new() };
        let tag = if coded { format!("@{letter} ") } else { String::new() };
        let (a, b) = (self.rng.below(USERS), self.rng.below(USERS));
        let (names, line) = match self.rng.below(6) {
            0 => (BTreeSet::from([a, b]), format!("{tag}send {key}(u{a} u{b}) ")),
            1 => (BTreeSet::from_iter(0..USERS), format!("{tag}broadcast {key}")),
            _ => (BTreeSet::from([a]), format!("{tag}send {key}u{a} ")),
        };
        let counted = coded && self.rng.one_in(4);
        let body = counted.then(|| format!("m{letter}\nand more }}"));
        let line = if counted { line } else { format!("{line}m{letter}") };
        let keyed = !key.is_empty();
        self.letters.push(Fate { from, names, line, body, keyed, ..Fate::default() });
        self.say(conn, letter);
    }

    /// Sends a letter that was not answered, or one that was, under its key.
    fn send_again(&mut self, conn: u32) -> bool {
        let (person, speaks) = (self.peers[&conn].person, self.peers[&conn].speaks);
        if speaks == Speaks::Plain {
            return false;
        }
        let mine = |fate: &Fate| fate.from == person && fate.keyed;
        let sure = || self.letters.iter().rposition(mine);
        let again = match self.unsure.get_mut(&person) {
            Some(unsure) if !unsure.is_empty() => Some(unsure.remove(0)),
            _ if self.rng.clone().one_in(4) => sure(),
            _ => None,
        };
        let Some(letter) = again else { return false };
        self.ask_for_receipts(conn);
        self.letters[letter].resent = true;
        self.say(conn, letter);
        true
    }

    fn say(&mut self, conn: u32, letter: usize) {
        let to = self.letters[letter].names.iter().map(|&user| self.person(user));
        let to: BTreeSet<Person> = to.collect();
        let fate = &mut self.letters[letter];
        if !fate.answered {
            fate.to.extend(&to);
        }
        let (line, body) = (fate.line.clone(), fate.body.clone());
        let peer = self.peers.get_mut(&conn).unwrap();
        peer.unanswered.push_back(Attempt { letter, to });
        peer.awaited.push(letter);
        let user = peer.person.0;
        self.note(format!("u{user}: {line}"));
        self.counted_line(conn, &line, body.as_deref());
    }

    /// The engine hears of an end first in a turn.
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
        self.leaving.insert(conn);
        self.handle(Event::Closed { conn: Conn(conn), end });
    }
}

/// What happens.
impl World {
    fn step(&mut self) {
        self.now.mono = self.now.mono.plus(1);
        self.now.unix_ms += 1;
        let conns: Vec<u32> = self.peers.keys().copied().collect();
        let conn = if conns.is_empty() { None } else { Some(*self.rng.pick(&conns)) };
        match (self.rng.below(20), conn) {
            (0..2, _) | (_, None) => {
                let user = self.rng.below(USERS);
                if self.is_user(user) {
                    self.connect_any(user);
                }
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
            (15, Some(conn)) => self.leave(conn),
            (16, Some(conn)) => self.close(conn, End::Broken),
            (17, Some(conn)) => {
                if self.peers[&conn].closing {
                    self.close(conn, End::Orderly);
                }
            }
            (18, _) => self.mishap(),
            (_, Some(_)) => {
                if self.restless && self.rng.one_in(2) {
                    self.change_users();
                    self.reload();
                }
            }
        }
        // Several events share a turn.
        if !self.rng.one_in(3) {
            self.turn();
        }
    }

    fn leave(&mut self, conn: u32) {
        let peer = &self.peers[&conn];
        if !peer.held && !peer.closing {
            self.note(format!("{conn} leaves"));
            match self.rng.below(2) {
                0 => self.line(conn, "signout"),
                _ => drop(self.handle(Event::Ended { conn: Conn(conn) })),
            }
        }
    }

    /// Any user but the first two, who stay.
    fn change_users(&mut self) {
        let user = STAYING + self.rng.below(USERS - STAYING);
        self.remove_or_add(user);
    }

    fn mishap(&mut self) {
        match self.rng.below(6) {
            4 => self.change_free(),
            0 => {
                self.note("killed");
                self.lose_all();
                self.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
                if self.rng.one_in(2) {
                    self.change_users();
                }
                self.start();
                // The server's first turn comes at once, too.
                self.turn();
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
            3 => {
                self.change_users();
                self.reload();
            }
            _ => {
                self.now.mono = self.now.mono.plus(30_000);
                self.now.unix_ms += 30_000;
            }
        }
    }

    fn settle_down(&mut self, conn: u32) {
        for _ in 0..1000 {
            if !self.turn() {
                panic!("the disk is well again");
            }
            if self.peers.get(&conn).is_none_or(Peer::is_quiet) {
                return;
            }
            self.arrive(conn, usize::MAX);
            self.report(conn);
            self.ack(conn);
        }
        panic!("it never ends");
    }
}

/// How it ends.
impl World {
    /// Everyone comes, reads all and leaves in order: nothing promised may be missing, and nothing
    /// is left.
    fn drain(&mut self) {
        self.note("drain");
        self.lose_all();
        self.disk.set_free(None);
        self.disk.take_time(None);
        self.disk.restart(Aftermath::ProcessOnly, &mut self.rng);
        self.decisive = false;
        for user in 0..STAYING {
            self.decide(user, Decision::Release);
        }
        self.start();
        self.ask_again();
        let mut left = 0;
        for round in 0..2 {
            for user in self.users() {
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
                self.check_promises();
                left = self.readings();
            }
        }
        assert_eq!(self.readings(), left, "after everyone has read and left nothing is shown");
    }

    /// Whoever does not know what became of a letter asks once more, and learns it.
    fn ask_again(&mut self) {
        for user in self.users() {
            let person = self.person(user);
            let conn = self.connect(user, Speaks::Tool);
            self.settle_down(conn);
            while self.unsure.get(&person).is_some_and(|unsure| !unsure.is_empty()) {
                self.send_again(conn);
                self.settle_down(conn);
            }
            self.close(conn, End::Broken);
            self.turn();
        }
    }

    /// What was promised has been read, or is held because its reader is no user any more.
    fn check_promises(&mut self) {
        let held = self.held();
        for (letter, fate) in self.letters.iter().enumerate() {
            for &user in &fate.promised {
                let now = self.person(user);
                let mut readers = fate.to.iter().filter(|reader| reader.0 == user);
                let held = held.contains(&(user, letter));
                let kept = |reader| fate.seen.contains_key(reader) || (*reader != now && held);
                if !readers.any(kept) {
                    self.fail("lost", letter, now);
                }
            }
        }
    }
}

#[test]
fn nothing_lost_doubled_unexpected_or_reordered() {
    let first = seed_from_env(1);
    let runs = runs_from_env(RUNS);
    let (mut letters, mut promised, mut repeats, mut known, mut decisions, mut receipts) =
        (0, 0, 0, 0, 0, 0);
    let mut turned_away = 0;
    for seed in first..first + runs {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.decisive = true;
            for _ in 0..STEPS {
                world.step();
            }
            world.drain();
            let distinct: usize = world.letters.iter().map(|fate| fate.seen.len()).sum();
            let promised: usize = world.letters.iter().map(|fate| fate.promised.len()).sum();
            let repeats = world.readings() as usize - distinct;
            let extra = (world.decisions, world.receipts, world.turned_away);
            (world.letters.len(), promised, repeats, world.known, extra)
        });
        match run {
            Ok((more, more_promised, more_repeats, more_known, extra)) => {
                decisions += extra.0;
                receipts += extra.1;
                turned_away += extra.2;
                letters += more;
                promised += more_promised;
                repeats += more_repeats;
                known += more_known;
            }
            Err(_) => panic!("run again with MMS_SEED={seed}"),
        }
    }
    println!(
        "{runs} runs from seed {first}, {letters} letters, {promised} promises kept, \
         {repeats} marked repeats, {known} known by their key, \
         {decisions} decisions of the operator, {receipts} receipts, \
         {turned_away} turned away by a full disk"
    );
    // A simulation that does nothing proves nothing.
    let busy = repeats > 0 && known > 0 && decisions > 0 && receipts > 0 && turned_away > 0;
    assert!(runs == 1 || (promised as u64 > 20 * runs && busy));
}

/// A world that syncs, and in which nothing happens by chance.
fn calm() -> World {
    let syncs = |world: &World| world.sync == Sync::Always;
    let world = (1..).map(World::new).find(syncs).expect("most of them sync");
    world.disk.crash_at(u64::MAX);
    world
}

/// What the stories below are made of.
impl World {
    fn change_and_reload(&mut self, user: usize) {
        self.remove_or_add(user);
        assert!(self.reload());
    }

    fn restart(&mut self, aftermath: Aftermath) {
        self.lose_all();
        self.disk.restart(aftermath, &mut self.rng);
        self.start();
        self.disk.crash_at(u64::MAX);
        assert!(self.turn());
    }

    fn comes(&mut self, user: usize, speaks: Speaks) -> u32 {
        let conn = self.connect(user, speaks);
        self.settle_down(conn);
        conn
    }

    /// One user's letter to another, confirmed.
    fn sent(&mut self, conn: u32, to: usize) {
        self.sent_as(conn, to, "send ");
    }

    fn sent_as(&mut self, conn: u32, to: usize, how: &str) {
        let (letter, from) = (self.letters.len(), self.peers[&conn].person);
        let line = format!("{how}u{to} m{letter}");
        self.letters.push(Fate { from, names: BTreeSet::from([to]), line, ..Fate::default() });
        self.say(conn, letter);
        self.settle_down(conn);
    }
}

#[test]
fn a_power_cut_gives_no_read_letter_to_a_later_holder_of_the_name() {
    let mut world = calm();
    let sender = world.comes(0, Speaks::Plain);
    world.sent(sender, 2);
    let reader = world.comes(2, Speaks::Plain);
    world.line(reader, "whoelse");
    world.settle_down(reader);
    assert_eq!(world.readings(), 1, "it is settled, but that is not synced");
    world.change_and_reload(2);
    world.remove_or_add(2);
    world.restart(Aftermath::LoseAll);
    // Whoever reads what is not for him is found out.
    world.comes(2, Speaks::Plain);
    assert_eq!(world.readings(), 1);
}

#[test]
fn a_user_removed_between_runs_leaves_the_marks_of_others_alone() {
    // In some of these the journal's last segment is full when the run ends, and the first letters
    // are copied behind it in the next run.
    for (others, fill, more) in (0..160).map(|n| (n % 8, 10 + n / 8 % 10, 3 + n / 80)) {
        let mut world = calm();
        let sender = world.comes(0, Speaks::Plain);
        world.sent(sender, 3);
        world.sent(sender, 2);
        world.change_and_reload(3);
        world.change_and_reload(3);
        for _ in 0..others {
            world.sent(sender, 1);
        }
        for _ in 0..fill {
            world.sent(sender, 0);
            world.line(sender, "whoelse");
            world.settle_down(sender);
        }
        world.remove_or_add(2);
        world.restart(Aftermath::ProcessOnly);
        // The later holder of the name settles what is newer.
        let (sender, later) = (world.comes(0, Speaks::Plain), world.comes(3, Speaks::Plain));
        for _ in 0..more {
            world.sent(sender, 3);
            world.settle_down(later);
            world.line(later, "whoelse");
            world.settle_down(later);
        }
        world.restart(Aftermath::ProcessOnly);
        let both = BTreeSet::from([(3, 0), (2, 1)]);
        assert_eq!(world.held(), both, "{others}, {fill} and {more} letters");
    }
}

#[test]
fn the_keys_of_a_removed_user_are_not_his_successors() {
    // His letter waits for its reader, was read, or has been copied to the journal's end.
    for (between_runs, read, fill) in (0..32).map(|n| (n % 2 == 0, n / 2 % 2 == 0, n / 4 * 5)) {
        let mut world = calm();
        let former = world.comes(2, Speaks::Tool);
        world.sent_as(former, 1, "@0 send =phone:1 ");
        world.close(former, End::Broken);
        if read {
            let reader = world.comes(1, Speaks::Coded);
            world.settle_down(reader);
        }
        if between_runs {
            world.remove_or_add(2);
            world.restart(Aftermath::ProcessOnly);
            world.remove_or_add(2);
        } else {
            world.change_and_reload(2);
            world.change_and_reload(2);
        }
        world.restart(Aftermath::ProcessOnly);
        let busy = world.comes(0, Speaks::Plain);
        for _ in 0..fill {
            world.sent(busy, 0);
            world.line(busy, "whoelse");
            world.settle_down(busy);
        }
        world.restart(Aftermath::ProcessOnly);
        // Refused it would be found out.
        let later = world.comes(2, Speaks::Tool);
        let tagged = format!("@{} send =phone:1 ", world.letters.len());
        world.sent_as(later, 1, &tagged);
        assert_eq!(world.known, 0, "{between_runs}, {read} and {fill} letters");
        world.restart(Aftermath::ProcessOnly);
        let later = world.comes(2, Speaks::Tool);
        world.say(later, world.letters.len() - 1);
        world.settle_down(later);
        assert_eq!(world.known, 1, "his own key lasts");
    }
}
