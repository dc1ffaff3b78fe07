//! Threads move between clusters with all that they have, and are found there.

use super::scene::{Scene, scene};
use super::world::*;
use crate::kernel::Event;
use crate::thread::{State, hold};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::syscall::{NOTIFY, SCHEDULE, THREAD_CONTROL, thread_op};
use skerry_abi::{Counter, Error, Rights, SpaceId, ThreadId, Timeout};
use std::vec;
use std::vec::Vec;

#[test]
pub(super) fn a_thread_moves_with_all_it_has() {
    let mut s = scene(2);
    let id = thread(&mut s.w[0], s.spaces[0], 5, ThreadId::NIL);
    let t = s.w[0].find(id).unwrap();
    let thread = s.w[0].thread_mut(t);
    thread.context.x = core::array::from_fn(|i| 1000 + i as u64);
    (thread.context.sp, thread.context.pc, thread.context.pstate) = (1, 2, 3 << 28);
    (thread.tls, thread.priority, thread.notified) = (4, 77, 0b101);
    thread.fp.q = core::array::from_fn(|i| [7, i as u64]);
    (thread.fp.fpcr, thread.fp.fpsr, thread.fp_used) = (8, 9, true);
    let before = s.w[0].thread(t).clone();
    s.w[0].utcb(t)[8..].iter().zip(500..).for_each(|(word, n)| word.store(n, Relaxed));
    syscall(&mut s.w[0], s.bosses[0], SCHEDULE, &[0, id.0, !0, 12_345, !0]);
    assert_eq!(s.go(0, id, 1), 0);
    assert_eq!(s.state(id), [(1, State::Ready)]);
    let left = |k: &TestKernel<'_>| k.counters.total(Counter::Migrations);
    assert_eq!((left(&s.w[0]), left(&s.w[1])), (1, 0));
    let u = s.w[1].find(id).unwrap();
    let after = s.w[1].thread(u);
    assert_eq!((after.context.x, after.context.sp), (before.context.x, before.context.sp));
    assert_eq!((after.context.pc, after.context.pstate), (before.context.pc, before.context.pstate));
    assert_eq!((after.fp.q, after.fp.fpcr, after.fp.fpsr), (before.fp.q, before.fp.fpcr, before.fp.fpsr));
    assert_eq!((after.tls, after.priority, after.notified, after.fp_used), (4, 77, 0b101, true));
    assert_eq!((after.space_id, after.cpu, after.utcb_slot), (s.spaces[1], 1, 5));
    assert_eq!((after.hold, s.w[1].cold[u as usize].slice), (hold::SLICED, 12_345));
    let utcb = s.w[1].utcb(u);
    assert_eq!(utcb[0].load(Relaxed), id.0);
    assert!(utcb[8..].iter().zip(500..).all(|(word, n)| word.load(Relaxed) == n));
    // What it had here is free, but for its name.
    assert_eq!(s.w[0].thread(t).state, State::Departed);
    assert_eq!(s.w[0].spaces[usize::from(s.spaces[0].slot())].threads, 0);
    assert_eq!(s.control(0, &[thread_op::SUSPEND, id.0]), Error::Moved.code());
    // And back: into the slot that its id names.
    assert_eq!(s.go(1, id, 0), 0);
    assert_eq!((s.state(id), s.w[0].find(id)), (vec![(0, State::Ready)], Some(t)));
    assert_eq!(s.w[1].thread(u).state, State::Free);
}

/// Whatever it does, and whether or not its destination has nothing else to do: it goes on where it was, and its friends reach it.
#[test]
fn no_thread_changes_its_domain() {
    for (receives, idle) in [(false, false), (true, false), (false, true)] {
        let mut s = scene(2);
        let id = thread(&mut s.w[0], s.spaces[0], 5, ThreadId::NIL);
        if receives {
            ipc(&mut s.w[0], id, Ipc::receive(ThreadId::ANY));
        }
        let own = core::mem::replace(&mut s.spaces[1], s.w[1].create_space(21, false).unwrap());
        s.ask(0, id, 1);
        let friend = thread(&mut s.w[0], s.spaces[0], 6, ThreadId::NIL);
        assert_eq!(syscall(&mut s.w[0], friend, NOTIFY, &[id.0, 4])[0], 0);
        if idle {
            s.w[1].cpus[1].set_current(None);
            assert!(s.w[1].fast_doorbell(1).is_none());
        }
        s.settle();
        assert_eq!(s.answer(0), Error::Refused.code());
        assert_eq!(s.state(id), [(0, State::Ready)]);
        if receives {
            assert_eq!(outcome(&s.w[0], id).0, ThreadId::NIL, "the notification has ended its wait");
        } else {
            assert_eq!(s.w[0].thread(s.w[0].find(id).unwrap()).notified, 4);
        }
        s.spaces[1] = own;
        assert_eq!(s.go(0, id, 1), 0);
        assert_eq!(s.w[1].find(id).map(|t| s.w[1].domain_of(t)), Some(20));
    }
}

