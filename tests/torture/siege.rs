//! A siege: people who write to each other, in the midst of everything that strangers, and users
//! who mean harm, can do at once. What is looked at is how long a letter takes, compared with
//! quiet times in between, and whether the server grows.

use crate::campaign::{Skip, Tally};
use crate::enemies::{ENEMIES, Phase, War};
use crate::support::server::{Client, Folder, PASSWORD, SALT, Server, Start, users_file};
use mms::core::password::Verifier;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// People who write, and as many who read.
const PAIRS: usize = 6;
/// Between two letters of one of them.
const PACE: Duration = Duration::from_millis(125);
/// So few descriptors that they can be used up: 400 connections.
const DESCRIPTORS: u32 = 464;
/// What a letter may take under siege, in parts of what it takes in quiet.
const TIMES: f64 = 2.0;
/// By how much memory may differ, in KiB: what an allocator keeps or gives back.
const SLACK_KIB: u64 = 3 << 10;

/// A letter's way: when it was sent, and how long until its sender and its reader knew.
type Way = (Instant, Duration);

/// One after the other: the time, and what it was.
struct Times {
    begin: Instant,
    phases: Vec<(Instant, Phase)>,
}

impl Times {
    /// In which stretch of time a moment lies, if it is not too near to its beginning, where the
    /// one before it is felt still.
    fn stretch(&self, moment: Instant) -> Option<usize> {
        let at = self.phases.iter().rposition(|(since, _)| *since <= moment)?;
        (moment - self.phases[at].0 > Duration::from_secs(1)).then_some(at)
    }
}

/// What the server takes, now and then.
struct Sample {
    at: Duration,
    memory_kib: u64,
    descriptors: usize,
}

