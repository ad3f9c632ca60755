//! The server, the network and the machines of a joined simulation, and what happens to them.
//!
//! Whoever steps through it decides who goes first: bytes move, the server has a turn and each
//! companion thinks, prints, tells and says only when asked to. `settle` does all of it until
//! nothing is left to do at this instant; `pass` lets time go by, from deadline to deadline.

use super::client::{Client, Start, verifier};
use super::ledger::{Ledger, Message, Shown};
use crate::support::model::name;
use crate::support::port::{News, Port, receiver};
use crate::support::rng::Rng;
use crate::support::sim_disk::{Aftermath, SimDisk};
use mms::client::desk::{Desk, Wish};
use mms::client::model::End as Ended;
use mms::client::oneshot::Trouble;
use mms::client::screen::Tone;
use mms::core::event::{Conn, End, Event, Trust};
use mms::core::hub::Rules;
use mms::core::password::Verifier;
use mms::engine::{Engine, Load};
use mms::limits;
use mms::proto::name::UserName;
use mms::scram::Channel;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};

pub const USERS: usize = 3;
/// The user of each device: u0 has two.
pub const DEVICES: [usize; 4] = [0, 1, 2, 0];
/// Turns at one instant, after which somebody spins.
const TURNS: usize = 20_000;
/// A companion that has lost its server waits at least so long, in milliseconds.
const PAUSE_MS: u64 = 500;

/// How a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Both ends hear of it; of what is on its way a part still arrives.
    Both,
    /// The server never hears of it.
    ServerUnaware,
    /// The client never hears of it.
    ClientUnaware,
    /// Nobody does.
    Silent,
}

/// Who is told of the end of a connection, behind the bytes that still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    Orderly,
    Reset,
}

/// A connection between two machines.
struct Cable {
    device: usize,
    /// To the server, to the client.
    up: Vec<u8>,
    down: Vec<u8>,
    up_end: Option<Close>,
    down_end: bool,
    /// The client's end is still there.
    client: bool,
    /// Nothing goes to the server any more, nothing to the client.
    up_dead: bool,
    down_dead: bool,
}

pub struct World {
    pub rng: Rng,
    pub now: Now,
    pub disk: SimDisk,
    pub engine: Option<Engine<SimDisk>>,
    pub rules: Rules,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    /// Which password each user has.
    pub passwords: [usize; USERS],
    /// Servers crash now and then while they start, and companions between two deeds.
    pub restless: bool,
    /// Companions do nothing unless they are asked to.
    pub by_hand: bool,
    /// Nobody looks at these devices: what is on their paper stays there.
    pub unseen: BTreeSet<usize>,
    /// Somebody else listens in the server's place, and says this.
    pub stranger: Option<&'static str>,
    /// How often a connection was asked for.
    pub knocks: u32,
    ports: BTreeMap<u32, Port>,
    cables: BTreeMap<u32, Cable>,
    news: Vec<News>,
    connections: u32,
    trace: Vec<String>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let rules = Rules { password_rounds: limits::ROUNDS_LEAST, ..Rules::default() };
        let devices = DEVICES.iter().enumerate();
        let mut ledger = Ledger::default();
        // Numbers begin with 1.
        ledger.messages.push(Message::default());
        let disk = SimDisk::new();
        if seed.is_multiple_of(2) {
            disk.take_time(Some(Rng::new(seed)));
        }
        Self {
            rng: Rng::new(seed),
            now: Now { mono: Millis(1), unix_ms: 1_790_000_000_001 },
            disk,
            engine: None,
            rules,
            clients: devices.map(|(device, &user)| Client::new(device, user)).collect(),
            ledger,
            passwords: [0; USERS],
            restless: false,
            by_hand: false,
            unseen: BTreeSet::new(),
            stranger: None,
            knocks: 0,
            ports: BTreeMap::new(),
            cables: BTreeMap::new(),
            news: vec![],
            connections: 0,
            trace: vec![],
        }
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.trace.push(format!("{:>9} {}", self.now.mono.0, what.into()));
    }

    pub fn fail(&self, what: &str) -> ! {
        let from = self.trace.len().saturating_sub(200);
        panic!("{what}; the run ended so:\n{}", self.trace[from..].join("\n"));
    }

    pub fn hold(&self, result: Result<(), String>) {
        result.unwrap_or_else(|what| self.fail(&what));
    }
}

