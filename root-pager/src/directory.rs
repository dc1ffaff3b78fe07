//! The app pager threads of the whole machine, and who waits until all of them are there.

use skerry_abi::boot::MAX_CPUS;
use skerry_abi::{Error, ThreadId};

/// Callers that wait for the pagers at a time.
const MAX_WAITING: usize = 8;

/// The directory.
#[derive(Debug)]
pub struct Directory {
    cpus: [(ThreadId, ThreadId); MAX_CPUS],
    registered: usize,
    complete: bool,
    expected: usize,
    waiting: [ThreadId; MAX_WAITING],
}

impl Directory {
    /// Empty, for a machine with `expected` CPUs.
    pub const fn new(expected: usize) -> Self {
        Self {
            cpus: [(ThreadId::NIL, ThreadId::NIL); MAX_CPUS],
            registered: 0,
            complete: false,
            expected,
            waiting: [ThreadId::NIL; MAX_WAITING],
        }
    }
    /// Enters a CPU's pager thread and worker.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a CPU that does not exist, [`Error::WrongState`] for one that is entered.
    pub fn register(&mut self, cpu: u16, pager: ThreadId, worker: ThreadId) -> Result<(), Error> {
        let entry = self.cpus[..self.expected].get_mut(usize::from(cpu)).ok_or(Error::BadArgument)?;
        if !entry.0.is_nil() || pager.is_nil() {
            return Err(Error::WrongState);
        }
        *entry = (pager, worker);
        self.registered += 1;
        self.complete |= self.is_complete();
        Ok(())
    }
    /// Whether every CPU was entered once.
    pub fn was_complete(&self) -> bool {
        self.complete
    }
    /// Takes out a CPU whose pager has died.
    pub fn forget(&mut self, cpu: u16) {
        if let Some(entry) = self.cpus[..self.expected].get_mut(usize::from(cpu))
            && !entry.0.is_nil()
        {
            *entry = (ThreadId::NIL, ThreadId::NIL);
            self.registered -= 1;
        }
    }
    /// Whether every CPU is entered.
    pub fn is_complete(&self) -> bool {
        self.registered == self.expected
    }
    /// Pager thread and worker of a CPU.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a CPU that does not exist, [`Error::WrongState`] for one not yet entered.
    pub fn lookup(&self, cpu: u16) -> Result<(ThreadId, ThreadId), Error> {
        match self.cpus[..self.expected].get(usize::from(cpu)) {
            None => Err(Error::BadArgument),
            Some((pager, _)) if pager.is_nil() => Err(Error::WrongState),
            Some(&entry) => Ok(entry),
        }
    }
    /// Remembers a caller that waits for completion.
    ///
    /// # Errors
    /// [`Error::TableFull`].
    pub fn park(&mut self, caller: ThreadId) -> Result<(), Error> {
        *self.waiting.iter_mut().find(|slot| slot.is_nil()).ok_or(Error::TableFull)? = caller;
        Ok(())
    }
    /// One of those that wait; to be answered when the directory is complete.
    pub fn unpark(&mut self) -> Option<ThreadId> {
        let slot = self.waiting.iter_mut().find(|slot| !slot.is_nil())?;
        Some(core::mem::take(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_when_all_are_there() {
        let pager = |cpu| ThreadId::new(cpu, 5, 1);
        let mut directory = Directory::new(2);
        directory.park(ThreadId::root(0)).unwrap();
        directory.register(1, pager(1), pager(9)).unwrap();
        assert!(!directory.is_complete() && !directory.was_complete());
        assert_eq!(directory.lookup(0), Err(Error::WrongState));
        assert_eq!(directory.register(2, pager(2), pager(9)), Err(Error::BadArgument));
        assert_eq!(directory.register(1, pager(1), pager(9)), Err(Error::WrongState));
        directory.register(0, pager(0), pager(9)).unwrap();
        assert!(directory.is_complete());
        assert_eq!(directory.unpark(), Some(ThreadId::root(0)));
        assert_eq!(directory.unpark(), None);
        assert_eq!(directory.lookup(1), Ok((pager(1), pager(9))));
        directory.forget(1);
        directory.forget(1);
        assert_eq!((directory.lookup(1), directory.is_complete()), (Err(Error::WrongState), false));
        assert!(directory.was_complete());
        directory.register(1, pager(2), pager(8)).unwrap();
        assert!(directory.is_complete() && directory.lookup(1) == Ok((pager(2), pager(8))));
    }
}
