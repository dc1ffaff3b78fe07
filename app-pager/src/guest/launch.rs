//! Starting tasks: the one that the command line names, and those that other tasks start.

use core::sync::atomic::{AtomicU64, Ordering};

use app_pager::board::{self, Region};
use app_pager::options::MasterChoice;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights, ThreadId};
use skerry_ipc::Chunk;
use skerry_ipc::pager::{ANY_CPU, Birth, MAY_BALANCE, MAY_START, RegionKind};
use skerry_rt::image::Image;
use skerry_rt::start::{APP_MAGIC, AppCpu, AppStart, MAX_ARGUMENTS, START_BASE};

use super::memory::{app_start, archive_bytes};
use super::moves::{self, Begin, Known};
use super::state::{Context, board_at};
use super::{end_run, life, task};

/// The stack of the first thread ends here; below it nothing is mapped.
const STACK_END: u64 = 0x3a20_0000;
const STACK_BYTES: u64 = 256 * 1024;
/// Bytes of a task's start page, in whole pages.
pub(super) const START_BYTES: u64 = (size_of::<AppStart>() as u64).next_multiple_of(PAGE_SIZE);

/// Starts the first task on this thread's CPU; what goes wrong ends the run.
pub(super) fn first(context: &Context) {
    let name = context.options.app;
    let Some(module) = context.boot.module(name) else {
        end_run(exit::BAD_BOOT, format_args!("app {name} is not in the archive"))
    };
    if let Err(error) = Image::parse(archive_bytes(context.boot, module.range)) {
        end_run(exit::BAD_BOOT, format_args!("app {name}: {error}"))
    }
    let birth = Birth { parent: 0, cpu: context.cpu, flags: MAY_START };
    match start(context, birth, 0, name, context.boot.app_arguments().as_bytes()) {
        Ok(_) if context.options.balance => balancer(context),
        Ok(_) => {}
        Err(Error::OutOfMemory) => {
            end_run(exit::OUT_OF_MEMORY, format_args!("node {}: no memory to start {name}", context.node))
        }
        Err(error) => end_run(exit::SERVER_FAULT, format_args!("app {name} cannot be started: {error}")),
    }
}

/// Name of the load balancer in the archive.
const BALANCER: &str = "load-balancer";

/// Starts the load balancer: behind the first task, whose number says that it is the first.
fn balancer(context: &Context) {
    let birth = Birth { parent: 0, cpu: context.cpu, flags: MAY_BALANCE };
    if let Err(error) = start(context, birth, 0, BALANCER, &[]) {
        end_run(exit::BAD_BOOT, format_args!("{BALANCER} cannot be started: {error}"))
    }
}

/// Where a task of `birth` begins.
pub(super) fn choose_cpu(context: &Context, birth: Birth) -> Result<u16, Error> {
    static TURN: AtomicU64 = AtomicU64::new(0);
    match (birth.cpu, context.options.master) {
        (ANY_CPU, MasterChoice::Creator) => Ok(context.cpu),
        (ANY_CPU, MasterChoice::RoundRobin) => {
            let clusters = context.boot.clusters();
            let turn = TURN.fetch_add(1, Ordering::Relaxed) as usize % clusters.len().max(1);
            clusters.get(turn).map(|cluster| cluster.first_cpu).ok_or(Error::BadArgument)
        }
        (cpu, _) => context.node_of(cpu).map(|_| cpu),
    }
}

/// Starts a task with its home here, on behalf of another one. `command` is a module's name and arguments.
pub(super) fn command(context: &Context, birth: Birth, quota: u64, command: &Chunk) -> Result<u32, Error> {
    let bytes = command.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b' ').unwrap_or(bytes.len());
    let name = core::str::from_utf8(&bytes[..end]).map_err(|_| Error::BadArgument)?;
    start(context, birth, quota, name, bytes.get(end + 1..).unwrap_or_default())
}

