//! The coded dialect, for programs: what they ask, and how replies are worded for them. Each line
//! of the server begins with a code of three digits, and a reply repeats the tag of its command.
//! The grammar of a command is the plain one, with tags, keys and texts by count added.

use super::command::{self, Command, CommandFault, Problem, Recipients, Switch, Verb};
use super::id::LetterId;
use super::letter_line::push_text;
pub use super::letter_line::{LetterLine, Sheet, letter};
use super::name::UserName;
use super::reply::{Binds, Farewell, Fates, Flushed, Names, Refusal, Reply, Unwatched};
use super::text::{self, TextFault};
use crate::limits::{KEY_BYTES, TAG_BYTES};
use std::fmt::{self, Display, Write as _};

/// A word that a command carries and its replies repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    bytes: [u8; TAG_BYTES],
    len: u8,
}

impl Tag {
    /// `tag = 1*16( ALPHA / DIGIT / "." / "_" / "-" )`
    #[must_use]
    pub fn new(word: &str) -> Option<Self> {
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if word.is_empty() || word.len() > TAG_BYTES || !plain {
            return None;
        }
        let mut bytes = [0; TAG_BYTES];
        bytes[..word.len()].copy_from_slice(word.as_bytes());
        Some(Self { bytes, len: u8::try_from(word.len()).ok()? })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// What a coded session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person: present, gets messages.
    Online,
    /// Present and gets messages, without an idle timeout.
    Listener,
    /// Sends and asks; is not present and gets nothing.
    Tool,
}

/// How somebody proves who he is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// The password itself.
    Plain(&'a str),
    /// SCRAM-SHA-256: the client's first message in base64.
    Scram(&'a str),
}

/// How somebody changes his password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NewPassword<'a> {
    /// By the passwords themselves.
    Plain {
        /// The present one.
        current: &'a str,
        /// The new one.
        new: &'a str,
    },
    /// By a proof of the present one, and a verifier of the new one.
    Scram {
        /// The client's first message in base64.
        first: &'a str,
        /// As the password file has it.
        verifier: &'a str,
    },
}

/// A command of the coded dialect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// One that the plain dialect has, too.
    Command(Command<'a>),
    /// `send`
    Send {
        /// The sender's own name for it.
        key: Option<&'a str>,
        /// Whom.
        to: Recipients<'a>,
        /// What; not empty.
        text: &'a str,
    },
    /// `broadcast`
    Broadcast {
        /// The sender's own name for it.
        key: Option<&'a str>,
        /// What; not empty.
        text: &'a str,
    },
    /// `signin`
    SignIn {
        /// The name.
        user: &'a str,
        /// What the session is for.
        kind: Kind,
        /// How he proves it.
        proof: Proof<'a>,
    },
    /// `passwd`
    Passwd(NewPassword<'a>),
    /// `auth`: the client's final message in base64.
    Auth(&'a str),
    /// `ping`
    Ping,
    /// `pong`
    Pong,
    /// `ack`: every letter up to this one has been taken.
    Ack(LetterId),
    /// `receipts`: whether to tell when what is sent on this connection is delivered.
    Receipts(Switch),
}

/// A line of a program: its tag, and its command or why it is none.
pub struct Call<'a> {
    /// To be repeated.
    pub tag: Option<Tag>,
    /// What is asked.
    pub request: Result<Request<'a>, CommandFault<'a>>,
}

/// `call = *SP [ "@" tag SP ] *SP request`; `body` is the text by count that followed the line.
#[must_use]
pub fn parse<'a>(line: &'a [u8], body: Option<&'a [u8]>) -> Call<'a> {
    let line = match text::check(line) {
        Ok(line) => line.trim_start_matches(' '),
        Err(fault) => return Call { tag: legible(line), request: Err(CommandFault::Text(fault)) },
    };
    let Some(tagged) = line.strip_prefix('@') else {
        return Call { tag: None, request: request(line, body) };
    };
    let (word, rest) = tagged.split_once(' ').unwrap_or((tagged, ""));
    match Tag::new(word) {
        Some(tag) => Call { tag: Some(tag), request: request(rest.trim_start_matches(' '), body) },
        None => Call { tag: None, request: Err(CommandFault::BadTag) },
    }
}

/// The tag of a line that cannot be read as a whole.
#[must_use]
pub fn legible(line: &[u8]) -> Option<Tag> {
    let word = line.trim_ascii_start().strip_prefix(b"@")?.split(|&byte| byte == b' ').next()?;
    Tag::new(str::from_utf8(word).ok()?)
}

fn request<'a>(line: &'a str, body: Option<&'a [u8]>) -> Result<Request<'a>, CommandFault<'a>> {
    let body = body.map(text::check_lines).transpose().map_err(CommandFault::Text)?;
    let Ok((arguments, first)) = command::word(line) else {
        return Err(CommandFault::Blank);
    };
    if first == "ack" && body.is_none() {
        return ack(arguments);
    }
    match Verb::find(first) {
        Some(Verb::Send) => return send(arguments, body),
        Some(Verb::Broadcast) => return broadcast(arguments, body),
        _ if body.is_some() => return Err(CommandFault::Malformed("only messages are counted")),
        Some(Verb::SignIn) => return signin(arguments),
        Some(Verb::Passwd) => return passwd(arguments),
        Some(_) => return Ok(Request::Command(command::command(first, arguments)?)),
        None => {}
    }
    // Their names may be typed in any case and behind a slash, too.
    let own = first.strip_prefix('/').unwrap_or(first);
    let all = ["ping", "pong", "ack", "auth", "receipts"];
    let own = all.into_iter().find(|word| word.eq_ignore_ascii_case(own));
    match own.unwrap_or_default() {
        "ping" if arguments.is_empty() => Ok(Request::Ping),
        "pong" if arguments.is_empty() => Ok(Request::Pong),
        "ping" | "pong" => Err(CommandFault::Malformed("ping and pong take nothing more")),
        "ack" => ack(arguments),
        "receipts" => receipts(arguments),
        "auth" if !arguments.is_empty() => Ok(Request::Auth(arguments.trim_end_matches(' '))),
        "auth" => Err(CommandFault::Malformed("auth <client-final-message in base64>")),
        _ => Err(command::command(first, arguments).err().unwrap_or(CommandFault::Unknown(first))),
    }
}

/// `ack = "ack" gap id *SP`
fn ack(arguments: &str) -> Result<Request<'_>, CommandFault<'_>> {
    let id = arguments.trim_end_matches(' ').parse();
    id.map(Request::Ack).map_err(|_| CommandFault::Malformed("ack <id>"))
}

/// `receipts = "receipts" gap ( "on" / "off" ) blanks`
fn receipts(arguments: &str) -> Result<Request<'_>, CommandFault<'_>> {
    match command::word(arguments) {
        Ok(("", state)) if state.eq_ignore_ascii_case("on") => Ok(Request::Receipts(Switch::On)),
        Ok(("", state)) if state.eq_ignore_ascii_case("off") => Ok(Request::Receipts(Switch::Off)),
        _ => Err(CommandFault::Malformed("receipts on | receipts off")),
    }
}

/// `key = "=" 1*64( ALPHA / DIGIT / "." / "_" / ":" / "-" ) gap`
fn key<'a>(arguments: &'a str) -> Result<(&'a str, Option<&'a str>), CommandFault<'a>> {
    let Some(rest) = arguments.strip_prefix('=') else { return Ok((arguments, None)) };
    let fault = CommandFault::Malformed("a key is 1 to 64 letters, digits, '.', '_', ':' or '-'");
    let (after, key) = command::word(rest).map_err(|_| fault)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    if key.len() > KEY_BYTES || !key.bytes().all(plain) || rest.starts_with([' ', '\t']) {
        return Err(fault);
    }
    Ok((after, Some(key)))
}

