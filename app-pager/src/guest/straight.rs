//! Pages that all lie in one region: what the straight ways of a leader and of the unmap worker do with their words and frames.

use app_pager::letter::Letter;
use app_pager::maintain::Site;
use app_pager::page::perform;
use app_pager::pool::Owner;
use app_pager::protocols::effect::{Access, Me, Memory, Word};
use app_pager::protocols::lead::{Goal, Hands};
use app_pager::protocols::record::Record;
use app_pager::roll::Roll;
use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_rt::sys;

use super::lead::{claim, free};
use super::maintain;
use super::memory::Physical;
use super::place::Place;
use super::state::Context;

/// The pages of a leader's batch.
pub(super) struct Pages<'a, const W: usize> {
    pub(super) context: &'a Context,
    pub(super) place: &'a Place,
    pub(super) owner: &'a mut Owner,
    pub(super) task: u32,
    pub(super) addresses: &'a [u64],
    pub(super) me: Me,
    pub(super) goal: Goal,
}

/// Where the maintenance of a frame is booked that changes hands for this.
pub(super) const fn site(goal: Goal) -> Site {
    match goal {
        Goal::Migrate(_) => Site::Migrate,
        Goal::Restrict(_) => Site::Restrict,
        Goal::Replicate | Goal::Part(_) => Site::Replicate,
        Goal::Collapse | Goal::Join => Site::Collapse,
        _ => Site::Unmap,
    }
}

/// Copies a page that nobody maps, which threads may perhaps execute.
#[inline(never)]
pub(super) fn copy(context: &Context, code: bool, from: u64, to: u64) {
    Physical.copy_page(to, from);
    if code {
        sys::sync_code(to, PAGE_SIZE);
    }
    maintain::hand_over(context, Site::Copy, to, PAGE_SIZE);
}

impl<const W: usize> Pages<'_, W> {
    #[inline(always)]
    fn address(&self, page: u8) -> u64 {
        // Machines name pages that there are.
        self.addresses.get(usize::from(page)).copied().unwrap_or(self.place.region.base)
    }
    /// Whose quota a frame was charged to that goes back. A page that moves has as many frames as before.
    fn roll(&self) -> Option<Roll<'static>> {
        self.place.roll.filter(|_| !matches!(self.goal, Goal::Migrate(_)))
    }
}

impl<const W: usize> Memory for Pages<'_, W> {
    #[inline(always)]
    fn access(&mut self, page: u8, word: Word, access: Access) -> u64 {
        let address = self.address(page);
        match word {
            Word::Local => perform(self.place.local(address), access),
            Word::Group => perform(self.place.group(address), access),
            Word::Master => self.place.master::<W>(address).first().map_or(0, |word| perform(word, access)),
            Word::Sharers(w) => {
                let words = self.place.master::<W>(address);
                words.get(1 + usize::from(w)).map_or(0, |word| perform(word, access))
            }
        }
    }
}

impl<const W: usize> Hands for Pages<'_, W> {
    #[inline(always)]
    fn maintain(&mut self, _: u8, frame: u64) {
        maintain::hand_over(self.context, site(self.goal), frame, PAGE_SIZE);
    }
    #[inline(always)]
    fn copy(&mut self, _: u8, from: u64, to: u64) {
        copy(self.context, self.place.region.most.contains(Rights::X), from, to);
    }
    #[inline(always)]
    fn claim(&mut self, page: u8, frame: u64) {
        let record = Record::taken(self.context.page_number(self.task, self.address(page)), self.me);
        claim(self.context, self.owner, frame, record);
    }
    #[inline(always)]
    fn free(&mut self, _: u8, frame: u64) {
        free(self.context, self.owner, self.roll(), frame);
    }
}

/// The pages that a letter is about.
pub(super) struct Lettered<'a> {
    pub(super) letter: &'a Letter<'a>,
    pub(super) place: &'a Place,
}

impl Memory for Lettered<'_> {
    #[inline(always)]
    fn access(&mut self, page: u8, word: Word, access: Access) -> u64 {
        let address = self.letter.page(page);
        match word {
            Word::Group => perform(self.place.group(address), access),
            _ => perform(self.place.local(address), access),
        }
    }
}
