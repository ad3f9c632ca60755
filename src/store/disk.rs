//! The seam between the spool and the file system: what the journal asks of a directory, and the
//! directory itself. Tests put a simulated disk in its place. It knows nothing of records.

use super::files::is_segment;
use crate::sys::BackgroundSync;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};
use std::{error, fmt};

/// A directory of files, as the spool needs it. Each error names the path.
pub trait Disk {
    /// An open file. It stays usable when its name is taken away.
    type File;

    /// The names in the directory, in any order.
    fn list(&mut self) -> io::Result<Vec<String>>;
    /// Makes a file that must not exist yet.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;
    /// Opens a file that exists.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;
    /// The file's length in bytes.
    fn len(&mut self, file: &Self::File) -> io::Result<u64>;
    /// Reads until `into` is full or the file ends, and returns how many bytes it was.
    fn read_at(&mut self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, or fails with any part of them written.
    fn write_all_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to so many bytes.
    fn truncate(&mut self, file: &Self::File, bytes: u64) -> io::Result<()>;
    /// Makes durable what was written to the file. After an error nothing is known of it, and
    /// trying again proves nothing: the kernel forgets what it failed to write.
    fn sync_data(&mut self, file: &Self::File) -> io::Result<()>;
    /// Begins what [`Self::sync_data`] does, of what was written to the file by now. There is one
    /// at a time, and the file is not written to meanwhile.
    fn begin_sync(&mut self, file: &Self::File) -> io::Result<Progress> {
        self.sync_data(file).map(|()| Progress::Over)
    }
    /// How far the sync is that was begun last, of this file; its error, once.
    fn end_sync(&mut self, file: &Self::File, patience: Patience) -> io::Result<Progress> {
        _ = (file, patience);
        Ok(Progress::Over)
    }
    /// From now on a sync that was begun goes on by itself. The descriptor has an edge when one is
    /// over. None where that cannot be: there a sync is over when it was begun.
    fn sync_in_background(&mut self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Makes durable which names the directory has.
    fn sync_dir(&mut self) -> io::Result<()>;
    /// Gives the file another name, in place of the file that had it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// How far a sync is that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The disk is at it.
    UnderWay,
    /// What it was begun for is durable.
    Over,
}

/// What to do about a sync that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Only look.
    Look,
    /// Wait until it is over.
    Wait,
}

/// Why a spool directory cannot be opened. The text advises.
#[derive(Debug)]
pub enum OpenError {
    /// The directory is missing and cannot be made.
    CannotCreate(String),
    /// Another server has it.
    InUse(String),
    /// It is missing, and was only to be looked at.
    Missing(String),
    /// It may not be read, written or tightened.
    Permission(String),
    /// Anything else.
    Io(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotCreate(text) | Self::InUse(text) => f.write_str(text),
            Self::Missing(text) | Self::Permission(text) | Self::Io(text) => f.write_str(text),
        }
    }
}

impl error::Error for OpenError {}

/// What may be done to a [`FileDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Full,
    /// Other programs have other files in it: each locks its own.
    Shared,
    ReadOnly,
}

/// A real directory. One with full access holds the lock as long as it lives.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    handle: File,
    access: Access,
    background: Option<BackgroundSync>,
    /// Never read: the lock goes when the file is closed.
    _lock: Option<File>,
}

/// A file of a [`FileDisk`].
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    name: String,
}

