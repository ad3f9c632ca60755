//! PROTOCOL.md, checked: every session in it is played against the real engine, and every table
//! that repeats what the code says is compared with the code.
//!
//! The lists below are made by matches without a wildcard. Whoever adds a refusal, a farewell or
//! a problem is sent here by the compiler, and from here to PROTOCOL.md by the test.

#![allow(missing_docs)]

mod support;

use mms::limits;
use mms::proto::coded;
use mms::proto::command::{Problem, Switch, Verb};
use mms::proto::foreign::Foreign;
use mms::proto::id::LetterId;
use mms::proto::name::{NameFault, UserName};
use mms::proto::password::PasswordFault;
use mms::proto::plain;
use mms::proto::reply::{
    Barred, Binds, Farewell, Fates, Flushed, Names, Prompt, Refusal, Reply, Unwatched,
};
use mms::proto::text::TextFault;
use std::collections::BTreeMap;
use support::player::{Block, blocks, play};

const PROTOCOL: &str = include_str!("../PROTOCOL.md");

// ---- the sessions ----------------------------------------------------------------------------

#[test]
fn every_session_is_true() {
    let sessions = blocks(PROTOCOL, "session");
    let lies: Vec<String> = sessions
        .iter()
        .filter_map(|block| play(block).err())
        .map(|lie| format!("PROTOCOL.md:{}: {}", lie.line, lie.why))
        .collect();
    assert!(lies.is_empty(), "\n{}\n", lies.join("\n"));
    assert!(sessions.len() >= 30, "only {} sessions were found", sessions.len());
}

#[test]
fn a_session_that_lies_is_caught_at_its_line() {
    let caught = |text: &str| {
        let block = Block { line: 1, text: text.into() };
        play(&block).err().map(|lie| (lie.line, lie.why))
    };
    let start = "(users: fred, Tim)\n(fred has signed in)\n";
    assert_eq!(caught(&format!("{start}fred> whoelse\nfred< >> Nobody else is online\n")), None);
    for (text, line, why) in [
        ("(Tim has signed in as a tool)\nTim> ping\nTim< 264 pang\n", 5, "instead: 264 pong"),
        ("fred> whoelse\nfred< >> Nobody is online\n", 4, "received instead: >> Nobody else"),
        ("fred> whoelse\n", 4, "not stated: >> Nobody else is online"),
        ("fred> whoelse\nfred> whoelse\n", 4, "not stated"),
        ("fred> whoelse\n(1 s passes)\n", 4, "not stated"),
        ("fred< >> hello\n", 3, "received nothing more"),
        ("Tim> whoelse\n", 3, "Tim is not connected"),
        ("fred> send Tim hi\nTim< >> fred: hi\n", 4, "Tim is not connected"),
        ("(1799 s pass)\nfred< >> signed off after 1800 s of inactivity\n", 4, "nothing more"),
        ("(1800 s pass)\n", 4, "signed off after 1800 s"),
        ("fred> signout\nfred< >> user fred has signed off\n", 5, "Thank you"),
        ("(fred dances)\n", 3, "no such stage direction"),
        ("hello\n", 3, "no one types"),
    ] {
        let (at, told) = caught(&format!("{start}{text}")).expect(text);
        assert!(at == line && told.contains(why), "{text}{at}: {told}");
    }
}

/// Samples of an enum, each beside the pattern it matches; the patterns are all there are.
macro_rules! every {
    ($type:ty: $($pattern:pat => $sample:expr,)*) => {{
        fn is_listed(value: &$type) {
            match value {
                $($pattern => {})*
            }
        }
        let samples: Vec<$type> = vec![$($sample),*];
        $(assert!(samples.iter().any(|sample| matches!(sample, $pattern)));)*
        samples.iter().for_each(is_listed);
        samples
    }};
}

// ---- lines that look like messages -------------------------------------------------------------

/// Whose message a line is, as a program reads it that knows no more than what PROTOCOL.md says.
fn sender(line: &str) -> Option<&str> {
    let text = line.strip_prefix(">> ")?.trim_start_matches(' ');
    let text = text.strip_prefix("(again) ").unwrap_or(text);
    let (name, _) = text.split_once(": ")?;
    UserName::new(name).is_ok().then_some(name)
}

