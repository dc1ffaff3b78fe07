//! Reading the kernel's trace rings, once a privileged thread has had them mapped ([`crate::sys::map_trace`]).
#![expect(unsafe_code, reason = "the rings are at an address that the program chose")]

use core::ptr::with_exposed_provenance;

pub use skerry_trace::{Event, Page, Reader, Record};

use crate::info;

/// A reader of each CPU's ring, for rings that are mapped at `va` in this space; none if the kernel does not trace.
///
/// # Safety
/// [`crate::sys::map_trace`] has mapped the rings there, into this space.
pub unsafe fn rings(va: u64) -> impl Iterator<Item = Reader<'static>> {
    let header = info::header();
    let pages = (header.trace_ring / size_of::<Page>() as u64) as usize;
    (0..header.cpu_count).filter_map(move |local| {
        let first = with_exposed_provenance::<Page>((va + local * header.trace_ring) as usize);
        // SAFETY: as the caller promises; pinned pages stay as long as the space, and consist of atomic words.
        Reader::new(unsafe { core::slice::from_raw_parts(first, pages) })
    })
}
