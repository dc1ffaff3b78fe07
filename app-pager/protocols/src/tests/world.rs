//! The abstract machine on which the protocols run: shared words, kernels, pools, workers, threads.
//!
//! Every [`World::perform`] is one atomic event: an effect of one machine, a kernel applying a map item that a
//! pager sent earlier, a message arriving. Kernels and messages take their time, so anything may happen in between.

use super::client::{Client, Phase};
use super::death::Death;
use super::facts::Fact;
use super::scenario::{FRAMES, NODES, PAGER_THREADS, PAGES, Scenario};
use crate::effect::{Access, Me, Word};
use crate::entry::{Entry, State};
use crate::local::Local;
use crate::record::Record;
use crate::recovery::{Reclaim, ReclaimEffect};
use crate::revoke::{self, Order, Revoke};
use crate::rules::{Rule, kept};
use skerry_abi::Rights;

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Event {
    /// A thread, or the pager thread of its CPU on its behalf, does the next thing.
    Step(usize),
    /// The kernel gets round to the map item that answers this thread's fault.
    Apply(usize),
    /// A worker takes the request of this client's pager thread.
    Take(usize, usize),
    /// A worker does the next thing.
    Work(usize),
    /// A frame arrives at the pool of its node.
    Free(usize),
    /// A pager dies.
    Crash,
    /// The root pager fences it: its kernel forgets what it mapped, and nobody waits for it any more.
    Fence,
    /// A pager forgets the dead one.
    Forget(usize),
    /// A worker does the next thing about frames that the dead one had in hand.
    Reclaim(usize),
}

/// What a leader wants of a worker, and the pages that its batch is about.
pub(super) type Request = (Order, &'static [u8]);

/// The worker of a node's pager.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Worker {
    /// Mailboxes, by client.
    pub(super) inbox: [Option<Request>; PAGER_THREADS],
    /// What it does now, for whom.
    pub(super) busy: Option<(usize, &'static [u8], Revoke<PAGES>, revoke::Effect)>,
    /// It calls another worker, as it must not.
    pub(super) calls: Option<usize>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) master: [u64; PAGES],
    pub(super) sharers: [u64; PAGES],
    pub(super) local: [[u64; PAGES]; NODES],
    /// The pages are one group.
    pub(super) group: [u64; NODES],
    /// What the kernels have mapped.
    pub(super) mapped: [[Local; PAGES]; NODES],
    /// By frame: is it in its pool; from where is it on its way there; what does its owner know?
    pub(super) free: [bool; NODES * FRAMES],
    pub(super) returning: [Option<u16>; NODES * FRAMES],
    pub(super) record: [u64; NODES * FRAMES],
    /// How often each frame was written, and how often each page.
    pub(super) contents: [u8; NODES * FRAMES],
    pub(super) written: [[u8; PAGES]; NODES],
    /// Nodes have the page for themselves.
    pub(super) parted: [bool; PAGES],
    /// Frames that caches may know something of that memory does not.
    pub(super) cached: [bool; NODES * FRAMES],
    pub(super) clients: [Client; PAGER_THREADS],
    pub(super) workers: [Worker; NODES],
    pub(super) death: Death,
    /// Nodes that have been asked to forget the dead pager and have not done it.
    pub(super) forgetting: u8,
    /// Where the workers are that reclaim.
    pub(super) reclaiming: [Option<(usize, Reclaim, ReclaimEffect)>; NODES],
    /// What went wrong.
    pub(super) wrong: Option<&'static str>,
}

