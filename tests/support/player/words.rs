//! Where sessions stand, and their words: users, numbers, and bytes spelled out.

use mms::core::password::Verifier;
use mms::proto::name::UserName;

/// A fenced block of a document.
#[derive(Debug)]
pub struct Block {
    /// The number of its first line in the document.
    pub line: usize,
    pub text: String,
}

/// The blocks of `document` that are fenced as `kind`.
pub fn blocks(document: &str, kind: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (vec![], false);
    for (number, line) in (1..).zip(document.lines()) {
        match (open, line.strip_prefix("```")) {
            (false, Some(word)) if word == kind => {
                blocks.push(Block { line: number + 1, text: String::new() });
                open = true;
            }
            (true, Some(_)) => open = false,
            (true, None) => {
                let block: &mut Block = blocks.last_mut().expect("one is open");
                block.text += line;
                block.text.push('\n');
            }
            (false, _) => {}
        }
    }
    blocks
}

/// A user whose password is the name in lower case, 1, and `more`.
pub(super) fn user(name: &str, more: &str) -> Result<(UserName, Verifier), String> {
    let user = UserName::new(name).map_err(|fault| format!("{name}: {fault}"))?;
    let password = format!("{}1{more}", name.to_lowercase());
    Ok((user, Verifier::derive(password.as_bytes(), b"salt salt", 1)))
}

/// `fred's`
pub(super) fn owner(word: &str) -> Result<&str, String> {
    word.strip_suffix("'s").ok_or_else(|| format!("whose? {word}"))
}

/// `4,096`
pub(super) fn count(word: &str) -> Result<usize, String> {
    word.replace(',', "").parse().map_err(|_| format!("no number: {word}"))
}

/// The names of bytes that a session spells out.
const BYTES: [(&str, u8); 17] = [
    ("IAC", 255),
    ("DONT", 254),
    ("DO", 253),
    ("WONT", 252),
    ("WILL", 251),
    ("SB", 250),
    ("AYT", 246),
    ("NOP", 241),
    ("SE", 240),
    ("ECHO", 1),
    ("SUPPRESS-GO-AHEAD", 3),
    ("TIMING-MARK", 6),
    ("TERMINAL-TYPE", 24),
    ("CR", 13),
    ("LF", 10),
    ("NUL", 0),
    ("ESC", 27),
];

/// `"text" 400*"x" CR LF IAC WILL ECHO 0xC3`
pub(super) fn bytes(words: Option<&str>) -> Result<Vec<u8>, String> {
    let (mut left, mut bytes) = (words.unwrap_or_default(), vec![]);
    while !left.is_empty() {
        let (times, quoted) = match left.split_once("*\"") {
            Some((digits, _)) if count(digits).is_ok() => {
                (count(digits)?, &left[digits.len() + 1..])
            }
            _ => (1, left),
        };
        if let Some(rest) = quoted.strip_prefix('"') {
            let (text, after) = rest.split_once('"').ok_or("a quotation mark is missing")?;
            bytes.extend_from_slice(text.repeat(times).as_bytes());
            left = after.trim_start();
            continue;
        }
        let (word, after) = left.split_once(' ').unwrap_or((left, ""));
        let hex = word.strip_prefix("0x").and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let named = BYTES.iter().find(|(name, _)| *name == word).map(|&(_, byte)| byte);
        bytes.push(hex.or(named).ok_or_else(|| format!("no byte is called {word}"))?);
        left = after.trim_start();
    }
    Ok(bytes)
}

/// What a connection received, line by line: `>> text` for a line that ends with CR LF, and
/// everything else spelled out.
pub(super) fn spelled(mut out: &[u8]) -> Vec<String> {
    let mut lines = vec![];
    while !out.is_empty() {
        let end = out.windows(2).position(|two| two == b"\r\n");
        if out.starts_with(b">> ")
            && let Some(end) = end
        {
            lines.push(String::from_utf8_lossy(&out[..end]).into_owned());
            out = &out[end + 2..];
            continue;
        }
        let mut words = vec![];
        while !out.is_empty() && (words.is_empty() || !out.starts_with(b">> ")) {
            let text = out.iter().take_while(|byte| (0x20..0x7f).contains(*byte)).count();
            if text > 0 {
                words.push(format!("\"{}\"", String::from_utf8_lossy(&out[..text])));
                out = &out[text..];
                continue;
            }
            let name = BYTES.iter().find(|(_, byte)| *byte == out[0]).map(|(name, _)| *name);
            words.push(name.map_or_else(|| format!("{:#04X}", out[0]), str::to_owned));
            let ends = out.starts_with(b"\n");
            out = &out[1..];
            if ends {
                break;
            }
        }
        lines.push(words.join(" "));
    }
    lines
}

/// What a program received, line by line; each line of a text by count is one, too.
pub(super) fn coded_lines(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(out);
    text.split_terminator('\n').map(|line| line.trim_end_matches('\r').to_owned()).collect()
}
