//! Stories of the rules that need more than one conversation to tell: guesses in parallel, a
//! backlog in parts, a first session that lives or is dead, a name that changes hands.

mod support;

use mms::core::event::{Action, ChangeId, Conn, End, Event, Flow, Input, Note, Saved, Trust};
use mms::core::hub::{Hub, Rules, Turn};
use mms::core::password::Verifier;
use mms::core::record::{
    Journal, Letter, LetterId, LetterKind, Location, Recipient, Record, push_recipient,
};
use mms::crypto::{decode_text, encode_text};
use mms::engine::{Engine, Load, Output, SavePassword};
use mms::limits::{CREDIT_LETTERS, PASSWORD_CHANGES, PROBE_DEAD_MS, ROUNDS_A_SLICE};
use mms::proto::name::UserName;
use mms::proto::plain;
use mms::proto::reply::Flushed;
use mms::scram::{Channel, ClientExchange, Secret};
use mms::store::spool::{Config, Sync};
use mms::time::{Millis, Now};
use std::net::IpAddr;
use support::rng::Rng;
use support::sim_disk::{Aftermath, SimDisk};

/// The engine, and all that was said since it was last asked, as lines of `conn text`.
struct House {
    disk: SimDisk,
    engine: Engine<SimDisk>,
    now: Now,
    said: Vec<String>,
    /// How much was said to each connection, and who is watched or held.
    counts: [u32; 100],
    watched: Vec<Conn>,
    /// What the password file is to be given.
    saves: Vec<SavePassword>,
    closed: Vec<Conn>,
}

fn rules() -> Rules {
    Rules { password_rounds: 1, ..Rules::default() }
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
    let opened = Engine::open(disk.clone(), config(), rules(), entries(users), now, &mut entropy);
    opened.expect("the disk is well").0
}

impl House {
    fn with(users: &[(&str, u32)]) -> Self {
        let now = Now { mono: Millis(1), unix_ms: 1_790_000_000_000 };
        let disk = SimDisk::new();
        let engine = open(&disk, users, now);
        let (said, watched, saves, closed) = (vec![], vec![], vec![], vec![]);
        Self { disk, engine, now, said, counts: [0; 100], watched, saves, closed }
    }

