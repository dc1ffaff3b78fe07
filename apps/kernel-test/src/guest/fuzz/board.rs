//! What the clusters tell each other, in memory that hostile threads can read.

use core::sync::atomic::{AtomicU64, Ordering};

use super::areas::{CHILDREN, CLUSTERS, HOSTILE, SPACES};
use crate::guest::trouble::Trouble;

/// A word that several CPUs use.
#[repr(transparent)]
pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    pub(super) fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::AcqRel);
    }
}

/// Names of threads that are gone.
pub(super) const STALE: usize = 16;

/// A cluster's part: one writer each.
#[repr(C)]
pub(super) struct Cluster {
    pub(super) boss: Word,
    /// Hostile threads, the controller, and its children.
    pub(super) threads: [Word; HOSTILE.len() + 1 + CHILDREN],
    pub(super) stale: [Word; STALE],
    /// The witness that asks, and the one that answers.
    pub(super) witness: [Word; 2],
    /// Spaces for children, to which other controllers may send theirs.
    pub(super) spaces: [Word; SPACES],
    /// Random calls made so far, those of the controller included.
    pub(super) calls: Word,
    /// They are enough.
    pub(super) enough: Word,
    /// Rounds of the witness.
    pub(super) rounds: Word,
    /// The witness has ended.
    pub(super) witnessed: Word,
    /// Calls of the controller.
    pub(super) controls: Word,
    /// The controller has given everything back.
    pub(super) controlled: Word,
    /// Threads and spaces that the boss has replaced.
    pub(super) replaced: Word,
    pub(super) respaced: Word,
}

/// The board.
#[repr(C)]
pub(super) struct Board {
    /// Clusters that are up, whose hostile tasks are gone, and whose memory is complete again.
    pub(super) ready: Word,
    pub(super) gone: Word,
    pub(super) same: Word,
    /// No more calls.
    pub(super) stop: Word,
    pub(super) trouble: Trouble,
    clusters: [Cluster; CLUSTERS],
}

impl Board {
    pub(super) fn cluster(&self, cluster: u16) -> &Cluster {
        &self.clusters[usize::from(cluster) % CLUSTERS]
    }
}
