//! Records and the journal: no bytes make a reader panic; what decodes is encoded to the same
//! bytes; a damaged journal is repaired once, keeps every letter that a look at it has found, and
//! is what it was foreseen to be.

use super::super::sim_disk::SimDisk;
use super::Input;
use mms::core::record::LetterId;
use mms::store::files::segment_file;
use mms::store::foresight::foresee;
use mms::store::record::{
    BATCH_LAST, Entry, Fault, HEAD_BYTES, Piece, Pieces, decode, encode, encode_filler,
    encode_header, encode_told, likely_batch, likely_ids, likely_letters, restore,
};
use mms::store::recovery::Recovery;
use mms::store::spool::{Config, Spool};
use mms::store::survey::Survey;
use std::collections::{BTreeMap, BTreeSet};

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 3 {
        0 => whole(input.0),
        1 => {
            let (kind, batch) = (input.byte(), input.pick(&BATCHES));
            whole(&framed(kind, batch, input.0));
        }
        _ => journal(input),
    }
}

/// Where a journal's batches may stand; no journal comes to the last two, and the first of these is
/// not read.
const BATCHES: [u64; 5] = [1, 0, 1 << 40, u64::MAX - 1, BATCH_LAST - 999];

/// A record whose checksum is right, whatever it says.
fn framed(kind: u8, batch: u64, payload: &[u8]) -> Vec<u8> {
    let covered = format!(" {batch:016x} {:06x}", payload.len());
    let covered = [&[kind], covered.as_bytes()].concat();
    let crc = crc32fast::hash(&[&covered, payload].concat());
    [b"=", &covered[..], format!(" {crc:08x} ").as_bytes(), payload, b"\n"].concat()
}

/// Every byte is part of exactly one piece, and a whole one is what it is written as.
fn whole(bytes: &[u8]) {
    let mut at = 0;
    for piece in Pieces::new(bytes) {
        let (offset, length) = match piece {
            Piece::Whole { offset, frame } => {
                reads_back(frame.batch, &frame.entry, &bytes[offset..offset + frame.bytes]);
                (offset, frame.bytes)
            }
            Piece::Damaged { offset, bytes: length } => {
                let damaged = &bytes[offset..offset + length];
                assert!(decode(&bytes[offset..]).is_err());
                _ = (likely_batch(damaged), likely_ids(damaged).count());
                _ = likely_letters(damaged).count();
                (offset, length)
            }
        };
        assert_eq!(offset, at);
        assert!(length > 0);
        at += length;
    }
    assert_eq!(at, bytes.len());
    if let Err(Fault::End { bytes: length } | Fault::Payload { bytes: length }) = decode(bytes) {
        assert!((HEAD_BYTES + 1..=bytes.len()).contains(&length));
    }
}

fn reads_back(batch: u64, entry: &Entry<'_>, bytes: &[u8]) {
    let payload = &bytes[HEAD_BYTES..bytes.len() - 1];
    if payload.contains(&b'\n') {
        // We write VT in its place.
        return;
    }
    let mut again = vec![];
    match entry {
        Entry::Header(header) => _ = encode_header(&mut again, batch, header),
        // It stands for what was damaged, and may hold anything.
        Entry::Filler => return assert!(encode_filler(&mut again, batch, bytes.len())),
        Entry::Told(gap) => _ = encode_told(&mut again, batch, *gap),
        Entry::Record(record) => {
            if let mms::core::record::Record::Letter(letter) = record {
                let mut lines = String::new();
                assert_eq!(restore(letter.body, &mut lines).len(), letter.body.len());
            }
            _ = encode(&mut again, batch, record);
        }
    }
    assert!(again == bytes, "{} of {entry:?}", again.escape_ascii());
}

/// A journal: each line is a record, its kind first; a blank one is a sync, one of `%` begins the
/// next segment, one of `%%` leaves a segment out. Then some of its bytes are turned, and its end
/// may be cut.
fn journal(mut input: Input<'_>) {
    let mut batch = input.pick(&BATCHES);
    let cut = usize::from(input.byte());
    let damage: Vec<_> = (0..input.byte() % 4)
        .map(|_| (usize::from(input.byte()) << 8 | usize::from(input.byte()), input.byte()))
        .collect();
    let header = |number: u32| format!("0123456789abcdef {number} 1").into_bytes();
    let mut segments = BTreeMap::from([(1, framed(b'S', batch, &header(1)))]);
    let mut number = 1;
    while !input.0.is_empty() {
        match input.line() {
            [] => batch = batch.saturating_add(1),
            [b'%', more @ ..] => {
                number += 1 + u32::from(!more.is_empty());
                segments.insert(number, framed(b'S', batch, &header(number)));
            }
            [kind, payload @ ..] => {
                let segment = segments.get_mut(&number).expect("it was begun");
                segment.extend(framed(*kind, batch, payload));
            }
        }
    }
    let disk = SimDisk::new();
    for (number, mut bytes) in segments {
        let length = bytes.len();
        damage.iter().for_each(|(at, flip)| bytes[at % length] ^= flip);
        bytes.truncate(length - cut.saturating_sub(200) % length);
        disk.put(&segment_file(number), &bytes);
    }
    starts(&disk);
}

/// What waits and what is held, by name.
type Letters = BTreeMap<String, (BTreeSet<LetterId>, BTreeSet<LetterId>)>;

fn letters(disk: &SimDisk) -> Letters {
    let survey = Survey::take(&mut disk.clone()).expect("it can be read");
    let ids = |map: &BTreeMap<LetterId, _>| map.keys().copied().collect();
    survey
        .mailboxes
        .iter()
        .map(|(name, m)| (name.clone(), (ids(&m.waiting), ids(&m.held))))
        .collect()
}

fn starts(disk: &SimDisk) {
    let before = disk.contents();
    let Ok(foreseen) = foresee(&mut disk.clone()) else { return };
    let kept = letters(disk);
    assert!(disk.contents() == before, "a look changes nothing");
    let Some(found) = start(disk) else { return };
    // Who is to be told of losses, and what was repaired, is known once it is done; and what a
    // spool is called from then on whose first header is lost.
    let drawn = ("spool 0707070707070707", "spool 0000000000000000");
    let comparable = |found: Recovery| Recovery {
        losses: vec![],
        repairs: vec![],
        lines: found.lines.iter().map(|line| line.replace(drawn.0, drawn.1)).collect(),
        ..found
    };
    assert_eq!(comparable(foreseen), comparable(found));
    assert_eq!(letters(disk), kept, "every whole letter is kept, and where it was");
    // A file that is missing, or ends where it should not, stays so: a start cannot make up what
    // stood there. All else is repaired once and for all.
    let after = start(disk).expect("it has started before");
    let left = (after.lost_bytes, after.torn_bytes, after.salvaged);
    assert_eq!(left, (0, 0, 0), "{after:?}");
    assert_eq!(letters(disk), kept);
}

fn start(disk: &SimDisk) -> Option<Recovery> {
    let config = Config { spares: 0, ..Config::default() };
    let mut entropy = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let opened =
        Spool::open(disk.clone(), config, 1_753_000_000_000, &mut entropy, &mut |_, _, _| {});
    opened.ok().map(|(_, recovery)| recovery)
}
