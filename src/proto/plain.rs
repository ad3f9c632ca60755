//! The plain dialect's wording: replies as lines for people, each behind `>> `.

use super::command::{Switch, Verb};
use super::name::UserName;
use super::reply::{Barred, Farewell, Fates, Flushed, Names, Prompt, Refusal, Reply};
use super::telnet::{HIDE_TYPING, SHOW_TYPING};
use std::fmt::{self, Display};
use std::io::Write;

/// How a letter came to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Showing {
    /// It was shown before, and nobody knows whether it was read.
    pub again: bool,
    /// It waited: it is shown indented below the welcome.
    pub waited: bool,
}

/// What stands between two lines of a letter.
const FURTHER_LINE: &[u8] = b"\r\n>>   | ";
/// Bytes by which that is longer than the line end it stands for.
pub const FURTHER_LINE_BYTES: u32 = FURTHER_LINE.len() as u32 - 1;

/// Appends a letter as `fred: hi`. Further lines of its body, which is UTF-8, begin with `| `.
pub fn letter(from: &str, body: &[u8], showing: Showing, out: &mut Vec<u8>) {
    out.extend_from_slice(if showing.waited { b">>      " } else { b">> " });
    if showing.again {
        out.extend_from_slice(b"(again) ");
    }
    out.extend_from_slice(from.as_bytes());
    out.extend_from_slice(b": ");
    if memchr::memchr(b'\n', body).is_none() {
        out.extend_from_slice(body);
    } else {
        for (n, line) in body.split(|&byte| byte == b'\n').enumerate() {
            if n > 0 {
                out.extend_from_slice(FURTHER_LINE);
            }
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a reply. The password prompt has no line end.
pub fn render(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        // The two answers of the hot path are put together without the formatting machinery.
        Reply::Sent { to, .. } => {
            out.extend_from_slice(b">> message sent to ");
            out.extend_from_slice(to.as_str().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Reply::Saved { to, .. } => {
            out.extend_from_slice(b">> ");
            out.extend_from_slice(to.as_str().as_bytes());
            out.extend_from_slice(b" is offline, message will be saved for future delivery\r\n");
        }
        Reply::Greeting => {
            say(out, "Welcome to MMS.");
            say(out, "Type 'signin <user>' to sign in, 'help' for the commands.");
        }
        Reply::Help(verb) => help(*verb, out),
        Reply::PasswordPrompt(prompt) => {
            out.extend_from_slice(&HIDE_TYPING);
            out.extend_from_slice(match prompt {
                Prompt::SignIn => b"Password: ",
                Prompt::Current => b"Current password: ",
                Prompt::New => b"New password: ",
                Prompt::Again => b"New password again: ",
            });
        }
        // Typing stays hidden: it would not be if this and the next prompt came apart.
        Reply::PromptInterrupted => out.extend_from_slice(b"\r\n"),
        // A terminal that hides what is typed hides Enter too.
        Reply::PasswordRead => {
            out.extend_from_slice(&SHOW_TYPING);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Refused(refusal) => refused(refusal, out),
        Reply::Farewell(farewell) => goodbye(farewell, out),
        Reply::WhoIsOn { online, offline } => {
            presence(out, online, "online");
            presence(out, offline, "NOT online");
        }
        other => say(out, Words(other)),
    }
}

/// What begins the words to those who come to the port for TLS without it.
pub const WANTS_TLS: &str = "this port of MMS speaks TLS only";

/// Appends what is wrong with a connection that comes to the port for TLS without it.
pub fn wants_tls(out: &mut Vec<u8>) {
    say(
        out,
        format_args!(
            "{WANTS_TLS}; use 'mms client --tls' or 'openssl s_client -connect', or the port \
             without TLS, goodbye"
        ),
    );
}

/// Appends why a connection is closed at once, before its dialect is known.
pub fn barred(barred: &Barred, out: &mut Vec<u8>) {
    match barred {
        Barred::Full => say(out, "MMS is full, try again later"),
        Barred::ShortOfMemory => say(out, "MMS runs short of memory, try again later"),
        Barred::EarlyDrop => say(out, "MMS is busy with newcomers, try again later"),
        Barred::TooManyOfOne { most } => say(
            out,
            format_args!(
                "{most} connections from your address have not signed in; signin on one of them \
                 or close it, then try again"
            ),
        ),
        Barred::TooFast => {
            say(out, "too many new connections from your address, try again in a minute");
        }
        Barred::Penalty { left_s } => say(
            out,
            format_args!(
                "too many connections from your address did not sign in, try again in {left_s} s"
            ),
        ),
    }
}

fn say(out: &mut Vec<u8>, words: impl Display) {
    write!(out, ">> {words}\r\n").expect("a Vec takes all");
}

struct Words<'a>(&'a Reply);

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reply::Welcome { user, waiting: 0, .. } => {
                write!(f, "Welcome {user}, you have no messages waiting")
            }
            Reply::Welcome { user, waiting: n, .. } => {
                write!(f, "Welcome {user}, you have {n} message{} waiting:", plural(*n))
            }
            Reply::Fates(fates) => write!(f, "{}", Told(fates)),
            Reply::Broadcast { users, full, .. } => {
                write!(f, "message sent to {users} user{}", plural(*users))?;
                if full.count > 0 {
                    write!(f, "; mailbox full: {}", AndMore(full))?;
                }
                Ok(())
            }
            Reply::WhoElse(names) | Reply::WhoLast { who: names, .. } if names.count == 0 => f
                .write_str(match self.0 {
                    Reply::WhoElse(_) => "Nobody else is online",
                    _ => "Nobody else was online in that time",
                }),
            Reply::WhoElse(names) => {
                write!(f, "{names} {} online", if names.count == 1 { "is" } else { "are" })
            }
            Reply::WhoLast { who, window_ms } => {
                let was = if who.count == 1 { "was" } else { "were" };
                write!(f, "{who} {was} online in the last {}", Span(*window_ms))
            }
            Reply::Away(text) => write!(f, "You are now away: {text}"),
            Reply::NoLongerAway => f.write_str("You are no longer away"),
            Reply::AutoReply { from, text } => write!(f, "{from}: {text} (automatic reply)"),
            Reply::Notify(Switch::On) => f.write_str("You are told when users sign in and off"),
            Reply::Notify(Switch::Off) => {
                f.write_str("You are no longer told when users sign in and off")
            }
            Reply::Presence { user, switch: Switch::On } => write!(f, "{user} has signed in"),
            Reply::Presence { user, switch: Switch::Off } => write!(f, "{user} has signed off"),
            Reply::Block { user, switch: Switch::On } => write!(f, "{user} is blocked"),
            Reply::Block { user, switch: Switch::Off } => write!(f, "{user} is not blocked"),
            Reply::SignedOff(user) => write!(f, "user {user} has signed off"),
            Reply::SecondSignIn { user, address } => {
                write!(f, "somebody at {address} tries to sign in as {user} with your password")
            }
            Reply::Probing(user) => {
                write!(
                    f,
                    "{user} is signed in elsewhere; please wait while MMS looks whether that \
                     session is still alive"
                )
            }
            Reply::LetterDamaged { from, .. } => {
                write!(f, "a message from {from} was damaged on the disk and cannot be shown")
            }
            Reply::PasswordChanged { flushed: Flushed::Surely, .. } => {
                f.write_str("password changed; your other sessions are signed off")
            }
            Reply::PasswordChanged { flushed: Flushed::Perhaps, .. } => f.write_str(
                "password changed, but a power cut may undo it: the disk failed to flush it",
            ),
            Reply::PasswordKept => f.write_str("the password was not changed"),
            reply => of_programs(reply, f),
        }
    }
}

/// Nobody asks for these in this dialect.
fn of_programs(reply: &Reply, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reply {
        Reply::Known(id) => write!(f, "message {id} was sent before"),
        Reply::Switched(_) => f.write_str("coded 1"),
        Reply::Challenge(challenge) => f.write_str(challenge),
        Reply::Pong => f.write_str("pong"),
        Reply::Ping => f.write_str("ping"),
        Reply::Receipts(_) => f.write_str("receipts"),
        Reply::Delivered { user, .. } => write!(f, "delivered to {user}"),
        Reply::Unwatched { id, .. } => write!(f, "the delivery of {id} is not awaited"),
        _ => unreachable!("rendered by its own function"),
    }
}

/// `a`, `a and b`, `a, b, and c`.
struct And<'a>(&'a [UserName]);

