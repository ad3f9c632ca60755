//! One measurement: a fresh server, its users, the work, and what it came to.

use super::contender::Contender;
use super::histogram::Histogram;
use super::load::Load;
use super::machine::{Machine, cpu_ns, resident_bytes};
use super::started::{Folder, Started};
use super::tongue::Tongue;
use super::trouble::Trouble;
use super::work::{Setup, Work};

/// What a figure says. Times are of the wall clock, CPU is that of the server's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Texts delivered, copies each, or confirmed where nobody reads them.
    Texts,
    /// The same a second.
    PerSecond,
    /// CPU of each, in us.
    Cpu,
    /// How much of the time the server was busy, in percent.
    Busy,
    /// What half of the texts did not exceed, in us.
    P50,
    /// 99 of 100.
    P99,
    /// 999 of 1000.
    P999,
    /// The slowest.
    Most,
    /// Texts that were sent and had not come 10 s after the end.
    Missing,
    /// Sign-ins from connection to welcome, a second.
    SignIns,
    /// CPU of each, in us.
    SignInCpu,
    /// Memory that a signed-in connection adds to the server, in bytes.
    Bytes,
    /// CPU while nothing happens, in ms a second.
    IdleCpu,
    /// What 99 of 100 texts of others took meanwhile, in us.
    OthersP99,
    /// The slowest of those.
    OthersMost,
    /// The same while they are alone.
    AloneP99,
    /// The slowest of those.
    AloneMost,
    /// MiB of the journal.
    Journal,
    /// Seconds that it took.
    Seconds,
}

impl Metric {
    /// Its name in JSON, unit last.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Texts => "texts",
            Self::PerSecond => "texts_per_s",
            Self::Cpu => "cpu_us_a_text",
            Self::Busy => "cpu_busy_percent",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::P999 => "p999_us",
            Self::Most => "max_us",
            Self::Missing => "missing",
            Self::SignIns => "signins_per_s",
            Self::SignInCpu => "cpu_us_a_signin",
            Self::Bytes => "bytes_a_connection",
            Self::IdleCpu => "idle_cpu_ms_per_s",
            Self::OthersP99 => "others_p99_us",
            Self::OthersMost => "others_max_us",
            Self::AloneP99 => "alone_p99_us",
            Self::AloneMost => "alone_max_us",
            Self::Journal => "journal_mib",
            Self::Seconds => "seconds",
        }
    }
}

/// What one measurement came to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Each metric at most once.
    pub figures: Vec<(Metric, f64)>,
    /// Of a median: of how many runs it is that.
    pub runs: usize,
    /// Of the texts that were delivered.
    pub latency: Histogram,
}

impl Run {
    /// One that came to this alone.
    #[cfg(test)]
    pub(super) fn of(metric: Metric, value: f64) -> Self {
        Self { figures: vec![(metric, value)], ..Self::default() }
    }

    /// A figure, if this work has it.
    #[must_use]
    pub fn figure(&self, metric: Metric) -> Option<f64> {
        self.figures.iter().find(|(which, _)| *which == metric).map(|(_, value)| *value)
    }

    /// Notes a figure, in the place of an earlier one.
    pub(super) fn set(&mut self, metric: Metric, value: f64) {
        self.figures.retain(|(which, _)| *which != metric);
        self.figures.push((metric, value));
    }

    /// The quantiles of a histogram.
    pub(super) fn set_latency(&mut self, latency: Histogram) {
        for (metric, permille) in [(Metric::P50, 500), (Metric::P99, 990), (Metric::P999, 999)] {
            self.set(metric, latency.permille_ns(permille) as f64 / 1e3);
        }
        self.set(Metric::Most, latency.most_ns() as f64 / 1e3);
        self.latency = latency;
    }

    /// Of several runs of the same work the median of each figure, and all latencies together.
    #[must_use]
    pub fn median(runs: &[Self]) -> Self {
        let mut median = Self { runs: runs.len(), ..Self::default() };
        for (metric, _) in runs.first().map_or(&[][..], |run| &run.figures) {
            let mut values: Vec<f64> = runs.iter().filter_map(|run| run.figure(*metric)).collect();
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            median.set(*metric, f64::midpoint(low, high));
        }
        runs.iter().for_each(|run| median.latency.merge(&run.latency));
        median
    }
}

