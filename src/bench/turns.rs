//! Several servers at the same work by turns, so that whatever else the machine does meets all of
//! them alike. A stranger who fails costs nobody else his figures: he is left out of the turns that
//! are still to come. If this program itself fails, there is nothing left to compare with.

use super::contender::Contender;
use super::machine::Machine;
use super::run::{Run, measure};
use super::trouble::Trouble;
use super::work::Setup;
use std::fmt;

/// Somebody who did not finish the work.
#[derive(Debug)]
pub struct Failed {
    /// Who.
    pub who: Contender,
    /// In which of his runs; the first is 1.
    pub run: usize,
    /// How many there were to be.
    pub of: usize,
    /// What happened.
    pub why: Trouble,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, run, of, why } = self;
        write!(f, "{} failed in run {run} of {of}: {}", who.name(), why.reason())
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// All had their turns, but for those who failed.
    #[default]
    AllDone,
    /// This program failed, the last one to do so.
    OursFailed,
    /// Somebody wanted it to end.
    Interrupted,
}

/// What the turns came to.
#[derive(Debug, Default)]
pub struct Turns {
    /// The medians of those who did all their runs; if it ended early, when all had fewer, of
    /// whatever they did. Of who failed there is none: of fewer runs it would be no figure to put
    /// beside the others'.
    pub medians: Vec<(Contender, Run)>,
    /// How many runs each was to have.
    pub runs: usize,
    /// Who failed, in that order.
    pub failed: Vec<Failed>,
    /// Whether all had their turns.
    pub end: End,
}

/// Does the same work so many times with each of those that are there. Who is left out is `told`
/// at once.
pub fn take_turns(
    of: &[Contender],
    setup: &Setup,
    runs: usize,
    machine: &Machine,
    told: &mut dyn FnMut(&str),
) -> Turns {
    take_turns_at(&mut |who| measure(who, setup, machine), of, runs, told)
}

