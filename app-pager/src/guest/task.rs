//! Tasks, their spaces, threads and regions, as far as this cluster is concerned.

use app_pager::board::{Board, Region};
use app_pager::options::{TakeOver, TaskSpace};
use app_pager::page::{self, master_bytes};
use app_pager::protocols::effect::Access;
use app_pager::protocols::local::Local;
use app_pager::protocols::nodes;
use app_pager::release::{master, walk};
use skerry_abi::boot::MAX_NODES;
use skerry_abi::{Error, Rights, SpaceId, ThreadId};
use skerry_ipc::pager::{Ahead, CODE, Free, RegionKind, Stats};
use skerry_ipc::{Message, Wire, encode_reply, level, peer};
use skerry_rt::info;
use skerry_rt::ipc::{Kernel, reply};

use super::memory::Physical;
use super::moves::{Begin, Known, patiently};
use super::state::{Context, Joiner, SpaceRecord, Task, board_at, book_at};
use super::{dead, grace, limbo, takeover};

/// Priority of a task's threads.
const PRIORITY: u16 = 100;

/// The task of this number.
pub(super) fn known(context: &Context, id: u32) -> Result<Known, Error> {
    let board = context.state().task(id)?.board;
    Ok(Known { id, board, view: board_at(board)? })
}

/// The task that a thread of this cluster belongs to, as far as its number is still known.
pub(super) fn of_thread(context: &Context, thread: ThreadId) -> Option<u32> {
    let of = |task: &&Task| board_at(task.board).is_ok_and(|board| board.roll().number_of(thread).is_ok());
    let state = context.state();
    state.tasks.iter().filter(|task| task.id != 0 && task.retired == 0).find(of).map(|task| task.id)
}

/// Knows the task from now on.
pub(super) fn adopt(context: &Context, id: u32, board: u64) -> Result<(), Error> {
    let roll = board_at(board)?.roll();
    {
        let mut state = context.state();
        if state.task(id).is_ok() {
            return Ok(());
        }
        let slot = state.tasks.iter_mut().find(|task| task.id == 0).ok_or(Error::TableFull)?;
        *slot = Task { id, board, ..Task::NONE };
    }
    roll.set_known(context.cluster);
    Ok(())
}

/// Makes a space for the task's threads on a CPU of this cluster.
pub(super) fn make_space(context: &Context, id: u32, board: u64, cpu: u16) -> Result<(), Error> {
    dead::refuse_doomed(&board_at(board)?.roll())?;
    adopt(context, id, board)?;
    let node = context.node_of(cpu)?;
    let space = space_for(context, id, node)?;
    board_at(board)?.roll().set_space(context.cluster, space);
    match context.options.take_over {
        TakeOver::Lazy => Ok(()),
        // If that fails the space goes as it does when its last thread leaves.
        TakeOver::Eager => takeover::all(context, id, board, node).inspect_err(|_| {
            let _ = destroy_spaces(context, id);
        }),
    }
}

/// The task's space for threads on `node`, made if need be.
fn space_for(context: &Context, id: u32, node: u16) -> Result<SpaceId, Error> {
    let index = context.space_index(node);
    let (existing, board) = {
        let mut state = context.state();
        let task = state.task(id)?;
        (task.spaces[index], task.board)
    };
    if existing.book != 0 {
        return Ok(existing.id);
    }
    let board = board_at(board)?;
    let book = context.cleared_for((id, &board.roll()), node, 0, context.book_bytes())?;
    let made = match context.syscalls().space_create(id) {
        Ok(made) => made,
        Err(error) => {
            context.give_back(book, context.book_bytes());
            return Err(error);
        }
    };
    let winner = {
        let mut state = context.state();
        let slot = &mut state.task(id)?.spaces[index];
        if slot.book == 0 {
            *slot = SpaceRecord { id: made, book };
        }
        slot.id
    };
    if winner != made {
        // Another thread of this pager was faster.
        context.syscalls().space_destroy(made)?;
        context.give_back(book, context.book_bytes());
    }
    Ok(winner)
}

