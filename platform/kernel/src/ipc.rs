//! Synchronous IPC inside a cluster: permission, rendezvous, transfer, one-shot reply rights.
//!
//! An operation has a send phase and a receive phase, either of which may be missing. A message is copied exactly when
//! both sides are ready; until then it stays in the sender's registers and UTCB. After a *call* the partner's *space*
//! holds the right to answer, once: [`Tcb::awaits_reply_of`] while the caller waits, gone with the answer.
//! Across clusters the same phases run over rings: [`crate::remote`].

use crate::guests::Stay;
use crate::hal::Hal;
use crate::items::Mapping;
use crate::kernel::{Kernel, UTCB_MR0};
use crate::long::WAITER;
use crate::thread::{Kind, State, hold};
use core::sync::atomic::{AtomicU64, Ordering};
use skerry_abi::message::{EXCEPTION_WORDS, MAX_WORDS, REGISTER_WORDS, kernel_label};
use skerry_abi::{Counter, Domain, Error, SpaceId, Tag, ThreadId, Timeout};
use skerry_checks::{Check, passes};

#[cfg(doc)]
use crate::thread::Tcb;
use skerry_trace::Event;

/// What it costs to copy a word that is in no register, in units of [`skerry_mapping_db::Budget`].
const COPY: u32 = 2;

/// Where the words of a message are until they are copied, once, to where they belong.
#[derive(Clone, Copy)]
pub(crate) enum Source<'m> {
    /// In the registers and the UTCB of the thread that sends them, or in the kernel's mind if it speaks for the thread.
    Thread(u32),
    /// In a packet from another cluster.
    Packet(&'m [AtomicU64]),
}

/// How a send phase ended, if not with an error.
#[derive(PartialEq, Eq)]
pub(crate) enum Sent {
    /// The partner has the message.
    Delivered,
    /// The thread waits; whoever wakes it goes on with its operation.
    Blocked,
}

