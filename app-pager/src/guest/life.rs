//! How tasks end, and what is done about it in the background.
//!
//! A task's home does the work, in steps, between requests: threads are ended a few at a time, pagers forget the task one after the other,
//! frames are given back table by table ([`Job`]). Only then is the task's parent told, so what it sees as free is free.

use core::fmt;

use app_pager::board;
use app_pager::home::{Job, Step, cluster_of};
use app_pager::page::master_bytes;
use app_pager::release::{entry_frame, master, walk};
use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain::FIRST_TASK;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{TaskEnd, ThreadEnd};
use skerry_rt::println;

use super::launch::START_BYTES;
use super::memory::Physical;
use super::moves::{self, Known};
use super::state::{Context, Task, WHOLE_TASK, board_at};
use super::{dead, end_run, grace, limbo, step, task};

/// Threads that are ended in one step.
const KILLS: usize = 8;

/// What a look for work has found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is more.
    Work,
    /// It cannot be done yet.
    Later,
    /// Nothing.
    Nothing,
}

/// There is something to do.
pub(super) fn more_work(context: &Context) {
    context.wake_pager();
}

/// Reports what must not happen, and goes on: a task's trouble is no reason to end the others.
pub(super) fn complain(context: &Context, id: u32, what: &str, result: Result<(), Error>) {
    if let Err(error) = result {
        println!("app pager of cluster {}: task {id}: {what}: {error}", context.cluster);
    }
}

/// What a program may say about its own end; endings like a kernel's panic are not its to announce.
pub(super) fn app_code(code: u64) -> u64 {
    match code {
        exit::PASS | exit::OUT_OF_MEMORY | exit::BAD_BOOT => code,
        _ => exit::FAIL,
    }
}

/// The run ends with its first task.
fn end_with(end: TaskEnd, reason: fmt::Arguments<'_>) -> ! {
    match end {
        TaskEnd::Exited(code) => end_run(app_code(code), reason),
        TaskEnd::Faulted => end_run(exit::APP_FAULT, format_args!("a thread of the application died")),
        TaskEnd::OutOfMemory => end_run(exit::OUT_OF_MEMORY, reason),
        TaskEnd::Killed => end_run(exit::FAIL, format_args!("the application was killed")),
        TaskEnd::PagerDied => {
            end_run(exit::SERVER_FAULT, format_args!("the application ended with an app pager that crashed"))
        }
        TaskEnd::OverQuota => end_run(exit::FAIL, format_args!("the application is over its memory quota")),
    }
}

/// Ends a task, on behalf of the task `by` (0: of a pager). The first reason counts.
pub(super) fn kill(
    context: &Context,
    id: u32,
    by: u32,
    end: TaskEnd,
    reason: fmt::Arguments<'_>,
) -> Result<(), Error> {
    let home = cluster_of(id, context.boot.cluster_count);
    if home != context.cluster {
        return context.peer(home)?.task_kill(id, by, end);
    }
    let Some(address) = context.state().lives.may_end(id, by)? else { return Ok(()) };
    let roll = board_at(address)?.roll();
    roll.kill(end);
    if id == FIRST_TASK {
        end_with(roll.end(), reason)
    }
    context.state().lives.kill(id)?;
    more_work(context);
    Ok(())
}

/// The same for a task that cannot go on; the reason is for people.
pub(super) fn fail(context: &Context, id: u32, end: TaskEnd, reason: fmt::Arguments<'_>) {
    if id != FIRST_TASK {
        println!("task {id} ends: {reason}");
    }
    // If it is over already, there is nothing to do.
    let _ = kill(context, id, 0, end, reason);
}

/// A task's last thread has ended.
pub(super) fn over(context: &Context, id: u32) {
    if task::known(context, id).is_ok_and(|task| dead::is_doomed(&task.view.roll())) {
        return;
    }
    let home = cluster_of(id, context.boot.cluster_count);
    let told = match home == context.cluster {
        true => over_here(context, id),
        false => context.peer(home).and_then(|peer| peer.task_over(id)),
    };
    complain(context, id, "its home does not know that it is over", told);
}

/// The same, at the task's home.
pub(super) fn over_here(context: &Context, id: u32) -> Result<(), Error> {
    let Some(board) = context.state().lives.may_end(id, 0)? else { return Ok(()) };
    if id == FIRST_TASK {
        end_with(board_at(board)?.roll().end(), format_args!(""))
    }
    context.state().lives.over(id)?;
    more_work(context);
    Ok(())
}

