//! The machine's half of the short way through IPC: from the sender's registers to the receiver's.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu::{self, PerCpu};
use super::registers::{read_sysreg, write_sysreg, yield_cpu};
use super::start::{KERNEL, TheKernel};
use super::{dispatch, fp, measure};
use skerry_abi::syscall::IPC;
use skerry_abi::{Fpage, ThreadId};
use skerry_kernel::kernel::Event;
use skerry_kernel::syscall::ESR_SVC64;
use skerry_kernel::thread::{Context, Tcb};

/// `svc #IPC` in user mode that the assembly left to Rust, in a cluster of one CPU. Returns the context to resume.
pub(super) extern "C" fn ipc(dest: ThreadId) -> *mut Context {
    if !KERNEL.is_plain() {
        return general_ipc();
    }
    // SAFETY: the exception entry calls this with interrupts masked, once at a time, and there is one CPU.
    let kernel = unsafe { KERNEL.alone() };
    // Inside the cluster, the assembly has been through the checks already.
    let cpu = percpu::with(|cpu| cpu.cpu);
    let sleeps = match dest.is_nil() {
        true => kernel.fast_wait(cpu),
        false => dest.cluster() != kernel.cluster() && kernel.fast_remote(cpu),
    };
    match sleeps {
        true => dispatch::nap(),
        false => general_ipc(),
    }
}

#[inline(never)]
fn general_ipc() -> *mut Context {
    dispatch::user_sync(ESR_SVC64 | u64::from(IPC), 0)
}

/// The same in a cluster of several CPUs, where the assembly leaves all to Rust.
pub(super) extern "C" fn shared_ipc() -> *mut Context {
    let next = shared(|kernel, cpu| {
        if let Some((from, to)) = kernel.fast_ipc(cpu) {
            return Some(Some(percpu::with(|own| switch(own, from, to))));
        }
        if let Some((from, to)) = kernel.fast_answer(cpu) {
            return Some(Some(percpu::with(|own| switch(own, from, to))));
        }
        kernel.fast_elsewhere(cpu).then(|| dispatch::switch(kernel))
    });
    match next {
        Some(Some(context)) => context,
        Some(None) => {
            // What came before the sleep is not measured, as on all short ways.
            measure::enter();
            dispatch::idle()
        }
        None => general_ipc(),
    }
}

/// An abort in user mode that the assembly left to Rust. Returns the context to resume.
pub(super) extern "C" fn abort(esr: u64, far: u64) -> *mut Context {
    let fault = dispatch::decode_abort(esr, far).filter(|_| KERNEL.is_shared());
    let fast = match fault {
        Some(Event::PageFault { address, access, esr }) => {
            // See the assembly.
            yield_cpu();
            shared(|kernel, cpu| {
                let (from, to) = kernel.fast_fault(cpu, address, access, esr)?;
                Some(percpu::with(|own| switch(own, from, to)))
            })
        }
        _ => None,
    };
    fast.unwrap_or_else(|| dispatch::user_sync(esr, far))
}

/// The one item of an answer to a page fault, between the spaces in these slots. Called by the assembly, so the cluster has one CPU.
pub(super) extern "C" fn map_one(from: u16, item: u64, to: u16, dest: u64) -> bool {
    // Handed on as they are, the arguments stay in their registers.
    if Fpage::decode_page(item).is_none() {
        return map_group(from, item, to, dest);
    }
    // SAFETY: the exception entry calls this with interrupts masked, once at a time, and only where `FastPath` is set, which is
    // in clusters of one CPU.
    unsafe { KERNEL.alone() }.map_one(from, item, to, dest)
}

/// The same for all items of an answer that has several, if [`map_one`] has refused.
pub(super) extern "C" fn map_several(from: u16, to: u16) -> bool {
    // SAFETY: as in `map_one`.
    unsafe { KERNEL.alone() }.map_several(from, to)
}

#[inline(never)]
extern "C" fn map_group(from: u16, item: u64, to: u16, dest: u64) -> bool {
    // SAFETY: as in `map_one`.
    unsafe { KERNEL.alone() }.map_group(from, item, to, dest)
}

/// `svc #UNMAP` of one page or 64 KiB, without flush, by a thread of the space in this slot. Returns x1, or 0 if it was not the simple case.
/// Called by the assembly, so the cluster has one CPU.
pub(super) extern "C" fn unmap(fpage: u64, space: u16) -> u64 {
    if Fpage::decode_page(fpage).is_none() {
        return unmap_group(fpage, space);
    }
    // SAFETY: as in `map_one`.
    unsafe { KERNEL.alone() }.fast_unmap(space, fpage).unwrap_or(0)
}

#[inline(never)]
extern "C" fn unmap_group(fpage: u64, space: u16) -> u64 {
    // SAFETY: as in `map_one`.
    unsafe { KERNEL.alone() }.unmap_group(space, fpage).unwrap_or(0)
}

/// Runs `f` under the lock of a cluster of several CPUs.
#[inline(always)]
fn shared<R>(f: impl FnOnce(&mut TheKernel, usize) -> Option<R>) -> Option<R> {
    let cpu = percpu::with(|own| own.cpu);
    KERNEL.locked(|kernel| {
        kernel.enter(cpu);
        f(kernel, cpu.into())
    })
}

/// Loads what belongs to `to` after `from` ran. Returns what the exception entry shall resume.
#[inline(always)]
pub(super) fn switch(cpu: &mut PerCpu, from: &mut Tcb, to: &mut Tcb) -> *mut Context {
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
