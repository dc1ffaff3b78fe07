//! `bind:nodes=SET`: only there, the nearest of these nodes first, as `numactl --membind`. When they are full the task ends.

use crate::event::Fault;
use crate::nodes::{Node, NodeSet};
use crate::options::{Spec, SpecError};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Bind {
    nodes: NodeSet,
}

impl Bind {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["nodes"])?;
        Ok(Self { nodes: spec.nodes("nodes")?.ok_or(SpecError::Missing("nodes"))? })
    }
}

impl Policy for Bind {
    type Record = ();

    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node {
        let free = world.nearest(fault.node, |node| self.nodes.contains(node) && world.has_free(node));
        // If all are full, any of them: without a frame there.
        let any = || world.nearest(fault.node, |node| self.nodes.contains(node) && world.has_memory(node));
        // If none of them exists this is a mistake, and contained as one.
        free.or_else(any).or_else(|| self.nodes.nth(0)).unwrap_or(fault.node)
    }
    fn is_strict(&self) -> bool {
        true
    }
}
