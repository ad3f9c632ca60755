//! Servers that were met before, and the certificates by which they are known again. One file for
//! all, written as a whole or not at all; whoever changes it has it locked.
//!
//! ```text
//! mms.example:1061 SHA256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```

use crate::crypto::HASH_BYTES;
use crate::limits::KNOWN_HOSTS_LOCK_MS;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

/// The file's name in the folder of what is kept.
const FILE: &str = "known_hosts";
/// Larger files are none of ours.
const FILE_BYTES_MOST: u64 = 1 << 20;
/// What a fingerprint begins with.
const PREFIX: &str = "SHA256:";

/// What openssl calls it, in its own line.
const OPENSSL_NAME: &str = "sha256 Fingerprint";
/// Between two looks whether the file can be changed.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; HASH_BYTES]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// As we write it, or as `openssl x509 -fingerprint -sha256` does, the whole line or what
    /// stands behind its `=`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            String::from("a fingerprint is SHA256: and 64 digits from 0 to f, as the server tells")
        };
        let text = match text.trim().split_once('=') {
            Some((name, digits)) if name.eq_ignore_ascii_case(OPENSSL_NAME) => digits,
            _ => text.trim(),
        };
        let begins = text.get(..PREFIX.len()).is_some_and(|it| it.eq_ignore_ascii_case(PREFIX));
        let digits = if begins { &text[PREFIX.len()..] } else { text };
        let digits: Vec<u32> = digits
            .chars()
            .filter(|&c| c != ':')
            .map(|c| c.to_digit(16).ok_or_else(wrong))
            .collect::<Result<_, _>>()?;
        if digits.len() != 2 * HASH_BYTES {
            return Err(wrong());
        }
        Ok(Self(std::array::from_fn(|at| (digits[2 * at] << 4 | digits[2 * at + 1]) as u8)))
    }
}

/// The file of servers that are known.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    folder: PathBuf,
}

/// What is known of a server, behind [`KnownHosts::remember`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was not, and is from now on.
    New,
    /// By this certificate.
    Already,
    /// By another one.
    Otherwise(Fingerprint),
}

/// Why no note was taken of a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Unnoted {
    /// Another program has the file locked.
    Locked(String),
    /// The file will not do.
    Unfit(String),
}

impl From<String> for Unnoted {
    fn from(fault: String) -> Self {
        Self::Unfit(fault)
    }
}

impl KnownHosts {
    /// The file in this folder, which need not exist.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// By which certificate the server is known.
    ///
    /// # Errors
    /// If the file cannot be read, or what it says of the server is no fingerprint: then nobody
    /// is trusted because of it.
    pub fn find(&self, server: &str) -> Result<Option<Fingerprint>, String> {
        find(&self.text()?, server).map_err(|fault| self.told(&fault))
    }

    /// Takes note of a server that is not known; durable when it returns. `left` tells how long it
    /// may wait for others who do the same.
    ///
    /// # Errors
    /// If that cannot be done: then the server is not to be trusted.
    pub fn remember(
        &self,
        server: &str,
        shown: Fingerprint,
        left: &dyn Fn() -> Duration,
    ) -> Result<Known, Unnoted> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| self.told(&error))?;
        // Of many that meet a server at once the first one writes, and all others find it.
        let file = self.file().map_err(|error| self.told(&error))?;
        let lock = locked(&file, left)?;
        let text = self.text()?;
        let known = match find(&text, server).map_err(|fault| self.told(&fault))? {
            Some(known) if known == shown => Known::Already,
            Some(known) => Known::Otherwise(known),
            None => {
                let line_end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                let text = format!("{text}{line_end}{server} {shown}\n");
                replace(&file, &text).map_err(|error| self.told(&error))?;
                Known::New
            }
        };
        drop(lock);
        Ok(known)
    }

    fn told(&self, fault: &dyn fmt::Display) -> String {
        format!("{}: {fault}", self.path().display())
    }

    fn text(&self) -> Result<String, String> {
        // What is no file may let its reader wait for ever, and is not even opened.
        match fs::metadata(self.path()) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(self.told(&"it is no regular file")),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(self.told(&error)),
        }
        let file = File::open(self.path()).map_err(|error| self.told(&error))?;
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MOST + 1).read_to_string(&mut text);
        read.map_err(|error| self.told(&error))?;
        if text.len() as u64 > FILE_BYTES_MOST {
            return Err(self.told(&"that is too long for a list of servers"));
        }
        Ok(text)
    }

    /// The file itself, where its name in the folder is a link to another place.
    fn file(&self) -> io::Result<PathBuf> {
        let path = self.path();
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        match fs::symlink_metadata(&path) {
            Ok(_) => Err(io::Error::new(
                ErrorKind::NotFound,
                "it is a symbolic link to a file that is not there; make that file, or remove the \
                 link",
            )),
            Err(_) => Ok(path),
        }
    }
}

