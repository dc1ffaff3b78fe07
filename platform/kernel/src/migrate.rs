//! Migration of a thread to another cluster, with its full state, by value.
//!
//! 1. *Freeze*: the thread stops where it is. A send phase starts again at the destination, a call that was not answered is
//!    cancelled (the right to answer it does not move), a fault is dropped and happens again there, a receive goes on there with
//!    its time-out. If another cluster has to agree first, the rest follows when it has ([`Ending::Restart`]).
//! 2. *State*: registers, floating-point registers if it has used them, UTCB, notification word, priority and time slice go as
//!    one packet of several slots. Meanwhile the thread is [`State::Moving`]: found, but not to be
//!    received from or controlled; senders queue.
//! 3. *Acknowledgement*: the destination has taken it, and it runs there; or has refused it, and it goes on here.
//! 4. *Update*: the birth cluster notes where it is now ([`crate::whereabouts`]). Updates carry the number of moves, so that an
//!    old one cannot undo a newer one.
//! 5. *Release*: its slot, UTCB and place in the space are free, and those who wait for it here try again, there.
//!
//! A thread that is deleted in transit is deleted at its destination when the move is over ([`crate::remote`], `passing`); one that comes
//! back before that is refused. News of later moves never gets ahead of the acknowledgement ([`Kernel::catch_up`]). Whether or not
//! the caller lives to see it, the move ends in one of the two places.

use crate::birth::NewThread;
use crate::control::{Done, Place as Waits};
use crate::hal::Hal;
use crate::kernel::{Kernel, UTCB_MR0};
use crate::queue::NONE;
use crate::remote::{Ending, Request};
use crate::thread::{Kind, Operation, State, hold};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Counter, CpuId, Error, Fpage, SpaceId, ThreadId, Timeout};
use skerry_checks::{Check, passes};

/// Where a thread is to go.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Destination {
    /// A space of another cluster.
    pub(crate) space: SpaceId,
    /// A CPU there.
    pub(crate) cpu: CpuId,
    /// Its pager and its exception handler there.
    pub(crate) pager: ThreadId,
    pub(crate) handler: ThreadId,
}

impl Destination {
    pub(crate) const NOWHERE: Self =
        Self { space: SpaceId::NIL, cpu: 0, pager: ThreadId::NIL, handler: ThreadId::NIL };
}

/// What a thread waits for that moves in a receive phase.
pub(crate) struct Wait {
    pub(crate) from: ThreadId,
    pub(crate) timeout: u64,
    pub(crate) window: u64,
}

/// Bits of what a moving thread's state packet says about it.
pub(crate) mod trait_of {
    /// It was never started.
    pub(crate) const CREATED: u64 = 1;
    /// It is suspended.
    pub(crate) const STOPPED: u64 = 2;
    /// It is in a receive phase.
    pub(crate) const RECEIVES: u64 = 4;
    /// It has a time slice of its own.
    pub(crate) const SLICED: u64 = 8;
    /// Its floating-point registers come too.
    pub(crate) const FP: u64 = 16;
    /// The thread's domain is in the bits from here on.
    pub(crate) const DOMAIN_SHIFT: u32 = 32;
}

