//! The real server on a real file system of 64 MiB that somebody else fills to the last byte.
//! Needs root for the mount; without it SKIP is printed.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::server::{
    Client, Folder, PASSWORD, Server, Start, eventually, mms, ready_mib, users_file,
};

const NO_ROOM: &str = ">> the server's disk is full; not stored, try again later";
const CONFIRMED: &str = ">> tim is offline, message will be saved for future delivery";
/// As much text as a message may have, nearly.
const TEXT_BYTES: usize = 1900;

/// A file system of its own.
struct Small(PathBuf);

impl Small {
    /// Mounts one at `at`; `None` where that is not allowed or cannot be done.
    fn mount(folder: &Folder, at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let image = folder.path("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let quiet = |command: &mut Command| {
            let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        let made = quiet(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        let looped = made && quiet(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
        let mounted = looped
            || quiet(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(at));
        println!("{}", if looped { "ext4" } else { "tmpfs, or nothing" });
        mounted.then(|| Self(at.to_owned()))
    }

    /// Takes every byte that is free.
    fn fill(&self) {
        let mut filler =
            OpenOptions::new().create(true).append(true).open(self.0.join("filler")).unwrap();
        let mut bytes = 1 << 20;
        while bytes > 0 {
            match filler.write(&vec![b'x'; bytes]) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => bytes /= 2,
                Err(e) => panic!("{e}"),
            }
        }
        // What is written later must not find room where this was not on the disk yet.
        filler.sync_all().unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Letters sent to tim.
#[derive(Default)]
struct Sent {
    next: usize,
    /// The numbers of those that were confirmed.
    confirmed: Vec<usize>,
}

impl Sent {
    /// Sends numbered letters, many at a time, until one is refused.
    fn until_refused(&mut self, fred: &mut Client) {
        let filler = "x".repeat(TEXT_BYTES);
        loop {
            let numbers = self.next..self.next + 100;
            self.next = numbers.end;
            let lines = numbers.clone().map(|number| format!("send tim {number} {filler}\n"));
            fred.send(lines.collect::<String>().as_bytes());
            let before = self.confirmed.len();
            for number in numbers {
                match &*fred.line() {
                    NO_ROOM => {}
                    CONFIRMED => self.confirmed.push(number),
                    other => panic!("{other}"),
                }
            }
            if self.confirmed.len() < before + 100 {
                return;
            }
        }
    }

    /// Sends one until it is taken.
    fn until_taken(&mut self, fred: &mut Client) {
        eventually("room for a letter", || {
            self.next += 1;
            let taken = fred.ask(&format!("send tim {} x", self.next - 1)) == CONFIRMED;
            taken.then(|| self.confirmed.push(self.next - 1))
        });
    }

    /// All of them wait for tim, each once, and in order; he reads them.
    fn are_read(&mut self, server: &Server) {
        let mut tim = server.greeted();
        let welcome = tim.sign_in("tim", PASSWORD);
        let count = self.confirmed.len();
        assert_eq!(welcome, format!(">> Welcome tim, you have {count} messages waiting:"));
        for number in self.confirmed.drain(..) {
            let line = tim.line();
            let text = line.trim_start_matches(">> ").trim_start().strip_prefix("fred: ").unwrap();
            assert_eq!(text.split(' ').next(), Some(&*number.to_string()));
        }
        tim.sign_out();
    }
}

#[test]
fn a_full_disk_is_survived_and_drains() {
    let folder = Folder::new();
    let at = folder.path("disk");
    let Some(disk) = Small::mount(&folder, &at) else {
        println!("SKIP a_full_disk_is_survived_and_drains: no file system can be mounted");
        return;
    };
    folder.write("users", &users_file(&["fred", "tim", "seas"]));
    let spool = at.join("spool");
    let options = [
        "--spool",
        spool.to_str().unwrap(),
        "--spool-reserve",
        "16",
        "--mailbox-letters",
        "1000000",
        "--mailbox-bytes",
        "1000000000",
    ];
    let options = options.map(String::from).to_vec();
    let mut server = Server::start_as(folder, Start { options, ..Start::default() });
    eventually("the room", || (ready_mib(&spool) == 16).then_some(()));
    let mut fred = server.signed_in("fred");
    assert!(fred.ask("send seas before").contains("will be saved"));
    disk.fill();

    // What is ready takes letters, and then no more of them.
    let mut sent = Sent::default();
    sent.until_refused(&mut fred);
    let fitted = sent.confirmed.len();
    println!("{fitted} letters of {TEXT_BYTES} bytes fitted into what was ready");
    assert!(fitted * TEXT_BYTES > 4 << 20, "{fitted}");
    server.logs("the disk is full");
    server.logs("fred: limit reached: disk full");
    assert_eq!(fred.ask("block tim"), NO_ROOM);
    assert!(ready_mib(&spool) >= 8, "a segment is left for what must go on");

    // Sign-ins, deliveries and acknowledgements go on.
    let mut seas = server.greeted();
    assert!(seas.sign_in("seas", PASSWORD).contains("1 message waiting"));
    assert!(seas.line().ends_with("fred: before"));
    seas.sign_out();
    let welcome = server.greeted().sign_in("seas", PASSWORD);
    assert_eq!(welcome, ">> Welcome seas, you have no messages waiting");

    // A crash, and again one while nothing is free.
    for _ in 0..3 {
        disk.fill();
        server.kill9();
        server.restart();
        assert_eq!(server.signed_in("fred").ask("send tim too much"), NO_ROOM);
    }
    let welcome = server.greeted().sign_in("seas", PASSWORD);
    assert_eq!(welcome, ">> Welcome seas, you have no messages waiting");

    // The letters are read, and that makes room although the disk is as full as before.
    sent.are_read(&server);
    disk.fill();
    let mut fred = server.signed_in("fred");
    while sent.confirmed.len() * TEXT_BYTES < 4 << 20 {
        sent.until_taken(&mut fred);
        sent.until_refused(&mut fred);
    }
    println!("{} more after that", sent.confirmed.len());
    server.kill9();
    server.restart();

    disk.empty();
    let mut fred = server.signed_in("fred");
    sent.until_taken(&mut fred);
    eventually("all that is wanted", || (ready_mib(&spool) >= 16).then_some(()));
    server.logs("the disk is not full any more");
    sent.are_read(&server);
    assert_eq!(server.terminate().code(), Some(0));
    let checked = mms(&server.folder).args(["spool", "check", "--spool"]).arg(&spool).output();
    let checked = checked.unwrap();
    let text = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && text.contains("0 letters waiting"), "{text}");
    drop(server);
    drop(disk);
}
