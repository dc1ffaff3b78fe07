//! The plainest mechanism that carries out what policies decide: frames are numbers in a map, and every frame has contents.

use std::collections::BTreeMap;

use skerry_policy::{
    Access, Advice, Contained, Costs, Fault, Feedback, Node, NodeInfo, NodeSet, Order, Orders, Page, Policy,
    Range, Reason, Sample, SampleKind, World,
};

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) distances: Vec<u8>,
}

/// A page that somebody has touched: the node of its frame, or of the frame that copies are made from, with contents; then the copies.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) home: Node,
    pub(crate) contents: u64,
    pub(crate) replicated: bool,
    pub(crate) copies: BTreeMap<Node, u64>,
    pub(crate) mapped: NodeSet,
    armed: NodeSet,
    used: NodeSet,
    written: NodeSet,
}

/// The pagers, with a policy each.
pub(crate) struct Pagers<P: Policy> {
    machine: Machine,
    range: Range,
    now: u64,
    policies: Vec<Contained<P>>,
    records: Vec<BTreeMap<u64, P::Record>>,
    batches: Vec<(Node, Sample)>,
    pub(crate) pages: BTreeMap<u64, State>,
    pub(crate) free: Vec<u64>,
    /// How loaded memory is, in percent.
    pub(crate) load: u32,
    /// Tasks that ended because a strict policy had no frame.
    pub(crate) refused: u64,
}

impl<P: Policy + Clone> Pagers<P> {
    pub(crate) fn new(machine: Machine, range: Range, policy: &P) -> Self {
        let count = machine.nodes.len();
        Self {
            free: machine.nodes.iter().map(|node| node.frames).collect(),
            policies: vec![Contained::new(policy.clone()); count],
            records: vec![BTreeMap::new(); count],
            machine,
            range,
            now: 0,
            batches: Vec::new(),
            pages: BTreeMap::new(),
            load: 100,
            refused: 0,
        }
    }

    /// Whether some instance was contained.
    pub(crate) fn fallen(&self) -> Option<skerry_policy::Mistake> {
        self.policies.iter().find_map(Contained::fallen)
    }

    /// Calls an instance about a page, if there is one, and carries out its orders.
    fn ask(
        &mut self,
        node: Node,
        about: Option<u64>,
        call: impl FnOnce(
            &mut Contained<P>,
            &World<'_>,
            Option<Page<'_, P::Record>>,
            &dyn Fn(u64) -> Option<Node>,
            &mut Orders,
        ),
    ) {
        let world = World {
            node,
            now: self.now,
            period: 100_000,
            nodes: &self.machine.nodes,
            distances: &self.machine.distances,
            free: &self.free,
            costs: Costs::default(),
            // Enough that everybody wants to do something.
            feedback: Feedback {
                cycles: 100_000,
                local: 400,
                local_wait: 80_000,
                remote: 400,
                penalty: 80_000,
                load: self.load,
            },
            pages: self.range,
        };
        let mut orders = Orders::new();
        let homes = |page| self.pages.get(&page).map(|state: &State| state.home);
        let page = about.map(|number| {
            let state = &self.pages[&number];
            Page {
                number,
                home: state.home,
                sharers: state.mapped,
                replicated: state.replicated,
                record: self.records[usize::from(node)].entry(number).or_default(),
            }
        });
        call(&mut self.policies[usize::from(node)], &world, page, &homes, &mut orders);
        let orders: Vec<_> = orders.iter().collect();
        for (order, _) in orders {
            self.carry_out(node, order);
        }
    }

    fn carry_out(&mut self, node: Node, order: Order) {
        match order {
            Order::Migrate { page, to } => self.migrate(node, page, to),
            Order::Replicate { page } => self.replicate(page),
            Order::Collapse { page } => self.collapse(page),
            Order::Arm { range } => {
                for (_, state) in self.pages.range_mut(range.first..range.first + range.pages) {
                    if state.mapped.contains(node) {
                        state.armed = state.armed.with(node);
                    }
                }
            }
            Order::Scan { range } => {
                let used: Vec<(u64, bool)> = (self.pages.range_mut(range.first..range.first + range.pages))
                    .filter(|(_, state)| state.used.contains(node))
                    .map(|(&page, state)| {
                        let written = state.written.contains(node);
                        (state.used, state.written) = (state.used.without(node), state.written.without(node));
                        (page, written)
                    })
                    .collect();
                for (page, written) in used {
                    self.ask(node, Some(page), |policy, world, page, homes, orders| {
                        policy.on_scan(world, written, page.unwrap(), &|p| homes(p), orders);
                    });
                }
            }
            Order::Report { page, weight, write, urgent } => {
                let kind = if urgent { SampleKind::Urgent } else { SampleKind::Batched };
                let sample = Sample { page, node, write, weight, load: self.load, kind };
                let home = self.pages[&page].home;
                if urgent { self.sample(home, sample) } else { self.batches.push((home, sample)) }
            }
            Order::Ahead { .. } | Order::MoveThread { .. } => {}
        }
    }

    fn sample(&mut self, owner: Node, sample: Sample) {
        // The page may have moved since.
        if self.pages.get(&sample.page).is_some_and(|state| state.home == owner) {
            self.ask(owner, Some(sample.page), |policy, world, page, homes, orders| {
                policy.on_sample(world, &sample, page.unwrap(), &|p| homes(p), orders);
            });
        }
    }

