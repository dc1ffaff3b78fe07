//! Arenas: one pool per kind of object, carved once out of the memory that the boot loader left to this cluster.
#![expect(unsafe_code, reason = "turns the cluster's raw memory into typed slices, once")]

use core::mem::{align_of, size_of};
use skerry_abi::boot::Range;
use skerry_abi::layout::PHYSMAP;

/// The rest of the heap.
pub(super) struct Heap {
    next: u64,
    end: u64,
}

impl Heap {
    /// The cluster's heap.
    ///
    /// # Safety
    /// `range` is RAM that PHYSMAP maps, that nobody else uses, and from which no `Heap` was made before: the boot
    /// loader's promise, and `start` calls this once per kernel.
    pub(super) unsafe fn new(range: Range) -> Self {
        Self { next: range.base, end: range.end() }
    }

    /// Bytes left.
    pub(super) fn left(&self) -> u64 {
        self.end - self.next
    }

    /// A slice of `count` objects made by `make`, and its physical address.
    pub(super) fn slice<T>(&mut self, count: usize, mut make: impl FnMut() -> T) -> (&'static mut [T], u64) {
        let base = self.next.next_multiple_of(align_of::<T>() as u64);
        let bytes = (count as u64).checked_mul(size_of::<T>() as u64).expect("arena size overflows");
        assert!(
            base + bytes <= self.end,
            "the kernel heap is {} KiB too small",
            (base + bytes - self.end) >> 10
        );
        self.next = base + bytes;
        let first = (PHYSMAP + base) as *mut T;
        for i in 0..count {
            // SAFETY: inside the heap, aligned, and handed out only here (`next` has moved on).
            unsafe { first.add(i).write(make()) };
        }
        // SAFETY: all `count` elements were just initialised; nobody else has a reference to them, for ever.
        (unsafe { core::slice::from_raw_parts_mut(first, count) }, base)
    }
}
