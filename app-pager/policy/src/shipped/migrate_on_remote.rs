//! `migrate-on-remote[:rate=PER-MILLE]`: hinting faults and two references, as Linux's automatic NUMA balancing. Mappings are taken away a few at a
//! time, round and round; who faults on one tells the owner. A page that the same other node reports twice in a row moves there.

use crate::event::{Access, Fault, Page, Reason, Sample};
use crate::nodes::Node;
use crate::options::{Spec, SpecError};
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct MigrateOnRemote {
    rate: u32,
    cursor: u64,
}

/// Of a page, at its owner: who used it last, plus one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    last: u16,
}

impl MigrateOnRemote {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["rate"])?;
        Ok(Self { rate: spec.number("rate", 20)?.min(500), cursor: 0 })
    }
}

impl Policy for MigrateOnRemote {
    type Record = Record;

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
        fault.node
    }

    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        let time = world.feedback.cycles * u64::from(self.rate) / 1000;
        let each = u64::from(world.costs.arm + world.costs.fault);
        let (range, next) = world.pages.turn(self.cursor, (time / each.max(1)).max(1));
        if range.pages > 0 && orders.give(Order::Arm { range }, Cause::Sampling) {
            self.cursor = next;
        }
    }

    fn on_fault(&mut self, world: &World<'_>, fault: &Fault, page: Page<'_, Record>, orders: &mut Orders) {
        match fault.reason {
            Reason::Trap if page.is_owned_by(world.node) => page.record.last = world.node + 1,
            Reason::Trap => {
                orders.report(page.number, 1, fault.access == Access::Write);
            }
            Reason::Untouched | Reason::Unmapped | Reason::Collapsed => {}
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Record>, orders: &mut Orders) {
        let before = core::mem::replace(&mut page.record.last, sample.node + 1);
        let again = before == sample.node + 1;
        if again && sample.node != world.node && world.has_room(sample.node) {
            page.record.last = 0;
            orders.migrate(page.number, sample.node, Cause::Remote);
        }
    }
}