    fn restart(&mut self, users: &[(&str, u32)]) {
        self.engine = open(&self.disk, users, self.now);
        self.counts = [0; 100];
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
        let Self { engine, said, counts, watched, saves, closed, .. } = self;
        let mut say = |conn: Conn, bytes: Vec<u8>| {
            counts[conn.0 as usize] += 1;
            // Prompts hold bytes of telnet.
            let text = String::from_utf8_lossy(&bytes);
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
                Output::SavePassword(save) => saves.push(save.clone()),
                Output::Close { conn, .. } => closed.push(conn),
                Output::Letter(..) | Output::Look(_) | Output::Resume(_) | Output::Free(_) => {}
            }
        });
        released.expect("the disk is well");
        self.engine.prepare(self.now, Load::Idle).expect("the disk is well");
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

    /// The one change of the password file that was asked for.
    fn save(&mut self) -> SavePassword {
        let mut saves = std::mem::take(&mut self.saves);
        assert_eq!(saves.len(), 1, "{saves:?}");
        saves.remove(0)
    }

    fn saved(&mut self, change: ChangeId, saved: Saved) {
        self.event(Event::PasswordSaved { change, saved });
        self.run();
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

/// These stories are not about the disk.
fn config() -> Config {
    Config::with_reserve(Sync::Always, 0)
}

/// A journal that nobody reads.
struct Paper;

impl Journal for Paper {
    fn append(&mut self, _: &Record<'_>) -> Location {
        Location::default()
    }

    fn release(&mut self, _: Location) {}

    fn has_room(&self, _: usize) -> bool {
        true
    }
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
    let said_until = now.mono;
    hub.hold_orphans(&mut Turn { now, journal: &mut Paper, out: &mut out, said_until });
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
    for spares in [0, 2] {
        many_keys(spares);
    }
}

fn many_keys(spares: usize) {
    let mut house = House::with(&[("fred", 1)]);
    let (sync, segment_bytes) = (Sync::Always, 4000);
    let (slack_bytes, batch_bytes, fill_bytes) = (4000, 2000, 1000);
    let config = Config { sync, segment_bytes, slack_bytes, batch_bytes, fill_bytes, spares };
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
    let last = |house: &House| {
        house.disk.contents().into_keys().filter(|n| n.starts_with("journal")).max()
    };
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

/// What a start repeats may find no room at all: then it goes on without, keeps every older
/// segment, and makes up for it when the disk has room.
#[test]
fn any_start_works_on_a_full_disk_however_many_keys_there_are() {
    let mut house = House::with(&[]);
    let (sync, segment_bytes, slack_bytes) = (Sync::Always, 12_000, 4000);
    let (batch_bytes, fill_bytes, spares) = (1000, 1000, 2);
    let config = Config { sync, segment_bytes, slack_bytes, batch_bytes, fill_bytes, spares };
    house.disk = SimDisk::new();
    let users = [("fred", 1), ("tim", 1)];
    let start = |house: &mut House| {
        let disk = house.disk.clone();
        let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
            bytes.fill(7);
            Ok(())
        };
        let now = house.now;
        house.engine = Engine::open(disk, config, rules(), entries(&users), now, &mut entropy)
            .expect("any start works")
            .0;
        house.tool(1, "fred");
    };
    let send = |house: &mut House, key: u32| {
        house.line(1, &format!("send =key-{key} tim number {key}"));
        house.pass(1);
        house.heard(1).pop().unwrap()
    };
    start(&mut house);
    let stored = (0..60).filter(|key| send(&mut house, *key).contains("will be saved")).count();
    assert_eq!(stored, 60);
    house.disk.set_free(Some(0));
    let mut keys = 60;
    while send(&mut house, keys).contains("will be saved") {
        keys += 1;
    }
    assert!(house.disk.was_full() && keys > 70, "{keys} keys");
    let restart = |house: &mut House| {
        house.disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
        house.now.unix_ms += 1000;
        start(house);
    };
    let ready = |house: &House| {
        let files = house.disk.contents();
        files.iter().filter(|(name, _)| name.starts_with("ready")).map(|(_, f)| f.len()).sum()
    };
    // Until nothing is left, and then ten times more.
    let mut starts = 10;
    while starts > 0 {
        restart(&mut house);
        assert!(send(&mut house, 1000).contains("disk is full"));
        let ready: usize = ready(&house);
        starts -= usize::from(ready < segment_bytes as usize);
    }
    // What is taken leaves segments behind that nobody needs but for the keys in them.
    let first = |house: &House| house.disk.contents().contains_key("journal-0000000001.log");
    house.connect(2, [10, 0, 0, 2]);
    for line in ["coded 1", "signin tim online plain p", &format!("ack 1790000000.{keys}")] {
        house.line(2, line);
        house.pass(1);
    }
    assert!(first(&house), "it stays until its keys are repeated");
    restart(&mut house);
    house.disk.set_free(None);
    house.pass(10_000);
    for key in 2000..2005 {
        assert!(send(&mut house, key).contains("will be saved"));
    }
    restart(&mut house);
    assert!(!first(&house));
    for key in 0..keys {
        let known = format!(">> message 1790000000.{} was sent before", key + 1);
        assert_eq!(send(&mut house, key), known);
    }
}

const DONE: Saved = Saved::Done(Flushed::Surely);
const CHANGED: &str = ">> password changed; your other sessions are signed off";
const GOODBYE: &str = ">> signed off: the password was changed, signin again";

impl House {
    /// A session of a program.
    fn tool(&mut self, conn: u32, user: &str) {
        self.connect(conn, [10, 0, 0, 1]);
        self.line(conn, "coded 1");
        self.line(conn, &format!("signin {user} tool plain p"));
        self.run();
        self.heard(conn);
    }

    /// What the user is told at a sign-in from elsewhere.
    fn tries(&mut self, conn: u32, user: &str, password: &str) -> String {
        self.connect(conn, [10, 0, 9, 9]);
        self.line(conn, &format!("signin {user} {password}"));
        self.run();
        self.heard(conn).pop().unwrap()
    }
}

#[test]
fn a_password_is_changed_when_the_file_has_it_and_not_before() {
    let mut house = House::with(&[("fred", 1), ("tim", 1)]);
    house.signed_in(0, "fred");
    house.tool(1, "fred");
    house.heard(0);
    assert_eq!(house.line(0, "passwd p new"), Flow::Hold);
    house.run();
    let save = house.save();
    assert_eq!((save.user.as_str(), &save.old), ("fred", &entries(&[("fred", 1)])[0].1));
    assert_ne!(save.old.salt(), save.new.salt());
    assert!(house.said.is_empty() && house.closed.is_empty(), "{:?}", house.said);
    assert!(house.tries(2, "fred", "new").contains("not authorized"));
    house.saved(save.change, DONE);
    assert_eq!(house.heard(0), [CHANGED]);
    assert_eq!(house.heard(1), [GOODBYE]);
    assert_eq!(house.closed, [Conn(1)]);
    assert!(house.tries(3, "fred", "p").contains("not authorized"));
    // The file as it is now.
    let mut file = entries(&[("fred", 1), ("tim", 1)]);
    file[0].1 = save.new;
    house.event(Event::Reloaded { entries: file });
    house.line(0, "whoelse");
    house.run();
    assert_eq!(house.heard(0), [">> Nobody else is online"]);
    house.event(Event::Closed { conn: Conn(0), end: End::Broken });
    assert!(house.tries(4, "fred", "new").contains("Welcome fred"));
    house.line(4, "passwd new new");
    house.run();
    assert_ne!(house.saves[0].old.salt(), house.saves[0].new.salt(), "each has its own");
}

#[test]
fn a_right_proof_ends_the_row_of_failures() {
    let mut house = House::with(&[("fred", 4096)]);
    house.tool(0, "fred");
    for _ in 0..2 {
        house.connect(1, [10, 0, 0, 1]);
        house.line(1, "signin fred wrong");
        house.run();
        house.event(Event::Closed { conn: Conn(1), end: End::Broken });
    }
    let (mut exchange, first) = ClientExchange::begin("fred", "nonce", Channel::Plain);
    let verifier = &entries(&[("fred", 4096)])[0].1;
    house.line(0, &format!("passwd scram {} {verifier}", encode_text(&first)));
    house.run();
    let challenge = house.heard(0).pop().unwrap();
    let challenge = decode_text(challenge.strip_prefix(">> ").unwrap()).unwrap();
    exchange.answer(&challenge, Secret::Password(b"p")).unwrap();
    let last = exchange.work(u32::MAX).unwrap();
    assert_eq!(house.line(0, &format!("auth {}", encode_text(&last))), Flow::Hold);
    house.run();
    assert_eq!(house.save().new, *verifier);
    for _ in 0..2 {
        house.connect(1, [10, 0, 0, 1]);
        house.line(1, "signin fred wrong");
        house.run();
        assert!(house.heard(1).pop().unwrap().contains("not authorized"));
        house.event(Event::Closed { conn: Conn(1), end: End::Broken });
    }
}

#[test]
fn a_new_password_is_stretched_in_slices_while_others_go_on() {
    let mut house = House::with(&[("fred", 3 * ROUNDS_A_SLICE), ("tim", 1)]);
    let rules = Rules { password_rounds: 5 * ROUNDS_A_SLICE, ..rules() };
    let mut entropy = |bytes: &mut [u8]| -> std::io::Result<()> {
        bytes.fill(7);
        Ok(())
    };
    let users = entries(&[("fred", 3 * ROUNDS_A_SLICE), ("tim", 1)]);
    house.disk = SimDisk::new();
    let config = config();
    let opened = Engine::open(house.disk.clone(), config, rules, users, house.now, &mut entropy);
    house.engine = opened.expect("the disk is well").0;
    house.signed_in(0, "fred");
    house.signed_in(1, "tim");
    house.heard(1);
    assert_eq!(house.line(0, "passwd p new"), Flow::Hold);
    let mut turns = 0;
    while house.saves.is_empty() {
        turns += 1;
        house.line(1, "whoelse");
        house.turn();
        assert_eq!(house.heard(1), [">> User fred is online"]);
    }
    assert_eq!(turns, 8, "each turn spent one slice");
    assert_eq!(house.save().new.iterations(), 5 * ROUNDS_A_SLICE);
}

#[test]
fn a_letter_at_a_prompt_stands_in_lines_of_its_own() {
    let mut house = House::with(&[("fred", 1), ("tim", 1)]);
    house.signed_in(0, "fred");
    house.signed_in(1, "tim");
    house.line(0, "notify on");
    for line in ["passwd", "p", "new"] {
        house.line(0, line);
        house.run();
        house.heard(0);
        house.line(1, "send fred one");
        house.line(1, "send fred two");
        house.run();
        let heard = house.heard(0);
        let lines: Vec<&str> = heard.iter().map(|line| &line[..]).collect();
        let ["", ">> tim: one", prompt, "", ">> tim: two", again] = lines[..] else {
            panic!("{heard:?}");
        };
        assert!(prompt == again && prompt.contains("assword"), "{heard:?}");
    }
    // What else comes unasked gives the prompt back, too.
    house.connect(2, [10, 0, 0, 9]);
    house.line(2, "signin fred p");
    house.run();
    let heard = house.heard(0);
    assert!(heard[1].contains("tries to sign in as fred"), "{heard:?}");
    assert!(heard[2].ends_with("New password again: "), "{heard:?}");
    // And the probe finds what it was: the notice, not what stands around it.
    let through = house.counts[0];
    house.event(Event::Acknowledged { conn: Conn(0), through, input: Input::Taken });
    house.run();
    assert_eq!(house.heard(2).pop().unwrap(), ">> fred is already signed in");
    house.line(0, "new");
    house.run();
    let save = house.save();
    house.saved(save.change, DONE);
    assert_eq!(house.heard(0).last().unwrap(), CHANGED);
}

#[test]
fn a_prompt_that_is_never_answered_gives_the_terminal_back() {
    let mut house = House::with(&[("fred", 1)]);
    house.signed_in(0, "fred");
    house.line(0, "passwd");
    house.run();
    house.heard(0);
    house.pass(1_800_000);
    let heard = house.heard(0);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[1], ">> signed off after 1800 s of inactivity");
    house.signed_in(1, "fred");
    house.line(1, "passwd");
    house.event(Event::LineTooLong { conn: Conn(1) });
    house.line(1, "whoelse");
    house.run();
    let heard = house.heard(1);
    let told = &heard[heard.len() - 2..];
    let wanted = [">> the password is too long, 256 bytes at most", ">> Nobody else is online"];
    assert_eq!(told, wanted);
}

