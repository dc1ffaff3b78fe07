//! Device trees of real machines (see `machines/README.md`) give the topology they were started with.

use skerry_abi::boot::Range;
use skerry_topology::{
    Clusters, Conduit, Error, FreeRanges, Mode, Topology, kernel_memory, pools, tree_size,
};

const MIB: u64 = 1 << 20;

macro_rules! machine {
    ($name:literal) => {
        Topology::parse(include_bytes!(concat!("machines/", $name, ".dtb"))).expect($name)
    };
}

/// Node of each CPU.
fn cpu_nodes(topology: &Topology) -> Vec<usize> {
    topology.cpus.iter().map(|cpu| cpu.node).collect()
}

/// Node and MiB of each range of RAM.
fn memory(topology: &Topology) -> Vec<(usize, u64)> {
    topology.memory.iter().map(|ram| (ram.node, ram.range.size / MIB)).collect()
}

/// Home and memory node of each cluster.
fn homes(topology: &Topology, mode: Mode) -> Vec<(usize, usize)> {
    let clusters = Clusters::new(topology, mode).unwrap();
    clusters.list().iter().map(|cluster| (cluster.node, cluster.memory_node)).collect()
}

/// Per node the MiB that each cluster gets of it, when nothing is reserved.
fn shares(topology: &Topology, mode: Mode) -> Vec<Vec<u64>> {
    let clusters = Clusters::new(topology, mode).unwrap();
    let free = FreeRanges::new(topology).unwrap();
    let mut shares = vec![vec![0; clusters.list().len()]; topology.node_count];
    for pool in pools(topology, &clusters, &free).unwrap() {
        shares[pool.node as usize][pool.cluster as usize] += pool.range.size / MIB;
    }
    shares
}

#[test]
fn a_machine_without_numa_is_one_node() {
    let topology = machine!("one-node");
    assert_eq!((topology.node_count, topology.distances[0][0]), (1, 10));
    assert_eq!(memory(&topology), [(0, 256)]);
    assert_eq!(topology.memory[0].range, Range { base: 0x4000_0000, size: 256 * MIB });
    assert_eq!(cpu_nodes(&topology), [0]);
    assert_eq!(topology.gic_distributor, Range { base: 0x800_0000, size: 0x1_0000 });
    assert_eq!(topology.gic_redistributors.as_slice(), [Range { base: 0x80a_0000, size: 0xf6_0000 }]);
    assert_eq!(topology.uart, Range { base: 0x900_0000, size: 0x1000 });
    assert_eq!((topology.timer_irq, topology.conduit), (27, Some(Conduit::Hvc)));
    assert_eq!(topology.command_line, "clusters=one");
    assert_eq!(topology.initrd, Some(Range { base: 0x4800_0000, size: 100 }));
}

#[test]
fn two_nodes_with_a_distance() {
    let topology = machine!("two-nodes");
    assert_eq!(topology.distances[0][..2], [10, 21]);
    assert_eq!(topology.distances[1][..2], [21, 10]);
    assert_eq!(topology.command_line, "tick=1ms -- app");
    assert_eq!(homes(&topology, Mode::PerNode), [(0, 0), (1, 1)]);
    assert_eq!(homes(&topology, Mode::One), [(0, 0)]);
    assert_eq!(shares(&topology, Mode::PerNode), [[256, 0], [0, 256]]);
    assert_eq!(shares(&topology, Mode::One), [[256], [256]]);
}

#[test]
fn uneven_memory_and_default_distances() {
    let topology = machine!("uneven");
    assert_eq!(memory(&topology), [(0, 64), (1, 256), (2, 128), (3, 256)]);
    assert_eq!(cpu_nodes(&topology), [0, 1, 2, 3]);
    for (from, to) in [(0, 1), (3, 0), (2, 2)] {
        assert_eq!(topology.distances[from][to], if from == to { 10 } else { 20 });
    }
}

#[test]
fn the_pool_of_a_node_without_cpus_goes_to_the_nearest_cluster() {
    let topology = machine!("cpu-less");
    assert_eq!(homes(&topology, Mode::PerNode), [(0, 0), (1, 1)]);
    assert_eq!(shares(&topology, Mode::PerNode), [[128, 0], [0, 128], [0, 256]]);
}

#[test]
fn a_cluster_without_memory_shares_the_nearest_node() {
    let topology = machine!("memory-less");
    assert_eq!(memory(&topology), [(0, 256), (1, 256)]);
    assert_eq!(homes(&topology, Mode::PerNode), [(0, 0), (1, 1), (2, 1)]);
    assert_eq!(shares(&topology, Mode::PerNode), [[256, 0, 0], [0, 128, 128], [0, 0, 0]]);
}

