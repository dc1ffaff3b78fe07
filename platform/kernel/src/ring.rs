//! The message rings between clusters: the only memory that two kernels share.
//!
//! One ring per ordered pair of clusters, single producer, single consumer, in the receiver's kernel memory. A ring
//! has [`SLOTS`] slots of [`SLOT_WORDS`] words. The producer publishes a slot by storing `tail` (release), the consumer
//! gives it back by storing `head` (release); each side reads the other's index with acquire (ARM ARM B2.3.12).
//!
//! Requests and responses share the ring but not the room: every request has its response's slot reserved, because at most
//! [`CREDIT`] requests of a pair are unanswered at a time and the ring has room for that many requests *and* as many
//! responses to the other side's requests. So a response never waits, and full rings cannot deadlock.

use core::sync::atomic::{AtomicU64, Ordering};
use skerry_abi::boot::RING_SIZE;
use skerry_abi::message::MAX_WORDS;

/// Slots of a ring.
pub const SLOTS: u64 = 32;
/// Words of a slot: header and message.
pub const SLOT_WORDS: usize = 80;
/// Unanswered requests of one ordered pair at most.
pub const CREDIT: u32 = 15;

const HEADER: usize = 8;
/// `tail`, `head` and the slots start on cache lines of their own.
const TAIL: usize = 0;
const HEAD: usize = 16;
const FIRST_SLOT: usize = 32;
/// Words of a ring.
pub const RING_WORDS: usize = FIRST_SLOT + SLOTS as usize * SLOT_WORDS;

const _: () = assert!(RING_WORDS * 8 <= RING_SIZE as usize);
const _: () = assert!(HEADER + MAX_WORDS <= SLOT_WORDS);
const _: () = assert!(2 * CREDIT as u64 <= SLOTS);

/// A message between kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Packet {
    /// What it is: [`crate::remote`].
    pub header: [u64; HEADER],
    /// The words of an IPC message, `words[..used]`.
    pub words: [u64; MAX_WORDS],
    /// Used words.
    pub used: usize,
}

impl Packet {
    /// Without words.
    pub const EMPTY: Self = Self { header: [0; HEADER], words: [0; MAX_WORDS], used: 0 };
}

/// One direction of one pair.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// A view of a ring's memory; `None` if it is too short. Zeroed memory is an empty ring.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= RING_WORDS).then_some(Self { words })
    }

    fn slot(&self, index: u64) -> &'a [AtomicU64] {
        let start = FIRST_SLOT + (index % SLOTS) as usize * SLOT_WORDS;
        &self.words[start..start + SLOT_WORDS]
    }

    /// Producer: appends a packet; `false` if the ring is full (which the credit rule excludes).
    #[must_use]
    pub fn push(&self, packet: &Packet) -> bool {
        let tail = self.words[TAIL].load(Ordering::Relaxed);
        if tail.wrapping_sub(self.words[HEAD].load(Ordering::Acquire)) >= SLOTS {
            return false;
        }
        let slot = self.slot(tail);
        let used = packet.used.min(MAX_WORDS);
        for (to, from) in slot.iter().zip(&packet.header[..HEADER - 1]) {
            to.store(*from, Ordering::Relaxed);
        }
        slot[HEADER - 1].store(used as u64, Ordering::Relaxed);
        for (to, from) in slot[HEADER..].iter().zip(&packet.words[..used]) {
            to.store(*from, Ordering::Relaxed);
        }
        self.words[TAIL].store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    /// Consumer: takes the oldest packet.
    pub fn pop(&self) -> Option<Packet> {
        let head = self.words[HEAD].load(Ordering::Relaxed);
        if head == self.words[TAIL].load(Ordering::Acquire) {
            return None;
        }
        let packet = self.read(head);
        self.words[HEAD].store(head.wrapping_add(1), Ordering::Release);
        Some(packet)
    }

    fn read(&self, index: u64) -> Packet {
        let slot = self.slot(index);
        let mut packet = Packet::EMPTY;
        for (to, from) in packet.header[..HEADER - 1].iter_mut().zip(slot) {
            *to = from.load(Ordering::Relaxed);
        }
        packet.used = (slot[HEADER - 1].load(Ordering::Relaxed) as usize).min(MAX_WORDS);
        for (to, from) in packet.words[..packet.used].iter_mut().zip(&slot[HEADER..]) {
            *to = from.load(Ordering::Relaxed);
        }
        packet
    }

    /// The packets that wait, oldest first.
    #[cfg(test)]
    pub(crate) fn waiting(self) -> impl ExactSizeIterator<Item = Packet> {
        let ends = [HEAD, TAIL].map(|end| self.words[end].load(Ordering::Relaxed));
        (0..(ends[1] - ends[0]) as usize).map(move |n| self.read(ends[0] + n as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn memory() -> Vec<AtomicU64> {
        (0..RING_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn packets_come_out_in_order_and_a_full_ring_says_so() {
        let memory = memory();
        let ring = Ring::new(&memory).unwrap();
        let packet = |n: u64| Packet { header: [n, 0, 0, 0, 0, 0, 0, 0], used: 63, words: [n; MAX_WORDS] };
        for round in 0..3 {
            for n in 0..SLOTS {
                assert!(ring.push(&packet(round * 100 + n)));
            }
            assert!(!ring.push(&packet(0)));
            for n in 0..SLOTS {
                assert_eq!(ring.pop(), Some(packet(round * 100 + n)));
            }
            assert_eq!(ring.pop(), None);
        }
    }

    #[test]
    fn two_threads_lose_nothing() {
        let memory = memory();
        let ring = Ring::new(&memory).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..10_000 {
                    let packet = Packet { header: [n; 8], used: (n % 64) as usize, words: [n; MAX_WORDS] };
                    while !ring.push(&packet) {
                        std::thread::yield_now();
                    }
                }
            });
            for n in 0..10_000 {
                let packet = loop {
                    match ring.pop() {
                        Some(packet) => break packet,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!((packet.header[0], packet.used), (n, (n % 64) as usize));
                assert!(packet.words[..packet.used].iter().all(|&w| w == n));
            }
        });
    }
}
