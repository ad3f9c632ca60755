//! What was typed and what became of it: the model of the promise, and its checker. A message is
//! known by its number, which its text begins with.

use std::collections::{BTreeMap, BTreeSet};

/// One life of one companion.
pub type Life = (usize, u32);

/// What is known of a message.
#[derive(Debug, Default)]
pub struct Message {
    pub from: Life,
    pub sender: usize,
    /// Users whom it may reach.
    pub to: BTreeSet<usize>,
    /// It is for whoever is online: nobody is told who that was.
    pub everyone: bool,
    pub body: String,
    /// The key that it was sent under.
    pub key: String,
    /// The companion has shown an answer to it.
    pub answered: bool,
    /// Users for whom the companion has said OK.
    pub promised: BTreeSet<usize>,
    /// The spool that it was promised by was lost before it was read.
    pub excused: bool,
    /// Whether it had been stored was not known when the spool was lost, and so it is stored anew.
    pub anew: bool,
    /// It was under way when the server's power went in mid-write. Of such a batch any whole
    /// record may be there, also behind one that is not: said again, that one comes later.
    pub torn: bool,
    /// Users who have been shown it without a mark: once, whatever the device.
    pub unmarked: BTreeSet<usize>,
    /// Users and their devices that have shown it.
    pub shown: BTreeSet<(usize, usize)>,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    pub messages: Vec<Message>,
    /// The last message that each device has been shown of each life, when it was new to its user.
    last: BTreeMap<(usize, Life), usize>,
    /// Everything shown, for the tally.
    pub unmarked: u64,
    pub marked: u64,
}

/// A letter as the screen has it: `12:05Z (again) u1 (to all): m7`.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub again: bool,
    pub sender: usize,
    pub number: usize,
    pub body: String,
}

impl Shown {
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("Z ")?;
        let (again, rest) = match rest.strip_prefix("(again) ") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (from, body) = rest.split_once(": ")?;
        let sender = from.strip_suffix(" (to all)").unwrap_or(from);
        let sender = sender.strip_prefix('u')?.parse().ok()?;
        let number: String =
            body.strip_prefix('m')?.chars().take_while(char::is_ascii_digit).collect();
        let body = body.replace("\n  | ", "\n");
        Some(Self { again, sender, number: number.parse().ok()?, body })
    }
}

impl Ledger {
    /// Looks at the keys in what a companion says to the server: a message has one for good, which
    /// no other has.
    pub fn named(&mut self, said: &str) -> Result<(), String> {
        for verb in [" send ", " broadcast "] {
            for sent in said.split(verb).skip(1) {
                let (key, rest) = sent.split_once(' ').unwrap_or((sent, ""));
                let at = rest.match_indices('m').map(|(at, _)| &rest[at + 1..]);
                let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect();
                let number = at.map(digits).find_map(|digits: String| digits.parse().ok());
                let number: usize = number.ok_or_else(|| format!("unexpected: {verb}{sent}"))?;
                let other = self.messages.iter().position(|message| message.key == key);
                let message = &mut self.messages[number];
                if message.key.is_empty() && other.is_none() && key.starts_with('=') {
                    message.key = key.to_owned();
                } else if message.key != key {
                    return Err(format!("unexpected: m{number} is sent under {key}"));
                }
            }
        }
        Ok(())
    }

    /// The companion answers this message.
    pub fn answered(&mut self, number: usize, answer: &str) -> Result<(), String> {
        let message = &mut self.messages[number];
        if message.answered {
            return Err(format!("doubled: the answer to m{number}: {answer}"));
        }
        message.answered = true;
        if answer == "message sent; an earlier try had got through" && message.everyone {
            return Ok(());
        }
        let sent = answer.starts_with("message sent to ") && !answer.contains("to ;");
        // The receipt came at once.
        let sent = sent || answer.starts_with("delivered to ");
        if message.everyone && (sent || answer.starts_with("Nobody else is online")) {
            return Ok(());
        }
        if sent || answer.contains("message will be saved") {
            message.promised.clone_from(&message.to);
            return Ok(());
        }
        Err(format!("unexpected: the answer to m{number}: {answer}"))
    }

    /// A device has shown a letter to this user.
    pub fn shown(&mut self, device: usize, user: usize, shown: &Shown) -> Result<(), String> {
        let Shown { again, sender, number, body } = shown;
        let Some(message) = self.messages.get_mut(*number) else {
            return Err(format!("unexpected: m{number} was never typed"));
        };
        if !message.to.contains(&user) || message.sender != *sender || message.body != *body {
            return Err(format!("unexpected: m{number} of u{sender} for u{user}: {body:?}"));
        }
        let first = !message.shown.iter().any(|&(reader, _)| reader == user);
        let here = !message.shown.insert((user, device));
        self.marked += u64::from(*again);
        self.unmarked += u64::from(!*again);
        if !again && (!message.unmarked.insert(user) || here) && !message.anew {
            return Err(format!("doubled: m{number} for u{user}, without a mark"));
        }
        // A broadcast that nobody heard is no broadcast: asked again it is a later one.
        if first && !message.anew && !message.everyone {
            let last = self.last.insert((device, message.from), *number);
            if !message.torn && last.is_some_and(|last| last >= *number) {
                return Err(format!("reordered: m{number} behind m{last:?} for u{user}"));
            }
        }
        Ok(())
    }

    /// The server has lost everything that it had not given away.
    pub fn spool_lost(&mut self) {
        for message in &mut self.messages {
            message.excused = true;
            message.anew |= !message.answered;
        }
    }

    /// The power went while the server wrote, and what was written is there in pieces.
    pub fn power_cut(&mut self) {
        for message in self.messages.iter_mut().filter(|message| !message.answered) {
            message.torn = true;
        }
    }

    /// What was promised has been shown.
    pub fn check(&self) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate().filter(|(_, m)| !m.excused) {
            for user in &message.promised {
                if !message.shown.iter().any(|(reader, _)| reader == user) {
                    return Err(format!("lost: m{number} for u{user}"));
                }
            }
        }
        Ok(())
    }
}
