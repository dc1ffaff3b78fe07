//! Which pagers are dead, as far as the root pager has said so, and what was theirs.
//!
//! From the first step of a recovery until its last ([`super::recover`]) nobody here asks a dead pager for anything, and nobody
//! gives frames back to its pool.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use app_pager::roll::Roll;
use skerry_abi::Error;
use skerry_abi::boot::MAX_CLUSTERS;

use super::memory::Physical;
use super::state::Context;

static DEAD: [AtomicU64; MAX_CLUSTERS.div_ceil(64)] =
    [const { AtomicU64::new(0) }; MAX_CLUSTERS.div_ceil(64)];

/// Whether the pager of a cluster is dead.
pub(super) fn is_dead(cluster: u16) -> bool {
    DEAD.get(usize::from(cluster / 64)).is_some_and(|word| word.load(SeqCst) >> (cluster % 64) & 1 != 0)
}

/// It is, or its next life has begun.
pub(super) fn set(context: &Context, cluster: u16, dead: bool) {
    if let Some(word) = DEAD.get(usize::from(cluster / 64)) {
        let bit = 1 << (cluster % 64);
        if dead {
            word.fetch_or(bit, SeqCst)
        } else {
            word.fetch_and(!bit, SeqCst)
        };
    }
    let pools = context.boot.pools().iter().filter(|pool| dead && pool.cluster == cluster);
    for (range, pools) in pools.filter_map(|pool| Some((pool.range, context.pools()?))) {
        pools.close(&Physical, range);
    }
}

/// Whether a frame is one of a dead pager's.
pub(super) fn is_lost(context: &Context, frame: u64) -> bool {
    let pool = context.boot.pools().iter().find(|pool| pool.range.contains(frame));
    pool.is_some_and(|pool| is_dead(pool.cluster))
}

/// Whether a task ends because of a pager that died: nobody does anything for its threads any more.
pub(super) fn is_doomed(roll: &Roll<'_>) -> bool {
    roll.is_lost()
}

/// Whoever is about to do something for the threads of a task asks this first, and is through with it before it next waits
/// for a message; so does who waits for a [grace](super::grace) period after the mark know that nobody does any more.
pub(super) fn refuse_doomed(roll: &Roll<'_>) -> Result<(), Error> {
    if is_doomed(roll) { Err(Error::NodeDown) } else { Ok(()) }
}
