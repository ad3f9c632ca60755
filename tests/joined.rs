//! The companion and the server as one: the client's real core joined to the real engine over
//! simulated disks, a simulated network and a virtual clock. First chance, with a checker that
//! knows the words lost, doubled, unexpected and reordered; then a story for each thing that chance
//! might miss.
//!
//! A seed replays a run: `MMS_SEED=17 cargo test --test joined`; `MMS_RUNS=10000` makes it long,
//! and both together go on where an earlier campaign ended.

mod support;

use mms::core::hub::Duplicate;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use support::joined::{DEVICES, Loss, Start, USERS, World};
use support::rng::{runs_from_env, seed_from_env};
use support::sim_disk::{Aftermath, Fault};

const STEPS: usize = 1500;
/// In a debug build they take some seconds.
const RUNS: u64 = 150;

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
    let runs = runs_from_env(RUNS);
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
        "{runs} runs from seed {first}, {typed} messages typed, {promised} promises kept, \
         {unmarked} letters shown and {marked} with a mark"
    );
    // A simulation that does nothing proves nothing.
    assert!(runs == 1 || (promised as u64 > 5 * runs && marked > 0));
}

// ---- stories ----------------------------------------------------------------------------------

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

    /// A message is typed and reaches its reader's companion, which has not done anything yet.
    fn message_comes(&mut self, from: usize, to: usize) {
        self.type_message(from, &[to], "");
        self.think(from);
        self.say(from);
        self.turn_and_carry();
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
        // One of the old spool is kept, and waits on the paper for its reader's eyes.
        world.by_hand = true;
        world.message_comes(2, 1);
        assert!(world.think(1) && world.say(1));
        world.by_hand = !runs_on;
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
        let old: &[i64] = if runs_on { &[1, 2, 3, 4] } else { &[] };
        assert_eq!(world.shown(1), old);
        // It has a lesser id than any before.
        world.by_hand = true;
        world.message_comes(2, 1);
        world.think(1);
        world.kill(1, Aftermath::ProcessOnly);
        world.by_hand = false;
        world.enters(1);
        assert_eq!(world.shown(1), [-5], "it was kept, and not shown; {runs_on}");
        world.sent(2, 1);
        assert_eq!(world.shown(1), [-5, 6]);
        world.drain();
    }
}

#[test]
fn what_is_seen_of_an_old_spool_marks_nothing_of_a_new_one() {
    let mut world = calm();
    world.enters(1);
    world.enters(2);
    world.by_hand = true;
    world.message_comes(2, 1);
    assert!(world.think(1) && world.say(1));
    world.lose_spool();
    world.now.unix_ms -= 10_000_000;
    world.start_server();
    world.unseen.insert(1);
    world.by_hand = false;
    world.until("back", |world| world.clients[1].signed_in && world.clients[2].signed_in);
    world.by_hand = true;
    world.message_comes(2, 1);
    world.think(1);
    // Its reader sees the first one, of the old spool, and no more.
    while world.shown(1).is_empty() {
        assert!(world.print(1, 1));
    }
    world.tell(1);
    assert_eq!(world.shown(1), [1]);
    world.kill(1, Aftermath::ProcessOnly);
    (world.by_hand, world.unseen) = (false, BTreeSet::new());
    world.enters(1);
    assert_eq!(world.shown(1), [-2]);
    world.drain();
}

/// What becomes of messages whose answers, acknowledgements or servers are gone.
impl World {
    /// Goes on until the server's OK is on its way to this device, and loses it; gives it back.
    fn ok_is_lost(&mut self, device: usize) -> String {
        for _ in 0..1000 {
            self.connect(device);
            for conn in self.cables() {
                self.carry_up(conn, usize::MAX);
            }
            while self.turn() {}
            if let Some(conn) = self.conn(device) {
                let said = self.on_the_way_down(conn);
                if let Some(ok) = said.lines().find(|line| line.starts_with("250 ")) {
                    self.lose_at(conn, Loss::Both, 0, 0);
                    self.carry_down(conn, usize::MAX);
                    return ok.to_owned();
                }
                if self.carry_down(conn, usize::MAX) {
                    continue;
                }
            }
            self.tick(100);
        }
        self.fail("no OK is on its way");
    }

    fn is_told(&self, device: usize, what: &str) -> bool {
        self.clients[device].count(what) > 0
    }
}

