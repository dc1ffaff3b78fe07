//! The second half of a leader's work: from the last request to the end of the round.

use crate::effect::{Access, Me, Word};
use crate::entry::Entry;
use crate::lead::{At, Effect, Goal, Lead, Outcome, Page};
use crate::rules::{Rule, kept};

impl<const N: usize, const W: usize> Lead<N, W> {
    pub(super) fn await_all(&mut self) -> Effect {
        let early = self.first(0, Outcome::Held).and_then(|page| self.too_early(page));
        match early {
            Some(effect) => self.to(At::Early, effect),
            None if kept(Rule::AwaitAll) => self.to(At::Await, Effect::Await),
            None => self.finish(0),
        }
    }

    /// What a leader does now that should come after the acknowledgements, if a test breaks the rule that says so.
    fn too_early(&self, page: u8) -> Option<Effect> {
        let Page { held, sharers, fresh, .. } = self.pages[usize::from(page)];
        if !kept(Rule::FreeLast) {
            Some(Effect::Free(page, held.frame()))
        } else if !kept(Rule::ShareUntilUnmapped) {
            Some(Effect::Access(page, Word::Sharers(0), Access::Clear(sharers.0[0])))
        } else if !kept(Rule::CopyLast) && fresh != 0 {
            Some(Effect::Copy { page, from: held.frame(), to: fresh })
        } else {
            None
        }
    }

    pub(super) fn finish(&mut self, from: u8) -> Effect {
        match self.first(from, Outcome::Held) {
            Some(page) if !kept(Rule::MaintainBeforeReuse) => self.copy(page),
            Some(page) => {
                let frame = self.pages[usize::from(page)].held.frame();
                self.to(At::Maintain(page), Effect::Maintain(page, frame))
            }
            None if self.wake && kept(Rule::WakeAll) => {
                self.wake = false;
                self.to(At::Wake, Effect::Wake)
            }
            None => self.next_round(),
        }
    }

    pub(super) fn copy(&mut self, page: u8) -> Effect {
        let it = &self.pages[usize::from(page)];
        match it.fresh {
            0 => self.claim(page),
            _ if !kept(Rule::CopyLast) => self.claim(page),
            to => self.to(At::Copy(page), Effect::Copy { page, from: it.held.frame(), to }),
        }
    }

    /// From now on, and until it is freed, the frame is in no table.
    pub(super) fn claim(&mut self, page: u8) -> Effect {
        let it = &self.pages[usize::from(page)];
        let goes = match self.goal {
            Goal::Unmap => true,
            Goal::Migrate(_) => it.fresh != 0,
            _ => false,
        };
        let frame = it.held.frame();
        if goes && kept(Rule::ClaimFirst) {
            self.to(At::Claim(page), Effect::Claim(page, frame))
        } else {
            self.leave(page, 0)
        }
    }

    pub(super) fn leave(&mut self, page: u8, word: u8) -> Effect {
        let keeps = matches!(self.goal, Goal::Restrict(_));
        let sharers = &self.pages[usize::from(page)].sharers.0;
        match (usize::from(word)..W).find(|&word| sharers[word] != 0) {
            Some(word) if !keeps => {
                let clear = Access::Clear(sharers[word]);
                self.to(At::Leave(page, word as u8), Effect::Access(page, Word::Sharers(word as u8), clear))
            }
            _ => self.complete(page),
        }
    }

    fn complete(&mut self, page: u8) -> Effect {
        let it = &self.pages[usize::from(page)];
        let Me { node, incarnation } = self.me;
        let put = |frame, rights| Entry::present(frame, rights, node, incarnation);
        let new = match self.goal {
            Goal::Unmap => Entry::EMPTY,
            Goal::Recover(_) if it.lost => Entry::EMPTY,
            Goal::Recover(_) => put(it.held.frame(), it.held.rights()),
            Goal::Allow(_) => it.held,
            Goal::Restrict(rights) if it.replicated => {
                put(it.held.frame(), it.held.rights() & rights).replicated()
            }
            Goal::Restrict(rights) => put(it.held.frame(), it.held.rights() & rights),
            Goal::Replicate => put(it.held.frame(), it.held.rights()).replicated(),
            Goal::Collapse => put(it.held.frame(), it.held.rights()),
            Goal::Migrate(_) if it.fresh == 0 => put(it.held.frame(), it.held.rights()),
            Goal::Migrate(_) => put(it.fresh, it.held.rights()),
        };
        let old = it.held;
        self.swap(At::Complete(page), page, old, new)
    }

    pub(super) fn completed(&mut self, page: u8, found: Entry) -> Effect {
        let it = &mut self.pages[usize::from(page)];
        if found != it.held {
            // Somebody waits.
            it.held = found;
            self.wake = true;
            return self.complete(page);
        }
        let failed = matches!(self.goal, Goal::Migrate(_)) && it.fresh == 0;
        it.outcome = if failed { Outcome::NoFrame } else { Outcome::Done };
        let frame = it.held.frame();
        match self.goal {
            Goal::Unmap | Goal::Migrate(_) if !failed && kept(Rule::FreeLast) => {
                self.to(At::Free(page), Effect::Free(page, frame))
            }
            _ => self.finish(page + 1),
        }
    }
}
