//! Where pages are: what the pagers' tables are in the system, as plain arrays.

use skerry_policy::{Node, NodeSet};

/// A node's view of a page, in a word that a miss reads: flags, and where its accesses go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View(u16);

impl View {
    const MAPPED: u16 = 1;
    const WRITABLE: u16 = 2;
    const ARMED: u16 = 4;
    const USED: u16 = 8;
    const WRITTEN: u16 = 16;

    /// Whether an access goes through without a fault; notes it.
    #[inline]
    pub const fn access(&mut self, write: bool) -> bool {
        let need = if write { Self::MAPPED | Self::WRITABLE } else { Self::MAPPED };
        if self.0 & (need | Self::ARMED) != need {
            return false;
        }
        self.0 |= if write { Self::USED | Self::WRITTEN } else { Self::USED };
        true
    }
    /// The node whose memory is accessed.
    #[inline]
    pub const fn memory(self) -> Node {
        self.0 >> 8
    }
    /// Whether it is mapped.
    pub const fn is_mapped(self) -> bool {
        self.0 & Self::MAPPED != 0
    }
    /// Whether the next access is to be seen.
    pub const fn is_armed(self) -> bool {
        self.0 & Self::ARMED != 0
    }
    /// Mapped to memory of `memory`.
    pub const fn map(memory: Node, writable: bool) -> Self {
        Self(Self::MAPPED | if writable { Self::WRITABLE } else { 0 } | memory << 8)
    }
    /// The next access is to be seen, if there is anything mapped.
    pub const fn arm(&mut self) -> bool {
        if self.is_mapped() {
            self.0 |= Self::ARMED;
        }
        self.is_mapped()
    }
    /// It has been seen.
    pub const fn disarm(&mut self) {
        self.0 &= !Self::ARMED;
    }
    /// Reads and clears the access flags: whether it was used, and written.
    pub const fn scan(&mut self) -> (bool, bool) {
        let found = (self.0 & Self::USED != 0, self.0 & Self::WRITTEN != 0);
        self.0 &= !(Self::USED | Self::WRITTEN);
        found
    }
}

/// A page.
#[derive(Clone, Copy, Debug)]
pub struct PageState {
    /// Where its frame is; [`NOWHERE`] if nobody has touched it.
    pub home: Node,
    /// Whether it is replicated.
    pub replicated: bool,
    /// Who maps it.
    pub sharers: NodeSet,
    /// Who has a copy.
    pub copies: NodeSet,
}

/// Not on any node.
pub const NOWHERE: Node = Node::MAX;

/// All pages, on all nodes.
#[derive(Clone, Debug)]
pub struct Pages {
    nodes: usize,
    views: Vec<View>,
    pages: Vec<PageState>,
    /// Free frames per node.
    pub free: Vec<u64>,
}

