//! The server falls under load, again and again: it is killed, its power is cut, its disk fails or
//! is full. What was confirmed must be there, and nothing may be shown twice without a word.

use crate::campaign::{Skip, Tally};
use crate::device::{Device, program};
use crate::support::letters::{Leave, Letter, Reader, people, storm};
use crate::support::rng::Rng;
use crate::support::server::{Server, eventually, ready_mib};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const SENDERS: usize = 8;
/// No test is about full mailboxes.
const ROOM: [&str; 4] = ["--mailbox-letters", "10000000", "--mailbox-bytes", "10000000000"];
/// After so many falls everybody has read everything, and it is forgotten.
const BETWEEN_DRAINS: usize = 25;

/// Two readers, of whom one listens while the senders write.
struct Readers {
    absent: Reader,
    present: Reader,
    confirmed: Vec<Letter>,
}

impl Readers {
    fn new() -> Self {
        let (absent, present) = (Reader::new("absent"), Reader::new("present"));
        Self { absent, present, confirmed: vec![] }
    }

    /// Senders write until `fault` has ended the server.
    fn storm(
        &mut self,
        server: &mut Server,
        cycle: usize,
        rng: &mut Rng,
        tally: &mut Tally,
        fault: &mut dyn FnMut(&mut Server, &AtomicBool),
    ) {
        // Letters that were not answered may be there or not, so no number is used twice.
        let load = (SENDERS, cycle * 1_000_000);
        let confirmed = storm(server, &mut self.present, load, rng, fault);
        tally.confirmed += confirmed.len();
        tally.cycles += 1;
        self.confirmed.extend(confirmed);
    }

    /// Now and then somebody reads what waits, and breaks off or leaves in order; after a while
    /// both read everything.
    fn read(&mut self, server: &Server, cycle: usize, rng: &mut Rng) {
        if rng.one_in(3) {
            let leave = *rng.pick(&[Leave::SigningOut, Leave::Reset]);
            self.present.reads_all(server, leave);
        }
        if rng.one_in(5) {
            self.absent.reads_all(server, Leave::Reset);
        }
        if cycle % BETWEEN_DRAINS == BETWEEN_DRAINS - 1 {
            self.drain(server, (cycle + 1) * 1_000_000);
        }
    }

    fn drain(&mut self, server: &Server, next: usize) {
        for reader in [&mut self.absent, &mut self.present] {
            reader.reads_all(server, Leave::SigningOut);
            reader.misses(&self.confirmed);
            reader.has_all(server);
            reader.forget_below(next);
        }
        self.confirmed.clear();
    }

    /// Everything is read, and nothing waits any more, nor after one more crash.
    fn end(mut self, server: &mut Server, tally: &mut Tally) {
        self.drain(server, usize::MAX);
        server.end();
        server.restart();
        for reader in [&mut self.absent, &mut self.present] {
            reader.has_all(server);
            tally.heard(reader);
        }
        tally.holds(tally.confirmed > tally.cycles, || "there was next to no load".into());
    }
}

fn readers_and_senders() -> Vec<String> {
    people(SENDERS, &["absent", "present"])
}

fn server_on(device: &Device, options: &[&str]) -> Server {
    let spool = device.path("spool");
    let options = [&ROOM[..], options, &["--spool", spool.to_str().unwrap()]].concat();
    Server::start(&readers_and_senders(), &options)
}

/// `kill -9`.
pub fn kill(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut rng = Rng::from_env(1);
    let mut server = Server::start(&readers_and_senders(), &ROOM);
    let mut readers = Readers::new();
    for cycle in 0..count {
        readers.storm(&mut server, cycle, &mut rng, tally, &mut |server, _| server.kill9());
        server.restart();
        readers.read(&server, cycle, &mut rng);
    }
    readers.end(&mut server, tally);
    Ok(())
}

/// The power is cut, also while the server starts: of the disk is left what was synced.
pub fn power_cut(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut device = Device::new(256)?;
    let mut rng = Rng::from_env(2);
    let mut server = server_on(&device, &[]);
    let mut readers = Readers::new();
    for cycle in 0..count {
        readers.storm(&mut server, cycle, &mut rng, tally, &mut |server, cut| {
            // A sync that is under way in this moment may come back as if it had been done: its
            // file system aborts its journal, and does not stop the machine.
            cut.store(true, Ordering::SeqCst);
            device.cut();
            server.end();
        });
        device.again();
        if rng.one_in(3) {
            // Once more, before anything else has made durable what the start should have.
            server.restart();
            device.cut();
            server.end();
            device.again();
        }
        server.restart();
        readers.read(&server, cycle, &mut rng);
    }
    readers.end(&mut server, tally);
    Ok(())
}

/// What io_getevents(2) writes of a sync that ended with EIO: a `struct io_event`, in the order of
/// bytes of this machine.
const FAILED_SYNC: &str = if cfg!(target_endian = "little") {
    "00000000000000000000000000000000fbffffffffffffff0000000000000000"
} else {
    "00000000000000000000000000000000fffffffffffffffb0000000000000000"
};

