//! What only instructions can say: entry, exceptions, the trampoline into a kernel, cache maintenance, semihosting.
#![expect(unsafe_code, reason = "system registers, cache maintenance and the change of address spaces")]

use core::arch::{asm, global_asm};

use skerry_abi::boot::Range;

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __trampoline_start: u8;
    static __trampoline_end: u8;
}

// Entry. QEMU jumps to the first byte of the image at EL1 with x0 = device tree, MMU and caches off, interrupts masked.
// The flat image does not include what is zero, so that is cleared here, before any Rust runs.
global_asm!(
    ".section .text.entry, \"ax\"",
    ".global _start",
    "_start:",
    "    adrp x1, __bss_start",
    "    adrp x2, __bss_end", // both page-aligned by the linker script
    "1:  cmp  x1, x2",
    "    b.hs 2f",
    "    stp  xzr, xzr, [x1], #16",
    "    b    1b",
    "2:  adrp x1, __stack_top",
    "    mov  sp, x1",
    "    adr  x1, {vectors}",
    "    msr  vbar_el1, x1",
    "    isb",
    "    mov  x29, xzr",
    "    mov  x30, xzr",
    "    b    {main}",
    vectors = sym exception_vectors,
    main = sym loader_main,
);

extern "C" fn loader_main(device_tree: u64) -> ! {
    crate::guest::main(device_tree)
}

unsafe extern "C" {
    fn exception_vectors();
}

// Exceptions. One is expected: `hlt #0xf000` is undefined where nobody offers semihosting; it is skipped with x0 = -1,
// the answer "failed". Everything else is a defect of the loader and ends the boot instead of hanging it.
global_asm!(
    ".section .text.vectors, \"ax\"",
    ".balign 0x800",
    ".global exception_vectors",
    "exception_vectors:",
    ".rept 16",
    "    b    8f",
    ".balign 0x80",
    ".endr",
    "8:  stp  x2, x3, [sp, #-16]!",
    "    mrs  x2, esr_el1",
    "    lsr  x3, x2, #26",
    "    cbnz x3, 9f", // exception class 0: undefined instruction
    "    mrs  x2, elr_el1",
    "    ldr  w3, [x2], #4",
    "    msr  elr_el1, x2",
    "    mov  w2, #0x0000",
    "    movk w2, #0xd45e, lsl #16", // hlt #0xf000
    "    cmp  w2, w3",
    "    b.ne 9f",
    "    ldp  x2, x3, [sp], #16",
    "    mov  x0, #-1",
    "    eret",
    "9:  mrs  x0, esr_el1",
    "    mrs  x1, elr_el1",
    "    mrs  x2, far_el1",
    "    b    {report}",
    report = sym unexpected_exception,
);

extern "C" fn unexpected_exception(esr: u64, elr: u64, far: u64) -> ! {
    crate::guest::fail(&format_args!(
        "unexpected exception in the loader: ESR {esr:#x} ELR {elr:#x} FAR {far:#x}"
    ))
}

// The trampoline: from "MMU off, x0 = start block" to a kernel's entry point. It runs at its physical address and must
// not touch memory once the MMU is on, so all words of the block (see `Start`) are loaded first.
//
// Order: Arm ARM, "Enabling and disabling the MMU": the translation registers are written and synchronized (ISB) before
// the TLB is invalidated, stale entries and instructions are gone (DSB) before SCTLR_EL1.M is set, and an ISB follows
// before anything depends on it. Instruction caches may hold lines of whatever lay there before.
global_asm!(
    ".section .trampoline, \"ax\"",
    "    msr  daifset, #0xf",
    "    ldp  x1, x2, [x0]",
    "    ldp  x3, x4, [x0, #16]",
    "    ldp  x5, x6, [x0, #32]",
    "    ldp  x7, x8, [x0, #48]",
    "    ldr  x9, [x0, #64]",
    "    msr  ttbr0_el1, x1",
    "    msr  ttbr1_el1, x2",
    "    msr  tcr_el1, x3",
    "    msr  mair_el1, x4",
    "    isb",
    "    tlbi vmalle1",
    "    ic   iallu",
    "    dsb  nsh",
    "    isb",
    "    msr  sctlr_el1, x5",
    "    isb",
    "    msr  spsel, #1",
    "    mov  sp, x9",
    "    mov  x0, x7",
    "    mov  x1, x8",
    "    mov  x29, xzr",
    "    mov  x30, xzr",
    "    br   x6",
);

