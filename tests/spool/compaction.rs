//! Compaction: what waits is kept, and the room of the rest is used again or given back.

use super::{Server, UNIX_MS, config, in_proportion};
use crate::support::sim_disk::SimDisk;
use mms::core::record::LetterId;
use mms::limits::CUT_PIECES;
use mms::store::spool::{Config, Load, Sync};

#[test]
fn compaction_keeps_what_waits_and_frees_the_rest() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(4000)).unwrap();
    let kept = server.send(&["fred", "tim"], "keep me\nfor tim");
    for n in 0..400 {
        let id = server.send(&["ann", "fred"], "a text of some length to fill the segment with");
        server.spool.commit().unwrap();
        server.settle("ann", id);
        server.settle("fred", id);
        if n % 3 == 0 {
            server.compact().unwrap();
        }
        server.check_ledger();
    }
    for _ in 0..100 {
        server.compact().unwrap();
        server.spool.commit().unwrap();
    }
    let (all, live) = server.spool.ledger().bytes();
    assert!(all <= 2 * live + 2 * 4000 + 500, "{all} bytes for {live}");
    let names: Vec<String> = disk.contents().into_keys().collect();
    assert!(names.len() <= 5, "{names:?}");
    assert_eq!(server.body("tim", kept).unwrap(), "keep me\nfor tim");
    let at = server.hub.waiting[&("tim".to_owned(), kept)].0;
    let letter = server.spool.letter(at).unwrap();
    assert_eq!((letter.id, letter.unix_ms, letter.to), (kept, UNIX_MS, "tim"));
    server.spool.stop(UNIX_MS).unwrap();
    let again = Server::open(disk, config(4000)).unwrap();
    assert_eq!(again.hub.waiting.keys().collect::<Vec<_>>(), [&("tim".to_owned(), kept)]);
    assert_eq!(again.hub.starts, [kept.epoch], "each segment repeats the epoch; shown once");
}

#[test]
fn a_journal_that_is_drained_as_it_is_written_makes_and_removes_no_files() {
    let (disk, config) = (SimDisk::new(), in_proportion());
    let mut server = Server::open(disk.clone(), config).unwrap();
    let (mut made, mut names) = (0, 0);
    for n in 0..600 {
        server.begin();
        let id = server.send(&["fred"], &"x".repeat(400));
        server.settle("fred", id);
        server.compact().unwrap();
        server.spool.commit().unwrap();
        server.prepare().unwrap();
        if n == 100 {
            (made, names) = (disk.made(), disk.contents().len());
        }
    }
    let oldest = server.spool.ledger().oldest().unwrap().number;
    assert!(oldest > 20, "segments come and go: {oldest}");
    assert_eq!((disk.made(), disk.contents().len()), (made, names));
}

#[test]
fn the_room_of_a_backlog_is_given_back_piece_by_piece() {
    // Where nothing is synced, a file is cheaper to make than to use again.
    for (sync, ready) in [(Sync::Always, 4), (Sync::Never, 2)] {
        give_back(Config { sync, ..in_proportion() }, ready);
    }
}

/// A journal with a backlog that has just been taken.
fn drained(disk: &SimDisk, config: Config) -> Server<SimDisk> {
    let mut server = Server::open(disk.clone(), config).unwrap();
    let mut last = LetterId::default();
    for _ in 0..600 {
        server.begin();
        last = server.send(&["fred"], &"x".repeat(400));
        server.spool.commit().unwrap();
        server.prepare().unwrap();
    }
    assert!(server.spool.ledger().segments().count() > 10);
    server.begin();
    server.settle("fred", last);
    server.spool.commit().unwrap();
    server
}

/// All that a disk holds.
fn bytes_on(disk: &SimDisk) -> usize {
    disk.contents().values().map(Vec::len).sum()
}

fn give_back(config: Config, ready: usize) {
    let disk = SimDisk::new();
    let piece = config.fill_bytes * CUT_PIECES;
    let mut server = drained(&disk, config);
    let bytes = || bytes_on(&disk);
    let before = bytes();
    while server.spool.compact_due() || server.spool.prepare_at().is_some() {
        let turn = bytes();
        server.compact().unwrap();
        server.spool.commit().unwrap();
        assert!(bytes() >= turn, "nothing is given back while somebody waits");
        server.now = server.now.plus(1000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
        assert!(bytes() + piece >= turn, "{} bytes at once", turn - bytes());
    }
    assert!(bytes() < before / 2, "{} of {before} bytes are left", bytes());
    let of_kind = |kind| disk.contents().keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!((of_kind("ready-"), of_kind("recycled-"), of_kind("journal-")), (ready, 0, 1));
}

#[test]
fn who_waits_for_room_does_not_wait_for_what_is_given_back() {
    for sync in [Sync::Always, Sync::Never] {
        let disk = SimDisk::new();
        let mut server = drained(&disk, Config { sync, ..in_proportion() });
        while server.spool.compact_due() {
            server.compact().unwrap();
            server.spool.commit().unwrap();
        }
        let recycled = || -> Vec<usize> {
            let mut files = disk.contents();
            files.retain(|name, _| name.starts_with("recycled-"));
            files.into_values().map(|bytes| bytes.len()).collect()
        };
        // One is cut, and more are to be.
        while recycled().iter().max() == recycled().iter().min() {
            server.spool.prepare(server.now, Load::Idle).unwrap();
        }
        let before = recycled();
        assert!(before.len() > 5, "{before:?}");
        // Each segment now begins with so much that no ready file is long enough.
        let ready = server.spool.ready_bytes();
        assert!(server.spool.begin_repeating(20_000).unwrap());
        assert!(server.spool.ready_bytes() > ready);
        assert_eq!(recycled(), before, "they wait");
    }
}

#[test]
fn a_copied_letter_keeps_the_mark_of_who_was_shown_it() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk, config(300)).unwrap();
    server.seq = 1;
    let id = server.send(&["fred", "tim"], "shown to both");
    server.settle("fred", id);
    server.spool.commit().unwrap();
    for _ in 0..10 {
        let more = server.send(&["ann"], &"x".repeat(200));
        server.settle("ann", more);
        server.compact().unwrap();
        server.spool.commit().unwrap();
    }
    let at = server.hub.waiting[&("tim".to_owned(), id)].0;
    assert!(at.segment > 1);
    assert_eq!(server.spool.letter(at).unwrap().to, "+tim");
}