#[test]
pub(super) fn its_calls_are_answered_by_those_who_never_heard_of_its_move() {
    let mut s = scene(3);
    let id = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    let server = thread(&mut s.w[0], s.spaces[0], 9, ThreadId::NIL);
    assert_eq!(s.go(1, id, 2), 0);
    ipc(&mut s.w[0], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut s.w[2], id, Ipc::call(server, 7, &[1]));
    s.settle();
    assert_eq!(outcome(&s.w[0], server).0, id);
    ipc(&mut s.w[0], server, Ipc::reply_wait(id, 8, &[2]));
    s.settle();
    assert_eq!((outcome(&s.w[2], id).0, outcome(&s.w[2], id).1.label()), (server, 8));
    // And one that nobody has answered can be deleted.
    s.settle();
    ipc(&mut s.w[2], id, Ipc::call(server, 7, &[3]));
    s.settle();
    assert_eq!(s.control(2, &[thread_op::DELETE, id.0]), 0);
    s.settle();
    assert!(s.state(id).is_empty());
}

#[test]
pub(super) fn everybody_finds_it_wherever_it_goes() {
    let mut s = scene(4);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let friends: Vec<_> = (0..4).map(|c| thread(&mut s.w[c], s.spaces[c], 9, ThreadId::NIL)).collect();
    // Through all clusters, also such that neither end is its birthplace, and home again.
    for (round, &[from, to]) in [[0, 1], [1, 2], [2, 3], [3, 1], [1, 0], [0, 2]].iter().enumerate() {
        assert_eq!(s.go(from, id, to), 0);
        assert_eq!(s.state(id), [(to, State::Ready)]);
        for (c, &friend) in friends.iter().enumerate() {
            ipc(&mut s.w[to], id, Ipc::receive(ThreadId::ANY));
            ipc(&mut s.w[c], friend, Ipc::call(id, round as u32, &[c as u64]));
            s.settle();
            assert_eq!(outcome(&s.w[to], id).0, friend);
            ipc(&mut s.w[to], id, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(friend, 50, &[3]) });
            s.settle();
            assert_eq!((outcome(&s.w[c], friend).0, outcome(&s.w[c], friend).1.label()), (id, 50));
            // It can call them too, from wherever it is.
            ipc(&mut s.w[c], friend, Ipc::receive(id));
            ipc(&mut s.w[to], id, Ipc::call(friend, 60, &[]));
            s.settle();
            assert_eq!(outcome(&s.w[c], friend).0, id);
            ipc(&mut s.w[c], friend, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(id, 61, &[]) });
            s.settle();
            assert_eq!(outcome(&s.w[to], id).1.label(), 61);
        }
        // And notifications reach it.
        for (c, &friend) in friends.iter().enumerate() {
            assert_eq!(syscall(&mut s.w[c], friend, NOTIFY, &[id.0, 1 << c])[0], 0);
        }
        s.settle();
        assert_eq!(s.w[to].thread(s.w[to].find(id).unwrap()).notified, 0b1111, "round {round}");
        ipc(&mut s.w[to], id, Ipc::receive(ThreadId::ANY));
    }
    // Its end is known to its birthplace, and its slot is used again under another name.
    assert_eq!(s.control(0, &[thread_op::DELETE, id.0]), 0);
    s.settle();
    assert!(s.state(id).is_empty());
    assert_eq!(s.w[0].threads[usize::from(id.slot())].state, State::Free);
    for (c, &friend) in friends.iter().enumerate() {
        ipc(&mut s.w[c], friend, Ipc::send(id, 0, &[]));
        s.settle();
        assert_eq!(outcome(&s.w[c], friend).1.error(), Some(Error::NoSuchThread));
    }
}

