//! Why a measurement has no figures.

use super::contender::Contender;
use std::fmt;
use std::io;

/// Why a measurement has no figures.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody has pressed Ctrl-C, or the like.
    Interrupted,
    /// The program is not installed.
    Absent(Contender),
    /// It does not know this kind of work.
    Unfit(Contender),
    /// The server did not do what was asked: what it did instead.
    Server(Contender, String),
    /// The machine did not: what was wanted, and what it said.
    Machine(String, io::Error),
}

impl Trouble {
    /// An error with what was wanted.
    pub(super) fn of(wanted: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Machine(wanted.into(), error)
    }

    /// What it was, without the name of whose it was.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Server(_, what) => what.clone(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Absent(who) => write!(f, "{} is not installed", who.program()),
            Self::Unfit(who) => write!(f, "{} has nothing like it", who.name()),
            Self::Server(who, what) => write!(f, "{}: {what}", who.name()),
            Self::Machine(wanted, error) => write!(f, "{wanted}: {error}"),
        }
    }
}
