//! `mms spool purge|hold`: what an operator decides over letters, while no server runs there.

use super::{escaped, io_failure, open, survey};
use crate::cli::{Code, Failure};
use crate::net::Clock;
use crate::store::custody::{Decision, decide};
use crate::store::disk::FileDisk;
use crate::store::foresight::foresee;
use crate::store::survey::{MailboxSurvey, Survey};
use clap::Args;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::Path;

/// Remove a user's messages for good: those that are held, unless --waiting is given
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms spool purge fred               what is held of a fred who was removed
  mms spool purge fred --waiting     what waits for fred
  mms spool purge fred --held --waiting --yes

Held messages are nobody's any more, so they are what is removed unless --waiting is given.
Nothing else of the user changes, nor anything of others, nor what a sender's key is good for.
Stop the server first. Asks on a terminal; elsewhere --yes is needed.

Exit codes: 64 not confirmed; 65 the spool is damaged; 66 there is no such directory; 67 there
are no such messages; 74 the disk failed; 75 a server has the spool; 77 no permission.")]
pub(super) struct Purge {
    /// The user's name, upper or lower case
    user: String,
    /// What is held
    #[arg(long)]
    held: bool,
    /// What waits
    #[arg(long)]
    waiting: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Hold what waits for a user, so that it is not delivered; or, with --release, give what is held
/// to whoever has the name now
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms spool hold fred             fred does not get what waits for him
  mms spool hold fred --release   whoever is called fred gets what is held

Held messages stay in the spool until they are released or purged. The server holds by itself
what waits for a user who is removed, and never gives it to another one of that name: only
--release does. Released messages are new ones: they have new numbers, their old time, and stand
behind what waits already; (again) marks them if anybody of that name may have seen them. If
nobody in the password file has the name, the server holds them again when it starts.
Stop the server first. Asks on a terminal; elsewhere --yes is needed.

Exit codes: 64 not confirmed; 65 the spool is damaged; 66 there is no such directory; 67 there
are no such messages; 74 the disk failed; 75 a server has the spool; 77 no permission.")]
pub(super) struct Hold {
    /// The user's name, upper or lower case
    user: String,
    /// Give what is held to whoever has the name now
    #[arg(long)]
    release: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Whether somebody is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    Given,
    Wanted,
}

impl Consent {
    fn of(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Wanted }
    }
}

impl Purge {
    pub(super) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        let decision = match (self.held, self.waiting) {
            (_, false) => Decision::PurgeHeld,
            (false, true) => Decision::PurgeWaiting,
            (true, true) => Decision::PurgeAll,
        };
        carry_out(dir, &self.user, decision, Consent::of(self.yes), out)
    }
}

impl Hold {
    pub(super) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        let decision = if self.release { Decision::Release } else { Decision::Hold };
        carry_out(dir, &self.user, decision, Consent::of(self.yes), out)
    }
}

fn carry_out(
    dir: &Path,
    user: &str,
    decision: Decision,
    consent: Consent,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if consent == Consent::Wanted && !io::stdin().is_terminal() {
        let message = "stdin is no terminal, so nobody can be asked: repeat it with --yes";
        return Err(Failure::new(Code::Usage, message));
    }
    // A directory that is no spool is not made one by looking for somebody's letters there.
    concerned(&survey(dir)?.1, user, decision)?;
    let mut disk = FileDisk::open(dir)?;
    let foreseen = foresee(&mut disk).map_err(|e| open(&e))?;
    // Of a segment that is missing as a whole a start only tells: it saves nothing of it.
    let missing: u64 = foreseen.missing.iter().map(|gap| gap.segments()).sum();
    if foreseen.lost_places > missing {
        let message = format!(
            "the spool is damaged and nothing was changed: {}; start the server once, which saves \
             what is whole, or restore a backup",
            foreseen.lines.join("; ")
        );
        return Err(Failure::new(Code::Data, message));
    }
    // Nobody changes it from here on.
    let survey = Survey::take(&mut disk).map_err(|e| open(&e))?;
    let (mailbox, letters) = concerned(&survey, user, decision)?;
    if consent == Consent::Wanted {
        ask(&question(decision, letters, &mailbox.name))?;
    }
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(|e| io_failure(&io::Error::other(e)))?;
    let now_unix_ms = Clock::start().now().unix_ms;
    let done = decide(&mut disk, user, decision, now_unix_ms, u64::from_le_bytes(name))
        .map_err(|e| open(&e))?;
    for line in done.recovery.lines.iter().chain(&done.recovery.repairs) {
        _ = writeln!(io::stderr(), "mms: spool: {line}");
    }
    let text = answer(decision, done.letters, &mailbox.name);
    // It is done; that nobody reads of it does not undo it.
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

/// The mailbox and how many letters of it are meant; at least one.
fn concerned<'a>(
    survey: &'a Survey,
    user: &str,
    decision: Decision,
) -> Result<(&'a MailboxSurvey, usize), Failure> {
    let mailbox = survey.mailboxes.get(&user.to_ascii_lowercase());
    let found = mailbox.map(|mailbox| (mailbox, decision.concerns(mailbox)));
    if let Some(found) = found.filter(|(_, letters)| *letters > 0) {
        return Ok(found);
    }
    let user = escaped(user);
    let (held, waiting) = mailbox.map_or((0, 0), |m| (m.held.len(), m.waiting.len()));
    let message = match decision {
        Decision::PurgeHeld if waiting > 0 => {
            format!("nothing is held for {user}; for the {waiting} that wait: --waiting")
        }
        Decision::PurgeHeld | Decision::Release => format!("nothing is held for {user}"),
        Decision::PurgeWaiting | Decision::Hold if held > 0 => {
            format!("nothing waits for {user}; {held} are held")
        }
        _ => format!("nothing waits for {user}"),
    };
    Err(Failure::new(Code::NoUser, message))
}

fn messages(count: usize) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

fn question(decision: Decision, count: usize, user: &str) -> String {
    let count = messages(count);
    match decision {
        Decision::PurgeHeld => format!("Remove {count} held of {user} for good?"),
        Decision::PurgeWaiting => format!("Remove {count} waiting for {user} for good?"),
        Decision::PurgeAll => format!("Remove {count} waiting for {user}, or held, for good?"),
        Decision::Hold => format!("Hold {count} waiting for {user}?"),
        Decision::Release => format!("Give {count} held of {user} to whoever has that name now?"),
    }
}

fn answer(decision: Decision, count: usize, user: &str) -> String {
    let count = messages(count);
    match decision {
        Decision::PurgeHeld | Decision::PurgeWaiting | Decision::PurgeAll => {
            format!("{count} of {user} removed\n")
        }
        Decision::Hold => format!("{count} of {user} held\n"),
        Decision::Release => format!("{count} of {user} released\n"),
    }
}

/// Asks at the terminal. Anything but yes is no.
fn ask(question: &str) -> Result<(), Failure> {
    let mut line = String::new();
    let asked = write!(io::stderr(), "{question} [y/N] ");
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut line));
    read.map_err(|e| Failure::new(Code::Io, format!("no answer: {e}; nothing was changed")))?;
    if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Code::Usage, "not confirmed; nothing was changed"))
}
