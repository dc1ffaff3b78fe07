//! A software MMU with TLB and walk cache. It reads the tables as hardware does, knows nothing of the database, and fails
//! the test on what real hardware would punish rarely: a changed entry without break, an entry or a table
//! that is still cached after it went away, and entries with the contiguous hint that are not alike.
//!
//! Of sixteen entries with the hint it caches both what hardware may: one entry for all, and one for the page. It notes accesses and
//! writes in any of them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use skerry_mapping_db::{HwTable, Tlb, pages};

pub(crate) const TABLES_PA: u64 = 0x4000_0000;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const AF: u64 = 1 << 10;
const READ_ONLY: u64 = 1 << 7;
const DBM: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
/// What software keeps in an entry.
const SOFTWARE: u64 = 0x7f << 55;
const UXN: u64 = 1 << 54;

/// A leaf as a TLB holds it: no software bits, no access flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    pub(crate) pa: u64,
    pub(crate) bits: u32,
    pub(crate) attr: u64,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

/// The tables that a walk went through, and what it found.
struct Walk {
    middle: Option<usize>,
    last: Option<usize>,
    leaf: Option<(Leaf, usize, usize)>,
}

pub(crate) struct Mmu<'a> {
    tables: &'a [HwTable],
    hardware: bool,
    roots: BTreeMap<u16, u64>,
    /// By space, address, and log2 of what the TLB entry is for.
    leaves: BTreeMap<(u16, u64, u32), Leaf>,
    /// Cached table descriptors: (space, address, log2 of what they translate) to the table.
    descriptors: BTreeMap<(u16, u64, u32), usize>,
    pending: Vec<(u16, Option<u64>)>,
    /// Counts accesses, to choose among the entries of a group.
    accesses: usize,
}

const fn base(va: u64, bits: u32) -> u64 {
    va & !((1 << bits) - 1)
}

