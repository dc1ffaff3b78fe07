//! The system call that tells who has a frame.
//!
//! For those who keep track of frames in programs (pagers), and want to be told when they are wrong: nobody but the kernel knows what
//! is really mapped. It changes nothing, but a long search holds the mapping database like a long UNMAP ([`crate::long`]): whoever wants to
//! change mappings, or to search itself, helps to finish first. What was found is kept with the thread that asked, so that however many ask,
//! each of them gets its answer; and it is looked at again when that thread comes for it, since anything may have changed.

use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::long::Holder;
use crate::syscall::Arguments;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::USER_END;
use skerry_abi::{Error, Fpage, SpaceId};
use skerry_mapping_db::{Found, Question};

/// The register in which a call that was interrupted says so.
const RESUMED: usize = 4;

/// What somebody who helped has found for a thread.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Answer {
    pub(crate) question: Question,
    pub(crate) found: Found,
}

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
        // Who has helped with much looks at the next entry.
        if !self.help() || self.budget.is_spent() {
            return Ok(self.done_again());
        }
        // What an earlier call left behind is not for this one.
        let answer = self.cold[t as usize].answer.take().filter(|_| x[RESUMED] != 0);
        let found = match answer.and_then(|answer| self.true_still(answer, question)) {
            Some(found) => found,
            None => {
                let mut budget = self.budget;
                let found = self.db.audit(question, &mut budget);
                self.budget = budget;
                let Some(found) = found else {
                    let thread = &mut self.threads[t as usize];
                    self.holder = Holder::Audit(thread.id);
                    thread.context.x[RESUMED] = 1;
                    return Ok(self.done_again());
                };
                found
            }
        };
        let Some(leaf) = found? else { return Ok(Done::NOTHING) };
        let space = &self.spaces[usize::from(leaf.slot)];
        let fpage = Fpage::new(leaf.va, leaf.bits, leaf.rights).ok_or(Error::BadArgument)?;
        Ok(Done::With([space.id.0, fpage.word(), space.domain.into()]))
    }

    /// An answer to this question, as it would be given now. `None`: it is to another one, or the leaf is gone.
    fn true_still(&self, answer: Answer, question: Question) -> Option<Found> {
        match answer.found {
            _ if answer.question != question => None,
            Ok(Some(leaf)) => self.db.still(question, leaf).map(|leaf| Ok(Some(leaf))),
            found => Some(found),
        }
    }

    /// A search is complete: whoever asked shall know when it looks.
    pub(crate) fn audited(&mut self, answer: Answer) {
        let holder = core::mem::replace(&mut self.holder, Holder::Nobody);
        if let Holder::Audit(id) = holder
            && let Some(t) = self.find(id)
        {
            self.cold[t as usize].answer = Some(answer);
        }
    }
}
