//! A task that tries everything that it may not: every operation of every interface, at every thread that it can name, with arguments that
//! are not its to use, and as malformed messages. Nothing but errors may come of it.

use skerry_abi::layout::{PINNED_BASE, USER_END};
use skerry_abi::message::MAX_WORDS;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, SpaceId, Tag, ThreadId, message::kernel_label};
use skerry_ipc::pager::{ANY_CPU, Birth, MAY_START, Op, Pages, TaskEnd};
use skerry_ipc::{Message, console, peer, root, syscall};
use skerry_rt::{ipc, start, sys, task, utcb};

use super::{Trouble, expect, failed};

/// Slots of each cluster's threads that are tried: servers are made first.
const SLOTS: u16 = 40;
/// A number that no thread of the task has: another task's.
const FOREIGN: u32 = 3;

fn code(result: Result<impl Sized, Error>) -> u64 {
    result.err().map_or(0, Error::code)
}

/// Insists that all of these are refused in this way.
fn refused<T>(
    what: &'static str,
    error: Error,
    results: impl IntoIterator<Item = Result<T, Error>>,
) -> Result<(), Trouble> {
    results.into_iter().try_for_each(|result| expect(what, code(result), error.code()))
}

/// Sends a request of so many words, all ones, and returns the error of the kernel or of the server.
fn request(to: ThreadId, label: u32, words: usize) -> u64 {
    let mut message = Message::new();
    message.buffer_mut().fill(u64::MAX);
    message.tag = Tag::new(label, words, 0);
    match ipc::call(to, &mut message) {
        Ok(_) => message.tag.label().into(),
        Err(error) => error.code(),
    }
}

/// The hostile task: has no right to start others. `parent` and `sibling` are tasks that are none of its business.
pub(super) fn attack(parent: u32, sibling: u32) -> Result<(), Trouble> {
    strangers()?;
    malformed()?;
    Op::ALL.iter().try_for_each(|&op| operation(op, parent, sibling))?;
    kernel(parent)
}

/// The labels of all operations of the interfaces that a task has no business with, and how many words to send.
fn labels() -> impl Iterator<Item = (u32, usize)> {
    let labels = console::Op::ALL.iter().map(|op| op.label());
    let labels = labels.chain(root::Op::ALL.iter().map(|op| op.label()));
    let labels = labels.chain(syscall::Op::ALL.iter().map(|op| op.label()));
    let labels = labels.chain(peer::Op::ALL.iter().map(|op| op.label()));
    labels.flat_map(|label| (0..=7).chain([MAX_WORDS]).map(move |words| (label, words)))
}

/// Every thread of the machine but its own pager is out of reach.
fn strangers() -> Result<(), Trouble> {
    let (me, pager) = (utcb::my_id(), start::my_pager());
    let clusters = start::app().places().count() as u16;
    let all = (0..clusters).flat_map(|cluster| (0..SLOTS).map(move |slot| ThreadId::new(cluster, slot, 1)));
    let mut reached = 0;
    for thread in all.filter(|&thread| thread != me && thread != pager) {
        reached += u64::from(sys::notify(thread, !0).is_ok() && thread.cluster() == me.cluster());
        for (label, words) in labels() {
            let error = Error::from_code(request(thread, label, words));
            let out_of_reach = matches!(error, Error::NotPermitted | Error::NoSuchThread);
            expect("a call of a stranger", u64::from(out_of_reach), 1)?;
        }
    }
    expect("notifications of strangers", reached, 0)?;
    // Its own pager serves one interface.
    for (label, words) in labels() {
        expect("an operation of another interface", request(pager, label, words), Error::BadRequest.code())?;
    }
    Ok(())
}

/// What is no request.
fn malformed() -> Result<(), Trouble> {
    let pager = start::my_pager();
    let bad = Error::BadRequest.code();
    for &op in Op::ALL {
        // A list of pages may be as long as a message.
        if !matches!(op, Op::Revoke | Op::MoveList) {
            expect("too many words", request(pager, op.label(), MAX_WORDS), bad)?;
        }
        // Too few, unless it needs none.
        if op != Op::ThreadSelf {
            expect("no words", request(pager, op.label(), 0), bad)?;
        }
        let mut items = Message::new();
        items.tag = Tag::new(op.label(), 0, 2);
        let error = ipc::call(pager, &mut items).err();
        expect("items", u64::from(error.is_some()), 1)?;
    }
    for number in [0, 99, 0xffff] {
        let label = Op::ThreadSelf.label() & 0xffff_0000 | number;
        expect("an operation that is not there", request(pager, label, 1), bad)?;
    }
    // Only the kernel says such things.
    for label in [kernel_label::PAGE_FAULT, kernel_label::EXCEPTION, kernel_label::NOTIFICATION] {
        let answer = request(pager, label, 3);
        expect("a forged message of the kernel", u64::from(answer != 0), 1)?;
    }
    // Its pager may be notified; that changes nothing.
    sys::notify(pager, !0).map_err(failed("a notification"))
}

