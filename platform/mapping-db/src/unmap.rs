//! Revocation as spaces ask for it. It never allocates and never fails. How a tree is walked is told in [`crate::revoke`].
//!
//! **Status.** Each space is told once: the caller gets the accessed and written state of all that was removed or
//! restricted *below* it (with flush: of its own mapping too). For those above it stays in software bits of the caller's
//! own entry (of the entry it was derived from, if it goes itself), until they ask. Spaces between the caller and a restricted mapping are not
//! told; who revokes on others' behalf answers for it. Where one entry stands for a larger region than is asked for, the
//! answer can include accesses to the rest of it, never less than what happened.
//!
//! Root mappings are the machine itself: they go only with their space, and flushing one is like unmapping from it.

use skerry_abi::{Fpage, Rights};

use crate::apply::Op;
use crate::budget::{Budget, GROUP, HOLE, LOOK, MAPPING};
use crate::held::Held;
use crate::walk::{GROUP_BITS, PAGE_BITS};
use crate::{MappingDb, Status, Tlb};

/// Leaves it to the caller to wait for invalidations: many pages of one space may follow each other.
struct Late<'t, T>(&'t mut T);

impl<T: Tlb> Tlb for Late<'_, T> {
    fn publish(&mut self) {
        self.0.publish();
    }
    fn invalidate(&mut self, space: u16, va: u64, bits: u32) {
        self.0.invalidate(space, va, bits);
    }
    fn invalidate_space(&mut self, space: u16) {
        self.0.invalidate_space(space);
    }
    fn sync(&mut self) {}
}

impl MappingDb<'_> {
    /// Takes away from all mappings derived from `fpage` of the space the rights it carries; with `flush` from the space's own
    /// mappings as well. R takes everything (no access works without it); no rights at all only reads and
    /// resets the status. A large mapping that is concerned in part is split.
    ///
    /// On return no TLB holds what was taken. An unknown space has nothing to take.
    #[inline]
    pub fn unmap(&mut self, tlb: &mut impl Tlb, slot: u16, fpage: Fpage, flush: bool) -> Status {
        let (mut at, mut status, mut budget) = (fpage.base(), Status::default(), Budget::UNLIMITED);
        let done = self.unmap_step(tlb, slot, fpage, flush, &mut at, &mut status, &mut budget);
        debug_assert!(done);
        status
    }

    /// The same in steps: from address `at` on, as far as the budget allows; adds to `status` what it finds. Whether that was all. On
    /// return no TLB holds what was taken so far.
    ///
    /// If it was not all and [`MappingDb::is_held`], somebody else may complete what is being done at `at`
    /// ([`crate::Helped::Revoked`] says where to go on then). If it is held by anything else at the beginning, the caller helps with that first.
    #[expect(clippy::too_many_arguments, reason = "an operation, and how far it has come")]
    pub fn unmap_step(
        &mut self,
        tlb: &mut impl Tlb,
        slot: u16,
        fpage: Fpage,
        flush: bool,
        at: &mut u64,
        status: &mut Status,
        budget: &mut Budget,
    ) -> bool {
        let rights = fpage.rights();
        let op = if rights.contains(Rights::R) {
            Op::Remove
        } else if rights.is_empty() {
            Op::Reset
        } else {
            Op::Restrict(rights)
        };
        let Ok(root) = self.live_root(slot) else { return true };
        let touched = status.touched;
        let mut late = Late(tlb);
        let done = self.unmap_from(&mut late, (slot, root), fpage, (op, flush), at, status, budget);
        if !done || status.touched != touched {
            late.0.sync();
        }
        done
    }

    #[expect(clippy::too_many_arguments, reason = "an operation, and how far it has come")]
    fn unmap_from(
        &mut self,
        tlb: &mut Late<'_, impl Tlb>,
        (slot, root): (u16, u32),
        fpage: Fpage,
        (op, flush): (Op, bool),
        at: &mut u64,
        status: &mut Status,
        budget: &mut Budget,
    ) -> bool {
        while *at < fpage.end() {
            if self.progress.held == Held::Revocation {
                let Some(found) = self.go_on(tlb.0, budget) else { return false };
                status.add(found);
                *at = self.progress.end.max(*at);
                continue;
            }
            let va = *at;
            let mut place = self.descend(root, va, PAGE_BITS);
            let end = place.end(va).min(fpage.end());
            if !budget.take(if place.is_mapping() { LOOK + MAPPING } else { HOLE }) {
                return false;
            }
            if place.is_mapping() {
                let from_others = !flush && matches!(op, Op::Remove);
                if from_others
                    && end - va == 1 << GROUP_BITS
                    && let Some(found) = self.unmap_group(tlb, slot, va)
                {
                    budget.charge(GROUP);
                    status.add(found);
                    *at = end;
                    continue;
                }
                // Page by page if it is not many, though they may be a part of a block.
                let pages = end - va <= 1 << GROUP_BITS && from_others;
                match if pages { self.unmap_page(tlb, slot, va) } else { None } {
                    Some((true, found)) => {
                        budget.charge(found.touched * LOOK);
                        status.add(found);
                        *at = va + (1 << PAGE_BITS);
                        continue;
                    }
                    Some((false, found)) => {
                        budget.charge(found.touched * LOOK);
                        status.add(found);
                        // What it has seen is noted there.
                        place = self.descend(root, va, PAGE_BITS);
                    }
                    None => {}
                }
                let node = self.nodes.get(place.node);
                let own = flush && !node.is_root();
                // The pieces of a split mapping go all at once; what lies in its holes does not.
                let pieces = own && matches!(op, Op::Remove);
                let last = if pieces { node.end().min(fpage.end()) } else { end };
                self.progress.revocation = self.revocation(&place, va..last, op, own);
                self.progress.end = end;
                let Some(found) = self.go_on(tlb.0, budget) else { return false };
                status.add(found);
                *at = end;
                continue;
            }
            *at = end;
        }
        true
    }
}
