//! The model clients of the simulation: what each connection knows, and what is known of a letter.

use mms::proto::coded::Tag;
use mms::proto::id::LetterId;
use mms::proto::name::UserName;
use mms::proto::reply::Reply;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What travels to a client.
pub enum Said {
    Reply(Option<Tag>, Reply),
    /// A reply that answers the sending of this letter.
    Answer(usize),
    Letter {
        from: String,
        body: String,
        again: bool,
        id: Option<LetterId>,
    },
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Plain,
    Coded,
    /// Coded, and only to send.
    Tool,
}

/// A holder of a name: a name that is removed and added again has another one. The second number
/// is odd while nobody holds the name.
pub type Person = (usize, u32);

/// A letter on its way to the server, and who holds the names of its recipients then.
pub struct Attempt {
    pub letter: usize,
    pub to: BTreeSet<Person>,
}

/// A connection and the person behind it.
pub struct Peer {
    pub person: Person,
    pub speaks: Speaks,
    pub flight: VecDeque<Said>,
    pub said: u32,
    pub arrived: u32,
    pub held: bool,
    pub online: bool,
    pub watched: bool,
    /// It has asked for receipts.
    pub asked: bool,
    pub closing: bool,
    /// Letters sent and not answered by the server, oldest first.
    pub unanswered: VecDeque<Attempt>,
    /// Letters sent whose answer has not arrived.
    pub awaited: Vec<usize>,
    /// The last letter read, by the name of its sender.
    pub last_read: BTreeMap<usize, usize>,
    /// Letters read and not acknowledged, and the last one's number.
    pub taken: Vec<usize>,
    pub last_id: LetterId,
    /// Acknowledged, oldest first; each holds once the ping behind it is answered.
    pub acking: VecDeque<LetterId>,
    /// Acknowledged before this connection came: nothing of it may be shown here.
    pub floor: LetterId,
}

impl Peer {
    pub fn new(person: Person, speaks: Speaks, floor: LetterId) -> Self {
        Self {
            person,
            speaks,
            flight: VecDeque::new(),
            said: 0,
            arrived: 0,
            held: false,
            online: false,
            watched: false,
            asked: false,
            closing: false,
            unanswered: VecDeque::new(),
            awaited: Vec::new(),
            last_read: BTreeMap::new(),
            taken: Vec::new(),
            last_id: LetterId::default(),
            acking: VecDeque::new(),
            floor,
        }
    }

    /// Whether it may say something now.
    pub fn may_speak(&self) -> bool {
        self.online && !self.held && !self.closing
    }

    /// Whether nothing is on its way and nothing is left to do.
    pub fn is_quiet(&self) -> bool {
        let idle = self.flight.is_empty() && self.taken.is_empty() && self.awaited.is_empty();
        idle && self.online && !self.watched && !self.held
    }
}

/// What is known of a letter, by the number that is its text.
#[derive(Default)]
pub struct Fate {
    pub from: Person,
    /// Whose names it goes to.
    pub names: BTreeSet<usize>,
    /// Whom it may be for. It is for one holder of each name; for which of them is not known if
    /// it was sent more than once and the answer to the first is lost.
    pub to: BTreeSet<Person>,
    /// The line that sends it, and the text by count behind it.
    pub line: String,
    pub body: Option<String>,
    /// It has a key, so that it can be sent again.
    pub keyed: bool,
    /// It was sent more than once: it may have been stored later than it was first sent.
    pub resent: bool,
    /// The operator held it back and gave it back, as another letter with the same text.
    pub released: bool,
    /// Its sender was told that it is stored.
    pub answered: bool,
    /// Its number, once anybody has been told.
    pub id: Option<LetterId>,
    /// Names for whose holders its sender was told OK.
    pub promised: BTreeSet<usize>,
    /// Who has been shown it, and who without a mark.
    pub shown: BTreeSet<Person>,
    pub unmarked: BTreeSet<Person>,
    /// How often each has read it; what is to be acknowledged counts only then.
    pub seen: BTreeMap<Person, u32>,
}

pub fn name(user: usize) -> UserName {
    UserName::new(&format!("u{user}")).unwrap()
}

pub fn number(name: &str) -> usize {
    name.strip_prefix('u').unwrap().parse().unwrap()
}
