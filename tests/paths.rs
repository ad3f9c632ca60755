//! Stories of the rules that need more than one conversation to tell: guesses in parallel, a
//! backlog in parts, a first session that lives or is dead, a name that changes hands.

mod support;

use mms::core::event::{Action, Conn, End, Event, Flow, Input, Note, Trust};
use mms::core::hub::{Duplicate, Hub, Rules, SelfSend, Turn};
use mms::core::password::Verifier;
use mms::core::record::{
    Journal, Letter, LetterId, LetterKind, Location, Recipient, Record, push_recipient,
};
use mms::engine::{Engine, Output};
use mms::limits::{CREDIT_LETTERS, PROBE_DEAD_MS, ROUNDS_A_SLICE};
use mms::proto::name::UserName;
use mms::proto::plain;
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::net::IpAddr;
use support::sim_disk::SimDisk;

/// The engine, and all that was said since it was last asked, as lines of `conn text`.
struct House {
    disk: SimDisk,
    engine: Engine<SimDisk>,
    now: Now,
    said: Vec<String>,
    /// How much was said to each connection, and who is watched or held.
    counts: [u32; 64],
    watched: Vec<Conn>,
}

fn rules() -> Rules {
    Rules {
        idle_timeout_s: 1800,
        block_time_s: 60,
        max_failures: 3,
        self_send: SelfSend::Allowed,
        duplicate: Duplicate::Refuse,
        mailbox_letters: 10_000,
        mailbox_bytes: 1 << 24,
    }
}

fn entries(users: &[(&str, u32)]) -> Vec<(UserName, Verifier)> {
    let entry = |&(user, rounds): &(&str, u32)| {
        let name = UserName::new(user).unwrap();
        (name, Verifier::derive(b"p", b"saltsalt", rounds))
    };
    users.iter().map(entry).collect()
}

fn open(disk: &SimDisk, users: &[(&str, u32)], now: Now) -> Engine<SimDisk> {
    let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
        bytes.fill(7);
        Ok(())
    };
    let opened =
        Engine::open(disk.clone(), Config::default(), rules(), entries(users), now, &mut entropy);
    opened.expect("the disk is well").0
}

impl House {
    fn with(users: &[(&str, u32)]) -> Self {
        let now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };
        let disk = SimDisk::new();
        let engine = open(&disk, users, now);
        Self { disk, engine, now, said: vec![], counts: [0; 64], watched: vec![] }
    }

    fn restart(&mut self, users: &[(&str, u32)]) {
        self.engine = open(&self.disk, users, self.now);
        self.counts = [0; 64];
        self.watched.clear();
    }

    fn event(&mut self, event: Event<'_>) -> Flow {
        self.engine.handle(event, self.now)
    }

    /// The rest of a turn. Tells whether the engine wants another one at once.
    fn turn(&mut self) -> bool {
        if self.engine.deadline().is_some_and(|at| at <= self.now.mono) {
            self.engine.tick(self.now);
        }
        self.engine.commit().expect("the disk is well");
        let Self { engine, said, counts, watched, .. } = self;
        let mut say = |conn: Conn, bytes: Vec<u8>| {
            counts[conn.0 as usize] += 1;
            let text = String::from_utf8(bytes).unwrap();
            said.extend(text.lines().map(|line| format!("{} {line}", conn.0)));
        };
        let released = engine.release(|output| {
            let mut bytes = vec![];
            match output {
                Output::Say(conn, _, reply) => {
                    plain::render(reply, &mut bytes);
                    say(conn, bytes);
                }
                Output::Show { conn, from, body, showing } => {
                    plain::letter(from.as_str(), body, showing, &mut bytes);
                    say(conn, bytes);
                }
                Output::Watch(conn) => watched.push(conn),
                Output::Letter(..) | Output::Look(_) | Output::Resume(_) | Output::Close { .. } => {
                }
            }
        });
        released.expect("the disk is well");
        self.engine.deadline().is_some_and(|at| at <= self.now.mono)
    }

    fn run(&mut self) -> usize {
        let mut turns = 1;
        while self.turn() {
            turns += 1;
        }
        turns
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus(ms);
        self.now.unix_ms += ms;
        self.run();
    }

    fn connect(&mut self, conn: u32, address: [u8; 4]) {
        let (conn, address) = (Conn(conn), IpAddr::from(address));
        self.event(Event::Opened { conn, address, trust: Trust::Trusted });
    }

    fn line(&mut self, conn: u32, line: &str) -> Flow {
        self.event(Event::Line { conn: Conn(conn), line: line.as_bytes(), body: None })
    }

    fn signed_in(&mut self, conn: u32, user: &str) {
        self.connect(conn, [10, 0, 0, 1]);
        self.line(conn, &format!("signin {user} p"));
        self.run();
    }

    /// What was said since the last call to `conn`.
    fn heard(&mut self, conn: u32) -> Vec<String> {
        let prefix = format!("{conn} ");
        let (mine, others): (Vec<_>, _) =
            std::mem::take(&mut self.said).into_iter().partition(|line| line.starts_with(&prefix));
        self.said = others;
        mine.iter().map(|line| line[prefix.len()..].to_owned()).collect()
    }

    fn count(&self, text: &str) -> usize {
        self.said.iter().filter(|line| line.contains(text)).count()
    }
}

