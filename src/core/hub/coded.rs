//! What only programs ask: the switch, tags, sign-in by SCRAM, pings and acknowledgements.

use super::receipts::Settle;
use super::{Hub, Turn, needs_user};
use crate::core::accounts::UserId;
use crate::core::event::{Conn, Dialect, Flow};
use crate::core::password::Verifier;
use crate::core::record::LetterId;
use crate::core::session::{Claimed, Proving, Session, Stage};
use crate::crypto;
use crate::limits::COUNTED_BYTES;
use crate::proto::coded::{self, Kind, Proof, Request};
use crate::proto::command::{Command, CommandFault, Verb};
use crate::proto::name::NameKey;
use crate::proto::reply::{Binds, Farewell, Refusal, Reply};
use crate::scram::{self, Exchange, ScramFault};

impl Hub {
    /// `coded 1`
    pub(super) fn switch(&mut self, conn: Conn, turn: &mut Turn<'_>) {
        let Some(session) = self.session_mut(conn) else { return };
        session.dialect = Dialect::Coded;
        let binds = if session.binding.is_some() { Binds::Exporter } else { Binds::No };
        self.say(conn, Reply::Switched(binds), turn);
    }

    /// A line of a program.
    pub(super) fn call(
        &mut self,
        conn: Conn,
        line: &[u8],
        body: Option<&[u8]>,
        turn: &mut Turn<'_>,
    ) -> Flow {
        let call = coded::parse(line, body);
        let Some(session) = self.session_mut(conn) else { return Flow::Go };
        session.stir(turn.now.mono);
        session.tag = call.tag;
        let user = session.user();
        if user.is_none() && !self.may_go_on(conn, line, turn) {
            return Flow::Go;
        }
        self.answering = call.tag.map(|tag| (conn, tag));
        let flow = match (call.request, user) {
            (Err(fault), _) => {
                self.misread(conn, user, fault, turn);
                Flow::Go
            }
            (Ok(request), Some(user)) => {
                self.request_online(conn, user, request, turn);
                self.flow(conn)
            }
            (Ok(request), None) => self.request_before(conn, request, turn),
        };
        self.answering = None;
        flow
    }

    /// A text by count over the limit: the command that announced it gets its answer.
    pub(super) fn text_too_long(
        &mut self,
        conn: Conn,
        line: &[u8],
        bytes: u64,
        turn: &mut Turn<'_>,
    ) {
        self.command_heard(conn, false, turn);
        self.answering = coded::legible(line).map(|tag| (conn, tag));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.refuse(conn, Refusal::MessageTooLong { bytes, most: COUNTED_BYTES }, turn);
        self.answering = None;
    }

    fn misread(
        &mut self,
        conn: Conn,
        user: Option<UserId>,
        fault: CommandFault<'_>,
        turn: &mut Turn<'_>,
    ) {
        match fault {
            CommandFault::Usage(verb, _) if user.is_none() && needs_user(verb) => {
                self.refuse(conn, Refusal::MustSignIn, turn);
            }
            CommandFault::Blank => {}
            fault => {
                self.command_heard(conn, false, turn);
                self.misunderstood(conn, user, fault, turn);
            }
        }
    }

    fn request_before(&mut self, conn: Conn, request: Request<'_>, turn: &mut Turn<'_>) -> Flow {
        match request {
            Request::SignIn { user, kind, proof } => {
                self.note_command(None, Some(Verb::SignIn), turn);
                return self.coded_signin(conn, user, kind, proof, turn);
            }
            Request::Auth(proof) => return self.auth(conn, proof, turn),
            Request::Ping => self.say(conn, Reply::Pong, turn),
            Request::Pong => {}
            Request::Command(Command::Help(verb)) => self.say(conn, Reply::Help(verb), turn),
            Request::Command(Command::SignOut) => self.close(conn, Farewell::SignedOut, turn),
            Request::Command(_)
            | Request::Send { .. }
            | Request::Broadcast { .. }
            | Request::Passwd(_)
            | Request::Receipts(_)
            | Request::Ack(_) => self.refuse(conn, Refusal::MustSignIn, turn),
        }
        Flow::Go
    }

