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
        let page = |i| Page {
            held: Entry::EMPTY,
            sharers: Nodes::EMPTY,
            fresh: 0,
            lost: false,
            // What is not in the batch is no work.
            outcome: if i < count { Outcome::Open } else { Outcome::Gone },
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
            Goal::Unmap | Goal::Migrate(_) | Goal::Allow(_) | Goal::Recover(_) => None,
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

    // Begin.

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
                self.swap(
                    At::Allow(page, entry),
                    page,
                    entry,
                    Entry::present(entry.frame(), more, node, incarnation),
                )
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

    // Ask.

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

    fn await_all(&mut self) -> Effect {
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

    // Complete.

    fn finish(&mut self, from: u8) -> Effect {
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

    fn copy(&mut self, page: u8) -> Effect {
        let it = &self.pages[usize::from(page)];
        match it.fresh {
            0 => self.claim(page),
            _ if !kept(Rule::CopyLast) => self.claim(page),
            to => self.to(At::Copy(page), Effect::Copy { page, from: it.held.frame(), to }),
        }
    }

    /// From now on, and until it is freed, the frame is in no table.
    fn claim(&mut self, page: u8) -> Effect {
        let it = &self.pages[usize::from(page)];
        let goes = match self.goal {
            Goal::Unmap => true,
            Goal::Migrate(_) => it.fresh != 0,
            Goal::Restrict(_) | Goal::Allow(_) | Goal::Recover(_) => false,
        };
        let frame = it.held.frame();
        if goes && kept(Rule::ClaimFirst) {
            self.to(At::Claim(page), Effect::Claim(page, frame))
        } else {
            self.leave(page, 0)
        }
    }

    fn leave(&mut self, page: u8, word: u8) -> Effect {
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
            Goal::Restrict(rights) => put(it.held.frame(), it.held.rights() & rights),
            Goal::Migrate(_) if it.fresh == 0 => put(it.held.frame(), it.held.rights()),
            Goal::Migrate(_) => put(it.fresh, it.held.rights()),
        };
        let old = it.held;
        self.swap(At::Complete(page), page, old, new)
    }

    fn completed(&mut self, page: u8, found: Entry) -> Effect {
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
            Goal::Restrict(_) | Goal::Recover(_) => self.finish(page + 1),
            _ if failed || !kept(Rule::FreeLast) => self.finish(page + 1),
            _ => self.to(At::Free(page), Effect::Free(page, frame)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Runs a leader on node 3 with everybody else standing still, and notes whom it asks.
    fn run<const N: usize>(
        goal: Goal,
        master: &mut [u64; N],
        masks: &mut [[u64; 2]; N],
        used: Used,
    ) -> (Lead<N, 2>, Vec<u16>) {
        let mut lead = Lead::<N, 2>::new(Me { node: 3, incarnation: 1 }, goal, N);
        let (mut asked, mut answered, mut answer) = (Vec::new(), false, 0);
        loop {
            let effect = lead.step(answer);
            answer = 0;
            match effect {
                Effect::Access(page, Word::Master, Access::Load) => answer = master[usize::from(page)],
                Effect::Access(page, Word::Master, Access::Swap { expected, new }) => {
                    assert_eq!(master[usize::from(page)], expected);
                    answer = core::mem::replace(&mut master[usize::from(page)], new);
                }
                Effect::Access(page, Word::Sharers(word), access) => {
                    let slot = &mut masks[usize::from(page)][usize::from(word)];
                    answer = *slot;
                    if let Access::Clear(bits) = access {
                        assert!(answered, "left the sharers too early");
                        *slot &= !bits;
                    }
                }
                Effect::Access(_, Word::Local, Access::Load) => {}
                Effect::Ask(node) => {
                    assert!(!answered, "all are asked before any is awaited");
                    asked.push(node);
                }
                Effect::Await => {
                    lead.report(used);
                    answered = true;
                }
                Effect::Done => return (lead, asked),
                _ => {}
            }
        }
    }

    fn present(frame: u64, rights: Rights) -> u64 {
        Entry::present(frame, rights, 0, 1).0
    }

    #[test]
    fn exactly_the_sharers_are_asked_for_exactly_their_pages() {
        let mut master = [present(0x1000, Rights::RW), 0, present(0x2000, Rights::RW)];
        let mut masks = [[1 << 3 | 1 << 9, 1 << 2], [0; 2], [1 << 9, 0]];
        let used = Used { accessed: 5, dirty: 4 };
        let (lead, asked) = run(Goal::Unmap, &mut master, &mut masks, used);
        assert_eq!(asked, [9, 66]);
        assert_eq!((master, masks), ([0; 3], [[0; 2]; 3]));
        assert_eq!([0, 1, 2].map(|page| lead.outcome(page)), [Outcome::Done, Outcome::Gone, Outcome::Done]);
        assert_eq!(lead.used(), used);
    }

    #[test]
    fn orders_name_pages_by_their_place_in_the_batch() {
        let mut lead = Lead::<3, 1>::new(Me { node: 0, incarnation: 1 }, Goal::Restrict(Rights::R), 3);
        for (page, sharers) in [0b110, 0b010, 0b100].into_iter().enumerate() {
            lead.pages[page].outcome = Outcome::Held;
            lead.pages[page].sharers = Nodes([sharers]);
        }
        lead.pages[1].outcome = Outcome::Gone;
        assert_eq!(lead.order(1), Order { pages: 0b001, keep: Some(Rights::R) });
        assert_eq!(lead.order(2), Order { pages: 0b101, keep: Some(Rights::R) });
        assert_eq!(lead.order(0).pages, 0);
    }

    #[test]
    fn restriction_keeps_frame_and_sharers() {
        let (mut master, mut masks) = ([present(0x1000, Rights::RW)], [[1 << 3 | 1 << 5, 0]]);
        let (lead, asked) = run(Goal::Restrict(Rights::R), &mut master, &mut masks, Used::default());
        assert_eq!((asked, masks), (std::vec![5], [[1 << 3 | 1 << 5, 0]]));
        let entry = Entry(master[0]);
        assert_eq!((entry.frame(), entry.rights(), entry.state()), (0x1000, Rights::R, State::Present));
        assert_eq!(lead.outcome(0), Outcome::Done);
        // Nothing to take away: nobody is asked.
        assert!(run(Goal::Restrict(Rights::RX), &mut master, &mut masks, Used::default()).1.is_empty());
        run(Goal::Allow(Rights::W), &mut master, &mut masks, Used::default());
        assert_eq!(Entry(master[0]).rights(), Rights::RW);
    }

    #[test]
    fn without_a_frame_to_move_to_a_page_stays() {
        let (mut master, mut masks) = ([present(0x1000, Rights::RW)], [[1 << 5, 0]]);
        let (lead, asked) = run(Goal::Migrate(7), &mut master, &mut masks, Used::default());
        assert_eq!((asked, masks), (std::vec![5], [[0, 0]]));
        assert_eq!((lead.outcome(0), Entry(master[0]).frame()), (Outcome::NoFrame, 0x1000));
    }
}
