//! The command line: clap definitions, one file a subcommand.

pub mod account;
pub mod bench;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(not(feature = "tls"))]
#[path = "certificate_absent.rs"]
mod certificate;
pub mod client;
mod lines;
pub mod login;
pub mod recv;
mod report;
pub mod send;
pub mod server;
pub mod spool;
pub mod trust;
pub mod user;
pub mod who;

use std::fmt;

/// Why a command failed: one line for a person and the exit code for a script.
#[derive(Debug)]
pub struct Failure {
    /// The exit code, from sysexits.
    pub code: Code,
    /// One line that says what to do.
    pub message: String,
}

/// Exit codes, with the numbers of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: whether it was done is not known.
    Unknown = 1,
    /// 2: stored, but not delivered in time.
    Undelivered = 2,
    /// 64: the command line is wrong.
    Usage = 64,
    /// 65: the input is malformed.
    Data = 65,
    /// 66: a file is missing or cannot be read.
    NoInput = 66,
    /// 67: nobody has that name.
    NoUser = 67,
    /// 69: the port cannot be had, or nothing answers there.
    Unavailable = 69,
    /// 73: a file or directory cannot be made, or a mailbox is full.
    CannotCreate = 73,
    /// 74: reading or writing failed.
    Io = 74,
    /// 75: not now; the same command may work later.
    TryLater = 75,
    /// 76: the other end does not speak the protocol.
    Protocol = 76,
    /// 77: no permission, or the sign-in was refused.
    Permission = 77,
    /// 78: a configuration file is wrong.
    Config = 78,
    /// 130: somebody has pressed Ctrl-C.
    Interrupted = 130,
}

impl Failure {
    /// A failure with its exit code and its line.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
