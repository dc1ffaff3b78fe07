//! `peer`: what app pagers ask of each other's workers. Level 0: a worker never waits for a pager.
//!
//! `board` is the address of the task's board, a few frames of the master's pool that every pager can read (see the app pager's
//! `board` module); a pager that meets a task for the first time adopts it from there.

use skerry_abi::{SpaceId, ThreadId};

use crate::level;
use crate::pager::{Birth, Event, Free, List, Maintained, Stats, TaskEnd, ThreadEnd};
use crate::syscall::Holder;
use crate::{Chunk, Reader, Wire, Writer};

interface! {
    "peer", id 5, level level::Worker;
    /// Makes a space for threads of the task on a CPU of this cluster; from now on the task is known here.
    1 = SpaceMake space_make(task: u32, board: u64, cpu: u16) -> ();
    /// Creates and starts a thread on a CPU of this cluster, where the task has a space. Returns its name.
    2 = ThreadCreate thread_create(
        task: u32, number: u32, cpu: u16, entry: u64, stack: u64, argument: u64) -> ThreadId;
    /// To the master: adds a region to the task.
    3 = RegionCreate region_create(task: u32, base: u64, size: u64, kind: u64) -> ();
    /// What the task's faults cost on `node`, as far as this pager answered them.
    4 = Stats stats(task: u32, node: u16) -> Stats;
    /// A thread has ended elsewhere: answer those who wait for it here.
    5 = ThreadEnded thread_ended(task: u32, number: u32, end: ThreadEnd) -> ();
    /// Destroys the task's spaces in this cluster: it has no threads here any more.
    6 = SpaceDestroy space_destroy(task: u32) -> ();
    /// Ends a thread of this cluster in its kernel.
    7 = ThreadDelete thread_delete(thread: ThreadId) -> ();
    /// Moves a thread of this cluster to a space of another one, or, without a space, to another CPU of this one.
    8 = ThreadMove thread_move(thread: ThreadId, space: SpaceId, cpu: u16, pager: ThreadId) -> ();
    /// Starts a task whose home is this cluster; see the same in `pager`.
    9 = TaskStart task_start(birth: Birth, quota: u64, command: Chunk) -> u32;
    /// To a task's home: ends the task, on behalf of the task `by`, or of a pager if that is 0.
    10 = TaskKill task_kill(task: u32, by: u32, end: TaskEnd) -> ();
    /// To a task's home: its last thread has ended.
    11 = TaskOver task_over(task: u32) -> ();
    /// To a task's home: how it ended; if it has not yet, `cluster` is told later.
    12 = TaskAwait task_await(task: u32, by: u32, cluster: u16) -> Option<TaskEnd>;
    /// A task of another home is over: answer those who wait for it here.
    13 = TaskEnded task_ended(task: u32, end: TaskEnd) -> ();
    /// The task is over: forgets it.
    14 = TaskForget task_forget(task: u32) -> ();
    /// Whether nothing here looks at what the forgotten task has any more.
    15 = TaskQuiet task_quiet(task: u32) -> bool;
    /// Frames from one of this cluster's pools, for a page or a table of the task: its address says for which.
    16 = FrameTake frame_take(task: u32, address: u64, frames: u64) -> u64;
    /// What is free on a node of this cluster.
    17 = Free free(node: u16) -> Free;
    /// Gets to know the pager of `cluster`: where its mailboxes are, and its unmap worker, and may send it letters from then on.
    18 = Introduce introduce(cluster: u16, office: u64, worker: ThreadId) -> ();
    /// Where the mailboxes of this pager are, and its unmap worker.
    19 = Address address() -> (u64, ThreadId);
    /// Frames of this cluster for pages of a task, one each, as long as there are some.
    20 = FramesTake frames_take(taker: Taker, pages: Claimed) -> Frames;
    /// Which task has a frame mapped in this cluster.
    21 = Audit audit(frame: u64) -> Option<Holder>;
    /// The home of this task is dead; the called pager sees to the task's end.
    22 = Orphan orphan(task: u32, board: u64) -> ();
    /// The cache lines that this pager has maintained.
    23 = Maintenance maintenance() -> Maintained;
    /// Performs accesses to the words of a page in a master table of this pager's memory, from its entry at this address on: a script of
    /// the pagers' protocols (`remote.rs` there). Returns what was found, as far as the script went.
    24 = Table table(entry: u64, script: Script) -> Found;
    /// As [`Op::FramesTake`], for one page.
    25 = FrameClaim frame_claim(taker: Taker, page: u64) -> u64;
    /// As the same in `pager`.
    26 = CrashAt crash_at(step: u16, times: u32) -> u32;
    /// As the same in `pager`, of a page as records call it.
    27 = PageHistory page_history(page: u64, from: u64) -> (u64, Option<Event>);
}

/// Pages of one [`Op::FramesTake`] at most.
pub const MAX_FRAMES: usize = 61;
/// The addresses of pages, and the node of the frames they are to get, which is in the lower bits of each.
pub type Claimed = List<MAX_FRAMES>;
/// Their frames, and then zeros.
pub type Frames = List<MAX_FRAMES>;

/// The words of a script.
pub type Script = List<20>;
/// What its accesses found.
pub type Found = List<4>;

/// Who takes frames, as their records name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taker {
    /// The task whose pages they are for.
    pub task: u32,
    /// The seat of the pager that has them in hand.
    pub seat: u16,
    /// Its incarnation.
    pub incarnation: u16,
}

impl Wire for Taker {
    const WORDS: usize = 1;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(u64::from(self.task) << 32 | u64::from(self.incarnation) << 16 | u64::from(self.seat));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let word = input.take()?;
        Some(Self { task: (word >> 32) as u32, seat: word as u16, incarnation: (word >> 16) as u16 })
    }
}
