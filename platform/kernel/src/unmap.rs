//! The system call that takes mappings away.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::syscall::{CLOBBERED, status_word};
use skerry_abi::{Counter, Error, Fpage};
use skerry_checks::{Check, passes};
use skerry_trace::Event;

/// x0 of UNMAP for one fpage, without flush.
pub const ONE_FPAGE: u64 = 1 << 8;

impl<H: Hal> Kernel<'_, H> {
    pub(crate) fn unmap(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (x, space) = (thread.context.x, thread.space);
        let (flush, count) = (x[0] & 1 != 0, (x[0] >> 8 & 0xf) as usize);
        let mut results = [0; 8];
        let few = passes(Check::UnmapCount, (1..=results.len()).contains(&count));
        let mut outcome = if few { Ok(()) } else { Err(Error::BadArgument) };
        if outcome.is_ok() && x[1..=count].iter().any(|&word| Fpage::decode(word).is_none()) {
            outcome = Err(Error::BadArgument);
        }
        if outcome.is_ok() {
            for (result, fpage) in
                results.iter_mut().zip(x[1..=count].iter().filter_map(|&w| Fpage::decode(w)))
            {
                let (db, mut tlb) = self.db_and_tlb();
                let status = db.unmap(&mut tlb, space, fpage, flush);
                self.counters.add(Counter::Unmaps, u64::from(status.touched));
                self.trace(|k| Event::Unmap {
                    space: k.spaces[usize::from(space)].id,
                    address: fpage.base(),
                    bits: fpage.bits() as u8,
                    touched: status.touched,
                });
                *result = status_word(fpage, status);
            }
        }
        let registers = &mut self.threads[t as usize].context.x;
        registers[..CLOBBERED].fill(0);
        match outcome {
            Ok(()) => registers[1..=results.len()].copy_from_slice(&results),
            Err(error) => registers[0] = error.code(),
        }
    }
}
