//! Starting the servers of a cluster.

use core::fmt;

use root_pager::layout::{Layout, STACK_STRIDE, START_BYTES, Stack};
use skerry_abi::boot::{BootInfo, MAX_CLUSTERS, Range};
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

/// Starts the root workers, the system-call server and the app pager of `cluster`.
pub(crate) fn servers(boot: &'static BootInfo, cluster: u16) -> Result<(), Failure> {
    let (syscall, syscall_file) = image(boot, SYSCALL_SERVER)?;
    let (pager, pager_file) = image(boot, APP_PAGER)?;
    let mut taken = [Range::default(); MAX_CLUSTERS];
    for (other, taken) in (0..boot.cluster_count as u16).zip(&mut taken) {
        *taken = Layout::new(boot, other, &syscall, &pager).ok_or(Failure::NoRoom(other))?.taken;
    }
    let layout = Layout::new(boot, cluster, &syscall, &pager).ok_or(Failure::NoRoom(cluster))?;

    // The code of every server is replicated: each root pager loads it into frames of its own node.
    let mut frames = Taken::claim(layout.taken);
    load(&mut frames, layout.syscall, &syscall, syscall_file);
    load(&mut frames, layout.pager, &pager, pager_file);
    *SERVERS.lock() = Some(Servers { syscall, pager, layout, taken });

    let kernel = |what| move |error| Failure::Kernel(cluster, what, error);
    let cpus = || (0..boot.cpu_count as u16).filter(|&cpu| boot.cpus()[usize::from(cpu)].cluster == cluster);
    let syscall_space =
        sys::space_create(domain::SYSCALL_SERVER, true).map_err(kernel("space of the system-call server"))?;
    let pager_space =
        sys::space_create(domain::APP_PAGER, false).map_err(kernel("space of the app pager"))?;
    sys::grant_partner(syscall_space, ThreadId::root(0)).map_err(kernel("partner"))?;
    sys::grant_partner(pager_space, ThreadId::root(0)).map_err(kernel("partner"))?;

    let too_small = || Failure::NoRoom(cluster);
    let create = |space, cpu, pager, slot, priority, what| {
        sys::thread_create(space, cpu, pager, ThreadId::NIL, slot, priority).map_err(kernel(what))
    };
    let begin = |thread, entry, stack, argument, what| {
        sys::thread_start(thread, entry, layout.stack_top(stack), argument).map_err(kernel(what))
    };

    let start = frames.start_page(layout.start).ok_or_else(too_small)?;
    start.magic = SERVER_MAGIC;
    start.cluster = cluster.into();
    start.taken = taken;
    let touch = pager.parts().iter().map(|part| Range { base: part.va, size: part.pages * PAGE_SIZE });
    let fixed = [
        Range { base: START_BASE, size: START_BYTES },
        Range { base: BOOT_INFO_BASE, size: size_of::<BootInfo>() as u64 },
    ];
    start.own.iter_mut().zip(touch.chain(fixed)).for_each(|(own, range)| *own = range);

    let mut partners = [ThreadId::NIL; SYSCALL_PARTNERS];
    let mut first_root_worker = ThreadId::NIL;
    for (n, cpu) in cpus().enumerate() {
        let index = n as u64;
        let slot = n as u16;
        let what = "thread of the root pager";
        let root_space = SpaceId::root(cluster);
        let root = create(root_space, cpu, ThreadId::root(cluster), slot + 1, ROOT_PRIORITY, what)?;
        begin(root, worker::entry(), Stack::Root(index), WORKER, what)?;
        if n == 0 {
            first_root_worker = root;
        }

        let what = "thread of the system-call server";
        let server = create(syscall_space, cpu, root, slot, SYSCALL_PRIORITY, what)?;
        begin(server, syscall.entry, Stack::Syscall(index), 0, what)?;
        if let Some(partner) = partners.get_mut(n) {
            *partner = server;
            sys::grant_partner(pager_space, server).map_err(kernel("partner"))?;
        }

        let thread = create(pager_space, cpu, root, slot, PAGER_PRIORITY, "thread of the app pager")?;
        *start.cpus.get_mut(n).ok_or_else(too_small)? = ServerCpu {
            cpu: cpu.into(),
            pager: thread.0,
            stack: layout.stack_top(Stack::Pager(index)),
            syscall: partners[n % SYSCALL_PARTNERS].0,
        };
        start.cpu_count += 1;
    }

    let what = "worker of the app pager";
    let first_cpu = start.cpus[0].cpu as u16;
    let slot = start.cpu_count as u16;
    let worker = create(pager_space, first_cpu, first_root_worker, slot, WORKER_PRIORITY, what)?;
    start.worker = worker.0;
    start.worker_stack = layout.stack_top(Stack::Worker);
    let unmapper = "unmap worker of the app pager";
    let unmap_worker =
        create(pager_space, first_cpu, first_root_worker, slot + 1, UNMAPPER_PRIORITY, unmapper)?;
    start.unmapper = unmap_worker.0;
    start.unmapper_stack = layout.stack_top(Stack::Unmapper);
    start.stack_bytes = STACK_STRIDE - PAGE_SIZE;
    // The page is complete: from here on it is only read.
    let (count, cpu_table) = (start.cpu_count as usize, start.cpus);
    begin(worker, pager.entry, Stack::Worker, 0, what)?;
    begin(unmap_worker, pager.entry, Stack::Unmapper, 0, unmapper)?;
    for (n, cpu) in cpu_table[..count].iter().enumerate() {
        begin(ThreadId(cpu.pager), pager.entry, Stack::Pager(n as u64), 0, "thread of the app pager")?;
    }
    Ok(())
}