/// Creates and starts a thread on a CPU of this cluster.
pub(super) fn create_thread(
    context: &Context,
    id: u32,
    number: u32,
    cpu: u16,
    begin: Begin,
) -> Result<ThreadId, Error> {
    let here = context.start.cpus().iter().find(|own| own.cpu == u64::from(cpu)).ok_or(Error::BadArgument)?;
    dead::refuse_doomed(&known(context, id)?.view.roll())?;
    let space = space_for(context, id, context.node_of(cpu)?)?;
    let roll = known(context, id)?.view.roll();
    let slot = app_pager::roll::slot(number) as u16;
    let syscalls = context.syscalls();
    let thread = syscalls.thread_create(space, cpu, ThreadId(here.pager), ThreadId::NIL, slot, PRIORITY)?;
    // Before it runs: it may end at once.
    roll.set_thread(number, thread, cpu);
    if let Err(error) = syscalls.thread_start(thread, begin.entry, begin.stack, begin.argument) {
        syscalls.thread_delete(thread)?;
        return Err(error);
    }
    Ok(thread)
}

/// Destroys the task's spaces in this cluster, where it has no threads any more.
pub(super) fn destroy_spaces(context: &Context, id: u32) -> Result<(), Error> {
    let none = SpaceRecord { id: SpaceId::NIL, book: 0 };
    let (board, spaces) = {
        let mut state = context.state();
        let task = state.task(id)?;
        for space in task.spaces.iter().filter(|space| space.book != 0) {
            keep_stats(context, task.board, space.book);
        }
        (task.board, core::mem::replace(&mut task.spaces, [none; MAX_NODES]))
    };
    board_at(board)?.roll().set_space(context.cluster, SpaceId::NIL);
    for (node, space) in (0..).zip(&spaces).filter(|(_, space)| space.book != 0) {
        patiently(|| context.syscalls().space_destroy(space.id))?;
        leave_sharers(context, board, space.book, node);
        limbo::add(context, id, board, space.book);
    }
    Ok(())
}

/// What a book has counted goes to the task's board, where the counts outlive the book.
pub(super) fn keep_stats(context: &Context, board: u64, book: u64) {
    if let (Ok(board), Ok(book)) = (board_at(board), book_at(book)) {
        for node in 0..context.boot.node_count as u16 {
            board.keep_stats(node, book.take_stats(node));
        }
    }
}

/// Takes the seat of a destroyed space out of the sharers of all pages. Nobody makes a new space there before that is done. A
/// fault that is still in work may join once more; then the next leader asks here in vain.
fn leave_sharers(context: &Context, board: u64, book: u64, node: u16) {
    let (Ok(board), Ok(book)) = (board_at(board), book_at(book)) else { return };
    let w = context.seats().words();
    let (word, bit) = nodes::place(context.me(node).node);
    let mut cursor = 0;
    loop {
        cursor = walk(
            &board,
            cursor,
            |index, region| master(region, w).and(book.table(index)).map(|table| (table, 1)),
            |table, count| Physical.words_at(table, count),
            |_, word| Local(word).frame(),
            |region, page, _| {
                let sharers = region.table + (page * page::words(w) as u64 + 1 + u64::from(word)) * 8;
                page::perform(&Physical.words_at(sharers, 1)[0], Access::Clear(bit));
            },
        );
        if cursor == 0 {
            return;
        }
    }
}

/// The task is over: nobody finds it here any more. What it has is given back later.
pub(super) fn forget(context: &Context, id: u32) {
    let mut state = context.state();
    if let Ok(task) = state.task(id) {
        // First nobody finds it; then the ticket.
        task.retired = u64::MAX;
        task.retired = grace::retire(context);
    }
}

/// Adds a region; only on the master's cluster.
pub(super) fn create_region(
    context: &Context,
    id: u32,
    base: u64,
    size: u64,
    kind: u64,
) -> Result<(), Error> {
    let (ahead, code) = (Ahead::of(kind), kind & CODE != 0);
    let (kind, measured) = RegionKind::decode(kind & !CODE).ok_or(Error::BadArgument)?;
    let rights = if kind == RegionKind::ReadOnly { Rights::R } else { Rights::RW };
    let most = if code { Rights::from_bits(rights.bits() | Rights::X.bits()) } else { rights };
    add_region(context, id, Region { base, size, kind, measured, rights, most, ahead, ..Region::NONE })
}

