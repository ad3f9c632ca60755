//! Several measurements together: the main figures for somebody who has just installed it, and the
//! targets for whoever works on it.

use super::shown::json_lines;
use super::{outcome, survey};
use crate::bench::{
    Contender, End, Metric, Results, Run, Scope, Setup, Until, Work, picture, take_turns, trials,
};
use crate::cli::account::{put, tell};
use crate::cli::{Code, Failure};
use clap::Args;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Measure everything that this server has set itself to reach, and tell what it does
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench targets --quick                   a first look, in about two minutes
  mms bench targets --table figures.md --picture figures.svg
  mms bench targets --json > figures.json

Prints a table in Markdown: a row for each target, with what each server reached, what the target
comes to on this machine, and whether it is met; where a server failed, that stands in its place,
and the reason below. All of it takes a quarter of an hour and, for ten million letters, some 2 GiB
below TMPDIR.")]
pub(super) struct Targets {
    /// Fewer users, letters and servers, one second each
    #[arg(long)]
    quick: bool,
    /// Measure each of them so many times, by turns; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = super::runs)]
    runs: usize,
    /// Seconds of each measurement [default: 3, 1 with --quick]
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    secs: Option<f64>,
    /// Write the table there instead
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Draw the figures there, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// All figures, one JSON object a line, instead of the table
    #[arg(long)]
    json: bool,
}

impl Targets {
    /// Measures and prints.
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let machine = survey()?;
        let scope = if self.quick { Scope::Quick } else { Scope::Full };
        let seconds = self.secs.unwrap_or(if self.quick { 1.0 } else { 3.0 });
        let flush_us = machine.flush_us().map_err(|trouble| super::failure(&trouble))?;
        let mut results = Results { flush_us, ..Results::default() };
        let trials = trials(scope);
        for (number, mut trial) in (1..).zip(trials.iter().cloned()) {
            trial.setup.until = Until::Ns((seconds * 1e9) as u64);
            tell(&format!("{number} of {}: {}", trials.len(), trial.name));
            let (here, absent): (Vec<_>, Vec<_>) =
                trial.of.iter().copied().partition(|who| who.find_program().is_some());
            results.absent.extend(absent);
            let turns = take_turns(&here, &trial.setup, self.runs, &machine, &mut tell);
            if self.json {
                put(out, &json_lines(&trial.setup, &turns))?;
            }
            results.add(trial.name, turns);
            if results.end != End::AllDone {
                break;
            }
        }
        if !results.is_empty() {
            self.show(&results, out)?;
        }
        outcome(&results.failed.iter().map(|(_, failed)| failed).collect::<Vec<_>>(), results.end)
    }

    /// The table and the picture, each where it is wanted. A table that cannot be written there is
    /// printed after all: it took minutes to measure.
    fn show(&self, results: &Results, out: &mut dyn Write) -> Result<(), Failure> {
        let drawn = self.picture.as_ref().map_or(Ok(()), |path| write(path, &picture(results)));
        let table = results.table();
        let written = self.table.as_ref().map_or(Ok(()), |path| write(path, &table));
        if written.is_err() || (self.table.is_none() && !self.json) {
            put(out, &table)?;
        }
        written.and(drawn)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        Failure::new(Code::CannotCreate, format!("cannot write {}: {error}", path.display()))
    })
}

/// A line of the overview: what is done, and the figures that tell most.
type Line = (&'static str, Setup, &'static [(Metric, &'static str)]);

fn overview_lines() -> [Line; 6] {
    [
        (
            "100 users write to each other, 16 texts under way a pair",
            Setup::new(Work::Pairs { window: 16 }, 100),
            &[(Metric::PerSecond, "texts/s"), (Metric::Cpu, "CPU us each")],
        ),
        (
            "one writes to 1,000, 4 texts under way",
            Setup::new(Work::FanOut { window: 4 }, 1000),
            &[(Metric::PerSecond, "copies/s"), (Metric::Cpu, "CPU us each")],
        ),
        (
            "200 users write 20,000 texts a second",
            Setup::new(Work::Rate { per_second: 20_000 }, 200),
            &[(Metric::P50, "p50 us"), (Metric::P99, "p99 us")],
        ),
        (
            "for somebody who is away, flushed to the disk, 256 texts under way",
            Setup::new(Work::Offline { window: 256 }, 2),
            &[(Metric::PerSecond, "texts/s"), (Metric::Cpu, "CPU us each")],
        ),
        (
            "2,000 users sign in and do nothing",
            Setup::new(Work::Idle { ms: 500 }, 2000),
            &[(Metric::Bytes, "bytes each"), (Metric::SignInCpu, "CPU us a sign-in")],
        ),
        (
            "somebody signs in for whom 100,000 letters wait",
            Setup::new(Work::Backlog { letters: 100_000 }, 2),
            &[(Metric::PerSecond, "letters/s"), (Metric::Cpu, "CPU us each")],
        ),
    ]
}

/// The main figures of MMS beside those of the bare relay.
pub(super) fn overview(as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let machine = survey()?;
    for (what, mut setup, metrics) in overview_lines() {
        setup.until = Until::Ns(1_500_000_000);
        let both = [Contender::Mms, Contender::Relay];
        let of = if Contender::Relay.knows(&setup.work) { &both[..] } else { &both[..1] };
        let turns = take_turns(of, &setup, 1, &machine, &mut tell);
        if as_json {
            put(out, &json_lines(&setup, &turns))?;
        } else if !turns.medians.is_empty() {
            put(out, &overview_text(what, &setup, metrics, &turns.medians))?;
        }
        // Both are this program: with the first fault it is over.
        outcome(&turns.failed.iter().collect::<Vec<_>>(), turns.end)?;
    }
    Ok(())
}

fn overview_text(
    what: &str,
    setup: &Setup,
    metrics: &[(Metric, &str)],
    all: &[(Contender, Run)],
) -> String {
    let mut text = format!("{what}\n");
    for (metric, unit) in metrics {
        _ = write!(text, "  {unit:<18}");
        for (who, run) in all {
            let figure = run.figure(*metric).unwrap_or_default();
            let digits = if figure < 100.0 { 2 } else { 0 };
            _ = write!(text, "  {} {figure:>10.digits$}", who.name());
        }
        text.push('\n');
    }
    if let (Work::Rate { .. }, Some((Contender::Mms, run))) = (setup.work, all.first()) {
        text += &run.latency.draw();
    }
    text + "\n"
}