/// The text is what stands at the end of the line, or was counted; not both, and not empty.
fn the_text<'a>(
    verb: Verb,
    rest: &'a str,
    body: Option<&'a str>,
) -> Result<&'a str, CommandFault<'a>> {
    let text = match body {
        Some(body) if rest.is_empty() => body,
        Some(_) => return Err(CommandFault::Malformed("a text stands in the line or is counted")),
        None => rest,
    };
    match text.chars().all(char::is_whitespace) {
        true => Err(CommandFault::Usage(verb, Problem::NoMessage)),
        false => Ok(text),
    }
}

/// `coded-send = "send" gap [ key ] ( word / list ) ( text / count )`
fn send<'a>(arguments: &'a str, body: Option<&'a str>) -> Result<Request<'a>, CommandFault<'a>> {
    let (arguments, key) = key(arguments)?;
    let (rest, to) = command::recipients(arguments)
        .map_err(|problem| CommandFault::Usage(Verb::Send, problem))?;
    Ok(Request::Send { key, to, text: the_text(Verb::Send, rest, body)? })
}

/// `coded-broadcast = "broadcast" gap [ key ] ( text / count )`
fn broadcast<'a>(
    arguments: &'a str,
    body: Option<&'a str>,
) -> Result<Request<'a>, CommandFault<'a>> {
    let (rest, key) = key(arguments)?;
    Ok(Request::Broadcast { key, text: the_text(Verb::Broadcast, rest, body)? })
}

