//! What an operator decides over letters, and what readers are told of letters that the disk has
//! lost: the real engine on a simulated disk, with a crash at every step.

mod support;

use mms::core::event::{Conn, End, Event, Trust};
use mms::core::hub::{Duplicate, Rules};
use mms::core::password::Verifier;
use mms::core::record::{Letter, LetterId, LetterKind, Record};
use mms::engine::{Engine, Load, Output};
use mms::limits::RESERVE_MIB_LEAST;
use mms::proto::name::UserName;
use mms::proto::reply::Reply;
use mms::store::custody::{Decision, decide};
use mms::store::files::{ready_file, segment_file};
use mms::store::foresight::foresee;
use mms::store::record::{self, Header};
use mms::store::recovery::{Recovery, SpoolError};
use mms::store::spool::{Config, Sync};
use mms::store::survey::{Survey, read_letter};
use mms::time::{Millis, Now};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use support::rng::Rng;
use support::sim_disk::{Aftermath, Fault, SimDisk};

const UNIX_MS: u64 = 1_790_000_000_000;
const USERS: [&str; 3] = ["ann", "fred", "tim"];
const DECISIONS: [Decision; 5] = [
    Decision::PurgeHeld,
    Decision::PurgeWaiting,
    Decision::PurgeAll,
    Decision::Hold,
    Decision::Release,
];

/// A server, and the one person who talks to it at a time.
struct Server {
    engine: Engine<SimDisk>,
    recovery: Recovery,
    now: Now,
    next: u32,
}

fn entries(users: &[&str]) -> Vec<(UserName, Verifier)> {
    let verifier = || Verifier::derive(b"p", b"12345678", 1);
    users.iter().map(|name| (UserName::new(name).unwrap(), verifier())).collect()
}

impl Server {
    fn open(disk: &SimDisk, users: &[&str], segment_bytes: u32) -> Result<Self, SpoolError> {
        let config = Config { segment_bytes, ..Config::with_reserve(Sync::Always, 0) };
        Self::open_as(disk, users, config)
    }

    fn open_as(disk: &SimDisk, users: &[&str], config: Config) -> Result<Self, SpoolError> {
        let rules = Rules {
            idle_timeout_s: 0,
            duplicate: Duplicate::Replace,
            mailbox_letters: 100,
            mailbox_bytes: 1 << 20,
            password_rounds: 1,
            ..Rules::default()
        };
        let now = Now { mono: Millis(1), unix_ms: UNIX_MS };
        let mut entropy = |bytes: &mut [u8]| -> io::Result<()> {
            bytes.fill(7);
            Ok(())
        };
        let entries = entries(users);
        let (engine, recovery) =
            Engine::open(disk.clone(), config, rules, entries, now, &mut entropy)?;
        Ok(Self { engine, recovery, now, next: 0 })
    }

    fn start(disk: &SimDisk) -> Self {
        Self::open(disk, &USERS, 1 << 20).unwrap()
    }

