//! Physical memory at its own address.
#![expect(unsafe_code, reason = "the pager's business is memory that is no Rust object")]

use core::ptr::with_exposed_provenance as at;
use core::ptr::with_exposed_provenance_mut as at_mut;
use core::slice;
use core::sync::atomic::AtomicU64;

use app_pager::Memory;
use skerry_abi::boot::{BootInfo, Range};
use skerry_rt::memory::{clear_pages, copy_page};
use skerry_rt::start::AppStart;

/// All pools of the machine.
///
/// The root pager maps them read-write at their own addresses before the first use (`startup` touches every block). The pager
/// never keeps a Rust reference into a frame other than to atomic words (tables, boards, books, bitmaps), so
/// that other pagers and the tasks themselves may write to frames at any time.
pub(super) struct Physical;

impl Memory for Physical {
    fn words(&self, address: u64, count: usize) -> &[AtomicU64] {
        // SAFETY: callers pass frames that a pool handed out for a table, or words inside a task's frame; both stay mapped, and
        // shared access to them is through atomics only (see `Physical`).
        unsafe { slice::from_raw_parts(at(address as usize), count) }
    }
    fn clear(&self, address: u64, bytes: u64) {
        // SAFETY: frames that the pool just handed out to the caller: nobody else uses them.
        unsafe { clear_pages(address, bytes) }
    }
    fn copy(&self, to: u64, from: u64, bytes: u64) {
        // SAFETY: `to` is as in `clear`; `from` is the archive or a finished start page, which nobody writes to.
        unsafe { at_mut::<u8>(to as usize).copy_from_nonoverlapping(at(from as usize), bytes as usize) }
    }
}

impl Physical {
    /// Copies a page from one frame to another.
    pub(super) fn copy_page(&self, to: u64, from: u64) {
        // SAFETY: both are frames of pools. `to` was just taken from one, so nobody else uses it; what others write to `from` meanwhile is
        // copied or not, word by word: who must not lose it makes sure that nobody maps it.
        unsafe { copy_page(to, from) }
    }
}

/// Reads a byte, so that the page is mapped from then on.
pub(super) fn touch(address: u64) {
    // SAFETY: a read has no effect on memory; an address the pager may not read ends in its pager's report.
    unsafe { at::<u8>(address as usize).read_volatile() };
}

/// A file of the archive.
pub(super) fn archive_bytes(boot: &'static BootInfo, range: Range) -> &'static [u8] {
    if range.base < boot.archive.base || range.end() > boot.archive.end() {
        return &[];
    }
    // SAFETY: the root pager maps the archive read-only at its own address; nobody writes to its frames.
    unsafe { slice::from_raw_parts(at(range.base as usize), range.size as usize) }
}

/// `count` values in cleared frames at `address`.
pub(super) fn values_at<T: Copy>(address: u64, count: usize, value: T) -> &'static mut [T] {
    let first = at_mut::<T>(address as usize);
    (0..count).for_each(|i| {
        // SAFETY: page-aligned frames fresh from the pool, large enough for these values, of which the caller keeps the only
        // reference and which it never gives back.
        unsafe { first.add(i).write(value) }
    });
    // SAFETY: as above; all values have been written.
    unsafe { slice::from_raw_parts_mut(first, count) }
}

/// The start page of a task that does not run yet, in cleared frames at `address`.
pub(super) fn app_start(address: u64) -> &'static mut AppStart {
    // SAFETY: called once per task, by `boot_app`, with page-aligned frames fresh from the pool; any bits are valid. The
    // reference is dropped before the task can read the page.
    unsafe { &mut *at_mut(address as usize) }
}
