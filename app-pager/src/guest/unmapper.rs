//! The unmap worker: does its node's part when pages, or rights to them, are taken away. Level 0.
//!
//! It takes letters out of its inbox, carries them out by [`Revoke`], and answers in the letter. It calls nobody but its kernel, and
//! runs above the pager threads, so whoever waits for it waits for a moment only.

use app_pager::letter::Letter;
use app_pager::page::perform;
use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::local::Local;
use app_pager::protocols::revoke::{Effect, MAX_PAGES, Order, Revoke};
use skerry_abi::Timeout;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_rt::ipc::wait_notification;

use super::grace;
use super::office;
use super::place::{Place, find};
use super::state::{Context, LOOK, WAKE};
use super::take::Batch;

/// Works for ever.
pub(super) fn work(context: Context) -> ! {
    let mut worker = Unmapper { context, place: Place::NONE };
    loop {
        // Nothing ends the wait but bits.
        let Ok(bits) = wait_notification(Timeout::NEVER) else { continue };
        worker.notified(bits);
    }
}

struct Unmapper {
    context: Context,
    /// Where the last page was.
    place: Place,
}

impl Unmapper {
    fn notified(&mut self, mut bits: u64) {
        if bits & WAKE != 0 {
            self.context.wake_node();
            bits &= !WAKE;
        }
        if bits & LOOK != 0 {
            grace::announce(self.context.rank);
            bits &= !LOOK;
        }
        while bits != 0 {
            let bit = bits.trailing_zeros() as u16;
            bits &= bits - 1;
            for cpu in office::senders(bit, self.context.boot.cpus().len() as u16) {
                self.open(cpu, office::received(&self.context, cpu));
            }
        }
    }

    /// Carries out these letters of a pager thread.
    fn open(&mut self, cpu: u16, mut letters: u64) {
        while letters != 0 {
            let number = letters.trailing_zeros() as usize;
            letters &= letters - 1;
            if let Some(letter) = office::letter(&self.context, cpu, number) {
                self.carry_out(&letter);
            }
        }
    }

    fn carry_out(&mut self, letter: &Letter<'_>) {
        // Where one kernel runs several nodes, one letter may be for several of them, which were counted apart.
        let seats = self.context.seats();
        let one = seats.clusters > 1;
        let own = if one { self.context.cluster..self.context.cluster + 1 } else { 0..seats.count() };
        for seat in own {
            let order = letter.take_order(seat);
            if order.pages == 0 {
                continue;
            }
            let node = if one { self.context.node } else { seat };
            match order.pages {
                1 => self.revoke::<1>(letter, node, order),
                _ => self.revoke::<MAX_PAGES>(letter, node, order),
            }
            // As soon as all have answered the letter is its leader's again.
            let (leader, bits) = letter.leader();
            if letter.done(seat) {
                office::notify(leader, bits);
            }
        }
    }

    fn revoke<const N: usize>(&mut self, letter: &Letter<'_>, node: u16, order: Order) {
        let mut machine = Revoke::<N>::new(order);
        let mut batch = Batch::new();
        let task = letter.task();
        let mut answer = 0;
        loop {
            answer = match machine.step(answer) {
                Effect::Access(page, word @ (Word::Local | Word::Group), access) => {
                    self.access(task, node, letter.page(page), (word, access))
                }
                // No machine for one node asks for that.
                Effect::Access(..) => 0,
                Effect::Unmap { page, frame, keep } => {
                    batch.add(page, frame, keep);
                    0
                }
                Effect::Free(_, frame) => {
                    batch.flush();
                    self.context.give_back(frame, PAGE_SIZE);
                    if let Some(roll) = self.place.roll {
                        roll.refund(1);
                    }
                    0
                }
                Effect::Done => break,
            }
        }
        batch.flush();
        letter.report(batch.used(), machine.found());
    }

    /// On a word of a page that is this node's own. If this node has no table, or knows no such task, nothing is mapped.
    fn access(&mut self, task: u32, node: u16, address: u64, (word, access): (Word, Access)) -> u64 {
        if !(self.place.covers(task, address) && self.place.node == node) {
            match find(&self.context, task, node, address) {
                Ok(place) => self.place = place,
                Err(_) => return Local::EMPTY.0,
            }
        }
        match word {
            Word::Group => perform(self.place.group(address), access),
            _ => perform(self.place.local(address), access),
        }
    }
}
