//! Changes to the password file that lose nothing: not the comments, not the order, not what
//! somebody else changes at the same time, and not the file if the machine stops in the middle.
//!
//! A change is written to a temporary file beside it, which then takes its name. Meanwhile the
//! directory is locked. A lock on the file itself would have to be checked after each wait, since
//! the rename gives the name to another file, and there is none while the file does not exist; a
//! lock file would be left behind. The directory is open anyway, as it must be synced.

use super::line::{self, Line};
use super::{UsersError, UsersErrorKind, check_writers, parse, read_text};
use crate::core::password::Verifier;
use crate::limits::{USERS_FILE_BYTES, USERS_LOCK_MS};
use crate::proto::name::{NameKey, UserName};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to change.
#[derive(Debug)]
pub enum Change {
    /// A new user, at the end of the file. The file is made if it is missing.
    Add(UserName, Verifier),
    /// Another verifier for a user, in the same line.
    SetPassword(UserName, Verifier),
    /// Another verifier for a user, if this one stands there still.
    ReplacePassword {
        /// Whose.
        user: UserName,
        /// What must stand there.
        old: Verifier,
        /// What is to stand there.
        new: Verifier,
    },
    /// A user less.
    Remove(UserName),
    /// New users, at the end of the file; who is there already stays as they are. The file is
    /// made if it is missing.
    Append(Vec<(UserName, Verifier)>),
}

/// What a change led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// Users in the file now.
    pub users: usize,
    /// Whether the file was made.
    pub created: bool,
    /// Users of a [`Change::Append`] who were there already.
    pub skipped: Vec<UserName>,
}

/// Pause between two attempts at the lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// The mode of a new file: it is not for others to read.
const NEW_MODE: u32 = 0o600;

/// Changes the password file, or leaves it as it was and says why. The file must be good as it
/// is. Waits up to [`USERS_LOCK_MS`] for another edit to end. When this returns, the change is on
/// the disk.
pub fn edit(path: &Path, change: &Change) -> Result<Edited, UsersError> {
    edit_locked(path, change, USERS_LOCK_MS)
}

/// The same, but tries the lock once: whoever must not wait is told that it is
/// [`UsersErrorKind::Busy`], and comes back later.
pub fn try_edit(path: &Path, change: &Change) -> Result<Edited, UsersError> {
    edit_locked(path, change, 0)
}

fn edit_locked(path: &Path, change: &Change, wait_ms: u64) -> Result<Edited, UsersError> {
    let target = target(path)?;
    let may_create = matches!(change, Change::Add(..) | Change::Append(_));
    let directory = lock_directory(path, &target, wait_ms)?;
    let (old_text, old) = match read_text(&target) {
        Ok((text, metadata)) => (text, Some(metadata)),
        Err(error) if may_create && error.kind == UsersErrorKind::Missing => (String::new(), None),
        Err(error) => return Err(error),
    };
    if let Some(old) = &old {
        check_writers(path, old.mode(), old.uid(), old.gid())?;
    }
    let before = parse(path, &old_text)?;
    if let Change::ReplacePassword { user, old, .. } = change {
        let line = before.iter().find(|(name, _)| name.key() == user.key());
        if line.is_some_and(|(_, verifier)| verifier != old) {
            let why = format_args!("the password of {user} was changed meanwhile");
            return Err(UsersError::new(UsersErrorKind::Outdated, path, why));
        }
    }
    let known = before.iter().map(|(name, _)| name.key()).collect();
    let (new_text, skipped) = apply(path, &old_text, &known, change)?;
    let users = parse(path, &new_text)?.len();
    if new_text.len() as u64 > USERS_FILE_BYTES {
        return Err(UsersError::new(UsersErrorKind::Bad, path, "it would become too large"));
    }
    if new_text != old_text {
        replace(path, &target, &directory, &new_text, old.as_ref())?;
    }
    Ok(Edited { users, created: old.is_none() && !new_text.is_empty(), skipped })
}

/// The file behind `path`: where a symbolic link leads, so that the link stays.
fn target(path: &Path) -> Result<PathBuf, UsersError> {
    match fs::canonicalize(path) {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                let why = "it is a symbolic link to a file that is missing";
                return Err(UsersError::new(UsersErrorKind::Missing, path, why));
            }
            Ok(path.to_owned())
        }
        Err(error) => Err(UsersError::reading(path, &error)),
    }
}

