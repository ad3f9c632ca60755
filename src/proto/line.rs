//! Framing: bytes to lines, however they were cut. A line ends with LF, CR LF or CR NUL (what
//! telnet sends in character mode). The frame is a nom streaming parser that is resumed where it
//! stopped, so the work is linear in the bytes; a line over the limit is reported once and its
//! rest is skipped without being kept, together with the text that a count at its end announces.

use memchr::memchr2_iter;
use nom::{IResult, Needed};

/// What came off the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// A line that ended in `{N}`, without that, and the N bytes that followed it.
    Counted(&'a [u8], &'a [u8]),
    /// A line over the limit; what of it is still to come is skipped, its text by count included.
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

/// What of the line under way is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Skipping {
    /// All of it is.
    #[default]
    Nothing,
    /// The rest of a line that was reported as too long. A count at its end holds.
    Line,
    /// What stands behind a text by count, up to the line end.
    Rest,
}

/// Where framing stands between two reads of a connection.
#[derive(Debug, Default)]
pub struct Framer {
    /// Bytes at the front of the input that are known to hold no line end.
    scanned: usize,
    /// Counted bytes still to be skipped, and what comes behind them.
    skip_bytes: u64,
    skipping: Skipping,
    /// The input's length below which the counted text under way is surely not whole.
    awaited: u32,
}

/// Bytes at the end of a line that is skipped which may still matter: `{`, ten digits, `}`, and a
/// CR of the line end.
const TAIL_BYTES: usize = 13;