/// Everything the server can say in the plain dialect, with each command and each problem in turn.
fn replies() -> Vec<Reply> {
    let names = |words: &[&str], count| Names {
        shown: words.iter().map(|word| UserName::new(word).unwrap()).collect(),
        count,
    };
    let id = LetterId { epoch: 7, seq: 8 };
    let fates = Fates {
        unknown: vec!["fred:".into()],
        full: vec![name()],
        blocked: vec![name()],
        to_self: Some(name()),
        ..Fates::default()
    };
    let mut replies = every!(Reply:
        Reply::Greeting => Reply::Greeting,
        Reply::Help(_) => Reply::Help(None),
        Reply::PasswordPrompt(_) => Reply::PasswordPrompt(Prompt::Current),
        Reply::PromptInterrupted => Reply::PromptInterrupted,
        Reply::PasswordRead => Reply::PasswordRead,
        Reply::Welcome { .. } => Reply::Welcome { user: name(), waiting: 2, spool: 1, proof: None },
        Reply::Sent { .. } => Reply::Sent { to: name(), id },
        Reply::Saved { .. } => Reply::Saved { to: name(), id },
        Reply::Known(_) => Reply::Known(id),
        Reply::Switched(_) => Reply::Switched(Binds::Exporter),
        Reply::Challenge(_) => Reply::Challenge("cj0x".into()),
        Reply::Pong => Reply::Pong,
        Reply::Ping => Reply::Ping,
        Reply::Fates(_) => Reply::Fates(Box::new(fates)),
        Reply::Broadcast { .. } =>
            Reply::Broadcast { users: 1, full: names(&[USER, "Tim"], 5), id: None },
        Reply::WhoIsOn { .. } =>
            Reply::WhoIsOn { online: names(&[USER], 1), offline: names(&["Tim"], 5) },
        Reply::WhoElse(_) => Reply::WhoElse(names(&[], 0)),
        Reply::WhoLast { .. } => Reply::WhoLast { who: names(&[USER], 1), window_ms: 1000 },
        Reply::Away(_) => Reply::Away("fred: hi".into()),
        Reply::NoLongerAway => Reply::NoLongerAway,
        Reply::AutoReply { .. } => Reply::AutoReply { from: name(), text: "away".into() },
        Reply::Notify(_) => Reply::Notify(Switch::On),
        Reply::Presence { .. } => Reply::Presence { user: name(), switch: Switch::On },
        Reply::Block { .. } => Reply::Block { user: name(), switch: Switch::On },
        Reply::Receipts(_) => Reply::Receipts(Switch::On),
        Reply::Delivered { .. } => Reply::Delivered { id, user: name() },
        Reply::Unwatched { .. } => Reply::Unwatched { id, why: Unwatched::Busy },
        Reply::SignedOff(_) => Reply::SignedOff(name()),
        Reply::SecondSignIn { .. } =>
            Reply::SecondSignIn { user: name(), address: "2001:db8::1".parse().unwrap() },
        Reply::Probing(_) => Reply::Probing(name()),
        Reply::LetterDamaged { .. } => Reply::LetterDamaged { id, from: name() },
        Reply::PasswordChanged { .. } =>
            Reply::PasswordChanged { proof: None, flushed: Flushed::Surely },
        Reply::PasswordKept => Reply::PasswordKept,
        Reply::Refused(_) => Reply::Refused(Refusal::ToSelf),
        Reply::Farewell(_) => Reply::Farewell(Farewell::Idle { limit_s: 1 }),
    );
    let mut refused = refusals();
    for verb in Verb::ALL {
        replies.push(Reply::Help(Some(verb)));
        refused.push(Refusal::Unknown { word: "fred:".into(), hint: Some(verb) });
        refused.extend(problems().into_iter().map(|problem| Refusal::Usage(verb, problem)));
    }
    for fault in name_faults() {
        refused.push(Refusal::BadName("fred:".into(), fault));
    }
    replies.push(Reply::Fates(Box::new(Fates { sent: vec![name()], ..Fates::default() })));
    replies.push(Reply::Fates(Box::new(Fates { saved: vec![name()], ..Fates::default() })));
    replies.push(Reply::PasswordChanged { proof: None, flushed: Flushed::Perhaps });
    for fault in password_faults() {
        refused.push(Refusal::BadPassword(fault));
    }
    for switch in [Switch::On, Switch::Off] {
        replies.push(Reply::Notify(switch));
        replies.push(Reply::Presence { user: name(), switch });
        replies.push(Reply::Block { user: name(), switch });
    }
    replies.extend(refused.into_iter().map(Reply::Refused));
    replies.extend(farewells().into_iter().map(Reply::Farewell));
    replies
}

