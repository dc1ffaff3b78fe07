//! The checker of software coherence: what it has to report and what not, and the same as a naive reference that keeps every value a cache may hold.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use skerry_cost_model::poc::{At, Checker, Kind, Missing, Upkeep, Wrong};

const BASE: u64 = 0x4000_0000;
const SPAN: (u64, u64) = (BASE, BASE + 0x10_0000);

/// Three nodes; the first one has two CPUs.
const CPUS: [u16; 4] = [0, 0, 1, 2];

fn checker() -> Checker {
    let mut checker = Checker::new(CPUS.to_vec(), SPAN).unwrap();
    (0..4).for_each(|cpu| checker.caches_on(cpu));
    // Everybody has started.
    (0..4).for_each(|cpu| checker.access(at(cpu, 1, 99), Kind::Load, true));
    checker
}

fn at(cpu: u16, pc: u64, line: u64) -> At {
    At { cpu, pc, physical: BASE + line * 64 }
}

fn found(checker: &Checker) -> Vec<(Wrong, Missing, u64, u64)> {
    checker.findings().map(|f| (f.wrong, f.missing, f.pc, f.other_pc)).collect()
}

/// CPU 0 stores to a line and hands it to CPU 2, without what is named.
fn hand_over(without: Option<Upkeep>) -> Vec<(Wrong, Missing, u64, u64)> {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    if without != Some(Upkeep::Clean) {
        checker.maintain(at(0, 11, 1), Upkeep::Clean);
    }
    checker.send(0, 2);
    checker.take(2);
    if without != Some(Upkeep::Invalidate) {
        checker.maintain(at(2, 20, 1), Upkeep::Invalidate);
    }
    checker.access(at(2, 21, 1), Kind::Load, true);
    found(&checker)
}

#[test]
fn a_hand_over_needs_both_sides() {
    assert_eq!(hand_over(None), []);
    assert_eq!(hand_over(Some(Upkeep::Clean)), [(Wrong::StaleLoad, Missing::Clean, 21, 10)]);
    assert_eq!(hand_over(Some(Upkeep::Invalidate)), [(Wrong::StaleLoad, Missing::Invalidate, 21, 10)]);
}

#[test]
fn who_drops_too_early_may_have_it_back_by_speculation() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.maintain(at(2, 20, 1), Upkeep::Invalidate);
    checker.maintain(at(0, 11, 1), Upkeep::Clean);
    checker.send(0, 2);
    checker.take(2);
    checker.access(at(2, 21, 1), Kind::Load, true);
    assert_eq!(found(&checker), [(Wrong::StaleLoad, Missing::Invalidate, 21, 10)]);
    let redundant: Vec<_> = checker.sites().map(|site| (site.pc, site.times, site.redundant)).collect();
    assert_eq!(redundant, [(11, 1, 0), (20, 1, 1)]);
}

#[test]
fn polling_is_no_fault_until_something_says_that_it_is_time() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.access(at(2, 21, 1), Kind::Load, true);
    assert_eq!((found(&checker), checker.races()), (vec![], 1));
    checker.maintain(at(0, 11, 1), Upkeep::Clean);
    checker.access(at(2, 22, 1), Kind::Load, true);
    assert_eq!(found(&checker), []);
    checker.maintain(at(2, 20, 1), Upkeep::Invalidate);
    checker.access(at(2, 23, 1), Kind::Load, true);
    assert_eq!((found(&checker), checker.races()), (vec![], 2));
}

