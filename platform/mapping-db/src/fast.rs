//! The common cases, as straight lines: one page is mapped to a hole in a table that is there, and one page is taken from
//! mappings from which nothing was mapped on.
//!
//! Both are the general algorithm with every decision that can go another way turned into "not here": `None`, or what is
//! left to do, and nothing has changed then that the general code would do otherwise. The instruction counts of a page fault
//! and of an unmap are decided here, so arenas are indexed once, and what is known is not asked again.

use core::sync::atomic::Ordering;

use skerry_abi::Fpage;
use skerry_abi::layout::{PINNED_BASE, PINNED_END, USER_END};

use crate::arena::{Leaf, NIL};
use crate::descriptor::Entry;
use crate::node::Node;
use crate::walk::{BLOCK_BITS, PAGE_BITS};
use crate::{MappingDb, Status, Tlb};

impl MappingDb<'_> {
    /// [`MappingDb::map`] of one page with the cacheability it has, if nothing is at the destination and all tables are there. `None`:
    /// not that simple, and nothing has been done. Else the caller publishes the new entry ([`Tlb::publish`]).
    #[inline(always)]
    pub fn map_page(&mut self, from: u16, src: Fpage, to: u16, dest: u64) -> Option<()> {
        let pinned = dest.wrapping_sub(PINNED_BASE) < PINNED_END - PINNED_BASE;
        let is_page = src.bits() == PAGE_BITS && dest & !(USER_END - (1 << PAGE_BITS)) == 0;
        if !is_page || pinned || src.rights().is_empty() {
            return None;
        }
        let giver = self.tables.quick_leaf(self.spaces.get_mut(usize::from(from))?, src.base())?;
        let source = giver.slot;
        let parent_index = *self.tables.shadow_cell(source.table as usize, source.index)?;
        if parent_index == NIL || giver.entry.is_piece() {
            return None;
        }
        let taker = self.spaces.get_mut(usize::from(to))?;
        let (last, cell) = self.tables.quick_page(taker, dest)?;
        if cell.load(Ordering::Relaxed) != 0 || taker.used.nodes >= taker.quota.nodes {
            return None;
        }
        let index = self.nodes.first_free;
        let free = self.nodes.nodes.get(index as usize)?.next;
        let parent = self.nodes.nodes.get_mut(parent_index as usize)?;
        let head = if parent.is_page() {
            &mut parent.child
        } else if parent.bucket != NIL {
            let bucket = (src.base() >> (source.bits - 9)) as usize;
            self.tables.shadow_cell(parent.bucket as usize, bucket)?
        } else {
            return None;
        };
        if index == NIL {
            return None;
        }
        let next = core::mem::replace(head, index);
        let inside = src.base() & ((1 << source.bits) - 1);
        if next != NIL {
            self.nodes.nodes.get_mut(next as usize)?.prev = index;
        }
        *self.nodes.nodes.get_mut(index as usize)? =
            Node::page(to, dest, parent_index, inside, last as u32, next);
        self.nodes.first_free = free;
        self.nodes.free -= 1;
        taker.used.nodes += 1;
        *self.tables.shadow_cell(last, (dest >> PAGE_BITS) as usize)? = index;
        cell.store(giver.entry.child_page(inside, src.rights()).0, Ordering::Relaxed);
        Some(())
    }

    /// [`MappingDb::unmap`] of everything from one page that was mapped on as single pages. `None`: there are larger
    /// mappings of it, and nothing has been done.
    #[inline(always)]
    pub fn unmap_page(&mut self, tlb: &mut impl Tlb, slot: u16, fpage: Fpage) -> Option<Status> {
        let leaf = self.tables.quick_leaf(self.spaces.get_mut(usize::from(slot))?, fpage.base())?;
        match leaf.slot.bits {
            PAGE_BITS => self.unmap_children::<true>(tlb, slot, fpage, leaf),
            BLOCK_BITS => self.unmap_children::<false>(tlb, slot, fpage, leaf),
            _ => None,
        }
    }

    #[inline(always)]
    fn unmap_children<const OF_PAGE: bool>(
        &mut self,
        tlb: &mut impl Tlb,
        slot: u16,
        fpage: Fpage,
        leaf: Leaf<'_>,
    ) -> Option<Status> {
        let source = leaf.slot;
        let in_bucket = (fpage.base() >> PAGE_BITS) as usize;
        let top = *self.tables.shadow_cell(source.table as usize, source.index)?;
        if top == NIL || leaf.entry.is_piece() || leaf.entry.history().is_some() {
            return None;
        }
        let node = self.nodes.nodes.get(top as usize)?;
        let bucket = node.bucket as usize;
        let mut next = node.child;
        if !OF_PAGE {
            if next != NIL || node.bucket == NIL {
                return None;
            }
            next = *self.tables.shadow_cell(bucket, in_bucket)?;
        }
        // The children in the order of their list, up to the first that was mapped on.
        let (mut last, mut count, mut used) = (NIL, 0, 0);
        while next != NIL {
            let child = self.nodes.nodes.get(next as usize)?;
            if child.child != NIL {
                break;
            }
            let (table, va, space) = (child.more, child.va(), child.space());
            last = next;
            next = child.next;
            let cell = self.tables.quick_cell(table, va)?;
            used |= Entry(cell.swap(0, Ordering::Relaxed)).used_bits();
            *self.tables.shadow_cell(table as usize, (va >> PAGE_BITS) as usize)? = NIL;
            self.spaces.get_mut(usize::from(space))?.used.nodes -= 1;
            count += 1;
            tlb.invalidate(space, va, PAGE_BITS);
        }
        let mut status = Status::default();
        if last != NIL {
            let head = match OF_PAGE {
                true => &mut self.nodes.nodes.get_mut(top as usize)?.child,
                false => self.tables.shadow_cell(bucket, in_bucket)?,
            };
            // The list of those that went is a list of free nodes as it stands.
            let first = core::mem::replace(head, next);
            self.nodes.nodes.get_mut(last as usize)?.next =
                core::mem::replace(&mut self.nodes.first_free, first);
            self.nodes.free += count;
            tlb.sync();
            let used = Entry::usage_of(used);
            let told = Entry::INVALID.told(used);
            if told.0 & !leaf.entry.0 != 0 {
                leaf.cell.fetch_or(told.0, Ordering::Relaxed);
            }
            status = Status { accessed: used.accessed, written: used.written, touched: count };
        }
        if next != NIL {
            self.nodes.nodes.get_mut(next as usize)?.prev = NIL;
            return Some(self.unmap_any(tlb, slot, fpage, false, status));
        }
        Some(status)
    }
}
