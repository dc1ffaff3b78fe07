//! System calls: the immediate of the `svc` instruction names the call.
//!
//! A call that does not exist raises an exception in the caller (it cannot be meant). Every call may clobber the caller-saved registers x0..x18; the kernel scrubs those that carry no result.
//! Number 5 is no call. Except for [`IPC`] the result is x0 = 0 and x1 = value, or x0 = [`crate::Error::code`].

/// Send and/or receive a message.
///
/// In: x0 destination ([`crate::ThreadId`], NIL = no send phase), x1 source (NIL = no receive phase, ANY = open receive),
/// x2 tag, x3..=x10 MR1..MR8, x11 send [`crate::Timeout`], x12 receive timeout, x13 receive window ([`crate::Fpage`]).
/// If destination and source are the same thread the operation is a *call*: the destination's space gets a one-shot
/// right to reply. A source that is the caller itself means "notifications only"; an open receive takes notifications too,
/// before messages. Out: x0 sender, x1 sender's domain, x2 tag, x3..=x10 MR1..MR8. `TableFull`: too many threads of the caller's domain
/// wait for threads of that cluster; `OutOfKernelMemory`: too many of all.
pub const IPC: u16 = 0;

/// Take mappings away. In: x0 bit 0 = flush (from the caller too), bits 8..12 = number of fpages n (1..=8), x1..=xn fpages
/// whose rights are the rights to take away. Out: x0 = 0 and x1..=xn the fpages with R = "was accessed", W = "was written".
///
/// When it returns, no access is possible any more through what was taken. A call that takes long is interrupted; then its thread executes it
/// again, and its registers say how far it has come (x0 from bit 16 on, which is 0 in the beginning, and x9).
pub const UNMAP: u16 = 1;

/// Privileged. x0 = operation, see [`thread_op`].
pub const THREAD_CONTROL: u16 = 2;

/// Privileged. x0 = operation, see [`space_op`].
pub const SPACE_CONTROL: u16 = 3;

/// Privileged. End the run: x0 = [`exit`] code for the emulator, or [`exit::PARK_CLUSTER`]. Does not return.
pub const SYSTEM_EXIT: u16 = 4;

/// ORs bits into a thread's notification word. In: x0 thread, x1 bits. Whoever may send to the thread may notify it. Never
/// waits for the receiver, which gets the bits as a message ([`crate::message::kernel_label::NOTIFICATION`]) when it receives
/// from anybody or from itself. To a thread of another cluster the call returns when the bits are on their way: that it is gone
/// or out of bounds is then not told. `Timeout`: there is no room on the way to that cluster, and other notifications of the caller's
/// space wait for it already; nothing has happened, try again.
pub const NOTIFY: u16 = 6;

/// Does nothing, and x0 = 0: what it costs to enter and leave the kernel.
pub const NULL: u16 = 7;

/// Privileged. Where and how a thread runs. In: x1 thread, x2 priority, x3 time slice in steps of the counter (0 = it runs until it
/// blocks or somebody more urgent comes), x4 CPU of this cluster; !0 = as it is; x5 its pager, of this cluster, too, 0 = as it is. A thread
/// that never had a time slice of its own gets the machine's tick. A pager that was told of its exceptions, too, is not any more: the new one is.
pub const SCHEDULE: u16 = 8;

/// Privileged. Device interrupts as notifications: x0 = operation, see [`interrupt_op`], x1 interrupt id (a shared peripheral
/// interrupt, 32..1020).
pub const INTERRUPT_CONTROL: u16 = 9;

/// Privileged. Who has a frame: every leaf that maps it in the caller's cluster, one per call, the root space's first. In: x1 address of the frame
/// (which the root space has at its own address), x2 [`crate::SpaceId`] and x3 [`crate::Fpage`] of the leaf told last, NIL and 0 in the
/// beginning, x4 0. Out: x1 space (NIL: there are no more), x2 the fpage with its rights, x3 the space's domain. `NothingMapped`: it is no
/// frame of the root space; `WrongState`: the leaf told last is gone, begin again. A call that takes long is interrupted; then its
/// thread executes it again, and x4 is not 0.
pub const AUDIT: u16 = 10;

/// Operations of [`INTERRUPT_CONTROL`].
pub mod interrupt_op {
    /// x2 thread of this cluster, x3 notification bits. From now on the interrupt is routed to the thread's CPU. When it comes
    /// it is masked and the thread gets the bits. `WrongState`: somebody is attached already, here or in another cluster (which may be about
    /// to let go of it, if its thread moves: try again). `TableFull`: eight of one thread, or sixty-four of a cluster. `NoSuchThread`, `BadArgument`
    /// for no bits and for interrupts that the machine does not have.
    pub const ATTACH: u64 = 0;
    /// The interrupt is masked for good. Deletion of the thread, its move to another cluster and the end of the cluster do the same.
    pub const DETACH: u64 = 1;
    /// It may come again. Also the thread that it is attached to may do this, without privilege. `WrongState` if it has not come.
    pub const ACK: u64 = 2;
}

