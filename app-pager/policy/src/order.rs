//! What a policy decides: orders, each with its cause, in a list of limited length.

use crate::event::Range;
use crate::nodes::Node;

/// Why something was decided; it lands in the trace with the decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cause {
    /// It is how the policy places pages.
    #[default]
    Rule,
    /// Another node uses the page, and mostly that one.
    Remote,
    /// Somebody touched it first after it was armed.
    NextTouch,
    /// Several nodes read it and nobody writes.
    ReadMostly,
    /// It is written.
    Written,
    /// The memory or link it lies behind is overloaded.
    Load,
    /// To find out who uses it.
    Sampling,
    /// The program said so.
    Advice,
}

impl Cause {
    /// Its name in traces and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Remote => "remote",
            Self::NextTouch => "next-touch",
            Self::ReadMostly => "read-mostly",
            Self::Written => "written",
            Self::Load => "load",
            Self::Sampling => "sampling",
            Self::Advice => "advice",
        }
    }
}

/// A decision. Mechanism carries it out, later if need be, or not at all if things have changed meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Move a page that this pager owns.
    Migrate {
        /// The page.
        page: u64,
        /// Where to.
        to: Node,
    },
    /// Give every node that reads a page, which this pager owns, a copy of its own, until somebody writes.
    Replicate {
        /// The page.
        page: u64,
    },
    /// Make a page one again.
    Collapse {
        /// The page.
        page: u64,
    },
    /// Take the own node's mappings away, so that the next access is seen.
    Arm {
        /// The pages.
        range: Range,
    },
    /// Read and clear the access flags in the own node's page tables. [`crate::Policy::on_scan`] is told of every page that was used.
    Scan {
        /// The pages.
        range: Range,
    },
    /// Tell the owner of a page about the use of this node.
    Report {
        /// The page.
        page: u64,
        /// How much it is used.
        weight: u16,
        /// Whether it was written.
        write: bool,
        /// Whether to tell at once and wait, instead of with others.
        urgent: bool,
    },
    /// On a fault: map the pages around the one that was touched, too; so many, aligned.
    Ahead {
        /// How many, a power of two.
        pages: u16,
    },
    /// Tell the task that a thread might run better elsewhere.
    MoveThread {
        /// The thread.
        thread: u32,
        /// The node.
        to: Node,
    },
}

/// How many orders a policy can give at a time.
pub const MOST: usize = 64;

/// Orders with their causes.
#[derive(Clone, Debug)]
pub struct Orders {
    list: [(Order, Cause); MOST],
    count: usize,
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

impl Orders {
    /// None yet.
    pub const fn new() -> Self {
        Self { list: [(Order::Collapse { page: 0 }, Cause::Rule); MOST], count: 0 }
    }
    /// Gives an order. Without room it is dropped, and `false`.
    pub fn give(&mut self, order: Order, cause: Cause) -> bool {
        match self.list.get_mut(self.count) {
            Some(slot) => {
                *slot = (order, cause);
                self.count += 1;
                true
            }
            None => false,
        }
    }
    /// Moves a page that this pager owns.
    pub fn migrate(&mut self, page: u64, to: Node, cause: Cause) -> bool {
        self.give(Order::Migrate { page, to }, cause)
    }
    /// Reports the use of a page to its owner, in a batch.
    pub fn report(&mut self, page: u64, weight: u16, write: bool) -> bool {
        self.give(Order::Report { page, weight, write, urgent: false }, Cause::Sampling)
    }
    /// What was ordered.
    pub fn iter(&self) -> impl Iterator<Item = (Order, Cause)> + '_ {
        self.list.iter().take(self.count).copied()
    }
    /// Takes an order out, the last one first.
    pub fn pop(&mut self) -> Option<(Order, Cause)> {
        self.count = self.count.checked_sub(1)?;
        self.list.get(self.count).copied()
    }
    /// Whether nothing was ordered.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_limited() {
        let mut orders = Orders::new();
        for page in 0..MOST as u64 {
            assert!(orders.migrate(page, 1, Cause::Remote));
        }
        assert!(!orders.report(9, 1, false));
        assert_eq!(orders.pop(), Some((Order::Migrate { page: MOST as u64 - 1, to: 1 }, Cause::Remote)));
        assert_eq!(orders.iter().count(), MOST - 1);
        orders.clear();
        assert!(orders.is_empty() && orders.pop().is_none());
    }
}
