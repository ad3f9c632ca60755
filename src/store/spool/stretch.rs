//! A stretch of a segment in memory: a batch that is written or will be, or what was read.

use crate::core::record::Location;
use crate::limits::READ_AHEAD_BYTES;
use std::ops::Range;

/// Memory that an exceptionally large batch does not keep.
const KEPT_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) segment: u32,
    /// Where it begins in the segment.
    pub(super) offset: u32,
    pub(super) bytes: Vec<u8>,
}

impl Stretch {
    /// Begins another one, with the memory of this.
    pub(super) fn begin(&mut self, segment: u32, offset: u32) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        (self.segment, self.offset) = (segment, offset);
    }

    /// Where in the segment the next byte goes. A batch begins below `segment_bytes` plus one batch
    /// and what the segment repeats, and a turn appends little more than it reads: 64 KiB from each
    /// of 50,000 connections, with some 120 bytes around each of 128 commands, is 4.0e9 bytes, and
    /// the bound on all buffers is far below that.
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.bytes.len())
            .ok()
            .and_then(|length| self.offset.checked_add(length))
            .expect("a segment and one turn's input stay below 4 GiB")
    }

    /// Where in it the letter stands, if it does.
    pub(super) fn range(&self, at: Location) -> Option<Range<usize>> {
        if at.segment != self.segment || at.body_bytes >= at.record_bytes {
            return None;
        }
        let begin = at.offset.checked_sub(self.offset)? as usize;
        let end = begin + at.record_bytes as usize;
        (end <= self.bytes.len()).then_some(begin..end)
    }

    /// Whether the record stands in it or close behind it.
    pub(super) fn leads_to(&self, at: Location) -> bool {
        let end = u64::from(self.offset) + self.bytes.len() as u64;
        let near = end..end + READ_AHEAD_BYTES as u64;
        let begins_in = (self.offset..).contains(&at.offset) && u64::from(at.offset) < end;
        self.segment == at.segment && (begins_in || near.contains(&u64::from(at.offset)))
    }
}
