//! What is configured is what a program sees: a chain of dependent loads costs each level's latency, and signals between CPUs arrive
//! after they were sent.

use skerry_cost_model::core::{Core, CoreModel};
use skerry_cost_model::params::Params;
use skerry_cost_model::topology::Range;
use skerry_cost_model::{Access, LINE, Machine, Time, Topology};

const MIB: u64 = 1 << 20;
const LOAD: Access = Access { store: false, dependent: true };
const STORE: Access = Access { store: true, dependent: false };

/// Three nodes in a row with a CPU and 64 MiB each.
fn machine(params: &Params, model: CoreModel) -> (Machine, Vec<Core>) {
    let memory = |node: u64| Range { base: node * 64 * MIB, size: 64 * MIB };
    let topology = Topology {
        cpus: vec![0, 1, 2],
        memory: (0..3).map(memory).collect(),
        distances: vec![vec![10, 16, 31], vec![16, 10, 16], vec![31, 16, 10]],
    };
    Machine::new(topology, params.clone(), model).unwrap()
}

/// Translation has tests of its own: here every address is its own physical address.
fn touch(machine: &mut Machine, core: &mut Core, address: u64, access: Access) {
    if !core.hits(address, access.store) {
        machine.access(core, address, address, access).unwrap();
    }
}

/// The time of a load in a chain through `bytes` of the memory of node `home`, after one time through it to warm up.
fn chase(machine: &mut Machine, core: &mut Core, home: u64, bytes: u64) -> f64 {
    let mut start = 0;
    for round in 0..2 {
        if round == 1 {
            start = core.clock();
        }
        for line in 0..bytes / LINE {
            touch(machine, core, home * 64 * MIB + line * LINE, LOAD);
        }
    }
    (core.clock() - start) as f64 / 256.0 / (bytes / LINE) as f64
}

#[test]
fn every_level_costs_what_is_configured() {
    let params = Params::default();
    for model in [CoreModel::Blocking, CoreModel::Prefetching] {
        let levels = [(32 << 10, 0.0), (256 << 10, 12.0), (2 * MIB, 40.0), (16 * MIB, 200.0)];
        for (bytes, cycles) in levels {
            let (mut machine, mut cores) = machine(&params, model);
            assert_eq!(chase(&mut machine, &mut cores[0], 0, bytes), cycles, "{bytes} bytes, {model:?}");
        }
    }
}

#[test]
fn memory_costs_its_distance() {
    for (home, cycles) in [(0, 200.0), (1, 320.0), (2, 620.0)] {
        let (mut machine, mut cores) = machine(&Params::default(), CoreModel::Prefetching);
        assert_eq!(chase(&mut machine, &mut cores[0], home, 16 * MIB), cycles, "node {home}");
        let counters = cores[0].counters;
        assert_eq!(counters.dram_local > 0, home == 0);
        assert_eq!(counters.dram_remote > 0, home != 0);
    }
}

#[test]
fn streams_and_independent_misses_cost_less_than_chains() {
    let params = Params::default();
    let time = |step: u64, dependent| {
        let (mut machine, mut cores) = machine(&params, CoreModel::Prefetching);
        for line in 0..1_000 {
            touch(&mut machine, &mut cores[0], line * step * LINE, Access { store: false, dependent });
        }
        cores[0].clock() / 256 / 1_000
    };
    assert_eq!((time(7, true), time(7, false), time(1, false)), (200, 50, 20));
}

#[test]
fn memory_that_is_written_costs_bandwidth_twice() {
    let mut params = Params::default();
    params.memory.controller_mb_s = 5_200; // 2 bytes per cycle: a line takes 32 cycles
    let time = |store| {
        let (mut machine, mut cores) = machine(&params, CoreModel::Prefetching);
        for line in 0..32 * MIB / LINE {
            touch(&mut machine, &mut cores[0], line * LINE, Access { store, dependent: false });
        }
        cores[0].clock() as f64 / 256.0 / (32 * MIB / LINE) as f64
    };
    // The last level keeps some dirty lines to the end.
    assert!((32.0..60.0).contains(&time(false)), "{}", time(false));
    assert!((57.0..70.0).contains(&time(true)), "{}", time(true));
}

#[test]
fn a_load_never_precedes_its_store() {
    let (mut machine, mut cores) = machine(&Params::default(), CoreModel::Blocking);
    let [first, second, _] = &mut cores[..] else { panic!() };
    touch(&mut machine, first, 0, STORE);
    first.execute(100_000, 0);
    touch(&mut machine, first, 0, STORE); // nobody needs to be asked: the filter answers
    let stored = first.clock();
    touch(&mut machine, second, 0, LOAD);
    assert_eq!(second.clock() - stored, 256 * 80 * 16 / 10);
}

/// CPUs pass a token on: each waits for its own line, then writes its neighbour's.
#[test]
fn a_token_ring_takes_a_hop_per_cpu() {
    let hop = |machine: &mut Machine, cores: &mut [Core], laps: usize| -> Time {
        let count = cores.len();
        let line = |cpu: usize| cpu as u64 * 64 * MIB;
        let start = cores[0].clock();
        for step in 0..laps * count {
            let (from, to) = (step % count, (step + 1) % count);
            touch(machine, &mut cores[from], line(to), STORE);
            // The neighbour has looked in vain before; its clock is wherever its polling took it.
            touch(machine, &mut cores[to], line(to), LOAD);
        }
        (cores[0].clock() - start) / laps as u64
    };
    let (mut machine, mut cores) = machine(&Params::default(), CoreModel::Blocking);
    hop(&mut machine, &mut cores, 1);
    // Becoming the only holder, and the transfer; 0 -> 1 -> 2 -> 0 at distances 16, 16 and 31.
    let expected = 256 * (40 + 80) * (16 + 16 + 31) / 10;
    assert_eq!(hop(&mut machine, &mut cores, 10), expected);
}

#[test]
fn a_wake_up_follows_its_interrupt() {
    let (machine, mut cores) = machine(&Params::default(), CoreModel::Blocking);
    let [first, second, third] = &mut cores[..] else { panic!() };
    second.sleep();
    first.execute(1_000, 0);
    machine.interrupt(first, 1);
    first.execute(50_000, 0);
    second.wake(machine.now(1));
    assert_eq!(second.clock(), 256 * (1_000 + 500));
    // A timer wakes the third one: then it is not behind those that execute.
    third.sleep();
    third.wake(machine.now(2));
    assert_eq!(third.clock(), second.clock());
    // An interrupt that comes early does not turn back a clock.
    machine.interrupt(third, 0);
    let before = first.clock();
    first.take_interrupt();
    assert_eq!(first.clock(), before);
}
