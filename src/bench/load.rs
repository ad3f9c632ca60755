//! The load: many users of one server in one loop of one thread. It reads all that has come before
//! anybody answers, so that what is to be written goes out in one piece a user and turn; thus it
//! costs less than any server that it drives.

use super::clock::Stopwatch;
use super::histogram::Histogram;
use super::machine::Interrupt;
use super::started::Started;
use super::tongue::{Heard, Stage, Tongue, Voice, stamp};
use super::trouble::Trouble;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// After so long in which nobody gets in, somebody never will, in nanoseconds.
const PATIENCE_NS: u64 = 60_000_000_000;
/// Who is loaded and says nothing for so long will not say anything: longer than it is waited for
/// what is still under way at the end.
const SILENCE: Duration = Duration::from_secs(15);
const READ_BYTES: usize = 64 << 10;

/// One user.
struct Talker {
    socket: TcpStream,
    voice: Voice,
    /// What is not whole yet.
    input: Vec<u8>,
    /// Whether it is to be told when it can be written to.
    waits: bool,
    /// Whether it stands in the list of those to be written to.
    listed: bool,
}

/// All users of one server.
pub(super) struct Load {
    pub(super) watch: Stopwatch,
    pub(super) tongue: Tongue,
    /// What was heard in the last turn.
    pub(super) heard: Heard,
    /// Texts sent so far.
    pub(super) sent: u64,
    /// For how long it was waited since something happened. The clock tells more: whoever stops
    /// this program, as Ctrl-Z does, stops those that it has started as well.
    in_vain: Duration,
    poll: Poll,
    events: Events,
    address: SocketAddr,
    who: super::Contender,
    talkers: Vec<Talker>,
    buffer: Vec<u8>,
    /// Who has something to be written, each once.
    listed: Vec<usize>,
    interrupt: Interrupt,
    text: Vec<u8>,
    text_bytes: usize,
}