/// The file, with something behind its name.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Waits until nobody else changes the file, but not for ever, and not when no time is left.
#[allow(clippy::disallowed_methods)] // whoever meets a server has nothing else to do meanwhile
fn locked(file: &Path, left: &dyn Fn() -> Duration) -> Result<File, Unnoted> {
    let path = beside(file, ".lock");
    let told = |fault: &dyn fmt::Display| format!("{}: {fault}", path.display());
    let mut options = OpenOptions::new();
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(|error| told(&error))?;
    let gives_up = |how_long: &str| {
        let who = "another program has had it locked";
        Unnoted::Locked(told(&format!("{who} {how_long}; end that one, then try again")))
    };
    let most = Duration::from_millis(KNOWN_HOSTS_LOCK_MS);
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(told(&error).into()),
        }
        if waited >= most {
            return Err(gives_up(&format!("for {} s", most.as_secs())));
        }
        if left() <= LOCK_RETRY {
            return Err(gives_up("until the time was up"));
        }
        sleep(LOCK_RETRY);
        waited += LOCK_RETRY;
    }
}

/// Only while it is locked.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(file, ".tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&temporary, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What the file's text says of a server. The first line about it counts; whoever writes by hand
/// may write blank lines and comments.
fn find(text: &str, server: &str) -> Result<Option<Fingerprint>, String> {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case(server)) {
            continue;
        }
        let fingerprint = words.next().unwrap_or_default();
        return fingerprint.parse().map(Some).map_err(|fault| format!("{server}: {fault}"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_fingerprint_is_understood_as_we_and_as_openssl_write_it() {
        let ours = Fingerprint(std::array::from_fn(|at| (at * 8) as u8));
        let text = ours.to_string();
        assert!(text.starts_with("SHA256:0008101820"), "{text}");
        assert_eq!(text.parse(), Ok(ours));
        let bytes: Vec<String> = ours.0.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(bytes.join(":").parse(), Ok(ours));
        assert_eq!(format!("sha256:{}", bytes.join(":")).parse(), Ok(ours));
        for name in ["sha256 Fingerprint", "SHA256 Fingerprint"] {
            assert_eq!(format!("{name}={}\n", bytes.join(":")).parse(), Ok(ours));
        }
        let other = format!("sha1 Fingerprint={}", bytes.join(":"));
        assert!(other.parse::<Fingerprint>().is_err());
        for wrong in ["", "SHA256:", &text[..70], &format!("{text}0"), &text.replace('8', "g"), "ä"]
        {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_that_is_damaged_makes_nobody_known() {
        let shown = Fingerprint([7; HASH_BYTES]);
        let text = format!("# mine\n\nb:1 x\na:1 {shown}\na:1 SHA256:00\nc:1\n");
        assert_eq!(find(&text, "a:1"), Ok(Some(shown)));
        assert_eq!(find(&text, "A:1"), Ok(Some(shown)));
        assert_eq!(find(&text, "a:11"), Ok(None));
        assert!(find(&text, "b:1").is_err() && find(&text, "c:1").is_err());
    }

    #[test]
    fn who_has_no_time_left_notes_what_he_can_without_waiting() {
        let folder = std::env::temp_dir().join(format!("mms-known-{}", std::process::id()));
        let (hosts, shown) = (KnownHosts::new(&folder), Fingerprint([7; HASH_BYTES]));
        let none = || Duration::ZERO;
        assert_eq!(hosts.remember("a:1", shown, &none), Ok(Known::New));
        let lock = File::create(beside(&hosts.path(), ".lock")).unwrap();
        lock.lock().unwrap();
        // Asked three times, of which the last one has no room for another look.
        let looks = Cell::new(3);
        let few = || {
            looks.set(looks.get() - 1);
            LOCK_RETRY + Duration::from_millis(looks.get())
        };
        let refused = hosts.remember("b:1", shown, &few);
        let told = "known_hosts.lock: another program has had it locked until the time was up";
        assert!(
            matches!(&refused, Err(Unnoted::Locked(text)) if text.contains(told)),
            "{refused:?}"
        );
        assert_eq!((hosts.find("b:1"), looks.get()), (Ok(None), 0));
        drop(lock);
        assert_eq!(hosts.remember("b:1", shown, &none), Ok(Known::New));
        fs::remove_dir_all(folder).unwrap();
    }
}
