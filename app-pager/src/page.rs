//! The words of a page, where they lie, and what the protocols do to them.
//!
//! A *master table* has for each page its entry and behind it the sharer mask, [`Masks`] words of it, so that whoever
//! faults finds both in one cache line. A *local table* has one word per page, and behind them one per 64 KiB of addresses, the words of
//! groups.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_protocols::effect::{Access, Word};

/// Words of a page in a master table with `W` words of sharers.
pub const fn words(w: usize) -> usize {
    1 + w
}

/// Bytes of a master table for so many pages.
pub const fn master_bytes(pages: u64, w: usize) -> u64 {
    (pages * words(w) as u64 * 8).next_multiple_of(PAGE_SIZE)
}

/// log2 of the bytes of a group: pages that a fault may establish together.
pub const GROUP_BITS: u32 = 16;
/// Pages of a group.
pub const GROUP_PAGES: usize = 1 << (GROUP_BITS - PAGE_BITS);

/// Bytes of a local table for so many pages, wherever they begin.
pub const fn local_bytes(pages: u64) -> u64 {
    let groups = pages.div_ceil(GROUP_PAGES as u64) + 1;
    ((pages + groups) * 8).next_multiple_of(PAGE_SIZE)
}

/// Address of the word for the group of `address` in the local table at `table`, of `pages` pages from `base` on.
pub const fn group_at(table: u64, base: u64, pages: u64, address: u64) -> u64 {
    table + (pages + (address >> GROUP_BITS) - (base >> GROUP_BITS)) * 8
}

/// Performs one atomic action; returns the value before it.
#[inline(always)]
pub fn perform(word: &AtomicU64, access: Access) -> u64 {
    match access {
        Access::Load => word.load(Ordering::SeqCst),
        Access::Swap { expected, new } => word
            .compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
            .unwrap_or_else(|found| found),
        Access::Set(bits) => word.fetch_or(bits, Ordering::SeqCst),
        Access::Clear(bits) => word.fetch_and(!bits, Ordering::SeqCst),
        Access::Count => word.fetch_add(1, Ordering::SeqCst),
    }
}

/// The words of one page, as the pager of one node sees them.
#[derive(Clone, Copy, Debug)]
pub struct Page<'m> {
    /// The local word.
    pub local: &'m AtomicU64,
    /// The word of the page's group.
    pub group: &'m AtomicU64,
    /// Entry and sharers; nothing for a page that is the node's own business.
    pub master: &'m [AtomicU64],
}

