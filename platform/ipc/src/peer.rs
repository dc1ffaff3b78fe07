//! `peer`: what app pagers ask of each other's workers. Level 0: a worker never waits for a pager.
//!
//! `board` is the address of the task's board, a few frames of the master's pool that every pager can read (see the app pager's
//! `board` module); a pager that meets a task for the first time adopts it from there.

use crate::level;
use crate::pager::{Stats, ThreadEnd};

interface! {
    "peer", id 5, level level::Worker;
    /// Knows the task from now on.
    1 = Adopt adopt(task: u32, board: u64) -> ();
    /// Creates and starts a thread on a CPU of this cluster, adopting the task if need be. Returns its number.
    2 = ThreadCreate thread_create(
        task: u32, board: u64, cpu: u16, entry: u64, stack: u64, argument: u64) -> u32;
    /// To the master: adds a region to the task.
    3 = RegionCreate region_create(task: u32, base: u64, size: u64, kind: u64) -> ();
    /// What the task's faults cost on `node`, as far as this pager answered them.
    4 = Stats stats(task: u32, node: u16) -> Stats;
    /// A thread has ended elsewhere: answer those who wait for it here.
    5 = ThreadEnded thread_ended(task: u32, number: u32, end: ThreadEnd) -> ();
    /// Destroys the task's spaces in this cluster.
    6 = TaskEnd task_end(task: u32) -> ();
}
