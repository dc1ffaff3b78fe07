//! What must hold of a kernel's data structures between any two events, whatever user programs do.

use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::long::Holder;
use crate::queue::{Link, Queue};
use crate::ring::Lane;
use crate::thread::{Kind, State, Tcb, hold};
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// In which queue somebody was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Nowhere,
    Run(usize),
    Senders(usize),
    Waiting(usize),
    Expecting(usize),
    Visitors(usize),
    Mourners(usize),
    Cancellers(usize),
    Dying,
    Free,
}

macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => { if !$condition { return Err(format!($($why)+)); } };
}

/// Checks every queue, every thread's place, and the counts that depend on them.
pub(super) fn check<H: Hal>(k: &Kernel<'_, H>) -> Result<(), String> {
    let mut places = vec![Place::Nowhere; k.links.len()];
    for (cpu, queue) in k.cpus.iter().enumerate() {
        for (priority, ready) in queue.ready_queues().iter().enumerate() {
            if !queue.is_marked(priority) && ready.is_empty() {
                continue;
            }
            ensure!(queue.is_marked(priority) != ready.is_empty(), "CPU {cpu}: ready bit {priority}");
            walk(k.links, ready, Place::Run(cpu), &mut places)?;
        }
        walk(k.links, &queue.visitors, Place::Visitors(cpu), &mut places)?;
        let current = queue.current().map(|t| &k.threads[t as usize]);
        ensure!(current.is_none_or(|t| t.state != State::Free), "CPU {cpu} runs a free slot");
    }
    for (t, thread) in k.threads.iter().enumerate() {
        walk(k.links, &thread.senders, Place::Senders(t), &mut places)?;
        ensure!(thread.senders.is_empty() || thread.state != State::Free, "slot {t}: free, with senders");
        walk(k.links, &k.cold[t].expecting, Place::Expecting(t), &mut places)?;
        walk(k.links, &k.cold[t].cancellers, Place::Cancellers(t), &mut places)?;
        ensure!(
            k.cold[t].cancellers.is_empty() == (thread.hold & hold::CANCELLED == 0),
            "slot {t}: cancellers, and does not know, or the other way round"
        );
        let timed = thread.state == State::Receiving && thread.hold & hold::TIMED != 0;
        ensure!(
            !timed || thread.open_to.is_nil() && thread.op.kind == Kind::Ipc,
            "slot {t}: the fast paths could take it, in spite of its deadline"
        );
        timer(k, t as u32)?;
    }
    for (cluster, peer) in k.peers.iter().enumerate() {
        walk(k.links, &peer.waiting, Place::Waiting(cluster), &mut places)?;
        ensure!(
            peer.waiting.is_empty() || k.is_full(cluster) || k.bells.rings(cluster),
            "cluster {cluster}: waits in spite of room"
        );
        let oldest = peer.inbound.filter(|ring| ring.front(Lane::Requests).is_some());
        let oldest = oldest.map(|ring| ring.first(Lane::Requests));
        let behind = peer.behind.request();
        ensure!(
            behind.is_none() || behind == oldest,
            "cluster {cluster}: {behind:?} waits for answers, the oldest is {oldest:?}"
        );
        let told = peer.outbound.is_some_and(|ring| ring.is_wanted());
        ensure!(peer.wants == told, "cluster {cluster}: wants room: {}, but says {told}", peer.wants);
        ensure!(
            !told || !peer.waiting.is_empty(),
            "cluster {cluster}: nobody waits for the room it asks for"
        );
    }
    walk(k.links, &k.free_threads, Place::Free, &mut places)?;
    walk(k.links, k.chores.dying(), Place::Dying, &mut places)?;
    for (slot, space) in k.spaces.iter().enumerate() {
        walk(k.links, &space.mourners, Place::Mourners(slot), &mut places)?;
    }
    for (index, &place) in places.iter().enumerate() {
        let linked = k.links[index] != Link::UNLINKED;
        ensure!(place != Place::Nowhere || !linked, "link {index} points somewhere, but is in no queue");
        match index.checked_sub(k.threads.len()) {
            None => thread_place(k, index, place)?,
            Some(guest) => guest_place(k, guest, place)?,
        }
    }
    for thread in k.threads.iter().filter(|t| t.is_live()) {
        fast_path_fields(k, thread)?;
    }
    held(k)?;
    let mut members = vec![Place::Nowhere; k.threads.len()];
    for (slot, space) in k.spaces.iter().enumerate() {
        let of_it = |t: &&Tcb| t.is_live() && usize::from(t.space) == slot;
        let count = k.threads.iter().filter(of_it).count();
        ensure!(count == space.threads as usize, "space {slot}: {count} threads, not {}", space.threads);
        walk(k.members, &space.members, Place::Mourners(slot), &mut members)?;
        let listed = members.iter().filter(|&&m| m == Place::Mourners(slot)).count();
        ensure!(listed == count, "space {slot}: {listed} of {count} threads in its list");
    }
    Ok(())
}

