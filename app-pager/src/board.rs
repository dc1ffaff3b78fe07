//! A task's board: what all pagers must know about it, in a few frames of the master's pool.
//!
//! Regions are only ever added, by the master; a reader sees a region when it sees the count that includes it. So other pagers
//! learn of a new region lazily, by looking when a fault meets no region they know, without any message.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::boot::MAX_NODES;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{PINNED_BASE, PINNED_END, PROGRAM_BASE, USER_END};
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::{Ahead, RegionKind, Stats};

use crate::roll::{self, Roll};

/// Bytes of a region at most: its tables are contiguous frames, and work on it is done in one go.
const MAX_REGION: u64 = 1 << 36;
/// Regions of a task at most.
pub const MAX_REGIONS: usize = 256;

const REGIONS: usize = 0;
const REGION_TABLE: usize = 16;
const REGION_WORDS: usize = 8;
const ROLL: usize = REGION_TABLE + MAX_REGIONS * REGION_WORDS;
const COUNTS: usize = ROLL + roll::WORDS;
const COUNT_WORDS: usize = 8;
/// Words of a board.
pub const WORDS: usize = COUNTS + MAX_NODES * COUNT_WORDS;
/// Bytes of a board, in whole pages.
pub const BYTES: u64 = (WORDS as u64 * 8).next_multiple_of(PAGE_SIZE);

/// A range of a task's address space with one meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Bytes; a multiple of the page size.
    pub size: u64,
    /// Who shares the frames.
    pub kind: RegionKind,
    /// Whether its faults are counted.
    pub measured: bool,
    /// What threads may do there, as long as nobody says anything else of a page.
    pub rights: Rights,
    /// The most that may be said.
    pub most: Rights,
    /// Physical address of its first contents; the rest is zero.
    pub source: u64,
    /// How far into the first page the contents begin.
    pub skip: u64,
    /// Bytes of first contents.
    pub bytes: u64,
    /// How many pages a fault may establish.
    pub ahead: Ahead,
    /// Physical address of the master table; 0 for pages that are each space's own business.
    pub table: u64,
}

impl Region {
    /// No addresses.
    pub const NONE: Self = Self {
        base: 0,
        size: 0,
        kind: RegionKind::Local,
        measured: false,
        rights: Rights::NONE,
        most: Rights::NONE,
        source: 0,
        skip: 0,
        bytes: 0,
        ahead: Ahead::One,
        table: 0,
    };

    /// First address behind it.
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }
    /// Its pages.
    pub const fn pages(&self) -> u64 {
        self.size / PAGE_SIZE
    }
    /// Number of the page that `address` is in.
    pub const fn page(&self, address: u64) -> usize {
        ((address - self.base) / PAGE_SIZE) as usize
    }

    fn words(&self) -> [u64; REGION_WORDS] {
        let flags = self.kind as u64 | u64::from(self.measured) << 8 | self.ahead as u64;
        let flags = flags | self.rights.bits() << 16 | self.most.bits() << 24;
        [self.base, self.size, flags, self.source, self.skip, self.bytes, self.table, 0]
    }
    fn from_words([base, size, flags, source, skip, bytes, table, _]: [u64; REGION_WORDS]) -> Option<Self> {
        let (kind, measured) = RegionKind::decode(flags & 0xffff)?;
        Some(Self {
            base,
            size,
            kind,
            measured,
            rights: Rights::from_bits(flags >> 16),
            most: Rights::from_bits(flags >> 24),
            source,
            skip,
            bytes,
            ahead: Ahead::of(flags),
            table,
        })
    }
}

/// A view of a task's board.
#[derive(Clone, Copy)]
pub struct Board<'a>(&'a [AtomicU64]);

