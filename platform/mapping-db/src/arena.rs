//! The three arenas: page tables, map nodes, spaces. Free lists run through the objects themselves.
//!
//! Index 0 of tables and nodes means "none" and is never handed out, so zeroed memory holds no link. Table 0 stays all
//! invalid for ever: a CPU that runs no space can point TTBR0 at it.
//!
//! A free table is all zero in both halves (the last user cleared every entry), so allocation clears nothing.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Error;

use crate::descriptor::Entry;
use crate::node::Node;
use crate::quick::Quick;
use crate::walk::GROUP_BITS;

/// "No node", "no table".
pub(crate) const NIL: u32 = 0;
/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;
/// Pages of a group: entries that the contiguous hint ties together.
pub(crate) const GROUP_PAGES: usize = 16;

/// A translation table as the MMU reads it; with hardware management of the access flag the MMU also writes it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct HwTable(pub [AtomicU64; ENTRIES]);

impl HwTable {
    /// A table without any valid entry.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

impl Default for HwTable {
    fn default() -> Self {
        Self::new()
    }
}

/// How much kernel memory a space may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Page tables, reserved split tables included.
    pub tables: u32,
    /// Map nodes.
    pub nodes: u32,
}

impl From<u32> for Quota {
    /// The same number of tables and of nodes.
    fn from(number: u32) -> Self {
        Self { tables: number, nodes: number }
    }
}

/// A space as the mapping database sees it: root table and account.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct SpaceTables {
    pub(crate) root: u32,
    /// The last-level table that a walk reached last, and the number of the 2 MiB that it is for. A table leaves its place
    /// only to be freed, so that is the only time to forget it.
    pub(crate) recent: u32,
    pub(crate) region: u32,
    pub(crate) used: Quota,
    pub(crate) quota: Quota,
    /// Pages of the kernel's own that are the space's (UTCBs). They count as tables.
    pub(crate) pages: u32,
    /// Of a space that is being destroyed: below this page nothing is mapped any more.
    pub(crate) cleared: u32,
}

impl SpaceTables {
    /// No space.
    pub const UNUSED: Self = Self {
        root: NIL,
        recent: NIL,
        region: u32::MAX,
        used: Quota { tables: 0, nodes: 0 },
        quota: Quota { tables: 0, nodes: 0 },
        pages: 0,
        cleared: 0,
    };
}

impl Default for SpaceTables {
    fn default() -> Self {
        Self::UNUSED
    }
}

/// A slot of a table: where an entry lies, and log2 of the bytes it translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub(crate) table: u32,
    pub(crate) index: usize,
    pub(crate) bits: u32,
}

/// A leaf that a quick walk found, and where.
#[derive(Clone, Copy)]
pub(crate) struct Leaf<'t> {
    pub(crate) cell: &'t AtomicU64,
    pub(crate) entry: Entry,
    pub(crate) slot: Slot,
}

