//! Everybody takes everybody's pages away, all at once, in a loop: nobody waits for ever.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Pages, RegionKind};
use skerry_rt::task;

use super::crowd::{Failure, PAGES, Random, everywhere, page, region};

const COUNT: u64 = 12;
const ROUNDS: u64 = 40;

extern "C" fn fight(me: u64) -> ! {
    let mut random = Random::new(me + 1);
    for _ in 0..ROUNDS {
        for index in 0..COUNT as usize {
            page(PAGES, (index + me as usize) % COUNT as usize)[me as usize].store(me, Ordering::SeqCst);
        }
        let first = random.below(COUNT);
        let told = match random.below(3) {
            // All, in an order of one's own.
            0 => {
                let words: [u64; COUNT as usize] =
                    core::array::from_fn(|i| PAGES + (i as u64 * 5 + first) % COUNT * PAGE_SIZE);
                task::revoke(Pages::of(&words))
            }
            1 => task::unmap(PAGES, COUNT),
            _ => task::unmap(PAGES + first * PAGE_SIZE, 1),
        };
        if !told.is_ok_and(|told| told.bad == 0 && told.done | told.gone != 0) {
            task::exit(exit::FAIL)
        }
    }
    task::exit(exit::PASS)
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, COUNT, RegionKind::Global)?;
    everywhere(2, fight)
}
