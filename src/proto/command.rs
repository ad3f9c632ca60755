//! What a person types in the plain dialect: the grammar, and the table of commands that help and
//! hints are made from. A whole line goes in; a command or the reason why not comes out.

use super::text::{self, TextFault};
use crate::limits::LIST_RECIPIENTS;
use nom::bytes::complete::{take_until, take_while};
use nom::character::complete::{char, digit1};
use nom::combinator::{all_consuming, opt, rest, verify};
use nom::error::{Error, ErrorKind};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// The commands by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `help`
    Help,
    /// `signin`
    SignIn,
    /// `whoison`
    WhoIsOn,
    /// `whoelse`
    WhoElse,
    /// `wholast`
    WhoLast,
    /// `whoelsesince`
    WhoElseSince,
    /// `send`
    Send,
    /// `broadcast`
    Broadcast,
    /// `away`
    Away,
    /// `notify`
    Notify,
    /// `block`
    Block,
    /// `unblock`
    Unblock,
    /// `passwd`
    Passwd,
    /// `signout`
    SignOut,
}

impl Verb {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 14] = [
        Self::Help,
        Self::SignIn,
        Self::WhoIsOn,
        Self::WhoElse,
        Self::WhoLast,
        Self::WhoElseSince,
        Self::Send,
        Self::Broadcast,
        Self::Away,
        Self::Notify,
        Self::Block,
        Self::Unblock,
        Self::Passwd,
        Self::SignOut,
    ];

    /// The words it may be typed as, its own name first.
    #[must_use]
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Help => &["help"],
            Self::SignIn => &["signin", "login"],
            Self::WhoIsOn => &["whoison", "who", "online"],
            Self::WhoElse => &["whoelse"],
            Self::WhoLast => &["wholast", "last"],
            Self::WhoElseSince => &["whoelsesince"],
            Self::Send => &["send", "message", "msg", "tell"],
            Self::Broadcast => &["broadcast"],
            Self::Away => &["away"],
            Self::Notify => &["notify"],
            Self::Block => &["block"],
            Self::Unblock => &["unblock"],
            Self::Passwd => &["passwd"],
            Self::SignOut => &["signout", "logout", "logoff", "exit", "quit", "bye"],
        }
    }

    /// Its own name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words()[0]
    }

    /// How it is typed, a line for each form.
    #[must_use]
    pub fn usage(self) -> &'static [&'static str] {
        match self {
            Self::Help => &["help [command]"],
            Self::SignIn => &["signin <user> [password]"],
            Self::WhoIsOn => &["whoison"],
            Self::WhoElse => &["whoelse"],
            Self::WhoLast => &["wholast <minutes>"],
            Self::WhoElseSince => &["whoelsesince <seconds>"],
            Self::Send => &["send <user> <message>", "send (<user> <user> ...) <message>"],
            Self::Broadcast => {
                &["broadcast <message>", "broadcast <user> [<user> ...] message <message>"]
            }
            Self::Away => &["away [message]"],
            Self::Notify => &["notify on", "notify off"],
            Self::Block => &["block <user>"],
            Self::Unblock => &["unblock <user>"],
            Self::Passwd => &["passwd", "passwd <current> <new>"],
            Self::SignOut => &["signout"],
        }
    }

    /// What it does, for help.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Help => "the commands, or one of them",
            Self::SignIn => "start a session; asks for the password if it is not given",
            Self::WhoIsOn => "who is online and who is not",
            Self::WhoElse => "who is online besides you",
            Self::WhoLast => "who else was online in the last minutes, 1 to 1440",
            Self::WhoElseSince => "the same in seconds, 1 to 86400",
            Self::Send => "a message to one user or several; kept for those who are away",
            Self::Broadcast => "a message to everyone online, or to those named",
            Self::Away => "answer messages for you until your next command",
            Self::Notify => "be told when users sign in and off, until you sign off",
            Self::Block => "take no messages from a user, and hide from him that you are online",
            Self::Unblock => "the contrary of block",
            Self::Passwd => "change your password; alone it asks, which one with blanks needs",
            Self::SignOut => "end the session",
        }
    }

    /// The command that `word` names, whatever its case, with or without a leading `/`.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        if word == "send" {
            // What most lines begin with.
            return Some(Self::Send);
        }
        let word = word.strip_prefix('/').unwrap_or(word);
        Self::ALL
            .into_iter()
            .find(|verb| verb.words().iter().any(|own| own.eq_ignore_ascii_case(word)))
    }
}

