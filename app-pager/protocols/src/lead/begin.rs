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
        match (entry.state(), self.goal) {
            (State::Empty, Goal::Recover(dead)) => Self::strike(at, page, dead),
            (State::Busy, Goal::Recover(dead)) if !by(entry, dead) => self.meet_busy(at, page, entry),
            (_, Goal::Recover(_)) => {
                *at = Cursor { old: entry, ..Cursor::at(At::Lost, page) };
                Effect::Lost(page, entry.frame())
            }
            (State::Empty, _) => self.decide(at, page, Outcome::Gone),
            (State::Busy, _) => self.meet_busy(at, page, entry),
            (_, Goal::Allow(rights)) if entry.rights().contains(rights) => {
                self.decide(at, page, Outcome::Done)
            }
            (_, Goal::Allow(rights)) => {
                let more = Rights::from_bits(entry.rights().bits() | rights.bits());
                let Me { node, incarnation } = self.me;
                let new = Entry::present(entry.frame(), more, node, incarnation);
                let new = if entry.state() == State::Replicated { new.replicated() } else { new };
                Self::swap(at, At::Allow, page, entry, new)
            }
            (State::Present, Goal::Collapse) | (State::Replicated, Goal::Replicate) => {
                self.decide(at, page, Outcome::Done)
            }
            (_, Goal::Restrict(rights)) if rights.contains(entry.rights()) => {
                self.decide(at, page, Outcome::Done)
            }
            _ => self.take(at, page, entry),
        }
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
        if outcome == Outcome::Done {
            self.done |= bit(page);
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
        let effect = match self.own.step(&mut own, answer) {
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
