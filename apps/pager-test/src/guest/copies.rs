//! Pages that every node has a copy of, and pages that every node has for itself.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::{Changed, RegionKind, ThreadEnd};
use skerry_rt::{start, task};

use super::crowd::{Failure, PAGES, changed, cpus, ensure, everywhere, join, node, page, region, spawn};

const COUNT: u64 = 5;
/// What the pages begin with.
const FIRST: u64 = 0x1111;

/// What threads must find in the pages, and who writes there in the meantime.
static EXPECTED: AtomicU64 = AtomicU64::new(0);
static WRITER: AtomicU64 = AtomicU64::new(u64::MAX);

fn done(count: u64) -> Changed {
    Changed { done: count, ..Changed::default() }
}
fn all_are(expected: u64) -> bool {
    (0..COUNT as usize).all(|index| page(PAGES, index)[0].load(Ordering::SeqCst) == expected)
}
fn write_all(value: u64) {
    (0..COUNT as usize).for_each(|index| page(PAGES, index)[0].store(value, Ordering::SeqCst));
}

extern "C" fn read(_: u64) -> ! {
    task::exit(if all_are(EXPECTED.load(Ordering::SeqCst)) { exit::PASS } else { exit::FAIL })
}
extern "C" fn write(value: u64) -> ! {
    write_all(value);
    task::exit(exit::PASS)
}
/// Reads until it sees what the writer has written.
extern "C" fn follow(me: u64) -> ! {
    if WRITER.load(Ordering::SeqCst) == me {
        write_all(me + 0x2222);
        EXPECTED.store(me + 0x2222, Ordering::SeqCst);
    }
    loop {
        // First this: who knows of the write must see it in the pages.
        let expected = EXPECTED.load(Ordering::SeqCst);
        let known = expected != FIRST;
        for index in 0..COUNT as usize {
            let found = page(PAGES, index)[0].load(Ordering::SeqCst);
            if known && found != expected || !known && found < FIRST {
                task::exit(exit::FAIL)
            }
        }
        if known {
            task::exit(exit::PASS)
        }
        skerry_rt::ipc::pause(500);
    }
}

/// Replicated pages are read on every node, each from its own frames; a write on any node is seen on all.
pub(super) fn replicas(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT + 1, RegionKind::Global)?;
    let nodes = start::app().places().count() as u64;
    for writer in 0..cpus() {
        write_all(FIRST);
        EXPECTED.store(FIRST, Ordering::SeqCst);
        let replicated = Changed { done: COUNT, gone: 1, ..Changed::default() };
        changed("replication", task::replicate(PAGES, COUNT + 1)?, replicated)?;
        changed("the same again", task::replicate(PAGES, COUNT + 1)?, replicated)?;
        everywhere(1, read)?;
        // This node reads its own frames, wherever the pages were.
        let here = task::pager().frames_by_node(PAGES, COUNT, node(0))?;
        ensure(all_are(FIRST) && here == COUNT, "this node has no copies of its own")?;
        WRITER.store(writer, Ordering::SeqCst);
        everywhere(1, follow)?;
        ensure(all_are(writer + 0x2222), "a write is not seen")?;
    }
    // Restricted copies stay copies; a page that moves or goes has none.
    task::replicate(PAGES, COUNT)?;
    EXPECTED.store(cpus() - 1 + 0x2222, Ordering::SeqCst);
    everywhere(1, read)?;
    task::protect(PAGES, COUNT, Rights::R)?;
    everywhere(1, read)?;
    task::protect(PAGES, COUNT, Rights::RW)?;
    changed("a move", task::move_pages(PAGES, COUNT, node(nodes - 1))?, done(COUNT))?;
    everywhere(1, read)?;
    task::replicate(PAGES, COUNT)?;
    everywhere(1, read)?;
    ensure(task::unmap(PAGES, COUNT)?.done == COUNT, "copies do not go")?;
    EXPECTED.store(0, Ordering::SeqCst);
    everywhere(1, read)
}

