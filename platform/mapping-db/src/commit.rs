//! The second pass over the items of a message: what was planned ([`crate::items`]) is done.

use skerry_abi::{Error, Rights};

use crate::apply::Op;
use crate::budget::{Budget, CREATE, GROUP, TABLE};
use crate::items::Stage;
use crate::map::{Next, Request, Step, Target, reserve_of};
use crate::walk::GROUP_BITS;
use crate::{MappingDb, Status, Tlb};

/// What is left of a step that takes long.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// All of it.
    All,
    /// To give a mapping that is there rights, from this offset of it on.
    Widen(u64),
    /// To take from the mappings below the rights that are not granted.
    Restrict,
    /// To move the mapping, when those below did this.
    Move(Rights),
    /// To set aside so many tables for this node.
    Reserve(u32, u32),
}

impl MappingDb<'_> {
    /// Does what was planned and admitted. `Ok(true)`: that was all.
    pub(crate) fn commit_step(
        &mut self,
        tlb: &mut impl Tlb,
        item: usize,
        at: u64,
        part: Part,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let free = self.tables.free();
        self.tables.reserved = 0;
        let (mut made, mut status) = (false, Status::default());
        let done = self.commit(tlb, (item, at, part), budget, &mut made, &mut status);
        if status.touched != 0 {
            tlb.sync();
        }
        if made {
            tlb.publish();
        }
        if done == Ok(false) {
            let work = &mut self.progress.items;
            work.reserved = work.reserved.saturating_sub(free.saturating_sub(self.tables.free()));
            self.tables.reserved = work.reserved;
        }
        done
    }

    fn commit(
        &mut self,
        tlb: &mut impl Tlb,
        (mut item, mut at, mut part): (usize, u64, Part),
        budget: &mut Budget,
        made: &mut bool,
        status: &mut Status,
    ) -> Result<bool, Error> {
        while item < self.progress.items.count {
            let request = self.request(item)?;
            loop {
                let pause = |db: &mut Self, at, part| {
                    db.progress.items.stage = Stage::Commit(item, at, part);
                    Ok(false)
                };
                if let Part::Reserve(node, mut left) = part {
                    if !self.reserve(request.to, node, &mut left, budget)? {
                        return pause(self, at, Part::Reserve(node, left));
                    }
                    part = Part::All;
                }
                let step = match self.next_step(&request, at, budget)? {
                    Next::Step(step) => step,
                    Next::End => break,
                    Next::Pause(at) => return pause(self, at, part),
                };
                let next = step.at + (1 << step.bits);
                match self.fulfil(tlb, &request, &step, part, budget, status)? {
                    None => {
                        (*made, part) = (true, Part::All);
                    }
                    Some(Part::Reserve(node, left)) => {
                        (*made, part) = (true, Part::Reserve(node, left));
                    }
                    Some(part) => return pause(self, step.at, part),
                }
                at = next;
            }
            (item, at, part) = (item + 1, 0, Part::All);
        }
        Ok(true)
    }

    /// Does a step, or as much of it as the budget allows: then what is left of it.
    fn fulfil(
        &mut self,
        tlb: &mut impl Tlb,
        request: &Request,
        step: &Step,
        mut part: Part,
        budget: &mut Budget,
        status: &mut Status,
    ) -> Result<Option<Part>, Error> {
        let dest = request.dest + step.at;
        let slot = match step.target {
            Target::Same(node) => {
                let low = dest - self.nodes.get(node).va();
                let from = if let Part::Widen(from) = part { from } else { low };
                let op = Op::Widen(Self::limit(request, &step.source));
                let done = self.apply(tlb, node, from..low + (1 << step.bits), op, status, budget);
                return Ok(done.err().map(Part::Widen));
            }
            Target::Free(slot) => slot,
            Target::EmptyTable(slot) => slot,
        };
        let withheld = step.source.entry.rights().without(request.rights);
        if request.grant && !withheld.is_empty() && !matches!(part, Part::Move(_)) {
            let Some(found) = self.withhold(tlb, request, step, withheld, part, budget) else {
                return Ok(Some(Part::Restrict));
            };
            part = Part::Move(found);
        }
        let cost = match step.target {
            _ if step.bits == GROUP_BITS => CREATE + GROUP,
            _ => CREATE,
        };
        if !budget.take(cost + TABLE) {
            return Ok(Some(part));
        }
        if let Target::EmptyTable(slot) = step.target {
            self.drop_empty(tlb, request.to, slot, dest);
            tlb.sync();
        }
        if request.grant {
            let found = if let Part::Move(found) = part { found } else { Rights::NONE };
            self.relocate(tlb, request, step, slot, found)?;
            return Ok(None);
        }
        let node = self.create(request, step, slot)?;
        Ok((step.bits > GROUP_BITS).then(|| Part::Reserve(node, reserve_of(step.bits))))
    }
}
