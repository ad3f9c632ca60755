//! What the disk has lost is told to those it was for: a letter from the server itself, kept like
//! any other until it is taken. Names and numbers come out of damaged bytes, so a name must be a
//! user's, and a number only helps to find out that nothing is missing after all.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::Note;
use crate::core::mailbox::Waiting;
use crate::core::record::{Letter, LetterId, LetterKind, LostLetter, Record};
use crate::limits::LOSSES_NAMED;
use crate::proto::name::{SERVER, UserName};
use std::collections::BTreeMap;
use std::fmt::Write as _;

impl Hub {
    /// Tells the recipients of these letters, one notice each, that they are lost. Whoever has
    /// settled one had it; what stands whole somewhere else in the journal is not lost; and what
    /// was for somebody who had the name before concerns nobody any more.
    pub fn tell_losses(&mut self, lost: &[LostLetter], turn: &mut Turn<'_>) {
        // By number, too: a letter that was being moved stands in the journal twice.
        let mut concerned: BTreeMap<UserId, BTreeMap<LetterId, &LostLetter>> = BTreeMap::new();
        for letter in lost {
            for name in &letter.to {
                let Some(user) = self.accounts.find(name.as_str()) else { continue };
                let (id, mailbox) = (letter.id, &self.user(user).mailbox);
                if mailbox.holds(id) || id <= mailbox.settled() || self.is_held(user, id) {
                    continue;
                }
                concerned.entry(user).or_default().insert(id, letter);
            }
        }
        for (user, lost) in concerned {
            self.post_loss(user, &lost.into_values().collect::<Vec<_>>(), turn);
        }
    }

    fn post_loss(&mut self, user: UserId, lost: &[&LostLetter], turn: &mut Turn<'_>) {
        let Ok(from) = UserName::once(SERVER) else { return };
        let to = self.accounts.name(user).clone();
        let id = self.next_id();
        let unix_ms = turn.now.unix_ms;
        let body = notice(lost);
        let at = turn.journal.append(&Record::Letter(Letter {
            id,
            unix_ms,
            kind: LetterKind::Direct,
            key: None,
            from: from.as_str(),
            to: to.as_str(),
            body: &body,
        }));
        self.user_mut(user).mailbox.accept(Waiting { id, at, from, said: 0 });
        self.note(Note::LossTold { user: to, letters: lost.len() }, turn);
    }
}

/// What a reader is told of messages that are lost.
fn notice(lost: &[&LostLetter]) -> String {
    if let [LostLetter { id, from, .. }] = lost {
        return format!(
            "1 message to you was damaged on the server's disk and is lost (id {id}, from {from})"
        );
    }
    let mut text =
        format!("{} messages to you were damaged on the server's disk and are lost (", lost.len());
    for (n, LostLetter { id, from, .. }) in lost.iter().take(LOSSES_NAMED).enumerate() {
        let separator = if n == 0 { "" } else { "; " };
        let _ = write!(text, "{separator}id {id}, from {from}");
    }
    if lost.len() > LOSSES_NAMED {
        let _ = write!(text, "; and {} more", lost.len() - LOSSES_NAMED);
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BODY_BYTES, NAME_BYTES};

    #[test]
    fn a_notice_is_a_message_of_usual_length() {
        let from = UserName::new(&"x".repeat(NAME_BYTES)).unwrap();
        let id = LetterId { epoch: u32::MAX, seq: u32::MAX };
        let lost = LostLetter { id, from, to: Vec::new() };
        for count in [2, LOSSES_NAMED, LOSSES_NAMED + 1, 200_000] {
            let text = notice(&vec![&lost; count]);
            assert!(text.len() <= BODY_BYTES, "{count}: {} bytes", text.len());
            assert!(text.starts_with(&format!("{count} messages to you were damaged")));
            assert_eq!(text.contains("more"), count > LOSSES_NAMED, "{text}");
        }
    }
}
