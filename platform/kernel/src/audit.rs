//! The system call that tells who has a frame.
//!
//! For those who keep track of frames in programs (pagers), and want to be told when they are wrong: nobody but the kernel knows what
//! is really mapped. It changes nothing, and how long it takes is nobody else's trouble ([`skerry_mapping_db::Question`]).

use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::syscall::Arguments;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::USER_END;
use skerry_abi::{Error, Fpage, SpaceId};
use skerry_mapping_db::Question;

/// The register in which a call that was interrupted says so.
const RESUMED: usize = 4;

impl<H: Hal> Kernel<'_, H> {
    /// The system call AUDIT of thread `t`.
    pub(crate) fn audit(&mut self, t: u32, x: &Arguments) -> Result<Done, Error> {
        let frame = x[1];
        if !frame.is_multiple_of(PAGE_SIZE) || frame >= USER_END {
            return Err(Error::BadArgument);
        }
        let after = match SpaceId(x[2]) {
            SpaceId::NIL => None,
            space => {
                let slot = self.find_space(space).ok_or(Error::WrongState)?;
                let leaf = Fpage::decode(x[3]).ok_or(Error::BadArgument)?;
                Some((slot, leaf.base() | frame & (leaf.size() - 1)))
            }
        };
        let question = Question { top: (SpaceId::root(self.cluster).slot(), frame), after };
        let resumed = x[RESUMED] != 0;
        let asked = resumed && self.db.is_asked(question);
        if !asked && !self.help() {
            return Ok(self.done_again());
        }
        let mut budget = self.budget;
        let found = self.db.audit_step(question, resumed, &mut budget);
        self.budget = budget;
        let Some(found) = found else {
            self.threads[t as usize].context.x[RESUMED] = 1;
            return Ok(self.done_again());
        };
        let Some(leaf) = found? else { return Ok(Done::NOTHING) };
        let space = &self.spaces[usize::from(leaf.slot)];
        let fpage = Fpage::new(leaf.va, leaf.bits, leaf.rights).ok_or(Error::BadArgument)?;
        Ok(Done::With([space.id.0, fpage.word(), space.domain.into()]))
    }
}