    fn take(&mut self, node: Node) -> bool {
        let free = &mut self.free[usize::from(node)];
        let there_is = *free > 0;
        *free -= u64::from(there_is);
        there_is
    }
    fn revoke(&mut self, page: u64) {
        let state = self.pages.get_mut(&page).unwrap();
        (state.mapped, state.armed) = (NodeSet::EMPTY, NodeSet::EMPTY);
    }
    fn migrate(&mut self, node: Node, page: u64, to: Node) {
        self.collapse(page);
        let state = &self.pages[&page];
        // A decision that came too late changes nothing.
        if state.home == node && to != node && self.take(to) {
            self.free[usize::from(node)] += 1;
            self.pages.get_mut(&page).unwrap().home = to;
            self.revoke(page);
        }
    }
    fn replicate(&mut self, page: u64) {
        self.revoke(page);
        self.pages.get_mut(&page).unwrap().replicated = true;
    }
    fn collapse(&mut self, page: u64) {
        let state = self.pages.get_mut(&page).unwrap();
        if state.replicated {
            state.replicated = false;
            for (node, contents) in std::mem::take(&mut state.copies) {
                assert_eq!(contents, state.contents, "a copy says something else");
                self.free[usize::from(node)] += 1;
            }
            self.revoke(page);
        }
    }

    /// A thread of `node` accesses a page: gives what it reads before it writes.
    pub(crate) fn access(&mut self, node: Node, page: u64, write: Option<u64>) -> Option<u64> {
        let access = if write.is_some() { Access::Write } else { Access::Read };
        let fault = |reason| Fault { page, access, reason, node, thread: 0, region: self.range };
        let reason = match self.pages.get(&page) {
            None => Some(Reason::Untouched),
            Some(state) if state.replicated && write.is_some() => Some(Reason::Collapsed),
            Some(state) if state.armed.contains(node) => Some(Reason::Trap),
            Some(state) if !state.mapped.contains(node) => Some(Reason::Unmapped),
            Some(_) => None,
        };
        if let Some(fault) = reason.map(fault) {
            if fault.reason == Reason::Untouched && !self.fresh(node, &fault) {
                return None;
            }
            if fault.reason == Reason::Collapsed {
                self.collapse(page);
                let home = self.pages[&page].home;
                let kind = SampleKind::Collapsed;
                self.sample(home, Sample { page, node, write: true, weight: 1, load: self.load, kind });
            }
            self.pages.get_mut(&page).unwrap().armed = self.pages[&page].armed.without(node);
            self.ask(node, Some(page), |policy, world, page, homes, orders| {
                policy.on_fault(world, &fault, page.unwrap(), &|p| homes(p), orders);
            });
            if write.is_some() {
                self.collapse(page);
            }
            self.map(node, page);
        }
        Some(self.use_it(node, page, write))
    }

    fn fresh(&mut self, node: Node, fault: &Fault) -> bool {
        let mut place = None;
        self.ask(node, None, |policy, world, _, _, _| place = policy.place(world, fault).ok());
        let Some(home) = place else {
            self.refused += 1;
            return false;
        };
        assert!(self.take(home), "a frame of a node that has none");
        let (mapped, armed, used, written) = Default::default();
        let state = State {
            home,
            contents: 0,
            replicated: false,
            copies: BTreeMap::new(),
            mapped,
            armed,
            used,
            written,
        };
        assert!(self.pages.insert(fault.page, state).is_none(), "a second frame for one page");
        true
    }

    fn map(&mut self, node: Node, page: u64) {
        let state = &self.pages[&page];
        let copies = state.replicated && state.home != node && !state.copies.contains_key(&node);
        if copies && self.take(node) {
            let state = self.pages.get_mut(&page).unwrap();
            state.copies.insert(node, state.contents);
        }
        let state = self.pages.get_mut(&page).unwrap();
        state.mapped = state.mapped.with(node);
    }

    fn use_it(&mut self, node: Node, page: u64, write: Option<u64>) -> u64 {
        let state = self.pages.get_mut(&page).unwrap();
        assert!(state.mapped.contains(node));
        state.used = state.used.with(node);
        let found = *state.copies.get(&node).unwrap_or(&state.contents);
        if let Some(value) = write {
            assert!(!state.replicated, "a write to one of several copies");
            state.written = state.written.with(node);
            state.contents = value;
        }
        found
    }

    /// A period passes.
    pub(crate) fn tick(&mut self) {
        self.now += 100_000;
        for node in 0..self.machine.nodes.len() as Node {
            if self.machine.nodes[usize::from(node)].cpus > 0 {
                self.ask(node, None, |policy, world, _, homes, orders| {
                    policy.on_tick(world, &|p| homes(p), orders)
                });
            }
        }
        for (owner, sample) in std::mem::take(&mut self.batches) {
            self.sample(owner, sample);
        }
    }

    /// The program advises all of its pages.
    pub(crate) fn advise(&mut self, advice: Advice) {
        let range = self.range;
        for node in 0..self.machine.nodes.len() as Node {
            self.ask(node, None, |policy, world, _, homes, orders| {
                policy.on_advise(world, range, advice, &|p| homes(p), orders);
            });
        }
    }
}