#[test]
fn guesses_in_parallel_get_no_more_tries_than_one_after_another() {
    let mut house = House::with(&[("fred", 1)]);
    for conn in 0..10 {
        house.connect(conn, [10, 0, 0, 1]);
        assert_eq!(house.line(conn, "signin fred wrong"), Flow::Hold);
    }
    house.connect(10, [10, 0, 0, 2]);
    house.line(10, "signin fred p");
    house.run();
    assert_eq!(house.count("not authorized"), 2);
    assert_eq!(house.count("Too many failed attempts, blocked for 60 s"), 1);
    assert_eq!(house.count("user fred is blocked, 60 s left"), 7);
    assert_eq!(house.count("Welcome fred"), 1, "another address is not blocked");
}

#[test]
fn a_check_under_way_is_no_fourth_try_beside_three_proofs() {
    for password in ["wrong", "p"] {
        let mut house = House::with(&[("fred", 5 * ROUNDS_A_SLICE)]);
        house.connect(0, [10, 0, 0, 1]);
        assert_eq!(house.line(0, &format!("signin fred {password}")), Flow::Hold);
        house.turn();
        house.connect(1, [10, 0, 0, 1]);
        house.line(1, "coded 1");
        for _ in 0..3 {
            house.line(1, "signin fred tool scram biwsbj1mcmVkLHI9YWJj");
            house.line(1, "auth Yz1iaXdz");
        }
        house.run();
        assert_eq!(house.count("Too many failed attempts, blocked for 60 s"), 1);
        assert_eq!(house.heard(0).pop().unwrap(), ">> user fred is blocked, 60 s left");
        house.pass(60_000);
        house.line(0, "signin fred p");
        house.run();
        assert_eq!(house.count("Welcome fred"), 1);
    }
}

#[test]
fn a_costly_password_is_checked_in_slices_while_others_go_on() {
    let rounds = 10 * ROUNDS_A_SLICE;
    let mut house = House::with(&[("slow", rounds), ("fred", 1), ("tim", 1)]);
    house.signed_in(0, "fred");
    house.connect(1, [10, 0, 0, 1]);
    assert_eq!(house.line(1, "signin slow p"), Flow::Hold);
    let mut turns = 0;
    loop {
        turns += 1;
        house.line(0, "send tim hi");
        let more = house.turn();
        assert_eq!(
            house.heard(0).last().unwrap(),
            ">> tim is offline, message will be saved for future delivery"
        );
        if !more {
            break;
        }
    }
    assert_eq!(turns, 10, "each turn spent one slice");
    assert_eq!(house.count("Welcome slow"), 1);
}

