//! Words that pagers share, and what a machine does to them.
//!
//! A machine never touches memory. It says which one atomic action it wants ([`Access`]), somebody performs it and answers with
//! the value that was found, in one word. So every interleaving of pagers is an order of these actions, and the model
//! check can try them all. All accesses are sequentially consistent: a faulter that sets its bit and then looks at the
//! master entry, and a leader that makes the entry busy and then looks at the bits, must not both miss the other.
//!
//! Where the master table is not reached by shared memory, the worker of the pager that has it performs the same actions for others
//! ([`crate::remote`]).

/// A word of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Word {
    /// This node's local table: [`crate::local::Local`].
    Local,
    /// The master table: [`crate::entry::Entry`].
    Master,
    /// A word of the sharer mask beside the master entry: bit *b* of word *w* is node 64 *w* + *b*.
    Sharers(u8),
    /// The word of this node that the pages of a group have in common: how often one that came with others was taken away
    /// ([`crate::fault::Group`]).
    Group,
}

/// An atomic action on a word; the answer is the value before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Access {
    /// Reads it.
    Load,
    /// Replaces it if it has the expected value, which the answer then is.
    Swap {
        /// Only this value is replaced.
        expected: u64,
        /// The new value.
        new: u64,
    },
    /// Sets these bits.
    Set(u64),
    /// Clears these bits.
    Clear(u64),
    /// Adds one.
    Count,
}

/// Who runs a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Me {
    /// The node (cluster) of the pager.
    pub node: u16,
    /// Which life of that node's pager this is.
    pub incarnation: u16,
}

/// Who performs accesses to the words of pages at once. Pages are numbered as in a batch.
pub trait Memory {
    /// Performs it; returns the value before.
    fn access(&mut self, page: u8, word: Word, access: Access) -> u64;
}
