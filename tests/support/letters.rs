//! Letters that tell by their text which sender sent them as his how-manieth, readers who remember
//! what they were ever shown, and a crowd that writes until a fault ends the server.
//!
//! What a reader finds wrong is counted and told, so that a campaign goes on behind it; a test
//! that wants none asks [`Reader::is_content`].

use super::rng::Rng;
use super::server::{Client, PASSWORD, PATIENCE, Server, eventually};
use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Which sender sent it as his n-th.
pub type Letter = (usize, usize);

/// What was wrong, in words: lost, shown twice without a mark, and everything else.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub unexpected: Vec<String>,
}

/// What one reader was ever shown.
#[derive(Default)]
pub struct Reader {
    pub name: String,
    pub shown: HashMap<Letter, u32>,
    pub repeats: usize,
    pub faults: Faults,
    /// Letters with smaller numbers were all shown and settled, and are no longer remembered: who
    /// comes again after that must say so.
    past: usize,
    /// How many of them there were.
    forgotten: usize,
}

impl Reader {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Takes in the lines of one session. No letter may come twice in it, nor before an earlier
    /// one of the same sender, nor a second time without a word.
    pub fn saw(&mut self, lines: &[String]) {
        let mut last = HashMap::new();
        for line in lines {
            let Some((again, (sender, number))) = letter(line) else { continue };
            let before = last.insert(sender, number);
            if before >= Some(number) {
                let what = format!("{}: {line:.60} after {before:?}", self.name);
                self.faults.unexpected.push(what);
            }
            let times = self.shown.entry((sender, number)).or_default();
            let known = *times > 0 || number < self.past;
            if known && !again {
                let what = format!("{}: {line:.60} came before and does not say so", self.name);
                self.faults.doubled.push(what);
            }
            self.repeats += usize::from(known);
            *times += 1;
        }
    }

    /// Takes in lines that came after the power was cut. In truth nobody would have been shown
    /// them, so they may come as if for the first time; and they need not.
    fn saw_in_vain(&mut self, lines: &[String]) {
        for (_, one) in lines.iter().filter_map(|line| letter(line)) {
            self.shown.entry(one).or_default();
        }
    }

    /// Whoever was confirmed and is not known here is lost.
    pub fn misses(&mut self, confirmed: &[Letter]) {
        for one in confirmed {
            if one.1 >= self.past && !self.shown.contains_key(one) {
                self.faults.lost.push(format!("{} never saw {one:?}", self.name));
            }
        }
    }

    /// How many different letters it was shown.
    pub fn delivered(&self) -> usize {
        self.forgotten + self.shown.len()
    }

    /// Everything below `number` has been looked at and is settled.
    pub fn forget_below(&mut self, number: usize) {
        let before = self.shown.len();
        self.shown.retain(|one, _| one.1 >= number);
        self.forgotten += before - self.shown.len();
        self.past = number;
    }

    /// Nothing was wrong with what it was shown.
    #[track_caller]
    pub fn is_content(&self) {
        let Faults { lost, doubled, unexpected } = &self.faults;
        assert!(lost.is_empty(), "{lost:?}");
        assert!(doubled.is_empty(), "{doubled:?}");
        assert!(unexpected.is_empty(), "{unexpected:?}");
    }

    /// Signs in and reads all that waits; then leaves, or breaks the connection.
    pub fn reads_all(&mut self, server: &Server, leave: Leave) {
        let mut client = server.greeted();
        let welcome = client.sign_in(&self.name, PASSWORD);
        let waiting = waiting(&welcome);
        let lines: Vec<String> = (0..waiting).map(|_| client.line()).collect();
        if let Some(other) = lines.iter().find(|line| letter(line).is_none()) {
            self.faults.unexpected.push(format!("{other:?} among {waiting} letters"));
        }
        self.saw(&lines);
        match leave {
            Leave::SigningOut => _ = client.sign_out(),
            Leave::Reset => client.reset(),
        }
        is_gone(server);
    }

    /// Nothing waits any more.
    pub fn has_all(&mut self, server: &Server) {
        let welcome = server.greeted().sign_in(&self.name, PASSWORD);
        if waiting(&welcome) > 0 {
            self.faults.unexpected.push(format!("after everything was settled: {welcome}"));
        }
        is_gone(server);
    }
}

/// Waits until nobody but `observer` is signed in.
pub fn is_gone(server: &Server) {
    eventually("the end of the session", || {
        let mut other = server.signed_in("observer");
        let alone = other.ask("whoelse").contains("Nobody");
        other.sign_out();
        alone.then_some(())
    });
}

