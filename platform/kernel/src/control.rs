//! Control over existing threads: start, delete, suspend, resume, exchange registers, priority, time slice, CPU.
//!
//! A thread that runs on another CPU of the cluster, or whose floating-point registers are in that CPU's unit, can be touched
//! by that CPU only. So the call *visits* it: the caller waits in the other CPU's queue of visitors, and that CPU carries the call
//! out, from the beginning, when it next enters the kernel (a doorbell makes that soon). Nothing has to be undone or remembered
//! if either side is gone by then: a caller that was deleted has left the queue, and a thread that was deleted is not found.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::migrate::Destination;
use crate::queue::NONE;
use crate::remote::Ending;
use crate::syscall::Arguments;
use crate::thread::{Kind, State, hold};
use skerry_abi::syscall::{exchange, thread_op, thread_state};
use skerry_abi::{CpuId, Error, SpaceId, ThreadId};
use skerry_checks::{Check, passes};

/// What it costs to serve a visitor, if its call does nothing that is counted elsewhere.
const VISIT: u32 = 60;

/// Those who may wait for one and the same end, of a space or of a cancelled wait: they are all woken in one go.
pub(crate) const MAX_WAITERS: usize = 8;
/// What it costs to wake one of them.
pub(crate) const WAKE: u32 = 12;

/// What became of a control call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It is finished: x1..=x3.
    With([u64; 3]),
    /// It was interrupted between two steps: the caller executes it again.
    Again,
    /// It has to be carried out by this CPU.
    Visit(CpuId),
    /// The caller waits for something else, and then executes it again.
    Waits,
}

impl Done {
    pub(crate) const NOTHING: Self = Self::With([0; 3]);
    pub(crate) const fn value(value: u64) -> Self {
        Self::With([value, 0, 0])
    }
}

/// Where a thread waits for its control call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum Place {
    /// Among the visitors of a CPU, to execute this system call there.
    Cpu(CpuId, u16),
    /// For the last thread of the space in this slot.
    Space(u16),
    /// For the end of the journey of the thread in this slot.
    Thread(u32),
    /// For the end of the cancelled wait of the thread in this slot, which was in this state ([`thread_state`]).
    End(u32, u64),
}