#[test]
fn an_ok_that_is_lost_ten_times_leaves_one_copy() {
    let mut world = calm();
    world.enters(1);
    world.enters(2);
    let number = world.type_message(2, &[1], "");
    let ids: BTreeSet<String> =
        (0..10).map(|_| world.ok_is_lost(2).split(' ').nth(2).expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    world.until("an answer", |world| world.ledger.messages[number].answered);
    assert!(world.is_told(2, "message sent to u1; an earlier try had got through"));
    assert_eq!(world.shown(1), [1]);
    assert_eq!(world.clients[1].kept(), ["m1"]);
    world.drain();
}

#[test]
fn an_acknowledgement_that_is_lost_shows_nothing_again() {
    for server_dies in [true, false] {
        let mut world = calm();
        world.enters(1);
        world.enters(2);
        world.by_hand = true;
        world.message_comes(2, 1);
        world.by_hand = false;
        world.think(1);
        world.print(1, 9);
        world.tell(1);
        world.say(1);
        assert_eq!(world.shown(1), [1]);
        let conn = world.conn(1).unwrap();
        world.lose_at(conn, Loss::Both, 0, 0);
        if server_dies {
            world.kill_server(Aftermath::LoseAll);
            world.start_server();
        }
        world.until("lost", |world| world.is_told(1, "connecting again"));
        world.until("back", |world| world.is_told(1, "connected again; 1 message waits:"));
        assert_eq!(world.shown(1), [1]);
        world.leaves(1);
        world.enters(1);
        assert!(world.is_told(1, "no messages waiting"), "it was acknowledged then");
        world.drain();
    }
}

#[test]
fn lines_typed_meanwhile_go_out_once_when_the_server_is_back() {
    let mut world = calm();
    world.enters(1);
    world.enters(2);
    world.kill_server(Aftermath::LoseAll);
    world.settle();
    let before = world.knocks;
    for _ in 0..5 {
        world.type_message(2, &[1], "");
        world.pass(60_000);
    }
    assert_eq!(world.clients[2].count("not connected; it goes out as soon as"), 5);
    assert_eq!(world.clients[2].count("no server there"), 1, "said once");
    let knocks = world.knocks - before;
    assert!((20..60).contains(&knocks), "{knocks} tries of two in five minutes");
    world.start_server();
    world.until("answers", |world| world.ledger.messages[5].answered);
    // Whoever is back first sends first, or finds all of it waiting.
    world.until("all read", |world| world.shown(1).len() == 5);
    assert_eq!(world.shown(1), [1, 2, 3, 4, 5]);
    world.drain();
}

#[test]
fn whoever_is_no_server_of_ours_is_left_alone() {
    let welcome =
        ">> Welcome to MMS.\r\n>> Type 'signin <user>' to sign in, 'help' for the commands.\r\n";
    let other = ">> Welcome to MMS.\r\n505 coded 2\r\n";
    for (words, why) in [
        ("220 mail.example.org ESMTP ready\r\n", "that is no MMS server; it says '220 mail"),
        (other, "speaks another dialect than mms: coded 2"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "that is no MMS server"),
        ("\0\u{1}\u{2}", "that is no MMS server"),
    ] {
        for first in [true, false] {
            let mut world = calm();
            if !first {
                world.enters(1);
            }
            world.kill_server(Aftermath::ProcessOnly);
            world.stranger = Some(words);
            if first {
                world.start(1);
            } else {
                world.type_message(1, &[2], "");
            }
            world.until("the end", |world| world.clients[1].desk.is_none());
            let ended = world.clients[1].ended.clone().unwrap();
            assert!(ended.contains(why), "{ended}");
            let knocks = world.knocks;
            world.pass(600_000);
            assert_eq!(world.knocks, knocks, "it does not try again");
        }
    }
    // One that greets and says nothing more is given up in its time, and tried again.
    let mut world = calm();
    world.enters(1);
    world.kill_server(Aftermath::ProcessOnly);
    world.stranger = Some(welcome);
    world.pass(200_000);
    assert!((3..12).contains(&world.knocks), "{}", world.knocks);
    world.stranger = None;
    world.start_server();
    world.until("back", |world| world.clients[1].signed_in);
    world.drain();
}

#[test]
fn a_changed_password_ends_the_companion_for_good() {
    // Told by the server, or found out at the next sign-in; with the same salt and with another.
    for (told, changes) in [(true, 1), (false, 1), (false, 2)] {
        let mut world = calm();
        world.enters(1);
        if !told {
            world.kill_server(Aftermath::ProcessOnly);
            world.settle();
        }
        let before = world.knocks;
        for _ in 0..changes {
            world.change_password(1);
        }
        if !told {
            world.start_server();
        }
        world.until("the end", |world| world.clients[1].desk.is_none());
        let ended = world.clients[1].ended.clone().unwrap();
        assert!(ended.contains("password"), "{ended}");
        let knocks = world.knocks;
        assert_eq!(knocks - before, u32::from(!told), "told once is enough");
        world.pass(3_600_000);
        assert_eq!(world.knocks, knocks, "it does not try again");
        world.enters(1);
        world.drain();
    }
}

#[test]
fn a_second_companion_of_the_same_user() {
    // The first one lives: the second is refused.
    let mut world = calm();
    world.enters(0);
    world.start(3);
    world.until("the end", |world| world.clients[3].desk.is_none());
    let ended = world.clients[3].ended.clone().unwrap();
    assert!(ended.contains("signed in"), "{ended}");
    assert!(world.is_told(0, "tries to sign in as u0"));
    assert!(world.clients[0].signed_in);
    // Its machine is gone without a word: the second waits, and gets in.
    let number = world.type_message(0, &[1], "");
    let conn = world.conn(0).unwrap();
    world.lose_at(conn, Loss::Silent, 0, 0);
    world.start(3);
    world.pass(1000);
    assert!(world.is_told(3, "please wait while MMS looks"));
    assert!(!world.clients[3].signed_in);
    world.until("let in", |world| world.clients[3].signed_in);
    assert!(world.now.mono.0 < 10_000);
    // The first one comes back, is refused as long as the second is there, and loses nothing.
    world.until("refused", |world| world.clients[0].count("connecting again") > 1);
    assert!(!world.ledger.messages[number].answered);
    world.leaves(3);
    world.until("answered", |world| world.ledger.messages[number].answered);
    world.drain();
    // Where the newer one wins, the older one ends and does not come back by itself.
    let mut world = calm();
    world.rules.duplicate = Duplicate::Replace;
    world.kill_server(Aftermath::ProcessOnly);
    world.start_server();
    world.enters(0);
    world.enters(3);
    assert_eq!(world.clients[0].ended.as_deref(), Some("another session of this user took over"));
    world.pass(600_000);
    assert!(world.clients[3].signed_in && world.clients[0].desk.is_none());
    world.drain();
}

#[test]
fn time_alone_loses_nobody() {
    let mut world = calm();
    world.enters(1);
    world.enters(2);
    // Pings keep them; nobody is told of anything.
    let lines = world.clients[1].screen.len();
    world.pass(1_700_000);
    assert_eq!((world.online().len(), world.clients[1].screen.len()), (2, lines));
    world.type_message(2, &[2], "");
    world.pass(200_000);
    assert!(world.is_told(1, "press Enter to sign in again"));
    let knocks = world.knocks;
    world.pass(86_400_000);
    assert_eq!(world.knocks, knocks, "it sleeps");
    let number = world.type_message(1, &[2], "");
    world.until("answered", |world| world.ledger.messages[number].answered);
    // A machine that was suspended for an hour finds its connection gone, and comes back.
    world.by_hand = true;
    world.tick(3_600_000);
    world.by_hand = false;
    world.until("back", |world| world.clients[1].signed_in);
    world.sent(1, 2);
    world.drain();
}

#[test]
fn a_silent_network_is_noticed() {
    let mut world = calm();
    world.enters(1);
    world.enters(2);
    let conn = world.conn(1).unwrap();
    world.lose(conn, Loss::Silent);
    world.sent(2, 1);
    let begun = world.now.mono;
    let number = world.type_message(1, &[2], "");
    world.until("lost", |world| world.is_told(1, "connecting again"));
    assert_eq!(world.now.mono.since(begun), 30_000, "an answer has its time");
    world.until("answered", |world| world.ledger.messages[number].answered);
    assert_eq!((world.shown(1), world.shown(2)), (vec![-1], vec![2]));
    let conn = world.conn(1).unwrap();
    world.lose(conn, Loss::Silent);
    let begun = world.now.mono;
    world.until("lost", |world| !world.clients[1].signed_in);
    assert_eq!(world.now.mono.since(begun), 300_000, "whoever asks nothing waits longer");
    world.drain();
}

/// What is done with a letter before the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It comes to these disk steps of keeping it, and no further: the write, the sync.
    Written,
    Synced,
    /// All of it: it is kept and flushed.
    Kept,
    Acknowledged,
    Printed,
    /// The note that it was printed is written.
    Noted,
}

