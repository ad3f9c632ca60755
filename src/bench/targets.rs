//! What this server has set itself to reach, as rows of a table: a kind of work, the figure that
//! counts, and what it is compared with. Compared is always within one run on one machine, so
//! that a target is the same everywhere.

use super::contender::Contender;
use super::contender::Contender::{
    Answering, Inspircd, Mms, Mosquitto, Nats, Ngircd, Redis, Relay,
};
use super::run::{Metric, Run};
use super::tongue::SignIn;
use super::turns::{End, Failed, Turns};
use super::work::{Setup, Sync, Work};

/// How far the measurements go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it, a quarter of an hour.
    Full,
    /// Fewer users and letters, only the figures that move most.
    Quick,
}

/// Work that is measured, of whom.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What it is called.
    pub name: &'static str,
    /// What is done.
    pub setup: Setup,
    /// By whom.
    pub of: &'static [Contender],
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// At most so many times that of another.
    AtMostTimes(f64, Contender),
    /// The same, and the 99th of a hundred flushes of the disk besides.
    AtMostTimesAndFlush(f64, Contender),
    /// At least so many times that of another.
    AtLeastTimes(f64, Contender),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so much more than this other figure of the same run.
    AtMostMore(f64, Metric),
    /// Against the trial of that name it grows no faster than that of another does.
    GrowsAtMostAs(&'static str, Contender),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Target {
    /// The trial.
    pub trial: &'static str,
    /// The figure.
    pub metric: Metric,
    /// What it says, for a person.
    pub what: &'static str,
    /// All must hold.
    pub aims: &'static [Aim],
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Met,
    /// No.
    Missed,
    /// What it is compared with is not there.
    Unknown,
}

