//! The companion's threads and its socket, around a [`Model`].
//!
//! ```text
//! prompt (main) --lines--> driver (model, inbox, writes) --connect--> reader (one a socket)
//!      ^                     |                   ^------------- bytes ----------+
//!      +------- Paper <------+
//! ```

use super::inbox::{Inbox, Keys};
use super::link::{Login, Password};
use super::model::{Effect, End, Ingredients, Model};
use super::oneshot::{Trouble, entropy};
use super::prompt::{PIPE_LINES, Paper, Prompt, lock, plain_lines, spawn};
use super::screen::{self, Line, Look, Tone};
use crate::limits::ROUNDS_OWN_MOST;
use crate::proto::id::LetterId;
use crate::time::{Millis, Now};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a connection, in milliseconds.
const CONNECT_MS: u64 = 10_000;
/// Longest wait for a server that does not read, in milliseconds.
const WRITE_MS: u64 = 30_000;

/// Everything that the companion needs to know.
pub struct Setup {
    /// `host:port`.
    pub address: String,
    /// As whom.
    pub login: Login,
    /// Where inboxes are.
    pub inboxes: Option<PathBuf>,
    /// Where the counter of keys is.
    pub config: Option<PathBuf>,
    /// What the terminal is good for.
    pub look: Look,
    /// A person sits at a terminal.
    pub person: bool,
    /// Tells the time.
    pub clock: Box<dyn Fn() -> Now + Send>,
}

/// What reaches the driver. Numbers are those of connections.
pub(super) enum Wire {
    Open(u64, TcpStream),
    Failed(u64, io::Error),
    Bytes(u64, Vec<u8>),
    Gone(u64),
    Typed(String),
    /// The present password and the new one.
    Passwd(Password, Password),
    Leave,
    /// Something was read by the person.
    Read,
}

/// What the driver tells the prompt.
pub(super) enum News {
    SignedIn,
    Ended,
}

/// Runs the companion until its person leaves, or it must end.
pub fn run(setup: Setup) -> Result<End, Trouble> {
    let dice = u64::from_le_bytes(entropy()?);
    let (wire, inputs) = mpsc::channel();
    let (news, told) = mpsc::channel();
    // A slot for each line of a pipe that is under way.
    let (slots, freed) = mpsc::sync_channel(PIPE_LINES);
    let paper = Arc::new(Paper::new(wire.clone()));
    let names = Arc::new(Mutex::new(Vec::new()));
    let mut prompt = if setup.person { Prompt::new(&paper, &names, setup.look) } else { None };
    let person = setup.person;
    let mut driver = Driver {
        model: Model::new(setup.login.clone(), !person, dice),
        keys: None,
        inbox: None,
        seen: None,
        unread: None,
        stream: None,
        connection: 0,
        paper: Arc::clone(&paper),
        names,
        news,
        freed,
        wire: wire.clone(),
        dice,
        setup,
    };
    let driver: JoinHandle<Result<End, Trouble>> = spawn(move || driver.run(&inputs));
    if matches!(told.recv(), Ok(News::SignedIn)) {
        if let Some(prompt) = &mut prompt {
            let leave = prompt.lines(&wire, &paper, &told);
            paper.let_go();
            if leave {
                // It may have ended by itself.
                _ = wire.send(Wire::Leave);
            }
        } else {
            // Ends with its input, or with the process.
            drop(spawn(move || plain_lines(&wire, &slots, person)));
        }
    }
    let end = driver.join();
    paper.let_go();
    end.unwrap_or_else(|_| Err(Trouble::Unreachable(io::Error::other("a fault of mms"))))
}

/// Owns the model and does what it wishes.
struct Driver {
    setup: Setup,
    model: Model,
    keys: Option<Keys>,
    inbox: Option<Inbox>,
    /// The last letter that was taken.
    seen: Option<LetterId>,
    /// Shown soon, and to be acknowledged or marked then.
    unread: Option<LetterId>,
    stream: Option<TcpStream>,
    /// Counts connections; what comes from an earlier one is passed over.
    connection: u64,
    paper: Arc<Paper>,
    names: Arc<Mutex<Vec<String>>>,
    news: Sender<News>,
    freed: Receiver<()>,
    wire: Sender<Wire>,
    dice: u64,
}

impl Driver {
    fn now(&self) -> Millis {
        (self.setup.clock)().mono
    }