#[test]
fn a_wrong_current_password_counts_as_a_failed_sign_in() {
    let mut house = House::with(&[("fred", 1)]);
    house.connect(0, [10, 0, 9, 9]);
    house.line(0, "signin fred p");
    house.run();
    for _ in 0..2 {
        house.line(0, "passwd wrong new");
        house.run();
        let last = house.heard(0).pop().unwrap();
        assert_eq!(last, ">> the current password is wrong; nothing was changed");
    }
    assert!(house.tries(1, "fred", "wrong").contains("Too many failed attempts, blocked for 60 s"));
    house.line(0, "passwd p new");
    house.run();
    assert_eq!(house.heard(0), [">> user fred is blocked, 60 s left"]);
    house.pass(60_000);
    house.line(0, "passwd wrong new");
    house.run();
    // The third of this connection.
    assert_eq!(house.heard(0), [">> Too many failed attempts"]);
    assert!(house.saves.is_empty());
}

#[test]
fn a_right_current_password_is_not_looked_at_during_a_block() {
    let mut house = House::with(&[("fred", 5 * ROUNDS_A_SLICE)]);
    house.signed_in(0, "fred");
    house.heard(0);
    house.line(0, "passwd p new");
    house.turn();
    house.connect(1, [10, 0, 0, 1]);
    house.line(1, "coded 1");
    for _ in 0..3 {
        house.line(1, "signin fred tool scram biwsbj1mcmVkLHI9YWJj");
        house.line(1, "auth Yz1iaXdz");
    }
    house.run();
    assert_eq!(house.heard(0), [">> user fred is blocked, 60 s left"]);
    assert!(house.saves.is_empty());
    // And its lines are read again.
    house.line(0, "whoelse");
    house.run();
    assert_eq!(house.heard(0), [">> Nobody else is online"]);
}

