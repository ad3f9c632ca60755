//! What `mms send` and `mms broadcast` tell of their messages, and the exit code that comes of it.

use super::account::{failure, put, tell};
use super::{Code, Failure};
use crate::client::link::State;
use crate::client::oneshot::Trouble;
use crate::client::sender::{Message, To};
use crate::client::shown::{Json, Shown};
use crate::proto::coded_client::{Answer, Fate, Refused};
use crate::proto::id::LetterId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line for each reader.
    Plain,
    /// An object a line.
    Json,
}

/// What is told of messages, and the worst of it.
pub(super) struct Report<'a> {
    to: &'a To,
    form: Form,
    address: &'a str,
    /// For so many seconds it was waited for delivery, if at all.
    wait_s: Option<u64>,
    worst: Option<Failure>,
    late: Missing,
    untold: Missing,
    /// Why the waiting ended, if not by time.
    broken: Option<String>,
}

/// Who does not have what is stored for him: how many messages.
#[derive(Debug, Default)]
struct Missing {
    users: BTreeMap<String, u64>,
    /// Of broadcasts.
    unnamed: u64,
}

impl<'a> Report<'a> {
    /// Nothing told yet. `wait_s`: how long delivery is waited for, if it is.
    pub(super) fn new(to: &'a To, form: Form, address: &'a str, wait_s: Option<u64>) -> Self {
        let (late, untold) = (Missing::default(), Missing::default());
        Self { to, form, address, wait_s, worst: None, late, untold, broken: None }
    }

    /// Where the server is.
    pub(super) fn address(&self) -> &str {
        self.address
    }

