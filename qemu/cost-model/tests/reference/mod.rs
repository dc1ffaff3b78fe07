//! The same machine, written as simply as it can be: no directory, no filter, no generations, nothing remembered that can be found by looking
//! at every cache of the machine. Slow, and easy to check against `docs/performance-method.md`.

use std::collections::{HashMap, VecDeque};

use skerry_cost_model::cache::line_of;
use skerry_cost_model::core::CoreModel;
use skerry_cost_model::maintenance::Maintenance;
use skerry_cost_model::params::{Cache, Params, bytes_per_window};
use skerry_cost_model::{Counters, Topology};

const CYCLE: u64 = 256;

/// Sets of ways; a way holds a line and whether it is dirty.
pub(crate) struct Level {
    sets: Vec<Vec<Option<(u64, bool)>>>,
    next: Vec<usize>,
}

impl Level {
    fn new(shape: Cache) -> Self {
        let ways = shape.ways as usize;
        let count = shape.kib as usize * 16 / ways;
        Self { sets: vec![vec![None; ways]; count], next: vec![0; count] }
    }
    fn way(&mut self, line: u64) -> Option<&mut Option<(u64, bool)>> {
        let count = self.sets.len();
        if count == 0 {
            return None;
        }
        self.sets[line as usize % count].iter_mut().find(|way| way.is_some_and(|(l, _)| l == line))
    }
    fn has(&mut self, line: u64) -> bool {
        self.way(line).is_some()
    }
    fn dirty(&mut self, line: u64) -> bool {
        self.way(line).is_some_and(|way| way.is_some_and(|(_, dirty)| dirty))
    }
    fn set(&mut self, line: u64, dirty: bool) {
        if let Some(way) = self.way(line) {
            *way = Some((line, dirty));
        }
    }
    fn remove(&mut self, line: u64) {
        if let Some(way) = self.way(line) {
            *way = None;
        }
    }
    fn insert(&mut self, line: u64, dirty: bool) -> Option<(u64, bool)> {
        let count = self.sets.len();
        if count == 0 {
            return dirty.then_some((line, dirty));
        }
        let (set, next) = (&mut self.sets[line as usize % count], &mut self.next[line as usize % count]);
        if let Some(empty) = set.iter_mut().find(|way| way.is_none()) {
            *empty = Some((line, dirty));
            return None;
        }
        let old = set[*next].replace((line, dirty));
        *next = (*next + 1) % set.len();
        old
    }
    pub(crate) fn contents(&self) -> Vec<(u64, bool)> {
        let mut all: Vec<_> = self.sets.iter().flatten().flatten().copied().collect();
        all.sort_unstable();
        all
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Overlap {
    None,
    Independent,
    Stream,
}

pub(crate) struct Cpu {
    pub(crate) l1: Level,
    pub(crate) l2: Level,
    tlb: Vec<VecDeque<Option<(u64, u64, u64)>>>,
    tlb_next: Vec<usize>,
    streams: VecDeque<(u64, i64)>,
    pub(crate) clock: u64,
    pub(crate) counters: Counters,
    debt: u64,
    asleep: bool,
    interrupt: Option<u64>,
}

pub(crate) struct Reference {
    params: Params,
    topology: Topology,
    model: CoreModel,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) last: Vec<Level>,
    /// Lines in state E or M, and whose.
    owners: HashMap<u64, usize>,
    /// When lines were last stored to.
    stores: HashMap<u64, u64>,
    /// Bytes by (from, to, window); a controller is a link from a node to itself.
    bytes: HashMap<(u16, u16, u64), u64>,
}

impl Reference {
    pub(crate) fn new(topology: Topology, params: Params, model: CoreModel) -> Self {
        let sets = (params.tlb.entries / params.tlb.ways) as usize;
        let cpu = |_: &u16| Cpu {
            l1: Level::new(params.l1),
            l2: Level::new(params.l2),
            tlb: vec![VecDeque::from(vec![None; params.tlb.ways as usize]); sets],
            tlb_next: vec![0; sets],
            streams: VecDeque::new(),
            clock: 0,
            counters: Counters::default(),
            debt: 0,
            asleep: false,
            interrupt: None,
        };
        Self {
            cpus: topology.cpus.iter().map(cpu).collect(),
            last: (0..topology.nodes()).map(|_| Level::new(params.llc)).collect(),
            owners: HashMap::new(),
            stores: HashMap::new(),
            bytes: HashMap::new(),
            params,
            topology,
            model,
        }
    }

