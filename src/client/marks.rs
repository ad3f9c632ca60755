//! The third mark of a message: `sent` and `saved` say that the server has it, `delivered` that its
//! reader has it. What was sent and is awaited, and what is to be shown of it. Pure.
//!
//! Between two companions a receipt comes a moment behind the answer. So an answer that would say
//! `sent` is held back for that moment, and one line tells both.

use super::screen::{Line, Tone};
use super::shown::Shown;
use crate::proto::coded_client::{Answer, Fate};
use crate::proto::id::LetterId;
use crate::proto::receipt::Receipt;
use crate::time::Millis;
use std::collections::BTreeMap;

/// Messages awaited at most: of older ones no mark is shown.
const AWAITED_MOST: usize = 1000;
/// How long an answer is held back, in milliseconds: nobody waits noticeably.
pub(super) const HOLD_MS: u64 = 200;
/// Characters of a message that its mark repeats.
const EXCERPT_CHARS: usize = 40;

#[derive(Debug)]
struct Awaited {
    /// The beginning of the message.
    excerpt: String,
    /// Who does not have it yet.
    open: Vec<String>,
    /// Of a broadcast: how many got it, and how many of them do not have it yet.
    all: u64,
    unnamed: u64,
}

/// An answer that is held back.
#[derive(Debug)]
struct Held {
    id: LetterId,
    line: Line,
    /// What is said instead if all have it by then.
    delivered: String,
    all_have_it: bool,
    until: Millis,
}

/// What was sent on this connection, and is awaited.
#[derive(Debug, Default)]
pub(super) struct Marks {
    awaited: BTreeMap<LetterId, Awaited>,
    held: Option<Held>,
    /// Receipts that are not shown yet: who has which letter, and how it begins.
    arrived: Vec<(LetterId, String, String)>,
}

impl Marks {
    /// A message was answered, in these words. The words come back if they are to be shown now;
    /// what was held back before must have been shown.
    pub(super) fn answered(
        &mut self,
        answer: &Answer,
        to: &[String],
        text: &str,
        line: Line,
        now: Millis,
    ) -> Option<Line> {
        let (id, open, unnamed) = match answer {
            Answer::Stored { id, fate: Fate::Known, .. } => (Some(*id), to.to_vec(), 0),
            Answer::Stored { id, to, .. } => (Some(*id), vec![to.clone()], 0),
            Answer::Fates { id, fates } => {
                let stored = fates.iter().filter(|(_, fate)| *fate <= Fate::Known);
                (*id, stored.map(|(name, _)| name.clone()).collect(), 0)
            }
            Answer::Broadcast { id, count, .. } => (*id, Vec::new(), *count),
            _ => return Some(line),
        };
        let Some(id) = id else { return Some(line) };
        let all_there = match answer {
            Answer::Stored { fate, .. } => *fate == Fate::Sent,
            Answer::Fates { fates, .. } => fates.iter().all(|(_, fate)| *fate == Fate::Sent),
            Answer::Broadcast { full, .. } => full.is_empty(),
            _ => false,
        };
        let delivered = match (&open[..], unnamed) {
            ([], 1) => "delivered to 1 user".into(),
            ([], n) => format!("delivered to {n} users"),
            (open, _) => format!("delivered to {}", Shown(&open.join(", "))),
        };
        let excerpt = excerpt(text);
        self.awaited.insert(id, Awaited { excerpt, open, all: unnamed, unnamed });
        while self.awaited.len() > AWAITED_MOST {
            self.awaited.pop_first();
        }
        if !all_there {
            return Some(line);
        }
        let until = now.plus(HOLD_MS);
        self.held = Some(Held { id, line, delivered, all_have_it: false, until });
        None
    }

    /// Something is known of a delivery.
    pub(super) fn told(&mut self, receipt: &Receipt) {
        let (id, user) = match receipt {
            Receipt::Delivered { id, user } => (id, user),
            Receipt::Unwatched(id) => {
                self.awaited.remove(id);
                return;
            }
        };
        let Some(awaited) = self.awaited.get_mut(id) else { return };
        let before = awaited.open.len();
        awaited.open.retain(|name| !name.eq_ignore_ascii_case(user));
        if awaited.open.len() < before {
            self.arrived.push((*id, user.clone(), awaited.excerpt.clone()));
        } else if awaited.unnamed > 0 {
            awaited.unnamed -= 1;
            if awaited.unnamed == 0 {
                let all = format!("all {} users", awaited.all);
                self.arrived.push((*id, all, awaited.excerpt.clone()));
            }
        }
        if awaited.open.is_empty() && awaited.unnamed == 0 {
            self.awaited.remove(id);
            if let Some(held) = self.held.as_mut().filter(|held| held.id == *id) {
                held.all_have_it = true;
            }
        }
    }

    /// When the answer that is held back must be shown.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Whether there is nothing to wait for any more.
    pub(super) fn is_settled(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.all_have_it)
    }

    /// The answer that was held back, in the words that fit now.
    pub(super) fn answer(&mut self) -> Option<Line> {
        let held = self.held.take()?;
        if !held.all_have_it {
            return Some(held.line);
        }
        self.arrived.retain(|(id, ..)| *id != held.id);
        Some(Line::new(Tone::Answer, held.delivered))
    }

    /// The marks of what was answered before.
    pub(super) fn lines(&mut self) -> Vec<Line> {
        let mut users: Vec<(String, Vec<String>)> = Vec::new();
        for (_, user, excerpt) in std::mem::take(&mut self.arrived) {
            match users.iter_mut().find(|(known, _)| *known == user) {
                Some((_, excerpts)) => excerpts.push(excerpt),
                None => users.push((user, vec![excerpt])),
            }
        }
        let line = |(user, excerpts): (String, Vec<String>)| {
            let what = match &excerpts[..] {
                [one] => one.clone(),
                many => format!("{} messages", many.len()),
            };
            Line::new(Tone::Notice, format!("delivered to {}: {what}", Shown(&user)))
        };
        users.into_iter().map(line).collect()
    }

    /// The connection is gone: nothing is awaited any more.
    pub(super) fn forget(&mut self) {
        self.awaited.clear();
    }
}

