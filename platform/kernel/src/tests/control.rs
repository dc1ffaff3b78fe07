use super::invariants::check;
use super::world::*;
use crate::control::MAX_WAITERS;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::syscall::{
    SCHEDULE, SPACE_CONTROL, THREAD_CONTROL, exchange, space_op, thread_op, thread_state,
};
use skerry_abi::{Error, Rights, ThreadId, Timeout};
use std::vec::Vec;

const KEEP: u64 = !0;

/// A privileged thread on CPU 0.
pub(super) fn boss(k: &mut TestKernel) -> ThreadId {
    let space = k.create_space(1, true).unwrap();
    thread(k, space, 0, ThreadId::NIL)
}

/// A thread that runs on CPU 1; the kernel is on CPU 0 again afterwards.
fn runner(k: &mut TestKernel) -> ThreadId {
    k.enter(1);
    let (_, id) = program(k, 20);
    run(k, id);
    k.enter(0);
    id
}

/// CPU 1 takes its interrupts; then the kernel is on CPU 0 again.
fn kick_other(k: &mut TestKernel) {
    assert!(k.hal.kicks.contains(&1), "CPU 1 was interrupted");
    k.hal.kicks.clear();
    k.enter(1);
    k.handle(Event::Kick);
    k.pick();
    check(k).unwrap();
    k.enter(0);
}

fn control(k: &mut TestKernel, boss: ThreadId, args: &[u64]) -> [u64; 9] {
    let result = syscall(k, boss, THREAD_CONTROL, args);
    k.pick();
    check(k).unwrap();
    result
}

fn registers(k: &TestKernel, id: ThreadId) -> [u64; 4] {
    let t = k.find(id).unwrap();
    core::array::from_fn(|i| k.thread(t).context.x[i])
}

#[test]
fn a_suspended_thread_finishes_its_ipc_but_does_not_run() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let boss = boss(k);
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    ipc(k, a, Ipc::receive(ThreadId::ANY));
    assert_eq!(control(k, boss, &[thread_op::SUSPEND, a.0])[0], 0);
    assert_eq!(control(k, boss, &[thread_op::SUSPEND, a.0])[0], 0, "once more changes nothing");
    ipc(k, b, Ipc::send(a, 5, &[]));
    assert_eq!((state(k, a), state(k, b)), (State::Stopped, State::Ready), "the message arrived");
    assert_eq!(control(k, boss, &[thread_op::RESUME, a.0])[0], 0);
    assert_eq!(outcome(k, a).1.label(), 5);
    // One that is ready, and one that never started.
    assert_eq!(control(k, boss, &[thread_op::SUSPEND, a.0])[0], 0);
    assert_eq!(state(k, a), State::Stopped);
    assert_eq!(
        control(k, boss, &[thread_op::EXCHANGE, a.0])[3],
        thread_state::READY | thread_state::SUSPENDED
    );
    control(k, boss, &[thread_op::DELETE, a.0]);
    assert_eq!(state(k, a), State::Free);
    // A thread may suspend itself.
    assert_eq!(control(k, boss, &[thread_op::SUSPEND, boss.0])[0], 0);
    assert_eq!(state(k, boss), State::Stopped);
}

