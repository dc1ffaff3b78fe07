//! Instructions with an event: what each does to the model, or tells the checker.

use std::sync::atomic::Ordering;

use skerry_abi::marker::{LOCK, MEASURED, QUERY, THREAD, UNLOCK};
use skerry_cost_model::tlb::Invalidation;

use super::{Inner, Instrument};
use crate::decode::{Event, Marker, Scope};
use crate::host::Host;
use crate::modelled;
use crate::vcpu::{Pending, Vcpu};

impl Instrument {
    /// An instruction with an event is about to be executed. `pc`: where it is, if somebody wants to know.
    pub fn event(&self, cpu: &mut Vcpu, host: &mut impl Host, event: Event, pc: u64) {
        if cpu.pending.is_some() {
            self.resolve(cpu, host);
        }
        match event {
            Event::Sleep if self.is_on() => {
                cpu.core.sleep();
                cpu.asleep = true;
            }
            Event::Acknowledge if self.is_on() => {
                cpu.core.take_interrupt();
                if let Some(coherence) = &mut self.lock().coherence {
                    coherence.take(cpu.core.cpu());
                }
            }
            Event::DropFetched => {
                if let Some(coherence) = &mut self.lock().coherence {
                    coherence.drop_fetched(cpu.core.cpu());
                }
            }
            Event::Marker(Marker::Request(request)) if (THREAD..=UNLOCK).contains(&request) => {
                match event.operand() {
                    Some(register) => cpu.pending = Some(Pending { event, register, pc }),
                    None => self.told(cpu, request, 0),
                }
            }
            Event::Marker(marker) => {
                if !self.on.swap(true, Ordering::Relaxed) {
                    host.start();
                    self.turn(cpu);
                    self.wake(cpu);
                }
                self.marker(cpu, host, marker);
            }
            _ => cpu.pending = event.operand().map(|register| Pending { event, register, pc }),
        }
    }

    fn marker(&self, cpu: &mut Vcpu, host: &mut impl Host, marker: Marker) {
        match marker {
            Marker::Begin(_) | Marker::End(_) => {
                self.log.push(marker, cpu.core.clock());
                cpu.phases.catch_up(&self.log, cpu.sample());
                if let (Marker::End(MEASURED), Some(watch)) = (marker, &mut self.lock().watch) {
                    watch.measured(cpu);
                }
            }
            Marker::Request(request) => {
                if request != QUERY || !modelled::tell(cpu, host) {
                    self.lock().health.unknown_requests += 1;
                }
            }
        }
    }

    /// A thread says what it does, for a recording.
    #[cold]
    fn told(&self, cpu: &mut Vcpu, request: u16, number: u64) {
        let on = self.is_on();
        if let Some(watch) = &mut self.lock().watch {
            watch.told(cpu, request, number, on);
        }
    }

    /// The instruction before has been executed, and its operand can be read.
    #[cold]
    pub fn resolve(&self, cpu: &mut Vcpu, host: &mut impl Host) {
        let Some(Pending { event, register, pc }) = cpu.pending.take() else { return };
        let number = cpu.core.cpu();
        let operand = if register == 31 { 0 } else { host.register(number, register) };
        if let Event::Table { half, .. } = event {
            cpu.tables[usize::from(half)] = Some(operand);
            cpu.core.switch_space();
        }
        match event {
            Event::Thread { .. } => cpu.meter.utcb = operand,
            Event::Marker(Marker::Request(request @ (LOCK | UNLOCK))) => self.told(cpu, request, operand),
            _ => {}
        }
        if !self.is_on() {
            return;
        }
        let mut inner = self.lock();
        let Inner { machine, health, coherence, watch, .. } = &mut *inner;
        if let Some(coherence) = coherence {
            match event {
                Event::Table { half, .. } => coherence.tables(number, half.into(), operand),
                Event::Control { .. } => coherence.control(number, operand),
                Event::Attributes { .. } => coherence.attributes(number, operand),
                Event::Invalidate { broadcast, .. } => coherence.forget(number, broadcast),
                Event::Maintain { what, .. } => {
                    let found = coherence.maintain(number, host, pc, operand, what);
                    health.faulted_maintenance += u64::from(!found);
                }
                Event::Interrupt { .. } => {
                    for target in targets(operand, number, self.config.topology.cpus.len()) {
                        coherence.send(number, target);
                    }
                }
                Event::Thread { .. } => {}
                Event::DropFetched | Event::Acknowledge | Event::Sleep | Event::Marker(_) => {}
            }
            if !matches!(event, Event::Interrupt { .. }) {
                return;
            }
        }
        let before = cpu.core.counters;
        match event {
            Event::Invalidate { scope, broadcast, .. } => {
                let asid = (operand >> 48) as u16;
                // Bits 43 to 0 are bits 55 to 12 of the address.
                let address = operand << 12 & ((1 << 56) - 1);
                let what = match scope {
                    Scope::All => Invalidation::All,
                    Scope::Asid => Invalidation::Asid(asid),
                    Scope::Page => Invalidation::Page { asid: Some(asid), address },
                    Scope::PageAllAsids => Invalidation::Page { asid: None, address },
                };
                machine.invalidate_tlb(&mut cpu.core, what, broadcast);
            }
            Event::Maintain { what, .. } => {
                // What is not mapped has faulted; the kernel will come back to the instruction.
                // What is in the TLB was mapped; QEMU is asked without it only. Its answer is about the exception level that the CPU is at by
                // now, so it finds no program's page if an interrupt came right after the instruction.
                if cpu.physical(operand).is_none() && host.translate(number, operand).is_none() {
                    health.faulted_maintenance += 1;
                } else if let Some(physical) = cpu.translate(machine, host, health, operand)
                    && machine.maintain(&mut cpu.core, physical, what.charged()).is_none()
                {
                    health.devices += 1;
                }
            }
            Event::Interrupt { .. } => {
                for target in targets(operand, number, self.config.topology.cpus.len()) {
                    let arrival = machine.interrupt(&mut cpu.core, target);
                    cpu.slowest = Some(cpu.slowest.map_or(arrival, |slowest| slowest.min(arrival)));
                }
                self.set_limit(cpu);
            }
            Event::Table { .. }
            | Event::Thread { .. }
            | Event::Control { .. }
            | Event::Attributes { .. }
            | Event::DropFetched
            | Event::Acknowledge
            | Event::Sleep
            | Event::Marker(_) => {}
        }
        if let Some(watch) = watch {
            watch.other(cpu, machine, &before);
        }
    }
}

/// The CPUs that an ICC_SGI1R_EL1 value names. QEMU's `virt` machine has 16 CPUs per affinity group.
pub(super) fn targets(value: u64, own: u16, cpus: usize) -> Vec<u16> {
    let all = 0..cpus as u16;
    if value >> 40 & 1 != 0 {
        return all.filter(|&cpu| cpu != own).collect();
    }
    let group = (value >> 16 & 0xff) + (value >> 44 & 0xf) * 0x100;
    all.filter(|&cpu| u64::from(cpu) / 16 == group && value >> (cpu % 16) & 1 != 0).collect()
}