/// What was done; what the first life showed; what the second one does if the process was killed,
/// and if its machine was.
type Point = (&'static [Deed], &'static [i64], &'static [i64], &'static [i64]);

#[test]
fn a_companion_killed_between_two_deeds() {
    use Deed::{Acknowledged, Kept, Noted, Printed, Synced, Written};
    // A note that was not flushed may be gone with the machine.
    let points: [Point; 10] = [
        (&[], &[], &[-1], &[-1]),
        (&[Written], &[], &[-1], &[-1]),
        (&[Synced], &[], &[-1], &[-1]),
        (&[Kept], &[], &[-1], &[-1]),
        (&[Kept, Acknowledged], &[], &[-1], &[-1]),
        (&[Kept, Printed], &[1], &[-1], &[-1]),
        (&[Kept, Printed, Acknowledged], &[1], &[-1], &[-1]),
        (&[Kept, Acknowledged, Printed], &[1], &[-1], &[-1]),
        (&[Kept, Acknowledged, Printed, Noted], &[1], &[], &[-1]),
        (&[Kept, Printed, Noted], &[1], &[], &[-1]),
    ];
    for (deeds, first, then, then_machine) in points {
        for (aftermath, then) in
            [(Aftermath::ProcessOnly, then), (Aftermath::LoseAll, then_machine)]
        {
            let mut world = calm();
            world.enters(1);
            world.enters(2);
            world.by_hand = true;
            world.message_comes(2, 1);
            let disk = world.clients[1].disk.clone();
            for deed in deeds {
                match deed {
                    Written => disk.crash_at(disk.steps() + 1),
                    Synced => disk.crash_at(disk.steps() + 2),
                    Kept => assert!(world.think(1)),
                    Acknowledged => assert!(world.say(1)),
                    Printed => assert!(world.print(1, 1)),
                    Noted => assert!(world.tell(1)),
                }
            }
            if matches!(deeds, [Written | Synced]) {
                world.crash(1, aftermath);
                assert_eq!(world.shown(1), [0; 0]);
            } else {
                let begun: Vec<i64> = world.shown(1);
                world.kill(1, aftermath);
                assert_eq!(begun, first, "{deeds:?}");
            }
            world.by_hand = false;
            world.enters(1);
            assert_eq!(world.shown(1), then, "{deeds:?}, {aftermath:?}");
            assert_eq!(world.clients[1].kept(), ["m1"], "{deeds:?}, {aftermath:?}");
            world.leaves(1);
            world.enters(1);
            assert_eq!(world.shown(1), [0; 0], "{deeds:?}, {aftermath:?}: it is settled");
            world.drain();
        }
    }
}

