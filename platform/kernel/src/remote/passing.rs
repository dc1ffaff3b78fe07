//! What comes for a thread that is in another cluster, or on its way there, and belongs to nobody who could wait with it: notification
//! bits and deletions.
//!
//! They are sent to the birth cluster of the thread, which sends them on to where it is. The thread's slot there is kept as long as the
//! thread lives, so it has a place for what finds no room in the next ring: bits run together, and a thread is deleted once. As long as
//! something is there the slot is [`State::Passing`], and stands in the queue for room.
//!
//! A cluster that is asked for a thread which it does not have gives the packet back with its response, for which there always is a slot.
//! The birth cluster has heard of the next move by then, so it can tell a thread that has moved on from one that has ended. A slot
//! that the thread has left on its way, far from home, is kept until what it holds has gone to the birth cluster.

use super::{GRANTED, Head, Place, Request, TAG, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::ring::{Lane, Slot};
use crate::thread::State;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::id::domain;
use skerry_abi::{Domain, Error, ThreadId};

impl<H: Hal> Kernel<'_, H> {
    /// The slot of a thread that was born here and is in another cluster.
    pub(crate) fn absent(&self, id: ThreadId) -> Option<u32> {
        let thread = self.threads.get(usize::from(id.slot()))?;
        let away = id.cluster() == self.cluster && thread.id == id && thread.is_away();
        away.then(|| id.slot().into())
    }

    /// The cluster to send notifications and deletions to, for a thread that is not in this one.
    pub(super) fn keeper(&self, id: ThreadId) -> usize {
        let birth = usize::from(id.cluster());
        let knows = self.peers.get(birth).is_some_and(|peer| peer.outbound.is_some() && !peer.down);
        if knows { birth } else { self.elsewhere(id).unwrap_or(birth) }
    }

    /// Deletes a thread that is not in this cluster.
    ///
    /// # Errors
    /// [`Error::NoSuchThread`], [`Error::NodeDown`]; [`Error::OutOfKernelMemory`] if there is neither room in the ring nor an entry to wait
    /// for it.
    pub(crate) fn kill_remote(&mut self, id: ThreadId) -> Result<(), Error> {
        let cluster = self.keeper(id);
        self.check_peer(cluster)?;
        if let Some(t) = self.absent(id) {
            self.kill_after(t);
        } else if self.free_way(cluster).is_some() {
            self.send_note(cluster, kind::KILL, id, 0);
        } else {
            let guest = self.guests.add(id, cluster as u16, 0, Stay::Killed, domain::KERNEL);
            let guest = guest.map_err(|_| Error::OutOfKernelMemory)?;
            self.queue_guest(cluster, guest);
        }
        Ok(())
    }

    /// Notification bits from another cluster, in the name of whoever has these rights. `false`: the thread is not here, nor was it born
    /// here.
    pub(super) fn take_notes(&mut self, id: ThreadId, bits: u64, rights: u64) -> bool {
        if let Some(t) = self.find(id) {
            // Whoever may not notify it hears nothing of that: it waits no longer, and asks by IPC if it wants to know.
            if rights & GRANTED != 0 || rights as Domain == self.domain_of(t) {
                self.notify(t, bits);
            }
        } else if let Some(t) = self.absent(id) {
            self.notify_after(t, bits, rights);
        } else {
            return id.cluster() == self.cluster;
        }
        true
    }

    /// The same with a deletion.
    pub(super) fn take_kill(&mut self, id: ThreadId) -> bool {
        if let Some(t) = self.find(id) {
            // Refused is only the first root thread, which never moves.
            _ = self.delete_thread(t);
        } else if let Some(t) = self.absent(id) {
            self.kill_after(t);
        } else {
            return id.cluster() == self.cluster;
        }
        true
    }

    /// A packet for a thread that is not here goes back to its birth cluster. From others none comes, but if that cluster is down.
    pub(super) fn give_back(&mut self, cluster: usize, head: Head, bits: u64) -> Option<Head> {
        if usize::from(head.sender.cluster()) != cluster {
            return None;
        }
        let missed = if head.kind == kind::KILL { kind::MISSED_KILL } else { kind::MISSED_NOTES };
        let slot = self.response_slot(cluster)?;
        slot[TAG].store(bits, Relaxed);
        head.answer(missed, head.argument).write(slot);
        self.publish(cluster, Lane::Responses);
        None
    }

    /// A thread that was born here is not where it was looked for. If it had moved on, this cluster would know: the move's end waits for
    /// that. Else the word that it has ended there is on its way.
    pub(super) fn take_back(&mut self, cluster: usize, head: Head, slot: Slot<'_>) {
        let ended = |t: u32| usize::from(self.cold[t as usize].at) == cluster;
        if self.absent(head.sender).is_some_and(ended) {
            return;
        }
        _ = match head.kind {
            kind::MISSED_KILL => self.take_kill(head.sender),
            _ => self.take_notes(head.sender, slot[TAG].load(Relaxed), head.argument),
        };
    }

    /// Notification bits go after thread `t`, at once if there is room.
    pub(super) fn notify_after(&mut self, t: u32, bits: u64, rights: u64) {
        let (thread, at) = (&self.threads[t as usize], usize::from(self.cold[t as usize].at));
        let id = thread.id;
        if thread.state == State::Departed
            && let Some(slot) = self.free_way(at)
        {
            slot[TAG].store(bits, Relaxed);
            return self.send_note(at, kind::NOTIFY, id, rights);
        }
        // A stranger's would not be taken.
        if rights & GRANTED != 0 {
            self.threads[t as usize].notified |= bits;
        } else if rights as Domain == self.domain_of(t) {
            self.cold[t as usize].notes |= bits;
        }
        self.pass_soon(t);
    }

    /// So does a deletion.
    fn kill_after(&mut self, t: u32) {
        self.threads[t as usize].doomed = true;
        self.pass_soon(t);
    }

    /// Passes on what has come for `t`; while those who wait for it are being sent after it, when that is done.
    fn pass_soon(&mut self, t: u32) {
        let idle = self.threads[t as usize].state == State::Departed && !self.cold[t as usize].handing_on;
        if idle && self.has_followers(t) {
            self.pass(t);
        }
    }

    /// Whether something is to go after a thread that has left this slot.
    #[inline(always)]
    pub(crate) fn has_followers(&self, t: u32) -> bool {
        let thread = &self.threads[t as usize];
        thread.doomed || (thread.notified | self.cold[t as usize].notes) != 0
    }

    /// Sends what is to go after a thread that has left this slot, as soon as there is room; then the slot has done its service.
    #[inline(never)]
    pub(crate) fn pass(&mut self, t: u32) {
        let (id, at) = (self.threads[t as usize].id, usize::from(self.cold[t as usize].at));
        let (native, birth) = (id.cluster() == self.cluster, usize::from(id.cluster()));
        let cluster = if native || self.peers[birth].down { at } else { birth };
        if self.peers[cluster].down {
            self.drop_followers(t);
            return self.passed(t);
        }
        let remote = &mut self.threads[t as usize].remote;
        (remote.peer, remote.request) = (cluster as u16, Request::Pass);
        self.enter_queue(t, Place::Waiting, if native { State::Passing } else { State::Dying });
        self.pump(cluster);
    }

    /// A thread that something waits to go after has been found to be elsewhere.
    pub(crate) fn pass_elsewhere(&mut self, t: u32) {
        if self.threads[t as usize].state == State::Passing {
            self.leave_peer(t);
            self.pass(t);
        }
    }

    /// Sends one of the packets that go after a thread; there is room.
    pub(super) fn send_follower(&mut self, t: u32, cluster: usize) {
        let (thread, notes) = (&mut self.threads[t as usize], &mut self.cold[t as usize].notes);
        let id = thread.id;
        if core::mem::take(&mut thread.doomed) {
            (thread.notified, *notes) = (0, 0);
            self.send_note(cluster, kind::KILL, id, 0);
        } else {
            let (bits, rights) = match core::mem::take(&mut thread.notified) {
                0 => (core::mem::take(notes), thread.domain),
                bits => (bits, GRANTED),
            };
            if let Some(slot) = self.next_slot(cluster) {
                slot[TAG].store(bits, Relaxed);
            }
            self.send_note(cluster, kind::NOTIFY, id, rights);
        }
        match self.has_followers(t) {
            // The caller goes on with the queue.
            true => self.enter_queue(t, Place::Waiting, self.threads[t as usize].state),
            false => self.passed(t),
        }
    }

    /// Nothing is left to go after the thread.
    fn passed(&mut self, t: u32) {
        if self.threads[t as usize].id.cluster() == self.cluster {
            self.threads[t as usize].state = State::Departed;
        } else {
            self.free_slot(t);
        }
    }

    /// The thread has ended, or its cluster has: nothing goes after it any more.
    pub(crate) fn drop_followers(&mut self, t: u32) {
        if self.threads[t as usize].remote.place == Place::Waiting {
            self.leave_peer(t);
        }
        let thread = &mut self.threads[t as usize];
        (thread.doomed, thread.notified) = (false, 0);
        self.cold[t as usize].notes = 0;
    }
}
