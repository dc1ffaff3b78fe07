//! What the owner of a frame knows about it: for which page it was taken, and who has it in hand.
//!
//! One word per frame, in the memory of the frame's own node. *In hand* is whoever took the frame and has not published it, or took it
//! out of the table and has not freed it. If that pager dies, the frame is in no table and in no pool: only the record
//! tells that it is nobody's. While a frame is in the table, the record names whoever had it in hand last, which does not matter.
//!
//! Where the table is reached by messages ([`crate::remote`]) and its pager dies, nobody can tell whoever asked it to publish a frame, or to take it
//! out, whether it did. Such a frame is *left* to the dead: if it is in no table when all tables of the dead are gone, it is free, as
//! those are that the dead had in hand.
//!
//! Bit 0 taken, 1 left, 6..16 the pager's node, 16..28 its incarnation (0 of those left), 28..64 the page's number. Zero: in its pool.

use crate::effect::Me;

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Record(pub u64);

impl Record {
    /// The frame is in its pool.
    pub const FREE: Self = Self(0);

    /// The frame was taken for a page, and this pager has it in hand.
    pub const fn taken(page: u64, by: Me) -> Self {
        let by = (by.incarnation as u64 & 0xfff) << 16 | (by.node as u64 & 0x3ff) << 6;
        Self(page << 28 | by | 1)
    }
    /// The same for the page behind it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1 << 28))
    }
    /// The same frame left to the pager of a node that died.
    #[must_use]
    pub const fn left(self, to: u16) -> Self {
        let page = Self(self.0 & !((1 << 28) - 1));
        Self(page.0 | (to as u64 & 0x3ff) << 6 | 3)
    }
    /// Whether it was left to this node's pager.
    pub const fn is_left(self, to: u16) -> bool {
        self.0 & ((1 << 28) - 1) == Self(0).left(to).0
    }
    /// The page; nobody's if the frame is in its pool.
    pub const fn page(self) -> u64 {
        self.0 >> 28
    }
    /// Who had it in hand last; nobody if it was left.
    pub fn by(self) -> Option<Me> {
        let by = Me { node: (self.0 >> 6 & 0x3ff) as u16, incarnation: (self.0 >> 16 & 0xfff) as u16 };
        (self.0 & 3 == 1).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_name_page_and_pager() {
        let me = Me { node: 1023, incarnation: 4095 };
        let record = Record::taken(0xf_ffff_ffff, me);
        assert_eq!((record.page(), record.by()), (0xf_ffff_ffff, Some(me)));
        assert_eq!(
            Record::taken(5, Me { node: 0, incarnation: 0 }).by(),
            Some(Me { node: 0, incarnation: 0 })
        );
        assert_eq!(Record::FREE.by(), None);
        let left = record.left(7);
        assert_eq!((left.page(), left.by()), (record.page(), None));
        assert_eq!([left.is_left(7), left.is_left(6), record.is_left(1023)], [true, false, false]);
    }
}
