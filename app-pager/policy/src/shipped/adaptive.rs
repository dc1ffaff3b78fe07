//! `adaptive`, ours: finds out by access flags who uses a page and what that costs, and does something about it when it has cost as much as doing
//! something. One set of parameters for everything.
//!
//! * **What it costs** comes from counted misses ([`Sampler`]), so cycles are compared with cycles, and a page that fits the caches is left alone.
//!   Where less than a hundredth of the time can be won, nothing is looked at.
//! * **When to act.** A page's owner adds up what it has cost others that it lies here, less what it would cost here if it lay there. At the price of
//!   moving it, it moves: renting until the rent has reached the price, which is never worse than twice what a clairvoyant pays. Reads that several
//!   nodes do are added up since the last write; at the price of copies, there are copies. Pages that everybody uses are spread when their node is
//!   overloaded and has more than its share.
//! * **What if that was wrong?** A page that leaves before it has earned its move was moved in vain, and so was a copy that is written soon. The page's price
//!   doubles, and so does, until others do better, the price of all pages at this owner: use that alternates with just the period of the scans
//!   costs a few moves.

use crate::event::{Fault, Page, Reason, Sample, SampleKind};
use crate::nodes::Node;
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::sampler::{Sampler, cycles, weight};
use crate::shipped::interleave::by_address;
use crate::shipped::replicate_read_mostly::replication;
use crate::world::World;

/// Scans take at most this, in 1/1000 of the time.
const RATE: u32 = 8;
/// The most that a page's and everybody's price is doubled.
const VAIN: u8 = 8;
/// Load in percent from which on memory counts as overloaded.
const OVERLOAD: u32 = 130;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    sampler: Sampler,
    /// How little moves have been worth lately: each step doubles the price.
    caution: u8,
    /// Moves that were worth their price since it changed.
    worth: u8,
}

/// Of a page, at its owner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// The node that would gain most, and what it has lost more than all others would.
    lead: u32,
    /// What reading it remotely has cost since it was written.
    reads: u32,
    /// What it has saved by being here.
    earned: u32,
    candidate: Node,
    /// How often it was moved or copied in vain.
    vain: u8,
    /// Whether its frame was taken here when it was touched first.
    placed: bool,
}

impl Record {
    /// What lying here has cost `node`.
    fn vote(&mut self, node: Node, cost: u32) {
        if self.candidate == node {
            self.lead = self.lead.saturating_add(cost);
        } else if cost > self.lead {
            self.candidate = node;
            self.lead = cost - self.lead;
        } else {
            self.lead -= cost;
        }
    }
    fn in_vain(&mut self) {
        self.vain = (self.vain + 1).min(VAIN);
    }
}

/// What one sample counts at most: others are to be heard, too.
fn half(cost: u32, price: u64) -> u32 {
    u32::try_from(price / 2).map_or(cost, |most| cost.min(most.max(1)))
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { sampler: Sampler::new(RATE), caution: 0, worth: 0 }
    }
}

impl Adaptive {
    fn judge(&mut self, worth: bool) {
        match worth {
            false => (self.caution, self.worth) = ((self.caution + 1).min(VAIN), 0),
            true if self.worth < 16 => self.worth += 1,
            true => (self.caution, self.worth) = (self.caution.saturating_sub(1), 0),
        }
    }
    fn price(&self, cost: u64, record: &Record) -> u64 {
        cost << self.caution.max(record.vain)
    }
    /// Sends a page away, and learns from what it was worth to have it.
    fn send(
        &mut self,
        world: &World<'_>,
        page: Page<'_, Record>,
        to: Node,
        cause: Cause,
        orders: &mut Orders,
    ) {
        let record = page.record;
        if !record.placed {
            let worth = u64::from(record.earned) >= world.migration(to, world.node, page.sharers);
            if !worth {
                record.in_vain();
            }
            self.judge(worth);
        }
        *record = Record { vain: record.vain, ..Record::default() };
        orders.migrate(page.number, to, cause);
    }
    /// Whether this node has clearly more of the used frames than others.
    fn has_more_than_its_share(world: &World<'_>) -> bool {
        let used = |node: Node| {
            let at = usize::from(node);
            world.nodes[at].frames - world.free[at].min(world.nodes[at].frames)
        };
        let nodes = world.memories();
        let all: u64 = nodes.iter().map(used).sum();
        used(world.node) * u64::from(nodes.count()) * 2 > all * 3
    }
}

impl Policy for Adaptive {
    type Record = Record;

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
        fault.node
    }

    fn on_fault(&mut self, world: &World<'_>, fault: &Fault, page: Page<'_, Record>, _: &mut Orders) {
        if fault.reason == Reason::Untouched {
            page.record.placed = page.is_owned_by(world.node);
        }
    }

    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        self.sampler.tick(world, orders);
    }

    fn on_scan(&mut self, world: &World<'_>, written: bool, page: Page<'_, Record>, orders: &mut Orders) {
        let own = page.is_owned_by(world.node);
        let cost = self.sampler.seen(own || page.replicated);
        if own {
            page.record.earned = page.record.earned.saturating_add(cost);
            let price = self.price(world.migration(world.node, world.node, page.sharers), page.record);
            page.record.vote(world.node, half(cost, price));
            if written {
                page.record.reads = 0;
            }
        } else if !page.replicated && cost > 0 {
            orders.report(page.number, weight(cost), written);
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Record>, orders: &mut Orders) {
        if sample.kind == SampleKind::Collapsed {
            page.record.in_vain();
            self.judge(false);
            return;
        }
        let record = &mut *page.record;
        let move_price = self.price(world.migration(world.node, sample.node, page.sharers), record);
        let copy_price = self.price(replication(world, sample.node, page.sharers), record);
        let cost = cycles(sample.weight);
        record.vote(sample.node, half(cost, move_price));
        record.reads = if sample.write { 0 } else { record.reads.saturating_add(half(cost, copy_price)) };
        let record = *record;
        if page.replicated || !world.has_room(sample.node) {
            return;
        }
        if record.candidate == sample.node && u64::from(record.lead) >= move_price {
            self.send(world, page, sample.node, Cause::Remote, orders);
            return;
        }
        if u64::from(record.reads) >= copy_price {
            page.record.reads = 0;
            orders.give(Order::Replicate { page: page.number }, Cause::ReadMostly);
            return;
        }
        if sample.load >= OVERLOAD && Self::has_more_than_its_share(world) {
            let to = by_address(world, world.memories(), page.number);
            if let Some(to) = to.filter(|&to| to != world.node && world.has_room(to)) {
                self.send(world, page, to, Cause::Load, orders);
            }
        }
    }
}
