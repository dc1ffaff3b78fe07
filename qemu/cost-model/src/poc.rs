//! Software coherence: what may go wrong if memory is private write-back cached per node, and nobody but the software keeps it coherent.
//!
//! Every node is a domain with a cache of its own, coherent in itself. Between nodes data travel by way of the point of coherency (memory): the writer
//! cleans the line, the reader drops its copy. The checker follows lines, not data, and assumes the worst that the architecture allows: a cache
//! fetches any line at any time (speculation), keeps it until it is told to drop it, and writes a dirty one back at any time. So after a store
//! by one node every other cache *may* hold what was there before, until it drops the line after the store was cleaned.
//!
//! **Stale is not yet wrong.** Whoever polls a word reads old values until the new one is there. A load that may be stale is reported if the store
//! *happened before* it: by an interrupt from the writing node, or by a value of that node which was read afresh, in between
//! ([`order`]). Other such loads are races, which are counted. What is lost is wrong in any order, and always reported: a store onto a line
//! of which another node has newer data, dirty data that are dropped.
//!
//! Caches are empty as long as no CPU of the node has switched its caches on. Accesses that are not cached work on memory itself.

mod order;
mod report;

use crate::{LINE_BITS, LINES_PER_PAGE};
use order::Order;
use report::Log;
pub use report::{Finding, Missing, Site, Wrong};

/// Nodes at most.
pub const MAX_NODES: usize = 128;
type Nodes = u128;

/// An access or operation: who, where in the program, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The CPU.
    pub cpu: u16,
    /// Its program counter.
    pub pc: u64,
    /// The physical address.
    pub physical: u64,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It reads data.
    Load,
    /// It reads a page table, for the access at this program counter.
    Walk,
    /// It reads code.
    Fetch,
    /// It writes.
    Store,
    /// It writes a whole line without reading it.
    Zero,
    /// It reads and writes as one, or is half of such a thing (exclusives): means nothing between nodes.
    Atomic,
}

/// A maintenance operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// To the point of coherency.
    Clean,
    /// To there, and dropped.
    CleanInvalidate,
    /// Dropped.
    Invalidate,
    /// To the point of unification: for fetches of the same node.
    CleanForFetch,
    /// The line in the node's instruction caches is dropped.
    DropFetched,
}

/// What is known of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Whose store was the last one, when in its time, and where in its program.
    store: Option<Store>,
    /// That store is in the writer's cache only.
    dirty: bool,
    /// It is not even at the writer's point of unification.
    unfetchable: bool,
    /// Nodes whose cache may hold something older.
    stale: Nodes,
    /// Nodes that have fetched from it, and those whose instruction caches may hold what was there before.
    fetched: Nodes,
    fetched_old: Nodes,
    /// Nodes that used it as an atomic since they last gave it away.
    atomics: Nodes,
}

#[derive(Clone, Copy, Debug)]
struct Store {
    node: u16,
    time: u32,
    pc: u64,
}

const fn bit(node: u16) -> Nodes {
    1 << node
}

/// The checker of one machine.
#[derive(Debug)]
pub struct Checker {
    /// The node of each CPU.
    cpus: Vec<u16>,
    /// CPUs that have executed anything.
    started: Vec<bool>,
    /// Nodes whose caches are on.
    live: Nodes,
    first_page: u64,
    pages: Vec<Option<Box<[Line; LINES_PER_PAGE]>>>,
    order: Order,
    log: Log,
}

impl Checker {
    /// For CPUs on these nodes, and memory from the first address to the second.
    ///
    /// # Errors
    /// More nodes than it can do.
    pub fn new(cpus: Vec<u16>, span: (u64, u64)) -> Result<Self, String> {
        let nodes = cpus.iter().max().map_or(0, |&node| usize::from(node) + 1);
        if nodes > MAX_NODES {
            return Err(format!("{nodes} nodes; the checker of coherence can do {MAX_NODES}"));
        }
        let page_bits = LINE_BITS + LINES_PER_PAGE.trailing_zeros();
        let pages = (span.1 - span.0).div_ceil(1 << page_bits) as usize;
        Ok(Self {
            order: Order::new(nodes, cpus.len()),
            started: vec![false; cpus.len()],
            cpus,
            live: 0,
            first_page: span.0 >> page_bits,
            pages: std::iter::repeat_with(|| None).take(pages).collect(),
            log: Log::default(),
        })
    }

