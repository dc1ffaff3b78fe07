//! The message rings between clusters: the only memory that two kernels share.
//!
//! One [`Ring`] per ordered pair of clusters, single producer, single consumer, in the receiver's kernel memory. It has two
//! lanes of [`SLOTS`] slots each: requests, and responses to the other side's requests. The producer publishes a slot by storing the
//! lane's tail (release), the consumer gives it back by storing the head (release); each side reads the other's index with
//! acquire (ARM ARM B2.3.12). Packets are written and read in place.
//!
//! **Room.** A request may be answered by at most one response, which the other side publishes *before* it gives the request's slot
//! back. So whoever sends a request only while its unconsumed requests and the responses it has not consumed are together
//! fewer than [`SLOTS`] has reserved the slot of the response with it: a response never waits for room, and full rings cannot
//! deadlock. Who finds no room says so ([`Ring::want`]); the consumer looks at that after it gave slots back. Between the two, one request counts
//! twice: the number of what is spoken for can rise though nobody has sent anything. So room is looked for once, and whoever has found
//! it sends without another look: nobody else can take it.
//!
//! **Long packets.** What does not fit into one slot takes several in a row, which are published, seen and given back together; each of
//! them counts as a request.
//!
//! **Order.** Packets of a lane arrive in order. A consumer that has seen a request, and then looks at the responses before it
//! handles the request, also sees every response that was published before that request.
//!
//! **Memory that is not coherent** (`rings=maintained`). Every cache line has one writer: what the producer writes lies apart from what the
//! consumer writes. The accesses are the same; [`crate::remote`], `upkeep`, cleans and invalidates around them. What one side has in its cache
//! of the other's lines may be old, and become newer at any time, so it is looked at in an order in which old news is harmless.
//!
//! **Doorbells.** Every cluster has a bitmap of those who have put something into its rings since it looked ([`Bells`]). Only whoever finds
//! it empty interrupts, so a burst is one interrupt, and nobody scans the rings of those who are silent. In memory that is not coherent
//! only the cluster itself touches it: there every packet is an interrupt, and whoever takes it looks at all rings.

use crate::sync::{AtomicU64, Ordering, fence};
use skerry_abi::boot::{MAX_CLUSTERS, RING_SIZE};
use skerry_abi::message::MAX_WORDS;

/// Slots of a lane.
pub const SLOTS: u64 = 16;
/// Words of a slot: header and message.
pub const SLOT_WORDS: usize = 80;
/// Words of a packet before those of the IPC message.
pub const HEADER: usize = 8;

/// What the producer writes and what the consumer writes start on cache lines of their own.
const TAIL: usize = 0;
const WANT: usize = 2;
const DOWN: usize = 3;
const HEAD: usize = 16;
const FIRST_SLOT: usize = 32;
/// Words of a ring.
pub const RING_WORDS: usize = FIRST_SLOT + 2 * SLOTS as usize * SLOT_WORDS;

/// Bytes of a cache line at most, for memory that is not coherent: the parts of a ring with different writers are so far apart.
pub const MAX_LINE: usize = 128;

const _: () = assert!(RING_WORDS * 8 <= RING_SIZE as usize);
const _: () = assert!((HEAD * 8).is_multiple_of(MAX_LINE) && (FIRST_SLOT * 8).is_multiple_of(MAX_LINE));
const _: () = assert!((SLOT_WORDS * 8).is_multiple_of(MAX_LINE));
const _: () = assert!(HEADER + MAX_WORDS <= SLOT_WORDS);

/// One of the two sequences of packets in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What the producer asks the consumer.
    Requests,
    /// Its answers to the consumer's requests.
    Responses,
}

/// The words of one packet, in place.
pub type Slot<'a> = &'a [AtomicU64; SLOT_WORDS];

/// One ordered pair.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    words: &'a [AtomicU64; RING_WORDS],
}

