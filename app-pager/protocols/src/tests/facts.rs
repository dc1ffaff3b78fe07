//! Situations that scenarios must reach: a model that never gets there proves nothing.

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A situation.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Fact { $($(#[$doc])* $name,)* }
    };
}

facts! {
    /// A compare-and-swap met another value than expected.
    SwapLost,
    /// Another node published its frame first.
    RaceLost,
    /// A map item came too late.
    GuardDropped,
    /// A mapping got more rights.
    Widened,
    /// A faulter waits for a leader or for a thread of its node.
    FaultParked,
    /// A leader waits for another one.
    LeaderParked,
    /// A thread that gave a local word free woke others of its node.
    NodeWoken,
    /// A leader woke everybody.
    AllWoken,
    /// A leader waits for two workers at a time.
    TwoAsked,
    /// A leader waited, and the page is gone.
    GoneAfterWait,
    /// A frame went back to another node.
    FrameReturned,
    /// A pool is empty.
    NoFrame,
    /// A node made a copy.
    Copied,
    /// A node got a copy of a page for itself.
    Parted,
    /// A write ended a page's replication.
    Collapsed,
    /// A dead pager was cleared up after.
    Recovered,
    /// A request of a dead pager was still in a mailbox.
    RequestForgotten,
    /// A dead pager had a frame of another node in hand.
    Reclaimed,
    /// Somebody had a page that was to be taken with others.
    Passed,
    /// An answer mapped several pages.
    MappedTogether,
    /// It came too late.
    GroupDropped,
    /// Several accesses went in one message.
    WentOn,
    /// A thread did what it may not.
    Rejected,
}

impl Fact {
    pub(super) fn note(self, seen: &mut u64) {
        *seen |= 1 << self as u32;
    }
    pub(super) fn is_in(self, seen: u64) -> bool {
        seen >> (self as u32) & 1 != 0
    }
}
