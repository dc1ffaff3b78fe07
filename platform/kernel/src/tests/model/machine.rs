//! A scenario's machine made of real kernels, and the events that can happen on it.

use super::ghost::{Ghost, Result as Outcome, bit, number};
use super::scenario::{CLUSTERS, Do, Scenario, THREADS, Thread};
use crate::birth::NewThread;
use crate::control::Done;
use crate::kernel::{Event, UTCB_MR0};
use crate::migrate::Destination;
use crate::ring::Lane;
use crate::syscall::{Next, SVC_SIZE};
use crate::tests::arenas::Rings;
use crate::tests::world::TestKernel;
use crate::thread::{State, hold};
use core::sync::atomic::Ordering;
use skerry_abi::message::{REGISTER_WORDS, kernel_label};
use skerry_abi::syscall::{IPC, NOTIFY, THREAD_CONTROL, exchange, thread_op};
use skerry_abi::{CpuId, Error, SpaceId, Tag, ThreadId, Timeout};
use std::format;
use std::string::String;
use std::vec::Vec;

/// Words of a long message: one of them travels in the UTCB.
pub(super) const WORDS: usize = REGISTER_WORDS + 1;
/// When finite time-outs pass.
const LATER: u64 = 100;
/// Where programs are. A kernel that wants a system call to be executed again sets them back.
const PC: u64 = 0x1000;
/// Where those go on whose waits somebody has cancelled.
const ELSEWHERE: u64 = 0x3000;

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    /// A thread executes a system call.
    Do(u8, Do),
    /// A thread whose system call was interrupted by a move executes it again.
    Again(u8),
    /// A privileged thread of the same cluster moves this thread.
    Move(u8, u8),
    /// A privileged thread of the same cluster cancels what this thread waits for, and changes its instruction pointer.
    Cancel(u8),
    /// A cluster handles the oldest packet from another one.
    Deliver { from: u8, to: u8 },
    /// A privileged thread of the same cluster, on its first CPU, deletes this thread.
    Kill(u8),
    /// Its CPU notices that its thread was deleted by another CPU.
    Reap(u8),
    /// The time for which finite time-outs wait has come, in this cluster.
    Expire(u8),
}

pub(super) struct Machine<'m> {
    pub(super) kernels: Vec<TestKernel<'m>>,
    pub(super) rings: &'m Rings,
    pub(super) ids: [ThreadId; THREADS],
    /// In which space of each cluster a thread can be.
    spaces: [[SpaceId; CLUSTERS]; THREADS],
    pub(super) ghost: Ghost,
    /// Who cancels waits, by cluster.
    cancellers: Vec<ThreadId>,
    /// A message took the short way to another CPU.
    pub(super) went_elsewhere: bool,
    /// A thread took the short way into its wait.
    pub(super) waited_shortly: bool,
    /// A notification took the short way out.
    pub(super) notified_shortly: bool,
    scenario: &'m Scenario,
}

