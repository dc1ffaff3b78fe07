//! Encoding of VMSAv8-64 stage 1 descriptors, 4 KiB granule, EL1&0 regime.
//!
//! References are to the Arm Architecture Reference Manual for A-profile (DDI 0487), chapter D8: "Translation table
//! descriptor formats" (D8.3), "Memory access control" (D8.4), "Hardware updates to the translation tables" (D8.5),
//! and "Memory region attributes" (D8.6).
//!
//! Bits that the architecture leaves to software (58:55, and 61:59 as long as TCR_EL1.HWU is 0) carry what the database must know per entry and
//! not per mapping, because a split mapping can have different rights in each of its pieces:
//!
//! | bit | in a leaf | in a table descriptor |
//! |---|---|---|
//! | 55 | the mapping may be delegated with execute right | - |
//! | 56 | *piece*: belongs to the split mapping that owns this table | the table splits such a piece further |
//! | 57 | written by a mapping below that is gone, and not reported yet | - |
//! | 58 | accessed by a mapping below that is gone, and not reported yet | - |
//! | 59 | *group*: one of the sixteen pages of a 64 KiB mapping, see [`crate::group`] | - |
//! | 60 | written below, as was reported to this space, but not to those above | - |
//! | 61 | accessed below, as was reported to this space, but not to those above | - |
//!
//! *Use*, what has happened through a mapping, is said with [`Rights`] here: R accessed, W written.
//!
//! Bit 52, the contiguous hint, is set in the sixteen entries of a 64 KiB mapping as long as it is whole.

use skerry_abi::Rights;

use crate::walk::{GROUP_BITS, PAGE_BITS};

const VALID: u64 = 1;
/// Bit 1: at levels 1 and 2 "table, not block"; at level 3 it must be set.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTR_SHIFT: u32 = 2;
/// AP[1]: EL0 may access.
const AP_EL0: u64 = 1 << 6;
/// AP[2]: read-only.
const AP_READ_ONLY: u64 = 1 << 7;
const SH_INNER: u64 = 3 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Dirty bit modifier: with hardware dirty state a writable entry has it, and is clean while AP[2] is set.
const DBM: u64 = 1 << 51;
/// One of 16 aligned entries that translate 64 KiB alike.
const CONTIGUOUS: u64 = 1 << 52;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const MAY_EXECUTE: u64 = 1 << 55;
const PIECE: u64 = 1 << 56;
const GROUP: u64 = 1 << 59;
/// [`Rights::RW`] shifted by this: what is gone and not reported.
const WAS_SHIFT: u32 = 56;
/// The same: what was told.
const TOLD_SHIFT: u32 = 59;
const WAS: u64 = Rights::RW.bits() << WAS_SHIFT;
const TOLD: u64 = Rights::RW.bits() << TOLD_SHIFT;

/// Cacheability of a mapping, from the least to the most strict. It can only get stricter down the tree.
///
/// The kernel sets MAIR_EL1 so that index 0 is Normal write-back, 1 Device-nGnRE, 2 Normal non-cacheable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Attr {
    /// Normal memory, write-back (MAIR index 0).
    #[default]
    Normal,
    /// Normal memory, non-cacheable (MAIR index 2).
    NonCacheable,
    /// Device-nGnRE (MAIR index 1); never executable.
    Device,
}

impl Attr {
    const fn index(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Device => 1,
            Self::NonCacheable => 2,
        }
    }
}