/// The frame at an address.
pub(super) fn frame(address: u64) -> usize {
    (address >> 12) as usize - 1
}
/// The node of a frame.
pub(super) fn home(frame: usize) -> u16 {
    (frame / FRAMES) as u16
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            master: [0; PAGES],
            sharers: [0; PAGES],
            local: [[0; PAGES]; NODES],
            group: [0; NODES],
            mapped: [[Local::EMPTY; PAGES]; NODES],
            free: [true; NODES * FRAMES],
            returning: [None; NODES * FRAMES],
            record: [0; NODES * FRAMES],
            contents: [0; NODES * FRAMES],
            written: [[0; PAGES]; NODES],
            parted: [false; PAGES],
            cached: [false; NODES * FRAMES],
            clients: [Client::default(); PAGER_THREADS],
            workers: [Worker::default(); NODES],
            death: Death::Alive,
            forgetting: 0,
            reclaiming: [None; NODES],
            wrong: None,
        }
    }

    pub(super) fn events(&self, scenario: &Scenario, events: &mut Vec<Event>) {
        for (c, client) in self.clients.iter().enumerate() {
            let steps = if self.is_dead(scenario.node(c)) {
                self.hits(scenario, c)
            } else {
                client.can_step(scenario.script(c))
            };
            match client.phase {
                Phase::Answered(_) => events.push(Event::Apply(c)),
                _ if steps => events.push(Event::Step(c)),
                _ => {}
            }
        }
        for (n, worker) in self.workers.iter().enumerate() {
            if self.is_dead(n as u16) {
                continue;
            }
            let callee_is_idle = |to: usize| self.workers[to].busy.is_none();
            if worker.busy.is_none() {
                let full = (0..PAGER_THREADS).filter(|&c| worker.inbox[c].is_some());
                events.extend(full.map(|c| Event::Take(n, c)));
            } else if worker.calls.is_none_or(callee_is_idle) {
                events.push(Event::Work(n));
            }
        }
        let arrives = |&f: &usize| self.returning[f].is_some() && !self.is_dead(home(f));
        events.extend((0..NODES * FRAMES).filter(arrives).map(Event::Free));
        self.events_of_death(scenario, events);
    }

    /// Lets it happen. `seen` collects situations.
    pub(super) fn perform(&mut self, scenario: &Scenario, event: Event, seen: &mut u64) {
        match event {
            Event::Step(c) => self.step(scenario, c, seen),
            Event::Apply(c) => self.apply(scenario, c, seen),
            Event::Take(n, c) => {
                let (order, pages) = self.workers[n].inbox[c].take().expect("full");
                let mut machine = Revoke::new(order);
                let effect = machine.step(0);
                self.workers[n].busy = Some((c, pages, machine, effect));
            }
            Event::Work(n) => self.work(scenario, n, seen),
            Event::Free(f) => {
                self.returning[f] = None;
                Fact::FrameReturned.note(seen);
                self.put(f);
            }
            Event::Crash => self.crash(scenario),
            Event::Fence => self.fence(scenario),
            Event::Forget(n) => self.forget(scenario, n, seen),
            Event::Reclaim(n) => self.reclaim(scenario, n, seen),
        }
    }

    fn work(&mut self, scenario: &Scenario, n: usize, seen: &mut u64) {
        let Some((c, pages, mut machine, effect)) = self.workers[n].busy else { return };
        let answer = match effect {
            revoke::Effect::Access(page, word, access) => {
                self.access(n as u16, usize::from(pages[usize::from(page)]), word, access, seen)
            }
            revoke::Effect::Unmap { frame, keep, .. } => self.unmap(n, frame, keep),
            revoke::Effect::Free(_, address) => {
                self.free_copy(address);
                0
            }
            revoke::Effect::Done => {
                let asker = usize::from(scenario.node(c));
                if !kept(Rule::WorkersNeverCall) && self.workers[n].calls.is_none() {
                    self.workers[n].calls = Some(asker);
                    return;
                }
                self.workers[n] = Worker { busy: None, calls: None, ..self.workers[n] };
                self.clients[c].acknowledged(n, machine.used());
                return;
            }
        };
        let next = machine.step(answer);
        self.workers[n].busy = Some((c, pages, machine, next));
    }

    /// An atomic action on a word.
    pub(super) fn access(
        &mut self,
        node: u16,
        page: usize,
        word: Word,
        access: Access,
        seen: &mut u64,
    ) -> u64 {
        let slot = match word {
            Word::Local => &mut self.local[usize::from(node)][page],
            Word::Master => &mut self.master[page],
            Word::Sharers(_) => &mut self.sharers[page],
            Word::Group => &mut self.group[usize::from(node)],
        };
        let old = *slot;
        match access {
            Access::Load => {}
            Access::Swap { expected, new } if expected == old => {
                *slot = new;
                if word == Word::Master {
                    self.settled(page, Entry(new));
                }
            }
            Access::Swap { .. } => Fact::SwapLost.note(seen),
            Access::Set(bits) => *slot |= bits,
            Access::Clear(bits) => *slot &= !bits,
            Access::Count => *slot += 1,
        }
        old
    }

    /// The entry of a page is changed: what threads must find in it from now on.
    fn settled(&mut self, page: usize, entry: Entry) {
        let contents = if entry.frame() == 0 { 0 } else { self.contents[frame(entry.frame())] };
        let all = match entry.state() {
            State::Empty => Some(0),
            // What nodes had for themselves is forgotten.
            State::Present if self.parted[page] => Some(contents),
            _ => None,
        };
        if let Some(all) = all {
            self.written.iter_mut().for_each(|written| written[page] = all);
        }
        if entry.state() != State::Busy {
            self.parted[page] = entry.is_apart();
        }
    }

    /// A kernel takes a frame away from the task's space.
    pub(super) fn unmap(&mut self, node: usize, frame: u64, keep: Option<Rights>) -> u64 {
        let mut used = 0;
        for mapping in &mut self.mapped[node] {
            if mapping.is_present() && mapping.frame() == frame {
                used |= 1 | u64::from(mapping.rights().contains(Rights::W)) << 1;
                *mapping = match keep.map(|keep| mapping.rights() & keep) {
                    None => Local::EMPTY,
                    Some(rights) if rights.is_empty() => Local::EMPTY,
                    Some(rights) => mapping.allowing(rights),
                };
            }
        }
        used
    }

    /// A frame from a pool, for a page.
    pub(super) fn take(&mut self, node: u16, page: usize, by: Me) -> u64 {
        if self.is_dead(node) {
            return 0;
        }
        let first = usize::from(node) * FRAMES;
        match (first..first + FRAMES).find(|&f| self.free[f]) {
            Some(f) => {
                self.free[f] = false;
                self.contents[f] = 0;
                self.record[f] = Record::taken(page as u64, by).0;
                (f as u64 + 1) << 12
            }
            None => 0,
        }
    }

    /// Puts a frame into its pool.
    pub(super) fn put(&mut self, f: usize) {
        if self.free[f] {
            self.wrong = Some("a frame was freed twice");
        }
        if self.cached[f] {
            self.wrong = Some("a frame was freed without cache maintenance");
        }
        self.free[f] = true;
        self.contents[f] = 0;
        self.record[f] = Record::FREE.0;
    }

    /// Frees a node's own copy of a page.
    pub(super) fn free_copy(&mut self, address: u64) {
        self.cached[frame(address)] = false;
        self.put(frame(address));
    }

    /// Frees a frame from `node`: by message, if it is another node's.
    pub(super) fn give_back(&mut self, node: u16, address: u64) {
        let f = frame(address);
        if home(f) == node {
            self.put(f);
        } else if self.returning[f].is_some() {
            self.wrong = Some("a frame was freed twice");
        } else if !self.is_dead(home(f)) {
            self.returning[f] = Some(node);
        }
    }

    /// Sets the notification bit that makes pager threads look at their parked jobs.
    pub(super) fn wake(&mut self, scenario: &Scenario, node: Option<u16>, by: usize) {
        for (c, client) in self.clients.iter_mut().enumerate() {
            let there = node.is_none_or(|node| scenario.node(c) == node);
            client.woken |= there && c != by && client.is_at_work();
        }
    }
}
