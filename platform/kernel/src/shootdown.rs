//! TLB invalidation, no wider than needed.
//!
//! For every space the kernel knows on which CPUs its TLB entries can be ([`Space::ran_on`]). What only this CPU can hold is
//! invalidated here alone. For the others ARM offers nothing between one TLB and the whole shareable domain, so there are
//! two ways, chosen at boot ([`TlbMode`]):
//! - *broadcast*: TLBI …IS, which all CPUs of the machine obey, of other clusters too;
//! - *by interrupt*: the CPUs that run the space *now* are interrupted and invalidate in their own TLBs; those that ran it
//!   before owe an invalidation of the whole ASID, paid when they switch to it again ([`Space::stale`]), which costs no
//!   interrupt: the entries of an ASID that is not in TTBR0 are never used.
//!
//! Beyond [`MANY_PAGES`] pages of one space in one operation, however many steps it takes, the whole ASID goes instead (once a step), and the CPUs that do not run the space
//! leave its set. A mapping of 64 KiB counts as its sixteen pages, which a TLB may hold one by one.
//!
//! All of this happens under the cluster lock, so there is one initiator at a time; how targets answer although they may be
//! waiting for that very lock is told in `arch/aarch64/shootdown.rs`.

use crate::counters::Counters;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::runqueue::RunQueue;
use crate::space::Space;
use crate::thread::Tcb;
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::{Counter, CpuId};
use skerry_mapping_db::{MappingDb, Tlb, pages};

/// From this many pages of one space on, invalidating its whole ASID is cheaper than page by page: refilling a TLB costs a
/// walk per page that is used again, an invalidation costs its share of the barrier and, by interrupt, of the other CPU's time.
pub const MANY_PAGES: u32 = 32;

/// Invalidations sent to other CPUs at once.
pub const BATCH: usize = 16;

/// How the TLBs of other CPUs are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlbMode {
    /// By TLBI …IS.
    #[default]
    Broadcast,
    /// By interrupt.
    Interrupt,
}

/// One invalidation that another CPU is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalidation {
    /// The space's tag.
    pub asid: u16,
    /// The page; `None`: all of the space.
    pub va: Option<u64>,
}

/// A set of CPUs of the cluster, by their number in it, modulo 64: exact in clusters of up to 64 CPUs, in larger ones each
/// member stands for all CPUs with the same remainder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet(u64);

impl CpuSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);
    /// The CPUs that a set can tell apart.
    pub const EXACT: u16 = 64;

    /// The set of one CPU.
    pub const fn of(local: u16) -> Self {
        Self(1 << (local % Self::EXACT))
    }
    /// Whether nobody is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// All but `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What an operation has asked for and not yet waited for. Part of the kernel so that beginning one costs nothing.
#[derive(Debug)]
pub(crate) struct Pending {
    batch: [Invalidation; BATCH],
    count: usize,
    targets: CpuSet,
    broadcast: bool,
    /// The space of the last page, and how many of its pages came in a row.
    space: u16,
    pages: u32,
    /// The space that has lost pages in the steps of an UNMAP so far, and how many: an operation is not short because it is interrupted.
    streak: (u16, u32),
}

impl Pending {
    pub(crate) const NONE: Self = Self {
        batch: [Invalidation { asid: 0, va: None }; BATCH],
        count: 0,
        targets: CpuSet::EMPTY,
        broadcast: false,
        space: u16::MAX,
        pages: 0,
        streak: (u16::MAX, 0),
    };

    /// Another operation begins, or this one is over.
    pub(crate) fn begin(&mut self) {
        self.streak = (u16::MAX, 0);
    }
}

/// The TLBs as the mapping database sees them.
pub(crate) struct Shootdown<'k, 'a, H: Hal> {
    hal: &'k mut H,
    spaces: &'k mut [Space],
    threads: &'k [Tcb],
    cpus: &'k [RunQueue],
    counters: Counters<'a>,
    pending: &'k mut Pending,
    cpu: CpuId,
    mode: TlbMode,
}

