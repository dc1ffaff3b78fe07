//! What the cases work with: spaces that share this program's memory, threads in them, and their pager, the main thread.
#![expect(unsafe_code, reason = "stacks of threads")]

use core::cell::UnsafeCell;
use core::fmt;

use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::id::domain;
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};
use skerry_abi::message::kernel_label;
use skerry_abi::{CpuId, Error, Fpage, MapItem, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_rt::record::{self, Kind};
use skerry_rt::spin::TicketLock;
use skerry_rt::uart::Uart;
use skerry_rt::{Chunk, Message, ipc, start, sys, utcb};

/// A case failed, for the reason in [`why`].
#[derive(Debug)]
pub(crate) struct Failed;

/// Why the case failed.
static WHY: TicketLock<Chunk> = TicketLock::new(Chunk::new());

/// Why the case failed.
pub(crate) fn why() -> Chunk {
    core::mem::take(&mut *WHY.lock())
}

/// How a case goes on.
pub(crate) type Outcome<T = ()> = Result<T, Failed>;

/// Fails with a text.
pub(crate) fn failed<T>(why: fmt::Arguments<'_>) -> Outcome<T> {
    *WHY.lock() = Chunk::format(why);
    Err(Failed)
}

/// Fails unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return crate::guest::world::failed(format_args!($($why)*));
        }
    };
}
pub(crate) use ensure;

/// Names the call that failed.
pub(crate) fn call<T>(what: &str, result: Result<T, Error>) -> Outcome<T> {
    result.or_else(|error| failed(format_args!("{what}: {error}")))
}

/// log2 of a block.
pub(crate) const BLOCK_BITS: u32 = 21;

/// Label of a thread's report to the main thread.
pub(crate) const REPORT: u32 = 0x7e57;
/// Words of a report.
pub(crate) const REPORT_WORDS: usize = 4;

/// Tells the main thread something, and waits until it has taken it. For threads of the cases.
pub(crate) fn report(words: [u64; REPORT_WORDS]) {
    let mut message = Message::new();
    message.tag = Tag::new(REPORT, REPORT_WORDS, 0);
    message.buffer_mut()[..REPORT_WORDS].copy_from_slice(&words);
    let _ = ipc::send(ThreadId::root(0), &mut message, Timeout::NEVER);
}

const STACKS: usize = 16;
const STACK_SIZE: usize = 8192;

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; STACKS]>);

// SAFETY: only addresses of it are taken; stack *i* is used by the one thread that was started with it.
unsafe impl Sync for Stacks {}

static STACK_MEMORY: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; STACKS]));

/// Where a thread of a case begins.
pub(crate) type Entry = extern "C" fn(u64) -> !;

/// The machine, as the cases see it.
pub(crate) struct World {
    pub(crate) boot: &'static BootInfo,
    /// The word behind the case.
    pub(crate) argument: &'static str,
    pub(crate) me: ThreadId,
    pub(crate) cpu: CpuId,
    /// Frames that belong to nobody, mapped at their own addresses.
    pub(crate) frames: Range,
    next_domain: u32,
    next_stack: usize,
    /// Faults answered.
    pub(crate) faults: u64,
    /// Whether `frames` are mapped in blocks.
    pub(crate) blocks: bool,
    /// But for the first page of each block, which is mapped alone: then the others come in pages, too, though with one item.
    pub(crate) first_alone: bool,
}

/// What the main thread heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A report of a thread.
    Report(ThreadId, [u64; REPORT_WORDS]),
    /// A fault or an exception that the pager has no answer for: the sender, label, address and access.
    Other(ThreadId, u32, u64, u64),
}

impl World {
    pub(crate) fn new(boot: &'static BootInfo) -> Outcome<Self> {
        let block = 2 << 20;
        let frames = boot.pools().iter().filter(|pool| pool.cluster == 0).find_map(|pool| {
            let base = pool.range.base.next_multiple_of(block);
            (base + 16 * block <= pool.range.end()).then_some(Range { base, size: 16 * block })
        });
        let Some(frames) = frames else { return failed(format_args!("no 32 MiB of free memory")) };
        Ok(Self {
            boot,
            argument: boot.app_arguments().split_ascii_whitespace().nth(1).unwrap_or(""),
            me: utcb::my_id(),
            cpu: utcb::cpu(),
            frames,
            next_domain: domain::FIRST_TASK,
            next_stack: 0,
            faults: 0,
            blocks: false,
            first_alone: false,
        })
    }

    /// The other CPUs of this cluster.
    pub(crate) fn other_cpus(&self) -> impl Iterator<Item = CpuId> + use<> {
        let (boot, me) = (self.boot, self.cpu);
        let here = self.me.cluster();
        (0..).zip(boot.cpus()).filter(move |&(cpu, c)| c.cluster == here && cpu != me).map(|(cpu, _)| cpu)
    }

    /// A space without privileges, which gets its memory from here.
    pub(crate) fn space(&mut self) -> Outcome<SpaceId> {
        self.next_domain += 1;
        call("creating a space", sys::space_create(self.next_domain, false))
    }

