//! The kernel's trace rings, one per CPU (boot option `trace=on`).
//!
//! Where something is recorded there is one test when tracing is off. The fast paths have not even that: with `trace=on` they are not
//! taken ([`crate::runqueue::RunQueue`] refuses, and `fast_unmap` does), so that everything passes the general path, which records.

use crate::hal::Hal;
use crate::kernel::Kernel;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::USER_END;
use skerry_abi::{CpuId, Error};
use skerry_trace::{Event, Page, Writer};

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

    /// Maps the rings of all CPUs, one behind the other, read-only into a space. They stay until it ends.
    pub(crate) fn map_trace(&mut self, space: u16, va: u64) -> Result<(), Error> {
        let (pages, pa) = (self.rings.pages.len() as u64, self.rings.pa);
        let end = va.checked_add(pages * PAGE_SIZE).filter(|&end| end <= USER_END);
        if pages == 0 {
            return Err(Error::WrongState);
        }
        if !va.is_multiple_of(PAGE_SIZE) || end.is_none() {
            return Err(Error::BadArgument);
        }
        for page in 0..pages {
            let offset = page * PAGE_SIZE;
            if let Err(error) = self.db.map_pinned(space, va + offset, pa + offset, false) {
                // All or nothing. What fails is not ours, and stays.
                let (db, mut tlb) = self.db_and_tlb();
                (0..page).for_each(|done| db.unmap_pinned(&mut tlb, space, va + done * PAGE_SIZE));
                return Err(error);
            }
        }
        self.hal.publish();
        Ok(())
    }

    /// A thread moves to another CPU.
    pub(crate) fn trace_move(&self, t: u32, to: CpuId) {
        self.trace(|k| {
            let thread = &k.threads[t as usize];
            Event::Migrate { thread: thread.id, from: thread.cpu, to }
        });
    }
}
