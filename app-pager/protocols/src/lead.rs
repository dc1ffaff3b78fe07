//! Changing pages for everybody: unmap, restrict, move, clear up.
//!
//! ```text
//! begin, per page    present ─swap→ busy (this leader), then read the sharers
//! ask                the workers of exactly the sharers, all of them first; the own node meanwhile
//! await              all acknowledgements
//! complete, per page cache maintenance, copy; leave the sharers; busy ─swap→ empty or present; free the old frame
//! wake               everybody, if somebody marked an entry contended
//! ```
//!
//! Who makes an entry busy leads: nobody else changes it until it is completed, and no node can begin to map the page (see
//! [`crate::fault`]). Many pages go in one round, but a leader never waits for a busy entry while entries are busy on its
//! account: it leaves such pages for a round of their own. So leaders that want each other's pages do not wait for each other.

mod complete;
#[cfg(test)]
mod tests;

use skerry_abi::Rights;

use crate::effect::{Access, Me, Word};
use crate::entry::{Entry, State};
use crate::nodes::{Nodes, place};
use crate::revoke::{self, MAX_PAGES, Order, Revoke, Used};
use crate::rules::{Rule, kept};

/// What is to become of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Goal {
    /// Nobody has them any more.
    Unmap,
    /// Nobody has more rights to them than these.
    Restrict(Rights),
    /// Threads may have these rights to them, too. Nodes learn of it when a thread of theirs faults.
    Allow(Rights),
    /// They lie on this node.
    Migrate(u16),
    /// Every node makes a copy of its own when it reads them.
    Replicate,
    /// Their copies are gone, and the frame they were made from may be written again.
    Collapse,
    /// They are as if this pager, which is dead, had never led, and not in frames of its pool. See [`crate::recovery`].
    Recover(Me),
}

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Outcome {
    /// Nothing yet.
    #[default]
    Open,
    /// The entry is busy on this leader's account.
    Held,
    /// As it was to be.
    Done,
    /// There was no page, or somebody else unmapped it first.
    Gone,
    /// There was no frame to move it to; it is where it was.
    NoFrame,
}

/// What the interpreter does next; it answers with one word, 0 where nothing is said. Pages are indices in the batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// On a word of this page; the answer is the value that was found.
    Access(u8, Word, Access),
    /// As [`revoke::Effect::Unmap`], on this node.
    Unmap {
        /// The page.
        page: u8,
        /// Its frame.
        frame: u64,
        /// What may stay.
        keep: Option<Rights>,
    },
    /// Sends [`Lead::order`] to this node's worker and does not wait.
    Ask(u16),
    /// A frame of this node for the page, and the call that may be; the answer is its address, or 0.
    Allocate(u8, u16),
    /// Waits until every worker that was asked has answered, or is gone with its kernel's mappings. What they say
    /// goes to [`Lead::report`] before.
    Await,
    /// Cache maintenance, if the memory model wants any, of a page's old frame that nobody maps any more (or, after a
    /// restriction, with fewer rights).
    Maintain(u8, u64),
    /// Whether this frame of the page was in a pool that is lost (1) or not (0).
    Lost(u8, u64),
    /// Writes into the record of a page's frame that this leader has it in hand.
    Claim(u8, u64),
    /// As [`revoke::Effect::Free`], on this node.
    FreeCopy(u8, u64),
    /// Copies a page's contents between frames that nobody maps.
    Copy {
        /// The page.
        page: u8,
        /// From this frame.
        from: u64,
        /// To this frame.
        to: u64,
    },
    /// Gives a page's frame back to the pool of its node, without waiting.
    Free(u8, u64),
    /// Wakes the parked jobs of all nodes.
    Wake,
    /// Waits until woken (a wake that came since the machine began counts).
    Park,
    /// The end.
    Done,
}

