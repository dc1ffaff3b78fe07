//! On which node a fresh frame is taken.

use crate::pool::Pools;

/// The placement policy of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Placement {
    /// The node of the CPU that faulted.
    #[default]
    FirstTouch,
    /// Always node 0: the baseline that knows nothing of nodes.
    Node0,
}

impl Placement {
    /// The node the policy wants for a fault on `node`.
    pub const fn choose(self, node: u16) -> u16 {
        match self {
            Self::FirstTouch => node,
            Self::Node0 => 0,
        }
    }
}

/// The node nearest to `node` that this cluster has frames for (`distance` is that *from* `node`); `None` if it has no frames.
pub fn home(pools: &Pools, node: u16, nodes: u16, distance: impl Fn(u16) -> u8) -> Option<u16> {
    if pools.serves(node) {
        return Some(node);
    }
    (0..nodes).filter(|&other| pools.serves(other)).min_by_key(|&other| (distance(other), other))
}
