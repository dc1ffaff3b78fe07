//! Faults that wait for somebody who is changing their page: the thread stays un-answered, and the pager goes on.
//!
//! A machine that parks has backed out and begins anew when it is woken, so what has to be kept is the question.

use skerry_abi::{Rights, ThreadId};
use skerry_ipc::Sender;

/// Faults of one CPU that wait at a time; who finds no room tries again at once.
const MAX_PARKED: usize = 64;

/// A fault that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) from: Sender,
    pub(super) address: u64,
    pub(super) access: Rights,
}

/// Those of one pager thread.
pub(super) struct Parked {
    faults: [Option<Waiting>; MAX_PARKED],
}

impl Parked {
    pub(super) const fn new() -> Self {
        Self { faults: [None; MAX_PARKED] }
    }
    /// Keeps one. Returns whether there was room.
    pub(super) fn add(&mut self, fault: Waiting) -> bool {
        let free = self.faults.iter_mut().find(|slot| slot.is_none());
        free.map(|slot| *slot = Some(fault)).is_some()
    }
    /// That of a thread does not wait any more.
    pub(super) fn remove(&mut self, thread: ThreadId) {
        let of = |fault: &Waiting| fault.from.thread == thread;
        self.faults.iter_mut().filter(|slot| slot.as_ref().is_some_and(of)).for_each(|slot| *slot = None);
    }
    /// All of them, to be tried again.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        core::mem::replace(&mut self.faults, [None; MAX_PARKED]).into_iter().flatten()
    }
}
