//! The pure part of the load balancer: which thread goes where.
//!
//! There is a balancer per node, which moves threads between the CPUs of its node, and a master, which compares nodes. Inside of a node a move costs
//! a few hundred instructions and takes no memory out of anybody's reach; to another node a thread leaves the memory behind that it
//! has touched. So the master looks only at what is left: how many threads that want to run a node has for its CPUs.
//!
//! A node's last thread of a task takes the task's space on that node with it, and all that the node had mapped. So it goes only if there
//! is nobody else to go, it shares its CPU, and a CPU of the other node has nothing to do.
//!
//! What a thread does at one moment says little. A thread counts as *busy* if it wanted to run at [`BUSY`] of the last [`LOOKS`] looks; and
//! one that was moved is left alone for [`REST`] looks, so nothing moves to and fro.
#![no_std]
#![forbid(unsafe_code)]

/// Looks that are remembered of a thread.
pub const LOOKS: u32 = 4;
/// At so many of these it wanted to run, or it is not busy.
pub const BUSY: u32 = 3;
/// Looks after a move at which a thread is left alone.
pub const REST: u8 = 8;
/// Threads that a node's balancer looks at.
pub const MAX_THREADS: usize = 128;

/// A thread as a node's pager tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Its task.
    pub task: u32,
    /// Its number there.
    pub number: u32,
    /// Its CPU.
    pub cpu: u16,
    /// It runs or wants to.
    pub ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    seen: Seen,
    /// The last looks, the latest in the lowest bit.
    looks: u8,
    rest: u8,
    /// It was there at this look.
    present: bool,
}

impl Known {
    const fn is_busy(&self) -> bool {
        (self.looks & ((1 << LOOKS) - 1)).count_ones() >= BUSY
    }
}

/// A thread that is to move, and the CPU that it goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Its task.
    pub task: u32,
    /// Its number there.
    pub number: u32,
    /// Where to.
    pub cpu: u16,
}

/// What a node has for its CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Threads that are busy.
    pub busy: u32,
    /// CPUs; a node without any takes nothing.
    pub cpus: u32,
}

/// The threads of a node.
#[derive(Clone, Debug)]
pub struct Node {
    threads: [Known; MAX_THREADS],
    count: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// None.
    pub const fn new() -> Self {
        let seen = Seen { task: 0, number: 0, cpu: 0, ready: false };
        Self { threads: [Known { seen, looks: 0, rest: 0, present: false }; MAX_THREADS], count: 0 }
    }
    fn all(&self) -> &[Known] {
        &self.threads[..self.count]
    }

    /// A look at the node: these threads are there. Those that are too many are not looked at.
    pub fn look(&mut self, seen: impl Iterator<Item = Seen>) {
        self.threads[..self.count].iter_mut().for_each(|known| known.present = false);
        for seen in seen {
            let same = |known: &&mut Known| (known.seen.task, known.seen.number) == (seen.task, seen.number);
            let (looks, rest) = match self.threads[..self.count].iter_mut().find(same) {
                Some(known) => {
                    (known.seen, known.present) = (seen, true);
                    known.rest = known.rest.saturating_sub(1);
                    known.looks = known.looks << 1 | u8::from(seen.ready);
                    continue;
                }
                // One that comes from elsewhere has moved just now, or is new.
                None => (u8::from(seen.ready), REST / 2),
            };
            if let Some(place) = self.threads.get_mut(self.count) {
                *place = Known { seen, looks, rest, present: true };
                self.count += 1;
            }
        }
        let mut kept = 0;
        for index in 0..self.count {
            if self.threads[index].present {
                self.threads[kept] = self.threads[index];
                kept += 1;
            }
        }
        self.count = kept;
    }

