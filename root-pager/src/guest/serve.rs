//! The servers of cluster 0's first thread: console, directory, end of the run.

use core::fmt::Write;

use root_pager::directory::Directory;
use root_pager::line::Lines;
use root_pager::recovery::{Recoveries, Send};
use skerry_abi::boot::BootInfo;
use skerry_abi::id::domain;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, ThreadId};
use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, Unanswered, Wire, console, encode_reply, root};
use skerry_rt::ipc::{Handler, reply, serve};
use skerry_rt::spin::TicketLock;
use skerry_rt::sys;
use skerry_rt::uart::Uart;

static CONSOLE_COUNTERS: console::Counters = console::Counters::new();
static ROOT_COUNTERS: root::Counters = root::Counters::new();

/// Large tables: in the image, not on the stack. Only the first thread of cluster 0 ever takes the locks.
static LINES: TicketLock<Lines> = TicketLock::new(Lines::new());
static DIRECTORY: TicketLock<Directory> = TicketLock::new(Directory::new(0));
static RECOVERIES: TicketLock<Recoveries> = TicketLock::new(Recoveries::new(0));

/// Serves for ever.
pub(crate) fn run(boot: &'static BootInfo) -> ! {
    *DIRECTORY.lock() = Directory::new(boot.cpu_count as usize);
    *RECOVERIES.lock() = Recoveries::new(boot.cluster_count as usize);
    serve(&mut Server { uart: Uart::new(boot), boot })
}

/// Prints the verdict line and ends the run.
pub(crate) fn finish(uart: &mut Uart, code: u64, reason: &Chunk) -> ! {
    let _ = write!(uart, "{{\"verdict\":\"{}\",\"reason\":\"", root::verdict(code));
    for &byte in reason.as_bytes() {
        let _ = match byte {
            b'"' | b'\\' => write!(uart, "\\{}", byte as char),
            0..b' ' => write!(uart, "\\u{byte:04x}"),
            byte => {
                uart.write(&[byte]);
                Ok(())
            }
        };
    }
    let _ = writeln!(uart, "\",\"code\":{code}}}");
    sys::exit(code)
}

/// Answers a caller that was parked; who stopped waiting needs no answer.
fn answer<T: Wire>(waiting: ThreadId, value: T) {
    let mut message = Message::new();
    encode_reply(&mut message, Ok(value));
    let _ = reply(waiting, &mut message);
}

struct Server {
    uart: Uart,
    boot: &'static BootInfo,
}

impl Server {
    fn print(uart: &mut Uart, line: &[u8]) {
        uart.write(line);
        uart.write(b"\n");
    }
    /// Sends what the recovery has to send.
    fn go_on() {
        let mut recoveries = RECOVERIES.lock();
        while let Some(send) = recoveries.next_send() {
            match send {
                Send::Do(undertaker, serial, step) => answer(undertaker, (serial, step.word())),
                Send::Restart(mourner) => answer(mourner, ()),
            }
        }
    }
    fn pagers_only(from: Sender) -> Result<(), Error> {
        if from.domain == domain::APP_PAGER { Ok(()) } else { Err(Error::Refused) }
    }
}

impl console::Server for Server {
    fn write(&mut self, from: Sender, last: bool, origin: ThreadId, text: Chunk) -> Answer<()> {
        let forwarded = from.domain == domain::APP_PAGER && !origin.is_nil();
        let writer = if forwarded { origin } else { from.thread };
        LINES.lock().write(writer, last, text.as_bytes(), |line| Self::print(&mut self.uart, line));
        Ok(())
    }
}

impl root::Server for Server {
    fn register(&mut self, from: Sender, cpu: u16, pager: ThreadId, worker: ThreadId) -> Answer<()> {
        Self::pagers_only(from)?;
        let mut directory = DIRECTORY.lock();
        directory.register(cpu, pager, worker)?;
        while directory.is_complete()
            && let Some(waiting) = directory.unpark()
        {
            answer(waiting, ());
        }
        Ok(())
    }
    fn await_pagers(&mut self, from: Sender) -> Answer<()> {
        Self::pagers_only(from)?;
        let mut directory = DIRECTORY.lock();
        if directory.is_complete() {
            return Ok(());
        }
        directory.park(from.thread)?;
        Err(Unanswered::Parked)
    }
    fn lookup(&mut self, from: Sender, cpu: u16) -> Answer<(ThreadId, ThreadId)> {
        Self::pagers_only(from)?;
        Ok(DIRECTORY.lock().lookup(cpu)?)
    }
    fn await_death(&mut self, from: Sender, cluster: u16, done: u64) -> Answer<(u64, u64)> {
        Self::pagers_only(from)?;
        RECOVERIES.lock().waits(cluster, from.thread, done);
        Err(Unanswered::Parked)
    }
    fn died(&mut self, from: Sender, cluster: u16, incarnation: u16) -> Answer<()> {
        if from.domain != domain::ROOT {
            return Err(Error::Refused.into());
        }
        let cpus = self.boot.cpus().iter().zip(0..).filter(|(cpu, _)| cpu.cluster == cluster);
        cpus.for_each(|(_, cpu)| DIRECTORY.lock().forget(cpu));
        // The first task is at home in cluster 0, and the run ends with it; and before everybody was there, nobody can go on.
        let possible = cluster != 0
            && DIRECTORY.lock().was_complete()
            && RECOVERIES.lock().died(cluster, incarnation, from.thread);
        if possible { Err(Unanswered::Parked) } else { Err(Error::NodeDown.into()) }
    }
    fn dead(&mut self, from: Sender, first: u16) -> Answer<u16> {
        Self::pagers_only(from)?;
        Ok(RECOVERIES.lock().dead(first).unwrap_or(u16::MAX))
    }
    fn end(&mut self, from: Sender, code: u64, reason: Chunk) -> Answer<()> {
        if !matches!(from.domain, domain::APP_PAGER | domain::ROOT | domain::SYSCALL_SERVER) {
            return Err(Error::Refused.into());
        }
        LINES.lock().flush(|line| Self::print(&mut self.uart, line));
        finish(&mut self.uart, code, &reason)
    }
}

impl Handler for Server {
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
        if let (kernel_label::NOTIFICATION, &[bits, ..]) = (message.tag.label(), message.words())
            && from.domain == domain::KERNEL
        {
            super::relay::pass_on(bits);
            return false;
        }
        if from.domain == domain::KERNEL || message.tag.label() >> 16 == 0xffff {
            // A worker of this root pager crashed: its pager is this thread.
            let label = message.tag.label();
            let reason = format_args!(
                "root pager thread {:?}: kernel message {label:#x} {:x?}",
                from.thread,
                message.words()
            );
            finish(&mut self.uart, exit::SERVER_FAULT, &Chunk::format(reason))
        }
        let outcome = match (message.tag.label() >> 16) as u16 {
            console::ID => console::dispatch(self, from, message, &CONSOLE_COUNTERS),
            _ => root::dispatch(self, from, message, &ROOT_COUNTERS),
        };
        // Who is answered there waits already.
        Self::go_on();
        outcome == Outcome::Reply
    }
}