/// `coded-signin = "signin" gap name SP kind SP ( "scram" SP base64 / "plain" SP password )`
fn signin(arguments: &str) -> Result<Request<'_>, CommandFault<'_>> {
    let usage = CommandFault::Malformed(
        "signin <user> <online|listener|tool> <scram client-first-message | plain password>",
    );
    let mut words = arguments.splitn(4, ' ');
    let (Some(user), Some(kind), Some(how), Some(proof)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(usage);
    };
    let kind = match kind {
        "online" => Kind::Online,
        "listener" => Kind::Listener,
        "tool" => Kind::Tool,
        _ => return Err(usage),
    };
    let proof = match how {
        "plain" => Proof::Plain(proof),
        "scram" => Proof::Scram(proof),
        _ => return Err(usage),
    };
    Ok(Request::SignIn { user, kind, proof })
}

/// `coded-passwd = "passwd" gap ( "scram" SP base64 SP verifier / "plain" SP secret SP secret )`
fn passwd(arguments: &str) -> Result<Request<'_>, CommandFault<'_>> {
    let words: Vec<&str> = arguments.trim_end_matches(' ').splitn(4, ' ').collect();
    match words[..] {
        ["plain", current, new] if !current.is_empty() && !new.is_empty() => {
            Ok(Request::Passwd(NewPassword::Plain { current, new }))
        }
        ["scram", first, verifier] => Ok(Request::Passwd(NewPassword::Scram { first, verifier })),
        _ => Err(CommandFault::Malformed(
            "passwd <scram client-first-message new-verifier | plain current new>",
        )),
    }
}

/// Appends a reply, with the tag of its command.
pub fn render(reply: &Reply, tag: Option<Tag>, out: &mut Vec<u8>) {
    // The two answers of the hot path are put together without the formatting machinery.
    match reply {
        Reply::Sent { to, id } => stored(*id, b" sent ", to, tag, out),
        Reply::Saved { to, id } => stored(*id, b" saved ", to, tag, out),
        other => render_worded(other, tag, out),
    }
}

/// Appends any other reply; apart, so that those two do not pay for it.
#[inline(never)]
fn render_worded(reply: &Reply, tag: Option<Tag>, out: &mut Vec<u8>) {
    let (code, fields) = worded(reply);
    begin(code, tag, out);
    if !fields.is_empty() {
        out.push(b' ');
    }
    push_text(fields.as_bytes(), out);
}

fn begin(code: &str, tag: Option<Tag>, out: &mut Vec<u8>) {
    out.extend_from_slice(code.as_bytes());
    if let Some(tag) = tag {
        out.extend_from_slice(b" @");
        out.extend_from_slice(tag.as_bytes());
    }
}

