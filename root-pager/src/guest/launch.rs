//! Starting the servers of a cluster.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use root_pager::layout::{Layout, STACK_STRIDE, START_BYTES, Stack};
use skerry_abi::boot::{BootInfo, MAX_CLUSTERS, MAX_CPUS, Range};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain;
use skerry_abi::layout::BOOT_INFO_BASE;
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_rt::image::{Image, ImageError};
use skerry_rt::spin::TicketLock;
use skerry_rt::start::{SERVER_MAGIC, START_BASE, ServerCpu};
use skerry_rt::sys;

use super::memory::{Taken, archive_bytes};
use super::worker;

/// In the argument of a thread of the root pager: it is a worker.
pub(crate) const WORKER: u64 = 1 << 32;

/// Names of the servers in the archive.
const SYSCALL_SERVER: &str = "syscall-server";
const APP_PAGER: &str = "app-pager";

/// Priorities. A server runs above its clients, so that a client never waits behind another client.
const ROOT_PRIORITY: u8 = 220;
const SYSCALL_PRIORITY: u8 = 215;
const UNMAPPER_PRIORITY: u8 = 212;
const WORKER_PRIORITY: u8 = 210;
/// It shares locks with pager threads, which therefore must not be more urgent.
const UNDERTAKER_PRIORITY: u8 = 205;
const PAGER_PRIORITY: u8 = 200;

/// Threads of the system-call server that the app pager may send to: what the kernel's list of partners holds, less the root
/// pager and one to spare. On clusters with more CPUs, several pager threads share one.
const SYSCALL_PARTNERS: usize = 6;

