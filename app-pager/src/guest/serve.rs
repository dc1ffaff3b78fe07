//! The two kinds of server threads.

use skerry_abi::id::domain;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights, ThreadId};
use skerry_ipc::pager::{self, Stats, ThreadEnd};
use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, Unanswered, console, level, peer};
use skerry_rt::ipc::{Handler, Kernel, reply, serve};

use super::fault::{Decision, Recent, decide, frame_of};
use super::state::{Context, board_at};
use super::{crash, end_run, task};
use skerry_abi::fpage::PAGE_SIZE;

static PAGER_COUNTERS: pager::Counters = pager::Counters::new();
static PEER_COUNTERS: peer::Counters = peer::Counters::new();

/// A pager thread: faults and requests of the tasks' threads on its CPU. Level 1.
struct Pager {
    context: Context,
    /// Where the last fault was.
    recent: Option<Recent>,
}

/// Serves the tasks on this CPU for ever.
pub(super) fn page(context: Context) -> ! {
    serve(&mut Pager { context, recent: None })
}

/// Serves other pagers for ever.
pub(super) fn work(context: Context) -> ! {
    serve(&mut Worker(context))
}

impl Pager {
    fn page_fault(&mut self, from: Sender, address: u64, access: u64, message: &mut Message) {
        match decide(&self.context, &mut self.recent, from.domain, address, Rights::from_bits(access)) {
            Decision::Map(item) => message.set_item(0, item),
            Decision::Retry => message.set_empty(0),
            Decision::Reject => message.set_empty(kernel_label::REJECT_FAULT),
            Decision::OutOfMemory(node) => end_run(
                exit::OUT_OF_MEMORY,
                format_args!("node {node}: its pool has no free frame for address {address:#x}"),
            ),
        }
    }
}

impl Handler for Pager {
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
        match (message.tag.label(), message.words()) {
            (kernel_label::PAGE_FAULT, &[address, access, ..]) => {
                self.page_fault(from, address, access, message);
                true
            }
            (kernel_label::EXCEPTION, words) => {
                crash::report(&self.context, from, words);
                false
            }
            _ => pager::dispatch(self, from, message, &PAGER_COUNTERS) == Outcome::Reply,
        }
    }
    fn reply_failed(&mut self, to: Sender, error: Error) {
        let cluster = self.context.cluster;
        match error {
            // The thread is gone or does not wait any more.
            Error::NoSuchThread | Error::NotWaiting | Error::Cancelled | Error::NotPermitted => {}
            Error::OutOfKernelMemory => end_run(
                exit::OUT_OF_MEMORY,
                format_args!("cluster {cluster}: the kernel has no memory left for page tables or map nodes"),
            ),
            // The task itself put something else there: that thread has had its last fault.
            Error::AlreadyMapped | Error::WindowTooSmall | Error::BadArgument => {
                let mut message = Message::new();
                message.set_empty(kernel_label::REJECT_FAULT);
                // If it does not wait any more, it is gone.
                let _ = reply(to.thread, &mut message);
            }
            error => {
                end_run(exit::SERVER_FAULT, format_args!("answer to thread {:?} failed: {error}", to.thread))
            }
        }
    }
}

/// What a program may say about its own end; endings like a kernel's panic are not its to announce.
fn app_code(code: u64) -> u64 {
    match code {
        exit::PASS | exit::OUT_OF_MEMORY | exit::BAD_BOOT => code,
        _ => exit::FAIL,
    }
}

