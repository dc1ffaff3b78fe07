//! Noting what becomes of pages, and telling of it: see [`app_pager::history`].

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use app_pager::history::{BYTES, Event, RING_WORDS, Ring, What};
use app_pager::protocols::lead::Goal;
use skerry_abi::{Error, ThreadId};
use skerry_ipc::pager::Stats;
use skerry_rt::sys;

use super::fault::Decision;
use super::memory::Physical;
use super::place::frame_of;
use super::state::Context;
use super::task;

/// Where this pager's ring is; 0: there is none.
static RING: AtomicU64 = AtomicU64::new(0);

/// Makes the ring, if the boot option says so.
pub(super) fn begin(context: &Context) -> Result<(), Error> {
    if context.options.history {
        RING.store(context.cleared(context.node, BYTES)?, Relaxed);
    }
    Ok(())
}

fn ring() -> Option<Ring<'static>> {
    let at = RING.load(Relaxed);
    (at != 0).then(|| Ring::new(Physical.words_at(at, RING_WORDS))).flatten()
}

/// Notes what was decided about a page, because of whom.
#[cold]
#[inline(never)]
pub(super) fn note(
    context: &Context,
    (task, address): (u32, u64),
    (what, frame): (What, u64),
    who: ThreadId,
) {
    if let Some(ring) = ring() {
        let event = Event { time: sys::counter_time(), who, what, node: context.node, frame };
        ring.add(context.page_number(task, address), event);
    }
}

/// A fault of a thread, what was decided, and what that cost.
#[cold]
pub(super) fn fault(
    context: &Context,
    (task, address): (u32, u64),
    (decision, cost): (&Decision, Stats),
    who: ThreadId,
) {
    let noted = match decision {
        Decision::Map(_, word) if word.is_copy() => (What::Copied, word.frame()),
        Decision::Map(_, word) if cost.allocations != 0 && cost.takeovers == 0 => (What::Fresh, word.frame()),
        Decision::Map(_, word) => (What::Installed, word.frame()),
        Decision::Park => (What::Waited, 0),
        Decision::Collapse => (What::Unshared, 0),
        Decision::Reject => (What::Refused, 0),
        Decision::NoMemory(_) => (What::NoFrame, 0),
        // Nobody answers several pages at a time when this is on.
        Decision::Several(_) | Decision::Kept => return,
    };
    note(context, (task, address), noted, who);
}

/// A leader is done with these pages.
#[cold]
pub(super) fn led(context: &Context, task: u32, pages: impl Iterator<Item = u64>, goal: Goal, who: ThreadId) {
    let what = match goal {
        Goal::Unmap => What::Unmapped,
        Goal::Restrict(_) => What::Restricted,
        Goal::Allow(_) => What::Allowed,
        Goal::Migrate(_) => What::Moved,
        Goal::Replicate => What::Replicated,
        Goal::Collapse => What::Collapsed,
        Goal::Part(_) => What::Parted,
        Goal::Join => What::Joined,
        Goal::Recover(_) => What::Recovered,
    };
    for address in pages {
        note(context, (task, address), (what, frame_of(context, task, address).unwrap_or(0)), who);
    }
}

/// What this pager remembers about a page.
///
/// # Errors
/// [`Error::WrongState`]: nothing is remembered.
pub(super) fn next(page: u64, from: u64) -> Result<(u64, Option<Event>), Error> {
    let ring = ring().ok_or(Error::WrongState)?;
    Ok(ring.next(page, from).map_or((from, None), |(behind, event)| (behind, Some(event))))
}

/// The same, of the pager of a node, for a task that asks about its own page or that of one that it has started.
pub(super) fn ask(
    context: &Context,
    by: u32,
    (task, address): (u32, u64),
    node: u16,
    from: u64,
) -> Result<(u64, Option<Event>), Error> {
    if task != by && !task::known(context, task).is_ok_and(|task| task.view.roll().parent() == by) {
        return Err(Error::Refused);
    }
    let cpu = context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
    let page = context.page_number(task, address);
    match cpu.cluster == context.cluster {
        true => next(page, from),
        false => context.peer(cpu.cluster)?.page_history(page, from),
    }
}
