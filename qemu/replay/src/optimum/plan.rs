//! Per page: where it is best at each moment.
//!
//! The state of the dynamic program is the node of the frame. Before every use the page may move, at the price that a replay charges. A stretch of uses
//! that only read may be spent replicated instead: each node then takes the cheaper of a copy and remote reads, and the write that follows pays for
//! the collapse. Copies are worth making at the first read or not at all, so only whole stretches need to be looked at.

use skerry_cost_model::Time;
use skerry_cost_model::time::cycles;
use skerry_policy::Node;

use super::log::{Log, Use};
use crate::machine::{CLASSES, Machine, OVERLAPS};

/// What a line costs: interval, node, home, class.
#[derive(Clone, Debug)]
pub struct Prices {
    nodes: usize,
    table: Vec<[Time; CLASSES]>,
}

impl Prices {
    /// When nobody else uses memory.
    pub fn idle(machine: &Machine, intervals: usize) -> Self {
        Self::loaded(machine, &vec![vec![100; machine.count() * machine.count()]; intervals])
    }
    /// With these latencies, in percent of idle ones: per interval, and pair of nodes.
    pub fn loaded(machine: &Machine, loads: &[Vec<u64>]) -> Self {
        let nodes = machine.count();
        let price = |(pair, percent): (usize, &u64)| {
            let latency = machine.latency((pair / nodes) as Node, (pair % nodes) as Node) * percent / 100;
            OVERLAPS.map(|overlap| machine.wait(overlap, latency, 0))
        };
        Self { nodes, table: loads.iter().flat_map(|pairs| pairs.iter().enumerate().map(price)).collect() }
    }
    fn of(&self, one: &Use, home: usize) -> Time {
        let at = (one.interval as usize * self.nodes + usize::from(one.node)) * self.nodes + home;
        self.table[at][usize::from(one.class)] * Time::from(one.lines)
    }
}

/// What was planned: where every use goes, and what else threads have to do.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The memory that each use of the log goes to.
    pub homes: Vec<u8>,
    /// Time for moves and copies: interval by interval, thread by thread.
    pub moves: Vec<Time>,
}

/// Where a page is whatever happens, for comparison.
pub type Fixed = fn(page: u32, first: &Use, memories: &[usize]) -> usize;

/// On the node that touches it first.
pub fn first_touch(_: u32, first: &Use, _: &[usize]) -> usize {
    first.node.into()
}

/// One after the other.
pub fn interleave(page: u32, _: &Use, memories: &[usize]) -> usize {
    memories[page as usize % memories.len()]
}

/// How the node at the end of a use was reached.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// From there, before this use.
    From(u8),
    /// Replicated since the stretch of reads began.
    Replicated,
}

/// Plans.
#[derive(Debug)]
pub struct Planner<'a> {
    machine: &'a Machine,
    memories: Vec<usize>,
    /// Moving a page, and copying it: from, to.
    migration: Vec<Time>,
    copy: Vec<Time>,
    revoke: Time,
    sharer: Time,
    steps: Vec<Step>,
    /// Pages whose plan is not free where memory is short: the most used ones come first.
    order: Vec<std::ops::Range<usize>>,
}

impl<'a> Planner<'a> {
    /// For a log.
    pub fn new(machine: &'a Machine, log: &Log) -> Self {
        let nodes = machine.count();
        let costs = machine.costs;
        let copy = |pair: usize| {
            let line = machine.latency((pair % nodes) as Node, (pair / nodes) as Node);
            cycles(costs.copy.into()) + line * 64 / 4
        };
        let fixed = cycles(u64::from(costs.revoke) + u64::from(costs.fault));
        let mut order: Vec<_> = log
            .uses
            .chunk_by(|a, b| a.page == b.page)
            .scan(0, |at, uses| {
                let range = *at..*at + uses.len();
                *at = range.end;
                Some(range)
            })
            .collect();
        order.sort_by_key(|range| {
            std::cmp::Reverse(log.uses[range.clone()].iter().map(|one| u64::from(one.lines)).sum::<u64>())
        });
        Self {
            machine,
            memories: (0..nodes).filter(|&node| machine.nodes[node].frames > 0).collect(),
            migration: (0..nodes * nodes)
                .map(|pair| if pair / nodes == pair % nodes { 0 } else { fixed + copy(pair) })
                .collect(),
            copy: (0..nodes * nodes).map(|pair| cycles(costs.fault.into()) + copy(pair)).collect(),
            revoke: cycles(costs.revoke.into()),
            sharer: cycles(costs.sharer.into()),
            steps: Vec::new(),
            order,
        }
    }

    /// Every page where it is best.
    pub fn plan(&mut self, log: &Log, prices: &Prices) -> Assignment {
        let mut made = Assignment { homes: vec![0; log.uses.len()], moves: vec![0; log.work.len()] };
        let mut free: Vec<u64> = self.machine.nodes.iter().map(|node| node.frames).collect();
        for range in self.order.clone() {
            let mut allowed: Vec<usize> =
                self.memories.iter().copied().filter(|&node| free[node] > 0).collect();
            if allowed.is_empty() {
                allowed.clone_from(&self.memories);
            }
            let used = self.page(log, range, prices, &allowed, &mut made);
            for node in used.iter() {
                free[usize::from(node)] = free[usize::from(node)].saturating_sub(1);
            }
        }
        made
    }

    /// Every page on one node for ever.
    pub fn fixed(&self, log: &Log, _: &Prices, place: Fixed) -> Assignment {
        let mut made = Assignment { homes: vec![0; log.uses.len()], moves: vec![0; log.work.len()] };
        for range in &self.order {
            let first = &log.uses[range.start];
            let wish = place(first.page, first, &self.memories);
            let distance = |&node: &usize| (self.machine.topology.distances[wish][node], node);
            let home = self.memories.iter().copied().min_by_key(distance).unwrap_or(0);
            made.homes[range.clone()].fill(home as u8);
        }
        made
    }