impl pager::Server for Pager {
    fn thread_create(
        &mut self,
        from: Sender,
        cpu: u16,
        entry: u64,
        stack: u64,
        argument: u64,
    ) -> Answer<u32> {
        let (context, id) = (&self.context, from.domain);
        let board = context.state().task(id)?.board;
        let cluster = context.boot.cpus().get(usize::from(cpu)).ok_or(Error::BadArgument)?.cluster;
        if cluster == context.cluster {
            return Ok(task::create_thread(context, id, cpu, entry, stack, argument)?);
        }
        let worker = peer::Client::new(Kernel::<level::Pager>::new(), context.worker_of(cluster)?);
        Ok(worker.thread_create(id, board, cpu, entry, stack, argument)?)
    }
    fn thread_exit(&mut self, from: Sender, code: u64) -> Answer<()> {
        task::end_thread(&self.context, from.domain, from.thread, ThreadEnd::Exited(app_code(code)))?;
        Err(Unanswered::Parked)
    }
    fn thread_join(&mut self, from: Sender, number: u32) -> Answer<ThreadEnd> {
        let mut state = self.context.state();
        let board = board_at(state.task(from.domain)?.board)?;
        board.thread_end(number)?;
        let joiner =
            state.joiners.iter_mut().find(|joiner| joiner.caller.is_nil()).ok_or(Error::TableFull)?;
        // First the entry, then the look: whoever ends the thread writes its end first and looks for joiners then.
        *joiner = super::state::Joiner { caller: from.thread, task: from.domain, number };
        match board.thread_end(number)? {
            Some(end) => {
                joiner.caller = ThreadId::NIL;
                Ok(end)
            }
            None => Err(Unanswered::Parked),
        }
    }
    fn region_create(&mut self, from: Sender, base: u64, size: u64, kind: u64) -> Answer<()> {
        let (context, id) = (&self.context, from.domain);
        let board = context.state().task(id)?.board;
        let master = board_at(board)?.master();
        if master == context.cluster {
            return Ok(task::create_region(context, id, base, size, kind)?);
        }
        let worker = peer::Client::new(Kernel::<level::Pager>::new(), context.worker_of(master)?);
        Ok(worker.region_create(id, base, size, kind)?)
    }
    fn stats(&mut self, from: Sender, node: u16) -> Answer<Stats> {
        let mut sum = task::stats(&self.context, from.domain, node)?;
        for peer in task::peers(&self.context, from.domain)? {
            sum.add(peer.stats(from.domain, node)?);
        }
        Ok(sum)
    }
    fn frames_by_node(&mut self, from: Sender, base: u64, pages: u64, node: u16) -> Answer<u64> {
        let bytes = pages.checked_mul(PAGE_SIZE).ok_or(Error::BadArgument)?;
        let end = base.checked_add(bytes).ok_or(Error::BadArgument)?;
        let board = board_at(self.context.state().task(from.domain)?.board)?;
        match board.find(base) {
            Some((_, region)) if end <= region.end() => {}
            _ => return Err(Error::BadArgument.into()),
        }
        let on_node = |frame: u64| {
            self.context
                .boot
                .memory()
                .iter()
                .any(|memory| memory.node == node && memory.range.contains(frame))
        };
        let frames = (base..end).step_by(PAGE_SIZE as usize);
        Ok(frames
            .filter(|&address| frame_of(&self.context, from.domain, address).is_some_and(on_node))
            .count() as u64)
    }
    fn log(&mut self, from: Sender, last: bool, text: Chunk) -> Answer<()> {
        self.context.state().task(from.domain)?;
        let console = console::Client::new(Kernel::<level::Pager>::new(), ThreadId::root(0));
        Ok(console.write(last, from.thread, text)?)
    }
    fn task_end(&mut self, from: Sender, code: u64, reason: Chunk) -> Answer<()> {
        self.context.state().task(from.domain)?;
        let text = core::str::from_utf8(reason.as_bytes()).unwrap_or("");
        task::end_task(&self.context, from.domain, app_code(code), format_args!("{text}"))
    }
}

/// The worker: requests of other pagers. Level 0.
struct Worker(Context);

impl Worker {
    fn pagers_only(from: Sender) -> Result<(), Error> {
        if from.domain == domain::APP_PAGER { Ok(()) } else { Err(Error::Refused) }
    }
}

impl Handler for Worker {
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
        peer::dispatch(self, from, message, &PEER_COUNTERS) == Outcome::Reply
    }
}

impl peer::Server for Worker {
    fn adopt(&mut self, from: Sender, id: u32, board: u64) -> Answer<()> {
        Self::pagers_only(from)?;
        Ok(task::adopt(&self.0, id, board)?)
    }
    fn thread_create(
        &mut self,
        from: Sender,
        id: u32,
        board: u64,
        cpu: u16,
        entry: u64,
        stack: u64,
        argument: u64,
    ) -> Answer<u32> {
        Self::pagers_only(from)?;
        task::adopt(&self.0, id, board)?;
        Ok(task::create_thread(&self.0, id, cpu, entry, stack, argument)?)
    }
    fn region_create(&mut self, from: Sender, id: u32, base: u64, size: u64, kind: u64) -> Answer<()> {
        Self::pagers_only(from)?;
        Ok(task::create_region(&self.0, id, base, size, kind)?)
    }
    fn stats(&mut self, from: Sender, id: u32, node: u16) -> Answer<Stats> {
        Self::pagers_only(from)?;
        Ok(task::stats(&self.0, id, node)?)
    }
    fn thread_ended(&mut self, from: Sender, id: u32, number: u32, end: ThreadEnd) -> Answer<()> {
        Self::pagers_only(from)?;
        task::wake_joiners(&self.0, id, number, end);
        Ok(())
    }
    fn task_end(&mut self, from: Sender, id: u32) -> Answer<()> {
        Self::pagers_only(from)?;
        task::forget(&self.0, id);
        Ok(())
    }
}
