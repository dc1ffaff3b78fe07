//! Operations that are interrupted: what others see in between, and what becomes of them when somebody goes away.

use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::syscall::{SPACE_CONTROL, THREAD_CONTROL, UNMAP, exchange, space_op, thread_op};
use skerry_abi::{Counter, Error, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_mapping_db::{Attr, Stats};
use std::vec::Vec;

pub(super) const BLOCK: u64 = 0x4020_0000;
pub(super) const DEST: u64 = 0x4000_0000;

pub(super) fn pages(base: u64, bits: u32, rights: Rights) -> Fpage {
    Fpage::new(base, bits, rights).unwrap()
}

pub(super) fn map(k: &mut TestKernel, from: SpaceId, src: Fpage, to: SpaceId, dest: u64) {
    let (db, mut tlb) = k.db_and_tlb();
    db.map(&mut tlb, from.slot(), src, to.slot(), dest, Attr::Normal).unwrap();
}

/// A root space with a block, a pager that has all of it in pages, and a client of it with the same pages.
pub(super) struct Family {
    pub(super) pager: (SpaceId, ThreadId),
    pub(super) client: (SpaceId, ThreadId),
    pub(super) before: Stats,
}

pub(super) fn family(k: &mut TestKernel) -> Family {
    let (root, _) = program(k, 1);
    k.db.map_root(root.slot(), BLOCK, BLOCK, 21, Rights::RWX, Attr::Normal).unwrap();
    // The root keeps the table of its smaller children from now on.
    let (space, _) = program(k, 1);
    map(k, root, pages(BLOCK, 12, Rights::RW), space, DEST);
    k.destroy_space(space.slot()).unwrap();
    let before = k.db.stats();
    let (pager, client) = (program(k, 20), program(k, 20));
    for page in (0..512).map(|page| page << 12) {
        map(k, root, pages(BLOCK + page, 12, Rights::RW), pager.0, BLOCK + page);
        map(k, pager.0, pages(BLOCK + page, 12, Rights::RW), client.0, DEST + page);
    }
    Family { pager, client, before }
}

pub(super) fn mapped(k: &TestKernel, space: SpaceId, base: u64) -> usize {
    (0..512).filter(|page| k.db.lookup(space.slot(), base + (page << 12)).is_some()).count()
}

/// Begins an UNMAP and does `steps` steps of it. Whether it is over.
pub(super) fn begin_unmap(k: &mut TestKernel, id: ThreadId, args: &[u64], steps: usize) -> bool {
    let t = k.find(id).unwrap();
    let pc = k.thread(t).context.pc;
    for step in 0..steps {
        syscall_step(k, id, UNMAP, if step == 0 { args } else { &[] });
        if k.thread(t).context.pc == pc {
            return true;
        }
        k.thread_mut(t).context.pc = pc;
    }
    false
}

/// Goes on with it to the end.
pub(super) fn end_unmap(k: &mut TestKernel, id: ThreadId) -> [u64; 9] {
    syscall(k, id, UNMAP, &[])
}

#[test]
fn a_large_unmap_is_interrupted_and_tells_everything_in_the_end() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let Family { pager, client, .. } = family(k);
    // Written in the first quarter, only read in the last.
    assert!(k.db.check(client.0.slot(), DEST + 0x3000, Rights::W));
    assert!(k.db.check(client.0.slot(), DEST + 0x1f_f000, Rights::R));
    let halves = [pages(BLOCK, 20, Rights::RWX), pages(BLOCK + (1 << 20), 20, Rights::RWX)];
    let points = k.counters.total(Counter::PreemptionPoints);
    assert!(!begin_unmap(k, pager.1, &[2 << 8, halves[0].word(), halves[1].word()], 3));
    let left = mapped(k, client.0, DEST);
    assert!((1..512).contains(&left), "{left}");
    let result = end_unmap(k, pager.1);
    let seen = halves.map(|half| half.with_rights(Rights::NONE).word());
    assert_eq!(result[..3], [0, seen[0] | Rights::RW.bits(), seen[1] | Rights::R.bits()]);
    assert!(k.counters.total(Counter::PreemptionPoints) > points + 3);
    assert_eq!((mapped(k, client.0, DEST), mapped(k, pager.0, BLOCK)), (0, 512));
    assert_eq!(k.counters.total(Counter::Unmaps), 512);
    // Told once.
    assert_eq!(syscall(k, pager.1, UNMAP, &[1 << 8, halves[0].word()])[1], seen[0]);
}

