//! Entries of the master table and of the local tables: one 64-bit word each.
//!
//! Bits 0..2 state, 2..5 rights, 5..15 leader (the cluster that set the entry), 15..28 incarnation of that cluster's
//! pager, 28..64 frame number. Zero is "empty", so cleared frames are a valid table.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Rights;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};

/// State of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No frame yet.
    Empty,
    /// The leader is changing it: whoever meets it waits.
    Busy,
    /// Its frame may be mapped with its rights.
    Present,
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Entry(pub u64);

impl Entry {
    /// No frame.
    pub const EMPTY: Self = Self(0);

    /// A page with a frame.
    pub const fn present(frame: u64, rights: Rights, leader: u16, incarnation: u16) -> Self {
        let number = frame >> PAGE_BITS & 0xf_ffff_ffff;
        let by = (incarnation as u64 & 0x1fff) << 15 | (leader as u64 & 0x3ff) << 5;
        Self(number << 28 | by | rights.bits() << 2 | 2)
    }
    /// The same entry, being changed by `leader`.
    pub const fn busy(self, leader: u16, incarnation: u16) -> Self {
        let by = (incarnation as u64 & 0x1fff) << 15 | (leader as u64 & 0x3ff) << 5;
        Self(self.0 & !(0x7f_ffff << 5 | 3) | by | 1)
    }
    /// Its state. A word that nobody wrote reads as busy: it is never mapped.
    pub const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Empty,
            2 => State::Present,
            _ => State::Busy,
        }
    }
    /// Address of its frame.
    pub const fn frame(self) -> u64 {
        self.0 >> 28 << PAGE_BITS
    }
    /// The most it may be mapped with.
    pub const fn rights(self) -> Rights {
        Rights::from_bits(self.0 >> 2)
    }
    /// The cluster that set it.
    pub const fn leader(self) -> u16 {
        (self.0 >> 5 & 0x3ff) as u16
    }
    /// The incarnation of that cluster's pager.
    pub const fn incarnation(self) -> u16 {
        (self.0 >> 15 & 0x1fff) as u16
    }
    /// Reads a slot; what the frame contains is visible when the entry is.
    pub fn load(slot: &AtomicU64) -> Self {
        Self(slot.load(Ordering::Acquire))
    }
    /// Puts this entry into an empty slot.
    ///
    /// # Errors
    /// The entry that is there already.
    pub fn insert(self, slot: &AtomicU64) -> Result<(), Self> {
        slot.compare_exchange(0, self.0, Ordering::AcqRel, Ordering::Acquire).map(drop).map_err(Self)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:#x}:{:?} by {}.{}",
            self.state(),
            self.frame(),
            self.rights(),
            self.leader(),
            self.incarnation()
        )
    }
}

/// Bytes of a table for so many pages.
pub const fn table_bytes(pages: u64) -> u64 {
    (pages * 8).next_multiple_of(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_do_not_overlap(number in 0u64..1 << 36, rights in 0u64..8, leader in 0u16..1024, incarnation in 0u16..8192) {
            let entry = Entry::present(number << 12, Rights::from_bits(rights), leader, incarnation);
            prop_assert_eq!(entry.state(), State::Present);
            prop_assert_eq!((entry.frame(), entry.rights().bits()), (number << 12, rights));
            prop_assert_eq!((entry.leader(), entry.incarnation()), (leader, incarnation));
            let busy = entry.busy(1023 - leader, 8191 - incarnation);
            prop_assert_eq!(busy.state(), State::Busy);
            prop_assert_eq!((busy.frame(), busy.rights().bits()), (number << 12, rights));
            prop_assert_eq!((busy.leader(), busy.incarnation()), (1023 - leader, 8191 - incarnation));
        }
    }

    #[test]
    fn only_one_insert_wins() {
        let slot = AtomicU64::new(0);
        let (a, b) = (Entry::present(0x1000, Rights::RW, 0, 1), Entry::present(0x2000, Rights::RW, 1, 1));
        assert_eq!(a.insert(&slot), Ok(()));
        assert_eq!(b.insert(&slot), Err(a));
        assert_eq!(Entry::load(&slot), a);
    }
}