    fn request_online(
        &mut self,
        conn: Conn,
        user: UserId,
        request: Request<'_>,
        turn: &mut Turn<'_>,
    ) {
        match request {
            // These are no commands: they neither count against idleness nor end an away.
            Request::Ping => return self.say(conn, Reply::Pong, turn),
            Request::Pong => return,
            Request::Ack(id) => return self.ack(conn, user, id, turn),
            _ => {}
        }
        let stays = matches!(request,
            Request::Command(Command::Away(text)) if !super::who::is_too_long(text));
        self.command_heard(conn, stays, turn);
        match request {
            Request::Send { key, to, text } => {
                self.note_command(Some(user), Some(Verb::Send), turn);
                self.send(conn, user, to, text, key, turn);
            }
            Request::Broadcast { key, text } => {
                self.note_command(Some(user), Some(Verb::Broadcast), turn);
                self.broadcast(conn, user, text, None, key, turn);
            }
            Request::Receipts(switch) => self.receipts(conn, switch, turn),
            Request::Command(Command::Away(_) | Command::Notify(_)) if self.is_tool(conn) => {
                self.refuse(conn, Refusal::NotPresent, turn);
            }
            Request::Command(command) => self.obey(conn, user, command, turn),
            Request::Passwd(how) => {
                self.note_command(Some(user), Some(Verb::Passwd), turn);
                self.coded_passwd(conn, user, how, turn);
            }
            Request::Auth(last) if self.proves_for_passwd(conn) => {
                self.passwd_auth(conn, user, last, turn);
            }
            Request::SignIn { .. } | Request::Auth(_) => {
                let user = self.accounts.name(user).clone();
                self.refuse(conn, Refusal::SignedInAlready(user), turn);
            }
            Request::Ping | Request::Pong | Request::Ack(_) => {}
        }
    }

    /// A command ends an `away`, if it `stays` not for setting it anew.
    fn command_heard(&mut self, conn: Conn, stays: bool, turn: &mut Turn<'_>) {
        let away = self.heard(conn, turn.now.mono);
        if away && !stays {
            self.say(conn, Reply::NoLongerAway, turn);
        }
    }

    fn is_tool(&self, conn: Conn) -> bool {
        self.session(conn).is_some_and(|session| session.kind == Kind::Tool)
    }

    /// Every letter up to this one is in the client's own inbox.
    fn ack(&mut self, conn: Conn, user: UserId, id: LetterId, turn: &mut Turn<'_>) {
        let mailbox = &self.user(user).mailbox;
        let reads = self.session(conn).is_some_and(|session| session.present().is_some());
        if !reads || mailbox.last_shown().is_none_or(|last| last < id) {
            if !reads || id > mailbox.settled() {
                self.refuse(conn, Refusal::BadAck, turn);
            }
            return;
        }
        let (letters, bytes) = mailbox.load();
        self.settle(user, Settle::Through(id), turn);
        let (letters_left, bytes_left) = self.user(user).mailbox.load();
        if let Some(session) = self.session_mut(conn) {
            session.credit.restore(letters - letters_left, bytes - bytes_left);
        }
        self.show_waiting(conn, user, turn);
    }

    fn coded_signin(
        &mut self,
        conn: Conn,
        name: &str,
        kind: Kind,
        proof: Proof<'_>,
        turn: &mut Turn<'_>,
    ) -> Flow {
        let key = match NameKey::of(name) {
            Ok(key) => key,
            Err(fault) => {
                self.refuse(conn, Refusal::BadName(super::echoed(name), fault), turn);
                return Flow::Go;
            }
        };
        if let Some(session) = self.session_mut(conn) {
            session.kind = kind;
            session.stage = Stage::Open;
            session.proof = None;
        }
        match proof {
            Proof::Plain(password) => {
                self.attempt(conn, name.into(), key, password.as_bytes(), turn)
            }
            Proof::Scram(_) if self.is_blocked(conn, name, key, turn) => Flow::Go,
            Proof::Scram(first) => {
                self.challenge(conn, name, key, first, turn);
                Flow::Go
            }
        }
    }

    fn challenge(
        &mut self,
        conn: Conn,
        name: &str,
        key: NameKey,
        first: &str,
        turn: &mut Turn<'_>,
    ) {
        let claimed = self.claimed(key);
        let exchange = self.exchange(conn, key, first, &claimed.verifier, turn);
        let Some((exchange, challenge)) = exchange else { return };
        if let Some(session) = self.session_mut(conn) {
            let proving = Proving { name: name.into(), key, exchange, claimed };
            session.stage = Stage::Proving(Box::new(proving));
        }
        self.say(conn, challenge, turn);
    }

