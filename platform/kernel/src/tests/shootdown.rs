use super::world::*;
use crate::shootdown::{MANY_PAGES, TlbMode};
use crate::space::Space;
use skerry_abi::{Counter, CpuId, Fpage, Rights, SpaceId, ThreadId};
use skerry_mapping_db::Attr;
use std::vec::Vec;

const FRAMES: u64 = 0x4020_0000;
const PAGES: u64 = 0x70_0000;

fn enter(k: &mut TestKernel, cpu: CpuId) {
    k.enter(cpu);
    k.hal.cpu = cpu;
}

/// A pager space with frames, and a client space that has `pages` of them.
fn mapped(k: &mut TestKernel, pages: u64) -> (SpaceId, SpaceId) {
    let pager = k.create_space(2, false).unwrap();
    let client = k.create_space(20, false).unwrap();
    k.db.map_root(pager.slot(), FRAMES, FRAMES, 21, Rights::RWX, Attr::Normal).unwrap();
    (0..pages).for_each(|page| map(k, pager, client, page));
    (pager, client)
}

fn map(k: &mut TestKernel, from: SpaceId, to: SpaceId, page: u64) {
    let fpage = Fpage::new(FRAMES + (page << 12), 12, Rights::RW).unwrap();
    let (db, mut tlb) = k.db_and_tlb();
    db.map(&mut tlb, from.slot(), fpage, to.slot(), PAGES + (page << 12), Attr::Normal).unwrap();
}

/// Maps 64 KiB, if nothing is there, or pages that are the same.
fn map_group(k: &mut TestKernel, from: SpaceId, to: SpaceId, page: u64) {
    let fpage = Fpage::new(FRAMES + (page << 12), 16, Rights::RW).unwrap();
    let (db, mut tlb) = k.db_and_tlb();
    db.map(&mut tlb, from.slot(), fpage, to.slot(), PAGES + (page << 12), Attr::Normal).unwrap();
}

fn unmap(k: &mut TestKernel, from: SpaceId, page: u64, bits: u32) {
    let fpage = Fpage::new(FRAMES + (page << 12), bits, Rights::RWX).unwrap();
    let (db, mut tlb) = k.db_and_tlb();
    db.unmap(&mut tlb, from.slot(), fpage, false);
}

/// Loads what `cpu` runs into its TLB: `pages` pages of the space.
fn touch(k: &mut TestKernel, cpu: CpuId, space: SpaceId, pages: u64) {
    for va in (0..pages).map(|page| PAGES + (page << 12)) {
        if let Some(seen) = k.db.lookup(space.slot(), va) {
            k.hal.tlbs.insert((cpu, Space::asid(space.slot()), va >> 12), seen.pa >> 12);
        }
    }
}

/// No CPU can use an entry that the tables do not have: all entries of the space that it runs are right.
fn check(k: &TestKernel) {
    for (&(cpu, asid, page), &frame) in &k.hal.tlbs {
        let runs = k.cpus[usize::from(cpu)].current().map(|t| k.threads[t as usize].space);
        if let Some(slot) = runs.filter(|&slot| Space::asid(slot) == asid) {
            let right = k.db.lookup(slot, page << 12).map(|seen| seen.pa >> 12);
            assert_eq!(right, Some(frame), "CPU {cpu}, space {slot}, page {page:#x}");
        }
    }
}

fn counts(k: &TestKernel) -> [u64; 4] {
    [Counter::TlbLocal, Counter::TlbBroadcast, Counter::TlbInterrupt, Counter::TlbDeferred]
        .map(|counter| k.counters.total(counter))
}

/// Two CPUs run one space, a third one unmaps. Returns what the unmapping of one page counted.
fn two_run_a_third_unmaps(mode: TlbMode) -> ([u64; 4], Vec<CpuId>) {
    let mut w = world(1, 3);
    let k = &mut w[0];
    k.tlb_mode = mode;
    let (pager, client) = mapped(k, 4);
    for cpu in [1, 2] {
        enter(k, cpu);
        thread(k, client, cpu, ThreadId::NIL);
        k.pick();
        touch(k, cpu, client, 4);
    }
    enter(k, 0);
    let before = counts(k);
    unmap(k, pager, 1, 12);
    check(k);
    let after = counts(k);
    (core::array::from_fn(|i| after[i] - before[i]), k.hal.shot.clone())
}

#[test]
fn other_cpus_are_reached_by_one_broadcast_or_one_interrupt_each() {
    assert_eq!(two_run_a_third_unmaps(TlbMode::Broadcast), ([0, 1, 0, 0], Vec::new()));
    assert_eq!(two_run_a_third_unmaps(TlbMode::Interrupt), ([0, 0, 2, 0], Vec::from([1, 2])));
}

