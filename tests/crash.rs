//! The promise, against the real program and `kill -9`: what was confirmed is delivered, what is
//! shown a second time says so, and each sender's letters come in the order in which he sent them.
//! `MMS_SEED` repeats a run as far as the kernel lets it be repeated.
#![allow(clippy::disallowed_methods)] // see tests/support/mod.rs

mod support;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;
use support::rng::Rng;
use support::server::{Client, PASSWORD, Server, eventually};

const SENDERS: usize = 6;
const ROUNDS: usize = 20;

/// A letter, as its text tells: which sender sent it as his n-th.
type Letter = (usize, usize);

/// What one reader was ever shown.
#[derive(Default)]
struct Reader {
    name: &'static str,
    shown: HashMap<Letter, u32>,
    repeats: usize,
}

impl Reader {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes in the lines of one session. No letter may come twice in it, nor before an earlier
    /// one of the same sender, nor a second time without a word.
    fn saw(&mut self, lines: &[String]) {
        let mut last = HashMap::new();
        for line in lines {
            let Some((again, (sender, number))) = letter(line) else { continue };
            let before = last.insert(sender, number);
            assert!(before < Some(number), "{}: {line} after {before:?}", self.name);
            let times = self.shown.entry((sender, number)).or_default();
            assert!(*times == 0 || again, "{}: {line} came before and does not say so", self.name);
            self.repeats += usize::from(*times > 0);
            *times += 1;
        }
    }

    fn saw_all(&self, confirmed: &[Letter]) {
        let lost: Vec<_> = confirmed.iter().filter(|one| !self.shown.contains_key(one)).collect();
        assert!(lost.is_empty(), "{} never saw {lost:?}", self.name);
    }

    /// Signs in and reads all that waits; then leaves, or breaks the connection.
    fn reads_all(&mut self, server: &Server, leave: Leave) {
        let mut client = server.greeted();
        let welcome = client.sign_in(self.name, PASSWORD);
        let waiting = waiting(&welcome);
        let lines: Vec<String> = (0..waiting).map(|_| client.line()).collect();
        let other = lines.iter().find(|line| letter(line).is_none());
        assert_eq!(other, None, "among {waiting} letters");
        self.saw(&lines);
        match leave {
            Leave::SigningOut => _ = client.sign_out(),
            Leave::Reset => client.reset(),
        }
        eventually("the end of the session", || {
            let mut other = server.signed_in("observer");
            let alone = other.ask("whoelse").contains("Nobody");
            other.sign_out();
            alone.then_some(())
        });
    }
}