    fn run(&mut self, inputs: &Receiver<Wire>) -> Result<End, Trouble> {
        let mut end = None;
        while end.is_none() {
            end = self.effects()?;
            self.write();
            if lock(&self.paper.state).deaf {
                // Nobody can be shown anything any more; what was not shown is not acknowledged.
                end = Some(End::Left);
            }
            if end.is_some() {
                break;
            }
            let input = match self.model.deadline() {
                Some(deadline) => {
                    let left = Duration::from_millis(deadline.since(self.now()));
                    inputs.recv_timeout(left)
                }
                None => inputs.recv().map_err(RecvTimeoutError::from),
            };
            match input {
                Ok(input) => self.take(input)?,
                Err(_) => self.model.tick(self.now()),
            }
            self.read();
        }
        if let Some(stream) = self.stream.take() {
            // It may be closed already.
            _ = stream.shutdown(Shutdown::Both);
        }
        // Whoever waits at the prompt must be told before all is shown.
        let told = self.news.send(News::Ended);
        if told.is_ok() && lock(&self.paper.state).prompted {
            self.show(&Line::new(Tone::Notice, "press Enter to leave"));
            while lock(&self.paper.state).prompted && inputs.recv().is_ok() {
                self.read();
            }
        }
        self.read();
        Ok(end.unwrap_or(End::Left))
    }

    fn take(&mut self, input: Wire) -> Result<(), Trouble> {
        let now = self.now();
        match input {
            Wire::Open(n, stream) if n == self.connection => {
                self.stream = Some(stream);
                self.model.connected(&entropy()?, now);
            }
            Wire::Failed(n, error) if n == self.connection => self.model.unreachable(error, now),
            Wire::Bytes(n, bytes) if n == self.connection => self.model.receive(&bytes, now),
            Wire::Gone(n) if n == self.connection => self.model.gone(now),
            Wire::Typed(line) => {
                let keys = match self.keys.take() {
                    Some(keys) => keys,
                    None => self.open_keys(),
                };
                let keys = self.keys.insert(keys);
                self.model.typed(&line, &mut || keys.take(), now);
            }
            Wire::Passwd(current, new) => {
                let (nonce, salt, rounds) = (entropy()?, entropy()?, ROUNDS_OWN_MOST);
                let with = Ingredients { nonce, salt, rounds };
                self.model.passwd(current, &new, &with, now);
            }
            Wire::Leave => self.model.leave(now),
            Wire::Open(..) | Wire::Failed(..) | Wire::Bytes(..) | Wire::Gone(_) | Wire::Read => {}
        }
        Ok(())
    }

    /// Does what the model wishes. The letters among it are durable before they are shown.
    fn effects(&mut self) -> Result<Option<End>, Trouble> {
        let mut end = None;
        let mut last = None;
        let mut lines = Vec::new();
        while let Some(effect) = self.model.effect() {
            match effect {
                Effect::Show(line) => lines.push((self.setup.look.paint(&line), None)),
                Effect::Letter(letter) => {
                    last = last.max(Some(letter.id));
                    if self.is_new(&letter) {
                        let unix_ms = (self.setup.clock)().unix_ms;
                        let line = screen::letter(&letter, letter.again, unix_ms);
                        lines.push((self.setup.look.paint(&line), Some(letter.id)));
                    }
                }
                Effect::Opened { user, spool } => {
                    self.open_inbox(&user, &spool, &mut lines);
                    // It may have left already.
                    _ = self.news.send(News::SignedIn);
                }
                Effect::Connect => self.connect(),
                Effect::HangUp => {
                    self.connection += 1;
                    if let Some(stream) = self.stream.take() {
                        // It may be closed already.
                        _ = stream.shutdown(Shutdown::Both);
                    }
                }
                Effect::Names(names) => *lock(&self.names) = names,
                Effect::Done => _ = self.freed.try_recv(),
                Effect::End(ended) => end = Some(ended),
            }
        }
        if let Some(inbox) = &mut self.inbox
            && let Err(error) = inbox.sync()
        {
            self.without_inbox(&error.to_string(), &mut lines);
        }
        for (line, id) in lines {
            self.paper.put(line, id);
        }
        if let Some(last) = last {
            if self.inbox.is_some() {
                self.model.acknowledge(last);
            } else {
                // Once it was shown.
                self.unread = Some(last);
                self.read();
            }
        }
        Ok(end)
    }

