//! What happens to pages, as policies are told of it.

use crate::nodes::{Node, NodeSet};

/// Consecutive pages of 4 KiB, by number (the address divided by 4096).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The first one.
    pub first: u64,
    /// How many.
    pub pages: u64,
}

impl Range {
    /// Whether a page is in it.
    pub const fn contains(self, page: u64) -> bool {
        page.wrapping_sub(self.first) < self.pages
    }
    /// Whether all of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        match (self.first.checked_add(self.pages), other.first.checked_add(other.pages)) {
            (Some(end), Some(other_end)) => other.first >= self.first && other_end <= end,
            _ => false,
        }
    }
    /// The pages from `cursor` on, at most `most`, and where to go on: round and round through the range.
    pub const fn turn(self, cursor: u64, most: u64) -> (Self, u64) {
        let cursor = if self.contains(cursor) { cursor } else { self.first };
        let rest = self.pages - (cursor - self.first);
        let pages = if most < rest { most } else { rest };
        (Self { first: cursor, pages }, cursor + pages)
    }
}

/// What a thread wanted to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch an instruction.
    Execute,
}

/// Why there was a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nobody had touched the page.
    Untouched,
    /// Others have it, this node had not mapped it.
    Unmapped,
    /// This node had mapped it, and the policy had armed a trap.
    Trap,
    /// A write to a page that was replicated; it has one frame again.
    Collapsed,
}

/// A page fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The page.
    pub page: u64,
    /// What the thread wanted.
    pub access: Access,
    /// Why that was a fault.
    pub reason: Reason,
    /// The node of the thread.
    pub node: Node,
    /// The thread, as the task numbers its threads.
    pub thread: u32,
    /// The region that the page is in.
    pub region: Range,
}

/// What a node tells the owner of a page about its own use of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The page.
    pub page: u64,
    /// Who uses it.
    pub node: Node,
    /// Whether it was written there.
    pub write: bool,
    /// How much it is used, in what units the policy likes.
    pub weight: u16,
    /// What misses cost that node lately, in percent of what they would if nobody else used memory.
    pub load: u32,
    /// What was said to cause it.
    pub kind: SampleKind,
}

/// How a sample came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleKind {
    /// It came in a batch, some time later.
    Batched,
    /// The thread waits for what the owner decides.
    Urgent,
    /// The node's first write to the page has collapsed its copies.
    Collapsed,
}

/// How a program says that it will use pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// As nobody knows.
    Normal,
    /// Whoever touches a page next is the one who uses it.
    NextTouch,
    /// It is mostly read.
    ReadMostly,
}

/// A page as its policy's pager sees it, with the policy's own record of it. Every instance has records of its own.
#[derive(Debug)]
pub struct Page<'a, R> {
    /// Its number.
    pub number: u64,
    /// Where its frame is: the pager of that node *owns* the page. Of a replicated page, the frame that copies are made from.
    pub home: Node,
    /// The nodes that may map it.
    pub sharers: NodeSet,
    /// Whether it is replicated: every node that reads it gets a copy of its own.
    pub replicated: bool,
    /// What this instance remembers of it.
    pub record: &'a mut R,
}

impl<R> Page<'_, R> {
    /// Whether the pager of `node` owns it.
    pub fn is_owned_by(&self, node: Node) -> bool {
        self.home == node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_round() {
        let range = Range { first: 10, pages: 5 };
        let (one, next) = range.turn(0, 3);
        assert_eq!((one, next), (Range { first: 10, pages: 3 }, 13));
        let (two, next) = range.turn(next, 3);
        assert_eq!((two, next), (Range { first: 13, pages: 2 }, 15));
        assert_eq!(range.turn(next, 9).0, range);
        assert_eq!(Range::default().turn(7, 9).0.pages, 0);
    }

    #[test]
    fn a_range_covers_what_lies_in_it() {
        let range = Range { first: 10, pages: 5 };
        assert!(range.contains(14) && !range.contains(15) && !range.contains(9));
        assert!(range.covers(Range { first: 12, pages: 3 }) && !range.covers(Range { first: 12, pages: 4 }));
        assert!(!range.covers(Range { first: u64::MAX, pages: 2 }));
    }
}
