//! A connection to a server as its users read and write it: a socket, and TLS around it where that
//! was asked for. What reads and what writes may be two threads.

use super::oneshot::Trouble;
use super::tls::Session;
use super::trust::{Route, Security};
use crate::scram::Channel;
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A connection. Its clones are the same one.
pub struct Stream {
    socket: TcpStream,
    tls: Option<Arc<Mutex<Session>>>,
}

impl Stream {
    /// Connects, and makes TLS of it if the route says so. `left` tells how much time there is.
    pub fn connect(route: &Route, left: &dyn Fn() -> Duration) -> Result<(Self, Channel), Trouble> {
        let socket = reach(&route.address, left).map_err(Trouble::Unreachable)?;
        // Without it each small request waits for an acknowledgement.
        socket.set_nodelay(true).map_err(Trouble::Unreachable)?;
        match &route.security {
            Security::Plain => Ok((Self { socket, tls: None }, Channel::Plain)),
            Security::Tls(trust) => {
                let (session, binding) = Session::begin(route, trust, &socket, left)?;
                let tls = Some(Arc::new(Mutex::new(session)));
                Ok((Self { socket, tls }, Channel::Exporter(binding)))
            }
        }
    }

    /// The same connection for another thread.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, tls: self.tls.clone() })
    }

    /// As that of a socket.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// As that of a socket.
    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(timeout))
    }

    /// Writes all, or fails.
    pub fn write_all(&mut self, text: &[u8]) -> io::Result<()> {
        match &self.tls {
            None => self.socket.write_all(text),
            Some(tls) => {
                // Whoever reads does not wait while this is written.
                let sealed = lock(tls).seal(text)?;
                self.socket.write_all(&sealed)
            }
        }
    }

    /// As that of a socket; over TLS, no more comes from here is said first.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let Some(tls) = &self.tls
            && how != Shutdown::Read
        {
            let goodbye = lock(tls).goodbye();
            // Where it cannot be said, the end says it.
            _ = (&self.socket).write_all(&goodbye);
        }
        self.socket.shutdown(how)
    }
}

impl Read for Stream {
    fn read(&mut self, text: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.read(text) };
        let mut sealed = [0; 16 << 10];
        loop {
            if let Some(count) = lock(tls).open(text) {
                return Ok(count);
            }
            // Nobody waits for the lock while this waits for the server.
            let count = self.socket.read(&mut sealed)?;
            lock(tls).feed(&sealed[..count])?;
        }
    }
}

/// A thread that has panicked while it had the lock ended the program.
fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reach(address: &str, left: &dyn Fn() -> Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no such host");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left()) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