impl Page<'_> {
    /// Performs what a machine wants. What it wants of words that are not there, no machine for such a page wants.
    #[inline(always)]
    pub fn access(&self, word: Word, access: Access) -> u64 {
        match word {
            Word::Local => perform(self.local, access),
            Word::Group => perform(self.group, access),
            Word::Master => self.master.first().map_or(0, |word| perform(word, access)),
            Word::Sharers(w) => self.master.get(1 + usize::from(w)).map_or(0, |word| perform(word, access)),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use skerry_abi::Rights;
    use skerry_protocols::effect::Me;
    use skerry_protocols::entry::Entry;
    use skerry_protocols::fault::{Effect, Fault, Scope};
    use skerry_protocols::lead::{self, Goal, Lead, Outcome};
    use skerry_protocols::local::Local;
    use std::{thread, vec::Vec};

    fn zeros(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn actions_return_what_was_there() {
        let word = AtomicU64::new(5);
        assert_eq!(perform(&word, Access::Swap { expected: 4, new: 9 }), 5);
        assert_eq!(perform(&word, Access::Swap { expected: 5, new: 9 }), 5);
        assert_eq!((perform(&word, Access::Set(6)), perform(&word, Access::Clear(3))), (9, 15));
        assert_eq!(perform(&word, Access::Load), 12);
        assert_eq!((master_bytes(256, 1), master_bytes(257, 1), local_bytes(513)), (4096, 8192, 8192));
        // The last group's word is the table's last one, however the pages lie.
        for (base, pages) in [(0x10_0000, 480), (0x10_f000, 2), (0x10_f000, 17), (0x10_1000, 511)] {
            let last = group_at(0x8000, base, pages, base + (pages - 1) * PAGE_SIZE);
            assert!(group_at(0x8000, base, pages, base) == 0x8000 + pages * 8);
            assert!(last < 0x8000 + local_bytes(pages) && last <= 0x8000 + (pages + pages.div_ceil(16)) * 8);
        }
    }

    /// Faults on real words until the page is there; spins where a pager would park. Returns the frame.
    fn fault(me: Me, page: Page<'_>, frames: &mut u64) -> u64 {
        let mut machine = Fault::new(me, Scope::Global, Rights::W, Rights::RW);
        let mut answer = 0;
        loop {
            answer = match machine.step(answer) {
                Effect::Access(word, access) => page.access(word, access),
                Effect::Allocate => {
                    *frames += 1;
                    (u64::from(me.node) << 20 | *frames) << 12
                }
                Effect::GiveBack(_) => {
                    *frames -= 1;
                    0
                }
                Effect::Map(word) => return word.frame(),
                Effect::WakeNode => 0,
                Effect::Park => {
                    thread::yield_now();
                    0
                }
                effect => panic!("{effect:?}"),
            };
        }
    }

    #[test]
    fn racing_pagers_agree_on_one_frame_per_page() {
        const PAGES: usize = 512;
        const PAGERS: usize = 4;
        let master = zeros(PAGES * words(1));
        let group = AtomicU64::new(0);
        let locals: Vec<_> = (0..PAGERS).map(|_| zeros(PAGES)).collect();
        let page = |pager: usize, i: usize| Page {
            local: &locals[pager][i],
            group: &group,
            master: &master[2 * i..2 * i + 2],
        };
        // Two threads per pager: they share a local table.
        let taken: Vec<_> = thread::scope(|scope| {
            let run = |pager: usize, down: bool| {
                let page = &page;
                move || {
                    let me = Me { node: pager as u16, incarnation: 1 };
                    let mut frames = 0;
                    for i in 0..PAGES {
                        let i = if down { PAGES - 1 - i } else { i };
                        let frame = fault(me, page(pager, i), &mut frames);
                        assert_eq!(frame, Entry(page(pager, i).master[0].load(Ordering::SeqCst)).frame());
                    }
                    frames
                }
            };
            let threads: Vec<_> =
                (0..PAGERS).flat_map(|p| [scope.spawn(run(p, false)), scope.spawn(run(p, true))]).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(taken.into_iter().sum::<u64>(), PAGES as u64);
        assert!((0..PAGES).all(|i| page(0, i).master[1].load(Ordering::SeqCst) == 0xf));
    }

    #[test]
    fn a_leader_that_is_the_only_sharer_needs_nobody() {
        let (local, master) = (AtomicU64::new(0), zeros(2));
        let page = Page { local: &local, group: &AtomicU64::new(0), master: &master };
        let me = Me { node: 3, incarnation: 1 };
        let frame = fault(me, page, &mut 0);
        assert!(Local(local.load(Ordering::SeqCst)).is_present());
        let mut machine = Lead::<1, 1>::new(me, Goal::Unmap, 1);
        let (mut answer, mut said) = (0, Vec::new());
        loop {
            let effect = machine.step(answer);
            answer = match effect {
                lead::Effect::Access(_, word, access) => page.access(word, access),
                lead::Effect::Unmap { frame: unmapped, .. } => u64::from(unmapped == frame) * 3,
                lead::Effect::Done => break,
                other => {
                    said.push(other);
                    0
                }
            };
        }
        assert_eq!(machine.outcome(0), Outcome::Done);
        assert_eq!((machine.used().accessed, machine.used().dirty), (1, 1));
        let expected = [
            lead::Effect::Await,
            lead::Effect::Maintain(0, frame),
            lead::Effect::Claim(0, frame),
            lead::Effect::Free(0, frame),
        ];
        assert_eq!(said, expected);
        assert!(local.into_inner() == 0 && master.iter().all(|word| word.load(Ordering::SeqCst) == 0));
    }
}
