//! The whole boot but for the instructions: from topology and archive to kernels that are ready to be entered.

use heapless::Vec;
use skerry_abi::boot::{self, BootInfo, MAX_CLUSTERS, PoolRange, RING_SIZE, Range, Segment, arena};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};
use skerry_topology::{Clusters, FreeRanges, Topology, kernel_memory, pools};

use crate::kernel::{IMAGE_WINDOW, Kernel, REACH, Start, cpus, devices};
use crate::options::{PLACED, Where};
use crate::registers::Features;
use crate::tables::BLOCK_SIZE;
use crate::{Archive, Error, Image, Memory, Options};

/// The kernel's module.
const KERNEL: &str = "kernel";

/// Segments of a root program at most: what [`boot::Cluster::root`] holds.
const ROOT_SEGMENTS: usize = 4;

/// Where programs may be linked.
const PROGRAM_WINDOW: Range = Range { base: PROGRAM_BASE, size: UTCB_BASE - PROGRAM_BASE };

/// Everything the loader starts from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The machine.
    pub topology: &'a Topology,
    /// The modules.
    pub archive: Archive<'a>,
    /// Where the device tree lies.
    pub device_tree: Range,
    /// All memory of the loader itself: code, data, stack.
    pub loader: Range,
    /// The page in it that holds the trampoline.
    pub trampoline: Range,
    /// What the CPUs have.
    pub features: Features,
    /// Whether the emulator takes semihosting calls.
    pub semihosting: bool,
}

/// Kernels that are ready to be entered.
#[derive(Clone, Debug)]
pub struct Loaded {
    features: Features,
    kernels: Vec<Kernel, MAX_CLUSTERS>,
}

impl Loaded {
    /// What CPU `cpu` is to be started with.
    pub fn start(&self, info: &BootInfo, cpu: usize) -> Start {
        let cluster = usize::from(info.cpus[cpu].cluster);
        let local = cpus(info, cluster).take_while(|&other| other != cpu).count();
        self.kernels[cluster].start(cpu, local, self.features)
    }

    /// All memory outside of the loader that was written.
    pub fn written<'a>(&self, info: &'a BootInfo) -> impl Iterator<Item = Range> + 'a {
        info.clusters().iter().flat_map(|cluster| {
            let kernel = Range { base: cluster.kernel.base, size: cluster.heap.base - cluster.kernel.base };
            let root = cluster.root.iter().map(|part| Range { base: part.pa, size: part.size });
            [kernel, cluster.image].into_iter().chain(root).filter(|range| range.size != 0)
        })
    }
}

/// Loads a kernel and a root pager for every cluster and describes the machine in `info`, which must be all zero.
///
/// # Errors
/// The first thing that is wrong with machine, archive or command line. Memory may have been written then.
pub fn load(input: &Input<'_>, memory: &mut impl Memory, info: &mut BootInfo) -> Result<Loaded, Error> {
    input.features.check()?;
    describe_machine(input, info);
    let options = Options::read(info)?;
    info.tick_ns = options.tick_ns;
    info.kernel_switches = options.kernel_switches;
    if let Some(end) = reach(input.topology, info).filter(|&end| end > REACH) {
        return Err(Error::OutOfReach { end, limit: REACH });
    }

    input.archive.list(info)?;
    let program =
        |name: &str, window, parts| Image::parse(name, input.archive.module(info, name)?, window, parts);
    let image = program(KERNEL, IMAGE_WINDOW, usize::MAX)?;
    let root = program(options.root.as_str(), PROGRAM_WINDOW, ROOT_SEGMENTS)?;

    let clusters = Clusters::new(input.topology, options.mode)?;
    place(input, &clusters, &options, image.size(), &root, info)?;

    let mut loaded = Loaded { features: input.features, kernels: Vec::new() };
    for number in 0..clusters.list().len() {
        root.load(memory, info.clusters[number].root[0].pa);
        let kernel = Kernel::build(memory, info, number, &image, input.trampoline)?;
        info.clusters[number].heap = kernel.heap;
        // There is room: it is as long as the list of clusters may be.
        let _ = loaded.kernels.push(kernel);
    }
    for kernel in &loaded.kernels {
        memory.write_boot_info(kernel.boot_info, info);
    }
    for cpu in 0..input.topology.cpus.len() {
        let start = loaded.start(info, cpu);
        for (address, word) in (start.address..).step_by(8).zip(start.words) {
            memory.set_word(address, word);
        }
    }
    Ok(loaded)
}

