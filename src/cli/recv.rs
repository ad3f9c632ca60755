//! `mms recv`: takes letters off the server, for scripts. A letter is acknowledged only once it is
//! written, or the command that it was given to has ended well; until then it stays on the server.

use super::account::{Account, failure, tell};
use super::{Code, Failure};
use crate::client::link::{Event, Why};
use crate::client::oneshot::{Conversation, Errand, Tries, Trouble};
use crate::client::screen;
use crate::client::shown::{Json, Shown, ShownLines};
use crate::net::Clock;
use crate::proto::coded_client::{Ask, Condition, Kind, Letter};
use crate::proto::id::LetterId;
use crate::time::Millis;
use clap::Args;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Command, Stdio};

/// How long everything takes that waits for the server only, in milliseconds.
const PATIENCE_MS: u64 = 30_000;

/// Take the messages that wait for you.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms recv                                 what waits, then ends
  mms recv -n 1 --timeout 60               the next message, if one comes within a minute
  mms recv --follow --json                 each message as it comes, for good
  mms recv --follow --exec 'tee -a inbox'  each to a command; stdin is the text

JSON: {\"id\":\"1790000000.7\",\"unix_ms\":1790000000123,\"from\":\"tim\",\"text\":\"hi\",
\"again\":false,\"broadcast\":false}, one a line. A command finds MMS_ID, MMS_UNIX_MS,
MMS_FROM, MMS_AGAIN and MMS_BROADCAST (0 or 1) in its environment.

You are online while it runs, so it takes the place of a session of yours. A message leaves the
server once it was written to stdout, or the command has ended with 0. If that was cut short, it
comes once more, marked as repeated.

Exit codes: 64 no user or no password given; 65 the name or the password file will not do; 66 no
such password file; 69 no server there; 74 stdout cannot be written; 75 try later: signed in
elsewhere, or the time was up; or the command failed; 76 that is no MMS server, or not the one
that is known; 77 wrong user or password; 78 the saved keys, known_hosts or the file of --ca
will not do.")]
pub struct Recv {
    #[command(flatten)]
    account: Account,
    /// End after that many messages, and wait for them.
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long to wait for messages.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Go on for good, over lost connections, too.
    #[arg(long)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Give each message to this command of the shell.
    #[arg(long, value_name = "CMD", conflicts_with = "json", value_parser = shell_command)]
    exec: Option<String>,
}

/// An empty command ends well and keeps nothing.
fn shell_command(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("an empty command would take the messages and keep none");
    }
    Ok(text.into())
}

/// How an attempt ended.
enum End {
    Done,
    TimeUp,
    Failed(Failure),
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What has been taken so far, over all connections.
#[derive(Default)]
struct Taken {
    count: u64,
    /// The last letter that was written.
    last: Option<LetterId>,
}

impl Recv {
    /// Takes letters until there is no more to take, or to wait for.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (address, login) = self.account.login(Kind::Listener)?;
        let route = self.account.route()?;
        let clock = Clock::start();
        let now = || clock.now().mono;
        let waits = self.count.is_some() || self.follow;
        let until = match self.timeout {
            Some(timeout) => now().plus(timeout.saturating_mul(1000)),
            None if waits => Millis(u64::MAX),
            None => now().plus(PATIENCE_MS),
        };
        let out = &mut BufWriter::new(out);
        let mut tries = Tries::new(&now, until);
        let mut taken = Taken::default();
        loop {
            let patience = now().plus(PATIENCE_MS).min(until);
            let errand = Errand { server: &route, login: &login, clock: &now, until: patience };
            let Err(end) = self.once(&errand, until, &mut tries, &mut taken, out) else {
                continue;
            };
            match end {
                End::Done => return Ok(()),
                End::TimeUp if self.follow && self.count.is_none() => return Ok(()),
                End::TimeUp => {
                    let message = format!("the time is up; {} came", messages(taken.count));
                    return Err(Failure::new(Code::TryLater, message));
                }
                End::Failed(failure) => return Err(failure),
                End::Trouble(trouble) => {
                    tries.pause(trouble).map_err(|trouble| failure(&address, &trouble))?
                }
            }
        }
    }

    /// One connection. It ends with a reason only.
    fn once(
        &self,
        errand: &Errand<'_>,
        until: Millis,
        tries: &mut Tries<'_>,
        taken: &mut Taken,
        out: &mut dyn Write,
    ) -> Result<(), End> {
        let mut conversation = Conversation::open(errand)?;
        if self.follow {
            tries.succeeded(true);
        }
        let waiting = conversation.waiting;
        let mut most = self.most(taken.count, waiting);
        // The last acknowledgement was perhaps not heard; then that letter comes once more.
        let mut owed = taken.last.filter(|_| waiting > 0);
        while taken.count < most || owed.is_some() {
            match conversation.wait(until)? {
                Some(Event::Letter(letter)) => {
                    owed = owed.filter(|&owed| letter.id < owed);
                    let is_new = taken.last.is_none_or(|last| letter.id > last);
                    if is_new && taken.count >= most {
                        break;
                    }
                    if is_new {
                        self.take(&letter, out)?;
                        taken.last = Some(letter.id);
                        taken.count += self.counts(&letter);
                        tries.succeeded(self.follow);
                    } else if self.count.is_none() && !self.follow {
                        // It was among those that waited.
                        most = most.saturating_sub(1);
                    }
                    let enough = taken.count >= most && owed.is_none();
                    if enough || self.exec.is_some() || conversation.link.is_quiet() {
                        flush(out)?;
                        conversation.link.ask(&Ask::Ack(letter.id));
                    }
                }
                Some(Event::Notice(112, fields)) => {
                    let line = screen::notice(112, &fields, &conversation.user);
                    line.iter().for_each(|line| tell(&line.text));
                }
                Some(_) => {}
                None => {
                    conversation.close((errand.clock)().plus(1000));
                    return Err(End::TimeUp);
                }
            }
        }
        if conversation.close((errand.clock)().plus(PATIENCE_MS)) {
            return Err(End::Done);
        }
        Err(End::Trouble(Trouble::Closed(Why::Lost)))
    }

