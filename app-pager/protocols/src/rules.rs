//! Names for the rules that the protocols keep, so that a test can break them one at a time.
//!
//! A rule that no test misses may be gone tomorrow, for the sake of an instruction. In the shipped crate [`kept`] is the
//! constant `true`; in the crate's own tests a model can run the same machines with one rule broken, and must find what
//! goes wrong.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[cfg_attr(not(test), expect(dead_code, reason = "some are kept by the model's surroundings"))]
        pub(crate) enum Rule { $($(#[$doc])* $name,)* }

        #[cfg(test)]
        impl Rule {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

rules! {
    /// A node that has joined the sharers looks at the master entry again.
    LookAgain,
    /// A node does not join the sharers of a busy entry, so it looks before.
    LookBeforeJoin,
    /// Who backs out clears the node's bit only if it has set it.
    ClearOwnBit,
    /// Who finds its local word revoked does not install what it knows.
    HeedRevoked,
    /// Who waits for a busy local word says so in the word.
    MarkLocalContended,
    /// Who waits for a busy master entry says so in the entry.
    MarkMasterContended,
    /// Who gives a contended local word free wakes the node.
    WakeNode,
    /// A leader that completes a contended entry wakes everybody.
    WakeAll,
    /// The local word changes before the kernel is asked to unmap.
    WordBeforeUnmap,
    /// The leader waits for all workers it asked.
    AwaitAll,
    /// The leader asks every sharer, itself among them.
    AskSharers,
    /// A node leaves the sharers when its kernel has unmapped.
    ShareUntilUnmapped,
    /// A frame is freed when all have acknowledged.
    FreeLast,
    /// Nobody waits for a busy entry while another one is busy on its account.
    WaitWithNothing,
    /// A worker calls nobody.
    WorkersNeverCall,
    /// A frame is copied when nobody maps it any more.
    CopyLast,
    /// Caches are maintained before a frame has another use.
    MaintainBeforeReuse,
    /// A leader claims a frame before it takes it out of the table.
    ClaimFirst,
    /// Before entries are looked at, everybody forgets a dead pager's requests and has none of its frames in hand.
    ForgetFirst,
    /// A node that loses its own copy of a page frees it.
    FreeCopies,
    /// After a pager's death everybody is woken, for it may have owed that.
    WakeAfterDeath,
    /// A pager acknowledges a death when each of its threads has been at a point where it waits (kept by the model's pagers).
    QuietBeforeReuse,
    /// Who started or moved a thread looks afterwards whether the task is dying.
    LookAfterArrival,
    /// Who hands the master's role over looks afterwards whether the node that got it is active.
    LookAfterHandOver,
    /// A worker that takes away a page that came with others counts that in the group's word before its kernel unmaps.
    CountInGroup,
    /// The group's word is looked at before one of the pages is installed.
    GroupFirst,
    /// Kernels compare guards (kept by the abstract kernel of the model).
    GuardsCount,
}

/// Whether the rule holds, as it does outside of tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn kept(_: Rule) -> bool {
    true
}

#[cfg(test)]
std::thread_local! {
    static BROKEN: core::cell::Cell<Option<Rule>> = const { core::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn kept(rule: Rule) -> bool {
    BROKEN.get() != Some(rule)
}

/// Which rule is broken on this host thread from now on.
#[cfg(test)]
pub(crate) fn set_broken(rule: Option<Rule>) {
    BROKEN.set(rule);
}
