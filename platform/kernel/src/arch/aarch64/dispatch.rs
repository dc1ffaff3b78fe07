//! From an exception to the next thread.
#![expect(unsafe_code, reason = "called from, and returning to, the exception entry")]

use super::gic::Interrupt;
use super::percpu::PerCpu;
use super::registers::{read_sysreg, wfi, write_sysreg};
use super::start::{KERNEL, TheKernel, boot_info};
use super::{console, fastpath, fp, gic, machine, measure, percpu, shootdown, timer};
use core::panic::PanicInfo;
use core::ptr::null_mut;
use skerry_abi::layout::USER_END;
use skerry_abi::syscall::exit;
use skerry_abi::{Counter, Rights, ThreadId};
use skerry_kernel::kernel::Event;
use skerry_kernel::syscall::Next;
use skerry_kernel::thread::Context;

/// ESR_EL1.EC values (ARM ARM D24.2.40).
pub(super) mod class {
    pub(in super::super) const FP_TRAP: u64 = 0x07;
    pub(in super::super) const SVC64: u64 = 0x15;
    pub(in super::super) const INSTRUCTION_ABORT: u64 = 0x20;
    pub(in super::super) const DATA_ABORT: u64 = 0x24;
}

/// What a synchronous exception from user mode means; `None`: a trapped floating-point instruction.
fn decode(esr: u64, far: u64) -> Option<Event> {
    match esr >> 26 & 0x3f {
        class::FP_TRAP => None,
        class::SVC64 => Some(Event::Syscall(esr as u16)),
        _ => decode_abort(esr, far).or(Some(Event::Exception { esr, far })),
    }
}

/// The page fault behind an abort from user mode; `None`: it is none, or not an abort.
#[inline(always)]
pub(super) fn decode_abort(esr: u64, far: u64) -> Option<Event> {
    let access = match esr >> 26 & 0x3f {
        class::INSTRUCTION_ABORT => Rights::X,
        // WnR; cache maintenance (CM) reports a write but needs read permission only.
        class::DATA_ABORT if esr >> 6 & 1 != 0 && esr >> 8 & 1 == 0 => Rights::W,
        class::DATA_ABORT => Rights::R,
        _ => return None,
    };
    // FSC: translation 0b0001xx, access flag 0b0010xx, permission 0b0011xx. Anything else (alignment, external abort) is not
    // a pager's business. A tagged or kernel address can never be mapped: no pager needs to hear of it either.
    let pageable = (esr >> 2 & 0xf).wrapping_sub(1) < 3 && far < USER_END;
    pageable.then_some(Event::PageFault { address: far, access, esr })
}

/// A system call other than IPC and UNMAP ([`skerry_kernel::syscall::is_call`]). Returns the context to resume, or null: the caller
/// goes on, and only its x0 to x3 have changed.
pub(super) extern "C" fn user_call(number: u16) -> *mut Context {
    if !KERNEL.is_plain() {
        return guarded_call(number);
    }
    // SAFETY: one CPU, interrupts are masked, and the reference is gone before the CPU sleeps or leaves the kernel.
    let kernel = unsafe { KERNEL.alone() };
    let next = after_call(kernel, number, |kernel| {
        if kernel.rests() {
            // What belongs to the thread that waits now stays loaded, see `nap`.
            timer::arm(kernel.deadline());
            kernel.counters.count(Counter::Sleeps);
            return None;
        }
        switch(kernel)
    });
    next.unwrap_or_else(nap)
}

/// The same with whatever else the cluster needs: its lock, measurement.
#[inline(never)]
fn guarded_call(number: u16) -> *mut Context {
    measure::enter();
    let cpu = percpu::with(|c| c.cpu);
    let next = KERNEL.with_measured(|kernel| {
        kernel.enter(cpu);
        // Another CPU may have deleted the thread while it ran here: its call dies with it.
        match kernel.current() {
            Some(_) => after_call(kernel, number, switch),
            None => switch(kernel),
        }
    });
    let next = next.unwrap_or_else(idle);
    measure::leave();
    next
}