#[test]
fn registers_are_exchanged_and_waits_cancelled() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let boss = boss(k);
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let all = exchange::PC | exchange::SP | exchange::X0;
    let set = |flags, a: ThreadId| [thread_op::EXCHANGE, a.0, flags, 0x111, 0x222, 0x333];
    assert_eq!(control(k, boss, &set(all, a))[..4], [0, 0x1000, 0x2000, thread_state::READY]);
    assert_eq!(registers(k, a)[0], 0x333);
    assert_eq!(control(k, boss, &set(0, a))[..3], [0, 0x111, 0x222]);
    assert_eq!(control(k, boss, &set(exchange::CANCEL, a))[3], thread_state::READY, "nothing to cancel");
    // Sending.
    ipc(k, a, Ipc::send(b, 0, &[]));
    assert_eq!(control(k, boss, &set(0, a))[3], thread_state::SENDING);
    control(k, boss, &set(exchange::CANCEL | exchange::PC, a));
    assert_eq!(outcome(k, a).1.error(), Some(Error::Cancelled));
    assert!(!outcome(k, a).1.receive_failed());
    // Waiting for an answer: the right to give it is gone.
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    ipc(k, a, Ipc { receive_timeout: Timeout(1000), ..Ipc::call(b, 0, &[]) });
    assert_eq!(k.deadline(), 1000);
    assert_eq!(control(k, boss, &set(exchange::CANCEL | exchange::X0, a))[3], thread_state::RECEIVING);
    assert!(outcome(k, a).1.receive_failed());
    assert_eq!((registers(k, a)[0], k.deadline()), (0x333, u64::MAX));
    ipc(k, b, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(a, 0, &[]) });
    assert_eq!(outcome(k, b).1.error(), Some(Error::NotWaiting));
    // A send phase that may have to begin again, with these registers.
    ipc(k, a, Ipc::send(b, 5, &[1]));
    for flag in [exchange::PC, exchange::X0] {
        assert_eq!(control(k, boss, &set(flag, a))[0], Error::WrongState.code());
    }
    assert_eq!(control(k, boss, &set(exchange::SP, a))[3], thread_state::SENDING);
    control(k, boss, &set(exchange::CANCEL, a));
    // Waiting for one that says nothing: if that one moves to another cluster, this begins again too.
    ipc(k, a, Ipc::receive(b));
    for flag in [exchange::PC, exchange::X0] {
        assert_eq!(control(k, boss, &set(flag, a))[0], Error::WrongState.code());
    }
    control(k, boss, &set(exchange::CANCEL, a));
    assert_eq!(outcome(k, a).1.error(), Some(Error::Cancelled));
    control(k, boss, &[thread_op::DELETE, b.0]);
    assert_eq!(state(k, a), State::Ready, "and not told twice");
    // Nonsense.
    assert_eq!(control(k, boss, &set(16, a))[0], Error::BadArgument.code());
    assert_eq!(control(k, boss, &set(0, boss))[0], Error::BadArgument.code());
    assert_eq!(control(k, boss, &set(0, b))[0], Error::NoSuchThread.code());
}

/// The wait of `client` in another cluster is cancelled, and the caller waits for the word of that cluster.
fn cancel_far(w: &mut [TestKernel], boss: ThreadId, client: ThreadId, flags: u64) {
    let pc = w[0].thread(w[0].find(boss).unwrap()).context.pc;
    control(&mut w[0], boss, &[thread_op::EXCHANGE, client.0, flags, 0x111, 0x222, 0x333]);
    assert_eq!(state(&w[0], boss), State::Controlling);
    assert_eq!(w[0].thread(w[0].find(boss).unwrap()).context.pc, pc, "it does not execute anything again");
}

#[test]
fn whoever_cancels_a_wait_in_another_cluster_waits_for_the_end_of_that_one_only() {
    for answered in [false, true] {
        let mut w = world(2, 1);
        let (boss, second) = (boss(&mut w[0]), boss(&mut w[0]));
        let (_, client) = program(&mut w[0], 20);
        let (_, server) = program(&mut w[1], 20);
        ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        ipc(&mut w[0], client, Ipc::call(server, 1, &[]));
        settle(&mut w);
        if answered {
            // On its way when the call is cancelled.
            ipc(&mut w[1], server, Ipc::reply_wait(client, 7, &[]));
        }
        cancel_far(&mut w, boss, client, exchange::CANCEL | exchange::PC | exchange::X0);
        cancel_far(&mut w, second, client, exchange::CANCEL);
        settle(&mut w);
        check(&w[0]).unwrap();
        assert_eq!(registers(&w[0], boss), [0, 0x1000, 0x2000, thread_state::SENDING]);
        assert_eq!(registers(&w[0], second), [0, 0x111, 0x2000, thread_state::SENDING]);
        assert_eq!((state(&w[0], boss), state(&w[0], second)), (State::Ready, State::Ready));
        let tag = outcome(&w[0], client).1;
        assert_eq!(tag.error(), (!answered).then_some(Error::Cancelled));
        let thread = w[0].thread(w[0].find(client).unwrap());
        assert_eq!((thread.context.pc, thread.context.x[0]), (0x111, 0x333));
        // The next one is nobody's business.
        ipc(&mut w[0], client, Ipc::call(server, 2, &[]));
        settle(&mut w);
        assert_eq!(state(&w[0], client), State::AwaitingResponse);
    }
}

