//! Explores everything that can happen in a scenario.

use super::facts::Fact;
use super::invariants;
use super::scenario::Scenario;
use super::world::{Event, World};
use crate::rules::{Rule, set_broken};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::sync::atomic::{AtomicU64, Ordering};

const ALWAYS: &str = "always";
const REST: &str = "at rest";

struct Exploration {
    scenario: Scenario,
    broken: Option<Rule>,
    seen: AtomicU64,
}

impl Model for Exploration {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        set_broken(self.broken);
        [World::new()].into()
    }
    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        world.events(&self.scenario, events);
    }
    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        set_broken(self.broken);
        let (mut world, mut seen) = (world.clone(), 0);
        world.perform(&self.scenario, event, &mut seen);
        self.seen.fetch_or(seen, Ordering::Relaxed);
        Some(world)
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let rest = |this: &Self, world: &World| {
            let mut events = Vec::new();
            world.events(&this.scenario, &mut events);
            !events.is_empty() || invariants::at_rest(world, &this.scenario).is_ok()
        };
        let always = |_: &Self, world: &World| invariants::always(world).is_ok();
        vec![Property::always(ALWAYS, always), Property::always(REST, rest)]
    }
}

/// What goes wrong in a scenario, and how, if anything does; and the situations that came up.
pub(super) fn outcome(
    name: &str,
    scenario: Scenario,
    broken: Option<Rule>,
) -> (Result<(), (&'static str, String)>, u64) {
    let started = std::time::Instant::now();
    let exploration = Exploration { scenario, broken, seen: AtomicU64::new(0) };
    let checker = exploration.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name} {broken:?}: {states} states, {depth} deep, {:?}", started.elapsed());
    let path = checker.discovery(ALWAYS).or_else(|| checker.discovery(REST));
    let seen = checker.model().seen.load(Ordering::Relaxed);
    let Some(path) = path else { return (Ok(()), seen) };
    let world = path.last_state();
    let why = invariants::always(world).and_then(|()| invariants::at_rest(world, &scenario));
    let events = path.clone().into_actions();
    (Err((why.expect_err("something is wrong"), format!("{events:?}\n{world:#x?}"))), seen)
}

/// Explores all of a scenario: nothing goes wrong, and these situations come up.
pub(super) fn explore(name: &str, scenario: Scenario, expected: &[Fact]) {
    let (outcome, seen) = outcome(name, scenario, None);
    if let Err((why, how)) = outcome {
        panic!("{name}: {why}\nafter {how}");
    }
    let missing: Vec<_> = expected.iter().filter(|fact| !fact.is_in(seen)).collect();
    assert!(missing.is_empty(), "{name}: never reached {missing:?}");
}
