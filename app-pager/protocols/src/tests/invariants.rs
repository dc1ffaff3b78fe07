//! What holds in every state of a model, and what holds when nothing is left to do.

use super::client::Phase;
use super::scenario::{FRAMES, NODES, PAGES, Scenario};
use super::world::{World, frame};
use crate::entry::{Entry, State};
use crate::local::Local;
use skerry_abi::Rights;

fn ensure(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

/// In every state.
pub(super) fn always(world: &World) -> Result<(), &'static str> {
    for page in 0..PAGES {
        let entry = Entry(world.master[page]);
        for node in 0..NODES {
            mapping(world, node, page, entry)?;
        }
    }
    for f in 0..NODES * FRAMES {
        let holders = holders(world, f);
        let lists = usize::from(world.free[f]) + usize::from(world.returning[f].is_some());
        ensure(lists <= 1, "a frame is in two free lists")?;
        ensure(holders <= 1, "two pages have one frame")?;
        ensure(lists + holders <= 1, "a frame of the table is free")?;
    }
    world.wrong.map_or(Ok(()), Err)
}

/// How often a frame is used: in the table, or as a node's own copy.
fn holders(world: &World, f: usize) -> usize {
    let copies = world
        .local
        .iter()
        .flatten()
        .filter(|&&word| Local(word).is_copy() && frame(Local(word).frame()) == f);
    (0..PAGES).filter(|&page| holds(world.master[page], f)).count() + copies.count()
}

fn holds(entry: u64, f: usize) -> bool {
    let address = Entry(entry).frame();
    address != 0 && frame(address) == f
}

/// What a kernel maps is what the table says, and the node is among the sharers.
fn mapping(world: &World, node: usize, page: usize, entry: Entry) -> Result<(), &'static str> {
    let mapped = world.mapped[node][page];
    if !mapped.is_present() {
        return Ok(());
    }
    let f = frame(mapped.frame());
    ensure(!world.free[f] && world.returning[f].is_none(), "a free frame is mapped")?;
    ensure(entry.state() != State::Empty, "an unmapped page is mapped")?;
    let copy = mapped.is_copy() && matches!(entry.state(), State::Busy | State::Replicated);
    ensure(copy || entry.frame() == mapped.frame(), "two frames for one address")?;
    let writes =
        entry.state() == State::Replicated && !entry.is_apart() && mapped.rights().contains(Rights::W);
    ensure(!writes, "a replicated page is writable")?;
    ensure(world.sharers[page] >> node & 1 != 0, "a node maps a page without being a sharer")?;
    let allowed = entry.state() == State::Busy || entry.rights().contains(mapped.rights());
    ensure(allowed, "a page is mapped with rights that were taken away")
}

/// When nothing is left that could happen.
pub(super) fn at_rest(world: &World, scenario: &Scenario) -> Result<(), &'static str> {
    for (c, client) in world.clients.iter().enumerate() {
        let finished = client.is_finished(scenario.script(c)) && client.phase == Phase::Ready;
        ensure(finished, "a request does not complete")?;
    }
    for page in 0..PAGES {
        let entry = Entry(world.master[page]);
        ensure(entry.state() != State::Busy, "an entry remains busy")?;
        ensure(!entry.is_contended(), "somebody waits for an entry that is not busy")?;
        for node in 0..NODES {
            let word = Local(world.local[node][page]);
            let shares = world.sharers[page] >> node & 1 != 0;
            ensure(!word.is_busy(), "a local word remains busy")?;
            ensure(word.is_present() == shares, "the sharers are not those that have the page")?;
            let same = !shares
                || (word.is_copy() || word.frame() == entry.frame())
                    && entry.rights().contains(word.rights());
            ensure(same, "a local table differs from the master's")?;
        }
    }
    let idle = |n: &super::world::Worker| n.busy.is_none() && n.inbox.iter().all(Option::is_none);
    ensure(world.workers.iter().all(idle), "a worker has something left to do")?;
    ensure((0..NODES * FRAMES).all(|f| world.free[f] != (holders(world, f) == 1)), "a frame is lost")
}
