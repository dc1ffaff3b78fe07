//! Sets of nodes.

/// A set of up to 64 `W` nodes, as it lies in a sharer mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Nodes<const W: usize>(pub [u64; W]);

/// The word of a mask in which a node has its bit, and the bit.
pub const fn place(node: u16) -> (u8, u64) {
    ((node / 64) as u8, 1 << (node % 64))
}

impl<const W: usize> Nodes<W> {
    /// Nobody.
    pub const EMPTY: Self = Self([0; W]);
    /// Everybody.
    pub const FULL: Self = Self([u64::MAX; W]);

    /// Whether `node` is in it.
    #[inline(always)]
    pub fn contains(&self, node: u16) -> bool {
        let (word, bit) = place(node);
        self.0.get(usize::from(word)).is_some_and(|bits| bits & bit != 0)
    }
    /// Without `node`.
    #[must_use]
    #[inline(always)]
    pub fn without(mut self, node: u16) -> Self {
        let (word, bit) = place(node);
        if let Some(bits) = self.0.get_mut(usize::from(word)) {
            *bits &= !bit;
        }
        self
    }
    /// Both together.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(bits, more)| *bits |= more);
        self
    }
    /// The first node that is not below `from`.
    #[inline(always)]
    pub fn next(&self, from: u16) -> Option<u16> {
        let (mut word, mut rest) = (usize::from(from / 64), u64::MAX << (from % 64));
        while word < W {
            let bits = self.0[word] & rest;
            if bits != 0 {
                return Some(word as u16 * 64 + bits.trailing_zeros() as u16);
            }
            (word, rest) = (word + 1, u64::MAX);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn members_in_order() {
        let set = Nodes([1 << 3 | 1 << 63, 1 | 1 << 5]);
        let all = |set: &Nodes<2>| {
            core::iter::successors(set.next(0), |&node| set.next(node + 1)).collect::<Vec<_>>()
        };
        assert_eq!(all(&set), [3, 63, 64, 69]);
        assert_eq!(all(&set.without(63).union(&Nodes([0, 2]))), [3, 64, 65, 69]);
        assert!(set.contains(64) && !set.contains(4) && !set.contains(200));
        assert_eq!(Nodes::<1>::EMPTY.next(0), None);
    }
}
