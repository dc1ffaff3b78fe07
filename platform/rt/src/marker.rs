//! Tells the measuring instrument where a phase begins and ends ([`skerry_abi::marker`]); one instruction that does nothing.
#![expect(unsafe_code, reason = "an instruction that Rust has no name for")]

use core::arch::asm;

/// A phase begins. What was stored before is part of what came before.
#[inline(always)]
pub fn begin<const PHASE: u16>() {
    // SAFETY: a write to the zero register. It counts as using memory so that accesses stay on their side of it.
    unsafe { asm!("movz xzr, #{phase}, lsl #16", phase = const PHASE, options(nostack, preserves_flags)) }
}

/// Has the instrument write what it knows of this CPU into the information page. What is loaded afterwards is loaded after that.
#[inline(always)]
pub(crate) fn query() {
    // SAFETY: as above.
    unsafe {
        asm!("movz xzr, #{request}, lsl #48", request = const skerry_abi::marker::QUERY, options(nostack, preserves_flags))
    }
}

/// A phase ends.
#[inline(always)]
pub fn end<const PHASE: u16>() {
    // SAFETY: as above.
    unsafe { asm!("movz xzr, #{phase}, lsl #32", phase = const PHASE, options(nostack, preserves_flags)) }
}
