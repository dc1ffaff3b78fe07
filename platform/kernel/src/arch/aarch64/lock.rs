//! The cluster lock: fair (MCS), and no atomic instruction at all where the cluster has one CPU.
#![expect(unsafe_code, reason = "the one CPU of a cluster needs no lock")]

use super::measure;
use super::registers::yield_cpu;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use mcslock::raw::{Mutex, MutexNode};
use mcslock::relax::Relax;

struct Yield;

// SAFETY: neither function can panic.
unsafe impl Relax for Yield {
    fn new() -> Self {
        Self
    }
    fn relax(&mut self) {
        // The holder may be waiting for this CPU's TLB, and interrupts are masked.
        super::shootdown::serve();
        yield_cpu();
    }
}

/// A value that the CPUs of the cluster use one after the other.
///
/// One part of the kernel's state is written without it: the exception entry saves the registers of the thread that runs here into
/// its TCB's `context` before the lock is taken. No other CPU touches the context of a running thread.
pub(super) struct ClusterLock<T> {
    mutex: Mutex<(), Yield>,
    shared: AtomicBool,
    plain: AtomicBool,
    ready: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: `with` gives out one reference at a time: under the mutex, or, when the cluster has a single CPU, to that CPU, which
// runs the kernel with interrupts masked and never nests calls.
unsafe impl<T> Sync for ClusterLock<T> {}

impl<T> ClusterLock<T> {
    /// No value yet.
    pub(super) const fn new() -> Self {
        Self {
            mutex: Mutex::new(()),
            shared: AtomicBool::new(true),
            plain: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(None),
        }
    }

    /// Puts the value in, before any other use. `cpus` is how many CPUs the cluster has; `measured`: [`measure`] will be on.
    pub(super) fn init(&self, cpus: u16, measured: bool, value: T) {
        assert!(!self.is_ready(), "the cluster lock is initialised once");
        // SAFETY: nobody calls `with` before `ready` is set, and only the cluster's first CPU comes here.
        unsafe { *self.value.get() = Some(value) };
        self.shared.store(cpus > 1, Ordering::Relaxed);
        self.plain.store(cpus <= 1 && !measured, Ordering::Relaxed);
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the value is there.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Where the value is. The compiler shall forget that this is a constant: it would compute it anew for every field, and in
    /// the kernel's paths instructions count.
    #[inline(always)]
    fn address(&self) -> *mut Option<T> {
        let mut address = self.value.get().expose_provenance();
        // SAFETY: no instruction.
        unsafe {
            core::arch::asm!("/* {} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags))
        };
        core::ptr::with_exposed_provenance_mut(address)
    }

    /// Whether the cluster has several CPUs.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Whether the cluster has one CPU and nothing is measured.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
    }

    /// The value, in a cluster of one CPU, where nothing needs to be locked.
    ///
    /// # Safety
    /// The cluster has one CPU, which is in an exception from user mode, and no other reference to the value exists until the caller
    /// returns.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller promises that it is the only one")]
    pub(super) unsafe fn alone(&self) -> &mut T {
        // SAFETY: the caller's promise.
        match unsafe { &mut *self.address() } {
            Some(value) => value,
            // SAFETY: user mode exists only after `init`.
            None => unsafe { core::hint::unreachable_unchecked() },
        }
    }

    /// Runs `f` on the value, alone.
    #[inline(always)]
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        if self.is_shared() {
            return self.locked(f);
        }
        // SAFETY: the only CPU of the cluster; see the `Sync` implementation.
        unsafe { self.run(f) }
    }

    /// The same, and [`measure`] learns how long it took.
    pub(super) fn with_measured<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        if !measure::is_on() {
            return self.with(f);
        }
        let (asked, mut taken, mut done) = (measure::now(), 0, 0);
        let result = self.with(|value| {
            taken = measure::now();
            let result = f(value);
            done = measure::now();
            result
        });
        measure::locked(taken - asked, done - taken);
        result
    }

    /// The same, in a cluster that may have several CPUs.
    #[inline(never)]
    pub(super) fn locked<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: under the mutex.
        self.mutex.lock_with_then(&mut MutexNode::new(), |_| unsafe { self.run(f) })
    }

    /// # Safety
    /// No other reference to the value exists.
    #[inline(always)]
    unsafe fn run<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: as the caller promises.
        let value = unsafe { &mut *self.address() };
        f(value.as_mut().expect("no CPU enters the kernel before it is initialised"))
    }
}
