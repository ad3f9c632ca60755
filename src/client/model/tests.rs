//! Stories of a companion: a server that knows fred's password, lines, losses and time, without
//! any of the world.

use super::super::link::Password;
use super::*;
use crate::crypto::{Stretch, client_key, server_key, stored_key};
use crate::proto::coded_client::{Kind, Refused};
use crate::proto::text;
use crate::scram::{Channel, ClientFirst, Exchange, client_first};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::io;

const GREETING: &str = ">> Welcome to MMS.\r\n>> Type 'signin <user>'\r\n200 coded 1\r\n";
const WHO: &str = "260 @1 online=Fred offline=tim,Libero\r\n";
/// What a person's companion asks itself, and what it hears.
const ASKED: &str = "@1 who\r\n@2 receipts on\r\n";
const ANSWERS: &str = "260 @1 online=Fred offline=tim,Libero\r\n268 @2 receipts on\r\n";

fn decode(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// What the server knows of fred.
struct Account {
    rounds: u32,
    salt: Vec<u8>,
    stored: [u8; 32],
    server: [u8; 32],
}

impl Account {
    fn of(password: &str) -> Self {
        let (rounds, salt) = (4096, vec![9; 16]);
        let mut stretch = Stretch::new(password.as_bytes(), &salt, rounds);
        stretch.step(rounds);
        let salted = stretch.result();
        let (stored, server) = (stored_key(&client_key(&salted)), server_key(&salted));
        Self { rounds, salt, stored, server }
    }

    fn from(verifier: &str) -> Self {
        let parts: Vec<&str> = verifier.split(['$', ':']).collect();
        let ["SCRAM-SHA-256", rounds, salt, stored, server] = parts[..] else { panic!() };
        let key = |text| STANDARD.decode(text).unwrap().try_into().unwrap();
        let (rounds, salt) = (rounds.parse().unwrap(), STANDARD.decode(salt).unwrap());
        Self { rounds, salt, stored: key(stored), server: key(server) }
    }

    fn challenge(&self, first: &ClientFirst) -> (Exchange, String) {
        Exchange::begin(first, &self.salt, self.rounds, "servers")
    }
}

struct Story {
    model: Model,
    now: Millis,
    keys: u32,
}

impl Story {
    fn begin(patient: bool) -> Self {
        let credential = Credential::Password(Password(b"secret".to_vec()));
        let login = Login { user: "fred".into(), kind: Kind::Online, credential };
        let mut story = Self { model: Model::new(login, patient, 5), now: Millis(1), keys: 0 };
        assert_eq!(story.effects(), ["connect"]);
        story
    }

    fn signed_in(patient: bool) -> Self {
        let mut story = Self::begin(patient);
        story.sign_in(0);
        if patient {
            assert_eq!(story.heard(), "@1 who\r\n");
        } else {
            assert_eq!(story.heard(), ASKED);
        }
        story.say(if patient { WHO } else { ANSWERS });
        story
    }

    /// What the model wishes, in short.
    fn effects(&mut self) -> Vec<String> {
        let mut all = vec![];
        while let Some(effect) = self.model.effect() {
            all.push(match effect {
                Effect::Show(line) => line.text,
                Effect::Letter(letter) => format!("letter {} {}", letter.id, letter.text),
                Effect::Opened { user, spool } => format!("opened {user} {spool}"),
                Effect::Connect => "connect".into(),
                Effect::HangUp => "hang up".into(),
                Effect::Names(names) => format!("names {}", names.join(" ")),
                Effect::Done => "done".into(),
                Effect::End(End::Trouble(trouble)) => format!("end: {trouble}"),
                Effect::End(end) => format!("end {end:?}"),
            });
        }
        all
    }

    fn heard(&mut self) -> String {
        String::from_utf8(self.model.take_output()).unwrap()
    }

    fn say(&mut self, text: &str) -> Vec<String> {
        self.model.receive(text.as_bytes(), self.now);
        self.effects()
    }

    fn type_in(&mut self, line: &str) -> Vec<String> {
        let keys = &mut self.keys;
        let mut key = || {
            *keys += 1;
            format!("i:{keys}")
        };
        self.model.typed(line, &mut key, self.now);
        self.effects()
    }

    fn lose(&mut self) -> Vec<String> {
        self.model.gone(self.now);
        self.effects()
    }

    fn refuse(&mut self) -> Vec<String> {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        self.model.unreachable(Trouble::Unreachable(error), self.now);
        self.effects()
    }

    /// Lets time pass up to the next deadline; says how long that was.
    fn wait(&mut self) -> (u64, Vec<String>) {
        let deadline = self.model.deadline().unwrap();
        let ms = deadline.since(self.now);
        self.now = deadline.max(self.now);
        self.model.tick(self.now);
        (ms, self.effects())
    }

    fn sign_in(&mut self, waiting: u32) -> Vec<String> {
        self.sign_in_at(&Account::of("secret"), waiting)
    }

    fn sign_in_at(&mut self, account: &Account, waiting: u32) -> Vec<String> {
        self.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, self.now);
        let said = self.heard();
        let first = said.trim_end().rsplit(' ').next().unwrap();
        assert_eq!(
            said,
            format!("coded 1\r\n@signin signin {} online scram {first}\r\n", self.model.login.user)
        );
        let first = client_first(&decode(first), None).unwrap();
        let (exchange, message) = account.challenge(&first);
        let text = format!("{GREETING}334 @signin {}\r\n", STANDARD.encode(message));
        let effects = self.say(&text);
        if !effects.is_empty() {
            return effects;
        }
        assert_eq!(self.wait(), (0, vec![]), "the work on the password is wanted at once");
        let said = self.heard();
        let last = decode(said.strip_prefix("@auth auth ").unwrap().trim_end());
        let proof = exchange.finish(&last, &account.stored, &account.server);
        let proof = STANDARD.encode(proof.unwrap());
        self.say(&format!("230 @auth {proof} Fred {waiting} 00aa\r\n"))
    }
}