#[test]
fn a_flag_that_was_read_afresh_orders_what_came_before_it() {
    let mut checker = checker();
    let (data, flag) = (1, 2);
    checker.access(at(0, 10, data), Kind::Store, true);
    checker.access(at(0, 11, flag), Kind::Store, true);
    checker.maintain(at(0, 12, flag), Upkeep::Clean);
    checker.maintain(at(2, 20, flag), Upkeep::Invalidate);
    checker.access(at(2, 21, flag), Kind::Load, true);
    checker.access(at(2, 22, data), Kind::Load, true);
    assert_eq!(found(&checker), [(Wrong::StaleLoad, Missing::Clean, 22, 10)]);
    // And what that one knew of others: CPU 3 has never met CPU 0.
    checker.access(at(2, 23, 5), Kind::Store, true);
    checker.maintain(at(2, 24, 5), Upkeep::Clean);
    checker.maintain(at(3, 30, 5), Upkeep::Invalidate);
    checker.access(at(3, 31, 5), Kind::Load, true);
    checker.access(at(3, 32, data), Kind::Load, true);
    assert_eq!(found(&checker)[1], (Wrong::StaleLoad, Missing::Clean, 32, 10));
}

#[test]
fn a_node_is_coherent_in_itself() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Atomic, true);
    checker.access(at(1, 11, 1), Kind::Atomic, true);
    checker.access(at(0, 12, 1), Kind::Load, true);
    assert_eq!((found(&checker), checker.races()), (vec![], 0));
}

#[test]
fn two_writers_of_a_line_lose_something_in_any_order() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.access(at(2, 20, 1), Kind::Store, true);
    assert_eq!(found(&checker), [(Wrong::StoreBesideDirty, Missing::Clean, 20, 10)]);
    let mut checker = self::checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.maintain(at(0, 11, 1), Upkeep::Clean);
    checker.access(at(2, 20, 1), Kind::Store, true);
    assert_eq!(found(&checker), [(Wrong::StoreOntoStale, Missing::Invalidate, 20, 10)]);
    let mut checker = self::checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.maintain(at(0, 11, 1), Upkeep::Clean);
    checker.access(at(2, 20, 1), Kind::Zero, true);
    assert_eq!(found(&checker), [], "the whole line is new");
}

#[test]
fn dirty_data_that_are_dropped_are_lost() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.maintain(at(1, 11, 1), Upkeep::Invalidate);
    assert_eq!(found(&checker), [(Wrong::Discarded, Missing::Clean, 11, 10)]);
}

#[test]
fn atomics_mean_nothing_between_nodes() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Atomic, true);
    checker.access(at(2, 20, 1), Kind::Atomic, true);
    assert!(found(&checker).contains(&(Wrong::SharedAtomic, Missing::Exclusion, 20, 10)));
    let mut checker = self::checker();
    checker.access(at(0, 10, 1), Kind::Atomic, true);
    checker.maintain(at(0, 11, 1), Upkeep::CleanInvalidate);
    checker.maintain(at(2, 20, 1), Upkeep::Invalidate);
    checker.access(at(2, 21, 1), Kind::Atomic, true);
    assert_eq!(found(&checker), [], "it was given away");
}

#[test]
fn code_has_to_reach_where_fetches_come_from() {
    // The same node: the point of unification, and instruction caches that know the line.
    let run = |upkeep: &[Upkeep], fetched_before: bool| {
        let mut checker = checker();
        if fetched_before {
            checker.access(at(0, 1, 1), Kind::Fetch, true);
        }
        checker.access(at(0, 10, 1), Kind::Store, true);
        upkeep.iter().for_each(|&what| checker.maintain(at(0, 11, 1), what));
        checker.access(at(0, 12, 1), Kind::Fetch, true);
        found(&checker).first().map(|f| (f.0, f.1))
    };
    assert_eq!(run(&[], false), Some((Wrong::StaleFetch, Missing::Clean)));
    assert_eq!(run(&[Upkeep::CleanForFetch], false), None);
    assert_eq!(run(&[Upkeep::CleanForFetch], true), Some((Wrong::StaleFetch, Missing::DropFetched)));
    assert_eq!(run(&[Upkeep::CleanForFetch, Upkeep::DropFetched], true), None);
    // Another one: the point of coherency.
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.maintain(at(0, 11, 1), Upkeep::CleanForFetch);
    checker.send(0, 2);
    checker.take(2);
    checker.access(at(2, 20, 1), Kind::Fetch, true);
    assert_eq!(found(&checker), [(Wrong::StaleFetch, Missing::Clean, 20, 10)]);
}