/// Whom a `send` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients<'a> {
    /// One word.
    One(&'a str),
    /// What stood between the parentheses; at least one word and at most [`LIST_RECIPIENTS`].
    List(&'a str),
}

/// The words of a list of names.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split([' ', '\t', ',']).filter(|word| !word.is_empty())
}

/// A command, as typed. Names are words that nobody has looked up yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// All commands, or one.
    Help(Option<Verb>),
    /// Begin a session; without a password it is asked for.
    SignIn {
        /// The name.
        user: &'a str,
        /// The rest of the line.
        password: Option<&'a str>,
    },
    /// Who is online and who is not.
    WhoIsOn,
    /// Who is online but me.
    WhoElse,
    /// Who else was there in the last so many milliseconds.
    WhoLast {
        /// The window's length.
        window_ms: u64,
    },
    /// A message to those named.
    Send {
        /// Whom.
        to: Recipients<'a>,
        /// What; not empty.
        text: &'a str,
    },
    /// A message to everyone, or to a list if all that stands before `message` are users' names.
    Broadcast {
        /// Everything behind the command, without the word `message` if it stands first; not empty.
        text: &'a str,
        /// The list form, if the line can be read as one: the words before `message`, and the
        /// text behind it, neither empty.
        list: Option<(&'a str, &'a str)>,
    },
    /// Answer for me, with this text or the default one.
    Away(Option<&'a str>),
    /// Tell me when users sign in and off, or no longer.
    Notify(Switch),
    /// Take no messages from a user, or do so again.
    Block {
        /// Whom.
        user: &'a str,
        /// On blocks, off unblocks.
        switch: Switch,
    },
    /// Change my password: the present one and the new one; without them they are asked for.
    Passwd(Option<(&'a str, &'a str)>),
    /// End the session.
    SignOut,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Command<'_> {
    /// Which command it is.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Help(_) => Verb::Help,
            Self::SignIn { .. } => Verb::SignIn,
            Self::WhoIsOn => Verb::WhoIsOn,
            Self::WhoElse => Verb::WhoElse,
            Self::WhoLast { .. } => Verb::WhoLast,
            Self::Send { .. } => Verb::Send,
            Self::Broadcast { .. } => Verb::Broadcast,
            Self::Away(_) => Verb::Away,
            Self::Notify(_) => Verb::Notify,
            Self::Block { switch: Switch::On, .. } => Verb::Block,
            Self::Block { switch: Switch::Off, .. } => Verb::Unblock,
            Self::Passwd(_) => Verb::Passwd,
            Self::SignOut => Verb::SignOut,
        }
    }
}

