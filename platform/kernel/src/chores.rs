//! Work that the end of a thread or a space leaves behind, done in small steps.
//!
//! A thread may end with any number of others waiting for it, and telling one of them takes a few hundred instructions: too long
//! a time with interrupts off if they are thousands. So a dying thread keeps its slot (and its waiters stay in its queues) until all
//! have been told, a few per kernel entry; as long as something is left the CPU interrupts itself, so that other interrupts get their
//! turn in between. Usually the first step, right when the thread ends, is also the last.
//!
//! Callers whose answer can never come, because the last thread of the space that owes it has ended, are found by a sweep over
//! the tables of threads and of guests. A list of callers per space would find them at once, but every call and every reply would
//! have to keep it; a space ends a million times less often than a call.

use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::long::WAITER;
use crate::queue::Queue;
use crate::thread::State;
use skerry_abi::{Counter, Error, SpaceId};

/// What it costs to look at a slot of the thread table.
const SLOT: u32 = 3;

/// What is left to do.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Chores {
    /// Threads that have ended and whose waiters have not all been told.
    dying: Queue,
    /// The next thread or guest that the sweep looks at.
    at: u32,
    /// How many it still has to look at: all of them, once more, when another space ends meanwhile.
    left: u32,
    /// 1: the items of a message are on their way ([`crate::long`]).
    pub(crate) items: u32,
}

impl Chores {
    /// Nothing.
    pub(crate) const NONE: Self = Self { dying: Queue::EMPTY, at: 0, left: 0, items: 0 };

    #[cfg(test)]
    pub(crate) fn dying(&self) -> &Queue {
        &self.dying
    }
    /// Whether anything is left.
    #[inline(always)]
    pub(crate) fn is_pending(&self) -> bool {
        !self.dying.is_empty() | (self.left | self.items != 0)
    }
    /// Whether somebody is left to be told.
    fn is_unfinished(&self) -> bool {
        !self.dying.is_empty() || self.left != 0
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// A thread that is in no queue has ended or moved to another cluster: tell whoever waits for it here, and free its slot.
    pub(crate) fn hand_on(&mut self, t: u32) {
        self.cold[t as usize].handing_on = true;
        let Self { chores, links, .. } = self;
        chores.dying.push_back(links, t);
        self.work();
    }

    /// A space has lost its last thread: tell whoever waits for an answer from it.
    pub(crate) fn sweep(&mut self) {
        self.chores.left = self.links.len() as u32;
    }

    /// Does a step of the work, if there is any.
    pub(crate) fn work(&mut self) {
        if self.has_items() {
            self.help_items();
        }
        while let Some(t) = self.chores.dying.head()
            && self.budget.take(WAITER)
        {
            self.finish(t);
        }
        while self.chores.left != 0 && self.budget.take(SLOT) {
            let (index, threads, all) = (self.chores.at, self.threads.len() as u32, self.links.len() as u32);
            // What is not in use is passed in one go.
            let next = match index {
                _ if index < self.used_threads => index + 1,
                _ if index < threads => threads,
                _ if self.guests.used() == 0 => all,
                _ => index + 1,
            };
            self.chores.at = next % all;
            self.chores.left = self.chores.left.saturating_sub(next - index);
            if self.tell_caller(index) {
                self.budget.charge(WAITER);
            }
        }
        if self.chores.is_unfinished() {
            self.counters.count(Counter::PreemptionPoints);
            self.hal.kick(self.this_cpu);
        }
    }

    /// Tells a thread or a guest that its call will not be answered, if that is so.
    fn tell_caller(&mut self, index: u32) -> bool {
        let Some(thread) = self.threads.get(index as usize) else {
            let guest = index - self.threads.len() as u32;
            let lost =
                matches!(self.guests.get(guest).stay, Stay::Owed(space) if self.is_unanswerable(space));
            if lost {
                self.bounce(guest, Error::Cancelled, true);
            }
            return lost;
        };
        let lost = thread.state == State::Receiving && self.is_unanswerable(thread.reply_space);
        if lost {
            self.fail(index, Error::Cancelled, true);
        }
        lost
    }

    /// Whether nobody is left who could answer a call to this space of this cluster.
    fn is_unanswerable(&self, space: SpaceId) -> bool {
        space != SpaceId::NIL
            && space.cluster() == self.cluster
            && self.find_space(space).is_none_or(|s| self.spaces[usize::from(s)].threads == 0)
    }

    /// Tells the next waiter of a thread that has ended or moved, or frees its slot if there is none.
    fn finish(&mut self, t: u32) {
        let Self { threads, cold, links, .. } = self;
        let to = cold[t as usize].forwards.then_some(cold[t as usize].at);
        if let Some(sender) = threads[t as usize].senders.pop_front(links) {
            let guest = (sender as usize).checked_sub(self.threads.len());
            if let Some(to) = to {
                match guest {
                    Some(guest) => self.redirect(guest as u32, to, false),
                    None => self.start_ipc(sender),
                }
            } else if guest.is_none() {
                self.fail_send(sender, Error::NoSuchThread);
            } else {
                self.bounce(sender - self.threads.len() as u32, Error::NoSuchThread, false);
            }
            return;
        }
        if let Some(receiver) = cold[t as usize].expecting.pop_front(links) {
            match ((receiver as usize).checked_sub(threads.len()), to) {
                (Some(guest), Some(to)) => self.redirect(guest as u32, to, true),
                (Some(guest), None) => self.bounce(guest as u32, Error::Cancelled, true),
                (None, to) => {
                    threads[receiver as usize].hold &= !crate::thread::hold::EXPECTING;
                    match to {
                        Some(_) => self.receive_phase(receiver),
                        None => self.fail(receiver, Error::Cancelled, true),
                    }
                }
            }
            return;
        }
        let Self { links, chores, .. } = self;
        chores.dying.remove(links, t);
        self.cold[t as usize].handing_on = false;
        let foreign = self.threads[t as usize].id.cluster() != self.cluster;
        if foreign {
            self.remove_immigrant(t);
        }
        match to {
            None if foreign => self.announce_end(t),
            Some(_) if self.has_followers(t) => self.pass(t),
            _ if self.threads[t as usize].state != State::Departed => self.free_slot(t),
            _ => {}
        }
    }
}
