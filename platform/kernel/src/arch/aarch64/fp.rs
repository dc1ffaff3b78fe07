//! Lazy switching of the floating-point and SIMD registers: saved only when another thread of the CPU uses them.
//!
//! The kernel itself is built without floating point, so only this file touches the unit.
#![expect(unsafe_code, reason = "assembly")]

use super::percpu;
use super::registers::write_sysreg;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use skerry_abi::Counter;
use skerry_abi::ThreadId;
use skerry_kernel::hal::Hal;
use skerry_kernel::kernel::Kernel;
use skerry_kernel::thread::{FP_WORDS, FpState};

const _: () = assert!(offset_of!(FpState, fpcr) == 512 && offset_of!(FpState, fpsr) == 520);

/// CPACR_EL1.FPEN: EL0 traps, EL1 does not.
pub(super) const TRAP_USER: u64 = 0b01 << 20;
/// Nothing traps.
pub(super) const NO_TRAP: u64 = 0b11 << 20;

global_asm!(
    r#"
    .arch_extension fp
    .macro  all_q, op
    \op     q0, q1, [x0, #32 * 0]
    \op     q2, q3, [x0, #32 * 1]
    \op     q4, q5, [x0, #32 * 2]
    \op     q6, q7, [x0, #32 * 3]
    \op     q8, q9, [x0, #32 * 4]
    \op     q10, q11, [x0, #32 * 5]
    \op     q12, q13, [x0, #32 * 6]
    \op     q14, q15, [x0, #32 * 7]
    \op     q16, q17, [x0, #32 * 8]
    \op     q18, q19, [x0, #32 * 9]
    \op     q20, q21, [x0, #32 * 10]
    \op     q22, q23, [x0, #32 * 11]
    \op     q24, q25, [x0, #32 * 12]
    \op     q26, q27, [x0, #32 * 13]
    \op     q28, q29, [x0, #32 * 14]
    \op     q30, q31, [x0, #32 * 15]
    .endm
    .pushsection .text.fp, "ax"
fp_save:
    all_q   stp
    mrs     x1, fpcr
    mrs     x2, fpsr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret
fp_restore:
    all_q   ldp
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpcr, x1
    msr     fpsr, x2
    ret
    .popsection
    .arch_extension nofp
    "#
);

unsafe extern "C" {
    fn fp_save(state: *mut FpState);
    fn fp_restore(state: *const FpState);
}

/// Thread `t`, which runs here, used the unit for the first time since somebody else did.
pub(super) fn take_over<H: Hal>(kernel: &mut Kernel<'_, H>, t: u32) {
    kernel.counters.count(Counter::FpSwitches);
    kernel.note_unit(t);
    let id = kernel.thread(t).id;
    let previous = percpu::with(|cpu| core::mem::replace(&mut cpu.fp_owner, id));
    write_sysreg!("cpacr_el1", NO_TRAP);
    super::registers::isb();
    if let Some(owner) = kernel.find_thread(previous) {
        let owner = kernel.thread_mut(owner);
        owner.fp_live = false;
        // SAFETY: the unit holds that thread's registers (only this function loads them), and `fp` is 528 bytes.
        unsafe { fp_save(&raw mut owner.fp) };
    }
    let thread = kernel.thread_mut(t);
    if !thread.fp_used {
        thread.fp_used = true;
        thread.fp = FpState::EMPTY;
    }
    thread.fp_live = true;
    // SAFETY: `fp` was just zeroed, or saved by this function or `release`.
    unsafe { fp_restore(&raw const thread.fp) };
}

/// The thread whose registers are in the unit leaves this CPU: saves them.
pub(super) fn release(state: &mut FpState) {
    percpu::with(|cpu| cpu.fp_owner = ThreadId::NIL);
    // SAFETY: the kernel calls this for the unit's owner only (`Tcb::fp_live`), on its CPU; `state` is 528 bytes. The next thread that
    // runs here is not the owner, so it will trap (`dispatch::resume` sets that, as it is another one than before).
    unsafe { fp_save(state) };
}

/// The thread whose registers are in the unit leaves this cluster: saves them, and puts them into a packet.
pub(super) fn send(state: &mut FpState, packet: &[AtomicU64; FP_WORDS]) {
    release(state);
    // SAFETY: nobody has loaded the unit since. A packet's words are cells that the kernel may write, as many as `FpState` has and laid
    // out like it; `stp` needs no alignment beyond theirs.
    unsafe { fp_save(packet.as_ptr().cast_mut().cast()) };
}

/// Loads the unit from a packet for a thread that runs here next: `dispatch::load` opens it. Nobody needs what was there.
pub(super) fn take(owner: ThreadId, packet: &[AtomicU64; FP_WORDS]) {
    percpu::with(|cpu| cpu.fp_owner = owner);
    // SAFETY: as in `send`; the other kernel has published the packet and does not write it any more.
    unsafe { fp_restore(packet.as_ptr().cast()) };
}

/// Whether the unit holds nobody's registers.
#[inline(always)]
pub(super) fn is_free() -> bool {
    percpu::with(|cpu| cpu.fp_owner.is_nil())
}

/// From so many words on [`copy`] is worth the look whether the unit is free.
pub(super) const WORTH: usize = 16;

/// Copies words through the unit, which holds twice as much as the general registers. Each word is copied whole: a 16-byte access to
/// aligned words is two single-copy atomic ones (B2.2.1). What stays in the unit nobody sees: whoever uses it next finds his own
/// registers there ([`take_over`], [`take`]).
///
/// # Safety
/// `from` can be read and `to` can be written for `words` aligned words. The unit [`is_free`].
#[inline(always)]
pub(super) unsafe fn copy(from: *const u64, to: *mut u64, words: usize) {
    // SAFETY: as the caller promises. The compiler does not use the vector registers: the kernel is built without them.
    unsafe {
        asm!(
            ".arch_extension fp",
            "subs    {n}, {n}, #16",
            "b.lo    3f",
            "2: ldp  q0, q1, [{from}], #128",
            "ldp     q2, q3, [{from}, #-96]",
            "ldp     q4, q5, [{from}, #-64]",
            "ldp     q6, q7, [{from}, #-32]",
            "stp     q0, q1, [{to}], #128",
            "stp     q2, q3, [{to}, #-96]",
            "stp     q4, q5, [{to}, #-64]",
            "stp     q6, q7, [{to}, #-32]",
            "subs    {n}, {n}, #16",
            "b.hs    2b",
            // Minus sixteen or more, the lowest four bits are those of the words that are left.
            "3: tbz  {n}, #3, 4f",
            "ldp     q0, q1, [{from}], #64",
            "ldp     q2, q3, [{from}, #-32]",
            "stp     q0, q1, [{to}], #64",
            "stp     q2, q3, [{to}, #-32]",
            "4: tbz  {n}, #2, 5f",
            "ldp     q0, q1, [{from}], #32",
            "stp     q0, q1, [{to}], #32",
            "5: tbz  {n}, #1, 6f",
            "ldr     q0, [{from}], #16",
            "str     q0, [{to}], #16",
            "6: tbz  {n}, #0, 7f",
            "ldr     {word}, [{from}]",
            "str     {word}, [{to}]",
            "7:",
            ".arch_extension nofp",
            n = inout(reg) words => _, from = inout(reg) from => _, to = inout(reg) to => _, word = out(reg) _,
            options(nostack)
        );
    }
}

/// The thread whose registers are in the unit is gone.
pub(super) fn forget() {
    percpu::with(|cpu| cpu.fp_owner = ThreadId::NIL);
}

/// Sets the trap for the thread that runs next.
pub(super) fn allow(owner: bool) {
    write_sysreg!("cpacr_el1", if owner { NO_TRAP } else { TRAP_USER });
}
