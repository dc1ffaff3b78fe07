//! The deadlines of one CPU's waiting threads: a leftist heap that runs through one array of nodes.
//!
//! Threads begin and end waits with deadlines all the time, and the timer wants the earliest. Insertion and removal from anywhere
//! take at most a small multiple of log2 n steps, *always*: a pairing heap or a sorted list would be shorter to write, but either
//! has a worst case of n steps, under the cluster lock. An array heap per CPU would need room for every thread on every CPU.
//!
//! In a leftist heap no node is later than its children, and the `rank` (distance to the nearest missing child) of a left child is
//! at least that of the right one; so the right spine, along which two heaps are merged, has at most log2 (n + 1) nodes
//! (Crane 1972; Knuth, TAOCP vol. 3, 5.2.3).

use crate::queue::NONE;

/// One thread's place among the deadlines of its CPU.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Timer {
    key: u64,
    parent: u32,
    left: u32,
    right: u32,
    rank: u32,
}

impl Timer {
    /// Without a deadline.
    pub const IDLE: Self = Self { key: u64::MAX, parent: NONE, left: NONE, right: NONE, rank: 1 };

    #[cfg(test)]
    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

/// The deadlines of one CPU.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Deadlines {
    root: u32,
}

fn rank(nodes: &[Timer], node: u32) -> u32 {
    nodes.get(node as usize).map_or(0, |n| n.rank)
}

impl Deadlines {
    /// There is none.
    pub const NONE: Self = Self { root: NONE };

    /// The thread with the earliest deadline.
    pub fn first(&self) -> Option<u32> {
        (self.root != NONE).then_some(self.root)
    }
    /// The earliest deadline; `u64::MAX` if there is none.
    pub fn earliest(&self, nodes: &[Timer]) -> u64 {
        nodes.get(self.root as usize).map_or(u64::MAX, |n| n.key)
    }
    /// Whether a thread is in this heap.
    #[cfg(test)]
    pub(crate) fn contains(&self, nodes: &[Timer], thread: u32) -> bool {
        let mut node = thread;
        while nodes[node as usize].parent != NONE {
            node = nodes[node as usize].parent;
        }
        node == self.root
    }
    /// Adds a thread that has no deadline.
    pub fn insert(&mut self, nodes: &mut [Timer], thread: u32, deadline: u64) {
        nodes[thread as usize] = Timer { key: deadline, ..Timer::IDLE };
        self.root = merge(nodes, self.root, thread);
    }
    /// Takes out a thread that is in this heap.
    pub fn remove(&mut self, nodes: &mut [Timer], thread: u32) {
        let Timer { parent, left, right, .. } = nodes[thread as usize];
        nodes[thread as usize] = Timer::IDLE;
        for child in [left, right] {
            set_parent(nodes, child, NONE);
        }
        let rest = merge(nodes, left, right);
        set_parent(nodes, rest, parent);
        let Some(above) = nodes.get_mut(parent as usize) else {
            self.root = rest;
            return;
        };
        match above.left == thread {
            true => above.left = rest,
            false => above.right = rest,
        }
        // Every node whose rank changes has a larger rank than the one before, so this takes at most log2 n steps.
        let mut node = parent;
        while node != NONE && balance(nodes, node) {
            node = nodes[node as usize].parent;
        }
    }
}

fn set_parent(nodes: &mut [Timer], node: u32, parent: u32) {
    if let Some(node) = nodes.get_mut(node as usize) {
        node.parent = parent;
    }
}

/// Puts the child of larger rank to the left; whether the node's own rank changed.
fn balance(nodes: &mut [Timer], node: u32) -> bool {
    let Timer { left, right, rank: old, .. } = nodes[node as usize];
    let (l, r) = (rank(nodes, left), rank(nodes, right));
    let place = &mut nodes[node as usize];
    if l < r {
        (place.left, place.right) = (right, left);
    }
    place.rank = l.min(r) + 1;
    place.rank != old
}

/// Makes one heap of two whose roots have no parents: down the right spines, and up again to restore the ranks.
fn merge(nodes: &mut [Timer], a: u32, b: u32) -> u32 {
    if a == NONE || b == NONE {
        return if a == NONE { b } else { a };
    }
    let earlier = |nodes: &[Timer], a: u32, b: u32| {
        if nodes[b as usize].key < nodes[a as usize].key { (b, a) } else { (a, b) }
    };
    let (root, mut other) = earlier(nodes, a, b);
    let mut node = root;
    while other != NONE {
        let right = nodes[node as usize].right;
        let (next, rest) = if right == NONE { (other, NONE) } else { earlier(nodes, right, other) };
        nodes[node as usize].right = next;
        nodes[next as usize].parent = node;
        (node, other) = (next, rest);
    }
    loop {
        balance(nodes, node);
        if node == root {
            return root;
        }
        node = nodes[node as usize].parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec;

    /// Checks the order and the ranks below `node`; returns the number of nodes.
    fn check(nodes: &[Timer], node: u32, parent: u32) -> usize {
        let Some(n) = nodes.get(node as usize) else { return 0 };
        assert_eq!(n.parent, parent);
        assert!(parent == NONE || nodes[parent as usize].key <= n.key, "a child is not earlier");
        assert!(rank(nodes, n.left) >= rank(nodes, n.right), "leftist");
        assert_eq!(n.rank, rank(nodes, n.right) + 1);
        1 + check(nodes, n.left, node) + check(nodes, n.right, node)
    }

    #[test]
    fn it_agrees_with_a_sorted_set() {
        const THREADS: u32 = 200;
        let mut nodes = vec![Timer::IDLE; THREADS as usize];
        let mut heap = Deadlines::NONE;
        let mut model = BTreeSet::new();
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for step in 0..20_000 {
            let thread = random(THREADS.into()) as u32;
            if model.remove(&(nodes[thread as usize].key, thread)) {
                heap.remove(&mut nodes, thread);
            } else {
                // Few different deadlines, so that many are equal.
                let deadline = if step % 2 == 0 { random(8) } else { random(1 << 40) };
                heap.insert(&mut nodes, thread, deadline);
                model.insert((deadline, thread));
            }
            assert_eq!(heap.earliest(&nodes), model.first().map_or(u64::MAX, |f| f.0));
            assert_eq!(heap.first().is_some(), !model.is_empty());
            if step % 16 == 0 {
                assert_eq!(check(&nodes, heap.root, NONE), model.len());
            }
        }
    }

    #[test]
    fn many_rising_or_falling_deadlines_stay_shallow_on_the_right() {
        const THREADS: u32 = 4096;
        for falling in [false, true] {
            let mut nodes = vec![Timer::IDLE; THREADS as usize];
            let mut heap = Deadlines::NONE;
            for i in 0..THREADS {
                heap.insert(&mut nodes, i, u64::from(if falling { THREADS - i } else { i }));
            }
            let mut spine = 0;
            let mut node = heap.root;
            while node != NONE {
                (spine, node) = (spine + 1, nodes[node as usize].right);
            }
            assert!(spine <= 13, "{spine} nodes to merge along");
            for _ in 0..THREADS {
                let first = heap.first().unwrap();
                heap.remove(&mut nodes, first);
            }
            assert_eq!(heap.first(), None);
        }
    }
}
