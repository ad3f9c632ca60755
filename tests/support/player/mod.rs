//! Plays a session of PROTOCOL.md against the real engine: its disk is simulated, its clock is
//! virtual, and there are no sockets. The notation is defined in PROTOCOL.md, "How to read the
//! sessions"; this file is the other half of that definition.
//!
//! What stands in a session must happen, and what happens must stand there: a line that nobody
//! stated is a lie as much as one that never came.

mod words;

pub use words::{Block, blocks};

use super::port::{News, Port, receiver};
use super::rng::Rng;
use super::sim_disk::{Aftermath, Fault, SimDisk};
use mms::core::event::{Conn, End, Event, Saved, Trust};
use mms::core::hub::{Duplicate, Rules, SelfSend};
use mms::core::password::Verifier;
use mms::engine::{Engine, Load, Output, SavePassword};
use mms::limits;
use mms::proto::name::UserName;
use mms::proto::reply::Flushed;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use words::{bytes, coded_lines, count, owner, spelled, user};

/// What is wrong with a session, and in which line of the document.
#[derive(Debug)]
pub struct Lie {
    pub line: usize,
    pub why: String,
}

/// Plays a session.
pub fn play(block: &Block) -> Result<(), Lie> {
    let mut player = Player::new();
    let mut number = block.line;
    for line in block.text.lines() {
        player.step(line.trim_end()).map_err(|why| Lie { line: number, why })?;
        number += 1;
    }
    player.all_stated().map_err(|why| Lie { line: number, why: format!("at the end, {why}") })
}

/// Milliseconds since 1970 when a session begins: 2027-01-15, eight in the morning.
const BEGIN_UNIX_MS: u64 = 1_800_000_000_000;
/// Turns at one instant, after which the engine is taken to spin.
const TURNS: usize = 100_000;
/// The spool's name, as it is drawn here.
const SPOOL: &str = "0807060504030201";
const GREETING: [&str; 2] =
    [">> Welcome to MMS.", ">> Type 'signin <user>' to sign in, 'help' for the commands."];

/// One connection, seen from both ends.
struct Peer {
    port: Port,
    /// What arrived and was not stated yet.
    got: VecDeque<String>,
}

impl Peer {
    /// What was said arrives, line by line.
    fn receive(&mut self) {
        let out = self.port.take_out();
        self.got.extend(if self.port.coded { coded_lines(&out) } else { spelled(&out) });
    }
}

/// Whether the password file takes a change.
#[derive(Clone, Copy)]
enum File {
    Takes,
    Cannot,
}

struct Player {
    disk: SimDisk,
    rng: Rng,
    rules: Rules,
    config: Config,
    /// The password file.
    users: Vec<(UserName, Verifier)>,
    file: File,
    engine: Option<Engine<SimDisk>>,
    started: bool,
    now: Millis,
    peers: BTreeMap<String, Peer>,
    connections: u32,
    news: Vec<News>,
}

