//! Delegation: `map` makes child mappings.
//!
//! The fpage is taken in *steps*, each of which one entry at the destination fulfils. The steps are counted before the first
//! is taken: see [`crate::items`]. A page or 64 KiB to a hole, the common requests, take a shorter way: see [`crate::fast`].

use skerry_abi::{Error, Fpage, Rights};
use skerry_checks::{Check, passes};

use crate::arena::{ENTRIES, NIL, Need, Slot};
use crate::budget::{Budget, GROUP_LOOK, SCAN, STEP, TABLE};
use crate::descriptor::{Attr, Entry};
use crate::node::Node;
use crate::walk::{BLOCK_BITS, GROUP_BITS, PAGE_BITS, Place, TOP_BITS, smaller};
use crate::{MappingDb, Tlb, Transfer};

/// What [`MappingDb::map`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mapped {
    /// Pages of 4 KiB that are mapped at the destination now, those included that were before.
    pub pages: u32,
}

/// Tables that a large mapping reserves when it is made, so that it can be split at any time.
pub(crate) const fn reserve_of(bits: u32) -> u32 {
    match bits {
        TOP_BITS => 1 + ENTRIES as u32,
        BLOCK_BITS => 1,
        _ => 0,
    }
}

/// A valid request: `src` of the space with root table `from_root` to `dest` in another.
pub(crate) struct Request {
    pub(crate) from: u16,
    pub(crate) from_root: u32,
    pub(crate) src: Fpage,
    pub(crate) to: u16,
    pub(crate) to_root: u32,
    pub(crate) dest: u64,
    pub(crate) rights: Rights,
    pub(crate) attr: Attr,
    pub(crate) grant: bool,
}

/// The part of a request that one destination entry fulfils.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) source: Place,
    /// Offset in the fpage.
    pub(crate) at: u64,
    /// log2 of its size.
    pub(crate) bits: u32,
    pub(crate) target: Target,
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// Nothing there: the walk ended in this slot, of at least the size.
    Free(Slot),
    /// An empty table where a larger leaf shall be.
    EmptyTable(Slot),
    /// The same frame from the same parent: this mapping gets the rights too.
    Same(u32),
}

/// What [`MappingDb::next_step`] found.
pub(crate) enum Next {
    Step(Step),
    /// Nothing more is mapped in the source.
    End,
    /// The budget is spent; look on at this offset.
    Pause(u64),
}

/// Adds up the needs of steps in ascending order. Tables that several steps share count once.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pages: u64,
    pub(crate) to: Need,
    pub(crate) from: Need,
    /// What a grant moves from one account to the other.
    pub(crate) moved: Need,
    /// The last region of 1 GiB, and of 2 MiB, that needs a new table (plus one).
    pub(crate) last: [u64; 2],
    pub(crate) last_bucket: u32,
}

impl Plan {
    pub(crate) const NONE: Self = Self {
        pages: 0,
        to: Need { tables: 0, nodes: 0 },
        from: Need { tables: 0, nodes: 0 },
        moved: Need { tables: 0, nodes: 0 },
        last: [0; 2],
        last_bucket: NIL,
    };
}

