//! Where everything lies: in frames of each cluster's pool, at their own addresses in every space.
#![expect(unsafe_code, reason = "memory at fixed addresses")]

use core::ptr::with_exposed_provenance;

use skerry_abi::boot::{BootInfo, Range};

use super::board::Board;
use super::hostile::Block;
use crate::guest::world::{Outcome, failed};

/// 2 MiB: what can be mapped at once.
pub(super) const BLOCK: u64 = 2 << 20;
/// What a thread has for itself: a [`Block`], and its stack behind it.
pub(super) const OWN: u64 = 16 << 10;

/// Hostile threads of a cluster: the space of each.
pub(super) const HOSTILE: [usize; 5] = [0, 0, 1, 2, 2];
/// Hostile spaces of a cluster.
pub(super) const SPACES: usize = 3;
/// Threads that a controller may have.
pub(super) const CHILDREN: usize = 8;
/// Clusters at most.
pub(super) const CLUSTERS: usize = 8;

/// Whose a piece of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Controller,
    Hostile(usize),
    Child(usize),
    Witness(usize),
}

impl Owner {
    const fn index(self) -> u64 {
        match self {
            Self::Controller => 0,
            Self::Hostile(i) => 1 + i as u64,
            Self::Child(i) => 1 + HOSTILE.len() as u64 + i as u64,
            // In pages of their own block.
            Self::Witness(i) => BLOCK / OWN + i as u64,
        }
    }
}

/// What many pages are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Play {
    Space(usize),
    Children,
    Controller,
}

/// The memory of all clusters.
#[derive(Clone, Copy)]
pub(super) struct Areas {
    bases: [u64; CLUSTERS],
    pub(super) clusters: u16,
}

/// Blocks a cluster needs.
const BLOCKS: u64 = 3 + SPACES as u64 + 2;

impl Areas {
    pub(super) fn new(boot: &BootInfo) -> Outcome<Self> {
        let clusters = boot.clusters().len();
        if clusters > CLUSTERS {
            return failed(format_args!("fuzz is for {CLUSTERS} clusters at most"));
        }
        let mut bases = [0; CLUSTERS];
        for (cluster, to) in bases[..clusters].iter_mut().enumerate() {
            let fits = |range: Range| {
                let base = range.base.next_multiple_of(BLOCK);
                (base + BLOCKS * BLOCK <= range.end()).then_some(base)
            };
            let pools = boot.pools().iter().filter(|pool| usize::from(pool.cluster) == cluster);
            let Some(base) = pools.map(|pool| pool.range).find_map(fits) else {
                return failed(format_args!("cluster {cluster} has no {} MiB of free memory", BLOCKS * 2));
            };
            *to = base;
        }
        Ok(Self { bases, clusters: clusters as u16 })
    }

    /// The beginning of each 2 MiB.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + use<> {
        let Self { bases, clusters } = *self;
        bases.into_iter().take(clusters.into()).flat_map(|base| (0..BLOCKS).map(move |i| base + i * BLOCK))
    }

    /// What the clusters tell each other.
    pub(super) fn board(&self) -> &'static Board {
        // SAFETY: frames of cluster 0's pool, which nobody else uses and every root space has mapped at this address; zero at
        // first, as the emulator gives it, and words of it only are read and written, atomically.
        unsafe { &*with_exposed_provenance::<Board>(self.bases[0] as usize) }
    }
    pub(super) fn board_range(&self) -> Range {
        Range { base: self.bases[0], size: size_of::<Board>().next_multiple_of(4096) as u64 }
    }

    /// What a thread has for itself.
    pub(super) fn own(&self, cluster: u16, owner: Owner) -> Range {
        let base = self.bases[usize::from(cluster)] + BLOCK;
        Range { base: base + owner.index() * OWN, size: OWN }
    }
    /// Its beginning.
    pub(super) fn block(&self, cluster: u16, owner: Owner) -> &'static Block {
        // SAFETY: as for the board.
        unsafe { &*with_exposed_provenance::<Block>(self.own(cluster, owner).base as usize) }
    }
    /// The memory of all children of a cluster: they may be in one space.
    pub(super) fn children(&self, cluster: u16) -> Range {
        let Range { base, .. } = self.own(cluster, Owner::Child(0));
        Range { base, size: OWN * CHILDREN as u64 }
    }
    /// Memory to map to and fro.
    pub(super) fn play(&self, cluster: u16, play: Play) -> Range {
        let index = match play {
            Play::Space(i) => i,
            Play::Children => SPACES,
            Play::Controller => SPACES + 1,
        };
        Range { base: self.bases[usize::from(cluster)] + (3 + index as u64) * BLOCK, size: BLOCK }
    }
}
