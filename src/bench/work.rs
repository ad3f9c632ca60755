//! The kinds of work. Each begins with all users signed in.

use super::clock::pause;
use super::histogram::Histogram;
use super::load::Load;
use super::machine::cpu_ns;
use super::run::{Metric, Stage};
use super::tongue::{Dialect, PASSWORD, SignIn};
use super::trouble::Trouble;
use crate::limits::ROUNDS_LEAST;
use crate::scram::Keys;
use std::time::Duration;

/// How long is waited for texts that are still under way at the end, in nanoseconds.
const PATIENCE_NS: u64 = 10_000_000_000;

/// How long the two who write to each other are watched alone, in nanoseconds.
const ALONE_NS: u64 = 500_000_000;
/// Time between two texts of theirs, in nanoseconds.
const OTHERS_EACH_NS: u64 = 1_000_000;
/// Sign-ins under way at a time, while the two write: more than the server works at, and few enough
/// that the load itself does not hold up the two.
const SIGN_INS_BESIDE: usize = 8;
/// Texts under way while a mailbox is filled.
const STORE_WINDOW: usize = 1000;
/// After so long a mailbox will not be read any more, in nanoseconds.
const BACKLOG_NS: u64 = 60_000_000_000;

/// So many letters may wait for a user of a server that is measured.
const LETTERS_MOST: usize = 50_000_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Half of the users write to the other half, each to his own reader, with so many texts under
    /// way a pair.
    Pairs {
        /// Texts under way.
        window: usize,
    },
    /// One writes to all, with so many texts under way.
    FanOut {
        /// Texts under way.
        window: usize,
    },
    /// Half of the users write to the other half at a rate that does not wait for the server.
    Rate {
        /// Texts a second, of all together.
        per_second: u64,
    },
    /// One writes to somebody who is away; each text is stored and confirmed.
    Offline {
        /// Texts not confirmed yet.
        window: usize,
    },
    /// Nobody does anything.
    Idle {
        /// For so long, in ms.
        ms: u64,
    },
    /// So many users sign in, all at their own time, while two others write to each other.
    SignIns {
        /// How many.
        count: usize,
    },
    /// Somebody for whom so many letters wait signs in, while two others write to each other.
    Backlog {
        /// How many wait.
        letters: usize,
    },
    /// The server is killed and started again while so many letters wait.
    Replay {
        /// How many wait.
        letters: usize,
    },
}

impl Work {
    /// How many of the users are signed in when it begins.
    pub(super) fn present(self, users: usize) -> usize {
        match self {
            Self::SignIns { .. } | Self::Backlog { .. } | Self::Replay { .. } => 2,
            _ => users,
        }
    }
}

/// When a text counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the disk has it.
    Always,
    /// When the kernel has it.
    Never,
}

/// How long the work goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// So many nanoseconds.
    Ns(u64),
    /// So many texts.
    Texts(u64),
}

/// Everything about a measurement but the server.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What is done.
    pub work: Work,
    /// Users who are signed in.
    pub users: usize,
    /// Bytes of a text.
    pub bytes: usize,
    /// When it ends.
    pub until: Until,
    /// For MMS, the relay that answers and whoever is durable: when a text counts as stored.
    pub sync: Sync,
    /// For MMS: how it is spoken to.
    pub dialect: Dialect,
    /// For MMS: how users sign in.
    pub sign_in: SignIn,
    /// PBKDF2 rounds of the users' password.
    pub rounds: u32,
    /// Letters that may wait for one user.
    pub letters: usize,
    /// Whether servers that keep nothing by default are to keep each text on the disk.
    pub durable: bool,
}

impl Setup {
    /// This work with texts of 64 bytes for 3 s; nothing waits for the disk, unless what is
    /// measured is just that.
    #[must_use]
    pub fn new(work: Work, users: usize) -> Self {
        let durable = matches!(work, Work::Offline { .. });
        Self {
            work,
            users,
            bytes: 64,
            until: Until::Ns(3_000_000_000),
            sync: if durable { Sync::Always } else { Sync::Never },
            dialect: Dialect::Coded,
            sign_in: SignIn::Scram,
            rounds: ROUNDS_LEAST,
            letters: LETTERS_MOST,
            durable,
        }
    }

