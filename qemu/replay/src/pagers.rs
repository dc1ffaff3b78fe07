//! The pagers of a replay: an instance of the policy on every node, and the mechanism that carries out what they decide, with what that costs.
//!
//! Who does something pays: a fault is the thread's time, everything else the time of the CPUs of the pager's node. A pager has a thread on each of them, so they
//! share it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use skerry_cost_model::Time;
use skerry_cost_model::time::{cycles, to_cycles};
use skerry_policy::{
    Access, Advice, Contained, Fault, Feedback, Mistake, Node, NodeSet, Order, Orders, Page, Policy, Range,
    Reason, Sample, SampleKind, World,
};

use crate::machine::Machine;
use crate::memory::Memory;
use crate::outcome::Outcome;
use crate::pages::Pages;

/// Cycles of a call of a policy.
const CALL: u64 = 50;
/// Samples of a message between pagers.
const BATCH: usize = 32;
/// Cycles to write a sample and to read it.
const SAMPLE: u64 = 10;
/// Cycles to look at a page's table entry that maps nothing.
const LOOK: u64 = 4;
/// Cycles that each further page takes which is mapped with another one.
const AHEAD: u64 = 200;

/// One pager.
struct Instance<P: Policy> {
    policy: Contained<P>,
    records: Vec<P::Record>,
    /// What it has to tell others: per owner.
    letters: Vec<Vec<Sample>>,
    feedback: Feedback,
}

/// All of them.
pub(crate) struct Pagers<'a, P: Policy> {
    machine: &'a Machine,
    pub(crate) pages: Pages,
    pub(crate) memory: Memory,
    instances: Vec<Instance<P>>,
    owed: Vec<Time>,
    now: Time,
    period: u64,
    range: Range,
    outcome: Outcome,
    /// Orders that wait to be carried out, and whose they are.
    queue: VecDeque<(Node, Order)>,
}

impl<'a, P: Policy + Clone> Pagers<'a, P> {
    pub(crate) fn new(machine: &'a Machine, pages: u32, policy: &P, period: u64) -> Self {
        let instance = || Instance {
            policy: Contained::new(policy.clone()),
            records: vec![P::Record::default(); pages as usize],
            letters: vec![Vec::new(); machine.count()],
            feedback: Feedback::default(),
        };
        Self {
            machine,
            pages: Pages::new(machine.count(), pages, machine.nodes.iter().map(|node| node.frames).collect()),
            memory: Memory::new(machine),
            instances: (0..machine.count()).map(|_| instance()).collect(),
            owed: vec![0; machine.count()],
            now: 0,
            period,
            range: Range { first: 0, pages: pages.into() },
            outcome: Outcome::default(),
            queue: VecDeque::new(),
        }
    }

    /// Whether the task goes on.
    pub(crate) fn is_alive(&self) -> bool {
        self.outcome.out_of_memory.is_none()
    }
    /// What the CPUs of a node have had to do so far, each of them.
    #[inline]
    pub(crate) fn owed(&self, node: Node) -> Time {
        self.owed[usize::from(node)]
    }
    /// The outcome, but for the time.
    pub(crate) fn finish(mut self) -> Outcome {
        (self.outcome.local, self.outcome.remote) = self.memory.lines();
        let fallen = (0..).zip(&self.instances).filter_map(|(node, one)| Some((node, one.policy.fallen()?)));
        self.outcome.fallen = fallen.collect();
        self.outcome
    }

    /// Work of a pager, at the cost of its CPUs.
    fn work(&mut self, node: Node, time: u64) {
        self.pay(node, time);
        self.outcome.mechanism += time;
    }
    fn sampling(&mut self, node: Node, time: u64) {
        self.work(node, time);
        self.outcome.sampling += time;
    }

