//! Spaces: creation, destruction, and the mappings that are not derived from others.

use skerry_abi::{Error, Fpage, Rights, layout};

use crate::apply::Op;
use crate::arena::{ENTRIES, NIL, Need, Quota, Slot, SpaceTables};
use crate::budget::{AT_ONCE, BEGIN, BUCKETS, Budget, LOOK};
use crate::descriptor::{Attr, Entry};
use crate::node::Node;
use crate::walk::{BLOCK_BITS, PAGE_BITS, TOP_BITS};
use crate::{MappingDb, Tlb};

/// Passes on everything but the invalidation of pages of one space, whose pages go all at once. Larger entries are
/// invalidated all the same: one may be split on the way, and must be broken first.
struct Except<'t, T> {
    tlb: &'t mut T,
    space: u16,
}

impl<T: Tlb> Tlb for Except<'_, T> {
    fn publish(&mut self) {
        self.tlb.publish();
    }
    fn invalidate(&mut self, space: u16, va: u64, bits: u32) {
        if space != self.space || bits != PAGE_BITS {
            self.tlb.invalidate(space, va, bits);
        }
    }
    fn invalidate_space(&mut self, space: u16) {
        self.tlb.invalidate_space(space);
    }
    fn sync(&mut self) {
        self.tlb.sync();
    }
}

/// Pages of the kernel's own that a space has from its beginning to its end, one behind the other, and can only read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pinned {
    /// Where they are mapped.
    pub va: u64,
    /// The first.
    pub pa: u64,
    /// How many.
    pub pages: u64,
}

impl Pinned {
    /// None.
    pub const NONE: Self = Self { va: 0, pa: 0, pages: 0 };

    /// Tables below the root that they take.
    const fn tables(self) -> u64 {
        if self.pages == 0 {
            return 0;
        }
        let last = self.va + ((self.pages - 1) << PAGE_BITS);
        (last >> TOP_BITS) - (self.va >> TOP_BITS) + (last >> BLOCK_BITS) - (self.va >> BLOCK_BITS) + 2
    }
}