#[test]
fn who_is_gone_before_the_save_has_changed_nothing() {
    for end in ["closed", "removed", "changed"] {
        let mut house = House::with(&[("fred", 5 * ROUNDS_A_SLICE), ("tim", 1)]);
        house.signed_in(0, "fred");
        house.line(0, "passwd p new");
        house.turn();
        match end {
            "closed" => {}
            "removed" => {
                let both = entries(&[("fred", 5 * ROUNDS_A_SLICE), ("tim", 1)]);
                house.event(Event::Reloaded { entries: both[1..].to_vec() });
                house.event(Event::Reloaded { entries: both });
            }
            _ => {
                house.event(Event::Reloaded { entries: entries(&[("fred", 2), ("tim", 1)]) });
            }
        }
        house.event(Event::Closed { conn: Conn(0), end: End::Broken });
        // Another one on the connection of that number is not in his place.
        house.signed_in(0, "tim");
        assert!(house.heard(0).pop().unwrap().contains("Welcome tim"), "{end}");
        assert!(house.saves.is_empty(), "{end}");
    }
}

#[test]
fn who_is_gone_during_the_save_is_not_answered_and_nobody_in_his_place() {
    for saved in [DONE, Saved::Locked, Saved::Failed, Saved::Outdated] {
        let mut house = House::with(&[("fred", 1), ("tim", 1)]);
        house.signed_in(0, "fred");
        house.line(0, "passwd p new");
        house.run();
        let save = house.save();
        house.event(Event::Closed { conn: Conn(0), end: End::Broken });
        house.signed_in(0, "tim");
        house.signed_in(1, "fred");
        house.said.clear();
        house.saved(save.change, saved);
        assert_eq!(house.heard(0), [""; 0], "{saved:?}");
        let fred = house.heard(1);
        if saved == DONE {
            assert_eq!(fred, [GOODBYE], "he came in with the old one");
        } else {
            assert_eq!(fred, [""; 0]);
        }
    }
}

