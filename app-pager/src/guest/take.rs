//! Taking pages away from this node's kernel.
//!
//! The kernel of a cluster with one CPU takes a page in a few dozen instructions. With several CPUs each system call can mean that all of
//! them forget something, so there it is several pages in one call: the machines ask for one page after the other and go on to something
//! else only after the last, and what they ask for in a row is collected. It has to be carried out ([`Batch::flush`]) before anything else is
//! done for the machine.

use app_pager::protocols::revoke::Used;
use skerry_abi::{Fpage, Rights};
use skerry_rt::sys;

use super::state::Context;

/// Pages of one system call.
const AT_ONCE: usize = 8;

/// Takes one frame away, or all rights to it but these. Returns what a machine hears of it: whether it was accessed, and written.
#[inline(always)]
pub(super) fn take_page(frame: u64, keep: Option<Rights>) -> u64 {
    let seen = sys::unmap_page(frame, keep.map_or(Rights::RWX, |keep| Rights::RWX.without(keep)));
    u64::from(seen.contains(Rights::R)) | u64::from(seen.contains(Rights::W)) << 1
}

/// Pages that are to be taken away.
pub(super) struct Batch {
    fpages: [Fpage; AT_ONCE],
    pages: [u8; AT_ONCE],
    count: usize,
    /// How many are collected.
    most: usize,
    used: Used,
}

impl Batch {
    /// None.
    pub(super) fn new(context: &Context) -> Self {
        Self {
            most: if context.start.cpus().len() == 1 { 1 } else { AT_ONCE },
            fpages: [Fpage::NIL; AT_ONCE],
            pages: [0; AT_ONCE],
            count: 0,
            used: Used { accessed: 0, dirty: 0 },
        }
    }
    /// The frame of this page, or all rights to it but these.
    #[inline(always)]
    pub(super) fn add(&mut self, page: u8, frame: u64, keep: Option<Rights>) {
        if self.most == 1 {
            return self.note(page, take_page(frame, keep));
        }
        if self.count == AT_ONCE {
            self.flush();
        }
        let rights = keep.map_or(Rights::RWX, |keep| Rights::RWX.without(keep));
        self.fpages[self.count] = Fpage::page(frame, rights);
        self.pages[self.count] = page;
        self.count += 1;
    }
    /// The frames of all these pages.
    #[inline(always)]
    pub(super) fn add_all(&mut self, mut pages: u64, frames: &[u64], keep: Option<Rights>) {
        while pages != 0 {
            let page = pages.trailing_zeros();
            pages &= pages - 1;
            if let Some(&frame) = frames.get(page as usize) {
                self.add(page as u8, frame, keep);
            }
        }
    }
    fn note(&mut self, page: u8, seen: u64) {
        self.used.accessed |= (seen & 1) << page;
        self.used.dirty |= (seen >> 1) << page;
    }
    /// Takes them away.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        if self.count != 0 {
            self.take();
        }
    }
    #[inline(never)]
    fn take(&mut self) {
        let fpages = &mut self.fpages[..self.count];
        // A pager has all frames, and eight at most are asked for: there is nothing to be refused.
        if sys::unmap(fpages, false).is_ok() {
            for (fpage, &page) in fpages.iter().zip(&self.pages) {
                let seen = fpage.rights();
                self.used.accessed |= u64::from(seen.contains(Rights::R)) << page;
                self.used.dirty |= u64::from(seen.contains(Rights::W)) << page;
            }
        }
        self.count = 0;
    }
    /// How they were used, as far as they have been taken away.
    pub(super) const fn used(&self) -> Used {
        self.used
    }
}
