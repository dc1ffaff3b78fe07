//! The bookkeeping of one range, for who mostly has frames of the same range in hand.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::PAGE_BITS;
use skerry_protocols::record::Record;

use crate::Memory;

/// In the place of the list of what came back: nothing comes back, its pager is dead.
pub(super) const CLOSED: u64 = u64::MAX;

/// Where it lies. Ranges stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub(super) base: u64,
    /// The first frame that is not bookkeeping, and how many bytes there are from there on.
    pub(super) first: u64,
    pub(super) bytes: u64,
    /// Address of the first record.
    pub(super) records: u64,
    /// It belongs to another pager.
    pub(super) foreign: bool,
}

impl Owner {
    /// Of nothing.
    pub const NONE: Self = Self { base: 0, first: 0, bytes: 0, records: 0, foreign: false };

    /// Whether it is that of a frame.
    #[inline(always)]
    pub const fn has(&self, address: u64) -> bool {
        address.wrapping_sub(self.first) < self.bytes
    }
    const fn number(&self, address: u64) -> u64 {
        address.wrapping_sub(self.base) >> PAGE_BITS
    }
    /// The record of one of its frames.
    #[inline(always)]
    pub fn record<'m>(&self, memory: &'m impl Memory, address: u64) -> &'m AtomicU64 {
        &memory.words(self.records + self.number(address) * 8, 1)[0]
    }
    /// Gives back one of its frames, of which nobody knows any more. Whether it had been taken (of another pager's frame that is not
    /// asked).
    #[inline(always)]
    pub fn free(&self, memory: &impl Memory, address: u64) -> bool {
        if self.foreign {
            send_back(memory, &memory.words(self.base, 1)[0], address);
            return true;
        }
        self.record(memory, address).store(Record::FREE.0, Ordering::SeqCst);
        let number = self.number(address);
        let (word, mask) = (self.base + 8 + number / 64 * 8, 1 << (number % 64));
        memory.words(word, 1)[0].fetch_and(!mask, Ordering::SeqCst) & mask != 0
    }
}

/// Puts a frame onto the list of what came back to its range.
#[cold]
#[inline(never)]
fn send_back(memory: &impl Memory, list: &AtomicU64, address: u64) {
    let link = &memory.words(address, 1)[0];
    let mut head = list.load(Ordering::Relaxed);
    loop {
        if head == CLOSED {
            return;
        }
        link.store(head, Ordering::Relaxed);
        match list.compare_exchange_weak(head, address, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => return,
            Err(found) => head = found,
        }
    }
}
