//! Notification words: 64 bits per thread that permitted senders OR into, and that are received like a message.
//!
//! Synchronous IPC cannot tell many partners something without waiting for each of them; a notification never waits. Bits that
//! arrive before the receiver looks run together, so there is nothing to queue, and no number of senders can overrun anybody.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::thread::State;
use skerry_abi::id::domain;
use skerry_abi::message::{REGISTER_WORDS, kernel_label};
use skerry_abi::{Counter, Error, SpaceId, Tag, ThreadId};
use skerry_trace::Event;

impl<H: Hal> Kernel<'_, H> {
    /// The system call: thread `t` notifies `dest`, which may be itself.
    pub(crate) fn notify_call(&mut self, t: u32, dest: ThreadId, bits: u64) -> Result<(), Error> {
        if dest.is_nil() || dest.is_any() {
            return Err(Error::BadArgument);
        }
        if self.elsewhere(dest).is_some() {
            return self.notify_remote(t, dest, bits);
        }
        let partner = self.find(dest).ok_or(Error::NoSuchThread)?;
        self.check_permission(t, partner, dest)?;
        self.notify(partner, bits);
        Ok(())
    }

    /// Adds bits to the word of a thread of this cluster. If it waits for them, it has them.
    pub(crate) fn notify(&mut self, t: u32, bits: u64) {
        self.counters.count(Counter::Notifications);
        self.trace(|k| Event::Notification { thread: k.threads[t as usize].id, bits });
        let thread = &mut self.threads[t as usize];
        thread.notified |= bits;
        if thread.notified != 0 && thread.accepts_notifications() {
            self.deliver_notification(t);
        }
    }

    /// Ends the receive phase of `t` with its notification word.
    pub(crate) fn deliver_notification(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        debug_assert!(thread.takes_notifications() && thread.state != State::Free);
        thread.reply_space = SpaceId::NIL;
        let x = &mut thread.context.x;
        x[..11 + REGISTER_WORDS].fill(0);
        (x[0], x[1]) = (ThreadId::NIL.0, u64::from(domain::KERNEL));
        x[2] = Tag::new(kernel_label::NOTIFICATION, 1, 0).0;
        x[3] = core::mem::take(&mut thread.notified);
        self.make_ready(t);
    }
}
