//! After the death of a pager.
//!
//! The root pager has fenced it: its space is gone, and with it everything its kernel had mapped through it; no pager gets frames of its
//! pool any more; whoever waited for its worker goes on. What it left behind are busy entries, frames in hand, requests in
//! mailboxes, and pages in frames of its pool. A pager thread of a living node clears that up:
//!
//! ```text
//! forget    every living pager drops the dead one's requests, finishes what it is doing for it, and has no frame of the dead pool in
//!           hand; then it acknowledges
//! pages     all entries of all tasks, by leaders with the goal Recover: entries busy on the dead one's account are taken over and put
//!           back as they were; pages in frames of the dead pool are unmapped everywhere and become empty
//! wake      everybody: the dead leader may have completed a contended entry and not come to that
//! reclaim   every living pager frees the frames of its own pool that the dead one had in hand
//! ```
//!
//! Only then may the next incarnation have the pool. *Forget* comes first because a request that is carried out after its page
//! was put back would take away what it should not, and because a frame of the dead pool that is published behind the back of
//! the scan would be found in two places later.
//!
//! A leader that completed an entry just before it was looked at may still be about to free its frame, so the last acknowledgement, too,
//! waits until every thread has been at a point where it waits (as readers do in RCU); between such points a thread has frames in hand.
//!
//! If this pager dies, too, the root pager has another one begin again, for both: every step may be done twice.

use crate::effect::{Access, Me};
use crate::entry::Entry;
use crate::lead::{self, Goal, Lead};
use crate::nodes::Nodes;
use crate::record::Record;
use crate::rules::{Rule, kept};

/// What the interpreter does next; it answers with one word, 0 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Asks a pager to forget the dead one, without waiting. It acknowledges when its worker has nothing of the dead one left to do and
    /// each of its threads has been at a point where it waits.
    Forget(u16),
    /// Asks a pager to reclaim its frames, see [`Reclaim`], without waiting. It acknowledges when each of its threads has been at a point
    /// where it waits: none has a frame of the dead pool in hand then.
    Reclaim(u16),
    /// Waits until all have answered (or are dead themselves).
    Await,
    /// Goes on to the next pages; the answer is their number, `N` at most, or 0 when there are no more.
    Pages,
    /// On behalf of the leader of these pages.
    Lead(lead::Effect),
    /// Wakes the parked jobs of all nodes: the dead leader may have completed an entry and not come to that.
    Wake,
    /// The end: the pool may have another owner.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Begin,
    Forget(u16),
    Forgotten,
    Pages,
    Lead,
    Wake,
    Reclaim(u16),
    Reclaimed,
}

/// The recovery from one death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Recovery<const N: usize, const W: usize> {
    me: Me,
    dead: Me,
    living: Nodes<W>,
    lead: Lead<N, W>,
    at: At,
}

