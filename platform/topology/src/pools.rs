//! Who hands out which frames: every free page to exactly one cluster's pager.

use heapless::Vec;
use skerry_abi::boot::{MAX_RANGES, PoolRange, Range};
use skerry_abi::fpage::PAGE_SIZE;

use crate::{Clusters, Error, FreeRanges, Topology};

/// Cuts between the shares of one node are moved to multiples of this where that is by a quarter of a share at most,
/// so that pagers can map large pages right up to them.
const GRAIN: u64 = 2 << 20;

/// The pools, sorted by address.
pub type Pools = Vec<PoolRange, MAX_RANGES>;

/// Deals out all that is free. The memory of a node is split evenly among the clusters it serves (see
/// [`Clusters::serving`]), in order of address, in as few pieces as its holes allow.
///
/// # Errors
/// [`Error::NoPool`] if a cluster would get nothing, [`Error::TooMany`] if there are too many pieces.
pub fn pools(topology: &Topology, clusters: &Clusters, free: &FreeRanges) -> Result<Pools, Error> {
    let mut pools = Pools::new();
    for node in (0..topology.node_count).filter(|&node| topology.ram_of(node) != 0) {
        let serving = clusters.serving(topology, node);
        let total = free.free_of(node) / PAGE_SIZE;
        // A cluster that only inherits the node of others has its pool elsewhere.
        let depend_on_it = serving.iter().any(|&cluster| clusters.list()[cluster].memory_node == node);
        if depend_on_it && total < serving.len() as u64 {
            return Err(Error::NoPool { cluster: serving[total as usize], node });
        }

        let mut takers = serving.iter().enumerate();
        let (mut taker, mut due, mut taken) = (0, 0, 0);
        let share = total / serving.len() as u64;
        for free in free.iter().filter(|free| free.node == node) {
            let mut rest = free.range;
            while rest.size != 0 {
                if due == 0 {
                    let Some((index, &cluster)) = takers.next() else { break };
                    taker = cluster;
                    // Counted from the start, so that moved cuts do not add up.
                    due = total * (index as u64 + 1) / serving.len() as u64 - taken;
                }
                let pages = cut(rest, due, share / 4);
                let piece = Range { base: rest.base, size: pages * PAGE_SIZE };
                rest = Range { base: piece.end(), size: rest.size - piece.size };
                taken += pages;
                // A cut that was moved ends the share, wherever it came to lie.
                due = if rest.size != 0 { 0 } else { due.saturating_sub(pages) };
                let pool = PoolRange { range: piece, node: node as u16, cluster: taker as u16, reserved: 0 };
                pools
                    .push(pool)
                    .map_err(|_| Error::TooMany { what: "pieces of pools", limit: MAX_RANGES })?;
            }
        }
    }
    pools.sort_unstable_by_key(|pool| pool.range.base);
    Ok(pools)
}

/// How many pages to take from the start of `range` for a taker that is due `due` pages (at least one), which may become
/// `tolerance` pages more or less.
fn cut(range: Range, due: u64, tolerance: u64) -> u64 {
    let available = range.size / PAGE_SIZE;
    if available <= due {
        return available;
    }
    let exact = range.base + due * PAGE_SIZE;
    let rounded = (exact + GRAIN / 2) / GRAIN * GRAIN;
    let inside = range.base < rounded && rounded < range.end();
    let near = rounded.abs_diff(exact) <= tolerance * PAGE_SIZE;
    if inside && near { (rounded - range.base) / PAGE_SIZE } else { due }
}
