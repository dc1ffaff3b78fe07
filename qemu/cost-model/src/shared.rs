//! The part of a CPU that others may touch: atomics only, so that neither side ever waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::LINES_PER_PAGE;
use crate::time::Time;
use crate::tlb::Invalidation;

/// No interrupt is on its way.
const NEVER: Time = Time::MAX;

/// One CPU, as the others see it.
#[derive(Debug)]
pub struct Shared {
    clock: AtomicU64,
    idle: AtomicBool,
    /// Bumped when something is taken away from this CPU: its filter is then worth nothing.
    generation: AtomicU64,
    /// Time that others' broadcasts cost this CPU and that its clock does not hold yet.
    debt: AtomicU64,
    wake_at: AtomicU64,
    invalidations: Mutex<Vec<Invalidation>>,
    /// The lines that its filter may store to, and when it last did.
    lines: [AtomicU64; LINES_PER_PAGE],
    stores: [AtomicU64; LINES_PER_PAGE],
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            clock: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            debt: AtomicU64::new(0),
            wake_at: AtomicU64::new(NEVER),
            invalidations: Mutex::new(Vec::new()),
            lines: [const { AtomicU64::new(u64::MAX) }; LINES_PER_PAGE],
            stores: [const { AtomicU64::new(0) }; LINES_PER_PAGE],
        }
    }
}

impl Shared {
    /// Its clock.
    pub fn clock(&self) -> Time {
        self.clock.load(Ordering::Relaxed)
    }
    pub(crate) fn set_clock(&self, time: Time) {
        self.clock.store(time, Ordering::Relaxed);
    }
    /// Whether it sleeps or spins with WFE, so that nobody waits for its clock.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
    pub(crate) fn bump(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Makes it pay at its next look.
    pub(crate) fn charge(&self, time: Time) {
        self.debt.fetch_add(time, Ordering::Relaxed);
    }
    /// What it has to pay.
    #[inline]
    pub(crate) fn collect(&self) -> Time {
        if self.debt.load(Ordering::Relaxed) == 0 { 0 } else { self.debt.swap(0, Ordering::Relaxed) }
    }

    /// An interrupt arrives at this time.
    pub(crate) fn interrupt(&self, time: Time) {
        self.wake_at.fetch_min(time, Ordering::Relaxed);
    }
    /// The first interrupt that has been sent to it; it is gone then.
    pub(crate) fn take_interrupt(&self) -> Option<Time> {
        let time = self.wake_at.swap(NEVER, Ordering::Relaxed);
        (time != NEVER).then_some(time)
    }

    /// Tells it to drop translations.
    pub(crate) fn invalidate(&self, what: Invalidation) {
        self.queue().push(what);
        self.bump();
    }
    /// What it was told to drop.
    pub(crate) fn take_invalidations(&self) -> Vec<Invalidation> {
        std::mem::take(&mut *self.queue())
    }
    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<Invalidation>> {
        // A panic elsewhere leaves a queue that is as good as before.
        self.invalidations.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A store that the filter answered.
    #[inline]
    pub(crate) fn note_store(&self, index: usize, time: Time) {
        self.stores[index].store(time, Ordering::Relaxed);
    }
    /// The filter's entry now stands for `line`; gives the line it stood for and when that was stored to.
    pub(crate) fn replace(&self, index: usize, line: u64, time: Time) -> (u64, Time) {
        let old = (self.lines[index].load(Ordering::Relaxed), self.stores[index].load(Ordering::Relaxed));
        self.stores[index].store(time, Ordering::Relaxed);
        self.lines[index].store(line, Ordering::Relaxed);
        old
    }
    /// When it last stored to a line, if its filter knows.
    pub(crate) fn last_store(&self, line: u64) -> Time {
        let index = line as usize % LINES_PER_PAGE;
        let known = self.lines[index].load(Ordering::Relaxed) == line;
        if known { self.stores[index].load(Ordering::Relaxed) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_interrupts_wakes() {
        let shared = Shared::default();
        assert_eq!(shared.take_interrupt(), None);
        shared.interrupt(70);
        shared.interrupt(50);
        assert_eq!((shared.take_interrupt(), shared.take_interrupt()), (Some(50), None));
    }

    #[test]
    fn debts_are_paid_once() {
        let shared = Shared::default();
        shared.charge(3);
        shared.charge(4);
        assert_eq!((shared.collect(), shared.collect()), (7, 0));
    }

    #[test]
    fn the_last_store_is_known_for_the_line_in_the_filter_only() {
        let shared = Shared::default();
        shared.replace(5, 64 + 5, 10);
        shared.note_store(5, 12);
        assert_eq!((shared.last_store(64 + 5), shared.last_store(128 + 5)), (12, 0));
        assert_eq!(shared.replace(5, 128 + 5, 20), (64 + 5, 12));
    }
}