    /// Calls an instance, about a page or not, and queues its orders.
    fn ask<T>(
        &mut self,
        node: Node,
        about: Option<u32>,
        call: impl FnOnce(&mut Contained<P>, &World<'_>, Option<Page<'_, P::Record>>, &Pages, &mut Orders) -> T,
    ) -> Option<T> {
        let Self { machine, pages, instances, .. } = self;
        let Instance { policy, records, feedback, .. } = &mut instances[usize::from(node)];
        let world = World {
            node,
            now: to_cycles(self.now),
            period: self.period,
            nodes: &machine.nodes,
            distances: &machine.distances,
            free: &pages.free,
            costs: machine.costs,
            feedback: *feedback,
            pages: self.range,
        };
        let page = about.map(|number| {
            let state = pages.page(number);
            let record = &mut records[number as usize];
            Page {
                number: number.into(),
                home: state.home,
                sharers: state.sharers,
                replicated: state.replicated,
                record,
            }
        });
        let mut orders = Orders::new();
        let before = policy.fallen();
        let answer = catch_unwind(AssertUnwindSafe(|| call(policy, &world, page, pages, &mut orders)));
        if answer.is_err() {
            policy.fall(Mistake::Panicked, &mut orders);
        }
        if before.is_none() {
            self.outcome.policy += CALL;
        }
        self.queue.extend(orders.iter().map(|(order, _)| (node, order)));
        if before.is_none() {
            self.pay(node, CALL);
        }
        answer.ok()
    }

    /// A thread's access does not go through: what has to be done until it does, and how long that takes.
    #[cold]
    pub(crate) fn fault(&mut self, now: Time, thread: u32, (node, number): (Node, u32), write: bool) -> Time {
        self.now = now;
        self.outcome.faults += 1;
        let costs = self.machine.costs;
        let mut time = cycles(costs.fault.into());
        let state = *self.pages.page(number);
        let view = *self.pages.view(node, number);
        let reason = match self.pages.home(number.into()) {
            None => Reason::Untouched,
            Some(_) if state.replicated && write => Reason::Collapsed,
            Some(_) if view.is_armed() => Reason::Trap,
            Some(_) => Reason::Unmapped,
        };
        let access = if write { Access::Write } else { Access::Read };
        let fault = Fault { page: number.into(), access, reason, node, thread, region: self.range };
        self.outcome.mechanism += u64::from(costs.fault);
        match reason {
            Reason::Untouched if !self.fresh(number, &fault) => return time,
            Reason::Untouched => time += cycles(costs.clear.into()),
            Reason::Collapsed => time += self.collapse(node, number),
            Reason::Trap => {
                self.pages.view(node, number).disarm();
                self.outcome.sampling += u64::from(costs.fault);
            }
            Reason::Unmapped => {}
        }
        self.ask(node, Some(number), |policy, world, page, pages, orders| {
            if let Some(page) = page {
                policy.on_fault(world, &fault, page, &|page| pages.home(page), orders);
            }
        });
        time += self.carry_out(Some((node, number, write)));
        time += self.map(node, number, write);
        time
    }

    fn fresh(&mut self, number: u32, fault: &Fault) -> bool {
        let place = self.ask(fault.node, None, |policy, world, _, _, _| policy.place(world, fault));
        // A policy that panicked is contained by now: the next answer is first touch.
        let place =
            place.or_else(|| self.ask(fault.node, None, |policy, world, _, _, _| policy.place(world, fault)));
        match place {
            Some(Ok(home)) if self.pages.place(number, home) => true,
            Some(Err(skerry_policy::NoFrame(home))) => {
                self.outcome.out_of_memory = Some(home);
                false
            }
            _ => {
                self.outcome.out_of_memory = Some(fault.node);
                false
            }
        }
    }

    /// Maps a page where it was touched: of a replicated one, a copy.
    fn map(&mut self, node: Node, number: u32, write: bool) -> Time {
        let mut time = 0;
        if write && self.pages.page(number).replicated {
            time += self.collapse(node, number);
        }
        if self.pages.map(node, number) {
            self.outcome.copies += 1;
            let from = self.pages.page(number).home;
            time += self.memory.copy(self.now, from, node) + cycles(self.machine.costs.copy.into());
            self.outcome.mechanism += to_cycles(time);
        }
        self.pages.view(node, number).access(write);
        time
    }

    /// A write to a replicated page by `node`, which waits for it.
    fn collapse(&mut self, node: Node, number: u32) -> Time {
        let sharers = self.pages.collapse(number);
        let home = self.pages.page(number).home;
        self.outcome.collapses += 1;
        let time = self.revoked(home, sharers);
        let kind = SampleKind::Collapsed;
        let sample =
            Sample { page: number.into(), node, write: true, weight: 0, load: self.load(node), kind };
        self.sample(home, sample);
        cycles(time)
    }

