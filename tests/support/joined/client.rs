//! A companion as a process on a machine of its own: the real desk over a simulated disk, the
//! paper that waits for its person's eyes, and what was typed.

use super::ledger::Shown;
use crate::support::rng::Rng;
use crate::support::sim_disk::SimDisk;
use mms::client::desk::Desk;
use mms::client::link::{Credential, Login, Password};
use mms::client::model::Model;
use mms::core::password::Verifier;
use mms::limits::ROUNDS_LEAST;
use mms::proto::coded_client::Kind;
use mms::scram::Keys;
use mms::time::Millis;
use std::collections::VecDeque;
use std::sync::LazyLock;

/// The salt of each password: some have the same.
const SALTS: [&[u8]; 4] = [b"12345678", b"12345678", b"abcdefgh", b"abcdefgh"];

/// Passwords are changed from one of these to the next; stretching them takes its time.
static PASSWORDS: LazyLock<[(Verifier, Keys); 4]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        let (password, salt) = (password(n), SALTS[n]);
        let keys = Keys::derive(password.as_bytes(), salt, ROUNDS_LEAST);
        (Verifier::derive(password.as_bytes(), salt, ROUNDS_LEAST), keys)
    })
});

fn password(n: usize) -> String {
    format!("secret{n}")
}

/// What the password file says of the n-th password.
pub fn verifier(n: usize) -> Verifier {
    PASSWORDS[n % SALTS.len()].0.clone()
}

/// The first password costs its rounds each time; keys that were saved do not.
fn credential(n: usize, saved: bool) -> Credential {
    let n = n % SALTS.len();
    match saved {
        true => Credential::Keys(PASSWORDS[n].1.clone()),
        false => Credential::Password(Password(password(n).into_bytes())),
    }
}

/// What sort of process is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Signs in with the n-th password.
    pub password: usize,
    /// By keys that were saved.
    pub saved: bool,
    /// Its input is a pipe.
    pub patient: bool,
    /// Its machine has a home for it.
    pub home: bool,
}

pub struct Client {
    pub device: usize,
    pub user: usize,
    pub disk: SimDisk,
    pub desk: Option<Desk<SimDisk>>,
    pub life: u32,
    /// The connection that it has.
    pub conn: Option<u32>,
    /// It waits for one.
    pub connecting: bool,
    pub signed_in: bool,
    /// Nothing is typed any more.
    pub leaving: bool,
    /// When it last wished to connect.
    pub asked: Option<Millis>,
    /// To be shown.
    pub paper: VecDeque<(String, Option<u64>)>,
    /// Shown, and the desk was not told.
    pub untold: Option<u64>,
    /// All that was shown in this life.
    pub screen: Vec<String>,
    /// Lines typed and not dealt with: which message each is.
    pub typed: VecDeque<Option<usize>>,
    /// The last line that was no letter.
    pub answer: String,
    /// Why the last life ended, if it ended by itself.
    pub ended: Option<String>,
}

impl Client {
    pub fn new(device: usize, user: usize) -> Self {
        Self {
            device,
            user,
            disk: SimDisk::new(),
            desk: None,
            life: 0,
            conn: None,
            connecting: false,
            signed_in: false,
            leaving: false,
            asked: None,
            paper: VecDeque::new(),
            untold: None,
            screen: vec![],
            typed: VecDeque::new(),
            answer: String::new(),
            ended: None,
        }
    }

    pub fn start(&mut self, start: Start, rng: &mut Rng) {
        let credential = credential(start.password, start.saved);
        let login = Login { user: format!("u{}", self.user), kind: Kind::Online, credential };
        let dice = rng.next();
        let (inboxes, counters) = (self.disk.clone(), self.disk.clone());
        let home = start.home;
        let inboxes = move || home.then(|| inboxes.clone()).ok_or_else(|| "no home".to_owned());
        let model = Model::new(login, start.patient, dice);
        let counters = Box::new(move || Ok(counters.clone()));
        self.desk = Some(Desk::new(model, Box::new(inboxes), counters, dice));
        (self.life, self.ended) = (self.life + 1, None);
        self.screen.clear();
    }

    /// What a process takes with it.
    pub fn forget(&mut self) {
        (self.desk, self.conn, self.untold, self.asked) = (None, None, None, None);
        (self.connecting, self.signed_in, self.leaving) = (false, false, false);
        self.paper.clear();
        self.typed.clear();
    }

    /// Whether nothing of it waits for anything.
    pub fn is_quiet(&self) -> bool {
        self.typed.is_empty() && self.paper.is_empty() && self.untold.is_none()
    }

    /// How often this was shown in this life.
    pub fn count(&self, what: &str) -> usize {
        self.screen.iter().filter(|line| line.contains(what)).count()
    }

    /// The numbers of the messages shown in this life; those with a mark are negative.
    pub fn letters(&self) -> Vec<i64> {
        let shown = self.screen.iter().filter_map(|line| Shown::parse(line));
        shown.map(|it| if it.again { -(it.number as i64) } else { it.number as i64 }).collect()
    }

    /// The texts of the letters in its inboxes, printed or not, as often as they stand there.
    pub fn kept(&self) -> Vec<String> {
        let mut kept = vec![];
        for (name, bytes) in self.disk.contents() {
            if name.ends_with(".inbox") {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let letters = text.lines().filter(|line| line.starts_with("k "));
                kept.extend(letters.filter_map(|line| line.splitn(6, ' ').nth(5).map(Into::into)));
            }
        }
        kept
    }
}