    /// What is said in a turn, and everything behind it until nothing is due.
    fn turn(&mut self) -> Vec<String> {
        let mut said = vec![];
        for _ in 0..200 {
            if self.engine.deadline().is_some_and(|at| at <= self.now.mono) {
                self.engine.tick(self.now);
            }
            self.engine.commit().unwrap();
            let heard = |output: Output<'_>| match output {
                Output::Show { from, body, showing, .. } => {
                    let again = if showing.again { "(again) " } else { "" };
                    said.push(format!("{again}{from}: {}", String::from_utf8_lossy(body)));
                }
                Output::Letter(_, letter) => {
                    let again = if letter.again { "(again) " } else { "" };
                    let body = String::from_utf8_lossy(letter.body);
                    said.push(format!("{again}{}: {body}", letter.from));
                }
                Output::Say(_, _, reply @ (Reply::Known(_) | Reply::Refused(_))) => {
                    said.push(format!("{reply:?}"));
                }
                _ => {}
            };
            self.engine.release(heard).unwrap();
            self.engine.prepare(self.now, Load::Idle).unwrap();
            if self.engine.deadline().is_none_or(|at| at > self.now.mono) {
                break;
            }
        }
        said
    }

    fn line(&mut self, conn: Conn, line: &str) {
        self.engine.handle(Event::Line { conn, line: line.as_bytes(), body: None }, self.now);
    }

    /// A coded session of the user, and what he got to see at once.
    fn sign_in(&mut self, user: &str, kind: &str) -> (Conn, Vec<String>) {
        let conn = Conn(self.next);
        self.next += 1;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.engine.handle(Event::Opened { conn, address, trust: Trust::Trusted }, self.now);
        self.line(conn, "coded 1");
        self.line(conn, &format!("signin {user} {kind} plain p"));
        (conn, self.turn())
    }

    /// A coded session of the user, whom each line is said for; what he got to see. He acknowledges
    /// nothing of it.
    fn session(&mut self, user: &str, kind: &str, lines: &[&str]) -> Vec<String> {
        let (conn, mut said) = self.sign_in(user, kind);
        for line in lines {
            self.line(conn, line);
            said.extend(self.turn());
        }
        self.engine.handle(Event::Closed { conn, end: End::Broken }, self.now);
        said.extend(self.turn());
        said
    }

    fn send(&mut self, from: &str, line: &str) -> Vec<String> {
        self.session(from, "tool", &[line])
    }

    fn reads(&mut self, user: &str) -> Vec<String> {
        self.session(user, "online", &[])
    }

    fn stop(mut self) {
        self.engine.stop(self.now).unwrap();
    }
}

/// The oldest letter that waits for the user.
fn first_waiting(disk: &SimDisk, user: &str) -> LetterId {
    let survey = Survey::take(&mut disk.clone()).unwrap();
    *survey.mailboxes[user].waiting.keys().next().unwrap()
}

/// What waits and what is held, by user: the texts.
fn kept(disk: &SimDisk) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut disk = disk.clone();
    let survey = Survey::take(&mut disk).unwrap();
    let mut kept = BTreeMap::new();
    for (name, mailbox) in &survey.mailboxes {
        let mut texts = |places: &BTreeMap<_, _>| -> Vec<String> {
            let mut text = |at: &_| read_letter(&mut disk, *at, |letter| letter.body.to_owned());
            places.values().map(|at| text(at).unwrap()).collect()
        };
        kept.insert(name.clone(), (texts(&mailbox.waiting), texts(&mailbox.held)));
    }
    kept
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Two letters of a fred who was removed are held, two wait for the one who came after him and two
/// for tim, one of them in common.
fn spool() -> SimDisk {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred old one");
    server.send("ann", "send fred old two");
    server.stop();
    Server::open(&disk, &["ann", "tim"], 1 << 20).unwrap().stop();
    let mut server = Server::start(&disk);
    server.send("ann", "send tim one");
    server.send("ann", "send =key.1 (fred tim) both");
    server.send("fred", "send =key.2 ann hello");
    server.send("tim", "send fred two");
    server.stop();
    let kept = kept(&disk);
    assert_eq!(kept["fred"], (texts(&["both", "two"]), texts(&["old one", "old two"])));
    assert_eq!(kept["tim"], (texts(&["one", "both"]), vec![]));
    disk
}

/// What fred's mailbox becomes.
fn outcome(decision: Decision) -> (Vec<String>, Vec<String>) {
    match decision {
        Decision::PurgeHeld => (texts(&["both", "two"]), vec![]),
        Decision::PurgeWaiting => (vec![], texts(&["old one", "old two"])),
        Decision::PurgeAll => (vec![], vec![]),
        Decision::Hold => (vec![], texts(&["old one", "old two", "both", "two"])),
        Decision::Release => (texts(&["both", "two", "old one", "old two"]), vec![]),
    }
}

fn decided(disk: &SimDisk, user: &str, decision: Decision) -> usize {
    decide(&mut disk.clone(), user, decision, UNIX_MS, 1).unwrap().letters
}

