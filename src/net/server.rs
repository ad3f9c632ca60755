//! The server: one thread, and the turn. Wait, read, decide, commit, write, reap.

mod accept;
mod memory;
mod read;
mod secure;
mod speak;
#[cfg(test)]
mod tests;

use super::clock::Clock;
use super::guard::{Guard, Turned};
use super::network::Network;
use super::pool::Pool;
use super::ports::{NoTls, Phase, Port, Seen};
use super::saves::Saves;
use super::signals::{Wish, Wishes};
use super::tls::Certificate;
use crate::core::deadlines::Deadlines;
use crate::core::event::{Conn, End, Event, Input, Saved};
use crate::core::password::Verifier;
use crate::engine::{Engine, Load, SavePassword};
use crate::limits::{
    CERTIFICATE_LOOK_MS, LONG_TURN_MS, READ_BYTES_A_TURN, STOP_MS, TLS_HANDSHAKES_A_TURN,
    WORK_WAITS_MS,
};
use crate::proto::coded::Sheet;
use crate::proto::name::UserName;
use crate::store::disk::Disk;
use crate::time::{Millis, Now};
use log::{info, warn};
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use secure::note_no_tls;
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

const SIGNALS: Token = Token(usize::MAX);
/// The listening sockets: the first without TLS, the second with it.
const DOORS: [Token; 2] = [Token(usize::MAX - 1), Token(usize::MAX - 2)];
/// A sync is over.
const SYNCED: Token = Token(usize::MAX - 3);
/// What a connection is always asked for: bytes, and whether urgent ones are among them.
const READING: Interest = Interest::READABLE.add(Interest::PRIORITY);
/// Events taken from the kernel a turn.
const EVENTS: usize = 1024;

/// What SIGHUP does: reads the password file and reopens the log. None keeps the users as they
/// are.
pub type Reload<'a> = dyn FnMut() -> Option<Vec<(UserName, Verifier)>> + 'a;

/// What SIGHUP does besides: reads the certificate again. None keeps it as it is.
pub type Renew<'a> = dyn FnMut() -> Option<Certificate> + 'a;

/// Looks, from time to time, at the certificate that is shown: what was valid at the start expires.
pub type Inspect<'a> = dyn FnMut(&Certificate) + 'a;

/// Changes the password file, without waiting for anybody; that the file is locked is an outcome.
pub type Save<'a> = dyn FnMut(&SavePassword) -> Saved + 'a;

/// What the server asks of files.
pub struct Outside<'a> {
    /// What SIGHUP does.
    pub reload: &'a mut Reload<'a>,
    /// What it does to the certificate.
    pub renew: &'a mut Renew<'a>,
    /// What is said of the certificate.
    pub inspect: &'a mut Inspect<'a>,
    /// What `passwd` does.
    pub save: &'a mut Save<'a>,
}

/// How the server listens.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections at most.
    pub connections: usize,
    /// The networks that are exempt from caps, penalties and early drop.
    pub trusted: Vec<Network>,
    /// Bytes of buffers that all connections may have together.
    pub buffer_bytes: usize,
    /// What nobody outside knows, for the dice.
    pub seed: u64,
}

/// A listening socket.
struct Door {
    listener: TcpListener,
    token: Token,
    /// Somebody may wait in front of it.
    ready: bool,
    /// What is shown to who comes in by it; none if it is not for TLS.
    certificate: Option<Certificate>,
}

/// The listening sockets and all connections.
pub struct Server<D: Disk> {
    engine: Engine<D>,
    settings: Settings,
    poll: Poll,
    wishes: Wishes,
    /// Empty once the server stops.
    doors: Vec<Door>,
    accept_retry_at: Option<Millis>,
    /// When the certificate is looked at again.
    inspect_at: Option<Millis>,
    guard: Guard,
    turned: Turned,
    ports: Slab<Port>,
    /// Ports that may have lines for us, each at most once.
    unread: VecDeque<Conn>,
    /// Those of them whose share of this turn is used up: there is more if others leave any.
    sated: VecDeque<Conn>,
    /// Handshakes that may still be answered in this turn.
    handshakes: usize,
    /// Ports to be written this turn, each at most once.
    dirty: Vec<Conn>,
    /// Ports that were only answered, since `answered_at`. Some may have been written to already.
    answered: Vec<Conn>,
    answered_at: Millis,
    /// What the ports have to tell the rules.
    news: Vec<News>,
    gone: Vec<Conn>,
    /// Ports of whose end the rules have heard. Nobody else gets their slots before all is said
    /// that was meant for them; then they are in `over`.
    told: usize,
    over: Vec<Conn>,
    deadlines: Deadlines,
    saves: Saves,
    buffer: Vec<u8>,
    pool: Pool,
    sheet: Sheet,
    /// Bytes that the ports' buffers take, as of the last time each was touched.
    weight: usize,
    stop_at: Option<Millis>,
    /// What long turns have taken: time in which nobody could be heard is nobody's.
    waited_ms: u64,
}

#[derive(Debug)]
enum News {
    Acknowledged(Conn, u32),
    Drained(Conn),
    Closed(Conn, End),
}

