//! Operations on the mapping database that take longer than interrupts may be off.
//!
//! A kernel entry has a [`Budget`]. What it does not suffice for stops at a preemption point, the kernel is left, interrupts are taken,
//! and:
//! - UNMAP, AUDIT and DESTROY are system calls that are *executed again*: the program counter is on the `svc` still, and the registers say how far
//!   the call has come. So they go on when their thread does, with its priority, and a thread that is deleted in between leaves nothing.
//! - The items of a message keep their *sender waiting* in the receiver's queue while they are checked. When all is checked and nothing can
//!   go wrong any more, the message is delivered, and the receiver does not run before the mappings are there.
//!
//! In the middle of something the database is held (see `skerry_mapping_db`), and whoever wants to change it helps first, then
//! executes its system call again. So whoever holds it may be less urgent, suspended or gone: nobody waits for it. Items, for which
//! nobody executes anything, are also helped along by the scheduler, whenever nobody more urgent than sender and receiver is ready.

use crate::audit::Answer;
use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::syscall::SVC_SIZE;
use crate::thread::{Kind, State, hold};
use skerry_abi::{Counter, Error, Rights, ThreadId, Timeout};
use skerry_mapping_db::{Budget, Helped, Outcome, Status};

/// The budget of a kernel entry: with all that surrounds it, less than 5,000 instructions.
pub(crate) const ENTRY: Budget = Budget::new(210);
/// What it costs to tell a waiter that it waits in vain, to end a wait, or to complete another thread's send phase.
pub(crate) const WAITER: u32 = 70;

/// What it costs to look at a message with items, or to give it to its receiver.
pub(crate) const MESSAGE: u32 = 80;

/// On whose behalf the database is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Nobody's, or nobody who wants to know.
    Nobody,
    /// This thread executes UNMAP.
    Unmap(ThreadId),
    /// This thread executes AUDIT.
    Audit(ThreadId),
    /// The space in this slot ends.
    Space(u16),
    /// The items of a message are checked; whether the receiver waits only for that.
    Plan { sender: ThreadId, receiver: ThreadId, priority: u8, polled: bool },
    /// They are mapped. The receiver has the message, but does not run yet.
    Commit { receiver: ThreadId, priority: u8 },
}

/// What a thread that executes UNMAP learns from somebody who has helped.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Settled {
    /// Where to go on; 0: nobody has helped.
    pub(crate) at: u64,
    pub(crate) seen: Rights,
}

impl Settled {
    pub(crate) const NOTHING: Self = Self { at: 0, seen: Rights::NONE };
}

