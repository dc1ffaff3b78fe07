//! Which CPUs are run by one kernel instance, where that kernel's memory comes from, and how much it gets.

use heapless::Vec;
use skerry_abi::boot::{MAX_CLUSTERS, MAX_CPUS, RING_SIZE};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::KERNEL_STACK_SIZE;

use crate::{Error, Topology};

/// How CPUs are grouped: the command line's `clusters=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One cluster per node that has CPUs.
    #[default]
    PerNode,
    /// One cluster of all CPUs: the classic SMP kernel.
    One,
    /// Every CPU its own cluster.
    PerCpu,
}

impl core::str::FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "per-node" => Ok(Self::PerNode),
            "one" => Ok(Self::One),
            "per-cpu" => Ok(Self::PerCpu),
            _ => Err(()),
        }
    }
}

/// One kernel instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its home: the node of its CPUs; of a single cluster node 0.
    pub node: usize,
    /// Where its kernel memory and (a share of) its pool come from: `node`, or the nearest one that has memory.
    pub memory_node: usize,
    /// Its lowest CPU.
    pub first_cpu: usize,
    /// How many CPUs it has.
    pub cpu_count: usize,
}

/// All kernel instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    list: Vec<Cluster, MAX_CLUSTERS>,
    of_cpu: Vec<u16, MAX_CPUS>,
}

impl Clusters {
    /// Groups the CPUs. Clusters are numbered by node, within a node by CPU.
    ///
    /// # Errors
    /// [`Error::Missing`] if no node has memory.
    pub fn new(topology: &Topology, mode: Mode) -> Result<Self, Error> {
        // CPUs with the same key form a cluster; keys in ascending order number the clusters.
        let key = |cpu: usize| match mode {
            Mode::PerNode => (topology.cpus[cpu].node, 0),
            Mode::One => (0, 0),
            Mode::PerCpu => (topology.cpus[cpu].node, cpu),
        };
        let mut order: Vec<usize, MAX_CPUS> = (0..topology.cpus.len()).collect();
        order.sort_unstable_by_key(|&cpu| (key(cpu), cpu));

        let mut clusters = Self { list: Vec::new(), of_cpu: Vec::new() };
        clusters.of_cpu.extend(core::iter::repeat_n(0, topology.cpus.len()));
        let mut previous = None;
        for cpu in order {
            if previous != Some(key(cpu)) {
                previous = Some(key(cpu));
                let node = key(cpu).0;
                let memory_node = topology
                    .nearest_memory(node)
                    .ok_or(Error::Missing { what: "memory", hint: "give at least one node memory" })?;
                let cluster = Cluster { node, memory_node, first_cpu: cpu, cpu_count: 0 };
                let full = Error::TooMany { what: "clusters", limit: MAX_CLUSTERS };
                clusters.list.push(cluster).map_err(|_| full)?;
            }
            clusters.of_cpu[cpu] = (clusters.list.len() - 1) as u16;
            if let Some(cluster) = clusters.list.last_mut() {
                cluster.cpu_count += 1;
            }
        }
        Ok(clusters)
    }

    /// The clusters by number.
    pub fn list(&self) -> &[Cluster] {
        &self.list
    }

    /// The cluster of a CPU.
    pub fn of_cpu(&self, cpu: usize) -> usize {
        self.of_cpu[cpu].into()
    }

    /// The CPUs of a cluster, ascending.
    pub fn cpus(&self, cluster: usize) -> impl Iterator<Item = usize> + '_ {
        self.of_cpu.iter().enumerate().filter(move |&(_, &of)| usize::from(of) == cluster).map(|(cpu, _)| cpu)
    }

    /// The clusters that share the memory of `node`, ascending: those that take their kernel memory there; if there are
    /// none (a node without CPUs) the nearest one, by distance from the node, then by number.
    pub fn serving(&self, topology: &Topology, node: usize) -> Vec<usize, MAX_CLUSTERS> {
        let mut serving: Vec<usize, MAX_CLUSTERS> =
            (0..self.list.len()).filter(|&cluster| self.list[cluster].memory_node == node).collect();
        if serving.is_empty() {
            let distance = |&cluster: &usize| topology.distances[self.list[cluster].node][node];
            serving.extend((0..self.list.len()).min_by_key(|cluster| (distance(cluster), *cluster)));
        }
        serving
    }
}

/// Kernel memory is a multiple of this and aligned to it, so that the kernel maps it with large pages.
const KERNEL_GRAIN: u64 = 2 << 20;
/// What a kernel needs whatever the machine: thread and space objects, boot information, tables of the image.
const BASE: u64 = 4 << 20;
/// A kernel's heap covers page tables and map nodes for the machine's RAM: 1/64 of it. As every kernel can be asked to map
/// all RAM, many kernels would take all of it; beyond 16 they get less, so that together they take a quarter, but never
/// less than 1/256, which covers the tables alone.
const RAM_SHARE: core::ops::RangeInclusive<u64> = 64..=256;
const SHARE_OF_ALL: u64 = 4;

/// Bytes of kernel memory of `cluster`, whose kernel image takes `image` bytes: a fixed part, the image, inbound rings from
/// all clusters, a page table per foreign ring area, a stack per CPU, and a share that grows with the machine's RAM.
pub fn kernel_memory(topology: &Topology, clusters: &Clusters, cluster: usize, image: u64) -> u64 {
    let count = clusters.list.len() as u64;
    let per_cluster = count * (RING_SIZE + PAGE_SIZE);
    let stacks = clusters.list[cluster].cpu_count as u64 * KERNEL_STACK_SIZE;
    let share = (count * SHARE_OF_ALL).clamp(*RAM_SHARE.start(), *RAM_SHARE.end());
    let bytes = BASE + image + per_cluster + stacks + topology.ram() / share;
    bytes.next_multiple_of(KERNEL_GRAIN)
}
