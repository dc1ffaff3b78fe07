//! `replicate-read-mostly[:rate=PER-MILLE]`: pages that several nodes read and nobody writes are copied to every node that reads them. Access flags say who
//! reads and who wrote. What reading a page remotely costs is added up since it was last written; when that is as much as copies would cost, they are made
//! (whoever decides so pays at most twice what a clairvoyant pays). The first write collapses them, and doubles what the page has to cost
//! the next time.

use crate::event::{Fault, Page, Sample, SampleKind};
use crate::nodes::{Node, NodeSet};
use crate::options::{Spec, SpecError};
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::sampler::{Sampler, cycles, weight};
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct ReplicateReadMostly {
    sampler: Sampler,
}

/// Of a page, at its owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Cycles that reading it remotely has cost since it was written.
    regret: u32,
    /// How often copies were made in vain.
    vain: u8,
}

impl ReplicateReadMostly {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["rate"])?;
        Ok(Self { sampler: Sampler::new(spec.number("rate", 10)?.min(500)) })
    }
}

/// What it costs to replicate a page and to make it one again.
pub(super) fn replication(world: &World<'_>, reader: Node, sharers: NodeSet) -> u64 {
    let others = u64::from(sharers.without(world.node).count()).max(1);
    let twice = 2 * (u64::from(world.costs.revoke) + others * u64::from(world.costs.sharer));
    twice + others * (world.copy(world.node, reader) + u64::from(world.costs.fault))
}

impl Policy for ReplicateReadMostly {
    type Record = Record;

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
        fault.node
    }

    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        self.sampler.tick(world, orders);
    }

    fn on_scan(&mut self, world: &World<'_>, written: bool, page: Page<'_, Record>, orders: &mut Orders) {
        let own = page.is_owned_by(world.node);
        let cost = self.sampler.seen(own || page.replicated);
        if own {
            if written {
                page.record.regret = 0;
            }
        } else if !page.replicated && cost > 0 {
            orders.report(page.number, weight(cost), written);
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Record>, orders: &mut Orders) {
        let record = page.record;
        if sample.kind == SampleKind::Collapsed {
            *record = Record { regret: 0, vain: (record.vain + 1).min(16) };
            return;
        }
        if sample.write {
            record.regret = 0;
            return;
        }
        record.regret = record.regret.saturating_add(cycles(sample.weight));
        let price = replication(world, sample.node, page.sharers) << record.vain;
        if !page.replicated && u64::from(record.regret) >= price && world.has_room(sample.node) {
            record.regret = 0;
            orders.give(Order::Replicate { page: page.number }, Cause::ReadMostly);
        }
    }
}
