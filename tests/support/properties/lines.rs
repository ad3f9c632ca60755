//! Framing: the same frames however the bytes were cut, as a simple reader of the whole finds them;
//! none over its limit, and never more kept than one of them needs.

use super::{Input, pieces};
use mms::proto::line::{Frame, Framer, Limits};

/// A frame that owns what it holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Line(Vec<u8>),
    Counted(Vec<u8>, Vec<u8>),
    TooLong,
    TooMany(Vec<u8>, u64),
    Miscounted,
}

impl From<Frame<'_>> for Found {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Line(line) => Self::Line(line.into()),
            Frame::Counted(line, text) => Self::Counted(line.into(), text.into()),
            Frame::TooLong => Self::TooLong,
            Frame::TooMany(line, count) => Self::TooMany(line.into(), count),
            Frame::Miscounted => Self::Miscounted,
        }
    }
}

pub fn try_out(bytes: &[u8]) {
    let mut input = Input(bytes);
    let limits = Limits {
        line: input.pick(&[0, 1, 12, 20, 100, 512, 4096]),
        counted: input.pick(&[None, Some(0), Some(10), Some(1000), Some(65_536)]),
    };
    let cuts = input.cuts();
    let whole = framed([input.0].into_iter(), limits);
    assert_eq!(whole, model(input.0, limits), "{limits:?}");
    assert_eq!(framed(pieces(input.0, &cuts).into_iter(), limits), whole, "{limits:?} {cuts:?}");
    assert_eq!(framed(input.0.chunks(1), limits), whole, "{limits:?}, a byte at a time");
}

/// What comes out of these pieces.
fn framed<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Vec<Found> {
    let (mut framer, mut kept, mut out) = (Framer::default(), vec![], vec![]);
    // A line, the text it counts, what follows that wrongly, and line ends; or what may be a count
    // at the end of a line that is skipped.
    let most = (2 * limits.line + limits.counted.unwrap_or(0) + 4).max(13);
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let (used, frame) = framer.next(&kept, limits);
            let ended = frame.is_none();
            out.extend(frame.map(|frame| bounded(frame, limits)));
            kept.drain(..used);
            if ended {
                break;
            }
        }
        assert!(kept.len() <= most, "{} bytes are kept under {limits:?}", kept.len());
    }
    out
}

fn bounded(frame: Frame<'_>, limits: Limits) -> Found {
    if let Frame::Line(line) | Frame::Counted(line, _) | Frame::TooMany(line, _) = frame {
        assert!(line.len() <= limits.line && line_end(line).is_none(), "{line:?}");
    }
    match frame {
        Frame::Counted(_, text) => assert!(text.len() <= limits.counted.unwrap()),
        Frame::TooMany(_, count) => assert!(count > limits.counted.unwrap() as u64),
        _ => {}
    }
    frame.into()
}

/// Where the first line ends, and where the next one begins.
fn line_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let at = (0..bytes.len())
        .find(|&at| bytes[at] == b'\n' || (bytes[at] == 0 && at > 0 && bytes[at - 1] == b'\r'))?;
    let end = if at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
    Some((end, at + 1))
}

/// The count that a line ends with, and where it begins.
fn count(line: &[u8]) -> Option<(usize, u64)> {
    let text = line.strip_suffix(b"}")?;
    let open = text.iter().rposition(|&b| b == b'{')?;
    let digits = &text[open + 1..];
    let good = (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| good)?;
    Some((open, digits.parse().ok()?))
}

/// What the whole of the bytes should be, told in the simplest way and without being bounded.
fn model(bytes: &[u8], limits: Limits) -> Vec<Found> {
    let (mut rest, mut out) = (bytes, vec![]);
    // Behind a text whose line was refused: so many bytes, and all up to the line end.
    let skip = |rest: &mut &[u8], number: u64| {
        let number = usize::try_from(number).unwrap().min(rest.len());
        *rest = &rest[number..];
        *rest = line_end(rest).map_or(&[][..], |(_, next)| &rest[next..]);
    };
    loop {
        let Some((end, next)) = line_end(rest) else {
            // More than a line and a CR.
            if rest.len() > limits.line + 1 {
                out.push(Found::TooLong);
            }
            return out;
        };
        let line = &rest[..end];
        rest = &rest[next..];
        let counted = limits.counted.zip(count(line));
        match counted {
            _ if end > limits.line => {
                out.push(Found::TooLong);
                if let Some((_, (_, number))) = counted {
                    skip(&mut rest, number);
                }
            }
            None => out.push(Found::Line(line.into())),
            Some((most, (open, number))) if number > most as u64 => {
                out.push(Found::TooMany(line[..open].into(), number));
                skip(&mut rest, number);
            }
            Some((_, (open, number))) => {
                let number = number as usize;
                if rest.len() < number {
                    return out;
                }
                let (text, behind) = rest.split_at(number);
                match line_end(behind) {
                    Some((0, next)) => {
                        out.push(Found::Counted(line[..open].into(), text.into()));
                        rest = &behind[next..];
                    }
                    Some((_, next)) => {
                        out.push(Found::Miscounted);
                        rest = &behind[next..];
                    }
                    None => {
                        if behind.len() > limits.line {
                            out.push(Found::Miscounted);
                        }
                        return out;
                    }
                }
            }
        }
    }
}
