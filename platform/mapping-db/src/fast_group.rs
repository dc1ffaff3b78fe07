//! The common cases of 64 KiB, as [`crate::fast`] has them of single pages: a group out of something larger is mapped to sixteen holes in
//! a table that is there, and one is taken back from the only one who has it.
//!
//! Out of line: who has no group to map or unmap pays for a comparison and no more.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Fpage;
use skerry_abi::layout::{PINNED_BASE, PINNED_END, USER_END};
use skerry_checks::{Check, passes};

use crate::arena::{ENTRIES, GROUP_PAGES, NIL};
use crate::descriptor::Entry;
use crate::node::Node;
use crate::walk::{BLOCK_BITS, GROUP_BITS, PAGE_BITS};
use crate::{MappingDb, Status, Tlb};

const SIZE: u64 = 1 << GROUP_BITS;

impl MappingDb<'_> {
    /// [`MappingDb::map`] of one page or of 64 KiB with the cacheability they have, if that is simple; then the pages that are mapped, and the
    /// caller publishes the new entries ([`Tlb::publish`]). `None`: it is not simple, and nothing has been done.
    #[inline(always)]
    pub fn map_simple(&mut self, from: u16, src: Fpage, to: u16, dest: u64) -> Option<u32> {
        match src.bits() {
            PAGE_BITS => self.map_page(from, src, to, dest).map(|()| 1),
            GROUP_BITS => self.map_group(from, src, to, dest),
            _ => None,
        }
    }

    /// That for 64 KiB, of a block or more that is whole.
    #[inline(never)]
    pub fn map_group(&mut self, from: u16, src: Fpage, to: u16, dest: u64) -> Option<u32> {
        let pinned = dest < PINNED_END && dest.wrapping_add(SIZE) > PINNED_BASE;
        let pinned = !passes(Check::FastGroupPinned, !pinned);
        let is_group = src.bits() == GROUP_BITS && dest & !(USER_END - SIZE) == 0;
        if !is_group || pinned || src.rights().is_empty() {
            return None;
        }
        let mut tables = self.tables.quick()?;
        let (nodes, spaces) = (&mut *self.nodes.nodes, &mut *self.spaces);
        let giver = tables.leaf(spaces.get_mut(usize::from(from))?, src.base())?;
        let source = giver.slot;
        let parent_index = *tables.shadow(source.table as usize, source.index)?;
        if source.bits == PAGE_BITS || parent_index == NIL || giver.entry.is_piece() {
            return None;
        }
        let taker = spaces.get_mut(usize::from(to))?;
        let (last, _) = tables.page(taker, dest)?;
        let place = (dest >> GROUP_BITS) as usize % (ENTRIES / GROUP_PAGES);
        let cells = tables.hardware.get(last)?.0.as_chunks::<GROUP_PAGES>().0.get(place)?;
        let used = cells.iter().fold(0, |all, cell| all | cell.load(Ordering::Relaxed));
        let free = passes(Check::FastGroupOccupied, used == 0);
        if !free || taker.used.nodes >= taker.quota.nodes {
            return None;
        }
        let index = self.nodes.first_free;
        let free = nodes.get(index as usize)?.next;
        let parent = nodes.get_mut(parent_index as usize)?;
        if index == NIL || parent.bucket == NIL {
            return None;
        }
        let bucket = (src.base() >> (source.bits - 9)) as usize % ENTRIES;
        if source.bits == BLOCK_BITS {
            parent.more |= 1 << (bucket / GROUP_PAGES);
        }
        let next = core::mem::replace(tables.shadow(parent.bucket as usize, bucket)?, index);
        if next != NIL {
            nodes.get_mut(next as usize)?.prev = index;
        }
        let inside = src.base() & ((1 << source.bits) - 1);
        let node = Node::new(to, dest, GROUP_BITS, parent_index, inside);
        *nodes.get_mut(index as usize)? = Node { more: last as u32, next, ..node };
        (self.nodes.first_free, self.nodes.free) = (free, self.nodes.free - 1);
        taker.used.nodes += 1;
        *tables.shadow.get_mut(last)?.as_chunks_mut().0.get_mut(place)? = [index; GROUP_PAGES];
        let child = giver.entry.child_page(inside, src.rights());
        let unlimited = passes(Check::FastGroupRights, false);
        let child = if unlimited { child.with_rights(src.rights()) } else { child }.tied();
        for (page, cell) in (0..).zip(cells) {
            cell.store(child.member(page).0, Ordering::Relaxed);
        }
        Some(GROUP_PAGES as u32)
    }

    /// [`MappingDb::unmap`] of everything from 64 KiB of a block, if that is one group or nothing, and nothing was mapped on from it. `None`: it is
    /// not, or the database is held, and nothing has been done.
    #[inline(never)]
    pub fn unmap_group(&mut self, tlb: &mut impl Tlb, slot: u16, va: u64) -> Option<Status> {
        let mut tables = self.tables.quick()?;
        let (nodes, spaces) = (&mut *self.nodes.nodes, &mut *self.spaces);
        let leaf = tables.leaf(spaces.get_mut(usize::from(slot))?, va)?;
        let free = self.nodes.first_free;
        if leaf.slot.bits != BLOCK_BITS || !leaf.entry.is_plain() || va & (SIZE - 1) != 0 || free == NIL {
            return None;
        }
        let top = *tables.shadow(leaf.slot.table as usize, leaf.slot.index)?;
        let parent = nodes.get(top as usize)?;
        if top == NIL || parent.child != NIL || parent.bucket == NIL {
            return None;
        }
        let place = (va >> GROUP_BITS) as usize % (ENTRIES / GROUP_PAGES);
        let heads = tables.shadow.get(parent.bucket as usize)?.as_chunks::<GROUP_PAGES>().0.get(place)?;
        let (first, others) = heads.split_first()?;
        let (first, others) = (*first, others.iter().fold(NIL, |all, head| all | head));
        if others != NIL {
            return None;
        }
        if first == NIL {
            return Some(Status::default());
        }
        let child = nodes.get(first as usize)?;
        let (table, at, space) = (child.more as usize, child.va(), child.space());
        let there = (at >> GROUP_BITS) as usize % (ENTRIES / GROUP_PAGES);
        let cells = tables.hardware.get(table)?.0.as_chunks::<GROUP_PAGES>().0.get(there)?;
        let whole = child.is_group() && Entry(cells[0].load(Ordering::Relaxed)).is_contiguous();
        if child.next != NIL || child.child != NIL || !whole {
            return None;
        }
        nodes.get_mut(first as usize)?.next = free;
        (self.nodes.first_free, self.nodes.free) = (first, self.nodes.free + 1);
        let parent = nodes.get_mut(top as usize)?;
        parent.more &= !(1 << place);
        *tables.shadow(parent.bucket as usize, place * GROUP_PAGES)? = NIL;
        *tables.shadow.get_mut(table)?.as_chunks_mut().0.get_mut(there)? = [NIL; GROUP_PAGES];
        spaces.get_mut(usize::from(space))?.used.nodes -= 1;
        let take = |used, cell: &AtomicU64| used | Entry(cell.swap(0, Ordering::Relaxed)).used_bits();
        let seen = Entry::usage_of(cells.iter().fold(0, take));
        tlb.invalidate(space, at, GROUP_BITS);
        tlb.sync();
        let told = Entry::INVALID.told(seen);
        if told.0 & !leaf.entry.0 != 0 {
            leaf.cell.fetch_or(told.0, Ordering::Relaxed);
        }
        Some(Status { seen, touched: 1 })
    }
}