/// The server.
impl World {
    /// Starts the server; it may crash while it recovers, and is started again.
    pub fn start_server(&mut self) {
        for attempt in 0.. {
            if self.restless && attempt < 3 && self.rng.one_in(6) {
                let step = self.disk.steps() + 1 + self.rng.below(12) as u64;
                self.disk.crash_at(step);
            }
            let config = Config { segment_bytes: 6000, ..Config::with_reserve(Sync::Always, 0) };
            let (entries, rng) = (self.entries(), &mut self.rng);
            let mut entropy = |bytes: &mut [u8]| {
                rng.fill(bytes);
                Ok(())
            };
            let (disk, rules) = (self.disk.clone(), self.rules.clone());
            match Engine::open(disk, config, rules, entries, self.now, &mut entropy) {
                Ok((engine, recovery)) => {
                    assert_eq!(recovery.lost_bytes, 0, "a crash damages nothing that was synced");
                    self.engine = Some(engine);
                    return self.note("the server has started");
                }
                Err(e) => {
                    assert!(self.disk.crashed(), "the spool opens: {e}");
                    let aftermath = self.aftermath();
                    self.disk.restart(aftermath, &mut self.rng);
                }
            }
        }
    }

    fn entries(&self) -> Vec<(UserName, Verifier)> {
        (0..USERS).map(|user| (name(user), verifier(self.passwords[user]))).collect()
    }

    pub fn aftermath(&mut self) -> Aftermath {
        let all = [Aftermath::ProcessOnly, Aftermath::LoseAll, Aftermath::KeepAll, Aftermath::Torn];
        *self.rng.pick(&all)
    }

    /// The server is gone. What it has said before may arrive, in part.
    pub fn kill_server(&mut self, aftermath: Aftermath) {
        self.note(format!("the server is gone, {aftermath:?}"));
        self.engine = None;
        self.ports.clear();
        self.news.clear();
        for cable in self.cables.values_mut().filter(|cable| !cable.down_end) {
            let left = self.rng.below(cable.down.len() + 1);
            cable.down.truncate(left);
            cable.up.clear();
            (cable.up_dead, cable.down_end) = (true, true);
        }
        self.disk.restart(aftermath, &mut self.rng);
        if aftermath == Aftermath::Torn {
            self.ledger.power_cut();
        }
    }

    /// The spool is lost with all that is in it.
    pub fn lose_spool(&mut self) {
        self.kill_server(Aftermath::ProcessOnly);
        self.note("the spool is lost");
        self.disk = SimDisk::new();
        // The new machine's clock may be behind: then its letters have lesser ids.
        self.now.unix_ms -= *self.rng.pick(&[0, 0, 1_000_000]);
        self.ledger.spool_lost();
    }

    pub fn change_password(&mut self, user: usize) {
        self.passwords[user] += 1;
        self.note(format!("u{user} has another password"));
        let entries = self.entries();
        if let Some(engine) = &mut self.engine {
            engine.handle(Event::Reloaded { entries }, self.now);
        }
    }

