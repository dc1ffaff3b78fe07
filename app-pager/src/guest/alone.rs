//! One page of all nodes, taken away: the request that programs make most.
//!
//! The machine is [`Book`], as always; but one line per effect, in the order in which they mostly come, performs what it wants, as in
//! [`super::fault`]. Whatever else it says goes to the loop for every case ([`super::lead`]), together with the machine.

use app_pager::maintain::Site;
use app_pager::options::Driver;
use app_pager::page::{Page, perform};
use app_pager::pool::Owner;
use app_pager::protocols::effect::{Access, Me, Word};
use app_pager::protocols::entry::{Entry, State};
use app_pager::protocols::lead::{Book, Cursor, Effect, Goal, Lead};
use app_pager::protocols::local::Local;
use app_pager::protocols::record::Record;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_ipc::pager::Revoked;

use super::lead::{Desk, Pause, claim, free};
use super::maintain;
use super::place::Place;
use super::state::Context;
use super::take::take_page;

/// What does not mostly come.
enum Other {
    /// The machine wants this.
    Effect(Effect),
    /// It is to be told this, which was found.
    Answer(u64),
}

/// The next effect, if it is the one that mostly comes.
macro_rules! next {
    ($book:ident, $at:ident, $answer:expr, $effect:pat => $perform:expr) => {
        match $book.step($at, $answer) {
            $effect => $perform,
            other => return Err(Other::Effect(other)),
        }
    };
}
/// Goes on if what was found is what mostly is: from there on the compiler knows.
macro_rules! mostly {
    ($found:ident, $usual:expr) => {
        if !$usual {
            return Err(Other::Answer($found));
        }
    };
}

/// The machine is told what it mostly is not.
#[cold]
#[inline(never)]
fn otherwise<const W: usize>(mut lead: Lead<1, W>, other: Other) -> (Lead<1, W>, Effect) {
    let effect = settled(&mut lead, other);
    (lead, effect)
}
#[cold]
fn settled<const W: usize>(lead: &mut Lead<1, W>, other: Other) -> Effect {
    match other {
        Other::Effect(effect) => effect,
        Other::Answer(found) => lead.step(found),
    }
}

/// What its pager tells a program.
#[inline(always)]
pub(super) fn told<const W: usize>(book: &Book<1, W>) -> Revoked {
    let (done, used) = (book.done(), book.used());
    Revoked { done, gone: done ^ 1, accessed: used.accessed & done, dirty: used.dirty & done, bad: 0 }
}

/// A page that is to be taken away.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) context: &'a Context,
    pub(super) place: &'a Place,
    pub(super) me: Me,
    pub(super) task: u32,
    pub(super) address: u64,
}

impl Errand<'_> {
    /// Without anybody else. Once another node is to be asked, it is the whole desk's business: what is not the end comes with the leader.
    #[expect(
        clippy::result_large_err,
        reason = "it is inlined, so the machine stays where it is until it goes to the loop"
    )]
    #[inline(always)]
    pub(super) fn run<const W: usize>(self, owner: &mut Owner) -> Result<Revoked, (Lead<1, W>, Effect)> {
        let mut lead = Lead::of(self.me, Goal::Unmap, 1);
        match self.lead(owner, &mut lead.book, &mut lead.at) {
            Ok(()) => Ok(told(&lead.book)),
            Err(Other::Effect(effect)) => Err((lead, effect)),
            Err(other) => Err(otherwise(lead, other)),
        }
    }

    #[inline(always)]
    fn lead<const W: usize>(
        self,
        owner: &mut Owner,
        book: &mut Book<1, W>,
        at: &mut Cursor,
    ) -> Result<(), Other> {
        let page = self.place.page::<W>(self.address);
        let [master, ..] = page.master else { return Err(Other::Effect(Effect::Done)) };
        let found =
            next!(book, at, 0, Effect::Access(_, Word::Master, act @ Access::Load) => perform(master, act));
        mostly!(found, Entry(found).state() == State::Present);
        let old = found;
        let found = next!(book, at, found, Effect::Access(_, Word::Master, act @ Access::Swap { .. }) => perform(master, act));
        mostly!(found, found == old);
        let found = next!(book, at, found, Effect::Access(_, word @ Word::Sharers(_), act @ Access::Load) => page.access(word, act));
        let effect = book.step(at, found);
        own(book, at, page, effect)?;
        self.complete(owner, book, at, page)
    }

    /// All have answered: to the end.
    #[inline(always)]
    fn complete<const W: usize>(
        self,
        owner: &mut Owner,
        book: &mut Book<1, W>,
        at: &mut Cursor,
        page: Page<'static>,
    ) -> Result<(), Other> {
        let Self { context, place, me, task, address } = self;
        let [master, ..] = page.master else { return Err(Other::Effect(Effect::Done)) };
        next!(book, at, 0, Effect::Maintain(_, frame) => maintain::hand_over(context, Site::Unmap, frame, PAGE_SIZE));
        let record = Record::taken(context.page_number(task, address), me);
        next!(book, at, 0, Effect::Claim(_, frame) => claim(context, owner, frame, record));
        let found = next!(book, at, 0, Effect::Access(_, word @ Word::Sharers(_), act @ Access::Clear(_)) => page.access(word, act));
        let found = next!(book, at, found, Effect::Access(_, Word::Master, act @ Access::Swap { .. }) => perform(master, act));
        next!(book, at, found, Effect::Free(_, frame) => free(context, owner, place.roll, frame));
        next!(book, at, 0, Effect::Done => ());
        Ok(())
    }
}

