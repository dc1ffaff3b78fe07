//! IPC between clusters: the same phases, as packets over the rings.
//!
//! | request | response | meaning |
//! |---|---|---|
//! | `Send` (message) | `Delivered`, `Failed`, or none | none: the receiver took a *call* and owes a reply, or it is busy and keeps the sender's *name*; the message stays with the sender |
//! | `Pull` | `Data` (message) or `Gone` | the receiver is ready for a queued sender |
//! | `Reply` (message) | none | the answer to a call: it uses the reply right up, so it cannot fail |
//! | `Bounce` | none | a queued send or a call will never be answered: the receiver, or the last thread of its space, is gone |
//! | `Watch` | `Watched` or `Failed` | a receive from one thread of this cluster only; it is told when that thread ends |
//! | `Cancel` | `Cancelled`, `Delivered`, `Waiting` or `Late` | the sender's time is over, or it is to be deleted |
//! | `Notify` | none, or `MissedNotes` | notification bits; they come back if the thread has moved on |
//! | `Move` (several slots) | `Arrived` or `Refused` | a thread comes: [`crate::migrate`] |
//! | `Located` | `Noted` | to its birth cluster: where a thread is now |
//! | `Ended` | none | to its birth cluster: a thread is no more |
//! | `Kill` | none, or `MissedKill` | a thread is to be deleted; the same |
//! | `Redirect` | none | whom a queued send or a watch waits for has moved; as a response, `Moved`: try there |
//!
//! Every operation of a thread has a sequence number, so a packet that comes too late concerns nobody. A thread whose wait is to end
//! goes on only when the other cluster has said how: `Cancelled` (in which phase), or `Late`, which means that what ends
//! the wait is on its way already. So each message is delivered exactly once or not at all, and both sides agree which; and a
//! reply right that exists is good, so that a server answers without waiting for an acknowledgement.
//!
//! A request needs room in the ring ([`crate::ring`]); without it the *thread* (or [`crate::guests`] entry) on whose behalf it
//! goes out waits in [`crate::kernel::Peer::waiting`], never the kernel, and only for the other *kernel*. Who has sent
//! a request says so ([`Place::Pending`]): if the other cluster goes down, those threads are found and told.

mod answers;
mod cancel;
mod catch_up;
mod down;
mod fast;
mod journey;
mod notes;
mod outgoing;
mod passing;
mod requests;
mod upkeep;

pub use cancel::Ending;
pub use catch_up::Behind;
#[cfg(test)]
pub(crate) use outgoing::MAX_NOTES;
pub use upkeep::RingMode;
pub(crate) use upkeep::Upkeep;

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::ring::{BELL_WORDS, Lane, Slot};
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Counter, ThreadId};

/// Kinds of packets.
pub(crate) mod kind {
    pub(crate) const SEND: u64 = 1;
    pub(crate) const PULL: u64 = 2;
    pub(crate) const REPLY: u64 = 3;
    pub(crate) const BOUNCE: u64 = 4;
    pub(crate) const WATCH: u64 = 5;
    pub(crate) const CANCEL: u64 = 6;
    pub(crate) const NOTIFY: u64 = 7;
    pub(crate) const MOVE: u64 = 8;
    // In the slots that follow it.
    pub(crate) const MOVE_UTCB: u64 = 9;
    pub(crate) const MOVE_FP: u64 = 10;
    pub(crate) const LOCATED: u64 = 11;
    pub(crate) const ENDED: u64 = 12;
    pub(crate) const KILL: u64 = 13;
    pub(crate) const REDIRECT: u64 = 14;
    pub(crate) const DELIVERED: u64 = 16;
    pub(crate) const FAILED: u64 = 17;
    pub(crate) const DATA: u64 = 18;
    pub(crate) const GONE: u64 = 19;
    pub(crate) const CANCELLED: u64 = 20;
    pub(crate) const WAITING: u64 = 21;
    pub(crate) const LATE: u64 = 22;
    pub(crate) const WATCHED: u64 = 23;
    pub(crate) const ARRIVED: u64 = 24;
    pub(crate) const REFUSED: u64 = 25;
    pub(crate) const NOTED: u64 = 26;
    pub(crate) const MOVED: u64 = 27;
    pub(crate) const MISSED_NOTES: u64 = 28;
    pub(crate) const MISSED_KILL: u64 = 29;
}

