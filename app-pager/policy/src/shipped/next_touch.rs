//! `next-touch`: a page that one node has touched first moves once, to the next node that touches it. It repairs arrays that one thread has initialised and
//! all threads use, in the first phase of use.
//!
//! Since every node has page tables of its own, the next node's first touch is a fault anyway: nothing has to be armed for it. Only what is
//! advised later ([`Advice::NextTouch`]) needs traps.

use crate::event::{Advice, Fault, Page, Range, Reason, Sample, SampleKind};
use crate::nodes::Node;
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct NextTouch {
    /// Counts advice: records of an earlier one are old.
    round: u16,
}

/// Of a page: the round in which it has had its touch, plus one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    settled: u16,
}

impl Policy for NextTouch {
    type Record = Record;

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
        fault.node
    }

    fn on_fault(&mut self, world: &World<'_>, fault: &Fault, page: Page<'_, Record>, orders: &mut Orders) {
        let settled = page.record.settled == self.round + 1;
        if fault.reason == Reason::Untouched && self.round == 0 || settled {
            return;
        }
        page.record.settled = self.round + 1;
        if !page.is_owned_by(world.node) {
            let order = Order::Report {
                page: page.number,
                weight: 1,
                write: fault.access == crate::event::Access::Write,
                urgent: true,
            };
            orders.give(order, Cause::NextTouch);
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Record>, orders: &mut Orders) {
        // The new owner knows of its touch already; whoever comes later finds the page settled there.
        let settled = page.record.settled == self.round + 1;
        if sample.kind != SampleKind::Urgent || settled || !world.has_room(sample.node) {
            return;
        }
        page.record.settled = self.round + 1;
        orders.migrate(page.number, sample.node, Cause::NextTouch);
    }

    fn on_advise(&mut self, world: &World<'_>, range: Range, advice: Advice, orders: &mut Orders) {
        if advice == Advice::NextTouch && world.pages.covers(range) {
            self.round = (self.round + 1) % (u16::MAX - 1);
            orders.give(Order::Arm { range }, Cause::Advice);
        }
    }
}
