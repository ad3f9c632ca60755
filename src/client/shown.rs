//! What others said, made fit to be shown: texts without anything that drives a terminal, refusals
//! in words, JSON.

use crate::proto::coded_client::Refused;
use crate::proto::text::{Scrutiny, is_refused};
use std::fmt::{self, Display, Write as _};

/// A text of one line. Control characters, line ends included, stand there as `\u{1b}`.
pub struct Shown<'a>(pub &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scrutiny = Scrutiny::default();
        for c in self.0.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                c if scrutiny.refuses(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A text of several lines, the further ones behind a bar as telnet shows them.
pub struct ShownLines<'a>(pub &'a str);

impl Display for ShownLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, line) in self.0.split('\n').enumerate() {
            if n > 0 {
                f.write_str("\n  | ")?;
            }
            write!(f, "{}", Shown(line))?;
        }
        Ok(())
    }
}

/// A text as a JSON string, quotes included.
pub struct Json<'a>(pub &'a str);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if is_refused(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(f, "\\u{unit:04x}")?;
                    }
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (Shown(self.argument(1)), Shown(self.argument(2)));
        let number = self.number().unwrap_or_default();
        match self.code {
            431 => write!(f, "sign-ins of this user from here are blocked for {number} s"),
            432 => f.write_str("the server has too many sign-ins under way; try again later"),
            451 => f.write_str("the server's disk is full; not stored, try again later"),
            452 => write!(f, "the mailbox of {first} is full"),
            454 => f.write_str("this user has sent too many messages with a key; try again later"),
            504 if self.fields.starts_with("text-too-long") => {
                write!(f, "the message has {first} bytes; at most {second} are allowed")
            }
            504 if self.argument(1).starts_with("U+") => {
                write!(f, "the message holds the control character {first}; nothing was sent")
            }
            504 => write!(f, "the message cannot be sent: {}", Shown(&self.fields)),
            533 => f.write_str("this user is signed in elsewhere already"),
            535 => f.write_str("user or password is wrong"),
            536 => write!(f, "too many failed attempts; blocked for {number} s"),
            550 if self.argument(2).is_empty() => write!(f, "there is no user {first}"),
            550 => write!(f, "there is no user {first}; did you mean {second}?"),
            551 => write!(f, "{first} cannot be a user's name"),
            552 => f.write_str("this server takes no messages to oneself"),
            557 => f.write_str("the message could not be delivered"),
            553 => f.write_str("this key was used for another message already"),
            554 => f.write_str("this key is too old: whether its message was stored is not known"),
            556 => f.write_str("nobody else is online"),
            code => write!(f, "the server refuses: {code} {}", Shown(&self.fields)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_shown() {
        let text = "a\x1b[2J\u{202e}\u{9b}b\tc\r\nd";
        assert_eq!(Shown(text).to_string(), "a\\u{1b}[2J\\u{202e}\\u{9b}b\tc\\u{d}\\nd");
        assert_eq!(ShownLines("a\nb\x07\n").to_string(), "a\n  | b\\u{7}\n  | ");
        assert_eq!(Shown("żółć 👩\u{200d}🚀").to_string(), "żółć 👩\u{200d}🚀");
        let scotland = "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        assert_eq!(Shown(scotland).to_string(), scotland);
        assert_eq!(Shown("a\u{e0067}\u{fff9}").to_string(), "a\\u{e0067}\\u{fff9}");
    }

    #[test]
    fn json_is_json() {
        let text = "a\"b\\c\n\t\u{1b}\u{2028}é\u{e0067}";
        let json = "\"a\\\"b\\\\c\\n\\t\\u001b\\u2028é\\udb40\\udc67\"";
        assert_eq!(Json(text).to_string(), json);
    }

    #[test]
    fn refusals_name_what_they_are_about() {
        for (code, fields, words) in [
            (431, "42 blocked", "sign-ins of this user from here are blocked for 42 s"),
            (431, "blocked 42", "sign-ins of this user from here are blocked for 42 s"),
            (451, "disk-full", "the server's disk is full; not stored, try again later"),
            (550, "no-such-user fre fred", "there is no user fre; did you mean fred?"),
            (550, "no-such-user x", "there is no user x"),
            (504, "text-too-long 9 8", "the message has 9 bytes; at most 8 are allowed"),
            (
                504,
                "text U+001B",
                "the message holds the control character U+001B; nothing was sent",
            ),
            (504, "text not-utf-8", "the message cannot be sent: text not-utf-8"),
            (499, "odd \x1b", "the server refuses: 499 odd \\u{1b}"),
        ] {
            assert_eq!(Refused { code, fields: fields.into() }.to_string(), words);
        }
    }
}
