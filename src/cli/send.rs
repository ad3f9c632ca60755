//! `mms send` and `mms broadcast`: messages from scripts, and what became of each.

use super::account::{Account, failure};
use super::lines::{Lines, random_key};
use super::report::{Form, Report};
use super::{Code, Failure};
use crate::client::oneshot::Errand;
use crate::client::sender::{self, Message, Sender, To};
use crate::limits::{COUNTED_BYTES, KEY_BYTES, LIST_RECIPIENTS};
use crate::net::Clock;
use crate::proto::coded_client::Kind;
use crate::proto::name::UserName;
use clap::{Args, ValueEnum};
use std::io::{self, IsTerminal as _, Read as _, Write};

/// Most bytes read from stdin as one message; the server's own limit is lower.
const STDIN_BYTES: u64 = 1 << 20;

/// Send a message to one user or several.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms send fred 'lunch?'
  mms send fred,tim,libero 'the build is green'
  date | mms send fred                     the whole of stdin is one message
  tail -f app.log | mms send ops --lines   one message a line, over one connection
  mms send fred 'pay 5' --id invoice-17    sent again under this key, it is stored once
  mms send fred 'now!' --wait delivered --timeout 600    until fred has it, 10 minutes at most

Prints what became of it: sent (the reader is there), saved (waits for the reader), known (an
earlier try with this key had stored it), delivered (with --wait delivered: the reader has it for
good). After a lost connection it tries again under the same key, so nothing is stored twice. The
last line end of stdin is no part of the message.

With --lines what became of a line is printed once nothing more is to be learned of it and of those
before it. The first line that is not delivered in time ends the waiting: those behind it are stored
all the same. A user may send 10,000 messages a day; of the lines of one command no more than 100
count for that, but with --id all, and all of the 257th longer command within 30 days.

Exit codes: 0 stored, with --wait delivered: delivered; 1 not known whether it was stored:
repeat it with the --id that is told; 2 stored, but not delivered when the wait ran out; 64
wrong usage; 65 the message or a name will not do; 66 no such password file; 67 no such user; 69
no server there; 73 mailbox full; 75 not stored, try later; 76 that is no MMS server, or not the
one that is known; 77 wrong user or password; 78 the saved keys, known_hosts or the file of --ca
will not do. A list exits with its worst fate, of which 2 is the best, as all others are not
stored; who can be reached gets the message all the same.")]
pub struct Send {
    /// The user, or several with commas between them.
    #[arg(value_name = "USER[,USER…]")]
    to: String,
    #[command(flatten)]
    sending: Sending,
}

/// Send a message to everyone who is online.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms broadcast 'the printer works again'
  uptime | mms broadcast

Who is not online does not get it. Prints how many do. With --wait delivered a lost connection ends
the waiting: whom a broadcast was for the server does not remember.

Exit codes: 0 stored, with --wait delivered: delivered to all of them; 1 not known whether it
was stored: repeat it with the --id that is told; 2 stored, but not delivered to all when the
wait ran out; 64 wrong usage; 65 the message will not do; 66 no such password file; 67 nobody
else is online; 69 no server there; 73 some mailbox is full; 75 not stored, try later; 76 that
is no MMS server, or not the one that is known; 77 wrong user or password; 78 the saved keys,
known_hosts or the file of --ca will not do.")]
pub struct Broadcast {
    #[command(flatten)]
    sending: Sending,
}

#[derive(Debug, Args)]
struct Sending {
    /// The message; '-' or nothing: from stdin.
    text: Vec<String>,
    #[command(flatten)]
    account: Account,
    /// What to wait for.
    #[arg(long, value_enum, default_value = "queued")]
    wait: Wait,
    /// The message's own key: letters, digits, '.', '_', ':', '-'.
    #[arg(long, value_name = "KEY")]
    id: Option<String>,
    /// How long to try, and to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Each line of stdin is a message; blank ones are skipped.
    #[arg(long)]
    lines: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Until the server has stored it.
    Queued,
    /// Until all readers have it.
    Delivered,
}