impl FileDisk {
    /// Opens `dir` for the one server that may write there; makes it if it is missing. Others of
    /// this machine's users can neither list nor read it.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        make_directory(dir)?;
        let failed = |what: &str, e: &io::Error| open_error(&dir.join(what), e);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|e| failed("lock", &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let dir = dir.display();
                return Err(OpenError::InUse(format!(
                    "spool directory {dir} is in use by another mms server (it holds \
                     {dir}/lock); stop that one or use another --spool"
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", &e)),
        }
        let handle = File::open(dir).map_err(|e| failed("", &e))?;
        give_to_owner(&handle, &lock).map_err(|e| failed("lock", &e))?;
        Ok(Self {
            dir: dir.to_owned(),
            handle,
            access: Access::Full,
            background: None,
            _lock: Some(lock),
        })
    }

    /// Opens `dir` for one of the programs that have files there; makes it if it is missing. An
    /// open file is locked, as long as it lives: a second program that opens it fails with
    /// [`io::ErrorKind::WouldBlock`].
    pub fn open_shared(dir: &Path) -> Result<Self, OpenError> {
        make_missing(dir).map_err(|e| {
            OpenError::CannotCreate(format!("cannot make directory {}: {e}", dir.display()))
        })?;
        let handle = File::open(dir).map_err(|e| open_error(dir, &e))?;
        Ok(Self {
            dir: dir.to_owned(),
            handle,
            access: Access::Shared,
            background: None,
            _lock: None,
        })
    }

    /// Opens `dir` to look at it, whether or not a server runs there. Refuses every change.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        let handle = File::open(dir).map_err(|e| open_error(dir, &e))?;
        fs::read_dir(dir).map_err(|e| open_error(dir, &e))?;
        Ok(Self {
            dir: dir.to_owned(),
            handle,
            access: Access::ReadOnly,
            background: None,
            _lock: None,
        })
    }

    fn error(&self, name: &str, e: &io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}", self.dir.join(name).display()))
    }

    fn writable(&self, name: &str) -> io::Result<()> {
        match self.access {
            Access::Full | Access::Shared => Ok(()),
            Access::ReadOnly => Err(self.error(name, &io::ErrorKind::ReadOnlyFilesystem.into())),
        }
    }

    fn opened(&self, name: &str, options: &OpenOptions) -> io::Result<OpenFile> {
        let file = options.open(self.dir.join(name)).map_err(|e| self.error(name, &e))?;
        if self.access == Access::Shared {
            file.try_lock().map_err(|e| match e {
                TryLockError::WouldBlock => self.error(name, &in_use()),
                TryLockError::Error(e) => self.error(name, &e),
            })?;
            // Whoever had it locked may have put another file in its place before it let go.
            let now = fs::metadata(self.dir.join(name)).map_err(|e| self.error(name, &e))?;
            let its = file.metadata().map_err(|e| self.error(name, &e))?;
            if (now.dev(), now.ino()) != (its.dev(), its.ino()) {
                return Err(self.error(name, &in_use()));
            }
        }
        Ok(OpenFile { file, name: name.to_owned() })
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "another program is using it")
}

/// Gives a new file to the directory's owner. If root does something here, the server must still
/// be able to read it tomorrow.
fn give_to_owner(directory: &File, made: &File) -> io::Result<()> {
    let (directory, file) = (directory.metadata()?, made.metadata()?);
    if directory.uid() == file.uid() {
        return Ok(());
    }
    fchown(made, Some(directory.uid()), Some(directory.gid()))
}

fn open_error(path: &Path, e: &io::Error) -> OpenError {
    let text = format!("{}: {e}", path.display());
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::Permission(text)
        }
        io::ErrorKind::NotFound => OpenError::Missing(text),
        _ => OpenError::Io(text),
    }
}

/// Makes `dir` and what is missing above it, durably and for this user alone.
fn make_missing(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    if !missing.is_empty() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // A letter is durable only if the directory it lies in is.
    for made in missing {
        let parent = made.parent().filter(|path| !path.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        File::open(parent).and_then(|handle| handle.sync_all())?;
    }
    Ok(())
}

fn cannot_make(dir: &Path, e: &io::Error) -> OpenError {
    OpenError::CannotCreate(format!("cannot make spool directory {}: {e}", dir.display()))
}

/// Makes `dir` if it is missing, and tightens its mode if others could look in.
fn make_directory(dir: &Path) -> Result<(), OpenError> {
    make_missing(dir).map_err(|e| cannot_make(dir, &e))?;
    if check_directory(dir)? == Access::Shared {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|e| open_error(dir, &e))?;
    }
    Ok(())
}