#[test]
pub(super) fn the_short_way_goes_where_a_thread_is_known_to_be() {
    let mut s = scene(3);
    let server = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    assert_eq!(s.go(1, server, 2), 0);
    ipc(&mut s.w[2], server, Ipc::receive(ThreadId::ANY));
    let client = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    ipc(&mut s.w[0], s.bosses[0], Ipc::receive(ThreadId::ANY));
    for round in 0..3 {
        let t = run(&mut s.w[0], client);
        let x = &mut s.w[0].thread_mut(t).context.x;
        (x[0], x[1], x[2], x[11], x[12], x[13]) = (server.0, server.0, 0, !0, !0, 0);
        let cpu = s.w[0].this_cpu;
        if !s.w[0].fast_remote(cpu) {
            s.w[0].handle(Event::Syscall(skerry_abi::syscall::IPC));
            s.w[0].pick();
        }
        assert_eq!(s.w[1].bells.rings(0), round == 0, "its birth cluster is asked once");
        s.settle();
        assert_eq!(outcome(&s.w[2], server).0, client);
        ipc(&mut s.w[2], server, Ipc::reply_wait(client, 2, &[]));
        s.settle();
        assert_eq!(outcome(&s.w[0], client).0, server);
    }
}

#[test]
pub(super) fn waiting_senders_follow_and_nothing_is_doubled() {
    let mut s = scene(3);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let near: Vec<_> = (1..12).map(|slot| thread(&mut s.w[0], s.spaces[0], slot, ThreadId::NIL)).collect();
    let there = thread(&mut s.w[1], s.spaces[1], 1, ThreadId::NIL);
    let far = thread(&mut s.w[2], s.spaces[2], 1, ThreadId::NIL);
    let watcher = thread(&mut s.w[2], s.spaces[2], 2, ThreadId::NIL);
    let expecting = thread(&mut s.w[0], s.spaces[0], 20, ThreadId::NIL);
    for (n, &sender) in near.iter().enumerate() {
        ipc(&mut s.w[0], sender, Ipc::call(id, 1, &[n as u64]));
    }
    ipc(&mut s.w[1], there, Ipc::call(id, 1, &[100]));
    ipc(&mut s.w[2], far, Ipc::call(id, 1, &[101]));
    ipc(&mut s.w[2], watcher, Ipc::receive(id));
    ipc(&mut s.w[0], expecting, Ipc::receive(id));
    s.settle();
    assert_eq!(s.go(0, id, 1), 0);
    for _ in 0..4 {
        s.w[0].pick();
        s.settle();
    }
    let mut got = Vec::new();
    for _ in 0..13 {
        ipc(&mut s.w[1], id, Ipc::receive(ThreadId::ANY));
        s.settle();
        let (from, _, words) = outcome(&s.w[1], id);
        got.push(words[0]);
        ipc(&mut s.w[1], id, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(from, 2, &words) });
        s.settle();
    }
    got.sort_unstable();
    assert_eq!(got, (0..11).chain([100, 101]).collect::<Vec<_>>());
    for (cluster, waits) in [(2, watcher), (0, expecting)] {
        ipc(&mut s.w[1], id, Ipc::send(waits, 7, &[]));
        s.settle();
        assert_eq!((outcome(&s.w[cluster], waits).0, outcome(&s.w[cluster], waits).1.label()), (id, 7));
    }
    assert!(s.w.iter().all(|k| k.guests.used() == 0));
}

