//! Pages move between nodes while threads on all of them write there: nothing is lost, and the frames are where they were to be.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Changed, MAX_LIST, Pages, RegionKind};
use skerry_rt::{sys, task};

use super::crowd::{Failure, PAGES, Random, changed, cpus, ensure, join, node, page, region, spawn};

/// More than a round of the pager.
const COUNT: usize = 70;
const ROUNDS: u64 = 30;
/// A region whose pages are each node's own.
const OWN: u64 = PAGES + (1 << 30);

static OVER: AtomicBool = AtomicBool::new(false);
/// How often each thread has written to each page.
static TURNS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Every thread has a word of its own in each page, and counts there.
extern "C" fn count(me: u64) -> ! {
    let mut turns = 0;
    while !OVER.load(Ordering::SeqCst) {
        for index in 0..COUNT {
            let word = &page(PAGES, index)[me as usize];
            if word.load(Ordering::Relaxed) != turns {
                task::exit(exit::FAIL)
            }
            word.store(turns + 1, Ordering::Relaxed);
        }
        turns += 1;
        TURNS[me as usize].store(turns, Ordering::SeqCst);
        // In deterministic emulation nobody else would have a turn.
        sys::wait();
    }
    task::exit(exit::PASS)
}

fn lie_on(node: u16) -> Result<u64, Error> {
    task::pager().frames_by_node(PAGES, COUNT as u64, node)
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT as u64 + 2, RegionKind::Global)?;
    region(OWN, 1, RegionKind::Local)?;
    page(OWN, 0)[0].store(1, Ordering::SeqCst);
    let mut threads = [0; 64];
    let count_threads = cpus().min(threads.len() as u64);
    for (index, number) in (0..count_threads).zip(&mut threads) {
        *number = spawn(index, count, index)?;
    }
    while (0..count_threads).any(|me| TURNS[me as usize].load(Ordering::SeqCst) == 0) {
        skerry_rt::ipc::pause(2000);
    }
    let mut random = Random::new(7);
    for round in 0..ROUNDS {
        let home = node(round);
        let all = Changed { done: COUNT as u64, gone: 2, ..Changed::default() };
        changed("a range", task::move_pages(PAGES, COUNT as u64 + 2, home)?, all)?;
        ensure(lie_on(home)? == COUNT as u64, "frames are elsewhere")?;
        // One page, and some in any order.
        let other = node(round + 1);
        let one = random.below(COUNT as u64);
        let done = Changed { done: 1, ..Changed::default() };
        changed("a page", task::move_pages(PAGES + one * PAGE_SIZE, 1, other)?, done)?;
        let words: [u64; MAX_LIST] = core::array::from_fn(|i| {
            (PAGES + (i as u64 * 37 + one) % COUNT as u64 * PAGE_SIZE) | u64::from(other)
        });
        let done = Changed { done: (1 << MAX_LIST) - 1, ..Changed::default() };
        changed("a list", task::move_list(Pages::of(&words))?, done)?;
        skerry_rt::ipc::pause(500);
    }
    OVER.store(true, Ordering::SeqCst);
    threads[..count_threads as usize].iter().try_for_each(|&number| join(number))?;
    for (me, turns) in TURNS.iter().enumerate().take(count_threads as usize) {
        let turns = turns.load(Ordering::SeqCst);
        let all = (0..COUNT).all(|index| page(PAGES, index)[me].load(Ordering::Relaxed) == turns);
        ensure(all && turns > 1, "a write was lost")?;
    }
    refused()
}

/// What cannot be moved, or not there.
fn refused() -> Result<(), Failure> {
    let here = node(0);
    for (base, pages, node) in
        [(PAGES, 1, 4000), (PAGES, 1, 64), (PAGES + 8, 1, here), (PAGES, 0, here), (PAGES, u64::MAX, here)]
    {
        ensure(task::move_pages(base, pages, node) == Err(Error::BadArgument), "a senseless move")?;
    }
    for words in [&[PAGES | 0xfff][..], &[PAGES, PAGES | 1][..]] {
        ensure(task::move_list(Pages::of(words)) == Err(Error::BadArgument), "a senseless list")?;
    }
    // A page of the node's own, another's, and one between good ones.
    let bad = Changed { bad: 1, ..Changed::default() };
    changed("a node's own page", task::move_pages(OWN, 1, here)?, bad)?;
    changed("another's page", task::move_pages(0x4000_0000, 1, here)?, bad)?;
    let words =
        [PAGES, OWN, PAGES + PAGE_SIZE, PAGES + COUNT as u64 * PAGE_SIZE].map(|page| page | u64::from(here));
    let some = Changed { done: 0b101, gone: 0b1000, full: 0, bad: 0b10 };
    changed("a list with a bad page", task::move_list(Pages::of(&words))?, some)?;
    ensure(page(OWN, 0)[0].load(Ordering::SeqCst) == 1, "a refusal changed a page")
}
