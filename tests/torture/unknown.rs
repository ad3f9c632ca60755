//! Nobody learns who exists: a wrong password is answered with the same bytes, and as soon, for a
//! user and for nobody, from plain text and in the SCRAM exchange.
//!
//! Times are told apart by their medians, of attempts that take turns, so that what else the
//! machine does meets both. A difference that is there stays when more are taken; noise does not.

use crate::campaign::{Skip, Tally};
use crate::support::rng::Rng;
use crate::support::server::{Client, Folder, PASSWORD, Server};
use mms::core::password::Verifier;
use mms::limits::TRIES_A_CONNECTION;
use std::time::{Duration, Instant};

/// How far the medians may be apart, in parts of a hundred.
const PERCENT: f64 = 2.0;
/// How often as many attempts again are taken before a difference is believed.
const PATIENCE: usize = 6;
/// Users, and as many names that nobody has.
const NAMES: [[&str; 4]; 2] = [["anna", "bert", "carl", "dora"], ["emil", "fritz", "gerd", "hans"]];

/// What is measured of one attempt: what was said, with the name left out, and how long it took.
type Outcome = Vec<(String, Duration)>;

/// Attempts on connections of their own, as many as one bears.
struct Door<'a> {
    server: &'a Server,
    program: bool,
    open: Option<(Client, u32)>,
}

impl Door<'_> {
    fn client(&mut self) -> &mut Client {
        if self.open.as_ref().is_some_and(|(_, tries)| tries + 1 >= TRIES_A_CONNECTION) {
            self.open = None;
        }
        let (client, tries) = self.open.get_or_insert_with(|| {
            let mut client = self.server.greeted();
            if self.program {
                client.say("coded 1");
                client.expect("200 ");
            }
            (client, 0)
        });
        *tries += 1;
        client
    }
}

/// Asks, and tells what came and after how long.
fn timed(client: &mut Client, line: &str) -> (String, Duration) {
    let begin = Instant::now();
    client.say(line);
    let answer = client.line();
    (answer, begin.elapsed())
}

fn from_plain_text(door: &mut Door<'_>, name: &str) -> Outcome {
    let (answer, took) = timed(door.client(), &format!("signin {name} wrong"));
    vec![(answer.replace(name, "NAME"), took)]
}

/// The challenge, whose salt and nonce are random and known by their lengths alone, and what
/// becomes of a proof that is none.
fn scram(door: &mut Door<'_>, name: &str) -> Outcome {
    let first = mms::crypto::encode_text(&format!("n,,n={name},r=abcdefghijklmnop"));
    let client = door.client();
    let (answer, challenge) = timed(client, &format!("signin {name} tool scram {first}"));
    let text = answer.rsplit(' ').next().and_then(mms::crypto::decode_text).unwrap_or_default();
    let nonce = text.split(',').next().and_then(|part| part.strip_prefix("r=")).unwrap_or_default();
    let shape: Vec<String> = text
        .split(',')
        .map(|part| match part.split_at_checked(2) {
            Some(("i=", _)) => part.into(),
            Some((what, rest)) => format!("{what}{}", rest.len()),
            None => part.into(),
        })
        .collect();
    let code = answer.split(' ').next().unwrap_or_default();
    let told = format!("{code} {}", shape.join(","));
    let last = format!("c=biws,r={nonce},p={}", mms::crypto::encode_text(&"x".repeat(32)));
    let (refused, proof) = timed(client, &format!("auth {}", mms::crypto::encode_text(&last)));
    vec![(told, challenge), (refused.replace(name, "NAME"), proof)]
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// How many of a hundred parts two medians are apart.
fn apart([user, nobody]: [f64; 2]) -> f64 {
    (user - nobody).abs() / user.min(nobody) * 100.0
}

/// So many attempts of each kind, of whom exists and of whom does not.
fn compare(
    what: &[&str],
    count: usize,
    rng: &mut Rng,
    tally: &mut Tally,
    mut attempt: impl FnMut(&str) -> Outcome,
) {
    let mut times: Vec<[Vec<Duration>; 2]> = what.iter().map(|_| [vec![], vec![]]).collect();
    let mut told: Vec<Option<String>> = vec![None; what.len()];
    for round in 1..=PATIENCE {
        for n in 0..count {
            // The order is drawn, so that nothing is always the second one.
            let begin = rng.below(2);
            for kind in [begin, 1 - begin] {
                for (at, (answer, took)) in attempt(NAMES[kind][n % 4]).into_iter().enumerate() {
                    let first = told[at].get_or_insert_with(|| answer.clone());
                    let same = *first == answer;
                    tally.holds(same, || format!("{}: {answer:?}, not {first:?}", what[at]));
                    times[at][kind].push(took);
                }
            }
            tally.cycles += 2;
        }
        let medians = times.iter_mut().map(|kinds| kinds.each_mut().map(|all| median(all)));
        let medians: Vec<[f64; 2]> = medians.collect();
        println!("{what:?}: {medians:?}");
        let differs = medians.iter().any(|&pair| apart(pair) >= PERCENT);
        if differs && round < PATIENCE {
            continue;
        }
        for (what, pair) in what.iter().zip(medians) {
            let words =
                format!("{what} {:.0} and {:.0} us ({:.1} %)", pair[0], pair[1], apart(pair));
            tally.holds(apart(pair) < PERCENT, || words.clone());
            tally.notes.push(words);
        }
        return;
    }
}

/// Wrong passwords, so many for users and as many for names that nobody has.
pub fn unknown(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let folder = Folder::new();
    let mut users = String::new();
    for (n, name) in NAMES[0].iter().enumerate() {
        let salt = [n as u8 + 1; mms::crypto::SALT_BYTES];
        users += &format!("{name}:{}\n", Verifier::derive(PASSWORD.as_bytes(), &salt, 4096));
    }
    folder.write("users", &users);
    // Or the fourth attempt would be answered without a look at the password.
    let server = Server::start_in(folder, &["--max-failures", "0"]);
    let mut rng = Rng::from_env(5);
    let mut door = Door { server: &server, program: false, open: None };
    compare(&["plain text"], count, &mut rng, tally, |name| from_plain_text(&mut door, name));
    let mut door = Door { server: &server, program: true, open: None };
    compare(&["challenge", "proof"], count, &mut rng, tally, |name| scram(&mut door, name));
    Ok(())
}