#[test]
fn an_unknown_user_costs_as_many_turns_as_a_known_one() {
    let mut house = House::with(&[("fred", 5 * ROUNDS_A_SLICE)]);
    let mut turns = vec![];
    for user in ["fred", "nobody"] {
        house.connect(0, [10, 0, 0, 1]);
        house.line(0, &format!("signin {user} wrong"));
        turns.push(house.run());
        let last = house.heard(0).pop().unwrap();
        assert_eq!(last, format!(">> user {user} is not authorized to use MMS"));
        house.event(Event::Closed { conn: Conn(0), end: End::Broken });
    }
    assert_eq!(turns, [5, 5]);
}

#[test]
fn how_long_an_answer_takes_tells_no_name() {
    // Most users have few rounds, some have many.
    let users = [("a", 1), ("b", 1), ("fred", 5 * ROUNDS_A_SLICE)];
    let mut house = House::with(&users);
    let mut slow = 0;
    for n in 0..60 {
        house.connect(0, [10, 0, 0, 1]);
        house.line(0, &format!("signin nobody{n} wrong"));
        slow += usize::from(house.run() == 5);
        house.event(Event::Closed { conn: Conn(0), end: End::Broken });
    }
    assert!((10..=30).contains(&slow), "as rare among strangers as among users: {slow} of 60");
}

#[test]
fn a_backlog_comes_in_parts_and_what_is_new_waits_behind_it() {
    let mut house = House::with(&[("fred", 1), ("tim", 1)]);
    house.signed_in(0, "tim");
    for n in 0..2 * CREDIT_LETTERS {
        house.line(0, &format!("send fred m{n:05}"));
    }
    house.signed_in(1, "fred");
    house.line(0, "send fred new");
    house.run();
    let letters = |house: &mut House| -> Vec<String> {
        house.heard(1).into_iter().filter(|line| line.contains("tim: ")).collect()
    };
    let first = letters(&mut house);
    assert_eq!(first.len(), CREDIT_LETTERS as usize);
    assert_eq!(house.watched, [Conn(1)]);
    let mut all = first;
    while let Some(conn) = house.watched.pop() {
        house.event(Event::Drained { conn });
        house.run();
        all.extend(letters(&mut house));
    }
    let mut wanted: Vec<String> =
        (0..2 * CREDIT_LETTERS).map(|n| format!(">>      tim: m{n:05}")).collect();
    wanted.push(">> tim: new".into());
    assert_eq!(all, wanted);
}

#[test]
fn a_first_session_that_answers_stays() {
    let mut house = House::with(&[("fred", 1)]);
    house.signed_in(0, "fred");
    house.connect(1, [10, 0, 0, 9]);
    house.line(1, "signin fred p");
    house.run();
    let notice = house.heard(0).pop().unwrap();
    assert!(notice.contains("10.0.0.9 tries to sign in as fred"), "{notice}");
    house.pass(10);
    assert_eq!(
        house.heard(1).pop().unwrap(),
        ">> Type 'signin <user>' to sign in, 'help' for the commands."
    );
    let through = house.counts[0];
    house.event(Event::Acknowledged { conn: Conn(0), through, input: Input::Taken });
    house.run();
    assert_eq!(house.heard(1), [">> fred is already signed in"]);
    house.line(0, "whoelse");
    house.run();
    assert_eq!(house.heard(0), [">> Nobody else is online"]);
}

#[test]
fn a_first_session_that_is_dead_gives_way_with_its_letters() {
    let mut house = House::with(&[("fred", 1), ("tim", 1)]);
    house.signed_in(0, "fred");
    house.signed_in(2, "tim");
    house.line(2, "send fred did this arrive?");
    house.connect(1, [10, 0, 0, 9]);
    house.line(1, "signin fred p");
    house.run();
    house.heard(1);
    house.pass(1000);
    assert!(house.heard(1)[0].contains("please wait"));
    house.pass(PROBE_DEAD_MS - 1001);
    assert!(house.heard(1).is_empty());
    house.pass(1);
    let wanted =
        [">> Welcome fred, you have 1 message waiting:", ">>      (again) tim: did this arrive?"];
    assert_eq!(house.heard(1), wanted);
}

