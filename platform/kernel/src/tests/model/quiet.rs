//! What must hold when no packet is under way: nobody waits for what cannot come, and nothing is left over.

use super::ghost::Fate;
use super::machine::Machine;
use super::scenario::THREADS;
use crate::guests::Stay;
use crate::remote::Request;
use crate::thread::{State, Tcb};
use skerry_abi::{SpaceId, ThreadId};
use std::format;
use std::string::String;

pub(super) fn check(machine: &Machine<'_>) -> Result<(), String> {
    let dying = |i: usize| machine.tcb(i).is_some_and(|t| t.doomed && t.state == State::Ready);
    let busy =
        |cluster: usize| machine.in_flight(cluster as u8) || machine.kernels[cluster].chores.is_pending();
    if (0..machine.kernels.len()).any(busy) || (0..THREADS).any(dying) {
        return Ok(());
    }
    places(machine)?;
    for i in 0..THREADS {
        let Some(thread) = machine.tcb(i).filter(|thread| !thread.doomed) else { continue };
        waits_with_reason(machine, i, thread)
            .map_err(|why| format!("thread {i} is {:?} for ever: {why}", thread.state))?;
        let unseen = machine.ghost.posted[i] & !machine.ghost.noticed[i];
        if unseen != thread.notified {
            return Err(format!("thread {i} should know of {unseen:x}, not of {:x}", thread.notified));
        }
    }
    for k in &machine.kernels {
        for (cluster, peer) in k.peers.iter().enumerate() {
            if !peer.waiting.is_empty() {
                return Err(format!("somebody waits for room to cluster {cluster} at rest"));
            }
        }
        for guest in k.guests.iter().filter(|g| g.stay != Stay::Free) {
            let waits = |i: usize| {
                machine.ids[i] == guest.sender && machine.tcb(i).is_some_and(|t| waits_for(t, guest.stay))
            };
            if !(0..THREADS).any(waits) {
                return Err(format!("{guest:?} stands for nobody"));
            }
        }
    }
    for (i, fates) in machine.ghost.fates.iter().enumerate() {
        for (operation, fate) in fates.iter().enumerate() {
            let receiver = machine.ghost.dests[i][operation];
            if *fate == (Fate::Succeeded, 0) && machine.tcb(usize::from(receiver)).is_some() {
                return Err(format!("thread {receiver} never received message {operation} of {i}"));
            }
        }
    }
    Ok(())
}

/// Every birth cluster knows where its threads are, and nobody has what belongs to a thread that is not there.
fn places(machine: &Machine<'_>) -> Result<(), String> {
    for (cluster, k) in machine.kernels.iter().enumerate() {
        if machine.is_controlling(cluster) {
            return Err(format!("the caller of a move or a cancel in cluster {cluster} waits for ever"));
        }
        let here = (0..THREADS).filter(|&i| machine.at(i) == Some(cluster));
        let foreign = here.filter(|&i| usize::from(machine.ids[i].cluster()) != cluster).count();
        if k.immigrants as usize != foreign {
            return Err(format!("cluster {cluster} has {} threads of others, not {foreign}", k.immigrants));
        }
    }
    for (i, &id) in machine.ids.iter().enumerate() {
        let birth = usize::from(id.cluster());
        let known = machine.kernels[birth].elsewhere(id);
        if known != machine.at(i).filter(|&at| at != birth) {
            return Err(format!("thread {i} is in {:?}, not in {known:?}", machine.at(i)));
        }
    }
    Ok(())
}

/// Whether a thread waits for just what its entry in another cluster says.
fn waits_for(thread: &Tcb, stay: Stay) -> bool {
    let watches = thread.remote.request == Request::Watching;
    thread.state == State::AwaitingResponse
        && match stay {
            Stay::Queued(receiver) => !watches && thread.op.dest == receiver,
            Stay::Owed(_) => !watches && thread.op.is_call(),
            Stay::Watches(partner) => watches && thread.op.from == partner,
            _ => false,
        }
}

fn waits_with_reason(machine: &Machine<'_>, i: usize, thread: &Tcb) -> Result<(), &'static str> {
    let index = |id: ThreadId| machine.ids.iter().position(|&other| other == id);
    let living = |id: ThreadId| index(id).and_then(|n| Some((n, machine.tcb(n).filter(|t| !t.doomed)?)));
    let accepts = |receiver: &Tcb| receiver.accepts(thread.id, thread.space_id);
    let ensure = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
    match thread.state {
        State::Receiving if thread.reply_space != SpaceId::NIL => {
            let lives = |n: &usize| {
                machine.space(*n) == Some(thread.reply_space) && machine.tcb(*n).is_some_and(|t| !t.doomed)
            };
            ensure((0..THREADS).any(|n| lives(&n)), "nobody is left to answer its call")
        }
        State::Receiving if thread.takes_notifications() && thread.notified != 0 => {
            Err("it was notified already")
        }
        State::Receiving if thread.op.from.is_any() => {
            ensure(thread.senders.is_empty(), "somebody is there to receive from")
        }
        State::Receiving if thread.op.from == thread.id => Ok(()),
        State::Receiving => {
            let (from, partner) = living(thread.op.from).ok_or("whom it receives from is gone")?;
            ensure(from_here(machine, i, from), "nobody tells it when whom it receives from is gone")?;
            let queued = partner.state == State::Sending && partner.op.dest == thread.id;
            ensure(!queued, "whom it receives from is there")
        }
        State::Sending => {
            let (_, partner) = living(thread.op.dest).ok_or("whom it sends to is gone")?;
            ensure(!accepts(partner), "whom it sends to is ready")
        }
        State::AwaitingResponse => {
            let other = &machine.kernels[usize::from(thread.remote.peer)];
            let guest = other.guests.find(thread.id).map(|g| *other.guests.get(g));
            let guest =
                guest.filter(|g| g.seq == thread.remote.seq).ok_or("the other cluster has forgotten it")?;
            match guest.stay {
                Stay::Queued(receiver) => {
                    let (_, partner) = living(receiver).ok_or("whom it sends to is gone")?;
                    ensure(!accepts(partner), "whom it sends to is ready")
                }
                Stay::Owed(space) => {
                    let lives = |n: &usize| machine.space(*n) == Some(space);
                    ensure((0..THREADS).any(|n| lives(&n)), "nobody is left to answer its call")
                }
                Stay::Watches(partner) => living(partner).map(|_| ()).ok_or("whom it receives from is gone"),
                _ => Err("no packet is under way"),
            }
        }
        State::AwaitingCredit | State::Pulling | State::Moving => Err("no packet is under way"),
        _ => Ok(()),
    }
}

fn from_here(machine: &Machine<'_>, a: usize, b: usize) -> bool {
    machine.at(a) == machine.at(b)
}
