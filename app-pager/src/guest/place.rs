//! Where the words of a task's page are.

use core::sync::atomic::{AtomicU64, Ordering};

use app_pager::board::Region;
use app_pager::options::PagesAhead;
use app_pager::page::{self, Page};
use app_pager::protocols::entry::{Entry, State};
use app_pager::protocols::local::Local;
use app_pager::roll::Roll;
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::RegionKind;

use super::memory::Physical;
use super::state::{Context, board_at, book_at};
use super::{grace, table as far};

/// A region as one seat sees it. A thread remembers the last one: mostly the next page is in it, too. Regions and tables stay where they
/// are until their task ends.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) task: u32,
    /// The task, if the short ways through the machines are for this place; 0, and they do not see that it is the one they look for,
    /// if [`super::watch`] is.
    key: u32,
    /// The cluster whose pager has the master table, if that is reached by messages.
    pub(super) master_of: Option<u16>,
    /// A policy says where fresh pages go.
    pub(super) by_policy: bool,
    /// For whose threads.
    pub(super) node: u16,
    epoch: u64,
    pub(super) region: Region,
    /// The task's roll, if it has a quota.
    pub(super) roll: Option<Roll<'static>>,
    pub(super) book: u64,
    /// How many pages a fault may establish.
    pub(super) ahead: PagesAhead,
    /// Its local table.
    table: u64,
}

impl Place {
    /// Nowhere.
    pub(super) const NONE: Self = Self {
        task: 0,
        key: 0,
        master_of: None,
        by_policy: false,
        node: 0,
        epoch: 0,
        region: Region::NONE,
        roll: None,
        book: 0,
        ahead: PagesAhead::One,
        table: 0,
    };

    /// Whether it is the one for this page.
    #[inline(always)]
    pub(super) fn covers(&self, task: u32, address: u64) -> bool {
        self.key == task
            && address.wrapping_sub(self.region.base) < self.region.size
            && self.epoch == grace::epoch()
    }
    /// Whether it is the one for this page, and the short ways are not for it.
    pub(super) fn covers_watched(&self, task: u32, address: u64) -> bool {
        self.is_watched()
            && self.task == task
            && address.wrapping_sub(self.region.base) < self.region.size
            && self.epoch == grace::epoch()
    }
    /// Whether the short ways are not for it.
    pub(super) const fn is_watched(&self) -> bool {
        self.key == 0
    }
    /// The same for who has made sure since the thread last waited that it is of this life.
    #[inline(always)]
    pub(super) fn holds(&self, task: u32, address: u64) -> bool {
        self.key == task && address.wrapping_sub(self.region.base) < self.region.size
    }
    /// Forgets what may be gone since the thread last waited.
    pub(super) fn refresh(&mut self) {
        if self.epoch != grace::epoch() {
            *self = Self::NONE;
        }
    }
    /// Whether the pages are the business of all nodes.
    pub(super) const fn is_global(&self) -> bool {
        self.region.table != 0
    }
    fn index(&self, address: u64) -> u64 {
        (address - self.region.base) >> PAGE_BITS
    }
    /// The local word of a page.
    #[inline(always)]
    pub(super) fn local(&self, address: u64) -> &'static AtomicU64 {
        &Physical.words_at(self.table + self.index(address) * 8, 1)[0]
    }
    /// Entry and sharers of a page, of which there are `W` words, where there are any.
    #[inline(always)]
    pub(super) fn master<const W: usize>(&self, address: u64) -> &'static [AtomicU64] {
        Physical.words_at(self.entry_at::<W>(address), page::words(W))
    }
    /// Where they are.
    #[inline(always)]
    pub(super) fn entry_at<const W: usize>(&self, address: u64) -> u64 {
        self.region.table + self.index(address) * 8 * page::words(W) as u64
    }
    /// The word of a page's group.
    #[inline(always)]
    pub(super) fn group(&self, address: u64) -> &'static AtomicU64 {
        let Region { base, .. } = self.region;
        &Physical.words_at(page::group_at(self.table, base, self.region.pages(), address), 1)[0]
    }
    /// All words of a page.
    #[inline(always)]
    pub(super) fn page<const W: usize>(&self, address: u64) -> Page<'static> {
        let master = if self.is_global() { self.master::<W>(address) } else { &[] };
        Page { local: self.local(address), group: self.group(address), master }
    }
}