#[test]
fn a_decision_holds_for_every_later_start_and_for_nobody_else() {
    for decision in DECISIONS {
        let disk = spool();
        let tims = kept(&disk)["tim"].clone();
        let count = if decision == Decision::PurgeAll { 4 } else { 2 };
        assert_eq!(decided(&disk, "FRED", decision), count, "{decision:?}");
        let (waiting, held) = outcome(decision);
        for _ in 0..3 {
            let now = kept(&disk);
            let freds = now.get("fred").cloned().unwrap_or_default();
            assert_eq!(freds, (waiting.clone(), held.clone()), "{decision:?}");
            assert_eq!(now["tim"], tims);
            // The mark of a repeat goes with the second start; what was released is no repeat.
            let mut server = Server::start(&disk);
            assert_eq!(server.recovery.lines, [""; 0]);
            let seen = server.reads("fred").into_iter();
            let seen: Vec<String> = seen.map(|line| line.replace("(again) ", "")).collect();
            let sender = |text: &String| if text == "two" { "tim" } else { "ann" };
            let want: Vec<String> =
                waiting.iter().map(|text| format!("{}: {text}", sender(text))).collect();
            assert_eq!(seen, want, "{decision:?}");
            let seen = server.reads("tim").into_iter();
            let seen: Vec<String> = seen.map(|line| line.replace("(again) ", "")).collect();
            assert_eq!(seen, ["ann: one", "ann: both"], "{decision:?}");
            server.stop();
        }
        let mut server = Server::start(&disk);
        let again = server.send("ann", "send =key.1 (fred tim) both");
        assert!(again[0].starts_with("Known"), "{decision:?}: the key is still good: {again:?}");
        let again = server.send("fred", "send =key.2 ann hello");
        assert!(again[0].starts_with("Known"), "{decision:?}: fred's, too: {again:?}");
        server.send("ann", "send fred new");
        let seen = server.reads("fred");
        assert_eq!(seen.last().unwrap(), "ann: new", "{decision:?}");
    }
}

/// The same on a disk that others have filled, with room that the server has kept ready.
fn full_spool() -> SimDisk {
    let disk = spool();
    disk.put(&ready_file(1), &[0; 8192]);
    disk.set_free(Some(0));
    disk
}

#[test]
fn a_full_disk_is_no_reason_to_keep_what_is_to_be_purged() {
    for decision in DECISIONS {
        let disk = full_spool();
        decided(&disk, "fred", decision);
        assert!(disk.was_full());
        disk.set_free(None);
        Server::start(&disk).stop();
        let freds = kept(&disk).get("fred").cloned().unwrap_or_default();
        assert_eq!(freds, outcome(decision), "{decision:?}");
    }
}

#[test]
fn a_crash_at_any_step_makes_a_decision_as_a_whole_or_not_at_all() {
    let mut rng = Rng::from_env(5);
    for before in [spool(), full_spool()] {
        for decision in DECISIONS {
            crash_while_deciding(&before, decision, &mut rng);
        }
    }
}

fn crash_while_deciding(before: &SimDisk, decision: Decision, rng: &mut Rng) {
    let (mut whole, mut none) = (0, 0);
    for step in 1.. {
        let disk = before.fork();
        disk.crash_at(disk.steps() + step);
        let end = decide(&mut disk.clone(), "fred", decision, UNIX_MS, 1);
        if !disk.crashed() {
            end.unwrap();
            break;
        }
        let torn = [Aftermath::Torn; 20];
        let others = [Aftermath::ProcessOnly, Aftermath::LoseAll, Aftermath::KeepAll];
        for aftermath in others.into_iter().chain(torn) {
            let disk = disk.fork();
            disk.restart(aftermath, rng);
            disk.set_free(None);
            Server::start(&disk).stop();
            let now = kept(&disk);
            let freds = now.get("fred").cloned().unwrap_or_default();
            if freds == outcome(decision) {
                whole += 1;
            } else {
                assert_eq!(now["fred"], kept(before)["fred"], "{decision:?}, step {step}");
                none += 1;
            }
            assert_eq!(now["tim"], kept(before)["tim"], "{decision:?}, step {step}");
        }
    }
    assert!(whole > 0 && none > 0, "{decision:?}: {whole} whole, {none} not at all");
}

