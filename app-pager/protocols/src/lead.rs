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
//!
//! A leader is in two parts: what it knows of its pages ([`Book`]) and where it is ([`Cursor`]). An interpreter that keeps the cursor
//! in a variable of its own, and asks for the effects in the order in which they come, leaves the compiler nothing of the machine
//! but its decisions.

mod begin;
mod complete;
mod straight;
#[cfg(test)]
mod tests;

pub use straight::Hands;

use skerry_abi::Rights;

use crate::effect::{Access, Me, Word};
use crate::entry::Entry;
use crate::nodes::Nodes;
use crate::revoke::{self, MAX_PAGES, Order, Revoked, Used};

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
    /// Every node has them for itself, beginning with what is in them now. Nobody has touched those that have no frame; threads have these
    /// rights to them if nothing else was said.
    Part(Rights),
    /// All nodes share them again, with what was in them before.
    Join,
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
    /// Every node has it for itself, so that cannot be done.
    Refused,
}

/// What the interpreter does next; it answers with one word, 0 where nothing is said. Pages are indices in the batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
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
    /// Sends [`Book::order`] to this node's worker and does not wait.
    Ask(u16),
    /// A frame of this node for the page, and the call that may be; the answer is its address, or 0.
    Allocate(u8, u16),
    /// Waits until every worker that was asked has answered, or is gone with its kernel's mappings. What they say
    /// goes to [`Book::report`] before.
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

/// The effect whose answer comes next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Begin,
    Look,
    Mark,
    Contend,
    Allow,
    Lift,
    Lost,
    Strike,
    Sharers,
    Park,
    Ask,
    Own,
    Allocate,
    Early,
    Await,
    Maintain,
    Copy,
    Claim,
    Leave,
    Complete,
    Free,
    Wake,
}

/// Where a leader is. (Plain fields, those that say nothing zero: the compiler keeps them apart.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    at: At,
    page: u8,
    /// The word of the sharer mask.
    word: u8,
    /// The one that is asked.
    node: u16,
    /// The entry that is to be changed.
    old: Entry,
    /// In the own node's part.
    own: revoke::Cursor,
}

impl Cursor {
    /// The beginning.
    pub const BEGIN: Self = Self::at(At::Begin, 0);
    /// Behind [`Effect::Await`].
    pub const AWAIT: Self = Self::at(At::Await, 0);

    /// The same, if it is behind [`Effect::Ask`] for this node; so the compiler knows.
    #[inline(always)]
    #[must_use]
    pub fn asking(self, node: u16) -> Self {
        let asking = Self { node, ..Self::at(At::Ask, 0) };
        debug_assert_eq!(self, asking);
        asking
    }

    #[inline(always)]
    const fn at(at: At, page: u8) -> Self {
        Self { at, page, word: 0, node: 0, old: Entry::EMPTY, own: revoke::Cursor::BEGIN }
    }
    #[inline(always)]
    fn to(&mut self, at: At, page: u8, effect: Effect) -> Effect {
        *self = Self::at(at, page);
        effect
    }
}

/// What a leader knows of its pages: `N` at most, of tasks on up to 64 `W` nodes. Sets of pages have a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Book<const N: usize, const W: usize> {
    me: Me,
    goal: Goal,
    /// By [`Outcome`]; those in none of these sets are [`Outcome::Gone`].
    open: u64,
    held: u64,
    done: u64,
    no_frame: u64,
    refused: u64,
    /// Their frames are gone.
    lost: u64,
    /// They were replicated before.
    replicated: u64,
    /// And apart.
    apart: u64,
    /// There is a frame for them to move to.
    moving: u64,
    wake: bool,
    used: Used,
    /// Who shares any of the pages that are held, and who shares all of them.
    any: Nodes<W>,
    all: Nodes<W>,
    /// The busy entries.
    entries: [Entry; N],
    sharers: [Nodes<W>; N],
    /// The frames that those of `moving` move to.
    fresh: [u64; N],
    own: Revoked<N>,
}

/// The first page of a set.
#[inline(always)]
fn first(pages: u64) -> Option<u8> {
    (pages != 0).then(|| pages.trailing_zeros() as u8)
}
/// Those of a set that come after a page.
#[inline(always)]
const fn after(pages: u64, page: u8) -> u64 {
    pages & !1 << (page % 64)
}
/// The set with one page.
#[inline(always)]
const fn bit(page: u8) -> u64 {
    1 << (page % 64)
}

