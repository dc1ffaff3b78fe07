//! Requests that take pages away or change them, and faults that need such a change first.

use app_pager::batch::{self, Request, Wish};
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{Error, Fpage, Tag, ThreadId, Timeout};
use skerry_ipc::pager::{Changed, ChangedPages, Pages, Revoked, RevokedPages};
use skerry_ipc::{Answer, Sender, Unanswered, Wire, Writer};
use skerry_rt::sys;

use super::jobs::Jobs;
use super::parked::Waiting;
use super::serve::Pager;

/// Somebody has notified this thread: requests that waited for that go on, and what is finished is answered. Returns whether faults that
/// were parked for one of them can be tried again.
pub(super) fn go_on<const W: usize>(jobs: &mut Jobs<W>, woken: bool) -> bool {
    let mut again = false;
    jobs.notified(woken, |(client, answer)| {
        let mut words = [0; REGISTER_WORDS];
        let mut out = Writer::new(&mut words);
        match answer {
            batch::Answer::Range(told) => told.put(&mut out),
            batch::Answer::Pages(told) => told.put(&mut out),
            batch::Answer::Changed(told) => told.put(&mut out),
            batch::Answer::ChangedPages(told) => told.put(&mut out),
            // It waits for the answer to its fault.
            batch::Answer::Again => {
                again = true;
                return;
            }
        }
        let (tag, times) = (Tag::new(0, out.used(), 0), (Timeout::REPLY, Timeout::ZERO));
        // Who was killed while waiting needs no answer.
        let _ = sys::ipc(client, ThreadId::NIL, tag, &mut words, times, Fpage::NIL);
    });
    again
}

impl<const W: usize> Pager<W> {
    /// A request to take pages away or to change them.
    pub(super) fn change(
        &mut self,
        from: Sender,
        request: Option<Request>,
        list: &[u64],
    ) -> Answer<batch::Answer> {
        let request = request.ok_or(Error::BadArgument)?;
        self.context.state().task(from.domain)?;
        self.jobs.begin(from.thread, from.domain, request, list)?.ok_or(Unanswered::Parked)
    }
    pub(super) fn revoke_range(&mut self, from: Sender, request: Option<Request>) -> Answer<Revoked> {
        match self.change(from, request, &[])? {
            batch::Answer::Range(told) => Ok(told),
            // It answers what was asked.
            _ => Err(Error::BadRequest.into()),
        }
    }
    pub(super) fn change_range(&mut self, from: Sender, request: Option<Request>) -> Answer<Changed> {
        match self.change(from, request, &[])? {
            batch::Answer::Changed(told) => Ok(told),
            _ => Err(Error::BadRequest.into()),
        }
    }
    /// A node that can have frames of its own.
    pub(super) fn target(&self, node: u16) -> Result<u16, Error> {
        let found = self.context.boot.cpus().iter().find(|cpu| cpu.node == node);
        found.map(|_| node).ok_or(Error::BadArgument)
    }
    pub(super) fn revoke_list(&mut self, from: Sender, pages: Pages) -> Answer<RevokedPages> {
        match self.change(from, Request::list(pages.words()), pages.words())? {
            batch::Answer::Pages(told) => Ok(told),
            _ => Err(Error::BadRequest.into()),
        }
    }
    pub(super) fn change_list(&mut self, from: Sender, pages: Pages) -> Answer<ChangedPages> {
        let request = Request::move_list(pages.words());
        if let Some(Request { wish: Wish::Move(node), .. }) = request {
            self.target(node)?;
        }
        match self.change(from, request, pages.words())? {
            batch::Answer::ChangedPages(told) => Ok(told),
            _ => Err(Error::BadRequest.into()),
        }
    }

    /// A write to a replicated page: its copies go first. Returns whether the fault is parked until they have; if not, it can be tried again
    /// at once.
    pub(super) fn collapse(&mut self, fault: Waiting) -> bool {
        let page = fault.address & !(PAGE_SIZE - 1);
        let Some(request) = Request::range(Wish::Collapse, page, 1) else { return false };
        if !self.parked.add(fault) {
            return false;
        }
        let waits = matches!(self.jobs.begin(fault.from.thread, fault.from.domain, request, &[]), Ok(None));
        if !waits {
            // Done already, or there are too many requests at a time.
            self.parked.remove(fault.from.thread);
        }
        waits
    }
}
