//! Stories of a companion: a server that knows fred's password, lines, losses and time, without
//! any of the world.

use super::super::link::Password;
use super::*;
use crate::crypto::{Stretch, client_key, server_key, stored_key};
use crate::proto::coded_client::{Kind, Refused};
use crate::scram::{Exchange, client_first};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const GREETING: &str = ">> Welcome to MMS.\r\n>> Type 'signin <user>'\r\n200 coded 1\r\n";
const WHO: &str = "260 @1 online=Fred offline=tim,Libero\r\n";

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
        assert_eq!(story.heard(), "@1 who\r\n");
        story.say(WHO);
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
        self.model.unreachable(error, self.now);
        self.effects()
    }

    /// Lets time pass up to the next deadline; says how long that was.
    fn wait(&mut self) -> (u64, Vec<String>) {
        let deadline = self.model.deadline().unwrap();
        let ms = deadline.since(self.now);
        self.now = deadline;
        self.model.tick(self.now);
        (ms, self.effects())
    }

    fn sign_in(&mut self, waiting: u32) -> Vec<String> {
        let decode = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        self.model.connected(&[7; NONCE_ENTROPY_BYTES], self.now);
        let said = self.heard();
        let first = said.trim_end().rsplit(' ').next().unwrap();
        assert_eq!(
            said,
            format!("coded 1\r\n@signin signin {} online scram {first}\r\n", self.model.login.user)
        );
        let first = client_first(&decode(first)).unwrap();
        let (exchange, message) = Exchange::begin(&first, &[9; 16], 4096, "servers");
        let mut stretch = Stretch::new(b"secret", &[9; 16], 4096);
        stretch.step(4096);
        let salted = stretch.result();
        let keys = (stored_key(&client_key(&salted)), server_key(&salted));
        let text = format!("{GREETING}334 @signin {}\r\n", STANDARD.encode(message));
        assert!(self.say(&text).is_empty());
        let said = self.heard();
        let last = decode(said.strip_prefix("@auth auth ").unwrap().trim_end());
        let proof = STANDARD.encode(exchange.finish(&last, &keys.0, &keys.1).unwrap());
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
    assert_eq!(story.say(&format!("{WHO}100 1.1 5 - tim hi\r\n")), wanted);
    story.model.acknowledge("1.1".parse().unwrap());
    assert_eq!(story.heard(), "@1 who\r\nack 1.1\r\n");
}

#[test]
fn what_was_not_answered_is_said_again_under_the_same_keys() {
    let mut story = Story::signed_in(false);
    story.type_in("send tim one");
    story.type_in("/send (tim Libero) two");
    story.type_in("broadcast three");
    let said =
        "@2 send =i:1 tim one\r\n@3 send =i:2 (tim Libero) two\r\n@4 broadcast =i:3 three\r\n";
    assert_eq!(story.heard(), said);
    assert_eq!(story.say("250 @2 1.1 sent tim\r\n"), ["message sent to tim", "done"]);
    assert_eq!(story.lose(), ["hang up", "the connection was lost; connecting again"]);
    let offline = "not connected; it goes out as soon as the server is back";
    assert_eq!(story.type_in("send tim four"), [offline]);
    let (ms, effects) = story.wait();
    assert!((500..=1000).contains(&ms) && effects == ["connect"], "{ms} {effects:?}");
    assert_eq!(story.sign_in(0)[0], "connected again; no messages were missed");
    let said = "@1 who\r\n@2 send =i:2 (tim Libero) two\r\n@3 broadcast =i:3 three\r\n\
                @4 send =i:4 tim four\r\n";
    assert_eq!(story.heard(), said);
    let answers = "251 @2 1.2 tim=sent Libero=saved\r\n252 @3 1.3 1\r\n250 @4 1.4 known\r\n";
    let wanted = [
        "names Fred tim Libero",
        "message sent to tim; Libero is offline, message will be saved for future delivery",
        "done",
        "message sent to 1 user",
        "done",
        "message sent to tim; an earlier try had got through",
        "done",
    ];
    assert_eq!(story.say(&format!("{WHO}{answers}")), wanted);
    story.model.leave(story.now);
    assert_eq!(story.heard(), "@5 signout\r\n");
    let effects = story.say("290 @5 bye\r\n190 signed-out\r\n");
    assert_eq!(effects, ["hang up", "Thank you for using MMS!", "end Left"]);
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
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], story.now);
    assert_eq!(story.wait().0, ANSWER_MOST_MS, "a sign-in has its time, too");
}

#[test]
fn nobody_tries_again_with_a_wrong_password() {
    let mut story = Story::begin(false);
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], story.now);
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
    story.model.connected(&[7; NONCE_ENTROPY_BYTES], story.now);
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
    let said = "@2 away {3} \r\n@3 send =i:1 tim {3}\r\n{3}\r\n@4 send =i:2 tim {3}\r\na\nb\r\n";
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
    story.say(WHO);
    story.type_in("broadcast tim LIBERO message hi");
    story.type_in("broadcast the message hi");
    let said = "@2 send =i:1 (tim LIBERO) hi\r\n@3 broadcast =i:2 the message hi\r\n";
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