impl std::fmt::Debug for Command<'_> {
    /// Only the command's name: arguments may hold passwords and messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.verb().name())
    }
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFault<'a> {
    /// Nothing stands in it.
    Blank,
    /// It holds what no line may hold.
    Text(TextFault),
    /// Its first word is no command.
    Unknown(&'a str),
    /// The argument of `help` is no command.
    NoSuchTopic(&'a str),
    /// Something is missing, superfluous or malformed.
    Usage(Verb, Problem),
    /// It asks for the coded dialect, at a time or in a version that cannot be had.
    Switch,
    /// A command of the coded dialect is not typed like that.
    Malformed(&'static str),
    /// A tag of the coded dialect is malformed.
    BadTag,
}

/// What is wrong with a command's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The user's name is missing.
    NoUser,
    /// The message is missing.
    NoMessage,
    /// There is one password and no second.
    NoPassword,
    /// `(` without `)`.
    OpenList,
    /// More than [`LIST_RECIPIENTS`] names.
    LongList,
    /// The command takes fewer words.
    Extra,
    /// It is neither `on` nor `off`.
    OnOff,
    /// A number is missing, no number or out of these bounds.
    Number {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
        /// What it counts.
        unit: &'static str,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::NoUser => f.write_str("a user is missing"),
            Self::NoMessage => f.write_str("a message is missing"),
            Self::NoPassword => f.write_str("the new password is missing"),
            Self::OpenList => f.write_str("')' is missing behind the list of users"),
            Self::LongList => write!(f, "{LIST_RECIPIENTS} users at most"),
            Self::Extra => f.write_str("too many words"),
            Self::OnOff => f.write_str("'on' or 'off' is wanted"),
            Self::Number { least, most, unit } => {
                write!(f, "a number of {unit} is wanted, {least} to {most}")
            }
        }
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// `blanks = *( SP / HTAB )`
fn blanks(input: &str) -> IResult<&str, &str> {
    take_while(is_blank).parse(input)
}

/// `word = 1*visible blanks`
#[inline]
pub(super) fn word(input: &str) -> IResult<&str, &str> {
    // By bytes: blanks are ASCII, and each line of all goes through here.
    let blank = |&byte: &u8| is_blank(char::from(byte));
    let bytes = input.as_bytes();
    let end = bytes.iter().position(blank).unwrap_or(bytes.len());
    let gap = bytes[end..].iter().take_while(|byte| blank(byte)).count();
    match input.split_at(end) {
        ("", _) => Err(nom::Err::Error(Error::new(input, ErrorKind::TakeTill1))),
        (word, rest) => Ok((&rest[gap..], word)),
    }
}

/// `list = "(" *inside ")" blanks`
fn list(input: &str) -> IResult<&str, &str> {
    terminated(delimited(char('('), take_until(")"), char(')')), blanks).parse(input)
}

/// `text = 1*character`, not only blanks
fn message(input: &str) -> IResult<&str, &str> {
    verify(rest, |text: &str| !text.chars().all(is_blank)).parse(input)
}

/// `number = 1*DIGIT blanks`
fn number(input: &str) -> IResult<&str, &str> {
    all_consuming(terminated(digit1, blanks)).parse(input)
}

/// `command = blanks ["/"] ( help / signin / who / window / send / broadcast / away`
/// `            / notify / block / passwd / signout )`
///
/// Linear in the line; never fails on any input but by saying why.
pub fn parse(line: &[u8]) -> Result<Command<'_>, CommandFault<'_>> {
    let line = text::check(line).map_err(CommandFault::Text)?;
    let Ok((arguments, first)) = preceded(blanks, word).parse(line) else {
        return Err(CommandFault::Blank);
    };
    command(first, arguments)
}

/// A command from its first word and what stands behind that.
pub(super) fn command<'a>(
    first: &'a str,
    arguments: &'a str,
) -> Result<Command<'a>, CommandFault<'a>> {
    let Some(verb) = Verb::find(first) else {
        let coded = first.eq_ignore_ascii_case("coded");
        return Err(if coded { CommandFault::Switch } else { CommandFault::Unknown(first) });
    };
    let fault = |problem| CommandFault::Usage(verb, problem);
    match verb {
        Verb::SignIn => signin(arguments).map_err(fault),
        Verb::Send => send(arguments).map_err(fault),
        Verb::Broadcast => broadcast(arguments).map_err(fault),
        Verb::Away => Ok(Command::Away(message(arguments).ok().map(|(_, text)| text))),
        Verb::WhoLast => window(arguments, 1440, 60_000, "minutes").map_err(fault),
        Verb::WhoElseSince => window(arguments, 86_400, 1000, "seconds").map_err(fault),
        Verb::Notify => notify(arguments).map_err(fault),
        Verb::Block => block(arguments, Switch::On).map_err(fault),
        Verb::Unblock => block(arguments, Switch::Off).map_err(fault),
        Verb::Passwd => passwd(arguments).map_err(fault),
        Verb::Help => help(arguments),
        Verb::WhoIsOn | Verb::WhoElse | Verb::SignOut if !arguments.is_empty() => {
            Err(fault(Problem::Extra))
        }
        Verb::WhoIsOn => Ok(Command::WhoIsOn),
        Verb::WhoElse => Ok(Command::WhoElse),
        Verb::SignOut => Ok(Command::SignOut),
    }
}

/// `help = "help" [ gap word ]`
fn help(arguments: &str) -> Result<Command<'_>, CommandFault<'_>> {
    let Ok((after, topic)) = word(arguments) else {
        return Ok(Command::Help(None));
    };
    if !after.is_empty() {
        return Err(CommandFault::Usage(Verb::Help, Problem::Extra));
    }
    match Verb::find(topic) {
        Some(verb) => Ok(Command::Help(Some(verb))),
        None => Err(CommandFault::NoSuchTopic(topic)),
    }
}

/// `signin = "signin" gap word [ password ]`; the password is the rest of the line, blanks included
fn signin(arguments: &str) -> Result<Command<'_>, Problem> {
    let (password, user) = word(arguments).map_err(|_| Problem::NoUser)?;
    Ok(Command::SignIn { user, password: (!password.is_empty()).then_some(password) })
}

/// `send = "send" gap ( word / list ) text`
fn send(arguments: &str) -> Result<Command<'_>, Problem> {
    let (text, to) = recipients(arguments)?;
    let (_, text) = message(text).map_err(|_| Problem::NoMessage)?;
    Ok(Command::Send { to, text })
}

