//! Several single pages of one message, as [`crate::fast`] has them one by one: what a pager answers that establishes the pages around a
//! fault, too.
//!
//! All of them go to one table that is there, in ascending order, so none is in another one's way. Mostly they come from one block, which is
//! looked for once. Nothing that can be in the way of a later page is known when the first is mapped; if there is something, those
//! that were mapped are taken back. Nobody sees that: the caller has the lock, and the taker does not run.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Fpage;
use skerry_abi::layout::{PINNED_BASE, PINNED_END, USER_END};
use skerry_checks::{Check, passes};

use crate::arena::{ENTRIES, NIL};
use crate::descriptor::Entry;
use crate::node::Node;
use crate::walk::PAGE_BITS;
use crate::{MappingDb, Tlb};

/// Bits of an address below which all pages of one table lie.
const TABLE_BITS: u32 = 21;

/// Sources and destinations, a pair of words each, where a message has them.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'w> {
    /// The first pair.
    pub first: [u64; 2],
    /// Pairs with these `flags` in the second word.
    pub joined: &'w [u64],
    /// More of them.
    pub more: &'w [AtomicU64],
    /// See there.
    pub flags: u64,
}

impl Pairs<'_> {
    fn count(&self) -> u32 {
        (1 + self.joined.len() / 2 + self.more.len() / 2) as u32
    }
    /// The destination of a pair.
    fn dest(&self, index: usize) -> Option<u64> {
        let joined = self.joined.len() / 2;
        match index.checked_sub(1) {
            None => Some(self.first[1]),
            Some(at) if at < joined => Some(self.joined[2 * at + 1] ^ self.flags),
            Some(at) => Some(self.more.get(2 * (at - joined) + 1)?.load(Ordering::Relaxed) ^ self.flags),
        }
    }
}

/// Where pages come from, as long as they come from there.
struct Giver {
    entry: Entry,
    /// Its node, and the table with the lists of what was derived from it.
    parent: u32,
    buckets: usize,
    bits: u32,
    base: u64,
}

impl Giver {
    const NONE: Self = Self { entry: Entry::INVALID, parent: NIL, buckets: 0, bits: 0, base: u64::MAX };
}

/// Where they go to.
struct Taker<'a> {
    slot: u16,
    table: usize,
    cells: &'a [AtomicU64; ENTRIES],
    /// The lowest destination that the next one may have, and the first address behind the table's.
    lowest: u64,
    end: u64,
}