impl<D: Disk> Server<D> {
    /// A server on a listening socket.
    ///
    /// # Errors
    /// If the poll or the signals cannot be set up.
    pub fn new(
        mut engine: Engine<D>,
        listener: TcpListener,
        settings: Settings,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        if let Some(bell) = engine.sync_in_background() {
            let mut bell = SourceFd(&bell.as_raw_fd());
            poll.registry().register(&mut bell, SYNCED, Interest::READABLE)?;
        } else if engine.syncs() {
            info!("the kernel takes no sync in the background: all wait for each");
        }
        let wishes = Wishes::register(poll.registry(), SIGNALS)?;
        let mut server = Self {
            engine,
            guard: Guard::new(settings.seed),
            turned: Turned::default(),
            // As long as it may get, as the table of sessions.
            ports: Slab::with_capacity(settings.connections),
            settings,
            poll,
            wishes,
            doors: Vec::new(),
            accept_retry_at: None,
            inspect_at: None,
            unread: VecDeque::new(),
            sated: VecDeque::new(),
            handshakes: 0,
            dirty: Vec::new(),
            answered: Vec::new(),
            answered_at: Millis(0),
            news: Vec::new(),
            gone: Vec::new(),
            told: 0,
            over: Vec::new(),
            deadlines: Deadlines::default(),
            saves: Saves::default(),
            buffer: vec![0; READ_BYTES_A_TURN],
            pool: Pool::default(),
            sheet: Sheet::default(),
            weight: 0,
            stop_at: None,
            waited_ms: 0,
        };
        server.add_door(listener, None)?;
        Ok(server)
    }

    /// Listens on one more socket, for TLS.
    ///
    /// # Errors
    /// If the poll cannot be told of it.
    pub fn listen_for_tls(
        &mut self,
        listener: TcpListener,
        certificate: Certificate,
    ) -> io::Result<()> {
        // At the start it was looked at.
        self.inspect_at = Some(Millis(CERTIFICATE_LOOK_MS));
        self.add_door(listener, Some(certificate))
    }

    fn add_door(
        &mut self,
        mut listener: TcpListener,
        certificate: Option<Certificate>,
    ) -> io::Result<()> {
        let token = DOORS[usize::from(certificate.is_some())];
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.doors.push(Door { listener, token, ready: true, certificate });
        Ok(())
    }

    /// Serves until a signal asks to stop; then everyone has been told and the journal is ended.
    ///
    /// # Errors
    /// If the journal cannot be written: nothing that it does not hold was said.
    pub fn run(mut self, clock: &Clock, mut outside: Outside<'_>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = clock.now();
        loop {
            self.wait(&mut events, now)?;
            now = self.turn_by(&|| clock.now(), &mut events, &mut outside)?;
            let told_all = self.ports.is_empty() && self.news.is_empty();
            if self.stop_at.is_some_and(|at| told_all || at <= now.mono) {
                break;
            }
        }
        self.engine.stop(now)?;
        info!("stopped");
        log::logger().flush();
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, now: Now) -> io::Result<()> {
        if !self.answered.is_empty() && self.answer(events, now.mono)? {
            return Ok(());
        }
        let timeout = self.timeout(now.mono);
        self.look(events, timeout)
    }

    /// How long may be waited for events.
    fn timeout(&self, now: Millis) -> Option<Duration> {
        let busy = !self.unread.is_empty()
            || !self.news.is_empty()
            || !self.gone.is_empty()
            || self.doors.iter().any(|door| door.ready);
        let nearest = [
            self.engine.deadline(),
            self.deadlines.nearest(),
            self.saves.deadline(),
            self.accept_retry_at,
            self.inspect_at,
            self.turned.deadline(),
            self.stop_at,
        ];
        match nearest.into_iter().flatten().min() {
            _ if busy => Some(Duration::ZERO),
            // A millisecond more, for the clock is rounded down.
            Some(at) if at > now => Some(Duration::from_millis(at.since(now) + 1)),
            // Work of ours, such as checks of passwords, would keep the processor from the worker
            // of the kernel that sees to the sync: it would take milliseconds.
            Some(_) if self.engine.is_syncing() => Some(Duration::from_millis(WORK_WAITS_MS)),
            Some(_) => Some(Duration::ZERO),
            None => None,
        }
    }

