//! Creation and deletion of threads and spaces.

use crate::control::{Done, Place};
use crate::hal::Hal;
use crate::kernel::{Kernel, UtcbPage};
use crate::remote;
use crate::space::UtcbPage as Slot;
use crate::syscall::SVC_SIZE;
use crate::thread::{State, Tcb, hold};
use core::sync::atomic::Ordering;
use skerry_abi::{Counter, CpuId, Domain, Error, SpaceId, ThreadId};
use skerry_checks::{Check, passes};
use skerry_mapping_db::Quota;

/// Threads of a space that one step of its destruction deletes.
const THREADS_PER_STEP: usize = 8;
/// Entries of page tables looked at in one step; removing a mapping counts as eight.
const WORK_PER_STEP: u32 = 64;

/// How far the deletion of a space's threads has come.
enum Ending {
    /// None is left.
    Over,
    /// Go on.
    More,
    /// The next one runs on this CPU.
    RunsOn(CpuId),
    /// All that are left end by themselves when other clusters have answered.
    Held,
}

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

/// No quota.
const UNLIMITED: Quota = Quota { tables: u32::MAX, nodes: u32::MAX };

/// A quota as system calls have it: tables in the low half, nodes in the high half, 0 = no limit.
pub(crate) const fn quota(word: u64) -> Quota {
    const fn limit(half: u32) -> u32 {
        if half == 0 { u32::MAX } else { half }
    }
    Quota { tables: limit(word as u32), nodes: limit((word >> 32) as u32) }
}

