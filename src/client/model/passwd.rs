//! Another password: what the companion does so that no password crosses the wire, and so that it
//! can sign in afterwards, whichever password the server has then.

use super::question::Question;
use super::{Model, Stage};
use crate::client::link::{Credential, Password, Why};
use crate::client::oneshot::Trouble;
use crate::client::screen::{self, About, Line, Tone};
use crate::crypto::SALT_BYTES;
use crate::proto::coded_client::Answer;
use crate::proto::password::acceptable_bytes;
use crate::proto::reply::{Refusal, Reply};
use crate::scram::{Keys, NONCE_ENTROPY_BYTES, ScramFault};
use crate::time::Millis;

/// What a password is changed with besides itself: random bytes and work.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients {
    /// For the exchange.
    pub nonce: [u8; NONCE_ENTROPY_BYTES],
    /// For the verifier.
    pub salt: [u8; SALT_BYTES],
    /// PBKDF2 rounds of the verifier.
    pub rounds: u32,
}

impl Model {
    /// Both passwords were typed. Does all the rounds of the new one.
    pub fn passwd(&mut self, current: Password, new: &Password, with: &Ingredients, now: Millis) {
        if matches!(self.stage, Stage::Asleep) {
            self.connect();
        }
        if let Err(fault) = acceptable_bytes(&new.0) {
            return self.not_changed(Refusal::BadPassword(fault));
        }
        if self.queue.iter().any(|question| matches!(question, Question::Passwd { .. })) {
            return self.not_changed(Refusal::PasswordsBusy);
        }
        let keys = Keys::derive(&new.0, &with.salt, with.rounds);
        self.put(Question::Passwd { current, keys, entropy: with.nonce }, now);
    }

    fn not_changed(&mut self, refusal: Refusal) {
        self.settled(Line::new(Tone::Trouble, screen::words(&Reply::Refused(refusal))));
    }

    /// Without a terminal nobody can be asked, and what stands in a pipe stands in a file, too.
    pub(super) fn no_terminal(&mut self) {
        let words = "a password is changed at a terminal: mms client without a pipe, then passwd; \
                     the operator has mms user passwd";
        self.settled(Line::new(Tone::Trouble, words));
    }

    /// The server has the new password, or refuses it.
    pub(super) fn password_answered(&mut self, keys: Keys, answer: &Answer) {
        let about = About { to: &[], window_ms: None };
        let mut line = screen::answer(answer, about);
        if matches!(answer, Answer::PasswordChanged { .. }) {
            self.login.credential = Credential::Keys(keys);
            self.renewed = None;
            line.text.push_str("; if 'mms login' saved keys, save new ones with it");
        }
        self.put_up(line);
        self.effects.push_back(super::Effect::Done);
    }

    /// The connection is gone: a change that was under way may have been made, unless it was the
    /// proof that ended the connection.
    pub(super) fn password_unsure(&mut self, why: &Why) {
        let last = self.under_way.checked_sub(1);
        let asked = |&last: &usize| matches!(self.queue.get(last), Some(Question::Passwd { .. }));
        let Some(at) = last.filter(asked) else { return };
        let Some(Question::Passwd { keys, .. }) = self.queue.remove(at) else { return };
        let words = match why {
            Why::Goodbye { reason, .. } if reason == "too-many-failures" => {
                screen::words(&Reply::Refused(Refusal::WrongPassword))
            }
            _ => {
                self.renewed = Some(keys);
                "no answer: whether the password is changed is not known; sign in with the new \
                 one, or else with the old one"
                    .into()
            }
        };
        self.queue.push_front(Question::Settled(Line::new(Tone::Trouble, words)));
    }

    /// Whether the sign-in failed because the new password is the right one now, so that it is
    /// tried next.
    pub(super) fn signs_in_with_the_new(&mut self, trouble: &Trouble) -> bool {
        let changed = match trouble {
            Trouble::Closed(Why::Refused(refused)) => refused.code == 535,
            Trouble::Closed(Why::Scram(ScramFault::OldKeys)) => true,
            Trouble::Closed(Why::Goodbye { reason, .. }) => reason == "password-changed",
            _ => false,
        };
        let Some(keys) = self.renewed.take_if(|_| changed) else { return false };
        self.login.credential = Credential::Keys(keys);
        self.show(Tone::Notice, "the password was changed; signing in with the new one");
        true
    }
}
