//! What a message maps and grants.
//!
//! Everything happens at one moment, under the cluster lock: guard words are compared, all items are checked, and all of them
//! take effect or none does. So an unmap by another thread comes before or after the whole message, never in between, and if a
//! pager changes a guard word before it unmaps, no map of what it unmaps can come after (DESIGN section 4, rule 1).

//!
//! Many items, or large ones, take several steps: see [`crate::long`]. Then it is the moment when all have been checked.

use crate::hal::Hal;
use crate::ipc::Source;
use crate::kernel::Kernel;
use crate::long::MESSAGE;
use skerry_abi::item::{Cacheability, Guard};
use skerry_abi::message::MAX_WORDS;
use skerry_abi::{Counter, Error, Item, Tag};
use skerry_checks::{Check, passes};
use skerry_mapping_db::{Attr, MAX_ITEMS, Outcome, Pairs, Transfer};
use skerry_trace::Event;

/// What it costs to read a word of an item, to decode an item, to compare a guard, and to map one of several pages.
const WORD: u32 = 2;
const ITEM: u32 = 6;
const GUARD: u32 = 16;
const PAGE: u32 = 10;

/// What has become of the items of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mapping {
    /// They are mapped, or will be before the receiver runs.
    Done,
    /// They are being checked: the sender has to wait.
    Later,
    /// Somebody else is in the middle of something: the sender has to try again.
    Again,
}

/// The items of a message, between which spaces.
pub(crate) struct Items {
    pub(crate) from: u16,
    pub(crate) to: u16,
    list: [Transfer; MAX_ITEMS],
    count: usize,
}

impl Items {
    /// Those whose guards say that they are to be mapped.
    pub(crate) fn list(&self) -> &[Transfer] {
        &self.list[..self.count]
    }
}

/// What the mapping database is to do for an item.
fn transfer(item: &Item) -> Transfer {
    let attr = match item.cacheability {
        Cacheability::Inherit => Attr::Normal,
        Cacheability::NonCacheable => Attr::NonCacheable,
        Cacheability::Device => Attr::Device,
    };
    Transfer { src: item.fpage, dest: item.dest, attr, grant: item.grant }
}

/// Several pages as [`skerry_mapping_db::MappingDb::map_pages`] wants them: the first pair, the others, and how many words those are.
fn simple_pages(list: &[Transfer]) -> Option<([u64; 2], [u64; 2 * MAX_ITEMS], usize)> {
    let simple = |item: &Transfer| item.attr == Attr::Normal && !item.grant;
    let (first, others) = list.split_first()?;
    if others.is_empty() || !list.iter().all(simple) {
        return None;
    }
    let mut words = [0; 2 * MAX_ITEMS];
    for (pair, item) in words.as_chunks_mut::<2>().0.iter_mut().zip(others) {
        *pair = [item.src.word(), item.dest];
    }
    Some(([first.src.word(), first.dest], words, 2 * others.len()))
}