#[test]
pub(super) fn waits_survive_or_begin_again() {
    let mut s = scene(2);
    let new = |s: &mut Scene, slot| thread(&mut s.w[0], s.spaces[0], slot, ThreadId::NIL);
    let partner = thread(&mut s.w[0], s.spaces[0], 99, ThreadId::NIL);
    // An open receive goes on, with its time-out.
    let open = new(&mut s, 0);
    ipc(&mut s.w[0], open, Ipc { receive_timeout: Timeout(500), ..Ipc::receive(ThreadId::ANY) });
    assert_eq!(s.go(0, open, 1), 0);
    assert_eq!(
        (s.state(open), s.w[1].deadline(), s.w[0].deadline()),
        (vec![(1, State::Receiving)], 500, u64::MAX)
    );
    s.w[1].hal.now = 500;
    s.w[1].handle(Event::Tick);
    assert_eq!(outcome(&s.w[1], open).1.error(), Some(Error::Timeout));
    // A closed one too, from a thread that is in another cluster now.
    let closed = new(&mut s, 1);
    ipc(&mut s.w[0], closed, Ipc::receive(partner));
    assert_eq!(s.go(0, closed, 1), 0);
    ipc(&mut s.w[0], partner, Ipc::send(closed, 8, &[]));
    s.settle();
    assert_eq!(outcome(&s.w[1], closed).1.label(), 8);
    // A send phase begins again: the program executes the call there.
    let sending = new(&mut s, 2);
    let pc = s.w[0].thread(s.w[0].find(sending).unwrap()).context.pc;
    ipc(&mut s.w[0], sending, Ipc::send(partner, 3, &[1]));
    assert_eq!(s.go(0, sending, 1), 0);
    let moved = s.w[1].thread(s.w[1].find(sending).unwrap());
    assert_eq!((moved.state, moved.context.pc, moved.context.x[0]), (State::Ready, pc - 4, partner.0));
    // So does one to another cluster, after that has agreed.
    let busy = thread(&mut s.w[1], s.spaces[1], 50, ThreadId::NIL);
    let far = new(&mut s, 3);
    ipc(&mut s.w[0], far, Ipc::send(busy, 3, &[1]));
    s.settle();
    assert_eq!(s.state(far), [(0, State::AwaitingResponse)]);
    assert_eq!(s.go(0, far, 1), 0);
    assert_eq!(s.state(far), [(1, State::Ready)]);
    ipc(&mut s.w[1], busy, Ipc { receive_timeout: Timeout::ZERO, ..Ipc::receive(ThreadId::ANY) });
    assert_eq!(outcome(&s.w[1], busy).1.error(), Some(Error::Timeout), "the message did not come by itself");
    // A call that nobody has answered yet is cancelled; the answer is told so.
    let caller = new(&mut s, 4);
    ipc(&mut s.w[0], partner, Ipc::receive(ThreadId::ANY));
    ipc(&mut s.w[0], caller, Ipc::call(partner, 1, &[]));
    assert_eq!(s.go(0, caller, 1), 0);
    assert_eq!(outcome(&s.w[1], caller).1.error(), Some(Error::Cancelled));
    ipc(&mut s.w[0], partner, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(caller, 0, &[]) });
    s.settle();
    assert_eq!(outcome(&s.w[0], partner).1.error(), Some(Error::NotWaiting));
    // Suspended threads stay so, and such that never started.
    let stopped = new(&mut s, 5);
    s.control(0, &[thread_op::SUSPEND, stopped.0]);
    assert_eq!(s.go(0, stopped, 1), 0);
    assert_eq!(s.state(stopped), [(1, State::Stopped)]);
    assert_eq!(s.control(1, &[thread_op::RESUME, stopped.0]), 0);
    assert_eq!(s.state(stopped), [(1, State::Ready)]);
    let boss = s.bosses[0];
    let create = [thread_op::CREATE, s.spaces[0].0, 0, 0, 0, 6, 10];
    let created = ThreadId(syscall(&mut s.w[0], boss, THREAD_CONTROL, &create)[1]);
    assert_eq!(s.go(0, created, 1), 0);
    assert_eq!(s.state(created), [(1, State::Created)]);
    assert_eq!(s.control(1, &[thread_op::START, created.0, 1, 2, 3]), 0);
}

#[test]
pub(super) fn a_fault_is_dropped_and_happens_again() {
    let mut s = scene(2);
    let pagers: Vec<_> = s.w.iter_mut().map(|k| program(k, 2).1).collect();
    let id = thread(&mut s.w[0], s.spaces[0], 0, pagers[0]);
    let orphan = thread(&mut s.w[0], s.spaces[0], 1, ThreadId::NIL);
    let fault = |k: &mut TestKernel<'static>, id| {
        run(k, id);
        k.handle(Event::PageFault { address: 0x5000, access: Rights::R, esr: 0 });
        k.pick();
    };
    ipc(&mut s.w[0], pagers[0], Ipc::receive(ThreadId::ANY));
    fault(&mut s.w[0], id);
    assert_eq!(outcome(&s.w[0], pagers[0]).0, id);
    let to = [thread_op::MIGRATE, id.0, s.spaces[1].0, 1, pagers[1].0, 0];
    s.control(0, &to);
    s.settle();
    assert_eq!((s.answer(0), s.state(id)), (0, vec![(1, State::Ready)]));
    ipc(&mut s.w[0], pagers[0], Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(id, 0, &[]) });
    s.settle();
    assert_eq!(outcome(&s.w[0], pagers[0]).1.error(), Some(Error::NotWaiting), "a late map reply");
    ipc(&mut s.w[1], pagers[1], Ipc::receive(ThreadId::ANY));
    fault(&mut s.w[1], id);
    assert_eq!(outcome(&s.w[1], pagers[1]).0, id);
    // One whose fault nobody took, too.
    fault(&mut s.w[0], orphan);
    assert_eq!(s.go(0, orphan, 1), 0);
    assert_eq!(s.state(orphan), [(1, State::Ready)]);
}

