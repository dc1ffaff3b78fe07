//! One cluster's kernel: its objects, and the events that enter it.

use crate::chores::Chores;
use crate::counters::{Counters, InfoPage};
use crate::deadline::Timer;
use crate::guests::{Guest, Guests, Share};
use crate::hal::Hal;
use crate::interrupt::Interrupts;
use crate::long::{self, Holder};
use crate::queue::{Link, Queue};
use crate::remote::{Behind, RingMode};
use crate::ring::{Bells, Ring};
use crate::runqueue::RunQueue;
use crate::shootdown::{Pending, TlbMode};
use crate::space::{NO_SPACE, Space, UTCBS_PER_PAGE};
use crate::thread::{Cold, Kind, Operation, State, Tcb, hold};
use crate::trace::Rings;
use crate::whereabouts::Hints;
use core::sync::atomic::AtomicU64;
use skerry_abi::layout::{INFO_PAGE_BASE, UTCB_SIZE};
use skerry_abi::syscall::exit;
use skerry_abi::{Counter, CpuId, Error, Rights, SpaceId, ThreadId};
use skerry_checks::{Check, passes};
use skerry_mapping_db::{Budget, MappingDb, Pinned};
use skerry_trace::Event as Traced;

/// A page of UTCBs: user programs write it at any time, so the kernel sees it as atomic words.
#[repr(C, align(4096))]
pub struct UtcbPage(pub [[AtomicU64; UTCB_SIZE as usize / 8]; UTCBS_PER_PAGE]);

/// Index of MR0 in a UTCB, in words (`skerry_abi::message::Utcb::mr`).
pub const UTCB_MR0: usize = 8;

/// The two rings to another cluster and the requests it has not answered.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// From there to here; `None` for this cluster itself.
    pub inbound: Option<Ring<'a>>,
    /// From here to there.
    pub outbound: Option<Ring<'a>>,
    /// Its bells; `None` for this cluster itself, and if the memory is not coherent.
    pub bells: Option<Bells<'a>>,
    /// Threads and guests on whose behalf a request waits for room.
    pub waiting: Queue,
    /// Requests that may be outstanding there at most: [`crate::ring::SLOTS`], or fewer in tests.
    pub limit: u64,
    /// It has been told that requests wait for room.
    pub wants: bool,
    /// It has said that it does not run any more.
    pub down: bool,
    /// Then: up to which slot those who wait for it have been told.
    pub told: u32,
    /// What its oldest request has to wait for.
    pub behind: Behind,
    /// The CPU that gets the doorbell.
    pub doorbell: CpuId,
}

/// What the kernel is told about machine and boot options.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Steps of [`Hal::now`] per second.
    pub counter_frequency: u64,
    /// [`skerry_abi::info::cycle_clock`].
    pub cycle_clock: u64,
    /// How other CPUs' TLBs are reached.
    pub tlb: TlbMode,
    /// What memory the rings are in.
    pub rings: RingMode,
    /// Which upkeep of rings that are not coherent is left out, so that a checker of such memory can be checked: place in
    /// [`skerry_abi::boot::UPKEEP`].
    pub omitted: Option<usize>,
}

/// The memory that the kernel's objects live in; every slice comes from the cluster's own heap.
pub struct Arenas<'a> {
    /// Page tables and map nodes.
    pub db: MappingDb<'a>,
    /// Thread slots.
    pub threads: &'a mut [Tcb],
    /// As many.
    pub cold: &'a mut [Cold],
    /// As many.
    pub timers: &'a mut [Timer],
    /// One link per thread: the lists of the threads of each space.
    pub members: &'a mut [Link],
    /// Space slots.
    pub spaces: &'a mut [Space],
    /// Threads of other clusters that wait for something here.
    pub guests: &'a mut [Guest],
    /// Half as many: who has what of the second half of them.
    pub shares: &'a mut [Share],
    /// One link per thread and per guest.
    pub links: &'a mut [Link],
    /// UTCB pages.
    pub utcbs: &'a [UtcbPage],
    /// Physical address of the first.
    pub utcbs_pa: u64,
    /// One link per UTCB page: their free list.
    pub utcb_links: &'a mut [Link],
    /// Run queues, indexed by the machine-wide CPU number.
    pub cpus: &'a mut [RunQueue],
    /// Indexed by cluster.
    pub peers: &'a mut [Peer<'a>],
    /// This cluster's bells.
    pub bells: Bells<'a>,
    /// The information pages ([`InfoPage::count`] of them), zeroed.
    pub info: &'a [InfoPage],
    /// Physical address of the first.
    pub info_pa: u64,
    /// Trace rings: [`crate::trace::RING_PAGES`] per CPU, or none.
    pub trace: &'a [skerry_trace::Page],
    /// Physical address of the first page.
    pub trace_pa: u64,
}

