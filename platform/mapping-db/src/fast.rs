//! The common cases, as straight lines: one page is mapped to a hole in a table that is there, and one page is taken from
//! mappings from which nothing was mapped on.
//!
//! Both are the general algorithm with every decision that can go another way turned into "not here": `None`, or what is
//! left to do, and nothing has changed then that the general code would do otherwise. The instruction counts of a page fault
//! and of an unmap are decided here, so arenas are indexed once, and what is known is not asked again.

use core::sync::atomic::Ordering;

use skerry_abi::layout::{PINNED_BASE, PINNED_END, USER_END};
use skerry_abi::{Fpage, Rights};
use skerry_checks::{Check, passes};

use crate::arena::{Leaf, NIL};
use crate::descriptor::Entry;
use crate::node::Node;
use crate::walk::{BLOCK_BITS, PAGE_BITS};
use crate::{MappingDb, Status, Tlb};

/// Children that are unmapped in one go.
const AT_ONCE: u32 = 48;

/// What is gone and not reported of a leaf, as [`Entry::used_bits`] has it. `None`: it is for the general code.
#[inline(always)]
fn history<const OF_PAGE: bool>(leaf: Entry) -> Option<u64> {
    // Of a page it is reported and then forgotten.
    if OF_PAGE { leaf.is_plain().then_some(0) } else { leaf.is_single().then(|| leaf.history_bits()) }
}

impl Leaf<'_> {
    /// So many mappings are gone: how they were used is told, and noted as told.
    #[inline(always)]
    fn tell(&self, used: u64, touched: u32) -> Status {
        let seen = Entry::usage_of(used);
        let told = Entry::INVALID.told(seen);
        if told.0 & !self.entry.0 != 0 {
            self.cell.fetch_or(told.0, Ordering::Relaxed);
        }
        Status { seen, touched }
    }
}

