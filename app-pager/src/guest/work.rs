//! The thread that serves other pagers.

use app_pager::protocols::effect::Me;
use app_pager::step::Step;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain;
use skerry_abi::message::kernel_label;
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_ipc::pager::{Birth, Event, Free, Maintained, Stats, TaskEnd, ThreadEnd};
use skerry_ipc::peer::{self, Claimed, Found, Frames, MAX_FRAMES, Script, Taker};
use skerry_ipc::syscall::Holder;
use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, encode_reply};
use skerry_rt::ipc::{Handler, serve};

use super::life;
use super::maintain::COUNTS;
use super::moves::{self, Begin};
use super::office;
use super::state::{Context, WHOLE_TASK};
use super::{grace, history, launch, step, stock, table, task};

static COUNTERS: peer::Counters = peer::Counters::new();

/// Serves other pagers for ever.
pub(super) fn work(context: Context) -> ! {
    serve(&mut Worker(context))
}

/// The worker: requests of other pagers. Level 0.
struct Worker(Context);

impl Handler for Worker {
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
        if message.tag.label() == kernel_label::NOTIFICATION && from.domain == domain::KERNEL {
            grace::announce(self.0.rank);
            return false;
        }
        if from.domain != domain::APP_PAGER {
            // Nobody else's business, whatever is asked.
            encode_reply::<()>(message, Err(Error::Refused));
            return true;
        }
        if self.0.options.crash.is_some() {
            return self.watched(from, message);
        }
        peer::dispatch(self, from, message, &COUNTERS) == Outcome::Reply
    }
}

impl Worker {
    /// A request, and a crash before it is carried out, or before it is answered, if somebody wants that.
    #[cold]
    #[inline(never)]
    fn watched(&mut self, from: Sender, message: &mut Message) -> bool {
        let label = message.tag.label();
        let reach = |context: &Context, done| {
            // (What is no request is refused by the dispatch.)
            if let Some(step) = Step::request(label, done) {
                step::reach(context, || step);
            }
        };
        reach(&self.0, false);
        let outcome = peer::dispatch(self, from, message, &COUNTERS);
        reach(&self.0, true);
        outcome == Outcome::Reply
    }
}

