//! The grammar of people: any line is a command or a reason why not, a command typed anew in the
//! simplest way is the same command, and upper case, `/` and blanks before it change nothing.

use mms::limits::LIST_RECIPIENTS;
use mms::proto::command::{Command, CommandFault, Problem, Recipients, Switch, Verb, names, parse};
use mms::proto::text;

pub fn try_out(line: &[u8]) {
    let verdict = parse(line);
    assert_eq!(text::check(line).is_err(), matches!(verdict, Err(CommandFault::Text(_))));
    let Ok(line) = text::check(line) else { return };
    let bare = line.trim_start_matches([' ', '\t']);
    let end = bare.find([' ', '\t']).unwrap_or(bare.len());
    let slash = if bare.starts_with('/') { "" } else { "/" };
    let shouted = format!(" \t{slash}{}{}", bare[..end].to_ascii_uppercase(), &bare[end..]);
    match verdict {
        Ok(command) => {
            assert!(parse(shouted.as_bytes()) == Ok(command), "{line:?} and {shouted:?}");
            let again = typed(&command);
            assert!(parse(again.as_bytes()) == Ok(command), "{line:?} and {again:?}");
            assert_eq!(format!("{command:?}"), command.verb().name(), "arguments are secrets");
            check(&command);
            complete(&command, bare, &again);
        }
        Err(CommandFault::Blank) => assert!(bare.is_empty()),
        Err(CommandFault::Unknown(word)) => {
            assert!(bare.starts_with(word) && !word.is_empty() && Verb::find(word).is_none());
        }
        Err(CommandFault::NoSuchTopic(word)) => {
            assert!(line.contains(word) && Verb::find(word).is_none());
        }
        Err(CommandFault::Usage(verb, problem)) => {
            assert_eq!(Verb::find(&bare[..end]), Some(verb));
            assert!(parse(shouted.as_bytes()) == Err(CommandFault::Usage(verb, problem)));
            assert_ne!(problem.to_string(), "");
            assert_eq!(matches!(problem, Problem::Number { .. }), {
                matches!(verb, Verb::WhoLast | Verb::WhoElseSince)
            });
        }
        Err(CommandFault::Switch) => assert!(bare[..end].eq_ignore_ascii_case("coded")),
        Err(fault) => panic!("{line:?} is {fault:?}"),
    }
}

/// No word that was typed is passed over.
fn complete(command: &Command<'_>, line: &str, typed: &str) {
    let words = |text: &str| -> Vec<String> {
        let words = text.split([' ', '\t']).filter(|word| !word.is_empty());
        words.skip(1).map(str::to_lowercase).collect()
    };
    match command {
        // These are typed in another form.
        Command::WhoLast { .. } | Command::Help(Some(_)) => assert_eq!(words(line).len(), 1),
        Command::Broadcast { list: None, .. } => {
            let (line, typed) = (words(line), words(typed));
            assert!(line == typed || line == typed[1..], "{line:?} {typed:?}");
        }
        Command::Send { to: Recipients::List(_), .. } => {
            assert_eq!(words(&line.replace(')', ") ")), words(&typed.replace(')', ") ")));
        }
        _ => assert_eq!(words(line), words(typed)),
    }
}

/// What the types do not promise of a command.
fn check(command: &Command<'_>) {
    let blank = |text: &str| text.trim_matches([' ', '\t']).is_empty();
    let word = |text: &str| !text.is_empty() && !text.contains([' ', '\t']);
    match *command {
        Command::SignIn { user, password } => {
            assert!(word(user) && password.is_none_or(|password| !blank(password)));
        }
        Command::Send { to: Recipients::One(name), text } => assert!(word(name) && !blank(text)),
        Command::Send { to: Recipients::List(list), text } => {
            assert!((1..=LIST_RECIPIENTS).contains(&names(list).count()) && !blank(text));
            assert!(names(list).all(word));
        }
        Command::Broadcast { text, list } => {
            assert!(!blank(text));
            assert!(list.is_none_or(|(named, behind)| !blank(named) && !blank(behind)));
        }
        Command::Away(text) => assert!(text.is_none_or(|text| !blank(text))),
        Command::Block { user, .. } => assert!(word(user)),
        Command::Passwd(Some((current, new))) => assert!(word(current) && word(new)),
        Command::WhoLast { window_ms } => assert!((1000..=86_400_000).contains(&window_ms)),
        Command::Passwd(None)
        | Command::Help(_)
        | Command::WhoIsOn
        | Command::WhoElse
        | Command::Notify(_)
        | Command::SignOut => {}
    }
}

/// A command in the simplest form in which it can be typed.
pub fn typed(command: &Command<'_>) -> String {
    let name = command.verb().name();
    match *command {
        Command::SignIn { user, password: Some(password) } => format!("{name} {user} {password}"),
        Command::SignIn { user, password: None } | Command::Block { user, .. } => {
            format!("{name} {user}")
        }
        Command::Send { to: Recipients::One(user), text } => format!("{name} {user} {text}"),
        Command::Send { to: Recipients::List(list), text } => format!("{name} ({list}){text}"),
        Command::Broadcast { text, list: None } => format!("{name} message {text}"),
        Command::Broadcast { text, list: Some(_) } => format!("{name} {text}"),
        Command::Away(Some(text)) => format!("{name} {text}"),
        Command::Passwd(Some((current, new))) => format!("{name} {current} {new}"),
        Command::WhoLast { window_ms } => format!("whoelsesince {}", window_ms / 1000),
        Command::Notify(Switch::On) => format!("{name} on"),
        Command::Notify(Switch::Off) => format!("{name} off"),
        Command::Help(Some(verb)) => format!("{name} {}", verb.name()),
        Command::Passwd(None)
        | Command::Away(None)
        | Command::Help(None)
        | Command::WhoIsOn
        | Command::WhoElse
        | Command::SignOut => name.into(),
    }
}
