//! One page of all nodes, taken away: the request that programs make most.
//!
//! The machine is [`Book`], as always; but one line per effect, in the order in which they mostly come, performs what it wants, as in
//! [`super::fault`]. Whatever else it says goes to the loop for every case ([`super::lead`]), together with the machine.
#![expect(
    clippy::result_large_err,
    reason = "all of it is inlined, so the machine stays where it is until it goes to the loop"
)]

use app_pager::maintain::Site;
use app_pager::options::Driver;
use app_pager::page::{Page, perform};
use app_pager::pool::Owner;
use app_pager::protocols::effect::{Access, Me, Word};
use app_pager::protocols::lead::{Book, Cursor, Effect, Goal, Lead};
use app_pager::protocols::record::Record;
use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_ipc::pager::Revoked;
use skerry_rt::sys;

use super::lead::{Desk, Pause, claim, free};
use super::maintain;
use super::place::Place;
use super::state::Context;

/// The leader in the middle of something, and what it wants next.
type Unfinished<const W: usize> = (Lead<1, W>, Effect);

/// The next effect, if it is the one that mostly comes.
macro_rules! next {
    ($book:ident, $at:ident, $answer:expr, $effect:pat => $perform:expr) => {
        match $book.step(&mut $at, $answer) {
            $effect => $perform,
            other => return Err((Lead { book: $book, at: $at }, other)),
        }
    };
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

impl<'a> Errand<'a> {
    /// Without anybody else. Once another node is to be asked, it is the whole desk's business.
    #[inline(always)]
    pub(super) fn run<const W: usize>(self, owner: &mut Owner) -> Result<Revoked, Unfinished<W>> {
        let page = self.place.page::<W>(self.address);
        let (mut book, mut at) = (Book::<1, W>::new(self.me, Goal::Unmap, 1), Cursor::BEGIN);
        let [master, ..] = page.master else { return Err((Lead { book, at }, Effect::Done)) };
        let found =
            next!(book, at, 0, Effect::Access(_, Word::Master, act @ Access::Load) => perform(master, act));
        let found = next!(book, at, found, Effect::Access(_, Word::Master, act @ Access::Swap { .. }) => perform(master, act));
        let found = next!(book, at, found, Effect::Access(_, word @ Word::Sharers(_), act @ Access::Load) => page.access(word, act));
        let effect = book.step(&mut at, found);
        let (book, at) = own(book, at, page, effect)?;
        let book = complete(self, owner, book, at, page)?;
        Ok(told(&book))
    }
}

/// The part of this node, which begins with `effect`; then all that were asked are awaited.
#[inline(always)]
fn own<const W: usize>(
    mut book: Book<1, W>,
    mut at: Cursor,
    page: Page<'static>,
    effect: Effect,
) -> Result<(Book<1, W>, Cursor), Unfinished<W>> {
    let Effect::Access(_, Word::Local, act @ Access::Load) = effect else {
        return Err((Lead { book, at }, effect));
    };
    let found = perform(page.local, act);
    let found = next!(book, at, found, Effect::Access(_, Word::Local, act @ Access::Swap { .. }) => perform(page.local, act));
    let seen = next!(book, at, found, Effect::Unmap { frame, keep, .. } => unmap(frame, keep));
    next!(book, at, seen, Effect::Await => ());
    Ok((book, at))
}

/// This node's kernel takes the frame away.
#[inline(always)]
fn unmap(frame: u64, keep: Option<Rights>) -> u64 {
    let rights = keep.map_or(Rights::RWX, |keep| Rights::RWX.without(keep));
    let seen = sys::unmap_page(frame, rights);
    u64::from(seen.contains(Rights::R)) | u64::from(seen.contains(Rights::W)) << 1
}

/// All have answered: to the end.
#[inline(always)]
fn complete<const W: usize>(
    Errand { context, place, me, task, address }: Errand<'_>,
    owner: &mut Owner,
    mut book: Book<1, W>,
    mut at: Cursor,
    page: Page<'static>,
) -> Result<Book<1, W>, Unfinished<W>> {
    let [master, ..] = page.master else { return Err((Lead { book, at }, Effect::Done)) };
    next!(book, at, 0, Effect::Maintain(_, frame) => maintain::hand_over(context, Site::Unmap, frame, PAGE_SIZE));
    let record = Record::taken(context.page_number(task, address), me);
    next!(book, at, 0, Effect::Claim(_, frame) => claim(context, owner, frame, record));
    let found = next!(book, at, 0, Effect::Access(_, word @ Word::Sharers(_), act @ Access::Clear(_)) => page.access(word, act));
    let found = next!(book, at, found, Effect::Access(_, Word::Master, act @ Access::Swap { .. }) => perform(master, act));
    next!(book, at, found, Effect::Free(_, frame) => free(context, owner, place.roll, frame));
    next!(book, at, 0, Effect::Done => ());
    Ok(book)
}

/// Goes on where [`Errand::run`] ended, as long as it is what mostly comes when others share the page: all of them are asked.
#[inline(never)]
pub(super) fn go_on<const W: usize>(desk: &mut Desk<'_>, lead: &mut Lead<1, W>, effect: Effect) -> Pause {
    let asks = matches!(effect, Effect::Ask(_)) && desk.context.options.unmap == Driver::Parallel;
    match desk.page::<W>(0).filter(|_| asks) {
        Some(page) => {
            let Lead { mut book, at } = *lead;
            let Effect::Ask(mut seat) = effect else { return desk.run(lead, effect) };
            let mut at = at.asking(seat);
            let effect = loop {
                let order = book.order(seat);
                desk.ask(seat, order.pages, order.keep, true);
                match book.step(&mut at, 0) {
                    Effect::Ask(next) => seat = next,
                    effect => break effect,
                }
            };
            match own(book, at, page, effect) {
                Ok((book, at)) => {
                    *lead = Lead { book, at };
                    desk.run(lead, Effect::Await)
                }
                Err((unfinished, effect)) => {
                    *lead = unfinished;
                    desk.run(lead, effect)
                }
            }
        }
        None => desk.run(lead, effect),
    }
}

/// The answers that a leader waited for are there. `None`: it is none of these, and nothing was done.
pub(super) fn finish<const W: usize>(desk: &mut Desk<'_>, lead: &mut Lead<1, W>, me: Me) -> Option<Pause> {
    if lead.book.goal() != Goal::Unmap || lead.at != Cursor::AWAIT {
        return None;
    }
    let page = desk.page::<W>(0)?;
    desk.collect(&mut lead.book);
    let address = desk.addresses.first().copied()?;
    let errand = Errand { context: desk.context, place: desk.place, me, task: desk.task, address };
    match complete(errand, desk.owner, lead.book, Cursor::AWAIT, page) {
        Ok(book) => {
            lead.book = book;
            Some(Pause::Done)
        }
        Err((unfinished, effect)) => {
            *lead = unfinished;
            Some(desk.run(lead, effect))
        }
    }
}
