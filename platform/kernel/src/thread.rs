//! Threads: what the kernel remembers of one.

use crate::audit::Answer;
use crate::control::Place;
use crate::kernel::UtcbPage;
use crate::long::Settled;
use crate::migrate::Destination;
use crate::queue::{NONE, Queue};
use crate::remote::Remote;
use crate::space::UTCBS_PER_PAGE;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use skerry_abi::layout::{UTCB_BASE, UTCB_SIZE};
use skerry_abi::message::{EXCEPTION_WORDS, kernel_label};
use skerry_abi::{CpuId, Fpage, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_checks::{Check, passes};

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
    pub(crate) const EMPTY: Self = Self { x: [0; 31], sp: 0, pc: 0, pstate: 0 };
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
    /// q0..q31, low half first.
    pub q: [[u64; 2]; 32],
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
}

/// Words of it in memory.
pub const FP_WORDS: usize = size_of::<FpState>() / 8;
const _: () = assert!(offset_of!(FpState, fpcr) == 64 * 8 && FP_WORDS == 66);

impl FpState {
    /// As a program finds them.
    pub const EMPTY: Self = Self { q: [[0; 2]; 32], fpcr: 0, fpsr: 0 };
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
    /// In the queue for room in the ring to another cluster.
    AwaitingCredit,
    /// Waits for another cluster: to take its message, to answer its call, or for news of the thread it receives from.
    AwaitingResponse,
    /// Waits for a message.
    Receiving,
    /// Receives from a remote sender whose message it has asked for.
    Pulling,
    /// Nobody answers its fault or exception: it does not run until it is deleted or its fault is cancelled.
    Halted,
    /// Could run, but is suspended.
    Stopped,
    /// Waits until a control call of its own has been carried out.
    Controlling,
    /// On its way to another cluster, or from one.
    Moving,
    /// Born here, and in another cluster now: the slot says where.
    Departed,
    /// Has ended: its slot stays until all who waited for it have been told.
    Dying,
    /// [`State::Departed`], and something waits for room in a ring to go after it.
    Passing,
}

/// Why a thread needs more than its state says. While any of these is set, the fast paths do not concern it.
pub mod hold {
    /// Its deadline is among those of its CPU. The lowest bit is for this one: where somebody more urgent is ready, a standing with it can look
    /// like one of a higher priority. But the fast paths look at more than the standing, and nobody who waits with a deadline
    /// is open to a partner or has faulted.
    pub const TIMED: u8 = 1;
    /// It is in the queue of those who expect a message from one thread only ([`super::Cold::expecting`]).
    pub const EXPECTING: u8 = 2;
    /// It is suspended: it may end its IPC, but runs no instruction.
    pub const STOPPED: u8 = 4;
    /// It has a time slice of its own.
    pub const SLICED: u8 = 8;
    /// It was deleted while it ran on another CPU.
    pub const DOOMED: u8 = 16;
    /// It goes to another cluster as soon as nothing holds it here.
    pub const MOVING: u8 = 32;
    /// It has a message whose items are still being mapped: until then it runs no instruction.
    pub const MAPPING: u8 = 64;

    /// Somebody has cancelled its wait for another cluster, and waits until that has ended it ([`super::Cold::cancellers`]).
    pub const CANCELLED: u8 = 128;

    /// What ends with a wait.
    pub const WAIT: u8 = TIMED | EXPECTING;
}

/// In whose name a message goes out, and what an answer does to the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
#[repr(u8)]
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

/// How [`Kind::Fault`] lies in memory, for the assembly: an enum with a primitive representation is a union of such structs (Rust
/// reference, "type layout").
#[repr(C)]
pub struct FaultKind {
    tag: u8,
    /// The address.
    pub address: u64,
    /// The access.
    pub access: Rights,
    /// ESR_EL1.
    pub esr: u64,
}

impl FaultKind {
    /// The discriminant: `Fault` is the second variant.
    pub const TAG: u8 = 1;
}

const _: () = assert!(size_of::<FaultKind>() == size_of::<Kind>() && offset_of!(FaultKind, tag) == 0);

/// The IPC operation a thread is in: arguments of the system call, or the kernel's own for faults. The order is known to the
/// assembly.
#[repr(C)]
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

