//! The frame in front of a record, written, and the numbers that many records share. What they have
//! in common with the record before is not worded again: the batch, the epoch and the time change
//! once a turn at most. What a record holds is `record.rs`'s business.

use super::record::HEAD_BYTES;
use crate::core::record::LetterId;
use crate::digits::{Figures, HEX, Kept};
use crc32fast::Hasher;
use std::ops::Range;

/// An empty frame; the x are patched.
const BLANK: [u8; HEAD_BYTES] = *b"=x xxxxxxxxxxxxxxxx xxxxxx xxxxxxxx ";
const KIND: usize = 1;
const BATCH: Range<usize> = 3..19;
const LENGTH: Range<usize> = 20..26;
const CHECKSUM: Range<usize> = 27..35;
/// What of the frame the checksum covers, besides the payload.
pub(super) const COVERED: Range<usize> = KIND..LENGTH.end;
/// Longest payload the frame can tell, in bytes.
pub(super) const PAYLOAD_MOST: usize = 0xFF_FFFF;

/// Writes the frames of one batch after the other.
#[derive(Debug)]
pub struct Pen {
    batch: u64,
    /// A frame with the batch in its place.
    frame: [u8; HEAD_BYTES],
    /// The checksum of nothing: which instructions the processor has for it is asked once.
    nothing: Hasher,
    epoch: Kept,
    time: Kept,
}

impl Pen {
    /// Writes records of this batch.
    #[must_use]
    pub fn new(batch: u64) -> Self {
        let mut frame = BLANK;
        put_hex(&mut frame[BATCH], &batch.to_be_bytes());
        let (epoch, time) = (Kept::new(0), Kept::new(0));
        Self { batch, frame, nothing: Hasher::new(), epoch, time }
    }

    /// What the next records carry.
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// The next records are of the next batch.
    pub fn begin_batch(&mut self) {
        self.batch += 1;
        put_hex(&mut self.frame[BATCH], &self.batch.to_be_bytes());
    }

    /// Appends room for a frame, in front of a payload.
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&BLANK);
        start
    }

    /// Appends the line end and writes the frame; tells how long the record is.
    pub(super) fn finish(&self, out: &mut Vec<u8>, start: usize, kind: u8) -> usize {
        let length = out.len() - start - HEAD_BYTES;
        assert!(length <= PAYLOAD_MOST, "a line and a list of names are far below 16 MiB");
        let mut frame = self.frame;
        frame[KIND] = kind;
        put_hex(&mut frame[LENGTH], &(length as u32).to_be_bytes()[1..]);
        // What the checksum covers stands side by side, so that it is one stretch, until the frame
        // comes over it.
        let covered = start + HEAD_BYTES - COVERED.len();
        out[covered..start + HEAD_BYTES].copy_from_slice(&frame[COVERED]);
        let mut hasher = self.nothing.clone();
        hasher.update(&out[covered..]);
        put_hex(&mut frame[CHECKSUM], &hasher.finalize().to_be_bytes());
        out[start..start + HEAD_BYTES].copy_from_slice(&frame);
        out.push(b'\n');
        out.len() - start
    }

    /// Appends a letter's number and a time, as [`LetterId::push_with_time`] does.
    pub(super) fn push_stamp(&mut self, id: LetterId, unix_ms: u64, out: &mut Vec<u8>) {
        self.epoch.push(u64::from(id.epoch), out);
        let mut seq = Figures::default();
        seq.sign(b' ');
        seq.decimal(u64::from(id.seq));
        seq.sign(b'.');
        seq.push_to(out);
        self.time.push(unix_ms, out);
    }
}

fn put_hex(to: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX[usize::from(*byte)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_changes_with_the_letter() {
        let mut pen = Pen::new(1);
        let id = |epoch, seq| LetterId { epoch, seq };
        for (id, unix_ms) in [
            (id(0, 0), 0),
            (id(7, 8), 9),
            (id(7, 10), 9),
            (id(7, 11), 10),
            (id(6, u32::MAX), u64::MAX),
            (id(u32::MAX, 0), 0),
        ] {
            let (mut kept, mut whole) = (vec![], vec![]);
            pen.push_stamp(id, unix_ms, &mut kept);
            id.push_with_time(unix_ms, &mut whole);
            assert_eq!(kept, whole);
        }
    }
}