/// Every operation of its own pager, with what is not its own. A new operation has to have its case here.
fn operation(op: Op, parent: u32, sibling: u32) -> Result<(), Trouble> {
    let pager = task::pager();
    let end = USER_END;
    match op {
        Op::ThreadCreate => refused(
            "a thread nowhere",
            Error::BadArgument,
            [pager.thread_create(999, 0, 0, 0), pager.thread_create(u16::MAX, 0, 0, 0)],
        ),
        // They end the caller, whatever it says: nothing to be refused but malformed messages.
        Op::ThreadExit | Op::TaskEnd => Ok(()),
        Op::ThreadJoin => {
            refused("a join", Error::NoSuchThread, [FOREIGN, 1024, u32::MAX].map(|n| pager.thread_join(n)))
        }
        Op::ThreadDelete => refused(
            "a deletion",
            Error::NoSuchThread,
            [FOREIGN, 1024, u32::MAX].map(|n| pager.thread_delete(n)),
        ),
        Op::ThreadMigrate => {
            let foreign = [FOREIGN, 1024, u32::MAX].map(|n| pager.thread_migrate(n, 0));
            refused("a move", Error::NoSuchThread, foreign)?;
            refused("a move to nowhere", Error::BadArgument, [pager.thread_migrate(0, 999)])
        }
        Op::ThreadSelf => expect("the own number", code(pager.thread_self()), 0),
        Op::RegionCreate => {
            let bad =
                [(0, 4096), (1 << 33, 1), (1 << 33, 0), (PINNED_BASE, 4096), (end - 4096, 8192), (!0, !0)];
            refused(
                "a region",
                Error::BadArgument,
                bad.map(|(base, size)| pager.region_create(base, size, 0)),
            )?;
            refused("a kind of region", Error::BadArgument, [pager.region_create(1 << 33, 4096, 77)])?;
            refused("a region over another", Error::AlreadyMapped, [pager.region_create(0x20_0000, 4096, 0)])
        }
        Op::Stats => expect("counts of a node that is not there", code(pager.stats(u16::MAX)), 0),
        Op::FramesByNode => {
            let bad = [(!0, !0), (0, 1), (0x20_0000, 1 << 40)];
            refused(
                "frames",
                Error::BadArgument,
                bad.map(|(base, pages)| pager.frames_by_node(base, pages, 0)),
            )
        }
        Op::Log => expect("a line", code(pager.log(true, skerry_ipc::Chunk::of(b"hello"))), 0),
        Op::TaskStart => {
            let start = |parent, flags| {
                let birth = Birth { parent, cpu: ANY_CPU, flags };
                pager.task_start(birth, 0, skerry_ipc::Chunk::of(b"tasks child exit 0"))
            };
            refused("a start", Error::Refused, [start(0, 0), start(parent, 0), start(parent, MAY_START)])
        }
        Op::TaskWait => {
            refused("a wait", Error::Refused, [parent, sibling, 0, 1, u32::MAX].map(|id| pager.task_wait(id)))
        }
        Op::TaskKill => {
            refused("a kill", Error::Refused, [parent, sibling, 0, 1, u32::MAX].map(|id| pager.task_kill(id)))
        }
        Op::Free => refused("what is free nowhere", Error::BadArgument, [pager.free(999)]),
        // More of these in the cases of pager-test.
        Op::Unmap => {
            let bad = [(!0, 1), (0x20_0001, 1), (0x20_0000, 0), (end, 1), (end - 4096, 2), (0, !0)];
            refused("an unmap", Error::BadArgument, bad.map(|(base, pages)| pager.unmap(base, pages)))?;
            expect("another's page", pager.unmap(PINNED_BASE, 1).map_or(0, |told| told.bad), 1)
        }
        Op::Protect => {
            let bad = [(!0, 1, 1), (0x20_0000, 0, 1), (0x20_0000, 1, 8), (end, 1, 1)];
            let asked = bad.map(|(base, pages, rights)| pager.protect(base, pages, rights));
            refused("a protection", Error::BadArgument, asked)?;
            expect("another's rights", pager.protect(PINNED_BASE, 1, 1).map_or(0, |told| told.bad), 1)
        }
        Op::Revoke => {
            let lists = [&[0x20_0008][..], &[0x20_0000, 0x20_1001][..]];
            refused("a list", Error::BadArgument, lists.map(|words| pager.revoke(Pages::of(words))))?;
            let told = pager.revoke(Pages::of(&[PINNED_BASE, end - 4096]));
            expect("others' pages", told.map_or(0, |told| told.0.bad), 3)
        }
        Op::MovePages => {
            let bad = [(!0, 1, 0), (0x20_0000, 0, 0), (0x20_0000, 1, 999), (end, 1, 0), (0, !0, 0)];
            let asked = bad.map(|(base, pages, node)| pager.move_pages(base, pages, node));
            refused("a move of pages", Error::BadArgument, asked)?;
            expect("another's page", pager.move_pages(PINNED_BASE, 1, 0).map_or(0, |told| told.bad), 1)
        }
        Op::Replicate | Op::MakeLocal | Op::MakeGlobal => {
            let change = |base, pages| match op {
                Op::Replicate => pager.replicate(base, pages),
                Op::MakeLocal => pager.make_local(base, pages),
                _ => pager.make_global(base, pages),
            };
            let bad = [(!0, 1), (0x20_0001, 1), (0x20_0000, 0), (end, 1), (end - 4096, 2), (0, !0)];
            refused("a change of pages", Error::BadArgument, bad.map(|(base, pages)| change(base, pages)))?;
            expect("another's page", change(PINNED_BASE, 1).map_or(0, |told| told.bad), 1)
        }
        // The load balancer's business.
        Op::ThreadList => {
            refused("a list of threads", Error::Refused, [0, 1, 999].map(|node| pager.thread_list(node, 0)))
        }
        Op::ThreadPush => {
            let others = [parent, sibling, 0, u32::MAX].map(|id| pager.thread_push(id, 0, 0));
            refused("a push of another's thread", Error::Refused, others)
        }
        Op::PageHistory => {
            let asked = [parent, sibling, 0, u32::MAX].map(|id| pager.page_history(id, 0x20_0000, 0, 0));
            refused("another's past", Error::Refused, asked)
        }
        // Only machines booted for that have pagers that crash.
        Op::CrashAt => {
            refused("a crash", Error::Refused, [pager.crash_at(0, 0, 1), pager.crash_at(999, 0, 0)])
        }
        Op::Maintenance => refused("upkeep of nowhere", Error::BadArgument, [pager.maintenance(999)]),
        Op::MoveList => {
            let lists = [&[0x20_0fff][..], &[0x20_0000, 0x20_1001][..]];
            refused(
                "a list to be moved",
                Error::BadArgument,
                lists.map(|words| pager.move_list(Pages::of(words))),
            )?;
            let told = pager.move_list(Pages::of(&[PINNED_BASE, end - 4096]));
            expect("others' pages to be moved", told.map_or(0, |told| told.0.bad), 3)
        }
    }
}

