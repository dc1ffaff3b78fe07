//! Fixed-priority round robin on each CPU.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::queue::{Link, NONE, Queue};
use crate::thread::State;
use skerry_abi::{Counter, CpuId, Error};

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
    current: u32,
    /// The thread that runs is doomed.
    attention: bool,
    /// Whether the CPU belongs to this cluster.
    pub ours: bool,
    /// Its number among the cluster's CPUs.
    pub local: u16,
    cpu: CpuId,
    /// No deadline of a thread of this CPU is earlier; `u64::MAX` = there is none.
    pub deadline: u64,
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
            ours: false,
            local: 0,
            cpu,
            deadline: u64::MAX,
            ready: [0; PRIORITIES / 64],
            queues: [Queue::EMPTY; PRIORITIES],
        }
    }

    /// The thread that runs, if any.
    pub fn current(&self) -> Option<u32> {
        (self.current != NONE).then_some(self.current)
    }
    /// Names the thread that runs.
    pub(crate) fn set_current(&mut self, thread: Option<u32>) {
        self.current = thread.unwrap_or(NONE);
        self.attention = false;
        self.set_floor();
    }
    /// Names another thread instead of the one that runs, which is not doomed.
    #[inline(always)]
    pub(crate) fn switch_to(&mut self, thread: u32) {
        self.current = thread;
    }
    /// The thread that runs was deleted from another CPU: whatever it does next, it ends.
    pub(crate) fn stop_current(&mut self) {
        self.attention = true;
        self.set_floor();
    }
    fn set_floor(&mut self) {
        self.floor = if self.attention { 1 << 63 } else { floor(self.cpu, self.highest().unwrap_or(0)) };
    }

    #[cfg(test)]
    pub(crate) fn ready_queues(&self) -> &[Queue] {
        &self.queues
    }
    #[cfg(test)]
    pub(crate) fn is_marked(&self, priority: usize) -> bool {
        self.ready[priority / 64] & (1 << (priority % 64)) != 0
    }

    fn highest(&self) -> Option<u8> {
        let word = self.ready.iter().rposition(|&w| w != 0)?;
        Some((word as u32 * 64 + 63 - self.ready[word].leading_zeros()) as u8)
    }
    fn mark(&mut self, priority: u8) {
        let (word, bit) = (usize::from(priority) / 64, 1u64 << (priority % 64));
        match self.queues[usize::from(priority)].is_empty() {
            true => self.ready[word] &= !bit,
            false => self.ready[word] |= bit,
        }
        self.set_floor();
    }
    fn push(&mut self, links: &mut [Link], thread: u32, priority: u8, front: bool) {
        let queue = &mut self.queues[usize::from(priority)];
        match front {
            true => queue.push_front(links, thread),
            false => queue.push_back(links, thread),
        }
        self.mark(priority);
    }
    fn remove(&mut self, links: &mut [Link], thread: u32, priority: u8) {
        self.queues[usize::from(priority)].remove(links, thread);
        self.mark(priority);
    }
    fn pop(&mut self, links: &mut [Link]) -> Option<u32> {
        let priority = self.highest()?;
        let thread = self.queues[usize::from(priority)].pop_front(links)?;
        self.mark(priority);
        Some(thread)
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// Lets a thread that is in no queue compete for its CPU.
    pub(crate) fn make_ready(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        thread.state = State::Ready;
        // The fast path lets a thread wait for ever without touching this.
        thread.deadline = u64::MAX;
        let (cpu, priority) = (thread.cpu, thread.priority);
        let queue = &mut self.cpus[usize::from(cpu)];
        if queue.current == t {
            return;
        }
        queue.push(self.links, t, priority, false);
        let preempts = queue.current().is_none_or(|c| self.threads[c as usize].priority < priority);
        if cpu != self.this_cpu && preempts {
            self.hal.kick(cpu);
        }
    }

    /// Takes a thread that is `Ready` off its CPU's queue. Not for a thread that runs on another CPU.
    pub(crate) fn make_unready(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let queue = &mut self.cpus[usize::from(thread.cpu)];
        if queue.current == t {
            queue.set_current(None);
        } else {
            queue.remove(self.links, t, thread.priority);
        }
    }

    /// The timer interrupted: the time slice of the running thread is over, or somebody has waited long enough.
    pub(crate) fn tick(&mut self) {
        self.counters.count(Counter::Ticks);
        self.expire();
        // A thread that another CPU deleted stays where `pick` finds it and ends it.
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        if let Some(current) = queue.current().filter(|&t| !self.threads[t as usize].doomed) {
            queue.set_current(None);
            queue.push(self.links, current, self.threads[current as usize].priority, false);
        }
    }

    /// Notes that a thread, which begins to wait, has a deadline.
    pub(crate) fn set_deadline(&mut self, t: u32, deadline: u64) {
        let thread = &mut self.threads[t as usize];
        thread.deadline = deadline;
        let queue = &mut self.cpus[usize::from(thread.cpu)];
        if deadline < queue.deadline {
            queue.deadline = deadline;
            if thread.cpu != self.this_cpu {
                // Its CPU may sleep without a timer.
                self.hal.kick(thread.cpu);
            }
        }
    }

    /// When this CPU has to look at deadlines again; `u64::MAX` = never.
    pub fn deadline(&self) -> u64 {
        self.cpus[usize::from(self.this_cpu)].deadline
    }

    /// Ends the waits of this CPU's threads whose time has come.
    fn expire(&mut self) {
        let (now, cpu) = (self.hal.now(), self.this_cpu);
        if now < self.cpus[usize::from(cpu)].deadline {
            return;
        }
        let mut next = u64::MAX;
        for t in 0..self.threads.len() as u32 {
            let thread = &self.threads[t as usize];
            if thread.cpu != cpu || !matches!(thread.state, State::Sending | State::Receiving) {
                continue;
            }
            if thread.deadline > now {
                next = next.min(thread.deadline);
                continue;
            }
            let (state, dest) = (thread.state, thread.op.dest);
            if state == State::Sending {
                self.leave_sender_queue(t, dest);
            }
            self.fail(t, Error::Timeout, state == State::Receiving);
        }
        self.cpus[usize::from(cpu)].deadline = next;
    }

    /// Chooses what this CPU runs next; `None`: nothing, sleep until an interrupt.
    pub fn pick(&mut self) -> Option<u32> {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        if let Some(current) = queue.current() {
            let thread = &self.threads[current as usize];
            if thread.doomed {
                // It ran until now, so it is in no queue.
                self.reap(current);
                return self.pick_queued();
            }
            if thread.state == State::Ready {
                if queue.highest().is_none_or(|p| p <= thread.priority) {
                    return Some(current);
                }
                queue.push(self.links, current, thread.priority, true);
            }
            queue.set_current(None);
        }
        self.pick_queued()
    }

    fn pick_queued(&mut self) -> Option<u32> {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        let next = queue.pop(self.links);
        queue.set_current(next);
        next
    }
}
