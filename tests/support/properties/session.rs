//! A whole server, with its disk in memory, against any bytes: it never panics, nothing that it
//! says to anybody drives his terminal, and its own client understands every line of it.

use super::super::port::{News, Port, receiver};
use super::super::sim_disk::SimDisk;
use super::{Input, assert_harmless, pieces};
use mms::core::event::{Conn, Event, Saved, Trust};
use mms::core::hub::Rules;
use mms::core::password::Verifier;
use mms::engine::Engine;
use mms::proto::coded_client::{Answer, Letter, Reader, Said, ServerLine};
use mms::proto::name::UserName;
use mms::proto::reply::Flushed;
use mms::proto::telnet::Telnet;
use mms::proto::text;
use mms::store::spool::Config;
use mms::time::{Millis, Now};
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};

/// How the one whose bytes are tried has come.
const BEGUN: [&str; 6] = [
    "",
    "signin fred fred1\r\n",
    "signin fred\r\n",
    "coded 1\r\n",
    "coded 1\r\nsignin fred online plain fred1\r\n",
    "coded 1\r\nsignin fred tool plain fred1\r\n",
];

const NOW: Now = Now { mono: Millis(1), unix_ms: 1_800_000_000_000 };

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let begun = input.pick(&BEGUN);
    let cuts = input.cuts();
    let mut world = World::new();
    for (peer, words) in
        [(1, "signin tim tim1\r\n"), (2, "coded 1\r\nsignin ann listener plain ann1\r\n")]
    {
        world.hear(peer, words.as_bytes());
    }
    world.hear(0, begun.as_bytes());
    for piece in pieces(input.0, &cuts) {
        world.hear(0, piece);
    }
    world.hear(1, b"whoison\r\n");
    for (port, said) in world.ports.iter().zip(&world.said) {
        // A connection begins in the plain dialect, also where it goes on in the other.
        match port.coded {
            true => understood(said),
            false => legible(said),
        }
    }
    assert!(!world.said[1].is_empty() && !world.said[2].is_empty());
}

/// What a terminal gets.
fn legible(said: &[u8]) {
    let mut text = said.to_vec();
    let kept = Telnet::default().filter(&mut text, &mut vec![]);
    let text = std::str::from_utf8(&text[..kept]).expect("what is said is UTF-8");
    text.split("\r\n").for_each(assert_harmless);
}

/// What a program gets.
fn understood(said: &[u8]) {
    let mut text = said.to_vec();
    let kept = Telnet::default().filter(&mut text, &mut vec![]);
    let mut reader = Reader::default();
    reader.feed(&text[..kept]);
    // Up to the switch it is told in plain, perhaps with prompts without an end.
    let mut switched = false;
    loop {
        match reader.next_said() {
            Ok(Some(Said::Plain(line))) => assert_harmless(&line),
            Ok(Some(Said::Coded(line))) => {
                switched = true;
                check(&line);
            }
            Ok(None) => break,
            Err(fault) => panic!("{fault} {}", said.escape_ascii()),
        }
    }
    assert!(switched && reader.rest().is_empty(), "{}", said.escape_ascii());
}

fn check(line: &ServerLine) {
    assert!(text::check_lines(line.fields().as_bytes()).is_ok(), "{line:?}");
    match line.code {
        100 => assert!(Letter::parse(line.fields()).is_ok(), "{line:?}"),
        code if code < 200 => {}
        334 | 230 => assert!(!line.fields().is_empty()),
        433 => {}
        _ => {
            let answer = Answer::parse(line);
            assert!(answer.is_ok(), "{line:?}");
            if let Ok(Answer::Refused(refused)) = answer {
                assert_harmless(&refused.to_string());
            }
        }
    }
}

struct World {
    engine: Engine<SimDisk>,
    ports: Vec<Port>,
    said: Vec<Vec<u8>>,
    news: Vec<News>,
}

thread_local! {
    /// Made once: the names of users, and what their passwords become.
    static USERS: OnceCell<Vec<(UserName, Verifier)>> = const { OnceCell::new() };
}

fn users() -> Vec<(UserName, Verifier)> {
    let user = |name: &str| {
        let password = format!("{name}1");
        let verifier = Verifier::derive(password.as_bytes(), b"saltsalt", 1);
        (UserName::new(name).expect("a name"), verifier)
    };
    USERS.with(|users| users.get_or_init(|| ["fred", "tim", "ann", "zoe"].map(user).into()).clone())
}

impl World {
    fn new() -> Self {
        let rules = Rules {
            mailbox_letters: 20,
            mailbox_bytes: 10_000,
            password_rounds: 1,
            ..Rules::default()
        };
        let config = Config { spares: 0, ..Config::default() };
        let mut entropy = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok(())
        };
        let opened = Engine::open(SimDisk::new(), config, rules, users(), NOW, &mut entropy);
        let (engine, _) = opened.expect("a new disk");
        let (ports, said) = ((0..3).map(|n| Port::new(Conn(n))).collect(), vec![vec![]; 3]);
        let mut world = Self { engine, ports, said, news: vec![] };
        for n in 0..3 {
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let opened = Event::Opened { conn: Conn(n), address, trust: Trust::Trusted };
            world.engine.handle(opened, NOW);
            world.settle();
        }
        world
    }

    fn hear(&mut self, peer: usize, bytes: &[u8]) {
        let port = &mut self.ports[peer];
        if !port.gone {
            port.take(bytes, &mut self.engine, NOW);
            self.settle();
        }
    }

    /// Turns, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Self { engine, ports, said, news, .. } = self;
            for news in std::mem::take(news) {
                engine.handle(news.event(|_| Saved::Done(Flushed::Surely)), NOW);
            }
            if engine.deadline().is_some_and(|at| at <= NOW.mono) {
                engine.tick(NOW);
            }
            engine.commit().expect("the disk is good");
            let mut resumed = vec![];
            let told = engine.release(|output| match receiver(&output) {
                None => {
                    if let mms::engine::Output::SavePassword(save) = output {
                        news.push(News::Save(save.clone()));
                    }
                }
                Some(Conn(n)) => {
                    if ports[n as usize].speak(output, news) {
                        resumed.push(n as usize);
                    }
                }
            });
            told.expect("the disk is good");
            for (port, said) in ports.iter_mut().zip(said) {
                said.extend(port.take_out());
            }
            let due = engine.deadline().is_some_and(|at| at <= NOW.mono);
            if !due && news.is_empty() && resumed.is_empty() {
                return;
            }
            for n in resumed {
                ports[n].lines(engine, NOW);
            }
        }
        panic!("the engine spins");
    }
}
