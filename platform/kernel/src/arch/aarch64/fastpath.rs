//! The machine's half of the short way through IPC: from the sender's registers to the receiver's.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu::{self, PerCpu};
use super::registers::{read_sysreg, write_sysreg};
use super::start::KERNEL;
use super::{dispatch, fp};
use skerry_abi::syscall::IPC;
use skerry_kernel::syscall::ESR_SVC64;
use skerry_kernel::thread::{Context, Tcb};

/// `svc #IPC` in user mode that the assembly left to Rust. Returns the context to resume.
pub(super) extern "C" fn ipc() -> *mut Context {
    if !KERNEL.is_shared() {
        // The assembly has looked already.
        return dispatch::user_sync(ESR_SVC64 | u64::from(IPC), 0);
    }
    let fast = KERNEL.with(|kernel| {
        percpu::with(|cpu| {
            kernel.enter(cpu.cpu);
            let (from, to) = kernel.fast_ipc(cpu.cpu.into())?;
            switch(cpu, from, to);
            Some(&raw mut to.context)
        })
    });
    fast.unwrap_or_else(|| dispatch::user_sync(ESR_SVC64 | u64::from(IPC), 0))
}

/// Loads what belongs to `to` after `from` ran.
#[inline(always)]
fn switch(cpu: &mut PerCpu, from: &mut Tcb, to: &Tcb) {
    from.tls = read_sysreg!("tpidr_el0");
    write_sysreg!("tpidr_el0", to.tls);
    write_sysreg!("tpidrro_el0", to.utcb_va);
    if cpu.ttbr0 != to.ttbr0 {
        cpu.ttbr0 = to.ttbr0;
        // Leaving the kernel, which does not use it, synchronises (D8.2, "context synchronization").
        write_sysreg!("ttbr0_el1", to.ttbr0);
    }
    if cpu.fp_owner == from.id || cpu.fp_owner == to.id {
        fp::allow(cpu.fp_owner == to.id);
    }
    cpu.loaded = to.id;
}
