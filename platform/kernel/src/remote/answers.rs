//! Responses of other clusters to this one's requests.

use super::{Head, IN_RECEIVE, Request, kind};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::remote::{CALL, Ending};
use crate::ring::Slot;
use crate::thread::State;
use skerry_abi::{Error, ThreadId};

impl<H: Hal> Kernel<'_, H> {
    pub(super) fn take_response(&mut self, cluster: usize, slot: Slot<'_>) {
        let head = Head::read(slot);
        if matches!(head.kind, kind::DATA | kind::GONE) {
            return self.pulled(cluster, head, slot);
        }
        if matches!(head.kind, kind::ARRIVED | kind::REFUSED | kind::NOTED) {
            return self.take_journey_answer(head);
        }
        if matches!(head.kind, kind::MISSED_NOTES | kind::MISSED_KILL) {
            return self.take_back(cluster, head, slot);
        }
        // (A cancel that finds the message delivered says nothing about what its receiver does now.)
        if head.kind == kind::DELIVERED && head.argument & IN_RECEIVE != 0 {
            self.end_watch(cluster, head.sender, head.receiver);
        }
        let Some(t) = self.find_waiting(head) else { return };
        match head.kind {
            kind::DELIVERED => self.sent_remote(t),
            kind::MOVED => {
                let in_receive = head.argument & IN_RECEIVE != 0;
                self.follow(t, head.receiver, head.argument as u16, in_receive);
            }
            kind::FAILED => {
                let remote = &self.threads[t as usize].remote;
                let (peer, in_receive, error) =
                    (remote.peer, remote.delivered, Error::from_code(head.argument));
                match self.beyond(head.receiver, peer).filter(|_| error == Error::NoSuchThread) {
                    Some(cluster) => self.follow(t, head.receiver, cluster, in_receive),
                    None => self.end_remote(t, Some(error), in_receive),
                }
            }
            kind::CANCELLED => self.end_remote(t, None, head.argument & IN_RECEIVE != 0),
            kind::WATCHED => self.watching(t),
            kind::WAITING => self.go_on_waiting(t, u64::MAX),
            // `LATE`: what ends the wait is on its way.
            _ => {}
        }
    }

    /// Thread `t` knows that its message has arrived.
    pub(super) fn sent_remote(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        if !thread.op.is_call() {
            self.leave_peer(t);
            return match self.threads[t as usize].remote.ending {
                Ending::None | Ending::Timeout => self.receive_phase(t),
                _ => self.end_after_send(t),
            };
        }
        thread.remote.delivered = true;
        let patience = thread.op.receive_timeout.0;
        self.go_on_waiting(t, patience);
    }

    /// The thread that `t` receives from lives, and its end will be told. It may have sent something meanwhile. (If it has even come to this
    /// cluster meanwhile, the word that it has moved is on its way.)
    fn watching(&mut self, t: u32) {
        let remote = &mut self.threads[t as usize].remote;
        if remote.request != Request::Watch {
            return;
        }
        remote.request = Request::Watching;
        let sender = self.next_sender(t);
        if let Some(guest) = sender.and_then(|index| index.checked_sub(self.threads.len() as u32)) {
            self.leave_peer(t);
            self.clear_deadline(t);
            let Self { threads, links, .. } = self;
            let index = threads.len() as u32 + guest;
            threads[t as usize].senders.remove(links, index);
            if !self.pull(t, guest) {
                self.fail(t, Error::NodeDown, true);
            }
        }
    }

    /// A partial cancel is settled. If the thread is to end for another reason by now, that goes on.
    fn go_on_waiting(&mut self, t: u32, patience: u64) {
        let remote = &mut self.threads[t as usize].remote;
        match remote.ending {
            Ending::None | Ending::Timeout => {
                remote.ending = Ending::None;
                if remote.request == Request::Cancel {
                    // The cancel that has not left yet is not needed any more; one that has left changes nothing.
                    self.keep_pending(t);
                }
                self.set_deadline(t, patience);
            }
            _ => self.ask_to_cancel(t),
        }
    }

    /// The message of `sender` here reaches `receiver` in that cluster, which perhaps receives from it only: then its watch is over. (But not
    /// one that it began in another cluster, after it had received the message and moved on.)
    pub(super) fn end_watch(&mut self, cluster: usize, sender: ThreadId, receiver: ThreadId) {
        if let Some(guest) = self.guests.find_stay(receiver, cluster as u16, Stay::Watches(sender)) {
            self.forget(guest);
        }
    }

    /// The message that a local thread has asked for, or word that it will not come.
    fn pulled(&mut self, cluster: usize, head: Head, slot: Slot<'_>) {
        let guest = self.guests.find_stay(head.sender, cluster as u16, Stay::Pulled(head.receiver));
        let receiver = self.find(head.receiver);
        let receiver = receiver.filter(|&t| self.threads[t as usize].state == State::Pulling);
        let (Some(guest), Some(t)) = (guest, receiver) else { return };
        self.leave_peer(t);
        let ending = self.threads[t as usize].remote.ending;
        if head.kind == kind::GONE {
            self.guests.remove(guest);
            return match ending {
                Ending::None => self.receive_phase(t),
                ending => self.end_wait(t, ending, true),
            };
        }
        if head.argument & CALL != 0 {
            let space = self.threads[t as usize].space;
            self.guests.get_mut(guest).stay = Stay::Owed(self.spaces[usize::from(space)].id);
        } else {
            self.guests.remove(guest);
        }
        match ending {
            Ending::Kill => self.reap(t),
            _ => self.deliver_packet(t, head.sender, head, slot),
        }
    }
}