/// The loader's own memory.
pub(crate) fn image() -> Range {
    between(&raw const __image_start, &raw const __image_end)
}

/// The trampoline's page: it is entered at its first byte with x0 = address of a start block.
pub(crate) fn trampoline() -> Range {
    between(&raw const __trampoline_start, &raw const __trampoline_end)
}

fn between(start: *const u8, end: *const u8) -> Range {
    Range { base: start.addr() as u64, size: (end.addr() - start.addr()) as u64 }
}

/// Leaves the loader for the kernel described by the start block at this address.
pub(crate) fn enter_kernel(start: u64) -> ! {
    // SAFETY: `load` wrote the block and all it refers to, and the caches are clean (`guest::boot`). The loader's stack is
    // given up, nothing on it is needed any more.
    unsafe { asm!("br {}", in(reg) trampoline().base, in("x0") start, options(noreturn)) }
}

macro_rules! read_register {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading this register changes nothing.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, pure)) }
        value
    }};
}

/// The exception level the loader runs at.
pub(crate) fn exception_level() -> u64 {
    (read_register!("CurrentEL") >> 2) & 3
}

/// The affinity fields of this CPU.
pub(crate) fn affinity() -> u64 {
    read_register!("MPIDR_EL1") & 0xff_00ff_ffff
}

/// ID_AA64MMFR0_EL1.
pub(crate) fn mmfr0() -> u64 {
    read_register!("ID_AA64MMFR0_EL1")
}

/// ID_AA64MMFR1_EL1.
pub(crate) fn mmfr1() -> u64 {
    read_register!("ID_AA64MMFR1_EL1")
}

/// Makes memory that the loader wrote safe to be read through caches, by any CPU.
///
/// With the MMU off, data accesses are Device-nGnRnE (Arm ARM, "The effects of disabling a stage of address translation"):
/// what the loader wrote is in memory and in no cache. But a cache may hold *older* lines of these addresses, fetched
/// through somebody else's cacheable mapping (firmware, or the emulator's under virtualization), and a CPU that turns its
/// caches on would hit them. So every line is removed to the Point of Coherency before any CPU is started. None of them can
/// be dirty and overwrite what the loader wrote: it was entered with clean caches, and no cached store happened since.
/// "Clean and invalidate" is what a hypervisor turns a pure invalidation into anyway (HCR_EL2.VM). The DSB completes the
/// maintenance before the PSCI call that follows.
pub(crate) fn clean_to_poc(range: Range) {
    let line = 4 << ((read_register!("CTR_EL0") >> 16) & 15); // DminLine: log2 of the words in the smallest data line
    let first = range.base & !(line - 1);
    for address in (first..range.end()).step_by(line as usize) {
        // SAFETY: cache maintenance by address changes no contents; see above for why no dirty line is written back.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) }
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// A semihosting call; -1 if it failed or nobody takes such calls.
fn semihosting(operation: u64, parameter: u64) -> i64 {
    let result: i64;
    // SAFETY: the operations used here (below) read at most the parameter block. Without semihosting the instruction is
    // undefined, and the exception handler above skips it, touching only x0, flags and the stack.
    unsafe { asm!("hlt #0xf000", inout("x0") operation => result, in("x1") parameter) }
    result
}

/// Whether somebody takes semihosting calls.
pub(crate) fn has_semihosting() -> bool {
    const SYS_ERRNO: u64 = 0x13;
    semihosting(SYS_ERRNO, 0) != -1
}

/// Ends the run with this exit code, if somebody takes semihosting calls; else returns.
pub(crate) fn exit(code: u64) {
    const SYS_EXIT: u64 = 0x18;
    const APPLICATION_EXIT: u64 = 0x2_0026;
    let block = [APPLICATION_EXIT, code];
    semihosting(SYS_EXIT, (&raw const block).expose_provenance() as u64);
}

/// Lets other CPUs run: `core::hint::spin_loop` is an ISB, which an emulator that runs one CPU at a time does not notice.
pub(crate) fn relax() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) }
}

/// Stops this CPU.
pub(crate) fn stop() -> ! {
    loop {
        // SAFETY: waits for an interrupt; all are masked.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) }
    }
}
