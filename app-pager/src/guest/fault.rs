//! Answering page faults.

use core::sync::atomic::{AtomicU64, Ordering};

use app_pager::Memory;
use app_pager::board::Region;
use app_pager::entry::{Entry, table_bytes};
use app_pager::establish::{Frames, Stop, establish};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::{Error, Fpage, MapItem, Rights};
use skerry_rt::image::page_bytes;
use skerry_rt::sys;

use super::memory::Physical;
use super::state::{Context, board_at, book_at};

/// What to tell the kernel.
pub(super) enum Decision {
    /// Map this.
    Map(MapItem),
    /// Somebody is changing the page: let the thread fault again.
    Retry,
    /// The task has no business there.
    Reject,
    /// No frame on this node.
    OutOfMemory(u16),
}

/// Fresh frames for one page.
struct Fresh<'a> {
    context: &'a Context,
    region: &'a Region,
    page: usize,
    node: u16,
}

impl Frames for Fresh<'_> {
    fn take(&mut self) -> Option<Entry> {
        let frame = self.context.state().allocate(self.node, 1)?;
        Physical.clear(frame, PAGE_SIZE);
        let (offset, from, count) = page_bytes(self.page as u64, self.region.skip, self.region.bytes);
        if count != 0 {
            Physical.copy(frame + offset, self.region.source + from, count);
        }
        if self.region.rights.contains(Rights::X) {
            sys::sync_code(frame, PAGE_SIZE);
        }
        Some(Entry::present(frame, self.region.rights, self.context.cluster, 1))
    }
    fn give_back(&mut self, entry: Entry) {
        self.context.state().pools.free(&Physical, entry.frame());
    }
}

/// The words of page `page` in the local table of a region, which is made on the first fault there.
fn local_table(context: &Context, book: u64, index: usize, region: &Region) -> Result<u64, Error> {
    let book = book_at(book)?;
    if let Some(table) = book.table(index) {
        return Ok(table);
    }
    let bytes = table_bytes(region.pages());
    let table = context.cleared(context.node, bytes)?;
    match book.set_table(index, table) {
        Ok(()) => Ok(table),
        Err(0) => Err(Error::BadArgument),
        Err(winner) => {
            context.give_back(table, bytes);
            Ok(winner)
        }
    }
}

/// Where a pager thread found what it needed for its last fault: mostly the next one is in the same region. Regions and tables stay where they
/// are until their task ends.
#[derive(Clone, Copy)]
pub(super) struct Recent {
    task: u32,
    epoch: u64,
    region: Region,
    book: u64,
    table: u64,
}

/// Counts the ends of tasks: what was found before is not to be used any more.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// A task has ended here.
pub(super) fn forget_recent() {
    EPOCH.fetch_add(1, Ordering::Release);
}

/// The region of `task` at `address`, with the book and the local table of the space that the fault is in.
#[inline(never)]
fn find(context: &Context, task: u32, address: u64) -> Result<Recent, Decision> {
    let epoch = EPOCH.load(Ordering::Acquire);
    let space_index = context.space_index(context.node);
    let (board, space) = match context.state().task(task) {
        Ok(task) => (task.board, task.spaces[space_index]),
        Err(_) => return Err(Decision::Reject),
    };
    let Some((index, region)) = board_at(board).ok().and_then(|board| board.find(address)) else {
        return Err(Decision::Reject);
    };
    if space.book == 0 {
        return Err(Decision::Reject);
    }
    match local_table(context, space.book, index, &region) {
        Ok(table) => Ok(Recent { task, epoch, region, book: space.book, table }),
        Err(Error::OutOfMemory) => Err(Decision::OutOfMemory(context.node)),
        Err(_) => Err(Decision::Reject),
    }
}

/// Decides about an access of a thread of `task` on this pager's CPU.
pub(super) fn decide(
    context: &Context,
    recent: &mut Option<Recent>,
    task: u32,
    address: u64,
    access: Rights,
) -> Decision {
    let is_it = |recent: &&Recent| {
        recent.task == task
            && address.wrapping_sub(recent.region.base) < recent.region.size
            && recent.epoch == EPOCH.load(Ordering::Acquire)
    };
    let Recent { region, book, table, .. } = match recent.as_ref().filter(is_it) {
        Some(recent) => recent,
        None => match find(context, task, address) {
            Ok(found) => recent.insert(found),
            Err(decision) => return decision,
        },
    };
    if !region.rights.contains(access) {
        return Decision::Reject;
    }
    let page = region.page(address);
    let slot = |table: u64| &Physical.words_at(table + page as u64 * 8, 1)[0];
    let master = (region.table != 0).then(|| slot(region.table));
    let node = context.options.placement.choose(context.node);
    let mut fresh = Fresh { context, region, page, node };
    match establish(slot(*table), master, &mut fresh) {
        Ok(done) => {
            if let (true, Ok(book)) = (region.measured, book_at(*book)) {
                book.count(context.node, &done);
            }
            let fpage = Fpage::new(done.entry.frame(), PAGE_BITS, done.entry.rights());
            let dest = address & !(PAGE_SIZE - 1);
            fpage.map_or(Decision::Reject, |fpage| Decision::Map(MapItem { fpage, dest }))
        }
        Err(Stop::Busy) => Decision::Retry,
        Err(Stop::OutOfMemory) => Decision::OutOfMemory(node),
    }
}

/// The frame that a task's page has in the space of this pager's node, if it has one.
pub(super) fn frame_of(context: &Context, task: u32, address: u64) -> Option<u64> {
    let space_index = context.space_index(context.node);
    let (board, book) = {
        let mut state = context.state();
        let task = state.task(task).ok()?;
        (task.board, task.spaces[space_index].book)
    };
    let (index, region) = board_at(board).ok()?.find(address)?;
    let table = match region.table {
        0 if book == 0 => return None,
        0 => book_at(book).ok()?.table(index)?,
        table => table,
    };
    let entry = Entry::load(&Physical.words_at(table + region.page(address) as u64 * 8, 1)[0]);
    (entry.frame() != 0).then(|| entry.frame())
}
