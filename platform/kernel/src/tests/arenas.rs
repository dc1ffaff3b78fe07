//! Memory for the kernels of a test: arenas of a chosen size, and the rings between them.

use super::store::{Store, caching};
use super::world::{Fake, TestKernel};
use crate::counters::InfoPage;
use crate::deadline::Timer;
use crate::guests::{Guest, Share};
use crate::kernel::{Arenas, Kernel, Peer, Settings, UtcbPage};
use crate::queue::{Link, Queue};
use crate::remote::{Behind, RingMode};
use crate::ring::{Bells, Ring, SLOTS};
use crate::runqueue::RunQueue;
use crate::shootdown::TlbMode;
use crate::space::Space;
use crate::thread::{Cold, Tcb};
use core::sync::atomic::AtomicU64;
use skerry_abi::CpuId;
use skerry_mapping_db::{HwTable, MappingDb, Node, SpaceTables};
use std::sync::Arc;
use std::vec::Vec;

/// How much room the arenas of each kernel have.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) tables: usize,
    pub(super) nodes: usize,
    pub(super) spaces: usize,
    pub(super) threads: usize,
    pub(super) guests: usize,
    pub(super) utcb_pages: usize,
    pub(super) trace_pages: usize,
}

impl Sizes {
    /// Enough for everything.
    pub(super) const LARGE: Self = Self {
        tables: 256,
        nodes: 4096,
        spaces: 16,
        threads: 64,
        guests: 64,
        utcb_pages: 32,
        trace_pages: 0,
    };
}

/// The memory of one kernel.
struct Heap<'a> {
    tables: Vec<HwTable>,
    shadow: Vec<[u32; 512]>,
    nodes: Vec<Node>,
    space_tables: Vec<SpaceTables>,
    threads: Vec<Tcb>,
    cold: Vec<Cold>,
    timers: Vec<Timer>,
    members: Vec<Link>,
    spaces: Vec<Space>,
    guests: Vec<Guest>,
    shares: Vec<Share>,
    links: Vec<Link>,
    utcbs: Vec<UtcbPage>,
    utcb_links: Vec<Link>,
    cpus: Vec<RunQueue>,
    peers: Vec<Peer<'a>>,
    bells: Bells<'a>,
    info: Vec<InfoPage>,
    trace: Vec<skerry_trace::Page>,
}

const SETTINGS: Settings = Settings {
    counter_frequency: 62_500_000,
    cycle_clock: 0,
    tlb: TlbMode::Broadcast,
    rings: RingMode::Coherent,
    omitted: None,
};

/// Ring memory between kernels.
pub(super) struct Rings(Arc<Store>);

impl Rings {
    pub(super) fn new(clusters: usize) -> Self {
        Self(Store::new(clusters))
    }
    /// The bells of a cluster.
    pub(super) fn bells(&self, cluster: usize) -> Bells<'_> {
        Bells::new(self.0.memory(cluster, cluster)).expect("long enough")
    }
    /// The packets from one cluster to another.
    pub(super) fn between(&self, from: usize, to: usize) -> Ring<'_> {
        Ring::new(self.0.memory(from, to)).expect("long enough")
    }
    /// The same as cluster `me` sees it.
    fn seen_by(&self, me: usize, from: usize, to: usize) -> Ring<'_> {
        Ring::new(self.0.seen_by(me, from, to)).expect("long enough")
    }
}

/// The memory of all kernels of a machine.
pub(super) struct Memory<'a> {
    heaps: Vec<Heap<'a>>,
    store: Arc<Store>,
    cpus: usize,
}

impl<'a> Memory<'a> {
    pub(super) fn new(rings: &'a Rings, cpus: usize, sizes: Sizes) -> Self {
        Self::with_sizes(rings, cpus, |_| sizes)
    }

