//! Computing in floating-point registers, with a known result.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_rt::task;

/// Enough for several time slices.
const STEPS: u32 = 2_000_000;
const SEEDS: usize = 3;

static EXPECTED: [AtomicU64; SEEDS] = [const { AtomicU64::new(0) }; SEEDS];

/// Eight chains at once, so that many registers are live when another thread gets the CPU.
fn chains(seed: u64) -> u64 {
    let mut x: [f64; 8] = core::array::from_fn(|i| black_box(seed as f64 + 0.125 * (i as f64 + 1.0)));
    for _ in 0..STEPS {
        for value in &mut x {
            *value = *value * 0.999_999 + 0.5;
        }
    }
    x.iter().fold(0, |bits, value| bits.rotate_left(7) ^ value.to_bits())
}

/// Computes the results alone, before anybody else runs.
pub(super) fn prepare() {
    for (seed, expected) in (0u64..).zip(&EXPECTED) {
        expected.store(chains(seed), Ordering::Release);
    }
}

/// A bystander: ends with 0 if its result is the right one.
pub(super) extern "C" fn thread(seed: u64) -> ! {
    let expected = EXPECTED.get(seed as usize).map_or(0, |expected| expected.load(Ordering::Acquire));
    task::exit(u64::from(chains(seed) != expected))
}
