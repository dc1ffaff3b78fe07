//! The threads: one takes pages away, the others have them.
#![expect(unsafe_code, reason = "a region of the task becomes a slice")]

use core::slice;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::marker::{MEASURED, WARM_UP as BEFORE};
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{MAX_LIST, Pages};
use skerry_rt::spin::Barrier;
use skerry_rt::{ipc, marker, sys, task};
use unmap::{BASE, BATCH, Options, ROUNDS, WARM_UP};

static SHARED: Barrier = Barrier::new();
static SHARERS: AtomicU64 = AtomicU64::new(0);
static BATCHED: AtomicBool = AtomicBool::new(false);
static POLLING: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
static INSTRUCTIONS: AtomicU64 = AtomicU64::new(0);
/// A millisecond, in steps of the counter: others sleep by then.
const SETTLED: u64 = 62_500;

const _: () = assert!(BATCH as usize == MAX_LIST);

/// Hands the options to the threads that are created afterwards.
pub(super) fn prepare(options: &Options) {
    BATCHED.store(options.batch, Ordering::Relaxed);
    POLLING.store(options.polling, Ordering::Relaxed);
    SHARERS.store(options.sharers as u64, Ordering::Release);
}

fn options() -> Options {
    Options {
        sharers: SHARERS.load(Ordering::Acquire) as usize,
        batch: BATCHED.load(Ordering::Relaxed),
        polling: POLLING.load(Ordering::Relaxed),
    }
}

/// Instructions of the measured rounds, of all CPUs together.
pub(super) fn instructions() -> u64 {
    INSTRUCTIONS.load(Ordering::Acquire)
}

/// Writes to every page.
fn touch(options: &Options) {
    let start = core::ptr::with_exposed_provenance(BASE as usize);
    let words = (options.pages() * PAGE_SIZE / 8) as usize;
    // SAFETY: the region has so many words and nobody removes it; a page that is taken away comes back cleared, which atomics bear.
    let words: &[AtomicU64] = unsafe { slice::from_raw_parts(start, words) };
    words.iter().step_by((PAGE_SIZE / 8) as usize).for_each(|word| word.store(1, Ordering::Relaxed));
}

/// Takes the pages of some rounds away; whether all were there.
fn take(options: &Options, rounds: core::ops::Range<u64>) -> bool {
    let per_round = options.pages_per_round();
    let mut all = true;
    for round in rounds {
        let first = BASE + round * per_round * PAGE_SIZE;
        let told = if options.batch {
            let pages: [u64; MAX_LIST] = core::array::from_fn(|page| first + page as u64 * PAGE_SIZE);
            task::revoke(Pages::of(&pages))
        } else {
            task::unmap(first, 1)
        };
        all &= told.is_ok_and(|told| told.done == if options.batch { (1 << BATCH) - 1 } else { 1 });
    }
    all
}

/// Thread: takes the pages away that all have touched.
pub(super) extern "C" fn measure(_: u64) -> ! {
    let options = options();
    touch(&options);
    SHARED.wait(SHARERS.load(Ordering::Relaxed), || ());
    ipc::pause(SETTLED);
    marker::begin::<BEFORE>();
    let warm = take(&options, 0..WARM_UP);
    marker::end::<BEFORE>();
    marker::begin::<MEASURED>();
    let before = sys::cycles();
    let all = take(&options, WARM_UP..WARM_UP + ROUNDS);
    let after = sys::cycles();
    marker::end::<MEASURED>();
    INSTRUCTIONS.store(after.saturating_sub(before), Ordering::Release);
    OVER.store(true, Ordering::Release);
    task::exit(if warm && all { exit::PASS } else { exit::FAIL })
}

/// Thread: has the pages, and works or sleeps.
pub(super) extern "C" fn share(_: u64) -> ! {
    let options = options();
    touch(&options);
    SHARED.wait(SHARERS.load(Ordering::Relaxed), || ());
    if options.polling {
        // No `until`: that sleeps.
        while !OVER.load(Ordering::Acquire) {
            core::hint::spin_loop();
        }
    }
    ipc::sleep_forever()
}