impl Load {
    pub(super) fn new(
        server: &Started,
        tongue: Tongue,
        text_bytes: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, Trouble> {
        Ok(Self {
            watch: Stopwatch::start(),
            tongue,
            heard: Heard::default(),
            sent: 0,
            in_vain: Duration::ZERO,
            poll: Poll::new().map_err(Trouble::of("cannot set up the load"))?,
            events: Events::with_capacity(4096),
            address: server.address,
            who: server.who,
            talkers: Vec::new(),
            buffer: vec![0; READ_BYTES],
            listed: Vec::new(),
            interrupt: interrupt.clone(),
            text: Vec::new(),
            text_bytes,
        })
    }

    /// Connects these users, who are the next ones, and begins to sign them in.
    pub(super) fn call(&mut self, users: Range<usize>) -> Result<(), Trouble> {
        for user in users {
            let both = Interest::READABLE | Interest::WRITABLE;
            let token = Token(self.talkers.len());
            let socket = TcpStream::connect(self.address).and_then(|mut socket| {
                _ = socket.set_nodelay(true);
                self.poll.registry().register(&mut socket, token, both)?;
                Ok(socket)
            });
            let socket = socket.map_err(Trouble::of(format!("cannot connect user {user}")))?;
            let mut voice = Voice::new(user);
            self.tongue.greet(&mut voice);
            let input = Vec::new();
            self.talkers.push(Talker { socket, voice, input, waits: true, listed: false });
        }
        Ok(())
    }

    /// Connects these users, so many at a time, and waits until all have signed in. After each
    /// turn `meanwhile` may take what was heard and post something.
    pub(super) fn sign_in(
        &mut self,
        users: Range<usize>,
        at_once: usize,
        meanwhile: &mut dyn FnMut(&mut Self),
    ) -> Result<(), Trouble> {
        // The first of them of whom it is not known that he is in.
        let (mut next, mut outside) = (users.start, self.talkers.len());
        let mut moved = self.watch.ns();
        while next < users.end || outside < self.talkers.len() {
            let under_way = self.talkers[outside..].iter();
            let under_way = under_way.filter(|one| one.voice.stage != Stage::In).count();
            let end = users.end.min(next + at_once.saturating_sub(under_way));
            self.call(next..end)?;
            next = end;
            self.turn(Duration::from_millis(1))?;
            meanwhile(self);
            self.write_all()?;
            let before = outside;
            while self.talkers.get(outside).is_some_and(|one| one.voice.stage == Stage::In) {
                outside += 1;
            }
            if outside > before {
                moved = self.watch.ns();
            } else if self.watch.ns() > moved + PATIENCE_NS {
                let stuck = &self.talkers[outside];
                let said = String::from_utf8_lossy(&stuck.input).into_owned();
                let user = stuck.voice.user;
                return Err(self.trouble(format!("u{user} does not get in; last words: {said:?}")));
            }
        }
        Ok(())
    }

    /// Waits for at most so long, which are whole milliseconds; then reads all that has come. Fails
    /// if nothing has come for too long.
    pub(super) fn turn(&mut self, most: Duration) -> Result<(), Trouble> {
        self.heard.texts.clear();
        self.heard.taken.clear();
        match self.poll.poll(&mut self.events, Some(most)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(Trouble::Machine("cannot wait".into(), error));
            }
            Err(_) => {}
            Ok(()) if self.events.is_empty() => self.in_vain += most,
            Ok(()) => self.in_vain = Duration::ZERO,
        }
        self.interrupt.check()?;
        if self.in_vain > SILENCE {
            let seconds = SILENCE.as_secs();
            return Err(self.trouble(format!("has said nothing for {seconds} s")));
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut outcome = Ok(());
        for event in &events {
            let at = event.token().0;
            if at >= self.talkers.len() {
                continue;
            }
            if event.is_writable() {
                self.list(at);
            }
            if event.is_readable() && outcome.is_ok() {
                outcome = self.read(at);
            }
        }
        self.events = events;
        outcome
    }

    fn read(&mut self, at: usize) -> Result<(), Trouble> {
        let Talker { socket, voice, input, .. } = &mut self.talkers[at];
        let fault = loop {
            let count = match socket.read(&mut self.buffer) {
                Ok(0) => break Some("closes the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == ErrorKind::NotConnected => break None,
                Err(error) => break Some(error.to_string()),
            };
            let outcome = if input.is_empty() {
                let outcome = self.tongue.hear(&self.buffer[..count], voice, &mut self.heard);
                let used = *outcome.as_ref().unwrap_or(&count);
                input.extend_from_slice(&self.buffer[used..count]);
                outcome
            } else {
                input.extend_from_slice(&self.buffer[..count]);
                let outcome = self.tongue.hear(input, voice, &mut self.heard);
                input.drain(..*outcome.as_ref().unwrap_or(&0));
                outcome
            };
            if let Err(fault) = outcome {
                break Some(fault);
            }
            // What is not full was all there was.
            if count < self.buffer.len() {
                break None;
            }
        };
        let (speaks, user) = (!voice.output.is_empty(), voice.user);
        if speaks {
            self.list(at);
        }
        fault.map_or(Ok(()), |fault| Err(self.trouble(format!("u{user}: {fault}"))))
    }

    fn trouble(&self, what: String) -> Trouble {
        Trouble::Server(self.who, what)
    }

    fn list(&mut self, at: usize) {
        let talker = &mut self.talkers[at];
        if !talker.listed {
            talker.listed = true;
            self.listed.push(at);
        }
    }

    /// Sends a text that tells the time. Written with [`Load::write_all`].
    pub(super) fn post(&mut self, from: usize, to: usize) {
        stamp(&mut self.text, self.text_bytes, self.watch.ns());
        self.tongue.send(from, to, &self.text, &mut self.talkers[from].voice.output);
        self.sent += 1;
        self.list(from);
    }

    /// The same for all others.
    pub(super) fn broadcast(&mut self, from: usize) {
        stamp(&mut self.text, self.text_bytes, self.watch.ns());
        self.tongue.broadcast(&self.text, &mut self.talkers[from].voice.output);
        self.sent += 1;
        self.list(from);
    }

    /// Notes how long the texts that were heard in this turn took.
    pub(super) fn note(&self, latency: &mut Histogram) {
        let now = self.watch.ns();
        self.heard.texts.iter().for_each(|(_, sent)| latency.add(now.saturating_sub(*sent)));
    }

    /// Writes what there is, as far as it goes.
    pub(super) fn write_all(&mut self) -> Result<(), Trouble> {
        let listed = std::mem::take(&mut self.listed);
        for &at in &listed {
            let talker = &mut self.talkers[at];
            talker.listed = false;
            if let Err(error) = talker.write(self.poll.registry(), at) {
                let user = talker.voice.user;
                return Err(self.trouble(format!("u{user}: {error}")));
            }
        }
        self.listed = listed;
        self.listed.clear();
        Ok(())
    }
}

impl Talker {
    fn write(&mut self, registry: &mio::Registry, at: usize) -> io::Result<()> {
        let mut written = 0;
        while written < self.voice.output.len() {
            match self.socket.write(&self.voice.output[written..]) {
                Ok(count) => written += count,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => break,
                    _ => return Err(error),
                },
            }
        }
        self.voice.output.drain(..written);
        let waits = !self.voice.output.is_empty();
        if waits == self.waits {
            return Ok(());
        }
        self.waits = waits;
        let interest =
            if waits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut self.socket, Token(at), interest)
    }
}
