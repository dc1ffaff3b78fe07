//! What a kernel remembers of threads of other clusters: a name and what they wait for, never a message.
//!
//! A thread of another cluster waits here for one thing at a time, so it has one entry of that kind (and for a moment an older one, if it
//! has moved on and waits again before this cluster has heard how its wait ended), found by its id in a hash table whose buckets lie in
//! the entries themselves. An entry of its own can also hold notification bits that are on their way
//! *to* such a thread. Entries are elements of the kernel's queues, with links behind those of the threads.
//!
//! The table has two parts, so that no domain uses it up. Calls and messages, for which their senders need permission, take entries of
//! the *front* part, whoever comes first. Whatever anybody may ask for, such as word of a thread's end, takes one of the *reserve*, and so do calls
//! and messages when the front part is used up; there each domain has a share ([`shares`]). The short ways between clusters know the front
//! part only, so they keep no accounts.

mod shares;

use crate::queue::NONE;
pub use shares::Share;
use shares::Shares;
use skerry_abi::{Domain, Error, SpaceId, ThreadId};
use skerry_checks::{Check, passes};

/// What an entry stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum Stay {
    /// The entry is free.
    Free,
    /// The remote thread waits to send to this one, in its queue of senders.
    Queued(ThreadId),
    /// This thread has asked, or is about to ask, the remote one for its message.
    Pulled(ThreadId),
    /// The remote thread waits for an answer from this space: the reply right.
    Owed(SpaceId),
    /// The remote thread receives from this one only, and wants to know when it ends; among those who expect it.
    Watches(ThreadId),
    /// The remote thread's wait has failed: its cluster will be told as soon as there is room.
    Bounced {
        /// Why.
        error: Error,
        /// Whether its message had been delivered.
        in_receive: bool,
    },
    /// The thread that the remote one waits for has moved: its cluster will be told as soon as there is room.
    Redirected {
        /// Where to.
        to: u16,
        /// Whether its message had been delivered.
        in_receive: bool,
    },
    /// The remote thread is to be deleted: its cluster will be told as soon as there is room.
    Killed,
    /// Notification bits for the remote thread wait for room.
    Notes {
        /// The bits.
        bits: u64,
        /// In whose name: what the request says about the sender.
        rights: u64,
        /// The slot of the space whose share of the table this is.
        payer: u16,
    },
}

/// One remote thread.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Guest {
    /// The thread; NIL = unused.
    pub sender: ThreadId,
    /// What for.
    pub stay: Stay,
    /// The cluster it is in.
    pub at: u16,
    /// Which of its operations.
    pub seq: u32,
    /// Its cluster has sent a cancel that could not be followed yet.
    pub cancelled: bool,
    /// Next entry of the same bucket, or of the free list.
    next: u32,
    /// First entry of the bucket with this entry's number.
    bucket: u32,
}

impl Guest {
    /// An entry for nobody.
    pub const UNUSED: Self = Self {
        sender: ThreadId::NIL,
        stay: Stay::Free,
        at: 0,
        seq: 0,
        cancelled: false,
        next: NONE,
        bucket: NONE,
    };
}

/// The table.
pub struct Guests<'a> {
    /// What is given to whoever comes first; the buckets, too, are here.
    front: &'a mut [Guest],
    /// What domains have shares of; its entries are numbered on.
    reserve: &'a mut [Guest],
    shares: Shares<'a>,
    free: u32,
    /// Of the reserve.
    free_reserve: u32,
    /// Entries in use.
    used: u32,
}

impl<'a> Guests<'a> {
    /// An empty table in this memory, of which as many entries as there are shares (half of them at most) are the reserve.
    pub fn new(slots: &'a mut [Guest], shares: &'a mut [Share]) -> Self {
        let count = slots.len() as u32;
        let front = slots.len() - shares.len().min(slots.len() / 2);
        for (slot, next) in slots.iter_mut().zip(1..) {
            let last = next == front as u32 || next == count;
            *slot = Guest { next: if last { NONE } else { next }, ..Guest::UNUSED };
        }
        let first = |part: &[Guest], number: usize| if part.is_empty() { NONE } else { number as u32 };
        let (front, reserve) = slots.split_at_mut(front);
        let (free, free_reserve) = (first(front, 0), first(reserve, front.len()));
        let shares = Shares::new(&mut shares[..reserve.len()]);
        Self { front, reserve, shares, free, free_reserve, used: 0 }
    }

