//! Rings and bells between two kernels, in every order that the memory model allows.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;
use skerry_litmus::ring::{BELL_WORDS, Bells, Lane, RING_WORDS, Ring, SLOTS};

/// Words of a packet that the tests look at: the first and the last.
const LOOK: [usize; 2] = [0, 79];

struct Shared {
    ring: Vec<AtomicU64>,
    bells: Vec<AtomicU64>,
    turns: AtomicU64,
}

impl Shared {
    fn new() -> Arc<Self> {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { ring: zeros(RING_WORDS), bells: zeros(BELL_WORDS), turns: AtomicU64::new(0) })
    }
    /// The ring, after a scheduling point. Of an access, loom remembers only the last one per variable, so it does not see that a load here could come
    /// after a store there if the storing thread has loaded the variable itself; a relaxed read-modify-write, which orders
    /// nothing else, makes it explore both orders.
    fn ring(&self) -> Ring<'_> {
        self.turns.fetch_add(1, Relaxed);
        Ring::new(&self.ring).expect("long enough")
    }
    fn bells(&self) -> Bells<'_> {
        Bells::new(&self.bells).expect("long enough")
    }
}

fn push(ring: &Ring<'_>, lane: Lane, n: u64) -> bool {
    let Some(slot) = ring.reserve(lane) else { return false };
    LOOK.into_iter().for_each(|i| slot[i].store(n, Relaxed));
    ring.publish(lane);
    true
}

fn pop(ring: &Ring<'_>, lane: Lane) -> Option<u64> {
    let slot = ring.front(lane)?;
    let seen = LOOK.map(|i| slot[i].load(Relaxed));
    ring.release(lane);
    assert_eq!(seen[0], seen[1], "half of a packet");
    Some(seen[0])
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(test);
}

#[test]
fn packets_arrive_whole_and_in_order() {
    explore(|| {
        let shared = Shared::new();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                (1..=2).for_each(|n| assert!(push(&shared.ring(), Lane::Requests, n)));
                shared.ring();
            })
        };
        let mut next = 1;
        for _ in 0..3 {
            if let Some(n) = pop(&shared.ring(), Lane::Requests) {
                assert_eq!(n, next);
                next += 1;
            }
        }
        producer.join().unwrap();
        while let Some(n) = pop(&shared.ring(), Lane::Requests) {
            assert_eq!(n, next);
            next += 1;
        }
        assert_eq!(next, 3);
    });
}

/// A plain variable in place of a slot's words: whoever touches it without having synchronised is caught, which atomic words,
/// never torn and never read from the future, cannot show.
struct Plain(UnsafeCell<()>);

// SAFETY: none is needed for `()`; loom reports every access that the rings do not order.
#[expect(unsafe_code, reason = "loom's cells are for shared use, but are not marked so")]
unsafe impl Sync for Plain {}

impl Plain {
    fn fill(&self) {
        self.0.with_mut(|_| ());
    }
    fn look(&self) {
        self.0.with(|_| ());
    }
}

#[test]
fn a_slot_is_read_only_after_it_was_filled() {
    explore(|| {
        let (shared, slot) = (Shared::new(), Arc::new(Plain(UnsafeCell::new(()))));
        let producer = {
            let (shared, slot) = (shared.clone(), slot.clone());
            thread::spawn(move || {
                assert!(shared.ring().reserve(Lane::Requests).is_some());
                slot.fill();
                shared.ring().publish(Lane::Requests);
                shared.ring();
            })
        };
        if shared.ring().front(Lane::Requests).is_some() {
            slot.look();
        }
        producer.join().unwrap();
    });
}

#[test]
fn a_slot_is_filled_again_only_after_it_was_read() {
    explore(|| {
        let (shared, slot) = (Shared::new(), Arc::new(Plain(UnsafeCell::new(()))));
        (0..SLOTS).for_each(|n| assert!(push(&shared.ring(), Lane::Responses, n)));
        let producer = {
            let (shared, slot) = (shared.clone(), slot.clone());
            thread::spawn(move || {
                if shared.ring().reserve(Lane::Responses).is_some() {
                    slot.fill();
                    shared.ring().publish(Lane::Responses);
                }
                shared.ring();
            })
        };
        assert!(shared.ring().front(Lane::Responses).is_some());
        slot.look();
        shared.ring().release(Lane::Responses);
        shared.ring();
        producer.join().unwrap();
    });
}

