//! A port: one connection's socket, buffers and state. It moves bytes and knows when they have
//! arrived; what they mean is decided elsewhere.
//!
//! A port keeps no buffer while it has nothing unfinished: an idle connection costs its slot.

mod secure;

pub(super) use secure::{NoTls, Step};

use super::guard::Stranger;
use super::pool::Pool;
use super::tls::Session;
use crate::core::deadlines::Armed;
use crate::core::event::End;
use crate::limits::{
    LINGER_MS, OBSERVE_MS, OUTPUT_CLOSE_BYTES, OUTPUT_PAUSE_BYTES, STALLED_MS, TLS_HANDSHAKE_MS,
    WITNESS_MS,
};
use crate::proto::coded::{self, LetterLine, Sheet, Tag};
use crate::proto::line::Framer;
use crate::proto::plain::{self, Showing};
use crate::proto::reply::{Farewell, Reply};
use crate::proto::telnet::Telnet;
use crate::sys;
use crate::time::Millis;
use mio::net::TcpStream;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not TLS yet, and is given up at `until`. The rules do not know of it.
    Handshaking { until: Millis },
    /// It lives.
    Open,
    /// Its last output is being written.
    Flushing { witness: bool },
    /// All is written. The write side stays open to see whether a reset comes after the last
    /// acknowledgement, which came at `quiet_since`.
    /// Given up at `until`, if not all is acknowledged by then.
    Witnessing { quiet_since: Option<Millis>, until: Millis },
    /// Our side is closed; the peer's is awaited until then. `read` if the peer is known to have
    /// taken all.
    Draining { until: Millis, read: bool },
    /// To be freed at the end of the turn.
    Gone(End),
}

/// A point in what was said, to be acknowledged.
#[derive(Clone, Copy, Debug)]
struct Mark {
    position: u64,
    said: u32,
}

/// One connection.
///
/// What is touched to say something stands in front, then what is touched to write it, then what
/// reading needs: where a text goes to thousands, each line that a port takes in the processor's
/// cache is fetched for it.
#[repr(C, align(64))]
pub(super) struct Port {
    pub(super) phase: Phase,
    /// Bytes to be written, from `written` on; over TLS, what is still to be encrypted.
    outbox: Vec<u8>,
    written: usize,
    /// None: what is said goes out as it is.
    tls: Option<Box<Session>>,
    /// Things said, as the rules count them.
    said: u32,
    /// The last of them that was a letter; zero in the coded dialect, whose readers tell by
    /// themselves what they took.
    letter_said: u32,
    acknowledged_said: u32,
    /// It has switched to the coded dialect.
    coded: bool,
    /// It is in the list of ports to be written.
    pub(super) dirty: bool,
    /// It is in the list of ports that are only answered.
    pub(super) answered: bool,
    /// The end of its output is to be reported.
    pub(super) watched: bool,
    /// Bytes handed to the kernel, as it counts them: over TLS those of the ciphertext.
    position: u64,
    telnet: Option<Box<Telnet>>,
    stalled_since: Option<Millis>,
    /// What its buffers took when it was weighed last, in bytes.
    pub(super) weight: usize,
    pub(super) stream: TcpStream,
    /// The poll tells when it can be written.
    pub(super) wants_write: bool,
    /// It is in the queue of ports to be read.
    pub(super) queued: bool,
    /// Its lines wait until they are asked for again.
    pub(super) held: bool,
    /// The socket may have bytes for us.
    pub(super) readable: bool,
    observe_at: Option<Millis>,
    pub(super) armed: Armed,
    /// Bytes read and not yet framed.
    pub(super) inbox: Vec<u8>,
    /// Acknowledged, and what the peer had sent before may not all have been handed over.
    pub(super) unproved: Option<u32>,
    pub(super) framer: Framer,
    /// A short read does not mean that the socket is empty: the peer has closed, which is read
    /// behind the bytes; or it has sent urgent data, as telnet does, at which each read stops.
    pub(super) reads_on: bool,
    /// The FIN was read.
    pub(super) ended: bool,
    /// Its socket is closed, and the rules are told of it.
    pub(super) reaped: bool,
    /// The rules have heard of it, and must hear of its end.
    pub(super) known: bool,
    /// Nothing has been made of what came: it may be another protocol.
    pub(super) fresh: bool,
    observe_step: u8,
    /// It is no trusted peer's, and nobody has signed in on it.
    pub(super) stranger: Option<Stranger>,
    mark: Option<Mark>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(std::mem::offset_of!(Port, said) == 64);
// The socket of mio is larger where debug assertions are on.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Port>>() == 256);

/// What a look at a port showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// The peer's kernel has this many of the things said.
    Acknowledged(u32),
}

