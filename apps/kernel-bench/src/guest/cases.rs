//! The cases: who does what to whom while the counter is looked at.

use kernel_bench::{SAMPLES, WARM_UP};
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::{Error, Fpage, Rights, Tag, ThreadId};

use super::loops::{self, Loop};
use super::service;
use super::shared::{self, Params, RUN};
use super::world::{GROUP_BLOCKS, Space, Trouble, World, failed, settle};
use skerry_rt::sys;

/// The samples of a case, empty measurement not yet subtracted.
pub(crate) type Samples = [u64; SAMPLES];

/// How many spaces share the pages of `unmap.page.17`.
const SHARERS: usize = 17;
const PAGE: u64 = 1 << PAGE_BITS;
/// Sixteen pages.
const GROUP: u64 = 16 * PAGE;
/// Every message register that travels in a CPU register.
const EIGHT: Tag = Tag::new(1, 8, 0);
const SIXTY: Tag = Tag::new(1, 60, 0);
/// What [`Loop::Unmap`] is told by the kernel of a page that was written: read and written.
const WRITTEN: u64 = 6;

/// Runs the case; `None` if there is no such case.
pub(crate) fn run(world: &mut World, name: &str) -> Option<Result<Samples, Trouble>> {
    Some(match name {
        "syscall.null" => alone(world, Loop::Null),
        "ipc.roundtrip" => to_pager(world, EIGHT),
        "ipc.roundtrip.mr60" => to_pager(world, SIXTY),
        "ipc.roundtrip.partner" => to_partner(world, EIGHT),
        "ipc.roundtrip.same-space" => same_space(world),
        "ipc.roundtrip.cross-cluster" | "ipc.roundtrip.cross-cluster.maintained" => cross_cluster(world),
        "notify.roundtrip" => notify(world),
        "fault.roundtrip" => fault(world, world.frames.pages.base),
        "fault.roundtrip.from-block" => fault(world, world.frames.blocks.base),
        "fault.roundtrip.64k" => fault_groups(world),
        "map.64k" => map_groups(world),
        "unmap.page" => unmap(world, 1, WRITTEN),
        "unmap.page.17" => unmap(world, SHARERS, WRITTEN),
        "unmap.64k" => unmap_groups(world, GROUP),
        "unmap.64k.pages" => unmap_groups(world, PAGE),
        "unmap.nothing" => unmap(world, 0, 0),
        "thread.create-start" => create_start(world, 1),
        "thread.create-start.new-utcb-page" => create_start(world, 4),
        "thread.migrate.cluster" => migrate(world, 1),
        "thread.migrate.cluster.new-utcb-page" => migrate(world, 4),
        "syscall.null.smp" => alone(world, Loop::Null),
        "ipc.roundtrip.smp" => to_pager(world, EIGHT),
        "ipc.roundtrip.mr60.smp" => to_pager(world, SIXTY),
        "ipc.roundtrip.cross-cpu" => cross_cpu(world),
        "fault.roundtrip.smp" => fault(world, world.frames.pages.base),
        "unmap.page.smp" => unmap_running(world, 0),
        "unmap.page.smp.cpus-2" => unmap_running(world, 1),
        "unmap.page.smp.cpus-4" => unmap_running(world, 3),
        "thread.create-start.smp" => create_start(world, 1),
        "page.copy" => alone(world, Loop::Copy),
        "page.zero" => alone(world, Loop::Zero),
        _ => return None,
    })
}

/// What two looks at the counter cost by themselves.
pub(crate) fn empty(world: &mut World) -> Result<Samples, Trouble> {
    alone(world, Loop::Empty)
}

/// A loop in user mode, in a space of its own.
fn alone(world: &mut World, what: Loop) -> Result<Samples, Trouble> {
    let mut space = world.space()?;
    let frames = world.frames.pages.base;
    world.touch(&mut space, frames, 2, PAGE)?;
    let params = Params { dest: frames + PAGE, address: frames, count: RUN, ..Params::default() };
    world.run("a loop in user mode", &mut space, what, params)?;
    Ok(shared::samples())
}

fn call(world: &mut World, client: &mut Space, server: ThreadId, tag: Tag) -> Result<Samples, Trouble> {
    let params = Params { dest: server.0, tag: tag.0, count: RUN, ..Params::default() };
    world.run("calling a server", client, Loop::Client, params)?;
    Ok(shared::samples())
}

/// What a task does most: the client may send because the server is its pager, the server answers by its reply right. The spaces are
/// of different domains.
fn to_pager(world: &mut World, tag: Tag) -> Result<Samples, Trouble> {
    let (mut client, mut space) = (world.space()?, world.space()?);
    let server = world.serve(&mut space, Loop::Server, Params::default())?;
    settle();
    let params = Params { dest: server.0, tag: tag.0, count: RUN, ..Params::default() };
    world.run_paged("calling a pager", &mut client, server, Loop::Client, params)?;
    Ok(shared::samples())
}

