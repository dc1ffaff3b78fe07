//! The machine's half of the short way through IPC: from the sender's registers to the receiver's.
#![expect(unsafe_code, reason = "system registers")]

use super::percpu::{self, PerCpu};
use super::registers::{read_sysreg, write_sysreg, yield_cpu};
use super::start::{KERNEL, TheKernel};
use super::{dispatch, fp, measure};
use skerry_abi::syscall::IPC;
use skerry_abi::{Rights, Tag, ThreadId, Timeout};
use skerry_kernel::fastpath::Answer;
use skerry_kernel::kernel::Event;
use skerry_kernel::syscall::ESR_SVC64;
use skerry_kernel::thread::{Context, Tcb};

/// `svc #IPC` in user mode that the assembly left to Rust. Returns the context to resume.
pub(super) extern "C" fn ipc(
    dest: ThreadId,
    from: ThreadId,
    tag: Tag,
    item: u64,
    item_dest: u64,
    receive_timeout: Timeout,
    window: u64,
) -> *mut Context {
    let answer = Answer { dest, from, tag, item: [item, item_dest], receive_timeout, window };
    // SAFETY: the exception entry calls this with interrupts masked, once at a time.
    let Some(kernel) = (unsafe { KERNEL.alone() }) else { return shared_ipc(&answer) };
    if dest.cluster() != kernel.cluster() {
        let sent = percpu::with(|cpu| kernel.fast_remote(cpu.cpu.into()));
        return if sent { sleep() } else { general_ipc() };
    }
    // The assembly has been through the checks of `fast_ipc` already.
    let fast = percpu::with(|cpu| {
        let (from, to) = kernel.fast_answer::<true>(cpu.cpu.into(), &answer)?;
        Some(switch(cpu, from, to))
    });
    fast.unwrap_or_else(general_ipc)
}

/// Sleeps after the short way has left the CPU nothing to run. What belongs to the thread that ran last stays loaded: mostly it is the
/// next to run, and nobody else can take its space away meanwhile. A timer that is still set for the end of its slice costs one
/// interrupt at most, which puts the CPU to sleep the general way.
fn sleep() -> *mut Context {
    measure::enter();
    let next = dispatch::idle();
    measure::leave();
    next
}

#[inline(never)]
fn shared_ipc(answer: &Answer) -> *mut Context {
    let fast = shared(|kernel, cpu| {
        let number = cpu.cpu.into();
        if let Some((from, to)) = kernel.fast_ipc(number) {
            return Some(switch(cpu, from, to));
        }
        let (from, to) = kernel.fast_answer::<false>(number, answer)?;
        Some(switch(cpu, from, to))
    });
    fast.unwrap_or_else(general_ipc)
}

#[cold]
fn general_ipc() -> *mut Context {
    dispatch::user_sync(ESR_SVC64 | u64::from(IPC), 0)
}

/// An abort in user mode. Returns the context to resume.
pub(super) extern "C" fn abort(esr: u64, far: u64) -> *mut Context {
    let Some(Event::PageFault { address, access, esr }) = dispatch::decode_abort(esr, far) else {
        return dispatch::user_sync(esr, far);
    };
    // Deterministic emulation runs one CPU at a time: pass the turn on, so that threads that touch fresh memory on several CPUs
    // take it page by page, as they would in parallel. A hint without effect on hardware.
    yield_cpu();
    // SAFETY: as in `ipc`.
    let Some(kernel) = (unsafe { KERNEL.alone() }) else { return shared_fault(address, access, esr) };
    let fast = percpu::with(|cpu| {
        let (from, to) = kernel.fast_fault::<true>(cpu.cpu.into(), address, access, esr)?;
        Some(switch(cpu, from, to))
    });
    fast.unwrap_or_else(|| dispatch::user_sync(esr, address))
}

#[inline(never)]
fn shared_fault(address: u64, access: Rights, esr: u64) -> *mut Context {
    let fast = shared(|kernel, cpu| {
        let (from, to) = kernel.fast_fault::<false>(cpu.cpu.into(), address, access, esr)?;
        Some(switch(cpu, from, to))
    });
    fast.unwrap_or_else(|| dispatch::user_sync(esr, address))
}

/// `svc #UNMAP` of one fpage without flush in user mode, in a thread of this space. Returns x1, or 0 if it was not the simple
/// case.
pub(super) extern "C" fn unmap(fpage: u64, space: u16) -> u64 {
    // SAFETY: as in `ipc`.
    match unsafe { KERNEL.alone() } {
        Some(kernel) => kernel.fast_unmap::<true>(space, fpage).unwrap_or(0),
        None => shared_unmap(fpage, space),
    }
}

#[inline(never)]
fn shared_unmap(fpage: u64, space: u16) -> u64 {
    // The space of a thread that was deleted meanwhile may be another's by now.
    let result = shared(|kernel, _| {
        kernel.current()?;
        kernel.fast_unmap::<false>(space, fpage)
    });
    result.unwrap_or(0)
}

/// Runs `f` under the lock of a cluster of several CPUs.
#[inline(never)]
fn shared<R>(f: impl FnOnce(&mut TheKernel, &mut PerCpu) -> Option<R>) -> Option<R> {
    KERNEL.with(|kernel| {
        percpu::with(|cpu| {
            kernel.enter(cpu.cpu);
            f(kernel, cpu)
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
