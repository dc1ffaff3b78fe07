//! Taking frames from a pool's bitmap.

use core::sync::atomic::Ordering;

use skerry_abi::fpage::PAGE_BITS;
use skerry_protocols::record::Record;

use crate::Memory;

/// Words of a bitmap that one pager thread takes frames from, one word after the other, mostly alone.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Address of the word.
    pub(super) bits: u64,
    /// The first of its 64 frames.
    pub(super) frame: u64,
    /// Address of the record of that frame.
    pub(super) records: u64,
    /// Words behind it.
    pub(super) left: u64,
}

impl Cursor {
    /// No words.
    pub const NONE: Self = Self { bits: 0, frame: 0, records: 0, left: 0 };

    #[inline(always)]
    pub(super) fn next_word(&mut self) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        self.bits += 8;
        self.frame += 64 << PAGE_BITS;
        self.records += 64 * 8;
        Some(())
    }
    /// Takes a frame and writes its record; `None` if the words have none left.
    #[inline(always)]
    pub fn take(&mut self, memory: &impl Memory, record: Record) -> Option<u64> {
        if self.bits == 0 {
            return None;
        }
        loop {
            let word = &memory.words(self.bits, 1)[0];
            let old = word.load(Ordering::Relaxed);
            if old == u64::MAX {
                self.next_word()?;
            } else if word
                .compare_exchange_weak(old, old | (old + 1), Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                let bit = u64::from((!old).trailing_zeros());
                memory.words(self.records + bit * 8, 1)[0].store(record.0, Ordering::Relaxed);
                return Some(self.frame + (bit << PAGE_BITS));
            }
        }
    }
}
