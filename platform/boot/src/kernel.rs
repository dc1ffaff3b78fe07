//! The memory of one kernel instance: what is put there, and what its page tables show.

use skerry_abi::Rights;
use skerry_abi::boot::{BootInfo, Cluster, Range};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{KERNEL_BASE, KERNEL_STACK_SIZE, KERNEL_STACK_STRIDE, KERNEL_STACKS, PHYSMAP};

use crate::image::Image;
use crate::registers::{Features, MAIR};
use crate::tables::{Attributes, MapError, Pages, Tables};
use crate::{Error, Memory};

/// First physical address that does not fit into the `PHYSMAP` window.
pub(crate) const REACH: u64 = KERNEL_BASE - PHYSMAP;

/// Where a kernel image may be linked.
pub(crate) const IMAGE_WINDOW: Range = Range { base: KERNEL_BASE, size: KERNEL_STACKS - KERNEL_BASE };

/// Words of a [`Start`] block; a multiple of 2, as it lies on a stack.
pub const START_WORDS: usize = 10;

/// What the trampoline loads into a CPU's registers. The block lies at the top of the CPU's kernel stack: memory of the
/// right node that nobody else uses, and that is free again once the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// TTBR0_EL1, TTBR1_EL1, TCR_EL1, MAIR_EL1, SCTLR_EL1, entry point, address of the boot information, CPU number,
    /// stack pointer, zero: in the order in which the trampoline reads them.
    pub words: [u64; START_WORDS],
    /// Where the block lies (physical).
    pub address: u64,
}

/// A kernel whose memory is complete but for the boot information.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// What the loader left over.
    pub(crate) heap: Range,
    /// Where the boot information goes (physical).
    pub(crate) boot_info: u64,
    stacks: u64,
    identity: u64,
    tables: u64,
    entry: u64,
}

impl Kernel {
    /// Fills the memory of cluster `number`: image, empty rings and stacks, and the page tables. `info` must know
    /// everything but the heaps.
    pub(crate) fn build(
        memory: &mut impl Memory,
        info: &BootInfo,
        number: usize,
        image: &Image<'_>,
        trampoline: Range,
    ) -> Result<Self, Error> {
        let failed = |error| match error {
            MapError::NoFrame => Error::KernelMemory { cluster: number },
            MapError::Conflict(address) => Error::MappedTwice(address),
        };
        let cluster = &info.clusters[number];
        let mut pages = Pages::new(cluster.kernel);
        let mut take = |size| pages.take(size).ok_or(Error::KernelMemory { cluster: number });

        let rings = take(cluster.rings.size)?; // first: `Cluster::rings` of all kernels was set on this premise
        let boot_info = take(size_of::<BootInfo>() as u64)?;
        let image_at = if cluster.image.size == 0 { take(image.size())? } else { cluster.image };
        let stacks = take(u64::from(cluster.cpu_count) * KERNEL_STACK_SIZE)?;
        memory.zero(rings);
        memory.zero(stacks);
        image.load(memory, image_at.base);

        let tables = Tables::new(memory, &mut pages).map_err(failed)?;
        let mut map = |va, range, attributes| tables.map(memory, &mut pages, va, range, attributes);
        for (part, address) in image.placed(image_at.base) {
            let range = Range { base: address, size: part.pages.size };
            map(part.pages.base, range, Attributes::normal(part.rights)).map_err(failed)?;
        }
        for (local, cpu) in cpus(info, number).enumerate() {
            let base = stacks.base + local as u64 * KERNEL_STACK_SIZE;
            let stack = Range { base, size: KERNEL_STACK_SIZE };
            map(stack_top(cpu) - KERNEL_STACK_SIZE, stack, Attributes::normal(Rights::RW)).map_err(failed)?;
        }
        for range in visible(info, number) {
            map(PHYSMAP + range.base, range, Attributes::normal(Rights::RW)).map_err(failed)?;
        }
        for device in devices(info) {
            map(PHYSMAP + device.base, device, Attributes::DEVICE).map_err(failed)?;
        }

        // The instruction behind the one that turns the MMU on is fetched from the same address.
        let identity = Tables::new(memory, &mut pages).map_err(failed)?;
        let executable = Attributes::normal(Rights::RX);
        identity.map(memory, &mut pages, trampoline.base, trampoline, executable).map_err(failed)?;

        Ok(Self {
            heap: pages.rest(),
            boot_info: boot_info.base,
            stacks: stacks.base,
            identity: identity.root(),
            tables: tables.root(),
            entry: image.entry,
        })
    }

    /// What CPU `cpu` is started with, the `local`-th of its cluster.
    pub(crate) fn start(&self, cpu: usize, local: usize, features: Features) -> Start {
        let words = [
            self.identity,
            self.tables,
            features.tcr(),
            MAIR,
            features.sctlr(),
            self.entry,
            PHYSMAP + self.boot_info,
            cpu as u64,
            stack_top(cpu),
            0,
        ];
        let end = self.stacks + (local as u64 + 1) * KERNEL_STACK_SIZE;
        Start { words, address: end - size_of_val(&words) as u64 }
    }
}

/// The CPUs of a cluster, ascending.
pub(crate) fn cpus(info: &BootInfo, cluster: usize) -> impl Iterator<Item = usize> + '_ {
    info.cpus().iter().enumerate().filter(move |(_, cpu)| usize::from(cpu.cluster) == cluster).map(|(i, _)| i)
}

const fn stack_top(cpu: usize) -> u64 {
    KERNEL_STACKS + (cpu as u64 + 1) * KERNEL_STACK_STRIDE
}

/// RAM that a kernel sees through `PHYSMAP`: its own but for an image that lies apart, of the others only their rings.
fn visible(info: &BootInfo, number: usize) -> impl Iterator<Item = Range> + '_ {
    let part = move |(other, cluster): (usize, &Cluster)| {
        if other == number { cluster.kernel } else { cluster.rings }
    };
    let arenas = info.clusters[number].arenas.into_iter().filter(|arena| arena.size != 0);
    info.clusters().iter().enumerate().map(part).chain(arenas)
}

/// The devices a kernel drives, as whole pages.
pub(crate) fn devices(info: &BootInfo) -> impl Iterator<Item = Range> + '_ {
    let all = [info.gic_distributor, info.uart].into_iter().chain(info.gic_redistributors);
    all.filter(|device| device.size != 0).map(|device| {
        let base = device.base / PAGE_SIZE * PAGE_SIZE;
        Range { base, size: device.end().next_multiple_of(PAGE_SIZE) - base }
    })
}
