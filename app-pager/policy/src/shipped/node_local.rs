//! `node-local`: like first touch, but never from another node: a task that fills its node ends instead of becoming slow without a word. On a node
//! without memory of its own, the nearest memory is its own.

use crate::event::Fault;
use crate::nodes::Node;
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeLocal;

impl Policy for NodeLocal {
    type Record = ();

    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node {
        world.nearest(fault.node, |node| world.has_memory(node)).unwrap_or(fault.node)
    }
    fn is_strict(&self) -> bool {
        true
    }
}
