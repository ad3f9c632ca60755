//! What the companion shows, as text: answers in the words of the plain dialect, letters with
//! their time, colours where they are wanted. Pure; nothing in it drives a terminal but what
//! [`Look::paint`] adds.

use super::shown::{Shown, ShownLines};
use crate::limits::ECHO_CHARS;
use crate::proto::coded_client::{Answer, Condition, Fate, Letter, Refused};
use crate::proto::command::{CommandFault, Switch, Verb};
use crate::proto::name::UserName;
use crate::proto::plain;
use crate::proto::reply::{Fates, Names, Refusal, Reply};
use crate::time::date;

const DAY_MS: u64 = 86_400_000;

/// What sort of line it is; that decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A message to the person.
    Letter,
    /// The answer to what was typed.
    Answer,
    /// Something happened.
    Notice,
    /// Something is wrong.
    Trouble,
}

/// Something to be shown: one line, or more with their ends between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What sort of line.
    pub tone: Tone,
    /// What it says; harmless.
    pub text: String,
}

impl Line {
    /// A line of this sort.
    #[must_use]
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// What a terminal is good for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// It shows colours, and they are wanted.
    pub colour: bool,
    /// It rings at a message.
    pub bell: bool,
}

impl Look {
    /// The line as it is written, with its end.
    #[must_use]
    pub fn paint(self, line: &Line) -> String {
        let bell = if self.bell && line.tone == Tone::Letter { "\x07" } else { "" };
        let colour = match line.tone {
            _ if !self.colour => "",
            Tone::Letter => "\x1b[1m",
            Tone::Answer => "",
            Tone::Notice => "\x1b[36m",
            Tone::Trouble => "\x1b[31m",
        };
        let end = if colour.is_empty() { "" } else { "\x1b[0m" };
        format!("{colour}{}{end}{bell}\n", line.text)
    }
}

/// A letter: when it was sent, in UTC (`Z`), and the day if that was not today; from whom; what.
#[must_use]
pub fn letter(letter: &Letter, again: bool, now_unix_ms: u64) -> Line {
    if letter.condition == Condition::Damaged {
        return Line::new(Tone::Trouble, lost(letter));
    }
    let mut text = time(letter.unix_ms, now_unix_ms);
    text.push_str(if again { " (again) " } else { " " });
    let all = if letter.broadcast { " (to all)" } else { "" };
    text.push_str(&format!("{}{all}: {}", Shown(&letter.from), ShownLines(&letter.text)));
    Line::new(Tone::Letter, text)
}

/// What is said of a letter whose text is lost.
#[must_use]
pub fn lost(letter: &Letter) -> String {
    let Letter { id, from, .. } = letter;
    format!("a message from {} was damaged on the server's disk and is lost ({id})", Shown(from))
}

/// `14:05Z`, or `2026-11-19 14:05Z` if that is another day than today.
fn time(unix_ms: u64, now_unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000 % 1440;
    let clock = format!("{:02}:{:02}Z", minutes / 60, minutes % 60);
    let day = unix_ms / DAY_MS;
    if day == now_unix_ms / DAY_MS {
        return clock;
    }
    let (year, month, day) = date(day);
    format!("{year:04}-{month:02}-{day:02} {clock}")
}

