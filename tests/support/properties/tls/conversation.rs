//! A whole conversation, and somebody in the middle of it: he cuts, changes, repeats, swaps, drops
//! and puts in what he likes, and the server reads nothing that the client has not said.

use super::super::{Input, pieces};
use super::{
    ANSWER_BYTES, DEEDS, ENDINGS, End, Ending, NEW_KEYS, PIECES, READ_BYTES, RECORD_MORE,
    RECORD_TEXT, Server, Wire, client, length_of, output, read, records_of,
};
use rustls::{ClientConnection, Error};
use std::io::Write as _;

/// What the client has said: its records one behind the other, and the text of each.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// Where a record ends, how much text there is up to there, and whether a goodbye.
    ends: Vec<(usize, usize, bool)>,
    text: Vec<u8>,
}

impl Said {
    fn add(&mut self, sealed: &[u8], text: &[u8], goodbye: bool) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(sealed);
        let mut left = text.len();
        for (_, end) in records_of(sealed) {
            let here = left.min(RECORD_TEXT);
            left -= here;
            let told = self.ends.last().map_or(0, |&(_, told, _)| told) + here;
            self.ends.push((begin + end, told, goodbye));
        }
        assert_eq!(left, 0, "a record holds as much as it may");
        self.text.extend_from_slice(text);
    }
}

/// What is on its way, as whoever sits there has changed it.
struct Middle {
    /// One or more records each.
    carried: Vec<Vec<u8>>,
}

impl Middle {
    fn last(&mut self) -> Option<&mut Vec<u8>> {
        self.carried.last_mut().filter(|last| !last.is_empty())
    }

    /// Does something to what has been said last.
    fn meddle(&mut self, deed: u8, input: &mut Input<'_>) {
        let count = self.carried.len();
        match deed {
            3 => {
                let (at, mask) = (input.number(), input.byte().max(1));
                let Some(last) = self.last() else { return };
                let at = at % last.len();
                // Kind and version of a record say nothing in TLS 1.3, and are not looked at.
                if at > 2 {
                    last[at] ^= mask;
                }
            }
            4 => {
                let less = input.number();
                let Some(last) = self.last() else { return };
                let left = last.len() - less % last.len();
                last.truncate(left);
            }
            5 if count > 0 => {
                let again = self.carried[input.number() % count].clone();
                self.carried.push(again);
            }
            6 if count > 1 => self.carried.swap(count - 2, count - 1),
            7 => _ = self.carried.pop(),
            8 => {
                let kind = input.pick(&[20, 21, 22, 23, 24, 0, 255]);
                let length = usize::from(input.byte() % 32);
                let mut record = vec![kind, 3, 3, 0, length as u8];
                record.extend((0..length).map(|_| input.byte()));
                self.carried.push(record);
            }
            _ => {
                let length = usize::from(input.byte() % 16);
                self.carried.push((0..length).map(|_| input.byte()).collect());
            }
        }
    }
}

/// What is agreed upon before the conversation, in the order of the input.
struct Plan {
    cuts: Vec<usize>,
    buffer: usize,
    ending: Ending,
}

/// A client and the server talk, and somebody sits in the middle.
pub fn conversation(mut input: Input<'_>) {
    let mut client = client(input.byte());
    let plan = Plan {
        cuts: input.long_cuts(),
        buffer: input.pick(&[1, 7, 512, 4096, RECORD_TEXT, 64 << 10]),
        ending: input.pick(&ENDINGS),
    };
    let mut server = Server::new(plan.buffer);
    let mut said = Said::default();
    // With TLS 1.3 the end of the handshake comes together with what follows.
    let finish = shake_hands(&mut client, &mut server, &plan);
    let mut middle = Middle { carried: vec![] };
    let mut told = vec![];
    let (mut new_keys, mut goodbye) = (0, false);
    for _ in 0..DEEDS {
        if input.0.is_empty() {
            break;
        }
        let mut speak = |client: &mut ClientConnection, text: &[u8], goodbye| {
            let sealed = output(client);
            said.add(&sealed, text, goodbye);
            middle.carried.push(sealed);
        };
        match input.byte() % 13 {
            0..=2 if !goodbye => {
                let length = input.number() % (2 * RECORD_TEXT);
                let text: Vec<u8> = (0..length).map(|at| (at / 3) as u8).collect();
                client.writer().write_all(&text).expect("there is room for it");
                speak(&mut client, &text, false);
            }
            10 if !goodbye => {
                client.send_close_notify();
                goodbye = true;
                speak(&mut client, b"", true);
            }
            11 if !goodbye && new_keys < NEW_KEYS && client.refresh_traffic_keys().is_ok() => {
                new_keys += 1;
                speak(&mut client, b"", false);
            }
            12 => told.push(input.number()),
            deed @ 3..=9 => middle.meddle(deed, &mut input),
            _ => {}
        }
    }
    let carried = middle.carried.concat();
    let end = converse(&mut server, [&finish[..], &carried].concat(), &told, &plan);
    let rest = only_what_was_said(&server, &said, &carried, (end, plan.ending));
    if end == End::Open {
        let held = server.session.weight() - server.session.sealed().len();
        assert!(held + READ_BYTES >= rest, "{held} is counted of {rest} bytes");
    }
    all_is_heard(&mut server, &mut client, told, new_keys);
}