/// So many wait for the end of one wait, or of one space, that to wake them all is no long work; others are told so.
#[test]
fn only_so_many_wait_for_the_same_end() {
    let mut w = world(2, 1);
    let (space, client) = program(&mut w[0], 20);
    let (_, server) = program(&mut w[1], 20);
    let privileged = w[0].create_space(1, true).unwrap();
    let bosses: Vec<_> =
        (0..=MAX_WAITERS as u16).map(|n| thread(&mut w[0], privileged, n, ThreadId::NIL)).collect();
    let (last, first) = bosses.split_last().unwrap();
    let set = |flags, a: ThreadId| [thread_op::EXCHANGE, a.0, flags, 0, 0, 0];
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    for what in [0, 1] {
        if what == 0 {
            ipc(&mut w[0], client, Ipc::call(server, 1, &[]));
            settle(&mut w);
        }
        let ask = |w: &mut [TestKernel], boss| {
            let answer = match what {
                0 => syscall(&mut w[0], boss, THREAD_CONTROL, &set(exchange::CANCEL, client))[0],
                _ => syscall(&mut w[0], boss, SPACE_CONTROL, &[space_op::DESTROY, space.0])[0],
            };
            w[0].pick();
            answer
        };
        if what == 1 {
            // Its message is in another cluster again.
            ipc(&mut w[0], client, Ipc::send(server, 2, &[]));
            settle(&mut w);
        }
        first.iter().for_each(|&boss| _ = ask(&mut w, boss));
        assert!(first.iter().all(|&boss| state(&w[0], boss) == State::Controlling));
        assert_eq!(ask(&mut w, *last), Error::TableFull.code());
        check(&w[0]).unwrap();
        settle(&mut w);
        check(&w[0]).unwrap();
        assert!(first.iter().all(|&boss| state(&w[0], boss) == State::Ready));
    }
    assert_eq!(state(&w[0], client), State::Free);
}

#[test]
fn whoever_cancels_and_whoever_is_cancelled_may_end_first() {
    let mut w = world(2, 1);
    let (boss, second) = (boss(&mut w[0]), boss(&mut w[0]));
    let (_, server) = program(&mut w[1], 20);
    for (caller_ends, deleted) in [(true, true), (true, false), (false, true)] {
        let (_, client) = program(&mut w[0], 20);
        ipc(&mut w[0], client, Ipc::call(server, 1, &[]));
        settle(&mut w);
        cancel_far(&mut w, boss, client, exchange::CANCEL | exchange::PC);
        let flags = if caller_ends { exchange::CANCEL } else { 0 };
        if caller_ends {
            let x = control(&mut w[0], second, &[thread_op::EXCHANGE, boss.0, flags]);
            assert_eq!((x[0], x[3]), (0, thread_state::CONTROLLING));
            assert_eq!(registers(&w[0], boss)[0], Error::Cancelled.code());
        }
        if deleted {
            assert_eq!(control(&mut w[0], second, &[thread_op::DELETE, client.0])[0], 0);
        }
        settle(&mut w);
        check(&w[0]).unwrap();
        assert_eq!(state(&w[0], boss), State::Ready);
        match (caller_ends, deleted) {
            (_, true) => assert_eq!(state(&w[0], client), State::Free),
            _ => assert_eq!(outcome(&w[0], client).1.error(), Some(Error::Cancelled)),
        }
        if !caller_ends {
            assert_eq!(registers(&w[0], boss)[0], Error::NoSuchThread.code());
        }
    }
    // A fault that another cluster is to answer, and which stops.
    let space = w[0].create_space(20, false).unwrap();
    let faulting = thread(&mut w[0], space, 0, ThreadId::NIL);
    let t = w[0].find(faulting).unwrap();
    (w[0].thread_mut(t).pager, w[0].thread_mut(t).handler) = (server, server);
    run(&mut w[0], faulting);
    w[0].handle(Event::PageFault { address: 0x5000, access: Rights::R, esr: 0 });
    w[0].pick();
    settle(&mut w);
    cancel_far(&mut w, boss, faulting, exchange::CANCEL);
    w[1].park();
    settle(&mut w);
    check(&w[0]).unwrap();
    assert_eq!((state(&w[0], boss), registers(&w[0], boss)[0]), (State::Ready, 0));
    assert_eq!(state(&w[0], faulting), State::Halted);
}

