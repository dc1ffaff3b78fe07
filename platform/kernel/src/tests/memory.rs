use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::layout::INFO_PAGE_BASE;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::UNMAP;
use skerry_abi::{Counter, Error, Fpage, MapItem, Rights, Tag, ThreadId};
use skerry_mapping_db::Attr;
use std::vec::Vec;

const FRAME: u64 = 0x4020_0000;
const PAGE: u64 = 0x70_0000;

/// A pager with one frame, waiting for faults, and a client that it pages.
fn pager_and_client(k: &mut TestKernel) -> (ThreadId, ThreadId) {
    let (pager_space, pager) = program(k, 2);
    k.db.map_root(pager_space.slot(), FRAME, FRAME, 21, Rights::RWX, Attr::Normal).unwrap();
    let space = k.create_space(20, false).unwrap();
    let client = thread(k, space, 0, pager);
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    (pager, client)
}

fn fault(k: &mut TestKernel, client: ThreadId, access: Rights) {
    run(k, client);
    k.handle(Event::PageFault { address: PAGE + 8, access, esr: 0x9200_0047 });
    k.pick();
}

fn map_reply(to: ThreadId, items: &[MapItem]) -> Ipc {
    let words: Vec<u64> = items.iter().flat_map(|i| i.words()).collect();
    Ipc { tag: Tag::new(0, 0, words.len()), ..Ipc::reply_wait(to, 0, &words) }
}

fn page(base: u64, rights: Rights, dest: u64) -> MapItem {
    MapItem { fpage: Fpage::new(base, 12, rights).unwrap(), dest }
}

#[test]
fn a_fault_is_answered_with_a_mapping() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    fault(k, client, Rights::W);
    let (from, tag, words) = outcome(k, pager);
    assert_eq!((from, tag), (client, Tag::new(kernel_label::PAGE_FAULT, 3, 0)));
    assert_eq!(words, [PAGE + 8, Rights::W.bits(), 0x1000]);
    ipc(k, pager, map_reply(client, &[page(FRAME + 0x3000, Rights::RW, PAGE)]));
    assert_eq!(state(k, client), State::Ready);
    let space = k.thread(k.find(client).unwrap()).space;
    assert_eq!(k.db.lookup(space, PAGE + 8).map(|t| t.pa & !0xfff), Some(FRAME + 0x3000));
    // The same fault again is spurious: no message.
    fault(k, client, Rights::W);
    assert_eq!((k.counters.total(Counter::Faults), k.counters.total(Counter::SpuriousFaults)), (1, 1));
    assert_eq!(state(k, pager), State::Receiving);
}

#[test]
fn a_failing_item_leaves_the_client_waiting() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    fault(k, client, Rights::R);
    let not_mine = page(0x5000_0000, Rights::R, PAGE);
    let over_utcb = page(FRAME, Rights::R, skerry_abi::layout::UTCB_BASE);
    for (item, error) in [(not_mine, Error::NothingMapped), (over_utcb, Error::BadArgument)] {
        ipc(k, pager, map_reply(client, &[item]));
        assert_eq!(outcome(k, pager).1.error(), Some(error));
        assert_eq!(state(k, client), State::Receiving);
    }
    ipc(k, pager, map_reply(client, &[page(FRAME, Rights::R, PAGE)]));
    assert_eq!(state(k, client), State::Ready);
}

#[test]
fn an_item_needs_a_window() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager_space, pager) = program(k, 20);
    let (_, receiver) = program(k, 20);
    k.db.map_root(pager_space.slot(), FRAME, FRAME, 12, Rights::RW, Attr::Normal).unwrap();
    let send = || {
        let words = page(FRAME, Rights::R, PAGE).words();
        Ipc { tag: Tag::new(0, 0, 2), words: words.into(), ..Ipc::send(receiver, 0, &[]) }
    };
    for window in [Fpage::NIL, Fpage::new(0x10_0000, 20, Rights::RWX).unwrap()] {
        ipc(k, receiver, Ipc { window, ..Ipc::receive(ThreadId::ANY) });
        ipc(k, pager, send());
        assert_eq!(outcome(k, pager).1.error(), Some(Error::WindowTooSmall));
        // Still waiting: let it go.
        ipc(k, pager, Ipc::send(receiver, 0, &[]));
    }
    ipc(k, receiver, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
    ipc(k, pager, send());
    assert_eq!(outcome(k, pager).1.error(), None);
    assert_eq!(outcome(k, receiver).1, Tag::new(0, 0, 2));
}

