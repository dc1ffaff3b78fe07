//! Random touches, unmaps, restrictions and their end, and moves between nodes, on all of them, beside a shadow of every page.
//!
//! A page and its shadow are under a lock while a thread works on it, so the shadow knows exactly what must be in the page; what is
//! under test is what other nodes still have of it. Locks are tried, not waited for. The seed makes each thread's choices.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Pages, RegionKind};
use skerry_rt::record::{Kind, emit};
use skerry_rt::task;

use super::crowd::{Failure, PAGES, Random, cpus, everywhere, node, page, region};

const COUNT: usize = 48;
const SLOTS: usize = 16;
const STEPS: u64 = 300;
const THREADS: u64 = 16;

static SEED: AtomicU64 = AtomicU64::new(0);

/// What must be in a page.
struct Shadow {
    taken: AtomicBool,
    writable: AtomicBool,
    slots: [AtomicU64; SLOTS],
}

static SHADOWS: [Shadow; COUNT] = [const {
    Shadow {
        taken: AtomicBool::new(false),
        writable: AtomicBool::new(true),
        slots: [const { AtomicU64::new(0) }; SLOTS],
    }
}; COUNT];

impl Shadow {
    fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::Acquire)
    }
    fn give(&self) {
        self.taken.store(false, Ordering::Release);
    }
    fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
        self.writable.store(true, Ordering::Relaxed);
    }
}

/// Whether the page is as its shadow says.
fn is_right(index: usize) -> bool {
    let words = page(PAGES, index);
    SHADOWS[index]
        .slots
        .iter()
        .zip(words)
        .all(|(slot, word)| slot.load(Ordering::Relaxed) == word.load(Ordering::Relaxed))
}

fn address(index: usize) -> u64 {
    PAGES + index as u64 * PAGE_SIZE
}

/// One step. Returns whether everything was as it must be.
fn step(random: &mut Random, stamp: u64) -> bool {
    let first = random.below(COUNT as u64) as usize;
    let shadow = &SHADOWS[first];
    if !shadow.take() {
        return true;
    }
    let mut right = is_right(first);
    match random.below(13) {
        0..5 => {
            if shadow.writable.load(Ordering::Relaxed) {
                let slot = random.below(SLOTS as u64) as usize;
                page(PAGES, first)[slot].store(stamp, Ordering::Relaxed);
                shadow.slots[slot].store(stamp, Ordering::Relaxed);
            }
        }
        5 | 6 => {
            right &=
                task::unmap(address(first), 1).is_ok_and(|told| told.bad == 0 && told.done + told.gone == 1);
            shadow.clear();
        }
        7 => {
            // The page has been read: it is there, so it can be restricted.
            right &= task::protect(address(first), 1, Rights::R).is_ok_and(|told| told.done == 1);
            shadow.writable.store(false, Ordering::Relaxed);
        }
        8 => {
            right &= task::protect(address(first), 1, Rights::RW).is_ok_and(|told| told.done == 1);
            shadow.writable.store(true, Ordering::Relaxed);
        }
        9 | 10 => {
            // Whether it can be written or not, wherever it is, and even if it is there already.
            let node = node(random.below(64));
            right &= task::move_pages(address(first), 1, node).is_ok_and(|told| told.done == 1);
        }
        _ => {
            // As many as are free, in one message: away or elsewhere.
            let away = random.below(2) == 0;
            let node = u64::from(node(random.below(64)));
            let mut pages = [0; COUNT];
            let mut count = 0;
            for index in (0..COUNT).filter(|&index| index != first) {
                if random.below(4) == 0 && SHADOWS[index].take() {
                    pages[count] = index;
                    count += 1;
                }
            }
            let words: [u64; COUNT] =
                core::array::from_fn(|i| address(pages[i]) | if away { 0 } else { node });
            if count != 0 && away {
                right &= task::revoke(Pages::of(&words[..count])).is_ok_and(|told| told.bad == 0);
            } else if count != 0 {
                right &= task::move_list(Pages::of(&words[..count]))
                    .is_ok_and(|told| (told.bad, told.full) == (0, 0));
            }
            for &index in &pages[..count] {
                if away {
                    SHADOWS[index].clear();
                }
                right &= is_right(index);
                SHADOWS[index].give();
            }
        }
    }
    right &= is_right(first);
    shadow.give();
    right
}

extern "C" fn thread(me: u64) -> ! {
    let mut random = Random::new(SEED.load(Ordering::SeqCst) * 1000 + me);
    for number in 0..STEPS {
        if !step(&mut random, (me + 1) << 32 | (number + 1)) {
            task::exit(exit::FAIL)
        }
    }
    task::exit(exit::PASS)
}

pub(super) fn run(seed: u64) -> Result<(), Failure> {
    emit(("pager-test", "stress", "seed"), seed, "seed", Kind::Exact, &[]);
    SEED.store(seed, Ordering::SeqCst);
    region(PAGES, COUNT as u64, RegionKind::Global)?;
    everywhere(THREADS.div_ceil(cpus()), thread)
}