/// A reply in the words of the plain dialect, a line each.
#[must_use]
pub fn words(reply: &Reply) -> String {
    let mut out = Vec::new();
    plain::render(reply, &mut out);
    let text = String::from_utf8_lossy(&out);
    let line = |line: &str| Shown(line.strip_prefix(">> ").unwrap_or(line)).to_string();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The help of the companion.
#[must_use]
pub fn help(verb: Option<Verb>) -> String {
    let mut text = words(&Reply::Help(verb));
    if verb.is_none() {
        text.push_str(
            "\nTab completes commands and names, Up brings back what was typed, Ctrl-D leaves; \
             times are UTC",
        );
    }
    text
}

/// Why a line typed is no command.
#[must_use]
pub fn fault(fault: CommandFault<'_>) -> String {
    let refusal = match fault {
        CommandFault::Text(fault) => Refusal::Text(fault),
        CommandFault::Unknown(word) | CommandFault::NoSuchTopic(word) => {
            let cut = word.char_indices().nth(ECHO_CHARS);
            let word = cut.map_or_else(|| word.into(), |(cut, _)| format!("{}...", &word[..cut]));
            Refusal::Unknown { word: word.into(), hint: None }
        }
        CommandFault::Usage(verb, problem) => Refusal::Usage(verb, problem),
        CommandFault::Blank
        | CommandFault::Switch
        | CommandFault::Malformed(_)
        | CommandFault::BadTag => Refusal::Unknown { word: "coded".into(), hint: None },
    };
    words(&Reply::Refused(refusal))
}

/// What an answer is about, as far as the answer does not say it itself.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Whom a message was for.
    pub to: &'a [String],
    /// The window of a question, in milliseconds.
    pub window_ms: Option<u64>,
}

/// An answer in the words of the plain dialect.
#[must_use]
pub fn answer(answer: &Answer, about: About<'_>) -> Line {
    if let Answer::Refused(refused) = answer {
        return Line::new(Tone::Trouble, refusal(refused));
    }
    // A name that is none can come from a broken server only.
    let text = reply(answer, about).map_or_else(|| "done".into(), |reply| words(&reply));
    let text = match answer {
        Answer::Stored { fate: Fate::Known, .. } if about.to.is_empty() => {
            "message sent; an earlier try had got through".into()
        }
        Answer::Stored { fate: Fate::Known, .. } => {
            let to = about.to.join(", ");
            format!("message sent to {}; an earlier try had got through", Shown(&to))
        }
        _ => text,
    };
    Line::new(Tone::Answer, text)
}

fn reply(answer: &Answer, about: About<'_>) -> Option<Reply> {
    Some(match answer {
        &Answer::Stored { id, fate, ref to } => {
            let to = UserName::new(to).ok()?;
            match fate {
                Fate::Sent => Reply::Sent { to, id },
                Fate::Saved => Reply::Saved { to, id },
                _ => return None,
            }
        }
        Answer::Fates { id, fates } => {
            let list = |fate| {
                let names = fates.iter().filter(move |(_, its)| *its == fate);
                names.filter_map(|(name, _)| UserName::new(name).ok())
            };
            let unknown = fates.iter().filter(|(_, fate)| *fate == Fate::Unknown);
            Reply::Fates(Box::new(Fates {
                sent: list(Fate::Sent).collect(),
                saved: list(Fate::Saved).collect(),
                unknown: unknown.map(|(name, _)| (**name).into()).collect(),
                full: list(Fate::Full).collect(),
                blocked: list(Fate::Blocked).collect(),
                to_self: list(Fate::ToSelf).next(),
                id: *id,
            }))
        }
        Answer::Broadcast { id, count, full, more } => Reply::Broadcast {
            users: usize::try_from(*count).ok()?,
            full: names(full, *more),
            id: *id,
        },
        Answer::Who { online, offline, more } => {
            Reply::WhoIsOn { online: names(online, more.0), offline: names(offline, more.1) }
        }
        Answer::Names(who) => match about.window_ms {
            None => Reply::WhoElse(names(who, 0)),
            Some(window_ms) => Reply::WhoLast { who: names(who, 0), window_ms },
        },
        Answer::Away(text) => Reply::Away((**text).into()),
        &Answer::Notify(switch) => Reply::Notify(switch),
        &Answer::Block { ref user, switch } => {
            Reply::Block { user: UserName::new(user).ok()?, switch }
        }
        &Answer::PasswordChanged { flushed, .. } => Reply::PasswordChanged { proof: None, flushed },
        Answer::Pong | Answer::Done | Answer::Refused(_) => return None,
    })
}

fn names(words: &[String], more: u64) -> Names {
    let shown: Vec<_> = words.iter().filter_map(|word| UserName::new(word).ok()).collect();
    let more = usize::try_from(more).unwrap_or_default();
    Names { count: shown.len().saturating_add(more), shown }
}