/// Words of a packet's header: the kind in the low half, the sequence number in the high half;
pub(crate) const KIND: usize = 0;
/// the thread whose operation it is;
const SENDER: usize = 1;
/// its partner;
const RECEIVER: usize = 2;
/// with a message: the sender's domain and the flags below; else what the kind needs;
const ARGUMENT: usize = 3;
/// with a message: its tag.
pub(crate) const TAG: usize = 4;

/// The sender may send to this receiver by its own cluster's word.
const GRANTED: u64 = 1 << 32;
/// The sender does not wait for the receiver.
const POLL: u64 = 1 << 33;
/// The sender waits for an answer.
const CALL: u64 = 1 << 34;
/// `Cancel`: the send phase, the receive phase. `Bounce`, `Cancelled`: the phase that failed was the receive phase. `Delivered`: the
/// receiver watched the sender, and does not any more.
const IN_SEND: u64 = 1 << 35;
const IN_RECEIVE: u64 = 1 << 36;

/// What it costs to handle a packet, in units of [`skerry_mapping_db::Budget`]; and to send one that has waited.
const PACKET: u32 = 40;

/// What a thread asks another cluster for as soon as there is room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum Request {
    /// To take its message.
    Send,
    /// For the message of the guest with this index.
    Pull(u32),
    /// To take its answer.
    Reply,
    /// To say when the thread it receives from ends. Until that is agreed it takes no message, or the watch would outlive its wait.
    Watch,
    /// The same, agreed.
    Watching,
    /// To end its wait.
    Cancel,
    /// To take the thread itself.
    Move,
    /// To note where it has gone.
    Located,
    /// To note that it has ended.
    Ended,
    /// To take what came for the thread when it had left, or was about to.
    Pass,
}

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum Place {
    /// For no other cluster.
    Nowhere,
    /// For room, in [`crate::kernel::Peer::waiting`].
    Waiting,
    /// For an answer, of the other kernel or of a thread there.
    Pending,
}

/// The part of a thread's state that concerns another cluster.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Remote {
    /// Number of its present operation.
    pub seq: u32,
    /// The cluster it waits for.
    pub peer: u16,
    /// What for.
    pub place: Place,
    /// What it asks there.
    pub request: Request,
    /// How its wait is to end, if the other cluster agrees.
    pub ending: Ending,
    /// Its send phase is over.
    pub delivered: bool,
}

impl Remote {
    /// Of a thread that never talked to another cluster.
    pub const NONE: Self = Self {
        seq: 0,
        peer: 0,
        place: Place::Nowhere,
        request: Request::Send,
        ending: Ending::None,
        delivered: false,
    };
}

/// The header of a packet as it was read.
#[derive(Clone, Copy)]
struct Head {
    kind: u64,
    seq: u32,
    sender: ThreadId,
    receiver: ThreadId,
    argument: u64,
}

impl Head {
    fn read(slot: Slot<'_>) -> Self {
        let word = |i: usize| slot[i].load(Relaxed);
        let kind = word(KIND);
        Self {
            kind: kind & 0xffff_ffff,
            seq: (kind >> 32) as u32,
            sender: ThreadId(word(SENDER)),
            receiver: ThreadId(word(RECEIVER)),
            argument: word(ARGUMENT),
        }
    }
    fn write(self, slot: Slot<'_>) {
        slot[KIND].store(self.kind | u64::from(self.seq) << 32, Relaxed);
        slot[SENDER].store(self.sender.0, Relaxed);
        slot[RECEIVER].store(self.receiver.0, Relaxed);
        slot[ARGUMENT].store(self.argument, Relaxed);
    }
    /// The answer to this request.
    fn answer(self, kind: u64, argument: u64) -> Self {
        Self { kind, argument, ..self }
    }
}