#[test]
fn no_other_line_reads_like_a_message() {
    let mut lines = 0;
    for reply in replies() {
        let mut out = vec![];
        plain::render(&reply, &mut out);
        let out = String::from_utf8_lossy(&out).into_owned();
        let of = matches!(reply, Reply::AutoReply { .. }).then_some(USER);
        for line in out.lines() {
            assert_eq!(sender(line), of, "{line}");
            lines += 1;
        }
    }
    assert!(lines > 200, "{lines}");
    for line in [">> fred: hi", ">>      (again) Tim: usage: no", ">> (again) msg: x"] {
        assert!(sender(line).is_some(), "{line}");
    }
}

// ---- tables that repeat what the code says -----------------------------------------------------

// What stands for what in the document; each of them is in none of the fixed texts.
const USER: &str = "Quentin";
const WORD: &str = "qwxz";
const NUMBER: u64 = 4711;

fn name() -> UserName {
    UserName::new(USER).unwrap()
}

fn refusals() -> Vec<Refusal> {
    let problem = Problem::NoUser;
    every!(Refusal:
        Refusal::MustSignIn => Refusal::MustSignIn,
        Refusal::SignedInAlready(_) => Refusal::SignedInAlready(name()),
        Refusal::NotAuthorized(_) => Refusal::NotAuthorized(USER.into()),
        Refusal::Blocked { .. } => Refusal::Blocked { name: USER.into(), left_s: NUMBER },
        Refusal::AlreadyOnline(_) => Refusal::AlreadyOnline(name()),
        Refusal::SignInsBusy => Refusal::SignInsBusy,
        Refusal::Unknown { hint: None, .. } => Refusal::Unknown { word: WORD.into(), hint: None },
        Refusal::Unknown { hint: Some(_), .. } =>
            Refusal::Unknown { word: WORD.into(), hint: Some(Verb::WhoElse) },
        Refusal::Usage(..) => Refusal::Usage(Verb::WhoElse, problem),
        Refusal::Text(TextFault::NotUtf8) => Refusal::Text(TextFault::NotUtf8),
        Refusal::Text(TextFault::Character(_)) => Refusal::Text(TextFault::Character('\u{1b}')),
        Refusal::LineTooLong(_) => Refusal::LineTooLong(NUMBER as usize),
        Refusal::MessageTooLong { .. } =>
            Refusal::MessageTooLong { bytes: NUMBER as usize, most: NUMBER as usize },
        Refusal::PasswordTooLong(_) => Refusal::PasswordTooLong(NUMBER as usize),
        Refusal::WrongPassword => Refusal::WrongPassword,
        Refusal::BadPassword(_) => Refusal::BadPassword(PasswordFault::Empty),
        Refusal::PasswordsDiffer => Refusal::PasswordsDiffer,
        Refusal::Rounds { .. } => Refusal::Rounds { least: NUMBER as u32, most: NUMBER as u32 },
        Refusal::PasswordsBusy => Refusal::PasswordsBusy,
        Refusal::PasswordsOutdated => Refusal::PasswordsOutdated,
        Refusal::PasswordNotSaved => Refusal::PasswordNotSaved,
        Refusal::BadName(..) => Refusal::BadName(WORD.into(), NameFault::Empty),
        Refusal::NoSuchUser { hint: None, .. } =>
            Refusal::NoSuchUser { name: WORD.into(), hint: None },
        Refusal::NoSuchUser { hint: Some(_), .. } =>
            Refusal::NoSuchUser { name: WORD.into(), hint: Some(name()) },
        Refusal::ToSelf => Refusal::ToSelf,
        Refusal::MailboxFull(_) => Refusal::MailboxFull(name()),
        Refusal::DiskFull => Refusal::DiskFull,
        Refusal::NobodyElse => Refusal::NobodyElse,
        Refusal::Undeliverable(_) => Refusal::Undeliverable(name()),
        Refusal::BlocksFull(_) => Refusal::BlocksFull(NUMBER as usize),
        Refusal::BlockSelf => Refusal::BlockSelf,
        Refusal::Switch => Refusal::Switch,
        Refusal::Malformed(_) => Refusal::Malformed("<usage>"),
        Refusal::BadTag => Refusal::BadTag,
        Refusal::NotPresent => Refusal::NotPresent,
        Refusal::KeyReused => Refusal::KeyReused,
        Refusal::KeyTooOld => Refusal::KeyTooOld,
        Refusal::KeysFull => Refusal::KeysFull,
        Refusal::BadAck => Refusal::BadAck,
    )
}

