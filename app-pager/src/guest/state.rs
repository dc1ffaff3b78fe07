//! What the threads of one pager share.

use core::sync::atomic::{AtomicU64, Ordering};

use app_pager::Memory;
use app_pager::board::{self, Board};
use app_pager::home::Homes;
use app_pager::options::Options;
use app_pager::pool::{Cursor, Pools};
use app_pager::protocols::effect::Me;
use app_pager::seat::Seats;
use app_pager::space::{self, Book};
use skerry_abi::boot::{BootInfo, MAX_CLUSTERS, MAX_CPUS, MAX_NODES, PoolRange};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::layout::USER_BITS;
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_ipc::{level, peer, syscall};
use skerry_rt::ipc::{Kernel, pause};
use skerry_rt::spin::{Guard, SetUp, TicketLock};
use skerry_rt::start::{self, ServerStart};
use skerry_rt::sys;

use super::memory::Physical;
use super::{audit, dead};

/// Tasks known here at a time.
pub(super) const MAX_TASKS: usize = 32;
/// Threads that wait for others to end.
pub(super) const MAX_JOINERS: usize = 64;
/// A notification to a pager thread: what it parked may go on.
pub(super) const WAKE: u64 = 1 << 63;
/// Likewise, and to the worker: there may be work that was left over, and somebody wants to know that it waits.
pub(super) const LOOK: u64 = 1 << 62;
/// How long a worker lets others run when the state is taken: 16 microseconds.
const PAUSE_TICKS: u64 = 1000;

/// A space of a task in this cluster.
#[derive(Clone, Copy)]
pub(super) struct SpaceRecord {
    pub(super) id: SpaceId,
    /// Physical address of its book.
    pub(super) book: u64,
}

/// A task known here.
pub(super) struct Task {
    /// Its domain; 0 for an unused entry.
    pub(super) id: u32,
    /// Physical address of its board.
    pub(super) board: u64,
    /// By node; with one space per task, entry 0 is the space.
    pub(super) spaces: [SpaceRecord; MAX_NODES],
    /// Books of spaces it had here that are still to be given back.
    pub(super) limbo: u32,
    /// It is over, since this ticket of [`super::grace`]; 0: it is not.
    pub(super) retired: u64,
}

impl Task {
    pub(super) const NONE: Self = Self {
        id: 0,
        board: 0,
        spaces: [SpaceRecord { id: SpaceId::NIL, book: 0 }; MAX_NODES],
        limbo: 0,
        retired: 0,
    };
}

/// In [`Joiner::number`]: the caller waits for the end of the task.
pub(super) const WHOLE_TASK: u32 = u32::MAX;

/// A caller that waits for the end of a thread of its task, or of another task.
#[derive(Clone, Copy)]
pub(super) struct Joiner {
    pub(super) caller: ThreadId,
    pub(super) task: u32,
    pub(super) number: u32,
}

/// The state behind the lock. The lock is never held across an IPC.
pub(super) struct State {
    /// By node: whose frames a thread there gets.
    pub(super) homes: [u16; MAX_NODES],
    pub(super) tasks: [Task; MAX_TASKS],
    pub(super) joiners: [Joiner; MAX_JOINERS],
    /// Entries of that which were ever used are below this.
    pub(super) joined: usize,
    /// Books of spaces that have been destroyed: see [`super::limbo`].
    pub(super) limbo: u64,
    /// The tasks whose home this is.
    pub(super) lives: Homes,
}

impl State {
    /// The task with this domain.
    pub(super) fn task(&mut self, id: u32) -> Result<&mut Task, Error> {
        self.record(id).filter(|task| task.retired == 0).ok_or(Error::Refused)
    }
    /// The same, also if it is over.
    pub(super) fn record(&mut self, id: u32) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| id != 0 && task.id == id)
    }
    /// Consecutive frames for threads on `node`; their contents are anything.
    pub(super) fn allocate(&self, node: u16, frames: u64) -> Option<u64> {
        let home = self.homes.get(usize::from(node)).copied().unwrap_or(u16::MAX);
        let base = POOLS.get()?.allocate(&PHYSICAL, home, frames);
        base.inspect(|&base| audit::taken(base, frames))
    }
}

/// The frames, set up before anybody serves.
pub(super) static POOLS: SetUp<Pools> = SetUp::new(Pools::new());

