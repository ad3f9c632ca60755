//! The companion and the server as one: the client's real core joined to the real engine over
//! simulated disks, a simulated network and a virtual clock. First chance, with a checker that
//! knows the words lost, doubled, unexpected and reordered; then a story for each thing that chance
//! might miss.
//!
//! A seed replays a run: `MMS_SEED=17 cargo test --test joined`; `MMS_RUNS=10000` makes it long.

mod support;

use mms::client::inbox::{Inbox, Keys};
use mms::core::hub::Duplicate;
use mms::proto::coded_client::Letter;
use mms::proto::id::LetterId;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use support::joined::{DEVICES, Loss, Start, USERS, World};
use support::rng::{Rng, seed_from_env};
use support::sim_disk::{Aftermath, Fault, SimDisk};

const STEPS: usize = 1500;
/// In a debug build they take some seconds.
const RUNS: u64 = 100;

/// What sort of a run it is.
#[derive(Clone, Copy)]
struct Mood {
    /// Something goes wrong once in so many steps.
    calm: usize,
    /// The server's spool may be lost.
    spools_go: bool,
    /// This device, if there is one, has nowhere to keep an inbox.
    homeless: usize,
}

/// What happens by chance.
impl World {
    fn step(&mut self, mood: Mood) {
        let device = self.rng.below(DEVICES.len());
        let cables = self.cables();
        let conn = match self.conn(device) {
            Some(conn) => conn,
            None if cables.is_empty() => 0,
            None => *self.rng.pick(&cables),
        };
        let few = [1, 7, 60, 700, 5000, usize::MAX, usize::MAX];
        let few = *self.rng.pick(&few);
        match self.rng.below(100) {
            _ if self.rng.one_in(mood.calm) => self.mishap(device, conn, mood),
            _ if self.engine.is_none() && self.rng.one_in(12) => self.start_server(),
            0..20 => _ = self.carry_up(conn, few),
            20..40 => _ = self.carry_down(conn, few),
            40..60 => _ = self.turn(),
            60..82 => self.act(device, mood),
            82..88 => self.connect(device),
            88..94 => self.person(device, mood),
            _ => self.time(mood),
        }
    }

    /// A person looks at what is on the paper; meanwhile the process may be killed.
    fn act(&mut self, device: usize, mood: Mood) {
        let some = self.rng.below(4);
        for _ in 0..3 {
            match self.rng.below(24) {
                0 if self.rng.one_in(mood.calm / 4) => {
                    return self.kill(device, Aftermath::ProcessOnly);
                }
                0..12 => _ = self.print(device, some),
                _ => _ = self.tell(device),
            }
        }
    }

    fn person(&mut self, device: usize, mood: Mood) {
        if self.clients[device].desk.is_none() {
            let password = self.passwords[self.clients[device].user];
            let saved = !self.rng.one_in(10);
            let (patient, home) = (self.rng.one_in(4), device != mood.homeless);
            return self.start_as(device, Start { password, saved, patient, home });
        }
        if self.clients[device].leaving {
            return;
        }
        let (a, b) = (self.rng.below(USERS), self.rng.below(USERS));
        let filler = "x".repeat(1 + self.rng.below(3000));
        let more = ["", "", "", " and\nmore }", &filler];
        let more = (*self.rng.pick(&more)).to_owned();
        match self.rng.below(12) {
            0 if self.rng.one_in(mood.calm / 4) => self.leave(device),
            1 => self.type_line(device, "whoelse", None),
            2 => _ = self.type_message(device, &[], &more),
            3 if a != b => _ = self.type_message(device, &[a, b], &more),
            _ => {
                for _ in 0..=self.rng.below(3) {
                    if self.clients[device].desk.is_some() {
                        self.type_message(device, &[a], &more);
                    }
                }
            }
        }
    }

    fn time(&mut self, mood: Mood) {
        let (short, long) = ([1, 10, 300, 1500], [40_000, 150_000, 2_000_000]);
        let ms = match (self.rng.below(4), self.deadline()) {
            (0, _) if self.rng.one_in(mood.calm / 4) => *self.rng.pick(&long),
            (1, Some(at)) => at.since(self.now.mono).clamp(1, 2000),
            _ => *self.rng.pick(&short),
        };
        self.tick(ms);
    }

    fn mishap(&mut self, device: usize, conn: u32, mood: Mood) {
        let soon = 1 + self.rng.below(9) as u64;
        let losses =
            [Loss::Both, Loss::Both, Loss::ServerUnaware, Loss::ClientUnaware, Loss::Silent];
        match self.rng.below(12) {
            0..3 => {
                let loss = *self.rng.pick(&losses);
                self.lose(conn, loss);
            }
            3 | 4 => self.disk.crash_at(self.disk.steps() + soon),
            5 => {
                let aftermath = self.aftermath();
                self.kill_server(aftermath);
            }
            6..9 => {
                let disk = &self.clients[device].disk;
                disk.crash_at(disk.steps() + soon);
            }
            9 => {
                let aftermath = self.aftermath();
                self.kill(device, aftermath);
            }
            10 if mood.spools_go => self.lose_spool(),
            10 => {}
            _ => self.change_password(self.clients[device].user),
        }
    }
}

