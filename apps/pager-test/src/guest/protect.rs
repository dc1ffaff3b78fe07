//! Rights go and come back, on all nodes.

use core::sync::atomic::Ordering;

use skerry_abi::Rights;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{RegionKind, Revoked, ThreadEnd};
use skerry_rt::task;

use super::crowd::{Failure, PAGES, cpus, ensure, everywhere, page, region, spawn, told};

const COUNT: u64 = 8;

extern "C" fn writer(me: u64) -> ! {
    for index in 0..COUNT as usize {
        page(PAGES, index)[me as usize].fetch_add(1, Ordering::SeqCst);
    }
    task::exit(exit::PASS)
}
extern "C" fn reader(me: u64) -> ! {
    let same = (0..COUNT as usize).all(|index| page(PAGES, index)[me as usize].load(Ordering::SeqCst) == 1);
    task::exit(if same { exit::PASS } else { exit::FAIL })
}

fn all(dirty: u64) -> Revoked {
    Revoked { done: COUNT, gone: 0, accessed: COUNT, dirty, bad: 0 }
}

/// Restricted pages are still read everywhere; when they may be written again, writes are widened on demand, and nothing is lost.
pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT, RegionKind::Global)?;
    everywhere(1, writer)?;
    told("restriction", task::protect(PAGES, COUNT, Rights::R)?, all(COUNT))?;
    everywhere(1, reader)?;
    let widened = task::protect(PAGES, COUNT, Rights::RW)?;
    ensure((widened.done, widened.bad) == (COUNT, 0), "the pages may not be written again")?;
    everywhere(1, writer)?;
    let twice = |index: usize| {
        page(PAGES, index)[..cpus() as usize].iter().all(|word| word.load(Ordering::SeqCst) == 2)
    };
    ensure((0..COUNT as usize).all(twice), "a write was lost")?;
    let taken = task::unmap(PAGES, COUNT)?;
    ensure((taken.done, taken.dirty) == (COUNT, COUNT), "what was written does not count as written")
}

/// A write to a restricted page is the end of the thread, on the node where it was restricted and on another one.
fn write_to(cpu: u64) -> Result<(), Failure> {
    let number = spawn(cpu, writer, cpu)?;
    match task::join(number)? {
        ThreadEnd::Died => Ok(()),
        end => Err(Failure::Thread(number, end)),
    }
}

/// See [`write_to`]. The run ends as one in which threads died.
pub(super) fn write(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT, RegionKind::Global)?;
    everywhere(1, writer)?;
    task::protect(PAGES, COUNT, Rights::R)?;
    (0..cpus()).try_for_each(write_to)?;
    ensure(page(PAGES, 0)[0].load(Ordering::SeqCst) == 1, "a write went through")
}
