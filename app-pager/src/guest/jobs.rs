//! Requests that take pages away or change them, as continuations of a pager thread.
//!
//! A request is led as far as it goes; when it has to wait it stays here, its client un-answered, and the thread serves others. Workers
//! that have answered, and leaders that have given way, notify the thread. Each place here has a letter of its own.

use app_pager::batch::{Answer, Batch, Kind, Request, Wish};
use app_pager::letter::LETTERS;
use app_pager::pool::Owner;
use app_pager::protocols::effect::{Access, Me, Word};
use app_pager::protocols::entry::{Entry, State};
use app_pager::protocols::lead::{Effect, Goal, Lead};
use app_pager::protocols::revoke::MAX_PAGES;
use skerry_abi::boot::PoolRange;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::{Error, Rights, ThreadId};
use skerry_ipc::pager::{MAX_LIST, Revoked};

use super::alone::{self, Errand};
use super::history;
use super::lead::{Desk, Pause, give_up};
use super::memory::values_at;
use super::office;
use super::place::{Place, find};
use super::state::Context;
use super::stock::Stock;

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next pages are to be looked at.
    Round,
    /// Pages of all nodes lose rights.
    Take,
    /// They get rights.
    Give,
    /// The node's own pages.
    Own,
}

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Job<const W: usize> {
    /// Who waits for the answer; nil: the place is free.
    client: ThreadId,
    task: u32,
    request: Request,
    /// The words of a list.
    list: [u64; MAX_LIST],
    listed: usize,
    batch: Batch,
    stage: Stage,
    /// What it waits for.
    pause: Pause,
    /// Its letter says what it is about.
    begun: bool,
    one: Lead<1, W>,
    many: Lead<MAX_PAGES, W>,
}

/// Those of a pager thread.
pub(super) struct Jobs<const W: usize> {
    context: Context,
    me: Me,
    jobs: &'static mut [Job<W>],
    /// Places that nobody has, a bit each; and those whose letter some worker still has, of a task that ended.
    idle: u64,
    late: u64,
    place: Place,
    owner: Owner,
    /// Frames for pages that move.
    stock: Stock,
}

/// An answer, and who gets it.
pub(super) type Finished = (ThreadId, Answer);

impl<const W: usize> Jobs<W> {
    /// None.
    pub(super) fn new(context: Context) -> Result<Self, Error> {
        let me = context.me(context.node);
        let idle = Request::range(Wish::Unmap, 0, 1).ok_or(Error::BadArgument)?;
        let bytes = (LETTERS * size_of::<Job<W>>()) as u64;
        let none = Job {
            client: ThreadId::NIL,
            task: 0,
            request: idle,
            list: [0; MAX_LIST],
            listed: 0,
            batch: Batch::new(),
            stage: Stage::Round,
            pause: Pause::Done,
            begun: false,
            one: Lead::of(me, Goal::Unmap, 0),
            many: Lead::of(me, Goal::Unmap, 0),
        };
        let jobs = values_at(context.cleared(context.node, bytes)?, LETTERS, none);
        let idle = (1 << LETTERS) - 1;
        let (place, owner, stock) = (Place::NONE, Owner::NONE, Stock::new());
        Ok(Self { context, me, jobs, idle, late: 0, place, owner, stock })
    }

    /// A request of `client`, a thread of `task`. `None`: it is answered later.
    ///
    /// # Errors
    /// [`Error::TableFull`]: there are too many at a time; try again.
    pub(super) fn begin(
        &mut self,
        client: ThreadId,
        task: u32,
        request: Request,
        list: &[u64],
    ) -> Result<Option<Answer>, Error> {
        let number = self.free().ok_or(Error::TableFull)?;
        self.idle &= !(1 << number);
        let job = &mut self.jobs[number];
        (job.client, job.task, job.request, job.stage) = (client, task, request, Stage::Round);
        (job.listed, job.begun) = (list.len(), false);
        job.list[..list.len()].copy_from_slice(list);
        self.place.refresh();
        Ok(self.go_on(number))
    }

