//! Settling letters, and telling whoever asked for it that a reader has them for good. Who asked is
//! known only as long as his connection lives, and is written down nowhere.
//!
//! All that is settled while the server runs passes through [`Hub::settle`]. Where nobody has asked
//! it costs one look.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::Conn;
use crate::core::record::LetterId;
use crate::core::session::Session;
use crate::limits::{RECEIPTS, RECEIPTS_ALL};
use crate::proto::command::{Switch, names};
use crate::proto::reply::{Reply, Unwatched};
use std::collections::{BTreeMap, BTreeSet};

/// How it is known that a reader has his letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// He has sent a line after his machine had them.
    Proved,
    /// His machine has had them for so long that the window is full.
    Window,
    /// He says himself that he has come so far in what was said to him.
    Marked(u32),
    /// His program says so, or his connection has ended in order: all up to this one.
    Through(LetterId),
}

/// Whether there was room to await something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Found,
    None,
}

/// Who has asked for receipts, and what each still awaits.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    asked: BTreeMap<Conn, BTreeSet<(LetterId, UserId)>>,
    /// The same by reader, so that what he settles is found without looking at what others do.
    by_reader: BTreeSet<(UserId, LetterId, Conn)>,
    /// Letters that wait and could not be shown: settled they are, but not delivered.
    damaged: BTreeSet<(UserId, LetterId)>,
}

impl Receipts {
    fn ask(&mut self, conn: Conn) {
        self.asked.entry(conn).or_default();
    }

    fn has_asked(&self, conn: Conn) -> bool {
        !self.asked.is_empty() && self.asked.contains_key(&conn)
    }

    /// Awaits the letter for all of these readers, or for none.
    fn await_all(&mut self, conn: Conn, id: LetterId, readers: &[UserId]) -> Room {
        let Some(mine) = self.asked.get_mut(&conn) else { return Room::None };
        let all = self.by_reader.len();
        if readers.len() > RECEIPTS.saturating_sub(mine.len()).min(RECEIPTS_ALL.saturating_sub(all))
        {
            return Room::None;
        }
        mine.extend(readers.iter().map(|&reader| (id, reader)));
        self.by_reader.extend(readers.iter().map(|&reader| (reader, id, conn)));
        Room::Found
    }

    /// The connection wants to know no more, or is gone. Takes as long as what it awaited.
    pub(super) fn forget_connection(&mut self, conn: Conn) {
        for (id, reader) in self.asked.remove(&conn).unwrap_or_default() {
            self.by_reader.remove(&(reader, id, conn));
        }
    }

    /// The user is no more: what waits for him will not be delivered.
    pub(super) fn forget_reader(&mut self, reader: UserId) {
        self.take(reader, LetterId { epoch: u32::MAX, seq: u32::MAX });
    }

    /// Takes out what the reader has settled, oldest first: who awaits which letter.
    fn take(&mut self, reader: UserId, through: LetterId) -> Vec<(LetterId, Conn)> {
        let first = LetterId::default();
        let mine = (reader, first, Conn(0))..=(reader, through, Conn(u32::MAX));
        let mut taken = Vec::new();
        while let Some(&one @ (_, id, conn)) = self.by_reader.range(mine.clone()).next() {
            self.by_reader.remove(&one);
            if let Some(awaited) = self.asked.get_mut(&conn) {
                awaited.remove(&(id, reader));
            }
            if !self.damaged.contains(&(reader, id)) {
                taken.push((id, conn));
            }
        }
        while let Some(&one) = self.damaged.range((reader, first)..=(reader, through)).next() {
            self.damaged.remove(&one);
        }
        taken
    }
}

impl Hub {
    /// Settles letters of a reader, and tells those who await it.
    pub(super) fn settle(&mut self, reader: UserId, how: Settle, turn: &mut Turn<'_>) {
        let name = self.accounts.name(reader);
        let mailbox = &mut self.users[reader.0 as usize].mailbox;
        let through = match how {
            Settle::Proved => mailbox.settle_proved(name, turn.journal),
            Settle::Window => mailbox.settle_window(name, turn.journal),
            Settle::Marked(through) => mailbox.settle_said(through, name, turn.journal),
            Settle::Through(id) => mailbox.settle_through(id, name, turn.journal),
        };
        let nobody = self.receipts.by_reader.is_empty() && self.receipts.damaged.is_empty();
        let Some(through) = through.filter(|_| !nobody) else { return };
        for (id, conn) in self.receipts.take(reader, through) {
            self.delivered(conn, reader, id, turn);
        }
    }

    fn delivered(&mut self, conn: Conn, reader: UserId, id: LetterId, turn: &mut Turn<'_>) {
        let sender = self.session(conn).and_then(Session::user);
        // Who has blocked the sender meanwhile does not let him know that he was here.
        if sender.is_some_and(|sender| !self.blocks(reader, sender)) {
            let user = self.accounts.name(reader).clone();
            self.say(conn, Reply::Delivered { id, user }, turn);
        }
    }

