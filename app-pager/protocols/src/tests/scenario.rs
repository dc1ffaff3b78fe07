//! What the threads of an application do in a model.

use crate::effect::Me;
use skerry_abi::Rights;

/// Nodes of every model.
pub(super) const NODES: usize = 3;
/// Pages of the task.
pub(super) const PAGES: usize = 2;
/// Frames in each node's pool.
pub(super) const FRAMES: usize = 3;
/// Threads of the task, each on a CPU of its own, whose pager thread runs its machines.
pub(super) const CLIENTS: usize = 3;

/// Something that a thread does, or asks its pager for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Do {
    /// Reads a page, until it succeeds or is refused.
    Read(u8),
    /// Writes to it.
    Write(u8),
    /// The same; its pager takes the other pages, too, if nobody has them.
    WriteAhead(u8),
    /// Unmaps pages.
    Unmap(&'static [u8]),
    /// Makes pages read-only.
    Protect(&'static [u8]),
    /// Makes pages writable again.
    Allow(&'static [u8]),
    /// Lets every node have a copy of its own.
    Replicate(&'static [u8]),
    /// Lets every node have pages for itself.
    Part(&'static [u8]),
    /// Has all nodes share them again.
    Join(&'static [u8]),
    /// Moves pages to a node.
    Move(&'static [u8], u16),
}

impl Do {
    /// The pages of a batch.
    pub(super) fn pages(self) -> &'static [u8] {
        match self {
            Self::Unmap(pages)
            | Self::Protect(pages)
            | Self::Allow(pages)
            | Self::Replicate(pages)
            | Self::Part(pages)
            | Self::Join(pages)
            | Self::Move(pages, _) => pages,
            Self::Read(_) | Self::Write(_) | Self::WriteAhead(_) => &[],
        }
    }
    /// The page and the access, of a thread's own doing.
    pub(super) fn access(self) -> Option<(u8, Rights)> {
        match self {
            Self::Read(page) => Some((page, Rights::R)),
            Self::Write(page) | Self::WriteAhead(page) => Some((page, Rights::W)),
            _ => None,
        }
    }
}

/// The pager thread that clears up after a crash counts as one more.
pub(super) const PAGER_THREADS: usize = CLIENTS + 1;

/// A thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub(super) node: u16,
    pub(super) script: &'static [Do],
}

/// A machine and what happens on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) threads: [Thread; CLIENTS],
    /// Nodes where the policy puts the frames of these pages; `None`: where the fault is.
    pub(super) home: [Option<u16>; PAGES],
    /// Whether what is only read is replicated from the first touch on.
    pub(super) copied: bool,
    /// Whether nodes reach the master's words by messages.
    pub(super) remote: bool,
    /// The pager of this node may crash, at any moment, once.
    pub(super) crash: Option<u16>,
}

impl Scenario {
    /// The node of a pager thread.
    pub(super) fn node(&self, c: usize) -> u16 {
        let survivor = u16::from(self.crash == Some(0));
        self.threads.get(c).map_or(survivor, |thread| thread.node)
    }
    /// What the thread on its CPU does.
    pub(super) fn script(&self, c: usize) -> &'static [Do] {
        self.threads.get(c).map_or(&[], |thread| thread.script)
    }
    pub(super) fn me(&self, c: usize) -> Me {
        Me { node: self.node(c), incarnation: 1 }
    }
}

pub(super) const fn thread(node: u16, script: &'static [Do]) -> Thread {
    Thread { node, script }
}

pub(super) const fn scenario(a: Thread, b: Thread, c: Thread) -> Scenario {
    Scenario { threads: [a, b, c], home: [None; PAGES], copied: false, remote: false, crash: None }
}