#[test]
fn whoever_enters_sees_who_is_there() {
    let mut story = Story::begin(false);
    let welcome = "Welcome Fred, you have 2 messages waiting:";
    assert_eq!(story.sign_in(2), [welcome, "opened Fred 00aa"]);
    let wanted = [
        "names Fred tim Libero",
        "User Fred is online\nUsers tim and Libero are NOT online",
        "letter 1.1 hi",
    ];
    assert_eq!(story.say(&format!("{ANSWERS}100 1.1 5 - tim hi\r\n")), wanted);
    story.model.acknowledge("1.1".parse().unwrap());
    assert_eq!(story.heard(), format!("{ASKED}ack 1.1\r\n"));
}

#[test]
fn what_was_not_answered_is_said_again_under_the_same_keys() {
    let mut story = Story::signed_in(false);
    story.type_in("send tim one");
    story.type_in("/send (tim Libero) two");
    story.type_in("broadcast three");
    let said =
        "@3 send =i:1 tim one\r\n@4 send =i:2 (tim Libero) two\r\n@5 broadcast =i:3 three\r\n";
    assert_eq!(story.heard(), said);
    assert_eq!(story.say("250 @3 1.1 sent tim\r\n"), [""; 0], "its receipt may come at once");
    let lost =
        ["message sent to tim", "done", "hang up", "the connection was lost; connecting again"];
    assert_eq!(story.lose(), lost);
    let offline = "not connected; it goes out as soon as the server is back";
    assert_eq!(story.type_in("send tim four"), [offline]);
    let (ms, effects) = story.wait();
    assert!((500..=1000).contains(&ms) && effects == ["connect"], "{ms} {effects:?}");
    assert_eq!(story.sign_in(0)[0], "connected again; no messages were missed");
    let said = "@3 send =i:2 (tim Libero) two\r\n@4 broadcast =i:3 three\r\n\
                @5 send =i:4 tim four\r\n";
    assert_eq!(story.heard(), format!("{ASKED}{said}"));
    let answers = "251 @3 1.2 tim=sent Libero=saved\r\n252 @4 1.3 1\r\n250 @5 1.4 known\r\n";
    let wanted = [
        "names Fred tim Libero",
        "message sent to tim; Libero is offline, message will be saved for future delivery",
        "done",
        "message sent to 1 user",
        "done",
        "message sent to tim; an earlier try had got through",
        "done",
    ];
    assert_eq!(story.say(&format!("{ANSWERS}{answers}")), wanted);
    story.model.leave(story.now);
    assert_eq!(story.heard(), "@6 signout\r\n");
    let effects = story.say("290 @6 bye\r\n190 signed-out\r\n");
    assert_eq!(effects, ["hang up", "Thank you for using MMS!", "end Left"]);
}