fn directory_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Opens and locks the directory of the file; the lock lasts as long as the value.
#[allow(clippy::disallowed_methods)] // `mms user` may sleep; the server waits for zero ms
fn lock_directory(path: &Path, target: &Path, wait_ms: u64) -> Result<File, UsersError> {
    let directory = File::open(directory_of(target)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let why = "its directory does not exist; make it first";
            UsersError::new(UsersErrorKind::CannotCreate, path, why)
        }
        _ => writing(path, &error),
    })?;
    let mut retries = wait_ms / LOCK_RETRY.as_millis() as u64;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::WouldBlock) if retries == 0 => break,
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(writing(path, &error)),
        }
        retries -= 1;
    }
    let why = "somebody else keeps its directory locked; nothing was changed, try again later";
    Err(UsersError::new(UsersErrorKind::Busy, path, why))
}

/// The text after the change, and who was there already.
fn apply(
    path: &Path,
    text: &str,
    known: &HashSet<NameKey>,
    change: &Change,
) -> Result<(String, Vec<UserName>), UsersError> {
    let mut new = text.to_owned();
    let mut skipped = Vec::new();
    match change {
        Change::Add(name, verifier) => {
            if known.contains(&name.key()) {
                let why = format_args!(
                    "{name} exists already; for a new password: mms user passwd {} {name}",
                    path.display()
                );
                return Err(UsersError::new(UsersErrorKind::Exists, path, why));
            }
            push(&mut new, name, verifier);
        }
        Change::Append(users) => {
            for (name, verifier) in users {
                if known.contains(&name.key()) {
                    skipped.push(name.clone());
                } else {
                    push(&mut new, name, verifier);
                }
            }
        }
        Change::SetPassword(name, _)
        | Change::ReplacePassword { user: name, .. }
        | Change::Remove(name) => {
            if !known.contains(&name.key()) {
                let why = format_args!("there is no user {name}");
                return Err(UsersError::new(UsersErrorKind::NoUser, path, why));
            }
            new = text.split_inclusive('\n').map(|line| rewrite(line, name, change)).collect();
        }
    }
    Ok((new, skipped))
}

fn push(text: &mut String, name: &UserName, verifier: &Verifier) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    *text += &format!("{name}:{verifier}\n");
}

/// A line after the change: the same, unless it is the user's.
fn rewrite(line: &str, user: &UserName, change: &Change) -> String {
    let verifier = match change {
        Change::SetPassword(_, verifier) | Change::ReplacePassword { new: verifier, .. } => {
            Some(verifier)
        }
        _ => None,
    };
    match (line::parse(line), verifier) {
        (Ok(Line::User(name, _)), Some(verifier)) if name.key() == user.key() => {
            let end = &line[line.trim_end_matches(['\r', '\n']).len()..];
            format!("{name}:{verifier}{end}")
        }
        (Ok(Line::User(name, _)), None) if name.key() == user.key() => String::new(),
        _ => line.to_owned(),
    }
}

/// Gives the file its new content, all of it or, if anything fails, none of it.
fn replace(
    path: &Path,
    target: &Path,
    directory: &File,
    text: &str,
    old: Option<&fs::Metadata>,
) -> Result<(), UsersError> {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".new");
    let temporary = target.with_file_name(name);
    let written =
        write_temporary(&temporary, text, old).and_then(|()| fs::rename(&temporary, target));
    written.map_err(|error| {
        // Whether that works or not, the first error is the one to tell.
        _ = fs::remove_file(&temporary);
        writing(path, &error)
    })?;
    directory.sync_all().map_err(|error| {
        let why = format_args!("changed, but a crash may undo it: cannot sync: {error}");
        UsersError::new(UsersErrorKind::Unflushed, path, why)
    })
}

fn write_temporary(temporary: &Path, text: &str, old: Option<&fs::Metadata>) -> io::Result<()> {
    // One that a crash left behind: nobody uses it, as we have the lock.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(NEW_MODE).open(temporary)?;
    if let Some(old) = old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // The server may be the owner, and must be able to read it tomorrow.
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    let mode = old.map_or(NEW_MODE, |old| old.mode() & 0o777);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn writing(path: &Path, error: &io::Error) -> UsersError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => UsersErrorKind::Permission,
        io::ErrorKind::ReadOnlyFilesystem => UsersErrorKind::CannotCreate,
        _ => UsersErrorKind::Io,
    };
    UsersError::new(kind, path, format_args!("cannot write: {error}; nothing was changed"))
}
