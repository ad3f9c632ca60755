//! The hot paths without a kernel: the engine on a disk in memory, lines in, bytes out. Run under
//! callgrind by `scripts/instructions`, which compares how many instructions each takes with what
//! is recorded; a clock has nothing to say here.
//!
//! ```text
//! instructions list             a line for each path: its name, and how many things a unit does
//! instructions <path> <units>   does so many units
//! ```
//!
//! What a start costs is in every run, so it takes the difference of two to know what a unit costs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::{memchr_iter, memrchr};
use mms::core::event::{Conn, End, Event, Flow, Input, Trust};
use mms::core::hub::Rules;
use mms::core::password::Verifier;
use mms::engine::{Engine, Load, Output};
use mms::proto::coded::{self, Sheet};
use mms::proto::line::{Frame, Framer};
use mms::proto::name::UserName;
use mms::proto::plain;
use mms::proto::reply::Reply;
use mms::scram::{Channel, ClientExchange, Keys, Secret};
use mms::store::disk::Disk;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::OnceLock;

type MemoryFile = Rc<RefCell<Vec<u8>>>;

/// A directory in memory. A clone is the same one.
#[derive(Clone, Default)]
struct MemoryDisk(Rc<RefCell<BTreeMap<String, MemoryFile>>>);

impl MemoryDisk {
    /// A copy that nothing else changes.
    fn fork(&self) -> Self {
        let copy = |(name, file): (&String, &MemoryFile)| {
            (name.clone(), Rc::new(RefCell::new(file.borrow().clone())))
        };
        Self(Rc::new(RefCell::new(self.0.borrow().iter().map(copy).collect())))
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }

    fn create(&mut self, name: &str) -> io::Result<MemoryFile> {
        let file = MemoryFile::default();
        match self.0.borrow_mut().insert(name.into(), file.clone()) {
            None => Ok(file),
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    fn open(&mut self, name: &str) -> io::Result<MemoryFile> {
        self.0.borrow().get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn len(&mut self, file: &MemoryFile) -> io::Result<u64> {
        Ok(file.borrow().len() as u64)
    }

    fn read_at(&mut self, file: &MemoryFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let file = file.borrow();
        let rest = file.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&mut self, file: &MemoryFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut file, offset) = (file.borrow_mut(), offset as usize);
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, file: &MemoryFile, bytes: u64) -> io::Result<()> {
        file.borrow_mut().truncate(bytes as usize);
        Ok(())
    }

    fn sync_data(&mut self, _: &MemoryFile) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.borrow_mut();
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

const PASSWORD: &[u8] = b"secret";
const SALT: &[u8] = b"salt of a measurement";
const ROUNDS: u32 = 4096;

/// What the password of all users becomes; worked out once, as it costs more than all else.
fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys::derive(PASSWORD, SALT, ROUNDS))
}

fn open(disk: MemoryDisk, users: usize) -> Engine<MemoryDisk> {
    let verifier = Verifier::parse(&keys().verifier());
    let verifier = verifier.expect("our own is well formed");
    let user = |n| UserName::new(&format!("u{n}")).expect("our own are well formed");
    let entries = (0..users).map(|n| (user(n), verifier.clone())).collect();
    let rules = Rules {
        idle_timeout_s: 0,
        mailbox_letters: usize::MAX,
        mailbox_bytes: u64::MAX,
        password_rounds: ROUNDS,
        ..Rules::default()
    };
    // Room that is kept ready is zeros, which would be most of what is counted.
    let config = Config::with_reserve(Sync::Never, 0);
    let mut entropy = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let opened = Engine::open(disk, config, rules, entries, NOW, &mut entropy);
    opened.expect("memory does not fail").0
}

const NOW: Now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };

/// One connection: what came and is not handed over yet, and what was said to it.
#[derive(Default)]
struct Port {
    framer: Framer,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    /// Lines said so far.
    said: u32,
    /// It is to be told when all of it is written.
    watched: bool,
    held: bool,
    coded: bool,
}

/// A server without its loop.
struct World {
    engine: Engine<MemoryDisk>,
    ports: Vec<Port>,
    resumed: Vec<Conn>,
    sheet: Sheet,
}

impl World {
    fn new(disk: MemoryDisk, users: usize) -> Self {
        let (ports, resumed, sheet) = (vec![], vec![], Sheet::default());
        Self { engine: open(disk, users), ports, resumed, sheet }
    }

    fn connect(&mut self) -> usize {
        let at = self.ports.len();
        let conn = Conn(at as u32);
        self.ports.push(Port::default());
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.engine.handle(Event::Opened { conn, address, trust: Trust::Trusted }, NOW);
        at
    }

    /// Somebody says something, which is handled with what others say in this turn.
    fn say(&mut self, at: usize, bytes: &[u8]) {
        let conn = Conn(at as u32);
        self.engine.handle(Event::Stirred { conn }, NOW);
        self.ports[at].input.extend_from_slice(bytes);
        self.lines(at);
    }

