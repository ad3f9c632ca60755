//! The campaign: what an operator's machine can do to a server, done to the real program until it
//! breaks or is believed. Each row of [`ROWS`] is a test here; `scripts/torture` runs them with
//! their full counts and prints the table. What needs root or takes long is left out of a mere
//! `cargo test`, and the rest is short there.
#![allow(missing_docs, unreachable_pub)] // nobody else builds on it
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod cable;
mod campaign;
mod companion;
mod device;
mod enemies;
mod falls;
mod files;
mod keys;
mod parser;
mod readers;
mod siege;
mod strangers;
mod surgery;
mod texts;
mod unknown;

use campaign::{Counts, Row, torture};

const ROWS: [Row; 21] = [
    Row {
        name: "kill",
        fault: "`kill -9` under the load of 8 senders",
        counts: Counts { ci: 4, quick: 50, full: 2000 },
    },
    Row {
        name: "power-cut",
        fault: "power cut under the load of 8 senders, and in the start that follows",
        counts: Counts { ci: 3, quick: 50, full: 2000 },
    },
    Row {
        name: "io-error",
        fault: "a write or a sync reports EIO under the load of 8 senders",
        counts: Counts { ci: 4, quick: 20, full: 200 },
    },
    Row {
        name: "disk-full",
        fault: "a file system of 64 MiB fills up",
        counts: Counts { ci: 1, quick: 5, full: 100 },
    },
    Row {
        name: "bits",
        fault: "a spool cut at every byte, and every bit of it turned",
        counts: Counts { ci: 6_000, quick: 65_536, full: 131_072 },
    },
    Row {
        name: "files",
        fault: "files of the spool zeroed, empty, missing, or of somebody else",
        counts: Counts { ci: 27, quick: 27, full: 27 },
    },
    Row {
        name: "ok-lost",
        fault: "the OK is lost, and the message sent again ten times under its key",
        counts: Counts { ci: 300, quick: 1000, full: 50_000 },
    },
    Row {
        name: "companion",
        fault: "the companion killed between keeping, printing and acknowledging",
        counts: Counts { ci: 10, quick: 60, full: 600 },
    },
    Row {
        name: "backlog",
        fault: "nc and `mms recv` killed inside a backlog of 10,000 letters",
        counts: Counts { ci: 6, quick: 50, full: 5000 },
    },
    Row {
        name: "vanish",
        fault: "telnet, nc and `mms recv` killed, connections reset, while letters come",
        counts: Counts { ci: 9, quick: 50, full: 2000 },
    },
    Row {
        name: "cable",
        fault: "the cable pulled while letters travel over it",
        counts: Counts { ci: 6, quick: 50, full: 2000 },
    },
    Row {
        name: "slow",
        fault: "connections that never send a line, for as long as they may",
        counts: Counts { ci: 300, quick: 5000, full: 5000 },
    },
    Row {
        name: "endless",
        fault: "MiB without a line end, before the sign-in and behind it",
        counts: Counts { ci: 8, quick: 1024, full: 4096 },
    },
    Row {
        name: "crowded",
        fault: "500 connections where descriptors are left for 64",
        counts: Counts { ci: 1, quick: 2, full: 50 },
    },
    Row {
        name: "deaf",
        fault: "letters of 100 senders to a reader who takes nothing",
        counts: Counts { ci: 2000, quick: 100_000, full: 1_000_000 },
    },
    Row {
        name: "guess",
        fault: "addresses that fail to sign in as somebody, to shut him out",
        counts: Counts { ci: 100, quick: 1000, full: 10_000 },
    },
    Row {
        name: "unknown",
        fault: "wrong passwords of users, and of names that nobody has, told apart",
        counts: Counts { ci: 1, quick: 1000, full: 3000 },
    },
    Row {
        name: "text",
        fault: "texts that drive terminals, in all that somebody can write",
        counts: Counts { ci: 40, quick: 400, full: 4000 },
    },
    Row {
        name: "foreign",
        fault: "browsers, TLS, mail servers and port scanners at the wrong door, and noise",
        counts: Counts { ci: 1, quick: 10, full: 100 },
    },
    Row {
        name: "parser",
        fault: "any bytes, cut anywhere",
        counts: Counts { ci: 20_000, quick: 1_000_000, full: 50_000_000 },
    },
    Row {
        name: "siege",
        fault: "seconds of all of that at once, around people who write to each other",
        counts: Counts { ci: 15, quick: 60, full: 3600 },
    },
];

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).expect("a row of the table")
}

#[test]
fn kill() {
    torture(row("kill"), falls::kill);
}

#[test]
#[ignore = "needs root and loop devices; scripts/torture runs it"]
fn power_cut() {
    torture(row("power-cut"), falls::power_cut);
}

#[test]
fn io_error() {
    torture(row("io-error"), falls::io_error);
}

#[test]
#[ignore = "needs root and loop devices; scripts/torture runs it"]
fn disk_full() {
    torture(row("disk-full"), falls::disk_full);
}

#[test]
fn bits() {
    torture(row("bits"), surgery::bits);
}

#[test]
fn files() {
    torture(row("files"), files::files);
}

#[test]
fn ok_lost() {
    torture(row("ok-lost"), keys::ok_lost);
}

#[test]
fn companion() {
    torture(row("companion"), companion::companion);
}

#[test]
fn backlog() {
    torture(row("backlog"), readers::in_backlog);
}

#[test]
fn vanish() {
    torture(row("vanish"), readers::vanish);
}

#[test]
#[ignore = "needs root and network name spaces; scripts/torture runs it"]
fn cable() {
    cable::in_a_network_of_its_own("cable", |skip| {
        torture(row("cable"), |count, tally| skip.map_or_else(|| cable::pulled(count, tally), Err));
    });
}

#[test]
#[ignore = "takes more than two minutes; scripts/torture runs it"]
fn slow() {
    torture(row("slow"), abuse::slow);
}

#[test]
fn endless() {
    torture(row("endless"), abuse::endless);
}

#[test]
fn crowded() {
    torture(row("crowded"), abuse::crowded);
}

#[test]
fn deaf() {
    torture(row("deaf"), abuse::deaf);
}

#[test]
fn guess() {
    torture(row("guess"), abuse::guess);
}

#[test]
#[ignore = "measures times; scripts/torture runs it"]
fn unknown() {
    torture(row("unknown"), unknown::unknown);
}

#[test]
fn text() {
    torture(row("text"), texts::text);
}

#[test]
fn foreign() {
    torture(row("foreign"), strangers::foreign);
}

#[test]
fn parser() {
    torture(row("parser"), parser::parser);
}

#[test]
#[ignore = "takes a minute and measures times; scripts/torture runs it"]
fn siege() {
    torture(row("siege"), siege::siege);
}

/// The script and the table in README.md name every row, with its counts.
#[test]
fn the_script_knows_the_rows() {
    let script = include_str!("../../scripts/torture");
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    assert!(script.contains(&format!("rows=({})", names.join(" "))), "{names:?}");
    for Row { name, fault, counts } in &ROWS {
        let line = format!("{name:9} {:>7} {:>8}  ", counts.quick, counts.full);
        assert!(script.lines().any(|one| one.starts_with(&line)), "{line}");
        let told = format!("| `{name}` | {fault} |");
        assert!(include_str!("../../README.md").contains(&told), "{told}");
    }
}
