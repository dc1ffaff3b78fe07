//! The instrument with something that stands in for QEMU: a flat mapping, registers that the test sets.

use std::collections::HashMap;

use skerry_abi::marker::QUERY;
use skerry_cost_model::topology::Range;
use skerry_cost_model::{CoreModel, Params, Topology};

use super::events::targets;
use super::*;
use crate::decode::{Event, Maintain, Marker, Scope};
use crate::report::Report;

const MIB: u64 = 1 << 20;
/// Where the tables are: one block of 1 GiB, mapped to itself.
const TABLE: u64 = 0x4000_0000;

#[derive(Default)]
struct Fake {
    registers: HashMap<u8, u64>,
    /// An address that is not mapped.
    hole: Option<u64>,
    /// An address that the emulator translates in another way.
    odd: Option<u64>,
    yields: Vec<u16>,
    started: u32,
    /// What is in memory besides the tables.
    memory: HashMap<u64, u64>,
}

impl Host for Fake {
    fn register(&mut self, _: u16, number: u8) -> u64 {
        self.registers.get(&number).copied().unwrap_or(0)
    }
    fn read(&mut self, physical: u64) -> u64 {
        let table = if physical == TABLE + 8 { 0x4000_0701 } else { 0 };
        self.memory.get(&physical).copied().unwrap_or(table)
    }
    fn write(&mut self, physical: u64, word: u64) {
        self.memory.insert(physical, word);
    }
    fn translate(&mut self, _: u16, address: u64) -> Option<u64> {
        let odd = self.odd == Some(address);
        (self.hole != Some(address)).then_some(if odd { address + 4096 } else { address })
    }
    fn yield_turn(&mut self, cpu: u16) {
        self.yields.push(cpu);
    }
    fn start(&mut self) {
        self.started += 1;
    }
}

struct World {
    instrument: Instrument,
    cpus: Vec<Vcpu>,
    host: Fake,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }
    fn with(change: fn(&mut Config)) -> Self {
        let memory = |node: u64| Range { base: 0x4000_0000 + node * 64 * MIB, size: 64 * MIB };
        let topology = Topology {
            cpus: vec![0, 1],
            memory: (0..2).map(memory).collect(),
            distances: vec![vec![10, 20], vec![20, 10]],
        };
        let mut config = Config {
            topology,
            params: Params::default(),
            core: CoreModel::Prefetching,
            quantum: 1_000,
            virtual_bits: 39,
            sanitize: false,
            masked: false,
            trace: false,
            pages: false,
            path: None,
        };
        change(&mut config);
        let (instrument, cpus) = Instrument::new(config).unwrap();
        let mut world = Self { instrument, cpus, host: Fake::default() };
        for cpu in 0..2 {
            world.host.registers.insert(5, TABLE | (cpu as u64 + 1) << 48);
            world.event(cpu, Event::Table { half: 0, register: 5 });
            world.instrument.early_block(&mut world.cpus[cpu], &mut world.host);
        }
        world
    }
    fn event(&mut self, cpu: usize, event: Event) {
        self.instrument.event(&mut self.cpus[cpu], &mut self.host, event, 0);
    }
    fn mark(&mut self, cpu: usize, marker: Marker) {
        self.event(cpu, Event::Marker(marker));
    }
    fn run(&mut self, cpu: usize, instructions: u32) {
        let block = Box::leak(Box::new(Block::of(instructions)));
        self.instrument.block(&mut self.cpus[cpu], &mut self.host, block);
    }
    fn access(&mut self, cpu: usize, address: u64, how: Use) {
        self.instrument.access(&mut self.cpus[cpu], &mut self.host, (address, 8), how);
    }
    fn cycles(&self, cpu: usize) -> u64 {
        self.cpus[cpu].core.clock() / CYCLE
    }
}

fn load(loaded: u32, address: u32) -> Use {
    Use { loaded, address, store: false }
}

