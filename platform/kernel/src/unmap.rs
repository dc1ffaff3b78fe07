//! The system call that takes mappings away.
//!
//! It can take long ([`crate::long`]). Until it is complete, its thread executes it again and again; how far it has come is in the registers
//! that it may clobber anyway. A program that puts nonsense there unmaps less than it could, of its own.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::long::{Holder, Settled};
use crate::syscall::{CLOBBERED, status_word};
use skerry_abi::{Counter, Error, Fpage, Rights};
use skerry_checks::{Check, passes};
use skerry_mapping_db::Status;
use skerry_trace::Event;

/// x0 of UNMAP for one fpage, without flush.
pub const ONE_FPAGE: u64 = 1 << 8;

/// Fpages of one call.
const MAX: usize = 8;
/// In x0: the call was interrupted. Then so are the number of the fpage that is next, and the status of all, and x9 is the address.
const RESUMED: u64 = 1 << 63;
const INDEX_SHIFT: u32 = 32;
const SEEN_SHIFT: u32 = 16;
const ADDRESS: usize = MAX + 1;

/// How far a call has come.
#[derive(Clone, Copy)]
struct Progress {
    /// The fpage that is next, and where in it.
    index: usize,
    at: u64,
    /// R and W of each fpage.
    seen: u64,
}

impl Progress {
    fn of(x: &[u64; 31]) -> Self {
        match x[0] & RESUMED {
            0 => Self { index: 0, at: 0, seen: 0 },
            _ => Self {
                index: (x[0] >> INDEX_SHIFT & 0xf) as usize,
                at: x[ADDRESS],
                seen: x[0] >> SEEN_SHIFT & 0xffff,
            },
        }
    }
    fn save(self, x: &mut [u64; 31]) {
        x[0] = x[0] & 0xfff | RESUMED | (self.index as u64) << INDEX_SHIFT | self.seen << SEEN_SHIFT;
        x[ADDRESS] = self.at;
    }
    fn add(&mut self, seen: Rights) {
        self.seen |= (seen.bits() >> 1 & 3) << (2 * self.index);
    }
    fn status(&self, index: usize) -> Status {
        Status { seen: Rights::from_bits((self.seen >> (2 * index) & 3) << 1), touched: 0 }
    }
}

impl<H: Hal> Kernel<'_, H> {
    pub(crate) fn unmap(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let x = thread.context.x;
        let count = (x[0] >> 8 & 0xf) as usize;
        let few = passes(Check::UnmapCount, (1..=MAX).contains(&count));
        let count = count.min(MAX);
        let sound = few && x[1..=count].iter().all(|&word| Fpage::decode(word).is_some());
        let registers = match sound {
            true => {
                let Some(results) = self.unmap_all(t, &x, count) else { return };
                results
            }
            false => [Error::BadArgument.code(), 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let x = &mut self.threads[t as usize].context.x;
        x[..CLOBBERED].fill(0);
        x[..registers.len()].copy_from_slice(&registers);
    }

    /// Returns x0 to x8; `None`: it is to be executed again.
    fn unmap_all(&mut self, t: u32, x: &[u64; 31], count: usize) -> Option<[u64; 1 + MAX]> {
        let thread = &self.threads[t as usize];
        let (space, me, resumed) = (thread.space, thread.id, x[0] & RESUMED != 0);
        let mine = resumed && self.holder == Holder::Unmap(me);
        if self.db.is_held() && !mine && !self.help() {
            self.again(t);
            return None;
        }
        if !resumed {
            self.pending.begin();
        }
        let mut progress = Progress::of(x);
        let settled = core::mem::replace(&mut self.cold[t as usize].settled, Settled::NOTHING);
        if resumed && settled.at != 0 {
            progress.at = settled.at;
            progress.add(settled.seen);
        }
        let flush = x[0] & 1 != 0;
        while progress.index < count {
            let fpage = Fpage::decode(x[1 + progress.index])?;
            if progress.at < fpage.base() || progress.at > fpage.end() || progress.at & 0xfff != 0 {
                progress.at = fpage.base();
            }
            let (mut budget, mut status) = (self.budget, Status::default());
            let (db, mut tlb) = self.db_and_tlb();
            let at = &mut progress.at;
            let done = db.unmap_step(&mut tlb, space, fpage, flush, at, &mut status, &mut budget);
            self.budget = budget;
            self.holder = if self.db.is_held() { Holder::Unmap(me) } else { Holder::Nobody };
            progress.add(status.seen);
            self.counters.add(Counter::Unmaps, u64::from(status.touched));
            self.trace(|k| Event::Unmap {
                space: k.spaces[usize::from(space)].id,
                address: fpage.base(),
                bits: fpage.bits() as u8,
                touched: status.touched,
            });
            if !done {
                progress.save(&mut self.threads[t as usize].context.x);
                self.again(t);
                return None;
            }
            (progress.index, progress.at) = (progress.index + 1, 0);
        }
        self.pending.begin();
        let mut registers = [0; 1 + MAX];
        for index in 0..count {
            registers[1 + index] = status_word(Fpage::decode(x[1 + index])?, progress.status(index));
        }
        Some(registers)
    }
}
