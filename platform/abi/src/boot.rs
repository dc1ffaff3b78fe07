//! What the boot loader tells every kernel, and the root pagers read: topology, pools, modules, command line.
//!
//! The loader writes one [`BootInfo`] per cluster into that cluster's kernel memory; they are identical. Nothing in it is
//! secret, so the root pager may map it (read-only) to whoever asks.

/// NUMA nodes at most (as in the emulator).
pub const MAX_NODES: usize = 128;
/// CPUs at most (as in the emulator).
pub const MAX_CPUS: usize = 512;
/// Clusters at most.
pub const MAX_CLUSTERS: usize = 512;
/// Memory ranges (and pool ranges) at most.
pub const MAX_RANGES: usize = 1024;
/// Modules in the archive at most.
pub const MAX_MODULES: usize = 32;
/// [`BootInfo::magic`].
pub const MAGIC: u64 = 0x534b_4552_5259_0003;

/// One CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Affinity fields of MPIDR_EL1.
    pub mpidr: u64,
    /// NUMA node.
    pub node: u16,
    /// Cluster.
    pub cluster: u16,
    /// Reserved, zero.
    pub reserved: u32,
}

/// A range of physical memory, page-aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

impl Range {
    /// First address behind it.
    pub const fn end(self) -> u64 {
        self.base + self.size
    }
    /// Whether `address` lies in it.
    pub const fn contains(self, address: u64) -> bool {
        address >= self.base && address < self.base + self.size
    }
}

/// A piece of a pool: frames of `node` that the app pager of `cluster` gets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolRange {
    /// The frames.
    pub range: Range,
    /// The node they belong to.
    pub node: u16,
    /// The cluster whose pager hands them out.
    pub cluster: u16,
    /// Reserved, zero.
    pub reserved: u32,
}

/// A loadable part of a program image that lies in memory already.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address, page-aligned.
    pub va: u64,
    /// Physical address, page-aligned.
    pub pa: u64,
    /// Bytes, a multiple of the page size; 0 = unused entry.
    pub size: u64,
    /// [`crate::Rights`] bits.
    pub rights: u64,
}

/// Kinds of kernel object: indices of [`Cluster::arenas`].
pub mod arena {
    /// Thread control blocks.
    pub const TCBS: usize = 0;
    /// UTCB pages.
    pub const UTCBS: usize = 1;
    /// Page tables of spaces.
    pub const PAGE_TABLES: usize = 2;
    /// Nodes of mapping trees.
    pub const MAP_NODES: usize = 3;
    /// How many kinds there are.
    pub const COUNT: usize = 4;
    /// Which part of a kernel's memory suffices for its objects of each kind: the kernel cuts its heap accordingly.
    pub const SHARE: [u64; COUNT] = [4, 4, 2, 2];
}

/// One cluster: the memory of its kernel, and its root pager.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The memory of the kernel instance (image, stacks, tables, rings, heap), but for what `image` and `arenas` name. No user mapping
    /// ever covers any of it.
    pub kernel: Range,
    /// The kernel's image, if the command line placed it elsewhere; else of size 0.
    pub image: Range,
    /// Per kind of object ([`arena`]) the memory for it, if the command line placed it elsewhere; else of size 0.
    pub arenas: [Range; arena::COUNT],
    /// The unused rest of it: the kernel's heap.
    pub heap: Range,
    /// Inbound rings: the ring from cluster *s* lies at `rings.base + s * RING_SIZE`.
    pub rings: Range,
    /// The root pager's image, in frames of the cluster's node outside the kernel memory and outside the pools.
    pub root: [Segment; 4],
    /// The root pager's entry point.
    pub root_entry: u64,
    /// The lowest CPU of the cluster.
    pub first_cpu: u16,
    /// How many CPUs it has (not necessarily consecutive).
    pub cpu_count: u16,
    /// Its home node: where its CPUs are, or for `clusters=one` node 0.
    pub node: u16,
    /// The node its kernel memory comes from (another than `node` where that one has no memory).
    pub memory_node: u16,
}

impl Cluster {
    /// All memory of the kernel instance.
    pub fn kernel_memory(&self) -> impl Iterator<Item = Range> + '_ {
        let elsewhere = self.arenas.iter().copied().chain([self.image]).filter(|range| range.size != 0);
        core::iter::once(self.kernel).chain(elsewhere)
    }
}

/// A file of the archive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name, zero-padded.
    pub name: [u8; 48],
    /// Its bytes.
    pub range: Range,
}

impl Module {
    /// The name as text; empty if it is not UTF-8.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        core::str::from_utf8(&self.name[..end]).unwrap_or("")
    }
}

/// Bytes of one inter-cluster ring (see the kernel's `ring`): a multiple of the page size.
pub const RING_SIZE: u64 = 0x6000;

