//! What the root pager takes of its cluster's pool for the servers, and where it puts what.
//!
//! A pure function of the boot information and the two images: every root pager computes it for *all* clusters and so knows,
//! without asking, which frames are no pool memory any more.

use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_rt::image::Image;
use skerry_rt::start::ServerStart;

/// Distance between two stacks.
pub const STACK_STRIDE: u64 = 8 * PAGE_SIZE;
/// Usable bytes of a stack: its lowest page is never mapped to a server.
pub const STACK_BYTES: u64 = STACK_STRIDE - PAGE_SIZE;
/// The taken range ends at a multiple of this if it can, so that the pool behind it is mapped in large blocks.
const ROUND: u64 = 1 << 21;

/// Pages of the servers' start page.
pub const START_BYTES: u64 = (size_of::<ServerStart>() as u64).next_multiple_of(PAGE_SIZE);

/// Whose stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// The root worker of the cluster's n-th CPU.
    Root(u64),
    /// The system-call server's thread of the n-th CPU.
    Syscall(u64),
    /// The pager thread of the n-th CPU.
    Pager(u64),
    /// The pager's worker.
    Worker,
    /// The pager's unmap worker.
    Unmapper,
    /// The pager's undertaker.
    Undertaker,
}

/// The frames of one cluster's servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// All of it: no longer part of any pool.
    pub taken: Range,
    /// First frame of the system-call server's image; its parts follow each other.
    pub syscall: u64,
    /// First frame of the app pager's image.
    pub pager: u64,
    /// The start page.
    pub start: u64,
    /// The stacks.
    pub stacks: Range,
    cpus: u64,
}

impl Layout {
    /// Lays out the servers of `cluster`; `None` if no range of its pool is large enough.
    pub fn new(boot: &BootInfo, cluster: u16, syscall: &Image, pager: &Image) -> Option<Self> {
        let info = boot.clusters().get(usize::from(cluster))?;
        let cpus = u64::from(info.cpu_count);
        let stack_bytes = (3 * cpus + 3) * STACK_STRIDE;
        let bytes = (syscall.pages() + pager.pages()) * PAGE_SIZE + START_BYTES + stack_bytes;
        // The largest range of the home node; a home without memory takes the largest there is.
        let range = boot
            .pools()
            .iter()
            .filter(|pool| pool.cluster == cluster && pool.range.size >= bytes)
            .max_by_key(|pool| (pool.node == info.node, pool.range.size))?
            .range;
        let end = (range.base + bytes).next_multiple_of(ROUND).min(range.end());
        let pager_frames = range.base + syscall.pages() * PAGE_SIZE;
        let start = pager_frames + pager.pages() * PAGE_SIZE;
        let stacks = start + START_BYTES;
        Some(Self {
            taken: Range { base: range.base, size: end - range.base },
            syscall: range.base,
            pager: pager_frames,
            start,
            stacks: Range { base: stacks, size: stack_bytes },
            cpus,
        })
    }

    /// Where a stack ends (it grows downwards).
    pub fn stack_top(&self, stack: Stack) -> u64 {
        let index = match stack {
            Stack::Root(cpu) => cpu,
            Stack::Syscall(cpu) => self.cpus + cpu,
            Stack::Pager(cpu) => 2 * self.cpus + cpu,
            Stack::Worker => 3 * self.cpus,
            Stack::Unmapper => 3 * self.cpus + 1,
            Stack::Undertaker => 3 * self.cpus + 2,
        };
        self.stacks.base + (index + 1) * STACK_STRIDE
    }

    /// The app pager's image and the start page.
    pub fn pager_frames(&self) -> Range {
        Range { base: self.pager, size: self.start + START_BYTES - self.pager }
    }
    /// The stacks of the system-call server.
    pub fn syscall_stacks(&self) -> Range {
        Range { base: self.stacks.base + self.cpus * STACK_STRIDE, size: self.cpus * STACK_STRIDE }
    }
    /// The stacks of the app pager, those of its workers included.
    pub fn pager_stacks(&self) -> Range {
        Range { base: self.stacks.base + 2 * self.cpus * STACK_STRIDE, size: (self.cpus + 3) * STACK_STRIDE }
    }
}
