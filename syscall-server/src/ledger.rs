//! The spaces and threads that this server made: those it may be asked to change.

use core::sync::atomic::{AtomicU32, Ordering};

use skerry_abi::{Error, SpaceId, ThreadId};

/// Slots per kind of object; the kernels' tables are no larger.
pub const SLOTS: usize = 8192;

/// For every slot of the kernel's tables the generation of the object made here, 0 for none.
///
/// All threads of the server share it without a lock: an entry is written by whoever made the object, before
/// anybody else can know its id, and a stale generation matches nothing.
#[derive(Debug)]
pub struct Ledger {
    spaces: [AtomicU32; SLOTS],
    threads: [AtomicU32; SLOTS],
}

impl Ledger {
    /// Nothing was made yet.
    pub const fn new() -> Self {
        Self { spaces: [const { AtomicU32::new(0) }; SLOTS], threads: [const { AtomicU32::new(0) }; SLOTS] }
    }
    /// Records a new space.
    ///
    /// # Errors
    /// [`Error::TableFull`] for a slot beyond the table.
    pub fn add_space(&self, id: SpaceId) -> Result<(), Error> {
        set(&self.spaces, id.slot(), id.generation())
    }
    /// Records a new thread.
    ///
    /// # Errors
    /// [`Error::TableFull`] for a slot beyond the table.
    pub fn add_thread(&self, id: ThreadId) -> Result<(), Error> {
        set(&self.threads, id.slot(), id.generation())
    }
    /// All spaces of this cluster that were made here, those that have ended since included; they are forgotten.
    pub fn take_spaces(&self, cluster: u16) -> impl Iterator<Item = SpaceId> {
        let slots = self.spaces.iter().zip(0u16..);
        slots.filter_map(move |(generation, slot)| match generation.swap(0, Ordering::AcqRel) {
            0 => None,
            generation => Some(SpaceId::new(cluster, slot, generation)),
        })
    }
    /// # Errors
    /// [`Error::Refused`] unless the space was made here.
    pub fn check_space(&self, id: SpaceId) -> Result<(), Error> {
        check(&self.spaces, id.slot(), id.generation())
    }
    /// # Errors
    /// [`Error::Refused`] unless the thread was made here.
    pub fn check_thread(&self, id: ThreadId) -> Result<(), Error> {
        check(&self.threads, id.slot(), id.generation())
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

fn set(table: &[AtomicU32; SLOTS], slot: u16, generation: u32) -> Result<(), Error> {
    table.get(usize::from(slot)).ok_or(Error::TableFull)?.store(generation, Ordering::Release);
    Ok(())
}

fn check(table: &[AtomicU32; SLOTS], slot: u16, generation: u32) -> Result<(), Error> {
    match table.get(usize::from(slot)) {
        Some(entry) if generation != 0 && entry.load(Ordering::Acquire) == generation => Ok(()),
        _ => Err(Error::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_passes() {
        static LEDGER: Ledger = Ledger::new();
        LEDGER.add_thread(ThreadId::new(1, 7, 3)).unwrap();
        assert_eq!(LEDGER.check_thread(ThreadId::new(1, 7, 3)), Ok(()));
        assert_eq!(LEDGER.check_thread(ThreadId::new(1, 7, 2)), Err(Error::Refused));
        assert_eq!(LEDGER.check_thread(ThreadId::NIL), Err(Error::Refused));
        assert_eq!(LEDGER.check_space(SpaceId::new(1, 7, 3)), Err(Error::Refused));
        assert_eq!(LEDGER.add_space(SpaceId::new(1, 0xffff, 1)), Err(Error::TableFull));
        let space = SpaceId::new(1, 9, 4);
        LEDGER.add_space(space).unwrap();
        assert!(LEDGER.take_spaces(1).eq([space]) && LEDGER.take_spaces(1).next().is_none());
        assert_eq!(LEDGER.check_space(space), Err(Error::Refused));
    }
}