/// What a thread did to get here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// `svc #n`.
    Syscall(u16),
    /// An access that the page tables do not allow.
    PageFault {
        /// Where.
        address: u64,
        /// What.
        access: Rights,
        /// ESR_EL1.
        esr: u64,
    },
    /// Anything else synchronous.
    Exception {
        /// ESR_EL1.
        esr: u64,
        /// FAR_EL1.
        far: u64,
    },
    /// The timer.
    Tick,
    /// A software-generated interrupt: look around.
    Kick,
    /// The same from a CPU of this cluster, where that can be told: other clusters have nothing new.
    OwnKick,
    /// A device's interrupt.
    Interrupt(u32),
}

/// The kernel of one cluster. All of it is protected by the cluster lock.
pub struct Kernel<'a, H: Hal> {
    pub(crate) cluster: u16,
    pub(crate) this_cpu: CpuId,
    /// The machine.
    pub hal: H,
    /// Page tables and map nodes.
    pub db: MappingDb<'a>,
    pub(crate) threads: &'a mut [Tcb],
    pub(crate) cold: &'a mut [Cold],
    pub(crate) timers: &'a mut [Timer],
    pub(crate) members: &'a mut [Link],
    /// Free slots, linked through `links`.
    pub(crate) free_threads: Queue,
    /// Slots from here on were never used.
    pub(crate) used_threads: u32,
    /// The first free slot; the others hang on [`Space::next_free`].
    pub(crate) free_space: u16,
    pub(crate) chores: Chores,
    /// What this kernel entry may still do.
    pub(crate) budget: Budget,
    /// Who holds the mapping database.
    pub(crate) holder: Holder,
    /// Where threads of other clusters were met.
    pub(crate) hints: Hints,
    /// How many of them are here.
    pub(crate) immigrants: u32,
    pub(crate) spaces: &'a mut [Space],
    pub(crate) guests: Guests<'a>,
    pub(crate) links: &'a mut [Link],
    pub(crate) utcbs: &'a [UtcbPage],
    utcbs_pa: u64,
    utcb_links: &'a mut [Link],
    utcb_free: Queue,
    pub(crate) cpus: &'a mut [RunQueue],
    pub(crate) peers: &'a mut [Peer<'a>],
    pub(crate) bells: Bells<'a>,
    /// A privileged thread has stopped the cluster: see [`Kernel::park`].
    pub(crate) parked: bool,
    /// Packets from other clusters are for the general code: the cluster is parked, or there are too many others.
    pub(crate) no_short_way: bool,
    /// Whether the rings' memory is coherent.
    pub(crate) ring_mode: RingMode,
    /// The cluster whose packets have their turn first; not 0 also if rings are not coherent.
    pub(crate) turn: usize,
    /// Nothing new has come: what bells ring is known.
    pub(crate) knows_bells: bool,
    /// The cluster to which waiting requests are being sent.
    pub(crate) pumped: Option<usize>,
    /// What is left out for a test ([`Settings::omitted`]).
    pub(crate) omitted: Option<crate::remote::Upkeep>,
    /// What happened so far, CPU by CPU.
    pub counters: Counters<'a>,
    info: &'a [InfoPage],
    info_pa: u64,
    pub(crate) pending: Pending,
    pub(crate) interrupts: Interrupts,
    pub(crate) rings: Rings<'a>,
    pub(crate) tlb_mode: TlbMode,
}