#[test]
fn a_name_that_changes_hands_takes_no_letters_along() {
    let both = [("fred", 1), ("tim", 1)];
    let mut house = House::with(&both);
    house.signed_in(0, "tim");
    house.line(0, "send fred for the first fred");
    house.run();
    house.event(Event::Reloaded { entries: entries(&both[1..]) });
    house.run();
    house.event(Event::Reloaded { entries: entries(&both) });
    house.line(0, "send fred for the second fred");
    house.run();
    for restart in [false, true] {
        if restart {
            house.restart(&both);
        }
        house.signed_in(1, "fred");
        let heard = house.heard(1);
        assert_eq!(heard[2], ">> Welcome fred, you have 1 message waiting:");
        assert!(heard[3].ends_with("tim: for the second fred"), "{heard:?}");
        house.event(Event::Closed { conn: Conn(1), end: End::Broken });
    }
}

#[test]
fn a_name_that_went_while_the_server_was_down_has_its_letters_held() {
    let both = [("fred", 1), ("tim", 1)];
    let mut house = House::with(&both);
    house.signed_in(0, "tim");
    house.line(0, "send fred for the first fred");
    house.run();
    house.restart(&both[1..]);
    house.run();
    house.restart(&both);
    house.signed_in(1, "fred");
    assert_eq!(house.heard(1)[2], ">> Welcome fred, you have no messages waiting");
}

/// A journal that nobody reads.
struct Paper;

impl Journal for Paper {
    fn append(&mut self, _: &Record<'_>) -> Location {
        Location::default()
    }

    fn release(&mut self, _: Location) {}
}

#[test]
fn a_name_that_is_reserved_by_now_keeps_what_was_confirmed() {
    let mut hub = Hub::new(rules(), entries(&[("fred", 1)]));
    let (id, at, mut to) = (LetterId { epoch: 1, seq: 1 }, Location::default(), String::new());
    for name in ["fred", "usage"] {
        push_recipient(&mut to, Recipient { name, offered: false });
    }
    let kind = LetterKind::Direct;
    let letter = Letter { id, unix_ms: 1, kind, key: None, from: "send", to: &to, body: "hi" };
    hub.restore(&Record::Letter(letter), at, &mut |_| panic!("it was dropped"));
    hub.restored(2);
    let (now, mut out) = (Now { mono: Millis(1), unix_ms: 2 }, vec![]);
    hub.hold_orphans(&mut Turn { now, journal: &mut Paper, out: &mut out });
    let held = Note::Held { user: UserName::once("usage").unwrap(), letters: 1 };
    assert_eq!(out, [Action::Note(held)]);
    assert!(hub.needs("fred", id, at) && hub.needs("usage", id, at));
}

#[test]
fn a_removed_user_does_not_get_in_with_a_check_that_was_under_way() {
    let mut house = House::with(&[("fred", 3 * ROUNDS_A_SLICE), ("tim", 1)]);
    house.connect(0, [10, 0, 0, 1]);
    house.line(0, "signin fred p");
    house.turn();
    house.event(Event::Reloaded { entries: entries(&[("tim", 1)]) });
    house.run();
    assert_eq!(house.heard(0).pop().unwrap(), ">> user fred is not authorized to use MMS");
}