#[test]
fn a_cancelled_fault_is_tried_again() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let boss = boss(k);
    let (_, pager) = program(k, 2);
    let space = k.create_space(20, false).unwrap();
    let paged = thread(k, space, 0, pager);
    let orphan = thread(k, space, 1, ThreadId::NIL);
    let cancel = |id: ThreadId| [thread_op::EXCHANGE, id.0, exchange::CANCEL];
    let fault = |k: &mut TestKernel, id| {
        run(k, id);
        k.handle(Event::PageFault { address: 0x5000, access: Rights::R, esr: 0 });
        k.pick();
    };
    fault(k, paged);
    assert_eq!(state(k, paged), State::Sending);
    control(k, boss, &cancel(paged));
    assert_eq!(state(k, paged), State::Ready);
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    fault(k, paged);
    assert_eq!((outcome(k, pager).0, state(k, paged)), (paged, State::Receiving));
    control(k, boss, &cancel(paged));
    assert_eq!(state(k, paged), State::Ready);
    ipc(k, pager, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(paged, 0, &[]) });
    assert_eq!(outcome(k, pager).1.error(), Some(Error::NotWaiting), "a late answer finds nobody");
    fault(k, orphan);
    assert_eq!(control(k, boss, &cancel(orphan))[3], thread_state::HALTED);
    assert_eq!(state(k, orphan), State::Ready);
}

#[test]
fn a_thread_that_runs_elsewhere_is_controlled_there() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let victim = runner(k);
    control(k, boss, &[thread_op::EXCHANGE, victim.0, exchange::PC, 0x4444]);
    assert_eq!(state(k, boss), State::Controlling);
    assert_eq!(k.thread(k.find(victim).unwrap()).context.pc, 0x1000, "its registers are in that CPU");
    kick_other(k);
    assert_eq!(state(k, boss), State::Ready);
    assert_eq!(registers(k, boss), [0, 0x1000, 0x2000, thread_state::READY]);
    assert_eq!(k.cpus[1].current(), k.find(victim), "it runs on");
    control(k, boss, &[thread_op::SUSPEND, victim.0]);
    kick_other(k);
    assert_eq!((state(k, victim), k.cpus[1].current()), (State::Stopped, None));
    assert_eq!(control(k, boss, &[thread_op::RESUME, victim.0])[0], 0, "nobody has to be asked");
    kick_other(k);
    assert_eq!(k.cpus[1].current(), k.find(victim));
    control(k, boss, &[thread_op::DELETE, victim.0]);
    kick_other(k);
    assert_eq!((state(k, victim), registers(k, boss)[0], state(k, boss)), (State::Free, 0, State::Ready));
}

#[test]
fn nothing_is_lost_when_either_side_of_a_visit_ends() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let other = self::boss(k);
    let victim = runner(k);
    // The caller ends.
    control(k, boss, &[thread_op::SUSPEND, victim.0]);
    control(k, other, &[thread_op::DELETE, boss.0]);
    assert_eq!(state(k, boss), State::Free);
    kick_other(k);
    assert_eq!(k.cpus[1].current(), k.find(victim), "the call ended with it");
    // The caller is told to stop waiting.
    let boss = self::boss(k);
    control(k, boss, &[thread_op::SUSPEND, victim.0]);
    let exchanged = control(k, other, &[thread_op::EXCHANGE, boss.0, exchange::X0]);
    assert_eq!(exchanged[0], Error::WrongState.code(), "x0 is the operation");
    let exchanged = control(k, other, &[thread_op::EXCHANGE, boss.0, exchange::PC, 0x5000]);
    assert_eq!(exchanged[0], Error::WrongState.code(), "it may have to be executed again");
    assert_eq!(k.thread(k.find(boss).unwrap()).context.pc, 0x1000);
    assert_eq!(
        control(k, other, &[thread_op::EXCHANGE, boss.0, exchange::CANCEL])[3],
        thread_state::CONTROLLING
    );
    assert_eq!((state(k, boss), registers(k, boss)[0]), (State::Ready, Error::Cancelled.code()));
    // The target ends first.
    control(k, boss, &[thread_op::SUSPEND, victim.0]);
    k.enter(1);
    k.delete_thread(k.find(victim).unwrap()).unwrap();
    k.enter(0);
    kick_other(k);
    assert_eq!((state(k, boss), registers(k, boss)[0]), (State::Ready, Error::NoSuchThread.code()));
    // The target moves on to a third place: here, to the caller's own CPU.
    let victim = runner(k);
    control(k, boss, &[thread_op::SUSPEND, victim.0]);
    let t = k.find(victim).unwrap();
    k.enter(1);
    k.set_place(t, 100, 0);
    k.enter(0);
    kick_other(k);
    assert_eq!((state(k, victim), state(k, boss)), (State::Stopped, State::Ready));
}

