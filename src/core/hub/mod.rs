//! The hub: all rules, one entry. An [`Event`] and the time go in, [`Action`]s and journal records
//! come out. It knows no socket, no file and no clock, and it never waits.

mod block;
mod coded;
mod due;
mod leave;
mod losses;
mod notes;
mod passwd;
mod receipts;
mod restore;
mod send;
mod signin;
mod who;

use super::accounts::{Accounts, UserId};
use super::deadlines::Deadlines;
use super::event::{Action, Conn, Dialect, Event, Flow, Input};
use super::hints;
use super::keys::Keys;
use super::lockout::Lockout;
use super::password::Verifier;
use super::record::{Journal, LetterId, Record};
use super::session::{Credit, Session, Stage};
use crate::limits::{
    self, ALIVE_MS, BYTES_BEFORE_SIGNIN, CONNECTIONS, COUNTED_BYTES, ECHO_CHARS, LINE_BYTES,
    LINE_BYTES_BEFORE_SIGNIN, PASSWORD_BYTES, WORK_A_TURN,
};
use crate::proto::coded::Tag;
use crate::proto::command::{self, Command, CommandFault, Verb};
use crate::proto::foreign;
use crate::proto::line::Limits;
use crate::proto::name::{NameKey, UserName};
use crate::proto::reply::{Farewell, Refusal, Reply};
use crate::time::{Millis, Now};
use notes::Noted;
use receipts::{Receipts, Settle};
use signin::Checks;
use std::collections::{BTreeMap, BTreeSet};
use who::User;

/// Whether one may write to oneself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfSend {
    /// Yes.
    Allowed,
    /// No: `--no-self-send`.
    Refused,
}

/// What happens when a user who is online signs in once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicate {
    /// The first session stays if it is alive.
    Refuse,
    /// The newer one wins.
    Replace,
}

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Sign off after so many seconds without a command; zero is never.
    pub idle_timeout_s: u64,
    /// How long a lockout lasts, in seconds.
    pub block_time_s: u64,
    /// Failed sign-ins in a row that lead to it; zero is never.
    pub max_failures: u32,
    /// Messages to oneself.
    pub self_send: SelfSend,
    /// A second session of the same user.
    pub duplicate: Duplicate,
    /// Letters that may wait for a user.
    pub mailbox_letters: usize,
    /// Bytes of text that may wait for a user.
    pub mailbox_bytes: u64,
    /// Percent of both that the letters of one sender may take, 1 to 100.
    pub sender_share: u8,
    /// PBKDF2 rounds of the verifiers that the server makes of new passwords.
    pub password_rounds: u32,
}

/// What holds if an operator chooses nothing.
impl Default for Rules {
    fn default() -> Self {
        Self {
            idle_timeout_s: limits::IDLE_TIMEOUT_S,
            block_time_s: limits::BLOCK_TIME_S,
            max_failures: limits::MAX_FAILURES,
            self_send: SelfSend::Allowed,
            duplicate: Duplicate::Refuse,
            mailbox_letters: limits::MAILBOX_LETTERS,
            mailbox_bytes: limits::MAILBOX_BYTES,
            sender_share: limits::SENDER_SHARE,
            password_rounds: limits::ROUNDS_DEFAULT,
        }
    }
}

impl Rules {
    /// Letters of one sender that may wait for a user, and their bytes.
    fn share(&self) -> (usize, u64) {
        let part = |whole: u64| u128::from(whole) * u128::from(self.sender_share) / 100;
        let letters = usize::try_from(part(self.mailbox_letters as u64)).unwrap_or(usize::MAX);
        let bytes = u64::try_from(part(self.mailbox_bytes)).unwrap_or(u64::MAX);
        (letters, bytes)
    }
}

/// What the rules may touch while they handle one event.
pub struct Turn<'a> {
    /// The time, the same for the whole turn.
    pub now: Now,
    /// The journal.
    pub journal: &'a mut dyn Journal,
    /// What is to be done once the journal is durable.
    pub out: &'a mut Vec<Action>,
    /// All that was decided before then has been said; now, unless the disk keeps something back.
    pub said_until: Millis,
}

