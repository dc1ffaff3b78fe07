//! The first half of a leader's work: from the first look at the entries to the own node's part.

use skerry_abi::Rights;

use crate::effect::{Access, Me, Word};
use crate::entry::{Entry, State};
use crate::lead::{At, Book, Cursor, Effect, Goal, Outcome, after, bit, first};
use crate::nodes::{Nodes, place};
use crate::revoke::{self, Order, Revoked};
use crate::rules::{Rule, kept};

fn by(entry: Entry, me: Me) -> bool {
    entry.leader() == me.node && entry.incarnation() == me.incarnation
}

/// The new entry of a page that nobody has touched: what is said about its rights, and whose it is, holds from the first touch on.
fn untouched(goal: Goal, me: Me, entry: Entry) -> Entry {
    let Me { node, incarnation } = me;
    let (so_far, with) = (entry.rights_or(Rights::RWX), |rights| Entry::limited(rights, node, incarnation));
    match goal {
        Goal::Restrict(rights) => with(so_far & rights),
        Goal::Allow(rights) => with(Rights::from_bits(so_far.bits() | rights.bits())),
        Goal::Part(rights) => with(entry.rights_or(rights)).apart(),
        _ => Entry::EMPTY,
    }
}

impl<const N: usize, const W: usize> Book<N, W> {
    /// What is left, of which nothing is held.
    #[inline(always)]
    pub(super) fn next_round(&mut self, at: &mut Cursor) -> Effect {
        (self.any, self.all) = (Nodes::EMPTY, Nodes::FULL);
        match first(self.open) {
            Some(page) => at.to(At::Look, page, Effect::Access(page, Word::Master, Access::Load)),
            None => Effect::Done,
        }
    }

    /// Goes on with the first of these; if there are none, with those that are held.
    #[inline(always)]
    pub(super) fn look(&mut self, at: &mut Cursor, pages: u64) -> Effect {
        match first(pages) {
            Some(page) => at.to(At::Look, page, Effect::Access(page, Word::Master, Access::Load)),
            None if self.held != 0 => self.ask(at, 0),
            None => self.next_round(at),
        }
    }

    #[inline(always)]
    pub(super) fn meet(&mut self, at: &mut Cursor, page: u8, entry: Entry) -> Effect {
        if let Some(outcome) = self.verdict(entry) {
            return self.decide(at, page, outcome);
        }
        match (entry.state(), self.goal) {
            (State::Empty, Goal::Recover(dead)) => Self::strike(at, page, dead),
            (State::Busy, Goal::Recover(dead)) if !by(entry, dead) => self.meet_busy(at, page, entry),
            // Nobody's frame, so it is not lost.
            (_, Goal::Recover(_)) if entry.frame() == 0 => self.lost(at, page, entry, false),
            (_, Goal::Recover(_)) => {
                *at = Cursor { old: entry, ..Cursor::at(At::Lost, page) };
                Effect::Lost(page, entry.frame())
            }
            (State::Empty, goal) => {
                let then = if goal == Goal::Unmap { At::Lift } else { At::Allow };
                Self::swap(at, then, page, entry, untouched(self.goal, self.me, entry))
            }
            (State::Busy, _) => self.meet_busy(at, page, entry),
            (_, Goal::Allow(rights)) => {
                let more = Rights::from_bits(entry.rights().bits() | rights.bits());
                let Me { node, incarnation } = self.me;
                let new = Entry::present(entry.frame(), more, node, incarnation);
                let new = match entry.state() {
                    State::Replicated if entry.is_apart() => new.apart(),
                    State::Replicated => new.replicated(),
                    _ => new,
                };
                Self::swap(at, At::Allow, page, entry, new)
            }
            _ => self.take(at, page, entry),
        }
    }

    /// What becomes of a page for which nothing has to be done: it is as it is to be, or cannot be.
    #[inline(always)]
    fn verdict(&self, entry: Entry) -> Option<Outcome> {
        let has = |rights: Rights| entry.rights_or(Rights::RWX).contains(rights);
        let apart = entry.is_apart();
        let (done, outcome) = match (entry.state(), self.goal) {
            (State::Busy, _) | (_, Goal::Recover(_)) => return None,
            (State::Empty, Goal::Unmap) => (entry == Entry::EMPTY, Outcome::Gone),
            (State::Empty, Goal::Migrate(_) | Goal::Replicate | Goal::Collapse | Goal::Join) => {
                (true, Outcome::Gone)
            }
            (_, Goal::Allow(rights)) => (has(rights), Outcome::Done),
            (_, Goal::Restrict(rights)) => (rights.contains(entry.rights_or(Rights::RWX)), Outcome::Done),
            (State::Present, goal) => (matches!(goal, Goal::Collapse | Goal::Join), Outcome::Done),
            (State::Replicated, Goal::Migrate(_)) => (apart, Outcome::Refused),
            (State::Replicated, Goal::Replicate) if apart => (true, Outcome::Refused),
            (State::Replicated, Goal::Replicate) => (true, Outcome::Done),
            (State::Replicated, Goal::Collapse) => (apart, Outcome::Refused),
            (State::Replicated, Goal::Part(_)) => (apart, Outcome::Done),
            (State::Replicated, Goal::Join) => (!apart, Outcome::Done),
            _ => return None,
        };
        done.then_some(outcome)
    }

