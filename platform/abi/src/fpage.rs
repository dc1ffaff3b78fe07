//! Flexpages: naturally aligned, power-of-two-sized regions of an address space (Liedtke's fpages).

use core::fmt;
use core::ops::{BitAnd, BitOr};

/// Access rights of a mapping. They can only shrink on their way down a mapping tree.
///
/// `W` together with `X` may be *delegated*, but the kernel never installs a page-table entry that is both: it
/// installs such a mapping as readable and writable (see `skerry-mapping-db`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Rights(u8);

impl Rights {
    /// No access.
    pub const NONE: Self = Self(0);
    /// Execute.
    pub const X: Self = Self(1);
    /// Write.
    pub const W: Self = Self(2);
    /// Read.
    pub const R: Self = Self(4);
    /// Read and write.
    pub const RW: Self = Self(6);
    /// Read and execute.
    pub const RX: Self = Self(5);
    /// Everything.
    pub const RWX: Self = Self(7);

    /// From the low three bits of `bits`.
    pub const fn from_bits(bits: u64) -> Self {
        Self((bits & 7) as u8)
    }
    /// As the low three bits of a word.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }
    /// Whether all of `other` is included.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// What is left when `other` is taken away.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Whether no access is left.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitAnd for Rights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |right, letter| if self.contains(right) { letter } else { '-' };
        write!(f, "{}{}{}", letter(Self::R, 'r'), letter(Self::W, 'w'), letter(Self::X, 'x'))
    }
}

/// A flexpage with rights, in one word: bits 0..3 rights, 4..10 log2 of the size in bytes, 12..64 base.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Fpage(u64);

/// log2 of the smallest page.
pub const PAGE_BITS: u32 = 12;
/// The smallest page in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_BITS;
/// log2 of the sizes the hardware maps with one entry (4 KiB granule), largest first.
pub const BLOCK_BITS: [u32; 3] = [30, 21, 12];

impl Fpage {
    /// No fpage: as a receive window, "accept no items".
    pub const NIL: Self = Self(0);
    /// The whole user address space with all rights.
    pub const COMPLETE: Self = Self((crate::layout::USER_BITS as u64) << 4 | 7);

    /// An fpage of 2^`bits` bytes at `base`; `None` if it is smaller than a page, not aligned to its size, or not inside the
    /// user address space.
    pub const fn new(base: u64, bits: u32, rights: Rights) -> Option<Self> {
        if bits < PAGE_BITS || bits > crate::layout::USER_BITS || base & ((1 << bits) - 1) != 0 {
            return None;
        }
        if base > crate::layout::USER_END - (1 << bits) {
            return None;
        }
        Some(Self(base | ((bits as u64) << 4) | rights.bits()))
    }
    /// The page that `address` is in; what is no address counts modulo the size of the address space.
    pub const fn page(address: u64, rights: Rights) -> Self {
        Self(address & (crate::layout::USER_END - PAGE_SIZE) | (PAGE_BITS as u64) << 4 | rights.bits())
    }
    /// Decodes a word from a message; `None` under the same conditions as [`Fpage::new`].
    pub const fn decode(word: u64) -> Option<Self> {
        Self::new(word & !0xfff, ((word >> 4) & 0x3f) as u32, Rights::from_bits(word))
    }
    /// The same as [`Fpage::decode`] for an fpage of one page; `None` for any other.
    #[inline(always)]
    pub const fn decode_page(word: u64) -> Option<Self> {
        // Bits 4..10 are the size, and what lies above the user address space or is reserved must be zero.
        if word & !(crate::layout::USER_END - PAGE_SIZE) & !7 != (PAGE_BITS as u64) << 4 {
            return None;
        }
        Some(Self(word))
    }
    /// The word that travels in a message.
    pub const fn word(self) -> u64 {
        self.0
    }
    /// First address.
    pub const fn base(self) -> u64 {
        self.0 & !0xfff
    }
    /// log2 of the size in bytes.
    pub const fn bits(self) -> u32 {
        ((self.0 >> 4) & 0x3f) as u32
    }
    /// Size in bytes.
    pub const fn size(self) -> u64 {
        1 << self.bits()
    }
    /// First address behind it.
    pub const fn end(self) -> u64 {
        self.base() + self.size()
    }
    /// The rights it carries.
    pub const fn rights(self) -> Rights {
        Rights::from_bits(self.0)
    }
    /// The same region with other rights.
    pub const fn with_rights(self, rights: Rights) -> Self {
        Self(self.0 & !7 | rights.bits())
    }
    /// Whether `address` lies in it.
    pub const fn contains(self, address: u64) -> bool {
        address >= self.base() && address < self.end()
    }
    /// Whether it is [`Fpage::NIL`].
    pub const fn is_nil(self) -> bool {
        self.0 == 0
    }

    /// The largest fpage of a size the hardware maps with one entry that contains `address` and lies in
    /// `start..end`. Giver and taker of a pool both use it, so that they agree on the steps.
    pub fn largest_block(start: u64, end: u64, address: u64, rights: Rights) -> Option<Self> {
        BLOCK_BITS.into_iter().find_map(|bits| {
            let base = address & !((1 << bits) - 1);
            (base >= start && base.checked_add(1 << bits)? <= end)
                .then(|| Self::new(base, bits, rights))
                .flatten()
        })
    }
}

impl fmt::Debug for Fpage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+2^{}:{:?}", self.base(), self.bits(), self.rights())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_and_outsized_fpages_are_refused() {
        assert!(Fpage::new(0x1000, 13, Rights::R).is_none());
        assert!(Fpage::new(0, 11, Rights::R).is_none());
        assert!(Fpage::new(0, 63, Rights::R).is_none());
        assert!(Fpage::new(crate::layout::USER_END, 12, Rights::R).is_none());
        assert!(Fpage::new(!0xfff, 12, Rights::R).is_none());
        assert!(Fpage::decode(0).is_none());
        assert_eq!(Fpage::decode(Fpage::COMPLETE.word()), Some(Fpage::COMPLETE));
    }

    #[test]
    fn largest_block_stays_inside() {
        let block =
            |a| Fpage::largest_block(0x401f_f000, 0x4060_1000, a, Rights::RW).map(|f| (f.base(), f.bits()));
        assert_eq!(block(0x401f_f123), Some((0x401f_f000, 12)));
        assert_eq!(block(0x4020_0000), Some((0x4020_0000, 21)));
        assert_eq!(block(0x4060_0fff), Some((0x4060_0000, 12)));
        assert_eq!(block(0x4060_1000), None);
    }
}
