//! What misses cost: the cost model's latencies, overlap and bandwidth, with everything that can be computed before computed before.

use skerry_cost_model::Time;
use skerry_cost_model::bandwidth::Bandwidth;
use skerry_policy::Node;

use crate::machine::{CLASSES, Machine, OVERLAPS};

/// Idle waits.
#[derive(Clone, Copy, Debug, Default)]
struct Idle {
    latency: Time,
    line: Time,
    waits: [Time; CLASSES],
}

/// What was counted on a node since the last tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epoch {
    /// Lines from its own memory.
    pub local: u64,
    /// What it waited for them.
    pub local_wait: Time,
    /// Lines from other memory.
    pub remote: u64,
    /// What remote ones cost more than local ones would have, idle.
    pub penalty: Time,
    /// What it waited.
    pub waited: Time,
    /// What it would have waited had nobody else used memory.
    pub idle: Time,
}

/// Memory and the way to it.
#[derive(Clone, Debug)]
pub struct Memory {
    nodes: usize,
    idle: Vec<Idle>,
    /// What a miss would cost each node if it were as near as can be.
    near: Vec<[Time; CLASSES]>,
    bandwidth: Bandwidth,
    epochs: Vec<Epoch>,
    local: u64,
    remote: u64,
}

impl Memory {
    /// Of a machine, idle.
    pub fn new(machine: &Machine) -> Self {
        let nodes = machine.count();
        let bandwidth = Bandwidth::new(&machine.params, &machine.topology);
        let idle = |node: Node, home: Node| {
            let (latency, line) = (machine.latency(node, home), bandwidth.line_time(home, node));
            Idle { latency, line, waits: OVERLAPS.map(|overlap| machine.wait(overlap, latency, line)) }
        };
        let all = 0..nodes as Node;
        let pairs: Vec<Idle> = all
            .clone()
            .flat_map(|node| all.clone().map(move |home| (node, home)))
            .map(|(n, h)| idle(n, h))
            .collect();
        let near = all
            .map(|node| pairs[usize::from(node) * nodes + usize::from(machine.nearest_memory(node))].waits);
        Self {
            nodes,
            near: near.collect(),
            idle: pairs,
            bandwidth,
            epochs: vec![Epoch::default(); nodes],
            local: 0,
            remote: 0,
        }
    }

    /// How long a core of `node` waits at `now` for a line from `home`.
    #[inline]
    pub fn miss(
        &mut self,
        machine: &Machine,
        now: Time,
        (node, home): (Node, Node),
        class: usize,
        write: bool,
    ) -> Time {
        let Idle { latency, line, waits } = &self.idle[usize::from(node) * self.nodes + usize::from(home)];
        let grant = self.bandwidth.read(now, home, node);
        if write {
            // What is written goes back some day; here it goes at once.
            self.bandwidth.write(now, home, node);
        }
        let idle = waits[class];
        let time = if grant.percent == 100 {
            idle
        } else {
            machine.wait(OVERLAPS[class], latency * grant.percent / 100, *line)
        } + grant.delay;
        let epoch = &mut self.epochs[usize::from(node)];
        epoch.waited += time;
        epoch.idle += idle;
        if node == home {
            epoch.local += 1;
            epoch.local_wait += time;
        } else {
            epoch.remote += 1;
            epoch.penalty += time.saturating_sub(self.near[usize::from(node)][class]);
        }
        time
    }

    /// A page is copied: its lines take room. How long it takes.
    pub fn copy(&mut self, now: Time, from: Node, to: Node) -> Time {
        let mut delay = 0;
        for _ in 0..64 {
            delay = self.bandwidth.read(now, from, to).delay.max(delay);
            self.bandwidth.write(now, to, to);
        }
        // Several lines are on their way at the same time.
        self.idle[usize::from(to) * self.nodes + usize::from(from)].latency * 64 / 4 + delay
    }

    /// The counts of a node since it was asked last.
    pub fn epoch(&mut self, node: Node) -> Epoch {
        let epoch = core::mem::take(&mut self.epochs[usize::from(node)]);
        self.local += epoch.local;
        self.remote += epoch.remote;
        epoch
    }
    /// All local and remote lines so far.
    pub fn lines(&mut self) -> (u64, u64) {
        for node in 0..self.nodes as Node {
            self.epoch(node);
        }
        (self.local, self.remote)
    }
}
