//! A heap over an arena that the program gives at its start. A program that gives none allocates nothing.
#![expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use core::alloc::{GlobalAlloc, Layout};
use core::mem::MaybeUninit;
use core::ptr;

use linked_list_allocator::Heap;

use crate::spin::TicketLock;

struct Global(TicketLock<Heap>);

#[global_allocator]
static GLOBAL: Global = Global(TicketLock::new(Heap::empty()));

/// Gives the heap its memory; a second arena replaces nothing and is ignored.
pub fn init(arena: &'static mut [MaybeUninit<u8>]) {
    let mut heap = GLOBAL.0.lock();
    if heap.size() == 0 {
        heap.init_from_slice(arena);
    }
}

// SAFETY: the linked list allocator hands out disjoint blocks of the arena with the right layout; the lock serialises it.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), |block| block.as_ptr())
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = ptr::NonNull::new(block) {
            // SAFETY: the caller of `dealloc` passes a block of `alloc` with its layout.
            unsafe { self.0.lock().deallocate(block, layout) }
        }
    }
}
