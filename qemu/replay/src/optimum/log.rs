//! What every page is used for, in order.

use skerry_cost_model::Time;
use skerry_policy::Node;

use crate::engine::Observer;
use crate::machine::class;
use crate::trace::{Miss, Trace};

/// Misses of one thread on one page without another's in between, in one interval between barriers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// The page.
    pub page: u32,
    /// How many lines.
    pub lines: u32,
    /// The interval.
    pub interval: u32,
    /// The thread.
    pub thread: u16,
    /// Where it ran.
    pub node: u8,
    /// The class of overlap.
    pub class: u8,
    /// Whether they were written.
    pub write: bool,
}

/// The log of a replay.
#[derive(Clone, Debug)]
pub struct Log {
    /// All uses, in order; after [`Self::by_page`], page by page.
    pub uses: Vec<Use>,
    /// What threads spent on other things than misses: interval by interval, thread by thread.
    pub work: Vec<Time>,
    /// Intervals between barriers.
    pub intervals: usize,
    /// Threads.
    pub threads: usize,
    /// Pages.
    pub pages: u32,
}

impl Log {
    /// For a trace.
    pub fn new(trace: &Trace) -> Self {
        let threads = trace.threads.len();
        Self { uses: Vec::new(), work: vec![0; threads], intervals: 1, threads, pages: trace.pages }
    }
    /// Sorted by page, each page's uses in order; those that follow each other are one.
    #[must_use]
    pub fn by_page(mut self) -> Self {
        self.uses.sort_by_key(|one| one.page);
        self.uses.dedup_by(|next, one| {
            let same = Use { lines: one.lines, ..*next } == *one;
            if same {
                one.lines = one.lines.saturating_add(next.lines);
            }
            same
        });
        self
    }
}

impl Observer for Log {
    fn miss(&mut self, thread: usize, node: Node, miss: Miss) {
        let Miss { page, lines, write, overlap, .. } = miss;
        let interval = self.intervals as u32 - 1;
        let (class, lines) = (class(overlap) as u8, lines.into());
        self.uses.push(Use { page, lines, interval, thread: thread as u16, node: node as u8, class, write });
    }
    fn work(&mut self, thread: usize, time: Time) {
        let at = (self.intervals - 1) * self.threads + thread;
        self.work[at] += time;
    }
    fn barrier(&mut self) {
        self.intervals += 1;
        self.work.resize(self.intervals * self.threads, 0);
    }
}