impl Port {
    pub(super) fn new(stream: TcpStream, stranger: Option<Stranger>) -> Self {
        Self {
            stream,
            tls: None,
            known: true,
            framer: Framer::default(),
            telnet: None,
            coded: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            written: 0,
            position: 0,
            said: 0,
            letter_said: 0,
            acknowledged_said: 0,
            mark: None,
            unproved: None,
            observe_at: None,
            observe_step: 0,
            stalled_since: None,
            phase: Phase::Open,
            readable: false,
            reads_on: false,
            ended: false,
            reaped: false,
            held: false,
            queued: false,
            dirty: false,
            answered: false,
            watched: false,
            wants_write: false,
            armed: Armed::default(),
            fresh: true,
            weight: 0,
            stranger,
        }
    }

    /// One that is to become TLS before anything else.
    pub(super) fn secured(
        stream: TcpStream,
        stranger: Option<Stranger>,
        tls: Box<Session>,
        now: Millis,
    ) -> Self {
        let phase = Phase::Handshaking { until: now.plus(TLS_HANDSHAKE_MS) };
        Self { tls: Some(tls), known: false, phase, ..Self::new(stream, stranger) }
    }

    // ---- reading -----------------------------------------------------------------------------

    /// Whether the rules may be handed this connection's lines now.
    pub(super) fn listens(&self) -> bool {
        self.phase == Phase::Open && !self.held && self.pending() <= OUTPUT_PAUSE_BYTES
    }

