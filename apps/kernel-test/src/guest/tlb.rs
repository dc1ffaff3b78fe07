//! TLB invalidation reaches the CPUs that run a space, and nobody else. The emulator's TLBs are real in so far as a CPU that runs
//! a space goes on using what it has cached until it is told.
#![expect(unsafe_code, reason = "loads and stores that fault")]

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::info::Counter;
use skerry_abi::{Rights, ThreadId};
use skerry_rt::{info, ipc, sys};

use super::world::{Outcome, World, call, emit, ensure, failed, fpage};

/// What the readers have read last, and whether they shall end.
static SEEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static STOP: AtomicU64 = AtomicU64::new(0);
static TARGET: AtomicU64 = AtomicU64::new(0);

/// Reads the page for ever, without a pause in which its CPU could forget it.
extern "C" fn reader(which: u64) -> ! {
    let page = with_exposed_provenance::<u64>(TARGET.load(Ordering::Relaxed) as usize);
    while STOP.load(Ordering::Relaxed) == 0 {
        // SAFETY: a page of this space, or a fault that the main thread answers.
        let value = unsafe { page.read_volatile() };
        SEEN[which as usize & 1].store(value, Ordering::Relaxed);
    }
    super::world::report([0; 4]);
    ipc::sleep_forever()
}

/// Local, broadcast, by interrupt, deferred.
fn counts() -> [u64; 4] {
    [Counter::TlbLocal, Counter::TlbBroadcast, Counter::TlbInterrupt, Counter::TlbDeferred].map(info::total)
}

/// Waits until both readers have faulted, and answers them only then: one that goes on without a fault uses an old entry.
fn both_fault(world: &mut World) -> Outcome {
    let mut waiting = [ThreadId::NIL; 2];
    for slot in 0..waiting.len() {
        waiting[slot] = world.next_fault(60_000_000)?;
        ensure!(slot == 0 || waiting[0] != waiting[1], "the same reader twice");
    }
    waiting.into_iter().try_for_each(|thread| world.answer_fault(thread, TARGET.load(Ordering::Relaxed)))
}

/// Waits until both readers have read this.
fn both_see(value: u64) -> Outcome {
    for _ in 0..10_000 {
        if SEEN.iter().all(|seen| seen.load(Ordering::Relaxed) == value) {
            return Ok(());
        }
        ipc::pause(10_000);
    }
    failed(format_args!("the readers do not see {value:#x}"))
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let by_interrupt = world.boot.option("tlb") == Some("interrupt");
    let page = world.frames.base;
    let store = |value: u64| {
        // SAFETY: a frame that belongs to nobody, mapped here at its own address.
        unsafe { with_exposed_provenance_mut::<u64>(page as usize).write_volatile(value) }
    };
    TARGET.store(page, Ordering::Relaxed);
    store(1);
    let cpus = [world.other_cpus().next(), world.other_cpus().nth(1)];
    let [Some(first), Some(second)] = cpus else {
        return failed(format_args!("the case needs three CPUs in cluster 0"));
    };
    let space = world.space()?;
    for (slot, cpu) in [first, second].into_iter().enumerate() {
        world.spawn(space, slot as u16, cpu, 50, reader, slot as u64)?;
    }
    // Code, stacks and data first; the page itself may come before the second reader asks for it.
    while SEEN.iter().any(|seen| seen.load(Ordering::Relaxed) != 1) {
        world.answer_faults_for(20_000)?;
    }

    // Unmapped, both readers fault, although they had it in their TLBs and never stopped reading.
    let mut mine = [fpage(page, PAGE_BITS)?];
    for round in 2..10 {
        let before = counts();
        call("unmapping", sys::unmap(&mut mine, false))?;
        mine = mine.map(|fpage| fpage.with_rights(Rights::RWX));
        let now = counts();
        let [_, broadcast, interrupts, _] = core::array::from_fn(|i| now[i] - before[i]);
        let expected = if by_interrupt { (0, 2) } else { (1, 0) };
        ensure!((broadcast, interrupts) == expected, "{broadcast} broadcasts, {interrupts} interrupts");
        store(round);
        both_fault(world)?;
        both_see(round)?;
    }

    // Many pages at once are one invalidation of the space.
    let many = fpage(page, PAGE_BITS + 7)?;
    let second_space = world.space()?;
    let toucher = world.spawn(second_space, 0, world.cpu, 50, touch, page)?;
    world.report_of(toucher)?;
    let before = counts();
    call("unmapping", sys::unmap(&mut [many], false))?;
    let now = counts();
    let local = now[0] - before[0];
    ensure!(local <= 64, "128 pages took {local} local invalidations");

    STOP.store(1, Ordering::Relaxed);
    for _ in 0..2 {
        world.hear()?;
    }
    let totals = counts();
    for (name, value) in ["local", "broadcast", "interrupt", "deferred"].into_iter().zip(totals) {
        emit("tlb", name, value, "invalidations");
    }
    call("destroying a space", sys::space_destroy(space))?;
    call("destroying a space", sys::space_destroy(second_space))
}

/// Reads 128 pages.
extern "C" fn touch(base: u64) -> ! {
    for page in 0..128 {
        let address = with_exposed_provenance::<u64>((base + page * PAGE_SIZE) as usize);
        // SAFETY: as for `reader`.
        unsafe { address.read_volatile() };
    }
    super::world::report([0; 4]);
    ipc::sleep_forever()
}
