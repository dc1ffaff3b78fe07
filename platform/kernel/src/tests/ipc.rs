use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::syscall::{IPC, SPACE_CONTROL, THREAD_CONTROL, UNMAP};
use skerry_abi::{Error, Tag, ThreadId, Timeout};
use std::vec;
use std::vec::Vec;

#[test]
fn a_call_is_answered_once() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, client) = program(k, 20);
    let (server_space, server) = program(k, 20);
    let colleague = thread(k, server_space, 1, ThreadId::NIL);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    let words: Vec<u64> = (1..=63).collect();
    ipc(k, client, Ipc::call(server, 7, &words));
    let (from, tag, got) = outcome(k, server);
    assert_eq!((from, tag.label(), got), (client, 7, words));
    assert_eq!(state(k, client), State::Receiving);
    // Any thread of the server's space may answer, but only once.
    ipc(k, colleague, Ipc::send(client, 8, &[42]));
    assert_eq!(outcome(k, client), (colleague, Tag::new(8, 1, 0), vec![42]));
    ipc(k, client, Ipc::receive(ThreadId::ANY));
    assert!(!k.thread(k.find(client).unwrap()).awaits_reply_of(server_space));
}

#[test]
fn a_reply_right_is_needed_across_domains() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, client) = program(k, 20);
    let (server_space, server) = program(k, 3);
    let (_, stranger) = program(k, 21);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(server, 1, &[]));
    assert_eq!(outcome(k, client).1.error(), Some(Error::NotPermitted));
    let client_space = k.thread(k.find(client).unwrap()).space;
    k.spaces[usize::from(client_space)].grant_partner(server).unwrap();
    ipc(k, client, Ipc::call(server, 1, &[]));
    assert_eq!(outcome(k, server).0, client);
    // The stranger cannot answer in the server's place; the server can.
    ipc(k, stranger, Ipc::send(client, 1, &[]));
    assert_eq!(outcome(k, stranger).1.error(), Some(Error::NotPermitted));
    assert_eq!(state(k, client), State::Receiving);
    ipc(k, server, Ipc::reply_wait(client, 2, &[]));
    assert_eq!(outcome(k, client).1.label(), 2);
    // And the server cannot send to the client on its own account.
    let again = thread(k, server_space, 5, ThreadId::NIL);
    ipc(k, again, Ipc::send(client, 3, &[]));
    assert_eq!(outcome(k, again).1.error(), Some(Error::NotPermitted));
}

#[test]
fn senders_queue_in_order_and_a_closed_receive_picks_its_partner() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, server) = program(k, 20);
    let clients: Vec<_> = (0..4).map(|_| program(k, 20).1).collect();
    for (i, client) in clients.iter().enumerate() {
        ipc(k, *client, Ipc::send(server, i as u32, &[]));
        assert_eq!(state(k, *client), State::Sending);
    }
    ipc(k, server, Ipc::receive(clients[2]));
    assert_eq!(outcome(k, server).1.label(), 2);
    for expected in [0, 1, 3] {
        ipc(k, server, Ipc::receive(ThreadId::ANY));
        assert_eq!(outcome(k, server).1.label(), expected);
    }
    assert!(clients.iter().all(|&c| state(k, c) == State::Ready));
}

#[test]
fn bad_partners_and_messages_are_refused() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let error = |k: &mut TestKernel, call| {
        ipc(k, a, call);
        outcome(k, a).1.error()
    };
    assert_eq!(error(k, Ipc::send(a, 0, &[])), Some(Error::BadArgument));
    assert_eq!(error(k, Ipc::send(ThreadId::ANY, 0, &[])), Some(Error::BadArgument));
    assert_eq!(error(k, Ipc::send(ThreadId::new(0, 63, 1), 0, &[])), Some(Error::NoSuchThread));
    assert_eq!(error(k, Ipc::send(ThreadId::new(0, 9999, 1), 0, &[])), Some(Error::NoSuchThread));
    assert_eq!(error(k, Ipc::send(ThreadId::new(7, 0, 1), 0, &[])), Some(Error::NoSuchThread));
    let stale = ThreadId::new(0, b.slot(), b.generation() + 1);
    assert_eq!(error(k, Ipc::send(stale, 0, &[])), Some(Error::NoSuchThread));
    assert_eq!(error(k, Ipc { wait: false, ..Ipc::send(b, 0, &[]) }), Some(Error::Timeout));
    assert_eq!(error(k, Ipc { tag: Tag::new(0, 40, 40), ..Ipc::send(b, 0, &[]) }), Some(Error::BadArgument));
    assert_eq!(error(k, Ipc { tag: Tag::new(0, 0, 3), ..Ipc::send(b, 0, &[]) }), Some(Error::BadArgument));
}

