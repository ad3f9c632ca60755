//! `mms bench`: options to measurements, and measurements to tables and JSON.

mod shown;
mod suite;

use self::shown::{json_lines, table};
use super::account::{put, tell};
use super::{Code, Failure};
use crate::bench::{
    Contender, Dialect, End, Failed, Machine, Setup, SignIn, Sync, Trouble, Until, Work, relay,
    take_turns,
};
use crate::limits::{BENCH_BYTES_UNDER_WAY, ROUNDS_LEAST};
use clap::{Args, Subcommand, ValueEnum};
use std::io::Write;
use std::path::PathBuf;

/// Measure how fast this server is on this machine, beside a bare relay and others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench                                   the main figures, in about 20 seconds
  mms bench pairs                             100 users, 16 texts under way for each pair
  mms bench pairs --users 9000 --window 2 --of mms,relay,redis,nats
  mms bench rate --per-second 20000           how long a text takes, as a histogram
  mms bench offline --window 256              stored for one who is away, each flushed to the disk
  mms bench backlog --letters 100000          somebody signs in for whom much waits
  mms bench pairs --runs 3 --json | jq .cpu_us_a_text

Each measurement starts a server of its own on a free port of 127.0.0.1 with a folder below TMPDIR,
and ends it. The server runs on the first processor, the load on the second. CPU is what the
server's process has used, which varies least: a flush that MMS leaves to the kernel is not in it,
one that redis or relay-ok waits for is. With --sync always MMS and relay-ok flush the texts, nobody
else does; offline MMS and redis do. The relay knows neither names nor passwords and keeps nothing:
it is what handing over bytes costs on this machine. The relay-ok is the same with an answer to each
text and a word from its reader for each 16th, as MMS has them, and with --sync always it flushes
texts to a file before they go out. Servers of others take part where they are installed:
redis-server, nats-server, inspircd, ngircd, mosquitto.

To MMS the load speaks the coded dialect, signs in by SCRAM and acknowledges each 16th letter.

A server of others that fails, because it ends, resets a connection or says nothing for 15 s, is
left out of what remains of that work and told as failed, with the reason, at once and beside the
figures; it has none then, for a median of fewer runs is not like the others'. If mms, relay or
relay-ok fail, or somebody interrupts, it ends there, and who had fewer runs is told with how many.
In each case what was measured by then is printed, and the exit code tells that something is
missing.

Exit codes: 64 the command line is wrong; 69 a server does not start or does not do its work; 74
the machine does not allow it; 130 interrupted.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    work: Option<Wanted>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    Pairs(Pairs),
    Fanout(FanOut),
    Rate(Rate),
    Offline(Offline),
    Idle(Idle),
    Signins(SignIns),
    Backlog(Backlog),
    Replay(Replay),
    Targets(suite::Targets),
    /// The bare relay
    #[command(hide = true)]
    Relay(Relay),
}