    /// One turn, as `net/server.rs` makes it. True if something was done.
    pub fn turn(&mut self) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        let mut busy = !self.news.is_empty();
        for news in std::mem::take(&mut self.news) {
            let event = news.event(|_| unreachable!("nobody in here changes his password"));
            if let Event::Closed { conn, .. } = event {
                self.ports.remove(&conn.0);
            }
            engine.handle(event, self.now);
        }
        if engine.deadline().is_some_and(|at| at <= self.now.mono) {
            engine.tick(self.now);
            busy = true;
        }
        let early = engine.release(|output| panic!("said before it was durable: {output:?}"));
        early.expect("nothing was released, so nothing failed");
        let mut resumed = vec![];
        let spoken = engine.commit().and_then(|()| {
            let (ports, news) = (&mut self.ports, &mut self.news);
            engine.release(|output| {
                busy = true;
                let conn = receiver(&output).expect("nobody in here changes his password");
                let port = ports.get_mut(&conn.0).filter(|port| !port.gone);
                if port.is_some_and(|port| port.speak(output, news)) {
                    resumed.push(conn);
                }
            })?;
            engine.prepare(self.now, Load::Idle)
        });
        busy |= self.disk.is_syncing();
        if spoken.is_err() {
            assert!(self.disk.crashed(), "no disk fails by itself");
            let aftermath = self.aftermath();
            self.kill_server(aftermath);
            return true;
        }
        for Conn(conn) in resumed {
            if let (Some(port), Some(engine)) = (self.ports.get_mut(&conn), &mut self.engine) {
                port.lines(engine, self.now);
            }
        }
        for (conn, port) in &mut self.ports {
            let said = port.take_out();
            let Some(cable) = self.cables.get_mut(conn) else { continue };
            if !cable.down_dead && !cable.down_end {
                cable.down.extend(said);
                cable.down_end = port.gone;
            }
        }
        busy
    }
}

/// The network.
impl World {
    /// A client that waits for a connection gets one, or hears that there is no server.
    pub fn connect(&mut self, device: usize) {
        let client = &mut self.clients[device];
        let Some(desk) = client.desk.as_mut().filter(|_| client.connecting) else { return };
        client.connecting = false;
        self.knocks += 1;
        if self.engine.is_none() && self.stranger.is_none() {
            let refused = Error::from(ErrorKind::ConnectionRefused);
            let refused = Trouble::Unreachable(refused);
            desk.model.unreachable(refused, self.now.mono);
            self.note(format!("{device} is refused"));
            return self.work(device);
        }
        self.connections += 1;
        let conn = self.connections;
        if let Some(engine) = &mut self.engine {
            let (conn, address) = (Conn(conn), IpAddr::V4(Ipv4Addr::LOCALHOST));
            engine.handle(Event::Opened { conn, address, trust: Trust::Trusted }, self.now);
            self.ports.insert(conn.0, Port::new(conn));
        }
        let cable = Cable {
            device,
            up: vec![],
            down: self.stranger.unwrap_or_default().into(),
            up_end: None,
            down_end: false,
            client: true,
            up_dead: false,
            down_dead: false,
        };
        self.cables.insert(conn, cable);
        client.conn = Some(conn);
        let mut entropy = [0; 24];
        self.rng.fill(&mut entropy);
        let entropy = entropy.first_chunk().expect("it is long enough");
        desk.model.connected(entropy, Channel::Plain, self.now.mono);
        self.note(format!("{device} has connection {conn}"));
        self.work(device);
    }

    pub fn cables(&self) -> Vec<u32> {
        self.cables.keys().copied().collect()
    }

    pub fn conn(&self, device: usize) -> Option<u32> {
        self.clients[device].conn
    }

    /// What is on its way to the client of this connection.
    pub fn on_the_way_down(&self, conn: u32) -> String {
        let bytes = self.cables.get(&conn).map(|cable| &cable.down[..]);
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    }

    /// Up to so many bytes reach the server; behind the last one it hears of the end.
    pub fn carry_up(&mut self, conn: u32, count: usize) -> bool {
        let Some(cable) = self.cables.get_mut(&conn) else { return false };
        let bytes: Vec<u8> = cable.up.drain(..count.min(cable.up.len())).collect();
        let end = if cable.up.is_empty() { cable.up_end.take() } else { None };
        let here = self.ports.get_mut(&conn).filter(|port| !port.gone);
        let (Some(port), Some(engine)) = (here, &mut self.engine) else {
            return !bytes.is_empty();
        };
        if cable.up_dead {
            return false;
        }
        if !bytes.is_empty() {
            port.take(&bytes, engine, self.now);
        }
        if end == Some(Close::Orderly) {
            port.closed = true;
            port.lines(engine, self.now);
        }
        if end == Some(Close::Reset) {
            port.gone = true;
            self.news.push(News::Closed(Conn(conn), End::Broken));
        }
        !bytes.is_empty() || end.is_some()
    }