fn farewells() -> Vec<Farewell> {
    let address = "192.0.2.1".parse().unwrap();
    every!(Farewell:
        Farewell::SignedOut => Farewell::SignedOut,
        Farewell::Idle { .. } => Farewell::Idle { limit_s: NUMBER },
        Farewell::SignInTooSlow { .. } => Farewell::SignInTooSlow { limit_s: NUMBER },
        Farewell::TooManyFailures { block_s: Some(_) } =>
            Farewell::TooManyFailures { block_s: Some(NUMBER) },
        Farewell::TooManyFailures { block_s: None } => Farewell::TooManyFailures { block_s: None },
        Farewell::TooMuchBeforeSignIn => Farewell::TooMuchBeforeSignIn,
        Farewell::Replaced { .. } => Farewell::Replaced { address },
        Farewell::Unresponsive => Farewell::Unresponsive,
        Farewell::Removed => Farewell::Removed,
        Farewell::PasswordChanged => Farewell::PasswordChanged,
        Farewell::ShuttingDown => Farewell::ShuttingDown,
        Farewell::PeerClosed => Farewell::PeerClosed,
        Farewell::Broken => Farewell::Broken,
        Farewell::Stalled => Farewell::Stalled,
        Farewell::Overload => Farewell::Overload,
        Farewell::Foreign(_) => Farewell::Foreign(Foreign::Binary),
    )
}

fn bars() -> Vec<Barred> {
    every!(Barred:
        Barred::Full => Barred::Full,
        Barred::ShortOfMemory => Barred::ShortOfMemory,
        Barred::EarlyDrop => Barred::EarlyDrop,
        Barred::TooManyOfOne { .. } => Barred::TooManyOfOne { most: NUMBER as u32 },
        Barred::TooFast => Barred::TooFast,
        Barred::Penalty { .. } => Barred::Penalty { left_s: NUMBER },
    )
}

fn foreigners() -> Vec<Foreign> {
    every!(Foreign:
        Foreign::Tls => Foreign::Tls,
        Foreign::Http => Foreign::Http,
        Foreign::Smtp => Foreign::Smtp,
        Foreign::Ssh => Foreign::Ssh,
        Foreign::Binary => Foreign::Binary,
    )
}

fn problems() -> Vec<Problem> {
    every!(Problem:
        Problem::NoUser => Problem::NoUser,
        Problem::NoMessage => Problem::NoMessage,
        Problem::NoPassword => Problem::NoPassword,
        Problem::OpenList => Problem::OpenList,
        Problem::OnOff => Problem::OnOff,
        Problem::LongList => Problem::LongList,
        Problem::Extra => Problem::Extra,
        Problem::Number { .. } => Problem::Number { least: 1, most: NUMBER, unit: "minutes" },
    )
}

fn name_faults() -> Vec<NameFault> {
    every!(NameFault:
        NameFault::Empty => NameFault::Empty,
        NameFault::TooLong => NameFault::TooLong,
        NameFault::Character => NameFault::Character,
        NameFault::LeadingDot => NameFault::LeadingDot,
        NameFault::Reserved => NameFault::Reserved,
    )
}

fn password_faults() -> Vec<PasswordFault> {
    every!(PasswordFault:
        PasswordFault::Empty => PasswordFault::Empty,
        PasswordFault::TooLong => PasswordFault::TooLong,
        PasswordFault::Control => PasswordFault::Control,
        PasswordFault::NotText => PasswordFault::NotText,
    )
}

fn text_faults() -> Vec<TextFault> {
    every!(TextFault:
        TextFault::NotUtf8 => TextFault::NotUtf8,
        TextFault::Character(_) => TextFault::Character('\u{1b}'),
    )
}

/// The first line of what is said in the plain dialect, without `>> `, and with placeholders.
fn said(reply: &Reply) -> String {
    let mut out = vec![];
    plain::render(reply, &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.lines().next().unwrap_or_default();
    with_placeholders(line.strip_prefix(">> ").unwrap_or_default())
}

/// The same in the coded dialect.
fn coded_said(reply: &Reply) -> String {
    let mut out = vec![];
    coded::render(reply, None, &mut out);
    let text = String::from_utf8(out).unwrap();
    with_placeholders(text.strip_suffix("\r\n").unwrap())
}

fn with_placeholders(line: &str) -> String {
    line.replace(USER, "<user>")
        .replace(WORD, "<word>")
        .replace(&NUMBER.to_string(), "<n>")
        .replace("192.0.2.1", "<address>")
        .replace("whoelse", "<command>")
        .replace("U+001B", "U+<hex>")
        .replace(&NameFault::Empty.to_string(), "<why>")
        .replace(&PasswordFault::Empty.to_string(), "<why>")
        .replace("504 password empty", "504 password <why>")
        .replace(&TextFault::NotUtf8.to_string(), "<why>")
        .replace("the line holds the control character U+<hex>", "<why>")
        .replace("a user is missing", "<problem>")
}

/// The name of a variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").split(|c: char| !c.is_alphanumeric()).next().unwrap().into()
}

