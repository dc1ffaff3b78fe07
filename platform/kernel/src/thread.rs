//! Threads: what the kernel remembers of one.

use crate::queue::Queue;
use skerry_abi::layout::{UTCB_BASE, UTCB_SIZE};
use skerry_abi::message::{EXCEPTION_WORDS, kernel_label};
use skerry_abi::{CpuId, Fpage, Rights, SpaceId, Tag, ThreadId, Timeout};

/// The general registers of a thread in user mode. The exception entry saves them here and restores them from here, so
/// the offsets are known to the assembly.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Context {
    /// x0..x30.
    pub x: [u64; 31],
    /// SP_EL0.
    pub sp: u64,
    /// ELR_EL1: where the thread goes on.
    pub pc: u64,
    /// SPSR_EL1.
    pub pstate: u64,
}

impl Context {
    const EMPTY: Self = Self { x: [0; 31], sp: 0, pc: 0, pstate: 0 };
    /// N, Z, C and V: all of PSTATE that user mode may choose.
    const FLAGS: u64 = 0xf << 28;

    /// Sets PC, SP, PSTATE (as far as a program may) and x0..x30 to the 34 words of an exception message's registers.
    pub fn load(&mut self, words: &[u64]) {
        let Some(([pc, sp, pstate], x)) = words.split_first_chunk() else { return };
        (self.pc, self.sp, self.pstate) = (*pc, *sp, self.pstate & !Self::FLAGS | pstate & Self::FLAGS);
        self.x.iter_mut().zip(x).for_each(|(register, word)| *register = *word);
    }
}

/// The floating-point and SIMD state: saved only when another thread of the CPU wants the unit.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct FpState {
    /// q0..q31.
    pub q: [u128; 32],
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
}

impl FpState {
    const EMPTY: Self = Self { q: [0; 32], fpcr: 0, fpsr: 0 };
}

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum State {
    /// The slot holds no thread.
    Free,
    /// Created, never started.
    Created,
    /// Running, or in a run queue.
    Ready,
    /// In the sender queue of a partner in this cluster.
    Sending,
    /// In the queue for credit of the ring to a partner's cluster.
    AwaitingCredit,
    /// The partner's cluster has the message, or will ask for it.
    AwaitingResponse,
    /// Waits for a message.
    Receiving,
    /// Receives from a remote sender whose message it has asked for.
    Pulling,
    /// Nobody answers its fault or exception: it never runs again, until it is deleted.
    Halted,
}

/// In whose name a message goes out, and what an answer does to the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum Kind {
    /// The thread's own IPC system call: the answer lands in its registers.
    Ipc,
    /// A page fault: the answer's items are mapped and the thread tries again.
    Fault {
        /// The address.
        address: u64,
        /// The access.
        access: Rights,
        /// ESR_EL1, for the case that the pager rejects the fault.
        esr: u64,
    },
    /// An exception: any answer resumes the thread.
    Exception {
        /// ESR_EL1.
        esr: u64,
        /// FAR_EL1.
        far: u64,
    },
}

/// The IPC operation a thread is in: arguments of the system call, or the kernel's own for faults.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Operation {
    /// On whose behalf.
    pub kind: Kind,
    /// Send to; NIL = nobody.
    pub dest: ThreadId,
    /// Receive from; NIL = nobody.
    pub from: ThreadId,
    /// How long the send phase may wait.
    pub send_timeout: Timeout,
    /// How long the receive phase may wait.
    pub receive_timeout: Timeout,
    /// Where items may be mapped.
    pub window: Fpage,
}

impl Operation {
    /// No operation.
    pub const NONE: Self = Self {
        kind: Kind::Ipc,
        dest: ThreadId::NIL,
        from: ThreadId::NIL,
        send_timeout: Timeout::ZERO,
        receive_timeout: Timeout::ZERO,
        window: Fpage::NIL,
    };

    /// The kernel's call to a pager or an exception handler in a thread's name.
    pub const fn kernel_call(kind: Kind, to: ThreadId) -> Self {
        Self {
            kind,
            dest: to,
            from: to,
            send_timeout: Timeout::NEVER,
            receive_timeout: Timeout::NEVER,
            window: Fpage::COMPLETE,
        }
    }
    /// Whether the partner's space gets a right to reply.
    pub fn is_call(&self) -> bool {
        self.dest == self.from
    }
}

