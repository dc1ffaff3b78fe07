//! The TLB of a CPU: one level, all page sizes, FIFO. It holds real translations, so it also answers what the physical address is.
//!
//! It keeps exactly what the architecture allows a TLB to keep: an entry stays until it is replaced or invalidated, whatever the tables
//! say meanwhile. Entries of the kernel's half are global.

use crate::params::{self, sets};

/// log2 of the sizes that a translation can have: 4 KiB, 64 KiB (contiguous hint), 2 MiB, 1 GiB.
pub const SIZES: [u32; 4] = [12, 16, 21, 30];

/// What to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Everything.
    All,
    /// Everything of an address space.
    Asid(u16),
    /// What translates this address: in one space, or in all.
    Page {
        /// The space.
        asid: Option<u16>,
        /// The address.
        address: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: u64,
    physical: u64,
}

/// Offset in a page of the smallest size.
const PAGE: u64 = (1 << SIZES[0]) - 1;
const EMPTY: Entry = Entry { key: !0, physical: 0 };

/// The array.
#[derive(Clone, Debug)]
pub struct Tlb {
    entries: Vec<Entry>,
    oldest: Vec<u16>,
    ways: usize,
    mask: u64,
    /// Entries of each size: sizes that are not there need not be searched.
    used: [u32; SIZES.len()],
    /// Pages of 4 KiB that were found lately, by the key that they would have here; empty again whenever an entry comes or goes.
    recent: [Entry; RECENT],
}

/// Pages that are found at once.
const RECENT: usize = 64;

const fn is_global(address: u64) -> bool {
    address >> 55 & 1 != 0
}

/// Page number (bits 0 to 42, the kernel's half in bit 43), address space, index of the size.
fn key(size: usize, asid: u16, address: u64) -> u64 {
    let asid = if is_global(address) { 0 } else { asid };
    let number = (address & ((1 << 55) - 1)) >> SIZES[size] | u64::from(is_global(address)) << 43;
    number | u64::from(asid) << 44 | (size as u64) << 60
}

impl Tlb {
    /// An empty one.
    pub fn new(shape: params::Tlb) -> Self {
        let sets = sets(shape.entries.into(), shape.ways).unwrap_or(1);
        let ways = shape.ways.max(1) as usize;
        Self {
            entries: vec![EMPTY; sets as usize * ways],
            oldest: vec![0; sets as usize],
            ways,
            mask: sets - 1,
            used: [0; SIZES.len()],
            recent: [EMPTY; RECENT],
        }
    }

    fn set(&self, key: u64) -> usize {
        // The upper bits of the page number count, too: stacks and arrays lie at round addresses.
        ((key ^ key >> 16) & self.mask) as usize
    }

    fn find(&self, key: u64) -> Option<usize> {
        let first = self.set(key) * self.ways;
        self.entries[first..first + self.ways].iter().position(|e| e.key == key).map(|way| first + way)
    }

    /// The physical address, if the translation is there.
    #[inline]
    pub fn translate(&mut self, asid: u16, address: u64) -> Option<u64> {
        let page = key(0, asid, address);
        let recent = self.recent[page as usize % RECENT];
        if recent.key == page {
            return Some(recent.physical | address & PAGE);
        }
        let physical = (0..SIZES.len()).filter(|&size| self.used[size] > 0).find_map(|size| {
            let slot = self.find(key(size, asid, address))?;
            Some(self.entries[slot].physical | address & ((1 << SIZES[size]) - 1))
        })?;
        self.recent[page as usize % RECENT] = Entry { key: page, physical: physical & !PAGE };
        Some(physical)
    }

    /// Puts in a translation; whether another one had to leave.
    pub fn insert(&mut self, asid: u16, address: u64, physical: u64, bits: u32) -> bool {
        let size = SIZES.iter().rposition(|&size| size <= bits).unwrap_or(0);
        let key = key(size, asid, address);
        self.recent = [EMPTY; RECENT];
        let new = Entry { key, physical: physical & !((1 << SIZES[size]) - 1) };
        if let Some(slot) = self.find(key) {
            self.entries[slot] = new;
            return true;
        }
        self.used[size] += 1;
        let set = self.set(key);
        let first = set * self.ways;
        let ways = &mut self.entries[first..first + self.ways];
        if let Some(empty) = ways.iter_mut().find(|entry| **entry == EMPTY) {
            *empty = new;
            return false;
        }
        let oldest = &mut self.oldest[set];
        let old = std::mem::replace(&mut ways[usize::from(*oldest)], new);
        *oldest = if usize::from(*oldest) + 1 == self.ways { 0 } else { *oldest + 1 };
        self.used[(old.key >> 60) as usize] -= 1;
        true
    }