impl<H: Hal> Kernel<'_, H> {
    /// The call MIGRATE for a thread that is not on its way already: `caller` waits until `t` has arrived or was refused.
    pub(crate) fn migrate(&mut self, caller: u32, t: u32, to: Destination) -> Result<Done, Error> {
        let thread = &self.threads[t as usize];
        let cluster = usize::from(to.space.cluster());
        if self.spaces[usize::from(thread.space)].privileged {
            return Err(Error::Refused);
        }
        match self.peers.get(cluster) {
            Some(peer) if peer.down => return Err(Error::NodeDown),
            Some(peer) if peer.outbound.is_some() => {}
            _ => return Err(Error::BadArgument),
        }
        if thread.doomed {
            return Err(Error::WrongState);
        }
        let cpu = thread.cpu;
        if cpu != self.this_cpu && (self.is_running(t) || thread.fp_live) {
            return Ok(Done::Visit(cpu));
        }
        let cold = &mut self.cold[t as usize];
        (cold.to, cold.escort, cold.created, cold.receives) = (to, caller, false, false);
        self.cold[caller as usize].place = Waits::Thread(t);
        self.threads[caller as usize].state = State::Controlling;
        self.threads[t as usize].hold |= hold::MOVING;
        self.freeze(t, cluster);
        Ok(Done::Waits)
    }

    /// Ends whatever the thread does or waits for; in the end [`Kernel::make_ready`] finds it ready and lets it depart.
    fn freeze(&mut self, t: u32, cluster: usize) {
        if self.threads[t as usize].state == State::Ready {
            self.make_unready(t);
            return self.travel(t, cluster, Request::Move);
        }
        // It may have to wait, and leave when another CPU lets it go.
        self.leave_cpu(t);
        let thread = &mut self.threads[t as usize];
        let own = thread.op.kind == Kind::Ipc;
        match thread.state {
            State::Sending => {
                let dest = thread.op.dest;
                self.leave_sender_queue(t, dest);
                if own { self.restart(t, false) } else { self.make_ready(t) }
            }
            State::Receiving if own && thread.reply_space != SpaceId::NIL => {
                self.fail(t, Error::Cancelled, true)
            }
            State::Receiving => {
                thread.reply_space = SpaceId::NIL;
                self.cold[t as usize].receives = own;
                self.make_ready(t);
            }
            State::AwaitingCredit | State::AwaitingResponse | State::Pulling => {
                self.cancel_remote(t, Ending::Restart);
            }
            State::Halted => self.make_ready(t),
            State::Created => self.depart(t, State::Created),
            _ => self.depart(t, State::Stopped),
        }
    }

    /// A frozen thread begins its journey.
    pub(crate) fn depart(&mut self, t: u32, state: State) {
        self.cold[t as usize].created = state == State::Created;
        self.threads[t as usize].state = State::Moving;
        let cluster = usize::from(self.cold[t as usize].to.space.cluster());
        self.travel(t, cluster, Request::Move);
    }

    /// What the state packet says about the thread.
    pub(crate) fn traits_of(&self, t: u32) -> u64 {
        let (thread, cold) = (&self.threads[t as usize], &self.cold[t as usize]);
        let bit = |on, bit| if on { bit } else { 0 };
        bit(cold.created, trait_of::CREATED)
            | bit(cold.receives, trait_of::RECEIVES)
            | bit(thread.hold & hold::STOPPED != 0, trait_of::STOPPED)
            | bit(thread.hold & hold::SLICED != 0, trait_of::SLICED)
            | bit(thread.fp_used, trait_of::FP)
            | thread.domain << trait_of::DOMAIN_SHIFT
    }

    /// The destination has answered, or the birth cluster has noted the new place.
    pub(crate) fn moved(&mut self, t: u32, refusal: Option<Error>) {
        if let Some(error) = refusal {
            return self.stay(t, error);
        }
        let (id, doomed) = (self.threads[t as usize].id, self.threads[t as usize].doomed);
        let to = self.cold[t as usize].to.space.cluster();
        let birth = id.cluster();
        if self.threads[t as usize].remote.request == Request::Move {
            self.cold[t as usize].moves += 1;
            self.counters.count(Counter::Migrations);
            if birth != self.cluster && birth != to && !self.peers[usize::from(birth)].down {
                return self.travel(t, usize::from(birth), Request::Located);
            }
        }
        // What has reached it here in the meantime goes after it when those who wait for it do.
        self.release_escort(t, if doomed { Err(Error::NoSuchThread) } else { Ok(Done::NOTHING) });
        self.detach_all(id);
        let cold = &mut self.cold[t as usize];
        (cold.at, cold.forwards, cold.notes) = (to, true, 0);
        if birth == self.cluster {
            self.threads[t as usize].state = State::Departed;
        } else {
            self.hints.set(id, to);
            self.threads[t as usize].state = State::Dying;
        }
        self.leave_space(t);
        self.hand_on(t);
    }

    /// The destination does not take the thread: it goes on here, from where it was.
    fn stay(&mut self, t: u32, error: Error) {
        let thread = &mut self.threads[t as usize];
        thread.hold &= !hold::MOVING;
        thread.notified |= core::mem::take(&mut self.cold[t as usize].notes);
        let doomed = thread.doomed;
        self.release_escort(t, if doomed { Err(Error::NoSuchThread) } else { Err(error) });
        if doomed {
            return self.reap(t);
        }
        let cold = &mut self.cold[t as usize];
        let (created, receives) = (core::mem::take(&mut cold.created), core::mem::take(&mut cold.receives));
        if created {
            self.threads[t as usize].state = State::Created;
        } else if receives {
            self.receive_phase(t);
        } else {
            self.make_ready(t);
        }
    }

    /// Tells the caller that waits for the journey of `t` how it ended.
    pub(crate) fn release_escort(&mut self, t: u32, result: Result<Done, Error>) {
        let escort = core::mem::replace(&mut self.cold[t as usize].escort, NONE);
        if escort != NONE {
            self.finish_call(escort, result);
            self.make_ready(escort);
        }
    }

    /// A thread asks for a place here: a slot, to be filled with what it brings.
    pub(crate) fn admit(
        &mut self,
        id: ThreadId,
        to: Destination,
        traits: u64,
        utcb_slot: u16,
        priority: u8,
    ) -> Result<u32, Error> {
        let space = self.usable_space(to.space)?;
        let host = &self.spaces[usize::from(space)];
        // Whoever may send to it may do so wherever it is; what is on its way to it was let through by the domain that it had.
        let same = u64::from(host.domain) == traits >> trait_of::DOMAIN_SHIFT;
        if host.privileged || !passes(Check::MoveDomain, same) {
            return Err(Error::Refused);
        }
        let Destination { cpu, pager, handler, .. } = to;
        let new = NewThread { space, cpu, pager, handler, utcb_slot, priority };
        let returns = id.cluster() == self.cluster;
        let home = u32::from(id.slot());
        if self.slot_of(id).is_some_and(|t| !returns || self.cold[t as usize].handing_on) {
            // It was here a moment ago, and its birth cluster, or somebody who waited for it, has not been told where it went.
            return Err(Error::WrongState);
        }
        if returns
            && !self.threads.get(home as usize).is_some_and(|h| h.id == id && h.state == State::Departed)
        {
            // Something is about to go after it.
            let waits = self.absent(id).is_some();
            return Err(if waits { Error::WrongState } else { Error::NoSuchThread });
        }
        let free = if returns { Some(home) } else { self.free_threads.head() };
        let t = free.ok_or(Error::OutOfKernelMemory)?;
        let (page, _) = self.claim_utcb(&new)?;
        // Behind these words it brings its own.
        self.utcb_at(page, utcb_slot)[..UTCB_MR0].iter().for_each(|word| word.store(0, Relaxed));
        self.settle(&new, t, id, page);
        if !returns {
            self.use_slot();
            self.hints.forget(id);
            self.add_immigrant(t);
        }
        Ok(t)
    }

    /// All of a thread has arrived: it goes on.
    pub(crate) fn arrived(&mut self, t: u32, traits: u64, wait: Wait) {
        let thread = &mut self.threads[t as usize];
        if traits & trait_of::SLICED != 0 {
            thread.hold |= hold::SLICED;
        }
        if traits & trait_of::STOPPED != 0 {
            thread.hold |= hold::STOPPED;
        }
        if traits & trait_of::CREATED != 0 {
            thread.state = State::Created;
        } else if traits & trait_of::RECEIVES != 0 {
            thread.op = Operation {
                from: wait.from,
                receive_timeout: Timeout(wait.timeout),
                window: Fpage::decode(wait.window).unwrap_or(Fpage::NIL),
                ..Operation::NONE
            };
            self.receive_phase(t);
        } else {
            self.make_ready(t);
        }
    }

    /// The birth cluster learns where a thread is; an older move than the last one known is no news.
    pub(crate) fn note_place(&mut self, id: ThreadId, cluster: u16, moves: u32) {
        if let Some(t) = self.absent(id)
            && moves > self.cold[t as usize].moves
        {
            (self.cold[t as usize].at, self.cold[t as usize].moves) = (cluster, moves);
            self.pass_elsewhere(t);
        }
    }

    /// A thread that was born here has ended elsewhere.
    pub(crate) fn note_end(&mut self, id: ThreadId) {
        if let Some(t) = self.absent(id) {
            self.drop_followers(t);
            self.cold[t as usize].forwards = false;
            // Its slot may still be busy with telling others where to go.
            if self.cold[t as usize].handing_on {
                self.threads[t as usize].state = State::Dying;
            } else {
                self.free_slot(t);
            }
        }
    }
}
