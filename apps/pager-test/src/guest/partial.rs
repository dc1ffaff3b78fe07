//! Many pages in one message: what is bad is named, and the others are done.

use core::sync::atomic::Ordering;

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{MAX_LIST, Pages, RegionKind, Revoked};
use skerry_rt::task;

use super::crowd::{Failure, PAGES, ensure, everywhere, page, region, told};

const COUNT: usize = MAX_LIST;
/// A region whose pages are each node's own.
const OWN: u64 = PAGES + (1 << 30);
/// Nothing is there.
const NOTHING: u64 = PAGES + (2 << 30);
const LARGE: u64 = 200;

extern "C" fn touch(_: u64) -> ! {
    for index in 0..LARGE as usize {
        page(PAGES, index)[1].fetch_add(1, Ordering::SeqCst);
    }
    task::exit(exit::PASS)
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, LARGE, RegionKind::Global)?;
    region(OWN, 2, RegionKind::Local)?;
    everywhere(1, touch)?;
    page(OWN, 0)[0].store(1, Ordering::SeqCst);

    // Pages in any order, one that is none, one of this node alone, one that nobody has touched, one twice.
    let address = |index: usize| match index {
        40 => NOTHING,
        41 => OWN,
        42 => OWN + PAGE_SIZE,
        43 => PAGES,
        _ => PAGES + (index as u64 * 37 % COUNT as u64) * PAGE_SIZE,
    };
    let words: [u64; COUNT] = core::array::from_fn(address);
    let result = task::revoke(Pages::of(&words))?;
    let twice = (0..COUNT).filter(|&i| words[..i].contains(&words[i]));
    let gone = twice.fold(1 << 42, |bits, i| bits | 1 << i);
    let done = ((1 << COUNT) - 1) & !(1 << 40) & !gone;
    let expected = Revoked { done, gone, accessed: done, dirty: done, bad: 1 << 40 };
    told("63 pages", result, expected)?;
    let clear = |address: u64| page(address, 0)[..2].iter().all(|word| word.load(Ordering::SeqCst) == 0);
    ensure(words.iter().filter(|&&word| word != NOTHING).all(|&word| clear(word)), "a page is left")?;

    // Rights in a list, the same for all.
    let read = words.map(|word| word | Rights::R.bits());
    let restricted = task::revoke(Pages::of(&read))?;
    ensure(restricted.bad == 1 << 40 && restricted.done & 1 != 0, "a list of rights is not done")?;

    // A range of several rounds, the first pages of which are gone, and which ends behind the region.
    task::unmap(PAGES, 10)?;
    let range = task::unmap(PAGES, LARGE + 5)?;
    let done = LARGE - 10;
    ensure((range.done, range.gone, range.bad) == (done, 10, 5), "a long range is not done")?;
    ensure(page(PAGES, 150)[1].load(Ordering::SeqCst) == 0, "a page of a long range is left")
}
