//! What sends messages for scripts: several at a time, again where a connection was lost, and, if
//! that is wanted, until they are delivered.
//!
//! ```text
//! asked --answered--> stored --115 of each reader--> delivered
//!   ^------ the connection is lost ------+   asked again under the same key
//! ```
//!
//! A message carries a key of its own. After a lost connection nobody knows whether it was stored,
//! so it is sent again under the same key, and the server stores it once. Sent again like that, a
//! message that was stored asks only whether it was delivered.

use super::link::{Event, State};
use super::oneshot::{Conversation, Errand, Tries, Trouble};
use crate::limits::KEY_WINDOW;
use crate::proto::coded_client::{Answer, Ask, Fate};
use crate::proto::id::LetterId;
use crate::proto::receipt::Receipt;
use std::collections::BTreeSet;

/// Messages on their way at a time: few enough that neither end waits for the other to read.
const UNDER_WAY_MOST: usize = 128;
/// The same in bytes of text.
const UNDER_WAY_BYTES_MOST: usize = 128 << 10;
/// Messages from the oldest that is not delivered to the newest: an older key that counts would
/// be too old for the server when it is asked again.
pub const SPAN_MOST: usize = KEY_WINDOW - 2 * UNDER_WAY_MOST;
/// What the server says where it has no room for a key.
const KEYS_FULL: u16 = 454;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// These users.
    Users(Vec<String>),
    /// Everyone who is online.
    Everyone,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// That the messages are stored.
    Stored,
    /// That all who get them have them, as far as the server tells.
    Delivered,
}

/// What is known of the way from the server to the readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// The server tells on the connection of this number.
    On(u64),
    /// It does not tell, and will not.
    Never,
}

/// A message on its way.
#[derive(Debug)]
pub struct Message {
    /// Its key.
    pub key: String,
    /// The key to use if the server has no room for the first one.
    pub spare: Option<String>,
    /// Its text.
    pub text: String,
    /// What the server said to it.
    pub answer: Option<Answer>,
    /// It was written to a connection: without an answer nobody knows whether it is stored.
    pub tried: bool,
    /// For whom it is stored and who has not taken it as far as is known, if that is asked for.
    pub open: Vec<String>,
    /// How many of whom no names are known.
    pub unnamed: u64,
    watch: Watch,
}

impl Message {
    /// Not sent yet.
    #[must_use]
    pub fn new(key: String, text: String) -> Self {
        Self {
            key,
            spare: None,
            text,
            answer: None,
            tried: false,
            open: Vec::new(),
            unnamed: 0,
            watch: Watch::On(0),
        }
    }

    /// Whether it is stored and not known to be delivered.
    #[must_use]
    pub fn is_undelivered(&self) -> bool {
        !self.open.is_empty() || self.unnamed > 0
    }

    /// Whether the server will tell that it is delivered.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_undelivered() && self.watch != Watch::Never
    }

    /// Whether there is no more to be learned about it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.answer.is_some() && !self.is_awaited()
    }

    fn id(&self) -> Option<LetterId> {
        match self.answer.as_ref()? {
            Answer::Stored { id, .. } => Some(*id),
            Answer::Fates { id, .. } | Answer::Broadcast { id, .. } => *id,
            _ => None,
        }
    }

    /// Whether it is to be asked on this connection.
    fn is_to_be_asked(&self, connection: u64) -> bool {
        self.answer.is_none() || (self.is_awaited() && self.watch != Watch::On(connection))
    }

    /// The server has answered on this connection.
    fn answered(&mut self, answer: Answer, to: &To, watch: Watch) {
        if self.answer.is_some() {
            // It was stored before, and asked again for its delivery only.
            let known = matches!(answer, Answer::Stored { fate: Fate::Known, .. });
            self.watch = if known { watch } else { Watch::Never };
            return;
        }
        self.watch = watch;
        match (&answer, to) {
            (Answer::Stored { fate: Fate::Known, .. }, To::Users(names)) => {
                self.open.clone_from(names);
            }
            // How many they were is lost with the first answer.
            (Answer::Stored { fate: Fate::Known, .. }, To::Everyone) => self.unnamed = 1,
            (Answer::Stored { to, .. }, _) => self.open = vec![to.clone()],
            (Answer::Fates { fates, .. }, _) => {
                let stored = fates.iter().filter(|(_, fate)| *fate <= Fate::Known);
                self.open = stored.map(|(name, _)| name.clone()).collect();
            }
            (Answer::Broadcast { count, .. }, _) => self.unnamed = *count,
            _ => {}
        }
        self.answer = Some(answer);
    }

    fn delivered(&mut self, user: &str) {
        let before = self.open.len();
        self.open.retain(|name| !name.eq_ignore_ascii_case(user));
        if self.open.len() == before {
            self.unnamed = self.unnamed.saturating_sub(1);
        }
    }
}

/// What sends messages: it keeps its connection from one batch to the next.
pub struct Sender<'a> {
    errand: Errand<'a>,
    to: &'a To,
    conversation: Option<Conversation<'a>>,
    /// Counts connections.
    connection: u64,
    /// How long each batch may take, in milliseconds.
    timeout_ms: u64,
    /// Whether it wants to be told what is delivered; then what is to be said of each message.
    receipts: Receipts,
    /// A message was sent under its spare key.
    pub spared: bool,
}

