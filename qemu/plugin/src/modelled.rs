//! What a running program is told: its CPU's modelled time and events, in the kernel information page.

use std::mem::offset_of;

use skerry_abi::info::{BLOCK_SIZE, CPU_WORD, InfoHeader};
use skerry_abi::layout::INFO_PAGE_BASE;
use skerry_abi::modelled::{COUNT, Modelled, WORD};
use skerry_cost_model::time::to_cycles;

use crate::host::Host;
use crate::vcpu::Vcpu;

/// The words, as of now.
fn words(cpu: &Vcpu) -> [u64; COUNT] {
    let counters = &cpu.core.counters;
    let beyond_llc =
        counters.transfers_local + counters.transfers_remote + counters.dram_local + counters.dram_remote;
    let mut words = [0; COUNT];
    for &what in Modelled::ALL {
        words[what as usize] = match what {
            Modelled::Cycles => to_cycles(cpu.core.clock()),
            Modelled::Idle => to_cycles(counters.idle),
            Modelled::Instructions => counters.instructions,
            Modelled::L1Misses => counters.l1_misses(),
            Modelled::L2Misses => beyond_llc + counters.llc_hits,
            Modelled::LlcMisses => beyond_llc,
            Modelled::DramLocal => counters.dram_local,
            Modelled::DramRemote => counters.dram_remote,
            Modelled::TlbMisses => counters.tlb_misses,
            Modelled::WalkCycles => to_cycles(counters.wait_walk),
            Modelled::WalkDramLocal => counters.walk_dram_local,
            Modelled::WalkDramRemote => counters.walk_dram_remote,
        };
    }
    words
}

/// A program asks: its CPU's words are written where it finds them. Whether there is an information page with a block for this CPU: everything that
/// runs above a kernel has one.
pub fn tell(cpu: &mut Vcpu, host: &mut impl Host) -> bool {
    let number = cpu.core.cpu();
    let at = |host: &mut _, offset: u64| Host::translate(host, number, INFO_PAGE_BASE + offset);
    let word = |host: &mut _, offset| at(host, offset).map(|place| Host::read(host, place));
    let Some(count) = word(host, offset_of!(InfoHeader, cpu_count) as u64) else { return false };
    // The blocks' order is the kernel's; each says whose it is.
    let (first, size) = (BLOCK_SIZE as u64, BLOCK_SIZE as u64);
    let block = (0..count)
        .map(|local| first + local * size)
        .find(|block| word(host, block + CPU_WORD as u64 * 8) == Some(number.into()));
    let Some(block) = block else { return false };
    let header = (offset_of!(InfoHeader, modelled_block) as u64, block);
    let words = words(cpu);
    let words = words.iter().zip(WORD..).map(|(&word, index)| (block + index as u64 * 8, word));
    words.chain([header]).all(|(offset, word)| {
        let place = at(host, offset);
        place.is_some_and(|place| {
            host.write(place, word);
            true
        })
    })
}
