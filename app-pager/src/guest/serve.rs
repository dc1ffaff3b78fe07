//! The threads that serve tasks, one for each CPU.

use core::ptr;
use core::sync::atomic::AtomicU64;

use app_pager::batch::{Request, Wish};
use app_pager::protocols::local::Local;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::id::domain;
use skerry_abi::item::{Cacheability, Guard};
use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS, kernel_label};
use skerry_abi::{Error, Fpage, Item, Rights, Tag, ThreadId, Timeout};
use skerry_ipc::pager::{
    self, Birth, Changed, ChangedPages, Event, Free, Listed, MAY_START, Maintained, Pages, Revoked,
    RevokedPages, Stats, TaskEnd, ThreadEnd,
};
use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, Unanswered, console, level};
use skerry_rt::ipc::{Kernel, reply};
use skerry_rt::{println, sys, utcb};

use app_pager::home::cluster_of;

use super::fault::{Decision, Faults};
use super::jobs::Jobs;
use super::life::{self, Found};
use super::maintain::COUNTS;
use super::moves::{self, Begin, Known};
use super::parked::{Parked, Waiting};
use super::place::frame_of;
use super::state::{Context, LOOK, WAKE, WHOLE_TASK, board_at};
use super::{balance, changes, crash, grace, history, launch, step, task};

static PAGER_COUNTERS: pager::Counters = pager::Counters::new();

/// A pager thread: faults and requests of the tasks' threads on its CPU. Level 1.
pub(super) struct Pager<const W: usize> {
    pub(super) context: Context,
    faults: Faults<W>,
    pub(super) parked: Parked,
    pub(super) jobs: Jobs<W>,
    /// Who got the last answer with pages that it had not asked for.
    in_company: ThreadId,
    /// What the last look for work that was left over found.
    found: Found,
}

/// How long it waits for work that cannot be done yet: 50 microseconds.
const LATER_TICKS: u64 = 3125;

/// How long it waits if there is work.
#[cold]
fn haste(found: Found) -> Timeout {
    match found {
        Found::Later => Timeout(sys::counter_time() + LATER_TICKS),
        _ => Timeout::ZERO,
    }
}

/// Serves the tasks on this CPU for ever.
///
/// Page faults are taken and answered in registers; what else comes goes through a buffer.
pub(super) fn page<const W: usize>(context: Context) -> ! {
    let jobs = match Jobs::<W>::new(context) {
        Ok(jobs) => jobs,
        Err(error) => super::end_run(
            skerry_abi::syscall::exit::SERVER_FAULT,
            format_args!("app pager of CPU {}: {error}", context.cpu),
        ),
    };
    let mut pager = Pager {
        context,
        faults: Faults::new(context),
        parked: Parked::new(),
        jobs,
        in_company: ThreadId::NIL,
        found: Found::Nothing,
    };
    let mut message = Message::new();
    let (mut to, mut tag, mut registers) = (ThreadId::NIL, Tag(0), [0; REGISTER_WORDS]);
    loop {
        let times = (Timeout::REPLY, pager.patience());
        let (from, domain, received) = sys::ipc(to, ThreadId::ANY, tag, &mut registers, times, Fpage::NIL);
        let from = Sender { thread: from, domain };
        if received == FAULT {
            let [address, access, ..] = core::mem::take(&mut registers);
            (to, tag) = pager.fault(from, address, Rights::from_bits(access), &mut registers);
        } else if is_unmap(received)
            && registers[1] == 1
            && let Ok(told) = pager.jobs.unmap_page(from.thread, from.domain, registers[0])
        {
            (to, tag) = match told {
                Some(_) => (from.thread, REVOKED),
                None => NO_ANSWER,
            };
            registers = told.map_or([0; REGISTER_WORDS], registers_of);
        } else if received == NOTES
            && from.domain == domain::KERNEL
            && let Some((client, told)) = pager.jobs.answered(registers[0])
        {
            (to, tag, registers) = (client, REVOKED, registers_of(told));
        } else {
            // A copy, so that the compiler keeps those of faults out of memory.
            let mut words = registers;
            (to, tag) = pager.other(from, (to, received), &mut words, &mut message);
            registers = words;
        }
    }
}

