//! `mms server --check`: what a start with these options would find, as a list of checks. Nothing
//! is changed, made or locked, and a server may be running there.

use super::{Server, cannot_listen, cannot_open_spool, cannot_replay, connections};
use crate::cli::certificate::{self, Source};
use crate::cli::{Code, Failure};
use crate::digits::Count;
use crate::limits::{BODY_BYTES, DESCRIPTORS_KEPT, UNSIGNED_FULL};
use crate::net::{Clock, would_listen};
use crate::store::disk::{FileDisk, OpenError, would_open};
use crate::store::foresight::foresee;
use crate::store::users;
use nix::unistd::{AccessFlags, eaccess};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// What is told of one thing that a start needs.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It is as it should be.
    Good(String),
    /// A start goes on, and its operator should know.
    Note(String),
}

/// One thing that a start needs, or why it would end there: with that code, and those words.
type Check = fn(&Server) -> Result<Vec<Finding>, Failure>;

/// In the order in which a start comes to them, so that the first fault is the one it ends with.
const CHECKS: [(&str, Check); 8] = [
    ("users", users),
    ("port", port),
    ("tls", tls),
    ("spool", spool),
    ("log", log),
    ("journal", journal),
    ("limits", limits),
    ("options", options),
];

/// Tells all of it on `out`.
///
/// # Errors
/// The first thing that a start would fail at.
pub(super) fn all(server: &Server, out: &mut dyn Write) -> Result<(), Failure> {
    let mut first = None;
    for (name, check) in CHECKS {
        let (mut lines, mut told) = (String::new(), Vec::new());
        match check(server) {
            Ok(findings) => told = findings,
            Err(failure) => {
                lines = format!("FAULT {name}: {failure}\n");
                first = first.or(Some(failure));
            }
        }
        for finding in told {
            match finding {
                Finding::Good(text) => lines += &format!("ok    {name}: {text}\n"),
                Finding::Note(text) => lines += &format!("note  {name}: {text}\n"),
            }
        }
        let written = out.write_all(lines.as_bytes());
        written.map_err(|e| Failure::new(Code::Io, format!("standard output: {e}")))?;
    }
    match first {
        None => Ok(()),
        Some(failure) => {
            let message = format!("a start would fail: {failure}");
            Err(Failure { message, ..failure })
        }
    }
}

fn users(server: &Server) -> Result<Vec<Finding>, Failure> {
    let file = users::load(&server.users)?;
    let name = server.users.display();
    let mut found = vec![Finding::Good(format!("{} in {name}", file.entries.len()))];
    found.extend(file.warnings.into_iter().map(Finding::Note));
    if let Err(e) = may_write(parent(&server.users)) {
        found.push(Finding::Note(format!(
            "nobody can change his password with passwd: the directory of {name}: {e}"
        )));
    }
    Ok(found)
}

fn port(server: &Server) -> Result<Vec<Finding>, Failure> {
    Ok(vec![free(SocketAddr::new(server.bind, server.port), "--bind")?])
}

fn free(address: SocketAddr, option: &str) -> Result<Finding, Failure> {
    match would_listen(address) {
        Ok(()) => Ok(Finding::Good(format!("{address} can be had"))),
        Err(e) if e.kind() == ErrorKind::AddrInUse => Ok(Finding::Note(format!(
            "{address} is in use now; a start would end with 69 unless what uses it is stopped \
             first"
        ))),
        Err(e) => Err(cannot_listen(address, option, &e)),
    }
}

fn tls(server: &Server) -> Result<Vec<Finding>, Failure> {
    let Some(port) = server.tls else { return Ok(Vec::new()) };
    let door = free(SocketAddr::new(server.tls_bind, port), "--tls-bind")?;
    let own = server.spool.join(certificate::FILE);
    let source = match (&server.cert, &server.key) {
        (Some(chain), Some(key)) => Source { chain, key },
        _ if own.exists() => Source { chain: &own, key: &own },
        _ => {
            let text = format!("a certificate would be made: {}", own.display());
            return Ok(vec![door, Finding::Note(text)]);
        }
    };
    let certificate = certificate::read(&source)?;
    let text = format!("{}: {}", source.chain.display(), certificate::shown(&certificate));
    let now = Clock::start().now();
    let warning = certificate::warning(&certificate, source.chain, now.unix_ms);
    Ok([door, Finding::Good(text)].into_iter().chain(warning.map(Finding::Note)).collect())
}

fn spool(server: &Server) -> Result<Vec<Finding>, Failure> {
    let (dir, name) = (&server.spool, server.spool.display());
    match would_open(dir) {
        Err(OpenError::Missing(_)) => {
            let cannot = |e: io::Error| {
                OpenError::CannotCreate(format!("cannot make spool directory {name}: {e}"))
            };
            may_make(dir).map_err(|e| cannot_open_spool(cannot(e)))?;
            return Ok(vec![Finding::Note(format!("{name} is missing and would be made"))]);
        }
        opened => opened.map_err(cannot_open_spool)?,
    }
    let denied = |what: &Path, e: io::Error| {
        cannot_open_spool(OpenError::Permission(format!("{}: {e}", what.display())))
    };
    may_write(dir).map_err(|e| denied(dir, e))?;
    let lock = dir.join("lock");
    if lock.exists() {
        may_write(&lock).map_err(|e| denied(&lock, e))?;
    }
    if is_locked(&lock) {
        return Ok(vec![Finding::Note(format!(
            "a server is running on {name}; a start would end with 75 unless it is stopped first"
        ))]);
    }
    Ok(vec![Finding::Good(format!("{name} can be used"))])
}

