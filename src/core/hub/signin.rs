//! Signing in: the password, the lockout, the look at a first session, the welcome.

use super::{Duplicate, Hub, Turn, echoed};
use crate::core::accounts::UserId;
use crate::core::event::{Action, Conn, Flow, Note, Trust};
use crate::core::password::{Check, Derivation, Password, Verifier};
use crate::core::record::Record;
use crate::core::session::{Asked, Claimed, Credit, Probe, Session, Stage};
use crate::limits::{
    ALIVE_MS, CHECKS_UNDER_WAY, CHECKS_WAITING, PASSWORD_BYTES, PROBE_AT_MS, PROBE_DEAD_MS,
    PROBE_PAUSE_MS, ROUNDS_A_SLICE, TRIES_A_CONNECTION,
};
use crate::proto::coded::Kind;
use crate::proto::command::Switch;
use crate::proto::name::{NameKey, UserName};
use crate::proto::reply::{Farewell, Prompt, Refusal, Reply};
use crate::time::Millis;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Stands for the address of a connection that is no more.
const NOWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// The password checks under way and those that wait. A connection has one at most.
#[derive(Default)]
pub(super) struct Checks {
    active: VecDeque<(Attempt, Work)>,
    waiting: VecDeque<(Attempt, Password)>,
}

/// Somebody's claim to be a user.
pub(super) struct Attempt {
    pub(super) conn: Conn,
    /// As typed.
    name: Box<str>,
    pub(super) key: NameKey,
    pub(super) address: IpAddr,
    submitted: Millis,
    pub(super) aim: Aim,
}

/// What a right password leads to.
pub(super) enum Aim {
    /// A session.
    SignIn,
    /// This password instead.
    Passwd(Password),
}

/// What is done a slice a turn.
pub(super) enum Work {
    /// The password is compared with the verifier of whom it is claimed to be.
    Check(Claimed, Check),
    /// It was right, and a new verifier is made to replace this one.
    Derive(Verifier, Derivation),
}

impl Attempt {
    fn is_of(&self, other: &Self) -> bool {
        self.key == other.key && self.address == other.address
    }
}

impl Checks {
    pub(super) fn is_busy(&self) -> bool {
        !(self.active.is_empty() && self.waiting.is_empty())
    }

    pub(super) fn forget(&mut self, conn: Conn) {
        self.active.retain(|(attempt, _)| attempt.conn != conn);
        self.waiting.retain(|(attempt, _)| attempt.conn != conn);
    }

    /// The next attempt that may begin: those of one (name, address) are evaluated one after
    /// another, so that many at once get no more tries than one at a time.
    fn next(&mut self) -> Option<(Attempt, Password)> {
        if self.active.len() >= CHECKS_UNDER_WAY {
            return None;
        }
        let free = self
            .waiting
            .iter()
            .position(|(next, _)| !self.active.iter().any(|(active, _)| active.is_of(next)))?;
        self.waiting.remove(free)
    }

    /// Who is about to change a password, once for each of them.
    pub(super) fn changing(&self) -> impl Iterator<Item = NameKey> {
        let active = self.active.iter().map(|(attempt, _)| attempt);
        let all = active.chain(self.waiting.iter().map(|(attempt, _)| attempt));
        all.filter(|attempt| matches!(attempt.aim, Aim::Passwd(_))).map(|attempt| attempt.key)
    }

    /// Goes on with an attempt, when the others have had their turn.
    pub(super) fn resume(&mut self, attempt: Attempt, work: Work) {
        self.active.push_back((attempt, work));
    }
}

impl Probe {
    pub(super) fn next_look(&self) -> Option<Millis> {
        PROBE_AT_MS.get(self.looks).map(|&ms| self.since.plus(ms))
    }

