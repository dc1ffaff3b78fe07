//! What a policy may know: the machine, what things cost, how full memory is, and how the last epoch went.

use crate::event::Range;
use crate::nodes::{Node, NodeSet};

/// A node of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeInfo {
    /// CPUs; 0 is possible (an expander of memory).
    pub cpus: u16,
    /// Frames; 0 is possible.
    pub frames: u64,
    /// What its memory controller moves, in MB/s.
    pub bandwidth: u32,
}

/// What mechanism costs, in cycles of modelled time. The defaults are what `bench pager` counts, in batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Costs {
    /// A miss in the caches that the node's own memory answers; at distance *d* it is *d*/10 of that.
    pub memory: u32,
    /// A page fault that establishes a mapping, without clearing.
    pub fault: u32,
    /// Clearing a fresh page.
    pub clear: u32,
    /// Copying a page within a node; between nodes its lines come from memory at their distance.
    pub copy: u32,
    /// Taking a page away from the own node: the fixed part of every migration, replication and collapse.
    pub revoke: u32,
    /// The same for every further node that maps it.
    pub sharer: u32,
    /// A message between pagers, both sides.
    pub message: u32,
    /// Reading and clearing the access flags of one page.
    pub scan: u32,
    /// Taking a mapping of the own node away so that the next access is seen.
    pub arm: u32,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            memory: 200,
            fault: 650,
            clear: 140,
            copy: 560,
            revoke: 700,
            sharer: 2_500,
            message: 900,
            scan: 40,
            arm: 120,
        }
    }
}

/// Lines of a page.
const LINES: u64 = 64;
/// Lines that are on their way at the same time while a page is copied.
const COPY_PARALLEL: u64 = 4;

/// How the last epoch (the time between two ticks) went on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Feedback {
    /// Cycles that its CPUs ran, together.
    pub cycles: u64,
    /// Misses that the node's own memory answered.
    pub local: u64,
    /// Misses that other nodes' memory answered.
    pub remote: u64,
    /// What it waited for its own memory, in cycles.
    pub local_wait: u64,
    /// What the remote ones cost more than local ones would have.
    pub penalty: u64,
    /// Mean latency of its misses in percent of what it would be if nobody else used memory; 0 if there was none.
    pub load: u32,
}

/// The machine and the moment, as the policy's own pager sees them.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The node of this pager.
    pub node: Node,
    /// Modelled time in cycles.
    pub now: u64,
    /// Cycles between two ticks.
    pub period: u64,
    /// The nodes of the machine.
    pub nodes: &'a [NodeInfo],
    /// Distances, row by row: 10 is a node to itself.
    pub distances: &'a [u8],
    /// Free frames of each node.
    pub free: &'a [u64],
    /// What things cost.
    pub costs: Costs,
    /// How the last epoch went here.
    pub feedback: Feedback,
    /// The pages of the region that the policy is for.
    pub pages: Range,
}

impl World<'_> {
    /// The distance *from* one node to the memory of another one.
    pub fn distance(&self, from: Node, to: Node) -> u64 {
        let at = usize::from(from) * self.nodes.len() + usize::from(to);
        self.distances.get(at).copied().unwrap_or(u8::MAX).into()
    }
    /// Whether a node exists and has memory at all.
    pub fn has_memory(&self, node: Node) -> bool {
        self.nodes.get(usize::from(node)).is_some_and(|info| info.frames > 0)
    }
    /// Whether a node exists and has CPUs.
    pub fn has_cpus(&self, node: Node) -> bool {
        self.nodes.get(usize::from(node)).is_some_and(|info| info.cpus > 0)
    }
    /// Whether a node has a free frame.
    pub fn has_free(&self, node: Node) -> bool {
        self.free.get(usize::from(node)).is_some_and(|&free| free > 0)
    }
    /// Whether a node has more free frames than its low watermark, 1/32 of all: what is optional stays above it.
    pub fn has_room(&self, node: Node) -> bool {
        let at = usize::from(node);
        let frames = self.nodes.get(at).map_or(0, |info| info.frames);
        self.free.get(at).is_some_and(|&free| free > frames / 32)
    }
    /// All nodes with memory.
    pub fn memories(&self) -> NodeSet {
        (0..self.nodes.len() as Node).filter(|&node| self.has_memory(node)).collect()
    }
    /// The node nearest to `from` for which `wanted` holds; the lowest one of equals.
    pub fn nearest(&self, from: Node, wanted: impl Fn(Node) -> bool) -> Option<Node> {
        let all = (0..self.nodes.len() as Node).filter(|&node| wanted(node));
        all.min_by_key(|&node| (self.distance(from, node), node))
    }
    /// Where a fresh frame for `wish` really comes from: there, or from the nearest node that has one.
    pub fn or_nearest(&self, wish: Node) -> Option<Node> {
        self.nearest(wish, |node| self.has_free(node))
    }
    /// What a miss on memory of `home` costs a CPU of `node` more than one on the node nearest to it.
    pub fn penalty(&self, node: Node, home: Node) -> u64 {
        let near = self.nearest(node, |other| self.has_memory(other)).unwrap_or(node);
        let more = self.distance(node, home).saturating_sub(self.distance(node, near));
        more * u64::from(self.costs.memory) / 10
    }
    /// What copying a page takes, the mechanism around it aside.
    pub fn copy(&self, from: Node, to: Node) -> u64 {
        let line = u64::from(self.costs.memory) * self.distance(to, from) / 10;
        u64::from(self.costs.copy) + LINES * line / COPY_PARALLEL
    }
    /// What moving a page takes that `sharers` map, the faults that follow included.
    pub fn migration(&self, from: Node, to: Node, sharers: NodeSet) -> u64 {
        let others = u64::from(sharers.without(from).count());
        let faults = u64::from(sharers.count()) * u64::from(self.costs.fault);
        u64::from(self.costs.revoke) + others * u64::from(self.costs.sharer) + self.copy(from, to) + faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_decide_what_is_near_and_what_things_cost() {
        let info = |cpus, frames| NodeInfo { cpus, frames, bandwidth: 40_000 };
        let nodes = [info(1, 100), info(1, 0), info(0, 64)];
        let world = World {
            node: 1,
            now: 0,
            period: 1,
            nodes: &nodes,
            distances: &[10, 16, 20, 16, 10, 24, 20, 24, 10],
            free: &[3, 0, 64],
            costs: Costs::default(),
            feedback: Feedback::default(),
            pages: Range { first: 0, pages: 10 },
        };
        assert_eq!(world.memories(), NodeSet::only(0).with(2));
        assert_eq!((world.or_nearest(1), world.or_nearest(2)), (Some(0), Some(2)));
        assert!(world.has_free(0) && !world.has_room(0) && world.has_room(2), "the watermark of 100 is 3");
        assert_eq!((world.penalty(1, 0), world.penalty(1, 2), world.penalty(0, 2)), (0, 160, 200));
        assert_eq!(world.distance(9, 0), 255, "what does not exist is far away");
        assert!(world.copy(0, 2) > world.copy(0, 0));
        let alone = world.migration(0, 2, NodeSet::only(0));
        assert_eq!(world.migration(0, 2, NodeSet::only(0).with(1)) - alone, 2_500 + 650);
    }
}
