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

/// Whether no text may hold `c`: C0 but TAB and LF, DEL, C1, the line and paragraph separators
/// and the explicit direction controls. The joiners and direction marks that Arabic, Indic scripts
/// and emoji need pass.
#[must_use]
pub fn is_refused(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The bytes of one line as text.
pub fn check(line: &[u8]) -> Result<&str, TextFault> {
    let text = str::from_utf8(line).map_err(|_| TextFault::NotUtf8)?;
    // One pass without branches settles the usual line, which is printable ASCII.
    let odd = line.iter().fold(false, |odd, &b| odd | !(0x20..0x7f).contains(&b));
    if odd && let Some(c) = text.chars().find(|&c| is_refused(c) || c == '\n') {
        return Err(TextFault::Character(c));
    }
    Ok(text)
}

/// The bytes of a text that may have several lines.
pub fn check_lines(body: &[u8]) -> Result<&str, TextFault> {
    let text = str::from_utf8(body).map_err(|_| TextFault::NotUtf8)?;
    match text.chars().find(|&c| is_refused(c)) {
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