impl<const N: usize, const W: usize> Recovery<N, W> {
    /// `me` clears up after `dead`; `living` are all others, `me` among them.
    pub fn new(me: Me, dead: Me, living: Nodes<W>) -> Self {
        Self { me, dead, living, lead: Lead::new(me, Goal::Recover(dead), 0), at: At::Begin }
    }
    /// The leader on whose behalf [`Effect::Lead`] is.
    pub const fn lead(&mut self) -> &mut Lead<N, W> {
        &mut self.lead
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    pub fn step(&mut self, answer: u64) -> Effect {
        match self.at {
            At::Begin if kept(Rule::ForgetFirst) => self.forget(0),
            At::Begin | At::Forgotten => self.to(At::Pages, Effect::Pages),
            At::Forget(node) => self.forget(node + 1),
            At::Pages if answer == 0 && kept(Rule::WakeAfterDeath) => self.to(At::Wake, Effect::Wake),
            At::Pages if answer == 0 => self.reclaim(0),
            At::Wake => self.reclaim(0),
            At::Pages => {
                self.lead = Lead::new(self.me, Goal::Recover(self.dead), answer as usize);
                self.go_on(0)
            }
            At::Lead => self.go_on(answer),
            At::Reclaim(node) => self.reclaim(node + 1),
            At::Reclaimed => Effect::Done,
        }
    }

    fn to(&mut self, at: At, effect: Effect) -> Effect {
        self.at = at;
        effect
    }
    fn forget(&mut self, from: u16) -> Effect {
        match self.living.next(from) {
            Some(node) => self.to(At::Forget(node), Effect::Forget(node)),
            None => self.to(At::Forgotten, Effect::Await),
        }
    }
    fn reclaim(&mut self, from: u16) -> Effect {
        match self.living.next(from) {
            Some(node) => self.to(At::Reclaim(node), Effect::Reclaim(node)),
            None => self.to(At::Reclaimed, Effect::Await),
        }
    }
    fn go_on(&mut self, answer: u64) -> Effect {
        match self.lead.step(answer) {
            lead::Effect::Done => self.to(At::Pages, Effect::Pages),
            effect => self.to(At::Lead, Effect::Lead(effect)),
        }
    }
}

/// What a worker does about one frame of its pool when it reclaims.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReclaimEffect {
    /// On the frame's record; the answer is the value that was found.
    Record(Access),
    /// Reads the master entry of the page with this number.
    Look(u64),
    /// The end: puts the frame into the pool.
    Free,
    /// The end: leaves it.
    Leave,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum ReclaimAt {
    Begin,
    Record,
    Look(Record),
    Swap(Record),
}

/// Frees a frame if the dead pager had it in hand, or it was left to it.
///
/// A frame that is in the table when its record has been read is not in hand. If it leaves the table after that, then because a living
/// leader claimed it first, so the record has changed and is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reclaim {
    dead: Me,
    frame: u64,
    at: ReclaimAt,
}

impl Reclaim {
    /// For the frame at this address.
    pub const fn new(dead: Me, frame: u64) -> Self {
        Self { dead, frame, at: ReclaimAt::Begin }
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    pub fn step(&mut self, answer: u64) -> ReclaimEffect {
        match self.at {
            ReclaimAt::Begin => {
                self.at = ReclaimAt::Record;
                ReclaimEffect::Record(Access::Load)
            }
            ReclaimAt::Record => {
                let record = Record(answer);
                if record.by() != Some(self.dead) && !record.is_left(self.dead.node) {
                    return ReclaimEffect::Leave;
                }
                self.at = ReclaimAt::Look(record);
                ReclaimEffect::Look(record.page())
            }
            ReclaimAt::Look(_) if Entry(answer).frame() == self.frame => ReclaimEffect::Leave,
            ReclaimAt::Look(record) => {
                self.at = ReclaimAt::Swap(record);
                ReclaimEffect::Record(Access::Swap { expected: record.0, new: Record::FREE.0 })
            }
            ReclaimAt::Swap(record) if answer == record.0 => ReclaimEffect::Free,
            ReclaimAt::Swap(_) => ReclaimEffect::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_abi::Rights;

    #[test]
    fn frames_in_hand_and_left_ones_come_back_unless_they_are_in_the_table() {
        let (dead, other) = (Me { node: 2, incarnation: 5 }, Me { node: 1, incarnation: 5 });
        let reclaimed = |record: Record, entry: Entry| {
            let mut machine = Reclaim::new(dead, 0x4000);
            assert_eq!(machine.step(0), ReclaimEffect::Record(Access::Load));
            if machine.step(record.0) != ReclaimEffect::Look(9) {
                return false;
            }
            let swap = Access::Swap { expected: record.0, new: Record::FREE.0 };
            if machine.step(entry.0) != ReclaimEffect::Record(swap) {
                return false;
            }
            machine.step(record.0) == ReclaimEffect::Free
        };
        let there = Entry::present(0x4000, Rights::RW, 0, 0);
        for (record, mine) in [
            (Record::taken(9, dead), true),
            (Record::taken(9, other).left(dead.node), true),
            (Record::taken(9, other), false),
            (Record::taken(9, dead).left(other.node), false),
            (Record::taken(9, Me { incarnation: 4, ..dead }), false),
        ] {
            assert_eq!(reclaimed(record, Entry::EMPTY), mine, "{record:?}");
            assert!(!reclaimed(record, there), "{record:?}");
        }
    }
}
