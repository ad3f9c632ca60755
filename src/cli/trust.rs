//! Whether the way to a server is TLS, and by what the server is known: what is asked for on the
//! command line goes before the environment, and an empty variable is as good as none.

use super::account::{data_folder, tell};
use super::{Code, Failure};
use crate::client::known::{Fingerprint, KnownHosts};
use crate::client::trust::{Route, Security, Trust};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What is wanted of the way.
#[derive(Clone, Debug, Default)]
pub struct TlsArgs {
    tls: bool,
    fingerprint: Option<Fingerprint>,
    ca: Option<PathBuf>,
}

/// The same as it is given.
#[derive(Debug, Args)]
struct Given {
    /// Connect over TLS. The server is known by the certificate that it shows at the first time;
    /// that is kept in known_hosts in $XDG_DATA_HOME/mms or ~/.local/share/mms.
    #[arg(long, env = "MMS_TLS", value_parser = clap::builder::FalseyValueParser::new())]
    tls: bool,
    /// The same, with the server that has the certificate of this fingerprint.
    #[arg(long, value_name = "SHA256:…", env = "MMS_TLS_FINGERPRINT")]
    tls_fingerprint: Option<String>,
    /// The same, with the server for whose name one of the certificates in this PEM file vouches.
    #[arg(long, value_name = "FILE", env = "MMS_CA")]
    ca: Option<OsString>,
}

/// What is asked for, and whether on the command line. An empty argument is a mistake: nobody wants
/// to be let down by a script whose variable is empty.
fn asked<T: AsRef<OsStr>>(
    matches: &ArgMatches,
    id: &str,
    value: Option<T>,
) -> Result<Option<(T, ValueSource)>, Error> {
    match (value, matches.value_source(id)) {
        (Some(value), Some(source)) if !value.as_ref().is_empty() => Ok(Some((value, source))),
        (Some(_), Some(ValueSource::CommandLine)) => {
            let option = id.replace('_', "-");
            let told = format!("--{option} is empty; say whom to trust, or leave it out\n");
            Err(Error::raw(ErrorKind::InvalidValue, told))
        }
        _ => Ok(None),
    }
}

/// Only what is not overruled has to be a fingerprint.
fn parsed((word, source): (String, ValueSource)) -> Result<Fingerprint, Error> {
    let given = match source {
        ValueSource::EnvVariable => "MMS_TLS_FINGERPRINT",
        _ => "--tls-fingerprint",
    };
    word.parse().map_err(|why: String| {
        Error::raw(ErrorKind::ValueValidation, format!("{given} is '{word}': {why}\n"))
    })
}

impl FromArgMatches for TlsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = Given::from_arg_matches(matches)?;
        let fingerprint = asked(matches, "tls_fingerprint", given.tls_fingerprint)?;
        let ca = asked(matches, "ca", given.ca)?;
        let (fingerprint, ca) = match (fingerprint, ca) {
            (Some((fingerprint, one)), Some((ca, other))) => match (one, other) {
                (ValueSource::CommandLine, ValueSource::EnvVariable) => {
                    (Some((fingerprint, one)), None)
                }
                (ValueSource::EnvVariable, ValueSource::CommandLine) => (None, Some(ca)),
                _ => {
                    let told = "a server is known by --tls-fingerprint (MMS_TLS_FINGERPRINT) or by \
                                --ca (MMS_CA), not by both\n";
                    return Err(Error::raw(ErrorKind::ArgumentConflict, told));
                }
            },
            (fingerprint, ca) => (fingerprint, ca.map(|(it, _)| it)),
        };
        let fingerprint = fingerprint.map(parsed).transpose()?;
        Ok(Self { tls: given.tls, fingerprint, ca: ca.map(PathBuf::from) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for TlsArgs {
    fn augment_args(command: Command) -> Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args_for_update(command)
    }
}

impl TlsArgs {
    /// Whether there is to be TLS at all.
    pub fn is_wanted(&self) -> bool {
        self.tls || self.fingerprint.is_some() || self.ca.is_some()
    }

    /// The way to this server.
    pub fn route(&self, address: &str) -> Result<Route, Failure> {
        let wrong = |message: String| Failure::new(Code::Config, message);
        let security = match (self.fingerprint, &self.ca) {
            _ if !self.is_wanted() => Security::Plain,
            (Some(fingerprint), _) => Security::Tls(Trust::Pinned(fingerprint)),
            (None, Some(path)) => {
                let read = std::fs::read(path);
                let pem = read.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
                Security::Tls(Trust::Authority(pem, path.clone()))
            }
            (None, None) => {
                let nowhere = "nowhere to keep who is known: neither HOME nor XDG_DATA_HOME names \
                               an absolute folder; give --tls-fingerprint or --ca";
                let folder = data_folder().ok_or_else(|| wrong(nowhere.into()))?;
                Security::Tls(Trust::FirstUse(KnownHosts::new(&folder)))
            }
        };
        Ok(Route { address: address.into(), security, tell })
    }
}