    fn node(&self, cpu: u16) -> u16 {
        self.cpus[usize::from(cpu)]
    }

    /// The place of a line, if it is in memory.
    fn find(&self, physical: u64) -> Option<(usize, usize)> {
        let line = physical >> LINE_BITS;
        let page = (line / LINES_PER_PAGE as u64).checked_sub(self.first_page)? as usize;
        (page < self.pages.len()).then_some((page, line as usize % LINES_PER_PAGE))
    }

    fn line(&self, (page, index): (usize, usize)) -> Line {
        self.pages[page].as_ref().map_or(Line::default(), |lines| lines[index])
    }

    fn put(&mut self, (page, index): (usize, usize), line: Line) {
        self.pages[page].get_or_insert_with(|| Box::new([Line::default(); LINES_PER_PAGE]))[index] = line;
    }

    /// A CPU executes for the first time: what all others did happened before.
    fn start(&mut self, cpu: u16) {
        if !std::mem::replace(&mut self.started[usize::from(cpu)], true) {
            self.order.join_all(self.node(cpu));
        }
    }

    /// A CPU's caches are on from now on (they are never switched off again).
    pub fn caches_on(&mut self, cpu: u16) {
        self.live |= bit(self.node(cpu));
    }

    /// A CPU interrupts another one.
    pub fn send(&mut self, cpu: u16, target: u16) {
        if usize::from(target) < self.cpus.len() {
            self.order.send(self.node(cpu), usize::from(target));
        }
    }

    /// A CPU takes an interrupt: all that was sent to it so far.
    pub fn take(&mut self, cpu: u16) {
        self.order.take(self.node(cpu), usize::from(cpu));
    }

    /// An access to one line.
    pub fn access(&mut self, at: At, kind: Kind, cached: bool) {
        self.start(at.cpu);
        let Some(place) = self.find(at.physical) else { return };
        let mut line = self.line(place);
        let node = self.node(at.cpu);
        match kind {
            Kind::Load | Kind::Walk => self.read(&line, at, kind, cached),
            Kind::Fetch => {
                self.fetch(&line, at, cached);
                if line.fetched & bit(node) != 0 {
                    return;
                }
                line.fetched |= bit(node);
                self.put(place, line);
            }
            Kind::Store | Kind::Zero => {
                self.write(&mut line, at, kind, cached);
                self.put(place, line);
            }
            Kind::Atomic => {
                if line.atomics & !bit(node) != 0 {
                    self.report(at, Wrong::SharedAtomic, &line, Missing::Exclusion);
                } else {
                    self.read(&line, at, kind, cached);
                }
                line.atomics |= bit(node);
                self.write(&mut line, at, kind, cached);
                self.put(place, line);
            }
        }
    }

    /// Whether this node may see something older than the last store, and what would have to be done about that.
    fn may_be_old(line: &Line, node: u16, cached: bool) -> Option<Missing> {
        let store = line.store?;
        if line.dirty && (store.node != node || !cached) {
            Some(Missing::Clean)
        } else if cached && line.stale & bit(node) != 0 {
            Some(Missing::Invalidate)
        } else {
            None
        }
    }

    fn read(&mut self, line: &Line, at: At, kind: Kind, cached: bool) {
        let (node, Some(store)) = (self.node(at.cpu), line.store) else { return };
        match Self::may_be_old(line, node, cached) {
            Some(missing) if self.order.is_before(store.node, store.time, node) => {
                let wrong = if kind == Kind::Walk { Wrong::StaleWalk } else { Wrong::StaleLoad };
                self.report(at, wrong, line, missing);
            }
            Some(_) => self.log.races += 1,
            None => self.order.saw(node, store.node, store.time),
        }
    }

