//! A letter's number, as it is told and written.

use crate::digits::{Figures, push_decimal};
use std::fmt;
use std::str::FromStr;

/// A letter's number: the epoch of the server run that accepted it, and its place in that run.
/// Never used twice; later letters have greater ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        let number = |digits: &str| -> Result<u32, NotAnId> {
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            if plain { digits.parse().map_err(|_| NotAnId) } else { Err(NotAnId) }
        };
        let (epoch, seq) = word.split_once('.').ok_or(NotAnId)?;
        Ok(Self { epoch: number(epoch)?, seq: number(seq)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for word in ["", ".", "1", "1.", ".1", "1.2.3", "+1.2", "1.-2", "4294967296.1"] {
            assert_eq!(word.parse::<LetterId>(), Err(NotAnId), "{word}");
        }
    }
}
