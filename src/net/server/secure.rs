//! Handshakes: how a connection becomes TLS before the rules hear of it, and what becomes of one
//! that does not. Who has not finished counts as who has not signed in.

use super::{Renew, Server, enlist, key, queue};
use crate::core::event::{Conn, End, Event};
use crate::net::network::trust;
use crate::net::ports::{Phase, Step};
use crate::store::disk::Disk;
use crate::time::Now;
use log::info;
use mio::net::TcpStream;

impl<D: Disk> Server<D> {
    /// Goes on with a handshake, if not too many were answered in this turn.
    pub(super) fn shake(&mut self, conn: Conn, now: Now) {
        let Some(port) = self.ports.get_mut(key(conn)) else { return };
        if self.handshakes == 0 {
            return queue(&mut self.unread, conn, port);
        }
        match port.shake() {
            Step::Waits => {}
            Step::Answered => self.handshakes -= 1,
            Step::Failed(why) => {
                // It may have come to nothing behind a greeting that was answered with all its
                // work.
                self.handshakes -= 1;
                note_no_tls(&port.stream, &why);
            }
            Step::Done(binding) => match port.stream.peer_addr() {
                Ok(address) => {
                    // It may have said something already.
                    queue(&mut self.unread, conn, port);
                    enlist(&mut self.dirty, conn, &mut port.dirty);
                    let address = address.ip().to_canonical();
                    let trust = trust(&self.settings.trusted, address);
                    self.engine.handle(Event::Opened { conn, address, trust }, now);
                    self.engine.handle(Event::Secured { conn, binding }, now);
                    return;
                }
                Err(_) => {
                    // It is gone, before anybody knew of it.
                    port.known = false;
                    port.broke();
                }
            },
        }
        enlist(&mut self.dirty, conn, &mut port.dirty);
        self.weigh(conn);
    }

    /// Who is in the midst of a handshake when the server stops has nothing to be told.
    pub(super) fn give_up_handshakes(&mut self) {
        for (key, port) in &mut self.ports {
            if matches!(port.phase, Phase::Handshaking { .. }) {
                port.give_up(End::Broken, &mut self.pool);
                // One that breaks in this very turn is in the list for that, too, and is to be
                // freed once.
                let conn = Conn(u32::try_from(key).expect("there are at most 50,000"));
                enlist(&mut self.dirty, conn, &mut port.dirty);
            }
        }
    }

    /// Those who come from now on are shown another certificate, if there is one.
    pub(super) fn renew(&mut self, renew: &mut Renew<'_>) {
        for door in self.doors.iter_mut().filter(|door| door.certificate.is_some()) {
            if let Some(certificate) = renew() {
                door.certificate = Some(certificate);
            }
        }
    }
}

/// Tells the log of a connection that did not become TLS.
pub(super) fn note_no_tls(stream: &TcpStream, why: &str) {
    match stream.peer_addr() {
        Ok(address) => info!("no TLS with {}: {why}", address.ip().to_canonical()),
        Err(_) => info!("no TLS with somebody who has gone: {why}"),
    }
}
