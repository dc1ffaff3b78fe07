//! The machine's half of the short way through IPC: from the sender's registers to the receiver's.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu::{self, PerCpu};
use super::registers::{read_sysreg, write_sysreg};
use super::start::KERNEL;
use super::{dispatch, fp};
use skerry_abi::Rights;
use skerry_abi::syscall::IPC;
use skerry_kernel::syscall::ESR_SVC64;
use skerry_kernel::thread::{Context, Tcb};

/// `svc #IPC` in user mode that the assembly left to Rust. Returns the context to resume.
pub(super) extern "C" fn ipc() -> *mut Context {
    // A cluster of one CPU has been through the same checks already.
    let fast = KERNEL.is_shared().then(shared_ipc).flatten();
    fast.unwrap_or_else(|| dispatch::user_sync(ESR_SVC64 | u64::from(IPC), 0))
}

#[inline(never)]
fn shared_ipc() -> Option<*mut Context> {
    KERNEL.with(|kernel| {
        percpu::with(|cpu| {
            kernel.enter(cpu.cpu);
            let (from, to) = kernel.fast_ipc(cpu.cpu.into())?;
            Some(switch(cpu, from, to))
        })
    })
}

/// A page fault in user mode. Returns the context to resume, if the simple case it was.
#[inline(always)]
pub(super) fn fault(address: u64, access: Rights, esr: u64) -> Option<*mut Context> {
    KERNEL.with(|kernel| {
        percpu::with(|cpu| {
            kernel.enter(cpu.cpu);
            let (from, to) = kernel.fast_fault(cpu.cpu.into(), address, access, esr)?;
            Some(switch(cpu, from, to))
        })
    })
}

/// Loads what belongs to `to` after `from` ran. Returns what the exception entry shall resume.
#[inline(always)]
fn switch(cpu: &mut PerCpu, from: &mut Tcb, to: &mut Tcb) -> *mut Context {
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
    &raw mut to.context
}
