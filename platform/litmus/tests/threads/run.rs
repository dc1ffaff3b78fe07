//! The test. Shared data is leaked and threads are joined by hand: `std::thread::scope` counts its threads inside the prebuilt library.

use skerry_litmus::ring::{Lane, RING_WORDS, Ring, SLOTS};
use std::cell::UnsafeCell;
use std::sync::atomic::AtomicU64;
use std::thread;

/// A variable that is not atomic, so that only the ring keeps its users apart.
struct Plain(UnsafeCell<u64>);

// SAFETY: used by whoever the ring's slot belongs to: between `reserve` and `publish` the producer, between `front` and `release`
// the consumer.
#[expect(unsafe_code, reason = "this is what the test is about")]
unsafe impl Sync for Plain {}

impl Plain {
    const ZERO: Self = Self(UnsafeCell::new(0));

    #[expect(unsafe_code, reason = "this is what the test is about")]
    fn get(&self) -> u64 {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() }
    }
    #[expect(unsafe_code, reason = "this is what the test is about")]
    fn set(&self, value: u64) {
        // SAFETY: see `Sync`.
        unsafe { *self.0.get() = value }
    }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

pub(super) fn a_ring_keeps_its_two_sides_apart() {
    const PACKETS: u64 = 5_000;
    let memory: &'static Vec<AtomicU64> = leak((0..RING_WORDS).map(|_| AtomicU64::new(0)).collect());
    let ring = Ring::new(memory).expect("long enough");
    let plain = leak([Plain::ZERO; SLOTS as usize]);
    let producer = thread::spawn(move || {
        for n in 0..PACKETS {
            while ring.reserve(Lane::Requests).is_none() {
                thread::yield_now();
            }
            plain[(n % SLOTS) as usize].set(n);
            ring.publish(Lane::Requests);
        }
    });
    for n in 0..PACKETS {
        while ring.front(Lane::Requests).is_none() {
            thread::yield_now();
        }
        assert_eq!(plain[(n % SLOTS) as usize].get(), n);
        ring.release(Lane::Requests);
    }
    producer.join().expect("it ends");
}
