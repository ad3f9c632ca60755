//! What a new password may be: said once, for the server, for the companion, which hands the
//! server no password, and for the operator's commands. Knows nothing of how it is kept.

use crate::limits::PASSWORD_BYTES;
use std::fmt;

/// Why a password may not be given to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// It has no character at all.
    Empty,
    /// It is longer than [`PASSWORD_BYTES`].
    TooLong,
    /// It holds a control character, which nobody could type at a telnet prompt.
    Control,
    /// It is not UTF-8, so that another terminal would send other bytes for it.
    NotText,
}

impl PasswordFault {
    /// Its word in the coded dialect.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too-long",
            Self::Control => "control",
            Self::NotText => "not-utf-8",
        }
    }
}

impl fmt::Display for PasswordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a password has at least one character"),
            Self::TooLong => write!(f, "a password has at most {PASSWORD_BYTES} bytes"),
            Self::Control => f.write_str("a password has no control characters"),
            Self::NotText => f.write_str("a password is UTF-8 or ASCII"),
        }
    }
}

/// Whether a new password may be `password`.
pub fn acceptable(password: &str) -> Result<(), PasswordFault> {
    if password.is_empty() {
        Err(PasswordFault::Empty)
    } else if password.len() > PASSWORD_BYTES {
        Err(PasswordFault::TooLong)
    } else if password.chars().any(char::is_control) {
        Err(PasswordFault::Control)
    } else {
        Ok(())
    }
}

/// The same of bytes as they were typed.
pub fn acceptable_bytes(password: &[u8]) -> Result<(), PasswordFault> {
    acceptable(str::from_utf8(password).map_err(|_| PasswordFault::NotText)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_can_be_typed() {
        for (password, verdict) in [
            ("", Err(PasswordFault::Empty)),
            ("tab\there", Err(PasswordFault::Control)),
            ("c1\u{85}", Err(PasswordFault::Control)),
            ("x", Ok(())),
            ("with blanks", Ok(())),
            ("käse", Ok(())),
            (&"x".repeat(256), Ok(())),
            (&"x".repeat(257), Err(PasswordFault::TooLong)),
        ] {
            assert_eq!(acceptable(password), verdict, "{password:?}");
            assert_eq!(acceptable_bytes(password.as_bytes()), verdict, "{password:?}");
        }
        assert_eq!(acceptable_bytes(b"k\xe4se"), Err(PasswordFault::NotText));
    }
}
