//! The kernel's trace rings, one per CPU (boot option `trace=on`).
//!
//! Where something is recorded there is one test when tracing is off. The fast paths have not even that: with `trace=on` they are not
//! taken ([`crate::runqueue::RunQueue`] refuses, and `fast_unmap` does), so that everything passes the general path, which records.

use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::USER_END;
use skerry_abi::{CpuId, Error};
use skerry_trace::{Event, Page, Writer};

/// Argument registers of MAP_TRACE that say how far it has come: pages that are mapped, and why they go away again.
const DONE: usize = 3;
const FAILURE: usize = 4;
/// What it costs to map a page of a ring, or to take it away.
const PAGE: u32 = 36;

/// Pages of one CPU's ring: about two thousand records.
pub const RING_PAGES: usize = 16;

/// The rings of a cluster; no pages: nothing is traced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rings<'a> {
    pages: &'a [Page],
    pa: u64,
    here: Option<Writer<'a>>,
}

impl<'a> Rings<'a> {
    pub(crate) fn new(pages: &'a [Page], pa: u64) -> Self {
        Self { pages, pa, here: None }
    }
    pub(crate) fn is_on(&self) -> bool {
        !self.pages.is_empty()
    }
    /// The `local`-th CPU runs the kernel.
    pub(crate) fn enter(&mut self, local: u16) {
        let first = usize::from(local) * RING_PAGES;
        self.here = self.pages.get(first..first + RING_PAGES).and_then(Writer::new);
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// Records what `event` says, if this is traced.
    #[inline(always)]
    pub(crate) fn trace(&self, event: impl FnOnce(&Self) -> Event) {
        if let Some(ring) = &self.rings.here {
            ring.push(self.hal.now(), event(self));
        }
    }

    /// Bytes of one CPU's ring; 0: nothing is traced.
    pub(crate) fn trace_ring(&self) -> u64 {
        if self.rings.is_on() { RING_PAGES as u64 * PAGE_SIZE } else { 0 }
    }

    /// Maps the rings of all CPUs, one behind the other, read-only into a space, some pages per kernel entry. They stay until it ends.
    ///
    /// How far the call has come say its registers, which its caller can write, too: what does not fit is refused, and nothing but
    /// pages of the rings is ever taken away.
    pub(crate) fn map_trace(&mut self, caller: u32, space: u16, va: u64) -> Result<Done, Error> {
        let (pages, pa) = (self.rings.pages.len() as u64, self.rings.pa);
        let end = va.checked_add(pages * PAGE_SIZE).filter(|&end| end <= USER_END);
        if pages == 0 {
            return Err(Error::WrongState);
        }
        let x = self.arguments(caller);
        let [mut done, mut failure] = [x[DONE], x[FAILURE]];
        if !va.is_multiple_of(PAGE_SIZE) || end.is_none() || done > pages {
            return Err(Error::BadArgument);
        }
        while failure == 0 && done < pages && self.budget.take(PAGE) {
            let offset = done * PAGE_SIZE;
            match self.db.map_pinned(space, va + offset, pa + offset, false) {
                Ok(()) => done += 1,
                Err(error) => failure = error.code(),
            }
        }
        self.hal.publish();
        // All or nothing. What fails is not ours, and stays.
        while failure != 0 && done > 0 && self.budget.take(PAGE) {
            done -= 1;
            let offset = done * PAGE_SIZE;
            let (db, mut tlb) = self.db_and_tlb();
            if db.lookup(space, va + offset).is_some_and(|there| there.pa == pa + offset) {
                db.unmap_pinned(&mut tlb, space, va + offset);
            }
        }
        match failure {
            0 if done == pages => Ok(Done::NOTHING),
            failure if failure != 0 && done == 0 => Err(Error::from_code(failure)),
            _ => {
                let x = &mut self.threads[caller as usize].context.x;
                (x[DONE], x[FAILURE]) = (done, failure);
                Ok(self.done_again())
            }
        }
    }

    /// A thread moves to another CPU.
    pub(crate) fn trace_move(&self, t: u32, to: CpuId) {
        self.trace(|k| {
            let thread = &k.threads[t as usize];
            Event::Migrate { thread: thread.id, from: thread.cpu, to }
        });
    }
}
