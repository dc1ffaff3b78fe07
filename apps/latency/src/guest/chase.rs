//! Making lists, and walking them.
#![expect(unsafe_code, reason = "assembly, and regions of the task become slices")]

use core::arch::asm;
use core::slice;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use latency::{MAX_PHASES, Options, list};
use skerry_abi::marker::{OWN, WARM_UP};
use skerry_abi::modelled::{COUNT, Modelled, Sample};
use skerry_abi::syscall::exit;
use skerry_rt::{info, marker, start, task};

static PLACES: AtomicUsize = AtomicUsize::new(0);
/// What the instrument told of each phase; nothing without it.
static MODELLED: [[AtomicU64; COUNT]; MAX_PHASES] =
    [const { [const { AtomicU64::new(0) }; COUNT] }; MAX_PHASES];

/// What is modelled of a phase, by its place in [`Options::phase`]'s order.
pub(super) fn modelled(phase: u16, what: Modelled) -> u64 {
    MODELLED[usize::from(phase - OWN)][what as usize].load(Ordering::Acquire)
}

/// Tells the threads how many lists there are.
pub(super) fn prepare(places: usize) {
    PLACES.store(places, Ordering::Release);
}

fn options() -> Options {
    // They were read before, so they can be read.
    Options::parse(start::app().arguments()).unwrap_or_else(|_| task::exit(exit::FAIL))
}

/// The words of a place's list, up to `bytes`.
fn words(place: usize, bytes: u64) -> &'static [AtomicU64] {
    let start = core::ptr::with_exposed_provenance(list(place) as usize);
    // SAFETY: `run` created a region of the largest size there, which nothing removes; the words are only used as atomics.
    unsafe { slice::from_raw_parts(start, bytes as usize / 8) }
}

/// Links a list of `bytes` into a ring.
fn ring(options: &Options, place: usize, bytes: u64) {
    let step = options.stride as usize / 8;
    let words = words(place, bytes);
    for (index, word) in words.iter().enumerate().step_by(step) {
        let next = if index + step < words.len() { (index + step) * 8 } else { 0 };
        word.store(list(place) + next as u64, Ordering::Relaxed);
    }
}

/// A thread on the node of a place touches its list first.
pub(super) extern "C" fn link(place: u64) -> ! {
    let options = options();
    ring(&options, place as usize, options.largest());
    task::exit(exit::PASS)
}

/// Walks a list; where it ends up.
#[inline(always)]
fn walk(from: u64, loads: u64) -> u64 {
    let mut at = from;
    // SAFETY: every word of the list is the address of a word of the list.
    unsafe {
        asm!("2: ldr {at}, [{at}]", "subs {left}, {left}, #1", "b.ne 2b",
            at = inout(reg) at, left = inout(reg) loads => _, options(nostack, readonly));
    }
    at
}

macro_rules! measured {
    ($index:expr, $work:expr, $($number:literal)*) => {
        match $index {
            $($number => {
                marker::begin::<{ OWN + $number }>();
                let result = $work;
                marker::end::<{ OWN + $number }>();
                result
            })*
            _ => task::exit(exit::FAIL),
        }
    };
}

/// Keeps what happened on this CPU between two samples, if there were any.
fn note(phase: u16, before: Option<Sample>, after: Option<Sample>) {
    if let Some(walk) = after.zip(before).and_then(|(after, before)| after.since(&before)) {
        let words = MODELLED[usize::from(phase)].iter().zip(walk.words);
        words.for_each(|(slot, word)| slot.store(word, Ordering::Release));
    }
}

/// Walks all lists at all sizes.
pub(super) extern "C" fn walk_all(_: u64) -> ! {
    let options = options();
    marker::begin::<WARM_UP>();
    marker::end::<WARM_UP>();
    for place in 0..PLACES.load(Ordering::Acquire) {
        for (index, &size) in options.sizes().iter().enumerate() {
            ring(&options, place, size);
            let (start, loads) = (list(place), options.loads(size));
            // Twice to warm up: what the ring's making left in caches is gone then.
            let rounds = size / options.stride;
            let warm = walk(start, 2 * rounds);
            let phase = options.phase(place, index) - OWN;
            let before = info::modelled();
            let end = measured!(phase, walk(warm, loads),
                0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
            note(phase, before, info::modelled());
            if warm != start || end != start {
                task::exit(exit::FAIL);
            }
        }
    }
    task::exit(exit::PASS)
}