#[test]
fn an_error_of_the_disk_is_told_and_does_nothing_by_halves() {
    let before = spool();
    for decision in DECISIONS {
        for step in 1.. {
            let disk = before.fork();
            let fault = Fault::Once(io::ErrorKind::StorageFull);
            disk.fail_at(disk.steps() + step, fault);
            let end = decide(&mut disk.clone(), "fred", decision, UNIX_MS, 1);
            if end.is_ok() {
                assert!(step > 4, "{step}");
                break;
            }
            disk.restart(Aftermath::ProcessOnly, &mut Rng::new(0));
            let freds = kept(&disk).get("fred").cloned().unwrap_or_default();
            assert!(freds == kept(&before)["fred"] || freds == outcome(decision), "{step}");
        }
    }
}

#[test]
fn what_is_withheld_is_neither_given_nor_forgotten_when_the_journal_moves_on() {
    let disk = SimDisk::new();
    let mut server = Server::open(&disk, &USERS, 900).unwrap();
    server.send("ann", "send fred seen");
    assert_eq!(server.reads("fred"), ["ann: seen"]);
    server.send("ann", "send fred kept back");
    server.stop();
    assert_eq!(decided(&disk, "fred", Decision::Hold), 2);
    let first = segment_file(1);
    let mut rounds = 0;
    while disk.contents().contains_key(&first) {
        rounds += 1;
        assert!(rounds < 40, "compaction comes to it: {:?}", disk.contents().keys());
        busy(&disk);
        let mut server = Server::open(&disk, &USERS, 900).unwrap();
        assert_eq!(server.reads("fred"), [""; 0], "round {rounds}");
        server.stop();
    }
    assert_eq!(kept(&disk)["fred"], (vec![], texts(&["seen", "kept back"])));
    let mut server = Server::open(&disk, &USERS, 900).unwrap();
    server.send("tim", "send fred settled");
    let later = first_waiting(&disk, "fred");
    server.session("fred", "online", &[&format!("ack {later}"), "@1 ping"]);
    server.stop();
    assert_eq!(decided(&disk, "fred", Decision::Release), 2);
    let mut server = Server::open(&disk, &USERS, 900).unwrap();
    assert_eq!(server.reads("fred"), ["(again) ann: seen", "ann: kept back"]);
}

#[test]
fn what_was_seen_is_marked_when_the_segment_that_holds_it_is_the_oldest() {
    let send = |disk: &SimDisk| {
        let mut server = Server::start(disk);
        server.send("ann", "send fred kept back");
        server.stop();
    };
    // Who keeps room ready begins a segment when the last one's file has none.
    let removal = |disk: &SimDisk| {
        send(disk);
        let config = Config::with_reserve(Sync::Always, RESERVE_MIB_LEAST);
        Server::open_as(disk, &["ann", "tim"], config).unwrap().stop();
    };
    let decision = |disk: &SimDisk| {
        send(disk);
        assert_eq!(decided(disk, "fred", Decision::Hold), 2);
    };
    let two_decisions = |disk: &SimDisk| {
        assert_eq!(decided(disk, "fred", Decision::Hold), 1);
        send(disk);
        assert_eq!(decided(disk, "fred", Decision::Hold), 1);
    };
    let ways: [&dyn Fn(&SimDisk); 3] = [&removal, &decision, &two_decisions];
    for (way, hold) in ways.into_iter().enumerate() {
        let disk = SimDisk::new();
        let mut server = Server::start(&disk);
        server.send("ann", "send fred seen");
        assert_eq!(server.reads("fred"), ["ann: seen"]);
        server.stop();
        for _ in 0..2 {
            // With that the first segment is worth moving out of, later.
            busy_in(&disk, 1 << 20);
        }
        hold(&disk);
        let newest = segments(&disk).pop();
        let mut oldest = 0;
        for segment_bytes in (1500..4000).step_by(250) {
            let disk = disk.fork();
            for _ in 0..9 {
                if segments(&disk).first() < newest.as_ref() {
                    busy_in(&disk, segment_bytes);
                }
            }
            oldest += usize::from(segments(&disk).first() == newest.as_ref());
            assert_eq!(decided(&disk, "fred", Decision::Release), 2);
            let mut server = Server::start(&disk);
            let seen = server.reads("fred");
            assert_eq!(seen, ["(again) ann: seen", "ann: kept back"], "{way}, {segment_bytes}");
        }
        assert!(oldest > 0, "{way}: compaction came just there");
    }
}

