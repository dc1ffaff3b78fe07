//! Several fpages at once, all or nothing; and grants.
//!
//! Nothing is ever half done: a first pass over all fpages finds every conflict and adds up what they take, a second pass does
//! it and cannot fail. (Rejected: doing and undoing. Undo needs a journal, and would have to restore rights.) So that
//! what the first pass saw is what the second one finds, no item may touch another.

use skerry_abi::{Error, Fpage, Rights, layout};
use skerry_checks::{Check, passes};

use crate::apply::Op;
use crate::arena::{NIL, Need, Quota, Slot};
use crate::descriptor::{Attr, Entry};
use crate::map::{Mapped, Plan, Request, Step, reserve_of};
use crate::walk::PAGE_BITS;
use crate::{MappingDb, Status, Tlb};

/// An fpage on its way, for [`MappingDb::map_items`].
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// What of the giver's, with the rights that are given.
    pub src: Fpage,
    /// Where to, aligned to the fpage's size.
    pub dest: u64,
    /// How strictly it is cached at least.
    pub attr: Attr,
    /// Move it.
    pub grant: bool,
}

/// Whether no item changes what another one reads or writes. `same` says that giver and taker are one space.
fn are_apart(items: &[Transfer], same: bool) -> bool {
    let overlap = |a: u64, b: u64, i: &Transfer, j: &Transfer| a < b + j.src.size() && b < a + i.src.size();
    items.iter().enumerate().all(|(number, i)| {
        items[number + 1..].iter().all(|j| {
            let (from_i, from_j) = (i.src.base(), j.src.base());
            !overlap(i.dest, j.dest, i, j)
                && !((i.grant || j.grant) && overlap(from_i, from_j, i, j))
                && !(same && (overlap(i.dest, from_j, i, j) || overlap(from_i, j.dest, i, j)))
        })
    })
}

impl MappingDb<'_> {
    /// Maps or grants several fpages from one space to another: all of them or, after an error, none. What goes where is
    /// decided before the first is mapped, so none can build on another.
    ///
    /// A *grant* moves mappings: the giver loses them, and what was mapped on from them stays, below the new holder. Rights
    /// that are not granted are taken from there too. Only whole mappings can be granted, and no roots.
    ///
    /// # Errors
    /// Those of [`MappingDb::map`], for any of them; [`Error::BadArgument`] also if destinations overlap each other or a
    /// source, or something is granted that is mapped as well; [`Error::Refused`]: not to be granted.
    #[inline(never)]
    pub fn map_items(
        &mut self,
        tlb: &mut impl Tlb,
        from: u16,
        to: u16,
        items: &[Transfer],
    ) -> Result<Mapped, Error> {
        if items.is_empty() || !are_apart(items, from == to) {
            return Err(Error::BadArgument);
        }
        let mapped = match self.plan_items(from, to, items) {
            Err(Error::OutOfKernelMemory) => {
                // Perhaps there are empty tables.
                self.reclaim_all(tlb);
                self.plan_items(from, to, items)?
            }
            planned => planned?,
        };
        for item in items {
            let request = self.request(from, to, item)?;
            let step = self.next_step(&request, 0)?.ok_or(Error::NothingMapped)?;
            self.commit(tlb, &request, step)?;
        }
        Ok(mapped)
    }

    /// Checks all items and that there is memory for them.
    fn plan_items(&self, from: u16, to: u16, items: &[Transfer]) -> Result<Mapped, Error> {
        let mut plan = Plan::default();
        for item in items {
            let request = self.request(from, to, item)?;
            let mut next = self.next_step(&request, 0)?;
            if next.is_none() {
                return Err(Error::NothingMapped);
            }
            while let Some(step) = next {
                self.add_step(&mut plan, &request, &step);
                next = self.next_step(&request, step.at + (1 << step.bits))?;
            }
        }
        self.admit_plan(&plan, from, to)?;
        Ok(Mapped { pages: plan.pages as u32 })
    }

    fn request(&self, from: u16, to: u16, item: &Transfer) -> Result<Request, Error> {
        let &Transfer { src, dest, attr, grant } = item;
        let end = dest.checked_add(src.size()).ok_or(Error::BadArgument)?;
        let pinned = dest < layout::PINNED_END && end > layout::PINNED_BASE;
        let pinned = !passes(Check::MapPinned, !pinned);
        if src.rights().is_empty() || dest & (src.size() - 1) != 0 || end > layout::USER_END || pinned {
            return Err(Error::BadArgument);
        }
        let (from_root, to_root) = (self.live_root(from)?, self.live_root(to)?);
        Ok(Request { from, from_root, src, to, to_root, dest, rights: src.rights() | Rights::R, attr, grant })
    }

    /// Frees empty tables of all spaces.
    #[cold]
    fn reclaim_all(&mut self, tlb: &mut impl Tlb) {
        for space in 0..self.spaces.len() as u16 {
            if self.live_root(space).is_ok() {
                self.reclaim(tlb, space);
            }
        }
    }

    fn admit_plan(&self, plan: &Plan, from: u16, to: u16) -> Result<(), Error> {
        if plan.to.tables + plan.from.tables > self.tables.free() || plan.to.nodes > self.nodes.free() {
            return Err(Error::OutOfKernelMemory);
        }
        if from == to {
            let both = Need { tables: plan.to.tables + plan.from.tables, nodes: plan.to.nodes };
            return self.spaces[usize::from(to)].admits(both);
        }
        // What is granted changes accounts, but takes nothing from the arenas.
        let Need { tables, nodes } = plan.moved;
        let taken = Need { tables: plan.to.tables + tables, nodes: plan.to.nodes + nodes };
        self.spaces[usize::from(to)].admits(taken)?;
        self.spaces[usize::from(from)].admits(plan.from)
    }

    /// Moves a mapping to `slot` of the other space.
    pub(crate) fn relocate(
        &mut self,
        tlb: &mut impl Tlb,
        request: &Request,
        step: &Step,
        slot: Slot,
    ) -> Result<(), Error> {
        let (node, bits, old) = (step.source.node, step.bits, step.source.slot);
        let (va, dest) = (request.src.base() + step.at, request.dest + step.at);
        let withheld = step.source.entry.rights().without(request.rights);
        let mut status = Status::default();
        if !withheld.is_empty() {
            let mut work = u32::MAX;
            self.revoke_below(tlb, node, 0..1 << bits, Op::Restrict(withheld), &mut status, &mut work);
        }
        self.tables.set_shadow(old.table, old.index, NIL);
        let entry = self.tables.take(old);
        tlb.invalidate(request.from, va, bits);
        tlb.sync();
        status.seen = status.seen | entry.usage();
        let place = self.hang_tables(request.to, slot, bits, dest)?;
        let moved = self.nodes.get_mut(node);
        moved.relocate(request.to, dest);
        if bits == PAGE_BITS {
            moved.more = place.table;
        }
        // Those who gave it are told what happened before, by way of the new holder.
        let rights = request.rights & entry.rights();
        let attr = request.attr.max(entry.attr());
        let entry = Entry::leaf(entry.pa(), bits, rights, attr).with_history(status.seen);
        self.tables.set_shadow(place.table, place.index, node);
        self.tables.store(place, entry);
        let moved = Quota { tables: reserve_of(bits), nodes: 1 };
        let giver = self.account(request.from);
        giver.used.tables -= moved.tables;
        giver.used.nodes -= moved.nodes;
        let taker = self.account(request.to);
        taker.used.tables += moved.tables;
        taker.used.nodes += moved.nodes;
        Ok(())
    }
}