#[test]
fn an_interrupted_unmap_of_many_pages_does_not_invalidate_each() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let Family { pager, client, .. } = family(k);
    k.note_run(client.0.slot());
    let asid = crate::space::Space::asid(client.0.slot());
    (0..512).for_each(|page| _ = k.hal.tlbs.insert((0, asid, (DEST >> 12) + page), page));
    let before = k.counters.total(Counter::TlbLocal);
    let fpage = pages(BLOCK, 21, Rights::RWX);
    assert!(!begin_unmap(k, pager.1, &[1 << 8, fpage.word()], 10));
    // What is unmapped is in no TLB after any step.
    let cached = |k: &TestKernel, page: u64| k.hal.tlbs.contains_key(&(0, asid, (DEST >> 12) + page));
    let gone = |k: &TestKernel, page: u64| k.db.lookup(client.0.slot(), DEST + (page << 12)).is_none();
    assert!((0..512).all(|page| !(gone(k, page) && cached(k, page))));
    assert_eq!(end_unmap(k, pager.1)[0], 0);
    assert!((0..512).all(|page| gone(k, page) && !cached(k, page)));
    let local = k.counters.total(Counter::TlbLocal) - before;
    assert!((32..200).contains(&local), "{local}");
    // The next one is another operation.
    let page = pages(DEST, 12, Rights::RWX);
    map(k, pager.0, pages(BLOCK, 12, Rights::RW), client.0, DEST);
    let before = k.counters.total(Counter::TlbLocal);
    k.note_run(client.0.slot());
    k.hal.tlbs.insert((0, asid, DEST >> 12), 0);
    k.hal.tlbs.insert((0, asid, (DEST >> 12) + 600), 0);
    assert_eq!(syscall(k, client.1, UNMAP, &[1 | 1 << 8, page.word()])[0], 0);
    assert!(!cached(k, 0) && cached(k, 600), "one page, not all of the space");
    assert_eq!(k.counters.total(Counter::TlbLocal) - before, 1);
}

/// A space that has the client's first page, and 200 mappings of its own derived from it.
pub(super) fn crowd(k: &mut TestKernel, client: SpaceId) -> Vec<SpaceId> {
    let page = |base| pages(base, 12, Rights::RW);
    let (middle, _) = program(k, 20);
    map(k, client, page(DEST), middle, DEST);
    (0..200).for_each(|at| map(k, middle, page(DEST), middle, DEST + 0x1000 + (at << 12)));
    std::vec![middle]
}

#[test]
fn nobody_maps_out_of_what_is_being_revoked() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let Family { pager, client, before } = family(k);
    let crowd = crowd(k, client.0);
    let (taker, receiver) = program(k, 20);
    ipc(k, receiver, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    assert!(!begin_unmap(k, pager.1, &[1 << 8, pages(BLOCK, 12, Rights::RWX).word()], 2));
    assert!(k.db.is_held());
    assert!(k.db.lookup(client.0.slot(), DEST).is_some(), "children first");
    // The client tries to save its page: it has to help, and then the page is gone.
    let item = MapItem { fpage: pages(DEST, 12, Rights::RW), dest: DEST };
    let call = || Ipc { tag: Tag::new(0, 0, 2), words: item.words().into(), ..Ipc::send(receiver, 0, &[]) };
    let mut tries = 0;
    loop {
        tries += 1;
        let t = k.find(client.1).unwrap();
        let pc = k.thread(t).context.pc;
        ipc_step(k, client.1, call());
        if k.thread(t).context.pc == pc {
            break;
        }
        k.thread_mut(t).context.pc = pc;
    }
    assert!(tries > 2, "{tries}");
    assert_eq!(outcome(k, client.1).1.error(), Some(Error::NothingMapped));
    assert_eq!(mapped(k, taker, DEST), 0);
    // What was helped with is told to whom it concerns.
    assert_eq!(end_unmap(k, pager.1)[0], 0);
    for space in [pager.0, client.0, taker].into_iter().chain(crowd) {
        k.destroy_space(space.slot()).unwrap();
    }
    assert_eq!(k.db.stats(), before);
}

#[test]
fn what_a_helper_found_is_told_to_the_one_who_asked() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let Family { pager, client, .. } = family(k);
    crowd(k, client.0);
    assert!(k.db.check(client.0.slot(), DEST, Rights::W));
    let fpage = pages(BLOCK, 13, Rights::RWX);
    assert!(!begin_unmap(k, pager.1, &[1 << 8, fpage.word()], 2));
    assert!(k.db.is_held());
    // Somebody else wants something else, and completes the first page.
    let (other, helper) = program(k, 20);
    let held = [1 << 8, pages(0, 12, Rights::RWX).word()];
    assert_eq!(syscall(k, helper, UNMAP, &held)[0], 0);
    assert!(!k.db.is_held() && k.db.lookup(client.0.slot(), DEST).is_none());
    assert!(k.db.lookup(client.0.slot(), DEST + 0x1000).is_some(), "that is not the helper's business");
    assert_eq!(end_unmap(k, pager.1)[1], fpage.with_rights(Rights::RW).word());
    assert!(k.db.lookup(client.0.slot(), DEST + 0x1000).is_none());
    k.destroy_space(other.slot()).unwrap();
}

