//! The border between the rules and the world: what happened, and what is to be done about it.

use super::accounts::UserId;
use super::password::Verifier;
use super::record::{LetterId, Location};
use crate::proto::coded::Tag;
use crate::proto::command::Verb;
use crate::proto::foreign::Foreign;
use crate::proto::line::Frame;
use crate::proto::name::UserName;
use crate::proto::reply::{Farewell, Flushed, Reply};
use crate::scram::Binding;
use std::net::IpAddr;

/// A connection's number. Free for reuse once [`Action::Free`] was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u32);

/// A change of a password, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeId(pub u64);

/// What became of a change of the password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The file has the new verifier.
    Done(Flushed),
    /// The user's line is gone, or its verifier is not the one that was to be replaced.
    Outdated,
    /// Somebody else keeps the file locked.
    Locked,
    /// It cannot be written; the log says why.
    Failed,
}

/// How a connection talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// In lines for people.
    Plain,
    /// In lines for programs.
    Coded,
}

/// Whether a peer's network is exempt from caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is in a trusted network.
    Trusted,
    /// It is anyone.
    Stranger,
}

/// What happened.
pub enum Event<'a> {
    /// A peer connected.
    Opened {
        /// Its number from now on.
        conn: Conn,
        /// Where it comes from.
        address: IpAddr,
        /// Whether caps hold for it.
        trust: Trust,
    },
    /// The connection is TLS. Comes right behind [`Event::Opened`].
    Secured {
        /// Which.
        conn: Conn,
        /// What only its two ends know.
        binding: Binding,
    },
    /// A line arrived, without its end.
    Line {
        /// From whom.
        conn: Conn,
        /// The bytes.
        line: &'a [u8],
        /// The text by count that followed it, in the coded dialect.
        body: Option<&'a [u8]>,
    },
    /// Bytes arrived, a whole line or not: the peer is there. Comes before the lines it completes.
    Stirred {
        /// Who.
        conn: Conn,
    },
    /// A line over [`super::hub::Hub::limits`] arrived and was dropped.
    LineTooLong {
        /// From whom.
        conn: Conn,
    },
    /// A text by count over the limit arrived and was dropped.
    TextTooLong {
        /// From whom.
        conn: Conn,
        /// The line before it.
        line: &'a [u8],
        /// The text's length.
        bytes: u64,
    },
    /// A text by count was followed by something else than a line end; both were dropped.
    Miscounted {
        /// From whom.
        conn: Conn,
    },
    /// The first bytes are of another protocol.
    Foreign {
        /// Who.
        conn: Conn,
        /// What they are.
        what: Foreign,
    },
    /// The peer closed its side in order; all its lines were handled before.
    Ended {
        /// Who.
        conn: Conn,
    },
    /// The connection is gone.
    Closed {
        /// Which.
        conn: Conn,
        /// In what state.
        end: End,
    },
    /// The peer's kernel has acknowledged what was said to the connection so far.
    Acknowledged {
        /// Which.
        conn: Conn,
        /// The count of things said, by [`Action::Say`] and [`Action::Show`], that have arrived.
        through: u32,
        /// What the next line proves.
        input: Input,
    },
    /// The peer itself says that it has come so far in what was said to it.
    Marked {
        /// Which.
        conn: Conn,
        /// The count of things said that it has taken.
        through: u32,
    },
    /// What was said to a watched connection has been written.
    Drained {
        /// Which.
        conn: Conn,
    },
    /// The password file was read again.
    Reloaded {
        /// Its users.
        entries: Vec<(UserName, Verifier)>,
    },
    /// [`Action::SavePassword`] was done, or not.
    PasswordSaved {
        /// Which change.
        change: ChangeId,
        /// What became of it.
        saved: Saved,
    },
    /// The server is to stop.
    Stopping,
}

impl<'a> Event<'a> {
    /// What the connection sent, as it was framed.
    #[must_use]
    pub fn of_frame(conn: Conn, frame: Frame<'a>) -> Self {
        match frame {
            Frame::Line(line) => Self::Line { conn, line, body: None },
            Frame::Counted(line, body) => Self::Line { conn, line, body: Some(body) },
            Frame::TooMany(line, bytes) => Self::TextTooLong { conn, line, bytes },
            Frame::Miscounted => Self::Miscounted { conn },
            Frame::TooLong => Self::LineTooLong { conn },
        }
    }
}

impl std::fmt::Debug for Event<'_> {
    /// Only what it is: a line may hold a password or a message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opened { .. } => "Opened",
            Self::Secured { .. } => "Secured",
            Self::Line { .. } => "Line",
            Self::Stirred { .. } => "Stirred",
            Self::LineTooLong { .. } => "LineTooLong",
            Self::TextTooLong { .. } => "TextTooLong",
            Self::Miscounted { .. } => "Miscounted",
            Self::Foreign { .. } => "Foreign",
            Self::Ended { .. } => "Ended",
            Self::Closed { .. } => "Closed",
            Self::Acknowledged { .. } => "Acknowledged",
            Self::Marked { .. } => "Marked",
            Self::Drained { .. } => "Drained",
            Self::Reloaded { .. } => "Reloaded",
            Self::PasswordSaved { .. } => "PasswordSaved",
            Self::Stopping => "Stopping",
        })
    }
}