impl MappingDb<'_> {
    /// Maps what `from` has mapped in `src` to `dest` in `to`, with the rights of `src` that `from` has, W or X implying
    /// R. Holes in the source stay holes. Pieces are mapped with the largest entry that fits at both ends. Where the same
    /// frame is mapped from the same place already, the rights are added.
    ///
    /// # Errors
    /// Nothing has changed after one.
    /// - [`Error::BadArgument`]: no rights, `dest` misaligned, overlapping the UTCB area or beyond the user end;
    /// - [`Error::NoSuchSpace`]; [`Error::NothingMapped`]: nothing in `src`;
    /// - [`Error::AlreadyMapped`]: something else (or the same with another cacheability) at the destination;
    /// - [`Error::OutOfKernelMemory`]: quota or arena.
    #[inline]
    pub fn map(
        &mut self,
        tlb: &mut impl Tlb,
        from: u16,
        src: Fpage,
        to: u16,
        dest: u64,
        attr: Attr,
    ) -> Result<Mapped, Error> {
        let simple = if attr == Attr::Normal { self.map_simple(from, src, to, dest) } else { None };
        if let Some(pages) = simple {
            tlb.publish();
            return Ok(Mapped { pages });
        }
        self.map_any(tlb, from, src, to, dest, attr)
    }

    #[inline(never)]
    fn map_any(
        &mut self,
        tlb: &mut impl Tlb,
        from: u16,
        src: Fpage,
        to: u16,
        dest: u64,
        attr: Attr,
    ) -> Result<Mapped, Error> {
        self.map_items(tlb, from, to, &[Transfer { src, dest, attr, grant: false }])
    }

    /// The first step at or behind offset `at`.
    #[inline]
    pub(crate) fn next_step(
        &self,
        request: &Request,
        mut at: u64,
        budget: &mut Budget,
    ) -> Result<Next, Error> {
        while at < request.src.size() {
            if budget.is_spent() {
                return Ok(Next::Pause(at));
            }
            let va = request.src.base() + at;
            let source = self.descend(request.from_root, va, PAGE_BITS);
            budget.reduce(STEP);
            if source.is_mapping() {
                return self.step(request, source, at, budget).map(Next::Step);
            }
            budget.charge(0);
            at = source.end(va) - request.src.base();
        }
        Ok(Next::End)
    }

    /// Whether anything was derived from the leaf of an unsplit mapping.
    fn has_children(&self, node: u32, budget: &mut Budget) -> bool {
        let node = self.nodes.get(node);
        let smaller = node.bucket != NIL && {
            budget.reduce(SCAN);
            self.tables.has_heads(node.bucket)
        };
        node.child != NIL || smaller
    }

    #[inline]
    fn step(&self, request: &Request, source: Place, at: u64, budget: &mut Budget) -> Result<Step, Error> {
        let mut bits = source.slot.bits;
        if request.grant {
            let node = self.nodes.get(source.node);
            let whole = node.bits() == bits && bits <= request.src.bits();
            let stricter = request.attr > source.entry.attr();
            if node.is_root() || !whole || stricter && self.has_children(source.node, budget) {
                return Err(Error::Refused);
            }
        }
        while bits > request.src.bits() || at & ((1 << bits) - 1) != 0 {
            bits = smaller(bits);
        }
        loop {
            let place = self.descend(request.to_root, request.dest + at, bits);
            let target = if bits == GROUP_BITS && place.slot.bits == PAGE_BITS {
                budget.reduce(GROUP_LOOK);
                if !passes(Check::MapGroupOccupied, self.tables.is_free(place.slot)) {
                    if request.grant {
                        return Err(Error::AlreadyMapped);
                    }
                    bits = smaller(bits); // pages there, as below
                    continue;
                }
                Target::Free(place.slot)
            } else if !place.entry.is_valid() {
                Target::Free(place.slot)
            } else if place.entry.is_table(place.slot.bits) {
                let empty = place.node == NIL && {
                    budget.reduce(SCAN);
                    self.tables.is_empty(self.tables.index(place.entry))
                };
                if !empty {
                    if request.grant {
                        return Err(Error::AlreadyMapped);
                    }
                    bits = smaller(bits); // smaller mappings there: they may be the same ones, or leave holes
                    continue;
                }
                Target::EmptyTable(place.slot)
            } else if request.grant {
                return Err(Error::AlreadyMapped);
            } else {
                self.same(request, &source, &place, at)?
            };
            return Ok(Step { source, at, bits, target });
        }
    }

    /// The rights that the request may give away of what it found.
    #[inline]
    pub(crate) fn limit(request: &Request, source: &Place) -> Rights {
        let all = passes(Check::MapRights, false);
        if all { request.rights } else { request.rights & source.entry.rights() }
    }

    /// There is a leaf at the destination: is it what the request would make?
    fn same(&self, request: &Request, source: &Place, place: &Place, at: u64) -> Result<Target, Error> {
        if place.node == NIL {
            return Err(Error::AlreadyMapped);
        }
        let there = self.nodes.get(place.node);
        let parent_offset = request.src.base() + at - self.nodes.get(source.node).va();
        let frame = there.offset() + (request.dest + at - there.va());
        let attr = request.attr.max(source.entry.attr());
        let same = there.parent == source.node && frame == parent_offset && attr == place.entry.attr();
        if passes(Check::MapOccupied, same) {
            Ok(Target::Same(place.node))
        } else {
            Err(Error::AlreadyMapped)
        }
    }

    #[inline]
    pub(crate) fn add_step(&self, plan: &mut Plan, request: &Request, step: &Step) {
        plan.pages += 1 << (step.bits - PAGE_BITS);
        let dest = request.dest + step.at;
        match step.target {
            Target::Same(_) => return,
            Target::EmptyTable(_) => {}
            Target::Free(slot) => {
                let mut bits = slot.bits;
                while bits > step.bits {
                    let region = (dest >> bits) + 1;
                    let last = &mut plan.last[usize::from(bits != TOP_BITS)];
                    plan.to.tables += u32::from(*last != region);
                    *last = region;
                    bits -= 9;
                }
            }
        }
        if request.grant {
            plan.moved.nodes += 1;
            plan.moved.tables += reserve_of(step.bits);
            return;
        }
        plan.to.nodes += 1;
        plan.to.tables += reserve_of(step.bits);
        let source = self.nodes.get(step.source.node);
        let bucket = source.bits() > GROUP_BITS && source.bits() != step.bits && source.bucket == NIL;
        if bucket && plan.last_bucket != step.source.node {
            plan.last_bucket = step.source.node;
            plan.from.tables += 1;
        }
    }

    /// Makes a mapping that was planned and admitted. A large one lacks the tables to split it with.
    #[inline]
    pub(crate) fn create(&mut self, request: &Request, step: &Step, slot: Slot) -> Result<u32, Error> {
        let (src, dest) = (request.src.base() + step.at, request.dest + step.at);
        let parent = *self.nodes.get(step.source.node);
        if parent.bits() > GROUP_BITS && parent.bits() != step.bits && parent.bucket == NIL {
            self.nodes.get_mut(step.source.node).bucket = self.new_table(request.from)?;
        }
        let inside = (src & ((1 << step.source.slot.bits) - 1)) & !((1 << step.bits) - 1);
        let entry = Entry::leaf(
            step.source.entry.pa() + inside,
            step.bits,
            Self::limit(request, &step.source),
            request.attr.max(step.source.entry.attr()),
        );
        let node = Node::new(request.to, dest, step.bits, step.source.node, src - parent.va());
        let node = self.install(request.to, slot, step.bits, dest, entry, node)?;
        self.nodes.link(&mut self.tables, node);
        Ok(node)
    }

    /// Makes the tables that are missing between `slot` and the size, the node, and the entry.
    #[inline]
    pub(crate) fn install(
        &mut self,
        space: u16,
        slot: Slot,
        bits: u32,
        va: u64,
        entry: Entry,
        node: Node,
    ) -> Result<u32, Error> {
        let slot = self.hang_tables(space, slot, bits, va)?;
        let more = if bits <= GROUP_BITS { slot.table } else { NIL };
        let node = self.nodes.alloc(Node { more, ..node }).ok_or(Error::OutOfKernelMemory)?;
        self.account(space).used.nodes += 1;
        self.tables.put(slot, bits, entry, node);
        Ok(node)
    }

    /// Makes the tables that are missing between `slot` and one for `va` of 2^`bits` bytes; returns that slot.
    #[inline]
    pub(crate) fn hang_tables(
        &mut self,
        space: u16,
        mut slot: Slot,
        bits: u32,
        va: u64,
    ) -> Result<Slot, Error> {
        while slot.bits > bits {
            let table = self.new_table(space)?;
            self.tables.store(slot, Entry::table(self.tables.pa(table), false));
            let bits = slot.bits - 9;
            slot = Slot { table, index: (va >> bits) as usize % ENTRIES, bits };
        }
        Ok(slot)
    }

    /// Sets aside the tables that splitting this mapping would take, down to `left` that are still missing then. Whether that was all.
    pub(crate) fn reserve(
        &mut self,
        space: u16,
        node: u32,
        left: &mut u32,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        while *left != 0 {
            if !budget.take(TABLE) {
                return Ok(false);
            }
            let table = self.new_table(space)?;
            *left -= 1;
            let place = self.nodes.get_mut(node);
            if place.bucket == NIL {
                place.bucket = table;
            } else {
                let next = core::mem::replace(&mut place.more, table);
                self.tables.set_shadow(table, 0, next);
            }
        }
        Ok(true)
    }
}