#[test]
fn who_acknowledges_what_is_still_to_be_said_hears_it_although_its_segment_may_go() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    let texts: Vec<String> = ('a'..='f').map(|sign| sign.to_string().repeat(60_000)).collect();
    let (ann, _) = server.sign_in("ann", "tool");
    for text in &texts {
        let (line, body) = (b"send fred ".as_slice(), Some(text.as_bytes()));
        server.engine.handle(Event::Line { conn: ann, line, body }, server.now);
        server.turn();
    }
    server.stop();
    let ids: Vec<LetterId> = {
        let survey = Survey::take(&mut disk.clone()).unwrap();
        survey.mailboxes["fred"].waiting.keys().copied().collect()
    };
    // They stand in the oldest segment, and nobody else needs that.
    busy_in(&disk, 1500);
    let mut server = Server::open(&disk, &USERS, 1500).unwrap();
    let (fred, shown) = server.sign_in("fred", "online");
    let shown = shown.len();
    assert!(shown < texts.len(), "the rest waits until some of it is acknowledged");
    for id in [ids[0], ids[5]] {
        server.line(fred, &format!("ack {}.{}", id.epoch, id.seq));
    }
    let rest: Vec<String> = texts[shown..].iter().map(|text| format!("ann: {text}")).collect();
    assert_eq!(server.turn(), rest);
    assert_ne!(segments(&disk).first(), Some(&segment_file(1)), "it has gone");
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.contents().into_keys().filter(|name| name.starts_with("journal")).collect()
}

#[test]
fn what_is_purged_leaves_the_disk() {
    let disk = SimDisk::new();
    let mut server = Server::open(&disk, &USERS, 900).unwrap();
    server.send("ann", "send fred confidential");
    server.send("ann", "send tim kept");
    server.stop();
    assert_eq!(decided(&disk, "fred", Decision::Hold), 1);
    Server::open(&disk, &USERS, 900).unwrap().stop();
    assert_eq!(decided(&disk, "fred", Decision::PurgeHeld), 1);
    let first = segment_file(1);
    for round in 0.. {
        if !disk.contents().contains_key(&first) {
            break;
        }
        assert!(round < 40, "compaction comes to it: {:?}", disk.contents().keys());
        busy(&disk);
    }
    assert_eq!(kept(&disk)["tim"], (texts(&["kept"]), vec![]));
    let text = b"confidential";
    for (name, bytes) in disk.contents() {
        assert!(!bytes.windows(text.len()).any(|window| window == text), "{name} has it");
    }
}

/// A run in which ann gets letters and takes them.
fn busy(disk: &SimDisk) {
    busy_in(disk, 900);
}

/// The same with segments of that size.
fn busy_in(disk: &SimDisk, segment_bytes: u32) {
    let mut server = Server::open(disk, &USERS, segment_bytes).unwrap();
    for _ in 0..10 {
        server.send("tim", "send ann something that is taken at once, and fills segments");
    }
    let survey = Survey::take(&mut disk.clone()).unwrap();
    let last = survey.mailboxes["ann"].waiting.keys().next_back().unwrap();
    server.session("ann", "online", &[&format!("ack {last}"), "@1 ping"]);
    server.stop();
}

