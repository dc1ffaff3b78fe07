//! What holds the mapping database, and what others do meanwhile that has nothing to do with it, or nearly.

use super::arenas::{Memory, Rings, Sizes};
use super::invariants::check;
use super::long::*;
use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use crate::trace::RING_PAGES;
use skerry_abi::syscall::{IPC, SPACE_CONTROL, space_op};
use skerry_abi::{Error, Fpage, Rights, Tag, ThreadId, Timeout};
use std::boxed::Box;

/// A privileged thread on the cluster's second CPU.
fn boss(k: &mut TestKernel) -> ThreadId {
    k.enter(1);
    let space = k.create_space(1, true).unwrap();
    let boss = thread(k, space, 0, ThreadId::NIL);
    k.enter(0);
    boss
}

/// It tries to create spaces with too small quotas.
fn create_in_vain(k: &mut TestKernel, boss: ThreadId) {
    k.enter(1);
    for tables in 1..=2 {
        let create = [space_op::CREATE, 20, 0, tables];
        assert_eq!(syscall(k, boss, SPACE_CONTROL, &create)[0], Error::OutOfKernelMemory.code());
        check(k).unwrap();
    }
    k.enter(0);
}

/// A step of the scheduler.
fn step(k: &mut TestKernel) {
    k.handle(Event::Kick);
    k.pick();
    check(k).unwrap();
}

#[test]
fn a_space_that_cannot_be_made_leaves_items_alone() {
    for steps in 0..40 {
        let mut w = world(1, 2);
        let k = &mut w[0];
        let boss = boss(k);
        let (_, giver, taker, call) = giver_and_taker(k);
        // Something was revoked before, and must not be again.
        let spare = pages(BLOCK + 0x1f_f000, 12, Rights::RWX);
        assert_eq!(syscall(k, giver, skerry_abi::syscall::UNMAP, &[1 << 8, spare.word()])[0], 0);
        ipc_step(k, giver, call);
        (0..steps).for_each(|_| step(k));
        create_in_vain(k, boss);
        while k.has_items() {
            step(k);
        }
        assert_eq!((outcome(k, taker.1).1, mapped(k, taker.0, DEST)), (Tag::new(3, 0, 2), 512), "{steps}");
        assert_eq!(state(k, giver), State::Receiving);
    }
}

#[test]
fn a_space_that_cannot_be_made_leaves_an_unmap_alone() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let boss = boss(k);
    let Family { pager, client, .. } = family(k);
    crowd(k, client.0);
    assert!(k.db.check(client.0.slot(), DEST, Rights::W));
    let fpage = pages(BLOCK, 12, Rights::RWX);
    assert!(!begin_unmap(k, pager.1, &[1 << 8, fpage.word()], 2));
    assert!(k.db.is_held());
    create_in_vain(k, boss);
    assert!(k.db.is_held(), "that was not its business");
    assert_eq!(end_unmap(k, pager.1)[1], fpage.with_rights(Rights::RW).word(), "what it found is told");
}

/// The trace rings are to appear where the items of a message go, which are being checked or mapped.
#[test]
fn trace_rings_wait_for_the_items_that_go_to_the_same_place() {
    for steps in 0..40 {
        let rings = Box::leak(Box::new(Rings::new(1)));
        let sizes = Sizes { trace_pages: 2 * RING_PAGES, ..Sizes::LARGE };
        let mut w = Box::leak(Box::new(Memory::new(rings, 2, sizes))).kernels();
        let k = &mut w[0];
        start_root(k);
        let boss = boss(k);
        let (_, giver, taker, call) = giver_and_taker(k);
        ipc_step(k, giver, call);
        (0..steps).for_each(|_| step(k));
        k.enter(1);
        let map_trace = [space_op::MAP_TRACE, taker.0.0, DEST + 0x10_0000, 0, 0];
        assert_eq!(syscall(k, boss, SPACE_CONTROL, &map_trace)[0], Error::AlreadyMapped.code(), "{steps}");
        check(k).unwrap();
        k.enter(0);
        while k.has_items() {
            step(k);
        }
        assert_eq!(outcome(k, taker.1).1, Tag::new(3, 0, 2), "{steps}");
        let frame = |page: u64| k.db.lookup(taker.0.slot(), DEST + (page << 12)).map(|found| found.pa);
        assert!((0..512).all(|page| frame(page) == Some(BLOCK + (page << 12))), "{steps}");
    }
}

/// Lets those who want to execute their IPC again do so, and the scheduler what is left, until nothing moves.
fn go_on(k: &mut TestKernel, callers: [(ThreadId, u64); 2]) {
    let mut moves = true;
    while moves {
        moves = k.has_items();
        step(k);
        for (id, pc) in callers {
            let t = k.find(id).unwrap();
            if state(k, id) == State::Ready && k.thread(t).context.pc != pc {
                k.thread_mut(t).context.pc = pc;
                run(k, id);
                k.handle(Event::Syscall(IPC));
                check(k).unwrap();
                moves = true;
            }
        }
    }
}

/// While the items of a message are checked their receiver hears of somebody else, and then receives again.
#[test]
fn a_receiver_that_found_somebody_else_comes_back_for_the_items() {
    const NOTHING: Option<Error> = None;
    for (patient, fails, allowed) in [
        (true, false, [NOTHING, NOTHING]),
        (true, true, [Some(Error::AlreadyMapped); 2]),
        (false, false, [NOTHING, Some(Error::Timeout)]),
        (false, true, [Some(Error::AlreadyMapped), Some(Error::Timeout)]),
    ] {
        for steps in 0..60 {
            let mut w = world(1, 1);
            let k = &mut w[0];
            let (family, giver, taker, call) = giver_and_taker(k);
            if fails {
                map(k, family.pager.0, pages(BLOCK, 12, Rights::R), taker.0, DEST + 0x1f_f000);
            }
            let callers = [giver, taker.1].map(|id| (id, k.thread(k.find(id).unwrap()).context.pc));
            let call = Ipc { from: ThreadId::NIL, wait: patient, send_timeout: Timeout::ZERO, ..call };
            ipc_step(k, giver, call);
            let others = [1, 2].map(|_| program(k, 20).1);
            others.iter().for_each(|&other| ipc_step(k, other, Ipc::send(taker.1, 9, &[])));
            assert_eq!(outcome(k, taker.1).1, Tag::new(9, 0, 0));
            (0..steps).for_each(|_| step(k));
            let mut labels = std::vec![];
            while state(k, taker.1) == State::Ready {
                labels.push(outcome(k, taker.1).1.label());
                ipc_step(k, taker.1, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
                check(k).unwrap();
                go_on(k, callers);
            }
            // Everybody was told what became of it.
            let told = outcome(k, giver).1.error();
            labels.sort_unstable();
            let context = (patient, fails, steps, told, &labels);
            assert_eq!(labels, if told.is_none() { &[3, 9, 9][..] } else { &[9, 9] }, "{context:?}");
            assert!(allowed.contains(&told), "{context:?}");
            assert_eq!(state(k, others[1]), State::Ready, "{context:?}");
            assert_eq!(mapped(k, taker.0, DEST), if told.is_none() { 512 } else { 1 + usize::from(fails) });
        }
    }
}
