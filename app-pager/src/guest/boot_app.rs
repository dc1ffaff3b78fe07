//! Starting the application that the command line names.

use app_pager::board::{self, Region};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights};
use skerry_ipc::pager::RegionKind;
use skerry_rt::image::Image;
use skerry_rt::start::{APP_MAGIC, AppCpu, AppStart, MAX_ARGUMENTS, START_BASE};

use super::memory::{app_start, archive_bytes};
use super::state::{Context, board_at};
use super::{end_run, root_server, task};

/// The stack of the first thread ends here; below it nothing is mapped.
const STACK_END: u64 = 0x3a20_0000;
const STACK_BYTES: u64 = 256 * 1024;
const START_BYTES: u64 = (size_of::<AppStart>() as u64).next_multiple_of(PAGE_SIZE);

/// Starts it on this thread's CPU; what goes wrong ends the run.
pub(super) fn start(context: &Context) {
    let name = context.options.app;
    let Some(module) = context.boot.module(name) else {
        end_run(exit::BAD_BOOT, format_args!("app {name} is not in the archive"))
    };
    let image = match Image::parse(archive_bytes(context.boot, module.range)) {
        Ok(image) => image,
        Err(error) => end_run(exit::BAD_BOOT, format_args!("app {name}: {error}")),
    };
    match prepare(context, module.range.base, &image) {
        Ok(()) => {}
        Err(Error::OutOfMemory) => {
            end_run(exit::OUT_OF_MEMORY, format_args!("node {}: no memory to start {name}", context.node))
        }
        Err(error) => end_run(exit::SERVER_FAULT, format_args!("app {name} cannot be started: {error}")),
    }
}

fn prepare(context: &Context, file: u64, image: &Image) -> Result<(), Error> {
    let id = domain::FIRST_TASK;
    let board = context.cleared(context.node, board::BYTES)?;
    board_at(board)?.init(context.cluster);
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
                measured: false,
                rights: part.rights,
                source: file + part.file_offset,
                skip: part.skip,
                bytes: part.file_bytes,
                table: 0,
            },
        )?;
    }
    let start = start_page(context)?;
    let fixed = |base, size, kind, rights, source, bytes| Region {
        base,
        size,
        kind,
        measured: false,
        rights,
        source,
        skip: 0,
        bytes,
        table: 0,
    };
    task::add_region(
        context,
        id,
        fixed(START_BASE, START_BYTES, RegionKind::ReadOnly, Rights::R, start, START_BYTES),
    )?;
    let stack = STACK_END - STACK_BYTES;
    task::add_region(context, id, fixed(stack, STACK_BYTES, RegionKind::Global, Rights::RW, 0, 0))?;
    task::create_thread(context, id, context.cpu, image.entry, STACK_END, START_BASE).map(drop)
}

fn start_page(context: &Context) -> Result<u64, Error> {
    let address = context.cleared(context.node, START_BYTES)?;
    let start = app_start(address);
    let arguments = context.boot.app_arguments().as_bytes();
    let length = arguments.len().min(MAX_ARGUMENTS);
    start.magic = APP_MAGIC;
    start.cpu_count = context.boot.cpus().len() as u64;
    start.node_count = context.boot.node_count.into();
    start.argument_bytes = length as u64;
    start.arguments[..length].copy_from_slice(&arguments[..length]);
    for (cpu, (entry, known)) in start.cpus.iter_mut().zip(context.boot.cpus()).enumerate() {
        let (pager, _) = root_server().lookup(cpu as u16)?;
        *entry = AppCpu { pager: pager.0, node: known.node.into() };
    }
    Ok(address)
}
