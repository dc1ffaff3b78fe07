//! The measuring threads.
#![expect(unsafe_code, reason = "assembly, and a region of the task becomes a slice")]

use core::arch::global_asm;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use pager_bench::{SAMPLES, WARM_UP};
use skerry_abi::Tag;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::Op;
use skerry_rt::{ipc, start, task, utcb};

/// Touches of one case.
pub(super) const RUN: usize = WARM_UP + SAMPLES;
/// Pages that are established together.
const GROUP_PAGES: usize = 16;
/// Such groups in what a page table is for, less one.
const GROUPS: usize = 31;
/// Pages of a region for as many groups as there are touches, with a group before those of each table.
pub(super) const GROUPS_PAGES: u64 = (RUN.div_ceil(GROUPS) * (GROUPS + 1) * GROUP_PAGES) as u64;
/// A millisecond, in steps of the counter.
const SETTLED: u64 = 62_500;
const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

global_asm!(
    r#"
    // Writes the word at x0. Returns the instructions between two looks at the counter.
    .global bench_touch_word
bench_touch_word:
    mov     x2, #1
    .global bench_touch
bench_touch:
    mrs     x1, pmccntr_el0
    str     x2, [x0]
    .global bench_touched
bench_touched:
    mrs     x3, pmccntr_el0
    sub     x0, x3, x1
    ret

    // Calls the pager x0 with the tag x1 and the words x2, x3. Returns the instructions of that, and the tag of the answer.
    .global bench_move
bench_move:
    stp     x19, x30, [sp, #-16]!
    mov     x4, x3
    mov     x3, x2
    mov     x2, x1
    mov     x1, x0
    mov     x11, #-1
    mov     x12, #-1
    mov     x13, xzr
    .global bench_move_begins
bench_move_begins:
    mrs     x19, pmccntr_el0
    svc     #0
    .global bench_move_ends
bench_move_ends:
    mrs     x9, pmccntr_el0
    sub     x0, x9, x19
    mov     x1, x2
    ldp     x19, x30, [sp], #16
    ret

    // The same without the write.
    .global bench_look_twice
bench_look_twice:
    mrs     x1, pmccntr_el0
    mrs     x3, pmccntr_el0
    sub     x0, x3, x1
    ret
"#
);

unsafe extern "C" {
    fn bench_touch_word(word: *const AtomicU64) -> u64;
    fn bench_look_twice() -> u64;
    fn bench_move(pager: u64, tag: u64, number: u64, cpu: u64) -> Moved;
}

/// What `bench_move` returns.
#[repr(C)]
struct Moved {
    count: u64,
    tag: u64,
}

/// What the last measuring thread counted.
pub(super) static COUNTS: [AtomicU64; RUN] = [const { AtomicU64::new(0) }; RUN];

/// What the last measuring thread counted, without the warm-up.
pub(super) fn samples() -> [u64; SAMPLES] {
    core::array::from_fn(|index| COUNTS[WARM_UP + index].load(Ordering::Relaxed))
}

/// The words of some pages from `base` on.
pub(super) fn words(base: u64, pages: usize) -> &'static [AtomicU64] {
    let start = core::ptr::with_exposed_provenance(base as usize);
    // SAFETY: only pages of regions are passed here, which nothing removes; the words are only used as atomics, which a page that
    // is taken away and comes back as another one does not disturb.
    unsafe { slice::from_raw_parts(start, pages * PAGE_WORDS) }
}

/// Thread: writes to every page of the region at `base`, and counts.
pub(super) extern "C" fn measure(base: u64) -> ! {
    // They may lie in two pages: a fault there in between would have the pager look for the region of the next touch.
    COUNTS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    for (page, count) in words(base, RUN).chunks_exact(PAGE_WORDS).zip(&COUNTS) {
        // SAFETY: a word of the region.
        count.store(unsafe { bench_touch_word(&page[0]) }, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}

/// Thread: writes to the first page of every group of the region at `base`, and counts. The first group that a page table is for
/// does not count.
pub(super) extern "C" fn measure_groups(base: u64) -> ! {
    let groups = || words(base, GROUPS_PAGES as usize).chunks_exact(GROUP_PAGES * PAGE_WORDS);
    groups().step_by(GROUPS + 1).for_each(|group| group[0].store(1, Ordering::Relaxed));
    let counted = groups().enumerate().filter(|(index, _)| index % (GROUPS + 1) != 0);
    for ((_, group), count) in counted.zip(&COUNTS) {
        // SAFETY: a word of the region.
        let taken = unsafe { bench_touch_word(&group[0]) };
        count.store(taken, Ordering::Relaxed);
        // They are there: nobody takes part in the count of the next one.
        if group.iter().any(|word| word.load(Ordering::Relaxed) > 1) {
            task::exit(exit::FAIL)
        }
    }
    task::exit(exit::PASS)
}

/// Thread: moves the thread that `what` names, which sleeps, to the CPU that it names, and back without counting.
pub(super) extern "C" fn mover(what: u64) -> ! {
    let (home, number, there) = (utcb::cpu(), what as u32, what >> 32);
    let call = Tag::new(Op::ThreadMigrate.label(), 2, 0);
    for count in &COUNTS {
        // SAFETY: keeps the C calling convention.
        let moved = unsafe { bench_move(start::my_pager().0, call.0, number.into(), there) };
        if moved.tag != 0 || task::migrate(number, home).is_err() {
            task::exit(exit::FAIL)
        }
        count.store(moved.count, Ordering::Relaxed);
        // What a destroyed space had is given back meanwhile.
        ipc::pause(SETTLED);
    }
    task::exit(exit::PASS)
}

/// Thread: does nothing, on its node.
pub(super) extern "C" fn stay(_: u64) -> ! {
    ipc::sleep_forever()
}

/// Thread: looks at the counter as often.
pub(super) extern "C" fn nothing(_: u64) -> ! {
    for count in &COUNTS {
        // SAFETY: reads a register that the kernel opened for user programs.
        count.store(unsafe { bench_look_twice() }, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}

/// Thread: touches the region at `base` only.
pub(super) extern "C" fn prepare(base: u64) -> ! {
    words(base, RUN).chunks_exact(PAGE_WORDS).for_each(|page| page[0].store(2, Ordering::Relaxed));
    task::exit(exit::PASS)
}