/// A length within the limits of a line and a text, which is small; longer ones are looked at
/// sooner than need be.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_default()
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
    /// Takes the next frame off the front of `input`: the bytes used up, and the frame if there is
    /// one. The caller drops the used bytes and offers the rest again, with what has come since.
    pub fn next<'a>(&mut self, input: &'a [u8], limits: Limits) -> (usize, Option<Frame<'a>>) {
        let skips = self.skip_bytes > 0 || self.skipping != Skipping::Nothing;
        let (skipped, more) = if skips { self.skip(input, limits) } else { (0, false) };
        let input = &input[skipped..];
        if more || self.awaited as usize > input.len() {
            return (skipped, None);
        }
        self.awaited = 0;
        let (used, frame) = self.frame(input, limits);
        (skipped + used, frame)
    }

    /// Drops what is not wanted: the bytes used up, and whether more of it is still to come.
    fn skip(&mut self, input: &[u8], limits: Limits) -> (usize, bool) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let counted =
                usize::try_from(self.skip_bytes).map_or(rest.len(), |n| n.min(rest.len()));
            self.skip_bytes -= counted as u64;
            used += counted;
            if self.skip_bytes > 0 || self.skipping == Skipping::Nothing {
                return (used, self.skip_bytes > 0);
            }
            let rest = &rest[counted..];
            let Ok((after, line)) = line(rest, self.scanned) else {
                self.scanned = rest.len().min(TAIL_BYTES);
                return (used + rest.len() - self.scanned, true);
            };
            used += rest.len() - after.len();
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) == Skipping::Line {
                self.skip_text_of(line, limits);
            }
        }
    }

    /// A line that is refused as too long takes the text that its end announces with it: nothing
    /// that was meant as a text is read as a command.
    fn skip_text_of(&mut self, line: &[u8], limits: Limits) {
        if let Some((_, number)) = count(line).filter(|_| limits.counted.is_some()) {
            self.skip_bytes = number;
            self.skipping = Skipping::Rest;
        }
    }

    /// The frame that begins with `input`.
    fn frame<'a>(&mut self, input: &'a [u8], limits: Limits) -> (usize, Option<Frame<'a>>) {
        let Ok((rest, line)) = line(input, self.scanned) else {
            if input.len() <= limits.line + 1 {
                self.scanned = input.len();
                return (0, None);
            }
            // Nothing of it is kept but what may be a count.
            self.skipping = Skipping::Line;
            self.scanned = TAIL_BYTES.min(input.len());
            return (input.len() - self.scanned, Some(Frame::TooLong));
        };
        self.scanned = 0;
        let used = input.len() - rest.len();
        if line.len() > limits.line {
            self.skip_text_of(line, limits);
            return (used, Some(Frame::TooLong));
        }
        let Some((most, (head, number))) = limits.counted.zip(count(line)) else {
            return (used, Some(Frame::Line(line)));
        };
        let Some(number) = usize::try_from(number).ok().filter(|&number| number <= most) else {
            self.skip_bytes = number;
            self.skipping = Skipping::Rest;
            return (used, Some(Frame::TooMany(head, number)));
        };
        let Some((body, behind)) = rest.split_at_checked(number) else {
            self.awaited = small(used + number + 1);
            return (0, None);
        };
        match self::line(behind, 0) {
            Ok((after, extra)) => {
                let whole = extra.is_empty();
                let frame = if whole { Frame::Counted(head, body) } else { Frame::Miscounted };
                (input.len() - after.len(), Some(frame))
            }
            Err(_) if behind.len() > limits.line => {
                self.skipping = Skipping::Rest;
                // A CR may begin the line end.
                self.scanned = usize::from(input.ends_with(b"\r"));
                (input.len() - self.scanned, Some(Frame::Miscounted))
            }
            Err(_) => {
                self.awaited = small(input.len() + 1);
                (0, None)
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
    fn a_line_that_is_too_long_takes_its_text_along() {
        let long = "x".repeat(30);
        for end in ["\n", "\r\n", "\r\0"] {
            for (bytes, want) in [
                // The text is skipped whatever stands in it, and however long it may be.
                (format!("{long}{{3}}{end}a\nb{end}c{end}"), vec![None, Some("c")]),
                (format!("{long}{{0}}{end}{end}c{end}"), vec![None, Some("c")]),
                (format!("{long}{{12}}{end}signout\nsend{end}c{end}"), vec![None, Some("c")]),
                (format!("{long}{{0000000003}}{end}a\nb{end}c{end}"), vec![None, Some("c")]),
                // What follows it on its line goes, too; a count there means nothing.
                (format!("{long}{{1}}{end}abc {{9}}{end}c{end}"), vec![None, Some("c")]),
                (format!("a {{1}}{end}bcd {{9}}{end}c{end}"), vec![Some("!"), Some("c")]),
                (format!("a {{1}}{end}b{long} {{9}}{end}c{end}"), vec![Some("!"), Some("c")]),
                // These are no counts.
                (format!("{long}{{12345678901}}{end}c{end}"), vec![None, Some("c")]),
                (format!("{long}{{}}{end}c{end}"), vec![None, Some("c")]),
                (format!("{long}{{3}}x{end}c{end}"), vec![None, Some("c")]),
            ] {
                let want: Vec<_> = want.into_iter().map(|line| line.map(|l| l.into())).collect();
                for size in 1..=bytes.len() {
                    let (out, held) = fed(bytes.as_bytes().chunks(size), COUNTED);
                    assert_eq!(out, want, "{bytes:?} cut in pieces of {size}");
                    assert!(held <= 40, "{held} bytes were kept of {bytes:?}");
                }
            }
        }
        let most = format!("{long}{{9999999999}}\n");
        let (mut framer, mut got) = (Framer::default(), vec![]);
        framer.next(most.as_bytes(), COUNTED);
        for _ in 0..10 {
            got.push(framer.next(&[b'\n'; 1000], COUNTED) == (1000, None));
        }
        assert!(got.iter().all(|&skipped| skipped));
        // Where no texts are counted, the end of a line means nothing.
        let plain = Limits { line: 20, counted: None };
        let (out, _) = fed([format!("{long}{{3}}\nabc\n").as_bytes()].into_iter(), plain);
        assert_eq!(out, [None, Some(b"abc".to_vec())]);
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
