//! `mms send` and `mms broadcast`: messages from scripts, and what became of each.

use super::account::{Account, failure, put, tell};
use super::{Code, Failure};
use crate::client::oneshot::{Errand, Message, Sender, To, Trouble, entropy};
use crate::client::shown::{Json, Shown};
use crate::limits::{COUNTED_BYTES, KEY_BYTES, LIST_RECIPIENTS};
use crate::net::Clock;
use crate::proto::coded_client::{Answer, Fate, Kind, Refused};
use crate::proto::id::LetterId;
use crate::proto::name::UserName;
use clap::{Args, ValueEnum};
use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write};

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

Prints what became of it: sent (the reader is there), saved (waits for the reader), known (an
earlier try with this key had stored it). After a lost connection it tries again under the same
key, so nothing is stored twice. The last line end of stdin is no part of the message.

Exit codes: 0 stored; 1 not known whether it was stored: repeat it with the --id that is told; 64
wrong usage; 65 the message or a name will not do; 67 no such user; 69 no server there; 73 mailbox
full; 75 not stored, try later; 76 that is no MMS server; 77 wrong user or password. A list exits
with its worst fate; who can be reached gets the message all the same.")]
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

Who is not online does not get it. Prints how many do.

Exit codes: 0 stored; 1 not known whether it was stored: repeat it with the --id that is told; 64
wrong usage; 65 the message will not do; 67 nobody else is online; 69 no server there; 73 some
mailbox is full; 75 not stored, try later; 76 that is no MMS server; 77 wrong user or password.")]
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
    /// How long to try.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
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
    /// Until the reader has it; servers do not tell that yet.
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
        let clock = Clock::start();
        let now = || clock.now().mono;
        let timeout_ms = self.timeout.saturating_mul(1000);
        let until = now().plus(timeout_ms);
        let errand = Errand { server: &address, login: &login, clock: &now, until };
        let mut sender = Sender::new(errand, to, timeout_ms);
        let mut report = Report { to, json: self.json, address: &address, worst: None };
        if self.lines {
            self.each_line(&mut sender, &mut report, out)?;
            sender.close();
        } else {
            let text = if from_stdin { whole_stdin()? } else { self.text.join(" ") };
            check_length(&text)?;
            let key = self.key(None).map_err(|trouble| failure(&address, &trouble))?;
            let mut messages = [Message::new(key, text)];
            let sent = sender.send(&mut messages, true);
            report.tell(&messages, sent, out)?;
        }
        report.worst.map_or(Ok(()), Err)
    }

    fn check(&self) -> Result<(), Failure> {
        let wrong = |message: &str| Err(Failure::new(Code::Usage, message));
        if self.wait == Wait::Delivered {
            return wrong("--wait delivered: servers do not tell yet when a reader has a message");
        }
        if self.lines && !(self.text.is_empty() || self.text == ["-"]) {
            return wrong("--lines takes the messages from stdin; leave the text out");
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

    /// The key of a message: the user's own, with the line's number if there are several.
    fn key(&self, line: Option<u64>) -> Result<String, Trouble> {
        let mut key = self.id.clone().unwrap_or_default();
        match (&self.id, line) {
            (Some(_), Some(line)) => key += &format!(".{line}"),
            (Some(_), None) => {}
            (None, _) => {
                for byte in entropy::<16>()? {
                    _ = write!(key, "{byte:02x}");
                }
            }
        }
        Ok(key)
    }

    /// Sends what lines there are, then waits for more.
    fn each_line(
        &self,
        sender: &mut Sender<'_>,
        report: &mut Report<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let (mut stdin, mut rest, mut count) = (io::stdin().lock(), Vec::new(), 0);
        loop {
            let bytes = stdin.fill_buf().map_err(|error| unreadable(&error))?;
            let ended = bytes.is_empty();
            rest.extend_from_slice(bytes);
            let length = bytes.len();
            stdin.consume(length);
            let end = rest.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
            let end = if ended { rest.len() } else { end };
            if rest.len() - end > usize::try_from(STDIN_BYTES).unwrap_or(usize::MAX) {
                return Err(Failure::new(Code::Data, "stdin: a line is too long"));
            }
            let (mut messages, mut bad) = (Vec::new(), None);
            for line in rest.drain(..end).collect::<Vec<u8>>().split(|&b| b == b'\n') {
                let text = text(line.to_vec()).and_then(|text| check_length(&text).map(|()| text));
                let text = match text {
                    Ok(text) => text,
                    Err(failure) => {
                        // What came before it is sent, however stdin was cut.
                        bad = Some(failure);
                        break;
                    }
                };
                if !text.trim().is_empty() {
                    count += 1;
                    let key = self.key(Some(count));
                    let key = key.map_err(|trouble| failure(report.address, &trouble))?;
                    messages.push(Message::new(key, text));
                }
            }
            if !messages.is_empty() {
                let sent = sender.send(&mut messages, false);
                let failed = sent.is_err();
                report.tell(&messages, sent, out)?;
                if failed {
                    return Ok(());
                }
            }
            if let Some(bad) = bad {
                return Err(bad);
            }
            if ended {
                return Ok(());
            }
        }
    }
}

fn unreadable(error: &io::Error) -> Failure {
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

fn check_length(text: &str) -> Result<(), Failure> {
    if text.len() <= COUNTED_BYTES {
        return Ok(());
    }
    let message =
        format!("the message has {} bytes; at most {COUNTED_BYTES} are allowed", text.len());
    Err(Failure::new(Code::Data, message))
}

/// A text with the line ends that a message has.
fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::Data, "stdin: the message is not UTF-8"))?;
    let text = text.strip_suffix('\r').unwrap_or(&text);
    Ok(text.replace("\r\n", "\n"))
}