#[test]
fn a_rejected_fault_becomes_an_exception_with_all_registers() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    let t = k.find(client).unwrap();
    k.thread_mut(t).context.x = core::array::from_fn(|i| 100 + i as u64);
    fault(k, client, Rights::X);
    ipc(k, pager, Ipc::reply_wait(client, kernel_label::REJECT_FAULT, &[]));
    let (from, tag, words) = outcome(k, pager);
    assert_eq!((from, tag.label(), words.len()), (client, kernel_label::EXCEPTION, 36));
    assert_eq!(words[..4], [0x9200_0047, PAGE + 8, 0x1000, 0x2000]);
    assert_eq!(words[5..], (100..131).collect::<Vec<u64>>());
    // An answer resumes it, registers untouched.
    ipc(k, pager, Ipc::reply_wait(client, 0, &[]));
    assert_eq!((state(k, client), k.thread(t).context.x[0]), (State::Ready, 100));
}

#[test]
fn unmap_takes_back_what_was_mapped_on() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    fault(k, client, Rights::W);
    ipc(k, pager, map_reply(client, &[page(FRAME, Rights::RW, PAGE)]));
    ipc(k, client, Ipc::receive(ThreadId::ANY));
    let space = k.thread(k.find(client).unwrap()).space;
    // The pager is in its receive: let somebody call it so that it can run.
    let colleague = program(k, 2).1;
    ipc(k, colleague, Ipc::send(pager, 0, &[]));
    let all = Fpage::new(FRAME, 21, Rights::RWX).unwrap().word();
    let result = syscall(k, pager, UNMAP, &[1 << 8, all]);
    assert_eq!(result[0], 0);
    assert_eq!(k.db.lookup(space, PAGE), None);
    assert!(k.db.lookup(k.thread(k.find(pager).unwrap()).space, FRAME).is_some());
}

#[test]
fn a_root_pager_that_faults_ends_the_run() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let space = k.create_space(1, true).unwrap();
    let root = thread(k, space, 0, ThreadId::NIL);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fault(k, root, Rights::R)));
    let ended = result.unwrap_err();
    assert_eq!(ended.downcast_ref(), Some(&Ended(skerry_abi::syscall::exit::SERVER_FAULT)));
}

#[test]
fn a_program_without_pager_just_stops() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, lonely) = program(k, 20);
    fault(k, lonely, Rights::R);
    assert_eq!(state(k, lonely), State::Halted);
}

#[test]
fn an_unknown_system_call_is_an_exception() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    run(k, client);
    k.handle(Event::Syscall(999));
    k.pick();
    let (from, tag, words) = outcome(k, pager);
    assert_eq!((from, tag.label()), (client, kernel_label::EXCEPTION));
    assert_eq!(words[0], 0x15 << 26 | 1 << 25 | 999);
}

#[test]
fn nobody_can_speak_like_the_kernel() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (pager, client) = pager_and_client(k);
    for label in [kernel_label::PAGE_FAULT, kernel_label::EXCEPTION] {
        ipc(k, client, Ipc::call(pager, label, &[PAGE, Rights::W.bits(), 0]));
        assert_eq!(outcome(k, client).1.error(), Some(Error::BadArgument));
    }
}

#[test]
fn unmap_beyond_the_address_space_is_refused() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, client) = pager_and_client(k);
    for base in [!0xfff, 1 << 39, 1 << 39 | PAGE] {
        let word = base | 12 << 4 | Rights::RWX.bits();
        assert_eq!(syscall(k, client, UNMAP, &[1 | 1 << 8, word])[0], Error::BadArgument.code());
    }
}

#[test]
fn the_information_page_is_in_every_space_and_nobody_can_write_it() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let (space, t) = program(k, 20);
    let seen = k.db.lookup(space.slot(), INFO_PAGE_BASE).expect("it is mapped");
    assert_eq!(seen.pa, 0x3000_0000);
    assert!(k.db.check(space.slot(), INFO_PAGE_BASE, Rights::R));
    assert!(!k.db.check(space.slot(), INFO_PAGE_BASE, Rights::W));
    // Nor can it be taken away or mapped on.
    let page = Fpage::new(INFO_PAGE_BASE, 12, Rights::RWX).unwrap();
    assert_eq!(syscall(k, t, UNMAP, &[1 | 1 << 8, page.word()])[0], 0);
    assert!(k.db.check(space.slot(), INFO_PAGE_BASE, Rights::R));
    // Each CPU counts for itself.
    for cpu in [0, 1, 1] {
        k.enter(cpu);
        k.handle(Event::Tick);
    }
    let ticks = |local| k.counters.block(local).get(Counter::Ticks);
    assert_eq!((ticks(1), k.counters.total(Counter::Ticks) - ticks(0)), (2, 2));
}