#[test]
fn many_visitors_are_served_in_steps() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let space = k.create_space(1, true).unwrap();
    let bosses: std::vec::Vec<_> = (0..9).map(|slot| thread(k, space, slot, ThreadId::NIL)).collect();
    let victim = runner(k);
    for boss in &bosses {
        control(k, *boss, &[thread_op::EXCHANGE, victim.0]);
    }
    for _ in 0..3 {
        kick_other(k);
    }
    assert!(bosses.iter().all(|&b| state(k, b) == State::Ready && registers(k, b)[1] == 0x1000));
}

#[test]
fn a_space_is_destroyed_wherever_its_threads_are() {
    let mut w = world(2, 2);
    let boss = boss(&mut w[0]);
    let (_, remote) = program(&mut w[1], 20);
    let k = &mut w[0];
    let before = k.db.stats();
    let space = k.create_space(20, false).unwrap();
    (1..30).for_each(|slot| _ = thread(k, space, slot, ThreadId::NIL));
    let held = thread(k, space, 0, ThreadId::NIL);
    k.enter(1);
    let running = thread(k, space, 40, ThreadId::NIL);
    run(k, running);
    k.enter(0);
    ipc(k, held, Ipc::call(remote, 1, &[]));
    assert_eq!(state(k, held), State::AwaitingResponse);
    let t = k.find(boss).unwrap();
    let (mut calls, mut visits, mut waits) = (0, 0, 0);
    while w[0].find_space(space).is_some() {
        let k = &mut w[0];
        if state(k, boss) == State::Ready {
            // A call that was interrupted is executed again, with the same registers.
            calls += 1;
            k.thread_mut(t).context.pc = 0x1004;
            syscall_step(k, boss, SPACE_CONTROL, &[space_op::DESTROY, space.0]);
            k.pick();
            assert!(
                k.find_space(space).is_none()
                    || state(k, boss) != State::Ready
                    || k.thread(t).context.pc == 0x1000
            );
        } else if k.find(running).is_some() {
            visits += 1;
            kick_other(k);
        } else {
            waits += 1;
            settle(&mut w);
            ipc(&mut w[1], remote, Ipc::receive(ThreadId::ANY));
            settle(&mut w);
        }
        assert!(calls + visits + waits < 200);
    }
    assert!(calls > 4 && visits == 1 && waits == 1, "{calls} calls, {visits} visits, {waits} waits");
    assert_eq!((registers(&w[0], boss)[0], w[0].db.stats()), (0, before));
}

#[test]
fn partners_that_have_ended_make_room() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let boss = boss(k);
    let space = k.create_space(20, false).unwrap();
    let grant = |k: &mut TestKernel, partner: ThreadId| {
        syscall(k, boss, SPACE_CONTROL, &[space_op::GRANT_PARTNER, space.0, partner.0])[0]
    };
    let partners: Vec<_> = (0..8).map(|domain| program(k, 30 + domain).1).collect();
    // One of another cluster, about whose end nothing is known here.
    let foreign = ThreadId::new(1, 3, 1);
    assert!(partners[1..].iter().all(|&partner| grant(k, partner) == 0));
    assert_eq!((grant(k, foreign), grant(k, partners[0])), (0, Error::TableFull.code()));
    assert_eq!(syscall(k, boss, THREAD_CONTROL, &[thread_op::DELETE, partners[3].0])[0], 0);
    assert_eq!((grant(k, partners[0]), grant(k, partners[1])), (0, 0));
    let (_, another) = program(k, 40);
    assert_eq!(grant(k, another), Error::TableFull.code());
    let space = &k.spaces[usize::from(space.slot())];
    let still = |id: &ThreadId| space.is_partner(*id);
    assert!(still(&foreign) && !still(&partners[3]) && partners.iter().filter(|&id| still(id)).count() == 7);
}

#[test]
fn a_thread_that_moves_gets_the_pager_of_its_cpu() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let (_, old) = program(k, 30);
    let (_, new) = program(k, 31);
    let space = k.create_space(20, false).unwrap();
    let paged = thread(k, space, 0, old);
    let t = k.find(paged).unwrap();
    let places = |k: &TestKernel| {
        let thread = k.thread(t);
        let cpu =
            k.utcb_at(thread.utcb_page, thread.utcb_slot)[1].load(core::sync::atomic::Ordering::Relaxed);
        (thread.pager, thread.handler, thread.cpu, cpu)
    };
    let before = places(k);
    assert_eq!((before.0, before.2, before.3), (old, 0, 0));
    assert_eq!(syscall(k, boss, SCHEDULE, &[0, paged.0, KEEP, KEEP, 1, new.0])[0], 0);
    let handler = if before.1 == old { new } else { before.1 };
    assert_eq!(places(k), (new, handler, 1, 1));
    // As it is.
    assert_eq!(syscall(k, boss, SCHEDULE, &[0, paged.0, KEEP, KEEP, 0, 0])[0], 0);
    assert_eq!(places(k), (new, handler, 0, 0));
    // Of another cluster: nothing changes.
    let foreign = ThreadId::new(1, 0, 1).0;
    assert_eq!(
        syscall(k, boss, SCHEDULE, &[0, paged.0, KEEP, KEEP, 1, foreign])[0],
        Error::BadArgument.code()
    );
    assert_eq!(places(k), (new, handler, 0, 0));
}