/// One translation table descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    pub(crate) const INVALID: Self = Self(0);
    /// The bit that says [`Entry::is_piece`].
    pub(crate) const PIECES: u64 = PIECE;

    /// A descriptor of the table at `pa`; no hierarchical restriction (APTable, UXNTable, PXNTable = 0).
    pub(crate) const fn table(pa: u64, piece: bool) -> Self {
        Self(pa | TABLE_OR_PAGE | VALID | if piece { PIECE } else { 0 })
    }
    #[inline]
    pub(crate) const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }
    /// Whether it is a table descriptor, if found in a slot that translates 2^`bits` bytes.
    #[inline]
    pub(crate) const fn is_table(self, bits: u32) -> bool {
        bits > GROUP_BITS && self.0 & (TABLE_OR_PAGE | VALID) == TABLE_OR_PAGE | VALID
    }
    #[inline]
    pub(crate) const fn is_leaf(self, bits: u32) -> bool {
        self.is_valid() && !self.is_table(bits)
    }
    #[inline]
    pub(crate) const fn is_piece(self) -> bool {
        self.0 & PIECE != 0
    }
    /// Whether it is one of the entries of a 64 KiB mapping that is whole.
    #[inline]
    pub(crate) const fn is_contiguous(self) -> bool {
        self.0 & CONTIGUOUS != 0
    }
    /// Whether it is the leaf of a mapping that is not split and no group, and nothing below is unreported.
    #[inline(always)]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & (PIECE | WAS | GROUP) == 0
    }
    /// Whether it is the leaf of a mapping that is not split and no group.
    #[inline(always)]
    pub(crate) const fn is_single(self) -> bool {
        self.0 & (PIECE | GROUP) == 0
    }
    /// Of [`Entry::used_bits`]: what is gone and not reported.
    #[inline(always)]
    pub(crate) const fn history_bits(self) -> u64 {
        self.0 & WAS
    }
    /// Address of the frame or of the next table.
    #[inline]
    pub(crate) const fn pa(self) -> u64 {
        self.0 & ADDRESS
    }
    pub(crate) const fn attr(self) -> Attr {
        match (self.0 >> ATTR_SHIFT) & 7 {
            0 => Attr::Normal,
            2 => Attr::NonCacheable,
            _ => Attr::Device,
        }
    }
    /// What mappings below did that are gone (accessed, written), and was not reported yet.
    #[inline]
    pub(crate) const fn history(self) -> Rights {
        Rights::from_bits(self.0 >> WAS_SHIFT & Rights::RW.bits())
    }
    #[inline]
    pub(crate) const fn with_history(self, add: Rights) -> Self {
        Self(self.0 | (add.bits() & Rights::RW.bits()) << WAS_SHIFT)
    }
    #[inline]
    pub(crate) const fn without_history(self) -> Self {
        Self(self.0 & !WAS)
    }
    /// The space knows of this use now, those above do not: they find it here.
    #[inline(always)]
    pub(crate) const fn told(self, add: Rights) -> Self {
        Self(self.0 | (add.bits() & Rights::RW.bits()) << TOLD_SHIFT)
    }
    /// No longer part of a split mapping (table descriptors only).
    pub(crate) const fn adopted(self) -> Self {
        Self(self.0 & !PIECE)
    }
    /// The `index`th piece, of 2^`bits` bytes, of this leaf. It inherits all state: conservative for accessed and dirty.
    pub(crate) const fn piece(self, bits: u32, index: u64) -> Self {
        let kind = if bits == PAGE_BITS { TABLE_OR_PAGE } else { 0 };
        Self((self.0 & !TABLE_OR_PAGE) | kind | (index << bits) | PIECE)
    }
}