impl Player {
    fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            rng: Rng::new(1),
            rules: Rules { password_rounds: 1, ..Rules::default() },
            config: Config::with_reserve(Sync::Always, limits::RESERVE_MIB_LEAST),
            users: vec![],
            file: File::Takes,
            engine: None,
            started: false,
            now: Millis(1),
            peers: BTreeMap::new(),
            connections: 0,
            news: vec![],
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, unix_ms: BEGIN_UNIX_MS + self.now.0 }
    }

    // ---- the steps of a session ----------------------------------------------------------------

    fn step(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if let Some(direction) = line.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            self.all_stated()?;
            return self.direct(direction);
        }
        let mark = line.find(['<', '>']).ok_or("no one types or receives this")?;
        let (who, text) = (&line[..mark], &line[mark + 1..]);
        let text = text.strip_prefix(' ').unwrap_or(text);
        // Blanks at the end of a line would be seen by nobody.
        let bare = text.trim_end_matches('␠');
        let text = &format!("{bare}{}", " ".repeat(text[bare.len()..].chars().count()));
        match line.as_bytes()[mark] {
            b'<' => self.stated(who, text),
            _ => {
                self.stated_by(who)?;
                self.input(who, format!("{text}\r\n").as_bytes())
            }
        }
    }

    /// `who` must have received `text` next.
    fn stated(&mut self, who: &str, text: &str) -> Result<(), String> {
        match self.peer(who)?.got.pop_front() {
            None => Err(format!("{who} received nothing more")),
            Some(got) if got == text => Ok(()),
            Some(got) => Err(format!("{who} received instead: {got}")),
        }
    }

    /// All that `who` received must have been stated.
    fn stated_by(&self, who: &str) -> Result<(), String> {
        match self.peers.get(who).and_then(|peer| peer.got.front()) {
            None => Ok(()),
            Some(got) => Err(format!("before this, {who} received what is not stated: {got}")),
        }
    }

    fn all_stated(&self) -> Result<(), String> {
        self.peers.keys().try_for_each(|who| self.stated_by(who))
    }

    fn peer(&mut self, who: &str) -> Result<&mut Peer, String> {
        self.peers.get_mut(who).ok_or_else(|| format!("{who} is not connected"))
    }

    /// A stage direction.
    fn direct(&mut self, direction: &str) -> Result<(), String> {
        if let Some(names) = direction.strip_prefix("users: ") {
            self.users = names.split(", ").map(|name| user(name, "")).collect::<Result<_, _>>()?;
            return Ok(());
        }
        if self.users.is_empty() {
            return Err("a session begins with its users".into());
        }
        if let Some(options) = direction.strip_prefix("options: ") {
            return self.options(options);
        }
        let words: Vec<&str> = direction.split(' ').collect();
        match words[..] {
            [who, "connects"] => self.connect(who, "127.0.0.1"),
            [who, "connects", "from", address] => self.connect(who, address),
            [who, "has", "connected"] => self.has_connected(who, "127.0.0.1"),
            [who, "has", "connected", "from", address] => self.has_connected(who, address),
            [who, "has", "signed", "in"] => self.has_signed_in(who),
            [who, "has", "signed", "in", "as", "a", kind] => self.has_signed_in_as(who, kind),
            [who, "closes"] => self.close(who),
            [who, "sends", ..] => {
                let bytes =
                    bytes(direction.strip_prefix(who).and_then(|d| d.strip_prefix(" sends ")))?;
                self.input(who, &bytes)
            }
            [whose, "connection", "breaks"] => self.breaks(owner(whose)?),
            [whose, "machine", "falls", "silent"] => {
                self.peer(owner(whose)?)?.port.silent = true;
                Ok(())
            }
            [whose, "machine", "answers", "again"] => self.answers_again(owner(whose)?),
            [number, unit, "pass" | "passes"] => self.pass(count(number)? as u64, unit),
            ["the", ..] => self.direct_server(&words),
            _ => Err("no such stage direction".into()),
        }
    }

    /// A stage direction to the server, its machine or its operator.
    fn direct_server(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["the", "server", "is", "told", "to", "stop"] => {
                let now = self.now();
                self.engine()?.handle(Event::Stopping, now);
                self.settle()?;
                self.engine()?.stop(now).map_err(|e| e.to_string())?;
                self.engine = None;
                Ok(())
            }
            ["the", "server", "starts", "again"] => self.restart(Aftermath::ProcessOnly),
            ["the", "server", "is", "killed", "and", "starts", "again"] => {
                self.restart(Aftermath::ProcessOnly)
            }
            ["the", "power", "fails", "and", "the", "server", "starts", "again"] => {
                self.restart(Aftermath::LoseAll)
            }
            ["the", "disk", "fails"] => {
                self.engine()?;
                let fault = Fault::ForGood(io::ErrorKind::Other);
                self.disk.fail_at(self.disk.steps() + 1, fault);
                Ok(())
            }
            ["the", "disk", "damages", "the", "text", word] => self.damage(word),
            // Before the server starts: there is room for a segment, and not for another.
            ["the", "disk", "is", "nearly", "full"] if !self.started => {
                self.disk.set_free(Some(1_100_000));
                Ok(())
            }
            ["the", "disk", "has", "room", "again"] => {
                self.disk.set_free(None);
                Ok(())
            }
            ["the", "operator", "adds", name] => {
                self.users.push(user(name, "")?);
                self.reload()
            }
            ["the", "operator", "removes", name] => {
                self.users.retain(|(user, _)| user.as_str() != *name);
                self.reload()
            }
            ["the", "operator", "gives", name, "a", "new", "password"] => {
                self.edit(name)?;
                self.reload()
            }
            ["the", "line", "of", name, "in", "the", "password", "file", "is", "edited"] => {
                self.edit(name)
            }
            ["the", "password", "file", "cannot", "be", "written"] => {
                self.file = File::Cannot;
                Ok(())
            }
            _ => Err("no such stage direction".into()),
        }
    }

    /// A new password, of which the server is not told.
    fn edit(&mut self, name: &str) -> Result<(), String> {
        let changed = user(name, "new")?;
        for entry in self.users.iter_mut().filter(|(user, _)| *user == changed.0) {
            entry.1 = changed.1.clone();
        }
        Ok(())
    }

    fn options(&mut self, options: &str) -> Result<(), String> {
        let mut words = options.split(' ');
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{option} wants a value"));
            match option {
                "--no-self-send" => self.rules.self_send = SelfSend::Refused,
                "--idle-timeout" => self.rules.idle_timeout_s = count(value()?)? as u64,
                "--block-time" => self.rules.block_time_s = count(value()?)? as u64,
                "--max-failures" => {
                    self.rules.max_failures = count(value()?)?.try_into().expect("small");
                }
                "--mailbox-letters" => self.rules.mailbox_letters = count(value()?)?,
                "--sender-share" => {
                    self.rules.sender_share = count(value()?)?.try_into().expect("small");
                }
                "--mailbox-bytes" => self.rules.mailbox_bytes = count(value()?)? as u64,
                "--duplicate" if value()? == "replace" => {
                    self.rules.duplicate = Duplicate::Replace;
                }
                "--sync" if value()? == "never" => self.config.sync = Sync::Never,
                _ => return Err(format!("no such option: {option}")),
            }
        }
        Ok(())
    }

    fn connect(&mut self, who: &str, address: &str) -> Result<(), String> {
        if self.peers.get(who).is_some_and(|peer| !peer.port.gone) {
            return Err(format!("{who} is connected already"));
        }
        let address: IpAddr = address.parse().map_err(|_| format!("no address: {address}"))?;
        let conn = Conn(self.connections);
        self.connections += 1;
        let peer = Peer { port: Port::new(conn), got: VecDeque::new() };
        self.peers.insert(who.to_owned(), peer);
        let trust = if address.is_loopback() { Trust::Trusted } else { Trust::Stranger };
        let now = self.now();
        self.engine()?.handle(Event::Opened { conn, address, trust }, now);
        self.settle()
    }

    fn has_connected(&mut self, who: &str, address: &str) -> Result<(), String> {
        self.connect(who, address)?;
        GREETING.iter().try_for_each(|line| self.stated(who, line))
    }

    fn has_signed_in(&mut self, who: &str) -> Result<(), String> {
        self.has_connected(who, "127.0.0.1")?;
        self.input(who, format!("signin {who} {}1\r\n", who.to_lowercase()).as_bytes())?;
        self.stated(who, &format!(">> Welcome {who}, you have no messages waiting"))?;
        self.stated_by(who)
    }

    /// In the coded dialect, with the password.
    fn has_signed_in_as(&mut self, who: &str, kind: &str) -> Result<(), String> {
        let kind = if kind == "person" { "online" } else { kind };
        self.has_connected(who, "127.0.0.1")?;
        self.input(who, b"coded 1\n")?;
        let offer = self.peer(who)?.got.pop_front().unwrap_or_default();
        if !offer.starts_with("200 coded 1 ") {
            return Err(format!("{who} received instead: {offer}"));
        }
        let password = who.to_lowercase();
        self.input(who, format!("signin {who} {kind} plain {password}1\n").as_bytes())?;
        self.stated(who, &format!("230 - {who} 0 {SPOOL}"))?;
        self.stated_by(who)
    }

    /// Bytes from the peer.
    fn input(&mut self, who: &str, bytes: &[u8]) -> Result<(), String> {
        let port = &self.peer(who)?.port;
        if port.gone || port.closed {
            return Err(format!("{who} is not connected any more"));
        }
        self.engine()?;
        let now = self.now();
        let Self { engine, peers, .. } = self;
        let engine = engine.as_mut().ok_or("the server does not run")?;
        peers.get_mut(who).expect("it was looked up").port.take(bytes, engine, now);
        self.settle()
    }

    /// Hands the peer's lines over until there is none or they are held.
    fn lines(&mut self, who: &str) -> Result<(), String> {
        let now = self.now();
        let Self { engine, peers, .. } = self;
        let engine = engine.as_mut().ok_or("the server does not run")?;
        peers.get_mut(who).expect("it was looked up").port.lines(engine, now);
        Ok(())
    }

    fn close(&mut self, who: &str) -> Result<(), String> {
        self.peer(who)?.port.closed = true;
        self.lines(who)?;
        self.settle()
    }

    fn breaks(&mut self, who: &str) -> Result<(), String> {
        let port = &mut self.peer(who)?.port;
        port.gone = true;
        let conn = port.conn;
        self.news.push(News::Closed(conn, End::Broken));
        self.settle()
    }

    fn answers_again(&mut self, who: &str) -> Result<(), String> {
        let port = &mut self.peer(who)?.port;
        port.silent = false;
        let (conn, said) = (port.conn, port.said);
        self.news.push(News::Acknowledged(conn, said));
        self.settle()
    }

    fn reload(&mut self) -> Result<(), String> {
        let (entries, now) = (self.users.clone(), self.now());
        self.engine()?.handle(Event::Reloaded { entries }, now);
        self.settle()
    }

    fn pass(&mut self, number: u64, unit: &str) -> Result<(), String> {
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(format!("no unit of time: {unit}")),
        };
        let until = self.now.plus(number * unit_ms);
        while let Some(next) = self.engine()?.deadline().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.settle()?;
        }
        self.now = until;
        Ok(())
    }

    // ---- the server ----------------------------------------------------------------------------

    fn engine(&mut self) -> Result<&mut Engine<SimDisk>, String> {
        if !self.started {
            self.start()?;
        }
        self.engine.as_mut().ok_or_else(|| "the server does not run".into())
    }

    fn start(&mut self) -> Result<(), String> {
        self.started = true;
        let (engine, _) = Engine::open(
            self.disk.clone(),
            self.config,
            self.rules.clone(),
            self.users.clone(),
            Now { mono: self.now, unix_ms: BEGIN_UNIX_MS + self.now.0 },
            // What is drawn by lot is the same each time, so that a session can state it.
            &mut |bytes| {
                (1..).zip(bytes).for_each(|(n, byte)| *byte = n);
                Ok(())
            },
        )
        .map_err(|e| e.to_string())?;
        self.engine = Some(engine);
        Ok(())
    }

    /// A bit of the disk flips: in the journal, where this word is.
    fn damage(&mut self, word: &str) -> Result<(), String> {
        let place = |bytes: &[u8]| bytes.windows(word.len()).position(|w| w == word.as_bytes());
        let journal = self.disk.contents().into_iter().filter(|file| file.0.starts_with("journal"));
        let found = journal.filter_map(|(name, bytes)| Some((name, place(&bytes)?))).next();
        let (name, at) = found.ok_or_else(|| format!("{word} is not in the journal"))?;
        self.disk.damage(&name, |bytes| bytes[at] ^= 1);
        Ok(())
    }

    fn restart(&mut self, aftermath: Aftermath) -> Result<(), String> {
        self.engine = None;
        self.peers.clear();
        self.news.clear();
        self.disk.restart(aftermath, &mut self.rng);
        self.start()?;
        self.settle()
    }

    /// Turns, as `net/server.rs` makes them, until nothing is left to do at this instant.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..TURNS {
            let now = self.now();
            let Self { engine, peers, news, users, file, .. } = self;
            let Some(engine) = engine else { return Err("the server does not run".into()) };
            for news in std::mem::take(news) {
                let saves = |save: &SavePassword| replace(users, *file, save);
                engine.handle(news.event(saves), now);
            }
            if engine.deadline().is_some_and(|at| at <= now.mono) {
                engine.tick(now);
            }
            if engine.commit().is_err() {
                // The process ends; the kernel closes its sockets.
                for peer in peers.values_mut().filter(|peer| !peer.port.gone) {
                    peer.got.push_back("(closes)".into());
                    peer.port.gone = true;
                }
                self.engine = None;
                return Ok(());
            }
            let mut resumed = vec![];
            let said = engine.release(|output| speak(output, peers, news, &mut resumed));
            said.map_err(|e| e.to_string())?;
            engine.prepare(now, Load::Idle).map_err(|e| e.to_string())?;
            for peer in peers.values_mut() {
                peer.receive();
            }
            for peer in peers.values_mut().filter(|peer| peer.port.gone) {
                peer.port.inbox.clear();
            }
            let due = engine.deadline().is_some_and(|at| at <= now.mono);
            let busy = due || !news.is_empty() || !resumed.is_empty();
            for who in resumed {
                self.lines(&who)?;
            }
            if !busy {
                return Ok(());
            }
        }
        Err("the engine spins".into())
    }
}

/// Does to the password file what `mms server` does.
fn replace(users: &mut [(UserName, Verifier)], file: File, save: &SavePassword) -> Saved {
    match users.iter_mut().find(|(user, verifier)| *user == save.user && *verifier == save.old) {
        None => Saved::Outdated,
        Some(_) if matches!(file, File::Cannot) => Saved::Failed,
        Some(line) => {
            line.1 = save.new.clone();
            Saved::Done(Flushed::Surely)
        }
    }
}

/// What the server says, and to whom.
fn speak(
    output: Output<'_>,
    peers: &mut BTreeMap<String, Peer>,
    news: &mut Vec<News>,
    resumed: &mut Vec<String>,
) {
    if let Output::SavePassword(save) = output {
        return news.push(News::Save(save.clone()));
    }
    let conn = receiver(&output);
    let here = |peer: &Peer| Some(peer.port.conn) == conn && !peer.port.gone;
    let Some((who, peer)) = peers.iter_mut().find(|(_, peer)| here(peer)) else { return };
    if peer.port.speak(output, news) {
        resumed.push(who.clone());
    }
    if peer.port.gone {
        peer.receive();
        if !peer.port.closed {
            peer.got.push_back("(closes)".into());
        }
    }
}
