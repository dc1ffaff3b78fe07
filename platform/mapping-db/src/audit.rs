//! Who has a frame: the leaves that map it, one after the other, in the order of the mapping tree.
//!
//! For those who want to know whether a frame that nobody should have any more is really nobody's. A leaf is named by its space and
//! address, and the next one is looked for from there, so between two of them anything may change: a leaf that is gone
//! meanwhile is an error, and the search begins again. One search can take long, since siblings are in lists; inside of it the database
//! is held like by a revocation ([`crate::held`]), and whoever wants to change something, or asks something else, completes it first.
//! The answer is then the asker's, who may come much later: what it says has to be true still ([`MappingDb::still`]).
//!
//! (Rejected: a snapshot of all leaves in one call, for which there would have to be room. A search that holds nothing, and goes on from
//! the mapping where it stopped: whoever takes that away in time keeps the search from ever coming to an end.)

use skerry_abi::layout::USER_END;
use skerry_abi::{Error, Rights};

use crate::MappingDb;
use crate::arena::NIL;
use crate::budget::{Budget, LOOK, MAPPING};
use crate::held::Held;
use crate::revoke::Revocation;
use crate::walk::PAGE_BITS;

/// An entry that maps a frame, or a block that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    /// The space that all others have the frame from, and where it has it.
    pub top: (u16, u64),
    /// A space and an address there.
    pub after: Option<(u16, u64)>,
}

/// What came of a search: a leaf, or none any more. The error is that of [`MappingDb::audit`].
pub type Found = Result<Option<Leaf>, Error>;

/// A search, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audit {
    pub(crate) question: Question,
    /// Where the frame lies in the mapping at the top, and in that behind which the search begins.
    top: (u32, u64),
    after: (u32, u64),
    /// First: whether one is derived from the other at all. A step of the way up, NIL at the end.
    climb: u32,
    walk: Revocation,
}

impl Audit {
    pub(crate) const NONE: Self = Self {
        question: Question { top: (0, 0), after: None },
        top: (NIL, 0),
        after: (NIL, 0),
        climb: NIL,
        walk: Revocation::NONE,
    };
}

impl MappingDb<'_> {
    /// The leaf that is asked for; `Some(Ok(None))`: there are no more. `None`: the budget does not suffice, and the search holds the
    /// database. It goes on with [`MappingDb::help`], which also tells the answer. The database must not be held.
    ///
    /// # Errors
    /// [`Error::NothingMapped`] if the space at the top has nothing there, [`Error::WrongState`] if `after` is no leaf for
    /// what is there (any more).
    pub fn audit(&mut self, question: Question, budget: &mut Budget) -> Option<Found> {
        debug_assert!(!self.is_held());
        budget.charge(2 * (LOOK + MAPPING));
        let (slot, va) = question.top;
        let Some(top) = self.mapping(slot, va) else { return Some(Err(Error::NothingMapped)) };
        let Some((space, at)) = question.after else { return Some(Ok(self.leaf_of(top, va))) };
        let frame = |slot, va| self.lookup(slot, va).map(|found| found.pa);
        let after = self.mapping(space, at).filter(|_| frame(space, at) == frame(slot, va));
        let Some(after) = after else { return Some(Err(Error::WrongState)) };
        self.progress.audit =
            Audit { question, top: (top, va), after: (after, at), climb: after, ..Audit::NONE };
        self.audit_on(budget)
    }

    /// What has become of a leaf that was an answer to this question, perhaps long ago: what is at its place now, if that still has
    /// the frame. (Its slot may be another space's.)
    pub fn still(&self, question: Question, leaf: Leaf) -> Option<Leaf> {
        let (slot, va) = question.top;
        let frame = self.lookup(slot, va)?.pa;
        let at = leaf.va | frame & ((1 << leaf.bits) - 1);
        let same = self.lookup(leaf.slot, at)?.pa == frame;
        self.mapping(leaf.slot, at).filter(|_| same).and_then(|node| self.leaf_of(node, at))
    }

    /// Goes on with the search that holds the database, as far as the budget goes.
    pub(crate) fn audit_on(&mut self, budget: &mut Budget) -> Option<Found> {
        self.let_go();
        let mut audit = self.progress.audit;
        let found = self.look_on(&mut audit, budget);
        self.progress.audit = audit;
        if found.is_none() {
            self.hold(Held::Audit);
        }
        found
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
