//! Who is there, who was, and being away.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::Conn;
use crate::core::mailbox::Mailbox;
use crate::limits::{AWAY_BYTES, WORK_LOOKS};
use crate::proto::reply::{Names, Refusal, Reply};

/// What `away` says for somebody who gives no text.
const AWAY_DEFAULT: &str = "I am away";

/// Whether an away text is refused.
pub(super) fn is_too_long(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.len() > AWAY_BYTES)
}

/// What is known of a user besides the password. Two lines of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct User {
    pub(super) mailbox: Mailbox,
    pub(super) online: Option<Conn>,
    /// When the last session ended, unix milliseconds.
    pub(super) last_off_ms: Option<u64>,
    /// From whom no messages are taken.
    pub(super) blocked: Box<[UserId]>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<User>() == 128);

impl Hub {
    /// Those of the password file whom `wanted` wants, in its order.
    fn names(&self, wanted: impl Fn(UserId) -> bool) -> Names {
        let mut names = Names::default();
        for &user in self.accounts.order().iter().filter(|&&user| wanted(user)) {
            names.push(self.accounts.name(user));
        }
        names
    }

    /// All users of the password file were looked at so many times.
    fn looked_at_all(&mut self, times: usize) {
        self.work += times * self.accounts.order().len() / WORK_LOOKS;
    }

    pub(super) fn who_is_on(&mut self, conn: Conn, me: UserId, turn: &mut Turn<'_>) {
        self.looked_at_all(2);
        let online = self.names(|user| self.is_seen(user, me));
        let offline = self.names(|user| !self.is_seen(user, me));
        self.say(conn, Reply::WhoIsOn { online, offline }, turn);
    }

    pub(super) fn who_else(&mut self, conn: Conn, me: UserId, turn: &mut Turn<'_>) {
        self.looked_at_all(1);
        let names = self.names(|user| user != me && self.is_seen(user, me));
        self.say(conn, Reply::WhoElse(names), turn);
    }

    pub(super) fn who_last(&mut self, conn: Conn, me: UserId, window_ms: u64, turn: &mut Turn<'_>) {
        self.looked_at_all(1);
        let begin = turn.now.unix_ms.saturating_sub(window_ms);
        let who = self.names(|user| {
            let state = self.user(user);
            let was = state.last_off_ms.is_some_and(|off| off >= begin);
            user != me && !self.blocks(user, me) && (state.online.is_some() || was)
        });
        self.say(conn, Reply::WhoLast { who, window_ms }, turn);
    }

    pub(super) fn away(&mut self, conn: Conn, text: Option<&str>, turn: &mut Turn<'_>) {
        let too_long = is_too_long(text);
        let text = text.unwrap_or(AWAY_DEFAULT);
        if too_long {
            let refusal = Refusal::MessageTooLong { bytes: text.len(), most: AWAY_BYTES };
            return self.refuse(conn, refusal, turn);
        }
        let Some(session) = self.session_mut(conn) else { return };
        let text: std::rc::Rc<str> = text.into();
        session.away = Some(text.clone());
        self.say(conn, Reply::Away(text), turn);
    }
}
