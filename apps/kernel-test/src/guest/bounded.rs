//! No path through the kernel keeps interrupts off for long: a stress of everything whose work grows with what programs do (many
//! threads, many waiters, many deadlines, many mappings, large fpages, spaces with all of that), while the kernel measures itself.
//!
//! All phases run, or the one that is named behind the case: the kernel remembers the longest stretch only.
//! For `measure=on`, one running CPU, deterministic emulation: then cycles are instructions.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::info::{Counter, cycle_clock};
use skerry_abi::syscall::IPC;
use skerry_abi::{Error, Rights, SpaceId, ThreadId};
use skerry_rt::{info, ipc, sys};

use super::world::{BLOCK_BITS, Outcome, World, call, emit, ensure, fpage, report};

/// The longest time with interrupts off that is allowed, in instructions.
const LIMIT: u64 = 5_000;
const THREADS: u16 = 200;
const PAGES: u64 = 1024;
const ROUNDS: u64 = 2;

global_asm!(
    r#"
    .pushsection .text.bounded, "ax"
    .global bounded_call, bounded_wait
    // Threads without stacks. Calls the thread in x0, once.
bounded_call:
    mov     x1, x0
    mov     x2, xzr
    mov     x11, #-1
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    mov     x0, #-1
    // Waits for notifications until the time in x0; then for ever.
bounded_wait:
    mov     x12, x0
    mov     x0, xzr
    mrs     x1, tpidrro_el0
    ldr     x1, [x1]
    mov     x11, xzr
    mov     x13, xzr
    svc     #{ipc}
    mov     x0, #-1
    b       bounded_wait
    .popsection
    "#,
    ipc = const IPC,
);

unsafe extern "C" {
    pub(super) fn bounded_call(to: u64) -> !;
    pub(super) fn bounded_wait(until: u64) -> !;
}

/// Touches pages, and says so.
extern "C" fn touch(base: u64) -> ! {
    for page in 0..PAGES {
        let word = core::ptr::with_exposed_provenance::<AtomicU64>((base + (page << PAGE_BITS)) as usize);
        // SAFETY: frames that belong to nobody, as atomic words; the pager maps them.
        unsafe { (*word).store(page, Ordering::Relaxed) };
    }
    report([0; 4]);
    ipc::sleep_forever()
}

/// Starts `count` threads without stacks in UTCB slots from `slot` on, on all CPUs of the cluster, and lets them run.
pub(super) fn crowd(
    world: &mut World,
    space: SpaceId,
    slot: u16,
    count: u16,
    entry: unsafe extern "C" fn(u64) -> !,
    argument: u64,
) -> Outcome<ThreadId> {
    let mut last = ThreadId::NIL;
    let all = world.other_cpus().count() + 1;
    for slot in slot..slot + count {
        let cpu = world.other_cpus().nth(usize::from(slot) % all).unwrap_or(world.cpu);
        last = call("a thread", sys::thread_create(space, cpu, world.me, world.me, slot, 40))?;
        let pc = (entry as *const ()).addr() as u64;
        call("starting", sys::thread_start(last, pc, 0, argument))?;
    }
    world.answer_faults_for(50_000)?;
    Ok(last)
}

/// A space with `PAGES` pages of `base`.
fn mapped(world: &mut World, base: u64) -> Outcome<SpaceId> {
    let space = world.space()?;
    let thread = world.spawn(space, 0, world.cpu, 40, touch, base)?;
    world.report_of(thread)?;
    Ok(space)
}

/// Ends a space, however often it takes.
pub(super) fn destroy(space: SpaceId) -> Outcome {
    loop {
        match sys::space_destroy(space) {
            Err(Error::WrongState) => ipc::pause(10_000),
            done => return call("destroying a space", done),
        }
    }
}

fn waiters(world: &mut World) -> Outcome {
    let space = world.space()?;
    let victim = crowd(world, space, 0, 1, bounded_wait, u64::MAX)?;
    crowd(world, space, 1, THREADS, bounded_call, victim.0)?;
    call("deleting a thread with many waiters", sys::thread_delete(victim))?;
    world.answer_faults_for(50_000)?;
    destroy(space)
}

fn deadlines(world: &mut World) -> Outcome {
    let space = world.space()?;
    let until = sys::counter_time() + 5_000_000;
    crowd(world, space, 0, THREADS, bounded_wait, until)?;
    while sys::counter_time() < until {
        world.answer_faults_for(1_000_000)?;
    }
    world.answer_faults_for(100_000)?;
    destroy(space)
}

fn unmap_many(world: &mut World) -> Outcome {
    let base = world.frames.base;
    let spaces = [mapped(world, base)?, mapped(world, base)?, mapped(world, base)?];
    let mut both = [fpage(base, BLOCK_BITS)?, fpage(base + (1 << BLOCK_BITS), BLOCK_BITS)?];
    call("unmapping", sys::unmap(&mut both, false))?;
    spaces.into_iter().try_for_each(destroy)
}