#[test]
fn failures_of_a_removed_user_do_not_block_the_next_holder_of_the_name() {
    for coded in [false, true] {
        let mut house = House::with(&[("fred", 3 * ROUNDS_A_SLICE), ("tim", 1)]);
        for conn in 0..3 {
            house.connect(conn, [10, 0, 0, 1]);
            if coded {
                house.line(conn, "coded 1");
                house.line(conn, "signin fred tool scram biwsbj1mcmVkLHI9YWJj");
            }
        }
        if !coded {
            // One after another, so each is under way when its user is removed.
            house.line(0, "signin fred wrong");
            house.turn();
        }
        house.event(Event::Reloaded { entries: entries(&[("tim", 1)]) });
        for conn in 0..3 {
            if coded {
                house.line(conn, "auth Yz1iaXdz");
            }
        }
        house.run();
        assert_eq!(house.count("not authorized"), if coded { 3 } else { 1 });
        // A name that nobody has is counted: two of these, and one before, would block.
        house.event(Event::Reloaded { entries: entries(&[("fred", 1), ("tim", 1)]) });
        house.connect(4, [10, 0, 0, 1]);
        house.line(4, "signin fred wrong");
        house.run();
        house.line(4, "signin fred worse");
        house.run();
        house.line(4, "signin fred p");
        house.run();
        assert_eq!(house.count("Welcome fred"), 1, "{coded}: {:?}", house.said);
    }
}

#[test]
fn names_that_went_are_written_down_in_one_order() {
    let users: Vec<(String, u32)> = (0..20).map(|n| (format!("u{n}"), 1)).collect();
    let users: Vec<(&str, u32)> = users.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let journal = || {
        let mut house = House::with(&users);
        house.signed_in(0, "u0");
        for n in 1..20 {
            house.line(0, &format!("send u{n} hi"));
        }
        house.run();
        // They go while no server runs; then what is held is repeated by a segment that begins.
        house.restart(&users[..1]);
        house.run();
        house.restart(&users[..1]);
        house.run();
        house.disk.contents()
    };
    let first = journal();
    assert!((0..3).all(|_| journal() == first), "the same history, another journal");
}

#[test]
fn who_waits_for_a_first_session_does_not_get_in_with_a_password_that_is_over() {
    let both = [("fred", 1), ("tim", 1)];
    for (after, goodbye) in [
        // Other rounds make another verifier.
        (&[("fred", 2), ("tim", 1)][..], ">> signed off: the password was changed, signin again"),
        (&both[1..], ">> signed off: this user was removed"),
    ] {
        let mut house = House::with(&both);
        house.signed_in(0, "fred");
        house.signed_in(2, "tim");
        house.connect(1, [10, 0, 0, 9]);
        house.line(1, "signin fred p");
        house.run();
        house.event(Event::Reloaded { entries: entries(after) });
        house.run();
        assert_eq!(house.heard(0).pop().unwrap(), goodbye);
        assert_eq!(house.heard(1).pop().unwrap(), goodbye);
        house.line(2, "whoelse");
        house.run();
        assert_eq!(house.heard(2).pop().unwrap(), ">> Nobody else is online");
    }
}

/// What a segment repeats may be longer than a segment: it is written once for each segment, not
/// once for each turn.
#[test]
fn many_keys_do_not_make_each_message_a_segment() {
    let mut house = House::with(&[("fred", 1)]);
    let config = Config { sync: Sync::Always, segment_bytes: 4000 };
    let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
        bytes.fill(7);
        Ok(())
    };
    house.disk = SimDisk::new();
    let users = entries(&[("fred", 1)]);
    let opened = Engine::open(house.disk.clone(), config, rules(), users, house.now, &mut entropy);
    house.engine = opened.expect("the disk is well").0;
    house.connect(1, [127, 0, 0, 1]);
    house.line(1, "coded 1");
    house.line(1, "signin fred tool plain p");
    house.run();
    for n in 0..100 {
        house.line(1, &format!("send =key-{n} fred hi"));
    }
    house.run();
    let last =
        |house: &House| house.disk.contents().into_keys().filter(|n| n.ends_with("log")).max();
    let number = |name: Option<String>| -> u32 {
        name.unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let before = number(last(&house));
    for _ in 0..400 {
        house.line(1, "send fred hi");
        house.run();
    }
    let segments = number(last(&house)) - before;
    assert!((5..=20).contains(&segments), "{segments} segments for 400 messages");
}
