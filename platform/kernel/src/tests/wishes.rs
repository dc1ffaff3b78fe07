//! Who wants room in a ring says so as long as somebody waits for it, and not longer: the other side rings back after every packet.

use super::invariants::check;
use super::world::*;
use crate::ring::SLOTS;
use crate::thread::State;
use skerry_abi::ThreadId;
use skerry_mapping_db::Budget;
use std::vec::Vec;

const SENDERS: usize = 4;

/// Threads that wait for room to send to a thread of the other cluster.
fn waiters() -> (Vec<TestKernel<'static>>, Vec<ThreadId>) {
    let mut w = world(2, 1);
    let (_, receiver) = program(&mut w[1], 20);
    w[0].peers[1].limit = 0;
    let senders: Vec<_> = (0..SENDERS).map(|_| program(&mut w[0], 20).1).collect();
    for &sender in &senders {
        ipc(&mut w[0], sender, Ipc::send(receiver, 1, &[]));
        assert_eq!(state(&w[0], sender), State::AwaitingCredit);
        check(&w[0]).unwrap();
    }
    assert!(w[0].peers[1].wants);
    (w, senders)
}

fn is_content(k: &TestKernel<'_>) {
    check(k).unwrap();
    assert!(k.peers[1].waiting.is_empty() && !k.peers[1].wants);
}

#[test]
pub(super) fn the_last_one_fills_the_ring() {
    let (mut w, _) = waiters();
    w[0].peers[1].limit = SENDERS as u64;
    w[0].budget = Budget::UNLIMITED;
    w[0].pump(1);
    assert!(w[0].is_full(1));
    is_content(&w[0]);
}

#[test]
fn the_last_one_spends_the_budget() {
    for units in 0..200 {
        let (mut w, _) = waiters();
        w[0].peers[1].limit = SLOTS;
        for _ in 0..SENDERS {
            w[0].budget = Budget::new(units);
            w[0].pump(1);
            check(&w[0]).unwrap();
        }
        is_content(&w[0]);
    }
}

#[test]
pub(super) fn the_last_one_gives_up() {
    let (mut w, senders) = waiters();
    for sender in senders {
        assert!(w[0].peers[1].wants);
        let t = w[0].find(sender).unwrap();
        w[0].delete_thread(t).unwrap();
        check(&w[0]).unwrap();
    }
    is_content(&w[0]);
}

#[test]
fn nobody_is_left_to_give_it() {
    let (mut w, _) = waiters();
    w[1].park();
    settle(&mut w[..1]);
    is_content(&w[0]);
}

/// Both clusters fill the ring to the other one. When all is said, none of them interrupts any more.
#[test]
pub(super) fn full_rings_come_to_rest() {
    let mut w = world(2, 1);
    let receivers = [0, 1].map(|k| program(&mut w[k], 20).1);
    for (k, to) in [(0, receivers[1]), (1, receivers[0])] {
        w[k].peers[1 - k].limit = 1;
        for _ in 0..SENDERS {
            let (_, sender) = program(&mut w[k], 20);
            ipc(&mut w[k], sender, Ipc::send(to, 1, &[]));
        }
    }
    settle(&mut w);
    assert!(w.iter().all(|k| !k.peers.iter().any(|peer| peer.wants)));
}
