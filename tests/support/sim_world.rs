//! The world of the simulation: the real engine, what it said and what of that was promised, and
//! the readers who know the words lost, doubled, unexpected and reordered.

use super::model::{Attempt, Fate, Peer, Person, Said, Speaks, name, number};
use super::rng::Rng;
use super::sim_disk::{Aftermath, SimDisk};
use mms::core::event::{Conn, Event, Flow, Input};
use mms::core::hub::{Duplicate, Rules};
use mms::core::password::Verifier;
use mms::engine::{Engine, Load, Output};
use mms::proto::coded::Tag;
use mms::proto::id::LetterId;
use mms::proto::name::UserName;
use mms::proto::reply::{Refusal, Reply};
use mms::store::custody::{Decision, decide};
use mms::store::spool::{Config, Sync};
use mms::store::survey::{Survey, read_letter};
use mms::time::{Millis, Now};
use std::collections::{BTreeMap, BTreeSet};

pub const USERS: usize = 4;
/// The first of them are never removed.
pub const STAYING: usize = 2;

pub struct World {
    pub disk: SimDisk,
    pub engine: Option<Engine<SimDisk>>,
    pub now: Now,
    pub rng: Rng,
    pub peers: BTreeMap<u32, Peer>,
    /// Connections that are closed, to which something may still be said: their numbers are not
    /// free.
    pub leaving: BTreeSet<u32>,
    pub letters: Vec<Fate>,
    /// How often each name was removed or added: who is in the password file has an even number.
    pub changes: [u32; USERS],
    /// What each person's coded clients have acknowledged in this run of the server.
    pub acked: BTreeMap<Person, LetterId>,
    /// How many keys each person has used; another holder of the name uses the same ones.
    pub keys: BTreeMap<Person, u32>,
    /// Letters under a key whose answer never arrived, by sender.
    pub unsure: BTreeMap<Person, Vec<usize>>,
    /// Repeats that were answered with the first result.
    pub known: usize,
    /// Receipts that senders were told.
    pub receipts: usize,
    pub sync: Sync,
    /// Files that the spool keeps ready.
    spares: usize,
    /// Letters that a full disk had no room for.
    pub turned_away: usize,
    /// Whether users come and go all the time.
    pub restless: bool,
    /// Whether the operator holds and releases letters while no server runs.
    pub decisive: bool,
    /// How often he has.
    pub decisions: usize,
    /// Letters that may wait for one user.
    pub mailbox_letters: usize,
    trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let sync = if rng.one_in(4) { Sync::Never } else { Sync::Always };
        let restless = rng.one_in(2);
        let spares = 2 * usize::from(!rng.one_in(4));
        let mailbox_letters = if rng.one_in(4) { 3 } else { 60 };
        let now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };
        let mut world = Self {
            disk: SimDisk::new(),
            engine: None,
            now,
            rng,
            peers: BTreeMap::new(),
            leaving: BTreeSet::new(),
            letters: Vec::new(),
            changes: [0; USERS],
            acked: BTreeMap::new(),
            keys: BTreeMap::new(),
            unsure: BTreeMap::new(),
            known: 0,
            receipts: 0,
            sync,
            spares,
            turned_away: 0,
            restless,
            decisive: false,
            decisions: 0,
            mailbox_letters,
            trace: Vec::new(),
        };
        if seed.is_multiple_of(2) {
            world.disk.take_time(Some(Rng::new(seed)));
        }
        world.start();
        world
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    pub fn fail(&self, word: &str, letter: usize, person: Person) -> ! {
        self.stop(&format!("{word}: m{letter} for {person:?}"));
    }

    fn stop(&self, what: &str) -> ! {
        let from = self.trace.len().saturating_sub(60);
        panic!("{what}; the run ended so:\n{}", self.trace[from..].join("\n"));
    }

    pub fn person(&self, user: usize) -> Person {
        (user, self.changes[user])
    }

    pub fn is_user(&self, user: usize) -> bool {
        self.changes[user].is_multiple_of(2)
    }

    pub fn users(&self) -> Vec<usize> {
        (0..USERS).filter(|&user| self.is_user(user)).collect()
    }

    pub fn readings(&self) -> u32 {
        self.letters.iter().flat_map(|fate| fate.seen.values()).sum()
    }
}