#[test]
pub(super) fn a_refused_thread_goes_on_where_it_was() {
    let mut s = scene(3);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let taken = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    ipc(&mut s.w[0], id, Ipc { receive_timeout: Timeout(900), ..Ipc::receive(ThreadId::ANY) });
    let before: Vec<_> = s.w.iter().map(|k| k.db.stats()).collect();
    let refused = |s: &mut Scene, space: SpaceId, cpu: u64, pager: u64| {
        s.control(0, &[thread_op::MIGRATE, id.0, space.0, cpu, pager, 0]);
        s.settle();
        assert_eq!((s.state(id), s.w[0].deadline()), (vec![(0, State::Receiving)], 900));
        Error::from_code(s.answer(0))
    };
    let (there, free) = (s.spaces[1], s.spaces[2]);
    assert_eq!(refused(&mut s, there, 1, 0), Error::BadArgument, "its UTCB slot is taken");
    assert_eq!(refused(&mut s, SpaceId::new(1, 14, 3), 1, 0), Error::NoSuchSpace);
    assert_eq!(refused(&mut s, SpaceId::root(1), 1, 0), Error::Refused);
    assert_eq!(refused(&mut s, free, 1, 0), Error::BadArgument, "not a CPU of that cluster");
    assert_eq!(
        refused(&mut s, free, 2, ThreadId::root(0).0),
        Error::BadArgument,
        "its pager would be far away"
    );
    assert_eq!(refused(&mut s, SpaceId::new(9, 1, 1), 0, 0), Error::BadArgument);
    let here = s.spaces[0];
    assert_eq!(refused(&mut s, here, 0, 0), Error::BadArgument, "that is no other cluster");
    while let Ok(space) = s.w[2].create_space(20, false) {
        for slot in 0..64 {
            let new = crate::birth::NewThread {
                space: space.slot(),
                cpu: 2,
                pager: ThreadId::NIL,
                handler: ThreadId::NIL,
                utcb_slot: slot,
                priority: 1,
            };
            _ = s.w[2].create_thread(new);
        }
    }
    assert_eq!(refused(&mut s, free, 2, 0), Error::OutOfKernelMemory);
    s.control(1, &[thread_op::DELETE, taken.0]);
    s.w[1].park();
    s.settle();
    assert_eq!(refused(&mut s, there, 1, 0), Error::NodeDown);
    let boss = s.bosses[0];
    assert_eq!(s.control(0, &[thread_op::MIGRATE, boss.0, free.0, 2, 0, 0]), Error::Refused.code());
    assert_eq!(s.w[0].db.stats(), before[0]);
}

#[test]
pub(super) fn a_refused_thread_keeps_its_notifications() {
    let mut s = scene(2);
    let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
    let friend = thread(&mut s.w[0], s.spaces[0], 1, ThreadId::NIL);
    thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    syscall(&mut s.w[0], friend, NOTIFY, &[id.0, 0b0011]);
    s.ask(0, id, 1);
    syscall(&mut s.w[0], friend, NOTIFY, &[id.0, 0b0110]);
    s.settle();
    assert_eq!(Error::from_code(s.answer(0)), Error::BadArgument, "its UTCB slot is taken");
    ipc(&mut s.w[0], id, Ipc::receive(ThreadId::ANY));
    assert_eq!(outcome(&s.w[0], id).2, [0b0111]);
}

#[test]
pub(super) fn nothing_leaks_on_the_way() {
    let mut s = scene(3);
    let before: Vec<_> = s.w.iter().map(|k| k.db.stats()).collect();
    for round in 0..3_000 {
        let (from, to) = (round % 3, (round + 1 + round / 3 % 2) % 3);
        let id = thread(&mut s.w[from], s.spaces[from], (round % 16) as u16, ThreadId::NIL);
        assert_eq!(s.go(from, id, to), 0);
        if round % 2 == 0 {
            let next = 3 - from - to;
            assert_eq!(s.go(to, id, next), 0);
        }
        // From the birthplace, wherever it is.
        assert_eq!(s.control(from, &[thread_op::DELETE, id.0]), 0);
        s.settle();
        assert!(s.state(id).is_empty());
    }
    for (k, before) in s.w.iter().zip(before) {
        assert_eq!((k.db.stats(), k.guests.used()), (before, 0));
        let live = k.threads.iter().filter(|t| t.state != State::Free).count();
        assert_eq!(live, 2, "the two privileged ones");
    }
}
