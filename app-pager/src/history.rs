//! What became of pages, and why: the boot option `history`.
//!
//! Every pager keeps a ring of [`Event`]s in memory of its own, the oldest of which go: so much memory and no more. An event says which page, when,
//! who was the cause (the thread that faulted or asked; for what another pager's letter wanted, the leader's thread), what was decided, and the
//! frame. A page's history is what the rings of all pagers say about it, by time.
//!
//! Any thread of the pager adds events, without a lock: it takes a number, and the place in the ring follows from that. A number in the place itself,
//! written last, says for which event the other words are, so who reads one that is just being written leaves it out.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

pub use skerry_ipc::pager::{Event, What};

/// Words of an event in the ring.
const WORDS: usize = 5;
/// Events of a ring.
pub const EVENTS: usize = 2048;
/// Words of a ring: how many there have ever been, and the events.
pub const RING_WORDS: usize = 1 + EVENTS * WORDS;
/// Its bytes.
pub const BYTES: u64 = RING_WORDS as u64 * 8;

/// A ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring<'a>(&'a [AtomicU64]);

impl<'a> Ring<'a> {
    /// In these words, which were zero in the beginning. `None` if there are too few.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= RING_WORDS).then_some(Self(words))
    }
    fn place(self, number: u64) -> &'a [AtomicU64] {
        let start = 1 + (number as usize % EVENTS) * WORDS;
        &self.0[start..start + WORDS]
    }
    /// Adds an event about this page.
    pub fn add(self, page: u64, event: Event) {
        let number = self.0[0].fetch_add(1, Relaxed);
        let place = self.place(number);
        place[0].store(0, Relaxed);
        // What follows is not to be seen before that.
        core::sync::atomic::fence(Release);
        let [time, who, rest] = event.words();
        for (word, value) in place[1..].iter().zip([page, time, who, rest]) {
            word.store(value, Relaxed);
        }
        place[0].store(number + 1, Release);
    }
    fn event(self, number: u64) -> Option<(u64, Event)> {
        let place = self.place(number);
        let complete = |order| place[0].load(order) == number + 1;
        if !complete(Acquire) {
            return None;
        }
        let [page, time, who, rest] = [1, 2, 3, 4].map(|word: usize| place[word].load(Acquire));
        complete(Relaxed).then_some((page, Event::from_words([time, who, rest])?))
    }
    /// The first event about a page from the one with this number on, and the number behind it.
    pub fn next(self, page: u64, from: u64) -> Option<(u64, Event)> {
        let end = self.0[0].load(Acquire);
        let oldest = end.saturating_sub(EVENTS as u64);
        (from.max(oldest)..end).find_map(|number| {
            let (about, event) = self.event(number)?;
            (about == page).then_some((number + 1, event))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use skerry_abi::ThreadId;
    use std::vec::Vec;

    fn words() -> Vec<AtomicU64> {
        (0..RING_WORDS).map(|_| AtomicU64::new(0)).collect()
    }
    fn event(time: u64) -> Event {
        Event { time, who: ThreadId::new(1, 7, 3), what: What::Fresh, node: 2, frame: 0x4_1234_5000 }
    }
    fn all(ring: Ring<'_>, page: u64) -> Vec<u64> {
        let mut from = 0;
        core::iter::from_fn(|| {
            let (behind, event) = ring.next(page, from)?;
            from = behind;
            Some(event.time)
        })
        .collect()
    }

    #[test]
    fn the_oldest_go() {
        let words = words();
        let ring = Ring::new(&words).unwrap();
        assert_eq!(ring.next(5, 0), None);
        for time in 0..EVENTS as u64 + 10 {
            ring.add(5 + time % 2, event(time));
        }
        assert_eq!(ring.next(5, 0), Some((11, event(10))));
        assert_eq!(all(ring, 5), (10..EVENTS as u64 + 10).step_by(2).collect::<Vec<_>>());
        assert_eq!(all(ring, 7), []);
        assert!(Ring::new(&words[1..]).is_none());
    }

    #[test]
    fn many_write_and_nobody_reads_halves() {
        let words = words();
        let ring = Ring::new(&words).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..3u64 {
                scope.spawn(move || {
                    for time in 0..20_000 {
                        ring.add(writer, Event { frame: (writer * 100_000 + time) << 12, ..event(time) });
                    }
                });
            }
            for _ in 0..200 {
                for page in 0..3 {
                    let mut from = 0;
                    while let Some((behind, event)) = ring.next(page, from) {
                        assert_eq!(event.frame >> 12, page * 100_000 + event.time);
                        from = behind;
                    }
                }
            }
        });
        assert_eq!((0..3).map(|page| all(ring, page).len()).sum::<usize>(), EVENTS);
    }
}
