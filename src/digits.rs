//! Numbers as text without the formatting machinery, which costs more than all else about a short
//! line: letters, answers and records are full of numbers.

use std::fmt;

/// Appends `value` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut figures = Figures::default();
    figures.decimal(value);
    figures.push_to(out);
}

/// Numbers and what stands between them, put together from the right, where a number's last digit
/// is found first, and appended at once. There are [`Figures::PLACES`] places; to put in more is a
/// fault of ours, a panic.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// What is put together, from `at` to the middle, and as many places that are never used.
    text: [u8; 2 * Self::PLACES],
    at: usize,
}

impl Default for Figures {
    fn default() -> Self {
        Self { text: [0; 2 * Self::PLACES], at: Self::PLACES }
    }
}

impl Figures {
    /// As many as two numbers of 32 bits need with something between them and around them, or one
    /// of 64.
    pub const PLACES: usize = 24;

    /// Puts `value` in front, in decimal.
    // Inlined where it is called twice or thrice in a row, it costs a fifth less.
    #[inline(always)]
    pub fn decimal(&mut self, mut value: u64) {
        // The place is kept apart from the text until the end, so that it need not be in memory.
        let (text, mut at) = (&mut self.text, self.at);
        let mut put = |digits: &[u8]| {
            at -= digits.len();
            text[at..at + digits.len()].copy_from_slice(digits);
        };
        while value >= 10_000 {
            let four = (value % 10_000) as u32;
            value /= 10_000;
            let ([a, b], [c, d]) = (TENS[(four / 100) as usize], TENS[(four % 100) as usize]);
            put(&[a, b, c, d]);
        }
        let mut rest = value as u32;
        if rest >= 100 {
            put(&TENS[(rest % 100) as usize]);
            rest /= 100;
        }
        match rest {
            10.. => put(&TENS[rest as usize]),
            _ => put(&[b'0' + rest as u8]),
        }
        self.at = at;
    }

    /// Puts a sign in front.
    pub fn sign(&mut self, sign: u8) {
        self.at -= 1;
        self.text[self.at] = sign;
    }

    /// Appends all of it.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        // As many bytes as there are places, whatever is used of them: to copy a known number of
        // bytes takes a few instructions, and to copy some of them a call.
        let begin = out.len();
        out.extend_from_slice(&self.text[self.at..self.at + Self::PLACES]);
        out.truncate(begin + Self::PLACES - self.at);
    }
}

/// A number that is written many times before it changes, with its figures.
#[derive(Debug)]
pub struct Kept {
    value: u64,
    figures: Figures,
}

impl Kept {
    /// This number, for the time being.
    #[must_use]
    pub fn new(value: u64) -> Self {
        let mut figures = Figures::default();
        figures.decimal(value);
        Self { value, figures }
    }

    /// Appends `value` in decimal, and keeps it.
    pub fn push(&mut self, value: u64, out: &mut Vec<u8>) {
        if self.value != value {
            *self = Self::new(value);
        }
        self.figures.push_to(out);
    }
}

/// How many of something there are, in words: `1 letter`, `2 letters`.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a, N>(pub N, pub &'a str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, one) = self;
        let plural = if *number == N::from(1) { "" } else { "s" };
        write!(f, "{number} {one}{plural}")
    }
}

/// Every byte as two lower-case hexadecimal digits.
pub const HEX: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut n = 0;
    while n < table.len() {
        table[n] = [digits[n >> 4], digits[n & 15]];
        n += 1;
    }
    table
};

/// The number that these hexadecimal digits are, at most 16 of them and lower-case all.
#[must_use]
pub fn hex(text: &[u8]) -> Option<u64> {
    let digits = text.iter().map(|&digit| IN_HEX[usize::from(digit)]);
    let (sum, all) =
        digits.fold((0, 0), |(sum, all), digit| (sum << 4 | u64::from(digit), all | digit));
    (all < 16).then_some(sum)
}

/// What each lower-case hexadecimal digit is worth; 255 for what is none.
const IN_HEX: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut worth = 0;
    while worth < 16 {
        table[b"0123456789abcdef"[worth] as usize] = worth as u8;
        worth += 1;
    }
    table
};

/// Every number below 100 as two decimal digits.
const TENS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut n = 0;
    while n < table.len() {
        table[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_a_number_is_written_as_the_library_writes_it() {
        let powers = (0..20).map(|n| 10u64.pow(n));
        let values = powers.flat_map(|n| [n - 1, n, n + 1, n / 7 * 3]).chain([u64::MAX]);
        for value in values {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn what_is_no_lower_case_digit_is_no_number() {
        assert_eq!(hex(b"0123456789abcdef"), Some(0x0123_4567_89ab_cdef));
        assert_eq!(hex(b"ffffffffffffffff"), Some(u64::MAX));
        for byte in 0..=u8::MAX {
            let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            for text in [[byte, b'0'], [b'f', byte]] {
                assert_eq!(hex(&text).is_some(), is_digit, "{byte}");
            }
        }
    }
}
