//! What is recorded of applications' threads.

use skerry_abi::marker::{BARRIER, LOCK, MEASURED, THREAD, UNLOCK, WAITS};
use skerry_cost_model::latency::Overlap;
use skerry_replay::{Item, Miss, Trace};

use super::*;

const UTCB: u64 = 0x3000_0400;

impl World {
    fn recording() -> Self {
        let mut world = Self::with(|config| (config.trace, config.pages) = (true, true));
        for cpu in 0..2 {
            world.host.registers.insert(6, UTCB * (cpu as u64 + 1));
            world.event(cpu, Event::Thread { register: 6 });
            world.instrument.early_block(&mut world.cpus[cpu], &mut world.host);
        }
        world
    }
    fn request(&mut self, cpu: usize, request: u16) {
        self.mark(cpu, Marker::Request(request));
    }
    /// A program's block.
    fn user(&mut self, cpu: usize, instructions: u32) {
        let mut block = Block::of(instructions);
        block.user = true;
        let block = Box::leak(Box::new(block));
        self.instrument.block(&mut self.cpus[cpu], &mut self.host, block);
    }
    fn trace(&self) -> (Trace, [u64; 2]) {
        self.instrument.recorded().0.unwrap().unwrap()
    }
}

const READ: Use = Use { loaded: 1 << 1, address: 1 << 2, store: false };
const WRITE: Use = Use { loaded: 0, address: 1 << 2, store: true };

fn items(trace: &Trace, thread: usize) -> Vec<Item> {
    trace.threads[thread].events.iter().map(|event| event.item()).collect()
}

fn miss(page: u32, lines: u8, gap: u16, write: bool) -> Item {
    Item::Miss(Miss { page, lines, gap, write, overlap: Overlap::Independent })
}

#[test]
fn own_misses_and_own_time() {
    let mut world = World::recording();
    world.request(0, THREAD);
    assert!(!world.instrument.is_on(), "what threads say does not begin anything");
    world.mark(0, Marker::Begin(MEASURED));
    world.user(0, 100);
    world.access(0, 0x4000_2000, READ);
    // The kernel's misses and time are not the thread's.
    world.run(0, 5_000);
    world.access(0, 0x4000_9000, READ);
    world.user(0, 30);
    world.access(0, 0x4000_2200, READ);
    world.access(0, 0x4400_0000, WRITE);
    // Another program's, with tables of its own.
    world.host.memory.insert(TABLE + 0x1008, 0x4000_0701);
    world.host.registers.insert(5, TABLE + 0x1000);
    world.event(1, Event::Table { half: 0, register: 5 });
    world.user(1, 10);
    world.access(1, 0x4000_5000, READ);
    world.user(0, 7);
    world.mark(0, Marker::End(MEASURED));
    world.user(0, 1_000);
    world.access(0, 0x4000_7000, READ);
    let (trace, lines) = world.trace();
    assert_eq!((trace.threads.len(), trace.threads[0].cpu, trace.pages), (1, 0, 2));
    // The walk of the first page is not recorded as a miss, but is time of the program's own: one word, 200 cycles. The others are hits.
    let found = items(&trace, 0);
    let Item::Miss(first) = found[0] else { panic!("{found:?}") };
    assert_eq!((first.page, first.lines, first.write), (0, 2, false), "put together");
    assert_eq!(found[1], miss(1, 1, 0, true));
    assert_eq!((&found[2..], lines), (&[Item::Compute(7)][..], [2, 1]));
    assert!((330..400).contains(&first.gap), "{}", first.gap);
}

#[test]
fn who_waits_does_nothing() {
    let mut world = World::recording();
    world.request(0, THREAD);
    world.request(0, WAITS);
    world.mark(1, Marker::Begin(MEASURED));
    world.user(0, 1_000);
    world.access(0, 0x4000_2000, READ);
    world.request(0, BARRIER);
    world.user(0, 50);
    world.request(0, WAITS);
    world.user(0, 9_999);
    world.host.registers.insert(0, 77);
    world.request(0, LOCK);
    world.user(0, 20);
    world.access(0, 0x4000_3000, WRITE);
    world.request(0, UNLOCK);
    world.user(0, 0);
    let (trace, _) = world.trace();
    let expected = [Item::Barrier, Item::Compute(50), Item::Lock(77)];
    let found = items(&trace, 0);
    assert_eq!(&found[..3], &expected);
    assert!(matches!(found[3], Item::Miss(Miss { page: 0, gap: 20, .. })), "{found:?}");
    assert_eq!(found[found.len() - 1], Item::Unlock(77));
}

