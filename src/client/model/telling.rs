//! What the companion shows, in its turn and its order: answers, what happens, and what was held
//! back for a receipt that may come at once.

use super::question::Question;
use super::{Effect, Model};
use crate::client::screen::{self, About, Line, Tone};
use crate::proto::coded_client::Answer;
use crate::proto::name::UserName;
use crate::time::Millis;

impl Model {
    pub(super) fn show(&mut self, tone: Tone, text: impl Into<String>) {
        self.put_up(Line::new(tone, text));
    }

    /// Shows a line, behind what was held back.
    pub(super) fn put_up(&mut self, line: Line) {
        self.catch_up();
        self.effects.push_back(Effect::Show(line));
    }

    /// Shows what was held back, and who has what.
    pub(super) fn catch_up(&mut self) {
        if let Some(line) = self.marks.answer() {
            self.effects.extend([Effect::Show(line), Effect::Done]);
        }
        self.effects.extend(self.marks.lines().into_iter().map(Effect::Show));
    }

    /// A line has come to this; it is shown in its turn.
    pub(super) fn settled(&mut self, line: Line) {
        self.queue.push_back(Question::Settled(line));
        self.in_turn();
    }

    /// Shows what needs no server and has nothing unanswered before it.
    pub(super) fn in_turn(&mut self) {
        while let Some(Question::Settled(line)) = self.queue.front() {
            let line = line.clone();
            self.put_up(line);
            self.effects.push_back(Effect::Done);
            self.queue.pop_front();
            self.under_way = self.under_way.saturating_sub(1);
        }
    }

    pub(super) fn answered(&mut self, answer: &Answer, now: Millis) {
        // The answer to the sign-out has no question in the queue.
        let Some(left) = self.under_way.checked_sub(1) else { return };
        let Some(question) = self.queue.pop_front() else { return };
        self.under_way = left;
        if let Question::Passwd { keys, .. } = question {
            self.password_answered(keys, answer);
        } else {
            self.shown(&question, answer, now);
        }
        self.in_turn();
    }

    pub(super) fn shown(&mut self, question: &Question, answer: &Answer, now: Millis) {
        if let Answer::Who { online, offline, more } = answer {
            // They are put into the line that is typed, as they are.
            let names = online.iter().chain(offline).filter(|name| UserName::new(name).is_ok());
            self.names = names.cloned().collect();
            self.all_names = *more == (0, 0);
            self.effects.push_back(Effect::Names(self.names.clone()));
        }
        let (to, window_ms) = match question {
            Question::Send { to, .. } => (&to[..], None),
            Question::Broadcast { .. } => (&[][..], None),
            Question::Typed { window_ms, .. } => (&[][..], *window_ms),
            Question::Names(false) | Question::Receipts => return,
            Question::Passwd { .. } | Question::Settled(_) => return,
            Question::Names(true) => {
                let line = screen::answer(answer, About { to: &[], window_ms: None });
                return self.put_up(line);
            }
        };
        let line = screen::answer(answer, About { to, window_ms });
        let is_message = matches!(question, Question::Send { .. } | Question::Broadcast { .. });
        if is_message && !self.patient {
            self.catch_up();
            let line = self.marks.answered(answer, to, question.text(), line, now);
            let Some(line) = line else { return };
            self.effects.push_back(Effect::Show(line));
        } else {
            self.put_up(line);
        }
        self.effects.push_back(Effect::Done);
    }
}
