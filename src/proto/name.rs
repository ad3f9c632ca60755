//! User names. Holding a [`UserName`] proves it well formed.

use super::command::Verb;
use crate::limits::NAME_BYTES;
use std::fmt;
use std::rc::Rc;

/// A well-formed user name: 1 to 32 ASCII letters, digits, `_`, `-`, `.`, not starting with a
/// dot, and not one of the words that are [`RESERVED`]. It keeps its case; names that differ in
/// case only are equal to [`UserName::key`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Rc<str>);

/// Words that nobody may be called: the grammar needs the first three; and `>> word: ` begins lines
/// of the server, with which a message of that user could be confused, or is a message of
/// [`SERVER`].
pub const RESERVED: [&str; WORDS.len() + Verb::ALL.len()] = reserved();

/// Who letters of the server itself are from.
pub const SERVER: &str = "mms";

const WORDS: [&str; 6] = ["user", "message", "coded", "usage", "also", SERVER];

const fn reserved() -> [&'static str; WORDS.len() + Verb::ALL.len()] {
    let mut all = [""; WORDS.len() + Verb::ALL.len()];
    let mut n = 0;
    while n < all.len() {
        all[n] = match n.checked_sub(WORDS.len()) {
            None => WORDS[n],
            Some(verb) => Verb::ALL[verb].name(),
        };
        n += 1;
    }
    all
}

/// Why a word is no user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// It has no character at all.
    Empty,
    /// It is longer than [`NAME_BYTES`].
    TooLong,
    /// It holds something other than letters, digits, `_`, `-` and `.`.
    Character,
    /// It starts with a dot.
    LeadingDot,
    /// It is one of [`RESERVED`].
    Reserved,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name has at least one character"),
            Self::TooLong => write!(f, "a name has at most {NAME_BYTES} characters"),
            Self::Character => f.write_str("a name has only letters a-z, digits, '_', '-' and '.'"),
            Self::LeadingDot => f.write_str("a name does not start with a dot"),
            Self::Reserved => {
                f.write_str("the words ")?;
                for word in WORDS {
                    write!(f, "'{word}', ")?;
                }
                f.write_str("and the commands cannot be names")
            }
        }
    }
}

/// A name in lower case, on the stack: what names are compared by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey {
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl NameKey {
    /// The key of `word`, or why it is no name.
    pub fn of(word: &str) -> Result<Self, NameFault> {
        let key = Self::once(word)?;
        if RESERVED.contains(&key.as_str()) { Err(NameFault::Reserved) } else { Ok(key) }
    }

    /// The key of a name in the journal: it may have been reserved since it was written.
    pub fn once(word: &str) -> Result<Self, NameFault> {
        let raw = word.as_bytes();
        if raw.is_empty() {
            return Err(NameFault::Empty);
        }
        if raw.iter().any(|&b| IN_NAMES[usize::from(b)] == 0) {
            return Err(NameFault::Character);
        }
        if raw.len() > NAME_BYTES {
            return Err(NameFault::TooLong);
        }
        if raw[0] == b'.' {
            return Err(NameFault::LeadingDot);
        }
        let mut bytes = [0; NAME_BYTES];
        for (to, &from) in bytes.iter_mut().zip(raw) {
            *to = IN_NAMES[usize::from(from)];
        }
        Ok(Self { bytes, len: u8::try_from(raw.len()).unwrap_or(u8::MAX) })
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in, so the fallback is never taken.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Each byte that may stand in a name, in lower case; zero for the others.
const IN_NAMES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl UserName {
    /// The name `word`, or why it is none.
    pub fn new(word: &str) -> Result<Self, NameFault> {
        NameKey::of(word)?;
        Ok(Self(word.into()))
    }

    /// A name in the journal: it may have been reserved since it was written, and what is stored
    /// is kept all the same.
    pub fn once(word: &str) -> Result<Self, NameFault> {
        NameKey::once(word)?;
        Ok(Self(word.into()))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What names are compared by.
    #[must_use]
    pub fn key(&self) -> NameKey {
        NameKey::once(&self.0).expect("a UserName was checked when it was made")
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_case_and_match_without_it() {
        let tim = UserName::new("Tim").unwrap();
        assert_eq!(tim.as_str(), "Tim");
        assert_eq!(tim.key(), NameKey::of("tIM").unwrap());
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (word, fault) in [
            ("", NameFault::Empty),
            (".a", NameFault::LeadingDot),
            ("a b", NameFault::Character),
            ("käthe", NameFault::Character),
            ("Message", NameFault::Reserved),
            ("coded", NameFault::Reserved),
            ("USER", NameFault::Reserved),
            ("Usage", NameFault::Reserved),
            ("ALSO", NameFault::Reserved),
            ("Mms", NameFault::Reserved),
            ("send", NameFault::Reserved),
            ("SignOut", NameFault::Reserved),
            (&"x".repeat(33), NameFault::TooLong),
        ] {
            assert_eq!(UserName::new(word), Err(fault), "{word}");
        }
        assert!(UserName::new(&"x".repeat(32)).is_ok());
        assert!(UserName::new("_-.9").is_ok());
        assert_eq!(UserName::once(SERVER).unwrap().key().as_str(), "mms");
    }
}
