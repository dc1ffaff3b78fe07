//! What the program does on the other clusters: it lets cluster 0 have spaces and a server there.

use skerry_abi::message::kernel_label;
use skerry_abi::{Error, SpaceId, Tag, ThreadId};
use skerry_rt::{Message, ipc, start, sys};

use super::loops::Loop;
use super::shared::Params;
use super::world::{Space, Trouble, World, failed};

/// Asks for a space that has code and shared memory, and whose threads may send to cluster 0's main thread.
const SPACE: u32 = 0x5e51;
/// Asks for a thread that echoes.
const ECHO: u32 = 0x5e52;
/// Asks for nothing.
const NOTHING: u32 = 0x5e53;

/// Serves for ever.
pub(crate) fn run(cluster: u16) -> ! {
    let boot = start::boot_info();
    // Without memory there is nothing to serve with; who asks waits, and is given up.
    let Ok(mut world) = World::new(boot, cluster) else { ipc::sleep_forever() };
    let mut message = Message::new();
    let mut to = ThreadId::NIL;
    loop {
        // Who does not wait for the answer any more needs none.
        let Ok(from) = ipc::reply_wait(to, &mut message) else {
            to = ThreadId::NIL;
            continue;
        };
        to = from.thread;
        let answer = match (message.tag.label(), message.words()) {
            (kernel_label::PAGE_FAULT, &[address, ..]) => {
                match world.item(address) {
                    Some(item) => message.set_item(0, item),
                    None => to = ThreadId::NIL, // it never goes on, and the run is given up
                }
                continue;
            }
            (SPACE, _) => space(&mut world).map(|space| space.id.0),
            (ECHO, _) => echo(&mut world).map(|thread| thread.0),
            _ => Ok(0),
        };
        message.buffer_mut()[0] = answer.unwrap_or(0);
        message.tag = Tag::new(0, 1, 0);
    }
}

fn space(world: &mut World) -> Result<Space, Trouble> {
    let space = world.space_for_movers()?;
    sys::grant_partner(space.id, ThreadId::root(0)).map_err(failed("granting a partner"))?;
    Ok(space)
}

fn echo(world: &mut World) -> Result<ThreadId, Trouble> {
    let mut space = world.space()?;
    world.serve(&mut space, Loop::Server, Params::default())
}

/// Returns when cluster 1 has done all that this cluster has told it: what two clusters tell each other stays in order.
pub(crate) fn catch_up() -> Result<(), Trouble> {
    call(NOTHING).map(drop)
}

fn call(what: u32) -> Result<Message, Trouble> {
    let mut message = Message::new();
    message.set_empty(what);
    ipc::call(ThreadId::root(1), &mut message).map_err(failed("asking cluster 1"))?;
    Ok(message)
}

/// What cluster 1 was asked for.
fn ask(what: u32) -> Result<u64, Trouble> {
    match call(what)?.words() {
        &[answer] if answer != 0 => Ok(answer),
        _ => Err(Trouble::Call("asking cluster 1", Error::Refused)),
    }
}

/// A space of cluster 1, for threads that move; UTCB slot 0 is taken there.
pub(crate) fn remote_space() -> Result<SpaceId, Trouble> {
    ask(SPACE).map(SpaceId)
}

/// An echoing thread of cluster 1.
pub(crate) fn remote_echo() -> Result<ThreadId, Trouble> {
    ask(ECHO).map(ThreadId)
}