/// A page of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Page<const W: usize> {
    /// The busy entry.
    held: Entry,
    sharers: Nodes<W>,
    /// The frame it moves to.
    fresh: u64,
    /// Its frame is gone.
    lost: bool,
    /// It was replicated before.
    replicated: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Begin,
    Look(u8),
    Mark(u8, Entry),
    Contend(u8, Entry),
    Allow(u8, Entry),
    Lost(u8, Entry),
    Strike(u8),
    Sharers(u8, u8),
    Park(u8),
    Ask(u16),
    Own,
    Allocate(u8),
    Early,
    Await,
    Maintain(u8),
    Copy(u8),
    Claim(u8),
    Leave(u8, u8),
    Complete(u8),
    Free(u8),
    Wake,
}

/// A batch being led. `N` pages at most, of tasks on up to 64 `W` nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lead<const N: usize, const W: usize> {
    me: Me,
    goal: Goal,
    pages: [Page<W>; N],
    own: Revoke<N>,
    used: Used,
    wake: bool,
    at: At,
}

impl<const N: usize, const W: usize> Lead<N, W> {
    /// `count` pages towards one goal.
    pub fn new(me: Me, goal: Goal, count: usize) -> Self {
        Self::of(me, goal, if count < MAX_PAGES { (1 << count) - 1 } else { u64::MAX })
    }

    /// The pages of this set, by index, towards one goal.
    #[inline(always)]
    pub fn of(me: Me, goal: Goal, pages: u64) -> Self {
        let page = |i: usize| Page {
            held: Entry::EMPTY,
            sharers: Nodes::EMPTY,
            fresh: 0,
            lost: false,
            replicated: false,
            // What is not in the batch is no work.
            outcome: if pages >> i & 1 != 0 { Outcome::Open } else { Outcome::Gone },
        };
        Self {
            me,
            goal,
            pages: core::array::from_fn(page),
            own: Revoke::new(Order { pages: 0, keep: None }),
            used: Used::default(),
            wake: false,
            at: At::Begin,
        }
    }