/// Shakes hands up to the client's last words, which are returned.
fn shake_hands(client: &mut ClientConnection, server: &mut Server, plan: &Plan) -> Vec<u8> {
    for _ in 0..3 {
        let words = output(client);
        if !client.is_handshaking() {
            return words;
        }
        server.hear(&mut Wire::new(pieces(&words, &plan.cuts), Ending::Nothing));
        let answer = server.answer();
        assert!((1..=ANSWER_BYTES).contains(&answer.len()), "{}", answer.len());
        let (text, content) = read(client, &answer);
        assert!(text.is_empty() && content.is_ok(), "{content:?}");
    }
    panic!("they do not come to an end");
}

/// The server hears it all, and has something to tell itself between the pieces.
fn converse(server: &mut Server, bytes: Vec<u8>, told: &[usize], plan: &Plan) -> End {
    // Much is not cut into very small pieces, which would take long and show no more.
    let least = bytes.len() / PIECES + 1;
    let cuts: Vec<usize> = plan.cuts.iter().map(|cut| *cut.max(&least)).collect();
    let pieces = pieces(&bytes, &cuts);
    let mut told = told.iter();
    let mut last = Wire::new(vec![], plan.ending);
    let mut end = End::Open;
    for piece in pieces {
        end = server.hear(&mut Wire::new(vec![piece], Ending::Nothing));
        if !matches!(end, End::Open | End::Shaking) {
            break;
        }
        if server.shaken
            && let Some(length) = told.next()
        {
            tell(server, *length);
            server.write(length / 2);
        }
    }
    if matches!(end, End::Open | End::Shaking) {
        end = server.hear(&mut last);
    }
    // A port says no more where it is broken; elsewhere what is left is told before the end.
    told.for_each(|length| {
        if matches!(end, End::Open | End::Goodbye) {
            tell(server, *length);
        }
    });
    end
}

fn tell(server: &mut Server, length: usize) {
    let before = server.session.sealed().len();
    let mut text = vec![b'>'; length];
    assert!(server.session.seal(&mut text) && text.is_empty());
    let grown = server.session.sealed().len() - before;
    // New keys are told with it, if they were asked for.
    let more = (length / RECORD_TEXT + 2) * RECORD_MORE;
    assert!(length <= grown && grown <= length + more, "{grown} for {length}");
    server.is_weighed();
}

/// What the server has read and taken for the end. Returns how many bytes are the half of a record.
fn only_what_was_said(
    server: &Server,
    said: &Said,
    carried: &[u8],
    (end, ending): (End, Ending),
) -> usize {
    let same = said.bytes.iter().zip(carried).take_while(|(a, b)| a == b).count();
    let whole = said.ends.iter().take_while(|(at, ..)| *at <= same);
    let &(at, length, _) = whole.clone().last().unwrap_or(&(0, 0, false));
    let length = if server.shaken { length } else { 0 };
    assert_eq!(server.text.len(), length, "all that is whole and in order, and nothing else");
    assert!(server.text == said.text[..length]);
    let rest = &carried[at..];
    if !server.shaken {
        // What is forged was read together with the end of the handshake.
        assert!(end == End::Failed && !rest.is_empty(), "{end:?}");
        return 0;
    }
    if whole.clone().any(|(.., goodbye)| *goodbye) {
        assert_eq!(end, End::Goodbye);
        return 0;
    }
    let is_forged = length_of(rest).is_some_and(|length| length <= rest.len());
    match (is_forged, ending) {
        // Half a record, or what may still become one.
        (false, Ending::Nothing) if end == End::Open => rest.len(),
        (false, Ending::Nothing) => {
            assert!(end == End::Broken && !rest.is_empty(), "{end:?}");
            0
        }
        _ => {
            assert_eq!(end, End::Broken);
            0
        }
    }
}

/// The client reads what the server has told, in whole, and then at most why it was left.
fn all_is_heard(
    server: &mut Server,
    client: &mut ClientConnection,
    told: Vec<usize>,
    new_keys: usize,
) {
    let sealed = server.answer();
    let (text, content) = read(client, &sealed);
    let most: usize = told.iter().sum();
    assert!(text.len() <= most && text.iter().all(|&b| b == b'>'));
    let more = (most / RECORD_TEXT + 2 * told.len() + new_keys + 2) * RECORD_MORE;
    assert!(sealed.len() <= text.len() + more + ANSWER_BYTES, "{} bytes", sealed.len());
    assert!(matches!(content, Ok(()) | Err(Error::AlertReceived(_))), "{content:?}");
}
