//! Which CPU and which physical address belongs to which node, and how far nodes are from each other.

use serde::{Deserialize, Serialize};

/// Distance of a node to itself.
pub const LOCAL: u8 = 10;

/// The memory of a node: one range, which may be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First physical address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

/// The shape of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The node of each CPU.
    pub cpus: Vec<u16>,
    /// The memory of each node.
    pub memory: Vec<Range>,
    /// `distances[from][to]`.
    pub distances: Vec<Vec<u8>>,
}

impl Topology {
    /// Nodes, with or without CPUs and memory.
    pub fn nodes(&self) -> usize {
        self.memory.len()
    }
    /// The node whose memory an address is; `None` for devices and holes.
    pub fn home(&self, address: u64) -> Option<u16> {
        let holds = |range: &Range| address.wrapping_sub(range.base) < range.size;
        self.memory.iter().position(holds).map(|node| node as u16)
    }
    /// The node of a CPU.
    pub fn node(&self, cpu: u16) -> u16 {
        self.cpus[usize::from(cpu)]
    }
    /// How far it is.
    pub fn distance(&self, from: u16, to: u16) -> u64 {
        self.distances[usize::from(from)][usize::from(to)].into()
    }
    /// First and one-past-last address of all memory.
    pub fn span(&self) -> (u64, u64) {
        let used = || self.memory.iter().filter(|range| range.size > 0);
        let first = used().map(|range| range.base).min().unwrap_or(0);
        (first, used().map(|range| range.base + range.size).max().unwrap_or(first))
    }

    /// Refuses what is no machine.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let nodes = self.nodes();
        let square = self.distances.len() == nodes && self.distances.iter().all(|row| row.len() == nodes);
        if !square {
            return Err("the matrix of distances does not fit the nodes".into());
        }
        if self.cpus.is_empty() || self.cpus.len() >= usize::from(u16::MAX) {
            return Err("no CPU, or too many".into());
        }
        if self.cpus.iter().any(|&node| usize::from(node) >= nodes) {
            return Err("a CPU is on a node that does not exist".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_at_most_one_home() {
        let range = |base, size| Range { base, size };
        let topology = Topology {
            cpus: vec![0, 2],
            memory: vec![range(0x4000, 0x1000), range(0, 0), range(0x5000, 0x3000)],
            distances: vec![vec![10, 20, 20], vec![20, 10, 20], vec![20, 20, 10]],
        };
        assert_eq!(topology.check(), Ok(()));
        assert_eq!(
            [0x3fff, 0x4000, 0x5000, 0x7fff, 0x8000].map(|a| topology.home(a)),
            [None, Some(0), Some(2), Some(2), None]
        );
        assert_eq!(topology.span(), (0x4000, 0x8000));
    }
}
