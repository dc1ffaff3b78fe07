//! Memory that the main thread and the loops share: a block of parameters per thread, and the samples.
//!
//! Spaces get it at the same address, page by page, like the code. The loops know the blocks by offset.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kernel_bench::{SAMPLES as COUNTED, WARM_UP};
use skerry_abi::ThreadId;

/// Samples of one run of a loop.
pub(crate) const RUN: usize = WARM_UP + COUNTED;
/// Loops that exist at a time.
const BLOCKS: usize = 64;

/// Offset: a thread, a space, an fpage or an address.
pub(crate) const DEST: usize = 0;
/// Offset: a tag, or another number.
pub(crate) const TAG: usize = 8;
/// Offset: how often.
pub(crate) const COUNT: usize = 16;
/// Offset: where samples go.
pub(crate) const SAMPLES: usize = 24;
/// Offset: who is told of the end.
pub(crate) const MAIN: usize = 32;
/// Offset: an address, or another number.
pub(crate) const ADDRESS: usize = 40;
/// Offset: from one address to the next.
pub(crate) const STEP: usize = 48;

/// The parameters of a loop; what a loop does not use is 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Params {
    pub(crate) dest: u64,
    pub(crate) tag: u64,
    pub(crate) count: usize,
    pub(crate) address: u64,
    pub(crate) step: u64,
}

#[repr(C, align(4096))]
struct Shared {
    blocks: [[AtomicU64; 8]; BLOCKS],
    samples: [AtomicU64; RUN],
}

static SHARED: Shared = Shared {
    blocks: [const { [const { AtomicU64::new(0) }; 8] }; BLOCKS],
    samples: [const { AtomicU64::new(0) }; RUN],
};

/// The address of it, and how many pages it has.
pub(crate) fn pages() -> (u64, u64) {
    ((&raw const SHARED).addr() as u64, size_of::<Shared>() as u64 / 4096)
}

/// Fills block `index` (blocks are used in turn) and returns its address.
pub(crate) fn set(index: usize, params: Params, main: ThreadId) -> u64 {
    let block = &SHARED.blocks[index % BLOCKS];
    let Params { dest, tag, count, address, step } = params;
    let samples = (&raw const SHARED.samples).addr() as u64;
    for (offset, value) in [
        (DEST, dest),
        (TAG, tag),
        (COUNT, count as u64),
        (SAMPLES, samples),
        (MAIN, main.0),
        (ADDRESS, address),
        (STEP, step),
    ] {
        block[offset / 8].store(value, Relaxed);
    }
    (&raw const *block).addr() as u64
}

/// The samples of the last run that count.
pub(crate) fn samples() -> [u64; COUNTED] {
    core::array::from_fn(|index| SHARED.samples[WARM_UP + index].load(Relaxed))
}

/// The first word of the samples, where a single look at the counter is left.
pub(crate) fn first() -> u64 {
    SHARED.samples[0].load(Relaxed)
}