#[test]
fn nothing_is_charged_before_the_first_marker() {
    let mut world = World::new();
    world.event(0, Event::Sleep);
    assert!(!world.instrument.is_on());
    world.mark(0, Marker::Begin(1));
    world.mark(0, Marker::End(1));
    assert_eq!((world.host.started, world.cycles(0)), (1, 0));
}

#[test]
fn a_phase_holds_what_both_cpus_did() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(7));
    world.run(0, 100);
    world.run(1, 50);
    world.access(1, 0x4000_2000, load(1, 2));
    world.run(0, 10);
    world.mark(0, Marker::End(7));
    world.run(1, 1_000);
    let report = Report::new(&world.instrument, world.cpus.iter_mut(), 1);
    let text = serde_json::to_value(&report).unwrap();
    let phase = &text["phases"][0];
    assert_eq!((&phase["phase"], &phase["elapsed"]), (&7.into(), &110.into()));
    assert_eq!(
        (&phase["cpus"][0]["instructions"], &phase["cpus"][1]["instructions"]),
        (&110.into(), &50.into())
    );
    assert_eq!(phase["cpus"][1]["dram_remote"], 2, "the line, and the walk's one word");
    assert_eq!(text["health"]["errors"]["unpaired_markers"], 0);
}

#[test]
fn a_load_depends_on_a_load_that_missed() {
    let wait = |address_of_second: u32| {
        let mut world = World::new();
        world.mark(0, Marker::Begin(1));
        world.access(0, 0x4000_2000, load(1 << 3, 0));
        let before = world.cpus[0].core.counters.wait_dram_local;
        world.access(0, 0x4008_0000, load(1 << 4, address_of_second));
        (world.cpus[0].core.counters.wait_dram_local - before) / CYCLE
    };
    assert_eq!((wait(1 << 3), wait(1 << 2)), (200, 50));
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.access(0, 0x4000_2000, load(1 << 3, 0));
    world.access(0, 0x4000_2008, load(1 << 3, 0));
    let before = world.cpus[0].core.counters.wait_dram_local;
    world.access(0, 0x4008_0000, load(1 << 4, 1 << 3));
    assert_eq!(
        (world.cpus[0].core.counters.wait_dram_local - before) / CYCLE,
        50,
        "the last load of x3 was a hit"
    );
}

#[test]
fn an_access_over_two_lines_touches_both() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.access(0, 0x4000_203c, load(0, 0));
    assert_eq!(world.cpus[0].core.counters.l1_misses() - world.cpus[0].core.counters.walk_reads, 2);
}

#[test]
fn the_one_that_is_ahead_yields() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.run(1, 10);
    world.run(0, 900);
    assert!(world.host.yields.is_empty());
    world.run(0, 200);
    assert_eq!(world.host.yields, [0]);
    world.run(1, 1);
    assert_eq!(world.host.yields, [0], "the slower one need not");
}

#[test]
fn nobody_waits_for_a_sleeper_and_its_waker_stops_for_it() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.run(1, 10);
    world.event(1, Event::Sleep);
    world.run(0, 100_000);
    assert!(world.host.yields.is_empty());
    world.host.registers.insert(2, 0b10);
    world.event(0, Event::Interrupt { register: 2 });
    world.run(0, 1);
    let sent = 100_000;
    world.run(0, 2_000);
    assert_eq!(world.host.yields, [0], "the other one has been woken");
    world.run(1, 0);
    assert_eq!(world.cycles(1), sent + 500);
    assert_eq!(world.cpus[0].core.counters.interrupts, 1);
}

#[test]
fn maintenance_works_on_what_the_register_says() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.host.registers.insert(3, 0x4000_3000);
    world.host.hole = Some(0x4000_3000);
    world.event(0, Event::Maintain { what: Maintain::Clean, register: 3 });
    world.run(0, 1);
    assert_eq!(world.instrument.state().0.faulted_maintenance, 1);
    world.host.hole = None;
    world.event(0, Event::Maintain { what: Maintain::Zero, register: 3 });
    world.run(0, 1);
    // An interrupt came, and from the kernel's level QEMU does not find what programs use.
    world.host.hole = Some(0x4000_3000);
    world.event(0, Event::Maintain { what: Maintain::Clean, register: 3 });
    world.run(0, 1);
    let counters = world.cpus[0].core.counters;
    assert_eq!((counters.zeroed, counters.maintenance, counters.writebacks), (1, 1, 1));
    assert_eq!(world.instrument.state().0.faulted_maintenance, 1);
}

