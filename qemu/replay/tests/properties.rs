//! Whatever the trace, the machine and the policy: a replay ends, every miss is answered by some memory once, and no frame is lost.

use proptest::prelude::*;
use skerry_cost_model::latency::Overlap;
use skerry_cost_model::topology::Range;
use skerry_cost_model::{CoreModel, Params, Topology};
use skerry_policy::{Advice, shipped};
use skerry_replay::compare::by_name;
use skerry_replay::{Event, Item, Machine, Miss, Settings, Thread, Trace};

const PAGES: u32 = 40;

fn machine() -> impl Strategy<Value = Machine> {
    let node = (0usize..3, prop_oneof![Just(0u64), 1u64..20, 60u64..100]);
    let nodes = prop::collection::vec(node, 1..=8);
    (nodes, prop::collection::vec(11u8..60, 64), any::<bool>()).prop_map(
        |(mut nodes, distances, blocking)| {
            let last = nodes.len() - 1;
            nodes[0].0 += 1;
            nodes[last].1 += 1;
            let count = nodes.len();
            let row = |from: usize| {
                (0..count).map(|to| if from == to { 10 } else { distances[from * 8 + to] }).collect()
            };
            let topology = Topology {
                cpus: (0..).zip(&nodes).flat_map(|(node, &(cpus, _))| vec![node; cpus]).collect(),
                memory: (0..)
                    .zip(&nodes)
                    .map(|(n, &(_, frames))| Range { base: n << 30, size: frames << 12 })
                    .collect(),
                distances: (0..count).map(row).collect(),
            };
            let core = if blocking { CoreModel::Blocking } else { CoreModel::Prefetching };
            Machine::new(topology, Params::default(), core).unwrap()
        },
    )
}

fn trace() -> impl Strategy<Value = Trace> {
    let overlap = prop_oneof![Just(Overlap::None), Just(Overlap::Independent), Just(Overlap::Stream)];
    let miss = (0..PAGES, 1u8..65, 0u16..5000, prop::bool::weighted(0.3), overlap);
    let item = prop_oneof![
        20 => miss.prop_map(|(page, lines, gap, write, overlap)| Item::Miss(Miss { page, lines, gap, write, overlap })),
        1 => (0u32..200_000).prop_map(Item::Compute),
        1 => Just(Item::Barrier),
        1 => (0u32..3).prop_map(Item::Lock),
        1 => (0u32..3).prop_map(Item::Unlock),
        1 => (0u32..9).prop_map(Item::Move),
        1 => Just(Item::Advise(Advice::NextTouch)),
    ];
    let thread = (0u32..9, prop::collection::vec(item.prop_map(Event::new), 0..120));
    let threads = prop::collection::vec(thread.prop_map(|(cpu, events)| Thread { cpu, events }), 1..5);
    threads.prop_map(|threads| Trace { pages: PAGES, threads })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_miss_is_answered_once(machine in machine(), trace in trace()) {
        let settings = Settings { period: 20_000, ..Settings::default() };
        let last = machine.count() - 1;
        for entry in shipped::ALL {
            let text = match entry.name {
                "bind" => format!("bind:nodes={last}:ahead=4"),
                "preferred" => format!("preferred:node={last}"),
                "adaptive" => "adaptive:ahead=8".to_owned(),
                name => name.to_owned(),
            };
            let outcome = by_name(&machine, &trace, &text, settings).unwrap();
            if outcome.out_of_memory.is_none() {
                prop_assert_eq!(outcome.local + outcome.remote, trace.misses(), "{}", text);
            }
            prop_assert!(outcome.fallen.is_empty() || entry.name == "preferred", "{} {:?}", text, outcome.fallen);
            let room: u64 = machine.nodes.iter().map(|node| node.frames).sum();
            prop_assert!(outcome.out_of_memory.is_none() || room < 40 * 8 || ["bind", "node-local"].contains(&entry.name));
        }
    }
}
