//! The model of a task's threads: they come, move, end and are killed on three nodes.

use crate::effect::Access;
use crate::rules::{Rule, set_broken};
use crate::task::{Effect, Move, Place, Task, Word};
use stateright::{Checker, HasDiscoveries, Model, Property};

const NODES: usize = 3;
const THREADS: usize = 3;

/// What node 2 has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Trouble {
    None,
    Space,
    Thread,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Do {
    Go(u16),
    Create(usize, u16),
    End,
    /// Somebody outside kills the task; one of this kind per scenario.
    Kill,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    /// Where it runs.
    node: Option<u16>,
    killed: bool,
    done: u8,
    job: Option<(Move<1>, Effect)>,
    woken: bool,
    /// How often it waited: bounded, so that no run is infinite.
    waited: u8,
    /// Nodes that the killer has still to visit, if this is it.
    visits: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    task: u64,
    places: [u64; NODES],
    active: u64,
    spaces: [bool; NODES],
    threads: [Thread; THREADS],
    ends: u8,
    trouble: Trouble,
    wrong: Option<&'static str>,
}

struct Exploration {
    scripts: [&'static [Do]; THREADS],
    trouble: Trouble,
    broken: Option<Rule>,
}

impl World {
    fn finished(&self, t: usize, script: &[Do]) -> bool {
        let thread = &self.threads[t];
        thread.job.is_none()
            && (usize::from(thread.done) >= script.len() || thread.node.is_none())
            && !thread.killed
    }
    fn can_step(&self, t: usize, script: &[Do]) -> bool {
        let thread = &self.threads[t];
        match thread.job {
            Some((_, Effect::Park)) => thread.woken,
            Some(_) => true,
            None => thread.visits != 0 || !self.finished(t, script),
        }
    }
    fn step(&mut self, t: usize, script: &[Do]) {
        if let Some((machine, effect)) = self.threads[t].job {
            return self.perform(t, machine, effect);
        }
        let thread = self.threads[t];
        if thread.visits != 0 {
            return self.visit(t);
        }
        let Some(node) = thread.node else { return };
        if thread.killed {
            return self.begin(t, Move::end(node));
        }
        let what = script[usize::from(thread.done)];
        self.threads[t].done += 1;
        match what {
            Do::Go(to) if to == node => {}
            Do::Go(to) => self.begin(t, Move::migrate(node, to)),
            Do::Create(child, to) => self.begin(child, Move::create(to)),
            Do::End => self.begin(t, Move::end(node)),
            Do::Kill => {
                self.task = Task(self.task).dying().0;
                // Visits begin with a look at the active nodes, an event of its own.
                self.threads[t].visits = 1 << 63;
            }
        }
    }
    fn visit(&mut self, t: usize) {
        let visits = self.threads[t].visits;
        if visits >> 63 != 0 {
            self.threads[t].visits = self.active;
            return;
        }
        let node = visits.trailing_zeros() as u16;
        self.threads[t].visits &= visits - 1;
        self.threads
            .iter_mut()
            .filter(|thread| thread.node == Some(node))
            .for_each(|thread| thread.killed = true);
    }
    fn begin(&mut self, t: usize, mut machine: Move<1>) {
        let effect = machine.step(0);
        self.threads[t].job = Some((machine, effect));
    }
    fn perform(&mut self, t: usize, mut machine: Move<1>, effect: Effect) {
        let mut answer = 0;
        match effect {
            Effect::Access(word, access) => answer = self.access(word, access),
            Effect::MakeSpace(2) if self.trouble == Trouble::Space => {}
            Effect::Run(2) if self.trouble == Trouble::Thread => {}
            Effect::MakeSpace(node) => {
                let space = &mut self.spaces[usize::from(node)];
                if core::mem::replace(space, true) {
                    self.wrong = Some("a second space");
                }
                answer = 1;
            }
            Effect::DestroySpace(node) => {
                let space = &mut self.spaces[usize::from(node)];
                if !core::mem::replace(space, false)
                    || (0..THREADS).any(|other| {
                        let thread = &self.threads[other];
                        thread.node == Some(node) && (other == t || thread.job.is_none())
                    })
                {
                    self.wrong = Some("a space is destroyed under its threads");
                }
            }
            Effect::Run(node) => {
                self.threads[t].node = Some(node);
                answer = 1;
            }
            Effect::Stop(node) => {
                if self.threads[t].node.take() != Some(node) {
                    self.wrong = Some("a thread is ended where it is not");
                }
            }
            Effect::Wake => self.threads.iter_mut().for_each(|thread| thread.woken |= thread.job.is_some()),
            Effect::Park => {
                self.threads[t].woken = false;
                self.threads[t].waited += 1;
                if self.threads[t].waited > 8 {
                    self.wrong = Some("somebody waits for ever");
                }
            }
            Effect::Done | Effect::Refused => return self.threads[t].job = None,
            Effect::Ended(last) => {
                self.ends += u8::from(last);
                self.threads[t] =
                    Thread { done: u8::MAX, visits: self.threads[t].visits, ..Thread::default() };
                return;
            }
        }
        let next = machine.step(answer);
        self.threads[t].job = Some((machine, next));
    }
    fn access(&mut self, word: Word, access: Access) -> u64 {
        let slot = match word {
            Word::Task => &mut self.task,
            Word::Place(node) => &mut self.places[usize::from(node)],
            Word::Active(_) => &mut self.active,
        };
        let old = *slot;
        match access {
            Access::Swap { expected, new } if expected == old => *slot = new,
            Access::Set(bits) => *slot |= bits,
            Access::Clear(bits) => *slot &= !bits,
            Access::Load | Access::Swap { .. } | Access::Count => {}
        }
        old
    }
    fn always(&self) -> Result<(), &'static str> {
        self.wrong.map_or(Ok(()), Err)?;
        for thread in &self.threads {
            if thread.node.is_some_and(|node| thread.job.is_none() && !self.spaces[usize::from(node)]) {
                return Err("a thread without a space");
            }
        }
        if self.ends > 1 { Err("a task ends twice") } else { Ok(()) }
    }
    fn at_rest(&self, scripts: &[&[Do]; THREADS]) -> Result<(), &'static str> {
        if (0..THREADS).any(|t| !self.finished(t, scripts[t]) || self.threads[t].visits != 0) {
            return Err("a thread does not get on");
        }
        let task = Task(self.task);
        let living = self.threads.iter().filter(|thread| thread.node.is_some()).count() as u32;
        if task.threads() != living || (living == 0) != (self.ends == 1) {
            return Err("threads are not counted right");
        }
        if task.is_dying() && living != 0 {
            return Err("a thread outlives its task");
        }
        for node in 0..NODES {
            let here = self.threads.iter().filter(|thread| thread.node == Some(node as u16)).count() as u32;
            let active = self.active >> node & 1 != 0;
            if self.places[node] != Place::new(here).0 || active != (here != 0) || self.spaces[node] != active
            {
                return Err("a node is active without threads");
            }
        }
        let mastered = living == 0 || self.active >> task.master() & 1 != 0;
        if mastered { Ok(()) } else { Err("the master is not active") }
    }
}

