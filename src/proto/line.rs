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
    /// A line that ended in `{N}`, without that, and the N bytes that followed it.
    Counted(&'a [u8], &'a [u8]),
    /// A line over the limit; what of it is still to come is skipped.
    TooLong,
    /// A line, without the `{N}` at its end, and the N, which is over the limit: so many bytes are
    /// skipped.
    TooMany(&'a [u8], u64),
    /// Behind the counted bytes something else stood than a line end.
    Miscounted,
}

/// What a line may be, as long as its connection is in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest line in bytes.
    pub line: usize,
    /// The longest text by count in bytes, where `{N}` at the end of a line means one.
    pub counted: Option<usize>,
}

/// Where framing stands between two reads of a connection.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes at the front of the input that are known to hold no line end.
    scanned: usize,
    /// The line under way was reported as too long.
    skipping: bool,
    /// Counted bytes still to be skipped.
    skip_bytes: u64,
    /// The input's length below which the counted text under way is surely not whole.
    awaited: usize,
}

/// `count = "{" 1*10DIGIT "}"` at the end of a line: the line without it, and the number.
fn count(line: &[u8]) -> Option<(&[u8], u64)> {
    let (head, digits) = line.strip_suffix(b"}").and_then(|line| {
        let open = memchr::memrchr(b'{', line)?;
        Some((&line[..open], &line[open + 1..]))
    })?;
    if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some((head, number))
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
    /// Takes the next frame off the front of `input`, counted texts included where they are
    /// allowed; otherwise as [`Framer::next_line`].
    pub fn next<'a>(&mut self, input: &'a [u8], limits: Limits) -> (usize, Option<Frame<'a>>) {
        let Some(most) = limits.counted else { return self.next_line(input, limits.line) };
        let skipped = usize::try_from(self.skip_bytes).map_or(input.len(), |n| n.min(input.len()));
        self.skip_bytes -= skipped as u64;
        let input = &input[skipped..];
        if self.skip_bytes > 0 || self.awaited > input.len() {
            return (skipped, None);
        }
        self.awaited = 0;
        let (used, frame) = self.next_line(input, limits.line);
        let Some(Frame::Line(line)) = frame else { return (skipped + used, frame) };
        let Some((head, number)) = count(line) else { return (skipped + used, frame) };
        let Some(number) = usize::try_from(number).ok().filter(|&number| number <= most) else {
            self.skip_bytes = number;
            self.skipping = true;
            return (skipped + used, Some(Frame::TooMany(head, number)));
        };
        // What stands before the line was too long and is dropped with the line.
        let begin = line.as_ptr().addr() - input.as_ptr().addr();
        let rest = &input[used..];
        let Some((body, behind)) = rest.split_at_checked(number) else {
            self.awaited = used - begin + number + 1;
            return (skipped + begin, None);
        };
        match self::line(behind, 0) {
            Ok((after, extra)) => {
                let used = skipped + input.len() - after.len();
                let whole = extra.is_empty();
                (used, Some(if whole { Frame::Counted(head, body) } else { Frame::Miscounted }))
            }
            Err(_) if behind.len() > limits.line => {
                self.skipping = true;
                (skipped + input.len(), Some(Frame::Miscounted))
            }
            Err(_) => {
                self.awaited = input.len() - begin + 1;
                (skipped + begin, None)
            }
        }
    }

    /// Takes the next line off the front of `input`: the bytes used up, and the frame if there is
    /// one. The caller drops the used bytes and offers the rest again, with what has come since.
    /// `limit` is the longest line in bytes.
    pub fn next_line<'a>(&mut self, input: &'a [u8], limit: usize) -> (usize, Option<Frame<'a>>) {
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

    /// Feeds `pieces` one after another and tells what came out, `None` for a line too long, and
    /// how much was kept at most. A counted text comes behind its line, a miscounted one as `!`.
    fn fed<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        limits: Limits,
    ) -> (Vec<Option<Vec<u8>>>, usize) {
        let (mut framer, mut buffer, mut out, mut held) = (Framer::default(), vec![], vec![], 0);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                let (used, frame) = framer.next(&buffer, limits);
                match frame {
                    Some(Frame::Line(line)) => out.push(Some(line.to_vec())),
                    Some(Frame::Counted(line, body)) => out.push(Some([line, b"|", body].concat())),
                    Some(Frame::Miscounted) => out.push(Some(b"!".to_vec())),
                    Some(Frame::TooLong | Frame::TooMany(..)) => out.push(None),
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

    fn frames<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        limit: usize,
    ) -> (Vec<Option<Vec<u8>>>, usize) {
        fed(pieces, Limits { line: limit, counted: None })
    }

    const COUNTED: Limits = Limits { line: 20, counted: Some(10) };

    #[test]
    fn a_counted_text_may_hold_line_ends() {
        let bytes = b"a {3}\r\nx\ny\r\nb {0}\n\nc {2}\nxyz\nd{x}\ne {11}\n0123456789\n\nf\n";
        let want = [Some("a |x\ny"), Some("b |"), Some("!"), Some("d{x}"), None, Some("f")];
        let want: Vec<_> = want.map(|line| line.map(|line| line.as_bytes().to_vec())).into();
        for size in 1..=bytes.len() {
            assert_eq!(fed(bytes.chunks(size), COUNTED).0, want, "cut in pieces of {size}");
        }
    }

    #[test]
    fn a_huge_count_is_skipped_and_never_kept() {
        let begin = [&b"x {9999}\n"[..]].into_iter();
        let pieces = begin
            .chain(std::iter::repeat_n(&b"12345\n789"[..], 1110))
            .chain([&b"123456789\nz\n"[..]]);
        let (out, held) = fed(pieces, COUNTED);
        assert_eq!((out, held), (vec![None, Some(b"z".to_vec())], 0));
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

        #[test]
        fn the_same_frames_however_cut(
            bytes in proptest::collection::vec(
                prop_oneof![b'0'..=b'9', b'{'..=b'}', Just(b'\n'), Just(b'\r'), any::<u8>()],
                0..200,
            ),
            size in 1usize..9,
        ) {
            let whole = fed([&bytes[..]].into_iter(), COUNTED).0;
            prop_assert_eq!(fed(bytes.chunks(size), COUNTED).0, whole);
        }
    }
}
