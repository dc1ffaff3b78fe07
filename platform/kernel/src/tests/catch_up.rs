//! News of a thread that has moved, behind more answers of other clusters than a kernel entry handles.

use super::invariants::check;
use super::scene::{Scene, scene};
use super::world::*;
use crate::kernel::Event;
use crate::ring::{Lane, SLOTS};
use crate::thread::State;
use skerry_abi::{Error, ThreadId};
use std::vec::Vec;

/// Packets that a kernel entry may handle at most.
const AT_ONCE: u64 = 6;

impl Scene {
    /// Answers of this cluster that cluster 0 has not looked at.
    fn answers_of(&self, cluster: usize) -> u64 {
        self.w[0].peers[cluster].inbound.unwrap().unconsumed(Lane::Responses)
    }
    /// As many answers of this cluster to cluster 0 as there can be: these threads, as far as they are ready, have sent to nobody.
    fn fill(&mut self, cluster: usize, senders: &[ThreadId]) {
        for &sender in senders {
            if state(&self.w[0], sender) == State::Ready && !self.w[0].is_full(cluster) {
                ipc(&mut self.w[0], sender, Ipc::send(ThreadId::new(cluster as u16, 60, 1), 1, &[]));
            }
        }
        (0..4).for_each(|_| self.hear(&[cluster]));
    }
    /// Cluster 0 looks at an empty ring of this one once, whatever the number of the next request, of which the low half has been there before.
    fn rests_when_numbers_come_round(&mut self, cluster: usize) {
        let ring = self.w[0].peers[cluster].inbound.unwrap();
        let sent = ring.first(Lane::Requests);
        ring.publish_all(Lane::Requests, (1 << 32) - sent);
        ring.release_all(Lane::Requests, (1 << 32) - sent);
        for _ in 0..=sent {
            assert!(ring.front(Lane::Requests).is_none());
            _ = self.w[0].bells.ring(cluster);
            self.w[0].hal.kicks.clear();
            self.hear(&[0]);
            assert!(self.w[0].hal.kicks.is_empty(), "request {:#x}", ring.first(Lane::Requests));
            ring.publish_all(Lane::Requests, 1);
            ring.release_all(Lane::Requests, 1);
        }
    }
    fn senders(&mut self, count: u64) -> Vec<ThreadId> {
        let space = self.spaces[0];
        (1..=count as u16).map(|slot| thread(&mut self.w[0], space, slot, ThreadId::NIL)).collect()
    }
}

/// Its birth cluster hears where it is now; but what was said there before counts first, all of it and nothing else.
#[test]
fn a_place_is_noted_after_the_answers_that_were_there_and_before_those_that_come() {
    for refills in [false, true] {
        let mut s = scene(4);
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        let senders = s.senders(2 * SLOTS);
        assert_eq!(s.go(0, id, 1), 0);
        s.fill(2, &senders);
        assert_eq!(s.answers_of(2), SLOTS);
        s.ask(1, id, 2);
        s.hear(&[2, 1]);
        let answers = s.w[0].peers[2].inbound.unwrap();
        let (first, end) = (answers.first(Lane::Responses), answers.end(Lane::Responses));
        let mut entries = 0;
        while s.w[0].elsewhere(id) == Some(1) {
            assert!(answers.first(Lane::Responses) < end || entries == 0, "it need not wait any longer");
            let before = answers.first(Lane::Responses);
            s.hear(&[0]);
            assert!(answers.first(Lane::Responses) - before <= AT_ONCE, "too much for one entry");
            entries += 1;
            if refills {
                s.fill(2, &senders);
                assert!(s.answers_of(2) > SLOTS / 2);
            }
        }
        assert_eq!((s.w[0].elsewhere(id), end - first), (Some(2), SLOTS));
        assert!(answers.first(Lane::Responses) >= end, "nothing that was said before comes after");
        assert!((3..=6).contains(&entries), "{entries}");
        s.settle();
        assert_eq!(s.state(id), [(2, State::Ready)]);
        for sender in senders {
            assert!([None, Some(Error::NoSuchThread)].contains(&outcome(&s.w[0], sender).1.error()));
        }
    }
}