fn log(server: &Server) -> Result<Vec<Finding>, Failure> {
    let (path, name) = (&server.log, server.log.display());
    let found = match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            may_write(parent(path)).map_err(|e| server.cannot_log(&e))?;
            return Ok(vec![Finding::Good(format!("{name} would be made"))]);
        }
        found => found.map_err(|e| server.cannot_log(&e))?,
    };
    if found.file_type().is_fifo() {
        let pipe = io::Error::new(ErrorKind::InvalidInput, "it is a pipe, not a file");
        return Err(server.cannot_log(&pipe));
    }
    OpenOptions::new().append(true).open(path).map_err(|e| server.cannot_log(&e))?;
    let mut told = vec![Finding::Good(format!("{name} can be written"))];
    if found.is_file() && found.permissions().mode() & 0o077 != 0 {
        told.push(Finding::Note(format!("{name} is open to others, and would be closed to them")));
    }
    Ok(told)
}

fn journal(server: &Server) -> Result<Vec<Finding>, Failure> {
    let mut disk = match FileDisk::open_read_only(&server.spool) {
        Ok(disk) => disk,
        // What is wrong with the directory was told before.
        Err(OpenError::Missing(_)) => return Ok(vec![Finding::Good("it would be begun".into())]),
        Err(e) => return Err(cannot_open_spool(e)),
    };
    let foreseen = foresee(&mut disk).map_err(|e| cannot_replay(&e))?;
    if server.strict && foreseen.lost_places > 0 {
        return Err(server.damaged(&foreseen));
    }
    let (letters, bytes) = (Count(foreseen.letters, "letter"), Count(foreseen.bytes, "byte"));
    let mut found = vec![Finding::Good(format!("{letters} in {bytes}"))];
    found.extend(foreseen.lines.iter().map(|line| Finding::Note(format!("would say: {line}"))));
    Ok(found)
}

fn limits(_: &Server) -> Result<Vec<Finding>, Failure> {
    let most = connections();
    let mut found = vec![Finding::Good(format!("{most} connections"))];
    if most <= UNSIGNED_FULL {
        let descriptors = most + DESCRIPTORS_KEPT;
        found.push(Finding::Note(format!(
            "strangers can take them all, for only {descriptors} descriptors may be open; raise \
             the hard limit (ulimit -n)"
        )));
    }
    Ok(found)
}

fn options(server: &Server) -> Result<Vec<Finding>, Failure> {
    let mut notes = Vec::new();
    let mut note = |holds: bool, text: &str| {
        if holds {
            notes.push(Finding::Note(text.into()));
        }
    };
    note(
        !server.bind.is_loopback(),
        "--bind: others can connect, and nothing is encrypted; across a network use a tunnel",
    );
    note(server.max_failures == 0, "--max-failures 0: passwords can be guessed without end");
    note(server.block_time == 0, "--block-time 0: a block is over as soon as it begins");
    note(server.mailbox_letters == 0, "--mailbox-letters 0: no message can be stored");
    note(
        server.mailbox_bytes < BODY_BYTES as u64,
        "--mailbox-bytes: not even one message of full length has room",
    );
    note(
        matches!(server.sync, super::OnSync::Never),
        "--sync never: a power cut loses messages that were confirmed",
    );
    note(server.spool_reserve == 0, "--spool-reserve 0: a full disk ends the server");
    if notes.is_empty() {
        notes.push(Finding::Good("they go together".into()));
    }
    Ok(notes)
}

/// The directory that a file of this name lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Whether we may change it; a directory also means that we can get into it.
fn may_write(path: &Path) -> io::Result<()> {
    let mut wanted = AccessFlags::W_OK;
    if fs::metadata(path)?.is_dir() {
        wanted |= AccessFlags::X_OK;
    }
    eaccess(path, wanted).map_err(io::Error::from)
}

/// Whether a directory of this name could be made, with those above it that are missing.
fn may_make(dir: &Path) -> io::Result<()> {
    let there = dir.ancestors().skip(1).find(|path| path.exists() || path.as_os_str().is_empty());
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !fs::metadata(there)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    may_write(there)
}

/// Whether somebody has the file locked. Trying the lock would keep a server from starting that
/// tries it at the same moment, so the kernel's list is read; without one nobody can tell.
fn is_locked(file: &Path) -> bool {
    let Ok(inode) = fs::metadata(file).map(|found| found.ino().to_string()) else { return false };
    let is_listed = || {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().any(|line| {
            let mut words = line.split_whitespace();
            let is_ours = words.nth(1) == Some("FLOCK");
            // What it is of stands there as device and inode.
            is_ours
                && words.any(|word| word.rsplit(':').next() == Some(&inode) && word.contains(':'))
        })
    };
    // A long list comes in pieces, and a lock that ends between two of them moves a line past us.
    (0..LOOKS_FOR_A_LOCK).any(|_| is_listed())
}

/// How often the list is read that another one's lock may be in.
const LOOKS_FOR_A_LOCK: usize = 5;
