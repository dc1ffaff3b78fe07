//! Notifications and deletions for threads that are away: whatever is full and wherever they go, nothing is lost.

use super::scene::{Scene, boss, scene};
use super::world::*;
use crate::ring::SLOTS;
use crate::thread::State;
use skerry_abi::syscall::{NOTIFY, THREAD_CONTROL, thread_op};
use skerry_abi::{Error, ThreadId, Timeout};
use std::vec::Vec;

impl Scene {
    /// No request fits into the ring from one cluster to another, or as many as usual do.
    fn block(&mut self, from: usize, to: usize, blocked: bool) {
        self.w[from].peers[to].limit = if blocked { 0 } else { SLOTS };
        self.w[from].pump(to);
    }
    /// No cluster has room for another guest. What there were is returned.
    fn fill_guests(&mut self) -> Vec<Vec<u32>> {
        self.w.iter_mut().map(|k| k.guests.fill()).collect()
    }
    fn empty_guests(&mut self, guests: Vec<Vec<u32>>) {
        for (k, guests) in self.w.iter_mut().zip(guests) {
            guests.into_iter().for_each(|guest| k.guests.remove(guest));
        }
    }
    fn delete(&mut self, at: usize, id: ThreadId) {
        let killer = boss(&mut self.w[at]);
        assert_eq!(syscall(&mut self.w[at], killer, THREAD_CONTROL, &[thread_op::DELETE, id.0])[0], 0);
        syscall(&mut self.w[at], killer, THREAD_CONTROL, &[thread_op::DELETE, killer.0]);
    }
    fn friend(&mut self, at: usize) -> ThreadId {
        thread(&mut self.w[at], self.spaces[at], 30, ThreadId::NIL)
    }
    fn notify(&mut self, at: usize, from: ThreadId, to: ThreadId, bits: u64) {
        assert_eq!(syscall(&mut self.w[at], from, NOTIFY, &[to.0, bits])[0], 0);
    }
    fn notified(&self, at: usize, id: ThreadId) -> u64 {
        self.w[at].thread(self.w[at].find(id).expect("it is there")).notified
    }
    fn at_home(&self, id: ThreadId) -> State {
        self.w[usize::from(id.cluster())].threads[usize::from(id.slot())].state
    }
}

/// It has arrived, and what came for it at home waits for room to go after it. Then it moves on, ends, or comes home.
#[test]
pub(super) fn what_waits_at_home_goes_after_the_thread_wherever_it_is() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Then {
        Stays,
        MovesOn,
        Ends,
        ComesHome,
    }
    for (delete, then) in [
        (false, Then::Stays),
        (true, Then::Stays),
        (false, Then::MovesOn),
        (true, Then::MovesOn),
        (false, Then::Ends),
        (true, Then::Ends),
        (false, Then::ComesHome),
        (true, Then::ComesHome),
    ] {
        let mut s = scene(3);
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        let friend = s.friend(0);
        s.ask(0, id, 1);
        s.hear(&[1]);
        s.block(0, 1, true);
        s.notify(0, friend, id, 0b101);
        if delete {
            s.delete(0, id);
        }
        s.settle();
        let expected = if delete { Error::NoSuchThread.code() } else { 0 };
        assert_eq!((s.answer(0), s.at_home(id)), (expected, State::Passing), "the move is over");
        s.notify(0, friend, id, 0b1000);
        let at = match then {
            Then::Stays => 1,
            Then::MovesOn => {
                assert_eq!(s.go(1, id, 2), 0);
                let seen = if delete { State::Free } else { State::Departed };
                assert_eq!(s.at_home(id), seen, "there is room on the way to where it is now");
                2
            }
            Then::Ends => {
                s.delete(1, id);
                s.settle();
                assert_eq!(s.at_home(id), State::Free);
                1
            }
            Then::ComesHome => {
                assert_eq!(s.go(1, id, 0), Error::WrongState.code(), "it may be tried again");
                assert_eq!(s.state(id), [(1, State::Ready)]);
                1
            }
        };
        s.block(0, 1, false);
        s.settle();
        if delete || then == Then::Ends {
            assert_eq!((s.state(id), s.at_home(id)), (Vec::new(), State::Free), "{then:?}");
            continue;
        }
        assert_eq!((s.state(id), s.notified(at, id)), ([(at, State::Ready)].to_vec(), 0b1101), "{then:?}");
        if then == Then::ComesHome {
            assert_eq!(s.go(1, id, 0), 0);
            assert_eq!(s.notified(0, id), 0b1101);
        }
    }
}

/// What others send to its birth cluster does not need an entry there either, whoever sends it; and strangers are still refused.
#[test]
pub(super) fn what_is_passed_on_needs_no_memory() {
    let mut s = scene(3);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    assert_eq!(s.go(0, id, 1), 0);
    let colleague = s.friend(2);
    let (space, partner) = program(&mut s.w[2], 33);
    s.w[2].spaces[usize::from(space.slot())].grant_partner(id).unwrap();
    let (_, stranger) = program(&mut s.w[2], 34);
    let guests = s.fill_guests();
    s.block(0, 1, true);
    for (n, from) in [(0, colleague), (1, partner), (2, stranger), (3, colleague)] {
        s.notify(2, from, id, 1 << n);
        s.settle();
    }
    assert_eq!((s.at_home(id), s.notified(1, id)), (State::Passing, 0));
    s.block(0, 1, false);
    s.settle();
    assert_eq!((s.at_home(id), s.notified(1, id)), (State::Departed, 0b1011));
    s.block(0, 1, true);
    s.notify(2, colleague, id, 1 << 4);
    s.delete(2, id);
    s.settle();
    s.block(0, 1, false);
    s.settle();
    assert_eq!((s.state(id), s.at_home(id)), (Vec::new(), State::Free));
    s.empty_guests(guests);
}

