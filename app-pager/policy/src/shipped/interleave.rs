//! `interleave[:nodes=SET]`: one page after the other on one node after the other, by address, so that all pagers agree without talking. It spreads
//! load over all memory controllers; where bandwidth does not bind it makes most accesses remote.

use crate::event::Fault;
use crate::nodes::{Node, NodeSet};
use crate::options::{Spec, SpecError};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Interleave {
    nodes: NodeSet,
}

impl Interleave {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["nodes"])?;
        Ok(Self { nodes: spec.nodes("nodes")?.unwrap_or(NodeSet(u128::MAX)) })
    }
}

/// The node of a page, of those with memory in a set.
pub(super) fn by_address(world: &World<'_>, nodes: NodeSet, page: u64) -> Option<Node> {
    let nodes = NodeSet(nodes.0 & world.memories().0);
    nodes.nth(page % u64::from(nodes.count().max(1)))
}

impl Policy for Interleave {
    type Record = ();

    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node {
        by_address(world, self.nodes, fault.page).unwrap_or(fault.node)
    }
}