    /// Up to so many bytes reach the client; behind the last one it hears of the end.
    pub fn carry_down(&mut self, conn: u32, count: usize) -> bool {
        let Some(cable) = self.cables.get_mut(&conn) else { return false };
        let bytes: Vec<u8> = cable.down.drain(..count.min(cable.down.len())).collect();
        let ends = cable.down.is_empty() && cable.down_end && !cable.down_dead;
        let device = cable.device;
        let here = self.clients[device].conn == Some(conn) && cable.client;
        if here && !bytes.is_empty() {
            self.input(device, |desk, now| desk.model.receive(&bytes, now));
        }
        if ends && here && self.clients[device].conn == Some(conn) {
            self.input(device, |desk, now| desk.model.gone(now));
        }
        if ends {
            let client = &mut self.clients[device];
            client.conn = client.conn.filter(|&its| its != conn);
            let cable = self.cables.get_mut(&conn).expect("it was just looked at");
            cable.client = false;
            if cable.up_dead || !self.ports.contains_key(&conn) {
                self.cables.remove(&conn);
            }
        }
        !bytes.is_empty() || (ends && here)
    }

    /// A client says something on this connection.
    pub fn carry_off(&mut self, conn: u32, said: &[u8]) {
        if let Some(cable) = self.cables.get_mut(&conn)
            && !cable.up_dead
            && cable.up_end.is_none()
        {
            cable.up.extend(said);
        }
    }

    pub fn lose(&mut self, conn: u32, loss: Loss) {
        let Some(cable) = self.cables.get_mut(&conn) else { return };
        let (up, down) = (self.rng.below(cable.up.len() + 1), self.rng.below(cable.down.len() + 1));
        self.lose_at(conn, loss, up, down);
    }

    /// Loses a connection when so many of the bytes on their way have still arrived.
    pub fn lose_at(&mut self, conn: u32, loss: Loss, up: usize, down: usize) {
        self.note(format!("connection {conn} is lost, {loss:?}"));
        let Some(cable) = self.cables.get_mut(&conn) else { return };
        cable.up.truncate(up);
        cable.down.truncate(down);
        if matches!(loss, Loss::Both | Loss::ServerUnaware) {
            cable.down_end = true;
        } else {
            cable.down_dead = true;
        }
        if matches!(loss, Loss::Both | Loss::ClientUnaware) {
            cable.up_end = Some(Close::Reset);
        } else {
            self.carry_up(conn, usize::MAX);
            if let Some(port) = self.ports.get_mut(&conn) {
                port.silent = true;
            }
            if let Some(cable) = self.cables.get_mut(&conn) {
                cable.up_dead = true;
            }
        }
    }

    /// The client's end is closed: in order if it has read everything, else by a reset that may
    /// overtake what it said last.
    pub fn hang_up(&mut self, device: usize) {
        let Some(conn) = self.clients[device].conn.take() else { return };
        let Some(cable) = self.cables.get_mut(&conn) else { return };
        cable.client = false;
        if cable.down.is_empty() {
            cable.up_end = Some(Close::Orderly);
        } else {
            let left = self.rng.below(cable.up.len() + 1);
            cable.up.truncate(left);
            cable.up_end = Some(Close::Reset);
        }
    }
}

/// Time, and all at once.
impl World {
    /// Everything that can happen at this instant happens.
    pub fn settle(&mut self) {
        for _ in 0..TURNS {
            let mut busy = false;
            for conn in self.cables() {
                busy |= self.carry_up(conn, usize::MAX);
            }
            busy |= self.turn();
            for conn in self.cables() {
                busy |= self.carry_down(conn, usize::MAX);
            }
            for device in 0..self.clients.len() {
                let connecting = self.clients[device].connecting;
                self.connect(device);
                busy |= connecting | self.is_due(device) | self.think(device);
                if !self.unseen.contains(&device) {
                    busy |= self.print(device, usize::MAX) | self.tell(device);
                }
                busy |= self.say(device);
            }
            if !busy {
                return;
            }
        }
        self.fail("it never ends");
    }

