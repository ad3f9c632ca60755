//! The bare relay: what it costs this machine to hand a line from one socket to another, and
//! nothing else. It knows connections by number: no names, no passwords, no checks, no memory of
//! what it has handed on. No server of this kind can be faster.
//!
//! ```text
//! N<number>         this connection has that number        ok
//! R<number>         the same, and its texts are answered   ok
//! D<number> text    text and its line end, to that one
//! B text            the same, to all but the sender
//! A                 nothing: a reader has taken a text
//! ```
//!
//! With answers it is what an answer to each text, and its reader's word for it, cost at least:
//! the system calls that no server can save who gives the one and wants the other.
//!
//! With a journal nothing goes out before the disk has it: the texts of a turn are written to a
//! file one behind the other, and flushed together. Nobody could find them again, nor make room for
//! more; the file is gone round and round.
//!
//! It ends when its stdin does.

use memchr::memchr;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const LISTENER: Token = Token(usize::MAX);
const STDIN: Token = Token(usize::MAX - 1);
const READ_BYTES: usize = 64 << 10;
/// Size of the journal: more than a turn's texts.
const JOURNAL_BYTES: u64 = 64 << 20;

struct Wire {
    socket: TcpStream,
    /// A line that is not whole yet.
    input: Vec<u8>,
    output: Vec<u8>,
    answered: bool,
    /// Whether it stands in the list of those to be written to.
    listed: bool,
    waits: bool,
}

#[derive(Default)]
struct Relay {
    wires: Vec<Option<Wire>>,
    /// Where in `wires` each number is.
    numbers: Vec<usize>,
    /// Who has something to be written, each once.
    listed: Vec<usize>,
    journal: Option<Journal>,
}

/// Relays until stdin ends; tells its address first. What it relays is in `journal` before, if
/// there is one; what stands there now is overwritten.
///
/// # Errors
/// If it cannot listen, or the journal cannot be written.
pub fn relay(out: &mut dyn Write, journal: Option<&Path>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    // Nobody says anything there, so whatever can be read is the end.
    poll.registry().register(&mut SourceFd(&io::stdin().as_raw_fd()), STDIN, Interest::READABLE)?;
    let journal = journal.map(Journal::create).transpose()?;
    let mut relay = Relay { journal, ..Relay::default() };
    writeln!(out, "relay: listening on {}", listener.local_addr()?)?;
    out.flush()?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => relay.accept(&listener, poll.registry())?,
                STDIN => return Ok(()),
                Token(at) => {
                    if event.is_writable() {
                        relay.list(at);
                    }
                    if event.is_readable() {
                        relay.read(at, &mut buffer);
                    }
                }
            }
        }
        if let Some(journal) = &mut relay.journal {
            journal.flush()?;
        }
        relay.write(poll.registry())?;
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        while let Ok((mut socket, _)) = listener.accept() {
            _ = socket.set_nodelay(true);
            registry.register(&mut socket, Token(self.wires.len()), Interest::READABLE)?;
            let (input, output) = (Vec::new(), Vec::new());
            let (answered, listed, waits) = (false, false, false);
            self.wires.push(Some(Wire { socket, input, output, answered, listed, waits }));
        }
        Ok(())
    }

    fn list(&mut self, at: usize) {
        if let Some(wire) = self.wires[at].as_mut().filter(|wire| !wire.listed) {
            wire.listed = true;
            self.listed.push(at);
        }
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(wire) = &mut self.wires[at] else { return };
        let mut input = std::mem::take(&mut wire.input);
        let lives = loop {
            match wire.socket.read(buffer) {
                Ok(0) => break false,
                Ok(count) => {
                    input.extend_from_slice(&buffer[..count]);
                    // What is not full was all there was.
                    if count < buffer.len() {
                        break true;
                    }
                }
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        let mut used = 0;
        while let Some(length) = memchr(b'\n', &input[used..]) {
            self.line(at, &input[used..=used + length]);
            used += length + 1;
        }
        input.drain(..used);
        match &mut self.wires[at] {
            Some(wire) if lives => wire.input = input,
            wire => *wire = None,
        }
    }

    /// A line, with its end.
    fn line(&mut self, at: usize, line: &[u8]) {
        let digits = line[1..].iter().take_while(|byte| byte.is_ascii_digit());
        let (length, number) = digits.fold((0, 0_usize), |(length, number), digit| {
            (length + 1, number.wrapping_mul(10).wrapping_add(usize::from(digit - b'0')))
        });
        let text = line.get(length + 2..).unwrap_or_default();
        if let (b'D' | b'B', Some(journal)) = (line[0], &mut self.journal) {
            journal.batch.extend_from_slice(text);
        }
        match line[0] {
            kind @ (b'N' | b'R') if number < 1 << 20 => {
                if let Some(wire) = &mut self.wires[at] {
                    wire.answered = kind == b'R';
                }
                let most = self.numbers.len().max(number + 1);
                self.numbers.resize(most, usize::MAX);
                self.numbers[number] = at;
                self.hand(at, b"ok\n");
            }
            b'D' => {
                match self.numbers.get(number) {
                    Some(&to) if to != usize::MAX => self.hand(to, text),
                    _ => {}
                }
                self.answer(at);
            }
            b'B' => {
                (0..self.wires.len()).filter(|&to| to != at).for_each(|to| self.hand(to, text));
                self.answer(at);
            }
            _ => {}
        }
    }

    fn answer(&mut self, at: usize) {
        if self.wires[at].as_ref().is_some_and(|wire| wire.answered) {
            self.hand(at, b"ok\n");
        }
    }

    fn hand(&mut self, to: usize, text: &[u8]) {
        let Some(wire) = &mut self.wires[to] else { return };
        wire.output.extend_from_slice(text);
        if !wire.listed {
            wire.listed = true;
            self.listed.push(to);
        }
    }

    fn write(&mut self, registry: &Registry) -> io::Result<()> {
        for at in self.listed.drain(..) {
            let Some(wire) = &mut self.wires[at] else { continue };
            wire.listed = false;
            let mut written = 0;
            while written < wire.output.len() {
                match wire.socket.write(&wire.output[written..]) {
                    Ok(count) => written += count,
                    // Full; or gone, which reading will tell.
                    Err(_) => break,
                }
            }
            wire.output.drain(..written);
            let waits = !wire.output.is_empty();
            if waits != wire.waits {
                wire.waits = waits;
                let interest = if waits {
                    Interest::READABLE | Interest::WRITABLE
                } else {
                    Interest::READABLE
                };
                registry.reregister(&mut wire.socket, Token(at), interest)?;
            }
        }
        Ok(())
    }
}

/// What keeps the texts, after a fashion.
struct Journal {
    file: File,
    at: u64,
    /// The texts of this turn.
    batch: Vec<u8>,
}

impl Journal {
    /// All of it is written once, so that a flush has nothing but texts to bring to the disk.
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let nothing = vec![0; 1 << 20];
        for _ in 0..JOURNAL_BYTES / nothing.len() as u64 {
            file.write_all(&nothing)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, batch: Vec::new() })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let length = self.batch.len() as u64;
        if self.at + length > JOURNAL_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(&self.batch, self.at)?;
        self.file.sync_data()?;
        self.at += length;
        self.batch.clear();
        Ok(())
    }
}
