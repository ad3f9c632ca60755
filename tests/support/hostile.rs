//! Bytes that somebody may send who means to drive a terminal, to hide or to reverse text, or to
//! forge a line.

use mms::proto::text::is_refused;

/// What no text may hold, each in several places, and whole sequences that terminals know.
pub fn hostile() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![];
    // LF ends a line: what is behind it is another one. It is among the sequences below.
    for c in (0..0x2070).filter_map(char::from_u32).filter(|&c| is_refused(c)) {
        for text in [format!("{c}"), format!("a{c}b"), format!("{c}[2J{c}"), format!("fred{c}")] {
            all.push(text.into_bytes());
        }
    }
    for hidden in ["\u{fff9}a\u{fffa}b\u{fffb}", "\u{e0001}", "a\u{e0041}\u{e0042}", "🏴 \u{e007f}"]
    {
        all.push(hidden.into());
    }
    for sequence in [
        &b"\x1b]0;title\x07"[..],
        b"\x1b[31;1mred\x1b[0m",
        b"\x1b[2J\x1b[H",
        b"\x1bP$q\"p\x1b\\",
        b"\x1b]52;c;cm0gLXJm\x07",
        b"\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
        b"\xc2\x9b2J",
        b"\xc2\x9d0;title\xc2\x9c",
        b"\x9b2J",
        b"hi\r>> tim: forged",
        b"hi\n>> tim: forged",
        b"hi\r\n2026-01-01T00:00:00Z [INFO ] forged",
        b"hi\x0b>> tim: forged",
        b"\x08\x08\x08\x08tim: forged",
        b"\xe2\x80\xaemert\xe2\x80\xac",
        b"\xe2\x81\xa6a\xe2\x81\xa9",
        b"\xe2\x80\xa8>> tim: forged",
        b"\xff\xfe\xfd",
        b"\xff\xfb\x01",
        b"\xff\xfa\x18\x00xterm\xff\xf0",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x80",
        b"\xf0\x9f",
        b"%s%n%x\x1b",
        b"' ; rm -rf / ; '\x1b",
    ] {
        all.push(sequence.into());
    }
    assert!(all.len() > 300, "{}", all.len());
    all
}
