//! Entries of the master table: one 64-bit word per page, changed by compare-and-swap.
//!
//! Bits 0..2 state, 2..5 rights, 5 contended (busy), limited (empty) or apart (replicated), 6..16 leader (the cluster that set the entry), 16..28 incarnation of that
//! cluster's pager, 28..64 frame number. Zero is "empty", so cleared frames are a valid table. A busy entry keeps frame and rights: if
//! its leader dies, what was there can be put back.

use core::fmt;

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_BITS;

/// State of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No frame yet.
    Empty,
    /// The leader is changing it: whoever meets it waits.
    Busy,
    /// Its frame may be mapped with its rights.
    Present,
    /// Every node has a copy of its own; the frame is the one that copies are made from. If they are *apart*, nodes write to their copies,
    /// and nobody uses the frame itself, if there is one.
    Replicated,
}

const BY: u64 = 0x3f_ffff << 6;
const CONTENDED: u64 = 1 << 5;
/// The same bit of entries that are not busy.
const SPECIAL: u64 = CONTENDED;

const fn by(leader: u16, incarnation: u16) -> u64 {
    (incarnation as u64 & 0xfff) << 16 | (leader as u64 & 0x3ff) << 6
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Entry(pub u64);

impl Entry {
    /// No frame.
    pub const EMPTY: Self = Self(0);

    /// A page with a frame.
    pub const fn present(frame: u64, rights: Rights, leader: u16, incarnation: u16) -> Self {
        let number = frame >> PAGE_BITS & 0xf_ffff_ffff;
        Self(number << 28 | by(leader, incarnation) | rights.bits() << 2 | 2)
    }
    /// The same frame, copied to every node that asks.
    #[must_use]
    pub const fn replicated(self) -> Self {
        Self(self.0 | 3)
    }
    /// The same frame, copied to every node, which from then on has its copy for itself.
    #[must_use]
    pub const fn apart(self) -> Self {
        Self(self.0 | SPECIAL | 3)
    }
    /// No frame, but threads have these rights only.
    pub const fn limited(rights: Rights, leader: u16, incarnation: u16) -> Self {
        Self(by(leader, incarnation) | SPECIAL | rights.bits() << 2)
    }
    /// Of an empty or busy entry: the rights that threads have if nobody has said anything else than `usual`.
    pub const fn rights_or(self, usual: Rights) -> Rights {
        if self.0 == 0 { usual } else { self.rights() }
    }
    /// See [`Entry::apart`].
    pub const fn is_apart(self) -> bool {
        self.0 & (SPECIAL | 3) == SPECIAL | 3
    }
    /// The same entry, being changed by `leader`.
    #[must_use]
    pub const fn busy(self, leader: u16, incarnation: u16) -> Self {
        Self(self.0 & !(BY | CONTENDED | 3) | by(leader, incarnation) | 1)
    }
    /// The same busy entry; somebody waits for the leader to be done.
    #[must_use]
    pub const fn contended(self) -> Self {
        Self(self.0 | CONTENDED)
    }
    /// Its state.
    pub const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Empty,
            1 => State::Busy,
            2 => State::Present,
            _ => State::Replicated,
        }
    }
    /// Whether somebody has to be woken when it is no longer busy.
    pub const fn is_contended(self) -> bool {
        self.0 & (CONTENDED | 3) == CONTENDED | 1
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
        (self.0 >> 6 & 0x3ff) as u16
    }
    /// The incarnation of that cluster's pager.
    pub const fn incarnation(self) -> u16 {
        (self.0 >> 16 & 0xfff) as u16
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_do_not_overlap(number in 0u64..1 << 36, rights in 0u64..8, leader in 0u16..1024, incarnation in 0u16..4096) {
            let entry = Entry::present(number << 12, Rights::from_bits(rights), leader, incarnation);
            prop_assert_eq!(entry.state(), State::Present);
            prop_assert_eq!((entry.frame(), entry.rights().bits()), (number << 12, rights));
            prop_assert_eq!((entry.leader(), entry.incarnation()), (leader, incarnation));
            prop_assert_eq!(entry.replicated().state(), State::Replicated);
            prop_assert!(entry.apart().is_apart() && !entry.apart().is_contended() && !entry.replicated().is_apart());
            prop_assert_eq!((entry.apart().frame(), entry.apart().state()), (number << 12, State::Replicated));
            let limited = Entry::limited(Rights::from_bits(rights), leader, incarnation);
            prop_assert!(limited.state() == State::Empty && !limited.is_contended() && limited.frame() == 0);
            prop_assert_eq!(limited.rights_or(Rights::RWX).bits(), rights);
            prop_assert_eq!(Entry::EMPTY.rights_or(Rights::RX), Rights::RX);
            let busy = entry.busy(1023 - leader, 4095 - incarnation);
            prop_assert_eq!(busy.state(), State::Busy);
            prop_assert!(!busy.is_contended() && busy.contended().is_contended());
            prop_assert_eq!(busy.contended().busy(busy.leader(), busy.incarnation()), busy);
            prop_assert_eq!((busy.frame(), busy.rights().bits()), (number << 12, rights));
            prop_assert_eq!((busy.leader(), busy.incarnation()), (1023 - leader, 4095 - incarnation));
        }
    }
}
