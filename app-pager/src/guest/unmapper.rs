//! The unmap worker: does its node's part when pages, or rights to them, are taken away. Level 0.
//!
//! It takes letters out of its inbox, carries them out by [`Revoke`], and answers in the letter. It calls nobody but its kernel, and
//! runs above the pager threads, so whoever waits for it waits for a moment only.

use app_pager::history::What;
use app_pager::letter::Letter;
use app_pager::maintain::Site;
use app_pager::page::perform;
use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::local::Local;
use app_pager::protocols::revoke::{Cursor, Effect, MAX_PAGES, Order, Revoke, Revoked};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{Fpage, Tag, ThreadId, Timeout};
use skerry_rt::{sys, utcb};

use super::maintain;
use super::office;
use super::place::{Place, find};
use super::state::{Context, LOOK, WAKE};
use super::step;
use super::straight::Lettered;
use super::take::{Batch, take_page};
use super::{grace, history};

/// Works for ever.
pub(super) fn work(context: Context) -> ! {
    let none = Revoked::new(Order { pages: 0, keep: None });
    let (mut worker, me) = (Unmapper { context, place: Place::NONE, book: none }, utcb::my_id());
    loop {
        // Nothing ends the wait but bits.
        let (mut words, times) = ([0; REGISTER_WORDS], (Timeout::ZERO, Timeout::NEVER));
        let (_, _, tag) = sys::ipc(ThreadId::NIL, me, Tag(0), &mut words, times, Fpage::NIL);
        if tag.error().is_none() {
            worker.notified(words[0]);
        }
    }
}

struct Unmapper {
    context: Context,
    /// Where the last page was.
    place: Place,
    /// For letters about many pages.
    book: Revoked<MAX_PAGES>,
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
                1 => self.revoke_page(letter, node, order),
                _ if self.is_straight(letter, node, order.pages) => self.revoke_straight(letter, order),
                _ => self.revoke::<MAX_PAGES>(letter, node, order),
            }
            let (leader, bits) = letter.leader();
            if self.context.options.history {
                for page in (0..64).filter(|&page| order.pages >> page & 1 != 0) {
                    let page = (letter.task(), letter.page(page));
                    history::note(&self.context, page, (What::Told, 0), leader);
                }
            }
            // As soon as all have answered the letter is its leader's again.
            if letter.done(seat) {
                office::notify(leader, bits);
            }
        }
    }

    /// One page: what mostly comes is written out, as in [`super::alone`].
    #[inline(always)]
    fn revoke_page(&mut self, letter: &Letter<'_>, node: u16, order: Order) {
        let (mut book, mut at) = (Revoked::<1>::new(order), Cursor::BEGIN);
        let (task, address) = (letter.task(), letter.page(0));
        if !(self.is_at(task, node, address) && self.place.is_global()) {
            return self.revoke::<1>(letter, node, order);
        }
        let word = self.place.local(address);
        let mut effect = book.step(&mut at, 0);
        if let Effect::Access(_, Word::Local, act @ Access::Load) = effect {
            effect = book.step(&mut at, perform(word, act));
            if let Effect::Access(_, Word::Local, act @ Access::Swap { .. }) = effect {
                effect = book.step(&mut at, perform(word, act));
                if let Effect::Unmap { frame, keep, .. } = effect {
                    effect = book.step(&mut at, take_page(frame, keep));
                    if effect == Effect::Done {
                        return letter.report(book.used(), book.found());
                    }
                }
            }
        }
        self.go_on(letter, node, (Revoke { book, at }, effect));
    }

    /// Whether these pages are all nodes' business, and their words known to lie in one table.
    fn is_straight(&mut self, letter: &Letter<'_>, node: u16, pages: u64) -> bool {
        let first = letter.page(pages.trailing_zeros() as u8);
        letter.is_of_one_region()
            && self.find(letter.task(), node, first)
            && self.place.is_global()
            && !self.context.options.is_watched()
    }

    /// Many of them.
    fn revoke_straight(&mut self, letter: &Letter<'_>, order: Order) {
        let Self { context, place, book, .. } = self;
        book.renew(order);
        let mut at = Cursor::BEGIN;
        let first = book.step(&mut at, 0);
        let effect = book.change(&mut at, first, &mut Lettered { letter, place });
        if let (Effect::Unmap { keep, .. }, Some((pages, frames))) = (effect, book.frames_from(&at)) {
            let mut batch = Batch::new(context);
            batch.add_all(pages, frames, keep);
            batch.flush();
            return letter.report(batch.used(), book.found());
        }
        let node = self.place.node;
        let machine = Revoke { book: self.book, at };
        self.go_on(letter, node, (machine, effect));
    }

    #[inline(never)]
    fn revoke<const N: usize>(&mut self, letter: &Letter<'_>, node: u16, order: Order) {
        let mut machine = Revoke::<N>::new(order);
        if self.is_own(letter, node, order.pages) {
            machine = machine.ruling();
        }
        let effect = machine.step(0);
        self.go_on(letter, node, (machine, effect));
    }

    /// Any machine, from this effect on.
    #[inline(never)]
    fn go_on<const N: usize>(
        &mut self,
        letter: &Letter<'_>,
        node: u16,
        (mut machine, mut effect): (Revoke<N>, Effect),
    ) {
        let mut batch = Batch::new(&self.context);
        let task = letter.task();
        loop {
            step::reach(&self.context, || (&effect).into());
            let answer = match effect {
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
                    maintain::hand_over(&self.context, Site::Replica, frame, PAGE_SIZE);
                    self.context.give_back(frame, PAGE_SIZE);
                    if let Some(roll) = self.place.roll {
                        roll.refund(1);
                    }
                    0
                }
                Effect::Done => break,
            };
            effect = machine.step(answer);
        }
        batch.flush();
        letter.report(batch.used().merge(machine.used()), machine.found());
    }

    /// Whether the place of the last page is the one for this page, too.
    #[inline(always)]
    fn is_at(&self, task: u32, node: u16, address: u64) -> bool {
        self.place.node == node && self.place.covers(task, address)
    }

    /// Whether these pages are the node's own business. (A letter never has both kinds.)
    fn is_own(&mut self, letter: &Letter<'_>, node: u16, pages: u64) -> bool {
        let first = letter.page(pages.trailing_zeros() as u8);
        self.find(letter.task(), node, first) && !self.place.is_global()
    }
    /// Looks for the place of a page. Returns whether there is one.
    fn find(&mut self, task: u32, node: u16, address: u64) -> bool {
        if self.is_at(task, node, address) {
            return true;
        }
        if self.place.node == node && self.place.covers_watched(task, address) {
            return true;
        }
        let found = find(&self.context, task, node, address);
        found.map(|found| self.place = found).is_ok()
    }

    /// On a word of a page that is this node's own. If this node has no table, or knows no such task, nothing is mapped.
    fn access(&mut self, task: u32, node: u16, address: u64, (word, access): (Word, Access)) -> u64 {
        if !self.find(task, node, address) {
            return Local::EMPTY.0;
        }
        match word {
            Word::Group => perform(self.place.group(address), access),
            _ => perform(self.place.local(address), access),
        }
    }
}