    fn fetch(&mut self, line: &Line, at: At, cached: bool) {
        let (node, Some(store)) = (self.node(at.cpu), line.store) else { return };
        let missing = if store.node == node && cached {
            // Of its own it sees the point of unification.
            let old = line.stale & bit(node) != 0;
            line.unfetchable.then_some(Missing::Clean).or(old.then_some(Missing::Invalidate))
        } else {
            Self::may_be_old(line, node, cached)
        };
        let old = line.fetched_old & bit(node) != 0;
        match missing.or(old.then_some(Missing::DropFetched)) {
            Some(missing) if self.order.is_before(store.node, store.time, node) => {
                self.report(at, Wrong::StaleFetch, line, missing);
            }
            Some(_) => self.log.races += 1,
            None => self.order.saw(node, store.node, store.time),
        }
    }

    fn write(&mut self, line: &mut Line, at: At, kind: Kind, cached: bool) {
        let node = self.node(at.cpu);
        if let Some(store) = line.store {
            if line.dirty && (store.node != node || !cached) {
                // Two write-backs: either may be the last one.
                self.report(at, Wrong::StoreBesideDirty, line, Missing::Clean);
            } else if cached && kind == Kind::Store && line.stale & bit(node) != 0 {
                // Its write-back takes old data along.
                self.report(at, Wrong::StoreOntoStale, line, Missing::Invalidate);
            }
        }
        line.store = Some(Store { node, time: self.order.now(node), pc: at.pc });
        line.dirty = cached;
        line.unfetchable = cached;
        line.stale = if cached { self.live & !bit(node) } else { self.live };
        line.fetched_old = line.fetched;
    }

    /// A maintenance operation on one line.
    pub fn maintain(&mut self, at: At, what: Upkeep) {
        self.start(at.cpu);
        let Some(place) = self.find(at.physical) else { return };
        let mut line = self.line(place);
        let node = self.node(at.cpu);
        let mine = line.store.is_some_and(|store| store.node == node);
        let (dirty, stale) = (line.dirty && mine, line.stale & bit(node) != 0);
        let fetched_old = line.fetched_old & bit(node) != 0;
        let needed = match what {
            Upkeep::Clean => dirty,
            Upkeep::CleanInvalidate => dirty || stale && (!line.dirty || mine),
            Upkeep::Invalidate => dirty || stale && !line.dirty,
            Upkeep::CleanForFetch => line.unfetchable && mine,
            Upkeep::DropFetched => fetched_old,
        };
        self.log.upkeep(at.pc, node, what, needed);
        match what {
            Upkeep::CleanForFetch => line.unfetchable &= !mine,
            Upkeep::DropFetched => line.fetched_old &= !bit(node),
            Upkeep::Clean | Upkeep::CleanInvalidate | Upkeep::Invalidate => {
                if what == Upkeep::Invalidate && dirty {
                    self.report(at, Wrong::Discarded, &line, Missing::Clean);
                    line = Line { fetched: line.fetched, ..Line::default() };
                } else if dirty {
                    self.order.release(node);
                    (line.dirty, line.unfetchable) = (false, false);
                    // Up to now others could fetch what was there before, those included whose caches came later than the store.
                    line.stale = self.live & !bit(node);
                }
                // What is not at the point of coherency yet comes back old.
                if what != Upkeep::Clean && !line.dirty {
                    line.stale &= !bit(node);
                }
                line.atomics &= !bit(node);
            }
        }
        self.put(place, line);
    }

    /// All lines of a node's instruction caches are dropped.
    pub fn drop_all_fetched(&mut self, cpu: u16) {
        let node = self.node(cpu);
        self.pages.iter_mut().flatten().flat_map(|lines| lines.iter_mut()).for_each(|line| {
            line.fetched_old &= !bit(node);
        });
    }

    fn report(&mut self, at: At, wrong: Wrong, line: &Line, missing: Missing) {
        let node = self.node(at.cpu);
        let (other, other_pc) = line.store.map_or((node, 0), |store| (store.node, store.pc));
        self.log.wrong(Finding {
            wrong,
            missing,
            node,
            pc: at.pc,
            other,
            other_pc,
            physical: at.physical,
            count: 1,
        });
    }

    /// What is wrong: one finding per kind, pair of program counters and pair of nodes.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.log.findings.values()
    }

    /// Where lines are maintained, how often, and how often for nothing.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.log.sites.values()
    }

    /// Loads that may be stale, of stores that nothing has ordered before them.
    pub fn races(&self) -> u64 {
        self.log.races
    }
}
