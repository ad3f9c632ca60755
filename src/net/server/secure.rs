//! Handshakes: how a connection becomes TLS before the rules hear of it, and what becomes of one
//! that does not. Who has not finished counts as who has not signed in.

use super::{Inspect, Renew, Server, enlist, key, queue};
use crate::core::event::{Conn, End, Event};
use crate::limits::CERTIFICATE_LOOK_MS;
use crate::net::network::trust;
use crate::net::ports::{NoTls, Phase, Step};
use crate::store::disk::Disk;
use crate::time::{Millis, Now};
use log::{info, warn};
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

    /// Looks at the certificate, if it is time to.
    pub(super) fn inspect(&mut self, now: Millis, inspect: &mut Inspect<'_>) {
        if self.inspect_at.is_none_or(|at| at > now) {
            return;
        }
        self.inspect_at = Some(now.plus(CERTIFICATE_LOOK_MS));
        self.doors.iter().filter_map(|door| door.certificate.as_ref()).for_each(inspect);
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

/// Tells the log of a connection that did not become TLS. What anybody's may do, such as one that
/// does not trust the certificate, is no matter of security.
pub(super) fn note_no_tls(stream: &TcpStream, why: &NoTls) {
    let Ok(address) = stream.peer_addr() else {
        return info!("no TLS with somebody who has gone");
    };
    let address = address.ip().to_canonical();
    match why {
        NoTls::Foreign => warn!("[security] other-protocol from {address}: no TLS"),
        NoTls::TooSlow => warn!("[security] dismissed from {address}: too slow in the handshake"),
        NoTls::Wrong(why) => warn!("[security] handshake-failed from {address}: {why}"),
        NoTls::Gone(why) => info!("no TLS with {address}: {why}"),
        NoTls::Disagreed(why) => info!("no TLS with {address}: {why}"),
    }
}

#[cfg(test)]
#[cfg(feature = "tls")]
mod tests {
    use super::super::{News, Outside, tests};
    use super::*;
    use crate::core::event::Saved;
    use crate::limits::TLS_HANDSHAKE_MS;
    use crate::net::clock::Clock;
    use crate::net::listen;
    use crate::net::tls::Certificate;
    use crate::store::disk::FileDisk;
    use crate::store::spool::Config;
    use mio::Events;
    use std::io::Write as _;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    fn server(folder: &std::path::Path, now: Now) -> (Server<FileDisk>, SocketAddr) {
        let config = Config { spares: 0, ..Config::default() };
        let disk = FileDisk::open(folder).unwrap();
        let (mut server, _) = tests::server(disk, config, vec![], now);
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let door = listen(tests::ANY_PORT).unwrap();
        let address = door.local_addr().unwrap();
        let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
        server.listen_for_tls(door, certificate).unwrap();
        (server, address)
    }

    #[test]
    fn the_certificate_is_looked_at_every_six_hours() {
        let folder = std::env::temp_dir().join(format!("mms-inspect-{}", std::process::id()));
        let start = Clock::start().now();
        let (mut server, _) = server(&folder, start);
        let mut events = Events::with_capacity(9);
        let looks = std::cell::Cell::new(0);
        let mut outside = Outside {
            reload: &mut || None,
            renew: &mut || None,
            inspect: &mut |_| looks.set(looks.get() + 1),
            save: &mut |_| Saved::Failed,
        };
        let hours = [(0, 0), (5, 0), (6, 1), (11, 1), (12, 2), (12, 2)];
        for (hour, seen) in hours {
            let now = Now { mono: Millis(hour * 3_600_000), ..start };
            server.turn(&mut events, now, &mut outside).unwrap();
            assert_eq!(looks.get(), seen, "{hour}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_handshake_that_breaks_in_the_turn_of_a_stop_is_freed_once() {
        let folder = std::env::temp_dir().join(format!("mms-handshake-{}", std::process::id()));
        let clock = Clock::start();
        let (mut server, address) = server(&folder, clock.now());
        let mut half = TcpStream::connect(address).unwrap();
        half.write_all(&[0x16, 3, 1]).unwrap();
        let mut events = Events::with_capacity(9);
        while !server.ports.iter().any(|(_, port)| !port.fresh) {
            server.wait(&mut events, clock.now()).unwrap();
            tests::turn(&mut server, &mut events, clock.now());
        }
        // It is reset, and the stop is the first to be heard of in that turn.
        socket2::SockRef::from(&half).set_linger(Some(Duration::ZERO)).unwrap();
        drop(half);
        server.look(&mut events, None).unwrap();
        assert!(events.iter().any(mio::event::Event::is_error), "{events:?}");
        server.give_up_handshakes();
        tests::turn(&mut server, &mut events, clock.now());
        assert!(matches!(server.news[..], [News::Closed(_, End::Broken)]), "{:?}", server.news);
        server.look(&mut events, Some(Duration::ZERO)).unwrap();
        tests::turn(&mut server, &mut events, clock.now());
        assert!(server.ports.is_empty() && server.news.is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_handshake_does_not_take_longer_because_a_turn_did() {
        let folder = std::env::temp_dir().join(format!("mms-shake-long-{}", std::process::id()));
        let mut now = Clock::start().now();
        let (mut server, address) = server(&folder, now);
        let _half = TcpStream::connect(address).unwrap();
        let mut events = Events::with_capacity(9);
        while server.ports.is_empty() {
            server.look(&mut events, None).unwrap();
            // Already in the turn in which it comes in.
            now = tests::long_turn(&mut server, &mut events, now, TLS_HANDSHAKE_MS);
        }
        now = tests::long_turn(&mut server, &mut events, now, TLS_HANDSHAKE_MS);
        let after = |ms| Now { mono: now.mono.plus(ms), ..now };
        let shakes = |server: &Server<_>| {
            server.ports.iter().all(|(_, port)| matches!(port.phase, Phase::Handshaking { .. }))
        };
        tests::turn(&mut server, &mut events, after(TLS_HANDSHAKE_MS - 1));
        assert!(shakes(&server));
        tests::turn(&mut server, &mut events, after(TLS_HANDSHAKE_MS));
        assert!(!shakes(&server));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
