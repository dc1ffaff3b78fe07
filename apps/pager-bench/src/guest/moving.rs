//! The threads that move pages and count.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::Changed;
use skerry_rt::task;

use super::touch::{COUNTS, words};
use super::unmap::{begin, end};

/// Pages of a batch.
pub(super) const BATCH: u64 = 64;

/// Thread: writes to the pages of the region that `what` names, `pages` for every sample, moves those of a sample to the node that it
/// names, and counts that.
fn measure(what: u64, pages: u64) -> ! {
    let (base, node) = (what & !0xfff, (what & 0xfff) as u16);
    for (index, count) in COUNTS.iter().enumerate() {
        let first = base + index as u64 * pages * PAGE_SIZE;
        (0..pages).for_each(|page| words(first + page * PAGE_SIZE, 1)[0].store(1, Ordering::Relaxed));
        let before = begin();
        let told = task::move_pages(first, pages, node);
        let after = end();
        if told != Ok(Changed { done: pages, ..Changed::default() }) {
            task::exit(exit::FAIL)
        }
        count.store(after - before, Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}

/// Thread: see [`measure`]; one page at a time.
pub(super) extern "C" fn measure_one(what: u64) -> ! {
    measure(what, 1)
}
/// Thread: see [`measure`].
pub(super) extern "C" fn measure_batch(what: u64) -> ! {
    measure(what, BATCH)
}

/// Thread: reads every page of the region at the address in `what`, which in its lower bits says how many there are for a sample.
pub(super) extern "C" fn prepare(what: u64) -> ! {
    let (base, pages) = (what & !0xfff, what & 0xfff);
    for page in 0..COUNTS.len() as u64 * pages {
        words(base + page * PAGE_SIZE, 1)[0].load(Ordering::Relaxed);
    }
    task::exit(exit::PASS)
}
