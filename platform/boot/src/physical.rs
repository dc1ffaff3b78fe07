//! Physical memory, reached directly: the MMU is off, so addresses are physical, and accesses bypass the caches.
//!
//! The invariant behind all unsafe code here: the library writes only to ranges that it took from free RAM, each for one
//! purpose, and none of them is the loader's image, the device tree or the archive, which are what Rust references here
//! point to. It is kept by `FreeRanges` (reserve first, then allocate) and tested there.
#![expect(unsafe_code, reason = "the only module of the loader that accesses memory by address")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use skerry_abi::boot::{BootInfo, Range};
use skerry_boot::Memory;

/// Memory that the loader only reads: the device tree or the archive. There is none at address 0.
pub(crate) fn bytes(range: Range) -> &'static [u8] {
    if range.base == 0 {
        return &[]; // what x0 says if there is no device tree
    }
    // SAFETY: QEMU put a device tree or an archive there, and nothing writes to it while the loader runs (see above).
    unsafe { core::slice::from_raw_parts(with_exposed_provenance(range.base as usize), range.size as usize) }
}

/// The boot information that is being filled in; too large for a stack, and not yet in any kernel's memory.
pub(crate) fn boot_info() -> &'static mut BootInfo {
    struct Cell(UnsafeCell<MaybeUninit<BootInfo>>);
    // SAFETY: the loader runs on one CPU without interrupts.
    unsafe impl Sync for Cell {}
    static INFO: Cell = Cell(UnsafeCell::new(MaybeUninit::zeroed()));
    // SAFETY: called once, by `guest::boot`; and a `BootInfo` of zeros is valid, as it consists of integers.
    unsafe { (*INFO.0.get()).assume_init_mut() }
}

/// All RAM.
pub(crate) struct Ram;

impl Memory for Ram {
    fn write(&mut self, address: u64, bytes: &[u8]) {
        let to = with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: the target is allocated RAM, which no reference points to (see above).
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    fn zero(&mut self, range: Range) {
        let to = with_exposed_provenance_mut::<u8>(range.base as usize);
        // SAFETY: as in `write`.
        unsafe { to.write_bytes(0, range.size as usize) }
    }

    fn word(&self, address: u64) -> u64 {
        // SAFETY: the word lies in allocated RAM and is aligned (promised by the callers of the trait).
        unsafe { with_exposed_provenance::<u64>(address as usize).read_volatile() }
    }

    fn set_word(&mut self, address: u64, value: u64) {
        // SAFETY: as in `word`.
        unsafe { with_exposed_provenance_mut::<u64>(address as usize).write_volatile(value) }
    }

    fn write_boot_info(&mut self, address: u64, info: &BootInfo) {
        let to = with_exposed_provenance_mut::<BootInfo>(address as usize);
        // SAFETY: as in `write`; the address is page-aligned, as `BootInfo` wants it.
        unsafe { to.copy_from_nonoverlapping(info, 1) }
    }
}