#[test]
fn a_message_has_a_third_mark() {
    let mut story = Story::signed_in(false);
    story.type_in("send tim one");
    story.type_in("send Libero two");
    story.heard();
    // The reader's companion has it at once: one line tells both.
    assert_eq!(story.say("250 @3 1.1 sent tim\r\n"), [""; 0]);
    assert_eq!(story.say("115 delivered 1.1 tim\r\n"), ["delivered to tim", "done"]);
    // Of one who was away the mark comes once he is there.
    let saved = "Libero is offline, message will be saved for future delivery";
    assert_eq!(story.say("250 @4 1.2 saved Libero\r\n"), [saved, "done"]);
    assert_eq!(story.say("115 delivered 1.2 Libero\r\n"), ["delivered to Libero: two"]);
    // Who reads with telnet has it a while later.
    story.type_in("send tim three");
    assert_eq!(story.say("250 @5 1.3 sent tim\r\n"), [""; 0]);
    assert_eq!(story.wait(), (200, vec!["message sent to tim".into(), "done".into()]));
    assert_eq!(story.say("115 delivered 1.3 tim\r\n"), ["delivered to tim: three"]);
    // What happens meanwhile is shown in its order.
    story.type_in("send tim four");
    story.type_in("whoelse");
    let effects = story.say("250 @6 1.4 sent tim\r\n261 @7 tim\r\n");
    assert_eq!(effects, ["message sent to tim", "done", "User tim is online", "done"]);
    story.type_in("send tim five");
    let effects = story.say("250 @8 1.5 sent tim\r\n100 1.6 5 - tim and?\r\n");
    assert_eq!(effects, ["message sent to tim", "done", "letter 1.6 and?"]);
    // A lost connection takes the marks along.
    assert_eq!(story.lose().len(), 2);
    story.wait();
    story.sign_in(0);
    assert_eq!(story.say(&format!("{ANSWERS}115 delivered 1.5 tim\r\n")).len(), 1, "the names");
}

#[test]
fn a_program_behind_a_pipe_gets_no_marks() {
    let mut story = Story::signed_in(true);
    story.type_in("send tim one");
    assert_eq!(story.heard(), "@2 send =i:1 tim one\r\n");
    assert_eq!(story.say("250 @2 1.1 sent tim\r\n"), ["message sent to tim", "done"]);
}

