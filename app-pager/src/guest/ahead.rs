//! Establishing the pages of a group together: the machine of the page that was touched, and one for each of the others.
//!
//! As for single pages, what nearly always happens is written out, one line per effect: nobody has the page yet. What comes out is one
//! answer, guarded by the group's word (see [`app_pager::protocols::fault`]).

use core::ptr;

use app_pager::Memory;
use app_pager::options::PagesAhead;
use app_pager::page::{GROUP_BITS, GROUP_PAGES, perform};
use app_pager::pool::{Cursor, Handful};
use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::fault::{Effect, Fault, Group, Scope};
use app_pager::protocols::local::Local;
use app_pager::protocols::record::Record;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::item::Guard;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{Fpage, Item, Rights};
use skerry_ipc::pager::Stats;
use skerry_rt::utcb::{self, Registers};

use super::audit;
use super::fault::{Decision, Faults, LOOKED, NOTHING, OWN, PUBLISHED, Run, Unfinished, count};
use super::memory::Physical;
use super::place::Place;

/// Bytes of a group.
const GROUP_SIZE: u64 = 1 << GROUP_BITS;
/// Faults that do without a block after one that found none: looking for one takes long where memory is in pieces.
const PAUSE: u16 = 64;

/// What a pager thread keeps for this.
pub(super) struct Company {
    /// Where the last such fault was.
    pub(super) place: Place,
    /// Where blocks of frames come from.
    blocks: Cursor,
    pause: u16,
    /// What was decided about it.
    pub(super) decision: Decision,
    /// What that cost, if somebody wants to know.
    pub(super) cost: Stats,
    /// The first words of an answer with several items.
    pub(super) words: [u64; REGISTER_WORDS],
}

impl Company {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::NONE,
            blocks: Cursor::NONE,
            pause: 0,
            decision: Decision::Reject,
            cost: NOTHING,
            words: [0; REGISTER_WORDS],
        }
    }
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

/// A group whose pages are being established.
struct Together<'a, const W: usize> {
    run: Run<'a, W>,
    group: Group,
    /// The first address of the group.
    start: u64,
    /// Adjacent frames for all of them, cleared; 0: there are none.
    block: u64,
    /// Other frames.
    some: Handful,
    /// Pages that are not established, and those of them whose frame of the block nobody has got.
    missing: u16,
    spare: u16,
    /// Where the items go: that of a page to MR3 and MR4 plus twice its number.
    items: Registers,
}

/// The number of a page in its group.
const fn index(address: u64) -> usize {
    ((address & (GROUP_SIZE - 1)) / PAGE_SIZE) as usize
}

impl<const W: usize> Faults<W> {
    /// Decides about an access to a page of [`Company::place`].
    #[inline(never)]
    pub(super) fn together(&mut self, address: u64, access: Rights) -> Decision {
        let Self { context, me, cursor, company, .. } = self;
        let Company { place, blocks, pause, words, .. } = company;
        let word = place.group(address);
        // Before one of the pages is installed.
        let group = Group(perform(word, Access::Load));
        let guard = Guard { address: ptr::from_ref(word).addr() as u64, expected: group.0 };
        let run = Self::run((context, *me), cursor, place, address, access);
        let start = address & !(GROUP_SIZE - 1);
        let mut together = Together {
            run,
            group,
            start,
            block: 0,
            some: Handful::NONE,
            missing: 0,
            spare: 0,
            items: utcb::registers(),
        };
        let all = match place.is_global() {
            true => together.all::<true>(address, (blocks, pause)),
            false => together.all::<false>(address, (blocks, pause)),
        };
        match all {
            Ok(own) => together.answer(address, own, guard, words),
            Err((machine, effect, stats)) => together.run.general(machine, effect, stats),
        }
    }
}

