//! What the machine looks like, and who gets which part of it.
//!
//! The boot loader reads the device tree once, through [`Topology::parse`], into plain tables; everything that follows
//! from them is a pure function here, so that every machine anybody can describe is tested on the host:
//!
//! - [`Clusters::new`] groups the CPUs into kernel instances and picks the node each takes its kernel memory from,
//! - [`kernel_memory`] says how much that is,
//! - [`FreeRanges`] takes reserved ranges and kernel memory out of the RAM,
//! - [`pools`] deals what is left out to the app pagers: every page to exactly one of them.
//!
//! A machine that cannot work ends as an [`Error`], whose text is one line that says what to change.
//!
//! The tree is that of QEMU's `virt` machine: only nodes directly below the root (and `/cpus`, `/reserved-memory`) are
//! looked at, and only the devices a kernel drives itself.
#![no_std]
#![forbid(unsafe_code)]

mod clusters;
mod error;
mod free;
mod parse;
mod pools;

pub use clusters::{Cluster, Clusters, Mode, kernel_memory};
pub use error::{Error, Size};
pub use free::{FreeRange, FreeRanges};
pub use parse::tree_size;
pub use pools::{Pools, pools};

use heapless::{String, Vec};
use skerry_abi::boot::{MAX_CPUS, MAX_NODES, MAX_RANGES, Range};

/// Distance of a node to itself (ACPI SLIT, and the `numa-distance-map-v1` binding).
pub const LOCAL_DISTANCE: u8 = 10;
/// Distance of two different nodes where the device tree says nothing.
pub const REMOTE_DISTANCE: u8 = 20;
/// Redistributor regions at most: as many as the boot information holds.
pub const MAX_REDISTRIBUTORS: usize = 4;
/// Ranges that the device tree itself reserves, at most.
pub const MAX_RESERVED: usize = 32;
/// Bytes of the command line at most (the boot information adds a zero).
pub const MAX_COMMAND_LINE: usize = 1023;

/// How PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `hvc #0`.
    Hvc,
    /// `smc #0`.
    Smc,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Affinity fields of its MPIDR_EL1.
    pub mpidr: u64,
    /// Its node.
    pub node: usize,
}

/// A piece of RAM, of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ram {
    /// Where it lies, page-aligned.
    pub range: Range,
    /// Its node.
    pub node: usize,
}

/// Everything the device tree says that Skerry wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Number of nodes: one more than the largest node id that occurs. A node may have no CPUs, no memory, or neither.
    pub node_count: usize,
    /// `distances[from][to]`; rows and columns behind `node_count` are zero.
    pub distances: [[u8; MAX_NODES]; MAX_NODES],
    /// The CPUs by ascending MPIDR; the index is the CPU's number. There is at least one.
    pub cpus: Vec<Cpu, MAX_CPUS>,
    /// RAM by ascending address, without overlaps. There is at least one range.
    pub memory: Vec<Ram, MAX_RANGES>,
    /// Ranges the device tree reserves; neither sorted nor aligned.
    pub reserved: Vec<Range, MAX_RESERVED>,
    /// GICv3 distributor.
    pub gic_distributor: Range,
    /// GICv3 redistributor regions.
    pub gic_redistributors: Vec<Range, MAX_REDISTRIBUTORS>,
    /// PL011.
    pub uart: Range,
    /// Interrupt id of the virtual timer.
    pub timer_irq: u32,
    /// How PSCI is called; always known if there is more than one CPU.
    pub conduit: Option<Conduit>,
    /// `bootargs`; empty if there are none.
    pub command_line: String<MAX_COMMAND_LINE>,
    /// Where the initial archive lies; not aligned.
    pub initrd: Option<Range>,
}

impl Topology {
    /// Reads a flattened device tree. `dtb` must have exactly the length [`tree_size`] says.
    ///
    /// # Errors
    /// The first thing that is wrong with the tree or with the machine it describes. No input makes it panic.
    pub fn parse(dtb: &[u8]) -> Result<Self, Error> {
        parse::parse(dtb)
    }

    /// Bytes of RAM of `node`.
    pub fn ram_of(&self, node: usize) -> u64 {
        self.memory.iter().filter(|ram| ram.node == node).map(|ram| ram.range.size).sum()
    }

    /// Bytes of RAM of the machine.
    pub fn ram(&self) -> u64 {
        self.memory.iter().map(|ram| ram.range.size).sum()
    }

    /// The node with memory that is nearest to `node`: itself, or by distance, then by number.
    pub fn nearest_memory(&self, node: usize) -> Option<usize> {
        (0..self.node_count)
            .filter(|&other| self.ram_of(other) != 0)
            .min_by_key(|&other| (other != node, self.distances[node][other], other))
    }

    /// The node with memory that follows `node` by number, cyclically: itself only if no other has memory.
    pub fn next_memory(&self, node: usize) -> Option<usize> {
        let following = (node + 1..self.node_count).chain(0..=node.min(self.node_count));
        following.into_iter().find(|&other| self.ram_of(other) != 0)
    }
}
