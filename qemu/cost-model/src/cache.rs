//! A set-associative array of lines with FIFO replacement.
//!
//! FIFO and not LRU: a hit then changes nothing, so hits that a [`filter`](crate::filter) answers need not be told to the array,
//! and the counts are exact all the same.

use crate::params::{self, sets};
use crate::{LINE, LINE_BITS};

const EMPTY: u32 = !0;
/// Lines have smaller numbers than this: tags are half a word of the host's, so that a set of a large cache is one of its lines.
pub const LINES: u64 = (1 << 31) - 1;

/// What a slot with this line holds, if it is clean.
fn tag(line: u64) -> u32 {
    debug_assert!(line < LINES, "`Machine::new` refuses more memory");
    (line as u32) << 1
}

/// What a line has to leave for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its number (physical address / 64).
    pub line: u64,
    /// Whether it holds data that memory does not have.
    pub dirty: bool,
}

/// What is known of a set besides its lines.
#[derive(Clone, Copy, Debug)]
struct Set {
    /// The way that was filled first.
    oldest: u16,
    /// Ways that are empty.
    empty: u16,
}

/// The array.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Numbers of lines, shifted by one; the lowest bit says dirty.
    slots: Vec<u32>,
    sets: Vec<Set>,
    ways: usize,
    mask: u64,
}

impl Cache {
    /// An empty one. Without size it never holds anything.
    pub fn new(shape: params::Cache) -> Self {
        let sets = sets(shape.kib * 1024 / LINE, shape.ways).unwrap_or(0);
        let ways = if sets == 0 { 0 } else { shape.ways as usize };
        Self {
            slots: vec![EMPTY; sets as usize * ways],
            sets: vec![Set { oldest: 0, empty: ways as u16 }; sets as usize],
            ways,
            mask: sets.wrapping_sub(1),
        }
    }

    /// Whether it can hold anything.
    pub fn exists(&self) -> bool {
        self.ways > 0
    }

    fn set(&self, line: u64) -> usize {
        if self.ways == 0 { 0 } else { (line & self.mask) as usize }
    }

    /// Where a line is.
    #[inline]
    pub fn find(&self, line: u64) -> Option<usize> {
        let first = self.set(line) * self.ways;
        let (ways, tag) = (&self.slots[first..first + self.ways], tag(line));
        let holds = |slot: u32| slot & !1 == tag;
        // Most searches find nothing, so that is what is quick: ways are compared four at a time.
        let (fours, rest) = ways.as_chunks::<4>();
        for (number, four) in fours.iter().enumerate() {
            if four.iter().fold(false, |any, &slot| any | holds(slot)) {
                return four.iter().position(|&slot| holds(slot)).map(|way| first + number * 4 + way);
            }
        }
        let before = first + fours.len() * 4;
        rest.iter().position(|&slot| holds(slot)).map(|way| before + way)
    }

    /// Whether the line there is dirty.
    pub fn is_dirty(&self, slot: usize) -> bool {
        self.slots[slot] & 1 != 0
    }

    /// Makes it dirty or clean.
    pub fn set_dirty(&mut self, slot: usize, dirty: bool) {
        self.slots[slot] = self.slots[slot] & !1 | u32::from(dirty);
    }

    /// Puts in a line that is not there yet: into the first empty way, or else instead of the oldest line.
    pub fn insert(&mut self, line: u64, dirty: bool) -> Option<Victim> {
        if self.ways == 0 {
            return dirty.then_some(Victim { line, dirty });
        }
        let index = self.set(line);
        let first = index * self.ways;
        let ways = &mut self.slots[first..first + self.ways];
        let set = &mut self.sets[index];
        let new = tag(line) | u32::from(dirty);
        if set.empty > 0
            && let Some(empty) = ways.iter_mut().find(|slot| **slot == EMPTY)
        {
            *empty = new;
            set.empty -= 1;
            return None;
        }
        let old = std::mem::replace(&mut ways[usize::from(set.oldest)], new);
        set.oldest = if usize::from(set.oldest) + 1 == self.ways { 0 } else { set.oldest + 1 };
        Some(Victim { line: u64::from(old >> 1), dirty: old & 1 != 0 })
    }

    /// Takes a line out; whether it was dirty, if it was there.
    pub fn remove(&mut self, line: u64) -> Option<bool> {
        let slot = self.find(line)?;
        let dirty = self.is_dirty(slot);
        self.slots[slot] = EMPTY;
        let set = self.set(line);
        self.sets[set].empty += 1;
        Some(dirty)
    }

    /// Makes a line clean; whether it was dirty.
    pub fn clean(&mut self, line: u64) -> bool {
        let Some(slot) = self.find(line) else { return false };
        let dirty = self.is_dirty(slot);
        self.set_dirty(slot, false);
        dirty
    }

    /// All lines, in no order that means anything.
    pub fn lines(&self) -> impl Iterator<Item = Victim> + '_ {
        let full = self.slots.iter().filter(|slot| **slot != EMPTY);
        full.map(|slot| Victim { line: u64::from(slot >> 1), dirty: slot & 1 != 0 })
    }
}

/// The number of the line with this byte.
pub const fn line_of(address: u64) -> u64 {
    address >> LINE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ways, four sets.
    fn small() -> Cache {
        Cache::new(params::Cache { kib: 1, ways: 2, latency: 0 })
    }

    #[test]
    fn first_in_first_out() {
        let mut cache = small();
        assert_eq!((cache.insert(0, false), cache.insert(8, true)), (None, None));
        assert!(cache.find(0).is_some(), "a hit changes nothing");
        assert_eq!(cache.insert(16, false), Some(Victim { line: 0, dirty: false }));
        assert_eq!(cache.insert(24, false), Some(Victim { line: 8, dirty: true }));
        assert_eq!(cache.insert(1, false), None, "another set");
    }

    #[test]
    fn an_empty_way_is_used_first() {
        let mut cache = small();
        cache.insert(0, false);
        cache.insert(8, false);
        assert_eq!(cache.remove(8), Some(false));
        assert_eq!(cache.insert(16, false), None);
        assert_eq!(cache.remove(8), None);
    }

    #[test]
    fn a_missing_level_passes_dirty_lines_on() {
        let mut none = Cache::new(params::Cache { kib: 0, ways: 1, latency: 0 });
        assert_eq!(none.insert(5, true), Some(Victim { line: 5, dirty: true }));
        assert_eq!((none.insert(5, false), none.find(5), none.remove(5)), (None, None, None));
    }
}
