//! A letter's number, as it is told and written.

use crate::digits::{Figures, push_decimal};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A letter's number: the epoch of the server run that accepted it, and its place in that run.
/// Never used twice; later letters have greater ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LetterId {
    /// max(last epoch + 1, unix seconds at the start of the run).
    pub epoch: u32,
    /// Counted from 1 within the epoch.
    pub seq: u32,
}

impl LetterId {
    /// Appends the number as [`Display`](fmt::Display) writes it.
    pub fn push_to(self, out: &mut Vec<u8>) {
        let mut figures = Figures::default();
        figures.decimal(u64::from(self.seq));
        figures.sign(b'.');
        figures.decimal(u64::from(self.epoch));
        figures.push_to(out);
    }

    /// Appends the number and a time in milliseconds, with a blank between them: how the journal
    /// and a line for programs name a letter.
    pub fn push_with_time(self, unix_ms: u64, out: &mut Vec<u8>) {
        self.push_to(out);
        out.push(b' ');
        push_decimal(out, unix_ms);
    }
}

/// By the epoch, then by the place. As one number, for letters are compared at each step of theirs.
impl Ord for LetterId {
    fn cmp(&self, other: &Self) -> Ordering {
        let whole = |id: &Self| u64::from(id.epoch) << 32 | u64::from(id.seq);
        whole(self).cmp(&whole(other))
    }
}

impl PartialOrd for LetterId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// A word is no letter's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for LetterId {
    type Err = NotAnId;

    fn from_str(word: &str) -> Result<Self, NotAnId> {
        // By hand, for each letter that a program takes goes through here once.
        let word = word.as_bytes();
        let dot = word.iter().position(|&byte| byte == b'.').ok_or(NotAnId)?;
        Ok(Self { epoch: number(&word[..dot])?, seq: number(&word[dot + 1..])? })
    }
}

/// `1*DIGIT`, of 32 bits
fn number(digits: &[u8]) -> Result<u32, NotAnId> {
    if digits.is_empty() {
        return Err(NotAnId);
    }
    let sum = digits.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        let sum = sum * 10 + u64::from(digit);
        (digit <= 9 && sum <= u64::from(u32::MAX)).then_some(sum)
    });
    sum.and_then(|sum| u32::try_from(sum).ok()).ok_or(NotAnId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_letters_have_greater_ids() {
        let ids = [(0, 0), (0, 1), (0, u32::MAX), (1, 0), (1, 7), (2, 3), (u32::MAX, 0)];
        let ids = ids.map(|(epoch, seq)| LetterId { epoch, seq });
        assert!(ids.is_sorted_by(|before, after| before < after));
    }

    #[test]
    fn an_id_reads_back() {
        let id = LetterId { epoch: 1_790_000_000, seq: 7 };
        assert_eq!(id.to_string().parse(), Ok(id));
        let mut pushed = Vec::new();
        id.push_to(&mut pushed);
        assert_eq!(pushed, id.to_string().into_bytes());
        let most = LetterId { epoch: u32::MAX, seq: u32::MAX };
        pushed.clear();
        most.push_with_time(u64::MAX, &mut pushed);
        assert_eq!(pushed, format!("{most} {}", u64::MAX).into_bytes());
        for word in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "1.2.3",
            "+1.2",
            "1.-2",
            "4294967296.1",
            "99999999999999999999.1",
        ] {
            assert_eq!(word.parse::<LetterId>(), Err(NotAnId), "{word}");
        }
    }
}
