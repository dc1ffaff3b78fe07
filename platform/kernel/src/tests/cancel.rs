//! The end of waits between clusters: deadlines, deletion, clusters that stop, full rings.

use super::remote::assert_quiet;
use super::world::*;
use crate::kernel::Event;
use crate::remote::{Ending, MAX_NOTES};
use crate::ring::{Lane, SLOTS};
use crate::thread::State;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::{NOTIFY, SYSTEM_EXIT, THREAD_CONTROL, exit, thread_op};
use skerry_abi::{Error, Tag, ThreadId, Timeout};
use std::vec;
use std::vec::Vec;

pub(super) fn time_is(w: &mut [TestKernel], now: u64) {
    for k in w.iter_mut() {
        k.hal.now = now;
        k.handle(Event::Tick);
    }
    settle(w);
}

pub(super) fn delete(k: &mut TestKernel, id: ThreadId) {
    k.delete_thread(k.find(id).unwrap()).unwrap();
}

/// A client in cluster 0 and a server in cluster 1, of one domain.
pub(super) fn pair() -> (Vec<TestKernel<'static>>, ThreadId, ThreadId) {
    let mut w = world(2, 1);
    let (_, client) = program(&mut w[0], 20);
    let (_, server) = program(&mut w[1], 20);
    (w, client, server)
}

pub(super) fn until(send: u64, receive: Timeout, call: Ipc) -> Ipc {
    Ipc { wait: false, send_timeout: Timeout(send), receive_timeout: receive, ..call }
}

#[test]
pub(super) fn a_queued_send_ends_at_its_deadline_and_the_message_never_arrives() {
    let (mut w, client, server) = pair();
    ipc(&mut w[0], client, until(50, Timeout::NEVER, Ipc::call(server, 1, &[7])));
    settle(&mut w);
    time_is(&mut w, 49);
    assert_eq!(state(&w[0], client), State::AwaitingResponse);
    time_is(&mut w, 50);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::Timeout), false));
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    settle(&mut w);
    assert_eq!(state(&w[1], server), State::Receiving);
    assert_quiet(&w);
}

#[test]
pub(super) fn a_call_that_was_delivered_in_time_is_not_hurt_by_its_send_deadline() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, until(50, Timeout(90), Ipc::call(server, 1, &[7])));
    settle(&mut w);
    time_is(&mut w, 60);
    assert_eq!(state(&w[0], client), State::AwaitingResponse);
    ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[8]));
    settle(&mut w);
    assert_eq!(outcome(&w[0], client), (server, Tag::new(2, 1, 0), vec![8]));
    // The second time nobody answers: the deadline of the receive phase ends it, and the answer comes too late.
    ipc(&mut w[0], client, until(100, Timeout(150), Ipc::call(server, 1, &[7])));
    settle(&mut w);
    time_is(&mut w, 120);
    assert_eq!(state(&w[0], client), State::AwaitingResponse);
    time_is(&mut w, 150);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::Timeout), true));
    ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[8]));
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).1.error(), Some(Error::NotWaiting));
    assert_quiet(&w);
}

#[test]
pub(super) fn the_receive_deadline_does_not_end_an_endless_send_phase() {
    let (mut w, client, server) = pair();
    ipc(&mut w[0], client, Ipc { receive_timeout: Timeout(50), ..Ipc::call(server, 1, &[7]) });
    settle(&mut w);
    time_is(&mut w, 60);
    assert_eq!(state(&w[0], client), State::AwaitingResponse);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).2, [7]);
    time_is(&mut w, 61);
    assert!(outcome(&w[0], client).1.receive_failed());
    assert_quiet(&w);
}

#[test]
pub(super) fn an_answer_that_crosses_the_cancel_counts() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, until(10, Timeout(50), Ipc::call(server, 1, &[7])));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[8]));
    assert_eq!(state(&w[1], server), State::Receiving, "the server does not wait for the other cluster");
    w[0].hal.now = 50;
    w[0].handle(Event::Tick);
    settle(&mut w);
    assert_eq!(outcome(&w[0], client), (server, Tag::new(2, 1, 0), vec![8]));
    assert_quiet(&w);
}

