//! A server that the bench has started, in a folder of its own. Both go with the value.

use super::clock::{Stopwatch, pause};
use super::contender::Contender;
use super::machine::Machine;
use super::trouble::Trouble;
use super::work::Setup;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// After so long a program that listens nowhere has failed, in nanoseconds.
const PATIENCE_NS: u64 = 15_000_000_000;
/// How long a process takes to end once its connections have, at most, in nanoseconds.
const LAST_BREATH_NS: u64 = 1_000_000_000;

/// A folder for a server's files.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, Trouble> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mms-bench-{}-{next}", std::process::id());
        // The server works in it, so that a name that counts from here would lead it elsewhere. One
        // that is set and empty is none.
        let place = Some(std::env::temp_dir()).filter(|place| !place.as_os_str().is_empty());
        let path = std::path::absolute(place.unwrap_or_else(|| "/tmp".into()))
            .map_err(Trouble::of("no folder for temporary files"))?
            .join(name);
        // Some servers change to a user of their own, and read their configuration then.
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&path)
            .map_err(Trouble::of(format!("cannot make {}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) who: Contender,
    pub(super) address: SocketAddr,
    child: Child,
}

impl Started {
    /// Starts it on the server's processor and waits until it listens.
    pub(super) fn start(
        who: Contender,
        folder: &Folder,
        setup: &Setup,
        machine: &Machine,
    ) -> Result<Self, Trouble> {
        let program = who.find_program().ok_or(Trouble::Absent(who))?;
        let cannot = || format!("cannot start {}", who.name());
        let free = free_address().map_err(Trouble::of("no free port"))?;
        let start =
            who.prepare(program, folder.path(), free, setup).map_err(Trouble::of(cannot()))?;
        let told = fs::File::create(folder.path().join("told")).map_err(Trouble::of(cannot()))?;
        let mut command = Command::new(&start.program);
        command.args(&start.arguments).current_dir(folder.path()).stderr(told);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if !start.tells {
            command.stdout(Stdio::null());
        }
        machine.go_to_servers()?;
        let child = command.spawn();
        machine.go_to_load()?;
        let child = child.map_err(Trouble::of(cannot()))?;
        let mut started = Self { who, address: free, child };
        let is_up = if start.tells { started.listen_to() } else { started.knock(machine)? };
        if is_up { Ok(started) } else { Err(started.failed(folder)) }
    }

    /// Kills it and starts it again on the same folder.
    pub(super) fn restart(
        &mut self,
        folder: &Folder,
        setup: &Setup,
        machine: &Machine,
    ) -> Result<(), Trouble> {
        self.end();
        *self = Self::start(self.who, folder, setup, machine)?;
        Ok(())
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The same of one that seems to be about to: its connections end a little before it does.
    pub(super) fn ended_soon(&mut self) -> Option<ExitStatus> {
        let watch = Stopwatch::start();
        while watch.ns() < LAST_BREATH_NS {
            let ended = self.ended();
            if ended.is_some() {
                return ended;
            }
            pause(10);
        }
        None
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that ends with its address.
    fn listen_to(&mut self) -> bool {
        let Some(out) = self.child.stdout.take() else { return false };
        let mut line = String::new();
        _ = BufReader::new(out).read_line(&mut line);
        let address = line.trim_end().rsplit(' ').next().and_then(|word| word.parse().ok());
        self.address = address.unwrap_or(self.address);
        address.is_some()
    }

    /// Tries until it lets somebody in, or ends.
    fn knock(&mut self, machine: &Machine) -> Result<bool, Trouble> {
        let watch = Stopwatch::start();
        while watch.ns() < PATIENCE_NS {
            machine.interrupt.check()?;
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return Ok(false);
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(true);
            }
            pause(20);
        }
        Ok(false)
    }

    fn failed(&self, folder: &Folder) -> Trouble {
        let mut told = String::new();
        if let Ok(mut file) = fs::File::open(folder.path().join("told")) {
            _ = file.read_to_string(&mut told);
        }
        let last = told.lines().last().unwrap_or("it says nothing").to_owned();
        Trouble::Server(self.who, format!("does not start: {last}"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.end();
    }
}

/// An address that nobody listens at just now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
