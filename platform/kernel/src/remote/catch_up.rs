//! News of a thread that has moved on, and answers of other clusters that must not come after it.
//!
//! A cluster says what a thread has done after it left this one; that it has arrived there was said before, perhaps by another cluster
//! whose rings have not had their turn. And where the thread is now may have said earlier that it was gone from there: whoever was told so
//! after the news would believe it from then on. So all answers of these clusters come first that this one could see when it saw the
//! news: what led to the news is among them.
//!
//! They may be more than a kernel entry is to handle. Then the news stays where it is, the oldest request of its cluster, and is looked at
//! again when that cluster has its next turn. Which answers it waits for is remembered: else those that come meanwhile could keep it
//! waiting for ever. And each turn takes one of them at least, whatever others have left of the entry.

use super::{Head, PACKET, kind};
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::ring::{Lane, Ring};
use crate::thread::State;
use skerry_abi::ThreadId;

/// The answers that the oldest request of a cluster waits for.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// The request's number.
    request: u64,
    /// The low half of the number of the first answer that it does not wait for,
    end: u32,
    /// of this cluster.
    of: u16,
}

impl Behind {
    const NOBODY: u16 = u16::MAX;
    /// None.
    pub const NOTHING: Self = Self { request: 0, end: 0, of: Self::NOBODY };

    /// Whether a request waits.
    #[inline(always)]
    pub(super) fn is_something(self) -> bool {
        self.of != Self::NOBODY
    }

    /// The number of the request, if it is not none.
    #[cfg(test)]
    pub(crate) fn request(self) -> Option<u64> {
        self.is_something().then_some(self.request)
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// Whether the oldest request of a cluster waits for answers.
    #[inline(always)]
    pub(super) fn is_behind(&self, cluster: usize) -> bool {
        let peer = &self.peers[cluster];
        let waits = |ring: Ring<'_>| ring.first(Lane::Requests) == peer.behind.request;
        peer.behind.is_something() && peer.inbound.is_some_and(waits)
    }

    /// Handles what has to come before this request, the oldest one in the ring of a cluster. `false`: that is too much for this kernel entry.
    #[inline(always)]
    pub(super) fn catch_up(&mut self, cluster: usize, ring: Ring<'_>, head: &Head) -> bool {
        !matches!(head.kind, kind::MOVE | kind::LOCATED | kind::ENDED)
            || self.has_caught_up(cluster, ring, head)
    }

    #[inline(never)]
    fn has_caught_up(&mut self, cluster: usize, ring: Ring<'_>, head: &Head) -> bool {
        let request = ring.first(Lane::Requests);
        let left = self.leaves_for(head.sender);
        let at = (head.kind == kind::LOCATED).then_some(head.argument as u16);
        let caught_up = [left, at].into_iter().flatten().all(|of| self.take_responses(of, cluster, request));
        if caught_up {
            // It is handled now.
            self.peers[cluster].behind.of = Behind::NOBODY;
        }
        caught_up
    }

    /// The cluster whose answer a moving thread waits for.
    fn leaves_for(&self, id: ThreadId) -> Option<u16> {
        let thread = &self.threads[self.find(id)? as usize];
        (thread.state == State::Moving).then_some(thread.remote.peer)
    }

    /// Handles the responses that had arrived from cluster `of` when this request of another one was looked at first.
    fn take_responses(&mut self, of: u16, cluster: usize, request: u64) -> bool {
        let Some(ring) = self.peers.get(usize::from(of)).and_then(|peer| peer.inbound) else { return true };
        if self.is_maintained() {
            self.look_at(ring);
        }
        let behind = self.peers[cluster].behind;
        let known = behind.of == of && behind.request == request;
        let end = if known { behind.end } else { ring.end(Lane::Responses) as u32 };
        let (mut caught_up, mut taken) = (true, false);
        while let Some(slot) = ring.front(Lane::Responses) {
            if (end.wrapping_sub(ring.first(Lane::Responses) as u32) as i32) <= 0 {
                break;
            }
            if !self.budget.take(PACKET) && taken {
                caught_up = false;
                break;
            }
            taken = true;
            if self.is_maintained() {
                self.fetch(ring, Lane::Responses, slot);
            }
            self.take_response(of.into(), slot);
            ring.release(Lane::Responses);
        }
        if !caught_up {
            self.peers[cluster].behind = Behind { request, end, of };
        }
        if self.is_maintained() {
            self.give_back_maintained(of.into());
        }
        caught_up
    }
}
