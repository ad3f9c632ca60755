//! Everything the server can say, as values. The rules produce them; a dialect only words them.

use super::command::{Problem, Switch, Verb};
use super::foreign::Foreign;
use super::id::LetterId;
use super::name::{NameFault, UserName};
use super::password::PasswordFault;
use super::text::TextFault;
use crate::limits::NAMES_SHOWN;
use std::net::IpAddr;
use std::rc::Rc;

/// What the log is told of a full mailbox, be it one reader's or among many.
pub const MAILBOX_FULL: &str = "mailbox full";

/// Something said to one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The first thing anyone hears.
    Greeting,
    /// The commands, or one of them.
    Help(Option<Verb>),
    /// Asks for a password and hides what is typed.
    PasswordPrompt(Prompt),
    /// What comes next came unasked and begins a line of its own: the prompt is said again behind.
    PromptInterrupted,
    /// Ends the hiding.
    PasswordRead,
    /// Signed in; so many letters follow.
    Welcome {
        /// Who.
        user: UserName,
        /// How many letters wait.
        waiting: usize,
        /// The spool's name, by which inboxes are keyed.
        spool: u64,
        /// What proves the server to a client that signed in by SCRAM, in base64.
        proof: Option<Box<str>>,
    },
    /// The letter is durable and its reader is here.
    Sent {
        /// The reader.
        to: UserName,
        /// Its number.
        id: LetterId,
    },
    /// The letter is durable and its reader is away.
    Saved {
        /// The reader.
        to: UserName,
        /// Its number.
        id: LetterId,
    },
    /// A letter with this key was stored before, under this number; nothing was stored now.
    Known(LetterId),
    /// The coded dialect is spoken from now on.
    Switched(Binds),
    /// SCRAM's challenge: the server's first message in base64.
    Challenge(Box<str>),
    /// The answer to a client's ping.
    Pong,
    /// Asks a client whether it is still there.
    Ping,
    /// What became of a letter to a list.
    Fates(Box<Fates>),
    /// What became of a broadcast.
    Broadcast {
        /// How many users it was accepted for.
        users: usize,
        /// Whose mailboxes were full.
        full: Names,
        /// The letter's number, if it was stored for anybody.
        id: Option<LetterId>,
    },
    /// Who is online and who is not.
    WhoIsOn {
        /// Online.
        online: Names,
        /// Not online.
        offline: Names,
    },
    /// Who else is online.
    WhoElse(Names),
    /// Who else was there in the last so many milliseconds.
    WhoLast {
        /// Who.
        who: Names,
        /// How far back.
        window_ms: u64,
    },
    /// Away is set, with this text.
    Away(Rc<str>),
    /// Away has ended.
    NoLongerAway,
    /// A user who is away answers automatically.
    AutoReply {
        /// Who is away.
        from: UserName,
        /// The text.
        text: Rc<str>,
    },
    /// Whether the session is told who signs in and off.
    Notify(Switch),
    /// A user has signed in or off: told to who asked for it.
    Presence {
        /// Who.
        user: UserName,
        /// On is in.
        switch: Switch,
    },
    /// Whether the connection is told when what it sends is delivered.
    Receipts(Switch),
    /// A reader has the letter for good.
    Delivered {
        /// The letter's number.
        id: LetterId,
        /// The reader.
        user: UserName,
    },
    /// Of this letter no more will be told on this connection.
    Unwatched {
        /// The letter's number.
        id: LetterId,
        /// Why not.
        why: Unwatched,
    },
    /// No messages are taken from the user from now on, or they are again.
    Block {
        /// Whom.
        user: UserName,
        /// On is blocked.
        switch: Switch,
    },
    /// The session has ended at its user's wish.
    SignedOff(UserName),
    /// Somebody who knows the password tries to sign in as the user of this session.
    SecondSignIn {
        /// As whom.
        user: UserName,
        /// From where.
        address: IpAddr,
    },
    /// The first session does not answer yet; wait.
    Probing(UserName),
    /// A letter is damaged on the disk and cannot be shown.
    LetterDamaged {
        /// Its number: it is acknowledged like any other.
        id: LetterId,
        /// Its sender.
        from: UserName,
    },
    /// The user has a new password, and the password file holds it.
    PasswordChanged {
        /// What proves the server to a client that changed it by SCRAM, in base64.
        proof: Option<Box<str>>,
        /// Whether a power cut might undo it.
        flushed: Flushed,
    },
    /// Nothing was typed where the present password was asked for.
    PasswordKept,
    /// No.
    Refused(Refusal),
    /// The last thing said before the connection is closed.
    Farewell(Farewell),
}