/// Follows a queue in both directions and notes who is in it.
fn walk(links: &[Link], queue: &Queue, place: Place, places: &mut [Place]) -> Result<(), String> {
    if queue.is_empty() {
        return Ok(());
    }
    let mut forwards = Vec::new();
    let mut next = queue.head();
    while let Some(index) = next {
        ensure!(forwards.len() < links.len(), "{place:?} is circular");
        ensure!(places[index as usize] == Place::Nowhere, "{index} is in two queues");
        places[index as usize] = place;
        forwards.push(index);
        next = Queue::next(links, index);
    }
    // Taking everybody out from a copy shows broken backward links.
    if forwards.len() > 1 {
        let (mut links, mut copy) = (links.to_vec(), *queue);
        for index in forwards.iter().rev() {
            copy.remove(&mut links, *index);
        }
        ensure!(copy.is_empty(), "{place:?} does not become empty");
    }
    Ok(())
}

/// Items that are on their way hold the mapping database, and nobody but their sender waits in spite of its time-out, unless for a
/// thread that has ended, which will say so.
fn held<H: Hal>(k: &Kernel<'_, H>) -> Result<(), String> {
    let items = matches!(k.holder, Holder::Plan { .. } | Holder::Commit { .. });
    ensure!(items == k.has_items(), "{:?}, but the chores say {}", k.holder, k.has_items());
    ensure!(!items || k.db.is_held(), "{:?} of nothing", k.holder);
    let polls = |t: &&Tcb| t.state == State::Sending && t.op.send_timeout.is_poll();
    let planned = |id| matches!(k.holder, Holder::Plan { sender, .. } if sender == id);
    let forgotten = k.threads.iter().filter(polls).find(|t| !planned(t.id) && k.find(t.op.dest).is_some());
    ensure!(forgotten.is_none(), "{:?} waits though it would not", forgotten.map(|t| t.id));
    Ok(())
}

/// What the fast paths rely on.
fn fast_path_fields<H: Hal>(k: &Kernel<'_, H>, thread: &Tcb) -> Result<(), String> {
    let space = &k.spaces[usize::from(thread.space)];
    ensure!(thread.space_id == space.id, "{:?} is not of {:?}", thread.id, space.id);
    ensure!(thread.domain == u64::from(space.domain), "{:?}: domain {}", thread.id, thread.domain);
    let waits = matches!(
        thread.state,
        State::Receiving | State::Sending | State::AwaitingCredit | State::AwaitingResponse
    );
    ensure!(waits || thread.deadline == u64::MAX, "{:?} is {:?} with a deadline", thread.id, thread.state);
    let open = thread.op.kind == Kind::Ipc;
    ensure!(
        thread.state != State::Receiving
            || thread.open_to.is_nil()
            || open && thread.open_to == thread.op.from && thread.deadline == u64::MAX,
        "{:?} is {:?} and open to {:?}",
        thread.id,
        thread.state,
        thread.open_to
    );
    Ok(())
}