#[test]
fn a_caller_that_is_deleted_in_the_middle_leaves_nothing() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let Family { pager, client, before } = family(k);
    let crowd = crowd(k, client.0);
    let (boss_space, boss) = (k.create_space(1, true).unwrap(), 0);
    let boss = thread(k, boss_space, boss, ThreadId::NIL);
    let colleague = thread(k, pager.0, 1, ThreadId::NIL);
    assert!(!begin_unmap(k, pager.1, &[1 << 8, pages(BLOCK, 12, Rights::RWX).word()], 2));
    assert!(k.db.is_held());
    assert_eq!(syscall(k, boss, THREAD_CONTROL, &[thread_op::DELETE, pager.1.0])[0], 0);
    // The slot is used again: the new thread knows nothing of it.
    let heir = thread(k, pager.0, 0, ThreadId::NIL);
    assert_eq!(heir.slot(), pager.1.slot());
    let query = pages(BLOCK + 0x5000, 12, Rights::NONE);
    assert_eq!(syscall(k, heir, UNMAP, &[1 << 8, query.word()])[1], query.word());
    assert_eq!(syscall(k, colleague, UNMAP, &[1 << 8, pages(BLOCK, 21, Rights::RWX).word()])[0], 0);
    assert_eq!(mapped(k, client.0, DEST), 0);
    // A space may go while it is in the middle of it.
    for space in [client.0, pager.0].into_iter().chain(crowd) {
        assert_eq!(syscall(k, boss, SPACE_CONTROL, &[space_op::DESTROY, space.0])[0], 0);
    }
    k.destroy_space(boss_space.slot()).unwrap();
    assert_eq!(k.db.stats(), before);
    super::invariants::check(k).unwrap();
}

/// A giver with a block in pages, and a taker that waits for it with a page of its own there: so that the rest comes in pages.
pub(super) fn giver_and_taker(k: &mut TestKernel) -> (Family, ThreadId, (SpaceId, ThreadId), Ipc) {
    let family = family(k);
    let taker = program(k, 20);
    map(k, family.pager.0, pages(BLOCK, 12, Rights::R), taker.0, DEST);
    let call = Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) };
    ipc(k, taker.1, call);
    let item: Item = MapItem { fpage: pages(BLOCK, 21, Rights::RW), dest: DEST }.into();
    let words = item.words().0[..2].to_vec();
    let giver = family.pager.1;
    let call = Ipc { tag: Tag::new(3, 0, 2), words, ..Ipc::reply_wait(taker.1, 3, &[]) };
    (family, giver, taker, call)
}

#[test]
fn many_pages_in_a_message_are_all_there_before_the_receiver_runs() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, giver, taker, call) = giver_and_taker(k);
    ipc_step(k, giver, call);
    let (mut planned, mut committed) = (0, 0);
    while k.has_items() {
        assert_ne!(state(k, taker.1), State::Ready);
        match state(k, giver) {
            // As long as it is checked, nothing is there.
            State::Sending => {
                planned += 1;
                assert_eq!(mapped(k, taker.0, DEST), 1);
            }
            _ => committed += 1,
        }
        super::invariants::check(k).unwrap();
        k.handle(Event::Kick);
        k.pick();
    }
    assert!(planned > 3 && committed > 3, "{planned} {committed}");
    assert_eq!(outcome(k, taker.1).1, Tag::new(3, 0, 2));
    assert_eq!((mapped(k, taker.0, DEST), state(k, giver)), (512, State::Receiving));
    assert_eq!(k.db.lookup(taker.0.slot(), DEST).unwrap().rights, Rights::RW, "rights were added");
}

#[test]
fn items_fail_as_one_after_any_number_of_steps() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (family, giver, taker, call) = giver_and_taker(k);
    // The last page of the destination is somebody else's.
    map(k, family.pager.0, pages(BLOCK, 12, Rights::R), taker.0, DEST + 0x1f_f000);
    let before = k.db.stats();
    ipc(k, giver, call);
    assert_eq!(outcome(k, giver).1.error(), Some(Error::AlreadyMapped));
    assert_eq!((mapped(k, taker.0, DEST), state(k, taker.1)), (2, State::Receiving));
    assert_eq!(k.db.stats(), before);
}

