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
    Look(u8),
    Change(u8, Local),
    Unmap(u8),
    Free(u8),
}

/// A batch being revoked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Revoke<const N: usize> {
    order: Order,
    /// Frames to be unmapped; 0 where there is nothing to do.
    frames: [u64; N],
    /// Which of them are copies of this node.
    copies: u64,
    used: Used,
    at: At,
}

impl<const N: usize> Revoke<N> {
    const FITS: () = assert!(N <= MAX_PAGES);

    /// Carries this order out; pages above `N` are not looked at.
    pub const fn new(order: Order) -> Self {
        let () = Self::FITS;
        Self { order, frames: [0; N], copies: 0, used: Used { accessed: 0, dirty: 0 }, at: At::Begin }
    }

    /// How the kernel says the pages were used.
    pub const fn used(&self) -> Used {
        self.used
    }

    /// The pages of which something was to be taken away here.
    pub fn found(&self) -> u64 {
        self.frames.iter().enumerate().fold(0, |found, (i, &frame)| found | u64::from(frame != 0) << i)
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    #[inline(always)]
    pub fn step(&mut self, answer: u64) -> Effect {
        match self.at {
            At::Begin => self.look(0),
            At::Look(page) => self.meet(page, Local(answer)),
            At::Change(page, old) if answer == old.0 => self.changed(page, old),
            At::Change(page, _) => self.meet(page, Local(answer)),
            At::Unmap(page) => {
                self.used.accessed |= (answer & 1) << page;
                self.used.dirty |= (answer >> 1 & 1) << page;
                self.unmapped(page)
            }
            At::Free(page) => self.unmap(page + 1),
        }
    }

    fn to(&mut self, at: At, effect: Effect) -> Effect {
        self.at = at;
        effect
    }

    /// The first page of the order that is not below `from`.
    fn page(&self, from: u8) -> Option<u8> {
        (from..N as u8).find(|page| self.order.pages >> page & 1 != 0)
    }

    fn look(&mut self, from: u8) -> Effect {
        match self.page(from) {
            Some(page) => self.to(At::Look(page), Effect::Access(page, Word::Local, Access::Load)),
            None if kept(Rule::WordBeforeUnmap) => self.unmap(0),
            None => Effect::Done,
        }
    }

    fn meet(&mut self, page: u8, word: Local) -> Effect {
        let new = match self.order.keep {
            _ if word.is_empty() => return self.look(page + 1),
            // The kernel has no more than that, and no item that is on its way has.
            Some(keep) if word.is_present() && keep.contains(word.rights()) => return self.look(page + 1),
            None if word.is_present() => Local::EMPTY,
            keep if word.is_busy() => word.limited(keep).revoked(),
            keep => word.limited(keep),
        };
        if !kept(Rule::WordBeforeUnmap) && self.frames[usize::from(page)] != word.frame() {
            self.frames[usize::from(page)] = word.frame();
            return self.to(At::Unmap(page), self.unmap_effect(page));
        }
        self.to(
            At::Change(page, word),
            Effect::Access(page, Word::Local, Access::Swap { expected: word.0, new: new.0 }),
        )
    }

    fn changed(&mut self, page: u8, old: Local) -> Effect {
        self.frames[usize::from(page)] = old.frame();
        if old.is_copy() && self.order.keep.is_none() && kept(Rule::FreeCopies) {
            self.copies |= 1 << page;
        }
        self.look(page + 1)
    }

    /// All words are changed: now the kernel.
    fn unmap(&mut self, from: u8) -> Effect {
        match (from..N as u8).find(|&page| self.frames[usize::from(page)] != 0) {
            Some(page) => self.to(At::Unmap(page), self.unmap_effect(page)),
            None => Effect::Done,
        }
    }

    fn unmap_effect(&self, page: u8) -> Effect {
        Effect::Unmap { page, frame: self.frames[usize::from(page)], keep: self.order.keep }
    }

    fn unmapped(&mut self, page: u8) -> Effect {
        if self.copies >> page & 1 != 0 {
            self.to(At::Free(page), Effect::Free(page, self.frames[usize::from(page)]))
        } else if kept(Rule::WordBeforeUnmap) {
            self.unmap(page + 1)
        } else {
            self.to(At::Look(page), Effect::Access(page, Word::Local, Access::Load))
        }
    }
}
