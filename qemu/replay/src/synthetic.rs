//! Traces of programs that separate policies, made instead of recorded: what programs of this kind miss in caches much smaller than their data.
//!
//! Each is a pure function of its [`Shape`]. What they have in common: threads are spread over all CPUs of the machine, `gap` cycles lie between misses,
//! and phases end with barriers.

mod arrays;
mod graphs;
mod moving;
mod science;
mod services;

use skerry_cost_model::latency::Overlap;

use crate::machine::Machine;
use crate::trace::{Item, Miss, Thread, Trace};

/// How large a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Threads, one per CPU.
    pub threads: u32,
    /// CPUs of a node, as far as they are alike: so many neighbouring threads are on one node.
    pub per_node: u32,
    /// Pages per thread.
    pub pages: u32,
    /// How often the data is gone through.
    pub rounds: u32,
    /// For what is random.
    pub seed: u64,
    /// Cycles between two ticks of the policies: some programs beat in time with them.
    pub period: u32,
}

impl Shape {
    /// One thread per CPU of a machine.
    pub fn of(machine: &Machine, pages: u32, rounds: u32, seed: u64) -> Self {
        let threads = machine.topology.cpus.len() as u32;
        let nodes = machine.nodes.iter().filter(|node| node.cpus > 0).count() as u32;
        let period = crate::Settings::default().period as u32;
        Self { threads, per_node: threads.div_ceil(nodes.max(1)), pages, rounds, seed, period }
    }
    const fn all(&self) -> u32 {
        self.threads * self.pages
    }
}

/// A program.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Makes the trace.
    pub make: fn(&Shape) -> Trace,
    /// Node 1 has room for so many in 1000 of the pages only.
    pub room: Option<u64>,
}

const fn workload(name: &'static str, what: &'static str, make: fn(&Shape) -> Trace) -> Workload {
    Workload { name, what, make, room: None }
}

/// All of them.
pub const ALL: [Workload; 26] = [
    workload("serial-init", "one thread fills arrays that all use, each its part", arrays::serial_init),
    workload("gups-serial", "random updates of a table that one thread has filled", arrays::gups_serial),
    workload("gups-parallel", "the same, filled by all", arrays::gups_parallel),
    workload("stream-serial", "a = b + c, filled by one thread", arrays::stream_serial),
    workload("stream-parallel", "a = b + c, filled by all", arrays::stream_parallel),
    workload("cg-serial", "sparse matrix times vector, filled by one thread", science::cg_serial),
    workload("ft-transpose", "rows, then columns of the same matrix", science::ft_transpose),
    workload("is-all-to-all", "buckets written by all, read by one", science::is_all_to_all),
    workload("pagerank-hubs", "few pages that all read, written once per iteration", graphs::pagerank),
    workload("bfs-hubs", "hubs that all read, frontiers that move", graphs::bfs),
    workload("readers-then-writers", "read by all, then written by all", graphs::readers_then_writers),
    workload("kv-1", "key-value store, 1 % writes, hot set drifts", services::kv_1),
    workload("kv-10", "the same with 10 % writes", services::kv_10),
    workload("kv-50", "the same with 50 % writes", services::kv_50),
    workload("kv-sharded", "each thread has a shard, and shards change hands", services::kv_sharded),
    workload("producer-consumer", "rings between pairs of threads on different nodes", services::ring),
    workload("wavefront", "neighbours write different lines of the same pages", services::wavefront),
    workload("moved-threads", "threads change nodes in mid-run", moving::moved_threads),
    Workload {
        name: "nearly-full",
        what: "the second node has room for a tenth of what its threads use",
        make: arrays::serial_init,
        room: Some(25),
    },
    workload("rotating-16", "owners change at 16 times the break-even", moving::rotating_16),
    workload("rotating-4", "at 4 times", moving::rotating_4),
    workload("rotating-1", "at the break-even", moving::rotating_1),
    workload("rotating-quarter", "at a quarter of it", moving::rotating_quarter),
    workload("alternating-writer", "two nodes take turns, each as long as a tick", moving::alternating_1),
    workload("alternating-pass", "each as long as eight ticks", moving::alternating_8),
    workload("private", "every thread has its own and nobody else's", arrays::private),
];

/// What programs are written with.
struct Program {
    trace: Trace,
    random: u64,
}

impl Program {
    fn new(shape: &Shape, pages: u32) -> Self {
        let threads = (0..shape.threads).map(Thread::on).collect();
        let random = shape.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { trace: Trace { pages, threads }, random }
    }
    /// A random number below `below`.
    fn random(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (((self.random >> 32) * u64::from(below.max(1))) >> 32) as u32
    }
    fn thread(&mut self, thread: u32) -> &mut Thread {
        let count = self.trace.threads.len();
        &mut self.trace.threads[thread as usize % count]
    }
    fn miss(&mut self, thread: u32, page: u32, (lines, gap): (u8, u16), write: bool, overlap: Overlap) {
        self.thread(thread).push(Item::Miss(Miss { page, lines, gap, write, overlap }));
    }
    /// A thread goes through pages line by line.
    fn sweep(&mut self, thread: u32, pages: std::ops::Range<u32>, write: bool) {
        pages.for_each(|page| self.miss(thread, page, (64, 300), write, Overlap::Stream));
    }
    /// A thread reads lines that nothing announces and nothing depends on.
    fn look(&mut self, thread: u32, page: u32, lines: u8) {
        self.miss(thread, page, (lines, 20 * u16::from(lines)), false, Overlap::Independent);
    }
    fn update(&mut self, thread: u32, page: u32, lines: u8) {
        self.miss(thread, page, (lines, 20 * u16::from(lines)), true, Overlap::Independent);
    }
    /// A thread follows pointers.
    fn chase(&mut self, thread: u32, page: u32, lines: u8) {
        self.miss(thread, page, (lines, 20 * u16::from(lines)), false, Overlap::None);
    }
    fn barrier(&mut self) {
        self.trace.threads.iter_mut().for_each(|thread| thread.push(Item::Barrier));
    }
    /// Thread 0 fills everything, or each its part.
    fn fill(&mut self, shape: &Shape, serially: bool) {
        let pages = self.trace.pages;
        if serially {
            self.sweep(0, 0..pages, true);
        } else {
            for thread in 0..shape.threads {
                self.sweep(thread, part(pages, shape.threads, thread), true);
            }
        }
        self.barrier();
    }
    fn done(self) -> Trace {
        self.trace
    }
}

/// Part `number` of `pages` in `parts`.
fn part(pages: u32, parts: u32, number: u32) -> std::ops::Range<u32> {
    let edge = |number: u32| (u64::from(pages) * u64::from(number) / u64::from(parts.max(1))) as u32;
    edge(number)..edge(number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skerry_cost_model::CoreModel;

    #[test]
    fn all_can_be_replayed_on_machines_of_any_size() {
        for (nodes, cpus) in [(1, 1), (2, 1), (3, 2), (8, 1)] {
            let machine = Machine::uniform(nodes, cpus, 64 << 20, CoreModel::Blocking).unwrap();
            let shape = Shape::of(&machine, 16, 3, 7);
            for workload in ALL {
                let trace = (workload.make)(&shape);
                assert_eq!(trace.check(), Ok(()), "{}", workload.name);
                assert_eq!(trace.threads.len(), nodes * cpus);
                assert!(trace.misses() > 0);
                assert_eq!(trace, (workload.make)(&shape), "the same shape, the same trace");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