    fn look(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// A turn as of now, if one that waits for the disk takes no time. Tells when that was.
    fn turn_by(
        &mut self,
        clock: &dyn Fn() -> Now,
        events: &mut Events,
        outside: &mut Outside<'_>,
    ) -> io::Result<Now> {
        let now = self.without_waits(clock());
        self.turn(events, now, outside)?;
        let took_ms = self.without_waits(clock()).mono.since(now.mono);
        if took_ms >= LONG_TURN_MS {
            warn!("all had to wait for {took_ms} ms, for the disk or the processor");
            self.waited_ms += took_ms;
        }
        Ok(now)
    }

    fn without_waits(&self, now: Now) -> Now {
        Now { mono: Millis(now.mono.since(Millis(self.waited_ms))), ..now }
    }

    fn turn(&mut self, events: &mut Events, now: Now, outside: &mut Outside<'_>) -> io::Result<()> {
        for news in std::mem::take(&mut self.news) {
            self.tell(&news, now);
        }
        self.handshakes = TLS_HANDSHAKES_A_TURN;
        self.heed(events, now, outside);
        if self.engine.has_much_to_say() {
            // Writing it takes longer than a look at what has come meanwhile, and to whom that is
            // said as well is then written to once.
            self.look(events, Some(Duration::ZERO))?;
            self.heed(events, now, outside);
        }
        self.tell_turned(now.mono);
        self.inspect(now.mono, outside.inspect);
        while let Some(conn) = self.deadlines.due(now.mono) {
            self.due(conn, now.mono);
        }
        // The rules hear of it before anybody can read the file again.
        if let Some((change, saved)) = self.saves.try_next(now.mono, outside.save) {
            self.engine.handle(Event::PasswordSaved { change, saved }, now);
        }
        if self.engine.deadline().is_some_and(|at| at <= now.mono) {
            self.engine.tick(now);
        }
        self.engine.commit()?;
        self.speak(now.mono)?;
        self.free(now.mono);
        self.write(now.mono);
        self.shed();
        self.reap(now.mono);
        let idle = self.unread.is_empty() && self.news.is_empty();
        self.engine.prepare(now, if idle { Load::Idle } else { Load::Busy })?;
        log::logger().flush();
        Ok(())
    }

    /// Reads what has come, and decides.
    fn heed(&mut self, events: &Events, now: Now, outside: &mut Outside<'_>) {
        for event in events {
            match event.token() {
                SIGNALS => self.obey(now, outside),
                // The commit looks.
                SYNCED => {}
                token if DOORS.contains(&token) => self.knock(token),
                Token(key) => self.ready(key, event),
            }
        }
        self.accept(now);
        self.read_all(now);
    }

    fn tell(&mut self, news: &News, now: Now) {
        let event = match *news {
            News::Acknowledged(conn, through) => {
                if let Some(port) = self.ports.get_mut(key(conn)) {
                    // Lines that this turn's events bring may have been sent before.
                    port.unproved = Some(through);
                    queue(&mut self.unread, conn, port);
                }
                Event::Acknowledged { conn, through, input: Input::Waiting }
            }
            News::Drained(conn) => Event::Drained { conn },
            News::Closed(conn, end) => {
                self.told += 1;
                if self.ports.get(key(conn)).is_none_or(|port| !port.known) {
                    return self.over.push(conn);
                }
                Event::Closed { conn, end }
            }
        };
        self.engine.handle(event, now);
    }

    fn obey(&mut self, now: Now, outside: &mut Outside<'_>) {
        let wishes: Vec<Wish> = self.wishes.take().collect();
        if wishes.contains(&Wish::Reload) {
            if let Some(entries) = (outside.reload)() {
                self.engine.handle(Event::Reloaded { entries }, now);
            }
            self.renew(outside.renew);
        }
        if wishes.contains(&Wish::Stop) && self.stop_at.is_none() {
            info!("stopping");
            self.stop_at = Some(now.mono.plus(STOP_MS));
            self.doors = Vec::new();
            self.give_up_handshakes();
            self.engine.handle(Event::Stopping, now);
        }
    }

    fn ready(&mut self, key: usize, event: &mio::event::Event) {
        let Some(port) = self.ports.get_mut(key) else { return };
        let conn = Conn(u32::try_from(key).expect("there are at most 50,000"));
        if event.is_error() {
            port.check_error();
            enlist(&mut self.dirty, conn, &mut port.dirty);
        }
        if event.is_readable() || event.is_read_closed() {
            port.readable = true;
            port.reads_on |= event.is_read_closed() || event.is_priority();
            queue(&mut self.unread, conn, port);
        }
        if event.is_writable() && port.wants_write {
            enlist(&mut self.dirty, conn, &mut port.dirty);
        }
    }

    fn due(&mut self, conn: Conn, now: Millis) {
        let Some(port) = self.ports.get_mut(key(conn)) else { return };
        port.armed.fired();
        if matches!(port.phase, Phase::Handshaking { until } if until <= now) {
            note_no_tls(&port.stream, &NoTls::TooSlow);
        }
        if let Seen::Acknowledged(through) = port.due(now) {
            self.news.push(News::Acknowledged(conn, through));
        }
        // What follows from it, and its next deadline, is seen to with the writing.
        enlist(&mut self.dirty, conn, &mut port.dirty);
    }
}

fn key(conn: Conn) -> usize {
    conn.0 as usize
}

fn queue(unread: &mut VecDeque<Conn>, conn: Conn, port: &mut Port) {
    if !std::mem::replace(&mut port.queued, true) {
        unread.push_back(conn);
    }
}

fn enlist(dirty: &mut Vec<Conn>, conn: Conn, flag: &mut bool) {
    if !std::mem::replace(flag, true) {
        dirty.push(conn);
    }
}
