//! The short way between clusters, when a CPU has nothing else to do: out with a call or an answer, and in with one.
//!
//! As in [`crate::fastpath`], each function first checks everything and changes nothing; whatever is not the simple case (long
//! messages, deadlines, other threads to run, several packets, a cluster of several CPUs) is left to the general code, and
//! the result is the same as that of the general code. There is no assembly: the model check explores what is shipped.

use super::{CALL, GRANTED, Head, Place, Remote, Request, TAG, kind, notes};
use crate::guests::{Guests, Stay};
use crate::hal::Hal;
use crate::kernel::{Kernel, Peer};
use crate::remote::Ending;
use crate::ring::{Bells, HEADER, Lane, Ring, Slot};
use crate::thread::{Context, Kind, State, Tcb};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::message::{REGISTER_WORDS, kernel_label};
use skerry_abi::{Counter, CpuId, Domain, Fpage, SpaceId, Tag, ThreadId, Timeout};
use skerry_checks::{Check, passes};

/// Whether a message fits into the registers.
#[inline(always)]
fn is_short(tag: Tag) -> bool {
    passes(Check::FastRemotePlain, tag.0 & 0xfff <= REGISTER_WORDS as u64)
}

/// Labels from here on are the kernel's own, or special in answers to it.
const FIRST_SPECIAL_LABEL: u32 = kernel_label::PAGE_FAULT & 0xffff_0000;

