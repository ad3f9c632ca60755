//! What one connection may do, and when it was last heard.

use super::accounts::UserId;
use super::deadlines::Armed;
use super::event::{Conn, Dialect, Trust};
use super::password::{Password, Verifier};
use super::record::LetterId;
use crate::limits::{CREDIT_BYTES, CREDIT_LETTERS, PING_MS, PONG_MS};
use crate::proto::coded::{Kind, Tag};
use crate::proto::name::NameKey;
use crate::proto::reply::Prompt;
use crate::scram::{Binding, Exchange};
use crate::time::Millis;
use std::net::IpAddr;
use std::rc::Rc;

/// Where a connection stands. PROTOCOL.md has the same names and what each allows.
#[derive(Debug)]
pub(super) enum Stage {
    /// Not signed in.
    Open,
    /// The next line is the password of this name.
    Password(Box<Asked>),
    /// The password is being checked; the connection's lines wait.
    Checking,
    /// SCRAM is under way: the client's last message is awaited.
    Proving(Box<Proving>),
    /// The password was right, and the user's first session is looked at; lines wait.
    Probing(Box<Probe>),
    /// Signed in.
    Online(UserId),
    /// Told goodbye. The letters up to this one were shown and not settled.
    Leaving(Option<(UserId, LetterId)>),
}

/// Whose password was asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) name: Box<str>,
    pub(super) key: NameKey,
}

/// Whom somebody claims to be, as it was when the proof was begun: the password file may be read
/// again before its end.
#[derive(Debug)]
pub(super) struct Claimed {
    /// The holder of the name, if there is one.
    pub(super) user: Option<UserId>,
    /// What the proof is compared with; a decoy's for a user who does not exist.
    pub(super) verifier: Verifier,
}

/// A SCRAM exchange, and whose account it is about.
#[derive(Debug)]
pub(super) struct Proving {
    pub(super) name: Box<str>,
    pub(super) key: NameKey,
    pub(super) exchange: Exchange,
    pub(super) claimed: Claimed,
}

/// How far a session is with changing its user's password. It stays signed in meanwhile.
#[derive(Debug)]
pub(super) enum Changing {
    /// The next line is the present password.
    Current,
    /// The next line is the new one.
    New { current: Password },
    /// The next line is the new one again.
    Again { current: Password, new: Password },
    /// SCRAM is under way: the client's last message is awaited.
    Proving { exchange: Exchange, old: Verifier, new: Verifier },
    /// Checked, stretched or saved; lines wait.
    UnderWay,
}

/// The look at a first session.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) user: UserId,
    /// The first session's connection.
    pub(super) first: Conn,
    /// Which of the things said to the first session the notice is.
    pub(super) said: u32,
    /// When it was decided to say that.
    pub(super) asked: Millis,
    /// Since when it can be answered, as far as is known.
    pub(super) since: Millis,
    /// Looks so far.
    pub(super) looks: usize,
}

/// One connection, from the first byte to the last.
///
/// What is touched when a letter is shown stands in front and side by side: where a text goes to
/// thousands, to fetch each session into the processor's cache is most of the work.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Session {
    pub(super) stage: Stage,
    pub(super) credit: Credit,
    /// The user's password is being changed here.
    pub(super) changing: Option<Box<Changing>>,
    /// When any byte came last, or it was last looked at why none comes.
    pub(super) stirred: Millis,
    pub(super) silence: Silence,
    pub(super) dialect: Dialect,
    pub(super) kind: Kind,
    pub(super) trust: Trust,
    /// Things said to it, counted as the connection's writer counts them.
    pub(super) said: u32,
    /// Letters still to come of those that the welcome announced.
    pub(super) announced: u32,
    pub(super) tries: u32,
    /// When the last command line came.
    pub(super) heard: Millis,
    pub(super) away: Option<Rc<str>>,
    /// Who was written to last: he is likely the next one, too.
    pub(super) wrote_to: Option<UserId>,
    /// The tag of the sign-in under way.
    pub(super) tag: Option<Tag>,
    pub(super) address: IpAddr,
    /// What only the two ends know, if the connection is TLS.
    pub(super) binding: Option<Box<Binding>>,
    /// What proves the server to the client that signs in, in base64.
    pub(super) proof: Option<Box<str>>,
    /// When this part of the time to sign in began; moved on by what was spent waiting for us.
    pub(super) since: Millis,
    pub(super) armed: Armed,
    /// Bytes of command lines before sign-in.
    pub(super) bytes_before: usize,
    /// Parts of the time to sign in that are used up.
    pub(super) parts: u8,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(std::mem::offset_of!(Session, heard) == 64);

