//! Which frames a task has, found step by step so that nobody has to wait for long.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::board::{Board, Region};
use crate::page;
use crate::protocols::entry::Entry;
use crate::protocols::local::Local;

/// The master table of a region, and how many words a page has there (with `w` words of sharers).
pub fn master(region: &Region, w: usize) -> Option<(u64, usize)> {
    (region.table != 0).then_some((region.table, page::words(w)))
}

/// The frame that a word of a local table names and that ends with its space: not one that the master table knows.
pub fn own_frame(region: &Region, word: u64) -> u64 {
    let local = Local(word);
    if region.table == 0 || local.is_copy() { local.frame() } else { 0 }
}

/// The frame that an entry of a master table names.
pub fn entry_frame(_: &Region, word: u64) -> u64 {
    Entry(word).frame()
}

/// Words that are looked at in one step.
pub const STEP: u64 = 2048;

/// Where a walk over the tables of all regions goes on: region in the upper bits, page in the lower ones. 0 is the beginning.
const PAGE_BITS: u32 = 32;

/// Walks over the tables that `table` gives for the regions, from `cursor` on, with the words per page; `visit` gets every page whose first
/// word, by `frame`, names a frame: the region, the page's number, and the frame.
///
/// Returns where to go on, or 0 at the end.
pub fn walk<'m>(
    board: &Board<'_>,
    cursor: u64,
    table: impl Fn(usize, &Region) -> Option<(u64, usize)>,
    words: impl Fn(u64, usize) -> &'m [AtomicU64],
    frame: impl Fn(&Region, u64) -> u64,
    mut visit: impl FnMut(&Region, u64, u64),
) -> u64 {
    let (mut index, mut page) = ((cursor >> PAGE_BITS) as usize, cursor & ((1 << PAGE_BITS) - 1));
    let mut left = STEP;
    while let Some(region) = board.region(index) {
        if let Some((table, stride)) = table(index, &region) {
            let count = (region.pages() - page.min(region.pages())).min(left);
            let first =
                words(table + page * 8 * stride as u64, count as usize * stride).iter().step_by(stride);
            for (number, word) in (page..).zip(first) {
                match frame(&region, word.load(Ordering::SeqCst)) {
                    0 => {}
                    frame => visit(&region, number, frame),
                }
            }
            (page, left) = (page + count, left - count);
            if page < region.pages() {
                return (index as u64) << PAGE_BITS | page;
            }
        }
        (index, page) = (index + 1, 0);
        if left == 0 {
            return (index as u64) << PAGE_BITS;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::board;
    use skerry_abi::Rights;
    use skerry_abi::fpage::PAGE_SIZE;
    use skerry_ipc::pager::RegionKind;
    use std::vec::Vec;

    #[test]
    fn every_frame_is_visited_once_in_short_steps() {
        let words: Vec<_> = (0..board::WORDS).map(|_| AtomicU64::new(0)).collect();
        let board = Board::new(&words).unwrap();
        // Two tables of two words per page, one behind the other, and a region without one between them.
        let pages = [5000, 7, 3 * STEP];
        let tables = [Some((0, 2)), None, Some((16 * 5000, 2))];
        for (i, &pages) in (0u64..).zip(&pages) {
            let (base, size) = ((i + 1) << 30, pages * PAGE_SIZE);
            let (kind, rights) = (RegionKind::Global, Rights::RW);
            let none = Region { base, size, kind, rights, ..Region::NONE };
            board.add(none).unwrap();
        }
        let memory: Vec<_> = (0..5000 + 3 * STEP)
            .flat_map(|i| {
                let entry = Entry::present((i + 1) << 12, Rights::RW, 0, 1);
                [AtomicU64::new(if i % 3 == 0 { 0 } else { entry.0 }), AtomicU64::new(u64::MAX)]
            })
            .collect();
        let (mut cursor, mut seen, mut steps) = (0, Vec::new(), 0);
        loop {
            let before = seen.len();
            cursor = walk(
                &board,
                cursor,
                |index, _| tables[index],
                |address, count| &memory[(address / 8) as usize..][..count],
                entry_frame,
                |_, _, frame| seen.push(frame),
            );
            steps += 1;
            assert!(seen.len() - before <= STEP as usize);
            if cursor == 0 {
                break;
            }
        }
        let expected: Vec<_> = (0..5000 + 3 * STEP).filter(|i| i % 3 != 0).map(|i| (i + 1) << 12).collect();
        assert_eq!(seen, expected);
        assert!((6..=8).contains(&steps));
    }
}