#[test]
fn translations_that_differ_from_the_emulator_s_show() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    world.host.odd = Some(0x4000_5000);
    world.access(0, 0x4000_5000, load(0, 0));
    world.access(0, 0x8000_0000, load(0, 0));
    let health = world.instrument.state().0;
    assert_eq!((health.translation_differs, health.translation_failures), (1, 1));
}

#[test]
fn invalidation_makes_the_next_access_walk() {
    let mut world = World::new();
    world.mark(0, Marker::Begin(1));
    let misses = |world: &World| world.cpus[1].core.counters.tlb_misses;
    world.access(1, 0x4000_2000, load(0, 0));
    world.access(1, 0x4000_2000, load(0, 0));
    assert_eq!(misses(&world), 1);
    world.host.registers.insert(0, 2 << 48 | 0x4000_2000 >> 12);
    let invalidate = |broadcast| Event::Invalidate { scope: Scope::Page, broadcast, register: 0 };
    world.event(0, invalidate(false));
    world.run(0, 1);
    world.access(1, 0x4000_2000, load(0, 0));
    assert_eq!(misses(&world), 1, "another CPU's");
    world.event(0, invalidate(true));
    world.run(0, 1);
    world.access(1, 0x4000_2000, load(0, 0));
    assert_eq!(misses(&world), 2);
}

#[test]
fn interrupts_go_where_they_are_sent() {
    assert_eq!(targets(0b101, 0, 4), [0, 2]);
    assert_eq!(targets(1 << 16 | 0b11, 0, 64), [16, 17]);
    assert_eq!(targets(1 << 40, 1, 3), [0, 2], "all but the sender");
    assert!(targets(0b1_0000, 0, 4).is_empty());
}

#[test]
fn who_asks_is_told_its_own_cycles_in_its_own_block() {
    use skerry_abi::info::{BLOCK_SIZE, CPU_WORD, InfoHeader};
    use skerry_abi::layout::INFO_PAGE_BASE;
    use skerry_abi::modelled::{Modelled, WORD};
    let mut world = World::new();
    let request = Marker::Request(QUERY);
    world.mark(0, request);
    assert_eq!(world.instrument.state().0.unknown_requests, 1, "no information page");
    let block = |local: u64| INFO_PAGE_BASE + BLOCK_SIZE as u64 * (1 + local);
    world.host.memory.insert(INFO_PAGE_BASE + std::mem::offset_of!(InfoHeader, cpu_count) as u64, 2);
    // The kernel's order need not be ours.
    world.host.memory.insert(block(0) + CPU_WORD as u64 * 8, 1);
    world.host.memory.insert(block(1) + CPU_WORD as u64 * 8, 0);
    world.run(0, 100);
    world.access(0, 0x4000_2000, load(1, 2));
    world.mark(0, request);
    let told = |world: &World, local, what: Modelled| {
        world.host.memory.get(&(block(local) + (WORD + what as usize) as u64 * 8)).copied()
    };
    let cycles = world.cycles(0);
    assert_eq!(told(&world, 1, Modelled::Cycles), Some(cycles));
    assert_eq!(told(&world, 1, Modelled::DramLocal), Some(2), "the line, and the walk's one word");
    assert_eq!(told(&world, 0, Modelled::Cycles), None, "nobody else's");
    let header = INFO_PAGE_BASE + std::mem::offset_of!(InfoHeader, modelled_block) as u64;
    assert_eq!(world.host.memory[&header], block(1) - INFO_PAGE_BASE);
    assert_eq!(world.instrument.state().0.unknown_requests, 1);
    world.mark(0, Marker::Request(9));
    assert_eq!(world.instrument.state().0.unknown_requests, 2);
}

mod recording;
