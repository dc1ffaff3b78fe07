//! Changing the entries of one mapping: removal, restriction, widening, status; and the splitting that it takes.

use core::ops::Range;

use skerry_abi::{Error, Rights};

use crate::arena::{ENTRIES, Left, NIL, Need, Slot};
use crate::budget::{Budget, GLANCE, MAPPING, PIECE, SCAN, SPLIT, TABLE};
use crate::descriptor::Entry;
use crate::walk::{GROUP_BITS, PAGE_BITS, TOP_BITS};
use crate::{MappingDb, Status, Tlb};

/// An entry: its slot, and the space and address it translates.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) slot: Slot,
    pub(crate) space: u16,
    pub(crate) va: u64,
}

/// What to do with the entries of a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Remove them.
    Remove,
    /// Take these rights away; what is not affected is not reported.
    Restrict(Rights),
    /// Report and forget what was accessed and written.
    Reset,
    /// Add these rights.
    Widen(Rights),
    /// Note what mappings below did that are gone now.
    Note(Rights),
    /// Note what the space was told; with `true` that this was all there was to tell.
    Told(Rights, bool),
}

impl Op {
    /// What becomes of an entry. `whole` says that the operation concerns all of it.
    #[inline]
    pub(crate) fn on(self, entry: Entry, whole: bool) -> Entry {
        match self {
            Self::Remove => Entry::INVALID,
            Self::Restrict(rights) if (entry.rights() & rights).is_empty() => entry,
            Self::Restrict(rights) => entry.with_rights(entry.rights().without(rights)).reset(),
            Self::Reset if whole => entry.reset(),
            Self::Reset => entry,
            Self::Widen(rights) => entry.with_rights(entry.rights() | rights),
            Self::Note(add) => entry.with_history(add),
            Self::Told(add, true) => entry.without_history().told(add),
            Self::Told(add, false) => entry.told(add),
        }
    }
    /// Whether an entry that reaches beyond the range must be split for it.
    pub(crate) fn splits(self, has: Rights) -> bool {
        match self {
            Self::Remove => true,
            Self::Restrict(rights) => !(has & rights).is_empty(),
            Self::Widen(rights) => !has.contains(rights),
            Self::Reset | Self::Note(_) | Self::Told(..) => false,
        }
    }
}

