//! The fast paths inside a cluster ([`crate::fastpath`]) without one of their checks. A hostile case has worked when the fast path was
//! taken.

use super::*;

/// Tries the fast path alone.
fn fast(k: &mut TestKernel, attacker: ThreadId, call: &Ipc, run: Run<'_>) -> bool {
    let cpu = asks(k, attacker, call);
    run(&mut || k.fast_ipc(cpu).is_some())
}

/// The same for the one to another CPU.
fn fast_elsewhere(k: &mut TestKernel, attacker: ThreadId, call: &Ipc, run: Run<'_>) -> bool {
    let cpu = asks(k, attacker, call);
    run(&mut || k.fast_elsewhere(cpu))
}

/// The attacker is about to make an IPC system call on the CPU that is returned.
fn asks(k: &mut TestKernel, attacker: ThreadId, call: &Ipc) -> usize {
    let t = crate::tests::world::run(k, attacker);
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[2], x[12], x[13]) = (call.dest.0, call.from.0, call.tag.0, u64::MAX, 0);
    k.this_cpu.into()
}

/// A pager and its client.
fn paged(k: &mut TestKernel) -> (ThreadId, ThreadId) {
    let (_, pager) = program(k, 2);
    let space = k.create_space(20, false).expect("room");
    (pager, thread(k, space, 0, pager))
}

/// What the hostile cases change of an answer to a fault.
struct Answer {
    dest: ThreadId,
    tag: Tag,
    guard: Option<Guard>,
}

/// Tries the fast answer to a fault alone, after `change`.
fn answers(
    k: &mut TestKernel,
    change: impl FnOnce(&mut TestKernel, ThreadId, &mut Answer),
    run: Run<'_>,
) -> bool {
    let (pager, client) = paged(k);
    let spaces = [pager, client].map(|id| k.thread(k.find(id).expect("lives")).space);
    k.db.map_root(spaces[0], HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
    k.db.map_root(spaces[1], HERE + 4096, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    assert!(faults(k, client, &|step| step()));
    k.hal.memory.insert((Space::asid(spaces[0]), HERE), 0);
    let mut answer = Answer { dest: client, tag: Tag::new(0, 0, 2), guard: None };
    change(k, client, &mut answer);
    let item = MapItem { fpage: Fpage::new(HERE, 12, Rights::RW).unwrap(), dest: HERE };
    let (item, _) = Item { guard: answer.guard, ..item.into() }.words();
    let t = crate::tests::world::run(k, pager);
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[2]) = (answer.dest.0, ThreadId::ANY.0, answer.tag.0);
    x[3..7].copy_from_slice(&item);
    (x[12], x[13]) = (Timeout::NEVER.0, 0);
    let cpu = usize::from(k.this_cpu);
    run(&mut || k.fast_answer(cpu).is_some())
}

/// Calls somebody else, on the fast path.
fn waits_for_an_answer(k: &mut TestKernel, id: ThreadId) {
    let domain = k.thread(k.find(id).expect("lives")).domain as u32;
    let (_, friend) = program(k, domain);
    ipc(k, friend, Ipc::receive(ThreadId::ANY));
    assert!(fast(k, id, &Ipc::call(friend, 1, &[]), &|step| step()));
}

/// As after an unmap that spared the CPUs where the space does not run.
pub(super) fn forget_runs(k: &mut TestKernel, id: ThreadId) {
    let space = k.thread(k.find(id).expect("lives")).space;
    k.spaces[usize::from(space)].ran_on = CpuSet::EMPTY;
}

/// Tries the fast path of faults alone.
fn faults(k: &mut TestKernel, client: ThreadId, run: Run<'_>) -> bool {
    crate::tests::world::run(k, client);
    let cpu = usize::from(k.this_cpu);
    run(&mut || k.fast_fault(cpu, HERE, Rights::R, 0).is_some())
}

pub(super) fn identity(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    let stale = ThreadId::new(0, victim.slot(), victim.generation() + 1);
    fast(k, attacker, &Ipc::call(stale, 1, &[]), run)
}

pub(super) fn ready(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    waits_for_an_answer(k, victim);
    fast(k, attacker, &Ipc::call(victim, 1, &[]), run)
}

pub(super) fn standing(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    // It runs again, and its registers are its own.
    ipc(k, attacker, Ipc::send(victim, 1, &[]));
    fast(k, attacker, &Ipc::call(victim, 2, &[]), run)
}

pub(super) fn elsewhere(run: Run<'_>) -> bool {
    let k = &mut world(1, 2)[0];
    let victim = program(k, 20).1;
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    k.enter(1);
    let attacker = program(k, 20).1;
    // It runs again, and its registers are its own.
    ipc(k, attacker, Ipc::send(victim, 1, &[]));
    fast_elsewhere(k, attacker, &Ipc::call(victim, 2, &[]), run)
}

pub(super) fn sends_after_its_end(run: Run<'_>) -> bool {
    let k = &mut world(1, 2)[0];
    let victim = program(k, 20).1;
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    k.enter(1);
    let attacker = program(k, 20).1;
    let cpu = asks(k, attacker, &Ipc::call(victim, 2, &[]));
    // It runs until its CPU hears of it.
    k.enter(0);
    k.delete_thread(k.find(attacker).expect("lives")).expect("may be deleted");
    k.enter(1);
    run(&mut || k.fast_elsewhere(cpu))
}

pub(super) fn plain(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    fast(k, attacker, &Ipc { tag: Tag::new(0, 0, 1), ..Ipc::call(victim, 0, &[]) }, run)
}

pub(super) fn label(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    fast(k, attacker, &Ipc::call(victim, kernel_label::PAGE_FAULT, &[]), run)
}

pub(super) fn permission(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = strangers(k);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    fast(k, attacker, &Ipc::call(victim, 1, &[]), run)
}

pub(super) fn queue(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, server, client) = (program(k, 20).1, program(k, 20).1, program(k, 20).1);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(server, 1, &[]));
    // It waits first, and would be passed over.
    ipc(k, victim, Ipc::call(server, 1, &[]));
    fast(k, server, &Ipc { from: ThreadId::ANY, ..Ipc::call(client, 1, &[]) }, run)
}

