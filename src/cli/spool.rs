//! `mms spool`: a look at a spool by whoever may read its directory, which changes nothing, so it
//! works on a running server's spool as well; and what an operator decides while none runs.

use super::{Code, Failure};
use crate::digits::Count;
use crate::store::disk::{FileDisk, OpenError};
use crate::store::files::segment_file;
use crate::store::foresight::foresee;
use crate::store::recovery::{Recovery, SpoolError};
use crate::store::survey::Survey;
use crate::time::date;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

mod custody;
mod export;

pub use export::{export, show};

/// Look into the spool: what waits for whom, and whether all of it is sound; hold, release or
/// remove messages.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms spool ls                    the segments, and who has messages waiting
  mms spool show fred             the messages that wait for fred
  mms spool export > letters      the same and everybody's, for programs
  mms spool check                 verify every record
  mms spool purge fred            remove what is held of a fred who is no user any more
  mms spool hold fred             keep back what waits for fred
  mms spool ls --spool /srv/mms   another directory than 'spool'

ls, show, export and check change nothing and work while a server runs. purge and hold need it
stopped.

Exit codes: 64 not confirmed; 65 damage was found; 66 there is no such directory; 67 nobody of
that name has messages; 74 the disk failed; 75 a server has the spool; 77 no permission.")]
pub struct Spool {
    #[command(subcommand)]
    command: Command,
    /// The directory
    #[arg(long, global = true, value_name = "DIR", default_value = "spool")]
    spool: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the segments and who has messages waiting
    #[command(after_help = "\
Example:
  mms spool ls")]
    Ls,
    /// Show the messages that wait, or are held, for one user or for all
    #[command(after_help = "\
Examples:
  mms spool show          everybody's
  mms spool show fred     fred's")]
    Show {
        /// The user's name
        user: Option<String>,
    },
    /// Export the messages that wait, or are held, as JSON: one object a line
    #[command(after_help = "\
Examples:
  mms spool export > letters.json    everybody's
  mms spool export fred              fred's

JSON: {\"id\":\"1790000000.7\",\"time\":\"2026-09-21T13:33:20.123Z\",\"kind\":\"direct\",
\"from\":\"tim\",\"to\":\"fred\",\"state\":\"waiting\",\"key\":\"backup.7\",\"text\":\"hi\"}, one a
line and recipient. kind is direct or broadcast, state is waiting or held; key stands there only
if the sender gave one. It works on a running server's spool, as of the moment it looks, and on a
damaged one: whole records are exported, and the exit code is 65.")]
    Export {
        /// The user's name
        user: Option<String>,
    },
    /// Verify every record; exit code 65 on damage
    #[command(after_help = "\
Example:
  mms spool check && echo sound

It says what a server would do that starts on this spool. A write at the end that a crash has
cut is no damage: the server cuts it, and nobody can tell whether it was confirmed.")]
    Check,
    Purge(custody::Purge),
    Hold(custody::Hold),
}

impl Spool {
    /// Runs the command.
    ///
    /// # Errors
    /// If the spool cannot be read, or is damaged.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.command {
            Command::Ls => ls(&self.spool, out),
            Command::Show { user } => show(&self.spool, user.as_deref(), out),
            Command::Export { user } => export(&self.spool, user.as_deref(), out),
            Command::Check => check(&self.spool, out),
            Command::Purge(purge) => purge.run(&self.spool, out),
            Command::Hold(hold) => hold.run(&self.spool, out),
        }
    }
}

/// Lists the segments and who has letters waiting.
pub fn ls(dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let (_, survey) = survey(dir)?;
    let text = listing(&survey);
    out.write_all(text.as_bytes()).map_err(|e| output_failed(&e))
}

fn listing(survey: &Survey) -> String {
    let mut text = String::new();
    match survey.name {
        Some(name) => text.push_str(&format!("spool {name:016x}\n")),
        None => text.push_str("an empty spool\n"),
    }
    for segment in &survey.segments {
        let (bytes, letters) = (Count(segment.bytes, "byte"), Count(segment.letters, "letter"));
        let _ = write!(text, "{}  {bytes}, {letters}", segment_file(segment.number));
        if segment.damaged_bytes > 0 {
            let _ = write!(text, ", {} bytes DAMAGED", segment.damaged_bytes);
        }
        text.push('\n');
    }
    for gap in &survey.missing {
        let _ = writeln!(text, "{gap}");
    }
    for gap in &survey.told {
        let _ = writeln!(text, "{gap}, as a start has told");
    }
    for number in &survey.cut {
        let _ = writeln!(text, "{}  its end is MISSING", segment_file(*number));
    }
    for file in &survey.quarantined {
        let _ = writeln!(text, "{file}  damage of earlier");
    }
    for mailbox in survey.mailboxes.values() {
        let (name, waiting, bytes) = (&mailbox.name, mailbox.waiting.len(), mailbox.bytes());
        let _ = write!(text, "{name:<32}  {waiting} waiting");
        if !mailbox.held.is_empty() {
            let _ = write!(text, ", {} held", mailbox.held.len());
        }
        let _ = writeln!(text, ", {bytes} bytes of text");
    }
    text
}

