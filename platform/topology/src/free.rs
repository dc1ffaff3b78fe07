//! The RAM that nobody has claimed yet.

use heapless::Vec;
use skerry_abi::boot::{MAX_RANGES, Range};
use skerry_abi::fpage::PAGE_SIZE;

use crate::{Error, Ram, Topology};

/// A free range; the same shape as RAM.
pub type FreeRange = Ram;

/// Free RAM as sorted, disjoint, page-aligned ranges, none of which covers two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeRanges {
    list: Vec<FreeRange, MAX_RANGES>,
}

impl FreeRanges {
    /// All RAM but what the device tree reserves.
    ///
    /// # Errors
    /// [`Error::TooMany`] if the reservations cut it into too many pieces.
    pub fn new(topology: &Topology) -> Result<Self, Error> {
        let mut free = Self { list: topology.memory.clone() };
        topology.reserved.iter().try_for_each(|range| free.reserve(*range))?;
        Ok(free)
    }

    /// The ranges by ascending address.
    pub fn iter(&self) -> impl Iterator<Item = &FreeRange> {
        self.list.iter()
    }

    /// Bytes of `node` that are free.
    pub fn free_of(&self, node: usize) -> u64 {
        self.list.iter().filter(|free| free.node == node).map(|free| free.range.size).sum()
    }

    /// Takes every page that `taken` touches. Parts that are no RAM, or taken already, do not matter.
    ///
    /// # Errors
    /// [`Error::TooMany`] if a range would have to be cut and there is no room for one more; then nothing is changed.
    pub fn reserve(&mut self, taken: Range) -> Result<(), Error> {
        if taken.size == 0 {
            return Ok(());
        }
        let start = taken.base / PAGE_SIZE * PAGE_SIZE;
        let end = taken.base.saturating_add(taken.size);
        let end = end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX / PAGE_SIZE * PAGE_SIZE);
        // At most one range sticks out at both ends: the only case that needs a new entry.
        if let Some(index) = self.list.iter().position(|f| f.range.base < start && end < f.range.end()) {
            let whole = self.list[index];
            let upper = Range { base: end, size: whole.range.end() - end };
            let full = Error::TooMany { what: "separate pieces of free RAM", limit: MAX_RANGES };
            self.list.insert(index + 1, FreeRange { range: upper, ..whole }).map_err(|_| full)?;
            self.list[index].range.size = start - whole.range.base;
            return Ok(());
        }
        for free in &mut self.list {
            let (base, stop) = (free.range.base, free.range.end());
            if start < stop && base < end {
                let (low, high) = if base < start { (base, start) } else { (end.min(stop), stop) };
                free.range = Range { base: low, size: high - low };
            }
        }
        self.list.retain(|free| free.range.size != 0);
        Ok(())
    }

    /// Takes `size` bytes (a multiple of the page size) with the highest address in `node` that is a multiple of `align`
    /// (a power of two, at least a page). `what` names the purpose in the error message.
    ///
    /// # Errors
    /// [`Error::NodeTooSmall`] if no free range of the node holds it.
    pub fn alloc_top(
        &mut self,
        node: usize,
        size: u64,
        align: u64,
        what: &'static str,
    ) -> Result<Range, Error> {
        let place = |free: &FreeRange| {
            let base = free.range.end().checked_sub(size)? & !(align - 1);
            (base >= free.range.base).then_some(Range { base, size })
        };
        let found = self.list.iter().rev().filter(|free| free.node == node).find_map(place);
        let Some(range) = found else {
            let sizes = self.list.iter().filter(|free| free.node == node).map(|free| free.range.size);
            return Err(Error::NodeTooSmall { node, left: sizes.max().unwrap_or(0), what, needed: size });
        };
        self.reserve(range)?;
        Ok(range)
    }
}
