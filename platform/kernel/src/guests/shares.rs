//! Who has how much of the reserve of the table of guests.
//!
//! A domain gets another entry only while it has fewer than are free. So one domain gets half of them, and several that ask at the same
//! time get about the same; nobody has to know how many domains there will be. Domains that are greedy one after the other get half each of
//! what those before have left, so about as many of them use it up as the number of entries has binary digits. An eighth is for servers only
//! (domains below [`domain::FIRST_TASK`]): tasks can keep each other from waiting, but no server.

use crate::queue::NONE;
use skerry_abi::id::domain::FIRST_TASK;
use skerry_abi::{Domain, Error};

#[cfg(doc)]
use skerry_abi::id::domain;

/// What one domain has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    domain: Domain,
    /// Entries; 0 = the record is free.
    count: u32,
    /// Next record of the same bucket, or of the free list.
    next: u32,
    /// First record of the bucket with this record's number.
    bucket: u32,
    /// Who has the entry with this record's number.
    payer: Domain,
}

impl Share {
    /// Nobody's.
    pub const UNUSED: Self = Self { domain: 0, count: 0, next: NONE, bucket: NONE, payer: 0 };
}

/// The accounts: as many records as there are entries, so there is one for everybody who has an entry.
pub(super) struct Shares<'a> {
    records: &'a mut [Share],
    free: u32,
    /// Entries that nobody has.
    left: u32,
}

impl<'a> Shares<'a> {
    pub(super) fn new(records: &'a mut [Share]) -> Self {
        let count = records.len() as u32;
        for (record, next) in records.iter_mut().zip(1..) {
            *record = Share { next: if next == count { NONE } else { next }, ..Share::UNUSED };
        }
        Self { records, free: if count == 0 { NONE } else { 0 }, left: count }
    }

    fn bucket_of(&self, domain: Domain) -> usize {
        let hash = domain.wrapping_mul(0x9e37_79b9);
        ((u64::from(hash) * self.records.len() as u64) >> 32) as usize
    }

    /// The record of a domain, and the one before it in its bucket.
    fn find(&self, domain: Domain) -> Option<(u32, u32)> {
        let (mut before, mut at) = (NONE, self.records.get(self.bucket_of(domain))?.bucket);
        while let Some(record) = self.records.get(at as usize) {
            if record.domain == domain {
                return Some((at, before));
            }
            (before, at) = (at, record.next);
        }
        None
    }

    /// A domain wants one entry more: this one.
    ///
    /// # Errors
    /// [`Error::TableFull`]: it has its share; [`Error::OutOfKernelMemory`]: none is left for it.
    pub(super) fn take(&mut self, domain: Domain, entry: u32) -> Result<(), Error> {
        let for_others = if domain < FIRST_TASK { 0 } else { self.records.len() as u32 / 8 };
        if self.left <= for_others {
            return Err(Error::OutOfKernelMemory);
        }
        if let Some((at, _)) = self.find(domain) {
            let record = &mut self.records[at as usize];
            if record.count >= self.left {
                return Err(Error::TableFull);
            }
            record.count += 1;
        } else {
            let (bucket, at) = (self.bucket_of(domain), self.free);
            let first = core::mem::replace(&mut self.records[bucket].bucket, at);
            let record = &mut self.records[at as usize];
            self.free = core::mem::replace(&mut record.next, first);
            (record.domain, record.count) = (domain, 1);
        }
        self.records[entry as usize].payer = domain;
        self.left -= 1;
        Ok(())
    }

    /// An entry is free again.
    pub(super) fn give_back(&mut self, entry: usize) {
        let domain = self.records[entry].payer;
        let Some((at, before)) = self.find(domain) else { return };
        self.left += 1;
        let free = self.free;
        let record = &mut self.records[at as usize];
        record.count -= 1;
        if record.count != 0 {
            return;
        }
        let next = core::mem::replace(&mut record.next, free);
        self.free = at;
        match before {
            NONE => {
                let bucket = self.bucket_of(domain);
                self.records[bucket].bucket = next;
            }
            _ => self.records[before as usize].next = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn no_domain_gets_more_than_is_left_and_servers_get_what_tasks_do_not() {
        let mut records = vec![Share::UNUSED; 32];
        let mut shares = Shares::new(&mut records);
        let (mut had, mut used) = (Vec::new(), 0);
        for domain in 20..40 {
            let before = used;
            while shares.take(domain, used).is_ok() {
                used += 1;
            }
            had.push(used - before);
        }
        // Half, and half of what is left, but for what is the servers'.
        assert_eq!(had[..5], [16, 8, 4, 0, 0]);
        for server in [3, 4] {
            assert_eq!(shares.take(server, used), Ok(()));
            used += 1;
        }
        (0..used as usize).for_each(|entry| shares.give_back(entry));
        assert_eq!(shares.left, 32);
        used = 0;
        // All at the same time: each gets about the same.
        let mut counts = [0; 7];
        for _ in 0..32 {
            for (n, count) in counts.iter_mut().enumerate() {
                let taken = shares.take((n as Domain + 1) * 0x1000, used).is_ok();
                (*count, used) = (*count + u32::from(taken), used + u32::from(taken));
            }
        }
        assert!(counts.iter().all(|&count| count == 4), "{counts:?}");
        assert_eq!(shares.take(99, used), Err(Error::OutOfKernelMemory));
        assert_eq!(shares.take(1, used), Ok(()));
    }

    /// Domains whose records are in the same bucket come and go.
    #[test]
    fn accounts_are_kept_apart() {
        let mut records = vec![Share::UNUSED; 5];
        let mut shares = Shares::new(&mut records);
        for round in 0..100u32 {
            let domains = [round, round.wrapping_mul(77), round ^ 0xffff, round << 16 | 1];
            let taken: Vec<_> = (0..4).filter(|&n| shares.take(domains[n], n as u32).is_ok()).collect();
            assert!(taken.len() >= 2);
            for &entry in taken.iter().rev().step_by(2).chain(taken.iter().rev().skip(1).step_by(2)) {
                shares.give_back(entry);
            }
            assert_eq!(shares.left, 5);
            assert!(domains.iter().all(|&domain| shares.find(domain).is_none()));
        }
    }
}
