//! Waiting by spinning, for the few places where nobody may block.
//!
//! A spin loop without WFE burns a whole time slice of the emulator, and on hardware the power of a core. Locks
//! here are held for a few hundred instructions and never across an IPC. Threads of different priority on one CPU share one
//! only with [`TicketLock::lock_with`] on the side of the more urgent thread, which otherwise could spin for ever.
#![expect(unsafe_code, reason = "a lock hands out references to what it guards")]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "none")]
use crate::sys::wait;
#[cfg(not(target_os = "none"))]
use core::hint::spin_loop as wait;

/// Spins until `condition` holds.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        wait();
    }
}

fn wake() {
    #[cfg(target_os = "none")]
    crate::sys::wake();
}

/// A fair lock.
#[derive(Debug, Default)]
pub struct TicketLock<T> {
    next: AtomicU32,
    serving: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the ticket discipline lets one holder at a time reach the value.
unsafe impl<T: Send> Sync for TicketLock<T> {}

impl<T> TicketLock<T> {
    /// Free.
    pub const fn new(value: T) -> Self {
        Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }
    /// Waits for its turn.
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock_with(wait)
    }
    /// Waits for its turn with `pause` between two looks. A thread that may have to wait for one of lower priority on its own CPU
    /// needs a pause that lets that one run.
    pub fn lock_with(&self, pause: impl Fn()) -> Guard<'_, T> {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        while self.serving.load(Ordering::Acquire) != ticket {
            pause();
        }
        Guard(self)
    }
}

/// Holding a [`TicketLock`].
#[derive(Debug)]
pub struct Guard<'a, T>(&'a TicketLock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: `serving` equals this guard's ticket until it is dropped.
        unsafe { &*self.0.value.get() }
    }
}
impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}
impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let ticket = self.0.serving.load(Ordering::Relaxed);
        self.0.serving.store(ticket.wrapping_add(1), Ordering::Release);
        wake();
    }
}

/// What one thread sets up before others read it, for ever unchanged from then on.
#[derive(Debug, Default)]
pub struct SetUp<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

const OPEN: u32 = 0;
const BEING_SET: u32 = 1;
const FIXED: u32 = 2;

// SAFETY: one thread has the value for itself while it is being set, and none changes it after that.
unsafe impl<T: Send + Sync> Sync for SetUp<T> {}

impl<T> SetUp<T> {
    /// Not set up.
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(OPEN), value: UnsafeCell::new(value) }
    }
    /// Sets it up; `None`, and nothing is done, if somebody has or is about to.
    pub fn set<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.state.compare_exchange(OPEN, BEING_SET, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: only who changes `OPEN` to `BEING_SET` gets here, once, and nobody reads before `FIXED`.
        let result = f(unsafe { &mut *self.value.get() });
        self.state.store(FIXED, Ordering::Release);
        Some(result)
    }
    /// The value, when it is set up.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: nobody changes it from `FIXED` on.
        (self.state.load(Ordering::Acquire) == FIXED).then(|| unsafe { &*self.value.get() })
    }
}

/// A barrier that is used once. Recordings of misses know of it ([`skerry_abi::marker`]).
#[derive(Debug, Default)]
pub struct Barrier {
    arrived: AtomicU64,
    open: AtomicU64,
}

impl Barrier {
    /// Nobody has arrived.
    pub const fn new() -> Self {
        Self { arrived: AtomicU64::new(0), open: AtomicU64::new(0) }
    }
    /// Waits until `parties` threads have arrived. The last one runs `before_opening` before it lets all go.
    pub fn wait(&self, parties: u64, before_opening: impl FnOnce()) {
        #[cfg(target_os = "none")]
        crate::marker::waits();
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == parties {
            before_opening();
            self.open.store(1, Ordering::Release);
            wake();
        } else {
            until(|| self.open.load(Ordering::Acquire) == 1);
        }
        #[cfg(target_os = "none")]
        crate::marker::met();
    }
}

#[cfg(test)]
mod tests {
    use super::SetUp;

    #[test]
    fn set_up_once() {
        let word = SetUp::new(1);
        assert_eq!(word.get(), None);
        assert_eq!(
            word.set(|value| {
                *value = 2;
                word.get().is_none()
            }),
            Some(true)
        );
        assert_eq!((word.set(|_| ()), word.get()), (None, Some(&2)));
    }
}
