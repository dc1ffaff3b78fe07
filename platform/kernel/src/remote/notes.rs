//! The short way of notifications: out to another cluster, in from one, and the wait for them.
//!
//! It is for the same cases as that of messages ([`super::fast`]): nothing queued, no deadline, nobody else who wants to run. The rules
//! are the same, too: first everything is checked and nothing changed, and what is not simple is left to the general code.

use super::{GRANTED, Head, TAG, kind};
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::ring::{Lane, Slot};
use crate::thread::{Kind, State, Tcb};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::id::domain;
use skerry_abi::message::kernel_label;
use skerry_abi::{Counter, CpuId, Domain, Fpage, SpaceId, Tag, ThreadId, Timeout};
use skerry_checks::{Check, passes};

/// The tag of a message with notification bits.
const TAG_OF_NOTES: u64 = Tag::new(kernel_label::NOTIFICATION, 1, 0).0;

impl<H: Hal> Kernel<'_, H> {
    /// `NOTIFY` of a thread that was born in another cluster and, for all this one knows, is there. `false`: it is not that simple.
    #[inline(never)]
    pub(crate) fn quick_notify(&mut self, t: u32) -> bool {
        // part: lookup
        let me = &self.threads[t as usize];
        let (dest, bits, space) = (ThreadId(me.context.x[0]), me.context.x[1], me.space);
        let Some(peer) = self.peers.get(usize::from(dest.cluster())) else { return false };
        // This cluster has no rings to itself.
        let (Some(inbound), Some(outbound), Some(bells)) = (peer.inbound, peer.outbound, peer.bells) else {
            return false;
        };
        // Threads of other clusters are here: the general code knows which.
        let simple = self.immigrants == 0 && !dest.is_nil();
        if !simple || peer.down || !peer.waiting.is_empty() {
            return false;
        }
        // part: ring
        let Some(slot) = outbound.room(&inbound, peer.limit, || {}) else { return false };
        // part: permission
        let mut granted = dest == me.granted;
        if !granted {
            let partner = self.spaces[usize::from(space)].is_partner(dest);
            granted = partner || dest == me.pager || dest == me.handler;
            if partner {
                // For the next time, as in `try_remote`.
                self.threads[t as usize].granted = dest;
            }
        }
        if !granted && self.guests.used() != 0 && self.guests.find(dest).is_some() {
            // This space may owe it an answer.
            return false;
        }
        let argument = if granted { GRANTED } else { 0 } | self.threads[t as usize].domain;
        // part: message
        Head { kind: kind::NOTIFY, seq: 0, sender: dest, receiver: ThreadId::NIL, argument }.write(slot);
        slot[TAG].store(bits, Relaxed);
        // part: ring
        outbound.publish(Lane::Requests);
        if bells.ring(usize::from(self.cluster)) {
            self.hal.kick(peer.doorbell);
        }
        true
    }

    /// The IPC system call of the thread that runs on `cpu`, this one, the only one of its cluster, if it only waits: for anybody or for
    /// notifications. `true`: it does, and the CPU has nothing to run.
    #[inline(always)]
    pub fn fast_wait(&mut self, cpu: CpuId) -> bool {
        self.try_wait(cpu).is_some()
    }

    #[inline(always)]
    fn try_wait(&mut self, cpu: CpuId) -> Option<()> {
        let Self { cpus, threads, chores, .. } = self;
        // part: lookup
        let queue = cpus.get_mut(usize::from(cpu))?;
        let me = threads.get_mut(queue.current()? as usize)?;
        let x = &me.context.x;
        // part: own wait
        let from = ThreadId(x[1]);
        let unhurried = x[12] == Timeout::NEVER.0 && x[13] == 0;
        if !(x[0] == ThreadId::NIL.0 && unhurried && queue.is_alone() && me.hold == 0) {
            return None;
        }
        let nobody = from == me.id || from.is_any() && passes(Check::FastWaitQueue, me.senders.is_empty());
        // The CPU sleeps afterwards, which would leave the work of others.
        let idle = passes(Check::FastWaitChores, !chores.is_pending());
        if !(nobody && idle && passes(Check::FastWaitNotified, me.notified == 0)) {
            return None;
        }
        // part: bookkeeping
        (me.op.kind, me.op.dest, me.op.from) = (Kind::Ipc, ThreadId::NIL, from);
        (me.op.send_timeout, me.op.receive_timeout) = (Timeout(x[11]), Timeout::NEVER);
        me.op.window = Fpage::NIL;
        (me.state, me.open_to, me.reply_space) = (State::Receiving, from, SpaceId::NIL);
        me.deadline = u64::MAX;
        queue.leave_alone();
        self.counters.here.add(Counter::Sleeps, 1);
        Some(())
    }
}

/// Whether a thread of this cluster waits for these notification bits with nothing else to be considered. Then it has them.
#[inline(always)]
pub(super) fn take(threads: &mut [Tcb], head: Head, slot: Slot<'_>) -> Option<u32> {
    // part: lookup
    let t = u32::from(head.sender.slot());
    let thread = threads.get_mut(t as usize)?;
    // part: partner waits
    let there = passes(Check::FastNoteIdentity, thread.id == head.sender)
        && passes(Check::FastNoteStanding, thread.stands(State::Receiving));
    if !(there && passes(Check::FastNoteReady, thread.takes_notifications())) {
        return None;
    }
    // part: permission
    let granted = head.argument & GRANTED != 0 || u64::from(head.argument as Domain) == thread.domain;
    if !passes(Check::FastNotePermission, granted) {
        return None;
    }
    // (Bits that wait for it already would have ended its wait.)
    let bits = slot[TAG].load(Relaxed);
    if bits == 0 {
        return None;
    }
    // part: message
    let x = &mut thread.context.x;
    (x[0], x[1], x[2], x[3]) = (ThreadId::NIL.0, u64::from(domain::KERNEL), TAG_OF_NOTES, bits);
    x[4..19].fill(0);
    // part: bookkeeping
    (thread.state, thread.open_to, thread.reply_space) = (State::Ready, ThreadId::NIL, SpaceId::NIL);
    Some(t)
}