/// Does one step of what is to be done.
pub(super) fn work(context: &Context) -> Found {
    if limbo::step(context) {
        return Found::Work;
    }
    let step = {
        let mut state = context.state();
        match state.lives.take() {
            Some(step) => step,
            None if state.limbo == 0 => return Found::Nothing,
            None => return Found::Later,
        }
    };
    let Ok(view) = board_at(step.board) else { return Found::Nothing };
    let task = Known { id: step.id, board: step.board, view };
    step::reach(context, || (&step.job).into());
    let next = match step.job {
        Job::None => Job::None,
        // Its spaces are destroyed, with all threads.
        Job::Kill(_) if dead::is_doomed(&view.roll()) => Job::None,
        Job::Kill(slot) => kill_some(context, task, slot),
        Job::Forget(cluster) => forget_at(context, task, cluster),
        Job::Quiet(cluster) => quiet_at(context, task, cluster),
        Job::Release(cursor) => release(context, task, cursor),
        Job::Return => {
            return_tables(context, task);
            gone(context, task.id, step);
            return Found::Work;
        }
    };
    context.state().lives.done(step, next);
    if next == step.job { Found::Later } else { Found::Work }
}

fn kill_some(context: &Context, task: Known, slot: usize) -> Job {
    let roll = task.view.roll();
    let end = (slot + KILLS).min(roll.slots());
    for number in (slot..end).map(|slot| roll.last_in(slot)) {
        // A number that was given out and not yet used is its creator's, who sees that the task is dying.
        let _ = moves::end(context, task, number, ThreadEnd::Killed);
    }
    if end < roll.slots() { Job::Kill(end) } else { Job::None }
}

fn next_known(context: &Context, task: Known, from: u16) -> Option<u16> {
    (from..context.boot.cluster_count as u16).find(|&cluster| task.view.roll().is_known(cluster))
}

fn forget_at(context: &Context, task: Known, from: u16) -> Job {
    let Some(cluster) = next_known(context, task, from) else { return Job::Quiet(0) };
    let done = match cluster == context.cluster {
        _ if dead::is_dead(cluster) => Ok(()),
        true => {
            task::forget(context, task.id);
            Ok(())
        }
        false => context.peer(cluster).and_then(|peer| peer.task_forget(task.id)),
    };
    complain(context, task.id, "a pager does not forget it", done);
    Job::Forget(cluster + 1)
}

fn quiet_at(context: &Context, task: Known, from: u16) -> Job {
    let Some(cluster) = next_known(context, task, from) else { return Job::Release(0) };
    let quiet = match cluster == context.cluster {
        _ if dead::is_dead(cluster) => Ok(true),
        true => Ok(quiet(context, task.id)),
        false => context.peer(cluster).and_then(|peer| peer.task_quiet(task.id)),
    };
    match quiet {
        Ok(false) => Job::Quiet(from),
        Ok(true) => Job::Quiet(cluster + 1),
        Err(error) => {
            complain(context, task.id, "a pager says nothing about it", Err(error));
            Job::Quiet(cluster + 1)
        }
    }
}

/// Whether nobody here looks at what a forgotten task has any more; then its record goes, too.
pub(super) fn quiet(context: &Context, id: u32) -> bool {
    let mut state = context.state();
    let Some(task) = state.record(id) else { return true };
    let quiet = task.limbo == 0 && grace::has_passed(context, task.retired);
    if quiet {
        *task = Task::NONE;
    }
    quiet
}

/// Gives back some of the frames that the task's master tables name.
fn release(context: &Context, task: Known, cursor: u64) -> Job {
    let next = walk(
        &task.view,
        cursor,
        |_, region| master(region, context.seats().words()),
        |table, count| Physical.words_at(table, count),
        entry_frame,
        |_, _, frame| context.give_back(frame, PAGE_SIZE),
    );
    if next == 0 { Job::Return } else { Job::Release(next) }
}

/// All other pagers are done: gives back the tables, the start page and the board.
fn return_tables(context: &Context, task: Known) {
    for region in (0..task.view.regions()).filter_map(|index| task.view.region(index)) {
        if region.table != 0 {
            context.give_back(region.table, master_bytes(region.pages(), context.seats().words()));
        }
    }
    if task.view.roll().start() != 0 {
        context.give_back(task.view.roll().start(), START_BYTES);
    }
}

/// Nothing is left of the task: tells its parent.
fn gone(context: &Context, id: u32, step: Step) {
    let Ok(view) = board_at(step.board) else { return };
    let end = view.roll().end();
    context.give_back(step.board, board::BYTES);
    let waiter = context.state().lives.gone(id, end);
    match waiter {
        Some(cluster) if cluster == context.cluster => task::wake_joiners(context, id, WHOLE_TASK, end),
        Some(cluster) => {
            let told = context.peer(cluster).and_then(|peer| peer.task_ended(id, end));
            complain(context, id, "who waits for it is not told", told);
        }
        None => {}
    }
}