/// A refusal in the words of the plain dialect, if it has words for it.
fn refusal(refused: &Refused) -> String {
    let (first, second) = (refused.argument(1), refused.argument(2));
    let refusal = match refused.code {
        435 => Some(Refusal::PasswordsBusy),
        436 => Some(Refusal::PasswordsOutdated),
        437 => Some(Refusal::PasswordNotSaved),
        535 if refused.fields == "wrong-password" => Some(Refusal::WrongPassword),
        451 => Some(Refusal::DiskFull),
        452 => UserName::new(first).ok().map(Refusal::MailboxFull),
        500 => Some(Refusal::Unknown { word: first.into(), hint: Verb::find(second) }),
        550 => {
            let hint = UserName::new(second).ok();
            Some(Refusal::NoSuchUser { name: first.into(), hint })
        }
        551 => UserName::new(first).err().map(|fault| Refusal::BadName(first.into(), fault)),
        552 => Some(Refusal::ToSelf),
        556 => Some(Refusal::NobodyElse),
        557 => UserName::new(first).ok().map(Refusal::Undeliverable),
        558 => first.parse().ok().map(Refusal::BlocksFull),
        559 => Some(Refusal::BlockSelf),
        _ => None,
    };
    refusal.map_or_else(|| refused.to_string(), |refusal| words(&Reply::Refused(refusal)))
}

/// Something that happened unasked; `None` if nobody need know.
#[must_use]
pub fn notice(code: u16, fields: &str, user: &str) -> Option<Line> {
    let (first, rest) = fields.split_once(' ').unwrap_or((fields, ""));
    let named = UserName::new(first);
    let text = match (code, named) {
        (101, Ok(from)) => words(&Reply::AutoReply { from, text: rest.into() }),
        (110, Ok(user)) => {
            let switch = if rest == "online" { Switch::On } else { Switch::Off };
            words(&Reply::Presence { user, switch })
        }
        (112, _) => format!(
            "somebody at {} tries to sign in as {} with your password",
            Shown(rest),
            Shown(user)
        ),
        (114, _) => words(&Reply::NoLongerAway),
        // What it says of acknowledgements is between the programs.
        (555, _) => return None,
        _ => format!("the server says: {code} {}", Shown(fields)),
    };
    Some(Line::new(Tone::Notice, text))
}