    /// Tells what became of these messages; `sent` is how the last attempt at them ended.
    pub(super) fn tell<'m>(
        &mut self,
        messages: impl Iterator<Item = &'m Message> + Clone,
        sent: Result<(), Trouble>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut text = String::new();
        for message in messages.clone() {
            if let Some(answer) = &message.answer {
                self.answered(message, answer, &mut text);
                self.missed(message);
            }
        }
        put(out, &text)?;
        let Err(trouble) = sent else { return Ok(()) };
        let open = || messages.clone().filter(|message| message.answer.is_none());
        if self.wait_s.is_some() && open().next().is_none() {
            // All are stored; only their delivery is not known.
            let in_time = matches!(trouble, Trouble::TimedOut(State::In));
            self.broken = (!in_time).then(|| trouble.to_string());
            return Ok(());
        }
        let why = failure(self.address, &trouble);
        let mut unknown = open().filter(|message| message.tried).peekable();
        if unknown.peek().is_none() {
            self.worse(why);
            return Ok(());
        }
        for message in unknown {
            let key = &message.key;
            tell(&format!("not known whether it was stored; safe to repeat with: --id {key}"));
        }
        self.worse(Failure::new(Code::Unknown, why.message));
        Ok(())
    }

    /// The end: the worst that was told. What is stored and not delivered is better than anything
    /// that is not stored.
    pub(super) fn end(self) -> Result<(), Failure> {
        let within = match (&self.broken, self.wait_s) {
            (Some(why), _) => format!("stored, but not known to be delivered, as {why}"),
            (None, seconds) => {
                format!("stored, but not delivered within {} s", seconds.unwrap_or_default())
            }
        };
        let untold = "stored, but nothing more was told of its delivery";
        let missing = [(&*within, &self.late), (untold, &self.untold)];
        let told = missing.into_iter().filter(|(_, missing)| !missing.is_none());
        let told: Vec<String> = told.map(|(why, missing)| format!("{why}: {missing}")).collect();
        let told = told.join("; ");
        match self.worst {
            Some(worst) => {
                if !told.is_empty() {
                    tell(&told);
                }
                Err(worst)
            }
            None if told.is_empty() => Ok(()),
            None => Err(Failure::new(Code::Undelivered, told)),
        }
    }

    fn missed(&mut self, message: &Message) {
        if self.wait_s.is_none() {
            return;
        }
        let missing = if message.is_awaited() { &mut self.late } else { &mut self.untold };
        match message.answer {
            // How many they were is not known any more.
            Some(Answer::Stored { .. }) if message.unnamed > 0 => {
                *missing.users.entry("all".into()).or_default() += 1;
            }
            _ => missing.unnamed += message.unnamed,
        }
        for name in &message.open {
            *missing.users.entry(name.clone()).or_default() += 1;
        }
    }

    fn worse(&mut self, failure: Failure) {
        match &self.worst {
            Some(worst) if rank(worst.code) >= rank(failure.code) => {}
            _ => self.worst = Some(failure),
        }
    }

    fn answered(&mut self, message: &Message, answer: &Answer, text: &mut String) {
        let only = match self.to {
            To::Users(names) if names.len() == 1 => &*names[0],
            _ => "",
        };
        match (answer, self.to) {
            // Of a list that an earlier try had stored each is told of, if each is known.
            (Answer::Stored { id, fate: Fate::Known, .. }, To::Users(names))
                if self.wait_s.is_some() =>
            {
                for name in names {
                    self.fate(message, Some(*id), name, Fate::Known, text);
                }
            }
            (Answer::Stored { id, fate, to }, _) => {
                let to = if to.is_empty() { only } else { to };
                self.fate(message, Some(*id), to, *fate, text);
            }
            (Answer::Fates { id, fates }, _) => {
                for (name, fate) in fates {
                    self.fate(message, *id, name, *fate, text);
                }
            }
            (Answer::Broadcast { id, count, full, more }, _) => {
                self.broadcast(message, *id, *count, full, *more, text);
            }
            (Answer::Refused(refused), _) => self.refused(&message.key, only, refused, text),
            _ => {
                let message = format!("{}: an odd answer", self.address);
                self.worse(Failure::new(Code::Protocol, message));
            }
        }
    }

    fn broadcast(
        &mut self,
        message: &Message,
        id: Option<LetterId>,
        count: u64,
        full: &[String],
        more: u64,
        text: &mut String,
    ) {
        let waits = self.wait_s.is_some();
        if self.form == Form::Json {
            let full: Vec<String> = full.iter().map(|name| Json(name).to_string()).collect();
            let (key, id, full) = (Json(&message.key), JsonId(id), full.join(","));
            _ = write!(text, "{{\"key\":{key},\"id\":{id},\"users\":{count},\"full\":[{full}]");
            if more > 0 {
                _ = write!(text, ",\"more\":{more}");
            }
            if waits {
                let delivered = count.saturating_sub(message.unnamed);
                _ = write!(text, ",\"delivered\":{delivered}");
            }
            text.push_str("}\n");
        } else {
            let plural = if count == 1 { "" } else { "s" };
            let all = waits && message.unnamed == 0;
            let word = if all { "delivered" } else { "sent" };
            _ = writeln!(text, "{count} user{plural}: {word}");
        }
        for name in full {
            self.worse(Failure::new(Code::CannotCreate, words_of(Fate::Full, name)));
        }
        if more > 0 {
            let message = format!("{more} more mailboxes are full");
            self.worse(Failure::new(Code::CannotCreate, message));
        }
    }

    fn fate(
        &mut self,
        message: &Message,
        id: Option<LetterId>,
        name: &str,
        fate: Fate,
        text: &mut String,
    ) {
        let open = message.open.iter().any(|open| open.eq_ignore_ascii_case(name));
        let delivered = self.wait_s.is_some() && fate <= Fate::Known && !open;
        let delivered = delivered && message.unnamed == 0;
        let word = if delivered { "delivered" } else { fate.word() };
        if self.form == Form::Json {
            let (key, id, name) = (Json(&message.key), JsonId(id), Json(name));
            _ = writeln!(text, "{{\"key\":{key},\"id\":{id},\"user\":{name},\"fate\":\"{word}\"}}");
        } else if name.is_empty() {
            _ = writeln!(text, "{word}");
        } else {
            _ = writeln!(text, "{}: {word}", Shown(name));
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
        if self.form == Form::Json {
            let (key, name) = (Json(key), Json(name));
            _ = writeln!(text, "{{\"key\":{key},\"id\":null,\"user\":{name},\"fate\":\"{fate}\"}}");
        }
        self.worse(Failure::new(code, refused.to_string()));
    }
}

impl Missing {
    fn is_none(&self) -> bool {
        self.users.is_empty() && self.unnamed == 0
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.users.iter().map(|(name, messages)| match messages {
            1 => Shown(name).to_string(),
            n => format!("{} ({n} messages)", Shown(name)),
        });
        let unnamed = (self.unnamed > 0).then(|| match self.unnamed {
            1 => "1 user".into(),
            n => format!("{n} users"),
        });
        f.write_str(&named.chain(unnamed).collect::<Vec<_>>().join(", "))
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
