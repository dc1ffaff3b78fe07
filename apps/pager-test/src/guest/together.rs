//! Pages that a fault established with others: they are there without another fault, and go one by one.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Ahead, MEASURED, RegionKind};
use skerry_rt::{start, task};

use super::crowd::{Failure, PAGES, cpus, ensure, join, page, spawn};

const GROUP: usize = 16;
/// Two whole groups, and parts of two others around them.
const COUNT: usize = 3 + 2 * GROUP + 5;
/// Pages of a group that somebody else has before.
const FOREIGN: [usize; 2] = [3 + GROUP + 7, 3 + GROUP + 8];

/// Where a region begins, so that three of its pages are in front of a group.
const fn base(number: u64) -> u64 {
    PAGES + (number << 30) + 13 * PAGE_SIZE
}

extern "C" fn touch_foreign(base: u64) -> ! {
    FOREIGN.iter().for_each(|&index| page(base, index)[3].store(7, Ordering::SeqCst));
    task::exit(exit::PASS)
}

/// Faults and fresh frames of the measured regions so far, on the node of this thread.
fn counts() -> Result<(u64, u64), Failure> {
    let (node, _) = start::app().places().next().unwrap_or((0, 0));
    let stats = task::pager().stats(node)?;
    Ok((stats.faults, stats.allocations))
}

fn case(number: u64, kind: RegionKind, ahead: Ahead) -> Result<(), Failure> {
    let base = base(number);
    task::region(base, COUNT as u64 * PAGE_SIZE, kind, MEASURED | ahead as u64)?;
    let shared = kind == RegionKind::Global;
    if shared {
        // On the last CPU, which may be another node's. The pages around them came, too, and go.
        join(spawn(cpus() - 1, touch_foreign, base)?)?;
        for index in (3 + GROUP..3 + 2 * GROUP).filter(|index| !FOREIGN.contains(index)) {
            let told = task::unmap(base + index as u64 * PAGE_SIZE, 1)?;
            ensure(told.done == 1, "a page around another one did not come")?;
        }
    }
    let before = counts()?;
    let word = |index: usize| &page(base, index)[5];
    // One touch per group: what is in front of the first, it, and the rest of the last.
    for index in [1, 3 + 4, 3 + 2 * GROUP + 4] {
        word(index).store(index as u64, Ordering::SeqCst);
    }
    let (faults, frames) = counts()?;
    let fresh = 3 + GROUP + 5;
    ensure((faults - before.0, frames - before.1) == (3, fresh as u64), "not one fault per group")?;
    for index in (0..3 + GROUP).chain(3 + 2 * GROUP..COUNT) {
        ensure([0, index as u64].contains(&word(index).load(Ordering::SeqCst)), "a page is not clear")?;
        word(index).store(100 + index as u64, Ordering::SeqCst);
    }
    ensure(counts()? == (faults, frames), "a page that was established faults")?;
    // Of the group where somebody has pages, the others come.
    word(3 + GROUP).store(1, Ordering::SeqCst);
    for index in 3 + GROUP..3 + 2 * GROUP {
        let expected = if shared && FOREIGN.contains(&index) { 7 } else { 0 };
        ensure(page(base, index)[3].load(Ordering::SeqCst) == expected, "contents of another node are lost")?;
    }
    let group = counts()?;
    if shared {
        ensure(group.1 - frames == GROUP as u64 - 2, "a page of another node was taken")?;
    }
    // They go one by one; the others stay as they are.
    for index in [3, 3 + 9, 3 + GROUP - 1] {
        let told = task::unmap(base + index as u64 * PAGE_SIZE, 1)?;
        ensure((told.done, told.dirty) == (1, 1), "a single page of a group is not taken away")?;
    }
    for index in 3..3 + GROUP {
        let gone = [3, 3 + 9, 3 + GROUP - 1].contains(&index);
        let expected = if gone { 0 } else { 100 + index as u64 };
        ensure(word(index).load(Ordering::SeqCst) == expected, "the wrong page was taken away")?;
    }
    // The whole of it, and again.
    let told = task::unmap(base, COUNT as u64)?;
    ensure(told.done == COUNT as u64 && told.bad == 0, "a region is not taken away")?;
    ensure((0..COUNT).all(|index| word(index).load(Ordering::SeqCst) == 0), "a page is not clear again")
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    let cases = [
        (RegionKind::Global, Ahead::Sixteen),
        (RegionKind::Global, Ahead::Block),
        (RegionKind::Local, Ahead::Sixteen),
        (RegionKind::Local, Ahead::Block),
    ];
    (0..).zip(cases).try_for_each(|(number, (kind, ahead))| case(number, kind, ahead))
}
