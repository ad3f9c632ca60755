//! A user changes his own password: asked for, checked and stretched as at a sign-in, saved by the
//! world, and told as done only when the password file has it.
//!
//! ```text
//! prompts or words --> check (slices) --> stretch (slices) --> save --> saved
//! a proof by SCRAM ---------------------------------------------^
//! ```
//!
//! A session that ends before the save was asked for takes its change along. Later the change goes
//! on without it.

use super::signin::Aim;
use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::{Action, ChangeId, Conn, Flow, Note, SavePassword, Saved};
use crate::core::password::{Derivation, Password, Verifier, VerifierFault, acceptable_bytes};
use crate::core::session::{Changing, Session};
use crate::crypto;
use crate::limits::{PASSWORD_BYTES, PASSWORD_CHANGES, ROUNDS_LEAST, ROUNDS_OWN_MOST};
use crate::proto::coded::NewPassword;
use crate::proto::name::UserName;
use crate::proto::reply::{Farewell, Prompt, Refusal, Reply};
use std::net::IpAddr;

/// A change that the world is asked to save.
pub(super) struct Saving {
    change: ChangeId,
    /// Whose session answers for it; none if it has ended.
    conn: Option<Conn>,
    user: UserName,
    address: IpAddr,
    old: Verifier,
    new: Verifier,
    proof: Option<Box<str>>,
}

impl Hub {
    /// `passwd [<current> <new>]`
    pub(super) fn passwd(
        &mut self,
        conn: Conn,
        user: UserId,
        given: Option<(&str, &str)>,
        turn: &mut Turn<'_>,
    ) {
        match given {
            _ if !self.may_change(conn, user, turn) => {}
            Some((current, new)) => {
                self.change(conn, user, current.as_bytes(), new.as_bytes(), turn);
            }
            None => self.ask_for(conn, Changing::Current, turn),
        }
    }