pub(super) fn notified(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (server, client) = (program(k, 20).1, program(k, 20).1);
    ipc(k, server, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(server, 1, &[]));
    let t = k.find(server).expect("lives");
    k.notify(t, 1);
    fast(k, server, &Ipc { from: ThreadId::ANY, ..Ipc::call(client, 1, &[]) }, run)
}

pub(super) fn tlb(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
    ipc(k, victim, Ipc::receive(ThreadId::ANY));
    forget_runs(k, victim);
    fast(k, attacker, &Ipc::call(victim, 1, &[]), run)
}

pub(super) fn pager_tlb(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (pager, client) = paged(k);
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    forget_runs(k, pager);
    faults(k, client, run)
}

pub(super) fn pager_identity(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (space, old) = program(k, 2);
    let client_space = k.create_space(20, false).unwrap();
    let client = thread(k, client_space, 0, old);
    let t = k.find(old).expect("lives");
    k.delete_thread(t).unwrap();
    // Somebody else's thread in the old pager's slot.
    let new = thread(k, space, 0, ThreadId::NIL);
    assert_eq!(new.slot(), old.slot());
    ipc(k, new, Ipc::receive(ThreadId::ANY));
    faults(k, client, run)
}

pub(super) fn pager_ready(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (pager, client) = paged(k);
    waits_for_an_answer(k, pager);
    faults(k, client, run)
}

pub(super) fn pager_standing(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (pager, client) = paged(k);
    let friend = program(k, 2).1;
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    let t = k.find(pager).expect("lives");
    k.thread_mut(t).open_to = ThreadId::ANY;
    ipc(k, friend, Ipc::send(pager, 1, &[]));
    k.thread_mut(t).open_to = ThreadId::ANY;
    faults(k, client, run)
}

pub(super) fn answer_item(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    answers(k, |_, _, answer| answer.tag = Tag::new(0, 1, 2), run)
}

pub(super) fn answer_guard(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    // The word is zero.
    let guard = Guard { address: HERE, expected: 1 };
    answers(k, |_, _, answer| (answer.tag, answer.guard) = (Tag::new(0, 0, 4), Some(guard)), run)
}

pub(super) fn answer_label(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    answers(k, |_, _, answer| answer.tag = Tag::new(kernel_label::REJECT_FAULT, 0, 2), run)
}

pub(super) fn answer_identity(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let stale = |_: &mut TestKernel, client: ThreadId, answer: &mut Answer| {
        answer.dest = ThreadId::new(0, client.slot(), client.generation() + 1);
    };
    answers(k, stale, run)
}

pub(super) fn answer_right(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let other = |k: &mut TestKernel, client: ThreadId, _: &mut Answer| {
        let t = k.find(client).expect("lives");
        k.thread_mut(t).reply_space = SpaceId::root(0);
    };
    answers(k, other, run)
}

pub(super) fn answer_fault(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let exception = |k: &mut TestKernel, client: ThreadId, _: &mut Answer| {
        let t = k.find(client).expect("lives");
        k.thread_mut(t).op.kind = Kind::Exception { esr: 0, far: 0 };
    };
    answers(k, exception, run)
}

pub(super) fn answer_standing(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let urgent = |k: &mut TestKernel, _: ThreadId, _: &mut Answer| {
        let space = k.create_space(20, false).expect("room");
        let new = NewThread { space: space.slot(), priority: 200, ..new_thread() };
        let id = k.create_thread(new).expect("room");
        k.start_thread(k.find(id).expect("lives"), 0, 0, 0).expect("new");
    };
    answers(k, urgent, run)
}

pub(super) fn answer_tlb(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    answers(k, |k, client, _| forget_runs(k, client), run)
}

pub(super) fn answer_queue(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let queued = |k: &mut TestKernel, client: ThreadId, _: &mut Answer| {
        let pager = k.thread(k.find(client).expect("lives")).pager;
        let (_, other) = program(k, 2);
        ipc(k, other, Ipc::call(pager, 1, &[]));
    };
    answers(k, queued, run)
}

pub(super) fn answer_notified(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let notified = |k: &mut TestKernel, client: ThreadId, _: &mut Answer| {
        let pager = k.thread(k.find(client).expect("lives")).pager;
        let t = k.find(pager).expect("lives");
        k.notify(t, 1);
    };
    answers(k, notified, run)
}

pub(super) fn unmap_all(run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let space = program(k, 20).0.slot();
    k.db.map_root(space, HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
    let page = Fpage::new(HERE, 12, Rights::W).unwrap();
    run(&mut || k.fast_unmap(space, page.word()).is_some())
}
