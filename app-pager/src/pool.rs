//! The frames of a cluster, by node.
//!
//! The bookkeeping of a range lies in its own first frames, on the node it is about: a word with the frames that came back, a bitmap,
//! and a record per frame ([`skerry_protocols::record`]). Bits change atomically, so a pager thread takes frames through a
//! [`Cursor`] of its own, and any thread gives them back, without any lock. Cursors begin at different words.
//!
//! Pagers know the ranges of other clusters, too. They take nothing there; a frame that belongs to another pager is put onto the list of
//! what came back to its range, which goes through the frames themselves and so is never full. The owner looks there
//! when it searches. (The list is pushed by anybody and only ever taken as a whole, so no frame can come back to its head unnoticed.)

mod cursor;
mod owner;
mod several;

pub use cursor::Cursor;
use owner::CLOSED;
pub use owner::Owner;
pub use several::Handful;

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use skerry_abi::boot::Range;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_protocols::record::Record;

use crate::Memory;

/// Ranges at most, those of other clusters included.
pub const MAX_RANGES: usize = 512;
/// Words of a cursor at most: 256 MiB of frames.
const AT_ONCE: usize = 1024;
/// [`Pool::serves`] of a range of another cluster.
const FOREIGN: u16 = u16::MAX;

/// One range.
#[derive(Debug)]
struct Pool {
    range: Range,
    /// The node whose threads get these frames: its own, or for a node without CPUs the nearest.
    serves: u16,
    /// Whether the frames lie on that node: those are handed out first.
    near: bool,
    /// Where the next search begins (a word of the bitmap).
    next: AtomicUsize,
}

impl Pool {
    const fn none() -> Self {
        let range = Range { base: 0, size: 0 };
        Self { range, serves: FOREIGN, near: false, next: AtomicUsize::new(0) }
    }
    fn frames(&self) -> u64 {
        self.range.size >> PAGE_BITS
    }
    fn words(&self) -> usize {
        self.frames().div_ceil(64) as usize
    }
    /// Bytes of the bookkeeping, in whole pages.
    fn header(&self) -> u64 {
        ((1 + self.words() as u64 + self.frames()) * 8).next_multiple_of(PAGE_SIZE)
    }
    fn returned<'m>(&self, memory: &'m impl Memory) -> &'m AtomicU64 {
        &memory.words(self.range.base, 1)[0]
    }
    fn bits<'m>(&self, memory: &'m impl Memory) -> &'m [AtomicU64] {
        memory.words(self.range.base + 8, self.words())
    }
    fn records(&self) -> u64 {
        self.range.base + (1 + self.words() as u64) * 8
    }
    fn frame(&self, number: u64) -> u64 {
        self.range.base + (number << PAGE_BITS)
    }
    fn free(&self, memory: &impl Memory) -> u64 {
        self.bits(memory).iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_zeros())).sum()
    }
    fn owner(&self) -> Owner {
        let (Range { base, size }, header) = (self.range, self.header());
        Owner {
            base,
            first: base + header,
            bytes: size - header,
            records: self.records(),
            foreign: self.serves == FOREIGN,
        }
    }
    /// Puts back what others gave back.
    fn collect(&self, memory: &impl Memory) {
        let owner = self.owner();
        let mut address = self.returned(memory).swap(0, Ordering::SeqCst);
        while address != 0 {
            let next = memory.words(address, 1)[0].load(Ordering::Relaxed);
            if owner.has(address) {
                owner.free(memory, address);
            }
            address = next;
        }
    }
    /// Some words, from the last search on, of which the first has a frame.
    fn search(&self, memory: &impl Memory) -> Option<Cursor> {
        let (bits, next) = (self.bits(memory), self.next.load(Ordering::Relaxed));
        let all = (next..bits.len()).chain(0..next);
        let found = all.into_iter().find(|&word| bits[word].load(Ordering::Relaxed) != u64::MAX)?;
        let words = AT_ONCE.min(bits.len() - found);
        let next = if found + words == bits.len() { 0 } else { found + words };
        self.next.store(next, Ordering::Relaxed);
        Some(Cursor {
            bits: self.range.base + 8 + found as u64 * 8,
            frame: self.frame(found as u64 * 64),
            records: self.records() + found as u64 * 64 * 8,
            left: words as u64 - 1,
        })
    }
    /// Takes `count` consecutive frames.
    fn run(&self, memory: &impl Memory, count: u64) -> Option<u64> {
        let bits = self.bits(memory);
        let taken = |frame: u64| bits[(frame / 64) as usize].load(Ordering::Relaxed) >> (frame % 64) & 1 != 0;
        let mut start = 0;
        for frame in 0..self.frames() {
            if taken(frame) {
                start = frame + 1;
            } else if frame + 1 - start == count {
                if self.claim(memory, start, count) {
                    return Some(start);
                }
                start = frame + 1;
            }
        }
        None
    }
    /// Takes these frames if nobody takes one of them meanwhile.
    fn claim(&self, memory: &impl Memory, first: u64, count: u64) -> bool {
        let bits = self.bits(memory);
        let bit = |frame: u64| (&bits[(frame / 64) as usize], 1 << (frame % 64));
        for frame in first..first + count {
            let (word, mask) = bit(frame);
            if word.fetch_or(mask, Ordering::SeqCst) & mask != 0 {
                for undo in first..frame {
                    let (word, mask) = bit(undo);
                    word.fetch_and(!mask, Ordering::SeqCst);
                }
                return false;
            }
        }
        true
    }
}