    /// What became of the pages, by index.
    pub fn outcome(&self, page: usize) -> Outcome {
        self.pages.get(page).map_or(Outcome::Gone, |page| page.outcome)
    }
    /// What is to become of them.
    pub const fn goal(&self) -> Goal {
        self.goal
    }
    /// The pages from this one on whose entries are busy on this leader's account, a bit each.
    pub fn held(&self, from: u8) -> u64 {
        let held = |page: &Page<W>| page.outcome == Outcome::Held;
        let all = self.pages.iter().enumerate().skip(from.into());
        all.fold(0, |bits, (i, page)| bits | u64::from(held(page)) << i)
    }
    /// The frames that it has in hand and that are in no table yet: whoever drops the leader before its end gives them back.
    pub fn in_hand(&self) -> impl Iterator<Item = u64> {
        let held = self.pages.iter().filter(|page| page.outcome == Outcome::Held && page.fresh != 0);
        held.map(|page| page.fresh)
    }
    /// How the pages were used, on all nodes.
    pub const fn used(&self) -> Used {
        self.used
    }
    /// Takes what a worker says in its acknowledgement.
    pub const fn report(&mut self, used: Used) {
        self.used = self.used.merge(used);
    }
    /// What `node` is asked for.
    pub fn order(&self, node: u16) -> Order {
        let keep = match self.goal {
            Goal::Restrict(rights) => Some(rights),
            _ => None,
        };
        let has = |page: &Page<W>| page.outcome == Outcome::Held && page.sharers.contains(node);
        let pages = self.pages.iter().enumerate();
        Order { pages: pages.fold(0, |bits, (i, page)| bits | u64::from(has(page)) << i), keep }
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    #[inline(always)]
    pub fn step(&mut self, answer: u64) -> Effect {
        match self.at {
            At::Begin => self.look(0),
            At::Look(page) => self.meet(page, Entry(answer)),
            At::Mark(page, old) if answer == old.0 => self.mark(page, old),
            At::Contend(page, old) if answer == old.0 => self.park(page),
            At::Allow(page, old) if answer == old.0 => self.decide(page, Outcome::Done),
            At::Mark(page, _) | At::Contend(page, _) | At::Allow(page, _) => self.meet(page, Entry(answer)),
            At::Sharers(page, word) => self.sharers(page, word, answer),
            At::Park(page) => self.look(page),
            At::Ask(node) => self.ask(node + 1),
            At::Own => self.own(answer),
            At::Allocate(page) => {
                self.pages[usize::from(page)].fresh = answer;
                self.allocate(page + 1)
            }
            At::Early => self.to(At::Await, Effect::Await),
            At::Await => self.finish(0),
            At::Maintain(page) => self.copy(page),
            At::Copy(page) => self.claim(page),
            At::Claim(page) => self.leave(page, 0),
            At::Lost(page, entry) => self.lost(page, entry, answer != 0),
            At::Strike(page) => self.decide(page, Outcome::Done),
            At::Leave(page, word) => self.leave(page, word + 1),
            At::Complete(page) => self.completed(page, Entry(answer)),
            At::Free(page) => self.finish(page + 1),
            At::Wake => self.next_round(),
        }
    }

    fn to(&mut self, at: At, effect: Effect) -> Effect {
        self.at = at;
        effect
    }
    fn swap(&mut self, at: At, page: u8, old: Entry, new: Entry) -> Effect {
        let access = Access::Swap { expected: old.0, new: new.0 };
        self.to(at, Effect::Access(page, Word::Master, access))
    }
    fn first(&self, from: u8, outcome: Outcome) -> Option<u8> {
        (from..N as u8).find(|&page| self.pages[usize::from(page)].outcome == outcome)
    }

    fn look(&mut self, from: u8) -> Effect {
        match self.first(from, Outcome::Open) {
            Some(page) => self.to(At::Look(page), Effect::Access(page, Word::Master, Access::Load)),
            None if self.first(0, Outcome::Held).is_some() => self.ask(0),
            None => self.next_round(),
        }
    }

    fn meet(&mut self, page: u8, entry: Entry) -> Effect {
        match (entry.state(), self.goal) {
            (State::Empty, Goal::Recover(dead)) => self.strike(page, dead),
            (State::Busy, Goal::Recover(dead)) if !by(entry, dead) => self.meet_busy(page, entry),
            (_, Goal::Recover(_)) => self.to(At::Lost(page, entry), Effect::Lost(page, entry.frame())),
            (State::Empty, _) => self.decide(page, Outcome::Gone),
            (State::Busy, _) => self.meet_busy(page, entry),
            (_, Goal::Allow(rights)) if entry.rights().contains(rights) => self.decide(page, Outcome::Done),
            (_, Goal::Allow(rights)) => {
                let more = Rights::from_bits(entry.rights().bits() | rights.bits());
                let Me { node, incarnation } = self.me;
                let new = Entry::present(entry.frame(), more, node, incarnation);
                let new = if entry.state() == State::Replicated { new.replicated() } else { new };
                self.swap(At::Allow(page, entry), page, entry, new)
            }
            (State::Present, Goal::Collapse) | (State::Replicated, Goal::Replicate) => {
                self.decide(page, Outcome::Done)
            }
            (_, Goal::Restrict(rights)) if rights.contains(entry.rights()) => {
                self.decide(page, Outcome::Done)
            }
            _ => {
                let busy = entry.busy(self.me.node, self.me.incarnation);
                self.swap(At::Mark(page, entry), page, entry, busy)
            }
        }
    }

    /// A page as the dead pager left it: only what is busy on its account or was in its pool needs a leader.
    fn lost(&mut self, page: u8, entry: Entry, lost: bool) -> Effect {
        match self.goal {
            Goal::Recover(dead) if !lost && entry.state() != State::Busy => self.strike(page, dead),
            _ => {
                self.pages[usize::from(page)].lost = lost;
                let busy = entry.busy(self.me.node, self.me.incarnation);
                self.swap(At::Mark(page, entry), page, entry, busy)
            }
        }
    }

    /// The dead pager's node maps nothing any more.
    fn strike(&mut self, page: u8, dead: Me) -> Effect {
        let (word, bit) = place(dead.node);
        self.to(At::Strike(page), Effect::Access(page, Word::Sharers(word), Access::Clear(bit)))
    }

    fn decide(&mut self, page: u8, outcome: Outcome) -> Effect {
        self.pages[usize::from(page)].outcome = outcome;
        self.look(page + 1)
    }

    fn meet_busy(&mut self, page: u8, entry: Entry) -> Effect {
        if self.first(0, Outcome::Held).is_some() && kept(Rule::WaitWithNothing) {
            // Not while others may wait for this leader: in the next round.
            return self.look(page + 1);
        }
        if entry.is_contended() || !kept(Rule::MarkMasterContended) {
            return self.park(page);
        }
        self.swap(At::Contend(page, entry), page, entry, entry.contended())
    }

    fn park(&mut self, page: u8) -> Effect {
        self.to(At::Park(page), Effect::Park)
    }

    fn mark(&mut self, page: u8, old: Entry) -> Effect {
        let it = &mut self.pages[usize::from(page)];
        it.held = old.busy(self.me.node, self.me.incarnation);
        it.outcome = Outcome::Held;
        it.replicated = old.state() == State::Replicated;
        // Taken over from a dead leader.
        self.wake |= old.is_contended();
        self.to(At::Sharers(page, 0), Effect::Access(page, Word::Sharers(0), Access::Load))
    }

    fn sharers(&mut self, page: u8, word: u8, bits: u64) -> Effect {
        let it = &mut self.pages[usize::from(page)];
        it.sharers.0[usize::from(word)] = bits;
        if usize::from(word) + 1 < W {
            let next = Effect::Access(page, Word::Sharers(word + 1), Access::Load);
            return self.to(At::Sharers(page, word + 1), next);
        }
        self.look(page + 1)
    }

    fn ask(&mut self, from: u16) -> Effect {
        let held = self.pages.iter().filter(|page| page.outcome == Outcome::Held);
        let all = held.fold(Nodes::EMPTY, |all: Nodes<W>, page| all.union(&page.sharers));
        match all.without(self.me.node).next(from) {
            Some(node) if kept(Rule::AskSharers) => self.to(At::Ask(node), Effect::Ask(node)),
            _ => {
                self.own = Revoke::new(self.order(self.me.node));
                self.own(0)
            }
        }
    }

    fn own(&mut self, answer: u64) -> Effect {
        let effect = match self.own.step(answer) {
            revoke::Effect::Access(page, word, access) => Effect::Access(page, word, access),
            revoke::Effect::Unmap { page, frame, keep } => Effect::Unmap { page, frame, keep },
            revoke::Effect::Free(page, frame) => Effect::FreeCopy(page, frame),
            revoke::Effect::Done => {
                self.report(self.own.used());
                self.own = Revoke::new(Order { pages: 0, keep: None });
                return self.allocate(0);
            }
        };
        self.to(At::Own, effect)
    }

    fn allocate(&mut self, from: u8) -> Effect {
        match (self.goal, self.first(from, Outcome::Held)) {
            (Goal::Migrate(node), Some(page)) => self.to(At::Allocate(page), Effect::Allocate(page, node)),
            _ => self.await_all(),
        }
    }

    fn next_round(&mut self) -> Effect {
        if self.first(0, Outcome::Open).is_some() { self.look(0) } else { Effect::Done }
    }
}

fn by(entry: Entry, me: Me) -> bool {
    entry.leader() == me.node && entry.incarnation() == me.incarnation
}

const _: () = assert!(size_of::<Lead<MAX_PAGES, 1>>() <= 4096, "a batch of the most pages is a page");
