//! The words that say how many threads a task has, and where.

/// The task's word: bit 0 dying, 6..16 the master's node, 16..48 threads. Zero: there is no task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Task(pub u64);

impl Task {
    /// So many threads, mastered by the pager of this node.
    pub const fn new(master: u16, threads: u32) -> Self {
        Self((threads as u64) << 16 | (master as u64 & 0x3ff) << 6)
    }
    /// Its threads have to end.
    pub const fn is_dying(self) -> bool {
        self.0 & 1 != 0
    }
    /// The same, dying.
    #[must_use]
    pub const fn dying(self) -> Self {
        Self(self.0 | 1)
    }
    /// The node of its master.
    pub const fn master(self) -> u16 {
        (self.0 >> 6 & 0x3ff) as u16
    }
    /// Threads, those under way included.
    pub const fn threads(self) -> u32 {
        (self.0 >> 16) as u32
    }
    pub(super) const fn mastered_by(self, node: u16) -> Self {
        Self(self.0 & !(0x3ff << 6) | (node as u64 & 0x3ff) << 6)
    }
    pub(super) const fn more(self) -> Self {
        Self(self.0 + (1 << 16))
    }
    pub(super) const fn less(self) -> Self {
        Self(self.0 - (1 << 16))
    }
}

/// A node's word: bit 0 busy (its space is being made or destroyed), 1 contended, 16..48 threads. Zero: no space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Place(pub u64);

impl Place {
    pub(super) const BUSY: Self = Self(1);

    /// A node with a space and so many threads.
    pub const fn new(threads: u32) -> Self {
        Self((threads as u64) << 16)
    }
    /// Its space is being made or destroyed.
    pub const fn is_busy(self) -> bool {
        self.0 & 1 != 0
    }
    pub(super) const fn is_contended(self) -> bool {
        self.0 & 2 != 0
    }
    pub(super) const fn contended(self) -> Self {
        Self(self.0 | 2)
    }
    /// Threads there, or about to be.
    pub const fn threads(self) -> u32 {
        (self.0 >> 16) as u32
    }
}
