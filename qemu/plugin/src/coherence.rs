//! Software coherence: turns what the guest does into what the checker of the cost model wants to know ([`skerry_cost_model::poc`]).
//!
//! Whether an access is cached follows from the guest's own registers and tables: nothing is before the MMU is switched on (SCTLR), then
//! the attributes of the page count (the descriptor's index into MAIR). So memory that is mapped non-cacheable is exempt without
//! anybody saying so. Translations are kept until the guest loads a table register or invalidates any.

use std::collections::HashMap;

use serde_json::{Value, json};
use skerry_cost_model::poc::{At, Checker, Kind, Upkeep};
use skerry_cost_model::walk::Walk;
use skerry_cost_model::{Config, LINE};

use crate::block::Use;
use crate::decode::Maintain;
use crate::host::Host;

/// An instruction that accesses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Where it is.
    pub pc: u64,
    /// What it accesses.
    pub how: Use,
    /// It is an atomic, or the store of a pair of exclusives.
    pub atomic: bool,
}

/// A CPU's translation.
#[derive(Debug, Default)]
struct Mmu {
    is_on: bool,
    attributes: u64,
    tables: [u64; 2],
    /// By page: physical page, and whether it is cached.
    known: HashMap<u64, (u64, bool)>,
    /// The line it fetched last.
    fetched: u64,
}

/// The checker, and what it takes to tell it physical addresses.
#[derive(Debug)]
pub struct Coherence {
    checker: Checker,
    mmus: Vec<Mmu>,
    virtual_bits: u32,
    span: (u64, u64),
}

impl Coherence {
    /// For the machine of this configuration.
    ///
    /// # Errors
    /// If it is too large.
    pub fn new(config: &Config) -> Result<Self, String> {
        let span = config.topology.span();
        Ok(Self {
            checker: Checker::new(config.topology.cpus.clone(), span)?,
            mmus: config.topology.cpus.iter().map(|_| Mmu::default()).collect(),
            virtual_bits: config.virtual_bits,
            span,
        })
    }

    /// A CPU has written to SCTLR_EL1.
    pub fn control(&mut self, cpu: u16, value: u64) {
        let mmu = &mut self.mmus[usize::from(cpu)];
        // M and C: without either, data are not cached.
        mmu.is_on = value & 0b101 == 0b101;
        mmu.known.clear();
        if mmu.is_on {
            self.checker.caches_on(cpu);
        }
    }

    /// A CPU has written to MAIR_EL1.
    pub fn attributes(&mut self, cpu: u16, value: u64) {
        self.mmus[usize::from(cpu)].attributes = value;
    }

    /// A CPU has loaded a table register.
    pub fn tables(&mut self, cpu: u16, half: usize, value: u64) {
        let mmu = &mut self.mmus[usize::from(cpu)];
        mmu.tables[half] = value;
        mmu.known.clear();
    }

    /// Translations have been invalidated, for one CPU or for all.
    pub fn forget(&mut self, cpu: u16, broadcast: bool) {
        let mine = |index: &usize| broadcast || *index == usize::from(cpu);
        self.mmus
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| mine(index))
            .for_each(|(_, mmu)| mmu.known.clear());
    }

    /// The physical address, and whether it is cached. The words of tables that a walk reads are accesses, too.
    fn translate(&mut self, cpu: u16, host: &mut impl Host, pc: u64, address: u64) -> Option<(u64, bool)> {
        let mmu = &mut self.mmus[usize::from(cpu)];
        if !mmu.is_on {
            return Some((address, false));
        }
        let offset = address & 0xfff;
        if let Some(&(page, cached)) = mmu.known.get(&(address >> 12)) {
            return Some((page | offset, cached));
        }
        let table = mmu.tables[(address >> 55 & 1) as usize];
        let (span, mut leaf) = (self.span, 0);
        let walk = Walk::new(address, table, self.virtual_bits, |place| {
            leaf = (span.0..span.1).contains(&place).then(|| host.read(place))?;
            Some(leaf)
        })?;
        let attribute = mmu.attributes >> (8 * (leaf >> 2 & 7)) >> 4 & 0xf;
        // Normal memory, and not non-cacheable.
        let cached = attribute != 0 && attribute != 0b0100;
        let physical = walk.translate(address);
        mmu.known.insert(address >> 12, (physical & !0xfff, cached));
        for &physical in walk.reads() {
            self.checker.access(At { cpu, pc, physical }, Kind::Walk, true);
        }
        Some((physical, cached))
    }

    /// An access to `size` bytes.
    pub fn access(&mut self, cpu: u16, host: &mut impl Host, (address, size): (u64, u64), spot: &Spot) {
        let kind = match (spot.atomic, spot.how.store) {
            (true, _) => Kind::Atomic,
            (false, true) => Kind::Store,
            (false, false) => Kind::Load,
        };
        let mut at = address;
        while at < address.saturating_add(size.max(1)) {
            if let Some((physical, cached)) = self.translate(cpu, host, spot.pc, at) {
                self.checker.access(At { cpu, pc: spot.pc, physical }, kind, cached);
            }
            at = (at | (LINE - 1)).saturating_add(1);
        }
    }

    /// A block of code is executed.
    pub fn fetch(&mut self, cpu: u16, host: &mut impl Host, start: u64, bytes: u64) {
        let lines = start & !(LINE - 1)..start + bytes.max(1);
        for line in lines.step_by(LINE as usize) {
            let pc = line.max(start);
            let Some((physical, cached)) = self.translate(cpu, host, pc, pc) else { continue };
            let line = physical & !(LINE - 1);
            if std::mem::replace(&mut self.mmus[usize::from(cpu)].fetched, line) != line {
                self.checker.access(At { cpu, pc, physical }, Kind::Fetch, cached);
            }
        }
    }

    /// Maintenance by address; `false`: nothing is mapped there.
    pub fn maintain(
        &mut self,
        cpu: u16,
        host: &mut impl Host,
        pc: u64,
        address: u64,
        what: Maintain,
    ) -> bool {
        let Some((physical, cached)) = self.translate(cpu, host, pc, address) else { return false };
        let at = At { cpu, pc, physical };
        match what {
            Maintain::Zero => self.checker.access(at, Kind::Zero, cached),
            Maintain::Clean => self.checker.maintain(at, Upkeep::Clean),
            Maintain::CleanInvalidate => self.checker.maintain(at, Upkeep::CleanInvalidate),
            Maintain::Invalidate => self.checker.maintain(at, Upkeep::Invalidate),
            Maintain::CleanForFetch => self.checker.maintain(at, Upkeep::CleanForFetch),
            Maintain::DropFetched => self.checker.maintain(at, Upkeep::DropFetched),
        }
        self.mmus[usize::from(cpu)].fetched = 0;
        true
    }

    /// All that instruction caches hold is dropped.
    pub fn drop_fetched(&mut self, cpu: u16) {
        self.checker.drop_all_fetched(cpu);
    }

    /// An interrupt is sent…
    pub fn send(&mut self, cpu: u16, target: u16) {
        self.checker.send(cpu, target);
    }
    /// …and taken.
    pub fn take(&mut self, cpu: u16) {
        self.checker.take(cpu);
    }

    /// What was found.
    pub fn report(&self) -> Value {
        let sites = self.checker.sites().map(|site| {
            json!({"pc": site.pc, "node": site.node, "times": site.times, "redundant": site.redundant})
        });
        json!({
            "findings": self.checker.findings().collect::<Vec<_>>(),
            "sites": sites.collect::<Vec<_>>(),
            "races": self.checker.races(),
        })
    }
}
