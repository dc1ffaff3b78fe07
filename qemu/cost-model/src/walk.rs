//! Page-table walks: which words of memory the hardware reads to translate an address (Arm ARM, D8.2).
//!
//! The emulator's own walks cannot be seen, so the tables are walked again when the modelled TLB has no entry. Each word then goes
//! through the caches of the CPU that walks, to wherever that table lies: what page tables on the wrong node cost follows from that.

/// Address bits that a walk translates, and the offset in a page: 4 KiB granule.
const PAGE_BITS: u32 = 12;
/// Bits that a level translates.
const LEVEL_BITS: u32 = 9;
/// Bits 47 to 12 of a descriptor.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// "These 16 entries are one translation".
const CONTIGUOUS: u64 = 1 << 52;

/// A walk that found a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    reads: [u64; 4],
    levels: usize,
    /// Physical address of the page's or block's beginning.
    pub physical: u64,
    /// log2 of its size.
    pub bits: u32,
}

impl Walk {
    /// Walks for `address`, from the table that the register's value names. `virtual_bits` is the size of the half that the
    /// address is in. `read` gives a word of physical memory. `None`: there is no translation.
    pub fn new(
        address: u64,
        register: u64,
        virtual_bits: u32,
        mut read: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Self> {
        let mut table = register & ADDRESS & !1;
        let levels = (virtual_bits - PAGE_BITS).div_ceil(LEVEL_BITS);
        let mut walk = Self { reads: [0; 4], levels: 0, physical: 0, bits: 0 };
        for level in (0..levels).rev() {
            let shift = PAGE_BITS + level * LEVEL_BITS;
            let width = LEVEL_BITS.min(virtual_bits - shift);
            let index = address >> shift & ((1 << width) - 1);
            let place = table + index * 8;
            *walk.reads.get_mut(walk.levels)? = place;
            walk.levels += 1;
            let entry = read(place)?;
            let (valid, is_table) = (entry & 1 != 0, entry & 2 != 0);
            if !valid || level == 0 && !is_table {
                return None;
            }
            if level > 0 && is_table {
                table = entry & ADDRESS;
                continue;
            }
            walk.bits = if entry & CONTIGUOUS != 0 { shift + 4 } else { shift };
            // An implementation may use an entry of a contiguous group alone; the group translates alike.
            walk.physical = entry & ADDRESS & !((1 << walk.bits) - 1);
            return Some(walk);
        }
        None
    }

    /// The addresses of the words that were read, in order.
    pub fn reads(&self) -> &[u64] {
        &self.reads[..self.levels]
    }

    /// The physical address of `address`.
    pub fn translate(&self, address: u64) -> u64 {
        self.physical | address & ((1 << self.bits) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const ROOT: u64 = 0x1_0000;

    fn memory(entries: &[(u64, u64)]) -> HashMap<u64, u64> {
        entries.iter().copied().collect()
    }

    fn walk(entries: &[(u64, u64)], address: u64) -> Option<Walk> {
        let memory = memory(entries);
        // The address space's number is in the register's upper bits.
        Walk::new(address, ROOT | 7 << 48, 39, |place| Some(memory.get(&place).copied().unwrap_or(0)))
    }

    #[test]
    fn three_levels_to_a_page() {
        let tables = [(ROOT + 8, 0x2_0003), (0x2_0010, 0x3_0003), (0x3_0018, 0x8_5000 | 0x703)];
        let found = walk(&tables, (1 << 30) + (2 << 21) + (3 << 12) + 0x123).unwrap();
        assert_eq!(found.reads(), [ROOT + 8, 0x2_0010, 0x3_0018]);
        assert_eq!((found.bits, found.translate(0x123)), (12, 0x8_5123));
    }

    #[test]
    fn blocks_end_the_walk_early() {
        let found = walk(&[(ROOT, 0x2_0003), (0x2_0008, 0x4020_0701)], 0x20_1234).unwrap();
        assert_eq!((found.bits, found.reads().len(), found.translate(0x20_1234)), (21, 2, 0x4020_1234));
    }

    #[test]
    fn contiguous_entries_are_one_translation() {
        let tables = [(ROOT, 0x2_0003), (0x2_0000, 0x3_0003), (0x3_0028, CONTIGUOUS | 0x8_5703)];
        let found = walk(&tables, 0x5abc).unwrap();
        assert_eq!((found.bits, found.translate(0x5abc)), (16, 0x8_5abc));
    }

    #[test]
    fn what_is_not_mapped_has_no_translation() {
        assert_eq!(walk(&[], 0), None);
        assert_eq!(
            walk(&[(ROOT, 0x2_0003), (0x2_0000, 0x3_0003), (0x3_0000, 0x8_5701)], 0),
            None,
            "reserved"
        );
        assert_eq!(Walk::new(0, ROOT, 39, |_| None), None, "tables outside of memory");
    }

    #[test]
    fn four_levels_of_48_bits() {
        let chain = [(ROOT, 0x2_0003), (0x2_0000, 0x3_0003), (0x3_0000, 0x4_0003), (0x4_0000, 0x9_0703)];
        let memory = memory(&chain);
        let found = Walk::new(0, ROOT, 48, |place| memory.get(&place).copied()).unwrap();
        assert_eq!(found.reads().len(), 4);
    }
}