impl<H: Hal> Kernel<'_, H> {
    /// A preemption point: the thread executes its system call again.
    pub(crate) fn again(&mut self, t: u32) {
        self.counters.count(Counter::PreemptionPoints);
        self.threads[t as usize].context.pc -= SVC_SIZE;
    }

    /// The same for a control call.
    pub(crate) fn done_again(&self) -> Done {
        self.counters.count(Counter::PreemptionPoints);
        Done::Again
    }

    /// Whether the database is held by items, which nobody's system call completes.
    pub(crate) fn has_items(&self) -> bool {
        self.chores.items != 0
    }
    fn set_holder(&mut self, holder: Holder) {
        self.chores.items = matches!(holder, Holder::Plan { .. } | Holder::Commit { .. }).into();
        self.holder = holder;
    }

    /// Goes on with whatever holds the mapping database. Whether nobody holds it then.
    pub(crate) fn help(&mut self) -> bool {
        while self.db.is_held() {
            if self.budget.is_spent() {
                return false;
            }
            let mut budget = self.budget;
            if let Holder::Plan { .. } = self.holder {
                // When all is checked the message is given at once.
                budget.reduce(MESSAGE);
            }
            let (db, mut tlb) = self.db_and_tlb();
            let helped = db.help(&mut tlb, &mut budget);
            self.budget = budget;
            match helped {
                Helped::Again => return false,
                Helped::Free => {}
                Helped::Revoked(at, status) => self.revoked(at, status),
                Helped::Audited(question, found) => self.audited(Answer { question, found }),
                Helped::Items(outcome) => self.progress(outcome),
            }
        }
        self.set_holder(Holder::Nobody);
        true
    }

    /// A revocation is complete: whoever asked for it shall know when it looks.
    fn revoked(&mut self, at: u64, status: Status) {
        self.counters.add(Counter::Unmaps, u64::from(status.touched));
        let holder = core::mem::replace(&mut self.holder, Holder::Nobody);
        if let Holder::Unmap(id) = holder
            && let Some(t) = self.find(id)
        {
            self.cold[t as usize].settled = Settled { at, seen: status.seen };
        }
    }

    /// The scheduler's help: if there are items, and nobody more urgent than those who wait for them is ready on this CPU.
    pub(crate) fn help_items(&mut self) {
        let (Holder::Plan { priority, .. } | Holder::Commit { priority, .. }) = self.holder else { return };
        if self.most_urgent().is_some_and(|urgent| urgent > priority) {
            return;
        }
        if !self.help() {
            self.counters.count(Counter::PreemptionPoints);
            self.hal.kick(self.this_cpu);
        }
    }

    /// The items of the message from `s` to `t` take longer than this. `s` is in no queue, and waits in that of `t` from now on; `polled`
    /// says that `t` is in its receive phase because of that only.
    pub(crate) fn wait_for_plan(&mut self, s: u32, t: u32, polled: bool) {
        let Self { threads, links, .. } = self;
        threads[s as usize].state = State::Sending;
        threads[t as usize].senders.push_front(links, s);
        let (sender, receiver) = (&threads[s as usize], &threads[t as usize]);
        let priority = sender.priority.max(receiver.priority);
        let (sender, receiver) = (sender.id, receiver.id);
        self.set_holder(Holder::Plan { sender, receiver, priority, polled });
        self.hal.kick(self.this_cpu);
    }

    /// Whether the items of a message from `s` to `t` are being checked already, from when `t` received before: then `t`, which receives
    /// again, waits for that. `s` stays in its queue.
    pub(crate) fn joins_plan(&mut self, s: u32, t: u32) -> bool {
        let Self { threads, holder, .. } = self;
        let Holder::Plan { sender, receiver, polled, .. } = holder else { return false };
        if threads.get(s as usize).is_none_or(|s| s.id != *sender) || threads[t as usize].id != *receiver {
            return false;
        }
        *polled = true;
        let thread = &mut threads[t as usize];
        (thread.state, thread.open_to) = (State::Receiving, ThreadId::NIL);
        true
    }

    /// News of the items that hold the database.
    fn progress(&mut self, outcome: Outcome) {
        match (self.holder, outcome) {
            (Holder::Commit { receiver, .. }, outcome) => {
                debug_assert!(!matches!(outcome, Outcome::Failed(_)), "what was planned happens");
                if let Outcome::Done(mapped) = outcome {
                    self.counters.add(Counter::Maps, u64::from(mapped.pages));
                }
                self.set_holder(Holder::Nobody);
                self.let_run(receiver);
            }
            (Holder::Plan { sender, receiver, polled, .. }, outcome) => {
                self.set_holder(Holder::Nobody);
                self.decide(sender, receiver, outcome);
                if polled
                    && let Some(t) = self.find(receiver)
                    && self.threads[t as usize].state == State::Receiving
                    && !self.has_items()
                {
                    self.leave_wait(t);
                    self.receive_phase(t);
                }
            }
            _ => self.db.drop_items(),
        }
    }

    /// The items of a message from `sender` to `receiver` are checked. Whatever became of both meanwhile: either everything happens now,
    /// or nothing.
    fn decide(&mut self, sender: ThreadId, receiver: ThreadId, outcome: Outcome) {
        let waits = |s: &u32| {
            let thread = &self.threads[*s as usize];
            thread.state == State::Sending && thread.op.kind == Kind::Ipc && thread.op.dest == receiver
        };
        let Some(s) = self.find(sender).filter(waits) else { return self.db.drop_items() };
        let Some(t) = self.find(receiver) else { return self.db.drop_items() };
        if let Outcome::Failed(error) = outcome {
            self.leave_sender_queue(s, receiver);
            return self.fail_send(s, error);
        }
        let space = self.threads[s as usize].space_id;
        if !self.threads[t as usize].accepts(sender, space) {
            // It has found somebody else: now `s` waits for it like everybody.
            self.db.drop_items();
            let timeout = self.threads[s as usize].op.send_timeout;
            if self.is_over(timeout) {
                self.leave_sender_queue(s, receiver);
                return self.fail_send(s, Error::Timeout);
            }
            return self.set_deadline(s, timeout.0);
        }
        self.leave_sender_queue(s, receiver);
        // The words are the sender's to change, and so are guards: what counts is what they say now.
        let tag = self.threads[s as usize].tag();
        let same = match self.decode_items(s, t, tag) {
            Ok(items) => self.db.held_items() == (items.from, items.to, items.list()),
            Err(_) => false,
        };
        if !same {
            self.db.drop_items();
            self.counters.count(Counter::PreemptionPoints);
            return self.restart(s, false);
        }
        self.clear_deadline(s);
        self.budget.reduce(MESSAGE);
        let mut budget = self.budget;
        let (db, mut tlb) = self.db_and_tlb();
        let outcome = db.commit_items(&mut tlb, &mut budget);
        self.budget = budget;
        self.committed(t, s, outcome);
        self.give_message(s, t, tag);
        self.receive_phase(s);
    }

    /// The items of a message from `s` are being mapped, or are: `t` gets the message, but runs when they are.
    pub(crate) fn committed(&mut self, t: u32, s: u32, outcome: Outcome) {
        match outcome {
            Outcome::Done(mapped) => self.counters.add(Counter::Maps, u64::from(mapped.pages)),
            _ if self.db.is_held() => {
                let priority = self.threads[s as usize].priority.max(self.threads[t as usize].priority);
                let receiver = &mut self.threads[t as usize];
                receiver.hold |= hold::MAPPING;
                let receiver = receiver.id;
                self.set_holder(Holder::Commit { receiver, priority });
                self.hal.kick(self.this_cpu);
            }
            _ => {}
        }
    }

    /// All that was mapped to a thread is there.
    fn let_run(&mut self, id: ThreadId) {
        let Some(t) = self.find(id) else { return };
        let thread = &mut self.threads[t as usize];
        thread.hold &= !hold::MAPPING;
        if thread.state == State::Stopped && thread.hold & hold::STOPPED == 0 {
            self.make_ready(t);
        }
    }

    /// Whether a timeout of the send phase keeps a thread from waiting at all.
    pub(crate) fn is_over(&self, timeout: Timeout) -> bool {
        timeout.is_poll() || (timeout != Timeout::NEVER && timeout.0 <= self.hal.now())
    }
}