/// Whether what is called `dir` can become a spool, and who has access to it now.
fn check_directory(dir: &Path) -> Result<Access, OpenError> {
    let found = fs::metadata(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotADirectory => cannot_make(dir, &e),
        _ => open_error(dir, &e),
    })?;
    if !found.is_dir() {
        return Err(cannot_make(dir, &io::ErrorKind::NotADirectory.into()));
    }
    if found.permissions().mode() & 0o077 == 0 {
        return Ok(Access::Full);
    }
    if is_anothers(dir).map_err(|e| open_error(dir, &e))? {
        return Err(OpenError::CannotCreate(format!(
            "cannot make {} a spool directory: it holds other files, which nobody else could \
             reach any more",
            dir.display()
        )));
    }
    Ok(Access::Shared)
}

/// What [`FileDisk::open`] would say of `dir`, as far as its content tells, without changing it.
///
/// # Errors
/// If it cannot become a spool. [`OpenError::Missing`] is none: it would be made.
pub fn would_open(dir: &Path) -> Result<(), OpenError> {
    check_directory(dir).map(|_| ())
}

/// Whether the directory was never a spool and holds what others may need. A backup of a spool
/// lacks the lock.
fn is_anothers(dir: &Path) -> io::Result<bool> {
    let mut others = false;
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        if file == "lock" || is_segment(&file.to_string_lossy()) {
            return Ok(false);
        }
        others |= file != "README";
    }
    Ok(others)
}

impl Disk for FileDisk {
    type File = OpenFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        });
        names.map_err(|e| self.error("", &e))
    }

    fn create(&mut self, name: &str) -> io::Result<OpenFile> {
        self.writable(name)?;
        let mut options = OpenOptions::new();
        let made =
            self.opened(name, options.read(true).write(true).create_new(true).mode(0o600))?;
        if self.access == Access::Full {
            give_to_owner(&self.handle, &made.file).map_err(|e| self.error(name, &e))?;
        }
        Ok(made)
    }

    fn open(&mut self, name: &str) -> io::Result<OpenFile> {
        self.opened(name, OpenOptions::new().read(true).write(self.access != Access::ReadOnly))
    }

    fn len(&mut self, file: &OpenFile) -> io::Result<u64> {
        Ok(file.file.metadata().map_err(|e| self.error(&file.name, &e))?.len())
    }

    fn read_at(&mut self, file: &OpenFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match file.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(&file.name, &e)),
            }
        }
        Ok(done)
    }

    fn write_all_at(&mut self, file: &OpenFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable(&file.name)?;
        file.file.write_all_at(bytes, offset).map_err(|e| self.error(&file.name, &e))
    }

    fn truncate(&mut self, file: &OpenFile, bytes: u64) -> io::Result<()> {
        self.writable(&file.name)?;
        file.file.set_len(bytes).map_err(|e| self.error(&file.name, &e))
    }

    fn sync_data(&mut self, file: &OpenFile) -> io::Result<()> {
        file.file.sync_data().map_err(|e| self.error(&file.name, &e))
    }

    fn begin_sync(&mut self, file: &OpenFile) -> io::Result<Progress> {
        if let Some(background) = &mut self.background {
            if background.begin(file.file.as_fd()).is_ok() {
                return Ok(Progress::UnderWay);
            }
            // It does not come to be because it was tried again.
            self.background = None;
        }
        self.sync_data(file).map(|()| Progress::Over)
    }

    fn end_sync(&mut self, file: &OpenFile, patience: Patience) -> io::Result<Progress> {
        let over = match (&mut self.background, patience) {
            (None, _) => Ok(true),
            (Some(background), Patience::Look) => background.is_over(),
            (Some(background), Patience::Wait) => background.wait().map(|()| true),
        };
        match over.map_err(|e| self.error(&file.name, &e))? {
            true => Ok(Progress::Over),
            false => Ok(Progress::UnderWay),
        }
    }

    fn sync_in_background(&mut self) -> Option<BorrowedFd<'_>> {
        self.background = BackgroundSync::new().ok();
        self.background.as_ref().map(BackgroundSync::bell)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.handle.sync_all().map_err(|e| self.error("", &e))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.writable(from)?;
        fs::rename(self.dir.join(from), self.dir.join(to)).map_err(|e| self.error(from, &e))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.writable(name)?;
        fs::remove_file(self.dir.join(name)).map_err(|e| self.error(name, &e))
    }
}
