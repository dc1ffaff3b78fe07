//! What the threads of the model know: which messages they sent, what became of them, who owes whom a reply.
//!
//! Everything here is learnt the way a user program would learn it, from the results of system calls, so that the
//! properties speak about what programs see and not about how the kernel works.

use super::scenario::{CLUSTERS, Do, Scenario, THREADS};
use skerry_abi::{Error, SpaceId, Tag};
use std::format;
use std::string::String;

/// What its sender knows of a message, and how often somebody received it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Fate {
    /// Not sent yet.
    #[default]
    Unsent,
    /// The call has not returned.
    Open,
    /// The sender was told that it was delivered.
    Succeeded,
    /// The sender was told that it was not.
    Failed,
    /// The sender died before it was told anything.
    Orphaned,
}

/// Operations of one thread at most.
pub(super) const OPERATIONS: usize = 6;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Ghost {
    /// How many operations each thread began.
    pub(super) begun: [u8; THREADS],
    /// The one that has not returned.
    pub(super) open: [Option<Do>; THREADS],
    /// By thread and operation.
    pub(super) fates: [[(Fate, u8); OPERATIONS]; THREADS],
    /// Whom each of them is for.
    pub(super) dests: [[u8; OPERATIONS]; THREADS],
    /// The space that its sender was in.
    pub(super) origins: [[SpaceId; OPERATIONS]; THREADS],
    /// Notification bits, by receiver: sent (or just being sent), and received.
    pub(super) posted: [u64; THREADS],
    pub(super) noticed: [u64; THREADS],
    /// Whom a thread received from last.
    pub(super) partner: [Option<u8>; THREADS],
    /// The space that may answer a thread's call, by the thread's index.
    pub(super) owed: [Option<SpaceId>; THREADS],
    /// Who has been deleted, or will be as soon as everybody has let go of it.
    pub(super) killed: [bool; THREADS],
    /// Environment events so far.
    pub(super) kills: u8,
    pub(super) moves: u8,
    pub(super) cancels: u8,
    pub(super) expired: [bool; CLUSTERS],
}

/// The result of an IPC as the registers and the UTCB show it.
pub(super) struct Result {
    pub(super) sender: Option<u8>,
    pub(super) domain: u64,
    pub(super) tag: Tag,
    pub(super) words: [u64; super::machine::WORDS],
}

/// A message's number: no two operations of a run have the same.
pub(super) fn number(thread: usize, operation: u8) -> u64 {
    1 + (thread * OPERATIONS) as u64 + u64::from(operation)
}

/// The bit of a notification.
pub(super) fn bit(thread: usize, operation: u8) -> u64 {
    1 << number(thread, operation)
}

impl Ghost {
    pub(super) fn begin(&mut self, i: usize, what: Do, space: SpaceId) {
        let operation = self.begun[i];
        self.origins[i][usize::from(operation)] = space;
        if let Do::Notify(to) = what {
            self.posted[usize::from(to)] |= bit(i, operation);
        }
        self.begun[i] += 1;
        self.open[i] = Some(what);
        if let Some(to) = what.sends(self.partner[i]) {
            self.dests[i][usize::from(operation)] = to;
            self.fates[i][usize::from(operation)].0 = Fate::Open;
        }
    }

    /// Thread `i` begins its open operation again, in another space.
    pub(super) fn begin_again(&mut self, i: usize, space: SpaceId) {
        self.origins[i][usize::from(self.begun[i] - 1)] = space;
    }

