//! Where threads are: ids are for ever, places are not.
//!
//! A thread of this cluster that was born here lies in the slot that its id names, so the fast paths need one comparison. One that was
//! born elsewhere has a slot by chance and is found by hash. A thread that was born here and has moved away leaves its slot behind as
//! a forwarding entry ([`State::Departed`]): the birth cluster always knows. Other clusters ask it, and remember the answer as long
//! as it is of use ([`Hints`]).

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::queue::NONE;
use crate::thread::State;
use skerry_abi::ThreadId;
use skerry_checks::{Check, passes};

/// What a cluster remembers about threads of others, at most.
const HINTS: usize = 64;

/// Where threads of other clusters were met last. Small and forgetful: a wrong or missing hint costs a message.
#[derive(Clone, Debug)]
pub(crate) struct Hints {
    places: [(ThreadId, u16); HINTS],
    /// There is one, or was.
    any: bool,
}

impl Hints {
    pub(crate) const EMPTY: Self = Self { places: [(ThreadId::NIL, 0); HINTS], any: false };

    /// Whether there never was any.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        !self.any
    }

    fn place(&mut self, id: ThreadId) -> &mut (ThreadId, u16) {
        &mut self.places[(id.slot() ^ id.cluster()) as usize % HINTS]
    }
    pub(crate) fn get(&self, id: ThreadId) -> Option<u16> {
        let (hinted, at) = self.places[(id.slot() ^ id.cluster()) as usize % HINTS];
        (hinted == id).then_some(at)
    }
    /// The thread is, or was a moment ago, in this cluster.
    pub(crate) fn set(&mut self, id: ThreadId, cluster: u16) {
        *self.place(id) = (id, cluster);
        self.any = true;
    }
    /// It is not where the hint says.
    pub(crate) fn forget(&mut self, id: ThreadId) {
        if self.place(id).0 == id {
            *self.place(id) = (ThreadId::NIL, 0);
        }
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// The live thread with this id, if it is in this cluster.
    #[inline(always)]
    pub(crate) fn find(&self, id: ThreadId) -> Option<u32> {
        self.slot_of(id).filter(|&t| self.threads[t as usize].is_live())
    }

    /// The slot of a thread that is in this cluster, or whose queues here are not empty yet.
    #[inline(always)]
    pub(crate) fn slot_of(&self, id: ThreadId) -> Option<u32> {
        if id.cluster() != self.cluster {
            return self.find_immigrant(id);
        }
        let t = u32::from(id.slot());
        let thread = self.threads.get(t as usize)?;
        (passes(Check::ThreadGeneration, thread.id == id) && thread.state != State::Free).then_some(t)
    }

    /// The cluster to ask for a thread that is not in this one.
    pub(crate) fn elsewhere(&self, id: ThreadId) -> Option<usize> {
        if id.cluster() == self.cluster {
            let thread = self.threads.get(usize::from(id.slot()))?;
            let away = thread.id == id && thread.is_away();
            return away.then(|| usize::from(self.cold[usize::from(id.slot())].at));
        }
        match self.find_immigrant(id) {
            Some(t) if self.threads[t as usize].is_live() => None,
            _ => Some(usize::from(self.hints.get(id).unwrap_or(id.cluster()))),
        }
    }

    /// Where a thread may be that is not in cluster `peer`, which was asked for it: it may have moved on meanwhile, or come here. (Its birth
    /// cluster knows more; a hint does not: two clusters could send somebody to and fro.)
    pub(crate) fn beyond(&self, id: ThreadId, peer: u16) -> Option<u16> {
        let next = match id.cluster() == self.cluster {
            _ if self.find(id).is_some() => return Some(self.cluster),
            true => self.elsewhere(id).map(|cluster| cluster as u16),
            false => Some(id.cluster()),
        };
        next.filter(|&cluster| cluster != peer)
    }

    fn bucket_of(&self, id: ThreadId) -> usize {
        let hash = (id.0 as u32 ^ id.generation()).wrapping_mul(0x9e37_79b9);
        ((u64::from(hash) * self.cold.len() as u64) >> 32) as usize
    }

    #[inline(never)]
    fn find_immigrant(&self, id: ThreadId) -> Option<u32> {
        if self.immigrants == 0 {
            return None;
        }
        let mut t = self.cold.get(self.bucket_of(id))?.bucket;
        while t != NONE && self.threads[t as usize].id != id {
            t = self.cold[t as usize].chain;
        }
        (t != NONE).then_some(t)
    }

    /// A thread that was born in another cluster has arrived in this slot.
    pub(crate) fn add_immigrant(&mut self, t: u32) {
        self.immigrants += 1;
        let bucket = self.bucket_of(self.threads[t as usize].id);
        self.cold[t as usize].chain = core::mem::replace(&mut self.cold[bucket].bucket, t);
    }

    /// It ends or moves on.
    pub(crate) fn remove_immigrant(&mut self, t: u32) {
        self.immigrants -= 1;
        let bucket = self.bucket_of(self.threads[t as usize].id);
        let next = core::mem::replace(&mut self.cold[t as usize].chain, NONE);
        let mut at = self.cold[bucket].bucket;
        if at == t {
            self.cold[bucket].bucket = next;
            return;
        }
        while at != NONE {
            let chain = &mut self.cold[at as usize].chain;
            if *chain == t {
                *chain = next;
                return;
            }
            at = *chain;
        }
    }
}
