//! `adaptive`, ours: finds out who uses a page and what that costs, and does something about it when that is worth its price. One set of
//! parameters for everything.
//!
//! * **Pull.** Every node has page tables of its own, so a node that begins to use a page faults, and knows who else maps it. If only its owner does, the
//!   page is *pulled* over at once, on credit: a few pages, more when the node's pages then soon save
//!   the price, fewer when not. Arrays that one thread has filled, and threads that move, are put right in their first round.
//! * **Move.** For pages that are in use already, access flags and counted misses say what they cost ([`Sampler`]). A page's owner adds up what
//!   it has cost others that the page lies here, less what it would cost here if it lay there, and lets it go to whom it costs most when that has reached
//!   the price: renting until the rent has reached the price, which is never worse than twice what a clairvoyant pays.
//! * **Copy.** The same for reads since the last write, by all others together, and the price of copies.
//! * **Spread.** Pages that everybody uses go to all nodes in turn if memory here is overloaded and has more than its share of them.
//! * **What if that was wrong?** A page that leaves before it has earned its move was moved in vain, and so were copies that are written sooner than it took to
//!   decide for them. The page's price doubles, and so does, until others do better, the price of all pages at this owner.

use crate::event::{Access, Fault, Page, Reason, Sample, SampleKind};
use crate::nodes::{Node, NodeSet};
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::sampler::{Sampler, saved, weight};
use crate::shipped::interleave::by_address;
use crate::shipped::replicate_read_mostly::replication;
use crate::world::World;

/// Scans take at most this, in 1/1000 of the time.
const RATE: u32 = 10;
/// The most that a page's and everybody's price is doubled.
const VAIN: u8 = 6;
/// Load in percent from which on memory counts as overloaded.
const OVERLOAD: u32 = 130;
/// One in so many pages is pulled on trust, and for one in so many there is at most room in the account.
const TRUST: u64 = 16;
const LIMIT: u64 = 2;
/// Ticks after which one more page is trusted.
const PATIENCE: u64 = 16;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    sampler: Sampler,
    moves: Caution,
    copies: Caution,
    pulls: Pulls,
    savings: Savings,
    /// Counts ticks.
    ticks: u16,
}

/// How little something has been worth lately.
#[derive(Clone, Copy, Debug, Default)]
struct Caution {
    /// Each step doubles the price.
    level: u8,
    /// What was worth its price since the level changed.
    worth: u8,
}

impl Caution {
    fn learn(&mut self, worth: bool) {
        match worth {
            false => *self = Self { level: (self.level + 1).min(VAIN), worth: 0 },
            true if self.worth < 4 => self.worth += 1,
            true => *self = Self { level: self.level.saturating_sub(1), worth: 0 },
        }
    }
}

/// What pages of this node have saved by being here, on the average, since the beginning, in cycles.
#[derive(Clone, Copy, Debug, Default)]
struct Savings {
    total: u64,
}

impl Savings {
    /// A tick: every local miss would have been a remote one.
    fn tick(&mut self, world: &World<'_>, pages: u64) {
        self.total += saved(world) / pages;
    }
    /// As it is remembered of a page.
    const fn mark(self) -> u16 {
        (self.total / 1024) as u16
    }
    /// What was saved since.
    fn since(self, mark: u16) -> u64 {
        u64::from(self.mark().wrapping_sub(mark)) * 1024
    }
}

fn elsewhere(world: &World<'_>) -> Option<Node> {
    world.nearest(world.node, |other| other != world.node && world.has_memory(other))
}

/// Pages that this node pulls over when it begins to use them, and the account that they are paid from.
#[derive(Clone, Copy, Debug, Default)]
struct Pulls {
    /// Cycles that may be spent; `None` before the first page.
    account: Option<u64>,
    /// Pages that were pulled and are still here.
    held: u64,
}