    /// The letter cannot be read from the disk, so it cannot be shown to its reader.
    pub fn damaged(&mut self, reader: UserId, id: LetterId) {
        if self.user(reader).mailbox.holds(id) {
            self.receipts.damaged.insert((reader, id));
        }
    }

    /// `receipts on`, `receipts off`
    pub(super) fn receipts(&mut self, conn: Conn, switch: Switch, turn: &mut Turn<'_>) {
        match switch {
            Switch::On => self.receipts.ask(conn),
            Switch::Off => self.receipts.forget_connection(conn),
        }
        self.say(conn, Reply::Receipts(switch), turn);
    }

    /// The letter was accepted for these readers.
    pub(super) fn await_receipts(
        &mut self,
        conn: Conn,
        id: LetterId,
        readers: &[UserId],
        turn: &mut Turn<'_>,
    ) {
        if self.receipts.has_asked(conn) && self.receipts.await_all(conn, id, readers) == Room::None
        {
            self.note_limit(conn, "too many receipts awaited", turn);
            self.say(conn, Reply::Unwatched { id, why: Unwatched::Busy }, turn);
        }
    }

    /// The letter was accepted before and is sent again under its key, for `whom`, if that is
    /// known: who has taken it is told at once, and the others are awaited.
    pub(super) fn await_again(
        &mut self,
        conn: Conn,
        id: LetterId,
        whom: Option<&str>,
        turn: &mut Turn<'_>,
    ) {
        if !self.receipts.has_asked(conn) {
            return;
        }
        let Some(whom) = whom else {
            return self.say(conn, Reply::Unwatched { id, why: Unwatched::Unknown }, turn);
        };
        let readers: BTreeSet<UserId> =
            names(whom).filter_map(|word| self.accounts.find(word)).collect();
        // Who has the name now is somebody else than the one for whom the letter is held.
        let readers = readers.into_iter().filter(|&reader| !self.is_held(reader, id));
        let (waiting, taken): (Vec<_>, Vec<_>) =
            readers.partition(|&reader| self.user(reader).mailbox.holds(id));
        self.await_receipts(conn, id, &waiting, turn);
        for reader in taken {
            self.delivered(conn, reader, id, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Conn = Conn(7);

    fn id(seq: u32) -> LetterId {
        LetterId { epoch: 1, seq }
    }

    fn readers(count: usize) -> Vec<UserId> {
        (0..count as u32).map(UserId).collect()
    }

    #[test]
    fn a_connection_that_goes_leaves_nothing_behind() {
        let mut receipts = Receipts::default();
        receipts.ask(ME);
        receipts.ask(Conn(8));
        assert_eq!(receipts.await_all(ME, id(1), &readers(3)), Room::Found);
        assert_eq!(receipts.await_all(Conn(8), id(1), &readers(1)), Room::Found);
        receipts.forget_connection(ME);
        assert!(!receipts.has_asked(ME) && receipts.by_reader.len() == 1);
        assert_eq!(receipts.take(UserId(0), id(9)), [(id(1), Conn(8))]);
        assert!(receipts.by_reader.is_empty() && receipts.asked[&Conn(8)].is_empty());
    }

    #[test]
    fn what_is_taken_makes_room_and_a_letter_is_awaited_whole_or_not() {
        let mut receipts = Receipts::default();
        receipts.ask(ME);
        assert_eq!(receipts.await_all(ME, id(1), &readers(RECEIPTS - 1)), Room::Found);
        assert_eq!(receipts.await_all(ME, id(2), &readers(2)), Room::None);
        assert_eq!(receipts.asked[&ME].len(), RECEIPTS - 1);
        assert_eq!(receipts.take(UserId(0), id(1)).len(), 1);
        assert_eq!(receipts.await_all(ME, id(2), &readers(2)), Room::Found);
        receipts.forget_reader(UserId(1));
        assert_eq!(receipts.asked[&ME].len(), RECEIPTS - 2);
    }

    #[test]
    fn all_connections_together_have_a_bound() {
        let mut receipts = Receipts::default();
        receipts.ask(ME);
        let others = (1..).zip(1..RECEIPTS_ALL).map(|(n, _)| (UserId(n), id(1), Conn(0)));
        receipts.by_reader = others.collect();
        assert_eq!(receipts.await_all(ME, id(2), &readers(2)), Room::None);
        assert_eq!(receipts.await_all(ME, id(2), &readers(1)), Room::Found);
    }

    #[test]
    fn a_damaged_letter_is_known_until_it_is_settled() {
        let mut receipts = Receipts::default();
        receipts.ask(ME);
        receipts.damaged.insert((UserId(0), id(1)));
        assert_eq!(receipts.await_all(ME, id(1), &readers(2)), Room::Found);
        assert_eq!(receipts.take(UserId(1), id(1)), [(id(1), ME)]);
        assert_eq!(receipts.take(UserId(0), id(1)), []);
        assert!(receipts.damaged.is_empty());
    }
}
