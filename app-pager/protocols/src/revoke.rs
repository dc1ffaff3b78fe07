//! What one node does when pages, or rights to them, are taken away: a worker for others, a leader for its own node.
//!
//! For each page the local word changes first, so that no map item that is still on its way takes effect; then the kernel is asked to
//! unmap. A word that is busy belongs to a pager thread in the middle of a fault: it is marked revoked, and that
//! thread starts over. A copy of the node's own, of a replicated page, is freed when the kernel is done. Nothing here waits for anybody or calls anybody but the kernel, so whoever asks for it gets its answer.

use skerry_abi::Rights;

use crate::effect::{Access, Word};
use crate::local::Local;
use crate::rules::{Rule, kept};

/// Pages of a batch at most: a set of them is a word.
pub const MAX_PAGES: usize = 64;

/// What is to be taken away. Pages are numbered as in the batch of whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Order {
    /// Which pages, a bit each.
    pub pages: u64,
    /// The rights that may stay; `None`: nothing stays.
    pub keep: Option<Rights>,
}

/// How pages were used, a bit per page of the batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Used {
    /// Read or executed.
    pub accessed: u64,
    /// Written.
    pub dirty: u64,
}

impl Used {
    /// Both together.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self { accessed: self.accessed | other.accessed, dirty: self.dirty | other.dirty }
    }
}

/// What the interpreter does next; it answers with one word, 0 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Effect {
    /// On a word of this page; the answer is the value that was found.
    Access(u8, Word, Access),
    /// Asks this node's kernel to take the frame of this page away from the task, or all rights but these. The answer has bit 0 set if it
    /// was accessed, bit 1 if it was written.
    Unmap {
        /// The page.
        page: u8,
        /// Its frame.
        frame: u64,
        /// What may stay; `None`: nothing.
        keep: Option<Rights>,
    },
    /// Gives the node's own copy of this page back to its pool.
    Free(u8, u64),
    /// The end.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Begin,
    Look,
    Change,
    Count,
    Unmap,
    Free,
}

/// Where it is. (Plain fields: the compiler keeps them apart.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    at: At,
    page: u8,
    /// The word as it is to be changed.
    old: Local,
}

impl Cursor {
    /// The beginning.
    pub const BEGIN: Self = Self { at: At::Begin, page: 0, old: Local::EMPTY };

    #[inline(always)]
    fn to(&mut self, at: At, page: u8, effect: Effect) -> Effect {
        *self = Self { at, page, old: Local::EMPTY };
        effect
    }
}

/// What is known of the pages that are revoked. (A leader, too, is in two parts: see [`crate::lead`].)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Revoked<const N: usize> {
    order: Order,
    /// Of which pages something is to be unmapped.
    found: u64,
    /// Their frames.
    frames: [u64; N],
    /// Which of them are copies of this node.
    copies: u64,
    /// The pages are this node's business, and `keep` is what its threads have from now on, no more and no less.
    rules: bool,
    /// The pages of which that was said.
    ruled: u64,
    used: Used,
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

impl<const N: usize> Revoked<N> {
    const FITS: () = assert!(0 < N && N <= MAX_PAGES);
    /// The pages that fit.
    const ALL: u64 = u64::MAX >> (64 - N);

    /// For this order; pages above `N` are not looked at.
    #[inline(always)]
    pub const fn new(order: Order) -> Self {
        let () = Self::FITS;
        let order = Order { pages: order.pages & Self::ALL, ..order };
        Self {
            order,
            found: 0,
            frames: [0; N],
            copies: 0,
            rules: false,
            ruled: 0,
            used: Used { accessed: 0, dirty: 0 },
        }
    }
    /// The same in place.
    #[inline(always)]
    pub const fn renew(&mut self, order: Order) {
        self.order = Order { pages: order.pages & Self::ALL, ..order };
        (self.rules, self.ruled) = (false, 0);
        (self.found, self.copies, self.used) = (0, 0, Used { accessed: 0, dirty: 0 });
    }

    /// How the kernel says the pages were used.
    #[inline(always)]
    pub const fn used(&self) -> Used {
        self.used
    }
    /// The pages of which something was to be taken away here, or of which something was said.
    #[inline(always)]
    pub const fn found(&self) -> u64 {
        self.found | self.ruled
    }

