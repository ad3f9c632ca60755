//! Buffers for what is said. A connection has one of its own only while something of it is not
//! written yet; the others wait here, so that a text to thousands asks the allocator for none.

use crate::limits::{POOL_BYTES, POOLED_BYTES};

/// The buffers that wait for use, the one that was used last on top. There are never more than
/// connections.
#[derive(Default)]
pub(super) struct Pool {
    buffers: Vec<Vec<u8>>,
    /// What they take together.
    bytes: usize,
}

impl Pool {
    /// An empty buffer; one without memory if none waits.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer whose content is not wanted any more.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes > 0 && bytes <= POOLED_BYTES && self.bytes + bytes <= POOL_BYTES {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_is_small_until_all_together_are_too_much() {
        let mut pool = Pool::default();
        pool.give_back(Vec::new());
        pool.give_back(vec![7; POOLED_BYTES + 1]);
        assert_eq!((pool.buffers.len(), pool.lend().capacity()), (0, 0));
        for _ in 0..=POOL_BYTES / POOLED_BYTES {
            pool.give_back(vec![7; POOLED_BYTES]);
        }
        assert_eq!(pool.buffers.len(), POOL_BYTES / POOLED_BYTES);
        let lent = pool.lend();
        assert!(lent.is_empty() && lent.capacity() == POOLED_BYTES);
        pool.give_back(lent);
        assert_eq!(pool.bytes, POOL_BYTES);
    }
}
