//! Performing what a leader wants: the machine [`Lead`] for the pages of a batch.
//!
//! It runs on a pager thread until it has to wait, for workers or for another leader, and is kept as it is then ([`super::jobs`]).

use app_pager::letter::{LEADER, Letter};
use app_pager::maintain::Site;
use app_pager::options::Driver;
use app_pager::pool::Owner;
use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::lead::{Book, Effect, Goal, Lead};
use app_pager::protocols::record::Record;
use app_pager::roll::Roll;
use core::sync::atomic::Ordering;
use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_rt::utcb;

use super::dead;
use super::maintain;
use super::memory::Physical;
use super::office;
use super::place::{Place, find};
use super::state::{Context, board_at};
use super::step;
use super::stock::Stock;
use super::straight::{Pages, copy, site};
use super::take;

/// Why a leader does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pause {
    /// It is done.
    Done,
    /// Not all workers have answered.
    Answers,
    /// The one that was asked last has not answered, and others are still to be asked.
    Answer,
    /// Somebody else leads a page.
    Turn,
    /// The task is over, and with it all that this was about.
    Over,
}

/// Writes into the record of a frame who has it in hand.
#[inline(always)]
pub(super) fn claim(context: &Context, owner: &mut Owner, frame: u64, record: Record) {
    if !owner.has(frame) && !find_owner(context, owner, frame) {
        return claim_anywhere(context, frame, record);
    }
    owner.record(&Physical, frame).store(record.0, Ordering::SeqCst);
}
#[cold]
#[inline(never)]
fn claim_anywhere(context: &Context, frame: u64, record: Record) {
    if let Some(word) = context.pools().and_then(|pools| pools.record(&Physical, frame)) {
        word.store(record.0, Ordering::SeqCst);
    }
}
/// Gives a frame of a task back, which may have this roll.
#[inline(always)]
pub(super) fn free(context: &Context, owner: &mut Owner, roll: Option<Roll<'static>>, frame: u64) {
    maintain::hand_over(context, Site::Free, frame, PAGE_SIZE);
    if owner.has(frame) || find_owner(context, owner, frame) {
        owner.free(&Physical, frame);
    } else {
        context.put_back(frame, PAGE_SIZE);
    }
    if let Some(roll) = roll {
        roll.refund(1);
    }
}
/// Finds the bookkeeping of a frame. (None is remembered when each frame that is given back is to be audited.)
#[cold]
#[inline(never)]
fn find_owner(context: &Context, known: &mut Owner, frame: u64) -> bool {
    let owner = context.pools().filter(|_| !context.options.audit).and_then(|pools| pools.owner(frame));
    owner.map(|owner| *known = owner).is_some()
}

/// Around a leader.
pub(super) struct Desk<'a> {
    pub(super) context: &'a Context,
    /// Where the last page was, and where its frame came from.
    pub(super) place: &'a mut Place,
    pub(super) owner: &'a mut Owner,
    pub(super) task: u32,
    /// The pages.
    pub(super) addresses: &'a [u64],
    /// Frames for pages that move.
    pub(super) stock: &'a mut Stock,
    /// Which letter is this request's.
    pub(super) number: usize,
    /// Whether the letter says what it is about.
    pub(super) begun: &'a mut bool,
    /// All pages are of one region.
    pub(super) one_region: bool,
}

