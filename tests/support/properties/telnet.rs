//! The telnet filter: the same text and answers however the bytes were cut; text alone passes as it
//! is, and so does what is escaped; answers are few and ask for no answers.

use super::{Input, pieces};
use mms::proto::telnet::Telnet;

const IAC: u8 = 255;

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let cuts = input.cuts();
    let said = input.0;
    let reads = pieces(said, &cuts);
    let (text, answer, marks) = filtered(&reads, 1);
    let whole = filtered(&[said], 1);
    assert_eq!(text, whole.0, "{cuts:?}");
    // Who asks whether anybody is there is answered once a read, however often he asks.
    let (other, times) = without_presence(&answer);
    let (other_whole, once) = without_presence(&whole.1);
    assert_eq!(other, other_whole, "{cuts:?}");
    assert!(once <= 1 && (once..=reads.len()).contains(&times), "{times} for {once}: {cuts:?}");
    assert_eq!(marks.len(), whole.2.len().min(marks.len()), "a mark is answered once");
    // What is kept stood there, in that order.
    let mut from = said.iter();
    assert!(text.iter().all(|byte| from.any(|other| other == byte)));
    // Two bytes ask whether anybody is there, and are answered with sixteen.
    assert!(answer.len() <= 8 * said.len(), "{} bytes to {}", answer.len(), said.len());
    let (_, to_it, _) = filtered(&[&answer], 1);
    assert_eq!(to_it, [0; 0], "an answer is not answered");
    let escaped: Vec<u8> =
        said.iter().flat_map(|&b| if b == IAC { vec![IAC, IAC] } else { vec![b] }).collect();
    let (text, answer, _) = filtered(&pieces(&escaped, &cuts), 1);
    assert_eq!((&text[..], &answer[..]), (said, &[][..]), "what is escaped is text");
}

/// The answers but those to 'are you there', and how many of these there were.
pub(super) fn without_presence(answer: &[u8]) -> (Vec<u8>, usize) {
    const HERE: &[u8] = b">> MMS is here\r\n";
    let (mut other, mut times, mut rest) = (vec![], 0, answer);
    while let Some((&first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(HERE) {
            (times, rest) = (times + 1, after);
        } else {
            other.push(first);
            rest = after;
        }
    }
    (other, times)
}

/// Text, answers, and the marks that were answered; a mark is asked for in front of it all.
fn filtered(pieces: &[&[u8]], said: u32) -> (Vec<u8>, Vec<u8>, Vec<u32>) {
    let (mut telnet, mut text, mut answer, mut marks) = (Telnet::default(), vec![], vec![], vec![]);
    telnet.ask_mark(said, &mut vec![]);
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let kept = telnet.filter(&mut bytes, &mut answer);
        text.extend_from_slice(&bytes[..kept]);
        marks.extend(telnet.take_answered());
    }
    assert!(marks.len() <= 1, "{marks:?}");
    (text, answer, marks)
}