/// Page tables and, beside each, its shadow. The shadow word of an entry is
/// - for the leaf of an unsplit mapping, and for each page of a group, split or not: its node (NIL for a pinned page);
/// - for a table descriptor: the split mapping the table belongs to, NIL for an ordinary table;
/// - for a *piece* of a split mapping: the head of the list of that mapping's children there (see [`crate::node`]).
pub(crate) struct Tables<'a> {
    hardware: &'a [HwTable],
    shadow: &'a mut [[u32; ENTRIES]],
    base: u64,
    first_free: u32,
    free: u32,
    /// So many of the free ones are promised to the items of a message.
    pub(crate) reserved: u32,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(hardware: &'a [HwTable], shadow: &'a mut [[u32; ENTRIES]], base: u64) -> Self {
        let count = hardware.len().min(shadow.len()).min(u32::MAX as usize);
        for (table, shadow) in hardware.iter().zip(shadow.iter_mut()) {
            table.0.iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
            shadow.fill(0);
        }
        for (index, shadow) in shadow.iter_mut().enumerate().take(count.saturating_sub(1)).skip(1) {
            shadow[0] = index as u32 + 1;
        }
        let first_free = if count > 1 { 1 } else { NIL };
        Self { hardware, shadow, base, first_free, free: count.saturating_sub(1) as u32, reserved: 0 }
    }
    pub(crate) fn free(&self) -> u32 {
        self.free
    }
    /// How many can be had by whom none were promised.
    pub(crate) fn available(&self) -> u32 {
        self.free.saturating_sub(self.reserved)
    }
    pub(crate) fn alloc(&mut self) -> Option<u32> {
        let table = self.first_free;
        if table == NIL {
            return None;
        }
        self.first_free = core::mem::take(&mut self.shadow[table as usize][0]);
        self.free -= 1;
        Some(table)
    }
    pub(crate) fn dealloc(&mut self, table: u32) {
        debug_assert!(self.is_empty(table) && self.shadow[table as usize].iter().all(|&word| word == 0));
        self.shadow[table as usize][0] = self.first_free;
        self.first_free = table;
        self.free += 1;
    }
    #[inline]
    pub(crate) fn pa(&self, table: u32) -> u64 {
        self.base + u64::from(table) * size_of::<HwTable>() as u64
    }
    /// The table that a table descriptor points to.
    #[inline]
    pub(crate) fn index(&self, entry: Entry) -> u32 {
        ((entry.pa() - self.base) / size_of::<HwTable>() as u64) as u32
    }
    /// Whether some of 2^`bits` bytes at `pa` are this arena's.
    pub(crate) fn overlaps(&self, pa: u64, bits: u32) -> bool {
        pa < self.pa(self.hardware.len() as u32) && pa + (1 << bits) > self.base
    }
    /// The page tables alone, to look something up.
    #[inline(always)]
    pub(crate) fn glance(&self) -> Quick<'_, 'a> {
        Quick { hardware: self.hardware, shadow: &mut [], base: self.base }
    }
    /// The arena for a quick operation.
    #[inline(always)]
    pub(crate) fn quick(&mut self) -> Option<Quick<'_, 'a>> {
        let shadow = self.shadow.get_mut(..self.hardware.len())?;
        Some(Quick { hardware: self.hardware, shadow, base: self.base })
    }
    #[inline]
    fn cell(&self, table: u32, index: usize) -> &AtomicU64 {
        &self.hardware[table as usize].0[index % ENTRIES]
    }
    #[inline]
    pub(crate) fn load(&self, table: u32, index: usize) -> Entry {
        Entry(self.cell(table, index).load(Ordering::Relaxed))
    }
    /// Writes an entry. Whatever a new table descriptor points to was written before (release).
    #[inline]
    pub(crate) fn store(&self, slot: Slot, entry: Entry) {
        self.cell(slot.table, slot.index).store(entry.0, Ordering::Release);
    }
    /// The sixteen entries of the group that `slot` is of.
    #[inline]
    pub(crate) fn group(&self, slot: Slot) -> &'a [AtomicU64; GROUP_PAGES] {
        &self.hardware[slot.table as usize].0.as_chunks().0[slot.index % ENTRIES / GROUP_PAGES]
    }
    /// Their shadow words.
    #[inline]
    pub(crate) fn group_shadow(&mut self, slot: Slot) -> &mut [u32; GROUP_PAGES] {
        &mut self.shadow[slot.table as usize].as_chunks_mut().0[slot.index % ENTRIES / GROUP_PAGES]
    }
    /// Whether no entry of a group is used.
    #[inline]
    pub(crate) fn is_free(&self, slot: Slot) -> bool {
        self.group(slot).iter().fold(0, |all, entry| all | entry.load(Ordering::Relaxed)) == 0
    }
    /// Makes a leaf of 2^`bits` bytes, of which `entry` is all or the first, and says whose it is.
    #[inline]
    pub(crate) fn put(&mut self, slot: Slot, bits: u32, entry: Entry, node: u32) {
        if bits == GROUP_BITS {
            *self.group_shadow(slot) = [node; GROUP_PAGES];
            for (index, cell) in (0..).zip(self.group(slot)) {
                cell.store(entry.member(index).0, Ordering::Relaxed);
            }
            return;
        }
        self.set_shadow(slot.table, slot.index, node);
        self.store(slot, entry);
    }
    /// The opposite. What is returned includes what the MMU wrote until then.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        if slot.bits == GROUP_BITS {
            *self.group_shadow(slot) = [NIL; GROUP_PAGES];
            return self.take_group(slot);
        }
        self.set_shadow(slot.table, slot.index, NIL);
        self.take(slot)
    }
    /// Makes the entries of a group invalid. Returns the first one, with the state of all.
    #[inline]
    pub(crate) fn take_group(&self, slot: Slot) -> Entry {
        let take = |cell: &AtomicU64| Entry(cell.swap(0, Ordering::Relaxed));
        let [first, others @ ..] = self.group(slot);
        others.iter().map(take).fold(take(first), Entry::with_use_of)
    }
    /// Fills a table that nothing points to yet: `first`, and then every entry the one before plus `step`.
    pub(crate) fn fill(&self, table: u32, first: u64, step: u64) {
        let mut word = first;
        // Several at a time, for the same reason as in `union`.
        for entries in self.hardware[table as usize].0.as_chunks::<8>().0 {
            for (number, entry) in (0..).zip(entries) {
                entry.store(word + number * step, Ordering::Relaxed);
            }
            word += 8 * step;
        }
    }
    /// Makes the entry invalid; the result includes what the MMU wrote until then.
    #[inline]
    pub(crate) fn take(&self, slot: Slot) -> Entry {
        Entry(self.cell(slot.table, slot.index).swap(0, Ordering::Relaxed))
    }
    /// Replaces the entry by `change` of it without losing a concurrent update by the MMU. Returns the old one.
    #[inline]
    pub(crate) fn update(&self, slot: Slot, change: impl Fn(Entry) -> Entry) -> Entry {
        let step = |word| Some(change(Entry(word)).0);
        match self.cell(slot.table, slot.index).fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) {
            Ok(old) | Err(old) => Entry(old),
        }
    }
    #[inline]
    pub(crate) fn shadow(&self, table: u32, index: usize) -> u32 {
        self.shadow[table as usize][index % ENTRIES]
    }
    #[inline]
    pub(crate) fn set_shadow(&mut self, table: u32, index: usize, value: u32) {
        self.shadow[table as usize][index % ENTRIES] = value;
    }
    /// The first entry in `from..end` that is not zero, or `end`.
    pub(crate) fn next_entry(&self, table: u32, from: usize, end: usize) -> usize {
        let entries = &self.hardware[table as usize].0[from..end];
        entries.iter().position(|entry| entry.load(Ordering::Relaxed) != 0).map_or(end, |found| from + found)
    }
    /// The bits that are set in any entry, until some of `enough` are. Several entries at a time: each look at a whole table counts.
    fn union(&self, table: u32, enough: u64) -> u64 {
        let mut all = 0;
        for entries in self.hardware[table as usize].0.as_chunks::<8>().0 {
            all |= entries.iter().fold(0, |all, entry| all | entry.load(Ordering::Relaxed));
            if all & enough != 0 {
                break;
            }
        }
        all
    }
    /// Whether no entry is valid.
    pub(crate) fn is_empty(&self, table: u32) -> bool {
        self.union(table, !0) == 0
    }
    /// Whether a shadow word is not zero.
    pub(crate) fn has_heads(&self, table: u32) -> bool {
        self.shadow[table as usize]
            .as_chunks::<8>()
            .0
            .iter()
            .any(|words| words.iter().fold(0, |all, word| all | word) != NIL)
    }
    /// What is left in the table of a split mapping, in one look.
    pub(crate) fn left(&self, table: u32) -> Left {
        match self.union(table, Entry::PIECES) {
            0 => Left::Nothing,
            all if all & Entry::PIECES == 0 => Left::Others,
            _ => Left::Pieces,
        }
    }
}