#[test]
fn a_look_that_meets_a_server_taking_a_segment_away_misses_nothing() {
    let disk = SimDisk::new();
    let mut server = Server::open(&disk, &USERS, 900).unwrap();
    for _ in 0..10 {
        server.send("tim", "send ann something that fills segments");
    }
    server.stop();
    let first = disk.contents().into_keys().find(|name| name.starts_with("journal-")).unwrap();
    disk.give_back_when_opened(&first);
    let survey = Survey::take(&mut disk.clone()).unwrap();
    assert!(survey.missing.is_empty() && survey.cut.is_empty(), "{survey:?}");
    assert!(!disk.contents().contains_key(&first), "it was met");
}

#[test]
fn what_is_released_to_nobody_is_held_again() {
    let disk = spool();
    assert_eq!(decided(&disk, "fred", Decision::Release), 2);
    for _ in 0..2 {
        Server::open(&disk, &["ann", "tim"], 1 << 20).unwrap().stop();
        let texts = texts(&["both", "two", "old one", "old two"]);
        assert_eq!(kept(&disk)["fred"], (vec![], texts));
    }
}

#[test]
fn what_may_have_been_seen_is_marked_when_it_is_released() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred one");
    assert_eq!(server.reads("fred"), ["ann: one"]);
    server.send("ann", "send fred two");
    server.stop();
    assert_eq!(decided(&disk, "fred", Decision::Hold), 2);
    assert_eq!(decided(&disk, "fred", Decision::Release), 2);
    let mut server = Server::start(&disk);
    assert_eq!(server.reads("fred"), ["(again) ann: one", "ann: two"]);
}

#[test]
fn letters_that_are_held_are_held_again_when_a_second_holder_goes() {
    let disk = spool();
    assert_eq!(decided(&disk, "fred", Decision::PurgeHeld), 2);
    assert_eq!(decided(&disk, "fred", Decision::Hold), 2);
    Server::open(&disk, &["ann", "tim"], 1 << 20).unwrap().stop();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred three");
    server.stop();
    Server::open(&disk, &["ann", "tim"], 1 << 20).unwrap().stop();
    assert_eq!(kept(&disk)["fred"], (vec![], texts(&["both", "two", "three"])));
    assert_eq!(decided(&disk, "fred", Decision::PurgeHeld), 3);
    assert!(!kept(&disk).contains_key("fred"));
    let mut server = Server::start(&disk);
    assert_eq!(server.reads("fred"), [""; 0]);
}

/// Damages the text of a letter.
fn damage(disk: &SimDisk, number: u32, text: &str) {
    disk.damage(&segment_file(number), |bytes| {
        let text = text.as_bytes();
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    });
}

fn untold(disk: &SimDisk) -> usize {
    disk.contents().keys().filter(|name| name.starts_with("untold-")).count()
}

fn one_lost(id: &str, from: &str) -> String {
    format!(
        "mms: 1 message to you was damaged on the server's disk and is lost (id {id}, from {from})"
    )
}

#[test]
fn a_lost_letter_is_told_to_those_it_was_for_and_to_nobody_else() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send (fred tim) precious");
    server.send("ann", "send fred whole");
    server.stop();
    let epoch = first_waiting(&disk, "fred").epoch;
    damage(&disk, 1, "precious");
    let mut server = Server::start(&disk);
    assert_eq!(server.recovery.lost_letters, 1);
    assert_eq!(untold(&disk), 0, "it is told");
    let notice = one_lost(&format!("{epoch}.1"), "ann");
    assert_eq!(server.reads("fred"), ["ann: whole".to_owned(), notice.clone()]);
    assert_eq!(server.reads("ann"), [""; 0]);
    assert_eq!(server.send("ann", "send mms what?").len(), 1, "nobody can write to it");
    server.stop();
    // It waits like any letter, is marked if it was shown, and is not told anew.
    let mut server = Server::start(&disk);
    assert_eq!(server.recovery.losses, []);
    let again = ["(again) ann: whole".to_owned(), format!("(again) {notice}")];
    assert_eq!(server.reads("fred"), again);
    assert_eq!(server.reads("tim"), [notice]);
}