/// Whether a sign-in by SCRAM may be bound to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binds {
    /// It is not TLS, or TLS that ends elsewhere.
    No,
    /// It is TLS: SCRAM-SHA-256-PLUS.
    Exporter,
}

/// Which password a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// The one to sign in with.
    SignIn,
    /// The present one.
    Current,
    /// The new one.
    New,
    /// The new one once more.
    Again,
}

/// Whether the disk has reported a change flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Yes.
    Surely,
    /// It was written, and then the flush failed.
    Perhaps,
}

/// Why the delivery of a letter is not awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwatched {
    /// Too much is awaited already.
    Busy,
    /// It was sent before, and for whom it was stored is not known any more.
    Unknown,
}

/// Names for a list that may be long: the first of them, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// At most [`crate::limits::NAMES_SHOWN`].
    pub shown: Vec<UserName>,
    /// How many there are in all.
    pub count: usize,
}

impl Names {
    /// One more name.
    pub fn push(&mut self, name: &UserName) {
        self.count += 1;
        if self.count <= NAMES_SHOWN {
            self.shown.push(name.clone());
        }
    }

    /// How many there are besides those that are shown.
    #[must_use]
    pub fn more(&self) -> usize {
        self.count - self.shown.len()
    }
}

/// What became of a letter to a list, name by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Durable, reader here.
    pub sent: Vec<UserName>,
    /// Durable, reader away.
    pub saved: Vec<UserName>,
    /// Nobody has that name; not stored.
    pub unknown: Vec<Box<str>>,
    /// No room; not stored.
    pub full: Vec<UserName>,
    /// They take no messages from the sender; not stored.
    pub blocked: Vec<UserName>,
    /// The sender himself, where that is not allowed; not stored.
    pub to_self: Option<UserName>,
    /// The letter's number, if it was stored for anybody.
    pub id: Option<LetterId>,
}

/// The peer was wrong, or cannot be served now. Each is one row of PROTOCOL.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The command needs a session.
    MustSignIn,
    /// The session has a user already.
    SignedInAlready(UserName),
    /// Wrong password or no such user: nobody learns which.
    NotAuthorized(Box<str>),
    /// Too many failures lately; the attempt was not evaluated.
    Blocked {
        /// The name as typed.
        name: Box<str>,
        /// How long still, in seconds.
        left_s: u64,
    },
    /// The user has a live session elsewhere.
    AlreadyOnline(UserName),
    /// Too many sign-ins wait to be checked.
    SignInsBusy,
    /// The first word is no command; the nearest one.
    Unknown {
        /// The word, cut if it is long.
        word: Box<str>,
        /// A command it resembles.
        hint: Option<Verb>,
    },
    /// Something is missing, superfluous or malformed.
    Usage(Verb, Problem),
    /// The line holds what no line may hold.
    Text(TextFault),
    /// The line is longer than this many bytes.
    LineTooLong(usize),
    /// The message is longer than this many bytes.
    MessageTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// The password is longer than this many bytes.
    PasswordTooLong(usize),
    /// The present password, which a change asks for, was another one.
    WrongPassword,
    /// The new password will not do.
    BadPassword(PasswordFault),
    /// The new password was typed differently the second time.
    PasswordsDiffer,
    /// A verifier must have at least and at most so many rounds.
    Rounds {
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A change of this password is under way, or too many of others are, or somebody else is
    /// changing the password file.
    PasswordsBusy,
    /// The password file is not what it was when the change began.
    PasswordsOutdated,
    /// The password file could not be written.
    PasswordNotSaved,
    /// The word is no user name.
    BadName(Box<str>, NameFault),
    /// Nobody has that name; the nearest one.
    NoSuchUser {
        /// The name, cut if it is long.
        name: Box<str>,
        /// A user it resembles.
        hint: Option<UserName>,
    },
    /// Messages to oneself are not allowed here.
    ToSelf,
    /// The recipient takes no messages from the sender.
    Undeliverable(UserName),
    /// So many users are blocked already.
    BlocksFull(usize),
    /// One cannot block oneself.
    BlockSelf,
    /// The recipient's mailbox is full.
    MailboxFull(UserName),
    /// The server's disk is full.
    DiskFull,
    /// Nobody else is online to hear a broadcast.
    NobodyElse,
    /// The coded dialect is to be had in version 1, and as the first line.
    Switch,
    /// A command of the coded dialect is typed differently.
    Malformed(&'static str),
    /// A tag of the coded dialect is malformed.
    BadTag,
    /// The command needs a session that is present, and this one is a tool.
    NotPresent,
    /// The key was used before for another message.
    KeyReused,
    /// The key's counter is too far below the highest to be known.
    KeyTooOld,
    /// Too many keys of this user are remembered.
    KeysFull,
    /// Nothing with this number was shown in this session.
    BadAck,
}

/// Why the server ends a connection or notes its end. Always logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The user signed out.
    SignedOut,
    /// No command line for that many seconds.
    Idle {
        /// The limit.
        limit_s: u64,
    },
    /// Nobody signed in in time.
    SignInTooSlow {
        /// The limit.
        limit_s: u64,
    },
    /// The last failed sign-in of a row.
    TooManyFailures {
        /// How long the block lasts, if it is one.
        block_s: Option<u64>,
    },
    /// Too much was typed without signing in.
    TooMuchBeforeSignIn,
    /// A newer session of the same user took over.
    Replaced {
        /// Where it came from.
        address: IpAddr,
    },
    /// A newer session came and this one no longer answered.
    Unresponsive,
    /// The name is no longer in the password file.
    Removed,
    /// The password was changed.
    PasswordChanged,
    /// The server stops.
    ShuttingDown,
    /// The peer closed its side in order.
    PeerClosed,
    /// The connection broke: reset or timed out.
    Broken,
    /// The peer took nothing of its output for too long.
    Stalled,
    /// Its buffers were among the largest while memory ran short.
    Overload,
    /// The first bytes are of another protocol.
    Foreign(Foreign),
}