impl<H: Hal> Kernel<'_, H> {
    /// What is to be mapped from the space of `s` to that of `t`.
    pub(crate) fn decode_items(&mut self, s: u32, t: u32, tag: Tag) -> Result<Items, Error> {
        let mut words = [0; MAX_WORDS];
        let typed = &mut words[..tag.typed()];
        self.budget.reduce(WORD * typed.len() as u32);
        for (word, i) in typed.iter_mut().zip(tag.untyped() + 1..) {
            *word = self.word_of(Source::Thread(s), i);
        }
        let mut typed = &*typed;
        let window = self.threads[t as usize].op.window;
        let (from, to) = (self.threads[s as usize].space, self.threads[t as usize].space);
        let mut items = Items { from, to, list: [Transfer::NONE; MAX_ITEMS], count: 0 };
        // Whether the last item takes effect; `None`: there was none.
        let mut holds = None;
        while !typed.is_empty() {
            let (item, used) = Item::decode(typed)?;
            typed = &typed[used..];
            let inside = !window.is_nil()
                && item.dest >= window.base()
                && item.dest + item.fpage.size() <= window.end();
            if !passes(Check::Window, inside) {
                return Err(Error::WindowTooSmall);
            }
            self.budget.reduce(ITEM);
            let fate = match item.guard {
                Some(guard) => {
                    self.budget.reduce(GUARD);
                    passes(Check::Guard, self.read_guard(from, guard)? == guard.expected)
                }
                None if item.joined => passes(Check::Joined, holds.ok_or(Error::BadArgument)?),
                None => true,
            };
            holds = Some(fate);
            if !fate {
                continue;
            }
            items.list[items.count] = transfer(&item);
            items.count += 1;
        }
        Ok(items)
    }

    /// Maps the typed items of a message from the space of `s` to that of `t`: all of them or, after an error, none.
    pub(crate) fn map_items(&mut self, s: u32, t: u32, tag: Tag) -> Result<Mapping, Error> {
        if self.db.is_held() {
            self.help();
            // Whatever that was may have changed what this is about.
            return Ok(Mapping::Again);
        }
        let items = self.decode_items(s, t, tag)?;
        let (from, to) = (items.from, items.to);
        let mut budget = self.budget;
        let (db, mut tlb) = self.db_and_tlb();
        let simple = match items.list() {
            [] => return Ok(Mapping::Done),
            &[Transfer { src, dest, attr: Attr::Normal, grant: false }] => db.map_simple(from, src, to, dest),
            list => simple_pages(list).and_then(|(first, words, count)| {
                let joined = &words[..count];
                db.map_pages(&mut tlb, from, to, &Pairs { first, joined, more: &[], flags: 0 })
            }),
        };
        let (pages, outcome) = match simple {
            Some(pages) => {
                self.hal.publish();
                self.counters.add(Counter::Maps, pages.into());
                budget.reduce(PAGE * pages);
                (pages, None)
            }
            None => {
                budget.reduce(MESSAGE);
                match db.plan_items(&mut tlb, from, to, items.list(), &mut budget) {
                    Outcome::Planned => (0, Some(db.commit_items(&mut tlb, &mut budget))),
                    Outcome::Failed(error) => {
                        self.budget = budget;
                        return Err(error);
                    }
                    _ => {
                        self.budget = budget;
                        return Ok(Mapping::Later);
                    }
                }
            }
        };
        self.budget = budget;
        let pages = match outcome {
            Some(Outcome::Done(mapped)) => mapped.pages,
            _ => pages,
        };
        if let Some(outcome) = outcome {
            self.committed(t, s, outcome);
        }
        // One record per message: where the first item went, and the pages of all.
        self.trace(|k| Event::Map {
            space: k.spaces[usize::from(to)].id,
            address: items.list()[0].dest,
            bits: items.list()[0].src.bits() as u8,
            pages,
        });
        Ok(Mapping::Done)
    }

    /// Whether a guard of thread `t` can be read and has the value it must have.
    #[inline(never)]
    pub(crate) fn guard_holds(&mut self, t: u32, guard: Guard) -> bool {
        let space = self.threads[t as usize].space;
        guard.is_sound() && self.read_guard(space, guard) == Ok(guard.expected)
    }

    /// The value of a guard word. The lock is held, so what is mapped now stays mapped until it is read.
    ///
    /// # Errors
    /// [`Error::NothingMapped`] if the sender cannot read there; [`Error::BadArgument`] for device memory, which a read can change.
    fn read_guard(&mut self, space: u16, guard: Guard) -> Result<u64, Error> {
        let found = self.db.lookup(space, guard.address).ok_or(Error::NothingMapped)?;
        if found.attr == Attr::Device {
            return Err(Error::BadArgument);
        }
        // Sets the access flag where the CPU does not: the read below must not fault.
        if !self.db.check(space, guard.address, skerry_abi::Rights::R) {
            return Err(Error::NothingMapped);
        }
        // This TLB will hold the page.
        self.note_run(space);
        let ttbr0 = self.spaces[usize::from(space)].ttbr0;
        Ok(self.hal.read_user(ttbr0, guard.address))
    }
}