pub(super) static STATE: TicketLock<State> = TicketLock::new(State {
    homes: [u16::MAX; MAX_NODES],
    tasks: [const { Task::NONE }; MAX_TASKS],
    joined: 0,
    limbo: 0,
    lives: Homes::new(),
    joiners: [Joiner { caller: ThreadId::NIL, task: 0, number: 0 }; MAX_JOINERS],
});

/// Workers of other clusters, as far as somebody asked for them.
static WORKERS: [AtomicU64; MAX_CLUSTERS] = [const { AtomicU64::new(0) }; MAX_CLUSTERS];
/// Pager threads of all CPUs, likewise.
static PAGERS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// What a thread of the pager knows about itself.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) boot: &'static BootInfo,
    pub(super) start: &'static ServerStart,
    pub(super) options: Options<'static>,
    pub(super) cluster: u16,
    pub(super) cpu: u16,
    pub(super) node: u16,
    /// The system-call server's thread to use.
    pub(super) syscall: ThreadId,
    /// The root pager's thread on its CPU.
    pub(super) root: ThreadId,
    /// Whether this is the worker: it runs above the pager threads.
    pub(super) worker: bool,
    /// Whether it is more urgent than the pager threads.
    pub(super) urgent: bool,
    /// Its number among the threads of the pager.
    pub(super) rank: usize,
    /// How long letters are.
    pub(super) letter_words: usize,
}