/// Starts a program of the archive as a task on a CPU of this cluster.
fn start(context: &Context, birth: Birth, quota: u64, name: &str, arguments: &[u8]) -> Result<u32, Error> {
    let module = context.boot.module(name).ok_or(Error::BadArgument)?;
    let image = Image::parse(archive_bytes(context.boot, module.range)).map_err(|_| Error::BadArgument)?;
    let address = context.cleared(context.node, board::BYTES)?;
    let added = context.state().lives.add(birth.parent, address, context.cluster, context.boot.cluster_count);
    let id = added.inspect_err(|_| context.give_back(address, board::BYTES))?;
    let view = board_at(address)?;
    view.roll().init(context.cluster, birth.parent, birth.flags.into(), quota);
    let task = Known { id, board: address, view };
    match prepare(context, task, birth.cpu, module.range.base, &image, arguments) {
        Ok(()) => Ok(id),
        Err(error) => {
            abandon(context, task);
            Err(error)
        }
    }
}

/// Gives back what a task has that could not be started.
fn abandon(context: &Context, task: Known) {
    let destroyed = task::destroy_spaces(context, task.id);
    if destroyed != Err(Error::Refused) {
        life::complain(context, task.id, "its space cannot be destroyed", destroyed);
    }
    context.state().lives.abandon(task.id);
    life::more_work(context);
}

fn prepare(
    context: &Context,
    task: Known,
    cpu: u16,
    file: u64,
    image: &Image,
    arguments: &[u8],
) -> Result<(), Error> {
    let Known { id, board, view } = task;
    task::adopt(context, id, board)?;
    for part in image.parts() {
        // What cannot be written is replicated: one copy per node.
        let kind = if part.rights.contains(Rights::W) { RegionKind::Global } else { RegionKind::ReadOnly };
        task::add_region(
            context,
            id,
            Region {
                base: part.va,
                size: part.pages * PAGE_SIZE,
                kind,
                rights: part.rights,
                // A program may change itself, page by page, if it says so before.
                most: Rights::from_bits(part.rights.bits() | Rights::W.bits()),
                source: file + part.file_offset,
                skip: part.skip,
                bytes: part.file_bytes,
                ..Region::NONE
            },
        )?;
    }
    let start = start_page(context, task, arguments)?;
    let fixed = |base, size, kind, rights, source, bytes| Region {
        base,
        size,
        kind,
        rights,
        most: rights,
        source,
        bytes,
        ..Region::NONE
    };
    task::add_region(
        context,
        id,
        fixed(START_BASE, START_BYTES, RegionKind::ReadOnly, Rights::R, start, START_BYTES),
    )?;
    let stack = STACK_END - STACK_BYTES;
    task::add_region(context, id, fixed(stack, STACK_BYTES, RegionKind::Global, Rights::RW, 0, 0))?;
    task::make_space(context, id, board, cpu)?;
    let number = view.roll().new_thread()?;
    let begin = Begin { entry: image.entry, stack: STACK_END, argument: START_BASE };
    task::create_thread(context, id, number, cpu, begin)?;
    if let Some(end) = view.roll().settle(number) {
        // It has called exit already; its end is to be brought about.
        moves::finish(context, task, number, end);
    }
    Ok(())
}

fn start_page(context: &Context, task: Known, arguments: &[u8]) -> Result<u64, Error> {
    let roll = task.view.roll();
    let address = context.cleared_for((task.id, &roll), context.node, START_BASE, START_BYTES)?;
    // From now on it is given back with the task.
    roll.set_start(address);
    let start = app_start(address);
    let length = arguments.len().min(MAX_ARGUMENTS);
    start.magic = APP_MAGIC;
    start.cpu_count = context.boot.cpus().len() as u64;
    start.node_count = context.boot.node_count.into();
    start.argument_bytes = length as u64;
    start.arguments[..length].copy_from_slice(&arguments[..length]);
    for (cpu, (entry, known)) in start.cpus.iter_mut().zip(context.boot.cpus()).enumerate() {
        // One that is dead is entered when its next life has begun.
        let pager = context.pager_of(cpu as u16);
        let pager = if pager == Err(Error::NodeDown) { ThreadId::NIL } else { pager? };
        *entry = AppCpu { pager: pager.0, node: known.node.into() };
    }
    Ok(address)
}
