//! `mms who` and `mms ping`: who is there, and whether the server is.

use super::account::{Account, ServerArg, failure, put, tell};
use super::{Code, Failure};
use crate::client::link::{Event, Why};
use crate::client::oneshot::{Conversation, Errand, Trouble, knock};
use crate::client::shown::{Json, Shown};
use crate::net::Clock;
use crate::proto::coded_client::{Answer, Ask, Kind};
use clap::Args;
use std::io::Write;

/// Who is online, and who is not: one user a line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms who
  mms who | awk '$2 == \"online\" { print $1 }'
  mms who --json                    {\"user\":\"fred\",\"online\":true}

You are not there yourself because of it: it asks beside your own sessions. Of many users the
first 100 are told.

Exit codes: 64 no user or no password given; 65 the name or the password file will not do; 66 no
such password file; 69 no server there; 75 try later; 76 that is no MMS server, or not the one
that is known; 77 wrong user or password; 78 the saved keys, known_hosts or the file of --ca
will not do.")]
pub struct Who {
    #[command(flatten)]
    account: Account,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Ask a server whether it is there; needs no user.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mms ping
  mms ping --server mms.example:1060 --timeout 2
  until mms ping 2>/dev/null; do sleep 1; done      waits for a server that starts

Exit codes: 69 no server there, or it says nothing; 75 it takes nobody now, or known_hosts is
locked by another program; 76 that is no MMS server, or not the one that is known; 78 known_hosts
or the file of --ca will not do.")]
pub struct Ping {
    #[command(flatten)]
    server: ServerArg,
    /// How long to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl Who {
    /// Asks and prints.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (address, login) = self.account.login(Kind::Tool)?;
        let route = self.account.route()?;
        let clock = Clock::start();
        let now = || clock.now().mono;
        let until = now().plus(30_000);
        let errand = Errand { server: &route, login: &login, clock: &now, until };
        let answer = who(&errand).map_err(|trouble| failure(&address, &trouble))?;
        let (online, offline, more) = match answer {
            Answer::Who { online, offline, more } => (online, offline, more),
            Answer::Refused(refused) => {
                return Err(Failure::new(Code::Protocol, format!("{address}: {refused}")));
            }
            _ => return Err(Failure::new(Code::Protocol, format!("{address}: an odd answer"))),
        };
        let mut text = String::new();
        for (names, is_online) in [(&online, true), (&offline, false)] {
            for name in names {
                text += &if self.json {
                    format!("{{\"user\":{},\"online\":{is_online}}}\n", Json(name))
                } else {
                    format!("{} {}\n", Shown(name), if is_online { "online" } else { "offline" })
                };
            }
        }
        put(out, &text)?;
        if more != (0, 0) {
            tell(&format!("and {} more online, {} more offline", more.0, more.1));
        }
        Ok(())
    }
}

fn who(errand: &Errand<'_>) -> Result<Answer, Trouble> {
    let mut conversation = Conversation::open(errand)?;
    conversation.link.ask(&Ask::Who);
    conversation.link.ask(&Ask::SignOut);
    loop {
        match conversation.wait(errand.until)? {
            Some(Event::Answered(_, answer)) => return Ok(answer),
            Some(_) => {}
            None => return Err(Trouble::Closed(Why::Lost)),
        }
    }
}

impl Ping {
    /// Asks once.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let address = self.server.address()?;
        let route = self.server.route()?;
        let clock = Clock::start();
        let now = || clock.now().mono;
        let begun = now();
        knock(&route, &now, begun.plus(self.timeout.saturating_mul(1000)))
            .map_err(|trouble| failure(&address, &trouble))?;
        put(out, &format!("{address} answers after {} ms\n", now().since(begun)))
    }
}
