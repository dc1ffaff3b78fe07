//! The virtual timer: one tick per time slice while a thread runs, none while the CPU sleeps.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu;
use super::registers::{read_sysreg, write_sysreg};

/// Nanoseconds as steps of the counter, at least one.
pub(super) fn steps(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(read_sysreg!("cntfrq_el0")) / 1_000_000_000).clamp(1, 1 << 31) as u64
}

/// Lets the timer interrupt after `steps`, unless it is armed already.
pub(super) fn arm(steps: u64) {
    percpu::with(|cpu| {
        if !cpu.timer_armed {
            cpu.timer_armed = true;
            write_sysreg!("cntv_tval_el0", steps);
            write_sysreg!("cntv_ctl_el0", 1);
        }
    });
}

/// No interrupt until it is armed again.
pub(super) fn disarm() {
    percpu::with(|cpu| {
        if cpu.timer_armed {
            cpu.timer_armed = false;
            write_sysreg!("cntv_ctl_el0", 0);
        }
    });
}