impl<'a> Board<'a> {
    /// The board in these [`WORDS`] words; `None` if there are fewer.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= WORDS).then_some(Self(words))
    }
    /// Its threads, and where they are.
    pub fn roll(&self) -> Roll<'a> {
        Roll::of(&self.0[ROLL..COUNTS])
    }
    fn kept(&self, node: u16) -> &[AtomicU64] {
        let at = COUNTS + usize::from(node) % MAX_NODES * COUNT_WORDS;
        &self.0[at..at + COUNT_WORDS]
    }
    /// Keeps the counts of `node` from a space that is no more.
    pub fn keep_stats(&self, node: u16, stats: Stats) {
        for (count, value) in self.kept(node).iter().zip(stats.to_array()) {
            count.fetch_add(value, Ordering::Relaxed);
        }
    }
    /// The counts of `node` from the task's spaces that are no more.
    pub fn kept_stats(&self, node: u16) -> Stats {
        let counts = self.kept(node);
        Stats::from_array(core::array::from_fn(|i| counts[i].load(Ordering::Relaxed)))
    }

    /// The region with this number.
    pub fn region(&self, index: usize) -> Option<Region> {
        if index >= self.regions() {
            return None;
        }
        let at = REGION_TABLE + index * REGION_WORDS;
        Region::from_words(core::array::from_fn(|i| self.0[at + i].load(Ordering::Relaxed)))
    }
    /// How many regions there are.
    pub fn regions(&self) -> usize {
        (self.0[REGIONS].load(Ordering::Acquire) as usize).min(MAX_REGIONS)
    }
    /// The region at `address`, and its number.
    pub fn find(&self, address: u64) -> Option<(usize, Region)> {
        let base = |i: usize| self.0[REGION_TABLE + i * REGION_WORDS].load(Ordering::Relaxed);
        let size = |i: usize| self.0[REGION_TABLE + i * REGION_WORDS + 1].load(Ordering::Relaxed);
        let index = (0..self.regions()).find(|&i| address.wrapping_sub(base(i)) < size(i))?;
        Some((index, self.region(index)?))
    }
    /// Whether a region from `base` on of `size` bytes would be well-formed and free.
    ///
    /// # Errors
    /// [`Error::BadArgument`] or [`Error::AlreadyMapped`].
    pub fn check_new(&self, base: u64, size: u64) -> Result<(), Error> {
        let end = base.checked_add(size).ok_or(Error::BadArgument)?;
        let aligned = base.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE) && size != 0;
        if !aligned
            || size > MAX_REGION
            || base < PROGRAM_BASE
            || end > USER_END
            || (base < PINNED_END && end > PINNED_BASE)
        {
            return Err(Error::BadArgument);
        }
        let overlaps = |region: Region| base < region.end() && region.base < end;
        match (0..self.regions()).filter_map(|i| self.region(i)).any(overlaps) {
            true => Err(Error::AlreadyMapped),
            false => Ok(()),
        }
    }
    /// Adds a region. Only the master does, one thread at a time.
    ///
    /// # Errors
    /// As [`Board::check_new`], or [`Error::TableFull`].
    pub fn add(&self, region: Region) -> Result<(), Error> {
        self.check_new(region.base, region.size)?;
        let index = self.regions();
        if index == MAX_REGIONS {
            return Err(Error::TableFull);
        }
        for (i, word) in region.words().into_iter().enumerate() {
            self.0[REGION_TABLE + index * REGION_WORDS + i].store(word, Ordering::Relaxed);
        }
        self.0[REGIONS].store(index as u64 + 1, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn words() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }
    fn region(base: u64, size: u64) -> Region {
        Region {
            base,
            size,
            kind: RegionKind::Global,
            measured: true,
            rights: Rights::R,
            most: Rights::RW,
            source: 0x1234,
            skip: 5,
            bytes: 6,
            ahead: Ahead::Block,
            table: 0x7000,
        }
    }

    #[test]
    fn regions_are_found_and_do_not_overlap() {
        let words = words();
        let board = Board::new(&words).unwrap();
        let first = region(0x40_0000, 0x2000);
        board.add(first).unwrap();
        assert_eq!(board.find(0x40_1fff), Some((0, first)));
        assert_eq!((board.find(0x40_2000), board.find(0x3f_ffff)), (None, None));
        assert_eq!(board.add(region(0x40_1000, 0x1000)), Err(Error::AlreadyMapped));
        for bad in [
            (0x40_3000, 0),
            (0x40_3010, 0x1000),
            (0x1000, 0x1000),
            (PINNED_BASE - 0x1000, 0x2000),
            (u64::MAX << 12, 0x2000),
        ] {
            assert_eq!(board.add(region(bad.0, bad.1)), Err(Error::BadArgument));
        }
        for i in 1..MAX_REGIONS as u64 {
            board.add(region(0x40_0000 + i * 0x10000, 0x1000)).unwrap();
        }
        assert_eq!(board.add(region(0x8000_0000, 0x1000)), Err(Error::TableFull));
    }
}