impl<const W: usize> Together<'_, W> {
    /// Runs all machines. What the page that was touched is to be mapped as, or its machine if something else is to be done for it.
    #[inline(always)]
    fn all<const GLOBAL: bool>(
        &mut self,
        address: u64,
        blocks: (&mut Cursor, &mut u16),
    ) -> Result<Local, Unfinished> {
        let asked = self.asked::<GLOBAL>(address, blocks);
        let own = address & !(PAGE_SIZE - 1);
        match asked {
            // Somebody has said what threads may do with this page: it is answered alone.
            Ok(word) if word.rights() != self.run.place.region.rights => {
                (self.spare, self.missing) = (!(1 << index(own)), !(1 << index(own)));
                self.end();
                return asked;
            }
            Ok(word) => self.note(own, word),
            Err((_, _, stats)) => {
                self.spare = if stats.allocations == 0 { u16::MAX } else { !(1 << index(own)) };
                self.end();
                return asked;
            }
        }
        let region = &self.run.place.region;
        let (first, end) = (self.start.max(region.base), (self.start + GROUP_SIZE).min(region.end()));
        if end - first != GROUP_SIZE {
            self.missing = !(((1u32 << ((end - first) / PAGE_SIZE)) - 1) << index(first)) as u16;
        }
        let mut next = first;
        while next != end {
            if next != own {
                match self.ahead::<GLOBAL>(next) {
                    Ok(word) => self.note(next, word),
                    Err((machine, effect, stats)) => {
                        if stats.allocations == 0 {
                            self.spare |= 1 << index(next);
                        }
                        self.finish(machine, effect, next);
                    }
                }
            }
            next += PAGE_SIZE;
        }
        self.end();
        asked
    }

    /// What the page at this address is to be mapped as. (Of a block, that is known.)
    #[inline(always)]
    fn note(&self, address: u64, word: Local) {
        if self.block == 0 {
            self.write(address, word);
        }
    }
    #[inline(always)]
    fn write(&self, address: u64, word: Local) {
        let at = 2 * index(address);
        self.items.set(at + 3, Fpage::page(word.frame(), word.rights()).word());
        self.items.set(at + 4, address | Item::JOINED);
    }

    /// The record of the page at an address.
    #[inline(always)]
    const fn record(&self, address: u64) -> Record {
        Record::taken(self.run.context.page_number(self.run.place.task, address), self.run.me)
    }

    /// Frames that nobody has got go back.
    #[inline(always)]
    fn end(&mut self) {
        if self.spare != 0 && self.block != 0 || !self.some.is_empty() {
            self.give_rest_back();
        }
    }

    /// The page that was touched.
    #[inline(always)]
    fn asked<const GLOBAL: bool>(
        &mut self,
        address: u64,
        blocks: (&mut Cursor, &mut u16),
    ) -> Result<Local, Unfinished> {
        let Run { me, access, place, .. } = self.run;
        let local = place.local(address);
        let mut machine = Fault::in_company(me, scope::<GLOBAL>(), access, place.region.rights, self.group);
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Load) => perform(local, act));
        let found = next!(machine, found, NOTHING, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        self.fresh::<GLOBAL>(machine, found, address, |this| {
            this.take_block(address, blocks);
            match this.allocate(address) {
                0 => this.run.allocate(),
                frame => frame,
            }
        })
    }

    /// Another one.
    #[inline(always)]
    fn ahead<const GLOBAL: bool>(&mut self, address: u64) -> Result<Local, Unfinished> {
        let Run { me, place, .. } = self.run;
        let mut machine = Fault::ahead(me, scope::<GLOBAL>(), place.region.rights, self.group);
        let local = place.local(address);
        let found = next!(machine, 0, NOTHING, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        self.fresh::<GLOBAL>(machine, found, address, |this| this.allocate(address))
    }

    /// A page that nobody has, from where its local word is busy.
    #[inline(always)]
    fn fresh<const GLOBAL: bool>(
        &mut self,
        mut machine: Fault,
        found: u64,
        address: u64,
        allocate: impl FnOnce(&mut Self) -> u64,
    ) -> Result<Local, Unfinished> {
        let local = self.run.place.local(address);
        if !GLOBAL {
            let frame = next!(machine, found, NOTHING, Effect::Allocate => allocate(self));
            let found = next!(machine, frame, OWN, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
            return Ok(next!(machine, found, OWN, Effect::Map(word) => word));
        }
        let page = self.run.place.page::<W>(address);
        let master = &page.master[0];
        let found = next!(machine, found, NOTHING, Effect::Access(Word::Master, act @ Access::Load) => perform(master, act));
        let frame = next!(machine, found, LOOKED, Effect::Allocate => allocate(self));
        let found = next!(machine, frame, PUBLISHED,
            Effect::Access(word @ Word::Sharers(_), act @ Access::Set(_)) => page.access(word, act));
        let found = next!(machine, found, PUBLISHED, Effect::Access(Word::Master, act @ Access::Swap { .. }) => perform(master, act));
        let found = next!(machine, found, PUBLISHED, Effect::Access(Word::Local, act @ Access::Swap { .. }) => perform(local, act));
        Ok(next!(machine, found, PUBLISHED, Effect::Map(word) => word))
    }

    /// Whatever the machine of a page that was not asked for wants, to its end.
    #[cold]
    #[inline(never)]
    fn finish(&mut self, mut machine: Fault, mut effect: Effect, address: u64) {
        let page = self.run.place.page::<W>(address);
        loop {
            let answer = match effect {
                Effect::Access(word, access) => page.access(word, access),
                Effect::GiveBack(frame) => {
                    self.run.context.give_back(frame, PAGE_SIZE);
                    0
                }
                Effect::WakeNode => {
                    self.run.context.wake_node();
                    0
                }
                Effect::Map(word) => return self.note(address, word),
                // It has had its frame, if it gets one.
                Effect::Allocate => 0,
                // It passes whatever is not simple.
                _ => {
                    self.missing |= 1 << index(address);
                    return;
                }
            };
            effect = machine.step(answer);
        }
    }

    /// A cleared frame for a page that was not asked for: no other node's, and 0 if there is none.
    #[inline(always)]
    fn allocate(&mut self, address: u64) -> u64 {
        if self.block != 0 {
            return self.of_block(address);
        }
        let record = self.record(address);
        let frame = match self.some.take(&Physical, record) {
            Some(frame) => frame,
            None => self.search(address, record),
        };
        if frame != 0 {
            Physical.clear(frame, PAGE_SIZE);
        }
        frame
    }
    #[inline(never)]
    fn search(&mut self, address: u64, record: Record) -> u64 {
        // For this page and those that come after it.
        let own = self.run.address & !(PAGE_SIZE - 1);
        let most = if address & !(PAGE_SIZE - 1) == own {
            GROUP_PAGES as u64
        } else {
            let later = u64::from(own > address);
            (self.start + GROUP_SIZE - address) / PAGE_SIZE - later
        };
        self.some = self.run.cursor.take_some(&Physical, most as u32);
        self.audit();
        if let Some(frame) = self.some.take(&Physical, record) {
            return frame;
        }
        *self.run.cursor = self.run.context.cursor(self.run.node()).unwrap_or(Cursor::NONE);
        self.some = self.run.cursor.take_some(&Physical, most as u32);
        self.audit();
        self.some.take(&Physical, record).unwrap_or(0)
    }
    /// Each frame is looked at, if that is wanted.
    fn audit(&self) {
        let mut all = self.some;
        while self.run.context.options.audit
            && let Some(frame) = all.take(&Physical, Record::FREE)
        {
            audit::taken(frame, 1);
        }
    }
    #[inline(always)]
    const fn of_block(&self, address: u64) -> u64 {
        self.block + (address & (GROUP_SIZE - PAGE_SIZE))
    }

    /// Takes adjacent frames for all pages, if that is wanted and can be.
    #[inline(always)]
    fn take_block(&mut self, address: u64, (blocks, pause): (&mut Cursor, &mut u16)) {
        let (place, start) = (self.run.place, self.start);
        let whole = place.region.base <= start && start + GROUP_SIZE <= place.region.end();
        if place.ahead != PagesAhead::Block || !whole {
            return;
        }
        // If the neighbour is not to be had, most are not.
        if !Local(perform(place.local(address ^ PAGE_SIZE), Access::Load)).is_empty() {
            return;
        }
        let record = self.record(start);
        let found = blocks.take_block(&Physical, record);
        self.block = found.unwrap_or_else(|| self.search_block(record, blocks, pause));
        if self.block != 0 {
            Physical.clear(self.block, GROUP_SIZE);
        }
    }
    #[cold]
    #[inline(never)]
    fn search_block(&mut self, record: Record, blocks: &mut Cursor, pause: &mut u16) -> u64 {
        if *pause != 0 {
            *pause -= 1;
            return 0;
        }
        *blocks = self.run.context.cursor(self.run.node()).unwrap_or(Cursor::NONE);
        let Some(block) = blocks.take_block(&Physical, record) else {
            *pause = PAUSE;
            return 0;
        };
        if self.run.context.options.audit {
            // Each is looked at, so each is searched for.
            *blocks = Cursor::NONE;
            audit::taken(block, GROUP_PAGES as u64);
        }
        block
    }
    #[cold]
    #[inline(never)]
    fn give_rest_back(&mut self) {
        for page in (0..GROUP_PAGES as u64).filter(|page| self.block != 0 && self.spare >> page & 1 != 0) {
            self.run.context.give_back(self.block + page * PAGE_SIZE, PAGE_SIZE);
        }
        while let Some(frame) = self.some.take(&Physical, Record::FREE) {
            self.run.context.give_back(frame, PAGE_SIZE);
        }
    }

    /// The answer, and what it is counted as.
    #[inline(always)]
    fn answer(&self, address: u64, own: Local, guard: Guard, first: &mut [u64; REGISTER_WORDS]) -> Decision {
        let Run { context, place, .. } = &self.run;
        let pages = if self.missing == 0 { GROUP_PAGES } else { self.close_up(own) };
        if place.region.measured {
            let allocations = pages as u64;
            let lookups = if place.is_global() { allocations } else { 0 };
            count(context, place, Stats { faults: 1, lookups, allocations, ..NOTHING });
        }
        if pages == 1 {
            return Decision::Map(place.local(address), own);
        }
        // The first item has the guard.
        let (address, expected) = (guard.address, guard.expected);
        if self.block != 0 && pages == GROUP_PAGES {
            // The block's fpage, as what its pool knows to be aligned.
            let fpage = Fpage::new(self.block, GROUP_BITS, own.rights()).map_or(0, Fpage::word);
            *first = [fpage, self.start | Item::GUARDED, address, expected, 0, 0, 0, 0];
            return Decision::Several(4);
        }
        let [fpage, dest, a, b, c, d] = core::array::from_fn(|word| self.items.get(word + 3));
        *first = [fpage, dest & !Item::JOINED | Item::GUARDED, address, expected, a, b, c, d];
        Decision::Several(2 * pages + 2)
    }

    /// Leaves out the items of pages that are missing. How many are there.
    #[cold]
    #[inline(never)]
    fn close_up(&self, own: Local) -> usize {
        let mut pages = 0;
        for page in (0..GROUP_PAGES as u64).filter(|_| self.block != 0) {
            let (address, frame) = (self.start + page * PAGE_SIZE, self.block + page * PAGE_SIZE);
            self.write(address, Local::present(frame, own.rights()));
        }
        for page in (0..GROUP_PAGES).filter(|page| self.missing >> page & 1 == 0) {
            for word in [3, 4] {
                self.items.set(2 * pages + word, self.items.get(2 * page + word));
            }
            pages += 1;
        }
        pages
    }
}

const fn scope<const GLOBAL: bool>() -> Scope {
    if GLOBAL { Scope::Global } else { Scope::Local }
}
