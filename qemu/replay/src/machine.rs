//! The machine that traces are replayed on: the cost model's description of it, and what policies are told of it.

use skerry_cost_model::latency::{CoreModel, Overlap, wait};
use skerry_cost_model::time::cycles;
use skerry_cost_model::{Params, Time, Topology};
use skerry_policy::{Costs, Node, NodeInfo};

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Classes of overlap.
pub const CLASSES: usize = 3;

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its shape.
    pub topology: Topology,
    /// What things cost there.
    pub params: Params,
    /// What a core does during a miss.
    pub core: CoreModel,
    /// Its nodes, as policies see them.
    pub nodes: Vec<NodeInfo>,
    /// Its distances, row by row.
    pub distances: Vec<u8>,
    /// What mechanism costs, as policies see it and as it is charged.
    pub costs: Costs,
    /// The node whose CPUs do the work of each node's pager.
    pub served_by: Vec<Node>,
}

impl Machine {
    /// From the cost model's description.
    ///
    /// # Errors
    /// What is impossible about it.
    pub fn new(topology: Topology, params: Params, core: CoreModel) -> Result<Self, String> {
        params.check()?;
        topology.check()?;
        if topology.nodes() > skerry_policy::nodes::MAX_NODES {
            return Err(format!("{} nodes", topology.nodes()));
        }
        let info = |(node, memory): (u16, &skerry_cost_model::topology::Range)| NodeInfo {
            cpus: topology.cpus.iter().filter(|&&of| of == node).count() as u16,
            frames: memory.size / PAGE,
            bandwidth: params.memory.controller_mb_s,
        };
        let nodes: Vec<NodeInfo> = (0..).zip(&topology.memory).map(info).collect();
        if nodes.iter().all(|node| node.frames == 0) {
            return Err("no node has memory".into());
        }
        let with_cpus = |from: usize| {
            let others = (0..nodes.len()).filter(|&node| nodes[node].cpus > 0);
            others.min_by_key(|&node| topology.distances[from][node]).unwrap_or(0) as Node
        };
        let served_by = (0..nodes.len()).map(with_cpus).collect();
        let distances = topology.distances.concat();
        let costs = Costs { memory: params.memory.latency, ..Costs::default() };
        Ok(Self { topology, params, core, nodes, distances, costs, served_by })
    }

    /// How many nodes.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }
    /// The node of a trace's CPU.
    pub fn node_of(&self, cpu: u32) -> Node {
        self.topology.cpus[cpu as usize % self.topology.cpus.len()]
    }
    /// What a core can do during a miss of this kind.
    pub fn overlap(&self, overlap: Overlap) -> Overlap {
        if self.core == CoreModel::Blocking { Overlap::None } else { overlap }
    }
    /// The latency of memory of `home` from `node`, idle.
    pub fn latency(&self, node: Node, home: Node) -> Time {
        cycles(self.params.memory.latency.into()) * self.topology.distance(node, home) / 10
    }
    /// How long a core waits for a line of that latency.
    pub fn wait(&self, overlap: Overlap, latency: Time, line_time: Time) -> Time {
        wait(&self.params.prefetching, self.overlap(overlap), latency, line_time)
    }
    /// The node with memory nearest to `node`.
    pub fn nearest_memory(&self, node: Node) -> Node {
        let all = (0..self.count()).filter(|&other| self.nodes[other].frames > 0);
        all.min_by_key(|&other| (self.topology.distances[usize::from(node)][other], other)).unwrap_or(0)
            as Node
    }
    /// A simple machine: so many nodes with so many CPUs and bytes each, 20 apart, everything else the default.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn uniform(nodes: usize, cpus: usize, bytes: u64, core: CoreModel) -> Result<Self, String> {
        let distance = |from: usize, to: usize| if from == to { 10 } else { 20 };
        let topology = Topology {
            cpus: (0..nodes).flat_map(|node| vec![node as u16; cpus]).collect(),
            memory: (0..nodes as u64)
                .map(|node| skerry_cost_model::topology::Range {
                    base: (1 << 30) + node * bytes,
                    size: bytes,
                })
                .collect(),
            distances: (0..nodes).map(|from| (0..nodes).map(|to| distance(from, to)).collect()).collect(),
        };
        Self::new(topology, Params::default(), core)
    }
}

/// The index of a class of overlap.
pub const fn class(overlap: Overlap) -> usize {
    match overlap {
        Overlap::None => 0,
        Overlap::Independent => 1,
        Overlap::Stream => 2,
    }
}

/// The classes in order.
pub const OVERLAPS: [Overlap; CLASSES] = [Overlap::None, Overlap::Independent, Overlap::Stream];
