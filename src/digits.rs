//! Numbers as text without the formatting machinery, which costs more than all else about a short
//! line: letters, answers and records are full of numbers.

use std::fmt;

/// Appends `value` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    while value >= 100 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&TENS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&TENS[value as usize]);
    } else {
        at -= 1;
        text[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&text[at..]);
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
}
