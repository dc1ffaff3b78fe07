//! The packets of a thread's move to another cluster ([`crate::migrate`]), and what follows from it.

use super::{Head, IN_RECEIVE, KIND, Place, Request, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::{Kernel, Peer, UTCB_MR0};
use crate::migrate::{Destination, Wait, trait_of};
use crate::remote::Ending;
use crate::ring::{HEADER, Lane, Ring, SLOT_WORDS, Slot};
use crate::thread::{Cold, Context, FP_WORDS, State, Tcb};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Error, SpaceId, ThreadId};

/// Slots of a move: state, UTCB in two parts, and the floating-point registers if it has used them.
const SLOTS: usize = 4;
/// Words of the UTCB in the first of its slots: as many as fit. The others are in the second.
const PART: usize = SLOT_WORDS - HEADER;

/// What it costs to take a thread, besides the packet.
const ARRIVAL: u32 = 80;

/// Words of the first slot: x0..x30, and
const SP: usize = HEADER + 31;
const PC: usize = SP + 1;
const PSTATE: usize = SP + 2;
const TLS: usize = SP + 3;
const PLACE: usize = SP + 4;
const SPACE: usize = SP + 5;
const PAGER: usize = SP + 6;
const HANDLER: usize = SP + 7;
const SLICE: usize = SP + 8;
const NOTIFIED: usize = SP + 9;
const MOVES: usize = SP + 10;
const FROM: usize = SP + 11;
const TIMEOUT: usize = SP + 12;
const WINDOW: usize = SP + 13;
/// Words of the floating-point registers in the last one, behind q0..q31.
const FPCR: usize = 64;
const FPSR: usize = 65;

/// The slot of a thread that has arrived, and its floating-point registers if it has used them.
type Taken<'r> = (u32, Option<&'r [AtomicU64; FP_WORDS]>);

/// The floating-point registers in the last slot: [`crate::thread::FpState`], as it lies in memory.
fn fp_words(slot: Slot<'_>) -> Option<&[AtomicU64; FP_WORDS]> {
    slot[HEADER..].first_chunk()
}

