//! The measured loops, in assembly: what is counted is the system call and the few instructions that no caller can do
//! without, never what a compiler adds.
//!
//! Each loop is the whole life of a thread, needs no stack, and takes the address of a [`Params`](super::shared::Params) block in
//! x0. All of them lie in one page, so that a space has the code after one fault. The counter is read right before the `svc`
//! and right behind it; storing the difference and checking the answer come after that. A loop ends by telling the main
//! thread how many answers were wrong, and sleeps.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;

use super::shared::{ADDRESS, COUNT, DEST, MAIN, SAMPLES, STEP, TAG};
use skerry_abi::marker::{MEASURED, WARM_UP};
use skerry_abi::message::Tag;
use skerry_abi::syscall::{IPC, NOTIFY, NULL, THREAD_CONTROL, UNMAP, thread_op};

/// What a finished loop sends: one word, the number of wrong answers.
pub(crate) const DONE: u32 = 0xbe2c;

/// What a loop sends that waits to be moved.
pub(crate) const READY: u32 = 0xbe2d;

global_asm!(
    r#"
    .pushsection .text.bench, "ax"
    .balign 4096
    .global bench_empty, bench_null, bench_notify, bench_listener, bench_touch, bench_client, bench_server, bench_faulter, bench_pager
    .global bench_migrate, bench_migrant, bench_unmap, bench_create, bench_newborn, bench_copy, bench_zero, bench_rest

    // x19, x20: the counter before and after; x22: wrong answers; x25: next sample; x24: samples to come
    .macro  load_params
    mov     x28, x0
    ldr     x27, [x28, #{dest}]
    ldr     x26, [x28, #{tag}]
    ldr     x25, [x28, #{samples}]
    ldr     x24, [x28, #{count}]
    ldr     x23, [x28, #{address}]
    mov     x22, xzr
    .endm
    .macro  begin
    mrs     x19, pmccntr_el0
    .endm
    .macro  end
    mrs     x20, pmccntr_el0
    .endm
    .macro  sample
    sub     x19, x20, x19
    str     x19, [x25], #8
    .endm
    // Adds one to the wrong answers unless the flags say "equal".
    .macro  check
    cinc    x22, x22, ne
    .endm

    // Nothing, to be subtracted from everything.
bench_empty:
    load_params
1:  begin
    end
    sample
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // The system call that does nothing.
bench_null:
    load_params
1:
    .global bench_null_call
bench_null_call:
    begin
    svc     #{null}
    .global bench_null_back
bench_null_back:
    end
    sample
    cmp     x0, #0
    check
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Notifies the more urgent thread DEST, which counts the bits at ADDRESS.
bench_notify:
    load_params
    str     xzr, [x23]
1:  mov     x0, x27
    mov     x1, #1
    .global bench_notify_call
bench_notify_call:
    begin
    svc     #{notify}
    .global bench_notify_back
bench_notify_back:
    end
    sample
    cmp     x0, #0
    check
    subs    x24, x24, #1
    b.ne    1b
    ldr     x1, [x23]
    ldr     x2, [x28, #{count}]
    cmp     x1, x2
    check
    b       done

    // Waits for notifications, and adds up the bits at ADDRESS.
bench_listener:
    load_params
    mrs     x26, tpidrro_el0
    ldr     x26, [x26]
1:  mov     x0, xzr
    mov     x1, x26
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    ldr     x1, [x23]
    add     x1, x1, x3
    str     x1, [x23]
    b       1b

    // Writes to COUNT places from ADDRESS on, STEP bytes apart: makes a space have its pages.
bench_touch:
    load_params
    ldr     x21, [x28, #{step}]
1:  ldr     x1, [x23]
    str     x1, [x23]
    add     x23, x23, x21
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Calls DEST with the tag TAG and the registers full.
    // The instrument's phases are the calls before those that count, and those that count.
bench_client:
    load_params
    movz    xzr, #{warm_up}, lsl #16
1:  cmp     x24, #{counted}
    b.ne    2f
    movz    xzr, #{warm_up}, lsl #32
    movz    xzr, #{measured}, lsl #16
2:  mov     x0, x27
    mov     x1, x27
    mov     x2, x26
    mov     x3, #1
    mov     x4, #2
    mov     x5, #3
    mov     x6, #4
    mov     x7, #5
    mov     x8, #6
    mov     x9, #7
    mov     x10, #8
    mov     x11, #-1
    mov     x12, #-1
    mov     x13, xzr
    .global bench_client_call
bench_client_call:
    begin
    svc     #{ipc}
    .global bench_client_back
bench_client_back:
    end
    sample
    cmp     x2, x26
    ccmp    x0, x27, #0, eq
    ccmp    x3, #1, #0, eq
    ccmp    x6, #4, #0, eq
    ccmp    x10, #8, #0, eq
    check
    subs    x24, x24, #1
    b.ne    1b
    movz    xzr, #{measured}, lsl #32
    b       done

    // Answers every message with itself.
bench_server:
    mov     x0, xzr
1:  mov     x1, #-1
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    b       1b

    // Runs, in user mode, and does nothing.
bench_rest:
    wfi
    b       bench_rest

    // Writes to a page, and on to the next one.
bench_faulter:
    load_params
    ldr     x21, [x28, #{step}]
    .global bench_faulter_write
bench_faulter_write:
1:  begin
    str     x23, [x23]
    .global bench_faulter_back
bench_faulter_back:
    end
    sample
    ldr     x1, [x23]
    cmp     x1, x23
    check
    add     x23, x23, x21
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Answers every fault with the next frame: x27 is the fpage, writable.
bench_pager:
    load_params
    ldr     x21, [x28, #{step}]
    mov     x0, xzr
    b       2f
1:  and     x4, x3, #~0xfff
    mov     x3, x27
    add     x27, x27, x21
    mov     x2, #{item}
2:  mov     x1, #-1
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    b       1b

    // Unmaps an fpage, and on to the next one. TAG is the status that each has to have: 4 accessed, 2 written.
bench_unmap:
    load_params
    ldr     x21, [x28, #{step}]
1:  mov     x0, #1 << 8
    mov     x1, x27
    .global bench_unmap_call
bench_unmap_call:
    begin
    svc     #{unmap}
    .global bench_unmap_back
bench_unmap_back:
    end
    sample
    and     x1, x1, #7
    cmp     x1, x26
    ccmp    x0, #0, #0, eq
    check
    add     x27, x27, x21
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Calls the server TAG with an item: the fpage DEST to the address ADDRESS. The next time STEP further on.
bench_giver:
    load_params
    ldr     x21, [x28, #{step}]
1:  mov     x0, x26
    mov     x1, x26
    mov     x2, #{item}
    mov     x3, x27
    mov     x4, x23
    mov     x11, #-1
    mov     x12, #-1
    mov     x13, xzr
    .global bench_giver_call
bench_giver_call:
    begin
    svc     #{ipc}
    .global bench_giver_back
bench_giver_back:
    end
    sample
    cmp     x2, xzr
    ccmp    x0, x26, #0, eq
    check
    add     x27, x27, x21
    add     x23, x23, x21
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Takes what is mapped to it anywhere (the fpage DEST), and answers with nothing.
bench_taker:
    load_params
    mov     x0, xzr
1:  mov     x1, #-1
    mov     x2, xzr
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, x27
    svc     #{ipc}
    b       1b

    // Called, with a stack: creates a thread in the space DEST on the CPU TAG with UTCB slot ADDRESS, starts it, deletes it. The new
    // thread is more urgent and stores the counter where its argument says. Returns the errors.
bench_create:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    load_params
    adr     x21, bench_newborn
1:  mov     x0, #{create}
    mov     x1, x27
    mov     x2, x26
    ldr     x3, [x28, #{main}]
    mov     x4, x3
    mov     x5, x23
    mov     x6, #255
    .global bench_create_call
bench_create_call:
    begin
    svc     #{thread_control}
    mov     x0, #{start}
    mov     x2, x21
    mov     x3, xzr
    mov     x4, x25
    mov     x20, x1
    svc     #{thread_control}
    cmp     x0, #0
    check
    mov     x0, #{delete}
    mov     x1, x20
    svc     #{thread_control}
    cmp     x0, #0
    check
    ldr     x20, [x25]
    sample
    subs    x24, x24, #1
    b.ne    1b
    mov     x0, x22
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #96
    ret

    // The thread that bench_create makes.
bench_newborn:
    mrs     x1, pmccntr_el0
    str     x1, [x0]
    b       sleep

    // Called, with a stack: moves the thread ADDRESS to the space DEST of another cluster, CPU TAG, pager STEP. Leaves the counter in
    // the first sample, and returns the error.
bench_migrate:
    stp     x19, x28, [sp, #-16]!
    mov     x28, x0
    mov     x0, #{migrate}
    ldr     x1, [x28, #{address}]
    ldr     x2, [x28, #{dest}]
    ldr     x3, [x28, #{tag}]
    ldr     x4, [x28, #{step}]
    mov     x5, xzr
    .global bench_migrate_call
bench_migrate_call:
    begin
    svc     #{thread_control}
    ldr     x1, [x28, #{samples}]
    str     x19, [x1]
    ldp     x19, x28, [sp], #16
    ret

    // The thread that bench_migrate moves: has floating-point state, says so, and is moved before its next instruction. Then it
    // says when that was, and whether the state is still there. Behind the move it has no parameters: they are the other cluster's.
bench_migrant:
    load_params
    ldr     x24, [x28, #{main}]
    .arch_extension fp
    fmov    d8, x24
    .arch_extension nofp
    mov     x0, x24
    mov     x1, xzr
    ldr     x2, ={ready_label} << 32
    mov     x11, #-1
    mov     x12, xzr
    mov     x13, xzr
    svc     #{ipc}
    .global bench_migrant_first
bench_migrant_first:
    mrs     x20, pmccntr_el0
    .arch_extension fp
    fmov    x21, d8
    .arch_extension nofp
    mov     x0, x24
    mov     x1, xzr
    ldr     x2, =({done_label} << 32) | 2
    eor     x3, x21, x24
    mov     x4, x20
    mov     x11, #-1
    mov     x12, xzr
    mov     x13, xzr
    svc     #{ipc}
    b       sleep

    // Copies the page at ADDRESS to the one at DEST.
bench_copy:
    load_params
1:  mov     x0, x27
    mov     x1, x23
    begin
    mov     x2, #4096 / 128
2:  ldp     x4, x5, [x1]
    ldp     x6, x7, [x1, #16]
    ldp     x8, x9, [x1, #32]
    ldp     x10, x11, [x1, #48]
    ldp     x12, x13, [x1, #64]
    ldp     x14, x15, [x1, #80]
    ldp     x16, x17, [x1, #96]
    ldp     x18, x21, [x1, #112]
    stp     x4, x5, [x0]
    stp     x6, x7, [x0, #16]
    stp     x8, x9, [x0, #32]
    stp     x10, x11, [x0, #48]
    stp     x12, x13, [x0, #64]
    stp     x14, x15, [x0, #80]
    stp     x16, x17, [x0, #96]
    stp     x18, x21, [x0, #112]
    add     x1, x1, #128
    add     x0, x0, #128
    subs    x2, x2, #1
    b.ne    2b
    end
    sample
    subs    x24, x24, #1
    b.ne    1b
    b       done

    // Clears the page at ADDRESS, in blocks of 64 bytes (which is checked).
bench_zero:
    load_params
    mrs     x1, dczid_el0
    cmp     x1, #4
    check
1:  mov     x0, x23
    begin
    add     x2, x0, #4096
2:  .rept   8
    dc      zva, x0
    add     x0, x0, #64
    .endr
    cmp     x0, x2
    b.ne    2b
    end
    sample
    subs    x24, x24, #1
    b.ne    1b

    // Tells the main thread, and sleeps: a closed receive from oneself.
done:
    ldr     x0, [x28, #{main}]
    mov     x1, xzr
    ldr     x2, =({done_label} << 32) | 1
    mov     x3, x22
    mov     x11, #-1
    mov     x12, xzr
    mov     x13, xzr
    svc     #{ipc}
sleep:
    mrs     x1, tpidrro_el0
    ldr     x1, [x1]
    mov     x0, xzr
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    b       sleep
    .ltorg
    .popsection
    "#,
    dest = const DEST, tag = const TAG, count = const COUNT, samples = const SAMPLES, main = const MAIN,
    address = const ADDRESS, step = const STEP,
    warm_up = const WARM_UP, measured = const MEASURED, counted = const kernel_bench::SAMPLES,
    ipc = const IPC, null = const NULL, notify = const NOTIFY, unmap = const UNMAP, thread_control = const THREAD_CONTROL,
    create = const thread_op::CREATE, start = const thread_op::START, delete = const thread_op::DELETE,
    item = const Tag::new(0, 0, 2).0, done_label = const DONE, ready_label = const READY, migrate = const thread_op::MIGRATE,
);

macro_rules! loops {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        unsafe extern "C" { $(fn $symbol();)* }
        /// A loop that a thread can be started with.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Loop { $($(#[$doc])* $name,)* }
        impl Loop {
            /// Where it begins.
            pub(crate) fn entry(self) -> u64 {
                let entry: unsafe extern "C" fn() = match self { $(Self::$name => $symbol,)* };
                (entry as *const ()).addr() as u64
            }
        }
    };
}

loops! {
    /// Measures nothing.
    Empty = bench_empty;
    /// Calls the kernel for nothing.
    Null = bench_null;
    /// Notifies a thread.
    Notify = bench_notify;
    /// Waits for notifications.
    Listener = bench_listener;
    /// Touches pages.
    Touch = bench_touch;
    /// Calls a server.
    Client = bench_client;
    /// Echoes.
    Server = bench_server;
    /// Writes to fresh pages.
    Faulter = bench_faulter;
    /// Answers faults.
    Pager = bench_pager;
    /// Runs without doing anything.
    Rest = bench_rest;
    /// Calls with an item.
    Giver = bench_giver;
    /// Takes items.
    Taker = bench_taker;
    /// Is moved to another cluster.
    Migrant = bench_migrant;
    /// Unmaps pages.
    Unmap = bench_unmap;
    /// Copies a page.
    Copy = bench_copy;
    /// Clears a page.
    Zero = bench_zero;
}

unsafe extern "C" {
    fn bench_create(params: u64) -> u64;
    fn bench_migrate(params: u64) -> u64;
}

/// Creates, starts and deletes threads as the block at `params` says; returns how many of the calls failed.
pub(crate) fn create_threads(params: u64) -> u64 {
    // SAFETY: the loop keeps the C calling convention, and writes only to the samples that the block names (and its stack).
    unsafe { bench_create(params) }
}

/// Moves a thread as the block at `params` says. Returns the kernel's error code, 0 for none.
pub(crate) fn migrate_thread(params: u64) -> u64 {
    // SAFETY: as for `create_threads`.
    unsafe { bench_migrate(params) }
}