#[test]
fn pauses_grow_and_are_told_once() {
    let mut story = Story::signed_in(false);
    assert_eq!(story.lose().len(), 2);
    let mut pauses = vec![];
    for n in 0..8 {
        let (ms, effects) = story.wait();
        assert_eq!(effects, ["connect"]);
        pauses.push(ms);
        let told = story.refuse();
        assert_eq!(told.len(), usize::from(n == 0), "{told:?}");
    }
    assert!(pauses.windows(2).take(4).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert!(pauses.iter().all(|ms| (500..=30_000).contains(ms)), "{pauses:?}");
    assert!(pauses[7] >= 15_000);
}

#[test]
fn a_silent_server_is_left() {
    let mut story = Story::signed_in(false);
    story.type_in("whoelse");
    let (ms, effects) = story.wait();
    assert_eq!((ms, effects[0].as_str()), (ANSWER_MOST_MS, "hang up"));
    story.wait();
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, story.now);
    assert_eq!(story.wait().0, ANSWER_MOST_MS, "a sign-in has its time, too");
}

#[test]
fn a_server_that_asks_for_endless_work_is_left() {
    let mut story = Story::begin(false);
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, story.now);
    let said = story.heard();
    let first = said.trim_end().rsplit(' ').next().unwrap();
    let first = String::from_utf8(STANDARD.decode(first).unwrap()).unwrap();
    let first = client_first(&first, None).unwrap();
    let (_, message) = Exchange::begin(&first, &[9; 16], 100_000_000, "servers");
    story.say(&format!("{GREETING}334 @signin {}\r\n", STANDARD.encode(message)));
    for _ in 0..3 {
        assert_eq!(story.wait(), (0, vec![]), "other things are done between the slices");
    }
    story.now = story.now.plus(ANSWER_MOST_MS);
    assert_eq!(story.wait().1, ["hang up", "end: the connection was lost"]);
}

#[test]
fn nobody_tries_again_with_a_wrong_password() {
    let mut story = Story::begin(false);
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, story.now);
    let text = format!("{GREETING}535 @signin not-authorized\r\n");
    assert_eq!(story.say(&text), ["hang up", "end: user or password is wrong"]);
    let mut story = Story::signed_in(false);
    let effects = story.say("190 password-changed\r\n");
    assert_eq!(effects, ["hang up", "end: the password of this user was changed"]);
    let mut story = Story::begin(false);
    assert_eq!(story.refuse().len(), 1, "a server that was never there");
}

#[test]
fn a_block_is_waited_for() {
    let mut story = Story::signed_in(false);
    story.lose();
    story.wait();
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, story.now);
    story.say(&format!("{GREETING}431 @signin blocked 42\r\n"));
    assert!(story.wait().0 >= 42_000);
    let refused = Refused { code: 431, fields: "blocked 42".into() };
    assert!(refused.to_string().contains("42 s"));
}

#[test]
fn somebody_idle_sleeps_until_enter() {
    let mut story = Story::signed_in(false);
    let effects = story.say("190 idle 1800\r\n");
    assert!(effects[1].contains("press Enter"), "{effects:?}");
    assert_eq!(story.model.deadline(), None);
    assert_eq!(story.type_in(""), ["connect", "done"]);
}

#[test]
fn what_the_companion_knows_itself_is_answered_in_its_turn() {
    let mut story = Story::signed_in(true);
    story.type_in("sned tim secret");
    assert!(story.type_in("send tim").is_empty());
    assert!(story.type_in("ack 9.9").is_empty());
    assert_eq!(story.heard(), "@2 sned\r\n", "no more than the word");
    let effects = story.say("500 @2 unknown-command sned send\r\n");
    assert_eq!(effects.len(), 6);
    assert!(effects[0].starts_with("'sned' is no command; did you mean 'send'?"));
    assert!(effects[2].starts_with("send: a message is missing"));
    assert!(effects[4].starts_with("'ack' is no command"));
}

#[test]
fn nothing_typed_derails_the_dialect() {
    let mut story = Story::signed_in(false);
    story.type_in("away {3}");
    story.type_in("send tim {3}");
    story.type_in("@1 ping");
    story.type_in("send tim a\nb");
    let said = "@3 away {3} \r\n@4 send =i:1 tim {3}\r\n{3}\r\n@5 send =i:2 tim {3}\r\na\nb\r\n";
    assert_eq!(story.heard(), said);
    let mut story = Story::signed_in(false);
    let effects = story.type_in(&format!("send tim {}", "x".repeat(COUNTED_BYTES + 1)));
    assert!(effects[0].contains("65536 at most"), "{effects:?}");
    let effects = story.type_in(&format!("send {} x", "n".repeat(5000)));
    assert!(effects[0].contains("too long"), "{effects:?}");
    assert_eq!(story.heard(), "");
}