/// All ranges of a cluster, and those of others.
#[derive(Debug)]
pub struct Pools {
    pools: [Pool; MAX_RANGES],
    count: usize,
}

impl Pools {
    /// No memory.
    pub const fn new() -> Self {
        Self { pools: [const { Pool::none() }; MAX_RANGES], count: 0 }
    }

    /// Adds a range whose frames go to threads of node `serves`. Its first frames become the bookkeeping. Returns whether there was
    /// room for it; a range too small to hold more than that is left alone.
    pub fn add(&mut self, memory: &impl Memory, range: Range, serves: u16, near: bool) -> bool {
        let pool = Pool { range, serves, near, ..Pool::none() };
        if range.size <= pool.header() {
            return true;
        }
        if self.count == MAX_RANGES {
            return false;
        }
        memory.clear(range.base, pool.header());
        let (frames, bits) = (pool.frames(), pool.bits(memory));
        // Bits behind the end of the range, and those of the bookkeeping itself, stay set for ever.
        if !frames.is_multiple_of(64) {
            bits[pool.words() - 1].store(u64::MAX << (frames % 64), Ordering::Relaxed);
        }
        pool.claim(memory, 0, pool.header() >> PAGE_BITS) && self.know(pool)
    }
    /// Adds a range of another cluster, whose pager has [`Pools::add`]ed it. Returns whether there was room.
    pub fn add_foreign(&mut self, range: Range) -> bool {
        let pool = Pool { range, ..Pool::none() };
        range.size <= pool.header() || self.know(pool)
    }
    fn know(&mut self, pool: Pool) -> bool {
        if self.count == MAX_RANGES {
            return false;
        }
        // Large ones first: who takes frames one by one seldom has to look for another range.
        let at = self.pools[..self.count].partition_point(|known| known.range.size >= pool.range.size);
        self.pools[self.count] = pool;
        self.pools[at..=self.count].rotate_right(1);
        self.count += 1;
        true
    }

