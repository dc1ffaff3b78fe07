//! Situations that scenarios must reach.

use super::machine::Machine;
use super::scenario::THREADS;
use super::{Exploration, State as Seen};
use crate::guests::Stay;
use crate::remote::{Ending, KIND, Place, Request, kind};
use crate::ring::Lane;
use crate::thread::State;
use core::sync::atomic::Ordering;

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A situation.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Fact { $($(#[$doc])* $name,)* }

        impl Fact {
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
            pub(super) fn condition(self) -> fn(&Exploration, &Seen) -> bool {
                match self { $(Self::$name => |_, state| state.facts.has(Self::$name),)* }
            }
        }
    };
}

facts! {
    /// A thread waits for a partner of its own cluster.
    Sending,
    /// A call waits for its answer.
    AwaitingReply,
    /// A message took the short way to another CPU.
    Elsewhere,
    /// A remote sender is in somebody's queue.
    Queued,
    /// A message is asked for.
    Pulling,
    /// A remote caller is owed a reply.
    Owed,
    /// A remote thread receives from one thread only.
    Watched,
    /// A sender wants to end its wait.
    Cancel,
    /// It came too late: what ends the wait is under way.
    Late,
    /// The other cluster agreed.
    Cancelled,
    /// A sender waits for credit.
    SenderWithoutCredit,
    /// A receiver waits for credit to ask for a message.
    ReceiverWithoutCredit,
    /// A queued remote sender is told that its partner is gone.
    Bounce,
    /// The same, but there is no credit for it.
    BounceWithoutCredit,
    /// Somebody asks for the message of a sender that is gone.
    Gone,
    /// Deleted while another CPU runs it.
    DoomedRunning,
    /// Deleted while another cluster knows of its message.
    DoomedAwaitingResponse,
    /// Deleted while it asks for a message.
    DoomedPulling,
    /// Deleted while it waits for credit.
    DoomedAwaitingCredit,
    /// A message that its sender did not live to know of was received.
    DeliveredOrphan,
    /// Notification bits wait for their receiver.
    Notified,
    /// Notification bits wait for room.
    Notes,
    /// Both directions carry packets at the same time.
    BothWays,
    /// A thread is on its way to another cluster.
    Moving,
    /// It is to be deleted there.
    DoomedMoving,
    /// Another cluster has to let go of it first.
    AskedToLetGo,
    /// It waits for room.
    MoveWithoutCredit,
    /// It is in a receive phase, and in another cluster than it began that in.
    ReceivingAway,
    /// It is to execute its system call again.
    Interrupted,
    /// A sender is told that whom it sends to has moved.
    Moved,
    /// One that is queued is told so.
    Redirected,
    /// A cluster refuses a thread.
    Refused,
    /// A birth cluster is told where its thread is.
    Located,
    /// Or that it has ended.
    Ended,
    /// Something waits there for room to go after it.
    Passing,
    /// Something did not find it.
    GivenBack,
    /// A thread took the short way into its wait.
    WaitedShortly,
    /// A notification took the short way out.
    NotifiedShortly,
    /// Somebody has cancelled a wait for another cluster, and waits for that to end it.
    CancelAwaited,
}

/// A set of facts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts(pub(super) u64);

impl Facts {
    pub(super) fn has(self, fact: Fact) -> bool {
        self.0 & 1 << fact as u32 != 0
    }
}

pub(super) fn of(machine: &Machine<'_>) -> Facts {
    let mut facts = Facts::default();
    let mut note = |fact: Fact, holds: bool| facts.0 |= u64::from(holds) << fact as u32;
    for i in 0..THREADS {
        let Some(t) = machine.tcb(i) else { continue };
        let asks = |request| t.state == State::AwaitingCredit && t.remote.request == request;
        let pulls = matches!(t.remote.request, Request::Pull(_));
        let killed = t.remote.ending == Ending::Kill;
        note(Fact::Sending, t.state == State::Sending);
        note(Fact::AwaitingReply, t.state == State::Receiving && t.reply_space.0 != 0);
        note(Fact::Pulling, t.state == State::Pulling);
        note(Fact::SenderWithoutCredit, asks(Request::Send));
        note(Fact::ReceiverWithoutCredit, t.state == State::AwaitingCredit && pulls);
        note(Fact::Notified, t.notified != 0);
        note(Fact::DoomedRunning, t.doomed && t.state == State::Ready);
        note(Fact::DoomedAwaitingResponse, killed && t.state == State::AwaitingResponse);
        note(Fact::DoomedPulling, killed && t.state == State::Pulling);
        note(Fact::DoomedAwaitingCredit, killed && t.state == State::AwaitingCredit);
        let away = machine.at(i) != Some(usize::from(t.id.cluster()));
        let moves = t.state == State::Moving;
        note(Fact::Moving, moves);
        note(Fact::DoomedMoving, moves && t.doomed);
        note(Fact::MoveWithoutCredit, moves && t.remote.place == Place::Waiting);
        note(Fact::AskedToLetGo, t.remote.ending == Ending::Restart && t.state == State::AwaitingResponse);
        note(Fact::ReceivingAway, away && t.state == State::Receiving);
        note(Fact::Interrupted, t.state == State::Ready && Machine::is_interrupted(t));
    }
    for (me, k) in machine.kernels.iter().enumerate() {
        note(Fact::Passing, k.threads.iter().any(|t| t.state == State::Passing));
        note(Fact::Queued, k.guests.iter().any(|g| matches!(g.stay, Stay::Queued(_))));
        note(Fact::Owed, k.guests.iter().any(|g| matches!(g.stay, Stay::Owed(_))));
        note(Fact::Notes, k.guests.iter().any(|g| matches!(g.stay, Stay::Notes { .. })));
        note(Fact::Watched, k.guests.iter().any(|g| matches!(g.stay, Stay::Watches(_))));
        for (other, peer) in k.peers.iter().enumerate() {
            note(
                Fact::BounceWithoutCredit,
                peer.waiting.head().is_some_and(|i| i as usize >= k.threads.len()),
            );
            if other == me {
                continue;
            }
            let ring = machine.rings.between(other, me);
            for packet in ring.waiting(Lane::Requests).chain(ring.waiting(Lane::Responses)) {
                let kind = packet[KIND].load(Ordering::Relaxed) & 0xffff_ffff;
                note(Fact::Bounce, kind == kind::BOUNCE);
                note(Fact::Gone, kind == kind::GONE);
                note(Fact::Cancel, kind == kind::CANCEL);
                note(Fact::Late, kind == kind::LATE);
                note(Fact::Cancelled, kind == kind::CANCELLED);
                note(Fact::Moved, kind == kind::MOVED);
                note(Fact::Redirected, kind == kind::REDIRECT);
                note(Fact::Refused, kind == kind::REFUSED);
                note(Fact::Located, kind == kind::LOCATED);
                note(Fact::Ended, kind == kind::ENDED);
                note(Fact::GivenBack, kind == kind::MISSED_NOTES || kind == kind::MISSED_KILL);
            }
        }
    }
    let orphan =
        |&(fate, count): &(super::ghost::Fate, u8)| fate == super::ghost::Fate::Orphaned && count == 1;
    note(Fact::DeliveredOrphan, machine.ghost.fates.iter().flatten().any(orphan));
    note(Fact::Elsewhere, machine.went_elsewhere);
    note(Fact::WaitedShortly, machine.waited_shortly);
    note(Fact::NotifiedShortly, machine.notified_shortly);
    let asked = |cluster| machine.is_cancelling(cluster);
    note(Fact::CancelAwaited, (0..machine.kernels.len()).any(asked));
    note(Fact::BothWays, machine.in_flight(0) && machine.in_flight(1));
    facts
}