/// A server with a load.
pub(super) struct Stage<'a> {
    pub(super) server: Started,
    pub(super) folder: Folder,
    pub(super) load: Load,
    pub(super) setup: &'a Setup,
    pub(super) machine: &'a Machine,
    pub(super) run: Run,
}

/// Starts the server, does the work and ends the server.
///
/// # Errors
/// If there are no figures.
pub(super) fn measure(who: Contender, setup: &Setup, machine: &Machine) -> Result<Run, Trouble> {
    if !who.knows(&setup.work) {
        return Err(Trouble::Unfit(who));
    }
    measure_what_it_knows(who, setup, machine).or_else(|trouble| {
        // Ctrl-C in a terminal goes to the servers as well: that they end is no fault of theirs.
        machine.interrupt.check()?;
        Err(trouble)
    })
}

fn measure_what_it_knows(who: Contender, setup: &Setup, machine: &Machine) -> Result<Run, Trouble> {
    let folder = Folder::new()?;
    let server = Started::start(who, &folder, setup, machine)?;
    let tongue = Tongue::of(who, setup);
    let load = Load::new(&server, tongue, setup.bytes, &machine.interrupt)?;
    let mut stage = Stage { server, folder, load, setup, machine, run: Run::default() };
    let outcome = stage.play();
    stage.conclude(outcome)
}

impl Stage<'_> {
    /// All of it.
    fn play(&mut self) -> Result<(), Trouble> {
        self.sign_in(self.setup.work.present(self.setup.users))?;
        match self.setup.work {
            Work::Pairs { window } => self.pairs(window),
            Work::FanOut { window } => self.fan_out(window),
            Work::Rate { per_second } => self.rate(per_second),
            Work::Offline { window } => self.offline(window),
            Work::Idle { ms } => self.idle(ms),
            Work::SignIns { count } => self.sign_ins(count),
            Work::Backlog { letters } => self.backlog(letters),
            Work::Replay { letters } => self.replay(letters),
        }
    }

    /// The figures, if the server has outlived its work: who idles does not notice that it has
    /// not. Of one that has ended it is told how, as well as what was seen of it.
    fn conclude(mut self, outcome: Result<(), Trouble>) -> Result<Run, Trouble> {
        let who = self.server.who;
        let ended = match outcome {
            // Whoever interrupts does not want to wait.
            Ok(()) | Err(Trouble::Interrupted) => self.server.ended(),
            Err(_) => self.server.ended_soon(),
        };
        match (outcome, ended) {
            (Ok(()), None) => Ok(self.run),
            (Ok(()), Some(status)) => Err(Trouble::Server(who, format!("it ended: {status}"))),
            (Err(trouble), None) => Err(trouble),
            (Err(Trouble::Interrupted), _) => Err(Trouble::Interrupted),
            (Err(trouble), Some(status)) => {
                let what = format!("{}; it ended: {status}", trouble.reason());
                Err(Trouble::Server(who, what))
            }
        }
    }

    /// Signs the users in and notes what that cost.
    fn sign_in(&mut self, users: usize) -> Result<(), Trouble> {
        let pid = self.server.pid();
        let (cpu, bytes) = (cpu_ns(pid)?, resident_bytes(pid)?);
        let begin = self.load.watch.ns();
        let at_once = self.load.tongue.sign_ins_at_once();
        self.load.sign_in(0..users, at_once, &mut |_| ())?;
        let ns = (self.load.watch.ns() - begin) as f64;
        let cpu = cpu_ns(pid)?.saturating_sub(cpu) as f64;
        let bytes = resident_bytes(pid)?.saturating_sub(bytes) as f64;
        let users = users as f64;
        self.run.set(Metric::SignIns, users * 1e9 / ns);
        self.run.set(Metric::SignInCpu, cpu / 1e3 / users);
        self.run.set(Metric::Bytes, bytes / users);
        Ok(())
    }
}