impl peer::Server for Worker {
    fn space_make(&mut self, _: Sender, id: u32, board: u64, cpu: u16) -> Answer<()> {
        Ok(task::make_space(&self.0, id, board, cpu)?)
    }
    fn thread_create(
        &mut self,
        _: Sender,
        id: u32,
        number: u32,
        cpu: u16,
        entry: u64,
        stack: u64,
        argument: u64,
    ) -> Answer<ThreadId> {
        Ok(task::create_thread(&self.0, id, number, cpu, Begin { entry, stack, argument })?)
    }
    fn region_create(&mut self, _: Sender, id: u32, base: u64, size: u64, kind: u64) -> Answer<()> {
        Ok(task::create_region(&self.0, id, base, size, kind)?)
    }
    fn stats(&mut self, _: Sender, id: u32, node: u16) -> Answer<Stats> {
        Ok(task::stats(&self.0, id, node)?)
    }
    fn thread_ended(&mut self, _: Sender, id: u32, number: u32, end: ThreadEnd) -> Answer<()> {
        task::wake_joiners(&self.0, id, number, end);
        Ok(())
    }
    fn space_destroy(&mut self, _: Sender, id: u32) -> Answer<()> {
        Ok(task::destroy_spaces(&self.0, id)?)
    }
    fn thread_delete(&mut self, _: Sender, thread: ThreadId) -> Answer<()> {
        Ok(moves::delete(&self.0, thread)?)
    }
    fn thread_move(
        &mut self,
        _: Sender,
        thread: ThreadId,
        space: SpaceId,
        cpu: u16,
        pager: ThreadId,
    ) -> Answer<()> {
        Ok(moves::move_own(&self.0, thread, space, cpu, pager)?)
    }
    fn task_start(&mut self, _: Sender, birth: Birth, quota: u64, command: Chunk) -> Answer<u32> {
        Ok(launch::command(&self.0, birth, quota, &command)?)
    }
    fn task_kill(&mut self, _: Sender, id: u32, by: u32, end: TaskEnd) -> Answer<()> {
        Ok(life::kill(&self.0, id, by, end, format_args!(""))?)
    }
    fn task_over(&mut self, _: Sender, id: u32) -> Answer<()> {
        Ok(life::over_here(&self.0, id)?)
    }
    fn task_await(&mut self, _: Sender, id: u32, by: u32, cluster: u16) -> Answer<Option<TaskEnd>> {
        Ok(self.0.state().lives.wait(id, by, cluster)?)
    }
    fn task_ended(&mut self, _: Sender, id: u32, end: TaskEnd) -> Answer<()> {
        task::wake_joiners(&self.0, id, WHOLE_TASK, end);
        Ok(())
    }
    fn task_forget(&mut self, _: Sender, id: u32) -> Answer<()> {
        task::forget(&self.0, id);
        Ok(())
    }
    fn task_quiet(&mut self, _: Sender, id: u32) -> Answer<bool> {
        Ok(life::quiet(&self.0, id))
    }
    fn frame_take(&mut self, _: Sender, _task: u32, _address: u64, frames: u64) -> Answer<u64> {
        let nodes = self.0.start.cpus().iter().filter_map(|cpu| self.0.node_of(cpu.cpu as u16).ok());
        let state = self.0.state();
        Ok(nodes.into_iter().find_map(|node| state.allocate(node, frames)).ok_or(Error::OutOfMemory)?)
    }
    fn maintenance(&mut self, _: Sender) -> Answer<Maintained> {
        Ok(COUNTS.all())
    }
    fn frames_take(&mut self, _: Sender, taker: Taker, pages: Claimed) -> Answer<Frames> {
        let node = (pages.words()[0] & (PAGE_SIZE - 1)) as u16;
        let by = Me { node: taker.seat, incarnation: taker.incarnation };
        let mut frames = [0; MAX_FRAMES];
        match stock::take(&self.0, node, (taker.task, by), pages.words(), &mut frames) {
            0 => Err(Error::OutOfMemory.into()),
            count => Ok(Frames::of(&frames[..count])),
        }
    }
    fn frame_claim(&mut self, _: Sender, taker: Taker, page: u64) -> Answer<u64> {
        let by = Me { node: taker.seat, incarnation: taker.incarnation };
        let mut frame = [0];
        match stock::take(&self.0, (page & (PAGE_SIZE - 1)) as u16, (taker.task, by), &[page], &mut frame) {
            0 => Err(Error::OutOfMemory.into()),
            _ => Ok(frame[0]),
        }
    }
    fn free(&mut self, _: Sender, node: u16) -> Answer<Free> {
        Ok(task::free(&self.0, node))
    }
    fn introduce(&mut self, _: Sender, cluster: u16, office: u64, worker: ThreadId) -> Answer<()> {
        office::know(cluster, office, worker);
        Ok(())
    }
    fn page_history(&mut self, _: Sender, page: u64, from: u64) -> Answer<(u64, Option<Event>)> {
        Ok(history::next(page, from)?)
    }
    fn crash_at(&mut self, _: Sender, step: u16, times: u32) -> Answer<u32> {
        Ok(step::arm(&self.0, step, times)?)
    }
    fn address(&mut self, _: Sender) -> Answer<(u64, ThreadId)> {
        Ok(office::own(&self.0))
    }
    fn orphan(&mut self, _: Sender, id: u32, board: u64) -> Answer<()> {
        Ok(self.0.state().lives.adopt(id, board)?)
    }
    fn table(&mut self, _: Sender, entry: u64, script: Script) -> Answer<Found> {
        Ok(table::serve(&self.0, entry, &script)?)
    }
    fn audit(&mut self, _: Sender, frame: u64) -> Answer<Option<Holder>> {
        Ok(self.0.syscalls().audit(frame)?)
    }
}