/// Whom a message is for, and what stands behind.
pub(super) fn recipients(arguments: &str) -> Result<(&str, Recipients<'_>), Problem> {
    Ok(if arguments.starts_with('(') {
        let (text, inside) = list(arguments).map_err(|_| Problem::OpenList)?;
        match names(inside).take(LIST_RECIPIENTS + 1).count() {
            0 => return Err(Problem::NoUser),
            n if n > LIST_RECIPIENTS => return Err(Problem::LongList),
            _ => (text, Recipients::List(inside)),
        }
    } else {
        let (text, user) = word(arguments).map_err(|_| Problem::NoUser)?;
        (text, Recipients::One(user))
    })
}

/// `broadcast = "broadcast" gap [ [ [ "user" gap ] 1*word ] "message" gap ] text`
fn broadcast(arguments: &str) -> Result<Command<'_>, Problem> {
    let (_, text) = message(arguments).map_err(|_| Problem::NoMessage)?;
    let Some((before, after)) = split_at_message(text) else {
        return Ok(Command::Broadcast { text, list: None });
    };
    if before.is_empty() {
        let (_, text) = message(after).map_err(|_| Problem::NoMessage)?;
        return Ok(Command::Broadcast { text, list: None });
    }
    let named = without_word_user(before);
    let list = (!named.is_empty() && message(after).is_ok()).then_some((named, after));
    Ok(Command::Broadcast { text, list })
}

/// What stands before and behind the first word `message`.
fn split_at_message(text: &str) -> Option<(&str, &str)> {
    let mut left = text;
    while let Ok((after, one)) = word(left) {
        if one.eq_ignore_ascii_case("message") {
            return Some((&text[..text.len() - left.len()], after));
        }
        left = after;
    }
    None
}

/// `[ "user" blanks ]` taken off the front.
fn without_word_user(list: &str) -> &str {
    let (left, _) = opt(verify(word, |first: &str| first.eq_ignore_ascii_case("user")))
        .parse(list)
        .unwrap_or((list, None));
    left
}

/// `notify = "notify" gap ( "on" / "off" ) blanks`
fn notify(arguments: &str) -> Result<Command<'_>, Problem> {
    let (after, state) = word(arguments).map_err(|_| Problem::OnOff)?;
    match state {
        _ if !after.is_empty() => Err(Problem::Extra),
        _ if state.eq_ignore_ascii_case("on") => Ok(Command::Notify(Switch::On)),
        _ if state.eq_ignore_ascii_case("off") => Ok(Command::Notify(Switch::Off)),
        _ => Err(Problem::OnOff),
    }
}

/// `block = ( "block" / "unblock" ) gap word`
fn block(arguments: &str, switch: Switch) -> Result<Command<'_>, Problem> {
    let (after, user) = word(arguments).map_err(|_| Problem::NoUser)?;
    if after.is_empty() { Ok(Command::Block { user, switch }) } else { Err(Problem::Extra) }
}

/// `passwd = "passwd" [ gap word word ]`
fn passwd(arguments: &str) -> Result<Command<'_>, Problem> {
    let Ok((after, current)) = word(arguments) else { return Ok(Command::Passwd(None)) };
    let (rest, new) = word(after).map_err(|_| Problem::NoPassword)?;
    if rest.is_empty() { Ok(Command::Passwd(Some((current, new)))) } else { Err(Problem::Extra) }
}

