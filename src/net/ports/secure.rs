//! A port whose other end speaks TLS, or is to: the handshake, and what stands between the text and
//! the socket. How TLS does it is not known here.

use super::{Phase, Port};
use crate::limits::TLS_HANDSHAKE_MS;
use crate::net::tls::{Brought, Shaken};
use crate::proto::foreign::TLS_HANDSHAKE;
use crate::proto::plain;
use crate::proto::reply::{Farewell, Reply};
use crate::scram::Binding;
use std::io::{ErrorKind, Write as _};

/// How far a handshake has come.
#[derive(Debug)]
pub(in crate::net) enum Step {
    /// The peer's next message is awaited.
    Waits,
    /// The same, and this was work.
    Answered,
    /// It is done, and this is what only the two ends know.
    Done(Binding),
    /// There will be no TLS. The peer is told, if it is there.
    Failed(NoTls),
}

/// Why a connection did not become TLS.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::net) enum NoTls {
    /// It begins as something else.
    Foreign,
    /// The peer went, before it began or in the midst of it.
    Gone(&'static str),
    /// The time for it is over.
    TooSlow,
    /// The two ends do not come together. Anybody's may be like that, such as one that does not
    /// trust the certificate.
    Disagreed(String),
    /// The peer did what no peer may.
    Wrong(String),
}

impl Port {
    /// Goes on with the handshake, as far as bytes have come.
    pub(in crate::net) fn shake(&mut self) -> Step {
        self.readable = false;
        while self.fresh {
            let mut first = [0];
            match self.stream.peek(&mut first) {
                Ok(1) if first[0] == TLS_HANDSHAKE => self.fresh = false,
                Ok(1) => {
                    self.wants_tls();
                    return Step::Failed(NoTls::Foreign);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Step::Waits,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.broke();
                    return Step::Failed(NoTls::Gone("it went before"));
                }
            }
        }
        let Some(tls) = &mut self.tls else { return Step::Waits };
        match tls.shake(&mut self.stream) {
            Shaken::Waiting if tls.sealed().is_empty() => Step::Waits,
            Shaken::Waiting => Step::Answered,
            Shaken::Done(binding) => {
                self.phase = Phase::Open;
                (self.known, self.fresh, self.readable) = (true, true, true);
                Step::Done(binding)
            }
            Shaken::Gone => {
                self.broke();
                Step::Failed(NoTls::Gone("it went in the midst of it"))
            }
            Shaken::Disagreed(why) => self.part(NoTls::Disagreed(why)),
            Shaken::Failed(why) => self.part(NoTls::Wrong(why)),
        }
    }

    /// What is wrong is the last that is said in TLS.
    fn part(&mut self, why: NoTls) -> Step {
        if let Some(mut tls) = self.tls.take() {
            self.outbox = tls.forget();
        }
        self.close(false);
        Step::Failed(why)
    }

    /// Says in plain words that this is the place for TLS: who does not speak it can read that.
    fn wants_tls(&mut self) {
        self.tls = None;
        plain::wants_tls(&mut self.outbox);
        self.close(false);
    }

    /// The time for the handshake is over.
    pub(super) fn shook_too_long(&mut self) {
        if let Some(stranger) = &mut self.stranger {
            let limit_s = TLS_HANDSHAKE_MS / 1000;
            stranger.told(&Reply::Farewell(Farewell::SignInTooSlow { limit_s }));
        }
        match self.fresh {
            // Such as telnet, which waits for the other end to begin.
            true => self.wants_tls(),
            false => self.broke(),
        }
    }

    /// Encrypts what is to be written, if this is TLS.
    pub(super) fn seal(&mut self) {
        if let Some(tls) = &mut self.tls
            && !self.outbox.is_empty()
            && !tls.seal(&mut self.outbox)
        {
            self.broke();
        }
    }

    /// Reads once, as [`Port::receive`], what was encrypted.
    pub(super) fn unseal(&mut self, buffer: &mut [u8]) -> usize {
        let Some(tls) = &mut self.tls else { return 0 };
        let (count, brought) = tls.read(&mut self.stream, buffer);
        self.readable = brought == Brought::Some;
        match brought {
            Brought::Some | Brought::All => {}
            Brought::Goodbye => self.ended = true,
            // Anybody on the way can end a connection, but for a goodbye he needs its keys.
            Brought::Broken => {
                // What is wrong is told, if the kernel takes it at once.
                _ = self.stream.write(tls.sealed());
                self.broke();
            }
        }
        count
    }
}