/// Operations of [`THREAD_CONTROL`].
pub mod thread_op {
    /// x1 space, x2 CPU (of this cluster), x3 pager, x4 exception handler (NIL = the pager), x5 UTCB slot, x6 priority
    /// (0..=255, larger is more urgent). Out: x1 = [`crate::ThreadId`]. The thread is created suspended.
    pub const CREATE: u64 = 0;
    /// x1 thread, x2 instruction pointer, x3 stack pointer, x4 value of x0. The thread must never have run.
    pub const START: u64 = 1;
    /// x1 thread. The thread ends; partners that wait for it get `Cancelled`. Success says of a thread in another cluster that the word is on
    /// its way and will not be lost, not that it has ended, or that there was one. `NodeDown`: that cluster, or the one that knows where the
    /// thread is, does not run any more. `OutOfKernelMemory`: its kernel cannot be told at the moment; try again.
    pub const DELETE: u64 = 2;
    /// x1 thread. It runs no instruction more until it is resumed; an IPC it is in goes on meanwhile.
    pub const SUSPEND: u64 = 3;
    /// x1 thread. Undoes any number of [`SUSPEND`].
    pub const RESUME: u64 = 4;
    /// x1 thread (not the caller), x2 flags of [`super::exchange`], x3 new instruction pointer, x4 new stack pointer, x5 new x0.
    /// Out: x1 old instruction pointer, x2 old stack pointer, x3 what it did ([`super::thread_state`]). With `CANCEL`, if another
    /// cluster has to let go of the thread first, the call returns when that wait has ended, one way or the other. `WrongState`: x0 or
    /// the instruction pointer of a thread whose control call or IPC is not complete, and not cancelled. `TableFull`: eight others have
    /// cancelled that wait and wait for its end.
    pub const EXCHANGE: u64 = 5;
    /// x1 thread (of a space that is not privileged), x2 space in another cluster, x3 CPU there, x4 pager, x5 exception handler (NIL = the
    /// pager). Returns when the thread has arrived with all its state, or was refused and goes on where it was. Its UTCB slot has to
    /// be free in that space. A send phase starts again there, a receive goes on, a fault happens again; a call that was
    /// not answered yet fails with `Cancelled`. `Refused`: that space is privileged, or of another domain than the thread's.
    pub const MIGRATE: u64 = 6;
}

/// Flags of [`thread_op::EXCHANGE`].
pub mod exchange {
    /// Set the instruction pointer.
    pub const PC: u64 = 1;
    /// Set the stack pointer.
    pub const SP: u64 = 2;
    /// Set x0.
    pub const X0: u64 = 4;
    /// End the IPC or control call it is in with `Cancelled`. A fault or an exception is dropped: the thread tries again.
    pub const CANCEL: u64 = 8;
    /// All of them.
    pub const ALL: u64 = PC | SP | X0 | CANCEL;
}

/// What a thread does, as [`thread_op::EXCHANGE`] tells.
pub mod thread_state {
    /// Never started.
    pub const CREATED: u64 = 0;
    /// Runs or wants to.
    pub const READY: u64 = 1;
    /// In the send phase of an IPC.
    pub const SENDING: u64 = 2;
    /// In the receive phase of an IPC.
    pub const RECEIVING: u64 = 3;
    /// Nobody answers its fault or exception.
    pub const HALTED: u64 = 4;
    /// Waits for a control call to be carried out.
    pub const CONTROLLING: u64 = 5;
    /// A flag beside the others: it is suspended.
    pub const SUSPENDED: u64 = 1 << 8;
}

/// Operations of [`SPACE_CONTROL`].
pub mod space_op {
    /// x1 domain, x2 bit 0 = privileged, x3 quota of kernel memory: page tables (and pages of UTCBs) in the low half, map
    /// nodes in the high half, 0 = no limit. Out: x1 = [`crate::SpaceId`]. The home is the caller's cluster.
    pub const CREATE: u64 = 0;
    /// x1 space. All its threads end, all its mappings (and what was mapped on from them) go. `TableFull`: eight others wait for that
    /// already, as long as other clusters have not let go of its threads.
    pub const DESTROY: u64 = 1;
    /// x1 space, x2 thread: threads of the space may send to this thread from now on (at most 8 per space; of those threads of the cluster
    /// that have ended none counts).
    pub const GRANT_PARTNER: u64 = 2;
    /// x1 space, x2 quota as for [`CREATE`]. What the space has already stays, even if it is more.
    pub const SET_QUOTA: u64 = 3;
    /// x1 space, x2 address, x3 and x4 0: the trace rings of the cluster's CPUs appear there, one behind the other, read-only, until the space
    /// ends. How long they are says the information page. A call that takes long is interrupted; then its thread executes it again, and x3 and x4
    /// say how far it has come; if it does not, what is mapped stays. `WrongState`: nothing is traced (boot option `trace`).
    pub const MAP_TRACE: u64 = 4;
}

/// Exit codes of a run: what the emulator's process returns, and what the launcher maps to words.
pub mod exit {
    /// Not the run ends, only the caller's cluster, as if its kernel had died: no thread of it runs any more, and who waits for
    /// one, or sends to one, gets [`crate::Error::NodeDown`]. For experiments with failing nodes.
    pub const PARK_CLUSTER: u64 = 1 << 32;
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