#[test]
fn a_broadcast_to_some_goes_to_nobody_else() {
    let mut story = Story::begin(false);
    story.sign_in(0);
    story.heard();
    let effects = story.type_in("broadcast tim LIBERO message hi");
    assert_eq!(effects, Vec::<String>::new(), "the names are not known yet");
    story.say(ANSWERS);
    story.type_in("broadcast tim LIBERO message hi");
    story.type_in("broadcast the message hi");
    let said = "@3 send =i:1 (tim LIBERO) hi\r\n@4 broadcast =i:2 the message hi\r\n";
    assert_eq!(story.heard(), said);
}

#[test]
fn leaving_waits_for_answers_but_not_for_good() {
    let mut story = Story::signed_in(false);
    story.type_in("send tim one");
    story.lose();
    story.model.leave(story.now);
    let mut last = vec![];
    while !last.iter().any(|line: &String| line.starts_with("end")) {
        last = story.wait().1;
        if last == ["connect"] {
            last = story.refuse();
        }
    }
    assert_eq!(last, ["end Unanswered(1)"]);
    assert!(story.now.0 <= 1 + LEAVE_MOST_MS);
    // A program waits longer.
    let mut story = Story::signed_in(true);
    story.type_in("send tim one");
    story.lose();
    story.model.leave(story.now);
    let mut last = vec![];
    while !last.iter().any(|line: &String| line.starts_with("end")) {
        last = story.wait().1;
        if last == ["connect"] {
            last = story.refuse();
        }
    }
    assert!(last.contains(&"end Unanswered(1)".to_owned()) && story.now.0 > PIPE_PATIENCE_MS);
}

impl Story {
    /// Both passwords were typed. Returns what the server is told.
    fn passwd(&mut self, current: &str, new: &str) -> Vec<String> {
        let password = |text: &str| Password(text.as_bytes().to_vec());
        let with = Ingredients { nonce: [5; NONCE_ENTROPY_BYTES], salt: [6; 16], rounds: 4096 };
        self.model.passwd(password(current), &password(new), &with, self.now);
        self.effects()
    }

    /// The server asks for the proof; returns what it keeps, and what it says if it is right.
    fn prove(&mut self, number: u32, current: &str) -> (Account, Option<String>) {
        let said = self.heard();
        let words: Vec<&str> = said.trim_end().split(' ').collect();
        let tag = format!("@{number}");
        let [its_tag, "passwd", "scram", first, verifier] = words[..] else { panic!("{said}") };
        assert_eq!(its_tag, tag);
        let known = Account::of(current);
        let (exchange, message) = known.challenge(&client_first(&decode(first), None).unwrap());
        assert!(self.say(&format!("334 {tag} {}\r\n", STANDARD.encode(message))).is_empty());
        let said = self.heard();
        let last = said.strip_prefix(&format!("{tag} auth ")).expect(&said).trim_end();
        let proof = exchange.finish(&decode(last), &known.stored, &known.server);
        (Account::from(verifier), proof.map(|proof| STANDARD.encode(proof)))
    }
}

