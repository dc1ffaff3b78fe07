//! Fixed-priority round robin on each CPU, with time slices.
//!
//! A slice begins when the scheduler picks a thread. By default it ends with the CPU's next tick; a thread can have a length of its
//! own, of which it keeps the rest when a more urgent thread interrupts it, or none at all. A direct switch by IPC (the fast
//! path) is no scheduling decision: the partner runs on the caller's slice. Threads with a slice of their own take no part in it.
//!
//! Who was given the floating-point unit in a slice has one more. Else threads of a CPU whose slices are over as soon as they have the unit
//! (under emulation, while other CPUs have their turns) would take it from each other for ever, and none would use it.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::long::WAITER;
use crate::queue::NONE;
use crate::runqueue::RunQueue;
use crate::shootdown::CpuSet;
use crate::thread::{State, hold};
use core::sync::atomic::Ordering;
use skerry_abi::{Counter, CpuId, Error, ThreadId};
use skerry_trace::Event;

impl<H: Hal> Kernel<'_, H> {
    /// Lets a thread that is in no queue but those of its wait compete for its CPU, unless it is suspended.
    pub(crate) fn make_ready(&mut self, t: u32) {
        let Self { threads, cpus, links, .. } = self;
        let thread = &mut threads[t as usize];
        let held = hold::WAIT | hold::STOPPED | hold::MOVING | hold::MAPPING | hold::CANCELLED;
        if thread.hold & held != 0 {
            return self.release(t);
        }
        thread.state = State::Ready;
        let (cpu, priority) = (thread.cpu, thread.priority);
        let queue = &mut cpus[usize::from(cpu)];
        if queue.current == t {
            return;
        }
        queue.push(links, t, priority, false);
        if cpu != self.this_cpu && queue.current().is_none_or(|c| threads[c as usize].priority < priority) {
            self.hal.kick(cpu);
        }
    }

    /// The same for a thread that something holds.
    #[inline(never)]
    fn release(&mut self, t: u32) {
        if self.threads[t as usize].hold & hold::WAIT != 0 {
            self.leave_wait(t);
        }
        self.tell_cancellers(t, Ok(()));
        let thread = &mut self.threads[t as usize];
        if thread.hold & (hold::STOPPED | hold::MOVING | hold::MAPPING) == 0 {
            return self.make_ready(t);
        }
        thread.state = State::Stopped;
        if thread.hold & hold::MOVING != 0 {
            self.depart(t, State::Stopped);
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
        let now = self.hal.now();
        self.expire(now);
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        if now < queue.slice_end {
            return;
        }
        if now >= queue.tick_end {
            queue.tick_end = self.hal.tick_end();
        }
        let unit_for = core::mem::replace(&mut queue.unit_for, NONE);
        // A thread that another CPU deleted stays where `pick` finds it and ends it.
        if let Some(current) = queue.current().filter(|&t| !self.threads[t as usize].doomed) {
            if current == unit_for {
                queue.slice_end = queue.tick_end;
                if self.threads[current as usize].hold & hold::SLICED != 0 {
                    self.begin_slice(current);
                }
                return;
            }
            let priority = self.threads[current as usize].priority;
            if queue.highest().is_some_and(|p| p >= priority) {
                self.counters.count(Counter::Preemptions);
            }
            queue.set_current(None);
            queue.push(self.links, current, priority, false);
        }
    }

    /// The thread that runs here was given the floating-point unit: it uses it before its slice ends.
    pub fn note_unit(&mut self, t: u32) {
        self.cpus[usize::from(self.this_cpu)].unit_for = t;
    }

    /// Gives a thread, which begins to wait, a deadline (or with `u64::MAX` none) instead of any it had.
    pub(crate) fn set_deadline(&mut self, t: u32, deadline: u64) {
        self.clear_deadline(t);
        if deadline == u64::MAX {
            return;
        }
        let thread = &mut self.threads[t as usize];
        thread.deadline = deadline;
        thread.hold |= hold::TIMED;
        let queue = &mut self.cpus[usize::from(thread.cpu)];
        queue.timers.insert(self.timers, t, deadline);
        if queue.timers.first() == Some(t) && thread.cpu != self.this_cpu {
            // Its CPU may sleep without a timer.
            self.hal.kick(thread.cpu);
        }
    }

    /// Takes a thread's deadline away.
    pub(crate) fn clear_deadline(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        if thread.hold & hold::TIMED != 0 {
            thread.hold &= !hold::TIMED;
            thread.deadline = u64::MAX;
            self.cpus[usize::from(thread.cpu)].timers.remove(self.timers, t);
        }
    }

    /// When this CPU has to look at deadlines again; `u64::MAX` = never.
    #[inline(always)]
    pub fn deadline(&self) -> u64 {
        self.cpus[usize::from(self.this_cpu)].timers.earliest(self.timers)
    }

    /// When this CPU wants the timer to interrupt the thread that [`Kernel::pick`] named.
    #[inline(always)]
    pub fn next_timer(&self) -> u64 {
        self.deadline().min(self.cpus[usize::from(self.this_cpu)].slice_end)
    }

    /// Ends the waits of this CPU's threads whose time has come.
    fn expire(&mut self, now: u64) {
        loop {
            let timers = &self.cpus[usize::from(self.this_cpu)].timers;
            let Some(t) = timers.first().filter(|_| timers.earliest(self.timers) <= now) else { return };
            if !self.budget.take(WAITER) {
                // The rest is the business of another tick, which comes at once.
                return self.counters.count(Counter::PreemptionPoints);
            }
            self.clear_deadline(t);
            let (state, dest) = (self.threads[t as usize].state, self.threads[t as usize].op.dest);
            match state {
                State::Sending => {
                    self.leave_sender_queue(t, dest);
                    self.fail(t, Error::Timeout, false);
                }
                State::Receiving => self.fail(t, Error::Timeout, true),
                State::AwaitingCredit | State::AwaitingResponse => self.expire_remote(t),
                _ => {}
            }
        }
    }

    /// The thread that ran on this CPU, if nothing has happened that the scheduler must look at: it goes on. With it, when this CPU wants
    /// the timer to interrupt it.
    #[inline(always)]
    pub fn goes_on(&self) -> Option<(u32, u64)> {
        let queue = &self.cpus[usize::from(self.this_cpu)];
        let current = queue.current()?;
        let thread = &self.threads[current as usize];
        let first = thread.may_run() & !queue.attention & (queue.floor as u8 <= thread.priority);
        (first && self.is_quiet(queue))
            .then(|| (current, queue.timers.earliest(self.timers).min(queue.slice_end)))
    }

    /// Whether the thread that ran on this CPU, the only one of its cluster, waits and nobody else wants to run: then nobody runs now.
    #[inline(always)]
    pub fn rests(&mut self) -> bool {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        let Some(current) = queue.current() else { return false };
        let thread = &self.threads[current as usize];
        let waits = thread.state != State::Ready && !thread.doomed;
        let rests = waits && queue.is_alone() && !queue.traced && !self.parked && !self.chores.is_pending();
        if rests {
            queue.leave_alone();
        }
        rests
    }

    /// Whether nothing has to be done before a thread runs on the CPU of this queue.
    #[inline(always)]
    pub(crate) fn is_quiet(&self, queue: &RunQueue) -> bool {
        !self.parked & !self.chores.is_pending() & queue.visitors.is_empty()
    }

    /// Does what has to be done before a thread runs here. `false`: none will.
    #[cold]
    fn calm(&mut self) -> bool {
        if self.parked {
            self.cpus[usize::from(self.this_cpu)].set_current(None);
            return false;
        }
        if self.chores.is_pending() {
            self.work();
        }
        if !self.cpus[usize::from(self.this_cpu)].visitors.is_empty() {
            self.serve_visitors();
        }
        true
    }

    /// Chooses what this CPU runs next; `None`: nothing, sleep until an interrupt.
    #[inline]
    pub fn pick(&mut self) -> Option<u32> {
        if !self.is_quiet(&self.cpus[usize::from(self.this_cpu)]) && !self.calm() {
            return None;
        }
        let Self { cpus, threads, links, .. } = self;
        let queue = &mut cpus[usize::from(self.this_cpu)];
        let Some(current) = queue.current() else {
            // After a sleep the last tick may be long ago.
            queue.tick_end = self.hal.tick_end();
            return self.pick_queued();
        };
        let thread = &threads[current as usize];
        if !thread.may_run() {
            if thread.doomed {
                // It ran until now, so it is in no queue.
                self.reap(current);
            } else {
                queue.set_current(None);
            }
            return self.pick_queued();
        }
        let Some(by) = queue.highest().filter(|&p| p > thread.priority) else { return Some(current) };
        queue.preempt(links, by, thread.priority);
        self.counters.count(Counter::Preemptions);
        if thread.hold & hold::SLICED != 0 {
            let left = queue.slice_end.saturating_sub(self.hal.now());
            self.cold[current as usize].slice_left = left;
        }
        self.begin()
    }

    /// The priority of the most urgent thread that could run on this CPU.
    pub(crate) fn most_urgent(&self) -> Option<u8> {
        let queue = &self.cpus[usize::from(self.this_cpu)];
        let current = queue.current().map(|t| &self.threads[t as usize]);
        let current = current.filter(|t| t.state == State::Ready).map(|t| t.priority);
        queue.highest().max(current)
    }

    fn pick_queued(&mut self) -> Option<u32> {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        let next = queue.pop(self.links);
        queue.set_current(next);
        self.begin()
    }

    /// The thread that was just chosen begins to run.
    #[inline(always)]
    fn begin(&mut self) -> Option<u32> {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        queue.slice_end = queue.tick_end;
        let (next, here) = (queue.current(), CpuSet::of(queue.local));
        self.trace(|k| Event::Switch { to: next.map_or(ThreadId::NIL, |t| k.threads[t as usize].id) });
        let t = next?;
        let thread = &self.threads[t as usize];
        let space = thread.space;
        if thread.hold & hold::SLICED != 0 {
            self.begin_slice(t);
        }
        self.note_run_on(space, here);
        next
    }

    /// A thread that has no time slice of its own is to run on this CPU, which had nothing to do.
    pub(crate) fn begin_run(&mut self, t: u32) {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        queue.tick_end = self.hal.tick_end();
        queue.slice_end = queue.tick_end;
        self.note_run(self.threads[t as usize].space);
    }

    /// Begins a slice of the thread's own.
    #[cold]
    fn begin_slice(&mut self, t: u32) {
        let queue = &mut self.cpus[usize::from(self.this_cpu)];
        queue.watch_current();
        let cold = &mut self.cold[t as usize];
        let left = core::mem::take(&mut cold.slice_left);
        queue.slice_end = match cold.slice {
            0 => u64::MAX,
            slice => self.hal.now().saturating_add(if left == 0 { slice } else { left }),
        };
    }

    /// Gives a thread a time slice of its own, in steps of the counter; 0: it runs until it blocks. A thread that runs on another CPU
    /// finishes its present slice first.
    pub(crate) fn set_slice(&mut self, t: u32, slice: u64) {
        self.threads[t as usize].hold |= hold::SLICED;
        let cold = &mut self.cold[t as usize];
        (cold.slice, cold.slice_left) = (slice, 0);
        if self.cpus[usize::from(self.this_cpu)].current() == Some(t) {
            self.begin_slice(t);
        } else if self.is_running(t) {
            let cpu = self.threads[t as usize].cpu;
            self.cpus[usize::from(cpu)].watch_current();
        }
    }

    /// Gives a thread another priority, another CPU of the cluster, or both. If it leaves its CPU, it runs here or not at all, and its
    /// floating-point registers are here or in its control block.
    pub(crate) fn set_place(&mut self, t: u32, priority: u8, cpu: CpuId) {
        let running = self.is_running(t);
        let thread = &mut self.threads[t as usize];
        let (old, ready) = (thread.cpu, thread.state == State::Ready);
        if cpu == old && running {
            thread.priority = priority;
            if cpu != self.this_cpu {
                // Somebody else may be more urgent now.
                self.hal.kick(cpu);
            }
            return;
        }
        if ready {
            self.make_unready(t);
        }
        let thread = &mut self.threads[t as usize];
        thread.priority = priority;
        if cpu != old {
            self.trace_move(t, cpu);
            self.leave_cpu(t);
            let deadline = self.threads[t as usize].deadline;
            self.clear_deadline(t);
            let thread = &mut self.threads[t as usize];
            thread.cpu = cpu;
            let (id, page, slot) = (thread.id, thread.utcb_page, thread.utcb_slot);
            // It reads there whose requests go where.
            self.utcb_at(page, slot)[1].store(u64::from(cpu), Ordering::Relaxed);
            self.counters.count(Counter::Migrations);
            self.reroute(id, cpu);
            self.set_deadline(t, deadline);
        }
        if ready {
            self.make_ready(t);
        }
    }

    /// Brings into its control block what a thread has left in the unit of the CPU it now leaves.
    pub(crate) fn leave_cpu(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        if thread.fp_live {
            debug_assert_eq!(thread.cpu, self.this_cpu);
            thread.fp_live = false;
            self.hal.save_fp(&mut thread.fp);
        }
        self.cold[t as usize].slice_left = 0;
    }
}
