//! A crash at every step, and another in the recovery: nothing that was confirmed is lost.

use super::{Promises, Server, UNIX_MS, USERS, config, full_disk, roomy};
use crate::support::rng::{Rng, seed_from_env};
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::core::record::LetterId;
use mms::store::files::segment_file;
use mms::store::recovery::SpoolError;
use mms::store::spool::Config;

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