impl<H: Hal> Kernel<'_, H> {
    /// The IPC system call of the thread that runs on `cpu`, this one, the only one of its cluster: a call to a thread of another
    /// cluster, or the answer to one and an open receive. `true`: the message is on its way, and the CPU has nothing to run.
    #[inline(always)]
    pub fn fast_remote(&mut self, cpu: CpuId) -> bool {
        let settled = self.immigrants == 0 && self.hints.is_empty();
        (settled || self.sends_to_birthplace(cpu)) && self.try_remote(cpu).is_some()
    }

    /// Whether the running thread sends to a thread that is, for all this cluster knows, where it was born.
    #[cold]
    fn sends_to_birthplace(&self, cpu: CpuId) -> bool {
        self.cpus[usize::from(cpu)].current().is_some_and(|t| {
            let dest = ThreadId(self.threads[t as usize].context.x[0]);
            self.elsewhere(dest) == Some(usize::from(dest.cluster()))
        })
    }

    #[inline(always)]
    fn try_remote(&mut self, cpu: CpuId) -> Option<()> {
        let Self { cpus, threads, peers, guests, spaces, counters, hal, chores, .. } = self;
        // part: lookup
        let queue = cpus.get_mut(usize::from(cpu))?;
        let me = threads.get_mut(queue.current()? as usize)?;
        let x = &me.context.x;
        let (dest, from, tag, send_timeout) = (ThreadId(x[0]), ThreadId(x[1]), Tag(x[2]), Timeout(x[11]));
        // part: own wait
        let unhurried = x[12] == Timeout::NEVER.0 && x[13] == 0;
        let plain = is_short(tag) && passes(Check::FastRemoteLabel, tag.label() < FIRST_SPECIAL_LABEL);
        // The CPU may sleep afterwards, which would leave the work of others.
        let idle = passes(Check::FastRemoteChores, !chores.is_pending());
        if !(unhurried && queue.is_alone() && me.hold == 0 && plain && idle) {
            return None;
        }
        // part: lookup
        let peer = peers.get(usize::from(dest.cluster()))?;
        // This cluster has no rings to itself.
        let (inbound, outbound, bells) = (peer.inbound?, peer.outbound?, peer.bells?);
        if peer.down || !peer.waiting.is_empty() {
            return None;
        }
        // part: ring
        let slot = outbound.room(&inbound, peer.limit, || {})?;
        let (kind, seq, sender, receiver, argument);
        if from == dest && send_timeout == Timeout::NEVER {
            // part: permission
            // It may be an answer, or nothing at all.
            if dest.is_nil() || guests.used() != 0 && guests.find(dest).is_some() {
                return None;
            }
            let mut granted = dest == me.granted;
            if !granted {
                let partner = spaces.get(usize::from(me.space))?.is_partner(dest);
                if partner {
                    // For the next time: partners are granted for ever.
                    me.granted = dest;
                }
                granted = partner || dest == me.pager || dest == me.handler;
            }
            // part: bookkeeping
            (kind, seq) = (kind::SEND, me.remote.seq.wrapping_add(1));
            me.remote = Remote {
                seq,
                peer: dest.cluster(),
                place: Place::Pending,
                request: Request::Send,
                ending: Ending::None,
                delivered: false,
            };
            me.state = State::AwaitingResponse;
            (sender, receiver) = (me.id, dest);
            argument = if granted { GRANTED | CALL } else { CALL } | me.domain;
        } else {
            // part: own wait
            let nobody = passes(Check::FastRemoteQueue, me.senders.is_empty())
                && passes(Check::FastRemoteNotified, me.notified == 0);
            if !(from.is_any() && nobody) {
                return None;
            }
            // part: permission
            (kind, seq) = (kind::REPLY, guests.answer(dest, dest.cluster(), me.space_id)?);
            // part: bookkeeping
            (me.state, me.open_to) = (State::Receiving, ThreadId::ANY);
            (sender, receiver, argument) = (dest, me.id, me.domain);
        }
        me.reply_space = SpaceId::NIL;
        (me.op.kind, me.op.dest, me.op.from) = (Kind::Ipc, dest, from);
        (me.op.send_timeout, me.op.receive_timeout) = (send_timeout, Timeout::NEVER);
        me.op.window = Fpage::NIL;
        queue.leave_alone();
        // part: message
        Head { kind, seq, sender, receiver, argument }.write(slot);
        slot[TAG].store(tag.sanitized().0, Relaxed);
        if let (Some(from), Some(to)) = (me.context.x[3..].first_chunk(), slot[HEADER..].first_chunk()) {
            hal.put_registers(from, to);
        }
        // part: count
        let here = counters.here;
        here.add(Counter::RemoteIpcs, 1);
        here.add(Counter::Sleeps, 1);
        // part: ring
        outbound.publish(Lane::Requests);
        if bells.ring(usize::from(self.cluster)) {
            hal.kick(peer.doorbell);
        }
        Some(())
    }

    /// A doorbell woke `cpu`, the only one of its cluster, which had nothing to run: takes a call, an answer or a thread. `Some`: who runs
    /// now, and with which registers. `None`: nothing has happened.
    #[inline(always)]
    pub fn fast_doorbell(&mut self, cpu: CpuId) -> Option<(ThreadId, *mut Context)> {
        let Self { cpus, threads, peers, guests, counters, hal, .. } = self;
        // part: lookup
        let queue = cpus.get_mut(usize::from(cpu))?;
        let free = queue.is_alone() && queue.current().is_none() && !self.no_short_way;
        if !free || self.chores.is_pending() {
            return None;
        }
        // part: ring
        // Who publishes something from now on rings again; what was published before is seen now.
        let (own, bells) = (self.bells, self.bells.take_first());
        let cluster = bells.trailing_zeros();
        let single = bells & bells.wrapping_sub(1) == 0;
        let peer = peers.get(cluster as usize).filter(|peer| single && peer.waiting.is_empty());
        let found = peer.and_then(|peer| {
            let ring = peer.inbound?;
            Some((peer, ring, ring.request()?))
        });
        let Some((peer, ring, (slot, waiting))) = found else {
            own.give_back(0, bells);
            return None;
        };
        let (head, tag) = (Head::read(slot), Tag(slot[TAG].load(Relaxed)));
        let taken = match head.kind {
            kind::SEND => accept(threads, guests, cluster as u16, head, tag),
            kind::REPLY => settle(threads, head, tag),
            // What it waits for is for the general code.
            kind::MOVE if peer.behind.is_something() => None,
            kind::NOTIFY => return self.take_note(cpu, bells, (head, slot, waiting)),
            kind::MOVE => return self.arrive(cpu, bells, cluster as usize, (ring, slot, waiting)),
            _ => None,
        };
        let Some((t, thread, from)) = taken else {
            own.give_back(0, bells);
            return None;
        };
        // part: message
        let x = &mut thread.context.x;
        (x[0], x[1], x[2]) = (from.0, u64::from(head.argument as Domain), tag.0);
        if let (Some(to), Some(from)) = (x[3..].first_chunk_mut(), slot[HEADER..].first_chunk()) {
            hal.take_registers(from, to);
        }
        x[3 + REGISTER_WORDS..19].fill(0);
        // part: bookkeeping
        (thread.state, thread.open_to) = (State::Ready, ThreadId::NIL);
        queue.switch_to(t);
        // part: count
        counters.count(Counter::Interrupts);
        // part: ring
        ring.release(Lane::Requests);
        if ring.is_special() || waiting > 1 {
            look_further(hal, [self.cluster, self.this_cpu], own, cluster as usize, peer, waiting > 1);
        }
        Some((thread.id, &raw mut thread.context))
    }

    /// The same for notification bits.
    #[inline(always)]
    fn take_note(
        &mut self,
        cpu: CpuId,
        bells: u64,
        (head, slot, waiting): (Head, Slot<'_>, u64),
    ) -> Option<(ThreadId, *mut Context)> {
        let Self { cpus, threads, peers, counters, hal, .. } = self;
        let cluster = bells.trailing_zeros() as usize;
        let peer = peers.get(cluster)?;
        let (Some(ring), Some(t)) = (peer.inbound, notes::take(threads, head, slot)) else {
            self.bells.give_back(0, bells);
            return None;
        };
        cpus[usize::from(cpu)].switch_to(t);
        // part: count
        counters.count(Counter::Interrupts);
        counters.count(Counter::Notifications);
        // part: ring
        ring.release(Lane::Requests);
        if ring.is_special() || waiting > 1 {
            look_further(hal, [self.cluster, self.this_cpu], self.bells, cluster, peer, waiting > 1);
        }
        let thread = &mut threads[t as usize];
        Some((thread.id, &raw mut thread.context))
    }

    /// The same for a thread that comes to run here.
    #[inline(never)]
    fn arrive(
        &mut self,
        cpu: CpuId,
        bells: u64,
        cluster: usize,
        (ring, slot, waiting): (Ring<'_>, Slot<'_>, u64),
    ) -> Option<(ThreadId, *mut Context)> {
        let Some((t, slots)) = self.fast_arrive(cluster, ring, slot) else {
            self.bells.give_back(0, bells);
            return None;
        };
        let Self { cpus, threads, peers, counters, hal, .. } = self;
        let thread = &mut threads[t as usize];
        (thread.state, thread.open_to) = (State::Ready, ThreadId::NIL);
        cpus[usize::from(cpu)].switch_to(t);
        counters.count(Counter::Interrupts);
        ring.release_all(Lane::Requests, slots);
        if ring.is_special() || waiting > slots {
            let more = waiting > slots;
            look_further(hal, [self.cluster, self.this_cpu], self.bells, cluster, &peers[cluster], more);
        }
        Some((thread.id, &raw mut thread.context))
    }
}

