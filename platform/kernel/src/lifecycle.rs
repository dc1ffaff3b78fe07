//! Creation and deletion of threads and spaces.

use crate::hal::Hal;
use crate::kernel::{Kernel, UtcbPage};
use crate::space::{RanOn, Space, UtcbPage as Slot};
use crate::thread::{State, Tcb};
use core::sync::atomic::Ordering;
use skerry_abi::{CpuId, Domain, Error, SpaceId, ThreadId};

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
    /// Creates an empty space.
    ///
    /// # Errors
    /// [`Error::OutOfKernelMemory`].
    pub fn create_space(&mut self, domain: Domain, privileged: bool) -> Result<SpaceId, Error> {
        let slot = self.spaces.iter().position(|s| !s.live && s.id.generation() != u32::MAX);
        let slot = slot.ok_or(Error::OutOfKernelMemory)?;
        self.db.space_create(slot as u16, u32::MAX)?;
        if let Err(error) = self.pin_info(slot as u16) {
            let (db, mut tlb) = self.db_and_tlb();
            db.space_destroy(slot as u16, &mut tlb);
            return Err(error);
        }
        let generation = self.spaces[slot].id.generation() + 1;
        let id = SpaceId::new(self.cluster, slot as u16, generation);
        self.spaces[slot] = Space::new(id, domain, privileged);
        Ok(id)
    }

    /// Ends a space: its threads, its mappings, and all that was mapped on from it.
    ///
    /// # Errors
    /// [`Error::WrongState`] as long as a thread of it runs on another CPU or another cluster has its message. All others
    /// are gone then: try again.
    pub fn destroy_space(&mut self, slot: u16) -> Result<(), Error> {
        for t in 0..self.threads.len() as u32 {
            let thread = &self.threads[t as usize];
            if thread.state != State::Free && thread.space == slot {
                self.delete_thread(t)?;
            }
        }
        let space = &self.spaces[usize::from(slot)];
        if space.threads != 0 {
            return Err(Error::WrongState);
        }
        let id = space.id;
        self.fail_callers(|thread| thread.reply_space == id);
        let (db, mut tlb) = self.db_and_tlb();
        db.space_destroy(slot, &mut tlb);
        self.spaces[usize::from(slot)].ran_on = RanOn::Nowhere;
        self.spaces[usize::from(slot)].retire();
        Ok(())
    }

    /// Creates a thread that has no instruction pointer yet.
    ///
    /// # Errors
    /// [`Error::BadArgument`]: a CPU or pager of another cluster, or a UTCB slot that is taken;
    /// [`Error::OutOfKernelMemory`].
    pub fn create_thread(&mut self, new: NewThread) -> Result<ThreadId, Error> {
        let ours = self.cpus.get(usize::from(new.cpu)).is_some_and(|c| c.ours);
        if !ours || (!new.pager.is_nil() && new.pager.cluster() != self.cluster) {
            return Err(Error::BadArgument);
        }
        let t = self.threads.iter().position(|t| t.state == State::Free && t.id.generation() != u32::MAX);
        let t = t.ok_or(Error::OutOfKernelMemory)?;
        let utcb_page = match self.spaces[usize::from(new.space)].take_utcb(new.utcb_slot)? {
            Slot::Present(page) => page,
            Slot::Missing => self.add_utcb_page(&new)?,
        };
        let id = ThreadId::new(self.cluster, t as u16, self.threads[t].id.generation() + 1);
        let utcb_pa =
            self.utcb_pa(utcb_page) + Tcb::utcb_address(new.utcb_slot) % size_of::<UtcbPage>() as u64;
        let ttbr0 = self.db.root_table(new.space) | u64::from(Space::asid(new.space)) << 48;
        let space = &mut self.spaces[usize::from(new.space)];
        space.threads += 1;
        space.note_cpu(new.cpu);
        self.threads[t] = Tcb {
            id,
            domain: space.domain.into(),
            space_id: space.id,
            ttbr0,
            space: new.space,
            cpu: new.cpu,
            priority: new.priority,
            state: State::Created,
            utcb_pa,
            utcb_va: Tcb::utcb_address(new.utcb_slot),
            utcb_slot: new.utcb_slot,
            utcb_page,
            pager: new.pager,
            handler: new.handler,
            ..Tcb::FREE
        };
        let utcb = self.utcb(t as u32);
        utcb.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        utcb[0].store(id.0, Ordering::Relaxed);
        utcb[1].store(u64::from(new.cpu), Ordering::Relaxed);
        Ok(id)
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
        if thread.state != State::Created {
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
        let (id, cpu, dest, pull) = (thread.id, thread.cpu, thread.op.dest, thread.pull);
        let announced = thread.announced;
        if id == ThreadId::root(self.cluster) {
            return Err(Error::Refused);
        }
        match thread.state {
            State::Ready if cpu != self.this_cpu && self.cpus[usize::from(cpu)].current() == Some(t) => {
                self.threads[t as usize].doomed = true;
                self.cpus[usize::from(cpu)].stop_current();
                self.hal.kick(cpu);
                return Ok(());
            }
            // Another cluster holds its name, or waits for its message: it ends when that has been answered.
            State::AwaitingResponse | State::Pulling => {
                self.threads[t as usize].doomed = true;
                return Ok(());
            }
            State::AwaitingCredit if announced || !pull.is_nil() => {
                self.threads[t as usize].doomed = true;
                return Ok(());
            }
            State::Ready => self.make_unready(t),
            State::Sending => self.leave_sender_queue(t, dest),
            State::AwaitingCredit => {
                let Self { peers, links, .. } = self;
                peers[usize::from(dest.cluster())].waiting.remove(links, t);
            }
            State::Free | State::Created | State::Receiving | State::Halted => {}
        }
        self.reap(t);
        Ok(())
    }

    /// Frees a thread that is in no queue and that nobody else holds.
    pub(crate) fn reap(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (id, space, utcb_slot) = (thread.id, thread.space, thread.utcb_slot);
        let cpu = usize::from(thread.cpu);
        if self.cpus[cpu].current() == Some(t) {
            self.cpus[cpu].set_current(None);
        }
        self.threads[t as usize].state = State::Halted;
        loop {
            let Self { threads, links, .. } = self;
            let Some(sender) = threads[t as usize].senders.pop_front(links) else { break };
            if (sender as usize) < self.threads.len() {
                self.fail(sender, Error::NoSuchThread, false);
            } else {
                self.bounce(sender);
            }
        }
        self.threads[t as usize] = Tcb { id, ..Tcb::FREE };
        let owner = &mut self.spaces[usize::from(space)];
        owner.threads -= 1;
        let last = owner.threads == 0;
        if let Some(page) = owner.release_utcb(utcb_slot) {
            let utcb = Tcb::utcb_address(utcb_slot) & !(size_of::<UtcbPage>() as u64 - 1);
            let (db, mut tlb) = self.db_and_tlb();
            db.unmap_pinned(&mut tlb, space, utcb);
            self.free_utcb_page(page);
        }
        // Any thread of the space may answer a call; without one, nobody will.
        let owner = self.spaces[usize::from(space)].id;
        self.fail_callers(|thread| match thread.reply_space {
            SpaceId::NIL => thread.op.from == id,
            answers => last && answers == owner,
        });
    }

    fn fail_callers(&mut self, waits: impl Fn(&Tcb) -> bool) {
        for t in 0..self.threads.len() as u32 {
            let thread = &self.threads[t as usize];
            if thread.state == State::Receiving && waits(thread) {
                self.fail(t, Error::Cancelled, true);
            }
        }
    }
}
