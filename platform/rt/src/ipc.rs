//! Synchronous IPC with [`Message`] buffers.

use core::marker::PhantomData;

use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS};
use skerry_abi::{Error, Fpage, Tag, ThreadId, Timeout};
use skerry_ipc::level::Level;
use skerry_ipc::{Caller, Message, Sender};

use crate::{sys, utcb};

/// An IPC failed: why, and in which phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// Whether the send phase went well.
    pub in_receive: bool,
}

/// The general operation: sends `message` to `to` (unless nil), then receives into it from `from` (unless nil).
fn exchange(
    to: ThreadId,
    from: ThreadId,
    message: &mut Message,
    timeouts: (Timeout, Timeout),
    window: Fpage,
) -> Result<Sender, Failure> {
    let mut registers = [0; REGISTER_WORDS];
    let mut tag = Tag(0);
    if !to.is_nil() {
        tag = message.tag;
        let count = tag.words().min(MAX_WORDS);
        registers.copy_from_slice(&message.buffer()[..REGISTER_WORDS]);
        utcb::store(&message.buffer()[..count]);
    }
    let (thread, domain, tag) = sys::ipc(to, from, tag, &mut registers, timeouts, window);
    if let Some(error) = tag.error() {
        return Err(Failure { error, in_receive: tag.receive_failed() });
    }
    if !from.is_nil() {
        message.tag = tag;
        let count = tag.words().min(MAX_WORDS);
        message.buffer_mut()[..REGISTER_WORDS].copy_from_slice(&registers);
        utcb::load(&mut message.buffer_mut()[..count]);
    }
    Ok(Sender { thread, domain })
}

/// Sends without waiting for an answer.
///
/// # Errors
/// The kernel's.
pub fn send(to: ThreadId, message: &mut Message, timeout: Timeout) -> Result<(), Error> {
    exchange(to, ThreadId::NIL, message, (timeout, Timeout::ZERO), Fpage::NIL).map(drop).map_err(|f| f.error)
}

/// Receives from `from`, which may be [`ThreadId::ANY`]. No map items are accepted.
///
/// # Errors
/// The kernel's.
pub fn receive(from: ThreadId, message: &mut Message, timeout: Timeout) -> Result<Sender, Error> {
    exchange(ThreadId::NIL, from, message, (Timeout::ZERO, timeout), Fpage::NIL).map_err(|f| f.error)
}

/// Sends to a thread and waits for its answer for as long as it takes.
///
/// # Errors
/// The kernel's.
pub fn call(to: ThreadId, message: &mut Message) -> Result<Sender, Error> {
    exchange(to, to, message, (Timeout::NEVER, Timeout::NEVER), Fpage::NIL).map_err(|f| f.error)
}

/// A server's step: answers `to` without waiting for it, then receives the next request.
///
/// # Errors
/// [`Failure`]; if the answer did not get through, nothing was received.
pub fn reply_wait(to: ThreadId, message: &mut Message) -> Result<Sender, Failure> {
    exchange(to, ThreadId::ANY, message, (Timeout::REPLY, Timeout::NEVER), Fpage::NIL)
}

/// Answers without waiting.
///
/// # Errors
/// The kernel's: [`Error::NotWaiting`] if the caller is gone or does not wait any more; then there is nothing to do.
pub fn reply(to: ThreadId, message: &mut Message) -> Result<(), Error> {
    send(to, message, Timeout::REPLY)
}

/// Waits for notifications only, and returns their bits.
///
/// # Errors
/// [`Error::Timeout`], or the kernel's.
pub fn wait_notification(timeout: Timeout) -> Result<u64, Error> {
    let mut message = Message::new();
    receive(utcb::my_id(), &mut message, timeout)?;
    Ok(message.buffer()[0])
}

/// Lets less urgent threads of this CPU run for a moment: blocks for `ticks` of the virtual counter. Notifications that arrive
/// meanwhile are kept.
pub fn pause(ticks: u64) {
    let until = Timeout(sys::counter_time().saturating_add(ticks));
    let mut kept = 0;
    while let Ok(bits) = wait_notification(until) {
        kept |= bits;
    }
    if kept != 0 {
        // One may always notify oneself.
        let _ = sys::notify(utcb::my_id(), kept);
    }
}

/// Stays in the kernel until the thread is deleted.
pub fn sleep_forever() -> ! {
    let mut message = Message::new();
    loop {
        // Only notifications end that, and nobody waits for these here.
        let _ = receive(utcb::my_id(), &mut message, Timeout::NEVER);
    }
}

/// The kernel's IPC as the [`Caller`] of code of level `L`.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<L>(PhantomData<L>);

impl<L> Kernel<L> {
    /// For code of level `L`.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<L> Default for Kernel<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Level> Caller for Kernel<L> {
    type Level = L;
    fn call(&self, to: ThreadId, message: &mut Message) -> Result<(), Error> {
        call(to, message).map(drop)
    }
    fn call_short(&self, to: ThreadId, tag: Tag, words: &mut [u64; REGISTER_WORDS]) -> Result<Tag, Error> {
        let (_, _, tag) = sys::ipc(to, to, tag, words, (Timeout::NEVER, Timeout::NEVER), Fpage::NIL);
        tag.error().map_or(Ok(tag), Err)
    }
}

/// What a server's loop runs.
pub trait Handler {
    /// Handles one message. Returns whether `message` now holds the answer.
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool;
    /// The answer to `to` did not get through. Mostly the caller is gone, and there is nothing to do.
    fn reply_failed(&mut self, to: Sender, error: Error) {
        let _ = (to, error);
    }
}

/// Serves for ever.
pub fn serve(handler: &mut impl Handler) -> ! {
    let mut message = Message::new();
    let mut answer_to = None::<Sender>;
    loop {
        let to = answer_to.map_or(ThreadId::NIL, |sender| sender.thread);
        match reply_wait(to, &mut message) {
            Ok(from) => answer_to = handler.handle(from, &mut message).then_some(from),
            Err(failure) => {
                if let (Some(sender), false) = (answer_to, failure.in_receive) {
                    handler.reply_failed(sender, failure.error);
                }
                answer_to = None;
            }
        }
    }
}