/// The server, and what becomes of it.
impl World {
    /// Starts the engine; it may crash while it recovers, and is started again.
    pub fn start(&mut self) {
        let rules = Rules {
            idle_timeout_s: 600,
            duplicate: Duplicate::Replace,
            mailbox_letters: self.mailbox_letters,
            mailbox_bytes: 1 << 20,
            password_rounds: 1,
            ..Rules::default()
        };
        if self.decisive && self.rng.one_in(3) {
            let (user, hold) = (self.rng.below(STAYING), self.rng.one_in(2));
            self.decide(user, if hold { Decision::Hold } else { Decision::Release });
        }
        for attempt in 0.. {
            let entries = self.entries();
            if attempt < 3 && self.rng.one_in(3) {
                let steps = self.disk.steps() + 1 + self.rng.below(12) as u64;
                self.disk.crash_at(steps);
            }
            let config = Config {
                sync: self.sync,
                segment_bytes: 1500,
                slack_bytes: 6000,
                batch_bytes: 3000,
                fill_bytes: 3000,
                spares: self.spares,
            };
            let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
                bytes.fill(7);
                Ok(())
            };
            let (disk, rules) = (self.disk.clone(), rules.clone());
            match Engine::open(disk, config, rules, entries, self.now, &mut entropy) {
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

    /// The operator decides over the letters of a user who stays: all of them are his.
    pub fn decide(&mut self, user: usize, decision: Decision) {
        if decision == Decision::Release {
            for (_, letter) in self.held().into_iter().filter(|held| held.0 == user) {
                self.letters[letter].released = true;
            }
        }
        // Who decides has made room first.
        self.disk.set_free(None);
        let name = name(user);
        let done = decide(&mut self.disk, name.as_str(), decision, self.now.unix_ms, 7);
        let letters = done.expect("the disk is well").letters;
        self.note(format!("{decision:?}: {letters} letters of {name}"));
        self.decisions += usize::from(letters > 0);
    }

    /// What the password file says.
    fn entries(&self) -> Vec<(UserName, Verifier)> {
        let verifier =
            |user| Verifier::derive(self.password(self.person(user)).as_bytes(), b"12345678", 1);
        self.users().into_iter().map(|user| (name(user), verifier(user))).collect()
    }

    /// Each holder of a name has his own.
    pub fn password(&self, person: Person) -> String {
        format!("p{}", person.1)
    }

    /// The operator removes a user, or gives the name to somebody else.
    pub fn remove_or_add(&mut self, user: usize) {
        self.changes[user] += 1;
        self.note(format!("u{user} is {}", if self.is_user(user) { "added" } else { "removed" }));
    }

    /// The password file is read again, at the end of a turn. False if that was not survived.
    pub fn reload(&mut self) -> bool {
        let entries = self.entries();
        self.handle(Event::Reloaded { entries });
        self.turn()
    }

    /// The server is gone, and with it all connections. An acknowledgement may be lost with it.
    pub fn lose_all(&mut self) {
        self.engine = None;
        self.leaving.clear();
        for (_, peer) in std::mem::take(&mut self.peers) {
            self.forget(&peer);
        }
        self.acked.clear();
    }

    /// What a client that is gone does not know: it will ask again under the same key.
    pub fn forget(&mut self, peer: &Peer) {
        let keyed = peer.awaited.iter().filter(|&&letter| self.letters[letter].keyed);
        self.unsure.entry(peer.person).or_default().extend(keyed);
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

    pub fn handle(&mut self, event: Event<'_>) -> Flow {
        self.engine.as_mut().expect("it runs").handle(event, self.now)
    }

    /// The rest of a turn. False if the engine did not survive it.
    pub fn turn(&mut self) -> bool {
        let engine = self.engine.as_mut().expect("it runs");
        if engine.deadline().is_some_and(|at| at <= self.now.mono) {
            engine.tick(self.now);
        }
        let early = engine.release(|output| panic!("said before it was durable: {output:?}"));
        early.expect("nothing was released, so nothing failed");
        if let Err(e) = engine.commit() {
            return self.ended(&format!("commit failed: {e}"));
        }
        let mut out = Vec::new();
        if let Err(e) = engine.release(|output| out.push(carried(output))) {
            return self.ended(&format!("release failed: {e}"));
        }
        for (conn, said, wish) in out {
            self.said(conn.0, said, wish);
        }
        let load = if self.rng.one_in(2) { Load::Idle } else { Load::Busy };
        let engine = self.engine.as_mut().expect("it runs");
        if let Err(e) = engine.prepare(self.now, load) {
            return self.ended(&format!("prepare failed: {e}"));
        }
        true
    }

    /// The engine has given up, which it never does because the disk is full.
    fn ended(&mut self, why: &str) -> bool {
        self.note(why);
        if !self.disk.is_disturbed() {
            self.stop(why);
        }
        self.after_crash();
        self.start();
        false
    }

    /// Others fill the disk, or give back some of it. Who has room ready never ends for that.
    pub fn change_free(&mut self) {
        if self.spares > 0 {
            let free = match self.rng.below(3) {
                0 => None,
                1 => Some(0),
                _ => Some(self.rng.below(20_000)),
            };
            self.note(format!("{free:?} bytes are free"));
            self.disk.set_free(free);
        }
    }

    /// The texts that the spool keeps for those who are no users any more, as the operator sees it.
    pub fn held(&mut self) -> BTreeSet<(usize, usize)> {
        let disk = &mut self.disk;
        let survey = Survey::take(disk).expect("it can be read");
        let mut held = BTreeSet::new();
        for (name, mailbox) in &survey.mailboxes {
            for at in mailbox.held.values() {
                let letter = read_letter(disk, *at, |letter| lettered(letter.body));
                held.insert((number(name), letter.expect("it is whole")));
            }
        }
        held
    }
}

/// The number of a letter with this text.
fn lettered(body: &str) -> usize {
    let first = body.lines().next().unwrap();
    first.strip_prefix('m').unwrap().parse().unwrap()
}

fn text(body: &[u8]) -> String {
    str::from_utf8(body).expect("a letter's text is UTF-8").to_owned()
}

/// What leaves the engine: to whom, what he hears of it, and what the network is asked.
fn carried(output: Output<'_>) -> (Conn, Option<Said>, Option<char>) {
    match output {
        Output::Say(conn, tag, reply) => (conn, Some(Said::Reply(tag, reply.clone())), None),
        Output::Show { conn, from, body, showing } => {
            let (from, body) = (from.as_str().to_owned(), text(body));
            (conn, Some(Said::Letter { from, body, again: showing.again, id: None }), None)
        }
        Output::Letter(conn, letter) => {
            let (from, body) = (letter.from.to_owned(), text(letter.body));
            let (again, id) = (letter.again, Some(letter.id));
            (conn, Some(Said::Letter { from, body, again, id }), None)
        }
        Output::Watch(conn) => (conn, None, Some('w')),
        Output::Look(conn) => (conn, None, Some('l')),
        Output::Resume(conn) => (conn, None, Some('r')),
        Output::Close { conn, .. } => (conn, None, Some('c')),
        Output::Free(conn) => (conn, None, Some('f')),
        Output::SavePassword(_) => unreachable!("nobody in here changes his password"),
    }
}

/// What is promised.
impl World {
    fn said(&mut self, conn: u32, said: Option<Said>, wish: Option<char>) {
        if wish == Some('f') {
            assert!(self.leaving.remove(&conn), "{conn} is free twice");
        }
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        assert!(!self.leaving.contains(&conn), "its number is in use again");
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
                    let acking = peer.acking.pop_front().expect("a ping went before");
                    let acked = self.acked.entry(peer.person).or_default();
                    *acked = acking.max(*acked);
                }
                Reply::Delivered { id, user } => {
                    let (person, id, user) = (peer.person, *id, number(user.as_str()));
                    self.check_receipt(person, id, user);
                }
                _ => {}
            }
            let (tag, reply) = (*tag, reply.clone());
            if let Some(letter) = self.answered(conn, tag, &reply) {
                said = Said::Answer(letter);
            }
        }
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.flight.push_back(said);
        }
    }

    /// What was released counts as promised, whether it arrives or not. Tells which letter it was
    /// about, if it answers one.
    fn answered(&mut self, conn: u32, tag: Option<Tag>, reply: &Reply) -> Option<usize> {
        let (told, id): (Vec<usize>, _) = match reply {
            Reply::Sent { to, id } | Reply::Saved { to, id } => {
                (vec![number(to.as_str())], Some(*id))
            }
            Reply::Fates(fates) => {
                let all = fates.sent.iter().chain(&fates.saved);
                (all.map(|to| number(to.as_str())).collect(), fates.id)
            }
            Reply::Broadcast { id, .. } => (vec![], *id),
            Reply::Known(id) => (vec![], Some(*id)),
            Reply::Refused(refusal) => {
                self.check_refusal(conn, refusal)?;
                (vec![], None)
            }
            _ => return None,
        };
        let known = matches!(reply, Reply::Known(_));
        let peer = self.peers.get_mut(&conn)?;
        let (person, speaks) = (peer.person, peer.speaks);
        let Some(Attempt { letter, to }) = peer.unanswered.pop_front() else {
            self.stop(&format!("an answer to nothing for {conn}: {reply:?}"));
        };
        let want = (speaks != Speaks::Plain).then(|| format!("@{letter}"));
        let tag = tag.map(|tag| format!("{tag:?}"));
        assert_eq!(tag, want, "the tag of m{letter} of {person:?}");
        let fate = &mut self.letters[letter];
        if let Some(id) = id {
            // Under one key there is one letter with one number, whoever asks how often.
            let same = *fate.id.get_or_insert(id) == id;
            if !same || (fate.answered && !known) {
                self.fail("doubled", letter, person);
            }
            if !known {
                fate.to = to;
            }
        }
        fate.answered |= id.is_some();
        fate.promised.extend(told);
        // Of a list nobody knows who had room.
        if let (true, 1, Some(&one)) = (known, fate.names.len(), fate.names.first()) {
            fate.promised.insert(one);
        }
        self.known += usize::from(known);
        Some(letter)
    }

    /// A sender is told only of his own letters, and only what their reader has taken.
    fn check_receipt(&mut self, sender: Person, id: LetterId, user: usize) {
        let Some(letter) = self.letters.iter().position(|fate| fate.id == Some(id)) else {
            self.stop(&format!("a receipt for {id}, which nobody was told of"));
        };
        let fate = &self.letters[letter];
        // What the operator gave back is another letter. Of the first nothing waits any more, so a
        // sender who asks again is told that it is delivered, read or not: PROTOCOL.md says so.
        let taken = fate.released || fate.seen.keys().any(|reader| reader.0 == user);
        if !taken || fate.from != sender {
            self.fail("not delivered", letter, (user, 0));
        }
        self.receipts += 1;
    }

    /// Whether what is refused is a letter, and rightly. `None` if it is not about a letter.
    fn check_refusal(&mut self, conn: u32, refusal: &Refusal) -> Option<()> {
        let peer = self.peers.get(&conn)?;
        match (refusal, peer.unanswered.front()) {
            (Refusal::MailboxFull(_) | Refusal::NobodyElse, Some(_)) => return Some(()),
            (Refusal::DiskFull, Some(_)) if self.disk.was_full() => {
                self.turned_away += 1;
                return Some(());
            }
            (Refusal::NoSuchUser { .. }, Some(Attempt { to, .. }))
                if to.iter().any(|person| !person.1.is_multiple_of(2)) =>
            {
                return Some(());
            }
            // Who is no user any more does not come in.
            (_, None) if !peer.online && self.person(peer.person.0) != peer.person => return None,
            // Whose password was being checked when he was removed has failed, and three such
            // failures block the name for a minute, whoever has it then.
            (Refusal::Blocked { .. }, None) if !peer.online && peer.person.1 > 0 => return None,
            _ => {}
        }
        self.stop(&format!("{:?} is refused: {refusal:?}", peer.person));
    }
}