impl<const N: usize, const W: usize> Book<N, W> {
    const FITS: () = assert!(0 < N && N <= MAX_PAGES);

    /// The pages of this set, by index, towards one goal.
    #[inline(always)]
    pub const fn new(me: Me, goal: Goal, pages: u64) -> Self {
        let () = Self::FITS;
        Self {
            me,
            goal,
            open: pages,
            held: 0,
            done: 0,
            no_frame: 0,
            refused: 0,
            lost: 0,
            replicated: 0,
            apart: 0,
            moving: 0,
            wake: false,
            used: Used { accessed: 0, dirty: 0 },
            any: Nodes::EMPTY,
            all: Nodes::EMPTY,
            entries: [Entry::EMPTY; N],
            sharers: [Nodes::EMPTY; N],
            fresh: [0; N],
            own: Revoked::new(Order { pages: 0, keep: None }),
        }
    }
    /// The same in place. What a book says of pages that are in none of its sets is not looked at, so it stays.
    pub fn renew(&mut self, goal: Goal, pages: u64) {
        (self.goal, self.open) = (goal, pages);
        (self.held, self.done, self.no_frame, self.lost) = (0, 0, 0, 0);
        (self.refused, self.apart) = (0, 0);
        (self.replicated, self.moving, self.wake, self.used) = (0, 0, false, Used::default());
    }

    /// What is to become of the pages.
    #[inline(always)]
    pub const fn goal(&self) -> Goal {
        self.goal
    }
    /// What became of a page.
    pub const fn outcome(&self, page: usize) -> Outcome {
        let page = bit(page as u8);
        if self.open & page != 0 {
            Outcome::Open
        } else if self.held & page != 0 {
            Outcome::Held
        } else if self.done & page != 0 {
            Outcome::Done
        } else if self.no_frame & page != 0 {
            Outcome::NoFrame
        } else if self.refused & page != 0 {
            Outcome::Refused
        } else {
            Outcome::Gone
        }
    }
    /// The pages that are as they were to be.
    #[inline(always)]
    pub const fn done(&self) -> u64 {
        self.done
    }
    /// The pages for which there was no frame.
    pub const fn no_frame(&self) -> u64 {
        self.no_frame
    }
    /// The pages to which that cannot be done.
    pub const fn refused(&self) -> u64 {
        self.refused
    }
    /// The pages from this one on whose entries are busy on this leader's account, a bit each.
    pub const fn held(&self, from: u8) -> u64 {
        self.held & u64::MAX << (from % 64)
    }
    /// The frames that it has in hand and that are in no table yet: whoever drops the leader before its end gives them back.
    pub fn in_hand(&self) -> impl Iterator<Item = u64> {
        let moving = self.held & self.moving;
        self.fresh
            .iter()
            .enumerate()
            .filter(move |(page, _)| moving >> page & 1 != 0)
            .map(|(_, &fresh)| fresh)
    }
    /// The frames that may be in a table or in its hand, with their pages, if nobody says whether its last access took place.
    pub fn in_doubt(&self) -> impl Iterator<Item = (u8, u64)> {
        let pages = move |set: u64| (0..N as u8).filter(move |&page| set & bit(page) != 0);
        let old = pages(self.held).map(|page| (page, self.entries[usize::from(page)].frame()));
        old.chain(pages(self.held & self.moving).map(|page| (page, self.fresh[usize::from(page)])))
    }
    /// How the pages were used, on all nodes.
    #[inline(always)]
    pub const fn used(&self) -> Used {
        self.used
    }
    /// Takes what a worker says in its acknowledgement.
    #[inline(always)]
    pub const fn report(&mut self, used: Used) {
        self.used = self.used.merge(used);
    }
    /// What `node` is asked for.
    #[inline(always)]
    pub fn order(&self, node: u16) -> Order {
        let keep = match self.goal {
            Goal::Restrict(rights) => Some(rights),
            _ => None,
        };
        let pages = if self.all.contains(node) { self.held } else { self.shared_with(node) };
        Order { pages, keep }
    }
    #[inline(never)]
    fn shared_with(&self, node: u16) -> u64 {
        let (mut left, mut shared) = (self.held, 0);
        while let Some(page) = first(left) {
            left = after(left, page);
            shared |= u64::from(self.sharers[usize::from(page) % N].contains(node)) << page;
        }
        shared
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    ///
    /// This and all it consists of is inlined, as in [`crate::fault`].
    #[inline(always)]
    pub fn step(&mut self, at: &mut Cursor, answer: u64) -> Effect {
        let Cursor { at: was, page, word, node, old, own } = *at;
        match was {
            At::Begin => self.next_round(at),
            At::Look => self.meet(at, page, Entry(answer)),
            At::Mark if answer == old.0 => self.mark(at, page, old),
            At::Contend if answer == old.0 => at.to(At::Park, page, Effect::Park),
            At::Allow | At::Lift if answer == old.0 => {
                self.decide(at, page, if was == At::Lift { Outcome::Gone } else { Outcome::Done })
            }
            At::Mark | At::Contend | At::Allow | At::Lift => self.meet(at, page, Entry(answer)),
            At::Sharers => self.sharers(at, page, word, answer),
            At::Park => self.look(at, self.open & u64::MAX << page),
            At::Ask => self.ask(at, node + 1),
            At::Own => self.own(at, own, answer),
            At::Allocate => {
                self.fresh[usize::from(page) % N] = answer;
                self.moving |= u64::from(answer != 0) << page;
                self.allocate(at, after(self.held, page))
            }
            At::Early => at.to(At::Await, 0, Effect::Await),
            At::Await => self.finish(at, self.held),
            At::Maintain => self.copy(at, page),
            At::Copy => self.claim(at, page),
            At::Claim => self.leave(at, page, 0),
            At::Lost => self.lost(at, page, old, answer != 0),
            At::Strike => self.decide(at, page, Outcome::Done),
            At::Leave => self.leave(at, page, word + 1),
            At::Complete => self.completed(at, page, Entry(answer)),
            At::Free => self.finish(at, after(self.held, page)),
            At::Wake => self.next_round(at),
        }
    }

    #[inline(always)]
    fn swap(at: &mut Cursor, then: At, page: u8, old: Entry, new: Entry) -> Effect {
        *at = Cursor { old, ..Cursor::at(then, page) };
        Effect::Access(page, Word::Master, Access::Swap { expected: old.0, new: new.0 })
    }
    /// On a word of a page's sharers.
    #[inline(always)]
    fn on_sharers(at: &mut Cursor, then: At, page: u8, word: u8, access: Access) -> Effect {
        *at = Cursor { word, ..Cursor::at(then, page) };
        Effect::Access(page, Word::Sharers(word), access)
    }
    #[inline(always)]
    fn entry(&mut self, page: u8) -> &mut Entry {
        &mut self.entries[usize::from(page) % N]
    }
}

/// A batch being led.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lead<const N: usize, const W: usize> {
    /// What it knows.
    pub book: Book<N, W>,
    /// Where it is.
    pub at: Cursor,
}

