//! Answering page faults: the machine [`Fault`] on the words of the page.
//!
//! Nearly every fault goes one of two ways through the machine: nobody has the page yet, or another node has. For these
//! the loop that performs what the machine says is written out, one line per effect in the order in which they come. The machine is
//! the same, and decides; the compiler just knows its state at each line. Whatever else it says goes to the loop for
//! every case.

use core::sync::atomic::AtomicU64;

use app_pager::Memory;
use app_pager::board::Region;
use app_pager::maintain::Site;
use app_pager::options::PagesAhead;
use app_pager::page::{Page, perform};
use app_pager::pool::Cursor;
use app_pager::protocols::effect::{Access, Me, Word};
use app_pager::protocols::fault::{Effect, Fault, Scope};
use app_pager::protocols::local::Local;
use app_pager::protocols::record::Record;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::{RegionKind, Stats};
use skerry_rt::image::page_bytes;
use skerry_rt::sys;

use super::ahead::Company;
use super::audit;
use super::maintain;
use super::memory::Physical;
use super::place::{Place, find};
use super::policy;
use super::state::{Context, book_at};
use super::{step, table};

/// What becomes of a fault.
pub(super) enum Decision {
    /// The page is to be mapped as the local word says, and only if that word has not changed.
    Map(&'static AtomicU64, Local),
    /// Pages of a group are to be mapped: so many words of the answer are in [`Company::words`] and behind them in the UTCB.
    Several(usize),
    /// It is in [`Company::decision`].
    Kept,
    /// Somebody is changing the page: ask again when that is over.
    Park,
    /// The page has to be made one again first.
    Collapse,
    /// The task has no business there.
    Reject,
    /// There is no memory for it.
    NoMemory(Error),
}

/// What a pager thread has for its faults.
pub(super) struct Faults<const W: usize> {
    pub(super) context: Context,
    pub(super) me: Me,
    /// Where the last fault was.
    recent: Place,
    /// Where the next frame comes from.
    pub(super) cursor: Cursor,
    /// For faults that may establish several pages.
    pub(super) company: Company,
}

/// A fault, and what its machine needs.
pub(super) struct Run<'a, const W: usize> {
    pub(super) context: &'a Context,
    pub(super) me: Me,
    pub(super) cursor: &'a mut Cursor,
    pub(super) place: &'a Place,
    pub(super) address: u64,
    pub(super) scope: Scope,
    pub(super) access: Rights,
    /// A policy says where the frame comes from.
    pub(super) by_policy: bool,
}

/// The next effect, if it is the one that mostly comes.
macro_rules! next {
    ($machine:ident, $answer:expr, $so_far:ident, $effect:pat => $perform:expr) => {
        match $machine.step($answer) {
            $effect => $perform,
            other => return Err(($machine, other, $so_far)),
        }
    };
}

/// Goes on if the answer is 0, as it mostly is: from there on the compiler knows.
macro_rules! mostly_zero {
    ($machine:ident, $answer:expr, $so_far:ident) => {
        if $answer != 0 {
            return Err(otherwise($machine, $answer, $so_far));
        }
    };
}

#[cold]
#[inline(never)]
fn otherwise(mut machine: Fault, answer: u64, so_far: Stats) -> Unfinished {
    let effect = machine.step(answer);
    (machine, effect, so_far)
}

/// What a fault cost so far, as it is counted.
pub(super) const NOTHING: Stats = Stats { faults: 0, spurious: 0, lookups: 0, takeovers: 0, allocations: 0 };
pub(super) const LOOKED: Stats = Stats { lookups: 1, ..NOTHING };
pub(super) const PUBLISHED: Stats = Stats { allocations: 1, ..LOOKED };
pub(super) const OWN: Stats = Stats { allocations: 1, ..NOTHING };

/// The machine in the middle of something, what comes next, and what it cost so far.
pub(super) type Unfinished = (Fault, Effect, Stats);

