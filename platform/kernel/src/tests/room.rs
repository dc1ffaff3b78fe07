//! Room for a request, once found, stays: whatever the other cluster does meanwhile.

use super::world::*;
use crate::kernel::Event;
use crate::ring::{Lane, SLOTS};
use crate::thread::State;
use skerry_abi::{ThreadId, Timeout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::vec::Vec;

/// Sends that are not to wait, whose answers are as many as they are.
fn poll(to: ThreadId) -> Ipc {
    Ipc { wait: false, send_timeout: Timeout::ZERO, ..Ipc::send(to, 5, &[1]) }
}

/// While a cluster answers a request, that counts twice, so the last slot seems to be taken: by nobody.
#[test]
fn a_request_that_has_found_room_goes_out_though_an_answer_is_published_meanwhile() {
    let mut w = world(2, 1);
    let (_, server) = program(&mut w[1], 20);
    let space = w[0].create_space(20, false).unwrap();
    for slot in 0..SLOTS as u16 - 1 {
        let sender = thread(&mut w[0], space, slot, ThreadId::NIL);
        ipc(&mut w[0], sender, poll(server));
    }
    let [there, back] = [w[0].peers[1].outbound.unwrap(), w[1].peers[0].outbound.unwrap()];
    assert!(there.unconsumed(Lane::Requests) == SLOTS - 1 && !w[0].is_full(1));
    // The other side is in the middle of a request: answered, and not given back yet.
    back.publish(Lane::Responses);
    assert!(w[0].is_full(1), "counted twice, or this test shows nothing");
    w[0].send_kill(1, server);
    assert_eq!(there.unconsumed(Lane::Requests), SLOTS);
}

/// Two kernels on two processors of the host: nobody who sends waits for ever.
#[test]
fn kernels_that_run_at_the_same_time_lose_no_request() {
    const SENDS: u64 = 100_000;
    let mut w = world(2, 1);
    let space = w[0].create_space(20, false).unwrap();
    let senders: Vec<_> = (0..48).map(|slot| thread(&mut w[0], space, slot, ThreadId::NIL)).collect();
    let (_, server) = program(&mut w[1], 20);
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let [zero, one] = &mut w[..] else { unreachable!() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let until = Instant::now() + Duration::from_secs(100);
            // Whoever is lost keeps the others from the goal in the end.
            while sent.load(Relaxed) < SENDS && Instant::now() < until {
                for &sender in &senders {
                    if state(zero, sender) == State::Ready {
                        ipc(zero, sender, poll(server));
                        sent.fetch_add(1, Relaxed);
                    }
                }
                zero.handle(Event::Kick);
                zero.hal.kicks.clear();
            }
            done.store(true, Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                if state(one, server) == State::Ready {
                    ipc(one, server, Ipc::receive(ThreadId::ANY));
                }
                one.handle(Event::Kick);
                one.hal.kicks.clear();
            }
        });
    });
    assert_eq!(sent.load(Relaxed).min(SENDS), SENDS);
    // What is on its way arrives, one entry after the other.
    for _ in 0..SLOTS {
        settle(&mut w);
        if state(&w[1], server) == State::Ready {
            ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        }
        w.iter_mut().for_each(|kernel| kernel.hal.kicks.clear());
    }
    let waiting: Vec<_> = senders.iter().filter(|&&sender| state(&w[0], sender) != State::Ready).collect();
    assert!(waiting.is_empty(), "{waiting:?} wait for ever");
}
