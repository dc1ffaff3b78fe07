//! How a cluster tells cluster 0, which alone can say it to the launcher, why it gives up: words in memory that both have.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_rt::Chunk;

use super::world::{Outcome, failed};

/// Nothing as long as it is zero.
#[repr(C)]
pub(super) struct Trouble {
    /// The number of the cluster + 1.
    cluster: AtomicU64,
    text: [AtomicU64; 32],
}

impl Trouble {
    /// A cluster tells cluster 0 why it gives up.
    pub(super) fn tell(&self, cluster: u16, why: &Chunk) {
        if self.cluster.load(Ordering::Acquire) != 0 {
            // It heard of it from another one.
            return;
        }
        for (word, bytes) in self.text.iter().zip(why.as_bytes().chunks(8)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
        self.cluster.store(u64::from(cluster) + 1, Ordering::Release);
    }

    /// Fails if any cluster has.
    pub(super) fn check(&self) -> Outcome {
        let cluster = self.cluster.load(Ordering::Acquire);
        if cluster == 0 {
            return Ok(());
        }
        let mut bytes = [0; 256];
        for (to, word) in bytes.chunks_mut(8).zip(&self.text) {
            to.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let text = core::str::from_utf8(&bytes).unwrap_or("").trim_end_matches('\0');
        failed(format_args!("cluster {}: {text}", cluster - 1))
    }
}