/// All users, sessions and mailboxes of one server.
pub struct Hub {
    rules: Rules,
    accounts: Accounts,
    /// By [`UserId`].
    users: Vec<User>,
    /// By [`Conn`].
    sessions: Vec<Option<Session>>,
    /// Who is online.
    online: BTreeSet<UserId>,
    /// Connections that are told who comes and goes.
    notified: BTreeSet<Conn>,
    /// Connections that wait for the look at a first session.
    probing: Vec<Conn>,
    checks: Checks,
    /// Changes of passwords that are being saved.
    saving: Vec<passwd::Saving>,
    lockout: Lockout,
    deadlines: Deadlines,
    keys: Keys,
    receipts: Receipts,
    /// The connection whose command is being answered, and the command's tag.
    answering: Option<(Conn, Tag)>,
    /// Nonces, salts and numbers of changes drawn in this run.
    nonces: u64,
    /// The spool's name.
    spool: u64,
    last_id: LetterId,
    alive_at: Option<Millis>,
    /// The letters of names that were removed, and the last number held for each. In order, so
    /// that the same history makes the same journal.
    held: BTreeMap<NameKey, restore::Held>,
    restoring: Option<Box<restore::Restoring>>,
    /// What the salts of unknown users are made from.
    secret: [u8; 32],
    /// Recipients of the letter under way, kept for its memory.
    recipients: String,
    /// And to whom of them it is shown at once, and where; kept as well.
    readers: Vec<Option<Conn>>,
    /// The command that was noted last in this turn.
    noted: Option<Noted>,
    /// What this turn has done so far, as [`crate::limits::WORK_A_TURN`] counts it.
    work: usize,
}

impl Hub {
    /// A hub with the users of the password file, before [`Hub::restore`] is told what the journal
    /// holds.
    #[must_use]
    pub fn new(rules: Rules, entries: Vec<(UserName, Verifier)>) -> Self {
        let accounts = Accounts::new(entries);
        let mut users = Vec::new();
        users.resize_with(accounts.len(), User::default);
        Self {
            lockout: Lockout::new(rules.max_failures, rules.block_time_s.saturating_mul(1000)),
            rules,
            accounts,
            users,
            // As long as it may get; only what is used takes memory. A table that grows would leave
            // holes behind that are as large as itself.
            sessions: Vec::with_capacity(CONNECTIONS),
            online: BTreeSet::new(),
            notified: BTreeSet::new(),
            probing: Vec::new(),
            checks: Checks::default(),
            saving: Vec::new(),
            deadlines: Deadlines::default(),
            keys: Keys::default(),
            receipts: Receipts::default(),
            answering: None,
            nonces: 0,
            spool: 0,
            last_id: LetterId::default(),
            alive_at: None,
            held: BTreeMap::new(),
            restoring: None,
            secret: [0; 32],
            recipients: String::new(),
            readers: Vec::new(),
            noted: None,
            work: 0,
        }
    }

    /// The spool's name, by which inboxes are keyed, and its secret: what the salts of unknown
    /// users and nonces are made from, known to nobody.
    pub fn set_spool(&mut self, name: u64, secret: [u8; 32]) {
        self.spool = name;
        self.secret = secret;
    }

    /// What a line to be handed over from `conn` may be.
    #[must_use]
    pub fn limits(&self, conn: Conn) -> Limits {
        let before = Limits { line: LINE_BYTES_BEFORE_SIGNIN, counted: None };
        let Some(session) = self.session(conn) else { return before };
        match (session.user(), session.dialect) {
            (None, _) => before,
            (Some(_), Dialect::Plain) => Limits { line: LINE_BYTES, counted: None },
            (Some(_), Dialect::Coded) => Limits { line: LINE_BYTES, counted: Some(COUNTED_BYTES) },
        }
    }