impl<'a, H: Hal> Kernel<'a, H> {
    /// The mapping database together with what its TLB invalidations need.
    #[inline]
    pub(crate) fn db_and_tlb(&mut self) -> (&mut MappingDb<'a>, Shootdown<'_, 'a, H>) {
        let tlb = Shootdown {
            hal: &mut self.hal,
            spaces: self.spaces,
            threads: self.threads,
            cpus: self.cpus,
            counters: self.counters,
            pending: &mut self.pending,
            cpu: self.this_cpu,
            mode: self.tlb_mode,
        };
        (&mut self.db, tlb)
    }

    /// This CPU is about to run `space`: its TLB will hold entries of it.
    #[inline]
    pub(crate) fn note_run(&mut self, space: u16) {
        self.note_run_on(space, CpuSet::of(self.cpus[usize::from(self.this_cpu)].local));
    }

    /// The same; `here` is this CPU.
    #[inline(always)]
    pub(crate) fn note_run_on(&mut self, space: u16, here: CpuSet) {
        if !self.spaces[usize::from(space)].ran_on.contains(here) {
            self.first_run(space, here);
        }
    }

    #[cold]
    fn first_run(&mut self, slot: u16, here: CpuSet) {
        let space = &mut self.spaces[usize::from(slot)];
        space.ran_on = space.ran_on.with(here);
        if space.stale.contains(here) {
            space.stale = space.stale.without(here);
            self.hal.invalidate_asid(Space::asid(slot), false);
            self.hal.sync(false);
            self.counters.count(Counter::TlbLocal);
        }
    }
}

impl<H: Hal> Shootdown<'_, '_, H> {
    fn here(&self) -> CpuSet {
        CpuSet::of(self.cpus[usize::from(self.cpu)].local)
    }

    /// Whether a set tells all CPUs of the cluster apart.
    fn is_exact(&self) -> bool {
        self.counters.cpus() <= CpuSet::EXACT
    }

    /// The other CPUs whose TLBs can hold entries of the space.
    fn others(&self, space: u16) -> CpuSet {
        let ran_on = self.spaces[usize::from(space)].ran_on;
        match self.is_exact() {
            true => ran_on.without(self.here()),
            false => ran_on,
        }
    }

    /// Those of `others` that run the space now. The rest leaves its set, owing an invalidation.
    fn running(&mut self, slot: u16, others: CpuSet) -> CpuSet {
        if !self.is_exact() {
            return others;
        }
        let mut running = CpuSet::EMPTY;
        for local in (0..self.counters.cpus()).filter(|&local| others.contains(CpuSet::of(local))) {
            let current = self.cpus[usize::from(self.counters.cpu(local))].current();
            if current.is_some_and(|t| self.threads[t as usize].space == slot) {
                running = running.with(CpuSet::of(local));
            } else {
                self.counters.count(Counter::TlbDeferred);
            }
        }
        let space = &mut self.spaces[usize::from(slot)];
        let gone = others.without(running);
        (space.ran_on, space.stale) = (space.ran_on.without(gone), space.stale.with(gone));
        running
    }

    fn is_alone(&self) -> bool {
        self.counters.cpus() == 1
    }

    fn ask(&mut self, targets: CpuSet, invalidation: Invalidation) {
        if self.pending.count == BATCH {
            self.shoot();
        }
        self.pending.targets = self.pending.targets.with(targets);
        self.pending.batch[self.pending.count] = invalidation;
        self.pending.count += 1;
    }

    /// Has the other CPUs do what was asked of them.
    fn shoot(&mut self) {
        let (count, targets, me) = (self.pending.count, self.pending.targets, self.cpu);
        (self.pending.count, self.pending.targets) = (0, CpuSet::EMPTY);
        let counters = self.counters;
        let cpus = (0..counters.cpus()).filter(|&local| targets.contains(CpuSet::of(local)));
        let cpus = cpus.map(|local| counters.cpu(local)).filter(|&cpu| cpu != me);
        counters.add(Counter::TlbInterrupt, cpus.clone().count() as u64);
        self.hal.shoot(cpus, &self.pending.batch[..count]);
    }

    /// Invalidates pages side by side in this CPU's TLB, or in all of the machine.
    fn invalidate_pages(&mut self, asid: u16, va: u64, pages: u32, broadcast: bool) {
        let counter = if broadcast { Counter::TlbBroadcast } else { Counter::TlbLocal };
        self.counters.add(counter, pages.into());
        for page in 0..u64::from(pages) {
            self.hal.invalidate_page(asid, va + (page << PAGE_BITS), broadcast);
        }
    }

