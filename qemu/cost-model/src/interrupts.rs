//! Interrupts between CPUs, and sleeping: where one CPU's clock moves another one's.

use crate::core::Core;
use crate::machine::Machine;
use crate::time::{Time, cycles};

impl Core {
    /// WFI or WFE: nobody waits for this CPU's clock from now on.
    pub fn sleep(&mut self) {
        self.shared.set_idle(true);
    }

    /// The interrupt that another CPU sent arrives not before it was sent.
    pub fn take_interrupt(&mut self) {
        if let Some(time) = self.shared.take_interrupt() {
            self.wait_until(time);
        }
    }

    /// It executes again. Time has passed: up to the interrupt that woke it, or, if it was none of another CPU's, up to `now`.
    pub fn wake(&mut self, now: Time) {
        if self.shared.is_idle() {
            self.shared.set_idle(false);
            let time = self.shared.take_interrupt().unwrap_or(now);
            self.wait_until(time);
        }
    }

    fn wait_until(&mut self, time: Time) {
        self.counters.idle += time.saturating_sub(self.clock());
        self.not_before(time);
    }
}

impl Machine {
    /// A CPU interrupts another one; when that arrives.
    pub fn interrupt(&self, core: &mut Core, target: u16) -> Time {
        let arrival = core.clock() + cycles(self.params.events.interrupt.into());
        if let Some(target) = self.shared.get(usize::from(target)) {
            core.counters.interrupts += 1;
            target.interrupt(arrival);
        }
        arrival
    }

    /// How far the other CPUs are: the slowest of those that execute, or, if none does, the latest of all.
    pub fn now(&self, cpu: u16) -> Time {
        let others =
            || self.shared.iter().enumerate().filter(|(other, _)| *other != usize::from(cpu)).map(|(_, s)| s);
        let awake = others().filter(|other| !other.is_idle()).map(|other| other.clock()).min();
        awake.or_else(|| others().map(|other| other.clock()).max()).unwrap_or(0)
    }

    /// The clock of the slowest other CPU that executes.
    pub fn slowest(&self, cpu: u16) -> Option<Time> {
        let others = self.shared.iter().enumerate().filter(|(other, _)| *other != usize::from(cpu));
        others.filter(|(_, other)| !other.is_idle()).map(|(_, other)| other.clock()).min()
    }
}
