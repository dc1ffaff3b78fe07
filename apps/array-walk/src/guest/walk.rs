//! The walking threads.
#![expect(unsafe_code, reason = "a region of the task becomes a slice")]

use core::slice;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use array_walk::{Options, upwards, word};
use skerry_abi::boot::MAX_NODES;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::marker::MEASURED;
use skerry_abi::modelled::{COUNT, Modelled};
use skerry_abi::syscall::exit;
use skerry_rt::spin::Barrier;
use skerry_rt::{info, marker, record, sys, task};

static START_BARRIER: Barrier = Barrier::new();
static CHECK_BARRIER: Barrier = Barrier::new();
static RELEASED: AtomicU64 = AtomicU64::new(0);
static FINISHED: [AtomicU64; MAX_NODES] = [const { AtomicU64::new(0) }; MAX_NODES];
/// What the instrument told each thread about its walk; nothing without it.
static MODELLED: [[AtomicU64; COUNT]; MAX_NODES] =
    [const { [const { AtomicU64::new(0) }; COUNT] }; MAX_NODES];
static DONE: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// The options, for the threads.
static THREADS: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicU64 = AtomicU64::new(0);
static OVERLAP: AtomicU64 = AtomicU64::new(0);
static ITERATIONS: AtomicU64 = AtomicU64::new(0);
static WRITE: AtomicBool = AtomicBool::new(false);
static TOUCHED: AtomicBool = AtomicBool::new(false);

/// Phases of [`word`].
const WALK: u32 = 1;
const CHECK: u32 = 2;

/// Hands the options to the threads that are created afterwards.
pub(super) fn prepare(options: &Options, threads: u64) {
    THREADS.store(threads, Ordering::Relaxed);
    SIZE.store(options.size, Ordering::Relaxed);
    OVERLAP.store(options.overlap.to_bits(), Ordering::Relaxed);
    ITERATIONS.store(options.iterations, Ordering::Relaxed);
    TOUCHED.store(options.touched, Ordering::Relaxed);
    WRITE.store(options.write, Ordering::Release);
}

fn options() -> Options {
    Options {
        write: WRITE.load(Ordering::Acquire),
        overlap: f64::from_bits(OVERLAP.load(Ordering::Relaxed)),
        iterations: ITERATIONS.load(Ordering::Relaxed),
        size: SIZE.load(Ordering::Relaxed),
        touched: TOUCHED.load(Ordering::Relaxed),
        // What is decided before there are threads.
        local: false,
        per_cpu: false,
    }
}

/// The words of a thread's array.
fn array(options: &Options, thread: u64) -> &'static [AtomicU32] {
    let start = core::ptr::with_exposed_provenance(options.start(thread) as usize);
    // SAFETY: `run` created the region that covers the arrays of all threads, and nothing removes it; the words are
    // only used as atomics, because arrays overlap.
    unsafe { slice::from_raw_parts(start, (options.size / 4) as usize) }
}

/// Instructions from the release of the start barrier to the last finisher.
pub(super) fn instructions() -> u64 {
    let last = FINISHED.iter().map(|finished| finished.load(Ordering::Acquire)).max().unwrap_or(0);
    last.saturating_sub(RELEASED.load(Ordering::Acquire))
}

/// Words that were not what they had to be.
pub(super) fn wrong_words() -> u64 {
    WRONG.load(Ordering::Acquire)
}

/// What is modelled of a thread's walk.
pub(super) fn modelled(thread: usize, what: Modelled) -> u64 {
    MODELLED.get(thread).map_or(0, |words| words[what as usize].load(Ordering::Acquire))
}

fn finish(wrong: u64) -> ! {
    WRONG.fetch_add(wrong, Ordering::AcqRel);
    task::exit(exit::PASS)
}

/// One pass that reads: all words have to be zero. The sum is 64 bits wide, so that wrong words cannot cancel out.
#[inline(never)]
fn read_pass(words: &[AtomicU32], up: bool) -> u64 {
    let read = |sum: u64, word: &AtomicU32| sum + u64::from(word.load(Ordering::Relaxed));
    if up { words.iter().fold(0, read) } else { words.iter().rev().fold(0, read) }
}

/// One pass that writes; from the second on, what was written is verified first.
#[inline(never)]
fn write_pass(words: &[AtomicU32], start: u64, up: bool, verify: bool) -> u64 {
    let step = |wrong: u64, (index, slot): (usize, &AtomicU32)| {
        let value = word(start + index as u64 * 4, WALK);
        let bad = verify && slot.load(Ordering::Relaxed) != value;
        slot.store(value, Ordering::Relaxed);
        wrong + u64::from(bad)
    };
    if up { words.iter().enumerate().fold(0, step) } else { words.iter().enumerate().rev().fold(0, step) }
}

/// The timed walk.
pub(super) extern "C" fn timed(thread: u64) -> ! {
    marker::thread();
    let options = options();
    let (words, start) = (array(&options, thread), options.start(thread));
    let mut wrong = 0;
    if options.touched {
        // Written: a page that was only read is written again by the check, which costs nobody anything that is measured.
        words.iter().step_by((PAGE_SIZE / 4) as usize).for_each(|word| word.store(0, Ordering::Relaxed));
    }
    START_BARRIER.wait(THREADS.load(Ordering::Relaxed), || {
        marker::begin::<MEASURED>();
        RELEASED.store(sys::cycles(), Ordering::Release);
    });
    let before = info::modelled();
    for iteration in 0..options.iterations {
        let up = upwards(thread, iteration);
        wrong +=
            if options.write { write_pass(words, start, up, iteration > 0) } else { read_pass(words, up) };
        if thread == 0 {
            record::progress("iteration", iteration + 1, options.iterations);
        }
    }
    let after = info::modelled();
    if let Some(walk) = after.zip(before).and_then(|(after, before)| after.since(&before))
        && let Some(words) = MODELLED.get(thread as usize)
    {
        words.iter().zip(walk.words).for_each(|(slot, word)| slot.store(word, Ordering::Release));
    }
    if let Some(finished) = FINISHED.get(thread as usize) {
        finished.store(sys::cycles(), Ordering::Release);
    }
    if DONE.fetch_add(1, Ordering::AcqRel) + 1 == THREADS.load(Ordering::Relaxed) {
        marker::end::<MEASURED>();
    }
    finish(wrong)
}

/// The check after the walk: of every page the lowest thread that has it writes one word, then all threads that have it look. A
/// page that is not the same frame everywhere, or not the only page of its frame, is found.
pub(super) extern "C" fn check(thread: u64) -> ! {
    let options = options();
    let threads = THREADS.load(Ordering::Relaxed);
    let (words, start) = (array(&options, thread), options.start(thread));
    let per_page = (PAGE_SIZE / 4) as usize;
    let pages = || words.iter().enumerate().step_by(per_page).map(|(i, slot)| (start + i as u64 * 4, slot));
    for (address, slot) in pages() {
        if options.owner(threads, address) == thread {
            slot.store(word(address, CHECK), Ordering::Relaxed);
        }
    }
    CHECK_BARRIER.wait(threads, || ());
    let wrong =
        pages().filter(|(address, slot)| slot.load(Ordering::Relaxed) != word(*address, CHECK)).count();
    finish(wrong as u64)
}
