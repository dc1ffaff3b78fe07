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

/// Tells the instrument something that concerns nobody without it.
#[inline(always)]
fn tell<const REQUEST: u16>() {
    // SAFETY: as above.
    unsafe {
        asm!("movz xzr, #{request}, lsl #48", request = const REQUEST, options(nostack, preserves_flags))
    }
}

/// The same with a number.
#[inline(always)]
fn tell_of<const REQUEST: u16>(number: u64) {
    // SAFETY: as above; x0 is only read.
    unsafe {
        asm!("movz xzr, #{request}, lsl #48", request = const REQUEST, in("x0") number, options(nostack, preserves_flags))
    }
}

/// A thread of an application begins: from here on its misses can be recorded (`run --record`).
#[inline(always)]
pub fn thread() {
    tell::<{ skerry_abi::marker::THREAD }>();
}

/// The thread begins to wait for others: until [`met`] or [`locked`], what it does is not its own work.
#[inline(always)]
pub fn waits() {
    tell::<{ skerry_abi::marker::WAITS }>();
}

/// All threads have met.
#[inline(always)]
pub fn met() {
    tell::<{ skerry_abi::marker::BARRIER }>();
}

/// The thread has a lock; its number is any that is the lock's own, such as its address.
#[inline(always)]
pub fn locked(lock: u64) {
    tell_of::<{ skerry_abi::marker::LOCK }>(lock);
}

/// It is about to give it back.
#[inline(always)]
pub fn unlocks(lock: u64) {
    tell_of::<{ skerry_abi::marker::UNLOCK }>(lock);
}

/// A phase ends.
#[inline(always)]
pub fn end<const PHASE: u16>() {
    // SAFETY: as above.
    unsafe { asm!("movz xzr, #{phase}, lsl #32", phase = const PHASE, options(nostack, preserves_flags)) }
}