/// How many letters a welcome announces.
fn waiting(welcome: &str) -> usize {
    welcome.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

#[derive(Clone, Copy)]
enum Leave {
    SigningOut,
    Reset,
}

/// `>> (again) sender3: letter 17 …`
fn letter(line: &str) -> Option<(bool, Letter)> {
    let line = line.strip_prefix(">> ")?.trim_start();
    let (again, line) = match line.strip_prefix("(again) ") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (sender, text) = line.strip_prefix("sender")?.split_once(": letter ")?;
    let number = text.split(' ').next()?;
    Some((again, (sender.parse().ok()?, number.parse().ok()?)))
}

/// Types letters from the `first` on until the connection ends, a few in each write.
fn type_letters(mut stream: TcpStream, first: usize) {
    for number in first.. {
        let text = format!("send (absent present) letter {number} {}\n", "x".repeat(number % 300));
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads answers until the connection ends; how many letters were confirmed.
fn count_answers(client: &mut Client) -> usize {
    let mut confirmed = 0;
    while let Some(line) = client.next_line() {
        // The last line may have been cut by the crash.
        if line.starts_with(">> message sent to ") || line.contains("message will be saved") {
            confirmed += 1;
        }
    }
    confirmed
}

/// Reads what comes until the connection ends, and now and then shows a sign of life, by which
/// letters are settled.
fn listen(mut client: Client, mut rng: Rng) -> Vec<String> {
    let mut lines = vec![];
    loop {
        let open = client.read_once();
        lines.extend(client.take_lines());
        if !open {
            return lines;
        }
        if rng.one_in(20) {
            _ = client.stream.write_all(b"\n");
        }
    }
}

/// One round: everybody writes, the server is killed, and what was confirmed is told, sender by
/// sender. `present` listens meanwhile.
fn write_until_killed(
    server: &mut Server,
    present: &mut Reader,
    first: usize,
    rng: &mut Rng,
) -> Vec<Letter> {
    let listener = server.signed_in(present.name);
    let senders: Vec<Client> =
        (0..SENDERS).map(|n| server.signed_in(&format!("sender{n}"))).collect();
    let moment = Duration::from_micros(rng.next() % 200_000);
    let seed = rng.next();
    let mut confirmed = vec![];
    let heard = std::thread::scope(|scope| {
        let listener = scope.spawn(move || listen(listener, Rng::new(seed)));
        let mut counts = vec![];
        for mut client in senders {
            let typing = client.stream.try_clone().unwrap();
            scope.spawn(move || type_letters(typing, first));
            counts.push(scope.spawn(move || count_answers(&mut client)));
        }
        // A random moment is no event to wait for.
        std::thread::sleep(moment);
        server.kill9();
        for (sender, count) in counts.into_iter().enumerate() {
            let count = count.join().unwrap();
            confirmed.extend((first..first + count).map(|number| (sender, number)));
        }
        listener.join().unwrap()
    });
    println!("killed after {moment:?}: {} confirmed, {} heard", confirmed.len(), heard.len());
    present.saw(&heard);
    confirmed
}

#[test]
fn nothing_confirmed_is_lost_by_twenty_kills_in_a_row() {
    let mut rng = Rng::from_env(20_260);
    let mut names: Vec<String> = (0..SENDERS).map(|n| format!("sender{n}")).collect();
    names.extend(["absent", "present", "observer"].map(String::from));
    let room = ["--mailbox-letters", "1000000", "--mailbox-bytes", "1000000000"];
    let mut server = Server::start(&names, &room);
    let (mut away, mut present) = (Reader::new("absent"), Reader::new("present"));
    let mut confirmed = vec![];
    for round in 0..ROUNDS {
        // Letters that were not answered may be there or not, so no number is used twice.
        let first = round * 1_000_000;
        confirmed.extend(write_until_killed(&mut server, &mut present, first, &mut rng));
        server.restart();
        // Now and then they read what waits; else it gathers.
        if rng.one_in(3) {
            let leave = *rng.pick(&[Leave::SigningOut, Leave::Reset]);
            present.reads_all(&server, leave);
            present.saw_all(&confirmed);
        }
        if rng.one_in(5) {
            away.reads_all(&server, Leave::Reset);
            away.saw_all(&confirmed);
        }
    }
    assert!(confirmed.len() > ROUNDS, "there was next to no load");
    for reader in [&mut away, &mut present] {
        reader.reads_all(&server, Leave::SigningOut);
        reader.saw_all(&confirmed);
        println!("{}: {} letters, {} repeats", reader.name, reader.shown.len(), reader.repeats);
    }
    // Unmarked and twice was looked for at each line. Now nothing waits any more, nor after a
    // last crash.
    for _ in 0..2 {
        server.kill9();
        server.restart();
        for name in ["absent", "present"] {
            let welcome = server.greeted().sign_in(name, PASSWORD);
            assert!(welcome.ends_with("you have no messages waiting"), "{welcome}");
        }
    }
}

/// A backlog of so many letters for `reader`.
fn backlog(server: &Server, letters: usize) -> Vec<Letter> {
    let mut sender = server.signed_in("sender0");
    let mut typing = sender.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..letters {
                let text = format!("send reader letter {number} {}\n", "x".repeat(900));
                typing.write_all(text.as_bytes()).unwrap();
            }
        });
        for _ in 0..letters {
            assert!(sender.line().contains("message will be saved"));
        }
    });
    sender.sign_out();
    (0..letters).map(|number| (0, number)).collect()
}

/// The reader dies again and again at a random byte of his backlog. What his kernel had taken and
/// he had not read comes again.
fn dies_in_the_backlog(letters: usize, connect: impl Fn(&Server) -> Client, rng: &mut Rng) {
    let names = ["sender0", "reader", "observer"];
    let server = Server::start(&names, &["--duplicate", "replace"]);
    let all = backlog(&server, letters);
    let mut reader = Reader::new("reader");
    for _ in 0..25 {
        let mut client = connect(&server);
        client.expect("signin");
        let waiting = waiting(&client.sign_in("reader", PASSWORD));
        // Those far behind what his kernel has taken are settled, so it becomes less.
        let bytes = rng.below(waiting.max(1) * 900);
        client.raw.clear();
        while waiting > 0 && client.raw.len() < bytes && client.read_once() {}
        // A process that dies with bytes unread resets its connection; here there may be none.
        reader.saw(&client.take_lines());
        client.reset();
    }
    assert!(reader.repeats > 0, "nothing came twice");
    reader.reads_all(&server, Leave::SigningOut);
    reader.saw_all(&all);
    let welcome = server.greeted().sign_in("reader", PASSWORD);
    assert!(welcome.ends_with("you have no messages waiting"), "{welcome}");
}

#[test]
fn a_reader_killed_within_his_backlog_loses_nothing() {
    let mut rng = Rng::from_env(4);
    dies_in_the_backlog(900, Server::connect, &mut rng);
}

#[test]
fn a_reader_killed_within_a_backlog_that_exceeds_every_window_loses_nothing() {
    let mut rng = Rng::from_env(5);
    // He takes little that he does not read, so what he was offered and did not read stays below
    // what the server keeps for who only listens. Segments as on an Ethernet, for the kernel
    // opens no window that is smaller than one of them.
    let narrow = |server: &Server| {
        server.connect_with(|socket| {
            socket.set_tcp_mss(1400).unwrap();
            socket.set_recv_buffer_size(32 << 10).unwrap();
        })
    };
    dies_in_the_backlog(4000, narrow, &mut rng);
}