    #[cold]
    fn invalidate_elsewhere(&mut self, space: u16, va: u64, pages: u32, others: CpuSet) {
        let asid = Space::asid(space);
        if self.mode == TlbMode::Broadcast {
            self.pending.broadcast = true;
            return self.invalidate_pages(asid, va, pages, true);
        }
        let running = self.running(space, others);
        if !running.is_empty() {
            for page in 0..u64::from(pages) {
                self.ask(running, Invalidation { asid, va: Some(va + (page << PAGE_BITS)) });
            }
        }
        if self.spaces[usize::from(space)].ran_on.contains(self.here()) {
            self.invalidate_pages(asid, va, pages, false);
        }
    }

    /// Invalidates all of a space, and takes the CPUs that do not run it out of its set.
    #[cold]
    fn invalidate_all(&mut self, slot: u16) {
        let asid = Space::asid(slot);
        let others = self.others(slot);
        let running = if others.is_empty() { others } else { self.running(slot, others) };
        let here = self.here();
        let ran_here = self.is_alone() || self.spaces[usize::from(slot)].ran_on.contains(here);
        if !running.is_empty() && self.mode == TlbMode::Broadcast {
            self.counters.count(Counter::TlbBroadcast);
            self.pending.broadcast = true;
            self.hal.invalidate_asid(asid, true);
        } else {
            if !running.is_empty() {
                self.ask(running, Invalidation { asid, va: None });
            }
            if ran_here {
                self.counters.count(Counter::TlbLocal);
                self.hal.invalidate_asid(asid, false);
            }
        }
        // TTBR0 of this CPU holds the space of its current thread; without one it is not known which.
        let current = self.cpus[usize::from(self.cpu)].current();
        if self.is_exact() && current.is_some_and(|t| self.threads[t as usize].space != slot) {
            let space = &mut self.spaces[usize::from(slot)];
            space.ran_on = space.ran_on.without(here);
        }
    }

    /// Does what was put off because more pages of the same space could follow.
    fn finish_run(&mut self) {
        let (space, pages) = (self.pending.space, self.pending.pages);
        (self.pending.space, self.pending.pages) = (u16::MAX, 0);
        if pages != 0 {
            let (of, before) = self.pending.streak;
            self.pending.streak = (space, if of == space { before.max(pages) } else { pages });
        }
        if pages > MANY_PAGES {
            self.invalidate_all(space);
        }
    }
}

impl<H: Hal> Tlb for Shootdown<'_, '_, H> {
    fn publish(&mut self) {
        self.hal.publish();
    }

    #[inline(always)]
    fn invalidate(&mut self, space: u16, va: u64, bits: u32) {
        if self.is_alone() {
            return self.invalidate_pages(Space::asid(space), va, pages(bits), false);
        }
        self.invalidate_shared(space, va, pages(bits));
    }

    fn invalidate_space(&mut self, space: u16) {
        self.finish_run();
        self.invalidate_all(space);
    }

    #[inline(always)]
    fn sync(&mut self) {
        if self.is_alone() {
            return self.hal.sync(false);
        }
        self.finish_run();
        if self.pending.count != 0 {
            self.shoot();
        }
        self.hal.sync(core::mem::take(&mut self.pending.broadcast));
    }
}

impl<H: Hal> Shootdown<'_, '_, H> {
    /// Pages side by side, in a cluster of several CPUs.
    fn invalidate_shared(&mut self, space: u16, va: u64, pages: u32) {
        if self.pending.space != space {
            self.finish_run();
            self.pending.space = space;
            let (of, before) = self.pending.streak;
            self.pending.pages = if of == space { before } else { 0 };
        }
        self.pending.pages += pages;
        if self.pending.pages > MANY_PAGES {
            return;
        }
        let others = self.others(space);
        if others.is_empty() {
            if self.spaces[usize::from(space)].ran_on.contains(self.here()) {
                self.invalidate_pages(Space::asid(space), va, pages, false);
            }
        } else {
            self.invalidate_elsewhere(space, va, pages, others);
        }
    }
}