    /// Takes a letter in, unless it was before.
    fn is_new(&mut self, letter: &crate::proto::coded_client::Letter) -> bool {
        let kept = self.inbox.as_ref().is_some_and(|inbox| inbox.has(letter.id));
        if kept || self.seen.is_some_and(|seen| letter.id <= seen) {
            return false;
        }
        self.seen = Some(letter.id);
        if let Some(inbox) = &mut self.inbox
            && let Err(error) = inbox.keep(letter)
        {
            let mut lines = Vec::new();
            self.without_inbox(&error.to_string(), &mut lines);
            lines.into_iter().for_each(|(line, id)| self.paper.put(line, id));
        }
        true
    }

    /// Marks or acknowledges what has been shown.
    fn read(&mut self) {
        let Some(shown) = lock(&self.paper.state).shown else { return };
        if let Some(inbox) = &mut self.inbox {
            let open = inbox.unprinted().first().is_some_and(|letter| letter.id <= shown);
            // A mark that cannot be written costs one repetition at the next start.
            _ = if open { inbox.printed(shown) } else { Ok(()) };
        } else if self.unread.is_some_and(|unread| unread <= shown || self.seen <= Some(shown)) {
            if let Some(unread) = self.unread.take() {
                self.model.acknowledge(unread);
            }
            self.write();
        }
    }

    fn show(&self, line: &Line) {
        self.paper.put(self.setup.look.paint(line), None);
    }

    fn open_inbox(&mut self, user: &str, spool: &str, lines: &mut Vec<(String, Option<LetterId>)>) {
        if self.inbox.is_some() || self.seen.is_some() {
            return;
        }
        let Some(folder) = &self.setup.inboxes else {
            return self.without_inbox("neither HOME nor XDG_DATA_HOME is set", lines);
        };
        match Inbox::open(folder, user, spool) {
            Ok(inbox) => {
                let unix_ms = (self.setup.clock)().unix_ms;
                for letter in inbox.unprinted() {
                    let line = screen::letter(letter, true, unix_ms);
                    lines.push((self.setup.look.paint(&line), Some(letter.id)));
                }
                self.inbox = Some(inbox);
            }
            Err(error) => {
                let why = format!("{}: {error}", folder.display());
                self.without_inbox(&why, lines);
            }
        }
    }

    /// Says once that messages are not kept.
    fn without_inbox(&mut self, why: &str, lines: &mut Vec<(String, Option<LetterId>)>) {
        self.inbox = None;
        let words = format!(
            "no inbox ({}): messages leave the server as soon as they are shown",
            super::shown::Shown(why)
        );
        lines.push((self.setup.look.paint(&Line::new(Tone::Trouble, words)), None));
    }

    fn open_keys(&mut self) -> Keys {
        let opened = self.setup.config.as_ref().map(|folder| Keys::open(folder, self.dice));
        match opened {
            Some(Ok(keys)) => keys,
            // Those of one run do as well: nothing typed outlives the run.
            Some(Err(_)) | None => Keys::of_this_run(self.dice),
        }
    }

    fn connect(&mut self) {
        self.connection += 1;
        let (n, wire, address) = (self.connection, self.wire.clone(), self.setup.address.clone());
        // Ends when the connection does, or with the process.
        drop(spawn(move || {
            // If the driver has ended, nobody wants to know.
            _ = match connect(&address) {
                Ok(stream) => converse(n, stream, &wire),
                Err(error) => wire.send(Wire::Failed(n, error)),
            };
        }));
    }

    fn write(&mut self) {
        let output = self.model.take_output();
        let Some(stream) = self.stream.as_mut().filter(|_| !output.is_empty()) else { return };
        if stream.write_all(&output).is_err() {
            // The reader notices, and first reads what the server said last.
            _ = stream.shutdown(Shutdown::Write);
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS)) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(Duration::from_millis(WRITE_MS)))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads all that comes, until the end.
fn converse(
    n: u64,
    mut stream: TcpStream,
    wire: &Sender<Wire>,
) -> Result<(), mpsc::SendError<Wire>> {
    match stream.try_clone() {
        Ok(writer) => wire.send(Wire::Open(n, writer))?,
        Err(error) => return wire.send(Wire::Failed(n, error)),
    }
    let mut bytes = [0; 16 << 10];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return wire.send(Wire::Gone(n)),
            Ok(count) => wire.send(Wire::Bytes(n, bytes[..count].to_vec()))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return wire.send(Wire::Gone(n)),
        }
    }
}
