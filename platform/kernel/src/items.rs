//! What a message maps and grants.
//!
//! Everything happens at one moment, under the cluster lock: guard words are compared, all items are checked, and all of them
//! take effect or none does. So an unmap by another thread comes before or after the whole message, never in between, and if a
//! pager changes a guard word before it unmaps, no map of what it unmaps can come after (DESIGN section 4, rule 1).

use crate::hal::Hal;
use crate::ipc::Source;
use crate::kernel::Kernel;
use skerry_abi::item::{Cacheability, Guard};
use skerry_abi::message::MAX_WORDS;
use skerry_abi::{Counter, Error, Fpage, Item, Tag};
use skerry_checks::{Check, passes};
use skerry_mapping_db::{Attr, Transfer};
use skerry_trace::Event;

/// Items have at least two words.
const MAX_ITEMS: usize = MAX_WORDS / 2;

/// What the mapping database is to do for an item.
fn transfer(item: &Item) -> Transfer {
    let attr = match item.cacheability {
        Cacheability::Inherit => Attr::Normal,
        Cacheability::NonCacheable => Attr::NonCacheable,
        Cacheability::Device => Attr::Device,
    };
    Transfer { src: item.fpage, dest: item.dest, attr, grant: item.grant }
}

impl<H: Hal> Kernel<'_, H> {
    /// Maps the typed items of a message from the space of `s` to that of `t`: all of them or, after an error, none.
    pub(crate) fn map_items(&mut self, s: u32, t: u32, tag: Tag) -> Result<(), Error> {
        let mut words = [0; MAX_WORDS];
        let typed = &mut words[..tag.typed()];
        for (word, i) in typed.iter_mut().zip(tag.untyped() + 1..) {
            *word = self.word_of(Source::Thread(s), i);
        }
        let mut typed = &*typed;
        let window = self.threads[t as usize].op.window;
        let (from, to) = (self.threads[s as usize].space, self.threads[t as usize].space);
        let none = Transfer { src: Fpage::NIL, dest: 0, attr: Attr::Normal, grant: false };
        let mut transfers = [none; MAX_ITEMS];
        let mut count = 0;
        while !typed.is_empty() {
            let (item, used) = Item::decode(typed)?;
            typed = &typed[used..];
            let inside = !window.is_nil()
                && item.dest >= window.base()
                && item.dest + item.fpage.size() <= window.end();
            if !passes(Check::Window, inside) {
                return Err(Error::WindowTooSmall);
            }
            if let Some(guard) = item.guard
                && !passes(Check::Guard, self.read_guard(from, guard)? == guard.expected)
            {
                continue;
            }
            transfers[count] = transfer(&item);
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let (db, mut tlb) = self.db_and_tlb();
        let mapped = match &transfers[..count] {
            &[Transfer { src, dest, attr, grant: false }] => db.map(&mut tlb, from, src, to, dest, attr)?,
            transfers => db.map_items(&mut tlb, from, to, transfers)?,
        };
        self.counters.add(Counter::Maps, u64::from(mapped.pages));
        // One record per message: where the first item went, and the pages of all.
        self.trace(|k| Event::Map {
            space: k.spaces[usize::from(to)].id,
            address: transfers[0].dest,
            bits: transfers[0].src.bits() as u8,
            pages: mapped.pages,
        });
        Ok(())
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