impl Desk<'_> {
    fn letter(&self) -> Option<Letter<'static>> {
        office::letter(self.context, self.context.cpu, self.number)
    }

    /// Asks a seat's worker for these pages.
    #[inline(always)]
    pub(super) fn ask(&mut self, seat: u16, pages: u64, keep: Option<Rights>, leader_counts: bool) {
        let Some(letter) = self.write(seat, pages, keep, leader_counts) else { return };
        let cluster = self.context.seats().cluster(seat);
        if office::send(self.context, cluster, self.number).is_err() {
            // There is no such pager, so its kernel maps nothing.
            letter.done(seat);
        }
    }
    /// Writes into the letter what a seat's worker is asked for.
    #[inline(always)]
    fn write(
        &mut self,
        seat: u16,
        pages: u64,
        keep: Option<Rights>,
        leader_counts: bool,
    ) -> Option<Letter<'static>> {
        let letter = self.letter()?;
        if !core::mem::replace(self.begun, true) {
            letter.begin(self.task, keep, self.one_region, utcb::my_id(), 1 << self.number);
            for (index, &address) in self.addresses.iter().enumerate() {
                letter.set_page(index, address);
            }
            if leader_counts {
                letter.count(LEADER);
            }
        }
        letter.count(seat);
        letter.order(seat, pages);
        Some(letter)
    }

    /// Runs a leader from where it is: `effect` is what it wants next.
    #[inline(never)]
    pub(super) fn run<const N: usize, const W: usize>(
        &mut self,
        lead: &mut Lead<N, W>,
        effect: Effect,
    ) -> Pause {
        let taken = take::Batch::new(self.context);
        self.run_by::<N, W, false>(lead, effect, taken)
    }
    /// The same for places that are watched.
    #[cold]
    #[inline(never)]
    fn run_watched<const N: usize, const W: usize>(
        &mut self,
        lead: &mut Lead<N, W>,
        effect: Effect,
        taken: take::Batch,
    ) -> Pause {
        self.run_by::<N, W, true>(lead, effect, taken)
    }
    #[inline(always)]
    fn run_by<const N: usize, const W: usize, const WATCHED: bool>(
        &mut self,
        lead: &mut Lead<N, W>,
        mut effect: Effect,
        mut taken: take::Batch,
    ) -> Pause {
        // The words of pages of one region are where they are until this thread waits.
        let straight = !WATCHED && self.one_region && self.page::<W>(0).is_some();
        if !WATCHED && !straight && self.context.options.is_watched() {
            return self.run_watched(lead, effect, taken);
        }
        loop {
            if WATCHED {
                step::reach(self.context, || (&effect).into());
            }
            if straight && let Some(next) = self.go_straight(lead, &mut taken, effect) {
                effect = next;
                continue;
            }
            if !matches!(effect, Effect::Unmap { .. } | Effect::Access(..)) {
                taken.flush();
            }
            let answer = match effect {
                Effect::Access(page, word, access) => {
                    taken.flush();
                    if WATCHED {
                        match self.watched(lead, (page, word, access)) {
                            Some(next) => effect = next,
                            None => return self.over(),
                        }
                        continue;
                    }
                    match self.page::<W>(page) {
                        Some(page) => page.access(word, access),
                        None => return self.run_watched(lead, effect, taken),
                    }
                }
                Effect::Unmap { page, frame, keep } => {
                    taken.add(page, frame, keep);
                    0
                }
                Effect::Ask(seat) => {
                    let order = lead.order(seat);
                    match self.context.options.unmap {
                        Driver::Parallel => self.ask(seat, order.pages, order.keep, true),
                        // It is sent when all are known.
                        Driver::Root => drop(self.write(seat, order.pages, order.keep, true)),
                        Driver::Sequential => {
                            self.ask(seat, order.pages, order.keep, false);
                            if !self.is_answered() {
                                return Pause::Answer;
                            }
                        }
                    }
                    0
                }
                Effect::Await => {
                    lead.report(taken.used());
                    taken = take::Batch::new(self.context);
                    if *self.begun && self.last() {
                        return Pause::Answers;
                    }
                    self.collect(&mut lead.book);
                    0
                }
                Effect::Maintain(_, frame) => {
                    maintain::hand_over(self.context, site(lead.book.goal()), frame, PAGE_SIZE);
                    0
                }
                Effect::Claim(page, frame) => {
                    let address = self.addresses.get(usize::from(page)).copied().unwrap_or(0);
                    let number = self.context.page_number(self.task, address);
                    let record = Record::taken(number, self.context.me(self.context.node));
                    claim(self.context, self.owner, frame, record);
                    0
                }
                Effect::FreeCopy(_, frame) | Effect::Free(_, frame) => {
                    if matches!(effect, Effect::FreeCopy(..)) {
                        maintain::hand_over(self.context, Site::Replica, frame, PAGE_SIZE);
                    }
                    // A page that moves has as many frames as before.
                    let moved = matches!((effect, lead.book.goal()), (Effect::Free(..), Goal::Migrate(_)));
                    free(self.context, self.owner, self.place.roll.filter(|_| !moved), frame);
                    0
                }
                Effect::Allocate(page, node) => {
                    let held = lead.book.held(page);
                    self.stock.take(self.context, (self.task, self.addresses), (page, held), node)
                }
                Effect::Copy { page, from, to } => {
                    let address = self.addresses.get(usize::from(page)).copied().unwrap_or(0);
                    let code = self.locate(address) && self.place.region.most.contains(Rights::X);
                    copy(self.context, code, from, to);
                    0
                }
                Effect::Wake => {
                    self.wake();
                    0
                }
                Effect::Park => return Pause::Turn,
                Effect::Done => return Pause::Done,
                Effect::Lost(_, frame) => dead::is_lost(self.context, frame).into(),
            };
            effect = lead.step(answer);
        }
    }

    /// The straight way from this effect on, if there is one: returns what comes behind it.
    #[inline(always)]
    fn go_straight<const N: usize, const W: usize>(
        &mut self,
        lead: &mut Lead<N, W>,
        taken: &mut take::Batch,
        effect: Effect,
    ) -> Option<Effect> {
        let Self { context, place, owner, task, addresses, .. } = self;
        let Lead { book, at } = lead;
        let (me, goal) = (context.me(context.node), book.goal());
        let mut pages = Pages::<W> { context, place, owner, task: *task, addresses, me, goal };
        match effect {
            Effect::Access(_, Word::Master, Access::Load) => Some(book.hold(at, effect, &mut pages)),
            Effect::Access(_, Word::Local, Access::Load) => {
                taken.flush();
                Some(book.change_own(at, effect, &mut pages))
            }
            Effect::Unmap { keep, .. } => {
                let (pages, frames) = book.own_frames(at)?;
                taken.add_all(pages, frames, keep);
                Some(book.own_taken(at))
            }
            Effect::Maintain(..) => Some(book.complete_all(at, effect, &mut pages)),
            _ => None,
        }
    }

    /// Runs a leader on, or from the beginning, after what it waited for.
    pub(super) fn go_on<const N: usize, const W: usize>(
        &mut self,
        lead: &mut Lead<N, W>,
        answered: bool,
    ) -> Pause {
        if answered {
            self.collect(&mut lead.book);
        }
        let effect = lead.step(0);
        self.run(lead, effect)
    }

    /// The task has ended, or ends. Workers that were asked still answer.
    #[cold]
    fn over(&mut self) -> Pause {
        if core::mem::replace(self.begun, false)
            && self.context.options.unmap != Driver::Sequential
            && let Some(letter) = self.letter()
        {
            if self.context.options.unmap == Driver::Root {
                // Who has not been told is not asked any more.
                let seats = 0..self.context.seats().count();
                for seat in seats.filter(|&seat| letter.take_order(seat).pages != 0) {
                    letter.done(seat);
                }
            }
            letter.done(LEADER);
        }
        Pause::Over
    }

    /// The leader has asked all and waits from now on. Returns whether it has to.
    pub(super) fn last(&self) -> bool {
        let Some(letter) = self.letter() else { return false };
        match self.context.options.unmap {
            Driver::Parallel => !letter.done(LEADER),
            Driver::Sequential => !letter.is_answered(),
            Driver::Root => {
                office::send_by_root(self.context, self.number, &letter);
                !letter.done(LEADER)
            }
        }
    }
    /// Whether all who were asked have answered.
    pub(super) fn is_answered(&self) -> bool {
        self.letter().is_none_or(|letter| letter.is_answered())
    }
    /// All have answered, and what they said goes to the leader.
    pub(super) fn collect<const N: usize, const W: usize>(&mut self, book: &mut Book<N, W>) {
        if core::mem::replace(self.begun, false)
            && let Some(letter) = self.letter()
        {
            book.report(letter.used());
        }
    }
    /// Of which pages workers had something to take away, and how they were used.
    pub(super) fn found(&mut self) -> (u64, app_pager::protocols::revoke::Used) {
        *self.begun = false;
        self.letter().map_or_else(Default::default, |letter| (letter.found(), letter.used()))
    }

    /// The words of a page, unless it is watched. Between two waits of this thread what it has found stays, whoever ends (see `grace`).
    #[inline(always)]
    pub(super) fn page<const W: usize>(&mut self, index: u8) -> Option<app_pager::page::Page<'static>> {
        let address = *self.addresses.get(usize::from(index))?;
        if !self.place.holds(self.task, address) && !self.find_plain(address) {
            return None;
        }
        Some(self.place.page::<W>(address))
    }
    /// Finds the place of a page. Returns whether the short ways are for it.
    #[cold]
    fn find_plain(&mut self, address: u64) -> bool {
        self.locate(address) && !self.place.is_watched()
    }
    /// Finds the place of a page, if there is one.
    pub(super) fn locate(&mut self, address: u64) -> bool {
        if self.place.holds(self.task, address) || self.place.covers_watched(self.task, address) {
            return true;
        }
        let found = find(self.context, self.task, self.context.node, address);
        found.map(|found| *self.place = found).is_ok()
    }
    #[cold]
    fn wake(&self) {
        let board = self.context.state().task(self.task).map_or(0, |task| task.board);
        if let Ok(roll) = board_at(board).map(|board| board.roll()) {
            office::wake_all(self.context, |cluster| roll.is_active(cluster));
        }
    }
}

/// A leader that is not led to its end, because its task is over: what it has in hand goes back.
pub(super) fn give_up<const N: usize, const W: usize>(context: &Context, lead: &Lead<N, W>) {
    lead.book.in_hand().for_each(|frame| context.give_back(frame, PAGE_SIZE));
}