/// Pages of each node's own begin with what was in them, and nobody else sees what is written there.
pub(super) fn apart(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT, RegionKind::Global)?;
    write_all(FIRST);
    changed("apart", task::make_local(PAGES, COUNT)?, done(COUNT))?;
    changed("apart again", task::make_local(PAGES, COUNT)?, done(COUNT))?;
    EXPECTED.store(FIRST, Ordering::SeqCst);
    everywhere(1, read)?;
    // Each node in turn writes something of its own; a thread stays there, so that the node keeps it.
    for (node, cpu) in start::app().places() {
        let number = spawn(cpu.into(), write, u64::from(node) + 10)?;
        join(number)?;
    }
    let here = u64::from(node(0)) + 10;
    ensure(all_are(here), "this node does not see what it has written")?;
    let bad = Changed { bad: COUNT, ..Changed::default() };
    changed("a move", task::move_pages(PAGES, COUNT, node(0))?, bad)?;
    changed("a replication", task::replicate(PAGES, COUNT)?, bad)?;
    // Rights go and come back; what is there stays.
    task::protect(PAGES, COUNT, Rights::R)?;
    ensure(all_are(here), "a restriction loses what is there")?;
    task::protect(PAGES, COUNT, Rights::RW)?;
    write_all(here + 1);
    ensure(all_are(here + 1), "rights do not come back")?;
    // Together again: as it was before.
    changed("together", task::make_global(PAGES, COUNT)?, done(COUNT))?;
    everywhere(1, read)?;
    ensure(all_are(FIRST), "what is shared again is not what was")?;
    // Pages that nobody has touched, and what nobody can have.
    ensure(task::unmap(PAGES, COUNT)?.done == COUNT, "pages are not there")?;
    changed("apart from the beginning", task::make_local(PAGES, COUNT)?, done(COUNT))?;
    EXPECTED.store(0, Ordering::SeqCst);
    everywhere(1, read)?;
    write_all(7);
    ensure(all_are(7), "this node has nothing of its own")?;
    task::make_global(PAGES, COUNT)?;
    everywhere(1, read)?;
    let bad = Changed { bad: 1, ..Changed::default() };
    changed("another's page", task::make_local(0x4000_0000, 1)?, bad)?;
    for (base, pages) in [(PAGES + 8, 1), (PAGES, 0), (PAGES, u64::MAX)] {
        let asked =
            [task::make_local(base, pages), task::make_global(base, pages), task::replicate(base, pages)];
        ensure(asked.iter().all(|told| *told == Err(Error::BadArgument)), "a senseless range")?;
    }
    Ok(())
}

/// Rights to pages that nobody has touched hold: a thread on each CPU may read them, and one that writes ends.
pub(super) fn untouched(_: u64) -> Result<(), Failure> {
    for kind in [RegionKind::Global, RegionKind::Local] {
        let base = PAGES + ((kind as u64) << 30);
        region(base, COUNT, kind)?;
        ensure(task::protect(base, COUNT, Rights::R)?.done == COUNT, "untouched pages are not restricted")?;
        ensure(page(base, 0)[0].load(Ordering::SeqCst) == 0, "a restricted page cannot be read")?;
        // The second has not been touched even now.
        for index in [0, 1] {
            let number = spawn(0, write_one, base + index * 4096)?;
            match task::join(number)? {
                ThreadEnd::Died => {}
                end => return Err(Failure::Thread(number, end)),
            }
        }
        ensure(task::protect(base, COUNT, Rights::RW)?.done == COUNT, "rights do not come back")?;
        for index in 0..COUNT {
            join(spawn(0, write_one, base + index * 4096)?)?;
        }
        ensure(page(base, 4)[0].load(Ordering::SeqCst) == 5, "a write is lost")?;
    }
    Ok(())
}
extern "C" fn write_one(address: u64) -> ! {
    page(address, 0)[0].store(5, Ordering::SeqCst);
    task::exit(exit::PASS)
}