fn take_turns_at(
    work: &mut dyn FnMut(Contender) -> Result<Run, Trouble>,
    of: &[Contender],
    runs: usize,
    told: &mut dyn FnMut(&str),
) -> Turns {
    let mut all: Vec<(Contender, Vec<Run>)> = vec![];
    for &who in of {
        if !all.iter().any(|(other, _)| *other == who) {
            all.push((who, vec![]));
        }
    }
    let mut turns = Turns { runs, ..Turns::default() };
    'turns: for run in 1..=runs {
        for at in (0..all.len()).rev() {
            let who = all[at].0;
            match work(who) {
                Ok(run) => all[at].1.push(run),
                Err(Trouble::Interrupted) => {
                    turns.end = End::Interrupted;
                    break 'turns;
                }
                // Whoever asks for all has those that there are.
                Err(trouble @ (Trouble::Absent(_) | Trouble::Unfit(_))) => {
                    told(&trouble.to_string());
                    all.remove(at);
                }
                Err(why) => {
                    all.remove(at);
                    turns.failed.push(Failed { who, run, of: runs, why });
                    if who.is_ours() {
                        turns.end = End::OursFailed;
                        break 'turns;
                    }
                    let failed = turns.failed.last().map(ToString::to_string);
                    told(&format!("{}; it is left out here", failed.unwrap_or_default()));
                }
            }
        }
    }
    all.retain(|(_, done)| !done.is_empty());
    turns.medians = all.into_iter().map(|(who, done)| (who, Run::median(&done))).collect();
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::Contender::{Mms, Nats, Redis, Relay};
    use crate::bench::run::Metric;

    fn reset(who: Contender) -> Trouble {
        Trouble::Server(who, "u1: connection reset".into())
    }

    /// Three runs of these, of which the one with that number comes to a trouble; who had a turn,
    /// what came of it, and what was told meanwhile.
    fn turns_with(
        of: &[Contender],
        number: usize,
        trouble: fn(Contender) -> Trouble,
    ) -> (Vec<Contender>, Turns, Vec<String>) {
        let (mut had, mut told) = (vec![], vec![]);
        let mut work = |who| {
            had.push(who);
            let run = Run::of(Metric::Cpu, had.len() as f64);
            if had.len() == number { Err(trouble(who)) } else { Ok(run) }
        };
        let turns = take_turns_at(&mut work, of, 3, &mut |words| told.push(words.to_owned()));
        (had, turns, told)
    }

    fn medians(turns: &Turns) -> Vec<(Contender, f64)> {
        let figure = |run: &Run| run.figure(Metric::Cpu).unwrap();
        turns.medians.iter().map(|(who, run)| (*who, figure(run))).collect()
    }

    #[test]
    fn all_have_their_turns_and_their_medians() {
        let (had, turns, told) = turns_with(&[Mms, Relay, Mms], 99, reset);
        assert_eq!(had, [Relay, Mms, Relay, Mms, Relay, Mms]);
        assert_eq!(medians(&turns), [(Mms, 4.0), (Relay, 3.0)]);
        assert!(turns.failed.is_empty() && told.is_empty() && turns.end == End::AllDone);
    }

    #[test]
    fn a_stranger_who_fails_is_left_out_and_told_and_costs_nobody_a_run() {
        let (had, turns, told) = turns_with(&[Mms, Nats, Relay], 5, reset);
        assert_eq!(had, [Relay, Nats, Mms, Relay, Nats, Mms, Relay, Mms]);
        assert_eq!(medians(&turns), [(Mms, 6.0), (Relay, 4.0)], "none of nats, who did one");
        assert_eq!(turns.end, End::AllDone);
        let failed: Vec<String> = turns.failed.iter().map(Failed::to_string).collect();
        assert_eq!(failed, ["nats failed in run 2 of 3: u1: connection reset"]);
        assert_eq!(told, [format!("{}; it is left out here", failed[0])]);
    }

    #[test]
    fn strangers_fail_for_what_the_machine_says_as_well() {
        let full = |_| Trouble::Machine("cannot start nats".into(), std::io::Error::other("full"));
        let (had, turns, _) = turns_with(&[Mms, Nats], 1, full);
        assert_eq!(had, [Nats, Mms, Mms, Mms]);
        let failed: Vec<String> = turns.failed.iter().map(Failed::to_string).collect();
        assert_eq!(failed, ["nats failed in run 1 of 3: cannot start nats: full"]);
    }

    #[test]
    fn when_this_program_fails_it_ends_with_what_there_is() {
        // The last run of MMS, when all others have had theirs; the others' last but one.
        let (had, turns, told) = turns_with(&[Mms, Redis, Relay], 9, reset);
        assert_eq!(had.len(), 9);
        assert_eq!(medians(&turns), [(Redis, 5.0), (Relay, 4.0)]);
        assert_eq!((turns.end, turns.failed[0].who), (End::OursFailed, Mms));
        assert!(told.is_empty(), "the error tells it: {told:?}");
        let (had, turns, _) = turns_with(&[Mms, Redis, Relay], 4, reset);
        assert_eq!(had, [Relay, Redis, Mms, Relay]);
        assert_eq!((turns.end, turns.failed[0].who), (End::OursFailed, Relay));
        assert_eq!(medians(&turns), [(Mms, 3.0), (Redis, 2.0)]);
        let counts: Vec<usize> = turns.medians.iter().map(|(_, run)| run.runs).collect();
        assert_eq!((counts.as_slice(), turns.runs), (&[1, 1][..], 3), "it is told how many");
    }

    #[test]
    fn who_interrupts_it_says_nothing_of_anybody() {
        let (had, turns, told) = turns_with(&[Mms, Nats], 1, |_| Trouble::Interrupted);
        assert_eq!((had.as_slice(), turns.end), (&[Nats][..], End::Interrupted));
        assert!(turns.failed.is_empty() && turns.medians.is_empty() && told.is_empty());
        let (_, turns, _) = turns_with(&[Mms, Nats], 4, |_| Trouble::Interrupted);
        let counts: Vec<usize> = turns.medians.iter().map(|(_, run)| run.runs).collect();
        assert_eq!((counts.as_slice(), turns.end), (&[1, 2][..], End::Interrupted));
    }

    #[test]
    fn who_is_absent_is_left_out_and_has_not_failed() {
        let (had, turns, told) = turns_with(&[Mms, Nats], 1, Trouble::Absent);
        assert_eq!(had, [Nats, Mms, Mms, Mms]);
        assert!(turns.failed.is_empty() && turns.end == End::AllDone);
        assert_eq!(told, ["nats-server is not installed"]);
    }
}