/// What a peer sent before its kernel acknowledged something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All of it was handed over: the next line was sent, or at least ended, afterwards.
    Taken,
    /// Some of it may still come as lines. The same is reported again when it has.
    Waiting,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All that was said was acknowledged and no reset came: the peer closed in order.
    Orderly,
    /// Anything else: a reset, a timeout, an error.
    Broken,
    /// It took no output for too long.
    Stalled,
    /// Memory ran short, and it held most.
    Overload,
}

/// What is to be done. Nothing of it is done before the records of the same turn are durable.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Say this.
    Say {
        /// To whom.
        conn: Conn,
        /// The tag of the command that it answers.
        tag: Option<Tag>,
        /// What.
        reply: Reply,
    },
    /// Show a letter.
    Show {
        /// In which dialect.
        dialect: Dialect,
        /// Its number.
        id: LetterId,
        /// Its sender.
        from: UserName,
        /// Where its body stands.
        at: Location,
        /// To whom first.
        viewer: Viewer,
        /// To whom else, right behind and in this order. What all of them see is looked up once.
        further: Vec<Viewer>,
    },
    /// Report `Drained` when all of it is written.
    Watch {
        /// Whose.
        conn: Conn,
    },
    /// Look now what the connection's kernel has acknowledged, and report it.
    Look {
        /// Whose.
        conn: Conn,
    },
    /// Hand over the connection's lines again.
    Resume {
        /// Whose.
        conn: Conn,
    },
    /// Write what is left, then close.
    Close {
        /// Which.
        conn: Conn,
        /// Whether to keep the write side open a moment longer, to see if a reset comes: letters
        /// were shown and nothing proves yet that they were read.
        witness: bool,
    },
    /// The connection is closed, and nothing that was meant for it is behind this: its number may
    /// go to another.
    Free {
        /// Which.
        conn: Conn,
    },
    /// Give a user another verifier in the password file, and report [`Event::PasswordSaved`].
    SavePassword(Box<SavePassword>),
    /// For the log.
    Note(Note),
}

impl Action {
    /// How many things are to be done.
    #[must_use]
    pub fn things(&self) -> usize {
        match self {
            Self::Show { further, .. } => 1 + further.len(),
            _ => 1,
        }
    }
}

/// To whom a letter is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// On which connection.
    pub conn: Conn,
    /// Who.
    pub user: UserId,
    /// It was shown to him before.
    pub again: bool,
    /// It waited for the sign-in.
    pub waited: bool,
}

/// A change of the password file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavePassword {
    /// To be reported under this number.
    pub change: ChangeId,
    /// Whose line.
    pub user: UserName,
    /// What must stand there still.
    pub old: Verifier,
    /// What is to stand there.
    pub new: Verifier,
}

/// What the log is told. Never a password, never a message's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The password of a sign-in was wrong, or there is no such user.
    SignInFailed {
        /// The user, if there is one by that name.
        user: Option<UserName>,
        /// From where.
        address: IpAddr,
    },
    /// Nobody looked at the password, for that name is blocked for that address.
    SignInBlocked {
        /// The user, if there is one by that name.
        user: Option<UserName>,
        /// From where.
        address: IpAddr,
    },
    /// A sign-in led to no session for a reason that is nobody's guess at a password.
    SignInRefused {
        /// The user, if there is one by that name.
        user: Option<UserName>,
        /// From where.
        address: IpAddr,
        /// In fixed words.
        why: &'static str,
    },
    /// Failures have led to a block.
    BlockBegun {
        /// The user, if there is one by that name.
        user: Option<UserName>,
        /// From where.
        address: IpAddr,
        /// For how long, in seconds.
        block_s: u64,
    },
    /// A user's password was not changed.
    PasswordKept {
        /// Whose.
        user: UserName,
        /// From where it was asked for.
        address: IpAddr,
        /// In fixed words.
        why: &'static str,
    },
    /// A user has another password.
    PasswordChanged {
        /// Who.
        user: UserName,
        /// From where.
        address: IpAddr,
    },
    /// A session began.
    SignedIn {
        /// Whose.
        user: UserName,
        /// From where.
        address: IpAddr,
    },
    /// A session ended.
    SignedOff {
        /// Whose.
        user: UserName,
        /// From where.
        address: IpAddr,
        /// Why.
        why: Farewell,
    },
    /// A connection without a session was closed for a reason of ours.
    Dismissed {
        /// From where.
        address: IpAddr,
        /// Why.
        why: Farewell,
    },
    /// A command was given.
    Command {
        /// By whom, if signed in.
        user: Option<UserName>,
        /// Which; none if it is unknown (it may be a mistyped password).
        verb: Option<Verb>,
        /// How often in a row.
        times: u32,
    },
    /// A limit bit.
    Limited {
        /// By whom, if signed in.
        user: Option<UserName>,
        /// In fixed words.
        what: &'static str,
    },
    /// The user is told that the disk has lost letters to him.
    LossTold {
        /// Whose.
        user: UserName,
        /// How many.
        letters: usize,
    },
    /// The letters of a removed user are held.
    Held {
        /// The user.
        user: UserName,
        /// How many.
        letters: usize,
    },
}

/// Whether the connection's next line may be handed over in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Go,
    /// Keep its lines until [`Action::Resume`].
    Hold,
}
