//! The virtual timer: one tick per time slice while a thread runs, none while the CPU sleeps.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu;
use super::registers::{read_sysreg, write_sysreg};

/// Nanoseconds as steps of the counter, at least one.
pub(super) fn steps(ns: u64) -> u64 {
    (u128::from(ns) * u128::from(read_sysreg!("cntfrq_el0")) / 1_000_000_000).clamp(1, 1 << 31) as u64
}

/// The counter.
pub(super) fn now() -> u64 {
    super::registers::isb(); // a counter read may be speculated (D12.2.2)
    read_sysreg!("cntvct_el0")
}

/// Lets the timer interrupt at `at`, or earlier if it is set to already.
pub(super) fn arm(at: u64) {
    percpu::with(|cpu| {
        if at < cpu.timer_at {
            cpu.timer_at = at;
            write_sysreg!("cntv_cval_el0", at);
            write_sysreg!("cntv_ctl_el0", 1);
        }
    });
}

/// No interrupt until it is armed again.
pub(super) fn disarm() {
    percpu::with(|cpu| {
        if cpu.timer_at != u64::MAX {
            cpu.timer_at = u64::MAX;
            write_sysreg!("cntv_ctl_el0", 0);
        }
    });
}