/// How leaves are written. There is one format, whether or not the CPU manages access flag and dirty state itself
/// (FEAT_HAFDBS, TCR_EL1.{HA,HD} = 1, D8.5): entries start with AF = 0; a writable one has DBM = 1 and is clean while
/// AP\[2\] = 1. Where the CPU does not set AF or clear AP\[2\], the first access or write faults and
/// [`Entry::touched`] does it, so that every machine gives the same answers. (Without the feature bit 51 has no meaning to the
/// hardware; it still says "writable" to us.)
///
/// The execute permission is only installed for entries without write right (W^X), never for Device memory.
impl Entry {
    /// A leaf of 2^`bits` bytes for EL0. Of a group: its first entry.
    pub(crate) const fn leaf(pa: u64, bits: u32, rights: Rights, attr: Attr) -> Self {
        let kind = match bits {
            PAGE_BITS => TABLE_OR_PAGE,
            GROUP_BITS => TABLE_OR_PAGE | CONTIGUOUS | GROUP,
            _ => 0,
        };
        let fixed = VALID | AP_EL0 | AP_READ_ONLY | SH_INNER | NOT_GLOBAL | PXN | UXN;
        Self(pa | kind | fixed | attr.index() << ATTR_SHIFT).with_rights(rights)
    }
    /// A page that is the kernel's own: no state to maintain.
    pub(crate) const fn pinned(pa: u64, writable: bool) -> Self {
        let rights = if writable { Rights::RW } else { Rights::R };
        let entry = Self::leaf(pa, 12, rights, Attr::Normal);
        entry.touched(rights)
    }
    /// What a 4 KiB child of this leaf looks like, of the page at `inside`: its cacheability, and those of `rights` it has.
    #[inline(always)]
    pub(crate) const fn child_page(self, inside: u64, rights: Rights) -> Self {
        const KEEP: u64 =
            ADDRESS | 7 << ATTR_SHIFT | VALID | AP_EL0 | SH_INNER | NOT_GLOBAL | PXN | DBM | MAY_EXECUTE;
        let withheld = !rights.bits();
        let word = ((self.0 & KEEP) + inside) | AP_READ_ONLY | UXN | TABLE_OR_PAGE;
        let word = word & !((withheld & 2) << 50 | (withheld & 1) << 55);
        let runs = word & (DBM | MAY_EXECUTE) == MAY_EXECUTE && !matches!(Self(word).attr(), Attr::Device);
        Self(if runs { word & !UXN } else { word })
    }
    /// The rights that can be delegated from this leaf.
    #[inline]
    pub(crate) const fn rights(self) -> Rights {
        Rights::from_bits(Rights::R.bits() | self.0 >> 50 & 2 | self.0 >> 55 & 1)
    }
    /// The same leaf with other rights (R is implied). Access flag and, while it stays writable, dirty state stay.
    pub(crate) const fn with_rights(self, rights: Rights) -> Self {
        let write = rights.contains(Rights::W);
        let execute = rights.contains(Rights::X);
        let mut word = self.0 & !(DBM | MAY_EXECUTE) | UXN;
        word |= if write { DBM } else { AP_READ_ONLY };
        if execute {
            word |= MAY_EXECUTE;
            if !write && !matches!(self.attr(), Attr::Device) {
                word &= !UXN;
            }
        }
        Self(word)
    }
    /// What happened through this leaf and, unreported, below it.
    #[inline]
    pub(crate) const fn usage(self) -> Rights {
        Self::usage_of(self.used_bits())
    }
    /// Bits that say how leaves were used; of several leaves, their union. See [`Entry::usage_of`].
    #[inline(always)]
    pub(crate) const fn used_bits(self) -> u64 {
        self.0 ^ AP_READ_ONLY
    }
    /// What happened through leaves with these [`Entry::used_bits`].
    #[inline(always)]
    pub(crate) const fn usage_of(bits: u64) -> Rights {
        // The access flag is set whenever the dirty state is: bits 10 and 7 to 2 and 1.
        let own = (bits >> 8 & Rights::R.bits()) | (bits >> 6 & Rights::W.bits());
        Rights::from_bits(((bits >> WAS_SHIFT | bits >> TOLD_SHIFT) & Rights::RW.bits()) | own)
    }
    /// The same leaf as if it had never been used.
    pub(crate) const fn reset(self) -> Self {
        Self((self.0 & !(WAS | TOLD | ACCESS_FLAG)) | AP_READ_ONLY)
    }
    /// This page as the first of a group.
    #[inline]
    pub(crate) const fn tied(self) -> Self {
        Self(self.0 | CONTIGUOUS | GROUP)
    }
    /// The entry of a group's page `index`, of which this is the first. What mappings below did is noted in the first only.
    #[inline]
    pub(crate) const fn member(self, index: u64) -> Self {
        let mask = if index == 0 { !0 } else { !(WAS | TOLD) };
        Self((self.0 & mask) + (index << PAGE_BITS))
    }
    /// The same of a group that is split: the page's own entry, with all of the group's state.
    #[inline]
    pub(crate) const fn alone(self, index: u64) -> Self {
        Self((self.0 & !CONTIGUOUS) + (index << PAGE_BITS))
    }
    /// This leaf, used as much as it and the other one were.
    #[inline]
    pub(crate) const fn with_use_of(self, other: Self) -> Self {
        Self((self.0 | other.0 & (WAS | TOLD | ACCESS_FLAG)) & (other.0 | !AP_READ_ONLY))
    }
    /// Whether the leaf allows the access at EL0, if need be after [`Entry::touched`].
    #[inline]
    pub(crate) const fn allows(self, access: Rights) -> bool {
        self.0 & (VALID | AP_EL0) == VALID | AP_EL0
            && (!access.contains(Rights::W) || self.0 & (DBM | AP_READ_ONLY) != AP_READ_ONLY)
            && (!access.contains(Rights::X) || self.0 & UXN == 0)
    }
    /// The leaf after an access that it allows: accessed, and written if it was a write.
    pub(crate) const fn touched(self, access: Rights) -> Self {
        let clean = if access.contains(Rights::W) { AP_READ_ONLY } else { 0 };
        Self((self.0 | ACCESS_FLAG) & !clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRS: [Attr; 3] = [Attr::Normal, Attr::NonCacheable, Attr::Device];
    const RIGHTS: [Rights; 4] = [Rights::R, Rights::RW, Rights::RX, Rights::RWX];

    #[test]
    fn rights_survive_and_write_excludes_execute() {
        for (attr, bits) in ATTRS.into_iter().flat_map(|a| [12, 16, 21, 30].map(|b| (a, b))) {
            for rights in RIGHTS {
                let entry = Entry::leaf(1 << 30, bits, rights, attr);
                assert!(entry.is_leaf(bits));
                assert_eq!((entry.pa(), entry.attr(), entry.rights()), (1 << 30, attr, rights));
                assert!(!entry.allows(Rights::W) || !entry.allows(Rights::X));
                assert_eq!(entry.reset(), entry);
                assert!(entry.0 & PXN != 0 && entry.0 & NOT_GLOBAL != 0);
                assert_eq!(entry.with_rights(Rights::R), Entry::leaf(1 << 30, bits, Rights::R, attr));
                for less in RIGHTS {
                    let used = entry.with_history(Rights::RW).touched(rights);
                    let child = Entry::leaf((1 << 30) + 0x3000, 12, less & rights, attr);
                    assert_eq!(used.child_page(0x3000, less), child);
                }
            }
        }
    }

    #[test]
    fn words_are_the_manuals() {
        assert_eq!(Entry::leaf(0x4020_0000, 21, Rights::RW, Attr::Normal).0, 0x0068_0000_4020_0bc1);
        assert_eq!(Entry::leaf(0x4001_0000, 16, Rights::RW, Attr::Normal).0, 0x0878_0000_4001_0bc3);
        assert_eq!(Entry::leaf(0x4000_1000, 12, Rights::RX, Attr::Normal).0, 0x00a0_0000_4000_1bc3);
        assert_eq!(Entry::leaf(0x0900_0000, 12, Rights::RW, Attr::Device).0, 0x0068_0000_0900_0bc7);
        assert_eq!(Entry::pinned(0x1000, true).0, 0x0068_0000_0000_1f43);
        assert_eq!(Entry::pinned(0x1000, false).0, 0x0060_0000_0000_1fc3);
    }

    #[test]
    fn a_write_is_seen_and_survives_restriction_of_others() {
        let clean = Entry::leaf(0, 12, Rights::RWX, Attr::Normal);
        assert!(clean.usage().is_empty());
        let dirty = clean.touched(Rights::W);
        assert_eq!(dirty.usage(), Rights::RW);
        assert_eq!(dirty.rights(), Rights::RWX);
        assert!(dirty.with_rights(Rights::RW).usage().contains(Rights::W));
        assert_eq!(dirty.reset(), clean);
        assert_eq!(clean.touched(Rights::R).usage(), Rights::R);
    }
}