    /// What taking a page away from `sharers` takes; their CPUs are held up, too.
    fn revoked(&mut self, leader: Node, sharers: NodeSet) -> u64 {
        let costs = self.machine.costs;
        let mut time = u64::from(costs.revoke);
        for other in sharers.without(leader).iter() {
            time += u64::from(costs.sharer);
            self.pay(other, u64::from(costs.sharer) / 2);
        }
        self.outcome.mechanism += time;
        time
    }

    /// Carries out what is queued. `fault` is the page that a thread waits for: what is done to it now is that thread's time, which is
    /// returned.
    fn carry_out(&mut self, fault: Option<(Node, u32, bool)>) -> Time {
        let mut waited = 0;
        while let Some((node, order)) = self.queue.pop_front() {
            match order {
                Order::Migrate { page, to } => {
                    let Some(time) = self.migrate(node, page as u32, to) else { continue };
                    match fault {
                        Some((_, number, _)) if number == page as u32 => waited += cycles(time),
                        _ => self.pay(node, time),
                    }
                }
                Order::Replicate { page } => {
                    let state = self.pages.page(page as u32);
                    if state.home == node && !state.replicated {
                        let sharers = self.pages.replicate(page as u32);
                        let time = self.revoked(node, sharers);
                        self.pay(node, time);
                    }
                }
                Order::Collapse { page } => {
                    let state = self.pages.page(page as u32);
                    if state.home == node && state.replicated {
                        let sharers = self.pages.collapse(page as u32);
                        let time = self.revoked(node, sharers);
                        self.pay(node, time);
                    }
                }
                Order::Arm { range } => self.arm(node, range),
                Order::Scan { range } => self.scan(node, range),
                Order::Report { page, weight, write, urgent } => {
                    let kind = if urgent { SampleKind::Urgent } else { SampleKind::Batched };
                    let sample = Sample { page, node, write, weight, load: self.load(node), kind };
                    waited += cycles(self.report(sample));
                }
                Order::Ahead { pages } => {
                    if let Some((node, number, write)) = fault {
                        waited += self.ahead(node, number, pages, write);
                    }
                }
                // A hint to the task; in a trace, threads run where they ran.
                Order::MoveThread { .. } => {}
            }
        }
        waited
    }
    /// Time of a pager's CPUs, which is counted elsewhere.
    fn pay(&mut self, node: Node, time: u64) {
        let server = usize::from(self.machine.served_by[usize::from(node)]);
        self.owed[server] += cycles(time) / Time::from(self.machine.nodes[server].cpus.max(1));
    }

    fn migrate(&mut self, node: Node, number: u32, to: Node) -> Option<u64> {
        // A decision that comes too late changes nothing.
        let from = self.pages.page(number).home;
        if from != node {
            return None;
        }
        let sharers = self.pages.migrate(number, to)?;
        self.outcome.migrations += 1;
        let copy = to_cycles(self.memory.copy(self.now, from, to)) + u64::from(self.machine.costs.copy);
        self.outcome.mechanism += copy;
        Some(self.revoked(node, sharers) + copy)
    }

    fn arm(&mut self, node: Node, range: Range) {
        let mut armed = 0;
        for number in range.first as u32..(range.first + range.pages) as u32 {
            armed += u64::from(self.pages.view(node, number).arm());
        }
        self.sampling(node, armed * u64::from(self.machine.costs.arm));
    }

    fn scan(&mut self, node: Node, range: Range) {
        let mut time = 0;
        for number in range.first as u32..(range.first + range.pages) as u32 {
            let view = self.pages.view(node, number);
            if !view.is_mapped() {
                time += LOOK;
                continue;
            }
            time += u64::from(self.machine.costs.scan);
            if let (true, written) = view.scan() {
                self.ask(node, Some(number), |policy, world, page, pages, orders| {
                    if let Some(page) = page {
                        policy.on_scan(world, written, page, &|page| pages.home(page), orders);
                    }
                });
            }
        }
        self.sampling(node, time);
    }

    fn load(&self, node: Node) -> u32 {
        self.instances[usize::from(node)].feedback.load
    }

