//! What measurements came to, as a table for a person and as JSON for a program.

use crate::bench::{Contender, Failed, Metric, Run, Setup, Turns, Work};
use crate::client::shown::Json;
use std::fmt::Write as _;

fn work_name(work: Work) -> &'static str {
    match work {
        Work::Pairs { .. } => "pairs",
        Work::FanOut { .. } => "fanout",
        Work::Rate { .. } => "rate",
        Work::Offline { .. } => "offline",
        Work::Idle { .. } => "idle",
        Work::SignIns { .. } => "signins",
        Work::Backlog { .. } => "backlog",
        Work::Replay { .. } => "replay",
    }
}

/// An object for each who did his work, then one for each who failed.
pub(super) fn json_lines(setup: &Setup, turns: &Turns) -> String {
    let done = turns.medians.iter().map(|(who, run)| json(setup, *who, run));
    done.chain(turns.failed.iter().map(|failed| json_failed(setup, failed))).collect()
}

/// One object that has no figures, so that nobody takes it for one that has.
fn json_failed(setup: &Setup, failed: &Failed) -> String {
    format!(
        "{{\"work\":{},\"server\":{},\"users\":{},\"failed\":{},\"run\":{},\"of\":{}}}\n",
        Json(work_name(setup.work)),
        Json(failed.who.name()),
        setup.users,
        Json(&failed.why.reason()),
        failed.run,
        failed.of
    )
}

/// One object with all figures.
fn json(setup: &Setup, who: Contender, run: &Run) -> String {
    let mut line = format!(
        "{{\"work\":{},\"server\":{},\"users\":{},\"runs\":{}",
        Json(work_name(setup.work)),
        Json(who.name()),
        setup.users,
        run.runs
    );
    for (metric, value) in &run.figures {
        // JSON knows no infinity, and nothing here should be one.
        let value = if value.is_finite() { *value } else { 0.0 };
        _ = write!(line, ",{}:{value:.3}", Json(metric.name()));
    }
    line + "}\n"
}

/// The metrics that matter for a kind of work, with the heads of their columns.
fn columns(work: Work) -> &'static [(Metric, &'static str, usize)] {
    match work {
        Work::Pairs { .. } | Work::FanOut { .. } | Work::Rate { .. } => &[
            (Metric::PerSecond, "texts/s", 0),
            (Metric::Cpu, "CPU us each", 3),
            (Metric::P50, "p50 us", 0),
            (Metric::P99, "p99 us", 0),
            (Metric::P999, "p99.9 us", 0),
            (Metric::Busy, "busy %", 0),
            (Metric::Missing, "missing", 0),
        ],
        Work::Offline { .. } => {
            &[(Metric::PerSecond, "texts/s", 0), (Metric::Cpu, "CPU us each", 3)]
        }
        Work::Idle { .. } => &[
            (Metric::Bytes, "bytes each", 0),
            (Metric::IdleCpu, "CPU ms/s", 2),
            (Metric::SignIns, "sign-ins/s", 0),
            (Metric::SignInCpu, "CPU us a sign-in", 1),
        ],
        Work::SignIns { .. } => &[
            (Metric::SignIns, "sign-ins/s", 0),
            (Metric::SignInCpu, "CPU us each", 1),
            (Metric::OthersP99, "others: p99 us", 0),
            (Metric::OthersMost, "max us", 0),
            (Metric::AloneP99, "alone: p99 us", 0),
            (Metric::AloneMost, "max us", 0),
        ],
        Work::Backlog { .. } => &[
            (Metric::PerSecond, "letters/s", 0),
            (Metric::Cpu, "CPU us each", 3),
            (Metric::OthersP99, "others: p99 us", 0),
            (Metric::OthersMost, "max us", 0),
            (Metric::AloneP99, "alone: p99 us", 0),
            (Metric::AloneMost, "max us", 0),
            (Metric::Missing, "missing", 0),
        ],
        Work::Replay { .. } => &[
            (Metric::Seconds, "seconds", 2),
            (Metric::PerSecond, "letters/s", 0),
            (Metric::Journal, "journal MiB", 0),
        ],
    }
}

/// A line for each server; of a rate the histograms, too.
pub(super) fn table(work: Work, turns: &Turns) -> String {
    let all = &turns.medians;
    let columns = columns(work);
    let mut text = String::new();
    if !all.is_empty() {
        text = format!("{:<10}", "");
        columns.iter().for_each(|(_, head, _)| _ = write!(text, "  {head:>11}"));
        text.push('\n');
    }
    for (who, run) in all {
        _ = write!(text, "{:<10}", who.name());
        for (metric, head, digits) in columns {
            let width = head.len().max(11);
            match run.figure(*metric) {
                Some(value) => _ = write!(text, "  {value:>width$.digits$}"),
                None => _ = write!(text, "  {:>width$}", "-"),
            }
        }
        text.push('\n');
    }
    for failed in &turns.failed {
        _ = writeln!(text, "{failed}");
    }
    for (who, run) in all.iter().filter(|(_, run)| run.runs < turns.runs) {
        _ = writeln!(text, "{} had {} of {} runs", who.name(), run.runs, turns.runs);
    }
    if matches!(work, Work::Rate { .. }) {
        for (who, run) in all {
            _ = write!(text, "\n{}\n{}", who.name(), run.latency.draw());
        }
    }
    text
}