#[derive(Debug, Args)]
struct Relay {
    /// Write what is relayed to this file, and flush it, before it goes out
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

/// Half of the users write to the other half, each to a reader of his own
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench pairs
  mms bench pairs --users 1000 --window 16 --of all --runs 3
  mms bench pairs --sync always --secs 10")]
struct Pairs {
    /// Users who are signed in
    #[arg(long, default_value_t = 100, value_parser = users)]
    users: usize,
    /// Texts under way for each pair
    #[arg(long, default_value_t = 16, value_parser = window)]
    window: usize,
    #[command(flatten)]
    common: Common,
}

/// One writes to all the others
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench fanout
  mms bench fanout --users 100 --window 16 --of mms,relay,redis")]
struct FanOut {
    /// Users who are signed in
    #[arg(long, default_value_t = 1000, value_parser = users)]
    users: usize,
    /// Texts under way
    #[arg(long, default_value_t = 4, value_parser = window)]
    window: usize,
    #[command(flatten)]
    common: Common,
}

/// Texts at a rate that does not wait for the server: how long they take, as a histogram
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench rate
  mms bench rate --per-second 100000 --of mms --secs 10 --sync always")]
struct Rate {
    /// Users who are signed in
    #[arg(long, default_value_t = 200, value_parser = users)]
    users: usize,
    /// Texts a second, of all together
    #[arg(long, default_value_t = 20_000, value_parser = per_second)]
    per_second: u64,
    #[command(flatten)]
    common: Common,
}

/// Texts for somebody who is away: stored, flushed to the disk and confirmed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench offline
  mms bench offline --window 1 --texts 10000 --of mms,redis
  TMPDIR=/srv/fast mms bench offline          on the disk that /srv/fast is on")]
struct Offline {
    /// Texts not confirmed yet
    #[arg(long, default_value_t = 256, value_parser = window)]
    window: usize,
    #[command(flatten)]
    common: Common,
}

/// Connections that do nothing: the memory of each
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench idle
  mms bench idle --users 9000 --of all")]
struct Idle {
    /// Users who are signed in
    #[arg(long, default_value_t = 9000, value_parser = users)]
    users: usize,
    #[command(flatten)]
    common: Common,
}

/// Many sign in while two others write to each other
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench signins
  mms bench signins --by password --count 400 --rounds 600000
  mms bench signins --of all                  the others ask for no password here")]
struct SignIns {
    /// Users who sign in
    #[arg(long, default_value_t = 4000, value_parser = users)]
    count: usize,
    /// How they show MMS that they know their password
    #[arg(long, value_enum, default_value_t = By::Scram)]
    by: By,
    /// PBKDF2 rounds of the password
    #[arg(long, default_value_t = ROUNDS_LEAST, value_parser = rounds)]
    rounds: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Scram,
    Password,
}

/// Somebody signs in for whom much waits, while two others write to each other
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench backlog
  mms bench backlog --letters 1000000 --bytes 200")]
struct Backlog {
    /// Letters that wait
    #[arg(long, default_value_t = 100_000, value_parser = letters)]
    letters: usize,
    #[command(flatten)]
    common: Common,
}

/// The server is killed and started again while much waits
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms bench replay
  mms bench replay --letters 10000000         needs some 2 GiB below TMPDIR")]
struct Replay {
    /// Letters that wait
    #[arg(long, default_value_t = 1_000_000, value_parser = letters)]
    letters: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Who is measured: mms, relay, relay-ok, redis, nats, inspircd, ngircd, mosquitto, with commas
    /// between them; or all
    #[arg(long, value_name = "WHO,…", default_value = "mms,relay", value_parser = contenders)]
    of: Contenders,
    /// Measure each of them so many times, by turns; the median is told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = runs)]
    runs: usize,
    /// Seconds of each measurement
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    secs: f64,
    /// End after so many texts instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    texts: Option<u64>,
    /// Bytes of a text, at least 18
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = bytes)]
    bytes: usize,
    /// When MMS, relay-ok and, offline, redis count a text as stored: never waits for the disk, or
    /// always
    #[arg(long, value_enum)]
    sync: Option<OnSync>,
    /// How MMS is spoken to
    #[arg(long, value_enum, default_value_t = OnDialect::Coded)]
    dialect: OnDialect,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnSync {
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnDialect {
    Coded,
    Plain,
}

#[derive(Clone, Debug)]
struct Contenders(Vec<Contender>);

fn contenders(words: &str) -> Result<Contenders, String> {
    if words == "all" {
        return Ok(Contenders(Contender::ALL.into()));
    }
    let find = |word| Contender::find(word).ok_or_else(|| format!("{word:?} is none of them"));
    words.split(',').map(find).collect::<Result<_, _>>().map(Contenders)
}

fn number(word: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = word.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("a number from {least} to {most} is wanted"))
}

fn runs(word: &str) -> Result<usize, String> {
    number(word, 1, 1000)
}

fn per_second(word: &str) -> Result<u64, String> {
    number(word, 1, 10_000_000).map(|number| number as u64)
}

fn rounds(word: &str) -> Result<u32, String> {
    number(word, ROUNDS_LEAST as usize, 10_000_000).map(|number| number as u32)
}

fn users(word: &str) -> Result<usize, String> {
    number(word, 2, 50_000)
}

fn letters(word: &str) -> Result<usize, String> {
    number(word, 1, 20_000_000)
}

fn window(word: &str) -> Result<usize, String> {
    number(word, 1, 100_000)
}

fn bytes(word: &str) -> Result<usize, String> {
    number(word, 18, 2000)
}

fn seconds(word: &str) -> Result<f64, String> {
    let seconds = word.parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "seconds are wanted, 0.01 to 3600".into())
}

impl Common {
    fn setup(&self, work: Work, users: usize) -> Setup {
        let usual = Setup::new(work, users);
        Setup {
            bytes: self.bytes,
            until: self.texts.map_or(Until::Ns((self.secs * 1e9) as u64), Until::Texts),
            sync: match self.sync {
                Some(OnSync::Always) => Sync::Always,
                Some(OnSync::Never) => Sync::Never,
                None => usual.sync,
            },
            dialect: match self.dialect {
                OnDialect::Coded => Dialect::Coded,
                OnDialect::Plain => Dialect::Plain,
            },
            ..usual
        }
    }
}

