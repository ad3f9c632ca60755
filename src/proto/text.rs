//! What may stand in a line: UTF-8 without characters that drive a terminal, hide or reverse text,
//! or break a line in two. Legitimate text of any language passes unchanged.

use std::fmt;

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFault {
    /// It is not UTF-8.
    NotUtf8,
    /// It holds this character, which no message may hold.
    Character(char),
}

impl fmt::Display for TextFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the line is not UTF-8 text"),
            Self::Character(c) => {
                write!(f, "the line holds the control character U+{:04X}", u32::from(*c))
            }
        }
    }
}

/// Whether no text may hold `c`: C0 but TAB and LF, DEL, C1, the line and paragraph separators,
/// the explicit direction controls and the deprecated ones behind them, interlinear annotations,
/// and tags, which are seen by nobody outside of a flag (see [`Scrutiny`]). The joiners and
/// direction marks that Arabic, Indic scripts and emoji need pass.
#[must_use]
pub fn is_refused(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What the flags of regions, such as Scotland's, begin with.
const FLAG: char = '\u{1f3f4}';
/// What they end with.
const FLAG_END: char = '\u{e007f}';
/// Tags of a flag: a country, a region of up to three letters or digits, and the end.
const FLAG_TAGS: u8 = 6;

/// Whether `c` is a digit or a small letter of a flag's region, or its end.
fn is_flag_tag(c: char) -> bool {
    matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}' | FLAG_END)
}

/// A look at a text, character by character: what is refused depends on what stands before it in
/// one case. Tags, a copy of ASCII that nothing shows, make the flag of a region out of a black
/// one; anywhere else they only hide what is written with them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrutiny {
    /// Tags that may still come.
    tags: u8,
}

impl Scrutiny {
    /// Whether the text may not go on with `c`.
    pub fn refuses(&mut self, c: char) -> bool {
        let is_part = self.tags > 0 && is_flag_tag(c);
        self.tags = match c {
            FLAG => FLAG_TAGS,
            FLAG_END => 0,
            _ if is_part => self.tags - 1,
            _ => 0,
        };
        is_refused(c) && !is_part
    }
}

/// The bytes of one line as text.
pub fn check(line: &[u8]) -> Result<&str, TextFault> {
    let text = str::from_utf8(line).map_err(|_| TextFault::NotUtf8)?;
    let mut scrutiny = Scrutiny::default();
    if !is_printable_ascii(line)
        && let Some(c) = text.chars().find(|&c| scrutiny.refuses(c) || c == '\n')
    {
        return Err(TextFault::Character(c));
    }
    Ok(text)
}

/// Whether it is the usual line. Sixteen bytes are looked at together, and the last sixteen once
/// more where they are not whole.
#[must_use]
pub fn is_printable_ascii(line: &[u8]) -> bool {
    let printable =
        |bytes: &[u8]| bytes.iter().fold(true, |all, b| all & (b' '..=b'~').contains(b));
    let Some(last) = line.last_chunk::<16>() else { return printable(line) };
    let (whole, _) = line.as_chunks::<16>();
    whole.iter().all(|bytes| printable(bytes)) && printable(last)
}

/// The bytes of a text that may have several lines.
pub fn check_lines(body: &[u8]) -> Result<&str, TextFault> {
    let text = str::from_utf8(body).map_err(|_| TextFault::NotUtf8)?;
    let mut scrutiny = Scrutiny::default();
    match text.chars().find(|&c| scrutiny.refuses(c)) {
        Some(c) => Err(TextFault::Character(c)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_language_passes_unchanged() {
        for text in ["", "hi", "a\tb", "żółć", "👩\u{200d}🚀", "سلام\u{200f}", "a\u{200c}b\u{200e}"]
        {
            assert_eq!(check(text.as_bytes()), Ok(text));
        }
        for region in ["gbeng", "gbsct", "gbwls", "usca", "us0ab"] {
            let text = format!("a{}b{}", flag(region), flag(region));
            assert_eq!(check(text.as_bytes()), Ok(&text[..]));
            assert_eq!(check_lines(text.as_bytes()), Ok(&text[..]));
        }
    }

    fn tags(text: &str) -> String {
        text.chars().filter_map(|c| char::from_u32(0xe0000 + u32::from(c))).collect()
    }

    fn flag(region: &str) -> String {
        format!("{FLAG}{}{FLAG_END}", tags(region))
    }

    #[test]
    fn what_only_hides_text_is_refused() {
        for text in [
            tags("hidden"),
            format!("a{FLAG_END}"),
            format!("{FLAG}{}", tags("7letter")),
            format!("{FLAG}{}", tags("a b")),
            format!("{FLAG}{}", tags("GB")),
            format!("{}{}", flag("gbsct"), tags("x")),
            format!("{FLAG} {}", tags("gbsct")),
            "\u{e0001}en".into(),
            "a\u{fff9}b\u{fffa}c\u{fffb}".into(),
            "\u{206d}a".into(),
        ] {
            assert!(matches!(check(text.as_bytes()), Err(TextFault::Character(_))), "{text:?}");
            assert!(check_lines(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_place_of_a_line_is_looked_at() {
        for length in 1..50 {
            let line = " ~".repeat(25)[..length].to_owned().into_bytes();
            assert!(is_printable_ascii(&line) && check(&line).is_ok());
            for (at, bad) in (0..length).flat_map(|at| [b'\x1f', b'\x7f'].map(|bad| (at, bad))) {
                let mut line = line.clone();
                line[at] = bad;
                assert!(check(&line).is_err(), "{bad:#x} at {at} of {length}");
            }
        }
    }

    #[test]
    fn what_drives_a_terminal_is_refused() {
        for c in ['\0', '\x07', '\x08', '\r', '\x0b', '\x1b', '\x7f', '\u{80}', '\u{9b}', '\u{9f}']
            .into_iter()
            .chain(['\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\n'])
        {
            let line = format!("send fred a{c}b");
            assert_eq!(check(line.as_bytes()), Err(TextFault::Character(c)));
        }
        assert_eq!(check(b"\xff"), Err(TextFault::NotUtf8));
        assert_eq!(check(b"\xc3"), Err(TextFault::NotUtf8));
    }
}