/// The tag of a page fault.
const FAULT: Tag = Tag::new(kernel_label::PAGE_FAULT, 3, 0);
/// The tag of a request to unmap a range, and of its answer.
const UNMAP: Tag = Tag::new(pager::Op::Unmap.label(), 2, 0);
const REVOKED: Tag = Tag::new(0, 5, 0);
/// The tag of notification bits.
const NOTES: Tag = Tag::new(kernel_label::NOTIFICATION, 1, 0);

/// Whether it is [`UNMAP`]. (In halves, or the compiler would ask that before it asks whether it is a fault.)
#[inline(always)]
const fn is_unmap(tag: Tag) -> bool {
    tag.label() == UNMAP.label() && tag.0 as u32 == UNMAP.0 as u32
}
/// Answers to a page fault.
const ONE_ITEM: Tag = Tag::new(0, 0, 4);
const AGAIN: Tag = Tag::new(0, 0, 0);
const REJECT: Tag = Tag::new(kernel_label::REJECT_FAULT, 0, 0);
/// To whom, and which tag: nobody.
const NO_ANSWER: (ThreadId, Tag) = (ThreadId::NIL, Tag(0));

const fn registers_of(told: Revoked) -> [u64; REGISTER_WORDS] {
    let [a, b, c, d, e] = told.to_array();
    [a, b, c, d, e, 0, 0, 0]
}

