//! The packets of a thread's move to another cluster ([`crate::migrate`]), and what follows from it.

use super::{Head, IN_RECEIVE, Place, Request, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::{Kernel, UTCB_MR0};
use crate::migrate::{Destination, trait_of};
use crate::queue::NONE;
use crate::remote::Ending;
use crate::ring::{HEADER, Lane, Slot};
use crate::thread::{Context, State};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Error, SpaceId, ThreadId};

/// Packets of a move: state, two halves of the UTCB, floating-point registers.
const PACKETS: u64 = 4;
/// Words of the UTCB that move in one packet.
const HALF: usize = 60;
/// The last packet of a move.
const LAST: u64 = 1 << 8;

/// Words of the state packet behind the context.
const TLS: usize = CONTEXT;
const PLACE: usize = CONTEXT + 1;
const SPACE: usize = CONTEXT + 2;
const PAGER: usize = CONTEXT + 3;
const HANDLER: usize = CONTEXT + 4;
const SLICE: usize = CONTEXT + 5;
const NOTIFIED: usize = CONTEXT + 6;
const MOVES: usize = CONTEXT + 7;
const FROM: usize = CONTEXT + 8;
const TIMEOUT: usize = CONTEXT + 9;
const WINDOW: usize = CONTEXT + 10;
/// x0..x30, SP, PC, PSTATE.
const CONTEXT: usize = 34;

/// A thread on its way in, between its first packet and its last.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its slot, or `NONE` if it was refused.
    slot: u32,
    refusal: Error,
    traits: u64,
    from: ThreadId,
    timeout: u64,
    window: u64,
}

impl Arrival {
    /// None.
    pub const NONE: Self =
        Self { slot: NONE, refusal: Error::Refused, traits: 0, from: ThreadId::NIL, timeout: 0, window: 0 };

    #[cfg(test)]
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// A moving thread needs another cluster's answer.
    pub(crate) fn travel(&mut self, t: u32, cluster: usize, request: Request) {
        let remote = &mut self.threads[t as usize].remote;
        remote.seq = remote.seq.wrapping_add(1);
        (remote.peer, remote.request, remote.ending) = (cluster as u16, request, Ending::None);
        self.enter_queue(t, Place::Waiting, State::Moving);
        self.pump(cluster);
    }

    /// A dead thread that was born in another cluster: its slot there is free as soon as that cluster knows.
    pub(crate) fn announce_end(&mut self, t: u32) {
        let birth = usize::from(self.threads[t as usize].id.cluster());
        if self.peers[birth].down {
            return self.free_slot(t);
        }
        let remote = &mut self.threads[t as usize].remote;
        (remote.peer, remote.request, remote.ending) = (birth as u16, Request::Ended, Ending::None);
        self.enter_queue(t, Place::Waiting, State::Dying);
        self.pump(birth);
    }

    /// Slots that the request at the head of the queue needs.
    pub(super) fn room_for(&self, index: u32) -> u64 {
        match self.threads.get(index as usize) {
            Some(thread) if thread.state == State::Moving && thread.remote.request == Request::Move => {
                PACKETS
            }
            _ => 1,
        }
    }

    /// Whether that many requests can be sent now.
    pub(super) fn has_room(&self, cluster: usize, packets: u64) -> bool {
        let peer = &self.peers[cluster];
        let (Some(inbound), Some(outbound)) = (peer.inbound, peer.outbound) else { return false };
        let used = outbound.unconsumed(Lane::Requests) + inbound.unconsumed(Lane::Responses);
        // A limit below a move's packets is a test's: the lane itself always has room for them.
        used + packets.min(peer.limit.max(1)) <= peer.limit
    }

    /// Sends the request of a moving or dead thread that has just left the queue for room.
    pub(super) fn send_journey(&mut self, t: u32, cluster: usize, request: Request) {
        let thread = &self.threads[t as usize];
        let (id, seq) = (thread.id, thread.remote.seq);
        let head = |kind, argument| Head { kind, seq, sender: id, receiver: ThreadId::NIL, argument };
        match request {
            Request::Move => self.send_move(t, cluster),
            Request::Located => {
                let (to, moves) = (self.cold[t as usize].to.space.cluster(), self.cold[t as usize].moves);
                let argument = u64::from(to) | u64::from(moves) << 32;
                self.send_short(cluster, head(kind::LOCATED, argument));
            }
            _ => {
                self.send_short(cluster, head(kind::ENDED, 0));
                return self.free_slot(t);
            }
        }
        self.enter_queue(t, Place::Pending, State::Moving);
    }

