//! One connection to a server, without the socket: bytes go in, events and bytes come out.
//!
//! ```text
//! Greeting --welcome--> Switched --334--> Stretching --work--> Proving --230--> In
//!                                                                  all --190 or lost--> Closed
//! ```
//!
//! The switch and the first half of the sign-in are said at once and before the greeting is read,
//! which saves a round trip; a server that is not MMS learns no more from it than a name. Messages
//! are held back until the server has proved that it knows the account.
//!
//! Knows no clock: whoever waits says when it has been too long.

use super::shown::Shown;
use crate::crypto::wipe;
use crate::proto::coded_client::{
    self as coded, Answer, Ask, Kind, Letter, LineFault, Reader, Refused, Said, ServerLine,
};
use crate::proto::plain;
use crate::proto::receipt::Receipt;
use crate::scram::{self, Channel, ClientExchange, Keys, NONCE_ENTROPY_BYTES, ScramFault, Secret};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::VecDeque;
use std::fmt;

/// What an MMS server says first.
const WELCOME: &[u8] = b">> Welcome to MMS";
/// Lines of the plain dialect after which no code will come any more.
const PLAIN_LINES_MOST: u32 = 16;
/// Rounds of a password between two looks at the clock: 5 ms.
const ROUNDS_AT_ONCE: u32 = 50_000;
/// Tags of the two halves of a sign-in.
const SIGN_IN: &str = "signin";
const AUTH: &str = "auth";
/// How a server says that a sign-in may be bound to the TLS connection.
const PLUS: &str = "scram-sha-256-plus";

/// What an account is signed in with.
#[derive(Clone)]
pub enum Credential {
    /// The password; forgotten when dropped.
    Password(Password),
    /// What was made of it earlier.
    Keys(Keys),
}

/// A password that is overwritten when it is dropped and never printed.
#[derive(Clone)]
pub struct Password(pub Vec<u8>);

impl Drop for Password {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(..)",
            Self::Keys(_) => "Keys(..)",
        })
    }
}

/// Who signs in, and what for.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// What the session is for.
    pub kind: Kind,
    /// How it is proved.
    pub credential: Credential,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing said yet.
    Greeting,
    /// Greeted; no answer of the coded dialect yet.
    Switched,
    /// The proof is being worked out: [`Link::work`] is wanted.
    Stretching,
    /// The proof was sent.
    Proving,
    /// Signed in.
    In,
    /// No more will come.
    Closed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Signed in, and the server is the right one.
    SignedIn {
        /// The name as the password file spells it.
        user: String,
        /// Letters waiting.
        waiting: u64,
        /// The spool's name.
        spool: String,
    },
    /// Another session of this user is being looked at; the sign-in goes on after that.
    Probing,
    /// What was asked under this number is answered.
    Answered(u64, Answer),
    /// A letter.
    Letter(Letter),
    /// Something is known of the delivery of a letter.
    Receipt(Receipt),
    /// Something else happened: the code and its fields.
    Notice(u16, String),
    /// The end, and why.
    Closed(Why),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It broke off without a word.
    Lost,
    /// The first bytes are not those of an MMS server.
    NotMms(String),
    /// The server says in plain words that it takes nobody now.
    TurnedAway(String),
    /// It is the server's port for TLS, and was not spoken to like that.
    WantsTls,
    /// It is an MMS server that does not know the coded dialect.
    NoDialect,
    /// It speaks another version of it.
    OtherVersion(String),
    /// It said something that is no line of the dialect.
    Broken(LineFault),
    /// It answered what nobody had asked, or in the wrong place.
    OutOfOrder(String),
    /// The TLS connection does not end at the server.
    NotEndToEnd,
    /// It refused the sign-in.
    Refused(Refused),
    /// The exchange of proofs failed on our side.
    Scram(ScramFault),
    /// It said goodbye, with this reason and what stands behind it.
    Goodbye {
        /// One word.
        reason: String,
        /// A number or an address, if there is one.
        detail: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the connection was lost"),
            Self::NotMms(sample) if sample.is_empty() => f.write_str("that is no MMS server"),
            Self::NotMms(sample) => {
                write!(f, "that is no MMS server; it says '{}'", Shown(sample))
            }
            Self::TurnedAway(words) => write!(f, "{}", Shown(words)),
            Self::WantsTls => f.write_str("that is the port for TLS: give --tls"),
            Self::NoDialect => f.write_str(
                "this MMS server does not know the dialect of programs; it is older than mms",
            ),
            Self::OtherVersion(version) => {
                write!(f, "this MMS server speaks another dialect than mms: {}", Shown(version))
            }
            Self::Broken(fault) => write!(f, "{fault}"),
            Self::OutOfOrder(line) => {
                write!(f, "the server said what does not belong there: {}", Shown(line))
            }
            Self::NotEndToEnd => f.write_str(
                "TLS ends before the MMS server: whoever is between reads everything; connect to \
                 the server's own TLS port",
            ),
            Self::Refused(refused) => write!(f, "{refused}"),
            Self::Scram(fault) => write!(f, "{fault}"),
            Self::Goodbye { reason, detail } => farewell(reason, detail, f),
        }
    }
}