/// A packet of this peer was taken, and there is more to do about it.
#[cold]
#[inline(never)]
fn look_further<H: Hal>(
    hal: &mut H,
    [cluster, cpu]: [u16; 2],
    own: Bells<'_>,
    other: usize,
    peer: &Peer<'_>,
    more: bool,
) {
    if peer.inbound.is_some_and(|ring| ring.is_wanted())
        && peer.bells.is_some_and(|bells| bells.ring(cluster.into()))
    {
        // It waits for the room that we have just made.
        hal.kick(peer.doorbell);
    }
    if more || peer.inbound.is_some_and(|ring| ring.is_down()) {
        // The general code looks again, at once.
        _ = own.ring(other);
        hal.kick(cpu);
    }
}

/// A thread in its slot, and whom it hears from.
type Hearer<'t> = (u32, &'t mut Tcb, ThreadId);

/// Whether the receiver of a call waits for it with nothing else to be considered. Then it is the caller that waits here from now
/// on: for its answer.
#[inline(always)]
fn accept<'t>(
    threads: &'t mut [Tcb],
    guests: &mut Guests<'_>,
    cluster: u16,
    head: Head,
    tag: Tag,
) -> Option<Hearer<'t>> {
    // part: lookup
    let t = u32::from(head.receiver.slot());
    let thread = threads.get_mut(t as usize)?;
    // part: partner waits
    let there = passes(Check::FastRemoteIdentity, thread.id == head.receiver)
        && passes(Check::FastRemoteStanding, thread.stands(State::Receiving));
    let open = thread.open_to == head.sender || thread.open_to.is_any();
    if !(there && passes(Check::FastRemoteReady, open) && head.argument & CALL != 0 && is_short(tag)) {
        return None;
    }
    // part: permission
    let granted = head.argument & GRANTED != 0 || u64::from(head.argument as Domain) == thread.domain;
    if !passes(Check::FastRemotePermission, granted) {
        return None;
    }
    // part: bookkeeping
    guests.insert(head.sender, cluster, head.seq, Stay::Owed(thread.space_id))?;
    thread.reply_space = SpaceId::NIL;
    Some((t, thread, head.sender))
}

/// Whether the caller waits for this answer with nothing else to be considered. Then it does not any more.
#[inline(always)]
fn settle<'t>(threads: &'t mut [Tcb], head: Head, tag: Tag) -> Option<Hearer<'t>> {
    // part: lookup
    let t = u32::from(head.sender.slot());
    let thread = threads.get_mut(t as usize)?;
    // part: partner waits
    let there = passes(Check::FastRemoteCaller, thread.id == head.sender)
        && passes(Check::FastRemoteCalls, thread.stands(State::AwaitingResponse));
    if !(there && is_short(tag) && thread.op.kind == Kind::Ipc) {
        return None;
    }
    let meant = passes(Check::FastRemoteOperation, thread.remote.seq == head.seq);
    if !(meant && passes(Check::FastRemoteEnding, thread.remote.ending == Ending::None)) {
        return None;
    }
    // part: bookkeeping
    thread.remote.place = Place::Nowhere;
    Some((t, thread, head.receiver))
}
