//! Rings in memory that is not coherent between the clusters (boot option `rings=maintained`): explicit cache maintenance.
//!
//! What one cluster writes, another one sees after the writer has cleaned the line to the point of coherency, and the reader has
//! invalidated it. No line has two writers ([`crate::ring`]), so an invalidation never loses anything.
//! - The producer cleans a packet, then stores the tail, then cleans that, then interrupts.
//! - The consumer is interrupted, invalidates the tails of everybody, sees one that has changed, then invalidates the packet, then reads it.
//! - Slots go back the same way, without the interrupt. Who waits for room says so, cleaned, and *then* invalidates the other side's heads
//!   and looks again; the other side cleans its heads and *then* invalidates the wish, and looks at it. So one of them sees the other.
//! - A line that was invalidated may come back into the cache at any time, so what was read last may be newer than what was read before, and
//!   something read a second time newer than the first time. Whoever looks at two lines whose order matters invalidates the second one
//!   after it has read the first one ([`crate::ring::Ring::room`]).
//!
//! What a CPU of the cluster itself interrupts for is another interrupt ([`crate::kernel::Event::OwnKick`]): it costs no look around.
//!
//! The short ways between clusters are closed in this mode, by conditions that they have anyway.

use super::{Head, KIND, TAG, kind};
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::ring::{HEADER, Lane, Ring, SLOT_WORDS, Slot};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::boot;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{Counter, Tag};
use skerry_trace::Event;

/// What memory the rings are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingMode {
    /// Coherent between the clusters.
    Coherent,
    /// Kept up by cleaning and invalidating.
    Maintained,
}

/// What is maintained, and when: for tests that leave out one at a time, on the host and with the boot option `mutate=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Upkeep {
    /// Cleaned: a packet, before it is published.
    Packet,
    /// The producer's line, after that.
    Published,
    /// The consumer's line, after slots were given back.
    GivenBack,
    /// The producer's line, when it wants room or does not any more.
    Wish,
    /// The producer's line, when its cluster stops.
    Down,
    /// Invalidated: the producer's line, when something may have come.
    Look,
    /// The header of a packet,
    Header,
    /// and what is behind it.
    Body,
    /// The consumer's line, to find room for a request,
    Heads,
    /// then the line of the answers' producer.
    Answers,
    /// The consumer's line, to find room for a response.
    ResponseHeads,
    /// The producer's line, to see whether it waits for the room that was made.
    IsWanted,
}

impl Upkeep {
    /// All of them, in the order of [`boot::UPKEEP`].
    pub(crate) const ALL: [Self; boot::UPKEEP.len()] = [
        Self::Packet,
        Self::Published,
        Self::GivenBack,
        Self::Wish,
        Self::Down,
        Self::Look,
        Self::Header,
        Self::Body,
        Self::Heads,
        Self::Answers,
        Self::ResponseHeads,
        Self::IsWanted,
    ];
}

/// What an operation costs, in units of [`skerry_mapping_db::Budget`].
const UPKEEP: u32 = 6;

/// How many words of a packet are used.
fn extent(slot: Slot<'_>) -> usize {
    match slot[KIND].load(Relaxed) & 0xffff_ffff {
        kind::SEND | kind::REPLY | kind::DATA => {
            HEADER + Tag(slot[TAG].load(Relaxed)).words().max(REGISTER_WORDS)
        }
        kind::MOVE | kind::MOVE_UTCB | kind::MOVE_FP => SLOT_WORDS,
        _ => HEADER,
    }
}

impl<'a, H: Hal> Kernel<'a, H> {
    /// Whether the rings' memory is not coherent.
    #[inline(always)]
    pub(super) fn is_maintained(&self) -> bool {
        self.ring_mode == RingMode::Maintained
    }

    fn clean(&mut self, what: Upkeep, words: &[AtomicU64]) {
        if !self.is_omitted(what) {
            let lines = self.hal.clean(words);
            self.note_upkeep(words, Counter::CacheCleans, lines);
        }
    }

    fn invalidate(&mut self, what: Upkeep, words: &[AtomicU64]) {
        if !self.is_omitted(what) {
            let lines = self.hal.invalidate(words);
            self.note_upkeep(words, Counter::CacheInvalidates, lines);
        }
    }

    fn note_upkeep(&mut self, words: &[AtomicU64], kind: Counter, lines: u64) {
        self.budget.charge(UPKEEP);
        self.counters.count(Counter::CacheMaintenance);
        self.counters.add(kind, lines);
        self.trace(|_| Event::CacheMaintenance {
            address: words.as_ptr().addr() as u64,
            bytes: size_of_val(words) as u64,
            invalidated: kind == Counter::CacheInvalidates,
        });
    }

