//! Whatever the machine and the program, no policy loses a page, takes more memory than there is, or gives a page two frames. And whatever the
//! policy: one that decides at random is contained.

use std::collections::BTreeMap;

use crate::naive::{Machine, Pagers};
use proptest::prelude::*;
use skerry_policy::{
    Advice, Cause, Fault, Node, NodeInfo, Order, Orders, Page, Policy, Range, Sample, Visitor, World,
    shipped, with,
};

const PAGES: u64 = 24;
const RANGE: Range = Range { first: 0x100, pages: PAGES };

#[derive(Clone, Debug)]
enum Step {
    Access { cpu: u16, page: u64, write: bool },
    Tick,
    Load(u32),
    Advise(Advice),
}

fn machine() -> impl Strategy<Value = Machine> {
    let node = (0u16..3, prop_oneof![Just(0u64), 1u64..8, 30u64..80], 1u32..50_000);
    let nodes = prop::collection::vec(node, 1..=16);
    (nodes, prop::collection::vec(11u8..60, 256)).prop_map(|(nodes, distances)| {
        let mut nodes: Vec<_> =
            nodes.into_iter().map(|(cpus, frames, bandwidth)| NodeInfo { cpus, frames, bandwidth }).collect();
        // Somebody has to run, and somebody has to have memory.
        nodes[0].cpus = 1;
        let last = nodes.len() - 1;
        nodes[last].frames += 1;
        let count = nodes.len();
        let distance = |at: usize| if at / count == at % count { 10 } else { distances[at % 256] };
        Machine { distances: (0..count * count).map(distance).collect(), nodes }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let access = |pages: std::ops::Range<u64>, share| {
        (any::<u16>(), pages, prop::bool::weighted(share)).prop_map(|(cpu, page, write)| Step::Access {
            cpu,
            page,
            write,
        })
    };
    let advice = prop_oneof![Just(Advice::Normal), Just(Advice::NextTouch), Just(Advice::ReadMostly)];
    let step = prop_oneof![
        6 => access(0..PAGES, 0.5),
        6 => access(0..4, 0.05),
        2 => Just(Step::Tick),
        1 => (100u32..300).prop_map(Step::Load),
        1 => advice.prop_map(Step::Advise),
    ];
    prop::collection::vec(step, 1..400)
}

fn run<P: Policy + Clone>(policy: &P, machine: &Machine, steps: &[Step]) -> Pagers<P> {
    let mut pagers = Pagers::new(machine.clone(), RANGE, policy);
    let cpus: Vec<Node> = (0..machine.nodes.len() as Node)
        .flat_map(|node| vec![node; usize::from(machine.nodes[usize::from(node)].cpus)])
        .collect();
    let mut contents: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, step) in (1..).zip(steps) {
        match *step {
            Step::Access { cpu, page, write } => {
                let page = RANGE.first + page;
                let node = cpus[usize::from(cpu) % cpus.len()];
                let found = pagers.access(node, page, write.then_some(number));
                match found {
                    Some(found) => {
                        assert_eq!(found, contents.get(&page).copied().unwrap_or(0), "a page was lost")
                    }
                    None => assert!(!contents.contains_key(&page), "a page was lost"),
                }
                if write && found.is_some() {
                    contents.insert(page, number);
                }
            }
            Step::Tick => pagers.tick(),
            Step::Load(load) => pagers.load = load,
            Step::Advise(advice) => pagers.advise(advice),
        }
        audit(&pagers, machine);
    }
    pagers
}

/// Every frame is free or has one page, and no node has more of them than it has.
fn audit<P: Policy>(pagers: &Pagers<P>, machine: &Machine) {
    let mut used = vec![0; machine.nodes.len()];
    for state in pagers.pages.values() {
        used[usize::from(state.home)] += 1;
        assert!(state.replicated || state.copies.is_empty(), "copies of a page that is one");
        assert!(!state.copies.contains_key(&state.home), "two frames on one node");
        state.copies.keys().for_each(|&node| used[usize::from(node)] += 1);
    }
    for (node, info) in machine.nodes.iter().enumerate() {
        assert_eq!(used[node] + pagers.free[node], info.frames, "node {node}");
    }
}

struct Run<'a>(&'a Machine, &'a [Step], &'a str);
impl Visitor for Run<'_> {
    type Out = ();
    fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) {
        let Self(machine, steps, name) = self;
        let pagers = run(&policy, machine, steps);
        let frames: u64 = machine.nodes.iter().map(|node| node.frames).sum();
        if !policy.is_strict() {
            // Whoever may go anywhere ends a task only when nothing is left.
            assert!(pagers.refused == 0 || frames < PAGES * machine.nodes.len() as u64, "{name}");
            assert_eq!(pagers.fallen(), None, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_policy_does_harm(machine in machine(), steps in steps()) {
        let last = machine.nodes.len() - 1;
        for entry in shipped::ALL {
            let text = match entry.name {
                "bind" => format!("bind:nodes={last}"),
                "preferred" => format!("preferred:node={last}"),
                name => name.to_owned(),
            };
            with(&text, Run(&machine, &steps, entry.name)).unwrap();
            with(&format!("{text}:ahead=16"), Run(&machine, &steps, entry.name)).unwrap();
        }
    }

    #[test]
    fn whoever_decides_at_random_is_contained(machine in machine(), steps in steps(), seed in 1u64..) {
        run(&Random(seed), &machine, &steps);
    }
}

/// Decides anything.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
    /// Mostly possible decisions, so that it takes a while until one is not.
    fn orders(&mut self, world: &World<'_>, page: Option<u64>, orders: &mut Orders) {
        let mad = self.next(40) == 0;
        let Some(page) = page.filter(|_| !mad).or_else(|| mad.then(|| self.next(0x200))) else { return };
        let to =
            if mad { self.next(200) as Node } else { world.or_nearest(self.next(16) as Node).unwrap_or(0) };
        let range = Range { first: page, pages: 1 + u64::from(mad) * self.next(99) };
        let order = match self.next(7) {
            0 => Order::Migrate { page, to },
            1 => Order::Replicate { page },
            2 => Order::Collapse { page },
            3 => Order::Arm { range },
            4 => Order::Scan { range },
            5 => Order::Report { page, weight: 1, write: false, urgent: self.next(2) == 0 },
            _ => Order::Ahead { pages: 16 },
        };
        orders.give(order, Cause::Rule);
    }
}

impl Policy for Random {
    type Record = u64;
    fn place(&mut self, world: &World<'_>, _: &Fault) -> Node {
        if self.next(50) == 0 { self.next(300) as Node } else { world.or_nearest(0).unwrap_or(0) }
    }
    fn on_fault(&mut self, world: &World<'_>, _: &Fault, page: Page<'_, u64>, orders: &mut Orders) {
        let known = page.is_owned_by(world.node);
        self.orders(world, known.then_some(page.number), orders);
    }
    fn on_sample(&mut self, world: &World<'_>, _: &Sample, page: Page<'_, u64>, orders: &mut Orders) {
        self.orders(world, Some(page.number), orders);
    }
    fn on_scan(&mut self, world: &World<'_>, _: bool, page: Page<'_, u64>, orders: &mut Orders) {
        let known = page.is_owned_by(world.node);
        self.orders(world, known.then_some(page.number), orders);
    }
    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        orders.give(Order::Scan { range: world.pages }, Cause::Sampling);
        self.orders(world, None, orders);
    }
}