/// The item of an answer with one page.
#[inline(always)]
fn item_for(address: u64, guard: &'static AtomicU64, word: Local) -> Item {
    Item {
        fpage: Fpage::page(word.frame(), word.rights()),
        dest: address & !(PAGE_SIZE - 1),
        grant: false,
        cacheability: Cacheability::Inherit,
        // The pager has physical memory at its own address.
        guard: Some(Guard { address: ptr::from_ref(guard).addr() as u64, expected: word.0 }),
        joined: false,
    }
}

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
                let [fpage, dest, address, expected] = item_for(address, guard, word).words().0;
                (registers[0], registers[1], registers[2], registers[3]) = (fpage, dest, address, expected);
                (from.thread, ONE_ITEM)
            }
            unusual => {
                // A copy, as in the loop.
                let mut words = *registers;
                let answer = self.unusual(unusual, from, (address, access), &mut words);
                *registers = words;
                answer
            }
        }
    }
    #[cold]
    #[inline(never)]
    fn unusual(
        &mut self,
        decision: Decision,
        from: Sender,
        (address, access): (u64, Rights),
        registers: &mut [u64; REGISTER_WORDS],
    ) -> (ThreadId, Tag) {
        match decision {
            Decision::Several(words) => {
                *registers = self.faults.company.words;
                self.in_company = from.thread;
                (from.thread, Tag::new(0, 0, words))
            }
            Decision::Park => {
                let fault = Waiting { from, address, access };
                // Without room it tries again at once.
                if self.parked.add(fault) { NO_ANSWER } else { (from.thread, AGAIN) }
            }
            Decision::Map(guard, word) => {
                registers[..4].copy_from_slice(&item_for(address, guard, word).words().0);
                (from.thread, ONE_ITEM)
            }
            Decision::Kept => {
                let kept = core::mem::replace(&mut self.faults.company.decision, Decision::Reject);
                if self.context.options.history {
                    let cost = self.faults.company.cost;
                    history::fault(&self.context, (from.domain, address), (&kept, cost), from.thread);
                }
                self.unusual(kept, from, (address, access), registers)
            }
            Decision::Collapse => match self.collapse(Waiting { from, address, access }) {
                true => NO_ANSWER,
                false => (from.thread, AGAIN),
            },
            Decision::Reject => (from.thread, REJECT),
            Decision::NoMemory(error) => {
                self.no_memory(from.domain, address, error);
                NO_ANSWER
            }
        }
    }

    /// Nothing can be mapped for a task, which therefore ends.
    fn no_memory(&self, id: u32, address: u64, error: Error) {
        let node = self.context.node;
        match error {
            Error::OverQuota => {
                let reason = format_args!("no quota left for address {address:#x}");
                life::fail(&self.context, id, TaskEnd::OverQuota, reason);
            }
            error => {
                let reason = format_args!("node {node}: no free frame for address {address:#x}: {error}");
                life::fail(&self.context, id, TaskEnd::OutOfMemory, reason);
            }
        }
    }

    /// How long to wait for the next message. Its clients run on this CPU and are less urgent: as long as it does not wait, no more messages
    /// come, so work is always come to.
    #[inline(always)]
    fn patience(&self) -> Timeout {
        match self.found {
            Found::Nothing => Timeout::NEVER,
            found => haste(found),
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
            match (error, tag.receive_failed()) {
                (error, false) if !to.is_nil() => self.reply_failed(to, error),
                (Error::Timeout, true) => self.found = life::work(&self.context),
                _ => {}
            }
            return NO_ANSWER;
        }
        message.tag = tag;
        let count = tag.words().min(MAX_WORDS);
        message.buffer_mut()[..REGISTER_WORDS].copy_from_slice(registers);
        utcb::load(&mut message.buffer_mut()[..count]);
        let answered = match (tag.label(), message.words()) {
            (kernel_label::NOTIFICATION, &[bits, ..]) if from.domain == domain::KERNEL => {
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
        grace::announce(self.context.rank);
        if bits & LOOK != 0 {
            self.found = Found::Work;
        }
        if bits & WAKE != 0 {
            self.try_again();
        }
        if changes::go_on(&mut self.jobs, bits & WAKE != 0) {
            self.try_again();
        }
    }

    /// Answers the faults that were parked, as far as that can be.
    fn try_again(&mut self) {
        for Waiting { from, address, access } in self.parked.take() {
            self.answer_again(from, address, access);
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
        let in_company = core::mem::take(&mut self.in_company) == to;
        match error {
            // Perhaps one of the other pages was in the way: the one it asked for is known now, and is answered alone.
            Error::OutOfKernelMemory | Error::AlreadyMapped | Error::WindowTooSmall | Error::BadArgument
                if in_company =>
            {
                let mut message = Message::new();
                message.set_empty(0);
                // If it does not wait any more, it is gone.
                let _ = reply(to, &mut message);
            }
            // The thread is gone, does not wait any more, or was moved.
            Error::NoSuchThread
            | Error::NotWaiting
            | Error::Cancelled
            | Error::NotPermitted
            | Error::ItemAcrossClusters => {}
            Error::OutOfKernelMemory => {
                let reason = format_args!(
                    "cluster {cluster}: the kernel has no memory left for page tables or map nodes"
                );
                if let Some(id) = task::of_thread(&self.context, to) {
                    life::fail(&self.context, id, TaskEnd::OutOfMemory, reason);
                }
            }
            // The task itself put something else there: that thread has had its last fault.
            Error::AlreadyMapped | Error::WindowTooSmall | Error::BadArgument => {
                let mut message = Message::new();
                message.set_empty(kernel_label::REJECT_FAULT);
                // If it does not wait any more, it is gone.
                let _ = reply(to, &mut message);
            }
            error => println!("app pager of cluster {cluster}: answer to thread {to:?} failed: {error}"),
        }
    }
}

impl<const W: usize> Pager<W> {
    /// The task that asks.
    fn task(&self, from: Sender) -> Result<Known, Error> {
        task::known(&self.context, from.domain)
    }
    /// Ends a thread of the asking task.
    fn end_thread(&self, from: Sender, number: u32, end: ThreadEnd) -> Result<(), Error> {
        moves::end(&self.context, self.task(from)?, number, end)
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
        Ok(moves::create(&self.context, self.task(from)?, cpu, Begin { entry, stack, argument })?)
    }
    fn thread_exit(&mut self, from: Sender, code: u64) -> Answer<()> {
        let number = self.task(from)?.view.roll().number_of(from.thread)?;
        self.end_thread(from, number, ThreadEnd::Exited(code))?;
        Err(Unanswered::Parked)
    }
    fn thread_join(&mut self, from: Sender, number: u32) -> Answer<ThreadEnd> {
        let roll = self.task(from)?.view.roll();
        roll.thread_end(number)?;
        task::park(&self.context, from.thread, from.domain, number)?;
        // First the entry, then the look: whoever ends the thread writes its end first and looks for joiners then.
        match roll.thread_end(number)? {
            Some(end) => {
                task::unpark(&self.context, from.thread);
                Ok(end)
            }
            None => Err(Unanswered::Parked),
        }
    }
    fn thread_delete(&mut self, from: Sender, number: u32) -> Answer<()> {
        Ok(self.end_thread(from, number, ThreadEnd::Killed)?)
    }
    fn thread_migrate(&mut self, from: Sender, number: u32, cpu: u16) -> Answer<()> {
        Ok(moves::migrate(&self.context, self.task(from)?, number, cpu)?)
    }
    fn thread_self(&mut self, from: Sender) -> Answer<u32> {
        Ok(self.task(from)?.view.roll().number_of(from.thread)?)
    }
    fn task_start(&mut self, from: Sender, birth: Birth, quota: u64, command: Chunk) -> Answer<u32> {
        let context = &self.context;
        if self.task(from)?.view.roll().flags() & u64::from(MAY_START) == 0 {
            return Err(Error::Refused.into());
        }
        let cpu = launch::choose_cpu(context, birth)?;
        let birth = Birth { parent: from.domain, cpu, flags: birth.flags & MAY_START };
        let cluster = context.cluster_of(cpu)?;
        Ok(match cluster == context.cluster {
            true => launch::command(context, birth, quota, &command)?,
            false => context.peer(cluster)?.task_start(birth, quota, command)?,
        })
    }
    fn task_wait(&mut self, from: Sender, id: u32) -> Answer<TaskEnd> {
        let context = &self.context;
        self.task(from)?;
        // First the entry: the end may be told before the home's answer is here.
        task::park(context, from.thread, id, WHOLE_TASK)?;
        let home = cluster_of(id, context.boot.cluster_count);
        let end = match home == context.cluster {
            true => context.state().lives.wait(id, from.domain, context.cluster),
            false => context.peer(home)?.task_await(id, from.domain, context.cluster),
        };
        match end {
            Ok(None) => Err(Unanswered::Parked),
            Ok(Some(end)) => {
                task::unpark(context, from.thread);
                Ok(end)
            }
            Err(error) => {
                task::unpark(context, from.thread);
                Err(error.into())
            }
        }
    }
    fn task_kill(&mut self, from: Sender, id: u32) -> Answer<()> {
        self.task(from)?;
        Ok(life::kill(&self.context, id, from.domain, TaskEnd::Killed, format_args!(""))?)
    }
    fn free(&mut self, from: Sender, node: u16) -> Answer<Free> {
        self.task(from)?;
        let cpu = self.context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
        Ok(match cpu.cluster == self.context.cluster {
            true => task::free(&self.context, node),
            false => self.context.peer(cpu.cluster)?.free(node)?,
        })
    }
    fn region_create(&mut self, from: Sender, base: u64, size: u64, kind: u64) -> Answer<()> {
        let (context, id) = (&self.context, from.domain);
        let master = self.task(from)?.view.roll().master();
        if master == context.cluster {
            return Ok(task::create_region(context, id, base, size, kind)?);
        }
        Ok(context.peer(master)?.region_create(id, base, size, kind)?)
    }
    fn stats(&mut self, from: Sender, node: u16) -> Answer<Stats> {
        let board = self.task(from)?.view;
        // These first: what a space counted that ends just now is then missed, not counted twice.
        let mut sum = board.kept_stats(node);
        sum.add(task::stats(&self.context, from.domain, node)?);
        for peer in task::acquainted(&self.context, &board) {
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
        let id = self.task(from)?.id;
        let text = core::str::from_utf8(reason.as_bytes()).unwrap_or("");
        life::kill(&self.context, id, id, TaskEnd::Exited(code), format_args!("{text}"))?;
        Err(Unanswered::Parked)
    }
    fn unmap(&mut self, from: Sender, base: u64, pages: u64) -> Answer<Revoked> {
        self.revoke_range(from, Request::range(Wish::Unmap, base, pages))
    }
    fn protect(&mut self, from: Sender, base: u64, pages: u64, rights: u64) -> Answer<Revoked> {
        if rights & !Rights::RWX.bits() != 0 {
            return Err(Error::BadArgument.into());
        }
        self.revoke_range(from, Request::range(Wish::Protect(Rights::from_bits(rights)), base, pages))
    }
    fn revoke(&mut self, from: Sender, pages: Pages) -> Answer<RevokedPages> {
        self.revoke_list(from, pages)
    }
    fn move_pages(&mut self, from: Sender, base: u64, pages: u64, node: u16) -> Answer<Changed> {
        let node = self.target(node)?;
        self.change_range(from, Request::range(Wish::Move(node), base, pages))
    }
    fn move_list(&mut self, from: Sender, pages: Pages) -> Answer<ChangedPages> {
        self.change_list(from, pages)
    }
    fn replicate(&mut self, from: Sender, base: u64, pages: u64) -> Answer<Changed> {
        self.change_range(from, Request::range(Wish::Replicate, base, pages))
    }
    fn make_local(&mut self, from: Sender, base: u64, pages: u64) -> Answer<Changed> {
        self.change_range(from, Request::range(Wish::Part, base, pages))
    }
    fn make_global(&mut self, from: Sender, base: u64, pages: u64) -> Answer<Changed> {
        self.change_range(from, Request::range(Wish::Join, base, pages))
    }
    fn thread_list(&mut self, from: Sender, node: u16, cursor: u64) -> Answer<(u64, Option<Listed>)> {
        balance::permit(&self.task(from)?.view.roll())?;
        Ok(balance::list(&self.context, node, cursor)?)
    }
    fn thread_push(&mut self, from: Sender, id: u32, number: u32, cpu: u16) -> Answer<()> {
        balance::permit(&self.task(from)?.view.roll())?;
        Ok(balance::push(&self.context, id, number, cpu)?)
    }
    fn crash_at(&mut self, from: Sender, node: u16, step: u16, times: u32) -> Answer<u32> {
        self.task(from)?;
        if self.context.options.crash.is_none() {
            return Err(Error::Refused.into());
        }
        let cpu = self.context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
        Ok(match cpu.cluster == self.context.cluster {
            true => step::arm(&self.context, step, times)?,
            false => self.context.peer(cpu.cluster)?.crash_at(step, times)?,
        })
    }
    fn page_history(
        &mut self,
        from: Sender,
        task: u32,
        address: u64,
        node: u16,
        number: u64,
    ) -> Answer<(u64, Option<Event>)> {
        self.task(from)?;
        Ok(history::ask(&self.context, from.domain, (task, address), node, number)?)
    }
    fn maintenance(&mut self, from: Sender, node: u16) -> Answer<Maintained> {
        self.task(from)?;
        let cpu = self.context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
        Ok(match cpu.cluster == self.context.cluster {
            true => COUNTS.all(),
            false => self.context.peer(cpu.cluster)?.maintenance()?,
        })
    }
}