    fn node(&self, cpu: usize) -> u16 {
        self.topology.cpus[cpu]
    }
    fn far(&self, cycles: u32, from: u16, to: u16) -> u64 {
        u64::from(cycles) * CYCLE * self.topology.distance(from, to) / 10
    }
    fn home(&self, line: u64) -> u16 {
        self.topology.home(line * 64).unwrap()
    }
    fn private(&mut self, cpu: usize, line: u64) -> bool {
        self.cpus[cpu].l1.has(line) || self.cpus[cpu].l2.has(line)
    }

    pub(crate) fn execute(&mut self, cpu: usize, instructions: u64, accesses: u64) {
        let each = CYCLE / u64::from(self.params.instructions_per_cycle);
        let cpu = &mut self.cpus[cpu];
        let debt = std::mem::take(&mut cpu.debt);
        cpu.counters.instructions += instructions;
        cpu.counters.accesses += accesses;
        cpu.counters.wait_maintenance += debt;
        cpu.clock += debt + instructions * each;
    }

    fn wait(&self, overlap: Overlap, latency: u64, line_time: u64) -> u64 {
        let p = self.params.prefetching;
        match overlap {
            Overlap::None => latency,
            Overlap::Independent => line_time.max(latency / u64::from(p.parallel)),
            Overlap::Stream => line_time.max(latency / u64::from(p.stream_parallel)),
        }
    }

    fn overlap(&mut self, cpu: usize, line: u64, dependent: bool) -> Overlap {
        if self.model == CoreModel::Blocking {
            return Overlap::None;
        }
        let capacity = self.params.prefetching.streams as usize;
        let streams = &mut self.cpus[cpu].streams;
        let mut stream = false;
        let follows = |&(last, step): &(u64, i64)| {
            let moved = line as i64 - last as i64;
            moved.abs() == 1 && (step == 0 || step == moved)
        };
        if let Some(found) = streams.iter_mut().find(|s| follows(s)) {
            stream = found.1 != 0;
            *found = (line, line as i64 - found.0 as i64);
        } else {
            if streams.len() == capacity {
                streams.pop_front();
            }
            streams.push_back((line, 0));
        }
        match (dependent, stream) {
            (true, _) => Overlap::None,
            (false, true) => Overlap::Stream,
            (false, false) => Overlap::Independent,
        }
    }

    /// Moves a line from one node to another (or, if they are equal, out of or into that node's memory): delay and percent.
    fn move_line(&mut self, from: u16, to: u16, now: u64) -> (u64, u64) {
        let mb_s = if from == to { self.params.memory.controller_mb_s } else { self.params.memory.link_mb_s };
        let capacity = bytes_per_window(mb_s, &self.params);
        let length = u64::from(self.params.window) * CYCLE;
        let current = now / length;
        let mut window = current;
        while window < current + 32 && self.bytes.get(&(from, to, window)).unwrap_or(&0) + 64 > capacity {
            window += 1;
        }
        *self.bytes.entry((from, to, window)).or_default() += 64;
        let before = if current == 0 { 0 } else { *self.bytes.get(&(from, to, current - 1)).unwrap_or(&0) };
        let load = before * CYCLE * 100 / capacity;
        let mut percent = u64::from(self.params.load_curve.last().unwrap()[1]);
        for pair in self.params.load_curve.windows(2).rev() {
            let [x0, y0] = pair[0].map(u64::from);
            let [x1, y1] = pair[1].map(u64::from);
            if load < x1 * CYCLE {
                percent = y0 + (y1 - y0) * load.saturating_sub(x0 * CYCLE) / ((x1 - x0) * CYCLE);
            }
        }
        (if window == current { 0 } else { window * length - now }, percent)
    }

    fn write_back(&mut self, cpu: usize, from: u16, line: u64) {
        let (home, now) = (self.home(line), self.cpus[cpu].clock);
        self.cpus[cpu].counters.writebacks += 1;
        self.move_line(home, home, now);
        if from != home {
            self.move_line(from, home, now);
        }
    }

    pub(crate) fn access(&mut self, cpu: usize, line: u64, store: bool, dependent: bool, walking: bool) {
        if !self.cpus[cpu].l1.has(line) {
            let overlap = if walking { Overlap::None } else { self.overlap(cpu, line, dependent) };
            if self.cpus[cpu].l2.has(line) {
                let time = self.wait(overlap, u64::from(self.params.l2.latency) * CYCLE, 0);
                let cpu = &mut self.cpus[cpu];
                cpu.counters.l2_hits += 1;
                *if walking { &mut cpu.counters.wait_walk } else { &mut cpu.counters.wait_l2 } += time;
                cpu.clock += time;
            } else {
                self.miss(cpu, line, store, overlap, walking);
            }
            self.put_first(cpu, line);
        }
        if store {
            self.own(cpu, line);
            self.cpus[cpu].l1.set(line, true);
            self.stores.insert(line, self.cpus[cpu].clock);
        }
    }

