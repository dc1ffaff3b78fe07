//! Table walks: from an address to the entry that translates it, and to the mapping the entry belongs to.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::{Rights, layout::USER_END};

use crate::arena::{ENTRIES, NIL, Slot};
use crate::budget::{Budget, LOOK, SCAN};
use crate::descriptor::{Attr, Entry};
use crate::{MappingDb, Tlb};

/// log2 of what an entry of the root table translates.
pub(crate) const TOP_BITS: u32 = 30;
/// log2 of what an entry of the middle table translates.
pub(crate) const BLOCK_BITS: u32 = 21;
/// log2 of what sixteen entries of a last table translate that are alike.
pub(crate) const GROUP_BITS: u32 = 16;
pub(crate) const PAGE_BITS: u32 = 12;

/// The next smaller size of a leaf.
pub(crate) const fn smaller(bits: u32) -> u32 {
    match bits {
        TOP_BITS => BLOCK_BITS,
        BLOCK_BITS => GROUP_BITS,
        _ => PAGE_BITS,
    }
}

/// Does what the MMU does on an access that the leaf allows, if it does.
#[cold]
fn touch(leaf: &AtomicU64, access: Rights) -> bool {
    let step = |word| Entry(word).allows(access).then(|| Entry(word).touched(access).0);
    leaf.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
}

/// Where a walk ended.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) entry: Entry,
    /// Of a leaf: its mapping (NIL: pinned). Of a table: the split mapping the table belongs to (NIL: ordinary table).
    pub(crate) node: u32,
}

impl Place {
    /// Whether it is the leaf of a mapping.
    #[inline]
    pub(crate) fn is_mapping(&self) -> bool {
        self.entry.is_leaf(self.slot.bits) && self.node != NIL
    }
    /// The first address behind what the slot translates.
    #[inline]
    pub(crate) fn end(&self, va: u64) -> u64 {
        (va | ((1 << self.slot.bits) - 1)) + 1
    }
}

/// What an address translates to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Physical address of the byte.
    pub pa: u64,
    /// log2 of the size of the entry that translates it.
    pub bits: u32,
    /// Rights of the mapping, as it can be delegated: W together with X is installed without X.
    pub rights: Rights,
    /// Cacheability.
    pub attr: Attr,
}

