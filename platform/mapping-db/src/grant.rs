//! Grants: items that move a mapping instead of deriving one.
//!
//! The giver loses the mapping, and what was mapped on from it stays, below the new holder. Only whole mappings can be granted.

use skerry_abi::{Error, Rights};

use crate::apply::Op;
use crate::arena::{Quota, Slot};
use crate::budget::Budget;
use crate::commit::Part;
use crate::descriptor::Entry;
use crate::map::{Request, Step, reserve_of};
use crate::walk::GROUP_BITS;
use crate::{MappingDb, Tlb};

impl MappingDb<'_> {
    /// Takes from the mappings below one that is granted what is not granted. When that is done, what they did.
    pub(crate) fn withhold(
        &mut self,
        tlb: &mut impl Tlb,
        request: &Request,
        step: &Step,
        withheld: Rights,
        part: Part,
        budget: &mut Budget,
    ) -> Option<Rights> {
        let mut revocation = match part {
            Part::Restrict => self.progress.revocation,
            _ => {
                let va = request.src.base() + step.at;
                let range = va..va + (1 << step.bits);
                self.revocation(&step.source, range, Op::Restrict(withheld), false).silent()
            }
        };
        let done = self.revoke(tlb, &mut revocation, budget);
        self.progress.revocation = revocation;
        if revocation.found.touched != 0 {
            tlb.sync();
        }
        done.then_some(revocation.found.seen)
    }

    /// Moves a mapping to `slot` of the other space.
    pub(crate) fn relocate(
        &mut self,
        tlb: &mut impl Tlb,
        request: &Request,
        step: &Step,
        slot: Slot,
        found: Rights,
    ) -> Result<(), Error> {
        let (node, bits, old) = (step.source.node, step.bits, step.source.slot);
        let (va, dest) = (request.src.base() + step.at, request.dest + step.at);
        let entry = self.tables.remove(old);
        tlb.invalidate(request.from, va, bits);
        tlb.sync();
        let seen = found | entry.usage();
        let place = self.hang_tables(request.to, slot, bits, dest)?;
        let moved = self.nodes.get_mut(node);
        moved.relocate(request.to, dest);
        if bits <= GROUP_BITS {
            moved.more = place.table;
        }
        // Those who gave it are told what happened before, by way of the new holder.
        let rights = request.rights & entry.rights();
        let attr = request.attr.max(entry.attr());
        let entry = Entry::leaf(entry.pa(), bits, rights, attr).with_history(seen);
        self.tables.put(place, bits, entry, node);
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
