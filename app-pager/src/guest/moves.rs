//! Threads of tasks: they come, move and end, as the machine [`Move`] says.

use app_pager::board::Board;
use app_pager::roll::{Hold, SET_WORDS};
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_ipc::pager::ThreadEnd;
use skerry_protocols::task::{Effect, Move};
use skerry_rt::ipc::pause;

use super::state::Context;
use super::{dead, life, step, task};

/// How often a kernel call is repeated that cannot be completed just now.
const PATIENCE: usize = 1000;
/// How long to wait before that: 16 microseconds.
const PAUSE_TICKS: u64 = 1000;

/// A task, seen by a thread that works on it: its number and its board.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) id: u32,
    /// Physical address of the board.
    pub(super) board: u64,
    pub(super) view: Board<'static>,
}

/// What a new thread begins with.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) entry: u64,
    pub(super) stack: u64,
    pub(super) argument: u64,
}

/// A machine's environment: the thread, and where it goes.
struct Journey<'a> {
    context: &'a Context,
    task: Known,
    number: u32,
    /// Where it is to run.
    cpu: u16,
    /// For a new thread.
    begin: Option<Begin>,
}

enum Outcome {
    Done,
    /// The thread is gone; the task, too, if true.
    Ended(bool),
}

/// Repeats what a kernel says cannot be done just now.
pub(super) fn patiently<T>(mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..PATIENCE {
        match act() {
            Err(Error::WrongState | Error::OutOfKernelMemory | Error::Timeout) => pause(PAUSE_TICKS),
            result => return result,
        }
    }
    act()
}

impl Journey<'_> {
    /// Performs what the machine wants, to its end.
    fn run(&self, machine: Move<SET_WORDS>) -> Result<Outcome, Error> {
        match self.context.options.crash {
            None => self.run_by::<false>(machine),
            Some(_) => self.run_by::<true>(machine),
        }
    }
    fn run_by<const WATCHED: bool>(&self, mut machine: Move<SET_WORDS>) -> Result<Outcome, Error> {
        let roll = self.task.view.roll();
        let mut error = Error::Refused;
        let mut answer = 0;
        loop {
            let effect = machine.step(answer);
            if WATCHED {
                step::reach(self.context, || (&effect).into());
            }
            answer = match effect {
                Effect::Access(word, access) => roll.perform(word, access),
                Effect::MakeSpace(cluster) => match self.make_space(cluster) {
                    Ok(()) => 1,
                    Err(why) => {
                        error = why;
                        0
                    }
                },
                Effect::Run(cluster) => match self.go(cluster) {
                    Ok(()) => 1,
                    Err(why) => {
                        error = why;
                        0
                    }
                },
                Effect::DestroySpace(cluster) => {
                    self.destroy_space(cluster);
                    0
                }
                Effect::Stop(cluster) => {
                    self.stop(cluster);
                    0
                }
                // Who waits for a space that is being made or destroyed looks again soon; that takes a few system calls.
                Effect::Wake => 0,
                // What a dead pager was about to do there nobody completes.
                Effect::Park if dead::is_doomed(&roll) => return Err(Error::NodeDown),
                Effect::Park => {
                    pause(PAUSE_TICKS);
                    0
                }
                Effect::Done => return Ok(Outcome::Done),
                Effect::Ended(last) => return Ok(Outcome::Ended(last)),
                Effect::Refused => return Err(error),
            };
        }
    }

    fn make_space(&self, cluster: u16) -> Result<(), Error> {
        let Self { context, task, cpu, .. } = self;
        if cluster == context.cluster {
            return task::make_space(context, task.id, task.board, *cpu);
        }
        context.peer(cluster)?.space_make(task.id, task.board, *cpu)
    }

    fn destroy_space(&self, cluster: u16) {
        let Self { context, task, .. } = self;
        let done = match cluster == context.cluster {
            true => task::destroy_spaces(context, task.id),
            false => context.peer(cluster).and_then(|peer| peer.space_destroy(task.id)),
        };
        life::complain(context, task.id, "its space cannot be destroyed", done);
    }

    /// Starts the thread on its CPU, or moves it there.
    fn go(&self, cluster: u16) -> Result<(), Error> {
        let Self { context, task, number, cpu, begin } = self;
        let roll = task.view.roll();
        if let Some(begin) = begin {
            let Begin { entry, stack, argument } = *begin;
            return match cluster == context.cluster {
                true => task::create_thread(context, task.id, *number, *cpu, *begin).map(drop),
                false => {
                    let worker = context.peer(cluster)?;
                    worker.thread_create(task.id, *number, *cpu, entry, stack, argument).map(drop)
                }
            };
        }
        let (thread, from) = roll.thread(*number);
        let (space, pager) = (roll.space(cluster), context.pager_of(*cpu)?);
        move_thread(context, context.cluster_of(from)?, thread, space, *cpu, pager)?;
        roll.set_thread(*number, thread, *cpu);
        Ok(())
    }

    fn stop(&self, cluster: u16) {
        let Self { context, task, number, .. } = self;
        let (thread, _) = task.view.roll().thread(*number);
        let done = match cluster == context.cluster {
            true => delete(context, thread),
            false => context.peer(cluster).and_then(|peer| peer.thread_delete(thread)),
        };
        life::complain(context, task.id, "a thread cannot be ended", done);
    }
}

