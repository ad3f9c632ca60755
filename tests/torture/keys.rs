//! The OK is lost, and the message is sent again under its key: ten times, on connections that are
//! cut at any byte of the request or of the answers, over crashes of the server. One copy must
//! arrive, and every answer that was ever given must name the same id.

use crate::campaign::{Skip, Tally};
use crate::support::letters::{is_gone, people};
use crate::support::rng::Rng;
use crate::support::server::{Client, PASSWORD, Server};
use std::collections::BTreeMap;
use std::io::Write as _;

/// Messages that travel in one write.
const AT_ONCE: usize = 20;
const TRIES: usize = 10;
/// Bytes of the shortest answer: so many of them do come.
const LEAST_ANSWER: usize = "250 @0 1700000000.1 sent x".len();
/// After so many messages the reader takes what has come.
const BETWEEN_DRAINS: usize = 1000;

/// The ids that were answered for a message; more than one is a fault.
type Ids = BTreeMap<usize, Vec<String>>;

/// `250 @17 1790000000.4 known`
fn answered(line: &str) -> Option<(usize, &str)> {
    let (tag, rest) = line.strip_prefix("250 @")?.split_once(' ')?;
    Some((tag.parse().ok()?, rest.split_once(' ')?.0))
}

fn note(lines: &[String], ids: &mut Ids) {
    for (number, id) in lines.iter().filter_map(|line| answered(line)) {
        let known = ids.entry(number).or_default();
        if !known.iter().any(|one| one == id) {
            known.push(id.to_owned());
        }
    }
}

/// Signed in beside its user's other sessions, to send only.
fn tool(server: &Server, name: &str) -> Client {
    let mut client = server.greeted();
    assert!(client.ask("coded 1").starts_with("200 "));
    let answer = client.ask(&format!("signin {name} tool plain {PASSWORD}"));
    assert!(answer.starts_with("230 "), "{answer}");
    client
}

/// Both kinds of keys; of those without a counter a server remembers 10,000.
fn request(number: usize) -> String {
    let key = match number % 8 {
        7 => format!("single.{number}"),
        _ => format!("torture:{}", number + 1),
    };
    format!("@{number} send ={key} absent letter {number}\n")
}

/// Says all of it, reads some of the answers, and is gone.
fn is_cut(server: &Server, numbers: std::ops::Range<usize>, rng: &mut Rng, ids: &mut Ids) {
    let mut client = tool(server, "sender0");
    let all: String = numbers.clone().map(request).collect();
    // Mostly the answers are cut, now and then the request itself.
    let said = if rng.one_in(5) { rng.below(all.len()) } else { all.len() };
    client.stream.write_all(&all.as_bytes()[..said]).unwrap();
    let heard = rng.below(numbers.len() * LEAST_ANSWER);
    client.raw.clear();
    while said == all.len() && client.raw.len() < heard && client.read_once() {}
    note(&client.take_lines(), ids);
    if rng.one_in(2) {
        client.reset();
    }
}

/// The last try is not cut.
fn is_through(
    server: &Server,
    numbers: std::ops::Range<usize>,
    ids: &mut Ids,
) -> Result<(), String> {
    let mut client = tool(server, "sender0");
    let all: String = numbers.clone().map(request).collect();
    client.send(all.as_bytes());
    let lines: Vec<String> = numbers.clone().map(|_| client.line()).collect();
    note(&lines, ids);
    match lines.iter().find(|line| answered(line).is_none()) {
        Some(other) => Err(other.clone()),
        None => Ok(()),
    }
}

/// Takes all that waits: the id and the number of each message.
fn takes_all(server: &Server) -> Vec<(String, usize)> {
    let mut client = server.greeted();
    client.ask("coded 1");
    let welcome = client.ask(&format!("signin absent listener plain {PASSWORD}"));
    let waiting: usize = welcome.split(' ').nth(3).unwrap().parse().unwrap();
    let mut taken = vec![];
    for _ in 0..waiting {
        let line = client.line();
        let fields: Vec<&str> = line.split(' ').collect();
        let ["100", id, _, _, "sender0", "letter", number] = fields[..] else { panic!("{line}") };
        taken.push((id.to_owned(), number.parse().unwrap()));
        if taken.len() % 100 == 0 || taken.len() == waiting {
            client.say(&format!("ack {id}"));
        }
    }
    assert_eq!(client.ask("ping"), "264 pong");
    drop(client);
    is_gone(server);
    taken
}

/// The OK is lost again and again.
pub fn ok_lost(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut rng = Rng::from_env(5);
    let room = ["--mailbox-letters", "1000000", "--mailbox-bytes", "1000000000"];
    let mut server = Server::start(&people(1, &["absent"]), &room);
    let mut ids = Ids::new();
    let mut crashes = 0;
    for first in (0..count).step_by(AT_ONCE) {
        let numbers = first..(first + AT_ONCE).min(count);
        for _ in 0..TRIES {
            is_cut(&server, numbers.clone(), &mut rng, &mut ids);
            if rng.one_in(20) {
                crashes += 1;
                server.kill9();
                server.restart();
            }
        }
        if let Err(answer) = is_through(&server, numbers.clone(), &mut ids) {
            tally.unexpected(answer);
        }
        tally.cycles += numbers.len();
        if numbers.end % BETWEEN_DRAINS == 0 || numbers.end == count {
            tally.confirmed += ids.len();
            compare(&takes_all(&server), std::mem::take(&mut ids), tally);
        }
    }
    tally.notes.push(format!("each sent {} times; {crashes} crashes between", TRIES + 1));
    Ok(())
}

fn compare(taken: &[(String, usize)], ids: Ids, tally: &mut Tally) {
    let mut copies: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    taken.iter().for_each(|(id, number)| copies.entry(*number).or_default().push(id));
    tally.delivered += copies.len();
    for (number, ids) in ids {
        tally.holds(ids.len() == 1, || format!("letter {number} was answered with {ids:?}"));
        match copies.remove(&number).as_deref() {
            None => tally.faults.lost.push(format!("letter {number}, {ids:?}")),
            Some([one]) => tally.holds(*one == ids[0], || format!("{one} is not {ids:?}")),
            Some(all) => tally.faults.doubled.push(format!("letter {number}: {all:?}")),
        }
    }
    tally.holds(copies.is_empty(), || format!("nobody was told of {copies:?}"));
}