    /// The pages that the kernel is still asked for if nothing else comes in between, and the frames of all: the effect was that of the first
    /// of them.
    #[inline(always)]
    pub fn frames_from(&self, at: &Cursor) -> Option<(u64, &[u64; N])> {
        let pages = self.found & u64::MAX << (at.page % 64);
        (at.at == At::Unmap && self.copies == 0 && kept(Rule::WordBeforeUnmap))
            .then_some((pages, &self.frames))
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    #[inline(always)]
    pub fn step(&mut self, at: &mut Cursor, answer: u64) -> Effect {
        let Cursor { at: was, page, old } = *at;
        match was {
            At::Begin => self.look(at, self.order.pages),
            At::Look => self.meet(at, page, Local(answer)),
            At::Change if answer == old.0 => self.changed(at, page, old),
            At::Change => self.meet(at, page, Local(answer)),
            At::Count => self.look(at, after(self.order.pages, page)),
            At::Unmap => {
                self.used.accessed |= (answer & 1) << page;
                self.used.dirty |= (answer >> 1 & 1) << page;
                self.unmapped(at, page)
            }
            At::Free => self.unmap(at, after(self.found, page)),
        }
    }

    #[inline(always)]
    fn look(&mut self, at: &mut Cursor, pages: u64) -> Effect {
        match first(pages) {
            Some(page) => at.to(At::Look, page, Effect::Access(page, Word::Local, Access::Load)),
            None if kept(Rule::WordBeforeUnmap) => self.unmap(at, self.found),
            None => Effect::Done,
        }
    }

    #[inline(always)]
    pub(crate) fn meet(&mut self, at: &mut Cursor, page: u8, word: Local) -> Effect {
        let next = after(self.order.pages, page);
        let new = match self.order.keep {
            Some(keep) if self.rules => return self.rule(at, page, word, keep),
            // Nothing is said any more of a page that is not there.
            None if self.rules && word.is_empty() && word != Local::EMPTY => Local::EMPTY,
            _ if word.is_empty() => return self.look(at, next),
            // The kernel has no more than that, and no item that is on its way has.
            Some(keep) if word.is_present() && keep.contains(word.rights()) => return self.look(at, next),
            None if word.is_present() => Local::EMPTY,
            keep if word.is_busy() => word.limited(keep).revoked(),
            keep => word.limited(keep),
        };
        if !kept(Rule::WordBeforeUnmap) && self.known(page) != word.frame() {
            self.find(page, word.frame());
            return at.to(At::Unmap, page, self.unmap_effect(page));
        }
        *at = Cursor { at: At::Change, page, old: word };
        Effect::Access(page, Word::Local, Access::Swap { expected: word.0, new: new.0 })
    }

    /// The node's own threads get these rights to a page, whether it is there or not.
    #[inline(always)]
    fn rule(&mut self, at: &mut Cursor, page: u8, word: Local, keep: Rights) -> Effect {
        let new = if word.is_busy() { word.ruled(keep).revoked() } else { word.ruled(keep) };
        *at = Cursor { at: At::Change, page, old: word };
        Effect::Access(page, Word::Local, Access::Swap { expected: word.0, new: new.0 })
    }

    /// The frame of a page of which something is to be unmapped; 0 of others.
    fn known(&self, page: u8) -> u64 {
        if self.found >> page & 1 != 0 { self.frames[usize::from(page) % N] } else { 0 }
    }
    #[inline(always)]
    fn find(&mut self, page: u8, frame: u64) {
        self.frames[usize::from(page) % N] = frame;
        self.found |= u64::from(frame != 0) << page;
    }

    #[inline(always)]
    pub(crate) fn changed(&mut self, at: &mut Cursor, page: u8, old: Local) -> Effect {
        self.find(page, old.frame());
        self.ruled |= u64::from(self.rules && self.order.keep.is_some()) << page;
        if old.is_copy() && self.order.keep.is_none() && kept(Rule::FreeCopies) {
            self.copies |= 1 << page;
        }
        if old.is_in_company() && kept(Rule::CountInGroup) {
            // An answer about several pages may still be on its way: now it is dropped.
            return at.to(At::Count, page, Effect::Access(page, Word::Group, Access::Count));
        }
        self.look(at, after(self.order.pages, page))
    }

    /// All words are changed: now the kernel.
    #[inline(always)]
    fn unmap(&mut self, at: &mut Cursor, pages: u64) -> Effect {
        match first(pages) {
            Some(page) => at.to(At::Unmap, page, self.unmap_effect(page)),
            None => Effect::Done,
        }
    }

    #[inline(always)]
    fn unmap_effect(&self, page: u8) -> Effect {
        Effect::Unmap { page, frame: self.frames[usize::from(page) % N], keep: self.order.keep }
    }

    #[inline(always)]
    fn unmapped(&mut self, at: &mut Cursor, page: u8) -> Effect {
        if self.copies >> page & 1 != 0 {
            at.to(At::Free, page, Effect::Free(page, self.frames[usize::from(page) % N]))
        } else if kept(Rule::WordBeforeUnmap) {
            self.unmap(at, after(self.found, page))
        } else {
            at.to(At::Look, page, Effect::Access(page, Word::Local, Access::Load))
        }
    }
}

/// A batch being revoked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Revoke<const N: usize> {
    /// What is known.
    pub book: Revoked<N>,
    /// Where it is.
    pub at: Cursor,
}

impl<const N: usize> Revoke<N> {
    /// Carries this order out; pages above `N` are not looked at.
    #[inline(always)]
    pub const fn new(order: Order) -> Self {
        Self { book: Revoked::new(order), at: Cursor::BEGIN }
    }
    /// The same for pages that are this node's business: `keep`, if it says something, is what its threads have from now on.
    #[must_use]
    pub const fn ruling(mut self) -> Self {
        self.book.rules = true;
        self
    }
    /// As [`Revoked::used`].
    pub const fn used(&self) -> Used {
        self.book.used()
    }
    /// As [`Revoked::found`].
    pub const fn found(&self) -> u64 {
        self.book.found()
    }
    /// As [`Revoked::step`].
    #[inline(always)]
    pub fn step(&mut self, answer: u64) -> Effect {
        self.book.step(&mut self.at, answer)
    }
}
