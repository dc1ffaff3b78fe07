//! What happens to a thread, and to those around it, while it moves.

use super::scene::{boss, scene};
use super::world::*;
use crate::kernel::Event;
use crate::ring::SLOTS;
use crate::thread::State;
use skerry_abi::syscall::{NOTIFY, THREAD_CONTROL, thread_op, thread_state};
use skerry_abi::{Error, ThreadId};
use std::vec;
use std::vec::Vec;

#[test]
pub(super) fn a_thread_deleted_in_transit_ends_and_strands_nobody() {
    // Before the destination has looked, after it, and while another cluster has to agree first.
    for steps in 0..3 {
        let mut s = scene(3);
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        let waits = thread(&mut s.w[0], s.spaces[0], 1, ThreadId::NIL);
        let far = thread(&mut s.w[2], s.spaces[2], 1, ThreadId::NIL);
        if steps == 2 {
            ipc(&mut s.w[0], id, Ipc::send(far, 1, &[]));
            s.settle();
        }
        ipc(&mut s.w[0], waits, Ipc::call(id, 1, &[]));
        s.ask(0, id, 1);
        if steps == 1 {
            s.w[1].handle(Event::Kick);
        }
        let killer = boss(&mut s.w[0]);
        let deleted = syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::DELETE, id.0])[0];
        assert_eq!(deleted, 0);
        let busy = syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::SUSPEND, id.0])[0];
        assert_eq!(busy, Error::WrongState.code());
        s.settle();
        for k in &mut s.w {
            k.pick();
        }
        s.settle();
        assert!(s.state(id).is_empty(), "{steps}");
        assert_eq!(Error::from_code(s.answer(0)), Error::NoSuchThread);
        assert_eq!(outcome(&s.w[0], waits).1.error(), Some(Error::NoSuchThread));
        assert_eq!(s.w[0].threads[usize::from(id.slot())].state, State::Free);
        assert!(s.w.iter().all(|k| k.guests.used() == 0));
    }
}

/// What reaches a thread while it moves goes after it, even if there is neither room in the ring nor an entry to wait for it.
#[test]
pub(super) fn nothing_that_comes_in_transit_needs_memory() {
    for (birth, delete) in [(0, false), (0, true), (2, false), (2, true)] {
        let mut s = scene(3);
        let id = thread(&mut s.w[birth], s.spaces[birth], 0, ThreadId::NIL);
        if birth != 0 {
            assert_eq!(s.go(birth, id, 0), 0);
        }
        let far = thread(&mut s.w[1], s.spaces[1], 1, ThreadId::NIL);
        let senders: Vec<_> =
            (1..=SLOTS as u16).map(|slot| thread(&mut s.w[0], s.spaces[0], slot, ThreadId::NIL)).collect();
        let friend = thread(&mut s.w[0], s.spaces[0], 30, ThreadId::NIL);
        let killer = boss(&mut s.w[0]);
        s.w[0].guests.fill();
        s.ask(0, id, 1);
        s.w[1].handle(Event::Kick);
        // It has arrived; before that is heard, the ring is filled again.
        for &sender in &senders {
            ipc(&mut s.w[0], sender, Ipc::send(far, 1, &[]));
        }
        assert!(s.w[0].is_full(1));
        assert_eq!(syscall(&mut s.w[0], friend, NOTIFY, &[id.0, 0b1001])[0], 0);
        if delete {
            let x = syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::DELETE, id.0]);
            assert_eq!(x[0], 0);
        }
        s.settle();
        if delete {
            assert!(s.state(id).is_empty());
            assert_eq!(s.answer(0), Error::NoSuchThread.code());
        } else {
            assert_eq!((s.answer(0), s.state(id)), (0, vec![(1, State::Ready)]));
            ipc(&mut s.w[1], id, Ipc::receive(ThreadId::ANY));
            assert_eq!(outcome(&s.w[1], id).2, [0b1001]);
        }
    }
}

/// In the time between its arrival and the note to its birth cluster.
#[test]
pub(super) fn a_thread_deleted_while_its_place_is_noted_ends() {
    let mut s = scene(3);
    let id = thread(&mut s.w[2], s.spaces[2], 0, ThreadId::NIL);
    assert_eq!(s.go(2, id, 0), 0);
    s.ask(0, id, 1);
    s.w[1].handle(Event::Kick);
    s.w[0].handle(Event::Kick);
    assert_eq!(s.state(id), [(0, State::Moving), (1, State::Ready)]);
    let killer = boss(&mut s.w[0]);
    assert_eq!(syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::DELETE, id.0])[0], 0);
    s.settle();
    assert!(s.state(id).is_empty());
    assert_eq!(s.answer(0), Error::NoSuchThread.code());
}

#[test]
pub(super) fn the_end_of_the_caller_does_not_stop_the_journey() {
    let mut s = scene(2);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    s.ask(0, id, 1);
    let killer = boss(&mut s.w[0]);
    let asked = s.bosses[0];
    let told = syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::EXCHANGE, asked.0])[3];
    assert_eq!(told, thread_state::CONTROLLING);
    syscall(&mut s.w[0], killer, THREAD_CONTROL, &[thread_op::DELETE, asked.0]);
    s.settle();
    assert_eq!(s.state(id), [(1, State::Ready)]);
}

#[test]
pub(super) fn a_space_ends_after_those_that_are_leaving_it() {
    let mut s = scene(2);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    s.ask(0, id, 1);
    assert_eq!(s.w[0].destroy_space(s.spaces[0].slot()), Err(Error::WrongState));
    s.settle();
    assert!(s.state(id).is_empty(), "it was to end with its space");
    assert_eq!(s.w[0].destroy_space(s.spaces[0].slot()), Ok(()));
}