/// What a goodbye means, for a person.
fn farewell(reason: &str, detail: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let words = match reason {
        "signed-out" => "signed out",
        "idle" => "signed off after a time without a command",
        "signin-timeout" => "the sign-in took too long",
        "too-many-failures" => "too many failed attempts",
        "too-much" => "too much was said before the sign-in",
        "replaced" => "another session of this user took over",
        "unresponsive" => "the server had no answer from here for too long",
        "removed" => "this user was removed from the server",
        "password-changed" => "the password of this user was changed",
        "shutting-down" => "the server is shutting down",
        other => {
            return write!(f, "the server ends the session: {} {}", Shown(other), Shown(detail));
        }
    };
    f.write_str(words)
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct Link {
    state: State,
    reader: Reader,
    output: Vec<u8>,
    events: VecDeque<Event>,
    exchange: ClientExchange,
    channel: Channel,
    credential: Option<Credential>,
    /// Numbers of what was asked and not answered yet.
    pending: VecDeque<u64>,
    next: u64,
    /// A change of the password: its number, its exchange, and the present password until it has
    /// answered.
    passwd: Option<(u64, ClientExchange, Option<Password>)>,
    plain_lines: u32,
    turned_away: Option<String>,
}

impl Link {
    /// Begins: the switch and the sign-in are ready to be written.
    #[must_use]
    pub fn open(login: &Login, entropy: &[u8; NONCE_ENTROPY_BYTES], channel: Channel) -> Self {
        let nonce = scram::nonce(entropy);
        let (exchange, first) = ClientExchange::begin(&login.user, &nonce, channel);
        let mut output = Vec::new();
        coded::encode(&Ask::Coded, None, &mut output);
        let first = STANDARD.encode(first);
        let ask = Ask::SignIn { user: &login.user, kind: login.kind, first: &first };
        coded::encode(&ask, Some(SIGN_IN), &mut output);
        Self::new(exchange, channel, Some(login.credential.clone()), output)
    }

    /// Begins a visit without a sign-in: a ping, answered under the number 0, and goodbye.
    #[must_use]
    pub fn knock() -> Self {
        let mut output = Vec::new();
        coded::encode(&Ask::Coded, None, &mut output);
        coded::encode(&Ask::Ping, Some("0"), &mut output);
        coded::encode(&Ask::SignOut, Some("1"), &mut output);
        let channel = Channel::Plain;
        let (exchange, _) = ClientExchange::begin("", "", channel);
        Self::new(exchange, channel, None, output)
    }

    fn new(
        exchange: ClientExchange,
        channel: Channel,
        credential: Option<Credential>,
        output: Vec<u8>,
    ) -> Self {
        Self {
            state: State::Greeting,
            reader: Reader::default(),
            output,
            events: VecDeque::new(),
            exchange,
            channel,
            credential,
            pending: VecDeque::new(),
            next: 1,
            passwd: None,
            plain_lines: 0,
            turned_away: None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What is to be written, and is taken by this.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether nothing more is known to have happened.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.events.is_empty()
    }

    /// What was asked and not answered yet, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().copied()
    }

    /// The keys that answered the server, to be kept once it has let us in.
    #[must_use]
    pub fn keys(&self) -> Option<&Keys> {
        self.exchange.keys()
    }

    /// Asks; the number will come back with the answer. `None`: no answer will come.
    ///
    /// # Panics
    /// If it is not signed in yet: the caller waits for [`Event::SignedIn`].
    pub fn ask(&mut self, ask: &Ask<'_>) -> Option<u64> {
        if self.state == State::Closed {
            return None;
        }
        assert!(matches!(self.state, State::In), "asked before the sign-in");
        if !ask.is_answered() {
            coded::encode(ask, None, &mut self.output);
            return None;
        }
        let number = self.next;
        self.next += 1;
        coded::encode(ask, Some(&number.to_string()), &mut self.output);
        self.pending.push_back(number);
        Some(number)
    }

    /// Asks for another password: shows that `current` is known, and hands over the verifier of the
    /// new one. Nothing may be asked until it is answered. `None`: no answer will come.
    pub fn change_password(
        &mut self,
        user: &str,
        current: Password,
        verifier: &str,
        entropy: &[u8; NONCE_ENTROPY_BYTES],
    ) -> Option<u64> {
        let (exchange, first) = ClientExchange::begin(user, &scram::nonce(entropy), self.channel);
        let number = self.ask(&Ask::Passwd { first: &STANDARD.encode(first), verifier })?;
        self.passwd = Some((number, exchange, Some(current)));
        Some(number)
    }

    /// The challenge to a change of the password. Its answer goes out under the same number.
    fn prove_current(&mut self, line: &ServerLine) -> Result<(), Why> {
        let Some((number, exchange, current)) = &mut self.passwd else {
            return Err(out_of_order(line));
        };
        let current = current.take().ok_or_else(|| out_of_order(line))?;
        let (number, challenge) = (number.to_string(), decode(line.fields())?);
        if line.tag() != Some(&*number) {
            return Err(out_of_order(line));
        }
        exchange.answer(&challenge, Secret::Password(&current.0)).map_err(Why::Scram)?;
        // This server has shown that it knows the account, so it asks for what is needed.
        if let Some(last) = exchange.work(u32::MAX) {
            coded::encode(&Ask::Auth(&STANDARD.encode(last)), Some(&number), &mut self.output);
        }
        Ok(())
    }

    /// Whoever says that the password is changed must know the account.
    fn verify_change(&mut self, number: u64, answer: &Answer) -> Result<(), Why> {
        let asked = self.passwd.take_if(|(asked, ..)| *asked == number);
        match (asked, answer) {
            (Some((_, exchange, _)), Answer::PasswordChanged { proof, .. }) => {
                exchange.verify(&decode(proof)?).map_err(Why::Scram)
            }
            (None, Answer::PasswordChanged { .. }) => Err(Why::OutOfOrder("267".into())),
            _ => Ok(()),
        }
    }

    /// Takes in bytes from the server.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.state == State::Closed {
            return;
        }
        self.reader.feed(bytes);
        if self.state == State::Greeting {
            self.greet();
        }
        while self.state != State::Closed {
            let done = match self.reader.next_said() {
                Ok(None) => return,
                Ok(Some(Said::Plain(text))) => self.plain(text),
                Ok(Some(Said::Coded(line))) => self.coded(&line),
                Err(fault) => Err(Why::Broken(fault)),
            };
            if let Err(why) = done {
                self.close(why);
            }
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        if self.state == State::Closed {
            return;
        }
        let why = match self.turned_away.take() {
            Some(words) if words.starts_with(plain::WANTS_TLS) => Why::WantsTls,
            Some(words) => Why::TurnedAway(words),
            None if self.state == State::Greeting && !self.reader.rest().is_empty() => {
                Why::NotMms(sample(self.reader.rest()))
            }
            // A server that knows no dialect closes after its answers.
            None if self.plain_lines > 3 => Why::NoDialect,
            None => Why::Lost,
        };
        self.close(why);
    }

    fn close(&mut self, why: Why) {
        self.state = State::Closed;
        self.credential = None;
        self.events.push_back(Event::Closed(why));
    }

    /// Looks at the first bytes, without waiting for a line end that may never come.
    fn greet(&mut self) {
        let rest = self.reader.rest();
        let known = rest.len().min(WELCOME.len());
        let plain = rest.len().min(3);
        if rest[..known] == WELCOME[..known] {
            if known == WELCOME.len() {
                self.state = State::Switched;
            }
        } else if rest[..plain] != WELCOME[..plain] {
            self.close(Why::NotMms(sample(rest)));
        }
    }

    fn plain(&mut self, text: String) -> Result<(), Why> {
        self.plain_lines += 1;
        match self.state {
            State::Greeting => {
                self.turned_away = Some(text);
                Ok(())
            }
            State::Switched if text.contains("'coded'") => Err(Why::NoDialect),
            // Whichever version it wants in its place, as in `'coded 2' is the only version`.
            State::Switched if text.contains("'coded ") => Err(Why::OtherVersion(text)),
            State::Switched if self.plain_lines > PLAIN_LINES_MOST => Err(Why::NoDialect),
            State::Switched => Ok(()),
            _ => Err(Why::OutOfOrder(text)),
        }
    }

    fn coded(&mut self, line: &ServerLine) -> Result<(), Why> {
        if line.is_event() {
            return self.happened(line);
        }
        match self.state {
            State::Switched | State::Proving => self.signing_in(line),
            State::In if line.code == 555 && line.tag().is_none() => {
                self.events.push_back(Event::Notice(555, line.fields().into()));
                Ok(())
            }
            State::In if line.code == 334 => self.prove_current(line),
            State::In => {
                let number = self.pending.pop_front().filter(|number| match line.tag() {
                    Some(tag) => tag.parse() == Ok(*number),
                    // Of a line that could not be read the tag could not be, either.
                    None => line.code >= 400,
                });
                let number = number.ok_or_else(|| out_of_order(line))?;
                let answer = Answer::parse(line).map_err(Why::Broken)?;
                self.verify_change(number, &answer)?;
                self.events.push_back(Event::Answered(number, answer));
                Ok(())
            }
            State::Greeting | State::Stretching | State::Closed => Err(out_of_order(line)),
        }
    }

    fn signing_in(&mut self, line: &ServerLine) -> Result<(), Why> {
        let tag = if self.state == State::Switched { SIGN_IN } else { AUTH };
        match (line.code, line.tag()) {
            (200, None) if self.state == State::Switched => {
                let mut words = line.fields().split(' ');
                let ours = (words.next(), words.next()) == (Some("coded"), Some("1"));
                let binds = matches!(self.channel, Channel::Exporter(_));
                match (ours, binds && !words.any(|word| word == PLUS)) {
                    (false, _) => Err(Why::OtherVersion(line.fields().into())),
                    (true, true) => Err(Why::NotEndToEnd),
                    (true, false) => Ok(()),
                }
            }
            (264, Some("0")) if self.credential.is_none() => {
                self.events.push_back(Event::Answered(0, Answer::Pong));
                Ok(())
            }
            (290, Some("1")) if self.credential.is_none() => Ok(()),
            (505, None) => Err(Why::OtherVersion(line.fields().into())),
            (334, Some(SIGN_IN)) if self.state == State::Switched => self.prove(line.fields()),
            (433, Some(_)) => {
                self.events.push_back(Event::Probing);
                Ok(())
            }
            (230, Some(AUTH)) if self.state == State::Proving => self.welcome(line.fields()),
            (code @ 400..=599, Some(theirs)) if theirs == tag => {
                let refused = Refused { code, fields: line.fields().into() };
                Err(Why::Refused(refused))
            }
            _ => Err(out_of_order(line)),
        }
    }

    fn prove(&mut self, challenge: &str) -> Result<(), Why> {
        let challenge = decode(challenge)?;
        let secret = match self.credential.as_ref() {
            Some(Credential::Password(password)) => Secret::Password(&password.0),
            Some(Credential::Keys(keys)) => Secret::Keys(keys),
            None => return Err(Why::OutOfOrder("a second challenge".into())),
        };
        self.exchange.answer(&challenge, secret).map_err(Why::Scram)?;
        self.credential = None;
        self.state = State::Stretching;
        Ok(())
    }

    /// Does a slice of the work that the server asked for, some milliseconds. How much there is of
    /// it the server decides, so whoever waits for it looks at the clock between the slices.
    pub fn work(&mut self) {
        if self.state == State::Stretching
            && let Some(last) = self.exchange.work(ROUNDS_AT_ONCE)
        {
            coded::encode(&Ask::Auth(&STANDARD.encode(last)), Some(AUTH), &mut self.output);
            self.state = State::Proving;
        }
    }

    fn welcome(&mut self, fields: &str) -> Result<(), Why> {
        let mut words = fields.split(' ');
        let mut word = || words.next().ok_or(Why::Broken(LineFault::Fields));
        let (proof, user, waiting, spool) = (word()?, word()?, word()?, word()?);
        self.exchange.verify(&decode(proof)?).map_err(Why::Scram)?;
        let waiting = waiting.parse().map_err(|_| Why::Broken(LineFault::Fields))?;
        self.state = State::In;
        let (user, spool) = (user.into(), spool.into());
        self.events.push_back(Event::SignedIn { user, waiting, spool });
        Ok(())
    }

    fn happened(&mut self, line: &ServerLine) -> Result<(), Why> {
        let fields = line.fields();
        match line.code {
            190 => {
                let (reason, detail) = fields.split_once(' ').unwrap_or((fields, ""));
                Err(Why::Goodbye { reason: reason.into(), detail: detail.into() })
            }
            121 => {
                coded::encode(&Ask::Pong, None, &mut self.output);
                Ok(())
            }
            100 | 113 => {
                let letter = match line.code {
                    100 => Letter::parse(fields),
                    _ => Letter::parse_damaged(fields),
                };
                self.events.push_back(Event::Letter(letter.map_err(Why::Broken)?));
                Ok(())
            }
            code => {
                let receipt = Receipt::parse(code, fields).map_err(Why::Broken)?;
                let notice = || Event::Notice(code, fields.into());
                self.events.push_back(receipt.map_or_else(notice, Event::Receipt));
                Ok(())
            }
        }
    }
}