impl MappingDb<'_> {
    /// Maps single pages that a message gives, with the cacheability they have, if that is simple for all of them; then how many, and the caller
    /// publishes the new entries ([`Tlb::publish`]). `None`: it is not simple, and nothing has been done.
    pub fn map_pages(&mut self, tlb: &mut impl Tlb, from: u16, to: u16, pairs: &Pairs<'_>) -> Option<u32> {
        let count = pairs.count();
        let taker = self.spaces.get(usize::from(to))?;
        // (The database is held if no free node is to be seen.)
        let room = self.nodes.first_free != NIL
            && self.nodes.free > count
            && taker.quota.nodes.saturating_sub(taker.used.nodes) >= count;
        if !room {
            return None;
        }
        let mut done = 0;
        let all = self.map_run(from, to, pairs, &mut done);
        self.nodes.free -= done;
        self.account(to).used.nodes += done;
        if all.is_none() {
            self.take_back(tlb, to, pairs, done);
            return None;
        }
        Some(done)
    }

    /// Takes back the first `count` pages, which are mapped.
    #[cold]
    #[inline(never)]
    fn take_back(&mut self, tlb: &mut impl Tlb, to: u16, pairs: &Pairs<'_>, count: u32) {
        for va in (0..count as usize).filter_map(|index| pairs.dest(index)) {
            let taker = &mut self.spaces[usize::from(to)];
            let Some((table, cell)) = self.tables.glance().page(taker, va) else { continue };
            cell.store(Entry::INVALID.0, Ordering::Relaxed);
            let index = (va >> PAGE_BITS) as usize % ENTRIES;
            let node = self.tables.shadow(table as u32, index);
            self.tables.set_shadow(table as u32, index, NIL);
            self.release(node);
            tlb.invalidate(to, va, PAGE_BITS);
        }
        tlb.sync();
    }

    /// Maps as many as are simple.
    #[inline(always)]
    fn map_run(&mut self, from: u16, to: u16, pairs: &Pairs<'_>, done: &mut u32) -> Option<()> {
        let first = pairs.first[1];
        if first & !(USER_END - (1 << PAGE_BITS)) != 0 {
            return None;
        }
        let tables = self.tables.glance();
        let (table, _) = tables.page(self.spaces.get_mut(usize::from(to))?, first)?;
        let cells = &tables.hardware.get(table)?.0;
        let end = ((first >> TABLE_BITS) + 1) << TABLE_BITS;
        let mut taker = Taker { slot: to, table, cells, lowest: first, end };
        let mut giver = Giver::NONE;
        let [source, dest] = pairs.first;
        self.map_next(from, (source, dest), &mut giver, &mut taker)?;
        *done += 1;
        for &[source, second] in pairs.joined.as_chunks::<2>().0 {
            self.map_next(from, (source, second ^ pairs.flags), &mut giver, &mut taker)?;
            *done += 1;
        }
        for [source, second] in pairs.more.as_chunks::<2>().0 {
            let (source, second) = (source.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
            self.map_next(from, (source, second ^ pairs.flags), &mut giver, &mut taker)?;
            *done += 1;
        }
        Some(())
    }

    #[inline(always)]
    fn map_next(
        &mut self,
        from: u16,
        (source, dest): (u64, u64),
        giver: &mut Giver,
        taker: &mut Taker<'_>,
    ) -> Option<()> {
        let src = Fpage::decode_page(source)?;
        let pinned = dest.wrapping_sub(PINNED_BASE) < PINNED_END - PINNED_BASE;
        let pinned = !passes(Check::FastPagesPinned, !pinned);
        // Other bits than the flags are no page's.
        let in_order = dest.wrapping_sub(taker.lowest) < taker.end - taker.lowest;
        let aligned = dest & ((1 << PAGE_BITS) - 1) == 0;
        if !(in_order && aligned) || pinned || src.rights().is_empty() {
            return None;
        }
        taker.lowest = dest + (1 << PAGE_BITS);
        if (src.base() ^ giver.base) >> giver.bits != 0 {
            *giver = self.giver_of(from, src.base())?;
        }
        let mut tables = self.tables.quick()?;
        let nodes = &mut *self.nodes.nodes;
        let at = (dest >> PAGE_BITS) as usize % ENTRIES;
        let cell = &taker.cells[at];
        if !passes(Check::FastPagesOccupied, cell.load(Ordering::Relaxed) == 0) {
            return None;
        }
        let index = self.nodes.first_free;
        let node = nodes.get_mut(index as usize)?;
        let free = node.next;
        let inside = src.base() - giver.base;
        let head = tables.shadow(giver.buckets, (inside >> (giver.bits - 9)) as usize)?;
        let next = core::mem::replace(head, index);
        *node = Node::page(taker.slot, dest, giver.parent, inside, taker.table as u32, next);
        if next != NIL {
            nodes.get_mut(next as usize)?.prev = index;
        }
        self.nodes.first_free = free;
        *tables.shadow(taker.table, at)? = index;
        let child = giver.entry.child_page(inside, src.rights());
        let unlimited = passes(Check::FastPagesRights, false);
        let child = if unlimited { child.with_rights(src.rights()) } else { child };
        cell.store(child.0, Ordering::Relaxed);
        Some(())
    }

    /// What a page lies in that is larger, and is whole.
    #[inline(never)]
    fn giver_of(&mut self, from: u16, va: u64) -> Option<Giver> {
        let mut tables = self.tables.quick()?;
        let leaf = tables.leaf(self.spaces.get_mut(usize::from(from))?, va)?;
        let (entry, bits) = (leaf.entry, leaf.slot.bits);
        let parent = *tables.shadow(leaf.slot.table as usize, leaf.slot.index)?;
        if bits == PAGE_BITS || parent == NIL || entry.is_piece() {
            return None;
        }
        let buckets = self.nodes.nodes.get(parent as usize)?.bucket;
        let buckets = Some(buckets).filter(|&table| table != NIL)? as usize;
        Some(Giver { entry, parent, buckets, bits, base: va >> bits << bits })
    }
}
