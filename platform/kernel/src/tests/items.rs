//! Map and grant items: several at once, guards, windows, quotas.

use super::world::*;
use crate::birth::NewThread;
use crate::kernel::Event;
use crate::space::Space;
use crate::thread::State;
use skerry_abi::item::{Cacheability, Guard};
use skerry_abi::syscall::{SPACE_CONTROL, THREAD_CONTROL, space_op, thread_op};
use skerry_abi::{Error, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId, layout};
use skerry_mapping_db::Attr;
use std::vec::Vec;

const FRAME: u64 = 0x4020_0000;
const PAGE: u64 = 0x70_0000;

/// A pager with 2 MiB of memory in pages that were mapped to it, and a client that waits for items anywhere.
fn giver_and_taker(k: &mut TestKernel<'_>) -> (ThreadId, ThreadId) {
    let (root, _) = program(k, 1);
    k.db.map_root(root.slot(), FRAME, FRAME, 21, Rights::RWX, Attr::Normal).unwrap();
    let (giver_space, giver) = program(k, 20);
    let (_, taker) = program(k, 20);
    for page in 0..8 {
        let fpage = Fpage::new(FRAME + (page << 12), 12, Rights::RWX).unwrap();
        let (db, mut tlb) = k.db_and_tlb();
        db.map(&mut tlb, root.slot(), fpage, giver_space.slot(), fpage.base(), Attr::Normal).unwrap();
    }
    ipc(k, taker, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    (giver, taker)
}

fn item(page: u64, dest: u64) -> Item {
    MapItem { fpage: Fpage::new(FRAME + (page << 12), 12, Rights::RW).unwrap(), dest }.into()
}

fn send(k: &mut TestKernel<'_>, giver: ThreadId, taker: ThreadId, items: &[Item]) -> Result<(), Error> {
    let words: Vec<u64> = items
        .iter()
        .flat_map(|i| {
            let (words, count) = i.words();
            words.into_iter().take(count)
        })
        .collect();
    let tag = Tag::new(7, 0, words.len());
    ipc(k, giver, Ipc { tag, ..Ipc::send(taker, 7, &words) });
    outcome(k, giver).1.error().map_or(Ok(()), Err)
}

fn space_of(k: &TestKernel<'_>, t: ThreadId) -> u16 {
    k.thread(k.find(t).unwrap()).space
}

fn frame(k: &TestKernel<'_>, t: ThreadId, va: u64) -> Option<u64> {
    k.db.lookup(space_of(k, t), va).map(|found| found.pa)
}

#[test]
fn all_items_of_a_message_are_mapped_or_none() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    let before = k.db.stats();
    let wrong = [
        (item(0x100, PAGE + 0x2000), Error::NothingMapped),
        (item(2, layout::UTCB_BASE), Error::BadArgument),
        (item(2, layout::INFO_PAGE_BASE), Error::BadArgument),
        (item(2, PAGE), Error::BadArgument),
        (Item { guard: Some(Guard { address: 0x1000, expected: 0 }), ..item(2, 0) }, Error::NothingMapped),
    ];
    for (third, error) in wrong {
        for grant in [false, true] {
            let items = [Item { grant, ..item(0, PAGE) }, item(1, PAGE + 0x20_0000), third];
            assert_eq!(send(k, giver, taker, &items), Err(error));
            assert_eq!((frame(k, taker, PAGE), frame(k, taker, PAGE + 0x20_0000)), (None, None));
            assert_eq!(frame(k, giver, FRAME), Some(FRAME));
            assert_eq!((k.db.stats(), state(k, taker)), (before, State::Receiving));
        }
    }
    let items: Vec<Item> = (0..4).map(|i| Item { grant: i == 3, ..item(i, PAGE + (i << 21)) }).collect();
    assert_eq!(send(k, giver, taker, &items), Ok(()));
    assert!((0..4).all(|i| frame(k, taker, PAGE + (i << 21)) == Some(FRAME + (i << 12))));
    assert_eq!(
        (frame(k, giver, FRAME + 0x2000), frame(k, giver, FRAME + 0x3000)),
        (Some(FRAME + 0x2000), None)
    );
    assert_eq!(outcome(k, taker).1, Tag::new(7, 0, 8));
}

#[test]
fn an_item_stays_inside_the_window() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    send(k, giver, taker, &[]).unwrap();
    let window = Fpage::new(PAGE, 13, Rights::RWX).unwrap();
    ipc(k, taker, Ipc { window, ..Ipc::receive(ThreadId::ANY) });
    for dest in [PAGE - 0x1000, PAGE + 0x2000] {
        assert_eq!(send(k, giver, taker, &[item(0, PAGE), item(1, dest)]), Err(Error::WindowTooSmall));
    }
    assert_eq!(send(k, giver, taker, &[item(0, PAGE), item(1, PAGE + 0x1000)]), Ok(()));
}

