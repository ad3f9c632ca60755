//! What the log is told: who gave which command, and which limit bit. Never a password, never a
//! message's text.

use super::{Hub, Turn};
use crate::core::accounts::UserId;
use crate::core::event::{Action, Conn, Note};
use crate::core::session::Session;
use crate::proto::command::Verb;

/// A command that was noted for the log, and where in what is to be done the note stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    user: Option<UserId>,
    verb: Option<Verb>,
    at: usize,
}

impl Hub {
    pub(super) fn note_command(
        &mut self,
        user: Option<UserId>,
        verb: Option<Verb>,
        turn: &mut Turn<'_>,
    ) {
        // The lines that a script sends at once are one note.
        if let Some(last) = self.noted
            && (last.user, last.verb) == (user, verb)
            && let Some(Action::Note(Note::Command { times, .. })) = turn.out.get_mut(last.at)
        {
            *times += 1;
        } else {
            self.note_another(user, verb, turn);
        }
    }

    /// The first of its kind; apart, so that the others do not pay for it.
    #[cold]
    fn note_another(&mut self, user: Option<UserId>, verb: Option<Verb>, turn: &mut Turn<'_>) {
        let at = turn.out.len();
        let name = user.map(|user| self.accounts.name(user).clone());
        turn.out.push(Action::Note(Note::Command { user: name, verb, times: 1 }));
        self.noted = Some(Noted { user, verb, at });
    }

    /// For the log. Lines stay in the order in which things happened, so that commands on both
    /// sides of it are two notes.
    pub(super) fn note(&mut self, note: Note, turn: &mut Turn<'_>) {
        self.noted = None;
        turn.out.push(Action::Note(note));
    }

    /// A limit bit the connection.
    pub(super) fn note_limit(&mut self, conn: Conn, what: &'static str, turn: &mut Turn<'_>) {
        let user = self.session(conn).and_then(Session::user);
        let user = user.map(|user| self.accounts.name(user).clone());
        self.note(Note::Limited { user, what }, turn);
    }
}