#[test]
fn tables_are_read_too() {
    let mut checker = checker();
    checker.access(at(0, 10, 1), Kind::Store, true);
    checker.send(0, 2);
    checker.take(2);
    checker.access(at(2, 20, 1), Kind::Walk, true);
    assert_eq!(found(&checker), [(Wrong::StaleWalk, Missing::Clean, 20, 10)]);
}

#[test]
fn without_caches_nothing_is_old() {
    let mut checker = Checker::new(CPUS.to_vec(), SPAN).unwrap();
    checker.access(at(0, 10, 1), Kind::Store, false);
    checker.caches_on(2);
    checker.access(at(2, 20, 1), Kind::Load, true);
    assert_eq!(found(&checker), [], "its cache was empty");
    checker.access(at(0, 11, 1), Kind::Store, false);
    checker.send(0, 2);
    checker.take(2);
    checker.access(at(2, 21, 1), Kind::Load, true);
    assert_eq!(found(&checker), [(Wrong::StaleLoad, Missing::Invalidate, 21, 11)]);
    checker.access(at(2, 22, 2), Kind::Store, true);
    checker.send(2, 3);
    checker.take(3);
    checker.access(at(3, 30, 2), Kind::Load, false);
    assert!(found(&checker).contains(&(Wrong::StaleLoad, Missing::Clean, 30, 22)));
}

#[test]
fn what_is_no_memory_is_left_alone() {
    let mut checker = checker();
    let device = At { cpu: 0, pc: 1, physical: 0x900_0000 };
    checker.access(device, Kind::Store, false);
    checker.maintain(device, Upkeep::Clean);
    assert_eq!(checker.sites().count(), 0);
}

/// Nodes and times of which somebody knows.
type Known = BTreeSet<(u16, u32)>;

/// What a cache may hold are values, and who knows what is a set.
struct Naive {
    live: HashSet<u16>,
    started: HashSet<u16>,
    lines: BTreeMap<u64, Values>,
    time: [u32; 3],
    known: [Known; 3],
    mail: [Known; 4],
    next: u64,
    found: BTreeMap<(Wrong, Missing, u64, u64, u16, u16), u64>,
    redundant: BTreeMap<(u64, u16), (u64, u64)>,
    races: u64,
}

#[derive(Clone, Default)]
struct Values {
    latest: u64,
    memory: u64,
    held: [BTreeSet<u64>; 3],
    dirty: Option<u16>,
    store: Option<(u16, u32, Known, u64)>,
    atomics: HashSet<u16>,
}

impl Values {
    fn possible(&self, node: u16, cached: bool) -> BTreeSet<u64> {
        if !cached {
            return [self.memory].into();
        }
        if self.dirty == Some(node) {
            return [self.latest].into();
        }
        let mut all = self.held[usize::from(node)].clone();
        all.insert(self.memory);
        all
    }
    fn is_old(&self, node: u16, cached: bool) -> bool {
        self.possible(node, cached).iter().any(|&value| value != self.latest)
    }
    fn missing(&self) -> Missing {
        if self.memory == self.latest { Missing::Invalidate } else { Missing::Clean }
    }
}