/// The clients, as the server and the kernel see them.
impl World {
    /// The next `count` things arrive and are read.
    pub fn arrive(&mut self, conn: u32, count: usize) {
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
        let person @ (user, _) = self.peers[&conn].person;
        let letter = lettered(body);
        let mark = if again { "again" } else { "" };
        self.note(format!("u{user} reads m{letter} of {from} {mark}"));
        let Some(fate) = self.letters.get_mut(letter) else {
            self.fail("unexpected", letter, person);
        };
        let whole = fate.body.as_deref().is_none_or(|whole| whole == body);
        let other = fate.shown.iter().any(|other| other.0 == user && *other != person);
        if !fate.to.contains(&person) || fate.from.0 != number(from) || !whole || other {
            self.fail("unexpected", letter, person);
        }
        fate.shown.insert(person);
        if id.is_some_and(|id| !fate.released && *fate.id.get_or_insert(id) != id) {
            self.fail("doubled", letter, person);
        }
        let (sender, resent) = (fate.from.0, fate.resent || fate.released);
        // A connection that was given up may be read late: marked repeats may come before.
        if !again && !fate.unmarked.insert(person) {
            self.fail("doubled", letter, person);
        }
        let peer = self.peers.get_mut(&conn).expect("it is reading");
        let last = peer.last_read.insert(sender, letter);
        let moved = |fate: &Fate| fate.resent || fate.released;
        let last = last.filter(|&last| !resent && !moved(&self.letters[last]));
        if last.is_some_and(|last| last >= letter) {
            self.fail("reordered", letter, person);
        }
        if (peer.speaks == Speaks::Coded) != id.is_some() {
            self.fail("unexpected", letter, person);
        }
        let Some(id) = id else {
            *self.letters[letter].seen.entry(person).or_default() += 1;
            return;
        };
        peer.taken.push(letter);
        if std::mem::replace(&mut peer.last_id, id) >= id {
            self.fail("reordered", letter, person);
        }
        if id <= peer.floor {
            self.fail("doubled after it was acknowledged", letter, person);
        }
    }

