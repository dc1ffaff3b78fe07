//! The instructions that a hostile thread executes with registers of its choice.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use super::hostile::Block;

/// The numbers of system calls that are tried; the order is known to the assembly.
pub(super) const NUMBERS: [u16; 20] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 31, 63, 127, 255, 4095, 32768, 65535];

global_asm!(
    r#"
    .pushsection .text.fuzz_stubs, "ax"
    .global fuzz_call, fuzz_read, fuzz_write, fuzz_jump, fuzz_break, fuzz_undefined
    // x0 = block, x1 = index of the number. Returns what became of x19 to x28: 0 = nothing.
fuzz_call:
    stp     x29, x30, [sp, #-16]!
    stp     x19, x20, [sp, #-16]!
    stp     x21, x22, [sp, #-16]!
    stp     x23, x24, [sp, #-16]!
    stp     x25, x26, [sp, #-16]!
    stp     x27, x28, [sp, #-16]!
    mov     x19, x0
    adr     x20, 1f
    add     x20, x20, x1, lsl #3
    .irp    n, 21,22,23,24,25,26,27,28,29,30
    eor     x\n, x19, #(1 << \n)
    .endr
    ldp     x0, x1, [x19, #{input}]
    ldp     x2, x3, [x19, #{input} + 16]
    ldp     x4, x5, [x19, #{input} + 32]
    ldp     x6, x7, [x19, #{input} + 48]
    ldp     x8, x9, [x19, #{input} + 64]
    ldp     x10, x11, [x19, #{input} + 80]
    ldp     x12, x13, [x19, #{input} + 96]
    ldp     x14, x15, [x19, #{input} + 112]
    ldp     x16, x17, [x19, #{input} + 128]
    ldr     x18, [x19, #{input} + 144]
    br      x20
1:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,31,63,127,255,4095,32768,65535
    svc     #\n
    b       2f
    .endr
2:  stp     x0, x1, [x19, #{output}]
    stp     x2, x3, [x19, #{output} + 16]
    stp     x4, x5, [x19, #{output} + 32]
    stp     x6, x7, [x19, #{output} + 48]
    stp     x8, x9, [x19, #{output} + 64]
    stp     x10, x11, [x19, #{output} + 80]
    stp     x12, x13, [x19, #{output} + 96]
    stp     x14, x15, [x19, #{output} + 112]
    stp     x16, x17, [x19, #{output} + 128]
    str     x18, [x19, #{output} + 144]
    mov     x0, #0
    .irp    n, 21,22,23,24,25,26,27,28,29,30
    eor     x1, x\n, x19
    eor     x1, x1, #(1 << \n)
    orr     x0, x0, x1
    .endr
    ldp     x27, x28, [sp], #16
    ldp     x25, x26, [sp], #16
    ldp     x23, x24, [sp], #16
    ldp     x21, x22, [sp], #16
    ldp     x19, x20, [sp], #16
    ldp     x29, x30, [sp], #16
    ret

    // The boss lets whoever faults here go on behind the instruction; behind `br`, at x30.
fuzz_read:
    ldr     x0, [x0]
    ret
fuzz_write:
    str     x1, [x0]
    ret
fuzz_jump:
    br      x0
fuzz_break:
    brk     #7
    ret
fuzz_undefined:
    udf     #7
    ret
    .popsection
    "#,
    input = const offset_of!(Block, input),
    output = const offset_of!(Block, output),
);

unsafe extern "C" {
    fn fuzz_call(block: &Block, index: u64) -> u64;
    fn fuzz_read(address: u64) -> u64;
    fn fuzz_write(address: u64, value: u64);
    fn fuzz_jump(address: u64);
    fn fuzz_break();
    fn fuzz_undefined();
}

/// Makes a system call with the registers in the block, and puts there what it left in them. Returns 0, if it kept x21 to x30.
pub(super) fn call(block: &Block, index: usize) -> u64 {
    // SAFETY: it changes words of the block and nothing else, unless the kernel is wrong or the call is about memory that this
    // program uses: hostile threads live with what they do to themselves, and the controller does not do that.
    unsafe { fuzz_call(block, index as u64 % NUMBERS.len() as u64) }
}

/// Something that is no system call and may fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crime {
    Read(u64),
    Write(u64, u64),
    Jump(u64),
    Break,
    Undefined,
}

/// Does it. The boss lets the thread go on behind it.
pub(super) fn commit(crime: Crime) {
    // SAFETY: the addresses are not those of Rust objects, but for a hostile thread's own stack and block, which may well be lost.
    unsafe {
        match crime {
            Crime::Read(address) => _ = fuzz_read(address),
            Crime::Write(address, value) => fuzz_write(address, value),
            Crime::Jump(address) => fuzz_jump(address),
            Crime::Break => fuzz_break(),
            Crime::Undefined => fuzz_undefined(),
        }
    }
}
