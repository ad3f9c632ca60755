//! Turns, one at a time: who is written to, and when.

use super::{News, Outside, Server, Settings};
use crate::core::event::{End, Saved};
use crate::core::hub::Rules;
use crate::core::password::Verifier;
use crate::engine::Engine;
use crate::limits::{ANSWER_WAIT_MS, ANSWERS_WAITING};
use crate::net::clock::Clock;
use crate::net::listen;
use crate::proto::name::UserName;
use crate::store::disk::FileDisk;
use crate::store::spool::{Config, Sync};
use crate::time::Now;
use mio::Events;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server on a spool in `folder`, which waits for the disk if that is asked for.
pub(super) fn server(
    folder: &std::path::Path,
    sync: Sync,
    users: Vec<(UserName, Verifier)>,
    now: Now,
) -> (Server<FileDisk>, SocketAddr) {
    let config = Config { sync, spares: 0, ..Config::default() };
    let disk = FileDisk::open(folder).unwrap();
    let opened = Engine::open(disk, config, Rules::default(), users, now, &mut |_| Ok(()));
    let settings = Settings {
        connections: 999,
        trusted: vec!["127.0.0.1/32".parse().unwrap()],
        buffer_bytes: 1 << 20,
        seed: 0,
    };
    let listener = listen(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    (Server::new(opened.unwrap().0, listener, settings).unwrap(), address)
}

/// Takes a turn with these events; nothing is asked of files.
pub(super) fn turn(server: &mut Server<FileDisk>, events: &mut Events, now: Now) {
    let mut outside = Outside {
        reload: &mut || None,
        renew: &mut || None,
        inspect: &mut |_| (),
        save: &mut |_| Saved::Failed,
    };
    server.turn(events, now, &mut outside).unwrap();
}

/// A server with its time, a turn at a time.
struct Slow {
    server: Server<FileDisk>,
    events: Events,
    address: SocketAddr,
    now: Now,
    folder: PathBuf,
}

impl Slow {
    fn begin(name: &str, sync: Sync) -> Self {
        let folder = std::env::temp_dir().join(format!("mms-{name}-{}", std::process::id()));
        let users = ["ann", "tim", "zoe"].map(|name| {
            (UserName::new(name).unwrap(), Verifier::derive(b"secret", b"saltsalt", 4096))
        });
        let now = Clock::start().now();
        let (server, address) = server(&folder, sync, users.to_vec(), now);
        Self { server, events: Events::with_capacity(1024), address, now, folder }
    }

    /// Handles what the kernel has for the server.
    fn turn(&mut self) {
        self.server.look(&mut self.events, Some(Duration::ZERO)).unwrap();
        self.turn_with_events();
    }

    fn turn_with_events(&mut self) {
        turn(&mut self.server, &mut self.events, self.now);
    }

    /// Does what is done before the next turn.
    fn between_turns(&mut self) {
        self.server.answer(&mut self.events, self.now.mono).unwrap();
    }

    fn sign_in(&mut self, name: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        // What is told is there at once.
        stream.set_nodelay(true).unwrap();
        tell(&stream, &format!("signin {name} secret\r\n"));
        let mut said = String::new();
        while !said.contains(&format!("Welcome {name}")) {
            self.turn();
            self.between_turns();
            self.turn_with_events();
            said += &heard(&mut stream);
        }
        stream
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn tell(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// What has come.
fn heard(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 9999];
    match stream.read(&mut bytes) {
        Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
        Err(e) if e.kind() == ErrorKind::WouldBlock => String::new(),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn an_answer_waits_until_there_is_nothing_to_read() {
    let mut slow = Slow::begin("answer-idle", Sync::Never);
    let [mut ann, mut tim, mut zoe] = ["ann", "tim", "zoe"].map(|name| slow.sign_in(name));
    tell(&ann, "send tim one\r\n");
    slow.turn();
    assert!(heard(&mut tim).contains("one"));
    assert_eq!(heard(&mut ann), "");
    // There is something to read.
    tell(&zoe, "send tim two\r\n");
    slow.between_turns();
    assert_eq!(heard(&mut ann), "");
    slow.turn_with_events();
    assert!(heard(&mut tim).contains("two"));
    assert_eq!(heard(&mut ann) + &heard(&mut zoe), "");
    // There is nothing.
    slow.between_turns();
    assert!(heard(&mut ann).contains("message sent"));
    assert!(heard(&mut zoe).contains("message sent"));
}

#[test]
fn answers_to_one_go_out_together_and_behind_what_he_is_shown_with_it() {
    let mut slow = Slow::begin("answer-twice", Sync::Never);
    let [mut ann, tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    for text in ["one", "two"] {
        tell(&ann, &format!("send tim {text}\r\n"));
        slow.turn();
    }
    assert_eq!(heard(&mut ann), "");
    tell(&tim, "send ann three\r\n");
    slow.turn();
    let said = heard(&mut ann);
    assert_eq!(said.matches("message sent").count(), 2, "{said}");
    assert!(said.trim_end().ends_with("three"), "{said}");
    slow.between_turns();
    assert_eq!(heard(&mut ann), "");
}

#[test]
fn an_answer_does_not_wait_longer_than_a_while() {
    let mut slow = Slow::begin("answer-late", Sync::Never);
    let [mut ann, tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    tell(&ann, "send tim one\r\n");
    slow.turn();
    let begin = slow.now.mono;
    for ms in 0..=ANSWER_WAIT_MS {
        assert_eq!(heard(&mut ann), "", "{ms}");
        slow.now.mono = begin.plus(ms);
        tell(&tim, "help\r\n");
        slow.between_turns();
        slow.turn_with_events();
    }
    assert!(heard(&mut ann).contains("message sent"));
}

#[test]
fn of_many_answers_only_so_many_wait() {
    let mut slow = Slow::begin("answer-many", Sync::Never);
    let mut all = vec![];
    for _ in 0..ANSWERS_WAITING + 9 {
        let mut one = TcpStream::connect(slow.address).unwrap();
        one.set_nonblocking(true).unwrap();
        while heard(&mut one).is_empty() {
            slow.turn();
            slow.between_turns();
        }
        all.push(one);
    }
    all.iter().for_each(|one| tell(one, "help\r\n"));
    slow.turn();
    let told =
        |all: &mut [TcpStream]| all.iter_mut().map(heard).filter(|said| !said.is_empty()).count();
    let at_once = told(&mut all);
    slow.between_turns();
    assert_eq!((at_once, told(&mut all)), (9, ANSWERS_WAITING));
}

#[test]
fn who_has_waited_for_the_disk_does_not_wait_again() {
    let mut slow = Slow::begin("answer-disk", Sync::Always);
    let mut ann = slow.sign_in("ann");
    tell(&ann, "send tim one\r\n");
    slow.turn();
    assert!(heard(&mut ann).contains("will be saved"));
}

#[test]
fn who_ends_while_an_answer_waits_has_it_and_is_freed_once() {
    let mut slow = Slow::begin("answer-end", Sync::Never);
    let [mut ann, tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    tell(&ann, "send tim one\r\n");
    tell(&tim, "send ann two\r\n");
    slow.turn();
    tell(&ann, "signout\r\n");
    // Somebody breaks, too, and is in both lists.
    tell(&tim, "help\r\n");
    slow.turn();
    socket2::SockRef::from(&tim).set_linger(Some(Duration::ZERO)).unwrap();
    drop(tim);
    let mut said = String::new();
    while !slow.server.ports.is_empty() {
        slow.between_turns();
        slow.turn_with_events();
        said += &heard(&mut ann);
        slow.now.mono = slow.now.mono.plus(1);
        if said.contains("Thank you") {
            // It may be gone already.
            let _ = ann.shutdown(std::net::Shutdown::Write);
        }
    }
    assert_eq!(said.matches("message sent").count(), 1, "{said}");
    assert!(slow.server.news.is_empty() && slow.server.gone.is_empty());
}

#[test]
fn who_breaks_while_an_answer_waits_is_told_of_once() {
    let mut slow = Slow::begin("answer-broken", Sync::Never);
    let ann = slow.sign_in("ann");
    tell(&ann, "send tim one\r\n");
    slow.turn();
    socket2::SockRef::from(&ann).set_linger(Some(Duration::ZERO)).unwrap();
    drop(ann);
    slow.between_turns();
    slow.turn_with_events();
    slow.now.mono = slow.now.mono.plus(ANSWER_WAIT_MS);
    slow.between_turns();
    slow.server.reap(slow.now.mono);
    assert!(
        matches!(slow.server.news[..], [News::Closed(_, End::Broken)]),
        "{:?}",
        slow.server.news
    );
    slow.between_turns();
    slow.turn_with_events();
    assert!(slow.server.ports.is_empty() && slow.server.news.is_empty());
}