/// What stands at the blank where a person pressed Tab: where the word begins, and what may be
/// meant. `line` ends at the cursor.
#[must_use]
pub fn complete(line: &str, users: &[String]) -> (usize, Vec<String>) {
    let start = line.rfind([' ', '(', ',']).map_or(0, |at| at + 1);
    let (before, word) = line.split_at(start);
    let begins =
        |whole: &str| whole.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    if before.trim().is_empty() {
        let verbs = Verb::ALL.into_iter().filter(|&verb| verb != Verb::SignIn).map(Verb::name);
        let slash = word.starts_with('/');
        let shown = verbs.map(|name| if slash { format!("/{name} ") } else { format!("{name} ") });
        return (start, shown.filter(|name| begins(name)).collect());
    }
    let verb = before.split_whitespace().next().and_then(Verb::find);
    let names_begin = match verb {
        Some(Verb::Send) if before.contains('(') => !before.contains(')'),
        Some(Verb::Send) => before.split_whitespace().count() == 1,
        Some(Verb::Broadcast) => !before.to_lowercase().contains(" message "),
        Some(Verb::Help) => {
            let names = Verb::ALL.into_iter().map(|verb| verb.name().to_owned());
            return (start, names.filter(|name| begins(name)).collect());
        }
        _ => false,
    };
    if !names_begin {
        return (start, Vec::new());
    }
    let end = if before.contains('(') { "" } else { " " };
    let found = users.iter().filter(|name| begins(name)).map(|name| format!("{name}{end}"));
    (start, found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: About<'static> = About { to: &[], window_ms: None };

    #[test]
    fn answers_read_as_in_telnet() {
        let id = "1.2".parse().unwrap();
        let stored = |fate| Answer::Stored { id, fate, to: "fred".into() };
        assert_eq!(answer(&stored(Fate::Sent), NOBODY).text, "message sent to fred");
        assert_eq!(
            answer(&stored(Fate::Saved), NOBODY).text,
            "fred is offline, message will be saved for future delivery"
        );
        let to = ["fred".to_owned()];
        let known = Answer::Stored { id, fate: Fate::Known, to: String::new() };
        assert_eq!(
            answer(&known, About { to: &to, window_ms: None }).text,
            "message sent to fred; an earlier try had got through"
        );
        assert_eq!(answer(&known, NOBODY).text, "message sent; an earlier try had got through");
        let who = Answer::Names(vec!["a".into(), "b".into()]);
        assert_eq!(answer(&who, NOBODY).text, "Users a and b are online");
        let last = About { to: &[], window_ms: Some(60_000) };
        assert_eq!(answer(&who, last).text, "Users a and b were online in the last minute");
        let refused = |code, fields: &str| Answer::Refused(Refused { code, fields: fields.into() });
        let refused = answer(&refused(550, "no-such-user fre fred"), NOBODY);
        assert_eq!(refused, Line::new(Tone::Trouble, "no such user: fre; did you mean fred?"));
        let broken = Answer::Stored { id, fate: Fate::Sent, to: "\x1b[2J".into() };
        assert_eq!(answer(&broken, NOBODY).text, "done");
    }

    #[test]
    fn letters_have_their_time_and_drive_no_terminal() {
        let at = |unix_ms, now| {
            let one = Letter::parse(&format!("1.2 {unix_ms} b tim a\x1b[2J\nb")).unwrap();
            letter(&one, true, now).text
        };
        let noon = 1_795_176_300_000;
        assert_eq!(at(noon, noon + 1), "12:05Z (again) tim (to all): a\\u{1b}[2J\n  | b");
        assert!(at(noon, noon + DAY_MS).starts_with("2026-11-20 12:05Z"));
        assert!(at(951_782_400_000, noon).starts_with("2000-02-29 00:00Z"));
        assert!(!at(u64::MAX, noon).is_empty());
    }

    #[test]
    fn a_long_word_is_not_repeated_as_a_whole() {
        let told = |word: &str| fault(CommandFault::Unknown(word));
        let word = "ż".repeat(ECHO_CHARS);
        let words = "is no command; 'help' lists the commands";
        assert_eq!(told(&word), format!("'{word}' {words}"));
        assert_eq!(told(&format!("{word}!")), format!("'{word}...' {words}"));
    }

    #[test]
    fn colours_and_the_bell_are_added_last() {
        let line = Line::new(Tone::Letter, "x");
        assert_eq!(Look::default().paint(&line), "x\n");
        let look = Look { colour: true, bell: true };
        assert_eq!(look.paint(&line), "\x1b[1mx\x1b[0m\x07\n");
        assert_eq!(look.paint(&Line::new(Tone::Answer, "x")), "x\n");
    }

    #[test]
    fn words_are_completed() {
        let users = ["fred".to_owned(), "Francoc".to_owned()];
        let found = |line: &str| complete(line, &users);
        assert_eq!(
            found("who"),
            (
                0,
                vec![
                    "whoison ".into(),
                    "whoelse ".into(),
                    "wholast ".into(),
                    "whoelsesince ".into()
                ]
            )
        );
        assert_eq!(found("/se"), (0, vec!["/send ".into()]));
        assert_eq!(found("send fr"), (5, vec!["fred ".into(), "Francoc ".into()]));
        assert_eq!(found("send (fred FRA"), (11, vec!["Francoc".into()]));
        assert_eq!(found("send fred fr"), (10, vec![]));
        assert_eq!(found("send żó"), (5, vec![]));
        assert_eq!(found("help bro"), (5, vec!["broadcast".into()]));
    }
}
