//! Speaking: what is durable is handed to the ports, each is written, and those that are over are
//! freed.

use super::{News, READING, Server, enlist, key, queue};
use crate::core::event::Conn;
use crate::engine::Output;
use crate::limits::{ANSWER_WAIT_MS, ANSWERS_WAITING, OUTPUT_PAUSE_BYTES, WRITE_EARLY_BYTES};
use crate::net::ports::{Phase, Seen};
use crate::store::disk::Disk;
use crate::time::Millis;
use log::warn;
use mio::{Events, Interest, Token};
use socket2::SockRef;
use std::io;
use std::time::Duration;

impl<D: Disk> Server<D> {
    pub(super) fn speak(&mut self, now: Millis) -> io::Result<()> {
        let Self { engine, guard, ports, dirty, unread, news, pool, saves, sheet, .. } = self;
        let Self { answered, answered_at, over, .. } = self;
        // Who has waited for the disk does not wait once more, for others.
        let answers_wait = !engine.syncs();
        engine.release(|output| {
            let conn = match output {
                Output::Say(conn, ..) | Output::Letter(conn, _) => conn,
                Output::Watch(conn) | Output::Look(conn) => conn,
                Output::Show { conn, .. } | Output::Close { conn, .. } => conn,
                Output::Resume(conn) => conn,
                Output::Free(conn) => return over.push(conn),
                Output::SavePassword(save) => return saves.push(save.clone(), now),
            };
            let Some(port) = ports.get_mut(key(conn)) else { return };
            if let Phase::Gone(_) = port.phase {
                return;
            }
            let may_wait = answers_wait && matches!(output, Output::Say(..));
            let paused = port.pending() > OUTPUT_PAUSE_BYTES;
            match output {
                Output::Say(_, tag, reply) => {
                    port.lend(pool);
                    port.say(tag, reply);
                    port.observe_letters(now);
                    guard.hears(&mut port.stranger, reply);
                }
                Output::Letter(_, letter) => {
                    port.lend(pool);
                    port.letter(letter, sheet);
                }
                Output::Show { from, body, showing, .. } => {
                    port.lend(pool);
                    port.show(from.as_str(), body, showing);
                    port.observe_letters(now);
                }
                Output::Watch(_) => port.watched = true,
                Output::Look(_) => {
                    if let Seen::Acknowledged(through) = port.look() {
                        news.push(News::Acknowledged(conn, through));
                    }
                }
                Output::Resume(_) => {
                    port.held = false;
                    queue(unread, conn, port);
                }
                Output::Close { witness, .. } => port.close(witness),
                Output::SavePassword(_) | Output::Free(_) => {}
            }
            if !paused && port.pending() > WRITE_EARLY_BYTES && port.phase == Phase::Open {
                // What many are shown in one turn does not lie in memory for all of them before
                // the first is written to. Whose lines wait is left to `write`.
                port.write(now, pool);
            }
            if may_wait && answered.len() < ANSWERS_WAITING && port.phase == Phase::Open {
                if answered.is_empty() {
                    *answered_at = now;
                }
                enlist(answered, conn, &mut port.answered);
            } else {
                enlist(dirty, conn, &mut port.dirty);
            }
        })
    }

    /// Writes to all to whom something was said that does not wait.
    pub(super) fn write(&mut self, now: Millis) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for conn in dirty.drain(..) {
            self.write_to(conn, now);
        }
        // The list keeps its memory for the next turn.
        self.dirty = dirty;
    }

    /// Looks what is to be read, and writes the answers that wait if there is nothing, or once they
    /// have waited long enough. Tells whether there is something to be read.
    pub(super) fn answer(&mut self, events: &mut Events, now: Millis) -> io::Result<bool> {
        self.look(events, Some(Duration::ZERO))?;
        let busy = !events.is_empty() || !self.unread.is_empty();
        if !busy || now.since(self.answered_at) >= ANSWER_WAIT_MS {
            self.write_answers(now);
        }
        Ok(busy)
    }

    /// Writes to those who were only answered.
    fn write_answers(&mut self, now: Millis) {
        let mut answered = std::mem::take(&mut self.answered);
        for conn in answered.drain(..) {
            let Some(port) = self.ports.get_mut(key(conn)) else { continue };
            port.answered = false;
            // Who is gone was seen to already.
            if !matches!(port.phase, Phase::Gone(_)) {
                self.write_to(conn, now);
            }
        }
        self.answered = answered;
    }

    fn write_to(&mut self, conn: Conn, now: Millis) {
        let Some(port) = self.ports.get_mut(key(conn)) else { return };
        port.dirty = false;
        let was_full = port.pending() > OUTPUT_PAUSE_BYTES;
        if !matches!(port.phase, Phase::Gone(_)) {
            port.write(now, &mut self.pool);
            port.go_on_closing(now);
        }
        if port.pending() == 0 && std::mem::take(&mut port.watched) {
            self.news.push(News::Drained(conn));
            if let Seen::Acknowledged(through) = port.look() {
                self.news.push(News::Acknowledged(conn, through));
            }
        }
        if was_full && port.pending() <= OUTPUT_PAUSE_BYTES {
            queue(&mut self.unread, conn, port);
        }
        port.weigh(&mut self.weight);
        let wants_write = port.pending() > 0;
        if wants_write != port.wants_write && !matches!(port.phase, Phase::Gone(_)) {
            port.wants_write = wants_write;
            let interest = match wants_write {
                true => READING | Interest::WRITABLE,
                false => READING,
            };
            let token = Token(key(conn));
            if self.poll.registry().reregister(&mut port.stream, token, interest).is_err() {
                port.broke();
            }
        }
        if let Phase::Gone(_) = port.phase {
            self.gone.push(conn);
        } else if let Some(when) = port.deadline(now) {
            self.deadlines.arm(conn, &mut port.armed, when);
        }
    }

    /// Frees the slots of those that are over, and what they weighed.
    pub(super) fn free(&mut self, now: Millis) {
        for conn in std::mem::take(&mut self.over) {
            self.told -= 1;
            if let Some(port) = self.ports.try_remove(key(conn)) {
                self.weight = self.weight.saturating_sub(port.weight);
            }
            // Now there is a descriptor.
            self.accept_retry_at = self.accept_retry_at.map(|at| at.min(now));
        }
    }

    /// Closes the sockets of connections that are over. Their slots are freed when the rules have
    /// heard of it, in the next turn.
    pub(super) fn reap(&mut self, now: Millis) {
        if self.gone.is_empty() {
            return;
        }
        for conn in std::mem::take(&mut self.gone) {
            let Some(port) = self.ports.get_mut(key(conn)) else { continue };
            let Phase::Gone(end) = port.phase else { continue };
            if std::mem::replace(&mut port.reaped, true) {
                continue;
            }
            self.deadlines.disarm(conn, &mut port.armed);
            if let Some(stranger) = port.stranger.take()
                && let Some((network, left_s)) = self.guard.left(&stranger, now)
            {
                warn!("[security] penalty-begun from {network}: {left_s} s");
            }
            // An error only says that it is gone already.
            let _ = self.poll.registry().deregister(&mut port.stream);
            let _ = SockRef::from(&port.stream).shutdown(std::net::Shutdown::Both);
            self.news.push(News::Closed(conn, end));
        }
    }
}