    /// Makes the entry busy on this leader's account.
    #[inline(always)]
    fn take(&mut self, at: &mut Cursor, page: u8, entry: Entry) -> Effect {
        let busy = entry.busy(self.me.node, self.me.incarnation);
        Self::swap(at, At::Mark, page, entry, busy)
    }

    /// A page as the dead pager left it: only what is busy on its account or was in its pool needs a leader.
    #[inline(always)]
    pub(super) fn lost(&mut self, at: &mut Cursor, page: u8, entry: Entry, lost: bool) -> Effect {
        match self.goal {
            Goal::Recover(dead) if !lost && entry.state() != State::Busy => Self::strike(at, page, dead),
            _ => {
                self.lost = self.lost & !bit(page) | u64::from(lost) << page;
                self.take(at, page, entry)
            }
        }
    }

    /// The dead pager's node maps nothing any more.
    #[inline(always)]
    fn strike(at: &mut Cursor, page: u8, dead: Me) -> Effect {
        let (word, bit) = place(dead.node);
        at.to(At::Strike, page, Effect::Access(page, Word::Sharers(word), Access::Clear(bit)))
    }

    #[inline(always)]
    pub(super) fn decide(&mut self, at: &mut Cursor, page: u8, outcome: Outcome) -> Effect {
        self.open &= !bit(page);
        match outcome {
            Outcome::Done => self.done |= bit(page),
            Outcome::Refused => self.refused |= bit(page),
            _ => {}
        }
        self.look(at, after(self.open, page))
    }

    #[inline(always)]
    fn meet_busy(&mut self, at: &mut Cursor, page: u8, entry: Entry) -> Effect {
        if self.held != 0 && kept(Rule::WaitWithNothing) {
            // Not while others may wait for this leader: in the next round.
            return self.look(at, after(self.open, page));
        }
        if entry.is_contended() || !kept(Rule::MarkMasterContended) {
            return at.to(At::Park, page, Effect::Park);
        }
        Self::swap(at, At::Contend, page, entry, entry.contended())
    }

    #[inline(always)]
    pub(super) fn mark(&mut self, at: &mut Cursor, page: u8, old: Entry) -> Effect {
        *self.entry(page) = old.busy(self.me.node, self.me.incarnation);
        (self.open, self.held) = (self.open & !bit(page), self.held | bit(page));
        if old.state() == State::Replicated {
            self.replicated |= bit(page);
            self.apart |= u64::from(old.is_apart()) << page;
        }
        // Taken over from a dead leader.
        self.wake |= old.is_contended();
        Self::on_sharers(at, At::Sharers, page, 0, Access::Load)
    }

    #[inline(always)]
    pub(super) fn sharers(&mut self, at: &mut Cursor, page: u8, word: u8, bits: u64) -> Effect {
        let w = usize::from(word) % W;
        self.sharers[usize::from(page) % N].0[w] = bits;
        (self.any.0[w], self.all.0[w]) = (self.any.0[w] | bits, self.all.0[w] & bits);
        if usize::from(word) + 1 < W {
            return Self::on_sharers(at, At::Sharers, page, word + 1, Access::Load);
        }
        self.look(at, after(self.open, page))
    }

    #[inline(always)]
    pub(super) fn ask(&mut self, at: &mut Cursor, from: u16) -> Effect {
        match self.any.without(self.me.node).next(from) {
            Some(node) if kept(Rule::AskSharers) => {
                *at = Cursor { node, ..Cursor::at(At::Ask, 0) };
                Effect::Ask(node)
            }
            _ => {
                self.own.renew(self.order(self.me.node));
                self.own(at, revoke::Cursor::BEGIN, 0)
            }
        }
    }

    #[inline(always)]
    pub(super) fn own(&mut self, at: &mut Cursor, mut own: revoke::Cursor, answer: u64) -> Effect {
        let effect = self.own.step(&mut own, answer);
        self.of_own(at, own, effect)
    }

    /// What the own node's part wants, from where it is now.
    #[inline(always)]
    pub(super) fn of_own(&mut self, at: &mut Cursor, own: revoke::Cursor, effect: revoke::Effect) -> Effect {
        let effect = match effect {
            revoke::Effect::Access(page, word, access) => Effect::Access(page, word, access),
            revoke::Effect::Unmap { page, frame, keep } => Effect::Unmap { page, frame, keep },
            revoke::Effect::Free(page, frame) => Effect::FreeCopy(page, frame),
            revoke::Effect::Done => {
                self.report(self.own.used());
                if cfg!(test) {
                    // Fewer states that differ in nothing.
                    self.own = Revoked::new(Order { pages: 0, keep: None });
                }
                return self.allocate(at, self.held);
            }
        };
        *at = Cursor { own, ..Cursor::at(At::Own, 0) };
        effect
    }

    #[inline(always)]
    pub(super) fn allocate(&mut self, at: &mut Cursor, pages: u64) -> Effect {
        match (self.goal, first(pages)) {
            (Goal::Migrate(node), Some(page)) => at.to(At::Allocate, page, Effect::Allocate(page, node)),
            _ => self.await_all(at),
        }
    }
}