#[test]
pub(super) fn a_pull_that_crosses_the_cancel_finds_nobody() {
    let (mut w, client, server) = pair();
    let (_, other) = program(&mut w[0], 20);
    ipc(&mut w[0], client, until(50, Timeout::NEVER, Ipc::call(server, 1, &[7])));
    ipc(&mut w[0], other, Ipc::send(server, 2, &[8]));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    assert_eq!(state(&w[1], server), State::Pulling);
    w[0].hal.now = 50;
    w[0].handle(Event::Tick);
    settle(&mut w);
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::Timeout));
    assert_eq!(outcome(&w[1], server).2, [8]);
    assert_quiet(&w);
}

#[test]
pub(super) fn a_killed_sender_is_gone_when_the_other_cluster_has_agreed_and_only_once() {
    for deliver_first in [false, true] {
        let (mut w, client, server) = pair();
        ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
        settle(&mut w);
        if deliver_first {
            ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
            settle(&mut w);
        }
        delete(&mut w[0], client);
        delete(&mut w[0], client);
        assert_eq!(state(&w[0], client), State::AwaitingResponse);
        settle(&mut w);
        assert_eq!(state(&w[0], client), State::Free);
        if deliver_first {
            ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[8]));
            settle(&mut w);
            assert_eq!(outcome(&w[1], server).1.error(), Some(Error::NotWaiting));
        }
        assert_quiet(&w);
    }
}

#[test]
pub(super) fn a_receiver_killed_while_it_pulls_strands_nobody() {
    let (mut w, client, server) = pair();
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    delete(&mut w[1], server);
    settle(&mut w);
    assert_eq!(state(&w[1], server), State::Free);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::Cancelled), true));
    assert_quiet(&w);
}

#[test]
pub(super) fn remote_callers_are_told_when_the_last_thread_that_could_answer_ends() {
    let (mut w, client, server) = pair();
    let space = w[1].thread(w[1].find(server).unwrap()).space;
    let space = w[1].spaces[usize::from(space)].id;
    let colleague = thread(&mut w[1], space, 1, ThreadId::NIL);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    delete(&mut w[1], server);
    settle(&mut w);
    assert_eq!(state(&w[0], client), State::AwaitingResponse, "the colleague may answer");
    delete(&mut w[1], colleague);
    settle(&mut w);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::Cancelled), true));
    assert_quiet(&w);
}

#[test]
pub(super) fn a_colleague_may_answer_a_remote_call() {
    let (mut w, client, server) = pair();
    let space = w[1].thread(w[1].find(server).unwrap()).space;
    let space = w[1].spaces[usize::from(space)].id;
    let colleague = thread(&mut w[1], space, 1, ThreadId::NIL);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    ipc(&mut w[1], colleague, Ipc::send(client, 2, &[9]));
    settle(&mut w);
    assert_eq!(outcome(&w[0], client), (colleague, Tag::new(2, 1, 0), vec![9]));
    assert_quiet(&w);
}

#[test]
pub(super) fn a_closed_receive_from_another_cluster_ends_with_its_partner() {
    let (mut w, client, server) = pair();
    // It never was.
    ipc(&mut w[0], client, Ipc::receive(ThreadId::new(1, 50, 1)));
    settle(&mut w);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::NoSuchThread), true));
    // It sends.
    ipc(&mut w[0], client, Ipc::receive(server));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc::send(client, 3, &[4]));
    settle(&mut w);
    assert_eq!(outcome(&w[0], client).2, [4]);
    assert_quiet(&w);
    // It calls.
    ipc(&mut w[0], client, Ipc::receive(server));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc::call(client, 3, &[4]));
    settle(&mut w);
    ipc(&mut w[0], client, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(server, 5, &[]) });
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).1.label(), 5);
    assert_quiet(&w);
    // It takes too long.
    ipc(&mut w[0], client, Ipc { receive_timeout: Timeout(50), ..Ipc::receive(server) });
    settle(&mut w);
    time_is(&mut w, 50);
    assert!(outcome(&w[0], client).1.receive_failed());
    assert_quiet(&w);
    // It ends.
    ipc(&mut w[0], client, Ipc::receive(server));
    settle(&mut w);
    delete(&mut w[1], server);
    settle(&mut w);
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::Cancelled));
    assert_quiet(&w);
}

#[test]
pub(super) fn a_thread_may_be_made_to_start_its_send_again() {
    let (mut w, client, server) = pair();
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    let t = w[0].find(client).unwrap();
    let pc = w[0].thread(t).context.pc;
    w[0].cancel_remote(t, Ending::Restart);
    settle(&mut w);
    assert_eq!((state(&w[0], client), w[0].thread(t).context.pc), (State::Ready, pc - 4));
    assert_eq!(w[0].thread(t).context.x[..4], [server.0, server.0, Tag::new(1, 1, 0).0, 7]);
    assert_quiet(&w);
    // Delivered, but not answered: doing it again would deliver it twice.
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    w[0].cancel_remote(t, Ending::Restart);
    settle(&mut w);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::Cancelled), true));
    assert_quiet(&w);
}

