//! Table walks in a hurry.
//!
//! The arena's slices are taken out of the database once per operation, with lengths that are known to be equal: so each index is
//! compared once, and no store in between makes the compiler fetch them again.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arena::{ENTRIES, HwTable, Leaf, Slot, SpaceTables};
use crate::descriptor::Entry;

/// Page tables and their shadows, as many of these as of those.
pub(crate) struct Quick<'q, 'a> {
    pub(crate) hardware: &'a [HwTable],
    pub(crate) shadow: &'q mut [[u32; ENTRIES]],
    /// Physical address of the first table.
    pub(crate) base: u64,
}

impl<'a> Quick<'_, 'a> {
    /// The table that an entry above the last level points to; `None` for holes and leaves, which never point into the
    /// arena ([`crate::arena::Tables::overlaps`]): one comparison tells them all apart.
    #[inline(always)]
    fn below(&self, entry: u64) -> Option<(usize, &'a HwTable)> {
        let page = (entry >> 12 & 0xf_ffff_ffff).wrapping_sub(self.base >> 12);
        let table = page as usize;
        self.hardware.get(table).map(|hardware| (table, hardware))
    }
    /// The valid leaf at `va`, whatever it is.
    #[inline(always)]
    pub(crate) fn leaf(&self, space: &mut SpaceTables, va: u64) -> Option<Leaf<'a>> {
        let leaf = |table: usize, cell: &'a AtomicU64, entry: u64, bits: u32| {
            let slot = Slot { table: table as u32, index: (va >> bits) as usize % ENTRIES, bits };
            (entry & 1 != 0).then_some(Leaf { cell, entry: Entry(entry), slot })
        };
        if let Some((table, cell)) = self.recent_page(space, va) {
            return leaf(table, cell, cell.load(Ordering::Relaxed), 12);
        }
        let table = self.hardware.get(space.root as usize)?;
        let cell = &table.0[(va >> 30) as usize % ENTRIES];
        let entry = cell.load(Ordering::Relaxed);
        let Some((middle, table)) = self.below(entry) else {
            return leaf(space.root as usize, cell, entry, 30);
        };
        let cell = &table.0[(va >> 21) as usize % ENTRIES];
        let entry = cell.load(Ordering::Relaxed);
        let Some((last, table)) = self.below(entry) else { return leaf(middle, cell, entry, 21) };
        (space.recent, space.region) = (last as u32, (va >> 21) as u32);
        let cell = &table.0[(va >> 12) as usize % ENTRIES];
        leaf(last, cell, cell.load(Ordering::Relaxed), 12)
    }
    /// The last-level table for `va`, and in it the entry.
    #[inline(always)]
    pub(crate) fn page(&self, space: &mut SpaceTables, va: u64) -> Option<(usize, &'a AtomicU64)> {
        if let Some(page) = self.recent_page(space, va) {
            return Some(page);
        }
        let entry = |table: &'a HwTable, bits: u32| &table.0[(va >> bits) as usize % ENTRIES];
        let (_, table) =
            self.below(entry(self.hardware.get(space.root as usize)?, 30).load(Ordering::Relaxed))?;
        let (last, table) = self.below(entry(table, 21).load(Ordering::Relaxed))?;
        (space.recent, space.region) = (last as u32, (va >> 21) as u32);
        Some((last, entry(table, 12)))
    }
    #[inline(always)]
    fn recent_page(&self, space: &SpaceTables, va: u64) -> Option<(usize, &'a AtomicU64)> {
        if u64::from(space.region) != va >> 21 {
            return None;
        }
        let table = space.recent as usize;
        self.hardware.get(table).map(|hardware| (table, &hardware.0[(va >> 12) as usize % ENTRIES]))
    }
    /// The entry of a page in the table that its node names.
    #[inline(always)]
    pub(crate) fn cell(&self, table: u32, va: u64) -> Option<&'a AtomicU64> {
        self.hardware.get(table as usize).map(|table| &table.0[(va >> 12) as usize % ENTRIES])
    }
    #[inline(always)]
    pub(crate) fn shadow(&mut self, table: usize, index: usize) -> Option<&mut u32> {
        self.shadow.get_mut(table).map(|shadow| &mut shadow[index % ENTRIES])
    }
}
