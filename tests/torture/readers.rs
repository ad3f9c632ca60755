//! Readers who vanish: nc, telnet and `mms recv` that are killed, connections that are reset, a
//! cable that is pulled. What they did not show comes again, and what comes again says so.
//!
//! **When somebody may be killed.** A program that has read its socket empty and is killed before
//! it has written that out closes in order, and PROTOCOL.md promises nothing of it. So nc and
//! telnet are killed where the promise holds: with bytes unread, which makes a reset, or at rest,
//! with everything written. Telnet answers a timing mark a moment before it writes what came in
//! front of it; so it is not stopped, nor killed, but where it waits for more.

use crate::campaign::{Skip, Tally};
use crate::support::letters::{Leave, Letter, Reader, backlog, letter, people, waiting};
use crate::support::rng::Rng;
use crate::support::server::{PASSWORD, Server, eventually, mms};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Letters that wait when a reader of a backlog comes.
const BACKLOG: usize = 10_000;
/// At least so many bytes has each of them.
const LETTER_BYTES: usize = 900;
/// How often somebody is looked at while letters come to him, to see whether he has some unread.
const TRIES: usize = 5;
/// After so many cycles the reader has his peace once.
const BETWEEN_DRAINS: usize = 25;
/// Room for the kernel's part of what a reader was sent and has not read: less than what the
/// server keeps of it, see PROTOCOL.md.
const UNREAD_BYTES: &str = "200000";
const ROOM: [&str; 6] =
    ["--mailbox-letters", "10000000", "--mailbox-bytes", "10000000000", "--duplicate", "replace"];

/// What a person reads with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum With {
    Nc,
    Telnet,
    /// `mms recv --follow`, which says itself what it has taken.
    Recv,
}

/// A program that reads, and the file that it writes to.
pub struct Program {
    child: Child,
    out: PathBuf,
    with: With,
    /// The system call in which telnet waits, as the kernel numbers it.
    waits_in: Option<String>,
}

impl Program {
    /// Starts it in front of a server at this address, behind the words of `before`, and signs in.
    pub fn start(server: &Server, with: With, before: &[&str], host: &str) -> Self {
        let out = server.folder.path("out");
        let port = server.address.port().to_string();
        let recv = mms(&server.folder);
        let words: Vec<&str> = match with {
            With::Nc => vec!["nc", "-I", UNREAD_BYTES, host, &port],
            With::Telnet => vec!["telnet", host, &port],
            With::Recv => vec![recv.get_program().to_str().unwrap(), "recv", "--follow"],
        };
        let words = [before, &words].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(server.folder.path("."));
        if with == With::Recv {
            command.args(["--user", "reader", "--password-file", "password"]);
            command.args(["--server", &format!("{host}:{port}")]);
        }
        command.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let mut program = Self { child, out, with, waits_in: None };
        match with {
            With::Nc => program.types(&format!("signin reader {PASSWORD}")),
            With::Telnet => {
                // Who asks for the prompt gets telnet's commands, and is asked for marks.
                program.types("signin reader");
                eventually("the prompt", || program.text().contains("Password: ").then_some(()));
                let asleep = || (program.state() == 'S').then(|| program.call()).flatten();
                program.waits_in = Some(eventually("its rest", asleep));
                program.types(PASSWORD);
            }
            With::Recv => {}
        }
        program
    }

