//! What a task asks its pager to take away or change, cut into batches that a leader can handle.
//!
//! A request names a range of any length, or up to 63 pages. It is done in rounds of 64 pages at most. What is no page of the
//! task, or may not have the rights that are asked for, is left out and told; the others are not held up by it.

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::USER_END;
use skerry_ipc::pager::{Changed, ChangedPages, Revoked, RevokedPages};
use skerry_protocols::revoke::{MAX_PAGES, Used};

/// What is to become of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Nobody has them any more.
    Unmap,
    /// Everybody has these rights, no more and no less.
    Protect(Rights),
    /// They lie on this node.
    Move(u16),
    /// Every node that reads them has a copy.
    Replicate,
    /// No node has a copy, and they may be written.
    Collapse,
    /// Every node has them for itself.
    Part,
    /// All nodes share them again.
    Join,
}

impl Wish {
    /// The rights that threads want to have afterwards.
    pub const fn rights(self) -> Rights {
        match self {
            Self::Protect(rights) => rights,
            _ => Rights::NONE,
        }
    }
    /// Whether pages can have such rights: no CPU executes what it may write.
    pub const fn is_sound(self) -> bool {
        !self.rights().contains(Rights::from_bits(Rights::W.bits() | Rights::X.bits()))
    }
    /// Whether it can be done to pages that are a node's own.
    pub const fn is_for_own(self) -> bool {
        matches!(self, Self::Unmap | Self::Protect(_))
    }
}

/// The pages of one round.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Their addresses.
    pub addresses: [u64; MAX_PAGES],
    /// How many.
    pub count: usize,
    /// Those that are pages are all of one region.
    pub one_region: bool,
    /// Those that all nodes share, a bit each.
    pub global: u64,
    /// Those that are a node's own.
    pub local: u64,
    /// Those that are none.
    pub bad: u64,
    /// What became of them, so far: it is done.
    pub done: u64,
    /// There is no frame for them.
    pub full: u64,
    /// How they were used.
    pub used: Used,
}