impl<'a, H: Hal> Kernel<'a, H> {
    /// A kernel without threads and spaces.
    pub fn new(cluster: u16, hal: H, settings: Settings, arenas: Arenas<'a>) -> Self {
        let Arenas {
            db,
            threads,
            cold,
            timers,
            members,
            spaces,
            guests,
            shares,
            links,
            utcbs,
            utcbs_pa,
            utcb_links,
            cpus,
            peers,
            bells,
            info,
            info_pa,
            trace,
            trace_pa,
        } = arenas;
        let mut free_threads = Queue::EMPTY;
        for slot in 0..threads.len() {
            free_threads.push_back(links, slot as u32);
        }
        let last = spaces.len().saturating_sub(1);
        for (slot, space) in spaces.iter_mut().enumerate() {
            space.next_free = if slot == last { NO_SPACE } else { slot as u16 + 1 };
        }
        let free_space = if spaces.is_empty() { NO_SPACE } else { 0 };
        let mut utcb_free = Queue::EMPTY;
        for page in 0..utcbs.len().min(utcb_links.len()) {
            utcb_free.push_back(utcb_links, page as u32);
        }
        let maintained = settings.rings == RingMode::Maintained;
        let no_short_way = peers.len() > 64 || maintained;
        let turn = if maintained { peers.len() } else { 0 };
        if maintained {
            // Nobody else's bells can be rung there.
            peers.iter_mut().for_each(|peer| peer.bells = None);
        }
        Self {
            cluster,
            this_cpu: 0,
            hal,
            db,
            threads,
            cold,
            timers,
            members,
            free_threads,
            used_threads: 0,
            free_space,
            chores: Chores::NONE,
            budget: long::ENTRY,
            holder: Holder::Nobody,
            hints: Hints::EMPTY,
            immigrants: 0,
            spaces,
            guests: Guests::new(guests, shares),
            links,
            utcbs,
            utcbs_pa,
            utcb_links,
            utcb_free,
            cpus,
            peers,
            bells,
            parked: false,
            no_short_way,
            ring_mode: settings.rings,
            turn,
            knows_bells: false,
            pumped: None,
            omitted: settings.omitted.and_then(|place| crate::remote::Upkeep::ALL.get(place).copied()),
            counters: Counters::new(info, cluster, settings.counter_frequency, settings.cycle_clock),
            info,
            info_pa,
            pending: Pending::NONE,
            interrupts: Interrupts::NONE,
            rings: Rings::new(trace, trace_pa),
            tlb_mode: settings.tlb,
        }
    }

    /// Says which CPU runs the kernel now (the one that just took the cluster lock).
    pub fn enter(&mut self, cpu: CpuId) {
        if cpu != self.this_cpu {
            self.this_cpu = cpu;
            let local = self.cpus[usize::from(cpu)].local;
            self.counters.here = self.counters.block(local);
            self.rings.enter(local);
        }
    }

    /// Names a CPU of the cluster. It may come up later: threads wait for it in its run queue.
    pub fn add_cpu(&mut self, cpu: CpuId) {
        let queue = &mut self.cpus[usize::from(cpu)];
        queue.ours = true;
        queue.local = self.counters.add_cpu(cpu);
        let local = queue.local;
        if self.rings.is_on() {
            queue.refuse_fast_paths();
        }
        self.counters.set_trace_ring(self.trace_ring());
        if local == 0 {
            // Every cluster has a first CPU, so `this_cpu` and `counters.here` belong together from now on.
            self.this_cpu = cpu;
            self.counters.here = self.counters.block(0);
            self.rings.enter(0);
        }
    }

    /// Which cluster's kernel this is.
    #[inline(always)]
    pub fn cluster(&self) -> u16 {
        self.cluster
    }
    /// The thread that runs on this CPU, unless it was deleted meanwhile.
    pub fn current(&self) -> Option<u32> {
        self.cpus[usize::from(self.this_cpu)].current().filter(|&t| !self.threads[t as usize].doomed)
    }
    /// The live thread with this id, if it is of this cluster.
    pub fn find_thread(&self, id: ThreadId) -> Option<u32> {
        self.find(id)
    }

    /// The thread with this id whose registers are loaded on this CPU, if it is still there.
    #[inline(always)]
    pub fn loaded_thread(&mut self, id: ThreadId) -> Option<&mut Tcb> {
        let current = self.cpus[usize::from(self.this_cpu)].current();
        let t = match current.filter(|&t| self.threads[t as usize].id == id) {
            Some(t) => t,
            None => self.find(id)?,
        };
        self.threads.get_mut(t as usize)
    }

    /// A thread's control block.
    pub fn thread(&self, t: u32) -> &Tcb {
        &self.threads[t as usize]
    }
    /// A thread's control block.
    pub fn thread_mut(&mut self, t: u32) -> &mut Tcb {
        &mut self.threads[t as usize]
    }
    /// Physical address of the root table of a space.
    pub fn root_table(&self, space: u16) -> u64 {
        self.db.root_table(space)
    }

    /// Physical address of a root table that maps nothing.
    pub fn empty_table(&self) -> u64 {
        self.db.root_table(u16::MAX)
    }

    /// Something happened on this CPU. Afterwards, [`Kernel::pick`] says who goes on.
    #[inline(always)]
    pub fn handle(&mut self, event: Event) {
        self.budget = long::ENTRY;
        match event {
            Event::Tick => self.tick(),
            Event::Kick => self.poll_rings(),
            Event::OwnKick => self.poll_on(),
            Event::Interrupt(irq) => self.device_interrupt(irq),
            Event::Syscall(number) => {
                let t = self.running();
                self.syscall(t, number);
            }
            Event::PageFault { address, access, esr } => {
                let t = self.running();
                self.page_fault(t, address, access, esr);
            }
            Event::Exception { esr, far } => {
                let t = self.running();
                self.raise(t, Kind::Exception { esr, far });
            }
        }
        self.publish_free();
    }

