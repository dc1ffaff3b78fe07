//! The machine: where a line is, what an access to it moves, and what that costs.
//!
//! **Levels.** First and second level are private, the last one belongs to a node; a line that is read from outside of the node is put into all
//! three, and leaves each on its own (neither inclusive nor exclusive). Dirty lines go one level down when they leave.
//!
//! **Coherence.** MESI between all private caches, by a precise [`Directory`]. An owner is a CPU that holds a line alone (E or M). A dirty line
//! that another node reads is written back to memory; one that another CPU of the node reads stays in the node, dirty in its last level. So a line
//! that is dirty in some last level is in no other node's caches.
//!
//! **Order in time.** Whoever gets a line gets it after it was stored to: a clock that is earlier is moved on.

use std::sync::Arc;

use crate::Topology;
use crate::bandwidth::{Bandwidth, Grant};
use crate::cache::{Cache, LINES, line_of};
use crate::core::{Core, CoreModel};
use crate::counters::Wait;
use crate::directory::{Directory, Holder, Known};
use crate::latency::Overlap;
use crate::params::Params;
use crate::shared::Shared;
use crate::time::{Time, cycles};
use crate::tlb::Invalidation;
use crate::topology::LOCAL;
use crate::walk::Walk;

/// What kind of access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// It writes (a read-modify-write is a store).
    pub store: bool,
    /// Its address comes from a load that missed.
    pub dependent: bool,
}

/// The private caches of a CPU.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) l1: Cache,
    pub(crate) l2: Cache,
}

impl Private {
    pub(crate) fn holds(&self, line: u64) -> bool {
        self.l1.find(line).is_some() || self.l2.find(line).is_some()
    }
    /// Makes a line clean; whether it was dirty.
    pub(crate) fn clean(&mut self, line: u64) -> bool {
        let (first, second) = (self.l1.clean(line), self.l2.clean(line));
        first || second
    }
    /// Takes a line out; whether it was dirty.
    fn remove(&mut self, line: u64) -> bool {
        let (first, second) = (self.l1.remove(line), self.l2.remove(line));
        first == Some(true) || second == Some(true)
    }
}

/// Everything that CPUs share.
#[derive(Debug)]
pub struct Machine {
    pub(crate) params: Params,
    pub(crate) topology: Topology,
    pub(crate) privates: Vec<Private>,
    pub(crate) last: Vec<Cache>,
    pub(crate) directory: Directory,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) shared: Vec<Arc<Shared>>,
    /// Lines that changed hands between CPUs: where the order of accesses matters.
    contended: u64,
}

impl Machine {
    /// A machine with empty caches, and its CPUs.
    ///
    /// # Errors
    /// What cannot be modelled.
    pub fn new(topology: Topology, params: Params, model: CoreModel) -> Result<(Self, Vec<Core>), String> {
        params.check()?;
        topology.check()?;
        if line_of(topology.span().1) >= LINES {
            return Err(format!(
                "memory ends at {:#x}; the cost model can do less than 128 GiB",
                topology.span().1
            ));
        }
        let shared: Vec<Arc<Shared>> = topology.cpus.iter().map(|_| Arc::default()).collect();
        let core = |(cpu, shared): (u16, &Arc<Shared>)| {
            Core::new(cpu, topology.node(cpu), model, &params, Arc::clone(shared))
        };
        let cores = (0..).zip(&shared).map(core).collect();
        let private = |_: &u16| Private { l1: Cache::new(params.l1), l2: Cache::new(params.l2) };
        let machine = Self {
            privates: topology.cpus.iter().map(private).collect(),
            last: (0..topology.nodes()).map(|_| Cache::new(params.llc)).collect(),
            directory: Directory::new(topology.span(), topology.cpus.len(), topology.nodes()),
            bandwidth: Bandwidth::new(&params, &topology),
            shared,
            params,
            topology,
            contended: 0,
        };
        Ok((machine, cores))
    }

    /// The shape.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How often lines changed hands between CPUs.
    pub fn contended(&self) -> u64 {
        self.contended
    }

    /// An access to one line, by its virtual and physical address; whether the first level lacked it. `None`: there is no memory.
    pub fn access(&mut self, core: &mut Core, address: u64, physical: u64, access: Access) -> Option<bool> {
        let home = self.topology.home(physical)?;
        let line = line_of(physical);
        let generation = core.shared.generation();
        let (missed, writable) = self.line(core, line, home, access);
        // A line that the CPU lost again meanwhile leaves the filter with the next generation.
        core.filter.remember(address, line, writable, generation);
        let stored = if access.store { core.clock() } else { 0 };
        let (old, time) = core.shared.replace(crate::filter::index(line), line, stored);
        if time > 0 && (old != line || !access.store) {
            self.directory.stored(old, time);
        }
        Some(missed)
    }