/// What is left in the table of a split mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// A piece of it, at least.
    Pieces,
    /// Only what other mappings have in its holes.
    Others,
    /// Nothing.
    Nothing,
}

/// Map nodes.
pub(crate) struct Nodes<'a> {
    pub(crate) nodes: &'a mut [Node],
    /// NIL while the database is held.
    pub(crate) first_free: u32,
    /// What `first_free` is else.
    pub(crate) aside: u32,
    pub(crate) free: u32,
}

impl<'a> Nodes<'a> {
    pub(crate) fn new(nodes: &'a mut [Node]) -> Self {
        let count = nodes.len().min(u32::MAX as usize);
        for (index, node) in nodes.iter_mut().enumerate() {
            let next = if index + 1 < count && index > 0 { index as u32 + 1 } else { NIL };
            *node = Node::default();
            node.next = next;
        }
        let first_free = if count > 1 { 1 } else { NIL };
        Self { nodes, first_free, aside: NIL, free: count.saturating_sub(1) as u32 }
    }
    pub(crate) fn free(&self) -> u32 {
        self.free
    }
    pub(crate) fn alloc(&mut self, node: Node) -> Option<u32> {
        let index = self.first_free;
        if index == NIL {
            return None;
        }
        let place = &mut self.nodes[index as usize];
        self.first_free = place.next;
        self.free -= 1;
        *place = node;
        Some(index)
    }
    pub(crate) fn dealloc(&mut self, node: u32) {
        self.nodes[node as usize].next = self.first_free;
        self.first_free = node;
        self.free += 1;
    }
    #[inline]
    pub(crate) fn get(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }
    #[inline]
    pub(crate) fn get_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }
}

/// What an operation is going to take from a space's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Need {
    pub(crate) tables: u32,
    pub(crate) nodes: u32,
}

impl SpaceTables {
    /// Whether the quota allows it.
    pub(crate) fn admits(&self, need: Need) -> Result<(), Error> {
        let tables = self.quota.tables.saturating_sub(self.used.tables + self.pages);
        let nodes = self.quota.nodes.saturating_sub(self.used.nodes);
        if need.tables <= tables && need.nodes <= nodes { Ok(()) } else { Err(Error::OutOfKernelMemory) }
    }
}