    /// The thread that runs on this CPU and has done something.
    #[inline(always)]
    pub(crate) fn running(&mut self) -> u32 {
        let current = self.cpus[usize::from(self.this_cpu)].current();
        current.unwrap_or_else(|| self.nobody())
    }

    #[cold]
    fn nobody(&mut self) -> ! {
        self.hal.fatal(exit::KERNEL_PANIC, format_args!("an exception without a running thread"))
    }

    #[inline(never)]
    fn page_fault(&mut self, t: u32, address: u64, access: Rights, esr: u64) {
        let space = self.threads[t as usize].space;
        if self.db.check(space, address, access) {
            self.counters.count(Counter::SpuriousFaults);
            // This TLB may hold the entry as it was when the access failed.
            self.hal.invalidate_page(Space::asid(space), address, false);
            self.hal.sync(false);
        } else {
            self.counters.count(Counter::Faults);
            self.trace(|k| Traced::Fault { thread: k.threads[t as usize].id, address, access });
            self.raise(t, Kind::Fault { address, access, esr });
        }
    }

    /// Brings the information page up to date.
    #[inline]
    pub(crate) fn publish_free(&self) {
        let free = self.db.stats();
        self.counters.set_free(free.free_tables, free.free_nodes);
    }

    /// The information pages, which every space has.
    pub(crate) fn info_pages(&self) -> Pinned {
        Pinned { va: INFO_PAGE_BASE, pa: self.info_pa, pages: self.info.len() as u64 }
    }

    /// Sends a fault or an exception in a thread's name.
    #[inline(never)]
    pub(crate) fn raise(&mut self, t: u32, kind: Kind) {
        let thread = &mut self.threads[t as usize];
        if thread.hold & (hold::MOVING | hold::CANCELLED) != 0 {
            if thread.hold & hold::MOVING != 0 {
                // It happens again where the thread is going.
                return self.make_ready(t);
            }
            self.tell_cancellers(t, Ok(()));
        }
        let thread = &mut self.threads[t as usize];
        let to = match kind {
            Kind::Fault { .. } => thread.pager,
            _ => {
                self.counters.count(Counter::Exceptions);
                thread.handler
            }
        };
        thread.op = Operation::kernel_call(kind, to);
        let (id, space, pc) = (thread.id, thread.space, thread.context.pc);
        if !to.is_nil() {
            self.start_ipc(t);
        } else if self.spaces[usize::from(space)].privileged {
            self.hal.fatal(exit::SERVER_FAULT, format_args!("root pager {id:?}: {kind:x?} at {pc:#x}"));
        } else {
            self.threads[t as usize].state = State::Halted;
        }
    }

    /// The slot of a live space of this cluster.
    pub(crate) fn find_space(&self, id: SpaceId) -> Option<u16> {
        let space = self.spaces.get(usize::from(id.slot()))?;
        (passes(Check::SpaceGeneration, space.id == id) && space.live).then_some(id.slot())
    }

    /// The slot of a live space of this cluster whose end has not begun.
    ///
    /// # Errors
    /// [`Error::NoSuchSpace`].
    pub(crate) fn usable_space(&self, id: SpaceId) -> Result<u16, Error> {
        let slot = self.find_space(id).filter(|&slot| !self.spaces[usize::from(slot)].ending);
        slot.ok_or(Error::NoSuchSpace)
    }

    /// Takes a UTCB page from the arena.
    pub(crate) fn alloc_utcb_page(&mut self) -> Result<u32, Error> {
        let page = self.utcb_free.pop_front(self.utcb_links).ok_or(Error::OutOfKernelMemory)?;
        self.hal.zero_words(self.utcbs[page as usize].0.as_flattened());
        Ok(page)
    }
    /// Gives a UTCB page back.
    pub(crate) fn free_utcb_page(&mut self, page: u32) {
        self.utcb_free.push_back(self.utcb_links, page);
    }
    /// Physical address of a UTCB page.
    pub(crate) fn utcb_pa(&self, page: u32) -> u64 {
        self.utcbs_pa + u64::from(page) * size_of::<UtcbPage>() as u64
    }
    /// The UTCB of this slot of a space, in an arena page.
    #[inline(always)]
    pub(crate) fn utcb_at(&self, page: u32, slot: u16) -> &'a [AtomicU64; UTCB_SIZE as usize / 8] {
        &self.utcbs[page as usize].0[usize::from(slot) % UTCBS_PER_PAGE]
    }
    /// A thread's UTCB.
    pub(crate) fn utcb(&self, t: u32) -> &'a [AtomicU64] {
        self.threads[t as usize].utcb(self.utcbs)
    }
}
