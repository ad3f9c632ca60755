//! What becomes due: the time to sign in, idleness, pings, the looks at a first session.

use super::{Hub, Turn};
use crate::core::event::{Conn, Dialect};
use crate::core::session::{Session, Silence, Stage};
use crate::limits::{SIGNIN_MS, SIGNIN_PARTS};
use crate::proto::coded::Kind;
use crate::proto::reply::{Farewell, Reply};
use crate::time::Millis;

impl Hub {
    /// When the session must be looked at next.
    fn session_deadline(&self, session: &Session) -> Option<Millis> {
        match &session.stage {
            Stage::Open | Stage::Password(_) | Stage::Proving(_) => {
                Some(session.since.plus(SIGNIN_MS / u64::from(SIGNIN_PARTS)))
            }
            Stage::Probing(probe) => probe.next_look(),
            // Its lines wait: it could not show that it lives.
            Stage::Online(_) if session.waits() => None,
            Stage::Online(_) => {
                let ping = (session.dialect == Dialect::Coded).then(|| session.next_ping());
                [self.idle_deadline(session), ping].into_iter().flatten().min()
            }
            Stage::Checking | Stage::Leaving(_) => None,
        }
    }

    fn idle_deadline(&self, session: &Session) -> Option<Millis> {
        let limit_s = self.rules.idle_timeout_s;
        let holds = limit_s > 0 && session.away.is_none() && session.kind != Kind::Listener;
        holds.then(|| session.heard.plus(limit_s.saturating_mul(1000)))
    }

    pub(super) fn arm(&mut self, conn: Conn) {
        let Some(when) = self.session(conn).and_then(|s| self.session_deadline(s)) else { return };
        let Some(Some(session)) = self.sessions.get_mut(conn.0 as usize) else { return };
        self.deadlines.arm(conn, &mut session.armed, when);
    }

    /// The session's deadline may have come.
    pub(super) fn due(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session(conn) else { return };
        if self.session_deadline(session).is_none_or(|when| when > turn.now.mono) {
            return;
        }
        match &session.stage {
            Stage::Open | Stage::Password(_) | Stage::Proving(_) => {
                self.mind_slowness(conn, turn);
            }
            Stage::Online(_) => {
                let idle = self.idle_deadline(session).is_some_and(|when| when <= turn.now.mono);
                if idle {
                    let limit_s = self.rules.idle_timeout_s;
                    return self.close(conn, Farewell::Idle { limit_s }, turn);
                }
                self.mind_silence(conn, turn);
            }
            Stage::Probing(_) => self.look_again(conn, turn),
            Stage::Checking | Stage::Leaving(_) => {}
        }
    }

    /// A part of the time to sign in is over. While the disk is at a sync a newcomer does not even
    /// see the greeting, and it is not his time that passes.
    fn mind_slowness(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        if turn.said_until > session.since {
            session.parts += 1;
        }
        session.since = turn.now.mono;
        if session.parts >= SIGNIN_PARTS {
            self.close(conn, Farewell::SignInTooSlow { limit_s: SIGNIN_MS / 1000 }, turn);
        }
    }

    /// Nothing has come from a coded client for so long that it is to be asked whether it is there,
    /// or given up.
    fn mind_silence(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        let told = turn.said_until > session.stirred;
        match session.silence {
            Silence::Told => return self.close(conn, Farewell::Unresponsive, turn),
            Silence::Asked if told => session.silence = Silence::Told,
            Silence::Asked => {}
            Silence::Usual => {
                session.silence = Silence::Asked;
                session.stirred = turn.now.mono;
                return self.say(conn, Reply::Ping, turn);
            }
        }
        session.stirred = turn.now.mono;
    }
}