#[test]
fn a_window_outside_of_user_memory_is_none() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    send(k, giver, taker, &[]).unwrap();
    // The kernel's half, beyond the user's, misaligned, larger than everything.
    for window in
        [layout::PHYSMAP | 12 << 4 | 7, layout::USER_END | 12 << 4 | 7, PAGE | 21 << 4 | 7, 63 << 4 | 7]
    {
        let t = run(k, taker);
        let x = &mut k.thread_mut(t).context.x;
        (x[0], x[1], x[11], x[12], x[13]) = (0, ThreadId::ANY.0, 0, u64::MAX, window);
        k.handle(Event::Syscall(skerry_abi::syscall::IPC));
        k.pick();
        assert_eq!(send(k, giver, taker, &[item(0, PAGE)]), Err(Error::WindowTooSmall), "{window:#x}");
        send(k, giver, taker, &[]).unwrap();
    }
    // Over the kernel's own pages it may be; mapped there is nothing.
    ipc(k, taker, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    for pinned in [layout::UTCB_BASE, layout::INFO_PAGE_BASE, layout::PINNED_END - 0x1000] {
        assert_eq!(send(k, giver, taker, &[item(0, pinned)]), Err(Error::BadArgument), "{pinned:#x}");
    }
}

#[test]
fn a_guard_decides_at_the_moment_of_mapping() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    let asid = Space::asid(space_of(k, giver));
    let guard = |address, expected| Some(Guard { address, expected });
    k.hal.memory.insert((asid, FRAME + 0x5008), 17);
    let guarded = |address, expected| Item { guard: guard(address, expected), ..item(1, PAGE) };
    assert_eq!(send(k, giver, taker, &[guarded(PAGE, 17)]), Err(Error::NothingMapped));
    // Dropped: the message arrives, and so does what else it carries.
    assert_eq!(send(k, giver, taker, &[item(0, 0x8000), guarded(FRAME + 0x5008, 16)]), Ok(()));
    assert_eq!((frame(k, taker, 0x8000), frame(k, taker, PAGE)), (Some(FRAME), None));
    ipc(k, taker, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    assert_eq!(send(k, giver, taker, &[guarded(FRAME + 0x5008, 17)]), Ok(()));
    assert_eq!(frame(k, taker, PAGE), Some(FRAME + 0x1000));
}

#[test]
fn a_dropped_map_lets_the_thread_fault_again() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, _) = giver_and_taker(k);
    let space = k.create_space(20, false).unwrap();
    let client = thread(k, space, 0, pager);
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    let asid = Space::asid(space_of(k, pager));
    let (words, count) =
        Item { guard: Some(Guard { address: FRAME + 0x5000, expected: 1 }), ..item(1, PAGE) }.words();
    for (value, faults) in [(2, 1), (1, 2)] {
        k.hal.memory.insert((asid, FRAME + 0x5000), value);
        run(k, client);
        k.handle(Event::PageFault { address: PAGE, access: Rights::R, esr: 0x9200_0007 });
        k.pick();
        assert_eq!(k.counters.total(skerry_abi::Counter::Faults), faults);
        ipc(k, pager, Ipc { tag: Tag::new(0, 0, count), ..Ipc::reply_wait(client, 0, &words[..count]) });
        assert_eq!(state(k, client), State::Ready);
        assert_eq!(frame(k, client, PAGE).is_some(), value == 1);
    }
}

#[test]
fn cacheability_gets_stricter_only() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    let strict = |cacheability, page| Item { cacheability, ..item(page, PAGE + (page << 12)) };
    let items = [strict(Cacheability::NonCacheable, 1), strict(Cacheability::Device, 2)];
    send(k, giver, taker, &items).unwrap();
    let attr =
        |k: &TestKernel<'_>, page: u64| k.db.lookup(space_of(k, taker), PAGE + (page << 12)).unwrap().attr;
    assert_eq!((attr(k, 1), attr(k, 2)), (Attr::NonCacheable, Attr::Device));
    // The receiver passes the device page on as normal memory: it stays a device page.
    let (_, third) = program(k, 20);
    ipc(k, third, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    let fpage = Fpage::new(PAGE + 0x2000, 12, Rights::RW).unwrap();
    let item = Item { cacheability: Cacheability::NonCacheable, ..MapItem { fpage, dest: PAGE }.into() };
    send(k, taker, third, &[item]).unwrap();
    assert_eq!(k.db.lookup(space_of(k, third), PAGE).unwrap().attr, Attr::Device);
    // Reading a device register can have effects: it is no guard.
    ipc(k, giver, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    let guard = Some(Guard { address: PAGE + 0x2000, expected: 0 });
    let fpage = Fpage::new(PAGE + 0x1000, 12, Rights::RW).unwrap();
    let item = Item { guard, ..MapItem { fpage, dest: PAGE }.into() };
    assert_eq!(send(k, taker, giver, &[item]), Err(Error::BadArgument));
}

#[test]
fn a_map_to_oneself_by_way_of_a_colleague() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, _) = giver_and_taker(k);
    let space = k.thread(k.find(giver).unwrap()).space_id;
    let colleague = thread(k, space, 1, ThreadId::NIL);
    ipc(k, colleague, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    assert_eq!(send(k, giver, colleague, &[item(0, FRAME)]), Err(Error::AlreadyMapped));
    assert_eq!(send(k, giver, colleague, &[item(0, PAGE), item(1, FRAME + 0x10_0000)]), Ok(()));
    assert_eq!(frame(k, giver, PAGE), Some(FRAME));
    assert_eq!(frame(k, giver, FRAME + 0x10_0000), Some(FRAME + 0x1000));
}

