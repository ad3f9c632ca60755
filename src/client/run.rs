//! The companion's threads and its socket, around a [`Desk`].
//!
//! ```text
//! prompt (main) --lines--> driver (desk, writes) --connect--> reader (one a socket)
//!      ^                     |            ^------------- bytes ----------+
//!      +------- Paper <------+
//! ```

use super::desk::{Desk, Wish};
use super::link::{Login, Password};
use super::model::{End, Ingredients, Model};
use super::oneshot::{Trouble, entropy};
use super::prompt::{PIPE_LINES, Paper, Prompt, lock, plain_lines, spawn};
use super::screen::{Line, Look, Tone};
use super::stream::Stream;
use super::trust::Route;
use crate::limits::ROUNDS_OWN_MOST;
use crate::scram::Channel;
use crate::store::disk::Disk;
use crate::time::Now;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a connection, in milliseconds.
const CONNECT_MS: u64 = 10_000;
/// Longest wait for a server that does not read, in milliseconds.
const WRITE_MS: u64 = 30_000;

/// Opens a directory, or says why it cannot be had.
pub type Open<D> = Box<dyn Fn() -> Result<D, String> + Send>;

/// Everything that the companion needs to know.
pub struct Setup<D> {
    /// The way to the server.
    pub route: Route,
    /// As whom.
    pub login: Login,
    /// Where inboxes are.
    pub inboxes: Open<D>,
    /// Where the counter of keys is.
    pub config: Open<D>,
    /// What the terminal is good for.
    pub look: Look,
    /// A person sits at a terminal.
    pub person: bool,
    /// Tells the time.
    pub clock: Box<dyn Fn() -> Now + Send>,
}