/// What is to be mapped: the word that guards it, its value, and what it cost.
type Mapped = (&'static AtomicU64, Local, Stats);

impl<const W: usize> Faults<W> {
    pub(super) const fn new(context: Context) -> Self {
        Self {
            context,
            me: context.me(context.node),
            recent: Place::NONE,
            cursor: Cursor::NONE,
            company: Company::new(),
        }
    }

    /// Decides about an access of a thread of `task` on this pager's CPU.
    #[inline(always)]
    pub(super) fn decide(&mut self, task: u32, address: u64, access: Rights) -> Decision {
        if !self.recent.covers(task, address) && !self.elsewhere(task, address, access) {
            return Decision::Kept;
        }
        let Self { context, me, recent: place, cursor, .. } = self;
        let scope = scope_of(place);
        let mut run = Run::<W> { context, me: *me, cursor, place, address, scope, access, by_policy: false };
        let common = match scope {
            Scope::Global => run.global(),
            Scope::Local => run.local(),
            Scope::Copied => run.copied(),
        };
        match common {
            Ok((guard, word, stats)) => {
                if place.region.measured {
                    count(context, place, stats);
                }
                Decision::Map(guard, word)
            }
            Err((machine, effect, stats)) => run.general(machine, effect, stats),
        }
    }

    /// Finds where a fault was. Returns whether that is the recent place now; if not, what is decided is kept.
    #[cold]
    #[inline(never)]
    fn elsewhere(&mut self, task: u32, address: u64, access: Rights) -> bool {
        if !self.company.place.covers(task, address) {
            if self.company.place.covers_watched(task, address) {
                self.company.decision = self.watched(address, access);
                return false;
            }
            match find(&self.context, task, self.context.node, address) {
                Ok(found) if found.is_watched() => {
                    self.company.place = found;
                    self.company.decision = self.watched(address, access);
                    return false;
                }
                Ok(found) if found.ahead == PagesAhead::One => {
                    self.recent = found;
                    if self.recent.roll.is_some() {
                        // Its frames are counted, so each is searched for.
                        self.cursor = Cursor::NONE;
                    }
                    return true;
                }
                Ok(found) => self.company.place = found,
                Err(error) => {
                    self.company.decision = match error {
                        Error::NothingMapped => Decision::Reject,
                        error => Decision::NoMemory(error),
                    };
                    return false;
                }
            }
        }
        self.company.decision = self.together(address, access);
        false
    }
    pub(super) fn run<'a>(
        (context, me): (&'a Context, Me),
        cursor: &'a mut Cursor,
        place: &'a Place,
        address: u64,
        access: Rights,
    ) -> Run<'a, W> {
        let scope = if place.is_global() { Scope::Global } else { Scope::Local };
        Run { context, me, cursor, place, address, scope, access, by_policy: false }
    }
}

/// Who decides about the pages of a place.
#[inline(always)]
pub(super) const fn scope_of(place: &Place) -> Scope {
    match (place.is_global(), place.region.kind) {
        (false, _) => Scope::Local,
        (true, RegionKind::ReadOnly) => Scope::Copied,
        (true, _) => Scope::Global,
    }
}

pub(super) fn count(context: &Context, place: &Place, stats: Stats) {
    if let Ok(book) = book_at(place.book) {
        book.count(context.node, stats);
    }
}

/// A frame where the last one came from was the last one, or for a task with a quota.
#[cold]
#[inline(never)]
fn search(
    context: &Context,
    cursor: &mut Cursor,
    (place, address): (&Place, u64),
    node: u16,
    record: Record,
) -> u64 {
    let task = place.task;
    if let Some(roll) = place.roll {
        if roll.charge(1).is_err() {
            return 0;
        }
        return context.frame_anywhere(task, node, address, record).unwrap_or(0);
    }
    *cursor = context.cursor(node).unwrap_or(Cursor::NONE);
    // Another thread may be faster where there is little left; then there may be something on another node.
    let frame = cursor.take(&Physical, record);
    if context.options.audit {
        // Each is looked at, so each is searched for.
        *cursor = Cursor::NONE;
        frame.inspect(|&frame| audit::taken_one(context, frame));
    }
    frame.or_else(|| context.frame_anywhere(task, node, address, record)).unwrap_or(0)
}

