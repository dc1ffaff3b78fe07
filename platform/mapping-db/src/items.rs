//! Several fpages at once, all or nothing.
//!
//! Nothing is ever half done: a first pass over all fpages finds every conflict and adds up what they take, a second pass
//! ([`crate::commit`]) does it and cannot fail. (Rejected: doing and undoing. Undo needs a journal, and would have to restore rights.) So
//! that what the first pass saw is what the second one finds, no item may touch another.
//!
//! Both passes are done in steps. From the first on the database is held ([`crate::held`]), so nobody sees anything between the passes.

use skerry_abi::message::MAX_WORDS;
use skerry_abi::{Error, Fpage, Rights, layout};
use skerry_checks::{Check, passes};

use crate::arena::Need;
use crate::budget::Budget;
use crate::commit::Part;
use crate::descriptor::Attr;
use crate::held::Held;
use crate::map::{Mapped, Next, Plan, Request};
use crate::{MappingDb, Tlb};

/// What a message can carry: an item has two words at least.
pub const MAX_ITEMS: usize = MAX_WORDS / 2;

/// An fpage on its way, for [`MappingDb::map_items`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

impl Transfer {
    /// Nothing.
    pub const NONE: Self = Self { src: Fpage::NIL, dest: 0, attr: Attr::Normal, grant: false };
}

/// How far items have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes on.
    Again,
    /// They can all be mapped: nothing has changed yet, and nothing can go wrong any more. [`MappingDb::commit_items`] lets it happen,
    /// [`MappingDb::drop_items`] does not.
    Planned,
    /// They are mapped.
    Done(Mapped),
    /// They cannot be, and nothing has changed.
    Failed(Error),
}

/// What is next.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Does this item touch one of those behind it?
    Apart(usize),
    /// Add up what the item needs, from an offset on; whether there was anything in front of that.
    Plan(usize, u64, bool),
    /// There was not enough memory: free empty tables, from this address of this space on.
    Reclaim(u16, u64),
    /// Everything is known.
    Planned,
    /// Do the item, from an offset on.
    Commit(usize, u64, Part),
}

/// The items that are on their way.
pub(crate) struct Items {
    from: u16,
    to: u16,
    list: [Transfer; MAX_ITEMS],
    pub(crate) count: usize,
    pub(crate) stage: Stage,
    plan: Plan,
    reclaimed: bool,
    /// Tables that the plan needs and that were not taken yet.
    pub(crate) reserved: u32,
}

impl Items {
    pub(crate) const NONE: Self = Self {
        from: 0,
        to: 0,
        list: [Transfer::NONE; MAX_ITEMS],
        count: 0,
        stage: Stage::Planned,
        plan: Plan::NONE,
        reclaimed: false,
        reserved: 0,
    };
}

