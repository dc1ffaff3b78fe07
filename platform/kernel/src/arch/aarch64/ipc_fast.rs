//! The fast paths of a cluster with one CPU, in assembly: messages, page faults and their answers.
//!
//! They do what [`skerry_kernel::kernel::Kernel`]'s `fast_ipc`, `fast_fault` and `fast_answer` do, which say why each check is
//! there. Each check is a conditional branch with a label `…_check_…`, or a comparison in front of one: a test takes them out of the
//! shipped image one at a time and sees hostile cases succeed (docs/testing.md). Branches that only choose between cases have
//! labels `…_case_…`; the test insists that each branch has the one or the other.
//! Until the last check nothing is changed, and what is not the simple case goes to the general code as if the fast path did
//! not exist. Clusters of several CPUs need the lock: there `thread_count` is 0, and the Rust versions run.
//!
//! Labels `part_…` say in the ledger (`docs/kernel-ledger.md`) what the instructions behind them are for.
//!
//! On entry of `ipc_fast` (from the exception vector) x0..x13 are the user's, x16 and x17 are saved, SP_EL1 is the sender's TCB.
//! The sender waits afterwards; of its registers only those that a function call preserves are kept. PSTATE is not: flags are
//! the caller's to lose, and the rest is zero at EL0.
//! On entry of `fault_fast` everything is saved; x0 = ESR_EL1, x1 = FAR_EL1, x2 = its exception class, x14 = this CPU, x19 = the TCB.
#![expect(unsafe_code, reason = "assembly")]

use super::dispatch::class;
use super::percpu::PerCpu;
use core::arch::global_asm;
use core::mem::offset_of;
use skerry_abi::layout::{PHYSMAP, USER_BITS};
use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS, Utcb, kernel_label};
use skerry_abi::{Counter, Fpage, Item, Rights, Tag};
use skerry_kernel::fastpath::FastPath;
use skerry_kernel::runqueue::RunQueue;
use skerry_kernel::thread::{Context, FaultKind, Operation, State, Tcb};

const FAST: usize = offset_of!(PerCpu, fast);
const OP: usize = offset_of!(Tcb, op);
const FAULT: usize = OP + offset_of!(Operation, kind);
/// Where the memory attributes begin in PAR_EL1, in the encoding of MAIR_EL1: device memory has zeros in the upper four bits.
const PAR_ATTR: u32 = 56;

// What `ldp` and `stp` take in pairs.
const _: () =
    assert!(offset_of!(Tcb, context) == 0 && offset_of!(Context, pc) == offset_of!(Context, sp) + 8);
const _: () = assert!(offset_of!(Tcb, domain) == offset_of!(Tcb, id) + 8);
const _: () = assert!(offset_of!(Tcb, utcb_va) == offset_of!(Tcb, tls) + 8);
const _: () = assert!(offset_of!(Tcb, reply_space) == offset_of!(Tcb, open_to) + 8);
const _: () = assert!(offset_of!(Tcb, notified) == offset_of!(Tcb, senders) + 8);
const _: () = assert!(offset_of!(Tcb, granted) == offset_of!(Tcb, pager) + 8);
const _: () = assert!(offset_of!(Operation, from) == offset_of!(Operation, dest) + 8);
const _: () = assert!(offset_of!(Operation, receive_timeout) == offset_of!(Operation, send_timeout) + 8);
const _: () = assert!(offset_of!(Operation, window) == offset_of!(Operation, receive_timeout) + 8);
const _: () = assert!(offset_of!(FastPath, thread_count) == offset_of!(FastPath, threads) + 8);
const _: () = assert!(offset_of!(PerCpu, ttbr0) == offset_of!(PerCpu, loaded) + 8);

