//! What the journal keeps from one start to the next, and what a turn asks of the disk.

use super::{Server, UNIX_MS, config, in_proportion, roomy, stopped_spool};
use crate::support::sim_disk::SimDisk;
use mms::core::record::{Journal as _, LetterId, Record};
use mms::store::files::segment_file;
use mms::store::record;
use mms::store::recovery::SpoolError;
use mms::store::spool::{Config, Sync};

#[test]
fn letters_are_there_after_a_restart() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    assert!(server.recovery.new);
    let (name, secret, epoch) = (server.spool.name(), *server.spool.secret(), server.spool.epoch());
    let first = server.send(&["fred", "tim"], "two\nlines\tand a tab");
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab", "before the commit");
    server.spool.commit().unwrap();
    let steps = disk.steps();
    server.spool.commit().unwrap();
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab");
    assert_eq!(disk.steps(), steps, "neither asked the disk for anything");
    let second = server.send(&["tim"], "");
    server.settle("fred", first);
    server.spool.commit().unwrap();
    assert_eq!(server.body("tim", first).unwrap(), "two\nlines\tand a tab", "from the disk");
    server.spool.stop(UNIX_MS).unwrap();

    let mut again = Server::open(disk.clone(), config(1 << 20)).unwrap();
    assert_eq!(again.recovery.lines, [""; 0]);
    assert!(again.recovery.stopped_in_order && !again.recovery.new);
    assert_eq!((again.spool.name(), again.spool.secret()), (name, &secret));
    assert!(again.spool.epoch() > epoch);
    assert_eq!(again.hub.starts, [epoch]);
    let keys: Vec<_> = again.hub.waiting.keys().cloned().collect();
    assert_eq!(keys, [("tim".to_owned(), first), ("tim".to_owned(), second)]);
    let letter = again.spool.letter(again.hub.waiting[&keys[0]].0).unwrap();
    assert_eq!((letter.from, letter.unix_ms, letter.id), ("bob", UNIX_MS, first));
    assert_eq!(letter.body, "two\nlines\tand a tab");
}

#[test]
fn a_turn_is_one_write_and_at_most_one_sync() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    let before = (disk.writes(), disk.syncs());
    for _ in 0..100 {
        server.send(&["fred"], "hello");
    }
    server.spool.commit().unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (before.0 + 1, before.1 + 1));
    server.spool.append(&Record::SignedIn { user: "tim", unix_ms: UNIX_MS });
    server.spool.commit().unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (before.0 + 2, before.1 + 1), "nothing promised");

    let never = Config { sync: Sync::Never, ..config(200) };
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), never).unwrap();
    let before = disk.syncs();
    for _ in 0..10 {
        server.send(&["fred"], "hello");
        server.spool.commit().unwrap();
    }
    assert_eq!(disk.syncs(), before);
}

#[test]
fn an_epoch_is_not_used_again_when_the_tail_is_lost() {
    let disk = stopped_spool(1);
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    let lost = server.spool.epoch();
    server.send(&["fred"], "x");
    server.spool.commit().unwrap();
    // The record that began the epoch is damaged, and the letter behind it too; all in a second.
    disk.damage(&segment_file(1), |all| {
        let keep = all.len() - 150;
        all[keep..].fill(0);
    });
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert!(!server.hub.starts.contains(&lost), "the loss is as meant");
    assert!(server.spool.epoch() > lost);
}

#[test]
fn what_is_read_ahead_ends_where_the_journal_does() {
    let mut server = Server::open(SimDisk::new(), roomy(1 << 20)).unwrap();
    let turn = |server: &mut Server<SimDisk>, bodies: &[&str]| -> Vec<LetterId> {
        let ids = bodies.iter().map(|body| server.send(&["fred"], body)).collect();
        server.spool.commit().unwrap();
        ids
    };
    // Not in memory any more is what is older than the last turn.
    let mut ids = turn(&mut server, &["one", "two"]);
    ids.extend(turn(&mut server, &["three"]));
    assert_eq!(server.body("fred", ids[0]).unwrap(), "one");
    assert_eq!(server.body("fred", ids[1]).unwrap(), "two", "and what is behind it is read ahead");
    ids.extend(turn(&mut server, &["four", "five"]));
    ids.extend(turn(&mut server, &["six"]));
    let told = ["one", "two", "three", "four", "five", "six"];
    for n in [3, 4, 5, 0, 1, 2, 3, 5, 4, 3, 2, 1, 0] {
        assert_eq!(server.body("fred", ids[n]).unwrap(), told[n]);
    }
}

#[test]
fn the_records_of_a_turn_are_written_before_they_are_too_many() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), in_proportion()).unwrap();
    let writes = disk.writes();
    server.send(&["fred"], &"x".repeat(500));
    assert!(!server.spool.is_batch_full());
    server.send(&["fred"], &"x".repeat(500));
    assert!(server.spool.is_batch_full());
    assert_eq!(disk.writes(), writes);
    server.spool.make_way();
    assert!(server.spool.is_idle() && disk.writes() > writes);
}

#[test]
fn a_newer_format_is_refused() {
    let disk = stopped_spool(1);
    let mut newer = Vec::new();
    let header = record::Header { spool: 1, segment: 2, format: record::FORMAT + 1 };
    record::encode_header(&mut newer, 99, &header);
    disk.put(&segment_file(2), &newer);
    let refused = Server::open(disk.clone(), config(1 << 20)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, SpoolError::NewerFormat { .. }), "{refused}");
    assert!(refused.to_string().contains("journal-0000000002.log is in spool format 2"));
    assert_eq!(disk.contents()[&segment_file(2)], newer);
}