    fn miss(&mut self, cpu: usize, line: u64, store: bool, overlap: Overlap, walking: bool) {
        let (node, home) = (self.node(cpu), self.home(line));
        let memory = self.params.memory;
        let clock = self.cpus[cpu].clock;
        self.cpus[cpu].clock = clock.max(*self.stores.get(&line).unwrap_or(&0));
        let now = self.cpus[cpu].clock;
        let owner = self.owners.get(&line).copied();
        let dirty_node = (0..self.last.len()).find(|&n| self.last[n].dirty(line)).map(|n| n as u16);
        let from = owner.map(|owner| self.node(owner));
        let (mut delay, mut percent, mut line_time) = (0, 100, 0);
        let latency;
        let mut move_now = |this: &mut Self, from, to| {
            let (d, p) = this.move_line(from, to, now);
            (delay, percent) = (delay.max(d), percent.max(p));
        };
        let c: fn(&mut Counters) -> (&mut u64, &mut u64);
        let source = if owner.is_some() { from } else { dirty_node.filter(|&n| n != node) };
        if owner.is_none() && self.last[usize::from(node)].has(line) {
            latency = u64::from(self.params.llc.latency) * CYCLE;
            c = |c| (&mut c.llc_hits, &mut c.wait_llc);
        } else if let Some(from) = source {
            latency = self.far(memory.transfer, node, from);
            if from == node {
                c = |c| (&mut c.transfers_local, &mut c.wait_transfer_local);
            } else {
                move_now(self, from, node);
                c = |c| (&mut c.transfers_remote, &mut c.wait_transfer_remote);
            }
        } else {
            latency = self.far(memory.latency, node, home);
            move_now(self, home, home);
            let per_window = |mb_s| bytes_per_window(mb_s, &self.params);
            let mut narrow = per_window(memory.controller_mb_s);
            if home == node {
                c = |c| (&mut c.dram_local, &mut c.wait_dram_local);
            } else {
                move_now(self, home, node);
                narrow = narrow.min(bytes_per_window(memory.link_mb_s, &self.params));
                c = |c| (&mut c.dram_remote, &mut c.wait_dram_remote);
            }
            line_time = 64 * u64::from(self.params.window) * CYCLE / narrow;
        }
        let time = self.wait(overlap, latency * percent / 100, line_time);
        let counters = &mut self.cpus[cpu].counters;
        let (count, wait) = c(counters);
        *count += 1;
        if walking {
            counters.wait_walk += time + delay;
        } else {
            *wait += time;
            counters.wait_bandwidth += delay;
        }
        self.cpus[cpu].clock += time + delay;

        // What the transfer does to the others.
        if let Some(owner) = owner {
            self.owners.remove(&line);
            let from = self.node(owner);
            if store {
                self.cpus[owner].l1.remove(line);
                self.cpus[owner].l2.remove(line);
                if from != node {
                    self.last[usize::from(from)].remove(line);
                }
            } else {
                let other = &mut self.cpus[owner];
                let dirty = other.l1.dirty(line) || other.l2.dirty(line);
                other.l1.set_clean(line);
                other.l2.set_clean(line);
                if from == node {
                    if dirty {
                        self.put_last(cpu, node, line, true);
                    }
                } else {
                    let dirty = dirty || self.last[usize::from(from)].dirty(line);
                    self.last[usize::from(from)].set_clean(line);
                    if dirty {
                        self.write_back(cpu, from, line);
                    }
                }
            }
        } else if !self.last[usize::from(node)].has(line)
            && let Some(from) = source
        {
            if store {
                self.last[usize::from(from)].remove(line);
            } else {
                self.last[usize::from(from)].set_clean(line);
                self.write_back(cpu, from, line);
            }
        }
        let alone = (0..self.cpus.len()).all(|c| c == cpu || !self.private(c, line))
            && (0..self.last.len()).all(|n| n == usize::from(node) || !self.last[n].has(line));
        if !store && alone {
            self.owners.insert(line, cpu);
        }
        self.put_last(cpu, node, line, false);
        if let Some(victim) = self.cpus[cpu].l2.insert(line, false) {
            self.out_of_second(cpu, victim, line);
        }
    }