/// Lets `n` threads of cluster 0 do `call` and nobody look.
pub(super) fn crowd(w: &mut [TestKernel], n: u16, call: impl Fn(u64) -> Ipc) -> Vec<ThreadId> {
    let space = w[0].create_space(20, false).unwrap();
    let all: Vec<_> = (0..n).map(|slot| thread(&mut w[0], space, slot, ThreadId::NIL)).collect();
    for (i, &id) in all.iter().enumerate() {
        ipc(&mut w[0], id, call(i as u64));
    }
    all
}

#[test]
pub(super) fn full_rings_in_both_directions_drain() {
    let (mut w, client, server) = pair();
    let n = 2 * SLOTS as u16 + 5;
    let there = crowd(&mut w, n, |i| Ipc::call(server, 1, &[i]));
    assert_eq!(w[0].peers[1].outbound.unwrap().unconsumed(Lane::Requests), SLOTS);
    let waiting = there.iter().filter(|&&id| state(&w[0], id) == State::AwaitingCredit).count();
    assert_eq!(waiting, usize::from(n) - SLOTS as usize);
    // The other way, while nobody looks either.
    let space = w[1].create_space(20, false).unwrap();
    let back: Vec<_> = (0..n).map(|slot| thread(&mut w[1], space, slot, ThreadId::NIL)).collect();
    for &id in &back {
        ipc(&mut w[1], id, Ipc::call(client, 1, &[]));
    }
    settle(&mut w);
    for (cluster, one, senders) in [(1, server, &there), (0, client, &back)] {
        ipc(&mut w[cluster], one, Ipc::receive(ThreadId::ANY));
        for _ in senders {
            settle(&mut w);
            let from = outcome(&w[cluster], one).0;
            ipc(&mut w[cluster], one, Ipc::reply_wait(from, 2, &[]));
        }
        settle(&mut w);
        assert!(senders.iter().all(|&id| outcome(&w[1 - cluster], id).1.label() == 2));
    }
    assert_quiet(&w);
}

#[test]
pub(super) fn a_thread_that_waits_for_room_times_out_or_dies_at_once() {
    let (mut w, client, server) = pair();
    crowd(&mut w, SLOTS as u16, |_| Ipc::send(server, 1, &[]));
    ipc(&mut w[0], client, until(50, Timeout::NEVER, Ipc::call(server, 1, &[7])));
    assert_eq!(state(&w[0], client), State::AwaitingCredit);
    w[0].hal.now = 50;
    w[0].handle(Event::Tick);
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::Timeout));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    delete(&mut w[0], client);
    assert_eq!(state(&w[0], client), State::Free);
}

#[test]
pub(super) fn a_receiver_killed_before_its_pull_left_gives_the_guest_back() {
    let (mut w, client, server) = pair();
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    // No room from 1 to 0.
    let space = w[1].create_space(20, false).unwrap();
    for slot in 0..SLOTS as u16 {
        let id = thread(&mut w[1], space, slot, ThreadId::NIL);
        ipc(&mut w[1], id, Ipc::send(client, 1, &[]));
    }
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    assert_eq!(state(&w[1], server), State::AwaitingCredit);
    delete(&mut w[1], server);
    assert_eq!(state(&w[1], server), State::Free);
    settle(&mut w);
    let tag = outcome(&w[0], client).1;
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::NoSuchThread), false));
}

#[test]
pub(super) fn a_reply_that_waits_for_room_may_come_too_late() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, Ipc { receive_timeout: Timeout(50), ..Ipc::call(server, 1, &[7]) });
    settle(&mut w);
    let space = w[1].create_space(20, false).unwrap();
    for slot in 0..SLOTS as u16 {
        let id = thread(&mut w[1], space, slot, ThreadId::NIL);
        ipc(&mut w[1], id, Ipc::send(client, 1, &[]));
    }
    ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[8]));
    assert_eq!(state(&w[1], server), State::AwaitingCredit);
    // The client gives up; its cancel is looked at before there is room.
    w[0].hal.now = 50;
    w[0].handle(Event::Tick);
    w[1].handle(Event::Kick);
    settle(&mut w);
    assert!(outcome(&w[0], client).1.receive_failed());
    assert_eq!(outcome(&w[1], server).1.error(), Some(Error::NotWaiting));
}

