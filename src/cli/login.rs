//! `mms login` and `mms logout`: keys instead of a password, for scripts.

use super::account::{Account, ServerArg, failure, keys_path, put, user};
use super::{Code, Failure};
use crate::client::keys;
use crate::client::oneshot::{Conversation, Errand};
use crate::net::Clock;
use clap::Args;
use std::io::Write;

/// Save keys, so that scripts need no password.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms login --user fred                              asks for the password, once
  mms login --user fred --password-file secret.txt
  mms login --user fred --server mms.example:1060
  mms send tim 'hi'                                  from now on without a password

The password itself is not kept, but keys made of it, in $XDG_CONFIG_HOME/mms or ~/.config/mms,
readable by you alone. Whoever reads them can sign in as you until the password is changed. A
sign-in with keys costs no hash rounds, so it is quick.

Exit codes: 64 no user or no password given; 65 the name or the password file will not do; 66 no
such password file; 69 no server there; 74 the keys cannot be written; 75 try later; 76 that is
no MMS server, or not the one that is known; 77 wrong user or password; 78 nowhere to keep the
keys, or known_hosts or the file of --ca will not do.")]
pub struct Login {
    #[command(flatten)]
    account: Account,
}

/// Forget saved keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms logout                   if the keys of one user only are saved
  mms logout --user fred

Asks no server: the keys stay good until the password is changed, for whoever copied them.

Exit codes: 64 no user given; 66 no keys of this user are saved; 74 they cannot be removed.")]
pub struct Logout {
    #[command(flatten)]
    server: ServerArg,
    /// The user whose keys are forgotten; if it is left out, the one whose keys are saved.
    #[arg(long, value_name = "NAME", env = "MMS_USER")]
    user: Option<String>,
}

impl Login {
    /// Signs in, and keeps what it took.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (address, login) = self.account.login_by_password()?;
        let route = self.account.route()?;
        // Before anybody is asked: where would they go?
        let path = keys_path(&address, &login.user)?;
        let clock = Clock::start();
        let now = || clock.now().mono;
        let until = now().plus(30_000);
        let errand = Errand { server: &route, login: &login, clock: &now, until };
        let conversation =
            Conversation::open(&errand).map_err(|trouble| failure(&address, &trouble))?;
        if let Some(made) = conversation.link.keys() {
            keys::save(&path, made)?;
        }
        let user = conversation.user.clone();
        conversation.close(until);
        put(out, &format!("keys of {user} for {address} saved in {}\n", path.display()))
    }
}

impl Logout {
    /// Removes the keys.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let address = self.server.address()?;
        let user = user(self.user.as_deref(), &address)?;
        let path = keys_path(&address, user.as_str())?;
        if keys::remove(&path)? {
            return put(out, &format!("keys of {user} for {address} forgotten\n"));
        }
        let message = format!("no keys of {user} for {address} are saved");
        Err(Failure::new(Code::NoInput, message))
    }
}
