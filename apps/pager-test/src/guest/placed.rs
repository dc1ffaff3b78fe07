//! Fresh pages are where the policy wants them: how many frames each node has given for the pages that one thread touches.

use core::sync::atomic::Ordering;

use skerry_ipc::pager::RegionKind;
use skerry_rt::record::{Kind, emit, progress};
use skerry_rt::{start, task};

use super::crowd::{Failure, PAGES, ensure, page, region};

/// Nodes that it tells of.
const NODES: [&str; 8] = ["node0", "node1", "node2", "node3", "node4", "node5", "node6", "node7"];

/// Frames that are free, by node.
fn free() -> Result<[u64; NODES.len()], Failure> {
    let mut free = [0; NODES.len()];
    for (node, _) in start::app().places() {
        if let Some(free) = free.get_mut(usize::from(node)) {
            *free = task::pager().free(node)?.frames;
        }
    }
    Ok(free)
}

/// `placed N`: this many pages.
pub(super) fn run(pages: u64) -> Result<(), Failure> {
    region(PAGES, pages + 1, RegionKind::Global)?;
    // Tables are made with the first page.
    let word = |index: u64| &page(PAGES, index as usize)[0];
    word(0).store(1, Ordering::Relaxed);
    let before = free()?;
    for index in 1..=pages {
        word(index).store(index + 1, Ordering::Relaxed);
        if index % 4096 == 0 {
            progress("pages", index, pages);
        }
    }
    let after = free()?;
    ensure((0..=pages).all(|index| word(index).load(Ordering::Relaxed) == index + 1), "a page is lost")?;
    for (node, _) in start::app().places() {
        let Some(name) = NODES.get(usize::from(node)) else { continue };
        let taken = before[usize::from(node)].saturating_sub(after[usize::from(node)]);
        emit(("pager-test", "pager-test.placed", name), taken, "frames", Kind::Exact, &[("pages", pages)]);
    }
    Ok(())
}
