//! Numbers and sets of nodes.

/// A NUMA node.
pub type Node = u16;

/// How many nodes a machine can have.
pub const MAX_NODES: usize = 128;

/// A set of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NodeSet(pub u128);

impl NodeSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// One node; nobody if there can be no such node.
    pub const fn only(node: Node) -> Self {
        if (node as usize) < MAX_NODES { Self(1 << node) } else { Self(0) }
    }
    /// Whether `node` is in it.
    pub const fn contains(self, node: Node) -> bool {
        self.0 & Self::only(node).0 != 0
    }
    /// With `node`.
    #[must_use]
    pub const fn with(self, node: Node) -> Self {
        Self(self.0 | Self::only(node).0)
    }
    /// Without `node`.
    #[must_use]
    pub const fn without(self, node: Node) -> Self {
        Self(self.0 & !Self::only(node).0)
    }
    /// How many there are.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The members, in order.
    pub fn iter(self) -> impl Iterator<Item = Node> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let node = (rest != 0).then(|| rest.trailing_zeros() as Node)?;
            rest &= rest - 1;
            Some(node)
        })
    }
    /// Member number `index`.
    pub fn nth(self, index: u64) -> Option<Node> {
        self.iter().nth(usize::try_from(index).ok()?)
    }
}

impl FromIterator<Node> for NodeSet {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn members_in_order() {
        let set = NodeSet::only(3).with(127).with(0).with(200);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 127]);
        assert_eq!((set.count(), set.nth(1), set.nth(3)), (3, Some(3), None));
        assert!(!set.without(3).contains(3) && !set.contains(200) && NodeSet::EMPTY.is_empty());
    }
}
