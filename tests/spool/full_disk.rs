//! A full disk: marks go on, letters do when others were taken, and nothing is lost.

use super::{Server, UNIX_MS, in_proportion};
use crate::support::rng::Rng;
use crate::support::sim_disk::{Aftermath, Fault, SimDisk};
use mms::core::record::{Journal as _, Record};
use mms::store::spool::Load;
use mms::time::Millis;
use std::io;

#[test]
fn on_a_full_disk_marks_go_on_for_ever_and_letters_when_others_were_taken() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let turn = |server: &mut Server<SimDisk>| {
        server.turn_of_a_mark();
        server.check_ledger();
    };
    let fill = |server: &mut Server<SimDisk>, most: usize| {
        for _ in 0..most {
            turn(server);
            if !server.spool.has_room(1000) {
                return;
            }
            server.send(&["fred"], &"x".repeat(500));
        }
    };
    fill(&mut server, 100);
    assert_eq!(server.hub.waiting.len(), 100, "there is room");
    while server.spool.prepare_at() == Some(Millis(0)) {
        turn(&mut server);
    }
    disk.set_free(Some(0));
    fill(&mut server, 1000);
    let waiting = server.hub.waiting.len();
    assert!((110..200).contains(&waiting), "{waiting} letters found room");
    // Ten times as many marks as everything that is ready could hold.
    for n in 0..6000 {
        turn(&mut server);
        if n % 500 == 0 {
            server.spool.stop(UNIX_MS).unwrap();
            disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
            server = Server::open(disk.clone(), in_proportion()).unwrap();
        }
    }
    assert_eq!(server.hub.waiting.len(), waiting, "all of them are kept");
    assert_eq!(disk.free(), Some(0), "and nothing was given back, for others to take");
    let last = server.hub.waiting.keys().nth(60).unwrap().1;
    server.settle("fred", last);
    (0..300).for_each(|_| turn(&mut server));
    let before = server.hub.waiting.len();
    fill(&mut server, 1000);
    let more = server.hub.waiting.len() - before;
    assert!(more > 20, "{more} letters found room where others were");
}

#[test]
fn on_a_full_disk_marks_go_on_in_files_made_when_less_was_repeated() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    while server.spool.prepare_at().is_some() {
        server.spool.prepare(Millis(0), Load::Idle).unwrap();
    }
    disk.set_free(Some(0));
    let marks = |server: &mut Server<SimDisk>, count: usize| {
        for _ in 0..count {
            server.spool.append(&Record::SignedIn { user: "ann", unix_ms: UNIX_MS });
        }
    };
    // The next segment begins with more than the files that are ready were made for.
    marks(&mut server, 220);
    server.spool.repeated();
    server.spool.commit().unwrap();
    let newest = || disk.contents().into_keys().rfind(|name| name.starts_with("journal"));
    let before = newest();
    for _ in 0..300 {
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
        server.begin();
        marks(&mut server, 1);
        server.spool.commit().expect("the ready files have room");
    }
    assert!(before < newest(), "it went on in another file");
}

/// Letters of so many bytes that nobody takes, one a turn, until there is no room for another.
fn fill_with_letters(server: &mut Server<SimDisk>, bytes: usize) {
    for _ in 0..1000 {
        server.begin();
        if !server.spool.has_room(bytes + 500) {
            return;
        }
        server.send(&["fred"], &"x".repeat(bytes));
        server.spool.commit().unwrap();
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
    }
    panic!("the disk is full");
}

/// A full disk with all that is wanted ready, and as many letters as that has room for.
fn full_of_letters(bytes: usize) -> Server<SimDisk> {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    while server.spool.prepare_at().is_some() {
        server.spool.prepare(Millis(0), Load::Idle).unwrap();
    }
    disk.set_free(Some(0));
    fill_with_letters(&mut server, bytes);
    server
}

#[test]
fn on_a_full_disk_marks_go_on_when_much_more_is_repeated_than_before() {
    // The older segments repeat next to nothing, and new ones up to a tenth of their file.
    for repeated in 0..30 {
        let mut server = full_of_letters(500);
        let waiting = server.hub.waiting.len();
        for turn in 0..3000 {
            server.spool.make_way();
            let count = if server.spool.roll_due() { repeated } else { 0 };
            let mark = Record::SignedIn { user: "ann", unix_ms: UNIX_MS };
            for _ in 0..count {
                server.spool.append(&mark);
            }
            if count > 0 {
                server.spool.repeated();
            }
            server.spool.append(&mark);
            server.compact().unwrap();
            let committed = server.spool.commit();
            committed.unwrap_or_else(|e| panic!("{repeated} repeated, turn {turn}: {e}"));
            server.now = server.now.plus(10_000);
            server.spool.prepare(server.now, Load::Idle).unwrap();
        }
        assert_eq!(server.hub.waiting.len(), waiting, "all of them are kept");
    }
}

#[test]
fn on_a_full_disk_compaction_copies_no_more_than_has_room() {
    // Somebody reads when the last segment has only so much left, also for letters that are longer
    // than what it keeps for marks.
    for (marks, bytes) in (0..240).map(|n| (n / 2, 500 + n % 2 * 2000)) {
        let mut server = full_of_letters(bytes);
        for _ in 0..marks {
            server.turn_of_a_mark();
        }
        let waiting = server.hub.waiting.len();
        let read = waiting / 4;
        let some = server.hub.waiting.keys().nth(read - 1).unwrap().1;
        server.begin();
        server.settle("fred", some);
        for turn in 0..200 {
            server.compact().unwrap();
            let committed = server.spool.commit();
            committed.unwrap_or_else(|e| panic!("{marks} marks, {bytes}, turn {turn}: {e}"));
            server.now = server.now.plus(10_000);
            server.spool.prepare(server.now, Load::Idle).unwrap();
            server.check_ledger();
            server.begin();
        }
        assert!(!server.spool.compact_due(), "{marks} marks, {bytes}: it is not through");
        assert_eq!(server.hub.waiting.len() + read, waiting);
    }
}

#[test]
fn a_recycled_file_that_finds_no_room_is_left_alone_for_a_while() {
    let disk = SimDisk::new();
    drop(Server::open(disk.clone(), in_proportion()).unwrap());
    // A file with holes, as a backup may bring it back: zeros over them take room.
    disk.put("recycled-0000000009.log", b"");
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    assert_eq!(server.spool.prepare_at(), Some(Millis(0)));
    disk.fail_at(disk.steps() + 1, Fault::ForGood(io::ErrorKind::StorageFull));
    server.spool.prepare(Millis(1000), Load::Idle).unwrap();
    let at = server.spool.prepare_at();
    assert!(at.is_some_and(|at| at > Millis(1000)), "it spins: {at:?}");
    disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
}

#[test]
fn what_could_not_be_repeated_is_as_soon_as_there_is_room() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let marks = 15_900;
    disk.set_free(Some(0));
    assert!(!server.spool.begin_repeating(marks).unwrap(), "there is less");
    server.send(&["fred"], "hi");
    server.spool.commit().unwrap();
    assert!(!server.spool.roll_due());
    disk.set_free(None);
    while server.spool.prepare_at().is_some() {
        server.now = server.now.plus(10_000);
        server.spool.prepare(server.now, Load::Idle).unwrap();
    }
    server.spool.make_way();
    assert!(server.spool.roll_due());
}
