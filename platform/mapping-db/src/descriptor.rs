//! Encoding of VMSAv8-64 stage 1 descriptors, 4 KiB granule, EL1&0 regime.
//!
//! References are to the Arm Architecture Reference Manual for A-profile (DDI 0487), chapter D8: "Translation table
//! descriptor formats" (D8.3), "Memory access control" (D8.4), "Hardware updates to the translation tables" (D8.5),
//! and "Memory region attributes" (D8.6).
//!
//! Four bits that the architecture leaves to software (58:55) carry what the database must know per entry and
//! not per mapping, because a split mapping can have different rights in each of its pieces:
//!
//! | bit | in a leaf | in a table descriptor |
//! |---|---|---|
//! | 55 | the mapping may be delegated with execute right | - |
//! | 56 | *piece*: belongs to the split mapping that owns this table | the table splits such a piece further |
//! | 57 | accessed by a mapping below that is gone, and not reported yet | - |
//! | 58 | written by a mapping below that is gone, and not reported yet | - |
//!
//! Bit 52 (contiguous) is never set here; 64 KiB mappings will need nothing else.

use skerry_abi::Rights;

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
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const MAY_EXECUTE: u64 = 1 << 55;
const PIECE: u64 = 1 << 56;
const WAS_ACCESSED: u64 = 1 << 57;
const WAS_WRITTEN: u64 = 1 << 58;

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
        bits != 12 && self.0 & (TABLE_OR_PAGE | VALID) == TABLE_OR_PAGE | VALID
    }
    #[inline]
    pub(crate) const fn is_leaf(self, bits: u32) -> bool {
        self.is_valid() && !self.is_table(bits)
    }
    #[inline]
    pub(crate) const fn is_piece(self) -> bool {
        self.0 & PIECE != 0
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
    pub(crate) const fn history(self) -> Use {
        Use { accessed: self.0 & WAS_ACCESSED != 0, written: self.0 & WAS_WRITTEN != 0 }
    }
    #[inline]
    pub(crate) const fn with_history(self, add: Use) -> Self {
        Self(self.0 | if add.accessed { WAS_ACCESSED } else { 0 } | if add.written { WAS_WRITTEN } else { 0 })
    }
    #[inline]
    pub(crate) const fn without_history(self) -> Self {
        Self(self.0 & !(WAS_ACCESSED | WAS_WRITTEN))
    }
    /// No longer part of a split mapping (table descriptors only).
    pub(crate) const fn adopted(self) -> Self {
        Self(self.0 & !PIECE)
    }
    /// The `index`th piece, of 2^`bits` bytes, of this leaf. It inherits all state: conservative for accessed and dirty.
    pub(crate) const fn piece(self, bits: u32, index: u64) -> Self {
        let kind = if bits == 12 { TABLE_OR_PAGE } else { 0 };
        Self((self.0 & !TABLE_OR_PAGE) | kind | (index << bits) | PIECE)
    }
}

/// Whether something was accessed and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Use {
    pub(crate) accessed: bool,
    pub(crate) written: bool,
}

impl Use {
    #[inline]
    pub(crate) const fn is_some(self) -> bool {
        self.accessed | self.written
    }
    #[inline]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { accessed: self.accessed | other.accessed, written: self.written | other.written }
    }
}

/// How leaves are written: with hardware management of access flag and dirty state (FEAT_HAFDBS) or without.
///
/// *With* (TCR_EL1.{HA,HD} = 1, D8.5): entries start with AF = 0; a writable one is "writable, clean" (DBM = 1,
/// AP\[2\] = 1) until the hardware clears AP\[2\] on the first write. *Without*: AF = 1 always, and as
/// nobody can tell, a mapping counts as accessed, and as written if it is writable.
///
/// The execute permission is only installed for entries without write right (W^X), never for Device memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) hardware: bool,
}

