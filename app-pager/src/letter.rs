//! How leaders ask unmap workers, in shared memory.
//!
//! Every cluster has an *office* in its own pool: an inbox, a word per pager thread of the machine, and for each of its own pager threads
//! [`LETTERS`] letters. A letter belongs to one request of a leader: which pages, what may stay, and for every seat which of the pages are
//! its business. The leader writes it, puts its bit into the inboxes of all workers it is for, notifies all of them, and only then
//! waits. A worker adds how the pages were used and takes itself off the count; who brings the count to zero notifies the
//! leader. Who has not answered yet is a set of seats, not a number: if a pager dies, its seat is taken out, and exactly once ([`Letter::done`]).
//! (On machines of more than 63 seats it is a number; pagers that die there end the run.)
//! So there are two message delays however many sharers there are, and one notification for all answers.
//!
//! The leader counts, too, until it waits: so the count cannot be zero before all were asked. If they are asked one after the other
//! (the paper's first driver), it does not. With the third driver the leader puts its letters into the inboxes at the end, and the root pager
//! notifies the workers.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::boot::MAX_CPUS;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::{Rights, ThreadId};
use skerry_protocols::revoke::{MAX_PAGES, Order, Used};

/// Requests that one pager thread leads at a time.
pub const LETTERS: usize = 8;
/// Letters that there are: the last one of the first thread is the undertaker's.
const PLACES: usize = LETTERS + 1;
/// Who may have to answer a letter, besides seats: the leader itself.
pub const LEADER: u16 = 63;
/// Words of an inbox: one per pager thread of the machine.
const INBOX: usize = MAX_CPUS;

const OPEN: usize = 0;
const ACCESSED: usize = 1;
const DIRTY: usize = 2;
const FOUND: usize = 3;
const TASK: usize = 4;
const KEEP: usize = 5;
const LEADER_ID: usize = 6;
const BITS: usize = 7;
const PAGES: usize = 8;
const ORDERS: usize = PAGES + MAX_PAGES;
/// In the word at `KEEP`: something stays.
const SOMETHING: u64 = 8;
/// There, too: all pages are of one region.
const ONE_REGION: u64 = 16;

/// Words of a letter, on a machine with so many seats.
pub const fn words(seats: usize) -> usize {
    ORDERS + seats
}
/// Bytes of an office for so many pager threads, in whole pages.
pub const fn office_bytes(threads: usize, seats: usize) -> u64 {
    ((INBOX + threads * PLACES * words(seats)) as u64 * 8).next_multiple_of(PAGE_SIZE)
}
/// Where a letter of an office lies: of the pager thread with this index in its cluster.
pub const fn letter_at(office: u64, seats: usize, thread: usize, letter: usize) -> u64 {
    office + ((INBOX + (thread * PLACES + letter) * words(seats)) * 8) as u64
}
/// Where in an office the inbox for letters of this CPU's pager thread lies.
pub const fn inbox_at(office: u64, cpu: u16) -> u64 {
    office + (cpu as usize % INBOX) as u64 * 8
}

/// A letter.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'m>(&'m [AtomicU64]);

