//! The ring: single writer, overwriting, with readers that can tell a torn record.
//!
//! Two counters say how far the writer is: `begun` counts records that it has begun to write, `done` those that are complete. A
//! reader takes a record below `done`, and then looks at `begun`: if the writer has come round to that slot meanwhile, what was
//! read may be torn, and counts as lost (a sequence lock over the whole ring; Boehm, "Can Seqlocks Get Along With Programming
//! Language Memory Models?", 2012). So a record costs the writer six stores and one barrier, and nothing depends on readers.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::event::{Event, Record, WORDS};

const PAGE_WORDS: usize = 512;
/// Words of the header: `begun`, `done`, and nothing.
const HEADER: usize = 8;
const BEGUN: usize = 0;
const DONE: usize = 1;

/// A page of a ring.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Page([AtomicU64; PAGE_WORDS]);

impl Page {
    /// Empty.
    #[expect(clippy::declare_interior_mutable_const, reason = "a template, never used in place")]
    pub const ZERO: Self = Self([const { AtomicU64::new(0) }; PAGE_WORDS]);
}

#[derive(Clone, Copy, Debug)]
struct Ring<'a> {
    pages: &'a [Page],
    capacity: u64,
}

impl<'a> Ring<'a> {
    fn new(pages: &'a [Page]) -> Option<Self> {
        let words = pages.len() * PAGE_WORDS;
        let capacity = words.checked_sub(HEADER)? / WORDS;
        Some(Self { pages, capacity: capacity as u64 })
    }
    fn word(&self, index: usize) -> &'a AtomicU64 {
        &self.pages[index / PAGE_WORDS].0[index % PAGE_WORDS]
    }
    /// The words of record `number`. Records never cross pages, as their size divides that of a page.
    fn slot(&self, number: u64) -> &'a [AtomicU64] {
        let first = HEADER + (number % self.capacity) as usize * WORDS;
        &self.pages[first / PAGE_WORDS].0[first % PAGE_WORDS..][..WORDS]
    }
}

const _: () = assert!(HEADER.is_multiple_of(WORDS) && PAGE_WORDS.is_multiple_of(WORDS));

/// The writing end; there is one per ring.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a>(Ring<'a>);

impl<'a> Writer<'a> {
    /// A ring in zeroed pages, or the continuation of one; `None` without a page.
    pub fn new(pages: &'a [Page]) -> Option<Self> {
        Ring::new(pages).map(Self)
    }
    /// Records an event, over the oldest one if the ring is full.
    pub fn push(&self, time: u64, event: Event) {
        let (begun, done) = (self.0.word(BEGUN), self.0.word(DONE));
        let number = done.load(Ordering::Relaxed);
        begun.store(number + 1, Ordering::Relaxed);
        // Whoever sees one of the words below also sees `begun`.
        fence(Ordering::Release);
        for (to, word) in self.0.slot(number).iter().zip(Record { time, event }.encode()) {
            to.store(word, Ordering::Relaxed);
        }
        done.store(number + 1, Ordering::Release);
    }
}

/// A reading end, with its own position.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    ring: Ring<'a>,
    next: u64,
    lost: u64,
}

impl<'a> Reader<'a> {
    /// Begins with the oldest record there is; `None` without a page.
    pub fn new(pages: &'a [Page]) -> Option<Self> {
        Ring::new(pages).map(|ring| Self { ring, next: 0, lost: 0 })
    }
    /// How many records were overwritten before they could be read, or are of an unknown kind.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl Iterator for Reader<'_> {
    type Item = Record;

    /// The next record, oldest first; `None`: there is none *yet*.
    fn next(&mut self) -> Option<Record> {
        loop {
            let done = self.ring.word(DONE).load(Ordering::Acquire);
            if self.next >= done {
                return None;
            }
            let oldest = done.saturating_sub(self.ring.capacity);
            if self.next < oldest {
                self.lost += oldest - self.next;
                self.next = oldest;
            }
            let mut words = [0; WORDS];
            for (to, word) in words.iter_mut().zip(self.ring.slot(self.next)) {
                *to = word.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            let begun = self.ring.word(BEGUN).load(Ordering::Relaxed);
            let torn = begun - self.next > self.ring.capacity;
            self.next += 1;
            match Record::decode(words) {
                Some(record) if !torn => return Some(record),
                _ => self.lost += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_abi::ThreadId;
    use std::vec::Vec;

    fn event(n: u64) -> Event {
        Event::Notification { thread: ThreadId(n), bits: n }
    }

    #[test]
    fn the_oldest_are_overwritten_and_counted() {
        let pages: Vec<Page> = (0..2).map(|_| Page::ZERO).collect();
        let (writer, mut reader) = (Writer::new(&pages).unwrap(), Reader::new(&pages).unwrap());
        let capacity = 2 * 512 / 4 - 2;
        for n in 0..capacity + 10 {
            writer.push(n, event(n));
        }
        let read: Vec<u64> = reader.by_ref().map(|record| record.time).collect();
        assert_eq!(read, (10..capacity + 10).collect::<Vec<_>>());
        assert_eq!(reader.lost(), 10);
        // Both go on where they were.
        writer.push(7, event(7));
        assert_eq!(reader.next().map(|record| record.event), Some(event(7)));
        assert_eq!((reader.next(), reader.lost()), (None, 10));
        assert!(Writer::new(&[]).is_none() && Reader::new(&[]).is_none());
    }

    #[test]
    fn a_reader_never_sees_a_torn_record_and_every_record_is_read_or_lost() {
        const RECORDS: u64 = 300_000;
        let pages = [const { Page::ZERO }; 1];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = Writer::new(&pages).unwrap();
                (1..=RECORDS).for_each(|n| writer.push(n, event(n)));
            });
            let mut reader = Reader::new(&pages).unwrap();
            let (mut read, mut last) = (0, 0);
            while last < RECORDS {
                let Some(record) = reader.next() else {
                    std::thread::yield_now();
                    continue;
                };
                assert_eq!(record.event, event(record.time), "torn");
                assert!(record.time > last, "out of order");
                (read, last) = (read + 1, record.time);
            }
            assert_eq!(read + reader.lost(), RECORDS);
        });
    }
}