#[test]
fn nothing_lost_doubled_unexpected_or_reordered() {
    let first = seed_from_env(1);
    let runs = match std::env::var("MMS_SEED") {
        Ok(_) => 1,
        Err(_) => std::env::var("MMS_RUNS").map_or(RUNS, |n| n.parse().expect("a number")),
    };
    let (mut typed, mut promised, mut unmarked, mut marked) = (0, 0, 0, 0);
    for seed in first..first + runs {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.restless = true;
            let calm = *world.rng.pick(&[12, 50, 200]);
            let (spools_go, homeless) = (world.rng.one_in(4), world.rng.below(8));
            let mood = Mood { calm, spools_go, homeless };
            if world.rng.one_in(2) {
                world.rules.duplicate = Duplicate::Replace;
            }
            world.start_server();
            for _ in 0..STEPS {
                world.step(mood);
            }
            world.drain();
            let promised: usize = world.ledger.messages.iter().map(|m| m.promised.len()).sum();
            (world.ledger.messages.len() - 1, promised, world.ledger.unmarked, world.ledger.marked)
        });
        let Ok(run) = run else { panic!("run again with MMS_SEED={seed}") };
        typed += run.0;
        promised += run.1;
        unmarked += run.2;
        marked += run.3;
    }
    println!(
        "{runs} runs, {typed} messages typed, {promised} promises kept, {unmarked} letters shown \
         and {marked} with a mark"
    );
    // A simulation that does nothing proves nothing.
    assert!(runs == 1 || (promised as u64 > 5 * runs && marked > 0));
}

// ---- stories ---------------------------------------------------------------------------------------

/// A world in which nothing happens by chance, with its server.
fn calm() -> World {
    let mut world = World::new(1);
    world.start_server();
    world
}

impl World {
    fn enters(&mut self, device: usize) {
        self.start(device);
        self.until("signed in", |world| world.clients[device].signed_in);
        self.settle();
    }

    /// A message that was answered with OK.
    fn sent(&mut self, device: usize, to: usize) -> usize {
        let number = self.type_message(device, &[to], "");
        self.until("an answer", |world| world.ledger.messages[number].answered);
        number
    }

    fn leaves(&mut self, device: usize) {
        self.leave(device);
        self.until("left", |world| world.clients[device].desk.is_none());
    }

    fn shown(&self, device: usize) -> Vec<i64> {
        self.clients[device].letters()
    }
}

#[test]
fn letters_of_a_new_spool_are_new() {
    // Whether the companion runs on or begins anew.
    for runs_on in [true, false] {
        let mut world = calm();
        world.enters(1);
        world.enters(2);
        for _ in 0..3 {
            world.sent(2, 1);
        }
        assert_eq!(world.shown(1), [1, 2, 3]);
        world.lose_spool();
        world.now.unix_ms -= 10_000_000;
        if !runs_on {
            world.kill(1, Aftermath::ProcessOnly);
        }
        world.start_server();
        world.settle();
        if !runs_on {
            world.enters(1);
        }
        world.until("back", |world| world.online().len() == 2);
        // It has a lesser id than any before.
        world.by_hand = true;
        world.type_message(2, &[1], "");
        for device in [2, 1] {
            world.think(device);
            world.say(device);
            world.turn_and_carry();
        }
        world.think(1);
        world.kill(1, Aftermath::ProcessOnly);
        world.by_hand = false;
        world.enters(1);
        assert_eq!(world.shown(1), [-4], "it was kept, and not shown; {runs_on}");
        world.sent(2, 1);
        assert_eq!(world.shown(1), [-4, 5]);
        world.drain();
    }
}

// ---- what a companion keeps -----------------------------------------------------------------------

/// What is known of an inbox: what it said is durable, and what was shown.
struct Keeper {
    letters: u32,
    /// Bytes of each.
    bytes: usize,
    synced: BTreeSet<u32>,
    printed: u32,
}

impl Keeper {
    fn new(letters: u32, bytes: usize) -> Self {
        Self { letters, bytes, synced: BTreeSet::new(), printed: 0 }
    }

    fn letter(&self, seq: u32) -> Letter {
        let text = format!("m{seq}{}", "x".repeat(self.bytes));
        Letter::parse(&format!("9.{seq} 5 - tim {text}")).unwrap()
    }

    fn id(seq: u32) -> LetterId {
        LetterId { epoch: 9, seq }
    }