    /// With arenas of different sizes, by cluster.
    pub(super) fn with_sizes(rings: &'a Rings, cpus: usize, sizes: impl Fn(usize) -> Sizes) -> Self {
        fn fill<T>(count: usize, make: impl FnMut() -> T) -> Vec<T> {
            let mut make = make;
            (0..count).map(|_| make()).collect()
        }
        let clusters = rings.0.clusters();
        let heap = |me: usize, sizes: Sizes| Heap {
            tables: fill(sizes.tables, HwTable::default),
            shadow: fill(sizes.tables, || [0u32; 512]),
            nodes: fill(sizes.nodes, Node::default),
            space_tables: fill(sizes.spaces, SpaceTables::default),
            threads: fill(sizes.threads, || Tcb::FREE),
            cold: fill(sizes.threads, || Cold::FREE),
            timers: fill(sizes.threads, || Timer::IDLE),
            members: fill(sizes.threads, || Link::UNLINKED),
            spaces: fill(sizes.spaces, || Space::FREE),
            guests: fill(sizes.guests, || Guest::UNUSED),
            shares: fill(sizes.guests / 2, || Share::UNUSED),
            links: fill(sizes.threads + sizes.guests, || Link::UNLINKED),
            utcbs: fill(sizes.utcb_pages, || UtcbPage([const { [const { AtomicU64::new(0) }; 128] }; 4])),
            utcb_links: fill(sizes.utcb_pages, || Link::UNLINKED),
            cpus: (0..(clusters * cpus) as CpuId).map(RunQueue::new).collect(),
            bells: rings.bells(me),
            peers: (0..clusters)
                .map(|other| Peer {
                    inbound: (me != other).then(|| rings.seen_by(me, other, me)),
                    outbound: (me != other).then(|| rings.seen_by(me, me, other)),
                    bells: (me != other).then(|| rings.bells(other)),
                    waiting: Queue::EMPTY,
                    limit: SLOTS,
                    wants: false,
                    down: false,
                    told: 0,
                    behind: Behind::NOTHING,
                    doorbell: (other * cpus) as CpuId,
                })
                .collect(),
            info: fill(InfoPage::count(cpus), || InfoPage::ZERO),
            trace: fill(sizes.trace_pages, || skerry_trace::Page::ZERO),
        };
        let heaps = (0..clusters).map(|me| heap(me, sizes(me))).collect();
        Self { heaps, store: Arc::clone(&rings.0), cpus }
    }

    /// One kernel per cluster, without spaces and threads.
    pub(super) fn kernels(&'a mut self) -> Vec<TestKernel<'a>> {
        let (cpus, store) = (self.cpus, &self.store);
        let interrupts = Arc::default();
        self.heaps
            .iter_mut()
            .enumerate()
            .map(|(me, heap)| {
                let db = MappingDb::new(
                    &heap.tables,
                    0x1000_0000,
                    &mut heap.shadow,
                    &mut heap.nodes,
                    &mut heap.space_tables,
                );
                let arenas = Arenas {
                    db,
                    threads: &mut heap.threads,
                    cold: &mut heap.cold,
                    timers: &mut heap.timers,
                    members: &mut heap.members,
                    spaces: &mut heap.spaces,
                    guests: &mut heap.guests,
                    shares: &mut heap.shares,
                    links: &mut heap.links,
                    utcbs: &heap.utcbs,
                    utcbs_pa: 0x2000_0000,
                    utcb_links: &mut heap.utcb_links,
                    cpus: &mut heap.cpus,
                    peers: &mut heap.peers,
                    bells: heap.bells,
                    info: &heap.info,
                    info_pa: 0x3000_0000,
                    trace: &heap.trace,
                    trace_pa: 0x3800_0000,
                };
                let fake = Fake {
                    interrupts: Arc::clone(&interrupts),
                    rings: caching().map(|caching| (Arc::clone(store), me, caching.seed)),
                    ..Fake::default()
                };
                let rings = if caching().is_some() { RingMode::Maintained } else { RingMode::Coherent };
                let mut kernel = Kernel::new(
                    me as u16,
                    fake,
                    Settings { rings, omitted: super::omitted(), ..SETTINGS },
                    arenas,
                );
                (0..cpus).for_each(|cpu| kernel.add_cpu((me * cpus + cpu) as CpuId));
                kernel.enter((me * cpus) as CpuId);
                kernel
            })
            .collect()
    }
}