/// Puts the first contents of a page into its frame.
#[inline(never)]
fn fill(region: &Region, address: u64, frame: u64) {
    let (offset, from, count) = page_bytes(region.page(address) as u64, region.skip, region.bytes);
    if count != 0 {
        Physical.copy(frame + offset, region.source + from, count);
    }
}

impl<'a, const W: usize> Run<'a, W> {
    #[inline(always)]
    fn machine(&self) -> Fault {
        Fault::new(self.me, self.scope, self.access, self.place.region.rights)
    }

    /// A page of all nodes: fresh, or there already.
    #[inline(always)]
    fn global(&mut self) -> Result<Mapped, Unfinished> {
        let local = self.place.local(self.address);
        let master = self.place.master::<W>(self.address);
        let page = Page { local, group: self.place.group(self.address), master };
        let mut machine = self.machine();
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Load) => perform(local, act));
        mostly_zero!(machine, found, NOTHING);
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        mostly_zero!(machine, found, NOTHING);
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Master, act @ Access::Load) => perform(&master[0], act));
        let effect = if found == 0 { machine.step(0) } else { machine.step(found) };
        match effect {
            Effect::Allocate => {
                let frame = self.allocate();
                let found = next!(machine, frame, PUBLISHED,
                    Effect::Access(word @ Word::Sharers(_), act @ Access::Set(_)) => page.access(word, act));
                let found = next!(machine, found, PUBLISHED,
                    Effect::Access(Word::Master, act @ Access::Swap { .. }) => perform(&master[0], act));
                let found = next!(machine, found, PUBLISHED,
                    Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
                let word = next!(machine, found, PUBLISHED, Effect::Map(word) => word);
                Ok((local, word, Stats { faults: 1, ..PUBLISHED }))
            }
            Effect::Access(word @ Word::Sharers(_), act @ Access::Set(_)) => {
                let found = page.access(word, act);
                let found = next!(machine, found, LOOKED,
                    Effect::Access(Word::Master, act @ Access::Load) => perform(&master[0], act));
                let found = next!(machine, found, LOOKED,
                    Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
                let word = next!(machine, found, LOOKED, Effect::Map(word) => word);
                Ok((local, word, Stats { faults: 1, takeovers: 1, ..LOOKED }))
            }
            other => Err((machine, other, LOOKED)),
        }
    }

    /// A page that is copied to each node: only the first fault there comes here.
    fn copied(&self) -> Result<Mapped, Unfinished> {
        let mut machine = self.machine();
        let effect = machine.step(0);
        Err((machine, effect, NOTHING))
    }

    /// A fresh page of this node alone.
    #[inline(always)]
    fn local(&mut self) -> Result<Mapped, Unfinished> {
        let local = self.place.local(self.address);
        let mut machine = self.machine();
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Load) => perform(local, act));
        mostly_zero!(machine, found, NOTHING);
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        mostly_zero!(machine, found, NOTHING);
        let frame = next!(machine, 0, NOTHING, Effect::Allocate => self.allocate());
        let found = next!(machine, frame, OWN, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        let word = next!(machine, found, OWN, Effect::Map(word) => word);
        Ok((local, word, Stats { faults: 1, ..OWN }))
    }

    /// Every case, from this effect on.
    #[cold]
    #[inline(never)]
    pub(super) fn general(self, machine: Fault, effect: Effect, stats: Stats) -> Decision {
        let page = self.place.page::<W>(self.address);
        let mut cost = stats;
        self.by::<false>((machine, effect, stats), &mut cost, |_, word, access| Ok(page.access(word, access)))
    }

    /// The same where somebody else performs the accesses, or cannot.
    pub(super) fn by<const WATCHED: bool>(
        mut self,
        (mut machine, mut effect, mut stats): Unfinished,
        cost: &mut Stats,
        mut perform: impl FnMut(&Fault, Word, Access) -> Result<u64, Error>,
    ) -> Decision {
        let (mut joined, mut fresh) = (false, 0);
        loop {
            if WATCHED {
                step::reach(self.context, || (&effect).into());
            }
            let answer = match effect {
                Effect::Access(word, access) => {
                    // Who looks, joins and looks again has asked once.
                    stats.lookups += u64::from((word, access) == (Word::Master, Access::Load) && !joined);
                    joined = matches!((word, access), (Word::Sharers(_), Access::Set(_)));
                    match perform(&machine, word, access) {
                        Ok(found) => found,
                        // The pager that has the table is dead, and the task ends with it.
                        Err(_) => {
                            table::leave(self.context, self.place, self.address, fresh);
                            return Decision::Park;
                        }
                    }
                }
                Effect::Allocate => {
                    stats.allocations += 1;
                    fresh = self.allocate();
                    fresh
                }
                Effect::Copy(source) if self.context.is_own_frame(source) => source,
                Effect::Copy(source) => {
                    fresh = self.duplicate(source);
                    if fresh == 0 { source } else { fresh }
                }
                Effect::Duplicate(source) => {
                    fresh = self.duplicate(source);
                    fresh
                }
                Effect::GiveBack(frame) => {
                    fresh = 0;
                    stats.takeovers = 1;
                    self.context.give_back(frame, PAGE_SIZE);
                    if let Some(roll) = self.place.roll {
                        roll.refund(1);
                    }
                    0
                }
                Effect::WakeNode => {
                    self.context.wake_node();
                    0
                }
                Effect::Map(word) => {
                    let known = stats.allocations == 0 && stats.lookups == 0;
                    (stats.spurious, stats.faults) = (u64::from(known), u64::from(!known));
                    stats.takeovers |= u64::from(stats.allocations == 0 && !known);
                    if WATCHED {
                        *cost = stats;
                    }
                    if self.place.region.measured {
                        count(self.context, self.place, stats);
                    }
                    return Decision::Map(self.place.local(self.address), word);
                }
                Effect::Park => return Decision::Park,
                Effect::Collapse => return Decision::Collapse,
                // (Of a page that was asked for, the machine passes none.)
                Effect::Reject | Effect::Pass => return Decision::Reject,
                Effect::OutOfMemory => return Decision::NoMemory(self.shortage()),
            };
            effect = machine.step(answer);
        }
    }

    /// The node of a fresh frame.
    pub(super) fn node(&self) -> u16 {
        self.context.options.placement.choose(self.context.node)
    }
    /// Why there was no frame.
    fn shortage(&self) -> Error {
        let charged = self.place.roll.map_or(Ok(()), |roll| roll.charge(1).map(|()| roll.refund(1)));
        charged.err().unwrap_or(Error::OutOfMemory)
    }
    /// A frame that nobody else knows, 0 if there is none.
    #[inline(always)]
    fn take(&mut self) -> u64 {
        if self.by_policy {
            return policy::frame(self.context, self.place, self.address, self.access);
        }
        let record = Record::taken(self.context.page_number(self.place.task, self.address), self.me);
        match self.cursor.take(&Physical, record) {
            Some(frame) => frame,
            None => {
                let page = (self.place, self.address);
                search(self.context, self.cursor, page, self.node(), record)
            }
        }
    }
    /// A frame with the page's first contents, 0 if there is none.
    #[inline(always)]
    pub(super) fn allocate(&mut self) -> u64 {
        let frame = self.take();
        if frame != 0 {
            Physical.clear(frame, PAGE_SIZE);
            let region = &self.place.region;
            if region.bytes != 0 {
                fill(region, self.address, frame);
            }
            if region.most.contains(Rights::X) {
                sys::sync_code(frame, PAGE_SIZE);
            }
            if self.scope == Scope::Copied {
                maintain::hand_over(self.context, Site::Copy, frame, PAGE_SIZE);
            }
        }
        frame
    }
    /// A copy of a frame on this node, 0 if there is no room. Code is made fetchable, for all CPUs: by broadcast.
    fn duplicate(&mut self, source: u64) -> u64 {
        let frame = self.take();
        if frame != 0 {
            Physical.copy_page(frame, source);
            if self.place.region.most.contains(Rights::X) {
                sys::sync_code(frame, PAGE_SIZE);
            }
        }
        frame
    }
}