/// Carries the call out; `ask` chooses who goes on if that is neither the caller nor a thread that it has started.
#[inline(always)]
fn after_call(
    kernel: &mut TheKernel,
    number: u16,
    ask: impl FnOnce(&mut TheKernel) -> Option<*mut Context>,
) -> Option<*mut Context> {
    match kernel.call(number) {
        Next::Caller(timer) => {
            timer::arm(timer);
            Some(null_mut())
        }
        // Whoever runs has the slice that began with this CPU's tick: the timer is set for its end.
        Next::Switch(from, to) => Some(percpu::with(|cpu| fastpath::switch(cpu, from, to))),
        Next::Ask => ask(kernel),
    }
}

/// Any other synchronous exception from user mode. Returns the context to resume.
pub(super) extern "C" fn user_sync(esr: u64, far: u64) -> *mut Context {
    measure::enter();
    let cpu = percpu::with(|c| c.cpu);
    let event = decode(esr, far);
    let next = KERNEL.with_measured(|kernel| {
        kernel.enter(cpu);
        match (event, kernel.current()) {
            (Some(event), Some(_)) => kernel.handle(event),
            (None, Some(t)) => fp::take_over(kernel, t),
            // Another CPU deleted the thread while it ran here: its event dies with it.
            (_, None) => {}
        }
        resume(kernel)
    });
    let next = next.unwrap_or_else(idle);
    measure::leave();
    next
}

/// An interrupt from user mode. Returns the context to resume.
pub(super) extern "C" fn user_irq() -> *mut Context {
    measure::enter();
    let next = interrupt().unwrap_or_else(idle);
    measure::leave();
    next
}

#[inline(always)]
fn interrupt() -> Option<*mut Context> {
    let interrupt = gic::acknowledge(|| boot_info().map_or(0, |info| info.timer_irq));
    if let Interrupt::Doorbell = interrupt
        && let Some(context) = doorbell()
    {
        return Some(context);
    }
    handle(interrupt)
}

#[inline(never)]
fn handle(interrupt: Interrupt) -> Option<*mut Context> {
    let event = match interrupt {
        Interrupt::Timer => Some(Event::Tick),
        Interrupt::Doorbell => Some(Event::Kick),
        Interrupt::OwnDoorbell => Some(Event::OwnKick),
        Interrupt::Device(irq) => Some(Event::Interrupt(irq)),
        Interrupt::Other => None,
    };
    // Whoever interrupted for this holds the lock until it is done.
    shootdown::serve();
    let cpu = percpu::with(|c| c.cpu);
    KERNEL.with_measured(|kernel| {
        kernel.enter(cpu);
        if let Some(event) = event {
            kernel.counters.count(Counter::Interrupts);
            kernel.handle(event);
        }
        resume(kernel)
    })
}

/// The short way for a doorbell that woke the only CPU of its cluster.
#[inline(always)]
fn doorbell() -> Option<*mut Context> {
    if !KERNEL.is_plain() {
        return None;
    }
    let (number, loaded) = percpu::with(|cpu| (cpu.cpu, cpu.loaded));
    // SAFETY: one CPU, interrupts are masked, and the reference is gone when this returns: before the interrupted code, which is user
    // mode, `idle` or `nap`, goes on.
    let kernel = unsafe { KERNEL.alone() };
    let (id, context) = kernel.fast_doorbell(number)?;
    // All that belongs to it is still loaded if it was the last to run; when the general code puts the CPU to sleep, nothing is. The
    // timer is as it left it.
    if id == loaded {
        return Some(context);
    }
    leave_loaded(kernel, loaded);
    kernel.current().map(|t| load(kernel, t, loaded))
}