    /// Its threads that are busy.
    pub fn busy(&self) -> u32 {
        self.all().iter().filter(|known| known.is_busy()).count() as u32
    }
    /// Those on a CPU.
    pub fn busy_on(&self, cpu: u16) -> u32 {
        self.all().iter().filter(|known| known.is_busy() && known.seen.cpu == cpu).count() as u32
    }
    /// The CPU with the fewest busy threads.
    pub fn idlest(&self, cpus: &[u16]) -> Option<u16> {
        cpus.iter().copied().min_by_key(|&cpu| self.busy_on(cpu))
    }
    fn busiest(&self, cpus: &[u16]) -> Option<u16> {
        cpus.iter().copied().max_by_key(|&cpu| self.busy_on(cpu))
    }
    /// Whether it is the only thread of its task here.
    fn is_last(&self, thread: &Seen) -> bool {
        self.all().iter().filter(|known| known.seen.task == thread.task).count() < 2
    }
    fn movable(&self, cpu: u16) -> impl Iterator<Item = &Seen> {
        let movable = move |known: &&Known| known.is_busy() && known.rest == 0 && known.seen.cpu == cpu;
        self.all().iter().filter(movable).map(|known| &known.seen)
    }

    /// Who moves between the CPUs of the node: from the busiest to the idlest, if that has at least two fewer.
    pub fn inside(&mut self, cpus: &[u16]) -> Option<Move> {
        let (from, to) = (self.busiest(cpus)?, self.idlest(cpus)?);
        if self.busy_on(from) < self.busy_on(to) + 2 {
            return None;
        }
        let &Seen { task, number, .. } = self.movable(from).next()?;
        Some(self.rested(Move { task, number, cpu: to }))
    }

    /// Who goes to this CPU of another node, which has this load. The last thread of a task goes only if nobody else can, it shares its
    /// CPU, and a CPU there has nothing to do.
    pub fn away(&mut self, cpus: &[u16], there: Load, cpu: u16) -> Option<Move> {
        let from = self.busiest(cpus)?;
        let needed = there.busy < there.cpus && self.busy_on(from) >= 2;
        let others = self.movable(from).find(|thread| !self.is_last(thread));
        let thread = others.or_else(|| self.movable(from).next().filter(|_| needed));
        let &Seen { task, number, .. } = thread?;
        Some(self.rested(Move { task, number, cpu }))
    }

    /// One that moves rests afterwards.
    fn rested(&mut self, it: Move) -> Move {
        let same = |known: &&mut Known| (known.seen.task, known.seen.number) == (it.task, it.number);
        if let Some(known) = self.threads[..self.count].iter_mut().find(same) {
            known.rest = REST;
        }
        it
    }
}