impl MappingDb<'_> {
    /// Does `op` to what is left of a mapping between the offsets `range`, and frees the node if nothing is left then.
    ///
    /// # Errors
    /// The budget is spent: from which offset on it is to be continued.
    pub(crate) fn apply(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        range: Range<u64>,
        op: Op,
        status: &mut Status,
        budget: &mut Budget,
    ) -> Result<(), u64> {
        let (space, va, bits) = {
            let node = self.nodes.get(node);
            (node.space(), node.va(), node.bits())
        };
        if bits == GROUP_BITS {
            return self.apply_to_group(tlb, node, range, op, status, budget);
        }
        let slot = self.slot_of(node);
        let at = At { slot, space, va };
        let entry = self.tables.load(slot.table, slot.index);
        if entry.is_leaf(bits) {
            let whole = range == (0..1 << bits);
            if whole || !op.splits(entry.rights()) {
                let afford = match op {
                    Op::Remove => self.free_reserve(node, MAPPING, budget),
                    _ => budget.take(MAPPING),
                };
                if !afford {
                    return Err(range.start);
                }
                self.apply_to_entry(tlb, at, op, whole, status);
                if matches!(op, Op::Remove) {
                    self.release(node);
                }
                return Ok(());
            }
            let table = self.nodes.get(node).bucket;
            if table == NIL {
                debug_assert!(false, "a root mapping cannot be split");
                return Ok(());
            }
            if !budget.take(SPLIT) {
                return Err(range.start);
            }
            self.split(tlb, at, table);
        }
        let last = range.end - (1 << PAGE_BITS);
        // The way here, however few pieces follow.
        budget.reduce(MAPPING);
        let lives = self.apply_to_pieces(tlb, node, range, op, status, budget)?;
        // Where it stopped nothing is left to do but this. A table that was just found to have a piece need not be found again: two such
        // scans are more than the budget of a kernel entry.
        let settled = lives || !matches!(op, Op::Remove) || self.retire_split(tlb, node, slot, budget);
        if settled { Ok(()) } else { Err(last) }
    }

    /// Does `op` to the pieces of a split mapping. The result is that of [`MappingDb::apply`], with whether a piece that is left was seen.
    fn apply_to_pieces(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        range: Range<u64>,
        op: Op,
        status: &mut Status,
        budget: &mut Budget,
    ) -> Result<bool, u64> {
        let mut lives = false;
        let owner = *self.nodes.get(node);
        let (space, bits) = (owner.space(), owner.bits() - 9);
        let mut at = range.start;
        while at < range.end {
            // Holes cost little, but there can be hundreds. (The first one is part of the way here: the budget stays fresh.)
            budget.reduce(GLANCE);
            if at != range.start && budget.is_used_up() {
                return Err(at);
            }
            let base = at & !((1 << bits) - 1);
            let end = range.end.min(base + (1 << bits));
            let slot = Slot { table: owner.bucket, index: (at >> bits) as usize % ENTRIES, bits };
            let entry = self.tables.load(slot.table, slot.index);
            let piece = At { slot, space, va: owner.va() + base };
            let inside = at - base..end - base;
            if entry.is_piece() && entry.is_leaf(bits) {
                let whole = at == base && end == base + (1 << bits);
                let split = !whole && op.splits(entry.rights());
                if !budget.take(if split { SPLIT } else { PIECE }) {
                    return Err(at);
                }
                if split {
                    let table = self.take_reserved(node);
                    self.split(tlb, piece, table);
                    lives |= self
                        .apply_to_small_pieces(tlb, piece, inside, op, status, budget)
                        .map_err(|at| base + at)?;
                } else {
                    self.apply_to_entry(tlb, piece, op, whole, status);
                }
            } else if entry.is_piece() {
                lives |= self
                    .apply_to_small_pieces(tlb, piece, inside, op, status, budget)
                    .map_err(|at| base + at)?;
            }
            at = end;
        }
        Ok(lives)
    }

    /// Does `op` to the 4 KiB pieces in the table that the descriptor `at` points to. The result is that of [`MappingDb::apply_to_pieces`].
    fn apply_to_small_pieces(
        &mut self,
        tlb: &mut impl Tlb,
        at: At,
        range: Range<u64>,
        op: Op,
        status: &mut Status,
        budget: &mut Budget,
    ) -> Result<bool, u64> {
        let At { slot, space, va } = at;
        let descriptor = self.tables.load(slot.table, slot.index);
        let table = self.tables.index(descriptor);
        for index in (range.start >> PAGE_BITS) as usize..(range.end >> PAGE_BITS) as usize {
            let offset = (index as u64) << PAGE_BITS;
            budget.reduce(GLANCE);
            if offset != range.start && budget.is_used_up() {
                return Err(offset);
            }
            if self.tables.load(table, index).is_piece() {
                if !budget.take(PIECE) {
                    return Err(offset);
                }
                let slot = Slot { table, index, bits: PAGE_BITS };
                self.apply_to_entry(tlb, At { slot, space, va: va + offset }, op, true, status);
            }
        }
        if matches!(op, Op::Remove) {
            if !budget.take(SCAN) {
                return Err(range.end - (1 << PAGE_BITS));
            }
            let left = self.tables.left(table);
            if left == Left::Pieces {
                return Ok(true);
            }
            // Not part of the split mapping any more; what other mappings keep in it stays.
            self.tables.store(slot, descriptor.adopted());
            if left == Left::Nothing && self.is_ordinary(slot) {
                self.drop_empty(tlb, space, slot, va);
            }
        }
        Ok(false)
    }

    /// Does `op` to one leaf. `whole` says that the operation concerns all of it: else its state is only read.
    #[inline]
    pub(crate) fn apply_to_entry(
        &mut self,
        tlb: &mut impl Tlb,
        at: At,
        op: Op,
        whole: bool,
        status: &mut Status,
    ) {
        let At { slot, space, va } = at;
        let change = |entry: Entry| op.on(entry, whole);
        let old = if let Op::Remove = op {
            self.tables.set_shadow(slot.table, slot.index, NIL);
            self.tables.take(slot)
        } else {
            self.tables.update(slot, change)
        };
        let changed = change(old) != old;
        if let Op::Note(_) | Op::Told(..) = op {
            return; // software bits only: no TLB holds them
        }
        if changed || matches!(op, Op::Reset) {
            status.seen = status.seen | old.usage();
        }
        if changed {
            status.touched += 1;
            tlb.invalidate(space, va, slot.bits);
        }
    }

    /// Replaces the leaf in `slot` by the table `table` of its 512 pieces, with break-before-make (D8.16, "TLB
    /// maintenance"). Nodes and lists of children stay as they are.
    fn split(&mut self, tlb: &mut impl Tlb, at: At, table: u32) {
        let At { slot, space, va } = at;
        let old = self.tables.take(slot);
        tlb.invalidate(space, va, slot.bits);
        tlb.sync();
        let bits = slot.bits - 9;
        self.tables.fill(table, old.piece(bits, 0).0, 1 << bits);
        self.tables.store(slot, Entry::table(self.tables.pa(table), old.is_piece()));
        tlb.publish();
    }

    /// A table to split a 2 MiB piece of a 1 GiB mapping with. There is one for each piece.
    fn take_reserved(&mut self, node: u32) -> u32 {
        let table = self.nodes.get(node).more;
        debug_assert!(table != NIL, "the reserve of a split mapping covers all its pieces");
        let rest = self.tables.shadow(table, 0);
        self.tables.set_shadow(table, 0, NIL);
        self.nodes.get_mut(node).more = rest;
        table
    }

    /// If no piece of a split mapping is left: its node goes, and its table too unless other mappings lie in the holes. `false`: the
    /// budget is spent.
    fn retire_split(&mut self, tlb: &mut impl Tlb, node: u32, slot: Slot, budget: &mut Budget) -> bool {
        let table = self.nodes.get(node).bucket;
        if !budget.take(SCAN) {
            return false;
        }
        let left = self.tables.left(table);
        if left == Left::Pieces {
            return true;
        }
        if !self.free_reserve(node, 0, budget) {
            return false;
        }
        let owner = *self.nodes.get(node);
        self.tables.set_shadow(slot.table, slot.index, NIL); // an ordinary table from now on
        self.nodes.get_mut(node).bucket = NIL;
        if left == Left::Nothing && self.is_ordinary(slot) {
            self.drop_empty(tlb, owner.space(), slot, owner.va());
        }
        self.release(node);
        true
    }

    /// Frees the tables that a mapping of 1 GiB holds to split its pieces with, when the mapping is about to go. `false`: the budget is
    /// spent before `cost` could be taken for what comes next.
    fn free_reserve(&mut self, node: u32, cost: u32, budget: &mut Budget) -> bool {
        let owner = *self.nodes.get(node);
        if owner.bits() != TOP_BITS || owner.more == NIL {
            return budget.take(cost);
        }
        // One is always freed: what was taken before allows it.
        let mut next = owner.more;
        loop {
            let table = next;
            next = self.tables.shadow(table, 0);
            self.tables.set_shadow(table, 0, NIL);
            self.free_table(owner.space(), table);
            self.nodes.get_mut(node).more = next;
            if next == NIL {
                return budget.take(cost);
            }
            if !budget.take(TABLE) {
                return false;
            }
        }
    }

    /// Frees a node without children and without entries, and the table it holds in reserve.
    pub(crate) fn release(&mut self, node: u32) {
        self.nodes.unlink(&mut self.tables, node);
        let owner = *self.nodes.get(node);
        if !owner.is_in_last_table() {
            debug_assert!(owner.more == NIL);
            if owner.bucket != NIL {
                self.free_table(owner.space(), owner.bucket);
            }
        }
        self.nodes.dealloc(node);
        self.account(owner.space()).used.nodes -= 1;
    }

    pub(crate) fn free_table(&mut self, space: u16, table: u32) {
        self.tables.dealloc(table);
        let space = self.account(space);
        space.used.tables -= 1;
        if space.recent == table {
            (space.recent, space.region) = (NIL, u32::MAX);
        }
    }

    /// Takes a table for `space`. The need was admitted before, so this only fails on a broken invariant.
    pub(crate) fn new_table(&mut self, space: u16) -> Result<u32, Error> {
        let table = self.tables.alloc().ok_or(Error::OutOfKernelMemory)?;
        self.account(space).used.tables += 1;
        Ok(table)
    }

    /// Whether arena and quota allow a need.
    pub(crate) fn admit(&self, space: u16, need: Need) -> Result<(), Error> {
        if need.tables > self.tables.available() || need.nodes > self.nodes.free() {
            return Err(Error::OutOfKernelMemory);
        }
        self.spaces[usize::from(space)].admits(need)
    }
}
