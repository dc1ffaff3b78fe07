//! The IPC fast path of a cluster with one CPU, in assembly: the message never leaves the registers.
//!
//! It does what [`skerry_kernel::kernel::Kernel::fast_ipc`] does, which says why each check is there; here they are in the
//! same order, each a branch with a label `ipc_check_…`, so that a test can take one out and see the hostile case succeed. Until the last check nothing is
//! changed, and what is not the simple case goes to `ipc_general`, as if the fast path did not exist.
//! Clusters of several CPUs need the lock: there `thread_count` is 0, and the Rust version runs.
//!
//! Labels `part_…` say in the ledger (`docs/kernel-ledger.md`) what the instructions behind them are for.
//!
//! On entry (from the exception vector): x0..x13 are the user's, x16 and x17 are saved already, SP_EL1 is the sender's TCB.
//! The sender waits afterwards; of its registers only those that a function call preserves are kept. PSTATE is not: flags are
//! the caller's to lose, and the rest is zero at EL0.
#![expect(unsafe_code, reason = "assembly")]

use super::percpu::PerCpu;
use core::arch::global_asm;
use core::mem::offset_of;
use skerry_abi::Tag;
use skerry_abi::layout::PHYSMAP;
use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS, Utcb};
use skerry_kernel::fastpath::FastPath;
use skerry_kernel::sched::RunQueue;
use skerry_kernel::thread::{Context, Operation, State, Tcb};

const FAST: usize = offset_of!(PerCpu, fast);
const OP: usize = offset_of!(Tcb, op);

// What `ldp` and `stp` take in pairs.
const _: () =
    assert!(offset_of!(Tcb, context) == 0 && offset_of!(Context, pc) == offset_of!(Context, sp) + 8);
const _: () = assert!(offset_of!(Tcb, domain) == offset_of!(Tcb, id) + 8);
const _: () = assert!(offset_of!(Tcb, utcb_va) == offset_of!(Tcb, tls) + 8);
const _: () = assert!(offset_of!(Tcb, reply_space) == offset_of!(Tcb, open_to) + 8);
const _: () = assert!(offset_of!(Tcb, notified) == offset_of!(Tcb, senders) + 8);
const _: () = assert!(offset_of!(Tcb, granted) == offset_of!(Tcb, pager) + 8);
const _: () = assert!(offset_of!(Operation, from) == offset_of!(Operation, dest) + 8);
const _: () = assert!(offset_of!(Operation, window) == offset_of!(Operation, receive_timeout) + 8);
const _: () = assert!(offset_of!(FastPath, thread_count) == offset_of!(FastPath, threads) + 8);
const _: () = assert!(offset_of!(PerCpu, ttbr0) == offset_of!(PerCpu, loaded) + 8);