impl Pulls {
    fn price(world: &World<'_>) -> u64 {
        elsewhere(world).map_or(0, |other| world.migration(other, world.node, NodeSet::EMPTY)).max(1)
    }
    /// Whether a page can be paid; takes it.
    fn take(&mut self, world: &World<'_>) -> bool {
        let price = Self::price(world);
        let account = self.account.get_or_insert((world.pages.pages / TRUST).max(16) * price);
        let left = account.checked_sub(price);
        *account = left.unwrap_or(*account);
        self.held += u64::from(left.is_some());
        left.is_some()
    }
    /// A tick: what pulled pages have saved is theirs, as far as they are part of this node's pages.
    fn tick(&mut self, world: &World<'_>, pages: u64) {
        let most = (world.pages.pages / LIMIT).max(16) * Self::price(world);
        let saved = saved(world) * self.held.min(pages) / pages;
        self.account =
            self.account.map(|account| (account + saved + Self::price(world) / PATIENCE).min(most));
    }
}

/// Of a page, at its owner. Times are in cycles / 64, as in reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// What the node that would gain most has lost more than all others would.
    lead: u16,
    /// What all have lost, and would.
    used: u16,
    /// What reading it remotely has cost since it was written.
    reads: u16,
    /// The savings when it came here.
    mark: u16,
    /// Since which tick `reads` is added up, or there are copies.
    since: u16,
    /// Ticks that it took to decide for copies.
    decided: u16,
    candidate: u8,
    /// How often it was moved or copied in vain, and above that whether it came from elsewhere.
    state: u8,
}

impl Record {
    const ACQUIRED: u8 = 0x80;
    const PULLED: u8 = 0x40;

    fn vain(&self) -> u8 {
        self.state & !(Self::ACQUIRED | Self::PULLED)
    }
    fn in_vain(&mut self) {
        self.state = self.state & !0x3f | (self.vain() + 1).min(VAIN);
    }
    fn was_worth(&mut self) {
        self.state = self.state & !0x3f | self.vain().saturating_sub(1);
    }
    fn is_pulled(&self) -> bool {
        self.state & Self::PULLED != 0
    }
    fn is_acquired(&self) -> bool {
        self.state & Self::ACQUIRED != 0
    }
    /// What lying here has cost `node`.
    fn vote(&mut self, node: Node, cost: u16) {
        self.used = self.used.saturating_add(cost);
        if self.candidate == node as u8 {
            self.lead = self.lead.saturating_add(cost);
        } else if cost > self.lead {
            self.candidate = node as u8;
            self.lead = cost - self.lead;
        } else {
            self.lead -= cost;
        }
        if self.used == u16::MAX {
            (self.used, self.lead) = (self.used / 2, self.lead / 2);
        }
    }
    /// It leaves; what is remembered until it comes back.
    fn leave(&mut self) {
        *self = Self { state: self.vain(), ..Self::default() };
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        let (moves, copies, pulls, savings) = Default::default();
        Self { sampler: Sampler::new(RATE), moves, copies, pulls, savings, ticks: 0 }
    }
}

/// A price as weights are, so that two samples reach it at the earliest: others are to be heard, too.
fn price(cycles: u64, doubled: u8) -> u16 {
    u16::try_from((cycles << doubled) / 64).unwrap_or(u16::MAX)
}