    /// Whether nothing can be concluded from silence: the disk takes so long that the notice was
    /// not said, or that nobody has looked for an answer when it is time to give up.
    fn is_unheard(&self, now: Millis, said_until: Millis) -> bool {
        let gives_up = self.since.plus(PROBE_DEAD_MS) <= now;
        said_until <= self.asked || (gives_up && now.since(said_until) >= PROBE_DEAD_MS / 2)
    }
}

impl Hub {
    /// `signin <user> [password]`
    pub(super) fn signin(
        &mut self,
        conn: Conn,
        name: &str,
        password: Option<&str>,
        turn: &mut Turn<'_>,
    ) -> Flow {
        let key = match NameKey::of(name) {
            Ok(key) => key,
            Err(fault) => {
                self.refuse(conn, Refusal::BadName(echoed(name), fault), turn);
                return Flow::Go;
            }
        };
        match password {
            Some(password) => self.attempt(conn, name.into(), key, password.as_bytes(), turn),
            None if self.is_blocked(conn, name, key, turn) => Flow::Go,
            None => {
                if let Some(session) = self.session_mut(conn) {
                    session.stage = Stage::Password(Box::new(Asked { name: name.into(), key }));
                }
                self.say(conn, Reply::PasswordPrompt(Prompt::SignIn), turn);
                Flow::Go
            }
        }
    }

    /// The line that answers the prompt.
    pub(super) fn password_line(&mut self, conn: Conn, line: &[u8], turn: &mut Turn<'_>) -> Flow {
        let Some(session) = self.session_mut(conn) else { return Flow::Go };
        let Stage::Password(asked) = std::mem::replace(&mut session.stage, Stage::Open) else {
            return Flow::Go;
        };
        let Asked { name, key } = *asked;
        self.say(conn, Reply::PasswordRead, turn);
        self.attempt(conn, name, key, line, turn)
    }

    pub(super) fn is_blocked(
        &mut self,
        conn: Conn,
        name: &str,
        key: NameKey,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(address) = self.session(conn).map(|session| session.address) else { return false };
        let Some(left_s) = self.lockout.blocked(key, address, turn.now.mono) else { return false };
        match self.session(conn).and_then(Session::user) {
            Some(user) => self.note_kept(user, address, "blocked", turn),
            None => {
                let user = self.known(key);
                self.note(Note::SignInBlocked { user, address }, turn);
            }
        }
        self.refuse(conn, Refusal::Blocked { name: name.into(), left_s }, turn);
        true
    }

    /// The user by that name, for the log, which repeats no name that nobody has: it may be a
    /// mistyped password.
    fn known(&self, key: NameKey) -> Option<UserName> {
        self.accounts.find(key.as_str()).map(|user| self.accounts.name(user).clone())
    }

    fn note_refusal(
        &mut self,
        key: NameKey,
        address: IpAddr,
        why: &'static str,
        turn: &mut Turn<'_>,
    ) {
        let user = self.known(key);
        self.note(Note::SignInRefused { user, address, why }, turn);
    }

    pub(super) fn attempt(
        &mut self,
        conn: Conn,
        name: Box<str>,
        key: NameKey,
        password: &[u8],
        turn: &mut Turn<'_>,
    ) -> Flow {
        if self.is_blocked(conn, &name, key, turn) {
            return Flow::Go;
        }
        if self.submit(conn, name, key, password, Aim::SignIn, turn)
            && let Some(session) = self.session_mut(conn)
        {
            session.stage = Stage::Checking;
            return Flow::Hold;
        }
        Flow::Go
    }

    /// Puts a password into the queue of those to be checked; false if it was refused.
    pub(super) fn submit(
        &mut self,
        conn: Conn,
        name: Box<str>,
        key: NameKey,
        password: &[u8],
        aim: Aim,
        turn: &mut Turn<'_>,
    ) -> bool {
        if password.len() > PASSWORD_BYTES {
            self.refuse(conn, Refusal::PasswordTooLong(PASSWORD_BYTES), turn);
            return false;
        }
        let waiting = self.checks.waiting.len();
        let Some(session) = self.session(conn) else { return false };
        let address = session.address;
        if waiting >= CHECKS_WAITING && session.trust == Trust::Stranger {
            self.note_refusal(key, address, "too many sign-ins at once", turn);
            self.refuse(conn, Refusal::SignInsBusy, turn);
            return false;
        }
        let submitted = turn.now.mono;
        let attempt = Attempt { conn, name, key, address, submitted, aim };
        self.checks.waiting.push_back((attempt, Password::new(password)));
        true
    }