    fn send_short(&mut self, cluster: usize, head: Head) {
        if let Some(slot) = self.room(cluster) {
            head.write(slot);
            self.publish(cluster, Lane::Requests);
        }
    }

    fn send_move(&mut self, t: u32, cluster: usize) {
        let Some(ring) = self.peers[cluster].outbound else { return };
        let traits = self.traits_of(t);
        let (id, seq) = (self.threads[t as usize].id, self.threads[t as usize].remote.seq);
        let head = |kind, argument| Head { kind, seq, sender: id, receiver: ThreadId::NIL, argument };
        let utcb = self.utcb(t);
        if let Some(slot) = ring.reserve(Lane::Requests) {
            head(kind::MOVE, traits).write(slot);
            self.write_state(t, &slot[HEADER..]);
            ring.publish(Lane::Requests);
        }
        for (half, words) in (0..).zip(utcb[UTCB_MR0..].chunks_exact(HALF)) {
            let last = half == 1 && traits & trait_of::FP == 0;
            let Some(slot) = ring.reserve(Lane::Requests) else { return };
            head(kind::MOVE_UTCB, half | if last { LAST } else { 0 }).write(slot);
            self.hal.copy_words(words, &slot[HEADER..]);
            if last {
                return self.publish(cluster, Lane::Requests);
            }
            ring.publish(Lane::Requests);
        }
        let Some(slot) = ring.reserve(Lane::Requests) else { return };
        head(kind::MOVE_FP, LAST).write(slot);
        let fp = &self.threads[t as usize].fp;
        let words = &slot[HEADER..];
        for (pair, q) in words.chunks_exact(2).zip(&fp.q) {
            pair[0].store(*q as u64, Relaxed);
            pair[1].store((*q >> 64) as u64, Relaxed);
        }
        words[64].store(fp.fpcr, Relaxed);
        words[65].store(fp.fpsr, Relaxed);
        self.publish(cluster, Lane::Requests);
    }

    fn write_state(&mut self, t: u32, words: &[AtomicU64]) {
        let cold = &self.cold[t as usize];
        let (to, slice, moves) = (cold.to, cold.slice, cold.moves + 1);
        let thread = &mut self.threads[t as usize];
        let Context { x, sp, pc, pstate } = &thread.context;
        words.iter().zip(x).for_each(|(word, x)| word.store(*x, Relaxed));
        let place = u64::from(thread.priority) | u64::from(thread.utcb_slot) << 16 | u64::from(to.cpu) << 32;
        let more = [
            (31, *sp),
            (32, *pc),
            (33, *pstate),
            (TLS, thread.tls),
            (PLACE, place),
            (SPACE, to.space.0),
            (PAGER, to.pager.0),
            (HANDLER, to.handler.0),
            (SLICE, slice),
            (NOTIFIED, core::mem::take(&mut thread.notified)),
            (MOVES, moves.into()),
            (FROM, thread.op.from.0),
            (TIMEOUT, thread.op.receive_timeout.0),
            (WINDOW, thread.op.window.word()),
        ];
        more.iter().for_each(|&(i, word)| words[i].store(word, Relaxed));
    }

    /// A packet of a move to this cluster; the last one is answered.
    pub(super) fn take_move(&mut self, cluster: usize, head: Head, slot: Slot<'_>) -> Option<Head> {
        let words = &slot[HEADER..];
        if head.kind == kind::MOVE {
            self.peers[cluster].arrival = match self.take_state(head, words) {
                Ok(arrival) => arrival,
                Err(refusal) => Arrival { refusal, ..Arrival::NONE },
            };
            return None;
        }
        let arrival = self.peers[cluster].arrival;
        if arrival.slot != NONE {
            self.take_part(arrival.slot, head, words);
        }
        if head.argument & LAST == 0 {
            return None;
        }
        self.peers[cluster].arrival = Arrival::NONE;
        if arrival.slot == NONE {
            return Some(head.answer(kind::REFUSED, arrival.refusal.code()));
        }
        self.arrived(arrival.slot, arrival.traits, arrival.from, arrival.timeout, arrival.window);
        Some(head.answer(kind::ARRIVED, 0))
    }

