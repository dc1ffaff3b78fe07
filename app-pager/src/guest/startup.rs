//! From the first instruction to serving.

use app_pager::letter;
use app_pager::options::Options;
use app_pager::placement::home;
use app_pager::pool::Pools;
use app_pager::seat::{MANY_WORDS, Seats};
use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Fpage, Rights, ThreadId, Timeout};
use skerry_ipc::Message;
use skerry_rt::start::{self, SERVER_MAGIC, ServerStart, without};
use skerry_rt::{ipc, utcb};

use super::memory::{Physical, touch};
use super::state::{Context, POOLS};
use super::{
    audit, end_run, history, launch, office, policy, recover, root_server, serve, step, unmapper, work,
};

/// Where every thread of the pager begins.
pub(super) fn main(_: u64) -> ! {
    let (boot, info) = (start::boot_info(), start::server());
    if info.magic != SERVER_MAGIC {
        end_run(exit::SERVER_FAULT, format_args!("app pager: no start page"));
    }
    let options = match Options::read(boot) {
        Ok(options) => options,
        Err(error) => end_run(exit::BAD_BOOT, format_args!("{error}")),
    };
    let me = utcb::my_id();
    let (worker, unmapper) = (me == ThreadId(info.worker), me == ThreadId(info.unmapper));
    let undertaker = me == ThreadId(info.undertaker);
    let index = if worker || unmapper || undertaker { 0 } else { utcb::slot() };
    let Some(&own) = info.cpus().get(index) else {
        end_run(exit::SERVER_FAULT, format_args!("app pager: thread without a CPU"))
    };
    let cpu = own.cpu as u16;
    let seats = Seats { clusters: boot.cluster_count as u16, nodes: boot.node_count as u16 };
    let context = Context {
        boot,
        start: info,
        options,
        cluster: info.cluster as u16,
        cpu,
        node: boot.cpus().get(usize::from(cpu)).map_or(0, |cpu| cpu.node),
        syscall: ThreadId(own.syscall),
        root: ThreadId(own.root),
        worker: worker || unmapper,
        urgent: worker || unmapper || undertaker,
        rank: match (worker, unmapper) {
            (true, _) => info.cpus().len(),
            (_, true) => info.cpus().len() + 1,
            _ if undertaker => info.cpus().len() + 2,
            _ => index,
        },
        letter_words: letter::words(seats.count().into()),
    };
    let stack = match (worker, unmapper) {
        (true, _) => info.worker_stack,
        (_, true) => info.unmapper_stack,
        _ if undertaker => info.undertaker_stack,
        _ => own.stack,
    };
    touch_stack(stack, info.stack_bytes);
    if !context.urgent && index == 0 {
        if let Err((what, error)) = first(&context) {
            end_run(
                exit::SERVER_FAULT,
                format_args!("app pager of cluster {}: {what}: {error}", context.cluster),
            );
        }
    } else {
        // Nothing can be served before the first thread has set up what all of them share.
        let first = info.cpus().first().map_or(ThreadId::NIL, |cpu| ThreadId(cpu.pager));
        let mut message = Message::new();
        while ipc::receive(first, &mut message, Timeout::NEVER).is_err() {}
    }
    match context.seats().words() {
        _ if worker => work::work(context),
        _ if unmapper => unmapper::work(context),
        _ if undertaker => recover::work(context),
        1 => serve::page::<1>(context),
        _ => serve::page::<MANY_WORDS>(context),
    }
}

fn touch_stack(end: u64, bytes: u64) {
    touch_range(Range { base: end - bytes, size: bytes });
}

fn touch_range(range: Range) {
    (range.base..range.end()).step_by(PAGE_SIZE as usize).for_each(touch);
}

/// Touches one address in every block the root pager maps at once.
fn touch_blocks(range: Range, rights: Rights) {
    let mut address = range.base;
    while address < range.end() {
        touch(address);
        address = Fpage::largest_block(range.base, range.end(), address, rights)
            .map_or(address + PAGE_SIZE, |block| block.end());
    }
}

