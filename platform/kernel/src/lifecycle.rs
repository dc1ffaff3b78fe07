//! Creation and deletion of spaces, deletion of threads.

use crate::control::{Done, MAX_WAITERS, Place, WAKE};
use crate::hal::Hal;
use crate::kernel::{Kernel, UtcbPage};
use crate::long::Holder;
use crate::remote;
use crate::space::Space;
use crate::syscall::SVC_SIZE;
use crate::thread::{State, Tcb, hold};
use skerry_abi::{CpuId, Domain, Error, SpaceId, ThreadId};
use skerry_checks::{Check, passes};
use skerry_mapping_db::Quota;

/// What it costs to delete a thread for whom nobody waits.
const DELETION: u32 = 140;

/// How far the deletion of a space's threads has come.
pub(crate) enum Ending {
    /// None is left.
    Over,
    /// Go on.
    More,
    /// The next one runs on this CPU.
    RunsOn(CpuId),
    /// All that are left end by themselves when other clusters have answered.
    Held,
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
        self.db.space_create_with(slot, quota, self.info_pages())?;
        self.hal.publish();
        self.free_space = next;
        let space = &mut self.spaces[usize::from(slot)];
        let id = SpaceId::new(self.cluster, slot, space.id.generation() + 1);
        space.renew(id, domain, privileged);
        space.ttbr0 = self.db.root_table(slot) | u64::from(Space::asid(slot)) << 48;
        Ok(id)
    }

    /// A step towards the end of a space: its threads, its mappings, and all that was mapped on from it. `caller` waits if somebody
    /// else has to let go of a thread first.
    ///
    /// # Errors
    /// [`Error::Refused`] for the caller's own space and for the cluster's root space, [`Error::TableFull`] if too many wait already.
    pub(crate) fn destroy_space_for(&mut self, caller: u32, slot: u16) -> Result<Done, Error> {
        let space = &mut self.spaces[usize::from(slot)];
        if self.threads[caller as usize].space == slot || space.id == SpaceId::root(self.cluster) {
            return Err(Error::Refused);
        }
        space.ending = true;
        match self.end_threads(slot)? {
            Ending::Over => {
                if self.holder != Holder::Space(slot) && !self.help() {
                    return Ok(self.done_again());
                }
                let mut budget = self.budget;
                let (db, mut tlb) = self.db_and_tlb();
                let done = db.space_destroy_step(slot, &mut tlb, &mut budget);
                self.budget = budget;
                self.holder = if self.db.is_held() { Holder::Space(slot) } else { Holder::Nobody };
                if !done {
                    return Ok(self.done_again());
                }
                self.retire_space(slot);
                Ok(Done::NOTHING)
            }
            Ending::More => Ok(self.done_again()),
            Ending::RunsOn(cpu) => Ok(Done::Visit(cpu)),
            Ending::Held if self.spaces[usize::from(slot)].mourners.has(self.links, MAX_WAITERS) => {
                Err(Error::TableFull)
            }
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
    pub(crate) fn end_threads(&mut self, slot: u16) -> Result<Ending, Error> {
        loop {
            let Some(t) = self.spaces[usize::from(slot)].members.head() else { return Ok(Ending::Over) };
            if !self.budget.take(DELETION) {
                return Ok(Ending::More);
            }
            if let Some(cpu) = self.runs_elsewhere(t) {
                return Ok(Ending::RunsOn(cpu));
            }
            if self.threads[t as usize].doomed {
                // It went to the end of the list, so all others are doomed too.
                return Ok(Ending::Held);
            }
            self.delete_thread(t)?;
        }
    }

    /// The slot of a space without threads and mappings is free again.
    pub(crate) fn retire_space(&mut self, slot: u16) {
        let space = &mut self.spaces[usize::from(slot)];
        space.retire();
        // A slot whose generations are used up stays unused, so that a stale id never names a newer space.
        if space.id.generation() < u32::MAX {
            space.next_free = core::mem::replace(&mut self.free_space, slot);
        }
    }

    /// Gives a slot back, if it has a generation left.
    pub(crate) fn free_slot(&mut self, t: u32) {
        let Self { threads, cold, links, free_threads, .. } = self;
        threads[t as usize].state = State::Free;
        if cold[t as usize].generation < u32::MAX {
            free_threads.push_front(links, t);
        }
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
            | State::Passing
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
        self.tell_cancellers(t, Err(Error::NoSuchThread));
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
                self.budget.charge(WAKE);
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
