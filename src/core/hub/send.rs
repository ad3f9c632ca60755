//! Sending: who gets it, what becomes of it, and showing letters to readers who are here.
//!
//! A letter is put into the mailbox and the journal first, whoever its reader is; if he is here
//! and has been shown all before it, it is shown. Online and offline are one path.

use super::receipts::Settle;
use super::{Hub, SelfSend, Turn, echoed};
use crate::core::accounts::UserId;
use crate::core::event::{Action, Conn, Dialect, Viewer};
use crate::core::hints;
use crate::core::keys::{self, Found, Stored};
use crate::core::mailbox::{Mailbox, Waiting};
use crate::core::record::{Key, Letter, LetterId, LetterKind, Recipient, Record, push_recipient};
use crate::core::session::Session;
use crate::fault::{Fault, is_planted};
use crate::limits::{
    BODY_BYTES, COUNTED_BYTES, HINT_NAMES, LIST_RECIPIENTS, NAME_BYTES, WORK_BYTES, WORK_LOOKS,
};
use crate::proto::command::{Problem, Recipients, Verb, names};
use crate::proto::name::NameKey;
use crate::proto::plain::FURTHER_LINE_BYTES;
use crate::proto::reply::{Fates, MAILBOX_FULL, Names, Refusal, Reply};

/// More than a record takes besides the text, the names of its recipients, and what separates
/// these.
const RECORD_BYTES: usize = 256;

/// A message that is to be stored.
#[derive(Clone, Copy)]
struct Post<'a> {
    conn: Conn,
    from: UserId,
    kind: LetterKind,
    body: &'a str,
    key: Option<Key<'a>>,
}

impl Hub {
    /// `send <user> <message>`, `send (<user> …) <message>`
    pub(super) fn send(
        &mut self,
        conn: Conn,
        from: UserId,
        to: Recipients<'_>,
        text: &str,
        key: Option<&str>,
        turn: &mut Turn<'_>,
    ) {
        if self.is_too_long(conn, text, turn) {
            return;
        }
        let (Recipients::One(whom) | Recipients::List(whom)) = to;
        let mut post = Post { conn, from, kind: LetterKind::Direct, body: text, key: None };
        if let Some(key) = key {
            let Some(fresh) = self.fresh_key(post, key, whom, turn) else { return };
            post.key = Some(fresh);
        }
        match to {
            Recipients::One(word) => self.send_one(post, word, turn),
            Recipients::List(list) => self.send_list(post, list, turn),
        }
    }

    fn is_too_long(&mut self, conn: Conn, text: &str, turn: &mut Turn<'_>) -> bool {
        let bytes = text.len();
        let most = match self.session(conn).map(|session| session.dialect) {
            Some(Dialect::Coded) => COUNTED_BYTES,
            _ => BODY_BYTES,
        };
        if bytes > most {
            self.refuse(conn, Refusal::MessageTooLong { bytes, most }, turn);
        }
        bytes > most
    }

