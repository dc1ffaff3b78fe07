//! What a pager keeps for one space of a task: its local tables and its counts, in a few frames of the space's node.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::PAGE_SIZE;
use skerry_ipc::pager::Stats;

use crate::board::MAX_REGIONS;

const LINK_WORDS: usize = 8;
const COUNTS: usize = MAX_REGIONS + LINK_WORDS;
const COUNT_WORDS: usize = 8;

/// Words of a book on a machine with so many nodes.
pub const fn words(nodes: usize) -> usize {
    COUNTS + nodes * COUNT_WORDS
}

/// Bytes of a book, in whole pages: mostly one.
pub const fn bytes(nodes: usize) -> u64 {
    (words(nodes) as u64 * 8).next_multiple_of(PAGE_SIZE)
}

const _: () = assert!(bytes(16) == PAGE_SIZE);

/// A view of a space's book.
#[derive(Clone, Copy)]
pub struct Book<'a>(&'a [AtomicU64]);

impl<'a> Book<'a> {
    /// The book in these [`words`]; `None` if there are fewer than for one node.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= self::words(1)).then_some(Self(words))
    }
    /// Physical address of the local table of a region, if there is one.
    pub fn table(&self, region: usize) -> Option<u64> {
        let table = self.0[..MAX_REGIONS].get(region)?.load(Ordering::Acquire);
        (table != 0).then_some(table)
    }
    /// Sets the table of a region that has none.
    ///
    /// # Errors
    /// The table that another thread has set meanwhile.
    pub fn set_table(&self, region: usize, table: u64) -> Result<(), u64> {
        let slot = self.0[..MAX_REGIONS].get(region).ok_or(0u64)?;
        slot.compare_exchange(0, table, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
    /// Words for whoever gives the book back when its space is no more.
    pub fn links(&self) -> &'a [AtomicU64] {
        &self.0[MAX_REGIONS..COUNTS]
    }
    fn counts(&self, node: u16) -> &[AtomicU64] {
        let at = COUNTS + usize::from(node) * COUNT_WORDS;
        self.0.get(at..at + COUNT_WORDS).unwrap_or(&[])
    }
    /// Counts what a thread on `node` needed.
    pub fn count(&self, node: u16, stats: Stats) {
        for (count, value) in self.counts(node).iter().zip(stats.to_array()) {
            if value != 0 {
                count.fetch_add(value, Ordering::Relaxed);
            }
        }
    }
    /// Takes the counts of `node` out: what is counted later is new.
    pub fn take_stats(&self, node: u16) -> Stats {
        let counts = self.counts(node);
        let take = |i: usize| counts.get(i).map_or(0, |count: &AtomicU64| count.swap(0, Ordering::Relaxed));
        Stats::from_array(core::array::from_fn(take))
    }
    /// The counts of `node`.
    pub fn stats(&self, node: u16) -> Stats {
        let counts = self.counts(node);
        let count = |i: usize| counts.get(i).map_or(0, |count| count.load(Ordering::Relaxed));
        Stats::from_array(core::array::from_fn(count))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_table_is_set_once_and_counts_are_by_node() {
        let words: Vec<_> = (0..words(2)).map(|_| AtomicU64::new(0)).collect();
        let book = Book::new(&words).unwrap();
        assert_eq!(book.set_table(3, 0x1000), Ok(()));
        assert_eq!(
            (book.set_table(3, 0x2000), book.table(3), book.table(4)),
            (Err(0x1000), Some(0x1000), None)
        );
        let one = Stats { faults: 1, lookups: 1, takeovers: 1, ..Stats::default() };
        book.count(1, one);
        book.count(1, Stats { spurious: 1, ..Stats::default() });
        assert_eq!(book.stats(0), Stats::default());
        let all = Stats { faults: 1, spurious: 1, lookups: 1, takeovers: 1, allocations: 0 };
        assert_eq!((book.stats(1), book.take_stats(1), book.take_stats(1)), (all, all, Stats::default()));
    }
}
