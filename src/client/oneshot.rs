//! A command that connects, asks and ends: the socket around a [`Link`], and when it is tried again
//! after a connection was lost.
//!
//! The clock is an argument; the pauses between tries are the only place that sleeps.

use super::link::{Event, Link, Login, State, Why};
use super::stream::Stream;
use super::trust::{Distrust, Route};
use crate::proto::coded_client::Ask;
use crate::scram::{Channel, NONCE_ENTROPY_BYTES};
use crate::time::Millis;
use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::time::Duration;

/// Pauses between tries grow from this to [`PAUSE_MOST_MS`], in milliseconds.
const PAUSE_LEAST_MS: u64 = 50;
/// The longest pause between tries, in milliseconds.
const PAUSE_MOST_MS: u64 = 4000;
/// Longest wait in one read, in milliseconds.
const READ_MOST_MS: u64 = 60_000;
/// A server that says nothing for so long is gone: it pings an idle session much sooner.
const SILENT_MOST_MS: u64 = 300_000;
/// Tries at a server that was never reached: 0.7 s, in which one that restarts is back.
const TRIES_UNREACHED: u32 = 5;
/// Tries in all.
const TRIES_MOST: u32 = 20;

/// Tells the time.
pub type Clock<'a> = &'a dyn Fn() -> Millis;

/// Why a conversation came to nothing.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing listens there, or there is no such host.
    Unreachable(io::Error),
    /// It took too long; the state tells for what.
    TimedOut(State),
    /// It is not the server that it should be.
    Tls(Distrust),
    /// It ended.
    Closed(Why),
    /// The machine has no random numbers.
    NoEntropy(String),
}

impl Trouble {
    /// Whether the same may go well a little later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.kind() != ErrorKind::InvalidInput,
            Self::Closed(Why::Lost | Why::TurnedAway(_)) => true,
            Self::Closed(Why::Refused(refused)) => refused.code == 432,
            Self::Closed(Why::Goodbye { reason, .. }) => {
                matches!(&**reason, "shutting-down" | "idle" | "unresponsive")
            }
            _ => false,
        }
    }
}

/// For how long the server evaluates no sign-in of this user, in milliseconds.
fn blocked_ms(trouble: &Trouble) -> Option<u64> {
    match trouble {
        Trouble::Closed(Why::Refused(refused)) if refused.code == 431 => {
            Some(refused.number()?.saturating_mul(1000))
        }
        _ => None,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "no server there: {error}"),
            Self::TimedOut(State::Greeting) => f.write_str("the server does not say anything"),
            Self::TimedOut(State::Stretching) => f.write_str(
                "the server asks for more work to prove the password than there is time for",
            ),
            Self::TimedOut(_) => f.write_str("the server does not answer in time"),
            Self::Tls(distrust) => write!(f, "{distrust}"),
            Self::Closed(why) => write!(f, "{why}"),
            Self::NoEntropy(error) => write!(f, "no random numbers: {error}"),
        }
    }
}

/// Random bytes.
pub fn entropy<const N: usize>() -> Result<[u8; N], Trouble> {
    let mut bytes = [0; N];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Trouble::NoEntropy(error.to_string())),
    }
}

/// Where, as whom and until when.
#[derive(Clone, Copy)]
pub struct Errand<'a> {
    /// The way there.
    pub server: &'a Route,
    /// As whom.
    pub login: &'a Login,
    /// What time it is.
    pub clock: Clock<'a>,
    /// When to give up.
    pub until: Millis,
}

/// A connection with a session.
pub struct Conversation<'a> {
    stream: Stream,
    /// What is known of the other end.
    pub link: Link,
    clock: Clock<'a>,
    /// When something came last.
    heard: Millis,
    /// Letters waiting when it began.
    pub waiting: u64,
    /// The user's name as the server spells it.
    pub user: String,
}

impl<'a> Conversation<'a> {
    /// Connects and signs in, once.
    pub fn open(errand: &Errand<'a>) -> Result<Self, Trouble> {
        let nonce = entropy::<NONCE_ENTROPY_BYTES>()?;
        let link = |channel| Link::open(errand.login, &nonce, channel);
        let mut conversation = Self::connect(errand.server, link, errand.clock, errand.until)?;
        loop {
            match conversation.wait(errand.until)? {
                Some(Event::SignedIn { user, waiting, .. }) => {
                    (conversation.user, conversation.waiting) = (user, waiting);
                    return Ok(conversation);
                }
                Some(_) => {}
                None => return Err(Trouble::TimedOut(conversation.link.state())),
            }
        }
    }