    /// Starts a thread with a stack. Its faults and exceptions come here.
    pub(crate) fn spawn(
        &mut self,
        space: SpaceId,
        slot: u16,
        cpu: CpuId,
        priority: u8,
        entry: Entry,
        argument: u64,
    ) -> Outcome<ThreadId> {
        let thread = sys::thread_create(space, cpu, self.me, self.me, slot, priority);
        let thread = call("creating a thread", thread)?;
        let pc = (entry as *const ()).addr() as u64;
        call("starting a thread", sys::thread_start(thread, pc, self.stack(), argument))?;
        Ok(thread)
    }

    /// The top of a stack for a thread.
    pub(crate) fn stack(&mut self) -> u64 {
        let stack = self.next_stack % STACKS;
        self.next_stack += 1;
        (STACK_MEMORY.0.get().addr() + (stack + 1) * STACK_SIZE) as u64
    }

    /// Answers faults until something else is heard.
    pub(crate) fn hear(&mut self) -> Outcome<Heard> {
        let mut message = Message::new();
        let mut to = ThreadId::NIL;
        loop {
            let from = ipc::reply_wait(to, &mut message);
            let from = call("answering", from.map_err(|failure| failure.error))?.thread;
            let words: [u64; REPORT_WORDS] = core::array::from_fn(|i| message.buffer()[i]);
            match message.tag.label() {
                REPORT => return Ok(Heard::Report(from, words)),
                kernel_label::PAGE_FAULT => match self.item(words[0]) {
                    Some(item) => message.set_item(0, item),
                    None => return Ok(Heard::Other(from, kernel_label::PAGE_FAULT, words[0], words[1])),
                },
                label => return Ok(Heard::Other(from, label, words[1], 0)),
            }
            self.faults += 1;
            to = from;
        }
    }

    /// Answers faults for a while; nobody may report meanwhile.
    pub(crate) fn answer_faults_for(&mut self, ticks: u64) -> Outcome {
        let mut message = Message::new();
        let until = Timeout(sys::counter_time() + ticks);
        while let Ok(from) = ipc::receive(ThreadId::ANY, &mut message, until) {
            let (label, words) = (message.tag.label(), [message.buffer()[0], message.buffer()[1]]);
            match self.item(words[0]) {
                Some(item) if label == kernel_label::PAGE_FAULT => message.set_item(0, item),
                _ => return failed(format_args!("message {label:#x} of {:?}: {words:x?}", from.thread)),
            }
            self.faults += 1;
            call("answering", ipc::reply(from.thread, &mut message))?;
        }
        Ok(())
    }

    /// The thread that faults next, within so many steps of the counter. It waits for an answer.
    pub(crate) fn next_fault(&mut self, ticks: u64) -> Outcome<ThreadId> {
        let mut message = Message::new();
        let until = Timeout(sys::counter_time() + ticks);
        let from = call("waiting for a fault", ipc::receive(ThreadId::ANY, &mut message, until))?;
        let label = message.tag.label();
        ensure!(label == kernel_label::PAGE_FAULT, "message {label:#x} instead of a fault");
        Ok(from.thread)
    }

    /// Answers a fault with the page of `address`.
    pub(crate) fn answer_fault(&mut self, thread: ThreadId, address: u64) -> Outcome {
        let mut message = Message::new();
        if let Some(item) = self.item(address) {
            message.set_item(0, item);
        }
        self.faults += 1;
        call("answering", ipc::reply(thread, &mut message))
    }

    /// Answers faults until `thread` reports.
    pub(crate) fn report_of(&mut self, thread: ThreadId) -> Outcome<[u64; REPORT_WORDS]> {
        match self.hear()? {
            Heard::Report(from, words) if from == thread => Ok(words),
            other => failed(format_args!("expected a report of {thread:?}, heard {other:x?}")),
        }
    }

    /// What a space that touched `address` gets: the same page of this space.
    pub(crate) fn item(&self, address: u64) -> Option<MapItem> {
        let program = Range { base: PROGRAM_BASE, size: UTCB_BASE - PROGRAM_BASE };
        if !program.contains(address) && !self.frames.contains(address) {
            return None;
        }
        let alone = self.first_alone && address & ((1 << BLOCK_BITS) - 1) < 1 << PAGE_BITS;
        let blocks = self.blocks && self.frames.contains(address) && !alone;
        let bits = if blocks { BLOCK_BITS } else { PAGE_BITS };
        let base = address & !((1 << bits) - 1);
        Some(MapItem { fpage: Fpage::new(base, bits, Rights::RWX)?, dest: base })
    }
}

/// All rights to 2^`bits` bytes.
pub(crate) fn fpage(base: u64, bits: u32) -> Outcome<Fpage> {
    let Some(fpage) = Fpage::new(base, bits, Rights::RWX) else {
        return failed(format_args!("no fpage of 2^{bits} bytes at {base:#x}"));
    };
    Ok(fpage)
}

/// Sends a number to the launcher.
pub(crate) fn emit(case: &str, metric: &str, value: u64, unit: &str) {
    use core::fmt::Write;
    let line = record::measurement(("kernel-test", case, metric), value, unit, Kind::Exact, &[]);
    // The port does not fail.
    let _ = writeln!(Uart::new(start::boot_info()), "{line}");
}

/// Tells the launcher that something goes on.
pub(crate) fn progress(what: &str, done: u64, total: u64) {
    use core::fmt::Write;
    // The port does not fail.
    let _ = writeln!(Uart::new(start::boot_info()), "{}", record::progress_line(what, done, total));
}