    /// Entries in use.
    pub fn used(&self) -> u32 {
        self.used
    }
    fn entry(&self, index: u32) -> Option<&Guest> {
        let index = index as usize;
        self.front.get(index).or_else(|| self.reserve.get(index.wrapping_sub(self.front.len())))
    }
    /// An entry.
    pub fn get(&self, index: u32) -> &Guest {
        match (index as usize).checked_sub(self.front.len()) {
            None => &self.front[index as usize],
            Some(index) => &self.reserve[index],
        }
    }
    /// An entry.
    pub fn get_mut(&mut self, index: u32) -> &mut Guest {
        match (index as usize).checked_sub(self.front.len()) {
            None => &mut self.front[index as usize],
            Some(index) => &mut self.reserve[index],
        }
    }
    /// Uses up all entries; those who are told here have them.
    #[cfg(test)]
    pub(crate) fn fill(&mut self) -> std::vec::Vec<u32> {
        let name = |n: u32| ThreadId::new(0, n as u16, 9);
        let front: std::vec::Vec<_> = (0..).map_while(|n| self.insert(name(n), 0, 0, Stay::Free)).collect();
        let tasks: std::vec::Vec<_> =
            (1000..).map_while(|n| self.add(name(n), 0, 0, Stay::Free, n).ok()).collect();
        // What is left is for servers, each of which can have half of what is left.
        let servers = (0..16).flat_map(|domain| [domain; 8]);
        let servers = servers.filter_map(|domain| self.add(name(900), 0, 0, Stay::Free, domain).ok());
        front.into_iter().chain(tasks).chain(servers).collect()
    }
    /// All entries, for tests.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.front.iter().chain(&*self.reserve)
    }

    /// Multiplication spreads consecutive slots; the high half is scaled to the number of buckets.
    fn bucket_of(&self, thread: ThreadId) -> usize {
        let hash = (thread.0 as u32 ^ thread.generation()).wrapping_mul(0x9e37_79b9);
        ((u64::from(hash) * self.front.len() as u64) >> 32) as usize
    }

    fn search(&self, thread: ThreadId, wanted: impl Fn(&Guest) -> bool) -> Option<u32> {
        let mut at = self.front.get(self.bucket_of(thread))?.bucket;
        while let Some(guest) = self.entry(at) {
            if guest.sender == thread && wanted(guest) {
                return Some(at);
            }
            at = guest.next;
        }
        None
    }

    /// What this remote thread waits for here.
    pub fn find(&self, thread: ThreadId) -> Option<u32> {
        self.search(thread, |guest| {
            !matches!(
                guest.stay,
                Stay::Bounced { .. } | Stay::Redirected { .. } | Stay::Killed | Stay::Notes { .. }
            )
        })
    }
    /// What it waited for when it was in that cluster. If it has moved on since, it may have begun to wait for something else.
    pub fn find_stay(&self, thread: ThreadId, at: u16, stay: Stay) -> Option<u32> {
        self.search(thread, |guest| guest.at == at && guest.stay == stay)
    }
    /// The notification bits that wait to be sent to it, in that cluster, in the same name.
    pub fn find_notes(&self, thread: ThreadId, at: u16, name: u64) -> Option<u32> {
        self.search(thread, |guest| {
            guest.at == at && matches!(guest.stay, Stay::Notes { rights, .. } if rights == name)
        })
    }

    /// A new entry, on behalf of a thread of this domain.
    ///
    /// # Errors
    /// [`Error::TableFull`]: the domain has its share; [`Error::OutOfKernelMemory`]: none is left for it.
    pub fn add(
        &mut self,
        sender: ThreadId,
        at: u16,
        seq: u32,
        stay: Stay,
        domain: Domain,
    ) -> Result<u32, Error> {
        // Whoever sends a message was permitted to; the rest anybody may do.
        let permitted = matches!(stay, Stay::Queued(_) | Stay::Owed(_));
        let first_come = if permitted { self.insert(sender, at, seq, stay) } else { None };
        first_come.map_or_else(|| self.add_to_reserve(sender, at, seq, stay, domain), Ok)
    }

    fn add_to_reserve(
        &mut self,
        sender: ThreadId,
        at: u16,
        seq: u32,
        stay: Stay,
        domain: Domain,
    ) -> Result<u32, Error> {
        let (index, bucket) = (self.free_reserve, self.bucket_of(sender));
        self.shares.take(domain, index.wrapping_sub(self.front.len() as u32))?;
        let first = core::mem::replace(&mut self.front[bucket].bucket, index);
        let guest = self.get_mut(index);
        let free = core::mem::replace(&mut guest.next, first);
        *guest = Guest { sender, stay, at, seq, cancelled: false, ..*guest };
        self.free_reserve = free;
        self.used += 1;
        Ok(index)
    }

    /// A new entry of the front part, for whoever may send, without a call.
    #[inline(always)]
    pub fn insert(&mut self, sender: ThreadId, at: u16, seq: u32, stay: Stay) -> Option<u32> {
        let index = self.free;
        let bucket = self.bucket_of(sender);
        let first = self.front.get(bucket)?.bucket;
        let guest = self.front.get_mut(index as usize)?;
        self.free = core::mem::replace(&mut guest.next, first);
        (guest.sender, guest.at, guest.seq, guest.stay) = (sender, at, seq, stay);
        guest.cancelled = false;
        self.front[bucket].bucket = index;
        self.used += 1;
        Some(index)
    }

    /// Uses the right of a space to answer a remote thread up, if that is quickly found. Returns the number of the thread's operation.
    #[inline(always)]
    pub fn answer(&mut self, thread: ThreadId, at: u16, space: SpaceId) -> Option<u32> {
        let bucket = self.bucket_of(thread);
        let index = self.front.get(bucket)?.bucket;
        let guest = self.front.get_mut(index as usize)?;
        let owed = passes(Check::FastRemoteRight, matches!(guest.stay, Stay::Owed(to) if to == space));
        if guest.sender != thread || guest.at != at || !owed {
            return None;
        }
        let (seq, next) = (guest.seq, guest.next);
        (guest.sender, guest.stay, guest.next) = (ThreadId::NIL, Stay::Free, self.free);
        self.front[bucket].bucket = next;
        self.free = index;
        self.used -= 1;
        Some(seq)
    }

    /// Frees an entry that is in no queue.
    pub fn remove(&mut self, index: u32) {
        let Guest { sender, next, .. } = *self.get(index);
        let bucket = self.bucket_of(sender);
        let mut at = self.front[bucket].bucket;
        if at == index {
            self.front[bucket].bucket = next;
        } else {
            while at != NONE {
                let guest = self.get_mut(at);
                at = guest.next;
                if at == index {
                    guest.next = next;
                    break;
                }
            }
        }
        let reserved = (index as usize).checked_sub(self.front.len());
        let free = if reserved.is_some() { &mut self.free_reserve } else { &mut self.free };
        let next = core::mem::replace(free, index);
        let guest = self.get_mut(index);
        (guest.sender, guest.stay, guest.next) = (ThreadId::NIL, Stay::Free, next);
        self.used -= 1;
        if let Some(entry) = reserved {
            self.shares.give_back(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn entries_are_found_by_name_until_they_leave() {
        let (mut slots, mut shares) = (vec![Guest::UNUSED; 7], vec![Share::UNUSED; 3]);
        let mut guests = Guests::new(&mut slots, &mut shares);
        let name = |n: u32| ThreadId::new(n as u16 % 3, n as u16, 1 + n);
        for round in 0..50 {
            let indices: Vec<u32> = (0..7)
                .map(|n| {
                    guests.add(name(round + n), 0, n, Stay::Owed(SpaceId::NIL), n).expect("there is room")
                })
                .collect();
            assert_eq!(guests.add(name(99), 0, 0, Stay::Free, 99), Err(Error::OutOfKernelMemory));
            for n in 0..7 {
                assert_eq!(guests.find(name(round + n)), Some(indices[n as usize]));
            }
            assert_eq!(guests.find(name(round + 7)), None);
            for n in [3, 0, 6, 1, 5, 2, 4] {
                guests.remove(indices[n]);
                assert_eq!(guests.find(name(round + n as u32)), None);
            }
            assert_eq!(guests.used(), 0);
        }
    }

    #[test]
    fn bits_on_their_way_are_not_what_the_thread_waits_for() {
        let (mut slots, mut shares) = (vec![Guest::UNUSED; 4], vec![Share::UNUSED; 2]);
        let mut guests = Guests::new(&mut slots, &mut shares);
        let thread = ThreadId::new(1, 2, 3);
        let notes = guests.add(thread, 0, 0, Stay::Notes { bits: 1, rights: 20, payer: 0 }, 20).unwrap();
        assert_eq!((guests.find(thread), guests.find_notes(thread, 0, 20)), (None, Some(notes)));
        assert_eq!((guests.find_notes(thread, 0, 21), guests.find_notes(thread, 1, 20)), (None, None));
    }
}