    /// A companion's life: it takes what it does not have, four at a time, and shows it.
    fn live(&mut self, disk: &SimDisk) -> io::Result<()> {
        let mut inbox = Inbox::open(disk.clone(), "fred", "00aa")?;
        for seq in 1..=self.letters {
            if !inbox.has(Self::id(seq)) {
                inbox.keep(&self.letter(seq))?;
            }
            if seq % 4 == 0 {
                inbox.sync()?;
                self.synced.extend(1..=seq);
                self.printed = self.printed.max(seq - 1);
                inbox.printed(Self::id(seq - 1))?;
            }
        }
        Ok(())
    }

    fn check(&self, disk: &SimDisk, when: &str) {
        let inbox = Inbox::open(disk.clone(), "fred", "00aa").expect("the disk is well again");
        for seq in 1..=self.letters {
            let here = inbox.unprinted().iter().filter(|letter| letter.id == Self::id(seq));
            let here: Vec<_> = here.collect();
            let had = inbox.has(Self::id(seq));
            assert!(had || !self.synced.contains(&seq), "lost: {seq}; {when}");
            assert!(!had || seq <= self.printed || here.len() == 1, "skipped: {seq}; {when}");
            assert!(here.iter().all(|&it| *it == self.letter(seq)), "holed: {seq}; {when}");
        }
    }

    /// Crashes a life at this step, begins another one, and cuts the power once more.
    fn crash(letters: u32, bytes: usize, step: u64, aftermath: Aftermath, rng: &mut Rng) {
        let (disk, mut keeper) = (SimDisk::new(), Self::new(letters, bytes));
        disk.crash_at(step);
        assert!(keeper.live(&disk).is_err());
        disk.restart(aftermath, rng);
        let when = format!("step {step}, {aftermath:?}");
        keeper.check(&disk, &when);
        keeper.live(&disk).unwrap();
        disk.restart(Aftermath::LoseAll, rng);
        keeper.check(&disk, &format!("{when}, and a second life"));
    }
}

#[test]
fn an_inbox_survives_its_machine_at_every_step() {
    let mut rng = Rng::new(1);
    let whole = SimDisk::new();
    Keeper::new(12, 900).live(&whole).unwrap();
    for step in 1..=whole.steps() {
        for aftermath in [Aftermath::ProcessOnly, Aftermath::LoseAll, Aftermath::KeepAll] {
            Keeper::crash(12, 900, step, aftermath, &mut rng);
        }
        for _ in 0..8 {
            Keeper::crash(12, 900, step, Aftermath::Torn, &mut rng);
        }
    }
    // In this one the file is written anew, shortly before its end.
    let large = SimDisk::new();
    Keeper::new(20, 60_000).live(&large).unwrap();
    let last = large.steps();
    assert!(large.contents()["fred@00aa.inbox"].len() < 20 * 60_000 / 2);
    for step in last - 9..=last {
        for aftermath in [Aftermath::LoseAll, Aftermath::Torn] {
            Keeper::crash(20, 60_000, step, aftermath, &mut rng);
        }
    }
}

#[test]
fn no_key_is_used_twice_whatever_the_disk_does() {
    /// Three companions one after another, each with more messages than keys are drawn at a time;
    /// something happens during the second and the third.
    fn keys(happens: impl Fn(&SimDisk), aftermath: Aftermath, rng: &mut Rng) -> Vec<String> {
        let (disk, mut used) = (SimDisk::new(), vec![]);
        for life in 0..3 {
            if life > 0 {
                happens(&disk);
            }
            let dice = rng.next();
            let opened = Keys::open(disk.clone(), dice);
            let mut keys = opened.unwrap_or_else(|_| Keys::of_this_run(dice));
            // A process that is gone has used none of those that it was drawing.
            used.extend((0..150).map(|_| keys.take()).take_while(|_| !disk.crashed()));
            disk.restart(aftermath, rng);
        }
        used
    }
    let mut rng = Rng::new(1);
    for step in 1..40 {
        for aftermath in [Aftermath::LoseAll, Aftermath::KeepAll, Aftermath::Torn] {
            for fault in 0..3 {
                let happens = |disk: &SimDisk| {
                    let step = disk.steps() + step;
                    match fault {
                        0 => disk.crash_at(step),
                        1 => disk.fail_at(step, Fault::Once(ErrorKind::StorageFull)),
                        _ => disk.fail_at(step, Fault::ForGood(ErrorKind::Other)),
                    }
                };
                let used = keys(happens, aftermath, &mut rng);
                let distinct: BTreeSet<&String> = used.iter().collect();
                assert_eq!(distinct.len(), used.len(), "step {step}, {aftermath:?}, {fault}");
                assert!(fault == 0 || used.len() == 450);
            }
        }
    }
}
