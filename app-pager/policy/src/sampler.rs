//! Which pages this node uses, from access flags: a part of policies.
//!
//! Every tick the flags of some pages are read and cleared, as many as a small share of the time allows; when all pages have had their turn, a
//! *pass* is over. A flag says that a page was used, not how much. But misses are counted by the hardware, so what those of a pass have
//! cost divided by the pages that were seen is what one such page costs on the average, in cycles: numbers that can be compared with what it costs to
//! do something about it.
//!
//! After a pass of which nothing came there is a pause, twice as long each time.

use crate::order::{Cause, Order, Orders};
use crate::world::World;

/// The scans of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampler {
    /// How much time it takes at most, in 1/1000.
    rate: u32,
    cursor: u64,
    /// What was counted and seen in this pass.
    pass: Pass,
    /// What a remote page that is seen costs per pass, and what a local one would if it were remote.
    remote: u32,
    local: u32,
    /// How many of 16 pages were seen in the last pass.
    share: u32,
    /// Ticks until it goes on, and how long the next pause is.
    rest: u8,
    pause: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pass {
    penalty: u64,
    saved: u64,
    seen_remote: u32,
    seen_local: u32,
    useful: u32,
}

/// The longest pause, in ticks.
const PAUSE: u8 = 64;
/// What a page that was seen costs besides the scan: calls of the policy here and at its owner, and its part of a message.
const SEEN: u32 = 100;

impl Sampler {
    /// That takes at most `rate`/1000 of the time.
    pub const fn new(rate: u32) -> Self {
        let pass = Pass { penalty: 0, saved: 0, seen_remote: 0, seen_local: 0, useful: 0 };
        Self { rate, cursor: 0, pass, remote: 0, local: 0, share: 4, rest: 0, pause: 0 }
    }

    /// Orders the scans of this tick.
    pub fn tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        let feedback = &world.feedback;
        self.pass.penalty += feedback.penalty;
        self.pass.saved += saved(world);
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let first = self.cursor <= world.pages.first;
        // Less than 1/64 of the time can be won: not worth a pass.
        if first && feedback.penalty < feedback.cycles / 64 {
            self.pass = Pass::default();
            return;
        }
        let time = feedback.cycles * u64::from(self.rate) / 1000;
        let each = world.costs.scan + SEEN * self.share / 16;
        let pages = (time / u64::from(each.max(1))).clamp(4, world.pages.pages.max(4));
        let (range, next) = world.pages.turn(self.cursor, pages);
        if range.pages == 0 || !orders.give(Order::Scan { range }, Cause::Sampling) {
            return;
        }
        self.cursor = next;
        if next == world.pages.first + world.pages.pages {
            self.complete(world);
        }
    }

    fn complete(&mut self, world: &World<'_>) {
        let Pass { penalty, saved, seen_remote, seen_local, useful } = core::mem::take(&mut self.pass);
        let each =
            |cycles: u64, pages: u32| u32::try_from(cycles / u64::from(pages.max(1))).unwrap_or(u32::MAX);
        self.remote = each(penalty, seen_remote);
        self.local = each(saved, seen_local);
        self.share = each(u64::from(seen_remote + seen_local) * 16, world.pages.pages as u32).min(16);
        self.cursor = world.pages.first;
        self.pause = if useful > 0 { 0 } else { (self.pause * 2).clamp(1, PAUSE) };
        self.rest = self.pause;
    }

    /// A page was seen. What using it costs per pass: of a remote page, more than if it were local; of a local one, more if it were remote.
    pub fn seen(&mut self, is_local: bool) -> u32 {
        let Pass { seen_remote, seen_local, .. } = &mut self.pass;
        let (seen, cost) = if is_local { (seen_local, self.local) } else { (seen_remote, self.remote) };
        *seen += 1;
        cost
    }

    /// Something came of it.
    pub fn was_useful(&mut self) {
        self.pass.useful += 1;
        (self.pause, self.rest) = (0, 0);
    }
}

/// What the misses of the last epoch that the node's own memory answered would have cost more if their pages were as near as can be elsewhere.
pub fn saved(world: &World<'_>) -> u64 {
    let elsewhere = world.nearest(world.node, |other| other != world.node && world.has_memory(other));
    let farther = elsewhere.map_or(0, |other| world.distance(world.node, other).saturating_sub(10));
    world.feedback.local_wait * farther / 10
}

/// Cycles of a unit of a report's weight: with it, four millions fit.
const UNIT: u32 = 64;

/// Cycles as the weight of a report.
pub fn weight(cycles: u32) -> u16 {
    u16::try_from(cycles / UNIT).unwrap_or(u16::MAX)
}

/// A weight in cycles.
pub const fn cycles(weight: u16) -> u32 {
    weight as u32 * UNIT
}
