//! Turns, one at a time: who is written to, and when; on a slow disk, too.

use super::{News, Outside, Server, Settings};
use crate::core::event::{End, Saved};
use crate::core::hub::Rules;
use crate::core::password::Verifier;
use crate::engine::Engine;
use crate::limits::{
    ANSWER_WAIT_MS, ANSWERS_WAITING, OUTPUT_CLOSE_BYTES, OVER_BESIDE, PING_MS, PONG_MS,
    PROBE_DEAD_MS, SIGNIN_MS, SLOW_SYNC_MS, STALLED_MS, WORK_WAITS_MS,
};
use crate::net::clock::Clock;
use crate::net::listen;
use crate::proto::name::UserName;
use crate::store::disk::{Disk, FileDisk, Patience, Progress};
use crate::store::spool::{Config, Sync};
use crate::time::Now;
use mio::Events;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub(super) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server on a spool.
pub(super) fn server<D: Disk>(
    disk: D,
    config: Config,
    users: Vec<(UserName, Verifier)>,
    now: Now,
) -> (Server<D>, SocketAddr) {
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

/// Nothing is asked of files.
fn without_files<T>(act: impl FnOnce(&mut Outside<'_>) -> io::Result<T>) -> T {
    let mut outside = Outside {
        reload: &mut || None,
        renew: &mut || None,
        inspect: &mut |_| (),
        save: &mut |_| Saved::Failed,
    };
    act(&mut outside).unwrap()
}

/// Takes a turn with these events.
pub(super) fn turn<D: Disk>(server: &mut Server<D>, events: &mut Events, now: Now) {
    without_files(|outside| server.turn(events, now, outside));
}

/// The same, but it takes so long. Tells what time it is then.
pub(super) fn long_turn<D: Disk>(
    server: &mut Server<D>,
    events: &mut Events,
    now: Now,
    ms: u64,
) -> Now {
    let by_the_clock = |ms| Now { mono: now.mono.plus(server.waited_ms + ms), ..now };
    let (begin, end) = (by_the_clock(0), by_the_clock(ms));
    let times = RefCell::new(vec![end, begin]);
    let clock = || times.borrow_mut().pop().expect("a look before and one after it");
    let begun = without_files(|outside| server.turn_by(&clock, events, outside));
    assert_eq!(begun.mono, now.mono);
    server.without_waits(end)
}

/// A server with its time, a turn at a time.
struct Slow<D: Disk> {
    server: Server<D>,
    events: Events,
    address: SocketAddr,
    now: Now,
    folder: PathBuf,
}

impl Slow<FileDisk> {
    fn begin(name: &str, sync: Sync) -> Self {
        Self::begin_on(name, Config { sync, spares: 0, ..Config::default() }, |disk| disk)
    }
}

impl<D: Disk> Slow<D> {
    fn begin_on(name: &str, config: Config, on: impl FnOnce(FileDisk) -> D) -> Self {
        let folder = std::env::temp_dir().join(format!("mms-{name}-{}", std::process::id()));
        let users = ["ann", "tim", "zoe"].map(|name| {
            (UserName::new(name).unwrap(), Verifier::derive(b"secret", b"saltsalt", 4096))
        });
        let (now, disk) = (Clock::start().now(), FileDisk::open(&folder).unwrap());
        let (server, address) = server(on(disk), config, users.to_vec(), now);
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

impl<D: Disk> Drop for Slow<D> {
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

// ---- while the disk is at a sync --------------------------------------------------------------

/// How far a disk is.
#[derive(Debug, Default)]
struct State {
    /// A sync that was begun takes its time from now on.
    late: bool,
    /// It is over, for who looks.
    over: bool,
    begun: u32,
    waited: u32,
}

/// A disk that ends a sync when it is told to, or waited for.
struct Late {
    disk: FileDisk,
    state: Rc<RefCell<State>>,
}

impl Disk for Late {
    type File = <FileDisk as Disk>::File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&mut self, name: &str) -> io::Result<Self::File> {
        self.disk.create(name)
    }
    fn open(&mut self, name: &str) -> io::Result<Self::File> {
        self.disk.open(name)
    }
    fn len(&mut self, file: &Self::File) -> io::Result<u64> {
        self.disk.len(file)
    }
    fn read_at(&mut self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, into)
    }
    fn write_all_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_all_at(file, offset, bytes)
    }
    fn truncate(&mut self, file: &Self::File, bytes: u64) -> io::Result<()> {
        self.disk.truncate(file, bytes)
    }
    fn sync_data(&mut self, file: &Self::File) -> io::Result<()> {
        self.disk.sync_data(file)
    }
    fn begin_sync(&mut self, file: &Self::File) -> io::Result<Progress> {
        let mut state = self.state.borrow_mut();
        state.begun += 1;
        state.over = false;
        match state.late {
            true => Ok(Progress::UnderWay),
            false => self.disk.sync_data(file).map(|()| Progress::Over),
        }
    }
    fn end_sync(&mut self, file: &Self::File, patience: Patience) -> io::Result<Progress> {
        let mut state = self.state.borrow_mut();
        if patience == Patience::Look && !state.over {
            return Ok(Progress::UnderWay);
        }
        state.waited += u32::from(patience == Patience::Wait);
        self.disk.sync_data(file).map(|()| Progress::Over)
    }
    fn sync_dir(&mut self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
}

/// A server on a disk that is late once all have signed in.
fn begin(name: &str, config: Config) -> (Slow<Late>, Rc<RefCell<State>>) {
    let state = Rc::new(RefCell::new(State::default()));
    let config = Config { spares: 0, ..config };
    let slow = Slow::begin_on(name, config, |disk| Late { disk, state: state.clone() });
    (slow, state)
}

impl Slow<Late> {
    /// Has the disk begun a sync that does not end, by this line of hers. Tells how many there had
    /// been.
    fn hang(&mut self, state: &RefCell<State>, ann: &TcpStream, line: &str) -> u32 {
        state.borrow_mut().late = true;
        let before = state.borrow().begun;
        tell(ann, &format!("{line}\r\n"));
        self.turn_until(|_| state.borrow().begun == before + 1);
        before
    }

    /// Turns, until what the kernel has for the server is handled.
    fn turn_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..10_000 {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("it never comes");
    }
}

#[test]
fn what_comes_while_the_disk_is_at_a_sync_is_heard_and_waits_for_the_next() {
    let (mut slow, state) = begin("late-next", Config::default());
    let [mut ann, mut tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    heard(&mut ann);
    heard(&mut tim);
    let before = slow.hang(&state, &ann, "send tim one");
    tell(&tim, "send ann two\r\nwhoelse\r\n");
    slow.turn_until(|slow| slow.server.unread.is_empty() && slow.server.engine.work() > 0);
    assert_eq!(heard(&mut ann) + &heard(&mut tim), "", "nothing is durable");
    assert_eq!(state.borrow().begun, before + 1, "one sync at a time");
    state.borrow_mut().over = true;
    slow.turn();
    let (to_ann, to_tim) = (heard(&mut ann), heard(&mut tim));
    assert!(to_ann.contains("message sent") && !to_ann.contains("two"), "{to_ann}");
    assert!(to_tim.contains("one"), "{to_tim}");
    assert!(!to_tim.contains("sent") && !to_tim.contains("online"), "{to_tim}");
    assert_eq!(state.borrow().begun, before + 2);
    slow.turn();
    assert_eq!(heard(&mut ann) + &heard(&mut tim), "", "the second is not durable");
    state.borrow_mut().over = true;
    slow.turn();
    assert!(heard(&mut ann).contains("two"));
    let to_tim = heard(&mut tim);
    assert!(to_tim.find("message sent") < to_tim.find("ann"), "in the order asked: {to_tim}");
    assert_eq!(state.borrow().waited, 0);
}

#[test]
fn nobody_gets_the_number_of_one_to_whom_something_is_still_to_be_said() {
    let (mut slow, state) = begin("late-number", Config::default());
    let [mut ann, tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    let ports = slow.server.ports.len();
    slow.hang(&state, &ann, "send tim for tim alone");
    socket2::SockRef::from(&tim).set_linger(Some(Duration::ZERO)).unwrap();
    drop(tim);
    slow.turn_until(|slow| slow.server.told == 1);
    let mut stranger = TcpStream::connect(slow.address).unwrap();
    stranger.set_nonblocking(true).unwrap();
    slow.turn_until(|slow| slow.server.ports.len() == ports + 1);
    let mut said = String::new();
    while !said.contains("Welcome") && !said.contains("signin") {
        state.borrow_mut().over = true;
        slow.turn();
        said += &heard(&mut stranger);
    }
    slow.turn_until(|slow| slow.server.ports.len() == ports);
    said += &heard(&mut stranger);
    assert!(!said.contains("tim"), "{said}");
    assert!(heard(&mut ann).contains("message sent"));
    assert_eq!((slow.server.told, slow.server.over.len()), (0, 0));
}

#[test]
fn who_asks_for_more_than_the_disk_takes_waits_for_it() {
    let config = Config { batch_bytes: 300, ..Config::default() };
    let (mut slow, state) = begin("late-full", config);
    let mut ann = slow.sign_in("ann");
    state.borrow_mut().late = true;
    let lines: String = (0..100).map(|n| format!("send tim number {n}\r\n")).collect();
    tell(&ann, &lines);
    let mut said = String::new();
    while said.matches("will be saved").count() < 100 {
        let waited = state.borrow().waited;
        slow.turn();
        said += &heard(&mut ann);
        if state.borrow().waited == waited {
            // Nothing more is to be read: the last ones need somebody who looks.
            state.borrow_mut().over = slow.server.unread.is_empty();
        }
    }
    assert!(state.borrow().waited > 5, "{state:?}");
}

#[test]
fn who_asks_for_what_is_no_work_waits_for_the_disk_and_is_told_all() {
    let (mut slow, state) = begin("late-talk", Config::default());
    let [ann, mut tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    heard(&mut tim);
    slow.hang(&state, &ann, "send ann one");
    // All answers together are more than may wait for him.
    let asked = 2 * OUTPUT_CLOSE_BYTES / 445;
    tell(&tim, &"help\r\n".repeat(asked));
    let mut turns = 0;
    slow.turn_until(|_| {
        turns += 1;
        state.borrow().waited > 0 || turns > 1000
    });
    assert!(turns <= 1000, "nothing bounds what is held");
    let mut said = String::new();
    while said.matches("'help <command>'").count() < asked {
        state.borrow_mut().over = true;
        slow.turn();
        said += &heard(&mut tim);
    }
    assert_eq!(slow.server.told, 0);
}

#[test]
fn who_comes_and_goes_while_the_disk_is_at_a_sync_does_not_use_up_the_descriptors() {
    let (mut slow, state) = begin("late-churn", Config::default());
    let ann = slow.sign_in("ann");
    slow.server.settings.connections = 9;
    slow.hang(&state, &ann, "send ann one");
    let most = 9 + OVER_BESIDE;
    for _ in 0..most {
        let brief = TcpStream::connect(slow.address).unwrap();
        socket2::SockRef::from(&brief).set_linger(Some(Duration::ZERO)).unwrap();
        drop(brief);
        slow.turn();
        slow.turn();
    }
    slow.turn_until(|slow| slow.server.told + 1 >= slow.server.ports.len());
    assert_eq!(slow.server.ports.len(), most);
    // Who has a place, but no descriptor, is not turned away.
    let mut late = TcpStream::connect(slow.address).unwrap();
    late.set_nonblocking(true).unwrap();
    slow.turn();
    let mut said = String::new();
    while !said.contains("signin") {
        state.borrow_mut().over = true;
        slow.turn();
        assert!(slow.server.ports.len() <= most);
        said += &heard(&mut late);
    }
    slow.turn_until(|slow| slow.server.ports.len() == 2);
    assert_eq!((slow.server.told, slow.server.over.len()), (0, 0));
    slow.sign_in("tim");
}

#[test]
fn a_session_that_could_not_be_asked_is_not_taken_for_dead() {
    let (mut slow, state) = begin("late-probe", Config::default());
    let [ann, mut tim] = ["ann", "tim"].map(|name| slow.sign_in(name));
    slow.hang(&state, &ann, "send ann one");
    let mut second = TcpStream::connect(slow.address).unwrap();
    second.set_nonblocking(true).unwrap();
    tell(&second, "signin tim secret\r\n");
    let ports = slow.server.ports.len();
    slow.turn_until(|slow| slow.server.ports.len() > ports && slow.server.unread.is_empty());
    // The check of the password, and then three times as long as one waits for an answer.
    for _ in 0..3 * PROBE_DEAD_MS {
        slow.now.mono = slow.now.mono.plus(1);
        slow.turn();
    }
    assert_eq!(heard(&mut tim).matches("signed off").count(), 0);
    let mut said = String::new();
    for _ in 0..2 * PROBE_DEAD_MS {
        state.borrow_mut().over = true;
        slow.now.mono = slow.now.mono.plus(1);
        slow.turn();
        said += &heard(&mut second);
        if said.contains("already") {
            break;
        }
    }
    assert!(said.contains("already") && !said.contains("Welcome tim"), "{said}");
    let to_tim = heard(&mut tim);
    assert!(to_tim.contains("tries to sign in") && !to_tim.contains("signed off"), "{to_tim}");
}

#[test]
fn the_operator_is_told_once_that_the_disk_takes_its_time() {
    let (mut slow, state) = begin("late-told", Config::default());
    let ann = slow.sign_in("ann");
    for _ in 0..2 {
        slow.hang(&state, &ann, "send tim one");
        let at = |slow: &Slow<_>, ms| slow.now.mono.plus(ms);
        assert_eq!(slow.server.engine.deadline(), Some(at(&slow, SLOW_SYNC_MS)));
        slow.now.mono = at(&slow, SLOW_SYNC_MS);
        slow.turn();
        let next = slow.server.engine.deadline();
        assert!(next.is_none_or(|next| next > at(&slow, SLOW_SYNC_MS)), "once: {next:?}");
        state.borrow_mut().late = false;
        state.borrow_mut().over = true;
        slow.turn();
    }
}

#[test]
fn a_sync_does_not_last_since_another_one_began() {
    let (mut slow, state) = begin("late-twice", Config::default());
    let (ann, zoe) = (slow.sign_in("ann"), slow.sign_in("zoe"));
    let before = slow.hang(&state, &ann, "send tim one");
    // This waits for the next one.
    let work = slow.server.engine.work();
    tell(&zoe, "send tim two\r\n");
    slow.turn_until(|slow| slow.server.engine.work() > work);
    slow.now.mono = slow.now.mono.plus(SLOW_SYNC_MS - 1);
    state.borrow_mut().over = true;
    slow.turn_until(|_| state.borrow().begun == before + 2);
    let next = slow.server.engine.deadline();
    assert!(next.is_none_or(|next| next >= slow.now.mono.plus(SLOW_SYNC_MS)), "{next:?}");
}

#[test]
fn checks_of_passwords_do_not_keep_the_processor_from_a_sync() {
    let (mut slow, state) = begin("late-checks", Config::default());
    let ann = slow.sign_in("ann");
    slow.hang(&state, &ann, "send tim one");
    let second = TcpStream::connect(slow.address).unwrap();
    tell(&second, "signin tim secret\r\n");
    let is_due =
        |slow: &Slow<_>| slow.server.engine.deadline().is_some_and(|at| at <= slow.now.mono);
    slow.turn_until(|slow| is_due(slow));
    slow.turn_until(|slow| slow.server.unread.is_empty() && slow.server.news.is_empty());
    assert!(is_due(&slow), "the check is not over");
    let waits = slow.server.timeout(slow.now.mono);
    assert_eq!(waits, Some(Duration::from_millis(WORK_WAITS_MS)));
    // Without a sync there is nobody to wait for.
    state.borrow_mut().late = false;
    state.borrow_mut().over = true;
    slow.turn_until(|slow| !is_due(slow));
    let third = TcpStream::connect(slow.address).unwrap();
    tell(&third, "signin zoe secret\r\n");
    slow.turn_until(|slow| is_due(slow));
    assert_eq!(slow.server.timeout(slow.now.mono), Some(Duration::ZERO));
}

#[test]
fn a_client_that_could_not_be_told_of_a_ping_is_not_given_up() {
    let (mut slow, state) = begin("late-ping", Config::default());
    let ann = slow.sign_in("ann");
    let mut tim = TcpStream::connect(slow.address).unwrap();
    tim.set_nonblocking(true).unwrap();
    tell(&tim, "coded 1\r\nsignin tim listener plain secret\r\n");
    let mut said = String::new();
    slow.turn_until(|slow| {
        slow.now.mono = slow.now.mono.plus(1);
        said += &heard(&mut tim);
        said.contains("\n230 ")
    });
    slow.hang(&state, &ann, "send ann one");
    let wait = |slow: &mut Slow<_>, ms| {
        slow.now.mono = slow.now.mono.plus(ms);
        slow.turn();
        slow.turn();
    };
    for _ in 0..10 {
        wait(&mut slow, PING_MS);
    }
    assert_eq!(heard(&mut tim), "");
    // Now it is said, which leaves him time to answer.
    state.borrow_mut().late = false;
    state.borrow_mut().over = true;
    slow.turn();
    assert!(heard(&mut tim).starts_with("121 ping"));
    wait(&mut slow, PONG_MS / 2);
    wait(&mut slow, PONG_MS / 2 - 1);
    assert_eq!(heard(&mut tim), "");
    // He is given up if he does not use it.
    wait(&mut slow, 1);
    let said = heard(&mut tim);
    assert!(said.contains("unresponsive"), "{said}");
}

#[test]
fn a_newcomer_whom_the_disk_keeps_from_being_greeted_is_not_sent_away() {
    let (mut slow, state) = begin("late-greeting", Config::default());
    let ann = slow.sign_in("ann");
    slow.hang(&state, &ann, "send ann one");
    let mut tim = TcpStream::connect(slow.address).unwrap();
    tim.set_nonblocking(true).unwrap();
    let ports = slow.server.ports.len();
    slow.turn_until(|slow| slow.server.ports.len() > ports);
    let pass = |slow: &mut Slow<_>, ms: u64| {
        for _ in 0..ms / 1000 {
            slow.now.mono = slow.now.mono.plus(1000);
            slow.turn();
        }
    };
    pass(&mut slow, 3 * SIGNIN_MS);
    assert_eq!(heard(&mut tim), "");
    // Now he is greeted, which leaves him most of the time.
    state.borrow_mut().late = false;
    state.borrow_mut().over = true;
    slow.turn();
    let said = heard(&mut tim);
    assert!(said.contains("Welcome to MMS") && !said.contains("goodbye"), "{said}");
    pass(&mut slow, SIGNIN_MS / 2);
    assert_eq!(heard(&mut tim), "");
    // He is sent away if he does not use it.
    pass(&mut slow, SIGNIN_MS);
    let said = heard(&mut tim);
    assert!(said.contains("nobody signed in within 120 s"), "{said}");
}

#[test]
fn who_could_not_be_written_to_in_a_long_turn_is_not_taken_for_stalled() {
    let mut slow = Slow::begin("long-turn", Sync::Never);
    let ann = slow.sign_in("ann");
    socket2::SockRef::from(&ann).set_recv_buffer_size(4096).unwrap();
    for (_, port) in &slow.server.ports {
        socket2::SockRef::from(&port.stream).set_send_buffer_size(4096).unwrap();
    }
    tell(&ann, &"help\r\n".repeat(200));
    let pending = |slow: &Slow<_>| slow.server.ports.iter().any(|(_, port)| port.pending() > 0);
    // Already in the turn in which nothing more goes, and in one after it.
    while !pending(&slow) {
        slow.server.look(&mut slow.events, Some(Duration::ZERO)).unwrap();
        slow.now = long_turn(&mut slow.server, &mut slow.events, slow.now, STALLED_MS);
        slow.between_turns();
    }
    slow.now = long_turn(&mut slow.server, &mut slow.events, slow.now, STALLED_MS);
    slow.turn();
    assert!(pending(&slow) && slow.server.news.is_empty(), "{:?}", slow.server.news);
    // Who does not take anything later either is given up.
    let is_stalled = |news: &[News]| matches!(news, [News::Closed(_, End::Stalled)]);
    for _ in 0..100 {
        // The kernel may still have taken some.
        slow.now.mono = slow.now.mono.plus(STALLED_MS);
        slow.turn();
        if is_stalled(&slow.server.news) {
            return;
        }
    }
    panic!("{:?}", slow.server.news);
}
