//! The password file: read as a whole or refused as a whole, with the line and the remedy.
//!
//! It knows nothing of the command line: an error has a kind, and who asked chooses the exit code.

mod edit;
mod line;

pub use edit::{Change, Edited, edit, try_edit};

use crate::core::password::{Verifier, wipe};
use crate::limits::{USERS_FILE_BYTES, USERS_LINE_BYTES};
use crate::proto::name::UserName;
use line::Line;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A password file that was read.
#[derive(Debug)]
pub struct UsersFile {
    /// The users, in the order of the file. No name comes twice, whatever its case.
    pub entries: Vec<(UserName, Verifier)>,
    /// What the operator should hear of, one line each.
    pub warnings: Vec<String>,
}

/// What is wrong with a password file: one line that names the file and says what to do.
#[derive(Debug)]
pub struct UsersError {
    /// What sort of fault it is.
    pub kind: UsersErrorKind,
    message: String,
}

/// The sorts of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsersErrorKind {
    /// There is no such file.
    Missing,
    /// It is there and cannot be read, or is no regular file.
    Unreadable,
    /// Its content is wrong.
    Bad,
    /// Others may write to it, or we may not.
    Permission,
    /// It has no such user.
    NoUser,
    /// It has the user already.
    Exists,
    /// It cannot be made.
    CannotCreate,
    /// The user's line is not what was to be changed.
    Outdated,
    /// Writing it failed.
    Io,
    /// It was changed, but the disk did not flush that.
    Unflushed,
    /// Somebody else is changing it.
    Busy,
}

impl UsersError {
    fn new(kind: UsersErrorKind, path: &Path, message: impl fmt::Display) -> Self {
        Self { kind, message: format!("{}: {message}", path.display()) }
    }

    fn at_line(path: &Path, number: usize, message: impl fmt::Display) -> Self {
        Self::new(UsersErrorKind::Bad, path, format_args!("line {number}: {message}"))
    }

    fn reading(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => {
                let advice = format_args!(
                    "no such file; make it with: mms user add {} <name>",
                    path.display()
                );
                Self::new(UsersErrorKind::Missing, path, advice)
            }
            io::ErrorKind::PermissionDenied => {
                let advice = format_args!(
                    "cannot read: {error}; let the user who runs mms read it, or run mms as \
                     another one"
                );
                Self::new(UsersErrorKind::Unreadable, path, advice)
            }
            _ => Self::new(UsersErrorKind::Unreadable, path, format_args!("cannot read: {error}")),
        }
    }
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UsersError {}

/// Reads the password file for the server: each line must be good, and there must be a user.
pub fn load(path: &Path) -> Result<UsersFile, UsersError> {
    let file = read(path)?;
    if file.entries.is_empty() {
        let advice =
            format_args!("it has no users; add one with: mms user add {} <name>", path.display());
        return Err(UsersError::new(UsersErrorKind::Bad, path, advice));
    }
    Ok(file)
}

/// Reads the password file for an edit: as [`load`], and it may have no users yet.
pub fn read(path: &Path) -> Result<UsersFile, UsersError> {
    let (text, metadata) = read_text(path)?;
    let warnings = check_writers(path, metadata.mode(), metadata.uid(), metadata.gid())?;
    Ok(UsersFile { entries: parse(path, &text)?, warnings })
}

/// A password file of an older system, or one that is partly converted already.
#[derive(Debug)]
pub struct OldFile {
    /// Users that are converted already, and users whose password stands there in plain text.
    pub users: Vec<(UserName, OldPassword)>,
    /// Users of whose password there is only a SHA-1 hash.
    pub sha1: Vec<UserName>,
}

/// What an older file says of a user.
pub enum OldPassword {
    /// The password itself.
    Plain(Vec<u8>),
    /// A verifier as ours.
    Verifier(Verifier),
}

impl fmt::Debug for OldPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Drop for OldPassword {
    fn drop(&mut self) {
        if let Self::Plain(password) = self {
            wipe(password);
        }
    }
}

/// Reads a password file of an older system. Who may write to it does not matter any more.
pub fn load_old(path: &Path) -> Result<OldFile, UsersError> {
    let (text, _) = read_text(path)?;
    let mut old = OldFile { users: Vec::new(), sha1: Vec::new() };
    for_each_user(path, &text, |_, line| {
        match line {
            Line::Blank => {}
            Line::User(name, verifier) => old.users.push((name, OldPassword::Verifier(verifier))),
            Line::Plain(name, plain) => {
                old.users.push((name, OldPassword::Plain(plain.0.as_bytes().to_vec())));
            }
            Line::Sha1(name) => old.sha1.push(name),
        }
        Ok(())
    })?;
    wipe(&mut text.into_bytes());
    Ok(old)
}