/// The same, but the client may send because the server was granted to its space as a partner.
fn to_partner(world: &mut World, tag: Tag) -> Result<Samples, Trouble> {
    let (mut client, mut space) = (world.space()?, world.space()?);
    let server = world.serve(&mut space, Loop::Server, Params::default())?;
    sys::grant_partner(client.id, server).map_err(failed("granting a partner"))?;
    call(world, &mut client, server, tag)
}

fn same_space(world: &mut World) -> Result<Samples, Trouble> {
    let mut space = world.space()?;
    let server = world.serve(&mut space, Loop::Server, Params::default())?;
    call(world, &mut space, server, EIGHT)
}

/// The server is of cluster 1, whose CPU sleeps but for this.
fn cross_cluster(world: &mut World) -> Result<Samples, Trouble> {
    if world.clusters < 2 {
        return Err(Trouble::Alone);
    }
    let mut client = world.space()?;
    let server = service::remote_echo()?;
    sys::grant_partner(client.id, server).map_err(failed("granting a partner"))?;
    call(world, &mut client, server, EIGHT)
}

/// The server is on another CPU of the cluster, which sleeps but for this.
fn cross_cpu(world: &mut World) -> Result<Samples, Trouble> {
    let cpu = world.other_cpus().next().ok_or(Trouble::FewCpus)?;
    let (mut client, mut space) = (world.space()?, world.space()?);
    let server = world.serve_on(cpu, &mut space, Loop::Server, Params::default())?;
    settle();
    sys::grant_partner(client.id, server).map_err(failed("granting a partner"))?;
    call(world, &mut client, server, EIGHT)
}

/// The listener is in another space and more urgent: it has taken each notification before the notifier goes on.
fn notify(world: &mut World) -> Result<Samples, Trouble> {
    let (mut notifier, mut space) = (world.space()?, world.space()?);
    let counter = world.frames.pages.base;
    for space in [&mut notifier, &mut space] {
        world.touch(space, counter, 1, PAGE)?;
    }
    let listener = Params { address: counter, ..Params::default() };
    let listener = world.serve(&mut space, Loop::Listener, listener)?;
    settle();
    sys::grant_partner(notifier.id, listener).map_err(failed("granting a partner"))?;
    let params = Params { dest: listener.0, address: counter, count: RUN, ..Params::default() };
    world.run("notifying", &mut notifier, Loop::Notify, params)?;
    Ok(shared::samples())
}

/// `RUN` faults at fresh addresses, answered by a pager whose frames, from `frames` on, are ready.
fn fault(world: &mut World, frames: u64) -> Result<Samples, Trouble> {
    let (mut pager, mut client) = (world.space()?, world.space()?);
    world.touch(&mut pager, frames, RUN, PAGE)?;
    share(world, &mut pager, &mut client, frames)
}

/// Lets `client` map the `RUN` pages from `frames` on that `pager` has, by writing to fresh addresses.
fn share(world: &mut World, pager: &mut Space, client: &mut Space, frames: u64) -> Result<Samples, Trouble> {
    let answers = Params { dest: fpage(frames, PAGE, Rights::RW), step: PAGE, ..Params::default() };
    let thread = world.serve(pager, Loop::Pager, answers)?;
    settle();
    let params = Params { address: world.region(), count: RUN, step: PAGE, ..Params::default() };
    world.run_paged("faulting", client, thread, Loop::Faulter, params)?;
    Ok(shared::samples())
}

fn unmap(world: &mut World, sharers: usize, status: u64) -> Result<Samples, Trouble> {
    let mut pager = world.space()?;
    let frames = world.frames.pages.base;
    world.touch(&mut pager, frames, RUN, PAGE)?;
    for _ in 0..sharers {
        let mut client = world.space()?;
        share(world, &mut pager, &mut client, frames)?;
    }
    let params = Params {
        dest: fpage(frames, PAGE, Rights::RWX),
        tag: status,
        count: RUN,
        step: PAGE,
        ..Params::default()
    };
    world.run("unmapping", &mut pager, Loop::Unmap, params)?;
    Ok(shared::samples())
}

/// One other space maps the page, and has a thread that runs on each of so many other CPUs: in user mode, where it waits for an
/// interrupt, since it would be counted if it did anything.
fn unmap_running(world: &mut World, cpus: usize) -> Result<Samples, Trouble> {
    let (mut pager, mut client) = (world.space()?, world.space()?);
    let frames = world.frames.pages.base;
    world.touch(&mut pager, frames, RUN, PAGE)?;
    share(world, &mut pager, &mut client, frames)?;
    let (mut resting, mut others) = ([ThreadId::NIL; 3], world.other_cpus());
    for thread in &mut resting[..cpus] {
        let cpu = others.next().ok_or(Trouble::FewCpus)?;
        *thread = world.serve_on(cpu, &mut client, Loop::Rest, Params::default())?;
    }
    settle();
    let dest = fpage(frames, PAGE, Rights::RWX);
    let params = Params { dest, tag: WRITTEN, count: RUN, step: PAGE, ..Params::default() };
    world.run("unmapping", &mut pager, Loop::Unmap, params)?;
    for thread in resting.into_iter().filter(|thread| !thread.is_nil()) {
        sys::thread_delete(thread).map_err(failed("deleting a thread that rests"))?;
    }
    settle();
    Ok(shared::samples())
}

