//! `relay`: what app pagers have the root pager tell the unmap workers of other pagers.
//!
//! The third way of unmapping goes through the root pager. With a kernel per node no kernel knows more than its own part of a page's
//! mappings, and a node's word for the page, which guards late answers, has to change before its kernel is asked. So the root pager takes
//! no page away itself: it tells all who have a part in it. The leader asks the root pager's thread on its CPU, that one notifies the first
//! threads of the root pagers of the other clusters, and these the unmap workers there.

use skerry_abi::boot::MAX_CLUSTERS;

use crate::level;
use crate::pager::List;

interface! {
    "relay", id 6, level level::Root;
    /// Sends the unmap workers of these clusters a notification with these bits. Nobody is waited for.
    1 = Tell tell(bits: u64, clusters: Clusters) -> ();
}

/// A set of clusters, a bit each.
pub type Clusters = List<{ MAX_CLUSTERS.div_ceil(64) }>;

/// The clusters of a set.
pub fn members(clusters: &Clusters) -> impl Iterator<Item = u16> + '_ {
    let of_word = |(index, &word): (u16, &u64)| {
        (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| index * 64 + bit)
    };
    (0..).zip(clusters.words()).flat_map(of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_bits() {
        assert!(members(&Clusters::of(&[1 << 63 | 5, 0, 2])).eq([0, 2, 63, 129]));
    }
}
