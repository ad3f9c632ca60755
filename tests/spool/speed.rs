//! How fast letters are written and read again, for the figures in README.md.
#![allow(clippy::disallowed_methods)] // figures are told with the times they took

use super::{Server, TestDir, UNIX_MS, entropy};
use mms::core::record::{Journal as _, Letter, LetterId, LetterKind, Record};
use mms::store::disk::FileDisk;
use mms::store::record;
use mms::store::spool::{Config, Spool, Sync};
use std::time::Instant;

/// `cargo test --release --test spool -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let dir = TestDir::new("speed");
    let never = Config { sync: Sync::Never, ..Config::default() };
    let mut server = Server::open(FileDisk::open(&dir.0).unwrap(), never).unwrap();
    let count = 2_000_000;
    let body = "x".repeat(64);
    let epoch = server.spool.epoch();
    let begin = Instant::now();
    for seq in 1..=count {
        let (id, kind) = (LetterId { epoch, seq }, LetterKind::Direct);
        let letter =
            Letter { id, unix_ms: UNIX_MS, kind, key: None, from: "bob", to: "+fred", body: &body };
        server.spool.append(&Record::Letter(letter));
        if seq % 1000 == 0 {
            server.spool.commit().unwrap();
        }
    }
    println!("append and write: {:?} a letter", begin.elapsed() / count);
    server.spool.stop(UNIX_MS).unwrap();
    drop(server);

    let mut out = Vec::with_capacity(1 << 20);
    let begin = Instant::now();
    for seq in 1..=count {
        if seq % 1000 == 0 {
            out.clear();
        }
        let (id, kind) = (LetterId { epoch, seq }, LetterKind::Direct);
        let letter =
            Letter { id, unix_ms: UNIX_MS, kind, key: None, from: "bob", to: "+fred", body: &body };
        record::encode(&mut out, 42, &Record::Letter(letter));
    }
    println!("encode: {:?} a letter", begin.elapsed() / count);

    let mut letters = 0;
    let begin = Instant::now();
    let opened = Spool::open(
        FileDisk::open(&dir.0).unwrap(),
        never,
        UNIX_MS,
        &mut entropy,
        &mut |record, _, _| letters += u32::from(matches!(record, Record::Letter(_))),
    );
    let took = begin.elapsed();
    drop(opened.unwrap());
    assert_eq!(letters, count);
    println!("replay: {took:?}, {:.0} letters/s", f64::from(count) / took.as_secs_f64());
}
