//! The short way between clusters ([`crate::remote`]) without one of its checks. A hostile case has worked when the short way was
//! taken.

use super::Run;
use crate::remote::Ending;
use crate::tests::world::*;
use crate::thread::{State, Tcb, hold};
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::NOTIFY;
use skerry_abi::{SpaceId, Tag, ThreadId, Timeout};
use std::vec::Vec;

/// A client of cluster 0 and a server of cluster 1, of these domains, alone on their CPUs.
struct Pair {
    w: Vec<TestKernel<'static>>,
    client: ThreadId,
    space: SpaceId,
    server: ThreadId,
}

impl Pair {
    fn new(domains: [u32; 2]) -> Self {
        let mut w = world(2, 1);
        let (_, client) = program(&mut w[0], domains[0]);
        let (space, server) = program(&mut w[1], domains[1]);
        Self { w, client, space, server }
    }

    /// The server has taken a call of the client, which waits for the answer.
    fn owing() -> Self {
        let mut pair = Self::new([20, 20]);
        ipc(&mut pair.w[1], pair.server, Ipc::receive(ThreadId::ANY));
        ipc(&mut pair.w[0], pair.client, Ipc::call(pair.server, 1, &[]));
        settle(&mut pair.w);
        assert_eq!(outcome(&pair.w[1], pair.server).0, pair.client);
        pair
    }

    /// Tries the short way out alone.
    fn goes_out(&mut self, cluster: usize, attacker: ThreadId, call: &Ipc, run: Run<'_>) -> bool {
        let k = &mut self.w[cluster];
        let t = super::super::world::run(k, attacker);
        let x = &mut k.thread_mut(t).context.x;
        (x[0], x[1], x[2]) = (call.dest.0, call.from.0, call.tag.0);
        (x[11], x[12], x[13]) = (Timeout::NEVER.0, Timeout::NEVER.0, 0);
        let cpu = k.this_cpu;
        run(&mut || k.fast_remote(cpu))
    }

    /// Tries the short way in alone.
    fn comes_in(&mut self, cluster: usize, run: Run<'_>) -> bool {
        let k = &mut self.w[cluster];
        let cpu = k.this_cpu;
        run(&mut || k.fast_doorbell(cpu).is_some())
    }

    fn tcb(&mut self, cluster: usize, id: ThreadId) -> &mut Tcb {
        let t = self.w[cluster].find(id).expect("lives");
        self.w[cluster].thread_mut(t)
    }
}

/// The client sends what it must not.
pub(super) fn sends(tag: Tag, run: Run<'_>) -> bool {
    let mut pair = Pair::new([20, 20]);
    let call = Ipc { tag, ..Ipc::call(pair.server, 1, &[]) };
    pair.goes_out(0, pair.client, &call, run)
}

pub(super) fn items(run: Run<'_>) -> bool {
    sends(Tag::new(1, 0, 2), run)
}

pub(super) fn forged_label(run: Run<'_>) -> bool {
    sends(Tag::new(kernel_label::PAGE_FAULT, 3, 0), run)
}

/// The server answers and sleeps, although somebody waits for it.
pub(super) fn forgets_a_sender(run: Run<'_>) -> bool {
    let mut pair = Pair::owing();
    let (_, waiting) = program(&mut pair.w[1], 20);
    ipc(&mut pair.w[1], waiting, Ipc::call(pair.server, 1, &[]));
    pair.goes_out(1, pair.server, &Ipc::reply_wait(pair.client, 2, &[]), run)
}

pub(super) fn forgets_a_notification(run: Run<'_>) -> bool {
    let mut pair = Pair::owing();
    pair.tcb(1, pair.server).notified = 1;
    pair.goes_out(1, pair.server, &Ipc::reply_wait(pair.client, 2, &[]), run)
}

/// Another space answers.
pub(super) fn usurps_a_right(run: Run<'_>) -> bool {
    let mut pair = Pair::owing();
    ipc(&mut pair.w[1], pair.server, Ipc::receive(ThreadId::ANY));
    let (_, attacker) = program(&mut pair.w[1], 20);
    pair.goes_out(1, attacker, &Ipc::reply_wait(pair.client, 666, &[]), run)
}

/// A call comes in while the server waits, after `change`.
fn calls(domains: [u32; 2], change: impl FnOnce(&mut Pair), run: Run<'_>) -> bool {
    let mut pair = Pair::new(domains);
    ipc(&mut pair.w[1], pair.server, Ipc::receive(ThreadId::ANY));
    ipc(&mut pair.w[0], pair.client, Ipc::call(pair.server, 1, &[]));
    change(&mut pair);
    pair.comes_in(1, run)
}

pub(super) fn calls_a_stranger(run: Run<'_>) -> bool {
    calls([21, 20], |_| {}, run)
}

/// The id is of a thread that had the slot before.
pub(super) fn calls_by_a_stale_name(run: Run<'_>) -> bool {
    calls([20, 20], |pair| pair.tcb(1, pair.server).id.0 += 1 << 32, run)
}

/// The receiver is suspended: it may end its wait, but not run.
pub(super) fn wakes_who_is_suspended(run: Run<'_>) -> bool {
    calls([20, 20], |pair| pair.tcb(1, pair.server).hold = hold::STOPPED, run)
}

