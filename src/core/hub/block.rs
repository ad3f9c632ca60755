//! Not being bothered: users who take no messages from others and hide from them, and who is told
//! when others come and go.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::Conn;
use crate::core::record::{Journal, Record};
use crate::core::session::Session;
use crate::limits::BLOCKS;
use crate::proto::command::Switch;
use crate::proto::reply::{Refusal, Reply};

/// More than the record of a block takes.
const BLOCK_BYTES: usize = 128;

impl Hub {
    /// Whether `user` takes no messages from `other`, and hides from him.
    pub(super) fn blocks(&self, user: UserId, other: UserId) -> bool {
        self.user(user).blocked.contains(&other)
    }

    /// Whether `viewer` may know that `user` is here.
    pub(super) fn is_seen(&self, user: UserId, viewer: UserId) -> bool {
        self.user(user).online.is_some() && !self.blocks(user, viewer)
    }

    /// `block <user>`, `unblock <user>`
    pub(super) fn block(
        &mut self,
        conn: Conn,
        me: UserId,
        word: &str,
        switch: Switch,
        turn: &mut Turn<'_>,
    ) {
        let Some(other) = self.accounts.find(word) else {
            let refusal = self.no_such_user(word);
            return self.refuse(conn, refusal, turn);
        };
        if other == me {
            return self.refuse(conn, Refusal::BlockSelf, turn);
        }
        if switch == Switch::On && self.user(me).blocked.len() >= BLOCKS && !self.blocks(me, other)
        {
            return self.refuse(conn, Refusal::BlocksFull(BLOCKS), turn);
        }
        if self.blocks(me, other) != (switch == Switch::On) {
            if !turn.journal.has_room(BLOCK_BYTES) {
                return self.refuse(conn, Refusal::DiskFull, turn);
            }
            self.set_block(me, other, switch);
            self.record_block(me, other, switch, turn.journal);
        }
        let user = self.accounts.name(other).clone();
        self.say(conn, Reply::Block { user, switch }, turn);
    }

    pub(super) fn set_block(&mut self, user: UserId, other: UserId, switch: Switch) {
        let mut blocked = std::mem::take(&mut self.user_mut(user).blocked).into_vec();
        blocked.retain(|&known| known != other);
        if switch == Switch::On {
            blocked.push(other);
        }
        self.user_mut(user).blocked = blocked.into();
    }

    fn record_block(&self, user: UserId, other: UserId, switch: Switch, journal: &mut dyn Journal) {
        let name = |user| self.accounts.name(user).as_str();
        journal.append(&Record::Blocks { user: name(user), other: name(other), switch });
    }

    /// What is blocked now, for the head of a segment.
    pub(super) fn checkpoint_blocks(&self, user: UserId, journal: &mut dyn Journal) {
        for &other in &self.user(user).blocked {
            if self.accounts.is_current(other) {
                self.record_block(user, other, Switch::On, journal);
            }
        }
    }

    /// A removed user blocks nobody and is blocked by nobody: a later holder of the name is
    /// somebody else.
    pub(super) fn forget_blocks(&mut self, gone: UserId, turn: &mut Turn<'_>) {
        for other in std::mem::take(&mut self.user_mut(gone).blocked) {
            self.record_block(gone, other, Switch::Off, turn.journal);
        }
        let blocks_him = |user: &UserId| self.blocks(*user, gone);
        let blockers: Vec<_> = self.accounts.order().iter().copied().filter(blocks_him).collect();
        for user in blockers {
            self.set_block(user, gone, Switch::Off);
            self.record_block(user, gone, Switch::Off, turn.journal);
        }
    }

    /// `notify on`, `notify off`
    pub(super) fn notify(&mut self, conn: Conn, switch: Switch, turn: &mut Turn<'_>) {
        self.notified.remove(&conn);
        if switch == Switch::On {
            self.notified.insert(conn);
        }
        self.say(conn, Reply::Notify(switch), turn);
    }

    /// Tells those who asked for it that the user has come or gone.
    pub(super) fn tell_presence(&mut self, user: UserId, switch: Switch, turn: &mut Turn<'_>) {
        self.work += self.notified.len();
        for conn in self.notified.clone() {
            let viewer = self.session(conn).and_then(Session::present);
            if viewer.is_some_and(|viewer| viewer != user && !self.blocks(user, viewer)) {
                let user = self.accounts.name(user).clone();
                self.say(conn, Reply::Presence { user, switch }, turn);
            }
        }
    }
}
