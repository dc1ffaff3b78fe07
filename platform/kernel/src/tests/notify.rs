use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::message::{EXCEPTION_WORDS, kernel_label};
use skerry_abi::syscall::{NOTIFY, exit};
use skerry_abi::{Error, Rights, Tag, ThreadId, Timeout};
use std::vec;
use std::vec::Vec;

const BITS: Tag = Tag::new(kernel_label::NOTIFICATION, 1, 0);

fn notify(k: &mut TestKernel, from: ThreadId, to: ThreadId, bits: u64) -> u64 {
    syscall(k, from, NOTIFY, &[to.0, bits])[0]
}

#[test]
fn notifications_run_together_until_they_are_received() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let (_, c) = program(k, 20);
    for (from, bits) in [(a, 1), (c, 4), (a, 1 << 63)] {
        assert_eq!(notify(k, from, b, bits), 0);
    }
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    assert_eq!(outcome(k, b), (ThreadId::NIL, BITS, vec![1 | 4 | 1 << 63]));
    // Each bit is received once.
    let poll = || Ipc { receive_timeout: Timeout::ZERO, ..Ipc::receive(ThreadId::ANY) };
    ipc(k, b, poll());
    assert_eq!(outcome(k, b).1.error(), Some(Error::Timeout));
}

#[test]
fn a_notification_wakes_whoever_waits_for_it_and_nobody_else() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, open) = program(k, 20);
    let (_, own) = program(k, 20);
    let (_, closed) = program(k, 20);
    ipc(k, open, Ipc::receive(ThreadId::ANY));
    ipc(k, own, Ipc::receive(own));
    ipc(k, closed, Ipc::receive(a));
    // A message does not end a receive from oneself.
    assert_eq!(notify(k, a, own, 0), 0);
    assert_eq!(state(k, own), State::Receiving, "no bits, no news");
    for to in [open, own, closed] {
        assert_eq!(notify(k, a, to, 2), 0);
    }
    assert_eq!(outcome(k, open).2, [2]);
    assert_eq!(outcome(k, own).2, [2]);
    assert_eq!(state(k, closed), State::Receiving);
    ipc(k, a, Ipc::send(closed, 9, &[]));
    assert_eq!(outcome(k, closed).1.label(), 9);
    ipc(k, closed, Ipc::receive(closed));
    assert_eq!(outcome(k, closed).2, [2]);
}

#[test]
fn notifications_come_before_messages_and_queue_nobody() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, server) = program(k, 20);
    let (_, client) = program(k, 20);
    ipc(k, client, Ipc::call(server, 1, &[]));
    assert_eq!(notify(k, server, server, 8), 0);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    assert_eq!(outcome(k, server).1, BITS);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    assert_eq!(outcome(k, server).0, client);
    // A reply goes out although the notification ends the receive phase at once.
    assert_eq!(notify(k, server, server, 16), 0);
    ipc(k, server, Ipc::reply_wait(client, 2, &[]));
    assert_eq!((outcome(k, client).1.label(), outcome(k, server).2), (2, vec![16]));
}

#[test]
fn notifying_takes_the_permission_of_sending() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 21);
    assert_eq!(notify(k, a, b, 1), Error::NotPermitted.code());
    assert_eq!(notify(k, a, ThreadId::new(0, 60, 1), 1), Error::NoSuchThread.code());
    assert_eq!(notify(k, a, ThreadId::ANY, 1), Error::BadArgument.code());
    assert_eq!(notify(k, a, ThreadId::NIL, 1), Error::BadArgument.code());
    let space = k.thread(k.find(a).unwrap()).space;
    k.spaces[usize::from(space)].grant_partner(b).unwrap();
    assert_eq!(notify(k, a, b, 1), 0);
    // A caller may be notified by those who owe it a reply.
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    ipc(k, a, Ipc::call(b, 1, &[]));
    assert_eq!(notify(k, b, a, 1), 0);
    ipc(k, b, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(a, 2, &[]) });
    assert_eq!(outcome(k, a).1.label(), 2);
    assert_eq!(notify(k, b, a, 2), Error::NotPermitted.code());
}

#[test]
fn only_the_kernel_speaks_with_its_labels() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    for label in [kernel_label::PAGE_FAULT, kernel_label::EXCEPTION, kernel_label::NOTIFICATION] {
        ipc(k, a, Ipc::send(b, label, &[1]));
        assert_eq!(outcome(k, a).1.error(), Some(Error::BadArgument));
    }
    assert_eq!(state(k, b), State::Receiving);
}