/// As [`create_region`], with contents.
pub(super) fn add_region(context: &Context, id: u32, mut region: Region) -> Result<(), Error> {
    let board = known(context, id)?.view;
    board.check_new(region.base, region.size)?;
    let bytes = master_bytes(region.pages(), context.seats().words());
    // A task with one space needs no master table: its local table is the only one.
    if region.kind != RegionKind::Local && context.options.space == TaskSpace::PerNode {
        region.table = context.cleared_for((id, &board.roll()), context.node, region.base, bytes)?;
    }
    let result = {
        // Readers need no lock; the lock keeps writers apart.
        let _writers = context.state();
        board.add(region)
    };
    if result.is_err() && region.table != 0 {
        context.give_back(region.table, bytes);
    }
    result
}

/// The task's counts for `node` in this cluster.
pub(super) fn stats(context: &Context, id: u32, node: u16) -> Result<Stats, Error> {
    let spaces = context.state().task(id)?.spaces;
    let mut sum = Stats::default();
    for space in spaces.iter().filter(|space| space.book != 0) {
        sum.add(book_at(space.book)?.stats(node));
    }
    Ok(sum)
}

/// The pagers of the other clusters where the task has threads, for requests of a pager thread.
pub(super) fn peers(
    context: &Context,
    board: &Board<'static>,
) -> impl Iterator<Item = peer::Client<Kernel<level::Pager>>> {
    let roll = board.roll();
    others(context, move |cluster| roll.is_active(cluster))
}

/// The pagers of the other clusters that know the task, with threads of it or not any more.
pub(super) fn acquainted(
    context: &Context,
    board: &Board<'static>,
) -> impl Iterator<Item = peer::Client<Kernel<level::Pager>>> {
    let roll = board.roll();
    others(context, move |cluster| roll.is_known(cluster))
}

fn others(
    context: &Context,
    wanted: impl Fn(u16) -> bool,
) -> impl Iterator<Item = peer::Client<Kernel<level::Pager>>> {
    let context = *context;
    (0..context.boot.cluster_count as u16)
        .filter(move |&cluster| cluster != context.cluster && wanted(cluster))
        .filter_map(move |cluster| context.peer(cluster).ok())
}

/// Answers those who wait here for a thread that has ended, or, as [`super::state::WHOLE_TASK`], for a task.
pub(super) fn wake_joiners<T: Wire + Copy>(context: &Context, id: u32, number: u32, end: T) {
    loop {
        let caller = {
            let mut state = context.state();
            let waits = |j: &&mut Joiner| !j.caller.is_nil() && j.task == id && j.number == number;
            match state.joiners.iter_mut().find(waits) {
                Some(joiner) => core::mem::take(&mut joiner.caller),
                None => return,
            }
        };
        let mut message = Message::new();
        encode_reply(&mut message, Ok(end));
        // Who was killed while waiting needs no answer.
        let _ = reply(caller, &mut message);
    }
}

/// Lets a caller wait; `false`: too many do.
pub(super) fn park(context: &Context, caller: ThreadId, task: u32, number: u32) -> Result<(), Error> {
    let mut state = context.state();
    // A thread waits once: what it waited for before was cancelled.
    let place = state.joiners.iter().position(|joiner| joiner.caller == caller);
    let place = place.or_else(|| state.joiners.iter().position(|joiner| joiner.caller.is_nil()));
    let place = place.ok_or(Error::TableFull)?;
    state.joiners[place] = Joiner { caller, task, number };
    state.joined = state.joined.max(place + 1);
    Ok(())
}

/// A caller does not wait any more.
pub(super) fn unpark(context: &Context, caller: ThreadId) {
    let mut state = context.state();
    let used = state.joined;
    let mut used = state.joiners[..used].iter_mut();
    if let Some(joiner) = used.find(|joiner| joiner.caller == caller) {
        joiner.caller = ThreadId::NIL;
    }
    while state.joined != 0 && state.joiners[state.joined - 1].caller.is_nil() {
        state.joined -= 1;
    }
}

/// What is free on a node of this cluster.
pub(super) fn free(context: &Context, node: u16) -> Free {
    let header = info::header();
    let frames = context.pools().map_or(0, |pools| pools.free_frames(&Physical, node));
    Free { frames, tables: header.free_tables, map_nodes: header.free_nodes }
}