impl<H: Hal> Kernel<'_, H> {
    /// A moving thread needs another cluster's answer.
    pub(crate) fn travel(&mut self, t: u32, cluster: usize, request: Request) {
        let Self { threads, peers, .. } = self;
        let (thread, peer) = (&mut threads[t as usize], &peers[cluster]);
        let remote = &mut thread.remote;
        remote.seq = remote.seq.wrapping_add(1);
        (remote.peer, remote.request, remote.ending) = (cluster as u16, request, Ending::None);
        if request == Request::Move {
            let slots = Self::slots_of_move(thread.fp_used);
            if peer.waiting.is_empty() && !peer.down && peer.bells.is_some() && Self::has_room_in(peer, slots)
            {
                (remote.place, thread.state) = (Place::Pending, State::Moving);
                return self.send_move(t, cluster);
            }
            // It may go when another CPU finds room.
            self.leave_cpu(t);
        }
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
                Self::slots_of_move(thread.fp_used)
            }
            _ => 1,
        }
    }

    fn slots_of_move(with_fp: bool) -> u64 {
        SLOTS as u64 - if with_fp { 0 } else { 1 }
    }

    /// Slots that a packet takes.
    pub(super) fn slots_of(head: &Head) -> u64 {
        match head.kind {
            kind::MOVE => Self::slots_of_move(head.argument & trait_of::FP != 0),
            _ => 1,
        }
    }

    /// Whether requests of that many slots can be sent now.
    pub(super) fn has_room(&mut self, cluster: usize, slots: u64) -> bool {
        if self.is_maintained() {
            let limit = self.peers[cluster].limit;
            return self.spoken_for_maintained(cluster).is_some_and(|used| Self::fits(used, slots, limit));
        }
        Self::has_room_in(&self.peers[cluster], slots)
    }
    /// The same for rings in coherent memory.
    pub(super) fn has_room_in(peer: &Peer<'_>, slots: u64) -> bool {
        let (Some(inbound), Some(outbound)) = (peer.inbound, peer.outbound) else { return false };
        Self::fits(outbound.spoken_for(&inbound, || {}), slots, peer.limit)
    }
    fn fits(used: u64, slots: u64, limit: u64) -> bool {
        // A limit below a move's slots is a test's: the lane itself always has room for them.
        used + slots.min(limit.max(1)) <= limit
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
            Request::Pass => return self.send_follower(t, cluster),
            _ => {
                self.send_short(cluster, head(kind::ENDED, 0));
                return self.free_slot(t);
            }
        }
        self.enter_queue(t, Place::Pending, State::Moving);
    }

    /// Sends a request about a thread that nobody waits for, and that fits into the header or has its tag there already; there is room.
    pub(super) fn send_note(&mut self, cluster: usize, kind: u64, about: ThreadId, argument: u64) {
        self.send_short(cluster, Head { kind, seq: 0, sender: about, receiver: ThreadId::NIL, argument });
    }

    fn send_short(&mut self, cluster: usize, head: Head) {
        if let Some(slot) = self.next_slot(cluster) {
            head.write(slot);
            self.publish(cluster, Lane::Requests);
        }
    }

    fn send_move(&mut self, t: u32, cluster: usize) {
        let Some(ring) = self.peers[cluster].outbound else { return };
        let traits = self.traits_of(t);
        let [state, utcb, rest, last]: [_; SLOTS] = ring.reserve_all(Lane::Requests);
        let Self { threads, cold, hal, utcbs, .. } = self;
        let (thread, cold) = (&mut threads[t as usize], &mut cold[t as usize]);
        // First the floating-point registers: then the unit is free, and copies are quicker.
        if let Some(packet) = fp_words(last).filter(|_| traits & trait_of::FP != 0) {
            last[KIND].store(kind::MOVE_FP, Relaxed);
            if core::mem::take(&mut thread.fp_live) {
                hal.send_fp(&mut thread.fp, packet);
            } else {
                hal.copy_out(thread.fp.q.as_flattened(), packet);
                packet[FPCR].store(thread.fp.fpcr, Relaxed);
                packet[FPSR].store(thread.fp.fpsr, Relaxed);
            }
        }
        Self::write_state(hal, thread, cold, traits, state);
        let words = thread.utcb(utcbs)[UTCB_MR0..].split_at(PART);
        for (slot, words) in [(utcb, words.0), (rest, words.1)] {
            slot[KIND].store(kind::MOVE_UTCB, Relaxed);
            hal.copy_words(words, &slot[HEADER..]);
        }
        self.publish_all(cluster, Lane::Requests, Self::slots_of_move(traits & trait_of::FP != 0));
    }

    fn write_state(hal: &mut H, thread: &mut Tcb, cold: &mut Cold, traits: u64, slot: Slot<'_>) {
        let (sender, receiver) = (thread.id, ThreadId::NIL);
        Head { kind: kind::MOVE, seq: thread.remote.seq, sender, receiver, argument: traits }.write(slot);
        let Context { x, sp, pc, pstate } = &thread.context;
        hal.copy_out(x, &slot[HEADER..]);
        let put = |index: usize, word: u64| slot[index].store(word, Relaxed);
        put(SP, *sp);
        put(PC, *pc);
        put(PSTATE, *pstate);
        put(TLS, thread.tls);
        let place = u64::from(thread.priority) | u64::from(thread.utcb_slot) << 16;
        put(PLACE, place | u64::from(cold.to.cpu) << 32);
        put(SPACE, cold.to.space.0);
        put(PAGER, cold.to.pager.0);
        put(HANDLER, cold.to.handler.0);
        put(SLICE, cold.slice);
        cold.notes = core::mem::take(&mut thread.notified);
        put(NOTIFIED, cold.notes);
        put(MOVES, u64::from(cold.moves) + 1);
        if traits & trait_of::RECEIVES != 0 {
            put(FROM, thread.op.from.0);
            put(TIMEOUT, thread.op.receive_timeout.0);
            put(WINDOW, thread.op.window.word());
        }
    }

    /// A thread comes to this cluster. Returns what its old one is told.
    pub(super) fn take_move(&mut self, ring: Ring<'_>, head: Head, slot: Slot<'_>) -> Head {
        self.budget.charge(ARRIVAL);
        match self.take_state(ring, head, slot) {
            Ok((t, fp)) => {
                if let Some(packet) = fp {
                    self.take_fp(t, packet);
                }
                let word = |index: usize| slot[index].load(Relaxed);
                // (Of a thread that receives; else nobody looks.)
                let wait = Wait { from: ThreadId(word(FROM)), timeout: word(TIMEOUT), window: word(WINDOW) };
                self.arrived(t, head.argument, wait);
                head.answer(kind::ARRIVED, 0)
            }
            Err(refusal) => head.answer(kind::REFUSED, refusal.code()),
        }
    }

    /// Takes all but the floating-point registers, and says where they are.
    fn take_state<'r>(&mut self, ring: Ring<'r>, head: Head, slot: Slot<'_>) -> Result<Taken<'r>, Error> {
        let word = |index: usize| slot[index].load(Relaxed);
        let place = word(PLACE);
        let to = Destination {
            space: SpaceId(word(SPACE)),
            cpu: (place >> 32) as u16,
            pager: ThreadId(word(PAGER)),
            handler: ThreadId(word(HANDLER)),
        };
        let t = self.admit(head.sender, to, head.argument, (place >> 16) as u16, place as u8)?;
        let Self { threads, cold, hal, utcbs, .. } = self;
        let (thread, cold) = (&mut threads[t as usize], &mut cold[t as usize]);
        // Its operations are numbered on, so that no old packet is taken for one of the present one.
        thread.remote.seq = head.seq;
        (cold.slice, cold.slice_left, cold.moves) = (word(SLICE), 0, word(MOVES) as u32);
        let context = &mut thread.context;
        hal.copy_in(&slot[HEADER..], &mut context.x);
        (context.sp, context.pc, context.pstate) = (word(SP), word(PC), word(PSTATE));
        (thread.tls, thread.notified) = (word(TLS), word(NOTIFIED));
        let [_, utcb, rest, last]: [_; SLOTS] = ring.front_all(Lane::Requests);
        let words = thread.utcb(utcbs)[UTCB_MR0..].split_at(PART);
        for (slot, words) in [(utcb, words.0), (rest, words.1)] {
            hal.copy_words(&slot[HEADER..], words);
        }
        thread.fp_used = head.argument & trait_of::FP != 0;
        let packet = fp_words(last).filter(|_| thread.fp_used);
        Ok((t, packet))
    }

    fn take_fp(&mut self, t: u32, packet: &[AtomicU64; FP_WORDS]) {
        let fp = &mut self.threads[t as usize].fp;
        self.hal.copy_in(packet, fp.q.as_flattened_mut());
        (fp.fpcr, fp.fpsr) = (packet[FPCR].load(Relaxed), packet[FPSR].load(Relaxed));
    }

    /// Loads the unit for a thread that runs here next, if nobody needs what is there.
    fn load_fp(&mut self, t: u32, packet: &[AtomicU64; FP_WORDS]) {
        if !self.hal.fp_owner().is_nil() {
            return self.take_fp(t, packet);
        }
        let thread = &mut self.threads[t as usize];
        thread.fp_live = true;
        self.hal.take_fp(thread.id, packet);
    }

    /// A thread comes that only wants to run, on this CPU, which has nothing to do: it runs now. `None`: it is not as simple as that, and
    /// nothing has happened.
    pub(super) fn fast_arrive(
        &mut self,
        cluster: usize,
        ring: Ring<'_>,
        slot: Slot<'_>,
    ) -> Option<(u32, u64)> {
        let head = Head::read(slot);
        let here = slot[PLACE].load(Relaxed) >> 32 == u64::from(self.this_cpu);
        if !here || head.argument as u32 & !(trait_of::FP as u32) != 0 {
            return None;
        }
        // A thread that is refused is no simple case.
        let (t, fp) = self.take_state(ring, head, slot).ok()?;
        if let Some(packet) = fp {
            self.load_fp(t, packet);
        }
        self.respond(cluster, head.answer(kind::ARRIVED, 0));
        self.begin_run(t);
        Some((t, Self::slots_of(&head)))
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
            Request::Pass => self.pass(t),
            _ => self.free_slot(t),
        }
    }

    /// The partner of a waiting thread of ours is in another cluster: tries again there.
    pub(super) fn follow(&mut self, t: u32, partner: ThreadId, cluster: u16, in_receive: bool) {
        if partner.cluster() != self.cluster && cluster != self.cluster {
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
}