    /// Plans a page; the nodes that it is ever on.
    fn page(
        &mut self,
        log: &Log,
        range: std::ops::Range<usize>,
        prices: &Prices,
        allowed: &[usize],
        made: &mut Assignment,
    ) -> skerry_policy::NodeSet {
        let nodes = self.machine.count();
        let uses = &log.uses[range.clone()];
        self.steps.clear();
        self.steps.resize(uses.len() * nodes, Step::From(0));
        let mut best = vec![Time::MAX / 2; nodes];
        allowed.iter().for_each(|&node| best[node] = 0);
        let mut stretch = Stretch::new(nodes, &best);
        for (at, one) in uses.iter().enumerate() {
            let before = best.clone();
            for &home in allowed {
                // (The first frame is taken anywhere for nothing.)
                let reach = |&from: &usize| before[from] + self.migration[from * nodes + home];
                let from = allowed.iter().copied().min_by_key(reach).unwrap_or(home);
                let from = if reach(&home) <= reach(&from) { home } else { from };
                best[home] = reach(&from) + prices.of(one, home);
                self.steps[at * nodes + home] = Step::From(from as u8);
            }
            if one.write {
                stretch = Stretch::new(nodes, &best);
                continue;
            }
            stretch.read(one, nodes, allowed, prices);
            let written = uses.get(at + 1).map(|next| next.write);
            if written != Some(false) {
                for &home in allowed {
                    let time =
                        stretch.begin[home] + self.replicated(&stretch, home, written.is_some(), allowed).0;
                    if time < best[home] {
                        best[home] = time;
                        self.steps[at * nodes + home] = Step::Replicated;
                    }
                }
            }
        }
        let Some(&end) = allowed.iter().min_by_key(|&&node| best[node]) else { return Default::default() };
        self.walk_back(log, range, prices, (end, allowed), made)
    }

    /// What a stretch costs with copies, and who has one.
    fn replicated(&self, stretch: &Stretch, home: usize, collapses: bool, allowed: &[usize]) -> (Time, u128) {
        let nodes = self.machine.count();
        let (mut time, mut copies) = (self.revoke, 0u128);
        for node in 0..nodes {
            let (remote, local) = (stretch.reads[node * nodes + home], stretch.reads[node * nodes + node]);
            let copied = local + self.copy[home * nodes + node];
            if node != home && allowed.contains(&node) && copied < remote {
                copies |= 1 << node;
                time += copied + self.sharer;
            } else {
                time += remote;
            }
        }
        let again = if collapses { self.revoke + Time::from(copies.count_ones()) * self.sharer } else { 0 };
        (time + again, copies)
    }

    /// Follows the steps from the end, and notes homes and moves.
    fn walk_back(
        &self,
        log: &Log,
        range: std::ops::Range<usize>,
        prices: &Prices,
        (end, allowed): (usize, &[usize]),
        made: &mut Assignment,
    ) -> skerry_policy::NodeSet {
        let nodes = self.machine.count();
        let uses = &log.uses[range.clone()];
        let place = |one: &Use| one.interval as usize * log.threads + usize::from(one.thread);
        let mut used = skerry_policy::NodeSet::EMPTY;
        let (mut home, mut at) = (end, uses.len());
        while at > 0 {
            let last = at - 1;
            used = used.with(home as Node);
            match self.steps[last * nodes + home] {
                Step::From(from) => {
                    made.homes[range.start + last] = home as u8;
                    let from = usize::from(from);
                    if last > 0 {
                        made.moves[place(&uses[last])] += self.migration[from * nodes + home];
                        home = from;
                    }
                    at = last;
                }
                Step::Replicated => {
                    let first = uses[..at].iter().rposition(|one| one.write).map_or(0, |write| write + 1);
                    let mut stretch = Stretch::new(nodes, &[]);
                    uses[first..at].iter().for_each(|one| stretch.read(one, nodes, allowed, prices));
                    let (_, copies) = self.replicated(&stretch, home, false, allowed);
                    let mut fresh = copies;
                    for (one, made_home) in uses[first..at].iter().zip(&mut made.homes[range.start + first..])
                    {
                        let copied = copies >> one.node & 1 != 0;
                        *made_home = if copied { one.node } else { home as u8 };
                        if fresh >> one.node & 1 != 0 {
                            fresh &= !(1 << one.node);
                            used = used.with(one.node.into());
                            made.moves[place(one)] +=
                                self.copy[home * nodes + usize::from(one.node)] + self.sharer;
                        }
                    }
                    let count = Time::from(copies.count_ones());
                    made.moves[place(&uses[first])] += self.revoke;
                    if let Some(write) = uses.get(at) {
                        made.moves[place(write)] += self.revoke + count * self.sharer;
                    }
                    at = first;
                }
            }
        }
        used
    }
}

/// Reads without a write in between.
struct Stretch {
    /// The best before it.
    begin: Vec<Time>,
    /// What each node's reads cost: node, home.
    reads: Vec<Time>,
}

impl Stretch {
    fn new(nodes: usize, begin: &[Time]) -> Self {
        Self { begin: begin.to_vec(), reads: vec![0; nodes * nodes] }
    }
    fn read(&mut self, one: &Use, nodes: usize, allowed: &[usize], prices: &Prices) {
        let row = usize::from(one.node) * nodes;
        allowed.iter().for_each(|&home| self.reads[row + home] += prices.of(one, home));
    }
}