impl<'a, H: Hal> Kernel<'a, H> {
    /// The slot for a request to a cluster, together with that of its response; `None`: no room.
    fn room(&mut self, cluster: usize) -> Option<Slot<'a>> {
        if self.is_maintained() {
            return self.room_maintained(cluster);
        }
        let peer = &self.peers[cluster];
        peer.outbound?.room(&peer.inbound?, peer.limit, || {})
    }

    /// The slot of a request that has room: the caller has looked ([`Kernel::room`], [`Kernel::has_room`]), and sent nothing since. To
    /// look again would be a mistake: a request counts twice while the other cluster answers it (see "Room" in [`crate::ring`]).
    fn next_slot(&self, cluster: usize) -> Option<Slot<'a>> {
        let [slot] = self.peers[cluster].outbound?.reserve_all(Lane::Requests);
        Some(slot)
    }

    /// [`Kernel::room`], if the request need not wait behind others.
    fn free_way(&mut self, cluster: usize) -> Option<Slot<'a>> {
        let peer = &self.peers[cluster];
        if !peer.waiting.is_empty() || peer.down { None } else { self.room(cluster) }
    }

    /// Whether requests to a cluster have to wait.
    #[cfg(test)]
    pub(crate) fn is_full(&self, cluster: usize) -> bool {
        let needed = self.peers[cluster].waiting.head().map_or(1, |index| self.room_for(index));
        !Self::has_room_in(&self.peers[cluster], needed)
    }

    /// Sends a request whose room was found before.
    #[cfg(test)]
    pub(crate) fn send_kill(&mut self, cluster: usize, id: ThreadId) {
        self.send_note(cluster, kind::KILL, id, 0);
    }

    /// The packet in the slot that was reserved last is complete.
    fn publish(&mut self, cluster: usize, lane: Lane) {
        self.publish_all(cluster, lane, 1);
    }

    /// The packet in the slots from the one that was reserved last on is complete.
    fn publish_all(&mut self, cluster: usize, lane: Lane, slots: u64) {
        let peer = &self.peers[cluster];
        let (Some(ring), Some(bells)) = (peer.outbound, peer.bells) else {
            return self.publish_maintained(cluster, lane, slots);
        };
        ring.publish_all(lane, slots);
        if bells.ring(usize::from(self.cluster)) {
            self.hal.kick(peer.doorbell);
        }
    }

    /// Makes another cluster look at its rings.
    fn ring(&mut self, cluster: usize) {
        let peer = &self.peers[cluster];
        if peer.bells.map_or(self.is_maintained(), |bells| bells.ring(usize::from(self.cluster))) {
            self.hal.kick(peer.doorbell);
        }
    }

    /// Handles what has arrived from other clusters, as much as a kernel entry may do. The rest follows in another one, which comes at once,
    /// and begins with the next cluster: so everybody has a turn.
    pub fn poll_rings(&mut self) {
        if self.turn != 0 && !self.poll_in_turn() {
            return;
        }
        let clusters = self.peers.len();
        for word in 0..clusters.div_ceil(64).min(BELL_WORDS) {
            let mut bells = self.bells.take(word);
            while bells != 0 {
                let cluster = word * 64 + bells.trailing_zeros() as usize;
                if cluster < clusters && !self.poll_peer(cluster) {
                    return self.poll_later(cluster, bells);
                }
                bells &= bells - 1;
            }
        }
    }

    /// Goes on with what is known to have arrived.
    #[cold]
    pub(crate) fn poll_on(&mut self) {
        self.knows_bells = true;
        self.poll_rings();
        self.knows_bells = false;
    }

    /// The beginning of that, if something is special: rings that are not coherent, or clusters whose turn it is. `false`: it was too much.
    #[cold]
    fn poll_in_turn(&mut self) -> bool {
        if self.chores.is_pending() {
            // Packets that never end leave nothing of any entry for these; behind them comes one packet at least, which they leave room for.
            self.budget.reduce(2 * PACKET);
            self.work();
        }
        let (turn, clusters) = (self.turn, self.peers.len());
        self.turn = 0;
        if self.is_maintained() {
            if !self.knows_bells {
                self.gather();
            }
            self.turn = clusters;
        }
        for word in turn / 64..clusters.div_ceil(64).min(BELL_WORDS) {
            let mut bells = self.bells.take(word);
            while bells != 0 {
                let cluster = word * 64 + bells.trailing_zeros() as usize;
                if cluster < turn {
                    // All have their turn after these.
                    self.bells.give_back(word, bells & bells.wrapping_neg());
                } else if cluster < clusters && !self.poll_peer(cluster) {
                    self.poll_later(cluster, bells);
                    return false;
                }
                bells &= bells - 1;
            }
        }
        true
    }

    /// Goes on with these bells, of this cluster and those behind it, in another kernel entry.
    #[cold]
    fn poll_later(&mut self, cluster: usize, bells: u64) {
        self.turn = cluster + 1;
        self.bells.give_back(cluster / 64, bells);
        self.counters.count(Counter::PreemptionPoints);
        self.hal.kick(self.this_cpu);
    }

    /// Handles the packets of one cluster. `false`: there may be more.
    fn poll_peer(&mut self, cluster: usize) -> bool {
        let mut goes_on = true;
        while goes_on && self.poll_one(cluster) {
            goes_on = self.budget.take(PACKET);
        }
        self.polled(cluster);
        goes_on && !self.is_behind(cluster)
    }

    /// What has to be done after packets were handled.
    pub(crate) fn polled(&mut self, cluster: usize) {
        if self.is_maintained() {
            self.give_back_maintained(cluster);
        }
        if self.peers[cluster].inbound.is_some_and(|ring| ring.is_wanted()) {
            // It waits for the room that we have just made.
            self.ring(cluster);
        }
        self.pump(cluster);
        if self.peers[cluster].inbound.is_some_and(|ring| ring.is_down()) {
            self.see_off(cluster);
        }
    }

    /// Handles the oldest packet from a cluster; `false` if there is none, or if it has to wait. Responses come first: see "Order" in
    /// [`crate::ring`].
    pub(crate) fn poll_one(&mut self, cluster: usize) -> bool {
        let Some(ring) = self.peers[cluster].inbound else { return false };
        let request = ring.front(Lane::Requests);
        if let Some(slot) = ring.front(Lane::Responses) {
            if self.is_maintained() {
                self.fetch(ring, Lane::Responses, slot);
            }
            self.take_response(cluster, slot);
            ring.release(Lane::Responses);
        } else if let Some(slot) = request {
            if self.is_maintained() {
                self.fetch(ring, Lane::Requests, slot);
            }
            let head = Head::read(slot);
            if !self.catch_up(cluster, ring, &head) {
                return false;
            }
            if let Some(answer) = self.take_request(cluster, head, slot) {
                self.respond(cluster, answer);
            }
            ring.release_all(Lane::Requests, Self::slots_of(&head));
        } else {
            return false;
        }
        true
    }

    #[inline(always)]
    fn respond(&mut self, cluster: usize, answer: Head) {
        let peer = &self.peers[cluster];
        if let (Some(ring), Some(bells)) = (peer.outbound, peer.bells)
            && let Some(slot) = ring.reserve(Lane::Responses)
        {
            answer.write(slot);
            ring.publish(Lane::Responses);
            if bells.ring(usize::from(self.cluster)) {
                self.hal.kick(peer.doorbell);
            }
        } else {
            self.respond_maintained(cluster, answer);
        }
    }

    /// The same if rings are not coherent.
    #[cold]
    #[inline(never)]
    fn respond_maintained(&mut self, cluster: usize, answer: Head) {
        if let Some(slot) = self.response_slot(cluster) {
            answer.write(slot);
            self.publish(cluster, Lane::Responses);
        }
    }

    fn response_slot(&mut self, cluster: usize) -> Option<Slot<'a>> {
        let slot = self.peers[cluster].outbound?.reserve(Lane::Responses);
        slot.or_else(|| self.response_slot_maintained(cluster)).or_else(|| self.refuse_peer(cluster))
    }

    #[cold]
    fn refuse_peer(&mut self, cluster: usize) -> ! {
        let code = skerry_abi::syscall::exit::KERNEL_PANIC;
        self.hal.fatal(code, format_args!("cluster {cluster} has sent requests without room for responses"))
    }
}