#[test]
fn pages_are_in_the_order_of_their_addresses_and_writes_to_cached_lines_are_seen() {
    let mut world = World::recording();
    world.request(1, THREAD);
    world.mark(1, Marker::Begin(MEASURED));
    world.user(1, 1);
    world.access(1, 0x4000_3000, READ);
    world.access(1, 0x4000_2000, READ);
    world.access(1, 0x4000_3000, WRITE);
    world.access(1, 0x4000_3008, WRITE);
    let (trace, lines) = world.trace();
    let all = items(&trace, 0);
    let found: Vec<_> = all
        .iter()
        .filter_map(|item| match item {
            Item::Miss(miss) => Some((miss.page, miss.lines, miss.write)),
            _ => None,
        })
        .collect();
    assert_eq!(found, [(1, 1, false), (0, 1, false), (1, 0, true)]);
    assert_eq!((trace.threads[0].cpu, lines), (1, [0, 2]));
}

#[test]
fn without_an_application_there_is_no_trace() {
    let mut world = World::recording();
    world.mark(0, Marker::Begin(MEASURED));
    world.user(0, 1);
    world.access(0, 0x4000_3000, READ);
    assert!(world.instrument.recorded().0.unwrap().unwrap_err().contains("no thread of an application"));
}

#[test]
fn recording_changes_no_count() {
    let run = |mut world: World| {
        world.request(0, THREAD);
        world.mark(0, Marker::Begin(MEASURED));
        for round in 0..200u64 {
            let cpu = (round % 3 % 2) as usize;
            world.user(cpu, 5);
            world.access(cpu, 0x4000_2000 + round * 712 % 0x9000, if round % 5 == 0 { WRITE } else { READ });
            world.run(cpu, 3);
            world.access(cpu, 0x4400_2000 + round * 264, READ);
        }
        // A marker is an instruction of a block.
        world.run(0, 1);
        world.mark(0, Marker::End(MEASURED));
        world.run(1, 1);
        serde_json::to_string(&Report::new(&world.instrument, world.cpus.iter_mut(), 1)).unwrap()
    };
    assert_eq!(run(World::new()), run(World::recording()));
}

#[test]
fn lines_by_page_add_up_to_the_counters() {
    let mut world = World::recording();
    world.request(0, THREAD);
    world.mark(0, Marker::Begin(MEASURED));
    world.user(1, 1);
    world.user(0, 1);
    for step in 0..300u64 {
        world.access(0, 0x4000_2000 + step * 4160 % 0x700_0000, READ);
        world.access(1, 0x4000_2000 + step * 8256 % 0x700_0000, WRITE);
        if step % 7 == 0 {
            world.run(0, 1);
            world.access(0, 0x4100_0000 + step * 64, READ);
            world.user(0, 1);
        }
    }
    let csv = world.instrument.recorded().1.unwrap();
    let mut sums = [[0u64; 2]; 2];
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        for (node, sum) in sums.iter_mut().enumerate() {
            let local = fields[2] == "own" || fields[2] == node.to_string();
            sum[usize::from(!local)] += fields[3 + node].parse::<u64>().unwrap();
        }
    }
    for (cpu, sum) in world.cpus.iter().zip(sums) {
        let counters = cpu.core.counters;
        assert_eq!(sum, [counters.dram_local, counters.dram_remote]);
    }
    assert!(csv.contains("\n1,0x40002000,0,"), "{csv}");
    assert!(csv.contains("\n1,system,own,"), "{csv}");
}

#[test]
fn lines_by_page_alone_keep_no_events() {
    let mut recorder = crate::recorder::Recorder::new(false);
    let thread = recorder.announce((TABLE, UTCB), 0);
    recorder.spend(thread, 100 * CYCLE);
    recorder.sync(thread, Item::Barrier);
    let touch = crate::recorder::Touch {
        page: 7,
        lines: 1,
        local: 1,
        missed: true,
        write: false,
        overlap: Overlap::None,
    };
    recorder.touch(thread, touch);
    assert_eq!(recorder.find((TABLE, UTCB), 0), Some(thread), "it knows who runs all the same");
    assert!(recorder.finish().unwrap_err().contains("no thread"));
}
