//! What a companion keeps between two runs, on a simulated disk that crashes at every step: letters
//! that were flushed are there, what is there is whole, and no key is used twice.

mod support;

use mms::client::inbox::{Inbox, Keys};
use mms::proto::coded_client::Letter;
use mms::proto::id::LetterId;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use support::rng::Rng;
use support::sim_disk::{Aftermath, Fault, SimDisk};

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
    Keeper::new(24, 60_000).live(&large).unwrap();
    let last = large.steps();
    assert!(large.contents()["fred@00aa.inbox"].len() < 24 * 60_000 / 2);
    for step in last - 13..=last {
        for aftermath in [Aftermath::LoseAll, Aftermath::Torn] {
            Keeper::crash(24, 60_000, step, aftermath, &mut rng);
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