    /// Thread `i`, in this space, came back from its receive phase with a message.
    pub(super) fn received(
        &mut self,
        scenario: &Scenario,
        (i, space): (usize, SpaceId),
        result: &Result,
    ) -> core::result::Result<(), String> {
        let number = result.words[0];
        let Some(sender) = result.sender.map(usize::from) else {
            return Err(format!("thread {i} received from a stranger: {:?}", result.tag));
        };
        let operation = (number.wrapping_sub(1) as usize) % OPERATIONS;
        if number != self::number(sender, operation as u8) || number == 0 {
            return Err(format!("thread {i} received number {number} from {sender}"));
        }
        let used = result.tag.untyped();
        if !(1..=super::machine::WORDS).contains(&used) {
            return Err(format!("a message of {used} words"));
        }
        let words = &result.words[..used];
        if words.iter().enumerate().any(|(n, &w)| w & 0xffff != number || w >> 16 != n as u64) {
            return Err(format!("message {number} is mixed up: {words:x?}"));
        }
        let (from, to) = (&scenario.threads[sender], &scenario.threads[i]);
        if result.domain != u64::from(from.domain) {
            return Err(format!("message {number} comes with domain {}", result.domain));
        }
        let fate = &mut self.fates[sender][operation];
        fate.1 += 1;
        if fate.1 > 1 {
            return Err(format!("message {number} was delivered {} times", fate.1));
        }
        if !matches!(fate.0, Fate::Open | Fate::Succeeded | Fate::Orphaned) {
            return Err(format!("message {number} was delivered after its sender was told: {:?}", fate.0));
        }
        let permitted = from.domain == to.domain || from.may_send_to.contains(&(i as u8));
        let owed = self.owed[i].take() == Some(self.origins[sender][operation]);
        if !permitted && !owed {
            return Err(format!("message {number} needed a reply right that nobody held"));
        }
        self.partner[i] = Some(sender as u8);
        if self.open[sender].is_some_and(Do::is_call) && self.begun[sender] == operation as u8 + 1 {
            self.owed[sender] = Some(space);
        }
        Ok(())
    }

    /// Thread `i` received notification bits.
    pub(super) fn noticed(&mut self, i: usize, bits: u64) -> core::result::Result<(), String> {
        let new = self.posted[i] & !self.noticed[i];
        self.noticed[i] |= bits;
        if bits != 0 && bits & !new == 0 {
            Ok(())
        } else {
            Err(format!("thread {i} was notified of {bits:x}, not {new:x}"))
        }
    }

    /// The notification that thread `i` was sending was refused.
    pub(super) fn refused(&mut self, i: usize, to: u8) -> core::result::Result<(), String> {
        let bit = bit(i, self.begun[i] - 1);
        self.posted[usize::from(to)] &= !bit;
        match self.noticed[usize::from(to)] & bit {
            0 => Ok(()),
            _ => Err(format!("a notification of thread {i} was refused, but received")),
        }
    }

    /// The open operation of thread `i` ended with this tag. These threads live.
    pub(super) fn ended(
        &mut self,
        i: usize,
        tag: Tag,
        living: &[bool; THREADS],
    ) -> core::result::Result<(), String> {
        let Some(what) = self.open[i].take() else { return Ok(()) };
        self.owed[i] = None;
        let dest = what.sends(self.partner[i]).filter(|&dest| living[usize::from(dest)]);
        if let (Some(Error::NoSuchThread), Some(dest)) = (tag.error(), dest) {
            return Err(format!("{what:?} of thread {i} ended as if thread {dest} were gone"));
        }
        let (fate, count) = &mut self.fates[i][usize::from(self.begun[i] - 1)];
        if *fate != Fate::Open {
            return Ok(());
        }
        let sent = tag.error().is_none() || tag.receive_failed();
        *fate = if sent { Fate::Succeeded } else { Fate::Failed };
        match (sent, *count) {
            // Between clusters it may be on its way: `quiet` sees that it arrives.
            (true, 0 | 1) | (false, 0) => Ok(()),
            _ => Err(format!("{what:?} of thread {i} ended with {tag:?}, delivered {count} times")),
        }
    }

    /// Thread `i` is dead.
    pub(super) fn died(&mut self, i: usize) {
        if self.open[i].take().is_some() {
            let fate = &mut self.fates[i][usize::from(self.begun[i] - 1)].0;
            if *fate == Fate::Open {
                *fate = Fate::Orphaned;
            }
        }
        self.owed[i] = None;
    }
}