impl Naive {
    fn new() -> Self {
        Self {
            live: HashSet::new(),
            started: HashSet::new(),
            lines: (0..4).map(|line| (at(0, 0, line).physical, Values::default())).collect(),
            time: [1; 3],
            known: Default::default(),
            mail: Default::default(),
            next: 1,
            found: BTreeMap::new(),
            redundant: BTreeMap::new(),
            races: 0,
        }
    }
    fn report(&mut self, wrong: Wrong, missing: Missing, at: At, values: &Values) {
        let node = CPUS[usize::from(at.cpu)];
        let (other, _, _, pc) = values.store.clone().unwrap();
        *self.found.entry((wrong, missing, at.pc, pc, node, other)).or_default() += 1;
    }
    fn learn(&mut self, node: u16, news: &Known) {
        let knows = |known: &Known, (writer, time): (u16, u32)| {
            writer == node || known.iter().any(|&(other, known)| other == writer && known >= time)
        };
        let own = &mut self.known[usize::from(node)];
        if news.iter().any(|&item| !knows(own, item)) {
            own.extend(news.iter().filter(|item| item.0 != node));
            self.time[usize::from(node)] += 1;
        }
    }
    fn release(&mut self, node: u16) -> Known {
        let mut given = self.known[usize::from(node)].clone();
        given.insert((node, self.time[usize::from(node)]));
        self.time[usize::from(node)] += 1;
        given
    }
    fn start(&mut self, cpu: u16) {
        if self.started.insert(cpu) {
            for other in 0..3 {
                let given = self.release(other);
                self.learn(CPUS[usize::from(cpu)], &given);
            }
        }
    }
    /// Caches fetch whatever they like.
    fn speculate(&mut self) {
        for values in self.lines.values_mut() {
            for &node in &self.live {
                if values.dirty != Some(node) {
                    values.held[usize::from(node)].insert(values.memory);
                }
            }
        }
    }
    fn read(&mut self, values: &Values, at: At, cached: bool) {
        let node = CPUS[usize::from(at.cpu)];
        let Some((writer, time, snapshot, _)) = values.store.clone() else { return };
        if values.is_old(node, cached) {
            let known = &self.known[usize::from(node)];
            if writer == node || known.iter().any(|&(other, known)| other == writer && known >= time) {
                self.report(Wrong::StaleLoad, values.missing(), at, values);
            } else {
                self.races += 1;
            }
        } else {
            self.learn(node, &snapshot);
        }
    }
    fn access(&mut self, at: At, kind: Kind, cached: bool) {
        self.start(at.cpu);
        let node = CPUS[usize::from(at.cpu)];
        let mut values = self.lines.remove(&at.physical).unwrap_or_default();
        match kind {
            Kind::Load => self.read(&values, at, cached),
            Kind::Atomic if values.atomics.iter().any(|&other| other != node) => {
                self.report(Wrong::SharedAtomic, Missing::Exclusion, at, &values);
            }
            Kind::Atomic => self.read(&values, at, cached),
            _ => {}
        }
        if kind == Kind::Atomic {
            values.atomics.insert(node);
        }
        if kind != Kind::Load {
            if values.dirty.is_some_and(|owner| owner != node || !cached) {
                self.report(Wrong::StoreBesideDirty, Missing::Clean, at, &values);
            } else if kind == Kind::Store && cached && values.store.is_some() && values.is_old(node, true) {
                self.report(Wrong::StoreOntoStale, Missing::Invalidate, at, &values);
            }
            values.latest = self.next;
            self.next += 1;
            values.dirty = cached.then_some(node);
            if cached {
                values.held[usize::from(node)] = [values.latest].into();
            } else {
                values.memory = values.latest;
            }
            let time = self.time[usize::from(node)];
            let mut snapshot = self.known[usize::from(node)].clone();
            snapshot.insert((node, time));
            values.store = Some((node, time, snapshot, at.pc));
        }
        self.lines.insert(at.physical, values);
        self.speculate();
    }
    fn maintain(&mut self, at: At, what: Upkeep) {
        self.start(at.cpu);
        let node = CPUS[usize::from(at.cpu)];
        let mut values = self.lines.remove(&at.physical).unwrap_or_default();
        let old = values.is_old(node, true);
        let dirty = values.dirty == Some(node);
        if what == Upkeep::Invalidate && dirty {
            self.report(Wrong::Discarded, Missing::Clean, at, &values);
            values = Values { latest: values.memory, memory: values.memory, ..Values::default() };
        } else if dirty {
            values.memory = values.latest;
            values.dirty = None;
            _ = self.release(node);
        }
        if what != Upkeep::Clean {
            values.held[usize::from(node)].clear();
        }
        values.atomics.remove(&node);
        let needed = dirty || what != Upkeep::Clean && old && !values.is_old(node, true);
        let site = self.redundant.entry((at.pc, node)).or_default();
        *site = (site.0 + 1, site.1 + u64::from(!needed));
        self.lines.insert(at.physical, values);
        self.speculate();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Access { cpu: u16, line: u64, kind: Kind, uncached: bool },
    Maintain { cpu: u16, line: u64, what: Upkeep },
    Send { cpu: u16, target: u16 },
    Take { cpu: u16 },
    CachesOn { cpu: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        4 => Just(Kind::Load), 3 => Just(Kind::Store), 1 => Just(Kind::Zero), 1 => Just(Kind::Atomic)
    ];
    let what = prop_oneof![Just(Upkeep::Clean), Just(Upkeep::CleanInvalidate), Just(Upkeep::Invalidate)];
    prop_oneof![
        6 => (0..4u16, 0..4u64, kind, prop::bool::weighted(0.1))
            .prop_map(|(cpu, line, kind, uncached)| Step::Access { cpu, line, kind, uncached }),
        4 => (0..4u16, 0..4u64, what).prop_map(|(cpu, line, what)| Step::Maintain { cpu, line, what }),
        1 => (0..4u16, 0..4u16).prop_map(|(cpu, target)| Step::Send { cpu, target }),
        1 => (0..4u16).prop_map(|cpu| Step::Take { cpu }),
        1 => (0..4u16).prop_map(|cpu| Step::CachesOn { cpu }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]
    #[test]
    fn the_checker_agrees_with_caches_that_may_hold_anything(steps in prop::collection::vec(step(), 1..60)) {
        let (mut checker, mut naive) = (Checker::new(CPUS.to_vec(), SPAN).unwrap(), Naive::new());
        for (pc, step) in (100..).zip(steps) {
            match step {
                Step::Access { cpu, line, kind, uncached } => {
                    let cached = !uncached && naive.live.contains(&CPUS[usize::from(cpu)]);
                    checker.access(at(cpu, pc, line), kind, cached);
                    naive.access(at(cpu, pc, line), kind, cached);
                }
                Step::Maintain { cpu, line, what } => {
                    checker.maintain(at(cpu, pc, line), what);
                    naive.maintain(at(cpu, pc, line), what);
                }
                Step::Send { cpu, target } => {
                    checker.send(cpu, target);
                    let given = naive.release(CPUS[usize::from(cpu)]);
                    naive.mail[usize::from(target)].extend(given);
                }
                Step::Take { cpu } => {
                    checker.take(cpu);
                    let mail = std::mem::take(&mut naive.mail[usize::from(cpu)]);
                    naive.learn(CPUS[usize::from(cpu)], &mail);
                }
                Step::CachesOn { cpu } => {
                    checker.caches_on(cpu);
                    naive.live.insert(CPUS[usize::from(cpu)]);
                    naive.speculate();
                }
            }
        }
        let found: BTreeMap<_, _> = checker
            .findings()
            .map(|f| ((f.wrong, f.missing, f.pc, f.other_pc, f.node, f.other), f.count))
            .collect();
        prop_assert_eq!(found, naive.found);
        prop_assert_eq!(checker.races(), naive.races);
        let sites: BTreeMap<_, _> =
            checker.sites().map(|s| ((s.pc, s.node), (s.times, s.redundant))).collect();
        prop_assert_eq!(sites, naive.redundant);
    }
}