#[test]
fn a_reload_during_the_save_is_right() {
    let both = [("fred", 1), ("tim", 1)];
    // Another password is in the file already: the save finds it there.
    let mut house = House::with(&both);
    house.signed_in(0, "fred");
    house.line(0, "passwd p new");
    house.run();
    let save = house.save();
    house.event(Event::Reloaded { entries: entries(&[("fred", 2), ("tim", 1)]) });
    house.run();
    assert_eq!(house.heard(0).pop().unwrap(), GOODBYE);
    house.saved(save.change, Saved::Outdated);
    assert!(house.tries(1, "fred", "p").contains("Welcome"), "the operator's holds");
    // Removed and back, with the line as it was: the file has the new one now.
    let mut house = House::with(&both);
    house.signed_in(0, "fred");
    house.line(0, "passwd p new");
    house.run();
    let save = house.save();
    house.event(Event::Reloaded { entries: entries(&both[1..]) });
    house.event(Event::Reloaded { entries: entries(&both) });
    house.signed_in(2, "fred");
    house.saved(save.change, DONE);
    assert_eq!(house.heard(2).pop().unwrap(), GOODBYE);
    assert!(house.tries(1, "fred", "new").contains("Welcome"));
    // Removed for good: the file had no line.
    let mut house = House::with(&both);
    house.signed_in(0, "fred");
    house.line(0, "passwd p new");
    house.run();
    let save = house.save();
    house.event(Event::Reloaded { entries: entries(&both[1..]) });
    house.saved(save.change, Saved::Outdated);
    assert!(house.heard(0).pop().unwrap().contains("this user was removed"));
}