/// The cells of the rows whose first one is `name`.
fn rows(name: &str) -> Vec<Vec<&'static str>> {
    let begin = format!("| `{name}` |");
    let cells = |row: &'static str| row.trim_matches('|').split(" | ").map(str::trim).collect();
    PROTOCOL.lines().filter(|line| line.starts_with(&begin)).map(cells).collect()
}

#[test]
fn every_refusal_has_its_row() {
    for refusal in refusals() {
        let reply = Reply::Refused(refusal.clone());
        let (text, line) = (format!("`{}`", said(&reply)), format!("`{}`", coded_said(&reply)));
        let (name, code) = (variant(&refusal), &line[1..4]);
        let fits = |row: &Vec<&str>| row[1] == text && row[2] == line;
        assert!(rows(&name).iter().any(fits), "no row for {name}: {text}, {line}");
        assert!(code.starts_with('4') || code.starts_with('5'), "{name} is {code}");
    }
}

#[test]
fn every_farewell_has_its_row() {
    for farewell in farewells() {
        let text = match said(&Reply::Farewell(farewell.clone())) {
            text if text.is_empty() => "nothing".into(),
            text => format!("`{text}`"),
        };
        let line = match farewell {
            // The connection is gone: nobody is told.
            Farewell::Broken | Farewell::Stalled => "nothing".into(),
            _ => format!("`{}`", coded_said(&Reply::Farewell(farewell.clone()))),
        };
        let (name, reason) = (variant(&farewell), format!("`{}`", farewell.reason()));
        let fits = |row: &Vec<&str>| row[1] == text && row[2] == line && row[3] == reason;
        assert!(rows(&name).iter().any(fits), "no row for {name}: {text}, {line}, {reason}");
    }
}

