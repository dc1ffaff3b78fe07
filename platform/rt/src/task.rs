//! What applications ask of their pager: threads, regions, the end.

use skerry_abi::{Error, Rights, ThreadId};
use skerry_ipc::pager::{Birth, Changed, Client, Pages, RegionKind, Revoked, TaskEnd, ThreadEnd};
use skerry_ipc::{Chunk, level};

use crate::ipc::{Kernel, pause, sleep_forever};
use crate::{start, utcb};

/// How long a thread waits that has to try again: 16 microseconds.
const PAUSE_TICKS: u64 = 1000;

/// Where a thread begins: it gets the argument it was created with.
pub type Entry = extern "C" fn(u64) -> !;

/// The pager of the running thread's CPU.
pub fn pager() -> Client<Kernel<level::App>> {
    Client::new(Kernel::new(), start::my_pager())
}

/// Starts a thread on a CPU; `stack` is where its stack ends. Returns its number.
///
/// # Errors
/// The pager's.
pub fn spawn(cpu: u16, entry: Entry, stack: u64, argument: u64) -> Result<u32, Error> {
    pager().thread_create(cpu, (entry as *const ()).addr() as u64, stack, argument)
}

/// Waits in the kernel, not spinning, until a thread has ended.
///
/// # Errors
/// The pager's.
pub fn join(number: u32) -> Result<ThreadEnd, Error> {
    pager().thread_join(number)
}

/// The number of the running thread.
///
/// # Errors
/// The pager's.
pub fn number() -> Result<u32, Error> {
    pager().thread_self()
}

/// Ends a thread of the task.
///
/// # Errors
/// The pager's.
pub fn delete(number: u32) -> Result<(), Error> {
    pager().thread_delete(number)
}

/// Moves a thread of the task to another CPU.
///
/// # Errors
/// The pager's; [`Error::WrongState`]: it is being moved or ended just now.
pub fn migrate(number: u32, cpu: u16) -> Result<(), Error> {
    pager().thread_migrate(number, cpu)
}

/// Moves the running thread, whose number this is, to a CPU of another node.
///
/// # Errors
/// The pager's.
pub fn go(number: u32, cpu: u16) -> Result<(), Error> {
    loop {
        match migrate(number, cpu) {
            // The call ended because the thread moved; whoever moved it, it may not be there yet.
            Err(Error::Cancelled) if utcb::cpu() == cpu => return Ok(()),
            Err(Error::Cancelled) => {}
            // The move before is not quite over.
            Err(Error::WrongState) => pause(PAUSE_TICKS),
            result => return result,
        }
    }
}

/// Starts a program of the archive as a task of its own: `command` is its name, and its arguments behind a blank. Returns the task's number.
///
/// # Errors
/// The pager's; [`Error::Refused`] unless the running task may start others.
pub fn start(birth: Birth, quota: u64, command: core::fmt::Arguments<'_>) -> Result<u32, Error> {
    pager().task_start(birth, quota, Chunk::format(command))
}

/// Waits until a task that this one has started is over.
///
/// # Errors
/// The pager's.
pub fn wait(task: u32) -> Result<TaskEnd, Error> {
    pager().task_wait(task)
}

/// Ends a task that this one has started.
///
/// # Errors
/// The pager's.
pub fn kill(task: u32) -> Result<(), Error> {
    pager().task_kill(task)
}

/// A new region; see [`RegionKind`] and [`skerry_ipc::pager::MEASURED`].
///
/// # Errors
/// The pager's.
pub fn region(base: u64, size: u64, kind: RegionKind, flags: u64) -> Result<(), Error> {
    pager().region_create(base, size, kind as u64 | flags)
}

/// Takes pages away from all threads of the task, on all nodes: see [`skerry_ipc::pager::Op::Unmap`].
///
/// # Errors
/// The pager's.
pub fn unmap(base: u64, pages: u64) -> Result<Revoked, Error> {
    patiently(|| pager().unmap(base, pages))
}

/// Gives threads these rights to pages, no more and no less: see [`skerry_ipc::pager::Op::Protect`].
///
/// # Errors
/// The pager's.
pub fn protect(base: u64, pages: u64, rights: Rights) -> Result<Revoked, Error> {
    patiently(|| pager().protect(base, pages, rights.bits()))
}

/// The same for a list of pages: see [`Pages`].
///
/// # Errors
/// The pager's.
pub fn revoke(pages: Pages) -> Result<Revoked, Error> {
    patiently(|| pager().revoke(pages)).map(|told| told.0)
}

/// Has pages lie in frames of a node, with what is in them: see [`skerry_ipc::pager::Op::MovePages`].
///
/// # Errors
/// The pager's; [`Error::BadArgument`]: there is no such node, or it has no CPUs.
pub fn move_pages(base: u64, pages: u64, node: u16) -> Result<Changed, Error> {
    patiently(|| pager().move_pages(base, pages, node))
}

/// The same for a list of pages: see [`skerry_ipc::pager::Op::MoveList`].
///
/// # Errors
/// The pager's.
pub fn move_list(pages: Pages) -> Result<Changed, Error> {
    patiently(|| pager().move_list(pages)).map(|told| told.0)
}

/// Has every node that reads the pages have copies of its own: see [`skerry_ipc::pager::Op::Replicate`].
///
/// # Errors
/// The pager's.
pub fn replicate(base: u64, pages: u64) -> Result<Changed, Error> {
    patiently(|| pager().replicate(base, pages))
}

/// Has every node have the pages for itself: see [`skerry_ipc::pager::Op::MakeLocal`].
///
/// # Errors
/// The pager's.
pub fn make_local(base: u64, pages: u64) -> Result<Changed, Error> {
    patiently(|| pager().make_local(base, pages))
}

/// Has all nodes share the pages again: see [`skerry_ipc::pager::Op::MakeGlobal`].
///
/// # Errors
/// The pager's.
pub fn make_global(base: u64, pages: u64) -> Result<Changed, Error> {
    patiently(|| pager().make_global(base, pages))
}

/// Tries again when the pager has too many requests at a time.
fn patiently<R>(request: impl Fn() -> Result<R, Error>) -> Result<R, Error> {
    loop {
        match request() {
            Err(Error::TableFull) => pause(PAUSE_TICKS),
            answer => return answer,
        }
    }
}

/// A stack of its own region, which ends at `end`; what lies below it is up to the caller to keep unmapped.
///
/// # Errors
/// The pager's.
pub fn stack(end: u64, bytes: u64) -> Result<u64, Error> {
    region(end - bytes, bytes, RegionKind::Global, 0)?;
    Ok(end)
}

/// Ends the running thread.
pub fn exit(code: u64) -> ! {
    let _ = pager().thread_exit(code);
    sleep_forever()
}

/// Ends the whole task and says why.
pub fn end(code: u64, reason: core::fmt::Arguments<'_>) -> ! {
    let _ = pager().task_end(code, Chunk::format(reason));
    sleep_forever()
}

/// The thread that panicked takes the task with it: a check of the program has failed.
pub fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let pager: ThreadId = start::my_pager();
    let _ = Client::new(Kernel::<level::App>::new(), pager)
        .task_end(skerry_abi::syscall::exit::FAIL, Chunk::format(format_args!("panicked: {info}")));
    sleep_forever()
}
