//! Taking several frames at a time, for pages that are established together.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_BITS;
use skerry_protocols::record::Record;

use super::Cursor;
use crate::Memory;
use crate::page::{GROUP_BITS, GROUP_PAGES};

/// Some frames that were taken at a time.
#[derive(Clone, Copy, Debug)]
pub struct Handful {
    /// The first that there can be, and the address of its record.
    frame: u64,
    records: u64,
    /// A bit for each that is left.
    left: u64,
}

impl Handful {
    /// None.
    pub const NONE: Self = Self { frame: 0, records: 0, left: 0 };

    /// Whether none are left.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
    /// One of them.
    #[inline(always)]
    pub fn take(&mut self, memory: &impl Memory, record: Record) -> Option<u64> {
        if self.left == 0 {
            return None;
        }
        let bit = u64::from(self.left.trailing_zeros());
        self.left &= self.left - 1;
        memory.words(self.records + bit * 8, 1)[0].store(record.0, Ordering::Relaxed);
        Some(self.frame + (bit << PAGE_BITS))
    }
}

impl Cursor {
    /// Takes some frames, `most` of them or sixteen at most; none if the words have none left.
    pub fn take_some(&mut self, memory: &impl Memory, most: u32) -> Handful {
        const SOME: u64 = 0xffff;
        while self.bits != 0 {
            let word = &memory.words(self.bits, 1)[0];
            let old = word.load(Ordering::Relaxed);
            let lane = (!old).trailing_zeros() & !15;
            if old == u64::MAX {
                if self.next_word().is_none() {
                    break;
                }
                continue;
            }
            let mut left = !old & SOME << lane;
            while left.count_ones() > most {
                left ^= 1 << left.ilog2();
            }
            if word.compare_exchange(old, old | left, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                return Handful { frame: self.frame, records: self.records, left };
            }
        }
        Handful::NONE
    }
    /// Takes the adjacent frames of a group of pages, which begin at a multiple of their size, and writes their records: that of the first
    /// page, and so on. `None` if the words have none left.
    pub fn take_block(&mut self, memory: &impl Memory, first: Record) -> Option<u64> {
        const FRAMES: u32 = GROUP_PAGES as u32;
        const ALL: u64 = (1 << FRAMES) - 1;
        if self.bits == 0 || !self.frame.is_multiple_of(1 << GROUP_BITS) {
            return None;
        }
        loop {
            let word = &memory.words(self.bits, 1)[0];
            let old = word.load(Ordering::Relaxed);
            match (0..64 / FRAMES).map(|block| block * FRAMES).find(|&at| old >> at & ALL == 0) {
                None => self.next_word()?,
                Some(at) => {
                    let new = old | ALL << at;
                    if word.compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed).is_err() {
                        continue;
                    }
                    let mut record = first;
                    for word in memory.words(self.records + u64::from(at) * 8, GROUP_PAGES) {
                        word.store(record.0, Ordering::Relaxed);
                        record = record.next();
                    }
                    return Some(self.frame + (u64::from(at) << PAGE_BITS));
                }
            }
        }
    }
}