/// A thread is among the deadlines of its CPU exactly if it says so.
fn timer<H: Hal>(k: &Kernel<'_, H>, t: u32) -> Result<(), String> {
    let thread = &k.threads[t as usize];
    let heap = k.cpus.iter().position(|c| c.timers.contains(k.timers, t));
    let timed = thread.hold & hold::TIMED != 0;
    ensure!(heap == timed.then_some(thread.cpu.into()), "{:?}: timed {timed}, found on {heap:?}", thread.id);
    ensure!(!timed || k.timers[t as usize].key() == thread.deadline, "{:?}: another deadline", thread.id);
    ensure!(timed || thread.deadline == u64::MAX, "{:?}: a deadline that nobody watches", thread.id);
    Ok(())
}

fn thread_place<H: Hal>(k: &Kernel<'_, H>, t: usize, place: Place) -> Result<(), String> {
    let thread = &k.threads[t];
    let (state, dest) = (thread.state, thread.op.dest);
    let cpu = usize::from(thread.cpu);
    let ok = match place {
        Place::Free => state == State::Free,
        Place::Dying => matches!(state, State::Dying | State::Departed),
        Place::Cancellers(_) | Place::Visitors(_) | Place::Mourners(_) => state == State::Controlling,
        Place::Expecting(partner) => {
            let said = thread.hold & hold::EXPECTING != 0;
            said && state == State::Receiving && k.threads[partner].id == thread.op.from
        }
        Place::Run(on) => state == State::Ready && on == cpu && k.cpus[on].current() != Some(t as u32),
        Place::Senders(partner) => state == State::Sending && k.threads[partner].id == dest,
        Place::Waiting(cluster) => {
            matches!(state, State::AwaitingCredit | State::Moving | State::Dying | State::Passing)
                && thread.remote.place == crate::remote::Place::Waiting
                && cluster == usize::from(thread.remote.peer)
        }
        Place::Nowhere if thread.remote.place != crate::remote::Place::Nowhere => {
            let asks = matches!(state, State::AwaitingResponse | State::Pulling | State::Moving);
            asks && thread.remote.place == crate::remote::Place::Pending
        }
        Place::Nowhere => match state {
            State::Ready => k.cpus[cpu].current() == Some(t as u32),
            // A slot whose generations are used up is in no list.
            State::Free => k.cold[t].generation == u32::MAX,
            State::Receiving => thread.hold & hold::EXPECTING == 0,
            State::Controlling => k.cold.iter().any(|c| c.escort == t as u32),
            state => !matches!(
                state,
                State::Sending
                    | State::AwaitingCredit
                    | State::AwaitingResponse
                    | State::Pulling
                    | State::Moving
                    | State::Dying
                    | State::Passing
            ),
        },
    };
    ensure!(ok, "{:?} is {state:?} and in {place:?}", thread.id);
    Ok(())
}

fn guest_place<H: Hal>(k: &Kernel<'_, H>, index: usize, place: Place) -> Result<(), String> {
    let guest = k.guests.get(index as u32);
    let ok = match (place, guest.stay) {
        (Place::Senders(t), Stay::Queued(receiver)) => k.threads[t].id == receiver,
        (Place::Expecting(t), Stay::Watches(thread)) => k.threads[t].id == thread,
        (
            Place::Waiting(cluster),
            Stay::Bounced { .. } | Stay::Redirected { .. } | Stay::Killed | Stay::Notes { .. },
        ) => cluster == usize::from(guest.at),
        (Place::Nowhere, Stay::Free | Stay::Owed(_)) => true,
        (Place::Nowhere, Stay::Pulled(receiver)) => k
            .find(receiver)
            .is_some_and(|t| matches!(k.threads[t as usize].state, State::Pulling | State::AwaitingCredit)),
        _ => false,
    };
    ensure!(ok, "{guest:?} in {place:?}");
    Ok(())
}
