//! Names for the kernel's permission and safety checks, so that a test can remove them one at a time.
//!
//! A check that no test misses may be gone tomorrow, for the sake of an instruction. So every check on the paths that programs
//! can reach has a name here and is made through [`passes`]; and for every name the kernel's tests have a hostile case
//! that is refused as things are and succeeds when the check is removed.
//!
//! In the shipped kernel [`passes`] is its second argument: the feature `removable`, which only tests of the host turn on
//! (as a dev-dependency), is what makes it look further. Rejected: `cfg(test)`, which does not reach across crates,
//! and mutating the source text, which takes a build per check.
#![cfg_attr(not(feature = "removable"), no_std)]
#![forbid(unsafe_code)]

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A check that the kernel makes on behalf of somebody else than the caller.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

checks! {
    /// The id's generation is that of the thread in the slot.
    ThreadGeneration,
    /// The id's generation is that of the space in the slot.
    SpaceGeneration,
    /// The sender may send to this thread (also for notifications).
    Permission,
    /// The space that answers a call is the one that received it, and has not answered yet.
    ReplyRight,
    /// A closed receive takes messages of nobody else.
    ClosedReceive,
    /// Programs do not use the labels of messages that the kernel sends.
    ReservedLabel,
    /// A message has 63 words at most.
    MessageLength,
    /// Nobody sends to itself.
    SendToSelf,
    /// A guarded item is mapped only if the guard word is as expected.
    Guard,
    /// A joined item is dropped with the one before it.
    Joined,
    /// Items are mapped inside the receiver's window only.
    Window,
    /// The sender of another cluster may send to this thread.
    RemotePermission,
    /// A call from another cluster is answered by the space that received it, once.
    RemoteReplyRight,
    /// No items across clusters.
    RemoteItems,
    /// Fast path: the id names the thread in the slot.
    FastIdentity,
    /// Fast path: the partner waits, for this sender or for anybody.
    FastReady,
    /// Fast path: the partner waits on this CPU, and nobody more urgent is ready.
    FastStanding,
    /// Fast path: the partner waits on another CPU, and nothing holds it.
    FastElsewhere,
    /// The same: neither the sender nor its CPU needs the general code.
    FastElsewhereCalm,
    /// Fast path: a message has 63 words at most, and no items.
    FastPlain,
    /// Fast path: reserved labels are for the general path to refuse.
    FastLabel,
    /// Fast path: the sender may send to this thread.
    FastPermission,
    /// Fast path: nobody waits to send to the one who receives next.
    FastQueue,
    /// Fast path: no notification waits for the one who receives next.
    FastNotified,
    /// Fast path: this CPU's TLB holds nothing outdated of the partner's space.
    FastTlb,
    /// Short way between clusters: eight words at most, and no items.
    FastRemotePlain,
    /// Short way: reserved labels are for the general path to refuse.
    FastRemoteLabel,
    /// Nothing is left to do on the CPU before it may sleep.
    FastRemoteChores,
    /// Short way: nobody waits to send to the one who receives next.
    FastRemoteQueue,
    /// Short way: no notification waits for the one who receives next.
    FastRemoteNotified,
    /// Short way: this space owes the caller an answer.
    FastRemoteRight,
    /// Short way: the receiver is the thread in the slot.
    FastRemoteIdentity,
    /// Short way: the receiver receives on this CPU, and nothing else is to be considered about it.
    FastRemoteStanding,
    /// Short way: the receiver takes messages of this sender.
    FastRemoteReady,
    /// Short way: the sender may send to the receiver.
    FastRemotePermission,
    /// Short way: the caller is the thread in the slot.
    FastRemoteCaller,
    /// Short way: the caller waits for another cluster, on this CPU, and nothing else is to be considered about it.
    FastRemoteCalls,
    /// Short way: the answer is the one to the caller's present operation.
    FastRemoteOperation,
    /// Short way: nobody has asked for the end of the caller's wait.
    FastRemoteEnding,
    /// Short wait: nobody waits to send to the one who receives next.
    FastWaitQueue,
    /// Short wait: no notification waits for it.
    FastWaitNotified,
    /// Nothing is left to do on the CPU before it sleeps.
    FastWaitChores,
    /// Short way of notifications: the receiver is the thread in the slot.
    FastNoteIdentity,
    /// Short way of notifications: it receives on this CPU, and nothing else is to be considered about it.
    FastNoteStanding,
    /// Short way of notifications: it takes notifications.
    FastNoteReady,
    /// Short way of notifications: the sender may notify it.
    FastNotePermission,
    /// Fast path of faults: the same of the pager's space.
    FastPagerTlb,
    /// Fast path of faults: the pager is the thread in the slot.
    FastPagerIdentity,
    /// Fast path of faults: the pager waits, for this thread or for anybody.
    FastPagerReady,
    /// Fast path of faults: the pager waits on this CPU, and nobody more urgent is ready.
    FastPagerStanding,
    /// Fast answers to faults: one item and nothing else.
    FastAnswerItem,
    /// Fast answers: the guard word has the value that it must have.
    FastAnswerGuard,
    /// Fast answers: labels that mean something to the kernel are for the general path.
    FastAnswerLabel,
    /// Fast answers: the id names the thread in the slot.
    FastAnswerIdentity,
    /// Fast answers: this space owes the answer.
    FastAnswerRight,
    /// Fast answers: it is a fault that is answered, whose window is the whole space.
    FastAnswerFault,
    /// Fast answers: the thread waits on this CPU, and nobody more urgent is ready.
    FastAnswerStanding,
    /// Fast answers: this CPU's TLB holds nothing outdated of the thread's space.
    FastAnswerTlb,
    /// Fast answers: nobody waits to send to the pager.
    FastAnswerQueue,
    /// Fast answers: no notification waits for the pager.
    FastAnswerNotified,
    /// Fast unmap: the whole mapping, not some of its rights.
    FastUnmapAll,
    /// Privileged calls are for privileged spaces.
    Privileged,
    /// Unmap takes eight fpages at most.
    UnmapCount,
    /// A thread is created on a CPU of this cluster.
    OwnCpu,
    /// A thread's pager is of its cluster.
    OwnPager,
    /// So is one that it gets later.
    NewPager,
    /// A thread that moves to another cluster stays in its domain.
    MoveDomain,
    /// A UTCB belongs to one thread.
    UtcbFree,
    /// A thread starts once.
    StartOnce,
    /// Fast start: the id names the thread in the slot.
    FastStartIdentity,
    /// Fast start: the thread was never started, and nothing holds it.
    FastStartOnce,
    /// Fast start: the thread is of this CPU.
    FastStartCpu,
    /// Fast start: nobody more urgent is ready, and the scheduler need not be asked.
    FastStartFloor,
    /// Fast start: this CPU's TLB holds nothing outdated of the thread's space.
    FastStartTlb,
    /// A root pager's first thread stays.
    RootThread,
    /// Mappings get no rights that their source lacks.
    MapRights,
    /// No mapping over the kernel's own pages in a space.
    MapPinned,
    /// No mapping replaces another one.
    MapOccupied,
    /// No mapping of 64 KiB replaces pages.
    MapGroupOccupied,
    /// Straight path of single pages: no rights that the source lacks.
    FastMapRights,
    /// Straight path of single pages: not over the kernel's own pages.
    FastMapPinned,
    /// Straight path of single pages: nothing else is there.
    FastMapOccupied,
    /// Straight path of several pages: no rights that the source lacks.
    FastPagesRights,
    /// Straight path of several pages: not over the kernel's own pages.
    FastPagesPinned,
    /// Straight path of several pages: nothing else is there.
    FastPagesOccupied,
    /// Straight path of 64 KiB: no rights that the source lacks.
    FastGroupRights,
    /// Straight path of 64 KiB: not over the kernel's own pages.
    FastGroupPinned,
    /// Straight path of 64 KiB: nothing else is there.
    FastGroupOccupied,
}

/// Whether `allowed`; or true, in a test that has removed this check.
#[inline(always)]
pub fn passes(check: Check, allowed: bool) -> bool {
    allowed || removed(check)
}

#[cfg(not(feature = "removable"))]
#[inline(always)]
const fn removed(_: Check) -> bool {
    false
}

#[cfg(feature = "removable")]
std::thread_local! {
    static REMOVED: core::cell::Cell<Option<Check>> = const { core::cell::Cell::new(None) };
}

#[cfg(feature = "removable")]
fn removed(check: Check) -> bool {
    REMOVED.get() == Some(check)
}

/// Runs `f` on this host thread without the check.
#[cfg(feature = "removable")]
pub fn without<R>(check: Check, f: impl FnOnce() -> R) -> R {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            REMOVED.set(None);
        }
    }
    let _restore = Restore;
    REMOVED.set(Some(check));
    f()
}
