//! One CPU of the guest, as the instrument sees it.

use skerry_cost_model::walk::Walk;
use skerry_cost_model::{Access, Core, LINE, Machine};

use crate::block::{Block, Use};
use crate::decode::Event;
use crate::host::Host;
use crate::instrument::Health;
use crate::masked::Masked;
use crate::phases::{Phases, Sample};
use crate::watch::Meter;

/// An instruction whose operand can be read at the next callback only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What it does.
    pub event: Event,
    /// The register.
    pub register: u8,
    /// Where it is; known to the checker of coherence only.
    pub pc: u64,
}

/// The state of one CPU.
#[derive(Debug)]
pub struct Vcpu {
    /// Its part of the cost model.
    pub core: Core,
    /// What it did in each phase.
    pub phases: Phases,
    /// The instruction before, if its operand has to be looked at.
    pub pending: Option<Pending>,
    /// TTBR0 and TTBR1, once they were seen.
    pub tables: [Option<u64>; 2],
    /// The block that it executes.
    pub block: &'static Block,
    /// It has executed WFI or WFE, or nothing yet.
    pub asleep: bool,
    /// When it has to yield to others.
    pub limit: u64,
    /// The clock of the slowest other CPU when its turn began.
    pub slowest: Option<u64>,
    /// How long it keeps interrupts off.
    pub masked: Masked,
    /// Who runs, for recordings.
    pub meter: Meter,
    /// Registers whose value came from a load that missed.
    missed: u32,
}

/// What became of an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accessed {
    /// The first level lacked a line of it.
    pub missed: bool,
    /// Its address came from a load that missed.
    pub dependent: bool,
}

static NOTHING: Block = Block::NOTHING;

impl Vcpu {
    /// A CPU that has not executed anything.
    pub fn new(mut core: Core, meter: Meter) -> Self {
        core.sleep();
        Self {
            core,
            phases: Phases::default(),
            pending: None,
            tables: [None; 2],
            block: &NOTHING,
            asleep: true,
            limit: u64::MAX,
            slowest: None,
            masked: Masked::default(),
            meter,
            missed: 0,
        }
    }

    /// Its clock and counters.
    pub fn sample(&self) -> Sample {
        Sample { clock: self.core.clock(), counters: self.core.counters }
    }

    /// A block begins.
    #[inline]
    pub fn begin(&mut self, block: &'static Block) {
        if self.missed != 0 {
            self.missed = self.block.carry(self.missed);
        }
        self.block = block;
        self.core.execute(block.instructions.into(), block.accesses.into());
    }

    /// An access that the filter answers; if it does not, the machine has to be asked.
    #[inline]
    pub fn quick(&mut self, address: u64, size: u64, how: Use) -> bool {
        let one_line = address % LINE + size <= LINE;
        let hits = one_line && self.core.hits(address, how.store);
        if hits {
            self.missed &= !how.loaded;
        }
        hits
    }

    /// Any access.
    pub fn access(
        &mut self,
        machine: &mut Machine,
        host: &mut impl Host,
        health: &mut Health,
        (address, size): (u64, u64),
        how: Use,
    ) -> Accessed {
        let access = Access { store: how.store, dependent: self.missed & how.address != 0 };
        let mut missed = false;
        let mut at = address;
        while at < address.saturating_add(size.max(1)) {
            if let Some(physical) = self.translate(machine, host, health, at) {
                match machine.access(&mut self.core, at, physical, access) {
                    Some(new) => missed |= new,
                    None => health.devices += 1,
                }
            }
            at = (at | (LINE - 1)).saturating_add(1);
        }
        let matters = self.core.overlaps() || self.meter.on;
        self.missed = if missed && matters { self.missed | how.loaded } else { self.missed & !how.loaded };
        Accessed { missed, dependent: access.dependent }
    }

    fn half(address: u64) -> usize {
        (address >> 55 & 1) as usize
    }

    fn asid(&self) -> u16 {
        self.tables[0].map_or(0, |register| (register >> 48) as u16)
    }

    /// The physical address of what was accessed just now.
    pub fn physical(&mut self, address: u64) -> Option<u64> {
        self.core.translate(self.asid(), address)
    }

    /// The physical address; walks the tables if the modelled TLB does not have it.
    pub fn translate(
        &mut self,
        machine: &mut Machine,
        host: &mut impl Host,
        health: &mut Health,
        address: u64,
    ) -> Option<u64> {
        let asid = self.asid();
        if let Some(physical) = self.core.translate(asid, address) {
            return Some(physical);
        }
        let cpu = self.core.cpu();
        let truth = host.translate(cpu, address);
        let Some(register) = self.tables[Self::half(address)] else {
            // Tables that were set up before the plugin could see it: nothing is charged, and the run says so.
            health.unknown_tables += 1;
            return truth;
        };
        let topology = machine.topology();
        let in_memory = |place| topology.home(place).is_some();
        let walk = Walk::new(address, register, health.virtual_bits, |place| {
            in_memory(place).then(|| host.read(place))
        });
        let Some(walk) = walk else {
            health.translation_failures += 1;
            return truth;
        };
        let physical = walk.translate(address);
        // The emulator finds nothing where the kernel reads what only programs may (LDTR), so that is no difference.
        if truth.is_some_and(|truth| truth != physical) {
            health.translation_differs += 1;
        }
        machine.walk(&mut self.core, asid, address, &walk);
        Some(physical)
    }
}