    fn of(&self, address: u64) -> Option<&Pool> {
        self.pools[..self.count].iter().find(|pool| pool.range.contains(address))
    }
    /// Whether threads of `node` have frames of their own here.
    pub fn serves(&self, node: u16) -> bool {
        self.pools[..self.count].iter().any(|pool| pool.serves == node && node != FOREIGN)
    }
    /// Free frames for `node`, those that others gave back included.
    pub fn free_frames(&self, memory: &impl Memory, node: u16) -> u64 {
        let pools = self.pools[..self.count].iter().filter(|pool| pool.serves == node && node != FOREIGN);
        pools.inspect(|pool| pool.collect(memory)).map(|pool| pool.free(memory)).sum()
    }
    /// The pager of the ranges of other clusters in `range` is dead: what is given back there is nobody's, until its next life
    /// has [`Pools::add`]ed them anew.
    pub fn close(&self, memory: &impl Memory, range: Range) {
        let pools = self.pools[..self.count].iter().filter(|pool| pool.serves == FOREIGN);
        let lost = pools.filter(|pool| range.contains(pool.range.base));
        lost.for_each(|pool| pool.returned(memory).store(CLOSED, Ordering::SeqCst));
    }
    /// Whether a frame of any cluster is taken.
    pub fn is_taken(&self, memory: &impl Memory, address: u64) -> bool {
        self.of(address).is_some_and(|pool| {
            let number = (address - pool.range.base) >> PAGE_BITS;
            pool.bits(memory)[(number / 64) as usize].load(Ordering::SeqCst) >> (number % 64) & 1 != 0
        })
    }
    /// Puts back what others gave back so far.
    pub fn take_back(&self, memory: &impl Memory) {
        self.pools[..self.count]
            .iter()
            .filter(|pool| pool.serves != FOREIGN)
            .for_each(|pool| pool.collect(memory));
    }
    /// Calls `f` with every frame of the own ranges that is taken, and its record.
    pub fn each_taken(&self, memory: &impl Memory, mut f: impl FnMut(u64, &AtomicU64)) {
        for pool in self.pools[..self.count].iter().filter(|pool| pool.serves != FOREIGN) {
            for number in pool.header() >> PAGE_BITS..pool.frames() {
                let word = pool.bits(memory)[(number / 64) as usize].load(Ordering::Relaxed);
                if word >> (number % 64) & 1 != 0 {
                    f(pool.frame(number), &memory.words(pool.records() + number * 8, 1)[0]);
                }
            }
        }
    }
    /// Calls `f` with every frame of the own ranges that is free and has not come back from others.
    pub fn each_free(&self, memory: &impl Memory, mut f: impl FnMut(u64)) {
        for pool in self.pools[..self.count].iter().filter(|pool| pool.serves != FOREIGN) {
            for (number, word) in (0u64..).zip(pool.bits(memory)) {
                let word = word.load(Ordering::Relaxed);
                (0..64).filter(|bit| word >> bit & 1 == 0).for_each(|bit| f(pool.frame(number * 64 + bit)));
            }
        }
    }
    /// The record of a frame of any cluster; `None` for what is no frame of a pool.
    pub fn record<'m>(&self, memory: &'m impl Memory, address: u64) -> Option<&'m AtomicU64> {
        let pool = self.of(address)?;
        Some(&memory.words(pool.records() + ((address - pool.range.base) >> PAGE_BITS) * 8, 1)[0])
    }

    /// Words with frames for `node`: near ones if there are any.
    pub fn cursor(&self, memory: &impl Memory, node: u16) -> Option<Cursor> {
        self.search(node, |pool| {
            pool.search(memory).or_else(|| {
                pool.collect(memory);
                pool.search(memory)
            })
        })
    }
    /// Takes `frames` consecutive frames for `node`: near ones if there are any. Nobody needs their records.
    pub fn allocate(&self, memory: &impl Memory, node: u16, frames: u64) -> Option<u64> {
        if frames == 1 {
            return self.cursor(memory, node)?.take(memory, Record::FREE);
        }
        self.search(node, |pool| {
            let run = |pool: &Pool| pool.run(memory, frames);
            let first = run(pool).or_else(|| {
                pool.collect(memory);
                run(pool)
            })?;
            Some(pool.frame(first))
        })
    }
    fn search<R>(&self, node: u16, mut look: impl FnMut(&Pool) -> Option<R>) -> Option<R> {
        let own = |pool: &&Pool, near| pool.serves == node && node != FOREIGN && pool.near == near;
        let of = |near| self.pools[..self.count].iter().filter(move |pool| own(pool, near));
        of(true).chain(of(false)).find_map(&mut look)
    }

    /// The bookkeeping of a frame; `None` for what is no frame that could be taken.
    pub fn owner(&self, address: u64) -> Option<Owner> {
        self.of(address).map(Pool::owner).filter(|owner| owner.has(address))
    }
    /// Gives a frame back to the pool that it is from. Whether that can be: what is free, or no frame of a pool, is left alone.
    pub fn free(&self, memory: &impl Memory, address: u64) -> bool {
        self.owner(address).is_some_and(|owner| owner.free(memory, address))
    }
}