/// A thread control block. What the fast paths touch comes first; the size is a power of two, so that a slot is found by a
/// shift.
#[repr(C, align(1024))]
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Tcb {
    /// Registers; first, for the assembly.
    pub context: Context,
    /// The thread's name; its generation counts on when the slot is used again.
    pub id: ThreadId,
    /// The domain of its space, as receivers see it (behind `id`, for the assembly).
    pub domain: u64,
    /// Its space.
    pub space_id: SpaceId,
    /// Root table and ASID of its space, for TTBR0_EL1.
    pub ttbr0: u64,
    /// TPIDR_EL0, the program's.
    pub tls: u64,
    /// Where the program finds its UTCB: TPIDRRO_EL0.
    pub utcb_va: u64,
    /// Physical address of its UTCB.
    pub utcb_pa: u64,
    /// While it receives in an IPC system call without a deadline: from whom. Else NIL. For the fast path: whenever `state` becomes
    /// `Receiving`, this is set.
    pub open_to: ThreadId,
    /// The space that may answer its call; NIL = nobody owes it a reply.
    pub reply_space: SpaceId,
    /// Larger is more urgent. This and the next five fields are one word, its *standing*: one comparison with
    /// [`crate::runqueue::RunQueue::floor`] tells whether it waits on this CPU and may run next.
    pub priority: u8,
    /// Bits of [`hold`].
    pub hold: u8,
    /// The CPU it runs on.
    pub cpu: CpuId,
    /// What it does.
    pub state: State,
    /// Somebody deleted it while it ran on another CPU or a remote cluster had its message.
    pub doomed: bool,
    /// Zero.
    pub reserved: u16,
    /// Gets its page faults.
    pub pager: ThreadId,
    /// A thread that it was found to be allowed to send to, for the fast path (behind `pager`, for the assembly).
    pub granted: ThreadId,
    /// The IPC it is in.
    pub op: Operation,
    /// Those who wait to send to it: threads of this cluster, and guests.
    pub senders: Queue,
    /// Notification bits that it has not received yet (behind `senders`, for the assembly).
    pub notified: u64,
    /// When its wait ends without a partner; `u64::MAX` = never.
    pub deadline: u64,
    /// Slot of its space.
    pub space: u16,
    /// Its floating-point registers are in the unit of its CPU, not in `fp`.
    pub fp_live: bool,
    /// `fp` means something: it has used the unit.
    pub fp_used: bool,
    /// UTCB slot in its space.
    pub utcb_slot: u16,
    /// UTCB page in the kernel's arena.
    pub utcb_page: u32,
    /// Gets its exceptions.
    pub handler: ThreadId,
    /// What it has to do with another cluster.
    pub remote: Remote,
    /// Floating-point registers.
    pub fp: FpState,
}

const _: () = assert!(size_of::<Tcb>().is_power_of_two());
const _: () = assert!(offset_of!(Tcb, priority).is_multiple_of(8));
const _: () = assert!(offset_of!(Tcb, state) == offset_of!(Tcb, priority) + 4);
const _: () = assert!(offset_of!(Tcb, pager) == offset_of!(Tcb, priority) + 8);

impl Tcb {
    /// A slot that was never used.
    pub const FREE: Self = Self {
        context: Context::EMPTY,
        id: ThreadId::NIL,
        domain: 0,
        space_id: SpaceId::NIL,
        ttbr0: 0,
        tls: 0,
        utcb_va: 0,
        utcb_pa: 0,
        open_to: ThreadId::NIL,
        reserved: 0,
        granted: ThreadId::NIL,
        space: 0,
        cpu: 0,
        priority: 0,
        state: State::Free,
        doomed: false,
        hold: 0,
        fp_live: false,
        fp_used: false,
        utcb_slot: 0,
        utcb_page: 0,
        pager: ThreadId::NIL,
        handler: ThreadId::NIL,
        op: Operation::NONE,
        reply_space: SpaceId::NIL,
        senders: Queue::EMPTY,
        deadline: u64::MAX,
        remote: Remote::NONE,
        notified: 0,
        fp: FpState::EMPTY,
    };

