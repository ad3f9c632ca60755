//! Any bytes, cut anywhere: what comes out of the telnet filter and the framing is the same as of
//! the whole, and whatever it is, the grammar of both dialects makes something of it.

use crate::campaign::{Skip, Tally};
use crate::support::rng::Rng;
use mms::limits::{COUNTED_BYTES, LINE_BYTES};
use mms::proto::line::{Frame, Framer, Limits};
use mms::proto::telnet::Telnet;
use mms::proto::{coded, command, foreign};
use std::hint::black_box;

/// What noise is made of, so that it now and then means something.
const WORDS: [&[u8]; 24] = [
    b"send ",
    b"(",
    b")",
    b"fred ",
    b"{5}\r\n",
    b"{99999}\n",
    b"{",
    b"}",
    b"\r\n",
    b"\n",
    b"\r\0",
    b"\r",
    b"\0",
    b"\xff",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff\xfd\x06",
    b"@t1 ",
    b"signin ",
    b"ack ",
    b"=k1 ",
    b"\xe2\x80\xae",
    "🏴".as_bytes(),
    b"broadcast ",
];

fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![];
    for _ in 0..rng.below(24) {
        if rng.one_in(3) {
            let mut random = [0; 6];
            rng.fill(&mut random);
            bytes.extend_from_slice(&random[..rng.below(6)]);
        } else {
            bytes.extend_from_slice(WORDS[rng.below(WORDS.len())]);
        }
    }
    bytes
}

/// One connection's input, piece by piece; what it was taken for.
fn taken<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Vec<u8> {
    let (mut telnet, mut framer) = (Telnet::default(), Framer::default());
    let (mut inbox, mut out) = (vec![], vec![]);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let count = telnet.filter(&mut piece, &mut vec![]);
        inbox.extend_from_slice(&piece[..count]);
        loop {
            let (used, frame) = framer.next(&inbox, limits);
            let ended = frame.is_none();
            match frame {
                None => {}
                Some(Frame::Line(line)) => out.extend([b"line ", line, b"\n"].concat()),
                Some(Frame::Counted(line, body)) => {
                    out.extend([b"counted ", line, b"|", body, b"\n"].concat());
                }
                Some(Frame::TooMany(line, _)) => out.extend([b"many ", line, b"\n"].concat()),
                Some(Frame::TooLong) => out.extend(b"long\n"),
                Some(Frame::Miscounted) => out.extend(b"miscounted\n"),
            }
            inbox.drain(..used);
            if ended {
                break;
            }
        }
    }
    out
}

/// All that a line and a text may be taken for; it is enough that it ends, and does not panic.
fn understood(bytes: &[u8]) {
    black_box(foreign::by_bytes(bytes));
    for line in bytes.split(|&b| b == b'\n') {
        black_box(foreign::by_line(line));
        _ = black_box(command::parse(line));
        black_box(coded::parse(line, None).tag);
        black_box(coded::parse(line, Some(bytes)).tag);
    }
}

/// So many inputs.
pub fn parser(count: usize, tally: &mut Tally) -> Result<(), Skip> {
    let mut rng = Rng::from_env(17);
    let every = [
        Limits { line: LINE_BYTES, counted: Some(COUNTED_BYTES) },
        Limits { line: LINE_BYTES, counted: None },
        Limits { line: 20, counted: Some(10) },
    ];
    for _ in 0..count {
        let bytes = noise(&mut rng);
        let limits = *rng.pick(&every);
        let whole = taken([&bytes[..]].into_iter(), limits);
        let cut = taken(bytes.chunks(1 + rng.below(7)), limits);
        tally.holds(whole == cut, || format!("{bytes:?} within {limits:?}"));
        understood(&bytes);
        tally.cycles += 1;
    }
    Ok(())
}
