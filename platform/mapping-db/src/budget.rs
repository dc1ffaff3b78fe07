//! How much an operation may do before interrupts have to be let in.
//!
//! The kernel does not count instructions; it adds up what the parts of an operation are known to take at most. A unit is about
//! ten instructions. Every part asks *before* it begins, so that an operation stops between two parts and never inside one. The first
//! part of a step is always granted: no budget is so small that nothing is done.

/// What is left of a step.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u32,
    fresh: bool,
}

/// An entry or a child that is looked at.
pub(crate) const LOOK: u32 = 5;
/// A piece of a split mapping is looked for.
pub(crate) const GLANCE: u32 = 3;
/// A walk finds nothing at an address.
pub(crate) const HOLE: u32 = 8;
/// So many heads of lists of children, or entries of a table that is to be emptied, are looked at in one go.
pub(crate) const AT_ONCE: usize = 32;
/// What that costs.
pub(crate) const BUCKETS: u32 = 26;
/// What an operation does to a mapping.
pub(crate) const MAPPING: u32 = 36;
/// To a group that goes away or is made, more than that.
pub(crate) const GROUP: u32 = 40;
/// To a group all of whose entries change.
pub(crate) const GROUP_CHANGE: u32 = 160;
/// The entries of a group are read.
pub(crate) const GROUP_LOOK: u32 = 6;
/// A group is split, and it is done to some of its pages.
pub(crate) const GROUP_PARTS: u32 = 220;
/// To a piece of a split one.
pub(crate) const PIECE: u32 = 20;
/// An operation on all that was derived from a mapping begins.
pub(crate) const BEGIN: u32 = 20;
/// The 512 entries of a table are written.
pub(crate) const SPLIT: u32 = 150;
/// The 512 entries of a table are read.
pub(crate) const SCAN: u32 = 130;
/// A table is taken or given back.
pub(crate) const TABLE: u32 = 4;
/// An item finds its place: the entry that it begins in, and the one where it goes, perhaps first as a group.
pub(crate) const STEP: u32 = 25;
/// A mapping is made.
pub(crate) const CREATE: u32 = 30;

impl Budget {
    /// As much as it takes.
    pub const UNLIMITED: Self = Self::new(u32::MAX);

    /// So many units.
    pub const fn new(units: u32) -> Self {
        Self { left: units, fresh: true }
    }
    /// Whether a part that costs so much can be done.
    #[inline]
    pub fn take(&mut self, cost: u32) -> bool {
        if self.left == u32::MAX {
            return true;
        }
        if self.left < cost && !self.fresh {
            self.left = 0;
            return false;
        }
        self.fresh = false;
        self.left = self.left.saturating_sub(cost);
        true
    }
    /// Takes it for what has been done already.
    #[inline]
    pub fn charge(&mut self, cost: u32) {
        self.reduce(cost);
        self.fresh = false;
    }
    /// Takes it for finding the place again where a step stopped: that alone is no progress.
    #[inline]
    pub fn reduce(&mut self, cost: u32) {
        if self.left != u32::MAX {
            self.left = self.left.saturating_sub(cost);
        }
    }
    /// Whether nothing is left for what comes at its own risk, such as looking at one thing more.
    pub(crate) const fn is_used_up(&self) -> bool {
        self.left == 0
    }
    /// Whether nothing more can be done.
    pub const fn is_spent(&self) -> bool {
        self.left == 0 && !self.fresh
    }
}