/// A thread control block.
#[repr(C)]
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Tcb {
    /// Registers; first, for the assembly.
    pub context: Context,
    /// Floating-point registers.
    pub fp: FpState,
    /// TPIDR_EL0, the program's.
    pub tls: u64,
    /// The thread's name; its generation counts on when the slot is used again.
    pub id: ThreadId,
    /// Slot of its space.
    pub space: u16,
    /// The CPU it runs on.
    pub cpu: CpuId,
    /// Larger is more urgent.
    pub priority: u8,
    /// What it does.
    pub state: State,
    /// Somebody deleted it while it ran on another CPU or a remote cluster had its message.
    pub doomed: bool,
    /// UTCB slot in its space.
    pub utcb_slot: u16,
    /// UTCB page in the kernel's arena.
    pub utcb_page: u32,
    /// Gets its page faults.
    pub pager: ThreadId,
    /// Gets its exceptions.
    pub handler: ThreadId,
    /// The IPC it is in.
    pub op: Operation,
    /// The space that may answer its call; NIL = nobody owes it a reply.
    pub reply_space: SpaceId,
    /// Those who wait to send to it: threads of this cluster, and proxies of others.
    pub senders: Queue,
    /// When its wait ends without a partner; `u64::MAX` = never.
    pub deadline: u64,
    /// The remote sender whose message it wants or has asked for; NIL = none.
    pub pull: ThreadId,
    /// A remote receiver that asked for its message relies on getting it.
    pub announced: bool,
    /// Notification bits that it has not received yet.
    pub notified: u64,
}

impl Tcb {
    /// A slot that was never used.
    pub const FREE: Self = Self {
        context: Context::EMPTY,
        fp: FpState::EMPTY,
        tls: 0,
        id: ThreadId::NIL,
        space: 0,
        cpu: 0,
        priority: 0,
        state: State::Free,
        doomed: false,
        utcb_slot: 0,
        utcb_page: 0,
        pager: ThreadId::NIL,
        handler: ThreadId::NIL,
        op: Operation::NONE,
        reply_space: SpaceId::NIL,
        senders: Queue::EMPTY,
        deadline: u64::MAX,
        pull: ThreadId::NIL,
        announced: false,
        notified: 0,
    };

    /// Where the program finds its UTCB.
    pub fn utcb_address(&self) -> u64 {
        UTCB_BASE + u64::from(self.utcb_slot) * UTCB_SIZE
    }
    /// The tag of the message it sends in its present operation.
    pub fn tag(&self) -> Tag {
        match self.op.kind {
            Kind::Ipc => Tag(self.context.x[2]).sanitized(),
            Kind::Fault { .. } => Tag::new(kernel_label::PAGE_FAULT, 3, 0),
            Kind::Exception { .. } => Tag::new(kernel_label::EXCEPTION, EXCEPTION_WORDS, 0),
        }
    }
    /// Word `i` (from 1) of a message that the kernel sends in the thread's name.
    pub fn kernel_word(&self, i: usize) -> u64 {
        match (self.op.kind, i) {
            (Kind::Fault { address, .. }, 1) => address,
            (Kind::Fault { access, .. }, 2) => access.bits(),
            (Kind::Exception { esr, .. }, 1) => esr,
            (Kind::Exception { far, .. }, 2) => far,
            (_, 3) => self.context.pc,
            (_, 4) => self.context.sp,
            (_, 5) => self.context.pstate,
            (_, i) => self.context.x.get(i.wrapping_sub(6)).copied().unwrap_or(0),
        }
    }
    /// Whether it takes a message from `sender` of `sender_space` right now.
    pub fn accepts(&self, sender: ThreadId, sender_space: SpaceId) -> bool {
        self.state == State::Receiving
            && (self.op.from.is_any() || self.op.from == sender || self.awaits_reply_of(sender_space))
    }
    /// Whether it takes notifications right now.
    pub fn accepts_notifications(&self) -> bool {
        self.state == State::Receiving && self.takes_notifications()
    }
    /// Whether the receive phase of its operation takes notifications: an open one, or one from itself.
    pub fn takes_notifications(&self) -> bool {
        self.op.from.is_any() || self.op.from == self.id
    }
    /// Whether `space` holds the right to answer its call.
    pub fn awaits_reply_of(&self, space: SpaceId) -> bool {
        self.state == State::Receiving && self.reply_space != SpaceId::NIL && self.reply_space == space
    }
}