/// Bits of [`BootInfo::kernel_switches`].
pub mod kernel_switch {
    /// `tlb=interrupt`: other CPUs of a cluster are asked by interrupt to invalidate in their TLBs; without it, by broadcast.
    pub const TLB_INTERRUPT: u64 = 1 << 0;
    /// `measure=on`: the information page tells how long interrupts were off, and the cluster lock held and waited for.
    pub const MEASURE: u64 = 1 << 1;
    /// `trace=on`: every CPU keeps a ring of what happened.
    pub const TRACE: u64 = 1 << 2;
    /// `rings=maintained`: the memory of the rings between clusters is not coherent; kernels clean and invalidate it.
    pub const RINGS_MAINTAINED: u64 = 1 << 3;
    /// `mutate=`: from this bit on, 1 + the place in [`super::UPKEEP`] of what kernels leave out; 0 = nothing.
    pub const MUTATE_SHIFT: u32 = 8;
    /// As many bits.
    pub const MUTATE_MASK: u64 = 0xff;
}

/// What keeps rings up in memory that is not coherent, operation by operation: values of the boot option `mutate=`, with which kernels leave one
/// of them out, so that a checker of such memory can be checked. The kernel says what each one is (`remote/upkeep.rs`).
pub const UPKEEP: [&str; 12] = [
    "packet",
    "published",
    "given-back",
    "wish",
    "down",
    "look",
    "header",
    "body",
    "heads",
    "answers",
    "response-heads",
    "is-wanted",
];

/// Everything about the machine that the kernels and the root pagers need.
#[repr(C, align(4096))]
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// Used entries of `cpus`.
    pub cpu_count: u32,
    /// Used rows of `distances`.
    pub node_count: u32,
    /// Used entries of `clusters`.
    pub cluster_count: u32,
    /// Used entries of `memory`.
    pub memory_count: u32,
    /// Used entries of `pools`.
    pub pool_count: u32,
    /// Used entries of `modules`.
    pub module_count: u32,
    /// Timer period while threads run, in nanoseconds (command line `tick=`).
    pub tick_ns: u64,
    /// What the command line switches in the kernels: [`kernel_switch`].
    pub kernel_switches: u64,
    /// GICv3 distributor.
    pub gic_distributor: Range,
    /// GICv3 redistributor regions; unused ones have size 0.
    pub gic_redistributors: [Range; 4],
    /// PL011.
    pub uart: Range,
    /// Interrupt id of the virtual timer (a PPI, 16..32).
    pub timer_irq: u32,
    /// Whether the emulator takes semihosting calls: else end by PSCI SYSTEM_OFF.
    pub semihosting: u32,
    /// The archive, as a whole: mapped read-only to pagers.
    pub archive: Range,
    /// Zero-terminated command line.
    pub command_line: [u8; 1024],
    /// SLIT-style distances: `distances[from][to]`, 10 = local.
    pub distances: [[u8; MAX_NODES]; MAX_NODES],
    /// CPUs; index = [`crate::CpuId`].
    pub cpus: [Cpu; MAX_CPUS],
    /// RAM of the machine as the device tree lists it, sorted by address, with node.
    pub memory: [PoolRange; MAX_RANGES],
    /// RAM that the pagers get: `memory` without everything reserved, sorted by address, never two nodes in one range.
    pub pools: [PoolRange; MAX_RANGES],
    /// Clusters.
    pub clusters: [Cluster; MAX_CLUSTERS],
    /// Modules.
    pub modules: [Module; MAX_MODULES],
}

impl BootInfo {
    /// The CPUs in use.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus[..self.cpu_count as usize]
    }
    /// The clusters in use.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters[..self.cluster_count as usize]
    }
    /// The pool ranges in use.
    pub fn pools(&self) -> &[PoolRange] {
        &self.pools[..self.pool_count as usize]
    }
    /// The memory ranges in use.
    pub fn memory(&self) -> &[PoolRange] {
        &self.memory[..self.memory_count as usize]
    }
    /// The modules in use.
    pub fn modules(&self) -> &[Module] {
        &self.modules[..self.module_count as usize]
    }
    /// The module with this name.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules().iter().find(|m| m.name() == name)
    }
    /// The command line as text; empty if it is not UTF-8.
    pub fn command_line(&self) -> &str {
        let end = self.command_line.iter().position(|&b| b == 0).unwrap_or(self.command_line.len());
        core::str::from_utf8(&self.command_line[..end]).unwrap_or("")
    }
    /// The value of `key=` on the command line, before a lone `--` (what follows belongs to the application).
    pub fn option(&self, key: &str) -> Option<&str> {
        self.command_line()
            .split_ascii_whitespace()
            .take_while(|&word| word != "--")
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
    /// What follows the lone `--` of the command line.
    pub fn app_arguments(&self) -> &str {
        let line = self.command_line();
        if let Some(rest) = line.strip_prefix("-- ") {
            return rest;
        }
        line.split_once(" -- ").map_or("", |(_, rest)| rest)
    }
}

const _: () = assert!(size_of::<BootInfo>().is_multiple_of(4096));