    /// A place that nobody has, and whose letter no worker has.
    #[inline(always)]
    fn free(&mut self) -> Option<usize> {
        if self.idle == 0 {
            self.look_for_late_ones();
        }
        (self.idle != 0).then(|| self.idle.trailing_zeros() as usize)
    }
    #[cold]
    fn look_for_late_ones(&mut self) {
        let late = self.late;
        for number in (0..LETTERS).filter(|number| late >> number & 1 != 0) {
            let letter = office::letter(&self.context, self.context.cpu, number);
            if letter.is_none_or(|letter| letter.is_answered()) {
                (self.late, self.idle) = (self.late & !(1 << number), self.idle | 1 << number);
            }
        }
    }
    /// Nobody waits for this request any more.
    fn leave(&mut self, number: usize) {
        self.jobs[number].client = ThreadId::NIL;
        self.late |= 1 << number;
        self.look_for_late_ones();
    }

    /// One page of all nodes taken away: the most common request, without a place of its own unless it has to wait. `None`: it is
    /// answered later, or is not that.
    #[inline(never)]
    pub(super) fn unmap_page(
        &mut self,
        client: ThreadId,
        task: u32,
        address: u64,
    ) -> Result<Option<Revoked>, Uncommon> {
        if address & (PAGE_SIZE - 1) != 0 || !self.place.covers(task, address) || !self.place.is_global() {
            return Err(Uncommon);
        }
        if self.idle == 0 {
            return Err(Uncommon);
        }
        let Self { context, place, owner, me, .. } = self;
        match (Errand { context, place, me: *me, task, address }).run::<W>(owner) {
            Ok(told) => Ok(Some(told)),
            Err((lead, effect)) => {
                // There is an idle place: see above.
                let number = self.idle.trailing_zeros() as usize % LETTERS;
                self.jobs[number].one = lead;
                Ok(self.unusual(number, (client, task, address), effect))
            }
        }
    }
    /// The same from this effect on, of the leader in this place, which is idle so far.
    #[inline(never)]
    fn unusual(
        &mut self,
        number: usize,
        (client, task, address): (ThreadId, u32, u64),
        effect: Effect,
    ) -> Option<Revoked> {
        let (addresses, mut begun) = ([address], false);
        let Self { context, jobs, place, owner, stock, me, .. } = self;
        let lead = &mut jobs[number].one;
        let (addresses, begun, one_region) = (&addresses[..], &mut begun, true);
        let mut desk = Desk { context, place, owner, stock, task, addresses, number, begun, one_region };
        match alone::go_on(&mut desk, lead, *me, effect) {
            Pause::Done => Some(alone::told(&lead.book)),
            Pause::Over => {
                self.idle &= !(1 << number);
                self.leave(number);
                None
            }
            pause => {
                let begun = *desk.begun;
                self.keep(number, (client, task, address), (pause, begun));
                None
            }
        }
    }
    fn keep(
        &mut self,
        number: usize,
        (client, task, address): (ThreadId, u32, u64),
        (pause, begun): (Pause, bool),
    ) {
        self.idle &= !(1 << number);
        let job = &mut self.jobs[number];
        // A range of one page, whose round has begun.
        if let Some(request) = Request::range(Wish::Unmap, address, 1) {
            job.batch.alone(address);
            (job.client, job.task, job.request) = (client, task, request.begun());
            (job.stage, job.pause, job.begun) = (Stage::Take, pause, begun);
        }
    }

    /// Workers have answered the letters with these numbers: the most common case of [`Jobs::notified`], one page taken away. `None`: it is
    /// another case, or not at its end; then that one looks further.
    #[inline(never)]
    pub(super) fn answered(&mut self, letters: u64) -> Option<(ThreadId, Revoked)> {
        let number = letters.trailing_zeros() as usize;
        let Self { context, jobs, place, owner, stock, me, idle, .. } = self;
        let job = jobs.get_mut(number).filter(|job| letters == 1 << number && !job.client.is_nil())?;
        let waits =
            job.pause == Pause::Answers && job.stage == Stage::Take && job.request.wish == Wish::Unmap;
        let Job { task, batch, begun, one, pause, client, .. } = job;
        let address = batch.addresses[0];
        // Whoever finds the page where it was knows that its task has not ended.
        if !waits || (batch.count, batch.global) != (1, 1) || !place.covers(*task, address) {
            return None;
        }
        let (addresses, one_region) = (&batch.addresses[..1], true);
        let mut desk =
            Desk { context, place, owner, stock, task: *task, addresses, number, begun, one_region };
        if !desk.is_answered() {
            return None;
        }
        *pause = alone::finish(&mut desk, one, *me)?;
        if *pause != Pause::Done {
            return None;
        }
        *idle |= 1 << number;
        Some((core::mem::replace(client, ThreadId::NIL), alone::told(&one.book)))
    }