    fn lines(&mut self, at: usize) {
        let (conn, port) = (Conn(at as u32), &mut self.ports[at]);
        while !port.held {
            let limits = self.engine.limits(conn);
            let (used, frame) = port.framer.next(&port.input[port.used..], limits);
            let flow = match frame {
                None => break,
                Some(Frame::Line(line)) => {
                    self.engine.handle(Event::Line { conn, line, body: None }, NOW)
                }
                Some(other) => panic!("nobody says that: {other:?}"),
            };
            port.used += used;
            port.held = flow == Flow::Hold;
        }
        if port.used == port.input.len() {
            port.input.clear();
            port.used = 0;
        }
    }

    /// The end of a turn: durable, said, and room made ready.
    fn turn(&mut self) {
        self.engine.tick(NOW);
        self.engine.commit().expect("memory does not fail");
        let Self { engine, ports, resumed, sheet } = self;
        let said = engine.release(|output| match output {
            Output::Say(conn, tag, reply) => {
                let port = &mut ports[conn.0 as usize];
                port.said += 1;
                port.coded |= matches!(reply, Reply::Switched(_));
                match port.coded {
                    true => coded::render(reply, tag, &mut port.output),
                    false => plain::render(reply, &mut port.output),
                }
            }
            Output::Letter(conn, letter) => {
                sheet.push(letter, &mut ports[conn.0 as usize].output);
            }
            Output::Show { conn, from, body, showing } => {
                let port = &mut ports[conn.0 as usize];
                port.said += 1;
                plain::letter(from.as_str(), body, showing, &mut port.output);
            }
            Output::Watch(conn) => ports[conn.0 as usize].watched = true,
            Output::Resume(conn) => resumed.push(conn),
            _ => {}
        });
        said.expect("memory does not fail");
        self.engine.prepare(NOW, Load::Busy).expect("memory does not fail");
        for conn in std::mem::take(&mut self.resumed) {
            self.ports[conn.0 as usize].held = false;
            self.lines(conn.0 as usize);
        }
    }

    fn heard(&self, at: usize) -> &str {
        str::from_utf8(&self.ports[at].output).expect("all that is said is text")
    }

    fn forget(&mut self) {
        self.ports.iter_mut().for_each(|port| port.output.clear());
    }

    /// Connects and signs in by SCRAM.
    fn sign_in(&mut self, user: usize, kind: &str) -> usize {
        let at = self.connect();
        let (mut exchange, first) =
            ClientExchange::begin(&format!("u{user}"), "noncenonce", Channel::Plain);
        let first = STANDARD.encode(first);
        self.say(at, format!("coded 1\r\nsignin u{user} {kind} scram {first}\r\n").as_bytes());
        self.turn();
        let challenge = self.heard(at).trim_end().rsplit(' ').next().unwrap_or_default();
        let challenge = STANDARD.decode(challenge).expect("a challenge is base64");
        let challenge = String::from_utf8(challenge).expect("a challenge is text");
        exchange.answer(&challenge, Secret::Keys(keys())).expect("it is for us");
        let proof = exchange.work(0).expect("kept keys need no work");
        self.say(at, format!("auth {}\r\n", STANDARD.encode(proof)).as_bytes());
        self.turn();
        assert!(self.heard(at).contains("\n230 "), "{}", self.heard(at));
        at
    }

    fn sign_in_plain(&mut self, user: usize) -> usize {
        let at = self.connect();
        self.say(at, format!("signin u{user} secret\r\n").as_bytes());
        while !self.heard(at).contains("Welcome u") {
            self.turn();
        }
        at
    }

    /// The kernel of somebody's machine has all that was said to him.
    fn arrive(&mut self, at: usize) {
        let (conn, port) = (Conn(at as u32), &mut self.ports[at]);
        let (through, input) = (port.said, Input::Taken);
        self.engine.handle(Event::Acknowledged { conn, through, input }, NOW);
        if std::mem::take(&mut port.watched) {
            self.engine.handle(Event::Drained { conn }, NOW);
        }
    }

    /// The last letter that somebody was shown, which is the last line of all, is acknowledged.
    fn acknowledge(&mut self, at: usize) {
        let heard = self.ports[at].output.strip_suffix(b"\r\n").expect("a line was said");
        let line = &heard[memrchr(b'\n', heard).map_or(0, |end| end + 1)..];
        let id = line.strip_prefix(b"100 ").expect("it is a letter");
        let id = id.split(|&byte| byte == b' ').next().unwrap_or_default();
        let ack = [b"ack ", id, b"\r\n"].concat();
        self.say(at, &ack);
    }

    /// Lines that were said to somebody and are not forgotten.
    fn lines_said(&self, at: usize) -> usize {
        memchr_iter(b'\n', &self.ports[at].output).count()
    }
}

