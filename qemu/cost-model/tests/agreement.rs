//! Property: the machine and the naive reference agree in every counter, every clock and the contents of every cache, whatever happens.

mod reference;

use proptest::prelude::*;
use reference::Reference;
use skerry_cost_model::core::{Core, CoreModel};
use skerry_cost_model::maintenance::Maintenance;
use skerry_cost_model::params::{Cache, Memory, Params, Prefetching, Tlb};
use skerry_cost_model::tlb::Invalidation;
use skerry_cost_model::topology::Range;
use skerry_cost_model::walk::Walk;
use skerry_cost_model::{Access, Machine, Topology};

/// Pages of memory per node.
const PAGES: u64 = 12;
/// Tables of each space lie behind the pages that programs use, in the memory of the space's node.
const USED: u64 = PAGES - 4;

#[derive(Clone, Debug)]
enum Step {
    Access { cpu: usize, asid: u16, page: u64, line: u64, store: bool, dependent: bool },
    Run { cpu: usize, first: u64, count: u64, store: bool },
    Execute { cpu: usize, instructions: u64 },
    Maintain { cpu: usize, page: u64, line: u64, what: Maintenance },
    Invalidate { cpu: usize, page: Option<u64>, asid: u16, broadcast: bool },
    Interrupt { cpu: usize, target: usize },
    Sleep { cpu: usize },
}

fn topology() -> Topology {
    let range = |base, pages| Range { base: base * 4096, size: pages * 4096 };
    Topology {
        cpus: vec![0, 0, 1, 2],
        memory: vec![range(16, PAGES), range(16 + PAGES, PAGES), range(16 + 2 * PAGES, PAGES)],
        distances: vec![vec![10, 16, 22], vec![16, 10, 16], vec![22, 16, 10]],
    }
}