impl Model for Exploration {
    type State = World;
    type Action = usize;

    fn init_states(&self) -> Vec<World> {
        // Threads 0 and 1 are there, on nodes of their numbers; node 0 is the master.
        let there = |node| Thread { node: Some(node), ..Thread::default() };
        [World {
            task: Task::new(0, 2).0,
            places: [Place::new(1).0, Place::new(1).0, 0],
            active: 3,
            spaces: [true, true, false],
            threads: [there(0), there(1), Thread::default()],
            ends: 0,
            trouble: self.trouble,
            wrong: None,
        }]
        .into()
    }
    fn actions(&self, world: &World, actions: &mut Vec<usize>) {
        actions.extend((0..THREADS).filter(|&t| world.can_step(t, self.scripts[t])));
    }
    fn next_state(&self, world: &World, t: usize) -> Option<World> {
        set_broken(self.broken);
        let mut world = world.clone();
        world.step(t, self.scripts[t]);
        Some(world)
    }
    fn properties(&self) -> Vec<Property<Self>> {
        let rest = |this: &Self, world: &World| {
            (0..THREADS).any(|t| world.can_step(t, this.scripts[t])) || world.at_rest(&this.scripts).is_ok()
        };
        vec![
            Property::always("always", |_, world: &World| world.always().is_ok()),
            Property::always("at rest", rest),
        ]
    }
}

fn outcome(
    scripts: [&'static [Do]; THREADS],
    trouble: Trouble,
    broken: Option<Rule>,
) -> Result<(), &'static str> {
    let exploration = Exploration { scripts, trouble, broken };
    let checker = exploration.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!("{scripts:?} {broken:?}: {} states", checker.unique_state_count());
    let Some(path) = checker.discovery("always").or_else(|| checker.discovery("at rest")) else {
        return Ok(());
    };
    let world = path.last_state();
    if broken.is_none() {
        println!("{:?}\n{world:#x?}", path.clone().into_actions());
    }
    world.always().and_then(|()| world.at_rest(&scripts))
}

use Do::{Create, End, Go, Kill};

const CROSS: [&[Do]; THREADS] = [&[Go(1), Go(2)], &[Go(0), End], &[]];
const ENDS: [&[Do]; THREADS] = [&[Create(2, 2), End], &[End], &[Go(0), Go(1)]];
const KILLED: [&[Do]; THREADS] = [&[Create(2, 2), Go(1)], &[Kill], &[Go(0)]];

#[test]
fn threads_come_and_go() {
    assert_eq!(outcome(CROSS, Trouble::None, None), Ok(()));
    assert_eq!(outcome(ENDS, Trouble::None, None), Ok(()));
    assert_eq!(outcome(KILLED, Trouble::None, None), Ok(()));
    for scripts in [CROSS, ENDS, KILLED] {
        assert_eq!(outcome(scripts, Trouble::Space, None), Ok(()));
        assert_eq!(outcome(scripts, Trouble::Thread, None), Ok(()));
    }
}

#[test]
fn broken_rules_are_found() {
    assert_eq!(
        outcome(KILLED, Trouble::None, Some(Rule::LookAfterArrival)),
        Err("a thread outlives its task")
    );
    assert_eq!(outcome(ENDS, Trouble::None, Some(Rule::LookAfterHandOver)), Err("the master is not active"));
}
