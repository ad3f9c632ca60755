//! The end of a session, whoever ends it: the user, the peer, the server, or a password file that
//! was read again.

use super::receipts::Settle;
use super::{Hub, Turn, User};
use crate::core::accounts::UserId;
use crate::core::event::{Action, Conn, End, Note};
use crate::core::password::Verifier;
use crate::core::record::Record;
use crate::core::session::{Session, Stage};
use crate::proto::command::Switch;
use crate::proto::name::UserName;
use crate::proto::reply::{Farewell, Reply};
use std::collections::HashMap;
use std::net::IpAddr;

impl Hub {
    pub(super) fn ended(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        // Whether what was shown has been read, the end of the connection will tell.
        self.close(conn, Farewell::PeerClosed, turn);
    }

    /// Says goodbye and asks for the connection to be closed. Does nothing twice.
    pub(super) fn close(&mut self, conn: Conn, why: Farewell, turn: &mut Turn<'_>) {
        let Some(session) = self.session(conn) else { return };
        if matches!(session.stage, Stage::Leaving(_)) {
            return;
        }
        let (address, user) = (session.address, session.user());
        if matches!(session.stage, Stage::Password(_)) || session.prompt().is_some() {
            // Nobody is left with a terminal that hides what is typed.
            self.say(conn, Reply::PasswordRead, turn);
        }
        self.withdraw(conn);
        self.drop_change(conn);
        self.notified.remove(&conn);
        self.receipts.forget_connection(conn);
        let mut unread = None;
        if let Some(user) = self.session(conn).and_then(Session::plain_reader) {
            unread = self.user(user).mailbox.last_shown().map(|last| (user, last));
        }
        if let Some(user) = user.filter(|_| why == Farewell::SignedOut) {
            self.say(conn, Reply::SignedOff(self.accounts.name(user).clone()), turn);
        }
        self.say(conn, Reply::Farewell(why.clone()), turn);
        let witness = unread.is_some() && matches!(why, Farewell::SignedOut | Farewell::PeerClosed);
        turn.out.push(Action::Close { conn, witness });
        if let Some(Some(session)) = self.sessions.get_mut(conn.0 as usize) {
            session.stage = Stage::Leaving(unread);
            session.tag = None;
            self.deadlines.disarm(conn, &mut session.armed);
        }
        match user {
            Some(user) => self.sign_off(conn, user, address, why, turn),
            None => self.note_dismissed(address, why, turn),
        }
    }

    /// Takes a connection out of whatever it waits for.
    pub(super) fn withdraw(&mut self, conn: Conn) {
        match self.session(conn).map(|session| &session.stage) {
            Some(Stage::Checking) => self.checks.forget(conn),
            Some(Stage::Probing(_)) => self.probing.retain(|&other| other != conn),
            _ => {}
        }
    }

    /// The user's session is over; the connection's stage says so already.
    fn sign_off(
        &mut self,
        conn: Conn,
        user: UserId,
        address: IpAddr,
        why: Farewell,
        turn: &mut Turn<'_>,
    ) {
        let name = self.accounts.name(user).clone();
        let unix_ms = turn.now.unix_ms;
        if self.user(user).online != Some(conn) {
            // A tool was never present.
            return self.note(Note::SignedOff { user: name, address, why }, turn);
        }
        turn.journal.append(&Record::SignedOff { user: name.as_str(), unix_ms });
        let state = self.user_mut(user);
        state.online = None;
        state.last_off_ms = Some(unix_ms);
        state.mailbox.end_session();
        self.online.remove(&user);
        if self.online.is_empty() {
            self.alive_at = None;
        }
        self.note(Note::SignedOff { user: name, address, why }, turn);
        self.tell_presence(user, Switch::Off, turn);
        self.first_session_gone(conn, turn);
    }

    pub(super) fn closed(&mut self, conn: Conn, end: End, turn: &mut Turn<'_>) {
        self.drop_session(conn, end, turn);
        turn.out.push(Action::Free { conn });
    }

    fn drop_session(&mut self, conn: Conn, end: End, turn: &mut Turn<'_>) {
        let Some(session) = self.session(conn) else { return };
        let (address, why) = match end {
            End::Stalled => (session.address, Farewell::Stalled),
            End::Overload => (session.address, Farewell::Overload),
            End::Orderly | End::Broken => (session.address, Farewell::Broken),
        };
        match session.stage {
            Stage::Leaving(Some((user, through))) if end == End::Orderly => {
                self.settle(user, Settle::Through(through), turn);
            }
            Stage::Online(user) => {
                self.notified.remove(&conn);
                self.drop_change(conn);
                self.receipts.forget_connection(conn);
                if let Some(session) = self.session_mut(conn) {
                    session.stage = Stage::Leaving(None);
                }
                self.sign_off(conn, user, address, why, turn);
            }
            _ => {
                self.withdraw(conn);
                if end == End::Overload {
                    self.note_dismissed(address, why, turn);
                }
            }
        }
        if let Some(mut session) = self.sessions.get_mut(conn.0 as usize).and_then(Option::take) {
            self.deadlines.disarm(conn, &mut session.armed);
        }
    }

    /// Ends all sessions of those users whom `why` names a reason for, but that of `keeper`. Each
    /// connection is looked at once, however many users they are.
    pub(super) fn sign_off_all(
        &mut self,
        why: impl Fn(UserId) -> Option<Farewell>,
        keeper: Option<Conn>,
        turn: &mut Turn<'_>,
    ) {
        // Before the sessions whose end would let them in: the password they gave is over.
        for (conn, user) in self.probing_users() {
            if let Some(why) = why(user) {
                self.close(conn, why, turn);
            }
        }
        for conn in self.connections().filter(|&conn| Some(conn) != keeper) {
            let user = self.session(conn).and_then(Session::user);
            if let Some(why) = user.and_then(&why) {
                self.close(conn, why, turn);
            }
        }
    }

    pub(super) fn reload(&mut self, entries: Vec<(UserName, Verifier)>, turn: &mut Turn<'_>) {
        let changes = self.accounts.reload(entries);
        let highest = changes.added.iter().map(|user| user.0 as usize + 1).max();
        if let Some(count) = highest.filter(|&count| count > self.users.len()) {
            self.users.resize_with(count, User::default);
        }
        let removed = changes.removed.iter().map(|&user| (user, Farewell::Removed));
        let changed = changes.password_changed.iter();
        let changed = changed.map(|&user| (user, Farewell::PasswordChanged));
        let leaving: HashMap<UserId, Farewell> = removed.chain(changed).collect();
        self.sign_off_all(|user| leaving.get(&user).cloned(), None, turn);
        for user in changes.removed {
            let name = self.accounts.name(user).clone();
            let keyed = self.keys.drop_user(user);
            self.forget_blocks(user, turn);
            self.receipts.forget_reader(user);
            let mailbox = std::mem::take(&mut self.user_mut(user).mailbox);
            self.hold(name, mailbox, keyed, turn);
        }
    }

    fn note_dismissed(&mut self, address: IpAddr, why: Farewell, turn: &mut Turn<'_>) {
        if !matches!(why, Farewell::PeerClosed | Farewell::SignedOut | Farewell::ShuttingDown) {
            self.note(Note::Dismissed { address, why }, turn);
        }
    }
}
