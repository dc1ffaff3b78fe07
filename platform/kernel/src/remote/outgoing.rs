//! Requests of this cluster's threads, on their way out.

use super::{ARGUMENT, CALL, GRANTED, Head, IN_RECEIVE, IN_SEND, PACKET, POLL, Place, Request, TAG, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::ipc::Sent;
use crate::kernel::Kernel;
use crate::remote::Ending;
use crate::ring::{HEADER, Lane, Slot};
use crate::thread::State;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Counter, Error, ThreadId, Timeout};
use skerry_checks::{Check, passes};

impl<H: Hal> Kernel<'_, H> {
    /// The send phase of `t` to a thread of another cluster.
    pub(crate) fn send_remote(&mut self, t: u32, cluster: usize) -> Result<Sent, Error> {
        let thread = &self.threads[t as usize];
        if !passes(Check::RemoteItems, thread.tag().typed() == 0) {
            return Err(Error::ItemAcrossClusters);
        }
        let right = self.reply_right(t);
        // Who waits for an answer waits where it called from.
        let cluster = right.map_or(cluster, |guest| usize::from(self.guests.get(guest).at));
        if let Err(error) = self.check_peer(cluster) {
            if let Some(guest) = right {
                self.forget(guest);
            }
            return Err(error);
        }
        self.counters.count(Counter::RemoteIpcs);
        if right.is_some() {
            if self.peers[cluster].waiting.is_empty() && self.room(cluster).is_some() {
                self.send_request(t, cluster, Request::Reply);
                return Ok(Sent::Delivered);
            }
            self.ask(t, cluster, Request::Reply, Timeout::NEVER);
            return Ok(Sent::Blocked);
        }
        let op = &self.threads[t as usize].op;
        // A send phase that does not wait, or for ever, is not what a deadline can end.
        let endless = op.send_timeout.is_poll() || op.send_timeout == Timeout::NEVER;
        let patience = match (endless, op.is_call()) {
            (true, true) => op.receive_timeout,
            (true, false) => Timeout::NEVER,
            (false, _) => op.send_timeout,
        };
        self.ask(t, cluster, Request::Send, patience);
        Ok(Sent::Blocked)
    }

    /// `t` receives from one thread of another cluster only.
    pub(crate) fn watch(&mut self, t: u32, cluster: usize) -> Result<(), Error> {
        self.check_peer(cluster)?;
        let patience = self.threads[t as usize].op.receive_timeout;
        self.ask(t, cluster, Request::Watch, patience);
        Ok(())
    }

    /// `t` is ready to receive from a queued guest, which has left the queue: asks for its message. `false`: its cluster is down.
    pub(crate) fn pull(&mut self, t: u32, guest: u32) -> bool {
        let id = self.threads[t as usize].id;
        let entry = self.guests.get_mut(guest);
        entry.stay = Stay::Pulled(id);
        let cluster = usize::from(entry.at);
        let down = self.peers[cluster].down;
        match down {
            true => self.guests.remove(guest),
            false => self.ask(t, cluster, Request::Pull(guest), Timeout::NEVER),
        }
        !down
    }

    pub(super) fn check_peer(&self, cluster: usize) -> Result<(), Error> {
        match self.peers.get(cluster) {
            Some(peer) if peer.down => Err(Error::NodeDown),
            Some(peer) if peer.outbound.is_some() => Ok(()),
            _ => Err(Error::NoSuchThread),
        }
    }

    /// The reply right that the space of `t` has for the partner of its send phase.
    fn reply_right(&self, t: u32) -> Option<u32> {
        let thread = &self.threads[t as usize];
        let guest = self.guests.find(thread.op.dest)?;
        let space = self.spaces[usize::from(thread.space)].id;
        let owed = self.guests.get(guest).stay == Stay::Owed(space);
        passes(Check::RemoteReplyRight, owed).then_some(guest)
    }

    /// Begins a wait for another cluster.
    fn ask(&mut self, t: u32, cluster: usize, request: Request, until: Timeout) {
        let remote = &mut self.threads[t as usize].remote;
        remote.seq = remote.seq.wrapping_add(1);
        (remote.peer, remote.request) = (cluster as u16, request);
        (remote.ending, remote.delivered) = (Ending::None, request == Request::Watch);
        self.set_deadline(t, until.0);
        self.await_room(t);
    }

    /// Sends the request of `t` as soon as there is room.
    pub(super) fn await_room(&mut self, t: u32) {
        let cluster = usize::from(self.threads[t as usize].remote.peer);
        self.enter_queue(t, Place::Waiting, State::AwaitingCredit);
        self.pump(cluster);
    }

    /// `t` waits for its peer from now on.
    pub(super) fn enter_queue(&mut self, t: u32, place: Place, state: State) {
        let Self { peers, links, threads, .. } = self;
        let thread = &mut threads[t as usize];
        (thread.remote.place, thread.state) = (place, state);
        let cluster = usize::from(thread.remote.peer);
        let peer = &mut peers[cluster];
        if place == Place::Waiting {
            peer.waiting.push_back(links, t);
        }
        if peer.down {
            self.look_again(cluster);
        }
    }

    /// `t` does not wait for its peer any more.
    pub(crate) fn leave_peer(&mut self, t: u32) {
        let Self { peers, links, threads, .. } = self;
        let remote = &mut threads[t as usize].remote;
        let peer = &mut peers[usize::from(remote.peer)];
        if core::mem::replace(&mut remote.place, Place::Nowhere) == Place::Waiting {
            peer.waiting.remove(links, t);
            if peer.wants && peer.waiting.is_empty() {
                let cluster = usize::from(threads[t as usize].remote.peer);
                self.want_room(cluster, false);
            }
        }
    }

    /// Tells a guest's cluster that its wait has failed. The guest is in no queue.
    pub(crate) fn bounce(&mut self, guest: u32, error: Error, in_receive: bool) {
        let entry = self.guests.get_mut(guest);
        entry.stay = Stay::Bounced { error, in_receive };
        let cluster = usize::from(entry.at);
        self.queue_guest(cluster, guest);
    }

    pub(super) fn queue_guest(&mut self, cluster: usize, guest: u32) {
        if self.peers[cluster].down {
            return self.drop_request(guest);
        }
        let index = self.threads.len() as u32 + guest;
        self.peers[cluster].waiting.push_back(self.links, index);
        self.pump(cluster);
    }

    /// Sends waiting requests while there is room.
    ///
    /// A request that goes out may let its thread ask for something else. What comes of that only joins a queue: to send it from here
    /// would be a call in a call for each of those who wait, all in one kernel entry.
    pub(crate) fn pump(&mut self, cluster: usize) {
        if self.peers[cluster].waiting.is_empty() {
            return;
        }
        if let Some(pumped) = self.pumped {
            if pumped != cluster {
                self.look_soon(cluster);
            }
            return;
        }
        self.pumped = Some(cluster);
        self.send_all(cluster);
        self.pumped = None;
    }

    fn send_all(&mut self, cluster: usize) {
        let mut sent = false;
        loop {
            let peer = &self.peers[cluster];
            let (wants, first) = (peer.wants, peer.waiting.head());
            let Some(first) = first else {
                // Before anything else: a wish that outlives those who had it costs a doorbell for every packet.
                if wants {
                    self.want_room(cluster, false);
                }
                return;
            };
            let needed = self.room_for(first);
            if !self.has_room(cluster, needed) {
                if wants {
                    return;
                }
                // The other side may have looked before. (And somebody who was sent may have ended the wish that was there.)
                self.want_room(cluster, true);
                continue;
            }
            // One at least, or those who come would keep those who wait from leaving.
            if !self.budget.take(PACKET) && sent {
                return self.look_soon(cluster);
            }
            sent = true;
            let Self { peers, links, .. } = self;
            peers[cluster].waiting.remove(links, first);
            match (first as usize).checked_sub(self.threads.len()) {
                Some(guest) => self.send_guest(guest as u32, cluster),
                None => self.send_waiting(first, cluster),
            }
        }
    }

    fn send_guest(&mut self, guest: u32, cluster: usize) {
        let entry = *self.guests.get(guest);
        let Some(slot) = self.next_slot(cluster) else { return };
        let (kind, argument) = match entry.stay {
            Stay::Bounced { error, in_receive } => {
                (kind::BOUNCE, error.code() | if in_receive { IN_RECEIVE } else { 0 })
            }
            Stay::Redirected { to, in_receive } => (kind::REDIRECT, Self::redirection(to, in_receive)),
            Stay::Killed => (kind::KILL, 0),
            Stay::Notes { bits, rights, .. } => {
                slot[TAG].store(bits, Relaxed);
                (kind::NOTIFY, rights)
            }
            _ => return,
        };
        Head { kind, seq: entry.seq, sender: entry.sender, receiver: ThreadId::NIL, argument }.write(slot);
        self.publish(cluster, Lane::Requests);
        self.drop_request(guest);
    }

    /// Frees the entry of a request that has gone out, or never will.
    pub(super) fn drop_request(&mut self, guest: u32) {
        if let Stay::Notes { payer, .. } = self.guests.get(guest).stay {
            self.spaces[usize::from(payer)].notes -= 1;
        }
        self.guests.remove(guest);
    }

    /// Sends the request of a thread that has just left the queue for room.
    fn send_waiting(&mut self, t: u32, cluster: usize) {
        let thread = &mut self.threads[t as usize];
        thread.remote.place = Place::Nowhere;
        let request = thread.remote.request;
        match request {
            Request::Move | Request::Located | Request::Ended | Request::Pass => {
                return self.send_journey(t, cluster, request);
            }
            Request::Reply if self.reply_right(t).is_none() => {
                // The caller has given up meanwhile.
                return self.fail_send(t, Error::NotWaiting);
            }
            Request::Reply => {
                self.send_request(t, cluster, request);
                return self.receive_phase(t);
            }
            Request::Pull(_) => self.enter_queue(t, Place::Pending, State::Pulling),
            Request::Send | Request::Watch | Request::Watching | Request::Cancel => {
                self.enter_queue(t, Place::Pending, State::AwaitingResponse);
            }
        }
        self.send_request(t, cluster, request);
    }

    /// Writes and publishes a request; there is room.
    fn send_request(&mut self, t: u32, cluster: usize, request: Request) {
        let Some(slot) = self.next_slot(cluster) else { return };
        let thread = &self.threads[t as usize];
        let (id, op, seq) = (thread.id, thread.op, thread.remote.seq);
        let head = match request {
            Request::Send => {
                let granted = if self.is_granted(t, op.dest) { GRANTED } else { 0 };
                if granted != 0 {
                    // For the fast path, as in `check_permission`.
                    self.threads[t as usize].granted = op.dest;
                }
                let poll = if op.send_timeout.is_poll() { POLL } else { 0 };
                let call = if op.is_call() { CALL } else { 0 };
                self.write_message(t, slot);
                let argument = granted | poll | call | u64::from(self.domain_of(t));
                Head { kind: kind::SEND, seq, sender: id, receiver: op.dest, argument }
            }
            Request::Reply => {
                let Some(guest) = self.reply_right(t) else { return };
                let seq = self.guests.get(guest).seq;
                self.write_message(t, slot);
                let argument = u64::from(self.domain_of(t));
                self.forget(guest);
                Head { kind: kind::REPLY, seq, sender: op.dest, receiver: id, argument }
            }
            Request::Pull(guest) => {
                let guest = self.guests.get(guest);
                Head { kind: kind::PULL, seq: guest.seq, sender: guest.sender, receiver: id, argument: 0 }
            }
            Request::Watch | Request::Watching => {
                // Who pays for the entry there.
                let argument = u64::from(self.domain_of(t));
                Head { kind: kind::WATCH, seq, sender: id, receiver: op.from, argument }
            }
            Request::Move | Request::Located | Request::Ended | Request::Pass => return,
            Request::Cancel => {
                let argument = self.phases_to_cancel(t);
                Head { kind: kind::CANCEL, seq, sender: id, receiver: op.dest, argument }
            }
        };
        debug_assert!(head.argument & (IN_SEND | IN_RECEIVE) == 0 || head.kind == kind::CANCEL);
        head.write(slot);
        self.publish(cluster, Lane::Requests);
    }

    /// Writes tag and words of the message that `t` sends into a packet.
    pub(super) fn write_message(&mut self, t: u32, slot: Slot<'_>) {
        let tag = self.threads[t as usize].tag();
        slot[TAG].store(tag.0, Relaxed);
        self.copy_out(t, tag.words(), &slot[WORDS..]);
    }

    /// NOTIFY to a thread that is not in this cluster: sent at once, or added to the bits that wait for room.
    pub(crate) fn notify_remote(&mut self, t: u32, dest: ThreadId, bits: u64) -> Result<(), Error> {
        let cluster = self.keeper(dest);
        self.check_peer(cluster)?;
        let thread = &self.threads[t as usize];
        let space = self.spaces[usize::from(thread.space)].id;
        let owes = self.guests.find(dest).is_some_and(|g| self.guests.get(g).stay == Stay::Owed(space));
        let granted = if owes || self.is_granted(t, dest) { GRANTED } else { 0 };
        let rights = granted | u64::from(self.domain_of(t));
        let payer = thread.space;
        if let Some(away) = self.absent(dest) {
            self.notify_after(away, bits, rights);
            return Ok(());
        }
        self.send_notes(dest, cluster, bits, rights, payer)
    }

    /// Sends notification bits, or adds them to those that wait for room; new ones at the cost of the space `payer`.
    ///
    /// # Errors
    /// [`Error::Timeout`] if there is no room, and too many of that space wait for it. Ids need not exist: without this, a program could
    /// fill the table of guests with invented ones.
    fn send_notes(
        &mut self,
        dest: ThreadId,
        cluster: usize,
        bits: u64,
        rights: u64,
        payer: u16,
    ) -> Result<(), Error> {
        if let Some(slot) = self.free_way(cluster) {
            slot[TAG].store(bits, Relaxed);
            self.send_note(cluster, kind::NOTIFY, dest, rights);
            return Ok(());
        }
        if let Some(guest) = self.guests.find_notes(dest, cluster as u16, rights) {
            if let Stay::Notes { bits: waiting, .. } = &mut self.guests.get_mut(guest).stay {
                *waiting |= bits;
            }
            return Ok(());
        }
        let space = &mut self.spaces[usize::from(payer)];
        if space.notes >= MAX_NOTES {
            return Err(Error::Timeout);
        }
        let (notes, domain) = (Stay::Notes { bits, rights, payer }, space.domain);
        let guest = self.guests.add(dest, cluster as u16, 0, notes, domain).map_err(|_| Error::Timeout)?;
        space.notes += 1;
        self.queue_guest(cluster, guest);
        Ok(())
    }
}

/// Notifications of one space that may wait for room at the same time, if they are for different threads or in different names. With
/// the shares of domains they leave room for others ([`crate::guests`]).
pub(crate) const MAX_NOTES: u8 = 2;

/// Where the words of a packet's message are.
pub(super) const WORDS: usize = HEADER;
const _: () = assert!(ARGUMENT < TAG && TAG < HEADER);