#[test]
fn a_user_has_one_change_under_way_and_the_server_a_few() {
    let mut house = House::with(&[("fred", 5 * ROUNDS_A_SLICE)]);
    house.signed_in(0, "fred");
    house.tool(1, "fred");
    house.line(0, "passwd p new");
    for when in ["checked", "saved"] {
        assert_eq!(house.line(1, "passwd plain p other"), Flow::Go);
        house.run();
        let told = house.heard(1);
        assert_eq!(told, [">> the password cannot be changed now, try again later"], "{when}");
    }
    assert_eq!(house.saves.len(), 1);
    let names: Vec<String> = (0..=PASSWORD_CHANGES).map(|n| format!("u{n}")).collect();
    let users: Vec<(&str, u32)> = names.iter().map(|name| (&**name, 1)).collect();
    let mut house = House::with(&users);
    for (conn, name) in (0..).zip(&names) {
        house.signed_in(conn, name);
        house.line(conn, "passwd p new");
        house.run();
    }
    assert_eq!(house.saves.len(), PASSWORD_CHANGES);
    let last = PASSWORD_CHANGES as u32;
    assert!(house.heard(last).pop().unwrap().contains("cannot be changed now"));
    let change = house.saves[0].change;
    house.saved(change, Saved::Locked);
    assert!(house.heard(0).pop().unwrap().contains("cannot be changed now"));
    house.line(last, "passwd p new");
    house.run();
    assert_eq!(house.saves.len(), PASSWORD_CHANGES + 1, "there is room again");
}

#[test]
fn who_waits_for_his_change_is_not_idle_and_who_waits_for_his_session_is_over() {
    let mut house = House::with(&[("fred", 1)]);
    house.signed_in(0, "fred");
    house.heard(0);
    house.line(0, "passwd p new");
    house.run();
    house.connect(1, [10, 0, 9, 9]);
    house.line(1, "signin fred p");
    house.run();
    house.heard(0);
    house.heard(1);
    let save = house.save();
    house.saved(save.change, DONE);
    // Not let in with the old password when a session of its user ends.
    assert_eq!((house.heard(1), house.heard(0)), (vec![GOODBYE.to_owned()], vec![CHANGED.into()]));
    house.line(0, "passwd new p");
    house.run();
    house.pass(1_800_000);
    assert_eq!(house.heard(0), [""; 0]);
    let save = house.save();
    house.saved(save.change, Saved::Failed);
    assert!(house.heard(0)[0].contains("cannot be written"));
    house.pass(1_799_999);
    assert_eq!(house.heard(0), [""; 0]);
    house.pass(1);
    assert_eq!(house.heard(0), [">> signed off after 1800 s of inactivity"]);
}

#[test]
fn a_disk_that_did_not_flush_is_told() {
    let mut house = House::with(&[("fred", 1)]);
    house.signed_in(0, "fred");
    house.line(0, "passwd p p");
    house.run();
    let save = house.save();
    house.saved(save.change, Saved::Done(Flushed::Perhaps));
    let told = house.heard(0).pop().unwrap();
    assert!(told.contains("a power cut may undo it"), "{told}");
    house.event(Event::Closed { conn: Conn(0), end: End::Broken });
    assert!(house.tries(1, "fred", "p").contains("Welcome"), "the same again is allowed");
}

#[test]
fn what_a_turn_does_is_counted_whatever_it_is() {
    let names: Vec<String> = (0..640).map(|n| format!("u{n}")).collect();
    let users: Vec<(&str, u32)> = names.iter().map(|name| (&name[..], 4096)).collect();
    let mut house = House::with(&users);
    for (conn, name) in (0..).zip(&names[..3]) {
        house.signed_in(conn, name);
    }
    house.run();
    // So many of each are more than one turn's.
    for (line, few, many) in [
        ("whoelse", 1600, 1700),
        ("whoison", 800, 850),
        ("wholast 5", 1600, 1700),
        ("send nobody hi", 1000, 1200),
        ("block nobody", 1000, 1200),
        // No work, but it has to be said.
        ("help", 1000, 1200),
    ] {
        let mut count = 0;
        while !house.engine.has_enough() && count < many {
            house.line(0, line);
            count += 1;
        }
        assert!(count > few && house.engine.has_enough(), "{count} times {line}");
        house.run();
        assert!(!house.engine.has_enough(), "the next turn begins anew");
    }
}
