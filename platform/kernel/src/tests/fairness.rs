//! Nobody is kept from its turn by a cluster that always has a packet, on whatever side of a word of bells they are.

use super::arenas::{Memory, Rings, Sizes};
use super::invariants::check;
use super::world::*;
use crate::kernel::Event;
use crate::ring::Lane;
use crate::thread::State;
use skerry_abi::ThreadId;
use skerry_abi::syscall::NOTIFY;
use std::boxed::Box;
use std::vec::Vec;

/// The cluster that all others send to, in a machine that needs more than one word of bells.
const CENTRE: usize = 5;
const CLUSTERS: usize = 65;
/// Packets that a kernel entry handles at most.
const AT_ONCE: u64 = 6;

struct Star {
    w: Vec<TestKernel<'static>>,
    receiver: ThreadId,
    senders: Vec<(usize, ThreadId)>,
}

fn star() -> Star {
    let small =
        Sizes { tables: 16, nodes: 8, spaces: 4, threads: 6, guests: 6, utcb_pages: 4, trace_pages: 0 };
    let rings = Box::leak(Box::new(Rings::new(CLUSTERS)));
    let mut w = Box::leak(Box::new(Memory::new(rings, 1, small))).kernels();
    w.iter_mut().for_each(start_root);
    let (_, receiver) = program(&mut w[CENTRE], 20);
    let senders = [0, 2, 63, 64].map(|from| (from, program(&mut w[from], 20).1)).into();
    w[CENTRE].hal.kicks.clear();
    Star { w, receiver, senders }
}

impl Star {
    /// As many packets as the ring has room for.
    fn flood(&mut self, (from, sender): (usize, ThreadId)) {
        while !self.w[from].is_full(CENTRE) {
            self.notify((from, sender));
        }
    }
    fn notify(&mut self, (from, sender): (usize, ThreadId)) {
        assert_eq!(syscall(&mut self.w[from], sender, NOTIFY, &[self.receiver.0, 1])[0], 0);
    }
    fn waiting(&self, from: usize) -> u64 {
        self.w[CENTRE].peers[from].inbound.unwrap().unconsumed(Lane::Requests)
    }
    fn all(&self) -> u64 {
        self.senders.iter().map(|&(from, _)| self.waiting(from)).sum()
    }
}

#[test]
fn who_has_one_packet_has_its_turn_beside_who_always_has_one() {
    let mut star = star();
    for busy in star.senders.clone() {
        for patient in star.senders.clone().into_iter().filter(|&patient| patient != busy) {
            star.flood(busy);
            // The busy cluster is the one whose packets are being handled.
            star.w[CENTRE].handle(Event::Kick);
            star.flood(busy);
            star.notify(patient);
            let mut entries = 0;
            while star.waiting(patient.0) != 0 {
                star.flood(busy);
                let before = star.all();
                star.w[CENTRE].hal.kicks.clear();
                star.w[CENTRE].handle(Event::Kick);
                check(&star.w[CENTRE]).unwrap();
                let handled = before - star.all();
                assert!((1..=AT_ONCE).contains(&handled), "{handled} packets in one entry");
                assert!(star.w[CENTRE].hal.kicks.contains(&(CENTRE as u16)), "the rest follows by itself");
                entries += 1;
            }
            assert!(entries <= 2, "{} waits {entries} entries for {}", patient.0, busy.0);
        }
        while star.all() != 0 {
            star.w[CENTRE].handle(Event::Kick);
        }
    }
}

/// All of them always have packets: all are heard equally often.
#[test]
fn who_always_has_packets_gets_a_share() {
    let mut star = star();
    let senders = star.senders.clone();
    let mut handled = senders.iter().map(|_| 0).collect::<Vec<u64>>();
    for _ in 0..100 {
        senders.iter().for_each(|&sender| star.flood(sender));
        let before: Vec<_> = senders.iter().map(|&(from, _)| star.waiting(from)).collect();
        star.w[CENTRE].handle(Event::Kick);
        for ((count, before), &(from, _)) in handled.iter_mut().zip(before).zip(&senders) {
            *count += before - star.waiting(from);
        }
    }
    let (least, most) = (handled.iter().min().unwrap(), handled.iter().max().unwrap());
    assert!(most - least <= 2 * AT_ONCE && *least > 100, "{handled:?}");
}

/// Threads that wait for one that has ended are told, whatever comes from other clusters meanwhile.
#[test]
fn packets_without_end_do_not_keep_waiters_from_being_told() {
    let mut w = world(2, 1);
    let (_, flooder) = program(&mut w[0], 20);
    let (_, target) = program(&mut w[1], 20);
    let space = w[1].create_space(21, false).unwrap();
    let victim = thread(&mut w[1], space, 0, ThreadId::NIL);
    let waiters: Vec<_> = (1..9).map(|slot| thread(&mut w[1], space, slot, ThreadId::NIL)).collect();
    for &id in &waiters {
        ipc(&mut w[1], id, Ipc::send(victim, 1, &[]));
    }
    let t = w[1].find(victim).unwrap();
    w[1].handle(Event::Kick);
    w[1].delete_thread(t).unwrap();
    assert!(w[1].chores.is_pending(), "not all in one go");
    let mut entries = 0;
    while w[1].chores.is_pending() {
        while !w[0].is_full(1) {
            let _ = syscall(&mut w[0], flooder, NOTIFY, &[target.0, 1]);
        }
        let before = w[1].peers[0].inbound.unwrap().unconsumed(Lane::Requests);
        w[1].handle(Event::Kick);
        w[1].pick();
        assert!(
            w[1].peers[0].inbound.unwrap().unconsumed(Lane::Requests) < before,
            "packets have their turn too"
        );
        entries += 1;
        assert!(entries < 20);
    }
    assert!(waiters.iter().all(|&id| state(&w[1], id) == State::Ready));
    check(&w[1]).unwrap();
}