impl Context {
    /// The shared state.
    pub(super) fn state(&self) -> Guard<'static, State> {
        if self.urgent { STATE.lock_with(|| pause(PAUSE_TICKS)) } else { STATE.lock() }
    }
    /// The system-call server of this cluster.
    pub(super) fn syscalls(&self) -> syscall::Client<Kernel<level::Worker>> {
        syscall::Client::new(Kernel::new(), self.syscall)
    }
    /// The worker of another cluster's pager.
    pub(super) fn worker_of(&self, cluster: u16) -> Result<ThreadId, Error> {
        let known = WORKERS.get(usize::from(cluster)).ok_or(Error::BadArgument)?;
        let id = known.load(Ordering::Relaxed);
        if id != 0 {
            return Ok(ThreadId(id));
        }
        if dead::is_dead(cluster) {
            return Err(Error::NodeDown);
        }
        let first_cpu = self.boot.clusters().get(usize::from(cluster)).ok_or(Error::BadArgument)?.first_cpu;
        let (_, worker) = super::root_server().lookup(first_cpu)?;
        known.store(worker.0, Ordering::Relaxed);
        Ok(worker)
    }
    /// Other pagers' workers, for a pager thread; the worker itself must not wait for them.
    pub(super) fn peer(&self, cluster: u16) -> Result<peer::Client<Kernel<level::Pager>>, Error> {
        if self.worker {
            return Err(Error::WrongState);
        }
        Ok(peer::Client::new(Kernel::new(), self.worker_of(cluster)?))
    }
    /// The pager thread of a CPU.
    pub(super) fn pager_of(&self, cpu: u16) -> Result<ThreadId, Error> {
        let known = PAGERS.get(usize::from(cpu)).ok_or(Error::BadArgument)?;
        let id = known.load(Ordering::Relaxed);
        if id != 0 {
            return Ok(ThreadId(id));
        }
        if dead::is_dead(self.cluster_of(cpu)?) {
            return Err(Error::NodeDown);
        }
        let (pager, _) = super::root_server().lookup(cpu)?;
        known.store(pager.0, Ordering::Relaxed);
        Ok(pager)
    }
    /// The pager of a cluster is no more: nothing is known of it.
    pub(super) fn forget_pager(&self, cluster: u16) {
        if let Some(worker) = WORKERS.get(usize::from(cluster)) {
            worker.store(0, Ordering::Relaxed);
        }
        for (cpu, pager) in self.boot.cpus().iter().zip(&PAGERS) {
            if cpu.cluster == cluster {
                pager.store(0, Ordering::Relaxed);
            }
        }
    }
    /// The cluster of a CPU.
    pub(super) fn cluster_of(&self, cpu: u16) -> Result<u16, Error> {
        self.boot.cpus().get(usize::from(cpu)).map(|cpu| cpu.cluster).ok_or(Error::BadArgument)
    }
    /// Wakes a pager thread, which looks for work that is left over.
    pub(super) fn wake_pager(&self) {
        if let Some(first) = self.start.cpus().first() {
            // It is a thread of this program, which stays.
            let _ = sys::notify(ThreadId(first.pager), LOOK);
        }
    }
    /// The node of a CPU.
    pub(super) fn node_of(&self, cpu: u16) -> Result<u16, Error> {
        self.boot.cpus().get(usize::from(cpu)).map(|cpu| cpu.node).ok_or(Error::BadArgument)
    }
    /// The places where tasks can have spaces.
    pub(super) const fn seats(&self) -> Seats {
        Seats { clusters: self.boot.cluster_count as u16, nodes: self.boot.node_count as u16 }
    }
    /// Who this pager is to the protocols when it acts for threads on `node`.
    pub(super) const fn me(&self, node: u16) -> Me {
        Me { node: self.seats().of(self.cluster, node), incarnation: self.start.incarnation as u16 }
    }
    /// What records call a page: tasks in the upper bits. Numbers of tasks far apart may fall together; a record only helps to
    /// find the page's entry, which then says whether it is the one.
    pub(super) const fn page_number(&self, task: u32, address: u64) -> u64 {
        (task as u64) << (USER_BITS - PAGE_BITS) | address >> PAGE_BITS
    }
    /// The frames, when they are set up.
    pub(super) fn pools(&self) -> Option<&'static Pools> {
        POOLS.get()
    }
    /// Whose frames a thread on `node` gets.
    fn home(&self, node: u16) -> u16 {
        self.state().homes.get(usize::from(node)).copied().unwrap_or(u16::MAX)
    }
    /// Consecutive frames for threads on `node`; their contents are anything.
    pub(super) fn allocate(&self, node: u16, frames: u64) -> Option<u64> {
        let base = self.pools()?.allocate(&Physical, self.home(node), frames);
        base.inspect(|&base| audit::taken(base, frames))
    }
    /// Words of frames for threads on `node`.
    pub(super) fn cursor(&self, node: u16) -> Option<Cursor> {
        self.pools()?.cursor(&PHYSICAL, self.home(node))
    }
    /// Whether a frame lies on a node that this pager serves threads of.
    pub(super) fn is_own_frame(&self, frame: u64) -> bool {
        self.lies_on(frame, self.node)
    }
    /// Whether a frame lies on a node.
    pub(super) fn lies_on(&self, frame: u64, node: u16) -> bool {
        self.memory_of(frame).is_some_and(|memory| memory.node == node)
    }
    /// The memory that a frame is in.
    pub(super) fn memory_of(&self, frame: u64) -> Option<PoolRange> {
        self.boot.memory().iter().find(|memory| memory.range.contains(frame)).copied()
    }
    /// Has the pager threads of this cluster look again at what they parked.
    pub(super) fn wake_node(&self) {
        for cpu in self.start.cpus() {
            // They are threads of this program, which stay.
            let _ = sys::notify(ThreadId(cpu.pager), WAKE);
        }
    }
    /// Bytes of a book here.
    pub(super) const fn book_bytes(&self) -> u64 {
        space::bytes(self.boot.node_count as usize)
    }
    /// The index of a node's space in [`Task::spaces`].
    pub(super) fn space_index(&self, node: u16) -> usize {
        match self.options.space {
            app_pager::options::TaskSpace::PerNode => usize::from(node) % MAX_NODES,
            app_pager::options::TaskSpace::One => 0,
        }
    }
    /// Cleared, consecutive frames for threads on `node`: at least `bytes` bytes.
    pub(super) fn cleared(&self, node: u16, bytes: u64) -> Result<u64, Error> {
        let frames = bytes.div_ceil(PAGE_SIZE);
        let address = self.allocate(node, frames).ok_or(Error::OutOfMemory)?;
        Physical.clear(address, frames * PAGE_SIZE);
        Ok(address)
    }
}

/// The board at an address that a pager allocated for one.
pub(super) fn board_at(address: u64) -> Result<Board<'static>, Error> {
    Board::new(Physical.words_at(address, board::WORDS)).ok_or(Error::BadArgument)
}

/// The book at an address that a pager allocated for one.
pub(super) fn book_at(address: u64) -> Result<Book<'static>, Error> {
    let nodes = start::boot_info().node_count as usize;
    Book::new(Physical.words_at(address, space::words(nodes))).ok_or(Error::BadArgument)
}

static PHYSICAL: Physical = Physical;

impl Physical {
    /// As [`Memory::words`]; physical memory lives as long as the pager.
    #[inline(always)]
    pub(super) fn words_at(&self, address: u64, count: usize) -> &'static [AtomicU64] {
        PHYSICAL.words(address, count)
    }
}