impl Send {
    /// Sends, and tells what became of it.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut names = Vec::new();
        for word in self.to.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let name = UserName::new(word)
                .map_err(|fault| Failure::new(Code::Data, format!("{word:?}: {fault}")))?;
            names.push(name.as_str().to_owned());
        }
        if names.is_empty() || names.len() > LIST_RECIPIENTS {
            let message = format!("to whom? 1 to {LIST_RECIPIENTS} users, as in fred,tim");
            return Err(Failure::new(Code::Usage, message));
        }
        self.sending.run(&To::Users(names), out)
    }
}

impl Broadcast {
    /// Sends, and tells how many get it.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.sending.run(&To::Everyone, out)
    }
}

impl Sending {
    fn run(&self, to: &To, out: &mut dyn Write) -> Result<(), Failure> {
        self.check()?;
        let from_stdin = self.text.is_empty() || self.text == ["-"];
        if from_stdin && self.account.takes_stdin() {
            let message = "stdin cannot be both the password and the message";
            return Err(Failure::new(Code::Usage, message));
        }
        if self.text.is_empty() && io::stdin().is_terminal() {
            let message = "there is no message: give it as an argument, or on stdin";
            return Err(Failure::new(Code::Usage, message));
        }
        let (address, login) = self.account.login(Kind::Tool)?;
        let route = self.account.route()?;
        let clock = Clock::start();
        let now = || clock.now().mono;
        let timeout_ms = self.timeout.saturating_mul(1000);
        let until = now().plus(timeout_ms);
        let errand = Errand { server: &route, login: &login, clock: &now, until };
        let wait = match self.wait {
            Wait::Queued => sender::Wait::Stored,
            Wait::Delivered => sender::Wait::Delivered,
        };
        let mut sender = Sender::new(errand, to, timeout_ms, wait);
        let wait_s = (self.wait == Wait::Delivered).then_some(self.timeout);
        let form = if self.json { Form::Json } else { Form::Plain };
        let mut report = Report::new(to, form, &address, wait_s);
        if self.lines {
            Lines::new(sender, to, self.id.clone(), wait).send_all(&mut report, out)?;
        } else {
            let text = if from_stdin { whole_stdin()? } else { self.text.join(" ") };
            check_length(&text)?;
            check_content(&text)?;
            let key = self.id.clone().map_or_else(random_key, Ok);
            let key = key.map_err(|trouble| failure(&address, &trouble))?;
            let mut messages = [Message::new(key, text)];
            let sent = sender.send(&mut messages, wait, wait == sender::Wait::Stored);
            let stays = wait == sender::Wait::Delivered && sent.is_ok();
            report.tell(messages.iter(), sent, out)?;
            if stays {
                sender.close();
            }
        }
        report.end()
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |message: &str| Err(Failure::new(Code::Usage, message));
        if self.lines && !(self.text.is_empty() || self.text == ["-"]) {
            return wrong("--lines takes the messages from stdin; leave the text out");
        }
        if !self.text.is_empty() && self.text != ["-"] {
            check_content(&self.text.join(" "))?;
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        match &self.id {
            Some(id) if id.is_empty() || id.len() > KEY_BYTES || !id.bytes().all(plain) => {
                wrong("--id: 1 to 64 letters, digits, '.', '_', ':' and '-'")
            }
            // Room for the number of a line.
            Some(id) if self.lines && id.len() > KEY_BYTES - 20 => {
                wrong("--id: at most 44 characters with --lines, which puts a number behind it")
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Code::NoInput, format!("stdin: {error}"))
}

fn whole_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut stdin = io::stdin().lock().take(STDIN_BYTES + 1);
    stdin.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > STDIN_BYTES {
        return Err(Failure::new(Code::Data, "stdin: that is too long for a message"));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    text(bytes)
}

fn check_content(text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::new(Code::Data, "the message is empty; nothing was sent"));
    }
    Ok(())
}

pub(super) fn check_length(text: &str) -> Result<(), Failure> {
    if text.len() <= COUNTED_BYTES {
        return Ok(());
    }
    let message =
        format!("the message has {} bytes; at most {COUNTED_BYTES} are allowed", text.len());
    Err(Failure::new(Code::Data, message))
}

/// A text with the line ends that a message has.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::Data, "stdin: the message is not UTF-8"))?;
    let text = text.strip_suffix('\r').unwrap_or(&text);
    Ok(text.replace("\r\n", "\n"))
}