#[test]
fn who_finds_no_room_is_told_of_it_or_sees_it() {
    explore(|| {
        let shared = Shared::new();
        (0..SLOTS).for_each(|n| assert!(push(&shared.ring(), Lane::Requests, n)));
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.ring().want(true);
                shared.ring().unconsumed(Lane::Requests) < SLOTS
            })
        };
        assert!(pop(&shared.ring(), Lane::Requests).is_some());
        let told = shared.ring().is_special() && shared.ring().is_wanted();
        let saw = producer.join().unwrap();
        assert!(told || saw, "it waits for ever");
    });
}

#[test]
fn responses_published_before_a_request_are_seen_with_it() {
    explore(|| {
        let shared = Shared::new();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                push(&shared.ring(), Lane::Responses, 1);
                push(&shared.ring(), Lane::Requests, 2);
                shared.ring();
            })
        };
        assert!(shared.ring().request().is_none(), "a request overtakes a response");
        if shared.ring().front(Lane::Requests).is_some() {
            assert_eq!(pop(&shared.ring(), Lane::Responses), Some(1));
        }
        producer.join().unwrap();
    });
}

#[test]
fn the_slot_of_a_response_is_kept_until_it_was_read() {
    explore(|| {
        let (there, back) = (Shared::new(), Shared::new());
        assert!(push(&there.ring(), Lane::Requests, 1));
        let consumer = {
            let (there, back) = (there.clone(), back.clone());
            thread::spawn(move || {
                assert_eq!(there.ring().front(Lane::Requests).map(|slot| slot[0].load(Relaxed)), Some(1));
                push(&back.ring(), Lane::Responses, 1);
                there.ring().release(Lane::Requests);
                there.ring();
            })
        };
        // The request is outstanding, or its response is: there is no room for another one.
        assert!(there.ring().room(&back.ring(), 1, || {}).is_none());
        consumer.join().unwrap();
    });
}

#[test]
fn what_a_cluster_sent_before_it_went_down_is_seen() {
    explore(|| {
        let shared = Shared::new();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                push(&shared.ring(), Lane::Requests, 1);
                shared.ring().set_down();
                shared.ring();
            })
        };
        if shared.ring().is_down() {
            assert_eq!(pop(&shared.ring(), Lane::Requests), Some(1));
        }
        producer.join().unwrap();
    });
}

#[test]
fn no_doorbell_is_lost() {
    explore(|| {
        let shared = Shared::new();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut interrupts = 0;
                for n in 1..=2 {
                    assert!(push(&shared.ring(), Lane::Requests, n));
                    interrupts += u64::from(shared.bells().ring(1));
                }
                interrupts
            })
        };
        // The consumer follows an earlier interrupt.
        let mut seen = 0;
        if shared.bells().take(0) != 0 {
            while pop(&shared.ring(), Lane::Requests).is_some() {
                seen += 1;
            }
        }
        let interrupts = producer.join().unwrap();
        let rings = shared.bells().take(0) != 0;
        assert!(rings || seen == 2, "a packet that nobody will look for");
        assert!(interrupts > 0, "the first bell interrupts");
        assert!(!rings || seen == 0 || interrupts == 2, "a bell that nobody will hear");
    });
}

#[test]
fn no_doorbell_is_lost_on_the_short_way() {
    explore(|| {
        let shared = Shared::new();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                for n in 1..=2 {
                    assert!(push(&shared.ring(), Lane::Requests, n));
                    _ = shared.bells().ring(1);
                }
            })
        };
        if shared.bells().take_first() != 0 {
            let (_, waiting) = shared.ring().request().expect("it was published before its bell rang");
            shared.ring().release(Lane::Requests);
            if waiting > 1 {
                _ = shared.bells().ring(1);
            }
        }
        producer.join().unwrap();
        let left = shared.ring().unconsumed(Lane::Requests);
        assert!(left == 0 || shared.bells().take_first() != 0, "a packet that nobody will look for");
    });
}