    fn types(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    /// The whole lines that it has shown.
    fn lines(&self) -> Vec<String> {
        let text = self.text();
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        text[..end].lines().map(Into::into).collect()
    }

    fn bytes(&self) -> usize {
        fs::metadata(&self.out).unwrap().len() as usize
    }

    fn shown(&self) -> usize {
        self.lines().iter().filter(|line| letter(line).is_some()).count()
    }

    /// How many letters the welcome announced; `mms recv` shows none.
    fn waiting(&self) -> usize {
        if self.with == With::Recv {
            return usize::MAX;
        }
        eventually("the welcome", || {
            let welcome = |line: &&String| line.contains("Welcome reader");
            self.lines().iter().find(welcome).map(|line| waiting(line))
        })
    }

    /// Whether it has shown letter n.
    pub fn has_shown(&self, number: usize) -> bool {
        self.text().contains(&format!("letter {number} "))
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// As `ps` shows it: S asleep, T stopped.
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap()
    }

    /// The system call that it is in; none if it is in its own code.
    fn call(&self) -> Option<String> {
        let call = fs::read_to_string(format!("/proc/{}/syscall", self.child.id())).unwrap();
        let number = call.split_whitespace().next().unwrap_or_default();
        number.parse::<u32>().is_ok().then(|| number.to_owned())
    }

    /// Whether it is stopped, and not between an answer to a mark and what it is to show.
    fn is_stopped(&self) -> bool {
        if self.state() != 'T' {
            return false;
        }
        let waits = self.waits_in.is_none() || self.call() == self.waits_in;
        if !waits {
            self.signal("CONT");
            self.signal("STOP");
        }
        waits
    }

    /// Bytes that its kernel has and it has not read.
    fn unread(&self) -> usize {
        let id = self.child.id();
        let inodes: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
            .unwrap()
            .filter_map(|entry| fs::metadata(entry.unwrap().path()).ok())
            .map(|file| file.ino().to_string())
            .collect();
        let table = fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mine = rows.filter(|row| row.len() > 9 && inodes.iter().any(|inode| row[9] == inode));
        mine.map(|row| usize::from_str_radix(row[4].split(':').nth(1).unwrap(), 16).unwrap()).sum()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it for a moment, in which letters pile up unread.
    pub fn stops(&self) {
        self.signal("STOP");
        eventually("the stop", || self.is_stopped().then_some(()));
        // What it does not read piles up, until its kernel takes no more or nothing more comes.
        let mut unread = usize::MAX;
        while unread != self.unread() {
            unread = self.unread();
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Kills it if it has bytes unread.
    pub fn is_killed_reading(&mut self) -> bool {
        if self.with == With::Recv {
            self.kill();
            return true;
        }
        self.stops();
        if self.unread() > 0 {
            self.kill();
            return true;
        }
        self.signal("CONT");
        false
    }

    /// Whether it sleeps and has nothing to do.
    pub fn is_at_rest(&self) -> bool {
        self.state() == 'S' && self.unread() == 0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// One reader with all his programs, and who writes to him.
pub struct Story {
    pub server: Server,
    reader: Reader,
    pub sent: usize,
    /// How many of them everything is known of.
    drained: usize,
}

impl Story {
    pub fn new(options: &[&str]) -> Self {
        let server = Server::start(&people(1, &["reader"]), &[&ROOM, options].concat());
        server.folder.write("password", PASSWORD);
        Self { server, reader: Reader::new("reader"), sent: 0, drained: 0 }
    }

    pub fn send(&mut self, letters: usize) {
        backlog(&self.server, "reader", self.sent..self.sent + letters);
        self.sent += letters;
    }

    /// Waits until his session has begun.
    pub fn is_online(&self) {
        let seen = || {
            let mut other = self.server.signed_in("observer");
            let online = other.ask("whoelse").contains("reader");
            other.sign_out();
            online.then_some(())
        };
        eventually("his session", seen);
    }

    /// So many letters are sent while something else is done.
    pub fn send_meanwhile(&mut self, letters: usize, done: impl FnOnce()) {
        let (server, numbers) = (&self.server, self.sent..self.sent + letters);
        std::thread::scope(|scope| {
            scope.spawn(move || backlog(server, "reader", numbers));
            done();
        });
        self.sent += letters;
    }

    pub fn saw(&mut self, program: &Program) {
        self.reader.saw(&program.lines());
    }

    /// He reads what there is in peace, and remembers nothing of it.
    fn drain(&mut self) {
        self.reader.reads_all(&self.server, Leave::SigningOut);
        let all: Vec<Letter> = (self.drained..self.sent).map(|number| (0, number)).collect();
        self.reader.misses(&all);
        self.reader.has_all(&self.server);
        self.reader.forget_below(self.sent);
        self.drained = self.sent;
    }

    /// As often as memory needs it.
    pub fn drain_now_and_then(&mut self, cycle: usize) {
        if cycle % BETWEEN_DRAINS == BETWEEN_DRAINS - 1 {
            self.drain();
        }
    }

    /// He reads the rest in peace.
    pub fn end(mut self, tally: &mut Tally) {
        self.drain();
        tally.confirmed = self.sent;
        tally.heard(&mut self.reader);
    }
}

/// Which of these programs are here, and why the others are not.
pub fn programs(tally: &mut Tally, wanted: &[With]) -> Vec<With> {
    let mut found = wanted.to_vec();
    if found.contains(&With::Telnet) && fs::read("/proc/self/syscall").is_err() {
        println!("SKIP telnet: the kernel does not tell where it is stopped");
        tally.notes.push("without telnet".into());
        found.retain(|with| *with != With::Telnet);
    }
    found.retain(|with| {
        let probe = match with {
            With::Nc => Some(("nc", "OpenBSD's nc (it takes -I)", "-I ")),
            With::Telnet => Some(("telnet", "telnet", "")),
            With::Recv => None,
        };
        let Some((name, what, option)) = probe else { return true };
        let help = Command::new(name).arg("-h").stdin(Stdio::null()).output();
        let here = help.is_ok_and(|help| {
            let text = [help.stdout, help.stderr].concat();
            String::from_utf8_lossy(&text).contains(option)
        });
        if !here {
            println!("SKIP {what} is not installed");
            tally.notes.push(format!("without {what}"));
        }
        here
    });
    found
}

/// A reader is killed inside a backlog, again and again.
pub fn in_backlog(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut rng = Rng::from_env(7);
    // Not telnet, whose kernel takes any number of letters that it has not read: more than those
    // that the server keeps for who only listens.
    let with = programs(tally, &[With::Nc, With::Recv]);
    let mut story = Story::new(&[]);
    let letters = if count < 10 { BACKLOG / 10 } else { BACKLOG };
    let mut inside = 0;
    story.send(letters);
    for cycle in 0..count {
        let with = with[cycle % with.len()];
        let mut program = Program::start(&story.server, with, &[], "127.0.0.1");
        let target = rng.below(letters * LETTER_BYTES);
        eventually("its letters", || {
            let dies = program.bytes() >= target && program.is_killed_reading();
            inside += usize::from(dies);
            // Or it has them all, be they fewer than that; then less waits for the next.
            let through = !dies && program.is_at_rest() && program.shown() >= program.waiting();
            if through {
                program.kill();
            }
            (dies || through).then_some(())
        });
        story.saw(&program);
        tally.cycles += 1;
        if cycle % BETWEEN_DRAINS == BETWEEN_DRAINS - 1 {
            story.drain();
            story.send(letters);
        } else {
            // What he was shown is settled or not; as many wait again, or more.
            story.send(program.shown());
        }
    }
    tally.notes.push(format!("{inside} of {count} were killed inside it"));
    tally.holds(inside > 0, || "nobody was killed inside a backlog".into());
    story.end(tally);
    Ok(())
}

/// How a reader vanishes while letters come.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// Killed with bytes unread, if he ever has some.
    KilledReading,
    /// Killed when all is written.
    KilledAtRest,
    /// His machine resets the connection.
    Reset,
}

/// Readers are killed or reset while letters come.
pub fn vanish(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut rng = Rng::from_env(8);
    let with = programs(tally, &[With::Telnet, With::Nc, With::Recv]);
    let mut story = Story::new(&[]);
    let mut reading = 0;
    for cycle in 0..count {
        let exit = [Exit::KilledReading, Exit::KilledAtRest, Exit::Reset][cycle % 3];
        let before = rng.below(50);
        story.send(before);
        match exit {
            Exit::Reset => is_reset(&mut story, &mut rng),
            Exit::KilledReading | Exit::KilledAtRest => {
                let with = with[cycle / 3 % with.len()];
                let program = Program::start(&story.server, with, &[], "127.0.0.1");
                reading += usize::from(is_killed(&mut story, program, exit, &mut rng));
            }
        }
        tally.cycles += 1;
        story.drain_now_and_then(cycle);
    }
    tally.notes.push(format!("{reading} killed with bytes unread"));
    tally.holds(count < BETWEEN_DRAINS || reading > 0, || "nobody had bytes unread".into());
    story.end(tally);
    Ok(())
}

/// He reads some of it; then his side is gone, with whatever it had.
fn is_reset(story: &mut Story, rng: &mut Rng) {
    let mut client = story.server.signed_in("reader");
    let more = 1 + rng.below(100);
    story.send(more);
    let bytes = rng.below(more * LETTER_BYTES);
    while client.raw.len() < bytes && client.read_once() {}
    story.reader.saw(&client.take_lines());
    client.reset();
}

/// Letters come, and he is killed; whether he had bytes unread.
fn is_killed(story: &mut Story, mut program: Program, exit: Exit, rng: &mut Rng) -> bool {
    story.is_online();
    let mut died = false;
    story.send_meanwhile(rng.below(200), || {
        for _ in 0..TRIES {
            died = died || (matches!(exit, Exit::KilledReading) && program.is_killed_reading());
        }
    });
    if !died {
        // All is there that was ever sent, and nothing is under way.
        let all = || (story.sent == 0 || program.has_shown(story.sent - 1)).then_some(());
        eventually("the last letter", all);
        eventually("rest", || program.is_at_rest().then_some(()));
        program.kill();
    }
    story.saw(&program);
    died
}
