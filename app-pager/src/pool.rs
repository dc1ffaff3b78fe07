//! The frames of a cluster, by node.
//!
//! A bitmap per range, in the range's own first frames: the pager's bookkeeping lies on the node it is about. A search begins
//! where the last one ended, so that handing out frames one by one takes constant time.

use core::sync::atomic::Ordering;

use skerry_abi::boot::{MAX_NODES, Range};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};

use crate::Memory;

/// Ranges per cluster at most.
pub const MAX_RANGES: usize = 256;

/// One range.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    range: Range,
    /// The node whose threads get these frames: its own, or for a node without CPUs the nearest.
    serves: u16,
    /// Whether the frames lie on that node: those are handed out first.
    near: bool,
    /// Where the next search begins (a word of the bitmap).
    next: usize,
    free: u64,
}

impl Pool {
    fn frames(&self) -> u64 {
        self.range.size >> PAGE_BITS
    }
    fn words(&self) -> usize {
        self.frames().div_ceil(64) as usize
    }
    fn bits<'m>(&self, memory: &'m impl Memory) -> &'m [core::sync::atomic::AtomicU64] {
        memory.words(self.range.base, self.words())
    }
    fn set(&mut self, memory: &impl Memory, first: u64, count: u64, used: bool) {
        let bits = self.bits(memory);
        for frame in first..first + count {
            let (word, mask) = (&bits[(frame / 64) as usize], 1 << (frame % 64));
            let old = word.load(Ordering::Relaxed);
            word.store(if used { old | mask } else { old & !mask }, Ordering::Relaxed);
        }
        self.free = if used { self.free - count } else { self.free + count };
    }
    /// Takes a frame.
    fn single(&mut self, memory: &impl Memory) -> Option<u64> {
        let bits = self.bits(memory);
        let mut found = self.next;
        while bits[found].load(Ordering::Relaxed) == u64::MAX {
            found = if found + 1 == bits.len() { 0 } else { found + 1 };
            if found == self.next {
                return None;
            }
        }
        let old = bits[found].load(Ordering::Relaxed);
        bits[found].store(old | (old + 1), Ordering::Relaxed);
        self.next = found;
        self.free -= 1;
        Some(found as u64 * 64 + u64::from(old.trailing_ones()))
    }
    /// Takes `count` consecutive frames.
    fn run(&mut self, memory: &impl Memory, count: u64) -> Option<u64> {
        let bits = self.bits(memory);
        let mut start = 0;
        for frame in 0..self.frames() {
            if bits[(frame / 64) as usize].load(Ordering::Relaxed) >> (frame % 64) & 1 != 0 {
                start = frame + 1;
            } else if frame + 1 - start == count {
                self.set(memory, start, count, true);
                return Some(start);
            }
        }
        None
    }
}

/// All ranges of a cluster.
#[derive(Debug)]
pub struct Pools {
    pools: [Pool; MAX_RANGES],
    count: usize,
    /// For every node the near pool that had a frame for it last: mostly it has another.
    recent: [u16; MAX_NODES],
}

impl Pools {
    /// No memory.
    pub const fn new() -> Self {
        let pool = Pool { range: Range { base: 0, size: 0 }, serves: 0, near: false, next: 0, free: 0 };
        Self { pools: [pool; MAX_RANGES], count: 0, recent: [u16::MAX; MAX_NODES] }
    }

    /// Adds a range whose frames go to threads of node `serves`. Its first frames become the bitmap. Returns whether there was
    /// room for it; a range too small to hold more than its bitmap is left alone.
    pub fn add(&mut self, memory: &impl Memory, range: Range, serves: u16, near: bool) -> bool {
        let mut pool = Pool { range, serves, near, next: 0, free: range.size >> PAGE_BITS };
        let bitmap_bytes = (pool.words() as u64 * 8).next_multiple_of(PAGE_SIZE);
        if range.size <= bitmap_bytes {
            return true;
        }
        if self.count == MAX_RANGES {
            return false;
        }
        for word in pool.bits(memory) {
            word.store(0, Ordering::Relaxed);
        }
        // Bits behind the end of the range stay set for ever.
        let frames = pool.frames();
        if !frames.is_multiple_of(64) {
            pool.bits(memory)[pool.words() - 1].store(u64::MAX << (frames % 64), Ordering::Relaxed);
        }
        pool.set(memory, 0, bitmap_bytes >> PAGE_BITS, true);
        self.pools[self.count] = pool;
        self.count += 1;
        true
    }

    /// Whether threads of `node` have frames of their own here.
    pub fn serves(&self, node: u16) -> bool {
        self.pools[..self.count].iter().any(|pool| pool.serves == node)
    }
    /// Free frames for `node`.
    pub fn free_frames(&self, node: u16) -> u64 {
        self.pools[..self.count].iter().filter(|pool| pool.serves == node).map(|pool| pool.free).sum()
    }

    /// Takes `frames` consecutive frames for `node`: near ones if there are any.
    pub fn allocate(&mut self, memory: &impl Memory, node: u16, frames: u64) -> Option<u64> {
        if frames == 1
            && let Some(pool) =
                self.recent.get(usize::from(node)).and_then(|&i| self.pools.get_mut(usize::from(i)))
            && pool.free != 0
        {
            return pool.single(memory).map(|frame| pool.range.base + (frame << PAGE_BITS));
        }
        self.search(memory, node, frames)
    }
    #[inline(never)]
    fn search(&mut self, memory: &impl Memory, node: u16, frames: u64) -> Option<u64> {
        for near in [true, false] {
            for (index, pool) in self.pools[..self.count].iter_mut().enumerate() {
                if pool.serves != node || pool.near != near || pool.free < frames || frames == 0 {
                    continue;
                }
                let first = if frames == 1 { pool.single(memory) } else { pool.run(memory, frames) };
                if let Some(first) = first {
                    let base = pool.range.base;
                    if near && let Some(recent) = self.recent.get_mut(usize::from(node)) {
                        *recent = index as u16;
                    }
                    return Some(base + (first << PAGE_BITS));
                }
            }
        }
        None
    }

    /// Gives a frame back. Frames of other clusters, and those that are free, are left alone.
    pub fn free(&mut self, memory: &impl Memory, address: u64) {
        let Some(pool) = self.pools[..self.count].iter_mut().find(|pool| pool.range.contains(address)) else {
            return;
        };
        let frame = (address - pool.range.base) >> PAGE_BITS;
        let used = pool.bits(memory)[(frame / 64) as usize].load(Ordering::Relaxed) >> (frame % 64) & 1 != 0;
        if used {
            pool.set(memory, frame, 1, false);
        }
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
        fn clear(&self, _: u64, _: u64) {}
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
        assert_eq!((pools.free_frames(0), pools.free_frames(1)), (0, 99));
        assert!(!pools.serves(2) && pools.allocate(&memory, 2, 1).is_none());
        assert_eq!(pools.allocate(&memory, 1, 50), Some(0x8000));
        assert_eq!(pools.allocate(&memory, 1, 50), None);
        pools.free(&memory, 0x6000);
        pools.free(&memory, 0x6000);
        assert_eq!(pools.allocate(&memory, 0, 1), Some(0x6000));
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
                prop_assert_eq!(pools.free_frames(0), 130 - used.len() as u64);
            }
        }
    }
}
