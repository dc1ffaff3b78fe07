//! Revocation: one operation on everything that was derived from a part of one mapping, in steps.
//!
//! The subtree is walked depth first, children before parents, in the coordinates of the mapping it
//! starts from: every descendant maps some of the same frames, so one range of offsets says what is concerned at every
//! depth, whatever the sizes are. No recursion: the way back up is in the nodes.
//!
//! Where the walk stands is a [`Revocation`]. It names nodes, so it is good only as long as nobody else changes a tree: until
//! it is complete the database is *held* ([`crate::held`]), and nothing can be mapped into or out of the subtree. Hence the walk
//! ends: what it has to do was there when it began. (Rejected: marks on the nodes, and cursors that follow when a node goes.
//! Every map would have to look for marks all the way up, which takes as long as a tree is deep.)

use core::ops::Range;

use skerry_abi::Rights;

use crate::apply::Op;
use crate::arena::NIL;
use crate::budget::{AT_ONCE, BUCKETS, Budget, LOOK};
use crate::node::{Node, bucket_of};
use crate::walk::{PAGE_BITS, Place};
use crate::{MappingDb, Status, Tlb};

/// What is next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Find a child of the present node: `next` and its successors, then the lists from `bucket` on.
    Look { next: u32, bucket: usize },
    /// Its children are done: do it to the present node, from this offset on.
    Apply(u64),
    /// Do it to the mapping where the walk began.
    Own(u64),
    /// Note what was seen.
    Tell(u64),
}

/// A revocation and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revocation {
    /// Where it begins, and which of its offsets are concerned.
    top: u32,
    low: u64,
    high: u64,
    op: Op,
    /// Do it to the mapping where it begins, too.
    own: bool,
    /// Whether the range is all of the leaf that was found there.
    whole: bool,
    /// What `top` was derived from, and where the range lies there.
    parent: u32,
    parent_low: u64,
    /// What mappings below did that were gone before.
    history: Rights,
    /// Whoever began it cares for what was seen.
    silent: bool,
    /// The present node, and where it begins as an offset in `top`.
    node: u32,
    base: u64,
    stage: Stage,
    pub(crate) found: Status,
}

impl Revocation {
    pub(crate) const NONE: Self = Self {
        top: NIL,
        low: 0,
        high: 0,
        op: Op::Reset,
        own: false,
        whole: false,
        parent: NIL,
        parent_low: 0,
        history: Rights::NONE,
        silent: false,
        node: NIL,
        base: 0,
        stage: Stage::Tell(0),
        found: Status { seen: Rights::NONE, touched: 0 },
    };

    /// Nobody is told what was seen.
    pub(crate) fn silent(self) -> Self {
        Self { silent: true, ..self }
    }
    fn within(&self, base: u64, size: u64) -> Range<u64> {
        self.low.max(base) - base..self.high.min(base + size) - base
    }
}

