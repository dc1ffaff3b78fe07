//! System calls: the immediate of the `svc` instruction names the call.
//!
//! A call that does not exist raises an exception in the caller (it cannot be meant). Every call may clobber the caller-saved registers x0..x18; the kernel scrubs those that carry no result.
//! Except for [`IPC`] the result is x0 = 0 and x1 = value, or x0 = [`crate::Error::code`].

/// Send and/or receive a message.
///
/// In: x0 destination ([`crate::ThreadId`], NIL = no send phase), x1 source (NIL = no receive phase, ANY = open receive),
/// x2 tag, x3..=x10 MR1..MR8, x11 send [`crate::Timeout`], x12 receive timeout, x13 receive window ([`crate::Fpage`]).
/// If destination and source are the same thread the operation is a *call*: the destination's space gets a one-shot
/// right to reply. A source that is the caller itself means "notifications only"; an open receive takes notifications too,
/// before messages. Out: x0 sender, x1 sender's domain, x2 tag, x3..=x10 MR1..MR8.
pub const IPC: u16 = 0;

/// Take mappings away. In: x0 bit 0 = flush (from the caller too), bits 8..12 = number of fpages n (1..=8), x1..=xn fpages
/// whose rights are the rights to take away. Out: x0 = 0 and x1..=xn the fpages with R = "was accessed", W = "was written".
pub const UNMAP: u16 = 1;

/// Privileged. x0 = operation, see [`thread_op`].
pub const THREAD_CONTROL: u16 = 2;

/// Privileged. x0 = operation, see [`space_op`].
pub const SPACE_CONTROL: u16 = 3;

/// Privileged. End the run: x0 = [`exit`] code for the emulator. Does not return.
pub const SYSTEM_EXIT: u16 = 4;

/// ORs bits into a thread's notification word. In: x0 thread, x1 bits. Whoever may send to the thread may notify it. Never
/// waits for the receiver, which gets the bits as a message ([`crate::message::kernel_label::NOTIFICATION`]) when it receives
/// from anybody or from itself. To a thread of another cluster the call returns when the bits are on their way: that it is gone
/// or out of bounds is then not told.
pub const NOTIFY: u16 = 6;

/// Does nothing, and x0 = 0: what it costs to enter and leave the kernel.
pub const NULL: u16 = 7;

/// Operations of [`THREAD_CONTROL`].
pub mod thread_op {
    /// x1 space, x2 CPU (of this cluster), x3 pager, x4 exception handler (NIL = the pager), x5 UTCB slot, x6 priority
    /// (0..=255, larger is more urgent). Out: x1 = [`crate::ThreadId`]. The thread is created suspended.
    pub const CREATE: u64 = 0;
    /// x1 thread, x2 instruction pointer, x3 stack pointer, x4 value of x0. The thread must never have run.
    pub const START: u64 = 1;
    /// x1 thread. The thread ends; partners that wait for it get `Cancelled`.
    pub const DELETE: u64 = 2;
}

/// Operations of [`SPACE_CONTROL`].
pub mod space_op {
    /// x1 domain, x2 bit 0 = privileged. Out: x1 = [`crate::SpaceId`]. The home is the caller's cluster.
    pub const CREATE: u64 = 0;
    /// x1 space. All its threads end, all its mappings (and what was mapped on from them) go.
    pub const DESTROY: u64 = 1;
    /// x1 space, x2 thread: threads of the space may send to this thread from now on (at most 8 per space).
    pub const GRANT_PARTNER: u64 = 2;
}

/// Exit codes of a run: what the emulator's process returns, and what the launcher maps to words.
pub mod exit {
    /// The program ended well.
    pub const PASS: u64 = 0;
    /// A check of the program failed.
    pub const FAIL: u64 = 1;
    /// A kernel panicked.
    pub const KERNEL_PANIC: u64 = 100;
    /// A server panicked or faulted.
    pub const SERVER_FAULT: u64 = 101;
    /// A thread of the application died of a fault or an exception that nobody handles.
    pub const APP_FAULT: u64 = 102;
    /// A pool or a kernel heap ran out of memory.
    pub const OUT_OF_MEMORY: u64 = 103;
    /// Bad command line, missing module, malformed device tree, impossible machine.
    pub const BAD_BOOT: u64 = 104;
}