global_asm!(
    r#"
    .pushsection .text.ipc_fast, "ax"
    .balign 64
    .global ipc_fast
ipc_fast:
part_entry_1:
    stp     x19, x20, [sp, #8 * 19]
    stp     x21, x22, [sp, #8 * 21]
    stp     x23, x24, [sp, #8 * 23]
    stp     x25, x26, [sp, #8 * 25]
    stp     x27, x28, [sp, #8 * 27]
    stp     x29, x30, [sp, #8 * 29]
    mrs     x14, tpidr_el1                      // x14 = this CPU

    // The partner exists: x19 = its TCB.
part_lookup_1:
    ldp     x15, x16, [x14, #{threads}]
    and     x17, x0, #0xffff                    // x17 = its slot
    cmp     x17, x16
ipc_check_slot:
    b.hs    ipc_general
    add     x19, x15, x17, lsl #{tcb_shift}
    ldp     x20, x21, [x19, #{id}]              // x20, x21 = its id and domain
    cmp     x20, x0
ipc_check_name:
    b.ne    ipc_general

    // It waits for anybody, or for us.
part_partner_waits_1:
    ldp     x24, x25, [sp, #{id}]               // x24, x25 = our id and domain
    ldr     x22, [x19, #{open_to}]
    cmp     x22, x24
    ccmn    x22, #1, #4, ne
ipc_check_open:
    b.ne    ipc_general

    // On this CPU, and nobody is more urgent.
part_priority_1:
    ldr     x22, [x19, #{standing}]
    ldr     x26, [x14, #{queue}]                // x26 = our run queue
    ldr     x23, [x26, #{floor}]
    sub     x22, x22, x23
    cmp     x22, #255
ipc_check_standing:
    b.hi    ipc_general

    // Plain words, and no label of the kernel.
part_message_check_1:
    and     x27, x2, #0xfff                     // x27 = words, bit 6: more than registers hold
    cmp     x27, #{register_words}
    b.hi    9f
1:  asr     x28, x2, #48
    cmn     x28, #1
ipc_check_label:
    b.eq    ipc_general

    // We wait for the answer, or for anybody, without a deadline and without a window.
part_own_wait_1:
    cmn     x12, #1
    ccmp    x13, #0, #0, eq
ipc_check_wait:
    b.ne    ipc_general
    cmp     x0, x1
    b.ne    3f
    ldr     x28, [x19, #{space_id}]             // x28 = who may answer

    // We may send to it: same domain, our pager, a granted partner.
part_permission_1:
    cmp     x21, x25
    b.ne    4f

    // Nothing can go wrong from here on.
part_bookkeeping_1:
2:  tbnz    x27, #6, 5f
6:  ldr     x15, [x14, #{ipcs}]
    ldr     x16, [x15]
    add     x16, x16, #1
    str     x16, [x15]
    stp     x0, x1, [sp, #{op_dest}]
    stp     x12, x13, [sp, #{op_receive_timeout}]
    str     x12, [sp, #{deadline}]              // none
    strb    wzr, [sp, #{op_kind}]
    mov     w15, #{receiving}
    strb    w15, [sp, #{state}]
    stp     x1, x28, [sp, #{open_to}]
    stp     xzr, xzr, [x19, #{open_to}]
    mov     w15, #{ready}
    strb    w15, [x19, #{state}]
    str     w17, [x26, #{current}]

    // The other's space, thread registers and stack.
part_switch_1:
    mrs     x15, tpidr_el0
    str     x15, [sp, #{tls}]
    ldp     x15, x16, [x19, #{tls}]
    ldr     x17, [x19, #{ttbr0}]
    msr     tpidr_el0, x15
    msr     tpidrro_el0, x16
    msr     ttbr0_el1, x17                      // the kernel does not use it, and leaving synchronizes
    stp     x20, x17, [x14, #{loaded}]
    ldr     x15, [x14, #{fp_owner}]
    cmp     x15, x24
    ccmp    x15, x20, #4, ne
    b.eq    7f
part_exit_1:
8:  mrs     x15, sp_el0
    mrs     x16, elr_el1
    stp     x15, x16, [sp, #8 * 31]
    mov     sp, x19
    ldp     x15, x16, [sp, #8 * 31]
    msr     sp_el0, x15
    msr     elr_el1, x16
    msr     spsr_el1, xzr

    mov     x0, x24
    mov     x1, x25
    and     x2, x2, #{tag_mask}
    ldp     x19, x20, [sp, #8 * 19]
    ldp     x21, x22, [sp, #8 * 21]
    ldp     x23, x24, [sp, #8 * 23]
    ldp     x25, x26, [sp, #8 * 25]
    ldp     x27, x28, [sp, #8 * 27]
    ldp     x29, x30, [sp, #8 * 29]
    // Nothing of the sender's or the kernel's but the message.
part_scrub_1:
    mov     x11, #0
    mov     x12, #0
    mov     x13, #0
    mov     x14, #0
    mov     x15, #0
    mov     x16, #0
    mov     x17, #0
    mov     x18, #0
part_exit_2:
    eret

    // A reply: then we wait for anybody, and nobody may wait for us already.
part_own_wait_2:
3:  cmn     x1, #1
    b.ne    ipc_general
    ldp     x15, x16, [sp, #{senders}]
    cmn     w15, #1
    ccmp    x16, #0, #0, eq
ipc_check_senders:
    b.ne    ipc_general
    mov     x28, #0
part_permission_2:
    // We may answer: our space was called, or the same domain; anything else is rare.
    ldr     x15, [x19, #{reply_space}]
    ldr     x16, [sp, #{space_id}]
    cmp     x15, x16
    ccmp    x21, x25, #4, ne
ipc_check_reply:
    b.ne    ipc_general
    b       2b

part_permission_3:
4:  ldp     x15, x16, [sp, #{pager}]
    cmp     x15, x0
    ccmp    x16, x0, #4, ne
ipc_check_permission:
    b.ne    ipc_general
    b       2b

    // Many words. From MR9 on they go from UTCB to UTCB, eight at a time, then one by one.
part_message_check_2:
9:  cmp     x27, #{max_words}
ipc_check_words:
    b.hi    ipc_general
    orr     x27, x27, #64
    b       1b
part_message_1:
5:  and     x27, x27, #63
    sub     x27, x27, #{register_words}
    ldr     x15, [sp, #{utcb_pa}]
    ldr     x16, [x19, #{utcb_pa}]
    mov     x18, #{physmap}
    add     x15, x15, x18
    add     x16, x16, x18
    add     x15, x15, #{mr9}
    add     x16, x16, #{mr9}
    subs    x27, x27, #8
    b.lo    52f
51: ldp     x11, x18, [x15], #16
    ldp     x21, x22, [x15], #16
    ldp     x23, x29, [x15], #16
    ldp     x30, x12, [x15], #16
    stp     x11, x18, [x16], #16
    stp     x21, x22, [x16], #16
    stp     x23, x29, [x16], #16
    stp     x30, x12, [x16], #16
    subs    x27, x27, #8
    b.hs    51b
    mov     x12, #-1                            // the receive timeout that it was
52: adds    x27, x27, #8
    b.eq    6b
53: ldr     x11, [x15], #8
    str     x11, [x16], #8
    subs    x27, x27, #1
    b.ne    53b
    b       6b

    // The floating-point unit holds our registers or the other's: trap unless they are the other's.
part_floating_point_1:
7:  cmp     x15, x20
    mov     x16, #{fp_on}
    mov     x18, #{fp_trap}
    csel    x16, x16, x18, eq
    msr     cpacr_el1, x16
    b       8b
    .popsection
    "#,
    threads = const FAST + offset_of!(FastPath, threads),
    queue = const FAST + offset_of!(FastPath, queue),
    ipcs = const FAST + offset_of!(FastPath, ipcs),
    loaded = const offset_of!(PerCpu, loaded),
    fp_owner = const offset_of!(PerCpu, fp_owner),
    fp_on = const super::fp::NO_TRAP,
    fp_trap = const super::fp::TRAP_USER,
    floor = const RunQueue::FLOOR,
    current = const RunQueue::CURRENT,
    tcb_shift = const size_of::<Tcb>().trailing_zeros(),
    id = const offset_of!(Tcb, id),
    space_id = const offset_of!(Tcb, space_id),
    open_to = const offset_of!(Tcb, open_to),
    reply_space = const offset_of!(Tcb, reply_space),
    standing = const offset_of!(Tcb, priority),
    state = const offset_of!(Tcb, state),
    receiving = const State::Receiving as u8,
    ready = const State::Ready as u8,
    senders = const offset_of!(Tcb, senders),
    deadline = const offset_of!(Tcb, deadline),
    pager = const offset_of!(Tcb, pager),
    tls = const offset_of!(Tcb, tls),
    ttbr0 = const offset_of!(Tcb, ttbr0),
    utcb_pa = const offset_of!(Tcb, utcb_pa),
    op_kind = const OP + offset_of!(Operation, kind),
    op_dest = const OP + offset_of!(Operation, dest),
    op_receive_timeout = const OP + offset_of!(Operation, receive_timeout),
    physmap = const PHYSMAP,
    mr9 = const offset_of!(Utcb, mr) + 8 * (1 + REGISTER_WORDS),
    register_words = const REGISTER_WORDS,
    max_words = const MAX_WORDS,
    tag_mask = const Tag::MASK,
);