impl<'m> Letter<'m> {
    /// The letter in these [`words`].
    pub const fn new(words: &'m [AtomicU64]) -> Self {
        Self(words)
    }
    fn load(&self, word: usize) -> u64 {
        self.0.get(word).map_or(0, |word| word.load(Ordering::SeqCst))
    }
    fn store(&self, word: usize, value: u64) {
        if let Some(word) = self.0.get(word) {
            // Who is to read it is told by an operation that orders this before.
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Begins a letter: nobody is asked yet. `leader` gets `bits` when all have answered.
    /// `one_region`: that is what all pages are of.
    pub fn begin(&self, task: u32, keep: Option<Rights>, one_region: bool, leader: ThreadId, bits: u64) {
        for (word, value) in [(ACCESSED, 0), (DIRTY, 0), (FOUND, 0), (TASK, task.into()), (BITS, bits)] {
            self.store(word, value);
        }
        let keep = keep.map_or(0, |keep| keep.bits() | SOMETHING);
        self.store(KEEP, keep | if one_region { ONE_REGION } else { 0 });
        self.store(LEADER_ID, leader.0);
    }
    /// The address of a page of the batch.
    pub fn set_page(&self, index: usize, address: u64) {
        self.store(PAGES + index % MAX_PAGES, address);
    }
    /// Whether those who have not answered are counted only: there are too many seats.
    #[inline]
    const fn is_counted(&self) -> bool {
        self.0.len() > ORDERS + LEADER as usize
    }
    /// One more has to answer: a seat that is to be asked, or [`LEADER`].
    #[inline]
    pub fn count(&self, who: u16) {
        if let Some(open) = self.0.first() {
            match self.is_counted() {
                true => open.fetch_add(1, Ordering::SeqCst),
                false => open.fetch_or(1 << (who % 64), Ordering::SeqCst),
            };
        }
    }
    /// These pages are the business of this seat, which has been counted. Whoever finds the order finds what was written before.
    pub fn order(&self, seat: u16, pages: u64) {
        if let Some(order) = self.0.get(ORDERS + usize::from(seat)) {
            order.store(pages, Ordering::SeqCst);
        }
    }
    /// Whether this seat is asked for something, and has not come to it.
    pub fn is_ordered(&self, seat: u16) -> bool {
        self.load(ORDERS + usize::from(seat)) != 0
    }
    /// One has answered, or is dead and will not. Returns whether it was the last.
    #[inline]
    pub fn done(&self, who: u16) -> bool {
        self.0.first().is_none_or(|open| match self.is_counted() {
            true => open.fetch_sub(1, Ordering::SeqCst) == 1,
            false => {
                let bit = 1 << (who % 64);
                open.fetch_and(!bit, Ordering::SeqCst) == bit
            }
        })
    }
    /// Whether all have answered.
    pub fn is_answered(&self) -> bool {
        self.load(OPEN) == 0
    }
    /// What the workers said.
    pub fn used(&self) -> Used {
        Used { accessed: self.load(ACCESSED), dirty: self.load(DIRTY) }
    }
    /// Of which pages a worker had something to take away.
    pub fn found(&self) -> u64 {
        self.load(FOUND)
    }

    /// The task whose pages they are.
    pub fn task(&self) -> u32 {
        self.load(TASK) as u32
    }
    /// Whether all pages are of one region.
    pub fn is_of_one_region(&self) -> bool {
        self.load(KEEP) & ONE_REGION != 0
    }
    /// The address of a page.
    pub fn page(&self, index: u8) -> u64 {
        self.load(PAGES + usize::from(index) % MAX_PAGES)
    }
    /// What this seat is asked for; it is asked once.
    pub fn take_order(&self, seat: u16) -> Order {
        let pages = self.0.get(ORDERS + usize::from(seat)).map_or(0, |word| word.swap(0, Ordering::SeqCst));
        let keep = self.load(KEEP);
        Order { pages, keep: (keep & SOMETHING != 0).then(|| Rights::from_bits(keep)) }
    }
    /// Adds what a worker found out.
    pub fn report(&self, used: Used, found: u64) {
        for (word, bits) in [(ACCESSED, used.accessed), (DIRTY, used.dirty), (FOUND, found)] {
            if bits != 0
                && let Some(word) = self.0.get(word)
            {
                word.fetch_or(bits, Ordering::SeqCst);
            }
        }
    }
    /// Who leads, and the bits that tell it.
    pub fn leader(&self) -> (ThreadId, u64) {
        (ThreadId(self.load(LEADER_ID)), self.load(BITS))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_last_one_tells_the_leader() {
        let memory: Vec<_> = (0..words(3)).map(|_| AtomicU64::new(0)).collect();
        let letter = Letter::new(&memory);
        letter.begin(7, Some(Rights::R), true, ThreadId(9), 4);
        letter.set_page(1, 0x5000);
        letter.count(LEADER);
        for seat in [0, 2] {
            letter.count(seat);
            letter.order(seat, 0b10);
        }
        assert!(letter.is_ordered(0) && !letter.is_ordered(1) && letter.is_ordered(2));
        assert!(letter.is_of_one_region());
        assert_eq!(letter.take_order(1).pages, 0);
        assert_eq!(letter.take_order(2), Order { pages: 2, keep: Some(Rights::R) });
        assert_eq!((letter.take_order(2).pages, letter.task(), letter.page(1)), (0, 7, 0x5000));
        assert!(!letter.is_ordered(2));
        letter.report(Used { accessed: 2, dirty: 0 }, 2);
        assert!(!letter.done(LEADER) && !letter.done(2) && !letter.is_answered());
        // Who was not asked, or has answered, does not count.
        assert!(!letter.done(1) && !letter.done(2) && !letter.is_answered());
        letter.report(Used { accessed: 2, dirty: 2 }, 2);
        assert!(letter.done(0) && letter.is_answered());
        assert!(!letter.done(0));
        assert_eq!((letter.used(), letter.found()), (Used { accessed: 2, dirty: 2 }, 2));
        assert_eq!(letter.leader(), (ThreadId(9), 4));
        // The next request does not see the answers to this one.
        letter.begin(7, None, false, ThreadId(9), 4);
        assert_eq!((letter.used(), letter.take_order(0).keep), (Used::default(), None));
        assert!(!letter.is_of_one_region());
    }

    #[test]
    fn letters_do_not_overlap() {
        let (office, seats) = (0x10_0000, 4);
        assert_eq!(letter_at(office, seats, 0, 0), office + MAX_CPUS as u64 * 8);
        assert_eq!(letter_at(office, seats, 0, 1) - letter_at(office, seats, 0, 0), words(seats) as u64 * 8);
        assert_eq!(letter_at(office, seats, 1, 0), letter_at(office, seats, 0, PLACES));
        assert!(letter_at(office, seats, 2, 0) <= office + office_bytes(2, seats));
        assert!(inbox_at(office, MAX_CPUS as u16 - 1) < letter_at(office, seats, 0, 0));
    }
}