impl MappingDb<'_> {
    /// Begins a space: an empty root table, charged to the quota like everything that will be made for the space.
    ///
    /// # Errors
    /// As for [`MappingDb::space_create_with`].
    pub fn space_create(&mut self, slot: u16, quota: impl Into<Quota>) -> Result<(), Error> {
        self.space_create_with(slot, quota, Pinned::NONE)
    }

    /// Begins a space in which some pages are mapped as by [`MappingDb::map_pinned`]. The caller publishes. All of it or, after an
    /// error, nothing: what there would be to undo is something that the database may be held against at this moment.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if there is no such slot or the pages are none to pin, [`Error::WrongState`] if it is in use,
    /// [`Error::OutOfKernelMemory`].
    pub fn space_create_with(
        &mut self,
        slot: u16,
        quota: impl Into<Quota>,
        pinned: Pinned,
    ) -> Result<(), Error> {
        let space = self.spaces.get(usize::from(slot)).ok_or(Error::BadArgument)?;
        if space.root != NIL {
            return Err(Error::WrongState);
        }
        let Pinned { va, pa, pages } = pinned;
        let page = |from: u64, page: u64| from.saturating_add(page << PAGE_BITS);
        let sound = pages <= layout::USER_END >> PAGE_BITS
            && !(0..pages).any(|n| self.is_unfit(page(va, n), page(pa, n)));
        if !sound {
            return Err(Error::BadArgument);
        }
        let need = Need { tables: 1 + pinned.tables() as u32, nodes: 0 };
        let fresh = SpaceTables { quota: quota.into(), ..SpaceTables::default() };
        fresh.admits(need)?;
        if need.tables > self.tables.available() {
            return Err(Error::OutOfKernelMemory);
        }
        // From here on nothing fails.
        *self.account(slot) = fresh;
        let root = self.new_table(slot)?;
        self.account(slot).root = root;
        (0..pages).try_for_each(|n| self.map_pinned(slot, page(va, n), page(pa, n), false))
    }

    /// Ends a space: revokes everything that was mapped on from it, removes all its mappings (pinned ones too), and frees
    /// every table and node. No thread may run in the space any more. Nothing happens if there is no such space.
    pub fn space_destroy(&mut self, slot: u16, tlb: &mut impl Tlb) {
        while !self.space_destroy_step(slot, tlb, &mut Budget::new(u32::MAX)) {}
    }

    /// A step towards that. Whether it was the last. In between nobody may map anything into the space or from it. It must not be held by
    /// anything else at the beginning; what it is held by afterwards, anybody may complete.
    pub fn space_destroy_step(&mut self, slot: u16, tlb: &mut impl Tlb, budget: &mut Budget) -> bool {
        let Ok(root) = self.live_root(slot) else { return true };
        let mut others = Except { tlb, space: slot };
        let mut va = u64::from(self.account(slot).cleared) << PAGE_BITS;
        while va < layout::USER_END {
            let next = self.clear(root, slot, &mut others, va, budget);
            va = next.unwrap_or(va);
            self.account(slot).cleared = (va >> PAGE_BITS) as u32;
            if next.is_none() {
                others.sync();
                return false;
            }
        }
        self.free_table(slot, root);
        let space = self.account(slot);
        debug_assert_eq!(space.used, Quota::default(), "all of the space's memory came back");
        *space = SpaceTables::default();
        // No CPU walks the tables of a space without threads, so tables that were freed before this are not looked at.
        tlb.invalidate_space(slot);
        tlb.sync();
        true
    }

    /// Removes what is mapped at `va`, and the tables that nothing behind it needs. Where to go on; `None`: here.
    fn clear(
        &mut self,
        root: u32,
        slot: u16,
        tlb: &mut impl Tlb,
        va: u64,
        budget: &mut Budget,
    ) -> Option<u64> {
        if self.is_held() {
            self.go_on(tlb, budget)?;
        }
        let place = self.descend(root, va, PAGE_BITS);
        let mut end = place.end(va);
        if place.is_mapping() {
            budget.take(LOOK + BEGIN).then_some(())?;
            // The pieces of a split mapping go all at once; what lies in its holes does not.
            let whole = va..self.nodes.get(place.node).end();
            self.progress.revocation = self.revocation(&place, whole, Op::Remove, true);
            self.progress.end = end;
            self.go_on(tlb, budget)?;
        } else if place.entry.is_valid() {
            budget.take(LOOK).then_some(())?;
            self.tables.store(place.slot, Entry::INVALID);
        } else {
            // On to the next entry of this table.
            let Slot { table, index, bits } = place.slot;
            budget.take(BUCKETS).then_some(())?;
            let next = self.tables.next_entry(table, index, ENTRIES.min(index + AT_ONCE));
            end = (va & !((1 << bits) - 1)) + (((next - index) as u64) << bits);
        }
        for bits in [BLOCK_BITS, TOP_BITS] {
            if end & ((1 << bits) - 1) != 0 {
                break;
            }
            let place = self.descend(root, va, bits);
            if place.slot.bits == bits && place.entry.is_table(bits) {
                self.tables.store(place.slot, Entry::INVALID);
                self.free_table(slot, self.tables.index(place.entry));
            }
        }
        Some(end)
    }

    /// Makes a root of a mapping tree: memory that the space has by itself, at boot. It stays until the space is destroyed.
    /// The caller publishes.
    ///
    /// # Errors
    /// As for [`MappingDb::map`]; [`Error::BadArgument`] also for a size that is not the hardware's.
    pub fn map_root(
        &mut self,
        slot: u16,
        va: u64,
        pa: u64,
        bits: u32,
        rights: Rights,
        attr: Attr,
    ) -> Result<(), Error> {
        let place = Fpage::new(va, bits, rights).ok_or(Error::BadArgument)?;
        let pinned = va < layout::PINNED_END && place.end() > layout::PINNED_BASE;
        let usable = pa & (place.size() - 1) == 0 && pa >> 48 == 0 && !self.tables.overlaps(pa, bits);
        if !matches!(bits, 12 | 21 | 30)
            || place.end() > layout::USER_END
            || rights.is_empty()
            || pinned
            || !usable
        {
            return Err(Error::BadArgument);
        }
        let free = self.free_slot(slot, va, bits, 1)?;
        let entry = Entry::leaf(pa, bits, rights | Rights::R, attr);
        self.install(slot, free, bits, va, entry, Node::new(slot, va, bits, NIL, 0)).map(|_| ())
    }

    /// What the space may use from now on. What it has already stays, even if it is more.
    ///
    /// # Errors
    /// [`Error::NoSuchSpace`].
    pub fn set_quota(&mut self, slot: u16, quota: impl Into<Quota>) -> Result<(), Error> {
        self.live_root(slot)?;
        self.account(slot).quota = quota.into();
        Ok(())
    }

    /// Maps a page of the kernel's own that belongs to no mapping tree: items can neither be mapped from it nor over it, and no
    /// unmap takes it away. It is readable at EL0; a writable one is the space's alone and charged to it. The caller publishes.
    ///
    /// # Errors
    /// [`Error::BadArgument`], [`Error::NoSuchSpace`], [`Error::AlreadyMapped`], [`Error::OutOfKernelMemory`].
    pub fn map_pinned(&mut self, slot: u16, va: u64, pa: u64, writable: bool) -> Result<(), Error> {
        if self.is_unfit(va, pa) {
            return Err(Error::BadArgument);
        }
        let free = self.free_slot(slot, va, PAGE_BITS, 0)?;
        let own = u32::from(writable);
        self.spaces[usize::from(slot)]
            .admits(Need { tables: (free.bits - PAGE_BITS) / 9 + own, nodes: 0 })?;
        self.account(slot).pages += own;
        let page = self.hang_tables(slot, free, PAGE_BITS, va)?;
        self.tables.store(page, Entry::pinned(pa, writable));
        Ok(())
    }

    /// Whether this is no page to pin.
    #[inline(always)]
    fn is_unfit(&self, va: u64, pa: u64) -> bool {
        (va | pa) & 0xfff != 0
            || va >= layout::USER_END
            || pa >> 48 != 0
            || self.tables.overlaps(pa, PAGE_BITS)
    }

    /// Removes a page that [`MappingDb::map_pinned`] mapped; anything else is left alone.
    pub fn unmap_pinned(&mut self, tlb: &mut impl Tlb, slot: u16, va: u64) {
        let Ok(root) = self.live_root(slot) else { return };
        if va >= layout::USER_END {
            return;
        }
        let place = self.descend(root, va, PAGE_BITS);
        if place.entry.is_leaf(place.slot.bits) && place.node == NIL {
            self.tables.store(place.slot, Entry::INVALID);
            self.account(slot).pages -= u32::from(place.entry.rights().contains(Rights::W));
            tlb.invalidate(slot, va, PAGE_BITS);
            tlb.sync();
        }
    }

    /// Where a walk for a new entry without parent ends, if the place is free and quota and arena allow what it takes.
    fn free_slot(&self, space: u16, va: u64, bits: u32, nodes: u32) -> Result<Slot, Error> {
        let place = self.descend(self.live_root(space)?, va, bits);
        if place.entry.is_valid() {
            return Err(Error::AlreadyMapped);
        }
        self.admit(space, Need { tables: (place.slot.bits - bits) / 9, nodes })?;
        Ok(place.slot)
    }
}