/// The master's decision: from which node to which a thread goes. Afterwards the one is not busier than the other was before.
pub fn between(loads: &[Load]) -> Option<(usize, usize)> {
    let nodes = || loads.iter().enumerate().filter(|(_, load)| load.cpus != 0);
    // Threads per CPU, compared without dividing.
    let more = |a: &Load, b: &Load| (a.busy * b.cpus).cmp(&(b.busy * a.cpus));
    let (from, most) = nodes().max_by(|a, b| more(a.1, b.1))?;
    let (to, least) = nodes().min_by(|a, b| more(a.1, b.1))?;
    let after = (least.busy + 1) * most.cpus;
    (most.busy > 0 && after <= (most.busy - 1) * least.cpus).then_some((from, to))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn thread(task: u32, number: u32, cpu: u16) -> Seen {
        Seen { task, number, cpu, ready: true }
    }
    /// A node where these threads have been for long.
    fn node(threads: &[Seen]) -> Node {
        let mut node = Node::new();
        (0..u32::from(REST)).for_each(|_| node.look(threads.iter().copied()));
        node
    }

    #[test]
    fn threads_are_spread_inside_of_a_node() {
        let cpus = [4, 5];
        let all: Vec<_> = (0..4).map(|number| thread(16, number, 4)).collect();
        let mut crowded = node(&all);
        let first = crowded.inside(&cpus).unwrap();
        assert_eq!((first.task, first.cpu), (16, 5));
        // At the next look it is there, and the next one follows; then both have two.
        let moved = |numbers: &[u32]| {
            let cpu = |number| if numbers.contains(&number) { 5 } else { 4 };
            (0..4).map(|number| thread(16, number, cpu(number))).collect::<Vec<_>>()
        };
        crowded.look(moved(&[first.number]).into_iter());
        let second = crowded.inside(&cpus).unwrap();
        assert_ne!(second.number, first.number);
        crowded.look(moved(&[first.number, second.number]).into_iter());
        assert_eq!(crowded.inside(&cpus), None);
        // One more on a CPU than on the other is no reason.
        assert_eq!(node(&all[..1]).inside(&cpus), None);
    }

    #[test]
    fn who_waits_is_no_load() {
        let mut seen: Vec<_> = (0..4).map(|number| thread(16, number, 0)).collect();
        seen[1].ready = false;
        seen[2].ready = false;
        seen[3].ready = false;
        let mut node = node(&seen);
        assert_eq!((node.busy(), node.inside(&[0, 1])), (1, None));
        // One look at which it wants to run is not enough.
        seen[1].ready = true;
        node.look(seen.iter().copied());
        assert_eq!(node.busy(), 1);
        (0..3).for_each(|_| node.look(seen.iter().copied()));
        assert_eq!(node.busy(), 2);
    }

    #[test]
    fn who_has_moved_rests() {
        let all: Vec<_> = (0..2).map(|number| thread(16, number, 0)).collect();
        let mut node = node(&all);
        let one = node.inside(&[0, 1]).unwrap();
        // The pager refused it: the other one is next, and then nobody for a while.
        assert_ne!(node.inside(&[0, 1]).unwrap().number, one.number);
        assert_eq!(node.inside(&[0, 1]), None);
        (0..REST).for_each(|_| node.look(all.iter().copied()));
        assert!(node.inside(&[0, 1]).is_some());
    }

    #[test]
    fn the_last_thread_of_a_task_stays_unless_it_must_go() {
        let idle = Load { busy: 0, cpus: 1 };
        // Of three threads the one whose task has others here goes.
        let mut mixed = node(&[thread(16, 0, 0), thread(17, 0, 0), thread(17, 1, 0)]);
        assert_eq!(mixed.away(&[0], idle, 9).unwrap().task, 17);
        // Two last ones share a CPU, and another one has nothing to do.
        let mut last = node(&[thread(16, 0, 0), thread(17, 0, 0)]);
        assert_eq!(last.clone().away(&[0], Load { busy: 1, cpus: 1 }, 9), None);
        assert!(last.away(&[0], idle, 9).is_some());
        // Alone on its CPU it stays.
        assert_eq!(node(&[thread(16, 0, 0), thread(17, 0, 1)]).away(&[0, 1], idle, 9), None);
    }

    #[test]
    fn the_master_evens_nodes_out() {
        let load = |busy, cpus| Load { busy, cpus };
        assert_eq!(between(&[load(4, 1), load(0, 1)]), Some((0, 1)));
        assert_eq!(between(&[load(2, 1), load(1, 1)]), None);
        assert_eq!(between(&[load(1, 1), load(0, 1)]), None);
        // Twice the CPUs, twice the threads.
        assert_eq!(between(&[load(4, 2), load(2, 1)]), None);
        assert_eq!(between(&[load(4, 1), load(4, 4), load(9, 4)]), Some((0, 1)));
        assert_eq!(between(&[load(5, 1), load(0, 0)]), None);
        assert_eq!(between(&[]), None);
    }

    #[test]
    fn moves_come_to_an_end() {
        // Wherever threads begin, after some moves nobody has two more per CPU than another.
        for seed in 0u32..200 {
            let mut loads = [0, 1, 2, 3]
                .map(|n: u32| Load { busy: (seed >> (2 * n)) % 9, cpus: 1 + seed.rotate_right(n) % 4 });
            let mut moves = 0;
            while let Some((from, to)) = between(&loads) {
                loads[from].busy -= 1;
                loads[to].busy += 1;
                moves += 1;
                assert!(moves < 100, "{seed}");
            }
        }
    }

    #[test]
    fn more_threads_than_places_are_no_trouble() {
        let crowd = || (0..1000).map(|number| thread(16, number, (number % 3) as u16));
        let mut node = Node::new();
        (0..9).for_each(|_| node.look(crowd()));
        assert_eq!(node.busy(), MAX_THREADS as u32);
        node.look(core::iter::empty());
        assert_eq!(node.busy(), 0);
    }
}