#[test]
fn eight_cpus_on_four_nodes() {
    let topology = machine!("eight-cpus");
    assert_eq!(cpu_nodes(&topology), [0, 0, 1, 1, 2, 2, 3, 3]);
    let clusters = Clusters::new(&topology, Mode::PerNode).unwrap();
    assert_eq!(clusters.list().len(), 4);
    assert_eq!(clusters.cpus(2).collect::<Vec<_>>(), [4, 5]);
    assert_eq!((clusters.list()[2].first_cpu, clusters.list()[2].cpu_count), (4, 2));
    assert_eq!(shares(&topology, Mode::PerCpu)[3], [0, 0, 0, 0, 0, 0, 64, 64]);
}

#[test]
fn kernel_memory_grows_with_the_machine() {
    let topology = machine!("eight-cpus");
    let clusters = Clusters::new(&topology, Mode::PerNode).unwrap();
    let size = kernel_memory(&topology, &clusters, 0, 300 << 10);
    // 4 MiB + image + 4 rings and tables + 2 stacks + 512 MiB / 64, in steps of 2 MiB
    assert_eq!(size, 14 * MIB);
}

#[test]
fn many_kernels_leave_memory_for_pools() {
    let mut topology = machine!("one-node");
    let cpu = topology.cpus[0];
    topology.cpus = (0..64).map(|mpidr| skerry_topology::Cpu { mpidr, ..cpu }).collect();
    topology.memory[0].range.size = 4096 * MIB;
    let clusters = Clusters::new(&topology, Mode::PerCpu).unwrap();
    let kernels: u64 = (0..64).map(|cluster| kernel_memory(&topology, &clusters, cluster, MIB)).sum();
    assert!(kernels < topology.ram() / 2, "{} MiB", kernels / MIB);
}

#[test]
fn messages_say_what_to_do() {
    let topology = machine!("uneven");
    let mut free = FreeRanges::new(&topology).unwrap();
    let error = free.alloc_top(0, 65 * MIB, 2 * MIB, "a kernel").unwrap_err();
    assert_eq!(
        error.to_string(),
        "node 0 has 64 MiB of contiguous RAM left, a kernel needs 65 MiB: give the node more memory"
    );
    free.reserve(topology.memory[1].range).unwrap();
    let clusters = Clusters::new(&topology, Mode::PerNode).unwrap();
    let error = pools(&topology, &clusters, &free).unwrap_err();
    assert_eq!(error, Error::NoPool { cluster: 1, node: 1 });
    assert_eq!(tree_size(&[0; 8]), Err(Error::NoTree));
    assert_eq!(tree_size(&[]), Err(Error::NoTree));
}

#[test]
fn the_length_of_a_tree_is_in_its_header() {
    let dtb = include_bytes!("machines/one-node.dtb");
    assert_eq!(tree_size(&dtb[..8]), Ok(dtb.len()));
}

/// The tree of `two-nodes` with the only (or first) occurrence of some bytes replaced.
fn altered(from: &[u8], to: &[u8]) -> Result<Topology, Error> {
    let mut tree = include_bytes!("machines/two-nodes.dtb").to_vec();
    let at = tree.windows(from.len()).position(|window| window == from).expect("the tree contains it");
    tree[at..at + to.len()].copy_from_slice(to);
    Topology::parse(&tree)
}

#[test]
fn the_other_conduit() {
    assert_eq!(altered(b"hvc\0", b"smc\0").unwrap().conduit, Some(Conduit::Smc));
    assert!(altered(b"hvc\0", b"xyz\0").unwrap_err().to_string().contains("`method` of a psci node"));
}

#[test]
fn impossible_machines_are_named() {
    let text = |from: &[u8], to: &[u8]| altered(from, to).unwrap_err().to_string();
    assert!(text(b"arm,gic-v3\0", b"arm,gic-v9\0").contains("gic-version=3"));
    assert!(text(b"arm,armv8-timer\0", b"arm,armv9-timer\0").contains("generic timer"));
    assert!(text(b"arm,pl011\0", b"arm,pl099\0").contains("PL011"));
    // Distance 21 from node 0 to node 1 becomes 9.
    assert_eq!(
        altered(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 21], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9]),
        Err(Error::Distance { from: 0, to: 1, distance: 9 })
    );
    assert_eq!(
        altered(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 21], &[0, 0, 0, 0, 0, 0, 0, 128]),
        Err(Error::NodeId(128))
    );
    // The RAM of node 1 moves into that of node 0.
    assert_eq!(altered(&[0x50, 0, 0, 0, 0, 0, 0, 0, 0x10], &[0x48]), Err(Error::OverlappingRam(0x4800_0000)));
    assert!(text(b"device_type\0", b"device-type\0").contains("no memory"));
}