impl<'a> Ring<'a> {
    /// A view of a ring's memory; `None` if it is too short. Zeroed memory is an empty ring of a cluster that is not down.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        words.first_chunk().map(|words| Self { words })
    }

    fn slot(&self, lane: Lane, index: u64) -> Slot<'a> {
        let (slots, _) = self.words[FIRST_SLOT..].as_chunks();
        &slots[lane as usize * SLOTS as usize + (index % SLOTS) as usize]
    }

    /// How many packets of a lane are published and not given back.
    pub fn unconsumed(&self, lane: Lane) -> u64 {
        let tail = self.words[TAIL + lane as usize].load(Ordering::Acquire);
        tail.wrapping_sub(self.words[HEAD + lane as usize].load(Ordering::Acquire))
    }
    /// Producer: the slot to fill next; `None` if the lane is full.
    pub fn reserve(&self, lane: Lane) -> Option<Slot<'a>> {
        let tail = self.words[TAIL + lane as usize].load(Ordering::Relaxed);
        let head = self.words[HEAD + lane as usize].load(Ordering::Acquire);
        (tail.wrapping_sub(head) < SLOTS).then(|| self.slot(lane, tail))
    }
    /// Producer: the slots for a packet that takes several. The caller has found that so many are free.
    pub fn reserve_all<const N: usize>(&self, lane: Lane) -> [Slot<'a>; N] {
        let tail = self.words[TAIL + lane as usize].load(Ordering::Relaxed);
        core::array::from_fn(|index| self.slot(lane, tail.wrapping_add(index as u64)))
    }
    /// Producer: the slot that [`Ring::reserve`] gave is filled.
    pub fn publish(&self, lane: Lane) {
        self.publish_all(lane, 1);
    }
    /// Producer: the slots of a packet are filled. The consumer sees all of them or none.
    pub fn publish_all(&self, lane: Lane, slots: u64) {
        let tail = &self.words[TAIL + lane as usize];
        tail.store(tail.load(Ordering::Relaxed).wrapping_add(slots), Ordering::Release);
    }
    /// Producer, and consumer of the `answers` to what it sends: the slot for a request, if fewer than `limit` slots are spoken for. See
    /// "Room". What the answers' producer has written must be looked for after `turn`, if memory is not coherent.
    #[inline(always)]
    pub fn room(&self, answers: &Ring<'_>, limit: u64, turn: impl FnOnce()) -> Option<Slot<'a>> {
        let tail = self.words[TAIL].load(Ordering::Relaxed);
        (self.spoken_for(answers, turn) < limit).then(|| self.slot(Lane::Requests, tail))
    }
    /// The same: how many slots are spoken for.
    #[inline(always)]
    pub fn spoken_for(&self, answers: &Ring<'_>, turn: impl FnOnce()) -> u64 {
        let tail = self.words[TAIL].load(Ordering::Relaxed);
        // A request's slot comes back after its response was published, so who sees the one also sees the other.
        let requests = tail.wrapping_sub(self.words[HEAD].load(Ordering::Acquire));
        turn();
        let published = answers.words[TAIL + 1].load(Ordering::Relaxed);
        let responses = published.wrapping_sub(answers.words[HEAD + 1].load(Ordering::Relaxed));
        requests.wrapping_add(responses)
    }
    /// Producer: the slots that it publishes next.
    pub fn unpublished(self, lane: Lane, slots: u64) -> impl Iterator<Item = Slot<'a>> {
        let tail = self.words[TAIL + lane as usize].load(Ordering::Relaxed);
        (0..slots).map(move |n| self.slot(lane, tail.wrapping_add(n)))
    }
    /// Consumer: the slots that it gives back next.
    pub fn oldest(self, lane: Lane, slots: u64) -> impl Iterator<Item = Slot<'a>> {
        let head = self.words[HEAD + lane as usize].load(Ordering::Relaxed);
        (0..slots).map(move |n| self.slot(lane, head.wrapping_add(n)))
    }
    /// Consumer: the number of the oldest packet of a lane.
    pub fn first(&self, lane: Lane) -> u64 {
        self.words[HEAD + lane as usize].load(Ordering::Relaxed)
    }
    /// Consumer: the number of the packet that is published next.
    pub fn end(&self, lane: Lane) -> u64 {
        self.words[TAIL + lane as usize].load(Ordering::Acquire)
    }
    /// What the producer writes besides packets.
    pub fn producer_line(&self) -> &'a [AtomicU64] {
        &self.words[TAIL..=DOWN]
    }
    /// What the consumer writes.
    pub fn consumer_line(&self) -> &'a [AtomicU64] {
        &self.words[HEAD..HEAD + 2]
    }
    /// Consumer: the oldest request, if no response is to be handled before it (see "Order"), and how many slots of requests wait.
    #[inline]
    pub fn request(&self) -> Option<(Slot<'a>, u64)> {
        let head = self.words[HEAD].load(Ordering::Relaxed);
        let waiting = self.words[TAIL].load(Ordering::Acquire).wrapping_sub(head);
        let published = self.words[TAIL + 1].load(Ordering::Relaxed);
        let alone = published == self.words[HEAD + 1].load(Ordering::Relaxed);
        (waiting != 0 && alone).then(|| (self.slot(Lane::Requests, head), waiting))
    }
    /// Consumer: the oldest packet.
    pub fn front(&self, lane: Lane) -> Option<Slot<'a>> {
        let head = self.words[HEAD + lane as usize].load(Ordering::Relaxed);
        let tail = self.words[TAIL + lane as usize].load(Ordering::Acquire);
        (head != tail).then(|| self.slot(lane, head))
    }
    /// Consumer: the slots of the oldest packet, which takes several; [`Ring::front`] gave the first.
    pub fn front_all<const N: usize>(&self, lane: Lane) -> [Slot<'a>; N] {
        let head = self.words[HEAD + lane as usize].load(Ordering::Relaxed);
        core::array::from_fn(|index| self.slot(lane, head.wrapping_add(index as u64)))
    }
    /// Consumer: gives the oldest packet's slot back.
    pub fn release(&self, lane: Lane) {
        self.release_all(lane, 1);
    }
    /// Consumer: gives the slots of the oldest packet back.
    pub fn release_all(&self, lane: Lane, slots: u64) {
        let head = &self.words[HEAD + lane as usize];
        head.store(head.load(Ordering::Relaxed).wrapping_add(slots), Ordering::Release);
    }

    /// The packets of a lane that wait, oldest first.
    #[cfg(test)]
    pub(crate) fn waiting(self, lane: Lane) -> impl Iterator<Item = Slot<'a>> {
        let head = self.words[HEAD + lane as usize].load(Ordering::Relaxed);
        (0..self.unconsumed(lane)).map(move |n| self.slot(lane, head.wrapping_add(n)))
    }

    /// Producer: says whether requests wait for room. Then it must look for room again: the consumer may have looked before.
    pub fn want(&self, wanted: bool) {
        self.words[WANT].store(u64::from(wanted), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    /// Consumer, after giving slots back: whether the producer has to be told.
    pub fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.words[WANT].load(Ordering::Relaxed) != 0
    }
    /// Consumer, after giving slots back: whether the producer has to be told, or has stopped. For the latter it looks again, after it
    /// has seen the producer's bell.
    #[inline]
    pub fn is_special(&self) -> bool {
        fence(Ordering::SeqCst);
        (self.words[WANT].load(Ordering::Relaxed) | self.words[DOWN].load(Ordering::Relaxed)) != 0
    }
    /// Producer: its cluster does not run any more.
    pub fn set_down(&self) {
        self.words[DOWN].store(1, Ordering::Release);
    }
    /// Consumer: whether the producer's cluster has stopped.
    pub fn is_down(&self) -> bool {
        self.words[DOWN].load(Ordering::Acquire) != 0
    }
}