impl MappingDb<'_> {
    /// Begins with all that was derived from `range`, addresses of the leaf `place`, and then, if `own`, that leaf itself.
    pub(crate) fn revocation(&self, place: &Place, range: Range<u64>, op: Op, own: bool) -> Revocation {
        let node = self.nodes.get(place.node);
        let (low, high) = (range.start - node.va(), range.end - node.va());
        let begun = Revocation {
            top: place.node,
            low,
            high,
            op,
            own,
            whole: high - low == 1 << place.slot.bits,
            parent: node.parent,
            parent_low: node.offset() + low,
            history: place.entry.history(),
            node: place.node,
            ..Revocation::NONE
        };
        Revocation { stage: self.first_look(place.node, low), ..begun }
    }

    /// Does as much of it as the budget allows. Whether that was all.
    pub(crate) fn revoke(&mut self, tlb: &mut impl Tlb, r: &mut Revocation, budget: &mut Budget) -> bool {
        loop {
            match r.stage {
                Stage::Look { next, bucket } => {
                    if !self.look(r, next, bucket, budget) {
                        return false;
                    }
                }
                Stage::Apply(at) => {
                    let here = *self.nodes.get(r.node);
                    let to = r.within(r.base, here.size()).end;
                    if let Err(at) = self.apply(tlb, r.node, at..to, r.op, &mut r.found, budget) {
                        r.stage = Stage::Apply(at);
                        return false;
                    }
                    self.leave(r, &here);
                }
                Stage::Own(at) => {
                    if r.silent {
                        return true;
                    }
                    if r.own
                        && let Err(at) = self.apply(tlb, r.top, at..r.high, r.op, &mut r.found, budget)
                    {
                        r.stage = Stage::Own(at);
                        return false;
                    }
                    r.found.seen = r.found.seen | r.history;
                    let removed = r.own && matches!(r.op, Op::Remove);
                    r.stage = Stage::Tell(if removed { r.parent_low } else { r.low });
                }
                Stage::Tell(at) => {
                    let seen = r.found.seen;
                    let removed = r.own && matches!(r.op, Op::Remove);
                    let end = r.high - r.low + if removed { r.parent_low } else { r.low };
                    let nobody = if removed { r.parent == NIL } else { false };
                    if nobody || seen.is_empty() {
                        return true;
                    }
                    let (to, op) = match removed {
                        true => (r.parent, Op::Note(seen)),
                        false => (r.top, Op::Told(seen, r.whole)),
                    };
                    match self.apply(tlb, to, at..end, op, &mut Status::default(), budget) {
                        Ok(()) => return true,
                        Err(at) => {
                            r.stage = Stage::Tell(at);
                            return false;
                        }
                    }
                }
            }
        }
    }

    /// From the present node, which was `here` and may be gone, on to its siblings.
    fn leave(&self, r: &mut Revocation, here: &Node) {
        r.node = here.parent;
        r.base -= here.offset();
        let parent = self.nodes.get(r.node);
        let bucket = match parent.bucket_with(here) {
            None => parent.first_bucket(r.within(r.base, parent.size()).start),
            Some(bucket) => bucket + 1,
        };
        r.stage = Stage::Look { next: here.next, bucket };
    }

    /// A walk that takes nothing away ([`crate::audit`]): to what was derived from the page at an address of the mapping `top`, from
    /// what was derived from `after` on, a mapping of the same frame that has it at this address.
    pub(crate) fn walk_below(&self, (top, va): (u32, u64), (after, at): (u32, u64)) -> Revocation {
        let low = va - self.nodes.get(top).va();
        let offset = at - self.nodes.get(after).va();
        let stage = self.first_look(after, offset);
        let page = Revocation { top, low, high: low + (1 << PAGE_BITS), ..Revocation::NONE };
        Revocation { node: after, base: low - offset, stage, ..page }
    }
    /// The next mapping of that walk, which may have lost the page, and where the page is or was in it; NIL at the end. `None`: not found
    /// yet.
    pub(crate) fn next(&self, r: &mut Revocation, budget: &mut Budget) -> Option<(u32, u64)> {
        loop {
            match r.stage {
                Stage::Look { next, bucket } => {
                    if !self.look(r, next, bucket, budget) {
                        return None;
                    }
                    if matches!(r.stage, Stage::Look { .. }) {
                        return Some((r.node, r.low - r.base));
                    }
                }
                Stage::Apply(_) => {
                    let here = *self.nodes.get(r.node);
                    self.leave(r, &here);
                }
                Stage::Own(_) | Stage::Tell(_) => return Some((NIL, 0)),
            }
        }
    }

    fn first_look(&self, node: u32, from: u64) -> Stage {
        let node = self.nodes.get(node);
        let bucket = if node.bucket == NIL { 0 } else { node.first_bucket(from) };
        Stage::Look { next: node.child, bucket }
    }

    /// Looks for the next child of the present node, which then is the present node. `false`: not found yet.
    fn look(&self, r: &mut Revocation, mut next: u32, mut bucket: usize, budget: &mut Budget) -> bool {
        let node = *self.nodes.get(r.node);
        let range = r.within(r.base, node.size());
        let end = match node.bucket == NIL || range.is_empty() {
            true => 0,
            false => bucket_of(node.bits(), range.end - 1) + 1,
        };
        loop {
            while next != NIL {
                if !budget.take(LOOK) {
                    r.stage = Stage::Look { next, bucket };
                    return false;
                }
                let child = self.nodes.get(next);
                if child.offset() < range.end && child.offset() + child.size() > range.start {
                    r.base += child.offset();
                    r.node = next;
                    r.stage = self.first_look(next, r.within(r.base, child.size()).start);
                    return true;
                }
                next = child.next;
            }
            while next == NIL && bucket < end {
                if !budget.take(BUCKETS) {
                    r.stage = Stage::Look { next, bucket };
                    return false;
                }
                (next, bucket) = self.tables.next_head(&node, bucket, end.min(bucket + AT_ONCE));
            }
            if next == NIL {
                break;
            }
        }
        r.stage = if r.node == r.top { Stage::Own(r.low) } else { Stage::Apply(range.start) };
        true
    }
}