    /// Reads once into `buffer`; returns the length of the text that came, after the telnet
    /// filter.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = match self.tls {
            None => self.receive(buffer),
            Some(_) => self.unseal(buffer),
        };
        if count == 0 || self.phase != Phase::Open {
            // It is not read for its text, and an answer would come behind our end.
            return 0;
        }
        let bytes = &mut buffer[..count];
        if self.telnet.is_none() && Telnet::is_needless(bytes) {
            return count;
        }
        let telnet = self.telnet.get_or_insert_default();
        telnet.filter(bytes, &mut self.outbox)
    }

    /// Behind how many of the things said a peer that speaks telnet has answered a mark, once.
    pub(super) fn take_marked(&mut self) -> Option<u32> {
        self.telnet.as_mut()?.take_answered()
    }

    /// Reads once into `buffer`; returns how much came.
    fn receive(&mut self, buffer: &mut [u8]) -> usize {
        let count = loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.readable = false;
                    self.ended = true;
                    return 0;
                }
                Ok(count) => break count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return 0;
                }
                Err(e) => {
                    self.readable = false;
                    self.failed(&e);
                    return 0;
                }
            }
        };
        // Less than asked for means that the socket is empty; a new edge comes with new bytes.
        // Only the edges of a FIN and of what stands behind urgent data have come already.
        self.readable = count == buffer.len() || self.reads_on;
        count
    }

    // ---- saying ------------------------------------------------------------------------------

    pub(super) fn say(&mut self, tag: Option<Tag>, reply: &Reply) {
        self.said = self.said.wrapping_add(1);
        self.coded |= matches!(reply, Reply::Switched(_));
        if self.coded {
            return coded::render(reply, tag, &mut self.outbox);
        }
        if matches!(reply, Reply::LetterDamaged { .. }) {
            // It stands for the letter, and is settled as that would be.
            self.letter_said = self.said;
        }
        plain::render(reply, &mut self.outbox);
    }

    pub(super) fn show(&mut self, from: &str, body: &[u8], showing: Showing) {
        self.said = self.said.wrapping_add(1);
        self.letter_said = self.said;
        plain::letter(from, body, showing, &mut self.outbox);
    }

    /// Shows a letter, as it is worded for programs.
    pub(super) fn letter(&mut self, letter: &LetterLine<'_>, sheet: &mut Sheet) {
        self.said = self.said.wrapping_add(1);
        sheet.push(letter, &mut self.outbox);
    }

    /// Whether a timing mark is to be asked for behind the last letter.
    pub(super) fn owes_mark(&self) -> bool {
        let open = self.phase == Phase::Open;
        open && self.telnet.as_ref().is_some_and(|telnet| telnet.may_ask_mark(self.letter_said))
    }

    /// Bytes not yet handed to the kernel.
    pub(super) fn pending(&self) -> usize {
        let sealed = self.tls.as_ref().map_or(0, |tls| tls.sealed().len());
        self.outbox.len() - self.written + sealed
    }

    /// Brings `all`, the weight of all ports, up to date with what this one's buffers take now.
    pub(super) fn weigh(&mut self, all: &mut usize) {
        let tls = self.tls.as_ref().map_or(0, |tls| tls.weight());
        let weight = self.inbox.capacity() + self.outbox.capacity() + tls;
        *all = *all - self.weight + weight;
        self.weight = weight;
    }

    /// Uses a buffer of the pool, if it has none of its own.
    pub(super) fn lend(&mut self, pool: &mut Pool) {
        if self.outbox.capacity() == 0 {
            self.outbox = pool.lend();
        }
    }

    /// Writes what the kernel takes. An emptied buffer goes back to the pool.
    pub(super) fn write(&mut self, now: Millis, pool: &mut Pool) {
        if self.owes_mark()
            && let Some(telnet) = &mut self.telnet
        {
            telnet.ask_mark(self.letter_said, &mut self.outbox);
        }
        self.seal();
        self.hand_over(pool);
        if matches!(self.phase, Phase::Gone(_)) {
            return;
        }
        if self.pending() == 0 {
            self.written = 0;
            pool.give_back(std::mem::take(&mut self.outbox));
        } else {
            self.stalled_since.get_or_insert(now);
            if self.written > OUTPUT_PAUSE_BYTES {
                self.outbox.drain(..self.written);
                self.written = 0;
            }
            if self.pending() > OUTPUT_CLOSE_BYTES {
                self.phase = Phase::Gone(End::Stalled);
            }
        }
    }

    /// Gives the kernel what it takes.
    fn hand_over(&mut self, pool: &mut Pool) {
        while self.pending() > 0 {
            let done = match &self.tls {
                None => self.stream.write(&self.outbox[self.written..]),
                Some(tls) => self.stream.write(tls.sealed()),
            };
            match done {
                Ok(0) => return self.broke(),
                Ok(count) => {
                    match &mut self.tls {
                        None => self.written += count,
                        Some(tls) => tls.sent(count).into_iter().for_each(|it| pool.give_back(it)),
                    }
                    self.position += count as u64;
                    self.stalled_since = None;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => return self.failed(&e),
            }
        }
    }

    // ---- what has arrived ----------------------------------------------------------------------

    /// Letters were said that are not known to have arrived: look after them.
    pub(super) fn observe_letters(&mut self, now: Millis) {
        let behind = self.letter_said.wrapping_sub(self.acknowledged_said);
        if self.observe_at.is_none() && behind != 0 && behind < u32::MAX / 2 {
            self.observe_step = 0;
            self.observe_at = Some(now.plus(OBSERVE_MS[0]));
        }
    }

    /// Looks how much the peer's kernel has acknowledged.
    pub(super) fn look(&mut self) -> Seen {
        // Or nobody could say where the kernel's count will be.
        self.seal();
        let Ok(unacknowledged) = sys::unacknowledged(self.stream.as_fd()) else {
            return Seen::Nothing;
        };
        let arrived = self.position.saturating_sub(unacknowledged);
        let end = self.position + self.pending() as u64;
        let mark = *self.mark.get_or_insert(Mark { position: end, said: self.said });
        if arrived < mark.position {
            return Seen::Nothing;
        }
        // Perhaps more than the mark has arrived.
        let said = if arrived >= end { self.said } else { mark.said };
        self.mark = None;
        self.acknowledged_said = said;
        Seen::Acknowledged(said)
    }

    fn all_arrived(&self) -> bool {
        // Our own FIN counts as a byte, whose acknowledgement may be still on its way.
        let ours = matches!(self.phase, Phase::Draining { .. });
        self.pending() == 0
            && sys::unacknowledged(self.stream.as_fd()).is_ok_and(|n| n <= u64::from(ours))
    }

    // ---- closing -------------------------------------------------------------------------------

    pub(super) fn broke(&mut self) {
        let read = matches!(self.phase, Phase::Draining { read: true, .. });
        self.phase = Phase::Gone(if read { End::Orderly } else { End::Broken });
    }

    /// The socket reports an error.
    fn failed(&mut self, error: &io::Error) {
        // The kernel counts the time without progress too, from what it has taken itself, and so
        // is often the first to give up a peer who takes nothing.
        if error.kind() == ErrorKind::TimedOut && self.phase == Phase::Open && self.pending() > 0 {
            self.phase = Phase::Gone(End::Stalled);
        } else {
            self.broke();
        }
    }

    /// Ends at once, and lets go of all that it holds. The peer is told if it has taken all that
    /// was said before; else it could not be told.
    pub(super) fn give_up(&mut self, end: End, pool: &mut Pool) {
        if self.phase == Phase::Open && self.pending() == 0 && end == End::Overload {
            self.say(None, &Reply::Farewell(Farewell::Overload));
            self.write(Millis(0), pool);
        }
        self.inbox = Vec::new();
        self.outbox = Vec::new();
        self.written = 0;
        self.tls = None;
        self.phase = Phase::Gone(end);
    }

    pub(super) fn close(&mut self, witness: bool) {
        if matches!(self.phase, Phase::Open | Phase::Handshaking { .. }) {
            self.phase = Phase::Flushing { witness };
            self.inbox = Vec::new();
            self.held = false;
        }
    }

    /// Goes on closing, as far as it can.
    pub(super) fn go_on_closing(&mut self, now: Millis) {
        match self.phase {
            Phase::Open | Phase::Gone(_) => {}
            Phase::Handshaking { until } if until <= now => self.shook_too_long(),
            Phase::Handshaking { .. } => {}
            Phase::Flushing { .. } if self.pending() > 0 => {}
            Phase::Flushing { witness: true } => {
                let until = now.plus(STALLED_MS);
                self.phase = Phase::Witnessing { quiet_since: None, until };
                self.observe_step = 0;
                self.witness(now);
            }
            Phase::Flushing { witness: false } => self.shut(now, false),
            Phase::Witnessing { .. } => self.witness(now),
            Phase::Draining { until, read } => {
                if self.ended {
                    let orderly = read || self.all_arrived();
                    self.phase = Phase::Gone(if orderly { End::Orderly } else { End::Broken });
                } else if until <= now {
                    self.broke();
                }
            }
        }
    }

    fn witness(&mut self, now: Millis) {
        let Phase::Witnessing { quiet_since, until } = self.phase else { return };
        match quiet_since {
            None if self.all_arrived() => {
                self.phase = Phase::Witnessing { quiet_since: Some(now), until };
            }
            None if until <= now => self.phase = Phase::Gone(End::Stalled),
            None => self.observe_step = (self.observe_step + 1).min(LAST_STEP),
            Some(since) if now.since(since) >= WITNESS_MS => self.shut(now, true),
            Some(_) => {}
        }
    }

    fn shut(&mut self, now: Millis, read: bool) {
        let arrived = self.all_arrived();
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye();
            self.hand_over(&mut Pool::default());
            if self.pending() > 0 {
                // Whoever does not even take that is not waited for any longer than others.
                self.stalled_since.get_or_insert(now);
                return;
            }
            if matches!(self.phase, Phase::Gone(_)) {
                return;
            }
        }
        if self.ended {
            // Both sides are closed, and there is nothing unread that could cause a reset.
            self.phase = Phase::Gone(if read || arrived { End::Orderly } else { End::Broken });
            return;
        }
        match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => self.phase = Phase::Draining { until: now.plus(LINGER_MS), read },
            Err(_) => self.broke(),
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    /// When it must be looked at next.
    pub(super) fn deadline(&self, now: Millis) -> Option<Millis> {
        let closing = match self.phase {
            Phase::Witnessing { quiet_since: Some(since), .. } => Some(since.plus(WITNESS_MS)),
            Phase::Witnessing { quiet_since: None, .. } => {
                Some(now.plus(OBSERVE_MS[usize::from(self.observe_step)]))
            }
            Phase::Draining { until, .. } | Phase::Handshaking { until } => Some(until),
            Phase::Open | Phase::Flushing { .. } | Phase::Gone(_) => None,
        };
        let stalled = self.stalled_since.map(|since| since.plus(STALLED_MS));
        let observe = self.observe_at.filter(|_| self.phase == Phase::Open);
        [closing, stalled, observe].into_iter().flatten().min()
    }

    /// Its deadline may have come.
    pub(super) fn due(&mut self, now: Millis) -> Seen {
        if self.stalled_since.is_some_and(|since| now.since(since) >= STALLED_MS) {
            self.phase = Phase::Gone(End::Stalled);
            return Seen::Nothing;
        }
        if self.phase != Phase::Open {
            self.go_on_closing(now);
            return Seen::Nothing;
        }
        if self.observe_at.is_none_or(|at| at > now) {
            return Seen::Nothing;
        }
        self.observe_at = None;
        let seen = self.look();
        if seen == Seen::Nothing {
            self.observe_step = (self.observe_step + 1).min(LAST_STEP);
            self.observe_at = Some(now.plus(OBSERVE_MS[usize::from(self.observe_step)]));
        } else {
            self.observe_letters(now);
        }
        seen
    }

    /// The error that a poll reported, if the connection is broken.
    pub(super) fn check_error(&mut self) {
        match self.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => self.failed(&error),
        }
    }
}

/// Last index of the steps between looks.
const LAST_STEP: u8 = (OBSERVE_MS.len() - 1) as u8;