    fn put_last(&mut self, cpu: usize, node: u16, line: u64, dirty: bool) {
        let last = &mut self.last[usize::from(node)];
        if last.has(line) {
            if dirty {
                last.set(line, true);
            }
        } else if let Some((victim, true)) = last.insert(line, dirty) {
            self.write_back(cpu, node, victim);
        }
    }

    fn put_first(&mut self, cpu: usize, line: u64) {
        let Some((victim, dirty)) = self.cpus[cpu].l1.insert(line, false) else { return };
        if self.cpus[cpu].l2.has(victim) {
            if dirty {
                self.cpus[cpu].l2.set(victim, true);
            }
        } else if dirty {
            if let Some(next) = self.cpus[cpu].l2.insert(victim, true) {
                self.out_of_second(cpu, next, line);
            }
        } else {
            self.gone(cpu, victim);
        }
    }

    fn out_of_second(&mut self, cpu: usize, (line, dirty): (u64, bool), coming: u64) {
        if dirty {
            self.put_last(cpu, self.node(cpu), line, true);
        }
        if line != coming && !self.private(cpu, line) {
            self.gone(cpu, line);
        }
    }

    fn gone(&mut self, cpu: usize, line: u64) {
        if self.owners.get(&line) == Some(&cpu) {
            self.owners.remove(&line);
        }
    }

    fn own(&mut self, cpu: usize, line: u64) {
        let (node, home) = (self.node(cpu), self.home(line));
        if self.owners.get(&line) != Some(&cpu) {
            let mut farthest = 0;
            for other in (0..self.cpus.len()).filter(|&other| other != cpu) {
                if self.private(other, line) {
                    farthest = farthest.max(self.topology.distance(node, self.node(other)));
                    self.cpus[other].l1.remove(line);
                    self.cpus[other].l2.remove(line);
                }
            }
            for other in (0..self.last.len() as u16).filter(|&other| other != node) {
                if self.last[usize::from(other)].has(line) {
                    farthest = farthest.max(self.topology.distance(node, other));
                    self.last[usize::from(other)].remove(line);
                }
            }
            if farthest > 0 {
                let distance = farthest.max(self.topology.distance(node, home));
                let latency = u64::from(self.params.memory.upgrade) * CYCLE * distance / 10;
                let overlap =
                    if self.model == CoreModel::Blocking { Overlap::None } else { Overlap::Independent };
                let time = self.wait(overlap, latency, 0);
                self.cpus[cpu].counters.upgrades += 1;
                self.cpus[cpu].counters.wait_upgrade += time;
                self.cpus[cpu].clock += time;
            }
            self.owners.insert(line, cpu);
        }
        self.last[usize::from(node)].set_clean(line);
    }

    pub(crate) fn maintain(&mut self, cpu: usize, line: u64, what: Maintenance) {
        let (node, home) = (self.node(cpu), self.home(line));
        let check = u64::from(self.params.events.maintenance) * CYCLE;
        if what == Maintenance::Zero {
            self.cpus[cpu].counters.zeroed += 1;
            if !self.cpus[cpu].l1.has(line) {
                if !self.cpus[cpu].l2.has(line) {
                    let stored = *self.stores.get(&line).unwrap_or(&0);
                    let memory = self.params.memory;
                    let mut narrow = memory.controller_mb_s;
                    if node != home {
                        narrow = narrow.min(memory.link_mb_s);
                    }
                    let window = u64::from(self.params.window) * CYCLE;
                    let time = 64 * window / bytes_per_window(narrow, &self.params);
                    let cpu = &mut self.cpus[cpu];
                    cpu.clock = cpu.clock.max(stored) + time;
                    cpu.counters.wait_maintenance += time;
                }
                self.put_first(cpu, line);
            }
            self.own(cpu, line);
            self.cpus[cpu].l1.set(line, true);
            self.stores.insert(line, self.cpus[cpu].clock);
            return;
        }
        let mut time = check;
        if what != Maintenance::Unification {
            let remove = what != Maintenance::Clean;
            let (mut dirty, mut farthest, mut others) = (false, 0, false);
            for c in 0..self.cpus.len() {
                if self.private(c, line) {
                    farthest = farthest.max(self.topology.distance(node, self.node(c)));
                    others |= c != cpu;
                    dirty |= self.cpus[c].l1.dirty(line) || self.cpus[c].l2.dirty(line);
                    self.cpus[c].l1.clean_or_remove(line, remove);
                    self.cpus[c].l2.clean_or_remove(line, remove);
                }
            }
            for n in 0..self.last.len() {
                if self.last[n].has(line) {
                    farthest = farthest.max(self.topology.distance(node, n as u16));
                    others = true;
                    dirty |= self.last[n].dirty(line);
                    self.last[n].clean_or_remove(line, remove);
                }
            }
            if remove {
                self.owners.remove(&line);
            }
            if others {
                time += u64::from(self.params.memory.upgrade) * CYCLE * farthest / 10;
            }
            if dirty && what != Maintenance::Invalidate {
                self.write_back(cpu, node, line);
                time += self.far(self.params.memory.latency, node, home);
            }
        }
        let cpu = &mut self.cpus[cpu];
        cpu.counters.maintenance += 1;
        cpu.counters.wait_maintenance += time;
        cpu.clock += time;
    }