#[test]
fn whoever_goes_away_while_items_are_checked_or_mapped() {
    for (sender_goes, steps) in
        [false, true].into_iter().flat_map(|s| (0..40).step_by(3).map(move |n| (s, n)))
    {
        let mut w = world(1, 1);
        let k = &mut w[0];
        let (family, giver, taker, call) = giver_and_taker(k);
        ipc_step(k, giver, call);
        for _ in 0..steps {
            k.handle(Event::Kick);
            k.pick();
        }
        let decided = state(k, giver) != State::Sending;
        k.delete_thread(k.find(if sender_goes { giver } else { taker.1 }).unwrap()).unwrap();
        // What is left of the budget may not suffice to tell the other one at once.
        while k.chores.is_pending() {
            super::invariants::check(k).unwrap();
            k.handle(Event::Kick);
            k.pick();
        }
        super::invariants::check(k).unwrap();
        assert_eq!(mapped(k, taker.0, DEST), if decided { 512 } else { 1 });
        if sender_goes {
            assert_eq!(state(k, taker.1), if decided { State::Ready } else { State::Receiving });
        } else if !decided {
            // It answered; that nobody takes the answer is not its fault.
            assert_eq!(outcome(k, giver).1.error(), Some(Error::NotWaiting));
        }
        for space in [taker.0, family.client.0, family.pager.0] {
            k.destroy_space(space.slot()).unwrap();
        }
        assert_eq!(k.db.stats(), family.before);
    }
}

#[test]
fn a_receiver_that_polls_gets_what_takes_long() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, giver, taker, call) = giver_and_taker(k);
    // Let it go, and the giver wait.
    let (_, other) = program(k, 20);
    ipc(k, other, Ipc::send(taker.1, 9, &[]));
    ipc(k, giver, Ipc { wait: true, from: ThreadId::NIL, ..call });
    assert_eq!(state(k, giver), State::Sending);
    let poll = Ipc { window: Fpage::COMPLETE, receive_timeout: Timeout::ZERO, ..Ipc::receive(giver) };
    ipc(k, taker.1, poll);
    assert_eq!((outcome(k, taker.1).1, mapped(k, taker.0, DEST)), (Tag::new(3, 0, 2), 512));
}

#[test]
fn a_more_urgent_thread_does_not_wait_for_items_but_helps_if_it_must() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, giver, taker, call) = giver_and_taker(k);
    let (space, urgent) = program(k, 20);
    let u = k.find(urgent).unwrap();
    k.make_unready(u);
    k.thread_mut(u).priority = 200;
    ipc_step(k, giver, call);
    k.make_ready(u);
    k.handle(Event::Kick);
    assert_eq!(k.pick(), Some(u));
    let waiting = mapped(k, taker.0, DEST);
    k.handle(Event::Tick);
    assert_eq!((k.pick(), mapped(k, taker.0, DEST)), (Some(u), waiting));
    // Its own operation comes after.
    assert_eq!(syscall(k, urgent, UNMAP, &[1 << 8, pages(0, 12, Rights::RWX).word()])[0], 0);
    assert_eq!(mapped(k, taker.0, DEST), 512);
    k.destroy_space(space.slot()).unwrap();
}

#[test]
fn a_suspended_receiver_gets_its_items_and_stays_suspended() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, giver, taker, call) = giver_and_taker(k);
    let privileged = k.create_space(1, true).unwrap();
    let boss = thread(k, privileged, 0, ThreadId::NIL);
    ipc_step(k, giver, call);
    while state(k, giver) == State::Sending {
        k.handle(Event::Kick);
        k.pick();
    }
    assert!(k.has_items());
    assert_eq!(syscall(k, boss, THREAD_CONTROL, &[thread_op::SUSPEND, taker.1.0])[0], 0);
    while k.has_items() {
        k.handle(Event::Kick);
        k.pick();
    }
    assert_eq!((state(k, taker.1), mapped(k, taker.0, DEST)), (State::Stopped, 512));
    assert_eq!(syscall(k, boss, THREAD_CONTROL, &[thread_op::RESUME, taker.1.0])[0], 0);
    assert_eq!(outcome(k, taker.1).1, Tag::new(3, 0, 2));
}

#[test]
fn a_sender_that_is_cancelled_meanwhile_has_sent_nothing() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, giver, taker, call) = giver_and_taker(k);
    let privileged = k.create_space(1, true).unwrap();
    let boss = thread(k, privileged, 0, ThreadId::NIL);
    ipc_step(k, giver, call);
    assert_eq!(state(k, giver), State::Sending);
    let cancel = [thread_op::EXCHANGE, giver.0, exchange::CANCEL, 0, 0, 0];
    assert_eq!(syscall(k, boss, THREAD_CONTROL, &cancel)[0], 0);
    while k.has_items() {
        k.handle(Event::Kick);
        k.pick();
    }
    assert!(!k.db.is_held());
    assert_eq!((mapped(k, taker.0, DEST), state(k, taker.1)), (1, State::Receiving));
}