impl Display for And<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [one] => write!(f, "{one}"),
            [a, b] => write!(f, "{a} and {b}"),
            [most @ .., last] => {
                for name in most {
                    write!(f, "{name}, ")?;
                }
                write!(f, "and {last}")
            }
        }
    }
}

/// `a, b, and 17 more`.
struct AndMore<'a>(&'a Names);

impl Display for AndMore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names { shown, .. } = self.0;
        match self.0.more() {
            0 => write!(f, "{}", And(shown)),
            more => {
                for name in shown {
                    write!(f, "{name}, ")?;
                }
                write!(f, "and {more} more")
            }
        }
    }
}

/// `User a`, `Users a and b`, `Users a, b, and 17 more`.
impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.count == 1 { "User " } else { "Users " })?;
        write!(f, "{}", AndMore(self))
    }
}

fn presence(out: &mut Vec<u8>, names: &Names, what: &str) {
    if names.count > 0 {
        let are = if names.count == 1 { "is" } else { "are" };
        say(out, format_args!("{names} {are} {what}"));
    }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// A length of time in the unit it was asked in.
struct Span(u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = if self.0.is_multiple_of(60_000) {
            (self.0 / 60_000, "minute")
        } else {
            (self.0 / 1000, "second")
        };
        if n == 1 { f.write_str(unit) } else { write!(f, "{n} {unit}s") }
    }
}