#[test]
fn without_an_inbox_what_is_shown_is_acknowledged() {
    // None can be had, or the disk is full once it is wanted.
    for home in [false, true] {
        let mut world = calm();
        let start = Start { password: 0, saved: false, patient: false, home };
        world.start_as(1, start);
        world.until("signed in", |world| world.clients[1].signed_in);
        world.enters(2);
        let disk = world.clients[1].disk.clone();
        disk.fail_at(disk.steps() + 1, Fault::ForGood(ErrorKind::StorageFull));
        world.sent(2, 1);
        world.sent(2, 1);
        assert_eq!(world.clients[1].count("no inbox ("), 1);
        assert_eq!(world.shown(1), [1, 2]);
        world.by_hand = true;
        world.message_comes(2, 1);
        world.think(1);
        assert!(!world.say(1), "nothing is acknowledged before it is shown");
        world.print(1, 1);
        world.kill(1, Aftermath::ProcessOnly);
        world.by_hand = false;
        world.start_as(1, start);
        world.until("signed in", |world| world.clients[1].signed_in);
        world.settle();
        let again: Vec<i64> = world.shown(1);
        // Of the first one, half a line may be left in the inbox.
        assert!(again == [-3] || again == [-1, -3], "{again:?}");
        world.drain();
    }
}
