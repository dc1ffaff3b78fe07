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

impl Placement {
    /// Whether a fresh frame may come from another node if the chosen one has none.
    pub const fn falls_back(self) -> bool {
        matches!(self, Self::FirstTouch)
    }
}

/// The other nodes, the nearest first (`distance` is that *from* `node`).
pub fn others(node: u16, nodes: u16, distance: impl Fn(u16) -> u8) -> impl Iterator<Item = u16> {
    let next = move |last: Option<(u8, u16)>| {
        let places = (0..nodes).filter(|&other| other != node).map(|other| (distance(other), other));
        places.filter(|&place| last.is_none_or(|last| place > last)).min()
    };
    let mut last = None;
    core::iter::from_fn(move || {
        last = Some(next(last)?);
        last.map(|(_, other)| other)
    })
}

/// The node nearest to `node` that this cluster has frames for (`distance` is that *from* `node`); `None` if it has no frames.
pub fn home(pools: &Pools, node: u16, nodes: u16, distance: impl Fn(u16) -> u8) -> Option<u16> {
    if pools.serves(node) {
        return Some(node);
    }
    (0..nodes).filter(|&other| pools.serves(other)).min_by_key(|&other| (distance(other), other))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn near_nodes_come_first() {
        let distance = |other: u16| [20, 10, 30, 20, 15][usize::from(other)];
        assert_eq!(others(1, 5, distance).collect::<Vec<_>>(), [4, 0, 3, 2]);
        assert_eq!(others(0, 1, distance).count(), 0);
    }
}
