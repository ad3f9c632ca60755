//! What must hold of any bytes at all, one function a subject. `tests/properties.rs` tries them
//! with bytes that proptest makes up and with those that `fuzz/corpus` keeps; cargo-fuzz, in
//! `fuzz`, looks for others. A function panics where something does not hold.
//!
//! They know the program's public face alone: bytes go in, and what comes out is compared with a
//! slow and simple account of what it should be, or with what comes of it on the way back.

pub mod coded;
pub mod commands;
pub mod lines;
pub mod records;
pub mod scram;
pub mod session;
pub mod stream;
pub mod telnet;
#[cfg(feature = "tls")]
pub mod tls;
pub mod users;

/// A subject: what its folder in `fuzz/corpus` is called, and what is tried.
pub type Property = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Property] = &[
    ("lines", lines::try_out),
    ("commands", commands::try_out),
    ("coded", coded::try_out),
    ("telnet", telnet::try_out),
    ("records", records::try_out),
    ("users", users::try_out),
    ("scram", scram::try_out),
    ("stream", stream::try_out),
    ("session", session::try_out),
    #[cfg(feature = "tls")]
    ("tls", tls::try_out),
];

/// Input that is taken apart from its front: what is chosen, and then what is tried.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; none left is zero.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// A piece that ends before the next LF, or with the input.
    pub fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&b| b == b'\n').unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    /// A number of two bytes.
    pub fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// The lengths of the pieces that the rest is cut into, again and again from the first.
    pub fn cuts(&mut self) -> Vec<usize> {
        let count = usize::from(self.byte() % 8) + 1;
        (0..count).map(|_| usize::from(self.byte()) + 1).collect()
    }

    /// The same, of pieces in which much is cut.
    pub fn long_cuts(&mut self) -> Vec<usize> {
        let count = usize::from(self.byte() % 4) + 1;
        (0..count).map(|_| self.number() + 1).collect()
    }
}

/// `bytes` in pieces of these lengths.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut found = vec![];
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(*cut));
        found.push(piece);
        rest = after;
    }
    found
}

/// What drives a terminal, hides or reverses text or breaks a line: said anew, so that the
/// program's own list is not its only witness.
fn is_harmful(c: char) -> bool {
    let code = u32::from(c);
    (c.is_control() && c != '\t')
        || (0x2028..=0x202e).contains(&code)
        || (0x2066..=0x2069).contains(&code)
}

/// Nothing in a line drives a terminal, hides text or breaks it in two.
pub fn assert_harmless(line: &str) {
    if let Some(c) = line.chars().find(|&c| is_harmful(c)) {
        panic!("{c:?} in {line:?}");
    }
}