#[test]
fn a_password_is_changed_and_the_next_sign_in_uses_it() {
    let mut story = Story::signed_in(false);
    assert!(story.passwd("secret", "another").is_empty());
    // Whatever comes behind it waits, so that nothing stands between its parts.
    story.type_in("send tim hi");
    let (account, proof) = story.prove(3, "secret");
    let effects = story.say(&format!("267 @3 {} changed\r\n", proof.unwrap()));
    let wanted = "password changed; your other sessions are signed off; \
                  if 'mms login' saved keys, save new ones with it";
    assert_eq!(effects, [wanted, "done"]);
    assert_eq!(story.heard(), "@4 send =i:1 tim hi\r\n");
    story.say("250 @4 1.1 sent tim\r\n");
    story.lose();
    story.wait();
    assert_eq!(story.sign_in_at(&account, 0)[0], "connected again; no messages were missed");
    // What was typed while there was no server goes out in the same order.
    let mut story = Story::signed_in(false);
    story.lose();
    story.passwd("secret", "another");
    story.type_in("send tim hi");
    story.wait();
    story.sign_in(0);
    let said = story.heard();
    let said = said.strip_prefix(ASKED).expect(&said);
    assert!(said.starts_with("@3 passwd scram ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_change_that_is_refused_changes_nothing_here_either() {
    for (answer, words) in [
        ("535 @3 wrong-password", "the current password is wrong; nothing was changed"),
        ("435 @3 passwords-busy", "the password cannot be changed now, try again later"),
        (
            "437 @3 password-not-saved",
            "the password file cannot be written; not changed, the operator can help",
        ),
        ("431 @3 blocked 9", "sign-ins of this user from here are blocked for 9 s"),
    ] {
        let mut story = Story::signed_in(false);
        story.passwd("wrong", "another");
        let (_, proof) = story.prove(3, "secret");
        assert_eq!(proof, None);
        assert_eq!(story.say(&format!("{answer}\r\n")), [words, "done"]);
        story.lose();
        story.wait();
        assert_eq!(story.sign_in(0)[0], "connected again; no messages were missed");
    }
    // The third of a connection ends it.
    let mut story = Story::signed_in(false);
    story.passwd("wrong", "another");
    story.prove(3, "secret");
    let effects = story.say("190 too-many-failures 60\r\n");
    let wanted = ["hang up", "the current password is wrong; nothing was changed", "done"];
    assert_eq!(effects[..3], wanted);
    assert_eq!(effects[3..], ["end: too many failed attempts"]);
    let mut story = Story::signed_in(false);
    let effects = story.passwd("secret", "");
    assert_eq!(effects[0], "a password has at least one character; nothing was changed");
    let effects = story.passwd("secret", "a\tb");
    assert_eq!(effects[0], "a password has no control characters; nothing was changed");
    story.passwd("secret", "another");
    story.heard();
    assert_eq!(story.passwd("secret", "third"), [""; 0], "told in its turn");
    assert_eq!(story.heard(), "");
    let effects = story.say("435 @3 passwords-busy\r\n");
    assert_eq!((effects.len(), &*effects[2]), (4, &*effects[0]));
}

#[test]
fn a_change_without_an_answer_was_made_or_not() {
    let lost = |story: &mut Story| {
        story.passwd("secret", "another");
        let (account, proof) = story.prove(3, "secret");
        assert!(proof.is_some());
        let effects = story.lose();
        assert!(
            effects[1].starts_with("no answer: whether the password is changed"),
            "{effects:?}"
        );
        story.wait();
        account
    };
    // Made.
    let mut story = Story::signed_in(false);
    let account = lost(&mut story);
    let notice = "the password was changed; signing in with the new one";
    assert_eq!(story.sign_in_at(&account, 0), ["hang up", notice, "connect"]);
    story.heard();
    assert_eq!(story.sign_in_at(&account, 0)[0], "connected again; no messages were missed");
    assert_eq!(story.heard(), ASKED, "and is not asked for again");
    // Not made.
    let mut story = Story::signed_in(false);
    lost(&mut story);
    assert_eq!(story.sign_in(0)[0], "connected again; no messages were missed");
    // Made while fred was signed in with the old one.
    assert_eq!(story.say("190 password-changed\r\n"), ["hang up", notice, "connect"]);
    // A third one, of which only the person knows.
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], Channel::Plain, story.now);
    let effects = story.say(&format!("{GREETING}535 @signin not-authorized\r\n"));
    assert_eq!(effects, ["hang up", "end: user or password is wrong"]);
}