/// Sleeps after the short way has left the only CPU of the cluster nothing to run. What belongs to the thread that ran last stays loaded:
/// mostly it is the next to run, and nobody else can take its space away meanwhile. A timer that is still set for the end of its
/// slice costs one interrupt at most, which puts the CPU to sleep the general way.
#[inline(always)]
pub(super) fn nap() -> *mut Context {
    wfi();
    interrupt().unwrap_or_else(idle)
}

/// Sleeps until there is something to run.
pub(super) fn idle() -> *mut Context {
    loop {
        measure::leave();
        wfi();
        measure::enter();
        if let Some(context) = interrupt() {
            return context;
        }
    }
}

/// Lets the thread that ran go on if nothing has happened that the scheduler must look at, or else the one it chooses. `None`: there is
/// none.
#[inline(always)]
pub(super) fn resume(kernel: &mut TheKernel) -> Option<*mut Context> {
    if let Some((t, timer)) = kernel.goes_on()
        && kernel.thread(t).id == percpu::with(|cpu| cpu.loaded)
    {
        timer::arm(timer);
        return Some(&raw mut kernel.thread_mut(t).context);
    }
    switch(kernel)
}

/// Chooses the next thread and loads what belongs to it. `None`: there is none.
#[inline(never)]
pub(super) fn switch(kernel: &mut TheKernel) -> Option<*mut Context> {
    let loaded = percpu::with(|cpu| cpu.loaded);
    // `pick` may let it leave this CPU.
    leave_loaded(kernel, loaded);
    let Some(t) = kernel.pick() else {
        // Tickless: only a deadline wakes an idle CPU, and else another CPU does.
        timer::disarm();
        timer::arm(kernel.deadline());
        kernel.counters.count(Counter::Sleeps);
        // The space that ran last may go away as soon as the lock is free: let TTBR0 point to nothing.
        let nothing = kernel.empty_table();
        percpu::with(|cpu| {
            cpu.loaded = ThreadId::NIL;
            load_space(cpu, nothing);
        });
        return None;
    };
    Some(load(kernel, t, loaded))
}

/// Saves what belongs to the thread that ran until now and lies in the CPU's registers still: if it is not gone, TPIDR_EL0.
#[inline(always)]
fn leave_loaded(kernel: &mut TheKernel, loaded: ThreadId) {
    if let Some(thread) = kernel.loaded_thread(loaded) {
        thread.tls = read_sysreg!("tpidr_el0");
    }
}

/// Loads what belongs to the thread that runs next, if it is not `loaded`.
#[inline(always)]
fn load(kernel: &mut TheKernel, t: u32, loaded: ThreadId) -> *mut Context {
    timer::arm(kernel.next_timer());
    let thread = kernel.thread_mut(t);
    if loaded != thread.id {
        write_sysreg!("tpidr_el0", thread.tls);
        write_sysreg!("tpidrro_el0", thread.utcb_va);
        percpu::with(|cpu| {
            cpu.loaded = thread.id;
            fp::allow(cpu.fp_owner == thread.id);
            load_space(cpu, thread.ttbr0);
        });
        let context = &raw mut thread.context;
        kernel.counters.count(Counter::Switches);
        return context;
    }
    &raw mut thread.context
}

fn load_space(cpu: &mut PerCpu, ttbr0: u64) {
    if cpu.ttbr0 != ttbr0 {
        cpu.ttbr0 = ttbr0;
        write_sysreg!("ttbr0_el1", ttbr0);
        super::registers::isb();
    }
}

/// An exception in the kernel, or an SError: always fatal.
pub(super) extern "C" fn kernel_fault(esr: u64, elr: u64, far: u64) -> ! {
    let cpu = percpu::with(|c| c.cpu);
    panic!("CPU {cpu}: exception in the kernel: esr {esr:#x} at {elr:#x}, address {far:#x}")
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::report("kernel panic", format_args!("{info}"), exit::KERNEL_PANIC);
    machine::end(boot_info().is_none_or(|i| i.semihosting != 0), exit::KERNEL_PANIC)
}
