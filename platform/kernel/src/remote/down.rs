//! Clusters that stop. Slow is not dead: a cluster is down when its own kernel has said so, because a privileged thread parked it
//! or because it panicked.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::remote::Ending;
use crate::thread::State;
use skerry_abi::Error;

/// Waits that are ended in one go; the rest follows at the next interrupt, which comes at once.
const STEP: usize = 16;

impl<H: Hal> Kernel<'_, H> {
    /// Stops this cluster for good: no thread runs any more, and all others get [`Error::NodeDown`] from it.
    pub fn park(&mut self) {
        self.parked = true;
        for cluster in 0..self.peers.len() {
            if let Some(ring) = self.peers[cluster].outbound {
                ring.set_down();
                self.ring(cluster);
            }
        }
        for cpu in (0u16..).zip(self.cpus.iter()).filter(|(_, c)| c.ours).map(|(cpu, _)| cpu) {
            if cpu != self.this_cpu {
                self.hal.kick(cpu);
            }
        }
    }

    /// A cluster has said that it is down: ends the waits for it, some at a time.
    pub(super) fn node_down(&mut self, cluster: usize) {
        self.peers[cluster].down = true;
        for _ in 0..STEP {
            let peer = &self.peers[cluster];
            let Some(index) = peer.waiting.head().or(peer.pending.head()) else { return };
            match (index as usize).checked_sub(self.threads.len()) {
                Some(guest) => {
                    self.peers[cluster].waiting.remove(self.links, index);
                    self.guests.remove(guest as u32);
                }
                None => self.lose_partner(index),
            }
        }
        // The next look continues.
        if self.bells.ring(cluster) {
            self.hal.kick(self.this_cpu);
        }
    }

    /// The cluster that `t` waits for is down.
    fn lose_partner(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (state, request) = (thread.state, thread.remote.request);
        self.leave_peer(t);
        if matches!(state, State::Moving | State::Dying) {
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
