//! `first-touch`: a page lies on the node of the thread that touches it first. What Linux does, and what everything is compared with.

use crate::event::Fault;
use crate::nodes::Node;
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstTouch;

impl Policy for FirstTouch {
    type Record = ();

    fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
        fault.node
    }
}