#[test]
fn whoever_says_that_it_is_changed_must_know_the_account() {
    let impostor = STANDARD.encode(format!("v={}", STANDARD.encode([0; 32])));
    for (said, why) in [
        ("267 @3 dj1BQUFB changed", "the SCRAM message"),
        (&*format!("267 @3 {impostor} changed"), "could not prove that it knows the account"),
        ("334 @3 cj1h", "does not belong"),
        ("334 @4 cj1h", "does not belong"),
    ] {
        let mut story = Story::signed_in(false);
        story.passwd("secret", "another");
        story.prove(3, "secret");
        let effects = story.say(&format!("{said}\r\n"));
        assert!(effects.iter().any(|effect| effect.contains(why)), "{said}: {effects:?}");
    }
    let mut story = Story::signed_in(false);
    story.type_in("whoelse");
    let effects = story.say("267 @3 - changed\r\n");
    assert!(effects[1].contains("does not belong"), "{effects:?}");
}

#[test]
fn no_password_is_taken_from_a_pipe() {
    let mut story = Story::signed_in(true);
    for line in ["passwd", "/passwd secret another"] {
        let effects = story.type_in(line);
        assert!(effects[0].starts_with("a password is changed at a terminal"), "{effects:?}");
    }
    assert_eq!(story.heard(), "");
}

/// Whatever a server says, what is shown, what Tab completes and what is written is harmless.
#[test]
fn no_line_of_a_hostile_server_drives_the_terminal() {
    let refused: Vec<char> =
        (0..0x2070).filter_map(char::from_u32).filter(|&c| text::is_refused(c)).collect();
    assert!(refused.len() > 70);
    // Each story takes a sign-in: every eighth of them will do.
    let refused = refused.into_iter().step_by(8);
    let templates = [
        "100 1.1 5 - X X",
        "100 1.1 5 - tim X",
        "100 1.1 5 X tim X",
        "101 X X",
        "110 X online",
        "112 second-signin X",
        "113 damaged 1.1 X",
        "190 X",
        "190 idle X",
        "230 X",
        "250 @1 X",
        "250 @3 1.1 sent X",
        "251 @3 1.1 X=sent",
        "251 @3 - X=full,tim=X",
        "252 @3 1.1 2 full=X",
        "260 @1 online=X offline=Fred,X",
        "261 @3 X",
        "262 @3 away X",
        "263 @3 X",
        "265 @3 X",
        "266 @3 blocked X",
        "431 @3 blocked X",
        "452 @3 full X",
        "500 @3 X",
        "504 @3 X",
        "535 @3 X",
        "550 @3 no-such-user X X",
        "X",
        "100 1.1 5 - tim {3}\r\naXb",
    ];
    let mut shown = 0;
    for c in refused {
        for template in templates {
            let mut story = Story::begin(false);
            story.sign_in(0);
            story.type_in("whoelse");
            let line = template.replace('X', &format!("a{c}b"));
            story.model.receive(format!("{line}\r\n").as_bytes(), story.now);
            while let Some(effect) = story.model.effect() {
                let text = match effect {
                    Effect::Show(line) => line.text,
                    Effect::Letter(letter) => screen::letter(&letter, false, 0).text,
                    Effect::Opened { user, .. } => user,
                    Effect::Names(names) => names.join(" "),
                    Effect::End(End::Trouble(trouble)) => trouble.to_string(),
                    _ => continue,
                };
                shown += 1;
                let odd = text.chars().find(|&c| text::is_refused(c));
                assert_eq!(odd, None, "{text:?} of {line:?}");
            }
        }
    }
    assert!(shown > 200, "{shown}");
}