/// `window = ( "wholast" / "whoelsesince" ) gap number`
fn window<'a>(
    arguments: &'a str,
    most: u64,
    unit_ms: u64,
    unit: &'static str,
) -> Result<Command<'a>, Problem> {
    let problem = Problem::Number { least: 1, most, unit };
    let (_, digits) = number(arguments).map_err(|_| problem)?;
    match digits.parse::<u64>() {
        Ok(n) if (1..=most).contains(&n) => Ok(Command::WhoLast { window_ms: n * unit_ms }),
        _ => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(line: &str) -> Command<'_> {
        parse(line.as_bytes()).unwrap_or_else(|fault| panic!("{line}: {fault:?}"))
    }

    fn fault(line: &str) -> CommandFault<'_> {
        match parse(line.as_bytes()) {
            Ok(command) => panic!("{line} is {command:?}"),
            Err(fault) => fault,
        }
    }

    #[test]
    fn every_alias_in_any_case_with_or_without_slash() {
        for verb in Verb::ALL {
            for word in verb.words() {
                for typed in [word.to_string(), word.to_uppercase(), format!("/{word}")] {
                    assert_eq!(Verb::find(&typed), Some(verb), "{typed}");
                }
            }
        }
        assert_eq!(Verb::find("//send"), None);
        assert_eq!(Verb::find(""), None);
    }

    #[test]
    fn a_message_arrives_as_typed() {
        for (line, name, body) in [
            ("send fred hi fred", "fred", "hi fred"),
            ("  SEND\tfred   a:  b : c ", "fred", "a:  b : c "),
            ("/tell x y", "x", "y"),
        ] {
            let Command::Send { to, text } = ok(line) else { panic!("{line}") };
            assert_eq!((to, text), (Recipients::One(name), body));
        }
    }

    #[test]
    fn a_list_is_named_in_parentheses() {
        let Command::Send { to: Recipients::List(list), text } = ok("send (a, b  c)hi") else {
            panic!()
        };
        assert_eq!((names(list).collect::<Vec<_>>(), text), (vec!["a", "b", "c"], "hi"));
        let long = format!("send ({}) x", "a ".repeat(LIST_RECIPIENTS + 1));
        assert_eq!(fault(&long), CommandFault::Usage(Verb::Send, Problem::LongList));
    }

    #[test]
    fn what_is_missing_is_named() {
        use Problem::*;
        for (line, verb, problem) in [
            ("send", Verb::Send, NoUser),
            ("send fred", Verb::Send, NoMessage),
            ("send fred   ", Verb::Send, NoMessage),
            ("send () x", Verb::Send, NoUser),
            ("send (a b", Verb::Send, OpenList),
            ("send (a)", Verb::Send, NoMessage),
            ("signin", Verb::SignIn, NoUser),
            ("broadcast", Verb::Broadcast, NoMessage),
            ("broadcast message", Verb::Broadcast, NoMessage),
            ("whoison now", Verb::WhoIsOn, Extra),
            ("whoelse x", Verb::WhoElse, Extra),
            ("bye bye", Verb::SignOut, Extra),
            ("help a b", Verb::Help, Extra),
        ] {
            assert_eq!(fault(line), CommandFault::Usage(verb, problem), "{line}");
        }
        assert_eq!(fault("  "), CommandFault::Blank);
        assert_eq!(fault("sned fred hi"), CommandFault::Unknown("sned"));
        assert_eq!(fault("help sned"), CommandFault::NoSuchTopic("sned"));
        assert_eq!(fault("coded 1"), CommandFault::Switch);
    }

    #[test]
    fn numbers_name_their_bounds() {
        for line in ["wholast", "wholast 0", "wholast 1441", "last x", "wholast 5 6", "last -1"] {
            assert!(matches!(
                fault(line),
                CommandFault::Usage(Verb::WhoLast, Problem::Number { .. })
            ));
        }
        assert!(matches!(
            fault("whoelsesince 99999999999999999999"),
            CommandFault::Usage(_, Problem::Number { most: 86_400, .. })
        ));
        assert!(ok("wholast 1440 ") == Command::WhoLast { window_ms: 86_400_000 });
        assert!(ok("whoelsesince 1") == Command::WhoLast { window_ms: 1000 });
    }

    #[test]
    fn a_broadcast_may_name_a_list() {
        let cases = [
            ("broadcast hi all", "hi all", None),
            ("broadcast message hi", "hi", None),
            (
                "broadcast fred Tim message  a b ",
                "fred Tim message  a b ",
                Some(("fred Tim ", "a b ")),
            ),
            ("broadcast user fred message x", "user fred message x", Some(("fred ", "x"))),
            ("broadcast a message", "a message", None),
            ("broadcast user message x", "user message x", None),
        ];
        for (line, text, list) in cases {
            assert!(ok(line) == Command::Broadcast { text, list }, "{line}");
        }
    }

    #[test]
    fn a_password_is_the_rest_of_the_line() {
        assert!(ok("signin a b c ") == Command::SignIn { user: "a", password: Some("b c ") });
        assert!(ok("login a ") == Command::SignIn { user: "a", password: None });
        assert_eq!(format!("{:?}", ok("signin a secret")), "signin");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_command_or_a_reason(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_line_of_words_gives_a_command_or_a_reason(
            line in "(send|broadcast|signin|wholast|help|away) ?[ ()a-z,0-9]{0,9}( message )?.{0,9}"
        ) {
            let _ = parse(line.as_bytes());
        }
    }
}
