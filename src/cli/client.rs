//! `mms client`: the companion of a person at a terminal, or of a program behind a pipe.

use super::account::{self, Account, failure};
use super::trust::TlsArgs;
use super::{Code, Failure};
use crate::client::link::{Credential, Login, Why};
use crate::client::model::End;
use crate::client::oneshot::Trouble;
use crate::client::run::{self, Setup};
use crate::client::screen::Look;
use crate::client::trust::Route;
use crate::net::Clock;
use crate::proto::coded_client::Kind;
use crate::proto::name::UserName;
use crate::scram::ScramFault;
use crate::store::disk::FileDisk;
use clap::Args;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

/// Talk with others: a prompt that is never disturbed by what arrives.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms client localhost 1060                    asks for name and password
  mms client --user tim localhost 1060         asks for the password, unless 'mms login' saved keys
  printf 'send fred hi\\n' | mms client -u tim --password-file pw localhost 1060

Type 'help' for the commands; they are those of telnet. Tab completes commands and names, Up
brings back what was typed, Ctrl-C clears the line and on an empty line asks whether to leave,
Ctrl-D leaves. 'passwd' asks for the passwords without showing them, and tells the server neither.
Times are UTC. Colours are off if NO_COLOR is set.

When the connection is lost, it is made again, and what was not answered is sent again; nothing is
stored twice. A message leaves the server once it is kept in an inbox under $XDG_DATA_HOME/mms or
~/.local/share/mms; if that cannot be written, once it was shown.

From a pipe: a command a line, no prompt; it ends when all are answered.

Exit codes: 0 left, or all lines answered; 1 some lines were not answered; 64 no user or no
password given; 65 the name or the password file will not do; 66 no such password file; 69 no
server there; 75 try later; 76 that is no MMS server, or not the one that is known; 77 wrong
user or password; 78 the saved keys, known_hosts or the file of --ca will not do.")]
pub struct Client {
    /// The server's name or address.
    host: String,
    /// Its port.
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The user to sign in as; if it is left out, the one whose keys are saved, or it is asked for.
    #[arg(short, long, value_name = "NAME", env = "MMS_USER")]
    user: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, value_name = "FILE", env = "MMS_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Do not ring at a message.
    #[arg(long)]
    no_bell: bool,
}

impl Client {
    /// Talks until its person leaves.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let person = io::stdin().is_terminal() && io::stdout().is_terminal();
        let host = self.host.trim_matches(['[', ']']);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut account = self.account(&host, self.user.clone());
        if person && self.user.is_none() && account.user(&account.address()?).is_err() {
            account = self.account(&host, Some(asked_name(out)?));
        }
        let (address, mut login) = account.login(Kind::Online)?;
        let route = self.tls.route(&address)?;
        loop {
            let by_keys = matches!(login.credential, Credential::Keys(_));
            let trouble = match run::run(self.setup(&route, &login, person)) {
                Ok(End::Left) => return Ok(()),
                Ok(End::Unanswered(lines)) => {
                    let s = if lines == 1 { "" } else { "s" };
                    let message = format!(
                        "{address}: {lines} line{s} not answered; whether anything was stored is \
                         not known"
                    );
                    return Err(Failure::new(Code::Unknown, message));
                }
                Ok(End::Trouble(trouble)) | Err(trouble) => trouble,
            };
            // Another password helps; whether there is one, only a person knows.
            let helps = match &trouble {
                Trouble::Closed(Why::Refused(refused)) => refused.code == 535,
                Trouble::Closed(Why::Scram(ScramFault::OldKeys)) => by_keys,
                _ => false,
            };
            let told = failure(&address, &trouble);
            if !(helps && person && self.password_file.is_none()) {
                return Err(told);
            }
            account::tell(&told.message);
            let name = UserName::new(&login.user)
                .map_err(|fault| Failure::new(Code::Data, fault.to_string()))?;
            login.credential = Credential::Password(account::ask(&name)?);
        }
    }

    fn account(&self, host: &str, user: Option<String>) -> Account {
        Account::new(format!("{host}:{}", self.port), user, self.password_file.clone())
    }

    fn setup(&self, route: &Route, login: &Login, person: bool) -> Setup<FileDisk> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let colour = person && !dumb && set("NO_COLOR").is_none();
        let clock = Clock::start();
        Setup {
            route: route.clone(),
            login: login.clone(),
            inboxes: Box::new(|| shared(account::data_folder(), "XDG_DATA_HOME")),
            config: Box::new(|| shared(account::folder(), "XDG_CONFIG_HOME")),
            look: Look { colour, bell: person && !self.no_bell },
            person,
            clock: Box::new(move || clock.now()),
        }
    }
}

fn shared(folder: Option<PathBuf>, variable: &str) -> Result<FileDisk, String> {
    let folder =
        folder.ok_or_else(|| format!("neither HOME nor {variable} names an absolute folder"))?;
    FileDisk::open_shared(&folder).map_err(|error| error.to_string())
}

fn asked_name(out: &mut dyn Write) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Code::Io, format!("no name: {error}"));
    out.write_all(b"User: ").and_then(|()| out.flush()).map_err(failed)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(failed)?;
    match line.trim() {
        "" => Err(Failure::new(Code::Usage, "no name was given")),
        name => Ok(name.to_owned()),
    }
}