global_asm!(
    r#"
    // Space, thread registers and floating-point trap of another thread; x14 = this CPU.
    .macro  switch_thread, path, from, to, from_id, to_id
part_switch_9\@:
    mrs     x15, tpidr_el0
    str     x15, [\from, #{tls}]
    ldp     x15, x16, [\to, #{tls}]
    ldr     x17, [\to, #{ttbr0}]
    msr     tpidr_el0, x15
    msr     tpidrro_el0, x16
    msr     ttbr0_el1, x17                      // the kernel does not use it, and leaving synchronizes
    stp     \to_id, x17, [x14, #{loaded}]
    ldr     x15, [x14, #{fp_owner}]
    cmp     x15, \from_id
    ccmp    x15, \to_id, #4, ne
\path\()_check_fp:
    b.ne    99f
    // The unit holds the registers of one of the two: trap unless they are the other's.
    cmp     x15, \to_id
    mov     x16, #{fp_on}
    mov     x17, #{fp_trap}
    csel    x16, x16, x17, eq
    msr     cpacr_el1, x16
99:
    .endm

    // Of a thread that waits in an IPC system call, all but the message: stack and instruction pointer, x19 to x30.
    .macro  load_waiting
part_exit_9\@:
    ldp     x15, x16, [sp, #8 * 31]
    msr     sp_el0, x15
    msr     elr_el1, x16
    msr     spsr_el1, xzr
    ldp     x19, x20, [sp, #8 * 19]
    ldp     x21, x22, [sp, #8 * 21]
    ldp     x23, x24, [sp, #8 * 23]
    ldp     x25, x26, [sp, #8 * 25]
    ldp     x27, x28, [sp, #8 * 27]
    ldp     x29, x30, [sp, #8 * 29]
    // Nothing of the sender's or the kernel's but the message.
part_scrub_9\@:
    mov     x11, #0
    mov     x12, #0
    mov     x13, #0
    mov     x14, #0
    mov     x15, #0
    mov     x16, #0
    mov     x17, #0
    mov     x18, #0
part_exit_8\@:
    .endm

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
    b.hs    ipc_no_slot
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
    b.ne    answer_fast

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
ipc_check_registers:
    b.hi    9f
1:  asr     x28, x2, #48
    cmn     x28, #1
ipc_check_label:
    b.eq    ipc_general

    // We wait for the answer, or for anybody, without a deadline and without a window.
part_own_wait_1:
ipc_check_timeout:
    cmn     x12, #1
ipc_check_window:
    ccmp    x13, #0, #0, eq
ipc_check_wait:
    b.ne    ipc_general
    cmp     x0, x1
ipc_check_call:
    b.ne    3f
    ldr     x28, [x19, #{space_id}]             // x28 = who may answer

    // We may send to it: same domain, our pager, a granted partner.
part_permission_1:
    cmp     x21, x25
ipc_check_domain:
    b.ne    4f

    // Nothing can go wrong from here on.
part_bookkeeping_1:
2:
ipc_case_many:
    tbnz    x27, #6, 5f
6:  ldr     x15, [x14, #{block}]
    ldr     x16, [x15, #{ipcs}]
    add     x16, x16, #1
    str     x16, [x15, #{ipcs}]
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

    switch_thread ipc, sp, x19, x24, x20
part_exit_1:
    mrs     x15, sp_el0
    mrs     x16, elr_el1
    stp     x15, x16, [sp, #8 * 31]
    mov     sp, x19
    mov     x0, x24
    mov     x1, x25
    and     x2, x2, #{tag_mask}
    load_waiting
    eret

    // A reply: then we wait for anybody, and nobody may wait for us already.
part_own_wait_2:
3:  cmn     x1, #1
ipc_check_from:
    b.ne    ipc_general
    ldp     x15, x16, [sp, #{senders}]
ipc_check_queue:
    cmn     w15, #1
ipc_check_notified:
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
ipc_case_few:
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
ipc_case_eight_more:
    b.hs    51b
    mov     x12, #-1                            // the receive timeout that it was
52: adds    x27, x27, #8
ipc_case_all:
    b.eq    6b
53: ldr     x11, [x15], #8
    str     x11, [x16], #8
    subs    x27, x27, #1
ipc_case_one_more:
    b.ne    53b
    b       6b

    // It does not wait for us by an IPC: is this the answer to its page fault? Our space was called by it,
answer_fast:
part_permission_9:
    ldr     x15, [x19, #{reply_space}]
    ldr     x16, [sp, #{space_id}]
    cmp     x15, x16
answer_check_owed:
    b.ne    ipc_general
    ldrb    w15, [x19, #{op_kind}]
    cmp     w15, #{kind_fault}
answer_check_fault:
    b.ne    ipc_general
part_priority_9:
    ldr     x22, [x19, #{standing}]
    ldr     x26, [x14, #{queue}]
    ldr     x23, [x26, #{floor}]
    sub     x22, x22, x23
    cmp     x22, #255
answer_check_standing:
    b.hi    ipc_general
    // we send one item and nothing else,
part_message_check_9:
    and     x27, x2, #0xfff
    mov     x18, x4                             // x18 = where it appears
    cmp     x27, #{one_item}
answer_check_plain:
    b.ne    12f
11: asr     x28, x2, #48
    cmn     x28, #1
answer_check_label:
    b.eq    ipc_general
    // and wait for anybody, without a deadline and without a window, with nobody waiting.
    and     x15, x1, x12
answer_check_never:
    cmn     x15, #1
answer_check_window:
    ccmp    x13, #0, #0, eq
answer_check_wait:
    b.ne    ipc_general
    ldp     x15, x16, [sp, #{senders}]
answer_check_queue:
    cmn     w15, #1
answer_check_notified:
    ccmp    x16, #0, #0, eq
answer_check_senders:
    b.ne    ipc_general

part_map_9:
    stp     x0, x1, [sp, #16 * 0]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    mov     x27, sp
    mov     x28, x14
    ldrh    w0, [sp, #{space}]
    mov     x1, x3
    ldrh    w2, [x19, #{space}]
    mov     x3, x18
    ldr     x14, [x14]
    mov     sp, x14
    bl      {map_one}
    mov     sp, x27
    mov     x14, x28
answer_check_mapped:
    cbz     w0, 10f

part_bookkeeping_9:
    mov     x15, #-1                            // never, anybody
    mov     w16, #{receiving}
    stp     x20, x15, [sp, #{op_dest}]
    stp     x15, xzr, [sp, #{op_receive_timeout}]
    str     x15, [sp, #{deadline}]
    strb    wzr, [sp, #{op_kind}]
    strb    w16, [sp, #{state}]
    stp     x15, xzr, [sp, #{open_to}]
    mov     w16, #{ready}
    and     w17, w20, #0xffff
    strb    w16, [x19, #{state}]
    str     xzr, [x19, #{reply_space}]
    str     w17, [x26, #{current}]
    switch_thread answer, sp, x19, x24, x20
part_exit_7:
    mrs     x15, sp_el0
    mrs     x16, elr_el1
    stp     x15, x16, [sp, #8 * 31]
    mov     x0, x19
    b       resume_thread
    // Not the simple case, and nothing was done. There may be more items, all of which Rust looks at.
10: ldr     x15, [sp, #8 * 2]
    and     x15, x15, #0xfff
    cmp     x15, #{guarded_item}
answer_case_one:
    b.ls    15f
    mov     x27, sp
    mov     x28, x14
    ldrh    w0, [sp, #{space}]
    ldrh    w1, [x19, #{space}]
    ldr     x14, [x14]
    mov     sp, x14
    bl      {map_several}
    mov     sp, x27
    mov     x14, x28
answer_case_several:
    cbnz    w0, part_bookkeeping_9
15: mov     x0, x20
    b       ipc_general_saved

    // One guarded item: x5 = an aligned word of ours, x6 = the value it must have. We run with our own tables in TTBR0, and a load
    // for unprivileged programs reads what we could read. The translation comes first: what would fault is for the general
    // code, as is device memory, which must not be read in vain, and every other value. (An item without the flag
    // gets it here, and a destination that is no page is refused.)
part_guard_9:
12: cmp     x27, #{guarded_item}
answer_check_item:
    b.ne    13f
    eor     x18, x4, #{guarded}
14: tst     x5, #7
answer_check_guard_aligned:
    b.ne    ipc_general
    at      s1e0r, x5
    isb
    mrs     x15, par_el1
answer_check_guard_readable:
    tbnz    x15, #0, ipc_general
    lsr     x15, x15, #{par_device}
answer_check_guard_normal:
    cbz     x15, ipc_general
    ldtr    x16, [x5]
    cmp     x16, x6
answer_check_guard:
    b.ne    ipc_general
    b       11b
    // More than that, perhaps a guarded item and others: the destination is made none, so that it is not mapped alone.
13:
answer_case_guarded:
    tbz     x4, #{guarded_bit}, ipc_general
    eor     x18, x4, #{guarded}
    orr     x18, x18, #1
    b       14b

    .balign 64
    .global fault_fast
fault_fast:
part_decode_9:
    // No translation, at an address that can have one. With one CPU nobody can have mapped it meanwhile.
    ubfx    w3, w0, #2, #4
    cmp     w3, #1
fault_check_translation:
    b.ne    fault_general
    lsr     x3, x1, #{user_bits}
fault_check_address:
    cbnz    x3, fault_general
    // Deterministic emulation runs one CPU at a time: pass the turn on, so that threads that touch fresh memory on
    // several CPUs take it page by page, as they would in parallel. A hint without effect on hardware.
    yield

    // The pager exists, waits for anybody or for us, on this CPU, and nobody is more urgent: x21 = its TCB.
part_lookup_9:
    ldp     x15, x16, [x14, #{threads}]
    ldr     x20, [x19, #{pager}]
    and     x18, x20, #0xffff
    cmp     x18, x16
fault_check_slot:
    b.hs    fault_general
    add     x21, x15, x18, lsl #{tcb_shift}
    ldr     x22, [x21, #{id}]
    cmp     x22, x20
fault_check_name:
    b.ne    fault_general
part_partner_waits_9:
    ldp     x24, x25, [x19, #{id}]
    ldr     x22, [x21, #{open_to}]
    cmp     x22, x24
    ccmn    x22, #1, #4, ne
fault_check_open:
    b.ne    fault_general
part_priority_8:
    ldr     x22, [x21, #{standing}]
    ldr     x26, [x14, #{queue}]
    ldr     x23, [x26, #{floor}]
    sub     x22, x22, x23
    cmp     x22, #255
fault_check_standing:
    b.hi    fault_general

part_message_9:
    // x4 = the access: WnR, but cache maintenance (CM) needs read permission only; or an instruction fetch.
    bic     w3, w0, w0, lsr #2
    mov     w4, #{read}
    mov     w5, #{write}
    tst     w3, #0x40
    csel    w4, w5, w4, ne
    mov     w5, #{execute}
    cmp     x2, #{data_abort}
    csel    w4, w4, w5, eq

part_bookkeeping_8:
    ldr     x15, [x14, #{block}]
    ldr     x16, [x15, #{faults}]
    ldr     x17, [x15, #{ipcs}]
    add     x16, x16, #1
    add     x17, x17, #1
    str     x16, [x15, #{faults}]
    str     x17, [x15, #{ipcs}]
    mov     w15, #{kind_fault}
    mov     x16, #-1                            // never
    mov     w17, #{complete}
    strb    w15, [x19, #{op_kind}]
    str     x1, [x19, #{fault_address}]
    strb    w4, [x19, #{fault_access}]
    str     x0, [x19, #{fault_esr}]
    stp     x20, x20, [x19, #{op_dest}]
    stp     x16, x16, [x19, #{op_send_timeout}]
    str     x17, [x19, #{op_window}]
    str     x16, [x19, #{deadline}]
    mov     w15, #{receiving}
    ldr     x16, [x21, #{space_id}]
    strb    w15, [x19, #{state}]
    stp     xzr, x16, [x19, #{open_to}]
    mov     w15, #{ready}
    stp     xzr, xzr, [x21, #{open_to}]
    strb    w15, [x21, #{state}]
    str     w18, [x26, #{current}]
    switch_thread fault, x19, x21, x24, x20

part_message_8:
    ldr     x5, [x19, #{pc}]
    mov     x3, x1
    mov     x0, x24
    mov     x1, x25
    ldr     x2, ={fault_tag}
    mov     x6, #0
    mov     x7, #0
    mov     x8, #0
    mov     x9, #0
    mov     x10, #0
    mov     sp, x21
    load_waiting
    eret
fault_general:
    bl      {abort}
    b       resume_thread
    .global ipc_fast_end
ipc_fast_end:
    .ltorg
    .popsection
    "#,
    threads = const FAST + offset_of!(FastPath, threads),
    queue = const FAST + offset_of!(FastPath, queue),
    block = const FAST + offset_of!(FastPath, counters),
    ipcs = const 8 * Counter::Ipcs as usize,
    faults = const 8 * Counter::Faults as usize,
    map_one = sym super::fastpath::map_one,
    map_several = sym super::fastpath::map_several,
    abort = sym super::fastpath::abort,
    data_abort = const class::DATA_ABORT,
    read = const Rights::R.bits(),
    write = const Rights::W.bits(),
    execute = const Rights::X.bits(),
    user_bits = const USER_BITS,
    complete = const Fpage::COMPLETE.word(),
    fault_tag = const Tag::new(kernel_label::PAGE_FAULT, 3, 0).0,
    one_item = const Tag::new(0, 0, 2).0,
    guarded_item = const Tag::new(0, 0, 4).0,
    guarded = const Item::GUARDED,
    guarded_bit = const Item::GUARDED.trailing_zeros(),
    par_device = const PAR_ATTR + 4,
    kind_fault = const FaultKind::TAG,
    fault_address = const FAULT + offset_of!(FaultKind, address),
    fault_access = const FAULT + offset_of!(FaultKind, access),
    fault_esr = const FAULT + offset_of!(FaultKind, esr),
    pc = const offset_of!(Tcb, context) + offset_of!(Context, pc),
    space = const offset_of!(Tcb, space),
    op_send_timeout = const OP + offset_of!(Operation, send_timeout),
    op_window = const OP + offset_of!(Operation, window),
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