    /// Spends this turn's share of work on the checks, round robin.
    pub(super) fn check_slice(&mut self, turn: &mut Turn<'_>) {
        while let Some((attempt, password)) = self.checks.next() {
            // Attempts before it in the queue may have led to a block meanwhile.
            self.answer_signin(attempt.conn);
            let blocked = self.is_blocked(attempt.conn, &attempt.name, attempt.key, turn);
            self.answering = None;
            if blocked {
                self.reopen(&attempt, turn);
                continue;
            }
            let claimed = self.claimed(attempt.key);
            let check = Check::new(password.bytes(), &claimed.verifier);
            self.checks.resume(attempt, Work::Check(claimed, check));
        }
        let Some((attempt, work)) = self.checks.active.pop_front() else { return };
        self.answer_signin(attempt.conn);
        match work {
            Work::Check(claimed, mut check) => match check.step(ROUNDS_A_SLICE) {
                None => self.checks.resume(attempt, Work::Check(claimed, check)),
                Some(matches) => self.checked(attempt, claimed, matches, turn),
            },
            Work::Derive(old, mut derivation) => match derivation.step(ROUNDS_A_SLICE) {
                None => self.checks.resume(attempt, Work::Derive(old, derivation)),
                Some(new) => self.save(attempt.conn, old, new, None, turn),
            },
        }
        self.answering = None;
    }

    /// The attempt led to nothing: the connection goes on where it was.
    fn reopen(&mut self, attempt: &Attempt, turn: &mut Turn<'_>) {
        match attempt.aim {
            Aim::SignIn => self.reopen_since(attempt.conn, attempt.submitted, turn),
            Aim::Passwd(_) => self.end_change(attempt.conn, turn),
        }
    }

    /// The connection's lines are read again, and the time it waited for us is not counted.
    fn reopen_since(&mut self, conn: Conn, submitted: Millis, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        session.stage = Stage::Open;
        session.since = session.since.plus(turn.now.mono.since(submitted));
        self.arm(conn);
        turn.out.push(Action::Resume { conn });
    }

    fn checked(&mut self, attempt: Attempt, claimed: Claimed, matches: bool, turn: &mut Turn<'_>) {
        let (conn, key, address) = (attempt.conn, attempt.key, attempt.address);
        // Proofs by SCRAM take no time, and may have led to a block while the check went on.
        if self.is_blocked(conn, &attempt.name, key, turn) {
            return self.reopen(&attempt, turn);
        }
        let Some(user) = self.still_claimed(&claimed).filter(|_| matches) else {
            self.reopen(&attempt, turn);
            let refusal = match attempt.aim {
                Aim::SignIn => Refusal::NotAuthorized(attempt.name),
                Aim::Passwd(_) => Refusal::WrongPassword,
            };
            return self.failed(conn, refusal, key, claimed.user, turn);
        };
        self.lockout.succeeded(key, address);
        if let Aim::Passwd(new) = &attempt.aim {
            let derivation = self.derivation(new);
            return self.checks.resume(attempt, Work::Derive(claimed.verifier, derivation));
        }
        self.admit_unless_online(conn, user, turn);
    }

    /// The user, if the password file still has him, with the same password.
    pub(super) fn still_claimed(&self, claimed: &Claimed) -> Option<UserId> {
        claimed.user.filter(|&user| {
            self.accounts.is_current(user) && *self.accounts.verifier(user) == claimed.verifier
        })
    }