impl Default for Pools {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    /// Memory from address 0x1000 on.
    struct Fake(Vec<AtomicU64>);
    impl Memory for Fake {
        fn words(&self, address: u64, count: usize) -> &[AtomicU64] {
            let first = ((address - 0x1000) / 8) as usize;
            &self.0[first..first + count]
        }
        fn clear(&self, address: u64, bytes: u64) {
            self.words(address, bytes as usize / 8).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        fn copy(&self, _: u64, _: u64, _: u64) {}
    }
    fn fake(frames: usize) -> Fake {
        Fake((0..frames * 512).map(|_| AtomicU64::new(u64::MAX)).collect())
    }

    #[test]
    fn near_frames_first_and_never_another_nodes() {
        let memory = fake(300);
        let mut pools = Pools::new();
        assert!(pools.add(&memory, Range { base: 0x1000, size: 0x3000 }, 0, false));
        assert!(pools.add(&memory, Range { base: 0x4000, size: 0x3000 }, 0, true));
        assert!(pools.add(&memory, Range { base: 0x7000, size: 100 << 12 }, 1, true));
        assert!(pools.add(&memory, Range { base: 0x10_0000, size: 0x1000 }, 1, true));
        let taken: Vec<_> = core::iter::from_fn(|| pools.allocate(&memory, 0, 1)).collect();
        assert_eq!(taken, [0x5000, 0x6000, 0x2000, 0x3000]);
        let free = |pools: &Pools| [0, 1].map(|node| pools.free_frames(&memory, node));
        assert_eq!(free(&pools), [0, 99]);
        assert!(!pools.serves(2) && pools.allocate(&memory, 2, 1).is_none());
        assert_eq!(pools.allocate(&memory, 1, 50), Some(0x8000));
        assert_eq!(pools.allocate(&memory, 1, 50), None);
        pools.free(&memory, 0x6000);
        pools.free(&memory, 0x6000);
        assert_eq!(pools.allocate(&memory, 0, 1), Some(0x6000));
    }

    #[test]
    fn blocks_are_aligned_and_whole() {
        let memory = fake(200);
        let mut pools = Pools::new();
        // 0x1_0000 is the first multiple of 64 KiB, so words of the bitmap begin there.
        assert!(pools.add(&memory, Range { base: 0x1_0000, size: 150 << 12 }, 0, true));
        let mut cursor = pools.cursor(&memory, 0).unwrap();
        let blocks: Vec<_> = core::iter::from_fn(|| cursor.take_block(&memory, Record(1))).collect();
        // The first one has the bookkeeping in it, behind the last one the range ends.
        assert_eq!(blocks, (2..=9).map(|block| block << 16).collect::<Vec<_>>());
        assert_eq!(pools.record(&memory, 0x2_3000).unwrap().load(Ordering::Relaxed) >> 28, 3);
        // What is left are single frames.
        let mut cursor = pools.cursor(&memory, 0).unwrap();
        let singles = core::iter::from_fn(|| cursor.take(&memory, Record::FREE)).count();
        assert_eq!(singles, 150 - 8 * 16 - 1);
        assert_eq!(cursor.take_some(&memory, 16).take(&memory, Record::FREE), None);
        for frame in [0x5_0000, 0x5_3000, 0x5_4000, 0x6_0000] {
            assert!(pools.free(&memory, frame));
        }
        let mut cursor = pools.cursor(&memory, 0).unwrap();
        for expected in [&[0x5_0000, 0x5_3000][..], &[0x5_4000], &[0x6_0000]] {
            let mut some = cursor.take_some(&memory, 2);
            let taken: Vec<_> = core::iter::from_fn(|| some.take(&memory, Record::FREE)).collect();
            assert_eq!(taken, expected);
        }
        // One that comes back does not make a block, sixteen do.
        for frame in 0..16 {
            let mut cursor = pools.cursor(&memory, 0).unwrap_or(Cursor::NONE);
            assert_eq!(cursor.take_block(&memory, Record(1)), None);
            assert!(pools.free(&memory, 0x4_0000 + (frame << 12)));
        }
        assert_eq!(pools.cursor(&memory, 0).unwrap().take_block(&memory, Record(1)), Some(0x4_0000));
    }