    /// The key to store a message with; `None` if it has been used, and the message is answered.
    fn fresh_key<'k>(
        &mut self,
        post: Post<'_>,
        key: &'k str,
        whom: &str,
        turn: &mut Turn<'_>,
    ) -> Option<Key<'k>> {
        let Post { conn, from, body, .. } = post;
        let hash = keys::hash(whom, body);
        let answer = match self.keys.look(from, key, hash, turn.now.unix_ms) {
            Found::New => return Some(Key { text: key, hash }),
            Found::Known(id, stored) => {
                self.say(conn, Reply::Known(id), turn);
                // Of a broadcast the key does not tell whom it was for.
                let whom = Some(whom).filter(|whom| !whom.is_empty() && stored == Stored::ForAll);
                self.await_again(conn, id, whom, turn);
                return None;
            }
            Found::Reused => Reply::Refused(Refusal::KeyReused),
            Found::TooOld => Reply::Refused(Refusal::KeyTooOld),
            Found::Full => Reply::Refused(Refusal::KeysFull),
        };
        self.say(conn, answer, turn);
        None
    }

    fn send_one(&mut self, post: Post<'_>, word: &str, turn: &mut Turn<'_>) {
        let Post { conn, from, body, .. } = post;
        let Some(to) = self.find_again(conn, word) else {
            let refusal = self.no_such_user(word);
            return self.refuse(conn, refusal, turn);
        };
        if to == from && self.rules.self_send == SelfSend::Refused {
            return self.refuse(conn, Refusal::ToSelf, turn);
        }
        let name = self.accounts.name(to).clone();
        if self.blocks(to, from) {
            return self.refuse(conn, Refusal::Undeliverable(name), turn);
        }
        if !self.has_room(to, from, body) {
            return self.refuse(conn, Refusal::MailboxFull(name), turn);
        }
        if !has_disk(&post, 1, turn) {
            return self.refuse(conn, Refusal::DiskFull, turn);
        }
        let online = self.user(to).online.is_some();
        let id = self.next_id();
        self.accept(post, id, &[to], turn, |hub, turn| {
            let to = name;
            let reply = if online { Reply::Sent { to, id } } else { Reply::Saved { to, id } };
            hub.say(conn, reply, turn);
        });
        self.answer_for_away(conn, to, turn);
    }

    /// The user called `word`. Nearly always the one to whom the connection wrote before, which
    /// takes a look at his name, which is needed anyway, and none at the table of all names.
    fn find_again(&mut self, conn: Conn, word: &str) -> Option<UserId> {
        let last = self.session(conn).and_then(|session| session.wrote_to);
        if let Some(last) = last
            && self.accounts.is_called(last, word)
        {
            return Some(last);
        }
        let found = self.accounts.find(word)?;
        if let Some(session) = self.session_mut(conn) {
            session.wrote_to = Some(found);
        }
        Some(found)
    }

    fn send_list(&mut self, post: Post<'_>, list: &str, turn: &mut Turn<'_>) {
        let Post { conn, from, body, key, .. } = post;
        let (mut to, mut seen, mut fates) = (vec![], vec![], Fates::default());
        for word in names(list) {
            let Some(user) = self.accounts.find(word) else {
                let word = echoed(word);
                if !fates.unknown.contains(&word) {
                    fates.unknown.push(word);
                }
                continue;
            };
            if seen.contains(&user) {
                continue;
            }
            seen.push(user);
            let name = self.accounts.name(user).clone();
            if user == from && self.rules.self_send == SelfSend::Refused {
                fates.to_self = Some(name);
            } else if self.blocks(user, from) {
                fates.blocked.push(name);
            } else if !self.has_room(user, from, body) {
                fates.full.push(name);
            } else {
                to.push(user);
                let fate = match self.user(user).online {
                    Some(_) => &mut fates.sent,
                    None => &mut fates.saved,
                };
                fate.push(name);
            }
        }
        if !fates.full.is_empty() {
            self.note_limit(conn, MAILBOX_FULL, turn);
        }
        if to.is_empty() {
            return self.say(conn, Reply::Fates(Box::new(fates)), turn);
        }
        if !has_disk(&post, to.len(), turn) {
            return self.refuse(conn, Refusal::DiskFull, turn);
        }
        let id = self.next_id();
        fates.id = Some(id);
        let key = if to.len() < seen.len() || !fates.unknown.is_empty() {
            key.map(keys::for_some)
        } else {
            key
        };
        let post = Post { key, ..post };
        self.accept(post, id, &to, turn, |hub, turn| {
            hub.say(conn, Reply::Fates(Box::new(fates)), turn);
        });
        for user in to {
            self.answer_for_away(conn, user, turn);
        }
    }

    /// `broadcast <message>`, or its list form where every word before `message` is a user.
    pub(super) fn broadcast(
        &mut self,
        conn: Conn,
        from: UserId,
        text: &str,
        list: Option<(&str, &str)>,
        key: Option<&str>,
        turn: &mut Turn<'_>,
    ) {
        if let Some((list, text)) = list
            && names(list).all(|word| self.accounts.find(word).is_some())
        {
            if names(list).count() > LIST_RECIPIENTS {
                let refusal = Refusal::Usage(Verb::Broadcast, Problem::LongList);
                return self.refuse(conn, refusal, turn);
            }
            return self.send(conn, from, Recipients::List(list), text, key, turn);
        }
        if self.is_too_long(conn, text, turn) {
            return;
        }
        let mut post = Post { conn, from, kind: LetterKind::Broadcast, body: text, key: None };
        if let Some(key) = key {
            let Some(fresh) = self.fresh_key(post, key, "", turn) else { return };
            post.key = Some(fresh);
        }
        self.work += self.online.len() / WORK_LOOKS;
        let (mut to, mut full) = (Vec::with_capacity(self.online.len()), Names::default());
        let online = std::mem::take(&mut self.online);
        for &user in &online {
            // Who hides from the sender is not there for him.
            if user == from || self.blocks(user, from) {
                continue;
            }
            if self.has_room(user, from, text) {
                to.push(user);
            } else {
                full.push(self.accounts.name(user));
            }
        }
        self.online = online;
        if to.is_empty() && full.count == 0 {
            return self.refuse(conn, Refusal::NobodyElse, turn);
        }
        if full.count > 0 {
            self.note_limit(conn, MAILBOX_FULL, turn);
        }
        let users = to.len();
        if to.is_empty() {
            return self.say(conn, Reply::Broadcast { users, full, id: None }, turn);
        }
        if !has_disk(&post, users, turn) {
            return self.refuse(conn, Refusal::DiskFull, turn);
        }
        let id = self.next_id();
        self.accept(post, id, &to, turn, |hub, turn| {
            hub.say(conn, Reply::Broadcast { users, full, id: Some(id) }, turn);
        });
    }

    /// Why `word` names nobody.
    pub(super) fn no_such_user(&mut self, word: &str) -> Refusal {
        match NameKey::of(word) {
            Err(fault) => Refusal::BadName(echoed(word), fault),
            Ok(_) => {
                self.work += HINT_NAMES / WORK_LOOKS;
                let hint = hints::user(word, &self.accounts);
                Refusal::NoSuchUser { name: echoed(word), hint }
            }
        }
    }

    /// Whether the mailbox takes this text, and the sender has not had his share of it.
    fn has_room(&mut self, user: UserId, from: UserId, text: &str) -> bool {
        if is_planted(Fault::QuotaEvicts) {
            return true;
        }
        let fits = |(letters, bytes): (usize, u64), most: (usize, u64)| {
            letters < most.0 && bytes + text.len() as u64 <= most.1
        };
        let mailbox = &self.users[user.0 as usize].mailbox;
        let load = mailbox.load();
        if !fits(load, (self.rules.mailbox_letters, self.rules.mailbox_bytes)) {
            return false;
        }
        // Where all together have no more than a share, nobody has.
        if self.rules.sender_share >= 100 || fits(load, self.rules.share()) {
            return true;
        }
        self.work += load.0 / WORK_LOOKS;
        let of_sender = mailbox.load_from(self.accounts.name(from));
        of_sender.0 == 0 || fits(of_sender, self.rules.share())
    }

    pub(super) fn next_id(&mut self) -> LetterId {
        // 4 billion letters in one run of the server are refused nothing: the epoch moves on, as
        // it would at a restart, and a restart moves it further.
        self.last_id = match self.last_id {
            LetterId { epoch, seq: u32::MAX } => LetterId { epoch: epoch + 1, seq: 1 },
            LetterId { epoch, seq } => LetterId { epoch, seq: seq + 1 },
        };
        self.last_id
    }

    /// Stores one letter for all of `to`, lets the sender be answered, then shows it to those who
    /// are here.
    fn accept(
        &mut self,
        post: Post<'_>,
        id: LetterId,
        to: &[UserId],
        turn: &mut Turn<'_>,
        answer: impl FnOnce(&mut Self, &mut Turn<'_>),
    ) {
        let Post { conn, from, kind, body, key } = post;
        self.work += to.len() * (1 + body.len() / WORK_BYTES);
        let mut list = std::mem::take(&mut self.recipients);
        let mut readers = std::mem::take(&mut self.readers);
        list.clear();
        readers.clear();
        for &user in to {
            let reader = self.shows_at_once(user);
            let name = self.accounts.name(user).as_str();
            push_recipient(&mut list, Recipient { name, offered: reader.is_some() });
            readers.push(reader);
        }
        let sender = self.accounts.name(from).clone();
        let unix_ms = turn.now.unix_ms;
        let letter = Letter { id, unix_ms, kind, key, from: sender.as_str(), to: &list, body };
        let at = turn.journal.append(&Record::Letter(letter));
        if let Some(key) = key {
            self.keys.remember(from, key, id, unix_ms);
        }
        self.recipients = list;
        answer(self, turn);
        self.await_receipts(conn, id, to, turn);
        for (&user, &reader) in to.iter().zip(&readers) {
            let from = sender.clone();
            let waiting = Waiting { id, at, from, said: 0 };
            if is_planted(Fault::QuotaEvicts) {
                let mailbox = &self.user(user).mailbox;
                let full = mailbox.load().0 >= self.rules.mailbox_letters;
                if let Some(last) = mailbox.last_known().filter(|_| full) {
                    self.settle(user, Settle::Through(last), turn);
                }
            }
            self.user_mut(user).mailbox.accept(waiting);
            if let Some(reader) = reader {
                self.show_next(reader, user, turn);
                self.watch_if_spent(reader, turn);
            }
        }
        self.readers = readers;
    }

    /// The connection on which a new letter for the user would be shown at once: he is here, has
    /// been shown all that came before, and his connection takes more.
    fn shows_at_once(&self, user: UserId) -> Option<Conn> {
        let state = self.user(user);
        let reader = state.online?;
        let session = self.session(reader)?;
        (state.mailbox.all_shown() && !session.credit.is_spent()).then_some(reader)
    }

    /// Shows one letter, in lines of its own; tells where it stands and whether it was offered
    /// before.
    fn show_next(
        &mut self,
        conn: Conn,
        user: UserId,
        turn: &mut Turn<'_>,
    ) -> Option<(LetterId, bool)> {
        let session = self.sessions.get_mut(conn.0 as usize)?.as_mut()?;
        if session.changing.is_some() {
            return self.show_beside_prompt(conn, user, turn);
        }
        show_one(session, &mut self.users[user.0 as usize].mailbox, (conn, user), turn.out)
    }

    /// The same while the user changes his password.
    #[cold]
    fn show_beside_prompt(
        &mut self,
        conn: Conn,
        user: UserId,
        turn: &mut Turn<'_>,
    ) -> Option<(LetterId, bool)> {
        let prompt = self.session(conn).and_then(Session::prompt);
        let prompt = prompt.filter(|_| !self.user(user).mailbox.all_shown());
        self.around_prompt(conn, prompt, turn, |hub, turn| {
            let session = hub.sessions.get_mut(conn.0 as usize)?.as_mut()?;
            show_one(session, &mut hub.users[user.0 as usize].mailbox, (conn, user), turn.out)
        })
    }

    /// Shows what waits, as far as the connection takes it.
    pub(super) fn show_waiting(&mut self, conn: Conn, user: UserId, turn: &mut Turn<'_>) {
        let mut newly_offered = None;
        while self.session(conn).is_some_and(|session| !session.credit.is_spent()) {
            match self.show_next(conn, user, turn) {
                Some((id, false)) => newly_offered = Some(id),
                Some(_) => {}
                None => break,
            }
        }
        if let Some(through) = newly_offered {
            let user = self.accounts.name(user).as_str();
            turn.journal.append(&Record::Offered { user, through });
        }
        self.watch_if_spent(conn, turn);
    }

    fn watch_if_spent(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        // A coded client gives the credit back itself.
        let watches = session.dialect == Dialect::Plain;
        if watches && session.credit.is_spent() && !session.credit.watched {
            session.credit.watched = true;
            turn.out.push(Action::Watch { conn });
        }
    }

    /// A user who is away answers by himself, to the session that wrote: never stored, and never
    /// answered in turn.
    fn answer_for_away(&mut self, conn: Conn, to: UserId, turn: &mut Turn<'_>) {
        let reader = self.user(to).online.and_then(|reader| self.session(reader));
        let Some(text) = reader.and_then(|session: &Session| session.away.clone()) else { return };
        let from = self.accounts.name(to).clone();
        self.say(conn, Reply::AutoReply { from, text }, turn);
    }
}

