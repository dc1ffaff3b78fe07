//! One CPU's run queue: who runs, who is ready, and how urgent somebody has to be to run without the scheduler being asked.
//!
//! A queue for each priority and a bit for each queue that is not empty, so the most urgent thread is found by counting zeros.
//! [`crate::sched`] decides with it; the fast paths only compare with its `floor`.

use crate::deadline::Deadlines;
use crate::queue::{Link, NONE, Queue};
use crate::thread::State;
use skerry_abi::CpuId;

/// Priorities: 0 (least urgent) to 255.
const PRIORITIES: usize = 256;

/// One CPU's run queue and the thread it runs. The first words are known to the exception entry.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct RunQueue {
    /// The standing (see [`crate::thread::Tcb::priority`]) of a thread that receives on this CPU and is as urgent as the most urgent
    /// one that is ready here: of a thread that receives and may run next, the standing is larger by less than 256. Or
    /// larger than any thread's, if the scheduler must be asked first.
    pub(crate) floor: u64,
    /// The thread that runs, in no queue; `NONE` if there is none.
    pub(crate) current: u32,
    /// The scheduler must be asked before anything else runs: the thread that runs is doomed or has a time slice of its own.
    pub(crate) attention: bool,
    /// Everything is traced: nothing takes a fast path.
    pub(crate) traced: bool,
    /// Whether the CPU belongs to this cluster.
    pub ours: bool,
    /// Its number among the cluster's CPUs.
    pub local: u16,
    cpu: CpuId,
    /// When waits of its threads end.
    pub(crate) timers: Deadlines,
    /// When the slice of the running thread ends.
    pub(crate) slice_end: u64,
    /// When default slices end: the CPU's next tick.
    pub(crate) tick_end: u64,
    /// Who was given the floating-point unit since a slice last ended.
    pub(crate) unit_for: u32,
    /// Threads of other CPUs whose control calls have to be carried out here.
    pub(crate) visitors: Queue,
    ready: [u64; PRIORITIES / 64],
    queues: [Queue; PRIORITIES],
}

const fn floor(cpu: CpuId, priority: u8) -> u64 {
    priority as u64 | (cpu as u64) << 16 | (State::Receiving as u64) << 32
}

impl RunQueue {
    /// Offset of `floor`, for the assembly.
    pub const FLOOR: usize = core::mem::offset_of!(Self, floor);
    /// Offset of `current`, for the assembly.
    pub const CURRENT: usize = core::mem::offset_of!(Self, current);

    /// A CPU with nothing to run.
    pub const fn new(cpu: CpuId) -> Self {
        Self {
            floor: floor(cpu, 0),
            current: NONE,
            attention: false,
            traced: false,
            ours: false,
            local: 0,
            cpu,
            timers: Deadlines::NONE,
            slice_end: 0,
            tick_end: 0,
            unit_for: NONE,
            visitors: Queue::EMPTY,
            ready: [0; PRIORITIES / 64],
            queues: [Queue::EMPTY; PRIORITIES],
        }
    }

    /// The thread that runs, if any.
    pub fn current(&self) -> Option<u32> {
        (self.current != NONE).then_some(self.current)
    }
    /// Names the thread that runs.
    #[inline]
    pub(crate) fn set_current(&mut self, thread: Option<u32>) {
        self.current = thread.unwrap_or(NONE);
        if self.attention {
            self.attention = false;
            self.set_floor();
        }
    }
    /// Names another thread instead of the one that runs; neither needs the scheduler.
    #[inline(always)]
    pub(crate) fn switch_to(&mut self, thread: u32) {
        self.current = thread;
    }
    /// The thread that runs was deleted from another CPU, or has a time slice of its own: whatever it does next, the scheduler sees it.
    pub(crate) fn watch_current(&mut self) {
        self.attention = true;
        self.set_floor();
    }
    /// Everything is to be traced: nothing takes a fast path from now on.
    pub(crate) fn refuse_fast_paths(&mut self) {
        self.traced = true;
        self.set_floor();
    }
    fn set_floor(&mut self) {
        self.floor = if self.attention || self.traced {
            1 << 63
        } else {
            floor(self.cpu, self.highest().unwrap_or(0))
        };
    }