/// A write or a sync reports an I/O error: strace puts it into the running server. It must end by
/// itself, with 74, and say no OK for what it could not store.
///
/// A device that fails under a mounted file system would be nearer to life. But ext4 that is let
/// go on after its errors may stop the machine (seen: a BUG in its allocator), and a script that
/// anybody may run must not.
pub fn io_error(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let able = "inject=io_getevents:poke_exit=@arg4=00";
    program("strace", &["-qq", "-o", "/dev/null", "-e", able, "true"])?;
    let mut rng = Rng::from_env(3);
    let mut server = Server::start(&readers_and_senders(), &ROOM);
    let mut readers = Readers::new();
    for cycle in 0..count {
        // Once, or from then on: a server that tries again must not get away with it.
        let when = format!("{}{}", 1 + rng.below(5), ["", "+"][cycle / 3 % 2]);
        let inject = match cycle % 3 {
            0 => format!("pwrite64:error=EIO:when={when}"),
            1 => format!("fdatasync,io_getevents:error=EIO:when={when}"),
            // A look at a sync that is under way has no outcome: so from then on.
            _ => format!("io_getevents:poke_exit=@arg4={FAILED_SYNC}:when={}+", 1 + rng.below(5)),
        };
        let mut code = None;
        readers.storm(&mut server, cycle, &mut rng, tally, &mut |server, _| {
            let strace = Command::new("strace")
                .args(["-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync,io_getevents"])
                .args(["-e", &format!("inject={inject}")])
                .args(["-p", &server.pid().to_string()])
                .spawn();
            // A panic here would wait for the senders, and they for the server.
            code = server.ends_by_itself().and_then(|status| status.code());
            // It ends with the server.
            _ = strace.map(|mut strace| strace.wait());
        });
        let what = || format!("it ended with {code:?}, not with 74 ({inject})");
        tally.holds(code == Some(74), what);
        let words = server.folder.read("stderr");
        tally.holds(words.contains("os error 5"), || format!("it ended and said {words:?}"));
        server.restart();
        readers.read(&server, cycle, &mut rng);
    }
    readers.end(&mut server, tally);
    Ok(())
}

/// The file system fills up. No sender is told OK for what is not on the disk; what was confirmed
/// is there afterwards. The server refuses and goes on, lets everybody read, and starts with no
/// byte free.
pub fn disk_full(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let device = Device::new(64)?;
    let mut rng = Rng::from_env(4);
    let mut server = server_on(&device, &["--spool-reserve", "16"]);
    for cycle in 0..count {
        let room = || (ready_mib(&device.path("spool")) >= 16).then_some(());
        eventually("the room that is kept ready", room);
        let mut reader = Reader::new("absent");
        let mut confirmed = vec![];
        let filler = Filler(&device);
        filler.leave(rng.below(3 << 20));
        let refusal = write_until_refused(&server, cycle * 1_000_000, &mut confirmed);
        tally.confirmed += confirmed.len();
        tally.cycles += 1;
        match refusal {
            Some(refusal) => {
                tally.holds(refusal.contains("try again later"), || refusal);
                filler.leave(0);
                server.signed_in("present").sign_out();
                server.kill9();
            }
            None => {
                let code = server.wait().code();
                tally.holds(false, || format!("a full disk ended it with {code:?}"));
                filler.take_away();
            }
        }
        server.restart();
        reader.reads_all(&server, Leave::SigningOut);
        reader.misses(&confirmed);
        reader.has_all(&server);
        tally.heard(&mut reader);
        filler.take_away();
        // With room again, letters are taken again, once some of it has been made ready.
        let mut sender = server.signed_in("sender1");
        eventually("a letter that is taken", || {
            let answer = sender.ask("send observer once more");
            let taken = answer.contains("message will be saved");
            tally.holds(taken || answer.contains("try again later"), || answer);
            taken.then_some(())
        });
        server.signed_in("observer").sign_out();
    }
    Ok(())
}

/// Writes letters from the `first` on, until one is not confirmed: what the server said, or
/// nothing if it was gone.
fn write_until_refused(
    server: &Server,
    first: usize,
    confirmed: &mut Vec<Letter>,
) -> Option<String> {
    const AT_ONCE: usize = 64;
    let mut sender = server.signed_in("sender0");
    let text = "x".repeat(1900);
    for first in (first..).step_by(AT_ONCE) {
        let numbers = first..first + AT_ONCE;
        let letter = |number| format!("send absent letter {number} {text}\n");
        let letters: String = numbers.clone().map(letter).collect();
        sender.stream.write_all(letters.as_bytes()).ok()?;
        for number in numbers {
            let answer = sender.next_line()?;
            if !answer.contains("message will be saved") {
                // What was written behind it may be stored or not.
                return Some(answer);
            }
            confirmed.push((0, number));
        }
    }
    None
}

/// A file of somebody else's, which takes what is left of the disk.
struct Filler<'a>(&'a Device);

impl Filler<'_> {
    /// Takes all but so many bytes.
    fn leave(&self, bytes: usize) {
        let path = self.0.path("filler");
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        for size in [1 << 20, 64 << 10, 4096, 512, 1] {
            while file.write_all(&vec![b'f'; size]).is_ok() {}
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes as u64)).unwrap();
        // What the file system promised and has no blocks for is no fault of the server.
        _ = file.sync_all();
    }

    fn take_away(&self) {
        // It may be gone already.
        _ = std::fs::remove_file(self.0.path("filler"));
    }
}
