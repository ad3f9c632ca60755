//! The companion without terminal, socket, file or clock: what is typed, what the server says and
//! the time come in; lines to show, bytes to write and wishes come out.
//!
//! What was typed waits in one queue until it is answered. When a connection is lost, everything
//! unanswered is said again on the next one, under the same keys, so that nothing is stored twice.

mod passwd;
mod question;
mod telling;

pub use passwd::Ingredients;

use super::link::{Credential, Event, Link, Login, State, Why};
use super::marks::Marks;
use super::oneshot::Trouble;
use super::screen::{self, Line, Tone};
use crate::limits::{COUNTED_BYTES, LINE_BYTES};
use crate::proto::coded_client::{Ask, Letter};
use crate::proto::command::{self, Command, CommandFault, Recipients};
use crate::proto::id::LetterId;
use crate::proto::name::UserName;
use crate::proto::reply::{Farewell, Refusal, Reply};
use crate::scram::{Channel, Keys, NONCE_ENTROPY_BYTES};
use crate::time::Millis;
use question::{Question, is_harmless};
use std::collections::VecDeque;

/// Questions on their way at a time: far fewer than the keys that a server remembers.
const UNDER_WAY_MOST: usize = 64;
/// The same in bytes of text.
const UNDER_WAY_BYTES_MOST: usize = 128 << 10;
/// Names of a message in bytes: they share a line with its key.
const HEAD: usize = LINE_BYTES - 200;
/// Lines that wait for a server at most.
pub const QUEUE_MOST: usize = 1000;
/// Pauses before a new connection grow from this to [`PAUSE_MOST_MS`], in milliseconds.
const PAUSE_LEAST_MS: u64 = 1000;
/// The longest pause, in milliseconds.
const PAUSE_MOST_MS: u64 = 30_000;
/// A sign-in or an answer that takes longer will not come, in milliseconds.
const ANSWER_MOST_MS: u64 = 30_000;
/// A server that says nothing for so long is gone: it pings an idle session much sooner.
const SILENT_MOST_MS: u64 = 300_000;
/// How long somebody who leaves waits for what is unanswered, in milliseconds.
const LEAVE_MOST_MS: u64 = 5000;
/// How long input from a pipe waits for a lost server, in milliseconds.
const PIPE_PATIENCE_MS: u64 = 60_000;

/// What is wished from the world.
#[derive(Debug)]
pub enum Effect {
    /// To be shown.
    Show(Line),
    /// To be kept, shown, and then acknowledged.
    Letter(Letter),
    /// Signed in: as whom, and at which spool.
    Opened {
        /// The name as the server spells it.
        user: String,
        /// The spool's name.
        spool: String,
    },
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

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// As wished.
    Left,
    /// So many lines were not answered.
    Unanswered(usize),
    /// Something went wrong for good.
    Trouble(Trouble),
}

#[derive(Debug)]
enum Stage {
    /// Until then.
    Pausing(Millis),
    Connecting,
    /// Since then.
    SigningIn(Millis),
    In,
    /// Until something is typed.
    Asleep,
    Ended,
}

/// One companion.
#[derive(Debug)]
pub struct Model {
    login: Login,
    stage: Stage,
    link: Option<Link>,
    /// When the server was last heard.
    heard: Millis,
    /// Unanswered, oldest first; so many at the front are under way, those since that time.
    queue: VecDeque<Question>,
    under_way: usize,
    asked: Millis,
    effects: VecDeque<Effect>,
    marks: Marks,
    /// It was signed in once.
    was_in: bool,
    tries: u32,
    /// When the connection was lost, and what was said of it.
    lost: Option<Millis>,
    said: String,
    names: Vec<String>,
    /// All users are among the names.
    all_names: bool,
    /// Input comes from a program, which waits.
    patient: bool,
    leaving: Option<Millis>,
    signed_out: bool,
    /// Of a new password of which it is not known whether the server has it.
    renewed: Option<Keys>,
    dice: u64,
}

impl Model {
    /// Wants to connect. `patient`: nobody sits there who could be asked.
    #[must_use]
    pub fn new(login: Login, patient: bool, dice: u64) -> Self {
        Self {
            login,
            stage: Stage::Connecting,
            link: None,
            heard: Millis(0),
            queue: VecDeque::new(),
            under_way: 0,
            asked: Millis(0),
            effects: VecDeque::from([Effect::Connect]),
            marks: Marks::default(),
            was_in: false,
            tries: 0,
            lost: None,
            said: String::new(),
            names: Vec::new(),
            all_names: false,
            patient,
            leaving: None,
            signed_out: false,
            renewed: None,
            dice: dice | 1,
        }
    }

