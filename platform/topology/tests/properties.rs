//! Whatever the machine: pools are disjoint and complete, and no device tree makes the parser panic.

use proptest::prelude::*;
use skerry_abi::boot::{PoolRange, Range};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_topology::{Clusters, Cpu, FreeRanges, Mode, Ram, Topology, pools};

const TREES: [&[u8]; 3] = [
    include_bytes!("machines/one-node.dtb"),
    include_bytes!("machines/cpu-less.dtb"),
    include_bytes!("machines/eight-cpus.dtb"),
];

/// A machine of up to 6 nodes, of which any may lack memory or CPUs, with holes between the pieces of RAM.
fn machine() -> impl Strategy<Value = Topology> {
    let ram = prop::collection::vec((0..6_usize, 1..5000_u64, 0..300_u64), 1..10);
    let cpus = prop::collection::vec(0..6_usize, 1..10);
    let distances = prop::collection::vec(11..=255_u8, 36);
    (ram, cpus, distances).prop_map(|(ram, cpus, distances)| {
        let mut topology = Topology::parse(TREES[0]).unwrap();
        topology.node_count = 6;
        for from in 0..6 {
            for to in 0..6 {
                topology.distances[from][to] = if from == to { 10 } else { distances[from * 6 + to] };
            }
        }
        topology.cpus = cpus.iter().enumerate().map(|(cpu, &node)| Cpu { mpidr: cpu as u64, node }).collect();
        let mut base = 0x4000_0000;
        topology.memory = ram
            .iter()
            .map(|&(node, pages, hole)| {
                base += hole * PAGE_SIZE;
                let range = Range { base, size: pages * PAGE_SIZE };
                base = range.end();
                Ram { range, node }
            })
            .collect();
        topology
    })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::PerNode), Just(Mode::One), Just(Mode::PerCpu)]
}

/// Byte ranges somewhere in or around the RAM of [`machine`].
fn reservations() -> impl Strategy<Value = Vec<Range>> {
    let range = (0..45_000 * PAGE_SIZE, 0..800 * PAGE_SIZE)
        .prop_map(|(offset, size)| Range { base: 0x3fff_0000 + offset, size });
    prop::collection::vec(range, 0..12)
}

/// The owner of every page, page by page: what the pools must describe.
fn naive_free(topology: &Topology, reserved: &[Range]) -> Vec<(u64, usize)> {
    let pages = |ram: &Ram| {
        let node = ram.node;
        (ram.range.base..ram.range.end()).step_by(PAGE_SIZE as usize).map(move |page| (page, node))
    };
    let touched = |page: u64| {
        reserved.iter().any(|r| r.size != 0 && r.base < page + PAGE_SIZE && page < r.base + r.size)
    };
    topology.memory.iter().flat_map(pages).filter(|&(page, _)| !touched(page)).collect()
}

fn pages(pools: &[PoolRange]) -> Vec<(u64, usize)> {
    let pages = |pool: &PoolRange| {
        let node = pool.node as usize;
        (pool.range.base..pool.range.end()).step_by(PAGE_SIZE as usize).map(move |page| (page, node))
    };
    pools.iter().flat_map(pages).collect()
}

proptest! {
    /// Every free page is in exactly one pool, under its own node, and no reserved page is in any.
    #[test]
    fn pools_are_a_partition_of_what_is_free(
        topology in machine(),
        mode in mode(),
        reserved in reservations(),
    ) {
        let clusters = Clusters::new(&topology, mode).unwrap();
        let mut free = FreeRanges::new(&topology).unwrap();
        for range in &reserved {
            free.reserve(*range).unwrap();
        }
        let expected = naive_free(&topology, &reserved);
        prop_assert_eq!(free.iter().map(|f| f.range.size).sum::<u64>(), expected.len() as u64 * PAGE_SIZE);

        let Ok(pools) = pools(&topology, &clusters, &free) else {
            // Only because a node that clusters depend on has fewer pages left than clusters.
            let starved = clusters.list().iter().any(|c| {
                let takers = clusters.list().iter().filter(|o| o.memory_node == c.memory_node).count();
                free.free_of(c.memory_node) / PAGE_SIZE < takers as u64
            });
            prop_assert!(starved);
            return Ok(());
        };
        prop_assert_eq!(pages(&pools), expected);

        // Every cluster gets memory; of one node the shares differ by the rounding to large pages only.
        let share = |cluster: usize, node: usize| -> u64 {
            let mine = |p: &&PoolRange| p.cluster as usize == cluster && p.node as usize == node;
            pools.iter().filter(mine).map(|p| p.range.size).sum()
        };
        for (number, cluster) in clusters.list().iter().enumerate() {
            prop_assert!(share(number, cluster.memory_node) > 0);
        }
        for node in 0..topology.node_count {
            let serving = clusters.serving(&topology, node);
            let fair = free.free_of(node) / serving.len() as u64;
            for cluster in serving {
                let share = share(cluster, node);
                prop_assert!(share >= fair / 2 && share <= fair * 3 / 2 + 2 * PAGE_SIZE, "{share} of {fair}");
            }
        }
    }

    /// Allocations are aligned, of their node, disjoint from each other, and gone from the free ranges.
    #[test]
    fn allocations_do_not_overlap(
        topology in machine(),
        requests in prop::collection::vec((0..6_usize, 1..700_u64, 12..22_u32), 1..20),
    ) {
        let mut free = FreeRanges::new(&topology).unwrap();
        let mut taken: Vec<Range> = Vec::new();
        for (node, pages, bits) in requests {
            let before = free.free_of(node);
            let Ok(range) = free.alloc_top(node, pages * PAGE_SIZE, 1 << bits, "a test") else { continue };
            prop_assert_eq!(range.base % (1 << bits), 0);
            prop_assert_eq!(free.free_of(node), before - range.size);
            let inside = |ram: &Ram| {
                ram.node == node && ram.range.base <= range.base && range.end() <= ram.range.end()
            };
            prop_assert!(topology.memory.iter().any(inside));
            prop_assert!(taken.iter().all(|t| t.end() <= range.base || range.end() <= t.base));
            taken.push(range);
        }
    }

    /// A truncated tree is an error.
    #[test]
    fn truncated_trees_are_refused(tree in 0..TREES.len(), cut in any::<prop::sample::Index>()) {
        let tree = TREES[tree];
        prop_assert!(Topology::parse(&tree[..cut.index(tree.len())]).is_err());
    }

    /// A mutated tree gives a topology that everything else can work with, or an error; never a panic.
    #[test]
    fn mutated_trees_do_not_panic(
        tree in 0..TREES.len(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        mode in mode(),
    ) {
        let mut tree = TREES[tree].to_vec();
        for (index, value) in mutations {
            let index = index.index(tree.len());
            tree[index] = value;
        }
        match Topology::parse(&tree) {
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
            Ok(topology) => {
                let outcome = Clusters::new(&topology, mode)
                    .and_then(|clusters| pools(&topology, &clusters, &FreeRanges::new(&topology)?));
                if let Err(error) = outcome {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    /// Nor does anything else that starts like one.
    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some(magic) = bytes.first_chunk_mut() {
            *magic = 0xd00d_feed_u32.to_be_bytes();
        }
        prop_assert!(Topology::parse(&bytes).is_err());
    }
}
