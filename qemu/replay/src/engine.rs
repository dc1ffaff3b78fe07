//! The replay: threads run until somebody else is behind, misses cost what they cost where their page lies, and faults go to the policies.

use skerry_cost_model::Time;
use skerry_cost_model::time::{cycles, to_cycles};
use skerry_policy::{Node, Policy};

use crate::machine::{Machine, class};
use crate::outcome::Outcome;
use crate::pagers::Pagers;
use crate::trace::{Event, Item, Miss, Trace};

/// How a trace is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Cycles between two ticks of the policies.
    pub period: u64,
    /// Cycles that a thread may be ahead of the slowest one.
    pub quantum: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { period: 250_000, quantum: 2_000 }
    }
}

/// Cycles from the last arrival at a barrier, or the end of a lock's holder, until others run: an interrupt.
const WAKE: u64 = 500;

/// Somebody who watches a replay.
pub trait Observer {
    /// A thread of `node` has missed, at a page, so many lines.
    fn miss(&mut self, thread: usize, node: Node, miss: Miss) {
        let _ = (thread, node, miss);
    }
    /// A thread has spent time on something other than misses.
    fn work(&mut self, thread: usize, time: Time) {
        let _ = (thread, time);
    }
    /// All threads have met.
    fn barrier(&mut self) {}
}

/// Nobody watches.
impl Observer for () {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Runs,
    AtBarrier,
    Waits(u32),
    Done,
}

struct Runner<'a> {
    events: &'a [Event],
    next: usize,
    clock: Time,
    node: Node,
    /// How much of what its node's CPUs owe it has done.
    paid: Time,
    state: State,
}

/// Replays a trace with an instance of `policy` on every node.
pub fn replay<P: Policy + Clone>(
    machine: &Machine,
    trace: &Trace,
    policy: &P,
    settings: Settings,
    observer: &mut impl Observer,
) -> Outcome {
    let mut run = Run {
        pagers: Pagers::new(machine, trace.pages, policy, settings.period),
        machine,
        quantum: cycles(settings.quantum),
        period: cycles(settings.period.max(1)),
        locks: Vec::new(),
        threads: trace
            .threads
            .iter()
            .map(|thread| {
                let node = machine.node_of(thread.cpu);
                Runner { events: &thread.events, next: 0, clock: 0, node, paid: 0, state: State::Runs }
            })
            .collect(),
    };
    run.all(observer);
    let end = run.threads.iter().map(|thread| thread.clock).max().unwrap_or(0);
    Outcome { time: to_cycles(end), ..run.pagers.finish() }
}

struct Run<'a, P: Policy> {
    machine: &'a Machine,
    pagers: Pagers<'a, P>,
    threads: Vec<Runner<'a>>,
    /// Locks that are held: number and holder.
    locks: Vec<(u32, usize)>,
    quantum: Time,
    period: Time,
}

