//! What must hold when no packet is under way: nobody waits for what cannot come, and nothing is left over.

use super::machine::Machine;
use super::scenario::{Scenario, THREADS};
use crate::queue::Queue;
use crate::thread::{State, Tcb};
use skerry_abi::{SpaceId, ThreadId};
use std::format;
use std::string::String;

pub(super) fn check(machine: &Machine<'_>, scenario: &Scenario) -> Result<(), String> {
    let dying = |i: usize| machine.tcb(i).is_some_and(|t| t.doomed && t.state == State::Ready);
    if machine.in_flight(0) || machine.in_flight(1) || (0..THREADS).any(dying) {
        return Ok(());
    }
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
            if peer.credit != scenario.credit || !peer.waiting.is_empty() {
                return Err(format!("cluster {cluster}: credit {} at rest", peer.credit));
            }
        }
        for proxy in k.proxies.iter().filter(|p| !p.sender.is_nil()) {
            let waits = |i: usize| {
                machine.ids[i] == proxy.sender
                    && machine
                        .tcb(i)
                        .is_some_and(|t| t.state == State::AwaitingResponse && t.op.dest == proxy.receiver)
            };
            if !(0..THREADS).any(waits) {
                return Err(format!("{proxy:?} stands for nobody"));
            }
        }
    }
    Ok(())
}

fn waits_with_reason(machine: &Machine<'_>, i: usize, thread: &Tcb) -> Result<(), &'static str> {
    let index = |id: ThreadId| machine.ids.iter().position(|&other| other == id);
    let living = |id: ThreadId| index(id).and_then(|n| Some((n, machine.tcb(n).filter(|t| !t.doomed)?)));
    let accepts = |receiver: &Tcb| receiver.accepts(thread.id, machine.spaces[i]);
    let ensure = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
    match thread.state {
        State::Receiving if thread.reply_space != SpaceId::NIL => {
            let lives = |n: &usize| {
                machine.spaces[*n] == thread.reply_space && machine.tcb(*n).is_some_and(|t| !t.doomed)
            };
            let remote = thread.reply_space.cluster() != thread.id.cluster();
            // Not told across clusters yet: docs/caveats.md.
            ensure(remote || (0..THREADS).any(|n| lives(&n)), "nobody is left to answer its call")
        }
        State::Receiving if thread.takes_notifications() && thread.notified != 0 => {
            Err("it was notified already")
        }
        State::Receiving if thread.op.from.is_any() => {
            ensure(thread.senders.is_empty(), "somebody is there to receive from")
        }
        State::Receiving if thread.op.from == thread.id => Ok(()),
        // Nobody tells a closed receive that a thread of another cluster is gone: it is as if that thread never sent.
        State::Receiving
            if thread.op.from.cluster() != thread.id.cluster() && living(thread.op.from).is_none() =>
        {
            Ok(())
        }
        State::Receiving => {
            let (from, partner) = living(thread.op.from).ok_or("whom it receives from is gone")?;
            let queued = match from_here(machine, i, from) {
                true => partner.state == State::Sending && partner.op.dest == thread.id,
                false => has_proxy(machine, i, partner.id),
            };
            ensure(!queued, "whom it receives from is there")
        }
        State::Sending => {
            let (_, partner) = living(thread.op.dest).ok_or("whom it sends to is gone")?;
            ensure(!accepts(partner), "whom it sends to is ready")
        }
        State::AwaitingResponse => {
            let (to, partner) = living(thread.op.dest).ok_or("whom it sends to is gone")?;
            ensure(!accepts(partner), "whom it sends to is ready")?;
            ensure(has_proxy(machine, to, thread.id), "whom it sends to has forgotten it")
        }
        State::AwaitingCredit | State::Pulling => Err("no packet is under way"),
        _ => Ok(()),
    }
}

fn from_here(machine: &Machine<'_>, a: usize, b: usize) -> bool {
    machine.ids[a].cluster() == machine.ids[b].cluster()
}

/// Whether the remote thread `sender` is in the queue of thread `i`.
fn has_proxy(machine: &Machine<'_>, i: usize, sender: ThreadId) -> bool {
    let k = &machine.kernels[usize::from(machine.ids[i].cluster())];
    let Some(t) = machine.slot(i) else { return false };
    let mut next = k.thread(t).senders.head();
    while let Some(index) = next {
        let proxy = (index as usize).checked_sub(k.threads.len()).map(|p| k.proxies[p]);
        if proxy.is_some_and(|p| p.sender == sender) {
            return true;
        }
        next = Queue::next(k.links, index);
    }
    false
}