/// A list's fates in one line, each kind that occurs.
struct Told<'a>(&'a Fates);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fates = self.0;
        let mut separator = "";
        let mut next =
            |f: &mut fmt::Formatter<'_>| f.write_str(std::mem::replace(&mut separator, "; "));
        if !fates.sent.is_empty() {
            next(f)?;
            write!(f, "message sent to {}", And(&fates.sent))?;
        }
        if !fates.saved.is_empty() {
            next(f)?;
            let are = if fates.saved.len() == 1 { "is" } else { "are" };
            let names = And(&fates.saved);
            write!(f, "{names} {are} offline, message will be saved for future delivery")?;
        }
        if !fates.unknown.is_empty() {
            next(f)?;
            write!(f, "no such user: {}", fates.unknown.join(", "))?;
        }
        if !fates.full.is_empty() {
            next(f)?;
            write!(f, "mailbox full: {}", And(&fates.full))?;
        }
        if !fates.blocked.is_empty() {
            next(f)?;
            write!(f, "could not be delivered to {}", And(&fates.blocked))?;
        }
        if fates.to_self.is_some() {
            next(f)?;
            f.write_str("not to yourself")?;
        }
        Ok(())
    }
}

fn usages(verb: Verb, out: &mut Vec<u8>) {
    for usage in verb.usage() {
        say(out, format_args!("usage: {usage}"));
    }
}

fn help(verb: Option<Verb>, out: &mut Vec<u8>) {
    match verb {
        None => {
            for verb in Verb::ALL {
                for usage in verb.usage() {
                    say(out, usage);
                }
            }
            say(out, "'help <command>' tells what one of them does");
        }
        Some(verb) => {
            usages(verb, out);
            say(out, verb.about());
            if let [_, others @ ..] = verb.words()
                && !others.is_empty()
            {
                say(out, format_args!("also: {}", others.join(", ")));
            }
        }
    }
}

