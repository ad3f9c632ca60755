//! Files that are torn, damaged or emptied: what is lost is told once, and all else is kept.

use super::{Server, UNIX_MS, config, roomy, seqs, spool_of_four, stopped_spool};
use crate::support::rng::Rng;
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::core::record::{LetterId, Location, Record};
use mms::store::files::segment_file;
use mms::store::record::{BATCH_LAST, BATCH_MOST, encode};
use mms::store::survey::Survey;

#[test]
fn a_tail_torn_at_any_byte_costs_only_itself() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
    server.send(&["fred"], "kept");
    server.spool.commit().unwrap();
    let kept = disk.contents()[&segment_file(1)].len();
    server.send(&["fred"], "first of the last batch");
    let middle = {
        let at = server.hub.waiting.values().map(|(at, _)| *at).max_by_key(|at| at.offset);
        at.map_or(0, |at| (at.offset + at.record_bytes) as usize)
    };
    server.send(&["fred"], "second of the last batch");
    server.spool.commit().unwrap();
    let whole = disk.contents()[&segment_file(1)].len();
    for cut in kept..whole {
        for fill in [0, 40] {
            let disk = disk.fork();
            disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
            disk.damage(&segment_file(1), |bytes| {
                bytes.truncate(cut);
                bytes.resize(cut + fill, 0);
            });
            let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
            let left: &[u32] = if cut < middle { &[1] } else { &[1, 2] };
            assert_eq!(seqs(&server.hub), left, "cut at {cut}");
            let whole_end = if cut < middle { kept } else { middle };
            // Zeros at the end are room that was never used.
            let torn = (cut - whole_end) as u64;
            assert_eq!((server.recovery.torn_bytes, server.recovery.lost_bytes), (torn, 0));
            assert_eq!(server.recovery.lines.len(), usize::from(torn > 0));
            assert!(server.recovery.quarantined.is_empty());
            assert!(torn == 0 || server.recovery.lines[0].contains("may have been confirmed"));
            drop(server);
            disk.restart(Aftermath::LoseAll, &mut Rng::new(0));
            let server = Server::open(disk, config(1 << 20)).unwrap();
            assert_eq!(server.recovery.lines, [""; 0], "the repair lasts");
            assert_eq!(seqs(&server.hub), left);
        }
    }
}

#[test]
fn a_flipped_byte_in_an_early_record_costs_that_record() {
    let disk = stopped_spool(4);
    let places: Vec<Location> = {
        let server = Server::open(disk.fork(), config(1 << 20)).unwrap();
        server.hub.waiting.values().map(|(at, _)| *at).collect()
    };
    let second = places[1];
    for byte in second.offset..second.offset + second.record_bytes {
        for mask in [1, 0x20, 0x80] {
            let disk = disk.fork();
            let before = disk.contents()[&segment_file(1)].clone();
            disk.damage(&segment_file(1), |bytes| bytes[byte as usize] ^= mask);
            let damaged = disk.contents()[&segment_file(1)].clone();
            let mut server = Server::open(disk.clone(), config(1 << 20)).unwrap();
            assert_eq!(seqs(&server.hub), [1, 3, 4], "byte {byte}");
            let found = server.recovery.clone();
            assert_eq!(found.lost_bytes, u64::from(second.record_bytes));
            assert_eq!(found.salvaged, 5, "an epoch, three letters, an end");
            assert_eq!(disk.contents()[&found.quarantined[0]], damaged);
            assert!(found.lines[0].contains("had been confirmed"), "{:?}", found.lines);
            for (key, (_, body)) in server.hub.waiting.clone() {
                assert_eq!(server.body("fred", key.1).unwrap(), body);
            }
            assert!(before.len() > damaged.len() - second.record_bytes as usize);
            server.spool.stop(UNIX_MS).unwrap();
            let again = Server::open(disk, config(1 << 20)).unwrap();
            assert_eq!((seqs(&again.hub), again.recovery.lines.len()), (vec![1, 3, 4], 0));
        }
    }
}

