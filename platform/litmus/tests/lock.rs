//! The queue lock's algorithm with the orderings of mcslock 0.4 (`inner/raw`), which is what the cluster lock uses.
//!
//! A transcription: mcslock has loom tests of its own, but cannot be built over loom as a dependency. The thread sanitizer is of no use here,
//! since it does not know fences, and mcslock acquires by a relaxed load and a fence.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize, fence};
use loom::thread;

/// No node.
const NIL: usize = usize::MAX;

struct Node {
    next: AtomicUsize,
    waits: AtomicBool,
}

struct Lock {
    tail: AtomicUsize,
    /// One per thread; on the machine they lie on the stacks.
    nodes: Vec<Node>,
    value: UnsafeCell<u64>,
}

// SAFETY: `value` is used under the lock only; loom reports it if not.
#[expect(unsafe_code, reason = "loom's cells are for shared use, but are not marked so")]
unsafe impl Sync for Lock {}

impl Lock {
    fn with(&self, me: usize, f: impl FnOnce(&UnsafeCell<u64>)) {
        self.nodes[me].next.store(NIL, Relaxed);
        self.nodes[me].waits.store(true, Relaxed);
        let before = self.tail.swap(me, AcqRel);
        if before != NIL {
            self.nodes[before].next.store(me, Release);
            while self.nodes[me].waits.load(Relaxed) {
                thread::yield_now();
            }
            fence(Acquire);
        }
        f(&self.value);
        let mut next = self.nodes[me].next.load(Relaxed);
        if next == NIL {
            if self.tail.compare_exchange(me, NIL, Release, Relaxed).is_ok() {
                return;
            }
            while next == NIL {
                thread::yield_now();
                next = self.nodes[me].next.load(Relaxed);
            }
        }
        fence(Acquire);
        self.nodes[next].waits.store(false, Release);
    }
}

#[test]
fn one_at_a_time_and_nobody_is_forgotten() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let node = || Node { next: AtomicUsize::new(NIL), waits: AtomicBool::new(false) };
        let nodes = (0..2).map(|_| node()).collect();
        let lock = Arc::new(Lock { tail: AtomicUsize::new(NIL), nodes, value: UnsafeCell::new(0) });
        let others = [1].map(|me| {
            let lock = lock.clone();
            thread::spawn(move || lock.with(me, increment))
        });
        lock.with(0, increment);
        others.into_iter().for_each(|other| other.join().unwrap());
        lock.with(0, |value| {
            // SAFETY: under the lock.
            #[expect(unsafe_code, reason = "loom checks the access")]
            value.with(|value| assert_eq!(unsafe { *value }, 2));
        });
    });
}

fn increment(value: &UnsafeCell<u64>) {
    // SAFETY: under the lock.
    #[expect(unsafe_code, reason = "loom checks the access")]
    value.with_mut(|value| unsafe { *value += 1 });
}