    /// What was read is safe in the client's inbox, and it says so. Up to here it could forget it.
    pub fn ack(&mut self, conn: u32) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| peer.may_speak()) else { return };
        if peer.taken.is_empty() {
            return;
        }
        let (person, id) = (peer.person, peer.last_id);
        peer.acking.push_back(id);
        for letter in std::mem::take(&mut peer.taken) {
            *self.letters[letter].seen.entry(person).or_default() += 1;
        }
        self.note(format!("u{} acknowledges {id}", person.0));
        self.line(conn, &format!("ack {id}"));
        self.line(conn, "@p ping");
    }

    /// Tells the engine what arrived, as a kernel would.
    pub fn report(&mut self, conn: u32) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let (through, drained) = (peer.arrived, peer.flight.is_empty() && peer.watched);
        peer.watched &= !drained;
        let telnet = peer.speaks == Speaks::Plain && self.rng.one_in(3);
        if telnet {
            // What arrives is read, so the program that reads may answer a mark behind it.
            self.handle(Event::Marked { conn: Conn(conn), through });
        }
        self.handle(Event::Acknowledged { conn: Conn(conn), through, input: Input::Taken });
        if drained {
            self.handle(Event::Drained { conn: Conn(conn) });
        }
    }

    pub fn line(&mut self, conn: u32, line: &str) {
        self.counted_line(conn, line, None);
    }

    pub fn counted_line(&mut self, conn: u32, line: &str, body: Option<&str>) {
        let (line, body) = (line.as_bytes(), body.map(str::as_bytes));
        let flow = self.handle(Event::Line { conn: Conn(conn), line, body });
        if let (Flow::Hold, Some(peer)) = (flow, self.peers.get_mut(&conn)) {
            peer.held = true;
        }
    }
}
