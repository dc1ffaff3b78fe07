//! What happens at each callback.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use serde::Serialize;
use skerry_cost_model::{CYCLE, Config, Core, Machine};

use crate::block::{Block, Use};
use crate::coherence::{Coherence, Spot};
use crate::host::Host;
use crate::phases::Log;
use crate::recorder::Made;
use crate::steps::{Steps, Way};
use crate::vcpu::Vcpu;
use crate::watch::{Meter, Watch, changes};

mod events;

/// What should be zero, and what a reader may want to know besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Accesses that the tables do not explain.
    pub translation_failures: u64,
    /// Translations that differ from the emulator's.
    pub translation_differs: u64,
    /// Accesses before the base of the tables was seen.
    pub unknown_tables: u64,
    /// Requests that the instrument does not know or cannot answer.
    pub unknown_requests: u64,
    /// Maintenance of addresses that are not mapped: the instruction faulted. Not an error.
    pub faulted_maintenance: u64,
    /// Accesses to devices. They cost nothing. Not an error.
    pub devices: u64,
    /// Size of each half of the virtual address space.
    #[serde(skip)]
    pub(crate) virtual_bits: u32,
}

/// The machine, behind the one lock that only slow paths take.
#[derive(Debug)]
struct Inner {
    machine: Machine,
    health: Health,
    /// Instead of charging accesses, checks them.
    coherence: Option<Coherence>,
    /// What was executed on a path.
    steps: Steps,
    /// Records misses, if that was asked for.
    watch: Option<Watch>,
}

/// The instrument.
#[derive(Debug)]
pub struct Instrument {
    config: Config,
    inner: Mutex<Inner>,
    log: Log,
    /// Accesses are watched: the first marker was seen.
    on: AtomicBool,
    /// The CPU whose turn it is.
    running: AtomicU16,
    turns: AtomicU64,
    forced: AtomicU64,
}

/// No CPU's turn.
const NOBODY: u16 = u16::MAX;

impl Instrument {
    /// An instrument, and its CPUs.
    ///
    /// # Errors
    /// What cannot be modelled.
    pub fn new(config: Config) -> Result<(Self, Vec<Vcpu>), String> {
        config.check()?;
        let (machine, cores) = Machine::new(config.topology.clone(), config.params.clone(), config.core)?;
        let health = Health { virtual_bits: config.virtual_bits, ..Health::default() };
        let coherence = config.sanitize.then(|| Coherence::new(&config)).transpose()?;
        let instrument = Self {
            inner: Mutex::new(Inner {
                machine,
                health,
                coherence,
                steps: Steps::default(),
                watch: Watch::new(&config),
            }),
            log: Log::default(),
            // What happens at boot counts, too.
            on: AtomicBool::new(config.sanitize),
            running: AtomicU16::new(NOBODY),
            turns: AtomicU64::new(0),
            forced: AtomicU64::new(0),
            config,
        };
        let cpus = cores.into_iter().map(|core| Vcpu::new(core, Meter::new(&instrument.config))).collect();
        Ok((instrument, cpus))
    }

    /// Whether accesses are watched.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// The markers so far.
    pub fn log(&self) -> &Log {
        &self.log
    }
    /// What should be zero, how often lines changed hands, turns, and turns that the quantum ended.
    pub fn state(&self) -> (Health, u64, u64, u64) {
        let inner = self.lock();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (inner.health, inner.machine.contended(), load(&self.turns), load(&self.forced))
    }

    /// What the checker of coherence has found, if it was asked for.
    pub fn coherence(&self) -> Option<serde_json::Value> {
        self.lock().coherence.as_ref().map(Coherence::report)
    }

    /// What was recorded, at the end: the trace of misses with its local and remote lines, and lines by page.
    pub fn recorded(&self) -> (Option<Made>, Option<String>) {
        let watch = &mut self.lock().watch;
        let trace = watch.as_mut().and_then(Watch::trace);
        (trace, watch.as_ref().and_then(Watch::places))
    }
    /// Events of a recording that there was no room for.
    pub fn lost(&self) -> u64 {
        self.lock().watch.as_ref().map_or(0, Watch::lost)
    }

