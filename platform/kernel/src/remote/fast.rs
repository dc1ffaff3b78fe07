//! The short way between clusters, when a CPU has nothing else to do: out with a call or an answer, and in with one.
//!
//! As in [`crate::fastpath`], each function first checks everything and changes nothing; whatever is not the simple case (long
//! messages, deadlines, other threads to run, several packets, a cluster of several CPUs) is left to the general code, and
//! the result is the same as that of the general code.

use super::{CALL, GRANTED, Head, KIND, Place, Remote, Request, TAG, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::remote::Ending;
use crate::ring::{HEADER, Lane, Slot};
use crate::thread::{Kind, Operation, State, Tcb};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::message::{REGISTER_WORDS, kernel_label};
use skerry_abi::{Counter, Domain, Fpage, SpaceId, Tag, ThreadId, Timeout};

/// Whether a message is no affair of the kernel's and fits into the registers.
fn is_plain(tag: Tag) -> bool {
    tag.0 & 0xfff <= REGISTER_WORDS as u64 && tag.label() < kernel_label::PAGE_FAULT & 0xffff_0000
}

impl<H: Hal> Kernel<'_, H> {
    /// The IPC system call of the thread that runs on `cpu`, this one, the only one of its cluster: a call to a thread of another
    /// cluster, or the answer to one and an open receive. `true`: the message is on its way, and the CPU has nothing to run.
    pub fn fast_remote(&mut self, cpu: usize) -> bool {
        self.try_remote(cpu).is_some()
    }

    fn try_remote(&mut self, cpu: usize) -> Option<()> {
        let queue = self.cpus.get(cpu)?;
        let t = queue.current()?;
        let me = self.threads.get(t as usize)?;
        let x = &me.context.x;
        let (dest, from, tag) = (ThreadId(x[0]), ThreadId(x[1]), Tag(x[2]));
        let unhurried = x[12] == Timeout::NEVER.0 && x[13] == 0;
        let free = queue.is_alone() && me.hold == 0 && !self.chores.is_pending();
        if !(unhurried && free && is_plain(tag)) || dest.cluster() == self.cluster {
            return None;
        }
        if self.immigrants != 0 && self.find(dest).is_some() {
            // It was born there, but lives here.
            return None;
        }
        let cluster = usize::from(dest.cluster());
        let peer = self.peers.get(cluster)?;
        if peer.down || !peer.waiting.is_empty() {
            return None;
        }
        let slot = self.room(cluster)?;
        let me = &mut self.threads[t as usize];
        let domain = me.domain;
        me.op = Operation {
            kind: Kind::Ipc,
            dest,
            from,
            send_timeout: Timeout(me.context.x[11]),
            receive_timeout: Timeout::NEVER,
            window: Fpage::NIL,
        };
        me.reply_space = SpaceId::NIL;
        let head = if from == dest && me.op.send_timeout == Timeout::NEVER {
            let known = dest == me.pager || dest == me.granted;
            if self.guests.used() != 0 && self.guests.find(dest).is_some() {
                // It may be an answer.
                return None;
            }
            let granted = if known || self.is_granted(t, dest) { GRANTED } else { 0 };
            let me = &mut self.threads[t as usize];
            let seq = me.remote.seq.wrapping_add(1);
            me.remote = Remote {
                seq,
                peer: cluster as u16,
                place: Place::Pending,
                request: Request::Send,
                ending: Ending::None,
                delivered: false,
            };
            me.state = State::AwaitingResponse;
            let id = me.id;
            Head { kind: kind::SEND, seq, sender: id, receiver: dest, argument: granted | CALL | domain }
        } else if from.is_any() && me.senders.is_empty() && me.notified == 0 {
            let guest = self.guests.find(dest)?;
            let entry = self.guests.get(guest);
            if entry.stay != Stay::Owed(me.space_id) || usize::from(entry.at) != cluster {
                return None;
            }
            let head =
                Head { kind: kind::REPLY, seq: entry.seq, sender: dest, receiver: me.id, argument: domain };
            (me.state, me.open_to) = (State::Receiving, ThreadId::ANY);
            self.guests.remove(guest);
            head
        } else {
            return None;
        };
        head.write(slot);
        slot[TAG].store(tag.sanitized().0, Relaxed);
        let x = &self.threads[t as usize].context.x;
        slot[HEADER..HEADER + REGISTER_WORDS]
            .iter()
            .zip(&x[3..3 + REGISTER_WORDS])
            .for_each(|(to, x)| to.store(*x, Relaxed));
        self.publish(cluster, Lane::Requests);
        self.counters.count(Counter::RemoteIpcs);
        self.counters.count(Counter::Sleeps);
        self.cpus[cpu].leave_alone();
        Some(())
    }

    /// A doorbell woke `cpu`, the only one of its cluster, which had nothing to run: takes a call or an answer. `Some`: this thread has
    /// it and is the one that runs now. `None`: nothing has happened.
    pub fn fast_doorbell(&mut self, cpu: usize) -> Option<&mut Tcb> {
        let queue = self.cpus.get(cpu)?;
        if queue.current().is_some() || !queue.is_alone() || self.chores.is_pending() || self.parked {
            return None;
        }
        let bells = self.bells.peek(0);
        let cluster = bells.trailing_zeros() as usize;
        let peer = self.peers.get(cluster).filter(|_| bells.is_power_of_two())?;
        let ring = peer.inbound?;
        if self.peers.len() > 64 || ring.unconsumed(Lane::Responses) != 0 || !peer.waiting.is_empty() {
            return None;
        }
        let slot = ring.front(Lane::Requests)?;
        let (t, slots) = match slot[KIND].load(Relaxed) & 0xffff_ffff {
            kind::SEND => (self.fast_accept(cpu, cluster, slot)?, 1),
            kind::REPLY => (self.fast_reply(cpu, slot)?, 1),
            kind::MOVE => self.fast_arrive(cluster, ring, slot)?,
            _ => return None,
        };
        self.bells.take(0);
        ring.release_all(Lane::Requests, slots);
        let more = ring.unconsumed(Lane::Requests) != 0 || ring.unconsumed(Lane::Responses) != 0;
        if ring.is_wanted() {
            self.ring(cluster);
        }
        if more || ring.is_down() {
            // The general code looks again, at once.
            _ = self.bells.ring(cluster);
            self.hal.kick(self.this_cpu);
        }
        self.cpus[cpu].switch_to(t);
        let thread = &mut self.threads[t as usize];
        (thread.state, thread.open_to) = (State::Ready, ThreadId::NIL);
        Some(thread)
    }

    /// A call to a thread that waits for it with nothing else to be considered.
    fn fast_accept(&mut self, cpu: usize, from: usize, slot: Slot<'_>) -> Option<u32> {
        let head = Head::read(slot);
        let t = u32::from(head.receiver.slot());
        let thread = self.threads.get_mut(t as usize)?;
        let waits = thread.id == head.receiver
            && thread.state == State::Receiving
            && (thread.open_to.is_any() || thread.open_to == head.sender)
            && usize::from(thread.cpu) == cpu
            && thread.hold == 0;
        let permitted = head.argument & GRANTED != 0 || u64::from(head.argument as Domain) == thread.domain;
        let tag = Tag(slot[TAG].load(Relaxed));
        if !(waits && permitted && head.argument & CALL != 0 && is_plain(tag)) {
            return None;
        }
        let owed = Stay::Owed(thread.space_id);
        self.guests.add(head.sender, from as u16, head.seq, owed).ok()?;
        thread.receive_packet(head.sender, head.argument as Domain, tag, slot);
        thread.reply_space = SpaceId::NIL;
        Some(t)
    }

    /// The answer to a call that waits for it with nothing else to be considered.
    fn fast_reply(&mut self, cpu: usize, slot: Slot<'_>) -> Option<u32> {
        let head = Head::read(slot);
        let t = u32::from(head.sender.slot());
        let thread = self.threads.get_mut(t as usize)?;
        let remote = &mut thread.remote;
        let waits = thread.id == head.sender
            && thread.state == State::AwaitingResponse
            && (remote.seq, remote.ending, remote.place) == (head.seq, Ending::None, Place::Pending)
            && thread.op.kind == Kind::Ipc
            && usize::from(thread.cpu) == cpu
            && thread.hold == 0;
        let tag = Tag(slot[TAG].load(Relaxed));
        if !(waits && is_plain(tag)) {
            return None;
        }
        remote.place = Place::Nowhere;
        thread.receive_packet(head.receiver, head.argument as Domain, tag, slot);
        Some(t)
    }
}

impl Tcb {
    /// Puts a short message into the registers.
    fn receive_packet(&mut self, from: ThreadId, domain: Domain, tag: Tag, slot: Slot<'_>) {
        let x = &mut self.context.x;
        (x[0], x[1], x[2]) = (from.0, u64::from(domain), tag.0);
        let words = &slot[HEADER..HEADER + REGISTER_WORDS];
        x[3..11].iter_mut().zip(words).for_each(|(x, word)| *x = word.load(Relaxed));
        x[11..19].fill(0);
    }
}