/// A pager with 2 MiB mappings, and a client that has `RUN` times 64 KiB of it, in mappings of the size `step`, by touching them with
/// this loop. Returns the pager's space.
fn share_groups(world: &mut World, what: Loop, step: u64) -> Result<Space, Trouble> {
    let (mut pager, mut client) = (world.space()?, world.space()?);
    let frames = world.frames.groups;
    world.touch(&mut pager, frames.base, GROUP_BLOCKS as usize, frames.size / GROUP_BLOCKS)?;
    let address = world.region_for_groups(&mut client)?;
    let answers = Params { dest: fpage(frames.base, step, Rights::RW), step, ..Params::default() };
    let thread = world.serve(&mut pager, Loop::Pager, answers)?;
    settle();
    let count = RUN * (GROUP / step) as usize;
    let params = Params { address, count, step, ..Params::default() };
    world.run_paged("faulting", &mut client, thread, what, params)?;
    Ok(pager)
}

fn fault_groups(world: &mut World) -> Result<Samples, Trouble> {
    share_groups(world, Loop::Faulter, GROUP)?;
    Ok(shared::samples())
}

/// Unmaps 64 KiB at a time that were mapped in mappings of the size `step`, all of which were written.
fn unmap_groups(world: &mut World, step: u64) -> Result<Samples, Trouble> {
    let mut pager = share_groups(world, Loop::Touch, step)?;
    let dest = fpage(world.frames.groups.base, GROUP, Rights::RWX);
    let params = Params { dest, tag: WRITTEN, count: RUN, step: GROUP, ..Params::default() };
    world.run("unmapping", &mut pager, Loop::Unmap, params)?;
    Ok(shared::samples())
}

/// `RUN` calls with an item of 64 KiB each.
fn map_groups(world: &mut World) -> Result<Samples, Trouble> {
    let (mut giver, mut space) = (world.space()?, world.space()?);
    let frames = world.frames.groups;
    world.touch(&mut giver, frames.base, GROUP_BLOCKS as usize, frames.size / GROUP_BLOCKS)?;
    let address = world.region_for_groups(&mut space)?;
    let window = Params { dest: Fpage::COMPLETE.word(), ..Params::default() };
    let taker = world.serve(&mut space, Loop::Taker, window)?;
    settle();
    sys::grant_partner(giver.id, taker).map_err(failed("granting a partner"))?;
    let dest = fpage(frames.base, GROUP, Rights::RW);
    let params = Params { dest, tag: taker.0, address, step: GROUP, count: RUN };
    world.run("mapping", &mut giver, Loop::Giver, params)?;
    Ok(shared::samples())
}

fn fpage(base: u64, size: u64, rights: Rights) -> u64 {
    Fpage::new(base, size.trailing_zeros(), rights).map_or(0, Fpage::word)
}

/// `slot`: a UTCB slot in a space that has slot 0.
fn create_start(world: &mut World, slot: u64) -> Result<Samples, Trouble> {
    let space = world.space()?;
    let block = world.params(Params {
        dest: space.id.0,
        tag: world.cpu.into(),
        address: slot,
        count: RUN,
        ..Params::default()
    });
    match loops::create_threads(block) {
        0 => Ok(shared::samples()),
        wrong => Err(Trouble::Wrong("creating threads", wrong)),
    }
}

/// A thread of cluster 0 that owns the floating-point unit moves to cluster 1, whose CPU sleeps. `slot`: a UTCB slot in spaces that
/// have slot 0.
fn migrate(world: &mut World, slot: u16) -> Result<Samples, Trouble> {
    if world.clusters < 2 {
        return Err(Trouble::Alone);
    }
    let mut space = world.space_for_movers()?;
    let (dest, cpu, pager) = (service::remote_space()?, world.first_cpu_of_next, ThreadId::root(1));
    sys::grant_partner(space.id, world.me).map_err(failed("granting a partner"))?;
    let mut samples = [0; RUN];
    for sample in &mut samples {
        space.slots = slot;
        let thread = world.start_alone(&mut space, Loop::Migrant, Params::default())?;
        world.expect(thread, loops::READY)?;
        let params =
            Params { dest: dest.0, tag: cpu.into(), address: thread.0, step: pager.0, ..Params::default() };
        let block = world.params(params);
        let code = loops::migrate_thread(block);
        if code != 0 {
            return Err(Trouble::Call("moving a thread", Error::from_code(code)));
        }
        let before = shared::first();
        let [wrong, after] = world.expect(thread, loops::DONE)?;
        if wrong != 0 {
            return Err(Trouble::Wrong("floating-point state of a thread that moved", 1));
        }
        *sample = after.wrapping_sub(before);
        sys::thread_delete(thread).map_err(failed("deleting a thread that has moved"))?;
        // Its end is no part of the next one's move.
        service::catch_up()?;
    }
    Ok(core::array::from_fn(|index| samples[WARM_UP + index]))
}