    /// Makes the slot of a thread that was reaped ready for a new one, but for its registers. All that is not set here is as the reaping
    /// left it, or means nothing as long as something else that is set here says so.
    #[inline(always)]
    pub fn rename(&mut self, id: ThreadId) {
        (self.id, self.state, self.tls) = (id, State::Created, 0);
        (self.reply_space, self.open_to, self.remote) = (SpaceId::NIL, ThreadId::NIL, Remote::NONE);
        (self.doomed, self.hold, self.notified) = (false, 0, 0);
        (self.fp_live, self.fp_used, self.granted) = (false, false, ThreadId::NIL);
        self.op.kind = Kind::Ipc;
        (self.op.dest, self.op.from) = (ThreadId::NIL, ThreadId::NIL);
    }
    /// Where the program finds the UTCB of a slot.
    pub const fn utcb_address(slot: u16) -> u64 {
        UTCB_BASE + slot as u64 * UTCB_SIZE
    }
    /// Its standing as one word.
    #[inline(always)]
    pub fn standing(&self) -> u64 {
        u64::from(self.priority)
            | u64::from(self.hold) << 8
            | u64::from(self.cpu) << 16
            | (self.state as u64) << 32
            | u64::from(self.doomed) << 40
            | u64::from(self.reserved) << 48
    }
    /// Whether it receives, on whichever CPU and however urgent, and nothing else is to be considered about it.
    #[inline(always)]
    pub(crate) fn is_just_receiving(&self) -> bool {
        const PLACE: u64 = 0xffff_00ff;
        self.standing() & !PLACE == (State::Receiving as u64) << 32
    }
    /// Whether it wants to run, and nobody has deleted it meanwhile.
    #[inline(always)]
    pub fn may_run(&self) -> bool {
        self.standing() >> 32 == State::Ready as u64
    }
    /// Whether it is in this state, and nothing makes it a case of its own.
    #[inline(always)]
    pub fn stands(&self, state: State) -> bool {
        self.state == state && self.hold == 0 && !self.doomed
    }
    /// Its UTCB, in the kernel's arena.
    pub fn utcb<'a>(&self, pages: &'a [UtcbPage]) -> &'a [AtomicU64; UTCB_SIZE as usize / 8] {
        &pages[self.utcb_page as usize].0[usize::from(self.utcb_slot) % UTCBS_PER_PAGE]
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
    /// Whether the slot holds a thread.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, State::Free | State::Departed | State::Dying | State::Passing)
    }
    /// Whether the slot names a thread that was born here and is in another cluster.
    pub fn is_away(&self) -> bool {
        matches!(self.state, State::Departed | State::Passing)
    }
    /// Whether it takes a message from `sender` of `sender_space` right now.
    pub fn accepts(&self, sender: ThreadId, sender_space: SpaceId) -> bool {
        self.state == State::Receiving
            && (self.op.from.is_any()
                || passes(Check::ClosedReceive, self.op.from == sender)
                || self.awaits_reply_of(sender_space))
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
        let held = self.reply_space != SpaceId::NIL && self.reply_space == space;
        self.state == State::Receiving && passes(Check::ReplyRight, held)
    }
}

/// What is seldom needed of a thread, beside its [`Tcb`].
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Cold {
    /// Length of its time slice in steps of the counter, if it has one of its own; 0 = it runs until it blocks.
    pub(crate) slice: u64,
    /// What was left of it when a more urgent thread came.
    pub(crate) slice_left: u64,
    /// Those who expect a message from this thread only, and no answer.
    pub(crate) expecting: Queue,
    /// Where it waits while it is [`State::Controlling`].
    pub(crate) place: Place,
    /// The generation of the last thread that was born in this slot.
    pub(crate) generation: u32,
    /// How often the thread has moved to another cluster.
    pub(crate) moves: u32,
    /// Where it is going.
    pub(crate) to: Destination,
    /// Those who have cancelled what it waits for.
    pub(crate) cancellers: Queue,
    /// The thread that waits for its arrival, or `NONE`.
    pub(crate) escort: u32,
    /// It was never started, when it began to move.
    pub(crate) created: bool,
    /// It was in a receive phase then.
    pub(crate) receives: bool,
    /// The notification bits that went ahead of it; later, such as wait to go after it in the name of its domain.
    pub(crate) notes: u64,
    /// Where it went.
    pub(crate) at: u16,
    /// Those who still wait for it here are to be sent after it.
    pub(crate) forwards: bool,
    /// Not all of them have been.
    pub(crate) handing_on: bool,
    /// What was done for its UNMAP.
    pub(crate) settled: Settled,
    /// What was found for its AUDIT.
    pub(crate) answer: Option<Answer>,
    /// First thread born elsewhere whose id has this slot's number as its hash, or `NONE`.
    pub(crate) bucket: u32,
    /// The next one of the same hash.
    pub(crate) chain: u32,
}

impl Cold {
    /// Of a slot that was never used.
    pub const FREE: Self = Self {
        slice: 0,
        slice_left: 0,
        expecting: Queue::EMPTY,
        place: Place::Space(0),
        generation: 0,
        moves: 0,
        to: Destination::NOWHERE,
        cancellers: Queue::EMPTY,
        escort: NONE,
        created: false,
        receives: false,
        notes: 0,
        at: 0,
        forwards: false,
        handing_on: false,
        settled: Settled::NOTHING,
        answer: None,
        bucket: NONE,
        chain: NONE,
    };
}