impl Batch {
    /// No pages.
    pub const fn new() -> Self {
        Self {
            addresses: [0; MAX_PAGES],
            count: 0,
            one_region: false,
            global: 0,
            local: 0,
            bad: 0,
            done: 0,
            full: 0,
            used: Used { accessed: 0, dirty: 0 },
        }
    }
    /// One page, of all nodes, and nothing else.
    pub fn alone(&mut self, address: u64) {
        self.addresses[0] = address;
        (self.count, self.global, self.local, self.bad) = (1, 1, 0, 0);
        (self.done, self.used, self.one_region) = (0, Used::default(), true);
    }
    /// These pages, as many as there is room for, and nothing else.
    fn set(&mut self, pages: impl Iterator<Item = u64>, mut kind: impl FnMut(u64) -> Kind) {
        let (mut global, mut local, mut bad, mut done, mut count) = (0, 0, 0, 0, 0);
        for (place, address) in self.addresses.iter_mut().zip(pages) {
            *place = address;
            let bit = 1 << count;
            match kind(address) {
                Kind::Global => global |= bit,
                Kind::Local => local |= bit,
                Kind::Bad => bad |= bit,
                Kind::Done => done |= bit,
            }
            count += 1;
        }
        (self.count, self.global, self.local, self.bad, self.done) = (count, global, local, bad, done);
        (self.full, self.used) = (0, Used::default());
    }
    fn outcome(&self) -> Revoked {
        let all = self.global | self.local;
        Revoked {
            done: self.done,
            gone: all & !(self.done | self.full | self.bad),
            accessed: self.used.accessed & self.done,
            dirty: self.used.dirty & self.done,
            bad: self.bad,
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// What a page is to a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All nodes share it.
    Global,
    /// It is a node's own.
    Local,
    /// The task has no such page, or it may not have such rights.
    Bad,
    /// It is as it is to be.
    Done,
}

/// A request in progress.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What is to become of the pages.
    pub wish: Wish,
    next: u64,
    end: u64,
    list: bool,
    sum: Revoked,
    full: u64,
}

impl Request {
    /// A range of pages; `None` if it is none, or empty.
    pub fn range(wish: Wish, base: u64, pages: u64) -> Option<Self> {
        let end = pages.checked_mul(PAGE_SIZE).and_then(|bytes| base.checked_add(bytes))?;
        let sound = base.is_multiple_of(PAGE_SIZE) && pages != 0 && end <= USER_END;
        sound.then_some(Self { wish, next: base, end, list: false, sum: Revoked::default(), full: 0 })
    }
    /// A list for `revoke`, see [`skerry_ipc::pager::Pages`]: what it wants, if that is one thing.
    pub fn list(words: &[u64]) -> Option<Self> {
        let first = Self::common(words)?;
        let wish = if first == 0 { Wish::Unmap } else { Wish::Protect(Rights::from_bits(first)) };
        (first <= Rights::RWX.bits()).then_some(Self::of_list(wish))
    }
    /// A list of pages that are to lie on one node.
    pub fn move_list(words: &[u64]) -> Option<Self> {
        Some(Self::of_list(Wish::Move(Self::common(words)? as u16)))
    }
    /// What all words of a list say in their lower bits.
    fn common(words: &[u64]) -> Option<u64> {
        let wish = |word: u64| word & (PAGE_SIZE - 1);
        let first = wish(*words.first()?);
        words.iter().all(|&word| wish(word) == first).then_some(first)
    }
    const fn of_list(wish: Wish) -> Self {
        let sum = Revoked { done: 0, gone: 0, accessed: 0, dirty: 0, bad: 0 };
        Self { wish, next: 0, end: 0, list: true, sum, full: 0 }
    }
    /// The same in its only round.
    #[must_use]
    pub const fn begun(self) -> Self {
        Self { next: self.end, ..self }
    }
    /// What the next round is about; `kind` says what a page is. Of a list, everything is in its first round, which is in `words`.
    pub fn round(&mut self, batch: &mut Batch, words: &[u64], kind: impl FnMut(u64) -> Kind) {
        if self.list {
            return batch.set(words.iter().map(|word| word & !(PAGE_SIZE - 1)), kind);
        }
        batch.set((self.next..self.end).step_by(PAGE_SIZE as usize), kind);
        self.next += batch.count as u64 * PAGE_SIZE;
    }
    /// Takes what became of a round. Returns whether there is another one.
    pub fn finish_round(&mut self, batch: &Batch) -> bool {
        let outcome = batch.outcome().to_array();
        let mut sum = self.sum.to_array();
        for (sum, bits) in sum.iter_mut().zip(outcome) {
            *sum = if self.list { bits } else { *sum + u64::from(bits.count_ones()) };
        }
        self.sum = Revoked::from_array(sum);
        self.full = if self.list { batch.full } else { self.full + u64::from(batch.full.count_ones()) };
        self.next < self.end
    }
    /// The answer.
    pub const fn answer(&self) -> Answer {
        let Revoked { done, gone, bad, .. } = self.sum;
        let changed = Changed { done, gone, full: self.full, bad };
        match (self.wish, self.list) {
            (Wish::Unmap | Wish::Protect(_), false) => Answer::Range(self.sum),
            (Wish::Unmap | Wish::Protect(_), true) => Answer::Pages(RevokedPages(self.sum)),
            (Wish::Collapse, _) => Answer::Again,
            (_, false) => Answer::Changed(changed),
            (_, true) => Answer::ChangedPages(ChangedPages(changed)),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To one about a range.
    Range(Revoked),
    /// To one about a list.
    Pages(RevokedPages),
    /// To one that changes a range.
    Changed(Changed),
    /// To one that changes a list.
    ChangedPages(ChangedPages),
    /// To a fault, which can be tried again.
    Again,
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_long_range_comes_in_rounds_and_is_summed_up() {
        let mut request = Request::range(Wish::Unmap, 0x10_0000, 130).unwrap();
        let kind = |address: u64| if address == 0x10_1000 { Kind::Bad } else { Kind::Global };
        let mut rounds = Vec::new();
        loop {
            let mut batch = Batch::new();
            request.round(&mut batch, &[], kind);
            batch.done = batch.global & !4;
            batch.used = Used { accessed: u64::MAX, dirty: 1 };
            rounds.push((batch.count, batch.addresses[0]));
            if !request.finish_round(&batch) {
                break;
            }
        }
        assert_eq!(rounds, [(64, 0x10_0000), (64, 0x14_0000), (2, 0x18_0000)]);
        let sum = Revoked { done: 127, gone: 2, accessed: 127, dirty: 3, bad: 1 };
        assert_eq!(request.answer(), Answer::Range(sum));
        for (base, pages) in [(1, 1), (0, 0), (0, u64::MAX), (u64::MAX << 12, 1), (USER_END, 1)] {
            assert!(Request::range(Wish::Unmap, base, pages).is_none());
        }
    }

    #[test]
    fn a_bad_page_among_many_is_named_and_holds_nobody_up() {
        let words: Vec<u64> = (0..63).map(|i| (0x5000_0000 + (i << 12)) | Rights::R.bits()).collect();
        let mut request = Request::list(&words).unwrap();
        assert_eq!(request.wish, Wish::Protect(Rights::R));
        let kind = |address: u64| match (address - 0x5000_0000) >> 12 {
            40 => Kind::Bad,
            7 => Kind::Local,
            _ => Kind::Global,
        };
        let mut batch = Batch::new();
        request.round(&mut batch, &words, kind);
        assert_eq!((batch.count, batch.bad, batch.local), (63, 1 << 40, 1 << 7));
        batch.done = batch.global | batch.local;
        assert!(!request.finish_round(&batch));
        let Answer::Pages(RevokedPages(told)) = request.answer() else { panic!() };
        assert_eq!((told.bad, told.done, told.gone), (1 << 40, (u64::MAX >> 1) & !(1 << 40), 0));
        // Two wishes at a time, rights that there are not.
        assert!(Request::list(&[0x1000, 0x2001]).is_none() && Request::list(&[0x1008]).is_none());
        assert!(Request::list(&[]).is_none());
    }
}