/// Whether neither of two items changes what the other one reads or writes. `same` says that giver and taker are one space.
fn are_apart(i: &Transfer, j: &Transfer, same: bool) -> bool {
    let overlap = |a: u64, b: u64| a < b + j.src.size() && b < a + i.src.size();
    let (from_i, from_j) = (i.src.base(), j.src.base());
    !overlap(i.dest, j.dest)
        && !((i.grant || j.grant) && overlap(from_i, from_j))
        && !(same && (overlap(i.dest, from_j) || overlap(from_i, j.dest)))
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
    pub fn map_items(
        &mut self,
        tlb: &mut impl Tlb,
        from: u16,
        to: u16,
        items: &[Transfer],
    ) -> Result<Mapped, Error> {
        let mut budget = Budget::UNLIMITED;
        match self.plan_items(tlb, from, to, items, &mut budget) {
            Outcome::Planned => match self.commit_items(tlb, &mut budget) {
                Outcome::Done(mapped) => Ok(mapped),
                Outcome::Failed(error) => Err(error),
                _ => Err(Error::WrongState),
            },
            Outcome::Failed(error) => Err(error),
            _ => Err(Error::WrongState),
        }
    }

    /// Begins that. The database must not be held; it is until the items are done, have failed or are dropped.
    #[inline(never)]
    pub fn plan_items(
        &mut self,
        tlb: &mut impl Tlb,
        from: u16,
        to: u16,
        items: &[Transfer],
        budget: &mut Budget,
    ) -> Outcome {
        debug_assert!(!self.is_held());
        if items.is_empty() || items.len() > MAX_ITEMS {
            return Outcome::Failed(Error::BadArgument);
        }
        let work = &mut self.progress.items;
        work.list[..items.len()].copy_from_slice(items);
        (work.from, work.to, work.count) = (from, to, items.len());
        (work.stage, work.reclaimed) = (Stage::Apart(0), false);
        self.hold(Held::Items);
        self.items_step(tlb, budget)
    }

    /// What is planned happens: this cannot fail any more, whoever completes it.
    pub fn commit_items(&mut self, tlb: &mut impl Tlb, budget: &mut Budget) -> Outcome {
        let work = &mut self.progress.items;
        if self.progress.held != Held::Items || !matches!(work.stage, Stage::Planned) {
            return Outcome::Failed(Error::WrongState);
        }
        work.stage = Stage::Commit(0, 0, Part::All);
        work.reserved = work.plan.to.tables + work.plan.from.tables;
        self.items_step(tlb, budget)
    }

    /// What is planned, or about to be, does not happen. What happens already does.
    pub fn drop_items(&mut self) {
        if self.progress.held == Held::Items && !matches!(self.progress.items.stage, Stage::Commit(..)) {
            self.let_go();
        }
    }

    /// The items that hold the database: between which spaces, and which.
    pub fn held_items(&self) -> (u16, u16, &[Transfer]) {
        let work = &self.progress.items;
        (work.from, work.to, &work.list[..work.count])
    }

    /// Goes on with the items that hold the database.
    pub(crate) fn items_step(&mut self, tlb: &mut impl Tlb, budget: &mut Budget) -> Outcome {
        self.let_go();
        let outcome = loop {
            let result = match self.progress.items.stage {
                Stage::Apart(item) => self.check_apart(item, budget),
                Stage::Plan(item, at, any) => self.plan_step(item, at, any, budget),
                Stage::Reclaim(space, va) => self.reclaim_step(tlb, space, va, budget),
                Stage::Planned => break Outcome::Planned,
                Stage::Commit(item, at, part) => match self.commit_step(tlb, item, at, part, budget) {
                    Ok(true) => break Outcome::Done(Mapped { pages: self.progress.items.plan.pages as u32 }),
                    Ok(false) => Ok(false),
                    Err(error) => Err(error),
                },
            };
            match result {
                Ok(true) => {}
                Ok(false) => break Outcome::Again,
                Err(error) => break Outcome::Failed(error),
            }
        };
        if matches!(outcome, Outcome::Again | Outcome::Planned) {
            self.hold(Held::Items);
        }
        outcome
    }

    /// `Ok(true)` goes on with the next stage, `Ok(false)` says that the budget is spent.
    fn check_apart(&mut self, item: usize, budget: &mut Budget) -> Result<bool, Error> {
        let work = &mut self.progress.items;
        let list = &work.list[..work.count];
        for item in item..list.len() {
            if !budget.take(2 * (list.len() - item) as u32) {
                work.stage = Stage::Apart(item);
                return Ok(false);
            }
            if !list[item + 1..].iter().all(|other| are_apart(&list[item], other, work.from == work.to)) {
                return Err(Error::BadArgument);
            }
        }
        (work.plan, work.stage) = (Plan::NONE, Stage::Plan(0, 0, false));
        Ok(true)
    }

    /// Adds up what the items need, and at the end sees that there is memory for them.
    fn plan_step(
        &mut self,
        item: usize,
        mut at: u64,
        mut any: bool,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let mut plan = self.progress.items.plan;
        let request = self.request(item)?;
        loop {
            match self.next_step(&request, at, budget)? {
                Next::Step(step) => {
                    budget.charge(0);
                    self.add_step(&mut plan, &request, &step);
                    (at, any) = (step.at + (1 << step.bits), true);
                }
                Next::End => break,
                Next::Pause(at) => {
                    (self.progress.items.plan, self.progress.items.stage) =
                        (plan, Stage::Plan(item, at, any));
                    return Ok(false);
                }
            }
        }
        if !any {
            return Err(Error::NothingMapped);
        }
        let Items { from, to, count, reclaimed, .. } = self.progress.items;
        let mut stage = Stage::Plan(item + 1, 0, false);
        if item + 1 == count {
            stage = match self.admit_plan(&plan, from, to) {
                Ok(()) => Stage::Planned,
                // Perhaps there are empty tables.
                Err(Error::OutOfKernelMemory) if !reclaimed => Stage::Reclaim(0, 0),
                Err(error) => return Err(error),
            };
        }
        (self.progress.items.plan, self.progress.items.stage) = (plan, stage);
        Ok(true)
    }

    /// Frees empty tables of all spaces.
    #[cold]
    fn reclaim_step(
        &mut self,
        tlb: &mut impl Tlb,
        mut space: u16,
        mut va: u64,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        while usize::from(space) < self.spaces.len() {
            if self.live_root(space).is_ok() && !self.reclaim(tlb, space, &mut va, budget) {
                self.progress.items.stage = Stage::Reclaim(space, va);
                return Ok(false);
            }
            (space, va) = (space + 1, 0);
        }
        let work = &mut self.progress.items;
        (work.plan, work.stage, work.reclaimed) = (Plan::NONE, Stage::Plan(0, 0, false), true);
        Ok(true)
    }

    pub(crate) fn request(&self, item: usize) -> Result<Request, Error> {
        let Items { from, to, .. } = self.progress.items;
        let Transfer { src, dest, attr, grant } = self.progress.items.list[item];
        let end = dest.checked_add(src.size()).ok_or(Error::BadArgument)?;
        let pinned = dest < layout::PINNED_END && end > layout::PINNED_BASE;
        let pinned = !passes(Check::MapPinned, !pinned);
        if src.rights().is_empty() || dest & (src.size() - 1) != 0 || end > layout::USER_END || pinned {
            return Err(Error::BadArgument);
        }
        let (from_root, to_root) = (self.live_root(from)?, self.live_root(to)?);
        Ok(Request { from, from_root, src, to, to_root, dest, rights: src.rights() | Rights::R, attr, grant })
    }

    fn admit_plan(&self, plan: &Plan, from: u16, to: u16) -> Result<(), Error> {
        if plan.to.tables + plan.from.tables > self.tables.available() || plan.to.nodes > self.nodes.free() {
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
}
