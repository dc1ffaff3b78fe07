//! Moves of one thread that follow each other so quickly that the clusters it has left hear of them late, or in another order.

use super::scene::{Scene, boss, scene};
use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::syscall::{THREAD_CONTROL, thread_op};
use skerry_abi::{Error, ThreadId, Timeout};

impl Scene {
    /// Lets these clusters, one after the other, handle what has arrived; the others hear nothing meanwhile.
    pub(super) fn hear(&mut self, clusters: &[usize]) {
        for &cluster in clusters {
            self.w[cluster].handle(Event::Kick);
            self.w[cluster].pick();
        }
    }
    /// A thread that was born in one cluster and has moved to another.
    fn traveller(&mut self, born: usize, at: usize) -> ThreadId {
        let id = thread(&mut self.w[born], self.spaces[born], 0, ThreadId::NIL);
        assert_eq!(self.go(born, id, at), 0);
        id
    }
    /// Everybody has heard everything: the thread is in this cluster, its birth cluster knows, and nobody else has anything of it.
    fn is_at(&mut self, id: ThreadId, at: usize, state: State) {
        self.settle();
        self.hear(&[0, 1, 2, 3][..self.w.len()]);
        self.settle();
        assert_eq!(self.state(id), [(at, state)]);
        let birth = usize::from(id.cluster());
        assert_eq!(self.w[birth].elsewhere(id), (birth != at).then_some(at));
    }
}

/// It is deleted, or its space is, while its birth cluster does not know yet where it is; it may even have moved on by then.
#[test]
pub(super) fn a_thread_deleted_while_its_place_is_noted_ends() {
    for (by_space, moves_on) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut s = scene(4);
        let id = s.traveller(0, 1);
        s.ask(1, id, 2);
        s.hear(&[2, 1]);
        if moves_on {
            s.ask(2, id, 3);
            s.hear(&[3, 2]);
        }
        if by_space {
            assert_eq!(s.w[1].destroy_space(s.spaces[1].slot()), Err(Error::WrongState));
        } else {
            let killer = boss(&mut s.w[1]);
            assert_eq!(syscall(&mut s.w[1], killer, THREAD_CONTROL, &[thread_op::DELETE, id.0])[0], 0);
        }
        s.settle();
        s.hear(&[0, 1, 2, 3]);
        s.settle();
        assert_eq!(s.state(id), [], "{by_space} {moves_on}");
        assert_eq!(Error::from_code(s.answer(1)), Error::NoSuchThread);
        assert_eq!(s.w[0].threads[usize::from(id.slot())].state, State::Free);
        assert_eq!(s.w[1].destroy_space(s.spaces[1].slot()), Ok(()));
        assert!(s.w.iter().all(|k| k.guests.used() == 0));
    }
}

/// It comes back to a cluster that it has not quite left: that would have it twice.
#[test]
pub(super) fn a_thread_does_not_come_back_before_it_has_left() {
    let mut s = scene(3);
    let id = s.traveller(0, 1);
    let old = s.spaces[1];
    s.ask(1, id, 2);
    s.hear(&[2, 1]);
    s.spaces[1] = s.w[1].create_space(20, false).unwrap();
    s.ask(2, id, 1);
    s.hear(&[1, 2]);
    assert_eq!(Error::from_code(s.answer(2)), Error::WrongState, "it may be tried again");
    s.is_at(id, 2, State::Ready);
    assert_eq!((s.answer(1), s.w[1].immigrants), (0, 0));
    assert_eq!(s.go(2, id, 1), 0);
    s.is_at(id, 1, State::Ready);
    assert_eq!(s.w[1].destroy_space(old.slot()), Ok(()));
}

/// It comes home, moves on, or ends, before its birth cluster has looked at the word that its first move is over.
#[test]
pub(super) fn news_of_later_moves_may_come_first() {
    let begin = || {
        let mut s = scene(4);
        let id = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
        s.ask(1, id, 3);
        s.hear(&[3]);
        s.ask(3, id, 2);
        s.hear(&[2, 3]);
        (s, id)
    };
    let (mut s, id) = begin();
    s.ask(2, id, 1);
    s.is_at(id, 1, State::Ready);
    assert_eq!([1, 2, 3].map(|c| s.answer(c)), [0; 3]);
    let (mut s, id) = begin();
    s.ask(2, id, 0);
    s.hear(&[0, 2]);
    s.is_at(id, 0, State::Ready);
    assert_eq!([1, 2, 3].map(|c| s.answer(c)), [0; 3]);
    let (mut s, id) = begin();
    assert_eq!(s.control(2, &[thread_op::DELETE, id.0]), 0);
    s.settle();
    assert_eq!(s.state(id), []);
    assert_eq!(s.w[1].threads[usize::from(id.slot())].state, State::Free);
}

/// What it waited for elsewhere has ended, but this cluster hears of its next wait first: it has two entries for a moment.
#[test]
fn it_waits_again_before_the_end_of_its_last_wait_is_known() {
    let mut s = scene(3);
    let partner = thread(&mut s.w[0], s.spaces[0], 8, ThreadId::NIL);
    let id = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    ipc(&mut s.w[1], id, Ipc::receive(partner));
    s.hear(&[0, 1]);
    ipc(&mut s.w[0], partner, Ipc::send(id, 1, &[]));
    // The word that the message has arrived stays where it is.
    s.hear(&[1]);
    s.ask(1, id, 2);
    s.hear(&[2]);
    ipc(&mut s.w[2], id, Ipc::receive(partner));
    s.w[0].poll_one(2);
    assert_eq!(s.w[0].guests.used(), 2);
    s.settle();
    assert_eq!((s.w[0].guests.used(), s.state(id)), (1, [(2, State::AwaitingResponse)].to_vec()));
    ipc(&mut s.w[0], partner, Ipc::send(id, 2, &[]));
    s.settle();
    assert_eq!((outcome(&s.w[2], id).1.label(), s.w[0].guests.used()), (2, 0));
}