#[test]
fn a_quota_ends_at_the_space_and_leaves_the_reply_right() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, _) = giver_and_taker(k);
    let (_, control) = program(k, 1);
    let privileged = k.create_space(1, true).unwrap();
    let boss = thread(k, privileged, 0, ThreadId::NIL);
    // Root, two tables for the kernel's own pages, one page of UTCBs; one node.
    let quota = 1 << 32 | 4;
    let made = syscall(k, boss, SPACE_CONTROL, &[space_op::CREATE, 20, 0, quota]);
    let space = SpaceId(made[1]);
    assert_eq!(made[0], 0);
    let client = thread(k, space, 0, pager);
    let (slot, cpu) = (space.slot(), k.this_cpu);
    let new = |utcb_slot| NewThread { space: slot, cpu, pager, handler: pager, utcb_slot, priority: 100 };
    assert!(k.create_thread(new(1)).is_ok());
    // Its UTCB would take another page.
    assert_eq!(k.create_thread(new(4)).err(), Some(Error::OutOfKernelMemory));
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    run(k, client);
    k.handle(Event::PageFault { address: PAGE, access: Rights::R, esr: 0x9200_0007 });
    k.pick();
    let reply = |k: &mut TestKernel<'_>| {
        let words = item(1, PAGE).words().0;
        ipc(k, pager, Ipc { tag: Tag::new(0, 0, 2), ..Ipc::reply_wait(client, 0, &words[..2]) });
    };
    reply(k);
    assert_eq!(outcome(k, pager).1.error(), Some(Error::OutOfKernelMemory));
    assert_eq!(state(k, client), State::Receiving);
    assert_eq!(syscall(k, boss, SPACE_CONTROL, &[space_op::SET_QUOTA, space.0, 1 << 32 | 8])[0], 0);
    reply(k);
    assert_eq!((state(k, client), frame(k, client, PAGE)), (State::Ready, Some(FRAME + 0x1000)));
    assert_eq!(
        syscall(k, control, SPACE_CONTROL, &[space_op::SET_QUOTA, space.0, 0])[0],
        Error::NotPrivileged.code()
    );
}

#[test]
fn spaces_come_and_go_without_a_trace() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    send(k, giver, taker, &[]).unwrap();
    let before = k.db.stats();
    for round in 0..2000 {
        let (space, receiver) = program(k, 20);
        ipc(k, receiver, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
        k.hal.memory.insert((Space::asid(space_of(k, giver)), FRAME), round);
        let guard = Some(Guard { address: FRAME, expected: round & !1 });
        let items = [item(round % 4, PAGE), Item { guard, ..item(7, PAGE + ((round % 64 + 1) << 21)) }];
        send(k, giver, receiver, &items).unwrap();
        k.destroy_space(space.slot()).unwrap();
        assert_eq!(k.db.stats(), before);
    }
}

#[test]
fn a_large_space_ends_in_steps() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (giver, taker) = giver_and_taker(k);
    send(k, giver, taker, &[]).unwrap();
    let privileged = k.create_space(1, true).unwrap();
    let boss = thread(k, privileged, 0, ThreadId::NIL);
    let before = k.db.stats();
    let (space, _) = program(k, 20);
    let from = space_of(k, giver);
    for page in 0..200 {
        let fpage = Fpage::new(FRAME + ((page % 8) << 12), 12, Rights::RW).unwrap();
        let (db, mut tlb) = k.db_and_tlb();
        db.map(&mut tlb, from, fpage, space.slot(), PAGE + (page << 12), Attr::Normal).unwrap();
    }
    let mut steps = 0;
    let pc = k.thread(k.find(boss).unwrap()).context.pc;
    loop {
        let t = run(k, boss);
        let result = syscall_step(k, boss, SPACE_CONTROL, &[space_op::DESTROY, space.0]);
        steps += 1;
        if k.thread(t).context.pc == pc {
            assert_eq!(result[0], 0);
            break;
        }
        // It executes the call again. Nothing comes into the space meanwhile.
        k.thread_mut(t).context.pc = pc;
        let create = [thread_op::CREATE, space.0, 0, boss.0, 0, 9, 1];
        assert_eq!(syscall(k, boss, THREAD_CONTROL, &create)[0], Error::NoSuchSpace.code());
    }
    assert!(steps > 20, "{steps}");
    assert_eq!(k.db.stats(), before);
}
