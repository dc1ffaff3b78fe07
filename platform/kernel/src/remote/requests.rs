//! What other clusters ask of this one.

use super::outgoing::WORDS;
use super::{CALL, GRANTED, Head, IN_RECEIVE, IN_SEND, POLL, Request, TAG, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::ipc::Source;
use crate::kernel::Kernel;
use crate::remote::Ending;
use crate::ring::{Lane, Slot};
use crate::thread::State;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::{Domain, Error, SpaceId, Tag, ThreadId};
use skerry_checks::{Check, passes};

impl<H: Hal> Kernel<'_, H> {
    /// Handles a request. Returns the response, if there is one and it is not written already.
    pub(super) fn take_request(&mut self, cluster: usize, head: Head, slot: Slot<'_>) -> Option<Head> {
        match head.kind {
            kind::SEND | kind::WATCH if self.departed(head.receiver).is_some() => {
                let to = self.departed(head.receiver)?;
                Some(head.answer(kind::MOVED, Self::redirection(to, head.kind == kind::WATCH)))
            }
            kind::SEND => match self.accept(cluster, head, slot) {
                Ok(answer) => answer,
                Err(error) => Some(head.answer(kind::FAILED, error.code())),
            },
            kind::PULL => self.hand_over(cluster, head),
            kind::REPLY => {
                if let Some(t) = self.find_waiting(head) {
                    self.leave_peer(t);
                    match self.threads[t as usize].remote.ending {
                        Ending::Kill => self.reap(t),
                        _ => self.deliver_packet(t, head.receiver, head, slot),
                    }
                }
                None
            }
            kind::BOUNCE => {
                if let Some(t) = self.find_waiting(head) {
                    let error = Error::from_code(head.argument & 0xffff_ffff);
                    self.end_remote(t, Some(error), head.argument & IN_RECEIVE != 0);
                }
                None
            }
            kind::WATCH => match self.find(head.receiver) {
                Some(t) => Some(self.add_watch(cluster, t, head)),
                None => Some(head.answer(kind::FAILED, Error::NoSuchThread.code())),
            },
            kind::CANCEL => Some(self.take_cancel(head)),
            kind::NOTIFY => {
                let bits = slot[TAG].load(Relaxed);
                let taken = self.take_notes(head.sender, bits, head.argument);
                if taken { None } else { self.give_back(cluster, head, bits) }
            }
            kind::MOVE => self.peers[cluster].inbound.map(|ring| self.take_move(ring, head, slot)),
            kind::LOCATED => {
                self.note_place(head.sender, head.argument as u16, (head.argument >> 32) as u32);
                Some(head.answer(kind::NOTED, 0))
            }
            kind::ENDED => {
                self.note_end(head.sender);
                None
            }
            kind::KILL => {
                let taken = self.take_kill(head.sender);
                if taken { None } else { self.give_back(cluster, head, 0) }
            }
            kind::REDIRECT => {
                if let Some(t) = self.find_waiting(head) {
                    let in_receive = head.argument & IN_RECEIVE != 0;
                    let op = &self.threads[t as usize].op;
                    let partner = if in_receive { op.from } else { op.dest };
                    self.follow(t, partner, head.argument as u16, in_receive);
                }
                None
            }
            _ => None,
        }
    }

    /// Where a thread that was born here has gone.
    fn departed(&self, id: ThreadId) -> Option<u16> {
        if id.cluster() != self.cluster { None } else { self.elsewhere(id).map(|cluster| cluster as u16) }
    }

    /// The thread whose operation a packet is about, if it still waits in it.
    pub(super) fn find_waiting(&self, head: Head) -> Option<u32> {
        let t = self.find(head.sender)?;
        let thread = &self.threads[t as usize];
        let sent = match thread.state {
            State::AwaitingResponse => true,
            State::AwaitingCredit => thread.remote.request == Request::Cancel,
            _ => false,
        };
        (sent && thread.remote.seq == head.seq).then_some(t)
    }

    /// Delivers the message in a packet.
    pub(super) fn deliver_packet(&mut self, t: u32, from: ThreadId, head: Head, slot: Slot<'_>) {
        let tag = Tag(slot[TAG].load(Relaxed)).sanitized();
        self.deliver(t, from, head.argument as Domain, tag, Source::Packet(&slot[WORDS..]));
    }

    /// A message: takes it, or remembers who wants to send it.
    fn accept(&mut self, cluster: usize, head: Head, slot: Slot<'_>) -> Result<Option<Head>, Error> {
        let t = self.find(head.receiver).ok_or(Error::NoSuchThread)?;
        let thread = &self.threads[t as usize];
        let space = thread.space;
        let from = head.argument as Domain;
        let permitted = from == self.domain_of(t) || head.argument & GRANTED != 0;
        if !passes(Check::RemotePermission, permitted) {
            return Err(Error::NotPermitted);
        }
        let call = head.argument & CALL != 0;
        let watches = thread.state == State::AwaitingResponse
            && thread.remote.request == Request::Watching
            && thread.op.from == head.sender;
        if watches || thread.accepts(head.sender, SpaceId::NIL) {
            if call {
                let owed = Stay::Owed(self.spaces[usize::from(space)].id);
                self.guests.add(head.sender, cluster as u16, head.seq, owed, from)?;
            }
            if watches {
                self.leave_peer(t);
            }
            self.deliver_packet(t, head.sender, head, slot);
            // A caller will hear of it by the answer; but its kernel has to forget the watch.
            let watch_ends = if watches { IN_RECEIVE } else { 0 };
            return Ok((!call || watches).then(|| head.answer(kind::DELIVERED, watch_ends)));
        }
        if head.argument & POLL != 0 {
            return Err(Error::Timeout);
        }
        let queued = Stay::Queued(head.receiver);
        let guest = self.guests.add(head.sender, cluster as u16, head.seq, queued, from)?;
        let Self { threads, links, .. } = self;
        let index = threads.len() as u32 + guest;
        threads[t as usize].senders.push_back(links, index);
        Ok(None)
    }

    fn add_watch(&mut self, cluster: usize, t: u32, head: Head) -> Head {
        let (watches, from) = (Stay::Watches(head.receiver), head.argument as Domain);
        match self.guests.add(head.sender, cluster as u16, head.seq, watches, from) {
            Ok(guest) => {
                let Self { threads, cold, links, .. } = self;
                cold[t as usize].expecting.push_back(links, threads.len() as u32 + guest);
                head.answer(kind::WATCHED, 0)
            }
            Err(error) => head.answer(kind::FAILED, error.code()),
        }
    }

    /// Takes a guest out of the queue it is in because of its stay, but for those of requests that wait for room.
    pub(super) fn leave_stay(&mut self, guest: u32) {
        let index = self.threads.len() as u32 + guest;
        match self.guests.get(guest).stay {
            Stay::Queued(receiver) => {
                if let Some(t) = self.slot_of(receiver) {
                    self.threads[t as usize].senders.remove(self.links, index);
                }
            }
            Stay::Watches(thread) => {
                if let Some(t) = self.slot_of(thread) {
                    self.cold[t as usize].expecting.remove(self.links, index);
                }
            }
            Stay::Free
            | Stay::Owed(_)
            | Stay::Pulled(_)
            | Stay::Bounced { .. }
            | Stay::Redirected { .. }
            | Stay::Killed
            | Stay::Notes { .. } => {}
        }
    }

    /// A reply right is used, or a watch is over.
    pub(super) fn forget(&mut self, guest: u32) {
        self.leave_stay(guest);
        self.guests.remove(guest);
    }

    /// The receiver is ready for the message of a thread of ours that is queued there.
    fn hand_over(&mut self, cluster: usize, head: Head) -> Option<Head> {
        // Whoever asks for a message watches its sender no more; if there is none, it begins anew.
        self.end_watch(cluster, head.sender, head.receiver);
        let Some(t) = self.find_waiting(head).filter(|&t| !self.ends_in_send(t)) else {
            if let Some(t) = self.find_waiting(head) {
                // It is out of time, or to be deleted: its own cancel will find nothing any more.
                self.end_remote(t, None, false);
            }
            return Some(head.answer(kind::GONE, 0));
        };
        let slot = self.response_slot(cluster)?;
        let call = self.threads[t as usize].op.is_call();
        self.write_message(t, slot);
        let argument = u64::from(self.domain_of(t)) | if call { CALL } else { 0 };
        head.answer(kind::DATA, argument).write(slot);
        self.publish(cluster, Lane::Responses);
        self.sent_remote(t);
        None
    }

    /// A thread of another cluster does not want to wait any longer.
    fn take_cancel(&mut self, head: Head) -> Head {
        let Some(guest) = self.guests.find(head.sender) else { return head.answer(kind::LATE, 0) };
        let entry = self.guests.get_mut(guest);
        if entry.seq != head.seq {
            return head.answer(kind::LATE, 0);
        }
        let in_receive = match entry.stay {
            Stay::Queued(_) if head.argument & IN_SEND == 0 => return head.answer(kind::WAITING, 0),
            Stay::Owed(_) if head.argument & IN_RECEIVE == 0 => return head.answer(kind::DELIVERED, 0),
            Stay::Queued(_) => false,
            Stay::Owed(_) | Stay::Watches(_) => true,
            // Asked for its message: that request will end its wait.
            _ => {
                entry.cancelled |= head.argument & IN_SEND != 0;
                return head.answer(kind::LATE, 0);
            }
        };
        self.forget(guest);
        head.answer(kind::CANCELLED, if in_receive { IN_RECEIVE } else { 0 })
    }
}
