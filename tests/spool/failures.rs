//! A disk that fails at every step: nothing is confirmed that was not kept.

use super::{Promises, Server, UNIX_MS, config, full_disk, roomy};
use crate::support::rng::Rng;
use crate::support::sim_disk::{Aftermath, Fault, SimDisk};
use mms::store::spool::Config;
use std::io;

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
