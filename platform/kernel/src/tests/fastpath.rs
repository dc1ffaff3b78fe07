//! The fast path does what the general code does, or nothing.

use super::{invariants, world::*};
use crate::kernel::Event;
use crate::space::Space;
use crate::thread::State;
use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use skerry_abi::item::Guard;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::syscall::{IPC, UNMAP};
use skerry_abi::{Counter, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_mapping_db::Attr;
use std::vec::Vec;

const THREADS: usize = 5;
const PAGE: u64 = 0x70_0000;

/// One IPC system call of one of the threads, in small numbers.
#[derive(Clone, Debug)]
struct Step {
    who: usize,
    dest: usize,
    from: usize,
    label: u32,
    words: usize,
    typed: usize,
    patient: bool,
    window: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let labels = prop_oneof![Just(7), Just(0xffff_0001), Just(0xffff_0003), Just(0xfffe_ffff)];
    (
        0..THREADS,
        0..THREADS + 2,
        0..THREADS + 2,
        labels,
        0..64_usize,
        prop_oneof![9 => Just(0_usize), 1 => Just(2)],
        0..16,
        0..16,
    )
        .prop_map(|(who, dest, from, label, words, typed, patience, window)| Step {
            who,
            dest,
            // Mostly calls and open receives.
            from: if from < THREADS && who % 2 == 0 { dest } else { from },
            label,
            words,
            typed,
            patient: patience != 0,
            window: window == 0,
        })
}

/// Two threads in one domain and space, and three in other domains, one of which is the pager of another; the third and the fourth run on
/// the last CPU.
fn people(k: &mut TestKernel, cpus: u16) -> Vec<ThreadId> {
    let (space, first) = program(k, 20);
    let second = thread(k, space, 1, ThreadId::NIL);
    k.enter(cpus - 1);
    let (_, third) = program(k, 20);
    let (_, pager) = program(k, 21);
    k.enter(0);
    let other = k.create_space(22, false).unwrap();
    [first, second, third, pager, thread(k, other, 0, pager)].into()
}

/// Lets a thread execute the step if it can run. Returns whether the fast path took it.
fn take(k: &mut TestKernel, people: &[ThreadId], step: &Step, fast: bool) -> bool {
    let id = people[step.who];
    if state(k, id) != State::Ready {
        return false;
    }
    k.enter(k.thread(k.find(id).unwrap()).cpu);
    let t = run(k, id);
    let name = |i: usize| match i {
        i if i < THREADS => people[i],
        i if i == THREADS => ThreadId::ANY,
        _ => ThreadId::NIL,
    };
    let x = &mut k.thread_mut(t).context.x;
    for (i, x) in x.iter_mut().enumerate() {
        *x = (step.who * 100 + i) as u64;
    }
    (x[0], x[1]) = (name(step.dest).0, name(step.from).0);
    x[2] = Tag::new(step.label, step.words, step.typed).0;
    x[11] = Timeout::NEVER.0;
    x[12] = if step.patient { Timeout::NEVER.0 } else { 1000 };
    x[13] = if step.window { 0x4000_0000 | 12 << 4 } else { 0 };
    let cpu = k.this_cpu.into();
    if fast && k.fast_ipc(cpu).is_some() {
        return true;
    }
    if fast && k.fast_elsewhere(cpu) {
        k.pick();
        return true;
    }
    k.handle(Event::Syscall(IPC));
    k.pick();
    false
}

/// All of a thread that programs can tell.
fn seen(k: &TestKernel, id: ThreadId) -> impl PartialEq + std::fmt::Debug {
    let slot = k.find(id).unwrap();
    let t = k.thread(slot);
    let waits = (t.state != State::Ready).then_some((t.op.dest, t.op.from));
    // What registers hold behind the words that the tag counts is not defined.
    let used = 3 + Tag(t.context.x[2]).words().min(REGISTER_WORDS);
    let x = &t.context.x;
    let registers: Vec<u64> = if waits.is_none() { [&x[..used], &x[11..19]].concat() } else { Vec::new() };
    let utcb: Vec<u64> = k.utcb(slot).iter().map(|word| word.load(Relaxed)).collect();
    let open_to = (t.state == State::Receiving).then_some(t.open_to);
    (t.state, t.reply_space, open_to, t.deadline, waits, registers, utcb)
}

#[test]
fn fast_and_general_agree() {
    agree_on(1);
}

#[test]
fn fast_and_general_agree_on_two_cpus() {
    agree_on(2);
}

fn agree_on(cpus: u16) {
    let taken = Cell::new(0);
    let config = ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&proptest::collection::vec(step(), 1..40), |steps| {
        let (mut fast, mut general) = (world(1, cpus.into()), world(1, cpus.into()));
        let names = people(&mut fast[0], cpus);
        prop_assert_eq!(&names, &people(&mut general[0], cpus));
        // One thread begins; whoever hears something goes on.
        let listen = |who| Step {
            who,
            dest: THREADS + 1,
            from: THREADS,
            label: 0,
            words: 0,
            typed: 0,
            patient: true,
            window: false,
        };
        for who in 1..THREADS {
            take(&mut fast[0], &names, &listen(who), true);
            take(&mut general[0], &names, &listen(who), false);
        }
        for step in &steps {
            let ready: Vec<usize> =
                (0..THREADS).filter(|&i| state(&fast[0], names[i]) == State::Ready).collect();
            let step =
                &Step { who: ready.get(step.who % ready.len().max(1)).copied().unwrap_or(0), ..step.clone() };
            taken.set(taken.get() + usize::from(take(&mut fast[0], &names, step, true)));
            take(&mut general[0], &names, step, false);
            for &id in &names {
                prop_assert_eq!(seen(&fast[0], id), seen(&general[0], id), "{:?} after {:?}", id, step);
            }
            // Whoever sleeps on the other CPU is told.
            prop_assert_eq!(&fast[0].hal.kicks, &general[0].hal.kicks, "after {:?}", step);
            prop_assert_eq!(invariants::check(&fast[0]), Ok(()), "after {:?}", step);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(taken.get() > 100, "only {} steps were fast", taken.get());
}

#[test]
fn the_common_cases_are_fast() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let names = people(k, 1);
    let step = |who, dest, from| Step {
        who,
        dest,
        from,
        label: 7,
        words: 60,
        typed: 0,
        patient: true,
        window: false,
    };
    // A server waits; a client in its domain calls; the answer; and a thread calls its pager in another domain, which answers.
    assert!(!take(k, &names, &step(2, THREADS + 1, THREADS), true));
    assert!(take(k, &names, &step(0, 2, 2), true));
    assert!(take(k, &names, &step(2, 0, THREADS), true));
    assert!(!take(k, &names, &step(3, THREADS + 1, THREADS), true));
    assert!(take(k, &names, &step(4, 3, 3), true));
    assert!(take(k, &names, &step(3, 4, THREADS), true));
}

#[test]
fn a_receiver_on_another_cpu_gets_its_message_fast() {
    let k = &mut world(1, 2)[0];
    let names = people(k, 2);
    let step = |who, dest, from| Step {
        who,
        dest,
        from,
        label: 7,
        words: 60,
        typed: 0,
        patient: true,
        window: false,
    };
    // The server is on the other CPU, which has nothing to run until it is called.
    for who in [2, 3] {
        assert!(!take(k, &names, &step(who, THREADS + 1, THREADS), true));
    }
    k.hal.kicks.clear();
    assert!(take(k, &names, &step(0, 2, 2), true));
    assert_eq!((k.hal.kicks.pop(), state(k, names[2])), (Some(1), State::Ready));
    assert!(k.current().is_none_or(|t| Some(t) != k.find(names[0])));
    // Its answer goes back the same way, and is no more urgent than what runs there.
    assert!(take(k, &names, &step(2, 0, THREADS), true));
    assert_eq!((state(k, names[0]), state(k, names[2])), (State::Ready, State::Receiving));
    invariants::check(k).unwrap();
}

/// An answer that is not for the fast path leaves no trace, not even that its guard was read: the page was not accessed.
#[test]
fn an_answer_that_nobody_waits_for_reads_no_guard() {
    let page = Fpage::new(PAGE, 12, Rights::RW).unwrap();
    for waits in [false, true] {
        let k = &mut world(1, 1)[0];
        let (root, _) = program(k, 1);
        let (giver, pager) = program(k, 2);
        let client_space = k.create_space(20, false).unwrap();
        let client = thread(k, client_space, 0, pager);
        k.db.map_root(root.slot(), PAGE, PAGE, 12, Rights::RWX, Attr::Normal).unwrap();
        k.db.map_root(client_space.slot(), PAGE + 0x1000, PAGE, 12, Rights::RWX, Attr::Normal).unwrap();
        let (db, mut tlb) = k.db_and_tlb();
        db.map(&mut tlb, root.slot(), page, giver.slot(), PAGE, Attr::Normal).unwrap();
        k.hal.memory.insert((Space::asid(giver.slot()), PAGE + 8), 7);
        let cpu = usize::from(k.this_cpu);
        if waits {
            ipc(k, pager, Ipc::receive(ThreadId::ANY));
            run(k, client);
            assert!(k.fast_fault(cpu, PAGE, Rights::W, 0).is_some());
        }
        let t = run(k, pager);
        let guard = Some(Guard { address: PAGE + 8, expected: 7 });
        let (words, _) = Item { guard, ..MapItem { fpage: page, dest: PAGE }.into() }.words();
        let x = &mut k.thread_mut(t).context.x;
        x[..3].copy_from_slice(&[client.0, ThreadId::ANY.0, Tag::new(0, 0, 4).0]);
        x[3..7].copy_from_slice(&words);
        (x[12], x[13]) = (Timeout::NEVER.0, 0);
        assert_eq!(k.fast_answer(cpu).is_some(), waits);
        let seen = if waits { Rights::R } else { Rights::NONE };
        let all = Fpage::new(PAGE, 12, Rights::RWX).unwrap();
        assert_eq!(syscall_of_root(k, root, all), all.with_rights(seen).word());
    }
}

/// What has become of a page that was mapped on, and now is not any more.
fn syscall_of_root(k: &mut TestKernel, root: SpaceId, page: Fpage) -> u64 {
    let id = thread(k, root, 9, ThreadId::NIL);
    syscall(k, id, UNMAP, &[1 << 8, page.word()])[1]
}

#[test]
fn guarded_answers_take_the_fast_path_while_the_word_is_as_expected() {
    let page = Fpage::new(PAGE, 12, Rights::RW).unwrap();
    for (value, flag, expected) in [(7, true, true), (8, true, false), (7, false, false)] {
        let k = &mut world(1, 1)[0];
        let (giver, pager) = program(k, 2);
        let client_space = k.create_space(20, false).unwrap();
        let client = thread(k, client_space, 0, pager);
        k.db.map_root(giver.slot(), PAGE, PAGE, 12, Rights::RWX, Attr::Normal).unwrap();
        // So that there is a table.
        k.db.map_root(client_space.slot(), PAGE + 0x1000, PAGE, 12, Rights::RWX, Attr::Normal).unwrap();
        k.hal.memory.insert((Space::asid(giver.slot()), PAGE + 8), value);
        ipc(k, pager, Ipc::receive(ThreadId::ANY));
        run(k, client);
        let cpu = usize::from(k.this_cpu);
        assert!(k.fast_fault(cpu, PAGE, Rights::W, 0).is_some());
        let t = run(k, pager);
        let guard = Some(Guard { address: PAGE + 8, expected: 7 });
        let (words, _) = Item { guard, ..MapItem { fpage: page, dest: PAGE }.into() }.words();
        let x = &mut k.thread_mut(t).context.x;
        x[..3].copy_from_slice(&[client.0, ThreadId::ANY.0, Tag::new(0, 0, 4).0]);
        x[3..7].copy_from_slice(&words);
        x[4] ^= if flag { 0 } else { Item::GUARDED };
        (x[12], x[13]) = (Timeout::NEVER.0, 0);
        assert_eq!(k.fast_answer(cpu).is_some(), expected, "{value} {flag}");
        assert_eq!(k.db.is_mapped(client_space.slot(), PAGE), expected);
    }
}

#[test]
fn sixty_four_kib_take_the_fast_paths() {
    const BLOCK: u64 = 0x80_0000;
    let k = &mut world(1, 1)[0];
    let (giver, pager) = program(k, 2);
    let client_space = k.create_space(20, false).unwrap();
    let (from, to) = (giver.slot(), client_space.slot());
    let client = thread(k, client_space, 0, pager);
    k.db.map_root(from, BLOCK, BLOCK, 21, Rights::RWX, Attr::Normal).unwrap();
    let map = |k: &mut TestKernel, bits, src, dest| {
        let (db, mut tlb) = k.db_and_tlb();
        let fpage = Fpage::new(src, bits, Rights::RW).unwrap();
        db.map(&mut tlb, from, fpage, to, dest, Attr::Normal).unwrap();
    };
    // So that there are tables.
    map(k, 12, BLOCK + 0x10_0000, PAGE + 0x1_0000);
    let group = Fpage::new(BLOCK, 16, Rights::RW).unwrap();
    ipc(k, pager, Ipc::receive(ThreadId::ANY));
    run(k, client);
    let cpu = usize::from(k.this_cpu);
    assert!(k.fast_fault(cpu, PAGE, Rights::W, 0).is_some());
    let t = run(k, pager);
    let x = &mut k.thread_mut(t).context.x;
    x[..3].copy_from_slice(&[client.0, ThreadId::ANY.0, Tag::new(0, 0, 2).0]);
    x[3..5].copy_from_slice(&MapItem { fpage: group, dest: PAGE }.words());
    (x[12], x[13]) = (Timeout::NEVER.0, 0);
    let maps = k.counters.total(Counter::Maps);
    assert!(k.fast_answer(cpu).is_some());
    assert_eq!(k.counters.total(Counter::Maps) - maps, 16);
    assert_eq!(k.db.lookup(to, PAGE + 0x8000).unwrap().bits, 16);
    // Taken back, it says what happened; each of the pages is invalidated.
    assert!(k.db.check(to, PAGE + 0x8000, Rights::W));
    let whole = group.with_rights(Rights::RWX).word();
    let (unmaps, local) = (k.counters.total(Counter::Unmaps), k.counters.total(Counter::TlbLocal));
    assert_eq!(k.unmap_group(from, group.with_rights(Rights::W).word()), None);
    assert_eq!(k.fast_unmap(from, whole), None);
    let status = k.unmap_group(from, whole).and_then(Fpage::decode);
    assert_eq!(status.map(|fpage| (fpage.base(), fpage.rights())), Some((BLOCK, Rights::RW)));
    assert_eq!(
        (k.counters.total(Counter::Unmaps), k.counters.total(Counter::TlbLocal)),
        (unmaps + 1, local + 16)
    );
    assert!(k.db.lookup(to, PAGE).is_none());
    // The twin of the assembly's call; what is not that simple is refused, and nothing is done.
    assert!(k.map_group(from, group.word(), to, PAGE) && !k.map_group(from, group.word(), to, PAGE));
    assert!(!k.map_group(from, group.word(), to, PAGE + 0x1_0000));
    map(k, 16, BLOCK, PAGE + 0x2_0000);
    assert_eq!(k.unmap_group(from, whole), None);
    assert_eq!(k.db.lookup(to, PAGE).unwrap().bits, 16);
}