#[test]
pub(super) fn notifications_cross_without_waiting_and_run_together_when_there_is_no_room() {
    let (mut w, client, server) = pair();
    let notify =
        |w: &mut [TestKernel], to: ThreadId, bits| syscall(&mut w[0], client, NOTIFY, &[to.0, bits])[0];
    assert_eq!(notify(&mut w, server, 1), 0);
    settle(&mut w);
    crowd(&mut w, SLOTS as u16, |_| Ipc::send(ThreadId::root(1), 1, &[]));
    let (_, second) = program(&mut w[1], 20);
    for bit in 1..40 {
        assert_eq!(notify(&mut w, server, 1 << bit), 0);
        assert_eq!(notify(&mut w, second, 2 << bit), 0);
    }
    assert_eq!(w[0].guests.used(), 2, "one entry per receiver");
    settle(&mut w);
    for (id, bits) in [(server, (1 << 40) - 1), (second, (1 << 41) - 4)] {
        ipc(&mut w[1], id, Ipc::receive(ThreadId::ANY));
        let (from, tag, words) = outcome(&w[1], id);
        assert_eq!((from, tag.label(), words), (ThreadId::NIL, kernel_label::NOTIFICATION, vec![bits]));
    }
    assert_eq!(w[0].guests.used(), 0);
    // Strangers are not heard.
    let (_, stranger) = program(&mut w[1], 21);
    assert_eq!(notify(&mut w, stranger, 1), 0);
    settle(&mut w);
    assert_eq!(w[1].thread(w[1].find(stranger).unwrap()).notified, 0);
    assert_eq!(notify(&mut w, ThreadId::new(9, 0, 1), 1), Error::NoSuchThread.code());
}

/// Any thread can invent names of threads in other clusters.
#[test]
pub(super) fn no_space_fills_the_table_with_notifications() {
    let (mut w, flooder, server) = pair();
    let (_, other) = program(&mut w[0], 20);
    let notify = |w: &mut [TestKernel], from, to: ThreadId| syscall(&mut w[0], from, NOTIFY, &[to.0, 1])[0];
    for _ in 0..3 {
        crowd(&mut w, SLOTS as u16, |_| Ipc::send(ThreadId::root(1), 1, &[]));
        let told: Vec<_> = (0..200).map(|n| notify(&mut w, flooder, ThreadId::new(1, n, 9))).collect();
        assert_eq!(told.iter().filter(|&&x0| x0 == 0).count(), usize::from(MAX_NOTES));
        assert!(told[usize::from(MAX_NOTES)..].iter().all(|&x0| x0 == Error::Timeout.code()));
        assert_eq!(w[0].guests.used(), u32::from(MAX_NOTES));
        // Others have their share, and more bits for the same thread need none.
        assert_eq!(notify(&mut w, other, server), 0);
        assert_eq!(notify(&mut w, flooder, ThreadId::new(1, 0, 9)), 0);
        settle(&mut w);
        assert_eq!((w[0].guests.used(), notify(&mut w, flooder, server)), (0, 0));
        settle(&mut w);
        ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        assert_eq!(outcome(&w[1], server).2, [1]);
    }
}

#[test]
pub(super) fn notifications_that_wait_for_a_cluster_that_stops_are_off_the_account() {
    let (mut w, client, _) = pair();
    crowd(&mut w, SLOTS as u16, |_| Ipc::send(ThreadId::root(1), 1, &[]));
    for n in 0..MAX_NOTES {
        assert_eq!(syscall(&mut w[0], client, NOTIFY, &[ThreadId::new(1, n.into(), 9).0, 1])[0], 0);
    }
    let space = usize::from(w[0].thread(w[0].find(client).unwrap()).space);
    assert_eq!(w[0].spaces[space].notes, MAX_NOTES);
    w[1].park();
    settle(&mut w);
    assert_eq!((w[0].spaces[space].notes, w[0].guests.used()), (0, 0));
}

