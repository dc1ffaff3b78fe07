//! Page tables in the VMSAv8-64 format: 4 KiB granule, 39-bit addresses, so three levels.
//!
//! They are built once and never changed here, so break-before-make does not arise; the kernel takes them over.

use skerry_abi::Rights;
use skerry_abi::boot::Range;
use skerry_abi::fpage::PAGE_SIZE;

use crate::Memory;
use crate::registers::{ATTR_DEVICE, ATTR_NORMAL};

/// Bytes that one entry of the second level maps as a block.
pub const BLOCK_SIZE: u64 = 2 << 20;

/// Descriptor bits (Arm ARM, D8.3).
mod bits {
    pub(super) const VALID: u64 = 1;
    pub(super) const TABLE_OR_PAGE: u64 = 1 << 1;
    pub(super) const ATTR_SHIFT: u32 = 2;
    pub(super) const READ_ONLY: u64 = 1 << 7;
    pub(super) const INNER_SHAREABLE: u64 = 3 << 8;
    pub(super) const ACCESSED: u64 = 1 << 10;
    pub(super) const PXN: u64 = 1 << 53;
    pub(super) const UXN: u64 = 1 << 54;
    pub(super) const ADDRESS: u64 = 0xffff_ffff_f000;
}

/// Attributes of a mapping. All are for EL1 only, and global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// A device: Device-nGnRE, never executable.
    pub const DEVICE: Self = Self(
        ATTR_DEVICE << bits::ATTR_SHIFT | bits::INNER_SHAREABLE | bits::ACCESSED | bits::PXN | bits::UXN,
    );

    /// Normal write-back memory with these rights; write together with execute becomes write.
    pub const fn normal(rights: Rights) -> Self {
        let base = ATTR_NORMAL << bits::ATTR_SHIFT | bits::INNER_SHAREABLE | bits::ACCESSED | bits::UXN;
        let writable = rights.contains(Rights::W);
        let read_only = if writable { 0 } else { bits::READ_ONLY };
        let never = if rights.contains(Rights::X) && !writable { 0 } else { bits::PXN };
        Self(base | read_only | never)
    }
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page is left for a table.
    NoFrame,
    /// Something is mapped at this address already.
    Conflict(u64),
}

/// Hands out consecutive pages of a range.
#[derive(Clone, Copy, Debug)]
pub struct Pages(Range);

impl Pages {
    /// Starts at the start of `range`, which is page-aligned.
    pub const fn new(range: Range) -> Self {
        Self(range)
    }

    /// The next `size` bytes, rounded up to pages.
    pub fn take(&mut self, size: u64) -> Option<Range> {
        let size = size.checked_next_multiple_of(PAGE_SIZE).filter(|&size| size <= self.0.size)?;
        let taken = Range { base: self.0.base, size };
        self.0 = Range { base: taken.end(), size: self.0.size - size };
        Some(taken)
    }

    /// What is left.
    pub const fn rest(self) -> Range {
        self.0
    }
}

/// A tree of tables for one half of the address space.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    root: u64,
}

impl Tables {
    /// An empty tree.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub fn new(memory: &mut impl Memory, pages: &mut Pages) -> Result<Self, MapError> {
        Ok(Self { root: table(memory, pages)? })
    }

    /// Physical address of the first-level table: what goes into TTBR0 or TTBR1.
    pub const fn root(self) -> u64 {
        self.root
    }

    /// Maps the pages of `range` at `va` and what follows, with blocks where both sides are aligned.
    ///
    /// # Errors
    /// If there is no page for a table, or something is mapped there already; part of the range may be mapped then.
    pub fn map(
        self,
        memory: &mut impl Memory,
        pages: &mut Pages,
        va: u64,
        range: Range,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < range.size {
            let (va, pa) = (va + done, range.base + done);
            let block = (va | pa) % BLOCK_SIZE == 0 && range.size - done >= BLOCK_SIZE;
            let level2 = step(memory, pages, self.root, va, 30)?;
            let (slot, kind, size) = if block {
                (slot(level2, va, 21), 0, BLOCK_SIZE)
            } else {
                let level3 = step(memory, pages, level2, va, 21)?;
                (slot(level3, va, 12), bits::TABLE_OR_PAGE, PAGE_SIZE)
            };
            if memory.word(slot) != 0 {
                return Err(MapError::Conflict(va));
            }
            memory.set_word(slot, pa | attributes.0 | kind | bits::VALID);
            done += size;
        }
        Ok(())
    }
}

/// Address of the entry for `va` in a table whose entries map 2^`shift` bytes each.
const fn slot(table: u64, va: u64, shift: u32) -> u64 {
    table + ((va >> shift) & 511) * 8
}

/// The table below the entry for `va`, made if there is none.
fn step(
    memory: &mut impl Memory,
    pages: &mut Pages,
    upper: u64,
    va: u64,
    shift: u32,
) -> Result<u64, MapError> {
    let slot = slot(upper, va, shift);
    match memory.word(slot) {
        0 => {
            let lower = table(memory, pages)?;
            memory.set_word(slot, lower | bits::TABLE_OR_PAGE | bits::VALID);
            Ok(lower)
        }
        entry if entry & bits::TABLE_OR_PAGE == 0 => Err(MapError::Conflict(va)), // a block
        entry => Ok(entry & bits::ADDRESS),
    }
}

fn table(memory: &mut impl Memory, pages: &mut Pages) -> Result<u64, MapError> {
    let page = pages.take(PAGE_SIZE).ok_or(MapError::NoFrame)?;
    memory.zero(page);
    Ok(page.base)
}