impl<H: Hal> Kernel<'_, H> {
    /// Begins the operation in `op` of a thread that is `Ready` and runs on this CPU (or was just taken out of a wait).
    pub(crate) fn start_ipc(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        thread.reply_space = SpaceId::NIL;
        if !thread.op.dest.is_nil() {
            match self.send_phase(t) {
                Ok(Sent::Delivered) => {}
                Ok(Sent::Blocked) => return,
                Err(error) => return self.fail_send(t, error),
            }
        }
        self.receive_phase(t);
    }

    fn send_phase(&mut self, t: u32) -> Result<Sent, Error> {
        let thread = &self.threads[t as usize];
        let (id, op, tag) = (thread.id, thread.op, thread.tag());
        // Faults, exceptions and notifications are the kernel's word: nobody else may speak like it.
        let forged = op.kind == Kind::Ipc && kernel_label::is_reserved(tag.label());
        let sound = passes(Check::ReservedLabel, !forged)
            && passes(Check::MessageLength, tag.words() <= MAX_WORDS)
            && tag.typed().is_multiple_of(2)
            && passes(Check::SendToSelf, op.dest != id);
        if !sound || op.dest.is_any() {
            return Err(Error::BadArgument);
        }
        if let Some(cluster) = self.elsewhere(op.dest) {
            return self.send_remote(t, cluster);
        }
        let partner = self.find(op.dest).ok_or(Error::NoSuchThread)?;
        let space = self.spaces[usize::from(thread.space)].id;
        self.check_permission(t, partner, op.dest)?;
        if self.threads[partner as usize].accepts(id, space) {
            return Ok(match self.transfer(t, partner)? {
                Mapping::Done => Sent::Delivered,
                Mapping::Later => {
                    self.wait_for_plan(t, partner, false);
                    Sent::Blocked
                }
                Mapping::Again => {
                    self.counters.count(Counter::PreemptionPoints);
                    self.restart(t, false);
                    Sent::Blocked
                }
            });
        }
        if self.is_over(op.send_timeout) {
            return Err(Error::Timeout);
        }
        let Self { threads, links, .. } = self;
        threads[t as usize].state = State::Sending;
        threads[partner as usize].senders.push_back(links, t);
        self.set_deadline(t, op.send_timeout.0);
        Ok(Sent::Blocked)
    }

    /// Takes a thread that waits to send to `dest` out of that thread's queue.
    pub(crate) fn leave_sender_queue(&mut self, t: u32, dest: ThreadId) {
        if let Some(partner) = self.slot_of(dest) {
            let Self { threads, links, .. } = self;
            threads[partner as usize].senders.remove(links, t);
        }
    }

    /// Same domain, own pager and handler, holders of a reply right, granted partners. Nobody else.
    pub(crate) fn check_permission(&mut self, t: u32, partner: u32, dest: ThreadId) -> Result<(), Error> {
        let (sender, receiver) = (&self.threads[t as usize], &self.threads[partner as usize]);
        let (from, to) = (&self.spaces[usize::from(sender.space)], &self.spaces[usize::from(receiver.space)]);
        if from.domain == to.domain || receiver.awaits_reply_of(from.id) {
            return Ok(());
        }
        if !passes(Check::Permission, self.is_granted(t, dest)) {
            return Err(Error::NotPermitted);
        }
        if from.is_partner(dest) {
            // Partners are granted for ever and ids are never used again: the fast path may rely on it.
            self.threads[t as usize].granted = dest;
        }
        Ok(())
    }

    /// The part of the permission that the sender's side alone can tell.
    pub(crate) fn is_granted(&self, t: u32, dest: ThreadId) -> bool {
        let sender = &self.threads[t as usize];
        dest == sender.pager
            || dest == sender.handler
            || self.spaces[usize::from(sender.space)].is_partner(dest)
    }

    /// Runs the receive phase of `t`, and then of every thread whose send phase that completes.
    pub(crate) fn receive_phase(&mut self, mut t: u32) {
        loop {
            self.clear_deadline(t);
            let thread = &self.threads[t as usize];
            if thread.op.from.is_nil() {
                return self.complete(t);
            }
            if thread.notified != 0 && thread.takes_notifications() {
                return self.deliver_notification(t);
            }
            let timeout = thread.op.receive_timeout;
            let Some(sender) = self.next_sender(t) else {
                let from = thread.op.from;
                let closed = thread.reply_space == SpaceId::NIL && !from.is_any() && from != thread.id;
                let elsewhere = self.elsewhere(from).filter(|_| closed);
                if closed && elsewhere.is_none() && self.find(from).is_none() {
                    // It will never send.
                    return self.fail(t, Error::NoSuchThread, true);
                }
                if self.is_over(timeout) {
                    return self.fail(t, Error::Timeout, true);
                }
                if let Some(cluster) = elsewhere {
                    return match self.watch(t, cluster) {
                        Ok(()) => {}
                        Err(error) => self.fail(t, error, true),
                    };
                }
                let thread = &mut self.threads[t as usize];
                thread.state = State::Receiving;
                thread.open_to = match (thread.op.kind, timeout) {
                    (Kind::Ipc, Timeout::NEVER) => thread.op.from,
                    _ => ThreadId::NIL,
                };
                self.set_deadline(t, timeout.0);
                return self.expect(t);
            };
            if self.joins_plan(sender, t) {
                return;
            }
            let Self { threads, links, .. } = self;
            threads[t as usize].senders.remove(links, sender);
            if let Some(guest) = (sender as usize).checked_sub(self.threads.len()) {
                match self.pull(t, guest as u32) {
                    true => return,
                    // Its cluster is down.
                    false => continue,
                }
            }
            let next = match self.transfer(sender, t) {
                Ok(Mapping::Done) => sender,
                Ok(Mapping::Later) => {
                    // It has found its message, and waits until that is there.
                    self.threads[t as usize].state = State::Receiving;
                    self.threads[t as usize].open_to = ThreadId::NIL;
                    return self.wait_for_plan(sender, t, true);
                }
                Ok(Mapping::Again) => {
                    self.restart(sender, false);
                    t
                }
                Err(error) => {
                    self.fail_send(sender, error);
                    t
                }
            };
            // Each of them could wake another one, and so on: who has no reply to wait for goes on in an entry of its own.
            t = next;
            let thread = &self.threads[t as usize];
            let patient = thread.op.kind == Kind::Ipc && thread.reply_space == SpaceId::NIL;
            if patient && !self.budget.take(WAITER) {
                self.counters.count(Counter::PreemptionPoints);
                return self.restart(t, true);
            }
        }
    }

    /// A thread that waits for a message from one thread of this cluster, and not for an answer, is told when that thread ends.
    fn expect(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (id, from) = (thread.id, thread.op.from);
        if thread.reply_space != SpaceId::NIL || from == id {
            return;
        }
        if let Some(partner) = self.find(from) {
            let Self { cold, links, threads, .. } = self;
            cold[partner as usize].expecting.push_back(links, t);
            threads[t as usize].hold |= hold::EXPECTING;
        }
    }

    /// Who of the waiting senders is received from next.
    pub(crate) fn next_sender(&self, t: u32) -> Option<u32> {
        let thread = &self.threads[t as usize];
        if thread.op.from.is_any() {
            return thread.senders.head();
        }
        if let Some(partner) = self.find(thread.op.from) {
            let sender = &self.threads[partner as usize];
            return (sender.state == State::Sending && sender.op.dest == thread.id).then_some(partner);
        }
        let guest = self.guests.find(thread.op.from)?;
        (self.guests.get(guest).stay == Stay::Queued(thread.id)).then(|| self.threads.len() as u32 + guest)
    }

    /// Copies the message of `s` to `t`, wakes `t`, and gives its space the right to reply if it was a call.
    /// On an error, or if it does not happen now, nothing has happened to `t`.
    fn transfer(&mut self, s: u32, t: u32) -> Result<Mapping, Error> {
        let tag = self.threads[s as usize].tag();
        if tag.typed() != 0 {
            let mapping = self.map_items(s, t, tag)?;
            if mapping != Mapping::Done {
                return Ok(mapping);
            }
        }
        self.give_message(s, t, tag);
        Ok(Mapping::Done)
    }

    /// The same without the items.
    pub(crate) fn give_message(&mut self, s: u32, t: u32, tag: Tag) {
        self.counters.count(Counter::Ipcs);
        let space = self.spaces[usize::from(self.threads[t as usize].space)].id;
        let sender = &mut self.threads[s as usize];
        sender.reply_space = if sender.op.is_call() { space } else { SpaceId::NIL };
        let id = sender.id;
        self.trace(|k| Event::Ipc { from: id, to: k.threads[t as usize].id, label: tag.label() });
        self.deliver(t, id, self.domain_of(s), tag, Source::Thread(s));
    }

    /// The domain of a thread, as receivers see it.
    pub(crate) fn domain_of(&self, t: u32) -> Domain {
        self.threads[t as usize].domain as Domain
    }

    /// Copies the words of the message that `s` sends, the first to `to[0]`. Those that travel in registers are written always: a
    /// receiver may load all of them, and must not find what others have left there.
    pub(crate) fn copy_out(&mut self, s: u32, used: usize, to: &[AtomicU64]) {
        let to = &to[..used.clamp(REGISTER_WORDS, MAX_WORDS).min(to.len())];
        let thread = &self.threads[s as usize];
        if thread.op.kind != Kind::Ipc {
            let word = |i| if i <= used { thread.kernel_word(i) } else { 0 };
            (1..).zip(to).for_each(|(i, to)| to.store(word(i), Ordering::Relaxed));
            return;
        }
        let registers = &thread.context.x[3..3 + REGISTER_WORDS];
        registers.iter().zip(to).for_each(|(word, to)| to.store(*word, Ordering::Relaxed));
        if let Some(rest) = to.get(REGISTER_WORDS..) {
            let utcb = &self.utcb(s)[UTCB_MR0 + 1 + REGISTER_WORDS..];
            self.hal.copy_words(&utcb[..rest.len()], rest);
        }
    }

    /// Word `i` (from 1) of a message.
    pub(crate) fn word_of(&self, source: Source<'_>, i: usize) -> u64 {
        let atomic = |words: &[AtomicU64], i: usize| words.get(i).map_or(0, |w| w.load(Ordering::Relaxed));
        match source {
            Source::Packet(words) => atomic(words, i - 1),
            Source::Thread(s) => {
                let thread = &self.threads[s as usize];
                match thread.op.kind {
                    Kind::Ipc if i <= REGISTER_WORDS => thread.context.x[2 + i],
                    Kind::Ipc => atomic(self.utcb(s), UTCB_MR0 + i),
                    _ => thread.kernel_word(i),
                }
            }
        }
    }

    /// Ends the receive phase of `t` with this message.
    pub(crate) fn deliver(&mut self, t: u32, from: ThreadId, domain: Domain, tag: Tag, source: Source<'_>) {
        let used = tag.words().min(MAX_WORDS);
        self.threads[t as usize].reply_space = SpaceId::NIL;
        match self.threads[t as usize].op.kind {
            Kind::Ipc => {
                let mut registers = [0; REGISTER_WORDS];
                for (word, i) in registers.iter_mut().zip(1..=used) {
                    *word = self.word_of(source, i);
                }
                let x = &mut self.threads[t as usize].context.x;
                (x[0], x[1], x[2]) = (from.0, u64::from(domain), tag.0);
                x[3..3 + REGISTER_WORDS].copy_from_slice(&registers);
                x[3 + REGISTER_WORDS..19].fill(0);
                if used > REGISTER_WORDS {
                    self.copy_rest(t, source, used);
                }
                self.make_ready(t);
            }
            Kind::Fault { address, esr, .. } if tag.label() == kernel_label::REJECT_FAULT => {
                self.raise(t, Kind::Exception { esr, far: address });
            }
            Kind::Exception { .. } if tag.label() == kernel_label::RESUME_WITH => {
                if tag.untyped() == EXCEPTION_WORDS {
                    let registers: [u64; EXCEPTION_WORDS - 2] =
                        core::array::from_fn(|i| self.word_of(source, i + 3));
                    self.threads[t as usize].context.load(&registers);
                }
                self.make_ready(t);
            }
            Kind::Fault { .. } | Kind::Exception { .. } => self.make_ready(t),
        }
    }

    /// Copies the words that travel in the UTCBs.
    fn copy_rest(&mut self, t: u32, source: Source<'_>, used: usize) {
        self.budget.reduce(COPY * (used - REGISTER_WORDS) as u32);
        let to = &self.utcb(t)[UTCB_MR0 + 1 + REGISTER_WORDS..UTCB_MR0 + 1 + used];
        match source {
            Source::Packet(words) => self.hal.copy_words(&words[REGISTER_WORDS..used], to),
            Source::Thread(s) if self.threads[s as usize].op.kind == Kind::Ipc => {
                let from = &self.utcb(s)[UTCB_MR0 + 1 + REGISTER_WORDS..UTCB_MR0 + 1 + used];
                self.hal.copy_words(from, to);
            }
            Source::Thread(s) => {
                for (word, i) in to.iter().zip(REGISTER_WORDS + 1..) {
                    word.store(self.threads[s as usize].kernel_word(i), Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends an operation whose send phase failed. Whoever answers does not care why nobody takes the answer.
    pub(crate) fn fail_send(&mut self, t: u32, error: Error) {
        let op = &self.threads[t as usize].op;
        let nobody =
            matches!(error, Error::NoSuchThread | Error::NotPermitted | Error::Timeout | Error::Cancelled);
        let reply = op.kind == Kind::Ipc && op.send_timeout == Timeout::REPLY && nobody;
        self.fail(t, if reply { Error::NotWaiting } else { error }, false);
    }

    /// Ends an operation that has no receive phase.
    fn complete(&mut self, t: u32) {
        let x = &mut self.threads[t as usize].context.x;
        x[..19].fill(0);
        self.make_ready(t);
    }

    /// Ends an operation with an error.
    pub(crate) fn fail(&mut self, t: u32, error: Error, in_receive: bool) {
        let thread = &mut self.threads[t as usize];
        thread.reply_space = SpaceId::NIL;
        match thread.op.kind {
            Kind::Ipc => {
                thread.context.x[..19].fill(0);
                thread.context.x[2] = Tag::failed(error, in_receive).0;
                self.make_ready(t);
            }
            // The pager is gone: the exception handler may still be there.
            Kind::Fault { address, esr, .. } if thread.handler != thread.pager => {
                self.raise(t, Kind::Exception { esr, far: address });
            }
            Kind::Fault { .. } | Kind::Exception { .. } if thread.hold & hold::MOVING != 0 => {
                self.make_ready(t)
            }
            Kind::Fault { .. } | Kind::Exception { .. } => {
                thread.state = State::Halted;
                self.tell_cancellers(t, Ok(()));
            }
        }
    }
}
