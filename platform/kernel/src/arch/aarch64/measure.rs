//! How long interrupts are off, and how long the cluster lock is held and waited for (boot option `measure=on`).
//!
//! The clock is PMCCNTR_EL0. In deterministic emulation it counts the instructions of all CPUs that run, so a number is a number of
//! instructions while one CPU runs; on other emulators it is the host's time. Only the general path is measured:
//! the fast paths are straight code, their length is their bound, and they carry nothing of this.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu;
use super::registers::read_sysreg;
use core::sync::atomic::{AtomicBool, Ordering};
use skerry_abi::Counter;
use skerry_kernel::counters::Block;

static ON: AtomicBool = AtomicBool::new(false);

/// Switches it on for this CPU, whose counters are in `block`.
pub(super) fn start(block: &'static Block) {
    percpu::with(|cpu| cpu.counters = Some(block));
    ON.store(true, Ordering::Relaxed);
    enter();
}

/// Whether anything is measured.
#[inline(always)]
pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The clock.
pub(super) fn now() -> u64 {
    read_sysreg!("pmccntr_el0")
}

/// A stretch with interrupts off begins: entry from user mode, or the end of a sleep.
#[inline]
pub(super) fn enter() {
    if is_on() {
        percpu::with(|cpu| cpu.entered = now());
    }
}

/// It ends: back to user mode, or to sleep.
#[inline]
pub(super) fn leave() {
    if is_on() {
        percpu::with(|cpu| {
            if let Some(block) = cpu.counters {
                block.add(Counter::Measured, 1);
                block.note_longest(Counter::LongestMasked, now().saturating_sub(cpu.entered));
            }
        });
    }
}

/// The cluster lock was waited for and held.
pub(super) fn locked(wait: u64, hold: u64) {
    percpu::with(|cpu| {
        if let Some(block) = cpu.counters {
            block.add(Counter::Wait, wait);
            block.add(Counter::Hold, hold);
            block.note_longest(Counter::LongestWait, wait);
            block.note_longest(Counter::LongestHold, hold);
        }
    });
}