    /// Drops translations.
    pub fn invalidate(&mut self, what: Invalidation) {
        self.recent = [EMPTY; RECENT];
        match what {
            Invalidation::Page { asid: Some(asid), address } => {
                for size in 0..SIZES.len() {
                    if let Some(slot) = self.find(key(size, asid, address)) {
                        self.entries[slot] = EMPTY;
                        self.used[size] -= 1;
                    }
                }
            }
            Invalidation::All => self.retain(|_| false),
            Invalidation::Asid(asid) => {
                self.retain(|key| key >> 43 & 1 != 0 || (key >> 44) as u16 != asid);
            }
            Invalidation::Page { asid: None, address } => self.retain(|old| {
                let size = (old >> 60) as usize;
                (old ^ key(size, 0, address)) & ((1 << 44) - 1) != 0
            }),
        }
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        for entry in &mut self.entries {
            if *entry != EMPTY && !keep(entry.key) {
                self.used[(entry.key >> 60) as usize] -= 1;
                *entry = EMPTY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 0xffff_ff80_4000_1000;

    fn tlb(entries: u32, ways: u32) -> Tlb {
        Tlb::new(params::Tlb { entries, ways })
    }

    #[test]
    fn spaces_are_apart_and_the_kernel_is_everywhere() {
        let mut tlb = tlb(16, 4);
        tlb.insert(1, 0x1234, 0x9000, 12);
        tlb.insert(1, KERNEL, 0x4000_1000, 12);
        assert_eq!(tlb.translate(1, 0x1fff), Some(0x9fff));
        assert_eq!(tlb.translate(2, 0x1fff), None);
        assert_eq!(tlb.translate(2, KERNEL + 8), Some(0x4000_1008));
        assert_eq!(tlb.translate(1, KERNEL & !(1 << 55)), None, "the other half");
    }

    #[test]
    fn large_pages_take_one_entry() {
        let mut tlb = tlb(4, 1);
        tlb.insert(1, 0x4020_0000, 0x8000_0000, 21);
        assert_eq!(tlb.translate(1, 0x403f_fff8), Some(0x801f_fff8));
        tlb.invalidate(Invalidation::Page { asid: Some(1), address: 0x4030_0000 });
        assert_eq!(tlb.translate(1, 0x4020_0000), None);
    }

    #[test]
    fn first_in_first_out() {
        let mut tlb = tlb(2, 2);
        assert!(!tlb.insert(1, 0x1000, 0x1000, 12) && !tlb.insert(1, 0x2000, 0x2000, 12));
        assert!(tlb.insert(1, 0x3000, 0x3000, 12));
        assert_eq!([0x1000, 0x2000, 0x3000].map(|a| tlb.translate(1, a).is_some()), [false, true, true]);
    }

    #[test]
    fn invalidation_takes_what_it_names() {
        let fill = || {
            let mut tlb = tlb(64, 4);
            for asid in [1, 2] {
                for page in 0..4 {
                    tlb.insert(asid, page << 12, page << 12, 12);
                }
            }
            tlb.insert(1, KERNEL, 0, 12);
            tlb
        };
        let left = |what| {
            let mut tlb = fill();
            tlb.invalidate(what);
            let mut user = |asid| (0..4).filter(|page| tlb.translate(asid, page << 12).is_some()).count();
            (user(1), user(2), tlb.translate(9, KERNEL).is_some())
        };
        assert_eq!(left(Invalidation::Asid(1)), (0, 4, true));
        assert_eq!(left(Invalidation::Page { asid: Some(2), address: 0x3008 }), (4, 3, true));
        assert_eq!(left(Invalidation::Page { asid: None, address: 0x3008 }), (3, 3, true));
        assert_eq!(left(Invalidation::Page { asid: None, address: KERNEL }), (4, 4, false));
        assert_eq!(left(Invalidation::Page { asid: Some(7), address: KERNEL }), (4, 4, false));
        assert_eq!(left(Invalidation::All), (0, 0, false));
    }
}
