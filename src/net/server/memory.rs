//! The memory that all buffers may take together: what is done when it runs short. Each port is
//! weighed when it was touched, so that a turn costs nothing for those that idle.

use super::{Server, key};
use crate::core::event::{Conn, End};
use crate::limits::{BUFFERS_LESS_PERCENT, SHED_FROM_PERCENT};
use crate::net::ports::Phase;
use crate::store::disk::Disk;

impl<D: Disk> Server<D> {
    /// Takes note of what the port's buffers take now.
    pub(super) fn weigh(&mut self, conn: Conn) {
        if let Some(port) = self.ports.get_mut(key(conn)) {
            port.weigh(&mut self.weight);
        }
    }

    /// Whether memory runs short, so that no more strangers are let in.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.weight >= part(self.settings.buffer_bytes, SHED_FROM_PERCENT)
    }

    /// Closes those with the largest buffers, trusted or not, if all together take more than they
    /// may: memory is memory. What they were shown and have not taken stays in their mailboxes.
    ///
    /// It looks at all ports, and makes so much room that this is not soon necessary again.
    pub(super) fn shed(&mut self) {
        if self.weight <= self.settings.buffer_bytes {
            return;
        }
        let enough = part(self.settings.buffer_bytes, BUFFERS_LESS_PERCENT);
        let mut largest: Vec<(usize, usize)> = self
            .ports
            .iter()
            .filter(|(_, port)| port.weight > 0 && !matches!(port.phase, Phase::Gone(_)))
            .map(|(key, port)| (port.weight, key))
            .collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in largest {
            if self.weight <= enough {
                return;
            }
            let Some(port) = self.ports.get_mut(key) else { continue };
            port.give_up(End::Overload, &mut self.pool);
            port.weigh(&mut self.weight);
            self.gone.push(Conn(u32::try_from(key).expect("there are at most 50,000")));
        }
    }
}

/// So many of a hundred parts.
fn part(whole: usize, percent: usize) -> usize {
    whole / 100 * percent
}
