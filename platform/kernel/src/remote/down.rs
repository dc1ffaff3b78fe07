//! Clusters that stop. Slow is not dead: a cluster is down when its own kernel has said so, because a privileged thread parked it
//! or because it panicked.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::remote::{Ending, Place};
use crate::ring::Lane;
use crate::thread::State;
use skerry_abi::Error;

/// What it costs to end a wait, in units of [`skerry_mapping_db::Budget`].
const STEP: u32 = 20;
/// What it costs to look at a thread.
const LOOK: u32 = 1;

impl<H: Hal> Kernel<'_, H> {
    /// Stops this cluster for good: no thread runs any more, and all others get [`Error::NodeDown`] from it.
    pub fn park(&mut self) {
        (self.parked, self.no_short_way) = (true, true);
        self.release_all();
        for cluster in 0..self.peers.len() {
            if let Some(ring) = self.peers[cluster].outbound {
                ring.set_down();
                self.tell_down(ring);
                self.ring(cluster);
            }
        }
        for cpu in (0u16..).zip(self.cpus.iter()).filter(|(_, c)| c.ours).map(|(cpu, _)| cpu) {
            if cpu != self.this_cpu {
                self.hal.kick(cpu);
            }
        }
    }

    /// A cluster has said that it is down. First counts what it sent before, also what has come since its packets were handled.
    pub(super) fn see_off(&mut self, cluster: usize) {
        let Some(ring) = self.peers[cluster].inbound else { return };
        let unread = [Lane::Requests, Lane::Responses].iter().any(|&lane| ring.front(lane).is_some());
        match unread && !self.is_behind(cluster) {
            true => self.look_soon(cluster),
            false => self.node_down(cluster),
        }
    }

    /// A cluster has said that it is down: ends the waits for it, some at a time.
    pub(super) fn node_down(&mut self, cluster: usize) {
        self.peers[cluster].down = true;
        while let Some(index) = self.peers[cluster].waiting.head() {
            if !self.budget.take(STEP) {
                return self.look_soon(cluster);
            }
            match (index as usize).checked_sub(self.threads.len()) {
                Some(guest) => {
                    self.peers[cluster].waiting.remove(self.links, index);
                    self.drop_request(guest as u32);
                }
                None => self.lose_partner(index),
            }
        }
        if self.peers[cluster].wants {
            self.want_room(cluster, false);
        }
        // Who waits for an answer is in no queue: a cluster goes down once, but calls and answers come all the time.
        while self.peers[cluster].told < self.used_threads {
            if !self.budget.take(LOOK) {
                return self.look_soon(cluster);
            }
            let t = self.peers[cluster].told;
            self.peers[cluster].told += 1;
            let remote = &self.threads[t as usize].remote;
            if remote.place == Place::Pending && usize::from(remote.peer) == cluster {
                self.lose_partner(t);
                self.budget.charge(STEP);
            }
        }
    }

    /// Somebody has begun to wait for a cluster that is down.
    pub(super) fn look_again(&mut self, cluster: usize) {
        self.peers[cluster].told = 0;
        self.look_soon(cluster);
    }

    /// The rest of what there is to do about a cluster follows in another kernel entry, which comes at once.
    pub(super) fn look_soon(&mut self, cluster: usize) {
        if self.bells.ring(cluster) {
            self.hal.kick(self.this_cpu);
        }
    }

    /// The cluster that `t` waits for is down.
    fn lose_partner(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (state, request) = (thread.state, thread.remote.request);
        self.leave_peer(t);
        if matches!(state, State::Moving | State::Dying | State::Passing) {
            return self.lose_journey(t);
        }
        if let crate::remote::Request::Pull(guest) = request
            && (state == State::Pulling || state == State::AwaitingCredit)
        {
            self.guests.remove(guest);
            return match self.threads[t as usize].remote.ending {
                Ending::None => self.receive_phase(t),
                ending => self.end_wait(t, ending, true),
            };
        }
        let in_receive = self.threads[t as usize].remote.delivered;
        match self.threads[t as usize].remote.ending {
            Ending::Kill => self.reap(t),
            _ => self.fail(t, Error::NodeDown, in_receive),
        }
    }
}