#[test]
fn a_crash_in_a_repair_keeps_the_evidence() {
    let disk = stopped_spool(4);
    disk.damage(&segment_file(1), |bytes| bytes[200] ^= 1);
    let damaged = disk.contents()[&segment_file(1)].clone();
    let mut rng = Rng::from_env(3);
    for step in 1..=20 {
        for _ in 0..20 {
            let disk = disk.fork();
            disk.crash_at(disk.steps() + step);
            let first = Server::open(disk.clone(), config(1 << 20));
            assert!(first.is_err() || step > 15, "step {step} is in the repair");
            disk.restart(Aftermath::Torn, &mut rng);
            let again = Server::open(disk.clone(), config(1 << 20)).unwrap();
            assert_eq!(again.hub.waiting.len(), 3);
            let kept = disk
                .contents()
                .iter()
                .any(|(name, bytes)| name.starts_with("quarantine-") && *bytes == damaged);
            assert!(kept, "step {step}");
        }
    }
}

#[test]
fn damage_names_the_letters_that_can_be_read() {
    let disk = stopped_spool(3);
    let text = b"letter 2";
    disk.damage(&segment_file(1), |bytes| {
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    });
    let server = Server::open(disk, config(1 << 20)).unwrap();
    let epoch = server.hub.starts[0];
    assert_eq!(server.recovery.damaged_ids, [LetterId { epoch, seq: 2 }]);
    assert!(server.recovery.lines[0].contains(&format!("{epoch}.2")));
}

#[test]
fn what_stands_behind_an_orderly_stop_was_never_confirmed() {
    let disk = stopped_spool(2);
    disk.damage(&segment_file(1), |bytes| bytes.extend_from_slice(b"=L rubbish"));
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert_eq!(server.recovery.torn_bytes, 10);
    assert!(server.recovery.lines[0].contains("nothing of it was ever confirmed"));
    assert!(!server.recovery.stopped_in_order);
}

#[test]
fn damage_before_an_orderly_stop_is_a_loss() {
    let disk = stopped_spool(2);
    let at =
        Server::open(disk.fork(), config(1 << 20)).unwrap().hub.waiting.values().last().unwrap().0;
    disk.damage(&segment_file(1), |bytes| bytes[at.offset as usize..][..40].fill(0));
    let server = Server::open(disk, config(1 << 20)).unwrap();
    assert_eq!(server.recovery.lost_bytes, u64::from(at.record_bytes));
    assert_eq!(seqs(&server.hub), [1]);
}

#[test]
fn a_damaged_header_keeps_the_name_and_every_letter() {
    let disk = stopped_spool(2);
    let name = Server::open(disk.fork(), config(1 << 20)).unwrap().spool.name();
    for byte in 0..60 {
        let disk = disk.fork();
        disk.damage(&segment_file(1), |bytes| bytes[byte] ^= 1);
        let server = Server::open(disk.clone(), config(1 << 20)).unwrap();
        assert_eq!(seqs(&server.hub), [1, 2], "byte {byte}");
        assert!(!server.recovery.lines.is_empty());
        let in_the_name = (36..52).contains(&byte);
        assert!(in_the_name || server.spool.name() == name, "byte {byte}");
    }
}

#[test]
fn a_spool_whose_name_is_lost_gets_one_and_keeps_it() {
    let disk = stopped_spool(2);
    disk.damage(&segment_file(1), |bytes| bytes[..60].fill(0));
    let open = || Server::open(disk.clone(), config(1 << 20)).unwrap();
    let names = [open().spool.name(), open().spool.name()];
    assert_eq!(names, [0x0707_0707_0707_0707; 2], "drawn, and written into the new header");
}

#[test]
fn zeroed_emptied_and_foreign_files() {
    for (number, left) in [(1, [2, 3, 4]), (2, [1, 3, 4]), (4, [1, 2, 3])] {
        for zeroed in [true, false] {
            let disk = spool_of_four();
            disk.damage(
                &segment_file(number),
                |bytes| {
                    if zeroed { bytes.fill(0) } else { bytes.clear() }
                },
            );
            let server = Server::open(disk.clone(), config(200)).unwrap();
            assert_eq!(seqs(&server.hub), left);
            // A newest file that is empty is what a crash leaves behind. All else is told, also one
            // full of zeros, although a crash may leave that, too.
            assert_eq!(server.recovery.lines.is_empty(), number == 4 && !zeroed);
            assert_eq!(server.recovery.quarantined.is_empty(), number == 4);
            let again = Server::open(disk, config(200));
            assert_eq!(again.unwrap().recovery.lines, [""; 0]);
        }
    }
    let disk = spool_of_four();
    disk.put("notes.txt", b"mine");
    disk.put("journal-5.log", b"not ours either");
    disk.put("journal-0000000002.tmp", b"half a repair");
    let server = Server::open(disk.clone(), config(200)).unwrap();
    assert_eq!(server.recovery.foreign, ["journal-5.log", "notes.txt"]);
    assert_eq!(server.recovery.lines.len(), 1);
    assert_eq!(disk.contents()["notes.txt"], b"mine");
    assert!(!disk.contents().contains_key("journal-0000000002.tmp"));
}

