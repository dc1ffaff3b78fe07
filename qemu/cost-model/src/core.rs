//! One CPU: what belongs to it alone.

use std::sync::Arc;

use crate::counters::{Counters, Wait};
use crate::filter::Filter;
pub use crate::latency::CoreModel;
use crate::latency::{Overlap, wait};
use crate::params::{Params, Prefetching};
use crate::shared::Shared;
use crate::streams::Streams;
use crate::time::Time;
use crate::tlb::{Invalidation, Tlb};

/// A CPU's clock, counters, TLB, filter and streams. Whoever runs the CPU owns it.
#[derive(Debug)]
pub struct Core {
    pub(crate) cpu: u16,
    pub(crate) node: u16,
    pub(crate) shared: Arc<Shared>,
    pub(crate) filter: Filter,
    pub(crate) walking: bool,
    clock: Time,
    instruction: Time,
    tlb: Tlb,
    /// The generation at the last look for invalidations.
    translated: u64,
    streams: Streams,
    model: CoreModel,
    parameters: Prefetching,
    /// What was counted.
    pub counters: Counters,
}

impl Core {
    pub(crate) fn new(cpu: u16, node: u16, model: CoreModel, params: &Params, shared: Arc<Shared>) -> Self {
        Self {
            cpu,
            node,
            shared,
            filter: Filter::default(),
            walking: false,
            clock: 0,
            instruction: params.instruction(),
            tlb: Tlb::new(params.tlb),
            translated: 0,
            streams: Streams::new(params.prefetching.streams),
            model,
            parameters: params.prefetching,
            counters: Counters::default(),
        }
    }

    /// Its number.
    pub fn cpu(&self) -> u16 {
        self.cpu
    }
    /// Its clock.
    pub fn clock(&self) -> Time {
        self.clock
    }
    /// Whether it matters to it which loads depend on others.
    pub fn overlaps(&self) -> bool {
        self.model == CoreModel::Prefetching
    }
    /// The part of it that others see.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    #[inline]
    pub(crate) fn advance(&mut self, time: Time) {
        self.clock += time;
        self.shared.set_clock(self.clock);
    }
    /// It cannot be earlier than this.
    pub(crate) fn not_before(&mut self, time: Time) {
        self.advance(time.saturating_sub(self.clock));
    }

    /// Executes a block of code: so many instructions, so many of which touch memory.
    #[inline]
    pub fn execute(&mut self, instructions: u64, accesses: u64) {
        self.counters.instructions += instructions;
        self.counters.accesses += accesses;
        let debt = self.shared.collect();
        self.counters.wait_maintenance += debt;
        self.advance(instructions * self.instruction + debt);
    }

    /// Whether an access changes nothing but the time of the last store; then it is done with.
    #[inline]
    pub fn hits(&mut self, address: u64, store: bool) -> bool {
        let hits = self.filter.hits(address, store, self.shared.generation());
        if hits && store {
            self.shared.note_store(crate::filter::index(address >> crate::LINE_BITS), self.clock);
        }
        hits
    }

    /// What the core can do during a miss of `line`.
    pub(crate) fn overlap(&mut self, line: u64, dependent: bool) -> Overlap {
        // A walk is a chain of loads, and no prefetcher looks at it.
        if self.walking || self.model == CoreModel::Blocking {
            return Overlap::None;
        }
        let stream = self.streams.miss(line);
        match (dependent, stream) {
            (true, _) => Overlap::None,
            (false, true) => Overlap::Stream,
            (false, false) => Overlap::Independent,
        }
    }

    /// What it can do while a line becomes writable: the store waits in a buffer.
    pub(crate) fn overlap_of_store(&self) -> Overlap {
        if self.model == CoreModel::Blocking { Overlap::None } else { Overlap::Independent }
    }

    /// Waits for something of this latency; walks are booked as walks, whoever answers.
    pub(crate) fn pay(&mut self, what: Wait, overlap: Overlap, latency: Time, line_time: Time) {
        let time = wait(&self.parameters, overlap, latency, line_time);
        self.advance(time);
        if self.walking {
            self.counters.wait_walk += time;
        } else {
            self.counters.wait(what, time);
        }
    }

    /// Another address space: the filter knows virtual addresses only.
    pub fn switch_space(&mut self) {
        self.filter.clear();
    }

    /// The physical address of a virtual one, if the TLB has it. First drops what others told this CPU to drop.
    pub fn translate(&mut self, asid: u16, address: u64) -> Option<u64> {
        let generation = self.shared.generation();
        if self.translated != generation {
            self.translated = generation;
            for what in self.shared.take_invalidations() {
                self.drop_translations(what);
            }
        }
        self.tlb.translate(asid, address)
    }

    /// Notes a translation that a walk has found.
    pub(crate) fn insert(&mut self, asid: u16, address: u64, physical: u64, bits: u32) {
        if self.tlb.insert(asid, address, physical, bits) {
            // A page left the TLB, and the filter's entries stand for a hit there, too.
            self.filter.clear();
        }
    }

    pub(crate) fn drop_translations(&mut self, what: Invalidation) {
        self.tlb.invalidate(what);
        self.filter.clear();
    }
}
