//! The companion is killed between keeping a letter, making that durable, printing it,
//! acknowledging it and noting that it was printed. No letter may be shown twice without a mark,
//! none may be missing. The kernel delivers the SIGKILL as the chosen system call begins: strace
//! puts it there.

use crate::campaign::{Skip, Tally};
use crate::device::program;
use crate::support::letters::{Reader, people};
use crate::support::rng::Rng;
use crate::support::server::{PASSWORD, Server, eventually, mms};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Before what it dies. Which of its writes to the inbox it was is told by what it was writing.
const POINTS: [&str; 6] = [
    "the letter is kept",
    "that is synced",
    "it is printed",
    "it is acknowledged",
    "it is noted as printed",
    "anything else",
];
/// After so many cycles each point must have been met.
const MEETS_ALL: usize = 60;
/// Whoever has not died after so many letters does not die.
const LETTERS_MOST: usize = 500;

/// One user's companion, which is started again and again on the same home.
struct Companion<'a> {
    server: &'a Server,
    reader: Reader,
    runs: usize,
}

impl Companion<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.server.folder.path(name)
    }

    /// The file that takes what the present run prints.
    fn out(&self) -> PathBuf {
        self.path(&format!("out-{}", self.runs))
    }

    /// Starts it behind `before`, which are words of another program.
    fn start(&mut self, before: &[String]) -> Child {
        self.runs += 1;
        let plain = mms(&self.server.folder);
        let mut command = match before {
            [] => mms(&self.server.folder),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(plain.get_program());
                command.current_dir(self.path("."));
                command
            }
        };
        command.args(["client", "--user", "absent", "--password-file", "password", "127.0.0.1"]);
        command.arg(self.server.address.port().to_string());
        command.env("HOME", self.path("home")).env_remove("XDG_DATA_HOME");
        let errors = File::create(self.path("errors")).unwrap();
        command.stdin(Stdio::piped()).stdout(File::create(self.out()).unwrap()).stderr(errors);
        command.spawn().unwrap()
    }

    /// What the run has printed, whole lines only.
    fn printed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.out()).unwrap();
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        text[..end].lines().map(Into::into).collect()
    }

    /// The run is over: what it has printed counts.
    fn ended(&mut self) {
        let lines = self.printed();
        self.reader.saw(&lines);
        fs::remove_file(self.out()).unwrap();
    }

    /// Lets it sign in, and ends it in order.
    fn runs_once(&mut self, until: &str) {
        let mut child = self.start(&[]);
        eventually(until, || self.printed().iter().any(|line| line.contains(until)).then_some(()));
        drop(child.stdin.take());
        let code = eventually("its end", || child.try_wait().unwrap()).code();
        assert_eq!(code, Some(0), "{}", self.server.folder.read("errors"));
        self.ended();
    }

    fn inbox(&self) -> PathBuf {
        let folder = self.path("home/.local/share/mms");
        let mut files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|e| e == "inbox")).expect("an inbox")
    }

    /// A strace that kills it when it does one of these calls for the n-th time, if `path` is not
    /// empty only with this file.
    fn strace(&self, calls: &str, path: &str, n: usize) -> Vec<String> {
        let log = self.path("strace");
        let inject = format!("inject={calls}:signal=KILL:when={n}");
        let trace = format!("trace={calls}");
        let mut words = vec!["strace", "-f", "-qq", "-s", "99", "-o", log.to_str().unwrap()];
        words.extend(["-e", &trace, "-e", &inject]);
        if !path.is_empty() {
            words.extend(["-P", path]);
        }
        words.into_iter().map(Into::into).collect()
    }
}

/// Ends the program that a strace runs; it would outlive the strace.
fn end_traced(strace: &mut Child) {
    let id = strace.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        // It may have ended by now.
        _ = Command::new("kill").args(["-s", "KILL", child]).status();
    }
    _ = strace.kill();
}

/// Before what it died, as the call tells that was begun last.
fn point(log: &str) -> &'static str {
    let last = log
        .lines()
        .rfind(|line| line.contains("(") && !line.contains("resumed"))
        .unwrap_or_default();
    let found = [("\"k ", 0), ("fdatasync", 1), ("sender0: letter", 2), ("ack ", 3), ("\"p ", 4)];
    let found = found.iter().find(|(words, _)| last.contains(words));
    POINTS[found.map_or(5, |(_, n)| *n)]
}

/// The companion is killed, at one point after the other.
pub fn companion(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    program("strace", &["-qq", "-o", "/dev/null", "-e", "inject=fdatasync:signal=KILL", "true"])?;
    let mut rng = Rng::from_env(6);
    let server = Server::start(&people(1, &["absent"]), &["--duplicate", "replace"]);
    server.folder.write("password", PASSWORD);
    let mut companion = Companion { server: &server, reader: Reader::new("absent"), runs: 0 };
    companion.runs_once("Welcome");
    let inbox = companion.inbox().to_str().unwrap().to_owned();
    let mut sender = server.signed_in("sender0");
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sent = 0;
    let mut send = || {
        let answer = sender.ask(&format!("send absent letter {sent} hi"));
        assert!(answer.contains("message sent") || answer.contains("saved"), "{answer}");
        sent += 1;
        sent
    };
    for cycle in 0..count {
        // Some wait for it, and some come while it is there.
        (0..rng.below(4)).for_each(|_| _ = send());
        let out = format!("{}/out-{}", server.folder.path("").display(), companion.runs + 1);
        let before = match cycle % 5 {
            0 | 4 => companion.strace("pwrite64", &inbox, 1 + rng.below(30)),
            1 => companion.strace("fdatasync", &inbox, 1 + rng.below(5)),
            2 => companion.strace("write", &out.replace("//", "/"), 1 + rng.below(8)),
            _ => companion.strace("sendto", "", 4 + rng.below(6)),
        };
        let mut child = companion.start(&before);
        let mut left = LETTERS_MOST;
        while child.try_wait().unwrap().is_none() {
            if left == 0 {
                end_traced(&mut child);
                tally.unexpected(format!("cycle {cycle}: it did not die: {before:?}"));
                break;
            }
            _ = send();
            left -= 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        child.wait().unwrap();
        *met.entry(point(&server.folder.read("strace"))).or_default() += 1;
        companion.ended();
        tally.cycles += 1;
    }
    let last = send() - 1;
    companion.runs_once(&format!("letter {last} hi"));
    sender.sign_out();
    tally.confirmed = sent;
    companion.reader.misses(&(0..sent).map(|number| (0, number)).collect::<Vec<_>>());
    companion.reader.has_all(&server);
    tally.heard(&mut companion.reader);
    for point in &POINTS[..5] {
        let times = met.get(point).copied().unwrap_or(0);
        tally.holds(count < MEETS_ALL || times > 0, || format!("never died before {point}"));
        tally.notes.push(format!("{times} before {point}"));
    }
    Ok(())
}