/// Words of a cluster's bells.
pub const BELL_WORDS: usize = MAX_CLUSTERS / 64;

/// Which clusters have something for this one.
#[derive(Clone, Copy)]
pub struct Bells<'a> {
    words: &'a [AtomicU64; BELL_WORDS],
}

impl<'a> Bells<'a> {
    /// A view of a cluster's bells; `None` if the memory is too short. Zeroed memory is silence.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        words.first_chunk().map(|words| Self { words })
    }
    /// Rings cluster `from`'s bell, after it has published something. Returns whether an interrupt is needed: else an earlier one has
    /// not been followed yet, and who follows it sees this packet too (the bitmap's modification order).
    #[must_use]
    pub fn ring(&self, from: usize) -> bool {
        self.words[from / 64 % BELL_WORDS].fetch_or(1 << (from % 64), Ordering::AcqRel) == 0
    }
    /// Whether cluster `from`'s bell rings.
    #[cfg(test)]
    pub(crate) fn rings(&self, from: usize) -> bool {
        self.words[from / 64].load(Ordering::Relaxed) >> (from % 64) & 1 != 0
    }
    /// Takes the bells of the first 64 clusters, some of which ring.
    #[inline]
    pub fn take_first(&self) -> u64 {
        self.words[0].swap(0, Ordering::AcqRel)
    }
    /// Lets the bells ring again that [`Bells::take_first`], or for another word [`Bells::take`], took.
    pub fn give_back(&self, word: usize, bells: u64) {
        self.words[word % BELL_WORDS].fetch_or(bells, Ordering::AcqRel);
    }
    /// Takes the bells of the clusters 64 · `word` and up.
    pub fn take(&self, word: usize) -> u64 {
        let bells = &self.words[word % BELL_WORDS];
        if bells.load(Ordering::Relaxed) == 0 { 0 } else { bells.swap(0, Ordering::AcqRel) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn memory() -> Vec<AtomicU64> {
        (0..RING_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn push(ring: &Ring<'_>, lane: Lane, n: u64) -> bool {
        let slot = ring.reserve(lane);
        if let Some(slot) = slot {
            slot.iter().for_each(|word| word.store(n, Ordering::Relaxed));
            ring.publish(lane);
        }
        slot.is_some()
    }

    fn pop(ring: &Ring<'_>, lane: Lane) -> Option<u64> {
        let slot = ring.front(lane)?;
        let n = slot[0].load(Ordering::Relaxed);
        assert!(slot.iter().all(|word| word.load(Ordering::Relaxed) == n));
        ring.release(lane);
        Some(n)
    }

    #[test]
    fn packets_come_out_in_order_and_a_full_lane_says_so() {
        let memory = memory();
        let ring = Ring::new(&memory).unwrap();
        for round in 0..3 {
            for n in 0..SLOTS {
                assert!(push(&ring, Lane::Requests, round * 100 + n));
            }
            assert!(!push(&ring, Lane::Requests, 0));
            assert_eq!((ring.unconsumed(Lane::Requests), ring.unconsumed(Lane::Responses)), (SLOTS, 0));
            assert!(push(&ring, Lane::Responses, 7), "the lanes have room of their own");
            assert_eq!(pop(&ring, Lane::Responses), Some(7));
            for n in 0..SLOTS {
                assert_eq!(pop(&ring, Lane::Requests), Some(round * 100 + n));
            }
            assert_eq!(pop(&ring, Lane::Requests), None);
        }
    }

    #[test]
    fn two_threads_lose_nothing() {
        let memory = memory();
        let ring = Ring::new(&memory).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..10_000 {
                    while !push(&ring, Lane::Requests, n) {
                        std::thread::yield_now();
                    }
                }
            });
            for n in 0..10_000 {
                let got = loop {
                    match pop(&ring, Lane::Requests) {
                        Some(got) => break got,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(got, n);
            }
        });
    }

    #[test]
    fn only_the_first_bell_interrupts() {
        let memory = memory();
        let bells = Bells::new(&memory).unwrap();
        assert!(bells.ring(70));
        assert!(!bells.ring(70) && !bells.ring(64));
        assert!(bells.ring(3), "another word");
        assert_eq!((bells.take(0), bells.take(1), bells.take(1)), (1 << 3, 1 << 6 | 1, 0));
        assert!(bells.ring(70));
    }
}
