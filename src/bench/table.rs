//! The targets and what was reached, as a table in Markdown, and below it who failed. A figure that
//! there is not is not shown as one.

use super::contender::Contender;
use super::contender::Contender::{Answering, Mms};
use super::targets::{Aim, Results, TARGETS, Target, Verdict};
use super::turns::End;
use std::fmt::Write as _;

impl Results {
    /// What the conditions come to on this machine, in words and figures.
    #[must_use]
    pub fn tell_aims(&self, target: &Target) -> String {
        let aims = target.aims.iter().map(|aim| self.tell_aim(target, *aim));
        aims.collect::<Vec<_>>().join(", ")
    }

    fn tell_aim(&self, target: &Target, aim: Aim) -> String {
        match aim {
            Aim::AtMostTimes(1.0, who) => format!("below {}", who.name()),
            Aim::AtMostTimes(times, who) => format!("at most {times} x {}", who.name()),
            Aim::AtMostTimesAndFlush(times, who) => {
                let flush = self.flush_us;
                format!("at most {times} x {} and a flush of {flush:.0}", who.name())
            }
            Aim::AtLeastTimes(1.0, who) => format!("at least that of {}", who.name()),
            Aim::AtLeastTimes(times, who) => format!("at least {times} x {}", who.name()),
            Aim::AtMost(most) => format!("at most {}", grouped(most)),
            Aim::AtLeast(least) => format!("at least {}", grouped(least)),
            Aim::AtMostMore(more, metric) => {
                let aim = format!("at most {} more than alone", grouped(more));
                match self.figure(target.trial, Mms, metric) {
                    Some(alone) => format!("{aim}, {}", grouped(alone)),
                    None => aim,
                }
            }
            Aim::GrowsAtMostAs(base, who) => {
                let growth = |who| {
                    let here = self.figure(target.trial, who, target.metric)?;
                    Some(here / self.figure(base, who, target.metric)?)
                };
                let name = who.name();
                match growth(Mms).zip(growth(who)) {
                    Some((ours, theirs)) => {
                        format!("grows from 100 users {ours:.2} x, {name} {theirs:.2} x")
                    }
                    None => format!("grows from 100 users no more than {name}"),
                }
            }
        }
    }

    /// The table in Markdown, with a column for each that took part or should have; below it who
    /// failed, and whether it ended early.
    #[must_use]
    pub fn table(&self) -> String {
        let takes_part = |who: &Contender| {
            self.absent.contains(who)
                || self.runs.iter().any(|(_, one, _)| one == who)
                || self.failed.iter().any(|(_, failed)| failed.who == *who)
        };
        let columns: Vec<Contender> = Contender::ALL.into_iter().filter(takes_part).collect();
        let mut head: Vec<String> = vec!["work".into()];
        head.extend(columns.iter().map(|who| who.name().into()));
        head.extend(["target".into(), "reached".into()]);
        let mut text = row(&head) + &row(&vec!["---".into(); head.len()]);
        for target in &TARGETS {
            let mut cells = vec![target.what.into()];
            cells.extend(columns.iter().map(|&who| self.cell(target, who)));
            cells.push(self.tell_aims(target));
            cells.push(match self.judge(target) {
                Verdict::Met => "met".into(),
                Verdict::Missed if self.misses_as_much(target, Answering) => {
                    "not met, nor by relay-ok".into()
                }
                Verdict::Missed => "not met".into(),
                Verdict::Unknown => "not known".into(),
            });
            text += &row(&cells);
        }
        text + &self.remarks()
    }

    fn cell(&self, target: &Target, who: Contender) -> String {
        let mut failed = self.failed.iter();
        let has_failed = failed.any(|(trial, one)| *trial == target.trial && one.who == who);
        match self.figure(target.trial, who, target.metric) {
            Some(figure) => grouped(figure),
            None if has_failed => "failed".into(),
            None if self.absent.contains(&who) => "absent".into(),
            None => String::new(),
        }
    }

