//! The second half of a leader's work: from the last request to the end of the round.

use crate::effect::{Access, Me, Word};
use crate::entry::Entry;
use crate::lead::{At, Book, Cursor, Effect, Goal, after, bit, first};
use crate::rules::{Rule, kept};

impl<const N: usize, const W: usize> Book<N, W> {
    #[inline(always)]
    pub(super) fn await_all(&mut self, at: &mut Cursor) -> Effect {
        match first(self.held).and_then(|page| self.too_early(page)) {
            Some(effect) => at.to(At::Early, 0, effect),
            None if kept(Rule::AwaitAll) => at.to(At::Await, 0, Effect::Await),
            None => self.finish(at, self.held),
        }
    }

    /// What a leader does now that should come after the acknowledgements, if a test breaks the rule that says so.
    #[inline(always)]
    fn too_early(&mut self, page: u8) -> Option<Effect> {
        let index = usize::from(page) % N;
        let (entry, sharers, fresh) = (self.entries[index], self.sharers[index], self.fresh[index]);
        if !kept(Rule::FreeLast) {
            Some(Effect::Free(page, entry.frame()))
        } else if !kept(Rule::ShareUntilUnmapped) {
            Some(Effect::Access(page, Word::Sharers(0), Access::Clear(sharers.0[0])))
        } else if !kept(Rule::CopyLast) && self.moves(page) {
            Some(Effect::Copy { page, from: entry.frame(), to: fresh })
        } else {
            None
        }
    }

    /// Whether the page moves.
    #[inline(always)]
    const fn moves(&self, page: u8) -> bool {
        matches!(self.goal, Goal::Migrate(_)) && self.moving & bit(page) != 0
    }

    /// Completes these pages.
    #[inline(always)]
    pub(super) fn finish(&mut self, at: &mut Cursor, pages: u64) -> Effect {
        match first(pages) {
            // It is apart, and nobody had touched it before.
            Some(page) if self.is_bare(page) => self.leave(at, page, 0),
            Some(page) if !kept(Rule::MaintainBeforeReuse) => self.copy(at, page),
            Some(page) => {
                let frame = self.entry(page).frame();
                at.to(At::Maintain, page, Effect::Maintain(page, frame))
            }
            None if self.wake && kept(Rule::WakeAll) => {
                self.wake = false;
                at.to(At::Wake, 0, Effect::Wake)
            }
            None => self.next_round(at),
        }
    }

    /// Whether the page has no frame of its own.
    #[inline(always)]
    fn is_bare(&self, page: u8) -> bool {
        self.entries[usize::from(page) % N].frame() == 0
    }

    #[inline(always)]
    pub(super) fn copy(&mut self, at: &mut Cursor, page: u8) -> Effect {
        if self.moves(page) && kept(Rule::CopyLast) {
            let (from, to) = (self.entry(page).frame(), self.fresh[usize::from(page) % N]);
            return at.to(At::Copy, page, Effect::Copy { page, from, to });
        }
        self.claim(at, page)
    }

    /// From now on, and until it is freed, the frame is in no table.
    #[inline(always)]
    pub(super) fn claim(&mut self, at: &mut Cursor, page: u8) -> Effect {
        let goes = match self.goal {
            Goal::Unmap => true,
            Goal::Migrate(_) => self.moves(page),
            _ => false,
        };
        let frame = self.entry(page).frame();
        if goes && kept(Rule::ClaimFirst) {
            at.to(At::Claim, page, Effect::Claim(page, frame))
        } else {
            self.leave(at, page, 0)
        }
    }

    #[inline(always)]
    pub(super) fn leave(&mut self, at: &mut Cursor, page: u8, word: u8) -> Effect {
        let keeps = matches!(self.goal, Goal::Restrict(_));
        let sharers = self.sharers[usize::from(page) % N].0;
        let mut word = usize::from(word);
        while word < W && !keeps {
            if sharers[word] != 0 {
                return Self::on_sharers(at, At::Leave, page, word as u8, Access::Clear(sharers[word]));
            }
            word += 1;
        }
        self.complete(at, page)
    }

    #[inline(always)]
    fn complete(&mut self, at: &mut Cursor, page: u8) -> Effect {
        let (old, fresh) = (*self.entry(page), self.fresh[usize::from(page) % N]);
        let Me { node, incarnation } = self.me;
        let put = |frame, rights| Entry::present(frame, rights, node, incarnation);
        let new = match self.goal {
            Goal::Unmap => Entry::EMPTY,
            Goal::Recover(_) if self.lost & bit(page) != 0 => Entry::EMPTY,
            // What nodes had for themselves is lost.
            Goal::Recover(_) | Goal::Join if old.frame() == 0 => {
                Entry::limited(old.rights(), node, incarnation)
            }
            Goal::Recover(_) => put(old.frame(), old.rights()),
            Goal::Allow(_) => old,
            Goal::Restrict(rights) if self.apart & bit(page) != 0 => {
                put(old.frame(), old.rights() & rights).apart()
            }
            Goal::Restrict(rights) if self.replicated & bit(page) != 0 => {
                put(old.frame(), old.rights() & rights).replicated()
            }
            Goal::Restrict(rights) => put(old.frame(), old.rights() & rights),
            Goal::Replicate => put(old.frame(), old.rights()).replicated(),
            Goal::Part(_) => put(old.frame(), old.rights()).apart(),
            Goal::Collapse | Goal::Join => put(old.frame(), old.rights()),
            Goal::Migrate(_) if !self.moves(page) => put(old.frame(), old.rights()),
            Goal::Migrate(_) => put(fresh, old.rights()),
        };
        Self::swap(at, At::Complete, page, old, new)
    }

    #[inline(always)]
    pub(super) fn completed(&mut self, at: &mut Cursor, page: u8, found: Entry) -> Effect {
        if found != *self.entry(page) {
            // Somebody waits.
            *self.entry(page) = found;
            self.wake = true;
            return self.complete(at, page);
        }
        let failed = matches!(self.goal, Goal::Migrate(_)) && !self.moves(page);
        self.held &= !bit(page);
        if failed {
            self.no_frame |= bit(page);
        } else {
            self.done |= bit(page);
        }
        let frame = found.frame();
        match self.goal {
            _ if self.is_bare(page) => self.finish(at, after(self.held, page)),
            Goal::Unmap | Goal::Migrate(_) if !failed && kept(Rule::FreeLast) => {
                at.to(At::Free, page, Effect::Free(page, frame))
            }
            _ => self.finish(at, after(self.held, page)),
        }
    }
}
