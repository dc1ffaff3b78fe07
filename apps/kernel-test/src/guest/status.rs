//! What UNMAP tells of pages: accessed, written. CPUs that keep that themselves and those that leave it to the kernel say the same.
#![expect(unsafe_code, reason = "memory at a fixed address")]

use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Rights;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_rt::{ipc, sys};

use super::world::{Entry, Outcome, World, call, ensure, fpage, report};

fn word(address: u64) -> &'static AtomicU64 {
    // SAFETY: a frame that belongs to nobody, as an atomic word; the pager maps it.
    unsafe { &*with_exposed_provenance(address as usize) }
}

extern "C" fn reader(address: u64) -> ! {
    report([word(address).load(Ordering::Relaxed), 0, 0, 0]);
    ipc::sleep_forever()
}

extern "C" fn writer(address: u64) -> ! {
    word(address).store(1, Ordering::Relaxed);
    report([0; 4]);
    ipc::sleep_forever()
}

/// What was done to these two pages since this was asked last.
fn seen(base: u64) -> Outcome<[Rights; 2]> {
    let page = |n| Ok(fpage(base + n * PAGE_SIZE, PAGE_BITS)?.with_rights(Rights::NONE));
    let mut pages = [page(0)?, page(1)?];
    call("looking", sys::unmap(&mut pages, false))?;
    Ok(pages.map(|page| page.rights()))
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let base = world.frames.base;
    let space = world.space()?;
    let mut slot = 0;
    let mut step = |world: &mut World, what: Entry, page: u64| {
        let thread = world.spawn(space, slot, world.cpu, 40, what, base + page * PAGE_SIZE)?;
        slot += 1;
        world.report_of(thread).map(drop)
    };
    let [none, read, written] = [Rights::NONE, Rights::R, Rights::RW];
    step(world, reader, 0)?;
    step(world, writer, 1)?;
    // Twice, since what was told once is told no more.
    for (did, expected) in [("a page read, another written", [read, written]), ("nothing", [none, none])] {
        let told = seen(base)?;
        ensure!(told == expected, "{did}: {told:?}");
    }
    // Both are mapped, so nobody but the CPU or the kernel notices.
    step(world, writer, 0)?;
    let told = seen(base)?;
    ensure!(told == [written, none], "a page that was read is written: {told:?}");
    step(world, reader, 0)?;
    step(world, reader, 1)?;
    let told = seen(base)?;
    ensure!(told == [read, read], "pages that were written are read: {told:?}");
    // What is written between a look and the end is told at the end.
    step(world, writer, 1)?;
    let mut pages = [fpage(base, PAGE_BITS)?, fpage(base + PAGE_SIZE, PAGE_BITS)?];
    call("unmapping", sys::unmap(&mut pages, false))?;
    let told = pages.map(|page| page.rights());
    ensure!(told == [none, written], "at the end: {told:?}");
    call("ending the space", sys::space_destroy(space))
}
