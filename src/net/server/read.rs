//! Reading: what has come becomes lines, and lines become events; each port has its share.

use super::{Server, enlist, key, queue};
use crate::core::event::{Conn, Event, Flow, Input};
use crate::engine::Engine;
use crate::limits::{COMMANDS_A_TURN, LINE_BYTES_BEFORE_SIGNIN, READ_BYTES_A_TURN, WORK_A_SHARE};
use crate::net::ports::{Phase, Port};
use crate::proto::foreign;
use crate::store::disk::Disk;
use crate::time::Now;

/// Bytes read at once before sign-in: no more than may be executed.
const READ_BYTES_BEFORE: usize = 2 * LINE_BYTES_BEFORE_SIGNIN;

impl<D: Disk> Server<D> {
    /// Each port that waits has its share, then those that want more of what is left.
    pub(super) fn read_all(&mut self, now: Now) {
        // Ports that come back into the queue have had their turn.
        for _ in 0..self.unread.len() {
            if self.engine.has_enough() {
                break;
            }
            if let Some(conn) = self.unread.pop_front() {
                self.read(conn, now);
            }
        }
        while !self.engine.has_enough()
            && let Some(conn) = self.sated.pop_front()
        {
            self.read(conn, now);
        }
        self.unread.append(&mut self.sated);
    }

    fn read(&mut self, conn: Conn, now: Now) {
        let Some(port) = self.ports.get_mut(key(conn)) else { return };
        port.queued = false;
        match port.phase {
            Phase::Open => {}
            Phase::Gone(_) => return,
            Phase::Handshaking { .. } => return self.shake(conn, now),
            _ => return self.discard(conn),
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_lines(conn, &mut buffer, now);
        self.buffer = buffer;
        self.weigh(conn);
    }

    /// Hands the connection's lines over, first those that were read before.
    fn read_lines(&mut self, conn: Conn, buffer: &mut [u8], now: Now) {
        let mut share = Share::begin(&self.engine);
        let Some(port) = self.ports.get_mut(key(conn)) else { return };
        if !port.listens() {
            return;
        }
        if !port.inbox.is_empty() {
            let mut input = std::mem::take(&mut port.inbox);
            let used = lines(&mut self.engine, port, conn, &input, &mut share, now);
            input.drain(..used);
            port.inbox = input;
        }
        if share.left() && port.listens() && port.readable {
            let size = match self.engine.limits(conn).line {
                LINE_BYTES_BEFORE_SIGNIN => READ_BYTES_BEFORE,
                _ => READ_BYTES_A_TURN,
            };
            let said = port.pending();
            let count = port.read(&mut buffer[..size]);
            if let Some(through) = port.take_marked() {
                self.engine.handle(Event::Marked { conn, through }, now);
            }
            if count > 0 {
                self.engine.handle(Event::Stirred { conn }, now);
            }
            if port.pending() > said || port.owes_mark() {
                // The telnet filter has answered, or was answered.
                enlist(&mut self.dirty, conn, &mut port.dirty);
            }
            if port.inbox.is_empty() {
                let input = &buffer[..count];
                let used = lines(&mut self.engine, port, conn, input, &mut share, now);
                port.inbox.extend_from_slice(&input[used..]);
            } else {
                let mut input = std::mem::take(&mut port.inbox);
                input.extend_from_slice(&buffer[..count]);
                let used = lines(&mut self.engine, port, conn, &input, &mut share, now);
                input.drain(..used);
                port.inbox = input;
            }
        }
        if port.inbox.is_empty() && port.inbox.capacity() > 0 {
            port.inbox = Vec::new();
        }
        if matches!(port.phase, Phase::Gone(_)) {
            return enlist(&mut self.dirty, conn, &mut port.dirty);
        }
        if share.is_eaten(&self.engine) {
            return queue(&mut self.sated, conn, port);
        }
        if !share.left() || (port.readable && port.listens()) {
            return queue(&mut self.unread, conn, port);
        }
        if !port.listens() {
            return;
        }
        let unproved = port.unproved.take();
        if port.ended {
            // What stands behind the last line end was never finished.
            port.inbox = Vec::new();
            self.engine.handle(Event::Ended { conn }, now);
        } else if let Some(through) = unproved {
            let input = Input::Taken;
            self.engine.handle(Event::Acknowledged { conn, through, input }, now);
        }
    }

    /// Reads and forgets what a peer still sends after our goodbye, to see its end.
    fn discard(&mut self, conn: Conn) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(port) = self.ports.get_mut(key(conn)) {
            if port.readable && !port.ended {
                port.read(&mut buffer);
            }
            if port.readable && !port.ended {
                queue(&mut self.unread, conn, port);
            }
            enlist(&mut self.dirty, conn, &mut port.dirty);
        }
        self.buffer = buffer;
    }
}

/// What one connection may ask for before others have their turn.
struct Share {
    commands: usize,
    /// The turn's work at which it is used up.
    work: usize,
}

impl Share {
    fn begin<D: Disk>(engine: &Engine<D>) -> Self {
        Self { commands: COMMANDS_A_TURN, work: engine.work() + WORK_A_SHARE }
    }

    fn left(&self) -> bool {
        self.commands > 0
    }

    /// Whether it was the work that used it up.
    fn is_eaten<D: Disk>(&self, engine: &Engine<D>) -> bool {
        engine.work() >= self.work
    }
}

/// Hands over the lines in `input`; returns how many bytes are used up.
fn lines<D: Disk>(
    engine: &mut Engine<D>,
    port: &mut Port,
    conn: Conn,
    input: &[u8],
    share: &mut Share,
    now: Now,
) -> usize {
    if port.fresh
        && let Some(what) = foreign::by_bytes(input)
    {
        engine.handle(Event::Foreign { conn, what }, now);
        return input.len();
    }
    let mut used = 0;
    while share.left() {
        let limits = engine.limits(conn);
        let (count, frame) = port.framer.next(&input[used..], limits);
        used += count;
        let Some(frame) = frame else { break };
        let flow = engine.handle(Event::of_frame(conn, frame), now);
        port.fresh = false;
        share.commands -= 1;
        if flow == Flow::Hold {
            port.held = true;
            break;
        }
        if engine.has_enough() || share.is_eaten(engine) {
            share.commands = 0;
        }
    }
    used
}
