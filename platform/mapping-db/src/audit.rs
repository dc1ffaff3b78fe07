//! Who has a frame: the leaves that map it, one after the other, in the order of the mapping tree.
//!
//! For those who want to know whether a frame that nobody should have any more is really nobody's. A leaf is named by its space and
//! address, and the next one is looked for from there, so between two of them anything may change: a leaf that is gone
//! meanwhile is an error, and the search begins again. One search can take long, since siblings are in lists; inside of it the database
//! is held like by a revocation ([`crate::held`]), and whoever wants to change something completes it first. (Rejected: a
//! snapshot of all leaves in one call, for which there would have to be room.)

use skerry_abi::layout::USER_END;
use skerry_abi::{Error, Rights};

use crate::MappingDb;
use crate::arena::NIL;
use crate::budget::{Budget, LOOK, MAPPING};
use crate::held::Held;
use crate::revoke::Revocation;
use crate::walk::PAGE_BITS;

/// An entry that maps a frame, or a block that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The slot of its space.
    pub slot: u16,
    /// Its first address.
    pub va: u64,
    /// log2 of its size.
    pub bits: u32,
    /// What may be done through it.
    pub rights: Rights,
}

/// What is looked for: the leaf behind `after` (none: the first) of those for what is mapped at an address of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The space that all others have the frame from, and where it has it.
    pub top: (u16, u64),
    /// A space and an address there.
    pub after: Option<(u16, u64)>,
}

/// What came of a search: a leaf, or none any more.
type Found = Result<Option<Leaf>, Error>;

/// A search, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audit {
    question: Question,
    /// Where the frame lies in the mapping at the top, and in that behind which the search begins.
    top: (u32, u64),
    after: (u32, u64),
    /// First: whether one is derived from the other at all. A step of the way up, NIL at the end.
    climb: u32,
    walk: Revocation,
    /// It is complete.
    found: Option<Found>,
}

impl Audit {
    pub(crate) const NONE: Self = Self {
        question: Question { top: (0, 0), after: None },
        top: (NIL, 0),
        after: (NIL, 0),
        climb: NIL,
        walk: Revocation::NONE,
        found: None,
    };
}

impl MappingDb<'_> {
    /// Whether this question is being answered, or has been by somebody who has helped.
    pub fn is_asked(&self, question: Question) -> bool {
        let audit = &self.progress.audit;
        audit.question == question && (audit.found.is_some() || self.progress.held == Held::Audit)
    }

    /// The leaf that is asked for; `Some(Ok(None))`: there are no more. `None`: the budget does not suffice; the same is to be asked again, with
    /// `resumed`. The database must not be held, unless it [`MappingDb::is_asked`] this and the caller is `resumed`.
    ///
    /// # Errors
    /// [`Error::NothingMapped`] if the space at the top has nothing there, [`Error::WrongState`] if `after` is no leaf for
    /// what is there (any more).
    pub fn audit_step(&mut self, question: Question, resumed: bool, budget: &mut Budget) -> Option<Found> {
        if !(resumed && self.is_asked(question)) {
            debug_assert!(!self.is_held());
            self.progress.audit = match self.search(question) {
                Ok(audit) => audit,
                Err(error) => return Some(Err(error)),
            };
            budget.charge(2 * (LOOK + MAPPING));
        }
        let done = self.progress.audit.found.is_some() || self.audit_on(budget);
        if done { self.progress.audit.found.take() } else { None }
    }

    fn search(&self, question: Question) -> Result<Audit, Error> {
        let (slot, va) = question.top;
        let top = (self.mapping(slot, va).ok_or(Error::NothingMapped)?, va);
        let begun = Audit { question, top, ..Audit::NONE };
        let Some((space, at)) = question.after else {
            return Ok(Audit { found: Some(Ok(self.leaf_of(top.0, va))), ..begun });
        };
        let frame = |slot, va| self.lookup(slot, va).map(|found| found.pa);
        let after = self.mapping(space, at).filter(|_| frame(space, at) == frame(slot, va));
        let after = (after.ok_or(Error::WrongState)?, at);
        Ok(Audit { after, climb: after.0, ..begun })
    }

    /// Goes on with the search that holds the database. Whether it is complete.
    pub(crate) fn audit_on(&mut self, budget: &mut Budget) -> bool {
        self.let_go();
        let mut audit = self.progress.audit;
        audit.found = self.look_on(&mut audit, budget);
        self.progress.audit = audit;
        if audit.found.is_none() {
            self.hold(Held::Audit);
        }
        audit.found.is_some()
    }

    fn look_on(&self, audit: &mut Audit, budget: &mut Budget) -> Option<Found> {
        while audit.climb != NIL {
            if !budget.take(LOOK) {
                return None;
            }
            let parent = self.nodes.get(audit.climb).parent;
            if audit.climb == audit.top.0 {
                audit.walk = self.walk_below(audit.top, audit.after);
            } else if parent == NIL {
                return Some(Err(Error::WrongState));
            }
            audit.climb = if audit.climb == audit.top.0 { NIL } else { parent };
        }
        loop {
            let (node, offset) = self.next(&mut audit.walk, budget)?;
            if node == NIL {
                return Some(Ok(None));
            }
            let leaf = self.leaf_of(node, self.nodes.get(node).va() + offset);
            if leaf.is_some() {
                return Some(Ok(leaf));
            }
            budget.charge(LOOK + MAPPING);
        }
    }

    /// The mapping at an address of a space.
    fn mapping(&self, slot: u16, va: u64) -> Option<u32> {
        let place = self.descend(self.live_root(slot).ok()?, va, PAGE_BITS);
        (va < USER_END && place.is_mapping()).then_some(place.node)
    }

    /// The leaf of a mapping at an address in it, if that page was not taken away.
    fn leaf_of(&self, node: u32, va: u64) -> Option<Leaf> {
        let slot = self.nodes.get(node).space();
        let place = self.descend(self.root(slot), va, PAGE_BITS);
        let bits = place.slot.bits;
        let leaf = Leaf { slot, va: va & !((1 << bits) - 1), bits, rights: place.entry.rights() };
        (place.is_mapping() && place.node == node).then_some(leaf)
    }
}