    /// What a reader of the table must know of figures that it does not have.
    fn remarks(&self) -> String {
        let mut text = String::new();
        if !self.failed.is_empty() {
            text +=
                "\nWho failed has no figure for that work, not even of runs that went well:\n\n";
        }
        for (trial, failed) in &self.failed {
            _ = writeln!(text, "- {trial}: {failed}");
        }
        let why = match self.end {
            End::AllDone => return text,
            End::OursFailed => "this program failed",
            End::Interrupted => "it was interrupted",
        };
        _ = writeln!(text, "\nThis is not all: {why}. Rows without a figure of mms say nothing.");
        text
    }
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// A figure with as many digits as mean something, in groups of three.
pub(super) fn grouped(figure: f64) -> String {
    match figure {
        figure if figure < 10.0 => format!("{figure:.2}"),
        figure if figure < 100.0 => format!("{figure:.1}"),
        figure => {
            let digits = format!("{figure:.0}");
            let mut text = String::new();
            for (at, digit) in digits.char_indices() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::Contender::{Nats, Redis, Relay};
    use crate::bench::run::{Metric, Run};
    use crate::bench::trouble::Trouble;
    use crate::bench::turns::Failed;

    /// MMS at the first trial.
    fn results() -> Results {
        let run = Run::of(Metric::Cpu, 0.5);
        Results { runs: vec![("pairs", Mms, run)], ..Results::default() }
    }

    const AIMS: &str = "at most 1.7 x relay, below nats, below redis";

    #[test]
    fn the_table_tells_who_is_absent_and_omits_who_was_not_asked() {
        let results = Results { absent: vec![Redis], ..results() };
        let table = results.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2 + TARGETS.len());
        assert_eq!(lines[0], "| work | mms | redis | target | reached |");
        let what = TARGETS[0].what;
        assert_eq!(lines[2], format!("| {what} | 0.50 | absent | {AIMS} | not known |"));
    }

    #[test]
    fn the_table_tells_whether_a_bare_relay_with_answers_would_miss_it_too() {
        // Dearer than the relay allows both are; dearer than nats, at 0.7, MMS alone is.
        for (answering, nats, reached) in
            [(0.6, 1.0, "not met, nor by relay-ok"), (0.5, 1.0, "not met"), (0.6, 0.7, "not met")]
        {
            let all =
                [(Mms, 0.9), (Answering, answering), (Relay, 0.3), (Nats, nats), (Redis, 1.0)];
            let runs = all.map(|(who, figure)| ("pairs", who, Run::of(Metric::Cpu, figure)));
            let table = Results { runs: runs.into(), ..Results::default() }.table();
            let line = table.lines().nth(2).unwrap();
            assert!(line.ends_with(&format!("| {reached} |")), "{line}");
        }
    }

    #[test]
    fn the_table_tells_who_failed_where_and_why() {
        let why = Trouble::Server(Nats, "u3: connection reset".into());
        let failed = vec![("pairs", Failed { who: Nats, run: 2, of: 3, why })];
        let table = Results { failed, ..results() }.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| work | mms | nats | target | reached |");
        let what = TARGETS[0].what;
        assert_eq!(lines[2], format!("| {what} | 0.50 | failed | {AIMS} | not known |"));
        assert_eq!(table.matches("| failed |").count(), 1, "only there: {table}");
        let remarks = &lines[2 + TARGETS.len()..];
        assert_eq!(remarks.len(), 4, "{remarks:?}");
        assert_eq!(remarks[3], "- pairs: nats failed in run 2 of 3: u3: connection reset");
    }

    #[test]
    fn a_table_that_is_not_whole_says_so_and_invents_no_figure() {
        let why = Trouble::Server(Relay, "u0: closes the connection".into());
        let failed = vec![("pairs", Failed { who: Relay, run: 1, of: 1, why })];
        let table = Results { failed, end: End::OursFailed, ..results() }.table();
        assert!(table.contains("This is not all: this program failed."), "{table}");
        assert!(table.contains("- pairs: relay failed in run 1 of 1: u0: closes"), "{table}");
        let table = Results { end: End::Interrupted, ..results() }.table();
        assert!(table.contains("This is not all: it was interrupted."), "{table}");
        assert!(table.contains("| grows from 100 users no more than relay | not known |"));
        assert!(table.contains("| at most 1,000 more than alone | not known |"), "{table}");
        assert!(!table.contains("NaN"), "{table}");
    }

    #[test]
    fn figures_are_shown_to_what_they_mean() {
        let shown = [0.304, 31.96, 1234.5, 1_705_513.0].map(grouped);
        assert_eq!(shown, ["0.30", "32.0", "1,234", "1,705,513"]);
    }
}