impl<const N: usize, const W: usize> Lead<N, W> {
    /// `count` pages towards one goal.
    pub const fn new(me: Me, goal: Goal, count: usize) -> Self {
        Self::of(me, goal, if count < MAX_PAGES { (1 << count) - 1 } else { u64::MAX })
    }
    /// The pages of this set, by index, towards one goal.
    #[inline(always)]
    pub const fn of(me: Me, goal: Goal, pages: u64) -> Self {
        Self { book: Book::new(me, goal, pages), at: Cursor::BEGIN }
    }
    /// The same in place of a leader of the same pager that is done.
    pub fn renew(&mut self, goal: Goal, pages: u64) {
        self.book.renew(goal, pages);
        self.at = Cursor::BEGIN;
    }

    /// As [`Book::outcome`].
    pub const fn outcome(&self, page: usize) -> Outcome {
        self.book.outcome(page)
    }
    /// As [`Book::used`].
    pub const fn used(&self) -> Used {
        self.book.used()
    }
    /// As [`Book::report`].
    pub const fn report(&mut self, used: Used) {
        self.book.report(used);
    }
    /// As [`Book::order`].
    pub fn order(&self, node: u16) -> Order {
        self.book.order(node)
    }
    /// As [`Book::step`].
    #[inline(always)]
    pub fn step(&mut self, answer: u64) -> Effect {
        self.book.step(&mut self.at, answer)
    }
}

const _: () = assert!(size_of::<Lead<MAX_PAGES, 1>>() <= 4096, "a batch of the most pages is a page");
