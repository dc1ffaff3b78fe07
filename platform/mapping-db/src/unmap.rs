//! Revocation. It never allocates and never fails.
//!
//! The subtree below a mapping is walked depth first, children before parents, in the coordinates of the mapping it
//! starts from: every descendant maps some of the same frames, so one range of offsets says what is concerned at every
//! depth, whatever the sizes are. No recursion: the way back up is in the nodes.
//!
//! **Status.** Each space is told once: the caller gets the accessed and written state of all that was removed or
//! restricted *below* it (with flush: of its own mapping too). For those above it stays in software bits of the caller's
//! own entry (of the entry it was derived from, if it goes itself), until they ask. Spaces between the caller and a restricted mapping are not
//! told; who revokes on others' behalf answers for it. Where one entry stands for a larger region than is asked for, the
//! answer can include accesses to the rest of it, never less than what happened.
//!
//! Root mappings are the machine itself: they go only with their space, and flushing one is like unmapping from it.

use core::ops::Range;

use skerry_abi::{Fpage, Rights};

use crate::apply::Op;
use crate::arena::NIL;
use crate::walk::{PAGE_BITS, Place};
use crate::{MappingDb, Status, Tlb};

/// What a mapping counts when work is limited, if looking at an entry counts one.
const MAPPING_WORK: u32 = 8;

/// What to do with the descendants of a mapping, and whether with the mapping too.
pub(crate) struct Task {
    pub(crate) op: Op,
    pub(crate) own: bool,
}

impl MappingDb<'_> {
    /// Takes away from all mappings derived from `fpage` of the space the rights it carries; with `flush` from the space's own
    /// mappings as well. R takes everything (no access works without it); no rights at all only reads and
    /// resets the status. A large mapping that is concerned in part is split.
    ///
    /// On return no TLB holds what was taken. An unknown space has nothing to take.
    #[inline]
    pub fn unmap(&mut self, tlb: &mut impl Tlb, slot: u16, fpage: Fpage, flush: bool) -> Status {
        let simple = !flush && fpage.bits() == PAGE_BITS && fpage.rights().contains(Rights::R);
        if simple && let Some(status) = self.unmap_page(tlb, slot, fpage) {
            return status;
        }
        self.unmap_any(tlb, slot, fpage, flush, Status::default())
    }

    /// The general form; `status` is what was found already.
    #[inline(never)]
    pub(crate) fn unmap_any(
        &mut self,
        tlb: &mut impl Tlb,
        slot: u16,
        fpage: Fpage,
        flush: bool,
        mut status: Status,
    ) -> Status {
        let rights = fpage.rights();
        let op = if rights.contains(Rights::R) {
            Op::Remove
        } else if rights.is_empty() {
            Op::Reset
        } else {
            Op::Restrict(rights)
        };
        let Ok(root) = self.live_root(slot) else { return status };
        let mut va = fpage.base();
        while va < fpage.end() {
            let place = self.descend(root, va, PAGE_BITS);
            let end = place.end(va).min(fpage.end());
            if place.is_mapping() {
                let own = flush && !self.nodes.get(place.node).is_root();
                let mut work = u32::MAX;
                self.revoke(tlb, &place, va..end, Task { op, own }, &mut status, &mut work);
            }
            va = end;
        }
        if status.touched != 0 {
            tlb.sync();
        }
        status
    }

    /// Does `op` to all that was derived from `range` of the leaf `place`, and then, if `own`, to that leaf itself. `work` and the
    /// result are those of [`MappingDb::revoke_below`].
    #[inline]
    pub(crate) fn revoke(
        &mut self,
        tlb: &mut impl Tlb,
        place: &Place,
        range: Range<u64>,
        Task { op, own }: Task,
        status: &mut Status,
        work: &mut u32,
    ) -> bool {
        let node = *self.nodes.get(place.node);
        let (low, high) = (range.start - node.va(), range.end - node.va());
        let mut found = Status::default();
        let done = self.revoke_below(tlb, place.node, low..high, op, &mut found, work);
        found.seen = found.seen | place.entry.history();
        if own && done {
            self.apply(tlb, place.node, low, high, op, &mut found);
        }
        let seen = found.seen;
        let removed = own && done && matches!(op, Op::Remove);
        if removed && !seen.is_empty() {
            let (low, high) = (node.offset() + low, node.offset() + high);
            self.apply(tlb, node.parent, low, high, Op::Note(seen), &mut Status::default());
        } else if !removed && !(seen | place.entry.history()).is_empty() {
            let whole = high - low == 1 << place.slot.bits;
            self.apply(tlb, place.node, low, high, Op::Told(seen, whole), &mut Status::default());
        }
        status.seen = status.seen | found.seen;
        status.touched += found.touched;
        done
    }

    /// Does `op` to all descendants of `top` that were derived from its offsets `low..high`, but not to more than
    /// `work` allows. Whether
    /// that was all of them; a removal that was not complete goes on where it stopped when it is begun again.
    pub(crate) fn revoke_below(
        &mut self,
        tlb: &mut impl Tlb,
        top: u32,
        Range { start: low, end: high }: Range<u64>,
        op: Op,
        status: &mut Status,
        work: &mut u32,
    ) -> bool {
        // `base`: where the present node begins, as an offset in `top`.
        let (mut node, mut base) = (top, 0);
        let mut child = self.nodes.first_child(&self.tables, top, low, high);
        loop {
            if child != NIL {
                node = child;
                base += self.nodes.get(node).offset();
            } else if node == top {
                return true;
            }
            let here = *self.nodes.get(node);
            let within = |base: u64, size: u64| (low.max(base) - base, high.min(base + size) - base);
            let (from, to) = within(base, here.size());
            if child != NIL {
                child = self.nodes.first_child(&self.tables, node, from, to);
                if child != NIL {
                    continue;
                }
            }
            // No children (any more): the next sibling is looked up before this node may go.
            base -= here.offset();
            let (first, last) = within(base, self.nodes.get(here.parent).size());
            child = self.nodes.next_child(&self.tables, node, first, last);
            if *work == 0 {
                return false;
            }
            *work = work.saturating_sub(MAPPING_WORK);
            self.apply(tlb, node, from, to, op, status);
            node = here.parent;
        }
    }
}