fn restrict_many(world: &mut World) -> Outcome {
    let base = world.frames.base;
    let space = mapped(world, base)?;
    for rights in [Rights::NONE, Rights::W, Rights::RWX] {
        let both = [fpage(base, BLOCK_BITS)?, fpage(base + (1 << BLOCK_BITS), BLOCK_BITS)?];
        call("restricting", sys::unmap(&mut both.map(|fpage| fpage.with_rights(rights)), false))?;
    }
    destroy(space)
}

fn destroy_mapped(world: &mut World) -> Outcome {
    let space = mapped(world, world.frames.base)?;
    crowd(world, space, 1, THREADS, bounded_wait, u64::MAX)?;
    destroy(space)
}

fn split_blocks(world: &mut World) -> Outcome {
    world.blocks = true;
    let base = world.frames.base;
    let space = mapped(world, base)?;
    world.blocks = false;
    for page in [5, 6, 300, 512, 1023] {
        call("splitting", sys::unmap(&mut [fpage(base + (page << PAGE_BITS), PAGE_BITS)?], false))?;
    }
    call("unmapping", sys::unmap(&mut [fpage(base, BLOCK_BITS)?], false))?;
    destroy(space)
}

/// Answers to faults that map 511 pages each, 496 of them as 64 KiB, in a table that has one already; then a page of each of these is taken
/// back, and then all.
fn map_many(world: &mut World) -> Outcome {
    (world.blocks, world.first_alone) = (true, true);
    let base = world.frames.base;
    let (faults, maps) = (world.faults, info::total(Counter::Maps));
    let spaces = [mapped(world, base)?, mapped(world, base)?];
    (world.blocks, world.first_alone) = (false, false);
    let items = 2 * 2 * PAGES / 512;
    ensure!(world.faults - faults < items + 64, "{} faults for {items} items", world.faults - faults);
    let pages = info::total(Counter::Maps) - maps;
    ensure!(pages >= 2 * PAGES, "{pages} pages were mapped");
    for group in 1..32 {
        let page = base + ((16 * group + group % 16) << PAGE_BITS);
        call("splitting", sys::unmap(&mut [fpage(page, PAGE_BITS)?], false))?;
    }
    let mut both = [fpage(base, BLOCK_BITS)?, fpage(base + (1 << BLOCK_BITS), BLOCK_BITS)?];
    call("unmapping", sys::unmap(&mut both, false))?;
    let written = both.iter().all(|fpage| fpage.rights() == Rights::RW);
    ensure!(written, "the status of what was unmapped is {both:?}");
    spaces.into_iter().try_for_each(destroy)
}

fn come_and_go(world: &mut World) -> Outcome {
    for _ in 0..50 {
        let space = world.space()?;
        crowd(world, space, 0, 4, bounded_wait, u64::MAX)?;
        destroy(space)?;
    }
    Ok(())
}

/// All interrupts that can be attached go with their threads.
fn interrupts(world: &mut World) -> Outcome {
    let space = world.space()?;
    for slot in 0..8 {
        let thread = crowd(world, space, slot, 1, bounded_wait, u64::MAX)?;
        for n in 0..8 {
            call("attaching", sys::interrupt_attach(100 + 8 * u32::from(slot) + n, thread, 1))?;
        }
        let more = sys::interrupt_attach(200, thread, 1);
        ensure!(more == Err(Error::TableFull), "a ninth interrupt of a thread: {more:?}");
    }
    destroy(space)
}

type Phase = (&'static str, fn(&mut World) -> Outcome);

const PHASES: [Phase; 9] = [
    ("interrupts", interrupts),
    ("come-and-go", come_and_go),
    ("waiters", waiters),
    ("deadlines", deadlines),
    ("split-blocks", split_blocks),
    ("restrict-many", restrict_many),
    ("unmap-many", unmap_many),
    ("destroy-mapped", destroy_mapped),
    ("map-many", map_many),
];

pub(crate) fn run(world: &mut World) -> Outcome {
    let header = info::header();
    ensure!(header.cycle_clock == cycle_clock::PMCCNTR, "boot with measure=on");
    ensure!(header.cpu_count == 1, "boot with one CPU in cluster 0");
    let wanted = world.argument;
    ensure!(wanted.is_empty() || PHASES.iter().any(|(name, _)| *name == wanted), "no such phase: {wanted}");
    let mut too_long = None;
    // What the mapping database keeps for mappings of this space once they were shared, it keeps from the first round on.
    let mut free = (0, 0);
    for round in 0..ROUNDS {
        for (name, phase) in PHASES.into_iter().filter(|(name, _)| wanted.is_empty() || *name == wanted) {
            phase(world)?;
            let longest = info::total(Counter::LongestMasked);
            if round == 0 {
                emit("bounded", name, longest, "instructions");
            }
            if longest > LIMIT && too_long.is_none() {
                too_long = Some((name, longest));
            }
        }
        let now = info::header();
        let before = core::mem::replace(&mut free, (now.free_tables, now.free_nodes));
        ensure!(round == 0 || before == free, "{before:?} free after one round, {free:?} after the next");
    }
    for counter in
        [Counter::LongestMasked, Counter::LongestHold, Counter::Measured, Counter::PreemptionPoints]
    {
        emit("bounded", counter.name(), info::total(counter), "instructions");
    }
    ensure!(too_long.is_none(), "interrupts were off for too long, first in {too_long:?}");
    Ok(())
}
