//! Mappings of 64 KiB: sixteen pages side by side in one table, tied together by the contiguous hint.
//!
//! A group has one node, and the shadow word of each of its pages names it. As long as it is whole, its entries are alike but for what
//! the MMU writes into them: it may note an access or a write in any of the sixteen, so how a group was used is the union. They are changed
//! together, and their TLB entries invalidated together; whether a TLB holds one entry or sixteen is not known, so all sixteen
//! addresses are. Rights change in place: while they do, the MMU may go by the old or the new ones, as before any invalidation.
//!
//! If a part is treated differently, the hint goes first, with break-before-make for all sixteen (D8.7, "The Contiguous bit": entries
//! that differ while the hint is set are a programming error). The table to split it into is the one that it is in, so there is nothing
//! to reserve. It is never tied together again; whoever wants that maps it anew.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::apply::{At, Op};
use crate::arena::{GROUP_PAGES, Slot};
use crate::budget::{Budget, GROUP, GROUP_CHANGE, GROUP_PARTS, MAPPING};
use crate::descriptor::Entry;
use crate::walk::{GROUP_BITS, PAGE_BITS, Place};
use crate::{MappingDb, Status, Tlb};

impl MappingDb<'_> {
    /// The group that is whole, one of whose entries is this one.
    #[cold]
    pub(crate) fn group_at(&self, table: u32, index: usize, node: u32) -> Place {
        let index = index / GROUP_PAGES * GROUP_PAGES;
        let slot = Slot { table, index, bits: GROUP_BITS };
        Place { slot, entry: self.tables.load(table, index), node }
    }

    /// [`MappingDb::apply`] for a group. What it does to parts of one is done in one go.
    pub(crate) fn apply_to_group(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        range: Range<u64>,
        op: Op,
        status: &mut Status,
        budget: &mut Budget,
    ) -> Result<(), u64> {
        let owner = *self.nodes.get(node);
        let at = At { slot: self.slot_of(node), space: owner.space(), va: owner.va() };
        let entry = self.tables.load(at.slot.table, at.slot.index);
        // If the first page is gone, something else that is there can be no group.
        let tied = entry.is_contiguous();
        let whole = range == (0..1 << GROUP_BITS);
        let together = tied && (whole || !op.splits(entry.rights()));
        let cost = match op {
            _ if !together => GROUP_PARTS,
            Op::Remove | Op::Note(_) | Op::Told(..) => GROUP,
            Op::Restrict(_) | Op::Reset | Op::Widen(_) => GROUP_CHANGE,
        };
        if !budget.take(MAPPING + cost) {
            return Err(range.start);
        }
        if together {
            self.apply_to_all(tlb, at, op, whole, status);
        } else {
            if tied {
                self.untie(tlb, at);
            }
            self.apply_to_some(tlb, node, at, range.clone(), op, status);
        }
        if let Op::Remove = op {
            if !self.tables.group_shadow(at.slot).contains(&node) {
                self.release(node);
            } else if range.start == 0 {
                self.nodes.loosen(&mut self.tables, node);
            }
        }
        Ok(())
    }

    /// Does `op` to a group that is whole.
    fn apply_to_all(&mut self, tlb: &mut impl Tlb, at: At, op: Op, whole: bool, status: &mut Status) {
        let (mut used, mut changed) = (0, true);
        match op {
            // What is noted is noted in the first entry.
            Op::Note(_) | Op::Told(..) => return self.apply_to_entry(tlb, at, op, whole, status),
            Op::Remove => used = self.tables.remove(at.slot).used_bits(),
            _ => {
                changed = false;
                for index in at.slot.index..at.slot.index + GROUP_PAGES {
                    let old = self.tables.update(Slot { index, ..at.slot }, |entry| op.on(entry, whole));
                    used |= old.used_bits();
                    changed |= op.on(old, whole) != old;
                }
            }
        }
        if changed || matches!(op, Op::Reset) {
            status.seen = status.seen | Entry::usage_of(used);
        }
        if changed {
            status.touched += 1;
            tlb.invalidate(at.space, at.va, GROUP_BITS);
        }
    }

    /// Does `op` to what is left of a split group in this range.
    fn apply_to_some(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        at: At,
        range: Range<u64>,
        op: Op,
        status: &mut Status,
    ) {
        for offset in range.step_by(1 << PAGE_BITS) {
            let index = at.slot.index + (offset >> PAGE_BITS) as usize;
            if self.tables.shadow(at.slot.table, index) == node {
                let slot = Slot { index, bits: PAGE_BITS, ..at.slot };
                self.apply_to_entry(tlb, At { slot, va: at.va + offset, ..at }, op, true, status);
            }
        }
    }

    /// Makes a group sixteen pages, with break-before-make. Each has been used as much as the group has.
    fn untie(&mut self, tlb: &mut impl Tlb, at: At) {
        let first = self.tables.take_group(at.slot);
        tlb.invalidate(at.space, at.va, GROUP_BITS);
        tlb.sync();
        for (index, cell) in (0..).zip(self.tables.group(at.slot)) {
            cell.store(first.alone(index).0, Ordering::Relaxed);
        }
        tlb.publish();
    }
}
