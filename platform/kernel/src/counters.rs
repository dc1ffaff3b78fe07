//! The kernel's side of the information page: per-CPU counters in memory that every program can read.
//!
//! A CPU counts in its own block with a plain load and store: nobody else writes there, so no event costs more than three
//! instructions, and no cache line is shared. The layout is the contract's: [`skerry_abi::info`].

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use skerry_abi::CpuId;
use skerry_abi::info::{BLOCK_SIZE, BLOCK_WORDS, CPU_WORD, Counter, InfoHeader, Unit, VERSION};

/// Blocks in one page.
const BLOCKS_PER_PAGE: usize = 4096 / BLOCK_SIZE;

/// One CPU's counters, or (the first one) the header.
#[repr(C, align(512))]
pub struct Block([AtomicU64; BLOCK_WORDS]);

impl Block {
    /// All zero.
    #[expect(clippy::declare_interior_mutable_const, reason = "a template, never used in place")]
    pub const ZERO: Self = Self([const { AtomicU64::new(0) }; BLOCK_WORDS]);

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
    /// Where the counters are, for the assembly.
    pub fn address(&self) -> *mut u64 {
        self.0[0].as_ptr()
    }
    /// Counts `n` events. Only the block's own CPU may call this.
    #[inline(always)]
    pub fn add(&self, counter: Counter, n: u64) {
        let word = &self.0[counter as usize];
        word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    /// Notes a stretch, if it is the longest so far. Only the block's own CPU may call this.
    #[inline]
    pub fn note_longest(&self, counter: Counter, stretch: u64) {
        let word = &self.0[counter as usize];
        if stretch > word.load(Ordering::Relaxed) {
            word.store(stretch, Ordering::Relaxed);
        }
    }
}

/// A page of the information pages, as it is mapped into the spaces.
#[repr(C, align(4096))]
pub struct InfoPage([Block; BLOCKS_PER_PAGE]);

impl InfoPage {
    /// All zero.
    #[expect(clippy::declare_interior_mutable_const, reason = "a template, never used in place")]
    pub const ZERO: Self = Self([Block::ZERO; BLOCKS_PER_PAGE]);

    /// How many pages a cluster of `cpus` CPUs needs.
    pub const fn count(cpus: usize) -> usize {
        (1 + cpus).div_ceil(BLOCKS_PER_PAGE)
    }
}

/// The information pages of a cluster and the block of the CPU that runs the kernel.
#[derive(Clone, Copy)]
pub struct Counters<'a> {
    pages: &'a [InfoPage],
    header: &'a Block,
    /// The block of the CPU that runs the kernel.
    pub here: &'a Block,
    cpus: u16,
}

fn block_at(pages: &[InfoPage], index: usize) -> &Block {
    &pages[index / BLOCKS_PER_PAGE].0[index % BLOCKS_PER_PAGE]
}

impl<'a> Counters<'a> {
    /// Takes over zeroed pages and writes the header. CPUs come with [`Counters::add_cpu`].
    pub fn new(pages: &'a [InfoPage], cluster: u16, counter_frequency: u64, cycle_clock: u64) -> Self {
        let header = block_at(pages, 0);
        let counters = Self { pages, header, here: header, cpus: 0 };
        counters.set_header(offset_of!(InfoHeader, version), VERSION);
        counters.set_header(offset_of!(InfoHeader, cluster), cluster.into());
        counters.set_header(offset_of!(InfoHeader, counter_frequency), counter_frequency);
        counters.set_header(offset_of!(InfoHeader, first_block), BLOCK_SIZE as u64);
        counters.set_header(offset_of!(InfoHeader, block_size), BLOCK_SIZE as u64);
        counters.set_header(offset_of!(InfoHeader, counters), Counter::ALL.len() as u64);
        counters.set_header(offset_of!(InfoHeader, cycle_clock), cycle_clock);
        counters
    }

    #[inline(always)]
    fn set_header(&self, offset: usize, value: u64) {
        self.header.0[offset / 8].store(value, Ordering::Relaxed);
    }

    /// Says how long a CPU's trace ring is.
    pub(crate) fn set_trace_ring(&self, bytes: u64) {
        self.set_header(offset_of!(InfoHeader, trace_ring), bytes);
    }

    /// Gives a CPU of the cluster the next block, and returns its number.
    pub(crate) fn add_cpu(&mut self, cpu: CpuId) -> u16 {
        let local = self.cpus;
        self.cpus += 1;
        self.block(local).0[CPU_WORD].store(cpu.into(), Ordering::Relaxed);
        self.set_header(offset_of!(InfoHeader, cpu_count), self.cpus.into());
        local
    }

    /// The block of the `local`-th CPU of the cluster.
    pub fn block(&self, local: u16) -> &'a Block {
        block_at(self.pages, 1 + usize::from(local))
    }

    /// How many CPUs the cluster has.
    #[inline(always)]
    pub fn cpus(&self) -> u16 {
        self.cpus
    }

    /// The machine-wide number of the `local`-th CPU of the cluster.
    pub fn cpu(&self, local: u16) -> CpuId {
        self.block(local).0[CPU_WORD].load(Ordering::Relaxed) as CpuId
    }

    /// Publishes how much memory the kernel has left.
    pub(crate) fn set_free(&self, tables: u32, nodes: u32) {
        self.set_header(offset_of!(InfoHeader, free_tables), tables.into());
        self.set_header(offset_of!(InfoHeader, free_nodes), nodes.into());
    }

    /// Counts one event on this CPU.
    #[inline(always)]
    pub fn count(&self, counter: Counter) {
        self.here.add(counter, 1);
    }
    /// Counts several events on this CPU.
    #[inline(always)]
    pub fn add(&self, counter: Counter, n: u64) {
        self.here.add(counter, n);
    }

    /// The counter of the whole cluster: the sum over its CPUs, or for [`Unit::Longest`] the maximum.
    pub fn total(&self, counter: Counter) -> u64 {
        let each = (0..self.cpus).map(|local| self.block(local).get(counter));
        match counter.unit() {
            Unit::Events | Unit::Cycles => each.sum(),
            Unit::Longest => each.max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_cpu_counts_for_itself_and_totals_follow_the_unit() {
        let pages: Vec<InfoPage> = (0..InfoPage::count(9)).map(|_| InfoPage::ZERO).collect();
        assert_eq!(pages.len(), 2);
        let mut counters = Counters::new(&pages, 3, 62_500_000, 0);
        for cpu in 0..9 {
            assert_eq!(counters.add_cpu(20 + cpu), cpu);
            counters.here = counters.block(cpu);
            counters.add(Counter::Maps, u64::from(cpu));
            counters.here.note_longest(Counter::LongestHold, u64::from(100 - cpu));
            counters.here.note_longest(Counter::LongestHold, 1);
        }
        assert_eq!(counters.total(Counter::Maps), 36);
        assert_eq!(counters.total(Counter::LongestHold), 100);
        assert_eq!(counters.block(8).get(Counter::Maps), 8);
        assert_eq!(counters.cpu(8), 28);
        let words = |i: usize| pages[0].0[0].0[i].load(Ordering::Relaxed);
        assert_eq!([words(0), words(1), words(2), words(3)], [VERSION, 3, 9, 62_500_000]);
    }
}