/// The packet that was passed on finds it gone: it has moved on meanwhile, twice perhaps, or it has ended.
#[test]
pub(super) fn what_finds_the_thread_gone_is_given_back() {
    for delete in [false, true] {
        for moves in 0..3 {
            let mut s = scene(4);
            let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
            assert_eq!(s.go(0, id, 1), 0);
            let friend = s.friend(3);
            let guests = s.fill_guests();
            match moves {
                0 => {
                    s.block(1, 0, true);
                    assert_eq!(s.control(1, &[thread_op::DELETE, id.0]), 0);
                }
                // It is on its way, and noted to be there; where it was has not heard that.
                _ => {
                    s.ask(1, id, 2);
                    s.hear(&[2, 1]);
                }
            }
            if delete {
                s.delete(3, id);
            } else {
                s.notify(3, friend, id, 1);
            }
            s.hear(&[0]);
            if moves == 2 {
                s.hear(&[1]);
                s.ask(2, id, 1);
                s.hear(&[1, 2]);
            }
            s.settle();
            s.block(1, 0, false);
            s.settle();
            if delete || moves == 0 {
                assert_eq!((s.state(id), s.at_home(id)), (Vec::new(), State::Free), "{delete} {moves}");
            } else {
                let at = if moves == 1 { 2 } else { 1 };
                assert_eq!((s.state(id), s.notified(at, id)), ([(at, State::Ready)].to_vec(), 1));
            }
            s.empty_guests(guests);
        }
    }
}

/// What reaches it in a cluster that it only passes through waits there for room to its birth cluster; and if that has stopped, goes after
/// it straight away.
#[test]
pub(super) fn what_waits_far_from_home_goes_there_first() {
    for (delete, stops) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut s = scene(4);
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        assert_eq!(s.go(0, id, 1), 0);
        let friend = s.friend(1);
        let guests = s.fill_guests();
        s.ask(1, id, 2);
        s.hear(&[2, 1, 0]);
        s.notify(1, friend, id, 0b11);
        if delete {
            s.delete(1, id);
        }
        s.block(1, 0, true);
        s.hear(&[1]);
        assert_eq!(s.state(id), [(2, State::Ready)]);
        let slots =
            |s: &Scene| s.w[1].threads.iter().filter(|t| t.id == id && t.state == State::Dying).count();
        assert_eq!(slots(&s), 1);
        let mut at = 2;
        if stops {
            s.w[0].park();
        } else if !delete {
            // It may come there again, and have two slots for a moment.
            assert_eq!(s.go(2, id, 1), 0);
            at = 1;
        }
        s.block(1, 0, stops);
        s.settle();
        assert_eq!(slots(&s), 0);
        match delete {
            true => assert_eq!(s.state(id), []),
            false => assert_eq!(s.notified(at, id), 0b11),
        }
        s.empty_guests(guests);
    }
}

/// The cluster that the thread is in stops.
#[test]
pub(super) fn nothing_waits_for_a_cluster_that_has_stopped() {
    let mut s = scene(2);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    assert_eq!(s.go(0, id, 1), 0);
    let friend = s.friend(0);
    s.block(0, 1, true);
    s.notify(0, friend, id, 1);
    assert_eq!(s.at_home(id), State::Passing);
    s.w[1].park();
    s.hear(&[0]);
    assert_eq!((s.at_home(id), s.w[0].peers[1].waiting.is_empty()), (State::Departed, true));
    assert_eq!(syscall(&mut s.w[0], friend, NOTIFY, &[id.0, 1])[0], Error::NodeDown.code());
    assert_eq!(s.control(0, &[thread_op::DELETE, id.0]), Error::NodeDown.code());
}

/// NOTIFY says whether bits are on their way, not whether they are taken; a message without waiting tells that.
#[test]
pub(super) fn who_notifies_into_the_void_can_ask() {
    let mut s = scene(2);
    let (_, me) = program(&mut s.w[0], 20);
    let (_, stranger) = program(&mut s.w[1], 21);
    let colleague = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    let gone = ThreadId::new(1, 60, 1);
    for (to, why) in
        [(stranger, Error::NotPermitted), (gone, Error::NoSuchThread), (colleague, Error::Timeout)]
    {
        s.notify(0, me, to, 4);
        s.settle();
        let ask = Ipc { wait: false, send_timeout: Timeout::ZERO, ..Ipc::send(to, 1, &[]) };
        ipc(&mut s.w[0], me, ask);
        s.settle();
        assert_eq!(outcome(&s.w[0], me).1.error(), Some(why));
    }
    assert_eq!((s.notified(1, stranger), s.notified(1, colleague)), (0, 4));
    assert!(s.w.iter().all(|k| k.guests.used() == 0));
}