#[test]
fn an_exception_is_resumed_where_the_handler_says() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, handler) = program(k, 2);
    let space = k.create_space(20, false).unwrap();
    let client = thread(k, space, 0, handler);
    let t = k.find(client).unwrap();
    let answers: [(usize, bool); 3] = [(EXCEPTION_WORDS, true), (EXCEPTION_WORDS - 1, false), (0, false)];
    for (words, changes) in answers {
        ipc(k, handler, Ipc::receive(ThreadId::ANY));
        run(k, client);
        k.thread_mut(t).context.x[7] = 77;
        k.thread_mut(t).context.pstate = 0x3c5;
        let before = k.thread(t).context;
        k.handle(Event::Exception { esr: 5, far: 6 });
        k.pick();
        let (from, tag, got) = outcome(k, handler);
        assert_eq!((from, tag), (client, Tag::new(kernel_label::EXCEPTION, EXCEPTION_WORDS, 0)));
        assert_eq!(got[..6], [5, 6, before.pc, before.sp, 0x3c5, before.x[0]]);
        let mut registers: Vec<u64> = (100..100 + words as u64).collect();
        if let Some(pstate) = registers.get_mut(4) {
            *pstate = u64::MAX;
        }
        ipc(k, handler, Ipc::send(client, kernel_label::RESUME_WITH, &registers));
        assert_eq!(state(k, client), State::Ready);
        let after = k.thread(t).context;
        if changes {
            assert_eq!((after.pc, after.sp, after.pstate), (102, 103, 0xf000_03c5));
            assert_eq!(after.x, core::array::from_fn(|i| 105 + i as u64));
        } else {
            assert_eq!((after.pc, after.sp, after.x), (before.pc, before.sp, before.x));
        }
    }
}

#[test]
fn whoever_answers_too_late_is_told_that_nobody_waits() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (server_space, server) = program(k, 3);
    let (_, client) = program(k, 20);
    let client_space = k.thread(k.find(client).unwrap()).space;
    k.spaces[usize::from(client_space)].grant_partner(server).unwrap();
    let reply = |k: &mut TestKernel| {
        ipc(k, server, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(client, 0, &[]) });
        outcome(k, server).1.error()
    };
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc { receive_timeout: Timeout(50), ..Ipc::call(server, 1, &[]) });
    k.hal.now = 50;
    k.handle(Event::Tick);
    assert!(outcome(k, client).1.receive_failed());
    assert_eq!(reply(k), Some(Error::NotWaiting), "out of patience");
    assert_eq!(reply(k), Some(Error::NotWaiting));
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(server, 1, &[]));
    let colleague = thread(k, server_space, 1, ThreadId::NIL);
    ipc(k, colleague, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(client, 0, &[]) });
    assert_eq!(outcome(k, colleague).1.error(), None);
    assert_eq!(reply(k), Some(Error::NotWaiting), "answered already");
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(server, 1, &[]));
    k.delete_thread(k.find(client).unwrap()).unwrap();
    assert_eq!(reply(k), Some(Error::NotWaiting), "deleted");
}

#[test]
fn receiving_from_a_dead_thread_fails_at_once() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    k.delete_thread(k.find(b).unwrap()).unwrap();
    ipc(k, a, Ipc::receive(b));
    let (_, tag, _) = outcome(k, a);
    assert_eq!((tag.error(), tag.receive_failed()), (Some(Error::NoSuchThread), true));
}

#[test]
fn a_pager_that_faults_on_itself_stops_and_a_root_pager_ends_the_run() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let fault = Event::PageFault { address: 0x70_0000, access: Rights::R, esr: 0 };
    // Ids are no secret: a privileged thread can name a thread as its own pager.
    let (_, before) = program(k, 20);
    k.delete_thread(k.find(before).unwrap()).unwrap();
    let itself = ThreadId::new(0, before.slot(), before.generation() + 1);
    let space = k.create_space(20, false).unwrap();
    let pager = thread(k, space, 0, itself);
    assert_eq!(pager, itself);
    run(k, pager);
    k.handle(fault);
    assert_eq!(state(k, pager), State::Halted, "nobody will answer, nobody is disturbed");
    // With a handler that is somebody else, that one hears of it.
    let (_, handler) = program(k, 20);
    ipc(k, handler, Ipc::receive(ThreadId::ANY));
    let t = k.find(pager).unwrap();
    k.thread_mut(t).handler = handler;
    k.make_ready(t);
    run(k, pager);
    k.handle(fault);
    assert_eq!((outcome(k, handler).0, outcome(k, handler).1.label()), (pager, kernel_label::EXCEPTION));
    let root = k.create_space(1, true).unwrap();
    let root = thread(k, root, 0, ThreadId::NIL);
    run(k, root);
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| k.handle(fault)));
    assert_eq!(end.unwrap_err().downcast_ref(), Some(&Ended(exit::SERVER_FAULT)));
}

#[test]
fn nothing_is_sent_to_nobody_or_in_more_words_than_there_are() {
    let mut w = world(2, 1);
    let (_, a) = program(&mut w[0], 20);
    let (_, near) = program(&mut w[0], 20);
    let (_, far) = program(&mut w[1], 20);
    for to in [near, far] {
        for tag in [Tag::new(1, 63, 2), Tag::new(1, 0, 63), Tag::new(1, 3, 5)] {
            ipc(&mut w[0], a, Ipc { tag, ..Ipc::send(to, 1, &[]) });
            assert_eq!(outcome(&w[0], a).1.error(), Some(Error::BadArgument), "{tag:?}");
        }
        ipc(&mut w[0], a, Ipc::send(to, kernel_label::EXCEPTION, &[]));
        assert_eq!(outcome(&w[0], a).1.error(), Some(Error::BadArgument));
    }
    ipc(&mut w[0], a, Ipc::send(ThreadId::ANY, 1, &[]));
    assert_eq!(outcome(&w[0], a).1.error(), Some(Error::BadArgument));
    // Neither phase: nothing happens.
    ipc(&mut w[0], a, Ipc::default());
    assert_eq!(outcome(&w[0], a), (ThreadId::NIL, Tag(0), vec![]));
}