/// Whether the server is asked to tell what is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receipts {
    Unwanted,
    /// To be asked for on a new connection.
    Wanted,
    /// Asked for under this number.
    Asked(u64),
    /// The server does not have them.
    Refused,
}

impl<'a> Sender<'a> {
    /// Not connected yet. `wait`: what will be waited for in the end.
    #[must_use]
    pub fn new(errand: Errand<'a>, to: &'a To, timeout_ms: u64, wait: Wait) -> Self {
        let receipts = match wait {
            Wait::Stored => Receipts::Unwanted,
            Wait::Delivered => Receipts::Wanted,
        };
        let (conversation, connection) = (None, 0);
        Self { errand, to, conversation, connection, timeout_ms, receipts, spared: false }
    }

    /// No receipts are wanted from now on.
    pub fn give_up_receipts(&mut self) {
        self.receipts = Receipts::Unwanted;
    }

    /// Sends until what is waited for is reached; connects anew where that may help. `last`: no
    /// more will follow, so the goodbye travels with the messages.
    pub fn send(
        &mut self,
        messages: &mut [Message],
        wait: Wait,
        last: bool,
    ) -> Result<(), Trouble> {
        let clock = self.errand.clock;
        let until = clock().plus(self.timeout_ms);
        self.errand.until = until;
        let mut tries = Tries::new(clock, until);
        loop {
            let trouble = match self.once(messages, wait, last) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            self.conversation = None;
            if messages.iter().all(|message| message.answer.is_some()) {
                // A server that is away for long does no harm to what is stored.
                tries.endless();
            } else if messages.iter().any(|message| message.tried) {
                // What got through once will again.
                tries.reached();
            }
            tries.pause(trouble)?;
        }
    }

    fn open(&mut self) -> Result<(), Trouble> {
        if self.conversation.is_none() {
            let mut conversation = Conversation::open(&self.errand)?;
            self.connection += 1;
            if !matches!(self.receipts, Receipts::Unwanted | Receipts::Refused) {
                let number = conversation.link.ask(&Ask::Receipts);
                self.receipts = number.map_or(Receipts::Wanted, Receipts::Asked);
            }
            self.conversation = Some(conversation);
        }
        Ok(())
    }

    fn once(&mut self, messages: &mut [Message], wait: Wait, last: bool) -> Result<(), Trouble> {
        let until = self.errand.until;
        self.open()?;
        let connection = self.connection;
        let to_ask = |n: &usize| messages[*n].is_to_be_asked(connection);
        let mut open: BTreeSet<usize> = (0..messages.len()).filter(to_ask).collect();
        let mut under_way: Vec<(u64, usize)> = Vec::new();
        let mut next = Next::Done;
        loop {
            let Some(conversation) = &mut self.conversation else { return Ok(()) };
            // Nothing can be asked once it is closed; waiting tells why.
            // Asked in bursts, as each turn of the server has its price.
            if under_way.is_empty() {
                next = Next::Done;
            }
            // Where some are to be asked again none goes before them.
            let few = under_way.len() <= UNDER_WAY_MOST / 2 && next == Next::Done;
            let is_in = conversation.link.state() == State::In;
            let most = if few && is_in { UNDER_WAY_MOST } else { 0 };
            let mut bytes: usize = under_way.iter().map(|&(_, n)| messages[n].text.len()).sum();
            while under_way.len() < most && bytes < UNDER_WAY_BYTES_MOST {
                let Some(n) = open.pop_first() else { break };
                let Message { key, spare, text, tried, .. } = &mut messages[n];
                if let Some(spare) = spare.take_if(|_| self.spared && !*tried) {
                    *key = spare;
                }
                let ask = match self.to {
                    To::Users(to) => Ask::Send { key, to, text },
                    To::Everyone => Ask::Broadcast { key, text },
                };
                *tried = true;
                bytes += text.len();
                under_way.extend(conversation.link.ask(&ask).map(|number| (number, n)));
                if last && open.is_empty() {
                    conversation.link.ask(&Ask::SignOut);
                }
            }
            if under_way.is_empty() && open.is_empty() && is_reached(messages, wait) {
                return Ok(());
            }
            match conversation.wait(until)? {
                Some(Event::Answered(number, answer)) => {
                    if let Some(at) = under_way.iter().position(|&(open, _)| open == number) {
                        let (_, n) = under_way.remove(at);
                        if self.answered(&mut messages[n], answer) == Next::AskAgain {
                            open.insert(n);
                            next = Next::AskAgain;
                        }
                    } else if self.receipts == Receipts::Asked(number) {
                        self.receipts_answered(&answer);
                    }
                }
                Some(Event::Receipt(receipt)) => told(messages, &receipt),
                Some(_) => {}
                None => return Err(Trouble::TimedOut(State::In)),
            }
        }
    }