    /// How many to take in all, if so many were taken before and so many wait: a number that only
    /// the server vouches for.
    fn most(&self, taken: u64, waiting: u64) -> u64 {
        match self.count {
            Some(count) => count,
            None if self.follow => u64::MAX,
            None if waiting == 0 && self.timeout.is_some() => taken.max(1),
            None => taken.saturating_add(waiting),
        }
    }

    /// One whose text is lost was among those that waited, and is none of those asked for.
    fn counts(&self, letter: &Letter) -> u64 {
        u64::from(letter.condition == Condition::Whole || self.count.is_none())
    }

    /// Writes a letter or gives it to the command; of one that is lost it is told.
    fn take(&self, letter: &Letter, out: &mut dyn Write) -> Result<(), End> {
        if letter.condition == Condition::Damaged {
            tell(&screen::lost(letter));
            return Ok(());
        }
        match &self.exec {
            Some(command) => execute(command, letter),
            None => {
                let line = if self.json { json(letter) } else { plain(letter) };
                out.write_all(line.as_bytes()).map_err(|error| unwritten(&error))
            }
        }
    }
}

fn messages(count: u64) -> String {
    format!("{count} message{}", if count == 1 { "" } else { "s" })
}

fn flush(out: &mut dyn Write) -> Result<(), End> {
    out.flush().map_err(|error| unwritten(&error))
}

/// Nothing more can be written: what was not acknowledged stays on the server.
fn unwritten(error: &io::Error) -> End {
    if error.kind() == ErrorKind::BrokenPipe {
        return End::Done;
    }
    End::Failed(Failure::new(Code::Io, format!("stdout: {error}")))
}

fn plain(letter: &Letter) -> String {
    let again = if letter.again { "(again) " } else { "" };
    format!("{again}{}: {}\n", Shown(&letter.from), ShownLines(&letter.text))
}

fn json(letter: &Letter) -> String {
    format!(
        "{{\"id\":\"{}\",\"unix_ms\":{},\"from\":{},\"text\":{},\"again\":{},\"broadcast\":{}}}\n",
        letter.id,
        letter.unix_ms,
        Json(&letter.from),
        Json(&letter.text),
        letter.again,
        letter.broadcast
    )
}

fn execute(command: &str, letter: &Letter) -> Result<(), End> {
    let failed = |what: String| {
        let message = format!("{command}: {what}; the message from {} stays", Shown(&letter.from));
        End::Failed(Failure::new(Code::TryLater, message))
    };
    let digit = |yes: bool| if yes { "1" } else { "0" };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .env("MMS_ID", letter.id.to_string())
        .env("MMS_UNIX_MS", letter.unix_ms.to_string())
        // Of a broken server it need not be a name.
        .env("MMS_FROM", Shown(&letter.from).to_string())
        .env("MMS_AGAIN", digit(letter.again))
        .env("MMS_BROADCAST", digit(letter.broadcast))
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command need not read; how it ends is what counts.
        _ = stdin.write_all(harmless(&letter.text).as_bytes());
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The text with a line end behind it. A server that lets through what drives a terminal is none
/// of ours, and the command may well write to one.
fn harmless(text: &str) -> String {
    text.split('\n').map(|line| format!("{}\n", Shown(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recv: Recv,
    }

    #[test]
    fn a_command_gets_nothing_that_drives_a_terminal() {
        assert_eq!(harmless("a\n\x1b[2J\u{202e}\tb"), "a\n\\u{1b}[2J\\u{202e}\tb\n");
        assert_eq!(harmless("żółć 👩\u{200d}🚀\n"), "żółć 👩\u{200d}🚀\n\n");
    }

    #[test]
    fn what_a_server_says_of_the_number_that_waits_is_not_trusted() {
        let most = |words: &[&str], taken, waiting| {
            Line::parse_from([&["mms"], words].concat()).recv.most(taken, waiting)
        };
        assert_eq!(most(&[], 2, u64::MAX), u64::MAX);
        assert_eq!(most(&[], 2, 3), 5);
        assert_eq!(most(&["--timeout", "9"], 0, 0), 1);
        assert_eq!(most(&["-n", "7"], 2, u64::MAX), 7);
        assert_eq!(most(&["--follow"], 2, 0), u64::MAX);
    }
}