impl Pages {
    /// Nobody has touched any.
    pub fn new(nodes: usize, pages: u32, free: Vec<u64>) -> Self {
        let untouched =
            PageState { home: NOWHERE, replicated: false, sharers: NodeSet::EMPTY, copies: NodeSet::EMPTY };
        Self {
            nodes,
            views: vec![View::default(); nodes * pages as usize],
            pages: vec![untouched; pages as usize],
            free,
        }
    }
    /// A node's view.
    #[inline]
    pub fn view(&mut self, node: Node, page: u32) -> &mut View {
        &mut self.views[page as usize * self.nodes + usize::from(node)]
    }
    /// A page.
    pub fn page(&self, page: u32) -> &PageState {
        &self.pages[page as usize]
    }
    /// Where a page is, if anywhere.
    pub fn home(&self, page: u64) -> Option<Node> {
        let state = self.pages.get(usize::try_from(page).ok()?)?;
        (state.home != NOWHERE).then_some(state.home)
    }
    fn take(&mut self, node: Node) -> bool {
        let free = &mut self.free[usize::from(node)];
        let there_is = *free > 0;
        *free -= u64::from(there_is);
        there_is
    }
    fn give(&mut self, node: Node) {
        self.free[usize::from(node)] += 1;
    }
    /// Gives a page its frame. `false`: there is none.
    pub fn place(&mut self, page: u32, home: Node) -> bool {
        debug_assert_eq!(self.pages[page as usize].home, NOWHERE);
        let taken = self.take(home);
        if taken {
            self.pages[page as usize].home = home;
        }
        taken
    }
    /// Maps a page for a node. Of a replicated page the node gets a copy, if there is room: whether one was made.
    pub fn map(&mut self, node: Node, page: u32) -> bool {
        let PageState { home, replicated, copies, .. } = *self.page(page);
        let fresh = replicated && home != node && !copies.contains(node) && self.take(node);
        let state = &mut self.pages[page as usize];
        if fresh {
            state.copies = state.copies.with(node);
        }
        state.sharers = state.sharers.with(node);
        let memory = if state.copies.contains(node) { node } else { home };
        *self.view(node, page) = View::map(memory, !replicated);
        fresh
    }
    /// Takes a page away from everybody: who had it.
    pub fn revoke(&mut self, page: u32) -> NodeSet {
        let sharers = core::mem::take(&mut self.pages[page as usize].sharers);
        sharers.iter().for_each(|node| *self.view(node, page) = View::default());
        sharers
    }
    /// Moves it, if there is a frame: who had it.
    pub fn migrate(&mut self, page: u32, to: Node) -> Option<NodeSet> {
        let from = self.page(page).home;
        if to == from || self.page(page).replicated || !self.take(to) {
            return None;
        }
        self.give(from);
        self.pages[page as usize].home = to;
        Some(self.revoke(page))
    }
    /// From now on readers get copies: who had it.
    pub fn replicate(&mut self, page: u32) -> NodeSet {
        self.pages[page as usize].replicated = true;
        self.revoke(page)
    }
    /// Makes it one again: who had it.
    pub fn collapse(&mut self, page: u32) -> NodeSet {
        let state = &mut self.pages[page as usize];
        state.replicated = false;
        let copies = core::mem::take(&mut state.copies);
        copies.iter().for_each(|node| self.give(node));
        self.revoke(page)
    }
    /// Frames that pages have on each node.
    pub fn used(&self) -> Vec<u64> {
        let mut used = vec![0; self.nodes];
        for page in self.pages.iter().filter(|page| page.home != NOWHERE) {
            used[usize::from(page.home)] += 1;
            page.copies.iter().for_each(|node| used[usize::from(node)] += 1);
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_neither_lost_nor_made() {
        let mut pages = Pages::new(3, 4, vec![2, 1, 1]);
        assert!(pages.place(0, 0) && pages.place(1, 0) && !pages.place(2, 0));
        pages.map(1, 0);
        assert_eq!(pages.migrate(0, 1), Some(NodeSet::only(1)));
        assert_eq!(pages.migrate(1, 1), None, "full");
        assert_eq!((pages.free.clone(), pages.used()), (vec![1, 0, 1], vec![1, 1, 0]));
        pages.replicate(0);
        assert!(pages.map(2, 0) && !pages.map(2, 0) && pages.map(0, 0));
        assert_eq!(pages.view(2, 0).memory(), 2);
        assert_eq!((pages.free.clone(), pages.used()), (vec![0, 0, 0], vec![2, 1, 1]));
        assert_eq!(pages.collapse(0), NodeSet::only(2).with(0));
        assert_eq!((pages.free.clone(), pages.used()), (vec![1, 0, 1], vec![1, 1, 0]));
    }

    #[test]
    fn a_view_notes_what_is_done_with_it() {
        let mut view = View::default();
        assert!(!view.access(false) && !view.arm());
        view = View::map(7, false);
        assert!(view.access(false) && !view.access(true) && view.memory() == 7);
        assert_eq!((view.scan(), view.scan()), ((true, false), (false, false)));
        view = View::map(7, true);
        assert!(view.access(true) && view.arm() && !view.access(false));
        view.disarm();
        assert_eq!(view.scan(), (true, true));
    }
}
