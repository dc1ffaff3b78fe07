//! What pagers remember about a page (boot option `history=on`), after threads of two nodes have done with it what this case knows.

use core::sync::atomic::{AtomicBool, Ordering};

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain::FIRST_TASK;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, ThreadId};
use skerry_ipc::pager::{Event, RegionKind, What};
use skerry_rt::history::{self, History};
use skerry_rt::{start, task, utcb};

use super::crowd::{Failure, PAGES, cpus, ensure, join, page, region, spawn};

static OVER: AtomicBool = AtomicBool::new(false);

/// Writes its name to the page, and stays until the end.
extern "C" fn write(_: u64) -> ! {
    page(PAGES, 0)[1].store(utcb::my_id().0, Ordering::SeqCst);
    while !OVER.load(Ordering::SeqCst) {
        skerry_rt::ipc::pause(2000);
    }
    task::exit(exit::PASS)
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    region(PAGES, 2, RegionKind::Global)?;
    let (me, pager) = (utcb::my_id(), start::my_pager());
    let (own, other) = (start::app().places().next(), start::app().places().last());
    let (Some((own, _)), Some((other, _))) = (own, other) else { return ensure(false, "no nodes") };
    page(PAGES, 0)[0].store(1, Ordering::SeqCst);
    let thread = spawn(cpus() - 1, write, 0)?;
    while page(PAGES, 0)[1].load(Ordering::SeqCst) == 0 {
        skerry_rt::ipc::pause(2000);
    }
    let writer = ThreadId(page(PAGES, 0)[1].load(Ordering::SeqCst));
    task::move_pages(PAGES, 1, other)?;
    page(PAGES, 0)[0].load(Ordering::SeqCst);
    task::unmap(PAGES, 1)?;
    OVER.store(true, Ordering::SeqCst);
    join(thread)?;
    page(PAGES, 1)[0].store(1, Ordering::SeqCst);
    // Its pager's thread is the one that led, so it is who wrote the letter.
    let expected = [
        (What::Fresh, own, me),
        (What::Installed, other, writer),
        (What::Told, other, pager),
        (What::Moved, own, me),
        (What::Installed, own, me),
        (What::Unmapped, own, me),
    ];
    let task = (FIRST_TASK, PAGES);
    let mut events = History::of(task.0, task.1);
    let mut last = 0;
    for (what, node, who) in expected {
        let event = events.next().ok_or(Failure::Seen("the history ends early"))??;
        if (event.what, event.node, event.who) != (what, node, who) || event.time < last {
            skerry_rt::println!("{event:?} instead of {what:?} on node {node} by {who:?}");
            return ensure(false, "another history");
        }
        last = event.time;
    }
    ensure(events.next().is_none(), "more has happened")?;
    history::emit(task.0, task.1)?;
    // Of the other page it is another one, and of no page there is none.
    let second = History::of(task.0, PAGES + PAGE_SIZE).map(|event| event.map(|event| event.what));
    ensure(second.eq([Ok::<_, Error>(What::Fresh)]), "the other page's history")?;
    ensure(History::of(task.0, PAGES + (1 << 20)).next().is_none(), "a history of nothing")?;
    // No more is kept than there is room for: the beginning goes.
    for _ in 0..1200 {
        page(PAGES, 1)[0].store(1, Ordering::SeqCst);
        task::unmap(PAGES + PAGE_SIZE, 1)?;
    }
    ensure(
        History::of(task.0, PAGES).filter(|event| matches!(event, Ok(Event { .. }))).count() < 6,
        "nothing is forgotten",
    )
}