fn stored<const N: usize>(
    id: LetterId,
    fate: &[u8; N],
    to: &UserName,
    tag: Option<Tag>,
    out: &mut Vec<u8>,
) {
    begin("250", tag, out);
    out.push(b' ');
    id.push_to(out);
    out.extend_from_slice(fate);
    out.extend_from_slice(to.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn worded(reply: &Reply) -> (&'static str, String) {
    match reply {
        Reply::Switched(binds) => ("200", capabilities(*binds)),
        Reply::Challenge(challenge) => ("334", challenge.to_string()),
        Reply::Welcome { user, waiting, spool, proof } => {
            let proof = proof.as_deref().unwrap_or("-");
            ("230", format!("{proof} {user} {waiting} {spool:016x}"))
        }
        Reply::Known(id) => ("250", format!("{id} known")),
        Reply::Fates(fates) => ("251", fates_of(fates)),
        Reply::Broadcast { users, full, id } => {
            let mut fields = format!("{} {users}", OrDash(*id));
            if full.count > 0 {
                _ = write!(fields, " full={}", list(&full.shown));
            }
            if full.more() > 0 {
                _ = write!(fields, " more={}", full.more());
            }
            ("252", fields)
        }
        Reply::WhoIsOn { online, offline } => {
            let mut fields = format!("online={} offline={}", names(online), names(offline));
            if online.more() + offline.more() > 0 {
                _ = write!(fields, " more={},{}", online.more(), offline.more());
            }
            ("260", fields)
        }
        Reply::WhoElse(who) | Reply::WhoLast { who, .. } => ("261", names(who)),
        Reply::Away(text) => ("262", format!("away {text}")),
        Reply::Help(verb) => ("263", help(*verb)),
        Reply::Pong => ("264", "pong".into()),
        Reply::Notify(switch) => ("265", format!("notify {}", on_off(*switch))),
        Reply::Receipts(switch) => ("268", format!("receipts {}", on_off(*switch))),
        Reply::Delivered { id, user } => ("115", format!("delivered {id} {user}")),
        Reply::Unwatched { id, why: Unwatched::Busy } => ("116", format!("unwatched {id} busy")),
        Reply::Unwatched { id, why: Unwatched::Unknown } => {
            ("116", format!("unwatched {id} unknown"))
        }
        Reply::Block { user, switch: Switch::On } => ("266", format!("blocked {user}")),
        Reply::Block { user, switch: Switch::Off } => ("266", format!("unblocked {user}")),
        Reply::PasswordChanged { proof, flushed } => {
            let flushed = match flushed {
                Flushed::Surely => "changed",
                Flushed::Perhaps => "unflushed",
            };
            ("267", format!("{} {flushed}", proof.as_deref().unwrap_or("-")))
        }
        Reply::Presence { user, switch: Switch::On } => ("110", format!("{user} online")),
        Reply::Presence { user, switch: Switch::Off } => ("110", format!("{user} offline")),
        Reply::AutoReply { from, text } => ("101", format!("{from} {text}")),
        Reply::SecondSignIn { address, .. } => ("112", format!("second-signin {address}")),
        Reply::LetterDamaged { id, from } => ("113", format!("damaged {id} {from}")),
        Reply::NoLongerAway => ("114", "no-longer-away".into()),
        Reply::Ping => ("121", "ping".into()),
        Reply::Probing(user) => ("433", format!("probing {user}")),
        Reply::SignedOff(_) => ("290", "bye".into()),
        Reply::Refused(refusal) => refused(refusal),
        Reply::Farewell(farewell) => ("190", goodbye(farewell)),
        // Of the plain dialect only, or put together before.
        Reply::Sent { .. }
        | Reply::Saved { .. }
        | Reply::Greeting
        | Reply::PasswordPrompt(_)
        | Reply::PromptInterrupted
        | Reply::PasswordRead
        | Reply::PasswordKept => ("200", String::new()),
    }
}

fn capabilities(binds: Binds) -> String {
    use crate::limits::{COUNTED_BYTES, LINE_BYTES};
    let version = env!("CARGO_PKG_VERSION");
    let plus = match binds {
        Binds::No => "",
        Binds::Exporter => " scram-sha-256-plus",
    };
    format!(
        "coded 1 mms/{version} scram-sha-256{plus} plain line={LINE_BYTES} body={COUNTED_BYTES} \
         receipts"
    )
}

fn on_off(switch: Switch) -> &'static str {
    match switch {
        Switch::On => "on",
        Switch::Off => "off",
    }
}

/// An id, or `-` where nothing was stored.
struct OrDash(Option<LetterId>);

impl Display for OrDash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "{id}"),
            None => f.write_str("-"),
        }
    }
}

