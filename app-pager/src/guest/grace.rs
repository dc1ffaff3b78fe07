//! When memory that pager threads read without a lock may be used for something else.
//!
//! Boards, books and tables are found in the shared state and then read without it. So who takes one of them out of the state
//! *retires* it, and frees its frames when every thread of this pager has waited for a message since: the grace period of RCU.
//! Threads say so when they are asked, by a notification, which they take when they wait: a fault costs nothing for it. Nobody waits for
//! the end of the period, since a thread may be waiting for another pager: who has frames to free looks again later.

use core::sync::atomic::Ordering::{Acquire, SeqCst};
use core::sync::atomic::{AtomicU64, fence};

use skerry_abi::ThreadId;
use skerry_abi::boot::MAX_CPUS;
use skerry_rt::sys;

use super::state::{Context, LOOK};

/// Counts what was retired. Never 0.
static EPOCH: AtomicU64 = AtomicU64::new(1);
/// Threads of a pager besides those of CPUs: the worker, the unmap worker, and the undertaker.
const WORKERS: usize = 3;

/// For every thread of the pager the epoch in which it last said that it has nothing in hand.
static SEEN: [AtomicU64; MAX_CPUS + WORKERS] = [const { AtomicU64::new(1) }; MAX_CPUS + WORKERS];

/// It changes when something was retired: whatever a thread found before is not to be used any more.
#[inline(always)]
pub(super) fn epoch() -> u64 {
    EPOCH.load(Acquire)
}

/// The thread of this rank has nothing in hand that it found before.
pub(super) fn announce(rank: usize) {
    fence(SeqCst);
    if let Some(seen) = SEEN.get(rank) {
        seen.store(EPOCH.load(SeqCst), SeqCst);
    }
}

/// The thread of this rank has nothing in hand, and does not look at anything before it calls [`enter`]: nobody waits for it.
pub(super) fn leave(rank: usize) {
    fence(SeqCst);
    if let Some(seen) = SEEN.get(rank) {
        seen.store(u64::MAX, SeqCst);
    }
}

/// The opposite of [`leave`].
pub(super) fn enter(rank: usize) {
    if let Some(seen) = SEEN.get(rank) {
        seen.store(EPOCH.load(SeqCst), SeqCst);
    }
    fence(SeqCst);
}

/// To be called when something cannot be found any more; the answer says when nobody has it any more.
pub(super) fn retire(context: &Context) -> u64 {
    let ticket = EPOCH.fetch_add(1, SeqCst);
    let pagers = context.start.cpus().iter().map(|cpu| cpu.pager);
    for thread in pagers.chain([context.start.worker, context.start.unmapper]) {
        // They are threads of this program, which stay.
        let _ = sys::notify(ThreadId(thread), LOOK);
    }
    ticket
}

/// Whether all threads have waited since [`retire`] gave this ticket.
pub(super) fn has_passed(context: &Context, ticket: u64) -> bool {
    SEEN.iter().take(context.start.cpus().len() + WORKERS).all(|seen| seen.load(SeqCst) > ticket)
}