fn refused(refusal: &Refusal, out: &mut Vec<u8>) {
    match refusal {
        Refusal::MustSignIn => say(out, "You must signin first"),
        Refusal::SignedInAlready(user) => {
            say(out, format_args!("You are signed in as {user}; signout first"));
        }
        Refusal::Unknown { word, hint: Some(verb) } => {
            say(out, format_args!("'{word}' is no command; did you mean '{}'?", verb.name()));
            usages(*verb, out);
        }
        Refusal::Unknown { word, hint: None } => {
            say(out, format_args!("'{word}' is no command; 'help' lists the commands"));
        }
        Refusal::Usage(verb, problem) => {
            say(out, format_args!("{}: {}", verb.name(), problem));
            usages(*verb, out);
        }
        Refusal::Text(fault) => say(out, format_args!("{fault}; nothing was done")),
        Refusal::LineTooLong(most) => {
            say(out, format_args!("the line is too long, {most} bytes at most; nothing was done"));
        }
        Refusal::MessageTooLong { bytes, most } => {
            say(out, format_args!("the text has {bytes} bytes, {most} at most; nothing was done"));
        }
        Refusal::NotAuthorized(_)
        | Refusal::Blocked { .. }
        | Refusal::AlreadyOnline(_)
        | Refusal::SignInsBusy
        | Refusal::PasswordTooLong(_)
        | Refusal::WrongPassword
        | Refusal::BadPassword(_)
        | Refusal::PasswordsDiffer
        | Refusal::Rounds { .. }
        | Refusal::PasswordsBusy
        | Refusal::PasswordsOutdated
        | Refusal::PasswordNotSaved => password_refused(refusal, out),
        Refusal::BadName(word, fault) => {
            say(out, format_args!("'{word}' is no user name: {fault}"));
        }
        Refusal::NoSuchUser { name, hint: Some(near) } => {
            say(out, format_args!("no such user: {name}; did you mean {near}?"));
        }
        Refusal::NoSuchUser { name, hint: None } => {
            say(out, format_args!("no such user: {name}; 'whoison' lists the users"));
        }
        Refusal::ToSelf => say(out, "messages to yourself are not allowed here"),
        Refusal::Undeliverable(user) => {
            say(out, format_args!("your message to {user} could not be delivered"));
        }
        Refusal::BlocksFull(most) => {
            say(out, format_args!("{most} users are blocked already; 'unblock' one first"));
        }
        Refusal::BlockSelf => say(out, "nobody can block himself"),
        Refusal::MailboxFull(user) => {
            say(out, format_args!("mailbox full: {user}; not sent, try again later"));
        }
        Refusal::DiskFull => say(out, "the server's disk is full; not stored, try again later"),
        Refusal::NobodyElse => say(out, "Nobody else is online, message not sent"),
        Refusal::Switch => {
            say(out, "'coded 1' is the only version, and it must be the first line");
        }
        Refusal::Malformed(_)
        | Refusal::BadTag
        | Refusal::NotPresent
        | Refusal::KeyReused
        | Refusal::KeyTooOld
        | Refusal::KeysFull
        | Refusal::BadAck => refused_in_code(refusal, out),
    }
}

/// Why nobody comes in, or a password is not changed.
fn password_refused(refusal: &Refusal, out: &mut Vec<u8>) {
    match refusal {
        Refusal::NotAuthorized(name) => {
            say(out, format_args!("user {name} is not authorized to use MMS"));
        }
        Refusal::Blocked { name, left_s } => {
            say(out, format_args!("user {name} is blocked, {left_s} s left"));
        }
        Refusal::AlreadyOnline(user) => say(out, format_args!("{user} is already signed in")),
        Refusal::SignInsBusy => say(out, "too many sign-ins at once, try again later"),
        Refusal::PasswordTooLong(most) => {
            say(out, format_args!("the password is too long, {most} bytes at most"));
        }
        Refusal::WrongPassword => say(out, "the current password is wrong; nothing was changed"),
        Refusal::BadPassword(fault) => say(out, format_args!("{fault}; nothing was changed")),
        Refusal::PasswordsDiffer => say(out, "the new passwords differ; nothing was changed"),
        Refusal::Rounds { least, most } => {
            say(out, format_args!("a verifier has {least} to {most} rounds; nothing was changed"));
        }
        Refusal::PasswordsBusy => say(out, "the password cannot be changed now, try again later"),
        Refusal::PasswordsOutdated => {
            say(out, "the password file was changed meanwhile; not changed, sign in again");
        }
        Refusal::PasswordNotSaved => {
            say(out, "the password file cannot be written; not changed, the operator can help");
        }
        // The others are worded elsewhere.
        _ => {}
    }
}