#[test]
fn a_segment_that_lost_its_end_is_a_loss_that_is_told_once() {
    for zeroed in [true, false] {
        let disk = SimDisk::new();
        let mut server = Server::open(disk.clone(), roomy(1200)).unwrap();
        for _ in 0..30 {
            server.send(&["fred"], &"x".repeat(100));
            server.spool.commit().unwrap();
        }
        server.spool.stop(UNIX_MS).unwrap();
        let last = server.hub.waiting.values().filter(|(at, _)| at.segment == 1);
        let last = last.map(|(at, _)| *at).max_by_key(|at| at.offset).unwrap();
        let seq = server.hub.waiting.values().filter(|(at, _)| at.segment == 1).count() as u32;
        disk.damage(&segment_file(1), |bytes| match zeroed {
            true => bytes[last.offset as usize..].fill(0),
            false => bytes.truncate(last.offset as usize),
        });
        let survey = Survey::take(&mut disk.clone()).unwrap();
        assert_eq!(survey.cut, [1]);
        let server = Server::open(disk.clone(), roomy(1200)).unwrap();
        assert_eq!(seqs(&server.hub), (1..=30).filter(|n| *n != seq).collect::<Vec<_>>());
        let lines = &server.recovery.lines;
        assert!(lines[0].contains("lost"), "{lines:?}");
        assert_eq!(server.recovery.quarantined.len(), 1);
        drop(server);
        let again = Server::open(disk.clone(), roomy(1200)).unwrap();
        assert_eq!((again.hub.waiting.len(), again.recovery.lines.len()), (29, 0));
        assert_eq!(Survey::take(&mut disk.clone()).unwrap().cut, [0; 0]);
    }
}

#[test]
fn a_hole_of_zeros_before_later_batches_is_a_loss() {
    let disk = SimDisk::new();
    let mut server = Server::open(disk.clone(), roomy(1 << 20)).unwrap();
    for n in 0..4 {
        server.send(&["fred"], &format!("letter {n}"));
        server.spool.commit().unwrap();
    }
    let second = server.hub.waiting.values().nth(1).unwrap().0;
    disk.damage(&segment_file(1), |bytes| {
        bytes[second.offset as usize..][..second.record_bytes as usize].fill(0);
    });
    let server = Server::open(disk, roomy(1 << 20)).unwrap();
    assert_eq!(server.recovery.lost_bytes, u64::from(second.record_bytes));
    assert_eq!(seqs(&server.hub), [1, 3, 4]);
}

#[test]
fn a_batch_behind_which_nothing_could_be_read_is_not_gone_on_from() {
    for (batch, goes) in [(BATCH_LAST - 999, true), (BATCH_LAST + 1, false), (BATCH_MOST, false)] {
        let disk = stopped_spool(1);
        disk.damage(&segment_file(1), |bytes| {
            encode(bytes, batch, &Record::Alive { unix_ms: UNIX_MS });
        });
        let before = disk.contents();
        let mut server = match Server::open(disk.clone(), roomy(1 << 20)) {
            Ok(server) => server,
            Err(e) => {
                assert!(!goes && e.to_string().contains("no journal comes to batch"), "{e}");
                assert!(disk.contents() == before);
                continue;
            }
        };
        assert!(goes, "{batch}");
        let id = server.send(&["fred"], "it is there");
        server.spool.commit().unwrap();
        drop(server);
        let mut again = Server::open(disk, roomy(1 << 20)).unwrap();
        assert_eq!(again.body("fred", id).unwrap(), "it is there");
    }
}
