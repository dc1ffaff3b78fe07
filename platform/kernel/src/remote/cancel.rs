//! The end of a wait for another cluster, before what it waits for: time is over, or somebody wants the thread.

use super::{IN_RECEIVE, IN_SEND, Place, Request};
use crate::guests::Stay;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::syscall::SVC_SIZE;
use crate::thread::{Kind, State};
use skerry_abi::{Error, SpaceId, Timeout};

/// How a thread's wait is to end if it does not end by itself first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(Hash))]
pub enum Ending {
    /// By itself.
    None,
    /// With [`Error::Timeout`].
    Timeout,
    /// With [`Error::Cancelled`]; a fault or an exception is dropped, so that it happens again.
    Cancel,
    /// As if the operation had not begun, or as if its send phase had been all before: the thread executes it again. A thread
    /// whose message was delivered and not answered gets [`Error::Cancelled`].
    Restart,
    /// With the thread.
    Kill,
}

impl<H: Hal> Kernel<'_, H> {
    /// Ends the wait of `t` for another cluster. It may take until that has answered.
    #[inline(never)]
    pub(crate) fn cancel_remote(&mut self, t: u32, ending: Ending) {
        let thread = &mut self.threads[t as usize];
        let before = thread.remote.ending;
        if before != Ending::Kill && (before, ending) != (Ending::Cancel, Ending::Restart) {
            thread.remote.ending = ending;
        }
        let ending = thread.remote.ending;
        match (thread.state, thread.remote.request) {
            (State::AwaitingCredit, Request::Cancel) | (State::Pulling, _) => {}
            // It may have watched for this sender, whose cluster forgets that when it is asked for the message.
            (State::AwaitingCredit, Request::Pull(guest))
                if thread.op.from == self.guests.get(guest).sender => {}
            (State::AwaitingCredit, Request::Pull(guest)) => {
                self.leave_peer(t);
                self.return_guest(t, guest);
                self.end_wait(t, ending, true);
            }
            // Nothing has been sent.
            (State::AwaitingCredit, request) => {
                self.leave_peer(t);
                self.end_wait(t, ending, request == Request::Watch);
            }
            // Already asked to end, in part perhaps: the answer decides.
            (State::AwaitingResponse, Request::Cancel) => {}
            (State::AwaitingResponse, _) => self.ask_to_cancel(t),
            _ => {}
        }
    }

    /// Whether `t` waits for another cluster.
    pub(crate) fn awaits_cluster(&self, t: u32) -> bool {
        let state = self.threads[t as usize].state;
        matches!(state, State::AwaitingCredit | State::AwaitingResponse | State::Pulling)
    }

    /// The deadline of `t`, which waits for another cluster, is over.
    pub(crate) fn expire_remote(&mut self, t: u32) {
        if self.threads[t as usize].remote.ending == Ending::None {
            self.cancel_remote(t, Ending::Timeout);
        }
    }

    /// A guest whose message will not be asked for after all.
    fn return_guest(&mut self, t: u32, guest: u32) {
        let entry = self.guests.get_mut(guest);
        if entry.cancelled {
            // Its cluster was told that its wait would end.
            return self.bounce(guest, Error::Cancelled, false);
        }
        entry.stay = Stay::Queued(self.threads[t as usize].id);
        let Self { threads, links, .. } = self;
        let index = threads.len() as u32 + guest;
        threads[t as usize].senders.push_front(links, index);
    }

    pub(super) fn ask_to_cancel(&mut self, t: u32) {
        self.leave_peer(t);
        self.threads[t as usize].remote.request = Request::Cancel;
        self.await_room(t);
    }

    /// A cancel of `t` that waits for room is not needed any more.
    pub(super) fn keep_pending(&mut self, t: u32) {
        let remote = &mut self.threads[t as usize].remote;
        remote.request = Request::Send;
        if remote.place == Place::Waiting {
            self.leave_peer(t);
            self.enter_queue(t, Place::Pending, State::AwaitingResponse);
        }
    }

    /// Which phases a cancel of `t` is about.
    pub(super) fn phases_to_cancel(&self, t: u32) -> u64 {
        let thread = &self.threads[t as usize];
        match thread.remote.ending {
            Ending::Timeout if self.waits_for_answer(t) => IN_RECEIVE,
            Ending::Timeout => IN_SEND,
            _ => IN_SEND | IN_RECEIVE,
        }
    }

    /// Whether the deadline of `t` is that of its receive phase.
    fn waits_for_answer(&self, t: u32) -> bool {
        let thread = &self.threads[t as usize];
        let send = thread.op.send_timeout;
        thread.remote.delivered || send == Timeout::NEVER || send.is_poll()
    }

    /// Whether the send phase of `t` is to end without success.
    pub(super) fn ends_in_send(&self, t: u32) -> bool {
        match self.threads[t as usize].remote.ending {
            Ending::None => false,
            Ending::Timeout => !self.waits_for_answer(t),
            Ending::Cancel | Ending::Restart | Ending::Kill => true,
        }
    }

    /// The wait of `t` is over: with this error, or else as it was asked to end.
    pub(super) fn end_remote(&mut self, t: u32, error: Option<Error>, in_receive: bool) {
        self.leave_peer(t);
        match (self.threads[t as usize].remote.ending, error) {
            (Ending::None | Ending::Timeout, Some(error)) if in_receive => self.fail(t, error, true),
            (Ending::None | Ending::Timeout, Some(error)) => self.fail_send(t, error),
            (ending, _) => self.end_wait(t, ending, in_receive),
        }
    }

    /// Ends the operation of `t`, which is in no queue, in this phase.
    pub(super) fn end_wait(&mut self, t: u32, ending: Ending, in_receive: bool) {
        let thread = &mut self.threads[t as usize];
        thread.remote.ending = Ending::None;
        let own = thread.op.kind == Kind::Ipc;
        match ending {
            Ending::None | Ending::Timeout if in_receive => self.fail(t, Error::Timeout, true),
            Ending::None | Ending::Timeout => self.fail_send(t, Error::Timeout),
            Ending::Kill => self.reap(t),
            Ending::Restart if own && !(in_receive && thread.op.is_call()) => self.restart(t, in_receive),
            Ending::Cancel | Ending::Restart if own => self.fail(t, Error::Cancelled, in_receive),
            Ending::Cancel | Ending::Restart => {
                thread.reply_space = SpaceId::NIL;
                self.make_ready(t);
            }
        }
    }

    /// The message of `t` went out although the thread is wanted otherwise.
    pub(super) fn end_after_send(&mut self, t: u32) {
        let thread = &mut self.threads[t as usize];
        let ending = thread.remote.ending;
        if ending != Ending::Kill && thread.op.from.is_nil() {
            thread.remote.ending = Ending::None;
            return self.receive_phase(t);
        }
        self.end_wait(t, ending, true);
    }

    /// Lets `t` execute its IPC system call again; without its send phase if that is over. The registers are still as they were.
    pub(crate) fn restart(&mut self, t: u32, sent: bool) {
        let context = &mut self.threads[t as usize].context;
        context.pc = context.pc.wrapping_sub(SVC_SIZE);
        if sent {
            context.x[0] = skerry_abi::ThreadId::NIL.0;
        }
        self.make_ready(t);
    }
}