    /// The proof was wrong, or there is no such user.
    pub(super) fn failed(
        &mut self,
        conn: Conn,
        refusal: Refusal,
        key: NameKey,
        claimed: Option<UserId>,
        turn: &mut Turn<'_>,
    ) {
        let address = self.address(conn);
        // Who was removed meanwhile is nobody any more: that his password failed tells nothing of
        // the next holder of the name, and is not counted against him.
        let was_removed = claimed.is_some_and(|user| !self.accounts.is_current(user));
        let block_s = match was_removed {
            true => None,
            false => self.lockout.failed(key, address, turn.now.mono),
        };
        match (&refusal, self.session(conn).and_then(Session::user)) {
            (Refusal::WrongPassword, Some(user)) => {
                self.note_kept(user, address, "wrong password", turn)
            }
            _ => {
                let user = self.known(key);
                self.note(Note::SignInFailed { user, address }, turn);
            }
        }
        if let Some(block_s) = block_s {
            let user = self.known(key);
            self.note(Note::BlockBegun { user, address, block_s }, turn);
        }
        let Some(session) = self.session_mut(conn) else { return };
        session.tries += 1;
        if block_s.is_some() || session.tries >= TRIES_A_CONNECTION {
            self.close(conn, Farewell::TooManyFailures { block_s }, turn);
        } else {
            self.refuse(conn, refusal, turn);
        }
    }

    /// What is said next to the connection answers its sign-in.
    pub(super) fn answer_signin(&mut self, conn: Conn) {
        self.answering = self.session(conn).and_then(|s| s.tag).map(|tag| (conn, tag));
    }

    /// The password was right.
    pub(super) fn admit_unless_online(&mut self, conn: Conn, user: UserId, turn: &mut Turn<'_>) {
        if self.session(conn).is_some_and(|session| session.kind == Kind::Tool) {
            return self.admit_tool(conn, user, turn);
        }
        let Some(first) = self.user(user).online else {
            return self.admit(conn, user, turn);
        };
        let Some(address) = self.session(conn).map(|session| session.address) else { return };
        if self.rules.duplicate == Duplicate::Replace {
            self.close(first, Farewell::Replaced { address }, turn);
            return self.admit(conn, user, turn);
        }
        let name = self.accounts.name(user).clone();
        self.say(first, Reply::SecondSignIn { user: name, address }, turn);
        let said = self.session(first).map_or(0, |session| session.said);
        let (asked, since) = (turn.now.mono, turn.now.mono);
        let Some(session) = self.session_mut(conn) else { return };
        let probe = Probe { user, first, said, asked, since, looks: 0 };
        session.stage = Stage::Probing(Box::new(probe));
        self.probing.push(conn);
        self.arm(conn);
    }

    /// It is time to look at the first session again, or to give it up.
    pub(super) fn look_again(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let Some(session) = self.session_mut(conn) else { return };
        let Stage::Probing(probe) = &mut session.stage else { return };
        let (user, first) = (probe.user, probe.first);
        if probe.is_unheard(now, turn.said_until) {
            probe.since = Millis(now.since(Millis(PROBE_AT_MS[probe.looks]))).plus(PROBE_PAUSE_MS);
            return;
        }
        while probe.next_look().is_some_and(|when| when <= now) {
            probe.looks += 1;
        }
        match probe.looks {
            looks if looks == PROBE_AT_MS.len() => {
                // Who waits for it is admitted by its end.
                self.close(first, Farewell::Unresponsive, turn);
            }
            looks => {
                turn.out.push(Action::Look { conn: first });
                if PROBE_AT_MS[looks - 1] == 1000 {
                    let name = self.accounts.name(user).clone();
                    self.answer_signin(conn);
                    self.say(conn, Reply::Probing(name), turn);
                    self.answering = None;
                }
            }
        }
    }

