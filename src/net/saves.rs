//! Changes of the password file that users have asked for, one after another. The file may be
//! locked by somebody else: then it is tried again at a later turn, and nobody waits but those who
//! asked. How the file is changed is not known here.

use super::server::Save;
use crate::core::event::{ChangeId, Saved};
use crate::engine::SavePassword;
use crate::limits::{USERS_LOCK_MS, USERS_RETRY_MS};
use crate::time::Millis;
use std::collections::VecDeque;

/// What is to be saved, oldest first, each with the time at which it was asked for. The rules bound
/// how many there are.
#[derive(Debug, Default)]
pub(super) struct Saves {
    queue: VecDeque<(SavePassword, Millis)>,
    /// Not before then.
    next_at: Millis,
}

impl Saves {
    pub(super) fn push(&mut self, save: SavePassword, now: Millis) {
        self.queue.push_back((save, now));
    }

    /// When [`Saves::try_next`] has something to do.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (!self.queue.is_empty()).then_some(self.next_at)
    }

    /// Tries the oldest one, if it is time: a turn flushes the disk for one of them at most. Tells
    /// what became of it, if it is not to be tried again.
    pub(super) fn try_next(
        &mut self,
        now: Millis,
        save: &mut Save<'_>,
    ) -> Option<(ChangeId, Saved)> {
        if self.next_at > now {
            return None;
        }
        let (next, since) = self.queue.front()?;
        let saved = save(next);
        if saved == Saved::Locked && now.since(*since) < USERS_LOCK_MS {
            self.next_at = now.plus(USERS_RETRY_MS);
            return None;
        }
        let change = next.change;
        self.queue.pop_front();
        Some((change, saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::password::Verifier;
    use crate::proto::name::UserName;
    use crate::proto::reply::Flushed;

    fn save(number: u64) -> SavePassword {
        let verifier = Verifier::derive(b"x", b"saltsalt", 1);
        let user = UserName::new("fred").unwrap();
        SavePassword { change: ChangeId(number), user, old: verifier.clone(), new: verifier }
    }

    #[test]
    fn a_locked_file_is_tried_again_until_patience_ends() {
        let mut saves = Saves::default();
        assert_eq!(saves.deadline(), None);
        saves.push(save(1), Millis(100));
        saves.push(save(2), Millis(100 + USERS_LOCK_MS / 2));
        let (mut tries, mut ended) = (0, vec![]);
        let mut now = Millis(100);
        while let Some(at) = saves.deadline() {
            now = now.max(at);
            // The second finds it unlocked at its first try.
            let mut locked = |save: &SavePassword| {
                tries += 1;
                if save.change == ChangeId(1) { Saved::Locked } else { Saved::Outdated }
            };
            ended.extend(saves.try_next(now, &mut locked).map(|end| (end, now)));
            assert!(saves.deadline().is_none_or(|at| at > now || !ended.is_empty()), "it spins");
        }
        let end = Millis(100 + USERS_LOCK_MS);
        let wanted = [((ChangeId(1), Saved::Locked), end), ((ChangeId(2), Saved::Outdated), end)];
        assert_eq!(ended, wanted);
        assert_eq!(tries, 2 + USERS_LOCK_MS / USERS_RETRY_MS);
    }

    #[test]
    fn one_is_saved_a_turn_in_the_order_asked() {
        let mut saves = Saves::default();
        saves.push(save(1), Millis(5));
        saves.push(save(2), Millis(5));
        let done = Saved::Done(Flushed::Surely);
        for number in [1, 2] {
            assert_eq!(saves.try_next(Millis(5), &mut |_| done), Some((ChangeId(number), done)));
        }
        assert_eq!(saves.try_next(Millis(5), &mut |_| done), None);
    }
}