/// Small enough that everything is replaced all the time.
fn params(llc: bool, tight: bool) -> Params {
    Params {
        instructions_per_cycle: 2,
        l1: Cache { kib: 1, ways: 2, latency: 0 },
        l2: Cache { kib: 2, ways: 2, latency: 12 },
        llc: Cache { kib: if llc { 4 } else { 0 }, ways: 4, latency: 40 },
        tlb: Tlb { entries: 4, ways: 2 },
        memory: Memory {
            controller_mb_s: if tight { 300 } else { 40_000 },
            link_mb_s: if tight { 200 } else { 20_000 },
            ..Memory::default()
        },
        prefetching: Prefetching { streams: 3, ..Prefetching::default() },
        window: 3_000,
        ..Params::default()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (cpu, page, line) = (0..4usize, 0..3 * USED, 0..64u64);
    let what = prop_oneof![
        Just(Maintenance::Clean),
        Just(Maintenance::CleanInvalidate),
        Just(Maintenance::Invalidate),
        Just(Maintenance::Unification),
        Just(Maintenance::Zero)
    ];
    prop_oneof![
        // Often the same few lines, so that CPUs get into each other's way.
        8 => (cpu.clone(), 1..3u16, 0..3u64, 0..4u64, any::<bool>(), any::<bool>()).prop_map(
            |(cpu, asid, page, line, store, dependent)| Step::Access { cpu, asid, page: page * USED, line: line * 21, store, dependent }),
        8 => (cpu.clone(), 1..3u16, page.clone(), line.clone(), any::<bool>(), any::<bool>()).prop_map(
            |(cpu, asid, page, line, store, dependent)| Step::Access { cpu, asid, page, line, store, dependent }),
        3 => (cpu.clone(), 0..3 * USED * 64 - 40, 1..40u64, any::<bool>()).prop_map(
            |(cpu, first, count, store)| Step::Run { cpu, first, count, store }),
        4 => (cpu.clone(), 0..5_000u64).prop_map(|(cpu, instructions)| Step::Execute { cpu, instructions }),
        3 => (cpu.clone(), page.clone(), line, what).prop_map(
            |(cpu, page, line, what)| Step::Maintain { cpu, page, line, what }),
        1 => (cpu.clone(), proptest::option::of(page), 1..3u16, any::<bool>()).prop_map(
            |(cpu, page, asid, broadcast)| Step::Invalidate { cpu, page, asid, broadcast }),
        1 => (cpu.clone(), 0..4usize).prop_map(|(cpu, target)| Step::Interrupt { cpu, target }),
        1 => cpu.prop_map(|cpu| Step::Sleep { cpu }),
    ]
}

/// Where a page of a program lies: each space has its own mapping.
fn physical(asid: u16, page: u64) -> u64 {
    let page = if asid == 1 { page } else { (page + 5) % (3 * USED) };
    (16 + page / USED * PAGES + page % USED) * 4096
}

/// The words of the tables that translate a page.
fn tables(asid: u16, page: u64) -> [u64; 3] {
    let base = (16 + u64::from(asid) * PAGES + USED) * 4096;
    [base, base + 4096, base + 2 * 4096 + page * 8]
}

/// Both machines.
struct Pair {
    machine: Machine,
    cores: Vec<Core>,
    spaces: Vec<u16>,
    reference: Reference,
}

impl Pair {
    fn new(params: Params, model: CoreModel) -> Self {
        let (machine, cores) = Machine::new(topology(), params.clone(), model).unwrap();
        Self { machine, cores, spaces: vec![0; 4], reference: Reference::new(topology(), params, model) }
    }

    fn access(&mut self, cpu: usize, asid: u16, page: u64, line: u64, access: Access) {
        let core = &mut self.cores[cpu];
        if std::mem::replace(&mut self.spaces[cpu], asid) != asid {
            core.switch_space();
        }
        let address = page * 4096 + line * 64;
        let target = physical(asid, page);
        if !core.hits(address, access.store) {
            let found = core.translate(asid, address).unwrap_or_else(|| {
                let [first, second, third] = tables(asid, page);
                let walk = Walk::new(address, first, 39, |place| {
                    // The tables as a hardware walk would find them.
                    Some(if place & !0xfff == first {
                        second | 3
                    } else if place & !0xfff == second {
                        third & !0xfff | 3
                    } else {
                        target | 0x703
                    })
                });
                let walk = walk.unwrap();
                self.machine.walk(core, asid, address, &walk);
                walk.translate(address)
            });
            assert_eq!(found, target + line * 64);
            self.machine.access(core, address, found, access).unwrap();
        }
        let [first, second, third] = tables(asid, page);
        let found = self.reference.translate(cpu, page, asid.into(), target, &[first, second, third]);
        self.reference.access(cpu, (found >> 6) + line, access.store, access.dependent, false);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Access { cpu, asid, page, line, store, dependent } => {
                self.wake(cpu);
                self.access(cpu, asid, page, line, Access { store, dependent });
            }
            Step::Run { cpu, first, count, store } => {
                self.wake(cpu);
                for line in first..first + count {
                    self.access(cpu, 1, line / 64, line % 64, Access { store, dependent: false });
                }
            }
            Step::Execute { cpu, instructions } => {
                self.wake(cpu);
                self.cores[cpu].execute(instructions, instructions / 3);
                self.reference.execute(cpu, instructions, instructions / 3);
            }
            Step::Maintain { cpu, page, line, what } => {
                self.wake(cpu);
                let target = physical(1, page) + line * 64;
                self.machine.maintain(&mut self.cores[cpu], target, what).unwrap();
                self.reference.maintain(cpu, target >> 6, what);
            }
            Step::Invalidate { cpu, page, asid, broadcast } => {
                self.wake(cpu);
                let what = match page {
                    Some(page) => Invalidation::Page { asid: Some(asid), address: page * 4096 },
                    None => Invalidation::Asid(asid),
                };
                self.machine.invalidate_tlb(&mut self.cores[cpu], what, broadcast);
                self.reference.invalidate(cpu, page, asid.into(), broadcast);
            }
            Step::Interrupt { cpu, target } => {
                self.wake(cpu);
                self.machine.interrupt(&mut self.cores[cpu], target as u16);
                self.reference.interrupt(cpu, target);
            }
            Step::Sleep { cpu } => {
                self.cores[cpu].sleep();
                self.reference.sleep(cpu);
            }
        }
    }

    fn wake(&mut self, cpu: usize) {
        let now = self.machine.now(cpu as u16);
        self.cores[cpu].wake(now);
        self.reference.wake(cpu);
    }

    fn compare(&self) {
        for (core, cpu) in self.cores.iter().zip(&self.reference.cpus) {
            assert_eq!(core.counters, cpu.counters, "counters of CPU {}", core.cpu());
            assert_eq!(core.clock(), cpu.clock, "clock of CPU {}", core.cpu());
            let levels = [cpu.l1.contents(), cpu.l2.contents()];
            assert_eq!(self.machine.private_levels(core.cpu()), levels, "caches of CPU {}", core.cpu());
        }
        for (node, last) in self.reference.last.iter().enumerate() {
            assert_eq!(self.machine.last_level(node as u16), last.contents(), "last level of node {node}");
        }
        self.machine.check_directory().unwrap();
    }
}

fn agree(steps: &[Step], params: Params, model: CoreModel) {
    let mut pair = Pair::new(params, model);
    for step in steps {
        pair.step(step);
    }
    pair.compare();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn blocking(steps in prop::collection::vec(step(), 1..300)) {
        agree(&steps, params(true, false), CoreModel::Blocking);
    }
    #[test]
    fn prefetching(steps in prop::collection::vec(step(), 1..300)) {
        agree(&steps, params(true, false), CoreModel::Prefetching);
    }
    #[test]
    fn without_a_last_level(steps in prop::collection::vec(step(), 1..300)) {
        agree(&steps, params(false, false), CoreModel::Prefetching);
    }
    #[test]
    fn with_little_bandwidth(steps in prop::collection::vec(step(), 1..300)) {
        agree(&steps, params(true, true), CoreModel::Prefetching);
    }
}

/// A long run of the same kind, so that rare situations meet: not shrunk, but with a fixed seed.
#[test]
fn a_long_run() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut pair = Pair::new(params(true, true), CoreModel::Prefetching);
    for round in 0..60_000 {
        let step = step().new_tree(&mut runner).unwrap().current();
        pair.step(&step);
        if round % 1_000 == 0 {
            pair.compare();
        }
    }
    pair.compare();
    let mut sum = skerry_cost_model::Counters::default();
    pair.cores.iter().for_each(|core| sum.add(&core.counters));
    for (name, value) in sum.fields() {
        assert!(value > 0, "nothing tested {name}");
    }
}
