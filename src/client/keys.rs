//! Saved keys: what `mms login` keeps instead of a password, one file for each user and server.
//! A file is written as a whole or not at all, and only its owner can read it.

use crate::scram::Keys;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Behind the name of each file.
const SUFFIX: &str = ".keys";
/// Larger files are none of ours.
const FILE_BYTES_MOST: u64 = 1024;

/// Why saved keys cannot be used.
#[derive(Debug)]
pub enum KeysError {
    /// The file is readable by others, too.
    Open(PathBuf),
    /// The file does not hold keys.
    Damaged(PathBuf),
    /// It cannot be read or written.
    Io(PathBuf, io::Error),
}

/// Where the keys of this user on this server are.
#[must_use]
pub fn path(folder: &Path, server: &str, user: &str) -> PathBuf {
    folder.join(format!("{}@{}{SUFFIX}", plain(user), plain(server)))
}

/// A word as part of a file name: in lower case, and whatever else than letters, digits, `.`, `-`
/// and `_` as `%2f`.
fn plain(word: &str) -> String {
    let mut name = String::new();
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            name.push(char::from(byte.to_ascii_lowercase()));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

/// Reads keys; `None` if there are none.
pub fn load(path: &Path) -> Result<Option<Keys>, KeysError> {
    let failed = |error| KeysError::Io(path.into(), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let about = file.metadata().map_err(failed)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(KeysError::Open(path.into()));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MOST), &mut bytes)
        .map_err(failed)?;
    let keys = str::from_utf8(&bytes).ok().and_then(|text| Keys::parse(text.trim_end()));
    crate::crypto::wipe(&mut bytes);
    keys.map(Some).ok_or_else(|| KeysError::Damaged(path.into()))
}

/// Writes keys, durably and as a whole; makes the folder if it is missing.
pub fn save(path: &Path, keys: &Keys) -> Result<(), KeysError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| KeysError::Io(folder.into(), error))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write(&temporary, keys)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(folder)?.sync_all());
    written.map_err(|error| {
        // It may not be there; the first fault is the one to tell.
        _ = fs::remove_file(&temporary);
        KeysError::Io(path.into(), error)
    })
}

fn write(path: &Path, keys: &Keys) -> io::Result<()> {
    // Left behind by a process of the same number that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", keys.to_text()).as_bytes())?;
    file.sync_all()
}

/// Removes keys; false if there were none.
pub fn remove(path: &Path) -> Result<bool, KeysError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(KeysError::Io(path.into(), error)),
    }
}

/// The user whose keys for this server are saved, if there is just one.
#[must_use]
pub fn only_user(folder: &Path, server: &str) -> Option<String> {
    let end = format!("@{}{SUFFIX}", plain(server));
    let mut users = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        Some(name.to_str()?.strip_suffix(&end)?.to_owned())
    });
    let user = users.next()?;
    users.next().is_none().then_some(user)
}