    /// `passwd plain <current> <new>`, `passwd scram <client-first-message> <verifier>`
    pub(super) fn coded_passwd(
        &mut self,
        conn: Conn,
        user: UserId,
        how: NewPassword<'_>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(session) = self.session_mut(conn) {
            session.changing = None;
        }
        match how {
            _ if !self.may_change(conn, user, turn) => {}
            NewPassword::Plain { current, new } => {
                self.change(conn, user, current.as_bytes(), new.as_bytes(), turn);
            }
            NewPassword::Scram { first, verifier } => {
                self.challenge_for_passwd(conn, user, first, verifier, turn);
            }
        }
    }

    /// Whether the user may try now; he was told if not.
    fn may_change(&mut self, conn: Conn, user: UserId, turn: &mut Turn<'_>) -> bool {
        let name = self.accounts.name(user).clone();
        if self.is_blocked(conn, name.as_str(), name.key(), turn) {
            return false;
        }
        let (mut under_way, mut own) = (0, false);
        let saving = self.saving.iter().map(|saving| saving.user.key());
        for key in self.checks.changing().chain(saving) {
            under_way += 1;
            own |= key == name.key();
        }
        if own || under_way >= PASSWORD_CHANGES {
            self.note_kept(user, self.address(conn), "another change is under way", turn);
            self.refuse(conn, Refusal::PasswordsBusy, turn);
            return false;
        }
        true
    }

    pub(super) fn note_kept(
        &mut self,
        user: UserId,
        address: IpAddr,
        why: &'static str,
        turn: &mut Turn<'_>,
    ) {
        let user = self.accounts.name(user).clone();
        self.note(Note::PasswordKept { user, address, why }, turn);
    }

    fn ask_for(&mut self, conn: Conn, next: Changing, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        session.changing = Some(Box::new(next));
        if let Some(prompt) = session.prompt() {
            self.utter(conn, Reply::PasswordPrompt(prompt), turn);
        }
    }

    /// Says something that came unasked. Apart, so that an answer does not pay for it.
    #[inline(never)]
    pub(super) fn tell(&mut self, conn: Conn, reply: Reply, turn: &mut Turn<'_>) {
        let prompt = self.session(conn).and_then(Session::prompt);
        self.around_prompt(conn, prompt, turn, |hub, turn| hub.utter(conn, reply, turn));
    }

    /// Says something that came unasked; an open prompt gives way to it and is said again.
    pub(super) fn around_prompt<T>(
        &mut self,
        conn: Conn,
        prompt: Option<Prompt>,
        turn: &mut Turn<'_>,
        say: impl FnOnce(&mut Self, &mut Turn<'_>) -> T,
    ) -> T {
        if prompt.is_some() {
            self.utter(conn, Reply::PromptInterrupted, turn);
        }
        let told = say(self, turn);
        if let Some(prompt) = prompt {
            self.utter(conn, Reply::PasswordPrompt(prompt), turn);
        }
        told
    }

    /// The line that answers a prompt.
    pub(super) fn passwd_line(
        &mut self,
        conn: Conn,
        user: UserId,
        line: &[u8],
        turn: &mut Turn<'_>,
    ) {
        self.heard(conn, turn.now.mono);
        let Some(changing) = self.session_mut(conn).and_then(|s| s.changing.take()) else { return };
        self.say(conn, Reply::PasswordRead, turn);
        match *changing {
            Changing::Current if line.is_empty() => self.say(conn, Reply::PasswordKept, turn),
            Changing::Current if line.len() > PASSWORD_BYTES => {
                self.refuse(conn, Refusal::PasswordTooLong(PASSWORD_BYTES), turn);
            }
            Changing::Current => {
                self.ask_for(conn, Changing::New { current: Password::new(line) }, turn);
            }
            Changing::New { current } => match acceptable_bytes(line) {
                Ok(()) => {
                    let new = Password::new(line);
                    self.ask_for(conn, Changing::Again { current, new }, turn);
                }
                Err(fault) => self.refuse(conn, Refusal::BadPassword(fault), turn),
            },
            Changing::Again { new, .. } if new.bytes() != line => {
                self.refuse(conn, Refusal::PasswordsDiffer, turn);
            }
            Changing::Again { current, new } => {
                // What was free when the prompts began may not be any more.
                if self.may_change(conn, user, turn) {
                    self.change(conn, user, current.bytes(), new.bytes(), turn);
                }
            }
            Changing::Proving { .. } | Changing::UnderWay => {}
        }
    }

    /// Both passwords are there: the present one is to be checked.
    fn change(
        &mut self,
        conn: Conn,
        user: UserId,
        current: &[u8],
        new: &[u8],
        turn: &mut Turn<'_>,
    ) {
        if let Err(fault) = acceptable_bytes(new) {
            return self.refuse(conn, Refusal::BadPassword(fault), turn);
        }
        let name = self.accounts.name(user).clone();
        let aim = Aim::Passwd(Password::new(new));
        if self.submit(conn, name.as_str().into(), name.key(), current, aim, turn) {
            self.change_under_way(conn);
        }
    }

    fn change_under_way(&mut self, conn: Conn) {
        if let Some(session) = self.session_mut(conn) {
            session.changing = Some(Box::new(Changing::UnderWay));
        }
    }

    /// Whether the next lines of a connection wait.
    pub(super) fn flow(&self, conn: Conn) -> Flow {
        if self.session(conn).is_some_and(Session::waits) { Flow::Hold } else { Flow::Go }
    }

    /// Begins to make the verifier of a new password.
    pub(super) fn derivation(&mut self, new: &Password) -> Derivation {
        let count = self.draw();
        let salt = crypto::salt(&self.secret, self.last_id.epoch, count);
        Derivation::new(new.bytes(), &salt, self.rules.password_rounds)
    }

    fn challenge_for_passwd(
        &mut self,
        conn: Conn,
        user: UserId,
        first: &str,
        verifier: &str,
        turn: &mut Turn<'_>,
    ) {
        let rounds = Refusal::Rounds { least: ROUNDS_LEAST, most: ROUNDS_OWN_MOST };
        let new = match Verifier::parse(verifier) {
            Ok(new) if new.iterations() <= ROUNDS_OWN_MOST => new,
            Ok(_) | Err(VerifierFault::Rounds) => return self.refuse(conn, rounds, turn),
            Err(_) => {
                let usage = "a verifier is SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>";
                return self.refuse(conn, Refusal::Malformed(usage), turn);
            }
        };
        let (key, old) = (self.accounts.name(user).key(), self.accounts.verifier(user).clone());
        let Some((exchange, challenge)) = self.exchange(conn, key, first, &old, turn) else {
            return;
        };
        if let Some(session) = self.session_mut(conn) {
            session.changing = Some(Box::new(Changing::Proving { exchange, old, new }));
        }
        self.say(conn, challenge, turn);
    }

    /// Whether `auth` is about a change of the password.
    pub(super) fn proves_for_passwd(&self, conn: Conn) -> bool {
        let changing = self.session(conn).and_then(|session| session.changing.as_deref());
        matches!(changing, Some(Changing::Proving { .. }))
    }

    /// `auth <client-final-message>` behind `passwd scram`
    pub(super) fn passwd_auth(
        &mut self,
        conn: Conn,
        user: UserId,
        last: &str,
        turn: &mut Turn<'_>,
    ) {
        let Some(changing) = self.session_mut(conn).and_then(|s| s.changing.take()) else { return };
        let Changing::Proving { exchange, old, new } = *changing else { return };
        if !self.may_change(conn, user, turn) {
            return;
        }
        let proof = crypto::decode_text(last)
            .and_then(|last| exchange.finish(&last, old.stored_key(), old.server_key()));
        let key = self.accounts.name(user).key();
        let Some(proof) = proof else {
            return self.failed(conn, Refusal::WrongPassword, key, Some(user), turn);
        };
        self.lockout.succeeded(key, self.address(conn));
        let proof = crypto::encode_text(&proof).into();
        self.change_under_way(conn);
        self.save(conn, old, new, Some(proof), turn);
    }

    /// The present password was right, and the new verifier is there.
    pub(super) fn save(
        &mut self,
        conn: Conn,
        old: Verifier,
        new: Verifier,
        proof: Option<Box<str>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(user) = self.session(conn).and_then(Session::user) else { return };
        let (user, address) = (self.accounts.name(user).clone(), self.address(conn));
        let change = ChangeId(self.draw());
        let save = SavePassword { change, user: user.clone(), old: old.clone(), new: new.clone() };
        turn.out.push(Action::SavePassword(Box::new(save)));
        let conn = Some(conn);
        self.saving.push(Saving { change, conn, user, address, old, new, proof });
    }

    /// The password file has the new verifier, or has not.
    pub(super) fn password_saved(&mut self, change: ChangeId, saved: Saved, turn: &mut Turn<'_>) {
        let Some(at) = self.saving.iter().position(|saving| saving.change == change) else {
            debug_assert!(false, "a change is reported once");
            return;
        };
        let Saving { conn, user: name, address, old, new, proof, .. } = self.saving.swap_remove(at);
        // Whoever has the name now: if he was removed and came back, his sessions have ended.
        let user = self.accounts.find(name.as_str());
        let user = user.filter(|&user| *self.accounts.verifier(user) == old);
        let refusal = match saved {
            Saved::Done(flushed) => {
                self.note(Note::PasswordChanged { user: name, address }, turn);
                if let Some(user) = user {
                    self.accounts.set_verifier(user, new);
                    let why = |one| (one == user).then_some(Farewell::PasswordChanged);
                    self.sign_off_all(why, conn, turn);
                }
                let reply = Reply::PasswordChanged { proof, flushed };
                return self.answer_change(conn, reply, turn);
            }
            Saved::Outdated => (Refusal::PasswordsOutdated, "the password file was changed"),
            Saved::Locked => (Refusal::PasswordsBusy, "somebody else keeps the file locked"),
            Saved::Failed => (Refusal::PasswordNotSaved, "the file cannot be written"),
        };
        let (refusal, why) = refusal;
        self.note(Note::PasswordKept { user: name, address, why }, turn);
        self.answer_change(conn, Reply::Refused(refusal), turn);
    }

    fn answer_change(&mut self, conn: Option<Conn>, reply: Reply, turn: &mut Turn<'_>) {
        let Some(conn) = conn else { return };
        self.answer_signin(conn);
        self.say(conn, reply, turn);
        self.answering = None;
        self.end_change(conn, turn);
    }

    /// The session's lines are read again; the time that they waited for us is not counted.
    pub(super) fn end_change(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        session.changing = None;
        session.heard = turn.now.mono;
        session.stir(turn.now.mono);
        self.arm(conn);
        turn.out.push(Action::Resume { conn });
    }

    /// The session is over: nothing of its change goes on but what is being saved.
    pub(super) fn drop_change(&mut self, conn: Conn) {
        let Some(session) = self.session_mut(conn) else { return };
        if session.changing.take().is_none_or(|changing| !matches!(*changing, Changing::UnderWay)) {
            return;
        }
        self.checks.forget(conn);
        for saving in self.saving.iter_mut().filter(|saving| saving.conn == Some(conn)) {
            saving.conn = None;
        }
    }
}