    /// Whether this turn has done so much that lines had better wait for the next one.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.work >= WORK_A_TURN
    }

    /// How much this turn has done, in the measure of [`WORK_A_TURN`].
    #[must_use]
    pub fn work(&self) -> usize {
        self.work
    }

    /// The turn is over.
    pub fn rest(&mut self) {
        self.work = 0;
        self.noted = None;
    }

    /// When [`Hub::tick`] is wanted next.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        if self.checks.is_busy() {
            return Some(Millis(0));
        }
        [self.deadlines.nearest(), self.alive_at].into_iter().flatten().min()
    }

    /// Handles what happened.
    pub fn handle(&mut self, event: Event<'_>, turn: &mut Turn<'_>) -> Flow {
        match event {
            Event::Line { conn, line, body } => return self.line(conn, line, body, turn),
            Event::Acknowledged { conn, through, input } => {
                self.acknowledged(conn, through, input, turn);
            }
            Event::Marked { conn, through } => self.marked(conn, through, turn),
            Event::Drained { conn } => self.drained(conn, turn),
            Event::Stirred { conn } => {
                if let Some(session) = self.session_mut(conn) {
                    session.stir(turn.now.mono);
                }
            }
            Event::LineTooLong { conn } => return self.line_too_long(conn, turn),
            Event::TextTooLong { conn, line, bytes } => {
                self.text_too_long(conn, line, bytes, turn);
            }
            Event::Miscounted { conn } => {
                let usage = "a text by count is followed by a line end; both were dropped";
                self.refuse(conn, Refusal::Malformed(usage), turn);
            }
            Event::Opened { conn, address, trust } => {
                let index = conn.0 as usize;
                if self.sessions.len() <= index {
                    self.sessions.resize_with(index + 1, || None);
                }
                debug_assert!(self.sessions[index].is_none(), "a connection's number was free");
                self.sessions[index] = Some(Session::new(address, trust, turn.now.mono));
                self.say(conn, Reply::Greeting, turn);
                self.arm(conn);
            }
            Event::Secured { conn, binding } => {
                if let Some(session) = self.session_mut(conn) {
                    session.binding = Some(Box::new(binding));
                }
            }
            Event::Foreign { conn, what } => self.close(conn, Farewell::Foreign(what), turn),
            Event::Ended { conn } => self.ended(conn, turn),
            Event::Closed { conn, end } => self.closed(conn, end, turn),
            Event::Reloaded { entries } => self.reload(entries, turn),
            Event::PasswordSaved { change, saved } => self.password_saved(change, saved, turn),
            Event::Stopping => {
                // All hear that the server stops, and not from each other as well.
                self.notified.clear();
                for conn in self.connections() {
                    self.close(conn, Farewell::ShuttingDown, turn);
                }
            }
        }
        Flow::Go
    }

    /// Does what has become due, and a slice of the password checks.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(conn) = self.deadlines.due(turn.now.mono) {
            if let Some(session) = self.session_mut(conn) {
                session.armed.fired();
            }
            self.due(conn, turn);
            self.arm(conn);
        }
        if self.alive_at.is_some_and(|at| at <= turn.now.mono) {
            turn.journal.append(&Record::Alive { unix_ms: turn.now.unix_ms });
            self.alive_at = Some(turn.now.mono.plus(ALIVE_MS));
        }
        self.check_slice(turn);
    }

    fn connections(&self) -> impl Iterator<Item = Conn> + use<> {
        let count = u32::try_from(self.sessions.len()).expect("connections are counted in u32");
        (0..count).map(Conn)
    }

    fn session(&self, conn: Conn) -> Option<&Session> {
        self.sessions.get(conn.0 as usize)?.as_ref()
    }

    fn session_mut(&mut self, conn: Conn) -> Option<&mut Session> {
        self.sessions.get_mut(conn.0 as usize)?.as_mut()
    }

    fn user(&self, user: UserId) -> &User {
        &self.users[user.0 as usize]
    }

    fn user_mut(&mut self, user: UserId) -> &mut User {
        &mut self.users[user.0 as usize]
    }

    fn say(&mut self, conn: Conn, reply: Reply, turn: &mut Turn<'_>) {
        match reply.is_event() {
            true => self.tell(conn, reply, turn),
            false => self.utter(conn, reply, turn),
        }
    }

    /// Says something as it is.
    fn utter(&mut self, conn: Conn, reply: Reply, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        session.said = session.said.wrapping_add(1);
        let tag = match self.answering {
            Some((asking, tag)) if asking == conn && !reply.is_event() => Some(tag),
            _ => None,
        };
        turn.out.push(Action::Say { conn, tag, reply });
    }

    fn refuse(&mut self, conn: Conn, refusal: Refusal, turn: &mut Turn<'_>) {
        if let Some(what) = refusal.limit() {
            self.note_limit(conn, what, turn);
        }
        self.say(conn, Reply::Refused(refusal), turn);
    }

    // ---- lines -----------------------------------------------------------------------------

    fn line(&mut self, conn: Conn, line: &[u8], body: Option<&[u8]>, turn: &mut Turn<'_>) -> Flow {
        let Some(session) = self.session_mut(conn) else { return Flow::Go };
        match session.stage {
            Stage::Open | Stage::Proving(_) | Stage::Online(_)
                if session.dialect == Dialect::Coded =>
            {
                self.call(conn, line, body, turn)
            }
            Stage::Online(user) => {
                // A line is a sign of life from behind what was acknowledged before it.
                self.settle(user, Settle::Proved, turn);
                if self.session(conn).is_some_and(|session| session.prompt().is_some()) {
                    self.passwd_line(conn, user, line, turn);
                } else {
                    self.command_online(conn, user, line, turn);
                }
                self.flow(conn)
            }
            Stage::Open => {
                let first = session.bytes_before == 0;
                if let Some(what) = foreign::by_line(line).filter(|_| first) {
                    self.close(conn, Farewell::Foreign(what), turn);
                    return Flow::Go;
                }
                if !self.may_go_on(conn, line, turn) {
                    return Flow::Go;
                }
                if first && line.trim_ascii().eq_ignore_ascii_case(b"coded 1") {
                    self.switch(conn, turn);
                    return Flow::Go;
                }
                self.command_before(conn, line, turn)
            }
            Stage::Password(_) => {
                session.bytes_before += line.len() + 2;
                self.password_line(conn, line, turn)
            }
            Stage::Checking | Stage::Probing(_) | Stage::Proving(_) => {
                debug_assert!(false, "the connection's lines are held");
                Flow::Hold
            }
            Stage::Leaving(_) => Flow::Go,
        }
    }

    /// Counts a line before sign-in; false if it was one too many.
    fn may_go_on(&mut self, conn: Conn, line: &[u8], turn: &mut Turn<'_>) -> bool {
        let Some(session) = self.session_mut(conn) else { return false };
        session.bytes_before += line.len() + 2;
        let goes = session.bytes_before <= BYTES_BEFORE_SIGNIN;
        if !goes {
            self.close(conn, Farewell::TooMuchBeforeSignIn, turn);
        }
        goes
    }

    fn line_too_long(&mut self, conn: Conn, turn: &mut Turn<'_>) -> Flow {
        let limit = self.limits(conn).line;
        let now = turn.now.mono;
        let Some(session) = self.session_mut(conn) else { return Flow::Go };
        match session.stage {
            Stage::Leaving(_) => return Flow::Go,
            Stage::Online(_) if session.prompt().is_some() => {
                session.heard = now;
                session.changing = None;
                self.say(conn, Reply::PasswordRead, turn);
                self.refuse(conn, Refusal::PasswordTooLong(PASSWORD_BYTES), turn);
                return Flow::Go;
            }
            Stage::Password(_) => {
                session.stage = Stage::Open;
                self.say(conn, Reply::PasswordRead, turn);
                self.refuse(conn, Refusal::PasswordTooLong(PASSWORD_BYTES), turn);
                return Flow::Go;
            }
            Stage::Open | Stage::Proving(_) => session.bytes_before += limit,
            _ => session.heard = now,
        }
        if session.user().is_none() && session.bytes_before > BYTES_BEFORE_SIGNIN {
            self.close(conn, Farewell::TooMuchBeforeSignIn, turn);
            return Flow::Go;
        }
        self.refuse(conn, Refusal::LineTooLong(limit), turn);
        Flow::Go
    }

    fn command_before(&mut self, conn: Conn, line: &[u8], turn: &mut Turn<'_>) -> Flow {
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(CommandFault::Usage(verb, _)) if needs_user(verb) => {
                self.note_command(None, Some(verb), turn);
                self.refuse(conn, Refusal::MustSignIn, turn);
                return Flow::Go;
            }
            Err(fault) => {
                self.misunderstood(conn, None, fault, turn);
                return Flow::Go;
            }
        };
        self.note_command(None, Some(command.verb()), turn);
        match command {
            Command::SignIn { user, password } => return self.signin(conn, user, password, turn),
            Command::Help(verb) => self.say(conn, Reply::Help(verb), turn),
            Command::SignOut => self.close(conn, Farewell::SignedOut, turn),
            _ => self.refuse(conn, Refusal::MustSignIn, turn),
        }
        Flow::Go
    }

    fn command_online(&mut self, conn: Conn, user: UserId, line: &[u8], turn: &mut Turn<'_>) {
        let command = command::parse(line);
        if matches!(command, Err(CommandFault::Blank)) {
            return;
        }
        let away = self.heard(conn, turn.now.mono);
        let stays = matches!(command, Ok(Command::Away(text)) if !who::is_too_long(text));
        if away && !stays {
            self.say(conn, Reply::NoLongerAway, turn);
        }
        let command = match command {
            Ok(command) => command,
            Err(fault) => return self.misunderstood(conn, Some(user), fault, turn),
        };
        self.obey(conn, user, command, turn);
    }

    /// Does what somebody who is signed in asks for.
    fn obey(&mut self, conn: Conn, user: UserId, command: Command<'_>, turn: &mut Turn<'_>) {
        self.note_command(Some(user), Some(command.verb()), turn);
        match command {
            Command::Send { to, text } => self.send(conn, user, to, text, None, turn),
            Command::Broadcast { text, list } => self.broadcast(conn, user, text, list, None, turn),
            Command::WhoIsOn => self.who_is_on(conn, user, turn),
            Command::WhoElse => self.who_else(conn, user, turn),
            Command::WhoLast { window_ms } => self.who_last(conn, user, window_ms, turn),
            Command::Away(text) => self.away(conn, text, turn),
            Command::Notify(switch) => self.notify(conn, switch, turn),
            Command::Block { user: other, switch } => self.block(conn, user, other, switch, turn),
            Command::Passwd(given) => self.passwd(conn, user, given, turn),
            Command::Help(verb) => self.say(conn, Reply::Help(verb), turn),
            Command::SignOut => self.close(conn, Farewell::SignedOut, turn),
            Command::SignIn { .. } => {
                let user = self.accounts.name(user).clone();
                self.refuse(conn, Refusal::SignedInAlready(user), turn);
            }
        }
    }

    /// Notes a command line; tells whether it ended an `away`.
    fn heard(&mut self, conn: Conn, now: Millis) -> bool {
        let Some(session) = self.session_mut(conn) else { return false };
        session.heard = now;
        let was_away = session.away.take().is_some();
        if was_away {
            // No deadline was armed while away.
            self.arm(conn);
        }
        was_away
    }

    fn misunderstood(
        &mut self,
        conn: Conn,
        user: Option<UserId>,
        fault: CommandFault<'_>,
        turn: &mut Turn<'_>,
    ) {
        let verb = if let CommandFault::Usage(verb, _) = fault { Some(verb) } else { None };
        let refusal = match fault {
            CommandFault::Blank => return,
            CommandFault::Text(fault) => Refusal::Text(fault),
            CommandFault::Usage(verb, problem) => Refusal::Usage(verb, problem),
            CommandFault::Switch => Refusal::Switch,
            CommandFault::Malformed(usage) => Refusal::Malformed(usage),
            CommandFault::BadTag => Refusal::BadTag,
            CommandFault::Unknown(word) | CommandFault::NoSuchTopic(word) => {
                Refusal::Unknown { word: echoed(word), hint: hints::command(word) }
            }
        };
        self.note_command(user, verb, turn);
        self.refuse(conn, refusal, turn);
    }

    // ---- what the connection tells ------------------------------------------------------------

    fn acknowledged(&mut self, conn: Conn, through: u32, input: Input, turn: &mut Turn<'_>) {
        if let Some(user) = self.session(conn).and_then(Session::plain_reader) {
            if self.user_mut(user).mailbox.acknowledge(through) {
                self.settle(user, Settle::Window, turn);
            }
            if input == Input::Taken {
                self.user_mut(user).mailbox.input_taken();
            }
        }
        self.first_session_lives(conn, through, turn);
    }

    /// More than an acknowledgement: not the peer's kernel has it, but the program that reads.
    fn marked(&mut self, conn: Conn, through: u32, turn: &mut Turn<'_>) {
        if let Some(user) = self.session(conn).and_then(Session::plain_reader) {
            self.settle(user, Settle::Marked(through), turn);
        }
        self.first_session_lives(conn, through, turn);
    }

    fn drained(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        if let Some(user) = session.plain_reader() {
            session.credit = Credit::FULL;
            self.show_waiting(conn, user, turn);
        }
    }
}

/// A word as it is repeated in an answer: not longer than a screen can bear.
fn echoed(word: &str) -> Box<str> {
    match word.char_indices().nth(ECHO_CHARS) {
        Some((cut, _)) => format!("{}...", &word[..cut]).into(),
        None => word.into(),
    }
}

fn needs_user(verb: Verb) -> bool {
    !matches!(verb, Verb::Help | Verb::SignIn | Verb::SignOut)
}
