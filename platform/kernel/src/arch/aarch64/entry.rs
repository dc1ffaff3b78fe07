//! Exception vectors.
//!
//! While a thread runs in user mode SP_EL1 points to its [`Context`], so an exception saves the registers without
//! looking anything up; then SP_EL1 becomes the CPU's kernel stack (first word behind TPIDR_EL1). An exception
//! *in* the kernel is always a bug: it goes to an emergency stack (second word), since the first one may be the problem.
//!
//! Conditional branches have labels as in [`super::ipc_fast`].
#![expect(unsafe_code, reason = "assembly")]

use super::dispatch::class;
use super::percpu::PerCpu;
use core::arch::global_asm;
use core::mem::offset_of;
use skerry_abi::syscall::{AUDIT, IPC, NULL, UNMAP};
use skerry_kernel::fastpath::FastPath;
use skerry_kernel::syscall::{ESR_SVC64, is_call};
use skerry_kernel::thread::{Context, Tcb};
use skerry_kernel::unmap::ONE_FPAGE;

/// The highest number of a system call, and one below that is none.
const LAST_CALL: u16 = AUDIT;
const NO_CALL: u16 = 5;

/// A bit that is set in ESR_EL1 of both kinds of abort when that of system call 0 is subtracted. Other exceptions may have it or not.
const ABORT_BIT: u32 = 29;
const fn has_abort_bit(class: u64) -> bool {
    ((class << 26) - ESR_SVC64) >> ABORT_BIT & 1 != 0
}
const _: () = assert!(has_abort_bit(class::DATA_ABORT) && has_abort_bit(class::INSTRUCTION_ABORT));

// Numbers that come to `user_call` and are none of these are calls.
const _: () = {
    let mut number = 0;
    while number < u16::MAX {
        let other = matches!(number, IPC | UNMAP | NULL);
        let call = number <= LAST_CALL && number != NO_CALL;
        assert!(is_call(number) == (call && !other));
        number += 1;
    }
};
const _: () = assert!(offset_of!(Context, x) == 0 && offset_of!(Context, sp) == 248);
const _: () = assert!(offset_of!(Context, pc) == 256 && offset_of!(Context, pstate) == 264);