/// The part of this node, which begins with `effect`; then all that were asked are awaited.
#[inline(always)]
fn own<const W: usize>(
    book: &mut Book<1, W>,
    at: &mut Cursor,
    page: Page<'static>,
    effect: Effect,
) -> Result<(), Other> {
    let Effect::Access(_, Word::Local, act @ Access::Load) = effect else {
        return Err(Other::Effect(effect));
    };
    let found = perform(page.local, act);
    let word = Local(found);
    mostly!(found, word.is_present() && !word.is_copy() && !word.is_in_company());
    let found = next!(book, at, found, Effect::Access(_, Word::Local, act @ Access::Swap { .. }) => perform(page.local, act));
    mostly!(found, found == word.0);
    let seen = next!(book, at, found, Effect::Unmap { frame, keep, .. } => take_page(frame, keep));
    next!(book, at, seen, Effect::Await => ());
    Ok(())
}

/// Goes on where [`Errand::run`] ended, as long as it is what mostly comes when others share the page: all of them are asked.
#[inline(always)]
pub(super) fn go_on<const W: usize>(
    desk: &mut Desk<'_>,
    lead: &mut Lead<1, W>,
    me: Me,
    effect: Effect,
) -> Pause {
    let parallel = desk.context.options.unmap == Driver::Parallel;
    let (Effect::Ask(mut seat), Some(page), true) = (effect, desk.page::<W>(0), parallel) else {
        return desk.run(lead, effect);
    };
    let mut at = lead.at.asking(seat);
    let effect = loop {
        let order = lead.book.order(seat);
        desk.ask(seat, order.pages, order.keep, true);
        match lead.book.step(&mut at, 0) {
            Effect::Ask(next) => seat = next,
            effect => break effect,
        }
    };
    let result = own(&mut lead.book, &mut at, page, effect);
    lead.at = at;
    match result {
        Ok(()) if desk.last() => Pause::Answers,
        Ok(()) => finish(desk, lead, me).unwrap_or(Pause::Over),
        Err(other) => {
            let effect = settled(lead, other);
            desk.run(lead, effect)
        }
    }
}

/// The answers that a leader waited for are there. `None`: it is none of these, and nothing was done.
#[inline(always)]
pub(super) fn finish<const W: usize>(desk: &mut Desk<'_>, lead: &mut Lead<1, W>, me: Me) -> Option<Pause> {
    if lead.book.goal() != Goal::Unmap || lead.at != Cursor::AWAIT {
        return None;
    }
    let page = desk.page::<W>(0)?;
    desk.collect(&mut lead.book);
    let address = desk.addresses.first().copied()?;
    let errand = Errand { context: desk.context, place: desk.place, me, task: desk.task, address };
    let mut at = Cursor::AWAIT;
    let result = errand.complete(desk.owner, &mut lead.book, &mut at, page);
    lead.at = at;
    match result {
        Ok(()) => Some(Pause::Done),
        Err(other) => {
            let effect = settled(lead, other);
            Some(desk.run(lead, effect))
        }
    }
}
