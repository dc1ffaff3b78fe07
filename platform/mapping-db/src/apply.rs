//! Changing the entries of one mapping: removal, restriction, widening, status; and the splitting that it takes.

use skerry_abi::{Error, Rights};

use crate::arena::{ENTRIES, NIL, Need, Slot};
use crate::descriptor::Entry;
use crate::walk::PAGE_BITS;
use crate::{MappingDb, Status, Tlb};

/// An entry: its slot, and the space and address it translates.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) slot: Slot,
    pub(crate) space: u16,
    pub(crate) va: u64,
}

/// What to do with the entries of a mapping.
#[derive(Clone, Copy)]
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
    /// Whether an entry that reaches beyond the range must be split for it.
    fn splits(self, has: Rights) -> bool {
        match self {
            Self::Remove => true,
            Self::Restrict(rights) => !(has & rights).is_empty(),
            Self::Widen(rights) => !has.contains(rights),
            Self::Reset | Self::Note(_) | Self::Told(..) => false,
        }
    }
}

impl MappingDb<'_> {
    /// Does `op` to what is left of a mapping between the offsets `low..high`, and frees the node if nothing is left then.
    pub(crate) fn apply(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        low: u64,
        high: u64,
        op: Op,
        status: &mut Status,
    ) {
        let (space, va, bits) = {
            let node = self.nodes.get(node);
            (node.space(), node.va(), node.bits())
        };
        let slot = self.slot_of(node);
        let at = At { slot, space, va };
        let entry = self.tables.load(slot.table, slot.index);
        if entry.is_leaf(bits) {
            let whole = low == 0 && high == 1 << bits;
            if whole || !op.splits(entry.rights()) {
                self.apply_to_entry(tlb, at, op, whole, status);
                if matches!(op, Op::Remove) {
                    self.release(node);
                }
                return;
            }
            let table = self.nodes.get(node).bucket;
            if table == NIL {
                debug_assert!(false, "a root mapping cannot be split");
                return;
            }
            self.split(tlb, at, table);
        }
        self.apply_to_pieces(tlb, node, low, high, op, status);
        if matches!(op, Op::Remove) {
            self.retire_split(tlb, node, slot);
        }
    }

    /// Does `op` to the pieces of a split mapping.
    fn apply_to_pieces(
        &mut self,
        tlb: &mut impl Tlb,
        node: u32,
        low: u64,
        high: u64,
        op: Op,
        status: &mut Status,
    ) {
        let owner = *self.nodes.get(node);
        let (space, bits) = (owner.space(), owner.bits() - 9);
        let mut at = low;
        while at < high {
            let base = at & !((1 << bits) - 1);
            let end = high.min(base + (1 << bits));
            let slot = Slot { table: owner.bucket, index: (at >> bits) as usize % ENTRIES, bits };
            let entry = self.tables.load(slot.table, slot.index);
            let piece = At { slot, space, va: owner.va() + base };
            let range = (at - base, end - base);
            if entry.is_piece() && entry.is_leaf(bits) {
                let whole = at == base && end == base + (1 << bits);
                if whole || !op.splits(entry.rights()) {
                    self.apply_to_entry(tlb, piece, op, whole, status);
                } else {
                    let table = self.take_reserved(node);
                    self.split(tlb, piece, table);
                    self.apply_to_small_pieces(tlb, piece, range, op, status);
                }
            } else if entry.is_piece() {
                self.apply_to_small_pieces(tlb, piece, range, op, status);
            }
            at = end;
        }
    }

    /// Does `op` to the 4 KiB pieces in the table that the descriptor `at` points to.
    fn apply_to_small_pieces(
        &mut self,
        tlb: &mut impl Tlb,
        at: At,
        (low, high): (u64, u64),
        op: Op,
        status: &mut Status,
    ) {
        let At { slot, space, va } = at;
        let descriptor = self.tables.load(slot.table, slot.index);
        let table = self.tables.index(descriptor);
        for index in (low >> PAGE_BITS) as usize..(high >> PAGE_BITS) as usize {
            if self.tables.load(table, index).is_piece() {
                let slot = Slot { table, index, bits: PAGE_BITS };
                let page = At { slot, space, va: va + ((index as u64) << PAGE_BITS) };
                self.apply_to_entry(tlb, page, op, true, status);
            }
        }
        if matches!(op, Op::Remove) && !self.tables.has_piece(table) {
            // Not part of the split mapping any more; what other mappings keep in it stays.
            self.tables.store(slot, descriptor.adopted());
            self.drop_if_empty(tlb, space, slot, va);
        }
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
        let change = |entry: Entry| match op {
            Op::Remove => Entry::INVALID,
            Op::Restrict(rights) if (entry.rights() & rights).is_empty() => entry,
            Op::Restrict(rights) => entry.with_rights(entry.rights().without(rights)).reset(),
            Op::Reset if whole => entry.reset(),
            Op::Reset => entry,
            Op::Widen(rights) => entry.with_rights(entry.rights() | rights),
            Op::Note(add) => entry.with_history(add),
            Op::Told(add, true) => entry.without_history().told(add),
            Op::Told(add, false) => entry.told(add),
        };
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
        for index in 0..ENTRIES {
            self.tables.store(Slot { table, index, bits }, old.piece(bits, index as u64));
        }
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

    /// If no piece of a split mapping is left: its node goes, and its table too unless other mappings lie in the holes.
    fn retire_split(&mut self, tlb: &mut impl Tlb, node: u32, slot: Slot) {
        let table = self.nodes.get(node).bucket;
        if self.tables.has_piece(table) {
            return;
        }
        let owner = *self.nodes.get(node);
        self.tables.set_shadow(slot.table, slot.index, NIL); // an ordinary table from now on
        self.nodes.get_mut(node).bucket = NIL;
        self.drop_if_empty(tlb, owner.space(), slot, owner.va());
        self.release(node);
    }

    /// Frees a node without children and without entries, and the tables it holds in reserve.
    pub(crate) fn release(&mut self, node: u32) {
        self.nodes.unlink(&mut self.tables, node);
        let owner = *self.nodes.get(node);
        if owner.bits() != PAGE_BITS {
            if owner.bucket != NIL {
                self.free_table(owner.space(), owner.bucket);
            }
            let mut next = owner.more;
            while next != NIL {
                let table = next;
                next = self.tables.shadow(table, 0);
                self.tables.set_shadow(table, 0, NIL);
                self.free_table(owner.space(), table);
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
        if need.tables > self.tables.free() || need.nodes > self.nodes.free() {
            return Err(Error::OutOfKernelMemory);
        }
        self.spaces[usize::from(space)].admits(need)
    }
}