impl<P: Policy + Clone> Run<'_, P> {
    fn all(&mut self, observer: &mut impl Observer) {
        let mut tick = self.period;
        while self.pagers.is_alive() {
            let Some((thread, clock, limit)) = self.slowest() else {
                if self.meet(observer) {
                    continue;
                }
                return;
            };
            // Nobody is before this time any more.
            while clock >= tick {
                self.pagers.tick(tick);
                tick += self.period;
            }
            self.turn(thread, limit, observer);
        }
    }

    /// The slowest thread that runs, its clock, and how far it may go.
    fn slowest(&self) -> Option<(usize, Time, Time)> {
        let (mut first, mut second) = (None, Time::MAX);
        for (number, thread) in
            self.threads.iter().enumerate().filter(|(_, thread)| thread.state == State::Runs)
        {
            match first {
                Some((_, clock)) if clock <= thread.clock => second = second.min(thread.clock),
                _ => {
                    second = first.map_or(second, |(_, clock)| second.min(clock));
                    first = Some((number, thread.clock));
                }
            }
        }
        // One that runs alone still gets its ticks.
        first.map(|(number, clock)| {
            (number, clock, second.min(clock + self.period).saturating_add(self.quantum))
        })
    }

    /// Nobody runs: if threads wait at the barrier they have met. Those that wait for a lock whose holder is gone get it.
    fn meet(&mut self, observer: &mut impl Observer) -> bool {
        let waits = |thread: &&mut Runner<'_>| !matches!(thread.state, State::Done);
        let last = self.threads.iter().map(|thread| thread.clock).max().unwrap_or(0);
        let mut any = false;
        for thread in self.threads.iter_mut().filter(waits) {
            any = true;
            (thread.clock, thread.state) = (last + cycles(WAKE), State::Runs);
        }
        self.locks.clear();
        if any {
            observer.barrier();
        }
        any
    }

    fn turn(&mut self, number: usize, limit: Time, observer: &mut impl Observer) {
        let thread = &mut self.threads[number];
        let owed = self.pagers.owed(thread.node);
        thread.clock += owed - core::mem::replace(&mut thread.paid, owed);
        loop {
            let thread = &mut self.threads[number];
            if thread.clock > limit {
                return;
            }
            let Some(&event) = thread.events.get(thread.next) else {
                thread.state = State::Done;
                return;
            };
            thread.next += 1;
            let goes_on = match event.miss() {
                Some(miss) => self.miss(number, miss, observer),
                None => self.other(number, event.item(), observer),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// A miss; whether the task goes on.
    #[inline]
    fn miss(&mut self, number: usize, miss: Miss, observer: &mut impl Observer) -> bool {
        let Self { machine, pagers, threads, .. } = self;
        let thread = &mut threads[number];
        let Miss { page, lines, gap, write, overlap } = miss;
        thread.clock += cycles(gap.into());
        observer.work(number, cycles(gap.into()));
        if !pagers.pages.view(thread.node, page).access(write) {
            let time = pagers.fault(thread.clock, number as u32, (thread.node, page), write);
            thread.clock += time;
            observer.work(number, time);
            if !pagers.is_alive() {
                return false;
            }
        }
        observer.miss(number, thread.node, miss);
        let way = (thread.node, pagers.pages.view(thread.node, page).memory());
        for _ in 0..lines {
            thread.clock += pagers.memory.miss(machine, thread.clock, way, class(overlap), write);
        }
        true
    }

    /// Something else than a miss; whether the thread goes on.
    fn other(&mut self, number: usize, item: Item, observer: &mut impl Observer) -> bool {
        let thread = &mut self.threads[number];
        match item {
            Item::Miss(_) => {}
            Item::Compute(time) => {
                thread.clock += cycles(time.into());
                observer.work(number, cycles(time.into()));
            }
            Item::Barrier => thread.state = State::AtBarrier,
            Item::Move(cpu) => {
                thread.node = self.machine.node_of(cpu);
                thread.paid = self.pagers.owed(thread.node);
            }
            Item::Advise(advice) => self.pagers.advise(thread.clock, advice),
            Item::Lock(lock) => match self.locks.iter().any(|&(held, _)| held == lock) {
                true => thread.state = State::Waits(lock),
                false => self.locks.push((lock, number)),
            },
            Item::Unlock(lock) => {
                let clock = thread.clock;
                self.locks.retain(|&held| held != (lock, number));
                // Who has waited longest gets it.
                let waiting =
                    (self.threads.iter_mut().enumerate()).filter(|(_, t)| t.state == State::Waits(lock));
                if let Some((next, thread)) = waiting.min_by_key(|(_, thread)| thread.clock) {
                    thread.clock = thread.clock.max(clock + cycles(WAKE));
                    thread.state = State::Runs;
                    self.locks.push((lock, next));
                }
            }
        }
        self.threads[number].state == State::Runs
    }
}