#[test]
fn threads_move_between_cpus_in_every_state() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let moved = |k: &mut TestKernel, id: ThreadId, cpu: u64| {
        let result = syscall(k, boss, SCHEDULE, &[0, id.0, KEEP, KEEP, cpu])[0];
        k.pick();
        result
    };
    let (_, a) = program(k, 20);
    let t = k.find(a).unwrap();
    // Ready: it competes there.
    assert_eq!(moved(k, a, 1), 0);
    assert_eq!(k.thread(t).cpu, 1);
    kick_other(k);
    assert_eq!(k.cpus[1].current(), Some(t));
    // Running there, with live floating-point registers: only that CPU can let go of it.
    k.thread_mut(t).fp_live = true;
    moved(k, a, 0);
    assert_eq!((state(k, boss), k.thread(t).cpu), (State::Controlling, 1));
    kick_other(k);
    assert_eq!((state(k, boss), k.thread(t).cpu, k.hal.saved_fp), (State::Ready, 0, 1));
    assert!(!k.thread(t).fp_live && k.thread(t).fp.fpcr != 0 && k.cpus[1].current().is_none());
    // Waiting with a deadline: that CPU's timer has to ring.
    k.hal.now = 10;
    ipc(k, a, Ipc { receive_timeout: Timeout(100), ..Ipc::receive(ThreadId::ANY) });
    assert_eq!(k.deadline(), 100);
    assert_eq!(moved(k, a, 1), 0);
    assert_eq!(k.deadline(), u64::MAX);
    assert_eq!(k.hal.kicks.last(), Some(&1));
    k.enter(1);
    assert_eq!(k.deadline(), 100);
    k.hal.now = 100;
    k.handle(Event::Tick);
    assert_eq!(outcome(k, a).1.error(), Some(Error::Timeout));
    assert_eq!(k.pick(), Some(t));
    // Blocked there with floating-point registers in that CPU's unit.
    k.thread_mut(t).fp_live = true;
    ipc(k, a, Ipc::receive(ThreadId::ANY));
    k.enter(0);
    moved(k, a, 0);
    assert_eq!(state(k, boss), State::Controlling);
    kick_other(k);
    assert_eq!((k.thread(t).cpu, k.hal.saved_fp, state(k, a)), (0, 2, State::Receiving));
    assert_eq!(registers(k, boss)[0], 0);
    // Nonsense.
    for cpu in [2, 70_000] {
        assert_eq!(moved(k, a, cpu), Error::BadArgument.code());
    }
    // Its caller itself.
    assert_eq!(moved(k, boss, 1), 0);
    assert_eq!(k.cpus[0].current(), None);
    k.enter(1);
    assert_eq!(k.pick(), k.find(boss));
}

#[test]
fn a_new_priority_counts_at_once() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let set = |k: &mut TestKernel, id: ThreadId, priority| {
        syscall(k, boss, SCHEDULE, &[0, id.0, priority, KEEP, KEEP])[0]
    };
    assert_eq!(set(k, boss, 150), 0);
    assert_eq!(k.pick(), k.find(boss));
    assert_eq!(set(k, b, 120), 0);
    assert_eq!(k.pick(), k.find(boss), "still the most urgent");
    assert_eq!(set(k, boss, 50), 0);
    assert_eq!(k.pick(), k.find(b));
    ipc(k, b, Ipc::receive(ThreadId::ANY));
    assert_eq!(k.cpus[0].current(), k.find(a));
    assert_eq!(set(k, a, 256), Error::BadArgument.code());
    // Of one that runs elsewhere: that CPU looks again.
    let far = runner(k);
    k.hal.kicks.clear();
    assert_eq!(set(k, far, 1), 0);
    assert_eq!((k.hal.kicks.as_slice(), k.thread(k.find(far).unwrap()).priority), (&[1][..], 1));
}