    fn answered(&mut self, message: &mut Message, answer: Answer) -> Next {
        if let Answer::Refused(refused) = &answer
            && refused.code == KEYS_FULL
            && message.answer.is_none()
            && let Some(spare) = message.spare.take()
        {
            // Refused is not stored, so it may have another name.
            message.key = spare;
            self.spared = true;
            return Next::AskAgain;
        }
        let watch = match self.receipts {
            Receipts::Unwanted | Receipts::Refused => Watch::Never,
            Receipts::Wanted | Receipts::Asked(_) => Watch::On(self.connection),
        };
        message.answered(answer, self.to, watch);
        Next::Done
    }

    fn receipts_answered(&mut self, answer: &Answer) {
        if matches!(answer, Answer::Refused(_)) {
            // It comes before the answer to any message.
            self.receipts = Receipts::Refused;
        }
    }

    /// Signs out.
    pub fn close(self) {
        if let Some(conversation) = self.conversation {
            conversation.close(self.errand.until);
        }
    }
}

/// What is to be done with a message that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Done,
    AskAgain,
}

fn is_reached(messages: &[Message], wait: Wait) -> bool {
    match wait {
        Wait::Stored => true,
        Wait::Delivered => !messages.iter().any(Message::is_awaited),
    }
}

fn told(messages: &mut [Message], receipt: &Receipt) {
    let id = match receipt {
        Receipt::Delivered { id, .. } | Receipt::Unwatched(id) => *id,
    };
    for message in messages.iter_mut().filter(|message| message.id() == Some(id)) {
        match receipt {
            Receipt::Delivered { user, .. } => message.delivered(user),
            Receipt::Unwatched(_) => message.watch = Watch::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LetterId = LetterId { epoch: 5, seq: 7 };

    fn list() -> To {
        To::Users(vec!["tim".into(), "ann".into()])
    }

    fn known() -> Answer {
        Answer::Stored { id: ID, fate: Fate::Known, to: String::new() }
    }

    fn delivered(user: &str) -> Receipt {
        Receipt::Delivered { id: ID, user: user.into() }
    }

    #[test]
    fn a_message_is_done_once_all_for_whom_it_is_stored_have_it() {
        let fates = [("Tim", Fate::Sent), ("Ann", Fate::Saved), ("bob", Fate::Full)];
        let fates = fates.map(|(name, fate)| (name.to_owned(), fate)).into();
        let mut messages = [Message::new("k".into(), "x".into())];
        assert!(messages[0].is_to_be_asked(1));
        messages[0].answered(Answer::Fates { id: Some(ID), fates }, &list(), Watch::On(1));
        assert!(messages[0].is_awaited() && !messages[0].is_to_be_asked(1));
        told(&mut messages, &delivered("ann"));
        told(&mut messages, &delivered("ann"));
        assert_eq!(
            (messages[0].open.as_slice(), messages[0].is_done()),
            (&["Tim".into()][..], false)
        );
        // On the next connection it is asked for again, and what is known stays known.
        assert!(messages[0].is_to_be_asked(2));
        messages[0].answered(known(), &list(), Watch::On(2));
        assert_eq!(messages[0].open, ["Tim"]);
        told(&mut messages, &delivered("TIM"));
        assert!(messages[0].is_done() && !messages[0].is_undelivered());
        assert!(matches!(messages[0].answer, Some(Answer::Fates { .. })));
    }

    #[test]
    fn of_an_earlier_try_all_are_awaited_until_the_server_says_that_it_does_not_know() {
        let mut messages = [Message::new("k".into(), "x".into())];
        messages[0].answered(known(), &list(), Watch::On(1));
        assert_eq!(messages[0].open, ["tim", "ann"]);
        told(&mut messages, &Receipt::Unwatched(LetterId { seq: 8, ..ID }));
        assert!(messages[0].is_awaited());
        told(&mut messages, &Receipt::Unwatched(ID));
        assert!(messages[0].is_undelivered() && messages[0].is_done());
        assert!(!messages[0].is_to_be_asked(2), "it would be told the same");
    }

    #[test]
    fn of_a_broadcast_only_the_number_is_known() {
        let mut messages = [Message::new("k".into(), "x".into())];
        let answer = Answer::Broadcast { id: Some(ID), count: 2, full: vec![], more: 0 };
        messages[0].answered(answer, &To::Everyone, Watch::On(1));
        told(&mut messages, &delivered("tim"));
        assert!(!is_reached(&messages, Wait::Delivered));
        told(&mut messages, &delivered("ann"));
        assert!(is_reached(&messages, Wait::Delivered));
    }

    #[test]
    fn a_key_that_is_too_old_to_be_asked_again_is_not_waited_for() {
        use crate::proto::coded_client::Refused;
        let mut messages = [Message::new("k".into(), "x".into())];
        let sent = Answer::Stored { id: ID, fate: Fate::Sent, to: "tim".into() };
        messages[0].answered(sent.clone(), &list(), Watch::On(1));
        let refused = Refused { code: 554, fields: "key-too-old".into() };
        messages[0].answered(Answer::Refused(refused), &list(), Watch::On(2));
        assert!(messages[0].is_done() && messages[0].is_undelivered());
        assert_eq!(messages[0].answer, Some(sent));
    }
}
