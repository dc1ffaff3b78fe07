//! Copying words between UTCBs, four at a time.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

/// Copies as many words as both have. Programs may write both sides meanwhile: what they get then is their own affair, but no
/// word is torn (an `ldp` of aligned words is two single-copy atomic accesses, B2.2.1).
#[inline(always)]
pub(super) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    let mut words = from.len().min(to.len());
    let (mut from, mut to) = (from.as_ptr(), to.as_ptr());
    // SAFETY: both slices have `words` words, which are cells that anybody may write; nothing beyond them is touched.
    unsafe {
        asm!(
            "subs    {n}, {n}, #4",
            "b.lo    3f",
            "2: ldp  {a}, {b}, [{from}], #16",
            "ldp     {c}, {d}, [{from}], #16",
            "stp     {a}, {b}, [{to}], #16",
            "stp     {c}, {d}, [{to}], #16",
            "subs    {n}, {n}, #4",
            "b.hs    2b",
            "3: adds {n}, {n}, #4",
            "b.eq    5f",
            "4: ldr  {a}, [{from}], #8",
            "str     {a}, [{to}], #8",
            "subs    {n}, {n}, #1",
            "b.ne    4b",
            "5:",
            n = inout(reg) words, from = inout(reg) from, to = inout(reg) to,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            options(nostack)
        );
    }
    _ = (words, from, to);
}