    fn is_omitted(&self, what: Upkeep) -> bool {
        self.omitted == Some(what)
    }

    /// [`Kernel::publish_all`].
    #[cold]
    #[inline(never)]
    pub(super) fn publish_maintained(&mut self, cluster: usize, lane: Lane, slots: u64) {
        let (ring, doorbell) = (self.peers[cluster].outbound, self.peers[cluster].doorbell);
        let Some(ring) = ring else { return };
        for slot in ring.unpublished(lane, slots) {
            self.clean(Upkeep::Packet, &slot[..extent(slot)]);
        }
        ring.publish_all(lane, slots);
        self.clean(Upkeep::Published, ring.producer_line());
        self.hal.kick(doorbell);
    }

    /// Somebody has interrupted, nobody knows who: rings this cluster's own bells for all who have something for it, or may have room.
    #[cold]
    #[inline(never)]
    pub(crate) fn gather(&mut self) {
        for cluster in 0..self.peers.len() {
            let Some(ring) = self.peers[cluster].inbound else { continue };
            self.look_at(ring);
            let news = ring.front(Lane::Requests).is_some() || ring.front(Lane::Responses).is_some();
            let peer = &self.peers[cluster];
            if news || !peer.waiting.is_empty() || ring.is_down() && !peer.down {
                // The interrupt that brought us here is enough.
                _ = self.bells.ring(cluster);
            }
        }
    }

    /// Sees what has been published in a ring.
    pub(super) fn look_at(&mut self, ring: Ring<'a>) {
        self.invalidate(Upkeep::Look, ring.producer_line());
    }

    /// Sees a packet that is known to be published. Loads before it are over: nothing of it was read too early.
    #[cold]
    #[inline(never)]
    pub(super) fn fetch(&mut self, ring: Ring<'a>, lane: Lane, slot: Slot<'a>) {
        self.invalidate(Upkeep::Header, &slot[..HEADER]);
        let body = extent(slot);
        if body > HEADER {
            self.invalidate(Upkeep::Body, &slot[HEADER..body]);
        }
        if lane == Lane::Requests {
            for slot in ring.oldest(lane, Self::slots_of(&Head::read(slot))).skip(1) {
                self.invalidate(Upkeep::Body, slot);
            }
        }
    }

    /// The slots that were given back can be used again. Afterwards it is seen whether the producer waits for that.
    #[cold]
    #[inline(never)]
    pub(super) fn give_back_maintained(&mut self, cluster: usize) {
        if let Some(ring) = self.peers[cluster].inbound {
            self.clean(Upkeep::GivenBack, ring.consumer_line());
            self.invalidate(Upkeep::IsWanted, ring.producer_line());
        }
    }

    /// [`Kernel::room`].
    #[cold]
    #[inline(never)]
    pub(super) fn room_maintained(&mut self, cluster: usize) -> Option<Slot<'a>> {
        let peer = &self.peers[cluster];
        let (inbound, outbound, limit) = (peer.inbound?, peer.outbound?, peer.limit);
        self.invalidate(Upkeep::Heads, outbound.consumer_line());
        outbound.room(&inbound, limit, || self.invalidate(Upkeep::Answers, inbound.producer_line()))
    }

    /// How many slots of a cluster's ring are spoken for.
    #[cold]
    #[inline(never)]
    pub(super) fn spoken_for_maintained(&mut self, cluster: usize) -> Option<u64> {
        let peer = &self.peers[cluster];
        let (inbound, outbound) = (peer.inbound?, peer.outbound?);
        self.invalidate(Upkeep::Heads, outbound.consumer_line());
        Some(outbound.spoken_for(&inbound, || self.invalidate(Upkeep::Answers, inbound.producer_line())))
    }

    /// The slot for a response, if this cluster only has not seen that there is one.
    #[cold]
    #[inline(never)]
    pub(super) fn response_slot_maintained(&mut self, cluster: usize) -> Option<Slot<'a>> {
        let ring = self.peers[cluster].outbound.filter(|_| self.is_maintained())?;
        self.invalidate(Upkeep::ResponseHeads, ring.consumer_line());
        ring.reserve(Lane::Responses)
    }

    /// Says whether requests wait for room.
    #[cold]
    #[inline(never)]
    pub(super) fn want_room(&mut self, cluster: usize, wanted: bool) {
        self.peers[cluster].wants = wanted;
        if let Some(ring) = self.peers[cluster].outbound {
            ring.want(wanted);
            if self.is_maintained() {
                self.clean(Upkeep::Wish, ring.producer_line());
            }
        }
    }

    /// The other cluster sees that this one has stopped.
    pub(super) fn tell_down(&mut self, ring: Ring<'a>) {
        if self.is_maintained() {
            self.clean(Upkeep::Down, ring.producer_line());
        }
    }
}
