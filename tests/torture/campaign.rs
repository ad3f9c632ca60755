//! A row of the campaign: how often, what was counted, and the verdict. It knows no fault.
//!
//! `MMS_TORTURE` says how long: `ci` (the default), `quick`, `full`, or a number of cycles.
//! `MMS_TORTURE_RESULTS` names a file that each row adds its line to.

use crate::support::letters::{Faults, Reader};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// How many cycles a row has.
#[derive(Clone, Copy)]
pub struct Counts {
    /// In every `cargo test`.
    pub ci: usize,
    /// `scripts/torture`.
    pub quick: usize,
    /// `scripts/torture --full`, before a release.
    pub full: usize,
}

/// A fault and what is known of it.
pub struct Row {
    /// As typed behind `scripts/torture`, and the test of that name here.
    pub name: &'static str,
    /// What is done to the server.
    pub fault: &'static str,
    pub counts: Counts,
}

/// Why a row cannot be run on this machine.
pub struct Skip(pub String);

/// What a row has counted.
#[derive(Default)]
pub struct Tally {
    pub cycles: usize,
    pub confirmed: usize,
    pub delivered: usize,
    pub repeats: usize,
    pub faults: Faults,
    /// What else is worth telling.
    pub notes: Vec<String>,
}

impl Tally {
    pub fn unexpected(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("UNEXPECTED {what}");
        self.faults.unexpected.push(what);
    }

    /// Something that must hold; else it is counted.
    pub fn holds(&mut self, so: bool, what: impl FnOnce() -> String) {
        if !so {
            self.unexpected(what());
        }
    }

    /// Takes over what a reader has seen, once he has seen everything.
    pub fn heard(&mut self, reader: &mut Reader) {
        self.delivered += reader.delivered();
        self.repeats += reader.repeats;
        let Faults { lost, doubled, unexpected } = std::mem::take(&mut reader.faults);
        self.faults.lost.extend(lost);
        self.faults.doubled.extend(doubled);
        self.faults.unexpected.extend(unexpected);
    }

    fn bad(&self) -> [usize; 3] {
        let Faults { lost, doubled, unexpected } = &self.faults;
        [lost.len(), doubled.len(), unexpected.len()]
    }
}

/// Runs a row, prints and notes its line, and fails if anything was wrong.
pub fn torture(row: &Row, run: impl FnOnce(usize, &mut Tally) -> Result<(), Skip>) {
    let Counts { ci, quick, full } = row.counts;
    let count = match std::env::var("MMS_TORTURE").as_deref() {
        Err(_) | Ok("ci") => ci,
        Ok("quick") => quick,
        Ok("full") => full,
        Ok(number) => number.parse().expect("MMS_TORTURE is ci, quick, full or a number"),
    };
    let mut tally = Tally::default();
    let start = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| run(count, &mut tally)));
    let skipped = match ended {
        Ok(Ok(())) => None,
        Ok(Err(Skip(why))) => Some(why),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            tally.unexpected(text.unwrap_or_else(|| "a panic".into()));
            None
        }
    };
    let bad = tally.bad();
    let verdict = match (&skipped, bad) {
        (Some(_), _) => "SKIP",
        (None, [0, 0, 0]) if tally.cycles > 0 => "PASS",
        (None, _) => "FAIL",
    };
    let seconds = start.elapsed().as_secs_f64();
    let [lost, doubled, unexpected] = bad;
    let Tally { cycles, confirmed, delivered, repeats, .. } = tally;
    let notes = skipped.into_iter().chain(tally.notes).collect::<Vec<_>>().join("; ");
    let line = format!(
        "| `{}` | {} | {cycles} | {confirmed} | {delivered} | {repeats} | \
         {lost} / {doubled} / {unexpected} | {seconds:.0} s | {verdict} | {notes} |",
        row.name, row.fault
    );
    println!("{line}");
    if let Ok(file) = std::env::var("MMS_TORTURE_RESULTS") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    }
    let Faults { lost, doubled, unexpected } = tally.faults;
    for (kind, all) in [("lost", lost), ("doubled", doubled), ("unexpected", unexpected)] {
        for one in all.iter().take(20) {
            println!("{kind}: {one}");
        }
        println!("{kind}: {}", all.len());
    }
    assert_ne!(verdict, "FAIL", "{}", row.name);
}