/// Everything that was measured: medians by trial and server.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order in which they were measured.
    pub runs: Vec<(&'static str, Contender, Run)>,
    /// Who should have taken part and is not installed.
    pub absent: Vec<Contender>,
    /// Who failed, at which trial.
    pub failed: Vec<(&'static str, Failed)>,
    /// Whether all of it was measured.
    pub end: End,
    /// The 99th of a hundred flushes of the disk, in us.
    pub flush_us: f64,
}

const EVERYBODY: &[Contender] = &[Mms, Relay, Answering, Redis, Nats, Inspircd, Ngircd, Mosquitto];
/// Those who let in thousands at once.
const CROWDED: &[Contender] = &[Mms, Relay, Answering, Redis, Nats, Mosquitto];
const FEW: &[Contender] = &[Mms, Relay, Answering, Redis, Nats];

/// The trials, in the order in which they are measured.
#[must_use]
pub fn trials(scope: Scope) -> Vec<Trial> {
    let full = scope == Scope::Full;
    let all = if full { EVERYBODY } else { FEW };
    let crowded = if full { CROWDED } else { FEW };
    let crowd = if full { 9000 } else { 2000 };
    let count = |full_count, quick| if full { full_count } else { quick };
    let pairs = |users, window| Setup::new(Work::Pairs { window }, users);
    let rate = Setup::new(Work::Rate { per_second: 20_000 }, 200);
    let offline = |window| Setup::new(Work::Offline { window }, 2);
    let always = |setup| Setup { sync: Sync::Always, ..setup };
    let sign_ins = |count| Setup::new(Work::SignIns { count }, count + 2);
    let by_password = Setup { sign_in: SignIn::Password, ..sign_ins(count(2000, 400)) };
    let letters = count(10_000_000, 1_000_000);
    let trial = |name, of, setup| Trial { name, setup, of };
    vec![
        trial("pairs", all, pairs(100, 16)),
        trial("pairs, synced", &[Mms, Relay, Answering, Redis], always(pairs(100, 16))),
        trial("pairs, window 2", all, pairs(100, 2)),
        trial("pairs of 1,000", crowded, pairs(1000, 16)),
        trial("pairs of a crowd", crowded, pairs(crowd, 2)),
        trial("fan-out", all, Setup::new(Work::FanOut { window: 4 }, 1000)),
        trial("rate", all, rate.clone()),
        trial("rate, synced", &[Mms, Relay, Answering], always(rate)),
        trial("idle", crowded, Setup::new(Work::Idle { ms: 1000 }, crowd)),
        trial("sign-ins", crowded, sign_ins(count(4000, 1000))),
        trial("sign-ins by password", &[Mms], by_password),
        trial("away, window 1", &[Mms, Redis], offline(1)),
        trial("away, window 16", &[Mms, Redis], offline(16)),
        trial("away, window 256", &[Mms, Redis], offline(256)),
        trial("replay", &[Mms], Setup::new(Work::Replay { letters }, 2)),
        trial("backlog", &[Mms], Setup::new(Work::Backlog { letters: 100_000 }, 2)),
    ]
}

const fn target(
    trial: &'static str,
    metric: Metric,
    what: &'static str,
    aims: &'static [Aim],
) -> Target {
    Target { trial, metric, what, aims }
}

/// The rows.
pub const TARGETS: [Target; 18] = [
    target(
        "pairs",
        Metric::Cpu,
        "100 users, 16 texts under way a pair: CPU us a text",
        &[Aim::AtMostTimes(1.7, Relay), Aim::AtMostTimes(1.0, Nats), Aim::AtMostTimes(1.0, Redis)],
    ),
    target(
        "pairs, synced",
        Metric::Cpu,
        "the same, flushed to the disk by mms and relay-ok: CPU us a text",
        &[Aim::AtMostTimes(2.2, Relay)],
    ),
    target(
        "pairs, synced",
        Metric::PerSecond,
        "the same: texts/s",
        &[Aim::AtLeastTimes(1.0, Redis)],
    ),
    target(
        "pairs, window 2",
        Metric::PerSecond,
        "100 users, 2 texts under way a pair: texts/s",
        &[Aim::AtLeastTimes(0.9, Relay)],
    ),
    target(
        "pairs of 1,000",
        Metric::Cpu,
        "1,000 users, 16 texts under way a pair: CPU us a text",
        &[Aim::GrowsAtMostAs("pairs", Relay)],
    ),
    target(
        "pairs of a crowd",
        Metric::Cpu,
        "a crowd of users, 2 texts under way a pair: CPU us a text",
        &[Aim::GrowsAtMostAs("pairs, window 2", Relay)],
    ),
    target(
        "fan-out",
        Metric::Cpu,
        "one to 1,000, 4 texts under way: CPU us a copy",
        &[Aim::AtMostTimes(0.85, Relay), Aim::AtMostTimes(1.0, Redis)],
    ),
    target(
        "rate",
        Metric::P99,
        "20,000 texts/s of 200 users: p99 in us",
        &[Aim::AtMostTimes(1.2, Relay)],
    ),
    target(
        "rate, synced",
        Metric::P99,
        "the same, flushed to the disk by mms and relay-ok: p99 in us",
        &[Aim::AtMostTimesAndFlush(1.2, Relay)],
    ),
    target("idle", Metric::Bytes, "memory of an idle connection in bytes", &[Aim::AtMost(512.0)]),
    target(
        "sign-ins",
        Metric::SignInCpu,
        "sign-in by SCRAM: CPU us (others check no password)",
        &[Aim::AtMost(40.0)],
    ),
    target(
        "sign-ins by password",
        Metric::OthersMost,
        "sign-ins by password: the longest that others wait meanwhile, in us",
        &[Aim::AtMostMore(1000.0, Metric::AloneMost)],
    ),
    target(
        "away, window 1",
        Metric::PerSecond,
        "flushed for who is away, 1 text under way: texts/s",
        &[Aim::AtLeastTimes(1.0, Redis)],
    ),
    target(
        "away, window 16",
        Metric::PerSecond,
        "the same with 16",
        &[Aim::AtLeastTimes(1.2, Redis)],
    ),
    target(
        "away, window 256",
        Metric::PerSecond,
        "the same with 256",
        &[Aim::AtLeastTimes(1.5, Redis)],
    ),
    target(
        "replay",
        Metric::PerSecond,
        "start after a crash: letters read back a second",
        &[Aim::AtLeast(1_000_000.0)],
    ),
    target(
        "backlog",
        Metric::PerSecond,
        "sign-in with 100,000 letters waiting: letters/s",
        &[Aim::AtLeast(500_000.0)],
    ),
    target(
        "backlog",
        Metric::OthersP99,
        "the same: p99 of others meanwhile, in us",
        &[Aim::AtMost(5000.0)],
    ),
];

impl Results {
    /// Takes in what a trial came to, of those who did all their runs: what others came to is not
    /// to be judged.
    pub fn add(&mut self, trial: &'static str, turns: Turns) {
        let whole = turns.medians.into_iter().filter(|(_, run)| run.runs == turns.runs);
        self.runs.extend(whole.map(|(who, run)| (trial, who, run)));
        self.failed.extend(turns.failed.into_iter().map(|failed| (trial, failed)));
        self.end = turns.end;
    }

    /// Whether nothing was measured, and nobody failed at it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.failed.is_empty()
    }

    /// A figure of a trial.
    #[must_use]
    pub fn figure(&self, trial: &str, who: Contender, metric: Metric) -> Option<f64> {
        let mut runs = self.runs.iter();
        let (.., run) = runs.find(|(name, one, _)| *name == trial && *one == who)?;
        run.figure(metric)
    }

    fn judge_aim(&self, target: &Target, aim: Aim, whose: Contender) -> Option<bool> {
        let of = |trial, who| self.figure(trial, who, target.metric);
        let ours = of(target.trial, whose)?;
        Some(match aim {
            Aim::AtMostTimes(times, who) => ours <= times * of(target.trial, who)?,
            Aim::AtMostTimesAndFlush(times, who) => {
                ours <= times * of(target.trial, who)? + self.flush_us
            }
            Aim::AtLeastTimes(times, who) => ours >= times * of(target.trial, who)?,
            Aim::AtMost(most) => ours <= most,
            Aim::AtLeast(least) => ours >= least,
            Aim::AtMostMore(more, metric) => {
                ours <= more + self.figure(target.trial, whose, metric)?
            }
            Aim::GrowsAtMostAs(base, who) => {
                ours / of(base, whose)? <= of(target.trial, who)? / of(base, who)?
            }
        })
    }

    /// Whether the target is reached. A condition that is missed decides; one that nobody can judge
    /// only where all the others are met.
    #[must_use]
    pub fn judge(&self, target: &Target) -> Verdict {
        let verdicts = target.aims.iter().map(|aim| self.judge_aim(target, *aim, Mms));
        verdicts.fold(Verdict::Met, |so_far, one| match (so_far, one) {
            (Verdict::Missed, _) | (_, Some(false)) => Verdict::Missed,
            (Verdict::Unknown, _) | (_, None) => Verdict::Unknown,
            (Verdict::Met, Some(true)) => Verdict::Met,
        })
    }

    /// Whether MMS misses nothing here that this other one reaches: each condition that MMS misses,
    /// it misses as well. Of the relay that answers, whose answers alone cost that, it excuses MMS.
    #[must_use]
    pub fn misses_as_much(&self, target: &Target, whose: Contender) -> bool {
        let misses = |aim: &&Aim, whose| self.judge_aim(target, **aim, whose) == Some(false);
        target.aims.iter().filter(|aim| misses(aim, Mms)).all(|aim| misses(&aim, whose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(figures: &[(&'static str, Contender, Metric, f64)]) -> Results {
        let runs = figures
            .iter()
            .map(|(name, who, metric, value)| (*name, *who, Run::of(*metric, *value)));
        Results { runs: runs.collect(), flush_us: 50.0, ..Results::default() }
    }

    fn verdict(trial: &str, metric: Metric, results: &Results) -> Verdict {
        let target = TARGETS.iter().find(|one| one.trial == trial && one.metric == metric);
        results.judge(target.unwrap())
    }

    #[test]
    fn a_target_is_met_or_missed_or_not_known() {
        let cpu = Metric::Cpu;
        let mut all = vec![("pairs", Mms, cpu, 0.5), ("pairs", Relay, cpu, 0.3)];
        assert_eq!(verdict("pairs", cpu, &results(&all)), Verdict::Unknown, "no nats, no redis");
        all.extend([("pairs", Nats, cpu, 0.6), ("pairs", Redis, cpu, 0.9)]);
        assert_eq!(verdict("pairs", cpu, &results(&all)), Verdict::Met);
        all[0].3 = 0.52;
        assert_eq!(verdict("pairs", cpu, &results(&all)), Verdict::Missed, "1.73 x relay");
        all[0].3 = 0.5;
        all[2].3 = 0.4;
        assert_eq!(verdict("pairs", cpu, &results(&all)), Verdict::Missed, "nats is cheaper");
        all.truncate(1);
        assert_eq!(verdict("pairs", cpu, &results(&all)), Verdict::Unknown);
    }

    #[test]
    fn a_trial_that_ended_early_is_not_judged_by_the_runs_that_there_were() {
        let run = |runs| Run { runs, ..Run::default() };
        let medians = vec![(Mms, run(2)), (Relay, run(3))];
        let mut results = Results::default();
        results.add("pairs", Turns { medians, runs: 3, end: End::OursFailed, ..Turns::default() });
        let who: Vec<Contender> = results.runs.iter().map(|(_, who, _)| *who).collect();
        assert_eq!((who.as_slice(), results.end), (&[Relay][..], End::OursFailed));
    }

    #[test]
    fn growth_is_compared_with_growth() {
        let cpu = Metric::Cpu;
        let mut all = vec![
            ("pairs", Mms, cpu, 1.0),
            ("pairs", Relay, cpu, 0.5),
            ("pairs of 1,000", Mms, cpu, 1.2),
            ("pairs of 1,000", Relay, cpu, 0.6),
        ];
        assert_eq!(verdict("pairs of 1,000", cpu, &results(&all)), Verdict::Met);
        all[2].3 = 1.21;
        assert_eq!(verdict("pairs of 1,000", cpu, &results(&all)), Verdict::Missed);
    }

    #[test]
    fn others_are_judged_as_strictly() {
        let cpu = Metric::Cpu;
        let all = [
            ("pairs of 1,000", Mms, cpu, 1.3),
            ("pairs of 1,000", Answering, cpu, 0.8),
            ("pairs of 1,000", Relay, cpu, 0.6),
            ("pairs", Mms, cpu, 1.0),
            ("pairs", Answering, cpu, 0.6),
            ("pairs", Relay, cpu, 0.5),
        ];
        let target = TARGETS.iter().find(|one| one.trial == "pairs of 1,000").unwrap();
        let all = results(&all);
        assert!(all.misses_as_much(target, Answering));
        assert!(!all.misses_as_much(target, Relay));
        assert!(!all.misses_as_much(target, Nats), "it was not measured");
    }

    #[test]
    fn a_flush_is_allowed_where_texts_are_flushed() {
        let p99 = Metric::P99;
        let mut all = vec![("rate, synced", Mms, p99, 170.0), ("rate, synced", Relay, p99, 100.0)];
        assert_eq!(verdict("rate, synced", p99, &results(&all)), Verdict::Met);
        all[0].3 = 171.0;
        assert_eq!(verdict("rate, synced", p99, &results(&all)), Verdict::Missed);
    }

    #[test]
    fn each_row_has_its_trial_and_each_trial_whom_it_is_compared_with() {
        for trials in [trials(Scope::Full), trials(Scope::Quick)] {
            for target in &TARGETS {
                let trial = trials.iter().find(|one| one.name == target.trial).unwrap();
                for aim in target.aims {
                    let (Aim::AtMostTimes(_, who)
                    | Aim::AtMostTimesAndFlush(_, who)
                    | Aim::AtLeastTimes(_, who)
                    | Aim::GrowsAtMostAs(_, who)) = aim
                    else {
                        continue;
                    };
                    assert!(trial.of.contains(who), "{}", target.what);
                    assert!(who.knows(&trial.setup.work), "{}", target.what);
                }
            }
        }
    }
}
