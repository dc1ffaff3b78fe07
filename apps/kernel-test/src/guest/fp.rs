//! Floating-point registers: threads that fill all of them keep them, whoever runs in between and on whatever CPU.
#![expect(unsafe_code, reason = "assembly")]

use core::arch::global_asm;

use skerry_abi::info::Counter;
use skerry_abi::{CpuId, ThreadId};
use skerry_rt::{info, ipc, sys, utcb};

use super::world::{Outcome, World, call, emit, ensure, report};

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .pushsection .text.fp_test, "ax"
    .global fp_test_fill, fp_test_differs
    // x0: what the registers are made of; v<n> becomes (x0 + n, x0 - n), FPCR a rounding mode
fp_test_fill:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x1, x0, #\n
    fmov    d\n, x1
    sub     x1, x0, #\n
    mov     v\n\().d[1], x1
    .endr
    and     x1, x0, #3
    lsl     x1, x1, #22
    msr     fpcr, x1
    ret
    // x0: the same; returns whether anything differs
fp_test_differs:
    mov     x2, x0
    mov     x0, xzr
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x1, x2, #\n
    mov     x3, v\n\().d[0]
    eor     x1, x1, x3
    orr     x0, x0, x1
    sub     x1, x2, #\n
    mov     x3, v\n\().d[1]
    eor     x1, x1, x3
    orr     x0, x0, x1
    .endr
    and     x1, x2, #3
    lsl     x1, x1, #22
    mrs     x3, fpcr
    eor     x1, x1, x3
    orr     x0, x0, x1
    ret
    .popsection
    .arch_extension nosimd
    .arch_extension nofp
    "#
);

unsafe extern "C" {
    /// Fills all floating-point registers.
    pub(crate) fn fp_test_fill(seed: u64);
    /// Whether any of them differs from what that put there.
    pub(crate) fn fp_test_differs(seed: u64) -> u64;
}

const ROUNDS: u64 = 50;

/// Fills the registers, lets others run, and looks, over and over.
extern "C" fn user(seed: u64) -> ! {
    let mut wrong = 0;
    for round in 0..ROUNDS {
        let seed = seed + (round << 8);
        // SAFETY: Rust code of this program uses no floating-point register (soft-float target).
        unsafe { fp_test_fill(seed) };
        ipc::pause(100 + (seed & 0xff) * 7);
        // SAFETY: as above.
        wrong += u64::from(unsafe { fp_test_differs(seed) } != 0);
    }
    report([wrong, seed, 0, 0]);
    ipc::sleep_forever()
}

/// Runs users on these CPUs at the same time; returns how often registers changed hands.
fn users(world: &mut World, cpus: &[CpuId]) -> Outcome<u64> {
    let before = info::total(Counter::FpSwitches);
    let space = world.space()?;
    let mut threads = [ThreadId::NIL; 4];
    for (i, (thread, &cpu)) in threads.iter_mut().zip(cpus).enumerate() {
        *thread = world.spawn(space, i as u16, cpu, 50, user, 0x1234_0000_0001 + 0x1_0101 * i as u64)?;
    }
    for _ in cpus {
        let super::world::Heard::Report(_, [wrong, seed, ..]) = world.hear()? else {
            return super::world::failed(format_args!("a thread died"));
        };
        ensure!(wrong == 0, "thread {seed:#x} lost its registers {wrong} times");
    }
    call("destroying the space", sys::space_destroy(space))?;
    Ok(info::total(Counter::FpSwitches) - before)
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let here = utcb::cpu();
    let alone = users(world, &[here])?;
    ensure!(alone == 1, "one user took the unit over {alone} times");
    let pair = users(world, &[here, here])?;
    ensure!(pair >= ROUNDS, "two users on one CPU took turns {pair} times only: not really interleaved");
    emit("fp", "switches.one-cpu", pair, "switches");
    if let Some(other) = world.other_cpus().next() {
        let apart = users(world, &[here, other])?;
        ensure!(apart == 2, "two users on two CPUs took the units over {apart} times");
        let four = users(world, &[here, other, here, other])?;
        // Two per CPU, and more than once each: how often depends on how the CPUs' turns fall.
        ensure!(four > 8, "four users on two CPUs took turns {four} times only");
    }
    Ok(())
}