fn list(names: &[UserName]) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name.as_str());
    }
    text
}

fn names(names: &Names) -> String {
    if names.shown.is_empty() { "-".into() } else { list(&names.shown) }
}

fn fates_of(fates: &Fates) -> String {
    let mut text = OrDash(fates.id).to_string();
    let fates_by_name = [
        (&fates.sent, "sent"),
        (&fates.saved, "saved"),
        (&fates.full, "full"),
        (&fates.blocked, "blocked"),
    ];
    for (names, fate) in fates_by_name {
        for name in names {
            _ = write!(text, " {name}={fate}");
        }
    }
    for word in &fates.unknown {
        // A word that is no name could hold anything but blanks.
        let word = word.replace('=', "?");
        _ = write!(text, " {word}=unknown");
    }
    if let Some(own) = &fates.to_self {
        _ = write!(text, " {own}=self");
    }
    text
}

fn help(verb: Option<Verb>) -> String {
    let all = Verb::ALL;
    let verbs = match &verb {
        None => &all[..],
        Some(verb) => std::slice::from_ref(verb),
    };
    let lines: Vec<String> = verbs
        .iter()
        .map(|verb| format!("{} - {}", verb.usage().join(" | "), verb.about()))
        .collect();
    lines.join("\n")
}

fn refused(refusal: &Refusal) -> (&'static str, String) {
    match refusal {
        Refusal::Blocked { left_s, .. } => ("431", format!("blocked {left_s}")),
        Refusal::SignInsBusy => ("432", "busy".into()),
        Refusal::DiskFull => ("451", "disk-full".into()),
        Refusal::MailboxFull(user) => ("452", format!("full {user}")),
        Refusal::Undeliverable(user) => ("557", format!("undeliverable {user}")),
        Refusal::BlocksFull(most) => ("558", format!("blocks-full {most}")),
        Refusal::BlockSelf => ("559", "block-self".into()),
        Refusal::KeysFull => ("454", "key-table-full".into()),
        Refusal::Unknown { word, hint } => {
            let hint = hint.map_or("", Verb::name);
            ("500", format!("unknown-command {word} {hint}").trim_end().into())
        }
        Refusal::Usage(verb, problem) => {
            ("501", format!("usage {problem}: {}", verb.usage().join(" | ")))
        }
        Refusal::Malformed(usage) => ("501", format!("usage {usage}")),
        Refusal::LineTooLong(most) => ("502", format!("line-too-long {most}")),
        Refusal::SignedInAlready(user) => ("503", format!("signed-in-already {user}")),
        Refusal::Text(TextFault::NotUtf8) => ("504", "text not-utf-8".into()),
        Refusal::Text(TextFault::Character(c)) => ("504", format!("text U+{:04X}", u32::from(*c))),
        Refusal::MessageTooLong { bytes, most } => ("504", format!("text-too-long {bytes} {most}")),
        Refusal::PasswordTooLong(most) => ("504", format!("password-too-long {most}")),
        Refusal::Switch => ("505", "version 1".into()),
        Refusal::BadTag => ("506", "bad-tag".into()),
        Refusal::MustSignIn => ("530", "signin-first".into()),
        Refusal::NotPresent => ("530", "not-present".into()),
        Refusal::AlreadyOnline(user) => ("533", format!("already-online {user}")),
        Refusal::NotAuthorized(_) => ("535", "not-authorized".into()),
        Refusal::NoSuchUser { name, hint } => {
            let hint = hint.as_ref().map_or("", UserName::as_str);
            ("550", format!("no-such-user {name} {hint}").trim_end().into())
        }
        Refusal::WrongPassword => ("535", "wrong-password".into()),
        Refusal::BadPassword(fault) => ("504", format!("password {}", fault.word())),
        Refusal::PasswordsDiffer => ("504", "passwords-differ".into()),
        Refusal::Rounds { least, most } => ("560", format!("rounds {least} {most}")),
        Refusal::PasswordsBusy => ("435", "passwords-busy".into()),
        Refusal::PasswordsOutdated => ("436", "passwords-outdated".into()),
        Refusal::PasswordNotSaved => ("437", "password-not-saved".into()),
        Refusal::BadName(word, _) => ("551", format!("bad-name {word}")),
        Refusal::ToSelf => ("552", "to-self".into()),
        Refusal::KeyReused => ("553", "key-reused".into()),
        Refusal::KeyTooOld => ("554", "key-too-old".into()),
        Refusal::BadAck => ("555", "bad-ack".into()),
        Refusal::NobodyElse => ("556", "nobody-else".into()),
    }
}

