//! Coming back: what the journal holds becomes mailboxes again, and the letters of names that
//! were removed are held for the operator, never given to a later holder of the name.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::Note;
use crate::core::mailbox::{Mailbox, Waiting};
use crate::core::record::{Journal, Key, Letter, LetterId, Location, Record, recipients};
use crate::fault::{Fault, is_planted};
use crate::limits::WHOLAST_MINUTES;
use crate::proto::name::{NameKey, UserName};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The letters of a name that was removed.
#[derive(Debug, Default)]
pub(super) struct Held {
    mailbox: Mailbox,
    /// No letter up to this one is to, or from, whoever has the name now.
    through: LetterId,
    /// No letter up to this one is given to whoever has the name now, though he may be the one it
    /// is to: the operator said so.
    withheld: LetterId,
    /// The journal may have keys of letters up to that one, which are not his.
    keyed: bool,
}

impl Held {
    /// Whether a letter to the name is not for whoever has it now.
    pub(super) fn covers(&self, id: LetterId) -> bool {
        id <= self.through.max(self.withheld)
    }

    /// Takes over the letters up to this one, and which of them were offered. When the journal
    /// repeats a mark, more may have been offered since, but nothing of what was held then.
    fn take(&mut self, mailbox: &mut Mailbox, through: LetterId) {
        if !self.covers(through) {
            self.mailbox.offered_through(mailbox.ever_offered().min(through));
        }
        for letter in mailbox.take_through(through) {
            self.mailbox.accept(letter);
        }
    }
}

/// What is known only while the journal is replayed.
#[derive(Default)]
pub(super) struct Restoring {
    /// Mailboxes of names that are not in the password file. Ordered, as all is that the journal
    /// is written from: the same history makes the same journal.
    orphans: BTreeMap<NameKey, (UserName, Mailbox)>,
    /// Senders that are not in the password file.
    strangers: HashMap<Box<str>, UserName>,
    /// Of these, who has used keys since the name was removed last, and for which letter last.
    keyed: BTreeMap<NameKey, (UserName, LetterId)>,
    /// Who was online as far as the journal tells.
    present: HashSet<UserId>,
    /// The latest time that the journal tells, unix milliseconds.
    last_ms: u64,
}

impl Hub {
    /// Takes in one record of the journal, in its order. A letter met twice has moved: where it
    /// stands last counts. Calls `release` for each recipient who needs a letter no longer.
    pub fn restore(
        &mut self,
        record: &Record<'_>,
        at: Location,
        release: &mut dyn FnMut(Location),
    ) {
        let mut restoring = self.restoring.take().unwrap_or_default();
        match *record {
            Record::Letter(letter) => self.restore_letter(&letter, at, &mut restoring, release),
            Record::Offered { user, through } => {
                if let Some(mailbox) = self.mailbox_named(user, &mut restoring) {
                    mailbox.offered_through(through);
                }
            }
            Record::Settled { user, through } => {
                if let Some(mailbox) = self.mailbox_named(user, &mut restoring) {
                    mailbox.settled_through(through).for_each(|letter| release(letter.at));
                }
            }
            Record::Keyed { user, key, id, unix_ms } => {
                self.restore_key(user, key, id, unix_ms, &mut restoring);
            }
            Record::Blocks { user, other, switch } => {
                let pair = self.accounts.find(user).zip(self.accounts.find(other));
                if let Some((user, other)) = pair {
                    self.set_block(user, other, switch);
                }
            }
            Record::Held { user, through } => self.restore_held(user, through, &mut restoring),
            Record::Withheld { user, through } => {
                self.restore_withheld(user, through, &mut restoring);
            }
            Record::Purged { user, through } => {
                let held = NameKey::once(user).ok().and_then(|key| self.held.get_mut(&key));
                if let Some(held) = held {
                    held.mailbox.settled_through(through).for_each(|letter| release(letter.at));
                }
            }
            Record::SignedIn { user, .. } => {
                restoring.present.extend(self.accounts.find(user));
            }
            Record::SignedOff { user, unix_ms } => {
                if let Some(user) = self.accounts.find(user) {
                    restoring.present.remove(&user);
                    self.user_mut(user).last_off_ms = Some(unix_ms);
                }
            }
            // Who was there when a run ended without a word was there until the last word of it.
            Record::Started { .. } => self.all_off(&mut restoring),
            Record::Alive { .. } | Record::Stopped { .. } => {}
        }
        restoring.last_ms = restoring.last_ms.max(record.unix_ms().unwrap_or(0));
        self.restoring = Some(restoring);
    }