/// Shows a letter, if one waits that was not shown; tells which, and whether it was offered before.
#[inline]
fn show_one(
    session: &mut Session,
    mailbox: &mut Mailbox,
    (conn, user): (Conn, UserId),
    out: &mut Vec<Action>,
) -> Option<(LetterId, bool)> {
    let said = session.said.wrapping_add(1);
    let (letter, again) = mailbox.show(said)?;
    session.said = said;
    // What a plain reader sees of a line end is longer than what was sent.
    let spread = match session.dialect {
        Dialect::Plain => letter.at.line_ends.saturating_mul(FURTHER_LINE_BYTES),
        Dialect::Coded => 0,
    };
    session.credit.spend(letter.at.body_bytes.saturating_add(spread));
    let waited = session.announced > 0;
    session.announced = session.announced.saturating_sub(1);
    show_to(Viewer { conn, user, again, waited }, letter, session.dialect, out);
    Some((letter.id, again))
}

/// What many are shown one after the other is one action.
fn show_to(viewer: Viewer, letter: &Waiting, dialect: Dialect, out: &mut Vec<Action>) {
    let Waiting { id, at, ref from, .. } = *letter;
    match out.last_mut() {
        Some(Action::Show { id: last, dialect: spoken, further, .. })
            if (*last, *spoken) == (id, dialect) =>
        {
            further.push(viewer);
        }
        _ => {
            let (from, further) = (from.clone(), Vec::new());
            out.push(Action::Show { dialect, id, from, at, viewer, further });
        }
    }
}

/// Whether the journal has room for the record of a message to so many.
fn has_disk(post: &Post<'_>, recipients: usize, turn: &Turn<'_>) -> bool {
    turn.journal.has_room(RECORD_BYTES + post.body.len() + recipients * (NAME_BYTES + 2))
}