fn goodbye(farewell: &Farewell) -> String {
    match farewell {
        Farewell::SignedOut => "signed-out".into(),
        Farewell::Idle { limit_s } => format!("idle {limit_s}"),
        Farewell::SignInTooSlow { limit_s } => format!("signin-timeout {limit_s}"),
        Farewell::TooManyFailures { block_s } => {
            format!("too-many-failures {}", block_s.unwrap_or(0))
        }
        Farewell::TooMuchBeforeSignIn => "too-much".into(),
        Farewell::Replaced { address } => format!("replaced {address}"),
        Farewell::Unresponsive => "unresponsive".into(),
        Farewell::Removed => "removed".into(),
        Farewell::PasswordChanged => "password-changed".into(),
        Farewell::ShuttingDown => "shutting-down".into(),
        Farewell::Overload => "overload".into(),
        Farewell::Foreign(_) => "foreign".into(),
        Farewell::PeerClosed | Farewell::Broken | Farewell::Stalled => "closed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LINE_BYTES;
    use proptest::prelude::*;

    /// A reader as simple as PROTOCOL.md makes it: a line, and the text by length in the place of
    /// `{N}`. Returns the code, the tag and the fields, and what is left of the input.
    fn read(input: &str) -> (&str, Option<&str>, String, &str) {
        let (line, rest) = input.split_once("\r\n").expect("a line ends");
        assert!(line.len() <= LINE_BYTES && !line.contains('\n'), "{line:?}");
        let count = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
        let (line, counted, rest) = match count {
            None => (line, "", rest),
            Some((head, count)) => {
                let (text, rest) = rest.split_at(count.parse().expect("a number"));
                (head, text, rest.strip_prefix("\r\n").expect("a line end behind the text"))
            }
        };
        let (code, fields) = line.split_at(3);
        let fields = fields.strip_prefix(' ').unwrap_or(fields);
        let (tag, fields) = match fields.strip_prefix('@') {
            Some(tagged) => {
                let (tag, fields) = tagged.split_once(' ').unwrap_or((tagged, ""));
                (Some(tag), fields)
            }
            None => (None, fields),
        };
        (code, tag, format!("{fields}{counted}"), rest)
    }

    /// Texts with all that could confuse a reader.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z {}0-9]{0,6}",
            Just("\n".to_owned()),
            Just("{3}".to_owned()),
            Just("}".to_owned()),
            Just("@x 190 bye".to_owned()),
            Just("\n100 1.1 1 - fred hi".to_owned()),
            Just("żółć\t".to_owned()),
            Just("x".repeat(1999)),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_call(
            line in proptest::collection::vec(any::<u8>(), 0..80),
            body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        ) {
            _ = parse(&line, body.as_deref());
        }

        #[test]
        fn any_words_are_a_call_and_keep_their_tag(
            tag in "[A-Za-z0-9._-]{1,16}",
            line in "(/?(send|SEND|broadcast|signin|auth|ack|ping|away|help|x) ?)?\
                [=:@(){}a-z0-9. \u{1b}\t]{0,30}",
            body in proptest::option::of("[a-z\n\r]{0,9}"),
        ) {
            let tagged = format!("@{tag} {line}");
            let body = body.as_deref().map(str::as_bytes);
            let call = parse(tagged.as_bytes(), body);
            prop_assert_eq!(call.tag.map(|tag| format!("{tag:?}")), Some(format!("@{tag}")));
            // Without the tag it is the same command, unless it begins with one itself.
            if !line.trim_start_matches(' ').starts_with('@') {
                prop_assert!(parse(line.as_bytes(), body).request == call.request);
            }
        }

        #[test]
        fn a_letter_reads_back_whatever_its_text(
            body in text(),
            seq in any::<u32>(),
            again in any::<bool>(),
            broadcast in any::<bool>(),
        ) {
            let id = LetterId { epoch: 7, seq };
            let mut stamp = vec![];
            id.push_with_time(5, &mut stamp);
            let line = LetterLine {
                id,
                stamp: &stamp,
                again,
                broadcast,
                from: "fred",
                body: body.as_bytes(),
                line_ends: memchr::memchr_iter(b'\n', body.as_bytes()).count() as u32,
            };
            let mut out = vec![];
            letter(&line, &mut out);
            letter(&line, &mut out);
            let out = String::from_utf8(out).unwrap();
            let (code, tag, fields, rest) = read(&out);
            let words: Vec<&str> = fields.splitn(5, ' ').collect();
            prop_assert_eq!((code, tag, words[0].parse()), ("100", None, Ok(id)));
            prop_assert_eq!((words[1], words[3], words[4]), ("5", "fred", body.as_str()));
            prop_assert_eq!((words[2].contains('a'), words[2].contains('b')), (again, broadcast));
            prop_assert!(read(rest).2 == fields && read(rest).3.is_empty());
        }

        #[test]
        fn a_reply_reads_back_whatever_its_text(text in text(), tag in "[a-z]{1,16}") {
            let tag_of_it = Tag::new(&tag);
            let from = UserName::new("fred").unwrap();
            for (reply, code, fields) in [
                (Reply::Away(text.as_str().into()), "262", format!("away {text}")),
                (
                    Reply::AutoReply { from, text: text.as_str().into() },
                    "101",
                    format!("fred {text}"),
                ),
                (
                    Reply::Refused(Refusal::Unknown { word: text.as_str().into(), hint: None }),
                    "500",
                    format!("unknown-command {text}").trim_end().into(),
                ),
            ] {
                let mut out = vec![];
                render(&reply, tag_of_it, &mut out);
                render(&Reply::Pong, None, &mut out);
                let out = String::from_utf8(out).unwrap();
                let (got, its_tag, told, rest) = read(&out);
                prop_assert_eq!((got, its_tag, told), (code, Some(tag.as_str()), fields));
                prop_assert_eq!(rest, "264 pong\r\n");
            }
        }
    }

    #[test]
    fn a_tag_and_a_key_have_their_characters_and_lengths() {
        assert!(Tag::new(&"x".repeat(TAG_BYTES)).is_some());
        for word in ["", "a b", "ä", "a@", &"x".repeat(TAG_BYTES + 1)] {
            assert!(Tag::new(word).is_none(), "{word}");
        }
        let key_of = |line: &str| match parse(line.as_bytes(), None).request {
            Ok(Request::Send { key, .. } | Request::Broadcast { key, .. }) => key.map(str::len),
            _ => panic!("{line}"),
        };
        assert_eq!(key_of(&format!("send ={} a b", "k".repeat(KEY_BYTES))), Some(KEY_BYTES));
        assert_eq!(key_of("BROADCAST =a:1 b"), Some(3));
        assert_eq!(key_of("send a =b"), None);
        for line in ["send = a b", "send =ä a b", "broadcast =) b", "send =a,b c d"] {
            let fault = parse(line.as_bytes(), None).request.err();
            assert!(matches!(fault, Some(CommandFault::Malformed(_))), "{line}");
        }
    }

    #[test]
    fn the_words_of_programs_are_typed_in_any_case_too() {
        for line in ["PING", "/ping", "ping  "] {
            assert!(parse(line.as_bytes(), None).request == Ok(Request::Ping), "{line}");
        }
        let id = LetterId { epoch: 1, seq: 2 };
        assert!(parse(b"@x /Ack 1.2 ", None).request == Ok(Request::Ack(id)));
        assert!(parse(b"Auth abc ", None).request == Ok(Request::Auth("abc")));
    }
}
