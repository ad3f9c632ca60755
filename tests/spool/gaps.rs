//! Segments that are gone: that is told until somebody has noted it.

use super::{Server, UNIX_MS, config, roomy, seqs, spool_of_four, stopped_spool};
use crate::support::rng::Rng;
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::store::files::{Gap, segment_file};
use mms::store::spool::Config;
use mms::store::survey::Survey;

#[test]
fn a_journal_that_is_gone_is_told() {
    let disk = stopped_spool(2);
    let first = Server::open(SimDisk::new(), config(1 << 20)).unwrap();
    assert_eq!(first.recovery.lines, [""; 0]);
    let empty = disk.fork();
    empty.damage(&segment_file(1), Vec::clear);
    disk.take(&segment_file(1));
    for (disk, new) in [(disk, true), (empty, false)] {
        let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
        assert_eq!(server.recovery.new, new);
        assert!(server.recovery.lines[0].contains("there is no journal"), "{:?}", server.recovery);
        let again = Server::open(disk, config(1 << 20)).unwrap();
        assert_eq!(again.recovery.lines, [""; 0]);
    }
}

#[test]
fn a_missing_segment_is_a_loss_that_is_told() {
    let disk = spool_of_four();
    disk.take(&segment_file(2));
    let server = Server::open(disk, config(200)).unwrap();
    assert_eq!(server.recovery.missing, [Gap { first: 2, last: 2 }]);
    assert!(server.recovery.lines[0].contains("journal-0000000002.log is missing"));
    assert_eq!(seqs(&server.hub), [1, 3, 4]);
}

/// A journal from which two segments were taken, and what is missing then.
fn journal_with_a_gap(config: Config) -> (SimDisk, Gap) {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config).unwrap();
    for _ in 0..7 {
        server.begin();
        server.send(&["fred"], &"x".repeat(300));
        server.send(&["fred"], &"x".repeat(700));
        server.spool.commit().unwrap();
    }
    server.spool.stop(UNIX_MS).unwrap();
    for number in [3, 4] {
        disk.take(&segment_file(number));
    }
    (disk, Gap { first: 3, last: 4 })
}

#[test]
fn a_gap_is_told_until_that_is_noted() {
    for config in [config(900), roomy(900)] {
        let (fresh, gap) = journal_with_a_gap(config);
        let survey = Survey::take(&mut fresh.clone()).unwrap();
        assert_eq!((survey.missing, survey.told), (vec![gap], vec![]));
        let mut noted = 0;
        for (step, aftermath) in (1..200).flat_map(|step| {
            [Aftermath::LoseAll, Aftermath::Torn, Aftermath::KeepAll].map(|after| (step, after))
        }) {
            let disk = fresh.fork();
            disk.crash_at(disk.steps() + step);
            let mut told = false;
            if let Ok(mut server) = Server::open(disk.clone(), config) {
                told = server.recovery.missing == [gap];
                assert!(told, "step {step}: it is told in the log by then");
                noted += usize::from(server.spool.gaps_told(&[gap]).is_ok());
            }
            disk.restart(aftermath, &mut Rng::new(step));
            let found = Server::open(disk.clone(), config).unwrap().recovery;
            let lines = &found.lines;
            assert_eq!(lines.is_empty(), found.missing.is_empty(), "step {step}: {lines:?}");
            assert!(told || found.missing == [gap], "step {step}: nobody was told");
        }
        assert!(noted > 0, "some starts are not cut");
        // More is missing than was told.
        let mut server = Server::open(fresh.clone(), config).unwrap();
        server.spool.gaps_told(&server.recovery.missing).unwrap();
        server.spool.stop(UNIX_MS).unwrap();
        let survey = Survey::take(&mut fresh.clone()).unwrap();
        assert_eq!((survey.missing, survey.told), (vec![], vec![gap]));
        assert_eq!(Server::open(fresh.clone(), config).unwrap().recovery.lines, [""; 0]);
        fresh.take(&segment_file(5));
        let found = Server::open(fresh.clone(), config).unwrap().recovery;
        assert_eq!(found.missing, [Gap { first: 3, last: 5 }]);
    }
}

#[test]
fn a_gap_that_was_told_goes_with_what_stands_before_it() {
    let config = roomy(900);
    let (disk, gap) = journal_with_a_gap(config);
    let mut server = Server::open(disk.clone(), config).unwrap();
    server.spool.gaps_told(&[gap]).unwrap();
    let last = *server.hub.waiting.keys().map(|(_, id)| id).max().unwrap();
    server.begin();
    server.settle("fred", last);
    for _ in 0..60 {
        server.begin();
        let id = server.send(&["ann"], &"x".repeat(300));
        server.spool.commit().unwrap();
        server.settle("ann", id);
        server.compact().unwrap();
        server.spool.commit().unwrap();
        server.prepare().unwrap();
        let survey = Survey::take(&mut disk.clone()).unwrap();
        assert_eq!(survey.missing, []);
        let before = server.spool.ledger().oldest().unwrap().number < gap.first;
        assert_eq!(survey.told.is_empty(), !before);
    }
    assert!(server.spool.ledger().oldest().unwrap().number > gap.last);
    let again = Server::open(disk, config).unwrap();
    assert_eq!(again.recovery.lines, [""; 0]);
}