impl<H: Hal> Kernel<'_, H> {
    /// The system call THREAD_CONTROL of thread `caller`.
    pub(crate) fn thread_control(&mut self, caller: u32, x: &Arguments) -> Result<Done, Error> {
        match x[0] {
            thread_op::CREATE => return self.create_call(x).map(|id| Done::value(id.0)),
            thread_op::START => return self.start_call(x).map(|()| Done::NOTHING),
            thread_op::DELETE..=thread_op::MIGRATE => {}
            _ => return Err(Error::BadArgument),
        }
        let id = ThreadId(x[1]);
        if x[0] == thread_op::DELETE && self.elsewhere(id).is_some() {
            return self.kill_remote(id).map(|()| Done::NOTHING);
        }
        let t = match x[0] {
            thread_op::DELETE => self.find_here(id)?,
            _ => self.find_settled(id)?,
        };
        if let Some(cpu) = self.runs_elsewhere(t) {
            return Ok(Done::Visit(cpu));
        }
        match x[0] {
            thread_op::DELETE => self.delete_thread(t)?,
            thread_op::SUSPEND => self.suspend(t),
            thread_op::RESUME => self.resume(t),
            thread_op::EXCHANGE if t == caller => return Err(Error::BadArgument),
            thread_op::MIGRATE => {
                let to = Destination {
                    space: SpaceId(x[2]),
                    cpu: u16::try_from(x[3]).map_err(|_| Error::BadArgument)?,
                    pager: ThreadId(x[4]),
                    handler: ThreadId(if x[5] == 0 { x[4] } else { x[5] }),
                };
                return self.migrate(caller, t, to);
            }
            thread_op::EXCHANGE => return self.exchange(caller, t),
            _ => return Err(Error::BadArgument),
        }
        Ok(Done::NOTHING)
    }

    #[inline(always)]
    pub(crate) fn create_call(&mut self, x: &Arguments) -> Result<ThreadId, Error> {
        let new = self.decode_create(x)?;
        self.create_thread(new)
    }

    #[inline(always)]
    pub(crate) fn start_call(&mut self, x: &Arguments) -> Result<(), Error> {
        let t = self.find_settled(ThreadId(x[1]))?;
        self.start_thread(t, x[2], x[3], x[4])
    }

    /// The system call SCHEDULE.
    pub(crate) fn schedule(&mut self, x: &Arguments) -> Result<Done, Error> {
        const KEEP: u64 = !0;
        let t = self.find_settled(ThreadId(x[1]))?;
        let priority = match x[2] {
            KEEP => self.threads[t as usize].priority,
            priority => u8::try_from(priority).map_err(|_| Error::BadArgument)?,
        };
        let cpu = match x[4] {
            KEEP => self.threads[t as usize].cpu,
            cpu => u16::try_from(cpu).ok().filter(|&c| self.owns_cpu(c)).ok_or(Error::BadArgument)?,
        };
        let pager = ThreadId(x[5]);
        if !passes(Check::NewPager, pager.is_nil() || pager.cluster() == self.cluster) {
            return Err(Error::BadArgument);
        }
        let old = self.threads[t as usize].cpu;
        if cpu != old && old != self.this_cpu && (self.is_running(t) || self.threads[t as usize].fp_live) {
            return Ok(Done::Visit(old));
        }
        self.set_place(t, priority, cpu);
        if !pager.is_nil() {
            let thread = &mut self.threads[t as usize];
            if thread.handler == thread.pager {
                thread.handler = pager;
            }
            thread.pager = pager;
        }
        if x[3] != KEEP {
            self.set_slice(t, x[3]);
        }
        Ok(Done::NOTHING)
    }

    /// A thread of this cluster, or word that it is in another one now.
    #[inline(always)]
    fn find_here(&self, id: ThreadId) -> Result<u32, Error> {
        self.find(id).ok_or_else(|| self.is_gone(id))
    }
    #[cold]
    fn is_gone(&self, id: ThreadId) -> Error {
        if self.elsewhere(id).is_some() { Error::Moved } else { Error::NoSuchThread }
    }
    /// The same, for what cannot be done to a thread that moves to another cluster.
    #[inline(always)]
    fn find_settled(&self, id: ThreadId) -> Result<u32, Error> {
        let t = self.find_here(id)?;
        let thread = &self.threads[t as usize];
        let moves = thread.state == State::Moving || thread.hold & hold::MOVING != 0;
        if moves { Err(Error::WrongState) } else { Ok(t) }
    }

    /// Whether the thread is the one that its CPU runs.
    pub(crate) fn is_running(&self, t: u32) -> bool {
        self.cpus[usize::from(self.threads[t as usize].cpu)].current() == Some(t)
    }
    /// The CPU that runs the thread, if it is not this one.
    pub(crate) fn runs_elsewhere(&self, t: u32) -> Option<CpuId> {
        let cpu = self.threads[t as usize].cpu;
        (cpu != self.this_cpu && self.is_running(t)).then_some(cpu)
    }
    /// Whether a CPU is of this cluster.
    pub(crate) fn owns_cpu(&self, cpu: CpuId) -> bool {
        self.cpus.get(usize::from(cpu)).is_some_and(|c| c.ours)
    }

    /// Stops a thread that does not run on another CPU. An IPC it is in goes on; then it stops.
    fn suspend(&mut self, t: u32) {
        if self.threads[t as usize].hold & hold::STOPPED != 0 {
            return;
        }
        if self.threads[t as usize].state == State::Ready {
            self.make_unready(t);
            self.threads[t as usize].state = State::Stopped;
        }
        self.threads[t as usize].hold |= hold::STOPPED;
    }

    fn resume(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        thread.hold &= !hold::STOPPED;
        if thread.state == State::Stopped {
            self.make_ready(t);
        }
    }

    /// Reads and changes registers of a thread that does not run on another CPU, after ending its IPC if asked to.
    #[inline(never)]
    fn exchange(&mut self, caller: u32, t: u32) -> Result<Done, Error> {
        let flags = self.arguments(caller)[2];
        if flags & !exchange::ALL != 0 {
            return Err(Error::BadArgument);
        }
        let state = self.threads[t as usize].state;
        let kept = flags & exchange::CANCEL == 0;
        let waits = matches!(state, State::Sending | State::Receiving) || self.awaits_cluster(t);
        let calls = state == State::Controlling || waits && self.threads[t as usize].op.kind == Kind::Ipc;
        if calls && kept && flags & (exchange::X0 | exchange::PC) != 0 {
            // Its registers are the arguments of a call that is not complete, and may have to be executed again.
            return Err(Error::WrongState);
        }
        let told = self.state_code(t);
        if !kept {
            if self.awaits_cluster(t) && self.cold[t as usize].cancellers.has(self.links, MAX_WAITERS) {
                return Err(Error::TableFull);
            }
            self.cancel(t);
            if self.awaits_cluster(t) {
                // That cluster will say how its wait ends.
                self.threads[caller as usize].state = State::Controlling;
                self.threads[t as usize].hold |= hold::CANCELLED;
                let Self { links, cold, .. } = self;
                cold[caller as usize].place = Place::End(t, told);
                cold[t as usize].cancellers.push_back(links, caller);
                return Ok(Done::Waits);
            }
        }
        Ok(self.set_registers(caller, t, told))
    }

    fn set_registers(&mut self, caller: u32, t: u32, told: u64) -> Done {
        let [_, _, flags, pc, sp, x0, _] = self.arguments(caller);
        let context = &mut self.threads[t as usize].context;
        let old = [context.pc, context.sp, told];
        if flags & exchange::PC != 0 {
            context.pc = pc;
        }
        if flags & exchange::SP != 0 {
            context.sp = sp;
        }
        if flags & exchange::X0 != 0 {
            context.x[0] = x0;
        }
        Done::With(old)
    }

    /// What `t` waited for in another cluster is over, or `t` is: those who have cancelled it complete their calls before `t` does anything.
    pub(crate) fn tell_cancellers(&mut self, t: u32, result: Result<(), Error>) {
        if self.threads[t as usize].hold & hold::CANCELLED == 0 {
            return;
        }
        self.threads[t as usize].hold &= !hold::CANCELLED;
        while let Some(caller) = self.cold[t as usize].cancellers.pop_front(self.links) {
            let Place::End(_, told) = self.cold[caller as usize].place else { continue };
            let result = result.map(|()| self.set_registers(caller, t, told));
            self.finish_call(caller, result);
            self.make_ready(caller);
            self.budget.charge(WAKE);
        }
    }

    fn state_code(&self, t: u32) -> u64 {
        let thread = &self.threads[t as usize];
        let suspended = if thread.hold & hold::STOPPED != 0 { thread_state::SUSPENDED } else { 0 };
        suspended
            | match thread.state {
                State::Created => thread_state::CREATED,
                State::Sending | State::AwaitingCredit | State::AwaitingResponse => thread_state::SENDING,
                State::Receiving | State::Pulling => thread_state::RECEIVING,
                State::Halted => thread_state::HALTED,
                State::Controlling => thread_state::CONTROLLING,
                _ => thread_state::READY,
            }
    }

    /// Ends whatever a thread waits for with [`Error::Cancelled`]. A fault or an exception is dropped: the thread tries again.
    fn cancel(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        match thread.state {
            State::Sending => self.leave_sender_queue(t, thread.op.dest),
            State::Receiving => {}
            State::Halted => {
                self.make_ready(t);
                return;
            }
            State::Controlling => {
                self.leave_place(t);
                self.finish_call(t, Err(Error::Cancelled));
                self.make_ready(t);
                return;
            }
            State::AwaitingCredit | State::AwaitingResponse | State::Pulling => {
                return self.cancel_remote(t, Ending::Cancel);
            }
            _ => return,
        }
        let thread = &mut self.threads[t as usize];
        if thread.op.kind == Kind::Ipc {
            let in_receive = thread.state == State::Receiving;
            self.fail(t, Error::Cancelled, in_receive);
        } else {
            thread.reply_space = SpaceId::NIL;
            self.make_ready(t);
        }
    }

    /// Lets the caller wait until `cpu` carries its system call out.
    pub(crate) fn visit(&mut self, t: u32, cpu: CpuId, number: u16) {
        self.threads[t as usize].state = State::Controlling;
        let Self { cpus, links, cold, .. } = self;
        cold[t as usize].place = Place::Cpu(cpu, number);
        cpus[usize::from(cpu)].visitors.push_back(links, t);
        self.hal.kick(cpu);
    }

    /// Carries out the calls that other CPUs' threads have brought here.
    pub(crate) fn serve_visitors(&mut self) {
        while self.budget.take(VISIT) {
            let Self { cpus, links, cold, .. } = self;
            let Some(t) = cpus[usize::from(self.this_cpu)].visitors.pop_front(links) else { return };
            let Place::Cpu(_, number) = cold[t as usize].place else { continue };
            let result = self.control_call(t, number);
            match result {
                Ok(Done::Visit(cpu)) => self.visit(t, cpu, number),
                Ok(Done::Waits) => {}
                result => {
                    self.finish_call(t, result);
                    // It may have deleted itself by way of its space.
                    if self.threads[t as usize].state == State::Controlling {
                        self.make_ready(t);
                    }
                }
            }
        }
        if !self.cpus[usize::from(self.this_cpu)].visitors.is_empty() {
            self.hal.kick(self.this_cpu);
        }
    }

    /// Takes a thread out of the queue in which it waits for its control call.
    pub(crate) fn leave_place(&mut self, t: u32) {
        let Self { cpus, spaces, links, cold, threads, .. } = self;
        match cold[t as usize].place {
            Place::Cpu(cpu, _) => cpus[usize::from(cpu)].visitors.remove(links, t),
            Place::Space(space) => spaces[usize::from(space)].mourners.remove(links, t),
            Place::Thread(thread) => cold[thread as usize].escort = NONE,
            Place::End(thread, _) => {
                let cancellers = &mut cold[thread as usize].cancellers;
                cancellers.remove(links, t);
                if cancellers.is_empty() {
                    threads[thread as usize].hold &= !hold::CANCELLED;
                }
            }
        }
    }
}
