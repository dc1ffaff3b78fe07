//! A task may act on its own pages only, with the rights they may have.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{USER_END, UTCB_BASE};
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::{Pages, RegionKind, Revoked};
use skerry_rt::start::START_BASE;
use skerry_rt::task;

use super::crowd::{Failure, PAGES, ensure, page, region, told};

pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, 4, RegionKind::Global)?;
    page(PAGES, 0)[0].store(7, Ordering::SeqCst);
    // No pages at all.
    for (base, pages) in [
        (PAGES + 8, 1),
        (PAGES, 0),
        (PAGES, u64::MAX),
        (!(PAGE_SIZE - 1), 1),
        (USER_END, 1),
        (USER_END - PAGE_SIZE, 2),
    ] {
        ensure(task::unmap(base, pages) == Err(Error::BadArgument), "a senseless range is not refused")?;
        ensure(task::protect(base, pages, Rights::R) == Err(Error::BadArgument), "nor its rights")?;
    }
    ensure(task::pager().protect(PAGES, 1, 8) == Err(Error::BadArgument), "rights that do not exist")?;
    for words in [&[PAGES | 1, PAGES + PAGE_SIZE][..], &[PAGES | 16][..], &[][..]] {
        let refused = matches!(task::revoke(Pages::of(words)), Err(Error::BadArgument | Error::BadRequest));
        ensure(refused, "a senseless list is not refused")?;
    }
    // Other people's pages: the kernel's part of the space, physical memory as the pagers have it, nothing.
    let bad = Revoked { bad: 1, ..Revoked::default() };
    for base in [UTCB_BASE, 0x4000_0000, 0x1000, USER_END - PAGE_SIZE] {
        told("another's page", task::unmap(base, 1)?, bad)?;
        told("another's page", task::protect(base, 1, Rights::R)?, bad)?;
    }
    // Rights that a region does not have.
    told("code of data", task::protect(PAGES, 1, Rights::RWX)?, bad)?;
    told("data of the start page", task::protect(START_BASE, 1, Rights::RW)?, bad)?;
    // What was refused has changed nothing, and the task still has its code.
    ensure(page(PAGES, 0)[0].load(Ordering::SeqCst) == 7, "a refusal changed a page")?;
    // One's own code can go: it comes back.
    let code = (run as *const ()).addr() as u64 & !(PAGE_SIZE - 1);
    let gone = task::unmap(code, 1)?;
    ensure((gone.done, gone.bad) == (1, 0), "a page of code is not the task's own")?;
    ensure(page(PAGES, 1)[0].load(Ordering::SeqCst) == 0, "after that nothing works")
}
