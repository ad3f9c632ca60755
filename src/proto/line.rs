//! Framing: bytes to lines, however they were cut. A line ends with LF, CR LF or CR NUL (what
//! telnet sends in character mode). The frame is a nom streaming parser that is resumed where it
//! stopped, so the work is linear in the bytes; a line over the limit is reported once and its
//! rest is skipped without being kept.

use memchr::memchr2_iter;
use nom::{IResult, Needed};

/// What came off the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// A line over the limit; what of it is still to come is skipped.
    TooLong,
}

/// Where framing stands between two reads of a connection.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes at the front of the input that are known to hold no line end.
    scanned: usize,
    /// The line under way was reported as too long.
    skipping: bool,
}

/// `line = *OCTET ( [CR] LF / CR NUL )`, resumed behind `scanned` bytes without a line end.
fn line(input: &[u8], scanned: usize) -> IResult<&[u8], &[u8]> {
    // A CR that was the last byte seen may begin a line end.
    let from = scanned.saturating_sub(1);
    for end in memchr2_iter(b'\n', b'\0', &input[from..]).map(|at| from + at) {
        let after_cr = end > 0 && input[end - 1] == b'\r';
        if input[end] == b'\n' || after_cr {
            let line = &input[..end - usize::from(after_cr)];
            return Ok((&input[end + 1..], line));
        }
    }
    Err(nom::Err::Incomplete(Needed::Unknown))
}

impl Framer {
    /// Takes the next frame off the front of `input`: the bytes used up, and the frame if there is
    /// one. The caller drops the used bytes and offers the rest again, with what has come since.
    /// `limit` is the longest line in bytes.
    pub fn next<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Option<Frame<'a>>) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match line(rest, self.scanned) {
                Ok((after, line)) => {
                    self.scanned = 0;
                    used = input.len() - after.len();
                    if std::mem::take(&mut self.skipping) {
                        continue;
                    }
                    let frame = if line.len() > limit { Frame::TooLong } else { Frame::Line(line) };
                    return (used, Some(frame));
                }
                Err(_) if self.skipping => {
                    // Nothing of it is kept but a CR that may begin its end.
                    let keep = usize::from(rest.last() == Some(&b'\r'));
                    self.scanned = 0;
                    return (input.len() - keep, None);
                }
                Err(_) if rest.len() > limit + 1 => {
                    self.skipping = true;
                    let keep = usize::from(rest.last() == Some(&b'\r'));
                    self.scanned = 0;
                    return (input.len() - keep, Some(Frame::TooLong));
                }
                Err(_) => {
                    self.scanned = rest.len();
                    return (used, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `pieces` one after another and tells what came out, `None` for a line too long.
    fn frames<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        limit: usize,
    ) -> (Vec<Option<Vec<u8>>>, usize) {
        let (mut framer, mut buffer, mut out, mut held) = (Framer::default(), vec![], vec![], 0);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                let (used, frame) = framer.next(&buffer, limit);
                match frame {
                    Some(Frame::Line(line)) => out.push(Some(line.to_vec())),
                    Some(Frame::TooLong) => out.push(None),
                    None => {}
                }
                let ended = frame.is_none();
                buffer.drain(..used);
                if ended {
                    break;
                }
            }
            held = held.max(buffer.len());
        }
        (out, held)
    }

    #[test]
    fn every_line_end_ends_a_line() {
        let (out, _) = frames([&b"a\nb\r\nc\r\0\n\r\nd\0e\rf\ng"[..]].into_iter(), 99);
        let want: Vec<_> = ["a", "b", "c", "", "", "d\0e\rf"].map(|l| Some(l.into())).into();
        assert_eq!(out, want);
    }

    #[test]
    fn a_line_without_end_is_reported_once_and_never_kept() {
        let pieces = std::iter::repeat_n(&b"xxxxxxx\r"[..], 1000).chain([&b"\nnext\n"[..]]);
        let (out, held) = frames(pieces, 100);
        assert_eq!(out, [None, Some(b"next".to_vec())]);
        assert!(held <= 102, "{held}");
    }

    #[test]
    fn the_limit_counts_no_line_end() {
        for end in ["\n", "\r\n"] {
            let line = format!("{}{end}", "x".repeat(10));
            for cut in 0..=line.len() {
                let (a, b) = line.as_bytes().split_at(cut);
                assert_eq!(frames([a, b].into_iter(), 10).0, [Some(vec![b'x'; 10])]);
                assert_eq!(frames([a, b].into_iter(), 9).0, [None], "{end:?} cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_same_lines_however_cut(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()],
                0..200,
            ),
            size in 1usize..9,
        ) {
            let whole = frames([&bytes[..]].into_iter(), 20).0;
            prop_assert_eq!(frames(bytes.chunks(size), 20).0, whole);
        }
    }
}