impl Bench {
    /// Measures and prints.
    ///
    /// # Errors
    /// If there are no figures.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.work {
            None => suite::overview(self.json, out),
            Some(Wanted::Targets(targets)) => targets.run(out),
            Some(Wanted::Relay(Relay { journal })) => relay(out, journal.as_deref())
                .map_err(|error| Failure::new(Code::Io, format!("relay: {error}"))),
            Some(Wanted::Pairs(Pairs { users, window, common })) => {
                compare(common, Work::Pairs { window: *window }, *users, out)
            }
            Some(Wanted::Fanout(FanOut { users, window, common })) => {
                compare(common, Work::FanOut { window: *window }, *users, out)
            }
            Some(Wanted::Rate(Rate { users, per_second, common })) => {
                compare(common, Work::Rate { per_second: *per_second }, *users, out)
            }
            Some(Wanted::Offline(Offline { window, common })) => {
                compare(common, Work::Offline { window: *window }, 2, out)
            }
            Some(Wanted::Idle(Idle { users, common })) => {
                let ms = (common.secs * 1e3) as u64;
                compare(common, Work::Idle { ms }, *users, out)
            }
            Some(Wanted::Signins(SignIns { count, by, rounds, common })) => {
                let mut setup = common.setup(Work::SignIns { count: *count }, count + 2);
                setup.rounds = *rounds;
                setup.sign_in = match by {
                    By::Scram => SignIn::Scram,
                    By::Password => SignIn::Password,
                };
                compare_as(common, &setup, out)
            }
            Some(Wanted::Backlog(Backlog { letters, common })) => {
                compare(common, Work::Backlog { letters: *letters }, 2, out)
            }
            Some(Wanted::Replay(Replay { letters, common })) => {
                compare(common, Work::Replay { letters: *letters }, 2, out)
            }
        }
    }
}

fn compare(common: &Common, work: Work, users: usize, out: &mut dyn Write) -> Result<(), Failure> {
    compare_as(common, &common.setup(work, users), out)
}

/// What the machine has; whoever measures on one processor is told.
fn survey() -> Result<Machine, Failure> {
    let machine = Machine::survey().map_err(|trouble| failure(&trouble))?;
    if machine.cores().is_none() {
        tell("there is one processor: server and load share it");
    }
    Ok(machine)
}

/// Does the same work with each and prints what it came to.
fn compare_as(common: &Common, setup: &Setup, out: &mut dyn Write) -> Result<(), Failure> {
    if setup.bytes_under_way() > BENCH_BYTES_UNDER_WAY {
        let most = BENCH_BYTES_UNDER_WAY >> 20;
        let message = format!("so many users and texts under way are more than {most} MiB at once");
        return Err(Failure::new(Code::Usage, message));
    }
    let machine = survey()?;
    let turns = take_turns(&common.of.0, setup, common.runs, &machine, &mut tell);
    let text = match common.json {
        true => json_lines(setup, &turns),
        false => table(setup.work, &turns),
    };
    put(out, &text)?;
    outcome(&turns.failed.iter().collect::<Vec<_>>(), turns.end)?;
    if turns.medians.is_empty() {
        let message = "nobody of them can be measured here";
        return Err(Failure::new(Code::Unavailable, message));
    }
    Ok(())
}

/// What is to be told at the end of what was measured: nothing if nobody failed.
fn outcome(failed: &[&Failed], end: End) -> Result<(), Failure> {
    match (end, failed) {
        (End::Interrupted, _) => Err(failure(&Trouble::Interrupted)),
        (_, []) => Ok(()),
        (End::OursFailed, [.., last]) => Err(Failure::new(code(&last.why), last.to_string())),
        (End::AllDone, [first, ..]) => {
            let mut names: Vec<&str> = failed.iter().map(|one| one.who.name()).collect();
            names.sort_unstable();
            names.dedup();
            let names = names.join(", ");
            let message = format!("not all did their work; failed: {names}");
            Err(Failure::new(code(&first.why), message))
        }
    }
}

fn failure(trouble: &Trouble) -> Failure {
    Failure::new(code(trouble), trouble.to_string())
}

fn code(trouble: &Trouble) -> Code {
    match trouble {
        Trouble::Interrupted => Code::Interrupted,
        Trouble::Absent(_) | Trouble::Unfit(_) | Trouble::Server(..) => Code::Unavailable,
        Trouble::Machine(..) => Code::Io,
    }
}
