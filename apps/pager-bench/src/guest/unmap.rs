//! The threads that take pages away and count.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::message::Tag;
use skerry_abi::syscall::IPC;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{MAX_LIST, Op, Pages};
use skerry_rt::{start, task};

use super::touch::{COUNTS, RUN, words};

/// Pages of a batch.
pub(super) const BATCH: u64 = MAX_LIST as u64;

global_asm!(
    r#"
    // Asks the pager x0 to unmap the page at x1. Returns the instructions between two looks at the counter, or 0 if that failed.
    .global bench_unmap_page
bench_unmap_page:
    mov     x3, x1
    mov     x1, x0
    ldr     x2, ={tag}
    mov     x4, #1
    mov     x5, #0
    mov     x6, #0
    mov     x7, #0
    mov     x8, #0
    mov     x9, #0
    mov     x10, #0
    mov     x11, #-1
    mov     x12, #-1
    mov     x13, #0
    stp     x19, x30, [sp, #-16]!
    .global bench_unmap
bench_unmap:
    mrs     x19, pmccntr_el0
    svc     #{ipc}
    .global bench_unmapped
bench_unmapped:
    mrs     x1, pmccntr_el0
    sub     x0, x1, x19
    ldp     x19, x30, [sp], #16
    // The answer has five words, and one page is gone: x3.
    cmp     x2, #5
    ccmp    x3, #1, #0, eq
    csel    x0, x0, xzr, eq
    ret
    .ltorg

    // Looks at the counter before and after many pages are unmapped.
    .global bench_batch_begins
bench_batch_begins:
    mrs     x0, pmccntr_el0
    ret
    .global bench_batch_ends
bench_batch_ends:
    mrs     x0, pmccntr_el0
    ret
"#,
    tag = const Tag::new(Op::Unmap.label(), 2, 0).0,
    ipc = const IPC,
);

unsafe extern "C" {
    fn bench_unmap_page(pager: u64, address: u64) -> u64;
    fn bench_batch_begins() -> u64;
    fn bench_batch_ends() -> u64;
}

/// The cycle counter before what is counted.
#[inline(always)]
pub(super) fn begin() -> u64 {
    // SAFETY: reads a register that the kernel opened for user programs.
    unsafe { bench_batch_begins() }
}
/// And after it.
#[inline(always)]
pub(super) fn end() -> u64 {
    // SAFETY: as above.
    unsafe { bench_batch_ends() }
}

/// Thread: writes to every page of the region at `base`, takes it away, and counts that.
pub(super) extern "C" fn measure(base: u64) -> ! {
    let pager = start::my_pager().0;
    for (index, count) in COUNTS.iter().enumerate() {
        let address = base + index as u64 * PAGE_SIZE;
        words(address, 1)[0].store(1, Ordering::Relaxed);
        // SAFETY: a call of the pager that takes a page of the region away; whoever has it as atomics finds a cleared one.
        let taken = unsafe { bench_unmap_page(pager, address) };
        if taken == 0 {
            task::exit(exit::FAIL)
        }
        count.store(taken, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}

/// Thread: the same in batches, of a region with so many pages for every sample.
pub(super) extern "C" fn measure_batches(base: u64) -> ! {
    for (index, count) in COUNTS.iter().enumerate() {
        let first = base + index as u64 * BATCH * PAGE_SIZE;
        let pages: [u64; MAX_LIST] = core::array::from_fn(|page| first + page as u64 * PAGE_SIZE);
        pages.iter().for_each(|&page| words(page, 1)[0].store(1, Ordering::Relaxed));
        let pages = Pages::of(&pages);
        let before = begin();
        let told = task::revoke(pages);
        let after = end();
        if !told.is_ok_and(|told| told.done == (1 << BATCH) - 1) {
            task::exit(exit::FAIL)
        }
        count.store(after - before, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}

/// Thread: writes to every page of all batches of the region at `base`.
pub(super) extern "C" fn prepare_batches(base: u64) -> ! {
    for page in 0..RUN as u64 * BATCH {
        words(base + page * PAGE_SIZE, 1)[0].store(2, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}
