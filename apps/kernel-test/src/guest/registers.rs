//! Registers across system calls: what a function call preserves is preserved, and what carries no result comes back as zero, so
//! that a program learns nothing of the kernel's or of another program's registers. A new thread finds zeros, too.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;
use core::cell::UnsafeCell;

use skerry_abi::syscall::{
    AUDIT, INTERRUPT_CONTROL, NOTIFY, NULL, SCHEDULE, SPACE_CONTROL, THREAD_CONTROL, UNMAP,
};
use skerry_abi::syscall::{interrupt_op, space_op, thread_op};
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_rt::{ipc, sys};

use super::world::{Outcome, World, call, ensure};

global_asm!(
    r#"
    .pushsection .text.registers_test, "ax"
    // x0: seven arguments, x1: where x0 to x30 and the flags go. All other registers hold their number times 0x1001.
    .macro  filled_call, name, number
    .global \name
\name:
    sub     sp, sp, #384
    stp     x29, x30, [sp, #272]
    stp     x19, x20, [sp, #288]
    stp     x21, x22, [sp, #304]
    stp     x23, x24, [sp, #320]
    stp     x25, x26, [sp, #336]
    stp     x27, x28, [sp, #352]
    str     x1, [sp, #368]
    .irp    n, 7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    movz    x\n, #(\n * 0x1001) & 0xffff
    movk    x\n, #(\n * 0x1001) >> 16, lsl #16
    .endr
    ldp     x5, x6, [x0, #40]
    ldp     x3, x4, [x0, #24]
    ldp     x1, x2, [x0, #8]
    ldr     x0, [x0]
    svc     #\number
    stp     x0, x1, [sp, #16 * 0]
    mrs     x0, nzcv
    str     x0, [sp, #248]
    ldr     x0, [sp, #368]
    stp     x2, x3, [sp, #16 * 1]
    stp     x4, x5, [sp, #16 * 2]
    stp     x6, x7, [sp, #16 * 3]
    stp     x8, x9, [sp, #16 * 4]
    stp     x10, x11, [sp, #16 * 5]
    stp     x12, x13, [sp, #16 * 6]
    stp     x14, x15, [sp, #16 * 7]
    stp     x16, x17, [sp, #16 * 8]
    stp     x18, x19, [sp, #16 * 9]
    stp     x20, x21, [sp, #16 * 10]
    stp     x22, x23, [sp, #16 * 11]
    stp     x24, x25, [sp, #16 * 12]
    stp     x26, x27, [sp, #16 * 13]
    stp     x28, x29, [sp, #16 * 14]
    str     x30, [sp, #16 * 15]
    mov     x1, #0
1:  ldr     x2, [sp, x1, lsl #3]
    str     x2, [x0, x1, lsl #3]
    add     x1, x1, #1
    cmp     x1, #32
    b.ne    1b
    ldp     x29, x30, [sp, #272]
    ldp     x19, x20, [sp, #288]
    ldp     x21, x22, [sp, #304]
    ldp     x23, x24, [sp, #320]
    ldp     x25, x26, [sp, #336]
    ldp     x27, x28, [sp, #352]
    add     sp, sp, #384
    ret
    .endm
    filled_call registers_test_unmap, {unmap}
    filled_call registers_test_thread_control, {thread_control}
    filled_call registers_test_space_control, {space_control}
    filled_call registers_test_notify, {notify}
    filled_call registers_test_null, {null}
    filled_call registers_test_schedule, {schedule}
    filled_call registers_test_interrupt_control, {interrupt_control}
    filled_call registers_test_audit, {audit}

    // A thread: stores what it finds where x0 says.
    .global registers_test_newborn
registers_test_newborn:
    stp     x0, x1, [x0, #16 * 0]
    stp     x2, x3, [x0, #16 * 1]
    stp     x4, x5, [x0, #16 * 2]
    stp     x6, x7, [x0, #16 * 3]
    stp     x8, x9, [x0, #16 * 4]
    stp     x10, x11, [x0, #16 * 5]
    stp     x12, x13, [x0, #16 * 6]
    stp     x14, x15, [x0, #16 * 7]
    stp     x16, x17, [x0, #16 * 8]
    stp     x18, x19, [x0, #16 * 9]
    stp     x20, x21, [x0, #16 * 10]
    stp     x22, x23, [x0, #16 * 11]
    stp     x24, x25, [x0, #16 * 12]
    stp     x26, x27, [x0, #16 * 13]
    stp     x28, x29, [x0, #16 * 14]
    mrs     x1, tpidr_el0
    orr     x30, x30, x1
    mrs     x1, nzcv
    stp     x30, x1, [x0, #16 * 15]
    b       {sleep}
    .popsection
    "#,
    unmap = const UNMAP,
    thread_control = const THREAD_CONTROL,
    space_control = const SPACE_CONTROL,
    notify = const NOTIFY,
    null = const NULL,
    schedule = const SCHEDULE,
    interrupt_control = const INTERRUPT_CONTROL,
    audit = const AUDIT,
    sleep = sym sleep,
);

/// x0 to x30 and the flags.
type Registers = [u64; 32];
/// A call with these arguments; stores what it leaves.
type FilledCall = unsafe extern "C" fn(&[u64; 7], *mut Registers);

unsafe extern "C" {
    fn registers_test_unmap(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_thread_control(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_space_control(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_notify(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_null(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_schedule(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_interrupt_control(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_audit(arguments: &[u64; 7], registers: *mut Registers);
    fn registers_test_newborn();
}

extern "C" fn sleep() -> ! {
    ipc::sleep_forever()
}

struct Found(UnsafeCell<Registers>);

// SAFETY: the main thread reads it after the thread that writes it sleeps, and both run on one CPU.
unsafe impl Sync for Found {}

static FOUND: Found = Found(UnsafeCell::new([0; 32]));

/// What a filled register holds.
const fn filled(register: usize) -> u64 {
    register as u64 * 0x1001
}

/// Makes the call, and compares: `results` registers carry something from x0 on, which is returned.
fn check(name: &str, call: FilledCall, arguments: [u64; 7], results: usize) -> Outcome<[u64; 4]> {
    let mut found = [!0; 32];
    // SAFETY: it writes the array, and calls the kernel with arguments that concern no memory of this program.
    unsafe { call(&arguments, &raw mut found) };
    for (register, &value) in found.iter().enumerate().take(19).skip(results) {
        ensure!(value == 0, "{name} {arguments:x?}: x{register} is {value:#x}");
    }
    for (register, &value) in found.iter().enumerate().take(31).skip(19) {
        ensure!(value == filled(register), "{name} {arguments:x?}: x{register} has become {value:#x}");
    }
    Ok([found[0], found[1], found[2], found[3]])
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let (me, cpu) = (world.me.0, u64::from(world.cpu));
    let none = [0; 7];
    check("notify", registers_test_notify, [me, 0, 0, 0, 0, 0, 0], 1)?;
    let [x0, ..] = check("notify", registers_test_notify, [!0, 0, 0, 0, 0, 0, 0], 1)?;
    ensure!(x0 == Error::BadArgument.code(), "notifying nobody gave {x0}");
    check("unmap", registers_test_unmap, [0xf00, 0, 0, 0, 0, 0, 0], 1)?;
    check("unmap", registers_test_unmap, [0x100, 0x7fff_0000_00c1, 0, 0, 0, 0, 0], 2)?;
    check("schedule", registers_test_schedule, [0, me, !0, !0, !0, 0, 0], 1)?;
    check(
        "interrupt_control",
        registers_test_interrupt_control,
        [interrupt_op::DETACH, 1, 0, 0, 0, 0, 0],
        1,
    )?;
    check("audit", registers_test_audit, [0, 8, 0, 0, 0, 0, 0], 1)?;
    check("audit", registers_test_audit, [0, world.stack() & !0xfff, 0, 0, 0, 0, 0], 4)?;
    let created =
        check("space_control", registers_test_space_control, [space_op::CREATE, 99, 0, 0, 0, 0, 0], 2)?;
    let destroy = [space_op::DESTROY, created[1], 0, 0, 0, 0, 0];
    check("space_control", registers_test_space_control, destroy, 1)?;
    check("thread_control", registers_test_thread_control, [99, 1, 2, 3, 4, 5, 6], 1)?;

    // The null call changes x0, and nothing else.
    let mut found = [!0; 32];
    // SAFETY: it writes the array; the call has no arguments.
    unsafe { registers_test_null(&none, &raw mut found) };
    ensure!(found[0] == 0, "null gave {}", found[0]);
    let changed = (7..31).find(|&register| found[register] != filled(register));
    ensure!(changed.is_none(), "null changed {changed:?}: {found:x?}");

    for priority in [1, 255] {
        // A less urgent thread waits until this one sleeps; a more urgent one runs at once.
        let root = SpaceId::root(0).0;
        let create = [thread_op::CREATE, root, cpu, me, 0, 9, priority];
        let [x0, thread, ..] = check("create", registers_test_thread_control, create, 2)?;
        ensure!(x0 == 0, "creating a thread gave {x0}");
        let buffer = FOUND.0.get() as u64;
        let pc = (registers_test_newborn as *const ()).addr() as u64;
        let start = [thread_op::START, thread, pc, world.stack(), buffer, 0, 0];
        let [x0, ..] = check("start", registers_test_thread_control, start, 1)?;
        ensure!(x0 == 0, "starting a thread gave {x0}");
        ipc::pause(1000);
        // SAFETY: the thread has stored its registers and sleeps.
        let registers = unsafe { FOUND.0.get().replace([!0; 32]) };
        ensure!(registers[0] == buffer, "a new thread's x0 is {:#x}", registers[0]);
        let dirty = registers[1..].iter().position(|&value| value != 0);
        ensure!(dirty.is_none(), "a new thread finds {registers:x?}");
        let again = check("start", registers_test_thread_control, start, 1)?;
        ensure!(again[0] == Error::WrongState.code(), "starting a thread twice gave {}", again[0]);
        call("deleting a thread", sys::thread_delete(ThreadId(thread)))?;
        let gone = check("start", registers_test_thread_control, start, 1)?;
        ensure!(gone[0] == Error::NoSuchThread.code(), "starting a thread that is gone gave {}", gone[0]);
    }
    Ok(())
}
