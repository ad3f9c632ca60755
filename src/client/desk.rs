//! The companion but for its threads: a [`Model`] with its inbox and its keys, in the one order in
//! which nothing is lost and nothing shown twice without saying so. Simulations run this same code.
//!
//! ```text
//! wishes()        letters among them stand in the inbox, flushed; then the world may show them
//! take_output()   only now what it says to the server, acknowledgements among it
//! shown(number)   a letter was shown, and is marked so in the inbox
//! ```
//!
//! Without an inbox a letter is acknowledged once it was shown. Ids are those of one spool: when
//! the server comes back with another one, another inbox is opened, and nothing is known of it. So
//! what was shown is told by numbers of this file's own, which go on.
//!
//! Knows files by a [`Disk`] only; no socket, no clock, no terminal.

use super::inbox::{Inbox, Keys};
use super::model::{Effect, End, Model};
use super::screen::{self, Line, Tone};
use super::shown::Shown;
use crate::proto::coded_client::Letter;
use crate::proto::id::LetterId;
use crate::store::disk::Disk;
use crate::time::{Millis, Now};
use std::collections::VecDeque;

/// Opens a directory of this user's, or says why it cannot be had.
pub type Open<D> = Box<dyn Fn() -> Result<D, String>>;

/// What is wished from the world, in this order.
#[derive(Debug)]
pub enum Wish {
    /// To be shown; a letter has a number, by which [`Desk::shown`] is told that it was.
    Show(Line, Option<u64>),
    /// Signed in.
    SignedIn,
    /// A connection is wanted.
    Connect,
    /// The connection is to be dropped.
    HangUp,
    /// Everybody's names, for completion.
    Names(Vec<String>),
    /// A line that was typed is dealt with.
    Done,
    /// There is no more to do.
    End(End),
}

/// A companion's model, its inbox and its keys.
pub struct Desk<D: Disk> {
    /// What happens is told to it; only what was typed goes to [`Desk::typed`].
    pub model: Model,
    inboxes: Open<D>,
    counters: Open<D>,
    keys: Option<Keys<D>>,
    /// The spool that ids are those of, and the user.
    source: Option<(String, String)>,
    inbox: Option<Inbox<D>>,
    /// The last letter of this spool that was taken.
    seen: Option<LetterId>,
    /// To be acknowledged once all up to this number was shown.
    unread: Option<(u64, LetterId)>,
    /// Letters that are wished to be shown, this spool's only, and not known to have been.
    wished: VecDeque<(u64, LetterId)>,
    /// Numbers of letters: of the last one wished, of the last one shown.
    last: u64,
    shown: u64,
    dice: u64,
}

impl<D: Disk> Desk<D> {
    /// A companion that has opened nothing yet. `inboxes`: where letters are kept; `counters`:
    /// where the counter of keys is; `dice`: a number that nobody else has drawn.
    #[must_use]
    pub fn new(model: Model, inboxes: Open<D>, counters: Open<D>, dice: u64) -> Self {
        Self {
            model,
            inboxes,
            counters,
            keys: None,
            source: None,
            inbox: None,
            seen: None,
            unread: None,
            wished: VecDeque::new(),
            last: 0,
            shown: 0,
            dice,
        }
    }

    /// A line was typed.
    pub fn typed(&mut self, line: &str, now: Millis) {
        let keys = match self.keys.take() {
            Some(keys) => keys,
            None => self.open_keys(),
        };
        let keys = self.keys.insert(keys);
        self.model.typed(line, &mut || keys.take(), now);
    }

    /// All letters up to this number have been shown.
    pub fn shown(&mut self, number: u64) {
        self.shown = self.shown.max(number);
        self.read();
    }

