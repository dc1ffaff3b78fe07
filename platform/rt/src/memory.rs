//! Work on whole pages.
#![expect(unsafe_code, reason = "memory that is no Rust object, and an instruction for it")]

use core::arch::asm;

use skerry_abi::fpage::PAGE_SIZE;

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

/// Copies a page, 256 bytes per turn of the loop: 1.06 instructions for every eight bytes.
///
/// # Safety
/// Both are pages of normal memory. Nobody else uses the one at `to`; whatever others do to the one at `from`, they do in aligned words.
pub unsafe fn copy_page(to: u64, from: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "2:",
            // The loads at the beginning of each half come last, and move the address on.
            "ldp {a}, {b}, [{from}, #16]", "stp {a}, {b}, [{to}, #16]",
            "ldp {c}, {d}, [{from}, #32]", "stp {c}, {d}, [{to}, #32]",
            "ldp {a}, {b}, [{from}, #48]", "stp {a}, {b}, [{to}, #48]",
            "ldp {c}, {d}, [{from}, #64]", "stp {c}, {d}, [{to}, #64]",
            "ldp {a}, {b}, [{from}, #80]", "stp {a}, {b}, [{to}, #80]",
            "ldp {c}, {d}, [{from}, #96]", "stp {c}, {d}, [{to}, #96]",
            "ldp {a}, {b}, [{from}, #112]", "stp {a}, {b}, [{to}, #112]",
            "ldp {c}, {d}, [{from}, #128]", "stp {c}, {d}, [{to}, #128]",
            "ldp {a}, {b}, [{from}, #144]", "stp {a}, {b}, [{to}, #144]",
            "ldp {c}, {d}, [{from}, #160]", "stp {c}, {d}, [{to}, #160]",
            "ldp {a}, {b}, [{from}, #176]", "stp {a}, {b}, [{to}, #176]",
            "ldp {c}, {d}, [{from}, #192]", "stp {c}, {d}, [{to}, #192]",
            "ldp {a}, {b}, [{from}, #208]", "stp {a}, {b}, [{to}, #208]",
            "ldp {c}, {d}, [{from}, #224]", "stp {c}, {d}, [{to}, #224]",
            "ldp {a}, {b}, [{from}, #240]", "stp {a}, {b}, [{to}, #240]",
            "ldp {c}, {d}, [{from}], #256", "stp {c}, {d}, [{to}], #256",
            "cmp {from}, {end}",
            "b.ne 2b",
            from = inout(reg) from => _, to = inout(reg) to => _, end = in(reg) from + PAGE_SIZE,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            options(nostack)
        );
    }
}