impl Format {
    /// A leaf of 2^`bits` bytes for EL0.
    pub(crate) const fn leaf(self, pa: u64, bits: u32, rights: Rights, attr: Attr) -> Entry {
        let kind = if bits == 12 { TABLE_OR_PAGE } else { 0 };
        let access = if self.hardware { 0 } else { ACCESS_FLAG };
        let fixed = VALID | AP_EL0 | AP_READ_ONLY | SH_INNER | NOT_GLOBAL | PXN | UXN;
        let bare = Entry(pa | kind | access | fixed | attr.index() << ATTR_SHIFT);
        self.with_rights(bare, rights)
    }
    /// A page that is the kernel's own: readable and perhaps writable, and no state to maintain.
    pub(crate) const fn pinned(self, pa: u64, writable: bool) -> Entry {
        let rights = if writable { Rights::RW } else { Rights::R };
        let entry = self.leaf(pa, 12, rights, Attr::Normal);
        let read_only = if writable { AP_READ_ONLY } else { 0 };
        Entry((entry.0 | ACCESS_FLAG) & !read_only)
    }
    /// The rights that can be delegated from this leaf.
    #[inline]
    pub(crate) const fn rights(self, entry: Entry) -> Rights {
        let write = if self.is_writable(entry) { Rights::W.bits() } else { 0 };
        let execute = if entry.0 & MAY_EXECUTE != 0 { Rights::X.bits() } else { 0 };
        Rights::from_bits(Rights::R.bits() | write | execute)
    }
    #[inline]
    const fn is_writable(self, entry: Entry) -> bool {
        if self.hardware {
            entry.0 & (DBM | AP_READ_ONLY) != AP_READ_ONLY
        } else {
            entry.0 & AP_READ_ONLY == 0
        }
    }
    /// The same leaf with other rights (R is implied). Access flag and, while it stays writable, dirty state stay.
    pub(crate) const fn with_rights(self, entry: Entry, rights: Rights) -> Entry {
        let write = rights.contains(Rights::W);
        let execute = rights.contains(Rights::X);
        let mut word = entry.0 & !(DBM | MAY_EXECUTE) | UXN;
        if write && self.hardware {
            word |= DBM;
        } else if write {
            word &= !AP_READ_ONLY;
        } else {
            word |= AP_READ_ONLY;
        }
        if execute {
            word |= MAY_EXECUTE;
            if !write && !matches!(entry.attr(), Attr::Device) {
                word &= !UXN;
            }
        }
        Entry(word)
    }
    /// What happened through this leaf and, unreported, below it.
    #[inline]
    pub(crate) const fn usage(self, entry: Entry) -> Use {
        let written = entry.0 & AP_READ_ONLY == 0;
        let own = Use { accessed: entry.0 & ACCESS_FLAG != 0 || written, written };
        own.and(entry.history())
    }
    /// The same leaf as if it had never been used.
    pub(crate) const fn reset(self, entry: Entry) -> Entry {
        let clean = entry.without_history();
        match (self.hardware, self.is_writable(entry)) {
            (false, _) => clean,
            (true, true) => Entry((clean.0 & !ACCESS_FLAG) | AP_READ_ONLY | DBM),
            (true, false) => Entry(clean.0 & !ACCESS_FLAG),
        }
    }
    /// Whether the entry as installed allows the access at EL0.
    pub(crate) const fn allows(self, entry: Entry, access: Rights) -> bool {
        entry.0 & (VALID | AP_EL0) == VALID | AP_EL0
            && (!access.contains(Rights::W) || self.is_writable(entry))
            && (!access.contains(Rights::X) || entry.0 & UXN == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRS: [Attr; 3] = [Attr::Normal, Attr::NonCacheable, Attr::Device];

    #[test]
    fn rights_survive_and_write_excludes_execute() {
        for hardware in [false, true] {
            let format = Format { hardware };
            for (attr, bits) in ATTRS.into_iter().flat_map(|a| [12, 21, 30].map(|b| (a, b))) {
                for rights in [Rights::R, Rights::RW, Rights::RX, Rights::RWX] {
                    let entry = format.leaf(1 << 30, bits, rights, attr);
                    assert!(entry.is_leaf(bits));
                    assert_eq!((entry.pa(), entry.attr(), format.rights(entry)), (1 << 30, attr, rights));
                    assert!(!format.allows(entry, Rights::W) || !format.allows(entry, Rights::X));
                    assert_eq!(format.reset(entry), entry);
                    assert!(entry.0 & PXN != 0 && entry.0 & NOT_GLOBAL != 0);
                    let smaller = format.with_rights(entry, Rights::R);
                    assert_eq!(smaller, format.leaf(1 << 30, bits, Rights::R, attr));
                }
            }
        }
    }

    #[test]
    fn words_are_the_manuals() {
        let on = Format { hardware: true };
        let off = Format { hardware: false };
        assert_eq!(on.leaf(0x4020_0000, 21, Rights::RW, Attr::Normal).0, 0x0068_0000_4020_0bc1);
        assert_eq!(off.leaf(0x4000_1000, 12, Rights::RX, Attr::Normal).0, 0x00a0_0000_4000_1fc3);
        assert_eq!(off.leaf(0x0900_0000, 12, Rights::RW, Attr::Device).0, 0x0060_0000_0900_0f47);
        assert_eq!(off.pinned(0x1000, true).0, 0x0060_0000_0000_1f43);
        assert_eq!(off.pinned(0x1000, false).0, 0x0060_0000_0000_1fc3);
        assert_eq!(on.pinned(0x1000, false).0, 0x0060_0000_0000_1fc3);
    }

    #[test]
    fn a_hardware_write_is_seen_and_survives_restriction_of_others() {
        let format = Format { hardware: true };
        let clean = format.leaf(0, 12, Rights::RWX, Attr::Normal);
        assert!(!format.usage(clean).is_some());
        let dirty = Entry((clean.0 | ACCESS_FLAG) & !AP_READ_ONLY);
        assert_eq!(format.usage(dirty), Use { accessed: true, written: true });
        assert_eq!(format.rights(dirty), Rights::RWX);
        assert!(format.usage(format.with_rights(dirty, Rights::RW)).written);
        assert_eq!(format.reset(dirty), clean);
    }
}