/// The beginning of a message, fit to be shown.
fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(EXCERPT_CHARS).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    Shown(&short).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u32) -> LetterId {
        LetterId { epoch: 5, seq }
    }

    /// A message to one, and how its answer is shown.
    fn send(marks: &mut Marks, seq: u32, fate: Fate, to: &str, text: &str) -> Option<String> {
        let answer = Answer::Stored { id: id(seq), fate, to: to.into() };
        let line = Line::new(Tone::Answer, format!("{} to {to}", fate.word()));
        marks.answered(&answer, &[to.into()], text, line, Millis(1)).map(|line| line.text)
    }

    fn delivered(marks: &mut Marks, seq: u32, user: &str) {
        marks.told(&Receipt::Delivered { id: id(seq), user: user.into() });
    }

    /// What is shown before anything else.
    fn all(marks: &mut Marks) -> Vec<Line> {
        let mut lines: Vec<_> = marks.answer().into_iter().collect();
        lines.extend(marks.lines());
        lines
    }

    /// What is shown once the server has said what it says.
    fn settled(marks: &mut Marks) -> Vec<Line> {
        if marks.is_settled() { all(marks) } else { vec![] }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_receipt_that_comes_at_once_takes_the_answers_place() {
        let mut marks = Marks::default();
        assert_eq!(send(&mut marks, 1, Fate::Sent, "Tim", "hi"), None);
        assert_eq!(marks.deadline(), Some(Millis(1 + HOLD_MS)));
        assert!(settled(&mut marks).is_empty());
        delivered(&mut marks, 1, "Tim");
        assert_eq!(texts(settled(&mut marks)), ["delivered to Tim"]);
        assert_eq!((marks.deadline(), all(&mut marks)), (None, vec![]));
    }

    #[test]
    fn a_receipt_that_comes_later_says_of_what() {
        let mut marks = Marks::default();
        let saved = send(&mut marks, 1, Fate::Saved, "Tim", "one\ntwo");
        assert_eq!(saved.as_deref(), Some("saved to Tim"));
        assert_eq!(send(&mut marks, 2, Fate::Sent, "ann", "x\u{1b}y"), None);
        // A receipt of another message is not the one of the message that is held back.
        delivered(&mut marks, 1, "tim");
        assert!(settled(&mut marks).is_empty());
        assert_eq!(texts(all(&mut marks)), ["sent to ann", "delivered to tim: one..."]);
        delivered(&mut marks, 2, "ann");
        delivered(&mut marks, 2, "ann");
        assert_eq!(texts(settled(&mut marks)), ["delivered to ann: x\\u{1b}y"]);
    }

    #[test]
    fn many_receipts_at_once_are_one_line() {
        let mut marks = Marks::default();
        for seq in 1..=12 {
            assert!(send(&mut marks, seq, Fate::Saved, "Tim", "hi").is_some());
        }
        assert!(
            send(&mut marks, 13, Fate::Saved, "ann", "a long one".repeat(9).as_str()).is_some()
        );
        for seq in 1..=12 {
            delivered(&mut marks, seq, "Tim");
        }
        delivered(&mut marks, 13, "ann");
        let long = format!("delivered to ann: {}...", "a long one".repeat(4));
        assert_eq!(texts(settled(&mut marks)), ["delivered to Tim: 12 messages", &long]);
        assert!(marks.awaited.is_empty());
    }

    #[test]
    fn what_will_not_be_told_is_shown_as_it_was_answered() {
        let mut marks = Marks::default();
        assert_eq!(send(&mut marks, 1, Fate::Sent, "Tim", "hi"), None);
        marks.told(&Receipt::Unwatched(id(1)));
        assert!(settled(&mut marks).is_empty());
        assert_eq!(texts(all(&mut marks)), ["sent to Tim"]);
    }

    #[test]
    fn of_a_broadcast_there_is_one_mark() {
        let mut marks = Marks::default();
        let answer = Answer::Broadcast { id: Some(id(1)), count: 2, full: vec![], more: 0 };
        let line = || Line::new(Tone::Answer, "message sent to 2 users");
        assert_eq!(marks.answered(&answer, &[], "hi", line(), Millis(1)), None);
        delivered(&mut marks, 1, "Tim");
        assert_eq!(texts(all(&mut marks)), ["message sent to 2 users"]);
        delivered(&mut marks, 1, "ann");
        assert_eq!(texts(settled(&mut marks)), ["delivered to all 2 users: hi"]);
    }

    #[test]
    fn it_keeps_a_bounded_number_and_none_over_a_connections_end() {
        let mut marks = Marks::default();
        for seq in 1..=AWAITED_MOST as u32 + 1 {
            send(&mut marks, seq, Fate::Saved, "Tim", "hi");
        }
        delivered(&mut marks, 1, "Tim");
        assert_eq!(settled(&mut marks), []);
        delivered(&mut marks, 2, "Tim");
        assert_eq!(settled(&mut marks).len(), 1);
        marks.forget();
        delivered(&mut marks, 3, "Tim");
        assert_eq!(settled(&mut marks), []);
    }
}
