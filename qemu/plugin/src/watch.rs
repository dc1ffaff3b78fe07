//! Who runs, and what comes to it from memory: feeds the [`Recorder`] and the [`Places`]. It looks at the cost model and changes nothing there, so a run counts
//! the same with and without it.

use skerry_abi::marker;
use skerry_cost_model::latency::Overlap;
use skerry_cost_model::streams::Streams;
use skerry_cost_model::{Config, Core, Counters, Machine, Time};
use skerry_replay::Item;

use crate::places::{Home, Places, What};
use crate::recorder::{Made, Recorder, Touch, Whom};
use crate::vcpu::{Accessed, Vcpu};

/// Bits of TTBR0 that are the address of the tables.
const BASE: u64 = (1 << 48) - 2;

/// What is known of who runs on a CPU.
#[derive(Debug)]
pub struct Meter {
    /// Whether anybody wants to know.
    pub on: bool,
    /// Where the UTCB of the CPU's thread is.
    pub utcb: u64,
    /// Who executes the block, if it is not the kernel.
    whom: Option<Whom>,
    /// Its tape, if it is an application's.
    thread: Option<usize>,
    /// The CPU's own time when that was noted last.
    last: Time,
    streams: Streams,
}

impl Meter {
    /// Of a CPU that has not executed anything.
    pub fn new(config: &Config) -> Self {
        let streams = Streams::new(config.params.prefetching.streams);
        Self { on: config.trace || config.pages, utcb: 0, whom: None, thread: None, last: 0, streams }
    }
}

/// The clock less what depends on placement or on others.
fn own(core: &Core) -> Time {
    let Counters { idle, wait_dram_local, wait_dram_remote, wait_bandwidth, wait_maintenance, .. } =
        core.counters;
    let others = idle + wait_dram_local + wait_dram_remote + wait_bandwidth + wait_maintenance;
    core.clock().saturating_sub(others)
}

/// Who a CPU's tables and UTCB belong to.
fn whom(cpu: &Vcpu) -> Whom {
    (cpu.tables[0].unwrap_or(0) & BASE, cpu.meter.utcb)
}

/// Everything that is recorded.
#[derive(Debug)]
pub struct Watch {
    recorder: Recorder,
    places: Option<Places>,
    trace: bool,
}

impl Watch {
    /// If somebody asked for it.
    pub fn new(config: &Config) -> Option<Self> {
        let places = config.pages.then(|| Places::new(config.topology.nodes()));
        (config.trace || config.pages).then(|| Self {
            recorder: Recorder::new(config.trace),
            places,
            trace: config.trace,
        })
    }

    /// Events that there was no room for.
    pub fn lost(&self) -> u64 {
        self.recorder.lost()
    }

    /// The trace, if one was asked for.
    pub fn trace(&mut self) -> Option<Made> {
        self.trace.then(|| std::mem::take(&mut self.recorder).finish())
    }

    /// The lines by page, if they were asked for.
    pub fn places(&self) -> Option<String> {
        self.places.as_ref().map(Places::csv)
    }

    /// Books the time until now.
    pub fn settle(&mut self, cpu: &mut Vcpu) {
        let now = own(&cpu.core);
        let passed = now - std::mem::replace(&mut cpu.meter.last, now);
        if let Some(thread) = cpu.meter.thread {
            self.recorder.spend(thread, passed);
        }
    }

    /// Somebody else runs from now on.
    pub fn change(&mut self, cpu: &mut Vcpu, user: bool) {
        self.settle(cpu);
        cpu.meter.whom = user.then(|| whom(cpu));
        let number = cpu.core.cpu();
        cpu.meter.thread = cpu.meter.whom.and_then(|whom| self.recorder.find(whom, number));
    }

    /// A thread says something; before anything is measured (not `on`), it is only remembered who it is.
    pub fn told(&mut self, cpu: &mut Vcpu, request: u16, number: u64, on: bool) {
        self.settle(cpu);
        let (whom, core) = (whom(cpu), cpu.core.cpu());
        let thread = match request {
            marker::THREAD => Some(self.recorder.announce(whom, core)),
            _ => self.recorder.find(whom, core),
        };
        if on {
            cpu.meter.thread = thread;
        }
        let (Some(thread), true) = (thread, on || request == marker::WAITS) else { return };
        let lock = number as u32;
        match request {
            marker::WAITS => self.recorder.waits(thread),
            marker::BARRIER => self.recorder.sync(thread, Item::Barrier),
            marker::LOCK => self.recorder.sync(thread, Item::Lock(lock)),
            marker::UNLOCK => self.recorder.sync(thread, Item::Unlock(lock)),
            _ => {}
        }
    }

    /// The measured phase is over.
    pub fn measured(&mut self, cpu: &mut Vcpu) {
        self.settle(cpu);
        self.recorder.measured();
    }

    /// What an access has brought, now that it is over.
    pub fn access(
        &mut self,
        cpu: &mut Vcpu,
        machine: &Machine,
        at: (u64, bool),
        done: Accessed,
        before: &Counters,
    ) {
        let (address, write) = at;
        let since = cpu.core.counters.since(before);
        let local = since.dram_local - since.walk_dram_local;
        let remote = since.dram_remote - since.walk_dram_remote;
        if let Some(thread) = cpu.meter.thread {
            let stream = done.missed && cpu.meter.streams.miss(address >> skerry_cost_model::LINE_BITS);
            let overlap = match (done.dependent, stream) {
                (true, _) => Overlap::None,
                (false, true) => Overlap::Stream,
                (false, false) => Overlap::Independent,
            };
            let (page, lines) = (address >> 12, local + remote);
            self.recorder.touch(thread, Touch { page, lines, local, missed: done.missed, write, overlap });
        }
        let Some(places) = &mut self.places else { return };
        let (node, what) = (
            machine.topology().node(cpu.core.cpu()),
            cpu.meter.thread.map_or(What::System, |_| What::Page(address >> 12)),
        );
        let home = match what {
            What::Page(_) => cpu.physical(address).and_then(|physical| machine.topology().home(physical)),
            _ => None,
        };
        let elsewhere = home.filter(|&home| home != node).map_or(Home::Other, Home::Node);
        let here = if what == What::System { Home::Own } else { Home::Node(node) };
        for phase in cpu.phases.running() {
            places.add(phase, what, here, node, local);
            places.add(phase, what, elsewhere, node, remote);
            places.add(phase, What::System, Home::Own, node, since.walk_dram_local);
            places.add(phase, What::System, Home::Other, node, since.walk_dram_remote);
        }
    }

    /// What something else than an access has brought.
    pub fn other(&mut self, cpu: &Vcpu, machine: &Machine, before: &Counters) {
        let Some(places) = &mut self.places else { return };
        let since = cpu.core.counters.since(before);
        let node = machine.topology().node(cpu.core.cpu());
        for phase in cpu.phases.running() {
            places.add(phase, What::System, Home::Own, node, since.dram_local);
            places.add(phase, What::System, Home::Other, node, since.dram_remote);
        }
    }
}

/// Whether a CPU is with somebody else than at the block before.
#[inline]
pub fn changes(cpu: &Vcpu, user: bool) -> bool {
    cpu.meter.on && cpu.meter.whom != user.then(|| whom(cpu))
}
