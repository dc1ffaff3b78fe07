//! The two kinds of server threads.

use core::ptr;

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain;
use skerry_abi::item::{Cacheability, Guard};
use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS, kernel_label};
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Fpage, Item, Rights, Tag, ThreadId, Timeout};
use skerry_ipc::pager::{self, Stats, ThreadEnd};
use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, Unanswered, console, level, peer};
use skerry_rt::ipc::{Handler, Kernel, reply, serve};
use skerry_rt::{sys, utcb};

use super::fault::{Decision, Faults};
use super::parked::{Parked, Waiting};
use super::place::frame_of;
use super::state::{Context, WAKE, board_at};
use super::{crash, end_run, task};

static PAGER_COUNTERS: pager::Counters = pager::Counters::new();
static PEER_COUNTERS: peer::Counters = peer::Counters::new();

/// A pager thread: faults and requests of the tasks' threads on its CPU. Level 1.
struct Pager<const W: usize> {
    context: Context,
    faults: Faults<W>,
    parked: Parked,
}

/// Serves the tasks on this CPU for ever.
///
/// Page faults are taken and answered in registers; what else comes goes through a buffer.
pub(super) fn page<const W: usize>(context: Context) -> ! {
    let mut pager = Pager { context, faults: Faults::<W>::new(context), parked: Parked::new() };
    let mut message = Message::new();
    let (mut to, mut tag, mut registers) = (ThreadId::NIL, Tag(0), [0; REGISTER_WORDS]);
    let times = (Timeout::REPLY, Timeout::NEVER);
    loop {
        let (from, domain, received) = sys::ipc(to, ThreadId::ANY, tag, &mut registers, times, Fpage::NIL);
        let from = Sender { thread: from, domain };
        if received == FAULT {
            let [address, access, ..] = core::mem::take(&mut registers);
            (to, tag) = pager.fault(from, address, Rights::from_bits(access), &mut registers);
        } else {
            // A copy, so that the compiler keeps those of faults out of memory.
            let mut words = registers;
            (to, tag) = pager.other(from, (to, received), &mut words, &mut message);
            registers = words;
        }
    }
}

/// Serves other pagers for ever.
pub(super) fn work(context: Context) -> ! {
    serve(&mut Worker(context))
}

/// The tag of a page fault.
const FAULT: Tag = Tag::new(kernel_label::PAGE_FAULT, 3, 0);
/// Answers to one.
const ONE_ITEM: Tag = Tag::new(0, 0, 4);
const AGAIN: Tag = Tag::new(0, 0, 0);
const REJECT: Tag = Tag::new(kernel_label::REJECT_FAULT, 0, 0);
/// To whom, and which tag: nobody.
const NO_ANSWER: (ThreadId, Tag) = (ThreadId::NIL, Tag(0));

impl<const W: usize> Pager<W> {
    /// A fault, and the answer to it.
    #[inline(always)]
    fn fault(
        &mut self,
        from: Sender,
        address: u64,
        access: Rights,
        registers: &mut [u64; REGISTER_WORDS],
    ) -> (ThreadId, Tag) {
        match self.faults.decide(from.domain, address, access) {
            Decision::Map(guard, word) => {
                let item = Item {
                    fpage: Fpage::page(word.frame(), word.rights()),
                    dest: address & !(PAGE_SIZE - 1),
                    grant: false,
                    cacheability: Cacheability::Inherit,
                    // The pager has physical memory at its own address.
                    guard: Some(Guard { address: ptr::from_ref(guard).addr() as u64, expected: word.0 }),
                };
                let [fpage, dest, address, expected] = item.words().0;
                (registers[0], registers[1], registers[2], registers[3]) = (fpage, dest, address, expected);
                (from.thread, ONE_ITEM)
            }
            unusual => self.unusual(unusual, from, address, access),
        }
    }
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, decision: Decision, from: Sender, address: u64, access: Rights) -> (ThreadId, Tag) {
        match decision {
            Decision::Park => {
                let fault = Waiting { from, address, access };
                // Without room it tries again at once.
                if self.parked.add(fault) { NO_ANSWER } else { (from.thread, AGAIN) }
            }
            Decision::Collapse | Decision::Map(..) => (from.thread, AGAIN),
            Decision::Reject => (from.thread, REJECT),
            Decision::OutOfMemory(node) => end_run(
                exit::OUT_OF_MEMORY,
                format_args!("node {node}: its pool has no free frame for address {address:#x}"),
            ),
        }
    }

    /// Everything else: a request, an exception, a notification, or that the last answer did not get through.
    #[inline(never)]
    fn other(
        &mut self,
        from: Sender,
        (to, tag): (ThreadId, Tag),
        registers: &mut [u64; REGISTER_WORDS],
        message: &mut Message,
    ) -> (ThreadId, Tag) {
        if let Some(error) = tag.error() {
            if !to.is_nil() && !tag.receive_failed() {
                self.reply_failed(to, error);
            }
            return NO_ANSWER;
        }
        message.tag = tag;
        let count = tag.words().min(MAX_WORDS);
        message.buffer_mut()[..REGISTER_WORDS].copy_from_slice(registers);
        utcb::load(&mut message.buffer_mut()[..count]);
        let answered = match (tag.label(), message.words()) {
            (kernel_label::NOTIFICATION, &[bits, ..]) => {
                self.notified(bits);
                false
            }
            (kernel_label::EXCEPTION, words) => {
                crash::report(&self.context, from, words);
                false
            }
            _ => pager::dispatch(self, from, message, &PAGER_COUNTERS) == Outcome::Reply,
        };
        if !answered {
            return NO_ANSWER;
        }
        let count = message.tag.words().min(MAX_WORDS);
        registers.copy_from_slice(&message.buffer()[..REGISTER_WORDS]);
        utcb::store(&message.buffer()[..count]);
        (from.thread, message.tag)
    }

    fn notified(&mut self, bits: u64) {
        if bits & WAKE != 0 {
            for Waiting { from, address, access } in self.parked.take() {
                self.answer_again(from, address, access);
            }
        }
    }

    /// A fault that was parked, once more from the beginning.
    fn answer_again(&mut self, from: Sender, address: u64, access: Rights) {
        let mut registers = [0; REGISTER_WORDS];
        let (to, tag) = self.fault(from, address, access, &mut registers);
        if to.is_nil() {
            return;
        }
        let times = (Timeout::REPLY, Timeout::ZERO);
        let (_, _, told) = sys::ipc(to, ThreadId::NIL, tag, &mut registers, times, Fpage::NIL);
        if let Some(error) = told.error() {
            self.reply_failed(to, error);
        }
    }

    fn reply_failed(&mut self, to: ThreadId, error: Error) {
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
                let _ = reply(to, &mut message);
            }
            error => end_run(exit::SERVER_FAULT, format_args!("answer to thread {to:?} failed: {error}")),
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

impl<const W: usize> pager::Server for Pager<W> {
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
