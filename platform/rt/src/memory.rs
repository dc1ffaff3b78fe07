//! Work on whole pages.
#![expect(unsafe_code, reason = "memory that is no Rust object, and an instruction for it")]

use core::arch::asm;

/// Fills whole pages with zeros, a block of DC ZVA at a time (64 bytes as a rule).
///
/// # Safety
/// The pages are normal memory that nobody else uses.
pub unsafe fn clear_pages(address: u64, bytes: u64) {
    let dczid: u64;
    // SAFETY: a register that EL0 may always read.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(pure, nomem, nostack, preserves_flags)) }
    if dczid & 1 << 4 != 0 {
        // The instruction is forbidden, which here only a hypervisor can do.
        // SAFETY: the caller's promise.
        return unsafe {
            core::ptr::with_exposed_provenance_mut::<u8>(address as usize).write_bytes(0, bytes as usize)
        };
    }
    let block = 4u64 << (dczid & 0xf);
    let mut next = address;
    if block == 64 {
        // What there mostly is: nothing to be counted inside of a page.
        while next != address + bytes {
            // SAFETY: the caller's promise; the kernel lets EL0 execute it.
            unsafe {
                asm!(
                    ".rept 64", "dc zva, {next}", "add {next}, {next}, #64", ".endr",
                    next = inout(reg) next, options(nostack, preserves_flags)
                );
            }
        }
        return;
    }
    while next != address + bytes {
        // SAFETY: as above. Blocks are powers of two up to 2 KiB, so they divide a page.
        unsafe { asm!("dc zva, {}", in(reg) next, options(nostack, preserves_flags)) }
        next += block;
    }
}