/// The region of `task` at `address`, with the book and the local table of a node's space.
///
/// # Errors
/// [`Error::NothingMapped`] if the task has nothing there, [`Error::OutOfMemory`] or [`Error::OverQuota`] if there is no room for the table.
#[inline(never)]
pub(super) fn find(context: &Context, task: u32, node: u16, address: u64) -> Result<Place, Error> {
    let epoch = grace::epoch();
    let space_index = context.space_index(node);
    let (board, space) = {
        let mut state = context.state();
        let task = state.task(task).map_err(|_| Error::NothingMapped)?;
        (task.board, task.spaces[space_index])
    };
    let board = board_at(board)?;
    let (index, region) = board.find(address).ok_or(Error::NothingMapped)?;
    if space.book == 0 {
        return Err(Error::NothingMapped);
    }
    let table = local_table(context, (task, &board.roll()), node, space.book, index, &region)?;
    let roll = Some(board.roll()).filter(Roll::is_limited);
    let plain = roll.is_none()
        && region.bytes == 0
        && region.kind != RegionKind::ReadOnly
        && !region.most.contains(Rights::X);
    let master_of = far::remote_owner(context, region.table);
    // What is one node's own, or copied to each, lies there.
    let by_policy = context.options.policy.is_some() && region.kind == RegionKind::Global;
    Ok(Place {
        task,
        key: if master_of.is_some() || by_policy || context.options.is_watched() { 0 } else { task },
        master_of,
        by_policy,
        node,
        epoch,
        region,
        roll,
        book: space.book,
        ahead: if plain { context.options.ahead.for_region(region.ahead) } else { PagesAhead::One },
        table,
    })
}

/// The local table of a region, which is made when it is first looked for.
fn local_table(
    context: &Context,
    task: (u32, &Roll<'_>),
    node: u16,
    book: u64,
    index: usize,
    region: &Region,
) -> Result<u64, Error> {
    let book = book_at(book)?;
    if let Some(table) = book.table(index) {
        return Ok(table);
    }
    let bytes = page::local_bytes(region.pages());
    let table = context.cleared_for(task, node, region.base, bytes)?;
    match book.set_table(index, table) {
        Ok(()) => Ok(table),
        Err(0) => Err(Error::BadArgument),
        Err(winner) => {
            context.give_back(table, bytes);
            Ok(winner)
        }
    }
}

/// The entry of a task's page in the master table.
pub(super) fn entry_of(context: &Context, task: u32, address: u64) -> Option<&'static AtomicU64> {
    let board = context.state().task(task).ok()?.board;
    let (_, region) = board_at(board).ok()?.find(address)?;
    let words = page::words(context.seats().words()) as u64;
    (region.table != 0)
        .then(|| &Physical.words_at(region.table + region.page(address) as u64 * 8 * words, 1)[0])
}

fn word_at(address: u64) -> u64 {
    Physical.words_at(address, 1)[0].load(Ordering::SeqCst)
}

/// The frame that a task's page has in the space of this pager's node, or in the master table.
pub(super) fn frame_of(context: &Context, task: u32, address: u64) -> Option<u64> {
    let space_index = context.space_index(context.node);
    let (board, book) = {
        let mut state = context.state();
        let task = state.task(task).ok()?;
        (task.board, task.spaces[space_index].book)
    };
    let (index, region) = board_at(board).ok()?.find(address)?;
    let number = region.page(address) as u64;
    let entry = |table: u64| Entry(word_at(table + number * 8 * page::words(context.seats().words()) as u64));
    if region.table != 0
        && entry(region.table).state() == State::Replicated
        && book != 0
        && let Some(table) = book_at(book).ok()?.table(index)
    {
        // This node's copy, if it has one.
        let own = Local(word_at(table + number * 8)).frame();
        if own != 0 {
            return Some(own);
        }
    }
    let word = match region.table {
        0 if book == 0 => return None,
        0 => book_at(book).ok()?.table(index)? + number * 8,
        table => table + number * 8 * page::words(context.seats().words()) as u64,
    };
    // Local words and entries have the frame in the same bits.
    let frame = Entry(word_at(word)).frame();
    (frame != 0).then_some(frame)
}