/// What does not depend on clusters.
fn describe_machine(input: &Input<'_>, info: &mut BootInfo) {
    let topology = input.topology;
    info.magic = boot::MAGIC;
    info.cpu_count = topology.cpus.len() as u32;
    info.node_count = topology.node_count as u32;
    info.gic_distributor = topology.gic_distributor;
    for (to, from) in info.gic_redistributors.iter_mut().zip(&topology.gic_redistributors) {
        *to = *from;
    }
    info.uart = topology.uart;
    info.timer_irq = topology.timer_irq;
    info.semihosting = input.semihosting.into();
    info.archive = whole_pages(input.archive.range());
    // Shorter than the field: see `MAX_COMMAND_LINE`.
    for (to, from) in info.command_line.iter_mut().zip(topology.command_line.bytes()) {
        *to = from;
    }
    info.distances = topology.distances;
}

/// The highest end of anything a kernel must reach.
fn reach(topology: &Topology, info: &BootInfo) -> Option<u64> {
    let ram = topology.memory.iter().map(|ram| ram.range.end());
    ram.chain(devices(info).map(Range::end)).max()
}

/// Decides where everything goes, and enters it into `info`.
fn place(
    input: &Input<'_>,
    clusters: &Clusters,
    options: &Options,
    image: u64,
    root: &Image<'_>,
    info: &mut BootInfo,
) -> Result<(), Error> {
    let topology = input.topology;
    let mut free = FreeRanges::new(topology)?;
    free.reserve(input.loader)?;
    for (range, what) in [(input.device_tree, "the device tree"), (input.archive.range(), "the archive")] {
        if range.base < input.loader.end() && input.loader.base < range.end() {
            return Err(Error::Overlap(what));
        }
        free.reserve(range)?;
    }

    for (number, cluster) in clusters.list().iter().enumerate() {
        let size = kernel_memory(topology, clusters, number, image);
        let kernel = free.alloc_top(cluster.memory_node, size, BLOCK_SIZE, "a kernel")?;
        let rings = Range { base: kernel.base, size: clusters.list().len() as u64 * RING_SIZE };
        info.clusters[number] = boot::Cluster {
            kernel,
            rings,
            first_cpu: cluster.first_cpu as u16,
            cpu_count: cluster.cpu_count as u16,
            node: cluster.node as u16,
            memory_node: cluster.memory_node as u16,
            root_entry: root.entry,
            ..Default::default()
        };
        info.cluster_count += 1;
    }
    for (number, cluster) in clusters.list().iter().enumerate() {
        for ((&place, option), kind) in options.places.iter().zip(PLACED).zip(0..) {
            let home = cluster.memory_node;
            let node = match place {
                Where::Home => home,
                Where::Next => topology.next_memory(home).unwrap_or(home),
                Where::Node(node) if topology.ram_of(node) == 0 => {
                    return Err(Error::NoMemory { option, node });
                }
                Where::Node(node) => node,
            };
            if node == home {
                continue;
            }
            let described = &mut info.clusters[number];
            match described.arenas.get_mut(kind) {
                Some(place) => {
                    let size = (described.kernel.size / arena::SHARE[kind]).next_multiple_of(BLOCK_SIZE);
                    *place = free.alloc_top(node, size, BLOCK_SIZE, "a kernel's objects")?;
                }
                None => described.image = free.alloc_top(node, image, PAGE_SIZE, "a kernel's image")?,
            }
        }
    }
    // Behind all kernels, so that those of one node lie without gaps.
    for (number, cluster) in clusters.list().iter().enumerate() {
        let range = free.alloc_top(cluster.memory_node, root.size(), PAGE_SIZE, "a root pager")?;
        for (segment, (part, pa)) in info.clusters[number].root.iter_mut().zip(root.placed(range.base)) {
            let rights = part.rights.bits();
            *segment = Segment { va: part.pages.base, pa, size: part.pages.size, rights };
        }
    }

    for (number, cpu) in topology.cpus.iter().enumerate() {
        let cluster = clusters.of_cpu(number) as u16;
        info.cpus[number] = boot::Cpu { mpidr: cpu.mpidr, node: cpu.node as u16, cluster, reserved: 0 };
    }
    for (to, ram) in info.memory.iter_mut().zip(&topology.memory) {
        // Several clusters may share a node: the lowest stands for them.
        let cluster = clusters.serving(topology, ram.node).first().map_or(0, |&cluster| cluster as u16);
        *to = PoolRange { range: ram.range, node: ram.node as u16, cluster, reserved: 0 };
        info.memory_count += 1;
    }
    let pools = pools(topology, clusters, &free)?;
    info.pools[..pools.len()].copy_from_slice(&pools);
    info.pool_count = pools.len() as u32;
    Ok(())
}

/// The pages that a range of bytes touches.
const fn whole_pages(range: Range) -> Range {
    let base = range.base / PAGE_SIZE * PAGE_SIZE;
    Range { base, size: range.end().next_multiple_of(PAGE_SIZE) - base }
}
