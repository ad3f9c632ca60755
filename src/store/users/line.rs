//! What one line of a password file says: of ours, and of the older systems' files, which
//! `mms user import` converts. Pure.
//!
//! A line may hold a password in plain text, perhaps where nobody expects one. So no fault repeats
//! anything of it but a well-formed name at its start.

use crate::core::password::{PasswordFault, Verifier, VerifierFault, acceptable};
use crate::proto::name::{NameFault, UserName};
use std::fmt;

/// A line that means something.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// Blank or a comment.
    Blank,
    /// `name:SCRAM-SHA-256$…`
    User(UserName, Verifier),
    /// `name password` or `name:password`: an older system's, in plain text.
    Plain(UserName, Plain<'a>),
    /// `name` and 40 hex digits: an older system's, which does not tell the password.
    Sha1(UserName),
}

/// A password in plain text; its `Debug` keeps it secret.
#[derive(Clone, Copy)]
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a line means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    /// What stands before the first `:` or blank is no name.
    Name(NameFault),
    /// There is a name, or something like it, and nothing else.
    Alone,
    /// There is a name and no password behind its `:`.
    NoPassword(UserName),
    /// It starts like a verifier and is none.
    Verifier(UserName, VerifierFault),
    /// A verifier that a blank separates from its name.
    Separator(UserName),
    /// A plain password with blanks around it, or with a `:` behind a blank: what belongs to it
    /// cannot be told.
    Unclear(UserName),
    /// A plain password that may not be one here.
    Password(UserName, PasswordFault),
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(fault) => write!(f, "it does not start with a user name: {fault}"),
            Self::Alone => f.write_str("expected name:SCRAM-SHA-256$…, found a single word"),
            Self::NoPassword(name) => write!(f, "{name} has no password"),
            Self::Verifier(name, fault) => write!(f, "the password of {name} is damaged: {fault}"),
            Self::Separator(name) => {
                write!(f, "expected ':' without blanks between {name} and the verifier")
            }
            Self::Unclear(name) => {
                write!(
                    f,
                    "cannot tell what of the line is the password of {name}: blanks around it"
                )
            }
            Self::Password(name, fault) => write!(f, "{name}: {fault}"),
        }
    }
}

/// Reads a line; its end, with or without the line break, does not matter.
pub(super) fn parse(line: &str) -> Result<Line<'_>, LineFault> {
    let line = line.trim_end_matches(['\n', '\r']);
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok(Line::Blank);
    }
    let end = line.find(|c: char| c == ':' || c.is_whitespace()).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    if rest.trim().is_empty() {
        // It may be a password that lost its name: not even the fault of the name is told.
        return Err(LineFault::Alone);
    }
    let name = UserName::new(word).map_err(LineFault::Name)?;
    match rest.strip_prefix(':') {
        Some(secret) => parse_secret(name, secret),
        None => {
            let secret = rest.trim();
            if secret.starts_with("SCRAM-SHA-256$") {
                Err(LineFault::Separator(name))
            } else if secret.starts_with(':') {
                Err(LineFault::Unclear(name))
            } else {
                parse_secret(name, secret)
            }
        }
    }
}

fn parse_secret(name: UserName, secret: &str) -> Result<Line<'_>, LineFault> {
    let trimmed = secret.trim();
    if trimmed.is_empty() {
        return Err(LineFault::NoPassword(name));
    }
    if trimmed.starts_with("SCRAM-") {
        return match Verifier::parse(trimmed) {
            Ok(verifier) => Ok(Line::User(name, verifier)),
            Err(fault) => Err(LineFault::Verifier(name, fault)),
        };
    }
    if trimmed.len() == 40 && trimmed.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Line::Sha1(name));
    }
    if trimmed.len() != secret.len() {
        return Err(LineFault::Unclear(name));
    }
    match acceptable(secret) {
        Ok(()) => Ok(Line::Plain(name, Plain(secret))),
        Err(fault) => Err(LineFault::Password(name, fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHA1: &str = "356a192b7913b04c54574d18c28d46e6395428ab";

    fn name(word: &str) -> UserName {
        UserName::new(word).unwrap()
    }

    fn verifier() -> Verifier {
        Verifier::derive(b"1", b"saltsalt", 4096)
    }

    #[test]
    fn a_user_is_a_name_and_a_verifier() {
        for end in ["", "\n", "\r\n", "  ", " \r\n"] {
            let text = format!("Tim:{}{end}", verifier());
            let Ok(Line::User(who, what)) = parse(&text) else { panic!("{text:?}") };
            assert_eq!((who, what), (name("Tim"), verifier()));
        }
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        for text in ["", "\n", "\r\n", "  \t\n", "# fred:x", "  # fred"] {
            assert!(matches!(parse(text), Ok(Line::Blank)), "{text:?}");
        }
    }

    #[test]
    fn older_lines_are_recognised() {
        for (text, password) in [
            ("fred secret\n", "secret"),
            ("fred\tsecret", "secret"),
            ("fred   two words  \r\n", "two words"),
            ("fred:secret\r\n", "secret"),
            ("fred:two words", "two words"),
            ("fred:a:b", "a:b"),
            ("fred a:b", "a:b"),
            (
                "fred 356a192b7913b04c54574d18c28d46e6395428a",
                "356a192b7913b04c54574d18c28d46e6395428a",
            ),
        ] {
            let Ok(Line::Plain(who, Plain(found))) = parse(text) else { panic!("{text:?}") };
            assert_eq!((who, found), (name("fred"), password), "{text:?}");
        }
        for text in [format!("fred {SHA1}"), format!("fred:{}\r\n", SHA1.to_uppercase())] {
            assert!(matches!(parse(&text), Ok(Line::Sha1(who)) if who == name("fred")), "{text}");
        }
    }

    #[test]
    fn what_is_no_line_says_why() {
        let fred = || name("fred");
        for (text, fault) in [
            ("fred".into(), LineFault::Alone),
            ("fred \n".into(), LineFault::Alone),
            (SHA1.into(), LineFault::Alone),
            (":secret".into(), LineFault::Name(NameFault::Empty)),
            (" fred secret".into(), LineFault::Name(NameFault::Empty)),
            ("fr/ed secret".into(), LineFault::Name(NameFault::Character)),
            ("message:secret".into(), LineFault::Name(NameFault::Reserved)),
            ("fred:".into(), LineFault::NoPassword(fred())),
            ("fred: \n".into(), LineFault::NoPassword(fred())),
            (format!("fred {}", verifier()), LineFault::Separator(fred())),
            ("fred : secret".into(), LineFault::Unclear(fred())),
            ("fred: secret".into(), LineFault::Unclear(fred())),
            ("fred:secret \n".into(), LineFault::Unclear(fred())),
            ("fred:se\u{7}cret".into(), LineFault::Password(fred(), PasswordFault::Control)),
            (
                format!("fred:{}", "x".repeat(257)),
                LineFault::Password(fred(), PasswordFault::TooLong),
            ),
            ("fred:SCRAM-SHA-256$1".into(), LineFault::Verifier(fred(), VerifierFault::Shape)),
            ("fred:SCRAM-SHA-1$1".into(), LineFault::Verifier(fred(), VerifierFault::Scheme)),
        ] {
            assert_eq!(parse(&text).unwrap_err(), fault, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_tell_a_secret(text in ".*|[a-z]{1,4}[ :]hunter2.*") {
            let told = match parse(&text) {
                Ok(line) => format!("{line:?}"),
                Err(fault) => fault.to_string(),
            };
            prop_assert!(!told.contains("hunter2"));
        }
    }
}