fn out_of_order(line: &ServerLine) -> Why {
    Why::OutOfOrder(format!("{line:?}"))
}

fn decode(text: &str) -> Result<String, Why> {
    let bytes = STANDARD.decode(text).map_err(|_| Why::Broken(LineFault::Fields))?;
    String::from_utf8(bytes).map_err(|_| Why::Broken(LineFault::NotUtf8))
}

/// The beginning of what a stranger said.
fn sample(bytes: &[u8]) -> String {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).trim_end().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram::{Exchange, client_first};
    use proptest::prelude::*;

    const GREETING: &str = ">> Welcome to MMS.\r\n>> Type 'signin <user>' to sign in.\r\n";
    const SWITCHED: &str = "200 coded 1 mms/0.1.0 scram-sha-256 plain line=4096 body=65536\r\n";

    fn login() -> Login {
        let password = Credential::Password(Password(b"secret".to_vec()));
        Login { user: "fred".into(), kind: Kind::Tool, credential: password }
    }

    fn open() -> Link {
        Link::open(&login(), &[7; NONCE_ENTROPY_BYTES], Channel::Plain)
    }

    fn say(link: &mut Link, text: &str) -> Vec<Event> {
        link.receive(text.as_bytes());
        std::iter::from_fn(|| link.event()).collect()
    }

    fn heard(link: &mut Link) -> String {
        String::from_utf8(link.take_output()).unwrap()
    }

    /// A server that knows fred's password, at the point where it has challenged him.
    struct Script {
        exchange: Exchange,
        keys: ([u8; 32], [u8; 32]),
    }

    fn challenge(link: &mut Link, password: &[u8], rounds: u32) -> Script {
        use crate::crypto::{Stretch, client_key, server_key, stored_key};
        let said = heard(link);
        let first = said.trim_end().rsplit(' ').next().unwrap();
        assert_eq!(said, format!("coded 1\r\n@signin signin fred tool scram {first}\r\n"));
        let first = client_first(&decode(first).unwrap(), None).unwrap();
        let salt = [9; 16];
        let (exchange, message) = Exchange::begin(&first, &salt, rounds, "servers");
        let mut stretch = Stretch::new(password, &salt, rounds);
        stretch.step(rounds);
        let salted = stretch.result();
        let keys = (stored_key(&client_key(&salted)), server_key(&salted));
        let message = STANDARD.encode(message);
        let text = format!("{GREETING}{SWITCHED}334 @signin {message}\r\n");
        assert_eq!(say(link, &text), []);
        assert_eq!((link.state(), heard(link)), (State::Stretching, String::new()));
        link.work();
        Script { exchange, keys }
    }

    fn welcome(link: &mut Link, script: &Script) -> String {
        let said = heard(link);
        let last = said.strip_prefix("@auth auth ").unwrap().trim_end();
        let proof = script.exchange.finish(&decode(last).unwrap(), &script.keys.0, &script.keys.1);
        STANDARD.encode(proof.unwrap())
    }

    fn signed_in() -> Link {
        let mut link = open();
        let script = challenge(&mut link, b"secret", 4096);
        assert_eq!(link.state(), State::Proving);
        let proof = welcome(&mut link, &script);
        let text = format!("230 @auth {proof} Fred 2 00000000000000aa\r\n");
        let spool = "00000000000000aa".into();
        let wanted = Event::SignedIn { user: "Fred".into(), waiting: 2, spool };
        assert_eq!(say(&mut link, &text), [wanted]);
        assert_eq!(link.state(), State::In);
        link
    }

    fn closed(why: Why) -> Vec<Event> {
        vec![Event::Closed(why)]
    }

    #[test]
    fn answers_find_their_questions_and_events_come_between() {
        let mut link = signed_in();
        let to = ["tim".to_owned()];
        let first = link.ask(&Ask::Send { key: "k1", to: &to, text: "hi" });
        let second = link.ask(&Ask::Ping);
        assert_eq!((first, second), (Some(1), Some(2)));
        assert_eq!(link.ask(&Ask::Ack("1.1".parse().unwrap())), None);
        assert_eq!(heard(&mut link), "@1 send =k1 tim hi\r\n@2 ping\r\nack 1.1\r\n");
        let events = say(
            &mut link,
            "100 1.2 5 - tim hello\r\n250 @1 1.3 sent tim\r\n121 ping\r\n114 no-longer-away\r\n\
             115 delivered 1.3 tim\r\n264 @2 pong\r\n",
        );
        let letter = Letter::parse("1.2 5 - tim hello").unwrap();
        let fate = coded::Fate::Sent;
        let answer = Answer::Stored { id: "1.3".parse().unwrap(), fate, to: "tim".into() };
        let wanted = [
            Event::Letter(letter),
            Event::Answered(1, answer),
            Event::Notice(114, "no-longer-away".into()),
            Event::Receipt(Receipt::Delivered { id: "1.3".parse().unwrap(), user: "tim".into() }),
            Event::Answered(2, Answer::Pong),
        ];
        assert_eq!(events, wanted);
        assert_eq!(heard(&mut link), "pong\r\n");
        assert_eq!(link.pending().count(), 0);
    }

    #[test]
    fn a_server_that_answers_out_of_order_is_left() {
        for text in ["250 @2 1.3 sent tim\r\n", "250 1.3 sent tim\r\n", ">> hi\r\n"] {
            let mut link = signed_in();
            link.ask(&Ask::Ping);
            let events = say(&mut link, text);
            assert!(matches!(&events[..], [Event::Closed(Why::OutOfOrder(_))]), "{events:?}");
            assert_eq!(say(&mut link, "264 @1 pong\r\n"), [], "closed is closed");
        }
        let mut link = signed_in();
        link.ask(&Ask::Ping);
        assert_eq!(say(&mut link, "250 @1 x\r\n"), closed(Why::Broken(LineFault::Fields)));
    }

    #[test]
    fn a_line_that_could_not_be_read_is_answered_in_its_turn() {
        let mut link = signed_in();
        link.ask(&Ask::Ping);
        link.ask(&Ask::Ping);
        let refused = Refused { code: 502, fields: "line-too-long 4096".into() };
        let wanted = [
            Event::Notice(555, "bad-ack".into()),
            Event::Answered(1, Answer::Refused(refused)),
            Event::Answered(2, Answer::Pong),
        ];
        let text = "555 bad-ack\r\n502 line-too-long 4096\r\n264 @2 pong\r\n";
        assert_eq!(say(&mut link, text), wanted);
    }

    #[test]
    fn strangers_are_recognised() {
        for (text, why) in [
            ("SSH-2.0-OpenSSH_9.6\r\n", Why::NotMms("SSH-2.0-OpenSSH_9.6".into())),
            ("220 mail ready\r\n", Why::NotMms("220 mail ready".into())),
            ("H", Why::NotMms("H".into())),
            (">> Welcome to MMS.\r\n505 version 2\r\n", Why::OtherVersion("version 2".into())),
            (
                ">> Welcome to MMS.\r\n>> 'coded 2' is the only version\r\n",
                Why::OtherVersion("'coded 2' is the only version".into()),
            ),
            (
                ">> Welcome to MMS.\r\n200 coded 2 mms/2.0.0\r\n",
                Why::OtherVersion("coded 2 mms/2.0.0".into()),
            ),
            (
                ">> Welcome to MMS.\r\n>> 'coded' is no command; 'help' lists the commands\r\n",
                Why::NoDialect,
            ),
        ] {
            assert_eq!(say(&mut open(), text), closed(why), "{text}");
        }
        let mut link = open();
        assert_eq!(say(&mut link, &format!("{GREETING}{}", ">> x\r\n".repeat(14))), []);
        assert_eq!(say(&mut link, ">> x\r\n"), closed(Why::NoDialect));
    }

    #[test]
    fn the_end_of_a_connection_says_what_is_known() {
        for (text, why) in [
            ("", Why::Lost),
            (">> Wel", Why::NotMms(">> Wel".into())),
            (
                ">> MMS is full, try again later\r\n",
                Why::TurnedAway("MMS is full, try again later".into()),
            ),
            (">> this port of MMS speaks TLS only; use this or that\r\n", Why::WantsTls),
            (GREETING, Why::Lost),
        ] {
            let mut link = open();
            assert_eq!(say(&mut link, text), []);
            link.lost();
            link.lost();
            assert_eq!(say(&mut link, ""), closed(why), "{text}");
        }
        let mut link = signed_in();
        let events = say(&mut link, "190 idle 1800 no command for 1800 s\r\n");
        let (reason, detail) = ("idle".into(), "1800 no command for 1800 s".into());
        assert_eq!(events, closed(Why::Goodbye { reason, detail }));
    }

    #[test]
    fn a_refused_sign_in_says_why() {
        for text in ["431 @signin 42 blocked", "432 @signin busy", "500 @signin unknown-command x"]
        {
            let mut link = open();
            let events = say(&mut link, &format!("{GREETING}{SWITCHED}{text}\r\n"));
            let code = text[..3].parse().unwrap();
            let fields = text[12..].to_owned();
            assert_eq!(events, closed(Why::Refused(Refused { code, fields })));
        }
        let mut link = open();
        _ = challenge(&mut link, b"other", 4096);
        assert_eq!(say(&mut link, "433 @auth probing fred\r\n"), [Event::Probing]);
        let fields = "not-authorized".into();
        let wanted = closed(Why::Refused(Refused { code: 535, fields }));
        assert_eq!(say(&mut link, "535 @auth not-authorized\r\n"), wanted);
    }

    #[test]
    fn an_impostor_gets_no_message() {
        let mut link = open();
        let script = challenge(&mut link, b"secret", 4096);
        _ = welcome(&mut link, &script);
        let proof = STANDARD.encode(format!("v={}", STANDARD.encode([1; 32])));
        let events = say(&mut link, &format!("230 @auth {proof} fred 0 aa\r\n"));
        assert_eq!(events, closed(Why::Scram(ScramFault::Impostor)));
        // Nor does one that would rather not prove itself.
        let mut link = open();
        _ = challenge(&mut link, b"secret", 4096);
        let events = say(&mut link, "230 @auth - fred 0 aa\r\n");
        assert_eq!(events, closed(Why::Broken(LineFault::Fields)));
        let mut link = open();
        let events = say(&mut link, &format!("{GREETING}{SWITCHED}230 @signin - fred 0 aa\r\n"));
        assert!(matches!(&events[..], [Event::Closed(Why::OutOfOrder(_))]), "{events:?}");
        assert_eq!(link.state(), State::Closed);
    }

    #[test]
    fn a_visit_needs_no_account() {
        let mut link = Link::knock();
        assert_eq!(heard(&mut link), "coded 1\r\n@0 ping\r\n@1 signout\r\n");
        let answers = "264 @0 pong\r\n290 @1 bye\r\n190 signed-out\r\n";
        let goodbye = Why::Goodbye { reason: "signed-out".into(), detail: String::new() };
        let wanted = [Event::Answered(0, Answer::Pong), Event::Closed(goodbye)];
        assert_eq!(say(&mut link, &format!("{GREETING}{SWITCHED}{answers}")), wanted);
    }

    #[test]
    fn over_tls_that_ends_elsewhere_nobody_signs_in() {
        let over_tls =
            || Link::open(&login(), &[7; NONCE_ENTROPY_BYTES], Channel::Exporter([5; 32]));
        let mut link = over_tls();
        let said = heard(&mut link);
        let first = decode(said.trim_end().rsplit(' ').next().unwrap()).unwrap();
        assert!(first.starts_with("p=tls-exporter,,n=fred,"), "{first}");
        let plus = SWITCHED.replace("scram-sha-256 ", "scram-sha-256 scram-sha-256-plus ");
        assert_eq!(say(&mut link, &format!("{GREETING}{plus}")), []);
        assert_eq!(link.state(), State::Switched);
        let events = say(&mut over_tls(), &format!("{GREETING}{SWITCHED}"));
        assert_eq!(events, closed(Why::NotEndToEnd));
    }

    #[test]
    fn nothing_prints_the_password() {
        let text = format!("{:?} {:?}", login(), open());
        assert!(!text.contains("secret") && !text.contains("115, 101"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_end_nowhere_worse_than_closed(
            text in "(>> Welcome to MMS\\.\r\n)?(([1-5][0-9]{2}|230|334|505)( @(signin|auth|1))?\
                ( [-0-9.a=,@]{0,6}){0,4}\r?\n|.{0,8}\n){0,5}",
            size in 1_usize..9,
        ) {
            let run = |size| {
                let mut link = open();
                text.as_bytes().chunks(size).for_each(|piece| link.receive(piece));
                link.lost();
                assert_ne!(link.state(), State::In);
                std::iter::from_fn(|| link.event()).last()
            };
            let whole = run(text.len().max(1));
            prop_assert!(matches!(&whole, Some(Event::Closed(_))));
            // What a stranger is quoted with depends on how much of it had come.
            if !matches!(&whole, Some(Event::Closed(Why::NotMms(_)))) {
                prop_assert_eq!(run(size), whole);
            }
        }
    }
}