    fn tlb_set(&self, page: u64, asid: u64) -> (usize, u64) {
        let key = page | asid << 44;
        ((key ^ key >> 16) as usize % self.cpus[0].tlb.len(), key)
    }

    /// Whether the TLB has the page; if not, the walk's reads and the new entry.
    pub(crate) fn translate(
        &mut self,
        cpu: usize,
        page: u64,
        asid: u64,
        physical: u64,
        reads: &[u64],
    ) -> u64 {
        let (set, key) = self.tlb_set(page, asid);
        if let Some((_, _, found)) = self.cpus[cpu].tlb[set].iter().flatten().find(|entry| entry.0 == key) {
            return *found;
        }
        self.cpus[cpu].counters.tlb_misses += 1;
        for &place in reads {
            let before = self.cpus[cpu].counters;
            self.access(cpu, line_of(place), false, true, true);
            let counters = &mut self.cpus[cpu].counters;
            counters.walk_reads += 1;
            counters.walk_dram_local += counters.dram_local - before.dram_local;
            counters.walk_dram_remote += counters.dram_remote - before.dram_remote;
        }
        let cpu = &mut self.cpus[cpu];
        let ways = &mut cpu.tlb[set];
        if let Some(empty) = ways.iter_mut().find(|way| way.is_none()) {
            *empty = Some((key, asid, physical));
        } else {
            let next = &mut cpu.tlb_next[set];
            ways[*next] = Some((key, asid, physical));
            *next = (*next + 1) % ways.len();
        }
        physical
    }

    /// Invalidates one page of one space, or a whole space.
    pub(crate) fn invalidate(&mut self, cpu: usize, page: Option<u64>, asid: u64, broadcast: bool) {
        let events = self.params.events;
        for c in 0..self.cpus.len() {
            if c == cpu || broadcast {
                for way in self.cpus[c].tlb.iter_mut().flatten() {
                    if way.is_some_and(|(key, a, _)| a == asid && page.is_none_or(|p| p | asid << 44 == key))
                    {
                        *way = None;
                    }
                }
                if c != cpu {
                    self.cpus[c].debt += u64::from(events.tlbi_receive) * CYCLE;
                }
            }
        }
        let cpu = &mut self.cpus[cpu];
        let cost = if broadcast { events.tlbi_broadcast } else { events.tlbi_local };
        *if broadcast { &mut cpu.counters.tlbi_broadcast } else { &mut cpu.counters.tlbi_local } += 1;
        cpu.counters.wait_maintenance += u64::from(cost) * CYCLE;
        cpu.clock += u64::from(cost) * CYCLE;
    }

    pub(crate) fn interrupt(&mut self, cpu: usize, target: usize) {
        let at = self.cpus[cpu].clock + u64::from(self.params.events.interrupt) * CYCLE;
        self.cpus[cpu].counters.interrupts += 1;
        let pending = &mut self.cpus[target].interrupt;
        *pending = Some(pending.map_or(at, |old| old.min(at)));
    }

    pub(crate) fn sleep(&mut self, cpu: usize) {
        self.cpus[cpu].asleep = true;
    }

    pub(crate) fn wake(&mut self, cpu: usize) {
        if !std::mem::take(&mut self.cpus[cpu].asleep) {
            return;
        }
        let others = || self.cpus.iter().enumerate().filter(|(c, _)| *c != cpu).map(|(_, c)| c);
        let awake = others().filter(|c| !c.asleep).map(|c| c.clock).min();
        let now = awake.or(others().map(|c| c.clock).max()).unwrap_or(0);
        let cpu = &mut self.cpus[cpu];
        let until = cpu.interrupt.take().unwrap_or(now);
        cpu.counters.idle += until.saturating_sub(cpu.clock);
        cpu.clock = cpu.clock.max(until);
    }
}

impl Level {
    fn set_clean(&mut self, line: u64) {
        self.set(line, false);
    }
    fn clean_or_remove(&mut self, line: u64, remove: bool) {
        if remove { self.remove(line) } else { self.set_clean(line) }
    }
}