const TEXT: &str = "a text of 64 bytes, which is what most people write in one line.";
/// Pairs, texts of each in a turn, and turns of a unit.
const PAIRS: usize = 10;
const WINDOW: usize = 16;
const TURNS: usize = 20;
/// Readers of a text to all.
const READERS: usize = 100;
const BROADCASTS: usize = 40;
const SIGN_INS: usize = 200;
const STORED: usize = 4000;
/// Letters that wait, of which a unit reads so many.
const WAITING: usize = 12_000;
const READ: usize = 4000;

/// One hot path: how many things a unit does, and what it is.
struct Path {
    name: &'static str,
    things: usize,
    run: fn(usize),
}

const PATHS: [Path; 7] = [
    Path { name: "send", things: PAIRS * WINDOW * TURNS, run: |units| send(units, "online") },
    Path { name: "send-plain", things: PAIRS * WINDOW * TURNS, run: |units| send(units, "plain") },
    Path { name: "fan-out", things: READERS * BROADCASTS, run: fan_out },
    Path { name: "sign-in", things: SIGN_INS, run: sign_in },
    Path { name: "store", things: STORED, run: store },
    Path { name: "backlog", things: READ, run: backlog },
    Path { name: "replay", things: STORED, run: replay },
];

/// Pairs that write to each other, all in the same turns.
fn send(units: usize, kind: &str) {
    let mut world = World::new(MemoryDisk::default(), 2 * PAIRS);
    for user in 0..2 * PAIRS {
        match kind {
            "plain" => world.sign_in_plain(user),
            kind => world.sign_in(user, kind),
        };
    }
    world.forget();
    for _ in 0..units * TURNS {
        for pair in 0..PAIRS {
            let line = format!("send u{} {TEXT}\r\n", pair + PAIRS);
            world.say(pair, line.repeat(WINDOW).as_bytes());
        }
        world.turn();
        for pair in 0..PAIRS {
            assert_eq!(world.lines_said(pair + PAIRS), WINDOW);
            match kind {
                "plain" => world.arrive(pair + PAIRS),
                _ => world.acknowledge(pair + PAIRS),
            }
        }
        world.forget();
    }
}

fn fan_out(units: usize) {
    let mut world = World::new(MemoryDisk::default(), READERS + 1);
    for user in 0..=READERS {
        world.sign_in(user, "online");
    }
    world.forget();
    for _ in 0..units * BROADCASTS / 4 {
        world.say(0, format!("broadcast {TEXT}\r\n").repeat(4).as_bytes());
        world.turn();
        for reader in 1..=READERS {
            assert_eq!(world.lines_said(reader), 4);
            world.acknowledge(reader);
        }
        world.forget();
    }
}

fn sign_in(units: usize) {
    let mut world = World::new(MemoryDisk::default(), 1000);
    for n in 0..units * SIGN_INS {
        let at = world.sign_in(n % 1000, "online");
        world.engine.handle(Event::Closed { conn: Conn(at as u32), end: End::Orderly }, NOW);
        world.ports.clear();
    }
}

/// Letters for somebody who is away.
fn fill(world: &mut World, letters: usize) {
    let line = format!("send u1 {TEXT}\r\n");
    for _ in 0..letters / 100 {
        world.say(0, line.repeat(100).as_bytes());
        world.turn();
        world.forget();
    }
}

fn store(units: usize) {
    let mut world = World::new(MemoryDisk::default(), 2);
    world.sign_in(0, "tool");
    fill(&mut world, units * STORED);
}

/// Somebody reads what waits, a window after the other.
fn backlog(units: usize) {
    let mut world = World::new(MemoryDisk::default(), 2);
    world.sign_in(0, "tool");
    fill(&mut world, WAITING);
    let at = world.sign_in(1, "online");
    // The switch, the challenge and the welcome; and the greeting of two lines before them.
    let mut read = world.lines_said(at) - 5;
    while read < units * READ {
        world.acknowledge(at);
        world.forget();
        world.turn();
        read += world.lines_said(at);
    }
}

fn replay(units: usize) {
    let disk = MemoryDisk::default();
    let mut world = World::new(disk.clone(), 2);
    world.sign_in(0, "tool");
    fill(&mut world, STORED);
    for _ in 0..units {
        drop(open(disk.fork(), 2));
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = |name| PATHS.iter().find(|path| path.name == name);
    match words[..] {
        [name, units] => match (found(name), units.parse()) {
            (Some(path), Ok(units)) => (path.run)(units),
            _ => println!("no such path, or no number of units"),
        },
        ["list"] => {
            let mut text = String::new();
            for Path { name, things, .. } in &PATHS {
                _ = writeln!(text, "{name} {things}");
            }
            print!("{text}");
        }
        _ => println!("scripts/instructions runs this; alone it says nothing"),
    }
}