    fn connect(
        server: &Route,
        link: impl FnOnce(Channel) -> Link,
        clock: Clock<'a>,
        until: Millis,
    ) -> Result<Self, Trouble> {
        let left = || Duration::from_millis(until.since(clock()).max(1));
        let (stream, channel) = Stream::connect(server, &left)?;
        let (link, heard, user) = (link(channel), clock(), String::new());
        Ok(Self { stream, link, clock, heard, waiting: 0, user })
    }

    /// Waits for the next event; writes what is to be said first. `None`: it is late.
    pub fn wait(&mut self, until: Millis) -> Result<Option<Event>, Trouble> {
        let mut bytes = [0; 16 << 10];
        loop {
            self.say(until);
            match self.link.event() {
                Some(Event::Closed(why)) => return Err(Trouble::Closed(why)),
                Some(event) => return Ok(Some(event)),
                None => {}
            }
            let left = until.since((self.clock)());
            if left == 0 {
                return Ok(None);
            }
            if self.link.state() == State::Stretching {
                self.link.work();
                continue;
            }
            if (self.clock)().since(self.heard) > SILENT_MOST_MS {
                self.link.lost();
                continue;
            }
            self.stream
                .set_read_timeout(Some(Duration::from_millis(left.min(READ_MOST_MS))))
                .map_err(|_| Trouble::Closed(Why::Lost))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => self.link.lost(),
                Ok(count) => {
                    self.heard = (self.clock)();
                    self.link.receive(&bytes[..count]);
                }
                Err(error) if is_a_pause(error.kind()) => {}
                Err(_) => self.link.lost(),
            }
        }
    }

    /// Writes what is to be said. A fault shows when the answer is read: the server's last words
    /// may still be there.
    fn say(&mut self, until: Millis) {
        let output = self.link.take_output();
        if output.is_empty() {
            return;
        }
        let left = Duration::from_millis(until.since((self.clock)()).max(1));
        let written = self.stream.set_write_timeout(left);
        if written.and_then(|()| self.stream.write_all(&output)).is_err() {
            _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Signs out and waits for the answer. True: the server has taken everything that was said.
    pub fn close(mut self, until: Millis) -> bool {
        let number = self.link.ask(&Ask::SignOut);
        loop {
            match self.wait(until) {
                Ok(Some(Event::Answered(answered, _))) if Some(answered) == number => return true,
                // What comes now was not asked for, and stays with the server.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

fn is_a_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Asks a server whether it is there, without an account.
pub fn knock(server: &Route, clock: Clock<'_>, until: Millis) -> Result<(), Trouble> {
    let mut visit = Conversation::connect(server, |_| Link::knock(), clock, until)?;
    loop {
        match visit.wait(until)? {
            Some(Event::Answered(0, _)) => return Ok(()),
            Some(_) => {}
            None => return Err(Trouble::TimedOut(visit.link.state())),
        }
    }
}

/// Tries at one thing, and the pauses between them.
pub struct Tries<'a> {
    clock: Clock<'a>,
    until: Millis,
    made: u32,
    /// The server was there at least once.
    reached: bool,
    /// How many are made at most, once it was.
    most: u32,
}

impl<'a> Tries<'a> {
    /// None made yet.
    #[must_use]
    pub fn new(clock: Clock<'a>, until: Millis) -> Self {
        Self { clock, until, made: 0, reached: false, most: TRIES_MOST }
    }

    /// After a success tries are counted anew; `endless`: not at all.
    pub fn succeeded(&mut self, endless: bool) {
        (self.made, self.reached) = (0, true);
        self.most = if endless { u32::MAX } else { TRIES_MOST };
    }

    /// The server was there before this.
    pub fn reached(&mut self) {
        self.reached = true;
    }

    /// Nothing but time bounds them.
    pub fn endless(&mut self) {
        (self.reached, self.most) = (true, u32::MAX);
    }

    /// Pauses before the next try, or gives the trouble back if there is to be none.
    pub fn pause(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.made = self.made.saturating_add(1);
        self.reached |= !matches!(trouble, Trouble::Unreachable(_));
        let most = if self.reached { self.most } else { TRIES_UNREACHED };
        let pause = (PAUSE_LEAST_MS << self.made.min(16)).min(2 * PAUSE_MOST_MS) / 2;
        // Between half of it and all of it, so that many who were cut off do not come at once.
        let [dice] = entropy::<1>()?;
        let pause = pause / 2 + pause * u64::from(dice) / 512;
        let blocked = blocked_ms(&trouble);
        // The seconds that are told are rounded; a little later the block is over in any case.
        let pause = pause.saturating_add(blocked.unwrap_or(0));
        let left = self.until.since((self.clock)());
        if !(trouble.may_pass() || blocked.is_some()) || self.made >= most || left <= pause {
            return Err(trouble);
        }
        sleep(pause);
        Ok(())
    }
}

#[allow(clippy::disallowed_methods)] // a command for scripts has nothing else to do meanwhile
fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
