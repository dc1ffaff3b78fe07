//! Exhaustive exploration of the shipped IPC code: two real kernels with real rings, three threads, every order of
//! system calls, packet deliveries, deletions and time-outs.
//!
//! A state of the model is the path that leads to it: a step replays the path on fresh kernels. So there is no second
//! description of the protocol that could differ from the code, and nothing of the kernel has to be restored.
//! States are told apart by a hash of the kernels' objects ([`print`]) and of what the threads know ([`ghost`]).
//!
//! Always: no message is lost or received twice, a sender is told "delivered" if and only if it was; a reply needs a right that
//! is used up by it; messages, senders and domains are true; the queues are intact; whoever waits when
//! no packet is under way waits for something that can still come; and then nothing has leaked ([`quiet`]).
//! Sometimes: each situation in [`facts`] that a scenario is meant for comes up, for a model that never gets there proves nothing.

mod facts;
mod ghost;
mod machine;
mod print;
mod quiet;
mod scenario;
mod scenarios;

use super::arenas::{Memory, Rings, Sizes};
use super::invariants;
use facts::{Fact, Facts};
use machine::{Action, Machine};
use scenario::Scenario;
use stateright::{Checker, Model, Property};
use std::hash::{Hash, Hasher};
use std::string::String;
use std::vec::Vec;
use std::{panic, println};

/// A path and what was seen at its end.
#[derive(Clone, Debug)]
struct State {
    path: Vec<Action>,
    print: u64,
    next: Vec<Action>,
    facts: Facts,
    verdict: Result<(), String>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
    }
}

/// The name of the one property that holds in every state: [`State::verdict`] says what is wrong.
const ALWAYS: &str = "what programs may rely on";

/// A scenario to explore, and the facts that must come up.
struct Exploration {
    scenario: Scenario,
    expected: &'static [Fact],
}

impl Exploration {
    /// Lets it all happen again, on a new machine.
    fn replay(&self, path: Vec<Action>) -> State {
        let scenario = &self.scenario;
        let rings = Rings::new(usize::from(scenario.clusters));
        let sizes =
            Sizes { tables: 13, nodes: 2, spaces: 4, threads: 5, guests: 6, utcb_pages: 4, trace_pages: 0 };
        // Threads that move have a space in every cluster.
        let sizes = match scenario.moves {
            0 => sizes,
            _ => Sizes { tables: 16, spaces: 5, threads: 6, guests: 8, ..sizes },
        };
        let mut memory = Memory::new(&rings, Machine::cpus(scenario), sizes);
        let mut machine = Machine::new(scenario, &rings, memory.kernels());
        let run = panic::AssertUnwindSafe(|| path.iter().try_for_each(|&action| machine.perform(action)));
        let mut verdict =
            panic::catch_unwind(run).unwrap_or_else(|_| Err(String::from("the kernel panicked")));
        let mut next = Vec::new();
        if verdict.is_ok() {
            // Every shorter path was a state of its own.
            verdict = machine.kernels.iter().try_for_each(invariants::check);
            verdict = verdict.and_then(|()| quiet::check(&machine));
            machine.actions(&mut next);
        }
        let (print, facts) = (print::of(&machine, verdict.is_ok()), facts::of(&machine));
        State { path, print, next, facts, verdict }
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        [self.replay(Vec::new())].into()
    }
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(&state.next);
    }
    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut path = Vec::with_capacity(state.path.len() + 1);
        path.extend(&state.path);
        path.push(action);
        Some(self.replay(path))
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = Vec::new();
        properties.push(Property::always(ALWAYS, |_, state: &State| state.verdict.is_ok()));
        let sometimes = |fact: &Fact| Property::sometimes(fact.name(), fact.condition());
        properties.extend(self.expected.iter().map(sometimes));
        properties
    }
}

/// Explores all of a scenario.
fn explore(name: &str, scenario: Scenario, expected: &'static [Fact]) {
    let started = std::time::Instant::now();
    let checker = Exploration { scenario, expected }.checker().spawn_dfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, {depth} deep, {:?}", started.elapsed());
    if let Some(path) = checker.discovery(ALWAYS) {
        let state = path.last_state();
        panic!("{name}: {}\nafter {:?}", state.verdict.as_ref().unwrap_err(), state.path);
    }
    let missing: Vec<_> = expected.iter().filter(|fact| checker.discovery(fact.name()).is_none()).collect();
    assert!(missing.is_empty(), "{name}: never reached {missing:?}");
}