    /// A report: what the thread waits, if it does.
    fn report(&mut self, sample: Sample) -> u64 {
        let Some(owner) = self.pages.home(sample.page) else { return 0 };
        let message = u64::from(self.machine.costs.message);
        if owner == sample.node {
            self.sample(owner, sample);
            return 0;
        }
        if sample.kind == SampleKind::Urgent {
            self.outcome.messages += 1;
            self.outcome.mechanism += message;
            self.outcome.sampling += message;
            self.sample(owner, sample);
            return message;
        }
        let letter = &mut self.instances[usize::from(sample.node)].letters[usize::from(owner)];
        letter.push(sample);
        if letter.len() >= BATCH {
            self.send(sample.node, owner);
        }
        0
    }

    fn send(&mut self, node: Node, owner: Node) {
        let letter = core::mem::take(&mut self.instances[usize::from(node)].letters[usize::from(owner)]);
        if letter.is_empty() {
            return;
        }
        self.outcome.messages += 1;
        let half = u64::from(self.machine.costs.message) / 2 + SAMPLE * letter.len() as u64;
        self.sampling(node, half);
        self.sampling(owner, half);
        letter.into_iter().for_each(|sample| self.sample(owner, sample));
    }

    fn sample(&mut self, owner: Node, sample: Sample) {
        // The page may have moved since; then nobody is told.
        if self.pages.home(sample.page) == Some(owner) {
            self.ask(owner, Some(sample.page as u32), |policy, world, page, pages, orders| {
                if let Some(page) = page {
                    policy.on_sample(world, &sample, page, &|page| pages.home(page), orders);
                }
            });
        }
    }

    /// Maps the pages around one, too: those that nobody has, and those that others have, unless that takes more than mapping.
    fn ahead(&mut self, node: Node, number: u32, pages: u16, write: bool) -> Time {
        let first = number & !(u32::from(pages) - 1);
        let last = (first + u32::from(pages)).min(self.range.pages as u32);
        let mut time = 0;
        for other in (first..last).filter(|&other| other != number) {
            if self.pages.view(node, other).is_mapped() || self.pages.page(other).replicated {
                continue;
            }
            if self.pages.home(other.into()).is_none() {
                let access = if write { Access::Write } else { Access::Read };
                let (page, region) = (u64::from(other), self.range);
                let fault = Fault { page, access, reason: Reason::Untouched, node, thread: 0, region };
                let place = self.ask(node, None, |policy, world, _, _, _| policy.place(world, &fault));
                // For a page that nobody has asked for, nobody goes without a frame.
                let Some(Ok(home)) = place else { return time };
                if !self.pages.place(other, home) {
                    return time;
                }
                time += cycles(self.machine.costs.clear.into());
            }
            self.pages.map(node, other);
            time += cycles(AHEAD);
        }
        self.outcome.mechanism += to_cycles(time);
        time
    }

    /// A period has passed.
    pub(crate) fn tick(&mut self, now: Time) {
        self.now = now;
        let active =
            (0..self.machine.count() as Node).filter(|&node| self.machine.nodes[usize::from(node)].cpus > 0);
        for node in active.collect::<Vec<_>>() {
            let epoch = self.memory.epoch(node);
            self.instances[usize::from(node)].feedback = Feedback {
                cycles: self.period * u64::from(self.machine.nodes[usize::from(node)].cpus),
                local: epoch.local,
                local_wait: to_cycles(epoch.local_wait),
                remote: epoch.remote,
                penalty: to_cycles(epoch.penalty),
                load: (epoch.waited * 100).checked_div(epoch.idle).unwrap_or(0) as u32,
            };
            self.ask(node, None, |policy, world, _, pages, orders| {
                policy.on_tick(world, &|p| pages.home(p), orders)
            });
            self.carry_out(None);
            for owner in 0..self.machine.count() as Node {
                self.send(node, owner);
                self.carry_out(None);
            }
        }
    }

    /// The program advises all pages.
    pub(crate) fn advise(&mut self, now: Time, advice: Advice) {
        self.now = now;
        let range = self.range;
        for node in 0..self.machine.count() as Node {
            self.ask(node, None, |policy, world, _, pages, orders| {
                policy.on_advise(world, range, advice, &|p| pages.home(p), orders);
            });
            self.carry_out(None);
        }
    }
}