/// How many letters a welcome announces.
pub fn waiting(welcome: &str) -> usize {
    welcome.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

#[derive(Clone, Copy)]
pub enum Leave {
    SigningOut,
    Reset,
}

/// `>> (again) sender3: letter 17 …`, and without the `>> ` as the companion shows it, behind a
/// time.
pub fn letter(line: &str) -> Option<(bool, Letter)> {
    let (head, text) = line.split_once("sender")?;
    let (sender, text) = text.split_once(": letter ")?;
    let number = text.split(' ').next()?;
    Some((head.contains("(again) "), (sender.parse().ok()?, number.parse().ok()?)))
}

/// The names of so many senders, of these readers, and of who looks after them.
pub fn people(senders: usize, readers: &[&str]) -> Vec<String> {
    let senders = (0..senders).map(|n| format!("sender{n}"));
    senders.chain(readers.iter().chain(&["observer"]).map(ToString::to_string)).collect()
}

/// Types letters from the `first` on until the connection ends, a few in each write.
fn type_letters(mut stream: TcpStream, first: usize) {
    for number in first.. {
        let filler = "x".repeat(number % 300);
        let text = format!("send (absent present) letter {number} {filler}\n");
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads answers until the connection ends; how many letters were confirmed before the cut.
fn count_answers(client: &mut Client, cut: &AtomicBool, answered: &AtomicBool) -> usize {
    let mut confirmed = 0;
    while let Some(line) = client.next_line() {
        answered.store(true, Ordering::SeqCst);
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        // The last line may have been cut by the crash.
        if line.starts_with(">> message sent to ") || line.contains("message will be saved") {
            confirmed += 1;
        }
    }
    confirmed
}

/// Reads what comes until the connection ends, and now and then shows a sign of life, by which
/// letters are settled. What comes after the cut is told apart.
fn listen(mut client: Client, mut rng: Rng, cut: &AtomicBool) -> [Vec<String>; 2] {
    let mut lines = [vec![], vec![]];
    loop {
        let open = client.read_once();
        let late = usize::from(cut.load(Ordering::SeqCst));
        lines[late].extend(client.take_lines());
        if !open {
            return lines;
        }
        if rng.one_in(20) {
            _ = client.stream.write_all(b"\n");
        }
    }
}

/// So many senders write to `absent` and to `present`, who listens, until `fault` has ended the
/// server. It tells which letters, from the `first` of each sender on, were confirmed.
///
/// A fault that a machine does not outlive is played on one that does. It sets the flag before it
/// begins: what the server says from then on, it would not have said.
pub fn storm(
    server: &mut Server,
    present: &mut Reader,
    (senders, first): (usize, usize),
    rng: &mut Rng,
    fault: &mut dyn FnMut(&mut Server, &AtomicBool),
) -> Vec<Letter> {
    let listener = server.signed_in(&present.name);
    let clients: Vec<Client> =
        (0..senders).map(|n| server.signed_in(&format!("sender{n}"))).collect();
    let moment = Duration::from_micros(rng.next() % 200_000);
    let seed = rng.next();
    let mut confirmed = vec![];
    let (cut, answered) = (&AtomicBool::new(false), &AtomicBool::new(false));
    // Mostly somebody is confirmed, however slow the disk is.
    let (at_once, start) = (rng.one_in(4), Instant::now());
    let [heard, in_vain] = std::thread::scope(|scope| {
        let listener = scope.spawn(move || listen(listener, Rng::new(seed), cut));
        let mut counts = vec![];
        for mut client in clients {
            let typing = client.stream.try_clone().unwrap();
            scope.spawn(move || type_letters(typing, first));
            counts.push(scope.spawn(move || count_answers(&mut client, cut, answered)));
        }
        while !at_once && !answered.load(Ordering::SeqCst) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A random moment is no event to wait for.
        std::thread::sleep(moment);
        fault(server, cut);
        for (sender, count) in counts.into_iter().enumerate() {
            let count = count.join().unwrap();
            confirmed.extend((first..first + count).map(|number| (sender, number)));
        }
        listener.join().unwrap()
    });
    let counts = (confirmed.len(), heard.len());
    println!("ended after {moment:?}; confirmed and heard: {counts:?}");
    present.saw(&heard);
    present.saw_in_vain(&in_vain);
    confirmed
}

/// A backlog of so many letters of the first sender for `reader`.
pub fn backlog(server: &Server, reader: &str, letters: std::ops::Range<usize>) -> Vec<Letter> {
    let mut sender = server.signed_in("sender0");
    let mut typing = sender.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let numbers = letters.clone();
        scope.spawn(move || {
            for number in numbers {
                let text = format!("send {reader} letter {number} {}\n", "x".repeat(900));
                typing.write_all(text.as_bytes()).unwrap();
            }
        });
        for _ in letters.clone() {
            let answer = sender.line();
            let stored = answer.contains("message will be saved");
            assert!(stored || answer.starts_with(">> message sent to "), "{answer}");
        }
    });
    sender.sign_out();
    letters.map(|number| (0, number)).collect()
}