/// The receiver waits for somebody else's answer.
pub(super) fn breaks_into_a_closed_receive(run: Run<'_>) -> bool {
    let mut pair = Pair::new([20, 20]);
    let friend = thread(&mut pair.w[1], pair.space, 1, ThreadId::NIL);
    ipc(&mut pair.w[1], friend, Ipc::receive(ThreadId::ANY));
    ipc(&mut pair.w[1], pair.server, Ipc::call(friend, 1, &[]));
    ipc(&mut pair.w[1], friend, Ipc::receive(ThreadId::ANY));
    ipc(&mut pair.w[0], pair.client, Ipc::call(pair.server, 1, &[]));
    pair.comes_in(1, run)
}

/// The answer comes in, after `change` of the caller.
fn answers(change: impl FnOnce(&mut Tcb), run: Run<'_>) -> bool {
    let mut pair = Pair::owing();
    ipc(&mut pair.w[1], pair.server, Ipc::reply_wait(pair.client, 2, &[]));
    assert_eq!(state(&pair.w[1], pair.server), State::Receiving, "the answer is on its way");
    change(pair.tcb(0, pair.client));
    pair.comes_in(0, run)
}

pub(super) fn answers_a_stale_name(run: Run<'_>) -> bool {
    answers(|caller| caller.id.0 += 1 << 32, run)
}

pub(super) fn wakes_a_suspended_caller(run: Run<'_>) -> bool {
    answers(|caller| caller.hold = hold::STOPPED, run)
}

/// The caller has given up, and called again.
pub(super) fn answers_an_earlier_call(run: Run<'_>) -> bool {
    answers(|caller| caller.remote.seq += 1, run)
}

/// The caller is to be deleted.
pub(super) fn answers_who_is_to_end(run: Run<'_>) -> bool {
    answers(|caller| caller.remote.ending = Ending::Kill, run)
}

/// A thread only waits, after `change`.
fn waits(from: ThreadId, change: impl FnOnce(&mut Pair), run: Run<'_>) -> bool {
    let mut pair = Pair::new([20, 20]);
    change(&mut pair);
    let k = &mut pair.w[1];
    let t = super::super::world::run(k, pair.server);
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[2], x[11]) = (ThreadId::NIL.0, from.0, 0, 0);
    (x[12], x[13]) = (Timeout::NEVER.0, 0);
    let cpu = k.this_cpu;
    run(&mut || k.fast_wait(cpu))
}

pub(super) fn waits_although_somebody_does(run: Run<'_>) -> bool {
    let queues = |pair: &mut Pair| {
        let (_, waiting) = program(&mut pair.w[1], 20);
        ipc(&mut pair.w[1], waiting, Ipc::call(pair.server, 1, &[]));
    };
    waits(ThreadId::ANY, queues, run)
}

pub(super) fn waits_for_what_it_has(run: Run<'_>) -> bool {
    waits(ThreadId::ANY, |pair| pair.tcb(1, pair.server).notified = 1, run)
}

pub(super) fn waits_although_there_is_work(run: Run<'_>) -> bool {
    waits(ThreadId::ANY, |pair| pair.w[1].chores.items = 1, run)
}

pub(super) fn calls_although_there_is_work(run: Run<'_>) -> bool {
    let mut pair = Pair::new([20, 20]);
    pair.w[0].chores.items = 1;
    let call = Ipc::call(pair.server, 1, &[]);
    pair.goes_out(0, pair.client, &call, run)
}

/// Notification bits come in while the server waits for them, after `change`.
fn notes(domains: [u32; 2], wait: Ipc, change: impl FnOnce(&mut Pair), run: Run<'_>) -> bool {
    let mut pair = Pair::new(domains);
    ipc(&mut pair.w[1], pair.server, wait);
    assert_eq!(syscall(&mut pair.w[0], pair.client, NOTIFY, &[pair.server.0, 5])[0], 0);
    change(&mut pair);
    pair.comes_in(1, run)
}

pub(super) fn notifies_a_stranger(run: Run<'_>) -> bool {
    notes([21, 20], Ipc::receive(ThreadId::ANY), |_| {}, run)
}

pub(super) fn notifies_a_stale_name(run: Run<'_>) -> bool {
    notes([20, 20], Ipc::receive(ThreadId::ANY), |pair| pair.tcb(1, pair.server).id.0 += 1 << 32, run)
}

pub(super) fn notifies_who_is_suspended(run: Run<'_>) -> bool {
    let suspend = |pair: &mut Pair| pair.tcb(1, pair.server).hold = hold::STOPPED;
    notes([20, 20], Ipc::receive(ThreadId::ANY), suspend, run)
}

/// The receiver waits for somebody else's answer.
pub(super) fn notifies_in_a_closed_receive(run: Run<'_>) -> bool {
    let mut pair = Pair::new([20, 20]);
    let friend = thread(&mut pair.w[1], pair.space, 1, ThreadId::NIL);
    ipc(&mut pair.w[1], friend, Ipc::receive(ThreadId::ANY));
    ipc(&mut pair.w[1], pair.server, Ipc::call(friend, 1, &[]));
    ipc(&mut pair.w[1], friend, Ipc::receive(ThreadId::ANY));
    assert_eq!(syscall(&mut pair.w[0], pair.client, NOTIFY, &[pair.server.0, 5])[0], 0);
    pair.comes_in(1, run)
}
