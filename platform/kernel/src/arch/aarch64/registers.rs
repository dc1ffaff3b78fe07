//! System registers and instructions that Rust has no name for.
#![expect(unsafe_code, reason = "assembly")]

use core::sync::atomic::{AtomicU64, Ordering};

/// Reads a system register.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading an EL1 system register of an ARMv8.2 CPU has no effect on memory.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}
/// Writes a system register. The caller says with a comment why the new value keeps the kernel's mappings intact.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: no register written here changes the kernel's own translation (TTBR1, TCR and MAIR are the boot
        // loader's); what it changes for user mode is the point of the call.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}
pub(super) use {read_sysreg, write_sysreg};

/// One instruction without operands.
macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name() {
            // SAFETY: barriers and hints change no state that Rust code can see.
            unsafe { core::arch::asm!($text, options(nostack, preserves_flags)) };
        }
    };
}
instruction!(/// Context synchronisation.
    isb, "isb");
instruction!(/// Entries written before are seen by table walks after (D8.13).
    dsb_ishst, "dsb ishst");
instruction!(/// Completion of what this CPU did, as far as this CPU is concerned.
    dsb_nsh, "dsb nsh");
instruction!(/// Completion everywhere in the inner shareable domain.
    dsb_ish, "dsb ish");
instruction!(/// Completion everywhere, of accesses to devices too.
    dsb_sy, "dsb sy");
instruction!(/// Sleep until an interrupt is pending, masked or not.
    wfi, "wfi");
instruction!(/// Lets the emulator's other CPUs run; a hint elsewhere.
    yield_cpu, "yield");

/// `TLBI <op>, Xt`.
macro_rules! tlbi {
    ($op:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: dropping TLB entries never changes what an access means, as the tables are in memory.
        unsafe { core::arch::asm!(concat!("tlbi ", $op, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}
pub(super) use tlbi;

/// Sets words to zero, a block of DC ZVA at a time where they are whole such blocks.
pub(super) fn zero(words: &[AtomicU64]) {
    let dczid = read_sysreg!("dczid_el0");
    let block = 4u64 << (dczid & 0xf);
    let (start, bytes) = (words.as_ptr() as u64, size_of_val(words) as u64);
    if dczid & 0x10 != 0 || (start | bytes) & (block - 1) != 0 {
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        return;
    }
    // SAFETY: the blocks are those of `words`, whose elements are atomics: they may change under a shared reference. PHYSMAP maps RAM
    // as normal memory.
    unsafe {
        core::arch::asm!(
            "sub    {eight}, {end}, {block}, lsl #3",
            "b      3f",
            "2: dc  zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "dc     zva, {at}",
            "add    {at}, {at}, {block}",
            "3: cmp {at}, {eight}",
            "b.ls   2b",
            "b      5f",
            "4: dc  zva, {at}",
            "add    {at}, {at}, {block}",
            "5: cmp {at}, {end}",
            "b.lo   4b",
            at = inout(reg) start => _, end = in(reg) start + bytes, block = in(reg) block, eight = out(reg) _,
            options(nostack)
        );
    }
}

/// The physical address behind a kernel address that is mapped.
pub(super) fn physical(va: u64) -> u64 {
    // SAFETY: an address translation writes PAR_EL1 only, which nothing else uses.
    unsafe { core::arch::asm!("at s1e1r, {}", in(reg) va, options(nostack, preserves_flags)) };
    isb();
    (read_sysreg!("par_el1") & 0x000f_ffff_ffff_f000) | (va & 0xfff)
}