/// The content of a file that is regular and not too large. Never blocks: what is no regular file
/// is not even opened.
fn read_text(path: &Path) -> Result<(String, Metadata), UsersError> {
    let unreadable = |why: &str| UsersError::new(UsersErrorKind::Unreadable, path, why);
    let bad = |why: &str| UsersError::new(UsersErrorKind::Bad, path, why);
    let metadata = fs::metadata(path).map_err(|error| UsersError::reading(path, &error))?;
    if metadata.is_dir() {
        return Err(unreadable("it is a directory; name the password file in it"));
    }
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file; name the password file"));
    }
    let file = File::open(path).map_err(|error| UsersError::reading(path, &error))?;
    // From the open file, so that it describes what is read even if the path was given to another.
    let metadata = file.metadata().map_err(|error| UsersError::reading(path, &error))?;
    let mut bytes = Vec::new();
    let read = file.take(USERS_FILE_BYTES + 1).read_to_end(&mut bytes);
    let read = read.map_err(|error| UsersError::reading(path, &error))?;
    if read as u64 > USERS_FILE_BYTES {
        let most = USERS_FILE_BYTES >> 20;
        return Err(bad(&format!("it is larger than {most} MiB; is it a password file?")));
    }
    String::from_utf8(bytes).map(|text| (text, metadata)).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let number = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        UsersError::at_line(path, number, "it is not UTF-8; save the file as UTF-8 or ASCII")
    })
}

/// Whoever can write to the file can sign in as anybody.
fn check_writers(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<Vec<String>, UsersError> {
    let name = path.display();
    if mode & 0o002 != 0 {
        let advice = format_args!("everyone may write to it; forbid it with: chmod o-w {name}");
        return Err(UsersError::new(UsersErrorKind::Permission, path, advice));
    }
    if mode & 0o020 == 0 {
        return Ok(Vec::new());
    }
    // Many systems give each user a group of their own with the same number, and umask 002.
    if uid != gid {
        let advice = format_args!("its group may write to it; forbid it with: chmod g-w {name}");
        return Err(UsersError::new(UsersErrorKind::Permission, path, advice));
    }
    Ok(vec![format!("{name}: its group may write to it; better forbid it with: chmod g-w {name}")])
}

/// The users in the text of a password file; `path` is what a fault calls it. It may have none.
pub fn parse(path: &Path, text: &str) -> Result<Vec<(UserName, Verifier)>, UsersError> {
    let mut entries = Vec::new();
    for_each_user(path, text, |number, line| {
        let shown = path.display();
        match line {
            Line::Blank => {}
            Line::User(name, verifier) => entries.push((name, verifier)),
            Line::Plain(name, _) => {
                let advice = format_args!(
                    "the password of {name} is in plain text; convert the file with: \
                     mms user import {shown} {shown}.new"
                );
                return Err(UsersError::at_line(path, number, advice));
            }
            Line::Sha1(name) => {
                let advice = format_args!(
                    "the password of {name} is a SHA-1 hash, which cannot be converted without \
                     the password; convert the others with: mms user import {shown} {shown}.new, \
                     then give {name} a new one with: mms user add {shown}.new {name}"
                );
                return Err(UsersError::at_line(path, number, advice));
            }
        }
        Ok(())
    })?;
    Ok(entries)
}

/// Hands over the lines with their numbers, after checking what all files have in common.
fn for_each_user<'a>(
    path: &Path,
    text: &'a str,
    mut each: impl FnMut(usize, Line<'a>) -> Result<(), UsersError>,
) -> Result<(), UsersError> {
    let mut seen = HashMap::new();
    for (number, text) in (1..).zip(text.lines()) {
        if text.len() > USERS_LINE_BYTES {
            let why =
                format_args!("it is longer than {USERS_LINE_BYTES} bytes; shorten or remove it");
            return Err(UsersError::at_line(path, number, why));
        }
        let line = line::parse(text).map_err(|fault| {
            let advice = format_args!("{fault}; correct or remove the line");
            UsersError::at_line(path, number, advice)
        })?;
        if let Line::User(name, _) | Line::Plain(name, _) | Line::Sha1(name) = &line {
            match seen.entry(name.key()) {
                Entry::Vacant(entry) => _ = entry.insert(number),
                Entry::Occupied(first) => {
                    let first = first.get();
                    let advice =
                        format_args!("{name} is in line {first} already; remove one of the two");
                    return Err(UsersError::at_line(path, number, advice));
                }
            }
        }
        each(number, line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