/// Why a connection is closed before anything is read of it. Each is one row of PROTOCOL.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// As many connections are open as there may be.
    Full,
    /// Memory runs short.
    ShortOfMemory,
    /// Many strangers have not signed in, and this one was unlucky.
    EarlyDrop,
    /// So many of this network have not signed in.
    TooManyOfOne {
        /// The most there may be.
        most: u32,
    },
    /// This network has connected too often of late.
    TooFast,
    /// Connections of this network have ended badly too often.
    Penalty {
        /// How long it is barred still, in seconds.
        left_s: u64,
    },
}

impl Barred {
    /// What the log calls it, fixed: whether it is for what the peer has done, or for what all of
    /// them together have.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::TooManyOfOne { .. } | Self::TooFast | Self::Penalty { .. } => {
                "connection-refused"
            }
            Self::Full | Self::ShortOfMemory | Self::EarlyDrop => "connection-dropped",
        }
    }

    /// The words that stand in the log, fixed.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full => "as many are open as may be",
            Self::ShortOfMemory => "memory runs short",
            Self::EarlyDrop => "many have not signed in",
            Self::TooManyOfOne { .. } => "many of its network have not signed in",
            Self::TooFast => "too many new ones of its network",
            Self::Penalty { .. } => "its network has a penalty",
        }
    }
}

impl Refusal {
    /// The words that stand in the log for a limit that bites, fixed; none if it is not for one,
    /// or if the log has a line of its own for it.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::LineTooLong(_) => Some("line too long"),
            Self::MessageTooLong { .. } => Some("message too long"),
            Self::PasswordTooLong(_) => Some("password too long"),
            Self::Usage(_, Problem::LongList) => Some("list too long"),
            Self::BlocksFull(_) => Some("too many blocked users"),
            Self::KeysFull => Some("too many keys"),
            Self::MailboxFull(_) => Some(MAILBOX_FULL),
            Self::DiskFull => Some("disk full"),
            _ => None,
        }
    }
}

impl Reply {
    /// Whether it comes unasked, so that it carries no command's tag.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::NoLongerAway
                | Self::AutoReply { .. }
                | Self::SecondSignIn { .. }
                | Self::LetterDamaged { .. }
                | Self::Presence { .. }
                | Self::Delivered { .. }
                | Self::Unwatched { .. }
                | Self::Ping
                | Self::Farewell(_)
        )
    }
}

impl Farewell {
    /// The words that stand in the log, fixed.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SignedOut => "signed out",
            Self::Idle { .. } => "idle",
            Self::SignInTooSlow { .. } => "no sign-in in time",
            Self::TooManyFailures { .. } => "too many failed attempts",
            Self::TooMuchBeforeSignIn => "too much before sign-in",
            Self::Replaced { .. } => "replaced by a newer session",
            Self::Unresponsive => "no longer answering",
            Self::Removed => "removed from the password file",
            Self::PasswordChanged => "password changed",
            Self::ShuttingDown => "server stops",
            Self::PeerClosed => "closed by the peer",
            Self::Broken => "connection lost",
            Self::Stalled => "took no output",
            Self::Overload => "memory ran short",
            Self::Foreign(_) => "speaks another protocol",
        }
    }
}
