//! `weighted-interleave[:nodes=SET]`: interleaving in proportion to the bandwidth of the nodes' memory, so that none of unequal controllers is the first
//! to be full.

use crate::event::Fault;
use crate::nodes::{Node, NodeSet};
use crate::options::{Spec, SpecError};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct WeightedInterleave {
    nodes: NodeSet,
}

/// Pages after which the pattern is the same again; as finely as shares of bandwidth are told apart.
const TURN: u64 = 64;

impl WeightedInterleave {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["nodes"])?;
        Ok(Self { nodes: spec.nodes("nodes")?.unwrap_or(NodeSet(u128::MAX)) })
    }
}

impl Policy for WeightedInterleave {
    type Record = ();

    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node {
        let width = |node: Node| u64::from(world.nodes[usize::from(node)].bandwidth.max(1));
        let nodes = NodeSet(self.nodes.0 & world.memories().0);
        let total: u64 = nodes.iter().map(width).sum();
        // Neighbours are to lie apart: a stride that has no divisor in common with the turn.
        let place = (fault.page.wrapping_mul(27) % TURN) * total / TURN;
        let mut end = 0;
        let mut ends = nodes.iter().map(|node| {
            end += width(node);
            (node, end)
        });
        ends.find(|&(_, end)| place < end).map_or(fault.node, |(node, _)| node)
    }
}
