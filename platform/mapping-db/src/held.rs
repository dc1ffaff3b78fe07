//! Operations in steps.
//!
//! What takes long is done in steps, between which the lock is released and interrupts are taken. An operation stops in one of two ways:
//! - *Between* two mappings of its space (the leaves that a large fpage consists of): the database is whole, and everybody can go on with
//!   anything. Where it stopped is a number that the caller keeps.
//! - *Inside*: in the midst of what was derived from one mapping (to take it away, or to look at it), or of the items of a message. Then the database is *held*: whoever wants to
//!   change something first helps to finish ([`MappingDb::help`]). So nobody waits for somebody less urgent, nobody sees half of
//!   a message's items, and a tree that is being revoked does not grow.
//!
//! Lookups, [`MappingDb::check`], the kernel's own pages, and the creation of spaces are possible at any time.

use crate::arena::NIL;
use crate::audit::{Audit, Found, Question};
use crate::budget::Budget;
use crate::items::{Items, Outcome};
use crate::revoke::Revocation;
use crate::{MappingDb, Status, Tlb};

/// What the database is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// Nothing.
    Free,
    /// `revocation`.
    Revocation,
    /// `items`.
    Items,
    /// `audit`.
    Audit,
}

/// The state of the held operation.
pub(crate) struct Progress {
    pub(crate) held: Held,
    pub(crate) revocation: Revocation,
    /// The address behind the range that is being revoked, in the space that asked for it.
    pub(crate) end: u64,
    pub(crate) items: Items,
    pub(crate) audit: Audit,
}

impl Progress {
    pub(crate) const NONE: Self = Self {
        held: Held::Free,
        revocation: Revocation::NONE,
        end: 0,
        items: Items::NONE,
        audit: Audit::NONE,
    };
}

/// What [`MappingDb::help`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Helped {
    /// It is not complete yet.
    Again,
    /// Nothing is held.
    Free,
    /// A revocation is complete. Whoever asked for it goes on at this address, and has found this.
    Revoked(u64, Status),
    /// A search is complete. Whoever asked this is to get the answer, unless it has become wrong by then: see [`MappingDb::still`].
    Audited(Question, Found),
    /// News of the items of a message: never [`Outcome::Again`].
    Items(Outcome),
}

impl MappingDb<'_> {
    /// Whether somebody is in the middle of something.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.progress.held != Held::Free
    }

    /// Goes on with what holds the database. For those who want to change it. Items whose plan is made are left alone: see
    /// [`MappingDb::commit_items`].
    pub fn help(&mut self, tlb: &mut impl Tlb, budget: &mut Budget) -> Helped {
        match self.progress.held {
            Held::Free => Helped::Free,
            Held::Revocation => {
                let done = self.go_on(tlb, budget);
                tlb.sync();
                done.map_or(Helped::Again, |status| Helped::Revoked(self.progress.end, status))
            }
            Held::Audit => match self.audit_on(budget) {
                Some(found) => Helped::Audited(self.progress.audit.question, found),
                None => Helped::Again,
            },
            Held::Items => match self.items_step(tlb, budget) {
                Outcome::Again => Helped::Again,
                outcome => Helped::Items(outcome),
            },
        }
    }

    /// Goes on with the revocation. When it is complete, what it found. The caller syncs, also if it is not complete.
    pub(crate) fn go_on(&mut self, tlb: &mut impl Tlb, budget: &mut Budget) -> Option<Status> {
        debug_assert!(
            self.progress.held != Held::Items,
            "items are the business of those who hold it for them"
        );
        self.let_go();
        let mut revocation = self.progress.revocation;
        let done = self.revoke(tlb, &mut revocation, budget);
        if done {
            return Some(revocation.found);
        }
        self.progress.revocation = revocation;
        self.hold(Held::Revocation);
        None
    }

    /// Nobody else changes anything from now on. The fast paths find no free node, and leave it to the general code to find out why.
    pub(crate) fn hold(&mut self, what: Held) {
        self.progress.held = what;
        self.nodes.aside = core::mem::replace(&mut self.nodes.first_free, NIL);
    }

    /// The opposite.
    pub(crate) fn let_go(&mut self) {
        if self.is_held() {
            self.progress.held = Held::Free;
            self.nodes.first_free = core::mem::replace(&mut self.nodes.aside, NIL);
        }
    }
}