impl<'a> Mmu<'a> {
    pub(crate) fn new(tables: &'a [HwTable], hardware: bool) -> Self {
        let (roots, leaves, descriptors) = <_>::default();
        Self { tables, hardware, roots, leaves, descriptors, pending: Vec::new(), accesses: 0 }
    }
    pub(crate) fn add_root(&mut self, space: u16, pa: u64) {
        self.roots.insert(space, pa);
    }
    fn walk(&self, space: u16, va: u64) -> Walk {
        let mut walk = Walk { middle: None, last: None, leaf: None };
        let Some(root) = self.roots.get(&space) else { return walk };
        let (mut table, mut bits) = (((root - TABLES_PA) >> 12) as usize, 30);
        loop {
            let index = (va >> bits) as usize & 511;
            let word = self.tables[table].0[index].load(Ordering::Relaxed);
            if word & 1 == 0 {
                return walk;
            }
            if bits == 12 || word & 2 == 0 {
                assert_eq!(word & 2 != 0, bits == 12, "reserved encoding {word:#x}");
                let hint = word & CONTIGUOUS != 0;
                assert!(!hint || bits == 12, "the hint in a block");
                let (word, bits) = if hint { (self.group(table, index), 16) } else { (word, bits) };
                let leaf = Leaf {
                    pa: word & ADDRESS,
                    bits,
                    attr: (word >> 2) & 7,
                    write: word & (READ_ONLY | DBM) != READ_ONLY,
                    execute: word & UXN == 0,
                };
                assert_eq!(leaf.pa, base(leaf.pa, bits), "misaligned block");
                assert!(!(leaf.write && leaf.execute), "W and X");
                walk.leaf = Some((leaf, table, index));
                return walk;
            }
            table = ((word & ADDRESS) - TABLES_PA) as usize >> 12;
            if bits == 30 {
                walk.middle = Some(table)
            } else {
                walk.last = Some(table)
            }
            bits -= 9;
        }
    }
    /// The first of sixteen entries, one of which has the hint: then all have to, and be alike (D8.7).
    fn group(&self, table: usize, index: usize) -> u64 {
        let words = self.tables[table].0.as_chunks::<16>().0[index / 16].each_ref();
        let words = words.map(|word| word.load(Ordering::Relaxed));
        let state = if self.hardware { SOFTWARE | AF | READ_ONLY } else { SOFTWARE };
        for (page, word) in (0..).zip(words) {
            let alike = (word ^ words[0]) & !(ADDRESS | state) == 0;
            let next = word & ADDRESS == (words[0] & ADDRESS) + (page << 12);
            assert!(alike && next && words[0] & ADDRESS & 0xffff == 0, "hint misused: {words:x?}");
        }
        words.iter().fold(words[0], |all, word| all & (word | !READ_ONLY))
    }
    /// What the tables say now.
    pub(crate) fn translate(&self, space: u16, va: u64) -> Option<Leaf> {
        self.walk(space, va).leaf.map(|(leaf, ..)| leaf)
    }
    /// A program accesses memory. Whether it works; fills the TLB and sets access flag and dirty state. Without hardware
    /// management of these, the first access and the first write fault.
    pub(crate) fn access(&mut self, space: u16, va: u64, write: bool) -> bool {
        let walk = self.walk(space, va);
        // Table descriptors are cached whether or not the walk ends well.
        if let Some(table) = walk.middle {
            self.descriptors.insert((space, base(va, 30), 30), table);
        }
        if let Some(table) = walk.last {
            self.descriptors.insert((space, base(va, 21), 21), table);
        }
        let Some((leaf, table, index)) = walk.leaf else { return false };
        if write && !leaf.write {
            return false;
        }
        let word = self.tables[table].0[index].load(Ordering::Relaxed);
        if !self.hardware && (word & AF == 0 || write && word & READ_ONLY != 0) {
            return false;
        }
        self.leaves.insert((space, base(va, leaf.bits), leaf.bits), leaf);
        if leaf.bits == 16 {
            self.leaves.insert((space, base(va, 12), 12), leaf);
        }
        if self.hardware {
            self.accesses += 1;
            let noted = if leaf.bits == 16 { index / 16 * 16 + self.accesses * 5 % 16 } else { index };
            let cell = &self.tables[table].0[noted];
            cell.fetch_or(AF, Ordering::Relaxed);
            if write {
                cell.fetch_and(!READ_ONLY, Ordering::Relaxed);
            }
        }
        true
    }
    /// No valid entry may differ from one that is cached in more than rights.
    fn check_break(&self) {
        for (&(space, va, _), cached) in &self.leaves {
            if let Some(now) = self.translate(space, va) {
                let same = (now.pa, now.bits, now.attr) == (cached.pa, cached.bits, cached.attr);
                assert!(same, "made without break: space {space} {va:#x} {cached:x?} -> {now:x?}");
            }
        }
        for (&(space, va, bits), &cached) in &self.descriptors {
            let walk = self.walk(space, va);
            let now = if bits == 30 { walk.middle } else { walk.last };
            assert!(now.is_none_or(|now| now == cached), "table replaced without break: {va:#x}");
        }
    }
    /// After an operation: nothing is pending, and what is cached is what the tables say.
    pub(crate) fn check_quiet(&self) {
        assert!(self.pending.is_empty(), "returned before invalidation was complete");
        for (&(space, va, _), cached) in &self.leaves {
            assert_eq!(self.translate(space, va).as_ref(), Some(cached), "stale: space {space} {va:#x}");
        }
        for (&(space, va, bits), &cached) in &self.descriptors {
            let walk = self.walk(space, va);
            let now = if bits == 30 { walk.middle } else { walk.last };
            assert_eq!(now, Some(cached), "stale table descriptor: space {space} {va:#x}");
        }
    }
}

impl Tlb for Mmu<'_> {
    fn publish(&mut self) {
        self.check_break();
    }
    fn invalidate(&mut self, space: u16, va: u64, bits: u32) {
        self.check_break();
        self.pending.extend((0..u64::from(pages(bits))).map(|page| (space, Some(va + (page << 12)))));
    }
    fn invalidate_space(&mut self, space: u16) {
        self.pending.push((space, None));
    }
    fn sync(&mut self) {
        for (space, va) in std::mem::take(&mut self.pending) {
            let hit = |s: u16, at: u64, bits: u32| s == space && va.is_none_or(|va| base(va, bits) == at);
            self.leaves.retain(|&(s, at, bits), _| !hit(s, at, bits));
            self.descriptors.retain(|&(s, at, bits), _| !hit(s, at, bits));
            if va.is_none() {
                self.roots.remove(&space);
            }
        }
        self.check_break();
    }
}