    /// Whether no thread is ready besides the one that runs, if any, and nothing else wants the scheduler; on the only CPU of a cluster,
    /// which no other sends visitors.
    #[inline(always)]
    pub(crate) fn is_alone(&self) -> bool {
        let [a, b, c, d] = self.ready;
        a | b | c | d == 0 && !self.attention
    }
    /// Whether neither the thread that runs nor a trace needs the general code.
    #[inline(always)]
    pub(crate) fn is_calm(&self) -> bool {
        !self.attention & !self.traced
    }
    /// The thread that runs makes room for the most urgent one that is ready, and will be the next of its own priority.
    #[inline(always)]
    pub(crate) fn preempt(&mut self, links: &mut [Link], by: u8, priority: u8) {
        let queue = &mut self.queues[usize::from(by)];
        let Some(next) = queue.pop_front(links) else { return };
        if queue.is_empty() {
            self.ready[usize::from(by) / 64] &= !(1 << (by % 64));
        }
        self.queues[usize::from(priority)].push_front(links, self.current);
        self.ready[usize::from(priority) / 64] |= 1 << (priority % 64);
        (self.current, self.attention) = (next, false);
        self.set_floor();
    }
    /// Whether a thread of this priority is more urgent than all that are ready, and the scheduler need not be asked.
    #[inline(always)]
    pub(crate) fn is_below(&self, priority: u8) -> bool {
        self.floor < floor(self.cpu, priority)
    }
    /// The running thread, of this priority, makes room for one that is in no queue, and will be the next of its own priority.
    #[inline(always)]
    pub(crate) fn make_room(&mut self, links: &mut [Link], priority: u8, thread: u32) {
        self.push(links, self.current, priority, true);
        self.current = thread;
    }
    /// The thread that ran waits, and nothing else wants to run: [`RunQueue::is_alone`] was true.
    #[inline(always)]
    pub(crate) fn leave_alone(&mut self) {
        self.current = NONE;
    }

    #[cfg(test)]
    pub(crate) fn ready_queues(&self) -> &[Queue] {
        &self.queues
    }
    #[cfg(test)]
    pub(crate) fn is_marked(&self, priority: usize) -> bool {
        self.ready[priority / 64] & (1 << (priority % 64)) != 0
    }

    #[inline(always)]
    pub(crate) fn highest(&self) -> Option<u8> {
        let [a, b, c, d] = self.ready;
        let top = |word: u64, first: u32| Some((first + word.ilog2()) as u8);
        match (a, b, c, d) {
            (_, _, _, 1..) => top(d, 192),
            (_, _, 1.., _) => top(c, 128),
            (_, 1.., _, _) => top(b, 64),
            (1.., _, _, _) => top(a, 0),
            _ => None,
        }
    }
    #[inline(always)]
    pub(crate) fn push(&mut self, links: &mut [Link], thread: u32, priority: u8, front: bool) {
        let queue = &mut self.queues[usize::from(priority)];
        match front {
            true => queue.push_front(links, thread),
            false => queue.push_back(links, thread),
        }
        self.ready[usize::from(priority) / 64] |= 1 << (priority % 64);
        // The priority is the lowest byte of both. If the scheduler wants to be asked, the floor is above all of them.
        self.floor = self.floor.max(floor(self.cpu, priority));
    }
    #[inline(always)]
    pub(crate) fn remove(&mut self, links: &mut [Link], thread: u32, priority: u8) {
        self.queues[usize::from(priority)].remove(links, thread);
        self.unmark(priority);
    }
    #[inline(always)]
    pub(crate) fn pop(&mut self, links: &mut [Link]) -> Option<u32> {
        let priority = self.highest()?;
        let thread = self.queues[usize::from(priority)].pop_front(links)?;
        self.unmark(priority);
        Some(thread)
    }
    /// A thread has left the queue of this priority.
    #[inline(always)]
    fn unmark(&mut self, priority: u8) {
        if self.queues[usize::from(priority)].is_empty() {
            self.ready[usize::from(priority) / 64] &= !(1 << (priority % 64));
            self.set_floor();
        }
    }
}