    fn take_state(&mut self, head: Head, words: &[AtomicU64]) -> Result<Arrival, Error> {
        let word = |i: usize| words[i].load(Relaxed);
        let (place, id) = (word(PLACE), head.sender);
        let to = Destination {
            space: SpaceId(word(SPACE)),
            cpu: (place >> 32) as u16,
            pager: ThreadId(word(PAGER)),
            handler: ThreadId(word(HANDLER)),
        };
        let t = self.admit(id, to, (place >> 16) as u16, place as u8)?;
        let cold = &mut self.cold[t as usize];
        (cold.slice, cold.slice_left, cold.moves) = (word(SLICE), 0, word(MOVES) as u32);
        let thread = &mut self.threads[t as usize];
        thread.context.x.iter_mut().zip(words).for_each(|(x, word)| *x = word.load(Relaxed));
        (thread.context.sp, thread.context.pc, thread.context.pstate) = (word(31), word(32), word(33));
        (thread.tls, thread.notified) = (word(TLS), word(NOTIFIED));
        let (from, timeout, window) = (ThreadId(word(FROM)), word(TIMEOUT), word(WINDOW));
        Ok(Arrival { slot: t, refusal: Error::Refused, traits: head.argument, from, timeout, window })
    }

    fn take_part(&mut self, t: u32, head: Head, words: &[AtomicU64]) {
        if head.kind == kind::MOVE_UTCB {
            let first = UTCB_MR0 + (head.argument & 1) as usize * HALF;
            let utcb = self.utcb(t);
            self.hal.copy_words(&words[..HALF], &utcb[first..first + HALF]);
            return;
        }
        let fp = &mut self.threads[t as usize].fp;
        for (pair, q) in words.chunks_exact(2).zip(&mut fp.q) {
            *q = u128::from(pair[0].load(Relaxed)) | u128::from(pair[1].load(Relaxed)) << 64;
        }
        (fp.fpcr, fp.fpsr) = (words[64].load(Relaxed), words[65].load(Relaxed));
    }

    /// An answer to a moving thread's request.
    pub(super) fn take_journey_answer(&mut self, head: Head) {
        let found = self.find(head.sender).filter(|&t| {
            let thread = &self.threads[t as usize];
            thread.state == State::Moving && thread.remote.seq == head.seq
        });
        if let Some(t) = found {
            self.leave_peer(t);
            self.moved(t, (head.kind == kind::REFUSED).then(|| Error::from_code(head.argument)));
        }
    }

    /// The cluster that a moving or dead thread needs an answer of is down.
    pub(super) fn lose_journey(&mut self, t: u32) {
        match self.threads[t as usize].remote.request {
            Request::Move => self.moved(t, Some(Error::NodeDown)),
            Request::Located => self.moved(t, None),
            _ => self.free_slot(t),
        }
    }

    /// The partner of a waiting thread of ours is in another cluster: tries again there.
    pub(super) fn follow(&mut self, t: u32, partner: ThreadId, cluster: u16, in_receive: bool) {
        if partner.cluster() != self.cluster {
            self.hints.set(partner, cluster);
        }
        self.leave_peer(t);
        match self.threads[t as usize].remote.ending {
            Ending::None if in_receive => self.receive_phase(t),
            Ending::None => self.start_ipc(t),
            ending => self.end_wait(t, ending, in_receive),
        }
    }

    /// Tells the cluster of a guest that waits for a thread which has moved where it is now.
    pub(crate) fn redirect(&mut self, guest: u32, to: u16, in_receive: bool) {
        let entry = self.guests.get_mut(guest);
        entry.stay = Stay::Redirected { to, in_receive };
        let cluster = usize::from(entry.at);
        self.queue_guest(cluster, guest);
    }

    /// What a redirection says.
    pub(super) fn redirection(to: u16, in_receive: bool) -> u64 {
        u64::from(to) | if in_receive { IN_RECEIVE } else { 0 }
    }

    /// Deletes a thread that is in another cluster. Nothing is done for lack of memory, as if the call had come later.
    pub(crate) fn kill_remote(&mut self, id: ThreadId, cluster: usize) {
        self.forward(id, cluster, Stay::Killed);
    }

    /// Sends notification bits after a thread that has moved.
    pub(crate) fn notify_after(&mut self, id: ThreadId, cluster: usize, bits: u64) {
        self.forward(id, cluster, Stay::Notes { bits, rights: super::GRANTED });
    }

    pub(super) fn forward(&mut self, id: ThreadId, cluster: usize, stay: Stay) {
        if let Ok(guest) = self.guests.add(id, cluster as u16, 0, stay) {
            self.queue_guest(cluster, guest);
        }
    }

    /// A request to delete a thread, which may have moved on.
    pub(super) fn take_kill(&mut self, id: ThreadId) {
        if let Some(t) = self.find(id) {
            // Refused is only the first root thread, which never moves.
            _ = self.delete_thread(t);
        } else if let Some(cluster) = self.elsewhere(id) {
            self.kill_remote(id, cluster);
        }
    }
}