    /// What is to be written to the server, and is taken by this. What was wished before comes
    /// first.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.model.take_output()
    }

    /// What is wished now. The letters among it are durable.
    pub fn wishes(&mut self, now: Now) -> Vec<Wish> {
        let mut last = None;
        let mut wishes = Vec::new();
        while let Some(effect) = self.model.effect() {
            let wish = match effect {
                Effect::Show(line) => Wish::Show(line, None),
                Effect::Letter(letter) => {
                    last = last.max(Some(letter.id));
                    if self.is_new(&letter, &mut wishes) {
                        let line = screen::letter(&letter, letter.again, now.unix_ms);
                        wishes.push(self.numbered(line, letter.id));
                    }
                    continue;
                }
                Effect::Opened { user, spool } => {
                    self.open_inbox(user, spool, now, &mut wishes);
                    Wish::SignedIn
                }
                Effect::Connect => Wish::Connect,
                Effect::HangUp => Wish::HangUp,
                Effect::Names(names) => Wish::Names(names),
                Effect::Done => Wish::Done,
                Effect::End(end) => Wish::End(end),
            };
            wishes.push(wish);
        }
        if let Some(inbox) = &mut self.inbox
            && let Err(error) = inbox.sync()
        {
            self.without_inbox(&error.to_string(), &mut wishes);
        }
        if let Some(last) = last {
            if self.inbox.is_some() {
                self.model.acknowledge(last);
            } else {
                // Once it was shown.
                self.unread = Some((self.last, last));
                self.read();
            }
        }
        wishes
    }

    /// Takes a letter in, unless it was before.
    fn is_new(&mut self, letter: &Letter, wishes: &mut Vec<Wish>) -> bool {
        let kept = self.inbox.as_ref().is_some_and(|inbox| inbox.has(letter.id));
        if kept || self.seen.is_some_and(|seen| letter.id <= seen) {
            return false;
        }
        self.seen = Some(letter.id);
        if let Some(inbox) = &mut self.inbox
            && let Err(error) = inbox.keep(letter)
        {
            self.without_inbox(&error.to_string(), wishes);
        }
        true
    }

    fn numbered(&mut self, line: Line, id: LetterId) -> Wish {
        self.last += 1;
        self.wished.push_back((self.last, id));
        Wish::Show(line, Some(self.last))
    }

    /// Marks or acknowledges what has been shown.
    fn read(&mut self) {
        let mut shown = None;
        while let Some(&(_, id)) = self.wished.front().filter(|(number, _)| *number <= self.shown) {
            self.wished.pop_front();
            shown = Some(id);
        }
        if let (Some(inbox), Some(shown)) = (&mut self.inbox, shown) {
            // A mark that cannot be written costs one repetition at the next start.
            _ = inbox.printed(shown);
        }
        if let Some((_, id)) = self.unread.take_if(|(number, _)| *number <= self.shown) {
            self.model.acknowledge(id);
        }
    }

    fn open_inbox(&mut self, user: String, spool: String, now: Now, wishes: &mut Vec<Wish>) {
        let source = (user, spool);
        if self.source.as_ref() == Some(&source) {
            return;
        }
        // What is still to be shown of another spool stays unmarked there.
        (self.inbox, self.seen, self.unread) = (None, None, None);
        self.wished.clear();
        let opened = (self.inboxes)().and_then(|disk| {
            Inbox::open(disk, &source.0, &source.1).map_err(|error| error.to_string())
        });
        match opened {
            Ok(inbox) => {
                for letter in inbox.unprinted() {
                    let line = screen::letter(letter, true, now.unix_ms);
                    wishes.push(self.numbered(line, letter.id));
                }
                self.inbox = Some(inbox);
            }
            Err(error) => self.without_inbox(&error, wishes),
        }
        self.source = Some(source);
    }

    /// Says that messages are not kept.
    fn without_inbox(&mut self, why: &str, wishes: &mut Vec<Wish>) {
        self.inbox = None;
        let words = format!(
            "no inbox ({}): messages leave the server as soon as they are shown",
            Shown(why)
        );
        wishes.push(Wish::Show(Line::new(Tone::Trouble, words), None));
    }

    fn open_keys(&self) -> Keys<D> {
        let opened = (self.counters)().ok().map(|disk| Keys::open(disk, self.dice));
        match opened {
            Some(Ok(keys)) => keys,
            // Those of one run do as well: nothing typed outlives the run.
            Some(Err(_)) | None => Keys::of_this_run(self.dice),
        }
    }
}
