//! Where a server is, whether the way there is TLS, and by what it is known; and why it is not to
//! be trusted. Which words of TLS that takes is said in `super::tls`.

use super::known::{Fingerprint, KnownHosts};
use super::shown::Shown;
use std::fmt;
use std::path::PathBuf;

/// The way to a server.
#[derive(Clone, Debug)]
pub struct Route {
    /// `host:port`.
    pub address: String,
    /// How it is gone.
    pub security: Security,
    /// Tells a person that a server is met for the first time.
    pub tell: fn(&str),
}

/// What protects the way.
#[derive(Clone, Debug)]
pub enum Security {
    /// Nothing.
    Plain,
    /// TLS, with a server that is known by this.
    Tls(Trust),
}

/// By what a server is known.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The certificate that it has shown at the first time.
    FirstUse(KnownHosts),
    /// This certificate.
    Pinned(Fingerprint),
    /// Its name, for which one of these authorities vouches: PEM, and the file that it is from.
    Authority(Vec<u8>, PathBuf),
}

/// Why a server is not talked to.
#[derive(Debug)]
pub enum Distrust {
    /// It shows another certificate than ever before.
    Changed {
        /// Which server.
        server: String,
        /// What it is known by.
        known: Fingerprint,
        /// What it shows.
        shown: Fingerprint,
        /// The file that says so.
        file: PathBuf,
    },
    /// It shows another certificate than the one that was asked for.
    NotPinned(Fingerprint),
    /// Nobody who is trusted vouches for it, or it cannot show that the certificate is its own.
    Unverified(String),
    /// It does not speak TLS, but something that begins like that.
    NotTls(String),
    /// It speaks no TLS that we do, or not as it should.
    Fault(String),
    /// The files that say who is trusted cannot be used.
    Files(String),
    /// Another program has them locked.
    Locked(String),
    /// This program has no TLS.
    Absent,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { server, known, shown, file } => write!(
                f,
                "THE SERVER'S CERTIFICATE HAS CHANGED: somebody may be listening in, so nothing \
                 was sent. Known is {known}, shown was {shown}. Ask who runs the server; if it is \
                 right, remove the line of {server} from {}",
                file.display()
            ),
            Self::NotPinned(shown) => write!(
                f,
                "the server shows the certificate {shown}, which is not that of --tls-fingerprint; \
                 nothing was sent"
            ),
            Self::Unverified(why) => {
                write!(f, "the server's certificate is not trusted: {why}; nothing was sent")
            }
            Self::NotTls(sample) => write!(
                f,
                "no TLS there, it says '{}'; take the port that the server has for TLS, or leave \
                 --tls out",
                Shown(sample)
            ),
            Self::Fault(why) => write!(f, "no TLS came about: {why}"),
            Self::Files(what) | Self::Locked(what) => f.write_str(what),
            Self::Absent => f.write_str("this mms was built without TLS"),
        }
    }
}
