//! Address spaces, apart from their page tables: names, domains, whom they may talk to, UTCB pages, where they ran.

use crate::queue::Queue;
use crate::shootdown::CpuSet;
use skerry_abi::layout::UTCB_SLOTS;
use skerry_abi::{Domain, Error, SpaceId, ThreadId};
use skerry_checks::{Check, passes};

/// Threads that a privileged thread may name as partners of one space.
pub const MAX_PARTNERS: usize = 8;
/// No slot of the space table.
pub const NO_SPACE: u16 = u16::MAX;
/// UTCBs in one page.
pub const UTCBS_PER_PAGE: usize = 4;
const UTCB_PAGES: usize = UTCB_SLOTS as usize / UTCBS_PER_PAGE;

/// An address space.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its name; the generation counts on when the slot is used again.
    pub id: SpaceId,
    /// Whether the slot is in use.
    pub live: bool,
    /// Its end has begun: nothing may come into it any more, so that the steps towards it ([`crate::lifecycle`]) come to an end.
    pub ending: bool,
    /// What TTBR0_EL1 holds while it runs: its root table and ASID.
    pub ttbr0: u64,
    /// Threads of one domain may talk to each other.
    pub domain: Domain,
    /// May use the privileged system calls.
    pub privileged: bool,
    /// Threads in it.
    pub threads: u32,
    /// The same threads, linked through `members`; those that end as soon as somebody lets go of them come last.
    pub(crate) members: Queue,
    /// Those who wait for the last of them to end.
    pub(crate) mourners: Queue,
    /// The next free slot, if this one is free.
    pub(crate) next_free: u16,
    /// CPUs whose TLBs can hold its entries; only those may run it.
    pub ran_on: CpuSet,
    /// CPUs that have to invalidate its ASID before they run it: their TLBs can hold outdated entries. Belongs to the
    /// slot, as the ASID does, and outlives the space.
    pub stale: CpuSet,
    /// Notifications of its threads that wait for room in the ring to another cluster. Belongs to the slot, too: those of a space that
    /// has ended still go out.
    pub(crate) notes: u8,
    partners: [ThreadId; MAX_PARTNERS],
    utcb_pages: [u32; UTCB_PAGES],
    utcb_used: [u8; UTCB_PAGES],
}

/// What [`Space::take_utcb`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UtcbPage {
    /// The slot's page exists in the arena already.
    Present(u32),
    /// The slot is the first of its page: allocate one and tell [`Space::set_utcb_page`].
    Missing,
}

impl Space {
    /// A slot that was never used.
    pub const FREE: Self = Self {
        id: SpaceId::NIL,
        live: false,
        ending: false,
        ttbr0: 0,
        domain: 0,
        privileged: false,
        threads: 0,
        members: Queue::EMPTY,
        mourners: Queue::EMPTY,
        next_free: NO_SPACE,
        ran_on: CpuSet::EMPTY,
        stale: CpuSet::EMPTY,
        notes: 0,
        partners: [ThreadId::NIL; MAX_PARTNERS],
        utcb_pages: [u32::MAX; UTCB_PAGES],
        utcb_used: [0; UTCB_PAGES],
    };

    /// Makes a free slot a new, empty space. What is not set here is as [`Space::FREE`] or [`Space::retire`] left it.
    pub fn renew(&mut self, id: SpaceId, domain: Domain, privileged: bool) {
        (self.id, self.live, self.domain, self.privileged) = (id, true, domain, privileged);
    }
    /// The space's tag in the TLB. Slots are never shared, so neither are ASIDs; 0 is the kernel's empty table.
    pub fn asid(slot: u16) -> u16 {
        slot + 1
    }
    /// Whether threads of the space may send to `thread` because a privileged thread said so.
    pub fn is_partner(&self, thread: ThreadId) -> bool {
        // They are granted for ever, one behind the other; most spaces have none.
        !self.partners[0].is_nil() && self.partners.contains(&thread)
    }
    /// Allows it from now on.
    ///
    /// # Errors
    /// [`Error::TableFull`] with [`MAX_PARTNERS`] partners.
    pub fn grant_partner(&mut self, thread: ThreadId) -> Result<(), Error> {
        if self.is_partner(thread) {
            return Ok(());
        }
        self.replace_partner(ThreadId::NIL, thread)
    }
    /// Allows it instead of `old`, which nobody can send to any more.
    ///
    /// # Errors
    /// [`Error::TableFull`] if that is no partner.
    pub fn replace_partner(&mut self, old: ThreadId, thread: ThreadId) -> Result<(), Error> {
        let place = self.partners.iter_mut().find(|partner| **partner == old).ok_or(Error::TableFull)?;
        *place = thread;
        Ok(())
    }
    /// The partners, and nil for who is still to come.
    pub fn partners(&self) -> impl Iterator<Item = ThreadId> + '_ {
        self.partners.iter().copied()
    }
    /// Marks a UTCB slot as used.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if the slot does not exist or is taken.
    #[inline(always)]
    pub fn take_utcb(&mut self, slot: u16) -> Result<UtcbPage, Error> {
        let (page, bit) = (usize::from(slot) / UTCBS_PER_PAGE, 1u8 << (usize::from(slot) % UTCBS_PER_PAGE));
        match self.utcb_used.get_mut(page) {
            Some(used) if passes(Check::UtcbFree, *used & bit == 0) => *used |= bit,
            _ => return Err(Error::BadArgument),
        }
        Ok(match self.utcb_pages[page] {
            u32::MAX => UtcbPage::Missing,
            index => UtcbPage::Present(index),
        })
    }
    /// Records the arena page of a slot.
    pub fn set_utcb_page(&mut self, slot: u16, index: u32) {
        self.utcb_pages[usize::from(slot) / UTCBS_PER_PAGE] = index;
    }
    /// Marks a slot as free; the arena page comes back when it was the page's last.
    pub fn release_utcb(&mut self, slot: u16) -> Option<u32> {
        let (page, bit) = (usize::from(slot) / UTCBS_PER_PAGE, 1u8 << (usize::from(slot) % UTCBS_PER_PAGE));
        self.utcb_used[page] &= !bit;
        if self.utcb_used[page] != 0 || self.utcb_pages[page] == u32::MAX {
            return None;
        }
        Some(core::mem::replace(&mut self.utcb_pages[page], u32::MAX))
    }
    /// Empties the slot for its next use, under the next generation. Its threads are gone, and so are their UTCBs.
    pub fn retire(&mut self) {
        debug_assert!(self.threads == 0 && self.utcb_used.iter().all(|&used| used == 0));
        (self.live, self.ending) = (false, false);
        // What other CPUs owe its ASID they still owe.
        self.ran_on = CpuSet::EMPTY;
        self.partners = [ThreadId::NIL; MAX_PARTNERS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_utcb_page_lives_as_long_as_one_of_its_slots() {
        let mut space = Space::FREE;
        assert_eq!(space.take_utcb(4), Ok(UtcbPage::Missing));
        space.set_utcb_page(4, 9);
        assert_eq!(space.take_utcb(5), Ok(UtcbPage::Present(9)));
        assert_eq!(space.take_utcb(5), Err(Error::BadArgument));
        assert_eq!(space.take_utcb(UTCB_SLOTS as u16), Err(Error::BadArgument));
        assert_eq!(space.release_utcb(4), None);
        assert_eq!(space.release_utcb(5), Some(9));
        assert_eq!(space.take_utcb(4), Ok(UtcbPage::Missing));
    }
}
