//! Tasks, their spaces, threads and regions, as far as this cluster is concerned.

use app_pager::board::Region;
use app_pager::options::TaskSpace;
use app_pager::page::master_bytes;
use app_pager::space;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights, SpaceId, ThreadId};
use skerry_ipc::pager::{RegionKind, Stats, ThreadEnd};
use skerry_ipc::{Message, encode_reply, level, peer};
use skerry_rt::ipc::{Kernel, pause, reply};

use super::end_run;
use super::state::{Context, SpaceRecord, Task, board_at, book_at};

/// Priority of a task's threads.
const PRIORITY: u16 = 100;
/// How often a kernel call is repeated that cannot be completed just now.
const PATIENCE: usize = 1000;

/// Knows the task from now on.
pub(super) fn adopt(context: &Context, id: u32, board: u64) -> Result<(), Error> {
    {
        let mut state = context.state();
        if state.task(id).is_ok() {
            return Ok(());
        }
        let slot = state.tasks.iter_mut().find(|task| task.id == 0).ok_or(Error::TableFull)?;
        slot.id = id;
        slot.board = board;
    }
    board_at(board)?.set_active(context.cluster);
    Ok(())
}

/// The task's space for threads on `node`, made if need be.
fn space_for(context: &Context, id: u32, node: u16) -> Result<SpaceId, Error> {
    let index = context.space_index(node);
    let existing = context.state().task(id)?.spaces[index];
    if existing.book != 0 {
        return Ok(existing.id);
    }
    let book = context.cleared(node, space::BYTES)?;
    let made = match context.syscalls().space_create(id) {
        Ok(made) => made,
        Err(error) => {
            context.give_back(book, space::BYTES);
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
        context.give_back(book, space::BYTES);
    }
    Ok(winner)
}

/// Creates and starts a thread on a CPU of this cluster.
pub(super) fn create_thread(
    context: &Context,
    id: u32,
    cpu: u16,
    entry: u64,
    stack: u64,
    argument: u64,
) -> Result<u32, Error> {
    let here = context.start.cpus().iter().find(|own| own.cpu == u64::from(cpu)).ok_or(Error::BadArgument)?;
    let space = space_for(context, id, context.node_of(cpu)?)?;
    let board = board_at(context.state().task(id)?.board)?;
    let number = board.new_thread()?;
    let undo = |error| {
        // Never the last thread: the caller lives.
        board.end_thread(number, ThreadEnd::Exited(0));
        error
    };
    let syscalls = context.syscalls();
    let thread = syscalls
        .thread_create(space, cpu, ThreadId(here.pager), ThreadId::NIL, number as u16, PRIORITY)
        .map_err(undo)?;
    context.state().task(id)?.threads[number as usize] = thread;
    if let Err(error) = syscalls.thread_start(thread, entry, stack, argument) {
        context.state().task(id)?.threads[number as usize] = ThreadId::NIL;
        syscalls.thread_delete(thread)?;
        return Err(undo(error));
    }
    Ok(number)
}

/// Adds a region; only on the master's cluster.
pub(super) fn create_region(
    context: &Context,
    id: u32,
    base: u64,
    size: u64,
    kind: u64,
) -> Result<(), Error> {
    let (kind, measured) = RegionKind::decode(kind).ok_or(Error::BadArgument)?;
    let rights = if kind == RegionKind::ReadOnly { Rights::R } else { Rights::RW };
    add_region(
        context,
        id,
        Region { base, size, kind, measured, rights, source: 0, skip: 0, bytes: 0, table: 0 },
    )
}

/// As [`create_region`], with contents.
pub(super) fn add_region(context: &Context, id: u32, mut region: Region) -> Result<(), Error> {
    let board = board_at(context.state().task(id)?.board)?;
    board.check_new(region.base, region.size)?;
    let bytes = master_bytes(region.pages(), context.seats().words());
    // A task with one space needs no master table: its local table is the only one.
    if region.kind == RegionKind::Global && context.options.space == TaskSpace::PerNode {
        region.table = context.cleared(context.node, bytes)?;
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

/// The other clusters where the task is known, for requests of a pager thread.
pub(super) fn peers(
    context: &Context,
    id: u32,
) -> Result<impl Iterator<Item = peer::Client<Kernel<level::Pager>>>, Error> {
    let board = board_at(context.state().task(id)?.board)?;
    let context = *context;
    Ok((0..context.boot.cluster_count as u16)
        .filter(move |&cluster| cluster != context.cluster && board.is_active(cluster))
        .filter_map(move |cluster| context.worker_of(cluster).ok())
        .map(|worker| peer::Client::new(Kernel::new(), worker)))
}

/// Answers those who wait here for a thread that has ended.
pub(super) fn wake_joiners(context: &Context, id: u32, number: u32, end: ThreadEnd) {
    loop {
        let caller = {
            let mut state = context.state();
            let waits =
                |j: &&mut super::state::Joiner| !j.caller.is_nil() && j.task == id && j.number == number;
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

/// The number of a thread of this cluster.
pub(super) fn number_of(context: &Context, id: u32, thread: ThreadId) -> Result<u32, Error> {
    let mut state = context.state();
    let position = state.task(id)?.threads.iter().position(|&known| known == thread);
    position.map(|number| number as u32).ok_or(Error::NoSuchThread)
}

/// Ends a thread of this cluster, tells who waits for it, and ends the task with its last thread.
pub(super) fn end_thread(context: &Context, id: u32, thread: ThreadId, end: ThreadEnd) -> Result<(), Error> {
    let number = number_of(context, id, thread)?;
    let mut result = Err(Error::WrongState);
    for _ in 0..PATIENCE {
        result = context.syscalls().thread_delete(thread);
        if result != Err(Error::WrongState) {
            break;
        }
        pause(1000);
    }
    result?;
    let board = {
        let mut state = context.state();
        let task = state.task(id)?;
        task.threads[number as usize] = ThreadId::NIL;
        board_at(task.board)?
    };
    let last = board.end_thread(number, end);
    wake_joiners(context, id, number, end);
    for peer in peers(context, id)? {
        peer.thread_ended(id, number, end)?;
    }
    if last {
        end_task(context, id, board.code(), format_args!(""))
    }
    Ok(())
}

/// Ends the task, and with it the run.
pub(super) fn end_task(context: &Context, id: u32, code: u64, reason: core::fmt::Arguments<'_>) -> ! {
    let died =
        context.state().task(id).and_then(|task| board_at(task.board)).is_ok_and(|board| board.any_died());
    if let Ok(peers) = peers(context, id) {
        for peer in peers {
            // A cluster that cannot end it now will not matter when the machine is off.
            let _ = peer.task_end(id);
        }
    }
    forget(context, id);
    if died {
        end_run(exit::APP_FAULT, format_args!("a thread of the application died"))
    }
    end_run(code, reason)
}

/// Destroys the task's spaces in this cluster. The run ends with its task, so its frames go nowhere.
pub(super) fn forget(context: &Context, id: u32) {
    let spaces = {
        let mut state = context.state();
        let Ok(task) = state.task(id) else { return };
        let spaces = task.spaces;
        *task = Task::NONE;
        spaces
    };
    super::place::forget_places();
    for space in spaces.iter().filter(|space| space.book != 0) {
        for _ in 0..PATIENCE {
            if context.syscalls().space_destroy(space.id) != Err(Error::WrongState) {
                break;
            }
            pause(1000);
        }
    }
}