    fn mailbox_named<'a>(
        &'a mut self,
        name: &str,
        restoring: &'a mut Restoring,
    ) -> Option<&'a mut Mailbox> {
        if let Some(user) = self.accounts.find(name) {
            return Some(&mut self.user_mut(user).mailbox);
        }
        let key = NameKey::once(name).ok()?;
        let orphan = restoring.orphans.entry(key);
        let name = UserName::once(name).ok()?;
        Some(&mut orphan.or_insert_with(|| (name, Mailbox::default())).1)
    }

    fn restore_letter(
        &mut self,
        letter: &Letter<'_>,
        at: Location,
        restoring: &mut Restoring,
        release: &mut dyn FnMut(Location),
    ) {
        let id = letter.id;
        if let Some(key) = letter.key {
            self.restore_key(letter.from, key, id, letter.unix_ms, restoring);
        }
        let from = match self.accounts.find(letter.from) {
            Some(user) => Some(self.accounts.name(user).clone()),
            None => match restoring.strangers.get(letter.from) {
                Some(name) => Some(name.clone()),
                None => UserName::once(letter.from).ok().inspect(|name| {
                    restoring.strangers.insert(letter.from.into(), name.clone());
                }),
            },
        };
        for to in recipients(letter.to) {
            let key = NameKey::once(to.name).ok().filter(|_| !self.held.is_empty());
            let held = key.and_then(|key| self.held.get_mut(&key));
            let mailbox = match held {
                Some(held) if held.covers(id) => Some(&mut held.mailbox),
                _ => self.mailbox_named(to.name, restoring),
            };
            let Some((mailbox, from)) = mailbox.zip(from.clone()) else {
                // Names that cannot exist are not written; their record cannot be delivered.
                release(at);
                continue;
            };
            if to.offered {
                mailbox.offered_through(id);
            }
            let waiting = Waiting { id, at, from, said: 0 };
            if let Some(before) = mailbox.accept(waiting) {
                release(before);
            }
        }
    }

    fn restore_key(
        &mut self,
        name: &str,
        key: Key<'_>,
        id: LetterId,
        unix_ms: u64,
        restoring: &mut Restoring,
    ) {
        let Ok(name_key) = NameKey::once(name) else { return };
        match self.held.get_mut(&name_key) {
            // A letter from before that was copied has its key still.
            Some(held) if id <= held.through => held.keyed = true,
            _ => match self.accounts.find(name) {
                Some(user) => self.keys.remember(user, key, id, unix_ms),
                None => {
                    let Ok(name) = UserName::once(name) else { return };
                    let (_, last) = restoring.keyed.entry(name_key).or_insert((name, id));
                    *last = id.max(*last);
                }
            },
        }
    }

    fn restore_held(&mut self, name: &str, through: LetterId, restoring: &mut Restoring) {
        let Ok(key) = NameKey::once(name) else { return };
        let mut held = self.held.remove(&key).unwrap_or_default();
        if let Some(user) = self.accounts.find(name) {
            held.keyed |= self.keys.drop_through(user, through);
        }
        if restoring.keyed.get(&key).is_some_and(|&(_, last)| last <= through) {
            restoring.keyed.remove(&key);
            held.keyed = true;
        }
        if let Some(mailbox) = self.mailbox_named(name, restoring) {
            held.take(mailbox, through);
        }
        held.through = held.through.max(through);
        self.held.insert(key, held);
    }

    /// The operator's word is for letters only: the name has the same holder, and he his keys.
    fn restore_withheld(&mut self, name: &str, through: LetterId, restoring: &mut Restoring) {
        let Ok(key) = NameKey::once(name) else { return };
        let mut held = self.held.remove(&key).unwrap_or_default();
        if let Some(mailbox) = self.mailbox_named(name, restoring) {
            held.take(mailbox, through);
        }
        held.withheld = held.withheld.max(through);
        self.held.insert(key, held);
    }

    fn all_off(&mut self, restoring: &mut Restoring) {
        let last_ms = restoring.last_ms;
        for user in restoring.present.drain() {
            self.users[user.0 as usize].last_off_ms = Some(last_ms);
        }
    }

    /// The journal has been replayed and this run's epoch begun.
    pub fn restored(&mut self, epoch: u32) {
        self.last_id = LetterId { epoch, seq: 0 };
        let mut restoring = self.restoring.take().unwrap_or_default();
        self.all_off(&mut restoring);
        self.restoring = Some(restoring);
    }

    /// The first turn after [`Hub::restored`]: holds the letters of those who were removed while
    /// no server ran, and notes that their keys are over.
    pub fn hold_orphans(&mut self, turn: &mut Turn<'_>) {
        let Some(restoring) = self.restoring.take() else { return };
        // What the journal says now is durable: who has settled everything needs no mark.
        let Restoring { orphans, mut keyed, .. } = *restoring;
        for (key, (name, mailbox)) in orphans.into_iter().filter(|(_, (_, m))| !m.is_empty()) {
            let keyed = keyed.remove(&key).is_some();
            self.hold(name, mailbox, keyed, turn);
        }
        for (name, _) in keyed.into_values() {
            self.hold(name, Mailbox::default(), true, turn);
        }
    }

    /// Keeps the letters of a removed user for the operator. Marks those, too, that were settled:
    /// a power cut may forget that they were, and then they are not for a later holder of the name.
    /// So it is with his keys, if he is `keyed`: the journal tells whose they were by this mark.
    pub(super) fn hold(
        &mut self,
        name: UserName,
        mut mailbox: Mailbox,
        keyed: bool,
        turn: &mut Turn<'_>,
    ) {
        if !keyed && mailbox.last_known().is_none() {
            return;
        }
        let (user, through) = (name.as_str(), self.last_id);
        if let Some(through) = mailbox.offered() {
            // Holding takes it over; the segment may have nothing of it yet, if it is new and the
            // name was removed while no server ran.
            turn.journal.append(&Record::Offered { user, through });
        }
        turn.journal.append(&Record::Held { user, through });
        if !keyed && mailbox.is_empty() {
            return;
        }
        let held = self.held.entry(name.key()).or_default();
        let letters = mailbox.len();
        held.take(&mut mailbox, through);
        held.through = through;
        held.keyed |= keyed;
        if letters == 0 {
            return;
        }
        self.note(Note::Held { user: name, letters }, turn);
    }

    /// Whether the letter was to somebody who had the user's name before him, or is withheld.
    pub(super) fn is_held(&self, user: UserId, id: LetterId) -> bool {
        let held = self.held.get(&self.accounts.name(user).key());
        held.is_some_and(|held| held.covers(id))
    }

    fn mailbox_with(&self, name: &str, id: LetterId) -> Option<&Mailbox> {
        let held = || NameKey::once(name).ok().and_then(|key| self.held.get(&key));
        let user = self.accounts.find(name).map(|user| &self.user(user).mailbox);
        user.filter(|mailbox| mailbox.holds(id)).or_else(|| held().map(|held| &held.mailbox))
    }

    /// Whether the letter that stands at `at` still waits for the name, or is held.
    #[must_use]
    pub fn needs(&self, name: &str, id: LetterId, at: Location) -> bool {
        self.mailbox_with(name, id).is_some_and(|mailbox| mailbox.place(id) == Some(at))
    }

    /// The letter stands elsewhere in the journal now.
    pub fn moved(&mut self, name: &str, id: LetterId, at: Location) {
        if let Some(user) = self.accounts.find(name)
            && self.user_mut(user).mailbox.relocate(id, at)
        {
            return;
        }
        if let Some(held) = NameKey::once(name).ok().and_then(|key| self.held.get_mut(&key)) {
            held.mailbox.relocate(id, at);
        }
    }

    /// Writes down what the journal must still know when its older part is gone, besides the
    /// letters: marks of what was offered and held, and who was there lately.
    pub fn checkpoint(&mut self, now_unix_ms: u64, journal: &mut dyn Journal) {
        let lasts = |held: &Held| held.keyed || !held.mailbox.is_empty();
        for (key, held) in self.held.iter().filter(|(_, held)| lasts(held)) {
            let (user, through) = (key.as_str(), held.through);
            if let Some(through) = held.mailbox.offered() {
                // Holding takes it over, if it stands before.
                journal.append(&Record::Offered { user, through });
            }
            if through > LetterId::default() {
                journal.append(&Record::Held { user, through });
            }
            if held.withheld > through {
                journal.append(&Record::Withheld { user, through: held.withheld });
            }
        }
        let current = |user| {
            let current = self.accounts.is_current(user);
            current.then(|| self.accounts.name(user).as_str().to_owned())
        };
        if !is_planted(Fault::KeysNotCheckpointed) {
            self.keys.checkpoint(now_unix_ms, current, journal);
        }
        let lately = now_unix_ms.saturating_sub(WHOLAST_MINUTES * 60_000);
        for &id in self.accounts.order() {
            let (state, user) = (self.user(id), self.accounts.name(id).as_str());
            if let Some(unix_ms) = state.last_off_ms.filter(|&off| off >= lately) {
                journal.append(&Record::SignedOff { user, unix_ms });
            }
            if state.online.is_some() {
                journal.append(&Record::SignedIn { user, unix_ms: now_unix_ms });
            }
            self.checkpoint_blocks(id, journal);
            if let Some(through) = state.mailbox.offered() {
                journal.append(&Record::Offered { user, through });
            }
        }
    }
}