    /// The next wish.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What is to be written, and is taken by this.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.link.as_mut().map(Link::take_output).unwrap_or_default()
    }

    /// When [`Model::tick`] has something to do, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let stage = match self.stage {
            Stage::Pausing(until) => Some(until),
            Stage::SigningIn(_) if self.is_stretching() => Some(Millis(0)),
            Stage::SigningIn(since) => Some(since.plus(ANSWER_MOST_MS)),
            Stage::In if self.under_way > 0 || self.signed_out => {
                Some(self.asked.max(self.heard).plus(ANSWER_MOST_MS))
            }
            Stage::In => Some(self.heard.plus(SILENT_MOST_MS)),
            Stage::Connecting | Stage::Asleep | Stage::Ended => None,
        };
        stage.into_iter().chain(self.leaving).chain(self.marks.deadline()).min()
    }

    /// A connection is there.
    pub fn connected(
        &mut self,
        entropy: &[u8; NONCE_ENTROPY_BYTES],
        channel: Channel,
        now: Millis,
    ) {
        if matches!(self.stage, Stage::Connecting) {
            self.link = Some(Link::open(&self.login, entropy, channel));
            (self.stage, self.heard) = (Stage::SigningIn(now), now);
        }
    }

    /// No connection could be had.
    pub fn unreachable(&mut self, trouble: Trouble, now: Millis) {
        if matches!(self.stage, Stage::Connecting) {
            self.failed(trouble, now);
        }
    }

    /// Bytes came.
    pub fn receive(&mut self, bytes: &[u8], now: Millis) {
        self.heard = now;
        if let Some(link) = &mut self.link {
            link.receive(bytes);
        }
        self.turn(now);
    }

    /// The connection is gone.
    pub fn gone(&mut self, now: Millis) {
        if let Some(link) = &mut self.link {
            link.lost();
        }
        self.turn(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Millis) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.marks.deadline().is_some_and(|until| until <= now) {
            self.catch_up();
            if self.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
        }
        if self.leaving.is_some_and(|leaving| leaving <= now) {
            return self.end(self.left());
        }
        match self.stage {
            Stage::Pausing(_) => self.connect(),
            // Between two slices of the work there is time for everything else.
            Stage::SigningIn(since) if self.is_stretching() && since.plus(ANSWER_MOST_MS) > now => {
                self.link.iter_mut().for_each(Link::work);
            }
            Stage::SigningIn(_) | Stage::In => self.gone(now),
            Stage::Connecting | Stage::Asleep | Stage::Ended => {}
        }
    }

    fn is_stretching(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.state() == State::Stretching)
    }

    /// Every letter up to this one is kept or was read.
    pub fn acknowledge(&mut self, id: LetterId) {
        if let Some(link) = self.link.as_mut().filter(|link| link.state() == State::In)
            && !self.signed_out
        {
            link.ask(&Ask::Ack(id));
        }
    }

    /// Somebody wants to leave, or there is no more input.
    pub fn leave(&mut self, now: Millis) {
        if self.leaving.is_none() {
            let most = if self.patient { u64::MAX } else { LEAVE_MOST_MS };
            self.leaving = Some(now.plus(most));
        }
        if self.link.is_none() && (self.queue.is_empty() || matches!(self.stage, Stage::Asleep)) {
            return self.end(self.left());
        }
        self.ask(now);
    }

    /// A line was typed. `key`: draws a new one.
    pub fn typed(&mut self, line: &str, key: &mut dyn FnMut() -> String, now: Millis) {
        if matches!(self.stage, Stage::Asleep) {
            self.connect();
        }
        // What was pasted may have several lines: they belong to the message.
        let (head, more) = line.split_once('\n').map_or((line, None), |(a, b)| (a, Some(b)));
        let whole = |text: &str| match more {
            Some(more) => format!("{text}\n{more}"),
            None => text.to_owned(),
        };
        let question = match command::parse(head.as_bytes()) {
            Err(CommandFault::Blank) => return self.effects.push_back(Effect::Done),
            Ok(Command::SignOut) => return self.leave(now),
            Ok(Command::Passwd(_)) => return self.no_terminal(),
            Ok(Command::Help(verb)) => {
                return self.settled(Line::new(Tone::Answer, screen::help(verb)));
            }
            Ok(Command::SignIn { .. }) => {
                let user = UserName::new(&self.login.user).ok();
                let words =
                    user.map(|user| screen::words(&Reply::Refused(Refusal::SignedInAlready(user))));
                return self.settled(Line::new(Tone::Trouble, words.unwrap_or_default()));
            }
            Ok(Command::Send { to, text }) => {
                let to = match to {
                    Recipients::One(one) => vec![one.to_owned()],
                    Recipients::List(list) => command::names(list).map(str::to_owned).collect(),
                };
                Question::Send { key: key(), to, text: whole(text) }
            }
            Ok(Command::Broadcast { text, list }) => match self.broadcast(text, list) {
                Ok((Some(to), text)) => Question::Send { key: key(), to, text: whole(text) },
                Ok((None, text)) => Question::Broadcast { key: key(), text: whole(text) },
                Err(line) => return self.settled(line),
            },
            Ok(Command::WhoLast { window_ms }) => {
                Question::Typed { line: head.trim().into(), window_ms: Some(window_ms) }
            }
            // With a blank behind it a brace at the end counts nothing.
            Ok(_) if head.ends_with('}') => {
                Question::Typed { line: format!("{head} "), window_ms: None }
            }
            Ok(_) => Question::Typed { line: head.trim().into(), window_ms: None },
            // The server knows best what was meant; it need not see more than that word.
            Err(CommandFault::Unknown(word)) if is_harmless(word) => {
                Question::Typed { line: word.into(), window_ms: None }
            }
            Err(fault) => return self.settled(Line::new(Tone::Trouble, screen::fault(fault))),
        };
        self.put(question, now);
    }

    fn put(&mut self, question: Question, now: Millis) {
        let bytes = question.text().len();
        let refusal = match &question {
            // A line that the server could not read would leave it with a text without a head.
            Question::Send { to, .. } if to.iter().map(|to| to.len() + 1).sum::<usize>() > HEAD => {
                Some(Refusal::LineTooLong(LINE_BYTES))
            }
            _ if bytes > COUNTED_BYTES => {
                Some(Refusal::MessageTooLong { bytes, most: COUNTED_BYTES })
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            let words = screen::words(&Reply::Refused(refusal));
            return self.settled(Line::new(Tone::Trouble, words));
        }
        if self.queue.len() >= QUEUE_MOST {
            let words = "too much waits for the server already; this was not taken";
            return self.settled(Line::new(Tone::Trouble, words));
        }
        self.queue.push_back(question);
        if !matches!(self.stage, Stage::In) {
            let words = "not connected; it goes out as soon as the server is back";
            self.show(Tone::Notice, words);
        }
        self.ask(now);
    }

    /// Whom a broadcast is for, if not for all, and its text.
    #[allow(clippy::type_complexity)] // two words that one look at the caller explains
    fn broadcast<'a>(
        &self,
        text: &'a str,
        list: Option<(&str, &'a str)>,
    ) -> Result<(Option<Vec<String>>, &'a str), Line> {
        let Some((named, behind)) = list else { return Ok((None, text)) };
        let to: Vec<_> = command::names(named).map(str::to_owned).collect();
        let known = |word: &String| self.names.iter().any(|name| name.eq_ignore_ascii_case(word));
        if to.iter().all(known) {
            return Ok((Some(to), behind));
        }
        if !self.all_names {
            let words = format!(
                "whether all of these are users is not known here; for some: send ({}) <message>, \
                 for all: broadcast message <message>",
                to.join(" ")
            );
            return Err(Line::new(Tone::Trouble, words));
        }
        Ok((None, text))
    }

    fn connect(&mut self) {
        self.stage = Stage::Connecting;
        self.effects.push_back(Effect::Connect);
    }

    /// Deals with what the link tells.
    fn turn(&mut self, now: Millis) {
        while let Some(event) = self.link.as_mut().and_then(Link::event) {
            match event {
                Event::SignedIn { user, waiting, spool } => {
                    self.signed_in(user, waiting, spool, now)
                }
                Event::Probing => {
                    if let Ok(user) = UserName::new(&self.login.user) {
                        self.show(Tone::Notice, screen::words(&Reply::Probing(user)));
                    }
                }
                Event::Answered(_, answer) => self.answered(&answer, now),
                // What comes behind the goodbye stays with the server.
                Event::Letter(_) if self.signed_out => {}
                Event::Letter(letter) => {
                    self.catch_up();
                    self.effects.push_back(Effect::Letter(letter));
                }
                Event::Receipt(receipt) => self.marks.told(&receipt),
                Event::Notice(code, fields) => {
                    let line = screen::notice(code, &fields, &self.login.user);
                    line.into_iter().for_each(|line| self.put_up(line));
                }
                Event::Closed(why) => return self.closed(why, now),
            }
        }
        if self.marks.is_settled() {
            self.catch_up();
        }
        self.ask(now);
    }

    fn signed_in(&mut self, user: String, waiting: u64, spool: String, now: Millis) {
        // From now on the password is not needed any more.
        if let Some(keys) = self.link.as_ref().and_then(Link::keys) {
            self.login.credential = Credential::Keys(keys.clone());
        }
        let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        let name = UserName::new(&user).ok();
        let words = match name.filter(|_| !self.was_in) {
            Some(user) => screen::words(&Reply::Welcome { user, waiting, spool: 0, proof: None }),
            None if waiting == 0 => "connected again; no messages were missed".into(),
            None if waiting == 1 => "connected again; 1 message waits:".into(),
            None => format!("connected again; {waiting} messages wait:"),
        };
        self.show(Tone::Notice, words);
        if !self.patient {
            self.queue.push_front(Question::Receipts);
        }
        self.queue.push_front(Question::Names(!self.was_in && !self.patient));
        self.effects.push_back(Effect::Opened { user: user.clone(), spool });
        self.login.user = user;
        (self.was_in, self.tries, self.lost) = (true, 0, None);
        self.said.clear();
        (self.stage, self.heard) = (Stage::In, now);
    }

    /// Says what is to be said now.
    fn ask(&mut self, now: Millis) {
        let Some(link) = self.link.as_mut().filter(|link| link.state() == State::In) else {
            return;
        };
        let bytes = self.queue.iter().take(self.under_way).map(|q| q.text().len());
        let mut bytes: usize = bytes.sum();
        let before = self.under_way;
        let last = self.under_way.checked_sub(1).and_then(|last| self.queue.get(last));
        if matches!(last, Some(Question::Passwd { .. })) {
            return;
        }
        while let Some(question) = self.queue.get(self.under_way) {
            if self.under_way >= UNDER_WAY_MOST || bytes >= UNDER_WAY_BYTES_MOST {
                break;
            }
            bytes += question.text().len();
            if let Some(ask) = question.ask() {
                link.ask(&ask);
            }
            self.under_way += 1;
            if let Question::Passwd { current, keys, entropy } = question {
                // Nothing may come between the parts of it.
                link.change_password(&self.login.user, current.clone(), &keys.verifier(), entropy);
                break;
            }
        }
        if self.queue.is_empty() && self.leaving.is_some() && !self.signed_out {
            link.ask(&Ask::SignOut);
            self.signed_out = true;
            self.asked = now;
        }
        if before == 0 && self.under_way > 0 {
            self.asked = now;
        }
    }

    fn closed(&mut self, why: Why, now: Millis) {
        self.catch_up();
        self.marks.forget();
        self.effects.push_back(Effect::HangUp);
        self.link = None;
        self.password_unsure(&why);
        self.under_way = 0;
        // What the companion asked for itself is asked anew.
        self.queue.retain(|question| !question.is_own());
        self.in_turn();
        if self.signed_out {
            self.show(Tone::Notice, screen::words(&Reply::Farewell(Farewell::SignedOut)));
            return self.end(End::Left);
        }
        self.failed(Trouble::Closed(why), now);
    }

    /// There is no connection; is there to be one?
    fn failed(&mut self, trouble: Trouble, now: Millis) {
        if self.signs_in_with_the_new(&trouble) {
            return self.connect();
        }
        let lost = *self.lost.get_or_insert(now);
        let passes = match &trouble {
            Trouble::Unreachable(_) => true,
            Trouble::Closed(Why::Refused(refused)) => matches!(refused.code, 431 | 432 | 533),
            Trouble::Closed(Why::Goodbye { reason, .. }) if reason == "idle" && !self.patient => {
                self.show(Tone::Notice, format!("{trouble}; press Enter to sign in again"));
                self.stage = Stage::Asleep;
                return;
            }
            other => other.may_pass(),
        };
        let late = self.patient && now.since(lost) >= PIPE_PATIENCE_MS;
        if !self.was_in || !passes {
            return self.end(End::Trouble(trouble));
        }
        if late || (self.leaving.is_some() && self.queue.is_empty()) {
            return self.end(self.left());
        }
        let pause = (PAUSE_LEAST_MS << self.tries.min(16)).min(PAUSE_MOST_MS);
        self.tries += 1;
        // Xorshift: between half of it and all of it, so that not all come back at once.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let mut pause = pause / 2 + self.dice % (pause / 2 + 1);
        if let Trouble::Closed(Why::Refused(refused)) = &trouble
            && refused.code == 431
        {
            pause = pause.max(refused.number().unwrap_or(0).saturating_mul(1000));
        }
        self.stage = Stage::Pausing(now.plus(pause));
        let said = trouble.to_string();
        if said != self.said {
            self.show(Tone::Trouble, format!("{said}; connecting again"));
            self.said = said;
        }
    }

    /// How it ends if it ends now.
    fn left(&self) -> End {
        let own =
            |question: &&Question| !question.is_own() && !matches!(question, Question::Settled(_));
        match self.queue.iter().filter(own).count() {
            0 => End::Left,
            n => End::Unanswered(n),
        }
    }

    fn end(&mut self, end: End) {
        if !matches!(self.stage, Stage::Ended) {
            self.catch_up();
            self.stage = Stage::Ended;
            self.leaving = None;
            self.effects.push_back(Effect::End(end));
        }
    }
}

#[cfg(test)]
#[path = "model/tests.rs"]
mod tests;
