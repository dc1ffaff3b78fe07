//! A scenario's machine made of real kernels, and the events that can happen on it.

use super::ghost::{Ghost, Result as Outcome, bit, number};
use super::scenario::{Do, Scenario, THREADS, Thread};
use crate::birth::NewThread;
use crate::kernel::{Event, UTCB_MR0};
use crate::ring::Lane;
use crate::tests::arenas::Rings;
use crate::tests::world::TestKernel;
use crate::thread::State;
use core::sync::atomic::Ordering;
use skerry_abi::message::{REGISTER_WORDS, kernel_label};
use skerry_abi::syscall::{IPC, NOTIFY};
use skerry_abi::{CpuId, SpaceId, Tag, ThreadId, Timeout};
use std::string::String;
use std::vec::Vec;

/// Words of a long message: one of them travels in the UTCB.
pub(super) const WORDS: usize = REGISTER_WORDS + 1;
/// When finite time-outs pass.
const LATER: u64 = 100;

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    /// A thread executes a system call.
    Do(u8, Do),
    /// A cluster handles the oldest packet from the other one.
    Deliver { to: u8 },
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
    pub(super) spaces: [SpaceId; THREADS],
    pub(super) ghost: Ghost,
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
        let (mut ids, mut spaces) = ([ThreadId::NIL; THREADS], [SpaceId::NIL; THREADS]);
        for (i, thread) in scenario.threads.iter().enumerate() {
            let k = &mut kernels[usize::from(thread.cluster)];
            let twin = |j: &usize| {
                scenario.threads[*j].space == thread.space && scenario.threads[*j].cluster == thread.cluster
            };
            spaces[i] = match (0..i).find(twin) {
                Some(j) => spaces[j],
                None => k.create_space(thread.domain, false).expect("room"),
            };
            let cpu = Self::cpu(scenario, i);
            ids[i] = k.create_thread(new_thread(spaces[i], cpu, i as u16)).expect("room");
            k.enter(cpu);
            let t = k.find(ids[i]).expect("just created");
            k.start_thread(t, 0x1000, 0x2000, 0).expect("just created");
            k.pick();
        }
        for (i, thread) in scenario.threads.iter().enumerate() {
            let k = &mut kernels[usize::from(thread.cluster)];
            for &partner in thread.may_send_to {
                k.spaces[usize::from(spaces[i].slot())]
                    .grant_partner(ids[usize::from(partner)])
                    .expect("room");
            }
        }
        let mut machine = Self { kernels, rings, ids, spaces, ghost: Ghost::default(), scenario };
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
    pub(super) fn slot(&self, i: usize) -> Option<u32> {
        self.kernels[usize::from(self.scenario.threads[i].cluster)].find(self.ids[i])
    }
    /// The control block of a thread that lives.
    pub(super) fn tcb(&self, i: usize) -> Option<&crate::thread::Tcb> {
        let k = &self.kernels[usize::from(self.scenario.threads[i].cluster)];
        self.slot(i).map(|t| k.thread(t))
    }
    /// Whether this cluster has to look at its rings.
    pub(super) fn in_flight(&self, to: u8) -> bool {
        self.kernels[usize::from(to)].bells.rings(usize::from(1 - to))
    }

    /// Everything that can happen next.
    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for (i, thread) in self.scenario.threads.iter().enumerate() {
            let Some(tcb) = self.tcb(i) else { continue };
            let n = i as u8;
            if tcb.doomed {
                let k = &self.kernels[usize::from(thread.cluster)];
                let cpu = Self::cpu(self.scenario, i);
                if k.cpus[usize::from(cpu)].current() == self.slot(i) {
                    actions.push(Action::Reap(n));
                }
                continue;
            }
            if tcb.state == State::Ready && self.ghost.begun[i] < thread.budget {
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
        for cluster in 0..2 {
            if self.in_flight(cluster) {
                actions.push(Action::Deliver { to: cluster });
            }
            let waits = |t: &Thread| t.cluster == cluster && t.menu.iter().any(|what| what.is_timed());
            let time = self.scenario.time && self.scenario.threads.iter().any(waits);
            if time && !self.ghost.expired[usize::from(cluster)] {
                actions.push(Action::Expire(cluster));
            }
        }
    }

    /// Lets it happen; an error says what no program may ever see.
    pub(super) fn perform(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Do(i, what) => self.system_call(usize::from(i), what),
            Action::Deliver { to } => {
                let cpu = self.first_cpu(to);
                let k = &mut self.kernels[usize::from(to)];
                k.enter(cpu);
                let from = usize::from(1 - to);
                let alone = !self.scenario.own_cpus;
                if !(alone && k.fast_doorbell(cpu).is_some()) {
                    k.poll_one(from);
                    k.polled(from);
                }
                let ring = self.rings.between(from, usize::from(to));
                if ring.unconsumed(Lane::Requests) + ring.unconsumed(Lane::Responses) == 0 {
                    // Rung again meanwhile, it would find nothing but what it has seen.
                    k.bells.take(0);
                }
                k.pick();
            }
            Action::Kill(i) => {
                self.ghost.kills += 1;
                let cluster = self.scenario.threads[usize::from(i)].cluster;
                let (cpu, t) = (self.first_cpu(cluster), self.slot(usize::from(i)).expect("it lives"));
                let k = &mut self.kernels[usize::from(cluster)];
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
        Ok(())
    }

    fn system_call(&mut self, i: usize, what: Do) {
        let cluster = usize::from(self.scenario.threads[i].cluster);
        let t = self.slot(i).expect("it lives");
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
        let k = &mut self.kernels[cluster];
        let cpu = k.thread(t).cpu;
        k.enter(cpu);
        if k.cpus[usize::from(cpu)].current() != Some(t) {
            k.make_unready(t);
            k.cpus[usize::from(cpu)].set_current(Some(t));
        }
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
        self.ghost.begin(i, what);
        // As on the machine: the short way where it is open, else the general one.
        let alone = !self.scenario.own_cpus;
        if call != IPC || (k.fast_ipc(usize::from(cpu)).is_none() && !(alone && k.fast_remote(cpu))) {
            k.handle(Event::Syscall(call));
        }
        k.pick();
    }

    /// Lets every thread whose system call has returned look at the result.
    fn harvest(&mut self) -> Result<(), String> {
        let mut ended = [None; THREADS];
        for (i, ended) in ended.iter_mut().enumerate() {
            let k = &self.kernels[usize::from(self.scenario.threads[i].cluster)];
            let Some(t) = k.find(self.ids[i]) else {
                self.ghost.died(i);
                continue;
            };
            let thread = k.thread(t);
            if thread.state != State::Ready || thread.doomed || self.ghost.open[i].is_none() {
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
            self.ghost.received(self.scenario, i, &outcome)?;
        }
        for (i, tag) in ended.iter().enumerate() {
            if let Some(tag) = *tag {
                self.ghost.ended(i, tag)?;
                let cluster = usize::from(self.scenario.threads[i].cluster);
                let t = self.slot(i).expect("it ran");
                // What was looked at is no longer part of the state.
                self.kernels[cluster].thread_mut(t).context.x.fill(0);
                self.kernels[cluster].utcb(t)[UTCB_MR0 + WORDS].store(0, Ordering::Relaxed);
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