impl<H: Hal> Kernel<'_, H> {
    /// Creates an empty space that may use any amount of kernel memory.
    ///
    /// # Errors
    /// [`Error::OutOfKernelMemory`].
    pub fn create_space(&mut self, domain: Domain, privileged: bool) -> Result<SpaceId, Error> {
        self.create_space_within(domain, privileged, UNLIMITED)
    }

    /// Creates an empty space with a quota of kernel memory.
    ///
    /// # Errors
    /// [`Error::OutOfKernelMemory`], also if the quota is not enough for an empty space.
    pub fn create_space_within(
        &mut self,
        domain: Domain,
        privileged: bool,
        quota: Quota,
    ) -> Result<SpaceId, Error> {
        let slot = self.free_space;
        let next = self.spaces.get(usize::from(slot)).ok_or(Error::OutOfKernelMemory)?.next_free;
        self.db.space_create(slot, quota)?;
        if let Err(error) = self.pin_info(slot) {
            let (db, mut tlb) = self.db_and_tlb();
            db.space_destroy(slot, &mut tlb);
            return Err(error);
        }
        self.free_space = next;
        let space = &mut self.spaces[usize::from(slot)];
        let id = SpaceId::new(self.cluster, slot, space.id.generation() + 1);
        space.renew(id, domain, privileged);
        Ok(id)
    }

    /// A step towards the end of a space: its threads, its mappings, and all that was mapped on from it. `caller` waits if somebody
    /// else has to let go of a thread first.
    ///
    /// # Errors
    /// [`Error::Refused`] for the caller's own space and for the cluster's root space.
    pub(crate) fn destroy_space_for(&mut self, caller: u32, slot: u16) -> Result<Done, Error> {
        let space = &mut self.spaces[usize::from(slot)];
        if self.threads[caller as usize].space == slot || space.id == SpaceId::root(self.cluster) {
            return Err(Error::Refused);
        }
        space.ending = true;
        match self.end_threads(slot)? {
            Ending::Over => {
                let (db, mut tlb) = self.db_and_tlb();
                if !db.space_destroy_step(slot, &mut tlb, WORK_PER_STEP) {
                    self.counters.count(Counter::PreemptionPoints);
                    return Ok(Done::Again);
                }
                self.retire_space(slot);
                Ok(Done::NOTHING)
            }
            Ending::More => Ok(Done::Again),
            Ending::RunsOn(cpu) => Ok(Done::Visit(cpu)),
            Ending::Held => {
                self.threads[caller as usize].state = State::Controlling;
                let Self { spaces, links, cold, .. } = self;
                cold[caller as usize].place = Place::Space(slot);
                spaces[usize::from(slot)].mourners.push_back(links, caller);
                Ok(Done::Waits)
            }
        }
    }

    /// Deletes a few of the threads of a space.
    fn end_threads(&mut self, slot: u16) -> Result<Ending, Error> {
        for _ in 0..THREADS_PER_STEP {
            let Some(t) = self.spaces[usize::from(slot)].members.head() else { return Ok(Ending::Over) };
            if let Some(cpu) = self.runs_elsewhere(t) {
                return Ok(Ending::RunsOn(cpu));
            }
            if self.threads[t as usize].doomed {
                // It went to the end of the list, so all others are doomed too.
                return Ok(Ending::Held);
            }
            self.delete_thread(t)?;
        }
        Ok(Ending::More)
    }

    /// Ends a space at once.
    ///
    /// # Errors
    /// [`Error::WrongState`] as long as a thread of it runs on another CPU or another cluster has its message. All others
    /// are gone then: try again.
    pub fn destroy_space(&mut self, slot: u16) -> Result<(), Error> {
        loop {
            match self.end_threads(slot)? {
                Ending::Over => break,
                Ending::More => {}
                Ending::Held => return Err(Error::WrongState),
                Ending::RunsOn(_) => {
                    let head = self.spaces[usize::from(slot)].members.head().ok_or(Error::WrongState)?;
                    if self.threads[head as usize].doomed {
                        return Err(Error::WrongState);
                    }
                    self.delete_thread(head)?;
                }
            }
        }
        let (db, mut tlb) = self.db_and_tlb();
        db.space_destroy(slot, &mut tlb);
        self.retire_space(slot);
        Ok(())
    }

    /// The slot of a space without threads and mappings is free again.
    fn retire_space(&mut self, slot: u16) {
        let space = &mut self.spaces[usize::from(slot)];
        space.retire();
        // A slot whose generations are used up stays unused, so that a stale id never names a newer space.
        if space.id.generation() < u32::MAX {
            space.next_free = core::mem::replace(&mut self.free_space, slot);
        }
    }

    /// Creates a thread that has no instruction pointer yet.
    ///
    /// # Errors
    /// [`Error::BadArgument`]: a CPU or pager of another cluster, or a UTCB slot that is taken;
    /// [`Error::OutOfKernelMemory`].
    pub fn create_thread(&mut self, new: NewThread) -> Result<ThreadId, Error> {
        let (t, fresh) = self.occupy(&new, None)?;
        if !fresh {
            self.hal.zero_words(self.utcb(t));
        }
        let cold = &mut self.cold[t as usize];
        cold.generation += 1;
        cold.moves = 0;
        let id = ThreadId::new(self.cluster, t as u16, cold.generation);
        self.threads[t as usize].renew(id);
        self.settle_in(t, &new);
        Ok(id)
    }

    /// Takes what a thread needs of a space: a UTCB, and a slot of the thread table if it has none. Returns the slot, and whether the
    /// UTCB is new: if it is not, it holds what an earlier thread left.
    pub(crate) fn occupy(&mut self, new: &NewThread, home: Option<u32>) -> Result<(u32, bool), Error> {
        let own_pager = new.pager.is_nil() || new.pager.cluster() == self.cluster;
        if !passes(Check::OwnCpu, self.owns_cpu(new.cpu)) || !passes(Check::OwnPager, own_pager) {
            return Err(Error::BadArgument);
        }
        let t = home.or(self.free_threads.head()).ok_or(Error::OutOfKernelMemory)?;
        let (utcb_page, fresh) = match self.spaces[usize::from(new.space)].take_utcb(new.utcb_slot)? {
            Slot::Present(page) => (page, false),
            Slot::Missing => (self.add_utcb_page(new)?, true),
        };
        let Self { links, members, spaces, free_threads, .. } = self;
        if home.is_none() {
            free_threads.remove(links, t);
            self.used_threads = self.used_threads.max(t + 1);
        }
        let space = &mut spaces[usize::from(new.space)];
        space.members.push_front(members, t);
        space.threads += 1;
        let thread = &mut self.threads[t as usize];
        (thread.utcb_slot, thread.utcb_page) = (new.utcb_slot, utcb_page);
        Ok((t, fresh))
    }

    /// Tells a thread that was just renewed where it is.
    pub(crate) fn settle_in(&mut self, t: u32, new: &NewThread) {
        let utcb_va = Tcb::utcb_address(new.utcb_slot);
        let utcb_pa =
            self.utcb_pa(self.threads[t as usize].utcb_page) + utcb_va % size_of::<UtcbPage>() as u64;
        let ttbr0 = self.ttbr0(new.space);
        let space = &self.spaces[usize::from(new.space)];
        let thread = &mut self.threads[t as usize];
        (thread.domain, thread.space_id, thread.ttbr0) = (space.domain.into(), space.id, ttbr0);
        (thread.space, thread.cpu, thread.priority) = (new.space, new.cpu, new.priority);
        (thread.utcb_va, thread.utcb_pa) = (utcb_va, utcb_pa);
        (thread.pager, thread.handler) = (new.pager, new.handler);
        let id = thread.id;
        let utcb = self.utcb(t);
        utcb[0].store(id.0, Ordering::Relaxed);
        utcb[1].store(u64::from(new.cpu), Ordering::Relaxed);
    }

    /// Gives a slot back, if it has a generation left.
    pub(crate) fn free_slot(&mut self, t: u32) {
        let Self { threads, cold, links, free_threads, .. } = self;
        threads[t as usize].state = State::Free;
        if cold[t as usize].generation < u32::MAX {
            free_threads.push_front(links, t);
        }
    }

    fn add_utcb_page(&mut self, new: &NewThread) -> Result<u32, Error> {
        let added = self.alloc_utcb_page().and_then(|page| {
            let va = Tcb::utcb_address(new.utcb_slot) & !(size_of::<UtcbPage>() as u64 - 1);
            let pa = self.utcb_pa(page);
            match self.db.map_pinned(new.space, va, pa, true) {
                Ok(()) => {
                    self.hal.publish();
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

    /// Lets a created thread run for the first time.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it has run before.
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

    /// Ends a thread. One that runs on another CPU, or whose message is with another cluster, ends as soon as that
    /// CPU or cluster has let go of it.
    ///
    /// # Errors
    /// [`Error::Refused`] for a cluster's first root thread.
    pub fn delete_thread(&mut self, t: u32) -> Result<(), Error> {
        let thread = &self.threads[t as usize];
        let (id, dest) = (thread.id, thread.op.dest);
        if !passes(Check::RootThread, id != ThreadId::root(self.cluster)) {
            return Err(Error::Refused);
        }
        if let Some(cpu) = self.runs_elsewhere(t) {
            self.doom(t);
            self.cpus[usize::from(cpu)].watch_current();
            self.hal.kick(cpu);
            return Ok(());
        }
        match thread.state {
            // Another cluster knows its name: it ends when that has agreed.
            State::AwaitingCredit | State::AwaitingResponse | State::Pulling => {
                self.doom(t);
                self.cancel_remote(t, remote::Ending::Kill);
                return Ok(());
            }
            State::Ready => self.make_unready(t),
            State::Sending => self.leave_sender_queue(t, dest),
            State::Controlling => self.leave_place(t),
            // Its journey ends first.
            State::Moving => {
                self.doom(t);
                return Ok(());
            }
            State::Free
            | State::Departed
            | State::Dying
            | State::Created
            | State::Receiving
            | State::Halted
            | State::Stopped => {}
        }
        self.reap(t);
        Ok(())
    }

    /// Marks a thread that ends as soon as somebody else lets go of it.
    fn doom(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        thread.doomed = true;
        thread.hold |= hold::DOOMED;
        let Self { spaces, members, .. } = self;
        let queue = &mut spaces[usize::from(thread.space)].members;
        queue.remove(members, t);
        queue.push_back(members, t);
    }

    /// Ends a thread that is in no queue but those of its wait, and that nobody else holds.
    pub(crate) fn reap(&mut self, t: u32) {
        self.leave_wait(t);
        self.release_escort(t, Err(Error::NoSuchThread));
        self.detach_all(self.threads[t as usize].id);
        self.leave_space(t);
        self.threads[t as usize].state = State::Dying;
        self.cold[t as usize].forwards = false;
        self.hand_on(t);
    }

    /// Gives back what a thread has of its space.
    pub(crate) fn leave_space(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        let (space, utcb_slot) = (thread.space, thread.utcb_slot);
        let cpu = usize::from(thread.cpu);
        if core::mem::take(&mut thread.fp_live) && thread.cpu == self.this_cpu {
            self.hal.forget_fp();
        }
        if self.cpus[cpu].current() == Some(t) {
            self.cpus[cpu].set_current(None);
        }
        let Self { spaces, members, .. } = self;
        let owner = &mut spaces[usize::from(space)];
        owner.members.remove(members, t);
        owner.threads -= 1;
        let last = owner.threads == 0;
        if let Some(page) = owner.release_utcb(utcb_slot) {
            let utcb = Tcb::utcb_address(utcb_slot) & !(size_of::<UtcbPage>() as u64 - 1);
            let (db, mut tlb) = self.db_and_tlb();
            db.unmap_pinned(&mut tlb, space, utcb);
            self.free_utcb_page(page);
        }
        if last {
            // Any thread of the space may answer a call; without one, nobody will.
            self.sweep();
            while let Some(mourner) = self.spaces[usize::from(space)].mourners.pop_front(self.links) {
                // It executes its system call again.
                self.threads[mourner as usize].context.pc -= SVC_SIZE;
                self.make_ready(mourner);
            }
        }
    }

    /// Takes a thread out of what it is in because it waits for a message: deadlines, expectations.
    pub(crate) fn leave_wait(&mut self, t: u32) {
        self.clear_deadline(t);
        let thread = &mut self.threads[t as usize];
        if thread.hold & hold::EXPECTING != 0 {
            thread.hold &= !hold::EXPECTING;
            let partner = thread.op.from;
            if let Some(p) = self.slot_of(partner) {
                let Self { cold, links, .. } = self;
                cold[p as usize].expecting.remove(links, t);
            }
        }
    }
}