global_asm!(
    r#"
    // All but x16 and x17, which the vectors have saved. Leaves x19 = the context, x14 = this CPU.
    .macro  save_context
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    mov     x19, sp
    mrs     x21, sp_el0
    stp     x30, x21, [sp, #16 * 15]
    mrs     x22, elr_el1
    mrs     x23, spsr_el1
    stp     x22, x23, [sp, #16 * 16]
    mrs     x14, tpidr_el1
    ldr     x9, [x14]
    mov     sp, x9
    .endm

    // What a system call may clobber, but for x0 to x3: nothing of the kernel's leaves it there.
    .macro  scrub_rest
    mov     x4, #0
    mov     x5, #0
    mov     x6, #0
    mov     x7, #0
    mov     x8, #0
    mov     x9, #0
    mov     x10, #0
    mov     x11, #0
    mov     x12, #0
    mov     x13, #0
    mov     x14, #0
    mov     x15, #0
    mov     x16, #0
    mov     x17, #0
    mov     x18, #0
    .endm

    .macro  vector, handler
    .balign 128
    b       \handler
    .endm

    .pushsection .text.vectors, "ax"
    .balign 2048
    .global exception_vectors
exception_vectors:
    .rept   4                       // current EL, SP_EL0: never used
    vector  kernel_fault
    .endr
    .rept   4                       // current EL, SP_EL1
    vector  kernel_fault
    .endr
    .balign 128                     // lower EL, 64 bit
    stp     x16, x17, [sp, #16 * 8]
    mrs     x16, esr_el1
    mov     x17, #{svc}
    sub     x16, x16, x17           // the number of a system call, or something large
entry_case_ipc:
    cbz     x16, ipc_fast
    cmp     x16, #{unmap_call}
entry_case_unmap:
    b.eq    unmap_fast
    cmp     x16, #{null}
entry_case_null:
    b.ne    user_call
    ldp     x16, x17, [sp, #16 * 8]
    mov     x0, #0
    eret
    .balign 128
    stp     x16, x17, [sp, #16 * 8]
    b       user_irq
    vector  kernel_fault
    .balign 128
    stp     x16, x17, [sp, #16 * 8]
    b       user_serror
    .rept   4                       // lower EL, 32 bit: not offered
    vector  kernel_fault
    .endr

    // One page (or 64 KiB) to unmap, in a cluster of one CPU: no thread switch, so what functions preserve stays in the registers.
unmap_fast:
part_entry_2:
    mrs     x14, tpidr_el1
    cmp     x0, #{one_fpage}
unmap_check_one:
    b.ne    2f
    ldr     x15, [x14, #{thread_count}]
unmap_check_alone:
    cbz     x15, 2f
    stp     x0, x1, [sp, #16 * 0]
    stp     x19, x30, [sp, #8 * 19]             // where x19 belongs; the place of x20 is free so far
    mov     x0, x1
    ldrh    w1, [sp, #{space}]
    mov     x19, sp
    ldr     x14, [x14]
    mov     sp, x14
    bl      {unmap}
part_exit_3:
    mov     sp, x19
    ldp     x19, x30, [sp, #8 * 19]
unmap_check_done:
    cbz     x0, 1f
    mov     x1, x0
part_scrub_2:
    mov     x0, #0
    mov     x2, #0
    mov     x3, #0
    scrub_rest
part_exit_4:
    eret
    // Nothing has been done: back to where it began, but for x2 to x15 and x18, which the call may clobber. They are saved now, and nobody
    // may see the kernel's words there, should the thread go on elsewhere before the call is over.
part_entry_3:
1:  ldp     x0, x1, [sp, #16 * 0]
    mov     x2, #0
    mov     x3, #0
    scrub_rest
2:  mov     x14, #0
    mov     x15, #0
    b       user_sync

    // The rest of what an IPC saves. Leaves SP_EL1 = the kernel stack.
    .macro  save_arguments
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    .endm
    .macro  save_state
    mrs     x15, sp_el0
    mrs     x16, elr_el1
    mrs     x17, spsr_el1
    stp     x15, x16, [sp, #8 * 31]
    str     x17, [sp, #8 * 33]
    ldr     x14, [x14]
    mov     sp, x14
    .endm

    // From the fast path, with all of the user's registers but x14 to x18, which an IPC may clobber; x19 to x30 are
    // saved.
    .global ipc_general
ipc_general:
    save_arguments
    .global ipc_general_saved
ipc_general_saved:
    save_state
    bl      {ipc}
    b       resume_thread

    // The same where no slot is known; x16 = how many there are for the assembly, none in a cluster of several CPUs.
    .global ipc_no_slot
ipc_no_slot:
ipc_case_alone:
    cbnz    x16, ipc_general
    save_arguments
    save_state
    bl      {shared_ipc}
    b       resume_thread

    // Other system calls: their arguments are in x0 to x6, their results in x0 to x3. Mostly the caller goes on, and what functions
    // preserve is in its registers still.
user_call:
part_entry_4:
call_case_abort:
    tbnz    x16, #{abort_bit}, user_sync        // an abort: not a number at all
    cmp     x16, #{last_call}
    ccmp    x16, #{no_call}, #4, ls
call_check_number:
    b.eq    user_sync
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     xzr, xzr, [sp, #16 * 4]             // whoever returns to the caller finds the others scrubbed
    stp     xzr, xzr, [sp, #16 * 5]
    stp     xzr, xzr, [sp, #16 * 6]
    stp     xzr, xzr, [sp, #16 * 7]
    stp     xzr, xzr, [sp, #16 * 8]
    stp     xzr, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    mrs     x9, sp_el0
    mrs     x10, elr_el1
    mrs     x11, spsr_el1
    stp     x30, x9, [sp, #16 * 15]
    stp     x10, x11, [sp, #16 * 16]
    mrs     x9, tpidr_el1
    mov     x19, sp
    ldr     x9, [x9]
    mov     sp, x9
    mov     w0, w16
    bl      {call}
part_exit_5:
call_check_caller:
    cbnz    x0, resume_thread
    mov     sp, x19
    ldr     x19, [sp, #8 * 19]
    ldr     x30, [sp, #8 * 30]
    ldp     x0, x1, [sp, #16 * 0]
    ldp     x2, x3, [sp, #16 * 1]
part_scrub_3:
    scrub_rest
part_exit_6:
    eret

user_sync:
part_entry_5:
    save_context
    mrs     x0, esr_el1
    mrs     x1, far_el1
    lsr     x2, x0, #26
    cmp     x2, #{data_abort}
sync_case_data:
    b.eq    fault_fast
    cmp     x2, #{instruction_abort}
sync_case_fetch:
    b.eq    fault_fast
    bl      {sync}
    b       resume_thread
user_irq:
    save_context
    bl      {irq}
    b       resume_thread
user_serror:
    save_context
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       {fault}

kernel_fault:
    mrs     x0, tpidr_el1
    ldr     x1, [x0, #8]
    mov     sp, x1
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       {fault}

    // x0 = Context of the thread to run
    .global resume_thread
resume_thread:
    mov     sp, x0
    ldp     x22, x23, [sp, #16 * 16]
    msr     elr_el1, x22
    msr     spsr_el1, x23
    ldp     x30, x21, [sp, #16 * 15]
    msr     sp_el0, x21
    ldp     x2, x3, [sp, #16 * 1]
    ldp     x4, x5, [sp, #16 * 2]
    ldp     x6, x7, [sp, #16 * 3]
    ldp     x8, x9, [sp, #16 * 4]
    ldp     x10, x11, [sp, #16 * 5]
    ldp     x12, x13, [sp, #16 * 6]
    ldp     x14, x15, [sp, #16 * 7]
    ldp     x16, x17, [sp, #16 * 8]
    ldp     x18, x19, [sp, #16 * 9]
    ldp     x20, x21, [sp, #16 * 10]
    ldp     x22, x23, [sp, #16 * 11]
    ldp     x24, x25, [sp, #16 * 12]
    ldp     x26, x27, [sp, #16 * 13]
    ldp     x28, x29, [sp, #16 * 14]
    ldp     x0, x1, [sp, #16 * 0]
    eret
    .global exception_vectors_end
exception_vectors_end:
    .popsection
    "#,
    sync = sym super::dispatch::user_sync,
    irq = sym super::dispatch::user_irq,
    fault = sym super::dispatch::kernel_fault,
    ipc = sym super::fastpath::ipc,
    shared_ipc = sym super::fastpath::shared_ipc,
    call = sym super::dispatch::user_call,
    abort_bit = const ABORT_BIT,
    last_call = const LAST_CALL,
    no_call = const NO_CALL,
    svc = const ESR_SVC64,
    null = const NULL,
    data_abort = const class::DATA_ABORT,
    instruction_abort = const class::INSTRUCTION_ABORT,
    space = const offset_of!(Tcb, space),
    unmap = sym super::fastpath::unmap,
    unmap_call = const UNMAP,
    one_fpage = const ONE_FPAGE,
    thread_count = const offset_of!(PerCpu, fast) + offset_of!(FastPath, thread_count),
);

unsafe extern "C" {
    static exception_vectors: u8;
    fn resume_thread(context: *mut Context) -> !;
}

/// Address of the vector table.
pub(super) fn vectors() -> u64 {
    &raw const exception_vectors as u64
}

/// Leaves the kernel for the first time on this CPU.
///
/// # Safety
/// `context` is the saved state of a thread that this CPU's run queue names as current, in kernel memory that is
/// never freed; TTBR0 holds its space.
pub(super) unsafe fn enter_user(context: *mut Context) -> ! {
    // SAFETY: as the caller promises; the stack that is abandoned holds nothing any more.
    unsafe { resume_thread(context) }
}
