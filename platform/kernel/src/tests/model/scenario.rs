//! Machines to explore: who is where, who may talk to whom, what each may do.

/// Threads of a scenario.
pub(super) const THREADS: usize = 3;
/// Clusters of a scenario, at most.
pub(super) const CLUSTERS: usize = 3;

/// One thing a thread can do when it runs; threads are named by index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Do {
    /// Send and wait for nothing; the send phase may wait for ever.
    Send(u8),
    /// The same, but the send phase may not wait.
    SendNow(u8),
    /// The same, with a finite time-out.
    SendTimed(u8),
    /// Send and wait for the answer.
    Call(u8),
    /// The same; both phases have a finite time-out.
    CallTimed(u8),
    /// Receive from anybody.
    Receive,
    /// The same, if somebody is there already.
    ReceiveNow,
    /// The same, with a finite time-out.
    ReceiveTimed,
    /// Receive from one thread; from itself: notifications only.
    ReceiveFrom(u8),
    /// Answer whoever was received from last, without waiting.
    Reply,
    /// The same, and receive from anybody.
    ReplyWait,
    /// Send a notification; the bit is another one for every operation.
    Notify(u8),
}

impl Do {
    /// Whom it sends to, if `partner` was received from last.
    pub(super) fn sends(self, partner: Option<u8>) -> Option<u8> {
        match self {
            Self::Send(to)
            | Self::SendNow(to)
            | Self::SendTimed(to)
            | Self::Call(to)
            | Self::CallTimed(to) => Some(to),
            Self::Reply | Self::ReplyWait => partner,
            Self::Receive | Self::ReceiveNow | Self::ReceiveTimed => None,
            Self::ReceiveFrom(_) | Self::Notify(_) => None,
        }
    }
    pub(super) fn is_timed(self) -> bool {
        matches!(self, Self::SendTimed(_) | Self::CallTimed(_) | Self::ReceiveTimed)
    }
    pub(super) fn is_call(self) -> bool {
        matches!(self, Self::Call(_) | Self::CallTimed(_))
    }
}

/// A thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub(super) cluster: u8,
    /// Threads with the same number (in one cluster) share a space.
    pub(super) space: u8,
    pub(super) domain: u32,
    pub(super) may_send_to: &'static [u8],
    /// How often it may do something, at most [`super::ghost::OPERATIONS`].
    pub(super) budget: u8,
    pub(super) menu: &'static [Do],
}

/// A machine and what can happen on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) threads: [Thread; THREADS],
    pub(super) clusters: u8,
    /// Threads that may move to any other cluster,
    pub(super) movers: &'static [u8],
    /// how often together.
    pub(super) moves: u8,
    /// Whether each thread has a CPU of its own, which keeps running it, or all of a cluster share one.
    pub(super) own_cpus: bool,
    /// Outstanding requests per pair of clusters at most.
    pub(super) credit: u64,
    /// Threads that may be deleted.
    pub(super) kills: u8,
    /// How often somebody may cancel what a thread waits for, and send it elsewhere in its program.
    pub(super) cancels: u8,
    /// Whether finite time-outs can pass.
    pub(super) time: bool,
}