/// The privileged calls of the kernel.
fn kernel(_: u32) -> Result<(), Trouble> {
    let (me, space) = (utcb::my_id(), SpaceId::root(0));
    let threads = [
        sys::thread_delete(ThreadId::root(0)),
        sys::thread_delete(me),
        sys::thread_suspend(me),
        sys::thread_start(me, 0, 0, 0),
        sys::thread_migrate(me, space, 0, me, me),
        sys::schedule(me, Some(255), None, None, Some(me)),
        sys::space_destroy(space),
        sys::grant_partner(space, me),
        sys::set_quota(space, 0),
        sys::thread_create(space, 0, me, me, 9, 255).map(drop),
        sys::space_create(2, true).map(drop),
    ];
    refused("a privileged call", Error::NotPrivileged, threads)
}

/// The case: a hostile task, and two that it must not harm.
pub(super) fn run() -> Result<(), Trouble> {
    let birth = |cpu| Birth { parent: 0, cpu, flags: 0 };
    for (_, cpu) in start::app().places() {
        let sibling =
            task::start(birth(cpu), 0, format_args!("tasks child sleep")).map_err(failed("a sibling"))?;
        let other =
            task::start(birth(cpu), 0, format_args!("tasks child work 4")).map_err(failed("another"))?;
        // The first task of a run is 16.
        let hostile = task::start(birth(cpu), 0, format_args!("tasks child hostile {sibling}"));
        let hostile = hostile.map_err(failed("a hostile task"))?;
        let end = task::wait(hostile).map_err(failed("the hostile task"))?;
        expect("the hostile task", end.to_word(), TaskEnd::Exited(exit::PASS).to_word())?;
        let end = task::wait(other).map_err(failed("another"))?;
        expect("another task", end.to_word(), TaskEnd::Exited(4).to_word())?;
        task::kill(sibling).map_err(failed("the sibling"))?;
        let end = task::wait(sibling).map_err(failed("the sibling"))?;
        expect("the sibling", end.to_word(), TaskEnd::Killed.to_word())?;
    }
    Ok(())
}