impl<'m> Machine<'m> {
    /// Every thread is ready to run; nothing has happened.
    pub(super) fn new(scenario: &'m Scenario, rings: &'m Rings, mut kernels: Vec<TestKernel<'m>>) -> Self {
        for k in &mut kernels {
            let root = k.create_space(1, true).expect("room");
            // Slot 0 is the root pager's; this one never runs.
            k.create_thread(new_thread(root, k.this_cpu, 0)).expect("room");
            k.peers.iter_mut().for_each(|peer| peer.limit = scenario.credit);
        }
        let canceller = |k: &mut TestKernel<'m>| {
            let cpu = k.this_cpu;
            k.create_thread(NewThread { space: 0, ..new_thread(SpaceId::NIL, cpu, 1) }).expect("room")
        };
        let cancellers = match scenario.cancels {
            0 => Vec::new(),
            _ => kernels.iter_mut().map(canceller).collect(),
        };
        let (mut ids, mut spaces) = ([ThreadId::NIL; THREADS], [[SpaceId::NIL; CLUSTERS]; THREADS]);
        for (i, thread) in scenario.threads.iter().enumerate() {
            let twin = |j: &usize| {
                scenario.threads[*j].space == thread.space && scenario.threads[*j].cluster == thread.cluster
            };
            let twin = (0..i).find(twin);
            for (c, k) in kernels.iter_mut().enumerate() {
                if c == usize::from(thread.cluster) || scenario.movers.contains(&(i as u8)) {
                    let found = twin.map(|j| spaces[j][c]).filter(|&space| space != SpaceId::NIL);
                    spaces[i][c] =
                        found.unwrap_or_else(|| k.create_space(thread.domain, false).expect("room"));
                }
            }
            let home = usize::from(thread.cluster);
            let k = &mut kernels[home];
            let cpu = Self::cpu(scenario, i);
            ids[i] = k.create_thread(new_thread(spaces[i][home], cpu, i as u16)).expect("room");
            k.enter(cpu);
            let t = k.find(ids[i]).expect("just created");
            k.start_thread(t, PC, 0x2000, 0).expect("just created");
            k.pick();
        }
        for (i, thread) in scenario.threads.iter().enumerate() {
            for (k, space) in kernels.iter_mut().zip(spaces[i]).filter(|(_, space)| *space != SpaceId::NIL) {
                for &partner in thread.may_send_to {
                    k.spaces[usize::from(space.slot())]
                        .grant_partner(ids[usize::from(partner)])
                        .expect("room");
                }
            }
        }
        let mut machine = Self {
            kernels,
            rings,
            ids,
            spaces,
            ghost: Ghost::default(),
            cancellers,
            went_elsewhere: false,
            waited_shortly: false,
            notified_shortly: false,
            scenario,
        };
        machine.park();
        machine
    }

    /// CPUs per cluster.
    pub(super) fn cpus(scenario: &Scenario) -> usize {
        if scenario.own_cpus { THREADS + 1 } else { 1 }
    }
    fn cpu(scenario: &Scenario, i: usize) -> CpuId {
        let first = usize::from(scenario.threads[i].cluster) * Self::cpus(scenario);
        (first + if scenario.own_cpus { i + 1 } else { 0 }) as CpuId
    }
    fn first_cpu(&self, cluster: u8) -> CpuId {
        (usize::from(cluster) * Self::cpus(self.scenario)) as CpuId
    }
    /// The cluster that a thread is in; on its way, the one it comes from until it has arrived.
    pub(super) fn at(&self, i: usize) -> Option<usize> {
        let state = |c: usize| self.kernels[c].find(self.ids[i]).map(|t| self.kernels[c].thread(t).state);
        let arrived = |&c: &usize| state(c).is_some_and(|state| state != State::Moving);
        let clusters = 0..self.kernels.len();
        clusters.clone().find(arrived).or_else(|| clusters.clone().find(|&c| state(c).is_some()))
    }
    pub(super) fn slot(&self, i: usize) -> Option<(usize, u32)> {
        let at = self.at(i)?;
        Some((at, self.kernels[at].find(self.ids[i])?))
    }
    /// The control block of a thread that lives.
    pub(super) fn tcb(&self, i: usize) -> Option<&crate::thread::Tcb> {
        self.slot(i).map(|(at, t)| self.kernels[at].thread(t))
    }
    /// The space that a living thread is in.
    pub(super) fn space(&self, i: usize) -> Option<SpaceId> {
        self.tcb(i).map(|thread| thread.space_id)
    }
    /// Whether a cluster has to look at the ring from another one.
    pub(super) fn is_waiting(&self, from: u8, to: u8) -> bool {
        from != to && self.kernels[usize::from(to)].bells.rings(usize::from(from))
    }
    /// Whether it has to look at any.
    pub(super) fn in_flight(&self, to: u8) -> bool {
        (0..self.scenario.clusters).any(|from| self.is_waiting(from, to))
    }
    /// Whether waits may be cancelled here.
    pub(super) fn cancels(&self) -> bool {
        self.scenario.cancels != 0
    }
    /// Whether threads may move here.
    pub(super) fn moves(&self) -> bool {
        self.scenario.moves != 0
    }
    /// Whether a privileged thread of a cluster waits for the end of its call.
    pub(super) fn is_controlling(&self, cluster: usize) -> bool {
        self.privileged(cluster).any(|id| !self.is_free(cluster, id))
    }
    /// Whether somebody there has cancelled a wait that is not over.
    pub(super) fn is_cancelling(&self, cluster: usize) -> bool {
        self.cancellers.get(cluster).is_some_and(|&id| !self.is_free(cluster, id))
    }
    /// Who may use the privileged calls in a cluster: one thread for moves, one for cancels.
    fn privileged(&self, cluster: usize) -> impl Iterator<Item = ThreadId> + use<> {
        [ThreadId::root(cluster as u16)].into_iter().chain(self.cancellers.get(cluster).copied())
    }
    fn is_free(&self, cluster: usize, id: ThreadId) -> bool {
        let k = &self.kernels[cluster];
        k.thread(k.find(id).expect("nobody deletes it")).state == State::Created
    }
    /// Whether a thread is to execute its system call again.
    pub(super) fn is_interrupted(thread: &crate::thread::Tcb) -> bool {
        ![PC, ELSEWHERE].contains(&thread.context.pc)
    }

    /// Everything that can happen next.
    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for (i, thread) in self.scenario.threads.iter().enumerate() {
            let Some(tcb) = self.tcb(i) else { continue };
            let n = i as u8;
            if tcb.doomed {
                let cpu = Self::cpu(self.scenario, i);
                let runs =
                    self.slot(i).map(|(at, t)| self.kernels[at].cpus[usize::from(cpu)].current() == Some(t));
                if runs == Some(true) {
                    actions.push(Action::Reap(n));
                }
                continue;
            }
            let at = self.at(i).expect("it lives");
            let settled = tcb.state != State::Moving && tcb.hold & hold::MOVING == 0;
            if self.scenario.movers.contains(&n)
                && settled
                && self.ghost.moves < self.scenario.moves
                && self.is_free(at, ThreadId::root(at as u16))
            {
                let others = (0..self.scenario.clusters).filter(|&to| usize::from(to) != at);
                actions.extend(others.map(|to| Action::Move(n, to)));
            }
            if self.ghost.cancels < self.scenario.cancels
                && settled
                && tcb.state != State::Ready
                && self.is_free(at, self.cancellers[at])
            {
                actions.push(Action::Cancel(n));
            }
            if tcb.state == State::Ready && Self::is_interrupted(tcb) {
                actions.push(Action::Again(n));
            } else if tcb.state == State::Ready && self.ghost.begun[i] < thread.budget {
                let possible = |what: &&Do| {
                    let replies = matches!(what, Do::Reply | Do::ReplyWait);
                    !replies || self.ghost.partner[i].is_some()
                };
                actions.extend(thread.menu.iter().filter(possible).map(|&what| Action::Do(n, what)));
            }
            if self.ghost.kills < self.scenario.kills {
                actions.push(Action::Kill(n));
            }
        }
        for cluster in 0..self.scenario.clusters {
            let from = (0..self.scenario.clusters).filter(|&from| self.is_waiting(from, cluster));
            actions.extend(from.map(|from| Action::Deliver { from, to: cluster }));
            let waits = |t: &Thread| t.cluster == cluster && t.menu.iter().any(|what| what.is_timed());
            let time = self.scenario.time && self.scenario.threads.iter().any(waits);
            if time && !self.ghost.expired[usize::from(cluster)] {
                actions.push(Action::Expire(cluster));
            }
        }
    }

    /// Lets it happen; an error says what no program may ever see.
    pub(super) fn perform(&mut self, action: Action) -> Result<(), String> {
        // Each is a kernel entry.
        self.kernels.iter_mut().for_each(|k| k.budget = crate::long::ENTRY);
        match action {
            Action::Do(i, what) => self.system_call(usize::from(i), what),
            Action::Again(i) => {
                let (i, space) = (usize::from(i), self.space(usize::from(i)).expect("it lives"));
                self.ghost.begin_again(i, space);
                let (at, t) = self.slot(i).expect("it lives");
                self.kernels[at].thread_mut(t).context.pc = PC;
                self.enter_kernel(i, IPC);
            }
            Action::Move(i, to) => {
                self.ghost.moves += 1;
                let (at, t) = self.slot(usize::from(i)).expect("it lives");
                let space = self.spaces[usize::from(i)][usize::from(to)];
                let to = Destination {
                    space,
                    cpu: self.first_cpu(to),
                    pager: ThreadId::NIL,
                    handler: ThreadId::NIL,
                };
                let cpu = self.first_cpu(at as u8);
                let k = &mut self.kernels[at];
                k.enter(cpu);
                let root = k.find(ThreadId::root(at as u16)).expect("nobody deletes it");
                let done = k.migrate(root, t, to);
                if done != Ok(Done::Waits) {
                    return Err(format!("a move was refused: {done:?}"));
                }
                k.pick();
            }
            Action::Cancel(i) => {
                self.ghost.cancels += 1;
                let (at, _) = self.slot(usize::from(i)).expect("it lives");
                let cpu = self.first_cpu(at as u8);
                let k = &mut self.kernels[at];
                k.enter(cpu);
                let canceller = k.find(self.cancellers[at]).expect("nobody deletes it");
                let flags = exchange::PC | exchange::CANCEL;
                let arguments = [thread_op::EXCHANGE, self.ids[usize::from(i)].0, flags, ELSEWHERE];
                k.thread_mut(canceller).context.x[..arguments.len()].copy_from_slice(&arguments);
                match k.control_call(canceller, THREAD_CONTROL) {
                    // (It executes no instruction that could look at the answer.)
                    Ok(Done::With(_)) => k.thread_mut(canceller).context.x.fill(0),
                    Ok(Done::Waits) => {}
                    other => return Err(format!("a cancel was refused: {other:?}")),
                }
                k.pick();
            }
            Action::Deliver { from, to } => {
                let cpu = self.first_cpu(to);
                let k = &mut self.kernels[usize::from(to)];
                k.enter(cpu);
                let from = usize::from(from);
                let alone = !self.scenario.own_cpus;
                if !(alone && k.fast_doorbell(cpu).is_some()) {
                    k.poll_one(from);
                    k.polled(from);
                }
                let ring = self.rings.between(from, usize::from(to));
                if ring.unconsumed(Lane::Requests) + ring.unconsumed(Lane::Responses) == 0 {
                    // Rung again meanwhile, it would find nothing but what it has seen.
                    let others = k.bells.take(0) & !(1 << from);
                    (0..CLUSTERS).filter(|c| others >> c & 1 != 0).for_each(|c| _ = k.bells.ring(c));
                }
                k.pick();
            }
            Action::Kill(i) => {
                self.ghost.kills += 1;
                self.ghost.killed[usize::from(i)] = true;
                let (at, t) = self.slot(usize::from(i)).expect("it lives");
                let cpu = self.first_cpu(at as u8);
                let k = &mut self.kernels[at];
                k.enter(cpu);
                k.delete_thread(t).expect("not a root thread");
                k.pick();
            }
            Action::Reap(i) => {
                let thread = &self.scenario.threads[usize::from(i)];
                let k = &mut self.kernels[usize::from(thread.cluster)];
                k.enter(Self::cpu(self.scenario, usize::from(i)));
                k.pick();
            }
            Action::Expire(cluster) => {
                self.ghost.expired[usize::from(cluster)] = true;
                let first = self.first_cpu(cluster);
                let k = &mut self.kernels[usize::from(cluster)];
                k.hal.now = LATER;
                for cpu in first..first + Self::cpus(self.scenario) as CpuId {
                    k.enter(cpu);
                    k.handle(Event::Tick);
                    k.pick();
                }
            }
        }
        self.harvest()?;
        self.park();
        self.release_roots()
    }

    /// A privileged thread whose call is over is ready for the next one.
    fn release_roots(&mut self) -> Result<(), String> {
        for cluster in 0..self.kernels.len() {
            for id in self.privileged(cluster) {
                let k = &mut self.kernels[cluster];
                let t = k.find(id).expect("nobody deletes it");
                if k.thread(t).state != State::Ready {
                    continue;
                }
                k.make_unready(t);
                let thread = k.thread_mut(t);
                thread.state = State::Created;
                let code = thread.context.x[0];
                thread.context.x.fill(0);
                // Deleted meanwhile; or it was there a moment ago, and not all who waited for it have been told.
                let expected = [Error::NoSuchThread, Error::WrongState].map(Error::code);
                if code != 0 && !expected.contains(&code) {
                    return Err(format!("a privileged call ended with {:?}", Error::from_code(code)));
                }
            }
        }
        Ok(())
    }

    fn system_call(&mut self, i: usize, what: Do) {
        let (at, t) = self.slot(i).expect("it lives");
        let id = |n: u8| self.ids[usize::from(n)].0;
        let number = number(i, self.ghost.begun[i]);
        let (never, zero) = (Timeout::NEVER.0, Timeout::ZERO.0);
        let dest = what.sends(self.ghost.partner[i]).map_or(0, id);
        let (from, send_timeout, receive_timeout) = match what {
            Do::Send(_) => (0, never, zero),
            Do::SendNow(_) => (0, zero, zero),
            Do::Reply => (0, Timeout::REPLY.0, zero),
            Do::SendTimed(_) => (0, LATER, zero),
            Do::Call(_) => (dest, never, never),
            Do::CallTimed(_) => (dest, LATER, LATER),
            Do::Receive | Do::Notify(_) => (ThreadId::ANY.0, zero, never),
            Do::ReceiveNow => (ThreadId::ANY.0, zero, zero),
            Do::ReceiveTimed => (ThreadId::ANY.0, zero, LATER),
            Do::ReceiveFrom(n) => (id(n), zero, never),
            Do::ReplyWait => (ThreadId::ANY.0, Timeout::REPLY.0, never),
        };
        let k = &mut self.kernels[at];
        // Some messages need the UTCB, others may go the short way.
        let words = if what.is_call() && i == 0 { WORDS } else { 1 };
        let word = |n: usize| number | (n as u64) << 16;
        k.utcb(t)[UTCB_MR0 + WORDS].store(word(WORDS - 1), Ordering::Relaxed);
        let x = &mut k.thread_mut(t).context.x;
        (x[0], x[1], x[2]) = (dest, from, Tag::new(7, words, 0).0);
        (0..REGISTER_WORDS).for_each(|n| x[3 + n] = word(n));
        (x[11], x[12], x[13]) = (send_timeout, receive_timeout, 0);
        let mut call = IPC;
        if let Do::Notify(to) = what {
            call = NOTIFY;
            (x[0], x[1]) = (id(to), bit(i, self.ghost.begun[i]));
        }
        let space = k.thread(t).space_id;
        self.ghost.begin(i, what, space);
        self.enter_kernel(i, call);
    }

    /// Lets a thread execute a system call with the arguments in its registers.
    fn enter_kernel(&mut self, i: usize, call: u16) {
        let (at, t) = self.slot(i).expect("it lives");
        let k = &mut self.kernels[at];
        let cpu = k.thread(t).cpu;
        k.enter(cpu);
        if k.cpus[usize::from(cpu)].current() != Some(t) {
            k.make_unready(t);
            k.cpus[usize::from(cpu)].set_current(Some(t));
        }
        // As on the machine: the short way where it is open, else the general one.
        let alone = !self.scenario.own_cpus;
        let here = call == IPC && (k.fast_ipc(usize::from(cpu)).is_some() || alone && k.fast_remote(cpu));
        let elsewhere = call == IPC && !here && k.fast_elsewhere(usize::from(cpu));
        let only_waits = call == IPC && k.thread(t).context.x[0] == ThreadId::NIL.0;
        let waits = alone && only_waits && k.fast_wait(cpu);
        let mut notified = false;
        if call == NOTIFY {
            // (The general way ends with a look at the timer.)
            notified = matches!(k.call(call), Next::Caller(u64::MAX));
        } else if !(here || elsewhere || waits) {
            k.handle(Event::Syscall(call));
        }
        self.went_elsewhere |= elsewhere;
        self.waited_shortly |= waits;
        self.notified_shortly |= notified;
        k.pick();
    }

    /// Lets every thread whose system call has returned look at the result.
    fn harvest(&mut self) -> Result<(), String> {
        let mut ended = [None; THREADS];
        for (i, ended) in ended.iter_mut().enumerate() {
            let live =
                |k: &&TestKernel<'_>| k.find(self.ids[i]).is_some_and(|t| k.thread(t).state != State::Moving);
            if self.kernels.iter().filter(live).count() > 1 {
                return Err(format!("thread {i} is in two clusters"));
            }
            if self.tcb(i).is_some_and(|thread| thread.context.pc == ELSEWHERE - SVC_SIZE) {
                return Err(format!("thread {i} was sent elsewhere, and is to execute what is before that"));
            }
            let Some((at, t)) = self.slot(i) else {
                self.ghost.died(i);
                continue;
            };
            let k = &self.kernels[at];
            let thread = k.thread(t);
            let open = self.ghost.open[i].is_some() && !Self::is_interrupted(thread);
            if thread.state != State::Ready || thread.doomed || !open {
                continue;
            }
            let x = &thread.context.x;
            let tag = Tag(x[2]);
            *ended = Some(tag);
            let sender = ThreadId(x[0]);
            let what = self.ghost.open[i];
            if let Some(Do::Notify(to)) = what {
                if x[0] != 0 {
                    self.ghost.refused(i, to)?;
                }
                continue;
            }
            if tag.label() == kernel_label::NOTIFICATION && sender.is_nil() {
                self.ghost.noticed(i, x[3])?;
                continue;
            }
            let sends_only =
                matches!(what, Some(Do::Send(_) | Do::SendNow(_) | Do::SendTimed(_) | Do::Reply));
            if tag.error().is_some() || sends_only {
                continue;
            }
            let mut words = [0; WORDS];
            words[..REGISTER_WORDS].copy_from_slice(&x[3..3 + REGISTER_WORDS]);
            words[REGISTER_WORDS] = k.utcb(t)[UTCB_MR0 + WORDS].load(Ordering::Relaxed);
            let sender = self.ids.iter().position(|&id| id == sender).map(|n| n as u8);
            let outcome = Outcome { sender, domain: x[1], tag, words };
            let space = thread.space_id;
            self.ghost.received(self.scenario, (i, space), &outcome)?;
        }
        let living = self.ghost.killed.map(|killed| !killed);
        for (i, tag) in ended.iter().enumerate() {
            if let Some(tag) = *tag {
                self.ghost.ended(i, tag, &living)?;
                let (at, t) = self.slot(i).expect("it ran");
                // What was looked at is no longer part of the state.
                let context = &mut self.kernels[at].thread_mut(t).context;
                (context.x, context.pc) = ([0; 31], PC);
                self.kernels[at].utcb(t)[UTCB_MR0 + WORDS].store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Where threads share a CPU, lets none of them occupy it, so that all that can run are alike.
    fn park(&mut self) {
        if self.scenario.own_cpus {
            return;
        }
        for k in &mut self.kernels {
            let cpu = usize::from(k.this_cpu);
            if let Some(t) = k.cpus[cpu].current() {
                k.cpus[cpu].set_current(None);
                k.make_ready(t);
            }
        }
    }
}

fn new_thread(space: SpaceId, cpu: CpuId, utcb_slot: u16) -> NewThread {
    NewThread {
        space: space.slot(),
        cpu,
        pager: ThreadId::NIL,
        handler: ThreadId::NIL,
        utcb_slot,
        priority: 100,
    }
}