/// What is told of messages, and the worst of it.
struct Report<'a> {
    to: &'a To,
    json: bool,
    address: &'a str,
    worst: Option<Failure>,
}

impl Report<'_> {
    fn tell(
        &mut self,
        messages: &[Message],
        sent: Result<(), Trouble>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut text = String::new();
        for message in messages {
            if let Some(answer) = &message.answer {
                self.answered(&message.key, answer, &mut text);
            }
        }
        put(out, &text)?;
        let Err(trouble) = sent else { return Ok(()) };
        let open = messages.iter().filter(|message| message.answer.is_none());
        let unknown: Vec<&Message> = open.filter(|message| message.tried).collect();
        let why = failure(self.address, &trouble);
        match &unknown[..] {
            [] => self.worse(why),
            unknown => {
                for message in unknown {
                    tell(&format!(
                        "not known whether it was stored; safe to repeat with: --id {}",
                        message.key
                    ));
                }
                self.worse(Failure::new(Code::Unknown, why.message));
            }
        }
        Ok(())
    }

    fn worse(&mut self, failure: Failure) {
        match &self.worst {
            Some(worst) if rank(worst.code) >= rank(failure.code) => {}
            _ => self.worst = Some(failure),
        }
    }

    fn answered(&mut self, key: &str, answer: &Answer, text: &mut String) {
        let only = match self.to {
            To::Users(names) if names.len() == 1 => &*names[0],
            _ => "",
        };
        match answer {
            Answer::Stored { id, fate, to } => {
                let to = if to.is_empty() { only } else { to };
                self.fate(key, Some(*id), to, *fate, text);
            }
            Answer::Fates { id, fates } => {
                for (name, fate) in fates {
                    self.fate(key, *id, name, *fate, text);
                }
            }
            Answer::Broadcast { id, count, full } => {
                if self.json {
                    let full: Vec<String> =
                        full.iter().map(|name| Json(name).to_string()).collect();
                    let (id, full) = (JsonId(*id), full.join(","));
                    _ = writeln!(
                        text,
                        "{{\"key\":{},\"id\":{id},\"users\":{count},\"full\":[{full}]}}",
                        Json(key)
                    );
                } else {
                    let plural = if *count == 1 { "" } else { "s" };
                    _ = writeln!(text, "{count} user{plural}: sent");
                }
                for name in full {
                    self.worse(Failure::new(Code::CannotCreate, words_of(Fate::Full, name)));
                }
            }
            Answer::Refused(refused) => self.refused(key, only, refused, text),
            _ => {
                let message = format!("{}: an odd answer", self.address);
                self.worse(Failure::new(Code::Protocol, message));
            }
        }
    }

    fn fate(&mut self, key: &str, id: Option<LetterId>, name: &str, fate: Fate, text: &mut String) {
        if self.json {
            let (key, id, name) = (Json(key), JsonId(id), Json(name));
            let fate = fate.word();
            _ = writeln!(text, "{{\"key\":{key},\"id\":{id},\"user\":{name},\"fate\":\"{fate}\"}}");
        } else if name.is_empty() {
            _ = writeln!(text, "{}", fate.word());
        } else {
            _ = writeln!(text, "{}: {}", Shown(name), fate.word());
        }
        let code = match fate {
            Fate::Sent | Fate::Saved | Fate::Known => return,
            Fate::Full => Code::CannotCreate,
            Fate::ToSelf => Code::Data,
            Fate::Blocked => Code::Permission,
            Fate::Unknown => Code::NoUser,
        };
        self.worse(Failure::new(code, words_of(fate, name)));
    }

    fn refused(&mut self, key: &str, name: &str, refused: &Refused, text: &mut String) {
        let (code, fate) = match refused.code {
            452 => (Code::CannotCreate, "full"),
            400..=499 => (Code::TryLater, "later"),
            501 | 502 | 504 | 551 | 553 => (Code::Data, "refused"),
            552 => (Code::Data, "self"),
            557 => (Code::Permission, "blocked"),
            // Whether an earlier try stored it is not known.
            554 => (Code::Unknown, "refused"),
            550 | 556 => (Code::NoUser, "unknown"),
            _ => (Code::Protocol, "refused"),
        };
        if self.json {
            let (key, name) = (Json(key), Json(name));
            _ = writeln!(text, "{{\"key\":{key},\"id\":null,\"user\":{name},\"fate\":\"{fate}\"}}");
        }
        self.worse(Failure::new(code, refused.to_string()));
    }
}

/// An id in JSON, which may be missing.
struct JsonId(Option<LetterId>);

impl std::fmt::Display for JsonId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(id) => write!(f, "\"{id}\""),
            None => f.write_str("null"),
        }
    }
}

fn words_of(fate: Fate, name: &str) -> String {
    let name = Shown(name);
    match fate {
        Fate::Full => format!("the mailbox of {name} is full"),
        Fate::ToSelf => "this server takes no messages to oneself".into(),
        Fate::Blocked => format!("{name} does not want messages from you"),
        _ => format!("there is no user {name}"),
    }
}

/// How bad it is, where several things went wrong.
fn rank(code: Code) -> usize {
    let order = [
        Code::TryLater,
        Code::CannotCreate,
        Code::Data,
        Code::Permission,
        Code::NoUser,
        Code::Protocol,
        Code::Unknown,
    ];
    order.iter().position(|&one| one == code).unwrap_or(order.len() - 2)
}
