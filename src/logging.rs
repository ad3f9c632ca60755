//! The log: simplelog behind a writer that gathers a turn's lines into one write, escapes what
//! could forge a line or drive a terminal, and can be reopened after it was rotated.
//!
//! A log that cannot be written never stops the server: what is lost is counted, and the count is
//! told as soon as the file can be written again.

use crate::proto::text::{is_printable_ascii, is_refused};
use log::LevelFilter;
use simplelog::{
    CombinedLogger, ConfigBuilder, LevelPadding, SharedLogger, SimpleLogger, WriteLogger,
};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes gathered at most before they are written within a turn.
const GATHERED_BYTES: usize = 64 << 10;

/// The log's file, to be reopened.
#[derive(Clone)]
pub struct LogFile(Arc<Mutex<Gathered>>);

struct Gathered {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
    /// Lines that could not be written.
    lost: u64,
}

/// Starts logging to `path`, and to stderr as well if that is a terminal. The file is made with
/// mode 0600; one that is readable by others is closed to them.
///
/// # Errors
/// If the file cannot be opened for appending.
pub fn start(path: &Path) -> io::Result<LogFile> {
    let file = open(path)?;
    let gathered = Gathered { path: path.into(), file, bytes: Vec::new(), lost: 0 };
    let log = LogFile(Arc::new(Mutex::new(gathered)));
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_level_padding(LevelPadding::Right)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let level = LevelFilter::Info;
    let mut loggers: Vec<Box<dyn SharedLogger>> =
        vec![WriteLogger::new(level, config.clone(), Line { text: Vec::new(), log: log.clone() })];
    if io::stderr().is_terminal() {
        loggers.push(SimpleLogger::new(level, config));
    }
    CombinedLogger::init(loggers).map_err(io::Error::other)?;
    Ok(log)
}

fn open(path: &Path) -> io::Result<File> {
    // Whoever does not read a pipe would stop the server: opening and writing it would wait.
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, not a file"));
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    // A device such as /dev/null is left as it is.
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

impl LogFile {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable all that was logged so far.
    ///
    /// # Errors
    /// If something of it was lost, or may be in a power cut.
    pub fn settle(&self) -> io::Result<()> {
        let mut gathered = self.gathered();
        gathered.write_out();
        if gathered.lost > 0 {
            return Err(io::Error::other("lines of the log were lost"));
        }
        match gathered.file.metadata()?.is_file() {
            true => gathered.file.sync_data(),
            // A device or a socket, such as /dev/stderr, keeps nothing itself.
            false => Ok(()),
        }
    }

    /// Opens the file anew, after it was moved away. On an error the old one is kept.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn reopen(&self) -> io::Result<()> {
        let mut gathered = self.gathered();
        gathered.write_out();
        gathered.file = open(&gathered.path)?;
        Ok(())
    }
}

impl Gathered {
    fn write_out(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if self.lost > 0 {
            let note = format!("{} lines of the log were lost before this one\n", self.lost);
            self.bytes.splice(0..0, note.into_bytes());
        }
        match self.file.write_all(&self.bytes) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += self.bytes.iter().filter(|&&b| b == b'\n').count() as u64,
        }
        self.bytes.clear();
        self.bytes.shrink_to(GATHERED_BYTES);
    }
}

/// The line under way. It comes in a dozen pieces, and the file is locked for it once.
struct Line {
    text: Vec<u8>,
    log: LogFile,
}

impl Line {
    fn gather(&mut self) -> MutexGuard<'_, Gathered> {
        let mut gathered = self.log.gathered();
        gathered.bytes.append(&mut self.text);
        gathered
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        escape(bytes, &mut self.text);
        if bytes == b"\n" {
            let mut gathered = self.gather();
            if gathered.bytes.len() >= GATHERED_BYTES {
                gathered.write_out();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gather().write_out();
        Ok(())
    }
}

/// One event is one line: simplelog writes the line end by itself, so only a lone `\n` is one.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes == b"\n" || is_printable_ascii(bytes) {
        return out.extend_from_slice(bytes);
    }
    let (text, end) = match bytes.split_last() {
        Some((b'\n', text)) => (text, &b"\n"[..]),
        _ => (bytes, &b""[..]),
    };
    for c in String::from_utf8_lossy(text).chars() {
        if is_refused(c) || c == '\n' || c == '\t' {
            out.extend(c.escape_default().map(|c| c as u8));
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out.extend_from_slice(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_forges_a_line_or_drives_a_terminal() {
        let mut out = vec![];
        for piece in ["a\nb\x1b[2J\u{202e}ł", "\n", "plain", "x\n"] {
            escape(piece.as_bytes(), &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "a\\nb\\u{1b}[2J\\u{202e}ł\nplainx\n");
    }
}