/// It comes home before its birth cluster has looked at the word that it has arrived elsewhere, which is behind other answers: perhaps just
/// as many as an entry handles, so that nothing is left to wait for in the next one.
#[test]
fn a_thread_comes_home_behind_the_word_that_it_had_left() {
    for others in 5..=SLOTS - 4 {
        let mut s = scene(4);
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        let senders = s.senders(others);
        s.fill(3, &senders);
        s.ask(0, id, 3);
        s.hear(&[3]);
        assert_eq!(s.answers_of(3), others + 1);
        s.ask(3, id, 1);
        s.hear(&[1]);
        let t = s.w[0].find(id).unwrap();
        assert_eq!(s.w[0].thread(t).state, State::Moving);
        s.spaces[0] = s.w[0].create_space(20, false).unwrap();
        // The other one asks first: its bell is handled before that of the cluster whose answers count.
        s.w[3].handle(Event::Kick);
        s.ask(1, id, 0);
        let asked = s.w[0].peers[1].inbound.unwrap();
        let mut entries = 0;
        while asked.unconsumed(Lane::Requests) != 0 {
            s.hear(&[0]);
            check(&s.w[0]).unwrap();
            entries += 1;
            assert!(entries < 8, "{:?}", s.w[0].thread(t).state);
        }
        assert!(entries > others / AT_ONCE, "{entries} entries for {others} answers");
        s.settle();
        assert_eq!(s.answer(0), 0);
        if s.answer(1) == 0 {
            assert_eq!(s.state(id), [(0, State::Ready)]);
        } else {
            // The entry was over before those who had waited for it here were told that it had left.
            assert_eq!(Error::from_code(s.answer(1)), Error::WrongState);
            assert_eq!((s.state(id), s.go(1, id, 0)), ([(1, State::Ready)].to_vec(), 0));
        }
        s.rests_when_numbers_come_round(1);
    }
}

/// A cluster whose request waits for answers keeps nobody else waiting, and follows the interrupts it owes itself.
#[test]
fn others_have_their_turn_meanwhile() {
    let mut s = scene(4);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let senders = s.senders(SLOTS);
    let other = thread(&mut s.w[3], s.spaces[3], 9, ThreadId::NIL);
    assert_eq!(s.go(0, id, 1), 0);
    s.fill(2, &senders);
    s.ask(1, id, 2);
    s.hear(&[2, 1]);
    let receiver = thread(&mut s.w[0], s.spaces[0], 60, ThreadId::NIL);
    syscall(&mut s.w[3], other, skerry_abi::syscall::NOTIFY, &[receiver.0, 4]);
    let mut entries = 0;
    while s.w[0].thread(s.w[0].find(receiver).unwrap()).notified == 0 {
        s.w[0].hal.kicks.clear();
        s.hear(&[0]);
        assert!(s.w[0].hal.kicks.contains(&0), "it goes on by itself");
        entries += 1;
    }
    assert!(entries <= 4, "{entries}");
    s.settle();
    assert_eq!(s.w[0].elsewhere(id), Some(2));
}

/// Others have left too little of the entry for one answer, again and again. It still takes one.
#[test]
fn a_little_of_an_entry_is_enough_for_an_answer() {
    let mut s = scene(4);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let senders = s.senders(SLOTS);
    assert_eq!(s.go(0, id, 2), 0);
    let receiver = thread(&mut s.w[0], s.spaces[0], 60, ThreadId::NIL);
    let busy = thread(&mut s.w[1], s.spaces[1], 9, ThreadId::NIL);
    s.fill(3, &senders);
    s.ask(2, id, 3);
    s.hear(&[3, 2]);
    let answers = s.w[0].peers[3].inbound.unwrap();
    let end = answers.end(Lane::Responses);
    while s.w[0].elsewhere(id) == Some(2) {
        for _ in 0..AT_ONCE - 1 {
            syscall(&mut s.w[1], busy, skerry_abi::syscall::NOTIFY, &[receiver.0, 4]);
        }
        let (before, asked) = (answers.first(Lane::Responses), s.w[0].bells.rings(2));
        // It begins with the busy one.
        s.w[0].turn = 0;
        s.hear(&[0]);
        check(&s.w[0]).unwrap();
        assert!(asked && answers.first(Lane::Responses) - before <= 2);
        assert!(answers.first(Lane::Responses) > before || before >= end, "nothing was done");
    }
    assert!(answers.first(Lane::Responses) >= end);
    s.settle();
    assert_eq!(s.w[0].elsewhere(id), Some(3));
}