#[test]
fn waits_end_when_their_time_has_come() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    k.hal.now = 100;
    let until = |deadline| Ipc { receive_timeout: Timeout(deadline), ..Ipc::receive(ThreadId::ANY) };
    ipc(k, a, until(100));
    assert_eq!(outcome(k, a).1.error(), Some(Error::Timeout));
    ipc(k, a, until(200));
    ipc(k, b, until(150));
    assert_eq!(k.deadline(), 150);
    k.hal.now = 149;
    k.handle(Event::Tick);
    assert_eq!((state(k, a), state(k, b)), (State::Receiving, State::Receiving));
    k.hal.now = 150;
    k.handle(Event::Tick);
    assert_eq!((state(k, a), k.deadline()), (State::Receiving, 200));
    assert!(outcome(k, b).1.receive_failed());
    // A message in time ends the wait for good.
    ipc(k, b, Ipc::send(a, 5, &[]));
    k.hal.now = 300;
    k.handle(Event::Tick);
    assert_eq!((outcome(k, a).1.label(), k.deadline()), (5, u64::MAX));
}

#[test]
fn errors_are_scrubbed_of_what_was_in_the_registers() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let t = k.find(a).unwrap();
    k.thread_mut(t).context.x.fill(0xdead);
    run(k, a);
    k.handle(Event::Syscall(UNMAP));
    let x = k.thread(t).context.x;
    assert_eq!(x[0], Error::BadArgument.code());
    assert!(x[1..19].iter().all(|&r| r == 0) && x[19..].iter().all(|&r| r == 0xdead));
}

#[test]
fn privileged_calls_are_refused_to_others() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    for call in [THREAD_CONTROL, SPACE_CONTROL] {
        for op in 0..4 {
            assert_eq!(syscall(k, a, call, &[op])[0], Error::NotPrivileged.code());
        }
    }
    assert_eq!(syscall(k, a, UNMAP, &[0xf00])[0], Error::BadArgument.code());
    assert_eq!(syscall(k, a, UNMAP, &[0x100, 1])[0], Error::BadArgument.code());
}

#[test]
fn the_urgent_preempt_and_equals_take_turns() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let picked = |k: &mut TestKernel| {
        let t = k.pick().unwrap();
        k.thread(t).id
    };
    let first = picked(k);
    assert_eq!(picked(k), first);
    k.handle(Event::Tick);
    let second = picked(k);
    assert_ne!(first, second);
    k.handle(Event::Tick);
    assert_eq!(picked(k), first);
    let t = k.find(if first == a { b } else { a }).unwrap();
    k.make_unready(t);
    k.thread_mut(t).priority = 101;
    k.make_ready(t);
    assert_eq!(picked(k), second);
    k.handle(Event::Tick);
    assert_eq!(picked(k), second);
}

/// Nobody's receive makes the kernel work for an unbounded number of others in one go.
#[test]
fn any_number_of_failing_senders_is_told_in_steps() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, receiver) = program(k, 20);
    let space = k.create_space(20, false).unwrap();
    let item = [0x1000 | 12 << 4, 0];
    let senders: Vec<_> = (0..40).map(|slot| thread(k, space, slot, ThreadId::NIL)).collect();
    for &sender in &senders {
        ipc(k, sender, Ipc { tag: Tag::new(1, 0, 2), words: item.into(), ..Ipc::send(receiver, 1, &[]) });
        assert_eq!(state(k, sender), State::Sending);
    }
    let mut entries = 0;
    let t = k.find(receiver).unwrap();
    loop {
        let told = senders.iter().filter(|&&s| state(k, s) == State::Ready).count();
        k.thread_mut(t).context.pc = 0x1004;
        ipc(k, receiver, Ipc::receive(ThreadId::ANY));
        entries += 1;
        let now = senders.iter().filter(|&&s| state(k, s) == State::Ready).count();
        assert!(now - told <= 5, "{told} to {now}");
        if state(k, receiver) == State::Receiving {
            break;
        }
        assert_eq!(k.thread(t).context.pc, 0x1000);
    }
    assert!(entries > 5 && senders.iter().all(|&s| outcome(k, s).1.error().is_some()));
    assert!(k.counters.total(skerry_abi::Counter::PreemptionPoints) >= 5);
}

#[test]
fn a_chain_of_senders_that_wait_for_each_other_goes_in_steps() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let space = k.create_space(20, false).unwrap();
    let chain: Vec<_> = (0..40).map(|slot| thread(k, space, slot, ThreadId::NIL)).collect();
    for pair in chain.windows(2) {
        // Sends to the one before, and then receives from the one behind.
        let i = chain.iter().position(|&id| id == pair[1]).unwrap();
        let from = chain.get(i + 1).copied().unwrap_or(ThreadId::NIL);
        ipc(k, pair[1], Ipc { from, ..Ipc::send(pair[0], 1, &[]) });
        assert_eq!(state(k, pair[1]), State::Sending);
    }
    ipc(k, chain[0], Ipc::receive(chain[1]));
    let through = chain.iter().filter(|&&id| state(k, id) == State::Ready).count();
    assert!((1..10).contains(&through), "{through}");
    // The last that was woken goes on with the rest, when it runs.
    let mut entries = 1;
    while let Some(&next) = chain.iter().find(|&&id| k.thread(k.find(id).unwrap()).context.pc == 0x0ffc) {
        let t = run(k, next);
        k.thread_mut(t).context.pc = 0x1000;
        k.handle(Event::Syscall(IPC));
        k.pick();
        entries += 1;
        assert!(entries < 40);
    }
    assert!(entries > 4 && chain.iter().all(|&id| state(k, id) == State::Ready), "{entries}");
}