/// Verifies every record. Damage is exit code 65, but not a write at the end that a crash has cut:
/// of that nothing was promised, or nobody can tell.
pub fn check(dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let (mut disk, survey) = survey(dir)?;
    let foreseen = foresee(&mut disk).map_err(|e| open(&e))?;
    let (mut records, mut letters, mut bytes) = (0, 0, 0);
    for segment in &survey.segments {
        records += segment.records;
        letters += segment.letters;
        bytes += segment.bytes;
    }
    let waiting: usize = survey.mailboxes.values().map(|mailbox| mailbox.waiting.len()).sum();
    let held: usize = survey.mailboxes.values().map(|mailbox| mailbox.held.len()).sum();
    let ready = survey.ready_bytes >> 10;
    let unused = survey.segments.last().map_or(0, |last| last.unused_bytes >> 10);
    let missing: u64 = survey.missing.iter().map(|gap| gap.segments()).sum();
    let missing = missing + survey.cut.len() as u64;
    let mut text = format!(
        "{}, {}, {}, {}\n\
         {} waiting, {held} held\n\
         {ready} KiB of room ready, {unused} KiB more in the last segment\n\
         {} damaged, {} missing, {} in quarantine\n",
        Count(survey.segments.len() as u64, "segment"),
        Count(bytes, "byte"),
        Count(records, "whole record"),
        Count(letters, "letter"),
        Count(waiting as u64, "letter"),
        Count(survey.damaged_bytes(), "byte"),
        Count(missing, "segment"),
        Count(survey.quarantined.len() as u64, "file"),
    );
    for gap in &survey.told {
        let _ = writeln!(text, "{gap}, as a start has told");
    }
    for line in &foreseen.lines {
        let _ = writeln!(text, "a start would say: {line}");
    }
    out.write_all(text.as_bytes()).map_err(|e| output_failed(&e))?;
    if foreseen.lost_places == 0 && survey.missing.is_empty() && survey.cut.is_empty() {
        return Ok(());
    }
    let lost_letters = Count(foreseen.lost_letters, "letter");
    let Recovery { lost_bytes, salvaged, .. } = &foreseen;
    let message = format!(
        "the spool is damaged: {}; {lost_bytes} confirmed bytes are lost, in which {lost_letters} \
         can be told; a server that starts on it saves {salvaged} whole records of what is \
         damaged and tells the readers of those letters; of anything else its log alone tells",
        damaged_places(&survey, &foreseen)
    );
    Err(Failure::new(Code::Data, message))
}

fn damaged_places(survey: &Survey, foreseen: &Recovery) -> String {
    let damaged = survey.segments.iter().filter(|segment| segment.damaged_bytes > 0);
    let mut places: Vec<String> = damaged
        .map(|segment| {
            format!("{} ({} bytes)", segment_file(segment.number), segment.damaged_bytes)
        })
        .collect();
    places.extend(survey.missing.iter().map(|gap| gap.to_string()));
    places.extend(survey.cut.iter().map(|number| format!("{} (its end)", segment_file(*number))));
    if places.is_empty() {
        // A segment without its beginning, or no journal at all.
        return foreseen.lines.join("; ");
    }
    places.join(", ")
}

fn survey(dir: &Path) -> Result<(FileDisk, Survey), Failure> {
    let mut disk = FileDisk::open_read_only(dir)?;
    let survey = Survey::take(&mut disk).map_err(|e| open(&e))?;
    Ok((disk, survey))
}

/// Why the spool cannot be opened.
fn open(e: &SpoolError) -> Failure {
    match e {
        SpoolError::Io(e) => io_failure(e),
        newer @ SpoolError::NewerFormat { .. } => Failure::new(Code::Data, newer.to_string()),
    }
}

impl From<OpenError> for Failure {
    fn from(e: OpenError) -> Self {
        let code = match e {
            OpenError::CannotCreate(_) => Code::CannotCreate,
            OpenError::InUse(_) => Code::TryLater,
            OpenError::Permission(_) => Code::Permission,
            OpenError::Missing(_) => Code::NoInput,
            OpenError::Io(_) => Code::Io,
        };
        Self::new(code, e.to_string())
    }
}

fn io_failure(e: &io::Error) -> Failure {
    let code = match e.kind() {
        io::ErrorKind::PermissionDenied => Code::Permission,
        io::ErrorKind::InvalidData => Code::Data,
        _ => Code::Io,
    };
    Failure::new(code, e.to_string())
}

fn output_failed(e: &io::Error) -> Failure {
    Failure::new(Code::Io, format!("standard output: {e}"))
}

/// The text on one line, with nothing in it that a terminal would obey or that would show text
/// in another order than it stands.
fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{61c}' | '\u{feff}');
        match c {
            '\\' | '\n' | '\t' | '\r' => line.extend(c.escape_default()),
            _ if c.is_control() || hidden => line.extend(c.escape_unicode()),
            _ => line.push(c),
        }
    }
    line
}

/// RFC 3339 in UTC, to the second.
fn rfc3339(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_note() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_753_000_000, "2025-07-20T08:26:40Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_s * 1000 + 999), text);
        }
    }

    #[test]
    fn nothing_in_a_text_reaches_the_terminal_as_a_command() {
        assert_eq!(escaped("a\n\tb\\n\u{1b}[2J\u{202e}ä"), r"a\n\tb\\n\u{1b}[2J\u{202e}ä");
        assert_eq!(escaped("\u{9b}\u{7f}"), r"\u{9b}\u{7f}");
    }
}