/// What it means that nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing: the client was not asked for a sign of life.
    Usual,
    /// It is asked; but while the disk is at something else, it does not know yet.
    Asked,
    /// It was told, so it is dead if nothing comes for as long again.
    Told,
}

/// How much more may be shown before the connection's output has drained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    pub(super) letters: u32,
    /// Below zero if the last letter went beyond.
    pub(super) bytes: i64,
    /// The end of the output is watched: the credit comes back with it.
    pub(super) watched: bool,
}

impl Credit {
    pub(super) const FULL: Self =
        Self { letters: CREDIT_LETTERS, bytes: CREDIT_BYTES as i64, watched: false };

    pub(super) fn is_spent(&self) -> bool {
        self.letters == 0 || self.bytes <= 0
    }

    /// Gives back what a coded client has acknowledged.
    pub(super) fn restore(&mut self, letters: usize, bytes: u64) {
        let letters = u32::try_from(letters).unwrap_or(CREDIT_LETTERS);
        self.letters = self.letters.saturating_add(letters).min(CREDIT_LETTERS);
        self.bytes = self.bytes.saturating_add_unsigned(bytes).min(i64::from(CREDIT_BYTES));
    }

    pub(super) fn spend(&mut self, bytes: u32) {
        self.letters = self.letters.saturating_sub(1);
        self.bytes -= i64::from(bytes);
    }
}

impl Session {
    pub(super) fn new(address: IpAddr, trust: Trust, now: Millis) -> Self {
        Self {
            address,
            trust,
            binding: None,
            stage: Stage::Open,
            dialect: Dialect::Plain,
            kind: Kind::Online,
            tag: None,
            proof: None,
            stirred: now,
            silence: Silence::Usual,
            since: now,
            heard: now,
            armed: Armed::default(),
            said: 0,
            tries: 0,
            bytes_before: 0,
            parts: 0,
            away: None,
            wrote_to: None,
            credit: Credit::FULL,
            announced: 0,
            changing: None,
        }
    }

    /// A sign of life: whatever came, also if it is a part of something long.
    pub(super) fn stir(&mut self, now: Millis) {
        self.stirred = now;
        self.silence = Silence::Usual;
    }

    /// When the client is asked for a sign of life, or it is looked at whether there was one.
    pub(super) fn next_ping(&self) -> Millis {
        self.stirred.plus(match self.silence {
            Silence::Usual => PING_MS,
            Silence::Asked | Silence::Told => PONG_MS / 2,
        })
    }

    /// The prompt that is open in the midst of the session.
    pub(super) fn prompt(&self) -> Option<Prompt> {
        match self.changing.as_deref()? {
            Changing::Current => Some(Prompt::Current),
            Changing::New { .. } => Some(Prompt::New),
            Changing::Again { .. } => Some(Prompt::Again),
            Changing::Proving { .. } | Changing::UnderWay => None,
        }
    }

    /// Whether its lines wait for the change of a password.
    pub(super) fn waits(&self) -> bool {
        matches!(self.changing.as_deref(), Some(Changing::UnderWay))
    }

    /// The user whose presence this session is.
    pub(super) fn present(&self) -> Option<UserId> {
        self.user().filter(|_| self.kind != Kind::Tool)
    }

    /// The user whose letters it reads as a plain client does: without saying what it took.
    pub(super) fn plain_reader(&self) -> Option<UserId> {
        self.user().filter(|_| self.dialect == Dialect::Plain)
    }

    pub(super) fn user(&self) -> Option<UserId> {
        match self.stage {
            Stage::Online(user) => Some(user),
            _ => None,
        }
    }
}
