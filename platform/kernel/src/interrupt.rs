//! Device interrupts as notifications to threads.
//!
//! A privileged thread attaches a shared peripheral interrupt to a thread of this cluster; it is routed to that thread's CPU. When
//! it comes it is masked, and the thread gets its notification bits; ACK, after the device has been told, unmasks it. So a driver
//! can be interrupted once per answer at most, whatever the device does. An interrupt that nobody is attached to stays
//! masked, and is counted. Private interrupts (timer, doorbells) are the kernel's own.
//!
//! The interrupt controller is shared by all clusters, which know nothing of each other's attachments. But it tells where an interrupt goes,
//! and one that nobody has goes nowhere: so what another cluster has is refused. (It cannot look and write in one step. Of two clusters that
//! attach the same interrupt at the very same moment the last one may get it, and the other nothing.)

use crate::hal::Hal;
use crate::kernel::Kernel;
use skerry_abi::syscall::interrupt_op;
use skerry_abi::{Counter, CpuId, Error, ThreadId};
use skerry_trace::Event;

/// Interrupts of one thread at most: they are let go in one go when it ends, and follow it when it moves.
pub const MAX_PER_THREAD: usize = 8;
/// What it costs to let go of one, or to send it to another CPU.
const CHANGE: u32 = 12;

/// Interrupts attached in one cluster at most: so long is the list that an interrupt, and the end of a thread, looks through.
pub const MAX_ATTACHED: usize = 64;
/// Interrupt ids of shared peripherals begin here.
pub const FIRST_SHARED: u32 = 32;
/// They end before this.
pub const END_SHARED: u32 = 1020;

#[derive(Clone, Copy, Debug)]
struct Attached {
    irq: u32,
    thread: ThreadId,
    bits: u64,
    /// It has come and was not acknowledged.
    masked: bool,
}

/// Which interrupt goes to which thread.
#[derive(Debug)]
pub(crate) struct Interrupts {
    list: [Attached; MAX_ATTACHED],
    used: usize,
}

impl Interrupts {
    pub(crate) const NONE: Self = Self {
        list: [Attached { irq: 0, thread: ThreadId::NIL, bits: 0, masked: false }; MAX_ATTACHED],
        used: 0,
    };

    fn find(&mut self, irq: u32) -> Option<&mut Attached> {
        self.list[..self.used].iter_mut().find(|attached| attached.irq == irq)
    }
    fn remove(&mut self, index: usize) {
        self.used -= 1;
        self.list[index] = self.list[self.used];
    }
}

impl<H: Hal> Kernel<'_, H> {
    /// The system call INTERRUPT_CONTROL of thread `t`.
    pub(crate) fn interrupt_control(&mut self, t: u32) -> Result<(), Error> {
        let x = &self.threads[t as usize].context.x;
        let (op, irq, thread, bits) = (x[0], x[1], ThreadId(x[2]), x[3]);
        let id = self.threads[t as usize].id;
        let privileged = self.privileged(t);
        let irq = u32::try_from(irq).ok().filter(|irq| (FIRST_SHARED..END_SHARED).contains(irq));
        let own = irq.and_then(|irq| self.interrupts.find(irq)).is_some_and(|attached| attached.thread == id);
        if !(own && op == interrupt_op::ACK) {
            privileged?;
        }
        let irq = irq.ok_or(Error::BadArgument)?;
        match op {
            interrupt_op::ATTACH => self.attach(irq, thread, bits),
            interrupt_op::DETACH => {
                let list = &self.interrupts.list[..self.interrupts.used];
                let index = list.iter().position(|a| a.irq == irq).ok_or(Error::WrongState)?;
                self.interrupts.remove(index);
                self.hal.release_interrupt(irq);
                Ok(())
            }
            interrupt_op::ACK => {
                let attached = self.interrupts.find(irq).filter(|attached| attached.masked);
                attached.ok_or(Error::WrongState)?.masked = false;
                self.hal.mask_interrupt(irq, false);
                Ok(())
            }
            _ => Err(Error::BadArgument),
        }
    }

    fn attach(&mut self, irq: u32, thread: ThreadId, bits: u64) -> Result<(), Error> {
        let t = self.find(thread).ok_or(Error::NoSuchThread)?;
        if bits == 0 {
            return Err(Error::BadArgument);
        }
        if self.interrupts.find(irq).is_some() {
            return Err(Error::WrongState);
        }
        let Interrupts { list, used } = &mut self.interrupts;
        let own = list[..*used].iter().filter(|attached| attached.thread == thread).count();
        let slot = list.get_mut(*used).filter(|_| own < MAX_PER_THREAD).ok_or(Error::TableFull)?;
        self.hal.claim_interrupt(irq, self.threads[t as usize].cpu)?;
        *slot = Attached { irq, thread, bits, masked: false };
        self.interrupts.used += 1;
        self.hal.mask_interrupt(irq, false);
        Ok(())
    }

    /// A device interrupted this CPU.
    pub(crate) fn device_interrupt(&mut self, irq: u32) {
        self.trace(|_| Event::Interrupt { irq });
        let Some(attached) = self.interrupts.find(irq) else {
            // It came while somebody let go of it, and is masked, or another cluster's by now.
            return self.counters.count(Counter::StrayInterrupts);
        };
        attached.masked = true;
        self.hal.mask_interrupt(irq, true);
        let (thread, bits) = (attached.thread, attached.bits);
        match self.find(thread) {
            Some(t) => {
                self.counters.count(Counter::DeviceInterrupts);
                self.notify(t, bits);
            }
            // Its end is under way: `detach_all` comes.
            None => self.counters.count(Counter::StrayInterrupts),
        }
    }

    /// The cluster stops: others can have its devices.
    pub(crate) fn release_all(&mut self) {
        for attached in &self.interrupts.list[..core::mem::take(&mut self.interrupts.used)] {
            self.hal.release_interrupt(attached.irq);
        }
    }

    /// A thread ends, or leaves the cluster.
    pub(crate) fn detach_all(&mut self, thread: ThreadId) {
        let mut index = 0;
        while index < self.interrupts.used {
            let attached = self.interrupts.list[index];
            if attached.thread == thread {
                self.interrupts.remove(index);
                self.hal.release_interrupt(attached.irq);
                self.budget.charge(CHANGE);
            } else {
                index += 1;
            }
        }
    }

    /// A thread has moved to another CPU of the cluster: its interrupts follow.
    pub(crate) fn reroute(&mut self, thread: ThreadId, cpu: CpuId) {
        let Self { interrupts, hal, budget, .. } = self;
        for attached in interrupts.list[..interrupts.used].iter().filter(|a| a.thread == thread) {
            // It was routed before, so it exists.
            _ = hal.route_interrupt(attached.irq, cpu);
            budget.charge(CHANGE);
        }
    }
}