/// What only a program can be refused, for the sake of completeness.
fn refused_in_code(refusal: &Refusal, out: &mut Vec<u8>) {
    match refusal {
        Refusal::Malformed(usage) => say(out, format_args!("usage: {usage}")),
        Refusal::BadTag => say(out, "that is no tag"),
        Refusal::NotPresent => say(out, "this session is not present"),
        Refusal::KeyReused => say(out, "that key was used for another message"),
        Refusal::KeyTooOld => say(out, "that key is too old to be known"),
        Refusal::KeysFull => say(out, "too many keys are remembered, try again later"),
        Refusal::BadAck => say(out, "nothing with that number was shown"),
        // The others are worded above.
        _ => {}
    }
}

fn goodbye(farewell: &Farewell, out: &mut Vec<u8>) {
    match farewell {
        Farewell::SignedOut => say(out, "Thank you for using MMS!"),
        Farewell::Idle { limit_s } => {
            say(out, format_args!("signed off after {limit_s} s of inactivity"));
        }
        Farewell::SignInTooSlow { limit_s } => {
            say(out, format_args!("nobody signed in within {limit_s} s, goodbye"));
        }
        Farewell::TooManyFailures { block_s: Some(seconds) } => {
            say(out, format_args!("Too many failed attempts, blocked for {seconds} s"));
        }
        Farewell::TooManyFailures { block_s: None } => say(out, "Too many failed attempts"),
        Farewell::TooMuchBeforeSignIn => {
            say(out, "too much without signing in, goodbye; connect again and signin first");
        }
        Farewell::Replaced { address } => {
            say(out, format_args!("signed off: you signed in again from {address}"));
        }
        Farewell::Unresponsive => say(out, "signed off: this session did not answer"),
        Farewell::Removed => say(out, "signed off: this user was removed"),
        Farewell::PasswordChanged => say(out, "signed off: the password was changed, signin again"),
        Farewell::ShuttingDown => say(out, "MMS is shutting down"),
        Farewell::Overload => {
            say(out, "the server runs short of memory, and this connection holds most of it");
        }
        Farewell::Foreign(what) => say(out, what),
        Farewell::PeerClosed | Farewell::Broken | Farewell::Stalled => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(word: &str) -> UserName {
        UserName::new(word).unwrap()
    }

    fn text(reply: &Reply) -> String {
        let mut out = vec![];
        render(reply, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn names(words: &[&str], count: usize) -> Names {
        Names { shown: words.iter().map(|w| name(w)).collect(), count }
    }

    #[test]
    fn lists_of_names_read_as_english() {
        let reply = Reply::WhoIsOn {
            online: names(&["fred", "francoc", "Tim"], 3),
            offline: names(&["libero"], 1),
        };
        assert_eq!(
            text(&reply),
            ">> Users fred, francoc, and Tim are online\r\n>> User libero is NOT online\r\n"
        );
        assert_eq!(text(&Reply::WhoElse(names(&["a", "b"], 2))), ">> Users a and b are online\r\n");
        assert_eq!(text(&Reply::WhoElse(names(&[], 0))), ">> Nobody else is online\r\n");
        assert_eq!(
            text(&Reply::WhoElse(names(&["a", "b"], 19))),
            ">> Users a, b, and 17 more are online\r\n"
        );
        let last = |ms| text(&Reply::WhoLast { who: names(&["a"], 1), window_ms: ms });
        assert_eq!(last(60_000), ">> User a was online in the last minute\r\n");
        assert_eq!(last(5000), ">> User a was online in the last 5 seconds\r\n");
    }

    #[test]
    fn each_name_of_a_list_learns_its_fate() {
        let fates = Fates {
            sent: vec![name("a"), name("b")],
            saved: vec![name("c")],
            unknown: vec!["x!".into()],
            full: vec![name("d")],
            blocked: vec![name("f")],
            to_self: Some(name("e")),
            id: None,
        };
        assert_eq!(
            text(&Reply::Fates(Box::new(fates))),
            ">> message sent to a and b; c is offline, message will be saved for future delivery; \
             no such user: x!; mailbox full: d; could not be delivered to f; not to yourself\r\n"
        );
    }

    #[test]
    fn a_letter_of_several_lines_forges_none() {
        let mut out = vec![];
        letter("fred", b"a\n>> x", Showing { again: true, waited: false }, &mut out);
        letter("Tim", b"b", Showing { again: false, waited: true }, &mut out);
        let want = ">> (again) fred: a\r\n>>   | >> x\r\n>>      Tim: b\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
