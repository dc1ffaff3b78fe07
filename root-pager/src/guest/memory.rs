//! Physical memory at its own address.
#![expect(unsafe_code, reason = "the root pager fills frames that are no Rust objects yet")]

use core::ptr::with_exposed_provenance as at;
use core::ptr::with_exposed_provenance_mut as at_mut;
use core::slice;

use skerry_abi::boot::{BootInfo, Range};
use skerry_rt::start::ServerStart;

/// A file of the archive.
pub(crate) fn archive_bytes(boot: &'static BootInfo, range: Range) -> &'static [u8] {
    if range.base < boot.archive.base || range.end() > boot.archive.end() {
        return &[];
    }
    // SAFETY: the archive is mapped into the root space at its own address; the loader reserved its frames, and nobody writes
    // to them.
    unsafe { slice::from_raw_parts(at(range.base as usize), range.size as usize) }
}

/// Frames that this root pager took from its pool and gave to nobody yet.
pub(crate) struct Taken(Range);

impl Taken {
    /// The frames of `range`, cleared.
    ///
    /// The range comes from [`Layout`](root_pager::layout::Layout), which keeps it inside the cluster's own pool: all of it once per
    /// boot, before any server exists, and the app pager's part before each life of the app pager, when no space has it.
    pub(crate) fn claim(range: Range) -> Self {
        // SAFETY: pool frames are mapped read-write at their own address in the root space; nothing uses them yet (see above).
        unsafe { at_mut::<u8>(range.base as usize).write_bytes(0, range.size as usize) }
        Self(range)
    }
    /// Writes bytes to a physical address inside; bytes outside are left out.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        if address < self.0.base || address + bytes.len() as u64 > self.0.end() {
            return;
        }
        // SAFETY: inside the claimed frames, which this object owns; `bytes` is elsewhere, as a shared reference.
        unsafe { at_mut::<u8>(address as usize).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
    /// The (cleared) start page at a page-aligned physical address inside.
    pub(crate) fn start_page(&mut self, address: u64) -> Option<&mut ServerStart> {
        if address < self.0.base
            || address + size_of::<ServerStart>() as u64 > self.0.end()
            || !address.is_multiple_of(align_of::<ServerStart>() as u64)
        {
            return None;
        }
        // SAFETY: inside the claimed frames, aligned, exclusively borrowed with `self`; any bits are a valid `ServerStart`.
        Some(unsafe { &mut *at_mut::<ServerStart>(address as usize) })
    }
}
