//! The caches against a simulator that nobody here wrote: pycachesim counts as many hits and misses at every level, on random traces and on a real program's.
//!
//! What it counts is in `pycachesim/reference.txt`. The script beside it, which has the same traces and geometries, says how to make that anew. One CPU,
//! since pycachesim knows no coherence; for that there is the naive machine of `reference/`.

use skerry_cost_model::core::CoreModel;
use skerry_cost_model::params::{Cache, Params};
use skerry_cost_model::topology::Range;
use skerry_cost_model::{Access, LINE, Machine, Topology};

const REFERENCE: &str = include_str!("pycachesim/reference.txt");
const SORT: &str = include_str!("pycachesim/sort.trace");
const ACCESSES: usize = 60_000;

/// Lines, and whether they are stored to.
type Trace = Vec<(u64, bool)>;

/// Sets and ways of each level.
fn geometry(name: &str) -> Vec<(u64, u32)> {
    match name {
        "small" => vec![(16, 4), (32, 8), (64, 16)],
        "direct" => vec![(32, 1), (128, 1), (256, 1)],
        "two-levels" => vec![(64, 2), (256, 8)],
        "default" => vec![(256, 4), (1024, 8), (4096, 16)],
        _ => panic!("there is no geometry {name}"),
    }
}

fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    }
}

fn trace(name: &str) -> Trace {
    match name {
        "uniform" => {
            let mut next = numbers(1);
            (0..ACCESSES).map(|_| (next() % 131_072, next().is_multiple_of(4))).collect()
        }
        "hot" => {
            let mut next = numbers(2);
            let mut one = || {
                let lines = if next().is_multiple_of(8) { 16_384 } else { 512 };
                (next() % lines, next().is_multiple_of(2))
            };
            (0..ACCESSES).map(|_| one()).collect()
        }
        "strides" => {
            let mut next = numbers(3);
            let mut trace = Trace::new();
            while trace.len() < ACCESSES {
                let (start, length) = (next() % 65_536, 1 + next() % 32);
                let (step, store) = (1 + next() % 16, next().is_multiple_of(3));
                trace.extend((0..length).map(|i| ((start + i * step) % 65_536, store)));
            }
            trace
        }
        "sort" => {
            let mut line = 0u64;
            let words = SORT.split_whitespace().map(|word| {
                line = line.wrapping_add_signed(word[1..].parse().expect("a number of lines"));
                (line, word.starts_with('s'))
            });
            words.collect()
        }
        _ => panic!("there is no trace {name}"),
    }
}

/// Misses of the first level; then hits and misses of each further one.
fn counts(levels: &[(u64, u32)], trace: &Trace) -> Vec<u64> {
    let level = |index: usize| {
        let shape = levels.get(index).map(|&(sets, ways)| (sets * u64::from(ways) * LINE / 1024, ways));
        let (kib, ways) = shape.unwrap_or((0, 1));
        Cache { kib, ways, latency: index as u32 * 10 }
    };
    let params = Params { l1: level(0), l2: level(1), llc: level(2), ..Params::default() };
    let topology = Topology {
        cpus: vec![0],
        memory: vec![Range { base: 0, size: 16 << 20 }],
        distances: vec![vec![10]],
    };
    let (mut machine, mut cores) = Machine::new(topology, params, CoreModel::Blocking).unwrap();
    let core = &mut cores[0];
    for &(line, store) in trace {
        let address = line * LINE;
        // As in the instrument: what the filter answers, the machine is not asked.
        if !core.hits(address, store) {
            machine.access(core, address, address, Access { store, dependent: false }).unwrap();
        }
    }
    let c = core.counters;
    let below = [c.l2_hits, c.llc_hits, c.dram_local];
    let missed: u64 = below.iter().sum();
    let mut all = vec![missed];
    let mut left = missed;
    for hits in &below[..levels.len() - 1] {
        left -= hits;
        all.extend([*hits, left]);
    }
    all
}

#[test]
fn hits_and_misses_are_those_of_pycachesim() {
    let mut compared = 0;
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (name, shape) = (words.next().unwrap(), words.next().unwrap());
        let expected: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        assert_eq!(counts(&geometry(shape), &trace(name)), expected, "{name} on {shape}");
        compared += 1;
    }
    assert_eq!(compared, 16, "four traces on four geometries");
}