    /// Somebody has notified: all that wait for workers and have the answers, or wait for another leader, go on. What is finished goes to
    /// `answer`.
    pub(super) fn notified(&mut self, woken: bool, mut answer: impl FnMut(Finished)) {
        for number in 0..self.jobs.len() {
            let job = &mut self.jobs[number];
            if job.client.is_nil() {
                continue;
            }
            let ready = match job.pause {
                Pause::Answers | Pause::Answer => true,
                Pause::Turn => woken,
                // (Found out by `answered`.)
                Pause::Over => {
                    self.leave(number);
                    continue;
                }
                Pause::Done => false,
            };
            let turn = job.pause == Pause::Turn;
            if !ready || !turn && !self.desk(number).is_answered() {
                continue;
            }
            let (client, task) = (self.jobs[number].client, self.jobs[number].task);
            if self.context.state().task(task).is_err() {
                // Its task has ended.
                self.jobs[number].give_up(&self.context);
                self.leave(number);
                continue;
            }
            // What was found before the thread waited may be gone.
            self.place.refresh();
            if let Some(done) = self.go_on(number) {
                answer((client, done));
            }
        }
    }

    fn desk(&mut self, number: usize) -> Desk<'_> {
        let Self { context, jobs, place, owner, stock, .. } = self;
        let Job { task, batch, begun, .. } = &mut jobs[number];
        let (addresses, one_region) = (&batch.addresses[..batch.count], batch.one_region);
        Desk { context, place, owner, stock, task: *task, addresses, number, begun, one_region }
    }

    /// Leads on, until it waits or is finished.
    fn go_on(&mut self, number: usize) -> Option<Answer> {
        loop {
            let job = &mut self.jobs[number];
            match job.stage {
                Stage::Round => self.begin_round(number),
                Stage::Take | Stage::Give => {
                    let pause = self.lead(number);
                    let job = &mut self.jobs[number];
                    job.pause = pause;
                    match pause {
                        Pause::Done => {}
                        Pause::Over => {
                            self.leave(number);
                            return None;
                        }
                        _ => return None,
                    }
                    self.led(number);
                }
                Stage::Own => {
                    if job.batch.local != 0 && !self.own(number) {
                        self.jobs[number].pause = Pause::Answers;
                        return None;
                    }
                    let job = &mut self.jobs[number];
                    job.stage = Stage::Round;
                    if !job.request.finish_round(&job.batch) {
                        job.client = ThreadId::NIL;
                        self.idle |= 1 << number;
                        return Some(self.jobs[number].request.answer());
                    }
                }
            }
        }
    }

    fn begin_round(&mut self, number: usize) {
        let Self { context, jobs, place, .. } = self;
        let job = &mut jobs[number];
        let (wish, task) = (job.request.wish, job.task);
        let (mut first, mut one_region, mut pool) = (true, true, None);
        // What threads may do with pages that nobody has touched: a round is about one region's.
        let mut rights = None;
        let kind = |address: u64| {
            if !place.holds(task, address) {
                if !place.covers_watched(task, address) {
                    match find(context, task, context.node, address) {
                        Ok(found) => *place = found,
                        Err(_) => return Kind::Bad,
                    }
                    one_region &= first;
                }
                first = false;
                if let (Some(_), Wish::Move(_)) = (place.master_of, wish) {
                    // To find out whether it lies there already would take a message: then it moves inside the node.
                    return if place.is_global() { Kind::Global } else { Kind::Bad };
                }
            }
            first = false;
            match (place.region.most.contains(wish.rights()) && wish.is_sound(), place.is_global()) {
                (false, _) => Kind::Bad,
                (true, true) => match wish {
                    Wish::Part if *rights.get_or_insert(place.region.rights) != place.region.rights => {
                        Kind::Bad
                    }
                    Wish::Move(node) if lies_on::<W>(context, place, &mut pool, address) == Some(node) => {
                        Kind::Done
                    }
                    _ => Kind::Global,
                },
                (true, false) if wish.is_for_own() => Kind::Local,
                (true, false) => Kind::Bad,
            }
        };
        job.request.round(&mut job.batch, &job.list[..job.listed], kind);
        job.batch.one_region = one_region;
        let goal = match job.request.wish {
            Wish::Unmap => Goal::Unmap,
            Wish::Protect(rights) => Goal::Restrict(rights),
            Wish::Move(node) => Goal::Migrate(node),
            Wish::Replicate => Goal::Replicate,
            Wish::Collapse => Goal::Collapse,
            Wish::Part => Goal::Part(rights.unwrap_or(Rights::NONE)),
            Wish::Join => Goal::Join,
        };
        job.stage = Stage::Take;
        job.set_lead(self.me, goal);
    }

    /// Runs the leader from where it is.
    fn lead(&mut self, number: usize) -> Pause {
        let Self { context, jobs, place, owner, stock, me, .. } = self;
        let Job { task, batch, begun, one, many, pause, .. } = &mut jobs[number];
        let answered = *pause == Pause::Answers;
        let (addresses, one_region) = (&batch.addresses[..batch.count], batch.one_region);
        let mut desk =
            Desk { context, place, owner, stock, task: *task, addresses, number, begun, one_region };
        let alone = addresses.len() == 1;
        if answered
            && alone
            && let Some(pause) = alone::finish(&mut desk, one, *me)
        {
            return pause;
        }
        if alone { desk.go_on(one, answered) } else { desk.go_on(many, answered) }
    }

    /// The leader is done.
    fn led(&mut self, number: usize) {
        let me = self.me;
        let job = &mut self.jobs[number];
        let alone = job.batch.count == 1;
        let [done, full, bad] = match alone {
            true => [job.one.book.done(), job.one.book.no_frame(), job.one.book.refused()],
            false => [job.many.book.done(), job.many.book.no_frame(), job.many.book.refused()],
        };
        if self.context.options.history {
            let goal = if alone { job.one.book.goal() } else { job.many.book.goal() };
            let pages = job.batch.addresses[..job.batch.count].iter().enumerate();
            let pages = pages.filter(|(page, _)| done >> page & 1 != 0).map(|(_, &address)| address);
            history::led(&self.context, job.task, pages, goal, job.client);
        }
        let all = job.batch.global;
        let (done, full, bad) = (done & all, full & all, bad & all);
        let used = if alone { job.one.used() } else { job.many.used() };
        job.batch.done |= done;
        (job.batch.full, job.batch.bad) = (job.batch.full | full, job.batch.bad | bad);
        job.batch.used = job.batch.used.merge(used);
        match (job.stage, job.request.wish) {
            (Stage::Take, Wish::Protect(rights)) => {
                job.stage = Stage::Give;
                job.set_lead(me, Goal::Allow(rights));
            }
            _ => job.stage = Stage::Own,
        }
    }

    /// The node's own pages are the unmap worker's business: one after the other there, so who comes second to a page knows that it is gone.
    /// Returns whether that is done.
    fn own(&mut self, number: usize) -> bool {
        let seat = self.me.node;
        let (pages, wish) = (self.jobs[number].batch.local, self.jobs[number].request.wish);
        let keep = match wish {
            Wish::Protect(rights) => Some(rights),
            _ => None,
        };
        let mut desk = self.desk(number);
        if !*desk.begun {
            desk.ask(seat, pages, keep, false);
        }
        if !desk.is_answered() {
            return false;
        }
        let (found, used) = desk.found();
        let batch = &mut self.jobs[number].batch;
        batch.done |= found;
        batch.used = batch.used.merge(used);
        true
    }
}

