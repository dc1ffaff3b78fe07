//! How a thread comes to be: what it takes of its space, and its first instruction.
//!
//! Creating and starting a thread is as quick as a handful of messages, so programs need not keep idle threads in stock. Nothing of
//! the slot's last thread is left: registers and UTCB are cleared here, not when it ended.

use crate::hal::Hal;
use crate::kernel::{Kernel, UtcbPage};
use crate::shootdown::CpuSet;
use crate::space::UtcbPage as Slot;
use crate::syscall::Next;
use crate::thread::{Context, State, Tcb};
use core::sync::atomic::Ordering;
use skerry_abi::{Counter, CpuId, Error, ThreadId};
use skerry_checks::{Check, passes};

/// What a new thread needs.
pub struct NewThread {
    /// Slot of its space.
    pub space: u16,
    /// A CPU of this cluster.
    pub cpu: CpuId,
    /// Gets its page faults; in this cluster, since map items end at its border.
    pub pager: ThreadId,
    /// Gets its exceptions.
    pub handler: ThreadId,
    /// UTCB slot in its space.
    pub utcb_slot: u16,
    /// Larger is more urgent.
    pub priority: u8,
}

impl<H: Hal> Kernel<'_, H> {
    /// Creates a thread that has no instruction pointer yet.
    ///
    /// # Errors
    /// [`Error::BadArgument`]: a CPU or pager of another cluster, or a UTCB slot that is taken;
    /// [`Error::OutOfKernelMemory`].
    #[inline(always)]
    pub fn create_thread(&mut self, new: NewThread) -> Result<ThreadId, Error> {
        let t = self.free_threads.head().ok_or(Error::OutOfKernelMemory)?;
        let (page, fresh) = self.claim_utcb(&new)?;
        self.use_slot();
        let cold = &mut self.cold[t as usize];
        (cold.generation, cold.moves) = (cold.generation + 1, 0);
        let id = ThreadId::new(self.cluster, t as u16, cold.generation);
        if !fresh {
            self.hal.zero_words(self.utcb_at(page, new.utcb_slot));
        }
        self.threads[t as usize].context = Context::EMPTY;
        self.settle(&new, t, id, page);
        Ok(id)
    }

    /// Takes what a thread needs of its space: a UTCB. Returns its page, and whether the page is new: if it is not, the UTCB holds what
    /// an earlier thread left.
    ///
    /// # Errors
    /// As for [`Kernel::create_thread`]; then nothing has changed.
    #[inline(always)]
    pub(crate) fn claim_utcb(&mut self, new: &NewThread) -> Result<(u32, bool), Error> {
        let own_pager = new.pager.is_nil() || new.pager.cluster() == self.cluster;
        if !passes(Check::OwnCpu, self.owns_cpu(new.cpu)) || !passes(Check::OwnPager, own_pager) {
            return Err(Error::BadArgument);
        }
        match self.spaces[usize::from(new.space)].take_utcb(new.utcb_slot)? {
            Slot::Present(page) => Ok((page, false)),
            Slot::Missing => self.add_utcb_page(new).map(|page| (page, true)),
        }
    }

    /// The first free slot is free no more.
    #[inline(always)]
    pub(crate) fn use_slot(&mut self) {
        if let Some(t) = self.free_threads.pop_front(self.links) {
            self.used_threads = self.used_threads.max(t + 1);
        }
    }

    /// Makes a thread of a slot that has none, but for its registers: tells it and its space of each other.
    #[inline(always)]
    pub(crate) fn settle(&mut self, new: &NewThread, t: u32, id: ThreadId, page: u32) {
        let utcb = self.utcb_at(page, new.utcb_slot);
        utcb[0].store(id.0, Ordering::Relaxed);
        utcb[1].store(u64::from(new.cpu), Ordering::Relaxed);
        let utcb_va = Tcb::utcb_address(new.utcb_slot);
        let utcb_pa = self.utcb_pa(page) + utcb_va % size_of::<UtcbPage>() as u64;

        let Self { members, spaces, threads, .. } = self;
        let (space, thread) = (&mut spaces[usize::from(new.space)], &mut threads[t as usize]);
        space.members.push_front(members, t);
        space.threads += 1;
        thread.rename(id);
        (thread.domain, thread.space_id, thread.ttbr0) = (space.domain.into(), space.id, space.ttbr0);
        (thread.space, thread.cpu, thread.priority) = (new.space, new.cpu, new.priority);
        (thread.utcb_slot, thread.utcb_page) = (new.utcb_slot, page);
        (thread.utcb_va, thread.utcb_pa) = (utcb_va, utcb_pa);
        (thread.pager, thread.handler) = (new.pager, new.handler);
    }

    #[cold]
    fn add_utcb_page(&mut self, new: &NewThread) -> Result<u32, Error> {
        let added = self.alloc_utcb_page().and_then(|page| {
            let va = Tcb::utcb_address(new.utcb_slot) & !(size_of::<UtcbPage>() as u64 - 1);
            let pa = self.utcb_pa(page);
            match self.db.map_pinned(new.space, va, pa, true) {
                Ok(()) => {
                    self.hal.publish();
                    self.publish_free();
                    Ok(page)
                }
                Err(error) => {
                    self.free_utcb_page(page);
                    Err(error)
                }
            }
        });
        let space = &mut self.spaces[usize::from(new.space)];
        match added {
            Ok(page) => space.set_utcb_page(new.utcb_slot, page),
            Err(_) => _ = space.release_utcb(new.utcb_slot),
        }
        added
    }

    /// Whether the thread with this name can be started and runs at once, instead of `caller`, which runs on this CPU: the case where
    /// the scheduler has nothing to decide.
    #[inline(always)]
    pub(crate) fn may_start_at_once(&self, caller: u32, id: ThreadId) -> Option<u32> {
        let t = u32::from(id.slot());
        let thread = self.threads.get(t as usize)?;
        let queue = &self.cpus[usize::from(self.this_cpu)];
        // Never started, and nothing holds it.
        let startable = passes(Check::FastStartIdentity, thread.id == id)
            && passes(Check::FastStartOnce, thread.state == State::Created && thread.hold == 0);
        // It is of this CPU, and more urgent than whoever is ready here, and than the caller. The floor is above all priorities if the
        // scheduler wants to be asked.
        let priority = self.threads[caller as usize].priority;
        let urgent = passes(Check::FastStartCpu, thread.cpu == self.this_cpu)
            && passes(Check::FastStartFloor, queue.is_below(thread.priority))
            && thread.priority > priority;
        // This CPU's TLB may hold nothing outdated of its space.
        let fresh = self.spaces[usize::from(thread.space)].ran_on.contains(CpuSet::of(queue.local));
        (startable && urgent && passes(Check::FastStartTlb, fresh)).then_some(t)
    }

    /// Starts a thread that [`Kernel::may_start_at_once`], with the arguments in the caller's registers.
    #[inline(always)]
    pub(crate) fn start_at_once(&mut self, caller: u32, t: u32) -> Next<'_> {
        let Self { threads, cpus, links, counters, .. } = self;
        let queue = &mut cpus[usize::from(self.this_cpu)];
        let Ok([from, to]) = threads.get_disjoint_mut([caller as usize, t as usize]) else {
            return Next::Ask;
        };
        queue.make_room(links, from.priority, t);
        counters.count(Counter::Preemptions);
        counters.count(Counter::Switches);
        let x = &mut from.context.x;
        (to.context.pc, to.context.sp, to.context.x[0]) = (x[2], x[3], x[4]);
        to.state = State::Ready;
        x[..8].fill(0);
        Next::Switch(from, to)
    }

    /// Lets a created thread run for the first time.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it has run before.
    #[inline]
    pub fn start_thread(&mut self, t: u32, pc: u64, sp: u64, argument: u64) -> Result<(), Error> {
        let thread = &mut self.threads[t as usize];
        if !passes(Check::StartOnce, thread.state == State::Created) {
            return Err(Error::WrongState);
        }
        thread.context.x[0] = argument;
        (thread.context.pc, thread.context.sp) = (pc, sp);
        self.make_ready(t);
        Ok(())
    }
}