    /// Bytes of all texts that are under way at once, copies each.
    #[must_use]
    pub fn bytes_under_way(&self) -> usize {
        let texts = match self.work {
            Work::Pairs { window } => self.users / 2 * window,
            Work::FanOut { window } => self.users * window,
            Work::Offline { window } => window,
            _ => 0,
        };
        texts * self.bytes
    }

    /// What the users' password becomes.
    pub(super) fn keys(&self) -> Keys {
        Keys::derive(PASSWORD.as_bytes(), b"mms bench salt", self.rounds)
    }
}

/// When the work began, and what the server had used by then.
struct Begun {
    ns: u64,
    cpu: u64,
    sent: u64,
}

impl Stage<'_> {
    fn begin(&self) -> Result<Begun, Trouble> {
        let cpu = cpu_ns(self.server.pid())?;
        Ok(Begun { ns: self.load.watch.ns(), cpu, sent: self.load.sent })
    }

    /// Notes what it came to: `count` texts or copies.
    fn end(&mut self, begun: &Begun, count: u64) -> Result<(), Trouble> {
        let ns = (self.load.watch.ns() - begun.ns) as f64;
        let cpu = cpu_ns(self.server.pid())?.saturating_sub(begun.cpu) as f64;
        self.run.set(Metric::Texts, count as f64);
        self.run.set(Metric::Seconds, ns / 1e9);
        self.run.set(Metric::PerSecond, count as f64 * 1e9 / ns);
        self.run.set(Metric::Cpu, cpu / 1e3 / count.max(1) as f64);
        self.run.set(Metric::Busy, cpu / ns * 100.0);
        Ok(())
    }

    fn is_over(&self, begun: &Begun, count: u64) -> bool {
        match self.setup.until {
            Until::Ns(ns) => self.load.watch.ns() - begun.ns >= ns,
            Until::Texts(texts) => count >= texts,
        }
    }

    /// Whether another text may be sent.
    fn may_send(&self, begun: &Begun) -> bool {
        match self.setup.until {
            Until::Ns(_) => true,
            Until::Texts(texts) => self.load.sent - begun.sent < texts,
        }
    }

    /// Waits for what is still under way of `wanted`, for what was held up to the end took longest;
    /// notes what never comes.
    fn drain(
        &mut self,
        mut count: u64,
        wanted: u64,
        mut latency: Histogram,
    ) -> Result<(), Trouble> {
        let begin = self.load.watch.ns();
        while count < wanted && self.load.watch.ns() - begin < PATIENCE_NS {
            self.load.turn(Duration::from_millis(50))?;
            self.load.note(&mut latency);
            count += self.load.heard.texts.len() as u64;
            self.load.write_all()?;
        }
        self.run.set_latency(latency);
        self.run.set(Metric::Missing, wanted as f64 - count as f64);
        Ok(())
    }

    pub(super) fn pairs(&mut self, window: usize) -> Result<(), Trouble> {
        let half = self.setup.users / 2;
        let (mut latency, mut count) = (Histogram::default(), 0);
        let begun = self.begin()?;
        for _ in 0..window {
            for writer in 0..half {
                if self.may_send(&begun) {
                    self.load.post(writer, writer + half);
                }
            }
        }
        self.load.write_all()?;
        while !self.is_over(&begun, count) {
            self.load.turn(Duration::from_millis(50))?;
            self.load.note(&mut latency);
            count += self.load.heard.texts.len() as u64;
            let texts = std::mem::take(&mut self.load.heard.texts);
            for (reader, _) in &texts {
                if self.may_send(&begun) {
                    self.load.post(reader - half, *reader);
                }
            }
            self.load.heard.texts = texts;
            self.load.write_all()?;
        }
        self.end(&begun, count)?;
        self.drain(count, self.load.sent - begun.sent, latency)
    }

    pub(super) fn fan_out(&mut self, window: usize) -> Result<(), Trouble> {
        let copies = self.load.tongue.copies(self.setup.users) as u64;
        let (mut latency, mut count) = (Histogram::default(), 0);
        let begun = self.begin()?;
        for _ in 0..window {
            if self.may_send(&begun) {
                self.load.broadcast(0);
            }
        }
        self.load.write_all()?;
        // Each text that all have is followed by another.
        let mut had = 0;
        while !self.is_over(&begun, count / copies) {
            self.load.turn(Duration::from_millis(50))?;
            self.load.note(&mut latency);
            count += self.load.heard.texts.len() as u64;
            while (had + 1) * copies <= count {
                had += 1;
                if self.may_send(&begun) {
                    self.load.broadcast(0);
                }
            }
            self.load.write_all()?;
        }
        self.end(&begun, count)?;
        self.drain(count, (self.load.sent - begun.sent) * copies, latency)
    }

    /// The load is woken by what comes and each millisecond, and sends what is due by then.
    pub(super) fn rate(&mut self, per_second: u64) -> Result<(), Trouble> {
        let half = self.setup.users / 2;
        let (mut latency, mut count) = (Histogram::default(), 0);
        let begun = self.begin()?;
        while !self.is_over(&begun, count) {
            let due = (self.load.watch.ns() - begun.ns) as f64 * per_second as f64 / 1e9;
            while self.load.sent - begun.sent < due as u64 && self.may_send(&begun) {
                let writer = (self.load.sent - begun.sent) as usize % half;
                self.load.post(writer, writer + half);
                self.load.write_all()?;
            }
            self.load.turn(Duration::from_millis(1))?;
            self.load.note(&mut latency);
            count += self.load.heard.texts.len() as u64;
            self.load.write_all()?;
        }
        self.end(&begun, count)?;
        self.drain(count, self.load.sent - begun.sent, latency)
    }

    pub(super) fn offline(&mut self, window: usize) -> Result<(), Trouble> {
        let begun = self.begin()?;
        let count = self.store(window, usize::MAX, &begun)?;
        self.end(&begun, count)
    }

    /// User 0 writes to who is away until it is over, or `most` are confirmed; tells how many are.
    fn store(&mut self, window: usize, most: usize, begun: &Begun) -> Result<u64, Trouble> {
        let (away, mut count, mut posted) = (self.setup.users, 0, 0);
        let is_over = |stage: &Self, count| match most {
            usize::MAX => stage.is_over(begun, count),
            most => count >= most as u64,
        };
        while !is_over(self, count) {
            while posted < count + window as u64
                && posted < most as u64
                && (most < usize::MAX || self.may_send(begun))
            {
                self.load.post(0, away);
                posted += 1;
            }
            self.load.write_all()?;
            self.load.turn(Duration::from_millis(50))?;
            count += self.load.heard.taken.len() as u64;
        }
        Ok(count)
    }

    pub(super) fn idle(&mut self, ms: u64) -> Result<(), Trouble> {
        let cpu = cpu_ns(self.server.pid())?;
        let begin = self.load.watch.ns();
        while self.load.watch.ns() - begin < ms * 1_000_000 {
            self.machine.interrupt.check()?;
            pause(20);
        }
        let used = cpu_ns(self.server.pid())?.saturating_sub(cpu) as f64 / 1e6;
        self.run.set(Metric::IdleCpu, used / (ms as f64 / 1e3));
        Ok(())
    }

    /// Half of them for what they cost, the others for what their coming costs the two.
    pub(super) fn sign_ins(&mut self, count: usize) -> Result<(), Trouble> {
        self.watch_alone()?;
        let begun = self.begin()?;
        let users = 2..2 + count / 2;
        let at_once = self.load.tongue.sign_ins_at_once();
        self.load.sign_in(users.clone(), at_once, &mut |_| ())?;
        let ns = (self.load.watch.ns() - begun.ns) as f64;
        let cpu = cpu_ns(self.server.pid())?.saturating_sub(begun.cpu) as f64;
        self.run.set(Metric::SignIns, users.len() as f64 * 1e9 / ns);
        self.run.set(Metric::SignInCpu, cpu / 1e3 / users.len() as f64);
        let mut others = Others::begin(&self.load);
        let rest = users.end..2 + count;
        self.load.sign_in(rest, SIGN_INS_BESIDE, &mut |load| others.turn(load))?;
        self.note_others(others)
    }

    /// What texts of the two take while nothing else happens.
    fn watch_alone(&mut self) -> Result<(), Trouble> {
        let mut alone = Others::begin(&self.load);
        while self.load.watch.ns() - alone.begin < ALONE_NS {
            self.load.turn(Duration::from_millis(1))?;
            alone.turn(&mut self.load);
            self.load.write_all()?;
        }
        self.hear_out(&mut alone)?;
        self.run.set(Metric::AloneP99, alone.latency.permille_ns(990) as f64 / 1e3);
        self.run.set(Metric::AloneMost, alone.latency.most_ns() as f64 / 1e3);
        Ok(())
    }

    fn note_others(&mut self, mut others: Others) -> Result<(), Trouble> {
        self.hear_out(&mut others)?;
        self.run.set(Metric::OthersP99, others.latency.permille_ns(990) as f64 / 1e3);
        self.run.set(Metric::OthersMost, others.latency.most_ns() as f64 / 1e3);
        Ok(())
    }

    /// Waits for what the two still have under way: what was held up to the end took longest.
    fn hear_out(&mut self, others: &mut Others) -> Result<(), Trouble> {
        let begin = self.load.watch.ns();
        while others.latency.count() < others.sent {
            if self.load.watch.ns() - begin > PATIENCE_NS {
                let missing = others.sent - others.latency.count();
                let what = format!("u1 has not heard {missing} of the texts for him");
                return Err(Trouble::Server(self.server.who, what));
            }
            self.load.write_all()?;
            self.load.turn(Duration::from_millis(50))?;
            others.hear(&self.load);
        }
        Ok(())
    }

    pub(super) fn backlog(&mut self, letters: usize) -> Result<(), Trouble> {
        let away = self.setup.users;
        let begun = self.begin()?;
        self.store(STORE_WINDOW, letters, &begun)?;
        self.watch_alone()?;
        let mut others = Others::begin(&self.load);
        let (begun, mut count) = (self.begin()?, 0);
        self.load.call(away..away + 1)?;
        while count < letters as u64 && !self.is_late(&begun) {
            self.load.write_all()?;
            self.load.turn(Duration::from_millis(1))?;
            let texts = self.load.heard.texts.iter();
            count += texts.filter(|(user, _)| *user == away).count() as u64;
            others.turn(&mut self.load);
        }
        self.end(&begun, count)?;
        self.run.set(Metric::Missing, letters as f64 - count as f64);
        self.note_others(others)
    }

    fn is_late(&self, begun: &Begun) -> bool {
        self.load.watch.ns() - begun.ns > BACKLOG_NS
    }

    pub(super) fn replay(&mut self, letters: usize) -> Result<(), Trouble> {
        let begun = self.begin()?;
        self.store(STORE_WINDOW, letters, &begun)?;
        let begin = self.load.watch.ns();
        self.server.restart(&self.folder, self.setup, self.machine)?;
        let seconds = (self.load.watch.ns() - begin) as f64 / 1e9;
        let files = std::fs::read_dir(self.folder.path().join("spool"));
        let files = files.map_err(Trouble::of("cannot see the spool"))?.flatten();
        let journal =
            files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b"journal-"));
        let bytes: u64 = journal.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        self.run.set(Metric::Texts, letters as f64);
        self.run.set(Metric::Seconds, seconds);
        self.run.set(Metric::PerSecond, letters as f64 / seconds);
        self.run.set(Metric::Journal, bytes as f64 / f64::from(1 << 20));
        Ok(())
    }
}

/// Two who write to each other, a thousand texts a second, while something else happens: user 0 to
/// user 1.
struct Others {
    begin: u64,
    /// The last millisecond in which one was due.
    posted: u64,
    sent: u64,
    latency: Histogram,
}

impl Others {
    fn begin(load: &Load) -> Self {
        Self { begin: load.watch.ns(), posted: 0, sent: 0, latency: Histogram::default() }
    }

    /// Notes what user 1 has heard in this turn, and posts what is due.
    fn turn(&mut self, load: &mut Load) {
        self.hear(load);
        let now = load.watch.ns();
        // One at a time: who was held up himself does not make up for it.
        let due = (now - self.begin) / OTHERS_EACH_NS;
        if due > self.posted {
            self.posted = due;
            self.sent += 1;
            load.post(0, 1);
        }
    }

    fn hear(&mut self, load: &Load) {
        let now = load.watch.ns();
        let heard = load.heard.texts.iter().filter(|(user, _)| *user == 1);
        heard.for_each(|(_, sent)| self.latency.add(now - sent));
    }
}
