//! What the bench asks of the machine: two processors, descriptors, what a process has used, and
//! whether somebody wants it to end.

use super::clock::Stopwatch;
use super::histogram::Histogram;
use super::started::Folder;
use super::trouble::Trouble;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flushes of the disk that are timed.
const FLUSHES: usize = 500;

/// Set by a signal that asks the bench to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on Ctrl-C and its like do not end the process at once, so that it can end those
    /// that it has started.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub fn listen() -> Result<Self, Trouble> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, interrupt.0.clone())
                .map_err(Trouble::of("cannot listen to signals"))?;
        }
        Ok(interrupt)
    }

    pub(super) fn check(&self) -> Result<(), Trouble> {
        if self.0.load(Ordering::Relaxed) { Err(Trouble::Interrupted) } else { Ok(()) }
    }
}

/// The machine, as far as the bench may use it.
#[derive(Debug)]
pub struct Machine {
    /// The processors of the server and of the load, where there are two.
    cores: Option<(usize, usize)>,
    /// Whether it is to end.
    pub interrupt: Interrupt,
}

impl Machine {
    /// Looks at what this process may use, and raises its limit on descriptors.
    ///
    /// # Errors
    /// If signals cannot be listened to.
    pub fn survey() -> Result<Self, Trouble> {
        let interrupt = Interrupt::listen()?;
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // Whoever needs more than there are is told by the one that is missing.
            _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let mut usable = (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true));
        let cores = usable.next().zip(usable.next());
        Ok(Self { cores, interrupt })
    }

    /// Processors of the server and of the load, if each has its own.
    #[must_use]
    pub fn cores(&self) -> Option<(usize, usize)> {
        self.cores
    }

    /// How long a flush of the disk takes below the folder for temporary files: what 99 of 100 do
    /// not exceed, in us.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn flush_us(&self) -> Result<f64, Trouble> {
        let folder = Folder::new()?;
        Ok(flush_ns(folder.path())? as f64 / 1e3)
    }

    /// Goes to the server's processor, so that who is started now begins there with all its
    /// threads.
    pub(super) fn go_to_servers(&self) -> Result<(), Trouble> {
        self.cores.map_or(Ok(()), |(server, _)| pin(server))
    }

    /// Goes to the load's processor.
    pub(super) fn go_to_load(&self) -> Result<(), Trouble> {
        self.cores.map_or(Ok(()), |(_, load)| pin(load))
    }
}

fn pin(core: usize) -> Result<(), Trouble> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| Trouble::Machine(format!("cannot go to processor {core}"), errno.into()))
}

/// CPU time that all threads of the process have used so far, in nanoseconds: of those that live,
/// to the nanosecond; in ticks of 10 ms where the kernel does not tell that.
pub(super) fn cpu_ns(pid: u32) -> Result<u64, Trouble> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(Trouble::of(format!("cannot see process {pid}")))?;
    let of_thread = |entry: fs::DirEntry| -> Option<u64> {
        let told = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        told.split_whitespace().next()?.parse().ok()
    };
    let exact: u64 = threads.flatten().filter_map(of_thread).sum();
    if exact > 0 {
        return Ok(exact);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let words = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(ticks * 10_000_000)
}

/// Resident memory in bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<u64, Trouble> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(Trouble::of(format!("cannot see process {pid}")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(kib << 10)
}

/// How long this disk takes to write a little behind the end of a file and to flush it: what 99 of
/// 100 times do not exceed, in nanoseconds.
pub(super) fn flush_ns(folder: &Path) -> Result<u64, Trouble> {
    let path = folder.join("flushed");
    let cannot = || format!("cannot write {}", path.display());
    let mut file = fs::File::create(&path).map_err(Trouble::of(cannot()))?;
    let (watch, mut took) = (Stopwatch::start(), Histogram::default());
    for _ in 0..FLUSHES {
        let begin = watch.ns();
        file.write_all(&[b'.'; 128]).map_err(Trouble::of(cannot()))?;
        file.sync_data().map_err(Trouble::of(cannot()))?;
        took.add(watch.ns() - begin);
    }
    Ok(took.permille_ns(990))
}
