//! `af-scan[:rate=PER-MILLE][:votes=N]`: who uses a page, without hinting faults. Every node has page tables of its own, so their access flags say which *node* used
//! a page; read round and round they are a matrix of affinity. The owner of a page needs one line of it, and keeps of that what a majority vote needs: a
//! candidate and its lead. With a lead of `votes` the page moves.
//!
//! Compared with `migrate-on-remote`: reading a flag costs a twentieth of taking a mapping away and answering the fault, so the same share of the time sees
//! many more pages; but a flag is one bit per pass, whether the page was used once or a thousand times.

use crate::event::{Page, Sample};
use crate::nodes::Node;
use crate::options::{Spec, SpecError};
use crate::order::{Cause, Orders};
use crate::policy::Policy;
use crate::sampler::Sampler;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct AfScan {
    sampler: Sampler,
    votes: u16,
}

/// Of a page, at its owner: the candidate and its lead.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vote {
    node: Node,
    lead: u16,
}

impl Vote {
    fn cast(&mut self, node: Node, most: u16) {
        if self.lead == 0 {
            self.node = node;
        }
        self.lead = if self.node == node { (self.lead + 1).min(most) } else { self.lead - 1 };
    }
}

impl AfScan {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["rate", "votes"])?;
        let votes = spec.number("votes", 3)?.clamp(1, 1000) as u16;
        Ok(Self { sampler: Sampler::new(spec.number("rate", 10)?.min(500)), votes })
    }
}

impl Policy for AfScan {
    type Record = Vote;

    fn place(&mut self, _: &World<'_>, fault: &crate::event::Fault) -> Node {
        fault.node
    }

    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        self.sampler.tick(world, orders);
    }

    fn on_scan(&mut self, world: &World<'_>, written: bool, page: Page<'_, Vote>, orders: &mut Orders) {
        let own = page.is_owned_by(world.node);
        self.sampler.seen(own);
        if own {
            page.record.cast(world.node, self.votes);
        } else {
            orders.report(page.number, 1, written);
        }
    }

    fn on_sample(&mut self, world: &World<'_>, sample: &Sample, page: Page<'_, Vote>, orders: &mut Orders) {
        page.record.cast(sample.node, self.votes);
        let Vote { node, lead } = *page.record;
        if node != world.node && lead >= self.votes && world.has_room(node) {
            *page.record = Vote::default();
            orders.migrate(page.number, node, Cause::Remote);
        }
    }
}