impl<const W: usize> Job<W> {
    /// Nobody waits for it any more.
    #[cold]
    fn give_up(&mut self, context: &Context) {
        self.client = ThreadId::NIL;
        if matches!(self.stage, Stage::Take | Stage::Give) {
            if self.batch.count == 1 { give_up(context, &self.one) } else { give_up(context, &self.many) }
        }
    }
    fn set_lead(&mut self, me: Me, goal: Goal) {
        self.pause = Pause::Done;
        if self.batch.count == 1 {
            self.one = Lead::of(me, goal, self.batch.global);
        } else {
            self.many.renew(goal, self.batch.global);
        }
    }
}

/// The node on which a page lies, if it has one frame. Mostly that is from where the last one was.
#[inline(always)]
fn lies_on<const W: usize>(
    context: &Context,
    place: &Place,
    pool: &mut Option<PoolRange>,
    address: u64,
) -> Option<u16> {
    let entry = Entry(place.page::<W>(address).access(Word::Master, Access::Load));
    if entry.state() != State::Present {
        return None;
    }
    if pool.is_none_or(|pool| !pool.range.contains(entry.frame())) {
        *pool = context.memory_of(entry.frame());
    }
    pool.map(|pool| pool.node)
}

/// The request needs the long way.
pub(super) struct Uncommon;
