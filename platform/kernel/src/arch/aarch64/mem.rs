//! `memset` and `memcpy` for the sizes that occur here: registers, control blocks, messages of up to a kilobyte.
//!
//! The ones that come with the compiler go word by word; pairs of words take less than half of the instructions, and system calls
//! that scrub registers spend most of their time there. Both write the last 16 bytes by an access that may overlap the one
//! before. Normal memory allows unaligned accesses (SCTLR_EL1.A is clear, B2.5).
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .text.mem, "ax"
    .global memset
    .global memcpy
    .balign 16
memset:                                 // x0 to, w1 byte, x2 bytes; returns x0
    and     x1, x1, #0xff
    mov     x3, x0
    cbz     x1, 1f
    mov     x4, #0x0101010101010101
    mul     x1, x1, x4
1:  add     x4, x0, x2                  // the end
    cmp     x2, #16
    b.lo    4f
    subs    x2, x2, #64
    b.lo    3f
2:  stp     x1, x1, [x3], #64
    stp     x1, x1, [x3, #-48]
    stp     x1, x1, [x3, #-32]
    stp     x1, x1, [x3, #-16]
    subs    x2, x2, #64
    b.hs    2b
3:  tbz     x2, #5, 5f                  // 0 to 63 left
    stp     x1, x1, [x3], #32
    stp     x1, x1, [x3, #-16]
5:  tbz     x2, #4, 6f
    stp     x1, x1, [x3]
6:  stp     x1, x1, [x4, #-16]
    ret
4:  cmp     x3, x4
    b.hs    7f
    strb    w1, [x3], #1
    b       4b
7:  ret

    .balign 16
memcpy:                                 // x0 to, x1 from, x2 bytes, no overlap; returns x0
    mov     x3, x0
    add     x4, x0, x2                  // the ends
    add     x5, x1, x2
    cmp     x2, #16
    b.lo    4f
    subs    x2, x2, #32
    b.lo    3f
2:  ldp     x6, x7, [x1], #32
    ldp     x8, x9, [x1, #-16]
    stp     x6, x7, [x3], #32
    stp     x8, x9, [x3, #-16]
    subs    x2, x2, #32
    b.hs    2b
3:  tbz     x2, #4, 5f                  // 0 to 31 left
    ldp     x6, x7, [x1]
    stp     x6, x7, [x3]
5:  ldp     x6, x7, [x5, #-16]
    stp     x6, x7, [x4, #-16]
    ret
4:  cmp     x3, x4
    b.hs    7f
    ldrb    w6, [x1], #1
    strb    w6, [x3], #1
    b       4b
7:  ret
    .popsection
    "#
);
