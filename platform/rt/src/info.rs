//! The kernel information page: this cluster's counters, without a system call.
#![expect(unsafe_code, reason = "the page is at a fixed address")]

use core::mem::offset_of;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::CpuId;
use skerry_abi::info::{CPU_WORD, Counter, InfoHeader, Unit};
use skerry_abi::layout::INFO_PAGE_BASE;
use skerry_abi::modelled::{self, Sample};

use crate::marker;

/// The word at `offset` bytes into the information pages.
fn word(offset: u64) -> u64 {
    let address = with_exposed_provenance::<AtomicU64>((INFO_PAGE_BASE + offset) as usize);
    // SAFETY: the callers stay inside the header and the `cpu_count` blocks behind it, which the kernel has mapped readable in
    // every space for ever; it writes aligned words only, so a relaxed load is not a data race.
    unsafe { (*address).load(Ordering::Relaxed) }
}

/// The header, as it is now.
pub fn header() -> InfoHeader {
    let mut words = (0..).step_by(8).map(word);
    let mut next = || words.next().unwrap_or(0);
    InfoHeader {
        version: next(),
        cluster: next(),
        cpu_count: next(),
        counter_frequency: next(),
        first_block: next(),
        block_size: next(),
        counters: next(),
        cycle_clock: next(),
        free_tables: next(),
        free_nodes: next(),
        trace_ring: next(),
        modelled_block: next(),
    }
}

/// A counter of the `local`-th CPU of this cluster; 0 for a CPU that it does not have.
pub fn of_cpu(local: u64, counter: Counter) -> u64 {
    block_word(&header(), local, counter as usize)
}

/// The machine-wide number of the `local`-th CPU of this cluster.
pub fn cpu(local: u64) -> CpuId {
    block_word(&header(), local, CPU_WORD) as CpuId
}

fn block_word(header: &InfoHeader, local: u64, index: usize) -> u64 {
    if local >= header.cpu_count {
        return 0;
    }
    word(header.first_block + local * header.block_size + index as u64 * 8)
}

/// What is modelled of this CPU now; `None` without the measuring instrument.
///
/// The sample says whose it is. A thread that is preempted in here, and then moved, or asks at the same time as one on another CPU of the
/// cluster, gets a sample of that CPU: who takes differences sees it ([`Sample::since`]).
#[inline(never)]
pub fn modelled() -> Option<Sample> {
    marker::query();
    let block = word(offset_of!(InfoHeader, modelled_block) as u64);
    let at = |index: usize| word(block + index as u64 * 8);
    (block != 0).then(|| Sample {
        words: core::array::from_fn(|index| at(modelled::WORD + index)),
        cpu: at(CPU_WORD) as CpuId,
    })
}

/// A counter of the whole cluster: the sum over its CPUs, or the maximum where that is what counts ([`Unit::Longest`]).
pub fn total(counter: Counter) -> u64 {
    let header = header();
    let each = (0..header.cpu_count).map(|local| block_word(&header, local, counter as usize));
    match counter.unit() {
        Unit::Events | Unit::Cycles => each.sum(),
        Unit::Longest => each.max().unwrap_or(0),
    }
}