/// The same, and a receiver has asked for its message where it was.
#[test]
fn it_calls_again_before_the_end_of_its_last_call_is_known() {
    let mut s = scene(3);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let server = thread(&mut s.w[1], s.spaces[1], 8, ThreadId::NIL);
    let call = || Ipc::call(server, 5, &[7]);
    ipc(&mut s.w[0], id, call());
    s.hear(&[1]);
    ipc(&mut s.w[1], server, Ipc::receive(ThreadId::ANY));
    assert_eq!(state(&s.w[1], server), State::Pulling);
    s.ask(0, id, 2);
    s.hear(&[0, 2]);
    ipc(&mut s.w[2], id, call());
    while s.w[1].poll_one(2) {}
    assert_eq!(s.w[1].guests.used(), 2);
    s.settle();
    assert_eq!((outcome(&s.w[1], server).0, s.w[1].guests.used()), (id, 1));
    ipc(&mut s.w[1], server, Ipc::reply_wait(id, 6, &[]));
    s.settle();
    assert_eq!((outcome(&s.w[2], id).1.label(), s.w[1].guests.used()), (6, 0));
}

/// A partner in its birth cluster talks to it while it comes home: the answer that it is gone is about where it was.
#[test]
pub(super) fn whom_one_talks_to_comes_home() {
    let mut s = scene(2);
    let id = s.traveller(0, 1);
    let caller = thread(&mut s.w[0], s.spaces[0], 8, ThreadId::NIL);
    let watcher = thread(&mut s.w[0], s.spaces[0], 9, ThreadId::NIL);
    s.ask(1, id, 0);
    ipc(&mut s.w[0], caller, Ipc::call(id, 5, &[]));
    ipc(&mut s.w[0], watcher, Ipc::receive(id));
    s.hear(&[0, 1, 0]);
    s.is_at(id, 0, State::Ready);
    assert_eq!((state(&s.w[0], caller), state(&s.w[0], watcher)), (State::Sending, State::Receiving));
    ipc(&mut s.w[0], id, Ipc::send(watcher, 6, &[]));
    ipc(&mut s.w[0], id, Ipc::receive(ThreadId::ANY));
    assert_eq!((outcome(&s.w[0], watcher).0, outcome(&s.w[0], watcher).1.label()), (id, 6));
    assert_eq!((outcome(&s.w[0], id).0, outcome(&s.w[0], id).1.label()), (caller, 5));
}

/// The same, while it moves on; and while it moves on and comes back, which its birth cluster hears before the answer.
#[test]
pub(super) fn whom_one_talks_to_is_away_for_a_moment() {
    for comes_back in [false, true] {
        let mut s = scene(3);
        let id = s.traveller(1, 2);
        let caller = thread(&mut s.w[1], s.spaces[1], 8, ThreadId::NIL);
        let watcher = thread(&mut s.w[1], s.spaces[1], 9, ThreadId::NIL);
        s.ask(2, id, 0);
        s.hear(&[0, 2]);
        ipc(&mut s.w[1], caller, Ipc::call(id, 5, &[]));
        ipc(&mut s.w[1], watcher, Ipc::receive(id));
        // The birth cluster has noted the place: the old one hears that first, then the requests.
        s.hear(&[1, 2]);
        if comes_back {
            s.ask(0, id, 2);
            s.hear(&[2, 0]);
        }
        let at = if comes_back { 2 } else { 0 };
        s.is_at(id, at, State::Ready);
        assert!([caller, watcher].iter().all(|&t| state(&s.w[1], t) == State::AwaitingResponse));
        ipc(&mut s.w[at], id, Ipc::send(watcher, 6, &[]));
        s.settle();
        ipc(&mut s.w[at], id, Ipc::receive(ThreadId::ANY));
        s.settle();
        assert_eq!((outcome(&s.w[1], watcher).0, outcome(&s.w[1], watcher).1.label()), (id, 6));
        assert_eq!((outcome(&s.w[at], id).0, outcome(&s.w[at], id).1.label()), (caller, 5));
    }
}

/// It is watched where it has not quite left, and by then it has come to the watcher, and sends.
#[test]
pub(super) fn whom_one_receives_from_comes_before_the_watch_is_in_place() {
    let mut s = scene(4);
    let id = s.traveller(3, 1);
    let receiver = thread(&mut s.w[0], s.spaces[0], 9, ThreadId::NIL);
    // So that the receiver's cluster looks for it where it still is.
    ipc(&mut s.w[0], receiver, Ipc { receive_timeout: Timeout(50), ..Ipc::receive(id) });
    s.settle();
    s.w[0].hal.now = 50;
    s.w[0].handle(Event::Tick);
    s.settle();
    s.ask(1, id, 2);
    s.hear(&[2, 1]);
    ipc(&mut s.w[0], receiver, Ipc::receive(id));
    s.ask(2, id, 0);
    s.hear(&[0]);
    ipc(&mut s.w[0], id, Ipc::call(receiver, 7, &[]));
    s.hear(&[1, 0]);
    s.settle();
    assert_eq!((outcome(&s.w[0], receiver).0, outcome(&s.w[0], receiver).1.label()), (id, 7));
    s.is_at(id, 0, State::Receiving);
    assert_eq!([1, 2].map(|c| s.answer(c)), [0; 2]);
}