#[test]
fn several_lost_letters_are_one_notice() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    for from in ["ann", "tim", "ann"] {
        server.send(from, "send fred precious");
    }
    server.stop();
    for _ in 0..3 {
        damage(&disk, 1, "precious");
    }
    let mut server = Server::start(&disk);
    let [notice] = &server.reads("fred")[..] else { panic!("not one notice") };
    let begin = "mms: 3 messages to you were damaged on the server's disk and are lost (id ";
    assert!(notice.starts_with(begin), "{notice}");
    assert!(notice.contains(".1, from ann; id ") && notice.contains(".2, from tim; id "));
}

#[test]
fn who_had_a_letter_is_not_told_that_it_is_lost() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send (fred tim) precious");
    let id = first_waiting(&disk, "fred");
    server.session("fred", "online", &[&format!("ack {id}"), "@1 ping"]);
    server.stop();
    damage(&disk, 1, "precious");
    let mut server = Server::start(&disk);
    assert_eq!(server.reads("fred"), [""; 0]);
    assert_eq!(server.reads("tim"), [one_lost(&id.to_string(), "ann")]);
}

#[test]
fn a_letter_that_has_moved_is_not_lost_where_it_stood_before() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred precious");
    server.send("ann", "send fred precious, too");
    server.stop();
    let ids: Vec<LetterId> = {
        let survey = Survey::take(&mut disk.clone()).unwrap();
        survey.mailboxes["fred"].waiting.keys().copied().collect()
    };
    // As a crash leaves it between the copy of a letter and the end of its old segment.
    let (mut bytes, batch) = (Vec::new(), 90);
    let header = Header { spool: 0x0707_0707_0707_0707, segment: 2, format: record::FORMAT };
    record::encode_header(&mut bytes, batch, &header);
    let (kind, key, unix_ms) = (LetterKind::Direct, None, UNIX_MS);
    let (id, from, to, body) = (ids[0], "ann", "fred", "precious");
    let letter = Letter { id, unix_ms, kind, key, from, to, body };
    record::encode(&mut bytes, batch, &Record::Letter(letter));
    record::encode(&mut bytes, batch + 1, &Record::Stopped { unix_ms });
    disk.put(&segment_file(2), &bytes);
    damage(&disk, 1, "precious");
    damage(&disk, 1, "precious, too");
    let mut server = Server::start(&disk);
    assert_eq!(server.recovery.lost_letters, 2);
    assert_eq!(
        server.reads("fred"),
        ["ann: precious".into(), one_lost(&ids[1].to_string(), "ann")]
    );
}

#[test]
fn a_letter_of_a_former_holder_of_the_name_is_no_loss_of_the_present_one() {
    for decision in [None, Some(Decision::Hold)] {
        let disk = spool();
        if let Some(decision) = decision {
            decided(&disk, "fred", decision);
        }
        damage(&disk, 1, "old one");
        let mut server = Server::start(&disk);
        assert_eq!(server.recovery.lost_letters, 1);
        let seen = server.reads("fred");
        assert!(seen.iter().all(|line| !line.starts_with("mms:")), "{seen:?}");
    }
}

#[test]
fn names_that_are_misread_harm_nobody() {
    for (text, misread) in [("fred", "frex"), ("fred", "fr d"), ("fred", "fr\0d"), ("ann", "a,n")] {
        let disk = SimDisk::new();
        let mut server = Server::start(&disk);
        server.send("ann", "send fred precious");
        server.send("ann", "send tim whole");
        server.stop();
        disk.damage(&segment_file(1), |bytes| {
            let line = "d ann fred precious";
            let at = bytes.windows(line.len()).position(|w| w == line.as_bytes()).unwrap();
            let new = line.replace(text, misread);
            bytes[at..at + line.len()].copy_from_slice(new.as_bytes());
        });
        let mut server = Server::start(&disk);
        assert_eq!(server.recovery.damaged_ids.len(), 1, "the log names it");
        assert_eq!((server.reads("fred"), untold(&disk)), (vec![], 0), "{misread:?}");
        assert_eq!(server.reads("tim"), ["ann: whole"]);
    }
}