    /// The reads of a walk, and then its translation in the TLB.
    pub fn walk(&mut self, core: &mut Core, asid: u16, address: u64, walk: &Walk) {
        core.counters.tlb_misses += 1;
        core.walking = true;
        let before = (core.counters.dram_local, core.counters.dram_remote);
        for &place in walk.reads() {
            core.counters.walk_reads += 1;
            if let Some(home) = self.topology.home(place) {
                self.line(core, line_of(place), home, Access { store: false, dependent: true });
            }
        }
        core.counters.walk_dram_local += core.counters.dram_local - before.0;
        core.counters.walk_dram_remote += core.counters.dram_remote - before.1;
        core.walking = false;
        core.insert(asid, address, walk.physical, walk.bits);
    }

    /// TLB invalidation: for this CPU, or for all.
    pub fn invalidate_tlb(&mut self, core: &mut Core, what: Invalidation, broadcast: bool) {
        let events = self.params.events;
        core.drop_translations(what);
        if !broadcast {
            core.counters.tlbi_local += 1;
            core.pay(Wait::Maintenance, Overlap::None, cycles(events.tlbi_local.into()), 0);
            return;
        }
        core.counters.tlbi_broadcast += 1;
        core.pay(Wait::Maintenance, Overlap::None, cycles(events.tlbi_broadcast.into()), 0);
        for (cpu, other) in self.shared.iter().enumerate() {
            if cpu != usize::from(core.cpu) {
                other.invalidate(what);
                other.charge(cycles(events.tlbi_receive.into()));
            }
        }
    }

    /// A latency of `cycles_at_ten` over the distance between two nodes.
    pub(crate) fn far(&self, cycles_at_ten: u32, from: u16, to: u16) -> Time {
        cycles(cycles_at_ten.into()) * self.topology.distance(from, to) / Time::from(LOCAL)
    }

    /// An access to a line: whether the first level lacked it, and whether the next store to it needs nothing any more.
    fn line(&mut self, core: &mut Core, line: u64, home: u16, access: Access) -> (bool, bool) {
        let cpu = usize::from(core.cpu);
        let found = self.privates[cpu].l1.find(line);
        let missed = found.is_none();
        if missed {
            let overlap = core.overlap(line, access.dependent);
            let known = self.directory.look(line, core.cpu, core.node);
            // What the CPU has and the first level lacks is in the second one.
            if known.mine {
                core.counters.l2_hits += 1;
                core.pay(Wait::L2, overlap, cycles(self.params.l2.latency.into()), 0);
            } else {
                self.miss(core, line, home, known, (access.store, overlap));
            }
            self.fill_first(core, line);
        }
        if access.store {
            self.own(core, line, home);
        } else if missed {
            // What comes in is clean.
            return (true, false);
        }
        let l1 = &mut self.privates[cpu].l1;
        let Some(slot) = found.or_else(|| l1.find(line)) else { return (missed, false) };
        if access.store {
            l1.set_dirty(slot, true);
        }
        (missed, l1.is_dirty(slot) && self.directory.owner(line) == Some(core.cpu))
    }

    /// Brings a line into the node and the CPU.
    fn miss(&mut self, core: &mut Core, line: u64, home: u16, known: Known, how: (bool, Overlap)) {
        self.fetch(core, line, home, known, how);
        let has_last = self.last[usize::from(core.node)].exists();
        if self.directory.arrive(line, core.cpu, core.node, has_last, !how.0) {
            self.insert_last(core, core.node, line, false);
        }
        if let Some(victim) = self.privates[usize::from(core.cpu)].l2.insert(line, false) {
            self.leave_second(core, victim, line);
        }
    }

    /// Finds out who has the line, and waits for it. Afterwards nobody owns it.
    fn fetch(
        &mut self,
        core: &mut Core,
        line: u64,
        home: u16,
        known: Known,
        (store, overlap): (bool, Overlap),
    ) {
        core.not_before(known.stamp);
        let memory = self.params.memory;
        if let Some(owner) = known.owner {
            self.contended += 1;
            let stored = self.shared[usize::from(owner)].last_store(line);
            self.directory.stored(line, stored);
            core.not_before(stored);
            let from = self.topology.node(owner);
            self.transfer(core, line, from, overlap, memory.transfer);
            self.take_from(core, line, owner, from, home, store);
        } else if known.in_last {
            core.counters.llc_hits += 1;
            core.pay(Wait::Llc, overlap, cycles(self.params.llc.latency.into()), 0);
        } else if let Some(from) = known.anywhere.then(|| self.dirty_elsewhere(line)).flatten() {
            self.transfer(core, line, from, overlap, memory.transfer);
            if store {
                self.take_last(line, from);
            } else {
                self.last[usize::from(from)].clean(line);
                self.write_back(core, from, home);
            }
        } else {
            let grant = self.bandwidth.read(core.clock(), home, core.node);
            let latency = self.far(memory.latency, core.node, home);
            let local = core.node == home;
            if local {
                core.counters.dram_local += 1
            } else {
                core.counters.dram_remote += 1
            }
            let what = if local { Wait::DramLocal } else { Wait::DramRemote };
            let line_time = self.bandwidth.line_time(home, core.node);
            Self::granted(core, what, overlap, latency, line_time, grant);
        }
    }