/// Has the kernel of cluster `from` move a thread.
fn move_thread(
    context: &Context,
    from: u16,
    thread: ThreadId,
    space: SpaceId,
    cpu: u16,
    pager: ThreadId,
) -> Result<(), Error> {
    match from == context.cluster {
        true => move_own(context, thread, space, cpu, pager),
        false => context.peer(from)?.thread_move(thread, space, cpu, pager),
    }
}

/// Moves a thread of this cluster.
pub(super) fn move_own(
    context: &Context,
    thread: ThreadId,
    space: SpaceId,
    cpu: u16,
    pager: ThreadId,
) -> Result<(), Error> {
    let syscalls = context.syscalls();
    if space == SpaceId::NIL {
        return patiently(|| syscalls.thread_place(thread, cpu, pager));
    }
    // What it waits for here it will not get: its call is cancelled.
    task::unpark(context, thread);
    patiently(|| syscalls.thread_migrate(thread, space, cpu, pager))
}

/// Ends a thread of this cluster in its kernel.
pub(super) fn delete(context: &Context, thread: ThreadId) -> Result<(), Error> {
    task::unpark(context, thread);
    match patiently(|| context.syscalls().thread_delete(thread)) {
        // The end of its space was faster.
        Err(Error::NoSuchThread) => Ok(()),
        result => result,
    }
}

/// Creates and starts a thread on any CPU. Returns its number.
pub(super) fn create(context: &Context, task: Known, cpu: u16, begin: Begin) -> Result<u32, Error> {
    let cluster = context.cluster_of(cpu)?;
    let roll = task.view.roll();
    dead::refuse_doomed(&roll)?;
    let number = roll.new_thread()?;
    let journey = Journey { context, task, number, cpu, begin: Some(begin) };
    match journey.run(Move::create(cluster)) {
        Ok(Outcome::Done) => {
            if let Some(end) = roll.settle(number) {
                finish(context, task, number, end);
            }
            Ok(number)
        }
        Ok(Outcome::Ended(last)) => {
            gone(context, task, number, ThreadEnd::Killed, last);
            Err(Error::Refused)
        }
        Err(error) => {
            roll.ended(number, ThreadEnd::Killed);
            Err(error)
        }
    }
}

/// Moves a thread to another CPU.
pub(super) fn migrate(context: &Context, task: Known, number: u32, cpu: u16) -> Result<(), Error> {
    let to = context.cluster_of(cpu)?;
    let roll = task.view.roll();
    dead::refuse_doomed(&roll)?;
    match roll.hold(number, None)? {
        Hold::Mine => {}
        Hold::Others => return Err(Error::WrongState),
        Hold::Over => return Err(Error::NoSuchThread),
    }
    let (thread, old) = roll.thread(number);
    let from = context.cluster_of(old)?;
    let outcome = if from == to {
        move_inside(context, (from, thread), old, cpu).map(|()| {
            roll.set_thread(number, thread, cpu);
            Outcome::Done
        })
    } else {
        Journey { context, task, number, cpu, begin: None }.run(Move::migrate(from, to))
    };
    match outcome {
        Ok(Outcome::Ended(last)) => {
            gone(context, task, number, ThreadEnd::Killed, last);
            Ok(())
        }
        result => {
            if let Some(end) = roll.settle(number) {
                finish(context, task, number, end);
            }
            result.map(drop)
        }
    }
}

/// Moves a thread to another CPU of its cluster, where its space stays the same.
fn move_inside(
    context: &Context,
    (cluster, thread): (u16, ThreadId),
    old: u16,
    cpu: u16,
) -> Result<(), Error> {
    // It would need another space, and a kernel moves no threads between spaces of its own.
    if context.node_of(old)? != context.node_of(cpu)? {
        return Err(Error::WrongState);
    }
    move_thread(context, cluster, thread, SpaceId::NIL, cpu, context.pager_of(cpu)?)
}

/// Ends a thread, or has whoever moves it just now end it.
pub(super) fn end(context: &Context, task: Known, number: u32, end: ThreadEnd) -> Result<(), Error> {
    if task.view.roll().hold(number, Some(end))? == Hold::Mine {
        finish(context, task, number, end);
    }
    Ok(())
}

/// Ends a thread that the caller has in hand.
pub(super) fn finish(context: &Context, task: Known, number: u32, end: ThreadEnd) {
    if dead::is_doomed(&task.view.roll()) {
        // It ends with its space.
        return;
    }
    let (_, cpu) = task.view.roll().thread(number);
    let Ok(cluster) = context.cluster_of(cpu) else { return };
    let journey = Journey { context, task, number, cpu, begin: None };
    if let Ok(Outcome::Ended(last)) = journey.run(Move::end(cluster)) {
        gone(context, task, number, end, last);
    }
}

/// A thread has ended: tells who waits for it, and the task's home if it was the last one.
fn gone(context: &Context, task: Known, number: u32, end: ThreadEnd, last: bool) {
    let roll = task.view.roll();
    roll.ended(number, end);
    if last {
        return life::over(context, task.id);
    }
    task::wake_joiners(context, task.id, number, end);
    for peer in task::peers(context, &task.view) {
        // Who does not hear of it has gone.
        let _ = peer.thread_ended(task.id, number, end);
    }
}