#[test]
pub(super) fn deleting_a_thread_elsewhere_succeeds_or_says_that_it_does_not() {
    let (mut w, client, server) = pair();
    let space = w[0].create_space(1, true).unwrap();
    let boss = thread(&mut w[0], space, 0, ThreadId::NIL);
    let delete = |w: &mut [TestKernel], id: ThreadId| {
        syscall(&mut w[0], boss, THREAD_CONTROL, &[thread_op::DELETE, id.0])[0]
    };
    crowd(&mut w, SLOTS as u16, |_| Ipc::send(ThreadId::root(1), 1, &[]));
    w[0].guests.fill();
    assert_eq!(delete(&mut w, server), Error::OutOfKernelMemory.code());
    settle(&mut w);
    assert_eq!(state(&w[1], server), State::Ready);
    // Room in the ring is enough.
    assert_eq!(delete(&mut w, server), 0);
    settle(&mut w);
    assert_eq!((state(&w[1], server), state(&w[0], client)), (State::Free, State::Ready));
}

#[test]
pub(super) fn a_parked_cluster_is_told_to_all_who_wait_for_it() {
    let (mut w, queued, server) = pair();
    let (_, called) = program(&mut w[1], 20);
    let (_, caller) = program(&mut w[0], 20);
    let (_, watcher) = program(&mut w[0], 20);
    let (_, receiver) = program(&mut w[0], 20);
    let (_, orphan) = program(&mut w[1], 20);
    let root = w[1].create_space(1, true).unwrap();
    let root = thread(&mut w[1], root, 0, ThreadId::NIL);
    ipc(&mut w[1], called, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], caller, Ipc::call(called, 1, &[]));
    ipc(&mut w[0], queued, Ipc::call(server, 1, &[]));
    ipc(&mut w[0], watcher, Ipc::receive(server));
    ipc(&mut w[1], orphan, Ipc::call(receiver, 1, &[]));
    settle(&mut w);
    let many = crowd(&mut w, 30, |_| Ipc::send(server, 1, &[]));
    syscall(&mut w[1], root, SYSTEM_EXIT, &[exit::PARK_CLUSTER]);
    assert_eq!(w[1].pick(), None);
    for _ in 0..10 {
        w[0].handle(Event::Kick);
    }
    let error = |id| (outcome(&w[0], id).1.error(), outcome(&w[0], id).1.receive_failed());
    for id in many.into_iter().chain([queued, caller]) {
        assert_eq!(error(id).0, Some(Error::NodeDown));
    }
    assert_eq!(error(watcher), (Some(Error::NodeDown), true));
    // From now on at once; and what it had sent before is not asked for.
    ipc(&mut w[0], caller, Ipc::call(called, 1, &[]));
    assert_eq!(outcome(&w[0], caller).1.error(), Some(Error::NodeDown));
    assert_eq!(syscall(&mut w[0], queued, NOTIFY, &[server.0, 1])[0], Error::NodeDown.code());
    ipc(&mut w[0], receiver, Ipc::receive(ThreadId::ANY));
    assert_eq!(state(&w[0], receiver), State::Receiving);
    assert_eq!(w[0].guests.used(), 0);
}

#[test]
pub(super) fn only_privileged_threads_park_a_cluster() {
    let (mut w, client, _) = pair();
    let told = syscall(&mut w[0], client, SYSTEM_EXIT, &[exit::PARK_CLUSTER])[0];
    assert_eq!(told, Error::NotPrivileged.code());
}

#[test]
pub(super) fn an_entry_for_the_answer_is_needed_before_a_call_is_taken() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    w[1].guests.fill();
    ipc(&mut w[0], client, Ipc::call(server, 1, &[7]));
    settle(&mut w);
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::OutOfKernelMemory));
    assert_eq!(state(&w[1], server), State::Receiving);
}

/// A cluster answers and stops while another one is at the end of looking at its packets.
#[test]
fn an_answer_that_comes_right_before_the_end_of_a_cluster_counts() {
    let (mut w, client, server) = pair();
    let root = w[1].create_space(1, true).unwrap();
    let root = thread(&mut w[1], root, 0, ThreadId::NIL);
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[]));
    settle(&mut w);
    ipc(&mut w[1], server, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(client, 7, &[]) });
    syscall(&mut w[1], root, SYSTEM_EXIT, &[exit::PARK_CLUSTER]);
    assert_eq!(w[1].pick(), None);
    w[0].polled(1);
    assert_eq!(state(&w[0], client), State::AwaitingResponse, "not heard of yet");
    for _ in 0..4 {
        w[0].handle(Event::Kick);
    }
    assert_eq!((outcome(&w[0], client).1.error(), outcome(&w[0], client).1.label()), (None, 7));
    ipc(&mut w[0], client, Ipc::call(server, 1, &[]));
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::NodeDown));
}