impl MappingDb<'_> {
    /// [`MappingDb::map`] of one page with the cacheability it has, if nothing is at the destination and all tables are there. `None`:
    /// not that simple, and nothing has been done. Else the caller publishes the new entry ([`Tlb::publish`]).
    #[inline(always)]
    pub fn map_page(&mut self, from: u16, src: Fpage, to: u16, dest: u64) -> Option<()> {
        let pinned = dest.wrapping_sub(PINNED_BASE) < PINNED_END - PINNED_BASE;
        let pinned = !passes(Check::FastMapPinned, !pinned);
        let is_page = src.bits() == PAGE_BITS && dest & !(USER_END - (1 << PAGE_BITS)) == 0;
        if !is_page || pinned || src.rights().is_empty() {
            return None;
        }
        let mut tables = self.tables.quick()?;
        let (nodes, spaces) = (&mut *self.nodes.nodes, &mut *self.spaces);
        let giver = tables.leaf(spaces.get_mut(usize::from(from))?, src.base())?;
        let source = giver.slot;
        let parent_index = *tables.shadow(source.table as usize, source.index)?;
        if parent_index == NIL || giver.entry.is_piece() {
            return None;
        }
        let taker = spaces.get_mut(usize::from(to))?;
        let (last, cell) = tables.page(taker, dest)?;
        let free = passes(Check::FastMapOccupied, cell.load(Ordering::Relaxed) == 0);
        if !free || taker.used.nodes >= taker.quota.nodes {
            return None;
        }
        let index = self.nodes.first_free;
        let free = nodes.get(index as usize)?.next;
        let parent = nodes.get_mut(parent_index as usize)?;
        let head = if parent.is_page() {
            &mut parent.child
        } else if parent.bucket != NIL {
            let bucket = (src.base() >> (source.bits - 9)) as usize;
            tables.shadow(parent.bucket as usize, bucket)?
        } else {
            return None;
        };
        if index == NIL {
            return None;
        }
        let next = core::mem::replace(head, index);
        let inside = src.base() & ((1 << source.bits) - 1);
        if next != NIL {
            nodes.get_mut(next as usize)?.prev = index;
        }
        *nodes.get_mut(index as usize)? = Node::page(to, dest, parent_index, inside, last as u32, next);
        (self.nodes.first_free, self.nodes.free) = (free, self.nodes.free - 1);
        taker.used.nodes += 1;
        *tables.shadow(last, (dest >> PAGE_BITS) as usize)? = index;
        let child = giver.entry.child_page(inside, src.rights());
        let unlimited = passes(Check::FastMapRights, false);
        let child = if unlimited { child.with_rights(src.rights()) } else { child };
        cell.store(child.0, Ordering::Relaxed);
        Some(())
    }

    /// [`MappingDb::unmap`] of everything from one page that was mapped on as single pages. `None`: there are larger
    /// mappings of it, or the database is held, and nothing has been done. Else whether all was done; if not, the rest is for
    /// the general code, which also learns what was seen.
    #[inline(always)]
    pub fn unmap_page(&mut self, tlb: &mut impl Tlb, slot: u16, va: u64) -> Option<(bool, Status)> {
        let leaf = self.tables.glance().leaf(self.spaces.get_mut(usize::from(slot))?, va)?;
        match leaf.slot.bits {
            PAGE_BITS => self.unmap_child::<true>(tlb, va, leaf),
            BLOCK_BITS => self.unmap_child::<false>(tlb, va, leaf),
            _ => None,
        }
    }

    /// [`MappingDb::unmap_children`], for the one child that there mostly is.
    ///
    /// What pages of a block did that are gone, and was not reported, is told with each of its pages, until the whole block is asked for. (A
    /// space that was destroyed leaves that behind.)
    #[inline(always)]
    fn unmap_child<const OF_PAGE: bool>(
        &mut self,
        tlb: &mut impl Tlb,
        va: u64,
        leaf: Leaf<'_>,
    ) -> Option<(bool, Status)> {
        let mut tables = self.tables.quick()?;
        let (nodes, spaces) = (&mut *self.nodes.nodes, &mut *self.spaces);
        let history = history::<OF_PAGE>(leaf.entry)?;
        // (A pinned page has no node; the one that stands for none has no children.)
        let top = *tables.shadow(leaf.slot.table as usize, leaf.slot.index)?;
        let node = nodes.get_mut(top as usize)?;
        let bucket = node.bucket;
        let head = match OF_PAGE {
            true => &mut node.child,
            false if node.child != NIL || bucket == NIL || node.has_groups(va) => return None,
            false => tables.shadow(bucket as usize, (va >> PAGE_BITS) as usize)?,
        };
        let first = *head;
        // Held, perhaps: then something may come that is promised already.
        let free = self.nodes.first_free;
        if free == NIL {
            return None;
        }
        if first == NIL {
            return Some((true, leaf.tell(history, 0)));
        }
        let child = nodes.get_mut(first as usize)?;
        if child.next != NIL || child.child != NIL {
            return self.unmap_children::<OF_PAGE>(tlb, va, leaf);
        }
        child.next = free;
        let (table, at, space) = (child.more, child.va(), child.space());
        match OF_PAGE {
            true => nodes.get_mut(top as usize)?.child = NIL,
            false => *tables.shadow(bucket as usize, (va >> PAGE_BITS) as usize)? = NIL,
        }
        (self.nodes.first_free, self.nodes.free) = (first, self.nodes.free + 1);
        *tables.shadow(table as usize, (at >> PAGE_BITS) as usize)? = NIL;
        spaces.get_mut(usize::from(space))?.used.nodes -= 1;
        let used = Entry(tables.cell(table, at)?.swap(0, Ordering::Relaxed)).used_bits();
        tlb.invalidate(space, at, PAGE_BITS);
        tlb.sync();
        Some((true, leaf.tell(used | history, 1)))
    }

    /// Unmaps what was derived from the page at `va` as single pages. Whether that was all, and what was found.
    #[inline(never)]
    fn unmap_children<const OF_PAGE: bool>(
        &mut self,
        tlb: &mut impl Tlb,
        va: u64,
        leaf: Leaf<'_>,
    ) -> Option<(bool, Status)> {
        let mut tables = self.tables.quick()?;
        let (nodes, spaces) = (&mut *self.nodes.nodes, &mut *self.spaces);
        let source = leaf.slot;
        let in_bucket = (va >> PAGE_BITS) as usize;
        let top = *tables.shadow(source.table as usize, source.index)?;
        // (A pinned page has no node; the one that stands for none has no children.)
        let history = history::<OF_PAGE>(leaf.entry)?;
        let node = nodes.get(top as usize)?;
        let bucket = node.bucket as usize;
        let mut next = node.child;
        if !OF_PAGE {
            if next != NIL || node.bucket == NIL {
                return None;
            }
            next = *tables.shadow(bucket, in_bucket)?;
        }
        // The children in the order of their list, up to the first that was mapped on.
        let first = next;
        let (mut last, mut left, mut used) = (NIL, AT_ONCE, 0);
        while next != NIL {
            let child = nodes.get(next as usize)?;
            if child.child != NIL {
                break;
            }
            last = next;
            let (table, at, space) = (child.more, child.va(), child.space());
            next = child.next;
            let cell = tables.cell(table, at)?;
            used |= Entry(cell.swap(0, Ordering::Relaxed)).used_bits();
            *tables.shadow(table as usize, (at >> PAGE_BITS) as usize)? = NIL;
            spaces.get_mut(usize::from(space))?.used.nodes -= 1;
            tlb.invalidate(space, at, PAGE_BITS);
            left -= 1;
            if left == 0 {
                break;
            }
        }
        let count = AT_ONCE - left;
        if last == NIL {
            return Some(if next == NIL {
                (true, leaf.tell(history, 0))
            } else {
                (false, Status::default())
            });
        }
        match OF_PAGE {
            true => nodes.get_mut(top as usize)?.child = next,
            false => *tables.shadow(bucket, in_bucket)? = next,
        }
        // The list of those that went is a list of free nodes as it stands.
        nodes.get_mut(last as usize)?.next = self.nodes.first_free;
        (self.nodes.first_free, self.nodes.free) = (first, self.nodes.free + count);
        tlb.sync();
        if next != NIL {
            let seen = Entry::usage_of(used);
            nodes.get_mut(next as usize)?.prev = NIL;
            leaf.cell.fetch_or(Entry::INVALID.with_history(seen).0, Ordering::Relaxed);
            return Some((false, Status { seen: Rights::NONE, touched: count }));
        }
        Some((true, leaf.tell(used | history, count)))
    }
}