    /// Begins an exchange: what to remember of it, and the challenge. `None`: the client's message
    /// is none, and was refused.
    pub(super) fn exchange(
        &mut self,
        conn: Conn,
        key: NameKey,
        first: &str,
        verifier: &Verifier,
        turn: &mut Turn<'_>,
    ) -> Option<(Exchange, Reply)> {
        let binding = self.session(conn).and_then(|session| session.binding.as_deref());
        let first = crypto::decode_text(first).ok_or(ScramFault::Shape);
        let first = first.and_then(|first| scram::client_first(&first, binding));
        let first = first.and_then(|first| match NameKey::of(&first.user) == Ok(key) {
            true => Ok(first),
            false => Err(ScramFault::User),
        });
        let first = match first {
            Ok(first) => first,
            Err(fault) => {
                self.refuse(conn, Refusal::Malformed(first_usage(fault)), turn);
                return None;
            }
        };
        let count = self.draw();
        let nonce = crypto::nonce(&self.secret, self.last_id.epoch, count);
        let (salt, iterations) = (verifier.salt(), verifier.iterations());
        let (exchange, challenge) = Exchange::begin(&first, salt, iterations, &nonce);
        Some((exchange, Reply::Challenge(crypto::encode_text(&challenge).into())))
    }

    /// A number that comes once in this run.
    pub(super) fn draw(&mut self) -> u64 {
        self.nonces += 1;
        self.nonces
    }

    /// What a claim to be this user is compared with: for a user who does not exist, something
    /// that costs as much and matches nothing.
    pub(super) fn claimed(&self, key: NameKey) -> Claimed {
        // The decoy is made for those who exist, too: a challenge without it would come sooner.
        let lot = Verifier::lot(&key, &self.secret);
        let guise = self.accounts.guise_of_stranger(lot);
        let decoy = std::hint::black_box(Verifier::decoy(&key, &self.secret, guise));
        let user = self.accounts.find(key.as_str());
        let verifier = user.map_or(decoy, |user| self.accounts.verifier(user).clone());
        Claimed { user, verifier }
    }

    /// `auth <client-final-message>`
    fn auth(&mut self, conn: Conn, last: &str, turn: &mut Turn<'_>) -> Flow {
        let Some(session) = self.session_mut(conn) else { return Flow::Go };
        let Stage::Proving(proving) = std::mem::replace(&mut session.stage, Stage::Open) else {
            self.refuse(conn, Refusal::Malformed("auth comes behind signin"), turn);
            return Flow::Go;
        };
        let address = session.address;
        let Proving { name, key, exchange, claimed } = *proving;
        let verifier = &claimed.verifier;
        if self.is_blocked(conn, &name, key, turn) {
            return Flow::Go;
        }
        let proof = crypto::decode_text(last)
            .and_then(|last| exchange.finish(&last, verifier.stored_key(), verifier.server_key()));
        match (proof, self.still_claimed(&claimed)) {
            (Some(proof), Some(user)) => {
                if let Some(session) = self.session_mut(conn) {
                    session.proof = Some(crypto::encode_text(&proof).into());
                }
                self.lockout.succeeded(key, address);
                self.admit_unless_online(conn, user, turn);
            }
            _ => self.failed(conn, Refusal::NotAuthorized(name), key, claimed.user, turn),
        }
        // The lines behind it wait while the user's first session is looked at.
        let probing = |session: &Session| matches!(session.stage, Stage::Probing(_));
        if self.session(conn).is_some_and(probing) { Flow::Hold } else { Flow::Go }
    }
}

/// How the client's first message is typed, for whom it went wrong.
fn first_usage(fault: ScramFault) -> &'static str {
    match fault {
        ScramFault::Downgrade => {
            "server-does-support-channel-binding: the client would bind and did not hear that this \
             server does, so somebody may have changed what was said"
        }
        ScramFault::ChannelBinding => {
            "channel-binding-not-supported: p=tls-exporter over TLS that ends at this server, and \
             none elsewhere"
        }
        _ => "scram takes base64 of: n,,n=<the same user>,r=<nonce>",
    }
}