    /// The first session's machine has acknowledged the notice: it lives.
    pub(super) fn first_session_lives(&mut self, first: Conn, through: u32, turn: &mut Turn<'_>) {
        let mut at = 0;
        while let Some(&conn) = self.probing.get(at) {
            let answered = match self.session(conn).map(|session| &session.stage) {
                Some(Stage::Probing(probe)) if probe.first == first => {
                    (through.wrapping_sub(probe.said) <= u32::MAX / 2).then_some(probe.asked)
                }
                _ => None,
            };
            let Some(since) = answered else {
                at += 1;
                continue;
            };
            self.probing.remove(at);
            let Some(user) = self.session(first).and_then(|session| session.user()) else { return };
            let name = self.accounts.name(user).clone();
            self.note_refusal(name.key(), self.address(conn), "already signed in", turn);
            self.answer_signin(conn);
            self.refuse(conn, Refusal::AlreadyOnline(name), turn);
            self.answering = None;
            self.reopen_since(conn, since, turn);
        }
    }

    pub(super) fn address(&self, conn: Conn) -> IpAddr {
        self.session(conn).map_or(NOWHERE, |session| session.address)
    }

    /// The first session is over: who waited for that is admitted, the first of them.
    pub(super) fn first_session_gone(&mut self, first: Conn, turn: &mut Turn<'_>) {
        let waits = |hub: &Self, conn: Conn| match hub.session(conn).map(|s| &s.stage) {
            Some(Stage::Probing(probe)) if probe.first == first => Some(probe.user),
            _ => None,
        };
        while let Some(at) = self.probing.iter().position(|&conn| waits(self, conn).is_some()) {
            let conn = self.probing.remove(at);
            if let Some(user) = waits(self, conn) {
                self.answer_signin(conn);
                self.admit_unless_online(conn, user, turn);
            }
            self.answering = None;
        }
    }

    /// The session of a tool begins: it is not present and gets no letters.
    fn admit_tool(&mut self, conn: Conn, user: UserId, turn: &mut Turn<'_>) {
        let name = self.accounts.name(user).clone();
        let now = turn.now.mono;
        let spool = self.spool;
        let Some(session) = self.session_mut(conn) else { return };
        session.stage = Stage::Online(user);
        session.heard = now;
        let (address, proof) = (session.address, session.proof.take());
        self.note(Note::SignedIn { user: name.clone(), address }, turn);
        self.say(conn, Reply::Welcome { user: name, waiting: 0, spool, proof }, turn);
        turn.out.push(Action::Resume { conn });
        self.arm(conn);
    }

    /// Who gave which user's password and waits for the look at his first session.
    pub(super) fn probing_users(&self) -> Vec<(Conn, UserId)> {
        let user_of = |&conn: &Conn| match self.session(conn).map(|session| &session.stage) {
            Some(Stage::Probing(probe)) => Some((conn, probe.user)),
            _ => None,
        };
        self.probing.iter().filter_map(user_of).collect()
    }

    /// The session begins.
    fn admit(&mut self, conn: Conn, user: UserId, turn: &mut Turn<'_>) {
        let name = self.accounts.name(user).clone();
        let waiting = self.user(user).mailbox.len();
        let now = turn.now;
        let Some(session) = self.session_mut(conn) else { return };
        session.stage = Stage::Online(user);
        session.heard = now.mono;
        session.credit = Credit::FULL;
        session.announced = u32::try_from(waiting).unwrap_or(u32::MAX);
        let (address, proof) = (session.address, session.proof.take());
        let spool = self.spool;
        self.user_mut(user).online = Some(conn);
        self.online.insert(user);
        self.alive_at.get_or_insert_with(|| now.mono.plus(ALIVE_MS));
        turn.journal.append(&Record::SignedIn { user: name.as_str(), unix_ms: now.unix_ms });
        self.note(Note::SignedIn { user: name.clone(), address }, turn);
        self.say(conn, Reply::Welcome { user: name, waiting, spool, proof }, turn);
        self.tell_presence(user, Switch::On, turn);
        self.show_waiting(conn, user, turn);
        turn.out.push(Action::Resume { conn });
        self.arm(conn);
    }
}