/// What reaches the driver. Numbers are those of connections.
pub(super) enum Wire {
    Open(u64, Stream, Channel),
    Failed(u64, Trouble),
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
pub fn run<D: Disk + 'static>(setup: Setup<D>) -> Result<End, Trouble> {
    let dice = u64::from_le_bytes(entropy()?);
    let (wire, inputs) = mpsc::channel();
    let (news, told) = mpsc::channel();
    // A slot for each line of a pipe that is under way.
    let (slots, freed) = mpsc::sync_channel(PIPE_LINES);
    let paper = Arc::new(Paper::new(wire.clone()));
    let names = Arc::new(Mutex::new(Vec::new()));
    let mut prompt = if setup.person { Prompt::new(&paper, &names, setup.look) } else { None };
    let person = setup.person;
    let (shared, its_wire) = (Arc::clone(&paper), wire.clone());
    let driver: JoinHandle<Result<End, Trouble>> = spawn(move || {
        let Setup { route, login, inboxes, config, look, clock, .. } = setup;
        let desk = Desk::new(Model::new(login, !person, dice), inboxes, config, dice);
        let (stream, connection, paper, wire) = (None, 0, shared, its_wire);
        let world =
            Driver { desk, stream, connection, paper, names, news, freed, wire, route, look };
        world.run(&inputs, &clock)
    });
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

/// Owns the desk and does what it wishes.
struct Driver<D: Disk> {
    desk: Desk<D>,
    stream: Option<Stream>,
    /// Counts connections; what comes from an earlier one is passed over.
    connection: u64,
    paper: Arc<Paper>,
    names: Arc<Mutex<Vec<String>>>,
    news: Sender<News>,
    freed: Receiver<()>,
    wire: Sender<Wire>,
    route: Route,
    look: Look,
}

impl<D: Disk> Driver<D> {
    fn run(mut self, inputs: &Receiver<Wire>, clock: &dyn Fn() -> Now) -> Result<End, Trouble> {
        let mut end = None;
        while end.is_none() {
            end = self.wishes(clock());
            self.write();
            if lock(&self.paper.state).deaf {
                // Nobody can be shown anything any more; what was not shown is not acknowledged.
                end = Some(End::Left);
            }
            if end.is_some() {
                break;
            }
            let input = match self.desk.model.deadline() {
                Some(deadline) => {
                    let left = Duration::from_millis(deadline.since(clock().mono));
                    inputs.recv_timeout(left)
                }
                None => inputs.recv().map_err(RecvTimeoutError::from),
            };
            match input {
                Ok(input) => self.take(input, clock())?,
                Err(_) => self.desk.model.tick(clock().mono),
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
            // Why, before it is asked for anything.
            let (tone, why) = match &end {
                Some(End::Trouble(trouble)) => (Tone::Trouble, format!("{trouble}; ")),
                _ => (Tone::Notice, String::new()),
            };
            let line = Line::new(tone, format!("{why}press Enter to leave"));
            self.paper.put(self.look.paint(&line), None);
            while lock(&self.paper.state).prompted && inputs.recv().is_ok() {
                self.read();
            }
        }
        self.read();
        Ok(end.unwrap_or(End::Left))
    }

    fn take(&mut self, input: Wire, now: Now) -> Result<(), Trouble> {
        let (model, now) = (&mut self.desk.model, now.mono);
        match input {
            Wire::Open(n, stream, channel) if n == self.connection => {
                self.stream = Some(stream);
                model.connected(&entropy()?, channel, now);
            }
            Wire::Failed(n, trouble) if n == self.connection => model.unreachable(trouble, now),
            Wire::Bytes(n, bytes) if n == self.connection => model.receive(&bytes, now),
            Wire::Gone(n) if n == self.connection => model.gone(now),
            Wire::Typed(line) => self.desk.typed(&line, now),
            Wire::Passwd(current, new) => {
                let (nonce, salt, rounds) = (entropy()?, entropy()?, ROUNDS_OWN_MOST);
                let with = Ingredients { nonce, salt, rounds };
                model.passwd(current, &new, &with, now);
            }
            Wire::Leave => model.leave(now),
            Wire::Open(..) | Wire::Failed(..) | Wire::Bytes(..) | Wire::Gone(_) | Wire::Read => {}
        }
        Ok(())
    }

    fn wishes(&mut self, now: Now) -> Option<End> {
        let mut end = None;
        for wish in self.desk.wishes(now) {
            match wish {
                Wish::Show(line, number) => self.paper.put(self.look.paint(&line), number),
                // It may have left already.
                Wish::SignedIn => _ = self.news.send(News::SignedIn),
                Wish::Connect => self.connect(),
                Wish::HangUp => {
                    self.connection += 1;
                    if let Some(stream) = self.stream.take() {
                        // It may be closed already.
                        _ = stream.shutdown(Shutdown::Both);
                    }
                }
                Wish::Names(names) => *lock(&self.names) = names,
                Wish::Done => _ = self.freed.try_recv(),
                Wish::End(ended) => end = Some(ended),
            }
        }
        self.read();
        end
    }

    /// Tells the desk what has been shown.
    fn read(&mut self) {
        let shown = lock(&self.paper.state).shown;
        self.desk.shown(shown);
        self.write();
    }

    fn connect(&mut self) {
        self.connection += 1;
        let (n, wire, route) = (self.connection, self.wire.clone(), self.route.clone());
        // Ends when the connection does, or with the process.
        drop(spawn(move || {
            // If the driver has ended, nobody wants to know.
            _ = match connect(&route) {
                Ok((stream, channel)) => converse(n, stream, channel, &wire),
                Err(trouble) => wire.send(Wire::Failed(n, trouble)),
            };
        }));
    }

    fn write(&mut self) {
        // Once there is nobody to say it to, it is said to nobody.
        let output = self.desk.take_output();
        let Some(stream) = self.stream.as_mut().filter(|_| !output.is_empty()) else { return };
        if stream.write_all(&output).is_err() {
            // The reader notices, and first reads what the server said last.
            _ = stream.shutdown(Shutdown::Write);
        }
    }
}

fn connect(route: &Route) -> Result<(Stream, Channel), Trouble> {
    let (stream, channel) = Stream::connect(route, &|| Duration::from_millis(CONNECT_MS))?;
    let set = stream.set_write_timeout(Duration::from_millis(WRITE_MS));
    set.and_then(|()| stream.set_read_timeout(None)).map_err(Trouble::Unreachable)?;
    Ok((stream, channel))
}

/// Reads all that comes, until the end.
fn converse(
    n: u64,
    mut stream: Stream,
    channel: Channel,
    wire: &Sender<Wire>,
) -> Result<(), mpsc::SendError<Wire>> {
    match stream.try_clone() {
        Ok(writer) => wire.send(Wire::Open(n, writer, channel))?,
        Err(error) => return wire.send(Wire::Failed(n, Trouble::Unreachable(error))),
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
