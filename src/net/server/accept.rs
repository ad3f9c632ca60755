//! Accepting: who comes in, and what those are told who do not. Being turned away costs no slot,
//! no buffer and no word of the rules.

use super::{READING, Server, enlist, queue};
use crate::core::event::{Conn, Event, Trust};
use crate::limits::{ACCEPT_RETRY_MS, ACCEPTS_A_TURN, OVER_BESIDE};
use crate::net::guard::Stranger;
use crate::net::network::trust;
use crate::net::ports::Port;
use crate::net::tls::{Certificate, Session};
use crate::proto::plain;
use crate::proto::reply::Barred;
use crate::store::disk::Disk;
use crate::time::{Millis, Now};
use log::warn;
use mio::Token;
use mio::net::TcpStream;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;

impl<D: Disk> Server<D> {
    pub(super) fn accept(&mut self, now: Now) {
        if self.accept_retry_at.is_some_and(|at| at <= now.mono) {
            self.accept_retry_at = None;
            self.doors.iter_mut().for_each(|door| door.ready = true);
        }
        for at in 0..self.doors.len() {
            self.accept_at(at, now);
        }
    }

    /// Somebody is in front of a door.
    pub(super) fn knock(&mut self, token: Token) {
        let doors = self.doors.iter_mut().filter(|door| door.token == token);
        doors.for_each(|door| door.ready = true);
    }

    fn accept_at(&mut self, at: usize, now: Now) {
        for _ in 0..ACCEPTS_A_TURN {
            let short = self.is_short_of_descriptors();
            let Some(door) = self.doors.get_mut(at).filter(|door| door.ready) else { return };
            if short {
                return self.accept_later(at, now);
            }
            match door.listener.accept() {
                Ok((stream, address)) => {
                    let session = door.certificate.as_ref().map(Certificate::session);
                    self.open(stream, address.ip().to_canonical(), session, now);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    door.ready = false;
                    return;
                }
                // The peer was faster in giving up.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    // Descriptors or memory are short, or worse. No new edge will come: they wait
                    // in the kernel's queue, and each close tries again, too.
                    warn!("cannot accept a connection now: {e}");
                    return self.accept_later(at, now);
                }
            }
        }
    }

    /// They wait in front of this door for a while.
    fn accept_later(&mut self, at: usize, now: Now) {
        self.doors[at].ready = false;
        self.accept_retry_at = Some(now.mono.plus(ACCEPT_RETRY_MS));
    }

    /// Whether there is a place, but whoever had it still has his descriptor, until the disk has
    /// what is to be said before he is freed. Then they wait in the kernel's queue, too.
    fn is_short_of_descriptors(&self) -> bool {
        let (all, most) = (self.ports.len(), self.settings.connections);
        all.saturating_sub(self.told) < most && all >= most + OVER_BESIDE
    }

    /// `session`: what begins TLS, if it came in by that door.
    fn open(
        &mut self,
        mut stream: TcpStream,
        address: IpAddr,
        session: Option<Box<Session>>,
        now: Now,
    ) {
        let trust = trust(&self.settings.trusted, address);
        let stranger = match self.admit(address, trust, now.mono) {
            Ok(stranger) => stranger,
            Err(barred) => return self.turn_away(stream, address, &barred, now.mono),
        };
        let entry = self.ports.vacant_entry();
        let token = Token(entry.key());
        if let Err(e) = self.poll.registry().register(&mut stream, token, READING) {
            warn!("connection from {address} dropped: {e}");
            if let Some(stranger) = stranger {
                self.guard.signed_in(&stranger);
            }
            return;
        }
        let conn = Conn(u32::try_from(token.0).expect("there are at most 50,000"));
        if let Some(session) = session {
            let port = entry.insert(Port::secured(stream, stranger, session, now.mono));
            // Its time runs; what has come already makes an edge of its own.
            return enlist(&mut self.dirty, conn, &mut port.dirty);
        }
        let port = entry.insert(Port::new(stream, stranger));
        // A script has sent its first lines by now: their answers go out with the greeting.
        port.readable = true;
        queue(&mut self.unread, conn, port);
        self.engine.handle(Event::Opened { conn, address, trust }, now);
    }

    /// Whether there is a place; if it is a stranger's, as whom it is kept.
    fn admit(
        &mut self,
        address: IpAddr,
        trust: Trust,
        now: Millis,
    ) -> Result<Option<Stranger>, Barred> {
        if self.ports.len().saturating_sub(self.told) >= self.settings.connections {
            return Err(Barred::Full);
        }
        match trust {
            Trust::Trusted => Ok(None),
            Trust::Stranger if self.is_short_of_memory() => Err(Barred::ShortOfMemory),
            Trust::Stranger => self.guard.admit(address, now).map(Some),
        }
    }

    fn turn_away(&mut self, mut stream: TcpStream, address: IpAddr, barred: &Barred, now: Millis) {
        if self.turned.is_news(barred, address, now) {
            warn!("[security] {} from {address}: {}", barred.event(), barred.reason());
        }
        let mut words = self.pool.lend();
        plain::barred(barred, &mut words);
        // If it cannot be told, it sees the close.
        let _ = stream.write(&words);
        self.pool.give_back(words);
    }

    /// Tells the log of those who were turned away meanwhile.
    pub(super) fn tell_turned(&mut self, now: Millis) {
        self.turned.told(now, |barred, count, last| {
            let (event, why) = (barred.event(), barred.reason());
            warn!("[security] {event} from {last}: {why}, the last of {count} more");
        });
    }
}