#[test]
fn everyone_who_is_turned_away_has_his_row() {
    for barred in bars() {
        let mut out = vec![];
        plain::barred(&barred, &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix(">> ").and_then(|line| line.strip_suffix("\r\n")).unwrap();
        assert_eq!(sender(&text), None, "it reads like a message");
        let (line, reason) = (with_placeholders(line), barred.reason());
        let fits =
            |row: &Vec<&str>| row[1] == format!("`{line}`") && row[2] == format!("`{reason}`");
        assert!(
            rows(&variant(&barred)).iter().any(fits),
            "no row for {barred:?}: {line}, {reason}"
        );
    }
    for foreign in foreigners() {
        let row = format!(" | `{foreign}` |");
        assert!(PROTOCOL.lines().any(|line| line.ends_with(&row)), "no row for {foreign:?}");
    }
}

#[test]
fn every_reason_within_a_refusal_is_there() {
    let usage = |problem| said(&Reply::Refused(Refusal::Usage(Verb::WhoElse, problem)));
    let problems = problems().into_iter().map(|problem| {
        let text = usage(problem);
        let text = text.strip_prefix("<command>: ").unwrap();
        (variant(&problem), text.replace("<problem>", "a user is missing"))
    });
    let names = name_faults().into_iter().map(|fault| (variant(&fault), fault.to_string()));
    let texts = text_faults()
        .into_iter()
        .map(|fault| (variant(&fault), fault.to_string().replace("U+001B", "U+<hex>")));
    let passwords = password_faults().into_iter().map(|fault| {
        let refusal = Refusal::BadPassword(fault);
        let row = &rows("BadPassword")[0];
        assert!(row[3].contains(&format!("`{}`", fault.word())), "{fault:?}");
        assert!(coded_said(&Reply::Refused(refusal)).starts_with("504 password "));
        (variant(&fault), fault.to_string())
    });
    for (name, text) in problems.chain(names).chain(texts).chain(passwords) {
        let text =
            format!("`{}`", text.replace("1 to <n>", "<n> to <n>").replace("minutes", "<unit>"));
        assert!(rows(&name).iter().any(|row| row[1] == text), "no row for {name}: {text}");
    }
}

#[test]
fn every_command_has_its_section() {
    for verb in Verb::ALL {
        let heading = format!("\n### `{}`\n", verb.name());
        let begin = PROTOCOL.find(&heading).expect(&heading) + 1;
        let section = PROTOCOL[begin..].split("\n##").next().unwrap();
        for part in verb.usage().iter().chain(verb.words()) {
            assert!(section.contains(&format!("`{part}`")), "{}: {part}", verb.name());
        }
        for line in ["Syntax: ", "Meaning: ", "Refusals: "] {
            assert!(section.contains(&format!("\n{line}")), "{}: {line}", verb.name());
        }
        assert!(section.contains("\n```session\n"), "{}: an example", verb.name());
    }
}

#[test]
fn every_limit_is_what_limits_rs_says() {
    macro_rules! known {
        ($($name:ident)*) => {
            BTreeMap::from([$((stringify!($name), limits::$name.to_string())),*])
        };
    }
    let known = known!(
        LINE_BYTES LINE_BYTES_BEFORE_SIGNIN BYTES_BEFORE_SIGNIN BODY_BYTES LIST_RECIPIENTS
        NAME_BYTES PASSWORD_BYTES AWAY_BYTES ECHO_CHARS NAMES_SHOWN WHOLAST_MINUTES
        MAX_FAILURES BLOCK_TIME_S FAILURE_MEMORY_MS LOCKOUT_ENTRIES TRIES_A_CONNECTION
        CHECKS_UNDER_WAY CHECKS_WAITING IDLE_TIMEOUT_S SIGNIN_MS PROBE_DEAD_MS
        MAILBOX_LETTERS MAILBOX_BYTES SENDER_SHARE WINDOW_LETTERS WINDOW_BYTES CREDIT_LETTERS
        CREDIT_BYTES
        COMMANDS_A_TURN OUTPUT_PAUSE_BYTES OUTPUT_CLOSE_BYTES STALLED_MS WITNESS_MS STOP_MS
        ALIVE_MS CONNECTIONS COUNTED_BYTES TAG_BYTES KEY_BYTES KEY_INSTALLATION_BYTES
        KEY_INSTALLATIONS KEY_WINDOW KEY_WINDOW_MS KEYS_SINGLE KEYS_ALL BLOCKS
        RECEIPTS RECEIPTS_ALL KEY_SINGLE_MS PING_MS PONG_MS
        UNSIGNED_BEGIN UNSIGNED_PERCENT UNSIGNED_FULL UNSIGNED_OF_ONE NEW_AT_ONCE
        PENALTY_FAILED_MS PENALTY_NOTHING_TRIED_MS PENALTY_TOO_SLOW_MS PENALTY_FROM_MS
        PENALTY_MOST_MS SOURCES BUFFERS_MIB SHED_FROM_PERCENT WORK_A_TURN WORK_A_SHARE
        NONCE_BYTES_MOST ROUNDS_LEAST ROUNDS_OWN_MOST PASSWORD_CHANGES USERS_LOCK_MS
        RESERVE_MIB FILL_RETRY_MS TLS_HANDSHAKE_MS TLS_HANDSHAKE_BYTES TLS_HANDSHAKES_A_TURN
        ROUNDS_DEFAULT ROUNDS_MOST SALT_BYTES_LEAST SALT_BYTES_MOST
    );
    for (name, value) in &known {
        let [row] = &rows(name)[..] else { panic!("not one row for {name}") };
        assert_eq!(row[1].replace(',', ""), *value, "{name}");
    }
    let shouts = |name: &str| name.contains('_') && name.to_uppercase() == name;
    let all = PROTOCOL.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for name in all.filter(|name| shouts(name)) {
        assert!(known.contains_key(name), "{name} is not compared with limits.rs");
    }
}

#[test]
fn the_grammar_is_the_parsers() {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let grammars = blocks(PROTOCOL, "abnf");
    assert_eq!(grammars.len(), 2, "one for each dialect");
    let grammar = squeezed(&grammars.iter().map(|one| &one.text[..]).collect::<String>());
    let sources = [
        include_str!("../src/proto/command.rs"),
        include_str!("../src/proto/line.rs"),
        include_str!("../src/proto/coded.rs"),
    ];
    let rules: Vec<String> = sources
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.trim_start().strip_prefix("/// `")?.split('`').next())
        .filter(|rule| rule.contains(" = "))
        .map(squeezed)
        .collect();
    assert!(rules.len() >= 16, "{rules:?}");
    for rule in rules {
        assert!(grammar.contains(&rule), "not in the grammar: {rule}");
    }
}
