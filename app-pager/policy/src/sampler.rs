//! Which pages this node uses, from access flags: a part of policies.
//!
//! Every tick the flags of some pages are read and cleared, as many as a small share of the time allows; when all pages have had their turn, a
//! *pass* is over. A flag says that a page was used, not how much. But the misses of a pass are counted by the hardware, so their
//! cost divided by the pages that were seen is what one such page costs on the average, in cycles: numbers that can be compared with what it costs to
//! do something about it.

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
    /// Ticks to pass before it looks again, when there is nothing to gain.
    rest: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pass {
    penalty: u64,
    local: u64,
    seen_remote: u32,
    seen_local: u32,
}

/// Ticks between two looks when there is nothing to gain.
const REST: u8 = 8;

impl Sampler {
    /// That takes at most `rate`/1000 of the time.
    pub const fn new(rate: u32) -> Self {
        let pass = Pass { penalty: 0, local: 0, seen_remote: 0, seen_local: 0 };
        Self { rate, cursor: 0, pass, remote: 0, local: 0, rest: 0 }
    }

    /// Orders the scans of this tick.
    pub fn tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        let feedback = &world.feedback;
        self.pass.penalty += feedback.penalty;
        self.pass.local += feedback.local;
        // Less than 1/128 of the time can be won: not worth a look.
        if feedback.penalty < feedback.cycles / 128 {
            if self.rest > 0 {
                self.rest -= 1;
                return;
            }
            self.rest = REST;
        }
        let time = feedback.cycles * u64::from(self.rate) / 1000;
        let pages = (time / u64::from(world.costs.scan.max(1))).clamp(8, world.pages.pages.max(8));
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
        let Pass { penalty, local, seen_remote, seen_local } = core::mem::take(&mut self.pass);
        let each =
            |cycles: u64, pages: u32| u32::try_from(cycles / u64::from(pages.max(1))).unwrap_or(u32::MAX);
        self.remote = each(penalty, seen_remote);
        let elsewhere = world.nearest(world.node, |other| other != world.node && world.has_memory(other));
        let away = elsewhere.map_or(0, |other| world.penalty(world.node, other));
        self.local = each(local * away, seen_local);
    }

    /// A page was seen. What using it costs per pass: of a remote page, more than if it were local; of a local one, more if it were remote.
    pub fn seen(&mut self, is_local: bool) -> u32 {
        let Pass { seen_remote, seen_local, .. } = &mut self.pass;
        let (seen, cost) = if is_local { (seen_local, self.local) } else { (seen_remote, self.remote) };
        *seen += 1;
        cost
    }
}

/// Cycles as the weight of a report: in units of 16, so that a million of them fits.
pub fn weight(cycles: u32) -> u16 {
    u16::try_from(cycles / 16).unwrap_or(u16::MAX)
}

/// A weight in cycles.
pub const fn cycles(weight: u16) -> u32 {
    weight as u32 * 16
}
