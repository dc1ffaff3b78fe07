//! Who is a *node* to the protocols: a seat, that is, a place where a task can have a space.
//!
//! A space belongs to one kernel and is for the threads of one node. Where a kernel runs one node or less, that is one space per
//! kernel, and the seat has the number of the cluster; where one kernel runs all nodes, one per node. Both are small numbers without
//! holes, and a seat tells who serves it.

/// How many words of sharers the pagers use where one is not enough.
pub const MANY_WORDS: usize = skerry_abi::boot::MAX_CLUSTERS / 64;

/// The seats of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seats {
    /// Clusters of the machine.
    pub clusters: u16,
    /// Its nodes.
    pub nodes: u16,
}

impl Seats {
    /// The seat of the spaces for threads on `node` in `cluster`.
    pub const fn of(self, cluster: u16, node: u16) -> u16 {
        if self.clusters > 1 { cluster } else { node }
    }
    /// The cluster whose pager serves it.
    pub const fn cluster(self, seat: u16) -> u16 {
        if self.clusters > 1 { seat } else { 0 }
    }
    /// How many there are.
    pub const fn count(self) -> u16 {
        if self.clusters > 1 { self.clusters } else { self.nodes }
    }
    /// Words of a sharer mask for all of them.
    pub const fn words(self) -> usize {
        if self.count() <= 64 { 1 } else { MANY_WORDS }
    }
}

const _: () = assert!(skerry_abi::boot::MAX_NODES <= MANY_WORDS * 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_per_space() {
        let per_node = Seats { clusters: 4, nodes: 4 };
        assert_eq!(
            (per_node.of(3, 3), per_node.cluster(3), per_node.count(), per_node.words()),
            (3, 3, 4, 1)
        );
        let one = Seats { clusters: 1, nodes: 4 };
        assert_eq!((one.of(0, 3), one.cluster(3), one.count()), (3, 0, 4));
        let per_cpu = Seats { clusters: 128, nodes: 2 };
        assert_eq!((per_cpu.of(100, 1), per_cpu.cluster(100), per_cpu.words()), (100, 100, MANY_WORDS));
    }
}