/// People who write to each other while they are besieged, for so many seconds.
pub fn siege(seconds: usize, tally: &mut Tally) -> Result<(), Skip> {
    let server = fortress();
    let apart = part_cores(&server);
    let war = War::new(server.address);
    let whole = Duration::from_secs(seconds as u64);
    // An hour is a row of minutes, of which the last sixth is quiet.
    let (period, quiet) = if seconds >= 600 { (60, 10) } else { (15, 5) };
    let mut times = Times { begin: Instant::now(), phases: vec![] };
    let (mut samples, mut ways, mut comings) = (vec![], vec![], vec![]);
    let idle = server.descriptors();
    std::thread::scope(|scope| {
        let pairs: Vec<_> = (0..PAIRS)
            .map(|n| [write_and_read(&server, n, 'a'), write_and_read(&server, n, 'b')])
            .collect();
        let war = &war;
        let writing: Vec<_> = pairs
            .into_iter()
            .enumerate()
            .map(|(n, [a, b])| scope.spawn(move || exchange(war, n, a, b)))
            .collect();
        let coming = scope.spawn(|| come_and_go(&server, war));
        let fighting: Vec<_> =
            ENEMIES.iter().map(|enemy| scope.spawn(move || enemy(war))).collect();
        let mut next = Duration::ZERO;
        while times.begin.elapsed() < whole {
            let at = times.begin.elapsed();
            let besieged = at.as_secs() % period >= quiet;
            let phase = if besieged { Phase::Siege } else { Phase::Quiet };
            if times.phases.last().is_none_or(|(_, last)| *last != phase) {
                times.phases.push((Instant::now(), phase));
                war.enter(phase);
            }
            if at >= next {
                next += Duration::from_secs(5);
                samples.push(sample(&server, at));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        war.enter(Phase::Over);
        for (n, thread) in writing.into_iter().enumerate() {
            match thread.join() {
                Ok(pair) => pair.told(n, tally, &mut ways),
                Err(_) => tally.unexpected(format!("pair {n} was given up")),
            }
        }
        match coming.join() {
            Ok(took) => comings = took,
            Err(_) => tally.unexpected("who comes and goes was given up"),
        }
        for enemy in fighting {
            tally.holds(enemy.join().is_ok(), || "an enemy has lost his head".into());
        }
    });
    tally.cycles = times.phases.iter().filter(|(_, phase)| *phase == Phase::Siege).count();
    judge_latency(&times, &ways, tally);
    judge_growth(&server, whole, &samples, idle, tally);
    comings.sort();
    let p99 = comings.get(comings.len() * 99 / 100).map_or(0, Duration::as_millis);
    tally.notes.push(format!("{} sign-ins, p99 {p99} ms", comings.len()));
    let percent = server.cpu_ticks() as f64 / times.begin.elapsed().as_secs_f64();
    tally.notes.push(format!("{percent:.0} % of a core for the server"));
    tally.notes.push(format!("server and clients {apart}"));
    tally.notes.push(war.told());
    judge_bites(&server, seconds, tally);
    Ok(())
}

/// Gives the server a core and all others another, as if they came from other machines: who waits
/// for a core that the server has tells nothing of the server. Told is whether it was possible.
fn part_cores(server: &Server) -> &'static str {
    let moved = |core: &str, pid: u32| {
        let mut command = Command::new("taskset");
        command.args(["--all-tasks", "--cpu-list", "--pid", core, &pid.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    match moved("1", server.pid()) && moved("0", std::process::id()) {
        true => "cores of their own",
        false => "on the same cores (no taskset, or one core)",
    }
}

/// A server that trusts nobody, with few descriptors and small mailboxes, which are full soon.
fn fortress() -> Server {
    let names = (0..PAIRS).flat_map(|n| [format!("a{n}"), format!("b{n}")]);
    let others = (0..16).map(|n| format!("enemy{n}")).chain(["comer".into()]);
    let names: Vec<String> = names.chain(others).collect();
    // Whom they guess at costs as much as a new user does.
    let costly = Verifier::derive(PASSWORD.as_bytes(), SALT, mms::limits::ROUNDS_DEFAULT);
    let folder = Folder::new();
    folder.write("users", &format!("{}victim:{costly}\n", users_file(&names)));
    // The honest readers only listen, for an hour.
    let options = ["--trusted", "none", "--mailbox-letters", "1000", "--idle-timeout", "0"];
    let options = options.iter().map(ToString::to_string).collect();
    Server::start_as(folder, Start { options, descriptors: Some(DESCRIPTORS), ..Start::default() })
}

/// Signs somebody in, from an address of his own.
fn write_and_read(server: &Server, n: usize, side: char) -> Client {
    let from = Ipv4Addr::new(127, 250, side as u8, n as u8);
    let mut client = server.connect_from(from);
    client.expect("signin");
    client.sign_in(&format!("{side}{n}"), PASSWORD);
    client
}

/// What a pair has seen.
#[derive(Default)]
struct Pair {
    ways: Vec<Way>,
    confirmed: usize,
    delivered: usize,
    faults: Vec<String>,
}

impl Pair {
    fn told(self, n: usize, tally: &mut Tally, ways: &mut Vec<Way>) {
        tally.confirmed += self.confirmed;
        tally.delivered += self.delivered;
        for fault in self.faults {
            tally.unexpected(format!("pair {n}: {fault}"));
        }
        for _ in self.delivered..self.confirmed {
            tally.faults.lost.push(format!("a letter of pair {n}"));
        }
        ways.extend(self.ways);
    }
}

/// The next line that is no noise of the enemies.
fn honest_line(client: &mut Client) -> Option<String> {
    std::iter::from_fn(|| client.next_line()).find(|line| !line.starts_with(">> enemy"))
}

/// One writes and the other reads, until the war is over.
fn exchange(war: &War, n: usize, mut a: Client, mut b: Client) -> Pair {
    let mut pair = Pair::default();
    let mut next = Instant::now() + PACE * n as u32 / PAIRS as u32;
    for number in 0.. {
        if war.phase() == Phase::Over {
            break;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = (next + PACE).max(Instant::now());
        let begin = Instant::now();
        a.say(&format!("send b{n} letter {number}"));
        match honest_line(&mut a) {
            Some(line) if line == format!(">> message sent to b{n}") => pair.confirmed += 1,
            other => pair.faults.push(format!("{other:?} for letter {number}")),
        }
        // In order, each once: another line is one that is lost or comes twice.
        match honest_line(&mut b) {
            Some(line) if line == format!(">> a{n}: letter {number}") => pair.delivered += 1,
            other => pair.faults.push(format!("{other:?} instead of letter {number}")),
        }
        pair.ways.push((begin, begin.elapsed()));
        // A sign of life, by which what was read is settled.
        b.send(b"\n");
        if pair.faults.len() > 9 {
            break;
        }
    }
    pair
}

/// Somebody who signs in and off, again and again; how long it took where he was let in.
fn come_and_go(server: &Server, war: &War) -> Vec<Duration> {
    let mut took = vec![];
    while war.phase() != Phase::Over {
        std::thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        let mut comer = server.connect_from(Ipv4Addr::new(127, 250, 1, 1));
        match comer.next_line().as_deref() {
            Some(">> Welcome to MMS.") => {
                comer.send(format!("signin comer {PASSWORD}\nsignout\n").as_bytes());
                comer.expect("Welcome comer");
                took.push(begin.elapsed());
                comer.expect("Thank you");
            }
            Some(
                ">> MMS is busy with newcomers, try again later"
                | ">> MMS is full, try again later",
            ) => {}
            other => panic!("{other:?}"),
        }
    }
    took
}

fn sample(server: &Server, at: Duration) -> Sample {
    let (memory_kib, descriptors) = (server.memory_kib(), server.descriptors());
    println!("{:5} s: {memory_kib} KiB, {descriptors} descriptors", at.as_secs());
    Sample { at, memory_kib, descriptors }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

/// A letter takes no more than twice as long under siege. Compared are the medians of the p99 of
/// all stretches of either kind, which took turns: what else the machine does meets both.
fn judge_latency(times: &Times, ways: &[Way], tally: &mut Tally) {
    let mut stretches = vec![vec![]; times.phases.len()];
    for (sent, took) in ways {
        if let Some(at) = times.stretch(*sent) {
            stretches[at].push(*took);
        }
    }
    let (mut quiet, mut siege) = (vec![], vec![]);
    let mut pooled = [vec![], vec![]];
    for (mut stretch, (since, phase)) in stretches.into_iter().zip(&times.phases) {
        stretch.sort();
        let (p50, p99) = (percentile(&stretch, 50), percentile(&stretch, 99));
        let at = (*since - times.begin).as_secs();
        println!("{at:5} s: {phase:?}, {} letters, p50 {p50:?}, p99 {p99:?}", stretch.len());
        let kind = if *phase == Phase::Siege { &mut siege } else { &mut quiet };
        kind.push(p99);
        pooled[usize::from(*phase == Phase::Siege)].extend(stretch);
    }
    quiet.sort();
    siege.sort();
    pooled.iter_mut().for_each(|all| all.sort());
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let [calm, harsh] = [ms(percentile(&quiet, 50)), ms(percentile(&siege, 50))];
    tally.holds(harsh <= TIMES * calm, || format!("p99 {harsh:.1} ms, in quiet {calm:.1} ms"));
    tally.notes.push(format!("p99 of a letter {harsh:.1} ms under siege, {calm:.1} ms in quiet"));
    let [calm, harsh] =
        pooled.map(|all| [50, 99].map(|percent| format!("{:.1}", ms(percentile(&all, percent)))));
    tally.notes.push(format!(
        "all letters together: p50/p99 {} ms under siege, {} ms in quiet",
        harsh.join("/"),
        calm.join("/")
    ));
}

/// What of the log tells that a limit bit, and what is behind it after how many seconds.
const BITES: [(&str, usize); 11] = [
    ("many have not signed in", 20),
    ("as many are open as may be", 20),
    ("its network has a penalty", 20),
    ("too many failed attempts", 20),
    ("[security] other-protocol", 20),
    ("[security] sign-in-blocked", 20),
    ("mailbox full", 60),
    ("closed by the peer", 20),
    ("too many new ones of its network", 600),
    ("took no output", 600),
    ("no sign-in in time", 600),
];

/// A siege that meets no defence proves none.
fn judge_bites(server: &Server, seconds: usize, tally: &mut Tally) {
    let log = server.log();
    let mut told = vec![];
    for (what, after) in BITES {
        let lines = log.lines().filter(|line| line.contains(what));
        let number = |line: &str| {
            let count = line.rsplit_once(", the last of ").map(|(_, count)| count);
            let count = count.and_then(|count| count.strip_suffix(" more"));
            count.map_or(1, |count| count.parse().unwrap_or(1))
        };
        let bites: usize = lines.map(number).sum();
        tally.holds(bites > 0 || seconds < after, || format!("nobody met: {what}"));
        told.push(format!("{what}: {bites}"));
    }
    println!("{}; {} lines of the log", told.join("; "), log.lines().count());
    let strange = log.lines().find(|line| line.contains("[ERROR]") || line.contains("panic"));
    tally.holds(strange.is_none(), || format!("the log: {strange:?}"));
}

/// Files of the journal that a server keeps open to read from, at most.
const READ_HANDLES: usize = 4;

/// Memory is at the end what it was after a quarter, and no connection stays behind.
fn judge_growth(
    server: &Server,
    whole: Duration,
    samples: &[Sample],
    idle: usize,
    tally: &mut Tally,
) {
    let most = |from: Duration, to: Duration| {
        let within = samples.iter().filter(|sample| from <= sample.at && sample.at < to);
        within.map(|sample| sample.memory_kib).max().unwrap_or(0)
    };
    let before = most(whole / 4, whole / 2);
    let after = most(whole * 3 / 4, whole);
    tally.holds(after <= before + SLACK_KIB, || {
        format!("{after} KiB in the last quarter, {before} KiB in the second")
    });
    let descriptors = samples.iter().map(|sample| sample.descriptors).max().unwrap_or(0);
    let start = Instant::now();
    let idle = idle + READ_HANDLES;
    let mut left = server.descriptors();
    while left > idle && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
        left = server.descriptors();
    }
    tally.holds(left <= idle, || {
        format!("{left} descriptors at the end, {idle} are an idle server's at most")
    });
    tally.notes.push(format!(
        "memory {before} KiB at most in the second quarter, {after} KiB in the last; descriptors \
         {descriptors} at most, {left} after"
    ));
}