    /// An instruction is about to be executed, and only that is watched.
    pub fn step(&self, cpu: &Vcpu, pc: u64, word: u32) {
        if let Some(path) = &self.config.path {
            self.lock().steps.execute(path, cpu.core.cpu(), pc, word);
        }
    }
    /// What was executed on the path, if one was asked for.
    pub fn ways(&self) -> Option<Vec<Way>> {
        self.config.path.map(|_| self.lock().steps.ways().to_vec())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic in a callback ends the process, so nobody sees a machine that it left half changed.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A block begins, before the first marker: only what the tables and markers need is followed.
    #[inline]
    pub fn early_block(&self, cpu: &mut Vcpu, host: &mut impl Host) {
        if cpu.pending.is_some() {
            self.resolve(cpu, host);
        }
    }

    /// A block begins.
    #[inline]
    pub fn block(&self, cpu: &mut Vcpu, host: &mut impl Host, block: &'static Block) {
        let others = self.running.load(Ordering::Relaxed) != cpu.core.cpu();
        // One branch for all that is rare, and nothing after it: so the usual way calls nothing.
        if others | cpu.pending.is_some() | cpu.asleep | cpu.meter.on {
            return self.unusual_block(cpu, host, block);
        }
        cpu.begin(block);
        if cpu.core.clock() > cpu.limit {
            self.force(cpu, host);
        }
    }

    /// A CPU is ahead of the others by the quantum.
    #[cold]
    #[inline(never)]
    fn force(&self, cpu: &Vcpu, host: &mut impl Host) {
        self.forced.fetch_add(1, Ordering::Relaxed);
        host.yield_turn(cpu.core.cpu());
    }

    /// A block that is not just the next one.
    #[cold]
    #[inline(never)]
    fn unusual_block(&self, cpu: &mut Vcpu, host: &mut impl Host, block: &'static Block) {
        if cpu.pending.is_some() {
            self.resolve(cpu, host);
        }
        if self.running.load(Ordering::Relaxed) != cpu.core.cpu() {
            self.turn(cpu);
        }
        if cpu.asleep {
            self.wake(cpu);
        }
        // Markers of other CPUs came in their turns.
        if cpu.phases.is_behind(&self.log) {
            cpu.phases.catch_up(&self.log, cpu.sample());
        }
        if changes(cpu, block.user) {
            self.change(cpu, block.user);
        }
        cpu.begin(block);
        if cpu.core.clock() > cpu.limit {
            self.force(cpu, host);
        }
    }

    /// Another thread runs, or the kernel.
    #[cold]
    fn change(&self, cpu: &mut Vcpu, user: bool) {
        if let Some(watch) = &mut self.lock().watch {
            watch.change(cpu, user);
        }
    }

    /// A CPU's turn begins: while it lasts, no other clock moves, so how far this one may go is known.
    #[cold]
    fn turn(&self, cpu: &mut Vcpu) {
        self.running.store(cpu.core.cpu(), Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
        cpu.slowest = self.lock().machine.slowest(cpu.core.cpu());
        self.set_limit(cpu);
    }

    fn set_limit(&self, cpu: &mut Vcpu) {
        let quantum = self.config.quantum * CYCLE;
        cpu.limit = cpu.slowest.map_or(u64::MAX, |slowest| slowest.saturating_add(quantum));
    }

    #[cold]
    fn wake(&self, cpu: &mut Vcpu) {
        cpu.asleep = false;
        let now = self.lock().machine.now(cpu.core.cpu());
        cpu.core.wake(now);
    }

    /// An access. Those that [`Vcpu::quick`] answers need not come here.
    pub fn access(&self, cpu: &mut Vcpu, host: &mut impl Host, place: (u64, u64), how: Use) {
        if !cpu.quick(place.0, place.1, how) {
            self.slow_access(cpu, host, place, how);
        }
    }

    fn slow_access(&self, cpu: &mut Vcpu, host: &mut impl Host, place: (u64, u64), how: Use) {
        let mut inner = self.lock();
        let Inner { machine, health, watch, .. } = &mut *inner;
        let before = machine.contended();
        match watch {
            None => drop(cpu.access(machine, host, health, place, how)),
            Some(watch) => {
                watch.settle(cpu);
                let before = cpu.core.counters;
                let done = cpu.access(machine, host, health, place, how);
                watch.access(cpu, machine, (place.0, how.store), done, &before);
            }
        }
        let changed_hands = machine.contended() != before;
        drop(inner);
        // Where CPUs meet, those behind come first.
        if changed_hands && cpu.slowest.is_some_and(|slowest| cpu.core.clock() > slowest) {
            host.yield_turn(cpu.core.cpu());
        }
    }

    /// A block begins, whose code is checked: `bytes` from `start` on.
    pub fn checked_block(
        &self,
        cpu: &mut Vcpu,
        host: &mut impl Host,
        block: &'static Block,
        (start, bytes): (u64, u64),
    ) {
        self.block(cpu, host, block);
        if let Some(coherence) = &mut self.lock().coherence {
            coherence.fetch(cpu.core.cpu(), host, start, bytes);
        }
    }

    /// An access that is checked instead of charged.
    pub fn checked_access(&self, cpu: &mut Vcpu, host: &mut impl Host, place: (u64, u64), spot: &Spot) {
        if let Some(coherence) = &mut self.lock().coherence {
            coherence.access(cpu.core.cpu(), host, place, spot);
        }
    }

    /// The end of the run: each CPU looks at the last markers.
    pub fn finish(&self, cpu: &mut Vcpu) {
        cpu.phases.catch_up(&self.log, cpu.sample());
    }

    /// A CPU's core, for reports.
    pub fn core<'a>(&self, cpu: &'a Vcpu) -> &'a Core {
        &cpu.core
    }
}

#[cfg(test)]
mod tests;
