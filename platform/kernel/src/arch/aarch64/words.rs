//! Copying words between UTCBs, packets and thread control blocks, eight at a time, or more through the floating-point unit if it holds
//! nobody's registers.
#![expect(unsafe_code, reason = "assembly")]

use super::fp;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use skerry_abi::message::REGISTER_WORDS;

/// Copies as many words as both have. Programs may write both sides meanwhile: what they get then is their own affair, but no
/// word is torn (an `ldp` of aligned words is two single-copy atomic accesses, B2.2.1).
#[inline(always)]
pub(super) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    // SAFETY: both slices have that many words, which are cells that anybody may write.
    unsafe { copy_raw(from.as_ptr().cast(), to.as_ptr().cast_mut().cast(), from.len().min(to.len())) }
}

/// The same, from words that nobody else writes.
#[inline(always)]
pub(super) fn copy_out(from: &[u64], to: &[AtomicU64]) {
    // SAFETY: as above; `from` is shared for reading.
    unsafe { copy_raw(from.as_ptr(), to.as_ptr().cast_mut().cast(), from.len().min(to.len())) }
}

/// The same, to words that nobody else uses.
#[inline(always)]
pub(super) fn copy_in(from: &[AtomicU64], to: &mut [u64]) {
    // SAFETY: as above; `to` is exclusive.
    unsafe { copy_raw(from.as_ptr().cast(), to.as_mut_ptr(), from.len().min(to.len())) }
}

/// # Safety
/// `from` can be read and `to` can be written for `words` aligned words, whoever else may do so at the same time.
#[inline(always)]
unsafe fn copy_raw(from: *const u64, to: *mut u64, words: usize) {
    if words >= fp::WORTH && fp::is_free() {
        // SAFETY: as the caller promises; the unit is free.
        return unsafe { fp::copy(from, to, words) };
    }
    // SAFETY: as the caller promises; nothing beyond the words is touched.
    unsafe {
        asm!(
            "subs    {n}, {n}, #8",
            "b.lo    3f",
            "2: ldp  {a}, {b}, [{from}], #64",
            "ldp     {c}, {d}, [{from}, #-48]",
            "ldp     {e}, {f}, [{from}, #-32]",
            "ldp     {g}, {h}, [{from}, #-16]",
            "stp     {a}, {b}, [{to}], #64",
            "stp     {c}, {d}, [{to}, #-48]",
            "stp     {e}, {f}, [{to}, #-32]",
            "stp     {g}, {h}, [{to}, #-16]",
            "subs    {n}, {n}, #8",
            "b.hs    2b",
            // Minus eight or more, the lowest three bits are those of the words that are left.
            "3: tbz  {n}, #2, 4f",
            "ldp     {a}, {b}, [{from}], #32",
            "ldp     {c}, {d}, [{from}, #-16]",
            "stp     {a}, {b}, [{to}], #32",
            "stp     {c}, {d}, [{to}, #-16]",
            "4: tbz  {n}, #1, 5f",
            "ldp     {a}, {b}, [{from}], #16",
            "stp     {a}, {b}, [{to}], #16",
            "5: tbz  {n}, #0, 6f",
            "ldr     {a}, [{from}]",
            "str     {a}, [{to}]",
            "6:",
            n = inout(reg) words => _, from = inout(reg) from => _, to = inout(reg) to => _,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            options(nostack)
        );
    }
}

/// Stores the words of a message that travel in registers. The compiler would not pair atomic stores.
#[inline(always)]
pub(super) fn put(from: &[u64; REGISTER_WORDS], to: &[AtomicU64; REGISTER_WORDS]) {
    // SAFETY: in both directions as for `copy`; nobody else writes a packet before it is published.
    unsafe { copy_eight(from.as_ptr(), to.as_ptr().cast_mut().cast()) };
}

/// Loads them.
#[inline(always)]
pub(super) fn take(from: &[AtomicU64; REGISTER_WORDS], to: &mut [u64; REGISTER_WORDS]) {
    // SAFETY: as above; nobody writes a packet until it is given back.
    unsafe { copy_eight(from.as_ptr().cast(), to.as_mut_ptr()) };
}

const _: () = assert!(REGISTER_WORDS == 8);

/// # Safety
/// `from` may be read and `to` written, eight words each; aligned; no overlap.
#[inline(always)]
unsafe fn copy_eight(from: *const u64, to: *mut u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!(
            "ldp     {a}, {b}, [{from}]",
            "ldp     {c}, {d}, [{from}, #16]",
            "ldp     {e}, {f}, [{from}, #32]",
            "ldp     {g}, {h}, [{from}, #48]",
            "stp     {a}, {b}, [{to}]",
            "stp     {c}, {d}, [{to}, #16]",
            "stp     {e}, {f}, [{to}, #32]",
            "stp     {g}, {h}, [{to}, #48]",
            from = in(reg) from, to = in(reg) to,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            e = out(reg) _, f = out(reg) _, g = out(reg) _, h = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}