impl Adaptive {
    /// Sends a page away, and learns from what it was worth to have it.
    fn send(
        &mut self,
        world: &World<'_>,
        page: Page<'_, Record>,
        to: Node,
        cause: Cause,
        orders: &mut Orders,
    ) {
        if page.record.is_acquired() {
            let price = world.migration(to, world.node, NodeSet::EMPTY);
            let worth = self.savings.since(page.record.mark) >= price;
            if !worth {
                page.record.in_vain();
            }
            self.moves.learn(worth);
        }
        if page.record.is_pulled() {
            self.pulls.held = self.pulls.held.saturating_sub(1);
            if self.savings.since(page.record.mark) * 2 < Pulls::price(world) {
                page.record.in_vain();
            } else {
                page.record.was_worth();
            }
        }
        page.record.leave();
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

    fn on_fault(&mut self, world: &World<'_>, fault: &Fault, page: Page<'_, Record>, orders: &mut Orders) {
        if fault.reason == Reason::Untouched && page.is_owned_by(world.node) {
            *page.record = Record::default();
        } else if !page.is_owned_by(world.node) {
            let alone = page.sharers.without(page.home).without(world.node).is_empty();
            if fault.reason == Reason::Unmapped
                && alone
                && !page.replicated
                && page.record.vain() < 2
                && self.pulls.take(world)
            {
                page.record.state = page.record.vain() | Record::PULLED;
                page.record.mark = self.savings.mark();
                let write = fault.access == Access::Write;
                orders.give(
                    Order::Report { page: page.number, weight: 0, write, urgent: true },
                    Cause::NextTouch,
                );
            }
        }
    }

    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        self.ticks = self.ticks.wrapping_add(1);
        let at = usize::from(world.node);
        let pages = world.nodes[at].frames.saturating_sub(world.free[at]).max(1);
        self.savings.tick(world, pages);
        self.pulls.tick(world, pages);
        self.sampler.tick(world, orders);
    }

    fn on_scan(&mut self, world: &World<'_>, written: bool, page: Page<'_, Record>, orders: &mut Orders) {
        let own = page.is_owned_by(world.node);
        let cost = weight(self.sampler.seen(own || page.replicated));
        let record = page.record;
        if own {
            // (Only an owner adds up what a page is used.)
            if record.state & !0x3f != 0 && record.used == 0 {
                self.sampler.was_useful();
            }
            record.vote(world.node, cost);
            if written {
                (record.reads, record.since) = (0, self.ticks);
            }
        } else if page.replicated {
            if record.decided == 0 {
                self.sampler.was_useful();
            }
            record.decided = 1;
        } else {
            (record.decided, record.mark) = (0, self.savings.mark());
            record.state = record.vain() | Record::ACQUIRED;
            if cost > 0 {
                orders.report(page.number, cost, written);
            }
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Record>, orders: &mut Orders) {
        let record = &mut *page.record;
        let doubled = self.moves.level.max(record.vain());
        match sample.kind {
            SampleKind::Collapsed => {
                let worth = self.ticks.wrapping_sub(record.since) >= record.decided;
                if !worth {
                    record.in_vain();
                }
                self.copies.learn(worth);
                (record.reads, record.since) = (0, self.ticks);
                return;
            }
            SampleKind::Urgent => {
                if world.has_room(sample.node) {
                    self.send(world, page, sample.node, Cause::NextTouch, orders);
                }
                return;
            }
            SampleKind::Batched => {}
        }
        let move_price = price(world.migration(world.node, sample.node, page.sharers), doubled);
        let doubled = self.copies.level.max(record.vain());
        let copy_price = price(replication(world, sample.node, page.sharers), doubled);
        let cost = sample.weight;
        record.vote(sample.node, cost.min(move_price / 2));
        if sample.write || record.reads == 0 {
            (record.reads, record.since) = (0, self.ticks);
        }
        if !sample.write {
            record.reads = record.reads.saturating_add(cost.min(copy_price / 2));
        }
        if page.replicated || !world.has_room(sample.node) {
            return;
        }
        let Record { candidate, lead, used, reads, since, .. } = *record;
        if Node::from(candidate) == sample.node && lead >= move_price && lead >= used / 2 {
            self.send(world, page, sample.node, Cause::Remote, orders);
        } else if reads >= copy_price {
            let decided = self.ticks.wrapping_sub(since).max(1);
            *record = Record { reads: 0, since: self.ticks, decided, lead: 0, used: 0, ..*record };
            orders.give(Order::Replicate { page: page.number }, Cause::ReadMostly);
        } else if sample.load >= OVERLOAD && Self::has_more_than_its_share(world) {
            let to = by_address(world, world.memories(), page.number);
            if let Some(to) = to.filter(|&to| to != world.node && world.has_room(to)) {
                self.send(world, page, to, Cause::Load, orders);
            }
        }
    }
}