#[test]
fn a_torn_end_is_no_loss_that_anybody_is_told_of() {
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred precious");
    drop(server);
    disk.damage(&segment_file(1), |bytes| {
        let text = b"precious";
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes.truncate(at + 3);
    });
    assert_eq!(foresee(&mut disk.clone()).unwrap().lost_places, 0);
    let mut server = Server::start(&disk);
    assert!(server.recovery.torn_bytes > 0);
    assert_eq!(server.reads("fred"), [""; 0]);
}

#[test]
fn a_crash_between_the_repair_and_the_notice_makes_no_loss_silent() {
    let mut rng = Rng::from_env(6);
    let disk = SimDisk::new();
    let mut server = Server::start(&disk);
    server.send("ann", "send fred precious");
    server.send("ann", "send fred whole");
    server.stop();
    damage(&disk, 1, "precious");
    let mut between = 0;
    for step in 1.. {
        let disk = disk.fork();
        disk.crash_at(disk.steps() + step);
        let end = Server::open(&disk, &USERS, 1 << 20);
        if !disk.crashed() {
            assert!(end.is_ok());
            break;
        }
        drop(end);
        for aftermath in [Aftermath::ProcessOnly, Aftermath::LoseAll, Aftermath::Torn] {
            let disk = disk.fork();
            disk.restart(aftermath, &mut rng);
            let repaired = foresee(&mut disk.clone()).unwrap().lost_places == 0;
            between += usize::from(repaired && untold(&disk) > 0);
            let mut server = Server::start(&disk);
            let seen = server.reads("fred");
            let told = seen.iter().filter(|line| line.contains("mms: 1 message to you")).count();
            assert!((1..=2).contains(&told), "step {step}, {aftermath:?}: {seen:?}");
            assert_eq!(seen.iter().filter(|line| line.ends_with("ann: whole")).count(), 1);
            server.stop();
            assert_eq!((untold(&disk), Server::start(&disk).recovery.losses), (0, vec![]));
        }
    }
    assert!(between > 0, "a crash came just there");
}

#[test]
fn looking_ahead_changes_nothing_and_finds_what_a_start_finds() {
    let whole = spool();
    let damaged = spool();
    damage(&damaged, 1, "old one");
    let torn = spool();
    let last = torn.contents().keys().rfind(|name| name.starts_with("journal")).cloned();
    torn.damage(&last.unwrap(), |bytes| bytes.extend_from_slice(b"=L 00"));
    let missing = SimDisk::new();
    let mut server = Server::open(&missing, &USERS, 100).unwrap();
    for _ in 0..4 {
        server.send("ann", "send fred precious");
    }
    server.stop();
    let second =
        missing.contents().keys().filter(|name| name.starts_with("journal")).nth(1).cloned();
    missing.take(&second.unwrap());
    let gone = spool();
    for name in gone.contents().keys().filter(|name| name.starts_with("journal")) {
        gone.take(name);
    }
    let temporary = spool();
    temporary.put("journal-0000000009.tmp", b"half");
    for (disk, places) in
        [(whole, 0), (damaged, 1), (torn, 0), (missing, 1), (gone, 1), (temporary, 0)]
    {
        let (before, writes, syncs) = (disk.contents(), disk.writes(), disk.syncs());
        let foreseen = foresee(&mut disk.clone()).unwrap();
        assert!(disk.contents() == before, "nothing is changed");
        assert_eq!((disk.writes(), disk.syncs()), (writes, syncs));
        let mut found = Server::start(&disk).recovery;
        assert_eq!(foreseen.lost_places, places, "{foreseen:?}");
        found.losses.clear();
        found.repairs.clear();
        assert_eq!(foreseen, found);
    }
}