/// The pieces of the pools that are left to the pagers, with node and cluster.
fn pieces(boot: &'static BootInfo, info: &'static ServerStart) -> impl Iterator<Item = (Range, u16, u16)> {
    boot.pools().iter().flat_map(|pool| {
        let taken = info.taken.get(usize::from(pool.cluster)).copied().unwrap_or_default();
        without(pool.range, taken)
            .into_iter()
            .filter(|p| p.size != 0)
            .map(|piece| (piece, pool.node, pool.cluster))
    })
}

/// The first thread takes over the pager's memory, sets up the shared state, lets the others go, and registers.
fn first(context: &Context) -> Result<(), (&'static str, Error)> {
    let Context { boot, start, .. } = *context;
    start.own.iter().for_each(|&range| touch_range(range));
    let archive = Range {
        base: boot.archive.base & !(PAGE_SIZE - 1),
        size: boot.archive.end().next_multiple_of(PAGE_SIZE) - (boot.archive.base & !(PAGE_SIZE - 1)),
    };
    touch_blocks(archive, Rights::R);
    pieces(boot, start).for_each(|(piece, ..)| touch_blocks(piece, Rights::RWX));
    set_up_pools(context).map_err(|error| ("pools", error))?;
    audit::begin(context);
    step::begin(context);
    history::begin(context).map_err(|error| ("the history of pages", error))?;
    context.state().lives.begin(start.incarnation as u16);
    policy::set_up(context);
    office::set_up(context).map_err(|error| ("mailboxes", error))?;

    let others = start.cpus().iter().skip(1).map(|cpu| ThreadId(cpu.pager));
    for thread in others.chain([start.worker, start.unmapper, start.undertaker].map(ThreadId)) {
        let mut go = Message::new();
        ipc::send(thread, &mut go, Timeout::NEVER).map_err(|error| ("starting the other threads", error))?;
    }
    let root = root_server();
    for cpu in start.cpus() {
        root.register(cpu.cpu as u16, ThreadId(cpu.pager), ThreadId(start.worker))
            .map_err(|error| ("registration", error))?;
    }
    if context.cluster == 0 && start.incarnation == 1 {
        root.await_pagers().map_err(|error| ("waiting for the other pagers", error))?;
        launch::first(context);
    }
    Ok(())
}

fn set_up_pools(context: &Context) -> Result<(), Error> {
    let Context { boot, start, .. } = *context;
    let nodes = boot.node_count as u16;
    let distance = |from: u16, to: u16| {
        boot.distances
            .get(usize::from(from))
            .and_then(|row| row.get(usize::from(to)))
            .copied()
            .unwrap_or(u8::MAX)
    };
    let has_cpus = |node| boot.cpus().iter().any(|cpu| cpu.node == node && cpu.cluster == context.cluster);
    let add = |pools: &mut Pools, (piece, node, cluster): (Range, u16, u16)| {
        if cluster != context.cluster {
            return if pools.add_foreign(piece) { Ok(()) } else { Err(Error::TableFull) };
        }
        // The frames of a node without CPUs go to the nearest node of the cluster that has some.
        let serves = if has_cpus(node) {
            Some(node)
        } else {
            (0..nodes).filter(|&other| has_cpus(other)).min_by_key(|&other| (distance(other, node), other))
        };
        let serves = serves.ok_or(Error::WrongState)?;
        if pools.add(&Physical, piece, serves, serves == node) { Ok(()) } else { Err(Error::TableFull) }
    };
    let fill = |pools: &mut Pools| pieces(boot, start).try_for_each(|piece| add(pools, piece));
    POOLS.set(fill).ok_or(Error::WrongState)??;
    let pools = context.pools().ok_or(Error::WrongState)?;
    let mut state = context.state();
    for node in 0..nodes {
        let found = home(pools, node, nodes, |other| distance(node, other));
        if let (Some(found), Some(slot)) = (found, state.homes.get_mut(usize::from(node))) {
            *slot = found;
        }
    }
    Ok(())
}
