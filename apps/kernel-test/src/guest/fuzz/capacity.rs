//! What a cluster's kernel has left: from the information page, and by taking all of it.

use skerry_abi::{SpaceId, ThreadId};
use skerry_rt::{info, sys, utcb};

use super::domains;
use crate::guest::world::Outcome;

/// Spaces at most.
const MAX_SPACES: usize = 1024;
/// UTCB slots per page: a thread in every such slot takes a page each.
const PER_PAGE: u16 = 4;

/// How many objects can be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    tables: u64,
    nodes: u64,
    spaces: usize,
    threads: usize,
    utcb_pages: usize,
}

impl Capacity {
    pub(super) fn measure() -> Outcome<Self> {
        // The information page is as of the last entry by the general path, so after this.
        let spaces = spaces();
        let threads = threads_in_every(1);
        let utcb_pages = threads_in_every(PER_PAGE);
        let header = info::header();
        Ok(Self { tables: header.free_tables, nodes: header.free_nodes, spaces, threads, utcb_pages })
    }
}

impl Capacity {
    /// Whether as much memory is free as then: what can be told without taking all of it.
    pub(super) fn is_free_again(&self) -> bool {
        let header = info::header();
        (header.free_tables, header.free_nodes) == (self.tables, self.nodes)
    }
}

fn spaces() -> usize {
    let mut all = [SpaceId::NIL; MAX_SPACES];
    let mut count = 0;
    while let Some(to) = all.get_mut(count)
        && let Ok(space) = sys::space_create(domains::HOSTILE[0], false)
    {
        *to = space;
        count += 1;
    }
    for &space in &all[..count] {
        let _ = sys::space_destroy(space);
    }
    count
}

/// How many threads can be created in every `step`-th UTCB slot.
fn threads_in_every(step: u16) -> usize {
    let mut all = [SpaceId::NIL; 16];
    let mut count = 0;
    for to in &mut all {
        let Ok(space) = sys::space_create(domains::HOSTILE[0], false) else { break };
        *to = space;
        let create = |slot| sys::thread_create(space, utcb::cpu(), ThreadId::NIL, ThreadId::NIL, slot, 1);
        count += (0..1024).step_by(usize::from(step)).map_while(|slot| create(slot).ok()).count();
    }
    for space in all.into_iter().filter(|&space| space != SpaceId::NIL) {
        let _ = sys::space_destroy(space);
    }
    count
}