    /// A companion that has something to do at this instant, such as work on a password, does it.
    fn is_due(&mut self, device: usize) -> bool {
        let now = self.now.mono;
        let Some(desk) = &mut self.clients[device].desk else { return false };
        let is_due = desk.model.deadline().is_some_and(|at| at <= now);
        if is_due {
            desk.model.tick(now);
        }
        is_due
    }

    /// What is on its way to the server arrives, and so do its answers.
    pub fn turn_and_carry(&mut self) {
        for conn in self.cables() {
            self.carry_up(conn, usize::MAX);
        }
        while self.turn() {}
        for conn in self.cables() {
            self.carry_down(conn, usize::MAX);
        }
    }

    /// When something is due next.
    pub fn deadline(&self) -> Option<Millis> {
        let engine = self.engine.as_ref().and_then(Engine::deadline);
        let desks = self.clients.iter().filter_map(|client| client.desk.as_ref());
        let all = desks.filter_map(|desk| desk.model.deadline()).chain(engine);
        // A program that leaves waits for good.
        all.filter(|&at| at < Millis(u64::MAX)).min()
    }

    /// The clocks go on; what is due at the companions is done.
    pub fn tick(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(ms);
        self.now.unix_ms += ms;
        for device in 0..self.clients.len() {
            self.input(device, |desk, now| desk.model.tick(now));
        }
    }

    /// Goes on to what is due next, if that is soon enough, and lets it happen.
    pub fn skip(&mut self, most_ms: u64) {
        let left = self.deadline().map_or(most_ms, |at| at.since(self.now.mono));
        self.tick(left.clamp(1, most_ms.max(1)));
        self.settle();
    }

    pub fn pass(&mut self, ms: u64) {
        let until = self.now.mono.plus(ms);
        self.settle();
        while self.now.mono < until {
            self.skip(until.since(self.now.mono));
        }
    }

    /// Lets time go by until this is so.
    pub fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        self.settle();
        for _ in 0..1000 {
            if so(self) {
                return;
            }
            self.skip(60_000);
        }
        self.fail(&format!("it never comes to this: {what}"));
    }
}

/// How it ends.
impl World {
    /// All is well again, and everyone leaves once all he has typed is answered. Then each device
    /// is started twice: what was promised has been shown, and the second time there is nothing.
    pub fn drain(&mut self) {
        self.note("drain");
        self.restless = false;
        self.disk.crash_at(u64::MAX);
        for client in &self.clients {
            client.disk.crash_at(u64::MAX);
        }
        if self.engine.is_none() {
            self.start_server();
        }
        for _ in 0..1000 {
            self.settle();
            let running = (0..DEVICES.len()).filter(|&d| self.clients[d].desk.is_some());
            let running: Vec<usize> = running.collect();
            if running.is_empty() {
                break;
            }
            for device in running {
                let client = &self.clients[device];
                let asleep = !client.signed_in && !client.connecting && client.conn.is_none();
                if client.is_quiet() && (client.signed_in || asleep) {
                    self.leave(device);
                }
            }
            self.settle();
            self.skip(60_000);
        }
        if self.clients.iter().any(|client| client.desk.is_some()) {
            self.fail("a companion never ends");
        }
        // Old passwords may have been tried too often.
        self.pass(limits::BLOCK_TIME_S * 1000 + 1000);
        for round in 0..2 {
            let before = self.ledger.marked + self.ledger.unmarked;
            for device in 0..DEVICES.len() {
                self.start(device);
                self.until("signed in", |world| world.clients[device].signed_in);
                self.leave(device);
                self.until("left", |world| world.clients[device].desk.is_none());
                assert_eq!(self.clients[device].ended.as_deref(), Some("left"));
                self.settle();
            }
            if round == 1 && self.ledger.marked + self.ledger.unmarked != before {
                self.fail("what everyone had was shown once more");
            }
        }
        let kept = self.ledger.check();
        self.hold(kept);
    }

    /// Users whose companions are signed in.
    pub fn online(&self) -> BTreeSet<usize> {
        self.clients.iter().filter(|client| client.signed_in).map(|client| client.user).collect()
    }
}