    #[test]
    fn frames_of_others_go_back_to_their_owner() {
        let memory = fake(100);
        let range = Range { base: 0x1000, size: 99 << 12 };
        let (mut own, mut other) = (Pools::new(), Pools::new());
        assert!(own.add(&memory, range, 0, true) && other.add_foreign(range));
        assert!(other.cursor(&memory, 0).is_none() && !other.serves(u16::MAX));
        let all: Vec<_> = core::iter::from_fn(|| own.allocate(&memory, 0, 1)).collect();
        assert_eq!((all.len(), own.free_frames(&memory, 0)), (98, 0));
        assert!(other.free(&memory, all[7]) && other.free(&memory, all[70]));
        assert_eq!(own.allocate(&memory, 0, 1), Some(all[7]));
        assert_eq!(own.free_frames(&memory, 0), 1);
        assert!(!own.free(&memory, 0x1000) && !own.free(&memory, all[70]) && !own.free(&memory, 0));
    }

    #[test]
    fn cursors_of_two_threads_begin_apart_and_write_records() {
        let memory = fake(80_000);
        let mut pools = Pools::new();
        pools.add(&memory, Range { base: 0x1000, size: 79_999 << 12 }, 3, true);
        let (mut a, mut b) = (pools.cursor(&memory, 3).unwrap(), pools.cursor(&memory, 3).unwrap());
        let record = Record::taken(5, skerry_protocols::effect::Me { node: 3, incarnation: 1 });
        let (x, y) = (a.take(&memory, record).unwrap(), b.take(&memory, record).unwrap());
        assert!(y - x > 60_000 << 12);
        assert_eq!(pools.record(&memory, x).unwrap().load(Ordering::Relaxed), record.0);
        assert!(pools.free(&memory, x));
        assert_eq!(pools.record(&memory, x).unwrap().load(Ordering::Relaxed), 0);
        let all = core::iter::from_fn(|| a.take(&memory, record)).count()
            + core::iter::from_fn(|| b.take(&memory, record)).count();
        assert_eq!((all + 1, pools.free_frames(&memory, 3)), (79_999 - 159, 0));
    }

    proptest! {
        #[test]
        fn no_frame_is_handed_out_twice(steps in prop::collection::vec((0u64..6, any::<prop::sample::Index>()), 1..200)) {
            let memory = fake(131);
            let mut pools = Pools::new();
            pools.add(&memory, Range { base: 0x1000, size: 131 << 12 }, 0, true);
            let mut used = BTreeSet::new();
            for (count, index) in steps {
                if count == 0 && !used.is_empty() {
                    let frame = *index.get(&used.iter().copied().collect::<Vec<u64>>());
                    used.remove(&frame);
                    pools.free(&memory, frame);
                } else if let Some(base) = pools.allocate(&memory, 0, count) {
                    for frame in (0..count).map(|i| base + (i << 12)) {
                        prop_assert!(frame > 0x1000 && frame < 0x1000 + (131 << 12));
                        prop_assert!(used.insert(frame));
                    }
                }
                prop_assert_eq!(pools.free_frames(&memory, 0), 130 - used.len() as u64);
            }
        }
    }
}