    fn transfer(&mut self, core: &mut Core, line: u64, from: u16, overlap: Overlap, latency: u32) {
        debug_assert!(self.directory.next(line, 0).is_some(), "somebody has it");
        let grant = self.bandwidth.transfer(core.clock(), from, core.node);
        let latency = self.far(latency, core.node, from);
        let local = core.node == from;
        if local {
            core.counters.transfers_local += 1
        } else {
            core.counters.transfers_remote += 1
        }
        let what = if local { Wait::TransferLocal } else { Wait::TransferRemote };
        Self::granted(core, what, overlap, latency, 0, grant);
    }

    fn granted(core: &mut Core, what: Wait, overlap: Overlap, latency: Time, line_time: Time, grant: Grant) {
        if grant.delay > 0 {
            core.pay(Wait::Bandwidth, Overlap::None, grant.delay, 0);
        }
        core.pay(what, overlap, latency * grant.percent / 100, line_time);
    }

    /// The owner's part of a transfer: for a load it keeps a clean copy, for a store nothing.
    fn take_from(&mut self, core: &mut Core, line: u64, owner: u16, from: u16, home: u16, store: bool) {
        self.directory.set_owner(line, None);
        self.shared[usize::from(owner)].bump();
        let private = &mut self.privates[usize::from(owner)];
        if store {
            private.remove(line);
            self.directory.remove(line, Holder::Cpu(owner));
            if from != core.node {
                self.take_last(line, from);
            }
            return;
        }
        let dirty = private.clean(line);
        if from == core.node {
            if dirty {
                self.put_last(core, from, line, true);
            }
        } else if self.last[usize::from(from)].clean(line) || dirty {
            self.write_back(core, from, home);
        }
    }

    fn take_last(&mut self, line: u64, node: u16) {
        self.last[usize::from(node)].remove(line);
        self.directory.remove(line, Holder::Node(node));
    }

    /// The node whose last level has the line dirty.
    fn dirty_elsewhere(&self, line: u64) -> Option<u16> {
        let mut position = 0;
        while let Some((holder, next)) = self.directory.next(line, position) {
            if let Holder::Node(node) = holder {
                let last = &self.last[usize::from(node)];
                if last.find(line).is_some_and(|slot| last.is_dirty(slot)) {
                    return Some(node);
                }
            }
            position = next;
        }
        None
    }

    /// Makes this CPU, which has the line, its only holder.
    pub(crate) fn own(&mut self, core: &mut Core, line: u64, home: u16) {
        if self.directory.owner(line) != Some(core.cpu) {
            let farthest = self.take_all(core, line);
            if let Some(farthest) = farthest {
                let distance = farthest.max(self.topology.distance(core.node, home));
                let latency = cycles(self.params.memory.upgrade.into()) * distance / Time::from(LOCAL);
                let overlap = core.overlap_of_store();
                core.counters.upgrades += 1;
                core.pay(Wait::Upgrade, overlap, latency, 0);
            }
            self.directory.set_owner(line, Some(core.cpu));
        }
        // What the last level has is old from now on, so this CPU's copy is the one to write back.
        self.last[usize::from(core.node)].clean(line);
        self.directory.stored(line, core.clock());
    }

    /// Takes a line from everybody but this CPU and its node's last level; the distance of the farthest one that had it.
    pub(crate) fn take_all(&mut self, core: &Core, line: u64) -> Option<u64> {
        let mut farthest = None;
        let mut position = 0;
        while let Some((holder, next)) = self.directory.next(line, position) {
            position = next;
            let node = match holder {
                Holder::Cpu(cpu) if cpu != core.cpu => {
                    self.privates[usize::from(cpu)].remove(line);
                    self.shared[usize::from(cpu)].bump();
                    self.contended += 1;
                    self.topology.node(cpu)
                }
                Holder::Node(node) if node != core.node => {
                    self.last[usize::from(node)].remove(line);
                    node
                }
                _ => continue,
            };
            self.directory.remove(line, holder);
            farthest = farthest.max(Some(self.topology.distance(core.node, node)));
        }
        farthest
    }
}