impl MappingDb<'_> {
    /// Walks the tables of the space with root table `root` down to a leaf, a hole, or a slot of 2^`stop` bytes. Where a group is
    /// whole, its first entry stands for it.
    #[inline]
    pub(crate) fn descend(&self, root: u32, va: u64, stop: u32) -> Place {
        let (mut table, mut bits, mut node) = (root, TOP_BITS, NIL);
        loop {
            let index = (va >> bits) as usize % ENTRIES;
            let entry = self.tables.load(table, index);
            if !entry.is_piece() {
                node = self.tables.shadow(table, index);
            }
            if bits == stop || !entry.is_table(bits) {
                if entry.is_contiguous() {
                    return self.group_at(table, index, node);
                }
                return Place { slot: Slot { table, index, bits }, entry, node };
            }
            table = self.tables.index(entry);
            bits -= 9;
        }
    }

    /// The slot that holds a node's leaf, or the descriptor of its split table.
    #[inline]
    pub(crate) fn slot_of(&self, node: u32) -> Slot {
        let node = self.nodes.get(node);
        if node.is_in_last_table() {
            let index = (node.va() >> PAGE_BITS) as usize % ENTRIES;
            return Slot { table: node.more, index, bits: node.bits() };
        }
        self.descend(self.root(node.space()), node.va(), node.bits()).slot
    }

    /// What `va` translates to in a space; `None` where nothing is mapped, or no such space exists.
    pub fn lookup(&self, slot: u16, va: u64) -> Option<Translation> {
        let place = self.leaf(slot, va)?;
        let bits = place.slot.bits;
        Some(Translation {
            pa: place.entry.pa() | va & ((1 << bits) - 1),
            bits,
            rights: place.entry.rights(),
            attr: place.entry.attr(),
        })
    }

    /// Whether the tables allow this access from EL0. If so a fault there is not the pager's business: the entry was
    /// made or widened after the access was tried, or the CPU does not manage access flag and dirty state, which is
    /// done here then. The caller drops what this CPU's TLB holds of the page, and lets the thread try again.
    #[inline]
    pub fn check(&mut self, slot: u16, va: u64, access: Rights) -> bool {
        let Some(space) = self.spaces.get_mut(usize::from(slot)) else { return false };
        match self.tables.glance().leaf(space, va) {
            Some(_) if va >= USER_END => false,
            Some(leaf) if leaf.entry.is_contiguous() => {
                self.tables.group(leaf.slot).iter().all(|leaf| touch(leaf, access))
            }
            Some(leaf) => touch(leaf.cell, access),
            None => false,
        }
    }

    /// Whether there is an entry at an address, whatever it allows.
    #[inline(always)]
    pub fn is_mapped(&mut self, slot: u16, va: u64) -> bool {
        let space = self.spaces.get_mut(usize::from(slot));
        space.is_some_and(|space| self.tables.glance().leaf(space, va).is_some())
    }

    fn leaf(&self, slot: u16, va: u64) -> Option<Place> {
        if va >= USER_END {
            return None;
        }
        let place = self.descend(self.live_root(slot).ok()?, va, PAGE_BITS);
        place.entry.is_leaf(place.slot.bits).then_some(place)
    }

    /// Gives back all ordinary tables of a space that translate nothing, from address `at` on. `unmap` leaves them where they are, since
    /// the next page usually goes to the same place. `false`: the budget is spent; where to go on is in `at`.
    pub(crate) fn reclaim(
        &mut self,
        tlb: &mut impl Tlb,
        space: u16,
        at: &mut u64,
        budget: &mut Budget,
    ) -> bool {
        let root = self.root(space);
        let mut freed = false;
        let mut done = true;
        while *at < USER_END {
            let top = Slot { table: root, index: (*at >> TOP_BITS) as usize, bits: TOP_BITS };
            let entry = self.tables.load(root, top.index);
            if !budget.take(if entry.is_table(TOP_BITS) { 2 * SCAN } else { LOOK }) {
                done = false;
                break;
            }
            if !entry.is_table(TOP_BITS) {
                *at = (*at | ((1 << TOP_BITS) - 1)) + 1;
                continue;
            }
            let index = (*at >> BLOCK_BITS) as usize % ENTRIES;
            let slot = Slot { table: self.tables.index(entry), index, bits: BLOCK_BITS };
            freed |= self.drop_if_empty(tlb, space, slot, *at);
            if index == ENTRIES - 1 {
                freed |= self.drop_if_empty(tlb, space, top, *at & !((1 << TOP_BITS) - 1));
            }
            *at += 1 << BLOCK_BITS;
        }
        if freed {
            tlb.sync();
        }
        done
    }

    /// Frees the ordinary table that `slot` points to if nothing is in it. The caller syncs before it is reused.
    pub(crate) fn drop_if_empty(&mut self, tlb: &mut impl Tlb, space: u16, slot: Slot, va: u64) -> bool {
        let empty = self.is_ordinary(slot)
            && self.tables.is_empty(self.tables.index(self.tables.load(slot.table, slot.index)));
        if empty {
            self.drop_empty(tlb, space, slot, va);
        }
        empty
    }

    /// Whether `slot` points to a table of nobody in particular, which may be dropped when it is empty.
    pub(crate) fn is_ordinary(&self, slot: Slot) -> bool {
        let entry = self.tables.load(slot.table, slot.index);
        entry.is_table(slot.bits) && !entry.is_piece() && self.tables.shadow(slot.table, slot.index) == NIL
    }

    /// Frees the ordinary table that `slot` points to, in which somebody has just found nothing. The caller syncs before it is reused.
    pub(crate) fn drop_empty(&mut self, tlb: &mut impl Tlb, space: u16, slot: Slot, va: u64) {
        let table = self.tables.index(self.tables.load(slot.table, slot.index));
        debug_assert!(self.tables.is_empty(table), "nothing is mapped by a table that goes");
        self.tables.store(slot, Entry::INVALID);
        tlb.invalidate(space, va, slot.bits);
        self.free_table(space, table);
    }
}