/// Why the servers cannot be started.
#[derive(Debug)]
pub(crate) enum Failure {
    Missing(&'static str),
    Image(&'static str, ImageError),
    NoRoom(u16),
    Kernel(u16, &'static str, Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "module {name} is missing in the archive"),
            Self::Image(name, error) => write!(f, "module {name}: {error}"),
            Self::NoRoom(cluster) => write!(f, "cluster {cluster}: its pool is too small for the servers"),
            Self::Kernel(cluster, what, error) => write!(f, "cluster {cluster}: {what}: {error}"),
        }
    }
}

/// What the workers need to answer faults; complete before the first server thread runs.
pub(crate) struct Servers {
    pub(crate) syscall: Image,
    pub(crate) pager: Image,
    pub(crate) layout: Layout,
    pub(crate) taken: [Range; MAX_CLUSTERS],
}

/// Set once by [`servers`].
pub(crate) static SERVERS: TicketLock<Option<Servers>> = TicketLock::new(None);

fn image(boot: &'static BootInfo, name: &'static str) -> Result<(Image, &'static [u8]), Failure> {
    let module = boot.module(name).ok_or(Failure::Missing(name))?;
    let file = archive_bytes(boot, module.range);
    Ok((Image::parse(file).map_err(|error| Failure::Image(name, error))?, file))
}

/// Copies a program into frames, its parts one behind the other; the frames are clear.
fn load(taken: &mut Taken, frames: u64, image: &Image, file: &[u8]) {
    let mut frame = frames;
    for part in image.parts() {
        // `Image::parse` has checked that the bytes lie in the file.
        let bytes = &file[part.file_offset as usize..][..part.file_bytes as usize];
        taken.write(frame + part.skip, bytes);
        frame += part.pages * PAGE_SIZE;
    }
    sys::sync_code(frames, image.pages() * PAGE_SIZE);
}

/// What an app pager is started with, in every life.
struct Staff {
    /// The root worker and the thread of the system-call server for each CPU of the cluster, with the CPU.
    cpus: [(u16, ThreadId, ThreadId); MAX_CPUS],
    count: usize,
}

static STAFF: TicketLock<Staff> =
    TicketLock::new(Staff { cpus: [(0, ThreadId::NIL, ThreadId::NIL); MAX_CPUS], count: 0 });

/// The space of the app pager.
static PAGER_SPACE: AtomicU64 = AtomicU64::new(0);

/// Threads of the app pager.
#[derive(Clone, Copy)]
pub(crate) struct Threads {
    /// Of the first CPU.
    pub(crate) pager: ThreadId,
    pub(crate) worker: ThreadId,
    pub(crate) unmapper: ThreadId,
}

static THREADS: TicketLock<Threads> =
    TicketLock::new(Threads { pager: ThreadId::NIL, worker: ThreadId::NIL, unmapper: ThreadId::NIL });

/// The threads of this cluster's app pager.
pub(crate) fn threads() -> Threads {
    *THREADS.lock()
}

/// The space of this cluster's app pager.
pub(crate) fn pager_space() -> SpaceId {
    SpaceId(PAGER_SPACE.load(Ordering::Relaxed))
}

/// The threads of the system-call server that app pagers send to.
pub(crate) fn syscall_servers() -> impl Iterator<Item = ThreadId> {
    let count = STAFF.lock().count.min(SYSCALL_PARTNERS);
    (0..count).map(|n| STAFF.lock().cpus[n].2)
}

fn kernel(cluster: u16, what: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::Kernel(cluster, what, error)
}

/// Starts the root workers, the system-call server and the app pager of `cluster`.
pub(crate) fn servers(boot: &'static BootInfo, cluster: u16) -> Result<(), Failure> {
    let (syscall, syscall_file) = image(boot, SYSCALL_SERVER)?;
    let (pager, _) = image(boot, APP_PAGER)?;
    let mut taken = [Range::default(); MAX_CLUSTERS];
    for (other, taken) in (0..boot.cluster_count as u16).zip(&mut taken) {
        *taken = Layout::new(boot, other, &syscall, &pager).ok_or(Failure::NoRoom(other))?.taken;
    }
    let layout = Layout::new(boot, cluster, &syscall, &pager).ok_or(Failure::NoRoom(cluster))?;

    // The code of every server is replicated: each root pager loads it into frames of its own node.
    let mut frames = Taken::claim(layout.taken);
    load(&mut frames, layout.syscall, &syscall, syscall_file);
    *SERVERS.lock() = Some(Servers { syscall, pager, layout, taken });

    let kernel = |what| kernel(cluster, what);
    let cpus = || (0..boot.cpu_count as u16).filter(|&cpu| boot.cpus()[usize::from(cpu)].cluster == cluster);
    let root_space = SpaceId::root(cluster);
    let syscall_space =
        sys::space_create(domain::SYSCALL_SERVER, true).map_err(kernel("space of the system-call server"))?;
    sys::grant_partner(syscall_space, ThreadId::root(0)).map_err(kernel("partner"))?;
    for (n, cpu) in cpus().enumerate() {
        let what = "thread of the root pager";
        let root = sys::thread_create(
            root_space,
            cpu,
            ThreadId::root(cluster),
            ThreadId::NIL,
            n as u16 + 1,
            ROOT_PRIORITY,
        )
        .map_err(kernel(what))?;
        sys::thread_start(root, worker::entry(), layout.stack_top(Stack::Root(n as u64)), WORKER | n as u64)
            .map_err(kernel(what))?;

        let what = "thread of the system-call server";
        let server = sys::thread_create(syscall_space, cpu, root, ThreadId::NIL, n as u16, SYSCALL_PRIORITY)
            .map_err(kernel(what))?;
        sys::thread_start(server, syscall.entry, layout.stack_top(Stack::Syscall(n as u64)), 0)
            .map_err(kernel(what))?;
        if n < SYSCALL_PARTNERS {
            // To be told when the pager is gone.
            sys::grant_partner(root_space, server).map_err(kernel("partner"))?;
        }
        let mut staff = STAFF.lock();
        *staff.cpus.get_mut(n).ok_or(Failure::NoRoom(cluster))? = (cpu, root, server);
        staff.count = n + 1;
    }
    app_pager(boot, cluster, 1)
}

/// Starts the app pager of `cluster` for the first time, or again after its space has been destroyed.
pub(crate) fn app_pager(boot: &'static BootInfo, cluster: u16, incarnation: u16) -> Result<(), Failure> {
    let (pager, file) = image(boot, APP_PAGER)?;
    // Stacks are small: large tables stay where they are.
    let layout = SERVERS.lock().as_ref().map(|servers| servers.layout).ok_or(Failure::NoRoom(cluster))?;
    let kernel = |what| kernel(cluster, what);
    let too_small = || Failure::NoRoom(cluster);
    let mut frames = Taken::claim(layout.pager_frames());
    load(&mut frames, layout.pager, &pager, file);
    let space = sys::space_create(domain::APP_PAGER, false).map_err(kernel("space of the app pager"))?;
    PAGER_SPACE.store(space.0, Ordering::Relaxed);
    sys::grant_partner(space, ThreadId::root(0)).map_err(kernel("partner"))?;

    let start = frames.start_page(layout.start).ok_or_else(too_small)?;
    start.magic = SERVER_MAGIC;
    start.cluster = cluster.into();
    start.incarnation = incarnation.into();
    if let Some(servers) = SERVERS.lock().as_ref() {
        start.taken = servers.taken;
    }
    let touch = pager.parts().iter().map(|part| Range { base: part.va, size: part.pages * PAGE_SIZE });
    let fixed = [
        Range { base: START_BASE, size: START_BYTES },
        Range { base: BOOT_INFO_BASE, size: size_of::<BootInfo>() as u64 },
    ];
    start.own.iter_mut().zip(touch.chain(fixed)).for_each(|(own, range)| *own = range);

    let count = STAFF.lock().count;
    let member = |n: usize| STAFF.lock().cpus.get(n).copied().unwrap_or_default();
    let create = |cpu, pager, slot, priority, what| {
        sys::thread_create(space, cpu, pager, ThreadId::NIL, slot, priority).map_err(kernel(what))
    };
    for n in 0..count {
        let (cpu, root, server) = member(n);
        if n < SYSCALL_PARTNERS {
            sys::grant_partner(space, server).map_err(kernel("partner"))?;
        }
        let thread = create(cpu, root, n as u16, PAGER_PRIORITY, "thread of the app pager")?;
        start.cpus[n] = ServerCpu {
            cpu: cpu.into(),
            pager: thread.0,
            stack: layout.stack_top(Stack::Pager(n as u64)),
            syscall: member(n % SYSCALL_PARTNERS.min(count)).2.0,
            root: root.0,
        };
    }
    start.cpu_count = count as u64;
    let (first_cpu, first_root, _) = member(0);
    let others = [
        ("worker of the app pager", WORKER_PRIORITY, Stack::Worker),
        ("unmap worker of the app pager", UNMAPPER_PRIORITY, Stack::Unmapper),
        ("undertaker of the app pager", UNDERTAKER_PRIORITY, Stack::Undertaker),
    ];
    let mut threads = [ThreadId::NIL; 3];
    for ((n, thread), (what, priority, _)) in (count..).zip(&mut threads).zip(others) {
        *thread = create(first_cpu, first_root, n as u16, priority, what)?;
    }
    [start.worker, start.unmapper, start.undertaker] = threads.map(|thread| thread.0);
    [start.worker_stack, start.unmapper_stack, start.undertaker_stack] =
        others.map(|(.., stack)| layout.stack_top(stack));
    start.stack_bytes = STACK_STRIDE - PAGE_SIZE;
    let [worker, unmapper, _] = threads;
    *THREADS.lock() = Threads { pager: ThreadId(start.cpus[0].pager), worker, unmapper };
    if boot.option("unmap") == Some("root") {
        // In the place of that of an earlier life, if there have been many.
        sys::grant_partner(SpaceId::root(cluster), unmapper).map_err(kernel("partner"))?;
    }
    // The page is complete: from here on it is only read.
    for (thread, (what, _, stack)) in threads.into_iter().zip(others) {
        sys::thread_start(thread, pager.entry, layout.stack_top(stack), 0).map_err(kernel(what))?;
    }
    for n in 0..count {
        let what = "thread of the app pager";
        let thread = ThreadId(start.cpus[n].pager);
        let stack = layout.stack_top(Stack::Pager(n as u64));
        sys::thread_start(thread, pager.entry, stack, 0).map_err(kernel(what))?;
    }
    Ok(())
}