#[test]
fn each_page_of_64_kib_is_invalidated() {
    for (mode, counted) in [(TlbMode::Broadcast, [0, 16, 0, 0]), (TlbMode::Interrupt, [0, 0, 2, 0])] {
        let mut w = world(1, 3);
        let k = &mut w[0];
        k.tlb_mode = mode;
        let (pager, client) = mapped(k, 0);
        map_group(k, pager, client, 16);
        for cpu in [1, 2] {
            enter(k, cpu);
            thread(k, client, cpu, ThreadId::NIL);
            k.pick();
            touch(k, cpu, client, 64);
        }
        assert_eq!(k.hal.tlbs.len(), 32);
        enter(k, 0);
        let before = counts(k);
        unmap(k, pager, 16, 16);
        assert!(k.hal.tlbs.is_empty());
        let after = counts(k);
        assert_eq!(core::array::from_fn(|i| after[i] - before[i]), counted, "{mode:?}");
    }
}

#[test]
fn a_space_that_ran_here_only_is_nobody_elses_business() {
    for mode in [TlbMode::Broadcast, TlbMode::Interrupt] {
        let mut w = world(1, 2);
        let k = &mut w[0];
        k.tlb_mode = mode;
        let (pager, client) = mapped(k, 4);
        unmap(k, pager, 3, 12);
        assert_eq!(counts(k), [0; 4], "no TLB can hold a space that never ran");
        let t = thread(k, client, 0, ThreadId::NIL);
        run(k, t);
        k.note_run(client.slot());
        unmap(k, pager, 1, 12);
        assert_eq!(counts(k), [1, 0, 0, 0]);
    }
}

#[test]
fn many_pages_go_as_one_and_idle_cpus_leave_the_set() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let (pager, client) = mapped(k, 64);
    enter(k, 1);
    let t = thread(k, client, 0, ThreadId::NIL);
    k.pick();
    touch(k, 1, client, 64);
    // It stops running: nothing of it is loaded anywhere.
    ipc(k, t, Ipc::receive(ThreadId::ANY));
    enter(k, 0);
    let before = counts(k);
    unmap(k, pager, 0, 18);
    let [local, broadcast, by_interrupt, deferred] = core::array::from_fn(|i| counts(k)[i] - before[i]);
    assert_eq!((local, broadcast, by_interrupt, deferred), (0, u64::from(MANY_PAGES), 0, 1));
    // From now on no other CPU is concerned, until it runs again; then its TLB is emptied first.
    (0..8).for_each(|page| map(k, pager, client, page));
    unmap(k, pager, 0, 12);
    assert_eq!(counts(k)[1], before[1] + u64::from(MANY_PAGES));
    enter(k, 1);
    k.delete_thread(k.find(t).unwrap()).unwrap();
    thread(k, client, 1, ThreadId::NIL);
    k.pick();
    check(k);
}

/// Threads of three spaces come and go on three CPUs, pages are mapped and unmapped in all sizes, spaces end and begin.
#[test]
fn no_cpu_ever_uses_a_stale_entry() {
    for (mode, seed) in [TlbMode::Broadcast, TlbMode::Interrupt].into_iter().zip([1u64, 77]) {
        let mut w = world(1, 3);
        let k = &mut w[0];
        k.tlb_mode = mode;
        let (pager, _) = mapped(k, 0);
        let mut clients: Vec<SpaceId> = (0..3).map(|_| k.create_space(20, false).unwrap()).collect();
        let mut state = seed;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for step in 0..6_000 {
            let (cpu, which) = (random(3) as CpuId, random(3) as usize);
            let client = clients[which];
            enter(k, cpu);
            match random(8) {
                0..=2 => {
                    let page = random(64);
                    if k.db.lookup(client.slot(), PAGES + (page << 12)).is_none() {
                        map(k, pager, client, page);
                    }
                }
                3 if random(2) == 0 => map_group(k, pager, client, random(4) * 16),
                3 => unmap(k, pager, random(64), 12),
                4 => unmap(k, pager, random(4) * 16, 16),
                5 if random(8) == 0 => unmap(k, pager, 0, 18),
                6 if random(20) == 0 => {
                    if k.destroy_space(client.slot()).is_ok() {
                        clients[which] = k.create_space(20, false).unwrap();
                    }
                }
                _ => {
                    // The CPU goes on with a new thread of this space instead of what it ran.
                    if let Some(t) = k.cpus[usize::from(cpu)].current() {
                        k.delete_thread(t).unwrap();
                    }
                    let slot = (step % 200) as u16;
                    let new = crate::birth::NewThread {
                        space: client.slot(),
                        cpu,
                        pager: ThreadId::NIL,
                        handler: ThreadId::NIL,
                        utcb_slot: slot,
                        priority: 100,
                    };
                    if let Ok(id) = k.create_thread(new) {
                        k.start_thread(k.find(id).unwrap(), 0, 0, 0).unwrap();
                    }
                }
            }
            k.pick();
            for cpu in 0..3 {
                if let Some(t) = k.cpus[usize::from(cpu)].current() {
                    let id = k.spaces[usize::from(k.threads[t as usize].space)].id;
                    touch(k, cpu, id, 64);
                }
            }
            check(k);
        }
        let [local, broadcast, by_interrupt, deferred] = counts(k);
        assert!(local > 30 && deferred > 10, "{mode:?}: {local} {deferred}");
        match mode {
            TlbMode::Broadcast => assert!(broadcast > 50 && by_interrupt == 0),
            TlbMode::Interrupt => assert!(broadcast == 0 && by_interrupt > 50),
        }
    }
}
